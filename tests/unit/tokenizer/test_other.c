/* SPM, Gemma 4, WPM and UGM vocabularies. */
#include "base/rng.h"
#include "unit.h"
#include "vocab_writer.h"

#define M "\xe2\x96\x81" /* stands for a space in these vocabularies */

static struct vocab_file open_ok(const struct vocab_spec *s)
{
    struct err e = {0};
    struct vocab_file f = vocab_open_spec(s, &e);
    ck_assert_msg(f.tokenizer != NULL, "%s", e.msg);
    return f;
}

static void check_ids(const struct tokenizer *t, struct str text, bool control, const uint32_t *ids, size_t n)
{
    struct token_list got;
    struct err e = {0};
    token_list_init(&got, 100000);
    ck_assert_msg(tokenizer_encode(t, &got, text, control, NULL, 0, &e), "%s", e.msg);
    ck_assert_uint_eq(got.n, n);
    for (size_t i = 0; i < n; i++) ck_assert_uint_eq(got.ids[i], ids[i]);
    token_list_deinit(&got);
}
#define CHECK(f, text, control, ...)                                              \
    check_ids((f).tokenizer, STR(text), control, (const uint32_t[]){__VA_ARGS__}, \
              COUNT(((const uint32_t[]){__VA_ARGS__})))

static void check_round_trip(const struct tokenizer *t, struct str text, struct str expected)
{
    struct token_list ids;
    struct buf out;
    struct err e;
    token_list_init(&ids, 100000);
    buf_init(&out, 100000);
    ck_assert(tokenizer_encode(t, &ids, text, false, NULL, 0, &e));
    ck_assert(tokenizer_decode(t, &out, ids.ids, ids.n, false));
    ck_assert(str_eq(buf_str(&out), expected));
    token_list_deinit(&ids);
    buf_deinit(&out);
}

static const struct vocab_token spm_tokens[] = {
    {"<unk>", TOKEN_UNKNOWN, 0},      /* 256 */
    {"<s>", TOKEN_CONTROL, 0},        /* 257 */
    {"</s>", TOKEN_CONTROL, 0},       /* 258 */
    {M, 0, -10},                      /* 259 */
    {"a", 0, -11},                    /* 260 */
    {"b", 0, -12},                    /* 261 */
    {"ab", 0, -2},                    /* 262 */
    {"ba", 0, -1},                    /* 263: better than ab */
    {M "a", 0, -3},                   /* 264 */
    {M M, 0, -4},                     /* 265 */
    {"<s", 0, -5},                    /* 266 */
    {"<", 0, -20},                    /* 267 */
    {"s", 0, -21},                    /* 268 */
    {">", 0, -22},                    /* 269 */
    {"<tag>", TOKEN_USER_DEFINED, 0}, /* 270 */
};
static const struct vocab_spec spm = {.model = "llama",
                                      .byte_tokens = true,
                                      .tokens = spm_tokens,
                                      .n_tokens = COUNT(spm_tokens),
                                      .bos = 258,
                                      .eos = 259,
                                      .unk = 257};

START_TEST(spm_joins_the_best_score_first_and_falls_back_to_bytes)
{
    struct vocab_file f = open_ok(&spm);
    CHECK(f, "aba", false, 264, 263); /* " a" is left once "ba" is joined */
    CHECK(f, "ab", false, 259, 262);  /* "ab" is better than " a" */
    vocab_close(&f);
}
END_TEST

START_TEST(spm_puts_a_space_in_front_and_after_special_tokens)
{
    struct vocab_file f = open_ok(&spm);
    struct vocab_spec bare = spm;
    bare.add_space_prefix = 1;
    struct vocab_file g = open_ok(&bare);
    CHECK(f, "a", false, 264);
    CHECK(f, "<s>a", true, 257, 264);
    CHECK(f, "b<tag>a", false, 259, 261, 270, 264);
    CHECK(g, "a", false, 260);
    struct token_list rest; /* behind other tokens there is none */
    struct err e = {0};
    token_list_init(&rest, 10);
    ck_assert(tokenizer_encode_rest(f.tokenizer, &rest, STR("a"), false, NULL, 0, &e));
    ck_assert(tokenizer_encode_rest(f.tokenizer, &rest, STR("<s>a"), true, NULL, 0, &e));
    ck_assert(rest.n == 3 && rest.ids[0] == 260 && rest.ids[1] == 257 && rest.ids[2] == 264);
    token_list_deinit(&rest);
    CHECK(g, "\xc3\xa9", false, 0xc3, 0xa9);
    CHECK(g, "b  b", false, 261, 265, 261);
    vocab_close(&f);
    vocab_close(&g);
}
END_TEST

