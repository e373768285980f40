/* attn_outline: attention over paged KV as the vector levels do it (attn_page.h says how numbers are kept): storing,
 * packing queries, the walk over chunks. Queries (tokens times heads of the group) go in tiles of up to QUERY_TILE. A
 * tile's scores over a chunk are float; their softmax weights, times the scales of the values, become 13-bit integers
 * with one scale per 128 keys. The float operations of a query are the same, in the same order, whatever the tile is.
 *
 * A level defines QUERY_TILE and SUM_LANES, includes this file and defines the vector parts that are declared below
 * (and those of attn_common.h); ATTN_DEFINE_PARTS makes a function of the two that depend on the tile's size, so that
 * their loops have constant bounds. */
#ifndef KERNELS_ATTN_OUTLINE_H
#define KERNELS_ATTN_OUTLINE_H

#include "kernels/attn_common.h"
#include "kernels/attn_page.h"

#define ATTN_INLINE static inline __attribute__((always_inline))
#define SCORE_STRIDE (KV_CHUNK_TOKENS + 16) /* not powers of two: rows must not share cache sets */
#define WEIGHT_STRIDE (KV_CHUNK_TOKENS + 32)

struct query_tile {
    int first, n;           /* queries [first, first + n) of token * group + head */
    int base;               /* first key of the chunk */
    int from, to;           /* keys of the chunk that any of them sees */
    bool streams;           /* reads a chunk that nobody has fetched: it fetches its pages ahead itself */
    int turn, turns;        /* which of the tiles that read a chunk one after the other */
    int next_from, next_to; /* keys of the chunk after it, which the tiles fetch meanwhile; none: equal */
    bool any;               /* has seen a chunk: there is a result to merge with */
    float *q_scale;         /* [blocks of 64][QUERY_TILE] */
    int32_t *q;             /* [dim_k / 2][size of the tile]: pairs of codes */
};

struct value_scales {                        /* of a block of values */
    const float *page[WEIGHT_BLOCK / SLOTS]; /* 32 each */
    float largest;
    bool even;                    /* none is less than a quarter of the largest */
    int16_t shares[WEIGHT_BLOCK]; /* of the largest, in 1/SHARE_ONE */
};

struct attn_scratch {
    float scores[QUERY_TILE][SCORE_STRIDE];
    int16_t weights[QUERY_TILE][WEIGHT_STRIDE];
    float weight_scale[QUERY_TILE][ATTN_CHUNK_BLOCKS];
    struct value_scales values[ATTN_CHUNK_BLOCKS];
    float maxima[QUERY_TILE][ATTN_CHUNK_BLOCKS]; /* what the weights of blocks count from */
    int32_t sums[QUERY_TILE][ATTN_CHUNK_BLOCKS]; /* of the weights without shares */
    float more[]; /* [QUERY_TILE][v_dims]: the result of a chunk; then struct query_tile of all tiles, then theirs */
};

#define FETCH_AHEAD (2 * SLOTS)

/* Pages lie far from each other, so the hardware does not see the next ones coming: while one is read, another is
 * fetched, line by line. Where several tiles read a chunk one after the other, all of them fetch from the chunk after
 * it, each its part of every page, for a core's products are faster than its memory. A tile that streams fetches the
 * page that comes FETCH_AHEAD later: keys (then the first values) while keys are read, values while values are. */
struct attn_fetch {
    const uint8_t *page; /* its keys, or values; with nothing to fetch those that are read: that costs nothing */
    int turn, turns;     /* which part of it */
};
#define NO_TURNS 1024 /* parts of less than a byte */

/* Where to begin with a region of the page, and how far to go for every vector of so many bytes that is read. */
static inline const uint8_t *attn_fetch_from(const struct attn_fetch *f, int offset, int bytes)
{
    return f->page + offset + f->turn * bytes / f->turns;
}
static inline int attn_fetch_step(const struct attn_fetch *f, int vector_bytes)
{
    return vector_bytes / f->turns;
}

static inline void attn_fetch_scales(const struct attn_head *h, const uint8_t *page)
{
    for (size_t i = attn_k_scale_offset(&h->kv); i < attn_page_bytes(&h->kv); i += 64)
        __builtin_prefetch(page + i, 0, 2);
}

