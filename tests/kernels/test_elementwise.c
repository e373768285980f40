/* Element-wise kernels against double precision, n from 1 past two vectors, ends at a guard page. */
#include <math.h>
#include <string.h>

#include "harness.h"

static void near(struct test *t, const char *what, int n, const float *got, const double *ref, const double *size,
                 double c)
{
    for (int i = 0; i < n; i++)
        if (!(fabs((double)got[i] - ref[i]) <= c * (double)FLT_EPSILON * size[i] + 1e-38)) {
            check(t, false, "%s n=%d [%d]: %.9g, expected %.9g", what, n, i, (double)got[i], ref[i]);
            return;
        }
    check(t, true, " ");
}

#define N_MAX 1100

static void test_n(struct test *t, int n)
{
    static double ref[N_MAX], size[N_MAX];
    float *x = guarded((size_t)n * 4, 4), *y = guarded((size_t)n * 4, 4), *w = guarded((size_t)n * 4, 4);
    rand_floats(&t->rng, x, (size_t)n);
    rand_floats(&t->rng, w, (size_t)n);
    for (int i = 0; i < n; i++) x[i] *= (float)(i % 5) * 3;

    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    for (int pass = 0; pass < 3; pass++) {
        for (int i = 0; i < n; i++) {
            ref[i] = (double)x[i] / sqrt(sum / n + 1e-5) * (pass == 1 ? 1 : (double)w[i]);
            size[i] = fabs(ref[i]);
        }
        if (pass == 2) memcpy(y, x, (size_t)n * 4);
        t->k.rmsnorm(y, pass == 2 ? y : x, pass == 1 ? NULL : w, n, 1e-5f);
        near(t, "rmsnorm", n, y, ref, size, 8);
    }
    memcpy(y, w, (size_t)n * 4);
    t->k.add(y, x, n);
    for (int i = 0; i < n; i++) ref[i] = (double)w[i] + (double)x[i], size[i] = fabs(ref[i]);
    near(t, "add", n, y, ref, size, 1);
    memcpy(y, w, (size_t)n * 4);
    t->k.scale(y, 1.7f, n);
    for (int i = 0; i < n; i++) ref[i] = (double)w[i] * (double)1.7f, size[i] = fabs(ref[i]);
    near(t, "scale", n, y, ref, size, 1);
    for (int i = 0; i < n; i++)
        ref[i] = (double)x[i] / (1 + exp(-(double)x[i])) * (double)w[i],
        size[i] = fabs(ref[i]) + fabs((double)x[i] * 1e-3);
    t->k.silu_mul(y, x, w, n);
    near(t, "silu_mul", n, y, ref, size, 8);
    memcpy(y, x, (size_t)n * 4);
    t->k.silu_mul(y, y, w, n);
    near(t, "silu_mul in place", n, y, ref, size, 8);
    for (int i = 0; i < n; i++) {
        double g = (double)x[i];
        ref[i] = 0.5 * g * (1 + tanh(0.79788456080286535588 * (g + 0.044715 * g * g * g))) * (double)w[i];
        size[i] = fabs(g * (double)w[i]);
    }
    t->k.gelu_mul(y, x, w, n);
    near(t, "gelu_mul", n, y, ref, size, 8);
    memcpy(y, x, (size_t)n * 4);
    t->k.softcap(y, 2.5f, n);
    for (int i = 0; i < n; i++) ref[i] = 2.5 * tanh((double)x[i] / 2.5), size[i] = fabs(ref[i]);
    near(t, "softcap", n, y, ref, size, 8);

    x[rand_int(&t->rng, 0, n - 1)] = 100;
    x[rand_int(&t->rng, 0, n - 1)] = 100;
    int best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    int got = t->k.argmax(x, n);
    check(t, got == best, "argmax n=%d: %d, expected %d", n, got, best);
    check(t, guarded_canaries_ok(), "element-wise n=%d: canary", n);
    guarded_reset();
}

static void test_extremes(struct test *t)
{
    float x[8] = {-200, -90, -88, 88, 90, 200, -1e30f, 1e30f}, one[8] = {1, 1, 1, 1, 1, 1, 1, 1}, y[8];
    t->k.silu_mul(y, x, one, 8);
    check(t, fabsf(y[0]) < 1e-30f && y[5] == 200 && y[7] == 1e30f && !(fabsf(y[6]) > 1),
          "silu at extremes: %g %g %g %g", (double)y[0], (double)y[5], (double)y[6], (double)y[7]);
    x[6] = -1e10f, x[7] = 1e10f;
    t->k.gelu_mul(y, x, one, 8);
    check(t, fabsf(y[0]) < 1e-20f && y[5] == 200 && y[7] == 1e10f, "gelu at extremes: %g %g %g", (double)y[0],
          (double)y[5], (double)y[7]);
    t->k.softcap(x, 30, 8);
    check(t, x[7] == 30 && x[6] == -30, "softcap at extremes: %g %g", (double)x[6], (double)x[7]);
}

static void test_rope(struct test *t, int n_heads, int dim, int n_rot, bool neox)
{
    float *x = guarded((size_t)(n_heads * dim) * 4, 4), *cs = guarded((size_t)n_rot * 4, 4);
    static double ref[4096], size[4096];
    rand_floats(&t->rng, x, (size_t)(n_heads * dim));
    for (int i = 0; i < n_rot / 2; i++) {
        cs[2 * i] = (float)cos(i * 0.7);
        cs[2 * i + 1] = (float)sin(i * 0.7);
    }
    for (int i = 0; i < n_heads * dim; i++) ref[i] = (double)x[i], size[i] = fabs(ref[i]);
    for (int h = 0; h < n_heads; h++)
        for (int i = 0; i < n_rot / 2; i++) {
            int a = h * dim + (neox ? i : 2 * i), b = neox ? a + n_rot / 2 : a + 1;
            double c = (double)cs[2 * i], s = (double)cs[2 * i + 1];
            ref[a] = (double)x[a] * c - (double)x[b] * s;
            ref[b] = (double)x[a] * s + (double)x[b] * c;
            size[a] = size[b] = fabs((double)x[a]) + fabs((double)x[b]);
        }
    t->k.rope(x, cs, n_heads, dim, n_rot, neox);
    near(t, neox ? "rope neox" : "rope", n_heads * dim, x, ref, size, 2);
    check(t, guarded_canaries_ok(), "rope: canary");
    guarded_reset();
}

void test_elementwise(struct test *t)
{
    for (int n = 1; n <= 70; n++) test_n(t, n);
    test_n(t, 576);
    test_n(t, 1033);
    test_extremes(t);
    static const int rots[] = {2, 8, 16, 24, 32, 64, 80, 96, 128};
    for (int i = 0; i < 9; i++)
        for (int neox = 0; neox < 2; neox++) {
            test_rope(t, 3, rots[i], rots[i], neox);
            test_rope(t, 5, rots[i] + 8, rots[i], neox);
        }
}
