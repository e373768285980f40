/* Byte-level BPE, special tokens, endings and the streaming decoder. */
#include "base/alloc.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "unit.h"
#include "vocab_writer.h"

static const struct vocab_token tokens[] = {
    {"he", 0, 0},                        /* 256 */
    {"ll", 0, 0},                        /* 257 */
    {"hell", 0, 0},                      /* 258 */
    {"hello", 0, 0},                     /* 259 */
    {"\xc4\xa0w", 0, 0},                 /* 260, " w" */
    {"aa", 0, 0},                        /* 261 */
    {"aaaa", 0, 0},                      /* 262 */
    {"lo", 0, 0},                        /* 263 */
    {"whole", 0, 0},                     /* 264: no merges give it */
    {"<|im_end|>", TOKEN_CONTROL, 0},    /* 265 */
    {"<|im_end|>x", TOKEN_CONTROL, 0},   /* 266 */
    {"<tool>", TOKEN_USER_DEFINED, 0},   /* 267 */
    {"<|endoftext|>", TOKEN_CONTROL, 0}, /* 268 */
    {"<|file_sep|>", TOKEN_NORMAL, 0},   /* 269 */
    {"<s>", TOKEN_CONTROL, 0},           /* 270 */
};
static const char *const merges[] = {"h e", "l l",   "he ll", "hell o", "\xc4\xa0 w",
                                     "a a", "aa aa", "l o",   "q z",    "qz q"};

static struct vocab_file open_bpe(const char *pre)
{
    struct vocab_spec s = {.model = "gpt2",
                           .pre = pre,
                           .byte_tokens = true,
                           .tokens = tokens,
                           .n_tokens = COUNT(tokens),
                           .merges = merges,
                           .n_merges = COUNT(merges),
                           .bos = 271,
                           .eos = 266};
    struct err e = {0};
    struct vocab_file f = vocab_open_spec(&s, &e);
    ck_assert_msg(f.tokenizer != NULL, "%s", e.msg);
    return f;
}

static void check_ids(const struct tokenizer *t, struct str text, bool control, const struct text_span *span,
                      size_t n_spans, const uint32_t *ids, size_t n)
{
    struct token_list got;
    struct err e = {0};
    token_list_init(&got, 1000);
    ck_assert_msg(tokenizer_encode(t, &got, text, control, span, n_spans, &e), "%s", e.msg);
    ck_assert_uint_eq(got.n, n);
    for (size_t i = 0; i < n; i++) ck_assert_uint_eq(got.ids[i], ids[i]);
    token_list_deinit(&got);
}
#define CHECK(t, text, control, ...) \
    check_ids(t, STR(text), control, NULL, 0, (const uint32_t[]){__VA_ARGS__}, COUNT(((const uint32_t[]){__VA_ARGS__})))

START_TEST(merges_go_by_rank_then_from_the_left)
{
    struct vocab_file f = open_bpe("gpt-2");
    CHECK(f.tokenizer, "hello", false, 259);
    CHECK(f.tokenizer, "hello w", false, 259, 260);
    CHECK(f.tokenizer, "hllo", false, 'h', 257, 'o');
    CHECK(f.tokenizer, "aaa", false, 261, 'a');
    CHECK(f.tokenizer, "aaaaa", false, 262, 'a');
    vocab_close(&f);
}
END_TEST

START_TEST(a_token_that_merges_do_not_give_is_taken_only_where_the_model_says_so)
{
    struct vocab_file f = open_bpe("gpt-2"), whole = open_bpe("llama-bpe");
    CHECK(f.tokenizer, "whole", false, 'w', 'h', 'o', 'l', 'e');
    CHECK(whole.tokenizer, "whole", false, 264);
    vocab_close(&f);
    vocab_close(&whole);
}
END_TEST

START_TEST(steps_that_are_no_tokens_fall_apart_into_bytes)
{
    struct vocab_file f = open_bpe("gpt-2");
    CHECK(f.tokenizer, "qzq", false, 'q', 'z', 'q');
    vocab_close(&f);
}
END_TEST

