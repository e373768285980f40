/* replay: remembered answers in a rendered conversation. The turns hold keys in their places; what was generated is put
 * there, together with the end of the prompt that it answered, where the template now writes something else between a
 * question and its answer (no opened reasoning, another line end). Private to local/. */
#ifndef LOCAL_REPLAY_H
#define LOCAL_REPLAY_H

#include <stdbool.h>

#include "base/buf.h"
#include "dialect/dialect.h"
#include "jinja/jinja.h"
#include "local/turns.h"

#define REPLAY_AHEAD 512 /* bytes of a prompt's end that are remembered */

/* tainted: the client's bytes of text; both are replaced. runs: empty; gets the tokens of what was put in. Generated
 * text counts as a client's, so that nothing in it becomes a control token, except where calls are made of these, and
 * the marks around reasoning. */
enum replay {
    REPLAY_DONE,
    REPLAY_FAILED, /* a stand-in's end was not found: nothing changed, the conversation must be shown as it was sent */
    REPLAY_FULL    /* text's budget is used up */
};
enum replay replay_put(struct buf *text, struct jinja_spans *tainted, struct token_runs *runs,
                       const struct turns *turns, const struct dialect_traits *traits);

#endif
