/* mask: which tokens may come next. Inside a string that takes every text, and before one, most of the answer is a
 * ready mask of the vocabulary; only what stands behind a closing quote is walked, once for all tokens that go on
 * alike. What can stand between strings is walked without the white space before it. Everything else is a walk over all
 * texts. Finished masks are remembered by the hash of the state they were made in, as their differences from a ready
 * one. */
#include "grammar/walk_internal.h"

#include "base/alloc.h"
#include "base/hash.h"

#define MEMO_SIZE 256     /* masks kept by one grammar */
#define CONTENT_THREADS 4 /* more readings of restricted strings than this are walked together */
#define FEW_NODES 1000    /* of a tree: not worth to remember */
#define FILLERS 4         /* bytes that make a known key an unknown one */

/* ---- the mask while it is made ---- */

/* Must come before anything is set. */
static void begin(struct walk *w, const struct ready *ready)
{
    size_t bytes = w->x->v->n_words * sizeof *w->bits;
    if (ready) memcpy(w->bits, ready->bits, bytes);
    else memset(w->bits, 0, bytes);
    w->base = ready;
    w->n_set = ready ? ready->n_set : 0;
    w->n_log = 0;
}

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

static void join(struct walk *w, const uint32_t *more)
{
    size_t n = w->x->v->n_words;
    if (w->n_set)
        for (size_t i = 0; i < n; i++) w->bits[i] |= more[i];
    else memcpy(w->bits, more, n * sizeof *more);
    w->n_set = count_bits(w->bits, n);
    w->n_log = WALK_LOG + 1;
}

/* ---- what is remembered ---- */

enum memo_kind { MEMO_NONE, MEMO_WHOLE, MEMO_EMPTY, MEMO_INSIDE, MEMO_QUOTED, MEMO_BLANK };
struct memo {
    uint64_t hash, vocab;
    uint32_t *words; /* the whole mask, or pairs of place and word that differ from what kind says */
    size_t n_words, n_set;
    enum memo_kind kind;
};

static struct memo *memo_find(struct grammar_matcher *x, uint64_t hash)
{
    struct memo *slot = x->g->memo ? &x->g->memo[hash % MEMO_SIZE] : NULL;
    return slot && slot->kind && slot->hash == hash && slot->vocab == x->v->id ? slot : NULL;
}

static void memo_give(const struct memo *m, const struct grammar_vocab *v, uint32_t *bits)
{
    size_t bytes = v->n_words * sizeof *bits;
    switch (m->kind) {
    case MEMO_NONE:
    case MEMO_WHOLE: memcpy(bits, m->words, bytes); return;
    case MEMO_EMPTY: memset(bits, 0, bytes); break;
    case MEMO_INSIDE: memcpy(bits, v->inside.bits, bytes); break;
    case MEMO_QUOTED: memcpy(bits, v->quoted.bits, bytes); break;
    case MEMO_BLANK: memcpy(bits, v->blank.bits, bytes); break;
    }
    for (size_t i = 0; i < m->n_words; i += 2) bits[m->words[i]] = m->words[i + 1];
}

static void memo_drop(struct grammar *g, struct memo *m)
{
    grammar_discharge(g, m->n_words * sizeof *m->words);
    mem_free(m->words);
    *m = (struct memo){0};
}

static void memo_keep(struct walk *w, uint64_t hash)
{
    struct grammar *g = w->x->g;
    const struct grammar_vocab *v = w->x->v;
    if (!g->memo) g->memo = mem_try_zalloc(MEMO_SIZE * sizeof *g->memo);
    if (!g->memo || g->exhausted) return;
    struct memo *slot = &g->memo[hash % MEMO_SIZE], m = {.hash = hash, .vocab = v->id, .n_set = w->n_set};
    bool whole = w->n_log > WALK_LOG;
    m.n_words = whole ? v->n_words : 2 * w->n_log;
    m.kind = whole                   ? MEMO_WHOLE
             : !w->base              ? MEMO_EMPTY
             : w->base == &v->inside ? MEMO_INSIDE
             : w->base == &v->quoted ? MEMO_QUOTED
                                     : MEMO_BLANK;
    size_t bytes = m.n_words * sizeof *m.words;
    memo_drop(g, slot);
    if (grammar_memory(g) + bytes >= g->max_bytes / 2 || !(m.words = mem_try_alloc(bytes + 4))) return;
    if (whole) memcpy(m.words, w->bits, bytes);
    for (size_t i = 0; !whole && i < w->n_log; i++) {
        m.words[2 * i] = w->log[i];
        m.words[2 * i + 1] = w->bits[w->log[i]];
    }
    grammar_charge(g, bytes);
    *slot = m;
}

