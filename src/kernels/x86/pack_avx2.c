/* pack_avx2: GGUF blocks of 8 rows into the panels of the AVX2 level. Interleaving happens in 32-bit words: word j of
 * row r goes to lane r of vector j. Bits and nibbles are sorted four bytes at a time in such a word. Pure, any thread.
 */
#include "kernels/x86/pack_avx2.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/x86/matmul_avx2.h"
#include "quant/blocks.h"

#define LOW_NIBBLES 0x0f0f0f0fu
#define LOW_PAIRS 0x03030303u

static const uint8_t zero_block[256]; /* zero in every format; no block is longer */

static const void *block_of(const void *row, size_t i, size_t size)
{
    return row ? (const uint8_t *)row + i * size : zero_block;
}

static uint32_t word_get(const void *p, int i)
{
    uint32_t v;
    memcpy(&v, (const uint8_t *)p + 4 * i, sizeof v);
    return v;
}

/* Lane r of vector j. */
static void word_put(uint8_t *vectors, int j, int r, uint32_t v)
{
    memcpy(vectors + 32 * j + 4 * r, &v, sizeof v);
}

static void half_put(uint8_t *p, int r, uint16_t v)
{
    memcpy(p + 2 * r, &v, sizeof v);
}

static uint32_t swap_middle_bytes(uint32_t v)
{
    return (v & 0xff0000ffu) | (v & 0x0000ff00u) << 8 | (v & 0x00ff0000u) >> 8;
}

/* Bit j of byte i = bit i of byte j. */
static uint64_t transpose_bits(uint64_t x)
{
    uint64_t t = (x ^ (x >> 7)) & 0x00aa00aa00aa00aau;
    x ^= t ^ (t << 7);
    t = (x ^ (x >> 14)) & 0x0000cccc0000ccccu;
    x ^= t ^ (t << 14);
    t = (x ^ (x >> 28)) & 0x00000000f0f0f0f0u;
    return x ^ t ^ (t << 28);
}

/* Bits 4j + i of v to bit j of byte i. */
static uint32_t spread_bits(uint32_t v)
{
    uint64_t x = v;
    x = (x | x << 16) & 0x0000ffff0000ffffu;
    x = (x | x << 8) & 0x00ff00ff00ff00ffu;
    x = (x | x << 4) & 0x0f0f0f0f0f0f0f0fu; /* byte j = nibble j */
    return (uint32_t)transpose_bits(x);
}

/* ---- types of 32 values under a float scale ---- */

static void put_words(uint8_t *vectors, const void *src, int n, int r)
{
    for (int j = 0; j < n; j++) word_put(vectors, j, r, word_get(src, j));
}

void pack_q4_0_avx2(void *panel, const void *const *rows, int k)
{
    uint8_t *out = panel;
    for (int u = 0; u < k / 32; u++, out += 144) {
        for (int r = 0; r < AVX2_ROWS; r++) {
            const struct block_q4_0 *b = block_of(rows[r], (size_t)u, sizeof *b);
            half_put(out, r, b->d);
            put_words(out + 16, b->qs, 4, r);
        }
    }
}

void pack_q4_1_avx2(void *panel, const void *const *rows, int k)
{
    uint8_t *out = panel;
    for (int u = 0; u < k / 32; u++, out += 160) {
        for (int r = 0; r < AVX2_ROWS; r++) {
            const struct block_q4_1 *b = block_of(rows[r], (size_t)u, sizeof *b);
            half_put(out, r, b->d);
            half_put(out + 16, r, b->m);
            put_words(out + 32, b->qs, 4, r);
        }
    }
}

void pack_q5_0_avx2(void *panel, const void *const *rows, int k)
{
    uint8_t *out = panel;
    for (int u = 0; u < k / 32; u++, out += 176) {
        for (int r = 0; r < AVX2_ROWS; r++) {
            const struct block_q5_0 *b = block_of(rows[r], (size_t)u, sizeof *b);
            half_put(out, r, b->d);
            put_words(out + 16, b->qs, 4, r);
            word_put(out + 144, 0, r, spread_bits(word_get(b->qh, 0)));
        }
    }
}

void pack_q5_1_avx2(void *panel, const void *const *rows, int k)
{
    uint8_t *out = panel;
    for (int u = 0; u < k / 32; u++, out += 192) {
        for (int r = 0; r < AVX2_ROWS; r++) {
            const struct block_q5_1 *b = block_of(rows[r], (size_t)u, sizeof *b);
            half_put(out, r, b->d);
            half_put(out + 16, r, b->m);
            put_words(out + 32, b->qs, 4, r);
            word_put(out + 160, 0, r, spread_bits(word_get(b->qh, 0)));
        }
    }
}

