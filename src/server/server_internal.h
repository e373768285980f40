/* The server's own structs. A call is one HTTP request with everything it needs until its log line is written; a
 * generation is an answer that the backend computes for it, and may outlive it. I/O thread, but for decode_job_run. */
#ifndef SERVER_INTERNAL_H
#define SERVER_INTERNAL_H

#include <stdatomic.h>

#include "api/anthropic_body.h"
#include "base/queue.h"
#include "server/record.h"
#include "server/server.h"

#define KEY_HASH_SIZE 32
#define BODY_HASH_SIZE 32
#define NOTES_SIZE 1200

struct server_key {
    unsigned char hash[KEY_HASH_SIZE];
    uint64_t salt, id;
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
    struct call *calls;             /* all that are open */
    struct generation *generations; /* newest first */
    struct threads *threads;        /* NULL: none are held */
    struct diagnostics *diagnostics;
    struct unknown_fields *unknown;
    size_t requests_bytes; /* of the bodies of requests that are decoded or computed */
    struct http_watch *events, *interrupt, *terminate;
    struct http_timer *drain_timer;
    char url[300];
    uint16_t port;
    uint64_t drain_since_ns; /* 0 = not draining */
    bool drain_failed_all, is_closing;
};

/* A body on its way to a request. */
struct decode_job {
    struct queue_item item; /* first */
    struct server *server;
    struct call *call; /* NULL once it ended; I/O thread only */
    enum anthropic_call kind;
    struct anthropic_support support;
    struct buf text; /* the body, until it is parsed */
    unsigned char hash[BODY_HASH_SIZE];
    uint32_t lane;            /* the decoder's; I/O thread */
    atomic_bool is_cancelled; /* the client left */
    bool is_parsed;           /* body or error is set */
    bool is_decoded;          /* r or error is set */
    struct anthropic_body body;
    struct thread *thread;          /* what the body continues: claimed, so nobody else changes it */
    struct anthropic_history *held; /* for a count: a copy of what the thread holds; owned */
    struct anthropic_history added; /* what it adds to a thread */
    struct chat_request *r;         /* NULL: error */
    struct prompt_print *print;     /* NULL unless diagnostics are wanted */
    struct anthropic_error error;
};

/* Lives from submit until its answer was delivered, and longer for a client that may ask again: see generation.c. */
struct generation {
    struct server *server;
    struct generation *prev, *next;
    struct call *call; /* who gets the events; NULL: nobody */
    uint64_t handle;   /* of the backend; 0 = it has ended */
    char message_id[ANTHROPIC_ID_SIZE];
    struct buf model_name; /* as the client wrote it */
    struct str model_id;   /* of the backend's model */
    bool is_stream, is_compaction, omits_thinking;
    struct buf diagnostics, tool_changes;
    char notes[NOTES_SIZE];
    size_t body_bytes; /* its part of server.requests_bytes */
    /* Who may take it over. */
    unsigned char hash[BODY_HASH_SIZE];
    uint64_t key_id, session_hash;
    bool has_twin; /* the same body was asked for twice at the same time: none of them is a repetition */
    bool was_seen; /* a client got a part of the answer itself */
    bool is_congested, is_playing, is_doomed;
    struct http_timer *timer; /* ends its being held or kept */
    struct record record;
    bool is_recorded;
    /* The thread that the answer will belong to. */
    enum anthropic_thread thread_kind;
    struct thread *thread;
    struct anthropic_history added;
    struct prompt_print *print;
};

struct call {
    struct server *server;
    struct call *prev, *next;
    struct http_exchange *x; /* NULL once the client left */
    const struct route *route;
    char request_id[ANTHROPIC_ID_SIZE], message_id[ANTHROPIC_ID_SIZE];
    struct str path_id; /* the {id} of the path */
    struct buf path_store;
    uint64_t salt, key_id;

    /* For the log line. */
    char method[12], path[100], model[80], peer[64];
    int status;
    uint64_t start_ns, first_ns;
    struct chat_usage usage;
    uint32_t retry_count;

    /* A message or a count that the backend works on. */
    struct decode_job *job; /* NULL unless the body is with the decoder */
    struct generation *generation;
    bool is_counting, is_started, has_answer;
    struct buf model_name;                /* as the client wrote it */
    struct buf diagnostics, tool_changes; /* of the answer, which may outlive its generation */
    struct anthropic_answer answer;
    struct buf out;
    struct http_timer *timer;
    uint64_t written_ns; /* last time that something was sent */
    uint32_t n_events;
    size_t body_bytes; /* its part of requests_bytes, until a generation has it */
    char notes[NOTES_SIZE];
};

enum route_auth { ROUTE_OPEN, ROUTE_KEY };
struct route {
    const char *method, *path; /* "{}" stands for one segment */
    enum route_auth auth;
    void (*run)(struct call *c);
};

/* keys.c */
bool keys_load(struct server *s, struct err *e);
bool keys_check(const struct server *s, struct call *c, const struct http_exchange *x); /* sets salt and key_id */
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

/* messages.c: from the body to the backend. */
void messages_create(struct call *c);
void messages_count(struct call *c);
/* A step of decoding is over. false: job->thread was set, and decoding goes on with it. */
bool messages_decoded(struct decode_job *job);

