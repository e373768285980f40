/* Products of every weight type: against a double-precision product of the unpacked weights with what the level kept of
 * the activations (tight: only float sums differ), and against the true activations (loose); m and the panel range must
 * not change a bit. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "harness.h"

#define M_MAX 64

struct product {
    enum quant_type type;
    int k, n_rows, n_panels;
    const void *rows[64];
    float *w; /* [n_rows][k], unpacked */
    float *x; /* [M_MAX][k] */
    void *panels;
    size_t panel_bytes, act_bytes;
    int stride;
};

static void product_make(struct test *t, struct product *p, enum quant_type type, int k, int n_rows)
{
    const struct matmul_kernel *mk = &t->k.matmul[type];
    int pr = t->k.panel_rows;
    size_t row_bytes = 0;
    quant_row_bytes(&row_bytes, type, (size_t)k);
    *p = (struct product){.type = type, .k = k, .n_rows = n_rows, .n_panels = (n_rows + pr - 1) / pr};
    p->w = guarded((size_t)n_rows * (size_t)k * sizeof(float), 4);
    for (int r = 0; r < p->n_panels * pr; r++) {
        p->rows[r] = NULL;
        if (r >= n_rows) continue;
        void *row = guarded(row_bytes, 1);
        enum row_kind kind = rand_int(&t->rng, 0, 2) ? ROW_RANDOM : (enum row_kind)rand_int(&t->rng, 0, ROW_KIND_N - 1);
        rand_row(&t->rng, row, type, (size_t)k, kind);
        quant_format_get((uint32_t)type)->unpack(p->w + (size_t)r * (size_t)k, row, (size_t)k);
        p->rows[r] = row;
    }
    p->panel_bytes = mk->panel_bytes(k);
    p->panels = guarded(p->panel_bytes * (size_t)p->n_panels, 64);
    for (int i = 0; i < p->n_panels; i++)
        mk->pack((uint8_t *)p->panels + (size_t)i * p->panel_bytes, p->rows + i * pr, k);
    p->x = guarded((size_t)M_MAX * (size_t)k * sizeof(float), 4);
    rand_floats(&t->rng, p->x, (size_t)M_MAX * (size_t)k);
    for (int i = 0; i < M_MAX; i += 7) { /* some tokens at the limits of the activation format, and zero blocks */
        for (int j = 0; j < k; j++) p->x[(size_t)i * (size_t)k + (size_t)j] = rng_next(&t->rng) & 1 ? 3.0f : -3.0f;
        if (i % 2) memset(p->x + (size_t)i * (size_t)k, 0, (size_t)(k < 64 ? k : 64) * sizeof(float));
    }
    for (int j = 0; j < k; j++) p->x[(size_t)k + (size_t)j] *= j % 3 ? 1e-20f : 1e4f;
    p->stride = p->n_panels * pr + 3;
}

/* y[m][stride] in guarded memory, for panels [0, n) given in two calls that meet at `split`. */
static float *product_run(struct test *t, const struct product *p, int m, int split, void **acts_out)
{
    const struct matmul_kernel *mk = &t->k.matmul[p->type];
    const struct act_format *af = &t->k.act[mk->act];
    size_t act_bytes = af->bytes(m, p->k);
    void *acts = guarded(act_bytes, 64), *scratch = guarded(t->k.matmul_scratch_bytes, 64);
    float *x = guarded((size_t)m * (size_t)p->k * sizeof(float), 4);
    memcpy(x, p->x, (size_t)m * (size_t)p->k * sizeof(float));
    for (int i = m / 2; i < m; i++) af->quantize(acts, x, (size_t)p->k, m, p->k, i, i + 1);
    af->quantize(acts, x, (size_t)p->k, m, p->k, 0, m / 2);
    size_t n = (size_t)(m - 1) * (size_t)p->stride + (size_t)(p->n_panels * t->k.panel_rows);
    float *y = guarded(n * sizeof(float), 4);
    for (size_t i = 0; i < n; i++) y[i] = -123.0f;
    mk->matmul(y, (size_t)p->stride, p->panels, acts, m, p->k, 0, split, scratch);
    if (split < p->n_panels) mk->matmul(y, (size_t)p->stride, p->panels, acts, m, p->k, split, p->n_panels, scratch);
    if (acts_out) *acts_out = acts;
    return y;
}