void memo_deinit(struct grammar *g)
{
    for (size_t i = 0; g->memo && i < MEMO_SIZE; i++) mem_free(g->memo[i].words);
    mem_free(g->memo);
}

/* ---- any state: all texts ---- */

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
    if (!known && walk_content(w, t->dfa, t->state, FEW_NODES)) return true;
    uint32_t *own = mem_try_alloc(v->n_words * sizeof *own), *bits = w->bits;
    if (!own) return false;
    if (known) memo_give(known, v, own);
    else {
        size_t n_set = w->n_set, n_log = w->n_log;
        const struct ready *base = w->base;
        w->bits = own;
        begin(w, NULL);
        walk_content(w, t->dfa, t->state, SIZE_MAX);
        if (!w->over) memo_keep(w, hash);
        w->bits = bits;
        w->base = base;
        w->n_set = n_set;
        w->n_log = n_log;
    }
    join(w, own);
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
    join(w, v->slices + slice * v->n_words);
    for (uint32_t i = 0; i < v->n_long; i++)
        if (v->longs[i].chars <= room) mask_set(w, v->longs[i].token);
    return true;
}

/* Pushes threads [from, to) of the stack again. */
static void push_copy(struct walk *w, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) machine_push(&w->x->m, w->x->m.out[i]);
}

/* The plain tokens of the present state. */
static void plain_tokens(struct walk *w)
{
    struct machine *m = &w->x->m;
    const struct grammar_vocab *v = w->x->v;
    size_t n_content = 0;
    for (size_t i = 0; i < w->own; i++) {
        if (is_open(v, &m->out[i])) {
            join(w, v->slices + (PLAIN_SLICES - 1) * v->n_words);
            return;
        }
        n_content += is_content(&m->out[i]);
    }
    for (size_t i = 0; i < w->own; i++) {
        const struct thread *t = &m->out[i];
        if (add_short(w, t) || (n_content <= CONTENT_THREADS && is_content(t) && add_content(w, t))) continue;
        machine_push(m, *t);
    }
    walk_tree(w, &v->plain, (struct walk_from){.from = w->own, .plain = true});
}

static void any_tokens(struct walk *w)
{
    begin(w, NULL);
    plain_tokens(w);
    push_copy(w, 0, w->own);
    if (!w->over) walk_tree(w, &w->x->v->rest, (struct walk_from){.from = w->own});
}

/* ---- in a string that takes every text ---- */

/* What follows it does not depend on its text (but for keys that are known). */
static bool is_free(const struct walk *w, const struct thread *t)
{
    const struct frame *f = t->frame;
    if (!in_string(t) || !t->dfa->states[t->state].any || (f && f->text != NO_TEXT)) return false;
    if (t->kind == THREAD_STRING)
        return t->count >= t->alt->string.min &&
               (t->alt->string.max == REPEAT_MAX || t->alt->string.max - t->count >= w->x->v->max_len);
    const struct object_alt *o = &f->alt->object;
    for (uint32_t i = 0; i < o->n_props; i++)
        if (o->props[i]->n_patterns) return false;
    return o->n_exists == 0;
}

/* The key as far as it is written, decoded. */
static bool key_text(struct buf *out, struct str raw)
{
    return raw.len && memchr(raw.ptr, '\\', raw.len) ? decode_string(out, raw) : buf_append(out, raw);
}

