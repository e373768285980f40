/* measure: what this machine can do right now, as the yardstick for every other figure. */
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "compute/compute_internal.h"

#define PROBE_ROUNDS 20000
#define DRAM_BYTES ((size_t)256 << 20)
#define DRAM_CHUNK ((size_t)1 << 20)

struct probe {
    uint64_t (*run)(int rounds);
    uint64_t macs; /* of one item */
};

static void run_probe(void *ctx, int from, int to, int worker)
{
    (void)worker;
    struct probe *p = ctx;
    for (int i = from; i < to; i++) p->run(PROBE_ROUNDS);
}

/* Best of a few short runs: the ceiling, not the average. */
static double probe_gmacs(struct compute *c, uint64_t (*run)(int rounds))
{
    struct probe p = {run, run(PROBE_ROUNDS)};
    double best = 0;
    for (int round = 0; round < 3; round++) {
        uint64_t start = clock_ns();
        run(PROBE_ROUNDS);
        uint64_t once = clock_ns() - start;
        int items = (int)(10000000 / (once + 1)) * c->n_threads + c->n_threads; /* some 10 ms */
        start = clock_ns();
        compute_for(c, run_probe, &p, items, 1);
        double rate = (double)p.macs * items / (double)(clock_ns() - start + 1);
        if (rate > best) best = rate;
    }
    return best;
}

struct dram {
    const uint64_t *data;
    uint64_t *sums; /* [n_threads][8]: a cache line each */
};

static void read_chunks(void *ctx, int from, int to, int worker)
{
    struct dram *d = ctx;
    const size_t n = DRAM_CHUNK / sizeof(uint64_t);
    for (int i = from; i < to; i++) {
        const uint64_t *p = d->data + (size_t)i * n;
        uint64_t s[4] = {0};
        for (size_t j = 0; j < n; j += 16) /* two reads a line are enough to move it */
            for (size_t l = 0; l < 4; l++) s[l] += p[j + l * 4];
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

static double dram_gbs(struct compute *c)
{
    struct dram d = {mem_try_map(DRAM_BYTES), mem_zalloc((size_t)c->n_threads * 64)};
    double best = 0;
    if (d.data) {
        int n = (int)(DRAM_BYTES / DRAM_CHUNK);
        compute_for(c, write_chunks, &d, n, 1);
        for (int round = 0; round < 3; round++) {
            uint64_t start = clock_ns();
            compute_for(c, read_chunks, &d, n, 4);
            double rate = (double)DRAM_BYTES / (double)(clock_ns() - start + 1);
            if (rate > best) best = rate;
        }
    }
    mem_unmap((void *)d.data, DRAM_BYTES);
    mem_free(d.sums);
    return best;
}

void compute_measure(struct compute *c, struct compute_ceiling *out)
{
    out->int8_gmacs = probe_gmacs(c, c->kernels.probe_int8);
    out->f32_gmacs = probe_gmacs(c, c->kernels.probe_f32);
    out->dram_gbs = dram_gbs(c);
}

/* ---- products ---- */

#define PRODUCT_IN 2048
#define STREAM_BYTES ((size_t)192 << 20) /* of GGUF blocks */
#define STREAM_PARTS 16                  /* parts of a streamed weight, all with the same rows */
#define PRODUCT_ROWS 2048                /* of weights for many tokens */
#define RATE_RUNS 5
#define RATE_NS 15000000 /* of a run, at least */

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

/* The best of some runs: the rate of the kernel, not of the machine's other users. */
static double product_seconds(struct compute *c, const struct weight *w, float *y, const float *x, int m)
{
    double best = 0;
    int reps = 1;
    for (int run = 0; run < RATE_RUNS; run++) {
        uint64_t start = clock_ns(), took;
        for (int i = 0; i < reps; i++) compute_matmul(c, y, (size_t)weight_out_len(w), w, x, PRODUCT_IN, m);
        took = clock_ns() - start + 1;
        double each = (double)took * 1e-9 / reps;
        if (run == 1 || each < best) best = each; /* run 0 warms up */
        if (run == 0 && took < RATE_NS) reps = (int)(RATE_NS / took) + 1;
    }
    return best;
}

bool compute_measure_products(struct compute *c, struct compute_rate *out, const int *ms, int n_ms,
                              enum quant_type type, struct err *e)
{
    size_t row_bytes;
    int most = 1;
    for (int i = 0; i < n_ms; i++) most = ms[i] > most ? ms[i] : most;
    if (!quant_row_bytes(&row_bytes, type, PRODUCT_IN))
        return err_set(e, ERR_INVALID, "type %d: no rows of %d values", (int)type, PRODUCT_IN);
    int part_rows = (int)(STREAM_BYTES / row_bytes / STREAM_PARTS);
    int source_rows = part_rows > PRODUCT_ROWS ? part_rows : PRODUCT_ROWS;
    uint8_t *rows = mem_try_map(row_bytes * (size_t)source_rows);
    if (!rows) return err_set(e, ERR_TOO_LARGE, "no memory for weights to measure");
    blocks_fill(rows, row_bytes * (size_t)source_rows);
    struct weight *stream = weight_make(c, rows, part_rows, STREAM_PARTS, type, e);
    struct weight *few = stream ? weight_make(c, rows, PRODUCT_ROWS, 1, type, e) : NULL;
    bool ok = stream && few;
    if (ok) {
        size_t most_x = (size_t)most * PRODUCT_IN, most_y = (size_t)most * PRODUCT_ROWS;
        size_t stream_y = (size_t)weight_out_len(stream) * MEASURE_STREAM_MAX;
        size_t x_bytes = most_x * sizeof(float), y_bytes = (most_y > stream_y ? most_y : stream_y) * sizeof(float);
        float *x = mem_try_map(x_bytes), *y = mem_try_map(y_bytes); /* huge pages, as a model's scratch */
        if (!x || !y) ok = err_set(e, ERR_TOO_LARGE, "no memory for the rows of products to measure");
        for (size_t i = 0; ok && i < most_x; i++) x[i] = (float)((int)(i * 7919 % 2001) - 1000) * 1e-3f;
        for (int i = 0; ok && i < n_ms; i++) {
            const struct weight *w = ms[i] <= MEASURE_STREAM_MAX ? stream : few;
            double seconds = product_seconds(c, w, y, x, ms[i]);
            out[i] = (struct compute_rate){(double)w->n_out * PRODUCT_IN * ms[i] / seconds * 1e-9,
                                           (double)weight_bytes(w) / seconds * 1e-9};
        }
        mem_unmap(x, x_bytes);
        mem_unmap(y, y_bytes);
    }
    weight_destroy(stream);
    weight_destroy(few);
    mem_unmap(rows, row_bytes * (size_t)source_rows);
    return ok;
}
