/* messages: POST /v1/messages and count_tokens, from the body to the last byte of the answer. Between submit and the
 * last event a call belongs to two sides, the client and the backend: whichever ends it first tells the other. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "server/server_internal.h"

/* What all backends can do so far. */
static const struct anthropic_support support = {.thinking = true, .tools = true, .output_schema = true, .pdf = true};

static void cancel(struct call *c)
{
    const struct backend *b = c->server->backend;
    if (c->handle) b->cancel(b->self, c->handle);
    c->handle = 0;
}

static uint32_t ms_since(uint64_t t)
{
    return (uint32_t)((clock_ns() - t) / 1000000);
}

/* Cuts the connection: there is no legal way left to say what happened. */
static void cut(struct call *c, const char *note)
{
    struct http_exchange *x = c->x;
    cancel(c);
    c->x = NULL;
    http_reply_abort(x);
    call_close(c, note);
}

/* Sends what is in c->out and empties it; false: the call was ended because too much is waiting. */
static bool send_out(struct call *c)
{
    const struct backend *b = c->server->backend;
    if (!c->out.len && !c->out.failed) return true;
    if (!c->is_started) call_reply_start(c, "text/event-stream; charset=utf-8");
    if (!c->first_ns) c->first_ns = clock_ns();
    if (c->out.failed || !http_reply_write(c->x, buf_str(&c->out))) {
        cut(c, "the answer is larger than the output limit");
        return false;
    }
    buf_clear(&c->out);
    c->written_ns = clock_ns();
    if (http_is_congested(c->x) && !c->is_paused && c->handle) {
        c->is_paused = true;
        b->pause(b->self, c->handle, true);
    }
    return true;
}

static void end(struct call *c, const char *note)
{
    struct http_exchange *x = c->x;
    c->x = NULL;
    c->handle = 0;
    http_set_callbacks(x, NULL, NULL, NULL);
    http_reply_end(x);
    call_close(c, note);
}

/* The failure of a message as the client may still be told: a status, an event, or a cut. */
static void fail(struct call *c, const struct anthropic_error *e)
{
    cancel(c);
    if (!c->is_started) {
        call_error(c, e);
    } else if (c->is_stream) {
        buf_clear(&c->out);
        anthropic_answer_fail(&c->answer, &c->out, e);
        c->status = e->status;
        if (send_out(c)) end(c, e->message);
    } else {
        c->status = e->status;
        cut(c, e->message);
    }
}

static void whole_answer(struct call *c)
{
    struct anthropic_error e;
    c->handle = 0;
    if (c->out.failed) {
        anthropic_error_set(&e, 500, NULL, "the answer is larger than the output limit");
        e.should_not_retry = true;
        fail(c, &e);
    } else if (!c->is_started) {
        call_reply(c, 200, "application/json", buf_str(&c->out));
    } else if (send_out(c)) {
        end(c, NULL);
    }
}

static void on_event(void *ctx, const struct chat_event *ev)
{
    struct call *c = ctx;
    c->n_events++;
    if (ev->kind == CHAT_EVENT_ERROR) {
        struct anthropic_error e;
        anthropic_error_from(&e, ev->err);
        if (e.status >= 500) log_warn("%s: %s: %s", c->request_id, err_kind_name(ev->err->kind), ev->err->msg);
        c->handle = 0;
        fail(c, &e);
        return;
    }
    anthropic_answer_event(&c->answer, &c->out, ev);
    c->usage = c->answer.usage;
    if (!c->is_stream) {
        if (ev->kind == CHAT_EVENT_DELTA && !c->first_ns) c->first_ns = clock_ns();
        if (c->answer.is_done) whole_answer(c);
        else if (c->out.failed) {
            cancel(c);
            whole_answer(c);
        }
        return;
    }
    if (c->answer.is_done) c->handle = 0;
    if (send_out(c) && c->answer.is_done) end(c, NULL);
}

/* Silence is what makes clients give up: a stream gets pings from the first moment on, an answer in one piece white
 * space once it has taken very long (that costs its status code, so not earlier and only after the request was
 * accepted by the backend). */
static void on_timer(void *ctx)
{
    struct call *c = ctx;
    const struct server_config *config = c->server->config;
    uint32_t silent = ms_since(c->written_ns);
    if (silent < config->ping_ms) {
        http_timer_set(c->timer, config->ping_ms - silent);
        return;
    }
    http_timer_set(c->timer, config->ping_ms);
    if (c->is_stream) {
        if (c->is_started && http_is_congested(c->x)) return;
        anthropic_answer_ping(&c->out);
        send_out(c);
    } else if (ms_since(c->start_ns) >= config->patience_ms && c->answer.has_start) {
        if (!c->is_started) call_reply_start(c, "application/json");
        http_reply_write(c->x, STR(" "));
        c->written_ns = clock_ns();
    }
}

