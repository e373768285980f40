/* simd_avx2: what the AVX2 files share: loads, the two integer multiply-adds, reductions and the exponential.
 * Included only by *_avx2.c. AVX2, FMA and F16C; nothing newer. */
#ifndef KERNELS_X86_SIMD_AVX2_H
#define KERNELS_X86_SIMD_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define AVX2_INLINE static inline __attribute__((always_inline))
/* Before loops with a constant bound only: a bound that is not constant cancels it silently. */
#define UNROLL _Pragma("GCC unroll 16")
/* Pins the order of additions. Without it gcc reassociates integer sums, computes all products first and spills every
 * one of them: half the speed. */
#define KEEP(x) __asm__ volatile("" : "+x"(x))

AVX2_INLINE __m256i load_256(const void *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

AVX2_INLINE void store_256(void *p, __m256i v)
{
    _mm256_storeu_si256((__m256i *)p, v);
}

AVX2_INLINE __m128i load_128(const void *p)
{
    return _mm_loadu_si128((const __m128i *)p);
}

AVX2_INLINE __m256 load_f16(const void *p)
{
    return _mm256_cvtph_ps(load_128(p));
}

AVX2_INLINE __m256 load_bf16(const void *p)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_128(p)), 16));
}

AVX2_INLINE uint32_t load_u32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

AVX2_INLINE void store_u32(void *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}

/* Four bytes (or two int16) to every lane. */
AVX2_INLINE __m256i broadcast_32(const void *p)
{
    return _mm256_castps_si256(_mm256_broadcast_ss((const float *)p));
}

AVX2_INLINE __m256 broadcast_f32(const void *p)
{
    return _mm256_broadcast_ss((const float *)p);
}

/* int16 lanes: sum + u8 weights * s8 activations, pairs added. The product must not saturate: weights <= 129. */
AVX2_INLINE __m256i mad_u8s8(__m256i sum, __m256i w, __m256i a)
{
    sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(w, a));
    KEEP(sum);
    return sum;
}

/* int32 lanes: sum + int16 * int16, pairs added. */
AVX2_INLINE __m256i mad_s16(__m256i sum, __m256i w, __m256i a)
{
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(w, a));
    KEEP(sum);
    return sum;
}

AVX2_INLINE float sum_lanes(__m256 v)
{
    __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    s = _mm_add_ps(s, _mm_movehl_ps(s, s));
    return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

AVX2_INLINE float max_lanes(__m256 v)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

AVX2_INLINE __m256 abs_f32(__m256 v)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v);
}

/* e^x within 2 ulp for -87.3 <= x <= 88.3; 0 below (no subnormals), e^88.3 above; NaN gives an unspecified number.
 * x = n ln 2 + r with |r| <= ln 2 / 2; e^r by its Taylor polynomial of degree 7 (remainder below 2^-26). */
AVX2_INLINE __m256 exp_f32(__m256 x)
{
    const __m256 lowest = _mm256_set1_ps(-87.3f);
    __m256 underflow = _mm256_cmp_ps(x, lowest, _CMP_LT_OQ);
    x = _mm256_min_ps(_mm256_max_ps(x, lowest), _mm256_set1_ps(88.3f));
    __m256 n =
        _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    /* ln 2 in two parts; the first has few enough bits that n times it is exact */
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
    __m256 e = _mm256_set1_ps(1.0f / 5040);
    e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(1.0f / 720));
    e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(1.0f / 120));
    e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(1.0f / 24));
    e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(1.0f / 6));
    e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(0.5f));
    e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(1.0f));
    e = _mm256_fmadd_ps(e, r, _mm256_set1_ps(1.0f));
    __m256i scaled = _mm256_add_epi32(_mm256_castps_si256(e), _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23));
    return _mm256_andnot_ps(underflow, _mm256_castsi256_ps(scaled));
}

/* tanh x within 3 ulp: an odd polynomial below 0.625, where 1 - 2 / (e^2x + 1) would cancel. */
AVX2_INLINE __m256 tanh_f32(__m256 x)
{
    const __m256 sign = _mm256_set1_ps(-0.0f), one = _mm256_set1_ps(1.0f);
    __m256 a = _mm256_min_ps(abs_f32(x), _mm256_set1_ps(10.0f)), z = _mm256_mul_ps(x, x);
    __m256 p = _mm256_set1_ps(-5.70498873e-3f);
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(2.06390888e-2f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-5.37397156e-2f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(1.33314422e-1f));
    p = _mm256_fmadd_ps(p, z, _mm256_set1_ps(-3.33332819e-1f));
    p = _mm256_fmadd_ps(_mm256_mul_ps(p, z), x, x);
    __m256 e = exp_f32(_mm256_add_ps(a, a));
    __m256 t = _mm256_sub_ps(one, _mm256_div_ps(_mm256_set1_ps(2.0f), _mm256_add_ps(e, one)));
    t = _mm256_or_ps(t, _mm256_and_ps(x, sign));
    return _mm256_blendv_ps(t, p, _mm256_cmp_ps(a, _mm256_set1_ps(0.625f), _CMP_LT_OQ));
}

#endif
