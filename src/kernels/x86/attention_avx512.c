/* attention_avx512: the vector parts of attention (attn_outline.h), sixteen lanes, products by VPDPWSSD. */
#define QUERY_TILE 12
#define SUM_LANES 16
#include "kernels/attn_outline.h"
#include "kernels/x86/panels_avx512.h"

#define BLOCK_VECTORS (WEIGHT_BLOCK / 16)

/* ---- quantising ---- */

INLINE float abs_max(const float *x, int n)
{
    __m512 max = _mm512_setzero_ps();
    for (int i = 0; i < n; i += 16) max = _mm512_max_ps(_mm512_abs_ps(_mm512_maskz_loadu_ps(lanes(n - i), x + i)), max);
    return fminf(_mm512_reduce_max_ps(max), ATTN_HUGE);
}

INLINE float quantize(int16_t *codes, const float *x, int n, float max, int limit)
{
    const bool zero = !(max > ATTN_TINY);
    const __m512 inverse = _mm512_set1_ps(zero ? 0 : (float)limit / max);
    const __m512i top = _mm512_set1_epi32(limit), bottom = _mm512_set1_epi32(-limit);
    for (int i = 0; i < n; i += 16) {
        __m512i v = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(lanes(n - i), x + i), inverse));
        v = _mm512_max_epi32(_mm512_min_epi32(v, top), bottom); /* infinities and NaN */
        _mm256_storeu_si256((__m256i *)(codes + i), _mm512_cvtepi32_epi16(v));
    }
    return zero ? 0 : max / (float)limit;
}

/* sum += pairs of a times pairs of b. As assembler, because gcc 12 moves sums of the intrinsic between registers and
 * memory: half the speed. */
INLINE __m512i dot(__m512i sum, __m512i a, __m512i b)
{
    __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b));
    return sum;
}

/* The pointer, of which gcc knows nothing: it would compute the addresses of all rows ahead and keep them in memory. */
INLINE void *opaque(const void *p)
{
    __asm__("" : "+r"(p));
    return (void *)(uintptr_t)p;
}

/* ---- scores ---- */

/* Pairs of 32 codes. */
INLINE __m512i load_codes(const uint8_t *p, const enum kv_type type)
{
    return type == KV_Q8_0 ? _mm512_cvtepi8_epi16(_mm256_load_si256((const __m256i *)(const void *)p))
                           : _mm512_load_si512(p);
}

/* scores[t][0 .. 16 * nk) of n queries over nk / 2 pages. nk = 4 gives single queries enough independent sums. */
INLINE void score_pages(struct attn_scratch *s, const struct attn_head *h, const struct query_tile *tile,
                        const uint8_t *const *pages, const struct attn_fetch *fetch, int at, const int n, const int nk,
                        const enum kv_type type)
{
    const int32_t *q = tile->q;
    const int size = attn_code_size(type), dim_k = h->kv.dim_k, step = attn_fetch_step(fetch, 32 * size);
    const uint8_t *ahead[2];
#pragma GCC unroll 2
    for (int i = 0; i < nk / 2; i++) ahead[i] = attn_fetch_from(&fetch[i], 0, dim_k * SLOTS * size);
    const size_t scales = attn_k_scale_offset(&h->kv);
    for (int block = 0, d = 0; d < dim_k; block++) {
        __m512i c[QUERY_TILE][4];
        __m512 scale[4];
        const int end = dim_k - d < ATTN_BLOCK ? dim_k : d + ATTN_BLOCK;
#pragma GCC unroll 12
        for (int t = 0; t < n; t++)
#pragma GCC unroll 4
            for (int i = 0; i < nk; i++) c[t][i] = _mm512_setzero_si512();
        for (; d < end; d += 2, q += n) {
            __m512i k[4];
#pragma GCC unroll 4
            for (int i = 0; i < nk; i++) {
                k[i] = load_codes(pages[i / 2] + (d * SLOTS + i % 2 * 32) * size, type);
                if (i % 2 == 0 || type == KV_F16) _mm_prefetch((const char *)ahead[i / 2], _MM_HINT_T1);
                ahead[i / 2] += step;
            }
#pragma GCC unroll 12
            for (int t = 0; t < n; t++) {
                __m512i x = _mm512_set1_epi32(q[t]);
#pragma GCC unroll 4
                for (int i = 0; i < nk; i++) c[t][i] = dot(c[t][i], k[i], x);
            }
        }
#pragma GCC unroll 4
        for (int i = 0; i < nk; i++)
            scale[i] =
                _mm512_load_ps((const float *)(const void *)(pages[i / 2] + scales) + block * SLOTS + i % 2 * 16);
        float *to = opaque(&s->scores[0][at]);
        const float *q_scale = opaque(tile->q_scale + block * QUERY_TILE);
#pragma GCC unroll 12
        for (int t = 0; t < n; t++, to += SCORE_STRIDE)
#pragma GCC unroll 4
            for (int i = 0; i < nk; i++) {
                __m512 both = _mm512_mul_ps(scale[i], _mm512_set1_ps(q_scale[t])), sum = _mm512_cvtepi32_ps(c[t][i]);
                sum = block ? _mm512_fmadd_ps(sum, both, _mm512_loadu_ps(to + 16 * i)) : _mm512_mul_ps(sum, both);
                _mm512_storeu_ps(to + 16 * i, sum);
            }
    }
}

