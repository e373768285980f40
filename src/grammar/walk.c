/* walk: a vocabulary's trees are walked with the machine's states; a state that was met before in the same walk (equal
 * hash = equal futures) is not stepped again, so a walk is a lazily built automaton over sets of readings and costs a
 * table look-up a node where the text runs in circles, whatever the number of readings. Bytes that no reading can take
 * are known beforehand and cost nothing. All work is counted, so a caller can bound it. */
#include "grammar/walk_internal.h"

#include "base/alloc.h"

#define WALK_STATES 60000
#define MAX_SLOTS 8192
#define CIRCLES 16
#define FUTILE 4
#define MANY 24        /* texts below a node: worth to know whether all are taken */
#define DERIVE_WORK 32 /* a new transition of an automaton, in steps */

/* Where a byte leads: a state, or one of these. */
enum { TO_OPEN = 0xfffc, TO_EXACT, TO_DEAD, TO_UNKNOWN };
#define NO_ROW UINT32_MAX

void walk_destroy(struct walk *w)
{
    if (!w) return;
    mem_free(w->states);
    mem_free(w->next);
    mem_free(w->slots);
    mem_free(w);
}

struct walk *walk_get(struct grammar_matcher *x)
{
    struct grammar *g = x->g;
    if (!g->walk) g->walk = mem_try_zalloc(sizeof *g->walk);
    if (g->walk) g->walk->x = x;
    return g->walk;
}

/* Tokens [from, to) in a tree's order. */
static void allow(struct walk *w, const struct tree *tree, uint32_t from, uint32_t to)
{
    bool spaced = tree->max_spaces > w->room;
    for (uint32_t k = from; k < to; k++)
        if (!spaced || tree->spaces[k] <= w->room) mask_set(w, tree->order[k]);
}

/* ---- what a state can take ---- */

static void add_bytes(struct byteset *s, const char *bytes)
{
    for (; *bytes; bytes++) byteset_add(s, (uint8_t)*bytes);
}

static void add_all(struct byteset *s)
{
    for (int i = 0; i < 4; i++) s->w[i] = UINT64_MAX;
}

static void add_value(const struct machine *m, struct byteset *s, const struct thread *t)
{
    const struct node *n = &m->g->nodes[t->state];
    bool known = n->state == 2 && n->n_alts <= 16;
    unsigned types = known ? 0 : TYPE_ALL;
    for (uint32_t i = 0; known && i < n->n_alts; i++) types |= n->alts[i]->type;
    if (types & TYPE_STR) add_bytes(s, "\"");
    if (types & (TYPE_INT | TYPE_FRAC)) add_bytes(s, "-0123456789");
    if (types & TYPE_OBJ) add_bytes(s, "{");
    if (types & TYPE_ARR) add_bytes(s, "[");
    if (types & TYPE_BOOL) add_bytes(s, "tf");
    if (types & TYPE_NULL) add_bytes(s, "n");
    add_bytes(s, " \n\r\t");
}

static void add_thread(const struct machine *m, struct byteset *s, const struct thread *t)
{
    const struct frame *f = t->frame;
    bool json = f && !f->form && !f->inner && !f->guard;
    switch (t->kind) {
    case THREAD_STRING:
    case THREAD_KEY:
        if (t->escape || !in_string(t)) add_all(s);
        s->w[0] |= ~UINT64_C(0xffffffff); /* no control characters */
        s->w[1] = s->w[2] = s->w[3] = UINT64_MAX;
        return;
    case THREAD_COLON: add_bytes(s, ": \n\r\t"); return;
    case THREAD_NEXT_KEY: add_bytes(s, "\" \n\r\t"); return;
    case THREAD_MEMBER: add_bytes(s, "\"} \n\r\t"); return;
    case THREAD_EMPTY: add_bytes(s, "] \n\r\t"); return;
    case THREAD_AFTER:
        if (json) add_bytes(s, f->kind == FRAME_ARRAY ? ",] \n\r\t" : ",} \n\r\t");
        else add_all(s);
        return;
    case THREAD_VALUE:
        if (f && f->inner) add_all(s);
        else add_value(m, s, t);
        return;
    case THREAD_NUMBER:
        if (json && f->kind != FRAME_CALL) add_bytes(s, "0123456789.eE+-,]} \n\r\t");
        else add_all(s);
        return;
    default: add_all(s);
    }
}

