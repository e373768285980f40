/* Fuzzes schemas: any bytes compile or are refused with a message, in bounded memory; a text that the masks lead to is
 * one the check accepts. Up to the first NUL the input is the schema, then bytes that choose tokens. */
#include <stdlib.h>
#include <string.h>

#include "grammar/grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void follow(struct grammar *g, const uint8_t *choices, size_t n)
{
    struct grammar_matcher *m = grammar_matcher_create(g, NULL, NULL);
    struct buf text;
    buf_init(&text, 1 << 16);
    for (size_t i = 0; m && i < n && i < 200; i++)
        for (unsigned k = 0; k < 256; k++) {
            char c = (char)(uint8_t)(choices[i] + k);
            if (!grammar_matcher_feed(m, (struct str){&c, 1})) continue;
            buf_append_char(&text, c);
            break;
        }
    if (m && grammar_matcher_may_end(m) && !grammar_check(g, buf_str(&text), NULL)) abort();
    buf_deinit(&text);
    grammar_matcher_destroy(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t len = nul ? (size_t)(nul - data) : size;
    struct grammar_options o;
    struct err e = {0};
    grammar_options_init(&o);
    o.strict = len % 2 == 0;
    o.max_bytes = 8 << 20;
    struct grammar *g = grammar_from_schema((struct str){(const char *)data, len}, &o, &e);
    if (!g && (e.kind == ERR_NONE || !e.msg[0])) abort();
    if (g) follow(g, data, size);
    grammar_unref(g);
    return 0;
}
