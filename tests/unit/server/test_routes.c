/* Routes, keys, guards and models over real sockets. */
#include "fixture.h"

static void get(struct fixture *f, struct buf *reply, const char *line, const char *headers)
{
    struct buf request;
    buf_init(&request, 1 << 16);
    buf_printf(&request, "%s HTTP/1.1\r\n%s\r\n", line, headers);
    fixture_roundtrip(f, reply, buf_str(&request));
    buf_deinit(&request);
}

#define HOST "Host: localhost:1\r\n"

START_TEST(known_paths_answer)
{
    static const struct {
        const char *line;
        int status;
    } cases[] = {
        {"GET /", 200},
        {"HEAD /", 200},
        {"HEAD /api/hello", 200},
        {"GET /health", 200},
        {"GET /v1/models", 200},
        {"GET /v1/v1/models/", 200},
        {"GET /v1/models/org%2Ffake:Q4%20x", 200},
        {"GET /v1/models/whatever", 200},
        {"GET /v1/nothing", 404},
        {"GET /v1/models/a/b", 404},
        {"GET /v1/models/%zz", 404},
        {"DELETE /v1/models", 405},
        {"GET /v1/messages", 405},
        {"POST /api/event_logging/batch", 200},
    };
    struct fixture f;
    struct buf reply;
    fixture_init(&f);
    buf_init(&reply, 1 << 20);
    fixture_start(&f);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        get(&f, &reply, cases[i].line, HOST);
        ck_assert_msg(fixture_status(&reply) == cases[i].status, "%s: %s", cases[i].line, reply.ptr);
        ck_assert(loopback_has(&reply, "request-id: req_"));
        bool is_error = cases[i].status >= 400;
        ck_assert_int_eq(loopback_has(&reply, "{\"type\":\"error\",\"error\":{\"type\":"), is_error);
    }
    fixture_stop(&f);
    buf_deinit(&reply);
}
END_TEST

START_TEST(loading_server_says_so)
{
    struct fixture f;
    struct buf reply, request;
    fixture_init(&f);
    f.fake.is_loading = true;
    buf_init(&reply, 1 << 20);
    buf_init(&request, 1 << 20);
    fixture_start(&f);
    get(&f, &reply, "GET /health", HOST);
    ck_assert_int_eq(fixture_status(&reply), 503);
    fixture_roundtrip(&f, &reply, fixture_message(&request, true, "x"));
    ck_assert_int_eq(fixture_status(&reply), 529);
    fixture_stop(&f);
    buf_deinit(&reply);
    buf_deinit(&request);
}
END_TEST

START_TEST(keys_are_taken_from_either_header)
{
    static const struct {
        const char *headers;
        int status;
    } cases[] = {
        {"", 401},
        {"x-api-key: one\r\n", 200},
        {"Authorization: Bearer two\r\n", 200},
        {"authorization: bearer  two\r\n", 200},
        {"Authorization: Bearer wrong\r\nx-api-key: one\r\n", 200},
        {"Authorization: Bearer wrong\r\n", 401},
        {"Authorization: Basic two\r\n", 401},
        {"x-api-key: on\r\n", 401},
        {"x-api-key:\r\n", 401},
    };
    struct fixture f;
    struct buf reply;
    const struct str keys[] = {STR("one"), STR("two")};
    fixture_init(&f);
    f.config.keys = keys;
    f.config.n_keys = 2;
    buf_init(&reply, 1 << 20);
    fixture_start(&f);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char headers[300];
        snprintf(headers, sizeof headers, HOST "%s", cases[i].headers);
        get(&f, &reply, "GET /v1/models", headers);
        ck_assert_msg(fixture_status(&reply) == cases[i].status, "%s: %s", cases[i].headers, reply.ptr);
    }
    get(&f, &reply, "GET /nowhere", HOST);
    ck_assert_int_eq(fixture_status(&reply), 401);
    get(&f, &reply, "GET /health", HOST);
    ck_assert_int_eq(fixture_status(&reply), 200);
    get(&f, &reply, "HEAD /", HOST);
    ck_assert_int_eq(fixture_status(&reply), 200);
    fixture_stop(&f);
    buf_deinit(&reply);
}
END_TEST

static void post_with_key(struct fixture *f, struct buf *reply, const char *key)
{
    struct buf request;
    char header[100];
    buf_init(&request, 1 << 16);
    snprintf(header, sizeof header, "x-api-key: %s\r\n", key);
    fixture_roundtrip(f, reply,
                      fixture_post(&request, "/v1/messages", header,
                                   "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]}"));
    ck_assert_int_eq(fixture_status(reply), 200);
    buf_deinit(&request);
}

