/* elementwise_c: norms, activations, rope and argmax in plain C. */
#include <math.h>

#include "kernels/kernels_internal.h"

static void rmsnorm(float *y, const float *x, const float *weight, int n, float eps)
{
    float partial[16] = {0};
    for (int i = 0; i < n; i++) partial[i % 16] += x[i] * x[i];
    float sum = 0;
    for (int i = 0; i < 16; i++) sum += partial[i];
    float factor = 1.0f / sqrtf(sum / (float)n + eps);
    for (int i = 0; i < n; i++) y[i] = weight ? x[i] * factor * weight[i] : x[i] * factor;
}

static void add(float *y, const float *x, int n)
{
    for (int i = 0; i < n; i++) y[i] += x[i];
}

static void scale(float *y, float factor, int n)
{
    for (int i = 0; i < n; i++) y[i] *= factor;
}

static void silu_mul(float *y, const float *gate, const float *up, int n)
{
    for (int i = 0; i < n; i++) y[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

static void gelu_mul(float *y, const float *gate, const float *up, int n)
{
    const float c = 0.7978845608f; /* sqrt(2 / pi) */
    for (int i = 0; i < n; i++) {
        float g = gate[i];
        y[i] = 0.5f * g * (1.0f + tanhf(c * g * (1.0f + 0.044715f * g * g))) * up[i];
    }
}

static void softcap(float *x, float cap, int n)
{
    for (int i = 0; i < n; i++) x[i] = cap * tanhf(x[i] / cap);
}

static void rope(float *x, const float *cs, int n_heads, int dim, int n_rot, bool neox)
{
    int half = n_rot / 2, step = neox ? 1 : 2, distance = neox ? half : 1;
    for (int h = 0; h < n_heads; h++, x += dim)
        for (int i = 0; i < half; i++) {
            float *a = x + i * step, *b = a + distance;
            float c = cs[2 * i], s = cs[2 * i + 1], x0 = *a, x1 = *b;
            *a = x0 * c - x1 * s;
            *b = x0 * s + x1 * c;
        }
}

static int argmax(const float *x, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (x[i] > x[best]) best = i;
    return best;
}

void kernels_fill_c_elementwise(struct kernels *k)
{
    k->rmsnorm = rmsnorm;
    k->add = add;
    k->scale = scale;
    k->silu_mul = silu_mul;
    k->gelu_mul = gelu_mul;
    k->softcap = softcap;
    k->rope = rope;
    k->argmax = argmax;
}
