/* grammar_internal: what the parts of grammar share. Layers, each using those above it: term (regular expressions), dfa
 * (lazy automata), regex and format (text -> term), decimal, schema (JSON -> raw schemas and atoms), node (sets of
 * literals -> typed alternatives), machine (states over bytes), matcher and mask (tokens). */
#ifndef GRAMMAR_GRAMMAR_INTERNAL_H
#define GRAMMAR_GRAMMAR_INTERNAL_H

#include <jansson.h>
#include <stdlib.h>

#include "base/arena.h"
#include "grammar/grammar.h"

/* ---- memory ---- */

bool grammar_charge(struct grammar *g, size_t bytes); /* false (and exhausted) when over the budget */
void grammar_discharge(struct grammar *g, size_t bytes);
void *grammar_alloc(struct grammar *g, size_t size); /* from the arena, zeroed; NULL when over the budget */
struct str grammar_str(struct grammar *g, struct str s);
void *grammar_grow(struct grammar *g, void *ptr, size_t *cap, size_t n, size_t item);
/* Room for n items in a heap array; false when over the budget. */
#define GROW(g, ptr, cap, n) ((n) <= (cap) || grammar_try_grow((g), (void **)&(ptr), &(cap), (n), sizeof *(ptr)))
bool grammar_try_grow(struct grammar *g, void **ptr, size_t *cap, size_t n, size_t item);

/* ---- terms ---- */

#define TERM_NONE 0u
#define TERM_EPS 1u
#define REPEAT_MAX UINT32_MAX

enum term_kind {
    TERM_KIND_NONE,
    TERM_KIND_EPS,
    TERM_KIND_SET,  /* a: index of the byte set */
    TERM_KIND_CAT,  /* a b, a is no CAT */
    TERM_KIND_ALT,  /* members, sorted */
    TERM_KIND_AND,  /* members, sorted */
    TERM_KIND_NOT,  /* a */
    TERM_KIND_REP,  /* a, min, max */
    TERM_KIND_STRS, /* strings min..max of table a, from byte b on */
};

struct term {
    uint8_t kind;
    bool nullable, logical; /* logical: an AND or NOT is inside, it may match nothing at all */
    uint32_t a, b, min, max;
    uint32_t n, list;     /* members: lists[list .. list + n) */
    uint32_t least, most; /* characters of its texts lie between, as far as its parts say; LENGTH_MANY = no end */
    uint32_t effort;      /* characters that its parts want, each for itself: what a search goes by */
    uint32_t dfa;         /* 1 + index of its automaton; 0 = none yet */
    uint32_t seen;        /* the last search that came by */
    uint64_t hash;
};

#define LENGTH_MANY UINT32_MAX

struct byteset {
    uint64_t w[4];
};
static inline void byteset_add(struct byteset *s, uint8_t b)
{
    s->w[b >> 6] |= (uint64_t)1 << (b & 63);
}
static inline bool byteset_has(const struct byteset *s, uint8_t b)
{
    return s->w[b >> 6] >> (b & 63) & 1;
}

struct codepoints {
    uint32_t lo, hi;
};
struct string_table { /* sorted, no doubles */
    struct str *items;
    size_t n;
};

struct terms {
    struct term *items;
    uint32_t *slots, *lists;
    struct byteset *sets;
    struct string_table *tables;
    uint32_t n, n_sets;
    size_t n_slots, cap, n_lists, lists_cap, sets_cap, n_tables, tables_cap;
    uint32_t any_char, any_text, searches;
    uint32_t bytes[256]; /* the set of one byte; TERM_NONE = not made yet */
};

