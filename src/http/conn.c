/* conn: one connection, a state machine over its input buffer (see enum conn_state). Everything is driven by
 * http_conn_advance, which is never re-entered: a handler that replies at once only changes flags, and the outer call
 * goes on. A connection is freed only by advance, cut and drop. Runs on the I/O thread. */
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "http/http_internal.h"

#define INPUT_SLACK (64 << 10) /* input that may wait while a reply is open, beside one head */

static void conn_free(struct http_conn *c)
{
    struct http_server *s = c->server;
    http_exchange_reset(&c->x);
    if (c->prev) c->prev->next = c->next;
    else s->conns = c->next;
    if (c->next) c->next->prev = c->prev;
    s->n_conns--;
    if (c->closed) event_free(c->closed);
    if (c->timer) event_free(c->timer);
    bufferevent_free(c->bev);
    buf_deinit(&c->x.head_bytes);
    mem_free(c);
}

void http_conn_drop(struct http_conn *c)
{
    c->x.is_open = false;
    c->dead = true;
    if (!c->advancing) conn_free(c);
}

void http_conn_cut(struct http_conn *c, const char *why)
{
    if (c->dead) return;
    void (*on_close)(void *, const char *) = c->x.is_open ? c->x.on_close : NULL;
    void *ctx = c->x.ctx;
    c->x.is_open = false;
    c->dead = true;
    if (on_close) on_close(ctx, why);
    if (!c->advancing) conn_free(c);
}

bool http_conn_is_idle(const struct http_conn *c)
{
    return c->state == CONN_HEAD && !c->advancing && evbuffer_get_length(bufferevent_get_input(c->bev)) == 0 &&
           evbuffer_get_length(bufferevent_get_output(c->bev)) == 0;
}

/* ---- deadlines ---- */

static uint64_t ms_since(uint64_t t)
{
    return (clock_ns() - t) / 1000000;
}

/* The next moment at which the state's deadline has to be looked at. */
static void timer_arm(struct http_conn *c)
{
    const struct http_limits *l = &c->server->limits;
    uint32_t ms = l->write_ms / 4 + 1;
    if (c->state == CONN_HEAD) ms = evbuffer_get_length(bufferevent_get_input(c->bev)) ? l->head_ms : l->idle_ms;
    else if (c->state == CONN_BODY) ms = (l->body_idle_ms < l->body_ms ? l->body_idle_ms : l->body_ms) / 4 + 1;
    else if (c->state == CONN_LINGER) ms = l->linger_ms;
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
    evtimer_add(c->timer, &tv);
}

static void state_set(struct http_conn *c, enum conn_state state)
{
    c->state = state;
    c->since_ns = c->progress_ns = clock_ns();
    timer_arm(c);
}

static void fault(struct http_conn *c, enum http_fault fault, const char *why)
{
    c->keep_alive = false;
    c->input_unread = true;
    http_exchange_fault(&c->x, fault, why);
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct http_conn *c = arg;
    const struct http_limits *l = &c->server->limits;
    (void)fd;
    (void)what;
    switch (c->state) {
    case CONN_HEAD:
        if (evbuffer_get_length(bufferevent_get_input(c->bev)) == 0) {
            http_conn_drop(c);
            return;
        }
        fault(c, HTTP_HEAD_TIMEOUT, NULL);
        break;
    case CONN_BODY:
        if (ms_since(c->since_ns) >= l->body_ms || ms_since(c->progress_ns) >= l->body_idle_ms)
            fault(c, HTTP_BODY_TIMEOUT, NULL);
        break;
    case CONN_REPLY:
    case CONN_FLUSH:
        if (evbuffer_get_length(bufferevent_get_output(c->bev)) && ms_since(c->progress_ns) >= l->write_ms) {
            http_conn_cut(c, "the client stopped reading");
            return;
        }
        break;
    case CONN_LINGER: http_conn_drop(c); return;
    }
    timer_arm(c);
    http_conn_advance(c);
}

