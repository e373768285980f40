/* The parser: heads, chunks, paths and queries, as pure functions. */
#include <string.h>

#include "http/parser_internal.h"
#include "unit.h"

static enum http_fault parse(struct http_head *h, const char *text)
{
    struct http_limits limits;
    const char *why;
    size_t from = 0;
    http_limits_init(&limits);
    limits.max_headers = 5;
    limits.max_line_bytes = 100;
    ptrdiff_t n = http_head_scan(&from, str_from(text));
    if (n <= 0) return HTTP_MALFORMED;
    return http_head_parse(h, &why, (struct str){text, (size_t)n}, &limits);
}

#define H "Host: a\r\n"

START_TEST(head_is_taken_apart)
{
    struct http_head h;
    ck_assert_int_eq(parse(&h, "POST /v1/m%20x?a=b&c HTTP/1.1\r\nHost: x:1\r\nA:  b \r\nContent-Length: 12\r\n\r\n"),
                     0);
    ck_assert(str_eq(h.method, STR("POST")));
    ck_assert(str_eq(h.path, STR("/v1/m%20x")));
    ck_assert(str_eq(h.query, STR("a=b&c")));
    ck_assert(str_eq(h.fields[1].value, STR("b")));
    ck_assert(h.has_length && h.length == 12 && h.keep_alive && !h.chunked);
    ck_assert_int_eq(parse(&h, "GET http://host:1/p?q HTTP/1.1\r\n" H "\r\n"), 0);
    ck_assert(str_eq(h.path, STR("/p")) && str_eq(h.query, STR("q")));
    ck_assert_int_eq(parse(&h, "GET / HTTP/1.0\r\n\r\n"), 0);
    ck_assert(!h.keep_alive && h.minor == 0);
    ck_assert_int_eq(parse(&h, "GET / HTTP/1.1\r\n" H "Connection: x, Close\r\n\r\n"), 0);
    ck_assert(!h.keep_alive);
}
END_TEST

