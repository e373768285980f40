/* quant: the table of formats, their unpack functions and the half-width floats. Blocks are copied out of the source
 * before they are read, because tensor data of a hostile file may lie at any address. Every product and sum is
 * rounded on its own (no FMA: -ffp-contract=off), in the order of the reference, so that results agree bit for bit. */
#include "quant/quant.h"

#include <string.h>

#include "quant/blocks.h"

const int8_t quant_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
const int8_t quant_mxfp4_values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float float_of(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

float quant_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 1023;
    if (exponent == 31) return float_of(sign | 0x7f800000 | mantissa << 13);
    if (exponent) return float_of(sign | (exponent + 112) << 23 | mantissa << 13);
    float f = (float)mantissa * 0x1p-24f; /* subnormal: exact */
    return sign ? -f : f;
}

uint16_t quant_f32_to_f16(float f)
{
    uint32_t u = bits_of(f), sign = u >> 16 & 0x8000;
    u &= 0x7fffffff;
    if (u > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (u >> 13 & 0x1ff)); /* NaN stays NaN, made quiet */
    if (u >= 0x477ff000) return (uint16_t)(sign | 0x7c00);                    /* 65520 and more round to infinity */
    if (u < 0x38800000) {
        /* Below 2^-14 the spacing is 2^-24: adding 0.5 makes the float's own rounding do it (ties to even). */
        uint32_t rounded = bits_of(float_of(u) + 0.5f) - bits_of(0.5f);
        return (uint16_t)(sign | rounded);
    }
    uint32_t odd = u >> 13 & 1;
    return (uint16_t)(sign | (u - (112u << 23) + 0xfff + odd) >> 13);
}

float quant_bf16_to_f32(uint16_t h)
{
    return float_of((uint32_t)h << 16);
}

uint16_t quant_f32_to_bf16(float f)
{
    uint32_t u = bits_of(f);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 64); /* NaN, made quiet */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float quant_e8m0_half_to_f32(uint8_t e)
{
    return e < 2 ? float_of(0x00200000u << e) : float_of((uint32_t)(e - 1) << 23);
}

static void unpack_f32(float *dst, const void *src, size_t n)
{
    if (n) memcpy(dst, src, n * sizeof *dst);
}

static void unpack_f16(float *dst, const void *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const char *)src + i * sizeof h, sizeof h);
        dst[i] = quant_f16_to_f32(h);
    }
}

static void unpack_bf16(float *dst, const void *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, (const char *)src + i * sizeof h, sizeof h);
        dst[i] = quant_bf16_to_f32(h);
    }
}

/* Walks the blocks of a format: `b` is a copy of the block, `y` its values. */
#define FOR_BLOCKS(block, len) \
    struct block b;            \
    const char *from = src;    \
    for (float *y = dst, *end = dst + n; y < end && (memcpy(&b, from, sizeof b), true); y += (len), from += sizeof b)

static void unpack_q4_0(float *dst, const void *src, size_t n)
{
    FOR_BLOCKS(block_q4_0, QUANT_SMALL)
    {
        float d = quant_f16_to_f32(b.d);
        for (int j = 0; j < 16; j++) {
            y[j] = d * (float)((b.qs[j] & 15) - 8);
            y[j + 16] = d * (float)((b.qs[j] >> 4) - 8);
        }
    }
}

static void unpack_q4_1(float *dst, const void *src, size_t n)
{
    FOR_BLOCKS(block_q4_1, QUANT_SMALL)
    {
        float d = quant_f16_to_f32(b.d), m = quant_f16_to_f32(b.m);
        for (int j = 0; j < 16; j++) {
            y[j] = d * (float)(b.qs[j] & 15) + m;
            y[j + 16] = d * (float)(b.qs[j] >> 4) + m;
        }
    }
}

/* Value j of a 5-bit block. */
static int five_bits(const uint8_t qs[16], const uint8_t qh[4], int j)
{
    int low = j < 16 ? qs[j] & 15 : qs[j - 16] >> 4;
    return low | (qh[j / 8] >> j % 8 & 1) << 4;
}

static void unpack_q5_0(float *dst, const void *src, size_t n)
{
    FOR_BLOCKS(block_q5_0, QUANT_SMALL)
    {
        float d = quant_f16_to_f32(b.d);
        for (int j = 0; j < QUANT_SMALL; j++) y[j] = d * (float)(five_bits(b.qs, b.qh, j) - 16);
    }
}

