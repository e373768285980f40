/* Fuzzes the decoder of the Messages API: any bytes become a request or an error with a text; a request keeps what
 * chat.h promises. The first byte says which call and what is supported. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "api/anthropic_messages.h"
#include "base/alloc.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok) abort();
}

static void check_blocks(const struct chat_request *r, const struct chat_block *blocks, size_t n, int depth)
{
    require(depth < 3);
    for (size_t i = 0; i < n; i++) {
        const struct chat_block *b = &blocks[i];
        require(utf8_valid(b->text) && utf8_valid(b->id) && utf8_valid(b->name) && utf8_valid(b->signature));
        require(b->kind != CHAT_TEXT || b->text.len > 0);
        require(b->kind != CHAT_TOOL_USE || json_is_object(b->input));
        require((b->kind != CHAT_IMAGE && b->kind != CHAT_DOCUMENT) || (b->where.len && b->media_type.len));
        require(b->kind != CHAT_IMAGE || (b->data.len && b->width && b->height));
        require((b->kind != CHAT_TOOL_ADDITION && b->kind != CHAT_TOOL_REMOVAL) || b->tool < r->n_tools);
        require(b->kind != CHAT_TOOL_REFERENCE || chat_tool_find(r, b->name));
        check_blocks(r, b->blocks, b->n_blocks, depth + 1);
    }
}

static void check_request(const struct chat_request *r)
{
    require(r->model.len > 0 && r->n_messages > 0);
    check_blocks(r, r->system, r->n_system, 0);
    for (size_t i = 0; i < r->n_messages; i++) {
        require(r->messages[i].n_blocks > 0);
        require(i == 0 || r->messages[i].role != r->messages[i - 1].role);
        check_blocks(r, r->messages[i].blocks, r->messages[i].n_blocks, 0);
    }
    for (size_t i = 0; i < r->n_tools; i++) {
        require(r->tools[i].name.len > 0 && json_is_object(r->tools[i].schema));
        for (size_t k = 0; k < i; k++)
            require(r->tools[i].withheld || r->tools[k].withheld || !str_eq(r->tools[i].name, r->tools[k].name));
    }
    for (size_t i = 0; i < r->n_stops; i++) require(r->stops[i].len > 0);
    require(!r->sampling.has_temperature || (r->sampling.temperature >= 0 && r->sampling.temperature <= 10));
}

static void check_error(const struct anthropic_error *e)
{
    struct buf out;
    buf_init(&out, 1 << 16);
    require(e->status >= 400 && e->type && e->message[0]);
    anthropic_error_write(&out, e, STR("req_1"));
    json_t *parsed = json_loadb(out.ptr, out.len, 0, NULL);
    require(json_is_object(parsed));
    json_decref(parsed);
    buf_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1) return 0;
    const struct anthropic_support support = {.thinking = data[0] & 1,
                                              .tools = data[0] & 2,
                                              .output_schema = data[0] & 4,
                                              .images = data[0] & 16,
                                              .pdf = data[0] & 32};
    enum anthropic_call call = data[0] & 8 ? ANTHROPIC_COUNT : ANTHROPIC_CREATE;
    struct chat_request *r;
    struct anthropic_error e;
    char *body = mem_alloc(size);
    memcpy(body, data + 1, size - 1);
    bool ok = anthropic_request_decode(&r, body, size - 1, call, &support, &e);
    memset(body, 'x', size); /* nothing may point into it */
    mem_free(body);
    if (ok) {
        check_request(r);
        chat_request_destroy(r);
    } else {
        check_error(&e);
    }
    return 0;
}
