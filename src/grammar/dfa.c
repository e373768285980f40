/* dfa: lazy automata over terms. A state is a term; a transition is a derivative, computed when first needed, by byte
 * class. States from which no match can be reached are dead, so a living state is always completable (searches over
 * more than LIVE_LIMIT states end in hope; a search goes where the fewest characters are missing, so what matches is
 * mostly found on the first way down). */
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "grammar/grammar_internal.h"

#define LIVE_LIMIT 1500
#define LIVE_TOTAL 6000 /* states looked at for one grammar, from then on a search ends after LIVE_FEW */
#define LIVE_FEW 40
#define MAX_STATES 200000
#define UNKNOWN (-2)

struct classes {
    struct dfa *d;
    uint16_t size[256];
};

static void split_byte(struct classes *c, uint8_t b)
{
    uint8_t from = c->d->class_of[b];
    if (c->size[from] == 1) return;
    c->size[from]--;
    c->size[c->d->n_classes] = 1;
    c->d->class_of[b] = (uint8_t)c->d->n_classes++;
}

/* Splits classes so that bytes of one class are all inside or all outside of s. */
static void split_classes(struct classes *c, const struct byteset *s)
{
    uint16_t inside[256] = {0}, moved[256] = {0};
    for (int w = 0; w < 4; w++)
        for (uint64_t bits = s->w[w]; bits; bits &= bits - 1) inside[c->d->class_of[w * 64 + __builtin_ctzll(bits)]]++;
    for (int i = 0, n = c->d->n_classes; i < n; i++) /* moved: 1 + the new class */
        if (inside[i] && inside[i] < c->size[i]) {
            c->size[i] = (uint16_t)(c->size[i] - inside[i]);
            c->size[c->d->n_classes] = inside[i];
            moved[i] = (uint16_t)++c->d->n_classes;
        }
    for (int w = 0; w < 4; w++)
        for (uint64_t bits = s->w[w]; bits; bits &= bits - 1) {
            uint8_t *class = &c->d->class_of[w * 64 + __builtin_ctzll(bits)];
            if (moved[*class]) *class = (uint8_t)(moved[*class] - 1);
        }
}

static void split_strings(struct grammar *g, struct classes *c, const struct term *t)
{
    for (uint32_t i = t->min; i < t->max; i++) {
        struct str s = g->terms.tables[t->a].items[i];
        for (size_t k = t->b; k < s.len; k++) split_byte(c, (uint8_t)s.ptr[k]);
    }
}

static bool find_classes(struct grammar *g, struct dfa *d, uint32_t root)
{
    size_t top = 0, cap = 0;
    struct classes classes = {.d = d, .size = {256}};
    uint32_t *stack = NULL, search = ++g->terms.searches;
    bool ok = GROW(g, stack, cap, 16);
    if (ok) stack[top++] = root;
    while (ok && top) {
        uint32_t id = stack[--top];
        struct term *t = &g->terms.items[id];
        if (t->seen == search) continue;
        t->seen = search;
        if (t->kind == TERM_KIND_SET) split_classes(&classes, &g->terms.sets[t->a]);
        if (t->kind == TERM_KIND_STRS) split_strings(g, &classes, t);
        if (!GROW(g, stack, cap, top + 2 + t->n)) ok = false;
        else if (t->kind == TERM_KIND_CAT) stack[top++] = t->a, stack[top++] = t->b;
        else if (t->kind == TERM_KIND_REP || t->kind == TERM_KIND_NOT) stack[top++] = t->a;
        else
            for (uint32_t i = 0; i < t->n; i++) stack[top++] = g->terms.lists[t->list + i];
    }
    grammar_discharge(g, cap * sizeof *stack);
    mem_free(stack);
    for (int b = 255; b >= 0; b--) d->sample[d->class_of[b]] = (uint8_t)b;
    return ok;
}

static bool rehash_states(struct grammar *g, struct dfa *d)
{
    size_t n = d->n_slots ? d->n_slots * 2 : 16;
    uint32_t *slots = mem_try_zalloc(n * sizeof *slots);
    if (!slots || !grammar_charge(g, (n - d->n_slots) * sizeof *slots)) return mem_free(slots), false;
    for (uint32_t i = 0; i < d->n; i++) {
        size_t at = (d->states[i].term * 2654435761u) & (n - 1);
        while (slots[at]) at = (at + 1) & (n - 1);
        slots[at] = i + 1;
    }
    mem_free(d->slots);
    d->slots = slots;
    d->n_slots = n;
    return true;
}

