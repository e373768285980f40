/* team: fork and join over a counter. Work is claimed by compare-and-swap on one word that holds the job's number and
 * the next item; the caller waits only for items that were claimed, never for a worker to show up, so a worker that
 * sleeps or lost its core costs nothing unless it holds items.
 *
 * A worker that lost its core while it holds items of a REDOABLE job costs little either: the caller takes the items
 * away from it and does them once more. For that a redoable job has two parts: `run` computes into memory that belongs
 * to the worker, `commit` copies the result to where it belongs. Between them the worker must win its own `holding`
 * word (RUNNING -> COMMITTING), which the caller may have turned to TAKEN: so exactly one of them writes. A worker that
 * finds its items taken drops the result. Until then it may still read the job's inputs, although the caller has gone
 * on: team_settle waits for that. Items of a brief job are late after TAKE_NS; others are, when their worker's CPU time
 * stands still: then it is off its core, and will be for milliseconds.
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
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "compute/compute_internal.h"

#define CLOSED 0xffffffffu
#define SPIN_NS 60000     /* how long a worker spins before it sleeps */
#define SPARE_NS 80000    /* how long the caller does small jobs alone before it wakes a team that sleeps */
#define TAKE_NS 50000     /* how long the caller waits for a worker's items before it looks whether to do them */
#define LOOK_NS 10000     /* between two looks at a worker's CPU time */
#define LOST_NS 100000    /* off its core for so long: not for a kernel thread, which is gone sooner */
#define BUSY_NS 100000000 /* a program that took a core will take it again for so long */
#define MOVE_NS 1000000   /* between two moves of a worker */
#define SPINS_A_CHECK 16  /* pauses between two looks at the clock */
#define CTX_WORDS (TEAM_CTX_BYTES / 8)

/* struct team_worker.holding: job number << 32 | first item << 2 | one of these; 0 = nothing. RUNNING may become TAKEN;
 * a worker that writes results is COMMITTING: in commit, or all the time where there is none. */
enum holding_state { RUNNING = 1, COMMITTING, TAKEN };

struct job {
    compute_fn *run, *commit; /* commit NULL: run writes the result itself, nobody may do it again */
    void *ctx;
    int n_items, grain;
    bool brief; /* items of some ten microseconds; the caller's copy only */
};

struct team {
    _Alignas(64) _Atomic uint64_t claim; /* job number << 32 | next item */
    _Alignas(64) _Atomic int done;       /* items of the job that are finished */
    _Alignas(64) _Atomic uint32_t wake;  /* futex word: changes with every job */
    _Atomic int n_sleeping;
    _Atomic bool quit;
    _Atomic int caller_cpu;
    /* the job; written while the claim word is closed */
    _Alignas(64) compute_fn *_Atomic run;
    compute_fn *_Atomic commit;
    void *_Atomic ctx;
    _Atomic int n_items, grain;
    _Atomic uint64_t ctx_copy[CTX_WORDS]; /* of a redoable job: workers may outlive the caller's */
    size_t bytes;                         /* of this struct */
    uint32_t job;                         /* caller's thread only, as the next one */
    uint64_t busy_until;                  /* team_is_busy */
    uint64_t sparing_ns, spared_ns;       /* team_spares: since when, and when last; caller's thread only */
    int n_workers;                        /* threads beside the caller */
    cpu_set_t cpus;                       /* those of the process */
    struct team_worker {
        _Alignas(64) _Atomic uint64_t holding;
        struct team *team;
        pthread_t thread;
        int index; /* 1 .. n_workers */
        uint64_t ctx[CTX_WORDS];
        uint64_t moved_ns; /* when it last left the caller's CPU */
        /* The caller's: */
        clockid_t clock; /* of its CPU time; used if has_clock */
        bool has_clock;
        uint64_t ran_ns, looked_ns, stopped_ns; /* that time at the last look, when that was, when it was first seen */
    } workers[];
};

static inline void cpu_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static struct job job_get(struct team *t)
{
    return (struct job){.run = atomic_load_explicit(&t->run, memory_order_relaxed),
                        .commit = atomic_load_explicit(&t->commit, memory_order_relaxed),
                        .ctx = atomic_load_explicit(&t->ctx, memory_order_relaxed),
                        .n_items = atomic_load_explicit(&t->n_items, memory_order_relaxed),
                        .grain = atomic_load_explicit(&t->grain, memory_order_relaxed)};
}

static uint64_t holding_word(uint32_t number, int from, enum holding_state state)
{
    return (uint64_t)number << 32 | (uint32_t)from << 2 | state;
}

/* Items [from, to) of a job that nobody may do again, as a worker. */
static void run_only(struct team_worker *w, const struct job *job, uint32_t number, int from, int to)
{
    atomic_store_explicit(&w->holding, holding_word(number, from, COMMITTING), memory_order_release);
    job->run(job->ctx, from, to, w->index);
    atomic_store_explicit(&w->holding, 0, memory_order_release);
    atomic_fetch_add_explicit(&w->team->done, to - from, memory_order_release);
}

