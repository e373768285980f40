/* tiny: see tiny.h. */
#include "tiny.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "gguf/gguf_writer.h"
#include "unit.h"

void tiny_key_set(struct tiny *t, struct tiny_key key)
{
    int i = 0;
    while (i < t->n_keys && strcmp(t->keys[i].name, key.name) != 0) i++;
    if (i == t->n_keys) t->n_keys++;
    ck_assert_int_lt(i, TINY_MAX_KEYS);
    t->keys[i] = key;
}

static void set_u32(struct tiny *t, const char *name, uint32_t v)
{
    tiny_key_set(t, (struct tiny_key){.name = name, .kind = TINY_U32, .u = v});
}

void tiny_init(struct tiny *t, const char *arch)
{
    *t = (struct tiny){
        .arch = arch, .layers = 2, .width = 64, .heads = 4, .kv_heads = 2, .dim = 16, .ff = 96, .vocab = 100};
    t->biases = strcmp(arch, "qwen2") == 0;
    if (strcmp(arch, "gemma3") == 0) {
        t->layers = 7;
        t->dim = 32;
        set_u32(t, "attention.sliding_window", 16);
    }
    set_u32(t, "block_count", (uint32_t)t->layers);
    set_u32(t, "context_length", 2048);
    set_u32(t, "embedding_length", (uint32_t)t->width);
    set_u32(t, "feed_forward_length", (uint32_t)t->ff);
    set_u32(t, "attention.head_count", (uint32_t)t->heads);
    set_u32(t, "attention.head_count_kv", (uint32_t)t->kv_heads);
    set_u32(t, "attention.key_length", (uint32_t)t->dim);
    set_u32(t, "attention.value_length", (uint32_t)t->dim);
    tiny_key_set(t, (struct tiny_key){.name = "attention.layer_norm_rms_epsilon", .kind = TINY_F32, .f = 1e-5f});
}

struct writer {
    const struct tiny *t;
    struct rng rng;
    struct buf infos, data;
    uint64_t n_tensors;
};

static float uniform(struct writer *w, float scale)
{
    return (float)(rng_unit(&w->rng) * 2 - 1) * scale;
}

static void write_q8_0(struct writer *w, size_t n, float scale)
{
    for (size_t i = 0; i < n; i++) {
        uint16_t d = quant_f32_to_f16(scale / 127);
        if (i % 32 == 0) put(&w->data, &d, 2);
        buf_append_char(&w->data, (char)(rng_next(&w->rng) % 255 - 127));
    }
}

static void tensor(struct writer *w, const char *name, int n_in, int n_out, int n_more, float mean, float scale)
{
    const struct tiny *t = w->t;
    if (t->skip_tensor && strcmp(t->skip_tensor, name) == 0) return;
    if (t->wrong_tensor && strcmp(t->wrong_tensor, name) == 0) n_out++;
    bool q8 = t->mixed_types && n_in % 32 == 0 && n_out > 1 && (strstr(name, "attn_v") || strstr(name, "down"));
    enum quant_type type = q8 ? QUANT_Q8_0 : QUANT_F32;
    if (t->i32_tensor && strcmp(t->i32_tensor, name) == 0) type = QUANT_I32;
    put_padding(&w->data, 32);
    put_str(&w->infos, name);
    put_u32(&w->infos, n_more > 1 ? 3 : n_out > 1 ? 2 : 1);
    put_u64(&w->infos, (uint64_t)n_in);
    if (n_out > 1 || n_more > 1) put_u64(&w->infos, (uint64_t)n_out);
    if (n_more > 1) put_u64(&w->infos, (uint64_t)n_more);
    put_u32(&w->infos, (uint32_t)type);
    put_u64(&w->infos, w->data.len);
    size_t n = (size_t)n_in * (size_t)n_out * (size_t)n_more;
    if (q8) {
        write_q8_0(w, n, scale);
    } else {
        for (size_t i = 0; i < n; i++) {
            float v = mean + uniform(w, scale);
            put(&w->data, &v, sizeof v);
        }
    }
    w->n_tensors++;
}

static void layer_tensor(struct writer *w, int layer, const char *name, int n_in, int n_out, int n_more, float mean)
{
    char full[80];
    snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    tensor(w, full, n_in, n_out, n_more, mean, n_out > 1 ? 0.25f : 0.3f);
}

static void attention_tensors(struct writer *w, int l)
{
    const struct tiny *t = w->t;
    const int n_q = t->heads * t->dim, n_kv = t->kv_heads * t->dim;
    layer_tensor(w, l, "attn_norm.weight", t->width, 1, 1, 1);
    if (t->fused_qkv) {
        layer_tensor(w, l, "attn_qkv.weight", t->width, n_q + 2 * n_kv, 1, 0);
    } else {
        layer_tensor(w, l, "attn_q.weight", t->width, n_q, 1, 0);
        layer_tensor(w, l, "attn_k.weight", t->width, n_kv, 1, 0);
        layer_tensor(w, l, "attn_v.weight", t->width, n_kv, 1, 0);
    }
    if (t->biases) {
        layer_tensor(w, l, "attn_q.bias", n_q, 1, 1, 0);
        layer_tensor(w, l, "attn_k.bias", n_kv, 1, 1, 0);
        layer_tensor(w, l, "attn_v.bias", n_kv, 1, 1, 0);
    }
    layer_tensor(w, l, "attn_output.weight", n_q, t->width, 1, 0);
}

