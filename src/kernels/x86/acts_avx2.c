/* acts_avx2: quantisation of activations into the four layouts that matmul_avx2.h describes. A scale is
 * absmax / 127 (absmax / 4095 for int16); values round to nearest even. Pure, any thread; a token's bytes depend on
 * that token and m only. */
#include "kernels/x86/matmul_avx2.h"
#include "kernels/x86/simd_avx2.h"

/* Below this absmax the reciprocal overflows or loses its bits, so the block becomes zeros. */
#define ABSMAX_MIN 1e-30f
/* 13 bits: 32 products with int8 weights sum to less than 2^24, exact in float */
#define INT16_TOP 4095.0f

static size_t act8_bytes(int m, int k)
{
    return (size_t)m * (size_t)(k / 32) * ACT8_BYTES;
}

static size_t act256_bytes(int m, int k)
{
    return (size_t)m * (size_t)(k / 256) * ACT256_BYTES;
}

static size_t act16_bytes(int m, int k)
{
    return (size_t)m * (size_t)(k / 32) * ACT16_BYTES;
}

static size_t actf_bytes(int m, int k)
{
    return (size_t)m * (size_t)((k + 15) / 16) * ACTF_BYTES;
}

AVX2_INLINE float absmax(const float *x, int n)
{
    __m256 m0 = _mm256_setzero_ps(), m1 = m0;
    for (int i = 0; i < n; i += 16) {
        m0 = _mm256_max_ps(m0, abs_f32(_mm256_loadu_ps(x + i)));
        m1 = _mm256_max_ps(m1, abs_f32(_mm256_loadu_ps(x + i + 8)));
    }
    return max_lanes(_mm256_max_ps(m0, m1));
}

/* 32 floats times `inverse`, rounded: q[0] = values 0-3, 8-11, 4-7, 12-15 as int16, q[1] the same of 16-31. */
AVX2_INLINE void round_32(__m256i q[2], const float *x, __m256 inverse)
{
    UNROLL
    for (int i = 0; i < 2; i++) {
        __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 16 * i), inverse));
        __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + 16 * i + 8), inverse));
        q[i] = _mm256_packs_epi32(a, b);
    }
}

AVX2_INLINE __m256i round_to_int8(const float *x, __m256 inverse)
{
    __m256i q[2];
    round_32(q, x, inverse);
    return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(q[0], q[1]), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* In every 32-bit lane of each 128-bit half: the int16 pair of sums of that half's 16 values (index mod 4 below 2, and
 * the others). */
AVX2_INLINE __m256i pair_sums(__m256i q)
{
    __m256i s = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
    s = _mm256_add_epi16(s, _mm256_shuffle_epi32(s, 0x4e));
    return _mm256_add_epi16(s, _mm256_shuffle_epi32(s, 0xb1));
}

AVX2_INLINE uint32_t lane_of_half(__m256i v, int half)
{
    return (uint32_t)(half ? _mm256_extract_epi32(v, 4) : _mm256_extract_epi32(v, 0));
}

AVX2_INLINE int sum_of_pair(uint32_t pair)
{
    return (int16_t)(pair & 0xffff) + (int16_t)(pair >> 16);
}

AVX2_INLINE uint32_t make_pair(int low, int high)
{
    return ((uint32_t)low & 0xffff) | (uint32_t)high << 16;
}

AVX2_INLINE void store_f32(uint8_t *p, float f)
{
    memcpy(p, &f, sizeof f);
}

