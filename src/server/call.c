/* call: one request from its headers to its log line: common reply headers, errors, freeing. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/server_internal.h"

#define ERROR_MAX_BYTES 8192

static void on_close(void *ctx, const char *why)
{
    delivery_left(ctx, why);
}

static void on_drain(void *ctx)
{
    delivery_drained(ctx);
}

static void copy(char *out, size_t size, struct str s)
{
    snprintf(out, size, "%.*s", STR_ARG(s));
}

struct call *call_create(struct server *s, struct http_exchange *x)
{
    struct call *c = mem_zalloc(sizeof *c);
    c->server = s;
    c->x = x;
    c->start_ns = clock_ns();
    c->next = s->calls;
    if (s->calls) s->calls->prev = c;
    s->calls = c;
    anthropic_id_make(c->request_id, "req_");
    copy(c->method, sizeof c->method, http_method(x));
    copy(c->path, sizeof c->path, http_path(x));
    copy(c->peer, sizeof c->peer, http_peer(x));
    buf_init(&c->path_store, s->config->limits.max_line_bytes + 1);
    buf_init(&c->out, s->config->max_answer_bytes);
    buf_init(&c->model_name, 1024);
    buf_init(&c->diagnostics, 256);
    http_set_callbacks(x, on_close, on_drain, c);
    return c;
}

static double seconds(uint64_t from, uint64_t to)
{
    return to > from ? (double)(to - from) * 1e-9 : 0;
}

static void write_log(const struct call *c, const char *note)
{
    uint64_t now = clock_ns();
    char tokens[160] = "", retry[32] = "";
    if (c->model[0])
        snprintf(tokens, sizeof tokens, " model=%s in=%" PRIu32 " cached=%" PRIu32 " out=%" PRIu32 " first=%.3fs",
                 c->model, c->usage.input_tokens, c->usage.cached_tokens, c->usage.output_tokens,
                 seconds(c->start_ns, c->first_ns));
    if (c->retry_count) snprintf(retry, sizeof retry, " retry=%" PRIu32, c->retry_count);
    enum log_level level = c->status >= 500 ? LOG_WARN : LOG_INFO;
    log_write(level, "%s %s %d%s%s total=%.3fs %s %s%s%s", c->method[0] ? c->method : "-", c->path[0] ? c->path : "-",
              c->status, tokens, retry, seconds(c->start_ns, now), c->peer, c->request_id, note ? ": " : "",
              note ? note : "");
}

void call_close(struct call *c, const char *note)
{
    write_log(c, note);
    c->server->requests_bytes -= c->body_bytes;
    if (c->prev) c->prev->next = c->next;
    else c->server->calls = c->next;
    if (c->next) c->next->prev = c->prev;
    http_timer_destroy(c->timer);
    if (c->has_answer) anthropic_answer_deinit(&c->answer);
    buf_deinit(&c->out);
    buf_deinit(&c->model_name);
    buf_deinit(&c->diagnostics);
    buf_deinit(&c->tool_changes);
    buf_deinit(&c->path_store);
    mem_free(c);
}

/* ---- replies ---- */

struct fields {
    struct http_field items[16];
    size_t n;
};

static void add(struct fields *f, const char *name, struct str value)
{
    if (f->n < sizeof f->items / sizeof *f->items) f->items[f->n++] = (struct http_field){str_from(name), value};
}

static void add_common(struct call *c, struct fields *f, const char *content_type)
{
    add(f, "request-id", str_from(c->request_id));
    if (content_type) add(f, "content-type", str_from(content_type));
    if (c->notes[0]) add(f, "parley-notes", str_from(c->notes));
    struct str origin = http_header(c->x, "origin");
    if (!guard_cors(c->server, origin)) return;
    add(f, "access-control-allow-origin", origin);
    add(f, "vary", STR("origin"));
    add(f, "access-control-expose-headers", STR("request-id, retry-after, x-should-retry, parley-notes"));
    if (!str_eq(http_method(c->x), STR("OPTIONS"))) return;
    struct str wanted = http_header(c->x, "access-control-request-headers");
    add(f, "access-control-allow-methods", STR("GET, HEAD, POST, OPTIONS"));
    if (wanted.len) add(f, "access-control-allow-headers", wanted);
    if (http_header(c->x, "access-control-request-private-network").len)
        add(f, "access-control-allow-private-network", STR("true"));
    add(f, "access-control-max-age", STR("600"));
}

static void reply(struct call *c, int status, const struct fields *f, struct str body, const char *note)
{
    struct http_exchange *x = c->x;
    c->x = NULL;
    c->status = status;
    http_set_callbacks(x, NULL, NULL, NULL);
    /* The log line and the body's memory must outlast the reply: sending may begin the next request. */
    http_reply(x, status, f->items, f->n, body);
    call_close(c, note);
}

void call_reply(struct call *c, int status, const char *content_type, struct str body)
{
    struct fields f = {0};
    add_common(c, &f, content_type);
    reply(c, status, &f, body, NULL);
}

void call_error(struct call *c, const struct anthropic_error *e)
{
    if (c->is_started) {
        delivery_fail(c, e);
        return;
    }
    struct fields f = {0};
    struct buf body;
    char seconds_text[16];
    buf_init(&body, ERROR_MAX_BYTES);
    add_common(c, &f, "application/json");
    if (e->retry_after_s) {
        snprintf(seconds_text, sizeof seconds_text, "%d", e->retry_after_s);
        add(&f, "retry-after", str_from(seconds_text));
        add(&f, "x-should-retry", STR("true"));
    } else if (e->should_not_retry) {
        add(&f, "x-should-retry", STR("false"));
    }
    if (e->status == 401) add(&f, "www-authenticate", STR("Bearer"));
    anthropic_error_write(&body, e, str_from(c->request_id));
    reply(c, e->status, &f, buf_str(&body), e->message);
    buf_deinit(&body);
}

void call_refuse(struct call *c, int status, const char *code, const char *fmt, ...)
{
    struct anthropic_error e;
    char text[900];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    anthropic_error_set(&e, status, code, "%s", text);
    call_error(c, &e);
}

void call_reply_start(struct call *c, const char *content_type)
{
    struct fields f = {0};
    c->is_started = true;
    c->status = 200;
    add_common(c, &f, content_type);
    add(&f, "cache-control", STR("no-cache"));
    add(&f, "x-accel-buffering", STR("no"));
    http_reply_start(c->x, 200, f.items, f.n);
}
