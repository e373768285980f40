/* toy: see toy.h. */
#include "toy.h"

#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "unit.h"

void toy_logits(const struct toy *t, float *logits, const uint32_t *tokens, uint32_t n)
{
    if (t->kind == TOY_SUCCESSOR) {
        for (uint32_t i = 0; i < TOY_VOCAB; i++) logits[i] = i == tokens[n - 1] + 1 ? 5.0f : -50.0f;
        return;
    }
    uint64_t h = hash64(tokens, n * sizeof *tokens, 7);
    for (uint32_t i = 0; i < TOY_VOCAB; i++) {
        h = h * 6364136223846793005u + 1442695040888963407u;
        logits[i] = (float)(h >> 40) * (6.0f / (1 << 24));
    }
    logits[TOY_EOG] = t->eog_in && h % t->eog_in == 0 ? 50.0f : -50.0f;
    if (t->kind == TOY_SCRIPT && n >= t->script_from && n - t->script_from < t->n_script)
        logits[t->script[n - t->script_from]] = 100.0f;
}

static void pause_us(uint32_t us)
{
    struct timespec ts = {us / 1000000, (long)(us % 1000000) * 1000};
    nanosleep(&ts, NULL);
}

static uint32_t *kv_slot(uint8_t *base, const struct model_span *s, uint32_t pos)
{
    return (uint32_t *)(void *)(base + s->pages[pos / CACHE_PAGE_TOKENS] * TOY_PAGE_BYTES) + pos % CACHE_PAGE_TOKENS;
}

static void note(struct toy *t, const struct model_span *spans, uint32_t n_spans)
{
    uint32_t n = 0, n_decode = 0;
    for (uint32_t i = 0; i < n_spans; i++) n += spans[i].n_tokens, n_decode += spans[i].n_tokens == 1;
    atomic_fetch_add(&t->n_steps, 1);
    atomic_fetch_add(&t->n_tokens, n);
    if (n_decode && n > atomic_load(&t->n_mixed_max)) atomic_store(&t->n_mixed_max, n);
    if (n > atomic_load(&t->n_prefill_max)) atomic_store(&t->n_prefill_max, n);
    if (n_spans > atomic_load(&t->n_spans_max)) atomic_store(&t->n_spans_max, n_spans);
}

static void span_forward(struct toy *t, float *logits, uint8_t *base, const struct model_span *s)
{
    uint32_t n = s->pos + s->n_tokens;
    uint32_t *all = mem_alloc(n * sizeof *all);
    for (uint32_t i = 0; i < s->n_tokens; i++) *kv_slot(base, s, s->pos + i) = s->tokens[i];
    for (uint32_t i = 0; i < n; i++) all[i] = *kv_slot(base, s, i);
    if (t->uses_state) { /* the state counts tokens: it must have seen each exactly once */
        uint32_t *seen = s->state;
        if (*seen != s->pos) ck_abort_msg("state has seen %u tokens at position %u", *seen, s->pos);
        *seen += s->n_tokens;
    }
    if (s->n_logits) toy_logits(t, logits, all, n);
    mem_free(all);
}

static bool toy_forward(void *ctx, float *logits, uint8_t *base, const struct model_span *spans, uint32_t n_spans,
                        const volatile int *stop, struct err *e)
{
    struct toy *t = ctx;
    note(t, spans, n_spans);
    uint32_t us = atomic_load(&t->step_us);
    if (us) pause_us(us);
    while (atomic_load(&t->hold) && !__atomic_load_n(stop, __ATOMIC_RELAXED)) pause_us(200);
    if (__atomic_load_n(stop, __ATOMIC_RELAXED)) {
        atomic_fetch_add(&t->n_stopped, 1);
        for (uint32_t i = 0; i < n_spans; i++) /* undefined from here on: make it wrong */
            for (uint32_t k = 0; k < spans[i].n_tokens; k++) *kv_slot(base, &spans[i], spans[i].pos + k) = 0xdeadbeef;
        return err_set(e, ERR_CANCELLED, "stopped");
    }
    if (atomic_exchange(&t->fail, false)) return err_set(e, ERR_INTERNAL, "the toy broke");
    uint32_t row = 0;
    for (uint32_t i = 0; i < n_spans; i++) {
        span_forward(t, logits + (size_t)row * TOY_VOCAB, base, &spans[i]);
        row += spans[i].n_logits;
    }
    return true;
}

