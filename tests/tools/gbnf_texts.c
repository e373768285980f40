/* gbnf_texts: texts of a GBNF grammar, for tools/compare-gbnf.
 *   gbnf_texts --sample N [SEED] FILE.gbnf   writes N random texts that fit, each with a NUL behind it
 *   gbnf_texts --check FILE.gbnf             reads such texts, writes 1 (accepted) or 0 for each
 * Exit status 2: the grammar does not compile; the reason is on standard error. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "grammar/grammar.h"

enum { MAX_TEXT = 3000, N_TOKENS = 257, END = 256 };

static bool read_all(struct buf *out, FILE *f)
{
    char part[65536];
    size_t n;
    while ((n = fread(part, 1, sizeof part, f)) > 0)
        if (!buf_append(out, (struct str){part, n})) return false;
    return !ferror(f);
}

/* From some length on what ends texts is preferred. Texts that do not end are not written. */
static bool sample(struct grammar *g, const struct grammar_vocab *v, struct rng *rng)
{
    static const char closing[] = "}]\"\n;).0eaxAd:,";
    struct grammar_matcher *m = grammar_matcher_create(g, v, NULL);
    uint32_t bits[GRAMMAR_MASK_WORDS(N_TOKENS)];
    char text[MAX_TEXT];
    size_t len = 0, soft = rng_next(rng) % 60;
    bool ended = false;
    while (m && len < MAX_TEXT && !ended) {
        size_t n = grammar_matcher_mask(m, bits);
        if (n == 0) break;
        uint32_t token = N_TOKENS, k = (uint32_t)(rng_next(rng) % n);
        if (len > soft && (bits[END / 32] & 1)) token = END;
        bool close = len > soft && rng_next(rng) % 2;
        for (size_t c = 0; close && token == N_TOKENS && closing[c]; c++)
            if (bits[(uint8_t)closing[c] / 32] >> ((uint8_t)closing[c] % 32) & 1) token = (uint8_t)closing[c];
        for (uint32_t b = 0; token == N_TOKENS && b < N_TOKENS; b++)
            if ((bits[b / 32] >> (b % 32) & 1) && k-- == 0) token = b;
        if (!grammar_matcher_accept(m, token)) break;
        ended = token == END;
        if (!ended) text[len++] = (char)token;
    }
    grammar_matcher_destroy(m);
    if (ended && !memchr(text, 0, len)) fwrite(text, 1, len, stdout), putchar(0);
    return ended;
}

static int samples(struct grammar *g, long n, uint64_t seed)
{
    static char bytes[256];
    struct str texts[N_TOKENS];
    bool ends[N_TOKENS] = {false};
    struct rng rng;
    for (int i = 0; i < 256; i++) bytes[i] = (char)i, texts[i] = (struct str){bytes + i, 1};
    texts[END] = STR_NONE;
    ends[END] = true;
    struct grammar_vocab *v = grammar_vocab_from_texts(texts, ends, N_TOKENS, NULL);
    rng_seed(&rng, seed);
    for (long tries = 20 * n; n > 0 && v && tries > 0; tries--) n -= sample(g, v, &rng);
    grammar_vocab_destroy(v);
    return 0;
}

static int checks(struct grammar *g)
{
    struct buf all;
    buf_init(&all, (size_t)1 << 30);
    bool ok = read_all(&all, stdin);
    for (size_t from = 0; ok && from < all.len;) {
        const char *end = memchr(all.ptr + from, 0, all.len - from);
        struct str text = str_slice(buf_str(&all), from, end ? (size_t)(end - all.ptr) : all.len);
        struct err e = {0};
        putchar(grammar_check(g, text, &e) ? '1' : '0');
        from += text.len + 1;
    }
    putchar('\n');
    buf_deinit(&all);
    return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
    bool check = argc == 3 && strcmp(argv[1], "--check") == 0;
    if (!check && (argc < 4 || strcmp(argv[1], "--sample") != 0))
        return fprintf(stderr, "usage: gbnf_texts --check FILE.gbnf | --sample N [SEED] FILE.gbnf\n"), 2;
    struct grammar_options o;
    struct err e = {0};
    struct buf text;
    FILE *f = fopen(argv[argc - 1], "rb");
    buf_init(&text, (size_t)64 << 20);
    if (!f || !read_all(&text, f)) return fprintf(stderr, "%s: cannot be read\n", argv[argc - 1]), 2;
    fclose(f);
    grammar_options_init(&o);
    o.max_bytes = (size_t)256 << 20;
    struct grammar *g = grammar_from_gbnf(buf_str(&text), &o, &e);
    if (!g) return fprintf(stderr, "%s\n", e.msg), 2;
    int rc = check ? checks(g) : samples(g, atol(argv[2]), argc > 4 ? strtoull(argv[3], NULL, 10) : 1);
    grammar_unref(g);
    buf_deinit(&text);
    return rc;
}
