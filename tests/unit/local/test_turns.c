/* What a template is given: the probe finds what it cannot show, the turns put that right, and nothing is lost. */
#include <stdio.h>
#include <string.h>

#include "api/anthropic_messages.h"
#include "base/alloc.h"
#include "local/shape.h"
#include "local/turns.h"
#include "unit.h"

static bool render(void *ctx, struct buf *out, json_t *messages, json_t *tools)
{
    json_t *context = json_pack("{s:O, s:b, s:s, s:s, s:b}", "messages", messages, "add_generation_prompt", 1,
                                "bos_token", "<s>", "eos_token", "</s>", "enable_thinking", 1);
    if (tools) json_object_set(context, "tools", tools);
    bool ok = jinja_render(ctx, out, NULL, NULL, context, NULL, &(struct jinja_limits){0}, NULL);
    json_decref(context);
    return ok;
}

static struct jinja *compile(const char *source)
{
    struct err e = {0};
    struct jinja *j = jinja_compile(str_from(source), (struct jinja_options){true, true}, &e);
    ck_assert_msg(j != NULL, "%s", e.msg);
    return j;
}

static struct chat_request *request(const char *json)
{
    static const struct anthropic_support all = {.thinking = true, .tools = true};
    struct anthropic_error e = {0};
    struct chat_request *r = NULL;
    size_t len = strlen(json);
    char *body = mem_alloc(len + 1);
    memcpy(body, json, len + 1);
    bool ok = anthropic_request_decode(&r, body, len, ANTHROPIC_CREATE, &all, &e);
    mem_free(body);
    ck_assert_msg(ok, "%s", e.message);
    return r;
}

/* The conversation as the template shows it; NUL-terminated, for mem_free. */
static char *show(const char *source, const char *json, struct call_memory *memory)
{
    struct shape shape;
    struct turns turns;
    struct buf out;
    struct jinja *j = compile(source);
    struct chat_request *r = request(json);
    buf_init(&out, 1 << 22);
    shape_probe(&shape, render, j);
    ck_assert(turns_init(&turns, r, &shape, dialect_detect(str_from(source)), memory));
    ck_assert_msg(render(j, &out, turns.list, turns.tools), "the template refused");
    for (size_t i = 0; i < turns.n_raws; i++) ck_assert(strstr(out.ptr, turns.raws[i].key) != NULL);
    turns_deinit(&turns);
    chat_request_destroy(r);
    jinja_destroy(j);
    return buf_take(&out);
}

#define PLAIN                                                                                  \
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}" \
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
#define FULL                                                                                                     \
    "{% if tools %}[TOOLS]{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}"                           \
    "{% for m in messages %}<{{ m.role }}{% if m.tool_call_id %} {{ m.tool_call_id }}{% endif %}>"               \
    "{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}{{ m.content }}"                          \
    "{% for c in m.tool_calls or [] %}[{{ c.id }} {{ c.function.name }} {{ c.function.arguments | tojson }}]{% " \
    "endfor %}"                                                                                                  \
    "{% endfor %}"

#define TOOL "{\"name\":\"get\",\"description\":\"About\",\"input_schema\":{\"type\":\"object\",\"properties\":{}}}"
#define CONVERSATION                                                                                             \
    "{\"model\":\"m\",\"max_tokens\":1,\"tools\":[" TOOL "],\"system\":\"SYS\",\"messages\":["                   \
    "{\"role\":\"user\",\"content\":\"ask\"},{\"role\":\"assistant\",\"content\":["                              \
    "{\"type\":\"thinking\",\"thinking\":\"hm\",\"signature\":\"\"},{\"type\":\"text\",\"text\":\"see\"},"       \
    "{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"get\",\"input\":{\"x\":1}},"                           \
    "{\"type\":\"tool_use\",\"id\":\"toolu_2\",\"name\":\"get\",\"input\":{\"x\":2}}]},"                         \
    "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"toolu_2\",\"content\":\"two\"," \
    "\"is_error\":true},{\"type\":\"tool_result\",\"tool_use_id\":\"toolu_1\",\"content\":\"one\"},"             \
    "{\"type\":\"text\",\"text\":\"go on\"}]}]}"

static void check(const char *source, const char *want)
{
    char *got = show(source, CONVERSATION, NULL);
    ck_assert_str_eq(got, want);
    mem_free(got);
}

#define HEAD                                                                                         \
    "[TOOLS]{\"type\": \"function\", \"function\": {\"name\": \"get\", \"description\": \"About\", " \
    "\"parameters\": {\"type\": \"object\", \"properties\": {}}}}<system>SYS<user>ask"