/* ---- reading ---- */

static bool wants_body(const struct http_head *h)
{
    return h->chunked || h->length > 0;
}

/* The head is complete: asks the handler, then waits for the body or hands the request over. */
static void head_done(struct http_conn *c)
{
    struct http_exchange *x = &c->x;
    struct http_server *s = c->server;
    c->keep_alive = x->head.keep_alive && !s->draining;
    c->input_unread = wants_body(&x->head);
    c->body_left = x->head.length;
    c->chunked = (struct http_chunked){0};
    x->body = (struct buf){0};
    buf_init(&x->body, s->limits.max_body_bytes);
    x->no_body = str_eq(x->head.method, STR("HEAD"));
    x->is_open = true;
    if (s->handler.head) s->handler.head(s->handler.ctx, x);
    if (c->dead || !x->is_open) return;
    if (x->head.length > s->limits.max_body_bytes) {
        fault(c, HTTP_BODY_TOO_LARGE, NULL);
        return;
    }
    if (x->head.expects_continue && wants_body(&x->head))
        evbuffer_add_printf(bufferevent_get_output(c->bev), "HTTP/1.1 100 Continue\r\n\r\n");
    state_set(c, CONN_BODY);
}

/* false: nothing more can be done with the bytes that are there. */
static bool step_head(struct http_conn *c)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);
    const struct http_limits *l = &c->server->limits;
    struct http_exchange *x = &c->x;
    size_t n = evbuffer_get_length(in);
    if (c->scanned == 0 && n) {
        /* Empty lines before a request are leniency that costs nothing (RFC 9112 section 2.2). */
        unsigned char *first = evbuffer_pullup(in, n >= 2 ? 2 : 1);
        if (first && n >= 2 && first[0] == '\r' && first[1] == '\n') {
            evbuffer_drain(in, 2);
            return true;
        }
        timer_arm(c);
    }
    if (!n) return false;
    size_t look = n < l->max_head_bytes + 1 ? n : l->max_head_bytes + 1;
    const char *bytes = (const char *)evbuffer_pullup(in, (ev_ssize_t)look);
    if (!bytes) {
        fault(c, HTTP_MEMORY, NULL);
        return true;
    }
    ptrdiff_t len = http_head_scan(&c->scanned, (struct str){bytes, look});
    if (len == 0 && n <= l->max_head_bytes) return false;
    enum http_fault found = len < 0 ? HTTP_MALFORMED : HTTP_HEAD_TOO_LARGE;
    const char *why = len < 0 ? "a control character, or a line end that is not CR LF" : NULL;
    if (len > 0 && (size_t)len <= l->max_head_bytes) {
        buf_clear(&x->head_bytes);
        buf_append(&x->head_bytes, (struct str){bytes, (size_t)len});
        evbuffer_drain(in, (size_t)len);
        c->scanned = 0;
        found = x->head_bytes.failed ? HTTP_MEMORY : http_head_parse(&x->head, &why, buf_str(&x->head_bytes), l);
    }
    if (found) fault(c, found, why);
    else head_done(c);
    return true;
}

static enum http_fault body_add(struct http_conn *c, struct str piece)
{
    struct http_server *s = c->server;
    struct buf *body = &c->x.body;
    if (piece.len > s->limits.max_body_bytes || body->len > s->limits.max_body_bytes - piece.len)
        return HTTP_BODY_TOO_LARGE;
    size_t before = body->cap;
    bool ok = buf_append(body, piece);
    s->bodies_bytes += body->cap - before;
    return ok && s->bodies_bytes <= s->limits.max_bodies_bytes ? HTTP_FAULT_NONE : HTTP_MEMORY;
}

