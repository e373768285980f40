/* anthropic_answer: chat events to bytes. One state machine for both forms: each step (start, block start, piece, block
 * end, end) writes either a server-sent event or the next part of one JSON object. */
#include <inttypes.h>
#include <string.h>

#include "api/anthropic_messages.h"
#include "api/json_text.h"
#include "base/hash.h"
#include "base/rng.h"
#include "base/utf8.h"

#define INPUT_MAX_BYTES ((size_t)16 << 20)
#define SUMMARY_MAX_BYTES ((size_t)16 << 20)
#define SIGNATURE_MAX_BYTES 256

void anthropic_id_make(char out[ANTHROPIC_ID_SIZE], const char *prefix)
{
    static const char alphabet[] = "0123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz_";
    unsigned char random[24];
    rng_secure(random, sizeof random);
    size_t n = strlen(prefix);
    if (n > ANTHROPIC_ID_SIZE - 1 - sizeof random) n = ANTHROPIC_ID_SIZE - 1 - sizeof random;
    memcpy(out, prefix, n);
    for (size_t i = 0; i < sizeof random; i++) out[n++] = alphabet[random[i] % 58];
    out[n] = '\0';
}

void anthropic_answer_init(struct anthropic_answer *a, bool is_stream, struct str id, struct str model,
                           struct str request_id)
{
    *a = (struct anthropic_answer){.is_stream = is_stream, .id = id, .model = model, .request_id = request_id};
    buf_init(&a->input, INPUT_MAX_BYTES);
    buf_init(&a->summary, SUMMARY_MAX_BYTES);
    buf_init(&a->summary_signature, SIGNATURE_MAX_BYTES);
}

void anthropic_answer_deinit(struct anthropic_answer *a)
{
    buf_deinit(&a->input);
    buf_deinit(&a->summary);
    buf_deinit(&a->summary_signature);
}

/* ---- steps ---- */

static void event_begin(struct buf *out, const char *name)
{
    buf_printf(out, "event: %s\ndata: {\"type\":\"%s\"", name, name);
}

static void event_end(struct buf *out)
{
    buf_append(out, STR("}\n\n"));
}

void anthropic_answer_ping(struct buf *out)
{
    event_begin(out, "ping");
    event_end(out);
}

static void write_usage(struct buf *out, const struct chat_usage *u)
{
    uint32_t cached = u->cached_tokens < u->input_tokens ? u->cached_tokens : u->input_tokens;
    buf_printf(out,
               "{\"input_tokens\":%" PRIu32 ",\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":%" PRIu32
               ",\"cache_creation\":{\"ephemeral_5m_input_tokens\":0,\"ephemeral_1h_input_tokens\":0}"
               ",\"output_tokens\":%" PRIu32 ",\"output_tokens_details\":{\"thinking_tokens\":%" PRIu32 "}"
               ",\"server_tool_use\":null,\"service_tier\":\"standard\",\"inference_geo\":null"
               ",\"speed\":\"standard\"}",
               u->input_tokens - cached, cached, u->output_tokens, u->thinking_tokens);
}

/* The keys before content, without the opening brace. */
static void write_identity(const struct anthropic_answer *a, struct buf *out)
{
    buf_append(out, STR("\"id\":"));
    json_text_string(out, a->id);
    buf_append(out, STR(",\"type\":\"message\",\"role\":\"assistant\",\"model\":"));
    json_text_string(out, a->model);
}

static void start(struct anthropic_answer *a, struct buf *out, const struct chat_usage *usage)
{
    if (a->has_start) return;
    a->has_start = true;
    a->usage = *usage;
    if (!a->is_stream) {
        buf_append_char(out, '{');
        write_identity(a, out);
        buf_append(out, STR(",\"content\":["));
        return;
    }
    event_begin(out, "message_start");
    buf_append(out, STR(",\"message\":{"));
    write_identity(a, out);
    buf_append(out, STR(",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"stop_details\":null"
                        ",\"container\":null,\"diagnostics\":"));
    buf_append(out, a->diagnostics.len ? a->diagnostics : STR("null"));
    buf_append(out, STR(",\"usage\":"));
    write_usage(out, usage);
    buf_append_char(out, '}');
    event_end(out);
}

static bool is_tool_id(struct str id)
{
    for (size_t i = 0; i < id.len; i++) {
        char c = id.ptr[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '_' && c != '-') return false;
    }
    return id.len > 0;
}

