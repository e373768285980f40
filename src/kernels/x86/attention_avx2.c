/* attention_avx2: attention over paged KV in 16-bit fixed point (attn_page.h). Queries (tokens times heads of the
 * group) go in tiles of up to six. A tile's scores over a chunk are float; their softmax weights, times the scales of
 * the values, become 14-bit integers with one scale per 64 keys. The float operations of a query are the same, in the
 * same order, whatever the tile is. */
#include <math.h>

#include "kernels/attn_page.h"
#include "kernels/x86/matmul_avx2.h"
#include "kernels/x86/simd_avx2.h"

#define QUERY_TILE 6
#define SCORE_STRIDE (KV_CHUNK_TOKENS + 16) /* not a power of two: rows must not share cache sets */
#define BLOCK_VECTORS (ATTN_BLOCK / 8)

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

static size_t attn_scratch_bytes(int group, int dim_k, int dim_v)
{
    (void)group;
    return sizeof(struct attn_scratch) + (size_t)(dim_k / 2 + dim_v) * QUERY_TILE * sizeof(int32_t);
}

/* ---- quantising ---- */

static float abs_max(const float *x, int n)
{
    __m256 max = _mm256_setzero_ps();
    for (int i = 0; i < n; i += 8) max = _mm256_max_ps(abs_f32(_mm256_loadu_ps(x + i)), max);
    return fminf(max_lanes(max), ATTN_HUGE);
}

/* codes[n] of x[n]; returns the scale. */
static float quantize(int16_t *codes, const float *x, int n, float max, int limit)
{
    const bool zero = !(max > ATTN_TINY);
    const __m256 inverse = _mm256_set1_ps(zero ? 0 : (float)limit / max);
    const __m256i top = _mm256_set1_epi32(limit), bottom = _mm256_set1_epi32(-limit);
    for (int i = 0; i < n; i += 8) {
        __m256i v = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + i), inverse));
        v = _mm256_max_epi32(_mm256_min_epi32(v, top), bottom); /* infinities and NaN */
        __m128i half = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
        _mm_storeu_si128((__m128i *)(void *)(codes + i), half);
    }
    return zero ? 0 : max / (float)limit;
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
    for (int d = 0; d < v_dims; d += 8) {
        if (d < dim_v) *scales = quantize(codes, v + d, 8, max, VALUE_MAX);
        for (int i = 0; i < 8; i++) to[(d + i) * 2] = d < dim_v ? codes[i] : 0;
    }
}

/* q[pair][size] and their scales, times the scale of scores. */
static void queries_pack(struct attn_scratch *s, const struct attn_head *h, const struct query_tile *tile,
                         const float *q, size_t q_stride)
{
    int16_t codes[ATTN_BLOCK];
    for (int t = 0; t < tile->n; t++) {
        int i = tile->first + t;
        const float *row = q + (size_t)(i / h->group) * q_stride + i % h->group * h->dim_k;
        for (int d = 0; d < h->dim_k; d += ATTN_BLOCK) {
            int n = h->dim_k - d < ATTN_BLOCK ? h->dim_k - d : ATTN_BLOCK;
            s->q_scale[d / ATTN_BLOCK][t] = quantize(codes, row + d, n, abs_max(row + d, n), QUERY_MAX) * h->scale;
            int32_t *to = s->q + d / 2 * tile->n + t;
            for (int j = 0; j < n; j += 2, to += tile->n) memcpy(to, codes + j, 4);
        }
    }
}

/* ---- scores ---- */

/* scores[t][at + slot ...] of n queries over 8 * nk slots of a page (n and nk constant). */
AVX2_INLINE void score_slots(struct attn_scratch *s, const struct attn_head *h, const uint8_t *page, int slot, int at,
                             const int n, const int nk)
{
    const int32_t *q = s->q;
    const float *scales = attn_k_scales(page, h->dim_k, h->dim_v) + slot;
    for (int block = 0, d = 0; d < h->dim_k; block++, scales += SLOTS) {
        __m256i c[QUERY_TILE][4];
        const int end = h->dim_k - d < ATTN_BLOCK ? h->dim_k : d + ATTN_BLOCK;
        UNROLL
        for (int t = 0; t < n; t++) {
            UNROLL
            for (int i = 0; i < nk; i++) c[t][i] = _mm256_setzero_si256();
        }
        for (; d < end; d += 2, q += n) {
            __m256i k[4];
            UNROLL
            for (int i = 0; i < nk; i++) k[i] = load_256(page + (d / 2 * SLOTS + slot + 8 * i) * 4);
            UNROLL
            for (int t = 0; t < n; t++) {
                __m256i x = broadcast_32(q + t);
                UNROLL
                for (int i = 0; i < nk; i++) c[t][i] = mad_s16(c[t][i], k[i], x);
            }
        }
        UNROLL
        for (int t = 0; t < n; t++) {
            UNROLL
            for (int i = 0; i < nk; i++) {
                float *to = &s->scores[t][at + slot + 8 * i];
                __m256 both = _mm256_mul_ps(_mm256_loadu_ps(scales + 8 * i), broadcast_f32(&s->q_scale[block][t]));
                __m256 f = block ? _mm256_loadu_ps(to) : _mm256_setzero_ps();
                _mm256_storeu_ps(to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(c[t][i]), both, f));
            }
        }
    }
}

