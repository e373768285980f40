/* panels_avx512: reading panels and activations, for the *_avx512.c and *_amx.c files only (everything is inline).
 *
 * Activations of m tokens: groups of `group` tokens (the last one padded with zero tokens), block by block, so that a
 * kernel reads one stream: q[n_groups][n_blocks][group][32], and beside it arrays of the same order with the scale, the
 * offset corrections -128 * sum(q) of the block and of its halves (accumulators start there: u8 weights cost nothing),
 * and scale * sum(q) for the types with mins. */
#ifndef KERNELS_PANELS_AVX512_H
#define KERNELS_PANELS_AVX512_H

#include "kernels/kernels_internal.h"
#include "kernels/x86/simd_avx512.h"

#define SMALL_GROUP_MAX 8
#define SMALL_M_MAX 24 /* more tokens: panels are expanded to L1 */
#define LARGE_GROUP 6  /* tokens of the VNNI register tile: 32 rows x 6 */
#define AMX_GROUP 16   /* tokens of an AMX tile */
#define AMX_M_MIN 16
#define CHUNK_BLOCKS 24 /* blocks of a panel pair that are expanded at once: 24 KiB of L1 */

enum act_array { ACT_SCALE, ACT_FIX, ACT_FIX_0, ACT_FIX_1, ACT_SUM, ACT_SUM_0, ACT_SUM_1, ACT_ARRAYS };

struct act_layout {
    int group, n_groups, n_blocks;
    size_t n; /* elements of each array */
};

INLINE struct act_layout act_layout_get(int m, int k, bool amx)
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
    l.n_blocks = k / BLOCK_LEN;
    l.n = (size_t)l.n_groups * (size_t)l.n_blocks * (size_t)l.group;
    return l;
}
INLINE size_t act_layout_bytes(const struct act_layout *l)
{
    return l->n * (BLOCK_LEN + ACT_ARRAYS * 4);
}
INLINE const int8_t *act_codes(const void *acts)
{
    return acts;
}
INLINE const float *act_floats(const void *acts, const struct act_layout *l, enum act_array a)
{
    return (const float *)((const int8_t *)acts + l->n * BLOCK_LEN) + l->n * (size_t)a;
}
INLINE const int32_t *act_ints(const void *acts, const struct act_layout *l, enum act_array a)
{
    return (const int32_t *)act_floats(acts, l, a);
}
/* Index of a token's block in the arrays. */
INLINE size_t act_index(const struct act_layout *l, int token, int block)
{
    return ((size_t)(token / l->group) * (size_t)l->n_blocks + (size_t)block) * (size_t)l->group +
           (size_t)(token % l->group);
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

struct unit_scales { /* what a unit's blocks share */
    __m512 d, dmin;
};
struct block_scales { /* [half]; types that are not split use [0] */
    __m512 scale[2], min[2];
};

INLINE __m512 load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
INLINE __m512 load_s8(const void *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
/* 2^(e - 128), as quant_e8m0_half_to_f32 */
INLINE __m512 load_e8m0(const void *p)
{
    __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
    __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
    __m512i tiny = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
    return _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, _mm512_cmplt_epi32_mask(e, _mm512_set1_epi32(2)), tiny));
}

INLINE void unit_scales_get(struct unit_scales *u, const uint8_t *p, enum panel_scales scales)
{
    u->d = scales == SCALES_E8M0 ? load_e8m0(p) : load_f16(p);
    u->dmin = panel_has_min(scales) ? load_f16(p + 32) : _mm512_setzero_ps();
}

/* Scales of block i of the unit at p. */
INLINE void block_scales_get(struct block_scales *s, const struct unit_scales *u, const uint8_t *p, int i,
                             enum panel_scales scales)
{
    s->scale[0] = u->d;
    s->min[0] = u->dmin;
    if (scales == SCALES_K32) s->scale[0] = _mm512_mul_ps(u->d, load_s8(p + 32 + i * 16));
    if (scales == SCALES_K32_MIN) {
        s->scale[0] = _mm512_mul_ps(u->d, load_s8(p + 64 + i * 32));
        s->min[0] = _mm512_mul_ps(u->dmin, load_s8(p + 64 + i * 32 + 16));
    }
#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        if (scales == SCALES_K16) s->scale[h] = _mm512_mul_ps(u->d, load_s8(p + 32 + (2 * i + h) * 16));
        if (scales == SCALES_K16_MIN) {
            __m512i both = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(p + 64 + (2 * i + h) * 16)));
            s->scale[h] = _mm512_mul_ps(u->d, _mm512_cvtepi32_ps(_mm512_and_si512(both, _mm512_set1_epi32(15))));
            s->min[h] = _mm512_mul_ps(u->dmin, _mm512_cvtepi32_ps(_mm512_srli_epi32(both, 4)));
        }
    }
}

/* ---- kernels, by type ---- */
typedef void matmul_fn(float *y, size_t y_stride, const void *panels, const void *acts, int m, int k, int panel_from,
                       int panel_to, void *scratch);
#define DECLARE_MATMUL(name) matmul_fn small_avx512_##name, large_avx512_##name;
PANEL_TYPES(DECLARE_MATMUL)
#undef DECLARE_MATMUL

/* Scratch of the large kernel. */
size_t large_avx512_scratch_bytes(void);

void kernels_fill_avx512_acts(struct kernels *k);
void kernels_fill_avx512_float(struct kernels *k);
void kernels_fill_avx512_attention(struct kernels *k);
void kernels_fill_avx512_elementwise(struct kernels *k);

size_t acts_avx512_bytes_amx(int m, int k);
void acts_avx512_quantize_amx(void *acts, const float *x, size_t x_stride, int m, int k, int from, int to);
void acts_avx512_restore_amx(float *x, const void *acts, int m, int k, int token);

#endif
