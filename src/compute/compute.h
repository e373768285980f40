/* compute: the thread team, weights in panels, and the operations that models are written with. All calls come from one
 * thread (the engine's), which works as worker 0; work is split by output rows or by tokens and claimed dynamically, so
 * results do not depend on the number of threads. Operations return when all workers are done. */
#ifndef COMPUTE_COMPUTE_H
#define COMPUTE_COMPUTE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "kernels/kernels.h"
#include "quant/quant.h"

struct compute;

/* n_threads 0 = physical cores available to this process (affinity and cgroup limits respected). */
struct compute *compute_create(int n_threads, enum cpu_level level, struct err *e);
void compute_destroy(struct compute *c);
int compute_threads(const struct compute *c);
const struct kernels *compute_kernels(const struct compute *c);

/* ---- the team ---- */
/* Runs fn(ctx, item, worker) for every item of [0, n_items), each exactly once, claimed in chunks of `grain`. */
typedef void compute_fn(void *ctx, int item_from, int item_to, int worker);
void compute_for(struct compute *c, compute_fn *fn, void *ctx, int n_items, int grain);

/* A worker that loses its core to another program while it holds work would stop everybody. Between these two calls
 * others do its work instead, if it is part of a product or of attention. Invariant: until compute_step_end returns,
 * operands (inputs, results, weights, KV pages) stay mapped, and spans and page tables do not change: the worker that
 * lost its core may still read them, but never writes what it computed (team.c says how). compute_step_end waits for
 * it. */
void compute_step_begin(struct compute *c);
void compute_step_end(struct compute *c);

/* ---- weights ---- */
struct weight;       /* [n_out][n_in], packed; owned by the caller, immutable */
struct weight_part { /* rows of one tensor */
    enum quant_type type;
    const void *data; /* GGUF blocks, n_rows rows of n_in values */
    int n_rows;
};
/* A set holds all weights of a model in one piece of memory (an image), so that small matrices lie in huge pages too
 * and all are packed in one go. First every weight is added: the parts' rows below each other are one product (fused
 * QKV, gate+up). Then weight_set_pack fills the image; until then the parts' data must stay where it is and products
 * are undefined. add gives NULL on error: a type without kernel, n_in not a multiple of what the type needs, size. */
struct weight_set;
struct weight_set *weight_set_create(void);
void weight_set_destroy(struct weight_set *s); /* with its weights; NULL is fine */
struct weight *weight_set_add(struct weight_set *s, const struct compute *c, const struct weight_part *parts,
                              int n_parts, int n_in, struct err *e);

/* A folder of images that earlier starts have packed: at most one file for a name and a CPU level. */
struct panel_cache {
    const char *dir;    /* is made if it is not there */
    const char *name;   /* of the model, as part of a file name */
    uint64_t identity;  /* of its content: another value, another image */
    uint64_t max_bytes; /* of all images in the folder; the ones that were not used for longest go */
};
struct weight_set_options {
    /* Around the reading of rows [data, data + size), by any worker; may be NULL. */
    void (*fetch)(void *ctx, const void *data, size_t size);
    void (*release)(void *ctx, const void *data, size_t size);
    void (*progress)(void *ctx, double done); /* 0..1, on the caller's thread; may be NULL */
    void *ctx;
    const struct panel_cache *cache; /* NULL = none; copied */
};
/* Packs all weights with the team, or maps the cached image, which is checked first (every byte). After packing, a
 * thread of low priority writes the image into the cache; failures there are one line in the log. options may be NULL.
 */
bool weight_set_pack(struct weight_set *s, struct compute *c, const struct weight_set_options *options, struct err *e);
/* Bytes of the image; whether it came from the cache. */
size_t weight_set_bytes(const struct weight_set *s);
bool weight_set_cached(const struct weight_set *s);

/* A set of one weight. */
struct weight *weight_create(struct compute *c, const struct weight_part *parts, int n_parts, int n_in, struct err *e);
void weight_destroy(struct weight *w);
/* First output element of part i (parts start at a panel border when types differ); weight_out_len = floats that a
 * row of y needs (padding included). */