static int32_t state_of(struct grammar *g, struct dfa *d, uint32_t term)
{
    if (term == TERM_NONE) return DFA_DEAD;
    if (d->n * 2 >= d->n_slots && !rehash_states(g, d)) return DFA_DEAD;
    size_t at = (term * 2654435761u) & (d->n_slots - 1);
    for (; d->slots[at]; at = (at + 1) & (d->n_slots - 1))
        if (d->states[d->slots[at] - 1].term == term) return (int32_t)d->slots[at] - 1;
    if (d->n >= MAX_STATES) return g->exhausted = true, DFA_DEAD;
    if (!GROW(g, d->states, d->states_cap, d->n + 1) || !GROW(g, d->next, d->next_cap, (d->n + 1) * d->n_classes))
        return DFA_DEAD;
    const struct term *t = &g->terms.items[term];
    d->states[d->n] = (struct dfa_state){.term = term,
                                         .accepts = t->nullable,
                                         .count = UINT32_MAX,
                                         .life = t->logical && !t->nullable ? LIFE_UNKNOWN : LIFE_ALIVE,
                                         .any = term == g->terms.any_text};
    for (size_t c = 0; c < d->n_classes; c++) d->next[d->n * d->n_classes + c] = UNKNOWN;
    d->slots[at] = d->n + 1;
    return (int32_t)d->n++;
}

static int32_t raw_next(struct grammar *g, struct dfa *d, uint32_t state, unsigned class)
{
    int32_t to = d->next[state * d->n_classes + class];
    if (to != UNKNOWN) return to;
    g->derived++;
    to = state_of(g, d, term_derive(g, d->states[state].term, d->sample[class]));
    d->next[state * d->n_classes + class] = to;
    return to;
}

/* ---- can it still match? ---- */

#define NEAR 256 /* characters that are missing: from here on they are not told apart */

struct found { /* a state that a search came to */
    uint32_t state, class;
    uint32_t from; /* 1 + place of the one it was found from; 0 = none */
    uint32_t next; /* 1 + place of the one that waits behind it */
};
struct search {
    struct grammar *g;
    struct dfa *d;
    struct found *list;
    size_t n, limit;
    uint32_t near[NEAR]; /* those that wait, by how many characters they want: 1 + place of the newest */
    bool full, hoped;    /* hoped: nothing is known about a state that was met */
};

static void wait(struct search *s, uint32_t state, uint32_t from)
{
    if (s->n == s->limit) {
        s->full = true;
        return;
    }
    uint32_t effort = s->g->terms.items[s->d->states[state].term].effort;
    uint32_t *newest = &s->near[effort < NEAR ? effort : NEAR - 1];
    s->d->states[state].life = LIFE_SEARCHED;
    s->list[s->n++] = (struct found){state, 0, from, *newest};
    *newest = (uint32_t)s->n;
}

/* One more transition of the state that is nearest to a match, of several the newest; the bytes are tried in an order
 * that differs from state to state. Returns its place + 1 when it leads to a living state. */
static uint32_t look_on(struct search *s, uint32_t *near)
{
    uint32_t at = *near;
    struct found *f = &s->list[at - 1];
    if (f->class == s->d->n_classes) {
        *near = f->next;
        return 0;
    }
    uint32_t turn = (f->class ++ +f->state * 2654435761u % 65521) % s->d->n_classes;
    int32_t to = raw_next(s->g, s->d, f->state, turn);
    if (to < 0) return 0;
    if (s->d->states[to].life == LIFE_ALIVE) return at;
    if (s->d->states[to].life == LIFE_UNKNOWN) wait(s, (uint32_t)to, at);
    if (s->d->states[to].life == LIFE_HOPED) s->hoped = true;
    return 0;
}

/* Settles the life of the states on the way to a match, or of all that were seen when there is none. A search that ends
 * early settles nothing but that `state` may be hoped to match. */
