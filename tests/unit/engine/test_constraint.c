/* Unit tests of constrained answers and of reasoning with a budget, over the toy model with a vocabulary of bytes and
 * words. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/rng.h"
#include "toy.h"
#include "unit.h"

unit_adder add_constraint_tests;

enum { FIRST_WORD = 256 };
static const char *const words[] = {"{\"",  "\":", "\": ",   "\",",    "\"}",     "name",  "age", "true", "hello",
                                    "12",   "  ",  "\n\n",   "circle", "<think>", "</th",  "ink", ">{",   "ok</",
                                    "kind", ">\n", "think>", "\": \"", "[",       "\n\n<", "XY"};
#define N_WORDS (sizeof words / sizeof *words)

static char bytes[256][2];
static const char *texts[TOY_VOCAB];

static const struct engine_config room = {
    .n_ctx = 1024, .n_parallel = 4, .n_batch = 64, .kv_bytes = 200 * TOY_PAGE_BYTES};
static const char person[] =
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":9},\"age\":"
    "{\"type\":\"integer\",\"minimum\":0,\"maximum\":150}},\"required\":[\"name\",\"age\"],"
    "\"additionalProperties\":false}";
static const char shape[] =
    "{\"type\":\"object\",\"properties\":{\"kind\":{\"const\":\"circle\"}},\"required\":[\"kind\"],"
    "\"additionalProperties\":false}";

static void quiet(void)
{
    log_set_level(LOG_OFF);
    for (size_t i = 0; i < TOY_VOCAB; i++) texts[i] = "";
    for (size_t i = 1; i < 256; i++) bytes[i][0] = (char)i, texts[i] = bytes[i];
    for (size_t i = 0; i < N_WORDS; i++) texts[FIRST_WORD + i] = words[i];
    texts[TOY_CONTROL] = "<|control|>";
}

static struct toy a_toy(void)
{
    return (struct toy){.texts = texts, .has_vocab = true};
}

static uint32_t word(const char *text)
{
    for (uint32_t i = 0; i < N_WORDS; i++)
        if (strcmp(words[i], text) == 0) return FIRST_WORD + i;
    ck_abort_msg("no word %s", text);
}

static struct grammar *compile_within(const char *schema, uint32_t max_space, size_t max_bytes, struct err *e)
{
    struct grammar_options o;
    grammar_options_init(&o);
    o.max_space = max_space;
    o.max_bytes = max_bytes;
    return grammar_from_schema(str_from(schema), &o, e);
}

static struct grammar *compile(const char *schema, uint32_t max_space)
{
    struct err e = {0};
    struct grammar *g = compile_within(schema, max_space, (size_t)1 << 22, &e);
    ck_assert_msg(g != NULL, "%s", e.msg);
    return g;
}

static bool fits(const char *schema, struct str text)
{
    struct grammar *g = compile(schema, 4);
    bool ok = grammar_check(g, text, NULL);
    grammar_unref(g);
    return ok;
}

static struct str text_of(const struct result *r)
{
    return (struct str){r->text, r->len};
}

static void check_fits(const struct result *r, const char *schema)
{
    ck_assert_msg(r->last.kind == ENGINE_FINISHED, "failed: %s", r->err.msg);
    ck_assert_msg(fits(schema, text_of(r)), "no: %.*s", STR_ARG(text_of(r)));
}

static struct engine_request sampled(struct result *r, const uint32_t *tokens, uint32_t n, struct grammar *g,
                                     uint64_t seed)
{
    struct engine_request request = toy_request(r, tokens, n, 900);
    request.sampling = (struct sampler_params){.temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = seed};
    request.grammar = g;
    return request;
}

/* ---- grammars ---- */

