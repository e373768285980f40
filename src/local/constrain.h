/* constrain: what a request demands of its answer, as a grammar and a reasoning section for the engine. Compiled
 * grammars are lent from a cache that all requests share, by the bytes of what they were made of, and go back when the
 * answer has ended. Private to local/. */
#ifndef LOCAL_CONSTRAIN_H
#define LOCAL_CONSTRAIN_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "chat/chat.h"
#include "dialect/dialect.h"
#include "engine/engine.h"
#include "grammar/grammar.h"
#include "local/prompt.h"

struct constraints { /* one of a backend; any thread */
    struct grammar_cache *cache;
    const struct dialect *dialect;
    struct dialect_traits traits;
    struct buf think_close; /* what ends a reasoning that took too long */
};
void constraints_init(struct constraints *c, const struct dialect *d);
void constraints_deinit(struct constraints *c);

struct lent_grammar {
    struct grammar *grammar; /* NULL = the answer is free */
    struct buf key;
    bool is_help; /* nothing strict was asked for: the engine may give it up */
};
void lent_grammar_init(struct lent_grammar *l);
/* Compiles or borrows. ERR_INVALID names the place and keyword of what was asked to be strict and cannot be enforced
 * ("output_config.format.schema.properties.x.pattern: ..."); what is not strict becomes wider, which is noted in the
 * request. Takes as long as compiling takes: for a worker. */
bool constrain_take(struct lent_grammar *out, struct constraints *c, struct chat_request *req,
                    const struct prompt *prompt, struct err *e);
/* Gives it back, when nobody uses it any more. */
void lent_grammar_deinit(struct lent_grammar *l, struct constraints *c);

/* The reasoning that may come before the answer; texts are borrowed from the dialect. */
void constrain_reasoning(struct engine_reasoning *out, const struct constraints *c, const struct chat_request *req,
                         const struct prompt *prompt);

#endif