AVX2_INLINE void score_all(struct attn_scratch *s, const struct attn_head *h, const struct query_tile *q, const int n)
{
    const int nk = n <= 3 ? 4 : 2;
    const size_t bytes = attn_page_bytes(h->dim_k, h->dim_v);
    for (int token = q->from / SLOTS * SLOTS; token < q->to; token += SLOTS) {
        const uint8_t *page = attn_page_at(h, token);
        if (n <= 4 && token + 2 * SLOTS < q->to) { /* pages lie far apart: the hardware does not see them coming */
            const uint8_t *next = attn_page_at(h, token + 2 * SLOTS);
            for (size_t i = 0; i < bytes; i += 64) _mm_prefetch((const char *)next + i, _MM_HINT_T1);
        }
        for (int slot = 0; slot < SLOTS; slot += 8 * nk) score_slots(s, h, page, slot, token - q->base, n, nk);
    }
}

/* ---- softmax ---- */

/* 2^x for x <= 0 or a little above, 2^-126 for less: x = whole + r, 0 <= r < 1; minimax of degree 5, relative error
 * below 1e-7. */
AVX2_INLINE __m256 exp2_f32(__m256 x)
{
    x = _mm256_max_ps(x, _mm256_set1_ps(-126.0f));
    __m256 whole = _mm256_floor_ps(x), r = _mm256_sub_ps(x, whole);
    __m256 p = _mm256_set1_ps(1.87757664e-3f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.98934016e-3f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.5826318e-2f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(2.40153617e-1f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(6.93153073e-1f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(9.99999925e-1f));
    return _mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(p), _mm256_slli_epi32(_mm256_cvtps_epi32(whole), 23)));
}

/* Lanes i .. i + 7 that lie in [from, to). */
AVX2_INLINE __m256 seen(int from, int to, int i)
{
    __m256i at = _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(i));
    return _mm256_castsi256_ps(_mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(from), at),
                                                   _mm256_cmpgt_epi32(_mm256_set1_epi32(to), at)));
}

/* The largest of row[from, to), after the soft cap. */
static float row_max(float *row, int from, int to, float cap)
{
    const __m256 lowest = _mm256_set1_ps(-INFINITY);
    __m256 max = lowest;
    for (int i = from & ~7; i < to; i += 8) {
        __m256 v = _mm256_loadu_ps(row + i);
        if (cap > 0) {
            v = _mm256_mul_ps(_mm256_set1_ps(cap), tanh_f32(_mm256_div_ps(v, _mm256_set1_ps(cap))));
            _mm256_storeu_ps(row + i, v);
        }
        if (i < from || i + 8 > to) v = _mm256_blendv_ps(lowest, v, seen(from, to, i));
        max = _mm256_max_ps(max, v);
    }
    return max_lanes(max);
}

/* weights of 64 keys, those outside [from, to) zero; returns their scale. Adds to *sum. v_scales: of the two pages. */
AVX2_INLINE float block_weights(int16_t *weights, __m256 *sum, const float *row, const float *const *v_scales,
                                __m256 offset, int from, int to, const bool whole)
{
    const __m256 log2e = _mm256_set1_ps(1.44269504f);
    __m256 max = _mm256_setzero_ps();
    float w[ATTN_BLOCK];
    UNROLL
    for (int i = 0; i < BLOCK_VECTORS; i++) {
        __m256 p = exp2_f32(_mm256_fmadd_ps(_mm256_loadu_ps(row + 8 * i), log2e, offset));
        __m256 scale = _mm256_loadu_ps(v_scales[i / 4] + i % 4 * 8);
        if (!whole) {
            __m256 in = seen(from, to, 8 * i);
            p = _mm256_and_ps(p, in);
            scale = _mm256_and_ps(scale, in);
        }
        *sum = _mm256_add_ps(*sum, p);
        p = _mm256_mul_ps(p, scale);
        max = _mm256_max_ps(max, p);
        _mm256_storeu_ps(w + 8 * i, p);
    }
    float top = max_lanes(max);
    const bool zero = !(top > ATTN_TINY);
    const __m256 inverse = _mm256_set1_ps(zero ? 0 : WEIGHT_MAX / top);
    UNROLL
    for (int i = 0; i < BLOCK_VECTORS; i += 2) {
        __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(w + 8 * i), inverse));
        __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(w + 8 * i + 8), inverse));
        store_256(weights + 8 * i, _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8));
    }
    return zero ? 0 : top * (1.0f / WEIGHT_MAX);
}