bool terms_init(struct grammar *g);
uint32_t term_set(struct grammar *g, const struct byteset *s);
uint32_t term_cat(struct grammar *g, uint32_t a, uint32_t b);
uint32_t term_alt(struct grammar *g, const uint32_t *list, size_t n);
uint32_t term_alt2(struct grammar *g, uint32_t a, uint32_t b);
uint32_t term_and(struct grammar *g, const uint32_t *list, size_t n);
uint32_t term_and2(struct grammar *g, uint32_t a, uint32_t b);
uint32_t term_without(struct grammar *g, uint32_t a, uint32_t b); /* in a, not in b */
uint32_t term_repeat(struct grammar *g, uint32_t a, uint32_t min, uint32_t max);
uint32_t term_bytes(struct grammar *g, struct str s);
uint32_t term_strings(struct grammar *g, const struct str *list, size_t n); /* texts must outlive the grammar */
uint32_t term_chars(struct grammar *g, const struct codepoints *list, size_t n);
uint32_t term_derive(struct grammar *g, uint32_t id, uint8_t byte);

/* ---- automata ---- */

#define DFA_DEAD (-1)
#define COUNT_MANY 1000u
/* ALIVE: a match was found. HOPED: neither a match nor that there is none, within the bounds of a search. */
enum life { LIFE_UNKNOWN, LIFE_SEARCHED, LIFE_ALIVE, LIFE_DEAD, LIFE_HOPED };
struct dfa_state {
    uint32_t term, count;
    uint8_t life;
    bool accepts, any; /* any: every text may follow */
};
struct dfa {
    uint32_t root, id;
    uint8_t class_of[256], sample[256];
    uint16_t n_classes;
    uint32_t n;
    struct dfa_state *states;
    int32_t *next; // [n][n_classes]
    uint32_t *slots;
    size_t states_cap, next_cap, n_slots;
};

struct dfa *dfa_get(struct grammar *g, uint32_t term); /* NULL: nothing matches */
bool dfa_alive(struct grammar *g, struct dfa *d, uint32_t state);
int32_t dfa_step_slow(struct grammar *g, struct dfa *d, uint32_t state, uint8_t byte);
static inline int32_t dfa_step(struct grammar *g, struct dfa *d, uint32_t state, uint8_t byte)
{
    int32_t to = d->next[state * d->n_classes + d->class_of[byte]];
    if (to == DFA_DEAD || (to >= 0 && d->states[to].life == LIFE_ALIVE)) return to;
    return dfa_step_slow(g, d, state, byte);
}
/* The same for text that is generated: what is only hoped to match follows only where there is nothing but hope, so a
 * state that can match never leads into one that cannot. */
static inline int32_t dfa_lead(struct grammar *g, struct dfa *d, uint32_t state, uint8_t byte)
{
    int32_t to = dfa_step(g, d, state, byte);
    return to >= 0 && d->states[to].life == LIFE_HOPED && d->states[state].life != LIFE_HOPED ? DFA_DEAD : to;
}
bool dfa_match(struct grammar *g, struct dfa *d, struct str s);
uint32_t dfa_count(struct grammar *g, struct dfa *d, uint32_t state); /* texts from there on, at most COUNT_MANY */
void dfas_deinit(struct grammar *g);

/* ---- patterns and formats ---- */

bool regex_parse(struct grammar *g, uint32_t *out, struct str pattern, struct err *e);
/* After "[": the class up to "]", for GBNF too. */
bool regex_class(struct grammar *g, uint32_t *out, struct str s, size_t *at, struct err *e);
bool regex_bounds(struct str s, size_t *at, uint32_t *min, uint32_t *max); /* at a "{" */
/* The characters with a property as \p{name} has it, in order; SIZE_MAX when it is not known (or needs more than cap).
 */
size_t unicode_property(struct codepoints *list, size_t cap, struct str name);
#define MAX_FORMATS 32
/* The texts of a named format; false when the name is not known. */
bool format_term(struct grammar *g, uint32_t *out, struct str name);

/* ---- decimal numbers ---- */

#define DECIMAL_DIGITS 800
struct decimal { /* 0.d0d1d2... x 10^exp; no zeros at either end; n == 0 is zero */
    bool neg;
    uint16_t n;
    int64_t exp;
    uint8_t d[DECIMAL_DIGITS];
};
struct decimal_key { /* the same for bounds: they come from doubles and 64-bit numbers */
    bool neg;
    uint8_t n;
    int32_t exp;
    uint8_t d[24];
};
bool decimal_parse(struct decimal *out, struct str text); /* JSON's number syntax, already checked */
bool decimal_is_integer(const struct decimal *x);
int decimal_cmp(const struct decimal *x, const struct decimal_key *y);
bool decimal_multiple(const struct decimal *x, const struct decimal_key *m);
void decimal_of_json(struct decimal_key *out, const json_t *number);
void decimal_wide(struct decimal *out, const struct decimal_key *k);
uint64_t decimal_hash(const struct decimal *x);
/* |k| x 10^scale as an integer; false when it is no integer or too big. */
bool decimal_scaled(__int128 *out, const struct decimal_key *k, int scale);

