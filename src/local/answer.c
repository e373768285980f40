/* answer: see answer.h. */
#include "local/answer.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/rng.h"
#include "local/prompt.h"
#include "local/signature.h"

#define MAX_BYTES ((size_t)64 << 20)
#define ID_BYTES 40

struct call_text { /* grows while the call comes in */
    char id[ID_BYTES];
    struct buf name, input;
};

struct answer {
    struct answer_config config;
    struct dialect_parser *parser;
    struct buf opened_call, ahead;
    struct buf raw, text, thinking; /* the answer as it was written, and as the client saw it */
    size_t given;                   /* bytes of raw that stood in the prompt, a prefill and a call's beginning */
    struct token_runs given_runs;
    struct token_list tokens; /* behind them */
    struct buf block;         /* of the open thinking block */
    struct buf signature;     /* likewise */
    struct call_text *calls;
    size_t n_calls;
    struct buf pending; /* a delta of the open block that was not sent yet */
    enum chat_block_kind pending_kind;
    bool is_held;       /* the last call may be a repetition: the client has not seen it yet */
    size_t calls_end;   /* bytes of raw up to the end of the calls so far; 0 = there are none */
    bool ends_at_calls; /* nothing behind them is for the client, whatever the model goes on to write */
    double thinking_tokens;
    bool is_complete; /* further events are not for the client */
    bool is_finished;
};

static void make_id(char out[ID_BYTES])
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    unsigned char bytes[24];
    rng_secure(bytes, sizeof bytes);
    memcpy(out, "toolu_", 6);
    for (size_t i = 0; i < sizeof bytes; i++) out[6 + i] = digits[bytes[i] % 62];
    out[6 + sizeof bytes] = '\0';
}

/* ---- on the way out ---- */

static void send_pending(struct answer *a)
{
    if (a->pending.len && !a->is_held)
        a->config.sink(
            a->config.ctx,
            &(struct chat_event){.kind = CHAT_EVENT_DELTA, .block = a->pending_kind, .text = buf_str(&a->pending)});
    if (!a->is_held) buf_clear(&a->pending);
}

static void send(struct answer *a, const struct chat_event *ev)
{
    send_pending(a);
    a->config.sink(a->config.ctx, ev);
}

static struct chat_event opening_of(const struct call_text *call)
{
    return (struct chat_event){
        .kind = CHAT_EVENT_BLOCK_OPEN, .block = CHAT_TOOL_USE, .id = str_from(call->id), .name = buf_str(&call->name)};
}

/* ---- repeated calls: small models that must call write the same call until the limit ---- */

static bool must_call(const struct chat_request *req)
{
    return req->tool_choice == CHAT_TOOLS_ANY || req->tool_choice == CHAT_TOOLS_ONE;
}

/* Whether the last call may become, or whole: is, one of those before it. */
static bool repeats(const struct answer *a, bool whole)
{
    const struct call_text *last = &a->calls[a->n_calls - 1];
    for (size_t i = 0; i + 1 < a->n_calls; i++) {
        struct str input = buf_str(&a->calls[i].input), now = buf_str(&last->input);
        if (str_eq(buf_str(&a->calls[i].name), buf_str(&last->name)) &&
            (whole ? str_eq(input, now) : str_starts(input, now)))
            return true;
    }
    return false;
}

static void release_call(struct answer *a)
{
    if (!a->is_held) return;
    struct chat_event ev = opening_of(&a->calls[a->n_calls - 1]);
    a->is_held = false;
    a->config.sink(a->config.ctx, &ev);
}

static void drop_call(struct answer *a)
{
    struct call_text *last = &a->calls[--a->n_calls];
    log_info("the model repeated a call of \"%.*s\" word for word: the answer ends before it",
             STR_ARG(buf_str(&last->name)));
    buf_deinit(&last->name);
    buf_deinit(&last->input);
    a->is_held = false;
    buf_clear(&a->pending);
    a->is_complete = true;
}

/* ---- events of the parser ---- */

static void open_call(struct answer *a, const struct chat_event *ev)
{
    a->calls = mem_realloc(a->calls, (a->n_calls + 1) * sizeof *a->calls);
    struct call_text *call = &a->calls[a->n_calls++];
    make_id(call->id);
    buf_init(&call->name, MAX_BYTES);
    buf_init(&call->input, MAX_BYTES);
    buf_append(&call->name, ev->name);
    send_pending(a);
    a->is_held = must_call(a->config.req) && repeats(a, false);
    struct chat_event opening = opening_of(call);
    if (!a->is_held) send(a, &opening);
}

static void on_delta(struct answer *a, const struct chat_event *ev)
{
    if (ev->block == CHAT_TOOL_USE && a->n_calls) {
        buf_append(&a->calls[a->n_calls - 1].input, ev->text);
        if (a->is_held && !repeats(a, false)) release_call(a);
    } else if (ev->block == CHAT_TEXT) {
        buf_append(&a->text, ev->text);
    } else if (ev->block == CHAT_THINKING && buf_append(&a->thinking, ev->text)) {
        buf_append(&a->block, ev->text);
    }
    a->pending_kind = ev->block;
    if (buf_append(&a->pending, ev->text)) return;
    struct chat_event rest = *ev; /* out of its budget: what is held goes out first */
    a->pending.failed = false;
    release_call(a);
    send(a, &rest);
}

