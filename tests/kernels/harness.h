/* harness: what the kernel tests share. Operands come from guarded(): they end at a page that must not be touched, so
 * an over-read by one element is a crash; outputs carry canaries in front. The seed is printed and can be given. */
#ifndef TESTS_KERNELS_HARNESS_H
#define TESTS_KERNELS_HARNESS_H

#include <float.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "kernels/kernels.h"

struct test {
    struct rng rng;
    struct kernels k;
    const char *level;
    int n_passed, n_failed;
};

/* Counts one check; prints the message when it failed. */
void check(struct test *t, bool ok, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Memory of `size` bytes, aligned to `align` (at most 64), whose end is within `align` - 1 bytes of a guard page.
 * guarded_reset frees all of them. */
void *guarded(size_t size, size_t align);
bool guarded_canaries_ok(void); /* the bytes before every piece are as they were */
void guarded_reset(void);

int rand_int(struct rng *r, int from, int to); /* inclusive */
float rand_float(struct rng *r);               /* roughly normal */
void rand_floats(struct rng *r, float *x, size_t n);

enum row_kind { ROW_RANDOM, ROW_SMALL_SCALES, ROW_LARGE_SCALES, ROW_ZERO, ROW_LOW_CODES, ROW_HIGH_CODES, ROW_KIND_N };
/* Fills a row of n values with blocks of a type that are valid and finite. */
void rand_row(struct rng *r, void *row, enum quant_type type, size_t n, enum row_kind kind);

void test_matmul(struct test *t);
void test_levels_agree(struct test *t, const struct kernels *other);
void test_attention(struct test *t);
void test_elementwise(struct test *t);
void test_compute(struct test *t);
void test_amx_emulated(struct test *t);                             /* needs CPU_AVX512 */
int bench(enum cpu_level level, int n_threads, const char *filter); /* n_threads 0 = all */

#endif
