/* quant: the block formats of weights, in plain C. This is the truth about formats: sizes, layouts, exact values.
 * Numeric ids are those of the GGUF file format (ggml_type). Pure functions, any thread. */
#ifndef QUANT_QUANT_H
#define QUANT_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum quant_type {
    QUANT_F32 = 0,
    QUANT_F16 = 1,
    QUANT_Q4_0 = 2,
    QUANT_Q4_1 = 3,
    QUANT_Q5_0 = 6,
    QUANT_Q5_1 = 7,
    QUANT_Q8_0 = 8,
    QUANT_Q2_K = 10,
    QUANT_Q3_K = 11,
    QUANT_Q4_K = 12,
    QUANT_Q5_K = 13,
    QUANT_Q6_K = 14,
    QUANT_IQ4_NL = 20,
    QUANT_IQ4_XS = 23,
    QUANT_I32 = 26,
    QUANT_BF16 = 30,
    QUANT_MXFP4 = 39,
    QUANT_N = 40, /* ids are below this; not every id below it is known */
};

struct quant_format {
    const char *name;   /* "Q4_K", as llama.cpp spells it; NULL = unknown id */
    uint32_t block_len; /* values in a block */
    uint32_t block_bytes;
    /* dst[n] = the values of n / block_len blocks at src (any alignment); n is a multiple of block_len. Bit for bit
     * what the Python package gguf gives. NULL for types that are no weights (I32). */
    void (*unpack)(float *dst, const void *src, size_t n);
};

/* The format of an id, or NULL when the id is unknown. */
const struct quant_format *quant_format_get(uint32_t id);
/* Bytes of a row of n values; false when n is no multiple of the block length or the size overflows. */
bool quant_row_bytes(size_t *bytes, enum quant_type type, size_t n);

float quant_f16_to_f32(uint16_t h);
uint16_t quant_f32_to_f16(float f); /* round to nearest even */
float quant_bf16_to_f32(uint16_t h);
uint16_t quant_f32_to_bf16(float f); /* round to nearest even */

#endif
