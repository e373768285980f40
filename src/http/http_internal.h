/* The structs that listener, connection and reply share. One I/O thread. */
#ifndef HTTP_INTERNAL_H
#define HTTP_INTERNAL_H

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>

#include "http/parser_internal.h"

struct http_loop {
    struct event_base *base;
};

enum conn_state {
    CONN_HEAD,   /* collecting a request head, or idle */
    CONN_BODY,   /* collecting its body */
    CONN_REPLY,  /* the request is with the handler; further input waits */
    CONN_FLUSH,  /* the last reply is being written */
    CONN_LINGER, /* everything was written and the write side is shut; input is thrown away for a while */
};

struct http_exchange {
    struct http_conn *conn;
    struct http_head head;
    struct buf head_bytes; /* what the slices of head point into */
    struct buf body;
    void (*on_close)(void *ctx, const char *why);
    void (*on_drain)(void *ctx);
    void *ctx;
    bool is_open; /* with the handler: between head or request or fault, and the end of the reply */
    bool started; /* status line is written */
    bool chunked; /* the reply is */
    bool no_body; /* HEAD, 204, 304 */
    bool was_congested;
};

struct http_conn {
    struct http_server *server;
    struct http_conn *prev, *next;
    struct bufferevent *bev;
    struct event *closed; /* tells that the peer is gone even while nothing is read */
    struct event *timer;
    char peer[64];
    enum conn_state state;
    size_t scanned; /* of the head */
    uint64_t body_left, discarded;
    struct http_chunked chunked;
    uint64_t since_ns;    /* start of the state, for its deadline */
    uint64_t progress_ns; /* last byte of the body, or last byte written */
    bool keep_alive;      /* after this exchange */
    bool input_unread;    /* the refused request has a body that nobody wants */
    bool peer_closed, dead, advancing, refuse;
    struct http_exchange x;
};

struct http_listener {
    struct http_listener *next;
    struct evconnlistener *listener;
    int fd;
};

struct http_server {
    struct http_loop *loop;
    struct http_limits limits;
    struct http_handler handler;
    struct http_listener *listeners;
    struct event *retry; /* accepts again after the process ran out of descriptors */
    struct http_conn *conns;
    size_t n_conns;
    size_t bodies_bytes; /* held by all bodies */
    bool draining;
};

/* conn.c */
void http_conn_create(struct http_server *s, int fd, const char *peer);
void http_conn_advance(struct http_conn *c);              /* goes on after something changed; may free c */
void http_conn_cut(struct http_conn *c, const char *why); /* tells the handler, then frees c */
void http_conn_drop(struct http_conn *c);                 /* without telling the handler */
/* Whether the connection waits for a new request and has none of its bytes. */
bool http_conn_is_idle(const struct http_conn *c);
/* reply.c */
void http_exchange_reset(struct http_exchange *x);
void http_exchange_fault(struct http_exchange *x, enum http_fault fault, const char *why);

#endif