INLINE void score_all(struct attn_scratch *s, const struct attn_head *h, const struct query_tile *q, const int n,
                      const enum kv_type type)
{
    for (int token = q->from / SLOTS * SLOTS; token < q->to;) {
        const bool two = n <= 4 && token + SLOTS < q->to;
        const uint8_t *pages[2];
        struct attn_fetch fetch[2];
        for (int i = 0; i <= (int)two; i++, token += SLOTS) {
            pages[i] = attn_page_at(h, token);
            fetch[i] = attn_fetch_keys(h, q, token);
        }
        if (two) score_pages(s, h, q, pages, fetch, token - 2 * SLOTS - q->base, n, 4, type);
        else score_pages(s, h, q, pages, fetch, token - SLOTS - q->base, n, 2, type);
    }
}

/* ---- softmax ---- */

/* 2^x for ATTN_LEAST <= x <= 0 or a little above, else of the nearer end: x = whole + r, 0 <= r < 1; minimax of degree
 * 5, relative error below 1e-7. */
INLINE __m512 exp2_ps(__m512 x)
{
    x = _mm512_max_ps(x, _mm512_set1_ps(ATTN_LEAST));
    __m512 r = _mm512_reduce_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 p = _mm512_set1_ps(1.87757664e-3f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.98934016e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.5826318e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.40153617e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.93153073e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.99999925e-1f));
    return _mm512_scalef_ps(p, x);
}

INLINE __mmask16 seen(int from, int to, int i)
{
    return (__mmask16)(lanes(to - i) & ~lanes(from - i));
}

static void row_cap(float *row, int from, int to, float cap)
{
    for (int i = from & ~15; i < to; i += 16) {
        __m512 v = _mm512_loadu_ps(row + i);
        _mm512_storeu_ps(row + i, _mm512_mul_ps(_mm512_set1_ps(cap), tanh_ps(_mm512_div_ps(v, _mm512_set1_ps(cap)))));
    }
}

/* 32 numbers, in order, as 16 bits without a sign; below 0, and no number: 0. */
INLINE __m512i narrow(__m512 a, __m512 b)
{
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7); /* undoes the lanes of packus */
    return _mm512_permutexvar_epi64(order, _mm512_packus_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b)));
}

