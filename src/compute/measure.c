/* measure: what this machine can do right now, as the yardstick for every other figure. */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "compute/compute_internal.h"

#define PROBE_ROUNDS 5000
#define DRAM_BYTES ((size_t)256 << 20)
#define DRAM_CHUNK ((size_t)1 << 20)
#define DRAM_AHEAD (16384 / sizeof(uint64_t)) /* as the products do: some machines read a third faster so */
#define SLICE_NS 2000000                      /* of a probe, about */
#define CEILING_SLICES 12

/* ---- probes ---- */

struct probe {
    uint64_t (*run)(int rounds);
    uint64_t macs; /* of one item */
    int n_items;   /* of a slice */
};

static void run_probe(void *ctx, int from, int to, int worker)
{
    (void)worker;
    struct probe *p = ctx;
    for (int i = from; i < to; i++) p->run(PROBE_ROUNDS);
}

static struct probe probe_make(const struct compute *c, uint64_t (*run)(int rounds))
{
    uint64_t best = UINT64_MAX, macs = 0;
    for (int i = 0; i < 5; i++) {
        uint64_t start = clock_ns();
        macs = run(PROBE_ROUNDS);
        uint64_t once = clock_ns() - start + 1;
        if (once < best) best = once;
    }
    return (struct probe){run, macs, c->n_threads * (int)(SLICE_NS / best + 1)};
}

/* GMAC/s of all threads, now. */
static double probe_slice(struct compute *c, struct probe *p)
{
    uint64_t start = clock_ns();
    compute_for(c, run_probe, p, p->n_items, 1);
    return (double)p->macs * p->n_items / (double)(clock_ns() - start + 1);
}

struct dram {
    const uint64_t *data;
    uint64_t *sums; /* [n_threads][8]: a cache line each */
    int at;         /* first chunk of the next slice */
};
#define DRAM_CHUNKS ((int)(DRAM_BYTES / DRAM_CHUNK))
#define DRAM_SLICE (DRAM_CHUNKS / 8)

static void read_chunks(void *ctx, int from, int to, int worker)
{
    struct dram *d = ctx;
    const size_t n = DRAM_CHUNK / sizeof(uint64_t);
    for (int i = from; i < to; i++) {
        const uint64_t *p = d->data + (size_t)(d->at + i) * n;
        uint64_t s[4] = {0};
        for (size_t j = 0; j < n; j += 16) { /* two reads a line are enough to move it */
            __builtin_prefetch(p + j + DRAM_AHEAD, 0, 2);
            __builtin_prefetch(p + j + DRAM_AHEAD + 8, 0, 2);
            for (size_t l = 0; l < 4; l++) s[l] += p[j + l * 4];
        }
        d->sums[worker * 8] += s[0] + s[1] + s[2] + s[3];
    }
}

static void write_chunks(void *ctx, int from, int to, int worker)
{
    (void)worker;
    struct dram *d = ctx;
    for (int i = from; i < to; i++) {
        uint64_t *p = (uint64_t *)d->data + (size_t)i * (DRAM_CHUNK / sizeof(uint64_t));
        for (size_t j = 0; j < DRAM_CHUNK / sizeof(uint64_t); j++) p[j] = j;
    }
}

static struct dram dram_open(struct compute *c)
{
    struct dram d = {mem_try_map(DRAM_BYTES), mem_zalloc((size_t)c->n_threads * 64), 0};
    if (d.data) compute_for(c, write_chunks, &d, DRAM_CHUNKS, 1);
    return d;
}

static void dram_close(struct dram *d)
{
    mem_unmap((void *)d->data, DRAM_BYTES);
    mem_free(d->sums);
}

/* GB/s of all threads, now; 0 without memory for it. */
static double dram_slice(struct compute *c, struct dram *d)
{
    if (!d->data) return 0;
    uint64_t start = clock_ns();
    compute_for(c, read_chunks, d, DRAM_SLICE, 1);
    double rate = (double)DRAM_SLICE * (double)DRAM_CHUNK / (double)(clock_ns() - start + 1);
    d->at = (d->at + DRAM_SLICE) % DRAM_CHUNKS;
    return rate;
}

static void raise_to(double *best, double rate)
{
    if (rate > *best) *best = rate;
}

/* Best of many short slices: the ceiling, not the average. */
void compute_measure(struct compute *c, struct compute_ceiling *out)
{
    struct probe int8 = probe_make(c, c->kernels.probe_int8), f32 = probe_make(c, c->kernels.probe_f32);
    struct dram dram = dram_open(c);
    *out = (struct compute_ceiling){0};
    for (int i = 0; i < CEILING_SLICES; i++) {
        raise_to(&out->int8_gmacs, probe_slice(c, &int8));
        raise_to(&out->f32_gmacs, probe_slice(c, &f32));
        raise_to(&out->dram_gbs, dram_slice(c, &dram));
    }
    dram_close(&dram);
}

/* ---- products ---- */

#define PRODUCT_IN 2048
#define STREAM_BYTES ((size_t)192 << 20) /* of GGUF blocks */
#define STREAM_PARTS 16                  /* parts of a streamed weight, all with the same rows */
#define PRODUCT_ROWS 2048                /* of weights for many tokens */
#define RATE_SLICES 21
#define RATE_NS 3000000 /* of a slice of products, at least */

/* Bytes that are harmless in any place of any format: as f16, f32, bf16 and exponents they are normal numbers. */
static void blocks_fill(uint8_t *data, size_t n)
{
    struct rng rng;
    rng_seed(&rng, 1);
    for (size_t i = 0; i < n; i++) data[i] = (uint8_t)(0x38 + (rng_next(&rng) & 7));
}

