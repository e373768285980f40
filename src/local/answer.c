/* answer: see answer.h. */
#include "local/answer.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
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
    struct buf raw, text, thinking; /* generated; as the client saw it */
    struct buf block;               /* of the open thinking block */
    struct buf signature;           /* likewise */
    struct call_text *calls;
    size_t n_calls;
    uint32_t n_generated;
    double thinking_tokens;
    bool is_complete; /* further events are not for the client */
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

static void open_block(struct answer *a, struct chat_event *ev)
{
    if (ev->block == CHAT_THINKING) buf_clear(&a->block);
    if (ev->block != CHAT_TOOL_USE) return;
    a->calls = mem_realloc(a->calls, (a->n_calls + 1) * sizeof *a->calls);
    struct call_text *call = &a->calls[a->n_calls++];
    make_id(call->id);
    buf_init(&call->name, MAX_BYTES);
    buf_init(&call->input, MAX_BYTES);
    buf_append(&call->name, ev->name);
    ev->id = str_from(call->id);
}

static void note_delta(struct answer *a, const struct chat_event *ev)
{
    if (ev->block == CHAT_TOOL_USE && a->n_calls) buf_append(&a->calls[a->n_calls - 1].input, ev->text);
    else if (ev->block == CHAT_TEXT) buf_append(&a->text, ev->text);
    else if (ev->block == CHAT_THINKING && buf_append(&a->thinking, ev->text)) buf_append(&a->block, ev->text);
}

static struct str sign(struct answer *a)
{
    char text[SIGNATURE_TEXT_BYTES];
    const struct chat_request *req = a->config.req;
    buf_clear(&a->signature);
    if (req->thinking_omitted && signature_seal(&a->signature, a->config.key, req->model, buf_str(&a->block)))
        return buf_str(&a->signature);
    signature_make(text, a->config.key, req->model, buf_str(&a->block));
    buf_clear(&a->signature);
    buf_append(&a->signature, str_from(text));
    return buf_str(&a->signature);
}

static void on_parsed(void *ctx, const struct chat_event *parsed)
{
    struct answer *a = ctx;
    struct chat_event ev = *parsed;
    if (a->is_complete) return;
    if (ev.kind == CHAT_EVENT_BLOCK_OPEN) open_block(a, &ev);
    else if (ev.kind == CHAT_EVENT_DELTA) note_delta(a, &ev);
    else if (ev.kind == CHAT_EVENT_BLOCK_CLOSE && ev.block == CHAT_THINKING) ev.signature = sign(a);
    a->config.sink(a->config.ctx, &ev);
    if (ev.kind == CHAT_EVENT_BLOCK_CLOSE && ev.block == CHAT_TOOL_USE && a->config.req->no_parallel_tools)
        a->is_complete = true;
}

struct answer *answer_create(const struct answer_config *config)
{
    struct answer *a = mem_zalloc(sizeof *a);
    const struct chat_request *req = config->req;
    a->config = *config;
    struct buf *bufs[] = {&a->opened_call, &a->ahead, &a->raw, &a->text, &a->thinking, &a->block, &a->signature};
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++) buf_init(bufs[i], MAX_BYTES);
    buf_append(&a->opened_call, config->opened_call);
    buf_append(&a->raw, config->opened_call);
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
    struct buf *bufs[] = {&a->opened_call, &a->ahead, &a->raw, &a->text, &a->thinking, &a->block, &a->signature};
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++) buf_deinit(bufs[i]);
    for (size_t i = 0; i < a->n_calls; i++) {
        buf_deinit(&a->calls[i].name);
        buf_deinit(&a->calls[i].input);
    }
    mem_free(a->calls);
    mem_free(a);
}

/* A piece of text that is partly reasoning counts in proportion. */
static void count_thinking(struct answer *a, size_t bytes_before, size_t len, uint32_t n_generated)
{
    size_t bytes = dialect_parser_think_bytes(a->parser) - bytes_before;
    uint32_t n = n_generated > a->n_generated ? n_generated - a->n_generated : 0;
    a->n_generated += n;
    if (bytes) a->thinking_tokens += bytes < len ? (double)n * (double)bytes / (double)len : (double)n;
}

bool answer_feed(struct answer *a, struct str text, uint32_t n_generated)
{
    size_t before = dialect_parser_think_bytes(a->parser);
    buf_append(&a->raw, text);
    dialect_parser_feed(a->parser, text, on_parsed, a);
    count_thinking(a, before, text.len, n_generated);
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

static void remember(const struct answer *a)
{
    struct str raw = raw_behind_thinking(a);
    if (!a->config.memory || a->raw.failed || a->ahead.failed || !raw.len) return;
    bool thought = dialect_parser_think_bytes(a->parser) > 0;
    struct made_call *calls = mem_alloc((a->n_calls + 1) * sizeof *calls);
    for (size_t i = 0; i < a->n_calls; i++)
        calls[i] = (struct made_call){str_from(a->calls[i].id), buf_str(&a->calls[i].name),
                                      a->calls[i].input.len ? buf_str(&a->calls[i].input) : STR("{}")};
    call_memory_add(a->config.memory, &(struct made_answer){.raw = raw,
                                                            .full = thought ? buf_str(&a->raw) : STR_NONE,
                                                            .ahead = buf_str(&a->ahead),
                                                            .ahead_free = a->config.ahead_free,
                                                            .text = buf_str(&a->text),
                                                            .thinking = buf_str(&a->thinking),
                                                            .calls = calls,
                                                            .n_calls = a->n_calls});
    mem_free(calls);
}

void answer_finish(struct answer *a, bool cut)
{
    bool was_complete = a->is_complete;
    dialect_parser_finish(a->parser, cut, on_parsed, a);
    if (!cut && !was_complete) remember(a);
}

size_t answer_calls(const struct answer *a)
{
    return dialect_parser_calls(a->parser);
}

uint32_t answer_thinking_tokens(const struct answer *a)
{
    return (uint32_t)(a->thinking_tokens + 0.5);
}
