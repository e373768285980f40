/* Unit tests of reasoning in messages of its own: counted over all of them, ended where the budget is used up, and not
 * begun again; with a grammar that describes such messages, and without. */
#include <string.h>

#include "base/log.h"
#include "base/rng.h"
#include "toy.h"
#include "unit.h"

unit_adder add_sections_tests;

static char bytes[256][2];
static const char *texts[TOY_VOCAB];
static const struct engine_config room = {
    .n_ctx = 1024, .n_parallel = 4, .n_batch = 64, .kv_bytes = 200 * TOY_PAGE_BYTES};
static const char messages[] = "root ::= (\"(think:\" [a-z ]* \")[\")* \"(say:\" [0-9]+ \")\"";

static void quiet(void)
{
    log_set_level(LOG_OFF);
    for (size_t i = 0; i < TOY_VOCAB; i++) texts[i] = "";
    for (size_t i = 1; i < 256; i++) bytes[i][0] = (char)i, texts[i] = bytes[i];
    texts[256] = "think";
    texts[257] = "(t";
    texts[258] = "a)";
}

static struct engine_reasoning sections(uint32_t budget)
{
    return (struct engine_reasoning){.start = STR("(think:"),
                                     .end = STR(")"),
                                     .close = STR(")["),
                                     .has_budget = budget != UINT32_MAX,
                                     .budget = budget,
                                     .recurs = true,
                                     .fork = 1};
}

/* A model that wants to write the text, a token a byte. */
static void run(struct result *got, const char *script, const char *gbnf, uint32_t budget, uint32_t max_tokens)
{
    uint32_t ids[500], token = 5;
    struct err e = {0};
    for (size_t i = 0; script[i]; i++) ids[i] = (unsigned char)script[i];
    struct toy t = {.texts = texts,
                    .has_vocab = true,
                    .kind = TOY_SCRIPT,
                    .script = ids,
                    .n_script = (uint32_t)strlen(script),
                    .script_from = 1};
    struct engine *g = toy_engine(&t, &room);
    struct grammar_options o;
    grammar_options_init(&o);
    struct grammar *grammar = gbnf ? grammar_from_gbnf(str_from(gbnf), &o, &e) : NULL;
    ck_assert_msg(!gbnf || grammar, "%s", e.msg);
    struct engine_request r = toy_request(got, &token, 1, max_tokens);
    r.sampling = (struct sampler_params){.temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = 3};
    r.grammar = grammar;
    r.reasoning = sections(budget);
    toy_run(g, got, &r);
    ck_assert_msg(got->last.kind == ENGINE_FINISHED, "%s", got->err.msg);
    grammar_unref(grammar);
    engine_destroy(g);
}

static void check_starts(const struct result *got, const char *want)
{
    ck_assert_msg(got->len >= strlen(want) && !memcmp(got->text, want, strlen(want)), "%.*s", (int)got->len, got->text);
}

START_TEST(all_sections_are_counted)
{
    struct result got;
    static const char text[] = "(think:ab)[x(think:cde)[(say:1)";
    run(&got, text, NULL, UINT32_MAX, sizeof text - 1);
    check_starts(&got, text);
    ck_assert_uint_eq(got.last.n_reasoning, 5);
}
END_TEST

START_TEST(the_budget_is_one_for_all)
{
    for (int with = 0; with < 2; with++) {
        struct result got; /* the script goes on with its own place: its "ef" is where the end is written */
        run(&got, "(think:ab)[(think:cdef(say:12)", with ? messages : NULL, 4, 30);
        check_starts(&got, "(think:ab)[(think:cd)[(say:12)");
        ck_assert_uint_eq(got.last.n_reasoning, 4);
    }
}
END_TEST

START_TEST(what_is_used_up_is_not_begun_again)
{
    for (int with = 0; with < 2; with++) {
        struct result got;
        run(&got, "(think:abcdef(think:gh)[(think:ij)[", with ? messages : NULL, 4, 300);
        check_starts(&got, "(think:abcd)[(");
        got.text[got.len] = '\0';
        ck_assert_msg(!strstr(got.text + 1, "(t"), "%s", got.text);
        if (with) ck_assert_msg(strstr(got.text, ")[(say:") != NULL, "%s", got.text);
        ck_assert_uint_eq(got.last.n_reasoning, 4);
    }
}
END_TEST

START_TEST(a_budget_of_nothing_forbids_the_first)
{
    struct result got;
    run(&got, "(think:ab)[", messages, 0, 300);
    check_starts(&got, "(say:");
    ck_assert_uint_eq(got.last.n_reasoning, 0);
}
END_TEST

START_TEST(they_hold_for_any_model)
{
    struct toy t = {.texts = texts, .has_vocab = true, .eog_in = 30};
    struct engine *g = toy_engine(&t, &room);
    struct rng rng;
    struct err e = {0};
    struct grammar_options o;
    grammar_options_init(&o);
    rng_seed(&rng, 6);
    for (uint32_t i = 0; i < 60; i++) {
        struct grammar *grammar = grammar_from_gbnf(str_from(messages), &o, &e);
        uint32_t tokens[2] = {i % 256, 9}, budget = (uint32_t)(rng_next(&rng) % 30);
        struct result got;
        struct engine_request r = toy_request(&got, tokens, 2, 900);
        r.sampling = (struct sampler_params){.temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = i};
        r.grammar = grammar;
        r.reasoning = sections(budget);
        toy_run(g, &got, &r);
        ck_assert_msg(got.last.kind == ENGINE_FINISHED, "%s", got.err.msg);
        ck_assert_uint_le(got.last.n_reasoning, budget + 1); /* a token may end a section and belong to it */
        struct grammar *again = grammar_from_gbnf(str_from(messages), &o, &e);
        if (got.last.finish == FINISH_EOG)
            ck_assert_msg(grammar_check(again, (struct str){got.text, got.len}, NULL), "%.*s", (int)got.len, got.text);
        grammar_unref(again);
        grammar_unref(grammar);
    }
    engine_destroy(g);
}
END_TEST

START_TEST(markers_that_make_no_sense_are_refused)
{
    struct toy t = {.texts = texts, .has_vocab = true};
    struct engine *g = toy_engine(&t, &room);
    uint32_t token = 5;
    struct result got;
    for (int i = 0; i < 3; i++) {
        struct err e = {0};
        struct engine_request r = toy_request(&got, &token, 1, 10);
        r.reasoning = sections(5);
        if (i == 0) r.reasoning.close = STR("[)");
        if (i == 1) r.reasoning.fork = 7;
        if (i == 2) r.reasoning.start = STR("");
        ck_assert(!engine_submit(g, &got.id, &r, &e) && e.kind == ERR_INVALID);
    }
    engine_destroy(g);
}
END_TEST

void add_sections_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, quiet, NULL);
    tcase_add_test(tc, all_sections_are_counted);
    tcase_add_test(tc, the_budget_is_one_for_all);
    tcase_add_test(tc, what_is_used_up_is_not_begun_again);
    tcase_add_test(tc, a_budget_of_nothing_forbids_the_first);
    tcase_add_test(tc, they_hold_for_any_model);
    tcase_add_test(tc, markers_that_make_no_sense_are_refused);
}
