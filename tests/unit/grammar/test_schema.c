/* Unit tests of grammar, schemas: what is accepted, refused, widened and reported. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "grammar/grammar.h"
#include "unit.h"

void add_matcher_tests(TCase *tc);
void add_frontend_tests(TCase *tc);

static struct grammar *compile(const char *schema)
{
    struct grammar_options o;
    struct err e = {0};
    grammar_options_init(&o);
    struct grammar *g = grammar_from_schema(str_from(schema), &o, &e);
    ck_assert_msg(g != NULL, "%s", e.msg);
    return g;
}

static bool fits(const char *schema, const char *text)
{
    struct grammar *g = compile(schema);
    bool ok = grammar_check(g, str_from(text), NULL);
    grammar_unref(g);
    return ok;
}

/* "schema", texts that fit, NULL, texts that do not, NULL. */
static void check_table(const char *const *row)
{
    const char *schema = *row++;
    struct grammar *g = compile(schema);
    for (; *row; row++) ck_assert_msg(grammar_check(g, str_from(*row), NULL), "%s refused %s", schema, *row);
    for (row++; *row; row++) ck_assert_msg(!grammar_check(g, str_from(*row), NULL), "%s accepted %s", schema, *row);
    grammar_unref(g);
}
#define TABLE(...) check_table((const char *const[]){__VA_ARGS__})

START_TEST(types_follow_the_values_not_the_spelling)
{
    TABLE("{\"type\":\"integer\"}", "1", "1.0", "-0", "1e2", "150e-1", NULL, "1.5", "1e-1", "\"1\"", "01", "+1", NULL);
}
END_TEST

START_TEST(numbers_keep_their_bounds_exactly)
{
    TABLE("{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":1.5}", "1.5", "0.0000001", "1e-30", "15e-1", NULL,
          "0", "-0.0", "1.50000000000000000001", "2", NULL);
    TABLE("{\"multipleOf\":0.1}", "0.3", "0.7", "100", "1e300", "\"x\"", NULL, "0.35", "1e-5", NULL);
    TABLE("{\"type\":\"integer\",\"minimum\":-5,\"exclusiveMaximum\":7,\"multipleOf\":3}", "-3", "0", "6", NULL, "-6",
          "7", "9", "4", NULL);
}
END_TEST

START_TEST(members_come_in_any_order_once)
{
    const char *s = "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{\"type\":\"string\"}},"
                    "\"required\":[\"a\",\"b\"],"
                    "\"additionalProperties\":false}";
    TABLE(s, "{\"a\":1,\"b\":\"\"}", " { \"b\" : \"x\" ,\n\t\"a\" : 2 } ", "{\"\\u0061\":1,\"b\":\"\"}", NULL,
          "{\"a\":1}", "{\"a\":1,\"b\":\"\",\"a\":1}", "{\"a\":1,\"b\":\"\",\"c\":1}", "{\"a\":1,\"b\":\"\",}",
          "{\"a\":1,\"b\":\"\",\"\\u0061\":2}", NULL);
}
END_TEST

START_TEST(patterns_names_and_further_members_share_one_object)
{
    const char *s = "{\"type\":\"object\",\"properties\":{\"id\":{\"type\":\"integer\"}},\"patternProperties\":{\"^x-"
                    "\":{\"type\":\"string\"}},"
                    "\"additionalProperties\":{\"type\":\"boolean\"},\"maxProperties\":3}";
    TABLE(s, "{}", "{\"id\":1,\"x-a\":\"s\",\"other\":true}", NULL, "{\"x-a\":1}", "{\"other\":1}", "{\"id\":true}",
          "{\"a\":true,\"b\":true,\"c\":true,\"d\":true}", "{\"a\":true,\"a\":true}", NULL);
}
END_TEST

START_TEST(lengths_count_characters_of_the_decoded_text)
{
    TABLE("{\"type\":\"string\",\"minLength\":2,\"maxLength\":2}", "\"ab\"", "\"\\u00e9\xc3\xa9\"",
          "\"\\ud83d\\ude00\xf0\x9f\x98\x80\"", "\"\\n\\n\"", NULL, "\"a\"", "\"abc\"", "\"\\ud83d\"", "\"\\ude00a\"",
          "\"a\xff\"", "\"a\n\"", NULL);
}
END_TEST

