/* Fuzzes schemas: any bytes compile or are refused with a message, in bounded memory; every mask is the set of tokens
 * that the check accepts; a text that the masks lead to is one the check accepts. Up to the first NUL the input is the
 * schema, then bytes that choose tokens. */
#include <stdlib.h>
#include <string.h>

#include "grammar/grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { N_WORDS = 16, N = 256 + N_WORDS + 1, END = N - 1, STEPS = 60, MAX_BYTES = 8 << 20 };

static const char *const words[N_WORDS] = {"{\"", "\":",   "\",\"", "\"}", "a\":", "\":0,\"",  "null", "true",
                                           "12",  "\\u00", "ab",    "[[",  "}}",   "\xc3\xa9", "  ",   "\\n"};

static struct grammar_vocab *vocab(void)
{
    static char bytes[256];
    struct str texts[N];
    bool ends[N] = {false};
    for (int i = 0; i < 256; i++) bytes[i] = (char)i, texts[i] = (struct str){bytes + i, 1};
    for (int i = 0; i < N_WORDS; i++) texts[256 + i] = str_from(words[i]);
    texts[END] = STR_NONE;
    ends[END] = true;
    return grammar_vocab_from_texts(texts, ends, N, NULL);
}

static void follow(struct grammar *g, const struct grammar_vocab *v, const uint8_t *choices, size_t n)
{
    struct grammar_matcher *m = grammar_matcher_create(g, v, NULL);
    uint32_t bits[GRAMMAR_MASK_WORDS(N)];
    struct buf text;
    buf_init(&text, 1 << 16);
    for (size_t i = 0; m && i < n && i < STEPS; i++) {
        size_t n_set = grammar_matcher_mask(m, bits);
        uint32_t token = choices[i] % N;
        if (n_set == 0) break;
        for (uint32_t k = i % 4; k < N && grammar_memory(g) < MAX_BYTES * 3 / 4; k += 4)
            if (grammar_matcher_check(m, k) != (bits[k / 32] >> (k % 32) & 1)) abort();
        while (!(bits[token / 32] >> (token % 32) & 1)) token = (token + 1) % N;
        if (!grammar_matcher_accept(m, token)) {
            if (grammar_memory(g) < MAX_BYTES * 3 / 4) abort();
            break;
        }
        if (token == END) break;
        if (token < 256) buf_append_char(&text, (char)token);
        else buf_append(&text, str_from(words[token - 256]));
    }
    if (m && grammar_memory(g) < MAX_BYTES * 3 / 4 && grammar_matcher_may_end(m) &&
        !grammar_check(g, buf_str(&text), NULL))
        abort();
    buf_deinit(&text);
    grammar_matcher_destroy(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct grammar_vocab *v;
    const uint8_t *nul = size ? memchr(data, 0, size) : NULL;
    size_t len = nul ? (size_t)(nul - data) : size;
    struct grammar_options o;
    struct err e = {0};
    if (!v) v = vocab();
    grammar_options_init(&o);
    o.strict = len % 2 == 0;
    o.max_bytes = MAX_BYTES;
    struct grammar *g = grammar_from_schema((struct str){(const char *)data, len}, &o, &e);
    if (!g && (e.kind == ERR_NONE || !e.msg[0])) abort();
    if (g) follow(g, v, nul ? nul : data, nul ? size - len : size);
    grammar_unref(g);
    return 0;
}