START_TEST(everything_has_its_place)
{
    check(FULL, HEAD "<assistant>(hm)see[toolu_1 get {\"x\": 1}][toolu_2 get {\"x\": 2}]<tool toolu_2>Error: two"
                     "<tool toolu_1>one<user>go on");
}
END_TEST

START_TEST(parallel_calls_are_told_one_by_one_where_only_one_is_allowed)
{
    check("{% for m in messages %}{% if (m.tool_calls or []) | length > 1 %}{{ raise_exception('one!') }}{% endif %}"
          "{% endfor %}" FULL,
          HEAD "<assistant>(hm)see[toolu_1 get {\"x\": 1}]<tool toolu_1>one<assistant>[toolu_2 get {\"x\": 2}]"
               "<tool toolu_2>Error: two<user>go on");
}
END_TEST

START_TEST(ids_are_made_short_where_that_is_demanded)
{
    char *got = show("{% for m in messages %}{% if m.tool_call_id and m.tool_call_id | length != 9 %}"
                     "{{ raise_exception('nine') }}{% endif %}{% endfor %}" FULL,
                     CONVERSATION, NULL);
    ck_assert(strstr(got, "toolu_") == NULL && strstr(got, " get {\"x\": 2}]") != NULL);
    mem_free(got);
}
END_TEST

START_TEST(text_that_a_call_would_swallow_gets_its_own_turn)
{
    check("{% for m in messages %}{% if m.tool_calls %}{% set ns = namespace(x=1) %}{% endif %}{% endfor %}"
          "{% if tools %}[TOOLS]{% for t in tools %}{{ t | tojson }}{% endfor %}{% endif %}"
          "{% for m in messages %}<{{ m.role }}{% if m.tool_call_id %} {{ m.tool_call_id }}{% endif %}>"
          "{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}"
          "{% if not m.tool_calls %}{{ m.content }}{% endif %}"
          "{% for c in m.tool_calls or [] %}[{{ c.id }} {{ c.function.name }} {{ c.function.arguments | tojson }}]"
          "{% endfor %}{% endfor %}",
          HEAD "<assistant>see<assistant>(hm)[toolu_1 get {\"x\": 1}][toolu_2 get {\"x\": 2}]<tool toolu_2>Error: two"
               "<tool toolu_1>one<user>go on");
}
END_TEST

START_TEST(a_template_without_tools_gets_them_as_text)
{
    char *got = show(PLAIN, CONVERSATION, NULL);
    static const char *const parts[] = {"system\nSYS", "About", "see", "\"x\"", "Error: two", "one", "go on"};
    const char *at = got;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        const char *found = strstr(at, parts[i]);
        ck_assert_msg(found != NULL, "%s is not behind the others in %s", parts[i], got);
        at = found;
    }
    ck_assert(strstr(got, "<|im_start|>tool") == NULL);
    mem_free(got);
}
END_TEST

START_TEST(system_turns_that_may_not_stand_there_become_reminders)
{
    const char *json = "{\"model\":\"m\",\"max_tokens\":1,\"messages\":[{\"role\":\"user\",\"content\":\"a\"},"
                       "{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"assistant\",\"content\":\"b\"},"
                       "{\"role\":\"system\",\"content\":\"T\"}]}";
    char *plain = show(FULL, json, NULL);
    ck_assert_str_eq(plain, "<user>a<system>S<assistant>b<system>T");
    char *strict = show("{% for m in messages %}{% if m.role == 'system' and not loop.first %}"
                        "{{ raise_exception('first!') }}{% endif %}{% endfor %}" FULL,
                        json, NULL);
    ck_assert_str_eq(strict,
                     "<user>a\n\n<system-reminder>\nS\n</system-reminder><assistant>b<user><system-reminder>\nT\n"
                     "</system-reminder>");
    mem_free(plain);
    mem_free(strict);
}
END_TEST

START_TEST(deferred_tools_are_shown_where_they_are_referred_to)
{
    char *got = show(
        FULL,
        "{\"model\":\"m\",\"max_tokens\":1,\"tools\":[" TOOL
        ",{\"name\":\"late\",\"description\":\"L\",\"input_schema\":"
        "{\"type\":\"object\"},\"defer_loading\":true}],\"messages\":[{\"role\":\"user\",\"content\":\"ask\"},"
        "{\"role\":\"assistant\",\"content\":[{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"get\",\"input\":{}}]},"
        "{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"t\",\"content\":["
        "{\"type\":\"tool_reference\",\"tool_name\":\"late\"},{\"type\":\"text\",\"text\":\"loaded\"}]}]}]}",
        NULL);
    const char *end = "<tool t><functions>\n<function>{\"description\": \"L\", \"name\": \"late\", \"parameters\": "
                      "{\"type\": \"object\"}}</function>\n</functions>\nloaded";
    ck_assert_msg(strlen(got) > strlen(end) && strcmp(got + strlen(got) - strlen(end), end) == 0, "%s", got);
    ck_assert(strstr(got, "late") > strstr(got, "<user>ask"));
    mem_free(got);
}
END_TEST

