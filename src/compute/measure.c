/* measure: what this machine can do right now, as the yardstick for every other figure. */
#include "base/alloc.h"
#include "base/clock.h"
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
