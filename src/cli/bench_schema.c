/* bench_schema: what a schema costs while decoding: the engine's speed with and without one, by turns, on the same
 * model, prompt and seeds. Text that the schema forces takes no step of its own, so the share of tokens that came so is
 * told beside the speed. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "cli/cli.h"
#include "grammar/grammar.h"

#define MAX_SCHEMA_BYTES ((size_t)16 << 20)
#define MAX_ANSWERS 1000 /* of one measurement: answers may be short */

struct speed {
    uint64_t n_tokens, n_steps;
    double seconds;
};

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t ended_now;
    bool ended, failed;
    struct engine_event last;
    struct err err;
};

static void on_event(void *ctx, const struct engine_event *ev)
{
    struct waiter *w = ctx;
    if (ev->kind != ENGINE_FINISHED && ev->kind != ENGINE_FAILED) return;
    pthread_mutex_lock(&w->lock);
    w->last = *ev;
    w->failed = ev->kind == ENGINE_FAILED;
    if (w->failed) w->err = *ev->err;
    w->ended = true;
    pthread_cond_signal(&w->ended_now);
    pthread_mutex_unlock(&w->lock);
}

static bool one_answer(struct stack *s, struct speed *sum, const struct token_list *prompt, struct grammar *g,
                       uint64_t seed, uint32_t max_tokens, struct err *e)
{
    struct waiter w = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended_now = PTHREAD_COND_INITIALIZER};
    struct engine_request r = {.tokens = prompt->ids,
                               .n_tokens = (uint32_t)prompt->n,
                               .max_tokens = max_tokens,
                               .sampling = SAMPLER_DEFAULTS,
                               .grammar = g,
                               .sink = on_event,
                               .ctx = &w};
    struct engine_stats before, after;
    uint64_t id;
    r.sampling.seed = seed;
    r.sampling.temperature = 0.8f;
    r.sampling.top_k = 40;
    r.sampling.top_p = 0.95f;
    engine_stats_get(s->engine, &before);
    if (!engine_submit(s->engine, &id, &r, e)) return false;
    pthread_mutex_lock(&w.lock);
    while (!w.ended) pthread_cond_wait(&w.ended_now, &w.lock);
    pthread_mutex_unlock(&w.lock);
    engine_stats_get(s->engine, &after);
    if (w.failed && e) *e = w.err;
    sum->n_tokens += w.last.n_generated;
    sum->n_steps += after.n_steps - before.n_steps; /* the prompt is one; the first token is its result */
    sum->seconds += w.last.decode_s;
    return !w.failed;
}

static bool measure(struct stack *s, struct speed *out, const struct token_list *prompt, struct grammar *g,
                    uint32_t n_tokens, uint64_t seed, struct err *e)
{
    struct speed sum = {0};
    for (uint32_t i = 0; sum.n_tokens < n_tokens && i < MAX_ANSWERS; i++)
        if (!one_answer(s, &sum, prompt, g, seed + i, n_tokens - (uint32_t)sum.n_tokens, e)) return false;
    out->n_tokens += sum.n_tokens;
    out->n_steps += sum.n_steps;
    out->seconds += sum.seconds;
    return true;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *x, uint32_t n)
{
    qsort(x, n, sizeof *x, compare);
    return n % 2 ? x[n / 2] : (x[n / 2 - 1] + x[n / 2]) / 2;
}

struct results { /* of the repetitions */
    double *free_text, *schema, *ratio;
    struct speed sum; /* with the schema */
};

static void print(const struct stack *s, struct results *r, uint32_t n, bool json)
{
    double forced = r->sum.n_tokens > r->sum.n_steps ? 1 - (double)r->sum.n_steps / (double)r->sum.n_tokens : 0;
    double speeds[2] = {median(r->free_text, n), median(r->schema, n)}, ratio = median(r->ratio, n);
    if (json)
        printf("[\n  {\"model_filename\": \"%s\", \"free_ts\": %.6f, \"schema_ts\": %.6f, \"ratio\": %.4f, \"forced\": "
               "%.4f}\n]\n",
               s->model_id, speeds[0], speeds[1], ratio, forced);
    else
        printf("| %-40.40s | free %.2f t/s | schema %.2f t/s | ratio %.3f | %.1f %% of the tokens forced |\n",
               s->model_id, speeds[0], speeds[1], ratio, forced * 100);
}

/* Pairs of measurements, each pair shortly after one another; medians, because other programs come and go. */
static bool run(struct stack *s, const struct options *o, struct grammar *g, uint32_t n_tokens, struct err *e)
{
    uint32_t n = o->repetitions;
    struct results r = {
        mem_alloc(n * sizeof(double)), mem_alloc(n * sizeof(double)), mem_alloc(n * sizeof(double)), {0}};
    struct token_list prompt;
    token_list_init(&prompt, 4096);
    bool ok = tokenizer_encode(s->tokenizer, &prompt,
                               STR("The following is a JSON document with plausible values, and nothing else:\n\n"),
                               true, NULL, 0, e) &&
              tokenizer_add_special(s->tokenizer, &prompt, e);
    for (uint32_t i = 0; ok && i <= n; i++) { /* the first time warms up */
        struct speed plain = {0}, schema = {0};
        ok = measure(s, &plain, &prompt, NULL, n_tokens, 1000 * i, e) &&
             measure(s, &schema, &prompt, g, n_tokens, 1000 * i, e);
        if (!ok || i == 0) continue;
        r.free_text[i - 1] = (double)plain.n_tokens / plain.seconds;
        r.schema[i - 1] = (double)schema.n_tokens / schema.seconds;
        r.ratio[i - 1] = r.schema[i - 1] / r.free_text[i - 1];
        r.sum.n_tokens += schema.n_tokens;
        r.sum.n_steps += schema.n_steps;
    }
    if (ok) print(s, &r, n, o->json);
    token_list_deinit(&prompt);
    mem_free(r.free_text);
    mem_free(r.schema);
    mem_free(r.ratio);
    return ok;
}

bool cli_bench_schema(const struct options *o, uint32_t n_tokens, uint32_t threads, struct err *e)
{
    struct grammar_options go;
    struct stack s = {0};
    struct options own = *o;
    size_t len;
    char *text = cli_read(o->schema, &len, MAX_SCHEMA_BYTES, e);
    if (!text) return false;
    grammar_options_init(&go);
    struct grammar *g = grammar_from_schema((struct str){text, len}, &go, e);
    mem_free(text);
    own.threads = threads;
    own.parallel = 1;
    own.ctx_size = 1024 + n_tokens;
    bool ok = g && stack_open_engine(&s, &own, e) && run(&s, o, g, n_tokens, e);
    stack_close(&s);
    grammar_unref(g);
    return ok;
}
