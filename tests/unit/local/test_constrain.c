/* Unit tests of what a request demands of its answer: when a grammar is made, lent and given back, what is refused by
 * name, what is only noted; and how much reasoning may come before. */
#include <stdlib.h>
#include <string.h>

#include "local/constrain.h"
#include "unit.h"

unit_adder add_constrain_tests;

static const char lookahead[] =
    "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"string\",\"pattern\":\"^(?=x)\"}}}";
static const char number[] = "{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"number\",\"multipleOf\":0.1}}}";

/* A request with one tool (schema NULL = none). */
static struct chat_request *request(const char *tool_schema, bool strict, enum chat_tool_choice choice)
{
    struct chat_request *r = chat_request_create(1 << 20);
    r->json = json_object();
    r->output_where = STR("output_config.format.schema");
    r->tool_choice = choice;
    if (!tool_schema) return r;
    json_t *schema = json_loads(tool_schema, 0, NULL);
    json_object_set_new(r->json, "tool", schema);
    r->tools = arena_zalloc(&r->arena, sizeof *r->tools);
    r->tools[0] = (struct chat_tool){.name = STR("act"), .schema = schema, .strict = strict};
    r->n_tools = 1;
    return r;
}

static void set_output(struct chat_request *r, const char *schema)
{
    r->output_schema = json_loads(schema, 0, NULL);
    json_object_set_new(r->json, "output", r->output_schema);
}

/* Takes r. The grammar goes back at once; *g is only good for comparisons. */
static bool take(struct constraints *c, struct chat_request *r, const void **g, bool *noted, struct err *e)
{
    struct lent_grammar lent;
    struct prompt prompt;
    prompt_init(&prompt);
    lent_grammar_init(&lent);
    *e = (struct err){0};
    bool ok = constrain_take(&lent, c, r, &prompt, e);
    if (g) *g = lent.grammar;
    if (noted) *noted = r->notes != NULL;
    lent_grammar_deinit(&lent, c);
    prompt_deinit(&prompt);
    chat_request_destroy(r);
    return ok;
}

static struct constraints hermes(void)
{
    struct constraints c;
    constraints_init(&c, dialect_find(STR("hermes")));
    return c;
}

START_TEST(free_requests_have_no_grammar)
{
    struct constraints c = hermes();
    struct err e;
    const void *g;
    ck_assert(take(&c, request(NULL, false, CHAT_TOOLS_AUTO), &g, NULL, &e) && !g);
    ck_assert(take(&c, request(number, false, CHAT_TOOLS_AUTO), &g, NULL, &e) && !g);
    ck_assert(take(&c, request(number, true, CHAT_TOOLS_NONE), &g, NULL, &e) && !g);
    struct chat_request *r = request(lookahead, true, CHAT_TOOLS_AUTO);
    r->tools[0].withheld = true; /* what cannot be called is no reason for anything */
    ck_assert(take(&c, r, &g, NULL, &e) && !g);
    constraints_deinit(&c);
}
END_TEST

START_TEST(demands_have_one_and_it_is_lent_again)
{
    struct constraints c = hermes();
    struct err e;
    const void *first, *second;
    for (int i = 0; i < 4; i++) {
        for (int again = 0; again < 2; again++) {
            struct chat_request *r = request(i == 3 ? NULL : number, i == 1, i ? CHAT_TOOLS_AUTO : CHAT_TOOLS_ANY);
            if (i >= 2) set_output(r, number);
            ck_assert_msg(take(&c, r, again ? &second : &first, NULL, &e), "%s", e.msg);
        }
        ck_assert_ptr_nonnull(first);
        ck_assert_ptr_eq(first, second);
    }
    constraints_deinit(&c);
}
END_TEST

START_TEST(numbers_of_a_schema_stay_what_they_are)
{
    struct constraints c = hermes();
    struct lent_grammar lent;
    struct prompt prompt;
    struct err e;
    struct chat_request *r = request(NULL, false, CHAT_TOOLS_AUTO);
    set_output(r, number);
    prompt_init(&prompt);
    lent_grammar_init(&lent);
    ck_assert(constrain_take(&lent, &c, r, &prompt, &e));
    ck_assert(grammar_check(lent.grammar, STR("{\"n\": 0.3}"), &e));
    ck_assert(!grammar_check(lent.grammar, STR("{\"n\": 0.35}"), &e));
    lent_grammar_deinit(&lent, &c);
    prompt_deinit(&prompt);
    chat_request_destroy(r);
    constraints_deinit(&c);
}
END_TEST