static struct str sign_text(struct answer *a, struct str signed_text)
{
    char text[SIGNATURE_TEXT_BYTES];
    signature_make(text, a->config.key, a->config.req->model, signed_text);
    buf_clear(&a->signature);
    buf_append(&a->signature, str_from(text));
    return buf_str(&a->signature);
}

static struct str sign(struct answer *a)
{
    const struct chat_request *req = a->config.req;
    buf_clear(&a->signature);
    if (req->thinking_omitted && signature_seal(&a->signature, a->config.key, req->model, buf_str(&a->block)))
        return buf_str(&a->signature);
    return sign_text(a, buf_str(&a->block));
}

static void close_block(struct answer *a, const struct chat_event *parsed)
{
    struct chat_event ev = *parsed;
    bool is_call = ev.block == CHAT_TOOL_USE;
    if (ev.block == CHAT_THINKING) ev.signature = sign(a);
    if (ev.block == CHAT_TEXT && a->config.req->is_summary) ev.signature = sign_text(a, str_trim(buf_str(&a->text)));
    if (is_call && a->is_held && repeats(a, true)) {
        drop_call(a);
        return;
    }
    release_call(a);
    send(a, &ev);
    a->ends_at_calls |= is_call && a->config.req->no_parallel_tools;
}

static void on_parsed(void *ctx, const struct chat_event *ev)
{
    struct answer *a = ctx;
    if (a->ends_at_calls) a->is_complete = true;
    if (a->is_complete) return;
    switch (ev->kind) {
    case CHAT_EVENT_DELTA: on_delta(a, ev); break;
    case CHAT_EVENT_BLOCK_CLOSE: close_block(a, ev); break;
    case CHAT_EVENT_BLOCK_OPEN:
        if (ev->block == CHAT_THINKING) buf_clear(&a->block);
        if (ev->block == CHAT_TOOL_USE) open_call(a, ev);
        else send(a, ev);
        break;
    default: break;
    }
}

struct answer *answer_create(const struct answer_config *config)
{
    struct answer *a = mem_zalloc(sizeof *a);
    const struct chat_request *req = config->req;
    a->config = *config;
    struct buf *bufs[] = {&a->opened_call, &a->ahead, &a->raw,       &a->text,
                          &a->thinking,    &a->block, &a->signature, &a->pending};
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++) buf_init(bufs[i], MAX_BYTES);
    buf_append(&a->opened_call, config->opened_call);
    buf_append(&a->raw, config->given);
    buf_append(&a->text, config->given);
    buf_append(&a->raw, config->opened_call);
    a->given = a->raw.len;
    if (config->given_runs) token_runs_append(&a->given_runs, config->given_runs, 0);
    token_list_init(&a->tokens, SIZE_MAX / sizeof(uint32_t));
    buf_append(&a->ahead, config->ahead);
    struct dialect_options options = {.tools = req->tools,
                                      .n_tools = req->tool_choice == CHAT_TOOLS_NONE ? 0 : req->n_tools,
                                      .in_thinking = config->in_thinking,
                                      .json_answer = req->output_schema != NULL,
                                      .plain_text =
                                          req->output_schema && (!req->n_tools || req->tool_choice == CHAT_TOOLS_NONE),
                                      .keep_thinking = req->thinking != CHAT_THINKING_OFF,
                                      .opened_call = buf_str(&a->opened_call)};
    struct dialect_traits traits;
    dialect_traits_get(config->dialect, &traits);
    struct buf opening;
    buf_init(&opening, 1 << 10);
    if (config->in_thinking && traits.opening_is_text) buf_printf(&opening, "%.*s\n", STR_ARG(traits.think_start));
    options.opened_thinking = buf_str(&opening);
    a->parser = dialect_parser_create(config->dialect, &options);
    buf_deinit(&opening);
    return a;
}

void answer_destroy(struct answer *a)
{
    if (!a) return;
    dialect_parser_destroy(a->parser);
    token_runs_clear(&a->given_runs);
    token_list_deinit(&a->tokens);
    struct buf *bufs[] = {&a->opened_call, &a->ahead, &a->raw,       &a->text,
                          &a->thinking,    &a->block, &a->signature, &a->pending};
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++) buf_deinit(bufs[i]);
    for (size_t i = 0; i < a->n_calls; i++) {
        buf_deinit(&a->calls[i].name);
        buf_deinit(&a->calls[i].input);
    }
    mem_free(a->calls);
    mem_free(a);
}

/* A piece of text that is partly reasoning counts in proportion. */
static void count_thinking(struct answer *a, size_t bytes_before, size_t len, size_t n)
{
    size_t bytes = dialect_parser_think_bytes(a->parser) - bytes_before;
    if (bytes) a->thinking_tokens += bytes < len ? (double)n * (double)bytes / (double)len : (double)n;
}