static void act8_quantize(void *acts, const float *x, size_t x_stride, int m, int k, int from, int to)
{
    for (int t = from; t < to; t++) {
        int w, first = act_tile(&w, m, t), col = t - first;
        uint8_t *unit = (uint8_t *)acts + act8_bytes(first, k);
        const float *row = x + (size_t)t * x_stride;
        for (int i = 0; i < k; i += 32, unit += ACT8_BYTES * w) {
            float top = absmax(row + i, 32), d = top > ABSMAX_MIN ? top / 127.0f : 0.0f;
            __m256i q = round_to_int8(row + i, _mm256_set1_ps(top > ABSMAX_MIN ? 127.0f / top : 0.0f));
            __m256i s = pair_sums(q);
            s = _mm256_add_epi16(s, _mm256_permute2x128_si256(s, s, 1));
            __m256i start = _mm256_sub_epi16(_mm256_setzero_si256(), _mm256_slli_epi16(s, 3));
            store_256(unit + 32 * col, q);
            store_f32(unit + ACT8_D(w) + 4 * col, d);
            store_u32(unit + ACT8_START(w) + 4 * col, lane_of_half(start, 0));
            store_f32(unit + ACT8_DSUM(w) + 4 * col, d * (float)sum_of_pair(lane_of_half(s, 0)));
        }
    }
}

struct unit_sums {
    float half[16], block[8], zeros[8]; /* d * sum of q */
};

/* One block of 32 of a unit of 256. */
AVX2_INLINE void act256_block(uint8_t *unit, struct unit_sums *sums, const float *x, int b, int col, int w)
{
    float top = absmax(x, 32), d = top > ABSMAX_MIN ? top / 127.0f : 0.0f;
    __m256i q = round_to_int8(x, _mm256_set1_ps(top > ABSMAX_MIN ? 127.0f / top : 0.0f)), s = pair_sums(q);
    __m256i start = _mm256_sub_epi16(_mm256_setzero_si256(), _mm256_slli_epi16(s, 5));
    int low = sum_of_pair(lane_of_half(s, 0)), high = sum_of_pair(lane_of_half(s, 1));
    store_256(unit + 32 * (b * w + col), q);
    store_u32(unit + ACT256_START(w) + 8 * (b * w + col), lane_of_half(start, 0));
    store_u32(unit + ACT256_START(w) + 8 * (b * w + col) + 4, lane_of_half(start, 1));
    store_f32(unit + ACT256_D(w) + 4 * (b * w + col), d);
    sums->half[2 * b] = d * (float)low;
    sums->half[2 * b + 1] = d * (float)high;
    sums->block[b] = d * (float)(low + high);
}

/* The sums as 16-bit integers with one scale. */
AVX2_INLINE void act256_sums(uint8_t *unit, const struct unit_sums *sums, int col, int w)
{
    const __m256 v[3] = {_mm256_loadu_ps(sums->half), _mm256_loadu_ps(sums->half + 8), _mm256_loadu_ps(sums->block)};
    float top = absmax(sums->half, (int)(sizeof *sums / sizeof(float)));
    __m256 inverse = _mm256_set1_ps(top > ABSMAX_MIN ? 32767.0f / top : 0.0f);
    int q[3][8];
    for (int i = 0; i < 3; i++) _mm256_storeu_si256((void *)q[i], _mm256_cvtps_epi32(_mm256_mul_ps(v[i], inverse)));
    for (int i = 0; i < 4; i++) {
        store_u32(unit + ACT256_SUM16(w) + 4 * (i * w + col), make_pair(q[0][2 * i], q[0][2 * i + 1]));
        store_u32(unit + ACT256_SUM16(w) + 4 * ((i + 4) * w + col), make_pair(q[1][2 * i], q[1][2 * i + 1]));
        store_u32(unit + ACT256_SUM32(w) + 4 * (i * w + col), make_pair(q[2][2 * i], q[2][2 * i + 1]));
    }
    store_f32(unit + ACT256_SUM_SCALE(w) + 4 * col, top > ABSMAX_MIN ? top / 32767.0f : 0.0f);
}

static void act256_quantize(void *acts, const float *x, size_t x_stride, int m, int k, int from, int to)
{
    for (int t = from; t < to; t++) {
        int w, first = act_tile(&w, m, t), col = t - first;
        uint8_t *unit = (uint8_t *)acts + act256_bytes(first, k);
        const float *row = x + (size_t)t * x_stride;
        for (int i = 0; i < k; i += 256, unit += ACT256_BYTES * w) {
            struct unit_sums sums = {0};
            for (int b = 0; b < 8; b++) act256_block(unit, &sums, row + i + 32 * b, b, col, w);
            act256_sums(unit, &sums, col, w);
        }
    }
}

