/* The decoder: what is taken, dropped, repaired and refused. */
#include <string.h>

#include "api/anthropic_messages.h"
#include "base/alloc.h"
#include "unit.h"

static const struct anthropic_support TEXT_ONLY = {0};
static const struct anthropic_support EVERYTHING = {.thinking = true, .tools = true, .output_schema = true};

static struct chat_request *decode(const char *json, size_t len, enum anthropic_call call,
                                   const struct anthropic_support *support, struct anthropic_error *e)
{
    struct chat_request *r = NULL;
    char *body = mem_alloc(len + 1);
    memcpy(body, json, len);
    if (!anthropic_request_decode(&r, body, len, call, support, e)) r = NULL;
    mem_free(body);
    return r;
}

static struct chat_request *take(const char *json)
{
    struct anthropic_error e;
    struct chat_request *r = decode(json, strlen(json), ANTHROPIC_CREATE, &TEXT_ONLY, &e);
    ck_assert_msg(r != NULL, "%s: %s", json, e.message);
    return r;
}

static void refuse(const char *json, int status, const char *message)
{
    struct anthropic_error e;
    struct chat_request *r = decode(json, strlen(json), ANTHROPIC_CREATE, &TEXT_ONLY, &e);
    ck_assert_msg(r == NULL, "accepted: %s", json);
    ck_assert_int_eq(e.status, status);
    ck_assert_msg(strstr(e.message, message) == e.message, "%s\n  got:  %s\n  want: %s", json, e.message, message);
}

#define USER(content) "{\"role\":\"user\",\"content\":" content "}"
#define ASSISTANT(content) "{\"role\":\"assistant\",\"content\":" content "}"
#define SYSTEM(content) "{\"role\":\"system\",\"content\":" content "}"
#define BODY(messages, more) "{\"model\":\"m\",\"messages\":[" messages "]" more "}"

START_TEST(plain_request_is_taken)
{
    struct chat_request *r = take(BODY(USER("\"hi\""), ""));
    ck_assert(str_eq(r->model, STR("m")));
    ck_assert_uint_eq(r->n_messages, 1);
    ck_assert(str_eq(r->messages[0].blocks[0].text, STR("hi")));
    ck_assert_uint_eq(r->max_tokens, 4096);
    ck_assert(!r->has_max_tokens && !r->stream);
    chat_request_destroy(r);
}
END_TEST

START_TEST(fields_reach_the_request)
{
    struct chat_request *r = take(BODY(
        USER("\"hi\""),
        ",\"max_tokens\":3,\"stream\":true,\"system\":[{\"type\":\"text\",\"text\":\"s\",\"cache_control\":{}}],"
        "\"stop_sequences\":[\"a\",\"b\"],\"temperature\":1.5,\"top_p\":0.9,\"top_k\":40,\"min_p\":0.1,\"seed\":7,"
        "\"repeat_penalty\":1.1,\"presence_penalty\":-1,\"frequency_penalty\":0,\"thinking\":{\"type\":\"enabled\","
        "\"budget_tokens\":2048.0},\"output_config\":{\"effort\":\"high\"},\"metadata\":{\"user_id\":"
        "\"{\\\"session_id\\\":\\\"s1\\\"}\"},\"unknown\":{\"x\":[1]},\"container\":\"c\",\"tools\":[],"
        "\"mcp_servers\":[],\"context_management\":{\"edits\":[]},\"service_tier\":\"auto\",\"top_level\":null"));
    ck_assert(r->has_max_tokens && r->max_tokens == 3 && r->stream);
    ck_assert(str_eq(r->system[0].text, STR("s")));
    ck_assert_uint_eq(r->n_stops, 2);
    const struct chat_sampling *s = &r->sampling;
    ck_assert(s->has_temperature && s->has_top_p && s->has_top_k && s->has_min_p && s->has_seed);
    ck_assert(s->has_repeat_penalty && s->has_presence_penalty && s->has_frequency_penalty);
    ck_assert(s->temperature == 1.5 && s->top_k == 40 && s->seed == 7 && s->presence_penalty == -1);
    ck_assert(r->thinking == CHAT_THINKING_ON && r->thinking_budget == 2048);
    ck_assert(str_eq(r->effort, STR("high")) && str_eq(r->session_id, STR("s1")));
    chat_request_destroy(r);
}
END_TEST