static bool toy_is_eog(void *ctx, uint32_t token)
{
    (void)ctx;
    return token == TOY_EOG;
}

static void append_text(const struct toy *t, struct buf *out, uint32_t token)
{
    if (t->texts) buf_append(out, str_from(t->texts[token]));
    else {
        buf_append_char(out, (char)('a' + token % 26));
        if (token >= 100) buf_append_char(out, (char)('A' + token / 26));
    }
}

static bool toy_feed(void *ctx, struct detokenizer *d, struct buf *out, uint32_t token, bool show_control)
{
    (void)d, (void)show_control;
    append_text(ctx, out, token);
    return !out->failed;
}

static bool toy_finish(void *ctx, struct detokenizer *d, struct buf *out)
{
    (void)ctx, (void)d, (void)out;
    return true;
}

static bool toy_piece(void *ctx, struct buf *out, uint32_t token)
{
    append_text(ctx, out, token);
    return !out->failed;
}

/* The last two have no text: TOY_CONTROL and TOY_EOG. */
static struct grammar_vocab *toy_vocab(void *ctx, struct err *e)
{
    const struct toy *t = ctx;
    struct str texts[TOY_VOCAB];
    bool ends[TOY_VOCAB] = {[TOY_EOG] = true};
    for (uint32_t i = 0; i < TOY_VOCAB; i++) texts[i] = i < TOY_CONTROL ? str_from(t->texts[i]) : STR_NONE;
    return grammar_vocab_from_texts(texts, ends, TOY_VOCAB, e);
}

/* The longest text first. */
static bool toy_encode(void *ctx, struct token_list *out, struct str text, struct err *e)
{
    const struct toy *t = ctx;
    for (size_t at = 0, longest; at < text.len; at += longest) {
        uint32_t best = TOKEN_NONE;
        longest = 0;
        for (uint32_t i = 0; i < TOY_CONTROL; i++) {
            struct str s = str_from(t->texts[i]);
            if (s.len > longest && str_starts(str_slice(text, at, text.len), s)) longest = s.len, best = i;
        }
        if (!longest) return err_set(e, ERR_INTERNAL, "no token for this text");
        if (!token_list_append(out, best, e)) return false;
    }
    return true;
}

static bool toy_forced(void *ctx, struct token_list *out, struct grammar_matcher *m, struct err *e)
{
    struct buf text;
    buf_init(&text, 4096);
    bool ok = grammar_matcher_forced(m, &text, 4000) && toy_encode(ctx, out, buf_str(&text), e);
    if (out->n) out->n--;
    buf_deinit(&text);
    return ok;
}

struct engine *toy_engine(struct toy *t, const struct engine_config *config)
{
    struct engine_ops ops = {
        .ctx = t, .forward = toy_forward, .is_eog = toy_is_eog, .feed = toy_feed, .finish = toy_finish};
    if (t->has_vocab) {
        ops.vocab = toy_vocab;
        ops.piece = toy_piece;
        ops.encode = toy_encode;
        ops.forced = toy_forced;
    }
    struct model_info info = {.n_vocab = TOY_VOCAB,
                              .n_ctx_train = 4096,
                              .page_bytes = TOY_PAGE_BYTES,
                              .state_bytes = t->uses_state ? sizeof(uint32_t) : 0};
    struct err e = {0};
    struct engine *g = engine_create_with_ops(&ops, &info, config, &e);
    ck_assert_msg(g != NULL, "%s", e.msg);
    return g;
}

/* ---- results ---- */

void result_init(struct result *r)
{
    memset(r, 0, sizeof *r);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
}

