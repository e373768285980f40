/* History never fails: blocks that other servers and other models left. Each case names its row of the API's table. */
#include <string.h>

#include "decode.h"
#include "unit.h"

#define RESULT(type, content) "{\"type\":\"" type "\",\"tool_use_id\":\"srvtoolu_1\",\"content\":" content "}"

static const struct {
    const char *row, *block, *text; /* text: "" = dropped */
} rows[] = {
    {"server_tool_use",
     "{\"type\":\"server_tool_use\",\"id\":\"srvtoolu_1\",\"name\":\"web_search\",\"input\":{\"query\":\"q\"}}",
     "[used web_search: {\"query\":\"q\"}]"},
    {"web_search_tool_result",
     RESULT("web_search_tool_result",
            "[{\"type\":\"web_search_result\",\"title\":\"T\",\"url\":\"http://u\",\"encrypted_content\":"
            "\"SECRET\",\"page_age\":\"1 day\"}]"),
     "[web_search result]\n- T (http://u)"},
    {"web_search_tool_result error",
     RESULT("web_search_tool_result",
            "{\"type\":\"web_search_tool_result_error\",\"error_code\":\"max_uses_exceeded\"}"),
     "[web_search result]\nfailed: max_uses_exceeded"},
    {"web_fetch_tool_result",
     RESULT("web_fetch_tool_result",
            "{\"type\":\"web_fetch_result\",\"url\":\"http://u\",\"content\":{\"type\":\"document\",\"title\":"
            "\"T\",\"source\":{\"type\":\"text\",\"media_type\":\"text/plain\",\"data\":\"page\"}}}"),
     "[web_fetch result]\n- http://u\n- T\npage"},
    {"web_fetch_tool_result pdf",
     RESULT("web_fetch_tool_result",
            "{\"type\":\"web_fetch_result\",\"url\":\"http://u\",\"content\":{\"type\":\"document\",\"source\":"
            "{\"type\":\"base64\",\"media_type\":\"application/pdf\",\"data\":\"JVBERi0=\"}}}"),
     "[web_fetch result]\n- http://u"},
    {"code_execution_tool_result",
     RESULT("code_execution_tool_result",
            "{\"type\":\"code_execution_result\",\"stdout\":\"out\\n\",\"stderr\":\"err\",\"return_code\":2,"
            "\"content\":[{\"type\":\"code_execution_output\",\"file_id\":\"file_1\"}]}"),
     "[code_execution result]\nout\nstderr: err\nfile file_1\nexit status 2"},
    {"code_execution_tool_result encrypted",
     RESULT("code_execution_tool_result",
            "{\"type\":\"encrypted_code_execution_result\",\"encrypted_stdout\":\"SECRET\",\"stderr\":\"\","
            "\"return_code\":0,\"content\":[]}"),
     ""},
    {"bash_code_execution_tool_result",
     RESULT("bash_code_execution_tool_result",
            "{\"type\":\"bash_code_execution_result\",\"stdout\":\"hi\",\"stderr\":\"\",\"return_code\":0,"
            "\"content\":[]}"),
     "[bash_code_execution result]\nhi"},
    {"text_editor_code_execution_tool_result",
     RESULT("text_editor_code_execution_tool_result",
            "{\"type\":\"text_editor_code_execution_view_result\",\"file_type\":\"text\","
            "\"content\":\"line\"}"),
     "[text_editor_code_execution result]\nline"},
    {"tool_search_tool_result",
     RESULT("tool_search_tool_result",
            "{\"type\":\"tool_search_tool_search_result\",\"tool_references\":[{\"type\":\"tool_reference\","
            "\"tool_name\":\"get\"}]}"),
     "[tool_search result]\ntool get"},
    {"mcp_tool_use", "{\"type\":\"mcp_tool_use\",\"id\":\"m\",\"name\":\"get\",\"server_name\":\"files\",\"input\":{}}",
     "[used get of files: {}]"},
    {"mcp_tool_result",
     "{\"type\":\"mcp_tool_result\",\"tool_use_id\":\"m\",\"is_error\":true,\"content\":[" TEXT("no") "]}",
     "[mcp failed]\nno"},
    {"mcp_tool_result of text", "{\"type\":\"mcp_tool_result\",\"tool_use_id\":\"m\",\"content\":\"yes\"}",
     "[mcp result]\nyes"},
    {"mcp_tool_listing", "{\"type\":\"mcp_tool_listing\",\"mcp_server_name\":\"s\",\"tools\":[{}]}", ""},
    {"advisor_tool_result", RESULT("advisor_tool_result", "{\"type\":\"advisor_result\",\"text\":\"think again\"}"),
     "[advisor result]\nthink again"},
    {"advisor_tool_result redacted",
     RESULT("advisor_tool_result", "{\"type\":\"advisor_redacted_result\",\"encrypted_content\":\"SECRET\"}"), ""},
    {"fallback", "{\"type\":\"fallback\",\"from\":{\"model\":\"a\"},\"to\":{\"model\":\"b\"},\"trigger\":null}", ""},
    {"redacted_thinking", "{\"type\":\"redacted_thinking\",\"data\":\"SECRET\"}", ""},
    {"thinking, foreign signature", "{\"type\":\"thinking\",\"thinking\":\"hm\",\"signature\":\"EqQBforeign\"}",
     "<thinking>"},
    {"thinking, empty", "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}", "<thinking>"},
    {"compaction that failed", "{\"type\":\"compaction\",\"content\":null,\"encrypted_content\":\"SECRET\"}", ""},
    {"a later server's tool", RESULT("crystal_ball_tool_result", "[\"tomorrow\"]"), "[crystal_ball result]\ntomorrow"},
    {"odd shapes", RESULT("web_search_tool_result", "[1,null,[{\"content\":{\"content\":5}}],{\"return_code\":\"x\"}]"),
     ""},
    {"no content", "{\"type\":\"code_execution_tool_result\"}", ""},
};

