/* grammar_example: the grammar library on its own, as docs/grammar.md shows it. A "model" that likes token 0 best, then
 * 1 and so on writes a text that fits a schema: sample first, check, and ask for the mask only when the check refuses.
 */
#include <stdio.h>

#include "grammar/grammar.h"

static const char *const texts[] = {"Sure! ", "{\"", "name", "\": \"", "Ada", "age", "\", \"",
                                    "\": ",   "1",   "}",    "\"",     "36",  ""};
enum { N = sizeof texts / sizeof *texts, END = N - 1 };

/* The first token from `from` on that a model would like next; here simply the next one. */
static uint32_t sample(const uint32_t *mask, uint32_t from)
{
    for (uint32_t i = 0; i < N; i++) {
        uint32_t token = (from + i) % N;
        if (!mask || (mask[token / 32] >> (token % 32) & 1)) return token;
    }
    return END;
}

int main(void)
{
    const char *schema = "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"age\":{\"type\":"
                         "\"integer\",\"minimum\":18}},"
                         "\"required\":[\"name\",\"age\"],\"additionalProperties\":false}";
    struct grammar_options options;
    struct err e = {0};
    struct str vocabulary[N];
    bool ends[N] = {false};
    uint32_t mask[GRAMMAR_MASK_WORDS(N)], last = 0;

    grammar_options_init(&options);
    struct grammar *g = grammar_from_schema(str_from(schema), &options, &e);
    for (int i = 0; i < N; i++) vocabulary[i] = str_from(texts[i]);
    ends[END] = true;
    struct grammar_vocab *v = g ? grammar_vocab_from_texts(vocabulary, ends, N, &e) : NULL;
    struct grammar_matcher *m = v ? grammar_matcher_create(g, v, &e) : NULL;
    if (!m) return fprintf(stderr, "%s\n", e.msg), 1;
    for (int step = 0; step < 100; step++) {
        uint32_t token = sample(NULL, last);
        if (!grammar_matcher_check(m, token)) {
            if (grammar_matcher_mask(m, mask) == 0) break; /* only when the memory budget is used up */
            token = sample(mask, last);
        }
        (void)grammar_matcher_accept(m, token);
        if (token == END) break;
        fputs(texts[token], stdout);
        last = token + 1;
    }
    putchar('\n');
    grammar_matcher_destroy(m);
    grammar_vocab_destroy(v);
    grammar_unref(g);
    return 0;
}
