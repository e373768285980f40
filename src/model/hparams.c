/* Hyper-parameters: the ARCH.* keys as numbers that the rest may trust. Every value has a range, and products that
 * later size memory cannot overflow an int when these ranges hold. Errors name the key, what was found and what is
 * allowed. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/model_internal.h"

struct reader {
    const struct gguf *g;
    const char *arch;
    struct err *e;
    bool failed;
    char key[128]; /* the key last read */
};

static const struct gguf_kv *find(struct reader *r, const char *suffix)
{
    snprintf(r->key, sizeof r->key, "%s.%s", r->arch, suffix);
    return gguf_find(r->g, r->key);
}

/* What the reader of the file says of a key that is missing or of another type is, to callers, an invalid model. */
static int fail_read(struct reader *r)
{
    r->failed = true;
    if (r->e) r->e->kind = ERR_INVALID;
    return 0;
}

static int fail_range(struct reader *r, double found, double min, double max)
{
    r->failed = true;
    err_set(r->e, ERR_INVALID, "%s: found %.10g, allowed is %.10g to %.10g", r->key, found, min, max);
    return 0;
}

/* Some files give one value a layer. Families with differing layers read the list themselves. */
static bool uniform_item(struct reader *r, const struct gguf_kv *kv, int64_t *out)
{
    int64_t first, item;
    if (kv->n_items == 0 || !gguf_item_i64(kv, &first, 0)) {
        return err_set(r->e, ERR_INVALID, "%s: expected an integer or a list of integers", r->key);
    }
    for (uint64_t i = 1; i < kv->n_items; i++) {
        if (!gguf_item_i64(kv, &item, i) || item != first) {
            return err_set(r->e, ERR_INVALID,
                           "%s: item %llu differs from item 0; layers of different shape are not "
                           "supported for architecture %s",
                           r->key, (unsigned long long)i, r->arch);
        }
    }
    *out = first;
    return true;
}

/* An integer of [min, max]; fallback < 0 means that the key must be there. */
static int read_int(struct reader *r, const char *suffix, int64_t fallback, int64_t min, int64_t max)
{
    if (r->failed) return 0;
    const struct gguf_kv *kv = find(r, suffix);
    int64_t value = fallback;
    uint32_t u = 0;
    bool ok = true;
    if (!kv && fallback < 0) {
        ok = err_set(r->e, ERR_INVALID, "%s is missing; an integer of %lld to %lld is needed", r->key, (long long)min,
                     (long long)max);
    } else if (kv && kv->type == GGUF_ARRAY) {
        ok = uniform_item(r, kv, &value);
    } else if (kv) {
        ok = gguf_get_u32(r->g, &u, r->key, r->e);
        value = u;
    }
    if (!ok) return fail_read(r);
    if (kv && (value < min || value > max)) return fail_range(r, (double)value, (double)min, (double)max);
    return (int)value;
}

/* A finite number of [min, max]; a NaN fallback means that the key must be there. */
static double read_num(struct reader *r, const char *suffix, double fallback, double min, double max)
{
    if (r->failed) return 0;
    const struct gguf_kv *kv = find(r, suffix);
    if (!kv && !isnan(fallback)) return fallback;
    float f = 0;
    if (!gguf_get_f32(r->g, &f, r->key, r->e)) return fail_read(r);
    if (!((double)f >= min && (double)f <= max)) return fail_range(r, (double)f, min, max);
    return (double)f;
}

static void read_scaling_type(struct reader *r, struct rope_params *p)
{
    static const char *const known[] = {"none", "linear", "yarn", "longrope"};
    if (r->failed || !find(r, "rope.scaling.type")) return;
    struct str type;
    if (!gguf_get_str(r->g, &type, r->key, r->e)) {
        fail_read(r);
        return;
    }
    size_t i = 0;
    while (i < 4 && !str_eq(type, str_from(known[i]))) i++;
    if (i == 4) {
        r->failed = true;
        err_set(r->e, ERR_INVALID, "%s: found \"%.*s\", known are none, linear, yarn and longrope", r->key,
                STR_ARG(str_slice(type, 0, 100)));
    }
    if (i == 0) p->freq_scale = 1;
    p->yarn = i == 2;
    p->longrope = i == 3;
}

static void read_rope(struct reader *r, struct hparams *h)
{
    struct rope_params *p = &h->rope;
    p->base = read_num(r, "rope.freq_base", 10000, 1.001, 1e12);
    h->rope_base_local = read_num(r, "rope.freq_base_swa", 10000, 1.001, 1e12);
    p->n_rot = read_int(r, "rope.dimension_count", h->dim_k, 2, h->dim_k);
    if (!r->failed && p->n_rot % 2) {
        r->failed = true;
        err_set(r->e, ERR_INVALID, "%s.rope.dimension_count: found %d, an even number is needed", r->arch, p->n_rot);
    }
    double factor = read_num(r, "rope.scaling.factor", 0, 0, 1e6);
    if (factor == 0) factor = read_num(r, "rope.scale_linear", 0, 0, 1e6); /* the key's old name */
    if (!r->failed && factor != 0 && factor < 1e-3) fail_range(r, factor, 1e-3, 1e6);
    p->freq_scale = factor == 0 ? 1 : 1 / factor;
    p->attn_factor = read_num(r, "rope.scaling.attn_factor", 1, 1e-3, 1e3);
    p->beta_fast = read_num(r, "rope.scaling.yarn_beta_fast", 32, 1e-3, 1e6);
    p->beta_slow = read_num(r, "rope.scaling.yarn_beta_slow", 1, 1e-3, 1e6);
    p->log_multiplier = read_num(r, "rope.scaling.yarn_log_multiplier", 0, 0, 1e3);
    p->n_ctx_orig = read_int(r, "rope.scaling.original_context_length", h->n_ctx_train, 1, INT32_MAX);
    read_scaling_type(r, p);
}

