/* Parts kit: finds a family's tensors in the file, checks their shapes and types, and turns them into packed products
 * and float vectors. Runs at open only. The first error sticks to the loader; later parts do nothing, so that families
 * read as a list of what they need and ask once. */
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "model/model_internal.h"

bool loader_fail(struct loader *l, enum err_kind kind, const char *fmt, ...)
{
    if (l->failed) return false;
    char text[900];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    l->failed = true;
    return err_set(l->e, kind, "%s", text);
}

static void *loader_alloc(struct loader *l, size_t size)
{
    void *p = arena_try_alloc(&l->m->arena, size);
    if (!p) loader_fail(l, ERR_TOO_LARGE, "no memory for %zu bytes of the model", size);
    return p;
}

static void full_name(char *out, size_t size, const struct loader *l, const char *name)
{
    if (l->layer >= 0) {
        snprintf(out, size, "blk.%d.%s", l->layer, name);
    } else {
        snprintf(out, size, "%s", name);
    }
}

static void remember(struct loader *l, const struct gguf_tensor *t)
{
    if (l->pack) return;
    if (l->n_bound == l->max_bound) {
        size_t max = l->max_bound ? l->max_bound * 2 : 256;
        const struct gguf_tensor **grown = mem_try_realloc(l->bound, max * sizeof *grown);
        if (!grown) {
            loader_fail(l, ERR_TOO_LARGE, "no memory for a list of %zu tensors", max);
            return;
        }
        l->bound = grown;
        l->max_bound = max;
    }
    l->bound[l->n_bound++] = t;
}

const struct gguf_tensor *part_tensor(struct loader *l, const char *name, enum part_need need, int n_in, int n_out,
                                      int n_more)
{
    if (l->failed) return NULL;
    char full[96];
    full_name(full, sizeof full, l, name);
    const struct gguf_tensor *t = gguf_tensor_find(l->m->g, full);
    if (!t) {
        if (need == PART_REQUIRED) {
            loader_fail(l, ERR_INVALID, "tensor %s is missing; [%d, %d, %d] is needed", full, n_in, n_out, n_more);
        }
        return NULL;
    }
    const uint64_t want[GGUF_MAX_DIMS] = {(uint64_t)n_in, (uint64_t)n_out, (uint64_t)n_more, 1};
    for (int i = 0; i < GGUF_MAX_DIMS; i++) {
        if (t->dims[i] == want[i]) continue;
        loader_fail(l, ERR_INVALID, "tensor %s: found shape [%llu, %llu, %llu, %llu], needed is [%d, %d, %d, 1]", full,
                    (unsigned long long)t->dims[0], (unsigned long long)t->dims[1], (unsigned long long)t->dims[2],
                    (unsigned long long)t->dims[3], n_in, n_out, n_more);
        return NULL;
    }
    remember(l, t);
    return l->failed ? NULL : t;
}

/* dst == NULL: only checks that the values can be read. */
static void unpack_vector(struct loader *l, float *dst, const struct gguf_tensor *t)
{
    const struct quant_format *f = quant_format_get((uint32_t)t->type);
    if (!f || !f->unpack || t->dims[0] % f->block_len) {
        loader_fail(l, ERR_INVALID, "tensor %.*s: found type %s, a float type is needed", STR_ARG(t->name),
                    f ? f->name : "unknown");
        return;
    }
    if (dst) f->unpack(dst, t->data, (size_t)t->dims[0]);
}

const float *part_floats(struct loader *l, const char *name, enum part_need need, int n)
{
    const struct gguf_tensor *t = part_tensor(l, name, need, n, 1, 1);
    if (!t) return NULL;
    float *out = l->pack ? loader_alloc(l, (size_t)n * sizeof *out) : NULL;
    unpack_vector(l, out, t);
    return l->failed ? NULL : out;
}

static bool type_has_kernel(struct loader *l, const struct gguf_tensor *t, int n_in)
{
    const struct quant_format *f = quant_format_get((uint32_t)t->type);
    const struct kernels *k = l->m->k;
    if (!f || !f->unpack || (k && !k->matmul[t->type].matmul)) {
        return loader_fail(l, ERR_INVALID, "tensor %.*s: no matrix product for type %s (%u)", STR_ARG(t->name),
                           f ? f->name : "unknown", (unsigned)t->type);
    }
    int multiple = k ? k->matmul[t->type].k_multiple : 1;
    if (multiple > 1 && n_in % multiple) {
        return loader_fail(l, ERR_INVALID, "tensor %.*s: found rows of %d, a multiple of %d is needed for type %s",
                           STR_ARG(t->name), n_in, multiple, f->name);
    }
    return true;
}

