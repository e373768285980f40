/* node: a node is a set of literals (raw schemas, some negated) that a value must satisfy all at once. It is taken
 * apart when first needed: into a union of alternatives of one JSON type each, conjunctions of simple facts. Negation
 * is pushed down to the facts, so `not`, `oneOf` and `if` are exact: oneOf is the union of "this one and none of the
 * others", where branches that exclude each other anyway need no negation. A literal that contains itself adds nothing
 * (least fixed point). */
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "grammar/grammar_internal.h"

#define MAX_STEPS 50000   /* of taking one node apart */
#define MAX_WORK 400000   /* of taking all of them apart, where that is more than a little */
#define MAX_BRANCHES 2000 /* alternatives before building */
#define MAX_DEPTH 600     /* of nested choices */

struct todo {
    const struct todo *next;
    const struct chain *chain;
    uint32_t id;
    bool is_atom, neg;
};
struct facts { /* a list that shares its tail */
    const struct facts *next;
    struct fact fact;
};
struct position { /* one conjunction while it grows */
    const struct todo *simple, *choices;
    const struct facts *facts;
    const struct chain *done; /* literals taken apart so far (uses chain's form) */
    unsigned types;
};
struct expansion {
    struct grammar *g;
    struct arena arena;
    struct fact **kept; /* per alternative: its facts */
    size_t *n_kept, n, cap, cap_n;
    uint8_t *types;
    size_t cap_types;
    unsigned full; /* types with an unconditional alternative */
    size_t steps, branches;
    unsigned depth;
    bool failed;
    const struct path *path;
};

/* ---- the table of nodes ---- */

static bool rehash_nodes(struct grammar *g)
{
    size_t n = g->n_node_slots ? g->n_node_slots * 2 : 64;
    uint32_t *slots = mem_try_zalloc(n * sizeof *slots);
    if (!slots || !grammar_charge(g, (n - g->n_node_slots) * sizeof *slots)) return mem_free(slots), false;
    for (size_t i = 0; i < g->n_nodes; i++) {
        size_t at = g->nodes[i].hash & (n - 1);
        while (slots[at]) at = (at + 1) & (n - 1);
        slots[at] = (uint32_t)i + 1;
    }
    mem_free(g->node_slots);
    g->node_slots = slots;
    g->n_node_slots = n;
    return true;
}

static int cmp_u32(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    return a < b ? -1 : a > b;
}

uint32_t node_get(struct grammar *g, const uint32_t *literals, size_t n)
{
    uint32_t small[32], *list = n <= 32 ? small : mem_try_alloc(n * sizeof *list);
    size_t w = 0, at;
    uint32_t result = NODE_NONE;
    if (!list) return g->exhausted = true, NODE_NONE;
    if (n) memcpy(list, literals, n * sizeof *list);
    if (n) qsort(list, n, sizeof *list, cmp_u32);
    for (size_t i = 0; i < n; i++) {
        if (list[i] == (RAW_FALSE << 1) || list[i] == ((RAW_TRUE << 1) | 1)) goto out;
        if (list[i] >> 1 <= RAW_FALSE) continue;
        if (w && list[w - 1] == list[i]) continue;
        if (w && list[w - 1] >> 1 == list[i] >> 1) goto out; /* A and not A */
        list[w++] = list[i];
    }
    if (g->n_nodes * 2 >= g->n_node_slots && !rehash_nodes(g)) goto out;
    uint64_t hash = hash64(list, w * sizeof *list, 3);
    for (at = hash & (g->n_node_slots - 1); g->node_slots[at]; at = (at + 1) & (g->n_node_slots - 1)) {
        const struct node *x = &g->nodes[g->node_slots[at] - 1];
        if (x->hash == hash && x->n_literals == w && (w == 0 || memcmp(x->literals, list, w * sizeof *list) == 0)) {
            result = g->node_slots[at] - 1;
            goto out;
        }
    }
    uint32_t *own = grammar_alloc(g, (w + 1) * sizeof *own);
    if (!own || !GROW(g, g->nodes, g->nodes_cap, g->n_nodes + 1)) goto out;
    if (w) memcpy(own, list, w * sizeof *own);
    g->nodes[g->n_nodes] = (struct node){.literals = own, .n_literals = (uint32_t)w, .hash = hash};
    g->node_slots[at] = (uint32_t)g->n_nodes + 1;
    result = (uint32_t)g->n_nodes++;
out:
    if (list != small) mem_free(list);
    return result;
}

