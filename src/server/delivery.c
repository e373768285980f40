/* delivery: an answer on its way to a client: from events to bytes, pings, congestion, and every way to end. Between
 * the first event and the last one a call has its generation, and whichever of the two ends first tells the other. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/server_internal.h"

static uint32_t ms_since(uint64_t t)
{
    return (uint32_t)((clock_ns() - t) / 1000000);
}

static void drop_generation(struct call *c)
{
    if (c->generation) generation_drop(c->generation);
    c->generation = NULL;
}

/* Cuts the connection: there is no legal way left to say what happened. */
static void cut(struct call *c, const char *note)
{
    struct http_exchange *x = c->x;
    drop_generation(c);
    c->x = NULL;
    http_reply_abort(x);
    call_close(c, note);
}

/* Sends what is in c->out and empties it; false: the call was ended because too much is waiting. */
static bool send_out(struct call *c)
{
    if (!c->out.len && !c->out.failed) return true;
    if (!c->is_started) call_reply_start(c, "text/event-stream; charset=utf-8");
    if (!c->first_ns) c->first_ns = clock_ns();
    if (c->out.failed || !http_reply_write(c->x, buf_str(&c->out))) {
        cut(c, "the answer is larger than the output limit");
        return false;
    }
    buf_clear(&c->out);
    c->written_ns = clock_ns();
    if (c->generation && http_is_congested(c->x)) generation_congested(c->generation, true);
    return true;
}

static void end(struct call *c, const char *note)
{
    struct http_exchange *x = c->x;
    c->x = NULL;
    http_set_callbacks(x, NULL, NULL, NULL);
    http_reply_end(x);
    call_close(c, note);
}

/* The failure of a message as the client may still be told: a status, an event, or a cut. */
void delivery_fail(struct call *c, const struct anthropic_error *e)
{
    drop_generation(c);
    if (!c->is_started) {
        call_error(c, e);
    } else if (c->answer.is_stream) {
        buf_clear(&c->out);
        anthropic_answer_fail(&c->answer, &c->out, e);
        c->status = e->status;
        if (send_out(c)) end(c, e->message);
    } else {
        c->status = e->status;
        cut(c, e->message);
    }
}

static void fail_size(struct call *c)
{
    struct anthropic_error e;
    anthropic_error_set(&e, 500, NULL, "the answer is larger than the output limit");
    e.should_not_retry = true;
    delivery_fail(c, &e);
}

/* The whole answer is in c->out, or was sent. */
static void complete(struct call *c)
{
    if (c->out.failed) {
        fail_size(c);
        return;
    }
    if (!c->answer.is_stream && !c->is_started) {
        generation_done(c->generation);
        c->generation = NULL;
        call_reply(c, 200, "application/json", buf_str(&c->out));
    } else if (send_out(c)) {
        generation_done(c->generation);
        c->generation = NULL;
        end(c, NULL);
    }
}

void delivery_event(struct call *c, const struct chat_event *ev)
{
    c->n_events++;
    if (ev->kind == CHAT_EVENT_START) memcpy(c->notes, c->generation->notes, sizeof c->notes);
    anthropic_answer_event(&c->answer, &c->out, ev);
    c->usage = c->answer.usage;
    if (c->answer.is_done) {
        complete(c);
    } else if (c->answer.is_stream) {
        if (c->answer.n_blocks) c->generation->was_seen = true;
        send_out(c);
    } else {
        if (ev->kind == CHAT_EVENT_DELTA && !c->first_ns) c->first_ns = clock_ns();
        if (c->out.failed) fail_size(c);
    }
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
    if (c->answer.is_stream) {
        if (c->is_started && http_is_congested(c->x)) return;
        anthropic_answer_ping(&c->out);
        send_out(c);
    } else if (ms_since(c->start_ns) >= config->patience_ms && c->answer.has_start) {
        if (!c->is_started) call_reply_start(c, "application/json");
        http_reply_write(c->x, STR(" "));
        c->written_ns = clock_ns();
    }
}

void delivery_wait(struct call *c)
{
    if (c->has_answer) return;
    c->has_answer = true;
    anthropic_answer_init(&c->answer, true, STR_NONE, STR_NONE, str_from(c->request_id));
    c->written_ns = c->start_ns;
    c->timer = http_timer_create(c->server->loop, on_timer, c);
    if (c->timer) http_timer_set(c->timer, c->server->config->ping_ms);
}

void delivery_begin(struct call *c, struct generation *g)
{
    if (c->has_answer) anthropic_answer_deinit(&c->answer);
    c->generation = g;
    c->has_answer = true;
    if (!c->model_name.len) buf_append(&c->model_name, buf_str(&g->model_name));
    snprintf(c->model, sizeof c->model, "%.*s", STR_ARG(buf_str(&c->model_name)));
    generation_answer_init(g, &c->answer, g->is_stream, str_from(c->request_id));
    buf_append(&c->diagnostics, buf_str(&g->diagnostics));
    c->answer.diagnostics = buf_str(&c->diagnostics);
    buf_init(&c->tool_changes, g->tool_changes.len);
    buf_append(&c->tool_changes, buf_str(&g->tool_changes));
    c->answer.tool_changes = buf_str(&c->tool_changes);
    memcpy(c->message_id, g->message_id, sizeof c->message_id); /* the answer may outlive its generation */
    c->answer.id = str_from(c->message_id);
    c->answer.model = buf_str(&c->model_name);
    if (!c->is_started) c->written_ns = clock_ns();
    if (!c->timer) c->timer = http_timer_create(c->server->loop, on_timer, c);
    if (c->timer) http_timer_set(c->timer, c->server->config->ping_ms);
}

/* The decoder may still be at it. */
static void leave_job(struct call *c)
{
    if (!c->job) return;
    atomic_store(&c->job->is_cancelled, true);
    c->job->call = NULL;
    c->job = NULL;
}

void delivery_left(struct call *c, const char *why)
{
    char note[160];
    c->x = NULL;
    c->status = 499;
    if (c->is_counting) return; /* a count cannot be cancelled; its answer frees the call */
    leave_job(c);
    if (c->generation) generation_leave(c->generation);
    c->generation = NULL;
    snprintf(note, sizeof note, "%s after %" PRIu32 " events, %s", why, c->n_events,
             !c->has_answer        ? "before the request was complete"
             : c->answer.n_blocks  ? "during the answer"
             : c->answer.has_start ? "before the first text"
                                   : "while it was waiting");
    call_close(c, note);
}

void delivery_drained(struct call *c)
{
    if (c->generation) generation_congested(c->generation, false);
}

void delivery_replaced(struct call *c)
{
    c->status = 499;
    cut(c, "its client asked again on another connection");
}

void delivery_shutdown(struct call *c)
{
    struct anthropic_error e;
    if (!c->x || !c->has_answer) return;
    leave_job(c);
    anthropic_error_set(&e, 529, NULL, "the server is shutting down");
    delivery_fail(c, &e);
}
