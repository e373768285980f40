/* See sse_check.h. */
#include "sse_check.h"

#include <string.h>

#include "base/utf8.h"

struct state {
    struct sse_result *r;
    struct err *e;
    char open[16]; /* type of the open block, "" = none */
    struct buf input;
    int n_signatures;
};

static const char *text_of(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

static bool on_start(struct state *s, const json_t *data)
{
    const json_t *m = json_object_get(data, "message");
    const json_t *usage = json_object_get(m, "usage");
    if (s->r->has_start) return err_set(s->e, ERR_INVALID, "second message_start");
    if (!json_is_array(json_object_get(m, "content")) || json_array_size(json_object_get(m, "content")))
        return err_set(s->e, ERR_INVALID, "content is not []");
    if (!json_is_integer(json_object_get(usage, "input_tokens"))) return err_set(s->e, ERR_INVALID, "no usage");
    static const char *const keys[] = {"id",           "model",     "stop_reason", "stop_sequence",
                                       "stop_details", "container", "diagnostics"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!json_object_get(m, keys[i])) return err_set(s->e, ERR_INVALID, "no %s", keys[i]);
    s->r->has_start = true;
    return true;
}

static bool on_block_start(struct state *s, const json_t *data)
{
    const json_t *block = json_object_get(data, "content_block");
    const char *type = text_of(block, "type");
    if (s->open[0]) return err_set(s->e, ERR_INVALID, "two blocks are open");
    if (json_integer_value(json_object_get(data, "index")) != s->r->n_blocks)
        return err_set(s->e, ERR_INVALID, "indexes are not sequential");
    s->r->n_blocks++;
    s->n_signatures = 0;
    buf_clear(&s->input);
    bool ok = false;
    if (!strcmp(type, "text")) ok = json_is_string(json_object_get(block, "text"));
    if (!strcmp(type, "thinking"))
        ok = json_is_string(json_object_get(block, "thinking")) && json_is_string(json_object_get(block, "signature"));
    if (!strcmp(type, "tool_use"))
        ok = json_is_object(json_object_get(block, "input")) && *text_of(block, "id") && json_object_get(block, "name");
    s->r->n_tools += !strcmp(type, "tool_use");
    snprintf(s->open, sizeof s->open, "%s", type);
    return ok || err_set(s->e, ERR_INVALID, "a %s block lacks a field", type);
}

static bool on_delta(struct state *s, const json_t *data)
{
    const json_t *delta = json_object_get(data, "delta");
    const char *type = text_of(delta, "type");
    if (!s->open[0] || json_integer_value(json_object_get(data, "index")) != s->r->n_blocks - 1)
        return err_set(s->e, ERR_INVALID, "a delta for no open block");
    if (s->n_signatures) return err_set(s->e, ERR_INVALID, "something follows the signature");
    if (!strcmp(s->open, "text") && !strcmp(type, "text_delta"))
        return buf_append(&s->r->text, str_from(text_of(delta, "text")));
    if (!strcmp(s->open, "thinking") && !strcmp(type, "thinking_delta"))
        return buf_append(&s->r->thinking, str_from(text_of(delta, "thinking")));
    if (!strcmp(s->open, "thinking") && !strcmp(type, "signature_delta") && *text_of(delta, "signature"))
        return ++s->n_signatures == 1;
    if (!strcmp(s->open, "tool_use") && !strcmp(type, "input_json_delta"))
        return buf_append(&s->input, str_from(text_of(delta, "partial_json")));
    return err_set(s->e, ERR_INVALID, "a %s in a %s block", type, s->open);
}

static bool on_block_stop(struct state *s, const json_t *data)
{
    if (!s->open[0] || json_integer_value(json_object_get(data, "index")) != s->r->n_blocks - 1)
        return err_set(s->e, ERR_INVALID, "a stop for no open block");
    if (!strcmp(s->open, "thinking") && s->n_signatures != 1) return err_set(s->e, ERR_INVALID, "no signature");
    if (!strcmp(s->open, "tool_use") && s->input.len) {
        json_t *input = json_loadb(s->input.ptr, s->input.len, JSON_ALLOW_NUL, NULL);
        s->r->n_bad_inputs += !json_is_object(input);
        json_decref(input);
    }
    s->open[0] = '\0';
    return true;
}

static bool on_message_delta(struct state *s, const json_t *data)
{
    const json_t *usage = json_object_get(data, "usage");
    const char *reason = text_of(json_object_get(data, "delta"), "stop_reason");
    if (s->open[0]) return err_set(s->e, ERR_INVALID, "message_delta in an open block");
    if (!*reason || s->r->has_delta) return err_set(s->e, ERR_INVALID, "stop_reason is missing or repeated");
    if (!json_is_integer(json_object_get(usage, "output_tokens"))) return err_set(s->e, ERR_INVALID, "no usage");
    snprintf(s->r->stop_reason, sizeof s->r->stop_reason, "%s", reason);
    s->r->last_usage = json_deep_copy(usage);
    s->r->has_delta = true;
    return true;
}

static bool on_event(struct state *s, const char *name, const json_t *data)
{
    struct sse_result *r = s->r;
    if (r->has_stop || r->has_error) return err_set(s->e, ERR_INVALID, "something follows the end");
    if (strcmp(text_of(data, "type"), name)) return err_set(s->e, ERR_INVALID, "type is not %s", name);
    if (!strcmp(name, "ping")) return r->n_pings++ >= 0;
    if (!strcmp(name, "error")) return r->has_error = *text_of(json_object_get(data, "error"), "type") != '\0';
    if (!strcmp(name, "message_start")) return on_start(s, data);
    if (!r->has_start) return err_set(s->e, ERR_INVALID, "%s before message_start", name);
    if (!strcmp(name, "message_stop")) return r->has_stop = r->has_delta;
    if (!strcmp(name, "message_delta")) return on_message_delta(s, data);
    if (r->has_delta) return err_set(s->e, ERR_INVALID, "%s after message_delta", name);
    if (!strcmp(name, "content_block_start")) return on_block_start(s, data);
    if (!strcmp(name, "content_block_delta")) return on_delta(s, data);
    if (!strcmp(name, "content_block_stop")) return on_block_stop(s, data);
    return err_set(s->e, ERR_INVALID, "unknown event %s", name);
}

/* "event: NAME\ndata: JSON" */
static bool one_event(struct state *s, struct str text)
{
    ptrdiff_t nl = str_find(text, STR("\n"), 0);
    if (!str_starts(text, STR("event: ")) || nl < 0) return err_set(s->e, ERR_INVALID, "no event line");
    char name[64];
    snprintf(name, sizeof name, "%.*s", STR_ARG(str_slice(text, 7, (size_t)nl)));
    struct str line = str_slice(text, (size_t)nl + 1, text.len);
    if (!str_starts(line, STR("data: ")) || str_find(line, STR("\n"), 0) >= 0)
        return err_set(s->e, ERR_INVALID, "data is not one line");
    json_t *data = json_loadb(line.ptr + 6, line.len - 6, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
    bool ok = data ? on_event(s, name, data) : err_set(s->e, ERR_INVALID, "data is not JSON");
    json_decref(data);
    return ok;
}

bool sse_check(struct sse_result *out, struct str bytes, struct err *e)
{
    struct state s = {.r = out, .e = e};
    err_set(e, ERR_INVALID, "an event is wrong");
    memset(out, 0, sizeof *out);
    buf_init(&out->text, 1 << 22);
    buf_init(&out->thinking, 1 << 22);
    buf_init(&s.input, 1 << 22);
    bool ok = utf8_valid(bytes);
    for (size_t at = 0; ok && at < bytes.len;) {
        ptrdiff_t end = str_find(bytes, STR("\n\n"), at);
        ok = end >= 0 && one_event(&s, str_slice(bytes, at, (size_t)end));
        at = (size_t)end + 2;
    }
    buf_deinit(&s.input);
    return ok;
}

void sse_result_deinit(struct sse_result *r)
{
    buf_deinit(&r->text);
    buf_deinit(&r->thinking);
    json_decref(r->last_usage);
}
