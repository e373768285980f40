/* Messages over real sockets: streams, answers in one piece, errors, disconnects, back-pressure, draining. */
#include "fixture.h"

static void begin(struct fixture *f, struct buf *request, struct buf *reply)
{
    fixture_init(f);
    buf_init(request, (size_t)64 << 20);
    buf_init(reply, (size_t)64 << 20);
}

static void finish(struct fixture *f, struct buf *request, struct buf *reply)
{
    fixture_stop(f);
    buf_deinit(request);
    buf_deinit(reply);
}

START_TEST(answer_in_one_piece_echoes_model_and_usage)
{
    struct fixture f;
    struct buf request, reply;
    begin(&f, &request, &reply);
    fixture_start(&f);
    fixture_roundtrip(&f, &reply, fixture_message(&request, false, "hi there"));
    ck_assert_int_eq(fixture_status(&reply), 200);
    ck_assert(loopback_has(&reply, "content-type: application/json\r\n"));
    ck_assert(loopback_has(&reply, "request-id: req_"));
    ck_assert(loopback_has(&reply, "\"model\":\"claude-x\""));
    ck_assert(loopback_has(&reply, "{\"type\":\"text\",\"text\":\"hi there\",\"citations\":null}"));
    ck_assert(
        loopback_has(&reply, "\"input_tokens\":4,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":3"));
    finish(&f, &request, &reply);
}
END_TEST

START_TEST(stream_is_chunked_and_ends_with_message_stop)
{
    struct fixture f;
    struct buf request, reply;
    begin(&f, &request, &reply);
    fixture_start(&f);
    fixture_roundtrip(&f, &reply, fixture_message(&request, true, "hi"));
    ck_assert_int_eq(fixture_status(&reply), 200);
    ck_assert(loopback_has(&reply, "content-type: text/event-stream; charset=utf-8\r\n"));
    ck_assert(loopback_has(&reply, "transfer-encoding: chunked\r\n"));
    ck_assert(loopback_has(&reply, "event: message_start\n"));
    ck_assert(loopback_has(&reply, "\"text\":\"hi\""));
    ck_assert(loopback_has(&reply, "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n\r\n0\r\n\r\n"));
    finish(&f, &request, &reply);
}
END_TEST

START_TEST(silent_stream_gets_pings_from_the_start)
{
    struct fixture f;
    struct buf request, reply;
    begin(&f, &request, &reply);
    f.config.ping_ms = 40;
    fixture_start(&f);
    fixture_roundtrip(&f, &reply, fixture_message(&request, true, "!wait 200\nstart 7\nwait 200\nfinish end"));
    ck_assert_int_eq(fixture_status(&reply), 200);
    ptrdiff_t ping = str_find(buf_str(&reply), STR("event: ping\ndata: {\"type\":\"ping\"}\n\n"), 0);
    ptrdiff_t start = str_find(buf_str(&reply), STR("event: message_start"), 0);
    ck_assert(ping > 0 && ping < start);
    ck_assert_uint_ge(loopback_count(&reply, "event: ping"), 4);
    finish(&f, &request, &reply);
}
END_TEST

/* The longest time without a byte from the request to the end of the reply. Counted in short waits, not by the clock:
 * when the whole machine stands still, that is nobody's silence. */
static unsigned longest_gap_ms(struct fixture *f, struct buf *reply, struct str request)
{
    int fd = loopback_connect(f->port);
    unsigned waits = 0;
    unsigned longest = 0;
    loopback_send(fd, request);
    while (!loopback_has(reply, "message_stop") && waits < 200) {
        waits = loopback_more(fd, reply, 50) ? 0 : waits + 1;
        if (waits > longest) longest = waits;
    }
    close(fd);
    return longest * 50;
}

/* anthropic-api 5.4: in the queue, in the prefill, and while text, reasoning or a call is held back. */
START_TEST(stream_is_never_silent)
{
    struct fixture f;
    struct buf request, reply;
    begin(&f, &request, &reply);
    f.config.ping_ms = 100;
    fixture_start(&f);
    unsigned gap = longest_gap_ms(&f, &reply,
                                  fixture_message(&request, true,
                                                  "!wait 1200\nstart 7\nwait 1200\nopen thinking\nwait 1200\ndelta hm\n"
                                                  "wait 1200\nclose\nopen text\nwait 1200\ndelta x\nclose\nopen tool\n"
                                                  "wait 1200\ndelta {}\nwait 1200\nclose\nwait 1200\nfinish tool"));
    ck_assert_int_eq(fixture_status(&reply), 200);
    ck_assert(loopback_has(&reply, "message_stop"));
    ck_assert_msg(gap < 900, "%u ms of silence", gap);
    finish(&f, &request, &reply);
}
END_TEST

/* A compaction says nothing before it is complete. */
START_TEST(compaction_is_never_silent)
{
    struct fixture f;
    struct buf request, reply;
    begin(&f, &request, &reply);
    f.config.ping_ms = 100;
    fixture_start(&f);
    fixture_post(
        &request, "/v1/messages", "",
        "{\"model\":\"m\",\"max_tokens\":9,\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],"
        "\"compaction\":{\"type\":\"summarize\",\"instructions\":\"!start 7\\nopen text\\nrepeat 300 "
        "long\\nwait 1200\\ndelta x\\nclose\\nfinish end\"}}");
    unsigned gap = longest_gap_ms(&f, &reply, buf_str(&request));
    ck_assert(loopback_has(&reply, "compaction_delta") && loopback_count(&reply, "event: ping") >= 5);
    ck_assert_msg(gap < 900, "%u ms of silence", gap);
    finish(&f, &request, &reply);
}
END_TEST

START_TEST(error_before_the_stream_is_a_status)
{
    struct fixture f;
    struct buf request, reply;
    begin(&f, &request, &reply);
    fixture_start(&f);
    fixture_roundtrip(&f, &reply,
                      fixture_message(&request, true, "!error invalid prompt is too long: 9 tokens > 8 maximum"));
    ck_assert_int_eq(fixture_status(&reply), 400);
    ck_assert_msg(
        loopback_has(&reply, "{\"type\":\"invalid_request_error\",\"message\":\"prompt is too long: 9 tokens > 8"),
        "%s", reply.ptr);
    fixture_roundtrip(&f, &reply, fixture_message(&request, false, "!start 7\nerror busy full"));
    ck_assert_int_eq(fixture_status(&reply), 529);
    ck_assert(loopback_has(&reply, "retry-after: 2\r\n"));
    finish(&f, &request, &reply);
}
END_TEST

START_TEST(error_inside_the_stream_is_an_event_and_keeps_secrets)
{
    struct fixture f;
    struct buf request, reply;
    begin(&f, &request, &reply);
    fixture_start(&f);
    fixture_roundtrip(&f, &reply,
                      fixture_message(&request, true, "!start 7\nopen text\ndelta a\nerror io /secret/path broke"));
    ck_assert_int_eq(fixture_status(&reply), 200);
    ck_assert(loopback_has(&reply, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\""));
    ck_assert(!loopback_has(&reply, "secret"));
    ck_assert(!loopback_has(&reply, "message_stop"));
    ck_assert(loopback_has(&reply, "0\r\n\r\n"));
    finish(&f, &request, &reply);
}
END_TEST

START_TEST(client_that_leaves_cancels_at_once)
{
    struct fixture f;
    struct buf request, reply;
    begin(&f, &request, &reply);
    fixture_start(&f);
    for (unsigned stream = 0; stream < 2; stream++) {
        int fd = loopback_connect(f.port);
        loopback_send(fd, fixture_message(&request, stream, "!start 7\nsilent"));
        fixture_until(&f.fake.n_submitted, stream + 1);
        uint64_t before = clock_ns();
        close(fd);
        fixture_until(&f.fake.n_cancelled, stream + 1);
        ck_assert_uint_lt((clock_ns() - before) / 1000000, 1000);
    }
    finish(&f, &request, &reply);
}
END_TEST

START_TEST(client_that_leaves_with_pipelined_input_waiting_cancels)
{
    struct fixture f;
    struct buf request, reply;
    begin(&f, &request, &reply);
    fixture_start(&f);
    int fd = loopback_connect(f.port);
    loopback_send(fd, fixture_message(&request, true, "!start 7\nsilent"));
    fixture_until(&f.fake.n_submitted, 1);
    char junk[4096];
    memset(junk, 'x', sizeof junk);
    /* More than the server takes in ahead, less than the kernel holds for it. */
    for (int i = 0; i < 40; i++) loopback_send(fd, (struct str){junk, sizeof junk});
    shutdown(fd, SHUT_WR);
    fixture_until(&f.fake.n_cancelled, 1);
    close(fd);
    finish(&f, &request, &reply);
}
END_TEST

START_TEST(client_that_reads_slowly_pauses_the_backend_and_loses_nothing)
{
    struct fixture f;
    struct buf request, reply;
    begin(&f, &request, &reply);
    fixture_start(&f);
    int fd = loopback_connect(f.port);
    int small = 128 << 10;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    struct buf script;
    buf_init(&script, 1 << 20);
    buf_append(&script, STR("!start 7\nopen text\nrepeat 5000 "));
    for (int i = 0; i < 1000; i++) buf_append_char(&script, 'y');
    buf_append(&script, STR("\nclose\nfinish end"));
    loopback_send(fd, fixture_message(&request, true, script.ptr));
    fixture_until(&f.fake.n_paused, 1);
    /* The kernel takes some more at first; then the backend stands still, far from the end. */
    unsigned before = 0;
    unsigned now = atomic_load(&f.fake.n_deltas);
    for (int i = 0; i < 50 && before != now; i++) {
        before = now;
        loopback_sleep(100);
        now = atomic_load(&f.fake.n_deltas);
    }
    ck_assert_uint_eq(before, now);
    ck_assert_uint_lt(now, 5000);
    ck_assert_uint_gt(atomic_load(&f.fake.n_paused), atomic_load(&f.fake.n_resumed));
    loopback_read_until(fd, &reply, "0\r\n\r\n");
    ck_assert_uint_eq(loopback_count(&reply, "yyyy\"}"), 5001);
    ck_assert_uint_ge(atomic_load(&f.fake.n_resumed), 1);
    close(fd);
    buf_deinit(&script);
    finish(&f, &request, &reply);
}
END_TEST

START_TEST(client_that_never_reads_is_dropped)
{
    struct fixture f;
    struct buf request, reply;
    begin(&f, &request, &reply);
    f.config.limits.write_ms = 200;
    fixture_start(&f);
    int fd = loopback_connect(f.port);
    loopback_send(fd, fixture_message(&request, true, "!start 7\nopen text\nrepeat 1000000 yyyyyyyyyyyyyyyyyyyyyyyy"));
    fixture_until(&f.fake.n_cancelled, 1);
    close(fd);
    finish(&f, &request, &reply);
}
END_TEST

START_TEST(long_answer_in_one_piece_gets_white_space)
{
    struct fixture f;
    struct buf request, reply;
    begin(&f, &request, &reply);
    f.config.ping_ms = 20;
    f.config.patience_ms = 60;
    fixture_start(&f);
    fixture_roundtrip(&f, &reply,
                      fixture_message(&request, false, "!start 7\nwait 300\nopen text\ndelta ok\nclose\nfinish end"));
    ck_assert_int_eq(fixture_status(&reply), 200);
    ck_assert(loopback_has(&reply, "\r\n1\r\n \r\n"));
    ck_assert(loopback_has(&reply, "\"text\":\"ok\""));
    finish(&f, &request, &reply);
}
END_TEST

START_TEST(running_answers_are_ended_legally_on_shutdown)
{
    struct fixture f;
    struct buf request, reply, whole;
    begin(&f, &request, &reply);
    buf_init(&whole, 1 << 20);
    fixture_start(&f);
    int a = loopback_connect(f.port);
    loopback_send(a, fixture_message(&request, true, "!start 7\nopen text\ndelta x\nsilent"));
    loopback_read_until(a, &reply, "text_delta");
    int b = loopback_connect(f.port);
    loopback_send(b, fixture_message(&request, false, "!start 7\nsilent"));
    fixture_until(&f.fake.n_submitted, 2);
    kill(getpid(), SIGTERM);
    ck_assert(loopback_read_end(a, &reply));
    ck_assert(loopback_has(&reply, "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\""));
    ck_assert(loopback_has(&reply, "0\r\n\r\n"));
    ck_assert(loopback_read_end(b, &whole));
    ck_assert_int_eq(fixture_status(&whole), 529);
    fixture_wait(&f);
    close(a);
    close(b);
    buf_deinit(&request);
    buf_deinit(&reply);
    buf_deinit(&whole);
}
END_TEST

START_TEST(answers_that_finish_in_time_survive_shutdown)
{
    struct fixture f;
    struct buf request, reply;
    begin(&f, &request, &reply);
    f.config.drain_ms = 3000;
    fixture_start(&f);
    int a = loopback_connect(f.port);
    loopback_send(a, fixture_message(&request, true, "!start 7\nwait 150\nfinish end"));
    loopback_read_until(a, &reply, "message_start");
    kill(getpid(), SIGTERM);
    ck_assert(loopback_read_end(a, &reply));
    ck_assert(loopback_has(&reply, "message_stop"));
    fixture_wait(&f);
    close(a);
    buf_deinit(&request);
    buf_deinit(&reply);
}
END_TEST

/* As on a busy machine: the client takes longer for the last bytes than a client that is gone would be waited for. */
START_TEST(a_slow_client_gets_the_whole_answer_at_shutdown)
{
    enum { SLICE_MS = 100, SLICES = 30, DELTAS = 100000 };
    struct fixture f;
    struct buf request, reply;
    begin(&f, &request, &reply);
    f.config.drain_ms = 100;
    f.config.limits.high_mark_bytes = (size_t)32 << 20;
    fixture_start(&f);
    int a = loopback_connect(f.port);
    loopback_send(
        a, fixture_message(&request, true, "!start 7\nopen text\nrepeat 100000 some words of an answer\nsilent"));
    loopback_read_until(a, &reply, "message_start");
    while (atomic_load(&f.fake.n_deltas) < DELTAS) loopback_sleep(10);
    kill(getpid(), SIGTERM);
    for (int i = 0; i < SLICES; i++) {
        for (int k = 0; k < 4; k++) ck_assert(loopback_more(a, &reply, 500));
        loopback_sleep(SLICE_MS);
    }
    ck_assert(loopback_read_end(a, &reply));
    ck_assert_uint_eq(loopback_count(&reply, "some words of an answer"), atomic_load(&f.fake.n_deltas));
    ck_assert(loopback_has(&reply, "event: error"));
    ck_assert(str_ends(buf_str(&reply), STR("0\r\n\r\n")));
    fixture_wait(&f);
    close(a);
    buf_deinit(&request);
    buf_deinit(&reply);
}
END_TEST

START_TEST(second_signal_stops_at_once)
{
    struct fixture f;
    struct buf request, reply;
    begin(&f, &request, &reply);
    f.config.drain_ms = 60000;
    fixture_start(&f);
    int a = loopback_connect(f.port);
    loopback_send(a, fixture_message(&request, true, "!start 7\nsilent"));
    loopback_read_until(a, &reply, "message_start");
    kill(getpid(), SIGTERM);
    loopback_sleep(100);
    kill(getpid(), SIGTERM);
    fixture_wait(&f);
    close(a);
    buf_deinit(&request);
    buf_deinit(&reply);
}
END_TEST

START_TEST(count_tokens_answers_without_max_tokens)
{
    struct fixture f;
    struct buf request, reply;
    begin(&f, &request, &reply);
    fixture_start(&f);
    fixture_roundtrip(&f, &reply,
                      fixture_post(&request, "/v1/messages/count_tokens?beta=true", "",
                                   "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"foo\"}]}"));
    ck_assert_int_eq(fixture_status(&reply), 200);
    ck_assert(loopback_has(&reply, "{\"input_tokens\":42}"));
    finish(&f, &request, &reply);
}
END_TEST

/* A message whose first text is long, so that it is decoded on the thread; the script comes last. */
static struct str long_message(struct buf *out, const char *script)
{
    struct buf body;
    buf_init(&body, (size_t)8 << 20);
    buf_append(&body, STR("{\"model\":\"m\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\""));
    for (int i = 0; i < 200000; i++) buf_append(&body, STR("long "));
    buf_printf(&body, "\"},{\"role\":\"user\",\"content\":\"%s\"}]}", script);
    fixture_post(out, "/v1/messages", "", body.ptr);
    buf_deinit(&body);
    return buf_str(out);
}

START_TEST(long_bodies_are_decoded_beside_the_loop)
{
    struct fixture f;
    struct buf request, reply;
    begin(&f, &request, &reply);
    fixture_start(&f);
    fixture_roundtrip(&f, &reply, long_message(&request, "!start 7\\nopen text\\ndelta x\\nclose\\nfinish end"));
    ck_assert_int_eq(fixture_status(&reply), 200);
    ck_assert(loopback_has(&reply, "message_stop"));
    fixture_roundtrip(&f, &reply, long_message(&request, "\\x"));
    ck_assert_int_eq(fixture_status(&reply), 400);
    for (int i = 0; i < 5; i++) {
        int fd = loopback_connect(f.port);
        loopback_send(fd, long_message(&request, "!start 7\\nsilent"));
        if (i % 2) loopback_sleep(1);
        close(fd);
    }
    finish(&f, &request, &reply);
}
END_TEST

START_TEST(requests_in_work_have_a_budget)
{
    struct fixture f;
    struct buf request, reply;
    begin(&f, &request, &reply);
    f.config.max_requests_bytes = 1500000;
    fixture_start(&f);
    int fd = loopback_connect(f.port);
    loopback_send(fd, long_message(&request, "!start 7\\nsilent"));
    loopback_read_until(fd, &reply, "message_start");
    fixture_roundtrip(&f, &reply, long_message(&request, "!finish end"));
    ck_assert_int_eq(fixture_status(&reply), 529);
    close(fd);
    fixture_until(&f.fake.n_cancelled, 1);
    fixture_roundtrip(&f, &reply, long_message(&request, "!finish end"));
    ck_assert_int_eq(fixture_status(&reply), 200);
    finish(&f, &request, &reply);
}
END_TEST

START_TEST(log_line_has_numbers_and_no_prompt)
{
    struct fixture f;
    struct buf request, reply;
    begin(&f, &request, &reply);
    fixture_start(&f);
    fixture_roundtrip(&f, &reply, fixture_message(&request, true, "confidential"));
    fixture_roundtrip(&f, &reply, fixture_message(&request, true, "confidential"));
    pthread_mutex_lock(&f.lock);
    ck_assert(loopback_has(&f.log, "POST /v1/messages 200 model=claude-x in=7 cached=3 out=1"));
    ck_assert(!loopback_has(&f.log, "confidential"));
    pthread_mutex_unlock(&f.lock);
    finish(&f, &request, &reply);
}
END_TEST

void add_messages(TCase *tc);
void add_messages(TCase *tc)
{
    tcase_add_test(tc, answer_in_one_piece_echoes_model_and_usage);
    tcase_add_test(tc, stream_is_chunked_and_ends_with_message_stop);
    tcase_add_test(tc, silent_stream_gets_pings_from_the_start);
    tcase_add_test(tc, stream_is_never_silent);
    tcase_add_test(tc, compaction_is_never_silent);
    tcase_add_test(tc, error_before_the_stream_is_a_status);
    tcase_add_test(tc, error_inside_the_stream_is_an_event_and_keeps_secrets);
    tcase_add_test(tc, client_that_leaves_cancels_at_once);
    tcase_add_test(tc, client_that_leaves_with_pipelined_input_waiting_cancels);
    tcase_add_test(tc, client_that_reads_slowly_pauses_the_backend_and_loses_nothing);
    tcase_add_test(tc, client_that_never_reads_is_dropped);
    tcase_add_test(tc, long_answer_in_one_piece_gets_white_space);
    tcase_add_test(tc, running_answers_are_ended_legally_on_shutdown);
    tcase_add_test(tc, answers_that_finish_in_time_survive_shutdown);
    tcase_add_test(tc, a_slow_client_gets_the_whole_answer_at_shutdown);
    tcase_add_test(tc, second_signal_stops_at_once);
    tcase_add_test(tc, count_tokens_answers_without_max_tokens);
    tcase_add_test(tc, long_bodies_are_decoded_beside_the_loop);
    tcase_add_test(tc, requests_in_work_have_a_budget);
    tcase_add_test(tc, log_line_has_numbers_and_no_prompt);
}

void add_routes(TCase *tc);
void add_threads(TCase *tc);
void add_generations(TCase *tc);
void add_documents(TCase *tc);
UNIT_MAIN("server", add_messages, add_routes, add_threads, add_generations, add_documents)
