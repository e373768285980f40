/* attention: cuts the queries of a step into tiles (a few tokens of one KV head with all their query heads) and runs
 * them on the team. A tile walks its chunks of keys in order and merges the partial results one after the other; with
 * few tiles and many chunks (decoding at depth) chunks are items of their own, and are merged in the same order
 * afterwards: the numbers are the same either way. */
#include <math.h>
#include <string.h>

#include "compute/compute_internal.h"

#define SHORT_MACS 2e7 /* so little attention has brief tiles */

struct attention_job {
    struct compute *c;
    float *out;
    size_t out_stride;
    struct kv_view view; /* copies: the caller's may be on its stack */
    struct attn_params p;
    const float *q;
    size_t q_stride;
    const struct kv_span *spans;
    int n_spans, group, tile_tokens;
    int max_chunks;        /* of a tile; items a tile when split */
    size_t partial_floats; /* of one chunk of one tile: max[], sum[], acc[][dim_v] */
    size_t scratch_bytes;
};

struct tile {
    const struct kv_span *span;
    int kv_head, token, n_tokens; /* tokens [token, token + n_tokens) of the span */
    int chunk_from, chunk_to;
};

static int span_tiles(const struct attention_job *job, const struct kv_span *s)
{
    return (s->n_tokens + job->tile_tokens - 1) / job->tile_tokens;
}

static void chunk_range(const struct attn_params *p, const struct kv_span *s, int token, int n_tokens, int *from,
                        int *to)
{
    int first = s->pos + token, last = first + n_tokens - 1;
    int oldest = p->window && first - p->window + 1 > 0 ? first - p->window + 1 : 0;
    *from = oldest / KV_CHUNK_TOKENS;
    *to = last / KV_CHUNK_TOKENS + 1;
}

/* Tiles are numbered from the last of a span to its first: the long ones start first. */
static struct tile tile_get(const struct attention_job *job, int index)
{
    struct tile t = {.span = job->spans};
    while (index >= span_tiles(job, t.span) * job->p.n_kv_heads) index -= span_tiles(job, t.span++) * job->p.n_kv_heads;
    t.kv_head = index % job->p.n_kv_heads;
    t.token = (span_tiles(job, t.span) - 1 - index / job->p.n_kv_heads) * job->tile_tokens;
    t.n_tokens = t.span->n_tokens - t.token < job->tile_tokens ? t.span->n_tokens - t.token : job->tile_tokens;
    chunk_range(&job->p, t.span, t.token, t.n_tokens, &t.chunk_from, &t.chunk_to);
    return t;
}

/* Chunks [from, to) of a tile into partial. */
static void attend(const struct attention_job *job, const struct tile *t, int from, int to, float *partial, int worker)
{
    const struct attn_params *p = &job->p;
    int n = job->tile_tokens * job->group;
    struct attn_head head = {
        .pages = job->view.base + (size_t)t->kv_head * job->view.head_bytes,
        .table = t->span->table,
        .page_stride = job->view.page_stride,
        .kv = p->kv,
        .group = job->group,
        .pos = t->span->pos + t->token,
        .window = p->window,
        .scale = p->scale,
        .softcap = p->softcap,
        .sinks = p->sinks ? p->sinks + t->kv_head * job->group : NULL,
    };
    const float *q =
        job->q + (size_t)(t->span->first + t->token) * job->q_stride + t->kv_head * job->group * p->kv.dim_k;
    job->c->kernels.attend(partial + 2 * n, partial, partial + n, &head, q, job->q_stride, t->n_tokens, from, to,
                           job->c->workers[worker].kernel.ptr);
}

/* into = into merged with from, both partial results of a tile. */
static void merge(const struct attention_job *job, const struct tile *t, float *into, const float *from)
{
    int n = job->tile_tokens * job->group;
    job->c->kernels.attn_merge(into + 2 * n, into, into + n, from + 2 * n, from, from + n, t->n_tokens * job->group,
                               job->p.kv.dim_v);
}

