/* attn_outline: attention over paged KV as the vector levels do it (attn_page.h says how numbers are kept): storing,
 * packing queries, the walk over chunks. Queries (tokens times heads of the group) go in tiles of up to QUERY_TILE. A
 * tile's scores over a chunk are float; their softmax weights, times the scales of the values, become 14-bit integers
 * with one scale per 64 keys. The float operations of a query are the same, in the same order, whatever the tile is.
 *
 * A level defines QUERY_TILE, includes this file and defines the vector parts that are declared below (and those of
 * attn_merge.h); ATTN_DEFINE_PARTS makes a function of the two that depend on the tile's size, so that their loops have
 * constant bounds. */
#ifndef KERNELS_ATTN_OUTLINE_H
#define KERNELS_ATTN_OUTLINE_H

#include "kernels/attn_merge.h"
#include "kernels/attn_page.h"

#define ATTN_INLINE static inline __attribute__((always_inline))
#define SCORE_STRIDE (KV_CHUNK_TOKENS + 16) /* not a power of two: rows must not share cache sets */

struct attn_scratch {
    float scores[QUERY_TILE][SCORE_STRIDE];
    int16_t weights[QUERY_TILE][KV_CHUNK_TOKENS + 32];
    float weight_scale[QUERY_TILE][ATTN_CHUNK_BLOCKS];
    float q_scale[ATTN_BLOCKS_MAX][QUERY_TILE];
    int32_t q[]; /* [dim_k / 2][tile]: pairs of codes; then float more[tile][dim_v]: the result of another chunk */
};

struct query_tile {
    int first, n; /* queries [first, first + n) of token * group + head */
    int base;     /* first key of the chunk */
    int from, to; /* keys that any of them sees */
};

/* ---- the level's parts ---- */

/* The largest magnitude of x[n], at most ATTN_HUGE. n is a multiple of 8. */
static inline float abs_max(const float *x, int n);
/* codes[n] of x[n], whose largest magnitude is max (codes up to n rounded up to 16 may be written); returns the scale:
 * x = code * scale, |code| <= limit whatever x is. */
static inline float quantize(int16_t *codes, const float *x, int n, float max, int limit);
/* Softmax of query t over keys [from, to), counted from the chunk's first: s->weights and s->weight_scale of all blocks
 * that hold [q->from, q->to), zero outside [from, to). */
static inline void row_weights(struct attn_scratch *s, float *max, float *sum, const struct attn_head *h,
                               const struct query_tile *q, int t, int from, int to);
/* s->scores of the tile's n queries over the pages that hold [q->from, q->to); keys are of `type`. */
ATTN_INLINE void score_all(struct attn_scratch *s, const struct attn_head *h, const struct query_tile *q, const int n,
                           const enum kv_type type);
/* acc[q->n][dim_v] = weights times values (of `type`) of the tile's n queries, n >= q->n. */
ATTN_INLINE void weigh_all(float *acc, const struct attn_scratch *s, const struct attn_head *h,
                           const struct query_tile *q, const int n, const enum kv_type type);

typedef void attn_score_fn(struct attn_scratch *s, const struct attn_head *h, const struct query_tile *q);
typedef void attn_weigh_fn(float *acc, const struct attn_scratch *s, const struct attn_head *h,
                           const struct query_tile *q);
struct attn_parts { /* for tiles of one size */
    attn_score_fn *score[KV_TYPE_N];
    attn_weigh_fn *weigh[KV_TYPE_N];
};
#define ATTN_DEFINE_PARTS_OF(n, type)                                                                            \
    static __attribute__((noinline)) void score_##n##type(struct attn_scratch *s, const struct attn_head *h,     \
                                                          const struct query_tile *q)                            \
    {                                                                                                            \
        score_all(s, h, q, n, type);                                                                             \
    }                                                                                                            \
    static __attribute__((noinline)) void weigh_##n##type(float *acc, const struct attn_scratch *s,              \
                                                          const struct attn_head *h, const struct query_tile *q) \
    {                                                                                                            \
        weigh_all(acc, s, h, q, n, type);                                                                        \
    }
