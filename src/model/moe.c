/* Mixture of experts after attention: softmax over all experts' router logits, the best n_experts_used of a row with
 * their weights renormalised (Mixtral). Rows are gathered by expert, so an expert's weights are read once a step; a row
 * adds its experts' results in order of expert number, whatever else is in the batch. Engine's thread. */
#include <math.h>
#include <string.h>

#include "model/model_internal.h"

/* What the renormalising divides by at least: the smallest normal f16, as in the reference implementations. */
static const float weight_floor = 6.103515625e-5f;

struct moe_ctx {
    const struct model *m;
    const struct ffn_block *f;
    const struct expert *x;
    int number; /* of the expert */
};

/* route[n_experts]: logits in; weights of the chosen, 0 for the rest, out. Ties go to the lower number. */
static void choose(float *route, int n_experts, int n_used)
{
    float max = route[0], total = 0;
    for (int i = 1; i < n_experts; i++) max = fmaxf(max, route[i]);
    bool chosen[MAX_EXPERTS] = {false};
    for (int n = 0; n < n_used; n++) {
        int best = -1;
        for (int i = 0; i < n_experts; i++) {
            if (!chosen[i] && (best < 0 || route[i] > route[best])) best = i;
        }
        chosen[best] = true;
    }
    float chosen_total = 0;
    for (int i = 0; i < n_experts; i++) {
        route[i] = expf(route[i] - max);
        total += route[i];
    }
    for (int i = 0; i < n_experts; i++) {
        route[i] = chosen[i] ? route[i] / total : 0;
        chosen_total += route[i];
    }
    for (int i = 0; i < n_experts; i++) route[i] /= fmaxf(chosen_total, weight_floor);
}

/* normed = norm(hidden) */
static void norm_rows(void *ctx, int from, int to, int worker)
{
    (void)worker;
    const struct moe_ctx *c = ctx;
    const struct model *m = c->m;
    const size_t n = (size_t)m->hp.n_embd;
    for (int i = from; i < to; i++) {
        m->k->rmsnorm(m->scratch.normed + (size_t)i * n, m->scratch.hidden + (size_t)i * n, c->f->norm, m->hp.n_embd,
                      m->hp.norm_eps);
    }
}

static void activate(void *ctx, int from, int to, int worker)
{
    (void)worker;
    const struct moe_ctx *c = ctx;
    const struct model *m = c->m;
    for (int i = from; i < to; i++) {
        float *row = m->scratch.ffn + (size_t)i * m->scratch.ffn_len;
        (m->gelu ? m->k->gelu_mul : m->k->silu_mul)(row, row, row + c->x->up_offset, m->hp.n_ff);
    }
}

/* hidden[member] += weight * result */
static void scatter(void *ctx, int from, int to, int worker)
{
    (void)worker;
    const struct moe_ctx *c = ctx;
    const struct model *m = c->m;
    const struct scratch *s = &m->scratch;
    for (int i = from; i < to; i++) {
        size_t row = (size_t)s->members[i];
        float *y = s->proj + (size_t)i * s->proj_len;
        m->k->scale(y, s->route[row * s->route_len + (size_t)c->number], m->hp.n_embd);
        m->k->add(s->hidden + row * (size_t)m->hp.n_embd, y, m->hp.n_embd);
    }
}

static int gather_members(const struct model *m, int n_rows, int number)
{
    const struct scratch *s = &m->scratch;
    const size_t n = (size_t)m->hp.n_embd;
    int n_members = 0;
    for (int i = 0; i < n_rows; i++) {
        if (s->route[(size_t)i * s->route_len + (size_t)number] <= 0) continue;
        memcpy(s->picked + (size_t)n_members * n, s->normed + (size_t)i * n, n * sizeof(float));
        s->members[n_members++] = i;
    }
    return n_members;
}

void moe_run(struct model *m, struct step *s, const struct ffn_block *f)
{
    const struct scratch *x = &m->scratch;
    const size_t n_embd = (size_t)m->hp.n_embd;
    struct moe_ctx c = {.m = m, .f = f};
    step_for_rows(m, norm_rows, &c, s->n_rows, n_embd);
    compute_matmul(m->c, x->route, x->route_len, f->router, x->normed, n_embd, s->n_rows);
    for (int i = 0; i < s->n_rows; i++) {
        choose(x->route + (size_t)i * x->route_len, m->hp.n_experts, m->hp.n_experts_used);
    }
    for (int i = 0; i < m->hp.n_experts; i++) {
        int n = gather_members(m, s->n_rows, i);
        if (n == 0) continue;
        c.x = &f->experts[i];
        c.number = i;
        compute_matmul(m->c, x->ffn, x->ffn_len, c.x->gate_up, x->picked, n_embd, n);
        step_for_rows(m, activate, &c, n, (size_t)m->hp.n_ff * 4);
        compute_matmul(m->c, x->proj, x->proj_len, c.x->down, x->ffn, x->ffn_len, n);
        step_for_rows(m, scatter, &c, n, n_embd);
    }
}