START_TEST(keys_have_their_own_salts_unless_shared)
{
    for (int shared = 0; shared < 2; shared++) {
        struct fixture f;
        struct buf reply;
        const struct str keys[] = {STR("one"), STR("two")};
        fixture_init(&f);
        f.config.keys = keys;
        f.config.n_keys = 2;
        f.config.keys_share_cache = shared;
        buf_init(&reply, 1 << 20);
        fixture_start(&f);
        post_with_key(&f, &reply, "one");
        post_with_key(&f, &reply, "two");
        post_with_key(&f, &reply, "one");
        uint64_t a = atomic_load(&f.fake.salts[0]), b = atomic_load(&f.fake.salts[1]),
                 c = atomic_load(&f.fake.salts[2]);
        ck_assert(a == c);
        ck_assert_int_eq(a == b, shared);
        fixture_stop(&f);
        buf_deinit(&reply);
    }
}
END_TEST

START_TEST(key_file_is_read_and_an_empty_one_refused)
{
    char path[] = "/tmp/parley-keys-XXXXXX";
    int fd = mkstemp(path);
    struct fixture f;
    struct buf reply;
    fixture_init(&f);
    f.config.key_file = str_from(path);
    ck_assert_int_eq(write(fd, "# no key\n\n", 10), 10);
    struct err err;
    ck_assert(!server_run(&f.config, &f.fake.backend, &err));
    ck_assert_int_eq(write(fd, " secret \n", 9), 9);
    buf_init(&reply, 1 << 20);
    fixture_start(&f);
    get(&f, &reply, "GET /v1/models", HOST "x-api-key: secret\r\n");
    ck_assert_int_eq(fixture_status(&reply), 200);
    get(&f, &reply, "GET /v1/models", HOST);
    ck_assert_int_eq(fixture_status(&reply), 401);
    fixture_stop(&f);
    buf_deinit(&reply);
    close(fd);
    unlink(path);
}
END_TEST

START_TEST(web_pages_are_kept_out)
{
    static const struct {
        const char *headers;
        int status;
    } cases[] = {
        {"Host: localhost\r\n", 200},
        {"Host: 127.0.0.1:8080\r\n", 200},
        {"Host: [::1]:8080\r\n", 200},
        {"Host: a.localhost\r\n", 200},
        {"Host: friend.example\r\n", 200},
        {"Host: evil.example\r\n", 403},
        {"Host: 127.0.0.1.evil.example\r\n", 403},
        {"Host: localhost.evil.example\r\n", 403},
        {HOST "Origin: http://localhost:1\r\n", 200},
        {HOST "Origin: https://evil.example\r\n", 403},
        {HOST "Origin: null\r\n", 403},
        {HOST "Origin: vscode-webview://abc\r\n", 200},
        {HOST "Origin: https://app.example\r\n", 200},
    };
    struct fixture f;
    struct buf reply;
    const struct str origins[] = {STR("https://app.example")};
    const struct str hosts[] = {STR("friend.example")};
    fixture_init(&f);
    f.config.cors_origins = origins;
    f.config.n_cors_origins = 1;
    f.config.allowed_hosts = hosts;
    f.config.n_allowed_hosts = 1;
    buf_init(&reply, 1 << 20);
    fixture_start(&f);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        get(&f, &reply, "GET /v1/models", cases[i].headers);
        ck_assert_msg(fixture_status(&reply) == cases[i].status, "%s: %s", cases[i].headers, reply.ptr);
    }
    ck_assert(loopback_has(&reply, "access-control-allow-origin: https://app.example\r\n"));
    fixture_stop(&f);
    buf_deinit(&reply);
}
END_TEST

START_TEST(preflight_is_answered_for_configured_origins_only)
{
    struct fixture f;
    struct buf reply;
    const struct str origins[] = {STR("https://app.example")};
    fixture_init(&f);
    f.config.cors_origins = origins;
    f.config.n_cors_origins = 1;
    buf_init(&reply, 1 << 20);
    fixture_start(&f);
    get(&f, &reply, "OPTIONS /v1/messages",
        HOST "Origin: https://app.example\r\nAccess-Control-Request-Method: POST\r\n"
             "Access-Control-Request-Headers: authorization,content-type\r\n");
    ck_assert_int_eq(fixture_status(&reply), 204);
    ck_assert(loopback_has(&reply, "access-control-allow-headers: authorization,content-type\r\n"));
    get(&f, &reply, "OPTIONS /v1/messages", HOST "Origin: https://evil.example\r\n");
    ck_assert_int_eq(fixture_status(&reply), 403);
    fixture_stop(&f);
    buf_deinit(&reply);
}
END_TEST