int weight_part_offset(const struct weight *w, int part);
int weight_out_len(const struct weight *w);
size_t weight_bytes(const struct weight *w);

/* y[t * y_stride ...] = W x[t], m tokens; y_stride >= weight_out_len(w). x and y must not overlap. */
void compute_matmul(struct compute *c, float *y, size_t y_stride, const struct weight *w, const float *x,
                    size_t x_stride, int m);
/* The same for several weights with one input (the input is quantised once per format that they need). */
struct matmul_target {
    float *y;
    size_t y_stride;
    const struct weight *w;
};
void compute_matmul_many(struct compute *c, const struct matmul_target *targets, int n_targets, const float *x,
                         size_t x_stride, int m);
/* rmsnorm of every row of x, then the products; x itself is not changed. */
void compute_norm_matmul_many(struct compute *c, const struct matmul_target *targets, int n_targets, const float *x,
                              size_t x_stride, const float *norm_weight, float eps, int m);

/* The product of rows that are made on the way: get writes token's input values to row (or elsewhere) and returns where
 * they are. It is called once for every token, by any worker, and may write what belongs to that token alone:
 * element-wise work before a product shares its fork and finds its result in the cache. */
typedef const float *compute_row_fn(void *ctx, float *row, int token);
void compute_matmul_rows(struct compute *c, float *y, size_t y_stride, const struct weight *w, compute_row_fn *get,
                         void *ctx, int m);

/* rmsnorm, then the product with inputs of twice the precision: what quantising a row loses is quantised once more and
 * sent through the product as a second row. For the output head, where the loss goes straight into the logits. Writes
 * n_out floats a row; w has one part. */
void compute_norm_matmul_fine(struct compute *c, float *y, size_t y_stride, const struct weight *w, const float *x,
                              size_t x_stride, const float *norm_weight, float eps, int m);

/* ---- attention ---- */
struct kv_span { /* the tokens of one sequence in this step */
    int first;   /* row of its first token in q, k, v, out */
    int n_tokens;
    int pos;               /* position of that token */
    const uint32_t *table; /* page numbers of the sequence, enough for pos + n_tokens */
};
struct kv_view {   /* where one layer's keys and values are */
    uint8_t *base; /* page p of KV head h is at base + p * page_stride + h * head_bytes */
    size_t page_stride, head_bytes;
};
struct attn_params {
    int n_heads, n_kv_heads, window;
    struct kv_form kv; /* what the pages hold */
    float scale, softcap;
    const float *sinks; /* [n_heads] or NULL */
};
/* Stores k and v of all spans' tokens (rows of n_kv_heads * dim_k / dim_v floats). */
void compute_kv_store(struct compute *c, const struct kv_view *view, const struct attn_params *p, const float *k,
                      size_t k_stride, const float *v, size_t v_stride, const struct kv_span *spans, int n_spans);
/* out[row][n_heads * dim_v] = attention of q[row][n_heads * dim_k] over each row's own sequence, causal. */
void compute_attention(struct compute *c, float *out, size_t out_stride, const struct kv_view *view,
                       const struct attn_params *p, const float *q, size_t q_stride, const struct kv_span *spans,
                       int n_spans);

/* ---- measuring ---- */
struct compute_ceiling {
    double int8_gmacs, f32_gmacs, dram_gbs; /* all threads together, measured now (about 0.2 s) */
};
void compute_measure(struct compute *c, struct compute_ceiling *out);
/* Rates of products with weights of one type, for each number of tokens ms[i]: quantising the input included. Up to
 * MEASURE_STREAM_MAX tokens read weights that do not fit a cache. gbs counts packed bytes. Takes about a second. */
#define MEASURE_STREAM_MAX 16
struct compute_rate {
    double gmacs, gbs;          /* best of many slices of some milliseconds */
    double share, memory_share; /* of the probe (int8, or f32 for float types), of reading memory: medians of the
                                 * slices, each beside the probes right before and after it */
};
bool compute_measure_products(struct compute *c, struct compute_rate *out, const int *ms, int n_ms,
                              enum quant_type type, struct err *e);

#endif
