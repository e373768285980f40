/* Unit tests of jinja: the language as a table, two small chat templates, taint, budgets, errors and deep nesting. */
#include <string.h>

#include "base/alloc.h"
#include "jinja/jinja.h"
#include "jinja/jinja_internal.h"
#include "unit.h"

static const char context_text[] =
    "{\"s\": \"h\\u00e9llo W\\u00f6rld\", \"l\": [3, 1, 2], \"d\": {\"b\": 1, \"a\": {\"x\": [1, 2]}}, \"n\": 7,"
    " \"nil\": null, \"yes\": true, \"f\": 2.5, \"people\": [{\"name\": \"Zo\\u00eb\", \"age\": 31},"
    " {\"name\": \"bob\", \"age\": 25}], \"messages\": [{\"role\": \"system\", \"content\": \"Be brief.\"},"
    " {\"role\": \"user\", \"content\": \" Hi <|im_end|> \"}]}";

/* Renders with the usual options; the text or the error message, for mem_free. */
static char *render(const char *source, const struct jinja_limits *limits, bool *ok, bool *raised,
                    struct jinja_spans *spans)
{
    const struct jinja_options options = {true, true};
    const struct jinja_now now = {.tm = {.tm_year = 125, .tm_mon = 6, .tm_mday = 10}};
    struct err e = {0};
    struct buf out;
    json_t *context = json_loads(context_text, 0, NULL);
    ck_assert_ptr_nonnull(context);
    buf_init(&out, (size_t)64 << 20);
    struct jinja *j = jinja_compile(str_from(source), options, &e);
    *ok = j && jinja_render(j, &out, spans, raised, context, &now, limits, &e);
    jinja_destroy(j);
    json_decref(context);
    if (*ok) buf_append(&out, STR(""));
    else {
        buf_clear(&out);
        buf_append(&out, str_from(e.msg));
    }
    if (!out.ptr) buf_append_char(&out, '\0');
    return buf_take(&out);
}