/* Takes a contiguous run of input; *done when the body is complete. */
static enum http_fault body_take(struct http_conn *c, bool *done, struct str run, struct evbuffer *in)
{
    if (!c->x.head.chunked) {
        size_t n = run.len < c->body_left ? run.len : (size_t)c->body_left;
        enum http_fault found = body_add(c, str_slice(run, 0, n));
        c->body_left -= n;
        *done = c->body_left == 0;
        evbuffer_drain(in, n);
        return found;
    }
    enum http_fault found = HTTP_FAULT_NONE;
    size_t taken = 0;
    enum http_chunk got = HTTP_CHUNK_DATA;
    while (!found && got == HTTP_CHUNK_DATA) {
        size_t used;
        struct str data;
        got = http_chunked_next(&c->chunked, &used, &data, str_slice(run, taken, run.len));
        taken += used;
        if (got == HTTP_CHUNK_DATA) found = body_add(c, data);
    }
    *done = got == HTTP_CHUNK_END;
    evbuffer_drain(in, taken);
    return got == HTTP_CHUNK_BAD ? HTTP_MALFORMED : found;
}

static bool step_body(struct http_conn *c)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);
    struct http_server *s = c->server;
    bool done = !wants_body(&c->x.head);
    while (!done) {
        size_t n = evbuffer_get_contiguous_space(in);
        if (!n) return false;
        c->progress_ns = clock_ns();
        struct str run = {(const char *)evbuffer_pullup(in, (ev_ssize_t)n), n};
        enum http_fault found = body_take(c, &done, run, in);
        if (found) {
            fault(c, found, found == HTTP_MALFORMED ? "a chunk of the body is malformed" : NULL);
            return true;
        }
    }
    c->input_unread = false;
    state_set(c, CONN_REPLY);
    s->handler.request(s->handler.ctx, &c->x);
    return true;
}

/* The reply ended: the next request, or the end of the connection. */
static void reply_done(struct http_conn *c)
{
    http_exchange_reset(&c->x);
    state_set(c, c->keep_alive && !c->input_unread && !c->server->draining ? CONN_HEAD : CONN_FLUSH);
}

static bool step_flush(struct http_conn *c)
{
    if (evbuffer_get_length(bufferevent_get_output(c->bev))) return false;
    if (!c->input_unread) {
        c->dead = true;
        return false;
    }
    /* Closing now would reset the connection and the client might never see the reply. */
    shutdown(bufferevent_getfd(c->bev), SHUT_WR);
    state_set(c, CONN_LINGER);
    return true;
}

static bool step_linger(struct http_conn *c)
{
    struct evbuffer *in = bufferevent_get_input(c->bev);
    c->discarded += evbuffer_get_length(in);
    evbuffer_drain(in, evbuffer_get_length(in));
    if (c->discarded > c->server->limits.drain_bytes) c->dead = true;
    return false;
}

static bool step(struct http_conn *c)
{
    if (c->state <= CONN_REPLY && c->x.started && !c->x.is_open) {
        reply_done(c);
        return true;
    }
    switch (c->state) {
    case CONN_HEAD: return step_head(c);
    case CONN_BODY: return step_body(c);
    case CONN_REPLY: return false;
    case CONN_FLUSH: return step_flush(c);
    case CONN_LINGER: return step_linger(c);
    }
    return false;
}

void http_conn_advance(struct http_conn *c)
{
    if (c->advancing || c->dead) return;
    c->advancing = true;
    while (!c->dead && step(c)) {
    }
    c->advancing = false;
    /* A client that half-closed its side is treated as gone, as proxies do: nobody else can be told from it. */
    if (!c->dead && c->peer_closed && c->x.is_open && c->state == CONN_REPLY) {
        http_conn_cut(c, "the client left");
        return;
    }
    if (c->dead) conn_free(c);
}

/* ---- events ---- */

static void on_readable(struct bufferevent *bev, void *arg)
{
    (void)bev;
    http_conn_advance(arg);
}

