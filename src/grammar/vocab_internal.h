/* vocab_internal: the trees and ready masks of a vocabulary, for walk.c and mask.c. */
#ifndef GRAMMAR_VOCAB_INTERNAL_H
#define GRAMMAR_VOCAB_INTERNAL_H

#include "grammar/grammar.h"

#define TOKEN_BYTES_MAX 255 /* longer tokens can never come out of a grammar */
#define PLAIN_SLICES 33     /* plain texts of at most 0, 1, ... 31 characters, and all */
#define TREE_NONE UINT32_MAX

/* Nodes level by level, so that the children of a node are neighbours: [kids, kids of the next node). Tokens in the
 * order of their texts: [first, own) end at the node, [first, last) lie at or below it. Node 0 is the empty text. */
struct tree_node {
    uint32_t kids, first, own, last;
    uint64_t below; /* buckets (byte_bucket) of all bytes below it */
};
struct tree {
    struct tree_node *nodes; // [n + 1]
    uint8_t *bytes;          // [n] the byte that leads to a node
    uint32_t *order;         // [n_order]
    uint8_t *spaces;         // [n_order] white space that stands before the text in the token; NULL = none
    size_t n, n_order;
    uint32_t max_spaces;
};
struct long_text {
    uint32_t token, chars;
};
struct spaced { /* tokens by the white space before their text, ascending */
    uint32_t *tokens;
    uint8_t *spaces;
    size_t n;
};
/* A ready mask: the tokens that go on inside a string that takes every text. */
struct ready {
    uint32_t *bits;
    size_t n_set;
};
struct grammar_vocab {
    uint32_t n, longest; /* longest: characters of a plain text */
    uint32_t max_len;    /* bytes of the longest text that is in a tree */
    size_t n_words, memory;
    uint64_t id;       /* equal for equal texts */
    bool learnt;       /* inside and quoted are filled */
    uint32_t *offsets; // [n + 1]
    char *bytes;
    bool *is_end; // [n] ends a generation
    uint32_t *ends;
    uint32_t n_ends;
    uint32_t *slices;        // [PLAIN_SLICES][n_words]
    struct long_text *longs; /* plain texts of more characters than the slices tell apart */
    uint32_t n_long;
    struct tree plain, rest; /* every text is in one of them */
    /* Behind a free string's own text: `inside` stays in it; `closers` are plain text, a quote, and what the tree has;
     * `odd` are the others with a quote. The same for tokens that open it (white space, a quote, text ...): `quoted`
     * (also as a list, by its white space), `quoted_closers`, `quoted_odd` (all of the token but its white space). */
    struct ready inside, quoted, blank; /* quoted: and white space; blank: white space alone */
    struct tree closers, odd, quoted_closers, quoted_odd;
    struct tree texts_closers; /* closers that do not begin with the quote */
    struct spaced quoted_list;
    /* Tokens that JSON can go on with between strings: white space alone; texts from the first byte behind it on. */
    struct spaced white;
    struct tree core;
};
/* Bytes in groups: what a state takes and stays itself is known by group, so that a walk can skip whole subtrees. */
#define BUCKET_QUOTE 32
#define BUCKET_BACKSLASH 33
#define BUCKET_CONTROL 34
#define BUCKET_WIDE 31
#define BUCKETS_SPECIAL (UINT64_C(15) << BUCKET_WIDE) /* not sure to be string content */
static inline unsigned byte_bucket(uint8_t b)
{
    if (b >= 'a' && b <= 'z') return b - 'a';
    if (b >= '0' && b <= '9') return 26;
    if (b >= 'A' && b <= 'Z') return 27;
    if (b >= 0x80) return BUCKET_WIDE;
    if (b < 0x20) return BUCKET_CONTROL;
    return b == ' ' ? 28 : b == '<' ? 29 : b == '"' ? BUCKET_QUOTE : b == '\\' ? BUCKET_BACKSLASH : 30;
}
static inline bool is_white(uint8_t b)
{
    return b == ' ' || b == '\n' || b == '\t' || b == '\r';
}
struct str grammar_vocab_text(const struct grammar_vocab *v, uint32_t id);
/* Fills `inside` and `quoted` (mask.c: a string's own machine says what is in them). */
bool vocab_learn(struct grammar_vocab *v);

/* tree.c */
struct entry {
    uint64_t key; /* the first bytes of the text, for sorting */
    const char *text;
    uint32_t id;
    uint8_t len, spaces;
};
struct entries {
    struct entry *list;
    size_t n, cap;
    bool failed;
};
void entries_add(struct entries *e, struct str text, uint32_t id, size_t spaces);
/* Sorts and takes the entries (freed also on failure). */
bool tree_build(struct tree *t, struct entries *e);
void tree_deinit(struct tree *t);
size_t tree_memory(const struct tree *t);
/* The node behind a byte, or TREE_NONE. */
uint32_t tree_child(const struct tree *t, uint32_t node, uint8_t byte);

#endif
