/* vocab_internal: the tries of a vocabulary, for mask.c. */
#ifndef GRAMMAR_VOCAB_INTERNAL_H
#define GRAMMAR_VOCAB_INTERNAL_H

#include "grammar/grammar.h"

#define TOKEN_BYTES_MAX 255 /* longer tokens can never come out of a grammar */
#define PLAIN_SLICES 33     /* plain texts of at most 0, 1, ... 31 characters, and all */

#define SAME_TEXT 0x80000000u /* beside a token: next_same has others of this text */
struct trie_node {
    uint32_t token; /* the last that ends here, perhaps with SAME_TEXT, or TOKEN_NONE */
    uint32_t skip;  /* index behind this subtree */
    uint32_t first; /* place of its first token in order */
    uint32_t below; /* buckets (byte_bucket) of all bytes below it */
    uint8_t byte, depth;
};
struct trie {
    struct trie_node *nodes;
    uint32_t *order; /* tokens in the order of nodes */
    size_t n, n_order;
};
struct long_text {
    uint32_t token, chars;
};
struct grammar_vocab {
    uint32_t n, longest; /* longest: characters of a plain text */
    uint32_t max_len;    /* bytes of the longest text that is in a trie */
    size_t n_words, memory;
    uint32_t *offsets; // [n + 1]
    char *bytes;
    uint32_t *ends;          // [n_words] bit set: ends a generation
    uint32_t *next_same;     // [n]
    uint32_t *slices;        // [PLAIN_SLICES][n_words]
    struct long_text *longs; /* plain texts of more characters than the slices tell apart */
    uint32_t n_long;
    struct trie plain, rest;
};
/* Plain bytes in 32 groups: what a state takes and stays itself is known by group, so that a walk can skip whole
 * subtrees. */
static inline unsigned byte_bucket(uint8_t b)
{
    if (b >= 'a' && b <= 'z') return b - 'a';
    if (b >= '0' && b <= '9') return 26;
    if (b >= 'A' && b <= 'Z') return 27;
    return b >= 0x80 ? 31 : b == ' ' ? 28 : b == '<' ? 29 : 30;
}
struct str grammar_vocab_text(const struct grammar_vocab *v, uint32_t id);

#endif