static void find_bytes(const struct machine *m, struct walk_state *s)
{
    const struct thread *t = &m->out[s->from];
    s->content = NULL;
    s->may = (struct byteset){{0}};
    for (size_t i = 0; i < s->n; i++) add_thread(m, &s->may, &t[i]);
    if (s->n != 1 || !in_string(t)) return;
    s->content = t->dfa;
    s->place = t->state;
}

static inline bool may_take(const struct walk_state *s, uint8_t byte)
{
    if (!byteset_has(&s->may, byte)) return false;
    const struct dfa *d = s->content;
    return !d || byte == '"' || byte == '\\' || d->next[s->place * d->n_classes + d->class_of[byte]] != DFA_DEAD;
}

/* ---- states of a walk ---- */

static bool walk_grow(struct walk *w)
{
    if (w->n == w->cap) {
        size_t cap = w->cap ? w->cap * 2 : 256;
        struct walk_state *more = cap > WALK_STATES ? NULL : mem_try_realloc(w->states, cap * sizeof *more);
        if (!more) return false;
        w->states = more;
        w->cap = cap;
    }
    if (w->rows == w->rows_cap) {
        size_t cap = w->rows_cap ? w->rows_cap * 2 : 64;
        uint16_t *more = mem_try_realloc(w->next, cap * 256 * sizeof *more);
        if (!more) return false;
        w->next = more;
        w->rows_cap = cap;
    }
    return true;
}

static size_t slot_of(const struct walk *w, uint64_t hash)
{
    size_t at = hash & (w->n_slots - 1);
    while (w->slots[at].round == w->round && w->slots[at].hash != hash) at = (at + 1) & (w->n_slots - 1);
    return at;
}

/* Room for one more state that can be found again. */
static bool more_slots(struct walk *w)
{
    if (w->rows * 2 < w->n_slots) return true;
    size_t n = w->n_slots ? w->n_slots * 2 : 256;
    struct walk_slot *slots = n > MAX_SLOTS ? NULL : mem_try_zalloc(n * sizeof *slots);
    if (!slots) return false;
    mem_free(w->slots);
    w->slots = slots;
    w->n_slots = n;
    for (size_t i = 0; i < w->n; i++)
        if (w->states[i].row != NO_ROW)
            slots[slot_of(w, w->states[i].hash)] = (struct walk_slot){w->states[i].hash, w->round, (uint16_t)i};
    return true;
}

/* A reading inside a JSON string, which no plain token ends. */
bool in_string(const struct thread *t)
{
    const struct frame *f = t->frame;
    if ((t->kind != THREAD_STRING && t->kind != THREAD_KEY) || t->escape || (f && f->guard)) return false;
    return t->kind == THREAD_KEY ? !f->form : t->aux != '\'';
}

/* ... in which every plain token fits. */
bool is_open(const struct grammar_vocab *v, const struct thread *t)
{
    if (!in_string(t) || !t->dfa->states[t->state].any) return false;
    return t->kind == THREAD_KEY || t->alt->string.max == REPEAT_MAX || t->alt->string.max - t->count >= v->longest;
}

/* A reading takes every text that no quote ends, up to the longest token. */
static bool any_free(const struct walk *w, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        const struct thread *t = &w->x->m.out[i];
        if (!in_string(t) || !t->dfa->states[t->state].any) continue;
        uint32_t max = t->kind == THREAD_KEY ? REPEAT_MAX : t->alt->string.max;
        if (max == REPEAT_MAX || max - t->count >= w->x->v->max_len) return true;
    }
    return false;
}

/* Whether a reading takes every plain text from here on. */
static bool any_open(const struct walk *w, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        if (is_open(w->x->v, &w->x->m.out[i])) return true;
    return false;
}