/* ---- schemas as written ---- */

enum { /* JSON's types; numbers in two parts */
       TYPE_NULL = 1,
       TYPE_BOOL = 2,
       TYPE_INT = 4,
       TYPE_FRAC = 8,
       TYPE_STR = 16,
       TYPE_ARR = 32,
       TYPE_OBJ = 64,
       TYPE_ALL = 127
};

enum atom_kind {
    ATOM_TYPE, // n = mask
    ATOM_ENUM, // json = array of values
    ATOM_TEXT, // term: pattern or format
    ATOM_MIN_LENGTH,
    ATOM_MAX_LENGTH,
    ATOM_MIN, // number; n = exclusive
    ATOM_MAX,
    ATOM_MULTIPLE,
    ATOM_MIN_ITEMS,
    ATOM_MAX_ITEMS,
    ATOM_UNIQUE,
    ATOM_ITEMS,    // list = prefix raws, raw = rest
    ATOM_CONTAINS, // raw, n = min, m = max
    ATOM_PROPS,    // names[], list = their raws; patterns[] (terms), pattern_raws; raw = additional
    ATOM_REQUIRED, // names[]
    ATOM_MIN_PROPS,
    ATOM_MAX_PROPS,
    ATOM_NAMES,                // raw
    ATOM_UNEVALUATED_PROPS,    // raw
    ATOM_UNEVALUATED_ITEMS,    // raw
    ATOM_COMPOSITE,            /* those below are taken apart, they never reach an alternative */
    ATOM_REF = ATOM_COMPOSITE, // raw
    ATOM_ALL,                  // list
    ATOM_ANY,
    ATOM_ONE,
    ATOM_NOT,       // raw
    ATOM_IF,        // list = if, then, else
    ATOM_DEPENDENT, // names[0] present -> raw
    ATOM_DEP_NAMES, // names[0] present -> the other names too
};

#define RAW_TRUE 0u
#define RAW_FALSE 1u

struct atom {
    uint8_t kind;
    uint32_t n, m, raw, term;
    uint32_t n_list, n_names, n_patterns;
    uint32_t *list, *patterns, *pattern_raws;
    struct dfa **pattern_dfas; /* filled at load */
    struct str *names;         /* ATOM_PROPS: sorted, list in the same order */
    struct decimal_key number;
    json_t *json;
    const char *keyword;
};

struct path { /* where a raw schema stands, for messages */
    const struct path *up;
    struct str step;
};
struct raw {
    json_t *json;
    const struct path *path;
    struct str base;  /* URI of the enclosing resource */
    json_t *resource; /* ... and its root */
    uint32_t *atoms;  /* indices */
    uint32_t n_atoms;
    bool loaded, unevaluated;
};
struct resource {
    struct str uri; /* with #anchor, or without a fragment */
    json_t *json, *root;
    struct str base;
};

struct schema {
    struct raw *raws;
    struct atom **atoms;
    struct resource *resources;
    size_t n_raws, raws_cap, n_atoms, atoms_cap, n_resources, resources_cap;
    struct raw_slot *by_json; /* json_t* -> raw */
    size_t n_slots;
    size_t n_loaded; /* raws before it are loaded */
    json_t **made;   /* documents, and schemas made for members of an enum */
    size_t n_made, made_cap;
};

