/* tokenizer, private: the vocabulary, its tables and the parts of an encoder. Everything in struct tokenizer is written
 * by tokenizer_create only, except `own_state` (an idempotent cache in atomic bytes), so any thread may encode.
 * "Raw" text of a token is what it stands for in a text: bytes decoded from the printable alphabet of byte-level
 * vocabularies, U+2581 turned back into a space elsewhere. Encoding works on raw text throughout. */
#ifndef TOKENIZER_INTERNAL_H
#define TOKENIZER_INTERNAL_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <assert.h>
#include <pcre2.h>
#include <stdatomic.h>
#include <string.h>

#include "base/arena.h"
#include "base/hash.h"
#include "base/utf8.h"
#include "tokenizer/tokenizer.h"

enum vocab_kind { VOCAB_BPE, VOCAB_SPM, VOCAB_WPM, VOCAB_UGM, VOCAB_GEMMA4 };

/* ---- trie.c: byte strings -> ids, by prefix ---- */

struct trie_slot {
    uint32_t key; /* node * 256 + byte; 0 = free */
    uint32_t child;
};
struct trie {
    struct trie_slot *slots;
    size_t n_slots, n_used; /* n_slots is a power of two */
    uint32_t *values;       /* [node]; TOKEN_NONE = no string ends here */
    size_t n_nodes, cap_nodes;
    uint32_t root[256]; /* first step, 0 = none */
};
#define TRIE_ROOT 1u
void trie_init(struct trie *t);
void trie_deinit(struct trie *t);
bool trie_add(struct trie *t, struct str key,
              uint32_t value); /* false: out of memory or nodes; the first value stays */
uint32_t trie_step(const struct trie *t, uint32_t node, unsigned char byte); /* 0 = none */
/* Length of the longest string that s starts with (0 = none), and its value. */
size_t trie_longest(const struct trie *t, uint32_t *value, struct str s);

/* ---- pretokenizer.c, split.c, scan.c: text -> pieces ---- */

#define SPLIT_MAX_PASSES 6
/* Length of the piece at p[0] of n > 0 bytes, or 0 when bytes above 0x7f take part and the regex has to decide. */
typedef size_t split_scan(const unsigned char *p, size_t n);

struct split_pass {
    const char *regex; /* NULL = no further pass */
    bool group3;       /* cut what matched into groups of three characters, counted from the right */
};
struct split_rule {
    struct split_pass passes[SPLIT_MAX_PASSES];
    split_scan *scan; /* only with a single pass; equal to its regex */
};
struct pretokenizer {
    const char *name;
    const struct split_rule *rule;
    bool ignore_merges; /* a whole piece that is a token is taken as it is */
    bool add_bos;       /* default of tokenizer.ggml.add_bos_token */
    bool spaces;        /* U+2581 vocabulary without byte encoding, as Gemma 4's */
};
/* The entry of `name`, or NULL. */
const struct pretokenizer *pretokenizer_find(struct str name);
const struct pretokenizer *pretokenizer_default(void);
const struct pretokenizer *pretokenizer_at(size_t i); /* NULL past the last one; for tests */

split_scan scan_gpt2, scan_smollm, scan_llama3, scan_qwen2, scan_gpt4o, scan_tekken;

/* A compiled rule. */
struct splitter {
    const struct split_rule *rule;
    pcre2_code *codes[SPLIT_MAX_PASSES];
    bool jit[SPLIT_MAX_PASSES];
    size_t n_passes;
};
bool splitter_init(struct splitter *s, const struct split_rule *rule, struct err *e);
void splitter_deinit(struct splitter *s);

typedef bool piece_sink(void *data, const char *piece, size_t n, struct err *e);
/* What one call needs of PCRE2; made on first use. */
struct split_run {
    const struct splitter *splitter;
    pcre2_match_data *match;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
    bool no_scan; /* regex only, for tests */
};
void split_run_init(struct split_run *r, const struct splitter *s);
void split_run_deinit(struct split_run *r);
/* Gives every piece of text to sink, in order, nothing left out. Bytes that are not UTF-8 are pieces of their own. */
bool split_text(struct split_run *r, struct str text, piece_sink *sink, void *data, struct err *e);