/* ---- taking apart ---- */

static void expand(struct expansion *x, struct position p);

static bool give_up(struct expansion *x, const char *what)
{
    if (!x->failed) grammar_refuse(x->g, x->path, NULL, "%s", what);
    x->failed = true;
    return false;
}

static void push(struct expansion *x, const struct todo **list, const struct chain *chain, bool is_atom, uint32_t id,
                 bool neg)
{
    struct todo *t = arena_try_alloc(&x->arena, sizeof *t);
    if (!t) {
        give_up(x, "the combination of keywords is too complex");
        return;
    }
    *t = (struct todo){*list, chain, id, is_atom, neg};
    *list = t;
}

static void push_raw(struct expansion *x, struct position *p, const struct chain *chain, uint32_t raw, bool neg)
{
    push(x, neg ? &p->choices : &p->simple, chain, false, raw, neg);
}

static void add_fact(struct expansion *x, struct position *p, struct fact f)
{
    struct facts *l = arena_try_alloc(&x->arena, sizeof *l);
    if (!l) give_up(x, "the combination of keywords is too complex");
    else *l = (struct facts){p->facts, f}, p->facts = l;
}

static bool in_chain(const struct chain *c, uint32_t raw, bool neg)
{
    for (; c; c = c->up)
        if (c->raw == raw && c->neg == neg) return true;
    return false;
}

static bool watched(const struct expansion *x, const struct chain *c) /* an unevaluated* looks at this place */
{
    for (; c; c = c->up)
        if (!c->neg && x->g->schema.raws[c->raw].unevaluated) return true;
    return false;
}

static unsigned atom_types(const struct atom *a)
{
    switch (a->kind) {
    case ATOM_TEXT:
    case ATOM_MIN_LENGTH:
    case ATOM_MAX_LENGTH: return TYPE_STR;
    case ATOM_MIN:
    case ATOM_MAX:
    case ATOM_MULTIPLE: return TYPE_INT | TYPE_FRAC;
    case ATOM_MIN_ITEMS:
    case ATOM_MAX_ITEMS:
    case ATOM_UNIQUE:
    case ATOM_ITEMS:
    case ATOM_CONTAINS:
    case ATOM_UNEVALUATED_ITEMS: return TYPE_ARR;
    case ATOM_PROPS:
    case ATOM_REQUIRED:
    case ATOM_MIN_PROPS:
    case ATOM_MAX_PROPS:
    case ATOM_NAMES:
    case ATOM_UNEVALUATED_PROPS: return TYPE_OBJ;
    default: return TYPE_ALL;
    }
}

bool fact_concerns(const struct grammar *g, const struct fact *f, unsigned type)
{
    if (f->kind == FACT_ATOM) return atom_types(g->schema.atoms[f->atom]) & type;
    return type == (f->kind == FACT_ITEM || f->kind == FACT_SELECT ? TYPE_ARR : TYPE_OBJ);
}

static bool excludes(struct grammar *g, uint32_t a, uint32_t b)
{
    uint32_t node = node_get(g, (uint32_t[]){a << 1, b << 1}, 2);
    return node == NODE_NONE || !node_fits(g, node);
}

/* A new branch: p is copied, so changes do not reach the caller. */
#define BRANCH(x, p, body)       \
    do {                         \
        struct position q = (p); \
        body;                    \
        expand((x), q);          \
    } while (0)

static void any_of(struct expansion *x, struct position p, const struct todo *t, const struct atom *a)
{
    if (!watched(x, t->chain)) {
        for (uint32_t i = 0; i < a->n_list; i++) BRANCH(x, p, push_raw(x, &q, t->chain, a->list[i], false));
        return;
    }
    /* Every branch that passes counts: each passes or fails. */
    if (a->n_list > 8) {
        give_up(x, "unevaluatedProperties or unevaluatedItems over an anyOf with more than 8 branches");
        return;
    }
    for (uint32_t set = 1; set < 1u << a->n_list; set++) {
        struct position q = p;
        for (uint32_t i = 0; i < a->n_list; i++) push_raw(x, &q, t->chain, a->list[i], !(set >> i & 1));
        expand(x, q);
    }
}

