/* Message threads over real sockets: anthropic-api 2.4. */
#include <stdlib.h>

#include "fixture.h"

static struct fixture f;
static struct buf request, reply;
static char id[64];

static void begin(void)
{
    fixture_init(&f);
    buf_init(&request, 1 << 20);
    buf_init(&reply, 1 << 20);
}

static void finish(void)
{
    fixture_stop(&f);
    buf_deinit(&request);
    buf_deinit(&reply);
}

/* The id of the answer in reply. */
static void keep_id(void)
{
    ptrdiff_t at = str_find(buf_str(&reply), STR("\"id\":\"msg_"), 0);
    ck_assert_msg(at >= 0, "no message: %s", reply.ptr);
    snprintf(id, sizeof id, "%.28s", reply.ptr + at + 6);
}

/* thread: "create", or an id. script: JSON string content of the new user message; NULL: no messages. */
static struct str body(const char *thread, const char *script, const char *more, const char *headers)
{
    char text[4000], kind[200], messages[2000] = "";
    if (!strcmp(thread, "create")) snprintf(kind, sizeof kind, "{\"type\":\"create\"}");
    else snprintf(kind, sizeof kind, "{\"type\":\"continue\",\"previous_message_id\":\"%s\"}", thread);
    if (script) snprintf(messages, sizeof messages, "{\"role\":\"user\",\"content\":\"%s\"}", script);
    snprintf(text, sizeof text, "{\"model\":\"m\",\"max_tokens\":10,\"thread\":%s,\"messages\":[%s]%s}", kind, messages,
             more);
    return fixture_post(&request, "/v1/messages", headers, text);
}

static void ask(const char *thread, const char *script, const char *more)
{
    fixture_roundtrip(&f, &reply, body(thread, script, more, ""));
}

#define SAY "!start 7\\nopen text\\ndescribe\\nclose\\nfinish end"
#define SYSTEM_AND_TOOLS ",\"system\":\"s\",\"tools\":[{\"name\":\"get\",\"input_schema\":{\"type\":\"object\"}}]"

static void expect(int status, const char *what)
{
    ck_assert_msg(fixture_status(&reply) == status && loopback_has(&reply, what), "want %d %s, got: %s", status, what,
                  reply.ptr);
}

static void expect_code(int status, const char *code)
{
    char what[100];
    snprintf(what, sizeof what, "\"details\":{\"error_code\":\"%s\"}", code);
    expect(status, what);
}

START_TEST(thread_goes_on_over_several_turns)
{
    begin();
    fixture_start(&f);
    ask("create", SAY, SYSTEM_AND_TOOLS);
    expect(200, "1 messages, 1 tools, 1 system");
    keep_id();
    ask(id, SAY, "");
    expect(200, "3 messages, 1 tools, 1 system");
    keep_id();
    ask(id, SAY, ",\"stream\":true");
    expect(200, "5 messages, 1 tools, 1 system");
    keep_id();
    ask(id, SAY, ",\"stream\":true");
    expect(200, "7 messages, 1 tools, 1 system");
    finish();
}
END_TEST

START_TEST(tool_result_finds_its_call)
{
    begin();
    fixture_start(&f);
    ask("create", "!start 7\\nopen tool\\ndelta {\\\"a\\\":1}\\nclose\\nfinish tool",
        SYSTEM_AND_TOOLS ",\"stream\":true");
    expect(200, "toolu_1");
    keep_id();
    ask(id, SAY, "");
    expect(400, "`tool_use` ids were found without `tool_result` blocks");
    char text[800];
    snprintf(text, sizeof text,
             "{\"model\":\"m\",\"max_tokens\":10,\"thread\":{\"type\":\"continue\",\"previous_message_id\":\"%s\"},"
             "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"toolu_1\"},"
             "{\"type\":\"text\",\"text\":\"" SAY "\"}]}]}",
             id);
    fixture_roundtrip(&f, &reply, fixture_post(&request, "/v1/messages", "", text));
    expect(200, "3 messages, 1 tools, 1 system");
    finish();
}
END_TEST

START_TEST(id_that_is_not_held_is_not_found)
{
    begin();
    fixture_start(&f);
    ask("msg_nothing", SAY, "");
    expect_code(404, "thread_not_found");
    ck_assert(loopback_has(&reply, "\"type\":\"not_found_error\""));
    fixture_roundtrip(&f, &reply, fixture_message(&request, false, "no thread"));
    keep_id();
    ask(id, SAY, "");
    expect_code(404, "thread_not_found");
    finish();
}
END_TEST