/* ---- vocab.c ---- */

struct vocab_slot {
    uint32_t tag; /* upper half of the hash */
    uint32_t id;  /* TOKEN_NONE = free */
};
struct merge_slot {
    uint32_t left, right; /* left == TOKEN_NONE: free */
    uint32_t rank, joined;
};
enum token_flag { FLAG_EOG = 1, FLAG_PRINTABLE = 2, FLAG_RSTRIP = 4 };
enum own_state { OWN_UNKNOWN, OWN_YES, OWN_NO }; /* does merging the token's raw text give the token? */

struct vocab {
    const struct gguf *gguf;
    const struct gguf_kv *tokens;
    struct arena arena;
    uint32_t n;     /* tokens */
    uint32_t n_all; /* and intermediate results of merges that are no tokens: ids n .. n_all - 1 */
    uint32_t cap_all;
    struct str *raw;            /* [cap_all] */
    uint8_t *attr;              /* [n] enum token_attr */
    uint8_t *flags;             /* [n] enum token_flag */
    float *scores;              /* [n], NULL for BPE */
    _Atomic uint8_t *own_state; /* [n] enum own_state */
    struct vocab_slot *slots;   /* raw text -> id; control, unknown and byte tokens are not in it */
    size_t n_slots;
    struct strmap verbatim; /* vocabulary text -> id, of the tokens that are no normal ones */
    size_t max_raw_bytes;   /* of what is in slots */
    uint32_t byte_id[256];
    uint64_t seed;
    bool byte_level;
};

/* Reads texts, types and scores; types may be changed until vocab_index builds the tables. */
bool vocab_open(struct vocab *v, const struct gguf *g, enum vocab_kind kind, bool byte_level, struct err *e);
bool vocab_index(struct vocab *v, enum vocab_kind kind, struct err *e);
void vocab_deinit(struct vocab *v);
struct str vocab_text(const struct vocab *v, uint32_t id);
uint32_t vocab_find_text(const struct vocab *v, struct str text);
/* As an intermediate result of merges; false when memory is exhausted. */
bool vocab_add_virtual(struct vocab *v, uint32_t *id, struct str raw, struct err *e);
/* Writes the raw form of a vocabulary text to out[text.len]; false when it has none. */
bool vocab_raw_of_text(const struct vocab *v, char *out, size_t *n, struct str text);

