/* matmul: inputs are quantised once per format that the weights need (fused with the norm before it), then the panels
 * of all products are one list of items that the team claims. */
#include <string.h>

#include "compute/compute_internal.h"

#define TARGETS_MAX 64

struct norm {
    const float *weight;
    float eps;
};

struct matmul_job {
    struct compute *c;
    const struct matmul_target *targets;
    struct matmul_target only; /* copy of the target where there is one: targets may be on a stack */
    int n_targets;
    const float *x;
    size_t x_stride;
    int m, k;
    const struct norm *norm; /* NULL = none */
    compute_row_fn *get;     /* instead of x, or NULL */
    void *get_ctx;
    bool formats[ACT_FORMAT_MAX];
    int panels_an_item;
    bool apart; /* workers keep results apart: others may do their items again */
};

/* ---- inputs ---- */

static void quantize_tokens(void *ctx, int from, int to, int worker)
{
    struct matmul_job *job = ctx;
    const struct kernels *k = &job->c->kernels;
    float *row = scratch_get(&job->c->workers[worker].row, (size_t)job->k * sizeof *row);
    for (int t = from; t < to; t++) {
        const float *x = job->get ? job->get(job->get_ctx, row, t) : job->x + (size_t)t * job->x_stride;
        if (job->norm) {
            k->rmsnorm(row, x, job->norm->weight, job->k, job->norm->eps);
            x = row;
        }
        for (int f = 0; f < ACT_FORMAT_MAX; f++)
            if (job->formats[f]) k->act[f].quantize(job->c->acts[f].ptr, x, 0, job->m, job->k, t, t + 1);
    }
}

static void inputs_prepare(struct matmul_job *job)
{
    const struct kernels *k = &job->c->kernels;
    for (int i = 0; i < job->n_targets; i++) {
        const struct weight *w = job->targets[i].w;
        for (int s = 0; s < w->n_segments; s++) job->formats[k->matmul[w->segments[s].type].act] = true;
    }
    for (int f = 0; f < ACT_FORMAT_MAX; f++)
        if (job->formats[f]) shared_scratch_get(job->c, &job->c->acts[f], k->act[f].bytes(job->m, job->k));
    /* Below some ten thousand values a fork costs more than it saves. */
    int grain = 1 + 8192 / (job->k + 1);
    compute_for(job->c, quantize_tokens, job, job->m, grain);
}

/* ---- products ---- */

static int items_of(const struct matmul_job *job, const struct weight_segment *s)
{
    return (s->n_panels + job->panels_an_item - 1) / job->panels_an_item;
}

/* Panels of one segment that items [from, to) of the list stand for. */
struct panel_range {
    const struct matmul_target *target;
    const struct weight_segment *segment;
    int from, to;
};

/* The next range of items [from, to); `at` (0 first) keeps the place. False: no more. */
static bool range_next(struct panel_range *r, int *at, const struct matmul_job *job, int from, int to)
{
    int first = 0, index = 0; /* item number of the segment's first; number of the segment */
    for (int i = 0; i < job->n_targets; i++) {
        const struct matmul_target *target = job->n_targets == 1 ? &job->only : &job->targets[i];
        for (int n = 0; n < target->w->n_segments && first < to; n++, index++) {
            const struct weight_segment *s = &target->w->segments[n];
            int items = items_of(job, s), a = from > first ? from - first : 0,
                b = to - first < items ? to - first : items;
            first += items;
            if (a >= b || index < *at) continue;
            int p_to = b * job->panels_an_item;
            *r = (struct panel_range){target, s, a * job->panels_an_item, p_to < s->n_panels ? p_to : s->n_panels};
            *at = index + 1;
            return true;
        }
    }
    return false;
}

static void range_run(const struct matmul_job *job, const struct panel_range *r, float *y, size_t y_stride, int worker)
{
    const struct weight_segment *s = r->segment;
    const struct matmul_kernel *kernel = &job->c->kernels.matmul[s->type];
    kernel->matmul(y, y_stride, s->panels, job->c->acts[kernel->act].ptr, job->m, job->k, r->from, r->to,
                   job->c->workers[worker].kernel.ptr);
}

/* Runs items [from, to) of the list; neighbours in one segment are one call. */
static void run_items(void *ctx, int from, int to, int worker)
{
    const struct matmul_job *job = ctx;
    struct panel_range r;
    for (int at = 0; range_next(&r, &at, job, from, to);)
        range_run(job, &r, r.target->y + r.segment->out, r.target->y_stride, worker);
}

