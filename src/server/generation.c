/* generation: an answer that the backend computes, apart from the connection that asked for it.
 *
 * A client that leaves frees the engine: the generation is paused at once, which stops its computing and lets the
 * engine give its place away, and it is cancelled when nobody came back within rejoin_ms. (Its computed prompt stays in
 * the backend's cache either way.) A request with the same body from the same key takes a generation over
 *   - without a client, if nobody has seen a part of the answer yet, or if it comes from the same session of an agent,
 *   - in any state, also just finished, if it says that it is a retry (x-stainless-retry-count).
 * Bodies of which two were open at the same time are never taken over: such requests want an answer each. */
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/log.h"
#include "server/server_internal.h"

#define IDLE_MAX 16 /* generations without a client, and the bytes of their records */
#define IDLE_MAX_BYTES ((size_t)32 << 20)
#define RECORD_MAX_BYTES ((size_t)16 << 20)
#define KEPT_MS 60000 /* a finished answer, for a retry */

static void list_remove(struct generation *g)
{
    if (g->prev) g->prev->next = g->next;
    else g->server->generations = g->next;
    if (g->next) g->next->prev = g->prev;
}

static void destroy(struct generation *g)
{
    list_remove(g);
    g->server->requests_bytes -= g->body_bytes;
    threads_release(g->thread);
    anthropic_history_deinit(&g->added);
    prompt_print_destroy(g->print);
    http_timer_destroy(g->timer);
    record_deinit(&g->record);
    buf_deinit(&g->model_name);
    buf_deinit(&g->diagnostics);
    buf_deinit(&g->tool_changes);
    mem_free(g);
}

void generation_drop(struct generation *g)
{
    const struct backend *b = g->server->backend;
    if (g->handle) b->cancel(b->self, g->handle);
    g->handle = 0;
    if (g->call) g->call->generation = NULL;
    g->call = NULL;
    if (g->is_playing) g->is_doomed = true;
    else destroy(g);
}

static void on_timer(void *ctx)
{
    generation_drop(ctx);
}

/* ---- without a client ---- */

/* The oldest go when too much is held. */
static void make_room(struct server *s)
{
    size_t n = 0;
    size_t bytes = 0;
    for (struct generation *g = s->generations, *next; g; g = next) {
        next = g->next;
        if (g->call) continue;
        bytes += record_bytes(&g->record);
        if (++n > IDLE_MAX || bytes > IDLE_MAX_BYTES) generation_drop(g);
    }
}

static void hold(struct generation *g, uint32_t ms)
{
    if (!g->timer) g->timer = http_timer_create(g->server->loop, on_timer, g);
    if (!g->timer) {
        generation_drop(g);
        return;
    }
    http_timer_set(g->timer, ms);
    make_room(g->server);
}

static bool can_hold(const struct generation *g)
{
    const struct server *s = g->server;
    return s->config->rejoin_ms && !s->drain_since_ns && !s->is_closing && g->is_recorded && !g->has_twin;
}

void generation_leave(struct generation *g)
{
    const struct backend *b = g->server->backend;
    g->call = NULL;
    if (!can_hold(g)) {
        generation_drop(g);
        return;
    }
    if (g->handle) b->pause(b->self, g->handle, true);
    hold(g, g->server->config->rejoin_ms);
}

void generation_done(struct generation *g)
{
    g->call = NULL;
    g->was_seen = true;
    if (can_hold(g)) hold(g, KEPT_MS);
    else generation_drop(g);
}

void generation_drop_idle(struct server *s)
{
    for (struct generation *g = s->generations, *next; g; g = next) {
        next = g->next;
        if (!g->call) generation_drop(g);
    }
}

/* ---- events ---- */

void generation_answer_init(const struct generation *g, struct anthropic_answer *a, bool is_stream,
                            struct str request_id)
{
    anthropic_answer_init(a, is_stream, str_from(g->message_id), buf_str(&g->model_name), request_id);
    a->is_compaction = g->is_compaction;
    a->tool_changes = buf_str(&g->tool_changes);
    a->omits_thinking = g->omits_thinking;
}

