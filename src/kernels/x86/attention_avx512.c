/* attention_avx512: the vector parts of attention (attn_outline.h), sixteen lanes, products by VPDPWSSD. */
#define QUERY_TILE 12
#include "kernels/attn_outline.h"
#include "kernels/x86/panels_avx512.h"

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

/* ---- scores ---- */

/* Pairs of 32 codes. */
INLINE __m512i load_codes(const uint8_t *p, const enum kv_type type)
{
    return type == KV_Q8_0 ? _mm512_cvtepi8_epi16(_mm256_load_si256((const __m256i *)(const void *)p))
                           : _mm512_load_si512(p);
}

/* scores[t][0 .. 16 * nk) of n queries over nk / 2 pages. nk = 4 gives single queries enough independent sums. */
INLINE void score_pages(struct attn_scratch *s, const struct attn_head *h, const struct query_tile *tile,
                        const uint8_t *const *pages, const uint8_t *const *ahead, int at, const int n, const int nk,
                        const enum kv_type type)
{
    const int32_t *q = tile->q;
    const int size = attn_code_size(type), dim_k = h->kv.dim_k;
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
                if (i % 2 == 0 || type == KV_F16)
                    _mm_prefetch((const char *)ahead[i / 2] + (d * SLOTS + i % 2 * 32) * size, _MM_HINT_T1);
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
#pragma GCC unroll 12
        for (int t = 0; t < n; t++)
#pragma GCC unroll 4
            for (int i = 0; i < nk; i++) {
                float *to = &s->scores[t][at + 16 * i];
                __m512 both = _mm512_mul_ps(scale[i], _mm512_set1_ps(tile->q_scale[block * QUERY_TILE + t]));
                __m512 f = block ? _mm512_loadu_ps(to) : _mm512_setzero_ps();
                _mm512_storeu_ps(to, _mm512_fmadd_ps(_mm512_cvtepi32_ps(c[t][i]), both, f));
            }
    }
}

INLINE void score_all(struct attn_scratch *s, const struct attn_head *h, const struct query_tile *q, const int n,
                      const enum kv_type type)
{
    for (int token = q->from / SLOTS * SLOTS; token < q->to;) {
        const bool two = n <= 4 && token + SLOTS < q->to;
        const uint8_t *pages[2], *ahead[2];
        for (int i = 0; i <= (int)two; i++, token += SLOTS) {
            pages[i] = attn_page_at(h, token);
            ahead[i] = attn_next_keys(h, q, token);
        }
        if (two) score_pages(s, h, q, pages, ahead, token - 2 * SLOTS - q->base, n, 4, type);
        else score_pages(s, h, q, pages, ahead, token - SLOTS - q->base, n, 2, type);
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

/* The largest of row[from, to), after the soft cap. */
static float row_max(float *row, int from, int to, float cap)
{
    __m512 max = _mm512_set1_ps(-INFINITY);
    int i = from & ~15;
    for (; cap > 0 && i < to; i += 16) {
        __m512 v = _mm512_loadu_ps(row + i);
        v = _mm512_mul_ps(_mm512_set1_ps(cap), tanh_ps(_mm512_div_ps(v, _mm512_set1_ps(cap))));
        _mm512_storeu_ps(row + i, v);
        max = _mm512_mask_max_ps(max, seen(from, to, i), max, v);
    }
    if (i < from) {
        max = _mm512_mask_max_ps(max, seen(from, to, i), max, _mm512_loadu_ps(row + i));
        i += 16;
    }
    for (; i + 16 <= to; i += 16) max = _mm512_max_ps(max, _mm512_loadu_ps(row + i));
    if (i < to) max = _mm512_mask_max_ps(max, lanes(to - i), max, _mm512_loadu_ps(row + i));
    return _mm512_reduce_max_ps(max);
}

struct value_scales { /* of a block's keys, 32 each */
    const float *page[2];
};

/* weights of 64 keys, those outside [from, to) zero; returns their scale. Adds to *sum. */
INLINE float block_weights(int16_t *weights, __m512 *sum, const float *row, const struct value_scales *v, __m512 offset,
                           int from, int to, const bool whole)
{
    const __m512 log2e = _mm512_set1_ps(1.44269504f);
    __m512 w[4];
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __mmask16 k = whole ? 0xffff : seen(from, to, 16 * i);
        __m512 p = exp2_ps(_mm512_fmadd_ps(_mm512_maskz_loadu_ps(k, row + 16 * i), log2e, offset));
        if (!whole) p = _mm512_maskz_mov_ps(k, p);
        *sum = _mm512_add_ps(*sum, p);
        w[i] = _mm512_mul_ps(p, _mm512_maskz_loadu_ps(k, v->page[i / 2] + i % 2 * 16));
    }
    float max = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_max_ps(w[0], w[1]), _mm512_max_ps(w[2], w[3])));
    const bool zero = !(max > ATTN_TINY);
    const __m512 inverse = _mm512_set1_ps(zero ? 0 : WEIGHT_MAX / max);
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7); /* undoes the lanes of packs */
#pragma GCC unroll 2
    for (int i = 0; i < 4; i += 2) {
        __m512i a = _mm512_cvtps_epi32(_mm512_mul_ps(w[i], inverse));
        __m512i b = _mm512_cvtps_epi32(_mm512_mul_ps(w[i + 1], inverse));
        _mm512_storeu_si512(weights + 16 * i, _mm512_permutexvar_epi64(order, _mm512_packs_epi32(a, b)));
    }
    return zero ? 0 : max * (1.0f / WEIGHT_MAX);
}