START_TEST(what_must_hold_and_cannot_is_refused_by_name)
{
    struct constraints c = hermes();
    struct err e;
    struct chat_request *r = request(NULL, false, CHAT_TOOLS_AUTO);
    set_output(r, lookahead);
    ck_assert(!take(&c, r, NULL, NULL, &e) && e.kind == ERR_INVALID);
    ck_assert_msg(strstr(e.msg, "output_config.format.schema.properties.a.pattern") != NULL, "%s", e.msg);
    for (int i = 0; i < 2; i++) {
        ck_assert(!take(&c, request(lookahead, true, i ? CHAT_TOOLS_ANY : CHAT_TOOLS_AUTO), NULL, NULL, &e));
        ck_assert_int_eq(e.kind, ERR_INVALID);
        ck_assert_msg(strstr(e.msg, "tools.0.input_schema.properties.a.pattern") != NULL, "%s", e.msg);
    }
    r = request(NULL, false, CHAT_TOOLS_AUTO);
    set_output(r, "{\"type\":\"string\",\"minLength\":3,\"maxLength\":2}");
    ck_assert(!take(&c, r, NULL, NULL, &e) && e.kind == ERR_INVALID);
    static const char never[] = "{\"type\":\"object\",\"properties\":{\"a\":{\"not\":{}}},\"required\":[\"a\"]}";
    ck_assert(!take(&c, request(never, true, CHAT_TOOLS_AUTO), NULL, NULL, &e) && e.kind == ERR_INVALID);
    ck_assert_msg(strstr(e.msg, "tools.0.input_schema") != NULL, "%s", e.msg);
    ck_assert(take(&c, request(never, false, CHAT_TOOLS_ANY), NULL, NULL, &e));
    constraints_deinit(&c);
}
END_TEST

START_TEST(other_tools_are_widened_and_that_is_noted)
{
    struct constraints c = hermes();
    struct err e;
    const void *g;
    bool noted;
    for (int again = 0; again < 2; again++) { /* from the cache, too */
        ck_assert_msg(take(&c, request(lookahead, false, CHAT_TOOLS_ANY), &g, &noted, &e), "%s", e.msg);
        ck_assert(g && noted);
    }
    ck_assert(take(&c, request(number, false, CHAT_TOOLS_ANY), &g, &noted, &e) && g && !noted);
    constraints_deinit(&c);
}
END_TEST

START_TEST(where_messages_have_headers_the_value_stands_in_the_last)
{
    struct constraints c;
    struct lent_grammar lent;
    struct prompt prompt;
    struct err e = {0};
    constraints_init(&c, dialect_find(STR("harmony")));
    for (int thinks = 0; thinks < 2; thinks++) {
        struct chat_request *r = request(NULL, false, CHAT_TOOLS_AUTO);
        set_output(r, number);
        prompt_init(&prompt);
        prompt.may_think = thinks;
        lent_grammar_init(&lent);
        ck_assert_msg(constrain_take(&lent, &c, r, &prompt, &e), "%s", e.msg);
        ck_assert(grammar_check(lent.grammar, STR("<|channel|>final<|message|>{\"n\": 0.3}"), &e));
        ck_assert(!grammar_check(lent.grammar, STR("<|channel|>final<|message|>no"), &e));
        ck_assert(!grammar_check(lent.grammar, STR("{\"n\": 0.3}"), &e));
        bool thought = grammar_check(lent.grammar,
                                     STR("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final"
                                         "<|message|>{\"n\": 0.3}"),
                                     &e);
        ck_assert_int_eq(thought, thinks);
        lent_grammar_deinit(&lent, &c);
        prompt_deinit(&prompt);
        chat_request_destroy(r);
    }
    constraints_deinit(&c);
}
END_TEST