void result_sink(void *ctx, const struct engine_event *ev)
{
    struct result *r = ctx;
    bool cancel = false;
    pthread_mutex_lock(&r->lock);
    if (r->ended) ck_abort_msg("event %d after the last one", ev->kind);
    if (r->n_started == 0 && ev->kind != ENGINE_STARTED && ev->kind != ENGINE_FAILED) ck_abort_msg("not started");
    bool is_end = ev->kind == ENGINE_FINISHED || ev->kind == ENGINE_FAILED;
    if (r->is_ending && !is_end) ck_abort_msg("event %d behind the last text", ev->kind);
    switch (ev->kind) {
    case ENGINE_STARTED: r->n_started++; break;
    case ENGINE_PREFILL: r->n_prefill++; break;
    case ENGINE_TEXT:
        if (!ev->text.len || r->len + ev->text.len >= sizeof r->text) ck_abort_msg("text of %zu bytes", ev->text.len);
        memcpy(r->text + r->len, ev->text.ptr, ev->text.len);
        r->len += ev->text.len;
        r->n_texts++;
        r->is_ending = ev->is_last;
        cancel = r->cancel_after && r->n_texts == r->cancel_after;
        break;
    case ENGINE_FAILED: r->err = *ev->err; /* fall through */
    case ENGINE_FINISHED: r->ended = true; break;
    }
    r->last = *ev;
    r->last.text = STR_NONE;
    r->last.err = NULL;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    if (cancel) engine_cancel(r->g, r->id);
}

void result_wait(struct result *r)
{
    pthread_mutex_lock(&r->lock);
    while (!r->ended) pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

void result_wait_texts(struct result *r, uint32_t n)
{
    pthread_mutex_lock(&r->lock);
    while (!r->ended && r->n_texts < n) pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

void result_wait_started(struct result *r)
{
    pthread_mutex_lock(&r->lock);
    while (!r->ended && !r->n_started) pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
}

struct engine_request toy_request(struct result *r, const uint32_t *tokens, uint32_t n, uint32_t max_tokens)
{
    return (struct engine_request){.tokens = tokens,
                                   .n_tokens = n,
                                   .max_tokens = max_tokens,
                                   .sampling = {.temperature = 0, .top_p = 1, .repeat_penalty = 1},
                                   .sink = result_sink,
                                   .ctx = r};
}

void toy_run(struct engine *g, struct result *r, const struct engine_request *request)
{
    struct err e = {0};
    result_init(r);
    ck_assert_msg(engine_submit(g, &r->id, request, &e), "%s", e.msg);
    result_wait(r);
}

void toy_expect(const struct toy *t, struct result *r, uint32_t *out, const struct engine_request *request,
                uint32_t n_ctx)
{
    float logits[TOY_VOCAB];
    uint32_t n = request->n_tokens, *tokens = mem_alloc(n_ctx * sizeof *tokens);
    struct sampler *sampler = sampler_create(&request->sampling, TOY_VOCAB);
    struct buf text;
    result_init(r);
    buf_init(&text, sizeof r->text);
    memcpy(tokens, request->tokens, n * sizeof *tokens);
    for (uint32_t i = 0; i < n; i++) sampler_accept(sampler, tokens[i], false);
    r->last.finish = FINISH_LENGTH;
    while (r->last.n_generated < request->max_tokens) {
        struct sampler_choice c;
        toy_logits(t, logits, tokens, n);
        ck_assert(sampler_draw(sampler, &c, logits, NULL));
        if (c.token == TOY_EOG) {
            r->last.finish = FINISH_EOG;
            break;
        }
        sampler_accept(sampler, c.token, true);
        append_text(t, &text, c.token);
        if (out) out[r->last.n_generated] = c.token;
        r->last.n_generated++;
        tokens[n++] = c.token;
        if (n < n_ctx) continue;
        if (r->last.n_generated < request->max_tokens) r->last.finish = FINISH_CONTEXT;
        break;
    }
    memcpy(r->text, text.ptr ? text.ptr : "", text.len);
    r->len = text.len;
    buf_deinit(&text);
    sampler_destroy(sampler);
    mem_free(tokens);
}
