/* Unit tests of grammar, tokens: masks equal checks, rollback, clones, forced text, control tokens. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "grammar/grammar.h"
#include "unit.h"

void add_matcher_tests(TCase *tc);

enum { N_WORDS = 36, N = 256 + N_WORDS + 2, END = N - 2, CONTROL = N - 1 };

static struct grammar_vocab *small_vocab(void)
{
    static char bytes[256];
    static const char *const words[N_WORDS] = {
        "{\"",    "\":",       "\": \"", "\",",   "\"}",      "\", \"",  "name",       "true",       "false",
        "null",   "12",        "123",    "}}",    "]}",       "\\u00",   "\\n",        "\xc3\xa9",   "hello",
        " world", "[]",        "{}",     "  ",    "\n  ",     "age",     "me\": ",     "e\":",       "a\",\"",
        "\"na",   "\"name\":", "\n \"a", " \"\"", "x\": {\"", "\\\"\":", "\\u0061\":", "b\"}, {\"a", "\n\"}"};
    struct str texts[N];
    bool ends[N] = {false};
    for (int i = 0; i < 256; i++) bytes[i] = (char)i, texts[i] = (struct str){bytes + i, 1};
    for (int i = 0; i < N_WORDS; i++) texts[256 + i] = str_from(words[i]);
    texts[END] = texts[CONTROL] = STR_NONE;
    ends[END] = true;
    struct grammar_vocab *v = grammar_vocab_from_texts(texts, ends, N, NULL);
    ck_assert_ptr_nonnull(v);
    return v;
}

static struct grammar *compile(const char *schema, uint32_t max_space)
{
    struct grammar_options o;
    struct err e = {0};
    grammar_options_init(&o);
    o.max_space = max_space;
    struct grammar *g = grammar_from_schema(str_from(schema), &o, &e);
    ck_assert_msg(g != NULL, "%s", e.msg);
    return g;
}

static const char *const schemas[] = {
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\","
    "\"maxLength\":6},\"age\":{\"type\":\"integer\",\"minimum\":10,\"maximum\":130}},"
    "\"required\":[\"name\",\"age\"],\"additionalProperties\":false}",
    "{\"anyOf\":[{\"type\":\"string\",\"pattern\":\"^h[a-z]{2,4}o$\"},{\"type\":"
    "\"array\",\"items\":{\"type\":\"boolean\"},\"maxItems\":3},{\"const\":12.5}]}",
    "{\"type\":\"object\",\"patternProperties\":{\"^[ab]$\":{\"type\":\"null\"}},"
    "\"additionalProperties\":false,\"minProperties\":1}",
    "{\"type\":\"number\",\"exclusiveMinimum\":0,\"exclusiveMaximum\":0.001}",
    "{\"type\":\"array\",\"items\":{\"enum\":[\"a\",\"ab\",\"b\",12]},\"contains\":{"
    "\"const\":12},\"minItems\":2,\"maxItems\":4}",
    "{\"type\":\"string\",\"minLength\":2,\"maxLength\":4,\"pattern\":\"\\\\n\"}",
    /* many readings at once, keys that only patterns tell apart, values that are used */
    "{\"type\":\"object\",\"oneOf\":[{\"properties\":{\"a\":{\"type\":\"integer\"}},\"required\":"
    "[\"a\"]},{\"properties\":{\"ab\":{\"type\":\"null\"},\"b\":{\"const\":1}},\"required\":[\"ab\","
    "\"b\"]},{\"required\":[\"age\"]}]}",
    "{\"type\":\"object\",\"patternProperties\":{\"a\":{\"type\":\"integer\"},\"e$\":{\"maximum\":99}},"
    "\"properties\":{\"name\":false},\"maxProperties\":3}",
    "{\"type\":\"array\",\"uniqueItems\":true,\"items\":{\"enum\":[\"a\",\"ab\",12,123,true,null]},"
    "\"minItems\":4}",
    "{\"type\":\"integer\",\"minimum\":-40,\"maximum\":400,\"not\":{\"anyOf\":[{\"multipleOf\":2},{"
    "\"multipleOf\":3},{\"const\":5}]}}",
    "{\"type\":\"object\",\"propertyNames\":{\"pattern\":\"^(a|b|h.*)$\"},"
    "\"additionalProperties\":{\"type\":\"string\",\"maxLength\":300}}",
    /* keys and strings that take every text, known keys among them */
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},\"a\":{\"type\":\"integer\"},\"\":{\"const\":"
    "null},\"\\\"\":{\"type\":\"boolean\"}},\"required\":[\"name\"]}",
    "{\"type\":\"array\",\"items\":{\"type\":\"object\",\"maxProperties\":3,\"properties\":{\"ab\":{\"enum\":[\"a\","
    "\"ab\",1]},\"na\":{}},\"additionalProperties\":{\"type\":[\"string\",\"object\"]}},\"maxItems\":3}",
    "{\"type\":\"object\",\"required\":[\"a\",\"b\"],\"maxProperties\":2,\"additionalProperties\":{\"type\":\"array\","
    "\"uniqueItems\":true,\"items\":{\"type\":[\"string\",\"number\",\"object\"]}}}",
    "{}"};