START_TEST(patterns_see_decoded_text_anchored_or_not)
{
    TABLE("{\"type\":\"string\",\"pattern\":\"^\\\\d{2,3}$\"}", "\"12\"", "\"\\u0031\\u0032\"", NULL, "\"1\"",
          "\"1234\"", "\"a12\"", NULL);
    TABLE("{\"type\":\"string\",\"pattern\":\"b+|^x|y$\"}", "\"abc\"", "\"xq\"", "\"qy\"", NULL, "\"qx\"", "\"yq\"",
          "\"\"", NULL);
    TABLE("{\"type\":\"string\",\"pattern\":\"\\\\S\",\"maxLength\":3}", "\" a \"", NULL, "\"   \"", "\"aaaa\"", NULL);
}
END_TEST

START_TEST(unions_and_exclusions_are_exact)
{
    TABLE("{\"oneOf\":[{\"type\":\"integer\"},{\"minimum\":2}]}", "1", "2.5", "\"x\"", NULL, "3", "1.5", NULL);
    TABLE("{\"type\":\"object\",\"not\":{\"required\":[\"a\",\"b\"],\"properties\":{\"a\":{\"type\":\"integer\"},\"c\":"
          "{\"const\":1}}}}",
          "{}", "{\"a\":1}", "{\"a\":\"\",\"b\":0}", "{\"a\":1,\"b\":0,\"c\":2}", "{\"b\":0}", NULL,
          "{\"a\":1,\"b\":0}", "{\"b\":0,\"a\":2,\"c\":1}", NULL);
    TABLE("{\"not\":{\"type\":\"object\",\"required\":[\"a\"]}}", "1", "{}", "{\"b\":1}", NULL, "{\"a\":1}", NULL);
    TABLE("{\"if\":{\"properties\":{\"k\":{\"const\":1}},\"required\":[\"k\"]},\"then\":{\"required\":[\"a\"]},"
          "\"else\":{\"required\":[\"b\"]}}",
          "{\"k\":1,\"a\":0}", "{\"b\":0}", "{\"b\":0,\"k\":2}", "5", NULL, "{\"k\":1,\"b\":0}", "{\"a\":0}", NULL);
    TABLE("{\"anyOf\":[{\"properties\":{\"a\":{\"type\":\"string\"}},\"required\":[\"a\"]},{\"required\":[\"b\"]}],"
          "\"type\":\"object\"}",
          "{\"a\":\"\"}", "{\"a\":1,\"b\":2}", NULL, "{\"a\":1}", "{}", NULL);
}
END_TEST

START_TEST(arrays_know_positions_counts_and_doubles)
{
    TABLE("{\"type\":\"array\",\"prefixItems\":[{\"type\":\"integer\"},{\"type\":\"string\"}],\"items\":false,"
          "\"minItems\":1}",
          "[1]", "[1,\"a\"]", NULL, "[]", "[\"a\"]", "[1,\"a\",2]", NULL);
    TABLE("{\"type\":\"array\",\"contains\":{\"type\":\"string\"},\"minContains\":2,\"maxContains\":3}",
          "[1,\"a\",\"b\"]", NULL, "[\"a\",1]", "[\"a\",\"b\",\"c\",\"d\"]", NULL);
    TABLE("{\"uniqueItems\":true}", "[1,2,{\"a\":1,\"b\":2}]", NULL, "[1,1.0]", "[{\"a\":1,\"b\":2},{\"b\":2,\"a\":1}]",
          NULL);
}
END_TEST

START_TEST(constants_compare_as_values)
{
    TABLE("{\"enum\":[1,\"a\",null,[1,{\"x\":2}],true]}", "1", "1.0", "10e-1", "\"\\u0061\"", "null", "[1.0,{\"x\":2}]",
          "true", NULL, "2", "false", "[1]", "[1,{\"x\":3}]", "[1,{\"x\":2,\"y\":1}]", NULL);
}
END_TEST

START_TEST(references_may_recurse)
{
    const char *s =
        "{\"$ref\":\"#/$defs/"
        "n\",\"$defs\":{\"n\":{\"type\":\"object\",\"properties\":{\"kids\":{\"type\":\"array\",\"items\":{\"$ref\":"
        "\"#/$defs/n\"}}},\"additionalProperties\":false}}}";
    TABLE(s, "{}", "{\"kids\":[{},{\"kids\":[]}]}", NULL, "{\"kids\":[1]}", "{\"x\":1}", NULL);
    ck_assert(!fits("{\"$ref\":\"#\"}", "1"));
}
END_TEST

