/* engine: sequences, admission, batching, constraints and the step loop; this header is its only door. One thread owns
 * the sequences, the cache and the model's mutable state. engine_submit, _cancel and _pause may be called from any
 * thread; events come on the engine's thread, in order, and must not block.
 *
 * A step is one ragged batch: every decoding sequence, then prefill chunks up to a budget, decode first; admission in
 * order of arrival. A cancelled request ends within one step; its computed prefix stays in the cache. */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "grammar/grammar.h"
#include "model/model.h"
#include "sampler/sampler.h"
#include "tokenizer/tokenizer.h"

struct engine;

struct engine_config {
    uint32_t n_ctx;      /* most tokens of a sequence, prompt + answer; 0 = the model's (at most 32768) */
    uint32_t n_parallel; /* sequences in a step; 0 = 4 */
    uint32_t n_batch;    /* most tokens of a step; 0 = 512 */
    uint32_t max_queue;  /* waiting requests; more are refused with ERR_BUSY; 0 = 256 */
    size_t kv_bytes;     /* budget of all KV pages; 0 = room for n_parallel sequences of n_ctx, at most half of the
                          * memory available */
};

/* m and t must outlive the engine. Starts the engine's thread. */
struct engine *engine_create(struct model *m, struct compute *c, const struct tokenizer *t,
                             const struct engine_config *config, struct err *e);
/* Stops: running requests get ENGINE_FAILED with ERR_CANCELLED. */
void engine_destroy(struct engine *g);

enum engine_event_kind {
    ENGINE_STARTED,  /* admitted: n_prompt, n_cached are known */
    ENGINE_PREFILL,  /* progress: n_done of n_prompt tokens computed */
    ENGINE_TEXT,     /* text became certain (never half a character, never part of a stop string) */
    ENGINE_FINISHED, /* last event of a request */
    ENGINE_FAILED,   /* last event of a request: err */
};
enum engine_finish { FINISH_EOG, FINISH_LENGTH, FINISH_CONTEXT, FINISH_STOP_STRING };

struct engine_event {
    enum engine_event_kind kind;
    uint32_t n_prompt, n_cached; /* STARTED and later */
    uint32_t n_done;             /* PREFILL */
    struct str text;             /* TEXT: borrowed for the call */
    bool is_last;                /* TEXT: the request's last event follows at once */
    uint32_t n_generated;        /* TEXT, FINISHED: tokens so far, the end-of-generation token not counted */
    const uint32_t *tokens;      // [n_generated]: TEXT, FINISHED; some of their text may still be held back. Borrowed
    uint32_t n_reasoning;        /* of these, between the markers of the reasoning */
    enum engine_finish finish;   /* FINISHED */
    int stop_index;              /* FINISHED by FINISH_STOP_STRING: which one */
    uint32_t eog_token;          /* FINISHED by FINISH_EOG; TOKEN_NONE: the grammar left nothing to write */
    double prefill_s, decode_s, queue_s; /* FINISHED */
    const struct err *err;               /* FAILED */
};
typedef void engine_sink(void *ctx, const struct engine_event *ev);

/* Reasoning that comes before the answer, between markers. No grammar constrains it; white space may stand around the
 * markers. Texts are at most ENGINE_MARKER_MAX bytes and copied. */
#define ENGINE_MARKER_MAX 250
#define ENGINE_ALSO_MAX 3
struct engine_reasoning {
    struct str end;   /* what ends it; empty = the answer has no such section, and all else here means nothing */
    struct str start; /* the answer may begin with this and then reasons; empty = it cannot */
    struct str close; /* what is written where the budget is used up; holds `end` */
    /* These end it too, but are the beginning of the answer: models call tools out of their reasoning. Empty = none. */
    struct str also[ENGINE_ALSO_MAX];
    bool is_open; /* the prompt has opened it already */
    bool has_budget;
    uint32_t budget; /* most tokens between the markers */
    /* Not one section before the answer, but messages of the answer, which the grammar describes like all else: they
     * may come again, until the budget is used up. `close` begins with `end`; `also` means nothing. */
    bool recurs;
    size_t fork; /* bytes of start with which other messages begin, too */
};

struct engine_request {
    const uint32_t *tokens; /* the prompt: copied */
    uint32_t n_tokens;      /* >= 1 and < n_ctx, else ERR_TOO_LARGE */
    uint32_t max_tokens;    /* 0 = only prefill: FINISHED by FINISH_LENGTH, the cache is warm */
    struct sampler_params sampling;
    const struct str *stops; /* copied; empty ones are not allowed */
    uint32_t n_stops;
    uint64_t salt;     /* requests with different salts share no cache pages */
    bool show_control; /* control tokens appear in the text (dialects need them) */
    /* What the answer must be, from behind the reasoning on; NULL = free. Only the engine uses it from a successful
     * submit on; it keeps a reference of its own, and lets go of it before the last event is sent. When the grammar
     * cannot go on (it is out of its budget, or in a dead end) the request fails with ERR_TOO_LARGE; with
     * grammar_is_help it goes on without. */
    struct grammar *grammar;
    bool grammar_is_help;
    struct engine_reasoning reasoning;
    engine_sink *sink;
    void *ctx;
};

/* A request is coming within microseconds: an idle engine wakes up meanwhile. */
void engine_expect(struct engine *g);
/* Queues the request; *id identifies it until its last event was delivered. The sink may be called before this
 * returns. false: ERR_BUSY, ERR_TOO_LARGE or ERR_INVALID, and no event will come. */
bool engine_submit(struct engine *g, uint64_t *id, const struct engine_request *request, struct err *e);
void engine_cancel(struct engine *g, uint64_t id); /* gives ENGINE_FAILED (ERR_CANCELLED) unless it just ended */
void engine_pause(struct engine *g, uint64_t id, bool paused); /* back-pressure: no steps for it while paused */

/* Makes the trie of the vocabulary that grammars need, unless it is there (a large one takes a tenth of a second).
 * engine_submit does it too when a request has a grammar; call this first where that must not take long. Any thread. */
bool engine_ready_grammar(struct engine *g, struct err *e);

uint32_t engine_n_ctx(const struct engine *g);
struct engine_stats {
    uint32_t n_running, n_waiting, n_pages, n_pages_used, n_pages_cached;
    uint64_t n_requests, n_prompt_tokens, n_cached_tokens, n_generated_tokens, n_steps;
};
void engine_stats_get(struct engine *g, struct engine_stats *out); /* any thread */

#endif
