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

#define MERGE_ROWS 16
/* What the numbers of n queries (the first MERGE_ROWS of them) count in a result over two sets of keys: those of the
 * first set a[] = e^(max - the larger), those of the second b[] = e^(more_max - the larger). */
static inline void merge_factors(float *a, float *b, const float *max, const float *more_max, int n);
/* acc[n] = acc * a + more * b */
static inline void merge_row(float *acc, const float *more, float a, float b, int n);

/* One query's results over two sets of keys into one, with the factors of merge_factors. None of a set: its max is
 * -infinity, and the other's numbers stay exactly what they are (a query alone begins with its first chunk). */
static inline void merge_one(float *acc, float *max, float *sum, const float *more_acc, float more_max, float more_sum,
                             float a, float b, int dim_v)
{
    if (more_max == -INFINITY && *max != -INFINITY) return;
    if (*max == -INFINITY) {
        *max = more_max, *sum = more_sum;
        memcpy(acc, more_acc, (size_t)dim_v * sizeof *acc);
        return;
    }
    *max = *max > more_max ? *max : more_max;
    *sum = *sum * a + more_sum * b;
    merge_row(acc, more_acc, a, b, dim_v);
}

/* kernels.attn_merge */
static void attn_merge(float *acc, float *max, float *sum, const float *more_acc, const float *more_max,
                       const float *more_sum, int n, int dim_v)
{
    float a[MERGE_ROWS], b[MERGE_ROWS];
    for (int i = 0; i < n; i++, acc += dim_v, more_acc += dim_v) {
        if (i % MERGE_ROWS == 0) merge_factors(a, b, max + i, more_max + i, n - i);
        const int f = i % MERGE_ROWS;
        merge_one(acc, &max[i], &sum[i], more_acc, more_max[i], more_sum[i], a[f], b[f], dim_v);
    }
}

#endif
