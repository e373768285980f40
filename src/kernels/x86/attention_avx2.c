/* attention_avx2: the vector parts of attention (attn_outline.h), eight lanes, products by VPMADDWD. */
#define QUERY_TILE 6
#define SUM_LANES 8
#include "kernels/attn_outline.h"
#include "kernels/x86/matmul_avx2.h"
#include "kernels/x86/simd_avx2.h"

#define BLOCK_VECTORS (WEIGHT_BLOCK / 8)

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
                             const uint8_t *page, const struct attn_fetch *fetch, int slot, int at, const int n,
                             const int nk, const enum kv_type type)
{
    const int32_t *q = tile->q;
    const int size = attn_code_size(type), dim_k = h->kv.dim_k, step = attn_fetch_step(fetch, 16 * size);
    const uint8_t *ahead = attn_fetch_from(fetch, slot * dim_k * size, 8 * nk * dim_k * size);
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
                if (i * 16 * size % 64 == 0) _mm_prefetch((const char *)ahead, _MM_HINT_T1);
                ahead += step;
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
        const struct attn_fetch fetch = attn_fetch_keys(h, q, token);
        for (int slot = 0; slot < SLOTS; slot += 8 * nk)
            score_slots(s, h, q, page, &fetch, slot, token - q->base, n, nk, type);
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

static void row_cap(float *row, int from, int to, float cap)
{
    for (int i = from & ~7; i < to; i += 8) {
        __m256 v = _mm256_div_ps(_mm256_loadu_ps(row + i), _mm256_set1_ps(cap));
        _mm256_storeu_ps(row + i, _mm256_mul_ps(_mm256_set1_ps(cap), tanh_f32(v)));
    }
}

/* 16 numbers, in order, as 16 bits without a sign; below 0, and no number: 0. */
AVX2_INLINE __m256i narrow(__m256 a, __m256 b)
{
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b)), 0xd8);
}

/* out[n] as 16 bits of x[n] * factor; n is a multiple of 16. */
AVX2_INLINE void narrow_all(int16_t *out, const float *x, float factor, int n)
{
    const __m256 f = _mm256_set1_ps(factor);
    for (int i = 0; i < n; i += 16)
        store_256(out + i,
                  narrow(_mm256_mul_ps(_mm256_loadu_ps(x + i), f), _mm256_mul_ps(_mm256_loadu_ps(x + i + 8), f)));
}

AVX2_INLINE void value_shares(struct value_scales *v, int from, int to)
{
    __m256 largest = _mm256_setzero_ps(), smallest = _mm256_set1_ps(-INFINITY); /* the smallest negated */
    float x[WEIGHT_BLOCK];
    for (int i = 0; i < BLOCK_VECTORS; i++) {
        __m256 in = seen(from, to, 8 * i), scale = _mm256_and_ps(_mm256_loadu_ps(v->page[i / 4] + i % 4 * 8), in);
        _mm256_storeu_ps(x + 8 * i, scale);
        largest = _mm256_max_ps(scale, largest);
        scale = _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), _mm256_sub_ps(_mm256_setzero_ps(), scale), in);
        smallest = _mm256_max_ps(scale, smallest);
    }
    v->largest = max_lanes(largest);
    v->even = -4 * max_lanes(smallest) >= v->largest;
    if (!(v->largest > ATTN_TINY)) v->largest = 0, v->even = true;
    narrow_all(v->shares, x, v->largest > 0 ? SHARE_ONE / v->largest : 0, WEIGHT_BLOCK);
}

/* WEIGHT_ONE * 2^((x - SCORE_TOP) / SCORE_STEPS), rounded: 2^-1 of the fraction by a polynomial of degree 4 (relative
 * error below 5e-5), then the whole octaves. */
