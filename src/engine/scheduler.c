/* scheduler: the engine's thread. A round = take commands, admit waiting requests, run one step; it sleeps in the queue
 * when there is nothing to do.
 *
 * Room for a whole prompt is reserved at admission, a page at a time after that. When pages run out, a paused sequence
 * gives its place up first, else the youngest: it goes back to the waiting list with its tokens, sampler and text as
 * they are, its pages become evictable, and it computes what was evicted when it is admitted again. The oldest sequence
 * is never pushed out by a younger one, so there is always progress. */
#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "engine/engine_internal.h"

#define MIXED_STEP_S 0.25  /* a step that decodes too should not take longer: it is the gap between two tokens */
#define PREFILL_STEP_S 1.0 /* nor one of prefill alone: arriving requests wait for its end */
#define MIXED_TOKENS_MIN 32u
#define MIXED_TOKENS_MAX 256u
#define TOKENS_FIRST 128u /* while the speed is unknown */
#define PREFILL_TOKENS_MIN 64u
#define SHARE_MIN 32u /* fewer tokens a sequence would waste the products' tiles */
#define PROGRESS_S 0.5

/* ---- lists ---- */

/* Oldest (lowest id) first. New requests go to the end, preempted ones near the front. */
static void waiting_insert(struct engine *g, struct sequence *s)
{
    struct sequence *before = g->waiting_last;
    while (before && before->id > s->id) before = before->prev;
    s->prev = before;
    s->next = before ? before->next : g->waiting_first;
    if (s->next) s->next->prev = s;
    else g->waiting_last = s;
    if (before) before->next = s;
    else g->waiting_first = s;
}

static void waiting_remove(struct engine *g, struct sequence *s)
{
    if (s->prev) s->prev->next = s->next;
    else g->waiting_first = s->next;
    if (s->next) s->next->prev = s->prev;
    else g->waiting_last = s->prev;
    s->next = s->prev = NULL;
}

static void running_insert(struct engine *g, struct sequence *s)
{
    uint32_t i = g->n_running++;
    for (; i && g->running[i - 1]->id > s->id; i--) g->running[i] = g->running[i - 1];
    g->running[i] = s;
}

static void running_remove(struct engine *g, struct sequence *s)
{
    uint32_t i = 0;
    while (g->running[i] != s) i++;
    for (g->n_running--; i < g->n_running; i++) g->running[i] = g->running[i + 1];
}

static void publish_stats(struct engine *g)
{
    struct cache_stats stats;
    cache_stats_get(g->cache, &stats);
    atomic_store(&g->stats.n_running, g->n_running);
    atomic_store(&g->stats.n_pages_used, stats.n_used);
    atomic_store(&g->stats.n_pages_cached, stats.n_cached);
}

/* ---- ends ---- */

/* Takes the sequence out of everything before its last event, so that a request that the sink submits in answer finds
 * the place free and the pages cached. */
static void detach(struct engine *g, struct sequence *s)
{
    if (s->kv) running_remove(g, s);
    else waiting_remove(g, s);
    cache_seq_destroy(s->kv);
    s->kv = NULL;
    g->admission_blocked = false;
    if (!s->paused) atomic_fetch_sub(&g->n_active, 1);
    publish_stats(g);
}

/* The grammar may be used by others from the last event on. */
static void release_constraint(struct sequence *s)
{
    constraint_destroy(s->constraint);
    s->constraint = NULL;
}

static void finish(struct engine *g, struct sequence *s, struct engine_event *ev)
{
    double now = clock_seconds(), first = s->first_token_s > 0 ? s->first_token_s : now;
    ev->kind = ENGINE_FINISHED;
    ev->queue_s = s->admitted_s - s->submitted_s;
    ev->prefill_s = first - s->admitted_s;
    ev->decode_s = now - first;
    detach(g, s);
    release_constraint(s);
    sequence_send(s, ev);
    sequence_destroy(s);
}

static void fail(struct engine *g, struct sequence *s, const struct err *e)
{
    struct engine_event ignored = {0};
    if (s->admitted && e->kind != ERR_CANCELLED) sequence_flush(g, s, &ignored); /* what was generated is not lost */
    detach(g, s);
    release_constraint(s);
    sequence_send(s, &(struct engine_event){.kind = ENGINE_FAILED, .err = e});
    sequence_destroy(s);
}

static void preempt(struct engine *g, struct sequence *s)
{
    running_remove(g, s);
    cache_seq_destroy(s->kv);
    s->kv = NULL;
    waiting_insert(g, s);
}

