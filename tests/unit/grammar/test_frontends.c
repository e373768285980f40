/* Unit tests of grammar, other languages: regular expressions, GBNF, calls in free text. */
#include <string.h>

#include "base/clock.h"
#include "grammar/grammar.h"
#include "unit.h"

void add_frontend_tests(TCase *tc);

static struct grammar *gbnf(const char *text, struct err *e)
{
    struct grammar_options o;
    grammar_options_init(&o);
    return grammar_from_gbnf(str_from(text), &o, e);
}

static bool ok(struct grammar *g, const char *text)
{
    return grammar_check(g, str_from(text), NULL);
}

START_TEST(a_regex_takes_whole_texts)
{
    struct grammar_options o;
    grammar_options_init(&o);
    struct grammar *g = grammar_from_regex(STR("^(?:[a-c]\\d+|\\u{e9})$"), &o, NULL);
    ck_assert_ptr_nonnull(g);
    ck_assert(ok(g, "a12"));
    ck_assert(ok(g, "\xc3\xa9"));
    ck_assert(!ok(g, "a"));
    ck_assert(!ok(g, "d1"));
    ck_assert(!ok(g, "a12 ")); /* white space is no part of it */
    grammar_unref(g);
}
END_TEST

START_TEST(characters_can_be_named_by_their_properties)
{
    struct grammar_options o;
    struct err e = {0};
    grammar_options_init(&o);
    struct grammar *g =
        grammar_from_regex(STR("^\\p{Lu}[\\p{Letter}\\p{Nd}_]*(\\p{Script=Greek}|\\P{ASCII})?$"), &o, &e);
    ck_assert_msg(g != NULL, "%s", e.msg);
    ck_assert(ok(g, "\xc3\x89t\xc3\xa9_7"));       /* \u00c9t\u00e9_7 */
    ck_assert(ok(g, "A\xe0\xa5\xa7\xe4\xb8\xad")); /* a Devanagari digit, a Han character */
    ck_assert(ok(g, "A\xf0\x90\x90\x80\xce\xa9")); /* Deseret, Greek */
    ck_assert(ok(g, "A\xf3\xb0\x80\x80"));         /* private use: not ASCII */
    ck_assert(!ok(g, "a"));
    ck_assert(!ok(g, "A-"));
    ck_assert(!ok(g, "A\xf3\xb0\x80\x80x"));
    grammar_unref(g);
}
END_TEST

START_TEST(what_no_automaton_can_do_is_an_error)
{
    static const char *const patterns[] = {"(?!a)b", "(a)\\1", "a\\b",          "(",   "a)",   "[z-a]",
                                           "a{3,2}", "*",      "\\p{Nonsense}", "\\p", "\\p{L"};
    struct grammar_options o;
    struct err e;
    grammar_options_init(&o);
    ck_assert_ptr_null(grammar_from_regex(str_from(patterns[_i]), &o, &e));
    ck_assert_int_eq(e.kind, ERR_INVALID);
}
END_TEST

START_TEST(recursive_rules_balance)
{
    struct err e = {0};
    struct grammar *g = gbnf("root ::= list # a comment\nlist ::= \"[\" ( item (\",\" item)* )? \"]\"\nitem ::= list | "
                             "[0-9]+\n     | \"x\"{2,3}\n",
                             &e);
    ck_assert_msg(g != NULL, "%s", e.msg);
    ck_assert(ok(g, "[]"));
    ck_assert(ok(g, "[1,[2,[]],xx]"));
    ck_assert(!ok(g, "[1,[2]"));
    ck_assert(!ok(g, "[x]"));
    ck_assert(!ok(g, "[1,]"));
    grammar_unref(g);
}
END_TEST

START_TEST(root_may_contain_itself)
{
    struct err e = {0};
    struct grammar *g = gbnf("root ::= \"[\" item (\",\" item)* \"]\"\nitem ::= [0-9]+ | root", &e);
    ck_assert_msg(g != NULL, "%s", e.msg);
    ck_assert(ok(g, "[1]"));
    ck_assert(ok(g, "[1,[22,[3]],4]"));
    ck_assert(!ok(g, "[1,[2]"));
    ck_assert(!ok(g, "[1]]"));
    grammar_unref(g);
}
END_TEST

