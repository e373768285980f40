/* engine: the door. Creation and the calls of other threads; they reach the engine's thread through one queue of
 * commands. Only a cancellation touches the running step directly: when all of its sequences are cancelled, it stops.
 */
#include "engine/engine.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "engine/engine_internal.h"

#define FORCED_MAX 8192u /* tokens that one text may force at a time */
#define PIECE_MAX ((size_t)1 << 20)

static bool allocate(struct engine *g, const struct model_info *info, struct err *e)
{
    size_t n = g->plan.n_parallel, logits_bytes;
    if (!size_mul(&logits_bytes, n * sizeof *g->logits, g->n_vocab))
        return err_set(e, ERR_TOO_LARGE, "logits of %zu sequences and %u tokens are too many", n, g->n_vocab);
    g->logits = mem_try_alloc(logits_bytes);
    if (!g->logits) return err_set(e, ERR_IO, "no memory for %zu bytes of logits", logits_bytes);
    g->spans = mem_zalloc(n * sizeof *g->spans);
    g->running = mem_zalloc(n * sizeof(struct sequence *));
    g->step = mem_zalloc(n * sizeof(struct sequence *));
    g->order = mem_zalloc(n * sizeof(struct sequence *));
    g->in_step = mem_zalloc(n * sizeof *g->in_step);
    g->mask = mem_zalloc(((size_t)g->n_vocab + 63) / 64 * sizeof *g->mask);
    g->cache = cache_create(info->page_bytes, g->plan.n_pages, e);
    return g->cache != NULL;
}

static void release(struct engine *g)
{
    cache_destroy(g->cache);
    mem_free(g->logits);
    mem_free(g->spans);
    mem_free(g->running);
    mem_free(g->step);
    mem_free(g->order);
    mem_free(g->in_step);
    grammar_vocab_destroy(g->vocab);
    mem_free(g->bits);
    mem_free(g->mask);
    token_list_deinit(&g->forced);
    buf_deinit(&g->piece);
    pthread_mutex_destroy(&g->vocab_lock);
    if (g->ops.destroy) g->ops.destroy(g->ops.ctx);
    mem_free(g);
}

static bool start(struct engine *g, struct err *e)
{
    if (!queue_init(&g->commands, e)) return false;
    pthread_mutex_init(&g->step_lock, NULL);
    int rc = pthread_create(&g->thread, NULL, engine_thread, g);
    if (rc == 0) return true;
    queue_deinit(&g->commands);
    pthread_mutex_destroy(&g->step_lock);
    return err_set(e, ERR_IO, "engine thread: %s", strerror(rc));
}

struct engine *engine_create_with_ops(const struct engine_ops *ops, const struct model_info *info,
                                      const struct engine_config *config, struct err *e)
{
    struct engine *g = mem_zalloc(sizeof *g);
    g->ops = *ops;
    pthread_mutex_init(&g->vocab_lock, NULL);
    token_list_init(&g->forced, FORCED_MAX);
    buf_init(&g->piece, PIECE_MAX);
    g->n_vocab = info->n_vocab;
    g->mask_work = GRAMMAR_MASK_WORK;
    g->state_bytes = info->state_bytes;
    size_t memory = config->kv_bytes ? 0 : memory_available();
    if (!engine_plan_make(&g->plan, info, config, memory, e) || !allocate(g, info, e) || !start(g, e)) {
        release(g);
        return NULL;
    }
    log_info("engine: context %u, %u sequences, steps of %u tokens, KV cache %zu MiB (%u pages)", g->plan.n_ctx,
             g->plan.n_parallel, g->plan.n_batch, (g->plan.n_pages * info->page_bytes) >> 20, g->plan.n_pages);
    return g;
}

void engine_destroy(struct engine *g)
{
    if (!g) return;
    queue_close(&g->commands);
    pthread_mutex_lock(&g->step_lock);
    atomic_store(&g->closing, true);
    __atomic_store_n(&g->stop, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&g->step_lock);
    pthread_join(g->thread, NULL);
    queue_deinit(&g->commands);
    pthread_mutex_destroy(&g->step_lock);
    release(g);
}

void engine_expect(struct engine *g)
{
    queue_expect(&g->commands);
}