START_TEST(answers_fit_their_grammar)
{
    struct toy t = a_toy();
    struct engine *g = toy_engine(&t, &room);
    if (_i) g->mask_work = 1; /* masks are too costly: tokens are tried one by one first */
    t.eog_in = 2;             /* wants to end all the time */
    for (uint32_t seed = 0; seed < 60; seed++) {
        struct grammar *grammar = compile(person, 3);
        uint32_t tokens[2] = {7, seed};
        struct result got;
        struct engine_request r = sampled(&got, tokens, 2, grammar, seed);
        toy_run(g, &got, &r);
        check_fits(&got, person);
        ck_assert_int_eq(got.last.finish, FINISH_EOG);
        grammar_unref(grammar);
    }
    engine_destroy(g);
}
END_TEST

enum { N_MIXED = 24 };

/* Constrained and free requests together; each must be what it is alone. */
static void mixed_in(const struct engine_config *config, struct result *got)
{
    struct toy t = a_toy();
    struct engine *g = toy_engine(&t, config);
    struct grammar *grammars[N_MIXED];
    uint32_t tokens[N_MIXED][90];
    for (uint32_t i = 0; i < N_MIXED; i++) {
        struct err e = {0};
        grammars[i] = i % 3 ? compile(i % 3 == 1 ? person : shape, 2) : NULL;
        for (uint32_t k = 0; k < 90; k++) tokens[i][k] = k < 40 ? k : i + k;
        struct engine_request r = sampled(&got[i], tokens[i], 3 * i + 5, grammars[i], i);
        r.max_tokens = 250;
        result_init(&got[i]);
        ck_assert_msg(engine_submit(g, &got[i].id, &r, &e), "%s", e.msg);
        if (config->n_parallel == 1) result_wait(&got[i]);
    }
    for (uint32_t i = 0; i < N_MIXED; i++) {
        result_wait(&got[i]);
        grammar_unref(grammars[i]);
    }
    engine_destroy(g);
}

START_TEST(constrained_answers_are_the_same_alone_in_a_crowd_and_after_preemption)
{
    struct result *alone = mem_alloc(N_MIXED * sizeof *alone), *crowd = mem_alloc(N_MIXED * sizeof *crowd);
    struct engine_config one = room;
    one.n_parallel = 1;
    mixed_in(&one, alone);
    for (uint32_t pages = 12; pages < 60; pages += 20) {
        struct engine_config config = {
            .n_ctx = 360, .n_parallel = 6, .n_batch = 32, .kv_bytes = pages * TOY_PAGE_BYTES};
        mixed_in(&config, crowd);
        for (uint32_t i = 0; i < N_MIXED; i++) {
            if (i % 3) check_fits(&crowd[i], i % 3 == 1 ? person : shape);
            ck_assert_uint_eq(crowd[i].len, alone[i].len);
            ck_assert_mem_eq(crowd[i].text, alone[i].text, alone[i].len);
            ck_assert_uint_eq(crowd[i].last.n_generated, alone[i].last.n_generated);
        }
    }
    mem_free(alone);
    mem_free(crowd);
}
END_TEST

START_TEST(forced_text_is_computed_in_one_step)
{
    struct toy t = a_toy();
    struct engine *g = toy_engine(&t, &room);
    struct grammar *grammar = compile(shape, 0);
    uint32_t token = 5;
    struct result got;
    struct engine_request r = sampled(&got, &token, 1, grammar, 1);
    toy_run(g, &got, &r);
    ck_assert_str_eq(got.text, "{\"kind\":\"circle\"}");
    ck_assert_int_eq(got.last.finish, FINISH_EOG);
    ck_assert_uint_eq(got.last.eog_token, TOKEN_NONE);
    ck_assert_uint_gt(got.last.n_generated, 4);
    ck_assert_uint_le(atomic_load(&t.n_steps), 3); /* prompt, the rest, and the piece that went back to the model */
    grammar_unref(grammar);
    engine_destroy(g);
}
END_TEST

