/* Bodies beside their messages: threads, compactions, diagnostics, and requests that only fill the cache. */
#include <string.h>

#include "api/anthropic_body.h"
#include "base/alloc.h"
#include "unit.h"

static const struct anthropic_support EVERYTHING = {.thinking = true, .tools = true, .output_schema = true};

#define USER(content) "{\"role\":\"user\",\"content\":" content "}"
#define ASSISTANT(content) "{\"role\":\"assistant\",\"content\":" content "}"
#define SYSTEM(content) "{\"role\":\"system\",\"content\":" content "}"
#define CALL "{\"type\":\"tool_use\",\"id\":\"t1\",\"name\":\"get\",\"input\":{}}"
#define RESULT "{\"type\":\"tool_result\",\"tool_use_id\":\"t1\",\"content\":\"r\"}"
#define BODY(messages, more) "{\"model\":\"m\",\"max_tokens\":9,\"messages\":[" messages "]" more "}"
#define COMPACT ",\"compaction\":{\"type\":\"summarize\"}"

static bool parse(struct anthropic_body *b, const char *json, struct anthropic_error *e)
{
    size_t len = strlen(json);
    char *text = mem_alloc(len + 1);
    memcpy(text, json, len + 1);
    bool ok = anthropic_body_parse(b, text, len, e);
    mem_free(text);
    return ok;
}

static struct chat_request *decode(const char *json, enum anthropic_call call, struct anthropic_error *e)
{
    struct anthropic_body b;
    struct chat_request *r = NULL;
    e->message[0] = '\0';
    if (!parse(&b, json, e) || !anthropic_body_decode(&r, &b, call, &EVERYTHING, e)) r = NULL;
    anthropic_body_deinit(&b);
    return r;
}

static struct chat_request *take(const char *json)
{
    struct anthropic_error e;
    struct chat_request *r = decode(json, ANTHROPIC_CREATE, &e);
    ck_assert_msg(r != NULL, "%s: %s", json, e.message);
    return r;
}

static void refuse(const char *json, const char *code, const char *message)
{
    struct anthropic_error e;
    ck_assert_msg(!decode(json, ANTHROPIC_CREATE, &e), "accepted: %s", json);
    ck_assert_int_eq(e.status, 400);
    ck_assert_msg(strstr(e.message, message) != NULL, "%s\n  got: %s", json, e.message);
    ck_assert_str_eq(e.code ? e.code : "", code);
}

/* ---- threads: anthropic-api 2.4 ---- */

static void parse_ok(struct anthropic_body *b, const char *json)
{
    struct anthropic_error e;
    ck_assert_msg(parse(b, json, &e), "%s: %s", json, e.message);
}

START_TEST(thread_is_read_before_anything_else)
{
    struct anthropic_body b;
    struct anthropic_error e;
    parse_ok(&b, "{\"thread\":{\"type\":\"create\"}}");
    ck_assert_int_eq(b.thread, ANTHROPIC_THREAD_CREATE);
    anthropic_body_deinit(&b);
    parse_ok(&b, "{\"thread\":{\"type\":\"continue\",\"previous_message_id\":\"msg_1\"}}");
    ck_assert_int_eq(b.thread, ANTHROPIC_THREAD_CONTINUE);
    ck_assert(str_eq(b.previous_id, STR("msg_1")));
    anthropic_body_deinit(&b);
    parse_ok(&b, "{\"thread\":null}");
    ck_assert_int_eq(b.thread, ANTHROPIC_THREAD_NONE);
    anthropic_body_deinit(&b);
    ck_assert(!parse(&b, "{\"thread\":{\"type\":\"continue\"}}", &e));
    ck_assert_str_eq(e.message, "thread.previous_message_id: Field required");
    ck_assert(!parse(&b, "{\"thread\":{\"type\":\"fork\"}}", &e));
    ck_assert_str_eq(e.code, "thread_unsupported_request");
}
END_TEST

