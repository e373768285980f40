/* Level amx on every CPU with AVX-512: large_amx.c, compiled against amx_tiles.h, goes through the same tests as the
 * other levels. The emulation is tested first: its arithmetic against 64-bit sums, and that it refuses what a CPU does.
 */
#include <stdio.h>
#include <string.h>

#include "amx_tiles.h"
#include "harness.h"

/* The Makefile renames it, so that the product's own is there as well. */
void kernels_fill_amx_emulated(struct kernels *k);

struct shape {
    int tile, rows, row_bytes;
};

static void configure(uint8_t bytes[64], const struct shape *shapes, int n)
{
    memset(bytes, 0, 64);
    bytes[0] = 1;
    for (int i = 0; i < n; i++) {
        bytes[16 + 2 * shapes[i].tile] = (uint8_t)shapes[i].row_bytes;
        bytes[48 + shapes[i].tile] = (uint8_t)shapes[i].rows;
    }
    amx_loadconfig(bytes);
}

static int64_t byte_get(uint8_t v, bool is_signed)
{
    return is_signed ? (int8_t)v : v;
}

/* c += a * b for random shapes, strides and bytes (many at the ends of their range); nothing else is written. */
static void test_tile_product(struct test *t, bool a_signed, bool b_signed)
{
    const int m = rand_int(&t->rng, 1, AMX_ROWS), n = rand_int(&t->rng, 1, 16), k = rand_int(&t->rng, 1, 16);
    const int a_stride = 4 * k + rand_int(&t->rng, 0, 9), b_stride = 4 * n + rand_int(&t->rng, 0, 9),
              c_stride = 4 * n + 8;
    uint8_t a[AMX_ROWS * 80], b[AMX_ROWS * 80], c[AMX_ROWS * 80], before[AMX_ROWS * 80], want[AMX_ROWS * 80], bytes[64];
    for (size_t i = 0; i < sizeof a; i++) {
        a[i] = (uint8_t)(rand_int(&t->rng, 0, 2) ? rng_next(&t->rng) : 0x80);
        b[i] = (uint8_t)(rand_int(&t->rng, 0, 2) ? rng_next(&t->rng) : 0x7f + (rng_next(&t->rng) & 1));
        before[i] = c[i] = want[i] = (uint8_t)rng_next(&t->rng);
    }
    for (int i = 0; i < m; i++)
        for (int j = 0; j < n; j++) {
            int32_t sum;
            memcpy(&sum, before + i * c_stride + 4 * j, 4);
            int64_t exact = sum;
            for (int l = 0; l < 4 * k; l++)
                exact +=
                    byte_get(a[i * a_stride + l], a_signed) * byte_get(b[l / 4 * b_stride + 4 * j + l % 4], b_signed);
            memcpy(want + i * c_stride + 4 * j, &exact, 4); /* the low half: sums wrap around */
        }
    configure(bytes, (struct shape[]){{0, m, 4 * n}, {3, m, 4 * k}, {7, k, 4 * n}}, 3);
    amx_loadd(0, before, c_stride);
    amx_loadd(3, a, a_stride);
    amx_loadd(7, b, b_stride);
    amx_dpb(0, 3, 7, a_signed, b_signed);
    amx_stored(0, c, c_stride);
    amx_release();
    check(t, !memcmp(c, want, sizeof c), "emulated tiles: product of %d x %d x %d", m, 4 * k, n);
}

static void expect_fault(struct test *t, const char *name, bool expected)
{
    const char *text;
    int n = amx_faults_take(&text);
    check(t, (n > 0) == expected, "emulated tiles: %s: %s", name, text ? text : "no fault");
}