AVX2_INLINE __m256i weights_of(__m256i x)
{
    /* 2^(n - 1) for n = 0 .. 15 (of 0: nothing), a byte at a time: of n below, of n - 8 above */
    const __m256i bits =
        _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 2, 4, 8, 16, 32, 64, (char)128, 0, 0, 0, 0, 0, 0, 0));
    __m256i n = _mm256_mullo_epi16(_mm256_srli_epi16(x, 12), _mm256_set1_epi16(0x101));
    __m256i octave = _mm256_shuffle_epi8(bits, _mm256_sub_epi16(n, _mm256_set1_epi16(0x800)));
    __m256i r = _mm256_and_si256(_mm256_slli_epi16(x, 3), _mm256_set1_epi16(0x7fff));
    __m256i p = _mm256_add_epi16(_mm256_mulhrs_epi16(r, _mm256_set1_epi16(EXP2_4)), _mm256_set1_epi16(EXP2_3));
    p = _mm256_add_epi16(_mm256_mulhrs_epi16(r, p), _mm256_set1_epi16(EXP2_2));
    p = _mm256_add_epi16(_mm256_mulhrs_epi16(r, p), _mm256_set1_epi16(EXP2_1));
    p = _mm256_add_epi16(_mm256_mulhrs_epi16(r, p), _mm256_set1_epi16(EXP2_0));
    return _mm256_mulhrs_epi16(p, octave);
}

/* Scores i .. i + 7, the lowest outside [from, to). */
AVX2_INLINE __m256 score_load(const float *row, int from, int to, int i)
{
    return _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), _mm256_loadu_ps(row + i), seen(from, to, i));
}

AVX2_INLINE __m256 score_max(const float *row, int from, int to)
{
    __m256 max = _mm256_set1_ps(-INFINITY);
    if (from <= 0 && to >= WEIGHT_BLOCK) {
        UNROLL
        for (int i = 0; i < BLOCK_VECTORS; i++) max = _mm256_max_ps(max, _mm256_loadu_ps(row + 8 * i));
    } else {
        for (int i = 0; i < BLOCK_VECTORS; i++) max = _mm256_max_ps(max, score_load(row, from, to, 8 * i));
    }
    return max;
}

/* What four vectors are reduced to: by maxima in lanes 0 to 3 of each four, then in the first four. */
AVX2_INLINE __m256 max_pairs(__m256 a, __m256 b)
{
    return _mm256_max_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
}

AVX2_INLINE void row_maxima(float maxima[ATTN_CHUNK_BLOCKS], const float *row, int from, int to)
{
    __m256 m[ATTN_CHUNK_BLOCKS];
    _Static_assert(ATTN_CHUNK_BLOCKS == 4, "four vectors are reduced together");
    for (int b = 0; b < ATTN_CHUNK_BLOCKS; b++)
        m[b] = score_max(row + b * WEIGHT_BLOCK, from - b * WEIGHT_BLOCK, to - b * WEIGHT_BLOCK);
    __m256d x = _mm256_castps_pd(max_pairs(m[0], m[1])), y = _mm256_castps_pd(max_pairs(m[2], m[3]));
    __m256 all = _mm256_max_ps(_mm256_castpd_ps(_mm256_unpacklo_pd(x, y)), _mm256_castpd_ps(_mm256_unpackhi_pd(x, y)));
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    _mm_storeu_ps(maxima, _mm_add_ps(four, _mm_set1_ps(1)));
}

AVX2_INLINE void block_weights(int16_t *weights, int32_t *sums, const float *row, float max, const int16_t *shares,
                               int from, int to, const bool whole)
{
    const __m256 top = _mm256_set1_ps(max - SCORE_TOP);
    __m256i sum = _mm256_setzero_si256();
    _Pragma("GCC unroll 2") for (int i = 0; i < BLOCK_VECTORS; i += 2)
    {
        __m256 a = whole ? _mm256_loadu_ps(row + 8 * i) : score_load(row, from, to, 8 * i);
        __m256 b = whole ? _mm256_loadu_ps(row + 8 * i + 8) : score_load(row, from, to, 8 * i + 8);
        __m256i w = weights_of(narrow(_mm256_sub_ps(a, top), _mm256_sub_ps(b, top)));
        sum = mad_s16(sum, w, _mm256_set1_epi16(1));
        store_256(weights + 8 * i, _mm256_mulhrs_epi16(w, load_256(shares + 8 * i)));
    }
    store_256(sums, sum);
}