/* The weights of query t over the blocks that hold [q->from, q->to). */
static void row_weights(struct attn_scratch *s, float *max_out, float *sum_out, const struct attn_head *h,
                        const struct query_tile *q, int t, int from, int to)
{
    float *row = s->scores[t], max = row_max(row, from, to, h->softcap);
    __m256 sum = _mm256_setzero_ps(), offset = _mm256_set1_ps(max * -1.44269504f);
    for (int b = (q->from - q->base) / ATTN_BLOCK; b * ATTN_BLOCK < q->to - q->base; b++) {
        int at = b * ATTN_BLOCK, key = q->base + at;
        const float *v_scales[2];
        for (int i = 0; i < 2; i++) /* a page that nobody sees may not be there: the first one then stands for it */
            v_scales[i] =
                attn_v_scales(attn_page_at(h, key + i * SLOTS < q->to ? key + i * SLOTS : key), h->dim_k, h->dim_v);
        s->weight_scale[t][b] =
            from <= at && to >= at + ATTN_BLOCK
                ? block_weights(s->weights[t] + at, &sum, row + at, v_scales, offset, 0, ATTN_BLOCK, true)
                : block_weights(s->weights[t] + at, &sum, row + at, v_scales, offset, from - at, to - at, false);
    }
    *max_out = max;
    *sum_out = sum_lanes(sum);
}

/* ---- values ---- */

/* c[t] += weights times a page's values, nv vectors of them (n and nv constant) */
AVX2_INLINE void weigh_page(__m256i c[QUERY_TILE][4], const struct attn_scratch *s, const int16_t *v, int at,
                            int v_dims, const int n, const int nv)
{
    for (int pair = 0; pair < SLOTS / 2; pair++, v += 2 * v_dims) {
        __m256i x[4];
        UNROLL
        for (int i = 0; i < nv; i++) x[i] = load_256(v + 16 * i);
        UNROLL
        for (int t = 0; t < n; t++) {
            __m256i w = broadcast_32(&s->weights[t][at + 2 * pair]);
            UNROLL
            for (int i = 0; i < nv; i++) c[t][i] = mad_s16(c[t][i], x[i], w);
        }
    }
}

/* acc[n][dim_v] = weights times values, 8 * nv elements from d on. */
AVX2_INLINE void weigh(float *acc, const struct attn_scratch *s, const struct attn_head *h, const struct query_tile *q,
                       const int n, const int nv, int d)
{
    const int v_dims = attn_v_dims(h->dim_v), first = (q->from - q->base) / ATTN_BLOCK;
    for (int b = first; b * ATTN_BLOCK < q->to - q->base; b++) {
        __m256i c[QUERY_TILE][4];
        UNROLL
        for (int t = 0; t < n; t++) {
            UNROLL
            for (int i = 0; i < nv; i++) c[t][i] = _mm256_setzero_si256();
        }
        for (int at = b * ATTN_BLOCK; at < (b + 1) * ATTN_BLOCK; at += SLOTS) {
            if (q->base + at + SLOTS <= q->from || q->base + at >= q->to) continue;
            const int16_t *v = (const int16_t *)(const void *)attn_page_at(h, q->base + at);
            weigh_page(c, s, v + SLOTS * h->dim_k + 2 * d, at, v_dims, n, nv);
        }
        UNROLL
        for (int t = 0; t < n; t++) {
            __m256 scale = broadcast_f32(&s->weight_scale[t][b]);
            UNROLL
            for (int i = 0; i < nv; i++) {
                float *to = acc + t * h->dim_v + d + 8 * i;
                __m256 f = b == first ? _mm256_setzero_ps() : _mm256_loadu_ps(to);
                _mm256_storeu_ps(to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(c[t][i]), scale, f));
            }
        }
    }
}

AVX2_INLINE void weigh_all(float *acc, const struct attn_scratch *s, const struct attn_head *h,
                           const struct query_tile *q, const int n)
{
    const int wide = n <= 3 ? 4 : 2;
    int d = 0;
    for (; d + 8 * wide <= h->dim_v; d += 8 * wide) weigh(acc, s, h, q, n, wide, d);
    for (; d < h->dim_v; d += 8) weigh(acc, s, h, q, n, 1, d);
}

