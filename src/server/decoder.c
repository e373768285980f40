/* decoder: parsing a long body takes tens of milliseconds a megabyte, and reading a PDF seconds; other streams must not
 * wait for either, nor a body for somebody's PDF. So there are lanes, each a thread with a queue: one for long bodies,
 * two for requests with documents. A job belongs to a lane between the two queues; its call is touched on the I/O
 * thread only, and a call that ends before just leaves its job. */
#include <openssl/sha.h>
#include <pthread.h>
#include <signal.h>

#include "base/alloc.h"
#include "base/queue.h"
#include "server/server_internal.h"

#define N_LANES 3 /* the first is for bodies */

struct lane {
    struct decoder *decoder;
    struct queue in;
    pthread_t thread;
    bool has_queue, has_thread;
    size_t n_jobs; /* I/O thread: inside, done or not */
};

struct decoder {
    struct lane lanes[N_LANES];
    struct queue out;
    bool has_out;
    struct pdf_reader *pdfs;
    struct http_watch *watch;
};

void decode_job_free(struct decode_job *job)
{
    if (job->r) chat_request_destroy(job->r);
    prompt_print_destroy(job->print);
    threads_release(job->thread);
    threads_free_copy(job->held);
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
    bool ok = anthropic_body_parse(&job->body, text, job->text.len, &job->error);
    job->is_parsed = true;
    job->is_decoded = !ok;
    buf_deinit(&job->text);
    return ok;
}

void decode_job_run(struct decode_job *job)
{
    if (!job->is_parsed && (!job_parse(job) || job->body.thread != ANTHROPIC_THREAD_NONE)) return;
    if (job->body.thread != ANTHROPIC_THREAD_NONE)
        anthropic_history_add_body(&job->added, &job->body); /* too large: it is not kept */
    const struct anthropic_history *held = job->thread ? thread_history(job->thread) : job->held;
    bool ok = !held || anthropic_body_continue(&job->body, held, &job->error);
    ok = ok && anthropic_body_decode(&job->r, &job->body, job->kind, &job->support, &job->error);
    if (!ok) job->r = NULL;
    if (ok && job->body.wants_diagnostics) job->print = prompt_print_create(job->r);
    job->is_decoded = true;
}

bool decode_job_has_files(const struct decode_job *job)
{
    return job->r && job->r->n_documents;
}

static void *run(void *arg)
{
    struct lane *lane = arg;
    struct decoder *d = lane->decoder;
    for (;;) {
        struct queue_item *item = queue_wait(&lane->in, -1);
        if (!item) return NULL;
        while (item) {
            struct queue_item *next = item->next;
            struct decode_job *job = (struct decode_job *)item;
            if (!job->is_decoded) decode_job_run(job);
            else documents_read(job, d->pdfs);
            if (!queue_push(&d->out, item)) decode_job_free(job);
            item = next;
        }
    }
}

static void on_done(void *ctx)
{
    struct decoder *d = ctx;
    struct queue_item *item = queue_take_all(&d->out);
    while (item) {
        struct decode_job *job = (struct decode_job *)item;
        item = item->next;
        d->lanes[job->lane].n_jobs--;
        bool is_done = !job->call || (!decode_job_has_files(job) && messages_decoded(job));
        if (is_done) decode_job_free(job);
        else decoder_submit(d, job);
    }
}

static bool start_lanes(struct decoder *d, struct err *e)
{
    sigset_t all, before;
    bool ok = true;
    for (size_t i = 0; ok && i < N_LANES; i++) {
        d->lanes[i].decoder = d;
        ok = d->lanes[i].has_queue = queue_init(&d->lanes[i].in, e);
    }
    if (!ok) return false;
    sigfillset(&all);
    /* Signals are the I/O thread's. */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    for (size_t i = 0; ok && i < N_LANES; i++)
        ok = d->lanes[i].has_thread = !pthread_create(&d->lanes[i].thread, NULL, run, &d->lanes[i]);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return ok || err_set(e, ERR_IO, "cannot start the decoder's threads");
}

struct decoder *decoder_create(struct http_loop *loop, const struct pdf_config *pdf, struct err *e)
{
    struct decoder *d = mem_zalloc(sizeof *d);
    d->pdfs = pdf_reader_create(pdf);
    d->has_out = queue_init(&d->out, e);
    bool ok = d->has_out;
    if (ok) {
        d->watch = http_watch_create(loop, queue_fd(&d->out), on_done, d);
        ok = d->watch ? start_lanes(d, e) : err_set(e, ERR_IO, "cannot watch the decoder");
    }
    if (ok) return d;
    decoder_destroy(d);
    return NULL;
}

void decoder_destroy(struct decoder *d)
{
    if (!d) return;
    pdf_reader_stop(d->pdfs);
    for (size_t i = 0; i < N_LANES; i++)
        if (d->lanes[i].has_queue) queue_close(&d->lanes[i].in);
    for (size_t i = 0; i < N_LANES; i++)
        if (d->lanes[i].has_thread) pthread_join(d->lanes[i].thread, NULL);
    http_watch_destroy(d->watch);
    for (struct queue_item *item = d->has_out ? queue_take_all(&d->out) : NULL, *next; item; item = next) {
        next = item->next;
        decode_job_free((struct decode_job *)item);
    }
    for (size_t i = 0; i < N_LANES; i++)
        if (d->lanes[i].has_queue) queue_deinit(&d->lanes[i].in);
    if (d->has_out) queue_deinit(&d->out);
    pdf_reader_destroy(d->pdfs);
    mem_free(d);
}

void decoder_submit(struct decoder *d, struct decode_job *job)
{
    size_t lane = 0;
    if (job->is_decoded)
        for (size_t i = lane = 1; i < N_LANES; i++)
            if (d->lanes[i].n_jobs < d->lanes[lane].n_jobs) lane = i;
    job->lane = (uint32_t)lane;
    if (job->is_decoded && job->kind == ANTHROPIC_CREATE && job->r->stream) delivery_wait(job->call);
    d->lanes[lane].n_jobs++;
    if (!queue_push(&d->lanes[lane].in, &job->item)) decode_job_free(job);
}
