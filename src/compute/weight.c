/* weight: packs rows of tensors into panels, one piece of memory for a fused product. Parts of one type that follow
 * each other share panels (their rows are consecutive); a change of type starts a new segment at a panel border. */
#include <string.h>

#include "base/alloc.h"
#include "compute/compute_internal.h"

/* ---- memory ---- */

#define SLAB_BYTES ((size_t)32 << 20)

static void slab_free_if_unused(struct weight_slab *slab)
{
    if (slab->open || slab->n_live) return;
    mem_unmap(slab->map, slab->size);
    mem_free(slab);
}

static struct weight_slab *slab_open(size_t size)
{
    uint8_t *map = mem_try_map(size);
    if (!map) return NULL;
    struct weight_slab *slab = mem_zalloc(sizeof *slab);
    slab->map = map;
    slab->size = size;
    slab->open = true;
    return slab;
}

void weight_slab_close(struct weight_slab *slab)
{
    if (!slab) return;
    slab->open = false;
    slab_free_if_unused(slab);
}

/* Gives w its memory: of the open slab where it fits, of a new one, or of its own if it is large. Pages that nobody
 * writes cost nothing, so the end of a slab may stay empty. */
static bool memory_take(struct compute *c, struct weight *w)
{
    size_t bytes = (w->map_bytes + 63) & ~(size_t)63;
    struct weight_slab *slab = c->slab;
    if (bytes > SLAB_BYTES / 4) {
        slab = slab_open(bytes);
        if (slab) slab->open = false;
    } else if (!slab || bytes > slab->size - slab->used) {
        slab = slab_open(SLAB_BYTES);
        if (slab) {
            weight_slab_close(c->slab);
            c->slab = slab;
        }
    }
    if (!slab) return false;
    w->slab = slab;
    w->map = slab->map + slab->used;
    slab->used += bytes;
    slab->n_live++;
    return true;
}

/* ---- packing ---- */

struct pack_job {
    const struct kernels *kernels;
    const struct weight *w;
    const struct weight_part *parts;
};

/* Row `row` (an output element) of the product; NULL in the padding. */
static const void *row_get(const struct pack_job *job, int row)
{
    const struct weight *w = job->w;
    for (int i = 0; i < w->n_parts; i++) {
        int r = row - w->part_offsets[i];
        size_t bytes;
        if (r < 0 || r >= job->parts[i].n_rows) continue;
        if (!quant_row_bytes(&bytes, job->parts[i].type, (size_t)w->n_in)) return NULL;
        return (const uint8_t *)job->parts[i].data + (size_t)r * bytes;
    }
    return NULL;
}

static void pack_panels(void *ctx, int from, int to, int worker)
{
    (void)worker;
    const struct pack_job *job = ctx;
    int panel_rows = job->kernels->panel_rows;
    for (int i = from; i < to; i++) {
        int p = i;
        const struct weight_segment *s = job->w->segments;
        while (p >= s->n_panels) p -= s++->n_panels;
        const void *rows[32];
        for (int r = 0; r < panel_rows; r++) rows[r] = row_get(job, s->out + p * panel_rows + r);
        job->kernels->matmul[s->type].pack(job->w->map + (s->panels - job->w->map) + (size_t)p * s->panel_bytes, rows,
                                           job->w->n_in);
    }
}

static bool part_check(const struct compute *c, const struct weight_part *part, int n_in, struct err *e)
{
    const struct quant_format *format = quant_format_get((uint32_t)part->type);
    const char *name = format ? format->name : "unknown";
    if (!format || !c->kernels.matmul[part->type].matmul)
        return err_set(e, ERR_INVALID, "weights of type %s (%d): no kernel for it", name, (int)part->type);
    if (n_in <= 0 || n_in % c->kernels.matmul[part->type].k_multiple)
        return err_set(e, ERR_INVALID, "weights of type %s: rows of %d values, expected a multiple of %d", name, n_in,
                       c->kernels.matmul[part->type].k_multiple);
    if (part->n_rows <= 0 || part->n_rows > INT32_MAX / 4)
        return err_set(e, ERR_INVALID, "weights: found %d rows, expected 1 to %d", part->n_rows, INT32_MAX / 4);
    return true;
}

/* Lays out parts and segments (panels hold offsets until the map is there). */
static bool layout(struct weight *w, const struct compute *c, const struct weight_part *parts, struct err *e)
{
    int panel_rows = c->kernels.panel_rows;
    for (int i = 0; i < w->n_parts; i++) {
        if (!part_check(c, &parts[i], w->n_in, e)) return false;
        if (i == 0 || parts[i].type != parts[i - 1].type) {
            struct weight_segment *s = &w->segments[w->n_segments++];
            s->type = parts[i].type;
            s->panel_bytes = c->kernels.matmul[s->type].panel_bytes(w->n_in);
            s->out = w->n_out = (w->n_out + panel_rows - 1) / panel_rows * panel_rows;
        }
        w->part_offsets[i] = w->n_out;
        if (w->n_out > INT32_MAX - parts[i].n_rows - 64) return err_set(e, ERR_INVALID, "weights: too many rows");
        w->n_out += parts[i].n_rows;
        struct weight_segment *s = &w->segments[w->n_segments - 1];
        s->n_panels = (w->n_out - s->out + panel_rows - 1) / panel_rows;
    }
    for (int i = 0; i < w->n_segments; i++) {
        size_t bytes;
        if (!size_mul(&bytes, w->segments[i].panel_bytes, (size_t)w->segments[i].n_panels) ||
            !size_add(&w->map_bytes, w->map_bytes, bytes))
            return err_set(e, ERR_TOO_LARGE, "weights: %d rows of %d values overflow memory", w->n_out, w->n_in);
    }
    return true;
}

struct weight *weight_create(struct compute *c, const struct weight_part *parts, int n_parts, int n_in, struct err *e)
{
    struct weight *w = mem_zalloc(sizeof *w);
    w->n_in = n_in;
    w->n_parts = n_parts;
    w->panel_rows = c->kernels.panel_rows;
    w->part_offsets = mem_zalloc((size_t)n_parts * sizeof *w->part_offsets);
    w->segments = mem_zalloc((size_t)n_parts * sizeof *w->segments);
    if (!layout(w, c, parts, e)) goto out_destroy;
    if (!memory_take(c, w)) {
        err_set(e, ERR_TOO_LARGE, "weights: no memory for %zu bytes", w->map_bytes);
        goto out_destroy;
    }
    int n_panels = 0;
    uint8_t *at = w->map;
    for (int i = 0; i < w->n_segments; i++) {
        w->segments[i].panels = at;
        at += w->segments[i].panel_bytes * (size_t)w->segments[i].n_panels;
        n_panels += w->segments[i].n_panels;
    }
    struct pack_job job = {&c->kernels, w, parts};
    compute_for(c, pack_panels, &job, n_panels, 4);
    return w;

out_destroy:
    weight_destroy(w);
    return NULL;
}

void weight_destroy(struct weight *w)
{
    if (!w) return;
    if (w->slab) {
        w->slab->n_live--;
        slab_free_if_unused(w->slab);
    }
    mem_free(w->part_offsets);
    mem_free(w->segments);
    mem_free(w);
}

int weight_part_offset(const struct weight *w, int part)
{
    return w->part_offsets[part];
}

int weight_out_len(const struct weight *w)
{
    const struct weight_segment *last = &w->segments[w->n_segments - 1];
    return last->out + last->n_panels * w->panel_rows;
}

size_t weight_bytes(const struct weight *w)
{
    return w->map_bytes;
}