/* ---- tiles ---- */

/* One chunk. */
AVX2_INLINE void chunk_run(float *acc, float *max, float *sum, const struct attn_head *h, const struct query_tile *q,
                           struct attn_scratch *s, const int n)
{
    score_all(s, h, q, n);
    for (int t = 0; t < n; t++) {
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

/* exp of numbers that are not above 0. */
static float exp_one(float x)
{
    return x < -87 ? 0 : _mm256_cvtss_f32(exp2_f32(_mm256_set1_ps(x * 1.44269504f)));
}

static void attn_merge(float *acc, float *max, float *sum, const float *more_acc, const float *more_max,
                       const float *more_sum, int n, int dim_v)
{
    for (int i = 0; i < n; i++, acc += dim_v, more_acc += dim_v) {
        if (more_max[i] == -INFINITY) continue;
        if (max[i] == -INFINITY) { /* exactly what a query alone gives, which begins with this chunk */
            max[i] = more_max[i], sum[i] = more_sum[i];
            memcpy(acc, more_acc, (size_t)dim_v * sizeof *acc);
            continue;
        }
        float both = max[i] > more_max[i] ? max[i] : more_max[i];
        float a = exp_one(max[i] - both), b = exp_one(more_max[i] - both);
        max[i] = both;
        sum[i] = sum[i] * a + more_sum[i] * b;
        for (int d = 0; d < dim_v; d += 8) {
            __m256 old = _mm256_mul_ps(_mm256_loadu_ps(acc + d), _mm256_set1_ps(a));
            _mm256_storeu_ps(acc + d, _mm256_fmadd_ps(_mm256_loadu_ps(more_acc + d), _mm256_set1_ps(b), old));
        }
    }
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

AVX2_INLINE void tile_run(float *acc, float *max, float *sum, const struct attn_head *h, struct query_tile *q,
                          int chunk_from, int chunk_to, struct attn_scratch *s, const int n)
{
    float *more = (float *)(void *)(s->q + h->dim_k / 2 * QUERY_TILE), more_max[QUERY_TILE], more_sum[QUERY_TILE];
    bool any = false;
    for (int chunk = chunk_from; chunk < chunk_to; chunk++) {
        if (!tile_keys(q, h, chunk)) continue;
        if (any) {
            chunk_run(more, more_max, more_sum, h, q, s, n);
            attn_merge(acc, max, sum, more, more_max, more_sum, n, h->dim_v);
        } else {
            chunk_run(acc, max, sum, h, q, s, n);
        }
        any = true;
    }
    if (any) return;
    for (int t = 0; t < n; t++) max[t] = -INFINITY, sum[t] = 0;
    memset(acc, 0, (size_t)(n * h->dim_v) * sizeof *acc);
}

#define DEFINE_TILE(n)                                                                                             \
    static __attribute__((noinline)) void tile_##n(float *acc, float *max, float *sum, const struct attn_head *h,  \
                                                   struct query_tile *q, int from, int to, struct attn_scratch *s) \
    {                                                                                                              \
        tile_run(acc, max, sum, h, q, from, to, s, n);                                                             \
    }
DEFINE_TILE(1)
DEFINE_TILE(2)
DEFINE_TILE(3)
DEFINE_TILE(4)
DEFINE_TILE(5)
DEFINE_TILE(6)
typedef void tile_fn(float *acc, float *max, float *sum, const struct attn_head *h, struct query_tile *q, int from,
                     int to, struct attn_scratch *s);
static tile_fn *const tiles[QUERY_TILE] = {tile_1, tile_2, tile_3, tile_4, tile_5, tile_6};

static void attend(float *acc, float *max, float *sum, const struct attn_head *h, const float *q, size_t q_stride,
                   int n_tokens, int chunk_from, int chunk_to, void *scratch)
{
    struct attn_scratch *s = scratch;
    int n = n_tokens * h->group;
    for (int i = 0; i < n; i += QUERY_TILE) {
        struct query_tile tile = {.first = i, .n = n - i < QUERY_TILE ? n - i : QUERY_TILE};
        queries_pack(s, h, &tile, q, q_stride);
        tiles[tile.n - 1](acc + i * h->dim_v, max + i, sum + i, h, &tile, chunk_from, chunk_to, s);
    }
}

void attn_init_avx2(struct kernels *k)
{
    k->kv_page_bytes = attn_page_bytes;
    k->kv_store = kv_store;
    k->attend = attend;
    k->attn_merge = attn_merge;
    k->attn_scratch_bytes = attn_scratch_bytes;
}