static void settle_life(struct grammar *g, struct dfa *d, uint32_t state)
{
    struct search s = {.g = g, .d = d, .limit = g->searched > LIVE_TOTAL ? LIVE_FEW : LIVE_LIMIT};
    uint32_t found = 0, i = 0;
    s.list = mem_try_alloc(s.limit * sizeof *s.list);
    if (s.list) wait(&s, state, 0);
    while (s.list && !found && !s.full && i < NEAR) {
        for (i = 0; i < NEAR && !s.near[i];) i++;
        if (i < NEAR) found = look_on(&s, &s.near[i]);
    }
    g->searched += (uint32_t)s.n;
    bool dead = s.list && !s.full && !s.hoped && !found && !g->exhausted, alive = found;
    for (size_t k = 0; k < s.n; k++) d->states[s.list[k].state].life = dead ? LIFE_DEAD : LIFE_UNKNOWN;
    for (; found; found = s.list[found - 1].from) d->states[s.list[found - 1].state].life = LIFE_ALIVE;
    if (!dead && !alive) d->states[state].life = LIFE_HOPED;
    mem_free(s.list);
}

bool dfa_alive(struct grammar *g, struct dfa *d, uint32_t state)
{
    if (d->states[state].life == LIFE_UNKNOWN) settle_life(g, d, state);
    return d->states[state].life != LIFE_DEAD;
}

int32_t dfa_step_slow(struct grammar *g, struct dfa *d, uint32_t state, uint8_t byte)
{
    unsigned class = d->class_of[byte];
    int32_t to = raw_next(g, d, state, class);
    if (to < 0) return DFA_DEAD;
    if (dfa_alive(g, d, (uint32_t)to)) return to;
    d->next[state * d->n_classes + class] = DFA_DEAD;
    return DFA_DEAD;
}

struct dfa *dfa_get(struct grammar *g, uint32_t term)
{
    uint32_t known = g->terms.items[term].dfa;
    if (known) return dfa_alive(g, g->dfas[known - 1], 0) ? g->dfas[known - 1] : NULL;
    if (term == TERM_NONE || g->exhausted || !GROW(g, g->dfas, g->dfas_cap, g->n_dfas + 1)) return NULL;
    struct dfa *d = grammar_alloc(g, sizeof *d);
    if (!d) return NULL;
    *d = (struct dfa){.root = term, .n_classes = 1, .id = (uint32_t)g->n_dfas};
    g->dfas[g->n_dfas++] = d;
    if (!find_classes(g, d, term) || state_of(g, d, term) != 0) return g->n_dfas--, NULL;
    g->terms.items[term].dfa = (uint32_t)g->n_dfas;
    return dfa_alive(g, d, 0) ? d : NULL;
}

bool dfa_match(struct grammar *g, struct dfa *d, struct str s)
{
    int32_t state = 0;
    if (!d) return false;
    for (size_t i = 0; i < s.len && state >= 0; i++) state = dfa_step(g, d, (uint32_t)state, (uint8_t)s.ptr[i]);
    return state >= 0 && d->states[state].accepts;
}

/* Texts from `state` on, at most COUNT_MANY; a loop gives COUNT_MANY. COUNT_BUSY marks states on the way down. */
#define COUNT_BUSY (UINT32_MAX - 1)
static uint32_t count_from(struct grammar *g, struct dfa *d, uint32_t state, unsigned depth)
{
    uint32_t known = d->states[state].count;
    if (known == COUNT_BUSY || depth > 200) return COUNT_MANY;
    if (known != UINT32_MAX) return known;
    const struct term *t = &g->terms.items[d->states[state].term];
    if (t->kind == TERM_KIND_STRS)
        return d->states[state].count = t->max - t->min < COUNT_MANY ? t->max - t->min : COUNT_MANY;
    if (d->states[state].any || (t->kind == TERM_KIND_REP && t->max == REPEAT_MAX))
        return d->states[state].count = COUNT_MANY;
    d->states[state].count = COUNT_BUSY;
    uint32_t n = d->states[state].accepts;
    for (int b = 0; b < 256 && n < COUNT_MANY; b++) {
        int32_t to = dfa_step(g, d, state, (uint8_t)b);
        if (to >= 0) n += count_from(g, d, (uint32_t)to, depth + 1);
    }
    if (n > COUNT_MANY) n = COUNT_MANY;
    return d->states[state].count = n;
}

uint32_t dfa_count(struct grammar *g, struct dfa *d, uint32_t state)
{
    return count_from(g, d, state, 0);
}

void dfas_deinit(struct grammar *g)
{
    for (size_t i = 0; i < g->n_dfas; i++) {
        mem_free(g->dfas[i]->states);
        mem_free(g->dfas[i]->next);
        mem_free(g->dfas[i]->slots);
    }
    mem_free(g->dfas);
}
