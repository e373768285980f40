/* The order of messages, limits, and odd requests of real clients. Each case names the rule that it stands for. */
#include <string.h>

#include "decode.h"
#include "unit.h"

#define CALL(id) "{\"type\":\"tool_use\",\"id\":\"" id "\",\"name\":\"f\",\"input\":{}}"
#define RESULT(id) "{\"type\":\"tool_result\",\"tool_use_id\":\"" id "\"}"

START_TEST(orders_that_are_taken)
{
    static const struct {
        const char *rule, *messages, *texts; /* of all messages: role letter and texts, separated by spaces */
    } cases[] = {
        {"consecutive messages of one role are merged",
         USER("\"a\"") "," USER("\"b\"") "," ASSISTANT("\"c\"") "," ASSISTANT("\"d\""), "u:a|b a:c|d"},
        {"the first message may be the assistant's", ASSISTANT("\"a\"") "," USER("\"b\""), "a:a u:b"},
        {"a prefill may end in white space", USER("\"a\"") "," ASSISTANT("\"b \""), "u:a a:b "},
        {"empty texts are dropped", USER("[" TEXT("") "," TEXT("a") "]") "," ASSISTANT("\"\""), "u:a"},
        {"a message of empty texts vanishes", USER("\"a\"") "," ASSISTANT("[" TEXT("") "]") "," USER("\"b\""), "u:a|b"},
        {"system first", SYSTEM("\"s\"") "," USER("\"a\""), "s:s u:a"},
        {"system last", USER("\"a\"") "," SYSTEM("\"s\""), "u:a s:s"},
        {"system behind the assistant", USER("\"a\"") "," ASSISTANT("\"b\"") "," SYSTEM("\"s\"") "," USER("\"c\""),
         "u:a a:b s:s u:c"},
        {"system alone", SYSTEM("\"s\""), "s:s"},
        {"system twice", USER("\"a\"") "," SYSTEM("\"s\"") "," SYSTEM("[" TEXT("t") "]"), "u:a s:s|t"},
        {"results behind text", ASSISTANT("[" CALL("i") "]") "," USER("[" TEXT("a") "," RESULT("i") "]"),
         "a:<call> u:a|<result>"},
        {"results in two messages",
         ASSISTANT("[" CALL("i") "," CALL("k") "]") "," USER("[" RESULT("i") "]") "," USER("[" RESULT("k") "]"),
         "a:<call>|<call> u:<result>|<result>"},
        {"a system turn between call and result",
         ASSISTANT("[" CALL("i") "]") "," SYSTEM("\"s\"") "," USER("[" RESULT("i") "]"), "a:<call> s:s u:<result>"},
        {"thinking of the last turn may change",
         ASSISTANT("[{\"type\":\"thinking\",\"thinking\":\"other\"}," TEXT("a") "]"), "a:<thinking>|a"},
        {"cache_control anywhere, any number",
         USER("[{\"type\":\"text\",\"text\":\"a\",\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"1h\"}},{\"type\":"
              "\"text\",\"text\":\"b\","
              "\"cache_control\":null},{\"type\":\"text\",\"text\":\"c\",\"cache_control\":{}},{\"type\":\"text\","
              "\"text\":\"d\","
              "\"cache_control\":{}},{\"type\":\"text\",\"text\":\"e\",\"cache_control\":{}},{\"type\":\"text\","
              "\"text\":\"f\","
              "\"cache_control\":{\"evict_on_complete\":true}}]"),
         "u:a|b|c|d|e|f"},
        {"citations in a text",
         ASSISTANT("[{\"type\":\"text\",\"text\":\"a\",\"citations\":[{\"type\":\"char_location\"}]}]"), "a:a"},
        {"an input that is a string",
         ASSISTANT(
             "[{\"type\":\"tool_use\",\"id\":\"i\",\"name\":\"f\",\"input\":\"\"},"
             "{\"type\":\"tool_use\",\"id\":\"k\",\"name\":\"f\",\"input\":\" {} \"}]") "," USER("[" RESULT("i") "," RESULT("k") "]"),
         "a:<call>|<call> u:<result>|<result>"},
        {"fields that the SDK keeps",
         ASSISTANT("[{\"citations\":null,\"text\":\"a\",\"type\":\"text\"},{\"id\":\"i\",\"caller\":{\"type\":"
                   "\"direct\"},\"input\":{},"
                   "\"name\":\"f\",\"type\":\"tool_use\",\"toolset_name\":null}]") "," USER("[" RESULT("i") "]"),
         "a:a|<call> u:<result>"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[2000], got[500] = "";
        size_t len = 0;
        snprintf(json, sizeof json, BODY("%s", ""), cases[i].messages);
        struct chat_request *r = decode_ok(json);
        for (size_t k = 0; k < r->n_messages; k++)
            len += (size_t)snprintf(got + len, sizeof got - len, "%s%c:%s", k ? " " : "", "uas"[r->messages[k].role],
                                    texts_of(r, k));
        ck_assert_msg(!strcmp(got, cases[i].texts), "%s: %s", cases[i].rule, got);
        chat_request_destroy(r);
    }
}
END_TEST

START_TEST(orders_that_are_refused)
{
    static const struct {
        const char *rule, *messages, *message;
    } cases[] = {
        {"every call is answered in the next user message",
         ASSISTANT("[" CALL("i") "," CALL("k") "]") "," USER("[" RESULT("i") "]"),
         "messages.0: `tool_use` ids were found without `tool_result` blocks immediately after: k. Each `tool_use` "
         "block must have a "
         "corresponding `tool_result` block in the next message."},
        {"also at the end", USER("\"a\"") "," ASSISTANT("[" CALL("i") "]"),
         "messages.1: `tool_use` ids were found without"},
        {"also behind an answer of text", ASSISTANT("[" CALL("i") "]") "," USER("\"a\""),
         "messages.0: `tool_use` ids were found without"},
        {"a result belongs to a call", USER("[" RESULT("z") "]"),
         "messages.0: unexpected `tool_use_id` found in `tool_result` blocks: z."},
        {"of the message before",
         ASSISTANT("[" CALL("i") "]") "," USER("[" RESULT("i") "]") "," ASSISTANT("\"b\"") "," USER(
             "[" RESULT("i") "]"),
         "messages.3: unexpected `tool_use_id`"},
        {"one result a call", ASSISTANT("[" CALL("i") "]") "," USER("[" RESULT("i") "," RESULT("i") "]"),
         "messages.0: each tool_use must have a single result. Found multiple `tool_result` blocks with id: i"},
        {"ids are unique", ASSISTANT("[" CALL("i") "," CALL("i") "]") "," USER("[" RESULT("i") "]"),
         "messages.1: `tool_use` ids must be unique"},
        {"roles are known", "{\"role\":\"tool\",\"content\":\"x\"}", "messages.0.role: unknown role \"tool\""},
        {"something must be there", "", "messages: at least one message with content is required"},
        {"something with content", USER("\"\""), "messages: at least one message with content is required"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[2000];
        snprintf(json, sizeof json, BODY("%s", ""), cases[i].messages);
        decode_refused(json, cases[i].message, NULL);
    }
}
END_TEST

START_TEST(at_most_a_hundred_thousand_messages)
{
    struct buf b;
    buf_init(&b, (size_t)16 << 20);
    for (int extra = 0; extra < 2; extra++) {
        buf_clear(&b);
        buf_append(&b, STR("{\"model\":\"m\",\"messages\":["));
        for (int i = 0; i < 100000 + extra; i++) buf_printf(&b, "%s" USER("\"x\""), i ? "," : "");
        buf_append(&b, STR("]}"));
        if (extra) {
            decode_refused(b.ptr, "messages: at most 100000 messages are accepted, found 100001", NULL);
            continue;
        }
        struct chat_request *r = decode_ok(b.ptr);
        ck_assert(r->n_messages == 1 && r->messages[0].n_blocks == 100000);
        chat_request_destroy(r);
    }
    buf_deinit(&b);
}
END_TEST

static bool same_blocks(const struct chat_block *a, size_t n_a, const struct chat_block *b, size_t n_b)
{
    if (n_a != n_b) return false;
    for (size_t i = 0; i < n_a; i++)
        if (!str_eq(a[i].text, b[i].text)) return false;
    return true;
}

#define BILLING(more) "x-anthropic-billing-header: cc_version=2.1.330; cc_entrypoint=cli;" more

START_TEST(system_texts_are_alike_in_every_form)
{
    static const char *const forms[] = {
        "\"You are\\nhere\"",
        "[" TEXT("You are\\nhere") "]",
        "[{\"type\":\"text\",\"text\":\"You are\\nhere\",\"cache_control\":{\"type\":\"ephemeral\"}}]",
        "[" TEXT(BILLING("")) "," TEXT("You are\\nhere") "]",
        "[" TEXT(BILLING(" cch=1a2b3;")) "," TEXT("You are\\nhere") "]",
        "[" TEXT(BILLING(" cch=1a2b3;") "\\nYou are\\nhere") "]",
        "\"" BILLING(" cch=fffff;") "\\n\\nYou are\\nhere\"",
        "\"You are\\n" BILLING("") "\\nhere\"",
    };
    char json[1000];
    snprintf(json, sizeof json, BODY(USER("\"x\"") "," SYSTEM("%s"), ",\"system\":%s"), forms[0], forms[0]);
    struct chat_request *first = decode_ok(json);
    for (size_t i = 1; i < sizeof forms / sizeof *forms; i++) {
        snprintf(json, sizeof json, BODY(USER("\"x\"") "," SYSTEM("%s"), ",\"system\":%s"), forms[i], forms[i]);
        struct chat_request *r = decode_ok(json);
        const struct chat_message *a = &first->messages[1], *b = &r->messages[1];
        ck_assert_msg(same_blocks(first->system, first->n_system, r->system, r->n_system), "system %zu", i);
        ck_assert_msg(same_blocks(a->blocks, a->n_blocks, b->blocks, b->n_blocks), "message %zu", i);
        chat_request_destroy(r);
    }
    chat_request_destroy(first);
}
END_TEST

START_TEST(what_is_not_honoured_is_noted)
{
    static const struct {
        const char *more, *note; /* NULL: none */
    } cases[] = {
        {",\"speed\":\"fast\"", "speed: "},
        {",\"speed\":\"standard\"", NULL},
        {",\"container\":\"c1\"", "container: "},
        {",\"thinking\":{\"type\":\"adaptive\",\"block_binding\":{\"prefix_mismatch_behavior\":\"error\"}}",
         "thinking.block_binding: "},
        {",\"thinking\":{\"type\":\"adaptive\",\"block_binding\":{\"prefix_mismatch_behavior\":\"drop_block\"}}", NULL},
        {",\"tools\":[{\"name\":\"t\",\"input_schema\":{},\"allowed_callers\":[\"code_execution_20260120\"]}]",
         "tools.0.allowed_callers: "},
        {",\"tools\":[{\"name\":\"t\",\"input_schema\":{},\"allowed_callers\":[\"direct\",\"x\"]}]", NULL},
        {",\"context_management\":{\"edits\":[{\"type\":\"compact_20260112\"}]}", "context_management.edits.0: "},
        {",\"service_tier\":\"auto\",\"metadata\":{},\"inference_geo\":\"eu\"", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[1000];
        snprintf(json, sizeof json, BODY(USER("\"x\""), "%s"), cases[i].more);
        struct chat_request *r = decode_ok(json);
        ck_assert_msg((r->notes != NULL) == (cases[i].note != NULL), "%zu", i);
        if (r->notes)
            ck_assert_msg(str_starts(r->notes->text, str_from(cases[i].note)), "%.*s", STR_ARG(r->notes->text));
        chat_request_destroy(r);
    }
}
END_TEST

START_TEST(text_for_one_turn_goes_with_the_next)
{
    static const char passing[] = ",{\"role\":\"system\",\"content\":\"s\",\"clear_at\":\"next_user_message\"}";
    static const char asked[] = ",{\"role\":\"assistant\",\"content\":\"a\"},{\"role\":\"user\",\"content\":\"y\"}";
    char json[1000];
    snprintf(json, sizeof json, BODY(USER("\"x\"") "%s", ""), passing);
    struct chat_request *r = decode_ok(json);
    ck_assert(r->n_messages == 2 && !r->notes);
    ck_assert_str_eq(texts_of(r, 1), "s");
    chat_request_destroy(r);
    snprintf(json, sizeof json, BODY(USER("\"x\"") "%s%s%s", ""), passing, asked, passing);
    r = decode_ok(json);
    ck_assert_uint_eq(r->n_messages, 4); /* the second stands until the user speaks again */
    ck_assert_int_eq(r->messages[1].role, CHAT_ASSISTANT);
    ck_assert_str_eq(texts_of(r, 3), "s");
    chat_request_destroy(r);
    snprintf(json, sizeof json,
             BODY(USER("\"x\"") ",{\"role\":\"system\",\"content\":\"s\",\"clear_at\":\"never\"}%s", ""), asked);
    r = decode_ok(json);
    ck_assert(r->n_messages == 4 && !r->notes);
    chat_request_destroy(r);
    r = decode_ok(BODY(USER("\"x\"") ",{\"role\":\"system\",\"content\":\"s\",\"clear_at\":\"some day\"}", ""));
    ck_assert(r->notes && str_starts(r->notes->text, STR("messages.1.clear_at: ")));
    chat_request_destroy(r);
}
END_TEST

START_TEST(a_turns_effort_is_that_of_the_last_system_message)
{
    static const char low[] = ",{\"role\":\"system\",\"content\":\"s\",\"output_config\":{\"effort\":\"low\"}}";
    char json[1000];
    snprintf(json, sizeof json, BODY(USER("\"x\"") "%s", ",\"output_config\":{\"effort\":\"high\"}"), low);
    struct chat_request *r = decode_ok(json);
    ck_assert(str_eq(r->effort, STR("low")));
    chat_request_destroy(r);
    snprintf(json, sizeof json,
             BODY(USER("\"x\"") "%s,{\"role\":\"assistant\",\"content\":\"a\"},{\"role\":\"user\",\"content\":\"y\"},"
                                "{\"role\":\"system\",\"content\":\"s\",\"output_config\":{\"effort\":\"max\"}}",
                  ""),
             low);
    r = decode_ok(json);
    ck_assert(str_eq(r->effort, STR("max")));
    chat_request_destroy(r);
    r = decode_ok(BODY(USER("\"x\""), ",\"output_config\":{\"task_budget\":{\"type\":\"tokens\",\"total\":9}}"));
    ck_assert(r->notes && str_starts(r->notes->text, STR("output_config.task_budget")));
    chat_request_destroy(r);
}
END_TEST

/* Every parameter that the SDK knows, with the placeholders of its own tests. */
START_TEST(a_request_with_all_parameters)
{
    static const char json[] =
        "{\"max_tokens\":1024,\"messages\":[{\"content\":[{\"text\":\"x\",\"type\":\"text\",\"cache_control\":{"
        "\"type\":\"ephemeral\",\"ttl\":"
        "\"5m\"},\"citations\":[{\"cited_text\":\"cited_text\",\"document_index\":0,\"document_title\":\"x\",\"end_"
        "char_index\":0,"
        "\"start_char_index\":0,\"type\":\"char_location\"}]}],\"role\":\"user\"}],\"model\":\"claude-opus-4-6\","
        "\"cache_control\":{\"type\":"
        "\"ephemeral\",\"ttl\":\"5m\"},\"container\":\"container\",\"context_management\":{\"edits\":[{\"type\":"
        "\"clear_tool_uses_20250919\","
        "\"clear_at_least\":{\"type\":\"input_tokens\",\"value\":0},\"clear_tool_inputs\":true,\"exclude_tools\":["
        "\"string\"],\"keep\":"
        "{\"type\":\"tool_uses\",\"value\":0},\"trigger\":{\"type\":\"input_tokens\",\"value\":1}}]},\"diagnostics\":{"
        "\"previous_message_id\":"
        "\"previous_message_id\"},\"inference_geo\":\"inference_geo\",\"metadata\":{\"user_id\":\"13803d75-b4b5-4c3e-"
        "b2a2-6f21399b021b\"},"
        "\"output_config\":{\"effort\":\"low\",\"format\":{\"schema\":{\"foo\":\"bar\"},\"type\":\"json_schema\"},"
        "\"task_budget\":{\"total\":"
        "1024,\"type\":\"tokens\",\"remaining\":0}},\"service_tier\":\"auto\",\"speed\":\"standard\",\"stop_"
        "sequences\":[\"string\"],\"stream\":"
        "false,\"system\":[{\"text\":\"Today's date is "
        "2024-06-01.\",\"type\":\"text\",\"cache_control\":{\"type\":\"ephemeral\",\"ttl\":\"5m\"},"
        "\"citations\":[{\"cited_text\":\"c\",\"document_index\":0,\"document_title\":\"x\",\"end_char_index\":0,"
        "\"start_char_index\":0,"
        "\"type\":\"char_location\"}]}],\"thinking\":{\"type\":\"adaptive\",\"display\":\"summarized\"},\"tool_"
        "choice\":{\"type\":\"auto\","
        "\"disable_parallel_tool_use\":true},\"tools\":[{\"input_schema\":{\"type\":\"object\",\"properties\":{"
        "\"location\":\"bar\",\"unit\":"
        "\"bar\"},\"required\":[\"location\"]},\"name\":\"name\",\"allowed_callers\":[\"direct\"],\"cache_control\":{"
        "\"type\":\"ephemeral\","
        "\"ttl\":\"5m\"},\"defer_loading\":true,\"description\":\"Get the current weather in a given "
        "location\",\"eager_input_streaming\":true,"
        "\"input_examples\":[{\"foo\":\"bar\"}],\"strict\":true,\"type\":\"custom\"}],\"mcp_servers\":[],\"fallbacks\":"
        "\"default\","
        "\"billing_policy\":{\"type\":\"x\",\"bill_to\":\"y\"},\"temperature\":1,\"top_k\":5,\"top_p\":0.7,"
        "\"safeguards\":{},\"data_flow\":1}";
    struct chat_request *r = decode_ok(json);
    ck_assert(r->n_tools == 1 && r->tools[0].strict && r->tools[0].deferred && r->context->n_edits == 1);
    chat_request_destroy(r);
}
END_TEST

void add_order(TCase *tc);
void add_order(TCase *tc)
{
    tcase_add_test(tc, orders_that_are_taken);
    tcase_add_test(tc, orders_that_are_refused);
    tcase_add_test(tc, at_most_a_hundred_thousand_messages);
    tcase_add_test(tc, system_texts_are_alike_in_every_form);
    tcase_add_test(tc, what_is_not_honoured_is_noted);
    tcase_add_test(tc, text_for_one_turn_goes_with_the_next);
    tcase_add_test(tc, a_turns_effort_is_that_of_the_last_system_message);
    tcase_add_test(tc, a_request_with_all_parameters);
}