#define HELD                                                                                                   \
    "{\"model\":\"m\",\"max_tokens\":9,\"system\":\"be \\u0000 kind\",\"tools\":[{\"name\":\"get\","           \
    "\"input_schema\":{\"type\":\"object\",\"x\":0.1}}],\"thread\":{\"type\":\"create\"},\"messages\":[" USER( \
        "\"one\"") "," USER("[{\"type\":\"text\",\"text\":\"zwei \\u00fc\"}]") "]}"

static void hold(struct anthropic_history *h, const char *answer)
{
    struct anthropic_body b;
    anthropic_history_init(h, 1 << 20);
    parse_ok(&b, HELD);
    ck_assert(anthropic_history_add_body(h, &b));
    ck_assert(anthropic_history_add_answer(h, str_from(answer)));
    anthropic_body_deinit(&b);
}

START_TEST(continued_body_is_the_whole_conversation)
{
    struct anthropic_history h;
    struct anthropic_body b;
    struct anthropic_error e;
    struct chat_request *r;
    hold(&h, "{\"id\":\"msg_1\",\"content\":[" CALL "]}");
    parse_ok(&b, "{\"model\":\"m2\",\"max_tokens\":5,\"stream\":true,\"thread\":{\"type\":\"continue\","
                 "\"previous_message_id\":\"msg_1\"},\"messages\":[" USER("[" RESULT "]") "]}");
    ck_assert_msg(anthropic_body_continue(&b, &h, &e), "%s", e.message);
    ck_assert_msg(anthropic_body_decode(&r, &b, ANTHROPIC_CREATE, &EVERYTHING, &e), "%s", e.message);
    ck_assert(str_eq(r->model, STR("m2")) && r->max_tokens == 5 && r->stream);
    ck_assert(str_eq(r->system[0].text, STR("be \0 kind")));
    ck_assert_uint_eq(r->n_tools, 1);
    ck_assert(json_real_value(json_object_get(r->tools[0].schema, "x")) == 0.1);
    ck_assert_uint_eq(r->n_messages, 3);
    ck_assert_uint_eq(r->messages[0].n_blocks, 2);
    ck_assert(str_eq(r->messages[0].blocks[1].text, STR("zwei \xc3\xbc")));
    ck_assert_int_eq(r->messages[1].blocks[0].kind, CHAT_TOOL_USE);
    ck_assert_int_eq(r->messages[2].blocks[0].kind, CHAT_TOOL_RESULT);
    chat_request_destroy(r);
    anthropic_history_deinit(&h);
}
END_TEST

static void refuse_continue(const char *more, const char *code, const char *message)
{
    struct anthropic_history h;
    struct anthropic_body b;
    struct anthropic_error e;
    char json[600];
    hold(&h, "{\"content\":[{\"type\":\"text\",\"text\":\"ok\"}]}");
    snprintf(json, sizeof json, "{\"model\":\"m\",\"thread\":{\"type\":\"continue\",\"previous_message_id\":\"x\"}%s}",
             more);
    parse_ok(&b, json);
    ck_assert(!anthropic_body_continue(&b, &h, &e));
    ck_assert_int_eq(e.status, 400);
    ck_assert_msg(strstr(e.message, message) == e.message, "%s", e.message);
    ck_assert_str_eq(e.code ? e.code : "", code);
    anthropic_body_deinit(&b);
    anthropic_history_deinit(&h);
}

START_TEST(system_and_tools_of_a_thread_are_fixed)
{
    refuse_continue(",\"messages\":[],\"system\":\"be \\u0000 kind\"", "", "system: cannot be repeated");
    refuse_continue(",\"messages\":[],\"system\":\"other\"", "thread_fingerprint_mismatch", "system: differs");
    refuse_continue(",\"messages\":[],\"tools\":[]", "thread_fingerprint_mismatch", "tools: differs");
    refuse_continue("", "", "messages: Field required");
    refuse_continue(",\"messages\":{}", "", "messages: Input should be an array");
}
END_TEST

START_TEST(answer_without_content_adds_no_turn)
{
    struct anthropic_history h;
    hold(&h, "{\"content\":[]}");
    ck_assert(!strstr(h.messages.ptr, "assistant"));
    ck_assert(!anthropic_history_add_answer(&h, STR("{broken")));
    anthropic_history_deinit(&h);
}
END_TEST

