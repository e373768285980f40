/* acts_avx512: quantises activations to int8 per 32 values, in the layout of panels_avx512.h (levels avx512 and amx,
 * which differ only in the group size for many tokens). */
#include <string.h>

#include "kernels/x86/panels_avx512.h"

struct act_out { /* where one block of one token goes */
    int8_t *q;
    float *arrays; /* element of ACT_SCALE */
    size_t n;      /* distance of the arrays */
};

INLINE void quantize_block(struct act_out o, const float *x)
{
    __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
    float max = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
    bool zero = !(max > 1e-30f); /* 127 / max would overflow */
    float scale = zero ? 0 : max / 127.0f;
    __m512 inverse = _mm512_set1_ps(zero ? 0 : 127.0f / max);
    __m512i qa = _mm512_cvtps_epi32(_mm512_mul_ps(a, inverse)), qb = _mm512_cvtps_epi32(_mm512_mul_ps(b, inverse));
    _mm_storeu_si128((__m128i *)o.q, _mm512_cvtsepi32_epi8(qa));
    _mm_storeu_si128((__m128i *)(o.q + 16), _mm512_cvtsepi32_epi8(qb));
    int sum_0 = _mm512_reduce_add_epi32(qa), sum_1 = _mm512_reduce_add_epi32(qb);
    int32_t fix[3] = {-128 * (sum_0 + sum_1), -128 * sum_0, -128 * sum_1};
    float *f = o.arrays;
    *f = scale;
    memcpy(f + ACT_FIX * o.n, &fix[0], 4);
    memcpy(f + ACT_FIX_0 * o.n, &fix[1], 4);
    memcpy(f + ACT_FIX_1 * o.n, &fix[2], 4);
    f[ACT_SUM * o.n] = scale * (float)(sum_0 + sum_1);
    f[ACT_SUM_0 * o.n] = scale * (float)sum_0;
    f[ACT_SUM_1 * o.n] = scale * (float)sum_1;
}

INLINE struct act_out out_get(void *acts, const struct act_layout *l, int token, int block)
{
    size_t i = act_index(l, token, block);
    return (struct act_out){(int8_t *)acts + i * BLOCK_LEN, (float *)((int8_t *)acts + l->n * BLOCK_LEN) + i, l->n};
}

static void clear_token(void *acts, const struct act_layout *l, int token)
{
    for (int b = 0; b < l->n_blocks; b++) {
        struct act_out o = out_get(acts, l, token, b);
        memset(o.q, 0, BLOCK_LEN);
        for (int i = 0; i < ACT_ARRAYS; i++) o.arrays[(size_t)i * o.n] = 0;
    }
}

INLINE void quantize(void *acts, const float *x, size_t x_stride, int m, int k, int from, int to, bool amx)
{
    struct act_layout l = act_layout_get(m, k, amx);
    for (int t = from; t < to; t++)
        for (int b = 0; b < l.n_blocks; b++)
            quantize_block(out_get(acts, &l, t, b), x + (size_t)t * x_stride + (size_t)b * BLOCK_LEN);
    if (to == m) /* who has the last token also clears the padding behind it */
        for (int t = m; t < l.n_groups * l.group; t++) clear_token(acts, &l, t);
}

INLINE void restore(float *x, const void *acts, int m, int k, int token, bool amx)
{
    struct act_layout l = act_layout_get(m, k, amx);
    for (int i = 0; i < k; i++) {
        size_t at = act_index(&l, token, i / BLOCK_LEN);
        x[i] = (float)act_codes(acts)[at * BLOCK_LEN + (size_t)(i % BLOCK_LEN)] * act_floats(acts, &l, ACT_SCALE)[at];
    }
}

static size_t act_bytes(int m, int k)
{
    struct act_layout l = act_layout_get(m, k, false);
    return act_layout_bytes(&l);
}

static void quantize_avx512(void *acts, const float *x, size_t x_stride, int m, int k, int from, int to)
{
    quantize(acts, x, x_stride, m, k, from, to, false);
}

static void restore_avx512(float *x, const void *acts, int m, int k, int token)
{
    restore(x, acts, m, k, token, false);
}

size_t acts_avx512_bytes_amx(int m, int k)
{
    struct act_layout l = act_layout_get(m, k, true);
    return act_layout_bytes(&l);
}

void acts_avx512_quantize_amx(void *acts, const float *x, size_t x_stride, int m, int k, int from, int to)
{
    quantize(acts, x, x_stride, m, k, from, to, true);
}

void acts_avx512_restore_amx(float *x, const void *acts, int m, int k, int token)
{
    restore(x, acts, m, k, token, true);
}

void kernels_fill_avx512_acts(struct kernels *k)
{
    k->act[0] = (struct act_format){act_bytes, quantize_avx512, restore_avx512};
}