/* ---- products that may be done twice ---- */

/* Few tokens: always. Many: to copy their results costs workers up to a fifth of their time, which pays only while
 * other programs take their cores, and only items whose results stay in L2. */
#define FEW_TOKENS 8
#define RESULT_BYTES ((size_t)128 << 10) /* at most, of a worker */

static size_t panel_result_bytes(const struct matmul_job *job)
{
    return (size_t)job->m * (size_t)job->c->kernels.panel_rows * sizeof(float);
}

static bool keeps_apart(const struct matmul_job *job)
{
    if (!job->c->in_step || job->n_targets != 1) return false;
    return job->m <= FEW_TOKENS || (panel_result_bytes(job) <= RESULT_BYTES && team_is_busy(job->c->team));
}

/* Where a worker keeps the result of a range. An item lies in one segment. */
static float *range_result(const struct matmul_job *job, const struct panel_range *r, size_t *stride, int worker)
{
    size_t width = (size_t)(r->to - r->from) * (size_t)job->c->kernels.panel_rows;
    *stride = width;
    return scratch_get(&job->c->workers[worker].result, (size_t)job->m * width * sizeof(float));
}

static void run_item_apart(void *ctx, int from, int to, int worker)
{
    const struct matmul_job *job = ctx;
    if (worker == 0) {
        run_items(ctx, from, to, worker);
        return;
    }
    struct panel_range r;
    int at = 0;
    size_t stride;
    if (!range_next(&r, &at, job, from, to)) return;
    float *result = range_result(job, &r, &stride, worker);
    struct weight_segment part = *r.segment; /* the range as a segment of its own */
    part.panels += (size_t)r.from * part.panel_bytes;
    struct panel_range all = {r.target, &part, 0, r.to - r.from};
    range_run(job, &all, result, stride, worker);
}

static void commit_item(void *ctx, int from, int to, int worker)
{
    const struct matmul_job *job = ctx;
    struct panel_range r;
    int at = 0;
    size_t stride;
    if (!range_next(&r, &at, job, from, to)) return;
    const float *result = range_result(job, &r, &stride, worker);
    float *y = r.target->y + r.segment->out + (size_t)r.from * (size_t)job->c->kernels.panel_rows;
    for (int t = 0; t < job->m; t++)
        memcpy(y + (size_t)t * r.target->y_stride, result + (size_t)t * stride, stride * sizeof *y);
}

#define ITEM_ROWS_MAX 256
#define ITEMS_A_THREAD 8

/* An item is a few panels: enough work that claiming is cheap, few enough that no thread waits long for another. Many
 * tokens do not fit the caches near a core, and the panels of an item share what is read of them: as many as leave
 * every thread several items. Results that are kept apart limit that. */
static int panels_an_item(const struct matmul_job *job)
{
    const double macs = 3e6; /* some ten microseconds */
    const int panel_rows = job->c->kernels.panel_rows, most = ITEM_ROWS_MAX / panel_rows;
    double panel_macs = (double)job->k * panel_rows * job->m;
    int n = 2, n_panels = 0;
    for (int i = 0; i < job->n_targets; i++)
        for (int s = 0; s < job->targets[i].w->n_segments; s++) n_panels += job->targets[i].w->segments[s].n_panels;
    while (n < 16 && n * panel_macs < macs) n *= 2;
    while (n < most && n_panels / (2 * n) >= ITEMS_A_THREAD * job->c->n_threads) n *= 2;
    while (n > 1 && job->apart && (size_t)n * panel_result_bytes(job) > RESULT_BYTES) n /= 2;
    return n;
}

/* A product of ten microseconds or so: not worth waking a team for. */
static bool is_small(const struct matmul_job *job)
{
    const double macs = 4e5;
    double rows = 0;
    for (int i = 0; i < job->n_targets; i++) rows += weight_out_len(job->targets[i].w);
    return rows * job->k * job->m <= macs;
}