START_TEST(the_mask_is_the_set_of_accepted_tokens)
{
    struct grammar_vocab *v = small_vocab();
    struct grammar *g = compile(schemas[_i], _i % 2 ? 20 : 2);
    uint32_t bits[GRAMMAR_MASK_WORDS(N)];
    struct rng rng;
    rng_seed(&rng, (uint64_t)_i + 1);
    for (int round = 0; round < 30; round++) {
        struct grammar_matcher *m = grammar_matcher_create(g, v, NULL);
        struct buf text;
        buf_init(&text, 10000);
        ck_assert_ptr_nonnull(m);
        for (int step = 0; step < 200; step++) {
            size_t n = grammar_matcher_mask(m, bits), k;
            uint32_t token = 0;
            ck_assert_msg(n > 0, "dead end after %.*s", STR_ARG(buf_str(&text)));
            for (uint32_t i = 0; i < N; i++)
                ck_assert_msg(grammar_matcher_check(m, i) == (bits[i / 32] >> (i % 32) & 1), "token %u after %.*s", i,
                              STR_ARG(buf_str(&text)));
            ck_assert(!(bits[CONTROL / 32] >> (CONTROL % 32) & 1));
            if (bits[END / 32] >> (END % 32) & 1) token = END;
            else
                for (k = rng_next(&rng) % n;; token++)
                    if ((bits[token / 32] >> (token % 32) & 1) && k-- == 0) break;
            ck_assert(grammar_matcher_accept(m, token));
            if (token == END) break;
            if (token < 256) buf_append_char(&text, (char)token);
            else buf_append(&text, STR("?"));
        }
        buf_deinit(&text);
        grammar_matcher_destroy(m);
    }
    grammar_unref(g);
    grammar_vocab_destroy(v);
}
END_TEST

START_TEST(a_mask_with_a_bound_is_the_mask_or_given_up)
{
    struct grammar_vocab *v = small_vocab();
    struct grammar *g = compile(schemas[_i], 2);
    struct grammar_matcher *m = grammar_matcher_create(g, v, NULL);
    uint32_t bounded[GRAMMAR_MASK_WORDS(N)], whole[GRAMMAR_MASK_WORDS(N)];
    size_t n, all;
    ck_assert(!grammar_matcher_mask_within(m, bounded, &n, 3));
    ck_assert(grammar_matcher_mask_within(m, bounded, &n, GRAMMAR_MASK_WORK));
    all = grammar_matcher_mask(m, whole);
    ck_assert_uint_eq(n, all);
    ck_assert_mem_eq(bounded, whole, sizeof whole);
    grammar_matcher_destroy(m);
    grammar_unref(g);
    grammar_vocab_destroy(v);
}
END_TEST

START_TEST(what_a_bound_finds_is_some_of_the_mask)
{
    struct grammar_vocab *v = small_vocab();
    struct grammar *g = compile(schemas[_i], 2);
    struct grammar_matcher *m = grammar_matcher_create(g, v, NULL);
    uint32_t some[GRAMMAR_MASK_WORDS(N)], whole[GRAMMAR_MASK_WORDS(N)];
    size_t n, counted = 0, work = 1;
    for (; !grammar_matcher_mask_within(m, some, &n, work); work++, counted = 0) {
        for (uint32_t i = 0; i < N; i++) counted += some[i / 32] >> (i % 32) & 1;
        ck_assert_uint_eq(counted, n);
    }
    grammar_matcher_mask(m, whole);
    ck_assert_mem_eq(some, whole, sizeof whole);
    ck_assert_uint_gt(work, 3);
    grammar_matcher_destroy(m);
    grammar_unref(g);
    grammar_vocab_destroy(v);
}
END_TEST