static void one_of(struct expansion *x, struct position p, const struct todo *t, const struct atom *a)
{
    struct grammar *g = x->g;
    for (uint32_t i = 0; i < a->n_list; i++) {
        struct position q = p;
        for (uint32_t j = 0; j < a->n_list; j++)
            if (j != i && !excludes(g, a->list[i], a->list[j])) push_raw(x, &q, t->chain, a->list[j], true);
        push_raw(x, &q, t->chain, a->list[i], false);
        expand(x, q);
    }
}

static void not_one_of(struct expansion *x, struct position p, const struct todo *t, const struct atom *a)
{
    struct position none = p;
    for (uint32_t i = 0; i < a->n_list; i++) push_raw(x, &none, t->chain, a->list[i], true);
    expand(x, none);
    for (uint32_t i = 0; i < a->n_list; i++)
        for (uint32_t j = i + 1; j < a->n_list; j++) {
            if (excludes(x->g, a->list[i], a->list[j])) continue;
            BRANCH(x, p, {
                push_raw(x, &q, t->chain, a->list[i], false);
                push_raw(x, &q, t->chain, a->list[j], false);
            });
        }
}

static void require(struct expansion *x, struct position *p, struct str name)
{
    p->types &= TYPE_OBJ;
    add_fact(x, p, (struct fact){.kind = FACT_REQUIRED, .name = name});
}

static void forbid(struct expansion *x, struct position *p, struct str name)
{
    p->types &= TYPE_OBJ;
    add_fact(x, p, (struct fact){.kind = FACT_ABSENT, .name = name});
}

static void dependent(struct expansion *x, struct position p, const struct todo *t, const struct atom *a)
{
    bool names = a->kind == ATOM_DEP_NAMES;
    if (!t->neg) {
        BRANCH(x, p, q.types &= ~(unsigned)TYPE_OBJ);
        BRANCH(x, p, forbid(x, &q, a->names[0]));
        for (uint32_t i = 0; i < (names ? a->n_names : 1); i++) require(x, &p, a->names[i]);
        if (!names) push_raw(x, &p, t->chain, a->raw, false);
        expand(x, p);
        return;
    }
    require(x, &p, a->names[0]);
    if (!names) BRANCH(x, p, push_raw(x, &q, t->chain, a->raw, true));
    for (uint32_t i = 1; names && i < a->n_names; i++) BRANCH(x, p, forbid(x, &q, a->names[i]));
}

/* The place of a name among those of the atoms of one kind that stand beside t; UINT32_MAX when none has it. */
static uint32_t named_beside(const struct expansion *x, const struct todo *t, enum atom_kind kind, struct str name,
                             const struct atom **where)
{
    const struct raw *r = &x->g->schema.raws[t->chain->raw];
    for (uint32_t i = 0; i < r->n_atoms; i++) {
        const struct atom *a = x->g->schema.atoms[r->atoms[i]];
        for (uint32_t k = 0; a->kind == kind && k < a->n_names; k++)
            if (str_eq(a->names[k], name)) return *where = a, k;
    }
    return UINT32_MAX;
}

/* Some named, some matching, or some other member breaks its rule. A member that is required beside that is either
 * absent or breaks it: one alternative, "if it is there, it breaks it". */
static void not_properties(struct expansion *x, struct position p, const struct todo *t, const struct atom *a)
{
    struct grammar *g = x->g;
    const struct atom *other;
    p.types &= TYPE_OBJ;
    for (uint32_t i = 0; i < a->n_names; i++)
        BRANCH(x, p, {
            if (named_beside(x, t, ATOM_REQUIRED, a->names[i], &other) == UINT32_MAX) require(x, &q, a->names[i]);
            add_fact(x, &q, (struct fact){.kind = FACT_PROP, .name = a->names[i], .literal = a->list[i] << 1 | 1});
        });
    uint32_t others = term_without(g, g->terms.any_text, term_strings(g, a->names, a->n_names));
    for (uint32_t i = 0; i < a->n_patterns; i++) {
        struct fact f = {.kind = FACT_EXISTS, .term = a->patterns[i], .literal = a->pattern_raws[i] << 1 | 1};
        if (a->pattern_raws[i] != RAW_TRUE) BRANCH(x, p, add_fact(x, &q, f));
        others = term_without(g, others, a->patterns[i]);
    }
    struct fact f = {.kind = FACT_EXISTS, .term = others, .literal = a->raw << 1 | 1};
    if (a->raw != RAW_TRUE) BRANCH(x, p, add_fact(x, &q, f));
}