static void run(struct matmul_job *job)
{
    inputs_prepare(job);
    job->apart = keeps_apart(job);
    job->panels_an_item = panels_an_item(job);
    int n_items = 0;
    for (int i = 0; i < job->n_targets; i++)
        for (int s = 0; s < job->targets[i].w->n_segments; s++)
            n_items += items_of(job, &job->targets[i].w->segments[s]);
    if (job->n_targets == 1) job->only = job->targets[0];
    if (is_small(job) && team_spares(job->c->team)) run_items(job, 0, n_items, 0);
    else if (job->apart)
        team_run_redoable(job->c->team, run_item_apart, commit_item, job, sizeof *job, n_items, 1,
                          job->m <= FEW_TOKENS);
    else compute_for(job->c, run_items, job, n_items, 1);
}

void compute_matmul(struct compute *c, float *y, size_t y_stride, const struct weight *w, const float *x,
                    size_t x_stride, int m)
{
    struct matmul_target target = {y, y_stride, w};
    compute_matmul_many(c, &target, 1, x, x_stride, m);
}

void compute_matmul_many(struct compute *c, const struct matmul_target *targets, int n_targets, const float *x,
                         size_t x_stride, int m)
{
    if (m <= 0 || n_targets <= 0) return;
    struct matmul_job job = {.c = c,
                             .targets = targets,
                             .n_targets = n_targets,
                             .x = x,
                             .x_stride = x_stride,
                             .m = m,
                             .k = targets[0].w->n_in};
    run(&job);
}

void compute_norm_matmul_many(struct compute *c, const struct matmul_target *targets, int n_targets, const float *x,
                              size_t x_stride, const float *norm_weight, float eps, int m)
{
    if (m <= 0 || n_targets <= 0) return;
    struct norm norm = {norm_weight, eps};
    struct matmul_job job = {.c = c,
                             .targets = targets,
                             .n_targets = n_targets,
                             .x = x,
                             .x_stride = x_stride,
                             .m = m,
                             .k = targets[0].w->n_in,
                             .norm = &norm};
    run(&job);
}

void compute_matmul_rows(struct compute *c, float *y, size_t y_stride, const struct weight *w, compute_row_fn *get,
                         void *ctx, int m)
{
    if (m <= 0) return;
    struct matmul_target target = {y, y_stride, w};
    struct matmul_job job = {
        .c = c, .targets = &target, .n_targets = 1, .m = m, .k = w->n_in, .get = get, .get_ctx = ctx};
    run(&job);
}

/* ---- products with fine inputs ---- */

#define FINE_TOKENS 8 /* rows at a time: with their remainders still a small product */

/* rows[2 * m][k]: the first m are given, the second m become what quantising the first loses. */
static void remainders(struct compute *c, float *rows, const struct weight *w, int m)
{
    const int format = c->kernels.matmul[w->segments[0].type].act, k = w->n_in;
    const struct act_format *act = &c->kernels.act[format];
    void *acts = shared_scratch_get(c, &c->acts[format], act->bytes(m, k));
    act->quantize(acts, rows, (size_t)k, m, k, 0, m);
    for (int t = 0; t < m; t++) {
        float *row = rows + (size_t)t * (size_t)k, *rest = row + (size_t)m * (size_t)k;
        act->restore(rest, acts, m, k, t);
        for (int i = 0; i < k; i++) rest[i] = row[i] - rest[i];
    }
}

void compute_norm_matmul_fine(struct compute *c, float *y, size_t y_stride, const struct weight *w, const float *x,
                              size_t x_stride, const float *norm_weight, float eps, int m)
{
    const size_t k = (size_t)w->n_in, len = (size_t)weight_out_len(w), n_out = (size_t)w->n_out;
    for (int from = 0; from < m; from += FINE_TOKENS) {
        int n = m - from < FINE_TOKENS ? m - from : FINE_TOKENS;
        float *rows = shared_scratch_get(c, &c->fine_x, 2 * (size_t)n * k * sizeof *rows);
        float *both = shared_scratch_get(c, &c->fine_y, 2 * (size_t)n * len * sizeof *both);
        for (int t = 0; t < n; t++)
            c->kernels.rmsnorm(rows + (size_t)t * k, x + (size_t)(from + t) * x_stride, norm_weight, w->n_in, eps);
        remainders(c, rows, w, n);
        compute_matmul(c, both, len, w, rows, k, 2 * n);
        for (int t = 0; t < n; t++) {
            float *out = y + (size_t)(from + t) * y_stride;
            memcpy(out, both + (size_t)t * len, n_out * sizeof *out);
            c->kernels.add(out, both + (size_t)(n + t) * len, w->n_out);
        }
    }
}
