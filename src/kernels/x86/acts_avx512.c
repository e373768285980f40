/* acts_avx512: quantises activations to int8 with a scale per 32 values, in the layouts of panels_avx512.h (levels
 * avx512 and amx, which differ only in the group size for many tokens). Two blocks at a time: reductions share their
 * shuffles. A token's bytes depend on that token and m only. */
#include "kernels/x86/panels_avx512.h"

/* Below this absmax the reciprocal overflows or loses its bits, so the block becomes zeros. */
#define ABSMAX_MIN 1e-30f

struct pair { /* two blocks of 32 */
    __m512 x[2][2];
};

INLINE struct pair pair_load(const float *first, const float *second)
{
    return (struct pair){{{_mm512_loadu_ps(first), _mm512_loadu_ps(first + 16)},
                          {_mm512_loadu_ps(second), _mm512_loadu_ps(second + 16)}}};
}

/* The block's absmax in every lane of its half: first block low, second high. */
INLINE __m512 pair_absmax(const struct pair *p)
{
    __m512 a = _mm512_max_ps(_mm512_abs_ps(p->x[0][0]), _mm512_abs_ps(p->x[0][1]));
    __m512 b = _mm512_max_ps(_mm512_abs_ps(p->x[1][0]), _mm512_abs_ps(p->x[1][1]));
    __m512 m = _mm512_max_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    m = _mm512_max_ps(m, _mm512_shuffle_f32x4(m, m, 0xb1));
    m = _mm512_max_ps(m, _mm512_permute_ps(m, 0x4e));
    return _mm512_max_ps(m, _mm512_permute_ps(m, 0xb1));
}

/* Rounded to bytes, in order: first block low, second high. */
INLINE __m512i pair_round(const struct pair *p, __m512 inverse_first, __m512 inverse_second)
{
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i a = _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(p->x[0][0], inverse_first)),
                                   _mm512_cvtps_epi32(_mm512_mul_ps(p->x[0][1], inverse_first)));
    __m512i b = _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(p->x[1][0], inverse_second)),
                                   _mm512_cvtps_epi32(_mm512_mul_ps(p->x[1][1], inverse_second)));
    return _mm512_permutexvar_epi32(order, _mm512_packs_epi16(a, b));
}

/* Sums of the four half blocks. */
INLINE void pair_sums(int32_t sums[4], __m512i q)
{
    __m512i s = _mm512_sad_epu8(_mm512_xor_si512(q, _mm512_set1_epi8((char)0x80)), _mm512_setzero_si512());
    s = _mm512_add_epi32(s, _mm512_shuffle_epi32(s, (_MM_PERM_ENUM)0x4e));
    s = _mm512_sub_epi32(s, _mm512_set1_epi32(16 * 128));
    _mm_storeu_si128((__m128i *)sums, _mm512_castsi512_si128(_mm512_maskz_compress_epi32(0x1111, s)));
}

