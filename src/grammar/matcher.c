/* matcher: one text on its way through a grammar, by tokens. The states after the last GRAMMAR_STEPS steps are kept, so
 * a rollback is forgetting. Masks are walks over the vocabulary's tries with the states on a stack, and are remembered
 * by the hash of the state they were made in. */
#include "grammar/machine_internal.h"

#include "base/alloc.h"
#include "base/hash.h"
#include "grammar/vocab_internal.h"

#define MEMO_SIZE 256 /* masks kept by one grammar */

struct step { /* a state that was reached */
    struct thread *threads;
    size_t n, cap, text;
    struct pool_mark mark;
};
struct grammar_matcher {
    struct machine m;
    struct grammar *g;
    const struct grammar_vocab *v;
    struct step steps[GRAMMAR_STEPS + 1]; /* a ring; [at] is now */
    size_t at, n_back;
    bool ended; /* an end token was taken: nothing may follow */
};

struct memo {
    uint64_t hash;
    const struct grammar_vocab *v;
    uint32_t *bits;
    size_t n_set;
};

/* Copies the state on top of the machine's stack into the ring. */
static bool remember(struct grammar_matcher *x, size_t from, size_t to)
{
    struct step *s = &x->steps[x->at];
    if (to - from > s->cap) {
        struct thread *more = mem_try_realloc(s->threads, (to - from) * sizeof *more);
        if (!more) return false;
        s->threads = more;
        s->cap = to - from;
    }
    if (to > from) memcpy(s->threads, x->m.out + from, (to - from) * sizeof *s->threads);
    s->n = to - from;
    s->text = x->m.text.len;
    s->mark = pool_mark(&x->m.pool);
    return true;
}

/* Puts the present state at the bottom of the stack and forgets what a walk left behind. */
static void load(struct grammar_matcher *x)
{
    const struct step *s = &x->steps[x->at];
    x->m.text.len = s->text;
    pool_release(&x->m.pool, s->mark);
    if (s->n) memcpy(x->m.out, s->threads, s->n * sizeof *s->threads); /* the stack is never smaller than a state */
    x->m.n_out = s->n;
    x->m.failed = false;
}

/* Feeds bytes from the state on top of the stack. Only the newest two states stay on it. */
static bool run(struct grammar_matcher *x, struct str bytes)
{
    struct machine *m = &x->m;
    size_t from = 0, to = m->n_out;
    for (size_t i = 0; i < bytes.len; i++) {
        if (!buf_append_char(&m->text, bytes.ptr[i])) return false;
        if (!machine_step(m, from, to, (uint8_t)bytes.ptr[i])) return false;
        size_t n = m->n_out - to;
        memmove(m->out, m->out + to, n * sizeof *m->out);
        from = 0;
        to = m->n_out = n;
    }
    return true;
}

struct grammar_matcher *grammar_matcher_create(struct grammar *g, const struct grammar_vocab *v, struct err *e)
{
    struct grammar_matcher *x = mem_try_zalloc(sizeof *x);
    if (!x || !machine_init(&x->m, g, false)) {
        mem_free(x);
        err_set(e, ERR_TOO_LARGE, "no memory for a matcher");
        return NULL;
    }
    x->g = grammar_ref(g);
    x->v = v;
    machine_start(&x->m);
    bool any = x->m.n_out > 0;
    if (any && run(x, g->opened) && remember(x, 0, x->m.n_out)) return x;
    grammar_matcher_destroy(x);
    err_set(e, ERR_INVALID, any ? "the text before the answer does not fit" : "nothing satisfies the grammar");
    return NULL;
}

void grammar_matcher_destroy(struct grammar_matcher *x)
{
    if (!x) return;
    for (size_t i = 0; i <= GRAMMAR_STEPS; i++) mem_free(x->steps[i].threads);
    machine_deinit(&x->m);
    grammar_unref(x->g);
    mem_free(x);
}

/* Frames form chains; the copy repeats each thread's chain (shared parents are copied again, equal hashes keep them
 * equal). */