static void not_required(struct expansion *x, struct position p, const struct todo *t, const struct atom *a)
{
    const struct atom *props;
    for (uint32_t i = 0; i < a->n_names; i++)
        if (named_beside(x, t, ATOM_PROPS, a->names[i], &props) == UINT32_MAX) BRANCH(x, p, forbid(x, &q, a->names[i]));
}

static void not_items(struct expansion *x, struct position p, const struct atom *a)
{
    p.types &= TYPE_ARR;
    for (uint32_t i = 0; i < a->n_list; i++) {
        struct fact f = {.kind = FACT_ITEM, .from = i, .literal = a->list[i] << 1 | 1};
        BRANCH(x, p, add_fact(x, &q, f));
    }
    struct fact f = {.kind = FACT_SELECT, .from = a->n_list, .min = 1, .max = REPEAT_MAX, .literal = a->raw << 1 | 1};
    if (a->raw != RAW_TRUE) BRANCH(x, p, add_fact(x, &q, f));
}

static void contains(struct expansion *x, struct position p, const struct todo *t, const struct atom *a)
{
    struct fact f = {.kind = FACT_SELECT, .min = a->n, .max = a->m, .literal = a->raw << 1};
    if (watched(x, t->chain)) {
        give_up(x, "contains beside unevaluatedItems");
        return;
    }
    if (!t->neg) {
        BRANCH(x, p, q.types &= ~(unsigned)TYPE_ARR);
        p.types &= TYPE_ARR;
        if (a->n > 0 || a->m < REPEAT_MAX) add_fact(x, &p, f);
        expand(x, p);
        return;
    }
    p.types &= TYPE_ARR;
    struct fact few = f, many = f;
    few.min = 0, few.max = a->n - 1;
    if (a->n > 0) BRANCH(x, p, add_fact(x, &q, few));
    many.min = a->m + 1, many.max = REPEAT_MAX;
    if (a->m < REPEAT_MAX) BRANCH(x, p, add_fact(x, &q, many));
}

/* Members of an enum: scalars stay one fact, containers become schemas. */
static void enumeration(struct expansion *x, struct position p, const struct todo *t, struct atom *a)
{
    static const uint8_t type_of[] = {TYPE_OBJ,  TYPE_ARR,  TYPE_STR, TYPE_INT, TYPE_INT | TYPE_FRAC,
                                      TYPE_BOOL, TYPE_BOOL, TYPE_NULL};
    struct grammar *g = x->g;
    size_t n = json_array_size(a->json), n_containers = 0;
    unsigned types = 0;
    for (size_t i = 0; i < n; i++) {
        json_t *v = json_array_get(a->json, i);
        if (json_is_object(v) || json_is_array(v)) n_containers++;
        else types |= type_of[json_typeof(v)];
    }
    if (n_containers && !a->list) {
        uint32_t *list = grammar_alloc(g, n_containers * sizeof *list), k = 0;
        if (!list) return;
        for (size_t i = 0; i < n; i++) {
            json_t *v = json_array_get(a->json, i);
            if ((json_is_object(v) || json_is_array(v)) && !schema_value(g, &list[k++], v)) return;
        }
        a->n_list = k;
        a->list = list;
    }
    struct fact f = {.kind = FACT_ATOM, .neg = t->neg, .atom = t->id, .chain = t->chain};
    if (t->neg) {
        for (uint32_t i = 0; i < a->n_list; i++) push_raw(x, &p, t->chain, a->list[i], true);
        add_fact(x, &p, f);
        expand(x, p);
        return;
    }
    for (uint32_t i = 0; i < a->n_list; i++) BRANCH(x, p, push_raw(x, &q, t->chain, a->list[i], false));
    p.types &= types;
    add_fact(x, &p, f);
    expand(x, p);
}

static void conditional(struct expansion *x, struct position p, const struct todo *t, const struct atom *a)
{
    for (int k = 1; k <= 2; k++) {
        if (t->neg && a->list[k] == RAW_TRUE) continue;
        BRANCH(x, p, {
            push_raw(x, &q, t->chain, a->list[k], t->neg);
            push_raw(x, &q, t->chain, a->list[0], k == 2);
        });
    }
}

