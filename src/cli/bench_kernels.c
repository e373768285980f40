/* bench --kernels: rates of the matrix products of every weight type (best slice), and their shares of the ceilings
 * that this machine shows in the same milliseconds (median slice): int8 dot products (float FMA for float types) on
 * registers, and reading from memory. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "cli/cli.h"
#include "compute/compute.h"

static const int ms[] = {512, 16, 8, 4, 2, 1}; /* the last is decode */
#define N_MS ((int)(sizeof ms / sizeof *ms))

struct report {
    const struct compute *compute;
    struct compute_ceiling ceiling;
    bool json, first;
};

static bool is_float(enum quant_type type)
{
    const struct quant_format *f = quant_format_get((uint32_t)type);
    return f && f->block_len == 1;
}

static void print_ceiling(const struct report *r, const char *when)
{
    if (r->json) return;
    printf("level %s, %d threads, ceilings %s: int8 %.0f GMAC/s, f32 %.0f GMAC/s, memory %.1f GB/s\n",
           cpu_level_name(compute_kernels(r->compute)->level), compute_threads(r->compute), when, r->ceiling.int8_gmacs,
           r->ceiling.f32_gmacs, r->ceiling.dram_gbs);
}

static void print_header(void)
{
    printf("\n| weights | ceiling |");
    for (int i = 0; i < N_MS; i++) printf(" m=%-3d GMAC/s |", ms[i]);
    printf(" m=1 GB/s of memory's |\n|---------|---------|");
    for (int i = 0; i < N_MS; i++) printf("-------------:|");
    printf("---------------------:|\n");
}

static void print_rates(struct report *r, enum quant_type type, const struct compute_rate *rates)
{
    const char *name = quant_format_get((uint32_t)type)->name;
    double top = is_float(type) ? r->ceiling.f32_gmacs : r->ceiling.int8_gmacs;
    const struct compute_rate *decode = &rates[N_MS - 1];
    if (!r->json) {
        printf("| %-7s | %7.0f |", name, top);
        for (int i = 0; i < N_MS; i++) printf(" %4.0f (%3.0f %%) |", rates[i].gmacs, 100 * rates[i].share);
        printf(" %12.1f (%3.0f %%) |\n", decode->gbs, 100 * decode->memory_share);
        fflush(stdout);
        return;
    }
    printf("%s  {\"type\": \"%s\", \"cpu_level\": \"%s\", \"n_threads\": %d, \"int8_gmacs\": %.1f, "
           "\"f32_gmacs\": %.1f, \"memory_gbs\": %.2f, \"gmacs\": {",
           r->first ? "" : ",\n", name, cpu_level_name(compute_kernels(r->compute)->level), compute_threads(r->compute),
           r->ceiling.int8_gmacs, r->ceiling.f32_gmacs, r->ceiling.dram_gbs);
    for (int i = 0; i < N_MS; i++) printf("%s\"%d\": %.1f", i ? ", " : "", ms[i], rates[i].gmacs);
    printf("}, \"share\": {");
    for (int i = 0; i < N_MS; i++) printf("%s\"%d\": %.3f", i ? ", " : "", ms[i], rates[i].share);
    printf("}, \"decode_gbs\": %.2f, \"decode_memory_share\": %.3f}", decode->gbs, decode->memory_share);
    r->first = false;
    fflush(stdout);
}

/* Whether the list of names (or "all") holds this one. */
static bool is_wanted(const char *list, const char *name)
{
    if (strcmp(list, "all") == 0) return true;
    for (const char *p = list; *p;) {
        size_t n = strcspn(p, ",");
        if (n == strlen(name) && strncasecmp(p, name, n) == 0) return true;
        p += n + (p[n] == ',');
    }
    return false;
}

bool cli_bench_kernels(const struct options *o, int n_threads, bool first, struct err *e)
{
    enum cpu_level level = cpu_level_default();
    if (o->cpu_level && !cpu_level_parse(&level, o->cpu_level))
        return err_set(e, ERR_INVALID, "--cpu-level: expected c, avx2, avx512 or amx, found \"%s\"", o->cpu_level);
    struct compute *c = compute_create(n_threads, level, e);
    if (!c) return false;
    struct report r = {.compute = c, .json = o->json, .first = first};
    bool ok = true;
    int n_types = 0;
    compute_measure(c, &r.ceiling);
    print_ceiling(&r, "before");
    if (!r.json) print_header();
    for (int type = 0; ok && type < QUANT_N; type++) {
        struct compute_rate rates[N_MS];
        const struct quant_format *format = quant_format_get((uint32_t)type);
        if (!format || !compute_kernels(c)->matmul[type].matmul || !is_wanted(o->kernels, format->name)) continue;
        n_types++;
        ok = compute_measure_products(c, rates, ms, N_MS, (enum quant_type)type, e);
        if (ok) print_rates(&r, (enum quant_type)type, rates);
    }
    if (ok && n_types == 0) ok = err_set(e, ERR_INVALID, "--kernels: no weight type of \"%s\" is known", o->kernels);
    if (ok) {
        compute_measure(c, &r.ceiling);
        if (!r.json) puts("");
        print_ceiling(&r, "after");
    }
    compute_destroy(c);
    return ok;
}
