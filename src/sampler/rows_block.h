/* rows_block: the two inner loops over a block of ROW_BLOCK logits, included once for each instruction set with `vec`
 * (a float vector of 4, 8 or 16) and `ivec` defined. Sums go over 16 lanes whatever the vector is, and nothing is
 * contracted: every instruction set gives the same bits. */
#include <math.h>
#include <string.h>

#include "sampler/sampler_internal.h"

enum { WIDTH = sizeof(vec) / sizeof(float), SUM_LANES = 16, PARTS = SUM_LANES / WIDTH };

static inline vec vec_load(const float *x)
{
    vec v;
    memcpy(&v, x, sizeof v);
    return v;
}

static inline vec vec_all(float x)
{
    return x - (vec){0};
}

static inline vec vec_select(ivec mask, vec yes, vec no)
{
    return (vec)(((ivec)yes & mask) | ((ivec)no & ~mask));
}

/* x = whole * ln 2 + f with |f| <= ln(2)/2; ln 2 is taken off in two parts, of which the first times `whole` is exact
 * (Cody, Waite 1980). e^f by its Taylor polynomial of degree 6 (remainder < 2e-7), 2^whole by the exponent bits. */
static inline vec vec_exp(vec x)
{
    ivec inside = x > vec_all(-87.0f); /* false for NaN */
    vec live = vec_select(inside, x, vec_all(-87.0f));
    live = vec_select(live < vec_all(0.0f), live, vec_all(0.0f)); /* a forbidden token may be above the maximum */
    ivec whole = __builtin_convertvector(live * 1.44269504f - 0.5f, ivec);
    vec n = __builtin_convertvector(whole, vec);
    vec f = (live - n * 0.693359375f) + n * 2.12194440e-4f;
    vec p = vec_all(1.0f / 720);
    p = p * f + 1.0f / 120;
    p = p * f + 1.0f / 24;
    p = p * f + 1.0f / 6;
    p = p * f + 0.5f;
    p = p * f + 1.0f;
    p = p * f + 1.0f;
    ivec power = (whole + 127) << 23;
    return (vec)((ivec)(p * (vec)power) & inside);
}

static float block_max(const float *x)
{
    vec m[PARTS];
    float lane[SUM_LANES];
    for (int p = 0; p < PARTS; p++) m[p] = vec_all(-INFINITY);
    for (unsigned i = 0; i < ROW_BLOCK; i += SUM_LANES)
        for (int p = 0; p < PARTS; p++) {
            vec v = vec_load(x + i + p * WIDTH);
            m[p] = vec_select(v > m[p], v, m[p]);
        }
    memcpy(lane, m, sizeof lane);
    for (int half = SUM_LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++) lane[l] = lane[l + half] > lane[l] ? lane[l + half] : lane[l];
    return lane[0];
}

static float block_sum(const float *x, float max, float scale)
{
    vec sum[PARTS];
    float lane[SUM_LANES];
    for (int p = 0; p < PARTS; p++) sum[p] = vec_all(0);
    for (unsigned i = 0; i < ROW_BLOCK; i += SUM_LANES)
        for (int p = 0; p < PARTS; p++) sum[p] += vec_exp((vec_load(x + i + p * WIDTH) - max) * scale);
    memcpy(lane, sum, sizeof lane);
    for (int half = SUM_LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    return lane[0];
}