void pack_mxfp4_avx2(void *panel, const void *const *rows, int k)
{
    uint8_t *out = panel;
    for (int u = 0; u < k / 32; u++, out += 136) {
        for (int r = 0; r < AVX2_ROWS; r++) {
            const struct block_mxfp4 *b = block_of(rows[r], (size_t)u, sizeof *b);
            out[r] = b->e;
            put_words(out + 8, b->qs, 4, r);
        }
    }
}

void pack_q8_0_avx2(void *panel, const void *const *rows, int k)
{
    uint8_t *out = panel;
    for (int u = 0; u < k / 32; u++, out += 272) {
        for (int r = 0; r < AVX2_ROWS; r++) {
            const struct block_q8_0 *b = block_of(rows[r], (size_t)u, sizeof *b);
            half_put(out, r, b->d);
            for (int j = 0; j < 8; j++) word_put(out + 16, j, r, swap_middle_bytes(word_get(b->qs, j)));
        }
    }
}

void pack_iq4_nl_avx2(void *panel, const void *const *rows, int k)
{
    uint8_t *out = panel;
    for (int u = 0; u < k / 32; u++, out += 144) {
        for (int r = 0; r < AVX2_ROWS; r++) {
            const struct block_iq4_nl *b = block_of(rows[r], (size_t)u, sizeof *b);
            half_put(out, r, b->d);
            for (int j = 0; j < 4; j++) word_put(out + 16, j, r, swap_middle_bytes(word_get(b->qs, j)));
        }
    }
}

void pack_iq4_xs_avx2(void *panel, const void *const *rows, int k)
{
    uint8_t *out = panel;
    for (int u = 0; u < k / 256; u++, out += 1104) {
        for (int r = 0; r < AVX2_ROWS; r++) {
            const struct block_iq4_xs *b = block_of(rows[r], (size_t)u, sizeof *b);
            half_put(out, r, b->d);
            for (int g = 0; g < 8; g++) {
                int low = b->scales_l[g / 2] >> (g % 2 * 4) & 15, high = b->scales_h >> (2 * g) & 3;
                out[16 + 8 * g + r] = (uint8_t)((low | high << 4) - 32);
                uint8_t *w = out + 80 + 128 * g;
                for (int j = 0; j < 4; j++) word_put(w, j, r, swap_middle_bytes(word_get(b->qs + 16 * g, j)));
            }
        }
    }
}

/* ---- K types: blocks b = 0..7 of 32 values in a unit ---- */

/* Block b's nibbles of q4_k and q5_k: GGUF has blocks 2i and 2i + 1 in the halves of the same bytes. */
static void put_group_nibbles(uint8_t *vectors, const uint8_t *qs, int b, int r)
{
    const uint8_t *src = qs + 32 * (b / 2);
    int shift = b % 2 * 4;
    for (int j = 0; j < 4; j++) {
        uint32_t low = word_get(src, j) >> shift & LOW_NIBBLES, high = word_get(src, j + 4) >> shift & LOW_NIBBLES;
        word_put(vectors, j, r, low | high << 4);
    }
}

/* Two-bit fields of block b: field b % 4 of the 32 bytes of its half (128 values). */
static void put_pairs(uint8_t *vectors, const uint8_t *qs, int b, int r)
{
    const uint8_t *src = qs + 32 * (b / 4);
    for (int h = 0; h < 2; h++) {
        uint32_t v = 0;
        for (int i = 0; i < 4; i++) v |= (word_get(src, 4 * h + i) >> (2 * (b % 4)) & LOW_PAIRS) << (2 * i);
        word_put(vectors, h, r, v);
    }
}

/* High bits: bit b of byte l of `high` belongs to value l of block b. Block b's vector lies at first + b * stride. */
static void put_bits(uint8_t *first, size_t stride, const uint8_t high[32], int r)
{
    uint8_t sorted[8][4]; /* [block][byte of the lane], bit j = vector j */
    for (int i = 0; i < 4; i++) {
        uint64_t x = 0;
        for (int j = 0; j < 8; j++) x |= (uint64_t)high[4 * j + i] << (8 * j);
        x = transpose_bits(x);
        for (int b = 0; b < 8; b++) sorted[b][i] = (uint8_t)(x >> (8 * b));
    }
    for (int b = 0; b < 8; b++) memcpy(first + (size_t)b * stride + 4 * r, sorted[b], 4);
}

void pack_q2_k_avx2(void *panel, const void *const *rows, int k)
{
    uint8_t *out = panel;
    for (int u = 0; u < k / 256; u++, out += 672) {
        for (int r = 0; r < AVX2_ROWS; r++) {
            const struct block_q2_k *q = block_of(rows[r], (size_t)u, sizeof *q);
            half_put(out, r, q->d);
            half_put(out + 16, r, q->dmin);
            for (int b = 0; b < 8; b++) {
                memcpy(out + 32 + 16 * b + 2 * r, q->scales + 2 * b, 2);
                put_pairs(out + 160 + 64 * b, q->qs, b, r);
            }
        }
    }
}

