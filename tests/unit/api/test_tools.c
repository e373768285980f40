/* Tool definitions, and tools that come and go. Each test names the row of the API's table that it stands for. */
#include <string.h>

#include "decode.h"
#include "unit.h"

#define TOOLS(tools) BODY(USER("\"x\""), ",\"tools\":[" tools "]")
#define GET "{\"name\":\"get\",\"description\":\"d\",\"input_schema\":{\"type\":\"object\"}}"
#define PUT_DEFERRED "{\"name\":\"put\",\"input_schema\":{\"type\":\"object\"},\"defer_loading\":true}"

START_TEST(custom_tool_with_all_it_may_have)
{
    struct chat_request *r = decode_ok(TOOLS(
        "{\"type\":\"custom\",\"name\":\"get\",\"description\":\"About\",\"input_schema\":{\"type\":\"object\","
        "\"properties\":{}},"
        "\"cache_control\":{\"type\":\"ephemeral\",\"evict_on_complete\":true},\"strict\":true,\"defer_loading\":false,"
        "\"eager_input_streaming\":true,\"input_examples\":[{\"a\":1},{\"a\":\"\xc3\xa9\"}],\"allowed_callers\":"
        "[\"code_execution_20260120\"],\"ownership_metadata\":{}},{\"type\":null,\"name\":\"b\",\"description\":null,"
        "\"input_schema\":{\"$schema\":\"x\",\"anyOf\":[]}}"));
    ck_assert_uint_eq(r->n_tools, 2);
    ck_assert(r->tools[0].strict && !r->tools[0].deferred && !r->tools[0].withheld);
    ck_assert(str_eq(r->tools[0].description, STR("About\n\nExamples of inputs:\n{\"a\": 1}\n{\"a\": \"\xc3\xa9\"}")));
    ck_assert(str_eq(r->tools[1].description, STR("")));
    chat_request_destroy(r);
}
END_TEST

START_TEST(names_and_schemas_are_checked)
{
    decode_refused(TOOLS(GET "," GET), "tools.1: two tools are named \"get\"", "tool_name_conflict");
    decode_refused(TOOLS("{\"name\":\"a b\",\"input_schema\":{}}"), "tools.0.name: a tool name has 1 to 64 of", NULL);
    decode_refused(TOOLS("{\"name\":\"\",\"input_schema\":{}}"), "tools.0.name: a tool name has 1 to 64 of", NULL);
    decode_refused(
        TOOLS("{\"name\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab\",\"input_schema\":{}}"),
        "tools.0.name: a tool name has 1 to 64 of", NULL);
    decode_refused(TOOLS("{\"input_schema\":{}}"), "tools.0.name: Field required", NULL);
    decode_refused(TOOLS("{\"name\":\"a\"}"), "tools.0.input_schema: Field required", NULL);
    decode_refused(TOOLS("7"), "tools.0: Input should be an object", NULL);
    decode_refused(TOOLS("{\"type\":\"abacus_20300101\",\"name\":\"a\"}"),
                   "tools.0.type: unknown tool type \"abacus_20300101\"", NULL);
}
END_TEST

START_TEST(client_tools_of_the_api)
{
    static const char *const types[] = {"bash_20241022",        "bash_20250124",        "text_editor_20241022",
                                        "text_editor_20250124", "text_editor_20250429", "text_editor_20250728",
                                        "memory_20250818"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char json[300];
        snprintf(json, sizeof json, TOOLS("{\"type\":\"%s\",\"name\":\"n\",\"max_characters\":9}"), types[i]);
        struct chat_request *r = decode_ok(json);
        ck_assert_msg(json_is_object(json_object_get(r->tools[0].schema, "properties")), "%s", types[i]);
        ck_assert(r->tools[0].description.len > 0);
        chat_request_destroy(r);
    }
}
END_TEST

START_TEST(tools_of_the_server_are_refused_by_name)
{
    static const char *const types[] = {"web_search_20250305",
                                        "web_search_20260209",
                                        "web_search_20260318",
                                        "web_fetch_20250910",
                                        "web_fetch_20260318",
                                        "code_execution_20250522",
                                        "code_execution_20250825",
                                        "code_execution_20260120",
                                        "code_execution_20260521",
                                        "advisor_20260301",
                                        "mcp_toolset",
                                        "computer_20250124",
                                        "computer_toolset_20260801",
                                        "browser_toolset_20260801"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char json[300], want[100];
        snprintf(json, sizeof json, TOOLS(GET ",{\"type\":\"%s\",\"mcp_server_name\":\"s\"}"), types[i]);
        snprintf(want, sizeof want, "tools.1.type: \"%s\" is ", types[i]);
        decode_refused(json, want, NULL);
    }
}
END_TEST