START_TEST(wrong_grammars_name_the_line)
{
    static const char *const texts[] = {"root ::= a",
                                        "root ::= root \"x\" | \"y\"",
                                        "x ::= \"a\"",
                                        "root ::= \"a",
                                        "root = \"a\"",
                                        "root ::= (\"a\"",
                                        ""};
    struct err e = {0};
    ck_assert_ptr_null(gbnf(texts[_i], &e));
    ck_assert_ptr_nonnull(strstr(e.msg, "grammar"));
}
END_TEST

/* Each ends with a grammar or an error, in bounded time and memory, and so do a mask-less walk and a check. */
START_TEST(hostile_grammars_end_in_time)
{
    static const char *const texts[] = {
        "root ::= (((\"a\"{0,1000}){0,1000}){0,1000}){0,1000}",
        "root ::= ((x{0,2000}){0,2000}){0,2000}\nx ::= \"a\" x? | \"b\"",
        "root ::= a a a a\na ::= b b b b\nb ::= c c c c\nc ::= d d d d\nd ::= e e e e\ne ::= [a-z]* \"x\"",
        "root ::= (\"a\"* \"a\"*)* (\"a\"* \"a\"*)* \"b\"",
        "root ::= x | y\nx ::= \"a\" x \"b\" | \"a\" y\ny ::= \"a\" y \"b\" | \"a\" x | \"c\""};
    static const char *const patterns[] = {"(a|aa|aaa|[a-z]{2,50}){1,1000}(b{1,1000}c){1,1000}",
                                           "^(((a{1,100}){1,100}){1,100}){1,100}$", "(.*a.{50}){3}", "(a*)*(a*)*b",
                                           "^(?:(?:(?:x?){1000000000}){1000000000}){1000000000}$"};
    struct grammar_options o;
    struct err e = {0};
    double t = clock_seconds();
    grammar_options_init(&o);
    o.max_bytes = 16 << 20;
    for (size_t i = 0; i < 10; i++) {
        struct grammar *g = i < 5 ? grammar_from_gbnf(str_from(texts[i]), &o, &e)
                                  : grammar_from_regex(str_from(patterns[i - 5]), &o, &e);
        ck_assert_msg(g || e.msg[0], "%zu", i);
        if (!g) continue;
        struct grammar_matcher *m = grammar_matcher_create(g, NULL, &e);
        for (int k = 0; m && k < 100 && grammar_matcher_feed(m, STR("a")); k++) {
        }
        (void)grammar_check(g, STR("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"), &e);
        ck_assert_uint_le(grammar_memory(g), o.max_bytes + (1 << 20));
        grammar_matcher_destroy(m);
        grammar_unref(g);
    }
    ck_assert_msg(clock_seconds() - t < 20, "%.1f s", clock_seconds() - t);
}
END_TEST

START_TEST(deep_groups_are_an_error_not_a_crash)
{
    struct buf b;
    struct err e = {0};
    struct grammar_options o;
    grammar_options_init(&o);
    buf_init(&b, 1 << 22);
    for (int i = 0; i < 200000; i++) buf_append_char(&b, '(');
    ck_assert_ptr_null(grammar_from_regex(str_slice(buf_str(&b), 0, 19000), &o, &e));
    ck_assert_ptr_nonnull(strstr(e.msg, "nested too deeply"));
    ck_assert_ptr_null(grammar_from_regex(buf_str(&b), &o, &e));
    ck_assert_ptr_nonnull(strstr(e.msg, "at most"));
    buf_clear(&b);
    buf_append(&b, STR("root ::= "));
    for (int i = 0; i < 200000; i++) buf_append_char(&b, '(');
    ck_assert_ptr_null(grammar_from_gbnf(buf_str(&b), &o, &e));
    ck_assert_ptr_nonnull(strstr(e.msg, "nested too deeply"));
    buf_deinit(&b);
}
END_TEST