START_TEST(long_pieces_merge_like_short_ones)
{
    struct vocab_file f = open_bpe("gpt-2");
    struct rng r;
    rng_seed(&r, 3);
    for (int round = 0; round < 200; round++) {
        char text[200];
        uint32_t ids[200];
        size_t n = 41 + rng_next(&r) % 150, count = 0;
        for (size_t i = 0; i < n; i++) text[i] = "hela"[rng_next(&r) % 4];
        for (size_t i = 0; i < n; i++) ids[count++] = (unsigned char)text[i];
        for (;;) { /* the definition, without any cleverness */
            static const uint32_t rules[][3] = {
                {'h', 'e', 256}, {'l', 'l', 257}, {256, 257, 258}, {'a', 'a', 261}, {261, 261, 262}};
            size_t best = COUNT(rules), at = 0;
            for (size_t i = 0; i + 1 < count; i++)
                for (size_t k = 0; k < best; k++)
                    if (ids[i] == rules[k][0] && ids[i + 1] == rules[k][1]) best = k, at = i;
            if (best == COUNT(rules)) break;
            ids[at] = rules[best][2];
            memmove(&ids[at + 1], &ids[at + 2], (--count - at - 1) * sizeof *ids);
        }
        check_ids(f.tokenizer, (struct str){text, n}, false, NULL, 0, ids, count);
    }
    vocab_close(&f);
}
END_TEST

START_TEST(control_tokens_match_only_on_request_and_outside_of_client_text)
{
    struct vocab_file f = open_bpe("gpt-2");
    CHECK(f.tokenizer, "a<|im_end|>", true, 'a', 265);
    CHECK(f.tokenizer, "<|im_end|>x", true, 266);
    CHECK(f.tokenizer, "<s>", false, '<', 's', '>');
    CHECK(f.tokenizer, "<tool>", false, 267);
    struct text_span one = {1, 4};
    check_ids(f.tokenizer, STR("a<s><tool>"), true, &one, 1, (const uint32_t[]){'a', '<', 's', '>', 267}, 5);
    struct text_span spans[] = {{0, 1}, {2, 3}, {4, 9}};
    check_ids(f.tokenizer, STR("<s><s><s>"), true, spans, 3,
              (const uint32_t[]){'<', 's', '>', '<', 's', '>', '<', 's', '>'}, 9);
    check_ids(f.tokenizer, STR("<s><s>"), true, spans, 2, (const uint32_t[]){'<', 's', '>', 270}, 4);
    /* A shorter token may stand in the template where the longer one would reach into client text. */
    struct text_span tail = {10, 11};
    check_ids(f.tokenizer, STR("<|im_end|>x"), true, &tail, 1, (const uint32_t[]){265, 'x'}, 2);
    vocab_close(&f);
}
END_TEST

START_TEST(endings_are_known_by_text_and_by_metadata)
{
    struct vocab_file f = open_bpe("gpt-2");
    struct tokenizer_info info;
    tokenizer_info_get(f.tokenizer, &info);
    ck_assert(tokenizer_is_eog(f.tokenizer, 265) && tokenizer_is_eog(f.tokenizer, 268) &&
              tokenizer_is_eog(f.tokenizer, 269));
    ck_assert(!tokenizer_is_eog(f.tokenizer, 267) && !tokenizer_is_eog(f.tokenizer, 270));
    ck_assert_int_eq(tokenizer_attr(f.tokenizer, 269), TOKEN_CONTROL);
    ck_assert_uint_eq(info.eot, 265);
    ck_assert_uint_eq(info.eos, 265);
    ck_assert(info.pre_known && !info.add_bos);
    ck_assert_str_eq(info.kind, "BPE");
    vocab_close(&f);
}
END_TEST

START_TEST(harmony_ends_a_turn_with_return_or_call_but_not_with_end)
{
    static const struct vocab_token harmony[] = {{"<|end|>", TOKEN_CONTROL, 0},
                                                 {"<|return|>", TOKEN_CONTROL, 0},
                                                 {"<|call|>", TOKEN_CONTROL, 0},
                                                 {"<|start|>", TOKEN_CONTROL, 0}};
    struct vocab_spec s = {
        .model = "gpt2", .pre = "gpt-4o", .byte_tokens = true, .tokens = harmony, .n_tokens = 4, .merges = merges};
    struct err e = {0};
    struct vocab_file f = vocab_open_spec(&s, &e);
    struct buf out;
    buf_init(&out, 100);
    ck_assert_ptr_nonnull(f.tokenizer);
    ck_assert(!tokenizer_is_eog(f.tokenizer, 256) && tokenizer_is_eog(f.tokenizer, 257) &&
              tokenizer_is_eog(f.tokenizer, 258));
    ck_assert(tokenizer_piece(f.tokenizer, &out, 259, false) && tokenizer_piece(f.tokenizer, &out, 257, false));
    ck_assert(str_eq(buf_str(&out), STR("<|start|>")));
    CHECK(f.tokenizer, "<|start|>", true, 259);
    CHECK(f.tokenizer, "<|end|>", false, '<', '|', 'e', 'n', 'd', '|', '>');
    buf_deinit(&out);
    vocab_close(&f);
}
END_TEST