START_TEST(tools_that_come_and_go_leave_the_start_alone)
{
    static const char late[] = ",{\"name\":\"late\",\"description\":\"L\",\"input_schema\":{\"type\":\"object\"},"
                               "\"defer_loading\":true}";
    static const char change[] = ",{\"role\":\"system\",\"content\":[{\"type\":\"text\",\"text\":\"S\"},{\"type\":"
                                 "\"tool_removal\",\"tool\":{\"type\":"
                                 "\"tool_reference\",\"name\":\"get\"}},{\"type\":\"tool_addition\",\"tool\":{\"type\":"
                                 "\"tool_reference\",\"name\":"
                                 "\"late\"}},{\"type\":\"tool_addition\",\"tool\":{\"type\":\"tool_definition\","
                                 "\"definition\":{\"name\":\"new\","
                                 "\"description\":\"N\",\"input_schema\":{}}}},{\"type\":\"tool_addition\",\"tool\":{"
                                 "\"type\":\"tool_reference\","
                                 "\"name\":\"get\"}}]}";
    char json[2000];
    snprintf(json, sizeof json,
             "{\"model\":\"m\",\"tools\":[" TOOL "%s],\"messages\":[{\"role\":\"user\",\"content\":\"ask\"}%s]}", late,
             "");
    char *before = show(FULL, json, NULL);
    snprintf(json, sizeof json,
             "{\"model\":\"m\",\"tools\":[" TOOL "%s],\"messages\":[{\"role\":\"user\",\"content\":\"ask\"}%s]}", late,
             change);
    char *after = show(FULL, json, NULL);
    ck_assert(strncmp(after, before, strlen(before)) == 0);
    ck_assert_str_eq(
        after + strlen(before),
        "<system>S\n\nFrom here on the function get can no longer be called.\n\nFrom here on these functions can be "
        "called:\n<functions>\n<function>{\"description\": \"L\", \"name\": \"late\", \"parameters\": {\"type\": "
        "\"object\"}}</function>\n<function>{\"description\": \"N\", \"name\": \"new\", \"parameters\": "
        "{}}</function>\n</functions>\n\nFrom here on the function get can be called again.");
    mem_free(before);
    mem_free(after);
}
END_TEST

START_TEST(the_first_tools_that_come_bring_the_way_to_call_them)
{
    char *got = show(
        FULL,
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"ask\"},{\"role\":\"system\",\"content\":[{"
        "\"type\":\"tool_addition\",\"tool\":{\"type\":\"tool_definition\",\"definition\":" TOOL "}}]}]}",
        NULL);
    static const char *const parts[] = {"<user>ask<system>", "About", "<tool_call>"};
    const char *at = got;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        at = strstr(at, parts[i]);
        ck_assert_msg(at != NULL, "%s: %s", parts[i], got);
    }
    mem_free(got);
}
END_TEST

/* ---- memory ---- */

static void add(struct call_memory *m, const char *id, const char *raw)
{
    struct made_call call = {str_from(id), STR("get"), STR("{\"x\":1e0,\"y\":[\"a\"]}")};
    call_memory_add(m,
                    &(struct made_answer){.raw = str_from(raw), .text = STR("see \n"), .calls = &call, .n_calls = 1});
}

static enum made_match match(struct call_memory *m, const struct chat_block *blocks, size_t n, const char *want)
{
    struct made_text made;
    made_text_init(&made, 1 << 20);
    struct chat_block list[4];
    memcpy(list, blocks, n * sizeof *blocks);
    enum made_match found =
        call_memory_find(m, &made, &(struct chat_message){.role = CHAT_ASSISTANT, .blocks = list, .n_blocks = n}, 0, 0);
    if (want) ck_assert_msg(str_eq(buf_str(&made.raw), str_from(want)), "%.*s", STR_ARG(buf_str(&made.raw)));
    made_text_deinit(&made);
    return found;
}

static bool knows(struct call_memory *m, const char *id, const char *text, const char *input)
{
    struct chat_block blocks[] = {
        {.kind = CHAT_TEXT, .text = str_from(text)},
        {.kind = CHAT_TOOL_USE, .id = str_from(id), .name = STR("get"), .input = json_loads(input, 0, NULL)}};
    enum made_match found = match(m, blocks, 2, NULL);
    json_decref(blocks[1].input);
    return found == MADE_SAME;
}