struct keeper {
    struct anthropic_answer answer;
    struct buf out;
};

static void keep_event(void *ctx, const struct chat_event *ev)
{
    struct keeper *k = ctx;
    anthropic_answer_event(&k->answer, &k->out, ev);
}

/* The thread takes the answer up as the client sees it. */
static void commit_thread(struct generation *g)
{
    struct threads *t = g->server->threads;
    struct keeper k;
    if (g->thread_kind == ANTHROPIC_THREAD_NONE || !t || !g->is_recorded) return;
    buf_init(&k.out, 4 * RECORD_MAX_BYTES);
    generation_answer_init(g, &k.answer, false, STR_NONE);
    record_play(&g->record, NULL, keep_event, &k);
    if (!k.out.failed && k.answer.is_done) {
        threads_commit(t, g->thread, str_from(g->message_id), g->key_id, g->model_id, &g->added, buf_str(&k.out));
        g->thread = NULL;
    }
    anthropic_answer_deinit(&k.answer);
    buf_deinit(&k.out);
}

static void on_error(struct generation *g, const struct err *err)
{
    struct call *c = g->call;
    struct anthropic_error e;
    anthropic_error_from(&e, err);
    if (e.status >= 500) log_warn("%s: %s: %s", c ? c->request_id : g->message_id, err_kind_name(err->kind), err->msg);
    g->handle = 0;
    generation_drop(g);
    if (c) delivery_fail(c, &e);
}

static void on_start(struct generation *g, const struct chat_event *ev)
{
    struct server *s = g->server;
    notes_format(g->notes, ev->notes);
    if (g->notes[0]) log_info("%s: not honoured: %s", g->call ? g->call->request_id : g->message_id, g->notes);
    if (g->print) {
        diagnostics_keep(s->diagnostics, str_from(g->message_id), g->key_id, g->print, ev->usage.input_tokens);
        g->print = NULL;
    }
}

/* --strict: nothing is answered that is not honoured. */
static bool is_refused(struct generation *g)
{
    struct anthropic_error e;
    struct call *c = g->call;
    if (!g->server->config->strict || !g->notes[0]) return false;
    anthropic_error_set(&e, 400, NULL, "not honoured (--strict): %s", g->notes);
    generation_drop(g);
    if (c) delivery_fail(c, &e);
    return true;
}

static void on_event(void *ctx, const struct chat_event *ev)
{
    struct generation *g = ctx;
    if (ev->kind == CHAT_EVENT_ERROR) {
        on_error(g, ev->err);
        return;
    }
    if (g->is_recorded && !record_add(&g->record, ev)) {
        g->is_recorded = false;
        record_deinit(&g->record);
    }
    if (ev->kind == CHAT_EVENT_START) {
        on_start(g, ev);
        if (is_refused(g)) return;
    } else if (ev->kind == CHAT_EVENT_FINISH) {
        g->handle = 0;
        g->server->requests_bytes -= g->body_bytes;
        g->body_bytes = 0;
        commit_thread(g); /* before the client learns of the end: it may continue at once */
    }
    if (g->call) delivery_event(g->call, ev); /* may free g */
}

/* ---- who asks again ---- */

static bool is_same(const struct generation *g, const struct resend *again)
{
    return g->key_id == again->key_id && !memcmp(g->hash, again->hash, BODY_HASH_SIZE);
}

static bool may_take(const struct generation *g, const struct resend *again)
{
    if (!g->is_recorded || g->has_twin) return false;
    if (again->is_retry) return true;
    if (g->call || (g->was_seen && !g->handle)) return false;
    return !g->was_seen || (g->session_hash && g->session_hash == again->session_hash);
}

struct generation *generation_find(struct server *s, const struct resend *again)
{
    for (struct generation *g = s->generations; g; g = g->next)
        if (is_same(g, again) && may_take(g, again)) return g;
    return NULL;
}