START_TEST(blocks_of_other_servers)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char json[2000], want[2000];
        snprintf(json, sizeof json,
                 BODY(USER("\"q\"") "," ASSISTANT("[" TEXT("a") ",%s," TEXT("b") "]") "," USER("\"go on\""), ""),
                 rows[i].block);
        snprintf(want, sizeof want, rows[i].text[0] ? "a|%s|b" : "a%s|b", rows[i].text);
        struct chat_request *r = decode_ok(json);
        ck_assert_msg(!strcmp(texts_of(r, 1), want), "%s: %s", rows[i].row, texts_of(r, 1));
        chat_request_destroy(r);
    }
}
END_TEST

START_TEST(deep_results_are_cut_not_followed)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_append(&b, STR("{\"model\":\"m\",\"messages\":[" USER("\"q\"") ",{\"role\":\"assistant\",\"content\":[" TEXT(
                       "a") ",{\"type\":"
                            "\"web_search_tool_result\",\"content\":"));
    for (int i = 0; i < 200; i++) buf_append_char(&b, '[');
    buf_append(&b, STR("\"deep\""));
    for (int i = 0; i < 200; i++) buf_append_char(&b, ']');
    buf_append(&b, STR("}]}]}"));
    struct chat_request *r = decode_ok(b.ptr);
    ck_assert_str_eq(texts_of(r, 1), "a");
    chat_request_destroy(r);
    buf_deinit(&b);
}
END_TEST

#define COMPACTION(text) \
    "{\"type\":\"compaction\",\"content\":\"" text "\",\"encrypted_content\":\"x\",\"signature\":\"y\"}"

START_TEST(compaction_takes_the_place_of_what_was_before)
{
    static const struct {
        const char *messages;
        size_t n;
        const char *first, *last;
    } cases[] = {
        {USER("\"old\"") "," ASSISTANT("[" COMPACTION("sum") "]") "," USER("\"new\""), 1,
         "<summary>\nsum\n</summary>|new", "<summary>\nsum\n</summary>|new"},
        {ASSISTANT("[" COMPACTION("sum") "]"), 1, "<summary>\nsum\n</summary>", "<summary>\nsum\n</summary>"},
        {ASSISTANT("[" COMPACTION("sum") "," TEXT("then") "]") "," USER("\"new\""), 3, "<summary>\nsum\n</summary>",
         "new"},
        {USER("\"x\"") "," ASSISTANT("[" TEXT("lost") "," COMPACTION("one") "," TEXT("lost") "]") "," USER(
             "\"lost\"") "," ASSISTANT("[" COMPACTION("two") "," TEXT("kept") "]"),
         2, "<summary>\ntwo\n</summary>", "kept"},
        {USER("\"x\"") "," ASSISTANT("[{\"type\":\"compaction\",\"content\":null}," TEXT("b") "]") "," USER("\"c\""), 3,
         "x", "c"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char json[2000];
        snprintf(json, sizeof json, BODY("%s", ""), cases[i].messages);
        struct chat_request *r = decode_ok(json);
        ck_assert_msg(r->n_messages == cases[i].n, "%zu: %zu", i, r->n_messages);
        ck_assert_int_eq(r->messages[0].role, CHAT_USER);
        ck_assert_str_eq(texts_of(r, 0), cases[i].first);
        ck_assert_str_eq(texts_of(r, r->n_messages - 1), cases[i].last);
        chat_request_destroy(r);
    }
}
END_TEST

void add_history(TCase *tc);
void add_history(TCase *tc)
{
    tcase_add_test(tc, blocks_of_other_servers);
    tcase_add_test(tc, deep_results_are_cut_not_followed);
    tcase_add_test(tc, compaction_takes_the_place_of_what_was_before);
}
