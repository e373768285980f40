/* plan: how much context, how many sequences and KV pages fit, decided once at start. */
#include <inttypes.h>

#include "base/log.h"
#include "engine/engine_internal.h"

#define DEFAULT_N_CTX 32768u
#define DEFAULT_N_PARALLEL 4u
#define DEFAULT_N_BATCH 512u
#define DEFAULT_MAX_QUEUE 256u
#define SMALLEST_N_CTX 256u
#define MAX_PAGES (1u << 30)
#define MIB ((size_t)1 << 20)

static bool check_config(struct engine_plan *p, const struct model_info *info, const struct engine_config *config,
                         struct err *e)
{
    uint32_t trained = info->n_ctx_train ? info->n_ctx_train : DEFAULT_N_CTX;
    p->n_ctx = config->n_ctx ? config->n_ctx : trained < DEFAULT_N_CTX ? trained : DEFAULT_N_CTX;
    p->n_parallel = config->n_parallel ? config->n_parallel : DEFAULT_N_PARALLEL;
    p->n_batch = config->n_batch ? config->n_batch : DEFAULT_N_BATCH;
    p->max_queue = config->max_queue ? config->max_queue : DEFAULT_MAX_QUEUE;
    if (!info->page_bytes || !info->n_vocab)
        return err_set(e, ERR_INVALID, "model with %u tokens and KV pages of %zu bytes: both must be positive",
                       info->n_vocab, info->page_bytes);
    if (p->n_ctx < 2 || p->n_ctx > 1u << 28)
        return err_set(e, ERR_INVALID, "context of %u tokens; 2 to %u are possible", p->n_ctx, 1u << 28);
    if (p->n_parallel > p->n_batch || p->n_parallel > 4096)
        return err_set(e, ERR_INVALID, "%u parallel sequences; a step of %u tokens allows at most %u", p->n_parallel,
                       p->n_batch, p->n_batch < 4096 ? p->n_batch : 4096);
    if (p->n_ctx > trained) log_warn("context of %u tokens; the model was trained for %u", p->n_ctx, trained);
    return true;
}

bool engine_plan_make(struct engine_plan *out, const struct model_info *info, const struct engine_config *config,
                      size_t memory_bytes, struct err *e)
{
    if (!check_config(out, info, config, e)) return false;
    uint64_t per_sequence = (out->n_ctx + CACHE_PAGE_TOKENS - 1) / CACHE_PAGE_TOKENS;
    uint64_t wanted = (per_sequence + 1) * out->n_parallel; /* + 1: a page copied to continue inside it */
    uint64_t budget_bytes = config->kv_bytes ? config->kv_bytes : memory_bytes / 2;
    uint64_t pages = budget_bytes / info->page_bytes;
    if (!config->kv_bytes && pages > wanted) pages = wanted;
    if (pages > MAX_PAGES) pages = MAX_PAGES;
    out->n_pages = (uint32_t)pages;
    if (pages >= per_sequence) {
        if (pages < wanted)
            log_info("KV cache: %" PRIu64 " MiB hold %" PRIu64 " tokens; %u sequences of %u tokens would need %" PRIu64
                     " MiB",
                     budget_bytes / MIB, pages * CACHE_PAGE_TOKENS, out->n_parallel, out->n_ctx,
                     wanted * info->page_bytes / MIB);
        return true;
    }
    uint64_t fits = pages * CACHE_PAGE_TOKENS;
    if (config->n_ctx || fits < SMALLEST_N_CTX)
        return err_set(e, ERR_TOO_LARGE,
                       "a context of %u tokens needs %" PRIu64 " MiB of KV cache; %s %" PRIu64
                       " MiB, which is enough for %" PRIu64 " tokens: lower the context or raise the KV budget",
                       out->n_ctx, (per_sequence * info->page_bytes + MIB - 1) / MIB,
                       config->kv_bytes ? "the budget is" : "half of the available memory is", budget_bytes / MIB,
                       fits);
    log_warn("context lowered from %u to %" PRIu64 " tokens: the KV cache has %" PRIu64 " MiB", out->n_ctx, fits,
             budget_bytes / MIB);
    out->n_ctx = (uint32_t)fits;
    return true;
}