INLINE void value_shares(struct value_scales *v, int from, int to)
{
    __m512 x[BLOCK_VECTORS], largest = _mm512_setzero_ps(), smallest = _mm512_set1_ps(INFINITY);
#pragma GCC unroll 8
    for (int i = 0; i < BLOCK_VECTORS; i++) {
        __mmask16 in = seen(from, to, 16 * i);
        x[i] = _mm512_maskz_loadu_ps(in, v->page[i / 2] + i % 2 * 16);
        largest = _mm512_max_ps(x[i], largest);
        smallest = _mm512_mask_min_ps(smallest, in, x[i], smallest);
    }
    v->largest = _mm512_reduce_max_ps(largest);
    v->even = 4 * _mm512_reduce_min_ps(smallest) >= v->largest;
    if (!(v->largest > ATTN_TINY)) v->largest = 0, v->even = true;
    const __m512 inverse = _mm512_set1_ps(v->largest > 0 ? SHARE_ONE / v->largest : 0);
#pragma GCC unroll 4
    for (int i = 0; i < BLOCK_VECTORS; i += 2)
        _mm512_storeu_si512(v->shares + 16 * i, narrow(_mm512_mul_ps(x[i], inverse), _mm512_mul_ps(x[i + 1], inverse)));
}

/* WEIGHT_ONE * 2^((x - SCORE_TOP) / SCORE_STEPS), rounded: 2^-1 of the fraction by a polynomial of degree 4 (relative
 * error below 5e-5), then the whole octaves. */
INLINE __m512i weights_of(__m512i x)
{
    const __m512i octaves = /* 2^(n - 1) for n = 0 .. 15 as the lower half of 32; of 0: nothing */
        _mm512_set_epi16(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1 << 14, 1 << 13, 1 << 12, 1 << 11, 1 << 10,
                         1 << 9, 1 << 8, 1 << 7, 1 << 6, 1 << 5, 1 << 4, 1 << 3, 1 << 2, 1 << 1, 1, 0);
    __m512i octave = _mm512_permutexvar_epi16(_mm512_srli_epi16(x, 12), octaves);
    __m512i r = _mm512_and_si512(_mm512_slli_epi16(x, 3), _mm512_set1_epi16(0x7fff));
    __m512i p = _mm512_add_epi16(_mm512_mulhrs_epi16(r, _mm512_set1_epi16(EXP2_4)), _mm512_set1_epi16(EXP2_3));
    p = _mm512_add_epi16(_mm512_mulhrs_epi16(r, p), _mm512_set1_epi16(EXP2_2));
    p = _mm512_add_epi16(_mm512_mulhrs_epi16(r, p), _mm512_set1_epi16(EXP2_1));
    p = _mm512_add_epi16(_mm512_mulhrs_epi16(r, p), _mm512_set1_epi16(EXP2_0));
    return _mm512_mulhrs_epi16(p, octave);
}

/* Scores i .. i + 15, the lowest outside [from, to). */
INLINE __m512 score_load(const float *row, int from, int to, int i)
{
    return _mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), seen(from, to, i), row + i);
}

INLINE __m512 score_max(const float *row, int from, int to)
{
    __m512 max = _mm512_set1_ps(-INFINITY);
    if (from <= 0 && to >= WEIGHT_BLOCK) {
#pragma GCC unroll 8
        for (int i = 0; i < BLOCK_VECTORS; i++) max = _mm512_max_ps(max, _mm512_loadu_ps(row + 16 * i));
    } else {
#pragma GCC unroll 8
        for (int i = 0; i < BLOCK_VECTORS; i++) max = _mm512_max_ps(max, score_load(row, from, to, 16 * i));
    }
    return max;
}

/* What four vectors are reduced to: by maxima in lanes 0 to 3 of each four, then in the first four. */
INLINE __m512 max_pairs(__m512 a, __m512 b)
{
    return _mm512_max_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
}