START_TEST(more_forced_text_than_a_step_holds_takes_several)
{
    struct toy t = a_toy();
    char schema[600], want[500];
    struct engine_config config = {.n_ctx = 1024, .n_parallel = 4, .n_batch = 16, .kv_bytes = 200 * TOY_PAGE_BYTES};
    struct engine *g = toy_engine(&t, &config);
    struct result got[4];
    struct grammar *grammars[4];
    uint32_t token = 5;
    memset(want, 'q', sizeof want);
    want[0] = want[200] = '"', want[201] = '\0';
    snprintf(schema, sizeof schema, "{\"const\":%s}", want);
    for (int i = 0; i < 4; i++) {
        grammars[i] = compile(schema, 0);
        struct engine_request r = sampled(&got[i], &token, 1, grammars[i], (uint64_t)i);
        result_init(&got[i]);
        ck_assert(engine_submit(g, &got[i].id, &r, NULL));
    }
    for (int i = 0; i < 4; i++) {
        result_wait(&got[i]);
        ck_assert_str_eq(got[i].text, want);
        grammar_unref(grammars[i]);
    }
    ck_assert_uint_le(atomic_load(&t.n_prefill_max), 16);
    engine_destroy(g);
}
END_TEST

START_TEST(the_length_limit_cuts_forced_text_exactly)
{
    struct toy t = a_toy();
    struct engine *g = toy_engine(&t, &room);
    uint32_t token = 5;
    for (uint32_t n = 1; n < 5; n++) {
        struct grammar *grammar = compile(shape, 0);
        struct result got;
        struct engine_request r = sampled(&got, &token, 1, grammar, 1);
        r.max_tokens = n;
        toy_run(g, &got, &r);
        ck_assert_int_eq(got.last.finish, FINISH_LENGTH);
        ck_assert_uint_eq(got.last.n_generated, n);
        grammar_unref(grammar);
    }
    engine_destroy(g);
}
END_TEST

START_TEST(stop_strings_hold_in_forced_text)
{
    struct toy t = a_toy();
    struct engine *g = toy_engine(&t, &room);
    struct grammar *grammar = compile(shape, 0);
    uint32_t token = 5;
    struct result got;
    struct str stop = STR(":\"ci");
    struct engine_request r = sampled(&got, &token, 1, grammar, 1);
    r.stops = &stop;
    r.n_stops = 1;
    toy_run(g, &got, &r);
    ck_assert_int_eq(got.last.finish, FINISH_STOP_STRING);
    ck_assert_str_eq(got.text, "{\"kind\"");
    grammar_unref(grammar);
    engine_destroy(g);
}
END_TEST

START_TEST(a_grammar_out_of_budget_fails_and_never_lies)
{
    struct toy t = a_toy();
    struct engine *g = toy_engine(&t, &room);
    static const char schema[] = /* its automaton has thousands of states, made one by one */
        "{\"type\":\"string\",\"pattern\":\"^(a|b|c|d)*a(a|b|c|d){14}$\",\"minLength\":100}";
    int n_failed = 0, n_done = 0;
    uint32_t token = 5;
    for (size_t budget = 20000; budget < (size_t)8 << 20; budget += budget / 12) {
        struct err e;
        struct grammar *grammar = compile_within(schema, 1, budget, &e);
        if (!grammar) continue;
        struct result got;
        struct engine_request r = sampled(&got, &token, 1, grammar, budget);
        toy_run(g, &got, &r);
        if (got.last.kind == ENGINE_FAILED) {
            ck_assert_int_eq(got.err.kind, ERR_TOO_LARGE);
            n_failed++;
        } else {
            check_fits(&got, schema);
            n_done++;
        }
        grammar_unref(grammar);
    }
    ck_assert_int_gt(n_failed, 0);
    ck_assert_int_gt(n_done, 0);
    engine_destroy(g);
}
END_TEST

