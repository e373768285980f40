/* weight: where the panels of a product lie, and the packing of a whole set of products. Parts of one type that follow
 * each other share panels (their rows are consecutive); a change of type starts a new segment at a panel border.
 *
 * An image is filled in chunks of a huge page, each by one worker: so no two workers meet in a page that the system
 * has yet to clear, and nobody waits between one weight and the next. */
#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "compute/compute_internal.h"

/* ---- layout ---- */

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

/* Lays out parts and segments; panels stay NULL until the image is there. */
static bool layout(struct weight *w, const struct compute *c, struct err *e)
{
    const struct weight_part *parts = w->parts;
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

static void weight_free(struct weight *w)
{
    mem_free(w->part_offsets);
    mem_free(w->parts);
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

/* ---- a set ---- */

struct weight_set *weight_set_create(void)
{
    return mem_zalloc(sizeof(struct weight_set));
}

void weight_set_destroy(struct weight_set *s)
{
    if (!s) return;
    panel_writer_finish(s->writer);
    for (size_t i = 0; i < s->n_weights; i++) weight_free(s->weights[i]);
    mem_free(s->weights);
    mem_unmap(s->image, s->bytes);
    mem_free(s);
}

size_t weight_set_bytes(const struct weight_set *s)
{
    return s->bytes;
}

bool weight_set_cached(const struct weight_set *s)
{
    return s->cached;
}

static bool reserve_weight(struct weight_set *s, struct err *e)
{
    if (s->n_weights < s->max_weights) return true;
    size_t max = s->max_weights ? s->max_weights * 2 : 256;
    struct weight **grown = mem_try_realloc(s->weights, max * sizeof(struct weight *));
    if (!grown) return err_set(e, ERR_TOO_LARGE, "no memory for a list of %zu weights", max);
    s->weights = grown;
    s->max_weights = max;
    return true;
}

struct weight *weight_set_add(struct weight_set *s, const struct compute *c, const struct weight_part *parts,
                              int n_parts, int n_in, struct err *e)
{
    if (!reserve_weight(s, e)) return NULL;
    struct weight *w = mem_zalloc(sizeof *w);
    w->n_in = n_in;
    w->n_parts = n_parts;
    w->panel_rows = c->kernels.panel_rows;
    w->part_offsets = mem_zalloc((size_t)n_parts * sizeof *w->part_offsets);
    w->segments = mem_zalloc((size_t)n_parts * sizeof *w->segments);
    w->parts = mem_alloc((size_t)n_parts * sizeof *w->parts);
    memcpy(w->parts, parts, (size_t)n_parts * sizeof *w->parts);
    w->offset = s->bytes;
    size_t end;
    if (!layout(w, c, e)) goto out_free;
    if (!size_add(&end, s->bytes, w->map_bytes) || !size_add(&end, end, 63)) {
        err_set(e, ERR_TOO_LARGE, "weights: %zu bytes more overflow memory", w->map_bytes);
        goto out_free;
    }
    s->bytes = end & ~(size_t)63;
    s->weights[s->n_weights++] = w;
    return w;

out_free:
    weight_free(w);
    return NULL;
}

enum { SAMPLE_LEN = 256 }; /* values of a row: a multiple of every block */

/* One panel of every type, packed from fixed bytes: two programs that pack differently give different values. */
static uint64_t level_layout(const struct compute *c)
{
    const struct kernels *k = &c->kernels;
    uint64_t h = hash64(&k->panel_rows, sizeof k->panel_rows, (uint64_t)k->level);
    uint8_t row[SAMPLE_LEN * sizeof(float)];
    for (size_t i = 0; i < sizeof row; i++) row[i] = (uint8_t)(i * 37 + i / 7);
    for (int type = 0; type < QUANT_N; type++) {
        if (!k->matmul[type].matmul) continue;
        const void *rows[32];
        for (int r = 0; r < k->panel_rows; r++) rows[r] = r % 5 == 4 ? NULL : row;
        size_t bytes = k->matmul[type].panel_bytes(SAMPLE_LEN);
        uint8_t *panel = mem_try_map(bytes); /* mapped for its alignment */
        if (!panel) continue;
        k->matmul[type].pack(panel, rows, SAMPLE_LEN);
        h = hash64(panel, bytes, h ^ (uint64_t)type);
        mem_unmap(panel, bytes);
    }
    return h;
}

uint64_t weight_set_layout(const struct weight_set *s, const struct compute *c)
{
    uint64_t h = level_layout(c);
    for (size_t i = 0; i < s->n_weights; i++) {
        const struct weight *w = s->weights[i];
        uint64_t place[] = {w->offset, (uint64_t)w->n_in, (uint64_t)w->n_out, (uint64_t)w->n_segments};
        h = hash64(place, sizeof place, h);
        for (int j = 0; j < w->n_segments; j++) {
            const struct weight_segment *seg = &w->segments[j];
            uint64_t what[] = {(uint64_t)seg->type, seg->panel_bytes, (uint64_t)seg->n_panels, (uint64_t)seg->out};
            h = hash64(what, sizeof what, h);
        }
    }
    return h;
}

/* ---- packing ---- */

struct pack_job {
    const struct kernels *kernels;
    struct weight_set *set;
    const struct weight_set_options *options;
    size_t chunk;
    _Atomic size_t done;
};

/* Row `row` (an output element) of the product; NULL in the padding. */
static const void *row_get(const struct weight *w, int row)
{
    for (int i = 0; i < w->n_parts; i++) {
        int r = row - w->part_offsets[i];
        size_t bytes;
        if (r < 0 || r >= w->parts[i].n_rows) continue;
        if (!quant_row_bytes(&bytes, w->parts[i].type, (size_t)w->n_in)) return NULL;
        return (const uint8_t *)w->parts[i].data + (size_t)r * bytes;
    }
    return NULL;
}

/* Calls tell for the bytes in the file of output elements [from, to). */
static void rows_tell(const struct weight *w, int from, int to, void (*tell)(void *, const void *, size_t), void *ctx)
{
    for (int i = 0; tell && i < w->n_parts; i++) {
        int first = from - w->part_offsets[i], end = to - w->part_offsets[i];
        size_t bytes;
        if (first < 0) first = 0;
        if (end > w->parts[i].n_rows) end = w->parts[i].n_rows;
        if (end <= first || !quant_row_bytes(&bytes, w->parts[i].type, (size_t)w->n_in)) continue;
        tell(ctx, (const uint8_t *)w->parts[i].data + (size_t)first * bytes, (size_t)(end - first) * bytes);
    }
}

static void pack_panels(const struct pack_job *job, const struct weight *w, const struct weight_segment *s,
                        size_t panel_from, size_t panel_to)
{
    const struct weight_set_options *o = job->options;
    int rows_panel = w->panel_rows, from = s->out + (int)panel_from * rows_panel,
        to = s->out + (int)panel_to * rows_panel;
    rows_tell(w, from, to, o->fetch, o->ctx);
    for (int out = from; out < to; out += rows_panel) {
        const void *rows[32];
        uint8_t *panel =
            job->set->image + (s->panels - job->set->image) + (size_t)((out - s->out) / rows_panel) * s->panel_bytes;
        for (int r = 0; r < rows_panel; r++) rows[r] = row_get(w, out + r);
        job->kernels->matmul[s->type].pack(panel, rows, w->n_in);
    }
    rows_tell(w, from, to, o->release, o->ctx);
}

/* The first panel of a segment that begins at `at` or behind it. */
static size_t panel_at(const struct weight_segment *s, size_t at)
{
    size_t panel = (at + s->panel_bytes - 1) / s->panel_bytes;
    return panel < (size_t)s->n_panels ? panel : (size_t)s->n_panels;
}

/* The panels that begin in chunks [from, to). */
static void pack_chunks(void *ctx, int from, int to, int worker)
{
    struct pack_job *job = ctx;
    const struct weight_set *set = job->set;
    size_t begin = (size_t)from * job->chunk, end = (size_t)to * job->chunk, low = 0, high = set->n_weights;
    while (low < high) { /* the first weight that reaches behind `begin` */
        size_t middle = (low + high) / 2;
        if (set->weights[middle]->offset + set->weights[middle]->map_bytes > begin) high = middle;
        else low = middle + 1;
    }
    for (; low < set->n_weights && set->weights[low]->offset < end; low++) {
        const struct weight *w = set->weights[low];
        for (int i = 0; i < w->n_segments; i++) {
            const struct weight_segment *s = &w->segments[i];
            size_t at = (size_t)(s->panels - set->image);
            size_t first = panel_at(s, begin > at ? begin - at : 0), last = panel_at(s, end > at ? end - at : 0);
            if (first < last) pack_panels(job, w, s, first, last);
        }
    }
    size_t done = atomic_fetch_add(&job->done, (size_t)(to - from)) + (size_t)(to - from);
    double share = (double)(done * job->chunk) / (double)set->bytes; /* the last chunk may reach behind the end */
    if (worker == 0 && job->options->progress) job->options->progress(job->options->ctx, share < 1 ? share : 1);
}

static void place_panels(struct weight_set *s)
{
    for (size_t i = 0; i < s->n_weights; i++) {
        struct weight *w = s->weights[i];
        const uint8_t *at = s->image + w->offset;
        for (int j = 0; j < w->n_segments; j++) {
            w->segments[j].panels = at;
            at += w->segments[j].panel_bytes * (size_t)w->segments[j].n_panels;
        }
    }
}

bool weight_set_pack(struct weight_set *s, struct compute *c, const struct weight_set_options *options, struct err *e)
{
    struct weight_set_options none = {0};
    const struct weight_set_options *o = options ? options : &none;
    uint64_t layout_hash = o->cache ? weight_set_layout(s, c) : 0;
    if (o->cache) s->image = panel_file_load(c, o->cache, layout_hash, s->bytes);
    s->cached = s->image;
    if (!s->image) s->image = mem_try_map(s->bytes);
    if (!s->image) return err_set(e, ERR_TOO_LARGE, "weights: no memory for %zu bytes", s->bytes);
    place_panels(s);
    if (s->cached) return true;
    size_t chunk = IMAGE_CHUNK;
    while (chunk > 65536 && s->bytes / chunk < (size_t)c->n_threads * 4) chunk /= 2;
    struct pack_job job = {&c->kernels, s, o, chunk, 0};
    compute_for(c, pack_chunks, &job, (int)((s->bytes + chunk - 1) / chunk), 1);
    if (o->cache) s->writer = panel_writer_start(c, o->cache, layout_hash, s->image, s->bytes);
    return true;
}

/* ---- one weight ---- */

struct weight *weight_create(struct compute *c, const struct weight_part *parts, int n_parts, int n_in, struct err *e)
{
    struct weight_set *s = weight_set_create();
    struct weight *w = weight_set_add(s, c, parts, n_parts, n_in, e);
    if (w && weight_set_pack(s, c, NULL, e)) {
        w->own_set = s;
        return w;
    }
    weight_set_destroy(s);
    return NULL;
}

void weight_destroy(struct weight *w)
{
    if (w) weight_set_destroy(w->own_set);
}