struct weight *part_rows(struct loader *l, const struct gguf_tensor *const *tensors, int n_tensors, int n_in,
                         uint64_t row_from, int n_rows)
{
    struct weight_part parts[3];
    for (int i = 0; i < n_tensors && !l->failed; i++) {
        const struct gguf_tensor *t = tensors[i];
        size_t row_bytes;
        if (!t || !type_has_kernel(l, t, n_in)) break;
        uint64_t rows = n_rows ? (uint64_t)n_rows : t->dims[1];
        if (!quant_row_bytes(&row_bytes, t->type, (size_t)n_in) || rows > INT_MAX) {
            loader_fail(l, ERR_INVALID, "tensor %.*s: found rows of %d, type %s cannot hold them", STR_ARG(t->name),
                        n_in, quant_format_get((uint32_t)t->type)->name);
            break;
        }
        parts[i] = (struct weight_part){t->type, (const uint8_t *)t->data + row_from * row_bytes, (int)rows};
    }
    if (l->failed || !l->pack) return NULL;
    struct weight *w = weight_set_add(l->m->weights, l->m->c, parts, n_tensors, n_in, l->e);
    if (w) return w;
    l->failed = true;
    err_prefix(l->e, "tensor %.*s: ", STR_ARG(tensors[0]->name));
    return NULL;
}

struct weight *part_weight(struct loader *l, const struct gguf_tensor *const *tensors, int n_tensors, int n_in)
{
    return part_rows(l, tensors, n_tensors, n_in, 0, 0);
}

struct weight *part_matrix(struct loader *l, const char *name, int n_in, int n_out)
{
    const struct gguf_tensor *t = part_tensor(l, name, PART_REQUIRED, n_in, n_out, 1);
    return t ? part_weight(l, &t, 1, n_in) : NULL;
}

struct bias { /* one optional vector and where it belongs in a row of a product's output */
    const char *name;
    int offset, n;
};

/* The biases of a fused product as one vector over its output row; NULL when the file has none of them. */
static const float *join_biases(struct loader *l, const struct weight *w, const struct bias *biases, int n)
{
    float *row = NULL;
    for (int i = 0; i < n; i++) {
        const struct gguf_tensor *t = part_tensor(l, biases[i].name, PART_OPTIONAL, biases[i].n, 1, 1);
        if (!t) continue;
        if (l->pack && !row) {
            size_t bytes = (size_t)weight_out_len(w) * sizeof *row;
            row = loader_alloc(l, bytes);
            if (!row) return NULL;
            memset(row, 0, bytes);
        }
        unpack_vector(l, row ? row + biases[i].offset : NULL, t);
    }
    return row;
}

void part_attention(struct loader *l, struct attention_block *a)
{
    const struct hparams *h = &l->m->hp;
    const int n_q = h->n_heads * h->dim_k, n_k = h->n_kv_heads * h->dim_k, n_v = h->n_kv_heads * h->dim_v;
    a->norm = part_floats(l, "attn_norm.weight", PART_REQUIRED, h->n_embd);
    const struct gguf_tensor *t[3];
    int n_parts = 1;
    t[0] = part_tensor(l, "attn_qkv.weight", PART_OPTIONAL, h->n_embd, n_q + n_k + n_v, 1);
    if (!t[0]) {
        t[0] = part_tensor(l, "attn_q.weight", PART_REQUIRED, h->n_embd, n_q, 1);
        t[1] = part_tensor(l, "attn_k.weight", PART_REQUIRED, h->n_embd, n_k, 1);
        t[2] = part_tensor(l, "attn_v.weight", PART_REQUIRED, h->n_embd, n_v, 1);
        n_parts = 3;
    }
    if (l->failed) return;
    a->qkv = part_weight(l, t, n_parts, h->n_embd);
    if (a->qkv) {
        a->q_offset = weight_part_offset(a->qkv, 0);
        a->k_offset = n_parts == 3 ? weight_part_offset(a->qkv, 1) : a->q_offset + n_q;
        a->v_offset = n_parts == 3 ? weight_part_offset(a->qkv, 2) : a->k_offset + n_k;
    }
    const struct bias split[] = {
        {"attn_q.bias", a->q_offset, n_q}, {"attn_k.bias", a->k_offset, n_k}, {"attn_v.bias", a->v_offset, n_v}};
    const struct bias fused = {"attn_qkv.bias", a->q_offset, n_q + n_k + n_v};
    if (n_parts == 1) a->qkv_bias = join_biases(l, a->qkv, &fused, 1);
    if (!a->qkv_bias) a->qkv_bias = join_biases(l, a->qkv, split, 3);
    a->out = part_matrix(l, "attn_output.weight", h->n_heads * h->dim_v, h->n_embd);
    a->out_bias = part_floats(l, "attn_output.bias", PART_OPTIONAL, h->n_embd);
}