static const struct frame *clone_frame(struct pool *p, const struct frame *f)
{
    const struct frame *first = NULL;
    struct frame *below = NULL;
    for (; f; f = f->up) {
        struct frame *c = pool_alloc(p, sizeof *c);
        if (!c) return NULL;
        *c = *f;
        if (below) below->up = c;
        else first = c;
        below = c;
        if (f->kind == FRAME_OBJECT) {
            size_t bytes = (f->alt->object.n_names + 63) / 64 * sizeof *f->seen;
            uint64_t *seen = pool_alloc(p, bytes);
            if (!seen) return NULL;
            memcpy(seen, f->seen, bytes);
            c->seen = seen;
        }
        struct used **at = (struct used **)(uintptr_t)&c->used;
        for (const struct used *u = f->used; u; u = u->next) {
            struct used *v = pool_alloc(p, sizeof *v);
            char *text = pool_alloc(p, u->text.len + 1);
            if (!v || !text) return NULL;
            if (u->text.len) memcpy(text, u->text.ptr, u->text.len);
            *v = (struct used){NULL, {u->text.ptr ? text : NULL, u->text.len}, u->hash};
            *at = v;
            at = (struct used **)(uintptr_t)&v->next;
        }
    }
    return first;
}

struct grammar_matcher *grammar_matcher_clone(const struct grammar_matcher *x)
{
    const struct step *s = &x->steps[x->at];
    struct grammar_matcher *y = mem_try_zalloc(sizeof *y);
    if (!y || !machine_init(&y->m, x->g, false)) return mem_free(y), NULL;
    y->g = grammar_ref(x->g);
    y->v = x->v;
    y->ended = x->ended;
    bool ok = s->text == 0 || buf_append(&y->m.text, str_slice((struct str){x->m.text.ptr, s->text}, 0, s->text));
    for (size_t i = 0; ok && i < s->n; i++) {
        struct thread t = s->threads[i];
        if (t.frame) ok = (t.frame = clone_frame(&y->m.pool, t.frame)) != NULL;
        if (ok) y->m.out[y->m.n_out++] = t;
    }
    if (ok && remember(y, 0, y->m.n_out)) return y;
    grammar_matcher_destroy(y);
    return NULL;
}

static bool advance(struct grammar_matcher *x, struct str bytes)
{
    if (x->ended) return false;
    load(x);
    if (!run(x, bytes)) return load(x), false;
    size_t before = x->at;
    x->at = (x->at + 1) % (GRAMMAR_STEPS + 1);
    if (!remember(x, 0, x->m.n_out)) {
        x->at = before;
        return false;
    }
    if (x->n_back < GRAMMAR_STEPS) x->n_back++;
    return true;
}

bool grammar_matcher_feed(struct grammar_matcher *x, struct str bytes)
{
    return advance(x, bytes);
}

static bool is_end(const struct grammar_vocab *v, uint32_t token)
{
    return token < v->n && (v->ends[token / 32] >> (token % 32) & 1);
}

bool grammar_matcher_may_end(struct grammar_matcher *x)
{
    if (x->ended) return true;
    load(x);
    return machine_may_end(&x->m, x->m.out, x->m.n_out);
}

bool grammar_matcher_check(struct grammar_matcher *x, uint32_t token)
{
    if (!x->v || x->ended) return false;
    if (is_end(x->v, token)) return grammar_matcher_may_end(x);
    struct str text = grammar_vocab_text(x->v, token);
    if (text.len == 0 || text.len > TOKEN_BYTES_MAX) return false;
    load(x);
    return run(x, text);
}

bool grammar_matcher_accept(struct grammar_matcher *x, uint32_t token)
{
    if (!x->v || x->ended) return false;
    if (is_end(x->v, token)) {
        if (!grammar_matcher_may_end(x) || !advance(x, STR_NONE)) return false;
        return x->ended = true;
    }
    struct str text = grammar_vocab_text(x->v, token);
    return text.len > 0 && text.len <= TOKEN_BYTES_MAX && advance(x, text);
}

bool grammar_matcher_rollback(struct grammar_matcher *x, size_t n)
{
    if (n > x->n_back) return false;
    if (n > 0) x->ended = false;
    x->n_back -= n;
    x->at = (x->at + GRAMMAR_STEPS + 1 - n) % (GRAMMAR_STEPS + 1);
    return true;
}

/* ---- masks ---- */

struct level {
    size_t from, to;
    struct pool_mark mark;
};

static void allow(const struct grammar_vocab *v, uint32_t *bits, uint32_t token)
{
    for (; token != TOKEN_NONE; token = v->next_same[token]) bits[token / 32] |= 1u << (token % 32);
}

