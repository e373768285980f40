/* kernels: tests of every level that this CPU has, and of level amx with emulated tiles.
 *   kernels [--level L|amx-emulated] [--seed N] [--threads N] [--bench [TYPE|attention|all]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

static void run_level(struct test *t, enum cpu_level level)
{
    kernels_init(&t->k, level);
    t->level = cpu_level_name(level);
    test_elementwise(t);
    test_attention(t);
    test_matmul(t);
    if (level == CPU_AMX) {
        struct kernels below;
        kernels_init(&below, CPU_AVX512);
        test_levels_agree(t, &below);
    }
    test_compute(t);
}

static void run_emulated(struct test *t, enum cpu_level highest)
{
    if (highest >= CPU_AVX512) test_amx_emulated(t);
    else printf("NOT RUN: level amx with emulated tiles: this CPU has at most %s\n", cpu_level_name(highest));
}

int main(int argc, char **argv)
{
    uint64_t seed;
    int n_threads = 0;
    bool real = true, emulated = true;
    rng_secure(&seed, sizeof seed);
    enum cpu_level highest = cpu_level_detect(), from = CPU_C, to = highest;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--seed") && i + 1 < argc) {
            seed = strtoull(argv[++i], NULL, 10);
        } else if (!strcmp(argv[i], "--level") && i + 1 < argc && cpu_level_parse(&from, argv[i + 1])) {
            to = from;
            emulated = false;
            i++;
        } else if (!strcmp(argv[i], "--level") && i + 1 < argc && !strcmp(argv[i + 1], "amx-emulated")) {
            real = false;
            i++;
        } else if (!strcmp(argv[i], "--threads") && i + 1 < argc) {
            n_threads = (int)strtol(argv[++i], NULL, 10);
        } else if (!strcmp(argv[i], "--bench")) {
            return bench(to, n_threads, i + 1 < argc ? argv[i + 1] : NULL);
        } else {
            fprintf(stderr, "usage: kernels [--level c|avx2|avx512|amx|amx-emulated] [--seed N] [--threads N] "
                            "[--bench [TYPE|attention|all]]\n");
            return 2;
        }
    }
    if (to > highest) {
        fprintf(stderr, "level %s: this CPU has at most %s\n", cpu_level_name(to), cpu_level_name(highest));
        return 2;
    }
    printf("seed %llu\n", (unsigned long long)seed);
    struct test t = {.level = "c"};
    rng_seed(&t.rng, seed);
    for (int level = (int)from; real && level <= (int)to; level++) run_level(&t, (enum cpu_level)level);
    for (int level = (int)to + 1; real && emulated && level < CPU_LEVEL_N; level++)
        printf("NOT RUN: level %s: this CPU has at most %s\n", cpu_level_name((enum cpu_level)level),
               cpu_level_name(highest));
    if (emulated) run_emulated(&t, highest);
    printf("%d passed, %d failed\n", t.n_passed, t.n_failed);
    return t.n_failed != 0;
}
