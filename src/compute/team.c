/* team: fork and join over a counter. Work is claimed by compare-and-swap on one word that holds the job's number and
 * the next item; the caller waits only for items that were claimed, never for a worker to show up, so a worker that
 * sleeps or lost its core costs nothing unless it holds items.
 *
 * Invariant: the job's fields change only while the claim word is closed (next = CLOSED); a worker that read the fields
 * of an old job fails its compare-and-swap, because job numbers do not repeat within 2^32 jobs. */
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "compute/compute_internal.h"

#define CLOSED 0xffffffffu
#define SPIN_NS 60000    /* how long a worker spins before it sleeps */
#define SPINS_A_CHECK 64 /* pauses between two looks at the clock */

struct team {
    _Alignas(64) _Atomic uint64_t claim; /* job number << 32 | next item */
    _Alignas(64) _Atomic int done;       /* items of the job that are finished */
    _Alignas(64) _Atomic uint32_t wake;  /* futex word: changes with every job */
    _Atomic int n_sleeping;
    _Atomic bool quit;
    /* the job; written while the claim word is closed */
    _Alignas(64) compute_fn *_Atomic fn;
    void *_Atomic ctx;
    _Atomic int n_items, grain;
    size_t bytes;  /* of this struct */
    uint32_t job;  /* caller's thread only */
    int n_workers; /* threads beside the caller */
    struct team_worker {
        struct team *team;
        pthread_t thread;
        int index; /* 1 .. n_workers */
    } workers[];
};

static inline void cpu_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/* Claims and runs items of job number `job` until none is left. */
static void work(struct team *t, uint32_t job, int worker)
{
    uint64_t claim = atomic_load_explicit(&t->claim, memory_order_acquire);
    for (;;) {
        if ((uint32_t)(claim >> 32) != job || (uint32_t)claim == CLOSED) return;
        int from = (int)(uint32_t)claim;
        compute_fn *fn = atomic_load_explicit(&t->fn, memory_order_relaxed);
        void *ctx = atomic_load_explicit(&t->ctx, memory_order_relaxed);
        int n = atomic_load_explicit(&t->n_items, memory_order_relaxed);
        int grain = atomic_load_explicit(&t->grain, memory_order_relaxed);
        if (from >= n) return;
        int to = n - from > grain ? from + grain : n;
        uint64_t next = (uint64_t)job << 32 | (uint32_t)to;
        if (!atomic_compare_exchange_weak_explicit(&t->claim, &claim, next, memory_order_acq_rel, memory_order_acquire))
            continue;
        fn(ctx, from, to, worker);
        atomic_fetch_add_explicit(&t->done, to - from, memory_order_release);
        claim = atomic_load_explicit(&t->claim, memory_order_acquire);
    }
}

static void sleep_for_job(struct team *t, uint32_t seen)
{
    atomic_fetch_add(&t->n_sleeping, 1);
    while (atomic_load(&t->wake) == seen && !atomic_load(&t->quit))
        syscall(SYS_futex, &t->wake, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&t->n_sleeping, 1);
}

static void *worker_main(void *arg)
{
    struct team_worker *w = arg;
    struct team *t = w->team;
    uint32_t seen = 0;
    for (;;) {
        uint64_t start = clock_ns();
        while (atomic_load_explicit(&t->wake, memory_order_acquire) == seen) {
            for (int i = 0; i < SPINS_A_CHECK && atomic_load_explicit(&t->wake, memory_order_relaxed) == seen; i++)
                cpu_pause();
            if (clock_ns() - start > SPIN_NS) sleep_for_job(t, seen);
            if (atomic_load(&t->quit)) return NULL;
        }
        seen = atomic_load_explicit(&t->wake, memory_order_acquire);
        work(t, seen, w->index);
    }
}

static void wake_all(struct team *t, uint32_t value)
{
    atomic_store(&t->wake, value);
    if (atomic_load(&t->n_sleeping)) syscall(SYS_futex, &t->wake, FUTEX_WAKE_PRIVATE, t->n_workers, NULL, NULL, 0);
}

void team_run(struct team *t, compute_fn *fn, void *ctx, int n_items, int grain)
{
    if (n_items <= 0) return;
    if (grain < 1) grain = 1;
    if (t->n_workers == 0 || n_items <= grain) {
        fn(ctx, 0, n_items, 0);
        return;
    }
    uint32_t job = ++t->job;
    atomic_store_explicit(&t->fn, fn, memory_order_relaxed);
    atomic_store_explicit(&t->ctx, ctx, memory_order_relaxed);
    atomic_store_explicit(&t->n_items, n_items, memory_order_relaxed);
    atomic_store_explicit(&t->grain, grain, memory_order_relaxed);
    atomic_store_explicit(&t->done, 0, memory_order_relaxed);
    atomic_store_explicit(&t->claim, (uint64_t)job << 32, memory_order_release);
    wake_all(t, job);
    work(t, job, 0);
    for (unsigned spins = 0; atomic_load_explicit(&t->done, memory_order_acquire) != n_items; spins++) {
        cpu_pause();
        if (spins > 2000) sched_yield(); /* the worker with the last items lost its core: do not compete with it */
    }
    atomic_store_explicit(&t->claim, (uint64_t)job << 32 | CLOSED, memory_order_release);
}

struct team *team_create(int n_threads)
{
    int n_workers = n_threads - 1;
    size_t bytes = sizeof(struct team) + (size_t)n_workers * sizeof(struct team_worker);
    struct team *t = mem_try_map(bytes); /* mapped for its alignment */
    if (!t) return NULL;
    t->bytes = bytes;
    atomic_store(&t->claim, CLOSED);
    for (int i = 0; i < n_workers; i++) {
        struct team_worker *w = &t->workers[i];
        w->team = t;
        w->index = i + 1;
        if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
            team_destroy(t);
            return NULL;
        }
        t->n_workers++;
    }
    return t;
}

void team_destroy(struct team *t)
{
    if (!t) return;
    atomic_store(&t->quit, true);
    atomic_fetch_add(&t->wake, 1);
    syscall(SYS_futex, &t->wake, FUTEX_WAKE_PRIVATE, t->n_workers, NULL, NULL, 0);
    for (int i = 0; i < t->n_workers; i++) pthread_join(t->workers[i].thread, NULL);
    mem_unmap(t, t->bytes);
}

/* ---- how many ---- */

static bool read_line(char *line, int size, const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f) return false;
    bool ok = fgets(line, size, f) != NULL;
    fclose(f);
    return ok;
}

static long read_long(const char *path)
{
    char line[64];
    return read_line(line, sizeof line, path) ? strtol(line, NULL, 10) : -1;
}

/* CPUs that the cgroup's quota allows, rounded up; 0 = no quota. Inside a container the own group is the root. */
static int quota_cpus(void)
{
    char line[64], *rest;
    long quota = -1, period = -1;
    if (read_line(line, sizeof line, "/sys/fs/cgroup/cpu.max")) {
        quota = strtol(line, &rest, 10); /* "max 100000" gives 0 */
        period = strtol(rest, NULL, 10);
    } else {
        quota = read_long("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
        period = read_long("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    }
    return quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

int team_default_threads(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = 0;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &set)) continue;
        char path[96];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%zu/topology/thread_siblings_list", cpu);
        long first = read_long(path); /* "0,4" or "0-1": a core counts once, by its first thread that we may use */
        bool counted = first >= 0 && (size_t)first < cpu && CPU_ISSET((size_t)first, &set);
        if (!counted) n++;
    }
    int quota = quota_cpus();
    if (quota && quota < n) n = quota;
    return n < 1 ? 1 : n;
}
