/* Fuzzes grammar_from_gbnf: any bytes compile or are refused with a message; what compiles can be followed. */
#include <stdlib.h>

#include "grammar/grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct grammar_options o;
    struct err e = {0};
    grammar_options_init(&o);
    o.max_bytes = 8 << 20;
    struct grammar *g = grammar_from_gbnf((struct str){(const char *)data, size}, &o, &e);
    if (!g && (e.kind == ERR_NONE || !e.msg[0])) abort();
    struct grammar_matcher *m = g ? grammar_matcher_create(g, NULL, &e) : NULL;
    for (size_t i = 0; m && i < size && i < 60; i++)
        for (unsigned k = 0; k < 256; k++) {
            char c = (char)(uint8_t)(data[i] + k);
            if (grammar_matcher_feed(m, (struct str){&c, 1})) break;
        }
    grammar_matcher_destroy(m);
    grammar_unref(g);
    return 0;
}
