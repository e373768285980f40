/* decoder: parsing a long body takes tens of milliseconds a megabyte, and other streams must not wait for it: such
 * bodies are decoded on a thread. A job belongs to that thread between the two queues; its call is touched on the I/O
 * thread only, and a call that ends before just leaves its job. */
#include <pthread.h>
#include <signal.h>

#include "base/alloc.h"
#include "base/queue.h"
#include "server/server_internal.h"

struct decoder {
    struct queue in, out;
    pthread_t thread;
    struct http_watch *watch;
};

static void job_free(struct decode_job *job)
{
    if (job->r) chat_request_destroy(job->r);
    buf_deinit(&job->body);
    mem_free(job);
}

void decode_job_run(struct decode_job *job)
{
    char empty[1] = "";
    char *text = job->body.ptr ? job->body.ptr : empty;
    if (!anthropic_request_decode(&job->r, text, job->body.len, job->kind, &job->support, &job->error)) job->r = NULL;
    buf_deinit(&job->body);
}

static void *run(void *arg)
{
    struct decoder *d = arg;
    for (;;) {
        struct queue_item *item = queue_wait(&d->in, -1);
        if (!item) return NULL;
        while (item) {
            struct queue_item *next = item->next;
            struct decode_job *job = (struct decode_job *)item;
            decode_job_run(job);
            if (!queue_push(&d->out, item)) job_free(job);
            item = next;
        }
    }
}

static void on_decoded(void *ctx)
{
    struct decoder *d = ctx;
    struct queue_item *item = queue_take_all(&d->out);
    while (item) {
        struct decode_job *job = (struct decode_job *)item;
        item = item->next;
        if (job->call) {
            struct chat_request *r = job->r;
            job->r = NULL;
            job->call->job = NULL;
            messages_decoded(job->call, job->kind, r, &job->error);
        }
        job_free(job);
    }
}

struct decoder *decoder_create(struct http_loop *loop, struct err *e)
{
    struct decoder *d = mem_zalloc(sizeof *d);
    bool in = queue_init(&d->in, e);
    bool out = in && queue_init(&d->out, e);
    d->watch = out ? http_watch_create(loop, queue_fd(&d->out), on_decoded, d) : NULL;
    sigset_t all, before;
    sigfillset(&all);
    /* Signals are the I/O thread's. */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    bool ok = d->watch && !pthread_create(&d->thread, NULL, run, d);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (ok) return d;
    if (out) err_set(e, ERR_IO, "cannot start the decoder's thread");
    http_watch_destroy(d->watch);
    if (out) queue_deinit(&d->out);
    if (in) queue_deinit(&d->in);
    mem_free(d);
    return NULL;
}

void decoder_destroy(struct decoder *d)
{
    if (!d) return;
    queue_close(&d->in);
    pthread_join(d->thread, NULL);
    http_watch_destroy(d->watch);
    for (struct queue_item *item = queue_take_all(&d->out), *next; item; item = next) {
        next = item->next;
        job_free((struct decode_job *)item);
    }
    queue_deinit(&d->in);
    queue_deinit(&d->out);
    mem_free(d);
}

void decoder_submit(struct decoder *d, struct decode_job *job)
{
    if (!queue_push(&d->in, &job->item)) job_free(job);
}