/* The youngest paused sequence gives up its place; false: none is paused. */
static bool preempt_paused(struct engine *g)
{
    for (uint32_t i = g->n_running; i-- > 0;)
        if (g->running[i]->paused) {
            preempt(g, g->running[i]);
            return true;
        }
    return false;
}

/* ---- commands ---- */

static struct sequence *find(struct engine *g, uint64_t id)
{
    for (uint32_t i = 0; i < g->n_running; i++)
        if (g->running[i]->id == id) return g->running[i];
    for (struct sequence *s = g->waiting_first; s; s = s->next)
        if (s->id == id) return s;
    return NULL;
}

static void cancel(struct engine *g, struct sequence *s, const char *why)
{
    struct err e;
    err_set(&e, ERR_CANCELLED, "%s", why);
    fail(g, s, &e);
}

/* A paused sequence takes nobody's place, so it is not counted among those that the queue has room for. */
static void set_paused(struct engine *g, struct sequence *s, bool paused)
{
    if (s->paused == paused) return;
    s->paused = paused;
    if (paused) atomic_fetch_sub(&g->n_active, 1);
    else atomic_fetch_add(&g->n_active, 1);
}

static void handle_commands(struct engine *g, struct queue_item *items)
{
    for (struct queue_item *next; items; items = next) {
        next = items->next;
        struct command *c = (struct command *)items;
        g->admission_blocked = false;
        if (c->kind == COMMAND_SUBMIT) {
            atomic_fetch_add(&g->stats.n_requests, 1);
            waiting_insert(g, c->seq);
            continue;
        }
        struct sequence *s = find(g, c->id);
        if (s && c->kind == COMMAND_PAUSE) set_paused(g, s, c->paused);
        else if (s) cancel(g, s, "the request was cancelled");
        mem_free(c);
    }
}

/* ---- admission ---- */

static void announce(struct engine *g, struct sequence *s, uint32_t n_reused)
{
    s->admitted = true;
    s->admitted_s = s->progress_s = clock_seconds();
    s->n_cached = n_reused;
    atomic_fetch_add(&g->stats.n_prompt_tokens, s->n_prompt);
    atomic_fetch_add(&g->stats.n_cached_tokens, n_reused);
    publish_stats(g);
    sequence_send(s, &(struct engine_event){.kind = ENGINE_STARTED});
}

/* False: no room now; the sequence keeps waiting. */
static bool admit(struct engine *g, struct sequence *s)
{
    struct err e;
    if (!s->admitted && !s->sampler && !sequence_prepare(g, s, &e)) {
        fail(g, s, &e);
        return true;
    }
    uint64_t salt = s->salt;
    /* A recurrent state cannot start in the middle: nothing is shared, everything is computed from the first token. */
    if (g->state_bytes) {
        rng_secure(&salt, sizeof salt);
        memset(s->state, 0, g->state_bytes);
    }
    uint32_t n_reused;
    struct cache_seq *kv = cache_seq_create(g->cache, &n_reused, s->tokens, s->n_tokens, salt);
    /* Beside others it needs a page more for each of them, or it would be pushed out again at once. */
    if (!cache_seq_reserve(kv, s->n_tokens) || cache_available(g->cache) < g->n_running) {
        cache_seq_destroy(kv);
        return false;
    }
    waiting_remove(g, s);
    s->kv = kv;
    running_insert(g, s);
    if (!s->admitted) announce(g, s, n_reused);
    return true;
}

static struct sequence *next_waiting(struct engine *g)
{
    struct sequence *s = g->waiting_first;
    while (s && s->paused) s = s->next;
    return s;
}

/* In order of arrival; one that finds no room is not overtaken. */
static void admit_waiting(struct engine *g)
{
    for (struct sequence *s; !g->admission_blocked && (s = next_waiting(g));) {
        if (g->n_running == g->plan.n_parallel && !preempt_paused(g)) return;
        if (admit(g, s) || preempt_paused(g)) continue;
        if (g->n_running) {
            g->admission_blocked = true;
            return;
        }
        struct engine_event ev = {.finish = FINISH_CONTEXT}; /* alone, and yet too long */
        if (!s->admitted) announce(g, s, 0);
        sequence_flush(g, s, &ev);
        finish(g, s, &ev);
    }
}

/* ---- planning a step ---- */

static uint32_t remaining(const struct sequence *s)
{
    return s->n_tokens - cache_seq_length(s->kv);
}

/* What its last step appended is all that is missing: one token, or some that were forced. */
static bool decodes(const struct sequence *s)
{
    return s->n_generated && remaining(s) <= s->n_new;
}

