/* attn_page: the KV page of the levels avx2, avx512 and amx: 16-bit fixed point. Integer dot products are exact, so
 * their order is free: the same numbers come out whatever the tile. Products of pairs (VPMADDWD, VPDPWSSD) run at twice
 * the rate of float FMA and need no conversion, which is what decoding at depth would be bound by.
 *
 *   i16 k[dim_k / 2][32 tokens][2]       pairs of elements; k = code * k_scale[element / 64][token]
 *   i16 v[32 tokens / 2][v_dims][2]      pairs of tokens;   v = code * v_scale[token]; dim_v padded with zeros to 16
 *   f32 k_scale[ceil(dim_k / 64)][32], v_scale[32]
 *
 * Codes reach KEY_MAX and VALUE_MAX, queries QUERY_MAX, softmax weights WEIGHT_MAX, such that 64 products cannot
 * overflow 32 bits. What a code loses is 1/8190 of the largest element of its block at most: about what f16 loses.
 * Slots that hold no token yet may hold anything; what is computed from them is never used. */
#ifndef KERNELS_ATTN_PAGE_H
#define KERNELS_ATTN_PAGE_H

#include "kernels/kernels.h"

#define SLOTS KV_PAGE_TOKENS
#define ATTN_BLOCK 64 /* elements of a key with one scale; keys whose softmax weights have one scale */
#define QUERY_MAX 8191
#define KEY_MAX 4095
#define WEIGHT_MAX 16383
#define VALUE_MAX 2047
#define ATTN_TINY 1e-30f   /* blocks below it are zeros: 1 / x would overflow */
#define ATTN_HUGE 1e30f    /* elements are clamped to it: scales stay finite */
#define ATTN_BLOCKS_MAX 16 /* of a head of 1024 */
#define ATTN_CHUNK_BLOCKS (KV_CHUNK_TOKENS / ATTN_BLOCK)

_Static_assert((int64_t)ATTN_BLOCK *QUERY_MAX *KEY_MAX <= INT32_MAX, "scores fit");
_Static_assert((int64_t)ATTN_BLOCK *WEIGHT_MAX *VALUE_MAX <= INT32_MAX, "values fit");

static inline int attn_v_dims(int dim_v)
{
    return (dim_v + 15) / 16 * 16;
}
static inline int attn_k_blocks(int dim_k)
{
    return (dim_k + ATTN_BLOCK - 1) / ATTN_BLOCK;
}
static inline size_t attn_code_bytes(int dim_k, int dim_v)
{
    return (size_t)SLOTS * (size_t)(dim_k + attn_v_dims(dim_v)) * sizeof(int16_t);
}
static inline size_t attn_page_bytes(int dim_k, int dim_v)
{
    return attn_code_bytes(dim_k, dim_v) + (size_t)SLOTS * (size_t)(attn_k_blocks(dim_k) + 1) * sizeof(float);
}
static inline const uint8_t *attn_page_at(const struct attn_head *h, int token)
{
    return h->pages + (size_t)h->table[token / SLOTS] * h->page_stride;
}
static inline const float *attn_k_scales(const uint8_t *page, int dim_k, int dim_v)
{
    return (const float *)(const void *)(page + attn_code_bytes(dim_k, dim_v));
}
static inline const float *attn_v_scales(const uint8_t *page, int dim_k, int dim_v)
{
    return attn_k_scales(page, dim_k, dim_v) + SLOTS * attn_k_blocks(dim_k);
}

/* The keys of a chunk that a query sees, as [from, to). */
static inline void attn_visible(int *from, int *to, const struct attn_head *h, int token, int chunk)
{
    int last = h->pos + token;
    *from = chunk * KV_CHUNK_TOKENS;
    *to = *from + KV_CHUNK_TOKENS;
    if (h->window && last - h->window + 1 > *from) *from = last - h->window + 1;
    if (last + 1 < *to) *to = last + 1;
    if (*to < *from) *to = *from;
}

#endif