START_TEST(id_is_continued_once)
{
    char first[64];
    begin();
    fixture_start(&f);
    ask("create", SAY, "");
    keep_id();
    snprintf(first, sizeof first, "%s", id);
    ask(first, SAY, "");
    expect(200, "3 messages");
    keep_id();
    ask(first, SAY, "");
    expect_code(400, "thread_already_continued");
    ask(id, SAY, "");
    expect(200, "5 messages");
    finish();
}
END_TEST

START_TEST(one_continuation_at_a_time)
{
    begin();
    fixture_start(&f);
    ask("create", SAY, "");
    keep_id();
    int fd = loopback_connect(f.port);
    loopback_send(fd, body(id, "!start 7\\nopen text\\ndelta x\\nsilent", ",\"stream\":true", ""));
    fixture_until(&f.fake.n_deltas, 2);
    ask(id, SAY, "");
    expect_code(400, "thread_continue_in_flight");
    close(fd);
    fixture_until(&f.fake.n_cancelled, 1);
    ask(id, SAY, "");
    expect(200, "3 messages"); /* a turn that was broken off leaves the thread as it was */
    finish();
}
END_TEST

START_TEST(held_continuation_gives_way_to_another_one)
{
    begin();
    f.config.rejoin_ms = 60000;
    fixture_start(&f);
    ask("create", SAY, "");
    keep_id();
    int fd = loopback_connect(f.port);
    loopback_send(fd, body(id, "!start 7\\nopen text\\ndelta x\\nsilent", ",\"stream\":true", ""));
    fixture_until(&f.fake.n_deltas, 2);
    close(fd);
    fixture_until(&f.fake.n_paused, 1);
    ask(id, SAY, "");
    expect(200, "3 messages");
    ck_assert_uint_eq(atomic_load(&f.fake.n_cancelled), 1);
    finish();
}
END_TEST

START_TEST(failed_turn_leaves_the_thread)
{
    begin();
    fixture_start(&f);
    ask("create", SAY, "");
    keep_id();
    ask(id, "!start 7\\nerror busy full", "");
    expect(529, "overloaded_error");
    ask(id, "!start 7\\nopen text\\ndelta x\\nerror internal x", ",\"stream\":true");
    expect(200, "event: error");
    ask(id, "x", ",\"stop_sequences\":[7]");
    expect(400, "stop_sequences.0");
    ask(id, SAY, "");
    expect(200, "3 messages");
    finish();
}
END_TEST

START_TEST(fields_of_the_create_are_refused_in_a_continue)
{
    begin();
    fixture_start(&f);
    ask("create", SAY, SYSTEM_AND_TOOLS);
    keep_id();
    ask(id, SAY, ",\"system\":\"other\"");
    expect_code(400, "thread_fingerprint_mismatch");
    ask(id, SAY, ",\"system\":\"s\"");
    expect(400, "system: cannot be repeated");
    char text[400];
    snprintf(text, sizeof text,
             "{\"model\":\"second\",\"messages\":[],\"thread\":{\"type\":\"continue\",\"previous_message_id\":\"%s\"}}",
             id);
    fixture_roundtrip(&f, &reply, fixture_post(&request, "/v1/messages", "", text));
    expect_code(400, "thread_fingerprint_mismatch");
    finish();
}
END_TEST

START_TEST(empty_continue_goes_on_from_the_answer)
{
    begin();
    fixture_start(&f);
    ask("create", "!start 7\\nopen text\\ndescribe\\nclose\\nfinish end", ",\"max_tokens\":0");
    keep_id();
    ask(id, NULL, "");
    expect(200, "2 messages");
    finish();
}
END_TEST

START_TEST(threads_of_another_key_are_not_found)
{
    static const struct str keys[] = {STR("one"), STR("two")};
    begin();
    f.config.keys = keys;
    f.config.n_keys = 2;
    f.config.keys_share_cache = true; /* pages, not conversations */
    fixture_start(&f);
    fixture_roundtrip(&f, &reply, body("create", SAY, "", "x-api-key: one\r\n"));
    keep_id();
    fixture_roundtrip(&f, &reply, body(id, SAY, "", "x-api-key: two\r\n"));
    expect_code(404, "thread_not_found");
    fixture_roundtrip(&f, &reply, body(id, SAY, "", "authorization: Bearer one\r\n"));
    expect(200, "3 messages");
    finish();
}
END_TEST

