/* toy: a model and a tokenizer for the engine's tests. KV pages hold token ids; the next token depends on all ids that
 * the model reads back from the pages, so a wrong, stale or foreign page changes the answer. */
#ifndef TOY_H
#define TOY_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/engine_internal.h"

#define TOY_VOCAB 300u
#define TOY_EOG 299u
#define TOY_CONTROL 298u /* has a text only for those who want to see it; with has_vocab */
#define TOY_PAGE_BYTES (CACHE_PAGE_TOKENS * sizeof(uint32_t))

enum toy_kind {
    TOY_HASH,      /* logits from a hash of all tokens so far */
    TOY_SUCCESSOR, /* token n is followed by n + 1 */
    TOY_SCRIPT,    /* wants script[position - script_from]; behind its end, or where that cannot be, as TOY_HASH */
};

struct toy {
    enum toy_kind kind;
    uint32_t eog_in;          /* TOY_HASH: about one token of so many ends the answer; 0 = never */
    const char *const *texts; /* [TOY_VOCAB] or NULL: letters */
    bool uses_state, has_vocab;
    const uint32_t *script; // [n_script]
    uint32_t n_script, script_from;
    atomic_bool fail;    /* the next step fails */
    atomic_uint step_us; /* each step takes so long */
    atomic_bool hold;    /* steps do not return while set, but for the stop flag */
    atomic_uint n_steps, n_tokens, n_mixed_max, n_prefill_max, n_spans_max, n_stopped;
};

void toy_logits(const struct toy *t, float *logits, const uint32_t *tokens, uint32_t n);
struct engine *toy_engine(struct toy *t, const struct engine_config *config);

/* What a request got. */
struct result {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char text[20000];
    size_t len;
    uint32_t n_started, n_texts, n_prefill, n_last;
    bool ended, is_ending; /* is_ending: the last text said that it was the last */
    struct engine_event last;
    struct err err;
    struct engine *g;
    uint64_t id;
    uint32_t cancel_after; /* texts; 0 = never */
};
void result_init(struct result *r);
void result_sink(void *ctx, const struct engine_event *ev);
void result_wait(struct result *r);
void result_wait_texts(struct result *r, uint32_t n);
void result_wait_started(struct result *r);

struct engine_request toy_request(struct result *r, const uint32_t *tokens, uint32_t n, uint32_t max_tokens);
/* Runs one request to its end. */
void toy_run(struct engine *g, struct result *r, const struct engine_request *request);
/* The answer without any engine; also the generated tokens when out is not NULL. */
void toy_expect(const struct toy *t, struct result *r, uint32_t *out, const struct engine_request *request,
                uint32_t n_ctx);

#endif