/* Items [from, to) of a redoable job, as a worker. */
static void run_held(struct team_worker *w, const struct job *job, uint32_t number, int from, int to)
{
    uint64_t held = holding_word(number, from, RUNNING);
    atomic_store_explicit(&w->holding, held, memory_order_release);
    job->run(w->ctx, from, to, w->index);
    uint64_t mine = holding_word(number, from, COMMITTING);
    if (atomic_compare_exchange_strong_explicit(&w->holding, &held, mine, memory_order_acq_rel, memory_order_acquire)) {
        job->commit(w->ctx, from, to, w->index);
        atomic_fetch_add_explicit(&w->team->done, to - from, memory_order_release);
    }
    atomic_store_explicit(&w->holding, 0, memory_order_release);
}

/* Claims and runs items of job `number` until none is left; w NULL = the caller. */
static void work(struct team *t, uint32_t number, struct team_worker *w)
{
    uint64_t claim = atomic_load_explicit(&t->claim, memory_order_acquire);
    for (;;) {
        if ((uint32_t)(claim >> 32) != number || (uint32_t)claim == CLOSED) return;
        int from = (int)(uint32_t)claim;
        struct job job = job_get(t);
        if (from >= job.n_items) return;
        if (w && job.commit)
            for (int i = 0; i < CTX_WORDS; i++) w->ctx[i] = atomic_load_explicit(&t->ctx_copy[i], memory_order_relaxed);
        int to = job.n_items - from > job.grain ? from + job.grain : job.n_items;
        uint64_t next = (uint64_t)number << 32 | (uint32_t)to;
        if (!atomic_compare_exchange_weak_explicit(&t->claim, &claim, next, memory_order_acq_rel, memory_order_acquire))
            continue;
        if (w) {
            (job.commit ? run_held : run_only)(w, &job, number, from, to);
        } else {
            job.run(job.ctx, from, to, 0);
            atomic_fetch_add_explicit(&t->done, to - from, memory_order_release);
        }
        claim = atomic_load_explicit(&t->claim, memory_order_acquire);
    }
}

/* A worker that holds items has not run for a while: another program has its core. */
static bool lost_core(struct team_worker *w, uint64_t now)
{
    struct timespec t;
    if (!w->has_clock || now - w->looked_ns < LOOK_NS || clock_gettime(w->clock, &t) != 0) return false;
    uint64_t ran = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
    w->looked_ns = now;
    if (ran != w->ran_ns) {
        w->ran_ns = ran;
        w->stopped_ns = now;
    }
    return now - w->stopped_ns >= LOST_NS;
}

/* Takes the items that a worker was found to hold away from it and does them, unless it has them ready just now. */
static void take_over(struct team *t, struct team_worker *w, const struct job *job, uint64_t held)
{
    uint64_t taken = (held & ~UINT64_C(3)) | TAKEN;
    if (!atomic_compare_exchange_strong_explicit(&w->holding, &held, taken, memory_order_acq_rel, memory_order_acquire))
        return;
    int from = (int)((uint32_t)held >> 2), to = job->n_items - from > job->grain ? from + job->grain : job->n_items;
    job->run(job->ctx, from, to, 0);
    atomic_fetch_add_explicit(&t->done, to - from, memory_order_release);
}

/* Looks at the workers that hold items of a job of which all are claimed. True: one of them lost its core. */
static bool look_at_workers(struct team *t, const struct job *job, uint32_t number, uint64_t now)
{
    bool any_lost = false;
    for (int i = 0; i < t->n_workers; i++) {
        struct team_worker *w = &t->workers[i];
        uint64_t held = atomic_load_explicit(&w->holding, memory_order_acquire);
        if ((uint32_t)(held >> 32) != number || (held & 3) == TAKEN) continue;
        bool lost = lost_core(w, now);
        if (lost) t->busy_until = now + BUSY_NS;
        if ((lost || job->brief) && (held & 3) == RUNNING) take_over(t, w, job, held);
        any_lost |= lost;
    }
    return any_lost;
}

/* All items are claimed: waits until they are done. */
static void join(struct team *t, const struct job *job, uint32_t number)
{
    uint64_t start = 0;
    for (unsigned spins = 1; atomic_load_explicit(&t->done, memory_order_acquire) != job->n_items; spins++) {
        cpu_pause();
        if (spins % SPINS_A_CHECK) continue;
        uint64_t now = clock_ns();
        if (!start) start = now;
        if (now - start < TAKE_NS) continue;
        /* A worker that lost its core with the last items may wait for this one: do not compete with it. */
        if (look_at_workers(t, job, number, now) && !job->commit) sched_yield();
    }
}

bool team_is_busy(const struct team *t)
{
    return t->busy_until && clock_ns() < t->busy_until;
}

void team_settle(struct team *t)
{
    for (int i = 0; i < t->n_workers; i++)
        for (unsigned spins = 1; atomic_load_explicit(&t->workers[i].holding, memory_order_acquire); spins++) {
            cpu_pause();
            if (spins > 1000) sched_yield();
        }
}

