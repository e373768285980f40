/* blocks: the byte layout of every quantised block, as GGUF files store it. Kernels read weights through these structs.
 * All multi-byte fields are little endian and at most two bytes wide, so the structs may lie at any even address;
 * memcpy a block out where the address is odd. `f16` in a comment: IEEE half as raw bits. Source: ggml's formats. */
#ifndef QUANT_BLOCKS_H
#define QUANT_BLOCKS_H

#include <assert.h>
#include <stdint.h>

#define QUANT_SMALL 32  /* values in a block of the simple formats */
#define QUANT_SUPER 256 /* values in a super-block of the K formats and of IQ4_XS */

/* x = d * (q - 8). Byte j of qs: value j in the low nibble, value j + 16 in the high one; so for all 4-bit blocks. */
struct block_q4_0 {
    uint16_t d; /* f16 */
    uint8_t qs[QUANT_SMALL / 2];
};
static_assert(sizeof(struct block_q4_0) == 18, "q4_0");

/* x = d * q + m */
struct block_q4_1 {
    uint16_t d, m; /* f16 */
    uint8_t qs[QUANT_SMALL / 2];
};
static_assert(sizeof(struct block_q4_1) == 20, "q4_1");

/* x = d * (q - 16); bit j of qh (32 bits, little endian) is bit 4 of value j */
struct block_q5_0 {
    uint16_t d; /* f16 */
    uint8_t qh[4];
    uint8_t qs[QUANT_SMALL / 2];
};
static_assert(sizeof(struct block_q5_0) == 22, "q5_0");

/* x = d * q + m */
struct block_q5_1 {
    uint16_t d, m; /* f16 */
    uint8_t qh[4];
    uint8_t qs[QUANT_SMALL / 2];
};
static_assert(sizeof(struct block_q5_1) == 24, "q5_1");

/* x = d * q */
struct block_q8_0 {
    uint16_t d; /* f16 */
    int8_t qs[QUANT_SMALL];
};
static_assert(sizeof(struct block_q8_0) == 34, "q8_0");

/* 16 groups of 16: x = d * (scales[g] & 15) * q - dmin * (scales[g] >> 4). Each half of 128 values has 32 bytes of qs;
 * bits 2k..2k+1 of byte l hold value 32 k + l of the half. */
struct block_q2_k {
    uint8_t scales[QUANT_SUPER / 16];
    uint8_t qs[QUANT_SUPER / 4];
    uint16_t d, dmin; /* f16 */
};
static_assert(sizeof(struct block_q2_k) == 84, "q2_k");

/* 16 groups of 16: x = d * (scale - 32) * (q - 4 + 4 * high). qs as in q2_k; bit k of hmask[l] is the high bit of value
 * 32 k + l of the block. scales: 6 bits each; the low nibbles of scales 0-7 and 8-15 are the nibbles of bytes 0-7, the
 * upper two bits of scale i lie in byte 8 + i % 4 at bit 2 * (i / 4). */
struct block_q3_k {
    uint8_t hmask[QUANT_SUPER / 8];
    uint8_t qs[QUANT_SUPER / 4];
    uint8_t scales[12];
    uint16_t d; /* f16 */
};
static_assert(sizeof(struct block_q3_k) == 110, "q3_k");

/* 8 groups of 32: x = d * scale * q - dmin * min; scales and mins of 6 bits by quant_scale_min. Groups 2k and 2k + 1
 * are the low and the high nibbles of bytes 32 k .. 32 k + 31 of qs. */
struct block_q4_k {
    uint16_t d, dmin; /* f16 */
    uint8_t scales[12];
    uint8_t qs[QUANT_SUPER / 2];
};
static_assert(sizeof(struct block_q4_k) == 144, "q4_k");

/* as q4_k; bit g of qh[l] is bit 4 of value l of group g */
struct block_q5_k {
    uint16_t d, dmin; /* f16 */
    uint8_t scales[12];
    uint8_t qh[QUANT_SUPER / 8];
    uint8_t qs[QUANT_SUPER / 2];
};
static_assert(sizeof(struct block_q5_k) == 176, "q5_k");

/* 16 groups of 16: x = d * scales[g] * (q - 32). Each half of 128 values has 64 bytes of ql and 32 of qh: value
 * 32 k + l has its low four bits in nibble k / 2 of ql[32 (k % 2) + l] and its upper two at bit 2k of qh[l]. */
struct block_q6_k {
    uint8_t ql[QUANT_SUPER / 2];
    uint8_t qh[QUANT_SUPER / 4];
    int8_t scales[QUANT_SUPER / 16];
    uint16_t d; /* f16 */
};
static_assert(sizeof(struct block_q6_k) == 210, "q6_k");

/* x = d * quant_iq4_values[q] */
struct block_iq4_nl {
    uint16_t d; /* f16 */
    uint8_t qs[QUANT_SMALL / 2];
};
static_assert(sizeof(struct block_iq4_nl) == 18, "iq4_nl");

/* 8 groups of 32: x = d * (scale - 32) * quant_iq4_values[q]; scale of group g: nibble g % 2 of scales_l[g / 2], upper
 * two bits at bit 2g of scales_h. Each group has 16 bytes of qs, laid out as in q4_0. */
struct block_iq4_xs {
    uint16_t d; /* f16 */
    uint16_t scales_h;
    uint8_t scales_l[QUANT_SUPER / 64];
    uint8_t qs[QUANT_SUPER / 2];
};
static_assert(sizeof(struct block_iq4_xs) == 136, "iq4_xs");

/* x = 2^(e - 128) * quant_mxfp4_values[q], by quant_e8m0_half_to_f32(e); OCP Microscaling with doubled values */
struct block_mxfp4 {
    uint8_t e;
    uint8_t qs[QUANT_SMALL / 2];
};
static_assert(sizeof(struct block_mxfp4) == 17, "mxfp4");

extern const int8_t quant_iq4_values[16];
extern const int8_t quant_mxfp4_values[16]; /* twice the E2M1 values: whole numbers */

/* 2^(e - 128): half of what the E8M0 byte says, because the table holds doubled values. */
float quant_e8m0_half_to_f32(uint8_t e);

/* Scale and min (0..63) of group g (0..7) of a q4_k or q5_k block. */
static inline void quant_scale_min(uint8_t *scale, uint8_t *min, const uint8_t scales[12], int g)
{
    if (g < 4) {
        *scale = scales[g] & 63;
        *min = scales[g + 4] & 63;
    } else {
        *scale = (uint8_t)((scales[g + 4] & 15) | (scales[g - 4] >> 6) << 4);
        *min = (uint8_t)(scales[g + 4] >> 4 | (scales[g] >> 6) << 4);
    }
}

/* Scale (0..63, to be lowered by 32) of group g (0..15) of a q3_k block. */
static inline uint8_t quant_q3_scale(const uint8_t scales[12], int g)
{
    int low = scales[g % 8] >> (g / 8 * 4) & 15;
    int high = scales[8 + g % 4] >> (g / 4 * 2) & 3;
    return (uint8_t)(low | high << 4);
}

#endif
