/* Rotary position embedding: frequency tables and their cos and sin. Angles are linear in the position, so a table is
 * one frequency a pair; linear and YaRN scaling and the files' factor tensors are folded in when it is built. Double
 * precision throughout: at position 1e5 a float angle is off by 0.004.
 * YaRN: Peng et al. 2023 (arXiv 2309.00071), with the magnitude that llama.cpp applies. */
#include <math.h>

#include "model/model_internal.h"

static const double pi = 3.14159265358979323846;

/* The pair that turns n_turns times over the original context. */
static double yarn_pair(const struct rope_params *p, double n_turns)
{
    return p->n_rot * log(p->n_ctx_orig / (n_turns * 2 * pi)) / (2 * log(p->base));
}

static double yarn_mscale(double factor, double multiplier)
{
    return factor <= 1 ? 1 : 0.1 * multiplier * log(factor) + 1;
}

/* Share of the unscaled frequency: 1 for fast pairs, 0 for slow ones, a ramp between. */
static double yarn_share(double low, double high, int pair)
{
    double y = (pair - low) / fmax(0.001, high - low);
    return 1 - fmin(1, fmax(0, y));
}

bool rope_set_init(struct rope_set *set, struct arena *a, const struct rope_params *p, const float *factors)
{
    int n = p->n_rot / 2;
    double *freq = arena_try_alloc(a, sizeof *freq * (size_t)n);
    if (!freq) return false;
    double low = 0, high = 0, magnitude = p->attn_factor;
    if (p->yarn) {
        double factor = 1 / p->freq_scale;
        low = fmax(0, floor(yarn_pair(p, p->beta_fast)));
        high = fmin(p->n_rot - 1, ceil(yarn_pair(p, p->beta_slow)));
        magnitude *= yarn_mscale(factor, 1);
        if (p->log_multiplier != 0) magnitude /= yarn_mscale(factor, p->log_multiplier);
    }
    for (int i = 0; i < n; i++) {
        double f = pow(p->base, -2.0 * i / p->n_rot) / (factors ? (double)factors[i] : 1);
        double share = p->yarn ? yarn_share(low, high, i) : 0;
        freq[i] = f * (p->freq_scale * (1 - share) + share);
    }
    *set = (struct rope_set){.n_rot = p->n_rot, .freq = freq, .magnitude = magnitude};
    return true;
}

void rope_set_fill(const struct rope_set *set, float *cs, int pos)
{
    for (int i = 0; i < set->n_rot / 2; i++) {
        double angle = pos * set->freq[i];
        cs[2 * i] = (float)(cos(angle) * set->magnitude);
        cs[2 * i + 1] = (float)(sin(angle) * set->magnitude);
    }
}
