/* bench: prefill and decode speed, in the manner of llama-bench: each test runs some times after a warm-up, on random
 * tokens straight through the model (no server, no sampler). pp = prompt processing, tg = text generation, @d = at that
 * depth, xN = N sequences at the same time (tokens of all of them are counted). */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "cli/cli.h"

#define LIST_MAX 16
struct numbers {
    uint32_t items[LIST_MAX];
    size_t n;
};

struct setup {
    struct model *model;
    struct model_info info;
    uint32_t n_batch;
    float *logits; // [most sequences][n_vocab]
    uint8_t *kv;   /* pages of the longest test, for each sequence */
    size_t kv_bytes;
    uint32_t n_pages; /* of a sequence */
    uint32_t *table;  // [most sequences][n_pages], identity
    uint32_t *tokens; // [longest test] random ids
};

struct test {
    uint32_t n_prompt, n_gen, n_depth, n_parallel;
};
#define PARALLEL_MAX 32 /* rows of logits that a model gives in a step */

static bool parse_numbers(struct numbers *out, const char *flag, const char *text, struct err *e)
{
    out->n = 0;
    for (const char *p = text;;) {
        char *end;
        unsigned long x = strtoul(p, &end, 10);
        if (end == p || x > 1u << 24 || (*end && *end != ',') || out->n == LIST_MAX)
            return err_set(e, ERR_INVALID, "--%s: expected up to %d numbers separated by commas, found \"%s\"", flag,
                           LIST_MAX, text);
        out->items[out->n++] = (uint32_t)x;
        if (!*end) return true;
        p = end + 1;
    }
}

static bool setup_open(struct setup *u, struct stack *s, uint32_t longest, uint32_t most, uint32_t n_batch,
                       struct err *e)
{
    u->model = s->model;
    u->n_batch = n_batch;
    model_info_get(s->model, &u->info);
    u->n_pages = longest / KV_PAGE_TOKENS + 1;
    size_t n_pages = (size_t)u->n_pages * most;
    struct rng rng;
    rng_seed(&rng, 1);
    u->kv_bytes = n_pages * u->info.page_bytes;
    u->kv = mem_try_map(u->kv_bytes);
    u->logits = mem_try_alloc((size_t)most * u->info.n_vocab * sizeof *u->logits);
    u->table = mem_try_alloc(n_pages * sizeof *u->table);
    u->tokens = mem_try_alloc((longest + 1) * sizeof *u->tokens);
    if (!u->kv || !u->logits || !u->table || !u->tokens)
        return err_set(e, ERR_TOO_LARGE, "no memory for %u tokens (%zu MB of KV)", longest, u->kv_bytes >> 20);
    for (size_t i = 0; i < n_pages; i++) u->table[i] = (uint32_t)i;
    for (uint32_t i = 0; i <= longest; i++) u->tokens[i] = (uint32_t)(rng_next(&rng) % u->info.n_vocab);
    return true;
}

static void setup_close(struct setup *u)
{
    mem_unmap(u->kv, u->kv_bytes);
    mem_free(u->logits);
    mem_free(u->table);
    mem_free(u->tokens);
    *u = (struct setup){0};
}

/* n tokens to every sequence, from position `from` on: `step` tokens of one sequence at a time, or, where step is 1,
 * one token of all of them. */
static bool feed(struct setup *u, uint32_t from, uint32_t n, uint32_t step, uint32_t n_parallel, struct err *e)
{
    struct model_span spans[PARALLEL_MAX];
    uint32_t together = step == 1 ? n_parallel : 1;
    for (uint32_t first = 0; first < n_parallel; first += together)
        for (uint32_t done = 0; done < n; done += step) {
            uint32_t now = n - done < step ? n - done : step;
            for (uint32_t i = 0; i < together; i++)
                spans[i] = (struct model_span){.tokens = u->tokens + from + done,
                                               .n_tokens = now,
                                               .pos = from + done,
                                               .pages = u->table + (size_t)(first + i) * u->n_pages,
                                               .n_logits = done + now == n || step == 1 ? 1 : 0};
            if (!model_forward(u->model, u->logits, u->kv, spans, together, NULL, e)) return false;
        }
    return true;
}

static bool run_test(struct setup *u, const struct test *t, uint32_t reps, double *mean, double *sd, struct err *e)
{
    double sum = 0, squares = 0;
    if (!feed(u, 0, t->n_depth, u->n_batch, t->n_parallel, e)) return false;
    for (uint32_t r = 0; r <= reps; r++) { /* the first run warms up */
        double from = clock_seconds();
        if (!feed(u, t->n_depth, t->n_prompt, u->n_batch, t->n_parallel, e) ||
            !feed(u, t->n_depth + t->n_prompt, t->n_gen, 1, t->n_parallel, e))
            return false;
        double speed = t->n_parallel * (t->n_prompt + t->n_gen) / (clock_seconds() - from);
        if (r == 0) continue;
        sum += speed;
        squares += speed * speed;
    }
    *mean = sum / reps;
    *sd = reps > 1 ? sqrt(fmax(0, (squares - sum * sum / reps) / (reps - 1))) : 0;
    return true;
}