START_TEST(messages_of_one_role_are_merged_and_system_stays_in_place)
{
    struct chat_request *r = take(BODY(
        USER("\"a\"") "," USER(
            "[{\"type\":\"text\",\"text\":\"b\"},{\"type\":\"text\",\"text\":\"\"}"
            "]") "," SYSTEM("\"s\"") "," ASSISTANT("[{\"type\":\"thinking\","
                                                   "\"thinking\":\"t\","
                                                   "\"signature\":\"\"}]") "," USER("\"c\"") "," ASSISTANT("\"\"") "," USER("\"d\"") "," ASSISTANT("\"pre\""),
        ""));
    ck_assert_uint_eq(r->n_messages, 4);
    ck_assert_uint_eq(r->messages[0].n_blocks, 2);
    ck_assert(str_eq(r->messages[0].blocks[1].text, STR("b")));
    ck_assert_int_eq(r->messages[1].role, CHAT_SYSTEM);
    ck_assert_int_eq(r->messages[2].role, CHAT_USER);
    ck_assert_uint_eq(r->messages[2].n_blocks, 2);
    ck_assert_int_eq(r->messages[3].role, CHAT_ASSISTANT);
    chat_request_destroy(r);
}
END_TEST

#define BILLING "x-anthropic-billing-header: cc_version=2.1; cc_entrypoint=cli; cch=abc12;"

