/* elementwise_avx512: norms, activations, rope and argmax; tails by masks, so nothing past n is touched. */
#include <math.h>

#include "kernels/x86/panels_avx512.h"

static void rmsnorm(float *y, const float *x, const float *weight, int n, float eps)
{
    __m512 sums[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    int i = 0;
    for (; i + 64 <= n; i += 64)
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            __m512 v = _mm512_loadu_ps(x + i + 16 * j);
            sums[j] = _mm512_fmadd_ps(v, v, sums[j]);
        }
    for (; i < n; i += 16) {
        __m512 v = _mm512_maskz_loadu_ps(lanes(n - i), x + i);
        sums[0] = _mm512_fmadd_ps(v, v, sums[0]);
    }
    float sum = _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sums[0], sums[1]), _mm512_add_ps(sums[2], sums[3])));
    __m512 factor = _mm512_set1_ps(1.0f / sqrtf(sum / (float)n + eps));
    for (i = 0; i < n; i += 16) {
        __mmask16 k = lanes(n - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(k, x + i), factor);
        if (weight) v = _mm512_mul_ps(v, _mm512_maskz_loadu_ps(k, weight + i));
        _mm512_mask_storeu_ps(y + i, k, v);
    }
}

static void add(float *y, const float *x, int n)
{
    for (int i = 0; i < n; i += 16) {
        __mmask16 k = lanes(n - i);
        _mm512_mask_storeu_ps(y + i, k,
                              _mm512_add_ps(_mm512_maskz_loadu_ps(k, y + i), _mm512_maskz_loadu_ps(k, x + i)));
    }
}

static void scale(float *y, float factor, int n)
{
    for (int i = 0; i < n; i += 16) {
        __mmask16 k = lanes(n - i);
        _mm512_mask_storeu_ps(y + i, k, _mm512_mul_ps(_mm512_maskz_loadu_ps(k, y + i), _mm512_set1_ps(factor)));
    }
}

static void silu_mul(float *y, const float *gate, const float *up, int n)
{
    const __m512 one = _mm512_set1_ps(1.0f);
    for (int i = 0; i < n; i += 16) {
        __mmask16 k = lanes(n - i);
        __m512 g = _mm512_maskz_loadu_ps(k, gate + i);
        __m512 e = exp_ps(_mm512_sub_ps(_mm512_setzero_ps(), g));
        __m512 v = _mm512_div_ps(g, _mm512_add_ps(one, e));
        _mm512_mask_storeu_ps(y + i, k, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(k, up + i)));
    }
}

static void gelu_mul(float *y, const float *gate, const float *up, int n)
{
    const __m512 one = _mm512_set1_ps(1.0f), half = _mm512_set1_ps(0.5f);
    for (int i = 0; i < n; i += 16) {
        __mmask16 k = lanes(n - i);
        __m512 g = _mm512_maskz_loadu_ps(k, gate + i);
        __m512 cubic = _mm512_fmadd_ps(_mm512_mul_ps(g, g), _mm512_set1_ps(0.044715f), one);
        __m512 th = tanh_ps(_mm512_mul_ps(_mm512_mul_ps(g, _mm512_set1_ps(0.7978845608f)), cubic));
        __m512 v = _mm512_mul_ps(_mm512_mul_ps(half, g), _mm512_add_ps(one, th));
        _mm512_mask_storeu_ps(y + i, k, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(k, up + i)));
    }
}

static void softcap(float *x, float cap, int n)
{
    const __m512 c = _mm512_set1_ps(cap);
    for (int i = 0; i < n; i += 16) {
        __mmask16 k = lanes(n - i);
        _mm512_mask_storeu_ps(x + i, k, _mm512_mul_ps(c, tanh_ps(_mm512_div_ps(_mm512_maskz_loadu_ps(k, x + i), c))));
    }
}

static void rope_neox(float *x, const float *cs, int half)
{
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    for (int i = 0; i < half; i += 16) {
        __mmask16 k = lanes(half - i);
        __m512 lo = _mm512_maskz_loadu_ps(lanes(2 * (half - i)), cs + 2 * i);
        __m512 hi = _mm512_maskz_loadu_ps(lanes(2 * (half - i) - 16), cs + 2 * i + 16);
        __m512 c = _mm512_permutex2var_ps(lo, even, hi), s = _mm512_permutex2var_ps(lo, odd, hi);
        __m512 a = _mm512_maskz_loadu_ps(k, x + i), b = _mm512_maskz_loadu_ps(k, x + half + i);
        _mm512_mask_storeu_ps(x + i, k, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
        _mm512_mask_storeu_ps(x + half + i, k, _mm512_fmadd_ps(a, s, _mm512_mul_ps(b, c)));
    }
}

static void rope_pairs(float *x, const float *cs, int n_rot)
{
    for (int i = 0; i < n_rot; i += 16) {
        __mmask16 k = lanes(n_rot - i);
        __m512 v = _mm512_maskz_loadu_ps(k, x + i), t = _mm512_maskz_loadu_ps(k, cs + i);
        __m512 swapped = _mm512_permute_ps(v, 0xb1);
        _mm512_mask_storeu_ps(
            x + i, k, _mm512_fmaddsub_ps(v, _mm512_moveldup_ps(t), _mm512_mul_ps(swapped, _mm512_movehdup_ps(t))));
    }
}

static void rope(float *x, const float *cs, int n_heads, int dim, int n_rot, bool neox)
{
    for (int h = 0; h < n_heads; h++, x += dim) {
        if (neox) rope_neox(x, cs, n_rot / 2);
        else rope_pairs(x, cs, n_rot / 2 * 2);
    }
}

static int argmax(const float *x, int n)
{
    __m512 max = _mm512_set1_ps(-INFINITY);
    for (int i = 0; i < n; i += 16)
        max = _mm512_mask_max_ps(max, lanes(n - i), max, _mm512_maskz_loadu_ps(lanes(n - i), x + i));
    __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(max));
    for (int i = 0; i < n; i += 16) {
        __mmask16 k = lanes(n - i);
        __mmask16 hit = _mm512_mask_cmp_ps_mask(k, _mm512_maskz_loadu_ps(k, x + i), top, _CMP_EQ_OQ);
        if (hit) return i + __builtin_ctz(hit);
    }
    return 0;
}

void kernels_fill_avx512_elementwise(struct kernels *k)
{
    k->rmsnorm = rmsnorm;
    k->add = add;
    k->scale = scale;
    k->silu_mul = silu_mul;
    k->gelu_mul = gelu_mul;
    k->softcap = softcap;
    k->rope = rope;
    k->argmax = argmax;
}
