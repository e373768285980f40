/* compute_internal: what the files of compute share. */
#ifndef COMPUTE_COMPUTE_INTERNAL_H
#define COMPUTE_COMPUTE_INTERNAL_H

#include "compute/compute.h"

struct team;
struct weight_slab;

/* n_threads workers including the caller of team_run; NULL when the system gives no threads. */
struct team *team_create(int n_threads);
void team_destroy(struct team *t);
void team_run(struct team *t, compute_fn *fn, void *ctx, int n_items, int grain);
/* The same for work that may be done twice: items that a worker holds for too long are done by the caller. Worker 0
 * (the caller) writes results with `run`; for the others `run` leaves them in memory of the worker and `commit`, called
 * for the same items only if nobody took them, brings them to their place. They get a copy of ctx (at most
 * TEAM_CTX_BYTES, a multiple of 8, without pointers to itself or the caller's stack). All that it points to must stay
 * mapped, and what says where to read must not change, until team_settle: a worker may go on reading after its items
 * were taken. */
#define TEAM_CTX_BYTES 256
void team_run_redoable(struct team *t, compute_fn *run, compute_fn *commit, void *ctx, size_t ctx_bytes, int n_items,
                       int grain);
/* Waits until no worker holds items. */
void team_settle(struct team *t);
/* Physical cores that this process may use: affinity, hyper-threads counted once, cgroup CPU quota. At least 1. */
int team_default_threads(void);

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
    struct weight_slab *slab;            /* the open one, or NULL */
    struct worker_scratch *workers;      /* [n_threads] */
};

struct weight_segment { /* consecutive rows of one type */
    enum quant_type type;
    const uint8_t *panels;
    size_t panel_bytes;
    int n_panels;
    int out; /* first output element */
};
/* A mapping that weights share: most matrices of a small model are below the size of a huge page, and reading them from
 * small pages costs a quarter of the bandwidth. */
struct weight_slab {
    uint8_t *map;
    size_t size, used;
    int n_live; /* weights in it */
    bool open;  /* compute may put more into it */
};
void weight_slab_close(struct weight_slab *slab);

struct weight {
    int n_in, n_out, n_parts, n_segments, panel_rows;
    struct weight_slab *slab;
    uint8_t *map; /* in the slab */
    size_t map_bytes;
    int *part_offsets; /* [n_parts] */
    struct weight_segment *segments;
};

#endif
