/* hash: a fast 64-bit hash of bytes (not against attackers who choose the keys: seed it from rng_secure there), and
 * a map from strings to 32-bit values built on it. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

uint64_t hash64(const void *data, size_t size, uint64_t seed);
/* The same for large pieces: other values, at the speed of memory. */
uint64_t hash64_bulk(const void *data, size_t size, uint64_t seed);

/* Open addressing, linear probing, at most half full. Keys are borrowed: they must outlive the map. */
struct strmap_slot {
    struct str key; /* ptr NULL = free */
    uint32_t value;
};
struct strmap {
    struct strmap_slot *slots;
    size_t n_slots, n_used; /* n_slots is a power of two */
};

void strmap_init(struct strmap *m);
void strmap_deinit(struct strmap *m);
/* false: memory is exhausted, or the key is there already (the map is unchanged). key.ptr must not be NULL. */
bool strmap_add(struct strmap *m, struct str key, uint32_t value);
bool strmap_find(const struct strmap *m, uint32_t *value, struct str key);

#endif