/* Whatever is written first, what it has to hold fits in: the last characters are those that are missing. */
START_TEST(patterns_that_must_meet_in_a_length_are_never_missed)
{
    struct grammar_vocab *v = small_vocab();
    struct grammar *g = compile("{\"allOf\":[{\"pattern\":\"ab1\"},{\"pattern\":\"c12\"},{\"pattern\":\"^\\\\w*$\"},"
                                "{\"not\":{\"pattern\":\"aa|1c\"}}],\"type\":\"string\",\"minLength\":30,"
                                "\"maxLength\":30}",
                                0);
    uint32_t bits[GRAMMAR_MASK_WORDS(N)];
    struct rng rng;
    rng_seed(&rng, 7);
    for (int round = 0; round < 10; round++) {
        struct grammar_matcher *m = grammar_matcher_create(g, v, NULL);
        ck_assert_ptr_nonnull(m);
        for (uint32_t token = 0; token != END;) {
            size_t n = grammar_matcher_mask(m, bits), k;
            ck_assert_uint_gt(n, 0);
            for (k = rng_next(&rng) % n, token = 0;; token++)
                if ((bits[token / 32] >> (token % 32) & 1) && k-- == 0) break;
            ck_assert(grammar_matcher_accept(m, token));
        }
        grammar_matcher_destroy(m);
    }
    grammar_unref(g);
    grammar_vocab_destroy(v);
}
END_TEST

/* 300 shapes of objects, each with its own constant: as many readings as long as the constant is not written. */
START_TEST(a_large_union_has_short_masks)
{
    struct grammar_vocab *v = small_vocab();
    uint32_t bits[GRAMMAR_MASK_WORDS(N)];
    struct buf s;
    buf_init(&s, 1 << 20);
    buf_append(&s, STR("{\"anyOf\":["));
    for (int i = 0; i < 300; i++)
        buf_printf(&s,
                   "%s{\"type\":\"object\",\"properties\":{\"kind\":{\"const\":\"k%d\"},\"v%d\":{\"type\":\"string\"}},"
                   "\"required\":[\"kind\"]}",
                   i ? "," : "", i, i % 7);
    buf_append(&s, STR("]}"));
    struct grammar *g = compile(s.ptr, 2);
    struct grammar_matcher *m = grammar_matcher_create(g, v, NULL);
    static const char *const parts[] = {"{\"", "v3", "\": ", "\"some text", "\", \"", "kind\":\"", "k29", "9\"}"};
    double t = clock_seconds();
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        ck_assert_uint_gt(grammar_matcher_mask(m, bits), 0);
        ck_assert_msg(grammar_matcher_feed(m, str_from(parts[i])), "%s", parts[i]);
    }
    ck_assert(grammar_matcher_ended(m));
    ck_assert_msg(clock_seconds() - t < 5, "%.2f s", clock_seconds() - t); /* 0.02 s on a free machine */
    grammar_matcher_destroy(m);
    grammar_unref(g);
    grammar_vocab_destroy(v);
    buf_deinit(&s);
}
END_TEST

START_TEST(every_number_of_a_range_can_be_written)
{
    static const struct {
        const char *schema;
        int lo, hi, step;
    } cases[] = {{"{\"type\":\"integer\",\"minimum\":10,\"maximum\":130}", 10, 130, 1},
                 {"{\"type\":\"integer\",\"exclusiveMinimum\":-121,\"exclusiveMaximum\":7}", -120, 6, 1},
                 {"{\"type\":\"integer\",\"minimum\":-30,\"maximum\":1500,\"multipleOf\":7}", -28, 1498, 7},
                 {"{\"type\":\"number\",\"minimum\":95.5,\"maximum\":205}", 96, 205, 1}};
    struct grammar *g = compile(cases[_i].schema, 2);
    for (int n = -2000; n <= 2000; n++) {
        char text[16];
        struct grammar_matcher *m = grammar_matcher_create(g, NULL, NULL);
        snprintf(text, sizeof text, "%d", n);
        bool fits = grammar_matcher_feed(m, str_from(text)) && grammar_matcher_may_end(m);
        bool want = n >= cases[_i].lo && n <= cases[_i].hi && (n - cases[_i].lo) % cases[_i].step == 0;
        ck_assert_msg(fits == want, "%s: %d", cases[_i].schema, n);
        grammar_matcher_destroy(m);
    }
    grammar_unref(g);
}
END_TEST

START_TEST(rollback_returns_to_the_same_masks)
{
    struct grammar_vocab *v = small_vocab();
    struct grammar *g = compile(schemas[0], 2);
    struct grammar_matcher *m = grammar_matcher_create(g, v, NULL);
    uint32_t before[GRAMMAR_MASK_WORDS(N)], after[GRAMMAR_MASK_WORDS(N)];
    ck_assert(grammar_matcher_feed(m, STR("{\"name\":\"he")));
    grammar_matcher_mask(m, before);
    ck_assert(grammar_matcher_feed(m, STR("llo\"")));
    ck_assert(grammar_matcher_feed(m, STR(",\"age\":12")));
    ck_assert(!grammar_matcher_feed(m, STR("12}")));
    ck_assert(grammar_matcher_feed(m, STR("}")));
    ck_assert(grammar_matcher_ended(m));
    ck_assert(grammar_matcher_rollback(m, 3));
    grammar_matcher_mask(m, after);
    ck_assert_mem_eq(before, after, sizeof before);
    ck_assert(!grammar_matcher_rollback(m, 5));
    ck_assert(grammar_matcher_feed(m, STR("y\", \"age\": 13}")));
    grammar_matcher_destroy(m);
    grammar_unref(g);
    grammar_vocab_destroy(v);
}
END_TEST

