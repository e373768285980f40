/* model_ops: joins the engine with the real model and tokenizer. */
#include "base/alloc.h"
#include "base/log.h"
#include "engine/engine_internal.h"

_Static_assert(CACHE_PAGE_TOKENS == KV_PAGE_TOKENS, "cache and model must agree on the size of a page");

struct real {
    struct model *model;
    const struct tokenizer *tokenizer;
};

static bool forward(void *ctx, float *logits, uint8_t *kv_base, const struct model_span *spans, uint32_t n_spans,
                    const volatile int *stop, struct err *e)
{
    const struct real *r = ctx;
    return model_forward(r->model, logits, kv_base, spans, n_spans, stop, e);
}

static bool is_eog(void *ctx, uint32_t token)
{
    const struct real *r = ctx;
    return tokenizer_is_eog(r->tokenizer, token);
}

static bool feed(void *ctx, struct detokenizer *d, struct buf *out, uint32_t token, bool show_control)
{
    const struct real *r = ctx;
    /* A model may have more rows of logits than the vocabulary has tokens (padding): those have no text. */
    if (token >= tokenizer_size(r->tokenizer)) return true;
    return detokenizer_feed(d, r->tokenizer, out, token, show_control);
}

static bool finish(void *ctx, struct detokenizer *d, struct buf *out)
{
    (void)ctx;
    return detokenizer_finish(d, out);
}

static struct grammar_vocab *vocab(void *ctx, struct err *e)
{
    const struct real *r = ctx;
    return grammar_vocab_create(r->tokenizer, e);
}

static bool piece(void *ctx, struct buf *out, uint32_t token)
{
    const struct real *r = ctx;
    return token >= tokenizer_size(r->tokenizer) || tokenizer_piece(r->tokenizer, out, token, true);
}

static bool encode(void *ctx, struct token_list *out, struct str text, struct err *e)
{
    const struct real *r = ctx;
    return tokenizer_encode(r->tokenizer, out, text, true, NULL, 0, e);
}

static bool forced(void *ctx, struct token_list *out, struct grammar_matcher *m, struct err *e)
{
    const struct real *r = ctx;
    return grammar_matcher_forced_tokens(m, out, r->tokenizer, e);
}

struct engine *engine_create(struct model *m, struct compute *c, const struct tokenizer *t,
                             const struct engine_config *config, struct err *e)
{
    struct real *r = mem_alloc(sizeof *r);
    *r = (struct real){m, t};
    struct engine_ops ops = {.ctx = r,
                             .forward = forward,
                             .is_eog = is_eog,
                             .feed = feed,
                             .finish = finish,
                             .destroy = mem_free,
                             .vocab = vocab,
                             .piece = piece,
                             .encode = encode,
                             .forced = forced};
    struct model_info info;
    model_info_get(m, &info);
    struct engine *g = engine_create_with_ops(&ops, &info, config, e);
    if (g) log_info("engine: %d threads", compute_threads(c));
    return g;
}