START_TEST(billing_lines_vanish_wherever_they_are)
{
    static const struct {
        const char *system;
        size_t n;
        const char *first;
    } cases[] = {
        {"[{\"type\":\"text\",\"text\":\"" BILLING "\"},{\"type\":\"text\",\"text\":\"You\"}]", 1, "You"},
        {"[{\"type\":\"text\",\"text\":\"You\"},{\"type\":\"text\",\"text\":\"" BILLING "\\n\"}]", 1, "You"},
        {"\"" BILLING "\\n\\nYou are\\n\\nmore\"", 1, "You are\n\nmore"},
        {"\"You\\n" BILLING "\\nare\"", 1, "You\nare"},
        {"\"" BILLING "\"", 0, NULL},
        {"\"about x-anthropic-billing-header: lines\"", 1, "about x-anthropic-billing-header: lines"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[1000];
        snprintf(json, sizeof json, BODY(USER("\"x\""), ",\"system\":%s"), cases[i].system);
        struct chat_request *r = take(json);
        ck_assert_uint_eq(r->n_system, cases[i].n);
        if (cases[i].n) ck_assert_msg(str_eq(r->system[0].text, str_from(cases[i].first)), "%zu", i);
        chat_request_destroy(r);
    }
    struct chat_request *r = take(BODY(SYSTEM("\"" BILLING "\\nreal\"") "," USER("\"" BILLING "\""), ""));
    ck_assert(str_eq(r->messages[0].blocks[0].text, STR("real")));
    ck_assert(str_eq(r->messages[1].blocks[0].text, STR(BILLING)));
    chat_request_destroy(r);
}
END_TEST

START_TEST(refusals_name_the_path)
{
    static const struct {
        const char *json, *message;
    } cases[] = {
        {"", "the request body is empty"},
        {"[]", "Input should be an object, found an array"},
        {"{", "the request body is not valid JSON"},
        {"{\"messages\":[]}", "model: Field required"},
        {"{\"model\":1,\"messages\":[]}", "model: Input should be a string, found an integer"},
        {"{\"model\":\"m\"}", "messages: Field required"},
        {BODY("", ""), "messages: at least one message with content is required"},
        {BODY("1", ""), "messages.0: Input should be an object, found an integer"},
        {BODY("{\"content\":\"x\"}", ""), "messages.0.role: Field required"},
        {BODY("{\"role\":\"tool\",\"content\":\"x\"}", ""), "messages.0.role: unknown role \"tool\""},
        {BODY("{\"role\":\"user\"}", ""), "messages.0.content: Field required"},
        {BODY(USER("1"), ""), "messages.0.content: Input should be a string or an array of blocks, found an integer"},
        {BODY(USER("\"a\"") "," USER("[{\"type\":\"text\",\"text\":5}]"), ""),
         "messages.1.content.0.text: Input should be a string, found an integer"},
        {BODY(USER("[{\"text\":\"a\"}]"), ""), "messages.0.content.0.type: Field required"},
        {BODY(USER("[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"image\",\"source\":{}}]"), ""),
         "messages.0.content.1.type: \"image\" blocks are not supported"},
        {BODY(USER("[{\"type\":\"document\"}]"), ""), "messages.0.content.0.source: Field required"},
        {BODY(USER("[{\"type\":\"document\",\"source\":{\"type\":\"base64\"}}]"), ""),
         "messages.0.content.0.source.data: Field required"},
        {BODY(USER("[{\"type\":\"search_result\",\"content\":[{\"type\":\"image\"}]}]"), ""),
         "messages.0.content.0.content.0.type: \"image\" blocks"},
        {BODY(ASSISTANT("[{\"type\":\"tool_use\"}]"), ""), "messages.0.content.0.type: \"tool_use\" blocks"},
        {BODY(USER("[{\"type\":\"tool_result\"}]"), ""), "messages.0.content.0.type: \"tool_result\" blocks"},
        {BODY(USER("[{\"type\":\"hologram\"}]"), ""),
         "messages.0.content.0.type: Input tag 'hologram' found using 'type' does not match any of the expected tags: "
         "'text', 'tool_result', 'image', 'document', 'search_result', 'container_upload', "},
        {BODY(USER("[{\"type\":\"thinking\"}]"), ""),
         "messages.0.content.0.type: a \"thinking\" block cannot stand in a user message"},
        {BODY(USER("\"x\""), ",\"tools\":[{\"name\":\"get\",\"input_schema\":{}}]"),
         "tools.0: tools are not supported"},
        {BODY(USER("\"x\""), ",\"tools\":[{\"type\":\"web_search_20250305\",\"name\":\"web_search\"}]"),
         "tools.0.type: \"web_search_20250305\" is a tool that the server would have to run"},
        {BODY(USER("\"x\""), ",\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":{}}}"),
         "output_config.format: structured output is not supported"},
        {BODY(USER("\"x\""), ",\"output_format\":{\"type\":\"json_schema\",\"schema\":{}}"),
         "output_format: structured"},
        {BODY(USER("\"x\""), ",\"thread\":3"), "thread: Input should be an object"},
        {BODY(USER("\"x\""), ",\"mcp_servers\":[{}]"), "mcp_servers: this server"},
        {BODY(USER("\"x\""), ",\"container\":{\"id\":\"c\",\"skills\":[{}]}"), "container: this server"},
        {BODY(USER("\"x\""), ",\"max_tokens\":-1"), "max_tokens: Input should be between 0 and 2147483647, found -1"},
        {BODY(USER("\"x\""), ",\"max_tokens\":1.5"), "max_tokens: Input should be an integer, found a number"},
        {BODY(USER("\"x\""), ",\"max_tokens\":\"9\""), "max_tokens: Input should be an integer, found a string"},
        {BODY(USER("\"x\""), ",\"temperature\":-0.1"), "temperature: Input should be between 0 and 10, found -0.1"},
        {BODY(USER("\"x\""), ",\"top_p\":2"), "top_p: Input should be between 0 and 1, found 2"},
        {BODY(USER("\"x\""), ",\"stop_sequences\":[\"a\",\" \\n\"]"),
         "stop_sequences.1: each stop sequence must contain more than white space"},
        {BODY(USER("\"x\""), ",\"stream\":1"), "stream: Input should be a boolean, found an integer"},
        {BODY(USER("\"x\""), ",\"system\":[{\"type\":\"image\"}]"),
         "system.0.type: a \"image\" block cannot stand in system text"},
        {BODY(USER("\"x\""), ",\"thinking\":{\"type\":5}"), "thinking.type: Input should be a string"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) refuse(cases[i].json, 400, cases[i].message);
}
END_TEST

START_TEST(open_lists_stay_open)
{
    static const char *const bodies[] = {
        BODY(USER("\"x\""), ",\"thinking\":{\"type\":\"between_tools\"},\"betas\":[\"x\"]"),
        BODY(USER("\"x\""), ",\"thinking\":{\"type\":\"tomorrow\"},\"output_config\":{\"effort\":\"ultra\"}"),
        BODY(USER("\"x\""), ",\"metadata\":{\"user_id\":null},\"safeguards\":{},\"output_config\":{\"task_budget\":1}"),
        BODY(USER("\"x\"") "," ASSISTANT(
                 "[{\"type\":\"server_tool_use\",\"id\":\"srvtoolu_1\",\"name\":\"w\"},"
                 "{\"type\":\"redacted_thinking\",\"data\":\"\"},{\"type\":\"text\",\"text\":\"y\","
                 "\"citations\":null}]"),
             ""),
        BODY(SYSTEM("\"only\""), ""),
        BODY(USER("\"\\ud83d cut, \\u0000, \\ud83d\\ude00\""), ""),
    };
    for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) chat_request_destroy(take(bodies[i]));
}
END_TEST