START_TEST(threads_end_after_a_while)
{
    begin();
    f.config.thread_s = 1;
    fixture_start(&f);
    ask("create", SAY, "");
    keep_id();
    loopback_sleep(1200);
    ask(id, SAY, "");
    expect_code(404, "thread_not_found");
    finish();
}
END_TEST

START_TEST(threads_have_a_budget_and_the_oldest_goes)
{
    char first[64];
    begin();
    f.config.max_threads_bytes = 3000;
    fixture_start(&f);
    ask("create", SAY, "");
    keep_id();
    snprintf(first, sizeof first, "%s", id);
    for (int i = 0; i < 20; i++) ask("create", SAY, "");
    keep_id();
    ask(first, SAY, "");
    expect_code(404, "thread_not_found");
    ask(id, SAY, "");
    expect(200, "3 messages");
    finish();
}
END_TEST

START_TEST(threads_may_be_off)
{
    begin();
    f.config.thread_s = 0;
    fixture_start(&f);
    ask("create", SAY, "");
    expect_code(400, "thread_unsupported_request");
    ask("msg_x", SAY, "");
    expect_code(400, "thread_unsupported_request");
    finish();
}
END_TEST

START_TEST(long_history_is_decoded_beside_the_loop)
{
    struct buf text;
    begin();
    buf_init(&text, 4 << 20);
    buf_init(&request, 4 << 20);
    fixture_start(&f);
    buf_append(
        &text,
        STR("{\"model\":\"m\",\"thread\":{\"type\":\"create\"},\"messages\":[{\"role\":\"user\",\"content\":\""));
    for (int i = 0; i < 100000; i++) buf_append(&text, STR("long "));
    buf_append(&text, STR("\"},{\"role\":\"user\",\"content\":\"" SAY "\"}]}"));
    fixture_roundtrip(&f, &reply, fixture_post(&request, "/v1/messages", "", text.ptr));
    expect(200, "1 messages");
    keep_id();
    ask(id, SAY, "");
    expect(200, "3 messages");
    keep_id();
    for (int i = 0; i < 3; i++) { /* clients that leave while it is decoded */
        int fd = loopback_connect(f.port);
        loopback_send(fd, body(id, SAY, "", ""));
        if (i) loopback_sleep(1);
        close(fd);
        loopback_sleep(100);
    }
    buf_deinit(&text);
    finish();
}
END_TEST

START_TEST(compaction_of_a_thread_is_held_too)
{
    begin();
    fixture_start(&f);
    ask("create", SAY, "");
    keep_id();
    ask(id, "!start 7\\nopen text\\ndelta SUM\\nclose\\nfinish end",
        ",\"compaction\":{\"type\":\"summarize\",\"instructions\":\"!start 7\\nopen text\\ndescribe\\nclose\\nfinish "
        "end\"}");
    expect(200, "{\"type\":\"compaction\",\"content\":\"3 messages, 0 tools, 0 system\"");
    ck_assert(loopback_has(&reply, "\"stop_reason\":\"compaction\""));
    keep_id();
    ask(id, SAY, "");
    expect(200, "1 messages"); /* the summary and the question are one turn of the user */
    finish();
}
END_TEST

void add_threads(TCase *tc);
void add_threads(TCase *tc)
{
    tcase_add_test(tc, thread_goes_on_over_several_turns);
    tcase_add_test(tc, tool_result_finds_its_call);
    tcase_add_test(tc, id_that_is_not_held_is_not_found);
    tcase_add_test(tc, id_is_continued_once);
    tcase_add_test(tc, one_continuation_at_a_time);
    tcase_add_test(tc, held_continuation_gives_way_to_another_one);
    tcase_add_test(tc, failed_turn_leaves_the_thread);
    tcase_add_test(tc, fields_of_the_create_are_refused_in_a_continue);
    tcase_add_test(tc, empty_continue_goes_on_from_the_answer);
    tcase_add_test(tc, threads_of_another_key_are_not_found);
    tcase_add_test(tc, threads_end_after_a_while);
    tcase_add_test(tc, threads_have_a_budget_and_the_oldest_goes);
    tcase_add_test(tc, threads_may_be_off);
    tcase_add_test(tc, long_history_is_decoded_beside_the_loop);
    tcase_add_test(tc, compaction_of_a_thread_is_held_too);
}
