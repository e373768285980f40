/* panels_avx512: reading panels and activations, for the *_avx512.c and *_amx.c files only (everything is inline).
 *
 * Activations of m tokens: groups of `group` tokens (the last one padded with zero tokens), a group unit by unit, the
 * tokens side by side within a unit, so that a kernel reads one stream (w = group). Every 32 values have a scale:
 *   act32   unit of 32:   q s8 [w][32] | scale f32 [w] | unbias f32 [w] | fix i32 [w] | dsum f32 [w]
 *   actk    unit of 256:  q s8 [8][w][32] | scale f32 [8][w] | unbias f32 [8][w] | sum_scale f32 [w] | sum32 [4][w] |
 *                         sum16 [8][w] | fix32 i32 [8][w] | fix16 i32 [16][w]
 * fix: SUM_BIAS - 128 * sum of q, what an accumulator starts with when unsigned weights carry an offset of 128, so that
 * the offset costs nothing; fix32: with offset 127, of each block; fix16: with offset 32, of each half block.
 * dsum: scale * sum of q. sum32, sum16: the same as s16 pairs in units of sum_scale (the largest is 32767), of blocks
 * 2i and 2i+1, of both halves of block i.
 *
 * SUM_BIAS is the float 1.5 * 2^23 as bits: an accumulator that starts there is, read as a float, 1.5 * 2^23 + sum,
 * exactly while |sum| < 2^22. So one FMA with (scale, unbias = -1.5 * 2^23 * scale) converts and scales; scales have 22
 * bits, which makes unbias exact and the result the same as converting and multiplying. */
#ifndef KERNELS_PANELS_AVX512_H
#define KERNELS_PANELS_AVX512_H

#include <string.h>

#include "kernels/kernels_internal.h"
#include "kernels/x86/simd_avx512.h"

#define SMALL_GROUP_MAX 8
#define SMALL_M_MAX 24 /* more tokens: panels are expanded to L1 */
#define LARGE_GROUP 6  /* tokens of the VNNI register tile: 32 rows x 6 */
#define AMX_GROUP 16   /* tokens of an AMX tile */
#define AMX_M_MIN 16
#define CHUNK_BLOCKS 24 /* blocks of a panel pair that are expanded at once: 24 KiB of L1 */

enum { AVX512_ACT32 = 0, AVX512_ACT_FLOAT = 1, AVX512_ACTK = 2 };

#define SUM_BIAS 0x4b400000
#define SUM_BIAS_F32 12582912.0f

/* Bytes of one token and one unit; offsets in a unit of w tokens. */
#define ACT32_BYTES 48
#define ACT32_SCALE(w) (32 * (w))
#define ACT32_UNBIAS(w) (36 * (w))
#define ACT32_FIX(w) (40 * (w))
#define ACT32_DSUM(w) (44 * (w))
#define ACTK_BYTES 468
#define ACTK_SCALE(w) (256 * (w))
#define ACTK_UNBIAS(w) (288 * (w))
#define ACTK_SUM_SCALE(w) (320 * (w))
#define ACTK_SUM32(w) (324 * (w))
#define ACTK_SUM16(w) (340 * (w))
#define ACTK_FIX32(w) (372 * (w))
#define ACTK_FIX16(w) (404 * (w))

struct act_layout {
    int group, n_groups;
};

INLINE struct act_layout act_layout_get(int m, bool amx)
{
    struct act_layout l;
    if (m <= SMALL_M_MAX && !(amx && m >= AMX_M_MIN)) {
        l.n_groups = (m + SMALL_GROUP_MAX - 1) / SMALL_GROUP_MAX;
        int group = (m + l.n_groups - 1) / l.n_groups;
        l.group = group < 2 ? 1 : (group + 1) / 2 * 2; /* 1, 2, 4, 6 or 8 */
    } else {
        l.group = amx ? AMX_GROUP : LARGE_GROUP;
    }
    l.n_groups = (m + l.group - 1) / l.group;
    return l;
}
/* Bytes of a group of tokens. */
INLINE size_t act_group_bytes(const struct act_layout *l, int k, int unit_k, int unit_bytes)
{
    return (size_t)l->group * (size_t)(k / unit_k) * (size_t)unit_bytes;
}

/* Four bytes to every lane: codes of one token, or one of its numbers. */
INLINE __m512i broadcast_32(const uint8_t *p)
{
    int32_t v;
    memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
}
INLINE __m512 broadcast_f32(const uint8_t *p)
{
    return _mm512_castsi512_ps(broadcast_32(p));
}