INLINE void row_maxima(float maxima[ATTN_CHUNK_BLOCKS], const float *row, int from, int to)
{
    __m512 m[ATTN_CHUNK_BLOCKS];
    _Static_assert(ATTN_CHUNK_BLOCKS == 4, "four vectors are reduced together");
#pragma GCC unroll 4
    for (int b = 0; b < ATTN_CHUNK_BLOCKS; b++)
        m[b] = score_max(row + b * WEIGHT_BLOCK, from - b * WEIGHT_BLOCK, to - b * WEIGHT_BLOCK);
    __m512d x = _mm512_castps_pd(max_pairs(m[0], m[1])), y = _mm512_castps_pd(max_pairs(m[2], m[3]));
    __m512 all = _mm512_max_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(x, y)), _mm512_castpd_ps(_mm512_unpackhi_pd(x, y)));
    all = _mm512_max_ps(all, _mm512_shuffle_f32x4(all, all, 0x4e));
    all = _mm512_max_ps(all, _mm512_shuffle_f32x4(all, all, 0xb1));
    _mm_storeu_ps(maxima, _mm_add_ps(_mm512_castps512_ps128(all), _mm_set1_ps(1)));
}

INLINE void block_weights(int16_t *weights, int32_t *sums, const float *row, float max, const int16_t *shares, int from,
                          int to, const bool whole)
{
    const __m512 top = _mm512_set1_ps(max - SCORE_TOP);
    __m512i sum = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (int i = 0; i < BLOCK_VECTORS; i += 2) {
        __m512 a = whole ? _mm512_loadu_ps(row + 16 * i) : score_load(row, from, to, 16 * i);
        __m512 b = whole ? _mm512_loadu_ps(row + 16 * i + 16) : score_load(row, from, to, 16 * i + 16);
        __m512i w = weights_of(narrow(_mm512_sub_ps(a, top), _mm512_sub_ps(b, top)));
        sum = dot(sum, w, _mm512_set1_epi16(1));
        _mm512_storeu_si512(weights + 16 * i, _mm512_mulhrs_epi16(w, _mm512_loadu_si512(shares + 16 * i)));
    }
    _mm512_storeu_si512(sums, sum);
}

static float uneven_weights(int16_t *weights, int32_t *sums, const float *row, float max, const struct value_scales *v,
                            int from, int to)
{
    __m512 w[BLOCK_VECTORS], sum = _mm512_setzero_ps(), largest = _mm512_setzero_ps();
#pragma GCC unroll 8
    for (int i = 0; i < BLOCK_VECTORS; i++) {
        __mmask16 in = seen(from, to, 16 * i);
        __m512 x = _mm512_sub_ps(score_load(row, from, to, 16 * i), _mm512_set1_ps(max));
        __m512 p = _mm512_maskz_mov_ps(in, exp2_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.0f / SCORE_STEPS))));
        sum = _mm512_add_ps(sum, p);
        w[i] = _mm512_mul_ps(p, _mm512_maskz_loadu_ps(in, v->page[i / 2] + i % 2 * 16));
        largest = _mm512_max_ps(w[i], largest);
    }
    _mm512_storeu_si512(sums, _mm512_cvtps_epi32(_mm512_mul_ps(sum, _mm512_set1_ps(WEIGHT_ONE))));
    const float top = _mm512_reduce_max_ps(largest);
    const __m512 inverse = _mm512_set1_ps(top > ATTN_TINY ? WEIGHT_MAX / top : 0);
#pragma GCC unroll 4
    for (int i = 0; i < BLOCK_VECTORS; i += 2)
        _mm512_storeu_si512(weights + 16 * i, narrow(_mm512_mul_ps(w[i], inverse), _mm512_mul_ps(w[i + 1], inverse)));
    return top > ATTN_TINY ? top : 0;
}

INLINE __m512i add_pairs(__m512i a, __m512i b)
{
    return _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
}

INLINE void row_sums(int32_t sums[ATTN_CHUNK_BLOCKS], const int32_t (*parts)[SUM_LANES])
{
    __m512i x = add_pairs(_mm512_loadu_si512(parts[0]), _mm512_loadu_si512(parts[1]));
    __m512i y = add_pairs(_mm512_loadu_si512(parts[2]), _mm512_loadu_si512(parts[3]));
    __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(x, y), _mm512_unpackhi_epi64(x, y));
    all = _mm512_add_epi32(all, _mm512_shuffle_i32x4(all, all, 0x4e));
    all = _mm512_add_epi32(all, _mm512_shuffle_i32x4(all, all, 0xb1));
    _mm_storeu_si128((__m128i *)sums, _mm512_castsi512_si128(all));
}