START_TEST(a_demanded_call_may_come_behind_messages_of_reasoning)
{
    struct constraints c;
    struct lent_grammar lent;
    struct prompt prompt;
    struct err e = {0};
    static const char call[] = "<|channel|>commentary to=functions.act <|constrain|>json<|message|>{\"n\": 0.3}";
    constraints_init(&c, dialect_find(STR("harmony")));
    struct chat_request *r = request(number, false, CHAT_TOOLS_ANY);
    prompt_init(&prompt);
    prompt.may_think = true;
    lent_grammar_init(&lent);
    ck_assert_msg(constrain_take(&lent, &c, r, &prompt, &e), "%s", e.msg);
    struct buf text;
    buf_init(&text, 1000);
    buf_printf(&text, "<|channel|>analysis<|message|>hm<|end|><|start|>assistant%s", call);
    ck_assert(grammar_check(lent.grammar, buf_str(&text), &e));
    ck_assert(grammar_check(lent.grammar, str_from(call), &e));
    ck_assert(!grammar_check(lent.grammar,
                             STR("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final"
                                 "<|message|>no"),
                             &e));
    buf_deinit(&text);
    lent_grammar_deinit(&lent, &c);
    prompt_deinit(&prompt);
    chat_request_destroy(r);
    constraints_deinit(&c);
}
END_TEST

/* ---- reasoning ---- */

static struct engine_reasoning section(const char *dialect, bool in_thinking, bool may_think, bool has_effort,
                                       uint32_t budget, const char *effort)
{
    struct engine_reasoning out;
    static struct constraints c;
    struct prompt prompt = {.in_thinking = in_thinking, .may_think = may_think, .has_effort = has_effort};
    struct chat_request *r = request(number, false, CHAT_TOOLS_AUTO);
    r->thinking_budget = budget;
    r->effort = str_from(effort);
    if (c.cache) constraints_deinit(&c);
    constraints_init(&c, dialect_find(str_from(dialect)));
    constrain_reasoning(&out, &c, r, &prompt);
    chat_request_destroy(r);
    return out;
}

START_TEST(the_section_is_as_the_prompt_left_it)
{
    ck_assert(section("hermes", true, false, false, 0, "").is_open);
    ck_assert(!section("hermes", false, true, false, 0, "").is_open);
    ck_assert(str_eq(section("hermes", false, true, false, 0, "").start, STR("<think>")));
    ck_assert(str_eq(section("hermes", true, false, false, 0, "").close, STR("\n</think>\n\n")));
    ck_assert(str_eq(section("hermes", true, false, false, 0, "").also[1], STR("<tool_call>")));
    ck_assert_uint_eq(section("mistral", true, false, false, 0, "").also[1].len, 0);
    ck_assert_uint_eq(section("hermes", false, false, false, 9, "").end.len, 0);
    ck_assert_uint_eq(section("llama3", true, true, false, 9, "").end.len, 0); /* a family without markers */
}
END_TEST

START_TEST(messages_of_reasoning_recur)
{
    struct engine_reasoning s = section("harmony", false, true, false, 50, "");
    ck_assert(s.recurs && s.has_budget && s.budget == 50 && str_starts(s.close, s.end) && s.fork < s.start.len);
    ck_assert(section("glimmer", false, true, false, 0, "low").recurs);
    ck_assert(!section("harmony", false, false, false, 50, "").recurs);
    ck_assert(!section("hermes", false, true, false, 50, "").recurs);
}
END_TEST

START_TEST(budgets_come_from_the_client_or_the_effort)
{
    ck_assert(!section("hermes", true, false, false, 0, "").has_budget);
    ck_assert_uint_eq(section("hermes", true, false, false, 77, "low").budget, 77);
    ck_assert_uint_eq(section("hermes", true, false, false, 0, "low").budget, 1024);
    ck_assert(section("hermes", true, false, false, 0, "medium").budget <
              section("hermes", true, false, false, 0, "high").budget);
    ck_assert(!section("hermes", true, false, false, 0, "max").has_budget);
    ck_assert(!section("hermes", true, false, true, 0, "low").has_budget); /* the template was told */
    ck_assert_uint_eq(section("hermes", true, false, true, 77, "low").budget, 77);
}
END_TEST

void add_constrain_tests(TCase *tc)
{
    tcase_add_test(tc, free_requests_have_no_grammar);
    tcase_add_test(tc, demands_have_one_and_it_is_lent_again);
    tcase_add_test(tc, numbers_of_a_schema_stay_what_they_are);
    tcase_add_test(tc, what_must_hold_and_cannot_is_refused_by_name);
    tcase_add_test(tc, where_messages_have_headers_the_value_stands_in_the_last);
    tcase_add_test(tc, other_tools_are_widened_and_that_is_noted);
    tcase_add_test(tc, the_section_is_as_the_prompt_left_it);
    tcase_add_test(tc, a_demanded_call_may_come_behind_messages_of_reasoning);
    tcase_add_test(tc, messages_of_reasoning_recur);
    tcase_add_test(tc, budgets_come_from_the_client_or_the_effort);
}