START_TEST(a_grammar_that_is_only_a_help_is_given_up)
{
    struct toy t = a_toy();
    struct engine *g = toy_engine(&t, &room);
    /* One key that has to hold both: that is seen only when it is written. */
    static const char dead_end[] =
        "{\"type\":\"object\",\"maxProperties\":1,\"propertyNames\":{\"pattern\":\"^....$\"},\"allOf\":["
        "{\"not\":{\"patternProperties\":{\"a1\":{\"not\":{\"type\":\"string\"}}}}},"
        "{\"not\":{\"patternProperties\":{\"b2\":{\"not\":{\"type\":\"string\"}}}}}]}";
    struct err e;
    struct grammar *grammar = compile_within(dead_end, 1, 1 << 20, &e);
    ck_assert_ptr_nonnull(grammar);
    uint32_t token = 5;
    struct result got;
    for (int help = 0; help < 2; help++) {
        struct engine_request r = sampled(&got, &token, 1, grammar, 1);
        r.max_tokens = 300;
        r.grammar_is_help = help;
        toy_run(g, &got, &r);
        ck_assert_int_eq(got.last.kind, help ? ENGINE_FINISHED : ENGINE_FAILED);
    }
    ck_assert_uint_eq(got.last.n_generated, 300); /* this model never ends by itself */
    grammar_unref(grammar);
    engine_destroy(g);
}
END_TEST

START_TEST(a_cancelled_answer_lets_go_of_its_grammar)
{
    struct toy t = a_toy();
    struct engine *g = toy_engine(&t, &room);
    uint32_t token = 5;
    atomic_store(&t.step_us, 300);
    for (uint32_t i = 0; i < 8; i++) {
        struct grammar *grammar = compile("{\"type\":\"array\",\"items\":{\"type\":\"array\"},\"minItems\":300}", 2);
        struct result got;
        struct engine_request r = sampled(&got, &token, 1, grammar, i);
        result_init(&got);
        got.g = g;
        got.cancel_after = 1 + i;
        ck_assert(engine_submit(g, &got.id, &r, NULL));
        result_wait(&got);
        grammar_unref(grammar); /* from the last event on nobody else uses it */
    }
    engine_destroy(g);
}
END_TEST

/* ---- reasoning ---- */

static struct engine_reasoning reasoning(bool is_open, uint32_t budget)
{
    return (struct engine_reasoning){.end = STR("</think>"),
                                     .start = STR("<think>"),
                                     .close = STR("\n</think>\n\n"),
                                     .is_open = is_open,
                                     .has_budget = budget != UINT32_MAX,
                                     .budget = budget};
}

/* Runs a model that wants to write the script, from behind a prompt of one token. */
static void run_script(struct result *got, const char *schema, const struct engine_reasoning *section,
                       const uint32_t *script, uint32_t n, uint32_t max_tokens)
{
    struct toy t = a_toy();
    t.kind = TOY_SCRIPT;
    t.script = script;
    t.n_script = n;
    t.script_from = 1;
    struct engine *g = toy_engine(&t, &room);
    struct grammar *grammar = schema ? compile(schema, 2) : NULL;
    uint32_t token = 5;
    struct engine_request r = sampled(got, &token, 1, grammar, 3);
    r.reasoning = *section;
    r.max_tokens = max_tokens;
    toy_run(g, got, &r);
    ck_assert_msg(got->last.kind == ENGINE_FINISHED, "%s", got->err.msg);
    grammar_unref(grammar);
    engine_destroy(g);
}

/* The answer behind the reasoning's text, which must be `before`. */
static struct str answer_behind(const struct result *r, const char *before)
{
    struct str text = text_of(r);
    ck_assert_msg(str_starts(text, str_from(before)), "%.*s", STR_ARG(text));
    return str_slice(text, strlen(before), text.len);
}

START_TEST(reasoning_is_free_and_the_answer_keeps_to_the_grammar)
{
    uint32_t script[] = {word("ok</"), 'h', 'm', word("</th"), word("ink"), '>', word("\n\n"), word("{\"")};
    struct engine_reasoning section = reasoning(true, UINT32_MAX);
    struct result got;
    run_script(&got, person, &section, script, 8, 400);
    ck_assert(fits(person, answer_behind(&got, "ok</hm</think>\n\n")));
    ck_assert_uint_eq(got.last.n_reasoning, 3); /* the marker's three are not counted */
}
END_TEST