static void ffn_tensors(struct writer *w, int l)
{
    const struct tiny *t = w->t;
    layer_tensor(w, l, "ffn_norm.weight", t->width, 1, 1, 1);
    if (t->experts) {
        layer_tensor(w, l, "ffn_gate_inp.weight", t->width, t->experts, 1, 0);
        layer_tensor(w, l, "ffn_gate_exps.weight", t->width, t->ff, t->experts, 0);
        layer_tensor(w, l, "ffn_up_exps.weight", t->width, t->ff, t->experts, 0);
        layer_tensor(w, l, "ffn_down_exps.weight", t->ff, t->width, t->experts, 0);
        return;
    }
    layer_tensor(w, l, "ffn_gate.weight", t->width, t->ff, 1, 0);
    layer_tensor(w, l, "ffn_up.weight", t->width, t->ff, 1, 0);
    layer_tensor(w, l, "ffn_down.weight", t->ff, t->width, 1, 0);
}

static void write_tensors(struct writer *w)
{
    const struct tiny *t = w->t;
    tensor(w, "token_embd.weight", t->width, t->vocab, 1, 0, 1);
    tensor(w, "output_norm.weight", t->width, 1, 1, 1, 0.3f);
    if (t->untied) tensor(w, "output.weight", t->width, t->vocab, 1, 0, 1);
    if (t->rope_freqs) tensor(w, "rope_freqs.weight", t->dim / 2, 1, 1, 3, 2);
    for (int l = 0; l < t->layers; l++) {
        attention_tensors(w, l);
        if (strcmp(t->arch, "gemma3") == 0) {
            layer_tensor(w, l, "attn_q_norm.weight", t->dim, 1, 1, 1);
            layer_tensor(w, l, "attn_k_norm.weight", t->dim, 1, 1, 1);
            layer_tensor(w, l, "post_attention_norm.weight", t->width, 1, 1, 1);
            layer_tensor(w, l, "post_ffw_norm.weight", t->width, 1, 1, 1);
        }
        ffn_tensors(w, l);
    }
    if (t->extra_tensor) tensor(w, t->extra_tensor, 8, 1, 1, 0, 1);
}

static void write_key(struct buf *b, const struct tiny *t, const struct tiny_key *k)
{
    char full[100];
    snprintf(full, sizeof full, "%s.%s", t->arch, k->name);
    switch (k->kind) {
    case TINY_NONE: break;
    case TINY_U32: put_kv_u32(b, full, k->u); break;
    case TINY_F32: put_key(b, full, GGUF_F32), put(b, &k->f, 4); break;
    case TINY_STR: put_kv_str(b, full, k->s); break;
    case TINY_FLAGS:
        put_key(b, full, GGUF_ARRAY);
        put_array_head(b, GGUF_BOOL, k->u);
        for (uint32_t i = 0; i < k->u; i++) buf_append_char(b, i % 3 != 2);
        break;
    }
}

static void write_file(struct buf *b, const struct tiny *t)
{
    struct writer w = {.t = t};
    rng_seed(&w.rng, 7);
    buf_init(&w.infos, 1 << 20);
    buf_init(&w.data, 1 << 26);
    write_tensors(&w);
    uint64_t n_kvs = 1 + t->token_list;
    for (int i = 0; i < t->n_keys; i++) n_kvs += t->keys[i].kind != TINY_NONE;
    put_head(b, 3, w.n_tensors, n_kvs);
    put_kv_str(b, "general.architecture", t->arch);
    for (int i = 0; i < t->n_keys; i++) write_key(b, t, &t->keys[i]);
    if (t->token_list) {
        put_key(b, "tokenizer.ggml.tokens", GGUF_ARRAY);
        put_array_head(b, GGUF_STRING, (uint64_t)t->n_tokens);
        for (int i = 0; i < t->n_tokens; i++) put_str(b, "x");
    }
    buf_append(b, buf_str(&w.infos));
    put_padding(b, 32);
    buf_append(b, buf_str(&w.data));
    put_padding(b, 32);
    ck_assert(!b->failed && !w.infos.failed && !w.data.failed);
    buf_deinit(&w.infos);
    buf_deinit(&w.data);
}

struct gguf *tiny_open(const struct tiny *t)
{
    struct buf b;
    buf_init(&b, 1 << 27);
    write_file(&b, t);
    char path[] = "/tmp/tiny-model-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, b.ptr, b.len), (ssize_t)b.len);
    close(fd);
    buf_deinit(&b);
    struct err e = {0};
    struct gguf *g = gguf_open(path, &e);
    unlink(path);
    ck_assert_msg(g != NULL, "%s", e.msg);
    return g;
}

void tiny_kv_init(struct tiny_kv *kv, const struct model *m)
{
    struct model_info info;
    model_info_get(m, &info);
    kv->bytes = 80 * info.page_bytes;
    kv->base = mem_try_map(kv->bytes);
    ck_assert_ptr_nonnull(kv->base);
    for (uint32_t i = 0; i < 40; i++) {
        kv->pages[0][i] = (i * 27 + 5) % 80;
        kv->pages[1][i] = (i * 27 + 5 + 40 * 27) % 80;
    }
}

void tiny_kv_deinit(struct tiny_kv *kv)
{
    mem_unmap(kv->base, kv->bytes);
}