START_TEST(ambiguous_or_malformed_heads_are_refused)
{
    static const struct {
        const char *text;
        enum http_fault fault;
    } cases[] = {
        {"POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_MALFORMED},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", HTTP_MALFORMED},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 1, 1\r\n\r\n", HTTP_MALFORMED},
        {"POST / HTTP/1.1\r\n" H "Content-Length: +1\r\n\r\n", HTTP_MALFORMED},
        {"POST / HTTP/1.1\r\n" H "Content-Length: -1\r\n\r\n", HTTP_MALFORMED},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 0x1\r\n\r\n", HTTP_MALFORMED},
        {"POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n", HTTP_MALFORMED},
        {"POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n", HTTP_MALFORMED},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n", HTTP_MALFORMED},
        {"POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_MALFORMED},
        {"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_MALFORMED},
        {"GET / HTTP/1.1\r\n\r\n", HTTP_MALFORMED},
        {"GET / HTTP/1.1\r\n" H H "\r\n", HTTP_MALFORMED},
        {"GET / HTTP/1.1\r\nHost : a\r\n\r\n", HTTP_MALFORMED},
        {"GET / HTTP/1.1\r\n" H " folded\r\n\r\n", HTTP_MALFORMED},
        {"GET / HTTP/1.1\r\n" H "nocolon\r\n\r\n", HTTP_MALFORMED},
        {"GET / HTTP/1.1\r\n" H ": empty\r\n\r\n", HTTP_MALFORMED},
        {"GET / HTTP/1.1\n" H "\r\n", HTTP_MALFORMED},
        {"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", HTTP_MALFORMED},
        {"GET / HTTP/1.1\r\nA: b\x01\r\n\r\n", HTTP_MALFORMED},
        {"GET  / HTTP/1.1\r\n" H "\r\n", HTTP_MALFORMED},
        {"GET /a b HTTP/1.1\r\n" H "\r\n", HTTP_MALFORMED},
        {"GET a HTTP/1.1\r\n" H "\r\n", HTTP_MALFORMED},
        {"GET * HTTP/1.1\r\n" H "\r\n", HTTP_MALFORMED},
        {"GET /#x HTTP/1.1\r\n" H "\r\n", HTTP_MALFORMED},
        {"G@T / HTTP/1.1\r\n" H "\r\n", HTTP_MALFORMED},
        {"GET /\r\n\r\n", HTTP_MALFORMED},
        {"GET / HTTP/2.0\r\n" H "\r\n", HTTP_VERSION},
        {"GET / HTTP/1.2\r\n" H "\r\n", HTTP_VERSION},
        {"GET / HTTP/1.1\r\n" H "Expect: money\r\n\r\n", HTTP_EXPECTATION},
        {"GET / HTTP/1.1\r\n" H "A: 1\r\nB: 1\r\nC: 1\r\nD: 1\r\nE: 1\r\n\r\n", HTTP_HEAD_TOO_LARGE},
        {"GET /aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa "
         "HTTP/1.1\r\n" H "\r\n",
         HTTP_TARGET_TOO_LONG},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct http_head h;
        ck_assert_msg(parse(&h, cases[i].text) == cases[i].fault, "%s", cases[i].text);
    }
}
END_TEST

START_TEST(scan_finds_the_same_end_at_every_cut)
{
    const char *text = "GET / HTTP/1.1\r\nA: b\r\n\r\nrest";
    size_t len = strlen(text);
    for (size_t cut = 0; cut <= len; cut++) {
        size_t from = 0;
        ptrdiff_t n = http_head_scan(&from, (struct str){text, cut});
        if (n == 0) n = http_head_scan(&from, (struct str){text, len});
        ck_assert_int_eq(n, (ptrdiff_t)len - 4);
    }
}
END_TEST

/* Decodes with the input cut at one place; the length of the body, -1 when bad, -2 when unfinished. */
static ptrdiff_t dechunk(char *out, const char *text, size_t cut, size_t *end)
{
    struct http_chunked c = {0};
    size_t n = 0;
    size_t at = 0;
    size_t len = strlen(text);
    for (;;) {
        size_t used;
        struct str data;
        size_t to = at < cut ? cut : len;
        enum http_chunk got = http_chunked_next(&c, &used, &data, (struct str){text + at, to - at});
        at += used;
        if (got == HTTP_CHUNK_BAD) return -1;
        if (data.len) memcpy(out + n, data.ptr, data.len);
        n += data.len;
        *end = at;
        if (got == HTTP_CHUNK_END) return (ptrdiff_t)n;
        if (got == HTTP_CHUNK_MORE && at == len) return -2;
    }
}

START_TEST(chunks_decode_at_every_cut)
{
    const char *text = "5;a=b\r\nhello\r\n1 \r\n,\r\n00A\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\nnext";
    for (size_t cut = 0; cut < strlen(text); cut++) {
        char out[100];
        size_t end;
        ck_assert_int_eq(dechunk(out, text, cut, &end), 16);
        ck_assert(!memcmp(out, "hello,0123456789", 16));
        ck_assert_str_eq(text + end, "next");
    }
}
END_TEST

START_TEST(bad_chunks_are_refused)
{
    static const char *const cases[] = {
        "\r\n",    "x\r\n", "-1\r\n",        "+1\r\na\r\n0\r\n\r\n",   "0x1\r\n", " 1\r\n",  "1\na\r\n",
        "1\r\nab", ";\r\n", "1\r\na\n0\r\n", "ffffffffffffffffff\r\n", "0\n\n",   "0\r\n\n", "1;\x01\r\n",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[100];
        size_t end;
        ck_assert_msg(dechunk(out, cases[i], 0, &end) == -1, "%zu: %s", i, cases[i]);
    }
}
END_TEST

START_TEST(paths_are_split_before_they_are_decoded)
{
    struct str s[4];
    struct buf store;
    buf_init(&store, 1000);
    ck_assert_int_eq(http_path_split(s, &store, 4, STR("/v1/models/org%2Fname:Q4%20x/")), 3);
    ck_assert(str_eq(s[2], STR("org/name:Q4 x")));
    ck_assert_int_eq(http_path_split(s, &store, 4, STR("/")), 0);
    ck_assert_int_eq(http_path_split(s, &store, 4, STR("/a//b")), 3);
    ck_assert_uint_eq(s[1].len, 0);
    ck_assert_int_eq(http_path_split(s, &store, 4, STR("/a/b/c/d/e")), -1);
    ck_assert_int_eq(http_path_split(s, &store, 4, STR("/%")), -1);
    ck_assert_int_eq(http_path_split(s, &store, 4, STR("/%2")), -1);
    ck_assert_int_eq(http_path_split(s, &store, 4, STR("/%g0")), -1);
    ck_assert_int_eq(http_path_split(s, &store, 4, STR("/%00")), -1);
    buf_deinit(&store);
}
END_TEST

START_TEST(queries_are_searched_and_decoded)
{
    struct buf out;
    buf_init(&out, 100);
    ck_assert(http_query_find(&out, STR("beta=true&limit=10&id=a%2Fb+c"), STR("id")));
    ck_assert(str_eq(buf_str(&out), STR("a/b c")));
    buf_clear(&out);
    ck_assert(http_query_find(&out, STR("x&y"), STR("x")));
    ck_assert_uint_eq(out.len, 0);
    ck_assert(!http_query_find(&out, STR("limits=1"), STR("limit")));
    ck_assert(!http_query_find(&out, STR("a=%zz"), STR("a")));
    buf_deinit(&out);
}
END_TEST

static void add_parser(TCase *tc)
{
    tcase_add_test(tc, head_is_taken_apart);
    tcase_add_test(tc, ambiguous_or_malformed_heads_are_refused);
    tcase_add_test(tc, scan_finds_the_same_end_at_every_cut);
    tcase_add_test(tc, chunks_decode_at_every_cut);
    tcase_add_test(tc, bad_chunks_are_refused);
    tcase_add_test(tc, paths_are_split_before_they_are_decoded);
    tcase_add_test(tc, queries_are_searched_and_decoded);
}

void add_connections(TCase *tc);
UNIT_MAIN("http", add_parser, add_connections)