/* A body that is open already: both want an answer of their own. */
static void mark_twins(struct server *s, struct generation *fresh)
{
    const struct resend same = {.hash = fresh->hash, .key_id = fresh->key_id};
    for (struct generation *g = s->generations; g; g = g->next)
        if (g != fresh && g->call && is_same(g, &same)) g->has_twin = fresh->has_twin = true;
}

uint32_t generation_count(const struct server *s, uint64_t key_id)
{
    uint32_t n = 0;
    for (const struct generation *g = s->generations; g; g = g->next) n += g->call && g->key_id == key_id;
    return n;
}

/* ---- life with a client ---- */

static void take_thread(struct generation *g, struct decode_job *job)
{
    g->thread_kind = job->body.thread;
    g->thread = job->thread;
    g->added = job->added;
    job->thread = NULL;
    anthropic_history_init(&job->added, 0);
    if (g->thread) thread_set_generation(g->thread, g);
}

static void take_diagnostics(struct generation *g, struct decode_job *job)
{
    buf_init(&g->diagnostics, 256);
    if (!job->print) return;
    prompt_print_set_model(job->print, g->model_id);
    diagnostics_explain(g->server->diagnostics, &g->diagnostics, job->body.diagnose_against, g->key_id, job->print);
    g->print = job->print;
    job->print = NULL;
}

void generation_congested(struct generation *g, bool is_congested)
{
    const struct backend *b = g->server->backend;
    if (g->is_congested == is_congested || !g->handle) return;
    g->is_congested = is_congested;
    b->pause(b->self, g->handle, is_congested);
}

static void play_event(void *ctx, const struct chat_event *ev)
{
    struct generation *g = ctx;
    if (g->call) delivery_event(g->call, ev);
}

void generation_attach(struct generation *g, struct call *c)
{
    const struct backend *b = g->server->backend;
    if (g->call) {
        struct call *old = g->call;
        g->has_twin = true; /* once is enough: two live clients must not take it from each other for ever */
        g->call = NULL;
        old->generation = NULL;
        delivery_replaced(old);
    }
    if (g->timer) http_timer_clear(g->timer);
    log_info("%s: takes over %s", c->request_id, g->message_id);
    g->call = c;
    g->is_congested = false;
    delivery_begin(c, g);
    if (g->handle) b->pause(b->self, g->handle, false);
    g->is_playing = true; /* the client may break, or the answer be complete, in the middle of it */
    record_play(&g->record, NULL, play_event, g);
    g->is_playing = false;
    if (g->is_doomed) destroy(g);
}

void generation_start(struct call *c, struct chat_request *r, struct decode_job *job, const struct chat_model *model)
{
    struct server *s = c->server;
    struct str session = http_header(c->x, "x-claude-code-session-id");
    struct generation *g = mem_zalloc(sizeof *g);
    g->server = s;
    g->next = s->generations;
    if (g->next) g->next->prev = g;
    s->generations = g;
    anthropic_id_make(g->message_id, "msg_");
    buf_init(&g->model_name, 1024);
    buf_append(&g->model_name, buf_str(&c->model_name));
    g->model_id = model->id;
    g->is_stream = r->stream;
    g->is_compaction = job->body.is_compaction;
    g->tool_changes = job->body.tool_changes;
    job->body.tool_changes = (struct buf){0};
    g->omits_thinking = r->thinking_omitted;
    g->body_bytes = c->body_bytes;
    c->body_bytes = 0;
    memcpy(g->hash, job->hash, sizeof g->hash);
    g->key_id = c->key_id;
    g->session_hash = session.len ? hash64(session.ptr, session.len, 0) | 1 : 0;
    record_init(&g->record, RECORD_MAX_BYTES);
    g->is_recorded = true;
    mark_twins(s, g);
    take_thread(g, job);
    take_diagnostics(g, job);
    g->call = c;
    delivery_begin(c, g);
    g->handle = s->backend->submit(s->backend->self, r, on_event, g);
}