/* Tokens that end the string with just this key are looked at one by one. */
static void look_at_key(struct walk *w, struct str name, struct str key, bool opened)
{
    const struct tree *tree = opened ? &w->x->v->core : &w->x->v->rest;
    if (!str_starts(name, key) || (!opened && name.len == key.len)) return;
    uint32_t node = opened ? tree_child(tree, 0, '"') : 0;
    for (size_t i = key.len; i < name.len && node != TREE_NONE; i++)
        node = tree_child(tree, node, (uint8_t)name.ptr[i]);
    if (node != TREE_NONE) node = tree_child(tree, node, '"');
    for (uint32_t k = node == TREE_NONE ? 0 : tree->nodes[node].first; node != TREE_NONE && k < tree->nodes[node].last;
         k++) {
        if (walk_takes(w, tree->order[k])) mask_set(w, tree->order[k]);
        else mask_unset(w, tree->order[k]);
    }
}

static bool key_is_known(const struct frame *f, struct str key)
{
    bool known = object_name(&f->alt->object, key) >= 0;
    for (const struct used *u = f->used; u && !known; u = u->next) known = str_eq(u->text, key);
    return known;
}

/* Pushes the state behind the quote that ends the string t. */
static bool push_closed(struct walk *w, struct thread t)
{
    struct machine *m = &w->x->m;
    size_t from = m->n_out;
    if (!buf_append_char(&m->text, '"') || !walk_goes_on(w, 2)) return w->over = true, false;
    machine_push(m, t);
    bool ok = machine_step(m, from, from + 1, '"');
    memmove(m->out + from, m->out + from + 1, (m->n_out - from - 1) * sizeof *m->out);
    m->n_out--;
    return ok;
}

/* Tokens that end a known key at once: what stands behind it is its own. Then it becomes an unknown one. */
static bool known_key_tokens(struct walk *w, struct thread *t, struct buf *key, bool opened)
{
    static const char filler = '~';
    const struct tree *rest = &w->x->v->rest;
    struct machine *m = &w->x->m;
    size_t from = m->n_out, text = m->text.len;
    uint32_t quote = tree_child(rest, 0, '"');
    if (!opened && quote != TREE_NONE && push_closed(w, *t))
        walk_tree(w, rest, (struct walk_from){.from = from, .node = quote});
    m->text.len = text;
    for (int i = 0; key_is_known(t->frame, buf_str(key)); i++) {
        if (i == FILLERS || !lex_plain(m, t, (uint8_t)filler, REPEAT_MAX)) return false;
        if (!buf_append_char(key, filler) || !buf_append_char(&m->text, filler)) return w->over = true, false;
    }
    return true;
}

/* Tokens that end the free string t; opened: those with the quote that opens it, which stands in the text already. */
static void closing_tokens(struct walk *w, struct thread t, bool opened)
{
    struct machine *m = &w->x->m;
    const struct grammar_vocab *v = w->x->v;
    const struct tree *closers = opened ? &v->quoted_closers : &v->closers;
    const struct object_alt *o = t.kind == THREAD_KEY ? &t.frame->alt->object : NULL;
    const struct used *used = o ? t.frame->used : NULL;
    size_t from = m->n_out, text = m->text.len;
    struct buf key;
    buf_init(&key, 1 << 20);
    if (o && !key_text(&key, str_slice(buf_str(&m->text), t.start, text))) w->over = true;
    size_t key_len = key.len;
    bool ok = !w->over;
    if (ok && o && key_is_known(t.frame, buf_str(&key))) {
        if (!opened) closers = &v->texts_closers;
        ok = known_key_tokens(w, &t, &key, opened);
    }
    if (ok && push_closed(w, t)) walk_tree(w, closers, (struct walk_from){.from = from, .vague = o != NULL});
    m->text.len = text;
    struct str written = {key.ptr, key_len};
    for (uint32_t i = 0; o && i < o->n_names; i++) look_at_key(w, o->names[i], written, opened);
    for (; used; used = used->next) look_at_key(w, used->text, written, opened);
    buf_deinit(&key);
}

static void free_string_tokens(struct walk *w)
{
    const struct grammar_vocab *v = w->x->v;
    struct thread t = w->x->m.out[0];
    begin(w, &v->inside);
    push_copy(w, 0, 1);
    walk_tree(w, &v->odd, (struct walk_from){.from = 1});
    closing_tokens(w, t, false);
}