START_TEST(thread_has_a_budget)
{
    struct anthropic_history h;
    struct anthropic_body b;
    anthropic_history_init(&h, 64);
    parse_ok(&b, HELD);
    ck_assert(!anthropic_history_add_body(&h, &b));
    anthropic_body_deinit(&b);
    anthropic_history_deinit(&h);
}
END_TEST

/* ---- compaction: 2.2, 3.1 ---- */

static bool text_has(const struct chat_request *r, size_t message, size_t block, const char *needle)
{
    return str_find(r->messages[message].blocks[block].text, str_from(needle), 0) >= 0;
}

START_TEST(compaction_block_stands_for_everything_before_it)
{
    struct chat_request *r = take(BODY(
        USER("\"old\"") "," ASSISTANT("[{\"type\":\"text\",\"text\":\"older\"},{\"type\":\"compaction\",\"content\":"
                                      "\"SUM\"},{\"type\":\"text\",\"text\":\"after\"}]") "," USER("\"new\""),
        ""));
    ck_assert_uint_eq(r->n_messages, 3);
    ck_assert_int_eq(r->messages[0].role, CHAT_USER);
    ck_assert(text_has(r, 0, 0, "<summary>\nSUM\n</summary>"));
    ck_assert_int_eq(r->messages[1].role, CHAT_ASSISTANT);
    ck_assert(str_eq(r->messages[1].blocks[0].text, STR("after")));
    ck_assert(str_eq(r->messages[2].blocks[0].text, STR("new")));
    chat_request_destroy(r);
}
END_TEST

START_TEST(compaction_block_may_be_all_there_is)
{
    struct chat_request *r =
        take(BODY(ASSISTANT("[{\"type\":\"compaction\",\"content\":\"SUM\",\"signature\":\"x\"}]"), ""));
    ck_assert_uint_eq(r->n_messages, 1);
    ck_assert_int_eq(r->messages[0].role, CHAT_USER);
    chat_request_destroy(r);
}
END_TEST

START_TEST(last_compaction_counts_and_failed_ones_do_not)
{
    struct chat_request *r = take(
        BODY(ASSISTANT("[{\"type\":\"compaction\",\"content\":\"A\"}]") "," USER("\"q\"") "," ASSISTANT(
                 "[{\"type\":"
                 "\"compaction\","
                 "\"content\":\"B\"}"
                 "]") "," USER("\"r\"") "," ASSISTANT("[{\"type\":\"compaction\",\"content\":null}]") "," USER("\"s\""),
             ""));
    ck_assert_uint_eq(r->n_messages, 1);
    ck_assert_uint_eq(r->messages[0].n_blocks, 3);
    ck_assert(text_has(r, 0, 0, "B") && !text_has(r, 0, 0, "A\n"));
    ck_assert(text_has(r, 0, 1, "r") && text_has(r, 0, 2, "s"));
    chat_request_destroy(r);
}
END_TEST

START_TEST(compaction_block_in_a_system_turn_is_misplaced)
{
    refuse(BODY(USER("\"a\"") "," SYSTEM("[{\"type\":\"compaction\",\"content\":\"A\"}]"), ""),
           "compaction_block_misplaced", "cannot stand in system text");
}
END_TEST

