/* Architecture `llama`: Llama 2/3, SmolLM2, Mistral, TinyLlama and Mixtral. RoPE on adjacent pairs (the converter has
 * permuted q and k for it); frequency factors in rope_freqs.weight (Llama 3.1+) or, for longrope, in the long and short
 * factor tensors. One choice between those two for all positions, because keys in the cache keep their rotation: the
 * long ones when the model was trained beyond the original context. */
#include "model/model_internal.h"

static const float *rope_factors(struct loader *l, const struct rope_params *p)
{
    const int n = p->n_rot / 2;
    l->layer = -1;
    if (!p->longrope) return part_floats(l, "rope_freqs.weight", PART_OPTIONAL, n);
    const float *factors_long = part_floats(l, "rope_factors_long.weight", PART_REQUIRED, n);
    const float *factors_short = part_floats(l, "rope_factors_short.weight", PART_REQUIRED, n);
    return l->m->hp.n_ctx_train > p->n_ctx_orig ? factors_long : factors_short;
}

static bool load(struct model *m, struct loader *l)
{
    const float *factors = rope_factors(l, &m->hp.rope);
    rope_set_load(l, 0, &m->hp.rope, factors);
    for (int i = 0; i < m->hp.n_layers && !l->failed; i++) {
        struct layer *layer = &m->layers[i];
        l->layer = i;
        part_attention(l, &layer->attn);
        if (m->hp.n_experts) {
            part_moe(l, &layer->ffn);
        } else {
            part_ffn(l, &layer->ffn);
        }
    }
    part_ends(l);
    return !l->failed;
}

const struct family family_llama = {.arch = "llama", .experts = true, .load = load, .forward = dense_forward};
