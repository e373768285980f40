/* compute: creation and the scratch buffers. Engine thread; kernels run on the team. */
#include "compute/compute.h"

#include "base/alloc.h"
#include "compute/compute_internal.h"

#define THREADS_MAX 256
#define SCRATCH_STEP ((size_t)64 << 10)

void *scratch_get(struct scratch *s, size_t size)
{
    if (size > s->size) {
        scratch_deinit(s);
        size_t rounded = (size + size / 4 + SCRATCH_STEP - 1) / SCRATCH_STEP * SCRATCH_STEP;
        s->ptr = mem_try_map(rounded);
        if (!s->ptr) s->ptr = mem_try_map(rounded = size);
        if (!s->ptr) mem_alloc(SIZE_MAX / 2); /* ends the program with the usual message */
        s->size = rounded;
    }
    return s->ptr;
}

void scratch_deinit(struct scratch *s)
{
    mem_unmap(s->ptr, s->size);
    s->ptr = NULL;
    s->size = 0;
}

void *shared_scratch_get(struct compute *c, struct scratch *s, size_t size)
{
    if (size > s->size) team_settle(c->team);
    return scratch_get(s, size);
}

struct compute *compute_create(int n_threads, enum cpu_level level, struct err *e)
{
    if (n_threads < 0 || n_threads > THREADS_MAX) {
        err_set(e, ERR_INVALID, "number of threads: found %d, expected 0 (all cores) to %d", n_threads, THREADS_MAX);
        return NULL;
    }
    enum cpu_level highest = cpu_level_detect();
    if (level >= CPU_LEVEL_N || level > highest) {
        err_set(e, ERR_INVALID, "cpu level %s: this machine has at most %s", cpu_level_name(level),
                cpu_level_name(highest));
        return NULL;
    }
    struct compute *c = mem_zalloc(sizeof *c);
    c->n_threads = n_threads ? n_threads : cores_available("");
    if (c->n_threads > THREADS_MAX) c->n_threads = THREADS_MAX;
    kernels_init(&c->kernels, level);
    c->workers = mem_zalloc((size_t)c->n_threads * sizeof *c->workers);
    c->team = team_create(c->n_threads);
    if (!c->team) {
        err_set(e, ERR_IO, "the system gives no %d threads", c->n_threads);
        compute_destroy(c);
        return NULL;
    }
    for (int i = 0; i < c->n_threads; i++) scratch_get(&c->workers[i].kernel, c->kernels.matmul_scratch_bytes);
    return c;
}

void compute_destroy(struct compute *c)
{
    if (!c) return;
    team_destroy(c->team);
    for (int i = 0; i < c->n_threads; i++) {
        scratch_deinit(&c->workers[i].kernel);
        scratch_deinit(&c->workers[i].row);
        scratch_deinit(&c->workers[i].result);
    }
    for (int i = 0; i < ACT_FORMAT_MAX; i++) scratch_deinit(&c->acts[i]);
    scratch_deinit(&c->partials);
    scratch_deinit(&c->fine_x);
    scratch_deinit(&c->fine_y);
    mem_free(c->workers);
    mem_free(c);
}

int compute_threads(const struct compute *c)
{
    return c->n_threads;
}

const struct kernels *compute_kernels(const struct compute *c)
{
    return &c->kernels;
}

void compute_for(struct compute *c, compute_fn *fn, void *ctx, int n_items, int grain)
{
    team_run(c->team, fn, ctx, n_items, grain);
}

void compute_step_begin(struct compute *c)
{
    c->in_step = true;
}

void compute_step_end(struct compute *c)
{
    c->in_step = false;
    team_settle(c->team);
}