START_TEST(an_unknown_splitter_falls_back_and_says_so)
{
    struct vocab_file f = open_bpe("from-the-future"), none = open_bpe(NULL);
    struct tokenizer_info info;
    tokenizer_info_get(f.tokenizer, &info);
    ck_assert(!info.pre_known && str_eq(info.pre, STR("from-the-future")));
    tokenizer_info_get(none.tokenizer, &info);
    ck_assert(!info.pre_known && str_eq(info.pre, STR("default")));
    vocab_close(&f);
    vocab_close(&none);
}
END_TEST

START_TEST(bos_is_never_doubled)
{
    struct vocab_file f = open_bpe("llama-bpe");
    struct token_list ids;
    struct err e;
    token_list_init(&ids, 3);
    ck_assert(tokenizer_encode(f.tokenizer, &ids, STR("x"), true, NULL, 0, &e));
    ck_assert(tokenizer_add_special(f.tokenizer, &ids, &e) && tokenizer_add_special(f.tokenizer, &ids, &e));
    ck_assert_uint_eq(ids.n, 2);
    ck_assert_uint_eq(ids.ids[0], 270);
    ck_assert(token_list_append(&ids, 1, &e) && !token_list_append(&ids, 1, &e));
    ck_assert_int_eq(e.kind, ERR_TOO_LARGE);
    token_list_deinit(&ids);
    vocab_close(&f);
}
END_TEST

START_TEST(random_texts_come_back_and_streams_never_hold_half_a_character)
{
    struct vocab_file f = open_bpe("qwen2");
    struct rng r;
    rng_seed(&r, 4);
    for (int round = 0; round < 300; round++) {
        struct buf text, whole, stream;
        struct token_list ids;
        struct detokenizer d = {0};
        struct err e;
        buf_init(&text, 4096);
        buf_init(&whole, 4096);
        buf_init(&stream, 4096);
        token_list_init(&ids, 4096);
        for (int i = 0; i < 60; i++) {
            uint32_t max = rng_next(&r) % 3 ? 0x80 : 0x110000, c = (uint32_t)(rng_next(&r) % max);
            (void)buf_append_utf8(&text, c >= 0xd800 && c < 0xe000 ? ' ' : c);
        }
        ck_assert(tokenizer_encode(f.tokenizer, &ids, buf_str(&text), false, NULL, 0, &e));
        ck_assert(tokenizer_decode(f.tokenizer, &whole, ids.ids, ids.n, true));
        ck_assert(str_eq(buf_str(&whole), buf_str(&text)));
        for (size_t i = 0; i < ids.n; i++) {
            ck_assert(detokenizer_feed(&d, f.tokenizer, &stream, ids.ids[i], true));
            ck_assert(utf8_valid(buf_str(&stream)));
        }
        ck_assert(detokenizer_finish(&d, &stream) && str_eq(buf_str(&stream), buf_str(&text)));
        buf_deinit(&text);
        buf_deinit(&whole);
        buf_deinit(&stream);
        token_list_deinit(&ids);
    }
    vocab_close(&f);
}
END_TEST