/* Negated keywords that need a choice or a rewording; false for those that stay a fact. */
static bool choose_negated(struct expansion *x, struct position p, const struct todo *t, struct atom *a)
{
    switch (a->kind) {
    case ATOM_PROPS: not_properties(x, p, t, a); return true;
    case ATOM_ITEMS: not_items(x, p, a); return true;
    case ATOM_CONTAINS: contains(x, p, t, a); return true;
    case ATOM_REQUIRED: not_required(x, p, t, a); return true;
    case ATOM_NAMES: {
        uint32_t term = TERM_NONE, node = node_get(x->g, &(uint32_t){a->raw << 1}, 1);
        if (node != NODE_NONE && !string_term(x->g, &term, node)) return true;
        struct fact f = {
            .kind = FACT_EXISTS, .term = term_without(x->g, x->g->terms.any_text, term), .literal = RAW_TRUE << 1};
        p.types &= TYPE_OBJ;
        add_fact(x, &p, f);
        expand(x, p);
        return true;
    }
    case ATOM_UNIQUE:
    case ATOM_UNEVALUATED_PROPS:
    case ATOM_UNEVALUATED_ITEMS:
        if (x->g->strict)
            give_up(x,
                    "uniqueItems, unevaluatedProperties and unevaluatedItems are not supported under not, oneOf or if");
        else expand(x, p);
        return true;
    case ATOM_ALL:
        for (uint32_t i = 0; i < a->n_list; i++) BRANCH(x, p, push_raw(x, &q, t->chain, a->list[i], true));
        return true;
    case ATOM_ONE: not_one_of(x, p, t, a); return true;
    default: return false;
    }
}

static void choose(struct expansion *x, struct position p, const struct todo *t)
{
    struct atom *a = x->g->schema.atoms[t->id];
    switch (a->kind) {
    case ATOM_ENUM: enumeration(x, p, t, a); return;
    case ATOM_IF: conditional(x, p, t, a); return;
    case ATOM_DEPENDENT:
    case ATOM_DEP_NAMES: dependent(x, p, t, a); return;
    default: break;
    }
    if (t->neg) {
        choose_negated(x, p, t, a);
        return;
    }
    if (a->kind == ATOM_ANY) any_of(x, p, t, a);
    else if (a->kind == ATOM_ONE) one_of(x, p, t, a);
    else contains(x, p, t, a);
}

static bool needs_choice(const struct atom *a, bool neg)
{
    switch (a->kind) {
    case ATOM_ENUM:
    case ATOM_IF:
    case ATOM_DEPENDENT:
    case ATOM_DEP_NAMES:
    case ATOM_ONE:
    case ATOM_CONTAINS: return true;
    case ATOM_ANY: return !neg;
    case ATOM_ALL:
    case ATOM_PROPS:
    case ATOM_ITEMS:
    case ATOM_REQUIRED:
    case ATOM_NAMES:
    case ATOM_UNIQUE:
    case ATOM_UNEVALUATED_PROPS:
    case ATOM_UNEVALUATED_ITEMS: return neg;
    default: return false;
    }
}

/* An atom that needs no choice becomes a fact or more literals. */
static void take_atom(struct expansion *x, struct position *p, const struct todo *t)
{
    const struct atom *a = x->g->schema.atoms[t->id];
    switch (a->kind) {
    case ATOM_TYPE: p->types &= t->neg ? ~a->n : a->n; return;
    case ATOM_REF: push_raw(x, p, t->chain, a->raw, t->neg); return;
    case ATOM_NOT: push_raw(x, p, t->chain, a->raw, !t->neg); return;
    case ATOM_ALL:
    case ATOM_ANY:
        for (uint32_t i = a->n_list; i > 0; i--) push_raw(x, p, t->chain, a->list[i - 1], t->neg);
        return;
    default: break;
    }
    if (t->neg) p->types &= atom_types(a);
    add_fact(x, p, (struct fact){.kind = FACT_ATOM, .neg = t->neg, .atom = t->id, .chain = t->chain});
}