START_TEST(spm_text_never_becomes_a_control_token)
{
    struct vocab_spec bare = spm;
    bare.add_space_prefix = 1;
    struct vocab_file f = open_ok(&bare);
    CHECK(f, "<s>", false, 266, 269);
    CHECK(f, "<0x41>", false, 267, 0x30, 0x78, 0x34, 0x31, 269);
    vocab_close(&f);
}
END_TEST

START_TEST(spm_text_comes_back)
{
    struct vocab_file f = open_ok(&spm);
    struct rng r;
    rng_seed(&r, 5);
    check_round_trip(f.tokenizer, STR(" two  spaces \n\xe4\xb8\xad"), STR(" two  spaces \n\xe4\xb8\xad"));
    for (int round = 0; round < 200; round++) {
        char text[120];
        for (size_t i = 0; i < sizeof text; i++) text[i] = "ab <s>\nxy\xff"[rng_next(&r) % 9];
        check_round_trip(f.tokenizer, (struct str){text, sizeof text}, (struct str){text, sizeof text});
    }
    vocab_close(&f);
}
END_TEST

START_TEST(html_tags_of_gemma_do_not_end_a_generation)
{
    static const struct vocab_token tags[] = {
        {"<s>", TOKEN_USER_DEFINED, 0}, {"</s>", TOKEN_USER_DEFINED, 0}, {"<eos>", TOKEN_CONTROL, 0}};
    struct vocab_spec s = {.model = "llama", .byte_tokens = true, .tokens = tags, .n_tokens = 3, .eos = 259};
    struct vocab_file f = open_ok(&s), g = open_ok(&spm);
    ck_assert(!tokenizer_is_eog(f.tokenizer, 257) && tokenizer_is_eog(f.tokenizer, 258) &&
              tokenizer_is_eog(g.tokenizer, 258));
    CHECK(f, "</s>", false, 257);
    vocab_close(&f);
    vocab_close(&g);
}
END_TEST

START_TEST(phi3_tokens_swallow_white_space_behind_them)
{
    struct vocab_spec s = spm;
    s.name = "Phi-3 mini";
    s.add_space_prefix = 1;
    struct vocab_file f = open_ok(&s);
    CHECK(f, "<tag> \n a", false, 270, 260);
    CHECK(f, "<s> a", true, 257, 264);
    vocab_close(&f);
}
END_TEST

START_TEST(gemma4_looks_newlines_up_whole_and_merges_lines)
{
    static const struct vocab_token tokens[] = {
        {M, 0, 0},        {"a", 0, 0},        {M "a", 0, 0},       {"\n", 0, 0},
        {"\n\n\n", 0, 0}, {"\xc3\xa9", 0, 0}, {"a\xc3\xa9", 0, 0}, {"<bos>", TOKEN_CONTROL, 0}};
    static const char *const merges[] = {M " a", "a \xc3\xa9"};
    struct vocab_spec s = {.model = "gemma4",
                           .byte_tokens = true,
                           .tokens = tokens,
                           .n_tokens = COUNT(tokens),
                           .merges = merges,
                           .n_merges = 2,
                           .bos = 264,
                           .add_bos = 1};
    struct vocab_file f = open_ok(&s);
    struct tokenizer_info info;
    tokenizer_info_get(f.tokenizer, &info);
    ck_assert(info.add_bos);
    ck_assert_str_eq(info.kind, "GEMMA4");
    CHECK(f, "a a", false, 257, 258);
    CHECK(f, "a\n\n\na", false, 257, 260, 257);
    CHECK(f, "\n\n", false, 259, 259);
    CHECK(f,
          "a\xc3\xa9"
          "b\xff",
          false, 262, 0x62, 0xff);
    check_round_trip(f.tokenizer, STR(" a  \n\nx"), STR(" a  \n\nx"));
    vocab_close(&f);
}
END_TEST

START_TEST(wpm_cleans_cuts_and_covers_words)
{
    static const struct vocab_token tokens[] = {{"[PAD]", TOKEN_CONTROL, 0},
                                                {"[UNK]", TOKEN_CONTROL, 0},
                                                {"[CLS]", TOKEN_CONTROL, 0},
                                                {"[SEP]", TOKEN_CONTROL, 0},
                                                {M "cafe", 0, 0},
                                                {M "un", 0, 0},
                                                {"able", 0, 0},
                                                {M "!", 0, 0},
                                                {M "\xe4\xb8\xad", 0, 0},
                                                {M "\xe1\x84\x92", 0, 0},
                                                {"\xe1\x85\xa1", 0, 0},
                                                {"\xe1\x86\xab", 0, 0}};
    struct vocab_spec s = {.model = "bert", .tokens = tokens, .n_tokens = COUNT(tokens), .unk = 2, .bos = 3, .eos = 4};
    struct vocab_file f = open_ok(&s);
    CHECK(f, "Caf\xc3\xa9 UNABLE!", false, 4, 5, 6, 7);
    CHECK(f,
          "cafe\xe4\xb8\xad"
          "cafe",
          false, 4, 8, 4);
    CHECK(f, "unknown un", false, 1, 5);
    CHECK(f, "\xed\x95\x9c", false, 9, 10, 11); /* a Hangul syllable in its letters */
    CHECK(f,
          "ca\xc2\xad"
          "fe\xcc\x81 [CLS]",
          true, 4, 2);
    vocab_close(&f);
}
END_TEST

