/* Architecture `gemma3`: Gemma 3 (270M to 27B). Embeddings times sqrt(n_embd); norms before and after each block; q and
 * k normed per head; GELU; five windowed layers (their own RoPE base, never scaled) to one global layer. The "1 +" of
 * Gemma's norm weights is folded in by the converter. */
#include <math.h>

#include "model/model_internal.h"

enum { LAYERS_27B = 62, WINDOW_PERIOD = 6, ROPE_GLOBAL = 0, ROPE_LOCAL = 1 };

static void load_layer(struct loader *l, struct layer *layer, bool local)
{
    const struct hparams *h = &l->m->hp;
    part_attention(l, &layer->attn);
    layer->attn.q_norm = part_floats(l, "attn_q_norm.weight", PART_REQUIRED, h->dim_k);
    layer->attn.k_norm = part_floats(l, "attn_k_norm.weight", PART_REQUIRED, h->dim_k);
    layer->attn.post_norm = part_floats(l, "post_attention_norm.weight", PART_REQUIRED, h->n_embd);
    part_ffn(l, &layer->ffn);
    layer->ffn.post_norm = part_floats(l, "post_ffw_norm.weight", PART_REQUIRED, h->n_embd);
    layer->attn.window = local ? h->window : 0;
    layer->attn.rope = local ? ROPE_LOCAL : ROPE_GLOBAL;
}

static bool load(struct model *m, struct loader *l)
{
    const struct hparams *h = &m->hp;
    m->neox = m->gelu = true;
    m->embd_scale = sqrtf((float)h->n_embd);
    /* The 27B model scales queries by n_embd / n_heads instead of the head size; no key says so. */
    if (h->n_layers == LAYERS_27B) m->query_scale = 1.0f / sqrtf((float)(h->n_embd / h->n_heads));

    struct rope_params rope_local = h->rope;
    rope_local.base = h->rope_base_local;
    rope_local.freq_scale = 1;
    rope_set_load(l, ROPE_GLOBAL, &h->rope, NULL);
    rope_set_load(l, ROPE_LOCAL, &rope_local, NULL);

    bool local[MAX_LAYERS] = {false};
    if (h->window > 0 && !hparams_window_pattern(local, m->g, m->family->arch, h->n_layers, WINDOW_PERIOD, l->e)) {
        l->failed = true;
    }
    for (int i = 0; i < h->n_layers && !l->failed; i++) {
        l->layer = i;
        load_layer(l, &m->layers[i], local[i]);
    }
    part_ends(l);
    return !l->failed;
}

const struct family family_gemma3 = {.arch = "gemma3", .load = load, .forward = dense_forward};
