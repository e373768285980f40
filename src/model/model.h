/* model: hyper-parameters, weights and the forward pass of a GGUF model; one file per architecture family. Immutable
 * after model_open except for its step scratch: one thread (the engine's) runs model_forward.
 *
 * A step is one ragged batch: several sequences, each with some consecutive tokens. KV lives in pages that the caller
 * owns (cache/); a page holds KV_PAGE_TOKENS tokens of all layers. Per-sequence state that is not pages (recurrent
 * layers of later families) is one opaque block of model_info.state_bytes per sequence, zeroed for a new sequence. */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "compute/compute.h"
#include "gguf/gguf.h"

struct model;

struct model_info {
    struct str arch, name; /* general.architecture, general.name */
    uint32_t n_layers, n_embd, n_heads, n_kv_heads, n_ff, n_vocab;
    uint32_t n_ctx_train;    /* ARCH.context_length */
    uint32_t sliding_window; /* 0 = none */
    uint64_t n_params;       /* elements of all tensors */
    size_t weight_bytes;     /* packed weights in memory */
    bool weights_cached;     /* they came from the repack cache */
    size_t page_bytes;       /* one KV page, all layers */
    size_t state_bytes;      /* per sequence beside pages; 0 for attention-only models */
    size_t scratch_bytes;    /* step scratch, allocated at open */
};

struct model_options {
    uint32_t max_batch_tokens;                /* most tokens of a step; 0 = 512 */
    uint32_t max_logits;                      /* most logit rows of a step; 0 = 32 */
    enum kv_type type_k, type_v;              /* how exactly pages keep keys and values */
    bool check_only;                          /* read and check everything, pack no weights: for inspect */
    void (*progress)(void *ctx, double done); /* 0..1 while packing; may be NULL */
    void *progress_ctx;
    const struct panel_cache *repack_cache; /* NULL = weights are packed at every start; copied */
};

/* g and c must outlive the model. NULL on error: the message names the key or tensor, what was found and what is
 * needed; unknown architectures are listed with the known ones. */
struct model *model_open(const struct gguf *g, struct compute *c, const struct model_options *options, struct err *e);
void model_close(struct model *m);
void model_info_get(const struct model *m, struct model_info *info);

struct model_span {
    const uint32_t *tokens;  /* [n_tokens] */
    const float *embeddings; /* [n_tokens][n_embd] in place of tokens (media), or NULL */
    uint32_t n_tokens;
    uint32_t pos;          /* position of the first; KV of earlier positions is in the pages */
    const uint32_t *pages; /* page numbers, enough for pos + n_tokens */
    void *state;           /* model_info.state_bytes, or NULL where that is 0 */
    uint32_t n_logits;     /* logits wanted for the last n_logits tokens; 0 = none */
};

/* Runs all spans; writes their KV into the pages (page p at kv_base + p * page_bytes) and the logits of the wanted
 * tokens, in order, to logits[sum n_logits][n_vocab]. Token ids must be < n_vocab (checked: false, ERR_INVALID); totals
 * must be within the options. `stop` (may be NULL) is read between layers: when it becomes nonzero the step ends early
 * with false and ERR_CANCELLED; KV of the step's tokens is then undefined. */
bool model_forward(struct model *m, float *logits, uint8_t *kv_base, const struct model_span *spans, uint32_t n_spans,
                   const volatile int *stop, struct err *e);

/* Names of the architectures that model_open knows, NULL-terminated. */
const char *const *model_architectures(void);

#endif
