/* panels: packs GGUF blocks into the panels of kernels_internal.h. Plain C for every level that uses these panels;
 * runs at load, in parallel by panels. Codes are moved as they are, scales keep their bits (mins change their sign
 * where the format adds them), so a panel holds exactly what the file said. */
#include <string.h>

#include "kernels/kernels_internal.h"

/* Inlined, so that the type is a constant in every pack function. */
#define INLINE static inline __attribute__((always_inline))

union block {
    struct block_q4_0 q4_0;
    struct block_q4_1 q4_1;
    struct block_q5_0 q5_0;
    struct block_q5_1 q5_1;
    struct block_q8_0 q8_0;
    struct block_q2_k q2_k;
    struct block_q3_k q3_k;
    struct block_q4_k q4_k;
    struct block_q5_k q5_k;
    struct block_q6_k q6_k;
    struct block_iq4_nl iq4_nl;
    struct block_iq4_xs iq4_xs;
    struct block_mxfp4 mxfp4;
};

/* ---- codes of one GGUF block, in k order ---- */

static void nibbles(uint8_t *q, const uint8_t *qs)
{
    for (int j = 0; j < 16; j++) {
        q[j] = qs[j] & 15;
        q[j + 16] = qs[j] >> 4;
    }
}

static void fifth_bits(uint8_t *q, const uint8_t qh[4])
{
    for (int j = 0; j < 32; j++) q[j] = (uint8_t)(q[j] | (qh[j / 8] >> j % 8 & 1) << 4);
}

static void codes_q2_k(uint8_t *q, const union block *b)
{
    for (int g = 0; g < 8; g++, q += 32) /* inner loops of constant length and shift are vectorised */
        for (int l = 0; l < 32; l++) q[l] = b->q2_k.qs[g / 4 * 32 + l] >> g % 4 * 2 & 3;
}

static void codes_q3_k(uint8_t *q, const union block *b)
{
    for (int g = 0; g < 8; g++, q += 32)
        for (int l = 0; l < 32; l++)
            q[l] = (uint8_t)((b->q3_k.qs[g / 4 * 32 + l] >> g % 4 * 2 & 3) | (b->q3_k.hmask[l] >> g & 1) << 2);
}

static void nibbles_k(uint8_t *q, const uint8_t *qs)
{
    for (int g = 0; g < 4; g++)
        for (int l = 0; l < 32; l++) {
            q[g * 64 + l] = qs[g * 32 + l] & 15;
            q[g * 64 + 32 + l] = qs[g * 32 + l] >> 4;
        }
}

static void codes_q5_k(uint8_t *q, const union block *b)
{
    nibbles_k(q, b->q5_k.qs);
    for (int g = 0; g < 8; g++, q += 32)
        for (int l = 0; l < 32; l++) q[l] = (uint8_t)(q[l] | (b->q5_k.qh[l] >> g & 1) << 4);
}

static void codes_q6_k(uint8_t *q, const union block *b)
{
    for (int g = 0; g < 8; g++, q += 32) {
        const uint8_t *low = b->q6_k.ql + g / 4 * 64 + g % 2 * 32, *high = b->q6_k.qh + g / 4 * 32;
        for (int l = 0; l < 32; l++) q[l] = (uint8_t)((low[l] >> g % 4 / 2 * 4 & 15) | (high[l] >> g % 4 * 2 & 3) << 4);
    }
}

INLINE void codes_get(uint8_t *q, enum quant_type type, const union block *b)
{
    switch (type) {
    case QUANT_Q4_0: nibbles(q, b->q4_0.qs); break;
    case QUANT_Q4_1: nibbles(q, b->q4_1.qs); break;
    case QUANT_Q5_0:
        nibbles(q, b->q5_0.qs);
        fifth_bits(q, b->q5_0.qh);
        break;
    case QUANT_Q5_1:
        nibbles(q, b->q5_1.qs);
        fifth_bits(q, b->q5_1.qh);
        break;
    case QUANT_Q8_0:
        for (int j = 0; j < 32; j++) q[j] = (uint8_t)(b->q8_0.qs[j] + 128);
        break;
    case QUANT_Q2_K: codes_q2_k(q, b); break;
    case QUANT_Q3_K: codes_q3_k(q, b); break;
    case QUANT_Q4_K: nibbles_k(q, b->q4_k.qs); break;
    case QUANT_Q5_K: codes_q5_k(q, b); break;
    case QUANT_Q6_K: codes_q6_k(q, b); break;
    case QUANT_IQ4_NL: nibbles(q, b->iq4_nl.qs); break;
    case QUANT_IQ4_XS:
        for (int g = 0; g < 8; g++) nibbles(q + g * 32, b->iq4_xs.qs + g * 16);
        break;
    case QUANT_MXFP4: nibbles(q, b->mxfp4.qs); break;
    default: break;
    }
}