bool schema_load(struct grammar *g, uint32_t *raw, struct str json, struct err *e);
bool schema_value(struct grammar *g, uint32_t *raw, json_t *value); /* "const" of a container, as a schema */
void schema_path(const struct grammar *g, struct buf *out, const struct path *p);
void schema_deinit(struct grammar *g);
void grammar_note(struct grammar *g, const struct path *p, const char *keyword, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* ---- nodes: what a value must satisfy ---- */

enum { FITS_UNKNOWN, FITS_BUSY, FITS_YES, FITS_NO };
#define NODE_NONE UINT32_MAX /* no value fits */
#define MAX_SELECT 3         /* "contains" constraints of one array */

struct string_alt {
    struct dfa *dfa;
    uint32_t min, max; /* characters; checked by a counter only when dfa is "any text" */
};
struct number_alt {
    bool integer, fraction_only;
    bool steered, exact; /* anything but any number; generated ones are kept on a grid of 10^-scale */
    bool has_lo, has_hi, lo_open, hi_open;
    struct decimal_key lo, hi;
    struct decimal_key *multiples, *not_multiples, *excluded, *allowed; /* allowed: NULL = no enum */
    uint32_t n_multiples, n_not_multiples, n_excluded, n_allowed;
    int scale;                        /* digits behind the point */
    __int128 low, high, step, unit;   /* in 1 / unit, inclusive */
    __int128 *not_steps, *not_values; // [n_not_steps], [n_excluded]: what a multiple of step must not be, in 1 / unit
    uint32_t n_not_steps;
};
struct exists { /* some member whose key is in keys has a value that fits the literals */
    struct dfa *keys;
    uint32_t literal;
};
struct child_memo {
    uint64_t matched; /* patterns */
    uint32_t select;  /* bits: which `exists` the member is taken for */
    uint32_t node;
};
struct extra { /* a literal on one member that a negation brought */
    uint32_t name, literal;
};
#define CHILD_UNSET (UINT32_MAX - 1)
#define MAX_EXISTS 16
#define MAX_REGIONS 8 /* patterns of one object whose combinations are looked at */
enum { NAME_REQUIRED = 1, NAME_ABSENT = 2 };
struct object_alt {
    const struct atom **props;
    uint32_t n_props, n_names, n_required, n_exists, n_extra, min, max, name_term;
    struct str *names; /* sorted: every name that any keyword speaks of */
    uint8_t *flags;    // [n_names] NAME_
    uint32_t *child;   // [n_names] node
    struct extra *extra;
    struct exists *exists;
    bool prepared;
    struct dfa *keys, *required_keys; /* keys that may stand there at all; the required ones alone */
    struct child_memo *memo;
    size_t n_memo;
};
struct select {
    uint32_t literal, from, min, max;
};
struct array_alt {
    const struct atom **items;
    uint32_t n_items, min, max, n_select, n_extra;
    struct select select[MAX_SELECT];
    uint32_t *extra_at, *extra_literal;
    bool unique;
    uint32_t prefix; /* items from here on are all alike */
    uint32_t *child; // [prefix + 1][1 << n_select]
};
struct alt {
    uint8_t type;  /* one TYPE_ bit; numbers TYPE_INT; TYPE_BOOL: bools */
    uint8_t bools; /* 1 = false, 2 = true */
    uint8_t fits;  /* FITS_, asked from outside of node_fits */
    uint32_t id;
    union {
        struct string_alt string;
        struct number_alt number;
        struct object_alt object;
        struct array_alt array;
    };
};
struct node {
    uint32_t *literals; /* sorted; raw << 1 | negated */
    uint32_t n_literals;
    uint8_t state, fits; /* expanded?; FITS_ */
    struct alt **alts;
    uint32_t n_alts;
    uint64_t hash;
};

uint32_t node_get(struct grammar *g, const uint32_t *literals, size_t n); /* NODE_NONE when contradictory */
bool node_expand(struct grammar *g, uint32_t node);
bool node_fits(struct grammar *g, uint32_t node); /* some finite value satisfies it; expands */
bool alt_fits(struct grammar *g, struct alt *a);
uint32_t object_child(struct grammar *g, struct object_alt *o, int64_t name, struct str key, uint32_t select);
int64_t object_name(const struct object_alt *o, struct str key);
void object_prepare(struct grammar *g, struct object_alt *o);
bool number_value_fits(const struct number_alt *n, const struct decimal *x);
/* A number of the grid with |number| in [a, b] fits: the answer is "yes" too when none of the first many does. */
bool number_between(const struct number_alt *n, bool neg, __int128 a, __int128 b);
uint32_t array_child(struct grammar *g, struct array_alt *a, uint32_t index, uint32_t select);
bool string_term(struct grammar *g, uint32_t *out, uint32_t node); /* all strings of a node */
bool number_fits(const struct number_alt *n, struct str text);
/* How many numbers fit, at most `limit` (also when they cannot be counted), and how the i-th is written. */
uint32_t number_count(const struct number_alt *n, uint32_t limit);
size_t number_spell(const struct number_alt *n, uint32_t i, char *text, size_t size);
uint32_t node_values(struct grammar *g, uint32_t node); /* different values, at most COUNT_MANY */
bool number_viable(const struct number_alt *n, struct str prefix);

/* facts: what an alternative is made of while a node is taken apart (node.c -> alt.c) */
enum fact_kind { FACT_ATOM, FACT_PROP, FACT_EXISTS, FACT_REQUIRED, FACT_ABSENT, FACT_ITEM, FACT_SELECT };
struct chain {
    const struct chain *up;
    uint32_t raw;
    bool neg;
};
struct fact {
    uint8_t kind;
    bool neg;
    uint32_t atom, literal, term, from, min, max;
    struct str name;
    const struct chain *chain; /* not part of its identity */
};
struct alt *alt_build(struct grammar *g, unsigned type, const struct fact *facts, size_t n, bool *never);
bool fact_concerns(const struct grammar *g, const struct fact *f, unsigned type);

/* ---- programs: sequences around values (GBNF, tags) ---- */

enum op_kind { OP_END, OP_SPLIT, OP_JUMP, OP_TEXT, OP_CALL, OP_RETURN, OP_VALUE, OP_FREE, OP_SWITCH };
struct op {
    uint8_t kind;
    bool may_end;  /* OP_FREE: the whole text may end here */
    uint32_t a, b; /* targets, or node */
    struct dfa *dfa;
    const struct grammar_form *form; /* OP_VALUE: NULL = JSON */
    uint32_t *table;                 /* OP_FREE: the trigger automaton; OP_SWITCH: target by byte */
};
#define OP_NOWHERE UINT32_MAX
uint32_t program_add(struct grammar *g, struct op op);
uint32_t program_split(struct grammar *g, uint32_t a, uint32_t b);
uint32_t program_gbnf(struct grammar *g, struct str text, uint32_t next, struct err *e);
uint32_t program_schema(struct grammar *g, struct str json, uint32_t next, struct err *e); /* one value, then next */

/* ---- the whole ---- */

struct grammar {
    _Atomic uint32_t refs;
    struct arena arena;
    size_t heap_bytes, max_bytes;
    bool exhausted, strict, ignore_formats;
    bool json_only; /* the whole text is one JSON value: white space around it does not matter to a check */
    uint32_t max_space;
    const char *where;
    struct terms terms;
    uint32_t formats[MAX_FORMATS]; /* terms of the formats that were used */
    struct dfa **dfas;
    size_t n_dfas, dfas_cap;
    struct schema schema;
    struct node *nodes;
    uint32_t *node_slots;
    size_t n_nodes, nodes_cap, n_node_slots;
    uint32_t n_alts, busy_hits, fits_depth, work, searched, derived;
    struct op *ops;
    size_t n_ops, ops_cap;
    uint32_t entry;
    struct str opened; /* every matcher starts behind it */
    struct buf notes;
    struct err refusal; /* what a strict compilation met */
    struct memo *memo;
    struct walk *walk; /* scratch of masks, made by the first */
};

/* g, or NULL and the reason when its compilation met a refusal or the end of the budget. */
struct grammar *grammar_give(struct grammar *g, struct err *e);
void memo_deinit(struct grammar *g);
void walk_destroy(struct walk *w);
struct grammar *grammar_new(const struct grammar_options *o, struct err *e);
void grammar_refuse(struct grammar *g, const struct path *p, const char *keyword, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

#endif