static const struct vocab_token ugm_tokens[] = {{"<pad>", TOKEN_CONTROL, 0},
                                                {"</s>", TOKEN_CONTROL, 0},
                                                {"<unk>", TOKEN_UNKNOWN, 0},
                                                {M, 0, -2},
                                                {"a", 0, -3},
                                                {"b", 0, -3},
                                                {"ab", 0, -7},
                                                {M "a", 0, -1},
                                                {"bb", 0, -4},
                                                {"<x>", TOKEN_USER_DEFINED, 0}};

START_TEST(ugm_finds_the_best_sum_and_joins_unknown_characters)
{
    struct vocab_spec s = {.model = "t5",
                           .tokens = ugm_tokens,
                           .n_tokens = COUNT(ugm_tokens),
                           .add_space_prefix = 2,
                           .remove_extra_spaces = 2};
    struct vocab_file f = open_ok(&s);
    CHECK(f, "ab", false, 7, 5); /* -1 -3 beats -2 -7 */
    CHECK(f, "abb", false, 7, 8);
    CHECK(f, "  a   b ", false, 7, 3, 5);
    CHECK(f, "a\xe4\xb8\xad\xe6\x96\x87", false, 7, 2);
    check_round_trip(f.tokenizer, STR("a bb"), STR("a bb"));
    vocab_close(&f);
}
END_TEST

/* A double array that turns "A" into "a" and "Z" into nothing that lies inside. */
static void make_charsmap(char out[4 + 0x200 * 4 + 2])
{
    uint32_t size = 0x200 * 4, units[0x200] = {[0] = 0x100u << 10};
    units[0x100 ^ 'A'] = 'A' | 1u << 8 | 0x80u << 10;
    units[0x100 ^ 'A' ^ 0x80] = 0;
    units[0x100 ^ 'Z'] = 'Z' | 1u << 8 | 0x80u << 10;
    units[0x100 ^ 'Z' ^ 0x80] = 0x7ffffff;
    memcpy(out, &size, 4);
    memcpy(out + 4, units, sizeof units);
    memcpy(out + 4 + sizeof units, "a", 2);
}

START_TEST(ugm_normalises_with_the_files_map_and_distrusts_it)
{
    char map[4 + 0x200 * 4 + 2];
    struct rng r;
    struct err e;
    make_charsmap(map);
    struct vocab_spec s = {.model = "t5",
                           .tokens = ugm_tokens,
                           .n_tokens = COUNT(ugm_tokens),
                           .add_space_prefix = 2,
                           .charsmap = {map, sizeof map}};
    struct vocab_file f = open_ok(&s);
    CHECK(f, "AAb", false, 7, 4, 5);
    CHECK(f, "aZ", false, 7, 2);
    vocab_close(&f);
    rng_seed(&r, 6);
    for (int round = 0; round < 100; round++) {
        struct token_list ids;
        for (size_t i = 4; i < sizeof map; i++) map[i] = (char)rng_next(&r);
        f = open_ok(&s);
        token_list_init(&ids, 1000);
        ck_assert(tokenizer_encode(f.tokenizer, &ids, STR("Any text, any \xff map"), false, NULL, 0, &e));
        token_list_deinit(&ids);
        vocab_close(&f);
    }
    memset(map, 0xff, 4);
    f = vocab_open_spec(&s, &e);
    ck_assert(!f.tokenizer && strstr(e.msg, "precompiled_charsmap"));
    vocab_close(&f);
}
END_TEST

void add_other_tests(TCase *tc)
{
    tcase_add_test(tc, spm_joins_the_best_score_first_and_falls_back_to_bytes);
    tcase_add_test(tc, spm_puts_a_space_in_front_and_after_special_tokens);
    tcase_add_test(tc, spm_text_never_becomes_a_control_token);
    tcase_add_test(tc, spm_text_comes_back);
    tcase_add_test(tc, html_tags_of_gemma_do_not_end_a_generation);
    tcase_add_test(tc, phi3_tokens_swallow_white_space_behind_them);
    tcase_add_test(tc, gemma4_looks_newlines_up_whole_and_merges_lines);
    tcase_add_test(tc, wpm_cleans_cuts_and_covers_words);
    tcase_add_test(tc, ugm_finds_the_best_sum_and_joins_unknown_characters);
    tcase_add_test(tc, ugm_normalises_with_the_files_map_and_distrusts_it);
}