/* A literal: its atoms all (positive) or one of them (negated). False: this conjunction is over. */
static bool take_raw(struct expansion *x, struct position *p, const struct todo *t)
{
    if (t->id <= RAW_FALSE) return (t->id == RAW_TRUE) != t->neg;
    if (in_chain(t->chain, t->id, t->neg) || in_chain(p->done, t->id, !t->neg)) return false;
    if (in_chain(p->done, t->id, t->neg) && !watched(x, t->chain)) return true;
    struct chain *done = arena_try_alloc(&x->arena, sizeof *done), *c = arena_try_alloc(&x->arena, sizeof *c);
    if (!done || !c) return give_up(x, "the combination of keywords is too complex");
    *done = (struct chain){p->done, t->id, t->neg};
    *c = (struct chain){t->chain, t->id, t->neg};
    p->done = done;
    const struct raw *r = &x->g->schema.raws[t->id];
    uint32_t n = r->n_atoms;
    if (!t->neg) {
        for (uint32_t i = n; i > 0; i--) {
            uint32_t id = r->atoms[i - 1];
            push(x, needs_choice(x->g->schema.atoms[id], false) ? &p->choices : &p->simple, c, true, id, false);
        }
        return true;
    }
    for (uint32_t i = 0; i < n; i++) {
        struct position q = *p;
        uint32_t id = x->g->schema.raws[t->id].atoms[i];
        push(x, needs_choice(x->g->schema.atoms[id], true) ? &q.choices : &q.simple, c, true, id, true);
        expand(x, q);
    }
    return false;
}

static int cmp_fact(const void *x, const void *y)
{
    const struct fact *a = x, *b = y;
    if (a->kind != b->kind) return a->kind < b->kind ? -1 : 1;
    if (a->neg != b->neg) return a->neg ? -1 : 1;
    const uint32_t *u = &a->atom, *v = &b->atom;
    for (int i = 0; i < 6; i++)
        if (u[i] != v[i]) return u[i] < v[i] ? -1 : 1;
    return str_cmp(a->name, b->name);
}

static bool known_alternative(struct expansion *x, unsigned type, const struct fact *list, size_t n)
{
    for (size_t i = 0; i < x->n; i++) {
        if (x->types[i] != type || x->n_kept[i] != n) continue;
        size_t k = 0;
        while (k < n && cmp_fact(&x->kept[i][k], &list[k]) == 0) k++;
        if (k == n) return true;
    }
    return false;
}

/* What is left for unevaluatedProperties (or Items): the same as an atom that lists all that was evaluated. */
static bool evaluated(struct expansion *x, const struct position *p, struct fact *f);

static void keep(struct expansion *x, const struct position *p, unsigned type)
{
    struct grammar *g = x->g;
    size_t n = 0, w = 0;
    for (const struct facts *l = p->facts; l; l = l->next) n += fact_concerns(g, &l->fact, type);
    struct fact *list = arena_try_alloc(&x->arena, (n + 1) * sizeof *list);
    if (!list) {
        give_up(x, "the combination of keywords is too complex");
        return;
    }
    n = 0;
    for (const struct facts *l = p->facts; l; l = l->next) {
        if (!fact_concerns(g, &l->fact, type)) continue;
        list[n] = l->fact;
        uint8_t kind = l->fact.kind == FACT_ATOM ? g->schema.atoms[l->fact.atom]->kind : 0;
        if ((kind == ATOM_UNEVALUATED_PROPS || kind == ATOM_UNEVALUATED_ITEMS) && !evaluated(x, p, &list[n])) continue;
        n++;
    }
    if (n) qsort(list, n, sizeof *list, cmp_fact);
    for (size_t i = 0; i < n; i++)
        if (w == 0 || cmp_fact(&list[w - 1], &list[i]) != 0) list[w++] = list[i];
    if (w == 0) x->full |= type;
    if (known_alternative(x, type, list, w)) return;
    if (!GROW(g, x->kept, x->cap, x->n + 1) || !GROW(g, x->n_kept, x->cap_n, x->n + 1) ||
        !GROW(g, x->types, x->cap_types, x->n + 1)) {
        x->failed = true;
        return;
    }
    x->kept[x->n] = list;
    x->n_kept[x->n] = w;
    x->types[x->n++] = (uint8_t)type;
}

