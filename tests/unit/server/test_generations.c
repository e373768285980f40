/* Answers apart from their connections: who may take one over, and that clients who leave free the engine. */
#include "fixture.h"

static struct fixture f;
static struct buf request, reply;

static void begin(uint32_t rejoin_ms)
{
    fixture_init(&f);
    f.config.rejoin_ms = rejoin_ms;
    buf_init(&request, (size_t)1 << 20);
    buf_init(&reply, (size_t)1 << 20);
    fixture_start(&f);
}

static void finish(void)
{
    fixture_stop(&f);
    buf_deinit(&request);
    buf_deinit(&reply);
}

static struct str ask(bool stream, const char *script, const char *headers)
{
    struct buf plain;
    buf_init(&plain, 1 << 20);
    struct str whole = fixture_message(&plain, stream, script);
    ptrdiff_t nl = str_find(whole, STR("\r\n"), 0);
    buf_clear(&request);
    buf_append(&request, str_slice(whole, 0, (size_t)nl + 2));
    buf_append(&request, str_from(headers));
    buf_append(&request, str_slice(whole, (size_t)nl + 2, whole.len));
    buf_deinit(&plain);
    return buf_str(&request);
}

/* Sends and leaves once the backend has generated n deltas in all. */
static void ask_and_leave(bool stream, const char *script, const char *headers, unsigned n_deltas)
{
    int fd = loopback_connect(f.port);
    unsigned paused = atomic_load(&f.fake.n_paused) + atomic_load(&f.fake.n_cancelled);
    loopback_send(fd, ask(stream, script, headers));
    fixture_until(&f.fake.n_submitted, 1);
    fixture_until(&f.fake.n_deltas, n_deltas);
    close(fd);
    for (int i = 0; i < 200 && atomic_load(&f.fake.n_paused) + atomic_load(&f.fake.n_cancelled) == paused; i++)
        loopback_sleep(10);
}

#define SLOW "!start 7\nopen text\ndelta one\nwait 300\ndelta two\nclose\nfinish end"
#define RETRY "x-stainless-retry-count: 1\r\n"
#define SESSION "x-claude-code-session-id: s1\r\n"

START_TEST(client_that_leaves_stops_the_computation_at_once)
{
    begin(60000);
    ask_and_leave(false, SLOW, "", 1);
    ck_assert_uint_eq(atomic_load(&f.fake.n_paused), 1);
    loopback_sleep(500);
    ck_assert_uint_eq(atomic_load(&f.fake.n_deltas), 1);
    finish();
}
END_TEST

START_TEST(nobody_comes_back_and_it_is_cancelled)
{
    begin(200);
    ask_and_leave(false, SLOW, "", 1);
    ck_assert_uint_eq(atomic_load(&f.fake.n_cancelled), 0);
    fixture_until(&f.fake.n_cancelled, 1);
    finish();
}
END_TEST

START_TEST(answer_in_one_piece_is_taken_over)
{
    begin(60000);
    ask_and_leave(false, SLOW, "", 1);
    fixture_roundtrip(&f, &reply, ask(false, SLOW, ""));
    ck_assert_int_eq(fixture_status(&reply), 200);
    ck_assert_msg(loopback_has(&reply, "\"text\":\"onetwo\""), "%s", reply.ptr);
    ck_assert_uint_eq(atomic_load(&f.fake.n_submitted), 1);
    finish();
}
END_TEST

START_TEST(stream_that_said_nothing_yet_is_taken_over)
{
    begin(60000);
    const char *script = "!start 7\nwait 300\nopen text\ndelta one\nclose\nfinish end";
    int fd = loopback_connect(f.port);
    loopback_send(fd, ask(true, script, ""));
    loopback_read_until(fd, &reply, "message_start");
    close(fd);
    fixture_until(&f.fake.n_paused, 1);
    fixture_roundtrip(&f, &reply, ask(true, script, ""));
    ck_assert_uint_eq(loopback_count(&reply, "event: message_start"), 1);
    ck_assert(loopback_has(&reply, "\"text\":\"one\"") && loopback_has(&reply, "event: message_stop"));
    ck_assert_uint_eq(atomic_load(&f.fake.n_submitted), 1);
    finish();
}
END_TEST