INLINE void put_i32(uint8_t *p, int32_t v)
{
    memcpy(p, &v, sizeof v);
}
INLINE void put_f32(uint8_t *p, float v)
{
    memcpy(p, &v, sizeof v);
}
INLINE float inverse_get(float absmax)
{
    return absmax > ABSMAX_MIN ? 127.0f / absmax : 0.0f;
}
/* Of 22 bits, see SUM_BIAS. */
INLINE float scale_get(float absmax)
{
    float scale = absmax > ABSMAX_MIN ? absmax * (1.0f / 127.0f) : 0.0f;
    uint32_t bits;
    memcpy(&bits, &scale, sizeof bits);
    bits &= ~UINT32_C(3);
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

/* Where a token of m lies: its group's first byte, and its place in the group. */
INLINE uint8_t *token_get(int *col, void *acts, const struct act_layout *l, int token, size_t group_bytes)
{
    *col = token % l->group;
    return (uint8_t *)acts + (size_t)(token / l->group) * group_bytes;
}

/* ---- per 32 ---- */

INLINE void block_put(uint8_t *unit, __m256i q, float absmax, int32_t sum, int w, int col)
{
    float scale = scale_get(absmax);
    _mm256_storeu_si256((__m256i *)(unit + 32 * col), q);
    put_f32(unit + ACT32_SCALE(w) + 4 * col, scale);
    put_f32(unit + ACT32_UNBIAS(w) + 4 * col, -SUM_BIAS_F32 * scale);
    put_i32(unit + ACT32_FIX(w) + 4 * col, SUM_BIAS - 128 * sum);
    put_f32(unit + ACT32_DSUM(w) + 4 * col, scale * (float)sum);
}

/* The last of an odd number of blocks is done twice, or paired with the one before it: the bytes are the same. */
INLINE void token32_quantize(uint8_t *group, const float *x, int n_blocks, int w, int col)
{
    for (int b = 0; b < n_blocks; b += 2) {
        int first = b + 1 < n_blocks || b == 0 ? b : b - 1, second = first + 1 < n_blocks ? first + 1 : first;
        struct pair p = pair_load(x + first * BLOCK_LEN, x + second * BLOCK_LEN);
        __m512 max = pair_absmax(&p);
        float max_0 = _mm512_cvtss_f32(max), max_1 = _mm_cvtss_f32(_mm512_extractf32x4_ps(max, 2));
        __m512i q = pair_round(&p, _mm512_set1_ps(inverse_get(max_0)), _mm512_set1_ps(inverse_get(max_1)));
        int32_t sums[4];
        pair_sums(sums, q);
        block_put(group + (size_t)first * ACT32_BYTES * (size_t)w, _mm512_castsi512_si256(q), max_0, sums[0] + sums[1],
                  w, col);
        block_put(group + (size_t)second * ACT32_BYTES * (size_t)w, _mm512_extracti64x4_epi64(q, 1), max_1,
                  sums[2] + sums[3], w, col);
    }
}

INLINE size_t bytes32(int m, int k, bool amx)
{
    struct act_layout l = act_layout_get(m, amx);
    return act_group_bytes(&l, k, BLOCK_LEN, ACT32_BYTES) * (size_t)l.n_groups;
}

INLINE void quantize32(void *acts, const float *x, size_t x_stride, int m, int k, int from, int to, bool amx)
{
    struct act_layout l = act_layout_get(m, amx);
    size_t group_bytes = act_group_bytes(&l, k, BLOCK_LEN, ACT32_BYTES);
    int col, n_blocks = k / BLOCK_LEN, end = to == m ? l.n_groups * l.group : to;
    for (int t = from; t < end; t++) {
        uint8_t *group = token_get(&col, acts, &l, t, group_bytes);
        if (t < m) {
            token32_quantize(group, x + (size_t)t * x_stride, n_blocks, l.group, col);
            continue;
        }
        for (int b = 0; b < n_blocks; b++) /* who has the last token also clears the padding behind it */
            block_put(group + (size_t)b * ACT32_BYTES * (size_t)l.group, _mm256_setzero_si256(), 0, 0, l.group, col);
    }
}

INLINE void restore_codes(float *x, const uint8_t *q, const uint8_t *scale, int n)
{
    float factor;
    memcpy(&factor, scale, sizeof factor);
    for (int i = 0; i < n; i++) x[i] = (float)(int8_t)q[i] * factor;
}

INLINE void restore32(float *x, const void *acts, int m, int k, int token, bool amx)
{
    struct act_layout l = act_layout_get(m, amx);
    int w = l.group, col = token % w;
    const uint8_t *unit = (const uint8_t *)acts + (size_t)(token / w) * act_group_bytes(&l, k, BLOCK_LEN, ACT32_BYTES);
    for (int i = 0; i < k; i += BLOCK_LEN, unit += ACT32_BYTES * w)
        restore_codes(x + i, unit + BLOCK_LEN * col, unit + ACT32_SCALE(w) + 4 * col, BLOCK_LEN);
}

/* ---- units of 256 ---- */

struct unit_sums {
    float half[16], block[8]; /* scale * sum of q */
};

/* Blocks b and b + 1 of a unit. */
INLINE void unit_pair_put(uint8_t *unit, struct unit_sums *sums, const float *x, int b, int w, int col)
{
    struct pair p = pair_load(x + b * BLOCK_LEN, x + (b + 1) * BLOCK_LEN);
    __m512 max = pair_absmax(&p);
    const float top[2] = {_mm512_cvtss_f32(max), _mm_cvtss_f32(_mm512_extractf32x4_ps(max, 2))};
    __m512i q = pair_round(&p, _mm512_set1_ps(inverse_get(top[0])), _mm512_set1_ps(inverse_get(top[1])));
    int32_t s[4];
    pair_sums(s, q);
    _mm256_storeu_si256((__m256i *)(unit + 32 * (b * w + col)), _mm512_castsi512_si256(q));
    _mm256_storeu_si256((__m256i *)(unit + 32 * ((b + 1) * w + col)), _mm512_extracti64x4_epi64(q, 1));
    for (int i = 0; i < 4; i++) put_i32(unit + ACTK_FIX16(w) + 4 * ((2 * b + i) * w + col), SUM_BIAS - 32 * s[i]);
    for (int i = 0; i < 2; i++) {
        float scale = scale_get(top[i]);
        put_f32(unit + ACTK_SCALE(w) + 4 * ((b + i) * w + col), scale);
        put_f32(unit + ACTK_UNBIAS(w) + 4 * ((b + i) * w + col), -SUM_BIAS_F32 * scale);
        put_i32(unit + ACTK_FIX32(w) + 4 * ((b + i) * w + col), SUM_BIAS - 127 * (s[2 * i] + s[2 * i + 1]));
        sums->half[2 * (b + i)] = scale * (float)s[2 * i];
        sums->half[2 * (b + i) + 1] = scale * (float)s[2 * i + 1];
        sums->block[b + i] = scale * (float)(s[2 * i] + s[2 * i + 1]);
    }
}

/* The sums as 16-bit integers with one scale. */
INLINE void unit_sums_put(uint8_t *unit, const struct unit_sums *sums, int w, int col)
{
    __m512 half = _mm512_loadu_ps(sums->half);
    __m256 block = _mm256_loadu_ps(sums->block);
    __m512 both = _mm512_max_ps(_mm512_abs_ps(half), _mm512_abs_ps(_mm512_broadcast_f32x8(block)));
    float top = _mm512_reduce_max_ps(both), inverse = top > ABSMAX_MIN ? 32767.0f / top : 0.0f;
    int16_t q[24];
    _mm256_storeu_si256((__m256i *)q,
                        _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(_mm512_mul_ps(half, _mm512_set1_ps(inverse)))));
    _mm_storeu_si128((__m128i *)(q + 16),
                     _mm256_cvtsepi32_epi16(_mm256_cvtps_epi32(_mm256_mul_ps(block, _mm256_set1_ps(inverse)))));
    for (int i = 0; i < 8; i++) memcpy(unit + ACTK_SUM16(w) + 4 * (i * w + col), q + 2 * i, 4);
    for (int i = 0; i < 4; i++) memcpy(unit + ACTK_SUM32(w) + 4 * (i * w + col), q + 16 + 2 * i, 4);
    put_f32(unit + ACTK_SUM_SCALE(w) + 4 * col, top > ABSMAX_MIN ? top * (1.0f / 32767.0f) : 0.0f);
}

