/* Connections over real sockets: order, framing, limits, closing. The handler answers with what it got. */
#include <pthread.h>

#include "http/http.h"
#include "loopback.h"

struct rig {
    struct http_loop *loop;
    struct http_server *server;
    struct http_limits limits;
    pthread_t thread;
    int stop_pipe[2];
    uint16_t port;
    struct http_exchange *held;
    struct http_timer *timer;
    _Atomic unsigned n_closed, n_faults, n_requests;
};

static void on_late(void *ctx)
{
    struct rig *r = ctx;
    struct http_exchange *x = r->held;
    r->held = NULL;
    if (x) http_reply(x, 200, NULL, 0, STR("late"));
}

static void on_left(void *ctx, const char *why)
{
    struct rig *r = ctx;
    (void)why;
    r->held = NULL;
    r->n_closed++;
}

static void on_head(void *ctx, struct http_exchange *x)
{
    (void)ctx;
    if (str_eq(http_path(x), STR("/refused"))) http_reply(x, 403, NULL, 0, STR("no"));
}

static void on_request(void *ctx, struct http_exchange *x)
{
    struct rig *r = ctx;
    struct str path = http_path(x);
    r->n_requests++;
    if (str_eq(path, STR("/late"))) {
        http_set_callbacks(x, on_left, NULL, r);
        r->held = x;
        http_timer_set(r->timer, 60);
    } else if (str_eq(path, STR("/never"))) {
        http_set_callbacks(x, on_left, NULL, r);
        r->held = x;
    } else if (str_eq(path, STR("/pieces"))) {
        http_reply_start(x, 200, NULL, 0);
        http_reply_write(x, STR("one"));
        http_reply_write(x, STR(""));
        http_reply_write(x, STR("three"));
        http_reply_end(x);
    } else {
        struct buf body;
        buf_init(&body, (size_t)64 << 20);
        buf_printf(&body, "[%.*s %.*s %zu]", STR_ARG(http_method(x)), STR_ARG(path), http_body(x)->len);
        http_reply(x, 200, NULL, 0, buf_str(&body));
        buf_deinit(&body);
    }
}

static void on_fault(void *ctx, struct http_exchange *x, enum http_fault fault, const char *why)
{
    struct rig *r = ctx;
    (void)why;
    r->n_faults++;
    http_reply(x, http_fault_status(fault), NULL, 0, str_from(http_fault_text(fault)));
}

static void on_stop(void *ctx)
{
    http_loop_stop(((struct rig *)ctx)->loop);
}

static void *run(void *arg)
{
    struct rig *r = arg;
    http_loop_run(r->loop);
    return NULL;
}

static void rig_init(struct rig *r)
{
    memset(r, 0, sizeof *r);
    http_limits_init(&r->limits);
}

static struct http_watch *stop_watch;

static void rig_start(struct rig *r)
{
    const struct http_handler handler = {.ctx = r, .head = on_head, .request = on_request, .fault = on_fault};
    struct err err;
    bool loopback;
    r->loop = http_loop_create(&err);
    ck_assert_ptr_nonnull(r->loop);
    r->server = http_server_create(r->loop, &r->limits, &handler);
    ck_assert_msg(http_server_listen(r->server, &r->port, &loopback, "127.0.0.1", &err), "%s", err.msg);
    ck_assert(loopback);
    r->timer = http_timer_create(r->loop, on_late, r);
    ck_assert_int_eq(pipe(r->stop_pipe), 0);
    stop_watch = http_watch_create(r->loop, r->stop_pipe[0], on_stop, r);
    ck_assert_int_eq(pthread_create(&r->thread, NULL, run, r), 0);
}

static void rig_stop(struct rig *r)
{
    ck_assert_int_eq(write(r->stop_pipe[1], "x", 1), 1);
    pthread_join(r->thread, NULL);
    http_server_destroy(r->server);
    http_timer_destroy(r->timer);
    http_watch_destroy(stop_watch);
    http_loop_destroy(r->loop);
    close(r->stop_pipe[0]);
    close(r->stop_pipe[1]);
}

static void wait_for(_Atomic unsigned *counter, unsigned n)
{
    for (int i = 0; i < 500 && *counter < n; i++) loopback_sleep(10);
    ck_assert_uint_ge(*counter, n);
}

#define H "Host: a\r\n"