START_TEST(stream_that_was_seen_is_not_given_to_anybody)
{
    begin(60000);
    ask_and_leave(true, SLOW, "", 1);
    fixture_roundtrip(&f, &reply, ask(true, SLOW, "")); /* a person who asks anew wants a new answer */
    ck_assert_uint_eq(atomic_load(&f.fake.n_submitted), 2);
    finish();
}
END_TEST

START_TEST(stream_that_was_seen_goes_on_for_a_retry)
{
    begin(60000);
    ask_and_leave(true, SLOW, "", 1);
    fixture_roundtrip(&f, &reply, ask(true, SLOW, RETRY));
    ck_assert(loopback_has(&reply, "\"text\":\"one\"") && loopback_has(&reply, "\"text\":\"two\""));
    ck_assert_uint_eq(atomic_load(&f.fake.n_submitted), 1);
    ck_assert_uint_eq(loopback_count(&reply, "content_block_start\n"), 1);
    finish();
}
END_TEST

START_TEST(stream_that_was_seen_goes_on_for_its_session)
{
    begin(60000);
    ask_and_leave(true, SLOW, SESSION, 1);
    fixture_roundtrip(&f, &reply, ask(true, SLOW, "x-claude-code-session-id: s2\r\n"));
    ck_assert_uint_eq(atomic_load(&f.fake.n_submitted), 2);
    fixture_roundtrip(&f, &reply, ask(true, SLOW, SESSION));
    ck_assert_uint_eq(atomic_load(&f.fake.n_submitted), 2);
    ck_assert(loopback_has(&reply, "event: message_stop"));
    finish();
}
END_TEST

START_TEST(retry_takes_over_from_a_connection_that_looks_alive)
{
    begin(60000);
    int fd = loopback_connect(f.port);
    loopback_send(fd, ask(true, SLOW, ""));
    fixture_until(&f.fake.n_deltas, 1);
    fixture_roundtrip(&f, &reply, ask(true, SLOW, RETRY));
    ck_assert(loopback_has(&reply, "\"text\":\"one\"") && loopback_has(&reply, "event: message_stop"));
    ck_assert_uint_eq(atomic_load(&f.fake.n_submitted), 1);
    buf_clear(&reply);
    ck_assert(loopback_read_end(fd, &reply)); /* the old one was cut */
    ck_assert(!loopback_has(&reply, "message_stop"));
    close(fd);
    finish();
}
END_TEST

START_TEST(finished_answer_is_given_again_to_a_retry_only)
{
    begin(60000);
    fixture_roundtrip(&f, &reply, ask(false, SLOW, ""));
    fixture_roundtrip(&f, &reply, ask(false, SLOW, RETRY));
    ck_assert_uint_eq(atomic_load(&f.fake.n_submitted), 1);
    ck_assert(loopback_has(&reply, "\"text\":\"onetwo\""));
    fixture_roundtrip(&f, &reply, ask(false, SLOW, ""));
    ck_assert_uint_eq(atomic_load(&f.fake.n_submitted), 2);
    finish();
}
END_TEST

START_TEST(requests_that_are_alike_get_an_answer_each)
{
    begin(60000);
    int a = loopback_connect(f.port), b = loopback_connect(f.port);
    loopback_send(a, ask(true, SLOW, ""));
    loopback_send(b, ask(true, SLOW, ""));
    fixture_until(&f.fake.n_submitted, 2);
    fixture_roundtrip(&f, &reply, ask(true, SLOW, RETRY)); /* of a third one: it must not be taken from the two */
    ck_assert_uint_eq(atomic_load(&f.fake.n_submitted), 3);
    for (int i = 0; i < 2; i++) {
        buf_clear(&reply);
        loopback_read_until(i ? b : a, &reply, "message_stop");
    }
    close(a);
    close(b);
    finish();
}
END_TEST

START_TEST(another_key_takes_nothing_over)
{
    static const struct str keys[] = {STR("one"), STR("two")};
    fixture_init(&f);
    f.config.rejoin_ms = 60000;
    f.config.keys = keys;
    f.config.n_keys = 2;
    buf_init(&request, 1 << 20);
    buf_init(&reply, 1 << 20);
    fixture_start(&f);
    ask_and_leave(false, SLOW, "x-api-key: one\r\n", 1);
    fixture_roundtrip(&f, &reply, ask(false, SLOW, "x-api-key: two\r\n" RETRY));
    ck_assert_uint_eq(atomic_load(&f.fake.n_submitted), 2);
    finish();
}
END_TEST

