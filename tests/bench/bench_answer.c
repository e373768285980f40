/* bench_answer: what lies between the engine's text and the client's events, in nanoseconds a token of four bytes,
 * without tools and with 250: the dialect's parser, the ids, what is remembered. One thread; the least of several runs
 * counts. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "local/answer.h"

#define N_TOOLS 250
#define TOKEN 4
#define RUNS 15

static void count_event(void *ctx, const struct chat_event *ev)
{
    size_t *n = ctx;
    *n += ev->text.len;
}

static struct chat_request *make_request(size_t n_tools)
{
    struct chat_request *r = chat_request_create((size_t)16 << 20);
    r->json = json_pack("{s:{s:s}}", "schema", "type", "object");
    r->tools = arena_zalloc(&r->arena, (n_tools + 1) * sizeof *r->tools);
    for (size_t i = 0; i < n_tools; i++) {
        char name[32];
        snprintf(name, sizeof name, "tool_%03zu", i);
        r->tools[i] = (struct chat_tool){.name = arena_try_str(&r->arena, str_from(name)),
                                         .schema = json_object_get(r->json, "schema")};
    }
    r->n_tools = n_tools;
    return r;
}

/* Nanoseconds a token. */
static double run(const struct chat_request *r, struct str text)
{
    double best = 1e9;
    for (int k = 0; k < RUNS; k++) {
        size_t n = 0, n_tokens = 0;
        struct answer_config config = {.dialect = dialect_find(STR("hermes")),
                                       .req = r,
                                       .key = (const unsigned char[32]){0},
                                       .sink = count_event,
                                       .ctx = &n};
        struct answer *a = answer_create(&config);
        double from = clock_seconds();
        for (size_t i = 0; i < text.len; i += TOKEN, n_tokens++) {
            uint32_t id = (uint32_t)i;
            answer_feed(a, str_slice(text, i, i + TOKEN), &id, 1);
        }
        answer_finish(a, false);
        double ns = (clock_seconds() - from) * 1e9 / (double)n_tokens;
        if (ns < best) best = ns;
        answer_destroy(a);
    }
    return best;
}

int main(void)
{
    struct buf prose, calls;
    log_set_level(LOG_ERROR);
    buf_init(&prose, (size_t)1 << 20);
    buf_init(&calls, (size_t)1 << 20);
    for (int i = 0; i < 400; i++) buf_printf(&prose, "The %d. ship < left, {as \"said\"}, before the storm came.\n", i);
    for (int i = 0; i < 200; i++)
        buf_printf(&calls,
                   "<tool_call>\n{\"name\": \"tool_%03d\", \"arguments\": {\"path\": \"/a/%d\", \"n\": [1, "
                   "2]}}\n</tool_call>\n",
                   i, i);
    static const size_t n_tools[] = {0, N_TOOLS};
    for (size_t i = 0; i < 2; i++) {
        struct chat_request *r = make_request(n_tools[i]);
        printf("%3zu tools: prose %.0f ns a token", n_tools[i], run(r, buf_str(&prose)));
        if (n_tools[i]) printf(", calls %.0f", run(r, buf_str(&calls)));
        putchar('\n');
        chat_request_destroy(r);
    }
    buf_deinit(&prose);
    buf_deinit(&calls);
    return 0;
}