START_TEST(text_answers_are_remembered_by_their_words)
{
    struct call_memory *m = call_memory_create(1 << 20);
    call_memory_add(m, &(struct made_answer){.raw = STR("\n\nIt is  here.\n"), .text = STR("It is  here.")});
    call_memory_add(m, &(struct made_answer){.raw = STR("other"), .text = STR("other")});
    call_memory_add(m, &(struct made_answer){.raw = STR(" "), .text = STR(" ")});
    struct chat_block same = {.kind = CHAT_TEXT, .text = STR("It is  here.")};
    struct chat_block spaced = {.kind = CHAT_TEXT, .text = STR("It is here.")};
    struct chat_block changed = {.kind = CHAT_TEXT, .text = STR("It is there.")};
    struct chat_block pieces[] = {{.kind = CHAT_TEXT, .text = STR("It is")}, {.kind = CHAT_TEXT, .text = STR("here.")}};
    ck_assert_int_eq(match(m, &same, 1, "\n\nIt is  here.\n"), MADE_SAME);
    ck_assert_int_eq(match(m, pieces, 2, "\n\nIt is  here.\n"), MADE_SAME);
    ck_assert_int_eq(match(m, &spaced, 1, ""), MADE_UNKNOWN); /* white space inside is text */
    ck_assert_int_eq(match(m, &changed, 1, ""), MADE_UNKNOWN);
    call_memory_destroy(m);
}
END_TEST

START_TEST(what_means_the_same_is_remembered)
{
    struct call_memory *m = call_memory_create(1 << 20);
    add(m, "t1", "raw");
    ck_assert(knows(m, "t1", "see", "{\"y\":[\"a\"],\"x\":1}"));
    ck_assert(!knows(m, "t1", "see", "{\"y\":[\"a\"],\"x\":2}"));
    ck_assert(!knows(m, "t1", "see", "{\"y\":[\"a\"],\"x\":1,\"z\":0}"));
    ck_assert(!knows(m, "t1", "saw", "{\"y\":[\"a\"],\"x\":1}"));
    ck_assert(!knows(m, "t2", "see", "{\"y\":[\"a\"],\"x\":1}"));
    char *got = show(FULL,
                     "{\"model\":\"m\",\"max_tokens\":1,\"messages\":[{\"role\":\"user\",\"content\":\"ask\"},"
                     "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"see\"},{\"type\":\"tool_use\","
                     "\"id\":\"t1\",\"name\":\"get\",\"input\":{\"y\":[\"a\"],\"x\":1.0}}]},{\"role\":\"user\","
                     "\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"t1\"}]}]}",
                     m);
    ck_assert(strstr(got, "<assistant>Q") && !strstr(got, "get"));
    mem_free(got);
    call_memory_destroy(m);
}
END_TEST

START_TEST(of_equal_words_those_of_the_conversation_are_found)
{
    struct call_memory *m = call_memory_create(1 << 20);
    struct chat_block ask = {.kind = CHAT_TEXT, .text = STR("first")}, yes = {.kind = CHAT_TEXT, .text = STR("yes")};
    struct chat_message user = {.role = CHAT_USER, .blocks = &ask, .n_blocks = 1};
    struct chat_message said = {.role = CHAT_ASSISTANT, .blocks = &yes, .n_blocks = 1};
    uint64_t first = call_memory_context(0, &user);
    ask.text = STR("second");
    uint64_t second = call_memory_context(0, &user), none = 7;
    ck_assert(first != second && call_memory_context(first, &said) == first);
    call_memory_add(m, &(struct made_answer){.raw = STR(" yes"), .text = STR("yes"), .context = first});
    call_memory_add(m, &(struct made_answer){.raw = STR("yes "), .text = STR("yes"), .context = second});
    uint64_t asked[] = {first, second, first, none};
    static const char *const want[] = {" yes", "yes ", " yes", "yes "}; /* else the newest */
    for (size_t i = 0; i < 4; i++) {
        struct made_text made;
        made_text_init(&made, 1 << 20);
        ck_assert_int_eq(call_memory_find(m, &made, &said, 0, asked[i]), MADE_SAME);
        ck_assert_msg(str_eq(buf_str(&made.raw), str_from(want[i])), "%zu: %.*s", i, STR_ARG(buf_str(&made.raw)));
        made_text_deinit(&made);
    }
    call_memory_destroy(m);
}
END_TEST