START_TEST(held_answers_are_few)
{
    char script[100];
    begin(60000);
    for (unsigned i = 0; i < 20; i++) {
        snprintf(script, sizeof script, "!start 7\nopen text\ndelta %u\nsilent", i);
        ask_and_leave(true, script, "", i + 1);
    }
    fixture_until(&f.fake.n_cancelled, 4);
    ck_assert_uint_eq(atomic_load(&f.fake.n_cancelled), 4);
    finish();
}
END_TEST

START_TEST(held_answers_give_way_to_new_requests)
{
    fixture_init(&f);
    f.config.rejoin_ms = 60000;
    f.config.max_requests_bytes = 200; /* one request */
    buf_init(&request, 1 << 20);
    buf_init(&reply, 1 << 20);
    fixture_start(&f);
    ask_and_leave(true, SLOW, "", 1);
    fixture_roundtrip(&f, &reply, ask(true, "another", ""));
    ck_assert_int_eq(fixture_status(&reply), 200);
    ck_assert_uint_eq(atomic_load(&f.fake.n_cancelled), 1);
    finish();
}
END_TEST

START_TEST(shutdown_ends_held_answers)
{
    begin(60000);
    ask_and_leave(true, SLOW, "", 1);
    uint64_t before = clock_ns();
    finish();
    ck_assert_uint_lt((clock_ns() - before) / 1000000, 2000);
    ck_assert_uint_eq(atomic_load(&f.fake.n_cancelled), 1);
}
END_TEST

START_TEST(taking_over_survives_a_client_that_leaves_again)
{
    begin(60000);
    for (int i = 0; i < 5; i++) {
        int fd = loopback_connect(f.port);
        loopback_send(fd, ask(false, "!start 7\nopen text\ndelta x\nsilent", ""));
        fixture_until(&f.fake.n_deltas, 1);
        loopback_sleep(30);
        close(fd);
        fixture_until(&f.fake.n_paused, (unsigned)i + 1);
    }
    ck_assert_uint_eq(atomic_load(&f.fake.n_submitted), 1);
    finish();
}
END_TEST

/* ---- notes, --strict, unknown fields, limits: anthropic-api 2.1, 6.1 ---- */

START_TEST(notes_are_a_header_in_the_order_of_the_request)
{
    begin(0);
    const char *script = "!note a: one \xc3\xa9\nnote b: two\nstart 7\nopen text\ndelta x\nclose\nfinish end";
    for (int stream = 0; stream < 2; stream++) {
        fixture_roundtrip(&f, &reply, ask(stream, script, ""));
        ck_assert_int_eq(fixture_status(&reply), 200);
        ck_assert_msg(loopback_has(&reply, "parley-notes: a: one ??; b: two\r\n"), "%s", reply.ptr);
    }
    fixture_roundtrip(&f, &reply, ask(true, "plain", ""));
    ck_assert(!loopback_has(&reply, "parley-notes"));
    pthread_mutex_lock(&f.lock);
    ck_assert(loopback_has(&f.log, "not honoured: a: one ??; b: two"));
    pthread_mutex_unlock(&f.lock);
    finish();
}
END_TEST

START_TEST(notes_have_a_limit_and_break_no_header)
{
    struct buf script;
    begin(0);
    buf_init(&script, 1 << 20);
    buf_append(&script, STR("!"));
    for (int i = 0; i < 100; i++) buf_printf(&script, "note field %d\r: is not honoured, for a long reason\n", i);
    buf_append(&script, STR("start 7\nfinish end"));
    fixture_roundtrip(&f, &reply, ask(false, script.ptr, ""));
    ck_assert_int_eq(fixture_status(&reply), 200);
    ck_assert(loopback_has(&reply, "parley-notes: field 0?: is") && loopback_has(&reply, " more\r\n"));
    buf_deinit(&script);
    finish();
}
END_TEST

