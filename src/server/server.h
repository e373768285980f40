/* server: routes, keys, limits, life cycle; joins api/ and a backend over http/. One I/O thread, the caller's. */
#ifndef SERVER_SERVER_H
#define SERVER_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "chat/chat.h"
#include "http/http.h"
#include "media/media.h"

struct server_alias {
    struct str name, id; /* id: of one of the backend's models */
};

/* Strings are borrowed for the life of the server. */
struct server_config {
    struct str host; /* a name or an address */
    uint16_t port;   /* 0 = any free one */

    const struct str *keys; /* none here and in key_file: no key is asked for */
    size_t n_keys;
    struct str key_file;   /* one key a line, '#' begins a comment; empty = none */
    bool keys_share_cache; /* otherwise conversations under different keys share no cache pages */

    const struct str *cors_origins; /* web pages that may use the server; "*" = all */
    size_t n_cors_origins;
    const struct str *allowed_hosts; /* further Host names when only this machine can connect; "*" = all */
    size_t n_allowed_hosts;

    const struct server_alias *aliases;
    size_t n_aliases;
    struct str default_model; /* for names that nothing else fits; empty = the first */
    bool strict_models;       /* such names are a 404 instead */

    struct http_limits limits;
    uint32_t ping_ms;     /* a stream is never silent for longer */
    uint32_t patience_ms; /* an answer in one piece that takes longer gets white space to keep the client waiting */
    uint32_t drain_ms;    /* after SIGINT or SIGTERM, for answers that are running */
    uint32_t rejoin_ms;   /* how long an answer waits, without computing, for its client to ask again; 0 = not at all */
    struct pdf_config pdf;
    size_t max_answer_bytes;
    size_t max_requests_bytes; /* bodies of all requests that the backend works on; more is answered with "busy" */

    uint32_t max_per_key; /* messages of one key at one time; more get a 429; 0 = no limit */

    uint32_t thread_s; /* a message thread is held that long after its last use; 0 = threads are refused */
    size_t max_threads_bytes;

    bool strict; /* what would be answered without being honoured is refused */

    /* Called once when connections are accepted. url: "http://127.0.0.1:8080". */
    void (*ready)(void *ctx, const char *url, uint16_t port);
    void *ready_ctx;
};
void server_config_init(struct server_config *config); /* the defaults */

/* Serves until SIGINT or SIGTERM and returns true after draining (a second signal ends that at once); false: it could
 * not start. The log is its only output. */
bool server_run(const struct server_config *config, const struct backend *backend, struct err *e);

#endif