static double weight_magnitude(const struct product *p, int r, int k)
{
    double max = 0; /* a value is scale * code - min: its parts can be larger than itself, but not than its block */
    int from = k / 256 * 256, to = from + 256 < p->k ? from + 256 : p->k;
    for (int i = from; i < to; i++) max = fmax(max, fabs((double)p->w[(size_t)r * (size_t)p->k + (size_t)i]));
    return 3 * max;
}

/* K types with mins, all levels but c: the sums of 16 (32) activations that mins are multiplied with are rounded
 * to 1/32767 of the largest in 256. Returns what that may change in one unit, for mins of up to `magnitude`. */
static double sums_rounding(const struct test *t, enum quant_type type, double magnitude, const float *kept)
{
    bool has_sums = type == QUANT_Q2_K || type == QUANT_Q4_K || type == QUANT_Q5_K;
    double largest = 0;
    if (!has_sums || t->k.level < CPU_AVX2) return 0;
    for (int i = 0; i < 256; i += 16) {
        double half = 0, block = 0;
        for (int j = 0; j < 16; j++) half += (double)kept[i + j];
        for (int j = 0; i % 32 == 0 && j < 32; j++) block += (double)kept[i + j];
        largest = fmax(largest, fmax(fabs(half), fabs(block)));
    }
    return magnitude * largest * (0.51 / 32767) * (type == QUANT_Q2_K ? 16 : 8);
}

static void check_values(struct test *t, const struct product *p, const float *y, const void *acts)
{
    const char *name = quant_format_get((uint32_t)p->type)->name;
    const struct act_format *af = &t->k.act[t->k.matmul[p->type].act];
    float *kept = mem_alloc((size_t)p->k * sizeof *kept);
    double worst = 0;
    bool has_parts = quant_format_get((uint32_t)p->type)->block_len > 1;
    /* A lane is an output row, so floats are summed over k one after the other: the bound of sequential sums. Integers
     * have only a float sum of blocks. */
    double c = t->k.level == CPU_C || !has_parts ? 4 : 1;
    for (int i = 0; i < M_MAX; i++) {
        af->restore(kept, acts, M_MAX, p->k, i);
        const float *x = p->x + (size_t)i * (size_t)p->k;
        for (int r = 0; r < p->n_rows; r++) {
            const float *w = p->w + (size_t)r * (size_t)p->k;
            double ref = 0, true_ref = 0, sum = 0, loose = 0, block_max = 0, magnitude = 0, rounding = 0;
            for (int k = 0; k < p->k; k++) {
                if (k % 256 == 0) {
                    block_max = 0;
                    for (int j = k; j < p->k && j < k + 256; j++) block_max = fmax(block_max, fabs((double)x[j]));
                    magnitude = weight_magnitude(p, r, k);
                    rounding += sums_rounding(t, p->type, magnitude, kept + k);
                }
                ref += (double)w[k] * (double)kept[k];
                true_ref += (double)w[k] * (double)x[k];
                sum += (has_parts ? magnitude : fabs((double)w[k])) * fabs((double)kept[k]);
                loose += fabs((double)w[k]) * block_max * 0.51 / 127;
            }
            double got = (double)y[(size_t)i * (size_t)p->stride + (size_t)r];
            double error = fabs(got - ref), bound = c * (double)FLT_EPSILON * sum + rounding + 1e-37;
            if (!(error <= bound) || !(fabs(got - true_ref) <= loose + bound + (double)FLT_EPSILON * sum)) {
                check(t, false,
                      "%s k=%d rows=%d token %d row %d: %g, expected %g (bound %g); float activations %g (%g)", name,
                      p->k, p->n_rows, i, r, got, ref, bound, true_ref, loose);
                mem_free(kept);
                return;
            }
            if (error / bound > worst) worst = error / bound;
        }
    }
    mem_free(kept);
    check(t, true, " ");
}