/* delivery.c: from events to the client. */
void delivery_begin(struct call *c, struct generation *g); /* before any event */
void delivery_wait(struct call *c);                        /* a stream's files are being read: pings from now on */
void delivery_event(struct call *c, const struct chat_event *ev);
void delivery_fail(struct call *c, const struct anthropic_error *e);
void delivery_left(struct call *c, const char *why); /* the client is gone */
void delivery_drained(struct call *c);               /* its socket takes more */
void delivery_replaced(struct call *c);              /* its client asked again elsewhere: cuts the old connection */
void delivery_shutdown(struct call *c);              /* ends it legally now */

/* generation.c */
struct resend {
    const unsigned char *hash;
    uint64_t key_id, session_hash;
    bool is_retry; /* the client says so */
};
/* Takes r, job->thread, job->added and job->print; c gets events from now on. */
void generation_start(struct call *c, struct chat_request *r, struct decode_job *job, const struct chat_model *model);
/* The generation that a request for the same thing takes over, or NULL. */
struct generation *generation_find(struct server *s, const struct resend *again);
void generation_attach(struct generation *g, struct call *c); /* from the first event on */
void generation_leave(struct generation *g);                  /* its client is gone: held for a while, or ended */
void generation_drop(struct generation *g);                   /* ends it at once */
void generation_done(struct generation *g);                   /* its last event reached the client */
void generation_congested(struct generation *g, bool is_congested);
/* An encoder for its events, apart from the form and the request id. */
void generation_answer_init(const struct generation *g, struct anthropic_answer *a, bool is_stream,
                            struct str request_id);
void generation_drop_idle(struct server *s); /* all without a client */
uint32_t generation_count(const struct server *s, uint64_t key_id);

/* threads.c: what message threads hold. */
struct threads *threads_create(struct http_loop *loop, uint32_t ttl_s, size_t max_bytes, size_t max_thread_bytes);
void threads_destroy(struct threads *t); /* NULL is fine */
/* The thread whose last message has that id, for one request alone until it is committed or released. NULL: the error
 * is set. */
struct thread *threads_claim(struct threads *t, struct str id, uint64_t key_id, struct anthropic_error *e);
/* A copy of what the thread holds, for looking only; to be freed by threads_free_copy. NULL: the error is set. */
struct anthropic_history *threads_copy(struct threads *t, struct str id, uint64_t key_id, struct anthropic_error *e);
void threads_free_copy(struct anthropic_history *copy); /* NULL is fine */
const struct anthropic_history *thread_history(const struct thread *t);
size_t thread_bytes(const struct thread *t); /* of the history; NULL has none */
/* For a claimed thread: the generation that works on it, which may be pushed aside while nobody listens to it. */
void thread_set_generation(struct thread *t, struct generation *g);
struct str thread_model(const struct thread *t);
void threads_release(struct thread *t); /* as it was before; NULL is fine */
/* Keeps added and the answer behind what `from` held (NULL: a new thread) under the message's id; from ends. */
void threads_commit(struct threads *t, struct thread *from, struct str id, uint64_t key_id, struct str model,
                    struct anthropic_history *added, struct str answer);

/* diagnostics.c: why a prompt could not be taken from the cache. */
struct prompt_print *prompt_print_create(const struct chat_request *r); /* any thread; NULL without memory */
void prompt_print_set_model(struct prompt_print *p, struct str id);     /* the model that answers */
void prompt_print_destroy(struct prompt_print *p);                      /* NULL is fine */
struct diagnostics *diagnostics_create(void);
void diagnostics_destroy(struct diagnostics *d); /* NULL is fine */
/* Takes print; n_tokens: of the prompt. */
void diagnostics_keep(struct diagnostics *d, struct str id, uint64_t key_id, struct prompt_print *print,
                      uint32_t n_tokens);
/* Appends the value of `diagnostics`; nothing when the earlier prompt is a beginning of this one. */
void diagnostics_explain(const struct diagnostics *d, struct buf *out, struct str id, uint64_t key_id,
                         const struct prompt_print *print);

/* notes.c */
/* The notes as one header value: printable ASCII, shortened to fit. */
void notes_format(char out[NOTES_SIZE], const struct chat_note *notes);
void notes_unknown_fields(struct server *s, const json_t *body); /* logs each name once */
void notes_free(struct server *s);

/* decoder.c */
struct decoder *decoder_create(struct http_loop *loop, const struct pdf_config *pdf, struct err *e);
void decoder_destroy(struct decoder *d);                        /* NULL is fine; jobs inside are dropped */
void decoder_submit(struct decoder *d, struct decode_job *job); /* ends in messages_decoded */
/* Body to request, on the calling thread; stops after parsing when there is a thread that the server has to look at. */
void decode_job_run(struct decode_job *job);
bool decode_job_has_files(const struct decode_job *job); /* that a lane must read first */
void decode_job_free(struct decode_job *job);

/* documents.c: DOCUMENT blocks become text; or r becomes NULL and error is set. */
void documents_read(struct decode_job *job, struct pdf_reader *pdfs);

/* models.c */
const struct chat_model *models_resolve(const struct server *s, struct str name);
void models_list(struct call *c);
void models_retrieve(struct call *c);
/* The known names, for an error text. */
void models_names(const struct server *s, struct buf *out);

#endif
