/* engine_internal: what the engine's files share. engine.c is the door (any thread); all else runs on the engine's
 * thread: scheduler.c (admission, steps, preemption), sequence.c (one request's life and its events), constraint.c
 * (what an answer may be), sections.c (reasoning in messages of its own), stops.c (stop strings). The model and the
 * tokenizer are reached through engine_ops, so that tests can put toy ones in their place.
 */
#ifndef ENGINE_ENGINE_INTERNAL_H
#define ENGINE_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/buf.h"
#include "base/queue.h"
#include "cache/cache.h"
#include "engine/engine.h"

struct engine_ops {
    void *ctx;
    bool (*forward)(void *ctx, float *logits, uint8_t *kv_base, const struct model_span *spans, uint32_t n_spans,
                    const volatile int *stop, struct err *e);
    bool (*is_eog)(void *ctx, uint32_t token);
    bool (*feed)(void *ctx, struct detokenizer *d, struct buf *out, uint32_t token, bool show_control);
    bool (*finish)(void *ctx, struct detokenizer *d, struct buf *out);
    void (*destroy)(void *ctx); /* may be NULL */
    /* For constraints; without vocab no request may have a grammar. */
    struct grammar_vocab *(*vocab)(void *ctx, struct err *e);                                    /* any thread */
    bool (*piece)(void *ctx, struct buf *out, uint32_t token);                                   /* control shown */
    bool (*encode)(void *ctx, struct token_list *out, struct str text, struct err *e);           /* control parsed */
    bool (*forced)(void *ctx, struct token_list *out, struct grammar_matcher *m, struct err *e); /* of the grammar */
};
/* Takes ops (destroyed also on failure). Of info, n_vocab, n_ctx_train, page_bytes and state_bytes are used. */
struct engine *engine_create_with_ops(const struct engine_ops *ops, const struct model_info *info,
                                      const struct engine_config *config, struct err *e);

/* ---- plan.c ---- */
struct engine_plan {
    uint32_t n_ctx, n_parallel, n_batch, max_queue, n_pages;
};
/* Fills in the defaults and fits the pages into the budget; memory_bytes = memory available now. ERR_TOO_LARGE when a
 * context that was asked for does not fit; a default context shrinks to what fits, with a warning. */
bool engine_plan_make(struct engine_plan *out, const struct model_info *info, const struct engine_config *config,
                      size_t memory_bytes, struct err *e);

/* ---- stops.c ---- */
struct stops;
#define STOPS_MAX 256
#define STOPS_MAX_BYTES 65536
/* Checked copies of the stop strings (valid UTF-8, not empty, within the limits). */
struct stops *stops_create(const struct str *texts, uint32_t n, struct err *e);
void stops_destroy(struct stops *s);
uint32_t stops_longest(const struct stops *s);
/* Reads more text. True when a stop string ends in it: *end = bytes of `text` up to the end of the match, *index which
 * one, *len its length. The first match to end wins, of those the longest: independent of how the text is cut. */
bool stops_feed(struct stops *s, size_t *end, uint32_t *index, uint32_t *len, struct str text);
/* Bytes at the end of what was read that may be the beginning of a stop string. */
uint32_t stops_held(const struct stops *s);

/* ---- sections.c ---- */
struct sections {
    bool is_on, is_inside, has_budget;
    struct buf start, end, close, tail;
    size_t fork;
    uint32_t budget, n_tokens, n_begun;
};
bool sections_init(struct sections *s, const struct engine_reasoning *r, struct err *e);
void sections_deinit(struct sections *s);
/* Whether a token of this text may come: it does not begin another section behind a budget that is used up. */
bool sections_allow(struct sections *s, struct str piece);
void sections_take(struct sections *s, struct str piece);
bool sections_must_close(const struct sections *s);
struct str sections_closing(const struct sections *s); /* what is then to be written */

/* ---- constraint.c ---- */
struct constraint;
/* What a request asks for; NULL in *out when it asks for nothing. Any thread, the vocabulary must be there. */
bool constraint_create(struct constraint **out, struct engine *g, const struct engine_request *r, struct err *e);
void constraint_destroy(struct constraint *c);
/* Draws the next token and goes on with it. *must_close instead of a token: the reasoning has to end here. */
bool constraint_draw(struct engine *g, struct constraint *c, struct sampler_choice *out, bool *must_close,
                     struct sampler *sampler, const float *logits, struct err *e);
/* Appends to *out what comes next whatever the model says: the end of a reasoning whose budget is used up, or text that
 * the grammar forces. */