/* Takes the threads on top of the stack, from `from` on, as a state; an equal one that is known already is returned
 * instead and they are dropped. */
static uint16_t walk_state(struct walk *w, size_t from, struct pool_mark before, unsigned depth, bool vague)
{
    struct machine *m = &w->x->m;
    size_t at = 0;
    bool textual;
    if (!walk_grow(w)) return w->over = true, TO_DEAD;
    uint64_t hash = machine_hash(m, m->out + from, m->n_out - from, w->x->v->max_len, true, &textual) + vague;
    bool lasting = !textual && more_slots(w);
    if (lasting) {
        at = slot_of(w, hash);
        if (w->slots[at].round == w->round) {
            m->n_out = from;
            pool_release(&m->pool, before);
            return w->slots[at].state;
        }
    }
    struct walk_state *s = &w->states[w->n];
    *s = (struct walk_state){
        .from = from, .n = m->n_out - from, .before = before, .row = NO_ROW, .depth = (uint8_t)depth, .vague = vague};
    find_bytes(m, s);
    s->free = any_free(w, from, m->n_out);
    w->loose = (uint8_t)depth;
    if (lasting) {
        s->hash = hash;
        s->row = (uint32_t)w->rows++;
        memset(w->next + (size_t)s->row * 256, 0xff, 256 * sizeof *w->next);
        w->slots[at] = (struct walk_slot){hash, w->round, (uint16_t)w->n};
        w->loose = 0;
    }
    return (uint16_t)w->n++;
}

/* Forgets states of nodes that the walk has left, as far as nothing that stays was made after them. */
static void walk_release(struct walk *w, unsigned depth)
{
    while (w->loose >= depth) {
        const struct walk_state *s = &w->states[--w->n], *top = s - 1;
        w->x->m.n_out = s->from;
        pool_release(&w->x->m.pool, s->before);
        w->loose = w->n > 1 && top->row == NO_ROW ? top->depth : 0;
    }
}

/* Whether the byte may end a key. */
static bool closes_key(const struct thread *t, size_t n, uint8_t byte)
{
    for (size_t i = 0; i < n; i++) {
        if (t[i].kind != THREAD_KEY || t[i].escape) continue;
        const struct grammar_form *f = t[i].frame->form;
        if (f ? f->key_close.len && byte == (uint8_t)f->key_close.ptr[0] : byte == '"') return true;
    }
    return false;
}

/* Whether a key begins beside one whose text is only representative (that one is in the list of the used). */
static bool starts_key(const struct thread *t, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (t[i].kind == THREAD_KEY && (t[i].frame->used || t[i].frame->form)) return true;
    return false;
}

bool walk_goes_on(struct walk *w, size_t steps)
{
    w->work += steps + (size_t)DERIVE_WORK * (w->x->g->derived - w->derived);
    w->derived = w->x->g->derived;
    if (w->work > w->limit) w->over = true;
    return !w->over;
}

static uint16_t walk_step(struct walk *w, uint16_t from, uint8_t byte, unsigned depth)
{
    struct machine *m = &w->x->m;
    const struct walk_state *s = &w->states[from];
    struct pool_mark before = pool_mark(&m->pool);
    size_t mark = m->n_out;
    uint16_t to = TO_DEAD;
    if (!walk_goes_on(w, s->n + 2)) return TO_DEAD;
    bool vague = s->vague || (s->row != NO_ROW && closes_key(m->out + s->from, s->n, byte));
    if (machine_step(m, s->from, s->from + s->n, byte)) {
        /* Another key behind one whose text is only representative: too rare to be clever about. */
        if (s->vague && starts_key(m->out + mark, m->n_out - mark)) m->n_out = mark, to = TO_EXACT;
        else if (w->plain && any_open(w, mark, m->n_out)) m->n_out = mark, to = TO_OPEN;
        else to = walk_state(w, mark, before, depth, vague);
    } else if (m->failed) w->over = true;
    bool stays = to >= TO_OPEN || w->states[to].row != NO_ROW;
    if (stays && w->states[from].row != NO_ROW) w->next[(size_t)w->states[from].row * 256 + byte] = to;
    return to;
}