static void write_tool_identity(struct buf *out, struct str id, struct str name)
{
    char fresh[ANTHROPIC_ID_SIZE];
    if (!is_tool_id(id)) {
        anthropic_id_make(fresh, "toolu_");
        id = str_from(fresh);
    }
    buf_append(out, STR("{\"type\":\"tool_use\",\"id\":"));
    json_text_string(out, id);
    buf_append(out, STR(",\"name\":"));
    json_text_string(out, name);
}

static void block_start(struct anthropic_answer *a, struct buf *out, struct str id, struct str name)
{
    a->is_written = true;
    a->has_tool = a->has_tool || a->kind == CHAT_TOOL_USE;
    uint32_t index = a->n_blocks++;
    if (!a->is_stream) {
        if (index) buf_append_char(out, ',');
        if (a->kind == CHAT_TEXT) buf_append(out, STR("{\"type\":\"text\",\"text\":\""));
        else if (a->kind == CHAT_THINKING) buf_append(out, STR("{\"type\":\"thinking\",\"thinking\":\""));
        else write_tool_identity(out, id, name);
        return;
    }
    event_begin(out, "content_block_start");
    buf_printf(out, ",\"index\":%" PRIu32 ",\"content_block\":", index);
    if (a->kind == CHAT_TEXT) {
        buf_append(out, STR("{\"type\":\"text\",\"text\":\"\",\"citations\":null}"));
    } else if (a->kind == CHAT_THINKING) {
        buf_append(out, STR("{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}"));
    } else {
        write_tool_identity(out, id, name);
        buf_append(out, STR(",\"input\":{},\"caller\":{\"type\":\"direct\"}}"));
    }
    event_end(out);
}

static void write_delta(struct anthropic_answer *a, struct buf *out, const char *type, const char *key, struct str text)
{
    event_begin(out, "content_block_delta");
    buf_printf(out, ",\"index\":%" PRIu32 ",\"delta\":{\"type\":\"%s\",\"%s\":", a->n_blocks - 1, type, key);
    json_text_string(out, text);
    buf_append_char(out, '}');
    event_end(out);
}

/* A run of whole characters of the open block. Empty text is no reason to start a block. */
static void piece(struct anthropic_answer *a, struct buf *out, struct str text)
{
    if (!text.len) return;
    if (!a->is_written) block_start(a, out, STR_NONE, STR_NONE);
    if (a->kind == CHAT_THINKING) a->text_hash = hash64(text.ptr, text.len, a->text_hash);
    if (a->kind == CHAT_THINKING && a->omits_thinking) return;
    if (!a->is_stream && a->kind == CHAT_TOOL_USE) buf_append(&a->input, text);
    else if (!a->is_stream) json_text_escape(out, text);
    else if (a->kind == CHAT_TEXT) write_delta(a, out, "text_delta", "text", text);
    else if (a->kind == CHAT_THINKING) write_delta(a, out, "thinking_delta", "thinking", text);
    else write_delta(a, out, "input_json_delta", "partial_json", text);
}

/* Deltas may cut characters: the unfinished end waits for the next delta. */
static void delta(struct anthropic_answer *a, struct buf *out, struct str text)
{
    size_t i = 0;
    while (a->n_tail && i < text.len) {
        uint32_t cp;
        a->tail[a->n_tail++] = text.ptr[i++];
        struct str tail = {a->tail, a->n_tail};
        if (utf8_decode(tail, &cp) == a->n_tail) {
            piece(a, out, tail);
            a->n_tail = 0;
        } else if (utf8_complete_len(tail) > 0) {
            /* These bytes can no longer become a character: the last one may begin another. */
            i--;
            piece(a, out, STR("\xef\xbf\xbd"));
            a->n_tail = 0;
        }
    }
    text = str_slice(text, i, text.len);
    size_t whole = utf8_complete_len(text);
    piece(a, out, str_slice(text, 0, whole));
    if (whole < text.len) {
        a->n_tail = text.len - whole;
        memcpy(a->tail, text.ptr + whole, a->n_tail);
    }
}

static void write_signature(struct anthropic_answer *a, struct buf *out, struct str signature)
{
    char own[24];
    if (!signature.len) {
        static const char digits[] = "0123456789abcdef";
        for (size_t i = 0; i < 16; i++) own[i] = digits[a->text_hash >> (60 - 4 * i) & 15];
        signature = (struct str){own, 16};
    }
    if (a->is_stream) {
        write_delta(a, out, "signature_delta", "signature", signature);
        return;
    }
    buf_append(out, STR("\",\"signature\":"));
    json_text_string(out, signature);
    buf_append_char(out, '}');
}