static void unpack_q5_1(float *dst, const void *src, size_t n)
{
    FOR_BLOCKS(block_q5_1, QUANT_SMALL)
    {
        float d = quant_f16_to_f32(b.d), m = quant_f16_to_f32(b.m);
        for (int j = 0; j < QUANT_SMALL; j++) y[j] = d * (float)five_bits(b.qs, b.qh, j) + m;
    }
}

static void unpack_q8_0(float *dst, const void *src, size_t n)
{
    FOR_BLOCKS(block_q8_0, QUANT_SMALL)
    {
        float d = quant_f16_to_f32(b.d);
        for (int j = 0; j < QUANT_SMALL; j++) y[j] = d * (float)b.qs[j];
    }
}

static void unpack_q2_k(float *dst, const void *src, size_t n)
{
    FOR_BLOCKS(block_q2_k, QUANT_SUPER)
    {
        float d = quant_f16_to_f32(b.d), dmin = quant_f16_to_f32(b.dmin);
        for (int g = 0; g < 16; g++) {
            float scale = d * (float)(b.scales[g] & 15), min = dmin * (float)(b.scales[g] >> 4);
            const uint8_t *q = b.qs + g / 8 * 32 + g % 2 * 16;
            int shift = g / 2 % 4 * 2;
            for (int l = 0; l < 16; l++) y[g * 16 + l] = scale * (float)(q[l] >> shift & 3) - min;
        }
    }
}

static void unpack_q3_k(float *dst, const void *src, size_t n)
{
    FOR_BLOCKS(block_q3_k, QUANT_SUPER)
    {
        float d = quant_f16_to_f32(b.d);
        for (int g = 0; g < 16; g++) {
            float scale = d * (float)(quant_q3_scale(b.scales, g) - 32);
            const uint8_t *q = b.qs + g / 8 * 32 + g % 2 * 16, *high = b.hmask + g % 2 * 16;
            int shift = g / 2 % 4 * 2;
            for (int l = 0; l < 16; l++) {
                int value = (q[l] >> shift & 3) - (high[l] >> g / 2 & 1 ? 0 : 4);
                y[g * 16 + l] = scale * (float)value;
            }
        }
    }
}

static void unpack_q4_k(float *dst, const void *src, size_t n)
{
    FOR_BLOCKS(block_q4_k, QUANT_SUPER)
    {
        float d = quant_f16_to_f32(b.d), dmin = quant_f16_to_f32(b.dmin);
        for (int g = 0; g < 8; g++) {
            uint8_t scale, min;
            quant_scale_min(&scale, &min, b.scales, g);
            float s = d * (float)scale, m = dmin * (float)min;
            const uint8_t *q = b.qs + g / 2 * 32;
            for (int l = 0; l < 32; l++) y[g * 32 + l] = s * (float)(q[l] >> g % 2 * 4 & 15) - m;
        }
    }
}

static void unpack_q5_k(float *dst, const void *src, size_t n)
{
    FOR_BLOCKS(block_q5_k, QUANT_SUPER)
    {
        float d = quant_f16_to_f32(b.d), dmin = quant_f16_to_f32(b.dmin);
        for (int g = 0; g < 8; g++) {
            uint8_t scale, min;
            quant_scale_min(&scale, &min, b.scales, g);
            float s = d * (float)scale, m = dmin * (float)min;
            const uint8_t *q = b.qs + g / 2 * 32;
            for (int l = 0; l < 32; l++) {
                int value = (q[l] >> g % 2 * 4 & 15) | (b.qh[l] >> g & 1) << 4;
                y[g * 32 + l] = s * (float)value - m;
            }
        }
    }
}

static void unpack_q6_k(float *dst, const void *src, size_t n)
{
    FOR_BLOCKS(block_q6_k, QUANT_SUPER)
    {
        float d = quant_f16_to_f32(b.d);
        for (int g = 0; g < 16; g++) {
            float scale = d * (float)b.scales[g];
            int k = g / 2 % 4; /* which 32 values of the half */
            const uint8_t *low = b.ql + g / 8 * 64 + k % 2 * 32 + g % 2 * 16;
            const uint8_t *high = b.qh + g / 8 * 32 + g % 2 * 16;
            for (int l = 0; l < 16; l++) {
                int value = (low[l] >> k / 2 * 4 & 15) | (high[l] >> k * 2 & 3) << 4;
                y[g * 16 + l] = scale * (float)(value - 32);
            }
        }
    }
}

