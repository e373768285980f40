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
    struct token_runs runs;     /* text whose tokens are remembered */
    struct buf given;           /* the end of text: what the client wrote of the answer (a prefill), ... */
    struct token_runs given_runs;
    struct buf opened_call; /* ... and the beginning of a forced call; both may be empty */
    bool in_thinking;       /* the text has opened the reasoning */
    bool may_think;         /* it has not, but the model may */
    struct buf ahead;       /* the end of text, without these two: what an answer is remembered behind */
    size_t ahead_free;      /* bytes at its end that the template wrote */
    bool has_effort;        /* the template was told how much to think */
};
void prompt_init(struct prompt *p);
void prompt_deinit(struct prompt *p);
/* Frees what is no longer needed once the prompt has become tokens. */
void prompt_forget_text(struct prompt *p);

/* The rendered conversation, up to where the model goes on. A refusal by the template is ERR_INVALID with the
 * template's own words. */
bool prompt_render(const struct prompt_maker *p, struct prompt *out, const struct chat_request *req, struct err *e);
/* Rendered, tokenised, BOS added as the model wants. */
bool prompt_tokens(const struct prompt_maker *p, struct token_list *ids, struct prompt *out,
                   const struct chat_request *req, struct err *e);

#endif