/* Room for the next token of s, at the cost of paused and younger sequences; s itself may have to go, or end. */
static void reserve_next(struct engine *g, struct sequence *s)
{
    while (!cache_seq_reserve(s->kv, s->n_tokens)) {
        if (preempt_paused(g)) continue;
        struct sequence *youngest = g->running[g->n_running - 1];
        if (g->n_running > 1) {
            preempt(g, youngest);
            if (youngest == s) return;
            continue;
        }
        struct engine_event ev = {.finish = FINISH_CONTEXT};
        sequence_flush(g, s, &ev);
        finish(g, s, &ev);
        return;
    }
}

static void add_span(struct engine *g, struct sequence *s, uint32_t n_tokens)
{
    uint32_t pos = cache_seq_length(s->kv);
    bool last = pos + n_tokens == s->n_tokens;
    g->spans[g->n_step] = (struct model_span){
        .tokens = s->tokens + pos,
        .n_tokens = n_tokens,
        .pos = pos,
        .pages = cache_seq_pages(s->kv),
        .state = s->state,
        .n_logits = last && s->max_tokens ? 1 : 0,
    };
    s->n_step = n_tokens;
    g->step[g->n_step++] = s;
}

/* n_tokens of n_decoding sequences are in the step. */
static uint32_t prefill_budget(const struct engine *g, uint32_t n_decoding, uint32_t n_tokens)
{
    uint32_t room = g->plan.n_batch - n_tokens;
    double tokens = g->prefill_rate * (n_decoding ? MIXED_STEP_S : PREFILL_STEP_S);
    uint32_t least = n_decoding ? MIXED_TOKENS_MIN : PREFILL_TOKENS_MIN;
    uint32_t most = n_decoding ? MIXED_TOKENS_MAX : g->plan.n_batch;
    if (g->prefill_rate <= 0) most = most < TOKENS_FIRST ? most : TOKENS_FIRST;
    else if (tokens < (double)most) most = tokens > (double)least ? (uint32_t)tokens / 16 * 16 : least;
    return most < room ? most : room;
}

/* The prefilling sequences of this step into g->order: those that waited longest first, no more than the budget gives
 * a useful share; then by how much they still need, least first. */
static uint32_t choose_prefills(struct engine *g, uint32_t budget)
{
    uint32_t n = 0, most = budget / SHARE_MIN ? budget / SHARE_MIN : 1;
    for (uint32_t i = 0; i < g->n_running; i++) {
        struct sequence *s = g->running[i];
        if (s->paused || decodes(s)) continue;
        uint32_t at = n++;
        for (; at && g->order[at - 1]->served_step > s->served_step; at--) g->order[at] = g->order[at - 1];
        g->order[at] = s;
    }
    if (n > most) n = most;
    for (uint32_t i = 1; i < n; i++) {
        struct sequence *s = g->order[i];
        uint32_t at = i;
        for (; at && remaining(g->order[at - 1]) > remaining(s); at--) g->order[at] = g->order[at - 1];
        g->order[at] = s;
    }
    return n;
}

/* Equal shares; what a short prompt does not need goes to the longer ones. */
static void add_prefills(struct engine *g, uint32_t budget)
{
    uint32_t n = budget ? choose_prefills(g, budget) : 0;
    for (uint32_t i = 0; i < n && budget; i++) {
        struct sequence *s = g->order[i];
        uint32_t share = budget / (n - i), need = remaining(s);
        if (!share) share = 1;
        uint32_t take = need < share ? need : share;
        s->served_step = atomic_load(&g->stats.n_steps) + 1;
        add_span(g, s, take);
        budget -= take;
    }
}

static struct sequence *next_decoding(struct engine *g, uint64_t after_id)
{
    for (uint32_t i = 0; i < g->n_running; i++) {
        struct sequence *s = g->running[i];
        if (s->id > after_id && !s->paused && decodes(s)) return s;
    }
    return NULL;
}

/* All decoding sequences. What was forced on some of them may be more than fits: then the rest comes in the next step.
 * Returns the number of tokens. */
static uint32_t add_decodes(struct engine *g)
{
    uint32_t n_left = 0, room = g->plan.n_batch;
    struct sequence *s;
    for (uint64_t id = 0; (s = next_decoding(g, id)); id = s->id) n_left++;
    for (uint64_t id = 0; (s = next_decoding(g, id)); id = s->id) {
        uint32_t most = room - --n_left, need = remaining(s);
        add_span(g, s, need < most ? need : most);
        room -= s->n_step;
    }
    return g->plan.n_batch - room;
}