START_TEST(strict_refuses_what_is_not_honoured)
{
    fixture_init(&f);
    f.config.strict = true;
    buf_init(&request, 1 << 20);
    buf_init(&reply, 1 << 20);
    fixture_start(&f);
    for (int stream = 0; stream < 2; stream++) {
        fixture_roundtrip(&f, &reply, ask(stream, "!note a: one\nstart 7\nopen text\ndelta x\nfinish end", ""));
        ck_assert_int_eq(fixture_status(&reply), 400);
        ck_assert_msg(loopback_has(&reply, "\"message\":\"not honoured (--strict): a: one\""), "%s", reply.ptr);
    }
    ck_assert_uint_eq(atomic_load(&f.fake.n_cancelled), 2);
    fixture_roundtrip(&f, &reply, ask(false, "plain", ""));
    ck_assert_int_eq(fixture_status(&reply), 200);
    finish();
}
END_TEST

START_TEST(unknown_fields_are_logged_once)
{
    begin(0);
    for (int i = 0; i < 3; i++) {
        fixture_roundtrip(
            &f, &reply,
            fixture_post(&request, "/v1/messages", "",
                         "{\"model\":\"m\",\"fancy\\n\":1,\"speed\":\"standard\",\"messages\":[{\"role\":\"user\","
                         "\"content\":\"x\"}]}"));
        ck_assert_int_eq(fixture_status(&reply), 200);
        ck_assert(!loopback_has(&reply, "parley-notes"));
    }
    pthread_mutex_lock(&f.lock);
    ck_assert_uint_eq(loopback_count(&f.log, "the field \"fancy?\""), 1);
    ck_assert_uint_eq(loopback_count(&f.log, "the field"), 1);
    pthread_mutex_unlock(&f.lock);
    finish();
}
END_TEST

START_TEST(requests_of_a_key_have_a_limit) /* 6.1, 429 */
{
    fixture_init(&f);
    f.config.max_per_key = 1;
    buf_init(&request, 1 << 20);
    buf_init(&reply, 1 << 20);
    fixture_start(&f);
    int fd = loopback_connect(f.port);
    loopback_send(fd, ask(true, "!start 7\nsilent", ""));
    fixture_until(&f.fake.n_submitted, 1);
    fixture_roundtrip(&f, &reply, ask(false, "x", ""));
    ck_assert_int_eq(fixture_status(&reply), 429);
    ck_assert(loopback_has(&reply, "\"type\":\"rate_limit_error\"") && loopback_has(&reply, "retry-after: 2\r\n"));
    close(fd);
    fixture_until(&f.fake.n_cancelled, 1);
    fixture_roundtrip(&f, &reply, ask(false, "x", ""));
    ck_assert_int_eq(fixture_status(&reply), 200);
    finish();
}
END_TEST

/* ---- diagnostics: 2.1 ---- */

static char id[64];

static const char *diagnose(const char *previous, const char *more, const char *messages)
{
    static char got[300];
    char text[2000], against[100];
    snprintf(against, sizeof against, previous ? "\"%s\"" : "null", previous);
    snprintf(text, sizeof text,
             "{\"model\":\"m\",\"max_tokens\":9,\"diagnostics\":{\"previous_message_id\":%s}%s,\"messages\":[%s]}",
             against, more, messages);
    fixture_roundtrip(&f, &reply, fixture_post(&request, "/v1/messages", "", text));
    ck_assert_int_eq(fixture_status(&reply), 200);
    ptrdiff_t at = str_find(buf_str(&reply), STR("\"id\":\"msg_"), 0);
    snprintf(id, sizeof id, "%.28s", reply.ptr + at + 6);
    at = str_find(buf_str(&reply), STR("\"diagnostics\":"), 0);
    ptrdiff_t end = str_find(buf_str(&reply), STR(",\"usage\":"), (size_t)at);
    snprintf(got, sizeof got, "%.*s", (int)(end - at - 14), reply.ptr + at + 14);
    return got;
}

#define U(text) "{\"role\":\"user\",\"content\":\"" text "\"}"
#define A(text) "{\"role\":\"assistant\",\"content\":\"" text "\"}"
#define TOOL(d)                                                                                            \
    ",\"system\":\"abc\",\"tools\":[{\"name\":\"a\",\"description\":\"" d "\",\"input_schema\":{\"type\":" \
    "\"object\",\"properties\":{}}}]"

