/* kernels_internal: the weight panels of the levels c, avx512 and amx, and the fill functions of all levels.
 *
 * A panel is 16 output rows. k is cut into blocks of 32; a block has eight "slices", slice j = k 4j..4j+3 of all rows,
 * dword r of a slice = row r: what one VPDPBUSD and one AMX B tile row want. A panel is
 *     codes[k / 32][bits * 64]    then    scales (struct panel_form says which), padded to 64 bytes.
 * Codes of a block, by bits (every part is 64 bytes, byte for byte over the dwords of a slice):
 *     8: slices 0-7    4: part j = slice j | slice j+4 << 4    2: part i = slices 4i..4i+3 at bits 0, 2, 4, 6
 *     5: as 4, then one part with bit 4 of slice j at bit j    3: as 2, then one part with bit 2 of slice j at bit j
 *     6: as 4, then two parts with bits 4-5 of slices 4i..4i+3 at bits 0, 2, 4, 6
 * The value of a code q is scale * (q - offset) - min, or scale * table[q]. Float types: a panel is [k][16] elements.
 * ISA files include this header, so it holds nothing that is not inline. */
#ifndef KERNELS_KERNELS_INTERNAL_H
#define KERNELS_KERNELS_INTERNAL_H

#include "kernels/kernels.h"
#include "quant/blocks.h"

#define PANEL_ROWS 16
#define BLOCK_LEN 32

enum panel_scales {
    SCALES_F16,     /* per block: f16 scale[16] */
    SCALES_F16_MIN, /* per block: f16 scale[16], f16 min[16] */
    SCALES_E8M0,    /* per block: u8 exponent[16] (quant_e8m0_half_to_f32) */
    SCALES_K32,     /* per 256: f16 d[16], s8 factor[8][16]; scale = d * factor */
    SCALES_K32_MIN, /* per 256: f16 d[16], f16 dmin[16], { u8 factor[16], u8 min_factor[16] }[8] */
    SCALES_K16,     /* per 256: f16 d[16], s8 factor[16][16]: two scales for a block, of 16 k each */
    SCALES_K16_MIN, /* per 256: f16 d[16], f16 dmin[16], u8 (factor | min_factor << 4)[16][16] */
};

struct panel_form {
    int bits;
    int offset;
    const int8_t *table; /* NULL = q - offset */
    enum panel_scales scales;
};

/* By value and inline, so that the compiler folds it where the type is a constant. */
static inline struct panel_form panel_form_get(enum quant_type type)
{
    switch (type) {
    case QUANT_Q4_0: return (struct panel_form){4, 8, NULL, SCALES_F16};
    case QUANT_Q4_1: return (struct panel_form){4, 0, NULL, SCALES_F16_MIN};
    case QUANT_Q5_0: return (struct panel_form){5, 16, NULL, SCALES_F16};
    case QUANT_Q5_1: return (struct panel_form){5, 0, NULL, SCALES_F16_MIN};
    case QUANT_Q8_0: return (struct panel_form){8, 128, NULL, SCALES_F16};
    case QUANT_Q2_K: return (struct panel_form){2, 0, NULL, SCALES_K16_MIN};
    case QUANT_Q3_K: return (struct panel_form){3, 4, NULL, SCALES_K16};
    case QUANT_Q4_K: return (struct panel_form){4, 0, NULL, SCALES_K32_MIN};
    case QUANT_Q5_K: return (struct panel_form){5, 0, NULL, SCALES_K32_MIN};
    case QUANT_Q6_K: return (struct panel_form){6, 32, NULL, SCALES_K16};
    case QUANT_IQ4_NL: return (struct panel_form){4, 128, quant_iq4_values, SCALES_F16};
    case QUANT_IQ4_XS: return (struct panel_form){4, 128, quant_iq4_values, SCALES_K32};
    case QUANT_MXFP4: return (struct panel_form){4, 128, quant_mxfp4_values, SCALES_E8M0};
    default: return (struct panel_form){0, 0, NULL, SCALES_F16};
    }
}

/* Scale bytes of a unit, and blocks in it. */
static inline int panel_scale_bytes(enum panel_scales scales)
{
    switch (scales) {
    case SCALES_F16: return 32;
    case SCALES_F16_MIN: return 64;
    case SCALES_E8M0: return 16;
    case SCALES_K32: return 32 + 8 * 16;
    case SCALES_K32_MIN: return 64 + 8 * 32;
    case SCALES_K16: return 32 + 16 * 16;
    case SCALES_K16_MIN: return 64 + 16 * 16;
    }
    return 0;
}
static inline int panel_unit_blocks(enum panel_scales scales)
{
    return scales >= SCALES_K32 ? QUANT_SUPER / BLOCK_LEN : 1;
}
static inline int panel_has_min(enum panel_scales scales)
{
    return scales == SCALES_F16_MIN || scales == SCALES_K32_MIN || scales == SCALES_K16_MIN;
}
/* Two scales a block. */
static inline int panel_is_split(enum panel_scales scales)
{
    return scales == SCALES_K16 || scales == SCALES_K16_MIN;
}
static inline size_t panel_code_bytes(struct panel_form form, int k)
{
    return (size_t)(k / BLOCK_LEN) * (size_t)form.bits * 64;
}
static inline size_t panel_bytes_of(struct panel_form form, int k)
{
    size_t units = (size_t)(k / BLOCK_LEN / panel_unit_blocks(form.scales));
    return (panel_code_bytes(form, k) + units * (size_t)panel_scale_bytes(form.scales) + 63) & ~(size_t)63;
}
static inline size_t panel_float_bytes(size_t element, int k)
{
    return ((size_t)k * PANEL_ROWS * element + 63) & ~(size_t)63;
}

/* The quantised types, for tables: X(name). Scales of their own for every 32 values, or below a common one for 256. */
#define PANEL_BLOCK_TYPES(X) X(Q4_0) X(Q4_1) X(Q5_0) X(Q5_1) X(Q8_0) X(IQ4_NL) X(MXFP4)
#define PANEL_K_TYPES(X) X(Q2_K) X(Q3_K) X(Q4_K) X(Q5_K) X(Q6_K) X(IQ4_XS)
#define PANEL_TYPES(X) PANEL_BLOCK_TYPES(X) PANEL_K_TYPES(X)
#define PANEL_FLOAT_TYPES(X) X(F32) X(F16) X(BF16)

/* Sets panel_rows, and k_multiple, panel_bytes and pack of every type (plain C; levels c, avx512 and amx). */
void kernels_fill_panels(struct kernels *k);

/* Each lays its level over what is there. */
void kernels_fill_c(struct kernels *k);
void kernels_fill_c_attention(struct kernels *k);
void kernels_fill_c_elementwise(struct kernels *k);
void kernels_fill_avx2(struct kernels *k);
void kernels_fill_avx512(struct kernels *k);
void kernels_fill_amx(struct kernels *k);

#endif
