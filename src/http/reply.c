/* reply: writing status lines, headers, bodies and chunks; and what an exchange tells about its request. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "http/http_internal.h"

static const char *reason(int status)
{
    static const struct {
        int status;
        const char *text;
    } reasons[] = {
        {200, "OK"},
        {204, "No Content"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {413, "Content Too Large"},
        {414, "URI Too Long"},
        {417, "Expectation Failed"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {502, "Bad Gateway"},
        {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
        {505, "HTTP Version Not Supported"},
        {529, "Overloaded"},
    };
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].status == status) return reasons[i].text;
    return "Status";
}

static struct evbuffer *output(struct http_exchange *x)
{
    return bufferevent_get_output(x->conn->bev);
}

static void write_date(struct evbuffer *out)
{
    static const char days[] = "SunMonTueWedThuFriSat", months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    time_t now = time(NULL);
    struct tm tm;
    if (!gmtime_r(&now, &tm)) return;
    evbuffer_add_printf(out, "date: %.3s, %02d %.3s %d %02d:%02d:%02d GMT\r\n", days + 3 * tm.tm_wday, tm.tm_mday,
                        months + 3 * tm.tm_mon, tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

static void write_head(struct http_exchange *x, int status, const struct http_field *fields, size_t n_fields)
{
    struct evbuffer *out = output(x);
    x->started = true;
    if (status == 204 || status == 304) x->no_body = true;
    evbuffer_add_printf(out, "HTTP/1.1 %d %s\r\n", status, reason(status));
    write_date(out);
    for (size_t i = 0; i < n_fields; i++)
        evbuffer_add_printf(out, "%.*s: %.*s\r\n", STR_ARG(fields[i].name), STR_ARG(fields[i].value));
    /* A refused body is never read: the connection cannot go on. */
    struct http_conn *c = x->conn;
    if (c->input_unread || c->server->draining) c->keep_alive = false;
    if (!c->keep_alive) evbuffer_add_printf(out, "connection: close\r\n");
    else if (x->head.minor == 0) evbuffer_add_printf(out, "connection: keep-alive\r\n");
}

void http_reply(struct http_exchange *x, int status, const struct http_field *fields, size_t n_fields, struct str body)
{
    write_head(x, status, fields, n_fields);
    struct evbuffer *out = output(x);
    if (status != 204 && status != 304) evbuffer_add_printf(out, "content-length: %zu\r\n", body.len);
    evbuffer_add(out, "\r\n", 2);
    if (!x->no_body && body.len) evbuffer_add(out, body.ptr, body.len);
    x->is_open = false;
    http_conn_advance(x->conn);
}

void http_reply_start(struct http_exchange *x, int status, const struct http_field *fields, size_t n_fields)
{
    x->chunked = x->head.minor == 1;
    if (!x->chunked) x->conn->keep_alive = false;
    write_head(x, status, fields, n_fields);
    if (x->chunked) evbuffer_add_printf(output(x), "transfer-encoding: chunked\r\n");
    evbuffer_add(output(x), "\r\n", 2);
}

bool http_reply_write(struct http_exchange *x, struct str bytes)
{
    struct evbuffer *out = output(x);
    if (x->no_body || !bytes.len) return true;
    const struct http_limits *l = &x->conn->server->limits;
    if (bytes.len > l->max_output_bytes || evbuffer_get_length(out) > l->max_output_bytes - bytes.len) return false;
    if (x->chunked) evbuffer_add_printf(out, "%zx\r\n", bytes.len);
    evbuffer_add(out, bytes.ptr, bytes.len);
    if (x->chunked) evbuffer_add(out, "\r\n", 2);
    if (http_is_congested(x)) x->was_congested = true;
    return true;
}

void http_reply_end(struct http_exchange *x)
{
    if (x->chunked && !x->no_body) evbuffer_add(output(x), "0\r\n\r\n", 5);
    x->is_open = false;
    http_conn_advance(x->conn);
}

void http_reply_abort(struct http_exchange *x)
{
    http_conn_drop(x->conn);
}

bool http_is_congested(const struct http_exchange *x)
{
    return evbuffer_get_length(bufferevent_get_output(x->conn->bev)) > x->conn->server->limits.high_mark_bytes;
}

/* ---- exchange ---- */

void http_exchange_reset(struct http_exchange *x)
{
    x->conn->server->bodies_bytes -= x->body.cap;
    buf_deinit(&x->body);
    x->head.method = x->head.path = x->head.query = STR("");
    x->head.n_fields = 0;
    x->head.minor = 1;
    x->on_close = NULL;
    x->on_drain = NULL;
    x->ctx = NULL;
    x->is_open = x->started = x->chunked = x->no_body = x->was_congested = false;
}

void http_exchange_fault(struct http_exchange *x, enum http_fault fault, const char *why)
{
    struct http_handler *h = &x->conn->server->handler;
    x->is_open = true;
    h->fault(h->ctx, x, fault, why);
}

struct str http_method(const struct http_exchange *x)
{
    return x->head.method;
}

struct str http_path(const struct http_exchange *x)
{
    return x->head.path;
}

struct str http_query(const struct http_exchange *x)
{
    return x->head.query;
}

struct str http_header(const struct http_exchange *x, const char *name)
{
    for (size_t i = 0; i < x->head.n_fields; i++)
        if (str_eq_nocase(x->head.fields[i].name, str_from(name))) return x->head.fields[i].value;
    return STR_NONE;
}

struct str http_peer(const struct http_exchange *x)
{
    return str_from(x->conn->peer);
}

struct buf *http_body(struct http_exchange *x)
{
    return &x->body;
}

void http_body_take(struct http_exchange *x, struct buf *out)
{
    x->conn->server->bodies_bytes -= x->body.cap;
    *out = x->body;
    buf_init(&x->body, 0);
}

void *http_get_ctx(const struct http_exchange *x)
{
    return x->ctx;
}

void http_set_callbacks(struct http_exchange *x, void (*on_close)(void *ctx, const char *why),
                        void (*on_drain)(void *ctx), void *ctx)
{
    x->on_close = on_close;
    x->on_drain = on_drain;
    x->ctx = ctx;
}