START_TEST(diagnostics_say_what_changed)
{
    char first[64];
    begin(0);
    ck_assert_str_eq(diagnose(NULL, TOOL("d"), U("one") "," A("two") "," U("three")), "null");
    snprintf(first, sizeof first, "%s", id);
    /* More messages, blocks in place of text, cache_control: nothing that changes the prompt so far. */
    ck_assert_str_eq(
        diagnose(first, TOOL("d"),
                 "{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"one\",\"cache_control\":{\"type\":"
                 "\"ephemeral\"}}]}," A("two") "," U("three") "," A("four") "," U("five")),
        "null");
    ck_assert_str_eq(diagnose(first, TOOL("e"), U("one") "," A("two") "," U("three")),
                     "{\"cache_miss_reason\":{\"type\":\"tools_changed\",\"cache_missed_input_tokens\":7}}");
    ck_assert_str_eq(diagnose(first, "", U("one") "," A("two") "," U("three")),
                     "{\"cache_miss_reason\":{\"type\":\"system_changed\",\"cache_missed_input_tokens\":7}}");
    ck_assert_str_eq(diagnose(first, TOOL("d"), U("one") "," A("TWO") "," U("three")),
                     "{\"cache_miss_reason\":{\"type\":\"messages_changed\",\"cache_missed_input_tokens\":2}}");
    ck_assert_str_eq(
        diagnose(first, TOOL("d") ",\"thinking\":{\"type\":\"adaptive\"}", U("one") "," A("two") "," U("three")),
        "{\"cache_miss_reason\":{\"type\":\"unavailable\"}}");
    ck_assert_str_eq(diagnose("msg_unknown", TOOL("d"), U("one")),
                     "{\"cache_miss_reason\":{\"type\":\"previous_message_not_found\"}}");
    finish();
}
END_TEST

START_TEST(diagnostics_name_the_model)
{
    begin(0);
    diagnose(NULL, "", U("one"));
    char text[400];
    snprintf(text, sizeof text,
             "{\"model\":\"second\",\"diagnostics\":{\"previous_message_id\":\"%s\"},\"stream\":true,\"messages\":[" U(
                 "one") "]}",
             id);
    fixture_roundtrip(&f, &reply, fixture_post(&request, "/v1/messages", "", text));
    ck_assert(loopback_has(&reply, "\"diagnostics\":{\"cache_miss_reason\":{\"type\":\"model_changed\""));
    fixture_roundtrip(&f, &reply, ask(false, "without diagnostics", ""));
    ck_assert(loopback_has(&reply, "\"diagnostics\":null"));
    finish();
}
END_TEST

void add_generations(TCase *tc);
void add_generations(TCase *tc)
{
    tcase_add_test(tc, client_that_leaves_stops_the_computation_at_once);
    tcase_add_test(tc, nobody_comes_back_and_it_is_cancelled);
    tcase_add_test(tc, answer_in_one_piece_is_taken_over);
    tcase_add_test(tc, stream_that_said_nothing_yet_is_taken_over);
    tcase_add_test(tc, stream_that_was_seen_is_not_given_to_anybody);
    tcase_add_test(tc, stream_that_was_seen_goes_on_for_a_retry);
    tcase_add_test(tc, stream_that_was_seen_goes_on_for_its_session);
    tcase_add_test(tc, retry_takes_over_from_a_connection_that_looks_alive);
    tcase_add_test(tc, finished_answer_is_given_again_to_a_retry_only);
    tcase_add_test(tc, requests_that_are_alike_get_an_answer_each);
    tcase_add_test(tc, another_key_takes_nothing_over);
    tcase_add_test(tc, held_answers_are_few);
    tcase_add_test(tc, held_answers_give_way_to_new_requests);
    tcase_add_test(tc, shutdown_ends_held_answers);
    tcase_add_test(tc, taking_over_survives_a_client_that_leaves_again);
    tcase_add_test(tc, notes_are_a_header_in_the_order_of_the_request);
    tcase_add_test(tc, notes_have_a_limit_and_break_no_header);
    tcase_add_test(tc, strict_refuses_what_is_not_honoured);
    tcase_add_test(tc, unknown_fields_are_logged_once);
    tcase_add_test(tc, requests_of_a_key_have_a_limit);
    tcase_add_test(tc, diagnostics_say_what_changed);
    tcase_add_test(tc, diagnostics_name_the_model);
}