/* ---- from body to backend ---- */

#define INLINE_MAX_BYTES ((size_t)64 << 10) /* longer bodies are decoded on a thread */

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
    if (s->requests_bytes + body->len > s->config->max_requests_bytes) {
        call_refuse(c, 529, NULL, "too many large requests at one time");
        return;
    }
    c->body_bytes = body->len;
    s->requests_bytes += body->len;
    struct decode_job *job = mem_zalloc(sizeof *job);
    *job = (struct decode_job){.call = c, .kind = kind, .support = support};
    job->support.images = sees_images(s);
    http_body_take(c->x, &job->body);
    if (c->body_bytes <= INLINE_MAX_BYTES) decode_job_run(job);
    if (!decode_job_is_ready(job)) {
        c->job = job;
        decoder_submit(s->decoder, job);
        return;
    }
    messages_decoded(c, kind, job->r, &job->error);
    mem_free(job);
}

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

static void create(struct call *c, struct chat_request *r)
{
    const struct backend *b = c->server->backend;
    c->is_stream = r->stream;
    c->has_answer = true;
    anthropic_id_make(c->message_id, "msg_");
    anthropic_answer_init(&c->answer, r->stream, str_from(c->message_id), buf_str(&c->model_name),
                          str_from(c->request_id));
    c->answer.omits_thinking = r->thinking_omitted;
    c->written_ns = clock_ns();
    c->timer = http_timer_create(c->server->loop, on_timer, c);
    if (c->timer) http_timer_set(c->timer, c->server->config->ping_ms);
    c->handle = b->submit(b->self, r, on_event, c);
}

static void count(struct call *c, struct chat_request *r);

void messages_decoded(struct call *c, enum anthropic_call kind, struct chat_request *r, const struct anthropic_error *e)
{
    struct server *s = c->server;
    size_t n;
    if (!r) {
        call_error(c, e);
        return;
    }
    snprintf(c->model, sizeof c->model, "%.*s", STR_ARG(r->model));
    buf_append(&c->model_name, r->model);
    s->backend->models(s->backend->self, &n);
    const struct chat_model *m = models_resolve(s, r->model);
    if (!n || !m || s->drain_since_ns) {
        chat_request_destroy(r);
        refuse_model(c, n);
        return;
    }
    if (r->n_images && !m->images) {
        chat_request_destroy(r);
        call_refuse(c, 400, NULL, "the model has no image input (capability_rejected: image_block)");
        return;
    }
    r->model = m->id;
    r->salt = c->salt;
    struct str session = arena_try_str(&r->arena, http_header(c->x, "x-claude-code-session-id"));
    if (session.len) r->session_id = session;
    r->agent_id = arena_try_str(&r->arena, http_header(c->x, "x-claude-code-agent-id"));
    if (kind == ANTHROPIC_CREATE) create(c, r);
    else count(c, r);
}

void messages_create(struct call *c)
{
    decode(c, ANTHROPIC_CREATE);
}

void messages_count(struct call *c)
{
    decode(c, ANTHROPIC_COUNT);
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

/* ---- the other ways to end ---- */

void messages_left(struct call *c, const char *why)
{
    char note[160];
    c->x = NULL;
    c->status = 499;
    if (c->is_counting) return; /* a count cannot be cancelled; its answer frees the call */
    if (c->job) {
        atomic_store(&c->job->is_cancelled, true);
        c->job->call = NULL;
    }
    cancel(c);
    snprintf(note, sizeof note, "%s after %" PRIu32 " events, %s", why, c->n_events,
             !c->has_answer        ? "before the request was complete"
             : c->answer.n_blocks  ? "during the answer"
             : c->answer.has_start ? "before the first text"
                                   : "while it was waiting");
    call_close(c, note);
}

void messages_drained(struct call *c)
{
    const struct backend *b = c->server->backend;
    if (!c->is_paused || !c->handle) return;
    c->is_paused = false;
    b->pause(b->self, c->handle, false);
}

void messages_shutdown(struct call *c)
{
    struct anthropic_error e;
    if (!c->x || !c->has_answer) return;
    anthropic_error_set(&e, 529, NULL, "the server is shutting down");
    fail(c, &e);
}