START_TEST(tool_search_shows_everything)
{
    static const char *const types[] = {"tool_search_tool_regex", "tool_search_tool_regex_20251119",
                                        "tool_search_tool_bm25", "tool_search_tool_bm25_20251119"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char json[400];
        snprintf(json, sizeof json, TOOLS(PUT_DEFERRED ",{\"type\":\"%s\",\"name\":\"tool_search\"}," GET), types[i]);
        struct chat_request *r = decode_ok(json);
        ck_assert_uint_eq(r->n_tools, 2);
        ck_assert(!r->tools[0].deferred && !r->tools[0].withheld && str_eq(r->tools[1].name, STR("get")));
        chat_request_destroy(r);
    }
}
END_TEST

#define CALL_AND_RESULT(content)                                                      \
    ASSISTANT("[{\"type\":\"tool_use\",\"id\":\"a\",\"name\":\"get\",\"input\":{}}]") \
    "," USER("[{\"type\":\"tool_result\",\"tool_use_id\":\"a\",\"content\":[" content "]}]")
#define WITH_TOOLS ",\"tools\":[" GET "," PUT_DEFERRED "]"

START_TEST(deferred_tools_wait_for_their_reference)
{
    struct chat_request *r = decode_ok(BODY(USER("\"x\""), WITH_TOOLS));
    ck_assert(r->tools[1].deferred && r->tools[1].withheld);
    chat_request_destroy(r);
    r = decode_ok(BODY(CALL_AND_RESULT("{\"type\":\"tool_reference\",\"tool_name\":\"put\"}"), WITH_TOOLS));
    ck_assert(r->tools[1].deferred && !r->tools[1].withheld);
    chat_request_destroy(r);
    decode_refused(BODY(CALL_AND_RESULT("{\"type\":\"tool_reference\",\"tool_name\":\"fly\"}"), WITH_TOOLS),
                   "messages.1.content.0.content.0.tool_name: Tool reference 'fly' not found in available tools",
                   "tool_reference_unresolved");
}
END_TEST

#define CHANGE(kind, tool) "{\"type\":\"tool_" kind "\",\"tool\":{" tool "}}"
#define BY_NAME(name) "\"type\":\"tool_reference\",\"name\":\"" name "\""
#define DEFINED(definition) "\"type\":\"tool_definition\",\"definition\":" definition
#define NEW_GET "{\"name\":\"get\",\"description\":\"newer\",\"input_schema\":{}}"