START_TEST(unevaluated_members_see_through_the_branches_that_passed)
{
    const char *s = "{\"type\":\"object\",\"properties\":{\"a\":true},\"anyOf\":[{\"properties\":{\"b\":{\"type\":"
                    "\"integer\"}},\"required\":[\"b\"]},"
                    "{\"properties\":{\"c\":true},\"required\":[\"c\"]}],\"unevaluatedProperties\":false}";
    TABLE(s, "{\"a\":1,\"b\":1}", "{\"c\":1,\"b\":2}", NULL, "{\"b\":1,\"d\":1}", "{\"c\":1,\"b\":\"x\"}", NULL);
}
END_TEST

START_TEST(formats_hold)
{
    TABLE("{\"type\":\"string\",\"format\":\"date\"}", "\"2024-02-29\"", NULL, "\"2023-02-29\"", "\"2024-13-01\"",
          NULL);
    TABLE("{\"type\":\"string\",\"format\":\"ipv6\"}", "\"::1\"", "\"fe80::1:2\"", NULL, "\"1::2::3\"", "\":::\"",
          NULL);
    TABLE("{\"type\":\"string\",\"format\":\"uri\"}", "\"https://example.com/a?b#c\"", NULL, "\"no scheme\"",
          "\"/relative\"", NULL);
}
END_TEST

START_TEST(an_error_names_the_pointer_and_the_keyword)
{
    struct grammar_options o;
    struct err e = {0};
    grammar_options_init(&o);
    o.where = "tools.3.input_schema";
    const char *s = "{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"string\",\"pattern\":\"(?=a)b\"}}}";
    ck_assert_ptr_null(grammar_from_schema(str_from(s), &o, &e));
    ck_assert_int_eq(e.kind, ERR_INVALID);
    ck_assert_msg(strstr(e.msg, "tools.3.input_schema.properties.x.pattern: lookahead"), "%s", e.msg);
}
END_TEST

START_TEST(without_strict_the_rest_is_kept_and_the_change_is_told)
{
    struct grammar_options o;
    struct err e = {0};
    struct buf notes;
    grammar_options_init(&o);
    o.strict = false;
    const char *s = "{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"string\",\"pattern\":\"(?=a)b\"},\"foo\":"
                    "\"bar\",\"y\":{\"$ref\":"
                    "\"http://example.com/s\"}},\"required\":[\"x\"]}";
    struct grammar *g = grammar_from_schema(str_from(s), &o, &e);
    ck_assert_msg(g != NULL, "%s", e.msg);
    ck_assert(grammar_check(g, STR("{\"x\":\"anything\",\"foo\":7,\"y\":[]}"), NULL));
    ck_assert(!grammar_check(g, STR("{\"x\":1}"), NULL));
    ck_assert(!grammar_check(g, STR("{}"), NULL));
    buf_init(&notes, 10000);
    grammar_explain(g, &notes);
    ck_assert_ptr_nonnull(strstr(notes.ptr, "properties.x.pattern"));
    ck_assert_ptr_nonnull(strstr(notes.ptr, "properties.foo"));
    ck_assert_ptr_nonnull(strstr(notes.ptr, "properties.y.$ref"));
    buf_deinit(&notes);
    grammar_unref(g);
}
END_TEST

START_TEST(huge_counts_cost_nothing)
{
    const char *s = "{\"type\":\"array\",\"maxItems\":1000000000,\"items\":{\"type\":\"string\",\"minLength\":1,"
                    "\"maxLength\":1000000000}}";
    double t = clock_seconds();
    ck_assert(fits(s, "[\"a\",\"bc\"]"));
    ck_assert(!fits(s, "[\"\"]"));
    ck_assert(clock_seconds() - t < 0.5);
}
END_TEST

