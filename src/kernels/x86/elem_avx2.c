/* elem_avx2: element-wise kernels on rows of floats. The last, partial vector goes through a buffer, so that nothing
 * outside a row is touched and all elements see the same operations. (Masked loads would do, but QEMU, which runs the
 * tests as an older CPU, reads whole vectors for them.) Pure, any thread. */
#include <math.h>

#include "kernels/x86/matmul_avx2.h"
#include "kernels/x86/simd_avx2.h"

#define ARGMAX_BLOCK 1024

/* Up to 8 floats; lanes beyond n are 0. */
AVX2_INLINE __m256 load_part(const float *x, int n)
{
    if (n >= 8) return _mm256_loadu_ps(x);
    float part[8] = {0};
    for (int i = 0; i < n; i++) part[i] = x[i];
    return _mm256_loadu_ps(part);
}

AVX2_INLINE void store_part(float *x, __m256 v, int n)
{
    if (n >= 8) {
        _mm256_storeu_ps(x, v);
        return;
    }
    float part[8];
    _mm256_storeu_ps(part, v);
    for (int i = 0; i < n; i++) x[i] = part[i];
}

static float sum_of_squares(const float *x, int n)
{
    __m256 s[4];
    UNROLL
    for (int j = 0; j < 4; j++) s[j] = _mm256_setzero_ps();
    int i = 0;
    for (; i + 32 <= n; i += 32) {
        UNROLL
        for (int j = 0; j < 4; j++) {
            __m256 v = _mm256_loadu_ps(x + i + 8 * j);
            s[j] = _mm256_fmadd_ps(v, v, s[j]);
        }
    }
    for (; i < n; i += 8) {
        __m256 v = load_part(x + i, n - i);
        s[0] = _mm256_fmadd_ps(v, v, s[0]);
    }
    return sum_lanes(_mm256_add_ps(_mm256_add_ps(s[0], s[1]), _mm256_add_ps(s[2], s[3])));
}

static void rmsnorm(float *y, const float *x, const float *weight, int n, float eps)
{
    __m256 factor = _mm256_set1_ps(1.0f / sqrtf(sum_of_squares(x, n) / (float)n + eps));
    for (int i = 0; i < n; i += 8) {
        __m256 v = _mm256_mul_ps(load_part(x + i, n - i), factor);
        if (weight) v = _mm256_mul_ps(v, load_part(weight + i, n - i));
        store_part(y + i, v, n - i);
    }
}

static void add(float *y, const float *x, int n)
{
    for (int i = 0; i < n; i += 8)
        store_part(y + i, _mm256_add_ps(load_part(y + i, n - i), load_part(x + i, n - i)), n - i);
}

static void scale(float *y, float factor, int n)
{
    __m256 f = _mm256_set1_ps(factor);
    for (int i = 0; i < n; i += 8) store_part(y + i, _mm256_mul_ps(load_part(y + i, n - i), f), n - i);
}

/* x / (1 + e^-z) */
AVX2_INLINE __m256 times_sigmoid(__m256 x, __m256 z)
{
    __m256 e = exp_f32(_mm256_sub_ps(_mm256_setzero_ps(), z));
    return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0f), e));
}

static void silu_mul(float *y, const float *gate, const float *up, int n)
{
    for (int i = 0; i < n; i += 8) {
        __m256 g = load_part(gate + i, n - i);
        store_part(y + i, _mm256_mul_ps(times_sigmoid(g, g), load_part(up + i, n - i)), n - i);
    }
}

/* 0.5 g (1 + tanh u) = g / (1 + e^-2u), u = sqrt(2 / pi) (g + 0.044715 g^3) */
static void gelu_mul(float *y, const float *gate, const float *up, int n)
{
    const __m256 twice_root = _mm256_set1_ps(1.59576912f), cubic = _mm256_set1_ps(1.59576912f * 0.044715f);
    for (int i = 0; i < n; i += 8) {
        __m256 g = load_part(gate + i, n - i);
        __m256 z = _mm256_mul_ps(g, _mm256_fmadd_ps(_mm256_mul_ps(g, g), cubic, twice_root));
        store_part(y + i, _mm256_mul_ps(times_sigmoid(g, z), load_part(up + i, n - i)), n - i);
    }
}

static void softcap(float *x, float cap, int n)
{
    __m256 c = _mm256_set1_ps(cap);
    for (int i = 0; i < n; i += 8)
        store_part(x + i, _mm256_mul_ps(c, tanh_f32(_mm256_div_ps(load_part(x + i, n - i), c))), n - i);
}

/* One head, pairs (i, i + half). */
static void rope_halves(float *x, const float *cs, int half)
{
    for (int i = 0; i < half; i += 8) {
        int n = half - i;
        __m256 a = load_part(cs + 2 * i, 2 * n), b = n > 4 ? load_part(cs + 2 * i + 8, 2 * n - 8) : _mm256_setzero_ps();
        /* (cos, sin) of 8 pairs, apart: shuffles work within halves, the permutation puts the pairs in order */
        __m256 c = _mm256_shuffle_ps(a, b, 0x88), s = _mm256_shuffle_ps(a, b, 0xdd);
        c = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(c), 0xd8));
        s = _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(s), 0xd8));
        __m256 x0 = load_part(x + i, n), x1 = load_part(x + half + i, n);
        store_part(x + i, _mm256_fmsub_ps(x0, c, _mm256_mul_ps(x1, s)), n);
        store_part(x + half + i, _mm256_fmadd_ps(x0, s, _mm256_mul_ps(x1, c)), n);
    }
}

/* One head, pairs (2i, 2i + 1). */
static void rope_neighbours(float *x, const float *cs, int n_rot)
{
    for (int i = 0; i < n_rot; i += 8) {
        __m256 v = load_part(x + i, n_rot - i), a = load_part(cs + i, n_rot - i);
        __m256 swapped = _mm256_mul_ps(_mm256_permute_ps(v, 0xb1), _mm256_movehdup_ps(a));
        store_part(x + i, _mm256_fmaddsub_ps(v, _mm256_moveldup_ps(a), swapped), n_rot - i);
    }
}

static void rope(float *x, const float *cs, int n_heads, int dim, int n_rot, bool neox)
{
    for (int h = 0; h < n_heads; h++, x += dim) {
        if (neox) rope_halves(x, cs, n_rot / 2);
        else rope_neighbours(x, cs, n_rot);
    }
}

/* Maximum of n floats; NaN do not count. */
static float max_of(const float *x, int n)
{
    __m256 m0 = _mm256_set1_ps(-INFINITY), m1 = m0;
    int i = 0;
    for (; i + 16 <= n; i += 16) { /* the new value is the first operand: max returns the second when either is NaN */
        m0 = _mm256_max_ps(_mm256_loadu_ps(x + i), m0);
        m1 = _mm256_max_ps(_mm256_loadu_ps(x + i + 8), m1);
    }
    float m = max_lanes(_mm256_max_ps(m0, m1));
    for (; i < n; i++) m = x[i] > m ? x[i] : m;
    return m;
}

static int argmax(const float *x, int n)
{
    int block = 0;
    float best = -INFINITY;
    for (int i = 0; i < n; i += ARGMAX_BLOCK) {
        float m = max_of(x + i, n - i < ARGMAX_BLOCK ? n - i : ARGMAX_BLOCK);
        if (m > best) {
            best = m;
            block = i;
        }
    }
    for (int i = block; i < n; i++) {
        if (x[i] == best) return i;
    }
    return 0;
}

void elem_init_avx2(struct kernels *k)
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
