/* fuzz_dialect: any bytes through any dialect, cut as the input says. Blocks must be well-formed, the input of every
 * call a JSON object (when the bytes are UTF-8), and the parser must end. First byte: dialect; second: options; third:
 * piece. */
#include <jansson.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/buf.h"
#include "dialect/dialect.h"

struct state {
    struct buf input;
    bool open;
    enum chat_block_kind kind;
};

static void sink(void *ctx, const struct chat_event *ev)
{
    struct state *s = ctx;
    if (ev->kind == CHAT_EVENT_BLOCK_OPEN) {
        if (s->open) abort();
        s->open = true;
        s->kind = ev->block;
        buf_clear(&s->input);
        return;
    }
    if (!s->open || s->kind != ev->block) abort();
    if (ev->kind == CHAT_EVENT_DELTA) buf_append(&s->input, ev->text);
    if (ev->kind != CHAT_EVENT_BLOCK_CLOSE) return;
    s->open = false;
    if (s->kind != CHAT_TOOL_USE) return;
    json_error_t error;
    json_t *v = json_loadb(s->input.ptr, s->input.len, JSON_ALLOW_NUL, &error);
    if (!json_is_object(v) && json_error_code(&error) != json_error_invalid_utf8) abort();
    json_decref(v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t n_rows = 0;
    if (size < 3) return 0;
    while (dialect_at(n_rows)) n_rows++;
    struct chat_tool tools[] = {{.name = STR("read")}, {.name = STR("now")}};
    json_error_t error;
    tools[0].schema =
        json_loads("{\"properties\":{\"path\":{\"type\":\"string\"},\"n\":{\"type\":\"integer\"}}}", 0, &error);
    tools[1].schema = json_object();
    struct dialect_options o = {.tools = tools,
                                .n_tools = data[1] & 1 ? 0 : 2,
                                .in_thinking = data[1] & 2,
                                .keep_thinking = !(data[1] & 4),
                                .max_bytes = data[1] & 8 ? 100 : 0};
    struct dialect_parser *p = dialect_parser_create(dialect_at(data[0] % n_rows), &o);
    struct str text = {(const char *)data + 3, size - 3};
    struct state s = {0};
    buf_init(&s.input, (size_t)1 << 24);
    size_t piece = (size_t)data[2] % 32 + 1;
    for (size_t at = 0; at < text.len; at += piece) dialect_parser_feed(p, str_slice(text, at, at + piece), sink, &s);
    dialect_parser_finish(p, data[1] & 16, sink, &s);
    if (s.open) abort();
    dialect_parser_destroy(p);
    buf_deinit(&s.input);
    json_decref(tools[0].schema);
    json_decref(tools[1].schema);
    return 0;
}