/* ---- what leads back to the same state ---- */

#define OFTEN 12 /* visits after which that is worth to know */

struct place {
    struct walk *w;
    uint16_t state;
    size_t text; /* of the walk's text up to the state */
    unsigned depth;
};

/* The state behind a byte, for every byte of [lo, hi]; TO_UNKNOWN when they lead to several. */
static uint16_t all_lead_to(struct place p, unsigned lo, unsigned hi)
{
    struct walk *w = p.w;
    uint16_t all = TO_UNKNOWN;
    if (p.state >= TO_OPEN || p.depth >= TOKEN_BYTES_MAX) return p.state == TO_OPEN ? TO_OPEN : TO_UNKNOWN;
    for (unsigned b = lo; b <= hi && !w->over; b++) {
        uint32_t row = w->states[p.state].row;
        uint16_t to = row == NO_ROW ? TO_UNKNOWN : w->next[(size_t)row * 256 + b];
        if (row == NO_ROW) return TO_UNKNOWN;
        if (to == TO_UNKNOWN) {
            w->x->m.text.ptr[p.text] = (char)b;
            w->x->m.text.len = p.text + 1;
            to = walk_step(w, p.state, (uint8_t)b, p.depth + 1);
            walk_release(w, p.depth + 1);
        }
        if (b > lo && to != all) return TO_UNKNOWN;
        all = to;
    }
    return all;
}

static bool bytes_loop(struct place p, unsigned lo, unsigned hi)
{
    uint16_t to = all_lead_to(p, lo, hi);
    return to == p.state || to == TO_OPEN;
}

/* All characters whose first byte is lo..hi, the second from..to, and `more` further ones. */
static bool chars_loop(struct place p, unsigned lo, unsigned hi, unsigned from, unsigned to, unsigned more)
{
    uint16_t back = p.state;
    for (unsigned lead = lo; lead <= hi; lead++) {
        struct place q = p;
        q.state = all_lead_to(q, lead, lead);
        for (unsigned k = 0; k <= more; k++) {
            if (q.state == TO_UNKNOWN) return false;
            p.w->x->m.text.ptr[q.text] = (char)(k ? 0x80 : lead);
            q.text++, q.depth++;
            q.state = k ? all_lead_to(q, 0x80, 0xbf) : all_lead_to(q, from, to);
        }
        if (q.state != back && q.state != TO_OPEN) return false;
    }
    return true;
}

static uint64_t find_loops(struct place p)
{
    uint64_t loops = 0;
    for (unsigned b = 'a'; b <= 'z'; b++) loops |= (uint64_t)bytes_loop(p, b, b) << byte_bucket((uint8_t)b);
    loops |= (uint64_t)bytes_loop(p, '0', '9') << byte_bucket('0') | (uint64_t)bytes_loop(p, 'A', 'Z')
                                                                         << byte_bucket('A');
    loops |= (uint64_t)bytes_loop(p, ' ', ' ') << byte_bucket(' ') | (uint64_t)bytes_loop(p, '<', '<')
                                                                         << byte_bucket('<');
    bool others = bytes_loop(p, '!', '!') && bytes_loop(p, '#', '/') && bytes_loop(p, ':', ';') &&
                  bytes_loop(p, '=', '@') && bytes_loop(p, '[', '[') && bytes_loop(p, ']', '`') &&
                  bytes_loop(p, '{', 0x7f);
    bool wide = chars_loop(p, 0xc2, 0xdf, 0x80, 0xbf, 0) && chars_loop(p, 0xe0, 0xe0, 0xa0, 0xbf, 1) &&
                chars_loop(p, 0xe1, 0xec, 0x80, 0xbf, 1) && chars_loop(p, 0xed, 0xed, 0x80, 0x9f, 1) &&
                chars_loop(p, 0xee, 0xef, 0x80, 0xbf, 1) && chars_loop(p, 0xf0, 0xf0, 0x90, 0xbf, 2) &&
                chars_loop(p, 0xf1, 0xf3, 0x80, 0xbf, 2) && chars_loop(p, 0xf4, 0xf4, 0x80, 0x8f, 2);
    return loops | (uint64_t)others << byte_bucket('!') | (uint64_t)wide << byte_bucket(0x80);
}

