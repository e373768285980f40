/* sampler_internal: the pieces that draw.c and sampler.c share: passes over rows of logits and partial selection.
 * A row is read in blocks of 64 tokens (one word of a mask); a block's maximum lets later passes skip it. */
#ifndef SAMPLER_SAMPLER_INTERNAL_H
#define SAMPLER_SAMPLER_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROW_BLOCK 64u

struct candidate {
    float x; /* logit; after candidates_weigh: exp((logit - max) / temperature) */
    uint32_t token;
};

static inline uint32_t row_blocks(uint32_t n_vocab)
{
    return n_vocab / ROW_BLOCK + (n_vocab % ROW_BLOCK != 0);
}

/* block_max[row_blocks(n)] = maxima of the allowed tokens (-infinity where there is none); returns the largest. */
float row_maxima(float *block_max, const float *x, const uint64_t *mask, uint32_t n);
/* sums[row_blocks(n)] = sum of exp((x[i] - max) * scale) over each block's allowed tokens; returns the sum of all.
 * Blocks without allowed tokens (block_max = -infinity) are skipped. sums, block_max and mask may be NULL. */
double row_sums(float *sums, const float *x, const float *block_max, const uint64_t *mask, uint32_t n, float max,
                float scale);
/* First token with the largest allowed logit `max`. */
uint32_t row_first(const float *x, const float *block_max, const uint64_t *mask, uint32_t n, float max);
/* Allowed tokens with x >= at_least, in order; out must have room for n. Returns how many. */
uint32_t row_collect(struct candidate *out, const float *x, const float *block_max, const uint64_t *mask, uint32_t n,
                     float at_least);

/* Over one block of ROW_BLOCK logits: the largest, and sum of exp((x - max) * scale). */
struct row_ops {
    float (*max)(const float *x);
    float (*sum)(const float *x, float max, float scale);
};
extern const struct row_ops row_ops_baseline, row_ops_avx2, row_ops_avx512;

/* exp for x <= 0 (0 below -87 and for NaN), relative error < 3e-7; plain C, so equal on all machines. */
float fast_exp(float x);

/* Brings the best candidates (x descending, then token ascending) to the front until there are k of them or their x sum
 * to `mass`, whichever comes first, and returns how many those are (all when neither is reached). Order within is
 * unspecified but reproducible. Expected time O(n). */
uint32_t candidates_best(struct candidate *c, uint32_t n, uint32_t k, double mass);
/* The k-th largest of x[n], 1 <= k <= n; reorders x. */
float values_kth(float *x, uint32_t n, uint32_t k);

#endif
