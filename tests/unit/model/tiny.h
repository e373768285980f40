/* tiny: GGUF models of a few thousand random weights, built in memory and opened through a file. A test changes the
 * spec before tiny_open to get other shapes or a damaged file. */
#ifndef TINY_H
#define TINY_H

#include "gguf/gguf.h"
#include "model/model.h"

enum tiny_kind { TINY_NONE, TINY_U32, TINY_F32, TINY_STR, TINY_FLAGS };

struct tiny_key { /* a hyper-parameter without its "ARCH." */
    const char *name;
    enum tiny_kind kind;
    uint32_t u; /* TINY_FLAGS: this many booleans */
    float f;
    const char *s;
};

#define TINY_MAX_KEYS 32
struct tiny {
    const char *arch;
    struct tiny_key keys[TINY_MAX_KEYS];
    int n_keys;
    int layers, width, heads, kv_heads, dim, ff, vocab, experts;
    bool untied, fused_qkv, mixed_types, rope_freqs, biases;
    const char *skip_tensor;  /* left out */
    const char *wrong_tensor; /* gets one row more */
    const char *extra_tensor; /* added */
    const char *i32_tensor;   /* of a type without products */
    bool token_list;          /* tokenizer.ggml.tokens with `n_tokens` entries */
    int n_tokens;
};

void tiny_init(struct tiny *t, const char *arch);
/* Sets or replaces a key; kind TINY_NONE removes it. */
void tiny_key_set(struct tiny *t, struct tiny_key key);
/* The opened file; never NULL (the test fails). */
struct gguf *tiny_open(const struct tiny *t);

/* A page pool for one test, page numbers handed out in an order that is not 0, 1, 2. */
struct tiny_kv {
    uint8_t *base;
    size_t bytes;
    uint32_t pages[2][40]; /* of two sequences */
};
void tiny_kv_init(struct tiny_kv *kv, const struct model *m);
void tiny_kv_deinit(struct tiny_kv *kv);

#endif