START_TEST(the_budget_forces_the_end)
{
    for (uint32_t budget = 1; budget < 30; budget += 7) {
        uint32_t script[40];
        char want[64] = "";
        struct engine_reasoning section = reasoning(true, budget);
        struct result got;
        for (uint32_t i = 0; i < 40; i++) script[i] = 'h';
        memset(want, 'h', budget);
        strcpy(want + budget, "\n</think>\n\n");
        run_script(&got, shape, &section, script, 40, 400);
        ck_assert(fits(shape, answer_behind(&got, want)));
        ck_assert_uint_eq(got.last.n_reasoning, budget);
    }
}
END_TEST

START_TEST(without_a_grammar_the_budget_holds_too)
{
    uint32_t script[12] = {'a', 'b', 'c', 'd', 'e', 'f'};
    struct engine_reasoning section = reasoning(true, 3);
    struct result got;
    run_script(&got, NULL, &section, script, 6, 20);
    answer_behind(&got, "abc\n</think>\n\n");
    ck_assert_uint_eq(got.last.n_reasoning, 3);
    ck_assert_uint_eq(got.last.n_generated, 20);
}
END_TEST

START_TEST(a_budget_of_nothing_ends_it_before_the_first_token)
{
    struct engine_reasoning section = reasoning(true, 0);
    struct result got;
    run_script(&got, shape, &section, NULL, 0, 400);
    ck_assert(fits(shape, answer_behind(&got, "</think>\n\n"))); /* the prompt's last line is its own */
    ck_assert_uint_eq(got.last.n_reasoning, 0);
}
END_TEST

START_TEST(a_marker_that_has_begun_is_completed)
{
    uint32_t script[] = {'a', 'b', word("</th"), 'x'};
    struct engine_reasoning section = reasoning(true, 3);
    struct result got;
    run_script(&got, shape, &section, script, 4, 400);
    ck_assert(fits(shape, answer_behind(&got, "ab</think>\n\n")));
    ck_assert_uint_eq(got.last.n_reasoning, 2);
}
END_TEST

START_TEST(text_behind_the_marker_in_one_token_is_part_of_the_answer)
{
    uint32_t script[] = {'a', word("</th"), word("ink"), word(">{")};
    struct engine_reasoning section = reasoning(true, UINT32_MAX);
    struct result got;
    run_script(&got, shape, &section, script, 4, 400);
    ck_assert(fits(shape, answer_behind(&got, "a</think>")));
}
END_TEST

START_TEST(white_space_behind_the_marker_comes_to_an_end)
{
    struct err e = {0};
    struct grammar_options o;
    uint32_t script[60] = {'h', word("</th"), word("ink"), '>'};
    for (size_t i = 4; i < 60; i++) script[i] = word("  ");
    grammar_options_init(&o);
    struct toy t = a_toy();
    t.kind = TOY_SCRIPT;
    t.script = script;
    t.n_script = 60;
    t.script_from = 1;
    struct engine *g = toy_engine(&t, &room);
    for (uint64_t seed = 0; seed < 8; seed++) {
        struct grammar *grammar = grammar_from_gbnf(STR("root ::= [ \\n]{0,40} \"[x]\""), &o, &e);
        ck_assert_msg(grammar != NULL, "%s", e.msg);
        struct result got;
        uint32_t token = 5;
        struct engine_request r = sampled(&got, &token, 1, grammar, seed);
        r.reasoning = reasoning(true, UINT32_MAX);
        r.grammar_is_help = true; /* it would be given up */
        toy_run(g, &got, &r);
        struct str text = text_of(&got);
        ck_assert_msg(got.last.kind == ENGINE_FINISHED && str_ends(text, STR("[x]")), "%.*s", STR_ARG(text));
        grammar_unref(grammar);
    }
    engine_destroy(g);
}
END_TEST

START_TEST(where_that_text_does_not_fit_the_marker_is_forced)
{
    uint32_t script[] = {'a', word("</th"), word("ink"), word(">{")};
    struct engine_reasoning section = reasoning(true, UINT32_MAX);
    struct result got;
    run_script(&got, "{\"type\":\"boolean\"}", &section, script, 4, 400);
    ck_assert(fits("{\"type\":\"boolean\"}", answer_behind(&got, "a</think>\n\n")));
}
END_TEST