/* A budget for some hundred: the oldest are forgotten, in both tables. */
START_TEST(the_same_word_is_found_in_each_of_many_turns)
{
    struct call_memory *m = call_memory_create(100 << 10);
    struct chat_block yes = {.kind = CHAT_TEXT, .text = STR("yes")};
    struct chat_message said = {.role = CHAT_ASSISTANT, .blocks = &yes, .n_blocks = 1};
    const uint64_t n = 3000, n_kept = 200;
    for (uint64_t i = 0; i < n; i++) {
        char raw[32];
        snprintf(raw, sizeof raw, "yes%*s", (int)(i % 7) + 1, "");
        call_memory_add(m, &(struct made_answer){.raw = str_from(raw), .text = STR("yes"), .context = i});
    }
    for (uint64_t i = n - n_kept; i < n; i++) {
        struct made_text made;
        made_text_init(&made, 1 << 20);
        ck_assert_int_eq(call_memory_find(m, &made, &said, 0, i), MADE_SAME);
        ck_assert_uint_eq(made.raw.len, 4 + i % 7);
        made_text_deinit(&made);
    }
    call_memory_destroy(m);
}
END_TEST

START_TEST(answers_of_another_key_are_nobodys)
{
    struct call_memory *m = call_memory_create(1 << 20);
    struct made_text made;
    struct chat_block blocks[] = {{.kind = CHAT_THINKING, .text = STR("hm")}, {.kind = CHAT_TEXT, .text = STR("yes")}};
    struct chat_message said = {.role = CHAT_ASSISTANT, .blocks = blocks, .n_blocks = 2};
    made_text_init(&made, 1 << 20);
    call_memory_add(m, &(struct made_answer){.raw = STR("yes"), .text = STR("yes"), .thinking = STR("hm"), .salt = 5});
    ck_assert_int_eq(call_memory_find(m, &made, &said, 6, 0), MADE_UNKNOWN);
    ck_assert_int_eq(call_memory_find(m, &made, &said, 5, 0), MADE_SAME);
    blocks[0].text = STR("a guess"); /* nor is reasoning that the client did not get */
    ck_assert_int_eq(call_memory_find(m, &made, &said, 5, 0), MADE_UNKNOWN);
    made_text_deinit(&made);
    call_memory_destroy(m);
}
END_TEST

START_TEST(memory_is_bounded_and_drops_what_was_not_used)
{
    char raw[1001] = {0};
    struct call_memory *m = call_memory_create(16000);
    memset(raw, 'r', 1000);
    for (int i = 0; i < 100; i++) {
        char id[] = {'t', (char)('0' + i / 10), (char)('0' + i % 10), 0};
        add(m, id, raw);
        if (i >= 1) ck_assert(knows(m, "t00", "see", "{\"y\":[\"a\"],\"x\":1}"));
    }
    ck_assert(!knows(m, "t50", "see", "{\"y\":[\"a\"],\"x\":1}"));
    ck_assert(knows(m, "t99", "see", "{\"y\":[\"a\"],\"x\":1}"));
    call_memory_destroy(m);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, everything_has_its_place);
    tcase_add_test(tc, parallel_calls_are_told_one_by_one_where_only_one_is_allowed);
    tcase_add_test(tc, ids_are_made_short_where_that_is_demanded);
    tcase_add_test(tc, text_that_a_call_would_swallow_gets_its_own_turn);
    tcase_add_test(tc, a_template_without_tools_gets_them_as_text);
    tcase_add_test(tc, system_turns_that_may_not_stand_there_become_reminders);
    tcase_add_test(tc, deferred_tools_are_shown_where_they_are_referred_to);
    tcase_add_test(tc, tools_that_come_and_go_leave_the_start_alone);
    tcase_add_test(tc, the_first_tools_that_come_bring_the_way_to_call_them);
    tcase_add_test(tc, what_means_the_same_is_remembered);
    tcase_add_test(tc, text_answers_are_remembered_by_their_words);
    tcase_add_test(tc, of_equal_words_those_of_the_conversation_are_found);
    tcase_add_test(tc, the_same_word_is_found_in_each_of_many_turns);
    tcase_add_test(tc, answers_of_another_key_are_nobodys);
    tcase_add_test(tc, memory_is_bounded_and_drops_what_was_not_used);
}

extern unit_adder add_signature_tests, add_constrain_tests, add_edits, add_runs_tests, add_answer_tests,
    add_quick_tests;

UNIT_MAIN("local", add_tests, add_signature_tests, add_constrain_tests, add_edits, add_runs_tests, add_answer_tests,
          add_quick_tests)
