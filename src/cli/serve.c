/* serve: loads a model and serves it; says when it is ready and how to talk to it. */
#include <malloc.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"
#include "server/server.h"

#define MIN_AGENT_CONTEXT 32768 /* Claude Code's first request is 11 to 60 thousand tokens */

#define KEPT_BYTES (4 << 20)

struct serving {
    const struct stack *stack;
    const struct options *options;
};

static void announce(void *ctx, const char *url, uint16_t port)
{
    const struct serving *s = ctx;
    struct model_info info;
    struct engine_stats stats;
    (void)port;
    model_info_get(s->stack->model, &info);
    engine_stats_get(s->stack->engine, &stats);
    uint32_t n_ctx = engine_n_ctx(s->stack->engine);
    const struct compute *c = s->stack->compute;
    log_info("%s (%.0f M parameters) ready after %.2f s: context %u, %d threads, %s kernels", s->stack->model_id,
             (double)info.n_params / 1e6, s->stack->load_s, n_ctx, compute_threads(c),
             cpu_level_name(compute_kernels(c)->level));
    log_info("memory: weights %.0f MB%s, KV cache up to %.0f MB (%u pages of %u tokens), scratch %.0f MB",
             (double)info.weight_bytes / 1e6, info.weights_cached ? " (from the repack cache)" : "",
             (double)stats.n_pages * (double)info.page_bytes / 1e6, stats.n_pages, (unsigned)KV_PAGE_TOKENS,
             (double)info.scratch_bytes / 1e6);
    if (n_ctx < MIN_AGENT_CONTEXT)
        log_warn(
            "a context of %u tokens is too small for coding agents (Claude Code sends 11,000 tokens before the first "
            "word); chat and scripts are fine",
            n_ctx);
    const char *key = s->options->api_key.n || s->options->api_key_file ? "YOUR-KEY" : "dummy";
    printf("\nParley listens on %s\n\n", url);
    printf("  curl:        curl %s/v1/messages -H 'content-type: application/json' -H 'x-api-key: %s' \\\n"
           "                 -d "
           "'{\"model\":\"local\",\"max_tokens\":200,\"messages\":[{\"role\":\"user\",\"content\":\"Hello!\"}]}'\n",
           url, key);
    printf("  Python:      anthropic.Anthropic(base_url=\"%s\", api_key=\"%s\")\n", url, key);
    printf("  Claude Code: ANTHROPIC_BASE_URL=%s ANTHROPIC_API_KEY=%s CLAUDE_CODE_MAX_CONTEXT_TOKENS=%u claude\n", url,
           key, n_ctx);
    printf("  stop:        Ctrl-C\n\n");
    fflush(stdout);
}

/* The next prompt needs what the last one freed: a few MiB given back in between come again as a page fault for each 4
 * KiB of them. */
static void keep_freed_memory(void)
{
    mallopt(M_MMAP_THRESHOLD, KEPT_BYTES);
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
}

int cli_serve(const struct options *o)
{
    struct err e = {0};
    struct stack s = {0};
    struct server_config config;
    struct str keys[OPTIONS_LIST_MAX], origins[OPTIONS_LIST_MAX], hosts[OPTIONS_LIST_MAX];
    struct serving serving = {&s, o};
    server_config_init(&config);
    config.host = str_from(o->host);
    config.port = (uint16_t)o->port;
    for (int i = 0; i < o->api_key.n; i++) keys[i] = str_from(o->api_key.items[i]);
    for (int i = 0; i < o->cors.n; i++) origins[i] = str_from(o->cors.items[i]);
    for (int i = 0; i < o->allowed_host.n; i++) hosts[i] = str_from(o->allowed_host.items[i]);
    config.keys = keys;
    config.n_keys = (size_t)o->api_key.n;
    config.key_file = str_from(o->api_key_file);
    config.cors_origins = origins;
    config.n_cors_origins = (size_t)o->cors.n;
    config.allowed_hosts = hosts;
    config.n_allowed_hosts = (size_t)o->allowed_host.n;
    config.strict_models = o->no_catch_all;
    config.strict = o->strict;
    config.max_per_key = o->key_requests;
    config.thread_s = o->thread_s;
    config.max_threads_bytes = (size_t)o->thread_ram_mib << 20;
    config.rejoin_ms = o->rejoin_s * 1000;
    if (o->pdftotext) config.pdf.program = o->pdftotext;
    config.ready = announce;
    config.ready_ctx = &serving;
    bool ok = stack_open_backend(&s, o, &e);
    keep_freed_memory();
    ok = ok && server_run(&config, local_backend(s.local), &e);
    stack_close(&s);
    return ok ? 0 : cli_fail(&e);
}
