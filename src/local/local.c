/* local: see local.h. A job goes I/O thread -> worker (render, tokenise) -> engine -> I/O thread. It is owned by
 * whoever will report its last event, and freed on the I/O thread in local_pump; a job whose client left has no sink
 * any more, but still waits for that last event. There are two workers, one for messages and one for counts: agents
 * count forty small texts at once, and none may wait behind the prompt of somebody else. Requests so small that a
 * worker would take longer to wake up than to do them (local/quick.c) are the I/O thread's own. */
#include "local/local.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/queue.h"
#include "base/rng.h"
#include "local/answer.h"
#include "local/constrain.h"
#include "local/edits.h"
#include "local/prompt.h"
#include "local/quick.h"
#include "local/signature.h"

#define WHOLE_TOKENS 16                 /* of an answer in one piece: so often the I/O thread looks at it */
#define JOB_SLOTS 256                   /* hash buckets of running jobs */
#define MEMORY_BYTES ((size_t)64 << 20) /* of remembered answers */

struct job {
    struct queue_item work;   /* in a worker's queue */
    struct job *next_in_slot; /* in local.slots; I/O thread */
    struct local *local;
    struct chat_request *req;
    uint64_t handle;
    chat_sink *sink;             /* NULL: cancelled, or a count; I/O thread */
    chat_count_sink *count_sink; /* not NULL: only tokens are counted */
    void *ctx;
    atomic_bool cancelled;
    bool is_quick;                  /* no worker saw it */
    bool paused;                    /* under local.gate */
    atomic_uint_fast64_t engine_id; /* 0 = not submitted yet */
    uint32_t n_told;                /* tokens of the answer that are in the news; engine thread */
    struct prompt prompt;           /* set by the worker before the first news */
    struct lent_grammar grammar;    /* goes back after the last news */
    bool counts_reasoning;          /* the engine does */
    struct answer *answer;          /* from the first news on; I/O thread */
    bool started;                   /* I/O thread */
};

enum news_kind { NEWS_COUNTED, NEWS_TOKENISED, NEWS_TEXT, NEWS_FINISHED, NEWS_FAILED };
struct news { /* what worker and engine tell the I/O thread */
    struct queue_item item;
    struct job *job;
    enum news_kind kind;
    struct chat_usage usage;
    enum engine_finish finish;
    int stop_index;
    struct err err;
    const uint32_t *tokens; /* further ones of the answer; like text behind this */
    struct str text;
    size_t n_tokens;
};

enum { WORK_MESSAGES, WORK_COUNTS, N_WORKERS };
struct worker {
    struct queue jobs;
    pthread_t thread;
    struct local *local;
};

struct local {
    struct backend backend;
    struct engine *engine;
    const struct tokenizer *tokenizer;
    struct prompt_maker *prompts;
    struct call_memory *memory;
    struct constraints constraints;
    unsigned char key[SIGNATURE_KEY_BYTES];
    bool show_control; /* the dialect needs control tokens in the text */
    struct chat_sampling sampling;
    struct arena arena; /* the model's strings */
    struct chat_model model;
    struct queue news;
    struct worker workers[N_WORKERS];
    pthread_mutex_t gate; /* held while a job is handed to the engine: its news wait until that is recorded */
    uint64_t last_handle;
    struct job *slots[JOB_SLOTS]; /* by handle; I/O thread */
    atomic_uint n_jobs;           /* jobs whose last news has not been read */
};

/* ---- news: from any thread ---- */

static struct news *news_with(struct job *job, enum news_kind kind, const uint32_t *tokens, size_t n_tokens,
                              struct str text)
{
    struct news *n = mem_zalloc(sizeof *n + n_tokens * sizeof *tokens + text.len);
    uint32_t *ids = (uint32_t *)(void *)(n + 1);
    char *bytes = (char *)(ids + n_tokens);
    if (n_tokens) memcpy(ids, tokens, n_tokens * sizeof *tokens);
    if (text.len) memcpy(bytes, text.ptr, text.len);
    n->job = job;
    n->kind = kind;
    n->tokens = ids;
    n->n_tokens = n_tokens;
    n->text = (struct str){bytes, text.len};
    return n;
}