START_TEST(tools_come_and_go)
{
    static const struct {
        const char *changes;
        bool withheld[3];
        size_t n;
    } cases[] = {
        {CHANGE("addition", BY_NAME("put")), {false, false}, 2},
        {CHANGE("removal", BY_NAME("get")), {true, true}, 2},
        {CHANGE("removal", BY_NAME("get")) "," CHANGE("addition", BY_NAME("get")), {false, true}, 2},
        {CHANGE("removal", BY_NAME("nobody")), {false, true}, 2},
        {CHANGE("addition", DEFINED("{\"name\":\"fly\",\"input_schema\":{}}")), {false, true, false}, 3},
        {CHANGE("addition", DEFINED("{\"name\":\"fly\",\"input_schema\":{}}")) "," CHANGE("removal", BY_NAME("fly")),
         {false, true, true},
         3},
        {CHANGE("addition", DEFINED(NEW_GET)), {true, true, false}, 3},
        {CHANGE("addition", DEFINED(NEW_GET)) "," CHANGE("removal", BY_NAME("get")), {true, true, true}, 3},
        {CHANGE("removal", "\"type\":\"mcp_tool_reference\",\"server_name\":\"s\",\"name\":\"n\""), {false, true}, 2},
        {CHANGE("removal", "\"type\":\"mcp_toolset_reference\",\"server_name\":\"s\""), {false, true}, 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[1000];
        snprintf(json, sizeof json, BODY(USER("\"x\"") "," SYSTEM("[%s]"), WITH_TOOLS), cases[i].changes);
        struct chat_request *r = decode_ok(json);
        ck_assert_uint_eq(r->n_tools, cases[i].n);
        for (size_t k = 0; k < r->n_tools; k++)
            ck_assert_msg(r->tools[k].withheld == cases[i].withheld[k], "%zu: tool %zu", i, k);
        chat_request_destroy(r);
    }
    struct chat_request *r =
        decode_ok(BODY(USER("\"x\"") "," SYSTEM("[" CHANGE("addition", DEFINED(NEW_GET)) "]"), WITH_TOOLS));
    ck_assert(chat_tool_find(r, STR("get")) == &r->tools[2] && !r->tools[0].deferred && r->tools[2].deferred);
    chat_request_destroy(r);
}
END_TEST

START_TEST(a_reference_means_the_newest_tool_of_its_name)
{
    struct chat_request *r =
        decode_ok(BODY(USER("\"x\"") "," SYSTEM("[" CHANGE("addition", DEFINED(NEW_GET)) "]") "," CALL_AND_RESULT(
                           "{\"type\":\"tool_reference\",\"tool_name\":\"get\"}"),
                       WITH_TOOLS));
    ck_assert(r->n_tools == 3 && r->tools[0].withheld && !r->tools[2].withheld);
    chat_request_destroy(r);
}
END_TEST

START_TEST(changes_that_cannot_be)
{
    static const struct {
        const char *change, *message, *code;
    } cases[] = {
        {CHANGE("addition", BY_NAME("fly")), "tool: Tool reference 'fly' not found", "tool_reference_unresolved"},
        {CHANGE("addition", "\"type\":\"mcp_toolset_reference\",\"server_name\":\"s\""),
         "tool: MCP server 's' not found", "tool_reference_unresolved"},
        {CHANGE("addition", "\"type\":\"mcp_tool_reference\",\"server_name\":\"s\",\"name\":\"n\""),
         "tool: MCP server 's' not found", "tool_reference_unresolved"},
        {CHANGE("addition", "\"type\":\"tool_rumour\""), "tool.type: Input tag 'tool_rumour' found", NULL},
        {CHANGE("addition", DEFINED("{\"type\":\"mcp_toolset\",\"mcp_server_name\":\"s\"}")),
         "tool.definition.type: \"mcp_toolset\" is", NULL},
        {CHANGE("addition", DEFINED("{\"name\":\"f\"}")), "tool.definition.input_schema: Field required", NULL},
        {CHANGE("addition", "\"type\":\"tool_definition\""), "tool.definition: Field required", NULL},
        {CHANGE("removal", DEFINED(GET)), "tool.type: a tool is removed by a reference", NULL},
        {"{\"type\":\"tool_removal\"}", "tool: Field required", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[1000], want[200];
        snprintf(json, sizeof json, BODY(USER("\"x\"") "," SYSTEM("[%s]"), WITH_TOOLS), cases[i].change);
        snprintf(want, sizeof want, "messages.1.content.0.%s", cases[i].message);
        decode_refused(json, want, cases[i].code);
    }
}
END_TEST

START_TEST(a_compaction_begins_with_the_tools_of_the_list)
{
    struct chat_request *r =
        decode_ok(BODY(USER("\"x\"") "," SYSTEM("[" CHANGE("removal", BY_NAME("get")) "]") "," ASSISTANT(
                           "[{\"type\":\"compaction\",\"content\":\"sum\",\"tool_changes\":[" CHANGE(
                               "addition", BY_NAME("put")) "]}]") "," USER("\"y\""),
                       WITH_TOOLS));
    ck_assert(!r->tools[0].withheld && !r->tools[1].withheld);
    ck_assert_uint_eq(r->n_messages, 3);
    ck_assert_int_eq(r->messages[1].blocks[0].kind, CHAT_TOOL_ADDITION);
    chat_request_destroy(r);
}
END_TEST

START_TEST(choices_name_what_can_be_called)
{
    static const char removed[] = USER("\"x\"") "," SYSTEM("[" CHANGE("removal", BY_NAME("get")) "]");
    char json[1000];
    snprintf(json, sizeof json, BODY("%s", WITH_TOOLS ",\"tool_choice\":{\"type\":\"tool\",\"name\":\"get\"}"),
             removed);
    decode_refused(json, "tool_choice.name: no tool is named \"get\"", NULL);
    snprintf(json, sizeof json, BODY("%s", WITH_TOOLS ",\"tool_choice\":{\"type\":\"any\"}"), removed);
    decode_refused(json, "tool_choice: a tool is required but none is given", NULL);
    struct chat_request *r =
        decode_ok(BODY(USER("\"x\""), WITH_TOOLS ",\"tool_choice\":{\"type\":\"tool\",\"name\":\"put\"}"));
    ck_assert(!r->tools[1].withheld);
    chat_request_destroy(r);
    decode_refused(BODY(USER("\"x\""), ",\"tool_choice\":{\"type\":\"any\"}"), "tool_choice: a tool is required", NULL);
    decode_refused(BODY(USER("\"x\""), ",\"tool_choice\":{\"type\":\"maybe\"}"),
                   "tool_choice.type: unknown tool choice", NULL);
    chat_request_destroy(decode_ok(BODY(USER("\"x\""), ",\"tool_choice\":{\"type\":\"none\"}")));
    chat_request_destroy(decode_ok(BODY(USER("\"x\""), ",\"tools\":[],\"tool_choice\":{\"type\":\"auto\"}")));
}
END_TEST

void add_tools(TCase *tc);
void add_tools(TCase *tc)
{
    tcase_add_test(tc, custom_tool_with_all_it_may_have);
    tcase_add_test(tc, names_and_schemas_are_checked);
    tcase_add_test(tc, client_tools_of_the_api);
    tcase_add_test(tc, tools_of_the_server_are_refused_by_name);
    tcase_add_test(tc, tool_search_shows_everything);
    tcase_add_test(tc, deferred_tools_wait_for_their_reference);
    tcase_add_test(tc, tools_come_and_go);
    tcase_add_test(tc, a_reference_means_the_newest_tool_of_its_name);
    tcase_add_test(tc, changes_that_cannot_be);
    tcase_add_test(tc, a_compaction_begins_with_the_tools_of_the_list);
    tcase_add_test(tc, choices_name_what_can_be_called);
}
