/* rng: xoshiro256** (Blackman, Vigna 2018), seeded by splitmix64. Same seed, same numbers, on every machine.
 * Not for secrets: ids and keys come from rng_secure. */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t s[4];
};

void rng_seed(struct rng *r, uint64_t seed);
uint64_t rng_next(struct rng *r);
double rng_unit(struct rng *r); /* [0, 1), 53 bits */
/* Bytes from the operating system's generator; ends the program if there are none. */
void rng_secure(void *out, size_t size);

#endif