/* The input of a tool call as one value. What is no JSON object is kept as text: it was generated and is not lost. */
static void write_input(struct anthropic_answer *a, struct buf *out)
{
    struct str text = buf_str(&a->input);
    json_t *value = json_loadb(text.ptr, text.len, JSON_ALLOW_NUL, NULL);
    buf_append(out, STR(",\"input\":"));
    if (!text.len) {
        buf_append(out, STR("{}"));
    } else if (json_is_object(value)) {
        buf_append(out, text);
    } else {
        buf_append(out, STR("{\"raw\":"));
        json_text_string(out, text);
        buf_append_char(out, '}');
    }
    buf_append(out, STR(",\"caller\":{\"type\":\"direct\"}}"));
    json_decref(value);
    buf_clear(&a->input);
}

static void block_close(struct anthropic_answer *a, struct buf *out, struct str signature)
{
    if (!a->is_open) return;
    if (a->n_tail) {
        a->n_tail = 0;
        piece(a, out, STR("\xef\xbf\xbd"));
    }
    a->is_open = false;
    if (!a->is_written && a->kind == CHAT_THINKING && signature.len) block_start(a, out, STR_NONE, STR_NONE);
    if (!a->is_written) return;
    a->is_written = false;
    if (a->kind == CHAT_THINKING) write_signature(a, out, signature);
    if (a->is_stream) {
        event_begin(out, "content_block_stop");
        buf_printf(out, ",\"index\":%" PRIu32, a->n_blocks - 1);
        event_end(out);
    } else if (a->kind == CHAT_TEXT) {
        buf_append(out, STR("\",\"citations\":null}"));
    } else if (a->kind == CHAT_TOOL_USE) {
        write_input(a, out);
    }
}

static void block_open(struct anthropic_answer *a, struct buf *out, enum chat_block_kind kind, struct str id,
                       struct str name)
{
    block_close(a, out, STR_NONE);
    a->is_open = true;
    a->kind = kind == CHAT_THINKING || kind == CHAT_TOOL_USE ? kind : CHAT_TEXT;
    a->text_hash = 0;
    if (a->kind == CHAT_TOOL_USE) block_start(a, out, id, name);
}

/* ---- compactions ---- */

/* The end of a compaction block. */
static void write_changes(const struct anthropic_answer *a, struct buf *out)
{
    buf_append(out, STR(",\"tool_changes\":"));
    buf_append(out, a->tool_changes.len ? a->tool_changes : STR("[]"));
    buf_append_char(out, '}');
}

static void write_summary(struct anthropic_answer *a, struct buf *out)
{
    struct str text = str_trim(buf_str(&a->summary));
    bool ok = text.len && !a->summary.failed;
    uint32_t index = a->n_blocks++;
    if (a->is_stream) {
        event_begin(out, "content_block_start");
        buf_printf(out,
                   ",\"index\":%" PRIu32 ",\"content_block\":{\"type\":\"compaction\",\"content\":null"
                   ",\"encrypted_content\":null",
                   index);
        write_changes(a, out);
        event_end(out);
        event_begin(out, "content_block_delta");
        buf_printf(out, ",\"index\":%" PRIu32 ",\"delta\":{\"type\":\"compaction_delta\",\"content\":", index);
    } else {
        buf_append(out, STR("{\"type\":\"compaction\",\"content\":"));
    }
    if (ok) json_text_string(out, text);
    else buf_append(out, STR("null")); /* clients keep the conversation as it is then */
    buf_append(out, STR(",\"encrypted_content\":"));
    if (ok && a->summary_signature.len) json_text_string(out, buf_str(&a->summary_signature));
    else buf_append(out, STR("null"));
    if (!a->is_stream) {
        write_changes(a, out);
        return;
    }
    buf_append_char(out, '}');
    event_end(out);
    event_begin(out, "content_block_stop");
    buf_printf(out, ",\"index\":%" PRIu32, index);
    event_end(out);
}

/* Whether the event belongs to a block: text is kept until the end, everything else is left out. */
static bool keep_summary(struct anthropic_answer *a, const struct chat_event *ev)
{
    if (ev->kind == CHAT_EVENT_BLOCK_CLOSE && a->kind == CHAT_TEXT) {
        buf_clear(&a->summary_signature);
        buf_append(&a->summary_signature, ev->signature);
    }
    if (ev->kind == CHAT_EVENT_BLOCK_OPEN) a->kind = ev->block;
    else if (ev->kind == CHAT_EVENT_BLOCK_CLOSE) a->kind = CHAT_TEXT;
    else if (ev->kind != CHAT_EVENT_DELTA) return false;
    else if (a->kind == CHAT_TEXT) buf_append(&a->summary, ev->text);
    return true;
}

