/* mask: which tokens may come next. The vocabulary's tries are walked with the machine's states; a state that was met
 * before in the same walk (equal hash = equal futures) is not stepped again, so a walk is a lazily built automaton over
 * sets of readings and costs a table look-up a node where the text runs in circles, whatever the number of readings. In
 * a free string the ready sets of the vocabulary are the answer. Finished masks are remembered by the hash of the state
 * they were made in. All work is counted, so a caller can bound it. */
#include "grammar/matcher_internal.h"

#include "base/alloc.h"
#include "base/hash.h"

#define MEMO_SIZE 256   /* masks kept by one grammar */
#define WALK_SLOTS 8192 /* power of two, twice the states that are found again */
#define WALK_STATES 60000
#define DERIVE_WORK 32    /* a new transition of an automaton, in steps */
#define CONTENT_THREADS 4 /* more readings of restricted strings than this are walked together */

/* Where a byte leads: a state, or one of these. */
enum { TO_OPEN = 0xfffc, TO_EXACT, TO_DEAD, TO_UNKNOWN };
#define NO_ROW UINT32_MAX

struct walk_state {
    size_t from, n; /* its threads on the machine's stack */
    struct pool_mark before;
    uint32_t row; /* of next; NO_ROW: it cannot be met again */
    uint8_t depth;
    bool vague; /* a key of another text stands in its frames */
    uint8_t visits;
    uint32_t loops; /* buckets whose characters all lead back to it, once it was visited often */
};
struct walk_slot {
    uint64_t hash;
    uint32_t round;
    uint16_t state;
};
struct walk {
    struct grammar_matcher *x;
    uint32_t *bits;
    struct walk_state *states; /* a stack; states with rows stay until the walk ends */
    uint16_t *next;            // [rows][256]
    size_t n, cap, rows, rows_cap;
    size_t work, limit;
    uint32_t round, derived; /* derived: the grammar's count that is in work already */
    uint8_t loose;           /* depth of the state on top when it can be dropped, else 0 */
    bool plain;              /* only plain texts are asked for */
    bool over;               /* the work exceeds its limit, or no memory */
    struct walk_slot slots[WALK_SLOTS];
};

struct memo {
    uint64_t hash;
    const struct grammar_vocab *v;
    uint32_t *bits;
    size_t n_set;
};

void walk_destroy(struct walk *w)
{
    if (!w) return;
    mem_free(w->states);
    mem_free(w->next);
    mem_free(w);
}

static inline void allow(const struct grammar_vocab *v, uint32_t *bits, uint32_t token)
{
    uint32_t id = token & ~SAME_TEXT;
    bits[id / 32] |= 1u << (id % 32);
    if (id == token) return;
    for (id = v->next_same[id]; id != TOKEN_NONE; id = v->next_same[id]) bits[id / 32] |= 1u << (id % 32);
}

