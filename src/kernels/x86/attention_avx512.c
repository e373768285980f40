/* attention_avx512: attention over paged KV in f16. A page is K transposed, [dim_k][32 tokens], then V,
 * [32 tokens][dim_v rounded up to 16], so that both products read whole vectors: scores of 32 keys per step of d, then
 * 32 or 64 output values per token. Queries (tokens times heads of the group) go in tiles of up to twelve; each query's
 * sums run in the same order whatever the tile is. Scores are float, K and V are widened as they are read. */
#include <math.h>
#include <string.h>

#include "kernels/x86/panels_avx512.h"

#define QUERY_TILE 12
#define SCORE_STRIDE (KV_CHUNK_TOKENS + 16) /* not a power of two: rows must not share cache sets */

struct attn_scratch {
    float scores[QUERY_TILE][SCORE_STRIDE];
    float q[]; /* [dim_k][tile] scaled */
};

INLINE int v_stride(int dim_v)
{
    return (dim_v + 15) / 16 * 16;
}

static size_t kv_page_bytes(int dim_k, int dim_v)
{
    return (size_t)KV_PAGE_TOKENS * (size_t)(dim_k + v_stride(dim_v)) * sizeof(uint16_t);
}

static void kv_store(void *page, const float *k, const float *v, int slot, int dim_k, int dim_v)
{
    uint16_t *to = (uint16_t *)page + slot, halves[16];
    for (int d = 0; d < dim_k; d += 16) {
        int n = dim_k - d < 16 ? dim_k - d : 16;
        _mm256_storeu_si256((__m256i *)halves,
                            _mm512_cvtps_ph(_mm512_maskz_loadu_ps(lanes(n), k + d), _MM_FROUND_TO_NEAREST_INT));
        for (int i = 0; i < n; i++) to[(d + i) * KV_PAGE_TOKENS] = halves[i];
    }
    to = (uint16_t *)page + KV_PAGE_TOKENS * dim_k + slot * v_stride(dim_v);
    for (int d = 0; d < dim_v; d += 16) /* the padding gets zeros */
        _mm256_storeu_si256((__m256i *)(to + d),
                            _mm512_cvtps_ph(_mm512_maskz_loadu_ps(lanes(dim_v - d), v + d), _MM_FROUND_TO_NEAREST_INT));
}

static size_t attn_scratch_bytes(int group, int dim_k, int dim_v)
{
    (void)group;
    (void)dim_v;
    return sizeof(struct attn_scratch) + (size_t)dim_k * QUERY_TILE * sizeof(float);
}

INLINE const uint16_t *page_at(const struct attn_head *h, int token)
{
    return (const uint16_t *)(h->pages + (size_t)h->table[token / KV_PAGE_TOKENS] * h->page_stride);
}

/* scores[t][token - base] of n queries for the pages that hold [from, to). */
INLINE void score(struct attn_scratch *s, const struct attn_head *h, int base, int from, int to, const int n)
{
    for (int token = from / KV_PAGE_TOKENS * KV_PAGE_TOKENS; token < to; token += KV_PAGE_TOKENS) {
        const uint16_t *k = page_at(h, token);
        const float *q = s->q;
        __m512 f[QUERY_TILE][2];
#pragma GCC unroll 12
        for (int t = 0; t < n; t++) f[t][0] = f[t][1] = _mm512_setzero_ps();
        for (int d = 0; d < h->dim_k; d++, k += KV_PAGE_TOKENS, q += n) {
            __m512 k0 = load_f16(k), k1 = load_f16(k + 16);
#pragma GCC unroll 12
            for (int t = 0; t < n; t++) {
                __m512 x = _mm512_set1_ps(q[t]);
                f[t][0] = _mm512_fmadd_ps(k0, x, f[t][0]);
                f[t][1] = _mm512_fmadd_ps(k1, x, f[t][1]);
            }
        }
#pragma GCC unroll 12
        for (int t = 0; t < n; t++) {
            _mm512_storeu_ps(&s->scores[t][token - base], f[t][0]);
            _mm512_storeu_ps(&s->scores[t][token - base + 16], f[t][1]);
        }
    }
}