/* The weights of query t over the blocks that hold [q->from, q->to). */
INLINE void row_weights(struct attn_scratch *s, float *max_out, float *sum_out, const struct attn_head *h,
                        const struct query_tile *q, int t, int from, int to)
{
    float *row = s->scores[t], max = row_max(row, from, to, h->softcap);
    __m512 sum = _mm512_setzero_ps(), offset = _mm512_set1_ps(max * -1.44269504f);
    const size_t scales = attn_v_scale_offset(&h->kv);
    for (int b = (q->from - q->base) / ATTN_BLOCK; b * ATTN_BLOCK < q->to - q->base; b++) {
        int at = b * ATTN_BLOCK, key = q->base + at;
        struct value_scales v;
        for (int i = 0; i < 2; i++) { /* a page that nobody sees may not be there: the first one then stands for it */
            const uint8_t *page = attn_page_at(h, key + i * SLOTS < q->to ? key + i * SLOTS : key);
            v.page[i] = (const float *)(const void *)(page + scales);
        }
        s->weight_scale[t][b] =
            from <= at && to >= at + ATTN_BLOCK
                ? block_weights(s->weights[t] + at, &sum, row + at, &v, offset, 0, ATTN_BLOCK, true)
                : block_weights(s->weights[t] + at, &sum, row + at, &v, offset, from - at, to - at, false);
    }
    *max_out = max;
    *sum_out = _mm512_reduce_add_ps(sum);
}

/* ---- values ---- */

/* c[t] += weights times a page's values, nv vectors of them */
INLINE void weigh_page(__m512i c[QUERY_TILE][4], const struct attn_scratch *s, const uint8_t *v, const uint8_t *ahead,
                       int at, int v_dims, const int n, const int nv, const enum kv_type type)
{
    for (int pair = 0; pair < SLOTS / 2; pair++) {
        const int step = pair * 2 * v_dims * attn_code_size(type);
        __m512i x[4];
#pragma GCC unroll 4
        for (int i = 0; i < nv; i++) {
            x[i] = load_codes(v + step + 32 * i * attn_code_size(type), type);
            if (i % 2 == 0 || type == KV_F16)
                _mm_prefetch((const char *)ahead + step + 32 * i * attn_code_size(type), _MM_HINT_T1);
        }
#pragma GCC unroll 12
        for (int t = 0; t < n; t++) {
            int32_t both;
            memcpy(&both, &s->weights[t][at + 2 * pair], 4);
            __m512i w = _mm512_set1_epi32(both);
#pragma GCC unroll 4
            for (int i = 0; i < nv; i++) c[t][i] = dot(c[t][i], x[i], w);
        }
    }
}

/* acc rows (dim_v floats each, n_out of them) = weights times values, nv vectors of d at a time. */
INLINE void weigh(float *acc, const struct attn_scratch *s, const struct attn_head *h, const struct query_tile *q,
                  const int n, const int nv, int d, const enum kv_type type)
{
    const int v_dims = attn_v_dims(h->kv.dim_v), first = (q->from - q->base) / ATTN_BLOCK;
    const size_t offset = (size_t)(2 * d * attn_code_size(type));
    for (int b = first; b * ATTN_BLOCK < q->to - q->base; b++) {
        __m512i c[QUERY_TILE][4];
#pragma GCC unroll 12
        for (int t = 0; t < n; t++)
#pragma GCC unroll 4
            for (int i = 0; i < nv; i++) c[t][i] = _mm512_setzero_si512();
        for (int at = b * ATTN_BLOCK; at < (b + 1) * ATTN_BLOCK; at += SLOTS) {
            if (q->base + at + SLOTS <= q->from || q->base + at >= q->to) continue;
            const uint8_t *v = attn_page_at(h, q->base + at) + attn_v_offset(&h->kv) + offset;
            weigh_page(c, s, v, attn_next_values(h, q, q->base + at) + offset, at, v_dims, n, nv, type);
        }
#pragma GCC unroll 12
        for (int t = 0; t < n; t++)
#pragma GCC unroll 4
            for (int i = 0; i < nv; i++) {
                if (t >= q->n) continue;
                __mmask16 k = lanes(h->kv.dim_v - d - 16 * i);
                float *to = acc + t * h->kv.dim_v + d + 16 * i;
                __m512 f = b == first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(k, to);
                f = _mm512_fmadd_ps(_mm512_cvtepi32_ps(c[t][i]), _mm512_set1_ps(s->weight_scale[t][b]), f);
                _mm512_mask_storeu_ps(to, k, f);
            }
    }
}

INLINE void weigh_all(float *acc, const struct attn_scratch *s, const struct attn_head *h, const struct query_tile *q,
                      const int n, const enum kv_type type)
{
    const int wide = n <= 6 ? 4 : 2; /* vectors at a time, as registers allow */
    int d = 0, end = attn_v_dims(h->kv.dim_v);
    for (; d + 16 * wide <= end; d += 16 * wide) weigh(acc, s, h, q, n, wide, d, type);
    for (; d < end; d += 16) weigh(acc, s, h, q, n, 1, d, type);
}

/* ---- tiles ---- */

INLINE float exp_one(float x)
{
    return _mm512_cvtss_f32(exp2_ps(_mm512_set1_ps(x * 1.44269504f)));
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