static void finish(const struct attention_job *job, const struct tile *t, const float *partial)
{
    int n = job->tile_tokens * job->group, dim = job->p.kv.dim_v;
    for (int i = 0; i < t->n_tokens * job->group; i++) {
        int head = t->kv_head * job->group + i % job->group;
        float max = partial[i], sum = partial[n + i], factor = 1;
        if (job->p.sinks) {
            float sink = job->p.sinks[head], top = max > sink ? max : sink;
            factor = max == -INFINITY ? 0 : expf(max - top);
            sum = sum * factor + expf(sink - top);
        }
        float inverse = sum > 0 ? factor / sum : 0;
        float *out = job->out + (size_t)(t->span->first + t->token + i / job->group) * job->out_stride + head * dim;
        memcpy(out, partial + 2 * n + i * dim, (size_t)dim * sizeof *out);
        job->c->kernels.scale(out, inverse, dim);
    }
}

static void run_tiles(void *ctx, int from, int to, int worker)
{
    struct attention_job *job = ctx;
    scratch_get(&job->c->workers[worker].kernel, job->scratch_bytes);
    float *partial = scratch_get(&job->c->workers[worker].row, job->partial_floats * sizeof *partial);
    for (int i = from; i < to; i++) {
        struct tile t = tile_get(job, i);
        attend(job, &t, t.chunk_from, t.chunk_to, partial, worker);
        finish(job, &t, partial);
    }
}

/* A tile within a step: others may do it again (team.c), so workers keep the result apart. */
static void run_tile_apart(void *ctx, int from, int to, int worker)
{
    struct attention_job *job = ctx;
    scratch_get(&job->c->workers[worker].kernel, job->scratch_bytes);
    float *partial = scratch_get(&job->c->workers[worker].result, job->partial_floats * sizeof *partial);
    for (int i = from; i < to; i++) {
        struct tile t = tile_get(job, i);
        attend(job, &t, t.chunk_from, t.chunk_to, partial, worker);
        if (worker == 0) finish(job, &t, partial);
    }
}

static void commit_tile(void *ctx, int from, int to, int worker)
{
    struct attention_job *job = ctx;
    struct tile t = tile_get(job, from);
    (void)to;
    finish(job, &t, job->c->workers[worker].result.ptr);
}

static float *chunk_partial(const struct attention_job *job, int item)
{
    return (float *)job->c->partials.ptr + (size_t)item * job->partial_floats;
}

static void run_chunks(void *ctx, int from, int to, int worker)
{
    struct attention_job *job = ctx;
    scratch_get(&job->c->workers[worker].kernel, job->scratch_bytes);
    float *apart = scratch_get(&job->c->workers[worker].result, job->partial_floats * sizeof *apart);
    for (int i = from; i < to; i++) {
        struct tile t = tile_get(job, i / job->max_chunks);
        int chunk = t.chunk_from + i % job->max_chunks;
        if (chunk < t.chunk_to) attend(job, &t, chunk, chunk + 1, worker ? apart : chunk_partial(job, i), worker);
    }
}

static void commit_chunk(void *ctx, int from, int to, int worker)
{
    struct attention_job *job = ctx;
    (void)to;
    memcpy(chunk_partial(job, from), job->c->workers[worker].result.ptr, job->partial_floats * sizeof(float));
}

static void merge_chunks(void *ctx, int from, int to, int worker)
{
    (void)worker;
    struct attention_job *job = ctx;
    for (int i = from; i < to; i++) {
        struct tile t = tile_get(job, i);
        float *first = chunk_partial(job, i * job->max_chunks);
        for (int chunk = 1; chunk < t.chunk_to - t.chunk_from; chunk++)
            merge(job, &t, first, first + (size_t)chunk * job->partial_floats);
        finish(job, &t, first);
    }
}

/* Tiles shrink for large groups, so that a tile's results stay within the cache. The queries of most groups fill the
 * tiles of the kernels then (6 and 12 queries). */
static int tile_tokens_for(int group)
{
    int n = 60 / group;
    return n < 1 ? 1 : n > ATTN_MAX_QUERIES ? ATTN_MAX_QUERIES : n;
}

