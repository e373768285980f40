/* rows: passes over logits. Lanes are independent and sums have one fixed order: the result is the same for every
 * compiler and instruction set. */
#include <math.h>
#include <string.h>

#include "sampler/sampler_internal.h"

#define LANES 16

/* Four lanes by the compilers' vector extension: they refuse to vectorise the selects of a plain loop. */
typedef float f32x4 __attribute__((vector_size(16)));
typedef int32_t i32x4 __attribute__((vector_size(16)));

static inline f32x4 all(float x)
{
    return (f32x4){x, x, x, x};
}

static inline f32x4 select4(i32x4 mask, f32x4 yes, f32x4 no)
{
    return (f32x4)(((i32x4)yes & mask) | ((i32x4)no & ~mask));
}

/* x = whole * ln 2 + f with |f| <= ln(2)/2; ln 2 is taken off in two parts, of which the first times `whole` is exact
 * (Cody, Waite 1980). e^f by its Taylor polynomial of degree 6 (remainder < 2e-7), 2^whole by the exponent bits. */
static inline f32x4 exp4(f32x4 x)
{
    i32x4 inside = x > all(-87.0f); /* false for NaN */
    f32x4 live = select4(inside, x, all(-87.0f));
    live = select4(live < all(0.0f), live, all(0.0f)); /* a forbidden token may be above the maximum: dropped later */
    i32x4 whole = __builtin_convertvector(live * all(1.44269504f) - all(0.5f), i32x4);
    f32x4 n = __builtin_convertvector(whole, f32x4);
    f32x4 f = (live - n * all(0.693359375f)) + n * all(2.12194440e-4f);
    f32x4 p = all(1.0f / 720);
    p = p * f + all(1.0f / 120);
    p = p * f + all(1.0f / 24);
    p = p * f + all(1.0f / 6);
    p = p * f + all(0.5f);
    p = p * f + all(1.0f);
    p = p * f + all(1.0f);
    i32x4 power = (whole + 127) << 23;
    return (f32x4)((i32x4)(p * (f32x4)power) & inside);
}

float fast_exp(float x)
{
    return exp4(all(x))[0];
}

static float block_max_of(const float *x)
{
    float lane[LANES];
    for (int l = 0; l < LANES; l++) lane[l] = -INFINITY;
    for (uint32_t i = 0; i < ROW_BLOCK; i += LANES)
        for (int l = 0; l < LANES; l++) lane[l] = x[i + (uint32_t)l] > lane[l] ? x[i + (uint32_t)l] : lane[l];
    for (int half = LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++) lane[l] = lane[l + half] > lane[l] ? lane[l + half] : lane[l];
    return lane[0];
}

static uint64_t block_mask(const uint64_t *mask, uint32_t block, uint32_t count)
{
    uint64_t inside = count == ROW_BLOCK ? ~UINT64_C(0) : (UINT64_C(1) << count) - 1;
    return mask ? mask[block] & inside : inside;
}

static uint32_t block_count(uint32_t n, uint32_t block)
{
    uint32_t left = n - block * ROW_BLOCK;
    return left < ROW_BLOCK ? left : ROW_BLOCK;
}

float row_maxima(float *block_max, const float *x, const uint64_t *mask, uint32_t n)
{
    float best = -INFINITY;
    for (uint32_t b = 0; b < row_blocks(n); b++) {
        uint64_t allowed = block_mask(mask, b, block_count(n, b));
        const float *row = x + (size_t)b * ROW_BLOCK;
        float m = -INFINITY;
        if (allowed == ~UINT64_C(0)) m = block_max_of(row);
        else
            for (; allowed; allowed &= allowed - 1) {
                float v = row[__builtin_ctzll(allowed)];
                if (v > m) m = v;
            }
        block_max[b] = m;
        if (m > best) best = m;
    }
    return best;
}

float row_block_sum(const float *x, uint32_t count, uint64_t mask, float max, float scale)
{
    float w[ROW_BLOCK];
    for (uint32_t i = 0; i < ROW_BLOCK; i += 4) {
        f32x4 v = all(-INFINITY);
        if (i + 4 <= count) memcpy(&v, x + i, sizeof v);
        else if (i < count) memcpy(&v, x + i, (count - i) * sizeof *x);
        v = exp4((v - all(max)) * all(scale));
        memcpy(w + i, &v, sizeof v);
    }
    if (mask != ~UINT64_C(0))
        for (uint32_t i = 0; i < count; i++)
            if (!(mask >> i & 1)) w[i] = 0;
    f32x4 sum = all(0);
    for (uint32_t i = 0; i < ROW_BLOCK; i += 4) {
        f32x4 v;
        memcpy(&v, w + i, sizeof v);
        sum += v;
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

double row_sum(const float *x, uint32_t n, float max, float scale)
{
    double sum = 0;
    for (uint32_t b = 0; b < row_blocks(n); b++)
        sum += (double)row_block_sum(x + (size_t)b * ROW_BLOCK, block_count(n, b), ~UINT64_C(0), max, scale);
    return sum;
}

uint32_t row_first(const float *x, const float *block_max, const uint64_t *mask, uint32_t n, float max)
{
    for (uint32_t b = 0; b < row_blocks(n); b++) {
        if (!(block_max[b] >= max)) continue;
        uint64_t allowed = block_mask(mask, b, block_count(n, b));
        for (; allowed; allowed &= allowed - 1) {
            uint32_t token = b * ROW_BLOCK + (uint32_t)__builtin_ctzll(allowed);
            if (x[token] >= max) return token;
        }
    }
    return 0;
}

uint32_t row_collect(struct candidate *out, const float *x, const float *block_max, const uint64_t *mask, uint32_t n,
                     float at_least)
{
    uint32_t n_out = 0;
    for (uint32_t b = 0; b < row_blocks(n); b++) {
        if (!(block_max[b] >= at_least)) continue;
        uint64_t allowed = block_mask(mask, b, block_count(n, b));
        for (uint32_t i = 0, count = block_count(n, b); i < count; i++) { /* no branches: they could not be predicted */
            uint32_t token = b * ROW_BLOCK + i;
            bool taken = (x[token] >= at_least) & (x[token] > -INFINITY) & (allowed >> i & 1);
            out[n_out] = (struct candidate){x[token], token};
            n_out += taken;
        }
    }
    return n_out;
}