INLINE void rows_finish(struct attn_scratch *s, float *max, float *sum, int n)
{
    const __m512i first = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    for (int t = 0; t < n; t += 4) { /* four rows of four blocks in a vector */
        __m512 m = _mm512_loadu_ps(s->maxima[t]), scale = _mm512_loadu_ps(s->weight_scale[t]);
        __m512 top = _mm512_max_ps(m, _mm512_permute_ps(m, 0x4e));
        top = _mm512_max_ps(top, _mm512_permute_ps(top, 0xb1));
        __m512 factor = exp2_ps(_mm512_mul_ps(_mm512_sub_ps(m, top), _mm512_set1_ps(1.0f / SCORE_STEPS)));
        _mm512_storeu_ps(s->weight_scale[t], _mm512_mul_ps(scale, factor));
        __m512 all = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(s->sums[t])), factor);
        all = _mm512_add_ps(all, _mm512_permute_ps(all, 0x4e));
        all = _mm512_add_ps(all, _mm512_permute_ps(all, 0xb1));
        top = _mm512_mul_ps(_mm512_permutexvar_ps(first, top), _mm512_set1_ps(1.0f / SCORE_UNIT));
        all = _mm512_mul_ps(_mm512_permutexvar_ps(first, all), _mm512_set1_ps(1.0f / WEIGHT_ONE));
        _mm_storeu_ps(max + t, _mm512_castps512_ps128(top));
        _mm_storeu_ps(sum + t, _mm512_castps512_ps128(all));
    }
}

/* ---- values ---- */

/* c[t] += weights times a page's values, nv vectors of them */
INLINE void weigh_page(__m512i c[QUERY_TILE][4], const int16_t *weights, const uint8_t *v, const uint8_t *ahead,
                       int step, int pair_bytes, const int n, const int nv, const enum kv_type type)
{
    const int size = attn_code_size(type);
    for (int pair = 0; pair < SLOTS / 2; pair++, weights += 2, v += pair_bytes) {
        __m512i x[4];
#pragma GCC unroll 4
        for (int i = 0; i < nv; i++) {
            x[i] = load_codes(v + 32 * i * size, type);
            if (i % 2 == 0 || type == KV_F16) _mm_prefetch((const char *)ahead, _MM_HINT_T1);
            ahead += step;
        }
#pragma GCC unroll 12
        for (int t = 0; t < n; t++) {
            int32_t both;
            memcpy(&both, weights + t * WEIGHT_STRIDE, 4);
            __m512i w = _mm512_set1_epi32(both);
#pragma GCC unroll 4
            for (int i = 0; i < nv; i++) c[t][i] = dot(c[t][i], x[i], w);
        }
    }
}

/* out rows (v_dims floats each, n of them) = weights times values, nv vectors of d at a time. */
INLINE void weigh(float *out, const struct attn_scratch *s, const struct attn_head *h, const struct query_tile *q,
                  const int n, const int nv, int d, const enum kv_type type)
{
    const int v_dims = attn_v_dims(h->kv.dim_v), first = (q->from - q->base) / WEIGHT_BLOCK;
    const int size = attn_code_size(type), pair_bytes = 2 * attn_v_width(v_dims, d) * size;
    out += d;
    for (int b = first; b * WEIGHT_BLOCK < q->to - q->base; b++) {
        __m512i c[QUERY_TILE][4];
#pragma GCC unroll 12
        for (int t = 0; t < n; t++)
#pragma GCC unroll 4
            for (int i = 0; i < nv; i++) c[t][i] = _mm512_setzero_si512();
        for (int at = b * WEIGHT_BLOCK; at < (b + 1) * WEIGHT_BLOCK; at += SLOTS) {
            if (q->base + at + SLOTS <= q->from || q->base + at >= q->to) continue;
            const uint8_t *v = attn_page_at(h, q->base + at) + attn_v_offset(&h->kv) + attn_v_at(d) * size;
            const struct attn_fetch fetch = attn_fetch_values(h, q, q->base + at);
            const uint8_t *ahead = attn_fetch_from(&fetch, d * SLOTS * size, nv * 16 * SLOTS * size);
            weigh_page(c, &s->weights[0][at], v, ahead, attn_fetch_step(&fetch, 32 * size), pair_bytes, n, nv, type);
        }
        float *to = opaque(out);
        const float *scale = opaque(&s->weight_scale[0][b]);
#pragma GCC unroll 12
        for (int t = 0; t < n; t++, to += v_dims, scale += ATTN_CHUNK_BLOCKS)
#pragma GCC unroll 4
            for (int i = 0; i < nv; i++) {
                __m512 sum = _mm512_cvtepi32_ps(c[t][i]), w = _mm512_set1_ps(*scale);
                sum = b > first ? _mm512_fmadd_ps(sum, w, _mm512_loadu_ps(to + 16 * i)) : _mm512_mul_ps(sum, w);
                _mm512_storeu_ps(to + 16 * i, sum);
            }
    }
}