START_TEST(pipelined_requests_are_answered_in_order)
{
    struct rig r;
    struct buf reply;
    rig_init(&r);
    rig_start(&r);
    buf_init(&reply, 1 << 20);
    int fd = loopback_connect(r.port);
    loopback_send(fd, STR("GET /late HTTP/1.1\r\n" H "\r\nPOST /a HTTP/1.1\r\n" H "Content-Length: 3\r\n\r\nabc"
                          "\r\nHEAD /b HTTP/1.1\r\n" H "\r\nPOST /c HTTP/1.1\r\n" H
                          "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\nGET /d HTTP/1.1\r\n" H
                          "Connection: close\r\n\r\n"));
    ck_assert(loopback_read_end(fd, &reply));
    ptrdiff_t late = str_find(buf_str(&reply), STR("\r\n\r\nlate"), 0);
    ptrdiff_t a = str_find(buf_str(&reply), STR("[POST /a 3]"), 0);
    ptrdiff_t c = str_find(buf_str(&reply), STR("[POST /c 2]"), 0);
    ptrdiff_t d = str_find(buf_str(&reply), STR("[GET /d 0]"), 0);
    ck_assert(0 < late && late < a && a < c && c < d);
    ck_assert(!loopback_has(&reply, "[HEAD"));
    ck_assert_uint_eq(loopback_count(&reply, "HTTP/1.1 200"), 5);
    close(fd);
    buf_deinit(&reply);
    rig_stop(&r);
}
END_TEST

START_TEST(a_request_in_single_bytes_is_understood)
{
    struct rig r;
    struct buf reply;
    rig_init(&r);
    rig_start(&r);
    buf_init(&reply, 1 << 20);
    int fd = loopback_connect(r.port);
    const char *text = "POST /x HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for (size_t i = 0; text[i]; i++) loopback_send(fd, (struct str){text + i, 1});
    loopback_read_until(fd, &reply, "[POST /x 3]");
    for (size_t i = 0; text[i]; i++) loopback_send(fd, (struct str){text + i, 1});
    buf_clear(&reply);
    loopback_read_until(fd, &reply, "[POST /x 3]");
    close(fd);
    buf_deinit(&reply);
    rig_stop(&r);
}
END_TEST