static inline uint64_t hash_mix(uint64_t a, uint64_t b)
{
    __uint128_t m = (__uint128_t)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static inline uint64_t load_u64(const char *p)
{
    uint64_t x;
    memcpy(&x, p, 8);
    return x;
}

static inline uint64_t load_u32(const char *p)
{
    uint32_t x;
    memcpy(&x, p, 4);
    return x;
}

/* Short texts are nearly all there are: two loads and one multiplication. */
static inline uint64_t hash_piece(const char *p, size_t n, uint64_t seed)
{
    uint64_t a = 0, b = 0;
    if (n > 16) return hash64(p, n, seed);
    if (n >= 8) {
        a = load_u64(p);
        b = load_u64(p + n - 8);
    } else if (n >= 4) {
        a = load_u32(p) | load_u32(p + n - 4) << 32;
    } else if (n > 0) {
        a = (uint64_t)(unsigned char)p[0] | (uint64_t)(unsigned char)p[n / 2] << 8 |
            (uint64_t)(unsigned char)p[n - 1] << 16;
    }
    return hash_mix(a ^ seed, (b ^ 0x9e3779b97f4a7c15u) + n * 0xd6e8feb86659fd93u);
}

static inline uint32_t vocab_find_hashed(const struct vocab *v, const char *p, size_t n, uint64_t h)
{
    size_t mask = v->n_slots - 1;
    for (size_t i = h & mask;; i = (i + 1) & mask) {
        const struct vocab_slot *s = &v->slots[i];
        if (s->id == TOKEN_NONE) return TOKEN_NONE;
        if (s->tag != (uint32_t)(h >> 32)) continue;
        if (v->raw[s->id].len == n && memcmp(v->raw[s->id].ptr, p, n) == 0) return s->id;
    }
}

static inline uint32_t vocab_find_raw(const struct vocab *v, const char *p, size_t n)
{
    if (n > v->max_raw_bytes) return TOKEN_NONE;
    return vocab_find_hashed(v, p, n, hash_piece(p, n, v->seed));
}

/* ---- merges.c: the table of pairs, and merging of one piece ---- */

struct merges {
    struct merge_slot *slots; /* NULL: the pair whose joined text is the best token is merged (SPM) */
    size_t n_slots;
    uint32_t *text_rank; /* [n_all] without slots: lower is better */
};
bool merges_load(struct merges *m, struct vocab *v, const struct gguf *g, struct err *e);
/* Ranks by score (SPM), or without scores by id (vocabularies of tiktoken that come without merges). */
bool merges_from_scores(struct merges *m, struct vocab *v, struct err *e);

/* Scratch of one encoder. */
struct merge_symbol {
    uint32_t id, from, len; /* id may be TOKEN_NONE: a character that is no token */
    uint32_t prev, next;
};
struct merge_candidate {
    uint64_t key; /* rank << 32 | symbol */
    uint32_t len; /* of both symbols together: tells stale entries */
    uint32_t joined;
};
struct merger {
    const struct tokenizer *t;
    struct merge_symbol *symbols;
    size_t n_symbols, cap_symbols;
    struct merge_candidate *heap;
    size_t n_heap, cap_heap;
};
void merger_init(struct merger *m, const struct tokenizer *t);
void merger_deinit(struct merger *m);
/* Leaves the result in m->symbols[0 .. n_symbols), in order. n <= MERGE_MAX_BYTES. */
#define MERGE_MAX_BYTES ((size_t)1 << 20)
bool merger_run(struct merger *m, const char *piece, size_t n, struct err *e);

/* ---- endings.c ---- */

/* Finds tokens that end a generation by their text, marks them, and makes them control tokens. Between vocab_open and
 * vocab_index. Fills what `info` lacks (eot). */
void endings_mark(struct vocab *v, struct tokenizer_info *info, const struct gguf *g);

/* ---- tokenizer.c, encode.c, wpm.c, ugm.c ---- */

struct ugm_charsmap {
    struct str array; /* 32-bit little-endian units of an XOR-compressed double array */
    struct str texts; /* replacement texts, each with a NUL behind it */
};

struct tokenizer {
    enum vocab_kind kind;
    struct vocab vocab;
    struct merges merges;
    struct splitter splitter;
    struct trie special; /* tokens that are matched before everything else, by vocabulary text */
    struct trie pieces;  /* UGM, WPM: all tokens that a text can give */
    struct tokenizer_info info;
    const struct pretokenizer *pre;
    bool add_space_prefix, remove_extra_spaces, spaces, lowercase, strip_accents;
    bool joins_space[256]; /* byte b: some token holds b followed by a space; words are cut elsewhere */
    struct ugm_charsmap charsmap;
    float unknown_score; /* UGM */
};

/* Appends `id`, or the unknown token when it is TOKEN_NONE (nothing when there is none either). */
bool append_or_unknown(const struct tokenizer *t, struct token_list *out, uint32_t id, struct err *e);
bool wpm_encode(const struct tokenizer *t, struct token_list *out, struct str text, struct err *e);
bool ugm_load(struct tokenizer *t, const struct gguf *g, struct err *e);
bool ugm_encode(const struct tokenizer *t, struct token_list *out, struct str text, struct err *e);

/* unicode_tables.c (written by tools/make-unicode-tables): what BERT's normaliser needs. */
struct code_range {
    uint32_t first, last;
};
struct code_map {
    uint32_t from, to[3]; /* unused ones are 0 */
};
bool unicode_is_punctuation(uint32_t c);
bool unicode_is_control(uint32_t c); /* categories Cc, Cf, Cs, Co */
bool unicode_is_mark(uint32_t c);    /* category Mn */
uint32_t unicode_lower(uint32_t c);
size_t unicode_base(uint32_t out[3], uint32_t c); /* canonical decomposition without marks (Mn) */
bool unicode_is_space(uint32_t c);

#endif
