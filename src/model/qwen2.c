/* Architecture `qwen2`: Qwen 2 and 2.5, QwQ and the distilled models on them. As llama, with biases on q, k and v and
 * RoPE on halves. */
#include "model/model_internal.h"

static bool load(struct model *m, struct loader *l)
{
    m->neox = true;
    rope_set_load(l, 0, &m->hp.rope, NULL);
    for (int i = 0; i < m->hp.n_layers && !l->failed; i++) {
        l->layer = i;
        part_attention(l, &m->layers[i].attn);
        part_ffn(l, &m->layers[i].ffn);
    }
    part_ends(l);
    return !l->failed;
}

const struct family family_qwen2 = {.arch = "qwen2", .load = load, .forward = dense_forward};
