/* decoder: parsing a long body takes tens of milliseconds a megabyte, and other streams must not wait for it: such
 * bodies are decoded on a thread. A job belongs to that thread between the two queues; its call is touched on the I/O
 * thread only, and a call that ends before just leaves its job. */
#include <openssl/sha.h>
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

void decode_job_free(struct decode_job *job)
{
    if (job->r) chat_request_destroy(job->r);
    prompt_print_destroy(job->print);
    threads_release(job->thread);
    anthropic_body_deinit(&job->body);
    anthropic_history_deinit(&job->added);
    buf_deinit(&job->text);
    mem_free(job);
}

static bool job_parse(struct decode_job *job)
{
    char empty[1] = "";
    char *text = job->text.ptr ? job->text.ptr : empty;
    SHA256((const unsigned char *)text, job->text.len, job->hash); /* before parsing, which changes the text */
    job->is_parsed = anthropic_body_parse(&job->body, text, job->text.len, &job->error);
    buf_deinit(&job->text);
    return job->is_parsed;
}

/* Stops after parsing when the server has to look at the thread first. */
void decode_job_run(struct decode_job *job)
{
    bool has_thread = job->body.thread != ANTHROPIC_THREAD_NONE;
    if (!job->is_parsed) {
        if (!job_parse(job) || job->body.thread != ANTHROPIC_THREAD_NONE) return;
    }
    if (has_thread) anthropic_history_add_body(&job->added, &job->body); /* too large: it is not kept */
    bool ok = !job->thread || anthropic_body_continue(&job->body, thread_history(job->thread), &job->error);
    ok = ok && anthropic_body_decode(&job->r, &job->body, job->kind, &job->support, &job->error);
    job->is_failed = !ok;
    if (ok && job->body.wants_diagnostics) job->print = prompt_print_create(job->r);
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
            if (!queue_push(&d->out, item)) decode_job_free(job);
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
        if (!job->call || messages_decoded(job)) decode_job_free(job);
        else decoder_submit(d, job);
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
        decode_job_free((struct decode_job *)item);
    }
    queue_deinit(&d->in);
    queue_deinit(&d->out);
    mem_free(d);
}

void decoder_submit(struct decoder *d, struct decode_job *job)
{
    if (!queue_push(&d->in, &job->item)) decode_job_free(job);
}