START_TEST(cut_surrogates_become_replacement_characters)
{
    struct chat_request *r = take(BODY(USER("\"\\ud83d\\\\ud83d \\ude00 \\u0000 \\ud83d\\ude00\""), ""));
    ck_assert(str_eq(r->messages[0].blocks[0].text, STR("\xef\xbf\xbd\\ud83d \xef\xbf\xbd \0 \xf0\x9f\x98\x80")));
    chat_request_destroy(r);
}
END_TEST

START_TEST(deep_nesting_is_a_clear_400)
{
    struct anthropic_error e;
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_append(&b, STR("{\"x\":"));
    for (int i = 0; i < 10000; i++) buf_append_char(&b, '[');
    ck_assert_ptr_null(decode(b.ptr, b.len, ANTHROPIC_CREATE, &TEXT_ONLY, &e));
    ck_assert_int_eq(e.status, 400);
    ck_assert_ptr_nonnull(strstr(e.message, "nested too deeply"));
    buf_deinit(&b);
}
END_TEST

START_TEST(too_many_values_are_refused_before_they_cost_memory)
{
    struct anthropic_error e;
    struct buf b;
    buf_init(&b, (size_t)32 << 20);
    buf_append(&b, STR("["));
    for (int i = 0; i < 3000000; i++) buf_append(&b, STR("[],"));
    ck_assert_ptr_null(decode(b.ptr, b.len, ANTHROPIC_CREATE, &TEXT_ONLY, &e));
    ck_assert_int_eq(e.status, 413);
    buf_deinit(&b);
}
END_TEST

START_TEST(invalid_utf8_is_refused)
{
    struct anthropic_error e;
    static const char json[] = "{\"model\":\"\xff\"}";
    ck_assert_ptr_null(decode(json, sizeof json - 1, ANTHROPIC_CREATE, &TEXT_ONLY, &e));
    ck_assert_ptr_nonnull(strstr(e.message, "UTF-8"));
}
END_TEST

START_TEST(count_needs_no_max_tokens_and_ignores_it)
{
    struct anthropic_error e;
    const char *json = BODY(USER("\"foo\""), ",\"max_tokens\":\"x\"");
    struct chat_request *r = decode(json, strlen(json), ANTHROPIC_COUNT, &TEXT_ONLY, &e);
    ck_assert_ptr_nonnull(r);
    chat_request_destroy(r);
}
END_TEST

START_TEST(tools_are_decoded_where_they_are_supported)
{
    struct anthropic_error e;
    const char *json = BODY(
        ASSISTANT("[{\"type\":\"thinking\",\"thinking\":\"t\",\"signature\":\"s\"},{\"type\":\"tool_use\",\"id\":\"i\","
                  "\"name\":\"get\",\"input\":\"{\\\"a\\\":1}\"},{\"type\":\"tool_use\",\"id\":\"k\",\"name\":\"put\","
                  "\"input\":{}}]") "," USER("[{\"type\":\"tool_result\",\"tool_use_id\":"
                                             "\"i\",\"is_error\":true,\"content\":["
                                             "{\"type\":\"text\",\"text\":\"r\"}]},{\"type\":"
                                             "\"tool_result\",\"tool_use_id\":\"k\"}]"),
        ",\"tools\":[{\"name\":\"get\",\"description\":\"d\",\"input_schema\":{\"type\":\"object\"},\"strict\":true},"
        "{\"name\":\"put\",\"input_schema\":{},\"defer_loading\":true}],"
        "\"tool_choice\":{\"type\":\"tool\",\"name\":\"put\",\"disable_parallel_tool_use\":true},"
        "\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"object\"}}}");
    struct chat_request *r = decode(json, strlen(json), ANTHROPIC_CREATE, &EVERYTHING, &e);
    ck_assert_msg(r != NULL, "%s", e.message);
    ck_assert_uint_eq(r->n_tools, 2);
    ck_assert(r->tools[0].strict && r->tools[1].deferred && r->no_parallel_tools);
    ck_assert_int_eq(r->tool_choice, CHAT_TOOLS_ONE);
    ck_assert(json_is_object(r->output_schema));
    ck_assert(str_eq(r->output_where, STR("output_config.format.schema")));
    ck_assert_int_eq(r->messages[0].blocks[0].kind, CHAT_THINKING);
    ck_assert_int_eq(json_integer_value(json_object_get(r->messages[0].blocks[1].input, "a")), 1);
    ck_assert(r->messages[1].blocks[0].is_error && r->messages[1].blocks[0].n_blocks == 1);
    ck_assert_uint_eq(r->messages[1].blocks[1].n_blocks, 0);
    chat_request_destroy(r);
}
END_TEST

