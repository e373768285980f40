/* prompt: from the neutral conversation to the prompt's text and tokens: the conversation takes the shape that the
 * template needs, the template runs, remembered text is put in, and the text is tokenised with the client's bytes
 * marked as such. Immutable after creation: any thread. Private to local/. */
#ifndef LOCAL_PROMPT_H
#define LOCAL_PROMPT_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "chat/chat.h"
#include "dialect/dialect.h"
#include "jinja/jinja.h"
#include "local/memory.h"
#include "tokenizer/tokenizer.h"

struct prompt_maker;

/* template_text empty = the tokenizer's own, or ChatML with a logged warning; dialect_name empty = the one that the
 * template shows. t and memory (may be NULL) must outlive it. */
struct prompt_maker *prompt_maker_create(const struct tokenizer *t, struct str template_text, struct str dialect_name,
                                         struct call_memory *memory, struct err *e);
/* What was found out about the template: "dialect hermes; put right: ...". */
bool prompt_describe(const struct prompt_maker *p, struct buf *out);
void prompt_maker_destroy(struct prompt_maker *p);
const struct dialect *prompt_dialect(const struct prompt_maker *p);
bool prompt_thinks(const struct prompt_maker *p); /* the template knows reasoning */

struct prompt {
    struct buf text;
    struct jinja_spans tainted; /* client text */
    struct buf opened_call;     /* the end of text: the beginning of a forced call; empty = none */
    bool in_thinking;           /* the text has opened the reasoning */
    bool may_think;             /* it has not, but the model may */
    struct str opened_thinking; /* where in_thinking: the end of text from the mark on that opens it; into text */
    bool has_effort;            /* the template was told how much to think */
    struct str tail, lead;      /* of prompt_seam; borrowed from the maker */
};
void prompt_init(struct prompt *p);
void prompt_deinit(struct prompt *p);

/* Where an answer begins, the next prompt may differ from what was generated: it has not got `tail`, which ended the
 * prompt, or it has `lead`, which the template writes before the content. Adds or takes what makes both alike. */
bool prompt_seam(struct buf *out, struct str raw, struct str tail, struct str lead);

/* The rendered conversation, up to where the model goes on. A refusal by the template is ERR_INVALID with the
 * template's own words. */
bool prompt_render(const struct prompt_maker *p, struct prompt *out, const struct chat_request *req, struct err *e);
/* Rendered, tokenised, BOS added as the model wants. */
bool prompt_tokens(const struct prompt_maker *p, struct token_list *ids, struct prompt *out,
                   const struct chat_request *req, struct err *e);

#endif
