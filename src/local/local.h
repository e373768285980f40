/* local: the backend over our own engine: chat_request -> template -> tokens -> engine -> chat events. The only folder
 * that knows both sides. A worker thread renders and tokenises, so that long prompts delay no stream; the engine's
 * thread reports into a queue; struct backend's functions and all sinks run on the I/O thread. */
#ifndef LOCAL_LOCAL_H
#define LOCAL_LOCAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "chat/chat.h"
#include "engine/engine.h"
#include "tokenizer/tokenizer.h"

struct local;

struct local_config {
    struct str model_id;       /* what /v1/models shows */
    const struct str *aliases; /* further names */
    size_t n_aliases;
    struct str chat_template; /* replaces the file's; empty = the file's, or ChatML with a warning */
    struct str dialect;       /* how calls are written; empty = as the template shows */
    int64_t model_created;    /* Unix time */
    uint64_t n_params, size_bytes;
    struct chat_sampling sampling; /* defaults where a request has none */
    uint32_t max_output;           /* 0 = the context */
    struct str key_path;           /* file of the key that signs thinking; made when it is not there; empty = none */
};

/* Everything passed in must outlive the backend; config's strings are copied. NULL on error (the template does not
 * compile: the message quotes the line). */
struct local *local_create(struct engine *g, const struct tokenizer *t, const struct local_config *config,
                           struct err *e);
/* Running requests end without further events. */
void local_destroy(struct local *l);
struct backend *local_backend(struct local *l);

/* What serving with this template (empty = the tokenizer's own) finds out about it, as one line, for `inspect`. */
bool local_describe(struct buf *out, const struct tokenizer *t, struct str chat_template, struct str dialect,
                    struct err *e);

/* The prompt as text, as the model will see it: for `inspect`, tests and debugging. The caller frees nothing: out is a
 * buf of the caller. */
bool local_render(const struct local *l, struct buf *out, const struct chat_request *req, struct err *e);

#endif