static const struct {
    const char *source, *text;
} cases[] = {
    {"{{ f }} {{ nil }} {{ yes }} {{ 1e16 }} {{ 0.1 + 0.2 }} {{ 5e-324 }}",
     "2.5 None True 1e+16 0.30000000000000004 5e-324"},
    {"{{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 ** 10 }} {{ 7 / 2 }} {{ -2 ** 2 }}", "-4 2 -2 1024 3.5 4"},
    {"{{ 9223372036854775807 + 1 }} {{ (2 ** 70) // -3 }} {{ -(2 ** 70) % 1000 }} {{ 2 ** 70 - 2 ** 70 + 5 }}",
     "9223372036854775808 -393530540239137101142 576 5"},
    {"{{ 2 ** 70 > 2 ** 69 }} {{ 10 ** 20 // 10 ** 19 }} {{ 10 ** 20 == 100000000000000000000 }}", "True 10 True"},
    {"{{ 1 < 2 < 3 }} {{ 1 == 1.0 }} {{ not 'a' in 'abc' }} {{ 2 ** 3 ** 2 }}", "True True False 64"},
    {"{{ 'a' ~ 1 ~ none ~ [1, 'x'] }} {{ 'ab' * 2 }} {{ [1] + [2] }}", "a1None[1, 'x'] abab [1, 2]"},
    {"{{ s|upper }} {{ s|length }} {{ s[::-1] }} {{ s[1] }} {{ s[-3:] }}", "HÉLLO WÖRLD 11 dlröW olléh é rld"},
    {"{{ 'ß'|upper }} {{ 'ΑΣ'|lower }} {{ 'ǆ'.title() }}", "SS ας ǅ"},
    {"{{ ['it\\'s', '\\x7f\\n', 'é'] }} {{ (1,) }} {{ {1: none} }}", "[\"it's\", '\\x7f\\n', 'é'] (1,) {1: None}"},
    {"{{ d }} {{ d.a.x[-1] }} {{ d['b'] }} {{ d.zz }}|", "{'b': 1, 'a': {'x': [1, 2]}} 2 1 |"},
    {"{{ l|sort }} {{ l|join('-') }} {{ l|map('string')|list }} {{ l|select('odd')|list }}",
     "[1, 2, 3] 3-1-2 ['3', '1', '2'] [3, 1]"},
    {"{{ people|sort(attribute='age')|map(attribute='name')|join(',') }} {{ people|sum(attribute='age') }}",
     "bob,Zoë 56"},
    {"{{ people|selectattr('age', 'gt', 30)|map(attribute='name')|first }}", "Zoë"},
    {"{{ d|tojson }} {{ d|tojson(indent=1)|length }} {{ s|tojson(ensure_ascii=true) }}",
     "{\"b\": 1, \"a\": {\"x\": [1, 2]}} 47 \"h\\u00e9llo W\\u00f6rld\""},
    {"{{ '%s|%05.1f|%-4d|%x' % ('a', 2.25, 5, 255) }} {{ '{:>4}|{0}'.format('z') if false else '{0!r:>5}'.format('z') "
     "}}",
     "a|002.2|5   |ff   'z'"},
    {"{{ ' a  b '.split() }} {{ 'a,b,c'.rsplit(',', 1) }} {{ 'abc'.partition('b') }}",
     "['a', 'b'] ['a,b', 'c'] ('a', 'b', 'c')"},
    {"{{ '-4'.zfill(4) }} {{ 'a b-c'|title }} {{ \"o'neil x\".title() }}", "-004 A B-C O'Neil X"},
    {"{% for x in l if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }}{{ ',' if not loop.last }}{% endfor %}",
     "1/2:3,2/2:2"},
    {"{% for x in [] %}a{% else %}b{% endfor %}{% for k, v in d.items() %}{{ k }}{% break %}{% endfor %}", "bb"},
    {"{% for x in [1, [2, [3]]] recursive %}{% if x is iterable %}({{ loop(x) }}){% else %}{{ x }}{% endif %}{% endfor "
     "%}",
     "1(2(3))"},
    {"{% set x = 1 %}{% for i in l %}{% set x = i %}{% endfor %}{{ x }}", "1"},
    {"{% set ns = namespace(x=0) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "6"},
    {"{% macro m(a, b='x') %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, k=4) }}",
     "12(3,){'k': 4}"},
    {"{% macro m() %}({{ caller(5) }}){% endmacro %}{% call(v) m() %}{{ v }}{{ n }}{% endcall %}", "(57)"},
    {"{% set b | upper %}a{{ n }}{% endset %}{{ b }}{% filter trim %}  c {% endfilter %}", "A7c"},
    {"{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}", "17"},
    {"{% raw %}{{ x }}{% endraw %}{# no #}|{%- if yes -%}  y  {%- endif %}", "{{ x }}|y"},
    {"  {% if yes %}\n  in\n  {% endif %}\nb\n", "  in\nb"},
    {"{{ zz is defined }} {{ nil is none }} {{ zz|default('d') }} {{ 4 is divisibleby 2 }}", "False True d True"},
    {"{{ cycler('a', 'b').next() }}{% set j = joiner(',') %}{{ j() }}{{ j() }} {{ range(3)|list }}", "a, [0, 1, 2]"},
    {"{{ strftime_now('%d %b %Y') }}", "10 Jul 2025"},
    {"{{ l.append(4) }}{{ l }} {{ '<b>'|e }} {{ 'a b'|urlencode }}", "None[3, 1, 2, 4] &lt;b&gt; a%20b"},
    {"{% if false %}{{ 1|nofilter }}{% endif %}ok", "ok"},
    {"{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m['content']|trim }}<|im_end|>\n{% endfor %}",
     "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi <|im_end|><|im_end|>\n"},
    {"{%- if messages[0].role == 'system' %}\n    {%- set sys = messages[0].content %}\n    {%- set rest = "
     "messages[1:] %}\n"
     "{%- endif %}\n{{- '<s>' }}\n{%- for m in rest %}\n    {{- '[' + m.role + ']' + m.content.strip() }}\n{%- endfor "
     "%}\n"
     "{{- sys ~ '\\n' }}",
     "<s>[user]Hi <|im_end|>Be brief.\n"},
};

START_TEST(language_cases_render_as_in_python)
{
    bool ok;
    char *text = render(cases[_i].source, NULL, &ok, NULL, NULL);
    ck_assert_str_eq(text, cases[_i].text);
    ck_assert(ok);
    mem_free(text);
}
END_TEST

static const struct {
    const char *source, *part;
} errors[] = {
    {"a\n{{ 1 + }}", "line 2"},
    {"{{ x | }}", "expected a name"},
    {"{% if x %}", "endif"},
    {"{{ 'a }}", "not closed"},
    {"{% frob %}", "'frob'"},
    {"{{ 1|nofilter }}", "no filter named 'nofilter'"},
    {"{{ 1 is notest }}", "no test named 'notest'"},
    {"\n\n{{ nope.x }}", "line 3: 'nope' is undefined; the line is `{{ nope.x }}`"},
    {"{{ d.a.zz.y }}", "'dict object' has no attribute 'zz'"},
    {"{{ none + 'x' }}", "unsupported operand type(s) for +: 'NoneType' and 'str'"},
    {"{{ 1 / 0 }}", "division by zero"},
    {"{% for x in 5 %}{% endfor %}", "'int' object is not iterable"},
    {"{% set l.x = 1 %}", "non-namespace"},
    {"{{ 10 ** 5000 }}", "4300 digits"},
    {"{% break %}", "outside of a loop"},
    {"{{ l|sort(nope=1) }}", "unexpected keyword argument 'nope'"},
};

START_TEST(errors_name_line_and_reason)
{
    bool ok, raised = true;
    char *text = render(errors[_i].source, NULL, &ok, &raised, NULL);
    ck_assert(!ok);
    ck_assert_msg(strstr(text, errors[_i].part) != NULL, "%s", text);
    mem_free(text);
}
END_TEST

START_TEST(raise_exception_gives_exactly_the_message)
{
    bool ok, raised = false;
    char *text = render("{{ raise_exception('no ' ~ n) }}", NULL, &ok, &raised, NULL);
    ck_assert(!ok && raised);
    ck_assert_str_eq(text, "no 7");
    mem_free(text);
}
END_TEST

/* What is tainted in the output is shown in square brackets. */
static const struct {
    const char *source, *marked;
} taints[] = {
    {"<|im_start|>{{ messages[1].role }}", "<|im_start|>[user]"},
    {"<{{ messages[1].content|trim }}>", "<[Hi <|im_end|>]>"},
    {"{{ 'a' + messages[1].role + 'b' }}", "a[user]b"},
    {"{{ ('a' ~ messages[1].role ~ 'b')|upper }}", "A[USER]B"},
    {"{{ ('x' ~ messages[1].role)[1:3] }}{{ ('x' ~ messages[1].role)[0] }}", "[us]x"},
    {"{{ 'x-y'.replace('-', messages[1].role) }}", "x[user]y"},
    {"{{ '%s=%d' % (messages[1].role, 5) }} {{ '{}!'.format(messages[1].role) }}", "[user]=5 [user]!"},
    {"{{ [messages[1].role, 'b']|join(',') }}", "[user],b"},
    {"{{ ('a,' ~ messages[1].role).split(',')[0] }}", "a"},
    {"{% macro m(x) %}<{{ x }}>{% endmacro %}{{ m(messages[1].role) }}", "<[user]>"},
    {"{% set b %}<{{ messages[1].role }}>{% endset %}{{ b }}", "<[user]>"},
    {"{{ d|tojson }}{{ {'k': 1}|tojson }}", "[{\"b\": 1, \"a\": {\"x\": [1, 2]}}]{\"k\": 1}"},
    {"{{ {'k': messages[1].role}|tojson }}", "{\"k\": [\"user\"]}"},
    {"{{ n }}{{ 'x'|upper }}", "7X"},
    {"{% for c in messages[1].role %}{{ c }}.{% endfor %}", "[u].[s].[e].[r]."},
};

START_TEST(taint_follows_the_bytes_of_the_context)
{
    bool ok;
    struct jinja_spans spans;
    char *text = render(taints[_i].source, NULL, &ok, NULL, &spans);
    struct buf marked;
    buf_init(&marked, 4096);
    ck_assert_msg(ok, "%s", text);
    size_t at = 0;
    for (size_t i = 0; i < spans.n; i++) {
        buf_printf(&marked, "%.*s[%.*s]", (int)(spans.items[i].from - at), text + at,
                   (int)(spans.items[i].to - spans.items[i].from), text + spans.items[i].from);
        at = spans.items[i].to;
    }
    buf_printf(&marked, "%s", text + at);
    ck_assert_str_eq(marked.ptr, taints[_i].marked);
    mem_free(spans.items);
    buf_deinit(&marked);
    mem_free(text);
}
END_TEST

static const struct {
    const char *source, *part;
} bombs[] = {
    {"{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "steps"},
    {"{{ range(10**9) }}", "range too big"},
    {"{{ 'x' * 10**12 }}", "steps"},
    {"{{ [0] * 10**12 }}", "steps"},
    {"{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(99) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
     "budget"},
    {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "too deep"},
    {"{% set ns = namespace(l=[]) %}{% for i in range(99999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}",
     "too deep"},
    {"{% set ns = namespace(g=l) %}{% for i in range(9999) %}{% set ns.g = ns.g|map('string') %}{% endfor %}{{ "
     "ns.g|list }}",
     "too deep"},
    {"{% for i in range(99999) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' }}{% endfor %}", "output is over"},
    {"{{ '%99999999d' % 5 }}", "width"},
    {"{{ 'a'.ljust(10**15) }}", "steps"},
};

START_TEST(bombs_end_with_a_clear_error)
{
    const struct jinja_limits limits = {1000000, (size_t)1 << 20, (size_t)32 << 20};
    bool ok;
    char *text = render(bombs[_i].source, &limits, &ok, NULL, NULL);
    ck_assert(!ok);
    ck_assert_msg(strstr(text, bombs[_i].part) != NULL, "%s", text);
    mem_free(text);
}
END_TEST

static const struct {
    const char *open, *middle, *close;
} nests[] = {
    {"(", "1", ")"},           {"[", "", "]"},    {"{1:", "1", "}"},       {"-", "1", ""},  {"not ", "1", ""},
    {"1 if ", "1", " else 1"}, {"x.", "y", ""},   {"x|list|", "list", ""}, {"f(", "", ")"}, {"x[", "1", "]"},
    {"1 + ", "1", ""},         {"1 ~ ", "1", ""},
};

/* Ten thousand levels are refused or evaluated, never a crash. */
START_TEST(deep_nesting_does_not_exhaust_the_stack)
{
    struct buf b;
    bool ok;
    buf_init(&b, (size_t)8 << 20);
    buf_append(&b, STR("{{ "));
    for (int i = 0; i < 10000; i++) buf_append(&b, str_from(nests[_i].open));
    buf_append(&b, str_from(nests[_i].middle));
    for (int i = 0; i < 10000; i++) buf_append(&b, str_from(nests[_i].close));
    buf_append(&b, STR(" }}"));
    char *text = render(b.ptr, NULL, &ok, NULL, NULL);
    ck_assert(ok || strstr(text, "nested") != NULL || strstr(text, "undefined") != NULL);
    mem_free(text);
    buf_clear(&b);
    for (int i = 0; i < 10000; i++) buf_append(&b, STR("{% if 1 %}"));
    mem_free(render(b.ptr, NULL, &ok, NULL, NULL));
    ck_assert(!ok);
    buf_deinit(&b);
}
END_TEST

START_TEST(mentions_finds_attributes_and_keys)
{
    const struct jinja_options options = {true, true};
    struct jinja *j = jinja_compile(STR("{{ a.b['c'] }}{{ a.get('d') }}{{ 'e' in a }}"), options, NULL);
    ck_assert_ptr_nonnull(j);
    ck_assert(jinja_mentions(j, "a") && jinja_mentions(j, "b") && jinja_mentions(j, "c"));
    ck_assert(jinja_mentions(j, "d") && jinja_mentions(j, "e") && !jinja_mentions(j, "f"));
    jinja_destroy(j);
}
END_TEST

START_TEST(shortest_float_text_reads_back)
{
    static const double values[] = {0.1, 1.0 / 3, 1e21, 1e-7, 123456789012345680.0, 2.5e-310, 1.7976931348623157e308};
    static const char *const texts[] = {
        "0.1", "0.3333333333333333", "1e+21", "1e-07", "1.2345678901234568e+17", "2.5e-310", "1.7976931348623157e+308"};
    struct run r = {0};
    struct sb b;
    arena_init(&r.arena, 0);
    sb_init(&b, &r);
    ck_assert(sb_float(&b, values[_i]));
    ck_assert(str_eq((struct str){b.ptr, b.len}, str_from(texts[_i])));
    arena_deinit(&r.arena);
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static void add(TCase *tc)
{
    tcase_add_loop_test(tc, language_cases_render_as_in_python, 0, COUNT(cases));
    tcase_add_loop_test(tc, errors_name_line_and_reason, 0, COUNT(errors));
    tcase_add_test(tc, raise_exception_gives_exactly_the_message);
    tcase_add_loop_test(tc, taint_follows_the_bytes_of_the_context, 0, COUNT(taints));
    tcase_add_loop_test(tc, bombs_end_with_a_clear_error, 0, COUNT(bombs));
    tcase_add_loop_test(tc, deep_nesting_does_not_exhaust_the_stack, 0, COUNT(nests));
    tcase_add_test(tc, mentions_finds_attributes_and_keys);
    tcase_add_loop_test(tc, shortest_float_text_reads_back, 0, 7);
}

UNIT_MAIN("jinja", add)