START_TEST(an_answer_that_would_end_in_its_reasoning_goes_on)
{
    uint32_t script[] = {'a', 'b', TOY_EOG};
    struct engine_reasoning section = reasoning(true, UINT32_MAX);
    struct result got;
    run_script(&got, shape, &section, script, 3, 400);
    ck_assert(fits(shape, answer_behind(&got, "ab\n</think>\n\n")));
    run_script(&got, NULL, &section, script, 3, 400); /* nothing was promised: the model may end */
    ck_assert_str_eq(got.text, "ab");
    ck_assert_int_eq(got.last.finish, FINISH_EOG);
}
END_TEST

START_TEST(an_answer_may_begin_out_of_the_reasoning)
{
    uint32_t script[] = {'a', 'b', '[', 'h', '[', '1', '2', ']'};
    struct engine_reasoning section = reasoning(true, 6);
    struct result got;
    section.also[1] = STR("[1");
    run_script(&got, "{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"maxItems\":1}", &section, script, 8, 50);
    ck_assert_str_eq(got.text, "ab[h[12]");
    ck_assert_int_eq(got.last.finish, FINISH_EOG);
    ck_assert_uint_eq(got.last.n_reasoning, 4);
    run_script(&got, shape, &section, script, 8, 400); /* where that is no answer, the reasoning ends before it */
    ck_assert(fits(shape, answer_behind(&got, "ab[h[\n</think>\n\n")));
}
END_TEST

START_TEST(the_length_limit_may_strike_in_reasoning)
{
    uint32_t script[] = {'a', 'b', 'c', 'd', 'e', 'f', 'g'};
    struct engine_reasoning section = reasoning(true, 100);
    struct result got;
    run_script(&got, shape, &section, script, 7, 5);
    ck_assert_str_eq(got.text, "abcde");
    ck_assert_int_eq(got.last.finish, FINISH_LENGTH);
    ck_assert_uint_eq(got.last.n_reasoning, 5);
    section.budget = 3; /* and in its forced end */
    run_script(&got, shape, &section, script, 7, 5);
    ck_assert_int_eq(got.last.finish, FINISH_LENGTH);
    ck_assert_uint_eq(got.last.n_generated, 5);
    ck_assert(str_starts(STR("abc\n</think>\n\n"), text_of(&got)));
}
END_TEST

START_TEST(the_model_may_open_the_reasoning_itself)
{
    uint32_t whole[] = {word("<think>"), '\n', 'a', 'b', 'c', 'd'},
             pieces[] = {'<', 't', 'h', word("ink"), '>', 'a', 'b', 'c'};
    struct engine_reasoning section = reasoning(false, 3);
    struct result got;
    run_script(&got, person, &section, whole, 6, 400);
    ck_assert(fits(person, answer_behind(&got, "<think>\nab\n</think>\n\n")));
    ck_assert_uint_eq(got.last.n_reasoning, 3);
    run_script(&got, person, &section, pieces, 8, 400);
    ck_assert(fits(person, answer_behind(&got, "<think>abc\n</think>\n\n")));
    ck_assert_uint_eq(got.last.n_reasoning, 3);
}
END_TEST

START_TEST(the_model_may_answer_at_once)
{
    uint32_t script[] = {word("{\""), word("name"), word("\": \"")};
    struct engine_reasoning section = reasoning(false, 3);
    struct result got;
    run_script(&got, person, &section, script, 3, 400);
    check_fits(&got, person);
    ck_assert(str_starts(text_of(&got), STR("{\"name\": \"")));
    ck_assert_uint_eq(got.last.n_reasoning, 0);
}
END_TEST

