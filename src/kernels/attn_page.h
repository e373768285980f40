/* attn_page: the KV page of the levels avx2, avx512 and amx: fixed point with codes of 16 or 8 bits. Integer dot
 * products are exact, so their order is free: the same numbers come out whatever the tile. Products of pairs (VPMADDWD,
 * VPDPWSSD) run at twice the rate of float FMA; 8-bit codes are widened when they are loaded.
 *
 *   code k[dim_k / 2][32 tokens][2]             pairs of elements; k = code * k_scale[element / 64][token]
 *   code v[v_dims / 16][32 tokens / 2][16][2]   pairs of tokens; v = code * v_scale[token]; dim_v padded with zeros to
 * 16 f32 k_scale[ceil(dim_k / 64)][32], v_scale[32]
 *
 * 8-bit keys, and the queries that meet them, are rotated first, by blocks of 64 (attn_common.h).
 * Codes reach attn_key_max and attn_value_max, queries QUERY_MAX, softmax weights WEIGHT_MAX, such that the products of
 * a block cannot overflow 32 bits. What a 16-bit code of a key loses is 1/16382 of the largest element of its block at
 * most, of a value 1/4094: about what f16 loses. Slots that hold no token yet may hold anything; what is computed from
 * them is never used. */
#ifndef KERNELS_ATTN_PAGE_H
#define KERNELS_ATTN_PAGE_H

#include "kernels/attn_common.h"

#define SLOTS KV_PAGE_TOKENS
#define ATTN_BLOCK ATTN_ROTATED /* elements of a key or query that have one scale */
#define WEIGHT_BLOCK 128        /* keys whose softmax weights have one scale */
#define ATTN_VALUES 64          /* elements of values that lie together: single queries read a block from end to end */
#define QUERY_MAX 4095
#define KEY_MAX_16 8191
#define WEIGHT_MAX 8192
#define WEIGHT_ONE 16384 /* a weight of 1 before the values' scales: one more bit, so that it is not rounded twice */
#define VALUE_MAX_16 2047
#define CODE_MAX_8 127
#define ATTN_TINY 1e-30f /* blocks below it are zeros: 1 / x would overflow */
#define ATTN_HUGE 1e30f  /* elements are clamped to it: scales stay finite */
/* Partial results of chunks and blocks count at least 2 to this, relative to the largest: 2^24 of them would not change
 * a float. Less would make denormal numbers, and every one of those costs as much as a hundred products. */
#define ATTN_LEAST (-64.0f)
/* Scores are kept in 1/4096 of an octave of their weight: 2^(score / 4096) = e^(q * k). The weights of a block count
 * from one step above its largest score, so they are 2^((x - 65536) / 4096) of an x of 16 bits without a sign. */
#define SCORE_STEPS 4096
#define SCORE_TOP 65536
#define SCORE_UNIT (SCORE_STEPS * 1.44269504f)
/* 2^(r - 1) = EXP2_0 + r * (EXP2_1 + r * (EXP2_2 + r * (EXP2_3 + r * EXP2_4))), all in 1/32768, below 1 for r < 1. */
#define EXP2_0 16384
#define EXP2_1 11355
#define EXP2_2 3953
#define EXP2_3 855
#define EXP2_4 221
#define SHARE_ONE 16384 /* a share of 1: a value's scale of the largest in its block */
#define ATTN_CHUNK_BLOCKS (KV_CHUNK_TOKENS / WEIGHT_BLOCK)

_Static_assert((int64_t)ATTN_BLOCK *QUERY_MAX *KEY_MAX_16 <= INT32_MAX, "scores fit");
_Static_assert(WEIGHT_ONE *SHARE_ONE / 32768 == WEIGHT_MAX, "as VPMULHRSW multiplies");
_Static_assert((int64_t)WEIGHT_BLOCK *WEIGHT_MAX *VALUE_MAX_16 <= INT32_MAX, "values fit");

static inline int attn_code_size(enum kv_type type)
{
    return type == KV_Q8_0 ? 1 : 2;
}
static inline int attn_key_max(enum kv_type type)
{
    return type == KV_Q8_0 ? CODE_MAX_8 : KEY_MAX_16;
}
static inline int attn_value_max(enum kv_type type)
{
    return type == KV_Q8_0 ? CODE_MAX_8 : VALUE_MAX_16;
}
static inline int attn_v_dims(int dim_v)
{
    return (dim_v + 15) / 16 * 16;
}
/* Elements of the block of values that element d is in. */
static inline int attn_v_width(int v_dims, int d)
{
    int rest = v_dims - d / ATTN_VALUES * ATTN_VALUES;
    return rest < ATTN_VALUES ? rest : ATTN_VALUES;
}
/* Codes before element d of slot 0. */
static inline int attn_v_at(int d)
{
    return d / ATTN_VALUES * ATTN_VALUES * SLOTS + d % ATTN_VALUES * 2;
}
static inline int attn_k_blocks(const struct kv_form *kv)
{
    return (kv->dim_k + ATTN_BLOCK - 1) / ATTN_BLOCK;
}
/* Where the values, the scales of keys and those of values are in a page. */
static inline size_t attn_v_offset(const struct kv_form *kv)
{
    return (size_t)SLOTS * (size_t)(kv->dim_k * attn_code_size(kv->type_k));
}
static inline size_t attn_k_scale_offset(const struct kv_form *kv)
{
    return attn_v_offset(kv) + (size_t)SLOTS * (size_t)(attn_v_dims(kv->dim_v) * attn_code_size(kv->type_v));
}
static inline size_t attn_v_scale_offset(const struct kv_form *kv)
{
    return attn_k_scale_offset(kv) + (size_t)SLOTS * (size_t)attn_k_blocks(kv) * sizeof(float);
}
static inline size_t attn_page_bytes(const struct kv_form *kv)
{
    return attn_v_scale_offset(kv) + SLOTS * sizeof(float);
}
static inline const uint8_t *attn_page_at(const struct attn_head *h, int token)
{
    return h->pages + (size_t)h->table[token / SLOTS] * h->page_stride;
}

/* The keys of a chunk that a query sees, as [from, to) within the chunk; none: both the same. */
static inline void attn_visible(int *from, int *to, const struct attn_head *h, int token, int chunk)
{
    int last = h->pos + token;
    *from = chunk * KV_CHUNK_TOKENS;
    *to = *from + KV_CHUNK_TOKENS;
    if (h->window && last - h->window + 1 > *from) *from = last - h->window + 1;
    if (*from > *to) *from = *to; /* the window begins behind the chunk */
    if (last + 1 < *to) *to = last + 1;
    if (*to < *from) *to = *from;
}

#endif