/* ---- between strings ---- */

static bool is_between(const struct machine *m, const struct thread *t, size_t n, uint32_t *room)
{
    *room = UINT32_MAX;
    for (size_t i = 0; i < n; i++) {
        const struct frame *f = t[i].frame;
        uint32_t space = t[i].space < m->g->max_space ? m->g->max_space - t[i].space : 0;
        switch (t[i].kind) {
        case THREAD_VALUE:
            if (f && f->kind == FRAME_CALL) space = 0;
            break;
        case THREAD_COLON:
        case THREAD_MEMBER:
        case THREAD_NEXT_KEY:
        case THREAD_AFTER:
        case THREAD_EMPTY: break;
        default: return false;
        }
        if (!f || f->form || f->inner || f->guard || (i && space != *room)) return false;
        *room = space;
    }
    return n > 0;
}

/* Whether a quote opens just one string, which takes every text. */
static bool opens_free(struct walk *w, struct thread *t, size_t from, size_t to)
{
    struct machine *m = &w->x->m;
    bool is = false;
    if (!buf_append_char(&m->text, '"') || !walk_goes_on(w, to - from)) return w->over = true, false;
    if (machine_step(m, from, to, '"')) {
        *t = m->out[to];
        is = m->n_out == to + 1 && is_free(w, t);
    }
    m->n_out = to;
    if (!is) m->text.len--;
    return is;
}

/* Of the threads on the stack from `from` on, between which white space may stand. */
static void tokens_between(struct walk *w, size_t from, bool begun)
{
    struct machine *m = &w->x->m;
    const struct grammar_vocab *v = w->x->v;
    size_t to = m->n_out, text = m->text.len;
    struct byteset only = {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}};
    struct thread t;
    bool opened = !begun && opens_free(w, &t, from, to);
    if (!begun) begin(w, opened ? &v->quoted : &v->blank);
    for (size_t i = v->white.n; !begun && i > 0 && v->white.spaces[i - 1] > w->room; i--)
        mask_unset(w, v->white.tokens[i - 1]);
    if (opened) {
        for (size_t i = v->quoted_list.n; i > 0 && v->quoted_list.spaces[i - 1] > w->room; i--)
            mask_unset(w, v->quoted_list.tokens[i - 1]);
        closing_tokens(w, t, true);
        m->text.len = text;
        push_copy(w, from, to);
        walk_tree(w, &v->quoted_odd, (struct walk_from){.from = to});
        only.w['"' >> 6] &= ~(UINT64_C(1) << ('"' & 63));
    }
    push_copy(w, from, to);
    walk_tree(w, &v->core, (struct walk_from){.from = to, .only = &only});
    for (size_t i = 0; begun && i < v->white.n && v->white.spaces[i] <= w->room; i++) mask_set(w, v->white.tokens[i]);
}

/* In a number: it goes on, or it ends and what stands behind it begins. */
static bool number_tokens(struct walk *w)
{
    struct machine *m = &w->x->m;
    const struct grammar_vocab *v = w->x->v;
    struct thread t = m->out[0];
    const struct frame *f = t.frame;
    struct byteset only = {{0}};
    if (!f || f->kind == FRAME_CALL || f->form || f->inner || f->guard) return false;
    for (const char *c = "0123456789.eE+-"; *c; c++) byteset_add(&only, (uint8_t)*c);
    begin(w, NULL);
    push_copy(w, 0, 1);
    walk_tree(w, &v->plain, (struct walk_from){.from = 1, .plain = true, .only = &only});
    push_copy(w, 0, 1);
    walk_tree(w, &v->rest, (struct walk_from){.from = 1, .only = &only});
    if (!number_may_end(m, &t)) return true;
    m->from = m->n_out;
    machine_value_done(m, f, m->text.len);
    if (m->n_out > 1 && is_between(m, m->out + 1, m->n_out - 1, &w->room)) tokens_between(w, 1, true);
    return true;
}