START_TEST(order_to_summarise_is_the_last_thing_said)
{
    struct chat_request *r = take(BODY(USER("\"q\"") "," ASSISTANT("[" CALL "]") "," USER("[" RESULT "]"), COMPACT));
    ck_assert_uint_eq(r->n_messages, 3);
    ck_assert_uint_eq(r->messages[2].n_blocks, 2);
    ck_assert(text_has(r, 2, 1, "Summarise this conversation"));
    chat_request_destroy(r);
    r = take(BODY(USER("\"q\"") "," ASSISTANT("\"a\""),
                  ",\"compaction\":{\"type\":\"summarize\",\"instructions\":\"Do it so.\"}"));
    ck_assert_uint_eq(r->n_messages, 3);
    ck_assert(str_eq(r->messages[2].blocks[0].text, STR("Do it so.")));
    chat_request_destroy(r);
    r = take(
        BODY(USER("\"q\"") "," SYSTEM("\"s\""), ",\"compaction\":{\"type\":\"summarize\",\"instructions\":\"  \"}"));
    ck_assert_uint_eq(r->n_messages, 3);
    ck_assert_int_eq(r->messages[2].role, CHAT_USER);
    ck_assert(text_has(r, 2, 0, "Summarise"));
    chat_request_destroy(r);
}
END_TEST

START_TEST(compaction_that_cannot_be_has_a_code)
{
    refuse(BODY("", COMPACT), "compaction_nothing_to_summarize", "nothing to summarise");
    refuse(BODY(SYSTEM("\"only this\""), COMPACT), "compaction_nothing_to_summarize", "nothing to summarise");
    refuse(BODY(USER("\"q\"") "," ASSISTANT("[" CALL "]"), COMPACT), "compaction_incomplete_turn", "without results");
    refuse(BODY(USER("\"q\""), ",\"compaction\":{\"type\":\"shrink\"}"), "",
           "compaction.type: unknown type \"shrink\"");
    refuse(BODY(USER("\"q\""), ",\"compaction\":true"), "", "compaction: Input should be an object");
}
END_TEST

START_TEST(what_shapes_a_reply_is_left_out_of_a_compaction)
{
    struct chat_request *r =
        take(BODY(USER("\"q\""),
                  COMPACT ",\"stop_sequences\":[\"x\"],\"tools\":[{\"name\":\"get\",\"input_schema\":{\"type\":"
                          "\"object\"}}],\"tool_choice\":{\"type\":\"any\"},\"output_config\":{\"format\":{\"type\":"
                          "\"json_schema\",\"schema\":{}}}"));
    ck_assert(!r->n_stops && !r->output_schema && r->tool_choice == CHAT_TOOLS_AUTO && r->n_tools == 1);
    size_t n = 0;
    for (const struct chat_note *x = r->notes; x; x = x->next) n++;
    ck_assert_uint_eq(n, 3);
    chat_request_destroy(r);
}
END_TEST

START_TEST(compaction_edit_is_accepted_with_a_note)
{
    struct chat_request *r =
        take(BODY(USER("\"q\""), ",\"context_management\":{\"edits\":[{\"type\":\"clear_thinking_20251015\",\"keep\":"
                                 "\"all\"},{\"type\":\"compact_20260112\"}]}"));
    ck_assert(r->notes && str_starts(r->notes->text, STR("context_management.edits.1")));
    chat_request_destroy(r);
    r = take(BODY(USER("\"q\""), ",\"context_management\":{\"edits\":[{\"type\":\"clear_thinking_20251015\",\"keep\":"
                                 "\"all\"}]}"));
    ck_assert_ptr_null(r->notes);
    chat_request_destroy(r);
}
END_TEST

START_TEST(compaction_tells_what_became_of_the_tools)
{
    struct anthropic_body b;
    struct anthropic_error e;
    struct chat_request *r;
    parse_ok(&b, BODY(USER("\"q\"") "," SYSTEM(
                          "[{\"type\":\"tool_addition\",\"cache_control\":{},\"tool\":{\"type\":\"tool_definition\","
                          "\"definition\":{\"name\":\"a\",\"input_schema\":{\"type\":\"object\"}}}},{\"type\":\"text\","
                          "\"text\":\"x\"}]") "," ASSISTANT("\"ok\""),
                      COMPACT));
    ck_assert_msg(anthropic_body_decode(&r, &b, ANTHROPIC_CREATE, &EVERYTHING, &e), "%s", e.message);
    ck_assert_str_eq(
        b.tool_changes.ptr,
        "[{\"type\":\"tool_addition\",\"tool\":{\"type\":\"tool_definition\",\"definition\":{\"name\":\"a\","
        "\"input_schema\":{\"type\":\"object\"}}}}]");
    chat_request_destroy(r);
    anthropic_body_deinit(&b);
}
END_TEST