static void on_written(struct bufferevent *bev, void *arg)
{
    struct http_conn *c = arg;
    size_t waiting = evbuffer_get_length(bufferevent_get_output(bev));
    if (c->x.is_open && c->x.was_congested && waiting <= c->server->limits.high_mark_bytes / 2) {
        c->x.was_congested = false;
        if (c->x.on_drain) {
            c->advancing = true;
            c->x.on_drain(c->x.ctx);
            c->advancing = false;
        }
    }
    if (c->dead) conn_free(c);
    else http_conn_advance(c);
}

static void on_output(struct evbuffer *out, const struct evbuffer_cb_info *info, void *arg)
{
    struct http_conn *c = arg;
    (void)out;
    if (info->n_deleted || info->orig_size == 0) c->progress_ns = clock_ns();
}

static void peer_left(struct http_conn *c, const char *why)
{
    c->peer_closed = true;
    bool reply_waits = c->state == CONN_HEAD && evbuffer_get_length(bufferevent_get_output(c->bev));
    if (reply_waits) state_set(c, CONN_FLUSH);
    else if (c->state == CONN_FLUSH) http_conn_advance(c);
    else http_conn_cut(c, why);
}

static void on_event(struct bufferevent *bev, short what, void *arg)
{
    struct http_conn *c = arg;
    (void)bev;
    if (what & BEV_EVENT_ERROR) {
        http_conn_cut(c, "the connection broke");
    } else if (what & BEV_EVENT_EOF) {
        /* What came before the end of input may hold whole requests. */
        c->peer_closed = true;
        if (c->state != CONN_REPLY) {
            c->advancing = true;
            while (!c->dead && step(c)) {
            }
            c->advancing = false;
        }
        if (c->dead) conn_free(c);
        else peer_left(c, "the client left");
    }
}

static void on_closed(evutil_socket_t fd, short what, void *arg)
{
    struct http_conn *c = arg;
    (void)fd;
    (void)what;
    event_del(c->closed);
    c->peer_closed = true;
    if (c->state == CONN_REPLY) http_conn_cut(c, "the client left");
}

static void refuse(struct http_conn *c)
{
    fault(c, HTTP_CONNECTIONS, NULL);
    http_conn_advance(c);
}

void http_conn_create(struct http_server *s, int fd, const char *peer)
{
    struct http_conn *c = mem_try_zalloc(sizeof *c);
    struct bufferevent *bev = c ? bufferevent_socket_new(s->loop->base, fd, BEV_OPT_CLOSE_ON_FREE) : NULL;
    if (!bev) {
        mem_free(c);
        evutil_closesocket(fd);
        return;
    }
    c->server = s;
    c->bev = bev;
    c->x.conn = c;
    http_exchange_reset(&c->x);
    buf_init(&c->x.head_bytes, s->limits.max_head_bytes);
    snprintf(c->peer, sizeof c->peer, "%s", peer);
    c->next = s->conns;
    if (s->conns) s->conns->prev = c;
    s->conns = c;
    s->n_conns++;
    c->timer = evtimer_new(s->loop->base, on_timer, c);
    c->closed = event_new(s->loop->base, fd, EV_CLOSED | EV_PERSIST, on_closed, c);
    if (!c->timer || !c->closed || event_add(c->closed, NULL)) {
        conn_free(c);
        return;
    }
    bufferevent_setcb(bev, on_readable, on_written, on_event, c);
    bufferevent_setwatermark(bev, EV_READ, 0, s->limits.max_head_bytes + INPUT_SLACK);
    bufferevent_setwatermark(bev, EV_WRITE, s->limits.high_mark_bytes / 2, 0);
    evbuffer_add_cb(bufferevent_get_output(bev), on_output, c);
    bufferevent_enable(bev, EV_READ | EV_WRITE);
    state_set(c, CONN_HEAD);
    if (s->n_conns > s->limits.max_connections) refuse(c);
}
