/* The step: scratch, and the blocks that a layer is made of. Runs on the engine's thread, allocates nothing. Every
 * operation treats each row alone and in the same order of float operations, so a row's result depends neither on the
 * other rows nor on how a sequence was cut into steps.
 *
 * Fork-joins cost a microsecond or two, so element-wise work between the products runs inline until a step has enough
 * rows to share. The last layer does what follows its keys and values only for rows whose logits are wanted. */
#include <limits.h>
#include <string.h>

#include "base/alloc.h"
#include "model/model_internal.h"

enum { FORK_FLOATS = 16384, ALIGN = 64 };

void step_for_rows(const struct model *m, compute_fn *fn, void *ctx, int n_rows, size_t row_floats)
{
    size_t total = (size_t)n_rows * row_floats;
    if (n_rows < 2 || total < FORK_FLOATS) {
        fn(ctx, 0, n_rows, 0);
        return;
    }
    size_t grain = FORK_FLOATS / 4 / (row_floats ? row_floats : 1);
    compute_for(m->c, fn, ctx, n_rows, grain > 1 ? (int)grain : 1);
}

/* ---- scratch ---- */

struct plan {
    size_t bytes;
    bool overflow;
};

static size_t plan_add(struct plan *p, size_t n, size_t width, size_t item)
{
    size_t bytes, at = p->bytes;
    if (!size_mul(&bytes, n, width) || !size_mul(&bytes, bytes, item) || !size_add(&bytes, bytes, ALIGN - 1) ||
        !size_add(&p->bytes, at, bytes / ALIGN * ALIGN)) {
        p->overflow = true;
    }
    return at;
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t out_len(const struct weight *w)
{
    return w ? (size_t)weight_out_len(w) : 0;
}

static void measure_rows(struct scratch *s, const struct model *m)
{
    for (int i = 0; i < m->hp.n_layers; i++) {
        const struct layer *l = &m->layers[i];
        s->qkv_len = larger(s->qkv_len, out_len(l->attn.qkv));
        s->ffn_len = larger(s->ffn_len, out_len(l->ffn.gate_up));
        s->proj_len = larger(s->proj_len, larger(out_len(l->attn.out), out_len(l->ffn.down)));
        s->route_len = larger(s->route_len, out_len(l->ffn.router));
        for (int x = 0; l->ffn.router && x < m->hp.n_experts; x++) {
            s->ffn_len = larger(s->ffn_len, out_len(l->ffn.experts[x].gate_up));
            s->proj_len = larger(s->proj_len, out_len(l->ffn.experts[x].down));
        }
    }
}

bool scratch_plan(struct model *m, struct err *e)
{
    struct scratch *s = &m->scratch;
    const struct hparams *h = &m->hp;
    measure_rows(s, m);
    const size_t t = (size_t)m->max_batch, l = (size_t)m->max_logits, f = sizeof(float), n_embd = (size_t)h->n_embd;
    const size_t moe = s->route_len ? t : 0;
    struct plan p = {0}, inner = {0};
    size_t hidden = plan_add(&p, t, n_embd, f);
    size_t proj = plan_add(&p, t, s->proj_len, f);
    size_t cs = plan_add(&p, t, (size_t)m->n_ropes * (size_t)h->rope.n_rot, f);
    size_t rows = plan_add(&p, t, 1, sizeof(struct scratch_row));
    size_t spans = plan_add(&p, t, 1, sizeof(struct kv_span));
    size_t last_spans = plan_add(&p, t, 1, sizeof(struct kv_span));
    size_t wanted = plan_add(&p, l, 1, sizeof(int));
    size_t members = plan_add(&p, moe, 1, sizeof(int));
    size_t normed = plan_add(&p, moe, n_embd, f);
    size_t picked = plan_add(&p, moe, n_embd, f);
    size_t route = plan_add(&p, moe, s->route_len, f);
    /* What attention needs is dead when the FFN begins: the larger of the two. */
    plan_add(&inner, t, s->qkv_len, f);
    size_t attn = plan_add(&inner, t, (size_t)h->n_heads * (size_t)h->dim_v, f);
    struct plan ffn = {0};
    plan_add(&ffn, t, s->ffn_len, f);
    size_t shared = plan_add(&p, larger(inner.bytes, ffn.bytes), 1, 1);
    if (p.overflow || inner.overflow || ffn.overflow || !(s->map = mem_try_map(p.bytes))) {
        return err_set(e, ERR_TOO_LARGE, "no memory for a step of %d tokens (%zu MiB)", m->max_batch, p.bytes >> 20);
    }
    uint8_t *base = s->map;
    s->map_bytes = p.bytes;
    s->hidden = (float *)(base + hidden);
    s->proj = (float *)(base + proj);
    s->cs = (float *)(base + cs);
    s->rows = (struct scratch_row *)(base + rows);
    s->spans = (struct kv_span *)(base + spans);
    s->last_spans = (struct kv_span *)(base + last_spans);
    s->wanted = (int *)(base + wanted);
    s->members = (int *)(base + members);
    s->normed = (float *)(base + normed);
    s->picked = (float *)(base + picked);
    s->route = (float *)(base + route);
    s->qkv = s->ffn = (float *)(base + shared);
    s->attn = (float *)(base + shared + attn);
    return true;
}

/* ---- blocks ---- */

/* Embeddings and the rotation of every row's position. */
static void begin_rows(void *ctx, int from, int to, int worker)
{
    (void)worker;
    const struct model *m = ctx;
    const struct scratch *s = &m->scratch;
    const size_t n_embd = (size_t)m->hp.n_embd, n_rot = (size_t)m->hp.rope.n_rot;
    const struct quant_format *f = quant_format_get((uint32_t)m->token_embd->type);
    for (int i = from; i < to; i++) {
        const struct scratch_row *row = &s->rows[i];
        float *x = s->hidden + (size_t)i * n_embd;
        if (row->embedding) {
            memcpy(x, row->embedding, n_embd * sizeof *x);
        } else {
            f->unpack(x, (const uint8_t *)m->token_embd->data + row->token * m->embd_row_bytes, n_embd);
            if (m->embd_scale != 1) m->k->scale(x, m->embd_scale, m->hp.n_embd);
        }
        for (int r = 0; r < m->n_ropes; r++) {
            rope_set_fill(&m->ropes[r], s->cs + ((size_t)r * (size_t)m->max_batch + (size_t)i) * n_rot, row->pos);
        }
    }
}

struct residual { /* a block's result in proj that is still to be added to hidden */
    bool pending;
    const float *bias, *post_norm;
};

struct block_ctx {
    const struct model *m;
    const struct attention_block *attn;
    bool pending;
    const float *bias, *post_norm; /* of the previous block's result */
    const float *norm;
    const struct ffn_block *ffn;
    size_t stride;
};

static void head_norms(const struct model *m, float *x, const float *norm, int n_heads)
{
    if (!norm) return;
    for (int i = 0; i < n_heads; i++) {
        float *head = x + (size_t)i * (size_t)m->hp.dim_k;
        m->k->rmsnorm(head, head, norm, m->hp.dim_k, m->hp.norm_eps);
    }
}

static void prepare_qkv(void *ctx, int from, int to, int worker)
{
    (void)worker;
    const struct block_ctx *b = ctx;
    const struct model *m = b->m;
    const struct hparams *h = &m->hp;
    const struct attention_block *a = b->attn;
    for (int i = from; i < to; i++) {
        float *row = m->scratch.qkv + (size_t)i * b->stride;
        float *q = row + a->q_offset, *k = row + a->k_offset;
        if (a->qkv_bias) m->k->add(row, a->qkv_bias, weight_out_len(a->qkv));
        head_norms(m, q, a->q_norm, h->n_heads);
        head_norms(m, k, a->k_norm, h->n_kv_heads);
        if (a->rope < 0) continue;
        const float *cs = m->scratch.cs + ((size_t)a->rope * (size_t)m->max_batch + (size_t)i) * (size_t)h->rope.n_rot;
        m->k->rope(q, cs, h->n_heads, h->dim_k, h->rope.n_rot, m->neox);
        m->k->rope(k, cs, h->n_kv_heads, h->dim_k, h->rope.n_rot, m->neox);
    }
}

/* hidden += post_norm(proj + bias) */
static void residual_row(const struct block_ctx *b, int i)
{
    const struct model *m = b->m;
    const int n = m->hp.n_embd;
    float *y = m->scratch.proj + (size_t)i * m->scratch.proj_len;
    if (b->bias) m->k->add(y, b->bias, n);
    if (b->post_norm) m->k->rmsnorm(y, y, b->post_norm, n, m->hp.norm_eps);
    m->k->add(m->scratch.hidden + (size_t)i * (size_t)n, y, n);
}

static void add_residual(void *ctx, int from, int to, int worker)
{
    (void)worker;
    for (int i = from; i < to; i++) residual_row(ctx, i);
}

/* Now, where nothing follows that could do it on the way. */
static void finish_block(const struct model *m, const struct step *s, const struct residual *r)
{
    if (!r->pending) return;
    struct block_ctx b = {.m = m, .bias = r->bias, .post_norm = r->post_norm};
    step_for_rows(m, add_residual, &b, s->n_rows, (size_t)m->hp.n_embd);
}

/* The input of a block: the previous block's result is added first, if it is not yet. */
static const float *block_row(void *ctx, float *row, int i)
{
    const struct block_ctx *b = ctx;
    const struct hparams *h = &b->m->hp;
    if (b->pending) residual_row(b, i);
    b->m->k->rmsnorm(row, b->m->scratch.hidden + (size_t)i * (size_t)h->n_embd, b->norm, h->n_embd, h->norm_eps);
    return row;
}

/* Keeps only the rows that want logits, in order. */
static void gather_wanted(const struct model *m, struct step *s)
{
    const struct scratch *x = &m->scratch;
    const size_t n_embd = (size_t)m->hp.n_embd, n_attn = (size_t)m->hp.n_heads * (size_t)m->hp.dim_v;
    for (int i = 0; i < s->n_wanted; i++) {
        size_t to = (size_t)i, from = (size_t)x->wanted[i];
        if (to == from) continue;
        memcpy(x->hidden + to * n_embd, x->hidden + from * n_embd, n_embd * sizeof(float));
        memcpy(x->attn + to * n_attn, x->attn + from * n_attn, n_attn * sizeof(float));
    }
    s->n_rows = s->n_wanted;
}

static void run_attention(const struct model *m, struct step *s, const struct layer *layer, struct residual *r,
                          bool last)
{
    const struct hparams *h = &m->hp;
    const struct scratch *x = &m->scratch;
    const struct attention_block *a = &layer->attn;
    const size_t stride = x->qkv_len, n_attn = (size_t)h->n_heads * (size_t)h->dim_v;
    struct block_ctx b = {.m = m,
                          .attn = a,
                          .pending = r->pending,
                          .bias = r->bias,
                          .post_norm = r->post_norm,
                          .norm = a->norm,
                          .stride = stride};
    compute_matmul_rows(m->c, x->qkv, stride, a->qkv, block_row, &b, s->n_rows);
    step_for_rows(m, prepare_qkv, &b, s->n_rows, stride);

    const struct kv_view view = {s->kv_base + layer->kv_offset, m->page_bytes, m->head_bytes};
    const struct attn_params p = {.n_heads = h->n_heads,
                                  .n_kv_heads = h->n_kv_heads,
                                  .kv = m->kv,
                                  .window = a->window,
                                  .scale = m->query_scale,
                                  .softcap = h->attn_softcap};
    compute_kv_store(m->c, &view, &p, x->qkv + a->k_offset, stride, x->qkv + a->v_offset, stride, x->spans, s->n_spans);
    if (last && s->n_wanted == 0) {
        s->n_rows = 0;
        return;
    }
    compute_attention(m->c, x->attn, n_attn, &view, &p, x->qkv + a->q_offset, stride, last ? x->last_spans : x->spans,
                      last ? s->n_last_spans : s->n_spans);
    if (last) gather_wanted(m, s);
    compute_matmul(m->c, x->proj, x->proj_len, a->out, x->attn, n_attn, s->n_rows);
    *r = (struct residual){true, a->out_bias, a->post_norm};
}

static const float *activated_row(void *ctx, float *row, int i)
{
    const struct block_ctx *b = ctx;
    const struct kernels *k = b->m->k;
    const struct ffn_block *f = b->ffn;
    float *x = b->m->scratch.ffn + (size_t)i * b->stride;
    if (f->gate_up_bias) k->add(x, f->gate_up_bias, weight_out_len(f->gate_up));
    (b->m->gelu ? k->gelu_mul : k->silu_mul)(row, x + f->gate_offset, x + f->up_offset, b->m->hp.n_ff);
    return row;
}

static void run_ffn(const struct model *m, const struct step *s, const struct ffn_block *f, struct residual *r)
{
    const struct scratch *x = &m->scratch;
    struct block_ctx b = {.m = m,
                          .pending = r->pending,
                          .bias = r->bias,
                          .post_norm = r->post_norm,
                          .norm = f->norm,
                          .ffn = f,
                          .stride = x->ffn_len};
    compute_matmul_rows(m->c, x->ffn, x->ffn_len, f->gate_up, block_row, &b, s->n_rows);
    compute_matmul_rows(m->c, x->proj, x->proj_len, f->down, activated_row, &b, s->n_rows);
    *r = (struct residual){true, f->down_bias, f->post_norm};
}

/* Padding behind the vocabulary must not reach the caller's rows, so odd vocabularies go through scratch. */
static void run_output(const struct model *m, const struct step *s)
{
    const size_t n_vocab = (size_t)m->hp.n_vocab;
    compute_norm_matmul_fine(m->c, s->logits, n_vocab, m->output, m->scratch.hidden, (size_t)m->hp.n_embd,
                             m->output_norm, m->hp.norm_eps, s->n_rows);
    for (int i = 0; i < s->n_rows; i++) {
        float *row = s->logits + (size_t)i * n_vocab;
        if (m->output_bias) m->k->add(row, m->output_bias, m->hp.n_vocab);
        if (m->hp.final_softcap > 0) m->k->softcap(row, m->hp.final_softcap, m->hp.n_vocab);
    }
}

bool dense_forward(struct model *m, struct step *s, struct err *e)
{
    struct residual r = {0};
    step_for_rows(m, begin_rows, m, s->n_rows, (size_t)m->hp.n_embd * 4);
    for (int i = 0; i < m->hp.n_layers; i++) {
        if (s->stop && __atomic_load_n(s->stop, __ATOMIC_RELAXED)) {
            return err_set(e, ERR_CANCELLED, "step cancelled before layer %d of %d", i, m->hp.n_layers);
        }
        const struct layer *layer = &m->layers[i];
        run_attention(m, s, layer, &r, i == m->hp.n_layers - 1);
        if (s->n_rows == 0) return true;
        if (layer->ffn.router) {
            finish_block(m, s, &r);
            r.pending = false;
            moe_run(m, s, &layer->ffn);
        } else {
            run_ffn(m, s, &layer->ffn, &r);
        }
    }
    finish_block(m, s, &r);
    run_output(m, s);
    return true;
}