START_TEST(count_ignores_compaction)
{
    struct anthropic_error e;
    struct chat_request *r = decode(BODY(USER("\"q\""), COMPACT), ANTHROPIC_COUNT, &e);
    ck_assert_msg(r != NULL, "%s", e.message);
    ck_assert_uint_eq(r->messages[0].n_blocks, 1);
    chat_request_destroy(r);
}
END_TEST

static void play(struct buf *out, bool is_stream, const char *text)
{
    struct anthropic_answer a;
    const struct chat_usage usage = {.input_tokens = 10, .cached_tokens = 4, .output_tokens = 3};
    const struct chat_event events[] = {
        {.kind = CHAT_EVENT_START, .usage = usage},
        {.kind = CHAT_EVENT_BLOCK_OPEN, .block = CHAT_THINKING},
        {.kind = CHAT_EVENT_DELTA, .text = STR("hm")},
        {.kind = CHAT_EVENT_BLOCK_CLOSE, .signature = STR("s")},
        {.kind = CHAT_EVENT_DELTA, .text = str_from(text)},
        {.kind = CHAT_EVENT_BLOCK_CLOSE},
        {.kind = CHAT_EVENT_BLOCK_OPEN, .block = CHAT_TOOL_USE, .id = STR("t"), .name = STR("n")},
        {.kind = CHAT_EVENT_DELTA, .text = STR("{}")},
        {.kind = CHAT_EVENT_FINISH, .usage = usage, .stop = CHAT_STOP_TOOL_USE},
    };
    buf_init(out, 1 << 16);
    anthropic_answer_init(&a, is_stream, STR("msg_1"), STR("m"), STR("req_1"));
    a.is_compaction = true;
    for (size_t i = 0; i < sizeof events / sizeof *events; i++) anthropic_answer_event(&a, out, &events[i]);
    ck_assert(a.is_done);
    anthropic_answer_deinit(&a);
}

START_TEST(compaction_answer_is_one_block)
{
    struct buf out;
    play(&out, false, " S\n");
    ck_assert_msg(strstr(out.ptr, "\"content\":[{\"type\":\"compaction\",\"content\":\"S\",\"encrypted_content\":null,"
                                  "\"tool_changes\":[]}],"
                                  "\"stop_reason\":\"compaction\"") != NULL,
                  "%s", out.ptr);
    buf_deinit(&out);
    play(&out, true, "S");
    ck_assert_msg(
        strstr(out.ptr,
               "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{"
               "\"type\":\"compaction\",\"content\":null,\"encrypted_content\":null,\"tool_changes\":[]}}\n\n"
               "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":"
               "\"compaction_delta\",\"content\":\"S\",\"encrypted_content\":null}}\n\n"
               "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"
               "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"compaction\"") !=
            NULL,
        "%s", out.ptr);
    buf_deinit(&out);
}
END_TEST

START_TEST(failed_compaction_has_null_content)
{
    struct buf out;
    play(&out, false, "  ");
    ck_assert(strstr(out.ptr, "{\"type\":\"compaction\",\"content\":null,") != NULL);
    buf_deinit(&out);
}
END_TEST

/* ---- the rest ---- */

START_TEST(warming_refuses_what_shapes_an_answer)
{
    static const char *const more[] = {"\"stream\":true", "\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}",
                                       "\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":{}}}",
                                       "\"tools\":[{\"name\":\"a\",\"input_schema\":{\"type\":\"object\"}}],"
                                       "\"tool_choice\":{\"type\":\"any\"}",
                                       "\"compaction\":{\"type\":\"summarize\"}"};
    char json[400];
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
        snprintf(json, sizeof json, "{\"model\":\"m\",\"max_tokens\":0,\"messages\":[" USER("\"x\"") "],%s}", more[i]);
        refuse(json, "", "max_tokens: 0 only fills the cache");
    }
    chat_request_destroy(take(
        "{\"model\":\"m\",\"max_tokens\":0,\"thinking\":{\"type\":\"adaptive\"},\"messages\":[" USER("\"x\"") "]}"));
}
END_TEST

