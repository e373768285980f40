/* kernels: the table of inner loops. kernels_init fills it with plain C, then lays the instruction-set versions over it
 * (a ladder: avx2, avx512 = F/BW/DQ/VL + VNNI, amx = avx512 + AMX-TILE/INT8). Pure: no globals, so tests build any
 * level.
 *
 * Weights live in PANELS: `panel_rows` output rows, interleaved as the level's dot products want them, with their
 * scales beside them; one layout serves matrix-vector and matrix-matrix products. Activations are quantised once per
 * layer input into the form that the level wants (struct act_format). Both layouts are private to a level; callers only
 * hold bytes.
 *
 * Determinism: y of one token never depends on the other tokens of the call, on m, or on the panel range: every path
 * (m = 1, small m, large m) performs the same float operations in the same order for an output element.
 *
 * Operands: panels and activation buffers are 64-byte aligned, float rows are 4-byte aligned; no kernel reads or writes
 * outside what its contract names. m >= 1. */
#ifndef KERNELS_KERNELS_H
#define KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant/quant.h"

enum cpu_level { CPU_C, CPU_AVX2, CPU_AVX512, CPU_AMX, CPU_LEVEL_N };

/* How a level stores m tokens of k activations. Quantising may be split by tokens between threads. */
struct act_format {
    size_t (*bytes)(int m, int k); /* size of the buffer */
    /* Tokens [from, to) of x (token t at x + t * x_stride floats) into acts, which is laid out for m tokens. */
    void (*quantize)(void *acts, const float *x, size_t x_stride, int m, int k, int from, int to);
    /* x[k] = what the products see of one token (scale times integer, rounded to float once). For tests. */
    void (*restore)(float *x, const void *acts, int m, int k, int token);
};
#define ACT_FORMAT_MAX 4

/* Products with weights of one quant_type. */
struct matmul_kernel {
    int act;        /* index into kernels.act */
    int k_multiple; /* k must be a multiple of it */
    size_t (*panel_bytes)(int k);
    /* rows[panel_rows]: GGUF blocks of each row, NULL = a row of zeros. Lossless up to 2^-11 relative in scales. */
    void (*pack)(void *panel, const void *const *rows, int k);
    /* y[t * y_stride + p * panel_rows + r] = sum_k weight[p * panel_rows + r][k] * acts[t][k], for all m tokens and
     * p in [panel_from, panel_to). Writes whole panels (padding rows too). `scratch`: kernels.matmul_scratch_bytes,
     * 64-byte aligned, one per thread. */
    void (*matmul)(float *y, size_t y_stride, const void *panels, const void *acts, int m, int k, int panel_from,
                   int panel_to, void *scratch);
};

/* ---- attention over paged KV ----
 * A KV page holds KV_PAGE_TOKENS tokens of one layer and one KV head, in a layout private to the level. */
#define KV_PAGE_TOKENS 32
/* How exactly a page keeps its numbers: 16 bits each (f16, or fixed point that loses as little), or 8 bits with scales:
 * half the bytes, which is what decoding at depth is bound by. */
enum kv_type { KV_F16, KV_Q8_0, KV_TYPE_N };
struct kv_form {
    int dim_k, dim_v; /* head sizes; multiples of 8 */
    enum kv_type type_k, type_v;
};
/* Keys are visited in chunks of this many (a multiple of KV_PAGE_TOKENS), counted from position 0: a chunk gives a
 * partial result and partials are merged in order, in prefill and decode alike, so that results depend neither on the
 * number of threads nor on the batch. */
#define KV_CHUNK_TOKENS 512

struct attn_head {         /* one KV head of one sequence, with the query heads that share it */
    const uint8_t *pages;  /* page i is at pages + table[i] * page_stride */
    const uint32_t *table; /* [ceil((pos + n_tokens) / KV_PAGE_TOKENS)] */
    size_t page_stride;
    struct kv_form kv;
    int group;          /* query heads per KV head */
    int pos;            /* position of query token 0 */
    int window;         /* keys with q - key >= window are not seen; 0 = no window */
    float scale;        /* of q.k */
    float softcap;      /* s = softcap * tanh(s / softcap); 0 = none */
    const float *sinks; /* [group] extra logit per head in the softmax denominator, or NULL */
};

