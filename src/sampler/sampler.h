/* sampler: logits -> one token. The chain is penalties -> temperature -> top-k -> top-p -> min-p -> draw; temperature 0
 * is greedy (after penalties). Knows nothing but logits, a mask and the tokens so far. One sampler per sequence, one
 * thread at a time. Same seed and same logits, same tokens. Cost: O(n_vocab) with small constants, no full sort. */
#ifndef SAMPLER_SAMPLER_H
#define SAMPLER_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sampler_params {
    float temperature;       /* 0 = greedy */
    int top_k;               /* 0 = off */
    float top_p;             /* 1 = off */
    float min_p;             /* 0 = off */
    float repeat_penalty;    /* 1 = off; divides positive logits, multiplies negative ones (CTRL, Keskar 2019) */
    float presence_penalty;  /* 0 = off; OpenAI's definition, over generated tokens */
    float frequency_penalty; /* 0 = off */
    int penalty_last_n;      /* window of repeat_penalty in tokens, prompt included; default 64, at most 65536 */
    bool logprobs;           /* sampler_draw also gives the token's; at 260 K tokens it costs as much as a draw */
    uint64_t seed;
};
#define SAMPLER_DEFAULTS \
    ((struct sampler_params){.temperature = 1, .top_p = 1, .repeat_penalty = 1, .penalty_last_n = 64})

struct sampler;
/* Parameters out of range are brought to the nearest sensible value: NaN switches a step off, top_p <= 0 keeps one
 * token. */
struct sampler *sampler_create(const struct sampler_params *params, uint32_t n_vocab);
void sampler_destroy(struct sampler *s);
/* Tells the sampler of a token that is part of the sequence: of the prompt, or the one that was drawn. */
void sampler_accept(struct sampler *s, uint32_t token, bool generated);

struct sampler_choice {
    uint32_t token;
    float logprob; /* of the token under softmax(logits), before penalties, temperature, mask; NaN if not asked for */
};
/* Draws from logits[n_vocab] (not changed). mask: [(n_vocab + 63) / 64] words, a bit per token, clear = forbidden, or
 * NULL. NaN logits count as -infinity; false when no token is left (mask or logits forbid everything). Equal logits:
 * greedy takes the lowest id. */
bool sampler_draw(struct sampler *s, struct sampler_choice *out, const float *logits, const uint64_t *mask);
/* The n best tokens of logits by probability, best first (for log-probability answers). Where fewer than n have a
 * probability, the rest is token UINT32_MAX, logprob -infinity. Meant for small n: O(n_vocab + n log n) expected. */
void sampler_top(struct sampler_choice *out, int n, const float *logits, uint32_t n_vocab);

#endif