static float uneven_weights(int16_t *weights, int32_t *sums, const float *row, float max, const struct value_scales *v,
                            int from, int to)
{
    __m256 sum = _mm256_setzero_ps(), largest = _mm256_setzero_ps();
    float w[WEIGHT_BLOCK];
    for (int i = 0; i < BLOCK_VECTORS; i++) {
        __m256 in = seen(from, to, 8 * i);
        __m256 x = _mm256_sub_ps(score_load(row, from, to, 8 * i), _mm256_set1_ps(max));
        __m256 p = _mm256_and_ps(exp2_f32(_mm256_mul_ps(x, _mm256_set1_ps(1.0f / SCORE_STEPS))), in);
        sum = _mm256_add_ps(sum, p);
        p = _mm256_and_ps(_mm256_mul_ps(p, _mm256_loadu_ps(v->page[i / 4] + i % 4 * 8)), in);
        largest = _mm256_max_ps(p, largest);
        _mm256_storeu_ps(w + 8 * i, p);
    }
    store_256(sums, _mm256_cvtps_epi32(_mm256_mul_ps(sum, _mm256_set1_ps(WEIGHT_ONE))));
    const float top = max_lanes(largest);
    narrow_all(weights, w, top > ATTN_TINY ? WEIGHT_MAX / top : 0, WEIGHT_BLOCK);
    return top > ATTN_TINY ? top : 0;
}

AVX2_INLINE __m256i add_pairs(__m256i a, __m256i b)
{
    return _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
}

AVX2_INLINE void row_sums(int32_t sums[ATTN_CHUNK_BLOCKS], const int32_t (*parts)[SUM_LANES])
{
    __m256i x = add_pairs(load_256(parts[0]), load_256(parts[1]));
    __m256i y = add_pairs(load_256(parts[2]), load_256(parts[3]));
    __m256i all = _mm256_add_epi32(_mm256_unpacklo_epi64(x, y), _mm256_unpackhi_epi64(x, y));
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
    _mm_storeu_si128((__m128i *)(void *)sums, four);
}

AVX2_INLINE void rows_finish(struct attn_scratch *s, float *max, float *sum, int n)
{
    for (int t = 0; t < n; t += 2) { /* two rows of four blocks in a vector */
        __m256 m = _mm256_loadu_ps(s->maxima[t]), scale = _mm256_loadu_ps(s->weight_scale[t]);
        __m256 top = _mm256_max_ps(m, _mm256_permute_ps(m, 0x4e));
        top = _mm256_max_ps(top, _mm256_permute_ps(top, 0xb1));
        __m256 factor = exp2_f32(_mm256_mul_ps(_mm256_sub_ps(m, top), _mm256_set1_ps(1.0f / SCORE_STEPS)));
        _mm256_storeu_ps(s->weight_scale[t], _mm256_mul_ps(scale, factor));
        __m256 all = _mm256_mul_ps(_mm256_cvtepi32_ps(load_256(s->sums[t])), factor);
        all = _mm256_add_ps(all, _mm256_permute_ps(all, 0x4e));
        all = _mm256_add_ps(all, _mm256_permute_ps(all, 0xb1));
        top = _mm256_mul_ps(top, _mm256_set1_ps(1.0f / SCORE_UNIT));
        all = _mm256_mul_ps(all, _mm256_set1_ps(1.0f / WEIGHT_ONE));
        max[t] = _mm256_cvtss_f32(top), max[t + 1] = _mm_cvtss_f32(_mm256_extractf128_ps(top, 1));
        sum[t] = _mm256_cvtss_f32(all), sum[t + 1] = _mm_cvtss_f32(_mm256_extractf128_ps(all, 1));
    }
}

/* ---- values ---- */

/* c[t] += weights times a page's values, nv vectors of them (n and nv constant). Two vectors are 16 elements. */
AVX2_INLINE void weigh_page(__m256i c[QUERY_TILE][4], const int16_t *weights, const uint8_t *v, const uint8_t *ahead,
                            int step, int pair_bytes, const int n, const int nv, const enum kv_type type)
{
    const int size = attn_code_size(type);
    for (int pair = 0; pair < SLOTS / 2; pair++, weights += 2, v += pair_bytes) {
        __m256i x[4];
        UNROLL
        for (int i = 0; i < nv; i++) {
            x[i] = load_codes(v + 16 * i * size, type);
            if (i * 16 * size % 64 == 0) _mm_prefetch((const char *)ahead, _MM_HINT_T1);
            ahead += step;
        }
        UNROLL
        for (int t = 0; t < n; t++) {
            __m256i w = broadcast_32(weights + t * WEIGHT_STRIDE);
            UNROLL
            for (int i = 0; i < nv; i++) c[t][i] = mad_s16(c[t][i], x[i], w);
        }
    }
}