/* The page of the next chunk that comes in the place of the one of `token`. */
static inline struct attn_fetch attn_shared_fetch(const struct attn_head *h, const struct query_tile *q, int token)
{
    int next = token - q->base + q->next_from / KV_CHUNK_TOKENS * KV_CHUNK_TOKENS;
    if (next + SLOTS <= q->next_from || next >= q->next_to)
        return (struct attn_fetch){attn_page_at(h, token), 0, NO_TURNS};
    return (struct attn_fetch){attn_page_at(h, next), q->turn, q->turns};
}

static inline struct attn_fetch attn_fetch_keys(const struct attn_head *h, const struct query_tile *q, int token)
{
    struct attn_fetch f = {.turns = 1};
    int next = token + FETCH_AHEAD, first = q->from / SLOTS * SLOTS;
    if (!q->streams) {
        f = attn_shared_fetch(h, q, token);
        if (f.turns < NO_TURNS && f.turn == 0) attn_fetch_scales(h, f.page);
    } else if (next < q->to) {
        f.page = attn_page_at(h, next);
        attn_fetch_scales(h, f.page);
    } else {
        next += first - (q->to + SLOTS - 1) / SLOTS * SLOTS;
        f.page = attn_page_at(h, next < first ? first : next < q->to ? next : token) + attn_v_offset(&h->kv);
    }
    return f;
}

static inline struct attn_fetch attn_fetch_values(const struct attn_head *h, const struct query_tile *q, int token)
{
    struct attn_fetch f = {.turns = 1};
    if (q->streams) f.page = attn_page_at(h, token + FETCH_AHEAD < q->to ? token + FETCH_AHEAD : token);
    else f = attn_shared_fetch(h, q, token);
    f.page += attn_v_offset(&h->kv);
    return f;
}

/* ---- the level's parts ---- */

/* The largest magnitude of x[n], at most ATTN_HUGE. n is a multiple of 8. */
static inline float abs_max(const float *x, int n);
/* codes[n] of x[n], whose largest magnitude is max (codes up to n rounded up to 16 may be written); returns the scale:
 * x = code * scale, |code| <= limit whatever x is. */
static inline float quantize(int16_t *codes, const float *x, int n, float max, int limit);
/* row[from, to) after the soft cap: cap * tanh(score / cap). What lies before and after may change, too. */
static void row_cap(float *row, int from, int to, float cap);
/* What v->page says of keys [from, to) of the block: shares, the largest, and whether they are even. */
static inline void value_shares(struct value_scales *v, int from, int to);
/* What the weights of a row's blocks count from: one step more than the largest of their scores in [from, to);
 * -infinity: none. */
static inline void row_maxima(float maxima[ATTN_CHUNK_BLOCKS], const float *row, int from, int to);
/* The weights of a block (zero outside keys [from, to)) times shares; sums[0 .. SUM_LANES): their sum without shares,
 * by parts. */
static inline void block_weights(int16_t *weights, int32_t *sums, const float *row, float max, const int16_t *shares,
                                 int from, int to, const bool whole);
/* The same where scales are not even (the first token takes most of the weight, and its values are small): the products
 * of weights and scales count from their own largest, which is returned. */
static float uneven_weights(int16_t *weights, int32_t *sums, const float *row, float max, const struct value_scales *v,
                            int from, int to);
/* The sums of the blocks' parts. */
static inline void row_sums(int32_t sums[ATTN_CHUNK_BLOCKS], const int32_t (*parts)[SUM_LANES]);
/* The blocks of the tile's rows together: s->weight_scale *= 2^((s->maxima - the row's) / SCORE_STEPS); the rows' max
 * (as scores of kernels.attend are) and sum. Arrays of QUERY_TILE rows; those from n on hold anything. */
static inline void rows_finish(struct attn_scratch *s, float *max, float *sum, int n);
/* s->scores of the tile's n queries over the pages that hold [q->from, q->to); keys are of `type`. */
ATTN_INLINE void score_all(struct attn_scratch *s, const struct attn_head *h, const struct query_tile *q, const int n,
                           const enum kv_type type);
/* out[n][v_dims] = weights times values (of `type`) of the tile's n queries. */
ATTN_INLINE void weigh_all(float *out, const struct attn_scratch *s, const struct attn_head *h,
                           const struct query_tile *q, const int n, const enum kv_type type);

