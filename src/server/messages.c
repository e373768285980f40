/* messages: POST /v1/messages and count_tokens, from the body to the backend: decoding, perhaps on a thread; whether
 * the same was asked before; the thread that it continues; the model. What follows is delivery.c. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/log.h"
#include "server/server_internal.h"

/* What all backends can do so far. */
static const struct anthropic_support support = {.thinking = true, .tools = true, .output_schema = true, .pdf = true};

#define INLINE_MAX_BYTES ((size_t)64 << 10) /* longer bodies are decoded on a thread */

/* bytes: what the next step of decoding has to read. */
static void job_run(struct decode_job *job, size_t bytes)
{
    if (bytes <= INLINE_MAX_BYTES) {
        decode_job_run(job);
        if (!decode_job_has_files(job)) {
            if (messages_decoded(job)) decode_job_free(job);
            else job_run(job, job->held ? job->held->messages.len : thread_bytes(job->thread));
            return;
        }
    }
    job->call->job = job;
    decoder_submit(job->server->decoder, job);
}

/* Whether any model sees; which one is asked is known only after decoding. */
static bool sees_images(const struct server *s)
{
    size_t n;
    const struct chat_model *m = s->backend->models(s->backend->self, &n);
    for (size_t i = 0; i < n; i++)
        if (m[i].images) return true;
    return !n; /* still loading: that is the better answer */
}

static void decode(struct call *c, enum anthropic_call kind)
{
    struct server *s = c->server;
    struct buf *body = http_body(c->x);
    if (s->requests_bytes + body->len > s->config->max_requests_bytes) generation_drop_idle(s);
    if (s->requests_bytes + body->len > s->config->max_requests_bytes) {
        call_refuse(c, 529, NULL, "too many large requests at one time");
        return;
    }
    c->body_bytes = body->len;
    s->requests_bytes += body->len;
    struct decode_job *job = mem_zalloc(sizeof *job);
    *job = (struct decode_job){.server = s, .call = c, .kind = kind, .support = support};
    job->support.images = sees_images(s);
    anthropic_history_init(&job->added, s->config->limits.max_body_bytes);
    http_body_take(c->x, &job->text);
    job_run(job, c->body_bytes);
}

void messages_create(struct call *c)
{
    struct str retries = http_header(c->x, "x-stainless-retry-count");
    if (retries.len && retries.ptr[0] > '0' && retries.ptr[0] <= '9') c->retry_count = (uint32_t)(retries.ptr[0] - '0');
    decode(c, ANTHROPIC_CREATE);
}

void messages_count(struct call *c)
{
    decode(c, ANTHROPIC_COUNT);
}

/* ---- asked before ---- */

static bool take_over(struct call *c, const struct decode_job *job)
{
    struct str session = http_header(c->x, "x-claude-code-session-id");
    struct resend again = {.hash = job->hash, .key_id = c->key_id, .is_retry = c->retry_count > 0};
    again.session_hash = session.len ? hash64(session.ptr, session.len, 0) | 1 : 0;
    struct generation *g = c->server->drain_since_ns ? NULL : generation_find(c->server, &again);
    if (g) generation_attach(g, c);
    return g != NULL;
}

/* ---- threads ---- */

/* Finds what the body continues; false: the call was answered with an error. */
static bool claim_thread(struct decode_job *job)
{
    struct call *c = job->call;
    struct anthropic_error e;
    if (!c->server->threads) {
        call_refuse(c, 400, "thread_unsupported_request",
                    "thread: this server does not hold message threads: send the whole conversation");
        return false;
    }
    if (job->body.thread != ANTHROPIC_THREAD_CONTINUE) return true;
    if (job->kind == ANTHROPIC_COUNT) {
        job->held = threads_copy(c->server->threads, job->body.previous_id, c->key_id, &e);
        if (!job->held) call_error(c, &e);
        return job->held != NULL;
    }
    job->thread = threads_claim(c->server->threads, job->body.previous_id, c->key_id, &e);
    if (!job->thread) call_error(c, &e);
    return job->thread != NULL;
}