/* out rows (v_dims floats each, n of them) = weights times values, 8 * nv elements from d on. */
AVX2_INLINE void weigh(float *out, const struct attn_scratch *s, const struct attn_head *h, const struct query_tile *q,
                       const int n, const int nv, int d, const enum kv_type type)
{
    const int v_dims = attn_v_dims(h->kv.dim_v), first = (q->from - q->base) / WEIGHT_BLOCK;
    const int size = attn_code_size(type), pair_bytes = 2 * attn_v_width(v_dims, d) * size;
    out += d;
    for (int b = first; b * WEIGHT_BLOCK < q->to - q->base; b++) {
        __m256i c[QUERY_TILE][4];
        UNROLL
        for (int t = 0; t < n; t++) {
            UNROLL
            for (int i = 0; i < nv; i++) c[t][i] = _mm256_setzero_si256();
        }
        for (int at = b * WEIGHT_BLOCK; at < (b + 1) * WEIGHT_BLOCK; at += SLOTS) {
            if (q->base + at + SLOTS <= q->from || q->base + at >= q->to) continue;
            const uint8_t *v = attn_page_at(h, q->base + at) + attn_v_offset(&h->kv) + attn_v_at(d) * size;
            const struct attn_fetch fetch = attn_fetch_values(h, q, q->base + at);
            const uint8_t *ahead = attn_fetch_from(&fetch, d * SLOTS * size, nv * 8 * SLOTS * size);
            weigh_page(c, &s->weights[0][at], v, ahead, attn_fetch_step(&fetch, 16 * size), pair_bytes, n, nv, type);
        }
        UNROLL
        for (int t = 0; t < n; t++) {
            __m256 scale = broadcast_f32(&s->weight_scale[t][b]);
            UNROLL
            for (int i = 0; i < nv; i++) {
                float *to = out + t * v_dims + 8 * i;
                __m256 sum = _mm256_cvtepi32_ps(c[t][i]);
                sum = b > first ? _mm256_fmadd_ps(sum, scale, _mm256_loadu_ps(to)) : _mm256_mul_ps(sum, scale);
                _mm256_storeu_ps(to, sum);
            }
        }
    }
}

AVX2_INLINE void weigh_all(float *out, const struct attn_scratch *s, const struct attn_head *h,
                           const struct query_tile *q, const int n, const enum kv_type type)
{
    const int wide = n <= 3 ? 4 : 2, end = attn_v_dims(h->kv.dim_v);
    int d = 0;
    for (; d + 8 * wide <= end; d += 8 * wide) weigh(out, s, h, q, n, wide, d, type);
    for (; d < end; d += 16) weigh(out, s, h, q, n, 2, d, type);
}

/* ---- tiles ---- */

AVX2_INLINE void merge_factors(float *a, float *b, const float *max, const float *more_max, int n)
{
    const __m256 log2e = _mm256_set1_ps(1.44269504f);
    float of[2][MERGE_ROWS] = {{0}};
    memcpy(of[0], max, (size_t)(n < MERGE_ROWS ? n : MERGE_ROWS) * sizeof *max);
    memcpy(of[1], more_max, (size_t)(n < MERGE_ROWS ? n : MERGE_ROWS) * sizeof *max);
    for (int i = 0; i < n && i < MERGE_ROWS; i += 8) {
        __m256 x = _mm256_loadu_ps(of[0] + i), y = _mm256_loadu_ps(of[1] + i), both = _mm256_max_ps(x, y);
        _mm256_storeu_ps(a + i, exp2_f32(_mm256_mul_ps(_mm256_sub_ps(x, both), log2e)));
        _mm256_storeu_ps(b + i, exp2_f32(_mm256_mul_ps(_mm256_sub_ps(y, both), log2e)));
    }
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
