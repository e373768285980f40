/* See decode.h. */
#include "decode.h"

#include <string.h>

#include "base/alloc.h"
#include "unit.h"

static const struct anthropic_support everything = {
    .thinking = true, .tools = true, .output_schema = true, .images = true, .pdf = true};

static struct chat_request *decode(const char *json, struct anthropic_error *e)
{
    struct chat_request *r = NULL;
    size_t len = strlen(json);
    char *body = mem_alloc(len + 1);
    memcpy(body, json, len + 1);
    bool ok = anthropic_request_decode(&r, body, len, ANTHROPIC_CREATE, &everything, e);
    mem_free(body);
    return ok ? r : NULL;
}

struct chat_request *decode_ok(const char *json)
{
    struct anthropic_error e = {0};
    struct chat_request *r = decode(json, &e);
    ck_assert_msg(r != NULL, "%s: %s", json, e.message);
    return r;
}

void decode_refused(const char *json, const char *message, const char *code)
{
    struct anthropic_error e = {0};
    struct chat_request *r = decode(json, &e);
    ck_assert_msg(r == NULL, "accepted: %s", json);
    ck_assert_int_eq(e.status, 400);
    ck_assert_msg(strstr(e.message, message) == e.message, "%s\n  got:  %s\n  want: %s", json, e.message, message);
    ck_assert_msg(!code || (e.code && !strcmp(code, e.code)), "%s: code %s", json, e.code ? e.code : "none");
}

const char *block_texts(const struct chat_block *blocks, size_t n)
{
    static char out[4000];
    static const char *const kinds[] = {
        [CHAT_THINKING] = "<thinking>",        [CHAT_TOOL_USE] = "<call>", [CHAT_TOOL_RESULT] = "<result>",
        [CHAT_TOOL_REFERENCE] = "<reference>", [CHAT_IMAGE] = "<image>",   [CHAT_DOCUMENT] = "<file>"};
    size_t len = 0;
    out[0] = '\0';
    for (size_t i = 0; i < n; i++) {
        struct str text = blocks[i].kind == CHAT_TEXT ? blocks[i].text : str_from(kinds[blocks[i].kind]);
        len += (size_t)snprintf(out + len, sizeof out - len, "%s%.*s", i ? "|" : "", STR_ARG(text));
        ck_assert_uint_lt(len, sizeof out);
    }
    return out;
}

const char *texts_of(const struct chat_request *r, size_t i)
{
    ck_assert_uint_lt(i, r->n_messages);
    return block_texts(r->messages[i].blocks, r->messages[i].n_blocks);
}
