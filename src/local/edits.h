/* edits: what a client lets us leave out of a long conversation is left out, before it is rendered. Decided by what
 * each earlier request of the conversation would have decided, so that the place up to which results are gone moves in
 * steps and the prompt keeps its beginning in between. Private to local/. */
#ifndef LOCAL_EDITS_H
#define LOCAL_EDITS_H

#include <stdbool.h>

#include "chat/chat.h"

/* Tokens of a text, about: it is counted alone. */
typedef uint32_t edits_counter(void *ctx, struct str text);

/* Applies one edit to the request's blocks and sets its n_cleared. n_tokens: the exact length of the prompt as it is.
 * true: something changed. */
bool edits_apply(struct chat_request *r, struct chat_edit *edit, uint32_t n_tokens, edits_counter *count, void *ctx);

#endif