#define CALL(id) "{\"type\":\"tool_use\",\"id\":\"" id "\",\"name\":\"get\",\"input\":{}}"
#define RESULT(id) "{\"type\":\"tool_result\",\"tool_use_id\":\"" id "\",\"content\":\"r\"}"

START_TEST(calls_and_results_must_belong_together)
{
    static const struct {
        const char *json, *error;
    } cases[] = {
        {BODY(USER("\"x\"") "," ASSISTANT("[" CALL("a") "," CALL("b") "]") "," USER("[" RESULT("b") "]"), ""),
         "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: a. Each"},
        {BODY(USER("\"x\"") "," ASSISTANT("[" CALL("a") "]"), ""),
         "messages.1: `tool_use` ids were found without `tool_result` blocks immediately after: a. Each"},
        {BODY(USER("[" RESULT("z") "]"), ""),
         "messages.0: unexpected `tool_use_id` found in `tool_result` blocks: z. Each"},
        {BODY(ASSISTANT("[" CALL("a") "]") "," USER("[" RESULT("a") "," RESULT("a") "]"), ""),
         "messages.0: each tool_use must have a single result. Found multiple `tool_result` blocks with id: a"},
        {BODY(ASSISTANT("[" CALL("a") "]") "," SYSTEM("\"s\"") "," USER(
                  "[{\"type\":\"text\",\"text\":\"t\"}," RESULT("a") "]"),
              ""),
         NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct anthropic_error e = {0};
        struct chat_request *r = decode(cases[i].json, strlen(cases[i].json), ANTHROPIC_CREATE, &EVERYTHING, &e);
        ck_assert_msg((r == NULL) == (cases[i].error != NULL), "%zu: %s", i, e.message);
        if (cases[i].error) ck_assert_msg(strstr(e.message, cases[i].error) == e.message, "%s", e.message);
        chat_request_destroy(r);
    }
}
END_TEST

START_TEST(client_tools_of_known_types_get_schemas)
{
    struct anthropic_error e;
    const char *json =
        BODY(USER("\"x\""), ",\"tools\":[{\"type\":\"bash_20250124\",\"name\":\"bash\"},{\"type\":\"memory_20250818\","
                            "\"name\":\"memory\"},{\"type\":\"text_editor_20241022\",\"name\":\"e\"}]");
    struct chat_request *r = decode(json, strlen(json), ANTHROPIC_CREATE, &EVERYTHING, &e);
    ck_assert_msg(r != NULL, "%s", e.message);
    for (size_t i = 0; i < r->n_tools; i++)
        ck_assert(json_is_object(json_object_get(r->tools[i].schema, "properties")) && r->tools[i].description.len);
    chat_request_destroy(r);
}
END_TEST

static void add_request(TCase *tc)
{
    tcase_add_test(tc, plain_request_is_taken);
    tcase_add_test(tc, fields_reach_the_request);
    tcase_add_test(tc, messages_of_one_role_are_merged_and_system_stays_in_place);
    tcase_add_test(tc, billing_lines_vanish_wherever_they_are);
    tcase_add_test(tc, refusals_name_the_path);
    tcase_add_test(tc, open_lists_stay_open);
    tcase_add_test(tc, cut_surrogates_become_replacement_characters);
    tcase_add_test(tc, deep_nesting_is_a_clear_400);
    tcase_add_test(tc, too_many_values_are_refused_before_they_cost_memory);
    tcase_add_test(tc, invalid_utf8_is_refused);
    tcase_add_test(tc, count_needs_no_max_tokens_and_ignores_it);
    tcase_add_test(tc, tools_are_decoded_where_they_are_supported);
    tcase_add_test(tc, calls_and_results_must_belong_together);
    tcase_add_test(tc, client_tools_of_known_types_get_schemas);
}

void add_answer(TCase *tc), add_blocks(TCase *tc), add_history(TCase *tc), add_tools(TCase *tc), add_context(TCase *tc),
    add_order(TCase *tc), add_body(TCase *tc);
UNIT_MAIN("api", add_request, add_answer, add_blocks, add_history, add_tools, add_context, add_order, add_body)
