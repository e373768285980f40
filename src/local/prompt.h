/* prompt: from the neutral conversation to the prompt's text and tokens: what a template cannot express is put right
 * before rendering, then the template runs, then the text is tokenised with the client's bytes marked as such.
 * Immutable after creation: any thread. Private to local/. */
#ifndef LOCAL_PROMPT_H
#define LOCAL_PROMPT_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "chat/chat.h"
#include "jinja/jinja.h"
#include "tokenizer/tokenizer.h"

struct prompt_maker;

/* template_text empty = the tokenizer's own, or ChatML with a logged warning. t must outlive it. */
struct prompt_maker *prompt_maker_create(const struct tokenizer *t, struct str template_text, struct err *e);
void prompt_maker_destroy(struct prompt_maker *p);

/* Appends the rendered conversation to out. tainted (may be NULL) receives the spans of client text; the caller frees
 * tainted->items. A refusal by the template is ERR_INVALID with the template's own words. */
bool prompt_render(const struct prompt_maker *p, struct buf *out, struct jinja_spans *tainted,
                   const struct chat_request *req, struct err *e);
/* Rendered, tokenised, BOS added as the model wants. */
bool prompt_tokens(const struct prompt_maker *p, struct token_list *out, const struct chat_request *req, struct err *e);

#endif