/* All tokens below and at node i. */
static void allow_below(const struct grammar_vocab *v, uint32_t *bits, const struct trie *trie, size_t i)
{
    size_t end = trie->nodes[i].skip < trie->n ? trie->nodes[trie->nodes[i].skip].first : trie->n_order;
    for (size_t k = trie->nodes[i].first; k < end; k++) allow(v, bits, trie->order[k]);
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

/* A reading inside a JSON string, which no plain token ends. */
static bool in_string(const struct thread *t)
{
    const struct frame *f = t->frame;
    if ((t->kind != THREAD_STRING && t->kind != THREAD_KEY) || t->escape || (f && f->guard)) return false;
    return t->kind == THREAD_KEY ? !f->form : t->aux != '\'';
}

/* ... in which every plain token fits. */
static bool is_open(const struct grammar_vocab *v, const struct thread *t)
{
    if (!in_string(t) || !t->dfa->states[t->state].any) return false;
    return t->kind == THREAD_KEY || t->alt->string.max == REPEAT_MAX || t->alt->string.max - t->count >= v->longest;
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
    if (!textual && w->rows < WALK_SLOTS / 2) {
        at = hash % WALK_SLOTS;
        for (; w->slots[at].round == w->round; at = (at + 1) % WALK_SLOTS) {
            if (w->slots[at].hash != hash) continue;
            m->n_out = from;
            pool_release(&m->pool, before);
            return w->slots[at].state;
        }
    }
    struct walk_state *s = &w->states[w->n];
    *s = (struct walk_state){from, m->n_out - from, before, NO_ROW, (uint8_t)depth, vague, 0, 0};
    w->loose = (uint8_t)depth;
    if (!textual && w->rows < WALK_SLOTS / 2) {
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

/* Whether a reading takes every plain text from here on. */
static bool any_open(const struct walk *w, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        if (is_open(w->x->v, &w->x->m.out[i])) return true;
    return false;
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

static bool starts_key(const struct thread *t, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (t[i].kind == THREAD_KEY) return true;
    return false;
}

/* Counts steps, and what the automata cost since the last count. */
static bool walk_goes_on(struct walk *w, size_t steps)
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

static uint32_t find_loops(struct place p)
{
    uint32_t loops = 0;
    for (unsigned b = 'a'; b <= 'z'; b++) loops |= (uint32_t)bytes_loop(p, b, b) << byte_bucket((uint8_t)b);
    loops |= (uint32_t)bytes_loop(p, '0', '9') << byte_bucket('0') | (uint32_t)bytes_loop(p, 'A', 'Z')
                                                                         << byte_bucket('A');
    loops |= (uint32_t)bytes_loop(p, ' ', ' ') << byte_bucket(' ') | (uint32_t)bytes_loop(p, '<', '<')
                                                                         << byte_bucket('<');
    bool others = bytes_loop(p, '!', '!') && bytes_loop(p, '#', '/') && bytes_loop(p, ':', ';') &&
                  bytes_loop(p, '=', '@') && bytes_loop(p, '[', '[') && bytes_loop(p, ']', '`') &&
                  bytes_loop(p, '{', 0x7f);
    bool wide = chars_loop(p, 0xc2, 0xdf, 0x80, 0xbf, 0) && chars_loop(p, 0xe0, 0xe0, 0xa0, 0xbf, 1) &&
                chars_loop(p, 0xe1, 0xec, 0x80, 0xbf, 1) && chars_loop(p, 0xed, 0xed, 0x80, 0x9f, 1) &&
                chars_loop(p, 0xee, 0xef, 0x80, 0xbf, 1) && chars_loop(p, 0xf0, 0xf0, 0x90, 0xbf, 2) &&
                chars_loop(p, 0xf1, 0xf3, 0x80, 0xbf, 2) && chars_loop(p, 0xf4, 0xf4, 0x80, 0x8f, 2);
    return loops | (uint32_t)others << byte_bucket('!') | (uint32_t)wide << byte_bucket(0x80);
}

/* Whether all texts below a node lead from its state back to it. */
static bool loops_below(struct walk *w, uint16_t state, uint32_t below, size_t text, unsigned depth)
{
    struct walk_state *s = &w->states[state];
    if (s->row == NO_ROW || below == 0) return false;
    if (s->visits < OFTEN) {
        if (++s->visits < OFTEN) return false;
        uint32_t loops = find_loops((struct place){w, state, text, depth});
        w->states[state].loops = loops; /* the table may have moved */
        s = &w->states[state];
    }
    return (below & ~s->loops) == 0;
}

/* The tokens at and below node i, each from the start. */
static void walk_exact(struct walk *w, const struct trie *trie, size_t i, size_t base)
{
    struct machine *m = &w->x->m;
    size_t mark = m->n_out, end = trie->nodes[i].skip;
    struct pool_mark pool = pool_mark(&m->pool);
    for (; i < end && !w->over; i++) {
        if (trie->nodes[i].token == TOKEN_NONE) continue;
        struct str s = grammar_vocab_text(w->x->v, trie->nodes[i].token & ~SAME_TEXT);
        size_t from = w->states[0].from, to = from + w->states[0].n, k = 0;
        for (; k < s.len; k++) {
            size_t top = m->n_out;
            m->text.ptr[base + k] = s.ptr[k];
            m->text.len = base + k + 1;
            if (!walk_goes_on(w, to - from) || !machine_step(m, from, to, (uint8_t)s.ptr[k])) break;
            from = top;
            to = m->n_out;
        }
        if (k == s.len) allow(w->x->v, w->bits, trie->nodes[i].token);
        m->n_out = mark;
        pool_release(&m->pool, pool);
    }
}

/* Adds the tokens of a trie that the threads on the stack can take. */
static void walk_trie(struct walk *w, const struct trie *trie, bool plain)
{
    struct machine *m = &w->x->m;
    uint16_t at[TOKEN_BYTES_MAX + 1];
    uint32_t rows[TOKEN_BYTES_MAX + 1];
    size_t base = m->text.len;
    w->n = w->rows = 0;
    w->loose = 0;
    w->plain = plain;
    w->round++;
    if (m->n_out == 0 || !buf_reserve(&m->text, TOKEN_BYTES_MAX + 1)) return;
    at[0] = walk_state(w, 0, pool_mark(&m->pool), 0, false);
    rows[0] = w->n ? w->states[0].row : NO_ROW;
    for (size_t i = 0; i < trie->n && !w->over;) {
        const struct trie_node *t = &trie->nodes[i];
        if (w->loose >= t->depth) walk_release(w, t->depth);
        uint32_t row = rows[t->depth - 1];
        uint16_t to = TO_UNKNOWN;
        m->text.ptr[base + t->depth - 1] = (char)t->byte;
        if (row != NO_ROW) to = w->next[(size_t)row * 256 + t->byte];
        if (to == TO_UNKNOWN) {
            m->text.len = base + t->depth;
            to = walk_step(w, at[t->depth - 1], t->byte, t->depth);
        }
        if (to < TO_OPEN && plain && loops_below(w, to, t->below, base + t->depth, t->depth)) to = TO_OPEN;
        if (to < TO_OPEN) {
            at[t->depth] = to;
            rows[t->depth] = w->states[to].row;
            if (t->token != TOKEN_NONE) allow(w->x->v, w->bits, t->token);
            i++;
            continue;
        }
        if (to == TO_EXACT) walk_exact(w, trie, i, base);
        if (to == TO_OPEN) allow_below(w->x->v, w->bits, trie, i);
        i = t->skip;
    }
    m->failed = false;
    matcher_load(w->x);
}

static struct walk *walk_get(struct grammar_matcher *x)
{
    if (!x->walk) x->walk = mem_try_zalloc(sizeof *x->walk);
    if (x->walk) x->walk->x = x;
    return x->walk;
}

/* ---- what is remembered ---- */

static struct memo *memo_find(struct grammar_matcher *x, uint64_t hash)
{
    struct memo *slot = x->g->memo ? &x->g->memo[hash % MEMO_SIZE] : NULL;
    return slot && slot->bits && slot->hash == hash && slot->v == x->v ? slot : NULL;
}

static struct memo *memo_keep(struct grammar_matcher *x, uint64_t hash, const uint32_t *bits, size_t n_set)
{
    struct grammar *g = x->g;
    size_t bytes = x->v->n_words * sizeof *bits;
    if (!g->memo) g->memo = mem_try_zalloc(MEMO_SIZE * sizeof *g->memo);
    if (!g->memo || g->exhausted) return NULL;
    struct memo *slot = &g->memo[hash % MEMO_SIZE];
    if (slot->bits && slot->v->n_words != x->v->n_words) {
        grammar_discharge(g, slot->v->n_words * sizeof *bits);
        mem_free(slot->bits);
        slot->bits = NULL;
    }
    if (!slot->bits && grammar_memory(g) + bytes < g->max_bytes / 2 && (slot->bits = mem_try_alloc(bytes)))
        grammar_charge(g, bytes);
    if (!slot->bits) return NULL;
    memcpy(slot->bits, bits, bytes);
    slot->hash = hash;
    slot->v = x->v;
    slot->n_set = n_set;
    return slot;
}

void memo_deinit(struct grammar *g)
{
    for (size_t i = 0; g->memo && i < MEMO_SIZE; i++) mem_free(g->memo[i].bits);
    mem_free(g->memo);
}

/* ---- plain string content ---- */

static void join(uint32_t *bits, const uint32_t *more, size_t n)
{
    for (size_t i = 0; i < n; i++) bits[i] |= more[i];
}

/* Adds the plain tokens that an automaton can take from this state. */
static void walk_content(struct walk *w, uint32_t *bits, struct dfa *d, uint32_t state)
{
    struct grammar *g = w->x->g;
    const struct grammar_vocab *v = w->x->v;
    uint32_t states[TOKEN_BYTES_MAX + 1] = {state};
    for (size_t i = 0; i < v->plain.n;) {
        const struct trie_node *t = &v->plain.nodes[i];
        int32_t to = dfa_step(g, d, states[t->depth - 1], t->byte);
        if (g->derived != w->derived && !walk_goes_on(w, 0)) return;
        if (to < 0) {
            i = t->skip;
            continue;
        }
        if (d->states[to].any) {
            allow_below(v, bits, &v->plain, i);
            i = t->skip;
            continue;
        }
        states[t->depth] = (uint32_t)to;
        if (t->token != TOKEN_NONE) allow(v, bits, t->token);
        i++;
    }
}

/* Strings without a length counter: the automaton alone decides, and its answer is remembered. */
static bool is_content(const struct thread *t)
{
    const struct frame *f = t->frame;
    if (!in_string(t) || t->kind != THREAD_STRING || t->alt->string.max < REPEAT_MAX) return false;
    return !(f && f->kind == FRAME_ARRAY && f->used);
}

static bool add_content(struct walk *w, const struct thread *t)
{
    const struct grammar_vocab *v = w->x->v;
    uint32_t key[3] = {t->dfa->id, t->state, 77};
    uint64_t hash = hash64(key, sizeof key, 43);
    struct memo *known = memo_find(w->x, hash);
    if (known) return join(w->bits, known->bits, v->n_words), true;
    uint32_t *own = mem_try_zalloc(v->n_words * sizeof *own);
    if (!own) return false;
    walk_content(w, own, t->dfa, t->state);
    join(w->bits, own, v->n_words);
    if (!w->over) memo_keep(w->x, hash, own, 0);
    mem_free(own);
    return true;
}

/* A string that is free but for its length: all texts of at most that many characters. */
static bool add_short(struct walk *w, const struct thread *t)
{
    const struct grammar_vocab *v = w->x->v;
    if (!in_string(t) || t->kind != THREAD_STRING || !t->dfa->states[t->state].any) return false;
    uint32_t room = t->alt->string.max - t->count;
    size_t slice = room < PLAIN_SLICES - 2 ? room : PLAIN_SLICES - 2;
    join(w->bits, v->slices + slice * v->n_words, v->n_words);
    for (uint32_t i = 0; i < v->n_long; i++)
        if (v->longs[i].chars <= room) allow(v, w->bits, v->longs[i].token);
    return true;
}

/* The plain tokens of the present state. */
static void plain_tokens(struct walk *w)
{
    struct grammar_matcher *x = w->x;
    struct machine *m = &x->m;
    const struct step *s = &x->steps[x->at];
    const struct grammar_vocab *v = x->v;
    size_t kept = 0, n_content = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (is_open(v, &s->threads[i])) {
            join(w->bits, v->slices + (PLAIN_SLICES - 1) * v->n_words, v->n_words);
            return;
        }
        n_content += is_content(&s->threads[i]);
    }
    for (size_t i = 0; i < s->n; i++) {
        const struct thread *t = &s->threads[i];
        if (add_short(w, t) || (n_content <= CONTENT_THREADS && is_content(t) && add_content(w, t))) continue;
        m->out[kept++] = *t;
    }
    m->n_out = kept;
    walk_trie(w, &v->plain, true);
}

/* ---- the whole ---- */

/* Sums by bytes, 31 words before one could overflow: the compiler has no instruction for it at the baseline. */
static size_t count_bits(const uint32_t *bits, size_t n)
{
    size_t total = 0;
    for (size_t from = 0; from < n; from += 31) {
        uint32_t sums = 0;
        for (size_t i = from; i < n && i < from + 31; i++) {
            uint32_t x = bits[i];
            x -= x >> 1 & 0x55555555;
            x = (x & 0x33333333) + (x >> 2 & 0x33333333);
            sums += (x + (x >> 4)) & 0x0f0f0f0f;
        }
        total += (sums & 0xff) + (sums >> 8 & 0xff) + (sums >> 16 & 0xff) + (sums >> 24);
    }
    return total;
}

static bool make_mask(struct walk *w, size_t *n_set)
{
    struct grammar_matcher *x = w->x;
    const struct grammar_vocab *v = x->v;
    memset(w->bits, 0, v->n_words * sizeof *w->bits);
    w->over = false;
    w->work = 0;
    w->derived = x->g->derived;
    if (machine_may_end(&x->m, x->m.out, x->m.n_out)) memcpy(w->bits, v->ends, v->n_words * sizeof *w->bits);
    matcher_load(x);
    plain_tokens(w);
    matcher_load(x);
    if (!w->over) walk_trie(w, &v->rest, false);
    *n_set = count_bits(w->bits, v->n_words);
    return !w->over && !x->g->exhausted;
}

bool grammar_matcher_mask_within(struct grammar_matcher *x, uint32_t *bits, size_t *n_set, size_t work)
{
    const struct grammar_vocab *v = x->v;
    bool textual;
    *n_set = 0;
    if (!v) return true;
    if (x->ended) return memset(bits, 0, v->n_words * sizeof *bits), true;
    matcher_load(x);
    uint64_t hash = machine_hash(&x->m, x->m.out, x->m.n_out, v->max_len, false, &textual);
    const struct memo *known = memo_find(x, hash);
    if (known) {
        memcpy(bits, known->bits, v->n_words * sizeof *bits);
        *n_set = known->n_set;
        return true;
    }
    struct walk *w = walk_get(x);
    if (!w) return false;
    w->bits = bits;
    w->limit = work;
    if (!make_mask(w, n_set)) return false;
    memo_keep(x, hash, bits, *n_set);
    return true;
}

size_t grammar_matcher_mask(struct grammar_matcher *x, uint32_t *bits)
{
    size_t n = 0;
    return grammar_matcher_mask_within(x, bits, &n, SIZE_MAX) ? n : 0;
}