START_TEST(what_is_neither_marker_nor_answer_becomes_the_marker)
{
    uint32_t script[] = {'<', 't', 'x'};
    struct engine_reasoning section = reasoning(false, 3);
    struct result got;
    run_script(&got, shape, &section, script, 3, 400);
    struct str text = text_of(&got);
    ck_assert_msg(str_starts(text, STR("<think>")), "%s", got.text);
    ptrdiff_t end = str_find(text, STR("</think>"), 0);
    ck_assert_int_gt(end, 0);
    ck_assert(fits(shape, str_trim(str_slice(text, (size_t)end + 8, text.len))));
    ck_assert_uint_le(got.last.n_reasoning, 3);
}
END_TEST

/* Random models, budgets and limits: what comes out is reasoning, marker, JSON, in this order, and the counts hold. */
START_TEST(reasoning_and_answer_hold_for_any_model)
{
    struct toy t = a_toy();
    struct engine *g = toy_engine(&t, &room);
    t.eog_in = 30;
    struct rng rng;
    rng_seed(&rng, 5);
    for (uint32_t i = 0; i < 150; i++) {
        struct grammar *grammar = compile(person, 2);
        uint32_t tokens[2] = {i % 256, 9}, budget = (uint32_t)(rng_next(&rng) % 40);
        struct result got;
        struct engine_request r = sampled(&got, tokens, 2, grammar, i);
        r.reasoning = reasoning(i % 2, budget);
        toy_run(g, &got, &r);
        ck_assert_msg(got.last.kind == ENGINE_FINISHED, "%s", got.err.msg);
        ck_assert_uint_le(got.last.n_reasoning, budget);
        struct str text = text_of(&got);
        ptrdiff_t end = str_find(text, STR("</think>"), 0);
        if (i % 2 || str_starts(text, STR("<think>"))) {
            ck_assert_int_ge(end, 0);
            text = str_trim(str_slice(text, (size_t)end + 8, text.len));
        }
        ck_assert_msg(fits(person, str_trim(text)), "%u: %.*s", i, STR_ARG(text_of(&got)));
        grammar_unref(grammar);
    }
    engine_destroy(g);
}
END_TEST

void add_constraint_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, quiet, NULL);
    tcase_add_loop_test(tc, answers_fit_their_grammar, 0, 2);
    tcase_add_test(tc, constrained_answers_are_the_same_alone_in_a_crowd_and_after_preemption);
    tcase_add_test(tc, forced_text_is_computed_in_one_step);
    tcase_add_test(tc, more_forced_text_than_a_step_holds_takes_several);
    tcase_add_test(tc, the_length_limit_cuts_forced_text_exactly);
    tcase_add_test(tc, stop_strings_hold_in_forced_text);
    tcase_add_test(tc, a_grammar_out_of_budget_fails_and_never_lies);
    tcase_add_test(tc, a_grammar_that_is_only_a_help_is_given_up);
    tcase_add_test(tc, a_cancelled_answer_lets_go_of_its_grammar);
    tcase_add_test(tc, reasoning_is_free_and_the_answer_keeps_to_the_grammar);
    tcase_add_test(tc, the_budget_forces_the_end);
    tcase_add_test(tc, without_a_grammar_the_budget_holds_too);
    tcase_add_test(tc, a_budget_of_nothing_ends_it_before_the_first_token);
    tcase_add_test(tc, a_marker_that_has_begun_is_completed);
    tcase_add_test(tc, text_behind_the_marker_in_one_token_is_part_of_the_answer);
    tcase_add_test(tc, white_space_behind_the_marker_comes_to_an_end);
    tcase_add_test(tc, where_that_text_does_not_fit_the_marker_is_forced);
    tcase_add_test(tc, an_answer_that_would_end_in_its_reasoning_goes_on);
    tcase_add_test(tc, an_answer_may_begin_out_of_the_reasoning);
    tcase_add_test(tc, the_length_limit_may_strike_in_reasoning);
    tcase_add_test(tc, the_model_may_open_the_reasoning_itself);
    tcase_add_test(tc, the_model_may_answer_at_once);
    tcase_add_test(tc, what_is_neither_marker_nor_answer_becomes_the_marker);
    tcase_add_test(tc, reasoning_and_answer_hold_for_any_model);
}