START_TEST(diagnostics_ask_about_an_earlier_message)
{
    struct anthropic_body b;
    struct anthropic_error e;
    parse_ok(&b, "{\"diagnostics\":{\"previous_message_id\":null}}");
    ck_assert(b.wants_diagnostics && !b.diagnose_against.len);
    anthropic_body_deinit(&b);
    parse_ok(&b, "{\"diagnostics\":{\"previous_message_id\":\"msg_9\"}}");
    ck_assert(b.wants_diagnostics && str_eq(b.diagnose_against, STR("msg_9")));
    anthropic_body_deinit(&b);
    ck_assert(!parse(&b, "{\"diagnostics\":7}", &e));
    ck_assert_str_eq(e.message, "diagnostics: Input should be an object, found an integer");
}
END_TEST

START_TEST(diagnostics_are_part_of_the_message)
{
    struct anthropic_answer a;
    struct buf out, value;
    const struct chat_event start = {.kind = CHAT_EVENT_START}, finish = {.kind = CHAT_EVENT_FINISH};
    buf_init(&out, 1 << 16);
    buf_init(&value, 1000);
    anthropic_diagnostics_write(&value, "tools_changed", true, 70);
    for (int is_stream = 0; is_stream < 2; is_stream++) {
        buf_clear(&out);
        anthropic_answer_init(&a, is_stream, STR("msg_1"), STR("m"), STR("req_1"));
        a.diagnostics = buf_str(&value);
        anthropic_answer_event(&a, &out, &start);
        anthropic_answer_event(&a, &out, &finish);
        ck_assert_msg(strstr(out.ptr, "\"diagnostics\":{\"cache_miss_reason\":{\"type\":\"tools_changed\","
                                      "\"cache_missed_input_tokens\":70}},\"usage\":") != NULL,
                      "%s", out.ptr);
        anthropic_answer_deinit(&a);
    }
    buf_deinit(&out);
    buf_deinit(&value);
}
END_TEST

START_TEST(fields_of_the_api_are_known)
{
    ck_assert(anthropic_field_is_known("messages") && anthropic_field_is_known("safeguards"));
    ck_assert(!anthropic_field_is_known("message") && !anthropic_field_is_known(""));
}
END_TEST

void add_body(TCase *tc);
void add_body(TCase *tc)
{
    tcase_add_test(tc, thread_is_read_before_anything_else);
    tcase_add_test(tc, continued_body_is_the_whole_conversation);
    tcase_add_test(tc, system_and_tools_of_a_thread_are_fixed);
    tcase_add_test(tc, answer_without_content_adds_no_turn);
    tcase_add_test(tc, thread_has_a_budget);
    tcase_add_test(tc, compaction_block_stands_for_everything_before_it);
    tcase_add_test(tc, compaction_block_may_be_all_there_is);
    tcase_add_test(tc, last_compaction_counts_and_failed_ones_do_not);
    tcase_add_test(tc, compaction_block_in_a_system_turn_is_misplaced);
    tcase_add_test(tc, order_to_summarise_is_the_last_thing_said);
    tcase_add_test(tc, compaction_that_cannot_be_has_a_code);
    tcase_add_test(tc, what_shapes_a_reply_is_left_out_of_a_compaction);
    tcase_add_test(tc, compaction_edit_is_accepted_with_a_note);
    tcase_add_test(tc, compaction_tells_what_became_of_the_tools);
    tcase_add_test(tc, count_ignores_compaction);
    tcase_add_test(tc, compaction_answer_is_one_block);
    tcase_add_test(tc, failed_compaction_has_null_content);
    tcase_add_test(tc, warming_refuses_what_shapes_an_answer);
    tcase_add_test(tc, diagnostics_ask_about_an_earlier_message);
    tcase_add_test(tc, diagnostics_are_part_of_the_message);
    tcase_add_test(tc, fields_of_the_api_are_known);
}