/* acc rows (dim_v floats each, n_out of them) = sum of scores times V over tokens [from, to), nv vectors of d at a
 * time. */
INLINE void weigh(float *acc, const struct attn_scratch *s, const struct attn_head *h, int base, int from, int to,
                  int n_out, const int n, const int nv, int d)
{
    const int stride = v_stride(h->dim_v);
    __m512 f[QUERY_TILE][4];
#pragma GCC unroll 12
    for (int t = 0; t < n; t++)
#pragma GCC unroll 4
        for (int i = 0; i < nv; i++) f[t][i] = _mm512_setzero_ps();
    for (int token = from; token < to;) {
        const uint16_t *v = page_at(h, token) + KV_PAGE_TOKENS * h->dim_k + token % KV_PAGE_TOKENS * stride + d;
        int end = token / KV_PAGE_TOKENS * KV_PAGE_TOKENS + KV_PAGE_TOKENS;
        for (end = end < to ? end : to; token < end; token++, v += stride) {
            __m512 x[4];
#pragma GCC unroll 4
            for (int i = 0; i < nv; i++) x[i] = load_f16(v + 16 * i);
#pragma GCC unroll 12
            for (int t = 0; t < n; t++) {
                __m512 p = _mm512_set1_ps(s->scores[t][token - base]);
#pragma GCC unroll 4
                for (int i = 0; i < nv; i++) f[t][i] = _mm512_fmadd_ps(x[i], p, f[t][i]);
            }
        }
    }
#pragma GCC unroll 12
    for (int t = 0; t < n; t++)
#pragma GCC unroll 4
        for (int i = 0; i < nv; i++)
            if (t < n_out)
                _mm512_mask_storeu_ps(acc + t * h->dim_v + d + 16 * i, lanes(h->dim_v - d - 16 * i), f[t][i]);
}

INLINE void weigh_all(float *acc, const struct attn_scratch *s, const struct attn_head *h, int base, int from, int to,
                      int n_out, const int n)
{
    const int wide = n <= 6 ? 4 : 2; /* vectors at a time, as registers allow */
    int d = 0, end = v_stride(h->dim_v);
    for (; d + 16 * wide <= end; d += 16 * wide) weigh(acc, s, h, base, from, to, n_out, n, wide, d);
    for (; d < end; d += 16) weigh(acc, s, h, base, from, to, n_out, n, 1, d);
}

/* The keys of a chunk that a query sees, as [from, to). */
static void visible(int *from, int *to, const struct attn_head *h, int token, int chunk)
{
    int last = h->pos + token;
    *from = chunk * KV_CHUNK_TOKENS;
    *to = *from + KV_CHUNK_TOKENS;
    if (h->window && last - h->window + 1 > *from) *from = last - h->window + 1;
    if (last + 1 < *to) *to = last + 1;
    if (*to < *from) *to = *from;
}

/* exp(score - max) within [from, to), 0 elsewhere in [all_from, all_to) rounded out to vectors. */
static void softmax_row(float *row, float *max_out, float *sum_out, int from, int to, int all_from, int all_to,
                        float cap)
{
    __m512 max = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    for (int i = from & ~15; i < to; i += 16) {
        __mmask16 k = (__mmask16)(lanes(to - i) & ~lanes(from - i));
        __m512 v = _mm512_loadu_ps(row + i);
        if (cap > 0) {
            v = _mm512_mul_ps(_mm512_set1_ps(cap), tanh_ps(_mm512_div_ps(v, _mm512_set1_ps(cap))));
            _mm512_storeu_ps(row + i, v);
        }
        max = _mm512_mask_max_ps(max, k, max, v);
    }
    *max_out = _mm512_reduce_max_ps(max);
    const __m512 top = _mm512_set1_ps(*max_out);
    for (int i = all_from & ~15; i < all_to; i += 16) {
        __mmask16 k = (__mmask16)(lanes(to - i) & ~lanes(from - i));
        __m512 p = _mm512_maskz_mov_ps(k, exp_ps(_mm512_sub_ps(_mm512_loadu_ps(row + i), top)));
        _mm512_storeu_ps(row + i, p);
        sum = _mm512_add_ps(sum, p);
    }
    *sum_out = _mm512_reduce_add_ps(sum);
}

