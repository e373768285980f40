/* queue: see queue.h. One mutex around a list; the eventfd is written when the list stops being empty and read when it
 * is taken. Waking is the expensive part (tens of microseconds between two CPUs) and happens behind the lock: a reader
 * that comes at once, or takes the waker's CPU, would only wait for it. */
#define _GNU_SOURCE
#include "base/queue.h"

#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define EXPECT_NS 50000

bool queue_init(struct queue *q, struct err *e)
{
    *q = (struct queue){.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)};
    if (q->fd < 0) return err_set(e, ERR_IO, "eventfd: %s", strerror(errno));
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->filled, &attr);
    pthread_condattr_destroy(&attr);
    q->tail = &q->head;
    return true;
}

void queue_deinit(struct queue *q)
{
    while (atomic_load_explicit(&q->n_waking, memory_order_acquire)) sched_yield();
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->filled);
    close(q->fd);
}

struct waking { /* whom to wake behind the lock */
    bool sleeper, watcher;
};

/* Under the lock. */
static struct waking waking_begin(struct queue *q)
{
    struct waking w = {.sleeper = q->waiting, .watcher = q->watched && !q->raised};
    q->waiting = false;
    q->raised |= w.watcher;
    if (w.sleeper || w.watcher) atomic_fetch_add_explicit(&q->n_waking, 1, memory_order_relaxed);
    return w;
}

/* Behind the lock: from the last line on the reader may free the queue. */
static void waking_end(struct queue *q, struct waking w)
{
    uint64_t one = 1;
    if (!w.sleeper && !w.watcher) return;
    if (w.watcher) {
        ssize_t n = write(q->fd, &one, sizeof one); /* can only fail when the counter is full: still readable */
        (void)n;
    }
    if (w.sleeper) pthread_cond_broadcast(&q->filled);
    atomic_fetch_sub_explicit(&q->n_waking, 1, memory_order_release);
}

static bool push(struct queue *q, struct queue_item *item, bool wakes)
{
    struct waking w = {0};
    pthread_mutex_lock(&q->lock);
    bool ok = !q->closed;
    if (ok) {
        item->next = NULL;
        *q->tail = item;
        q->tail = &item->next;
        if (wakes) w = waking_begin(q);
    }
    pthread_mutex_unlock(&q->lock);
    waking_end(q, w);
    return ok;
}

bool queue_push(struct queue *q, struct queue_item *item)
{
    return push(q, item, true);
}

bool queue_push_quietly(struct queue *q, struct queue_item *item)
{
    return push(q, item, false);
}

void queue_expect(struct queue *q)
{
    struct waking w = {0};
    pthread_mutex_lock(&q->lock);
    if (q->waiting) {
        q->expecting = true;
        w = waking_begin(q);
    }
    pthread_mutex_unlock(&q->lock);
    waking_end(q, w);
}

void queue_close(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    struct waking w = waking_begin(q);
    pthread_mutex_unlock(&q->lock);
    waking_end(q, w);
}

static struct queue_item *take_locked(struct queue *q)
{
    uint64_t count;
    /* Nothing to read: who raised it has not written yet, and the descriptor will be readable once more. */
    if (q->raised && read(q->fd, &count, sizeof count) == sizeof count) q->raised = false;
    struct queue_item *items = q->head;
    q->head = NULL;
    q->tail = &q->head;
    return items;
}

struct queue_item *queue_take_all(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    struct queue_item *items = take_locked(q);
    pthread_mutex_unlock(&q->lock);
    return items;
}

/* Under the lock, which it lets go of meanwhile. Yields, so that a writer that shares the CPU is not held up. */
static void await_expected(struct queue *q)
{
    q->expecting = false;
    for (uint64_t start = clock_ns(); !q->head && !q->closed && clock_ns() - start < EXPECT_NS;) {
        pthread_mutex_unlock(&q->lock);
        sched_yield();
        pthread_mutex_lock(&q->lock);
    }
}

struct queue_item *queue_wait(struct queue *q, int timeout_ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    pthread_mutex_lock(&q->lock);
    while (!q->head && !q->closed) {
        q->waiting = true;
        if (timeout_ms < 0) pthread_cond_wait(&q->filled, &q->lock);
        else if (pthread_cond_timedwait(&q->filled, &q->lock, &until) == ETIMEDOUT) break;
        if (q->expecting) await_expected(q);
    }
    q->waiting = false;
    struct queue_item *items = take_locked(q);
    pthread_mutex_unlock(&q->lock);
    return items;
}

int queue_fd(struct queue *q)
{
    struct waking w = {0};
    pthread_mutex_lock(&q->lock);
    q->watched = true;
    if (q->head || q->closed) w = waking_begin(q);
    pthread_mutex_unlock(&q->lock);
    waking_end(q, w);
    return q->fd;
}