/* The parser gets calls a byte at a time: so it is known where they end, and no half of a next one is remembered. */
static void parse(struct answer *a, struct str text)
{
    size_t step = a->config.req->n_tools ? 1 : text.len;
    for (size_t i = 0; i < text.len && !a->is_complete; i += step) {
        struct str piece = str_slice(text, i, i + step);
        buf_append(&a->raw, piece);
        dialect_parser_feed(a->parser, piece, on_parsed, a);
        enum dialect_place place = dialect_parser_place(a->parser);
        if (place == PLACE_BEHIND_CALL && !a->is_complete) a->calls_end = a->raw.len;
        if (place == PLACE_ELSEWHERE && a->ends_at_calls) a->is_complete = true;
    }
    send_pending(a);
}

bool answer_feed(struct answer *a, struct str text, const uint32_t *tokens, size_t n_tokens)
{
    size_t before = dialect_parser_think_bytes(a->parser);
    for (size_t i = 0; i < n_tokens; i++) token_list_append(&a->tokens, tokens[i], NULL);
    parse(a, text);
    count_thinking(a, before, text.len, n_tokens);
    return a->is_complete;
}

/* The generated text behind the reasoning: that is what stands as a turn's content. */
static struct str raw_behind_thinking(const struct answer *a)
{
    struct dialect_traits traits;
    struct str raw = buf_str(&a->raw);
    dialect_traits_get(a->config.dialect, &traits);
    if (!dialect_parser_think_bytes(a->parser) || !traits.think_end.len) return raw;
    ptrdiff_t at = str_find(raw, traits.think_end, 0);
    if (at < 0) return STR_NONE;
    raw = str_slice(raw, (size_t)at + traits.think_end.len, raw.len);
    while (raw.len && (*raw.ptr == '\n' || *raw.ptr == ' ')) raw = str_slice(raw, 1, raw.len);
    return raw;
}

static uint64_t context_of(const struct chat_request *req)
{
    uint64_t context = 0;
    for (size_t i = 0; i < req->n_messages; i++) context = call_memory_context(context, &req->messages[i]);
    return context;
}

/* The tokens of raw: those of what was given, then as many of the model's as give its text. */
static void find_runs(const struct answer *a, struct token_runs *runs)
{
    struct dialect_traits traits;
    size_t bytes;
    dialect_traits_get(a->config.dialect, &traits);
    token_runs_append(runs, &a->given_runs, 0);
    size_t n = token_runs_fit(a->config.tokenizer, a->tokens.ids, a->tokens.n,
                              str_slice(buf_str(&a->raw), a->given, a->raw.len), traits.calls_are_control, &bytes);
    token_runs_add(runs, a->given, a->given + bytes, a->tokens.ids, n);
}

static void remember(const struct answer *a)
{
    struct token_runs runs = {0};
    struct str raw = raw_behind_thinking(a);
    if (!a->config.memory || a->raw.failed || a->ahead.failed || !raw.len) return;
    bool thought = dialect_parser_think_bytes(a->parser) > 0;
    struct made_call *calls = mem_alloc((a->n_calls + 1) * sizeof *calls);
    for (size_t i = 0; i < a->n_calls; i++)
        calls[i] = (struct made_call){str_from(a->calls[i].id), buf_str(&a->calls[i].name),
                                      a->calls[i].input.len ? buf_str(&a->calls[i].input) : STR("{}")};
    if (a->config.tokenizer) find_runs(a, &runs);
    call_memory_add(a->config.memory, &(struct made_answer){.raw = raw,
                                                            .full = thought ? buf_str(&a->raw) : STR_NONE,
                                                            .given = a->config.given.len,
                                                            .runs = runs,
                                                            .salt = a->config.req->salt,
                                                            .context = context_of(a->config.req),
                                                            .ahead = buf_str(&a->ahead),
                                                            .ahead_free = a->config.ahead_free,
                                                            .text = buf_str(&a->text),
                                                            .thinking = buf_str(&a->thinking),
                                                            .calls = calls,
                                                            .n_calls = a->n_calls});
    token_runs_clear(&runs);
    mem_free(calls);
}

void answer_finish(struct answer *a, bool cut)
{
    if (a->is_finished) return;
    a->is_finished = true;
    dialect_parser_finish(a->parser, cut, on_parsed, a);
    release_call(a);
    send_pending(a);
    if (a->is_complete) a->raw.len = a->calls_end;
    bool has_half_call = cut && a->n_calls > dialect_parser_calls(a->parser);
    bool is_half_list = a->is_complete && str_ends(str_trim(buf_str(&a->raw)), STR(","));
    if (!has_half_call && !is_half_list) remember(a);
}

size_t answer_calls(const struct answer *a)
{
    return dialect_parser_calls(a->parser);
}

uint32_t answer_thinking_tokens(const struct answer *a)
{
    return (uint32_t)(a->thinking_tokens + 0.5);
}