static struct news *news_create(struct job *job, enum news_kind kind)
{
    return news_with(job, kind, NULL, 0, STR_NONE);
}

/* may_wait: until the next ones; the I/O thread does not wake up for these. */
static void news_send(struct news *n, bool may_wait)
{
    struct queue *q = &n->job->local->news;
    bool ok = may_wait ? queue_push_quietly(q, &n->item) : queue_push(q, &n->item);
    if (!ok) mem_free(n); /* closed: local_destroy frees the jobs */
}

static void news_fail(struct job *job, const struct err *err)
{
    struct news *n = news_create(job, NEWS_FAILED);
    n->err = *err;
    news_send(n, false);
}

/* Further news come soon, or nobody waits for this: single words of an answer in one piece. The first of them tells
 * when it began; where a call may end the answer, each is looked at. */
static bool can_wait(const struct job *job, const struct engine_event *ev, uint32_t told)
{
    if (ev->kind != ENGINE_TEXT) return false;
    bool in_pieces = job->req->stream || job->req->n_tools;
    return ev->is_last || (told && !in_pieces && ev->n_generated % WHOLE_TOKENS);
}

/* Engine thread. */
static void on_engine_event(void *ctx, const struct engine_event *ev)
{
    struct job *job = ctx;
    if (ev->kind == ENGINE_STARTED || ev->kind == ENGINE_PREFILL) return;
    pthread_mutex_lock(&job->local->gate);
    pthread_mutex_unlock(&job->local->gate);
    if (ev->kind == ENGINE_FAILED) {
        news_fail(job, ev->err);
        return;
    }
    uint32_t told = job->n_told;
    struct news *n = news_with(job, ev->kind == ENGINE_TEXT ? NEWS_TEXT : NEWS_FINISHED, ev->tokens + told,
                               ev->n_generated - told, ev->text);
    job->n_told = ev->n_generated;
    n->usage = (struct chat_usage){.input_tokens = ev->n_prompt,
                                   .cached_tokens = ev->n_cached,
                                   .output_tokens = ev->n_generated,
                                   .thinking_tokens = ev->n_reasoning};
    n->finish = ev->finish;
    n->stop_index = ev->stop_index;
    news_send(n, can_wait(job, ev, told));
}

/* ---- the worker ---- */