/* ---- scales of one row into the scale unit of the panel ---- */

static void put_f16(uint8_t *unit, int index, int r, uint16_t h)
{
    memcpy(unit + index * 32 + r * 2, &h, sizeof h);
}

INLINE void scales_put(uint8_t *unit, int r, enum quant_type type, const union block *b)
{
    switch (type) {
    case QUANT_Q4_0: put_f16(unit, 0, r, b->q4_0.d); break;
    case QUANT_Q5_0: put_f16(unit, 0, r, b->q5_0.d); break;
    case QUANT_Q8_0: put_f16(unit, 0, r, b->q8_0.d); break;
    case QUANT_IQ4_NL: put_f16(unit, 0, r, b->iq4_nl.d); break;
    case QUANT_Q4_1:
        put_f16(unit, 0, r, b->q4_1.d);
        put_f16(unit, 1, r, b->q4_1.m ^ 0x8000);
        break;
    case QUANT_Q5_1:
        put_f16(unit, 0, r, b->q5_1.d);
        put_f16(unit, 1, r, b->q5_1.m ^ 0x8000);
        break;
    case QUANT_MXFP4: unit[r] = b->mxfp4.e; break;
    case QUANT_Q2_K:
        put_f16(unit, 0, r, b->q2_k.d);
        put_f16(unit, 1, r, b->q2_k.dmin);
        for (int g = 0; g < 16; g++) unit[64 + g * 16 + r] = b->q2_k.scales[g];
        break;
    case QUANT_Q3_K:
        put_f16(unit, 0, r, b->q3_k.d);
        for (int g = 0; g < 16; g++) unit[32 + g * 16 + r] = (uint8_t)(quant_q3_scale(b->q3_k.scales, g) - 32);
        break;
    case QUANT_Q6_K:
        put_f16(unit, 0, r, b->q6_k.d);
        for (int g = 0; g < 16; g++) unit[32 + g * 16 + r] = (uint8_t)b->q6_k.scales[g];
        break;
    case QUANT_Q4_K:
    case QUANT_Q5_K: /* the two structs begin alike */
        put_f16(unit, 0, r, b->q4_k.d);
        put_f16(unit, 1, r, b->q4_k.dmin);
        for (int g = 0; g < 8; g++)
            quant_scale_min(&unit[64 + g * 32 + r], &unit[64 + g * 32 + 16 + r], b->q4_k.scales, g);
        break;
    case QUANT_IQ4_XS:
        put_f16(unit, 0, r, b->iq4_xs.d);
        for (int g = 0; g < 8; g++) {
            int scale = (b->iq4_xs.scales_l[g / 2] >> g % 2 * 4 & 15) | (b->iq4_xs.scales_h >> g * 2 & 3) << 4;
            unit[32 + g * 16 + r] = (uint8_t)(scale - 32);
        }
        break;
    default: break;
    }
}

/* ---- codes of a row into the slices of one block: eight dwords of q, dword r of the parts ---- */

static uint32_t dword_get(const uint8_t *p)
{
    uint32_t u;
    memcpy(&u, p, sizeof u);
    return u;
}

INLINE void codes_put(uint8_t *block, int r, int bits, const uint8_t *q)
{
    uint32_t parts[8] = {0};
    for (int j = 0; j < 8; j++) {
        uint32_t c = dword_get(q + 4 * j);
        switch (bits) {
        case 8: parts[j] = c; break;
        case 6:
            parts[4 + j / 4] |= (c >> 4 & 0x03030303) << j % 4 * 2;
            parts[j % 4] |= (c & 0x0f0f0f0f) << j / 4 * 4;
            break;
        case 5:
            parts[4] |= (c >> 4 & 0x01010101) << j;
            parts[j % 4] |= (c & 0x0f0f0f0f) << j / 4 * 4;
            break;
        case 4: parts[j % 4] |= c << j / 4 * 4; break;
        case 3:
            parts[2] |= (c >> 2 & 0x01010101) << j;
            parts[j / 4] |= (c & 0x03030303) << j % 4 * 2;
            break;
        case 2: parts[j / 4] |= c << j % 4 * 2; break;
        }
    }
    for (int i = 0; i < bits; i++) memcpy(block + i * 64 + r * 4, &parts[i], 4);
}

