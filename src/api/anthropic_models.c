/* anthropic_models: see anthropic_models.h. */
#include "api/anthropic_models.h"

#include <inttypes.h>
#include <time.h>

#include "api/json_text.h"

static void write_time(struct buf *out, int64_t unix_time)
{
    time_t t = (time_t)unix_time;
    struct tm tm;
    if (!gmtime_r(&t, &tm)) tm = (struct tm){.tm_year = 70, .tm_mday = 1};
    buf_printf(out, "\"%04d-%02d-%02dT%02d:%02d:%02dZ\"", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
               tm.tm_min, tm.tm_sec);
}

static void write_flag(struct buf *out, const char *name, bool supported)
{
    buf_printf(out, "\"%s\":{\"supported\":%s}", name, supported ? "true" : "false");
}

static void write_capabilities(struct buf *out, const struct chat_model *m)
{
    buf_append(out, STR(",\"capabilities\":{"));
    static const char *const never[] = {"batch", "citations", "code_execution"};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++) {
        write_flag(out, never[i], false);
        buf_append_char(out, ',');
    }
    /* PDF documents reach every model as text. */
    buf_append(out, STR("\"pdf_input\":{\"supported\":true},"
                        "\"compaction\":{\"supported\":true,\"summarize\":{\"supported\":true}},"
                        "\"context_management\":{\"supported\":true,\"clear_thinking_20251015\":{\"supported\":true},"
                        "\"clear_tool_uses_20250919\":{\"supported\":true},"
                        "\"compact_20260112\":{\"supported\":false}},"));
    buf_printf(out, "\"effort\":{\"supported\":%s,", m->thinking ? "true" : "false");
    static const char *const efforts[] = {"low", "medium", "high", "max", "xhigh"};
    for (size_t i = 0; i < sizeof efforts / sizeof *efforts; i++) {
        if (i) buf_append_char(out, ',');
        write_flag(out, efforts[i], m->thinking);
    }
    buf_append(out, STR("},\"server_tools\":{\"supported\":false,\"code_execution\":{\"supported\":false},"
                        "\"web_search\":{\"supported\":false}},"));
    write_flag(out, "image_input", m->images);
    buf_append_char(out, ',');
    write_flag(out, "structured_outputs", m->structured);
    buf_printf(out, ",\"thinking\":{\"supported\":%s,\"types\":{", m->thinking ? "true" : "false");
    static const char *const modes[] = {"adaptive", "between_tools", "disabled", "enabled"};
    for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
        if (i) buf_append_char(out, ',');
        write_flag(out, modes[i], m->thinking || i == 2);
    }
    buf_append(out, STR("}}}"));
}

void anthropic_model_write(struct buf *out, const struct chat_model *m, struct str id)
{
    buf_append(out, STR("{\"id\":"));
    json_text_string(out, id);
    buf_append(out, STR(",\"type\":\"model\",\"display_name\":"));
    json_text_string(out, m->display_name.len ? m->display_name : id);
    buf_append(out, STR(",\"created_at\":"));
    write_time(out, m->created);
    buf_printf(out,
               ",\"lifecycle\":\"active\",\"deprecated_at\":null,\"retires_at\":null,\"line\":null"
               ",\"max_input_tokens\":%" PRIu32 ",\"max_tokens\":%" PRIu32,
               m->n_ctx, m->max_output);
    write_capabilities(out, m);
    buf_printf(out, ",\"object\":\"model\",\"created\":%" PRId64 ",\"owned_by\":\"local\"}", m->created);
}

/* The i-th listed name: models with their aliases behind them. */
static bool nth(const struct chat_model **model, struct str *id, const struct chat_model *models, size_t n_models,
                size_t i)
{
    for (size_t k = 0; k < n_models; k++) {
        *model = &models[k];
        if (i <= models[k].n_aliases) {
            *id = i ? models[k].aliases[i - 1] : models[k].id;
            return true;
        }
        i -= models[k].n_aliases + 1;
    }
    return false;
}

void anthropic_models_write(struct buf *out, const struct chat_model *models, size_t n_models,
                            const struct anthropic_page *page)
{
    const struct chat_model *m;
    struct str id;
    size_t from = 0;
    size_t to = 0;
    while (nth(&m, &id, models, n_models, to)) to++;
    for (size_t i = 0; nth(&m, &id, models, n_models, i); i++) {
        if (page->after_id.len && str_eq(id, page->after_id)) from = i + 1;
        if (page->before_id.len && str_eq(id, page->before_id)) to = i;
    }
    if (to < from) to = from;
    /* With before_id the page ends at it, otherwise it starts behind after_id. */
    bool has_more = page->limit && to - from > page->limit;
    if (has_more && page->before_id.len) from = to - page->limit;
    else if (has_more) to = from + page->limit;
    buf_append(out, STR("{\"object\":\"list\",\"data\":["));
    struct str first = STR_NONE;
    struct str last = STR_NONE;
    for (size_t i = from; i < to && nth(&m, &id, models, n_models, i); i++) {
        if (i > from) buf_append_char(out, ',');
        else first = id;
        last = id;
        anthropic_model_write(out, m, id);
    }
    buf_printf(out, "],\"has_more\":%s,\"first_id\":", has_more ? "true" : "false");
    if (first.ptr) json_text_string(out, first);
    else buf_append(out, STR("null"));
    buf_append(out, STR(",\"last_id\":"));
    if (last.ptr) json_text_string(out, last);
    else buf_append(out, STR("null"));
    buf_append_char(out, '}');
}