static const struct grammar_tag tags[] = {
    {STR("<call>{\"name\": \"add\", \"arguments\": "), STR("}</call>"), GRAMMAR_TAG_SCHEMA,
     STR("{\"type\":\"object\",\"properties\":{\"n\":{\"type\":\"integer\"}},\"required\":[\"n\"],"
         "\"additionalProperties\":false}"),
     true, "tools.0.input_schema"},
    {STR("<call>{\"name\": \"say\", \"arguments\": "), STR("}</call>"), GRAMMAR_TAG_SCHEMA,
     STR("{\"type\":\"object\"}"), false, "tools.1.input_schema"},
    {STR("<raw>"), STR("</raw>"), GRAMMAR_TAG_ANY_TEXT, STR_NONE, true, NULL},
};

static struct grammar *tagged(bool forced, bool single, bool text_after)
{
    static const struct str triggers[] = {STR("<call>"), STR("<raw>")};
    struct grammar_tags t = {.tags = tags,
                             .n_tags = 3,
                             .triggers = triggers,
                             .n_triggers = 2,
                             .forced = forced,
                             .single = single,
                             .text_after = text_after,
                             .between = STR("\n")};
    struct grammar_options o;
    struct err e = {0};
    grammar_options_init(&o);
    struct grammar *g = grammar_from_tags(&t, &o, &e);
    ck_assert_msg(g != NULL, "%s", e.msg);
    return g;
}

#define ADD "<call>{\"name\": \"add\", \"arguments\": {\"n\":1}}</call>"

START_TEST(free_text_ends_at_a_trigger)
{
    struct grammar *g = tagged(false, false, true);
    ck_assert(ok(g, "no call, <call or <cal at all"));
    ck_assert(ok(g, "text " ADD));
    ck_assert(ok(g, ADD "\n" ADD " and text"));
    ck_assert(ok(g, "<<raw>any < thing </raw>"));
    ck_assert(!ok(g, "text <call>{\"name\": \"sub\""));
    ck_assert(!ok(g, "<call>{\"name\": \"add\", \"arguments\": {\"n\":\"1\"}}</call>"));
    ck_assert(!ok(g, "<raw>open"));
    grammar_unref(g);
}
END_TEST

START_TEST(a_forced_single_call_is_the_whole_text)
{
    struct grammar *g = tagged(true, true, false);
    ck_assert(ok(g, ADD));
    ck_assert(!ok(g, ""));
    ck_assert(!ok(g, "text " ADD));
    ck_assert(!ok(g, ADD "\n" ADD));
    ck_assert(!ok(g, ADD " text"));
    grammar_unref(g);
}
END_TEST

START_TEST(free_text_is_known_to_be_free)
{
    struct grammar *g = tagged(false, false, true);
    struct grammar_matcher *m = grammar_matcher_create(g, NULL, NULL);
    ck_assert(!grammar_matcher_constrains(m));
    ck_assert(grammar_matcher_feed(m, STR("Hello <call>")));
    ck_assert(grammar_matcher_constrains(m));
    struct buf b;
    buf_init(&b, 100);
    ck_assert(grammar_matcher_forced(m, &b, 100));
    ck_assert_str_eq(b.ptr, "{\"name\": \"");
    buf_deinit(&b);
    grammar_matcher_destroy(m);
    grammar_unref(g);
}
END_TEST

void add_frontend_tests(TCase *tc)
{
    tcase_add_test(tc, a_regex_takes_whole_texts);
    tcase_add_test(tc, characters_can_be_named_by_their_properties);
    tcase_add_loop_test(tc, what_no_automaton_can_do_is_an_error, 0, 11);
    tcase_add_test(tc, recursive_rules_balance);
    tcase_add_test(tc, root_may_contain_itself);
    tcase_add_loop_test(tc, wrong_grammars_name_the_line, 0, 7);
    tcase_add_test(tc, hostile_grammars_end_in_time);
    tcase_add_test(tc, deep_groups_are_an_error_not_a_crash);
    tcase_add_test(tc, free_text_ends_at_a_trigger);
    tcase_add_test(tc, a_forced_single_call_is_the_whole_text);
    tcase_add_test(tc, free_text_is_known_to_be_free);
}
