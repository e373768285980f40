/* walk_internal: walks over a vocabulary's trees, for mask.c. */
#ifndef GRAMMAR_WALK_INTERNAL_H
#define GRAMMAR_WALK_INTERNAL_H

#include "grammar/matcher_internal.h"

#define WALK_LOG 512 /* changed words that are written down */

struct walk_state {
    size_t from, n; /* its threads on the machine's stack */
    struct pool_mark before;
    struct byteset may;  /* no other byte leads anywhere */
    struct dfa *content; /* its only reading is in a string: bytes that this automaton, at `place`, is known */
    uint32_t place;      /* to refuse lead nowhere */
    uint64_t hash;
    uint32_t row; /* of next; NO_ROW: it cannot be met again */
    uint8_t depth;
    bool vague; /* a key of another text stands in its frames */
    bool free;  /* a reading takes every plain text */
    uint8_t visits;
    uint64_t loops; /* buckets whose characters all lead back to it, once it was visited often */
};
struct walk_slot {
    uint64_t hash;
    uint32_t round;
    uint16_t state;
};
struct walk {
    struct grammar_matcher *x;
    uint32_t *bits; /* the mask that is made */
    size_t n_set;
    const struct ready *base;  /* what bits began as; NULL = empty */
    uint32_t log[WALK_LOG];    /* words that differ from it */
    size_t n_log;              /* over WALK_LOG: too many, or unknown */
    size_t own;                /* the matcher's threads lie at the bottom of the stack: this many */
    struct walk_state *states; /* a stack; states with rows stay until the walk ends */
    uint16_t *next;            // [rows][256]
    size_t n, cap, rows, rows_cap;
    size_t work, limit;
    uint32_t round, derived; /* derived: the grammar's count that is in work already */
    uint32_t room;           /* white space that may stand before a text */
    uint8_t loose;           /* depth of the state on top when it can be dropped, else 0 */
    bool plain;              /* only plain texts are asked for */
    bool over;               /* the work exceeds its limit, or no memory */
    struct walk_slot *slots; // [n_slots], a power of two, at most half full
    size_t n_slots;
};

struct walk *walk_get(struct grammar_matcher *x);
/* Counts steps, and what the automata cost since the last count; false when the limit is passed. */
bool walk_goes_on(struct walk *w, size_t steps);

struct walk_from {
    size_t from;                /* its threads are the stack from here on; they are dropped */
    uint32_t node;              /* 0 or a node of the tree; the threads are those behind its text */
    bool plain;                 /* the tree has plain texts only */
    bool vague;                 /* a key of another text stands in the threads' frames */
    const struct byteset *only; /* first bytes that are looked at; NULL = all */
};
/* Adds the tokens of a tree that the threads on the stack can take. */
void walk_tree(struct walk *w, const struct tree *tree, struct walk_from f);
/* Adds the plain tokens that an automaton can take from this state; false when that takes more than so many nodes. */
bool walk_content(struct walk *w, struct dfa *d, uint32_t state, size_t nodes);
/* Whether the matcher's own state takes the token, by its bytes. */
bool walk_takes(struct walk *w, uint32_t token);
/* A reading inside a JSON string, which no plain token ends. */
bool in_string(const struct thread *t);
/* ... in which every plain token fits. */
bool is_open(const struct grammar_vocab *v, const struct thread *t);

static inline void mask_set(struct walk *w, uint32_t id)
{
    uint32_t bit = 1u << (id % 32), old = w->bits[id / 32];
    if (old & bit) return;
    w->bits[id / 32] = old | bit;
    w->n_set++;
    if (w->n_log < WALK_LOG) w->log[w->n_log] = id / 32;
    w->n_log++;
}
static inline void mask_unset(struct walk *w, uint32_t id)
{
    uint32_t bit = 1u << (id % 32), old = w->bits[id / 32];
    if (!(old & bit)) return;
    w->bits[id / 32] = old & ~bit;
    w->n_set--;
    if (w->n_log < WALK_LOG) w->log[w->n_log] = id / 32;
    w->n_log++;
}

#endif