/* Whether all texts below a node lead from its state back to it. */
static bool loops_below(struct walk *w, uint16_t state, uint64_t below, size_t text, unsigned depth)
{
    struct walk_state *s = &w->states[state];
    if (s->row == NO_ROW || below == 0) return false;
    if (s->visits < OFTEN) {
        if (++s->visits < OFTEN) return false;
        uint64_t loops = find_loops((struct place){w, state, text, depth});
        w->states[state].loops = loops; /* the table may have moved */
        s = &w->states[state];
    }
    return (below & ~s->loops) == 0;
}

bool walk_takes(struct walk *w, uint32_t token)
{
    struct machine *m = &w->x->m;
    struct str s = grammar_vocab_text(w->x->v, token);
    size_t mark = m->n_out, from = 0, to = w->own, k = 0, base = w->x->steps[w->x->at].text, len = m->text.len;
    struct pool_mark pool = pool_mark(&m->pool);
    char kept[TOKEN_BYTES_MAX]; /* the text there belongs to a walk that goes on */
    memcpy(kept, m->text.ptr + base, s.len);
    for (; k < s.len; k++) {
        size_t top = m->n_out;
        m->text.ptr[base + k] = s.ptr[k];
        m->text.len = base + k + 1;
        if (!walk_goes_on(w, to - from) || !machine_step(m, from, to, (uint8_t)s.ptr[k])) break;
        from = top;
        to = m->n_out;
    }
    memcpy(m->text.ptr + base, kept, s.len);
    m->text.len = len;
    m->n_out = mark;
    pool_release(&m->pool, pool);
    return k == s.len;
}

/* The tokens at and below node i, each from the start. */
static void walk_exact(struct walk *w, const struct tree *tree, uint32_t i)
{
    for (uint32_t k = tree->nodes[i].first; k < tree->nodes[i].last && !w->over; k++)
        if (walk_takes(w, tree->order[k])) mask_set(w, tree->order[k]);
}

struct way {                                                      /* from the root to where a walk is */
    uint32_t next[TOKEN_BYTES_MAX + 2], end[TOKEN_BYTES_MAX + 2]; /* children that are left */
    uint16_t at[TOKEN_BYTES_MAX + 2];                             /* the state they are tried from */
};

static void descend(struct way *way, const struct tree *tree, unsigned depth, uint32_t node, uint16_t state)
{
    way->at[depth] = state;
    way->next[depth] = tree->nodes[node].kids;
    way->end[depth] = tree->nodes[node + 1].kids;
}

/* The state behind node i, entered from `from`; or TO_ something. */
static uint16_t walk_into(struct walk *w, const struct tree *tree, uint32_t i, uint16_t from, size_t base,
                          unsigned depth)
{
    struct machine *m = &w->x->m;
    uint8_t byte = tree->bytes[i];
    uint32_t row = w->states[from].row;
    uint64_t below = tree->nodes[i].below;
    uint16_t to = row != NO_ROW ? w->next[(size_t)row * 256 + byte] : TO_UNKNOWN;
    m->text.ptr[base + depth - 1] = (char)byte;
    if (to == TO_UNKNOWN) {
        m->text.len = base + depth;
        to = walk_step(w, from, byte, depth);
    }
    if (to >= TO_OPEN) return to;
    if (w->plain ? loops_below(w, to, below, base + depth, depth)
                 : w->states[to].free && (below & BUCKETS_SPECIAL) == 0)
        return TO_OPEN;
    return to;
}