/* A call that is complete decides the reason, unless the answer was cut. */
static const char *stop_reason(const struct anthropic_answer *a, enum chat_stop stop)
{
    if (a->is_compaction) return "compaction";
    switch (stop) {
    case CHAT_STOP_MAX_TOKENS: return "max_tokens";
    case CHAT_STOP_CONTEXT: return "model_context_window_exceeded";
    case CHAT_STOP_SEQUENCE: return a->has_tool ? "tool_use" : "stop_sequence";
    case CHAT_STOP_END:
    case CHAT_STOP_TOOL_USE: break;
    }
    return a->has_tool ? "tool_use" : "end_turn";
}

static void finish(struct anthropic_answer *a, struct buf *out, const struct chat_event *ev)
{
    struct chat_usage usage = ev->usage;
    if (!usage.input_tokens) {
        /* Zeros would overwrite the numbers of message_start. */
        usage.input_tokens = a->usage.input_tokens;
        if (!usage.cached_tokens) usage.cached_tokens = a->usage.cached_tokens;
    }
    start(a, out, &usage);
    block_close(a, out, STR_NONE);
    if (a->is_compaction) write_summary(a, out);
    const char *reason = stop_reason(a, ev->stop);
    if (a->is_stream) {
        event_begin(out, "message_delta");
        buf_append(out, STR(",\"delta\":{"));
    } else {
        buf_append(out, STR("],"));
    }
    buf_printf(out, "\"stop_reason\":\"%s\",\"stop_sequence\":", reason);
    if (!strcmp(reason, "stop_sequence")) json_text_string(out, ev->stop_sequence);
    else buf_append(out, STR("null"));
    buf_append(out, STR(",\"stop_details\":null,\"container\":null"));
    if (a->is_stream) {
        buf_append_char(out, '}');
    } else {
        buf_append(out, STR(",\"diagnostics\":"));
        buf_append(out, a->diagnostics.len ? a->diagnostics : STR("null"));
    }
    buf_append(out, STR(",\"usage\":"));
    write_usage(out, &usage);
    if (ev->context) {
        buf_append(out, STR(",\"context_management\":"));
        anthropic_context_write(out, ev->context);
    }
    if (a->is_stream) {
        event_end(out);
        event_begin(out, "message_stop");
        event_end(out);
    } else {
        buf_append_char(out, '}');
    }
    a->usage = usage;
    a->is_done = true;
}

void anthropic_answer_fail(struct anthropic_answer *a, struct buf *out, const struct anthropic_error *e)
{
    if (a->is_done) return;
    a->is_done = a->has_failed = true;
    if (!a->is_stream) return;
    buf_append(out, STR("event: error\ndata: "));
    anthropic_error_write(out, e, a->request_id);
    buf_append(out, STR("\n\n"));
}

void anthropic_answer_event(struct anthropic_answer *a, struct buf *out, const struct chat_event *ev)
{
    if (a->is_done || (a->is_compaction && keep_summary(a, ev))) return;
    struct anthropic_error error;
    switch (ev->kind) {
    case CHAT_EVENT_START: start(a, out, &ev->usage); break;
    case CHAT_EVENT_BLOCK_OPEN:
        start(a, out, &a->usage);
        block_open(a, out, ev->block, ev->id, ev->name);
        break;
    case CHAT_EVENT_DELTA:
        start(a, out, &a->usage);
        if (!a->is_open) block_open(a, out, CHAT_TEXT, STR_NONE, STR_NONE);
        delta(a, out, ev->text);
        break;
    case CHAT_EVENT_BLOCK_CLOSE: block_close(a, out, ev->signature); break;
    case CHAT_EVENT_FINISH: finish(a, out, ev); break;
    case CHAT_EVENT_ERROR:
        anthropic_error_from(&error, ev->err);
        anthropic_answer_fail(a, out, &error);
        break;
    case CHAT_EVENT_PING:
        if (a->is_stream) anthropic_answer_ping(out);
        break;
    }
}

void anthropic_diagnostics_write(struct buf *out, const char *reason, bool has_missed, uint32_t missed_tokens)
{
    buf_printf(out, "{\"cache_miss_reason\":{\"type\":\"%s\"", reason);
    if (has_missed) buf_printf(out, ",\"cache_missed_input_tokens\":%" PRIu32, missed_tokens);
    buf_append(out, STR("}}"));
}

void anthropic_count_write(struct buf *out, uint32_t n_tokens, const struct chat_context *context)
{
    buf_printf(out, "{\"input_tokens\":%" PRIu32, n_tokens);
    if (context)
        buf_printf(out, ",\"context_management\":{\"original_input_tokens\":%" PRIu32 "}", context->original_tokens);
    buf_append_char(out, '}');
}