static struct weight *weight_make(struct compute *c, const uint8_t *rows, int n_rows, int n_parts, enum quant_type type,
                                  struct err *e)
{
    struct weight_part parts[STREAM_PARTS];
    for (int i = 0; i < n_parts; i++) parts[i] = (struct weight_part){type, rows, n_rows};
    return weight_create(c, parts, n_parts, PRODUCT_IN, e);
}

struct yardstick {
    struct probe *arithmetic;
    struct dram *memory;
};

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, compare);
    return v[n / 2];
}

/* Products and probes take turns, a few milliseconds each, so that a machine whose speed changes from one moment to the
 * next (other programs, other guests on the same cores) changes both: probes of one second and products of another give
 * shares that mean nothing, the less so the more threads must be lucky at the same time. */
static void product_rate(struct compute *c, struct compute_rate *out, const struct yardstick *yard,
                         const struct weight *w, float *y, const float *x, int m)
{
    double arithmetic[RATE_SLICES], memory[RATE_SLICES], macs = (double)w->n_out * PRODUCT_IN * m;
    int reps = 1;
    *out = (struct compute_rate){0};
    double probe = probe_slice(c, yard->arithmetic), dram = dram_slice(c, yard->memory);
    for (int run = -1; run < RATE_SLICES; run++) { /* the first one warms up */
        uint64_t start = clock_ns(), took;
        for (int i = 0; i < reps; i++) compute_matmul(c, y, (size_t)weight_out_len(w), w, x, PRODUCT_IN, m);
        took = clock_ns() - start + 1;
        double gmacs = macs * reps / (double)took, gbs = (double)weight_bytes(w) * reps / (double)took;
        double probe_after = probe_slice(c, yard->arithmetic), dram_after = dram_slice(c, yard->memory);
        if (run < 0) {
            reps = took < RATE_NS ? (int)(RATE_NS / took) + 1 : 1;
        } else {
            raise_to(&out->gmacs, gmacs);
            raise_to(&out->gbs, gbs);
            arithmetic[run] = 2 * gmacs / (probe + probe_after);
            memory[run] = dram + dram_after > 0 ? 2 * gbs / (dram + dram_after) : 0;
        }
        probe = probe_after;
        dram = dram_after;
    }
    out->share = median(arithmetic, RATE_SLICES);
    out->memory_share = median(memory, RATE_SLICES);
}

/* Streamed weights for up to MEASURE_STREAM_MAX tokens, some that fit the caches for more. */
static bool rates_measure(struct compute *c, struct compute_rate *out, const int *ms, int n_ms,
                          const struct weight *stream, const struct weight *few, bool is_float, struct err *e)
{
    int most = 1;
    for (int i = 0; i < n_ms; i++) most = ms[i] > most ? ms[i] : most;
    size_t n_x = (size_t)most * PRODUCT_IN, n_y = (size_t)most * PRODUCT_ROWS;
    size_t stream_y = (size_t)weight_out_len(stream) * MEASURE_STREAM_MAX;
    size_t x_bytes = n_x * sizeof(float), y_bytes = (n_y > stream_y ? n_y : stream_y) * sizeof(float);
    float *x = mem_try_map(x_bytes), *y = mem_try_map(y_bytes); /* huge pages, as a model's scratch */
    bool ok = x && y;
    if (ok) {
        struct probe arithmetic = probe_make(c, is_float ? c->kernels.probe_f32 : c->kernels.probe_int8);
        struct dram memory = dram_open(c);
        const struct yardstick yard = {&arithmetic, &memory};
        for (size_t i = 0; i < n_x; i++) x[i] = (float)((int)(i * 7919 % 2001) - 1000) * 1e-3f;
        for (int i = 0; i < n_ms; i++)
            product_rate(c, &out[i], &yard, ms[i] <= MEASURE_STREAM_MAX ? stream : few, y, x, ms[i]);
        dram_close(&memory);
    } else {
        err_set(e, ERR_TOO_LARGE, "no memory for the rows of products to measure");
    }
    mem_unmap(x, x_bytes);
    mem_unmap(y, y_bytes);
    return ok;
}

bool compute_measure_products(struct compute *c, struct compute_rate *out, const int *ms, int n_ms,
                              enum quant_type type, struct err *e)
{
    size_t row_bytes;
    if (!quant_row_bytes(&row_bytes, type, PRODUCT_IN))
        return err_set(e, ERR_INVALID, "type %d: no rows of %d values", (int)type, PRODUCT_IN);
    int part_rows = (int)(STREAM_BYTES / row_bytes / STREAM_PARTS);
    int source_rows = part_rows > PRODUCT_ROWS ? part_rows : PRODUCT_ROWS;
    uint8_t *rows = mem_try_map(row_bytes * (size_t)source_rows);
    if (!rows) return err_set(e, ERR_TOO_LARGE, "no memory for weights to measure");
    blocks_fill(rows, row_bytes * (size_t)source_rows);
    struct weight *stream = weight_make(c, rows, part_rows, STREAM_PARTS, type, e);
    struct weight *few = stream ? weight_make(c, rows, PRODUCT_ROWS, 1, type, e) : NULL;
    bool is_float = quant_format_get((uint32_t)type)->block_len == 1;
    bool ok = stream && few && rates_measure(c, out, ms, n_ms, stream, few, is_float, e);
    weight_destroy(stream);
    weight_destroy(few);
    mem_unmap(rows, row_bytes * (size_t)source_rows);
    return ok;
}