INLINE __m512i sums_start(void)
{
    return _mm512_set1_epi32(SUM_BIAS);
}
/* The value of biased sums under a token's scale. */
INLINE __m512 sums_scale(__m512i sums, const uint8_t *scale, const uint8_t *unbias)
{
    return _mm512_fmadd_ps(_mm512_castsi512_ps(sums), broadcast_f32(scale), broadcast_f32(unbias));
}

/* ---- codes ---- */

INLINE __m512i shift16(__m512i v, int left)
{
    return left > 0   ? _mm512_sll_epi16(v, _mm_cvtsi32_si128(left))
           : left < 0 ? _mm512_srl_epi16(v, _mm_cvtsi32_si128(-left))
                      : v;
}
/* w | (bits of v, moved left, under a mask) */
INLINE __m512i insert_bits(__m512i w, __m512i v, int left, int mask)
{
    return _mm512_ternarylogic_epi32(w, shift16(v, left), _mm512_set1_epi8((char)mask), 0xf8);
}
INLINE __m512i table_get(const int8_t *table, int bias)
{
    __m128i t = _mm_add_epi8(_mm_loadu_si128((const __m128i *)table), _mm_set1_epi8((char)bias));
    return _mm512_broadcast_i32x4(t);
}

/* The eight slices of a block, as stored: bytes 0 .. 2^bits - 1. */
INLINE void slices_get(__m512i w[8], const uint8_t *block, int bits)
{
    const __m512i low4 = _mm512_set1_epi8(15), low2 = _mm512_set1_epi8(3);
    if (bits == 8) {
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) w[j] = _mm512_load_si512(block + 64 * j);
        return;
    }
    if (bits <= 3) {
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++)
            w[j] = _mm512_and_si512(shift16(_mm512_load_si512(block + j / 4 * 64), -(j % 4) * 2), low2);
    } else {
#pragma GCC unroll 4
        for (int j = 0; j < 4; j++) {
            __m512i v = _mm512_load_si512(block + 64 * j);
            w[j] = _mm512_and_si512(v, low4);
            w[j + 4] = _mm512_and_si512(_mm512_srli_epi16(v, 4), low4);
        }
    }
    if (bits == 3) {
        __m512i h = _mm512_load_si512(block + 128);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) w[j] = insert_bits(w[j], h, 2 - j, 4);
    }
    if (bits == 5) {
        __m512i h = _mm512_load_si512(block + 256);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) w[j] = insert_bits(w[j], h, 4 - j, 16);
    }
    if (bits == 6) {
        __m512i h[2] = {_mm512_load_si512(block + 256), _mm512_load_si512(block + 320)};
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) w[j] = insert_bits(w[j], h[j / 4], 4 - j % 4 * 2, 48);
    }
}

/* Slices with a wanted offset: the value of a byte is (byte - offset), for offset 0 as signed bytes. */
INLINE void slices_get_offset(__m512i w[8], const uint8_t *block, struct panel_form form, int offset)
{
    slices_get(w, block, form.bits);
    if (form.table) {
        const __m512i table = table_get(form.table, offset);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) w[j] = _mm512_shuffle_epi8(table, w[j]);
    } else if (offset != form.offset) {
        const __m512i add = _mm512_set1_epi8((char)(offset - form.offset));
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) w[j] = _mm512_add_epi8(w[j], add);
    }
}

/* ---- scales ---- */

INLINE __m512 load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
/* 2^(e - 128), as quant_e8m0_half_to_f32 */
INLINE __m512 load_e8m0(const void *p)
{
    __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
    __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    __m512i tiny = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2)), tiny));
}
/* The scale of a block of the types with scales for every 32. */
INLINE __m512 block_scale_get(const uint8_t *p, enum panel_scales scales)
{
    return scales == SCALES_E8M0 ? load_e8m0(p) : load_f16(p);
}

/* K types, where p is the scale unit: integer scale of block b, or of half h of it; as s32. */
INLINE __m512i k_factor_get(const uint8_t *p, int b, int h, enum panel_scales scales)
{
    const uint8_t *at = scales == SCALES_K32       ? p + 32 + b * 16
                        : scales == SCALES_K32_MIN ? p + 64 + b * 32
                        : scales == SCALES_K16     ? p + 32 + (2 * b + h) * 16
                                                   : p + 64 + (2 * b + h) * 16;
    __m128i v = _mm_loadu_si128((const __m128i *)at);
    if (scales == SCALES_K16_MIN) return _mm512_and_si512(_mm512_cvtepu8_epi32(v), _mm512_set1_epi32(15));
    return _mm512_cvtepi8_epi32(v); /* K32_MIN: at most 63 */
}
/* Integer mins as s16 pairs that fit actk's sums: pair i = blocks 2i and 2i+1 (K32_MIN), halves of block i (K16_MIN).
 */
