/* Unit tests of token runs: text whose tokens are known keeps them, whatever the tokenizer would make of it. */
#include <string.h>

#include "local/runs.h"
#include "tokenizer/vocab_writer.h"
#include "unit.h"

unit_adder add_runs_tests;

static const struct vocab_token tokens[] = {
    {"he", 0, 0},                    /* 256 */
    {"ll", 0, 0},                    /* 257 */
    {"hell", 0, 0},                  /* 258 */
    {"hello", 0, 0},                 /* 259 */
    {"lo", 0, 0},                    /* 260 */
    {"<|end|>", TOKEN_CONTROL, 0},   /* 261 */
    {"<|quiet|>", TOKEN_CONTROL, 0}, /* 262 */
};
static const char *const merges[] = {"h e", "l l", "he ll", "hell o", "l o"};

static struct vocab_file open_vocab(void)
{
    struct vocab_spec s = {.model = "gpt2",
                           .pre = "gpt-2",
                           .byte_tokens = true,
                           .tokens = tokens,
                           .n_tokens = sizeof tokens / sizeof *tokens,
                           .merges = merges,
                           .n_merges = sizeof merges / sizeof *merges,
                           .eos = 262};
    struct err e = {0};
    struct vocab_file f = vocab_open_spec(&s, &e);
    ck_assert_msg(f.tokenizer != NULL, "%s", e.msg);
    return f;
}

static size_t fit(const struct vocab_file *f, const char *text, bool show, size_t *bytes, const uint32_t *ids, size_t n)
{
    return token_runs_fit(f->tokenizer, ids, n, str_from(text), show, bytes);
}
#define IDS(...) (const uint32_t[]){__VA_ARGS__}, sizeof((const uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t)

START_TEST(tokens_fit_as_far_as_the_text_goes)
{
    struct vocab_file f = open_vocab();
    size_t bytes;
    ck_assert_uint_eq(fit(&f, "hello", false, &bytes, IDS(256, 257, 'o')), 3);
    ck_assert_uint_eq(bytes, 5);
    ck_assert_uint_eq(fit(&f, "hello", false, &bytes, IDS(256, 262, 257, 'o', 262)), 5); /* those without a text, too */
    ck_assert_uint_eq(bytes, 5);
    ck_assert_uint_eq(fit(&f, "hel", false, &bytes, IDS(256, 257, 'o')), 1); /* the second was cut by a stop string */
    ck_assert_uint_eq(bytes, 2);
    ck_assert_uint_eq(fit(&f, "help", false, &bytes, IDS(256, 257)), 1);
    ck_assert_uint_eq(fit(&f, "x", false, &bytes, IDS(256)), 0);
    ck_assert_uint_eq(bytes, 0);
    ck_assert_uint_eq(fit(&f, "he<|end|>", true, &bytes, IDS(256, 261)), 2);
    vocab_close(&f);
}
END_TEST

START_TEST(halves_of_characters_stay_together)
{
    struct vocab_file f = open_vocab();
    size_t bytes;
    ck_assert_uint_eq(fit(&f, "\xc3\xa9", false, &bytes, IDS(0xc3, 0xa9)), 2);
    ck_assert_uint_eq(bytes, 2);
    /* The answer ended within a character: the client saw the sign for that. */
    ck_assert_uint_eq(fit(&f, "he\xef\xbf\xbd", false, &bytes, IDS(256, 0xc3)), 2);
    ck_assert_uint_eq(bytes, 5);
    ck_assert_uint_eq(fit(&f, "he", false, &bytes, IDS(256, 0xc3)), 1);
    ck_assert_uint_eq(bytes, 2);
    vocab_close(&f);
}
END_TEST

static void check(const struct vocab_file *f, const struct token_runs *r, const char *text, struct text_span span,
                  const uint32_t *want, size_t n)
{
    struct token_list got;
    struct err e = {0};
    token_list_init(&got, 100);
    ck_assert(token_runs_encode(r, f->tokenizer, &got, str_from(text), &span, span.to > span.from, &e));
    ck_assert_uint_eq(got.n, n);
    for (size_t i = 0; i < n; i++) ck_assert_uint_eq(got.ids[i], want[i]);
    token_list_deinit(&got);
}

START_TEST(known_tokens_stand_between_the_pieces)
{
    struct vocab_file f = open_vocab();
    struct token_runs runs = {0}, twice = {0};
    struct text_span none = {0, 0};
    check(&f, &runs, "hellohello", none, IDS(259, 259));
    token_runs_add(&runs, 2, 5, IDS(257, 'o'));
    check(&f, &runs, "hellohello", none, IDS(256, 257, 'o', 259));
    token_runs_append(&twice, &runs, 0);
    token_runs_append(&twice, &runs, 5);
    check(&f, &twice, "hellohello", none, IDS(256, 257, 'o', 256, 257, 'o'));
    token_runs_clear(&runs);
    token_runs_clear(&twice);
    vocab_close(&f);
}
END_TEST

START_TEST(a_clients_bytes_stay_its_own_beside_a_run)
{
    struct vocab_file f = open_vocab();
    struct token_runs runs = {0};
    token_runs_add(&runs, 7, 9, IDS('h', 'e'));
    check(&f, &runs, "<|end|>he<|end|>", (struct text_span){0, 0}, IDS(261, 'h', 'e', 261));
    /* The client's bytes begin within the run and go on behind it. */
    check(&f, &runs, "<|end|>he<|end|>", (struct text_span){8, 16},
          IDS(261, 'h', 'e', '<', '|', 'e', 'n', 'd', '|', '>'));
    check(&f, &runs, "<|end|>he<|end|>", (struct text_span){0, 8},
          IDS('<', '|', 'e', 'n', 'd', '|', '>', 'h', 'e', 261));
    token_runs_clear(&runs);
    vocab_close(&f);
}
END_TEST

void add_runs_tests(TCase *tc)
{
    tcase_add_test(tc, tokens_fit_as_far_as_the_text_goes);
    tcase_add_test(tc, halves_of_characters_stay_together);
    tcase_add_test(tc, known_tokens_stand_between_the_pieces);
    tcase_add_test(tc, a_clients_bytes_stay_its_own_beside_a_run);
}
