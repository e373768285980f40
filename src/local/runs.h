/* runs: which bytes of a text stand for which tokens. What a model wrote is tokenised again only where its tokens are
 * not known: a sampler may cut words as no tokenizer would. The text around the runs is tokenised piece by piece, each
 * as it stood in the prompt that was answered, so that a later prompt begins with the very tokens that are in the
 * cache. Private to local/. */
#ifndef LOCAL_RUNS_H
#define LOCAL_RUNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "tokenizer/tokenizer.h"

struct token_run {
    size_t from, to; /* bytes of the text; from == to: tokens without a text */
    size_t first, n; /* in token_runs.ids */
};
struct token_runs {          /* zeroed = empty */
    struct token_run *items; // [n]: in the order of the text, disjoint
    size_t n;
    uint32_t *ids; // [n_ids]
    size_t n_ids;
    size_t cap, cap_ids; /* what there is room for; 0 in runs that are only read */
};
void token_runs_clear(struct token_runs *r); /* frees what it holds */
/* Copies. Does nothing when n is 0. */
void token_runs_add(struct token_runs *r, size_t from, size_t to, const uint32_t *ids, size_t n);
/* The runs of `more`, whose text stands at byte `at`. */
void token_runs_append(struct token_runs *r, const struct token_runs *more, size_t at);

/* How many of the tokens give exactly the beginning of `text`, and nothing behind its end; *bytes of it. show_control:
 * as the text was made. */
size_t token_runs_fit(const struct tokenizer *t, const uint32_t *ids, size_t n, struct str text, bool show_control,
                      size_t *bytes);
/* The tokens of a prompt: those of the runs, and between them those of the text (tokenizer_encode). */
bool token_runs_encode(const struct token_runs *r, const struct tokenizer *t, struct token_list *out, struct str text,
                       const struct text_span *tainted, size_t n_tainted, struct err *e);

#endif