START_TEST(pieces_are_chunked_or_end_with_the_connection)
{
    struct rig r;
    struct buf reply;
    rig_init(&r);
    rig_start(&r);
    buf_init(&reply, 1 << 20);
    int fd = loopback_connect(r.port);
    loopback_send(fd, STR("GET /pieces HTTP/1.1\r\n" H "\r\n"));
    loopback_read_until(fd, &reply, "\r\n\r\n3\r\none\r\n5\r\nthree\r\n0\r\n\r\n");
    close(fd);
    fd = loopback_connect(r.port);
    loopback_send(fd, STR("GET /pieces HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    buf_clear(&reply);
    ck_assert(loopback_read_end(fd, &reply));
    ck_assert(loopback_has(&reply, "connection: close\r\n"));
    ck_assert(loopback_has(&reply, "\r\n\r\nonethree"));
    close(fd);
    fd = loopback_connect(r.port);
    loopback_send(fd, STR("GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    buf_clear(&reply);
    loopback_read_until(fd, &reply, "[GET /x 0]");
    ck_assert(loopback_has(&reply, "connection: keep-alive\r\n"));
    close(fd);
    buf_deinit(&reply);
    rig_stop(&r);
}
END_TEST

START_TEST(expectation_is_met_before_the_body)
{
    struct rig r;
    struct buf reply;
    rig_init(&r);
    rig_start(&r);
    buf_init(&reply, 1 << 20);
    int fd = loopback_connect(r.port);
    loopback_send(fd, STR("POST /x HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"));
    loopback_read_until(fd, &reply, "HTTP/1.1 100 Continue\r\n\r\n");
    loopback_send(fd, STR("ab"));
    loopback_read_until(fd, &reply, "[POST /x 2]");
    loopback_send(fd, STR("POST /refused HTTP/1.1\r\n" H "Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"));
    buf_clear(&reply);
    ck_assert(loopback_read_end(fd, &reply));
    ck_assert(str_starts(buf_str(&reply), STR("HTTP/1.1 403 ")));
    ck_assert(!loopback_has(&reply, "100 Continue"));
    close(fd);
    buf_deinit(&reply);
    rig_stop(&r);
}
END_TEST

/* Sends a body of n bytes after the head, whatever the server says meanwhile, then reads. */
static void send_much(int fd, const char *head, size_t n)
{
    char bytes[65536];
    memset(bytes, 'a', sizeof bytes);
    loopback_send(fd, str_from(head));
    while (n) {
        size_t piece = n < sizeof bytes ? n : sizeof bytes;
        loopback_send(fd, (struct str){bytes, piece});
        n -= piece;
    }
}

START_TEST(too_large_bodies_are_refused_and_the_client_sees_it)
{
    struct rig r;
    struct buf reply;
    rig_init(&r);
    r.limits.max_body_bytes = 1000;
    rig_start(&r);
    buf_init(&reply, 1 << 20);
    int fd = loopback_connect(r.port);
    send_much(fd, "POST /x HTTP/1.1\r\n" H "Content-Length: 20000000\r\n\r\n", 20000000);
    ck_assert(loopback_read_end(fd, &reply));
    ck_assert(str_starts(buf_str(&reply), STR("HTTP/1.1 413 ")));
    ck_assert(loopback_has(&reply, "connection: close\r\n"));
    close(fd);
    fd = loopback_connect(r.port);
    send_much(fd, "POST /x HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nf4240\r\n", 1000000);
    buf_clear(&reply);
    ck_assert(loopback_read_end(fd, &reply));
    ck_assert(str_starts(buf_str(&reply), STR("HTTP/1.1 413 ")));
    close(fd);
    fd = loopback_connect(r.port);
    send_much(fd, "POST /x HTTP/1.1\r\n" H "Content-Length: 1000\r\n\r\n", 1000);
    buf_clear(&reply);
    loopback_read_until(fd, &reply, "[POST /x 1000]");
    close(fd);
    buf_deinit(&reply);
    rig_stop(&r);
}
END_TEST

START_TEST(all_bodies_together_have_a_budget)
{
    struct rig r;
    struct buf reply;
    rig_init(&r);
    r.limits.max_bodies_bytes = 100000;
    rig_start(&r);
    buf_init(&reply, 1 << 20);
    int a = loopback_connect(r.port), b = loopback_connect(r.port);
    send_much(a, "POST /x HTTP/1.1\r\n" H "Content-Length: 80000\r\n\r\n", 60000);
    loopback_sleep(100);
    send_much(b, "POST /x HTTP/1.1\r\n" H "Content-Length: 80000\r\n\r\n", 80000);
    loopback_read_until(b, &reply, "HTTP/1.1 503 ");
    close(a);
    close(b);
    loopback_sleep(100);
    a = loopback_connect(r.port);
    buf_clear(&reply);
    send_much(a, "POST /x HTTP/1.1\r\n" H "Content-Length: 60000\r\n\r\n", 60000);
    loopback_read_until(a, &reply, "[POST /x 60000]");
    close(a);
    buf_deinit(&reply);
    rig_stop(&r);
}
END_TEST

START_TEST(header_floods_are_refused)
{
    struct rig r;
    struct buf reply, head;
    rig_init(&r);
    rig_start(&r);
    buf_init(&reply, 1 << 20);
    buf_init(&head, 1 << 20);
    buf_append(&head, STR("GET / HTTP/1.1\r\n" H));
    for (int i = 0; i < 200; i++) buf_printf(&head, "A%d: b\r\n", i);
    buf_append(&head, STR("\r\n"));
    int fd = loopback_connect(r.port);
    loopback_send(fd, buf_str(&head));
    ck_assert(loopback_read_end(fd, &reply));
    ck_assert(str_starts(buf_str(&reply), STR("HTTP/1.1 431 ")));
    close(fd);
    fd = loopback_connect(r.port);
    buf_clear(&reply);
    send_much(fd, "GET / HTTP/1.1\r\nA: ", 200000);
    ck_assert(loopback_read_end(fd, &reply));
    ck_assert(str_starts(buf_str(&reply), STR("HTTP/1.1 431 ")));
    close(fd);
    buf_deinit(&reply);
    buf_deinit(&head);
    rig_stop(&r);
}
END_TEST

START_TEST(slow_clients_meet_deadlines)
{
    struct rig r;
    struct buf reply;
    rig_init(&r);
    r.limits.head_ms = 100;
    r.limits.body_idle_ms = 100;
    r.limits.idle_ms = 300;
    rig_start(&r);
    buf_init(&reply, 1 << 20);
    int idle = loopback_connect(r.port);
    int fd = loopback_connect(r.port);
    loopback_send(fd, STR("GET / HT"));
    ck_assert(loopback_read_end(fd, &reply));
    ck_assert(str_starts(buf_str(&reply), STR("HTTP/1.1 408 ")));
    close(fd);
    fd = loopback_connect(r.port);
    buf_clear(&reply);
    loopback_send(fd, STR("POST / HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\na"));
    ck_assert(loopback_read_end(fd, &reply));
    ck_assert(str_starts(buf_str(&reply), STR("HTTP/1.1 408 ")));
    close(fd);
    buf_clear(&reply);
    ck_assert(loopback_read_end(idle, &reply));
    ck_assert_uint_eq(reply.len, 0);
    close(idle);
    buf_deinit(&reply);
    rig_stop(&r);
}
END_TEST

START_TEST(leaving_is_noticed_while_a_reply_is_open)
{
    struct rig r;
    rig_init(&r);
    rig_start(&r);
    int fd = loopback_connect(r.port);
    loopback_send(fd, STR("GET /never HTTP/1.1\r\n" H "\r\n"));
    wait_for(&r.n_requests, 1);
    close(fd);
    wait_for(&r.n_closed, 1);
    fd = loopback_connect(r.port);
    loopback_send(fd, STR("GET /never HTTP/1.1\r\n" H "\r\n"));
    wait_for(&r.n_requests, 2);
    shutdown(fd, SHUT_WR);
    wait_for(&r.n_closed, 2);
    close(fd);
    rig_stop(&r);
}
END_TEST

START_TEST(quick_answers_reach_a_half_closed_client)
{
    struct rig r;
    struct buf reply;
    rig_init(&r);
    rig_start(&r);
    buf_init(&reply, 1 << 20);
    int fd = loopback_connect(r.port);
    loopback_send(fd, STR("GET /a HTTP/1.1\r\n" H "\r\nGET /b HTTP/1.1\r\n" H "\r\n"));
    shutdown(fd, SHUT_WR);
    ck_assert(loopback_read_end(fd, &reply));
    ck_assert(loopback_has(&reply, "[GET /a 0]") && loopback_has(&reply, "[GET /b 0]"));
    close(fd);
    buf_deinit(&reply);
    rig_stop(&r);
}
END_TEST

START_TEST(connections_over_the_limit_are_told_so)
{
    struct rig r;
    struct buf reply;
    rig_init(&r);
    r.limits.max_connections = 2;
    rig_start(&r);
    buf_init(&reply, 1 << 20);
    int a = loopback_connect(r.port), b = loopback_connect(r.port);
    loopback_send(a, STR("GET /a HTTP/1.1\r\n" H "\r\n"));
    loopback_read_until(a, &reply, "[GET /a 0]");
    int c = loopback_connect(r.port);
    loopback_send(c, STR("GET /c HTTP/1.1\r\n" H "\r\n"));
    buf_clear(&reply);
    ck_assert(loopback_read_end(c, &reply));
    ck_assert(str_starts(buf_str(&reply), STR("HTTP/1.1 503 ")));
    close(b);
    close(c);
    loopback_sleep(100);
    b = loopback_connect(r.port);
    loopback_send(b, STR("GET /b HTTP/1.1\r\n" H "\r\n"));
    buf_clear(&reply);
    loopback_read_until(b, &reply, "[GET /b 0]");
    close(a);
    close(b);
    buf_deinit(&reply);
    rig_stop(&r);
}
END_TEST

START_TEST(hosts_are_found_or_named_in_the_error)
{
    struct rig r;
    struct err err;
    bool loopback;
    uint16_t port = 0;
    rig_init(&r);
    rig_start(&r);
    ck_assert(http_server_listen(r.server, &port, &loopback, "localhost", &err));
    ck_assert(loopback && port);
    port = r.port;
    ck_assert(!http_server_listen(r.server, &port, &loopback, "127.0.0.1", &err));
    ck_assert_ptr_nonnull(strstr(err.msg, "in use"));
    port = 0;
    ck_assert(!http_server_listen(r.server, &port, &loopback, "no-such-host.invalid", &err));
    ck_assert_ptr_nonnull(strstr(err.msg, "no-such-host.invalid"));
    ck_assert(http_server_listen(r.server, &port, &loopback, "0.0.0.0", &err));
    ck_assert(!loopback);
    rig_stop(&r);
}
END_TEST

void add_connections(TCase *tc);
void add_connections(TCase *tc)
{
    tcase_add_test(tc, pipelined_requests_are_answered_in_order);
    tcase_add_test(tc, a_request_in_single_bytes_is_understood);
    tcase_add_test(tc, pieces_are_chunked_or_end_with_the_connection);
    tcase_add_test(tc, expectation_is_met_before_the_body);
    tcase_add_test(tc, too_large_bodies_are_refused_and_the_client_sees_it);
    tcase_add_test(tc, all_bodies_together_have_a_budget);
    tcase_add_test(tc, header_floods_are_refused);
    tcase_add_test(tc, slow_clients_meet_deadlines);
    tcase_add_test(tc, leaving_is_noticed_while_a_reply_is_open);
    tcase_add_test(tc, quick_answers_reach_a_half_closed_client);
    tcase_add_test(tc, connections_over_the_limit_are_told_so);
    tcase_add_test(tc, hosts_are_found_or_named_in_the_error);
}
