/* matcher_internal: a matcher's place in the text, shared by matcher.c (steps), mask.c (sets of tokens) and forced.c
 * (what must come). */
#ifndef GRAMMAR_MATCHER_INTERNAL_H
#define GRAMMAR_MATCHER_INTERNAL_H

#include "grammar/machine_internal.h"
#include "grammar/vocab_internal.h"

struct step { /* a state that was reached */
    struct thread *threads;
    size_t n, cap, text;
    struct pool_mark mark;
};
struct grammar_matcher {
    struct machine m;
    struct grammar *g;
    const struct grammar_vocab *v;
    struct step steps[GRAMMAR_STEPS + 1]; /* a ring; [at] is now */
    size_t at, n_back;
    bool ended; /* an end token was taken: nothing may follow */
};

/* Puts the present state at the bottom of the machine's stack and forgets what a walk left behind. */
void matcher_load(struct grammar_matcher *x);
/* Feeds bytes from the state on top of the stack. Only the newest two states stay on it. */
bool matcher_run(struct grammar_matcher *x, struct str bytes);

#endif