static void print_result(const struct setup *u, const struct stack *s, const struct test *t, double mean, double sd,
                         bool json, bool first)
{
    int threads = compute_threads(s->compute);
    const char *level = cpu_level_name(compute_kernels(s->compute)->level);
    if (json) {
        printf("%s  {\"model_filename\": \"%s\", \"model_n_params\": %llu, \"cpu_level\": \"%s\", \"n_batch\": %u, "
               "\"n_threads\": %d, \"n_prompt\": %u, \"n_gen\": %u, \"n_depth\": %u, \"n_parallel\": %u, \"avg_ts\": "
               "%.6f, \"stddev_ts\": "
               "%.6f}",
               first ? "" : ",\n", s->model_id, (unsigned long long)u->info.n_params, level, u->n_batch, threads,
               t->n_prompt, t->n_gen, t->n_depth, t->n_parallel, mean, sd);
    } else {
        char name[64], depth[24] = "", parallel[24] = "";
        if (t->n_depth) snprintf(depth, sizeof depth, " @ d%u", t->n_depth);
        if (t->n_parallel > 1) snprintf(parallel, sizeof parallel, " x%u", t->n_parallel);
        snprintf(name, sizeof name, "%s%u%s%s", t->n_gen ? "tg" : "pp", t->n_gen ? t->n_gen : t->n_prompt, depth,
                 parallel);
        if (first)
            printf("| %-40s | level  | threads | %16s | %22s |\n|%.42s|--------|--------:|%.18s|%.24s|\n", "model",
                   "test", "t/s", "-------------------------------------------",
                   "----------------:-:", "-----------------------:-:");
        printf("| %-40.40s | %-6s | %7d | %16s | %13.2f ± %6.2f |\n", s->model_id, level, threads, name, mean, sd);
    }
    fflush(stdout);
}

struct lists {
    struct numbers prompts, gens, depths, parallels, threads;
};

static bool lists_parse(struct lists *l, const struct options *o, struct err *e)
{
    if (!parse_numbers(&l->prompts, "n-prompt", o->bench_prompt, e) ||
        !parse_numbers(&l->gens, "n-gen", o->bench_gen, e) ||
        !parse_numbers(&l->depths, "n-depth", o->bench_depth, e) ||
        !parse_numbers(&l->parallels, "n-parallel", o->bench_parallel, e) ||
        !parse_numbers(&l->threads, "threads", o->bench_threads, e))
        return false;
    for (size_t i = 0; i < l->parallels.n; i++)
        if (l->parallels.items[i] < 1 || l->parallels.items[i] > PARALLEL_MAX)
            return err_set(e, ERR_INVALID, "--n-parallel: expected 1 to %d sequences, found %u", PARALLEL_MAX,
                           l->parallels.items[i]);
    return true;
}

static uint32_t largest(const struct numbers *numbers)
{
    uint32_t most = 0;
    for (size_t i = 0; i < numbers->n; i++)
        if (numbers->items[i] > most) most = numbers->items[i];
    return most;
}

static bool run_one(struct setup *u, const struct stack *s, const struct options *o, const struct test *t, bool *first,
                    struct err *e)
{
    double mean = 0, sd = 0;
    if (t->n_prompt + t->n_gen == 0) return true;
    if (!run_test(u, t, o->repetitions, &mean, &sd, e)) return false;
    print_result(u, s, t, mean, sd, o->json, *first);
    *first = false;
    return true;
}

static bool run_all(struct stack *s, const struct options *o, const struct lists *l, bool *first, struct err *e)
{
    uint32_t prompt = largest(&l->prompts), gen = largest(&l->gens);
    struct setup u = {0};
    bool ok = setup_open(&u, s, largest(&l->depths) + (prompt > gen ? prompt : gen) + 1, largest(&l->parallels),
                         o->batch_size, e);
    for (size_t d = 0; ok && d < l->depths.n; d++)
        for (size_t p = 0; ok && p < l->parallels.n; p++) {
            struct test t = {.n_depth = l->depths.items[d], .n_parallel = l->parallels.items[p]};
            for (size_t i = 0; ok && i < l->prompts.n; i++, t.n_prompt = 0) {
                t.n_prompt = l->prompts.items[i];
                ok = run_one(&u, s, o, &t, first, e);
            }
            for (size_t i = 0; ok && i < l->gens.n; i++) {
                t.n_gen = l->gens.items[i];
                ok = run_one(&u, s, o, &t, first, e);
            }
        }
    setup_close(&u);
    return ok;
}

int cli_bench(const struct options *o)
{
    struct err e = {0};
    struct lists lists;
    bool first = true;
    bool ok = lists_parse(&lists, o, &e);
    if (ok && o->schema) return cli_bench_schema(o, lists.gens.items[0], lists.threads.items[0], &e) ? 0 : cli_fail(&e);
    if (ok && o->json) puts("[");
    for (size_t i = 0; ok && i < lists.threads.n; i++) {
        struct stack s = {0};
        if (o->kernels) {
            ok = cli_bench_kernels(o, (int)lists.threads.items[i], i == 0, &e);
            continue;
        }
        ok = stack_open_file(&s, o, &e) && stack_open_model(&s, o, lists.threads.items[i], false, &e) &&
             run_all(&s, o, &lists, &first, &e);
        stack_close(&s);
    }
    if (o->json) puts(ok ? "\n]" : "");
    return ok ? 0 : cli_fail(&e);
}
