/* anthropic_body: see anthropic_body.h. */
#include "api/anthropic_body.h"

#include <string.h>

#include "api/anthropic_request_internal.h"
#include "api/json_text.h"

#define ANSWER_MAX_BYTES ((size_t)64 << 20)

static bool read_thread(struct decoder *d, struct anthropic_body *b)
{
    json_t *thread = field_get(b->json, "thread");
    struct str type = STR_NONE;
    if (!thread) return true;
    size_t at = path_push(d, "thread");
    if (!json_is_object(thread)) return decode_mismatch(d, "an object", thread);
    if (!field_str(d, &type, thread, "type", true)) return false;
    if (str_eq(type, STR("create"))) {
        b->thread = ANTHROPIC_THREAD_CREATE;
    } else if (str_eq(type, STR("continue"))) {
        b->thread = ANTHROPIC_THREAD_CONTINUE;
        if (!field_str(d, &b->previous_id, thread, "previous_message_id", true)) return false;
    } else {
        /* With this code clients send the whole history without a thread. */
        path_push(d, "type");
        decode_fail(d, "unknown type \"%.*s\", expected create or continue", STR_ARG(str_slice(type, 0, 40)));
        d->error->code = "thread_unsupported_request";
        return false;
    }
    path_pop(d, at);
    return true;
}

static bool read_diagnostics(struct decoder *d, struct anthropic_body *b)
{
    json_t *diagnostics = field_get(b->json, "diagnostics");
    if (!diagnostics) return true;
    size_t at = path_push(d, "diagnostics");
    if (!json_is_object(diagnostics)) return decode_mismatch(d, "an object", diagnostics);
    b->wants_diagnostics = true;
    if (!field_str(d, &b->diagnose_against, diagnostics, "previous_message_id", false)) return false;
    path_pop(d, at);
    return true;
}

static bool read_compaction(struct decoder *d, struct anthropic_body *b)
{
    json_t *compaction = field_get(b->json, "compaction");
    struct str type = STR_NONE;
    if (!compaction) return true;
    size_t at = path_push(d, "compaction");
    if (!json_is_object(compaction)) return decode_mismatch(d, "an object", compaction);
    if (!field_str(d, &type, compaction, "type", true)) return false;
    path_push(d, "type");
    if (!str_eq(type, STR("summarize")))
        return decode_fail(d, "unknown type \"%.*s\", expected summarize", STR_ARG(str_slice(type, 0, 40)));
    path_pop(d, at);
    b->is_compaction = true;
    return true;
}

static bool load(struct anthropic_body *b, char *text, size_t len, struct anthropic_error *e)
{
    struct err err;
    if (!str_trim((struct str){text, len}).len)
        return anthropic_error_set(e, 400, NULL, "the request body is empty, expected a JSON object");
    if (!json_text_screen(text, len, &err))
        return anthropic_error_set(e, err.kind == ERR_TOO_LARGE ? 413 : 400, NULL, "%s", err.msg);
    json_error_t where;
    b->json = json_loadb(text, len, JSON_ALLOW_NUL | JSON_DECODE_ANY, &where);
    if (b->json) return true;
    return anthropic_error_set(e, 400, NULL, "the request body is not valid JSON: %s (line %d, column %d)", where.text,
                               where.line, where.column);
}

bool anthropic_body_parse(struct anthropic_body *b, char *text, size_t len, struct anthropic_error *e)
{
    struct decoder d = {.error = e};
    *b = (struct anthropic_body){.n_bytes = len};
    if (!load(b, text, len, e)) return false;
    if ((json_is_object(b->json) || decode_mismatch(&d, "an object", b->json)) && read_thread(&d, b) &&
        read_diagnostics(&d, b) && read_compaction(&d, b))
        return true;
    anthropic_body_deinit(b);
    return false;
}

void anthropic_body_deinit(struct anthropic_body *b)
{
    json_decref(b->json);
    buf_deinit(&b->tool_changes);
    *b = (struct anthropic_body){0};
}

/* ---- threads ---- */

void anthropic_history_init(struct anthropic_history *h, size_t max_bytes)
{
    buf_init(&h->fixed, max_bytes);
    buf_init(&h->messages, max_bytes);
}

void anthropic_history_deinit(struct anthropic_history *h)
{
    buf_deinit(&h->fixed);
    buf_deinit(&h->messages);
}

static int write_piece(const char *bytes, size_t len, void *out)
{
    return buf_append(out, (struct str){bytes, len}) ? 0 : -1;
}

static bool write_json(struct buf *out, const json_t *value)
{
    return json_dump_callback(value, write_piece, out, JSON_COMPACT | JSON_ENCODE_ANY) == 0 && !out->failed;
}

