/* queue: how threads meet. A list of items embedded in the callers' structs; many writers, one reader. The reader
 * either sleeps in queue_wait or watches queue_fd in an event loop (readable while items may be waiting). Pushing and
 * taking make no system call where nobody sleeps: the engine looks into its queue before every step. */
#ifndef BASE_QUEUE_H
#define BASE_QUEUE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/err.h"

struct queue_item {
    struct queue_item *next;
};

struct queue {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct queue_item *head, **tail;
    bool closed;
    bool expecting;       /* an item is about to come */
    bool waiting;         /* the reader sleeps in queue_wait */
    bool watched;         /* the reader has asked for fd */
    bool raised;          /* fd is readable, or will be in a moment */
    int fd;               /* eventfd */
    atomic_uint n_waking; /* writers that have let go of the lock, but are still waking the reader */
};

bool queue_init(struct queue *q, struct err *e);
/* Items still inside are the caller's. A writer may still be on its way out of queue_push: that is waited for. */
void queue_deinit(struct queue *q);
/* Ownership of the item moves to the reader. false when the queue is closed: the caller keeps it. */
bool queue_push(struct queue *q, struct queue_item *item);
/* The same, but wakes nobody: for items that may wait until another push follows. */
bool queue_push_quietly(struct queue *q, struct queue_item *item);
/* An item will come within microseconds: a reader that sleeps in queue_wait wakes up meanwhile, and stays up for a
 * moment. Costs what waking costs, and nothing when nobody sleeps. */
void queue_expect(struct queue *q);
void queue_close(struct queue *q); /* pushes fail from now on, waiters wake; what is inside can still be taken */
/* All waiting items in order as a list, or NULL. Never blocks; clears the fd. */
struct queue_item *queue_take_all(struct queue *q);
/* The same, but sleeps until there are items, the queue is closed, or timeout_ms passed (-1 = no limit). */
struct queue_item *queue_wait(struct queue *q, int timeout_ms);
/* From the first call on, fd follows the list: a reader that sleeps in queue_wait only never pays for it. */
int queue_fd(struct queue *q);

#endif
