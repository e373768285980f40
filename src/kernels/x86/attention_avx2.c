/* attention_avx2: the vector parts of attention (attn_outline.h), eight lanes, products by VPMADDWD. */
#define QUERY_TILE 6
#include "kernels/attn_outline.h"
#include "kernels/x86/matmul_avx2.h"
#include "kernels/x86/simd_avx2.h"

#define BLOCK_VECTORS (ATTN_BLOCK / 8)

/* ---- quantising ---- */

AVX2_INLINE float abs_max(const float *x, int n)
{
    __m256 max = _mm256_setzero_ps();
    for (int i = 0; i < n; i += 8) max = _mm256_max_ps(abs_f32(_mm256_loadu_ps(x + i)), max);
    return fminf(max_lanes(max), ATTN_HUGE);
}

AVX2_INLINE float quantize(int16_t *codes, const float *x, int n, float max, int limit)
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

/* ---- scores ---- */

/* Pairs of 16 codes. */
AVX2_INLINE __m256i load_codes(const uint8_t *p, const enum kv_type type)
{
    return type == KV_Q8_0 ? _mm256_cvtepi8_epi16(load_128(p)) : load_256(p);
}

/* scores[t][at + slot ...] of n queries over 8 * nk slots of a page (n and nk constant). */
AVX2_INLINE void score_slots(struct attn_scratch *s, const struct attn_head *h, const struct query_tile *tile,
                             const uint8_t *page, const uint8_t *ahead, int slot, int at, const int n, const int nk,
                             const enum kv_type type)
{
    const int32_t *q = tile->q;
    const int size = attn_code_size(type), dim_k = h->kv.dim_k;
    const float *scales = (const float *)(const void *)(page + attn_k_scale_offset(&h->kv)) + slot;
    for (int block = 0, d = 0; d < dim_k; block++, scales += SLOTS) {
        __m256i c[QUERY_TILE][4];
        const int end = dim_k - d < ATTN_BLOCK ? dim_k : d + ATTN_BLOCK;
        UNROLL
        for (int t = 0; t < n; t++) {
            UNROLL
            for (int i = 0; i < nk; i++) c[t][i] = _mm256_setzero_si256();
        }
        for (; d < end; d += 2, q += n) {
            __m256i k[4];
            UNROLL
            for (int i = 0; i < nk; i++) {
                k[i] = load_codes(page + (d / 2 * SLOTS + slot + 8 * i) * 2 * size, type);
                if (i * 16 * size % 64 == 0)
                    _mm_prefetch((const char *)ahead + (d / 2 * SLOTS + slot + 8 * i) * 2 * size, _MM_HINT_T1);
            }
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
                __m256 both = _mm256_mul_ps(_mm256_loadu_ps(scales + 8 * i),
                                            broadcast_f32(&tile->q_scale[block * QUERY_TILE + t]));
                __m256 f = block ? _mm256_loadu_ps(to) : _mm256_setzero_ps();
                _mm256_storeu_ps(to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(c[t][i]), both, f));
            }
        }
    }
}

AVX2_INLINE void score_all(struct attn_scratch *s, const struct attn_head *h, const struct query_tile *q, const int n,
                           const enum kv_type type)
{
    const int nk = n <= 3 ? 4 : 2;
    for (int token = q->from / SLOTS * SLOTS; token < q->to; token += SLOTS) {
        const uint8_t *page = attn_page_at(h, token);
        const uint8_t *ahead = attn_next_keys(h, q, token);
        for (int slot = 0; slot < SLOTS; slot += 8 * nk)
            score_slots(s, h, q, page, ahead, slot, token - q->base, n, nk, type);
    }
}

/* ---- softmax ---- */

/* 2^x for ATTN_LEAST <= x <= 0 or a little above, else of the nearer end: x = whole + r, 0 <= r < 1; minimax of degree
 * 5, relative error below 1e-7. */