START_TEST(bytes_that_are_no_text_are_kept_and_read_as_replacements)
{
    struct vocab_file f = open_bpe("llama-bpe");
    struct buf out;
    buf_init(&out, 100);
    CHECK(f.tokenizer,
          "a\xff\xe4\xb8"
          "b",
          false, 'a', 0xff, 0xe4, 0xb8, 'b');
    ck_assert(tokenizer_decode(f.tokenizer, &out,
                               (const uint32_t[]){0xe4, 0xb8, 0xe4, 0xb8, 0xad, 0xff, 'b', 0xf0, 0x9f}, 9, true));
    ck_assert(str_eq(buf_str(&out), STR("\xef\xbf\xbd\xe4\xb8\xad\xef\xbf\xbd"
                                        "b\xef\xbf\xbd")));
    ck_assert(!tokenizer_piece(f.tokenizer, &out, 100000, true));
    buf_deinit(&out);
    vocab_close(&f);
}
END_TEST

START_TEST(tokens_are_found_by_their_vocabulary_text)
{
    struct vocab_file f = open_bpe("gpt-2");
    for (uint32_t id = 0; id < tokenizer_size(f.tokenizer); id++)
        ck_assert_uint_eq(tokenizer_find(f.tokenizer, tokenizer_text(f.tokenizer, id)), id);
    ck_assert_uint_eq(tokenizer_find(f.tokenizer, STR("nothing")), TOKEN_NONE);
    ck_assert_uint_eq(tokenizer_find(f.tokenizer, STR("")), TOKEN_NONE);
    ck_assert_ptr_null(tokenizer_text(f.tokenizer, 1u << 30).ptr);
    vocab_close(&f);
}
END_TEST

START_TEST(a_megabyte_of_anything_is_quick)
{
    struct vocab_file f = open_bpe("superbpe"); /* the whole text is one piece */
    size_t n = (size_t)1 << 20;
    char *text = mem_alloc(n);
    for (size_t i = 0; i < n; i++) text[i] = "hello w"[i % 7];
    struct token_list ids;
    struct err e;
    token_list_init(&ids, n);
    ck_assert(tokenizer_encode(f.tokenizer, &ids, (struct str){text, n}, false, NULL, 0, &e));
    ck_assert_uint_gt(ids.n, n / 8);
    token_list_deinit(&ids);
    mem_free(text);
    vocab_close(&f);
}
END_TEST

START_TEST(damaged_vocabularies_are_refused_with_a_reason)
{
    struct vocab_spec s = {.model = "gpt2", .byte_tokens = true};
    struct err e = {0};
    struct vocab_file f = vocab_open_spec(&s, &e);
    ck_assert(!f.tokenizer && strstr(e.msg, "tokenizer.ggml.merges"));
    vocab_close(&f);
    s = (struct vocab_spec){.model = "abacus"};
    f = vocab_open_spec(&s, &e);
    ck_assert(!f.tokenizer && strstr(e.msg, "abacus"));
    vocab_close(&f);
    s = (struct vocab_spec){.model = "llama"};
    f = vocab_open_spec(&s, &e);
    ck_assert(!f.tokenizer && strstr(e.msg, "tokenizer.ggml.tokens"));
    vocab_close(&f);
}
END_TEST

static void add_bpe_tests(TCase *tc)
{
    tcase_add_test(tc, merges_go_by_rank_then_from_the_left);
    tcase_add_test(tc, a_token_that_merges_do_not_give_is_taken_only_where_the_model_says_so);
    tcase_add_test(tc, steps_that_are_no_tokens_fall_apart_into_bytes);
    tcase_add_test(tc, long_pieces_merge_like_short_ones);
    tcase_add_test(tc, control_tokens_match_only_on_request_and_outside_of_client_text);
    tcase_add_test(tc, endings_are_known_by_text_and_by_metadata);
    tcase_add_test(tc, harmony_ends_a_turn_with_return_or_call_but_not_with_end);
    tcase_add_test(tc, an_unknown_splitter_falls_back_and_says_so);
    tcase_add_test(tc, bos_is_never_doubled);
    tcase_add_test(tc, random_texts_come_back_and_streams_never_hold_half_a_character);
    tcase_add_test(tc, bytes_that_are_no_text_are_kept_and_read_as_replacements);
    tcase_add_test(tc, tokens_are_found_by_their_vocabulary_text);
    tcase_add_test(tc, a_megabyte_of_anything_is_quick);
    tcase_add_test(tc, damaged_vocabularies_are_refused_with_a_reason);
}

void add_split_tests(TCase *tc);
void add_other_tests(TCase *tc);

UNIT_MAIN("tokenizer", add_bpe_tests, add_split_tests, add_other_tests)