START_TEST(hostile_schemas_end_in_time)
{
    static const char *const bombs[] = {
        "{\"pattern\":\"^(a|aa|aaa|[a-z]{2,50}){1,1000}(b{1,1000}c){1,1000}$\"}",
        "{\"pattern\":\"^(((a{1,100}){1,100}){1,100}){1,100}$\",\"minLength\":5}",
        "{\"pattern\":\"(.*a.{50}){3}\",\"not\":{\"pattern\":\".*b.{40}c\"}}",
        "{\"anyOf\":[{\"$ref\":\"#\"},{\"$ref\":\"#/anyOf/0\"}]}",
        "{\"properties\":{\"a\":{\"$ref\":\"#\"}},\"required\":[\"a\"]}",
        "{\"allOf\":[{\"oneOf\":[{},{},{},{},{},{},{},{}]},{\"oneOf\":[{\"minimum\":1},{\"minimum\":2},{\"minimum\":3},"
        "{\"maxLength\":4},{\"maxLength\":5},{\"maxLength\":6}]}]}"};
    clock_t t = clock(); /* the processor's: other programs' turns are not ours */
    for (size_t i = 0; i < sizeof bombs / sizeof *bombs; i++) {
        struct grammar_options o;
        struct err e = {0};
        grammar_options_init(&o);
        struct grammar *g = grammar_from_schema(str_from(bombs[i]), &o, &e);
        ck_assert(g || e.msg[0]);
        if (g)
            (void)grammar_check(
                g, STR("\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\""), &e);
        grammar_unref(g);
    }
    double seconds = (double)(clock() - t) / CLOCKS_PER_SEC;
    ck_assert_msg(seconds < 20, "%.1f s", seconds);
}
END_TEST

START_TEST(deep_nesting_works)
{
    struct buf s, d;
    buf_init(&s, 1 << 20);
    buf_init(&d, 1 << 20);
    for (int i = 0; i < 64; i++)
        buf_append(&s, STR("{\"type\":\"object\",\"required\":[\"a\"],\"properties\":{\"a\":")),
            buf_append(&d, STR("{\"a\":"));
    buf_append(&s, STR("{\"type\":\"integer\"}"));
    buf_append(&d, STR("7"));
    for (int i = 0; i < 64; i++) buf_append(&s, STR("}}")), buf_append(&d, STR("}"));
    ck_assert(fits(s.ptr, d.ptr));
    ck_assert(!fits(s.ptr, "{\"a\":{\"a\":1}}"));
    buf_deinit(&s);
    buf_deinit(&d);
}
END_TEST

START_TEST(a_large_schema_has_a_budget)
{
    struct buf s;
    struct grammar_options o;
    struct err e = {0};
    buf_init(&s, 64 << 20);
    buf_append(&s, STR("{\"type\":\"object\",\"properties\":{"));
    for (int i = 0; i < 100000; i++)
        buf_printf(&s, "%s\"property_number_%d\":{\"type\":\"string\",\"description\":\"%040d\"}", i ? "," : "", i, i);
    buf_append(&s, STR("}}"));
    grammar_options_init(&o);
    o.max_bytes = 4 << 20;
    ck_assert_ptr_null(grammar_from_schema(buf_str(&s), &o, &e));
    ck_assert_int_eq(e.kind, ERR_TOO_LARGE);
    o.max_bytes = 512 << 20;
    struct grammar *g = grammar_from_schema(buf_str(&s), &o, &e);
    ck_assert_msg(g != NULL, "%s", e.msg);
    ck_assert(grammar_check(g, STR("{\"property_number_99999\":\"x\"}"), NULL));
    ck_assert(!grammar_check(g, STR("{\"property_number_99999\":1}"), NULL));
    grammar_unref(g);
    buf_deinit(&s);
}
END_TEST

static void add_schema_tests(TCase *tc)
{
    tcase_add_test(tc, types_follow_the_values_not_the_spelling);
    tcase_add_test(tc, numbers_keep_their_bounds_exactly);
    tcase_add_test(tc, members_come_in_any_order_once);
    tcase_add_test(tc, patterns_names_and_further_members_share_one_object);
    tcase_add_test(tc, lengths_count_characters_of_the_decoded_text);
    tcase_add_test(tc, patterns_see_decoded_text_anchored_or_not);
    tcase_add_test(tc, unions_and_exclusions_are_exact);
    tcase_add_test(tc, arrays_know_positions_counts_and_doubles);
    tcase_add_test(tc, constants_compare_as_values);
    tcase_add_test(tc, references_may_recurse);
    tcase_add_test(tc, unevaluated_members_see_through_the_branches_that_passed);
    tcase_add_test(tc, formats_hold);
    tcase_add_test(tc, an_error_names_the_pointer_and_the_keyword);
    tcase_add_test(tc, without_strict_the_rest_is_kept_and_the_change_is_told);
    tcase_add_test(tc, huge_counts_cost_nothing);
    tcase_add_test(tc, hostile_schemas_end_in_time);
    tcase_add_test(tc, deep_nesting_works);
    tcase_add_test(tc, a_large_schema_has_a_budget);
}

UNIT_MAIN("grammar", add_schema_tests, add_matcher_tests, add_frontend_tests)