static bool add_message(struct anthropic_history *h, const json_t *message)
{
    return (!h->messages.len || buf_append_char(&h->messages, ',')) && write_json(&h->messages, message);
}

static const char *const fixed_fields[] = {"system", "tools"};
#define N_FIXED (sizeof fixed_fields / sizeof *fixed_fields)

bool anthropic_history_add_body(struct anthropic_history *h, const struct anthropic_body *b)
{
    size_t i;
    json_t *message;
    bool ok = true;
    for (size_t k = 0; k < N_FIXED && b->thread == ANTHROPIC_THREAD_CREATE && ok; k++) {
        const json_t *value = field_get(b->json, fixed_fields[k]);
        if (!value) continue;
        ok = buf_printf(&h->fixed, "%s\"%s\":", h->fixed.len ? "," : "", fixed_fields[k]) &&
             write_json(&h->fixed, value);
    }
    json_array_foreach(json_object_get(b->json, "messages"), i, message)
    {
        ok = ok && add_message(h, message);
    }
    return ok;
}

bool anthropic_history_add_answer(struct anthropic_history *h, struct str message)
{
    json_t *answer = json_loadb(message.ptr ? message.ptr : "", message.len, JSON_ALLOW_NUL, NULL);
    json_t *content = json_object_get(answer, "content");
    bool ok = answer != NULL;
    if (json_array_size(content)) {
        json_t *turn = json_pack("{s:s, s:O}", "role", "assistant", "content", content);
        ok = turn && add_message(h, turn);
        json_decref(turn);
    }
    json_decref(answer);
    return ok;
}

static json_t *history_parse(const struct anthropic_history *h)
{
    struct buf text;
    buf_init(&text, h->fixed.len + h->messages.len + 64);
    buf_append_char(&text, '{');
    buf_append(&text, buf_str(&h->fixed));
    buf_append(&text, h->fixed.len ? STR(",\"messages\":[") : STR("\"messages\":["));
    buf_append(&text, buf_str(&h->messages));
    buf_append(&text, STR("]}"));
    json_t *held = text.failed ? NULL : json_loadb(text.ptr, text.len, JSON_ALLOW_NUL, NULL);
    buf_deinit(&text);
    return held;
}

/* The API refuses these fields in a continue; one that differs has a code of its own. */
static bool check_fixed(const struct anthropic_body *b, const json_t *held, struct anthropic_error *e)
{
    for (size_t i = 0; i < N_FIXED; i++) {
        const json_t *sent = field_get(b->json, fixed_fields[i]);
        if (!sent) continue;
        bool is_same = json_equal(sent, json_object_get(held, fixed_fields[i]));
        return anthropic_error_set(
            e, 400, is_same ? NULL : "thread_fingerprint_mismatch",
            "%s: %s a request that continues a thread: it keeps what the thread was created with", fixed_fields[i],
            is_same ? "cannot be repeated in" : "differs in");
    }
    return true;
}

bool anthropic_body_continue(struct anthropic_body *b, const struct anthropic_history *h, struct anthropic_error *e)
{
    struct decoder d = {.error = e};
    json_t *added = json_object_get(b->json, "messages");
    json_t *held = history_parse(h);
    bool ok = held != NULL || anthropic_error_set(e, 529, NULL, "out of memory");
    ok = ok && check_fixed(b, held, e);
    if (ok && !json_is_array(added)) {
        path_push(&d, "messages");
        ok = decode_mismatch(&d, "an array", added);
    }
    if (ok && (json_array_extend(json_object_get(held, "messages"), added) || json_object_update(b->json, held)))
        ok = anthropic_error_set(e, 529, NULL, "out of memory");
    b->n_bytes += h->fixed.len + h->messages.len;
    json_decref(held);
    return ok;
}

/* ---- fields ---- */

bool anthropic_field_is_known(const char *name)
{
    static const char *const names[] = {
        /* clang-format off */
        "billing_policy", "cache_control", "compaction", "container", "context_management", "data_flow", "diagnostics",
        "fallback_credit_token", "fallbacks", "frequency_penalty", "inference_geo", "max_tokens", "mcp_servers", "messages",
        "metadata", "min_p", "model", "output_config", "output_format", "presence_penalty", "repeat_penalty", "safeguards",
        "seed", "service_tier", "speed", "stop_sequences", "stream", "system", "temperature", "thinking", "thread",
        "tool_choice", "tools", "top_k", "top_p", "user_profile_id", "betas", "workspace_id",
        /* clang-format on */
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i])) return true;
    return false;
}