/* As the format table has it; here a constant, so that blocks are copied by a few moves. */
INLINE size_t block_bytes_of(enum quant_type type)
{
    switch (type) {
    case QUANT_Q4_0: return sizeof(struct block_q4_0);
    case QUANT_Q4_1: return sizeof(struct block_q4_1);
    case QUANT_Q5_0: return sizeof(struct block_q5_0);
    case QUANT_Q5_1: return sizeof(struct block_q5_1);
    case QUANT_Q8_0: return sizeof(struct block_q8_0);
    case QUANT_Q2_K: return sizeof(struct block_q2_k);
    case QUANT_Q3_K: return sizeof(struct block_q3_k);
    case QUANT_Q4_K: return sizeof(struct block_q4_k);
    case QUANT_Q5_K: return sizeof(struct block_q5_k);
    case QUANT_Q6_K: return sizeof(struct block_q6_k);
    case QUANT_IQ4_NL: return sizeof(struct block_iq4_nl);
    case QUANT_IQ4_XS: return sizeof(struct block_iq4_xs);
    case QUANT_MXFP4: return sizeof(struct block_mxfp4);
    default: return 0;
    }
}

INLINE void pack(void *panel, const void *const *rows, int k, enum quant_type type)
{
    struct panel_form form = panel_form_get(type);
    int unit_blocks = panel_unit_blocks(form.scales), n_units = k / BLOCK_LEN / unit_blocks;
    const size_t block_bytes = block_bytes_of(type);
    uint8_t *codes = panel, *scales = codes + panel_code_bytes(form, k), *end = codes + panel_bytes_of(form, k);
    for (int u = 0; u < n_units; u++) {
        for (int r = 0; r < PANEL_ROWS; r++) {
            union block b;
            uint8_t q[QUANT_SUPER];
            if (rows[r]) memcpy(&b, (const uint8_t *)rows[r] + (size_t)u * block_bytes, block_bytes);
            else memset(&b, 0, sizeof b); /* a block of zeros in every format: scale 0, or code 0 with value 0 */
            codes_get(q, type, &b);
            scales_put(scales, r, type, &b);
            for (int i = 0; i < unit_blocks; i++)
                codes_put(codes + i * form.bits * 64, r, form.bits, q + i * BLOCK_LEN);
        }
        codes += unit_blocks * form.bits * 64;
        scales += panel_scale_bytes(form.scales);
    }
    memset(scales, 0, (size_t)(end - scales));
}

static void pack_float(void *panel, const void *const *rows, int k, size_t element)
{
    uint8_t *out = panel;
    for (int r = 0; r < PANEL_ROWS; r++) {
        const uint8_t *row = rows[r];
        for (size_t i = 0; i < (size_t)k; i++) {
            uint8_t *to = out + (i * PANEL_ROWS + (size_t)r) * element;
            if (row && element == 4) memcpy(to, row + i * 4, 4);
            else if (row) memcpy(to, row + i * 2, 2);
            else memset(to, 0, element);
        }
    }
}

#define DEFINE_TYPE(name)                                                \
    static size_t panel_bytes_##name(int k)                              \
    {                                                                    \
        return panel_bytes_of(panel_form_get(QUANT_##name), k);          \
    }                                                                    \
    static void pack_##name(void *panel, const void *const *rows, int k) \
    {                                                                    \
        pack(panel, rows, k, QUANT_##name);                              \
    }
PANEL_TYPES(DEFINE_TYPE)

#define DEFINE_FLOAT_TYPE(name)                                          \
    static size_t panel_bytes_##name(int k)                              \
    {                                                                    \
        return panel_float_bytes(QUANT_##name == QUANT_F32 ? 4 : 2, k);  \
    }                                                                    \
    static void pack_##name(void *panel, const void *const *rows, int k) \
    {                                                                    \
        pack_float(panel, rows, k, QUANT_##name == QUANT_F32 ? 4 : 2);   \
    }
PANEL_FLOAT_TYPES(DEFINE_FLOAT_TYPE)

void kernels_fill_panels(struct kernels *k)
{
    k->panel_rows = PANEL_ROWS;
#define SET_TYPE(name)                                                                                       \
    k->matmul[QUANT_##name].k_multiple = BLOCK_LEN * panel_unit_blocks(panel_form_get(QUANT_##name).scales); \
    k->matmul[QUANT_##name].panel_bytes = panel_bytes_##name;                                                \
    k->matmul[QUANT_##name].pack = pack_##name;
    PANEL_TYPES(SET_TYPE)
#define SET_FLOAT_TYPE(name)                                  \
    k->matmul[QUANT_##name].k_multiple = 1;                   \
    k->matmul[QUANT_##name].panel_bytes = panel_bytes_##name; \
    k->matmul[QUANT_##name].pack = pack_##name;
    PANEL_FLOAT_TYPES(SET_FLOAT_TYPE)
}
