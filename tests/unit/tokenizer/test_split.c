/* Pre-tokenizers: every name compiles, loses no byte, stays linear; the scanners say what their regex says. */
#include "base/alloc.h"
#include "base/rng.h"
#include "tokenizer/tokenizer_internal.h"
#include "unit.h"

struct pieces {
    size_t lengths[4096], n, bytes;
    bool in_order;
    const char *next;
};

static bool collect(void *data, const char *piece, size_t n, struct err *e)
{
    struct pieces *p = data;
    (void)e;
    p->in_order = p->in_order && piece == p->next && n > 0;
    p->next = piece + n;
    if (p->n < sizeof p->lengths / sizeof *p->lengths) p->lengths[p->n] = n;
    p->n++;
    p->bytes += n;
    return true;
}

static void split(struct pieces *out, const struct splitter *s, struct str text, bool no_scan)
{
    struct split_run run;
    struct err e = {0};
    out->n = out->bytes = 0;
    out->in_order = true;
    out->next = text.ptr;
    split_run_init(&run, s);
    run.no_scan = no_scan;
    ck_assert_msg(split_text(&run, text, collect, out, &e), "%s", e.msg);
    split_run_deinit(&run);
}

/* Text made of what splitters look at; valid UTF-8 unless `bad`. */
static size_t random_text(char *out, size_t size, struct rng *r, bool bad)
{
    static const char *const bits[] = {"the", "Word", "CAPS", "camelCase", " ",        "  ",  "    ", "\n",      "\r\n",
                                       "\t",  "'s",   "'LL",  "'t",        "'",        "1",   "12",   "1234567", "!",
                                       "...", "();",  "/",    "\n/",       "é",        "ÉT",  "ﬁ",    "中文",    "한국",
                                       "ไทย", "é",    "😀",    "\u3000",    "\xc2\xa0", "١٢٣", "½",    "ſ",       "_",
                                       "-",   "=",    "<|",   "\x01",      "\x7f",     "x",   "Z",    "ـ",       "ǅ"};
    size_t n = 0;
    while (n + 16 < size) {
        uint64_t pick = rng_next(r);
        if (bad && pick % 7 == 0) {
            out[n++] = (char)(pick >> 32);
            continue;
        }
        const char *bit = bits[pick % (sizeof bits / sizeof *bits)];
        memcpy(out + n, bit, strlen(bit));
        n += strlen(bit);
    }
    return n;
}

START_TEST(every_splitter_gives_back_all_bytes_in_order)
{
    char text[600];
    struct rng r;
    struct pieces p;
    rng_seed(&r, 1);
    for (size_t i = 0; pretokenizer_at(i); i++) {
        struct splitter s;
        struct err e = {0};
        ck_assert_msg(splitter_init(&s, pretokenizer_at(i)->rule, &e), "%s: %s", pretokenizer_at(i)->name, e.msg);
        for (int round = 0; round < 20; round++) {
            size_t n = random_text(text, sizeof text, &r, round % 2);
            split(&p, &s, (struct str){text, n}, round % 4 < 2);
            ck_assert(p.in_order);
            ck_assert_uint_eq(p.bytes, n);
        }
        splitter_deinit(&s);
    }
}
END_TEST

START_TEST(scanners_equal_their_regex)
{
    char text[300];
    struct rng r;
    rng_seed(&r, 2);
    for (size_t i = 0; pretokenizer_at(i); i++) {
        struct splitter s;
        struct pieces a, b;
        if (!pretokenizer_at(i)->rule->scan) continue;
        if (i > 0 && pretokenizer_at(i)->rule == pretokenizer_at(i - 1)->rule) continue;
        ck_assert(splitter_init(&s, pretokenizer_at(i)->rule, NULL));
        for (int round = 0; round < 300; round++) {
            size_t n = random_text(text, sizeof text, &r, false);
            split(&a, &s, (struct str){text, n}, false);
            split(&b, &s, (struct str){text, n}, true);
            ck_assert_uint_eq(a.n, b.n);
            ck_assert_mem_eq(a.lengths, b.lengths, a.n * sizeof *a.lengths);
        }
        splitter_deinit(&s);
    }
}
END_TEST