START_TEST(a_clone_goes_its_own_way)
{
    struct grammar *g = compile(schemas[0], 2);
    struct grammar_matcher *m = grammar_matcher_create(g, NULL, NULL), *c;
    ck_assert(grammar_matcher_feed(m, STR("{\"age\":12")));
    c = grammar_matcher_clone(m);
    ck_assert(grammar_matcher_feed(m, STR(",\"name\":\"\"}")));
    ck_assert(!grammar_matcher_feed(c, STR(",\"age\":")));
    ck_assert(grammar_matcher_feed(c, STR("0,\"name\":\"abc\"}")));
    ck_assert(grammar_matcher_may_end(c));
    grammar_matcher_destroy(m);
    grammar_matcher_destroy(c);
    grammar_unref(g);
}
END_TEST

START_TEST(what_must_come_is_told)
{
    struct grammar *g = compile("{\"type\":\"object\",\"properties\":{\"kind\":{\"const\":\"circle\"},\"r\":{\"type\":"
                                "\"null\"}},\"required\":[\"kind\"],"
                                "\"additionalProperties\":false}",
                                0);
    struct grammar_matcher *m = grammar_matcher_create(g, NULL, NULL);
    struct buf b;
    buf_init(&b, 1000);
    ck_assert(grammar_matcher_forced(m, &b, 1000));
    ck_assert_str_eq(b.ptr, "{\"");
    ck_assert(grammar_matcher_feed(m, STR("{\"k")));
    buf_clear(&b);
    ck_assert(grammar_matcher_forced(m, &b, 1000));
    ck_assert_str_eq(b.ptr, "ind\":\"circle\"");
    buf_deinit(&b);
    grammar_matcher_destroy(m);
    grammar_unref(g);
}
END_TEST

START_TEST(white_space_cannot_run_away)
{
    struct grammar *g = compile("{\"type\":\"array\"}", 4);
    struct grammar_matcher *m = grammar_matcher_create(g, NULL, NULL);
    ck_assert(!grammar_matcher_feed(m, STR(" ")));
    ck_assert(grammar_matcher_feed(m, STR("[\n   ")));
    ck_assert(!grammar_matcher_feed(m, STR(" ")));
    ck_assert(grammar_matcher_feed(m, STR("1, 2]")));
    ck_assert(!grammar_matcher_feed(m, STR("\n")));
    grammar_matcher_destroy(m);
    grammar_unref(g);
}
END_TEST

START_TEST(the_cache_lends_each_grammar_once)
{
    struct grammar_cache *c = grammar_cache_create(10 << 20);
    struct grammar *g = compile("{}", 2);
    ck_assert_ptr_null(grammar_cache_take(c, STR("k")));
    grammar_cache_put(c, STR("k"), g);
    ck_assert_ptr_eq(grammar_cache_take(c, STR("k")), g);
    ck_assert_ptr_null(grammar_cache_take(c, STR("k")));
    grammar_cache_put(c, STR("k"), g);
    ck_assert_uint_gt(grammar_cache_memory(c), 0);
    grammar_cache_destroy(c);
}
END_TEST

void add_matcher_tests(TCase *tc)
{
    tcase_add_loop_test(tc, the_mask_is_the_set_of_accepted_tokens, 0, sizeof schemas / sizeof *schemas);
    tcase_add_loop_test(tc, a_mask_with_a_bound_is_the_mask_or_given_up, 0, sizeof schemas / sizeof *schemas);
    tcase_add_loop_test(tc, what_a_bound_finds_is_some_of_the_mask, 0, sizeof schemas / sizeof *schemas);
    tcase_add_test(tc, patterns_that_must_meet_in_a_length_are_never_missed);
    tcase_add_test(tc, a_large_union_has_short_masks);
    tcase_add_loop_test(tc, every_number_of_a_range_can_be_written, 0, 4);
    tcase_add_test(tc, rollback_returns_to_the_same_masks);
    tcase_add_test(tc, a_clone_goes_its_own_way);
    tcase_add_test(tc, what_must_come_is_told);
    tcase_add_test(tc, white_space_cannot_run_away);
    tcase_add_test(tc, the_cache_lends_each_grammar_once);
}