static void pick_sampling(struct sampler_params *out, const struct chat_sampling *asked,
                          const struct chat_sampling *own)
{
    *out = SAMPLER_DEFAULTS;
#define PICK(field, cast)                                    \
    if (asked->has_##field) out->field = (cast)asked->field; \
    else if (own->has_##field) out->field = (cast)own->field
    PICK(temperature, float);
    PICK(top_p, float);
    PICK(top_k, int);
    PICK(min_p, float);
    PICK(repeat_penalty, float);
    PICK(presence_penalty, float);
    PICK(frequency_penalty, float);
#undef PICK
    if (asked->has_seed) out->seed = asked->seed;
    else if (own->has_seed) out->seed = own->seed;
    else rng_secure(&out->seed, sizeof out->seed);
}

/* By a worker: the news that the request was accepted come before the engine's, and who cancels or pauses it either
 * finds the engine's number or is found here. */
static bool hand_over(struct job *job, struct news *tokenised, const struct engine_request *request, struct err *e)
{
    struct local *l = job->local;
    uint64_t id = 0;
    pthread_mutex_lock(&l->gate);
    bool ok = engine_submit(l->engine, &id, request, e);
    if (ok) {
        news_send(tokenised, false);
        atomic_store(&job->engine_id, id);
        if (atomic_load(&job->cancelled)) engine_cancel(l->engine, id);
        else if (job->paused) engine_pause(l->engine, id, true);
    } else {
        mem_free(tokenised);
    }
    pthread_mutex_unlock(&l->gate);
    return ok;
}

/* By the I/O thread, which alone cancels, pauses and reads news: the engine need not wait for it. The news go first,
 * and count only if the engine took the request. */
static bool hand_over_quick(struct job *job, struct news *tokenised, const struct engine_request *request,
                            struct err *e)
{
    uint64_t id = 0;
    news_send(tokenised, false);
    if (!engine_submit(job->local->engine, &id, request, e)) return false;
    atomic_store(&job->engine_id, id);
    return true;
}

static bool submit_to_engine(struct job *job, const struct token_list *prompt, const struct engine_reasoning *reasoning,
                             struct err *e)
{
    struct local *l = job->local;
    struct engine_request request = {
        .tokens = prompt->ids,
        .n_tokens = (uint32_t)prompt->n,
        .max_tokens = job->req->has_max_tokens ? job->req->max_tokens : UINT32_MAX,
        .stops = job->req->stops,
        .n_stops = (uint32_t)job->req->n_stops,
        .salt = job->req->salt,
        .show_control = l->show_control,
        .grammar = job->grammar.grammar,
        .grammar_is_help = job->grammar.is_help,
        .reasoning = *reasoning,
        .sink = on_engine_event,
        .ctx = job,
    };
    if (l->model.max_output && request.max_tokens > l->model.max_output) request.max_tokens = l->model.max_output;
    pick_sampling(&request.sampling, &job->req->sampling, &l->sampling);
    struct news *tokenised = news_create(job, NEWS_TOKENISED);
    tokenised->usage.input_tokens = (uint32_t)prompt->n;
    return job->is_quick ? hand_over_quick(job, tokenised, &request, e) : hand_over(job, tokenised, &request, e);
}

static uint32_t count_text(void *ctx, struct str text)
{
    const struct local *l = ctx;
    struct token_list ids;
    token_list_init(&ids, (size_t)1 << 26);
    uint32_t n = tokenizer_encode(l->tokenizer, &ids, text, false, NULL, 0, NULL) ? (uint32_t)ids.n : 0;
    token_list_deinit(&ids);
    return n;
}

/* The prompt; with the client's edits where they are due. */
static bool make_prompt(struct job *job, struct token_list *prompt, struct prompt *text, struct err *e)
{
    struct local *l = job->local;
    struct chat_context *context = job->req->context;
    if (!prompt_tokens(l->prompts, prompt, text, job->req, e)) return false;
    if (context) context->original_tokens = (uint32_t)prompt->n;
    for (size_t i = 0; context && i < context->n_edits; i++) {
        uint32_t before = (uint32_t)prompt->n;
        if (!edits_apply(job->req, &context->edits[i], before, count_text, l)) continue;
        prompt_deinit(text);
        prompt_init(text);
        prompt->n = 0;
        if (!prompt_tokens(l->prompts, prompt, text, job->req, e)) return false;
        context->edits[i].cleared_tokens = prompt->n < before ? before - (uint32_t)prompt->n : 0;
    }
    return true;
}

/* A summary that came back: whether it is what was written here. */
static enum signature_kind read_summary(const struct job *job, struct buf *out, const struct chat_block *x)
{
    struct str text = x->text, start = STR(CHAT_SUMMARY_START), end = STR(CHAT_SUMMARY_END);
    if (!str_starts(text, start) || !str_ends(text, end)) return SIGNATURE_FOREIGN;
    text = str_slice(text, start.len, text.len - end.len);
    return signature_read(out, job->local->key, job->req->model, text, x->signature);
}

/* Reasoning that the client did not want to see comes back sealed in its signature: from here on it is text again. */
static void open_thinking(struct job *job)
{
    struct chat_request *req = job->req;
    struct buf text;
    size_t n[3] = {0};
    buf_init(&text, (size_t)64 << 20);
    for (size_t i = 0; i < req->n_messages; i++)
        for (size_t k = 0; k < req->messages[i].n_blocks; k++) {
            struct chat_block *x = &req->messages[i].blocks[k];
            if (x->kind != CHAT_THINKING && !(x->kind == CHAT_TEXT && x->signature.len)) continue;
            buf_clear(&text);
            if (x->kind == CHAT_TEXT) {
                bool own = read_summary(job, &text, x) == SIGNATURE_OWN;
                log_debug("the summary of the earlier conversation is %s", own ? "from here" : "foreign or changed");
                continue;
            }
            enum signature_kind kind = signature_read(&text, job->local->key, req->model, x->text, x->signature);
            struct str copy = kind == SIGNATURE_SEALED ? arena_try_str(&req->arena, buf_str(&text)) : STR_NONE;
            if (copy.ptr) x->text = copy;
            n[kind]++;
        }
    if (n[0] + n[1] + n[2])
        log_debug("reasoning of earlier turns: %zu from here, %zu sealed, %zu foreign or changed", n[SIGNATURE_OWN],
                  n[SIGNATURE_SEALED], n[SIGNATURE_FOREIGN]);
    buf_deinit(&text);
}

/* What cannot be honoured fails here, before anything was sent to the client. */
static bool constrain_and_submit(struct job *job, const struct token_list *prompt, const struct prompt *text,
                                 struct err *e)
{
    struct local *l = job->local;
    struct engine_reasoning reasoning;
    if (job->req->thinking == CHAT_THINKING_ON && !l->model.thinking)
        chat_note(job->req, "thinking: this model does not reason");
    if (!constrain_take(&job->grammar, &l->constraints, job->req, text, e)) return false;
    if (job->grammar.grammar && !engine_ready_grammar(l->engine, e)) return false;
    constrain_reasoning(&reasoning, &l->constraints, job->req, text);
    job->counts_reasoning = reasoning.end.len > 0;
    return submit_to_engine(job, prompt, &reasoning, e);
}

static void do_job(struct job *job)
{
    struct local *l = job->local;
    struct err e = {0};
    struct token_list prompt;
    token_list_init(&prompt, (size_t)1 << 26);
    uint32_t room = engine_n_ctx(l->engine);
    bool ok = !atomic_load(&job->cancelled);
    if (!ok) err_set(&e, ERR_CANCELLED, "cancelled");
    if (ok) open_thinking(job);
    ok = ok && make_prompt(job, &prompt, &job->prompt, &e);
    if (ok && prompt.n == 0) ok = err_set(&e, ERR_INVALID, "messages: the conversation renders to an empty prompt");
    if (ok && job->count_sink) {
        struct news *n = news_create(job, NEWS_COUNTED);
        n->usage.input_tokens = (uint32_t)prompt.n;
        news_send(n, false);
    } else if (ok && prompt.n >= room) {
        ok = err_set(&e, ERR_INVALID, "prompt is too long: %zu tokens > %u maximum", prompt.n, room - 1);
    } else if (ok) {
        prompt_forget_text(&job->prompt);
        ok = constrain_and_submit(job, &prompt, &job->prompt, &e);
    }
    if (!ok) news_fail(job, &e);
    token_list_deinit(&prompt);
}

static void *worker_main(void *ctx)
{
    struct worker *w = ctx;
    for (;;) {
        struct queue_item *items = queue_wait(&w->jobs, -1);
        if (!items) return NULL; /* closed */
        while (items) {
            struct job *job = (struct job *)(void *)items; /* work is the first member */
            items = items->next;
            do_job(job);
        }
    }
}

/* ---- jobs: I/O thread ---- */

static struct job *job_start(struct local *l, struct chat_request *req, chat_sink *sink, chat_count_sink *count_sink,
                             void *ctx)
{
    struct job *job = mem_zalloc(sizeof *job);
    job->local = l;
    job->req = req;
    job->handle = ++l->last_handle;
    job->sink = sink;
    job->count_sink = count_sink;
    job->ctx = ctx;
    prompt_init(&job->prompt);
    lent_grammar_init(&job->grammar);
    struct job **slot = &l->slots[job->handle % JOB_SLOTS];
    job->next_in_slot = *slot;
    *slot = job;
    atomic_fetch_add(&l->n_jobs, 1);
    job->is_quick = quick_request(req);
    if (job->is_quick && !count_sink) engine_expect(l->engine);
    if (job->is_quick) do_job(job);
    else queue_push(&l->workers[count_sink ? WORK_COUNTS : WORK_MESSAGES].jobs, &job->work);
    return job;
}

static struct job *job_find(struct local *l, uint64_t handle)
{
    struct job *job = l->slots[handle % JOB_SLOTS];
    while (job && job->handle != handle) job = job->next_in_slot;
    return job;
}

static void job_free(struct job *job)
{
    struct job **at = &job->local->slots[job->handle % JOB_SLOTS];
    while (*at != job) at = &(*at)->next_in_slot;
    *at = job->next_in_slot;
    atomic_fetch_sub(&job->local->n_jobs, 1);
    answer_destroy(job->answer);
    prompt_deinit(&job->prompt);
    lent_grammar_deinit(&job->grammar, &job->local->constraints);
    chat_request_destroy(job->req);
    mem_free(job);
}

static uint64_t backend_submit(void *self, struct chat_request *req, chat_sink *sink, void *ctx)
{
    return job_start(self, req, sink, NULL, ctx)->handle;
}

static void backend_count(void *self, struct chat_request *req, chat_count_sink *sink, void *ctx)
{
    job_start(self, req, NULL, sink, ctx);
}

static void backend_cancel(void *self, uint64_t handle)
{
    struct job *job = job_find(self, handle);
    if (!job) return;
    job->sink = NULL;
    if (job->answer) answer_finish(job->answer, true); /* the client may send back what it has got */
    atomic_store(&job->cancelled, true);
    uint64_t id = atomic_load(&job->engine_id);
    if (id) engine_cancel(job->local->engine, id);
}

static void backend_pause(void *self, uint64_t handle, bool paused)
{
    struct job *job = job_find(self, handle);
    if (!job) return;
    pthread_mutex_lock(&job->local->gate);
    job->paused = paused;
    uint64_t id = atomic_load(&job->engine_id);
    if (id) engine_pause(job->local->engine, id, paused);
    pthread_mutex_unlock(&job->local->gate);
}

static const struct chat_model *backend_models(void *self, size_t *n)
{
    *n = 1;
    return &((struct local *)self)->model;
}

static int backend_poll_fd(void *self)
{
    return queue_fd(&((struct local *)self)->news);
}

/* ---- events: I/O thread ---- */

static void emit(struct job *job, struct chat_event ev)
{
    if (job->sink) job->sink(job->ctx, &ev);
}

static void emit_start(struct job *job, struct chat_usage usage)
{
    if (job->started) return;
    job->started = true;
    usage.output_tokens = 0;
    emit(job, (struct chat_event){.kind = CHAT_EVENT_START, .usage = usage, .notes = job->req->notes});
}

static void on_block_event(void *ctx, const struct chat_event *ev)
{
    emit(ctx, *ev);
}

static struct answer *answer_of(struct job *job)
{
    struct local *l = job->local;
    const struct prompt *p = &job->prompt;
    if (job->answer) return job->answer;
    struct answer_config config = {.dialect = prompt_dialect(l->prompts),
                                   .req = job->req,
                                   .memory = l->memory,
                                   .key = l->key,
                                   .tokenizer = l->tokenizer,
                                   .given = buf_str(&p->given),
                                   .opened_call = buf_str(&p->opened_call),
                                   .given_runs = &p->given_runs,
                                   .in_thinking = p->in_thinking,
                                   .ahead = buf_str(&p->ahead),
                                   .ahead_free = p->ahead_free,
                                   .sink = on_block_event,
                                   .ctx = job};
    return job->answer = answer_create(&config);
}

static void emit_finish(struct job *job, const struct news *n, enum chat_stop stop)
{
    bool by_model = stop == CHAT_STOP_END || stop == CHAT_STOP_TOOL_USE;
    answer_finish(answer_of(job), !by_model);
    if ((by_model || stop == CHAT_STOP_SEQUENCE) && answer_calls(job->answer)) stop = CHAT_STOP_TOOL_USE;
    struct chat_event ev = {.kind = CHAT_EVENT_FINISH, .stop = stop, .usage = n->usage, .context = job->req->context};
    /* A call may begin in the reasoning: then only the parser knows where it ended. */
    bool has_ended = n->usage.thinking_tokens < n->usage.output_tokens || !answer_calls(job->answer);
    if (!job->counts_reasoning || !has_ended) ev.usage.thinking_tokens = answer_thinking_tokens(job->answer);
    if (stop == CHAT_STOP_SEQUENCE) ev.stop_sequence = job->req->stops[n->stop_index];
    emit(job, ev);
}

static void emit_text(struct job *job, const struct news *n)
{
    bool is_complete = answer_feed(answer_of(job), n->text, n->tokens, n->n_tokens);
    if (!is_complete || !job->sink) return;
    emit_finish(job, n, CHAT_STOP_TOOL_USE);
    backend_cancel(job->local, job->handle);
}

static enum chat_stop stop_of(const struct news *n)
{
    static const enum chat_stop stops[] = {
        [FINISH_EOG] = CHAT_STOP_END,
        [FINISH_LENGTH] = CHAT_STOP_MAX_TOKENS,
        [FINISH_CONTEXT] = CHAT_STOP_CONTEXT,
        [FINISH_STOP_STRING] = CHAT_STOP_SEQUENCE,
    };
    return stops[n->finish];
}

static void on_news(struct news *n)
{
    struct job *job = n->job;
    switch (n->kind) {
    case NEWS_COUNTED: job->count_sink(job->ctx, n->usage.input_tokens, job->req->context, NULL); break;
    case NEWS_TOKENISED:
        if (atomic_load(&job->engine_id)) emit_start(job, n->usage);
        return;
    case NEWS_TEXT:
        emit_start(job, n->usage);
        if (job->sink) emit_text(job, n);
        return;
    case NEWS_FINISHED:
        emit_start(job, n->usage);
        if (job->sink) answer_feed(answer_of(job), STR_NONE, n->tokens, n->n_tokens);
        if (job->sink) emit_finish(job, n, stop_of(n));
        break;
    case NEWS_FAILED:
        if (job->count_sink) job->count_sink(job->ctx, 0, NULL, &n->err);
        else emit(job, (struct chat_event){.kind = CHAT_EVENT_ERROR, .err = &n->err});
        break;
    }
    job_free(job);
}

static void backend_pump(void *self)
{
    struct local *l = self;
    for (struct queue_item *i = queue_take_all(&l->news), *next; i; i = next) {
        next = i->next;
        struct news *n = (struct news *)(void *)i; /* item is the first member */
        on_news(n);
        mem_free(n);
    }
}

/* ---- life ---- */

static bool copy_names(struct local *l, const struct local_config *config, struct err *e)
{
    struct chat_model *m = &l->model;
    m->id = m->display_name = arena_try_str(&l->arena, config->model_id);
    m->aliases = arena_try_alloc(&l->arena, (config->n_aliases + 1) * sizeof *m->aliases);
    bool ok = m->id.ptr && m->aliases;
    for (size_t i = 0; ok && i < config->n_aliases; i++) {
        m->aliases[i] = arena_try_str(&l->arena, config->aliases[i]);
        ok = m->aliases[i].ptr != NULL;
    }
    m->n_aliases = config->n_aliases;
    return ok || err_set(e, ERR_TOO_LARGE, "the model's names are larger than 1 MiB");
}

static void note_dialect(struct local *l)
{
    struct dialect_traits traits;
    dialect_traits_get(prompt_dialect(l->prompts), &traits);
    l->show_control = traits.calls_are_control;
    l->model.tools = true;
    l->model.thinking = prompt_thinks(l->prompts);
    l->model.structured = true;
    constraints_init(&l->constraints, prompt_dialect(l->prompts));
}

/* The first n; jobs that wait in their queues are reported as failed. */
static void stop_workers(struct local *l, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        queue_close(&l->workers[i].jobs);
        pthread_join(l->workers[i].thread, NULL);
        queue_deinit(&l->workers[i].jobs);
    }
}

static bool start_workers(struct local *l, struct err *e)
{
    for (size_t i = 0; i < N_WORKERS; i++) {
        struct worker *w = &l->workers[i];
        w->local = l;
        if (queue_init(&w->jobs, e)) {
            if (pthread_create(&w->thread, NULL, worker_main, w) == 0) continue;
            queue_deinit(&w->jobs);
            err_set(e, ERR_IO, "cannot start the tokenising threads");
        }
        stop_workers(l, i);
        return false;
    }
    return true;
}

struct local *local_create(struct engine *g, const struct tokenizer *t, const struct local_config *config,
                           struct err *e)
{
    struct local *l = mem_zalloc(sizeof *l);
    l->engine = g;
    l->tokenizer = t;
    pthread_mutex_init(&l->gate, NULL);
    l->sampling = config->sampling;
    arena_init(&l->arena, (size_t)1 << 20);
    l->model = (struct chat_model){
        .created = config->model_created,
        .n_ctx = engine_n_ctx(g),
        .max_output = config->max_output ? config->max_output : engine_n_ctx(g),
        .n_params = config->n_params,
        .size_bytes = config->size_bytes,
    };
    l->backend = (struct backend){.self = l,
                                  .submit = backend_submit,
                                  .cancel = backend_cancel,
                                  .pause = backend_pause,
                                  .count = backend_count,
                                  .models = backend_models,
                                  .poll_fd = backend_poll_fd,
                                  .pump = backend_pump};
    l->memory = call_memory_create(MEMORY_BYTES);
    signature_key_load(l->key, config->key_path);
    if (!copy_names(l, config, e)) goto out_arena;
    if (!(l->prompts = prompt_maker_create(t, config->chat_template, config->dialect, l->memory, e))) goto out_arena;
    note_dialect(l);
    if (!queue_init(&l->news, e)) goto out_prompts;
    if (start_workers(l, e)) return l;
    queue_deinit(&l->news);
out_prompts:
    prompt_maker_destroy(l->prompts);
out_arena:
    constraints_deinit(&l->constraints);
    call_memory_destroy(l->memory);
    arena_deinit(&l->arena);
    mem_free(l);
    return NULL;
}

void local_destroy(struct local *l)
{
    if (!l) return;
    for (size_t i = 0; i < JOB_SLOTS; i++)
        for (struct job *job = l->slots[i]; job; job = job->next_in_slot) {
            backend_cancel(l, job->handle);
            job->count_sink = NULL;
        }
    stop_workers(l, N_WORKERS);
    while (atomic_load(&l->n_jobs) > 0) { /* the engine ends every cancelled request within a step */
        for (struct queue_item *i = queue_wait(&l->news, 1000), *next; i; i = next) {
            next = i->next;
            struct news *n = (struct news *)(void *)i;
            if (n->kind != NEWS_TOKENISED && n->kind != NEWS_TEXT) job_free(n->job);
            mem_free(n);
        }
    }
    queue_deinit(&l->news);
    prompt_maker_destroy(l->prompts);
    constraints_deinit(&l->constraints);
    call_memory_destroy(l->memory);
    arena_deinit(&l->arena);
    mem_free(l);
}

struct backend *local_backend(struct local *l)
{
    return &l->backend;
}

bool local_describe(struct buf *out, const struct tokenizer *t, struct str chat_template, struct str dialect,
                    struct err *e)
{
    struct prompt_maker *p = prompt_maker_create(t, chat_template, dialect, NULL, e);
    bool ok = p && (prompt_describe(p, out) || err_set(e, ERR_TOO_LARGE, "the description does not fit the buffer"));
    prompt_maker_destroy(p);
    return ok;
}

bool local_render(const struct local *l, struct buf *out, const struct chat_request *req, struct err *e)
{
    struct prompt p;
    prompt_init(&p);
    bool ok = prompt_render(l->prompts, &p, req, e) &&
              (buf_append(out, buf_str(&p.text)) || err_set(e, ERR_TOO_LARGE, "the prompt does not fit the buffer"));
    prompt_deinit(&p);
    return ok;
}