START_TEST(long_runs_neither_fail_nor_take_long)
{
    static const char *const runs[] = {" ", "\n",           "\t",       "a",   "A",    "1",   "!",
                                       "'", "\xe4\xb8\xad", "\xcc\x81", " \n", "a b ", "\xff"};
    size_t size = (size_t)1 << 18;
    char *text = mem_alloc(size + 8);
    struct pieces p;
    for (size_t i = 0; pretokenizer_at(i); i++) {
        struct splitter s;
        if (i > 0 && pretokenizer_at(i)->rule == pretokenizer_at(i - 1)->rule) continue;
        ck_assert(splitter_init(&s, pretokenizer_at(i)->rule, NULL));
        for (size_t k = 0; k < sizeof runs / sizeof *runs; k++) {
            size_t len = strlen(runs[k]), n = 0;
            for (; n + len <= size; n += len) memcpy(text + n, runs[k], len);
            text[n++] = 'x'; /* makes white space look ahead in vain */
            split(&p, &s, (struct str){text, n}, k % 2);
            ck_assert_uint_eq(p.bytes, n);
        }
        splitter_deinit(&s);
    }
    mem_free(text);
}
END_TEST

static void check_pieces(const char *pre, const char *text, const char *expected)
{
    struct splitter s;
    struct pieces p;
    char got[512];
    size_t at = 0, n = 0;
    ck_assert_ptr_nonnull(pretokenizer_find(str_from(pre)));
    ck_assert(splitter_init(&s, pretokenizer_find(str_from(pre))->rule, NULL));
    split(&p, &s, str_from(text), false);
    for (size_t i = 0; i < p.n; i++) {
        if (i > 0) got[n++] = '|';
        memcpy(got + n, text + at, p.lengths[i]);
        n += p.lengths[i];
        at += p.lengths[i];
    }
    got[n] = 0;
    ck_assert_str_eq(got, expected);
    splitter_deinit(&s);
}

START_TEST(pieces_are_those_of_the_models_own_tokenizers)
{
    check_pieces("gpt-2", "I'll pay  12345 x's!", "I|'ll| pay| | 12345| x|'s|!");
    check_pieces("smollm", "a  12b", "a|  |1|2|b");
    check_pieces("llama-bpe", "I'LL pay  12345\n\n  x", "I|'LL| pay| | |123|45|\n\n| | x");
    check_pieces("qwen2", "f(x)->12", "f|(x|)->|1|2");
    check_pieces("gpt-4o", "helloWorld HTTPServer don't", "hello|World| HTTPServer| don't");
    check_pieces("tekken", "don't 12", "don|'t| |1|2");
    check_pieces("deepseek-v3", "x=foo(1234)", "x|=foo|(|123|4|)");
    check_pieces("tiny_aya", "1234567 12345a", "1|234|567| |123|45|a");
    check_pieces("afmoe", "1234567", "1|234|567");
    check_pieces("superbpe", "a b 1234567 c", "a b |1|234|567| c");
    check_pieces("falcon", "a,, 1234", "a|,,| |123|4");
    check_pieces("exaone-moe", "one two  three", "one two| | three");
    check_pieces("kimi-k2",
                 "ab\xe4\xb8\xad\xe6\x96\x87"
                 "cd",
                 "ab|\xe4\xb8\xad\xe6\x96\x87|cd");
    check_pieces("jais-2", "x         y", "x|        | y");
}
END_TEST

void add_split_tests(TCase *tc)
{
    tcase_add_test(tc, every_splitter_gives_back_all_bytes_in_order);
    tcase_add_test(tc, scanners_equal_their_regex);
    tcase_add_test(tc, long_runs_neither_fail_nor_take_long);
    tcase_add_test(tc, pieces_are_those_of_the_models_own_tokenizers);
}