static void unpack_iq4_nl(float *dst, const void *src, size_t n)
{
    FOR_BLOCKS(block_iq4_nl, QUANT_SMALL)
    {
        float d = quant_f16_to_f32(b.d);
        for (int j = 0; j < 16; j++) {
            y[j] = d * (float)quant_iq4_values[b.qs[j] & 15];
            y[j + 16] = d * (float)quant_iq4_values[b.qs[j] >> 4];
        }
    }
}

static void unpack_iq4_xs(float *dst, const void *src, size_t n)
{
    FOR_BLOCKS(block_iq4_xs, QUANT_SUPER)
    {
        float d = quant_f16_to_f32(b.d);
        for (int g = 0; g < 8; g++) {
            int scale = (b.scales_l[g / 2] >> g % 2 * 4 & 15) | (b.scales_h >> g * 2 & 3) << 4;
            float s = d * (float)(scale - 32);
            const uint8_t *q = b.qs + g * 16;
            for (int j = 0; j < 16; j++) {
                y[g * 32 + j] = s * (float)quant_iq4_values[q[j] & 15];
                y[g * 32 + j + 16] = s * (float)quant_iq4_values[q[j] >> 4];
            }
        }
    }
}

static void unpack_mxfp4(float *dst, const void *src, size_t n)
{
    FOR_BLOCKS(block_mxfp4, QUANT_SMALL)
    {
        float d = quant_e8m0_half_to_f32(b.e);
        for (int j = 0; j < 16; j++) {
            y[j] = d * (float)quant_mxfp4_values[b.qs[j] & 15];
            y[j + 16] = d * (float)quant_mxfp4_values[b.qs[j] >> 4];
        }
    }
}

static const struct quant_format formats[QUANT_N] = {
    [QUANT_F32] = {"F32", 1, 4, unpack_f32},
    [QUANT_F16] = {"F16", 1, 2, unpack_f16},
    [QUANT_BF16] = {"BF16", 1, 2, unpack_bf16},
    [QUANT_I32] = {"I32", 1, 4, NULL},
    [QUANT_Q4_0] = {"Q4_0", QUANT_SMALL, sizeof(struct block_q4_0), unpack_q4_0},
    [QUANT_Q4_1] = {"Q4_1", QUANT_SMALL, sizeof(struct block_q4_1), unpack_q4_1},
    [QUANT_Q5_0] = {"Q5_0", QUANT_SMALL, sizeof(struct block_q5_0), unpack_q5_0},
    [QUANT_Q5_1] = {"Q5_1", QUANT_SMALL, sizeof(struct block_q5_1), unpack_q5_1},
    [QUANT_Q8_0] = {"Q8_0", QUANT_SMALL, sizeof(struct block_q8_0), unpack_q8_0},
    [QUANT_Q2_K] = {"Q2_K", QUANT_SUPER, sizeof(struct block_q2_k), unpack_q2_k},
    [QUANT_Q3_K] = {"Q3_K", QUANT_SUPER, sizeof(struct block_q3_k), unpack_q3_k},
    [QUANT_Q4_K] = {"Q4_K", QUANT_SUPER, sizeof(struct block_q4_k), unpack_q4_k},
    [QUANT_Q5_K] = {"Q5_K", QUANT_SUPER, sizeof(struct block_q5_k), unpack_q5_k},
    [QUANT_Q6_K] = {"Q6_K", QUANT_SUPER, sizeof(struct block_q6_k), unpack_q6_k},
    [QUANT_IQ4_NL] = {"IQ4_NL", QUANT_SMALL, sizeof(struct block_iq4_nl), unpack_iq4_nl},
    [QUANT_IQ4_XS] = {"IQ4_XS", QUANT_SUPER, sizeof(struct block_iq4_xs), unpack_iq4_xs},
    [QUANT_MXFP4] = {"MXFP4", QUANT_SMALL, sizeof(struct block_mxfp4), unpack_mxfp4},
};

const struct quant_format *quant_format_get(uint32_t id)
{
    return id < QUANT_N && formats[id].name ? &formats[id] : NULL;
}

bool quant_row_bytes(size_t *bytes, enum quant_type type, size_t n)
{
    const struct quant_format *f = quant_format_get((uint32_t)type);
    return f && n % f->block_len == 0 && !__builtin_mul_overflow(n / f->block_len, (size_t)f->block_bytes, bytes);
}