void part_ffn(struct loader *l, struct ffn_block *f)
{
    const struct hparams *h = &l->m->hp;
    f->norm = part_floats(l, "ffn_norm.weight", PART_REQUIRED, h->n_embd);
    const struct gguf_tensor *t[2];
    t[0] = part_tensor(l, "ffn_gate.weight", PART_REQUIRED, h->n_embd, h->n_ff, 1);
    t[1] = part_tensor(l, "ffn_up.weight", PART_REQUIRED, h->n_embd, h->n_ff, 1);
    if (l->failed) return;
    f->gate_up = part_weight(l, t, 2, h->n_embd);
    if (f->gate_up) {
        f->gate_offset = weight_part_offset(f->gate_up, 0);
        f->up_offset = weight_part_offset(f->gate_up, 1);
    }
    const struct bias biases[] = {{"ffn_gate.bias", f->gate_offset, h->n_ff}, {"ffn_up.bias", f->up_offset, h->n_ff}};
    f->gate_up_bias = join_biases(l, f->gate_up, biases, 2);
    f->down = part_matrix(l, "ffn_down.weight", h->n_ff, h->n_embd);
    f->down_bias = part_floats(l, "ffn_down.bias", PART_OPTIONAL, h->n_embd);
}

void part_moe(struct loader *l, struct ffn_block *f)
{
    const struct hparams *h = &l->m->hp;
    f->norm = part_floats(l, "ffn_norm.weight", PART_REQUIRED, h->n_embd);
    f->router = part_matrix(l, "ffn_gate_inp.weight", h->n_embd, h->n_experts);
    const struct gguf_tensor *in[2], *down;
    in[0] = part_tensor(l, "ffn_gate_exps.weight", PART_REQUIRED, h->n_embd, h->n_ff, h->n_experts);
    in[1] = part_tensor(l, "ffn_up_exps.weight", PART_REQUIRED, h->n_embd, h->n_ff, h->n_experts);
    down = part_tensor(l, "ffn_down_exps.weight", PART_REQUIRED, h->n_ff, h->n_embd, h->n_experts);
    if (l->failed) return;
    size_t bytes = (size_t)h->n_experts * sizeof *f->experts;
    if (l->pack) {
        f->experts = loader_alloc(l, bytes);
        if (!f->experts) return;
        memset(f->experts, 0, bytes);
    }
    for (int i = 0; i < h->n_experts && !l->failed; i++) {
        struct expert x = {0};
        x.gate_up = part_rows(l, in, 2, h->n_embd, (uint64_t)i * (uint64_t)h->n_ff, h->n_ff);
        x.down = part_rows(l, &down, 1, h->n_ff, (uint64_t)i * (uint64_t)h->n_embd, h->n_embd);
        if (x.gate_up) x.up_offset = weight_part_offset(x.gate_up, 1);
        if (f->experts) f->experts[i] = x;
    }
}

void part_ends(struct loader *l)
{
    struct model *m = l->m;
    const struct hparams *h = &m->hp;
    l->layer = -1;
    m->token_embd = part_tensor(l, "token_embd.weight", PART_REQUIRED, h->n_embd, h->n_vocab, 1);
    if (l->failed) return;
    const struct quant_format *f = quant_format_get((uint32_t)m->token_embd->type);
    if (!f || !f->unpack || !quant_row_bytes(&m->embd_row_bytes, m->token_embd->type, (size_t)h->n_embd)) {
        loader_fail(l, ERR_INVALID, "tensor token_embd.weight: found type %s, which has no rows of %d values",
                    f ? f->name : "unknown", h->n_embd);
        return;
    }
    m->output_norm = part_floats(l, "output_norm.weight", PART_REQUIRED, h->n_embd);
    const struct gguf_tensor *output = part_tensor(l, "output.weight", PART_OPTIONAL, h->n_embd, h->n_vocab, 1);
    if (!output) output = m->token_embd;
    m->output = part_weight(l, &output, 1, h->n_embd);
    m->output_bias = part_floats(l, "output.bias", PART_OPTIONAL, h->n_vocab);
}

bool loader_all_bound(struct loader *l)
{
    size_t n = gguf_tensor_count(l->m->g);
    if (n == l->n_bound) return true;
    for (size_t i = 0; i < n; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(l->m->g, i);
        size_t j = 0;
        while (j < l->n_bound && l->bound[j] != t) j++;
        if (j < l->n_bound) continue;
        return loader_fail(l, ERR_INVALID,
                           "tensor %.*s is none that architecture %s uses; a result without it would be "
                           "wrong",
                           STR_ARG(str_slice(t->name, 0, 100)), l->m->family->arch);
    }
    return true;
}

void rope_set_load(struct loader *l, int index, const struct rope_params *p, const float *factors)
{
    if (l->failed || !l->pack) return;
    for (int i = 0; factors && i < p->n_rot / 2; i++) {
        if (factors[i] > 1e-6f && factors[i] < 1e6f) continue;
        loader_fail(l, ERR_INVALID, "RoPE factor tensor: value %d is %g, allowed is 1e-6 to 1e6", i,
                    (double)factors[i]);
        return;
    }
    if (!rope_set_init(&l->m->ropes[index], &l->m->arena, p, factors)) {
        loader_fail(l, ERR_TOO_LARGE, "no memory for %d RoPE frequencies", p->n_rot / 2);
        return;
    }
    if (l->m->n_ropes <= index) l->m->n_ropes = index + 1;
}
