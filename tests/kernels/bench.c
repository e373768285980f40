/* bench: rates of products, attention and fork-join, medians of several runs. GB/s counts packed weight bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "compute/compute.h"
#include "harness.h"

#define RUNS 7

/* One thread is timed by its processor time, so that other programs on the machine disturb less. */
static bool cpu_time;

static double seconds(void)
{
    struct timespec t;
    clock_gettime(cpu_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *v)
{
    qsort(v, RUNS, sizeof *v, compare);
    return v[RUNS / 2];
}

struct bench_matrix {
    int n_out, n_in;
};

/* Median seconds of one product. Few tokens read a set of copies in turn, so that the weights come from memory. */
static double time_product(struct compute *c, struct weight **w, int n_copies, float *y, const float *x, int n_in,
                           int m)
{
    double v[RUNS];
    size_t stride = (size_t)weight_out_len(w[0]);
    int reps = 1;
    for (int run = -1; run < RUNS; run++) {
        double start = seconds();
        for (int i = 0; i < reps; i++)
            for (int j = 0; j < n_copies; j++) compute_matmul(c, y, stride, w[j], x, (size_t)n_in, m);
        double took = seconds() - start;
        if (run < 0) reps = took < 0.03 ? (int)(0.03 / took) + 1 : 1;
        else v[run] = took / reps / n_copies;
    }
    return median(v);
}

#define COPIES_MAX 256

static void bench_type(struct compute *c, enum quant_type type, struct bench_matrix mat)
{
    static const int ms[] = {1, 2, 4, 8, 16, 64, 512};
    const struct quant_format *f = quant_format_get((uint32_t)type);
    size_t row_bytes;
    if (!quant_row_bytes(&row_bytes, type, (size_t)mat.n_in)) return;
    struct rng rng;
    rng_seed(&rng, 1);
    uint8_t *data = mem_alloc(row_bytes * (size_t)mat.n_out);
    for (int r = 0; r < 64; r++) rand_row(&rng, data + row_bytes * (size_t)r, type, (size_t)mat.n_in, ROW_RANDOM);
    for (int r = 64; r < mat.n_out; r++)
        memcpy(data + row_bytes * (size_t)r, data + row_bytes * (size_t)(r % 64), row_bytes);
    struct weight_part part = {type, data, mat.n_out};
    struct weight *w[COPIES_MAX];
    struct err e;
    int n_copies = (int)(((size_t)64 << 20) / (row_bytes * (size_t)mat.n_out)) + 1;
    if (n_copies > COPIES_MAX) n_copies = COPIES_MAX;
    double start = seconds();
    struct weight_set *set = weight_set_create();
    for (int i = 0; i < n_copies; i++) w[i] = weight_set_add(set, c, &part, 1, mat.n_in, &e);
    if (!weight_set_pack(set, c, NULL, &e)) abort();
    double pack = seconds() - start;
    float *x = mem_alloc((size_t)512 * (size_t)mat.n_in * 4),
          *y = mem_alloc((size_t)512 * (size_t)weight_out_len(w[0]) * 4);
    rand_floats(&rng, x, (size_t)512 * (size_t)mat.n_in);
    printf("%-7s %5dx%-5d pack %4.1f GB/s |", f->name, mat.n_out, mat.n_in,
           (double)weight_bytes(w[0]) * n_copies / pack / 1e9);
    for (size_t i = 0; i < sizeof ms / sizeof ms[0]; i++) {
        double s = time_product(c, w, ms[i] <= 16 ? n_copies : 1, y, x, mat.n_in, ms[i]);
        double macs = (double)mat.n_out * mat.n_in * ms[i];
        if (ms[i] <= 8)
            printf(" m=%d %5.1f GB/s %4.0f G |", ms[i], (double)weight_bytes(w[0]) / s / 1e9, macs / s / 1e9);
        else printf(" m=%d %4.0f G |", ms[i], macs / s / 1e9);
    }
    printf("\n");
    fflush(stdout);
    weight_set_destroy(set);
    mem_free(x);
    mem_free(y);
    mem_free(data);
}

static void nothing(void *ctx, int from, int to, int worker)
{
    (void)ctx, (void)from, (void)to, (void)worker;
}

static void bench_attention(struct compute *c, int n_heads, int n_kv_heads, int dim, int pos, int n_tokens,
                            enum kv_type type)
{
    const struct kernels *k = compute_kernels(c);
    struct attn_params p = {n_heads, n_kv_heads, 0, {dim, dim, type, type}, 0.125f, 0, NULL};
    size_t head_bytes = k->kv_page_bytes(&p.kv), page_bytes = head_bytes * (size_t)n_kv_heads;
    uint32_t table[1024];
    int n = pos + n_tokens, n_pages = (n + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    for (int i = 0; i < n_pages; i++) table[i] = (uint32_t)i;
    struct kv_view view = {mem_try_map(page_bytes * (size_t)n_pages), page_bytes, head_bytes};
    float *kv = mem_zalloc((size_t)n * (size_t)(n_kv_heads * dim) * 4),
          *q = mem_zalloc((size_t)n_tokens * (size_t)(n_heads * dim) * 8);
    struct kv_span all = {0, n, 0, table}, span = {0, n_tokens, pos, table};
    compute_kv_store(c, &view, &p, kv, (size_t)(n_kv_heads * dim), kv, (size_t)(n_kv_heads * dim), &all, 1);
    double v[RUNS];
    float *out = q + (size_t)n_tokens * (size_t)(n_heads * dim);
    for (int run = 0; run < RUNS; run++) {
        double start = seconds();
        for (int i = 0; i < 10; i++)
            compute_attention(c, out, (size_t)(n_heads * dim), &view, &p, q, (size_t)(n_heads * dim), &span, 1);
        v[run] = (seconds() - start) / 10;
    }
    double s = median(v), keys = (double)n_tokens * (pos + n_tokens * 0.5 + 0.5);
    printf("attention %s heads %d/%d dim %d: %d queries at %d: %.1f us, %.0f GMAC/s, KV %.1f GB/s\n",
           kv_type_name(type), n_heads, n_kv_heads, dim, n_tokens, pos, s * 1e6, keys * n_heads * 2 * dim / s / 1e9,
           (double)n / KV_PAGE_TOKENS * (double)page_bytes / s / 1e9);
    mem_unmap(view.base, page_bytes * (size_t)n_pages);
    mem_free(kv);
    mem_free(q);
}

int bench(enum cpu_level level, int n_threads, const char *filter)
{
    static const struct bench_matrix mats[] = {{1536, 576}, {576, 1536}, {17920, 1536}, {1536, 8960}};
    struct err e;
    struct compute *c = compute_create(n_threads, level, &e);
    cpu_time = n_threads == 1;
    if (!c) {
        fprintf(stderr, "%s\n", e.msg);
        return 1;
    }
    struct compute_ceiling ceiling;
    compute_measure(c, &ceiling);
    printf("level %s, %d threads: int8 %.0f GMAC/s, f32 %.0f GMAC/s, DRAM %.1f GB/s\n", cpu_level_name(level),
           compute_threads(c), ceiling.int8_gmacs, ceiling.f32_gmacs, ceiling.dram_gbs);
    double start = seconds();
    for (int i = 0; i < 10000; i++) compute_for(c, nothing, NULL, 16, 4);
    printf("fork and join: %.2f us\n", (seconds() - start) / 10000 * 1e6);
    if (!filter || !strcmp(filter, "attention")) {
        for (int type = 0; type < KV_TYPE_N; type++) {
            enum kv_type kv = (enum kv_type)type;
            bench_attention(c, 9, 3, 64, 0, 512, kv);
            bench_attention(c, 9, 3, 64, 0, 4096, kv);
            bench_attention(c, 12, 2, 128, 0, 512, kv);
            bench_attention(c, 9, 3, 64, 256, 1, kv);
            bench_attention(c, 9, 3, 64, 4096, 1, kv);
            bench_attention(c, 12, 2, 128, 4096, 1, kv);
        }
    }
    for (int type = 0; type < QUANT_N; type++) {
        const struct quant_format *f = quant_format_get((uint32_t)type);
        if (!f || !compute_kernels(c)->matmul[type].matmul ||
            (filter && strcmp(filter, f->name) && strcmp(filter, "all")))
            continue;
        for (int i = 0; i < 4; i++)
            if (mats[i].n_in % compute_kernels(c)->matmul[type].k_multiple == 0)
                bench_type(c, (enum quant_type)type, mats[i]);
    }
    compute_destroy(c);
    return 0;
}