static void plan_step(struct engine *g)
{
    uint64_t id = 0;
    struct sequence *s;
    while ((s = next_decoding(g, id))) { /* looked up anew: a reserve may remove any of them */
        id = s->id;
        reserve_next(g, s);
    }
    g->n_step = 0;
    uint32_t n_tokens = add_decodes(g), n_decoding = g->n_step;
    add_prefills(g, prefill_budget(g, n_decoding, n_tokens));
}

/* ---- running a step ---- */

static void enter_step(struct engine *g)
{
    pthread_mutex_lock(&g->step_lock);
    for (uint32_t i = 0; i < g->n_step; i++) g->in_step[i] = (struct step_entry){.id = g->step[i]->id};
    g->n_in_step = g->n_step;
    if (!atomic_load(&g->closing)) __atomic_store_n(&g->stop, 0, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&g->step_lock);
}

/* From here on in_step is only read, and only by this thread. True: the step was told to stop. */
static bool leave_step(struct engine *g)
{
    pthread_mutex_lock(&g->step_lock);
    g->n_in_step = 0;
    bool stopped = __atomic_load_n(&g->stop, __ATOMIC_RELAXED) != 0;
    pthread_mutex_unlock(&g->step_lock);
    return stopped;
}

static void report_progress(struct sequence *s)
{
    double now = clock_seconds();
    if (s->n_generated || now - s->progress_s < PROGRESS_S) return;
    s->progress_s = now;
    sequence_send(s, &(struct engine_event){.kind = ENGINE_PREFILL, .n_done = cache_seq_length(s->kv)});
}

static void use_result(struct engine *g, struct sequence *s, const float *logits)
{
    struct engine_event ev = {.finish = FINISH_LENGTH};
    struct err e;
    if (remaining(s)) {
        report_progress(s);
        return;
    }
    if (!s->max_tokens) {
        finish(g, s, &ev);
        return;
    }
    uint32_t generated = s->n_generated;
    enum token_outcome outcome = sequence_step(g, s, &ev, logits, &e);
    atomic_fetch_add(&g->stats.n_generated_tokens, s->n_generated - generated);
    if (outcome == TOKEN_ENDS) finish(g, s, &ev);
    else if (outcome == TOKEN_FAILS) fail(g, s, &e);
}

static void note_speed(struct engine *g, uint32_t n_tokens, double seconds)
{
    if (n_tokens < SHARE_MIN || seconds <= 0) return;
    double rate = (double)n_tokens / seconds;
    g->prefill_rate = g->prefill_rate > 0 ? 0.7 * g->prefill_rate + 0.3 * rate : rate;
}

static void run_step(struct engine *g)
{
    struct err e = {.kind = ERR_INTERNAL};
    uint32_t n_tokens = 0, row = 0;
    for (uint32_t i = 0; i < g->n_step; i++) n_tokens += g->spans[i].n_tokens;
    enter_step(g);
    double from = clock_seconds();
    bool ok = g->ops.forward(g->ops.ctx, g->logits, cache_base(g->cache), g->spans, g->n_step, &g->stop, &e);
    bool stopped = leave_step(g);
    atomic_fetch_add(&g->stats.n_steps, 1);
    if (!ok && stopped && e.kind == ERR_CANCELLED) return; /* the cancellations are in the queue */
    if (!ok) {
        for (uint32_t i = 0; i < g->n_step; i++) fail(g, g->step[i], &e);
        return;
    }
    note_speed(g, n_tokens, clock_seconds() - from);
    for (uint32_t i = 0; i < g->n_step; i++) {
        struct sequence *s = g->step[i];
        cache_seq_commit(s->kv, s->tokens + cache_seq_length(s->kv), s->n_step);
    }
    publish_stats(g);
    for (uint32_t i = 0; i < g->n_step; i++) {
        const float *logits = g->logits + (size_t)row * g->n_vocab;
        row += g->spans[i].n_logits;
        if (!g->in_step[i].cancelled) use_result(g, g->step[i], logits);
    }
}

static void end_all(struct engine *g)
{
    while (g->n_running) cancel(g, g->running[g->n_running - 1], "the engine is stopping");
    while (g->waiting_first) cancel(g, g->waiting_first, "the engine is stopping");
}

void *engine_thread(void *engine)
{
    struct engine *g = engine;
    bool idle = true;
    for (;;) {
        handle_commands(g, idle ? queue_wait(&g->commands, -1) : queue_take_all(&g->commands));
        if (atomic_load(&g->closing)) break;
        admit_waiting(g);
        plan_step(g);
        publish_stats(g);
        idle = g->n_step == 0;
        if (!idle) run_step(g);
    }
    handle_commands(g, queue_take_all(&g->commands)); /* closed before `closing` was set: these are the last */
    end_all(g);
    return NULL;
}
