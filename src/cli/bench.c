/* bench: prefill and decode speed, in the manner of llama-bench: each test runs some times after a warm-up, on random
 * tokens straight through the model (no server, no sampler). pp = prompt processing, tg = text generation, @d = at that
 * depth. */
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
    float *logits; /* [n_vocab] */
    uint8_t *kv;   /* pages of the longest test */
    size_t kv_bytes;
    uint32_t *table;  /* [n_pages], identity */
    uint32_t *tokens; /* [longest test] random ids */
};

struct test {
    uint32_t n_prompt, n_gen, n_depth;
};

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

static bool setup_open(struct setup *u, struct stack *s, uint32_t longest, uint32_t n_batch, struct err *e)
{
    u->model = s->model;
    u->n_batch = n_batch;
    model_info_get(s->model, &u->info);
    uint32_t n_pages = longest / KV_PAGE_TOKENS + 1;
    struct rng rng;
    rng_seed(&rng, 1);
    u->kv_bytes = n_pages * u->info.page_bytes;
    u->kv = mem_try_map(u->kv_bytes);
    u->logits = mem_try_alloc(u->info.n_vocab * sizeof *u->logits);
    u->table = mem_try_alloc(n_pages * sizeof *u->table);
    u->tokens = mem_try_alloc((longest + 1) * sizeof *u->tokens);
    if (!u->kv || !u->logits || !u->table || !u->tokens)
        return err_set(e, ERR_TOO_LARGE, "no memory for %u tokens (%zu MB of KV)", longest, u->kv_bytes >> 20);
    for (uint32_t i = 0; i < n_pages; i++) u->table[i] = i;
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

static bool feed(struct setup *u, uint32_t from, uint32_t n, uint32_t step, struct err *e)
{
    for (uint32_t done = 0; done < n; done += step) {
        uint32_t now = n - done < step ? n - done : step;
        struct model_span span = {.tokens = u->tokens + from + done,
                                  .n_tokens = now,
                                  .pos = from + done,
                                  .pages = u->table,
                                  .n_logits = done + now == n || step == 1 ? 1 : 0};
        if (!model_forward(u->model, u->logits, u->kv, &span, 1, NULL, e)) return false;
    }
    return true;
}

static bool run_test(struct setup *u, const struct test *t, uint32_t reps, double *mean, double *sd, struct err *e)
{
    double sum = 0, squares = 0;
    if (!feed(u, 0, t->n_depth, u->n_batch, e)) return false;
    for (uint32_t r = 0; r <= reps; r++) { /* the first run warms up */
        double from = clock_seconds();
        if (!feed(u, t->n_depth, t->n_prompt, u->n_batch, e) || !feed(u, t->n_depth + t->n_prompt, t->n_gen, 1, e))
            return false;
        double speed = (t->n_prompt + t->n_gen) / (clock_seconds() - from);
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
               "\"n_threads\": %d, \"n_prompt\": %u, \"n_gen\": %u, \"n_depth\": %u, \"avg_ts\": %.6f, \"stddev_ts\": "
               "%.6f}",
               first ? "" : ",\n", s->model_id, (unsigned long long)u->info.n_params, level, u->n_batch, threads,
               t->n_prompt, t->n_gen, t->n_depth, mean, sd);
    } else {
        char name[48], depth[24] = "";
        if (t->n_depth) snprintf(depth, sizeof depth, " @ d%u", t->n_depth);
        snprintf(name, sizeof name, "%s%u%s", t->n_gen ? "tg" : "pp", t->n_gen ? t->n_gen : t->n_prompt, depth);
        if (first)
            printf("| %-40s | level  | threads | %16s | %22s |\n|%.42s|--------|--------:|%.18s|%.24s|\n", "model",
                   "test", "t/s", "-------------------------------------------",
                   "----------------:-:", "-----------------------:-:");
        printf("| %-40.40s | %-6s | %7d | %16s | %13.2f ± %6.2f |\n", s->model_id, level, threads, name, mean, sd);
    }
    fflush(stdout);
}

static bool run_all(struct stack *s, const struct options *o, const struct numbers *prompts, const struct numbers *gens,
                    const struct numbers *depths, bool *first, struct err *e)
{
    uint32_t longest = 1;
    for (size_t d = 0; d < depths->n; d++)
        for (size_t i = 0; i < prompts->n + gens->n; i++) {
            uint32_t n = depths->items[d] + (i < prompts->n ? prompts->items[i] : gens->items[i - prompts->n]);
            if (n > longest) longest = n;
        }
    struct setup u = {0};
    bool ok = setup_open(&u, s, longest, o->batch_size, e);
    for (size_t d = 0; ok && d < depths->n; d++)
        for (size_t i = 0; ok && i < prompts->n + gens->n; i++) {
            struct test t = {.n_depth = depths->items[d]};
            if (i < prompts->n) t.n_prompt = prompts->items[i];
            else t.n_gen = gens->items[i - prompts->n];
            if (t.n_prompt + t.n_gen == 0) continue;
            double mean = 0, sd = 0;
            ok = run_test(&u, &t, o->repetitions, &mean, &sd, e);
            if (ok) print_result(&u, s, &t, mean, sd, o->json, *first);
            *first = false;
        }
    setup_close(&u);
    return ok;
}

int cli_bench(const struct options *o)
{
    struct err e = {0};
    struct numbers prompts, gens, depths, threads;
    bool first = true;
    bool ok = parse_numbers(&prompts, "n-prompt", o->bench_prompt, &e) &&
              parse_numbers(&gens, "n-gen", o->bench_gen, &e) &&
              parse_numbers(&depths, "n-depth", o->bench_depth, &e) &&
              parse_numbers(&threads, "threads", o->bench_threads, &e);
    if (ok && o->json) puts("[");
    for (size_t i = 0; ok && i < threads.n; i++) {
        struct stack s = {0};
        ok = stack_open_file(&s, o, &e) && stack_open_model(&s, o, threads.items[i], false, &e) &&
             run_all(&s, o, &prompts, &gens, &depths, &first, &e);
        stack_close(&s);
    }
    if (o->json) puts(ok ? "\n]" : "");
    return ok ? 0 : cli_fail(&e);
}
