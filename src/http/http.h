/* http: an HTTP/1.1 server and the event loop that it runs on. Knows bytes, headers and deadlines; no JSON, no models.
 * Everything here belongs to one I/O thread, except http_loop_stop. An exchange is one request with its reply; requests
 * of a connection are answered in order. RFC 9110, RFC 9112. */
#ifndef HTTP_HTTP_H
#define HTTP_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

/* ---- loop ---- */

struct http_loop;
struct http_watch;
struct http_timer;
typedef void http_loop_callback(void *ctx);
typedef void http_signal_callback(void *ctx, int signum);

/* Also makes the process ignore SIGPIPE: a client that left must not end the server. */
struct http_loop *http_loop_create(struct err *e);
void http_loop_destroy(struct http_loop *loop); /* after everything that was made on it */
void http_loop_run(struct http_loop *loop);     /* until http_loop_stop */
void http_loop_stop(struct http_loop *loop);    /* at once; from callbacks of the loop */
/* Calls cb whenever fd is readable (level-triggered). NULL on failure. */
struct http_watch *http_watch_create(struct http_loop *loop, int fd, http_loop_callback *cb, void *ctx);
struct http_watch *http_watch_create_signal(struct http_loop *loop, int signum, http_signal_callback *cb, void *ctx);
void http_watch_destroy(struct http_watch *w); /* NULL is fine */
struct http_timer *http_timer_create(struct http_loop *loop, http_loop_callback *cb, void *ctx);
void http_timer_destroy(struct http_timer *t);                /* NULL is fine */
void http_timer_set(struct http_timer *t, uint32_t delay_ms); /* fires once; replaces an earlier setting */
void http_timer_clear(struct http_timer *t);

/* ---- server ---- */

struct http_limits {
    size_t max_line_bytes;   /* request line */
    size_t max_head_bytes;   /* request line and all headers */
    size_t max_headers;      /* number of header fields */
    size_t max_body_bytes;   /* one request */
    size_t max_bodies_bytes; /* all bodies held at one time */
    size_t max_output_bytes; /* waiting for one client; a write beyond it fails */
    size_t high_mark_bytes;  /* waiting for one client: http_is_congested from here until below half of it */
    size_t drain_bytes;      /* read and thrown away after an early refusal, so that the client sees the reply */
    uint32_t max_connections;
    uint32_t head_ms;      /* first byte to end of headers */
    uint32_t body_ms;      /* whole body */
    uint32_t body_idle_ms; /* between two pieces of the body */
    uint32_t idle_ms;      /* between requests */
    uint32_t write_ms;     /* the client takes nothing although something waits */
    uint32_t linger_ms;    /* reading on after an early refusal */
};
void http_limits_init(struct http_limits *l); /* the defaults */

/* What the HTTP layer refuses by itself: name, status, text. */
#define HTTP_FAULTS(X)                                                 \
    X(MALFORMED, 400, "malformed HTTP request")                        \
    X(HEAD_TIMEOUT, 408, "the request headers did not arrive in time") \
    X(BODY_TIMEOUT, 408, "the request body did not arrive in time")    \
    X(BODY_TOO_LARGE, 413, "request body is too large")                \
    X(TARGET_TOO_LONG, 414, "request line is too long")                \
    X(EXPECTATION, 417, "unknown Expect header")                       \
    X(HEAD_TOO_LARGE, 431, "request headers are too large")            \
    X(CONNECTIONS, 503, "too many connections")                        \
    X(MEMORY, 503, "too many large requests at one time")              \
    X(VERSION, 505, "HTTP version is not supported")

enum http_fault {
    HTTP_FAULT_NONE,
#define HTTP_FAULT_ENUM(name, status, text) HTTP_##name,
    HTTP_FAULTS(HTTP_FAULT_ENUM)
#undef HTTP_FAULT_ENUM
};
int http_fault_status(enum http_fault fault);
const char *http_fault_text(enum http_fault fault);

struct http_server;
struct http_exchange;

struct http_field {
    struct str name, value;
};

struct http_handler {
    void *ctx;
    /* Headers are there, the body is not. May reply at once to refuse the request before its body is read. */
    void (*head)(void *ctx, struct http_exchange *x);
    /* The request is complete. Replies now or later. */
    void (*request)(void *ctx, struct http_exchange *x);
    /* The HTTP layer refuses the request; must http_reply at once. why: more detail, or NULL. The connection closes. */
    void (*fault)(void *ctx, struct http_exchange *x, enum http_fault fault, const char *why);
};

struct http_server *http_server_create(struct http_loop *loop, const struct http_limits *limits,
                                       const struct http_handler *handler);
void http_server_destroy(struct http_server *s); /* closes all connections; open exchanges get on_close */
/* Binds all addresses that host (a name or an address) stands for. *port 0 takes any free one and is set to it;
 * *loopback_only: whether no other machine can reach it. */
bool http_server_listen(struct http_server *s, uint16_t *port, bool *loopback_only, const char *host, struct err *e);
/* No new connections; idle ones close now, busy ones after their reply. */
void http_server_drain(struct http_server *s);
/* Since a client last took a byte of what is still waiting for it; UINT32_MAX when nothing waits. */
uint32_t http_server_sent_ms(const struct http_server *s);
size_t http_server_connections(const struct http_server *s);

/* ---- exchange ---- */

struct str http_method(const struct http_exchange *x);
struct str http_path(const struct http_exchange *x);                     /* as sent, without query */
struct str http_query(const struct http_exchange *x);                    /* as sent, without '?' */
struct str http_header(const struct http_exchange *x, const char *name); /* first value, or ptr NULL */
struct str http_peer(const struct http_exchange *x);                     /* address of the client */
struct buf *http_body(struct http_exchange *x);                          /* owned by the exchange until it ends */
void http_body_take(struct http_exchange *x, struct buf *out);           /* the body is the caller's then */
void *http_get_ctx(const struct http_exchange *x);                       /* the caller's own, NULL at first */

/* on_close: the client left (also: half-closed its side) or stopped reading; the exchange is gone when it returns.
 * on_drain: what waited fell below the mark again. Called at most once (on_close), never from inside http_ calls. */
void http_set_callbacks(struct http_exchange *x, void (*on_close)(void *ctx, const char *why),
                        void (*on_drain)(void *ctx), void *ctx);

/* A whole reply; ends the exchange: x must not be used afterwards. */
void http_reply(struct http_exchange *x, int status, const struct http_field *fields, size_t n_fields, struct str body);
/* A reply in pieces: chunked, or until close for HTTP/1.0. Each write is sent as soon as the loop runs again. */
void http_reply_start(struct http_exchange *x, int status, const struct http_field *fields, size_t n_fields);
bool http_reply_write(struct http_exchange *x, struct str bytes); /* false: over max_output_bytes, nothing was added */
void http_reply_end(struct http_exchange *x);                     /* x must not be used afterwards */
void http_reply_abort(struct http_exchange *x); /* cuts the connection, no on_close; x must not be used afterwards */
bool http_is_congested(const struct http_exchange *x);

/* ---- text of requests ---- */

/* Splits a path at '/' and percent-decodes each segment into out[n_max] (memory from *store); empty segments at the end
 * are dropped. Returns the number of segments, or -1: bad escape, NUL, or more than n_max. */
int http_path_split(struct str *out, struct buf *store, size_t n_max, struct str path);
/* Appends the decoded value of a query parameter; false when it is absent or badly encoded. */
bool http_query_find(struct buf *out, struct str query, struct str name);

#endif