static size_t bytes_k(int m, int k)
{
    struct act_layout l = act_layout_get(m, false);
    return act_group_bytes(&l, k, QUANT_SUPER, ACTK_BYTES) * (size_t)l.n_groups;
}

static void quantize_k(void *acts, const float *x, size_t x_stride, int m, int k, int from, int to)
{
    static const float zeros[QUANT_SUPER];
    struct act_layout l = act_layout_get(m, false);
    size_t group_bytes = act_group_bytes(&l, k, QUANT_SUPER, ACTK_BYTES);
    int col, end = to == m ? l.n_groups * l.group : to;
    for (int t = from; t < end; t++) {
        uint8_t *unit = token_get(&col, acts, &l, t, group_bytes);
        for (int i = 0; i < k; i += QUANT_SUPER, unit += ACTK_BYTES * l.group) {
            const float *values = t < m ? x + (size_t)t * x_stride + i : zeros;
            struct unit_sums sums;
            for (int b = 0; b < QUANT_SUPER / BLOCK_LEN; b += 2) unit_pair_put(unit, &sums, values, b, l.group, col);
            unit_sums_put(unit, &sums, l.group, col);
        }
    }
}

static void restore_k(float *x, const void *acts, int m, int k, int token)
{
    struct act_layout l = act_layout_get(m, false);
    int w = l.group, col = token % w;
    const uint8_t *unit = (const uint8_t *)acts + (size_t)(token / w) * act_group_bytes(&l, k, QUANT_SUPER, ACTK_BYTES);
    for (int i = 0; i < k; i += QUANT_SUPER, unit += ACTK_BYTES * w)
        for (int b = 0; b < QUANT_SUPER / BLOCK_LEN; b++) {
            int at = b * w + col;
            restore_codes(x + i + b * BLOCK_LEN, unit + BLOCK_LEN * at, unit + ACTK_SCALE(w) + 4 * at, BLOCK_LEN);
        }
}

/* ---- tables ---- */

static size_t bytes32_avx512(int m, int k)
{
    return bytes32(m, k, false);
}

static void quantize32_avx512(void *acts, const float *x, size_t x_stride, int m, int k, int from, int to)
{
    quantize32(acts, x, x_stride, m, k, from, to, false);
}

static void restore32_avx512(float *x, const void *acts, int m, int k, int token)
{
    restore32(x, acts, m, k, token, false);
}

size_t acts_avx512_bytes_amx(int m, int k)
{
    return bytes32(m, k, true);
}

void acts_avx512_quantize_amx(void *acts, const float *x, size_t x_stride, int m, int k, int from, int to)
{
    quantize32(acts, x, x_stride, m, k, from, to, true);
}

void acts_avx512_restore_amx(float *x, const void *acts, int m, int k, int token)
{
    restore32(x, acts, m, k, token, true);
}

void kernels_fill_avx512_acts(struct kernels *k)
{
    k->act[AVX512_ACT32] = (struct act_format){bytes32_avx512, quantize32_avx512, restore32_avx512};
    k->act[AVX512_ACTK] = (struct act_format){bytes_k, quantize_k, restore_k};
}
