/* attn_common: what all levels of attention share: the rotation of 8-bit keys, and how partial results are brought
 * together. A level includes it and defines the two parts that are declared here. */
#ifndef KERNELS_ATTN_COMMON_H
#define KERNELS_ATTN_COMMON_H

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

#define ATTN_ROTATED 64 /* elements that are rotated together */

/* Elements that attn_rotate mixes in a run of n (a multiple of 8): a power of two that divides it. */
static inline int attn_rotation(int n)
{
    int len = n & -n;
    return len < ATTN_ROTATED ? len : ATTN_ROTATED;
}
/* The Walsh-Hadamard transform, not scaled (it makes products of two vectors attn_rotation(n) times as large), of each
 * run of attn_rotation(n) elements. Keys have channels that are many times larger than the others and would take most
 * of the 8 bits of all; mixed, all elements are alike, and the products with queries that are mixed too do not change.
 */
static inline void attn_rotate(float *x, int n)
{
    const int len = attn_rotation(n);
    for (int half = 1; half < len; half *= 2)
        for (int i = 0; i < n; i += 2 * half)
            for (int j = i; j < i + half; j++) {
                float a = x[j], b = x[j + half];
                x[j] = a + b;
                x[j + half] = a - b;
            }
}

/* The first elements (at most ATTN_ROTATED) of x[n], rotated, into block; returns how many. */
static inline int attn_rotated_block(float *block, const float *x, int n)
{
    if (n > ATTN_ROTATED) n = ATTN_ROTATED;
    memcpy(block, x, (size_t)n * sizeof *x);
    attn_rotate(block, n);
    return n;
}

static inline float exp_one(float x); /* e^x for x <= 0; at least 2^ATTN_LEAST where that is less */
/* acc[n] = acc * a + more * b */
static inline void merge_row(float *acc, const float *more, float a, float b, int n);

/* kernels.attn_merge */
static void attn_merge(float *acc, float *max, float *sum, const float *more_acc, const float *more_max,
                       const float *more_sum, int n, int dim_v)
{
    for (int i = 0; i < n; i++, acc += dim_v, more_acc += dim_v) {
        if (more_max[i] == -INFINITY) continue;
        if (max[i] == -INFINITY) { /* exactly what a query alone gives, which begins with this chunk */
            max[i] = more_max[i], sum[i] = more_sum[i];
            memcpy(acc, more_acc, (size_t)dim_v * sizeof *acc);
            continue;
        }
        float both = max[i] > more_max[i] ? max[i] : more_max[i];
        float a = exp_one(max[i] - both), b = exp_one(more_max[i] - both);
        max[i] = both;
        sum[i] = sum[i] * a + more_sum[i] * b;
        merge_row(acc, more_acc, a, b, dim_v);
    }
}

#endif
