/* compute_internal: what the files of compute share. */
#ifndef COMPUTE_COMPUTE_INTERNAL_H
#define COMPUTE_COMPUTE_INTERNAL_H

#include "compute/compute.h"

struct team;

/* n_threads workers including the caller of team_run; NULL when the system gives no threads. */
struct team *team_create(int n_threads);
void team_destroy(struct team *t);
void team_run(struct team *t, compute_fn *fn, void *ctx, int n_items, int grain);
/* The same for work that may be done twice: items that a worker holds for too long are done by the caller: after 50 us
 * in a brief job (items of some ten microseconds), else when another program has the worker's core. Worker 0
 * (the caller) writes results with `run`; for the others `run` leaves them in memory of the worker and `commit`, called
 * for the same items only if nobody took them, brings them to their place. They get a copy of ctx (at most
 * TEAM_CTX_BYTES, a multiple of 8, without pointers to itself or the caller's stack). All that it points to must stay
 * mapped, and what says where to read must not change, until team_settle: a worker may go on reading after its items
 * were taken. */
#define TEAM_CTX_BYTES 256
void team_run_redoable(struct team *t, compute_fn *run, compute_fn *commit, void *ctx, size_t ctx_bytes, int n_items,
                       int grain, bool brief);
/* Another program had a worker's core within the last tenth of a second. Caller's thread. */
bool team_is_busy(const struct team *t);
/* All workers sleep and the caller has only begun: a job of some microseconds is not worth waking them, which costs the
 * caller some 15 us and has them come 30-60 us later. Caller's thread; asked once a job, and only by small ones. */
bool team_spares(struct team *t);
/* Waits until no worker holds items. */
void team_settle(struct team *t);
/* Physical cores that this process may use: affinity and cpuset, hyper-threads counted once, CPU quota of its control
 * group and of those above it. At least 1. `root` is put before /proc and /sys: "" but in tests. */
int cores_available(const char *root);

/* A buffer that only grows; mapped, so 64-byte aligned. Its content is lost when it grows. */
struct scratch {
    void *ptr;
    size_t size;
};
void *scratch_get(struct scratch *s, size_t size);
void scratch_deinit(struct scratch *s);

struct worker_scratch {
    struct scratch kernel; /* of matmul and attend */
    struct scratch row;    /* one normalised row, or one tile of partial results */
    struct scratch result; /* of items that others may take over: before they are committed */
};

/* scratch_get for buffers that redoable work reads: nobody may read them when they move. */
void *shared_scratch_get(struct compute *c, struct scratch *s, size_t size);

struct compute {
    struct kernels kernels;
    struct team *team;
    int n_threads;
    bool in_step;                        /* between compute_step_begin and compute_step_end: work may be redone */
    struct scratch acts[ACT_FORMAT_MAX]; /* quantised inputs of the current product */
    struct scratch fine_x, fine_y;       /* compute_norm_matmul_fine: rows and their remainders, both products */
    struct scratch partials;             /* attention: partial results of split rows */
    struct worker_scratch *workers;      /* [n_threads] */
};

struct weight_segment { /* consecutive rows of one type */
    enum quant_type type;
    const uint8_t *panels;
    size_t panel_bytes;
    int n_panels;
    int out; /* first output element */
};
struct weight {
    int n_in, n_out, n_parts, n_segments, panel_rows;
    size_t offset, map_bytes;  /* in the image of the set */
    int *part_offsets;         /* [n_parts] */
    struct weight_part *parts; /* [n_parts] */
    struct weight_segment *segments;
    struct weight_set *own_set; /* of a weight that is its set's only one; else NULL */
};

/* ---- images ---- */
struct panel_writer;

struct weight_set {
    struct weight **weights; /* by offset */
    size_t n_weights, max_weights;
    size_t bytes; /* of the image */
    uint8_t *image;
    bool cached;                 /* image is a map of a file, or a copy of one */
    struct panel_writer *writer; /* NULL = nothing to write */
};

#define IMAGE_CHUNK ((size_t)2 << 20) /* a huge page: what one worker fills, checks or writes at a time */

/* Whatever the panels depend on beside the file: the level's layouts, and which weight is where. */
uint64_t weight_set_layout(const struct weight_set *s, const struct compute *c);

/* The image of `bytes` bytes for this name, identity and layout, or NULL: there is none, or it is damaged (logged). It
 * is a map of the file where that gives huge pages, else a copy in memory that does. Give it to mem_unmap. */
uint8_t *panel_file_load(struct compute *c, const struct panel_cache *cache, uint64_t layout, size_t bytes);
/* Starts to write an image, which must stay as it is until panel_writer_finish. NULL: it cannot (logged). */
struct panel_writer *panel_writer_start(const struct compute *c, const struct panel_cache *cache, uint64_t layout,
                                        const uint8_t *image, size_t bytes);
/* Waits for the file, some seconds at most, then gives it up; the image may go afterwards. NULL is fine. */
void panel_writer_finish(struct panel_writer *w);

#endif
