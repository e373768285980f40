/* attn_merge: partial results of attention brought together, for all levels. A level includes it and defines the two
 * parts that are declared here. */
#ifndef KERNELS_ATTN_MERGE_H
#define KERNELS_ATTN_MERGE_H

#include <math.h>
#include <string.h>

#include "kernels/kernels.h"

static inline float exp_one(float x); /* e^x for x <= 0; -infinity gives 0 */
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