static void test_config_faults(struct test *t)
{
    static const struct {
        const char *name;
        int at, value;
    } wrong[] = {{"palette 2", 0, 2},         {"reserved byte", 9, 1},  {"row of 65 bytes", 18, 65},
                 {"row of 256 bytes", 19, 1}, {"a ninth tile", 32, 64}, {"17 rows", 49, 17},
                 {"rows alone", 50, 16},      {"bytes alone", 20, 64},  {"rows of a ninth tile", 56, 1}};
    uint8_t bytes[64], now[64];
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        configure(bytes, (struct shape[]){{0, 16, 64}, {1, 8, 32}}, 2);
        expect_fault(t, "a good configuration", false);
        memcpy(now, bytes, 64);
        now[wrong[i].at] = (uint8_t)wrong[i].value;
        amx_loadconfig(now);
        expect_fault(t, wrong[i].name, true);
        amx_storeconfig(now);
        check(t, !memcmp(now, bytes, 64), "emulated tiles: %s changed the configuration", wrong[i].name);
    }
    memset(bytes, 0, 64);
    amx_loadconfig(bytes);
    check(t, !amx_is_configured(), "emulated tiles: palette 0 keeps the configuration");
    amx_zero(0);
    expect_fault(t, "a tile without a configuration", true);
}

/* C [rows][bytes], A, B of a product that a CPU refuses, but for the first. */
static void test_shape_faults(struct test *t)
{
    static const struct {
        const char *name;
        struct shape c, a, b;
        bool bad;
    } cases[] = {{"a good product", {0, 16, 64}, {4, 16, 32}, {6, 8, 64}, false},
                 {"rows of C and A", {0, 16, 64}, {4, 15, 32}, {6, 8, 64}, true},
                 {"rows of B", {0, 16, 64}, {4, 16, 32}, {6, 16, 64}, true},
                 {"rows of C and B", {0, 16, 64}, {4, 16, 32}, {6, 8, 60}, true},
                 {"A of no whole dwords", {0, 16, 64}, {4, 16, 34}, {6, 8, 64}, true},
                 {"C of no whole dwords", {0, 16, 62}, {4, 16, 32}, {6, 8, 62}, true},
                 {"C is A", {4, 16, 64}, {4, 16, 64}, {6, 16, 64}, true},
                 {"A is B", {0, 16, 64}, {6, 16, 64}, {6, 16, 64}, true},
                 {"B is left out", {0, 16, 64}, {4, 16, 32}, {6, 0, 0}, true}};
    uint8_t bytes[64];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        configure(bytes, (struct shape[]){cases[i].c, cases[i].a, cases[i].b}, 3);
        amx_dpb(cases[i].c.tile, cases[i].a.tile, cases[i].b.tile, true, true);
        expect_fault(t, cases[i].name, cases[i].bad);
    }
    amx_loadd(8, bytes, 0);
    expect_fault(t, "tile 8", true);
    amx_release();
    amx_stored(0, bytes, 0);
    expect_fault(t, "a store after the release", true);
}

void test_amx_emulated(struct test *t)
{
    t->level = "amx, emulated";
    for (int i = 0; i < 40; i++) test_tile_product(t, i % 2, i / 2 % 2);
    expect_fault(t, "random products", false);
    test_config_faults(t);
    test_shape_faults(t);

    struct kernels below;
    kernels_init(&below, CPU_AVX512);
    kernels_init(&t->k, CPU_AVX512);
    kernels_fill_amx_emulated(&t->k);
    t->k.level = CPU_AMX;
    int products = amx_products();
    test_matmul(t);
    test_levels_agree(t, &below);
    if (cpu_level_detect() == CPU_AMX) {
        kernels_init(&below, CPU_AMX);
        test_levels_agree(t, &below);
    }
    check(t, amx_products() > products, "no tile was multiplied");
    products = amx_products();
    test_compute(t);
    check(t, amx_products() > products, "compute multiplied no tile");
    check(t, !amx_is_configured(), "a kernel left the thread's tiles configured");
    const char *text;
    int n = amx_faults_take(&text);
    if (n)
        printf("%d faults of level amx with emulated tiles, the first: %s\n", n,
               text); /* explains what failed before */
    check(t, n == 0, "%d faults", n);
}
