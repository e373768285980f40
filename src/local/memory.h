/* memory: what the model wrote, by the id of the answer's first call, or by its text where it called nothing. Clients
 * re-serialise and trim what they send back; when it means the same, the prompt gets the generated text itself, so that
 * nothing is prefilled twice. A bounded LRU; any thread. Private to local/. */
#ifndef LOCAL_MEMORY_H
#define LOCAL_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/str.h"
#include "chat/chat.h"
#include "local/runs.h"

struct call_memory;
struct call_memory *call_memory_create(size_t max_bytes);
void call_memory_destroy(struct call_memory *m);

struct made_call {
    struct str id, name, input; /* input: JSON text */
};
struct made_answer {
    struct str raw;         /* the answer's text without the reasoning, with what the prompt had begun of it */
    struct str full;        /* with it; empty = there was none */
    size_t given;           /* bytes at the start of raw that the client wrote (a prefill) */
    struct token_runs runs; /* the tokens of full, or else of raw; borrowed */
    uint64_t salt;          /* of the request: others never find the answer */
    uint64_t
        context; /* call_memory_context of what it answered: of equal texts the one of this conversation is found */
    struct str ahead;    /* the end of the prompt that it answered ... */
    size_t ahead_free;   /* ... of which so many bytes, at the end, are the template's own */
    struct str text;     /* what the client saw as text */
    struct str thinking; /* what it saw as thinking */
    const struct made_call *calls;
    size_t n_calls;
};
/* Copies. Empty answers, and such as are larger than the budget, are not kept. */
void call_memory_add(struct call_memory *m, const struct made_answer *a);

enum made_match {
    MADE_UNKNOWN, /* not ours, or forgotten */
    MADE_CHANGED, /* ours, but it came back with another meaning */
    MADE_SAME     /* the texts are appended to out */
};
struct made_text { /* an answer taken out again */
    struct buf raw, full, thinking, ahead;
    size_t ahead_free, given, n_calls;
    struct token_runs runs;
};
void made_text_init(struct made_text *t, size_t max_bytes);
void made_text_deinit(struct made_text *t);
/* context: of the messages before it. */
enum made_match call_memory_find(struct call_memory *m, struct made_text *out, const struct chat_message *message,
                                 uint64_t salt, uint64_t context);
/* What the user said so far: a running hash, 0 at the start of a conversation. */
uint64_t call_memory_context(uint64_t context, const struct chat_message *message);

/* Same value: key order and the way numbers are written do not count. */
bool json_same(const json_t *a, const json_t *b);

#endif