/* ---- models ---- */

static void refuse_model(struct call *c, size_t n_models)
{
    if (c->server->drain_since_ns) {
        call_refuse(c, 529, NULL, "the server is shutting down");
    } else if (!n_models) {
        call_refuse(c, 529, NULL, "the model is still loading");
    } else {
        struct buf names;
        buf_init(&names, 600);
        models_names(c->server, &names);
        call_refuse(c, 404, NULL, "model: %.*s (known: %.*s)", STR_ARG(buf_str(&c->model_name)),
                    STR_ARG(buf_str(&names)));
        buf_deinit(&names);
    }
}

/* The model that the request names; NULL: the call was answered with an error. */
static const struct chat_model *find_model(struct call *c, const struct decode_job *job)
{
    struct server *s = c->server;
    size_t n;
    snprintf(c->model, sizeof c->model, "%.*s", STR_ARG(job->r->model));
    buf_append(&c->model_name, job->r->model);
    s->backend->models(s->backend->self, &n);
    const struct chat_model *m = models_resolve(s, job->r->model);
    if (!n || !m || s->drain_since_ns) {
        refuse_model(c, n);
        return NULL;
    }
    if (job->r->n_images && !m->images) {
        call_refuse(c, 400, NULL, "the model has no image input (capability_rejected: image_block)");
        return NULL;
    }
    if (job->thread && !str_eq(thread_model(job->thread), m->id)) {
        call_refuse(c, 400, "thread_fingerprint_mismatch",
                    "model: differs from the model that the thread was created with");
        return NULL;
    }
    return m;
}

/* ---- to the backend ---- */

static void count(struct call *c, struct chat_request *r);

static void start(struct call *c, struct decode_job *job)
{
    struct server *s = c->server;
    const struct chat_model *m = find_model(c, job);
    if (!m) return;
    uint32_t most = s->config->max_per_key;
    if (job->kind == ANTHROPIC_CREATE && most && generation_count(s, c->key_id) >= most) {
        call_refuse(c, 429, NULL, "this key may have %u requests at one time", most);
        return;
    }
    struct chat_request *r = job->r;
    job->r = NULL;
    notes_unknown_fields(s, r->json);
    r->model = m->id;
    r->salt = c->salt;
    struct str session = arena_try_str(&r->arena, http_header(c->x, "x-claude-code-session-id"));
    if (session.len) r->session_id = session;
    r->agent_id = arena_try_str(&r->arena, http_header(c->x, "x-claude-code-agent-id"));
    if (job->kind == ANTHROPIC_CREATE) generation_start(c, r, job, m);
    else count(c, r);
}

bool messages_decoded(struct decode_job *job)
{
    struct call *c = job->call;
    c->job = NULL;
    if (!job->is_decoded) {
        /* A repeated request finds its own answer, not a thread in use. */
        if (take_over(c, job) || !claim_thread(job)) return true;
        c->job = job;
        return false;
    }
    if (!job->r) call_error(c, &job->error);
    else if (job->kind != ANTHROPIC_CREATE || !take_over(c, job)) start(c, job);
    return true;
}

static void on_count(void *ctx, uint32_t n_tokens, const struct chat_context *context, const struct err *err)
{
    struct call *c = ctx;
    c->is_counting = false;
    if (!c->x) {
        call_close(c, "the client left");
        return;
    }
    if (err) {
        struct anthropic_error e;
        anthropic_error_from(&e, err);
        if (e.status >= 500) log_warn("%s: %s: %s", c->request_id, err_kind_name(err->kind), err->msg);
        call_error(c, &e);
        return;
    }
    c->usage.input_tokens = n_tokens;
    anthropic_count_write(&c->out, n_tokens, context);
    call_reply(c, 200, "application/json", buf_str(&c->out));
}

static void count(struct call *c, struct chat_request *r)
{
    const struct backend *b = c->server->backend;
    c->is_counting = true;
    b->count(b->self, r, on_count, c);
}