static void expand(struct expansion *x, struct position p)
{
    if (x->failed || x->g->exhausted) return;
    if (++x->depth > MAX_DEPTH) give_up(x, "choices nested too deeply");
    while (!x->failed && p.types && (p.simple || p.choices)) {
        const struct todo **list = p.simple ? &p.simple : &p.choices;
        const struct todo *t = *list;
        *list = t->next;
        if (++x->steps > 1000) x->g->work++;
        if (x->steps > MAX_STEPS || x->g->work > MAX_WORK)
            give_up(x, "the combination of keywords has too many alternatives");
        if (t->is_atom && needs_choice(x->g->schema.atoms[t->id], t->neg)) {
            choose(x, p, t);
            p.types = 0;
        } else if (t->is_atom) take_atom(x, &p, t);
        else if (!take_raw(x, &p, t)) p.types = 0;
    }
    if (p.types && !x->failed) {
        if (x->branches > 16) x->g->work += 10;
        if (++x->branches > MAX_BRANCHES) give_up(x, "the combination of keywords has too many alternatives");
        unsigned numbers = p.types & (TYPE_INT | TYPE_FRAC);
        for (unsigned type = 1; type < TYPE_ALL; type <<= 1) {
            if (!(p.types & ~(unsigned)(TYPE_INT | TYPE_FRAC) & type) || (x->full & type)) continue;
            keep(x, &p, type);
        }
        if (numbers && !(x->full & numbers & TYPE_INT && x->full & numbers & TYPE_FRAC)) keep(x, &p, numbers);
    }
    x->depth--;
}

/* ---- unevaluated ---- */

static bool contributes(const struct fact *f, const struct chain *scope)
{
    if (f->kind != FACT_ATOM || f->neg) return false;
    for (const struct chain *c = f->chain; c; c = c->up) {
        if (c == scope) return true;
        if (c->neg) return false;
    }
    return false;
}

static bool add_evaluated(struct grammar *g, struct atom *made, const struct atom *a)
{
    struct str *names = grammar_alloc(g, (made->n_names + a->n_names) * sizeof *names);
    uint32_t n_patterns = made->n_patterns + a->n_patterns;
    uint32_t *patterns = grammar_alloc(g, n_patterns * sizeof *patterns);
    struct dfa **dfas = grammar_alloc(g, n_patterns * sizeof(struct dfa *));
    if (!names || !patterns || !dfas) return false;
    if (made->n_names) memcpy(names, made->names, made->n_names * sizeof *names);
    if (a->n_names) memcpy(names + made->n_names, a->names, a->n_names * sizeof *names);
    for (uint32_t i = 0; i < n_patterns; i++) {
        const struct atom *from = i < made->n_patterns ? made : a;
        uint32_t k = i < made->n_patterns ? i : i - made->n_patterns;
        patterns[i] = from->patterns[k];
        dfas[i] = from->pattern_dfas[k];
    }
    made->names = names;
    made->n_names += a->n_names;
    made->patterns = patterns;
    made->pattern_dfas = dfas;
    made->n_patterns = n_patterns;
    return true;
}

static int cmp_name(const void *x, const void *y)
{
    return str_cmp(*(const struct str *)x, *(const struct str *)y);
}

static bool finish_evaluated(struct grammar *g, struct atom *made, const struct atom *a)
{
    made->kind = a->kind == ATOM_UNEVALUATED_PROPS ? ATOM_PROPS : ATOM_ITEMS;
    made->raw = a->raw;
    made->n = 1;
    if (made->n_names) qsort(made->names, made->n_names, sizeof *made->names, cmp_name);
    uint32_t w = 0;
    for (uint32_t i = 0; i < made->n_names; i++)
        if (w == 0 || !str_eq(made->names[w - 1], made->names[i])) made->names[w++] = made->names[i];
    made->n_names = w;
    if (made->kind == ATOM_PROPS) made->n_list = w;
    made->list = grammar_alloc(g, (made->n_list + 1) * sizeof *made->list); /* zero = RAW_TRUE */
    made->pattern_raws = grammar_alloc(g, (made->n_patterns + 1) * sizeof *made->pattern_raws);
    return made->list && made->pattern_raws;
}

static bool evaluated(struct expansion *x, const struct position *p, struct fact *f)
{
    struct grammar *g = x->g;
    const struct atom *a = g->schema.atoms[f->atom];
    enum atom_kind wanted = a->kind == ATOM_UNEVALUATED_PROPS ? ATOM_PROPS : ATOM_ITEMS;
    struct atom *made = grammar_alloc(g, sizeof *made);
    if (!made || !GROW(g, g->schema.atoms, g->schema.atoms_cap, g->schema.n_atoms + 1)) return x->failed = true, false;
    for (const struct facts *l = p->facts; l; l = l->next) {
        if (!contributes(&l->fact, f->chain)) continue;
        const struct atom *b = g->schema.atoms[l->fact.atom];
        if (b->kind == a->kind && b != a) return false; /* an inner one has seen everything */
        if (b->kind != (uint8_t)wanted) continue;
        if (b->n) return false; /* additionalProperties or items: all */
        if (wanted == ATOM_ITEMS) made->n_list = b->n_list > made->n_list ? b->n_list : made->n_list;
        else if (!add_evaluated(g, made, b)) return x->failed = true, false;
    }
    if (!finish_evaluated(g, made, a)) return x->failed = true, false;
    *f = (struct fact){.kind = FACT_ATOM, .atom = (uint32_t)g->schema.n_atoms};
    g->schema.atoms[g->schema.n_atoms++] = made;
    return true;
}