bool team_spares(struct team *t)
{
    if (!t->n_workers || atomic_load_explicit(&t->n_sleeping, memory_order_relaxed) != t->n_workers) return false;
    uint64_t now = clock_ns();
    if (now - t->spared_ns > SPIN_NS) t->sparing_ns = now;
    t->spared_ns = now;
    return now - t->sparing_ns < SPARE_NS;
}

static void sleep_for_job(struct team *t, uint32_t seen)
{
    atomic_fetch_add(&t->n_sleeping, 1);
    while (atomic_load(&t->wake) == seen && !atomic_load(&t->quit))
        syscall(SYS_futex, &t->wake, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&t->n_sleeping, 1);
}

/* When other programs keep all CPUs busy, the scheduler likes to put a woken worker beside its waker. There it helps
 * nobody: it takes the caller's core, and spins while the caller waits for it. So a worker leaves the caller's CPU. */
static void leave_callers_cpu(struct team_worker *w)
{
    int cpu = atomic_load_explicit(&w->team->caller_cpu, memory_order_relaxed);
    if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getcpu() != cpu) return;
    uint64_t now = clock_ns();
    if (now - w->moved_ns < MOVE_NS) return;
    w->moved_ns = now;
    cpu_set_t set = w->team->cpus;
    CPU_CLR((size_t)cpu, &set);
    if (CPU_COUNT(&set)) sched_setaffinity(0, sizeof set, &set);
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
        leave_callers_cpu(w);
        work(t, seen, w);
    }
}

static void wake_all(struct team *t, uint32_t value)
{
    atomic_store(&t->wake, value);
    if (atomic_load(&t->n_sleeping)) syscall(SYS_futex, &t->wake, FUTEX_WAKE_PRIVATE, t->n_workers, NULL, NULL, 0);
}

static void job_run(struct team *t, const struct job *job)
{
    uint32_t number = ++t->job;
    if (!number) number = ++t->job; /* 0 is what workers begin with */
    atomic_store_explicit(&t->run, job->run, memory_order_relaxed);
    atomic_store_explicit(&t->commit, job->commit, memory_order_relaxed);
    atomic_store_explicit(&t->ctx, job->ctx, memory_order_relaxed);
    atomic_store_explicit(&t->n_items, job->n_items, memory_order_relaxed);
    atomic_store_explicit(&t->grain, job->grain, memory_order_relaxed);
    atomic_store_explicit(&t->done, 0, memory_order_relaxed);
    int cpu = sched_getcpu();
    if (atomic_load_explicit(&t->caller_cpu, memory_order_relaxed) != cpu)
        atomic_store_explicit(&t->caller_cpu, cpu, memory_order_relaxed);
    atomic_store_explicit(&t->claim, (uint64_t)number << 32, memory_order_release);
    wake_all(t, number);
    work(t, number, NULL);
    join(t, job, number);
    atomic_store_explicit(&t->claim, (uint64_t)number << 32 | CLOSED, memory_order_release);
}

void team_run(struct team *t, compute_fn *fn, void *ctx, int n_items, int grain)
{
    if (n_items <= 0) return;
    struct job job = {.run = fn, .ctx = ctx, .n_items = n_items, .grain = grain < 1 ? 1 : grain};
    if (t->n_workers == 0 || n_items <= job.grain) fn(ctx, 0, n_items, 0);
    else job_run(t, &job);
}

void team_run_redoable(struct team *t, compute_fn *run, compute_fn *commit, void *ctx, size_t ctx_bytes, int n_items,
                       int grain, bool brief)
{
    if (n_items <= 0) return;
    struct job job = {run, commit, ctx, n_items, grain < 1 ? 1 : grain, brief};
    if (t->n_workers == 0 || n_items <= job.grain) {
        run(ctx, 0, n_items, 0);
        return;
    }
    uint64_t words[CTX_WORDS] = {0};
    memcpy(words, ctx, ctx_bytes);
    for (int i = 0; i < CTX_WORDS; i++) atomic_store_explicit(&t->ctx_copy[i], words[i], memory_order_relaxed);
    job_run(t, &job);
}

struct team *team_create(int n_threads)
{
    int n_workers = n_threads - 1;
    size_t bytes = sizeof(struct team) + (size_t)n_workers * sizeof(struct team_worker);
    struct team *t = mem_try_map(bytes); /* mapped for its alignment */
    if (!t) return NULL;
    t->bytes = bytes;
    atomic_store(&t->claim, CLOSED);
    atomic_store(&t->caller_cpu, -1);
    if (sched_getaffinity(0, sizeof t->cpus, &t->cpus) != 0) CPU_ZERO(&t->cpus);
    for (int i = 0; i < n_workers; i++) {
        struct team_worker *w = &t->workers[i];
        w->team = t;
        w->index = i + 1;
        if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
            team_destroy(t);
            return NULL;
        }
        w->has_clock = pthread_getcpuclockid(w->thread, &w->clock) == 0;
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
