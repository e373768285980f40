/* harness: guarded memory and random weights. */
#define _GNU_SOURCE
#include "harness.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "quant/blocks.h"

void check(struct test *t, bool ok, const char *fmt, ...)
{
    if (ok) {
        t->n_passed++;
        return;
    }
    if (t->n_failed++ >= 40) return;
    va_list args;
    va_start(args, fmt);
    printf("FAILED %s: ", t->level);
    vprintf(fmt, args);
    printf("\n");
    va_end(args);
}

#define PAGE ((size_t)4096)
#define CANARY 0xa5
static struct piece {
    uint8_t *map, *start;
    size_t map_bytes;
} pieces[4096];
static int n_pieces;

void *guarded(size_t size, size_t align)
{
    size_t inner = (size + align + PAGE - 1) / PAGE * PAGE;
    uint8_t *map = mmap(NULL, inner + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED || n_pieces == 4096) abort();
    mprotect(map + inner, PAGE, PROT_NONE);
    uint8_t *start = (uint8_t *)((uintptr_t)(map + inner - size) & ~(uintptr_t)(align - 1));
    memset(map, CANARY, inner);
    pieces[n_pieces++] = (struct piece){map, start, inner + PAGE};
    return start;
}

bool guarded_canaries_ok(void)
{
    for (int i = 0; i < n_pieces; i++)
        for (uint8_t *p = pieces[i].map; p < pieces[i].start; p++)
            if (*p != CANARY) return false;
    return true;
}

void guarded_reset(void)
{
    while (n_pieces) {
        n_pieces--;
        munmap(pieces[n_pieces].map, pieces[n_pieces].map_bytes);
    }
}

int rand_int(struct rng *r, int from, int to)
{
    return from + (int)(rng_next(r) % (uint64_t)(to - from + 1));
}

float rand_float(struct rng *r)
{
    return (float)((rng_unit(r) + rng_unit(r) + rng_unit(r) - 1.5) * 2);
}

void rand_floats(struct rng *r, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) x[i] = rand_float(r);
}

static void put_scale(struct rng *r, uint8_t *block, size_t offset, enum row_kind kind)
{
    double v = 0.001 + 0.02 * rng_unit(r);
    if (kind == ROW_SMALL_SCALES) v = 6e-8 * rand_int(r, 0, 20); /* f16 subnormals */
    if (kind == ROW_LARGE_SCALES) v = 60000 * rng_unit(r);
    if (rng_next(r) & 1) v = -v;
    uint16_t h = quant_f32_to_f16((float)v);
    memcpy(block + offset, &h, sizeof h);
}

/* Where the f16 fields of a block are; -1 = none. */
static void scale_offsets(enum quant_type type, int *d, int *m)
{
    *d = 0;
    *m = -1;
    switch (type) {
    case QUANT_Q4_1: *m = offsetof(struct block_q4_1, m); break;
    case QUANT_Q5_1: *m = offsetof(struct block_q5_1, m); break;
    case QUANT_Q4_K: *m = offsetof(struct block_q4_k, dmin); break;
    case QUANT_Q5_K: *m = offsetof(struct block_q5_k, dmin); break;
    case QUANT_Q2_K: *d = offsetof(struct block_q2_k, d), *m = offsetof(struct block_q2_k, dmin); break;
    case QUANT_Q3_K: *d = offsetof(struct block_q3_k, d); break;
    case QUANT_Q6_K: *d = offsetof(struct block_q6_k, d); break;
    case QUANT_MXFP4: *d = -1; break;
    default: break;
    }
}

static void rand_float_row(struct rng *r, void *row, enum quant_type type, size_t n, enum row_kind kind)
{
    for (size_t i = 0; i < n; i++) {
        float f = kind == ROW_ZERO ? 0
                                   : rand_float(r) * (kind == ROW_LARGE_SCALES   ? 10000.0f
                                                      : kind == ROW_SMALL_SCALES ? 1e-7f
                                                                                 : 1);
        uint16_t h = type == QUANT_F16 ? quant_f32_to_f16(f) : quant_f32_to_bf16(f);
        if (type == QUANT_F32) memcpy((uint8_t *)row + i * 4, &f, 4);
        else memcpy((uint8_t *)row + i * 2, &h, 2);
    }
}

void rand_row(struct rng *r, void *row, enum quant_type type, size_t n, enum row_kind kind)
{
    const struct quant_format *f = quant_format_get((uint32_t)type);
    if (f->block_len == 1) {
        rand_float_row(r, row, type, n, kind);
        return;
    }
    int d, m;
    scale_offsets(type, &d, &m);
    for (uint8_t *b = row, *end = b + n / f->block_len * f->block_bytes; b < end; b += f->block_bytes) {
        for (uint32_t i = 0; i < f->block_bytes; i++) b[i] = (uint8_t)rng_next(r);
        if (kind == ROW_LOW_CODES) memset(b, type == QUANT_Q8_0 ? 0x80 : 0, f->block_bytes);
        if (kind == ROW_HIGH_CODES) memset(b, type == QUANT_Q8_0 ? 0x7f : 0xff, f->block_bytes);
        if (d >= 0) put_scale(r, b, (size_t)d, kind);
        if (m >= 0) put_scale(r, b, (size_t)m, kind);
        if (type == QUANT_MXFP4)
            b[0] = (uint8_t)(kind == ROW_LARGE_SCALES   ? rand_int(r, 150, 200)
                             : kind == ROW_SMALL_SCALES ? rand_int(r, 0, 20)
                                                        : rand_int(r, 118, 128));
        /* with a min, one code stays low: else scale and min may cancel and no value shows how large they are */
        if (kind == ROW_HIGH_CODES && m >= 0) b[type == QUANT_Q2_K ? (uint32_t)d - 1 : f->block_bytes - 1] = 0;
        if (kind == ROW_ZERO) memset(b, 0, f->block_bytes);
    }
}