void walk_tree(struct walk *w, const struct tree *tree, struct walk_from f)
{
    struct machine *m = &w->x->m;
    struct way way;
    size_t base = m->text.len;
    unsigned depth = 0;
    struct pool_mark pool = pool_mark(&m->pool);
    w->n = w->rows = 0;
    w->loose = 0;
    w->plain = f.plain;
    w->round++;
    if (m->n_out == f.from || !buf_reserve(&m->text, TOKEN_BYTES_MAX + 1)) return;
    descend(&way, tree, 0, f.node, walk_state(w, f.from, pool, 0, f.vague));
    if (!w->over) allow(w, tree, tree->nodes[f.node].first, tree->nodes[f.node].own);
    while (!w->over) {
        if (way.next[depth] == way.end[depth]) {
            if (depth-- == 0) break;
            continue;
        }
        uint32_t i = way.next[depth]++;
        if (!may_take(&w->states[way.at[depth]], tree->bytes[i])) continue;
        if (depth == 0 && f.only && !byteset_has(f.only, tree->bytes[i])) continue;
        if (w->loose > depth) walk_release(w, depth + 1);
        uint16_t to = walk_into(w, tree, i, way.at[depth], base, depth + 1);
        if (to == TO_EXACT) walk_exact(w, tree, i);
        else if (to == TO_OPEN) allow(w, tree, tree->nodes[i].first, tree->nodes[i].last);
        else if (to < TO_OPEN) {
            allow(w, tree, tree->nodes[i].first, tree->nodes[i].own);
            descend(&way, tree, ++depth, i, to);
        }
    }
    m->failed = false;
    m->n_out = f.from;
    m->text.len = base;
    pool_release(&m->pool, pool);
}

struct circle { /* what leads a state of an automaton back to itself */
    uint32_t state, visits;
    uint64_t buckets;
};

/* The last of `known` counts states that had none: an automaton that counts characters has no circle anywhere. */
static uint64_t circles(struct grammar *g, struct dfa *d, uint32_t state, struct circle *known)
{
    if (known[CIRCLES].visits == FUTILE) return 0;
    struct circle *c = &known[state % CIRCLES];
    if (c->state != state + 1) *c = (struct circle){.state = state + 1};
    if (++c->visits != OFTEN) return c->buckets;
    uint64_t leave = BUCKETS_SPECIAL | ~((UINT64_C(1) << BUCKET_CONTROL) - 1);
    for (unsigned b = 0x20; b < 0x80; b++)
        if (dfa_step(g, d, state, (uint8_t)b) != (int32_t)state) leave |= UINT64_C(1) << byte_bucket((uint8_t)b);
    if (!~leave) known[CIRCLES].visits++;
    return c->buckets = ~leave;
}

bool walk_content(struct walk *w, struct dfa *d, uint32_t state, size_t nodes)
{
    const struct tree *tree = &w->x->v->plain;
    uint32_t next[TOKEN_BYTES_MAX + 2], end[TOKEN_BYTES_MAX + 2], states[TOKEN_BYTES_MAX + 2] = {state}, depth = 0;
    struct circle known[CIRCLES + 1] = {{0}};
    next[0] = tree->nodes[0].kids;
    end[0] = tree->nodes[1].kids;
    for (;;) {
        if (next[depth] == end[depth]) {
            if (depth-- == 0) return true;
            continue;
        }
        uint32_t i = next[depth]++;
        if (nodes-- == 0) return false;
        int32_t to = dfa_lead(w->x->g, d, states[depth], tree->bytes[i]);
        if (w->x->g->derived != w->derived && !walk_goes_on(w, 0)) return true;
        if (to < 0) continue;
        const struct tree_node *t = &tree->nodes[i];
        bool any = d->states[to].any ||
                   (t->last - t->first > MANY && (t->below & ~circles(w->x->g, d, (uint32_t)to, known)) == 0);
        allow(w, tree, t->first, any ? t->last : t->own);
        if (any) continue;
        states[++depth] = (uint32_t)to;
        next[depth] = t->kids;
        end[depth] = tree->nodes[i + 1].kids;
    }
}