void compute_attention(struct compute *c, float *out, size_t out_stride, const struct kv_view *view,
                       const struct attn_params *p, const float *q, size_t q_stride, const struct kv_span *spans,
                       int n_spans)
{
    struct attention_job job = {.c = c,
                                .out = out,
                                .out_stride = out_stride,
                                .view = *view,
                                .p = *p,
                                .q = q,
                                .q_stride = q_stride,
                                .spans = spans,
                                .n_spans = n_spans,
                                .group = p->n_heads / p->n_kv_heads};
    job.tile_tokens = tile_tokens_for(job.group);
    int n_tiles = 0;
    double keys = 0; /* query tokens times keys */
    int longest = 0;
    for (int i = 0; i < n_spans; i++) {
        int from, to;
        n_tiles += span_tiles(&job, &spans[i]) * p->n_kv_heads;
        keys += (double)spans[i].n_tokens * (spans[i].pos + spans[i].n_tokens);
        if (spans[i].n_tokens > longest) longest = spans[i].n_tokens;
        if (spans[i].n_tokens == 0) continue;
        chunk_range(p, &spans[i], 0, spans[i].n_tokens, &from, &to);
        if (to - from > job.max_chunks) job.max_chunks = to - from;
    }
    if (longest < job.tile_tokens) job.tile_tokens = longest > 0 ? longest : 1; /* decoding: small partial results */
    job.partial_floats = ((size_t)job.tile_tokens * (size_t)job.group * (size_t)(p->kv.dim_v + 2) + 15) & ~(size_t)15;
    job.scratch_bytes = c->kernels.attn_scratch_bytes(job.group * job.tile_tokens, p->kv.dim_k, p->kv.dim_v);
    if (job.scratch_bytes < c->kernels.matmul_scratch_bytes) job.scratch_bytes = c->kernels.matmul_scratch_bytes;
    if (n_tiles < 8 * c->n_threads && job.max_chunks > 1 && c->n_threads > 1) {
        shared_scratch_get(c, &c->partials,
                           (size_t)n_tiles * (size_t)job.max_chunks * job.partial_floats * sizeof(float));
        team_run_redoable(c->team, run_chunks, commit_chunk, &job, sizeof job, n_tiles * job.max_chunks, 1, true);
        if (!c->in_step) team_settle(c->team);
        compute_for(c, merge_chunks, &job, n_tiles, 4);
        return;
    }
    /* A short decode is not worth a fork: some microseconds of work in all. */
    double macs = keys * p->n_heads * (p->kv.dim_k + p->kv.dim_v);
    if (c->in_step && macs >= 1e5)
        team_run_redoable(c->team, run_tile_apart, commit_tile, &job, sizeof job, n_tiles, 1, macs < SHORT_MACS);
    else compute_for(c, run_tiles, &job, n_tiles, macs < 1e5 ? n_tiles : 1);
}

/* ---- storing ---- */

struct store_job {
    const struct kernels *kernels;
    const struct kv_view *view;
    const struct attn_params *p;
    const float *k, *v;
    size_t k_stride, v_stride;
    const struct kv_span *span;
};

static void store_tokens(void *ctx, int from, int to, int worker)
{
    (void)worker;
    const struct store_job *job = ctx;
    const struct attn_params *p = job->p;
    for (int t = from; t < to; t++) {
        int pos = job->span->pos + t;
        uint8_t *page = job->view->base + (size_t)job->span->table[pos / KV_PAGE_TOKENS] * job->view->page_stride;
        const float *k = job->k + (size_t)(job->span->first + t) * job->k_stride;
        const float *v = job->v + (size_t)(job->span->first + t) * job->v_stride;
        for (int h = 0; h < p->n_kv_heads; h++)
            job->kernels->kv_store(page + (size_t)h * job->view->head_bytes, &p->kv, k + h * p->kv.dim_k,
                                   v + h * p->kv.dim_v, pos % KV_PAGE_TOKENS);
    }
}

void compute_kv_store(struct compute *c, const struct kv_view *view, const struct attn_params *p, const float *k,
                      size_t k_stride, const float *v, size_t v_stride, const struct kv_span *spans, int n_spans)
{
    for (int i = 0; i < n_spans; i++) {
        struct store_job job = {&c->kernels, view, p, k, v, k_stride, v_stride, &spans[i]};
        compute_for(c, store_tokens, &job, spans[i].n_tokens, 32);
    }
}