#define ATTN_DEFINE_PARTS(n)                                                             \
    ATTN_DEFINE_PARTS_OF(n, KV_F16)                                                      \
    ATTN_DEFINE_PARTS_OF(n, KV_Q8_0)                                                     \
    static const struct attn_parts parts_##n = {{score_##n##KV_F16, score_##n##KV_Q8_0}, \
                                                {weigh_##n##KV_F16, weigh_##n##KV_Q8_0}};

/* ---- storing ---- */

static size_t attn_scratch_bytes(int group, int dim_k, int dim_v)
{
    (void)group;
    return sizeof(struct attn_scratch) + (size_t)(dim_k / 2 + dim_v) * QUERY_TILE * sizeof(int32_t);
}

/* codes[2 * n] as pairs into to, SLOTS pairs from one to the next. */
static inline void pairs_store(uint8_t *to, const int16_t *codes, int n, enum kv_type type)
{
    for (int i = 0; i < n; i++, codes += 2) {
        if (type == KV_Q8_0) {
            to[i * 2 * SLOTS] = (uint8_t)codes[0];
            to[i * 2 * SLOTS + 1] = (uint8_t)codes[1];
        } else {
            memcpy(to + i * 4 * SLOTS, codes, 4);
        }
    }
}

static void kv_store(void *page, const struct kv_form *kv, const float *k, const float *v, int slot)
{
    int16_t codes[ATTN_BLOCK];
    const int key_size = attn_code_size(kv->type_k), block = attn_key_block(kv->type_k);
    uint8_t *to = (uint8_t *)page + slot * 2 * key_size;
    float *scale = (float *)(void *)((uint8_t *)page + attn_k_scale_offset(kv)) + slot;
    for (int d = 0; d < kv->dim_k; d += block, scale += SLOTS) {
        int n = kv->dim_k - d < block ? kv->dim_k - d : block;
        *scale = quantize(codes, k + d, n, abs_max(k + d, n), attn_key_max(kv->type_k));
        pairs_store(to + d * SLOTS * key_size, codes, n / 2, kv->type_k);
    }
    const int v_dims = attn_v_dims(kv->dim_v), value_size = attn_code_size(kv->type_v);
    to = (uint8_t *)page + attn_v_offset(kv) + (slot / 2 * 2 * v_dims + slot % 2) * value_size;
    scale = (float *)(void *)((uint8_t *)page + attn_v_scale_offset(kv)) + slot;
    float max = abs_max(v, kv->dim_v);
    for (int d = 0; d < v_dims; d += 16) {
        int n = kv->dim_v - d < 16 ? kv->dim_v - d : 16;
        memset(codes, 0, 16 * sizeof *codes);
        *scale = quantize(codes, v + d, n, max, attn_value_max(kv->type_v));
        for (int i = 0; i < 16; i++) memcpy(to + (d + i) * 2 * value_size, codes + i, (size_t)value_size);
    }
}

/* q[pair][size] and their scales, times the scale of scores; the padding is zero. */
static void queries_pack(struct attn_scratch *s, const struct attn_head *h, const struct query_tile *tile,
                         const float *q, size_t q_stride, int size)
{
    int16_t codes[ATTN_BLOCK];
    for (int t = 0; t < size; t++) {
        int i = tile->first + t;
        const float *row = t < tile->n ? q + (size_t)(i / h->group) * q_stride + i % h->group * h->kv.dim_k : NULL;
        for (int d = 0; d < h->kv.dim_k; d += ATTN_BLOCK) {
            int n = h->kv.dim_k - d < ATTN_BLOCK ? h->kv.dim_k - d : ATTN_BLOCK;
            memset(codes, 0, sizeof codes);
            float scale = row ? quantize(codes, row + d, n, abs_max(row + d, n), QUERY_MAX) : 0;
            s->q_scale[d / ATTN_BLOCK][t] = scale * h->scale;
            int32_t *to = s->q + d / 2 * size + t;
            for (int j = 0; j < n; j += 2, to += size) memcpy(to, codes + j, 4);
        }
    }
}

/* ---- the walk ---- */

/* One chunk. */
static void chunk_run(float *acc, float *max, float *sum, const struct attn_head *h, const struct query_tile *q,
                      struct attn_scratch *s, const struct attn_parts *parts)
{
    parts->score[h->kv.type_k](s, h, q);
    for (int t = 0; t < q->n; t++) {
        int from, to;
        attn_visible(&from, &to, h, (q->first + t) / h->group, q->base / KV_CHUNK_TOKENS);
        if (from < to) {
            row_weights(s, &max[t], &sum[t], h, q, t, from - q->base, to - q->base);
        } else {
            max[t] = -INFINITY, sum[t] = 0;
            memset(s->weights[t], 0, sizeof s->weights[t]);
            memset(s->weight_scale[t], 0, sizeof s->weight_scale[t]);
        }
    }
    parts->weigh[h->kv.type_v](acc, s, h, q);
}

/* The part of a chunk that the tile's queries see; false: nothing. */
static bool tile_keys(struct query_tile *tile, const struct attn_head *h, int chunk)
{
    int from;
    tile->base = chunk * KV_CHUNK_TOKENS;
    attn_visible(&tile->from, &tile->to, h, tile->first / h->group, chunk);
    attn_visible(&from, &tile->to, h, (tile->first + tile->n - 1) / h->group, chunk);
    return tile->from < tile->base + KV_CHUNK_TOKENS && tile->to > tile->from;
}

static void tile_run(float *acc, float *max, float *sum, const struct attn_head *h, struct query_tile *q,
                     int chunk_from, int chunk_to, struct attn_scratch *s, const struct attn_parts *parts)
{
    float *more = (float *)(void *)(s->q + h->kv.dim_k / 2 * QUERY_TILE), more_max[QUERY_TILE], more_sum[QUERY_TILE];
    bool any = false;
    for (int chunk = chunk_from; chunk < chunk_to; chunk++) {
        if (!tile_keys(q, h, chunk)) continue;
        if (any) {
            chunk_run(more, more_max, more_sum, h, q, s, parts);
            attn_merge(acc, max, sum, more, more_max, more_sum, q->n, h->kv.dim_v);
        } else {
            chunk_run(acc, max, sum, h, q, s, parts);
        }
        any = true;
    }
    if (any) return;
    for (int t = 0; t < q->n; t++) max[t] = -INFINITY, sum[t] = 0;
    memset(acc, 0, (size_t)(q->n * h->kv.dim_v) * sizeof *acc);
}

/* kernels.attend but for parts[QUERY_TILE + 1], by size of the tile; the smallest that holds a size is used. */
static void attend_by(const struct attn_parts *const *parts, float *acc, float *max, float *sum,
                      const struct attn_head *h, const float *q, size_t q_stride, int n_tokens, int chunk_from,
                      int chunk_to, struct attn_scratch *s)
{
    int n = n_tokens * h->group;
    for (int i = 0; i < n; i += QUERY_TILE) {
        struct query_tile tile = {.first = i, .n = n - i < QUERY_TILE ? n - i : QUERY_TILE};
        int size = tile.n;
        while (!parts[size]) size++;
        queries_pack(s, h, &tile, q, q_stride, size);
        tile_run(acc + i * h->kv.dim_v, max + i, sum + i, h, &tile, chunk_from, chunk_to, s, parts[size]);
    }
}

#endif