void pack_q3_k_avx2(void *panel, const void *const *rows, int k)
{
    uint8_t *out = panel;
    for (int u = 0; u < k / 256; u++, out += 912) {
        for (int r = 0; r < AVX2_ROWS; r++) {
            const struct block_q3_k *q = block_of(rows[r], (size_t)u, sizeof *q);
            half_put(out, r, q->d);
            for (int g = 0; g < 16; g++)
                out[16 + 16 * (g / 2) + 2 * r + g % 2] = (uint8_t)(quant_q3_scale(q->scales, g) - 32);
            for (int b = 0; b < 8; b++) put_pairs(out + 144 + 96 * b, q->qs, b, r);
            put_bits(out + 144 + 64, 96, q->hmask, r);
        }
    }
}

/* Scales and mins of q4_k and q5_k. */
static void put_scale_min(uint8_t *head, const uint8_t scales[12], int r)
{
    for (int b = 0; b < 8; b++) {
        uint8_t *at = head + 32 + 16 * (b / 2) + 2 * r + b % 2;
        quant_scale_min(at, at + 64, scales, b);
    }
}

void pack_q4_k_avx2(void *panel, const void *const *rows, int k)
{
    uint8_t *out = panel;
    for (int u = 0; u < k / 256; u++, out += 1184) {
        for (int r = 0; r < AVX2_ROWS; r++) {
            const struct block_q4_k *q = block_of(rows[r], (size_t)u, sizeof *q);
            half_put(out, r, q->d);
            half_put(out + 16, r, q->dmin);
            put_scale_min(out, q->scales, r);
            for (int b = 0; b < 8; b++) put_group_nibbles(out + 160 + 128 * b, q->qs, b, r);
        }
    }
}

void pack_q5_k_avx2(void *panel, const void *const *rows, int k)
{
    uint8_t *out = panel;
    for (int u = 0; u < k / 256; u++, out += 1440) {
        for (int r = 0; r < AVX2_ROWS; r++) {
            const struct block_q5_k *q = block_of(rows[r], (size_t)u, sizeof *q);
            half_put(out, r, q->d);
            half_put(out + 16, r, q->dmin);
            put_scale_min(out, q->scales, r);
            for (int b = 0; b < 8; b++) put_group_nibbles(out + 160 + 160 * b, q->qs, b, r);
            put_bits(out + 160 + 128, 160, q->qh, r);
        }
    }
}

void pack_q6_k_avx2(void *panel, const void *const *rows, int k)
{
    uint8_t *out = panel;
    for (int u = 0; u < k / 256; u++, out += 1680) {
        for (int r = 0; r < AVX2_ROWS; r++) {
            const struct block_q6_k *q = block_of(rows[r], (size_t)u, sizeof *q);
            half_put(out, r, q->d);
            for (int b = 0; b < 8; b++) {
                uint8_t *w = out + 144 + 192 * b;
                const uint8_t *src = q->ql + 64 * (b / 4) + 32 * (b % 2);
                int shift = b % 4 / 2 * 4;
                memcpy(out + 16 + 16 * b + 2 * r, q->scales + 2 * b, 2);
                for (int j = 0; j < 4; j++) {
                    uint32_t low = word_get(src, j) >> shift & LOW_NIBBLES;
                    word_put(w, j, r, low | (word_get(src, j + 4) >> shift & LOW_NIBBLES) << 4);
                }
                put_pairs(w + 128, q->qh, b, r);
            }
        }
    }
}

/* ---- floats ---- */

/* Elements of `size` bytes; a panel's k is a multiple of 16. */
static void pack_elements(uint8_t *panel, const void *const *rows, int k, size_t size)
{
    for (int r = 0; r < AVX2_ROWS; r++) {
        for (size_t i = 0; i < ((size_t)k + 15) / 16 * 16; i++) {
            uint8_t *to = panel + (i * AVX2_ROWS + (size_t)r) * size;
            if (rows[r] && i < (size_t)k) memcpy(to, (const uint8_t *)rows[r] + i * size, size);
            else memset(to, 0, size);
        }
    }
}

void pack_f32_avx2(void *panel, const void *const *rows, int k)
{
    pack_elements(panel, rows, k, 4);
}

void pack_f16_avx2(void *panel, const void *const *rows, int k)
{
    pack_elements(panel, rows, k, 2);
}

void pack_bf16_avx2(void *panel, const void *const *rows, int k)
{
    pack_elements(panel, rows, k, 2);
}