/* ---- the whole ---- */

static void all_tokens(struct walk *w)
{
    struct machine *m = &w->x->m;
    const struct thread *t = m->out;
    if (!w->x->v->learnt) any_tokens(w);
    else if (w->own == 1 && is_free(w, t)) free_string_tokens(w);
    else if (is_between(m, t, w->own, &w->room)) {
        tokens_between(w, 0, false);
    } else if (w->own != 1 || t->kind != THREAD_NUMBER || !number_tokens(w)) any_tokens(w);
}

static bool make_mask(struct walk *w)
{
    struct grammar_matcher *x = w->x;
    bool may_end = machine_may_end(&x->m, x->m.out, x->m.n_out);
    w->over = false;
    w->work = 0;
    w->room = 0;
    w->derived = x->g->derived;
    matcher_load(x);
    w->own = x->m.n_out;
    if (buf_reserve(&x->m.text, 2 * TOKEN_BYTES_MAX)) all_tokens(w);
    else w->over = true, begin(w, NULL);
    for (uint32_t i = 0; may_end && i < x->v->n_ends; i++) mask_set(w, x->v->ends[i]);
    matcher_load(x);
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
        memo_give(known, v, bits);
        *n_set = known->n_set;
        return true;
    }
    struct walk *w = walk_get(x);
    if (!w) return memset(bits, 0, v->n_words * sizeof *bits), false;
    w->bits = bits;
    w->n_set = 0;
    w->limit = work;
    bool made = make_mask(w);
    *n_set = w->n_set;
    if (!made) return false;
    memo_keep(w, hash);
    return true;
}

size_t grammar_matcher_mask(struct grammar_matcher *x, uint32_t *bits)
{
    size_t n;
    return grammar_matcher_mask_within(x, bits, &n, SIZE_MAX) ? n : 0;
}

/* ---- a vocabulary's ready masks ---- */

static size_t learn(struct ready *r, const struct grammar_vocab *v, const uint32_t *bits, bool quoted)
{
    for (size_t i = 0; quoted && i < v->quoted_list.n; i++) {
        uint32_t id = v->quoted_list.tokens[i];
        if (bits[id / 32] >> (id % 32) & 1) r->bits[id / 32] |= 1u << (id % 32);
    }
    for (uint32_t id = 0; !quoted && id < v->n; id++)
        if ((bits[id / 32] >> (id % 32) & 1) && str_find(grammar_vocab_text(v, id), STR("\""), 0) < 0)
            r->bits[id / 32] |= 1u << (id % 32);
    return count_bits(r->bits, v->n_words);
}

bool vocab_learn(struct grammar_vocab *v)
{
    struct grammar_options o;
    grammar_options_init(&o);
    o.max_space = TOKEN_BYTES_MAX;
    struct grammar *g = grammar_from_schema(STR("{\"type\":\"array\",\"items\":{\"type\":\"string\"}}"), &o, NULL);
    struct grammar_matcher *m = g ? grammar_matcher_create(g, v, NULL) : NULL;
    uint32_t *bits = mem_try_alloc(v->n_words * sizeof *bits + 4);
    size_t n;
    bool ok = m && bits && grammar_matcher_feed(m, STR("[")) && grammar_matcher_mask_within(m, bits, &n, SIZE_MAX);
    if (ok) v->quoted.n_set = learn(&v->quoted, v, bits, true);
    ok = ok && grammar_matcher_feed(m, STR("\"")) && grammar_matcher_mask_within(m, bits, &n, SIZE_MAX);
    if (ok) v->inside.n_set = learn(&v->inside, v, bits, false);
    for (size_t i = 0; i < v->white.n; i++) {
        uint32_t id = v->white.tokens[i], bit = 1u << (id % 32);
        v->quoted.n_set += !(v->quoted.bits[id / 32] & bit);
        v->quoted.bits[id / 32] |= bit;
        v->blank.bits[id / 32] |= bit;
    }
    v->blank.n_set = v->white.n;
    v->learnt = ok;
    mem_free(bits);
    grammar_matcher_destroy(m);
    grammar_unref(g);
    return ok;
}