INLINE void weigh_all(float *out, const struct attn_scratch *s, const struct attn_head *h, const struct query_tile *q,
                      const int n, const enum kv_type type)
{
    const int wide = n <= 6 ? 4 : 2; /* vectors at a time, as registers allow */
    int d = 0, end = attn_v_dims(h->kv.dim_v);
    for (; d + 16 * wide <= end; d += 16 * wide) weigh(out, s, h, q, n, wide, d, type);
    for (; d < end; d += 16) weigh(out, s, h, q, n, 1, d, type);
}

/* ---- tiles ---- */

INLINE void merge_factors(float *a, float *b, const float *max, const float *more_max, int n)
{
    const __m512 log2e = _mm512_set1_ps(1.44269504f);
    __m512 x = _mm512_maskz_loadu_ps(lanes(n), max), y = _mm512_maskz_loadu_ps(lanes(n), more_max);
    __m512 both = _mm512_max_ps(x, y);
    _mm512_storeu_ps(a, exp2_ps(_mm512_mul_ps(_mm512_sub_ps(x, both), log2e)));
    _mm512_storeu_ps(b, exp2_ps(_mm512_mul_ps(_mm512_sub_ps(y, both), log2e)));
}

INLINE void merge_row(float *acc, const float *more, float a, float b, int n)
{
    for (int d = 0; d < n; d += 16) {
        __mmask16 k = lanes(n - d);
        __m512 old = _mm512_mul_ps(_mm512_maskz_loadu_ps(k, acc + d), _mm512_set1_ps(a));
        __m512 new = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(k, more + d), _mm512_set1_ps(b), old);
        _mm512_mask_storeu_ps(acc + d, k, new);
    }
}

ATTN_DEFINE_PARTS(1)
ATTN_DEFINE_PARTS(2)
ATTN_DEFINE_PARTS(3)
ATTN_DEFINE_PARTS(4)
ATTN_DEFINE_PARTS(6)
ATTN_DEFINE_PARTS(8)
ATTN_DEFINE_PARTS(12)

static void attend(float *acc, float *max, float *sum, const struct attn_head *h, const float *q, size_t q_stride,
                   int n_tokens, int chunk_from, int chunk_to, void *scratch)
{
    static const struct attn_parts *const parts[QUERY_TILE + 1] = {
        [1] = &parts_1, &parts_2, &parts_3, &parts_4, [6] = &parts_6, [8] = &parts_8, [12] = &parts_12};
    attend_by(parts, acc, max, sum, h, q, q_stride, n_tokens, chunk_from, chunk_to, scratch);
}

void kernels_fill_avx512_attention(struct kernels *k)
{
    k->kv_page_bytes = attn_page_bytes;
    k->kv_store = kv_store;
    k->attn_scratch_bytes = attn_scratch_bytes;
    k->attend = attend;
    k->attn_merge = attn_merge;
}