static void test_product(struct test *t, enum quant_type type, int k, int n_rows)
{
    struct product p;
    product_make(t, &p, type, k, n_rows);
    const char *name = quant_format_get((uint32_t)type)->name;
    void *acts;
    float *y = product_run(t, &p, M_MAX, p.n_panels, &acts);
    check_values(t, &p, y, acts);
    for (int i = 0; i < M_MAX; i++)
        for (int r = n_rows; r < p.n_panels * t->k.panel_rows; r++)
            if (y[(size_t)i * (size_t)p.stride + (size_t)r] != 0) {
                check(t, false, "%s k=%d: padding row %d is %g", name, k, r, (double)y[i * p.stride + r]);
                i = M_MAX;
                break;
            }
    static const int ms[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 25, 31, 33, 48, 63};
    for (size_t i = 0; i < sizeof ms / sizeof ms[0]; i++) {
        int m = ms[i], split = rand_int(&t->rng, 1, p.n_panels);
        float *z = product_run(t, &p, m, split, NULL);
        for (int j = 0; j < m; j++)
            if (memcmp(y + (size_t)j * (size_t)p.stride, z + (size_t)j * (size_t)p.stride,
                       (size_t)(p.n_panels * t->k.panel_rows) * sizeof *y)) {
                check(t, false, "%s k=%d rows=%d: token %d differs at m=%d, split %d", name, k, n_rows, j, m, split);
                break;
            }
    }
    for (int j = 0; j + 1 < M_MAX; j++)
        for (int i = p.stride - 3; i < p.stride; i++)
            if (y[(size_t)j * (size_t)p.stride + (size_t)i] != -123.0f) {
                check(t, false, "%s k=%d: wrote between rows", name, k);
                j = M_MAX;
                break;
            }
    check(t, guarded_canaries_ok(), "%s k=%d rows=%d: canary", name, k, n_rows);
    guarded_reset();
}

static const int ks[] = {1, 7, 32, 64, 96, 256, 576, 768, 1536, 1568};

void test_matmul(struct test *t)
{
    for (int type = 0; type < QUANT_N; type++) {
        const struct matmul_kernel *mk = &t->k.matmul[type];
        if (!mk->matmul) continue;
        size_t row_bytes = 0;
        quant_row_bytes(&row_bytes, (enum quant_type)type, 1536);
        check(t, (double)mk->panel_bytes(1536) <= 1.12 * (double)(row_bytes * (size_t)t->k.panel_rows),
              "%s: packed weights are larger than 1.12 times the file's", quant_format_get((uint32_t)type)->name);
        for (size_t i = 0; i < sizeof ks / sizeof ks[0]; i++) {
            if (ks[i] % mk->k_multiple) continue;
            test_product(t, (enum quant_type)type, ks[i], rand_int(&t->rng, 1, 33));
            if (ks[i] < 600) test_product(t, (enum quant_type)type, ks[i], rand_int(&t->rng, 1, 2) * 16 + 1);
        }
    }
}

/* Levels that share panels and arithmetic give the same bits. */
void test_levels_agree(struct test *t, const struct kernels *other)
{
    struct kernels mine = t->k;
    for (int type = 0; type < QUANT_N; type++) {
        if (!mine.matmul[type].matmul) continue;
        struct product p;
        product_make(t, &p, (enum quant_type)type, 1536, 33);
        float *y = product_run(t, &p, M_MAX, 2, NULL);
        t->k = *other;
        float *z = product_run(t, &p, M_MAX, 1, NULL);
        t->k = mine;
        bool same = true;
        for (int i = 0; i < M_MAX; i++)
            same &= !memcmp(y + (size_t)i * (size_t)p.stride, z + (size_t)i * (size_t)p.stride,
                            (size_t)(p.n_panels * 16) * sizeof *y);
        check(t, same, "%s: differs from level %s", quant_format_get((uint32_t)type)->name,
              cpu_level_name(other->level));
        guarded_reset();
    }
}