static void walk(struct grammar_matcher *x, uint32_t *bits, const struct trie *trie)
{
    struct machine *m = &x->m;
    struct level levels[TOKEN_BYTES_MAX + 1];
    size_t base = m->text.len;
    if (!buf_reserve(&m->text, TOKEN_BYTES_MAX + 1)) return;
    levels[0] = (struct level){0, m->n_out, pool_mark(&m->pool)};
    for (size_t i = 0; i < trie->n;) {
        const struct trie_node *t = &trie->nodes[i];
        const struct level *up = &levels[t->depth - 1];
        m->n_out = up->to;
        pool_release(&m->pool, up->mark);
        m->text.ptr[base + t->depth - 1] = (char)t->byte;
        m->text.len = base + t->depth;
        if (!machine_step(m, up->from, up->to, t->byte)) {
            i = t->skip;
            m->failed = false;
            continue;
        }
        levels[t->depth] = (struct level){up->to, m->n_out, pool_mark(&m->pool)};
        if (t->token != TOKEN_NONE) allow(x->v, bits, t->token);
        i++;
    }
    load(x);
}

/* ---- plain string content ---- */

/* Readings that are inside a string (or an open-ended key) take plain tokens by their automaton alone. */
static bool is_content(struct grammar *g, const struct thread *t)
{
    if ((t->kind != THREAD_STRING && t->kind != THREAD_KEY) || t->escape) return false;
    if (t->frame && (t->frame->guard || (t->kind == THREAD_KEY && t->frame->form))) return false;
    if (t->kind == THREAD_STRING && t->aux == '\'') return false; /* plain tokens may hold this quote */
    return t->kind == THREAD_STRING || dfa_count(g, t->dfa, t->state) >= COUNT_MANY;
}

/* Fills bits with the plain tokens that the automaton can take from this state. */
static void walk_content(struct grammar *g, uint32_t *bits, const struct grammar_vocab *v, struct dfa *d,
                         uint32_t state)
{
    uint32_t states[TOKEN_BYTES_MAX + 1] = {state};
    for (size_t i = 0; i < v->plain.n;) {
        const struct trie_node *t = &v->plain.nodes[i];
        int32_t to = dfa_step(g, d, states[t->depth - 1], t->byte);
        if (to < 0) {
            i = t->skip;
            continue;
        }
        states[t->depth] = (uint32_t)to;
        if (t->token != TOKEN_NONE) allow(v, bits, t->token);
        i++;
    }
}

static void join(uint32_t *bits, const uint32_t *more, size_t n)
{
    for (size_t i = 0; i < n; i++) bits[i] |= more[i];
}

static struct memo *memo_find(struct grammar_matcher *x, uint64_t hash);
static struct memo *memo_keep(struct grammar_matcher *x, uint64_t hash, const uint32_t *bits, size_t n_set);

/* Adds the plain tokens of one such reading; false when only a walk of the whole state can tell. */
static bool add_content(struct grammar_matcher *x, uint32_t *bits, const struct thread *t)
{
    const struct grammar_vocab *v = x->v;
    int64_t room = t->kind == THREAD_STRING && t->alt->string.max != REPEAT_MAX ? (int64_t)t->alt->string.max - t->count
                                                                                : INT64_MAX;
    if (t->dfa->states[t->state].any) {
        if (room < v->longest && room >= PLAIN_SLICES - 1) return false;
        size_t slice = room < v->longest ? (size_t)room : PLAIN_SLICES - 1;
        join(bits, v->slices + slice * v->n_words, v->n_words);
        return true;
    }
    if (room != INT64_MAX) return false;
    uint32_t key[3] = {t->dfa->id, t->state, 77};
    uint64_t hash = hash64(key, sizeof key, 43);
    struct memo *known = memo_find(x, hash);
    if (!known) {
        uint32_t *own = mem_try_zalloc(v->n_words * sizeof *own);
        if (!own) return false;
        walk_content(x->g, own, v, t->dfa, t->state);
        join(bits, own, v->n_words);
        memo_keep(x, hash, own, 0);
        mem_free(own);
    } else join(bits, known->bits, v->n_words);
    return true;
}

/* The plain tokens of the present state. */
static void plain_tokens(struct grammar_matcher *x, uint32_t *bits)
{
    struct machine *m = &x->m;
    const struct step *s = &x->steps[x->at];
    size_t w = 0;
    for (size_t i = 0; i < s->n; i++) {
        const struct thread *t = &s->threads[i];
        if (is_content(x->g, t) && add_content(x, bits, t)) continue;
        m->out[w++] = *t;
    }
    m->n_out = w;
    if (w > 0) walk(x, bits, &x->v->plain);
}

static size_t count_bits(const uint32_t *bits, size_t n)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++) total += (size_t)__builtin_popcount(bits[i]);
    return total;
}

static size_t make_mask(struct grammar_matcher *x, uint32_t *bits)
{
    const struct grammar_vocab *v = x->v;
    memset(bits, 0, v->n_words * sizeof *bits);
    load(x);
    if (machine_may_end(&x->m, x->m.out, x->m.n_out)) memcpy(bits, v->ends, v->n_words * sizeof *bits);
    load(x);
    plain_tokens(x, bits);
    load(x);
    walk(x, bits, &v->rest);
    return count_bits(bits, v->n_words);
}

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