typedef void attn_score_fn(struct attn_scratch *s, const struct attn_head *h, const struct query_tile *q);
typedef void attn_weigh_fn(float *out, const struct attn_scratch *s, const struct attn_head *h,
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
    static __attribute__((noinline)) void weigh_##n##type(float *out, const struct attn_scratch *s,              \
                                                          const struct attn_head *h, const struct query_tile *q) \
    {                                                                                                            \
        weigh_all(out, s, h, q, n, type);                                                                        \
    }
#define ATTN_DEFINE_PARTS(n)                                                             \
    ATTN_DEFINE_PARTS_OF(n, KV_F16)                                                      \
    ATTN_DEFINE_PARTS_OF(n, KV_Q8_0)                                                     \
    static const struct attn_parts parts_##n = {{score_##n##KV_F16, score_##n##KV_Q8_0}, \
                                                {weigh_##n##KV_F16, weigh_##n##KV_Q8_0}};

/* ---- storing ---- */

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

/* A block of a key, or of a query that meets such keys, as it is quantised: x itself, or rotated. */
static inline const float *key_block(float *rotated, const float *x, int n, enum kv_type type)
{
    if (type != KV_Q8_0) return x;
    attn_rotated_block(rotated, x, n);
    return rotated;
}

static void kv_store(void *page, const struct kv_form *kv, const float *k, const float *v, int slot)
{
    float rotated[ATTN_BLOCK];
    int16_t codes[ATTN_BLOCK];
    const int key_size = attn_code_size(kv->type_k);
    uint8_t *to = (uint8_t *)page + slot * 2 * key_size;
    float *scale = (float *)(void *)((uint8_t *)page + attn_k_scale_offset(kv)) + slot;
    for (int d = 0; d < kv->dim_k; d += ATTN_BLOCK, scale += SLOTS) {
        int n = kv->dim_k - d < ATTN_BLOCK ? kv->dim_k - d : ATTN_BLOCK;
        const float *x = key_block(rotated, k + d, n, kv->type_k);
        *scale = quantize(codes, x, n, abs_max(x, n), attn_key_max(kv->type_k));
        pairs_store(to + d * SLOTS * key_size, codes, n / 2, kv->type_k);
    }
    const int v_dims = attn_v_dims(kv->dim_v), value_size = attn_code_size(kv->type_v);
    to = (uint8_t *)page + attn_v_offset(kv);
    scale = (float *)(void *)((uint8_t *)page + attn_v_scale_offset(kv)) + slot;
    float max = abs_max(v, kv->dim_v);
    for (int d = 0; d < v_dims; d += 16) {
        int n = kv->dim_v - d < 16 ? kv->dim_v - d : 16;
        memset(codes, 0, 16 * sizeof *codes);
        *scale = quantize(codes, v + d, n, max, attn_value_max(kv->type_v));
        const int at = attn_v_at(d) + slot / 2 * 2 * attn_v_width(v_dims, d) + slot % 2;
        for (int i = 0; i < 16; i++) memcpy(to + (at + 2 * i) * value_size, codes + i, (size_t)value_size);
    }
}

/* The tile's queries and their scales, times the scale of scores; the padding up to size is zero. */
static void queries_pack(const struct query_tile *tile, const struct attn_head *h, const float *q, size_t q_stride,
                         int size)
{
    float rotated[ATTN_BLOCK];
    int16_t codes[ATTN_BLOCK];
    for (int t = 0; t < size; t++) {
        int i = tile->first + t;
        const float *row = t < tile->n ? q + (size_t)(i / h->group) * q_stride + i % h->group * h->kv.dim_k : NULL;
        for (int d = 0; d < h->kv.dim_k; d += ATTN_BLOCK) {
            int n = h->kv.dim_k - d < ATTN_BLOCK ? h->kv.dim_k - d : ATTN_BLOCK;
            memset(codes, 0, sizeof codes);
            float scale = 0;
            if (row) {
                const float *x = key_block(rotated, row + d, n, h->kv.type_k);
                scale = quantize(codes, x, n, abs_max(x, n), QUERY_MAX) * h->scale * SCORE_UNIT;
                if (x == rotated) scale /= (float)attn_rotation(n);
            }
            tile->q_scale[d / ATTN_BLOCK * QUERY_TILE + t] = scale;
            int32_t *to = tile->q + d / 2 * size + t;
            for (int j = 0; j < n; j += 2, to += size) memcpy(to, codes + j, 4);
        }
    }
}

/* ---- the walk ---- */

/* The scales of block b's values, those of keys [from, to) of the chunk. */
static void block_values(struct value_scales *v, const struct attn_head *h, const struct query_tile *q, int b, int from,
                         int to)
{
    const int at = b * WEIGHT_BLOCK, key = q->base + at;
    for (int i = 0; i < WEIGHT_BLOCK / SLOTS; i++) { /* for a page that nobody sees, and may not be there, the first */
        const uint8_t *p = attn_page_at(h, key + i * SLOTS < q->to ? key + i * SLOTS : key);
        v->page[i] = (const float *)(const void *)(p + attn_v_scale_offset(&h->kv));
    }
    value_shares(v, from - at, to - at);
}

static inline bool is_whole(int b, int from, int to)
{
    return from <= b * WEIGHT_BLOCK && to >= (b + 1) * WEIGHT_BLOCK;
}

/* The weights of query t, which sees keys [from, to) of the chunk: of all blocks of the tile, each counted from its own
 * maximum. In passes: one after the other, the maximum, the weights and the sums of a block are a long chain of
 * operations, of which a processor does not keep enough in flight. */
static void row_weights(struct attn_scratch *s, const struct attn_head *h, const struct query_tile *q, int t, int from,
                        int to)
{
    int32_t sums[ATTN_CHUNK_BLOCKS][SUM_LANES] = {{0}};
    const int last = (q->to - q->base - 1) / WEIGHT_BLOCK;
    if (h->softcap > 0) row_cap(s->scores[t], from, to, h->softcap * SCORE_UNIT);
    row_maxima(s->maxima[t], s->scores[t], from, to);
    for (int b = (q->from - q->base) / WEIGHT_BLOCK, at = b * WEIGHT_BLOCK; b <= last; b++, at += WEIGHT_BLOCK) {
        struct value_scales own, *v = &s->values[b];
        const float *row = s->scores[t] + at;
        const bool whole = is_whole(b, from, to);
        int16_t *weights = s->weights[t] + at;
        float max = s->maxima[t][b], *scale = &s->weight_scale[t][b];
        if (!whole) block_values(v = &own, h, q, b, from, to);
        *scale = v->largest * (1.0f / WEIGHT_MAX);
        if (!v->even) *scale = uneven_weights(weights, sums[b], row, max, v, from - at, to - at) * (1.0f / WEIGHT_MAX);
        else if (whole) block_weights(weights, sums[b], row, max, v->shares, 0, WEIGHT_BLOCK, true);
        else block_weights(weights, sums[b], row, max, v->shares, from - at, to - at, false);
    }
    row_sums(s->sums[t], sums);
}

/* One chunk, into s->more. */
static void chunk_run(float *max, float *sum, const struct attn_head *h, const struct query_tile *q,
                      struct attn_scratch *s, const struct attn_parts *parts)
{
    parts->score[h->kv.type_k](s, h, q);
    const int first = q->from - q->base, end = q->to - q->base;
    for (int b = (first + WEIGHT_BLOCK - 1) / WEIGHT_BLOCK; is_whole(b, first, end); b++)
        block_values(&s->values[b], h, q, b, first, end);
    for (int t = 0; t < q->n; t++) {
        int from, to;
        attn_visible(&from, &to, h, (q->first + t) / h->group, q->base / KV_CHUNK_TOKENS);
        if (from < to) {
            row_weights(s, h, q, t, from - q->base, to - q->base);
        } else {
            for (int b = 0; b < ATTN_CHUNK_BLOCKS; b++) s->maxima[t][b] = -INFINITY;
            memset(s->sums[t], 0, sizeof s->sums[t]);
            memset(s->weights[t], 0, sizeof s->weights[t]);
            memset(s->weight_scale[t], 0, sizeof s->weight_scale[t]);
        }
    }
    rows_finish(s, max, sum, q->n);
    parts->weigh[h->kv.type_v](s->more, s, h, q);
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

/* A chunk's keys and values are read by all tiles before the next chunk: they stay in the cache. */
static void tile_run(float *acc, float *max, float *sum, const struct attn_head *h, struct query_tile *q, int chunk,
                     struct attn_scratch *s, const struct attn_parts *parts)
{
    const int dim_v = h->kv.dim_v, v_dims = attn_v_dims(dim_v);
    float more_max[QUERY_TILE], more_sum[QUERY_TILE], a[MERGE_ROWS], b[MERGE_ROWS];
    if (!tile_keys(q, h, chunk)) return;
    chunk_run(more_max, more_sum, h, q, s, parts);
    for (int t = 0; t < q->n && !q->any; t++) max[t] = -INFINITY;
    merge_factors(a, b, max, more_max, q->n);
    for (int t = 0; t < q->n; t++)
        merge_one(acc + t * dim_v, &max[t], &sum[t], s->more + t * v_dims, more_max[t], more_sum[t], a[t], b[t], dim_v);
    q->any = true;
}

static int attn_tiles(int n_queries)
{
    return (n_queries + QUERY_TILE - 1) / QUERY_TILE;
}

/* Floats of a tile's queries and their scales. */
static int attn_tile_floats(int dim_k)
{
    return ((dim_k + ATTN_BLOCK - 1) / ATTN_BLOCK + dim_k / 2) * QUERY_TILE;
}

static size_t attn_scratch_bytes(int n_queries, int dim_k, int dim_v)
{
    size_t tile = sizeof(struct query_tile) + (size_t)attn_tile_floats(dim_k) * sizeof(float);
    return sizeof(struct attn_scratch) + (size_t)attn_v_dims(dim_v) * QUERY_TILE * sizeof(float) +
           (size_t)attn_tiles(n_queries) * tile;
}

/* kernels.attend but for parts[QUERY_TILE + 1], by size of the tile; the smallest that holds a size is used. */
static void attend_by(const struct attn_parts *const *parts, float *acc, float *max, float *sum,
                      const struct attn_head *h, const float *q, size_t q_stride, int n_tokens, int chunk_from,
                      int chunk_to, struct attn_scratch *s)
{
    const int n = n_tokens * h->group, n_tiles = attn_tiles(n), dim_v = h->kv.dim_v;
    struct query_tile *tiles = (struct query_tile *)(void *)(s->more + attn_v_dims(dim_v) * QUERY_TILE);
    float *rest = (float *)(void *)(tiles + n_tiles);
    int size = QUERY_TILE;
    for (int i = 0; i < n_tiles; i++, rest += attn_tile_floats(h->kv.dim_k)) {
        struct query_tile *t = &tiles[i];
        *t = (struct query_tile){.first = i * QUERY_TILE, .n = QUERY_TILE, .turn = i, .turns = n_tiles};
        if (i == n_tiles - 1) { /* the only one that is not full */
            t->n = n - t->first;
            size = t->n;
            while (!parts[size]) size++;
        }
        t->q_scale = rest;
        t->q = (int32_t *)(void *)(rest + (h->kv.dim_k + ATTN_BLOCK - 1) / ATTN_BLOCK * QUERY_TILE);
        queries_pack(t, h, q, q_stride, size);
    }
    for (int chunk = chunk_from; chunk < chunk_to; chunk++)
        for (int i = 0; i < n_tiles; i++) {
            const int first = tiles[i].first;
            tiles[i].streams = n_tiles == 1 || (i == 0 && chunk == chunk_from);
            tiles[i].next_from = tiles[i].next_to = 0;
            if (chunk + 1 < chunk_to) attn_visible(&tiles[i].next_from, &tiles[i].next_to, h, n_tokens - 1, chunk + 1);
            tile_run(acc + first * dim_v, max + first, sum + first, h, &tiles[i], chunk, s,
                     parts[i == n_tiles - 1 ? size : QUERY_TILE]);
        }
    for (int i = 0; i < n_tiles; i++) {
        if (tiles[i].any) continue;
        for (int t = tiles[i].first; t < tiles[i].first + tiles[i].n; t++) max[t] = -INFINITY, sum[t] = 0;
        memset(acc + tiles[i].first * dim_v, 0, (size_t)(tiles[i].n * dim_v) * sizeof *acc);
    }
}

#endif
