/* The server's own structs: the server, its keys, and a call (one HTTP request with everything it needs until its log
 * line is written). I/O thread. */
#ifndef SERVER_INTERNAL_H
#define SERVER_INTERNAL_H

#include "api/anthropic_messages.h"
#include "base/queue.h"
#include "server/server.h"

#define KEY_HASH_SIZE 32

struct server_key {
    unsigned char hash[KEY_HASH_SIZE];
    uint64_t salt;
};

struct server {
    const struct server_config *config;
    const struct backend *backend;
    struct http_loop *loop;
    struct http_server *http;
    struct decoder *decoder;
    struct server_key *keys;
    size_t n_keys;
    bool loopback_only;
    struct call *calls;    /* all that are open */
    size_t requests_bytes; /* of the bodies of their requests */
    struct http_watch *events, *interrupt, *terminate;
    struct http_timer *drain_timer;
    char url[300];
    uint16_t port;
    uint64_t drain_since_ns; /* 0 = not draining */
    bool drain_failed_all;
};

/* A body on its way to a request. */
struct decode_job {
    struct queue_item item; /* first */
    struct call *call;      /* NULL once it ended; I/O thread only */
    struct buf body;
    enum anthropic_call kind;
    struct anthropic_support support;
    uint32_t lane;            /* the decoder's; I/O thread */
    atomic_bool is_cancelled; /* the client left */
    bool is_decoded;          /* r or error is set */
    struct chat_request *r;   /* NULL: error */
    struct anthropic_error error;
};

struct call {
    struct server *server;
    struct call *prev, *next;
    struct http_exchange *x; /* NULL once the client left */
    const struct route *route;
    char request_id[ANTHROPIC_ID_SIZE], message_id[ANTHROPIC_ID_SIZE];
    struct str path_id; /* the {id} of the path */
    struct buf path_store;
    uint64_t salt;

    /* For the log line. */
    char method[12], path[100], model[80], peer[64];
    int status;
    uint64_t start_ns, first_ns;
    struct chat_usage usage;

    /* A message or a count that the backend works on. */
    struct decode_job *job; /* NULL unless the body is with the decoder */
    uint64_t handle;        /* 0 = none */
    bool is_counting, is_paused, is_started, is_stream, has_answer;
    struct buf model_name; /* as the client wrote it */
    struct anthropic_answer answer;
    struct buf out;
    struct http_timer *timer;
    uint64_t written_ns; /* last time that something was sent */
    uint32_t n_events;
    size_t body_bytes; /* its part of requests_bytes */
};

enum route_auth { ROUTE_OPEN, ROUTE_KEY };
struct route {
    const char *method, *path; /* "{}" stands for one segment */
    enum route_auth auth;
    void (*run)(struct call *c);
};

/* keys.c */
bool keys_load(struct server *s, struct err *e);
bool keys_check(const struct server *s, uint64_t *salt, const struct http_exchange *x);
void keys_free(struct server *s);

/* guard.c: defence against web pages. */
bool guard_host(const struct server *s, struct str host);
/* An Origin header, if any, is one that may use this server. */
bool guard_origin(const struct server *s, struct str origin, struct str host);
/* Origins that get CORS headers. */
bool guard_cors(const struct server *s, struct str origin);
void guard_preflight(struct call *c);

/* routes.c */
void routes_head(void *ctx, struct http_exchange *x);
void routes_request(void *ctx, struct http_exchange *x);
void routes_fault(void *ctx, struct http_exchange *x, enum http_fault fault, const char *why);

/* call.c: each reply ends the call: c must not be used afterwards. */
struct call *call_create(struct server *s, struct http_exchange *x);
void call_reply(struct call *c, int status, const char *content_type, struct str body);
void call_error(struct call *c, const struct anthropic_error *e);
void call_refuse(struct call *c, int status, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
void call_reply_start(struct call *c, const char *content_type); /* 200; pieces follow */
/* Logs and frees, without a reply. note: NULL, or how it ended. */
void call_close(struct call *c, const char *note);

/* messages.c */
void messages_create(struct call *c);
void messages_count(struct call *c);
void messages_left(struct call *c, const char *why); /* the client is gone */
void messages_drained(struct call *c);               /* its socket takes more */
void messages_shutdown(struct call *c);              /* ends it legally now */

/* The body was decoded: r, or NULL and e. */
void messages_decoded(struct call *c, enum anthropic_call kind, struct chat_request *r,
                      const struct anthropic_error *e);

/* decoder.c */
struct decoder *decoder_create(struct http_loop *loop, const struct pdf_config *pdf, struct err *e);
void decoder_destroy(struct decoder *d);                        /* NULL is fine; jobs inside are dropped */
void decoder_submit(struct decoder *d, struct decode_job *job); /* ends in messages_decoded */
void decode_job_run(struct decode_job *job);                    /* body to request, on the calling thread */
bool decode_job_is_ready(const struct decode_job *job);         /* nothing is left to read */

/* documents.c: DOCUMENT blocks become text; or r becomes NULL and error is set. */
void documents_read(struct decode_job *job, struct pdf_reader *pdfs);

/* models.c */
const struct chat_model *models_resolve(const struct server *s, struct str name);
void models_list(struct call *c);
void models_retrieve(struct call *c);
/* The known names, for an error text. */
void models_names(const struct server *s, struct buf *out);

#endif
