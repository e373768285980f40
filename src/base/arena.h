/* arena: memory that is freed all at once. One owner, one thread at a time; has a hard byte budget. */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include <stddef.h>

#include "base/str.h"

struct arena_chunk;
struct arena {
    struct arena_chunk *head; /* newest first */
    size_t used_bytes;        /* handed out, with padding */
    size_t max_bytes;         /* budget; 0 = no limit */
};

void arena_init(struct arena *a, size_t max_bytes);
void arena_deinit(struct arena *a);
void arena_reset(struct arena *a); /* frees what was handed out; the budget stays */

/* Aligned to 16 bytes, not zeroed. arena_try_alloc: NULL when the budget or memory is exhausted; arena_alloc ends the
 * program then (for sizes that we chose). */
void *arena_try_alloc(struct arena *a, size_t size);
void *arena_alloc(struct arena *a, size_t size) __attribute__((returns_nonnull));
void *arena_zalloc(struct arena *a, size_t size) __attribute__((returns_nonnull));

/* A copy with a NUL behind it. ptr is NULL when the budget is exhausted. */
struct str arena_try_str(struct arena *a, struct str s);

#endif