bool constraint_forced(struct engine *g, struct constraint *c, struct token_list *out, struct err *e);
/* Goes on with a token of constraint_forced; false: the rest of the list is void. */
bool constraint_take(struct engine *g, struct constraint *c, uint32_t token);
bool constraint_must_close(const struct constraint *c);
bool constraint_ended(struct constraint *c); /* nothing can follow */
uint32_t constraint_n_reasoning(const struct constraint *c);

/* ---- sequence.c ---- */
enum command_kind { COMMAND_SUBMIT, COMMAND_CANCEL, COMMAND_PAUSE };
struct command {
    struct queue_item item; /* first: the queue hands this out */
    enum command_kind kind;
    bool paused;
    uint64_t id;
    struct sequence *seq; /* SUBMIT: the command is part of it */
};

struct sequence {
    struct command submit;
    struct sequence *next, *prev; /* waiting list */
    uint64_t id, salt;
    engine_sink *sink;
    void *ctx;
    struct sampler_params sampling;
    bool show_control, paused, admitted;
    uint32_t max_tokens;
    uint32_t *tokens; // [cap]: prompt, then generated
    uint32_t cap, n_tokens, n_prompt, n_cached, n_generated;
    struct stops *stops; /* NULL = none */
    struct buf text;     /* became complete, not yet handed out: what the stop strings hold back */
    struct detokenizer detok;
    struct sampler *sampler;
    struct constraint *constraint; /* NULL = the model decides alone; gone before the last event */
    void *state;                   // [state_bytes] or NULL
    struct cache_seq *kv;          /* NULL while waiting */
    uint32_t n_step;               /* tokens in the current step */
    uint32_t n_new;                /* tokens that the last step of it appended */
    uint32_t n_reasoning;
    uint64_t served_step; /* last step with prefill tokens of this one */
    double submitted_s, admitted_s, first_token_s, progress_s;
};

struct step_entry {
    uint64_t id;
    bool cancelled;
};

struct engine {
    struct engine_ops ops;
    struct engine_plan plan;
    uint32_t n_vocab;
    size_t state_bytes;
    struct cache *cache;
    float *logits; // [n_parallel][n_vocab]
    pthread_mutex_t vocab_lock;
    struct grammar_vocab *vocab; /* NULL until the first grammar; then it stays */
    uint32_t *bits;              // [GRAMMAR_MASK_WORDS(size of vocab)]: as grammar writes masks
    uint64_t *mask;              // [(n_vocab + 63) / 64]: as the sampler reads them
    size_t mask_work;            /* bound of a mask's cost; above it single tokens are tried */
    struct token_list forced;    /* scratch of a step */
    struct buf piece;            /* likewise */
    struct model_span *spans;    // [n_parallel]
    struct sequence **running;   // [n_parallel], oldest first
    struct sequence **step;      // [n_parallel]: sequences of the current step, in the order of spans
    struct sequence **order;     // [n_parallel]: scratch of the planner
    uint32_t n_running, n_step;
    struct sequence *waiting_first, *waiting_last; /* oldest first */
    bool admission_blocked;                        /* the oldest waiting one found no room; nothing changed since */
    double prefill_rate;                           /* tokens a second, running mean; 0 = unknown */

    struct queue commands;
    pthread_t thread;
    bool has_thread;
    atomic_bool closing;
    atomic_uint_fast64_t last_id;
    atomic_uint n_active; /* submitted, not ended and not paused */

    pthread_mutex_t step_lock;  /* the following three: which cancellations may stop the step that runs */
    struct step_entry *in_step; // [n_parallel]
    uint32_t n_in_step;
    volatile int stop;

    struct {
        atomic_uint n_running, n_pages_used, n_pages_cached;
        atomic_uint_fast64_t n_requests, n_prompt_tokens, n_cached_tokens, n_generated_tokens, n_steps;
    } stats;
};

/* A checked copy of a request, or NULL. Any thread. */
struct sequence *sequence_create(struct engine *g, const struct engine_request *request, struct err *e);
void sequence_destroy(struct sequence *s);
/* What generation needs, allocated once. */
bool sequence_prepare(struct engine *g, struct sequence *s, struct err *e);
void sequence_send(struct sequence *s, struct engine_event *ev);
/* One generated token: samples, sends text. True when the sequence ended: *finish is filled but for the times. */
enum token_outcome { TOKEN_GOES_ON, TOKEN_ENDS, TOKEN_FAILS };
enum token_outcome sequence_step(struct engine *g, struct sequence *s, struct engine_event *finish, const float *logits,
                                 struct err *e);
/* Hands out all text that is still held; true when a stop string appears in it (finish becomes FINISH_STOP_STRING). */
void sequence_flush(struct engine *g, struct sequence *s, struct engine_event *finish);

/* ---- scheduler.c ---- */
void *engine_thread(void *engine);

#endif