AVX2_INLINE __m256 exp2_f32(__m256 x)
{
    x = _mm256_max_ps(x, _mm256_set1_ps(ATTN_LEAST));
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
AVX2_INLINE void row_weights(struct attn_scratch *s, float *max_out, float *sum_out, const struct attn_head *h,
                             const struct query_tile *q, int t, int from, int to)
{
    float *row = s->scores[t], max = row_max(row, from, to, h->softcap);
    __m256 sum = _mm256_setzero_ps(), offset = _mm256_set1_ps(max * -1.44269504f);
    const size_t scales = attn_v_scale_offset(&h->kv);
    for (int b = (q->from - q->base) / ATTN_BLOCK; b * ATTN_BLOCK < q->to - q->base; b++) {
        int at = b * ATTN_BLOCK, key = q->base + at;
        const float *v_scales[2];
        for (int i = 0; i < 2; i++) { /* a page that nobody sees may not be there: the first one then stands for it */
            const uint8_t *page = attn_page_at(h, key + i * SLOTS < q->to ? key + i * SLOTS : key);
            v_scales[i] = (const float *)(const void *)(page + scales);
        }
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
AVX2_INLINE void weigh_page(__m256i c[QUERY_TILE][4], const struct attn_scratch *s, const uint8_t *v,
                            const uint8_t *ahead, int at, int v_dims, const int n, const int nv,
                            const enum kv_type type)
{
    for (int pair = 0; pair < SLOTS / 2; pair++) {
        const int step = pair * 2 * v_dims * attn_code_size(type);
        __m256i x[4];
        UNROLL
        for (int i = 0; i < nv; i++) {
            x[i] = load_codes(v + step + 16 * i * attn_code_size(type), type);
            if (i * 16 * attn_code_size(type) % 64 == 0)
                _mm_prefetch((const char *)ahead + step + 16 * i * attn_code_size(type), _MM_HINT_T1);
        }
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
                       const int n, const int nv, int d, const enum kv_type type)
{
    const int v_dims = attn_v_dims(h->kv.dim_v), first = (q->from - q->base) / ATTN_BLOCK;
    const size_t offset = (size_t)(2 * d * attn_code_size(type));
    for (int b = first; b * ATTN_BLOCK < q->to - q->base; b++) {
        __m256i c[QUERY_TILE][4];
        UNROLL
        for (int t = 0; t < n; t++) {
            UNROLL
            for (int i = 0; i < nv; i++) c[t][i] = _mm256_setzero_si256();
        }
        for (int at = b * ATTN_BLOCK; at < (b + 1) * ATTN_BLOCK; at += SLOTS) {
            if (q->base + at + SLOTS <= q->from || q->base + at >= q->to) continue;
            const uint8_t *v = attn_page_at(h, q->base + at) + attn_v_offset(&h->kv) + offset;
            weigh_page(c, s, v, attn_next_values(h, q, q->base + at) + offset, at, v_dims, n, nv, type);
        }
        UNROLL
        for (int t = 0; t < n; t++) {
            __m256 scale = broadcast_f32(&s->weight_scale[t][b]);
            UNROLL
            for (int i = 0; i < nv; i++) {
                float *to = acc + t * h->kv.dim_v + d + 8 * i;
                __m256 f = b == first ? _mm256_setzero_ps() : _mm256_loadu_ps(to);
                _mm256_storeu_ps(to, _mm256_fmadd_ps(_mm256_cvtepi32_ps(c[t][i]), scale, f));
            }
        }
    }
}

AVX2_INLINE void weigh_all(float *acc, const struct attn_scratch *s, const struct attn_head *h,
                           const struct query_tile *q, const int n, const enum kv_type type)
{
    const int wide = n <= 3 ? 4 : 2;
    int d = 0;
    for (; d + 8 * wide <= h->kv.dim_v; d += 8 * wide) weigh(acc, s, h, q, n, wide, d, type);
    for (; d < h->kv.dim_v; d += 8) weigh(acc, s, h, q, n, 1, d, type);
}

/* ---- tiles ---- */

AVX2_INLINE float exp_one(float x)
{
    return _mm256_cvtss_f32(exp2_f32(_mm256_set1_ps(x * 1.44269504f)));
}

AVX2_INLINE void merge_row(float *acc, const float *more, float a, float b, int n)
{
    for (int d = 0; d < n; d += 8) {
        __m256 old = _mm256_mul_ps(_mm256_loadu_ps(acc + d), _mm256_set1_ps(a));
        _mm256_storeu_ps(acc + d, _mm256_fmadd_ps(_mm256_loadu_ps(more + d), _mm256_set1_ps(b), old));
    }
}

ATTN_DEFINE_PARTS(1)
ATTN_DEFINE_PARTS(2)
ATTN_DEFINE_PARTS(3)
ATTN_DEFINE_PARTS(4)
ATTN_DEFINE_PARTS(5)
ATTN_DEFINE_PARTS(6)

static void attend(float *acc, float *max, float *sum, const struct attn_head *h, const float *q, size_t q_stride,
                   int n_tokens, int chunk_from, int chunk_to, void *scratch)
{
    static const struct attn_parts *const parts[QUERY_TILE + 1] = {[1] = &parts_1, &parts_2, &parts_3,
                                                                   &parts_4,       &parts_5, &parts_6};
    attend_by(parts, acc, max, sum, h, q, q_stride, n_tokens, chunk_from, chunk_to, scratch);
}

void attn_init_avx2(struct kernels *k)
{
    k->kv_page_bytes = attn_page_bytes;
    k->kv_store = kv_store;
    k->attend = attend;
    k->attn_merge = attn_merge;
    k->attn_scratch_bytes = attn_scratch_bytes;
}