bool engine_submit(struct engine *g, uint64_t *id, const struct engine_request *request, struct err *e)
{
    uint32_t most = g->plan.n_parallel + g->plan.max_queue;
    if (atomic_fetch_add(&g->n_active, 1) >= most) {
        atomic_fetch_sub(&g->n_active, 1);
        return err_set(e, ERR_BUSY, "%u requests run and %u wait: no more are taken", g->plan.n_parallel,
                       g->plan.max_queue);
    }
    bool ready = !request->grammar || engine_ready_grammar(g, e);
    struct sequence *s = ready ? sequence_create(g, request, e) : NULL;
    if (s) {
        *id = s->id = s->submit.id = atomic_fetch_add(&g->last_id, 1) + 1;
        if (queue_push(&g->commands, &s->submit.item)) return true;
        sequence_destroy(s);
        err_set(e, ERR_BUSY, "the engine is stopping");
    }
    atomic_fetch_sub(&g->n_active, 1);
    return false;
}

static bool make_vocab(struct engine *g, struct err *e)
{
    if (!g->ops.vocab) return err_set(e, ERR_INVALID, "this engine has no vocabulary for grammars");
    double from = clock_seconds();
    struct grammar_vocab *v = g->ops.vocab(g->ops.ctx, e);
    if (!v) return false;
    g->bits = mem_try_alloc(GRAMMAR_MASK_WORDS(grammar_vocab_size(v)) * sizeof *g->bits);
    if (!g->bits) {
        grammar_vocab_destroy(v);
        return err_set(e, ERR_BUSY, "no memory for the vocabulary of grammars");
    }
    g->vocab = v;
    log_info("engine: the vocabulary for grammars took %.0f ms and %zu KiB", (clock_seconds() - from) * 1000,
             grammar_vocab_memory(v) >> 10);
    return true;
}

bool engine_ready_grammar(struct engine *g, struct err *e)
{
    pthread_mutex_lock(&g->vocab_lock);
    bool ok = g->vocab || make_vocab(g, e);
    pthread_mutex_unlock(&g->vocab_lock);
    return ok;
}

static void send_command(struct engine *g, enum command_kind kind, uint64_t id, bool paused)
{
    struct command *c = mem_alloc(sizeof *c);
    *c = (struct command){.kind = kind, .id = id, .paused = paused};
    if (!queue_push(&g->commands, &c->item)) mem_free(c); /* stopping: everything ends anyway */
}

void engine_cancel(struct engine *g, uint64_t id)
{
    send_command(g, COMMAND_CANCEL, id, false); /* first: a stopped step must find it */
    bool any_left = false;
    pthread_mutex_lock(&g->step_lock);
    for (uint32_t i = 0; i < g->n_in_step; i++) {
        if (g->in_step[i].id == id) g->in_step[i].cancelled = true;
        any_left |= !g->in_step[i].cancelled;
    }
    if (g->n_in_step && !any_left) __atomic_store_n(&g->stop, 1, __ATOMIC_RELAXED);
    pthread_mutex_unlock(&g->step_lock);
}

void engine_pause(struct engine *g, uint64_t id, bool paused)
{
    send_command(g, COMMAND_PAUSE, id, paused);
}

uint32_t engine_n_ctx(const struct engine *g)
{
    return g->plan.n_ctx;
}

void engine_stats_get(struct engine *g, struct engine_stats *out)
{
    uint32_t running = atomic_load(&g->stats.n_running), active = atomic_load(&g->n_active);
    *out = (struct engine_stats){
        .n_running = running,
        .n_waiting = active > running ? active - running : 0,
        .n_pages = g->plan.n_pages,
        .n_pages_used = atomic_load(&g->stats.n_pages_used),
        .n_pages_cached = atomic_load(&g->stats.n_pages_cached),
        .n_requests = atomic_load(&g->stats.n_requests),
        .n_prompt_tokens = atomic_load(&g->stats.n_prompt_tokens),
        .n_cached_tokens = atomic_load(&g->stats.n_cached_tokens),
        .n_generated_tokens = atomic_load(&g->stats.n_generated_tokens),
        .n_steps = atomic_load(&g->stats.n_steps),
    };
}