/* ---- alternatives of a node ---- */

/* All strings without a length counter share one automaton. */
static void merge_strings(struct grammar *g, struct alt **alts, uint32_t *n)
{
    uint32_t w = 0, first = UINT32_MAX, term = TERM_NONE;
    for (uint32_t i = 0; i < *n; i++) {
        const struct string_alt *s = &alts[i]->string;
        bool counted = alts[i]->type == TYPE_STR && (s->min > 0 || s->max < REPEAT_MAX);
        if (alts[i]->type == TYPE_STR && !counted) {
            term = term_alt2(g, term, s->dfa->root);
            if (first != UINT32_MAX) continue;
            first = w;
        }
        alts[w++] = alts[i];
    }
    *n = w;
    if (first != UINT32_MAX) alts[first]->string.dfa = dfa_get(g, term);
    if (first != UINT32_MAX && !alts[first]->string.dfa) g->exhausted = true, *n = 0;
}

static void build(struct expansion *x, struct node *result)
{
    struct grammar *g = x->g;
    struct alt **alts = grammar_alloc(g, (x->n + 1) * sizeof(struct alt *));
    uint32_t n = 0;
    for (size_t i = 0; alts && i < x->n && !g->exhausted; i++) {
        if ((x->full & x->types[i]) == x->types[i] && x->n_kept[i] > 0) continue;
        bool never = false;
        struct alt *a = alt_build(g, x->types[i], x->kept[i], x->n_kept[i], &never);
        if (a && !never) alts[n++] = a;
    }
    if (alts) merge_strings(g, alts, &n);
    result->alts = alts;
    result->n_alts = alts ? n : 0;
}

enum { NODE_RAW, NODE_BUSY, NODE_DONE };

bool node_expand(struct grammar *g, uint32_t node)
{
    if (node == NODE_NONE || g->nodes[node].state != NODE_RAW)
        return node != NODE_NONE && g->nodes[node].state == NODE_DONE;
    struct expansion x = {.g = g};
    struct position p = {.types = TYPE_ALL};
    g->nodes[node].state = NODE_BUSY;
    arena_init(&x.arena, 64 << 20);
    for (uint32_t i = g->nodes[node].n_literals; i > 0; i--) {
        uint32_t l = g->nodes[node].literals[i - 1];
        x.path = g->schema.raws[l >> 1].path;
        push_raw(&x, &p, NULL, l >> 1, l & 1);
    }
    expand(&x, p);
    struct node result = {0};
    if (x.failed && !g->strict) { /* wider than asked for, and noted */
        struct expansion all = {.g = g};
        arena_init(&all.arena, 1 << 20);
        expand(&all, (struct position){.types = TYPE_ALL});
        build(&all, &result);
        mem_free(all.kept), mem_free(all.n_kept), mem_free(all.types);
        arena_deinit(&all.arena);
    } else if (!x.failed) build(&x, &result);
    g->nodes[node].alts = result.alts;
    g->nodes[node].n_alts = result.n_alts;
    g->nodes[node].state = NODE_DONE;
    grammar_discharge(g, x.cap * sizeof *x.kept + x.cap_n * sizeof *x.n_kept + x.cap_types);
    mem_free(x.kept), mem_free(x.n_kept), mem_free(x.types);
    arena_deinit(&x.arena);
    return true;
}

bool string_term(struct grammar *g, uint32_t *out, uint32_t node)
{
    *out = TERM_NONE;
    if (!node_expand(g, node)) return false;
    for (uint32_t i = 0; i < g->nodes[node].n_alts; i++) {
        const struct alt *a = g->nodes[node].alts[i];
        if (a->type != TYPE_STR) continue;
        uint32_t t = a->string.dfa->root;
        if (a->string.min > 0 || a->string.max < REPEAT_MAX)
            t = term_repeat(g, g->terms.any_char, a->string.min, a->string.max);
        *out = term_alt2(g, *out, t);
    }
    return true;
}