size_t grammar_matcher_mask(struct grammar_matcher *x, uint32_t *bits)
{
    const struct grammar_vocab *v = x->v;
    if (!v) return 0;
    if (x->ended) return memset(bits, 0, v->n_words * sizeof *bits), 0;
    load(x);
    uint64_t hash = machine_hash(&x->m, x->m.out, x->m.n_out, TOKEN_BYTES_MAX);
    const struct memo *known = memo_find(x, hash);
    if (known) {
        memcpy(bits, known->bits, v->n_words * sizeof *bits);
        return known->n_set;
    }
    size_t n = make_mask(x, bits);
    memo_keep(x, hash, bits, n);
    return n;
}

void memo_deinit(struct grammar *g)
{
    for (size_t i = 0; g->memo && i < MEMO_SIZE; i++) mem_free(g->memo[i].bits);
    mem_free(g->memo);
}

/* ---- what must come ---- */

static bool continues(const struct machine *m)
{
    for (size_t i = 0; i < m->n_out; i++)
        if (m->out[i].kind != THREAD_END) return true;
    return false;
}

bool grammar_matcher_ended(struct grammar_matcher *x)
{
    if (x->ended) return true;
    load(x);
    if (!machine_may_end(&x->m, x->m.out, x->m.n_out)) return false;
    if (!continues(&x->m)) return true;
    for (unsigned b = 0; b < 256; b++) {
        load(x);
        if (run(x, (struct str){&(char){(char)b}, 1})) return false;
    }
    return true;
}

/* The only byte that can follow the state on the stack, or -1. The text may also end there: then nothing is forced. */
static int only_byte(struct grammar_matcher *x)
{
    struct machine *m = &x->m;
    size_t n = m->n_out, text = m->text.len;
    struct pool_mark mark = pool_mark(&m->pool);
    int only = -1;
    if (machine_may_end(m, m->out, n)) return -1;
    for (unsigned b = 0; b < 256; b++) {
        m->n_out = n;
        m->text.len = text;
        pool_release(&m->pool, mark);
        if (!buf_append_char(&m->text, (char)b)) break;
        bool ok = machine_step(m, 0, n, (uint8_t)b);
        if (ok && only >= 0) {
            only = -1;
            break;
        }
        if (ok) only = (int)b;
    }
    m->n_out = n;
    m->text.len = text;
    pool_release(&m->pool, mark);
    return only;
}

bool grammar_matcher_forced(struct grammar_matcher *x, struct buf *out, size_t max)
{
    if (x->ended) return true;
    load(x);
    for (size_t i = 0; i < max; i++) {
        int b = only_byte(x);
        if (b < 0) break;
        char c = (char)b;
        if (!buf_append_char(out, c)) return false;
        if (!run(x, (struct str){&c, 1})) break;
    }
    return true;
}

#define FORCED_MAX 4096

bool grammar_matcher_forced_tokens(struct grammar_matcher *x, struct token_list *out, const struct tokenizer *t,
                                   struct err *e)
{
    struct buf text;
    struct token_list list;
    if (!x->v) return err_set(e, ERR_INVALID, "a matcher without a vocabulary has no tokens");
    buf_init(&text, FORCED_MAX + 1);
    token_list_init(&list, FORCED_MAX + 1);
    bool ok = grammar_matcher_forced(x, &text, FORCED_MAX);
    ok = ok && (text.len == 0 || tokenizer_encode(t, &list, buf_str(&text), false, NULL, 0, e));
    /* A token is kept only if what was written behind it is long enough that no token can reach over its end. */
    size_t kept = 0, bytes = 0;
    for (size_t i = 0; ok && i + 1 < list.n; i++) {
        struct str piece = grammar_vocab_text(x->v, list.ids[i]);
        if (bytes + piece.len > text.len || memcmp(text.ptr + bytes, piece.ptr, piece.len) != 0) break;
        bytes += piece.len;
        kept = i + 1;
    }
    for (size_t i = 0; ok && i < kept; i++) ok = token_list_append(out, list.ids[i], e);
    token_list_deinit(&list);
    buf_deinit(&text);
    return ok;
}

bool grammar_matcher_constrains(const struct grammar_matcher *x)
{
    const struct step *s = &x->steps[x->at];
    for (size_t i = 0; i < s->n; i++)
        if (s->threads[i].kind != THREAD_FREE) return true;
    return false;
}