START_TEST(unknown_model_is_404_when_strict)
{
    struct fixture f;
    struct buf reply, request;
    fixture_init(&f);
    f.config.strict_models = true;
    buf_init(&reply, 1 << 20);
    buf_init(&request, 1 << 20);
    fixture_start(&f);
    fixture_roundtrip(&f, &reply, fixture_message(&request, true, "x"));
    ck_assert_int_eq(fixture_status(&reply), 404);
    ck_assert(loopback_has(&reply, "\"type\":\"not_found_error\",\"message\":\"model: claude-x (known: org/fake:Q4 x"));
    fixture_stop(&f);
    buf_deinit(&reply);
    buf_deinit(&request);
}
END_TEST

START_TEST(model_list_pages)
{
    struct fixture f;
    struct buf reply;
    fixture_init(&f);
    buf_init(&reply, 1 << 20);
    fixture_start(&f);
    get(&f, &reply, "GET /v1/models?limit=1", HOST);
    ck_assert(loopback_has(&reply, "\"has_more\":true,\"first_id\":\"org/fake:Q4 x\",\"last_id\":\"org/fake:Q4 x\""));
    get(&f, &reply, "GET /v1/models?limit=9&after_id=org%2Ffake:Q4+x", HOST);
    ck_assert(loopback_has(&reply, "\"has_more\":false,\"first_id\":\"claude-local-fake\",\"last_id\":\"second\""));
    get(&f, &reply, "GET /v1/models?limit=1&before_id=second", HOST);
    ck_assert(loopback_has(&reply, "\"has_more\":true,\"first_id\":\"claude-local-fake\""));
    get(&f, &reply, "GET /v1/models?limit=1000&after_id=unknown", HOST);
    ck_assert(loopback_has(&reply, "\"has_more\":false,\"first_id\":\"org/fake:Q4 x\",\"last_id\":\"second\""));
    fixture_stop(&f);
    buf_deinit(&reply);
}
END_TEST

START_TEST(every_failure_of_http_comes_in_the_envelope)
{
    static const struct {
        const char *request;
        int status;
        const char *text;
    } cases[] = {
        {"nonsense\r\n\r\n", 400, "malformed HTTP request"},
        {"GET / HTTP/2.0\r\n\r\n", 505, "version"},
        {"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n", 413, "too large"},
        {"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400, "chunk"},
        {"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab", 400, "request_body_timeout"},
        {"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\n", 400,
         "request_body_encoding_unsupported"},
        {"GET / HTTP/1.1\r\nHos", 408, "headers did not arrive"},
    };
    struct fixture f;
    struct buf reply;
    fixture_init(&f);
    f.config.limits.head_ms = 150;
    f.config.limits.body_idle_ms = 150;
    buf_init(&reply, 1 << 20);
    fixture_start(&f);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int fd = loopback_connect(f.port);
        loopback_send(fd, str_from(cases[i].request));
        buf_clear(&reply);
        ck_assert(loopback_read_end(fd, &reply));
        ck_assert_msg(fixture_status(&reply) == cases[i].status, "%s: %s", cases[i].request, reply.ptr);
        ck_assert(loopback_has(&reply, "{\"type\":\"error\",\"error\":{\"type\":"));
        ck_assert(loopback_has(&reply, "request-id: req_"));
        ck_assert_msg(loopback_has(&reply, cases[i].text), "%s: %s", cases[i].text, reply.ptr);
        close(fd);
    }
    fixture_stop(&f);
    buf_deinit(&reply);
}
END_TEST

START_TEST(port_in_use_is_one_clear_line)
{
    struct fixture f, g;
    fixture_init(&f);
    fixture_start(&f);
    fake_backend_init(&g.fake);
    g.config = f.config;
    g.config.port = f.port;
    g.config.ready = NULL;
    ck_assert(!server_run(&g.config, &g.fake.backend, &g.err));
    ck_assert_ptr_nonnull(strstr(g.err.msg, "is in use by another program"));
    fake_backend_deinit(&g.fake);
    fixture_stop(&f);
}
END_TEST

void add_routes(TCase *tc);
void add_routes(TCase *tc)
{
    tcase_add_test(tc, known_paths_answer);
    tcase_add_test(tc, loading_server_says_so);
    tcase_add_test(tc, keys_are_taken_from_either_header);
    tcase_add_test(tc, keys_have_their_own_salts_unless_shared);
    tcase_add_test(tc, key_file_is_read_and_an_empty_one_refused);
    tcase_add_test(tc, web_pages_are_kept_out);
    tcase_add_test(tc, preflight_is_answered_for_configured_origins_only);
    tcase_add_test(tc, unknown_model_is_404_when_strict);
    tcase_add_test(tc, model_list_pages);
    tcase_add_test(tc, every_failure_of_http_comes_in_the_envelope);
    tcase_add_test(tc, port_in_use_is_one_clear_line);
}