static void read_attention(struct reader *r, struct hparams *h)
{
    h->n_heads = read_int(r, "attention.head_count", -1, 1, MAX_HEADS);
    h->n_kv_heads = read_int(r, "attention.head_count_kv", h->n_heads, 1, MAX_HEADS);
    if (r->failed) return;
    if (h->n_heads % h->n_kv_heads) {
        r->failed = true;
        err_set(r->e, ERR_INVALID, "%s.attention.head_count: found %d, a multiple of head_count_kv (%d) is needed",
                r->arch, h->n_heads, h->n_kv_heads);
        return;
    }
    h->dim_k = read_int(r, "attention.key_length", h->n_embd / h->n_heads, 8, MAX_HEAD_DIM);
    h->dim_v = read_int(r, "attention.value_length", h->n_embd / h->n_heads, 8, MAX_HEAD_DIM);
    if (r->failed) return;
    const int dims[] = {h->dim_k, h->dim_v};
    for (int i = 0; i < 2; i++) {
        if (dims[i] >= 8 && dims[i] % 8 == 0 && dims[i] <= MAX_HEAD_DIM && (int64_t)dims[i] * h->n_heads <= MAX_WIDTH) {
            continue;
        }
        r->failed = true;
        err_set(r->e, ERR_INVALID,
                "%s.attention.%s: found %d (%d heads, embedding_length %d), needed is a multiple of "
                "8 up to %d with at most %d values in all heads",
                r->arch, i ? "value_length" : "key_length", dims[i], h->n_heads, h->n_embd, MAX_HEAD_DIM, MAX_WIDTH);
        return;
    }
    h->norm_eps = (float)read_num(r, "attention.layer_norm_rms_epsilon", (double)NAN, 0, 1);
    h->attn_softcap = (float)read_num(r, "attn_logit_softcapping", 0, 0, 1e6);
    h->final_softcap = (float)read_num(r, "final_logit_softcapping", 0, 0, 1e6);
    h->window = read_int(r, "attention.sliding_window", 0, 0, INT32_MAX);
}

/* The token list decides; files without one (tests, bare weights) fall back to the embedding's rows. */
static void read_vocab(struct reader *r, struct hparams *h)
{
    if (r->failed) return;
    const struct gguf_kv *tokens = gguf_find(r->g, "tokenizer.ggml.tokens");
    const struct gguf_tensor *embd = gguf_tensor_find(r->g, "token_embd.weight");
    uint64_t n = 0;
    if (tokens && tokens->type == GGUF_ARRAY) n = tokens->n_items;
    if (!tokens && embd) n = embd->dims[1];
    if (n < 1 || n > MAX_VOCAB) {
        r->failed = true;
        err_set(r->e, ERR_INVALID, "%s: found %llu tokens, allowed is 1 to %d",
                tokens ? "tokenizer.ggml.tokens" : "token_embd.weight", (unsigned long long)n, MAX_VOCAB);
        return;
    }
    h->n_vocab = (int)n;
}

bool hparams_read(struct hparams *h, const struct gguf *g, const char *arch, struct err *e)
{
    struct reader r = {.g = g, .arch = arch, .e = e};
    *h = (struct hparams){0};
    h->n_layers = read_int(&r, "block_count", -1, 1, MAX_LAYERS);
    h->n_ctx_train = read_int(&r, "context_length", -1, 1, INT32_MAX);
    h->n_embd = read_int(&r, "embedding_length", -1, 8, MAX_WIDTH);
    h->n_ff = read_int(&r, "feed_forward_length", -1, 1, MAX_FF);
    h->n_experts = read_int(&r, "expert_count", 0, 0, MAX_EXPERTS);
    h->n_experts_used = read_int(&r, "expert_used_count", 0, 0, MAX_EXPERTS);
    if (!r.failed && (h->n_experts_used > h->n_experts || (h->n_experts > 0 && h->n_experts_used == 0))) {
        return err_set(e, ERR_INVALID, "%s.expert_used_count: found %d, allowed is 1 to expert_count (%d)", arch,
                       h->n_experts_used, h->n_experts);
    }
    read_attention(&r, h);
    read_rope(&r, h);
    read_vocab(&r, h);
    return !r.failed;
}

bool hparams_window_pattern(bool *local, const struct gguf *g, const char *arch, int n_layers, int period,
                            struct err *e)
{
    struct reader r = {.g = g, .arch = arch, .e = e};
    const struct gguf_kv *kv = find(&r, "attention.sliding_window_pattern");
    if (!kv || kv->type != GGUF_ARRAY) {
        period = read_int(&r, "attention.sliding_window_pattern", period, 0, MAX_LAYERS);
        for (int i = 0; i < n_layers; i++) local[i] = period == 0 || i % period < period - 1;
        return !r.failed;
    }
    for (int i = 0; i < n_layers; i++) {
        int64_t flag;
        if ((uint64_t)i >= kv->n_items || !gguf_item_i64(kv, &flag, (uint64_t)i)) {
            return err_set(e, ERR_INVALID, "%s: found a list of %llu items, a flag for each of %d layers is needed",
                           r.key, (unsigned long long)kv->n_items, n_layers);
        }
        local[i] = flag != 0;
    }
    return true;
}