struct query_tile {
    int first, n; /* queries [first, first + n) of token * group + head */
    int from, to; /* keys that any of them sees */
};

INLINE void tile_run(float *acc, float *max, float *sum, const struct attn_head *h, const struct query_tile *q,
                     int chunk, struct attn_scratch *s, const int n)
{
    int base = chunk * KV_CHUNK_TOKENS;
    score(s, h, base, q->from, q->to, n);
    for (int t = 0; t < q->n; t++) {
        int from, to, i = q->first + t;
        visible(&from, &to, h, i / h->group, chunk);
        softmax_row(s->scores[t], &max[i], &sum[i], from - base, to - base, q->from - base, q->to - base, h->softcap);
    }
    for (int t = q->n; t < n; t++) memset(s->scores[t], 0, KV_CHUNK_TOKENS * sizeof(float));
    weigh_all(acc + q->first * h->dim_v, s, h, base, q->from, q->to, q->n, n);
}

static int tile_size(int n)
{
    return n <= 4 ? n : n <= 8 ? (n + 1) / 2 * 2 : QUERY_TILE;
}

/* q[d][size] = scale times the queries; the padding is zero. */
static void queries_pack(struct attn_scratch *s, const struct attn_head *h, const struct query_tile *tile,
                         const float *q, size_t q_stride, int size)
{
    for (int t = 0; t < size; t++) {
        int i = tile->first + t;
        const float *from = t < tile->n ? q + (size_t)(i / h->group) * q_stride + i % h->group * h->dim_k : NULL;
        for (int d = 0; d < h->dim_k; d++) s->q[d * size + t] = from ? from[d] * h->scale : 0;
    }
}

static void attend(float *acc, float *max, float *sum, const struct attn_head *h, const float *q, size_t q_stride,
                   int n_tokens, int chunk, void *scratch)
{
    struct attn_scratch *s = scratch;
    int n = n_tokens * h->group;
    for (int i = 0; i < n; i += QUERY_TILE) {
        int last_from;
        struct query_tile tile = {.first = i, .n = n - i < QUERY_TILE ? n - i : QUERY_TILE};
        visible(&tile.from, &tile.to, h, i / h->group, chunk);
        visible(&last_from, &tile.to, h, (i + tile.n - 1) / h->group, chunk);
        if (tile.from >= (chunk + 1) * KV_CHUNK_TOKENS || tile.to <= tile.from) { /* nothing of the chunk */
            for (int t = i; t < i + tile.n; t++) max[t] = -INFINITY, sum[t] = 0;
            memset(acc + i * h->dim_v, 0, (size_t)(tile.n * h->dim_v) * sizeof *acc);
            continue;
        }
        int size = tile_size(tile.n);
        queries_pack(s, h, &tile, q, q_stride, size);
        switch (size) {
        case 1: tile_run(acc, max, sum, h, &tile, chunk, s, 1); break;
        case 2: tile_run(acc, max, sum, h, &tile, chunk, s, 2); break;
        case 3: tile_run(acc, max, sum, h, &tile, chunk, s, 3); break;
        case 4: tile_run(acc, max, sum, h, &tile, chunk, s, 4); break;
        case 6: tile_run(acc, max, sum, h, &tile, chunk, s, 6); break;
        case 8: tile_run(acc, max, sum, h, &tile, chunk, s, 8); break;
        default: tile_run(acc, max, sum, h, &tile, chunk, s, QUERY_TILE); break;
        }
    }
}

void kernels_fill_avx512_attention(struct kernels *k)
{
    k->kv_page_bytes = kv_page_bytes;
    k->kv_store = kv_store;
    k->attn_scratch_bytes = attn_scratch_bytes;
    k->attend = attend;
}