INLINE __m512i k_mins_get(const uint8_t *p, int i, enum panel_scales scales)
{
    const bool split = scales == SCALES_K16_MIN;
    const uint8_t *at = split ? p + 64 + 2 * i * 16 : p + 64 + 2 * i * 32 + 16;
    __m512i low = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)at));
    __m512i high = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(at + (split ? 16 : 32))));
    if (split) {
        low = _mm512_srli_epi32(low, 4);
        high = _mm512_srli_epi32(high, 4);
    }
    return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}
/* Pairs of mins in a unit. */
INLINE int k_mins_n(enum panel_scales scales)
{
    return scales == SCALES_K32_MIN ? 4 : scales == SCALES_K16_MIN ? 8 : 0;
}
/* Pair i of token t's sums, to be multiplied with k_mins_get. */
INLINE __m512i k_sums_get(const uint8_t *acts, int i, int t, int w, enum panel_scales scales)
{
    return broadcast_32(acts + (scales == SCALES_K32_MIN ? ACTK_SUM32(w) : ACTK_SUM16(w)) + 4 * (i * w + t));
}
/* Narrow types: the integer scale times the code fits a byte (large kernel), the sums of a block's halves 16 bits
 * (small kernel), so a block is one integer. */
INLINE bool k_is_whole(enum quant_type type)
{
    return type == QUANT_Q2_K || type == QUANT_Q3_K;
}
/* The slices of a block: tables with offset 127, the others as stored. */
INLINE void k_slices_get(__m512i w[8], const uint8_t *codes, struct panel_form form)
{
    if (form.table) slices_get_offset(w, codes, form, 127);
    else slices_get(w, codes, form.bits);
}
/* Adds block b of token t (or half of it) to its unit: biased sums, the block's integer scale. */
INLINE __m512 k_block_add(__m512 g, __m512i sums, __m512 factor, const uint8_t *acts, int b, int t, int w,
                          enum quant_type type)
{
    const int at = 4 * (b * w + t);
    __m512 v = sums_scale(sums, acts + ACTK_SCALE(w) + at, acts + ACTK_UNBIAS(w) + at);
    return k_is_whole(type) ? _mm512_add_ps(g, v) : _mm512_fmadd_ps(v, factor, g);
}
/* Adds a unit of token t to 16 outputs: sum = its products under integer scales. Every path comes through here. */
INLINE __m512 k_unit_add(__m512 f, __m512 sum, __m512i min_sum, __m512 d, __m512 dmin, const uint8_t *acts, int t,
                         int w, bool has_min)
{
    f = _mm512_fmadd_ps(sum, d, f);
    if (!has_min) return f;
    __m512 mins = _mm512_mul_ps(_mm512_cvtepi32_ps(min_sum), broadcast_f32(acts + ACTK_SUM_SCALE(w) + 4 * t));
    return _mm512_fnmadd_ps(mins, dmin, f);
}

/* ---- kernels, by type ---- */
typedef void matmul_fn(float *y, size_t y_stride, const void *panels, const void *acts, int m, int k, int panel_from,
                       int panel_to, void *scratch);
#define DECLARE_MATMUL(name) matmul_fn small_avx512_##name, large_avx512_##name;
PANEL_TYPES(DECLARE_MATMUL)
#undef DECLARE_MATMUL

/* Scratch of the large kernels. */
size_t large_avx512_scratch_bytes(void);
size_t large_k_avx512_scratch_bytes(void);

void kernels_fill_avx512_acts(struct kernels *k);
void kernels_fill_avx512_float(struct kernels *k);
void kernels_fill_avx512_attention(struct kernels *k);
void kernels_fill_avx512_elementwise(struct kernels *k);

size_t acts_avx512_bytes_amx(int m, int k);
void acts_avx512_quantize_amx(void *acts, const float *x, size_t x_stride, int m, int k, int from, int to);
void acts_avx512_restore_amx(float *x, const void *acts, int m, int k, int token);

#endif