struct kernels {
    enum cpu_level level;
    int panel_rows; /* 8 or 16 */
    struct act_format act[ACT_FORMAT_MAX];
    struct matmul_kernel matmul[QUANT_N]; /* matmul == NULL: no weights of that type */
    size_t matmul_scratch_bytes;

    size_t (*kv_page_bytes)(const struct kv_form *kv); /* a multiple of 64 */
    /* Keys and values of token `slot` (0 .. KV_PAGE_TOKENS-1) into a page. */
    void (*kv_store)(void *page, const struct kv_form *kv, const float *k, const float *v, int slot);
    /* Partial attention of n_tokens consecutive queries (token t at position pos + t, head g of the group at
     * q + t * q_stride + g * dim_k) over the keys of the chunks [chunk_from, chunk_to) that each may see (causal and
     * window). acc[t][g][dim_v] = sum exp(s - max) * v; max[t][g] and sum[t][g] of the softmax. Queries that see
     * nothing get sum 0, max -INFINITY, acc 0. Several chunks give what one chunk after the other gives, merged in
     * order by attn_merge. scratch: attn_scratch_bytes. n_tokens <= ATTN_MAX_QUERIES. */
    void (*attend)(float *acc, float *max, float *sum, const struct attn_head *h, const float *q, size_t q_stride,
                   int n_tokens, int chunk_from, int chunk_to, void *scratch);
    /* Merges the partial results (more_*) of n queries into others: acc[n][dim_v], max[n], sum[n]. */
    void (*attn_merge)(float *acc, float *max, float *sum, const float *more_acc, const float *more_max,
                       const float *more_sum, int n, int dim_v);
    size_t (*attn_scratch_bytes)(int n_queries, int dim_k, int dim_v); /* of n_tokens * group queries */

    /* ---- element-wise, rows of n floats ---- */
    void (*rmsnorm)(float *y, const float *x, const float *weight, int n,
                    float eps);                                            /* weight NULL = ones; y may be x */
    void (*add)(float *y, const float *x, int n);                          /* y += x */
    void (*scale)(float *y, float factor, int n);                          /* y *= factor */
    void (*silu_mul)(float *y, const float *gate, const float *up, int n); /* y = silu(gate) * up; y may be gate */
    void (*gelu_mul)(float *y, const float *gate, const float *up, int n); /* tanh approximation of GELU */
    void (*softcap)(float *x, float cap, int n);                           /* x = cap * tanh(x / cap) */
    /* Rotates n_heads heads of `dim` floats, the first n_rot of each; cs[n_rot / 2][2] = (cos, sin) of this position.
     * neox: pairs (i, i + n_rot / 2); else pairs (2i, 2i + 1). */
    void (*rope)(float *x, const float *cs, int n_heads, int dim, int n_rot, bool neox);
    int (*argmax)(const float *x, int n); /* the first of equal maxima */

    /* ---- ceilings: `rounds` rounds of the level's int8 dot product (float FMA) on registers; returns the MACs done
     * ---- */
    uint64_t (*probe_int8)(int rounds);
    uint64_t (*probe_f32)(int rounds);
};
#define ATTN_MAX_QUERIES 64

/* The highest level that this CPU and operating system allow (asks the kernel for AMX state: Linux arch_prctl). */
enum cpu_level cpu_level_detect(void);
/* The level to use when nobody asks for one. Not amx even where it is there: with a scale for every 32 values its
 * products are 12 % slower than avx512's on small models and 3 % faster on 1.5 B (docs/performance.md). */
enum cpu_level cpu_level_default(void);
const char *cpu_level_name(enum cpu_level level);
bool cpu_level_parse(enum cpu_level *level, const char *name);
/* "f16", "q8_0": the names that users of GGUF engines know. */
const char *kv_type_name(enum kv_type type);
bool kv_type_parse(enum kv_type *type, const char *name);
/* Fills k for a level; the caller makes sure that the CPU has it (cpu_level_detect() >= level). */
void kernels_init(struct kernels *k, enum cpu_level level);

#endif
