/* queue: see queue.h. One mutex around a list; the eventfd is written when the list stops being empty and read when it
 * is taken. */
#define _GNU_SOURCE
#include "base/queue.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

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
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->filled);
    close(q->fd);
}

/* Under the lock: what the reader sees in its event loop. */
static void raise_fd(struct queue *q)
{
    uint64_t one = 1;
    if (!q->watched || q->raised) return;
    ssize_t n = write(q->fd, &one, sizeof one); /* can only fail when the counter is full: still readable */
    (void)n;
    q->raised = true;
}

bool queue_push(struct queue *q, struct queue_item *item)
{
    pthread_mutex_lock(&q->lock);
    bool ok = !q->closed;
    if (ok) {
        item->next = NULL;
        *q->tail = item;
        q->tail = &item->next;
        raise_fd(q);
        if (q->waiting) pthread_cond_signal(&q->filled); /* inside the lock: behind it the reader may free the queue */
        q->waiting = false;
    }
    pthread_mutex_unlock(&q->lock);
    return ok;
}

void queue_close(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    raise_fd(q);
    pthread_cond_broadcast(&q->filled);
    pthread_mutex_unlock(&q->lock);
}

static struct queue_item *take_locked(struct queue *q)
{
    if (q->raised) {
        uint64_t count;
        ssize_t n = read(q->fd, &count, sizeof count);
        (void)n;
        q->raised = false;
    }
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
    }
    q->waiting = false;
    struct queue_item *items = take_locked(q);
    pthread_mutex_unlock(&q->lock);
    return items;
}

int queue_fd(struct queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->watched = true;
    if (q->head || q->closed) raise_fd(q);
    pthread_mutex_unlock(&q->lock);
    return q->fd;
}
