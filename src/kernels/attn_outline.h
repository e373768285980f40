/* attn_outline: attention over paged KV as the vector levels do it (attn_page.h says how numbers are kept): storing,
 * packing queries, the walk over chunks. Queries (tokens times heads of the group) go in tiles of up to QUERY_TILE. A
 * tile's scores over a chunk are float; their softmax weights, times the scales of the values, become 14-bit integers
 * with one scale per 64 keys. The float operations of a query are the same, in the same order, whatever the tile is.
 *
 * A level defines QUERY_TILE, includes this file, defines the vector parts that are declared below (and those of
 * attn_merge.h), and one function a tile size by ATTN_DEFINE_TILE, so that loops over a tile have constant bounds. */
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
/* s->scores of the tile's n queries (n is constant) over the pages that hold [q->from, q->to). */
static inline void score_all(struct attn_scratch *s, const struct attn_head *h, const struct query_tile *q, int n);
/* Softmax of query t over keys [from, to), counted from the chunk's first: s->weights and s->weight_scale of all blocks
 * that hold [q->from, q->to), zero outside [from, to). */
static inline void row_weights(struct attn_scratch *s, float *max, float *sum, const struct attn_head *h,
                               const struct query_tile *q, int t, int from, int to);
/* acc[q->n][dim_v] = weights times values of the tile's n queries (n is constant, not below q->n). */
static inline void weigh_all(float *acc, const struct attn_scratch *s, const struct attn_head *h,
                             const struct query_tile *q, int n);

/* ---- storing ---- */

static size_t attn_scratch_bytes(int group, int dim_k, int dim_v)
{
    (void)group;
    return sizeof(struct attn_scratch) + (size_t)(dim_k / 2 + dim_v) * QUERY_TILE * sizeof(int32_t);
}

static void kv_store(void *page, const float *k, const float *v, int slot, int dim_k, int dim_v)
{
    int16_t codes[ATTN_BLOCK];
    int32_t *pairs = (int32_t *)page + slot;
    float *scales = (float *)attn_k_scales(page, dim_k, dim_v) + slot;
    for (int d = 0; d < dim_k; d += ATTN_BLOCK, scales += SLOTS) {
        int n = dim_k - d < ATTN_BLOCK ? dim_k - d : ATTN_BLOCK;
        *scales = quantize(codes, k + d, n, abs_max(k + d, n), KEY_MAX);
        for (int i = 0; i < n; i += 2) memcpy(pairs + (d + i) / 2 * SLOTS, codes + i, 4);
    }
    const int v_dims = attn_v_dims(dim_v);
    int16_t *to = (int16_t *)page + (size_t)dim_k * SLOTS + (size_t)(slot / 2 * 2) * (size_t)v_dims + slot % 2;
    float max = abs_max(v, dim_v);
    for (int d = 0; d < v_dims; d += 16) {
        int n = dim_v - d < 16 ? dim_v - d : 16;
        memset(codes, 0, 16 * sizeof *codes);
        *scales = quantize(codes, v + d, n, max, VALUE_MAX);
        for (int i = 0; i < 16; i++) to[(d + i) * 2] = codes[i];
    }
}

/* q[pair][size] and their scales, times the scale of scores; the padding is zero. */
static void queries_pack(struct attn_scratch *s, const struct attn_head *h, const struct query_tile *tile,
                         const float *q, size_t q_stride, int size)
{
    int16_t codes[ATTN_BLOCK];
    for (int t = 0; t < size; t++) {
        int i = tile->first + t;
        const float *row = t < tile->n ? q + (size_t)(i / h->group) * q_stride + i % h->group * h->dim_k : NULL;
        for (int d = 0; d < h->dim_k; d += ATTN_BLOCK) {
            int n = h->dim_k - d < ATTN_BLOCK ? h->dim_k - d : ATTN_BLOCK;
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
ATTN_INLINE void chunk_run(float *acc, float *max, float *sum, const struct attn_head *h, const struct query_tile *q,
                           struct attn_scratch *s, const int n)
{
    score_all(s, h, q, n);
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
    weigh_all(acc, s, h, q, n);
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

ATTN_INLINE void tile_run(float *acc, float *max, float *sum, const struct attn_head *h, struct query_tile *q,
                          int chunk_from, int chunk_to, struct attn_scratch *s, const int n)
{
    float *more = (float *)(void *)(s->q + h->dim_k / 2 * QUERY_TILE), more_max[QUERY_TILE], more_sum[QUERY_TILE];
    bool any = false;
    for (int chunk = chunk_from; chunk < chunk_to; chunk++) {
        if (!tile_keys(q, h, chunk)) continue;
        if (any) {
            chunk_run(more, more_max, more_sum, h, q, s, n);
            attn_merge(acc, max, sum, more, more_max, more_sum, q->n, h->dim_v);
        } else {
            chunk_run(acc, max, sum, h, q, s, n);
        }
        any = true;
    }
    if (any) return;
    for (int t = 0; t < q->n; t++) max[t] = -INFINITY, sum[t] = 0;
    memset(acc, 0, (size_t)(q->n * h->dim_v) * sizeof *acc);
}

typedef void attn_tile_fn(float *acc, float *max, float *sum, const struct attn_head *h, struct query_tile *q, int from,
                          int to, struct attn_scratch *s);
#define ATTN_DEFINE_TILE(n)                                                                                        \
    static __attribute__((noinline)) void tile_##n(float *acc, float *max, float *sum, const struct attn_head *h,  \
                                                   struct query_tile *q, int from, int to, struct attn_scratch *s) \
    {                                                                                                              \
        tile_run(acc, max, sum, h, q, from, to, s, n);                                                             \
    }

/* kernels.attend but for tiles[QUERY_TILE + 1]: functions by size; the smallest that holds a size is used. */
ATTN_INLINE void attend_by(attn_tile_fn *const *tiles, float *acc, float *max, float *sum, const struct attn_head *h,
                           const float *q, size_t q_stride, int n_tokens, int chunk_from, int chunk_to,
                           struct attn_scratch *s)
{
    int n = n_tokens * h->group;
    for (int i = 0; i < n; i += QUERY_TILE) {
        struct query_tile tile = {.first = i, .n = n - i < QUERY_TILE ? n - i : QUERY_TILE};
        int size = tile.n;
        while (!tiles[size]) size++;
        queries_pack(s, h, &tile, q, q_stride, size);
        tiles[size](acc + i * h->dim_v, max + i, sum + i, h, &tile, chunk_from, chunk_to, s);
    }
}

#endif