static void act16_quantize(void *acts, const float *x, size_t x_stride, int m, int k, int from, int to)
{
    for (int t = from; t < to; t++) {
        int w, first = act_tile(&w, m, t), col = t - first;
        uint8_t *unit = (uint8_t *)acts + act16_bytes(first, k);
        const float *row = x + (size_t)t * x_stride;
        for (int i = 0; i < k; i += 32, unit += ACT16_BYTES * w) {
            float top = absmax(row + i, 32);
            __m256i q[2];
            round_32(q, row + i, _mm256_set1_ps(top > ABSMAX_MIN ? INT16_TOP / top : 0.0f));
            store_256(unit + 64 * col, _mm256_permute4x64_epi64(q[0], 0xd8));
            store_256(unit + 64 * col + 32, _mm256_permute4x64_epi64(q[1], 0xd8));
            store_f32(unit + ACT16_D(w) + 4 * col, top > ABSMAX_MIN ? top / INT16_TOP : 0.0f);
        }
    }
}

static void actf_quantize(void *acts, const float *x, size_t x_stride, int m, int k, int from, int to)
{
    for (int t = from; t < to; t++) {
        int w, first = act_tile(&w, m, t);
        float *out = (void *)((uint8_t *)acts + actf_bytes(first, k));
        const float *row = x + (size_t)t * x_stride;
        for (int i = 0; i < (k + 15) / 16 * 16; i++) out[i * w + t - first] = i < k ? row[i] : 0.0f;
    }
}

/* x[n] = d * q */
AVX2_INLINE void restore_int8(float *x, const uint8_t *q, const uint8_t *d, int n)
{
    float factor;
    memcpy(&factor, d, sizeof factor);
    for (int i = 0; i < n; i++) x[i] = factor * (float)(int8_t)q[i];
}

static void act8_restore(float *x, const void *acts, int m, int k, int token)
{
    int w, first = act_tile(&w, m, token), col = token - first;
    const uint8_t *unit = (const uint8_t *)acts + act8_bytes(first, k);
    for (int i = 0; i < k; i += 32, unit += ACT8_BYTES * w)
        restore_int8(x + i, unit + 32 * col, unit + ACT8_D(w) + 4 * col, 32);
}

static void act256_restore(float *x, const void *acts, int m, int k, int token)
{
    int w, first = act_tile(&w, m, token), col = token - first;
    const uint8_t *unit = (const uint8_t *)acts + act256_bytes(first, k);
    for (int i = 0; i < k; i += 256, unit += ACT256_BYTES * w) {
        for (int b = 0; b < 8; b++)
            restore_int8(x + i + 32 * b, unit + 32 * (b * w + col), unit + ACT256_D(w) + 4 * (b * w + col), 32);
    }
}

static void act16_restore(float *x, const void *acts, int m, int k, int token)
{
    int w, first = act_tile(&w, m, token), col = token - first;
    const uint8_t *unit = (const uint8_t *)acts + act16_bytes(first, k);
    for (int i = 0; i < k; i += 32, unit += ACT16_BYTES * w) {
        float d;
        int16_t q[32];
        memcpy(&d, unit + ACT16_D(w) + 4 * col, sizeof d);
        memcpy(q, unit + 64 * col, sizeof q);
        for (int j = 0; j < 32; j++) x[i + j] = d * (float)q[j];
    }
}

static void actf_restore(float *x, const void *acts, int m, int k, int token)
{
    int w, first = act_tile(&w, m, token);
    const float *from = (const void *)((const uint8_t *)acts + actf_bytes(first, k));
    for (int i = 0; i < k; i++) x[i] = from[i * w + token - first];
}

void acts_init_avx2(struct kernels *k)
{
    k->act[ACT8] = (struct act_format){act8_bytes, act8_quantize, act8_restore};
    k->act[ACT256] = (struct act_format){act256_bytes, act256_quantize, act256_restore};
    k->act[ACT16] = (struct act_format){act16_bytes, act16_quantize, act16_restore};
    k->act[ACTF] = (struct act_format){actf_bytes, actf_quantize, actf_restore};
}
