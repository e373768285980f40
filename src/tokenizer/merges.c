/* merges: joins the symbols of one piece, best pair first (lowest rank, then leftmost), until no pair is left. Short
 * pieces scan an array; long ones use a heap over a linked list, so that a megabyte costs n log n. The pairs come from
 * the file's merges (BPE), or any pair may be joined whose text is a token, ranked by that token (SPM). */
#include "base/alloc.h"
#include "tokenizer/tokenizer_internal.h"

#define NO_RANK UINT32_MAX
#define NO_SYMBOL UINT32_MAX
#define SHORT_SYMBOLS 40

/* ---- loading ---- */

static size_t merge_hash(uint32_t left, uint32_t right, uint64_t seed)
{
    return (size_t)hash_mix(((uint64_t)left << 32 | right) ^ seed, 0x9e3779b97f4a7c15u);
}

static uint32_t find_or_add(struct vocab *v, struct str raw, uint32_t guess, struct err *e)
{
    if (guess < v->n && v->raw[guess].len == raw.len && v->own_state[guess] != OWN_NO &&
        memcmp(v->raw[guess].ptr, raw.ptr, raw.len) == 0)
        return guess;
    uint32_t id = vocab_find_raw(v, raw.ptr, raw.len);
    if (id == TOKEN_NONE) (void)vocab_add_virtual(v, &id, raw, e);
    return id;
}

static bool add_merge(struct merges *m, struct vocab *v, uint32_t *last, struct str text, uint32_t rank, struct err *e)
{
    char raw[1024];
    size_t n_left, n_right, cut = 1;
    while (cut < text.len && text.ptr[cut] != ' ') cut++;
    if (cut >= text.len || text.len > sizeof raw) return true; /* not a pair, or longer than any piece worth it */
    struct str left = str_slice(text, 0, cut), right = str_slice(text, cut + 1, text.len);
    if (right.len == 0 || !vocab_raw_of_text(v, raw, &n_left, left)) return true;
    if (!vocab_raw_of_text(v, raw + n_left, &n_right, right)) return true; /* no text can give it */
    uint32_t l = find_or_add(v, (struct str){raw, n_left}, TOKEN_NONE, e);
    uint32_t r = l == TOKEN_NONE ? l : find_or_add(v, (struct str){raw + n_left, n_right}, TOKEN_NONE, e);
    /* Nearly always in the order of the tokens. */
    uint32_t joined = r == TOKEN_NONE ? r : find_or_add(v, (struct str){raw, n_left + n_right}, *last + 1, e);
    if (joined == TOKEN_NONE) return false;
    *last = joined;
    size_t mask = m->n_slots - 1, i = merge_hash(l, r, v->seed) & mask;
    for (; m->slots[i].left != TOKEN_NONE; i = (i + 1) & mask)
        if (m->slots[i].left == l && m->slots[i].right == r) return true; /* the first one counts */
    m->slots[i] = (struct merge_slot){.left = l, .right = r, .rank = rank, .joined = joined};
    return true;
}

bool merges_load(struct merges *m, struct vocab *v, const struct gguf *g, struct err *e)
{
    const struct gguf_kv *kv = gguf_find(g, "tokenizer.ggml.merges");
    if (!kv || kv->type != GGUF_ARRAY || kv->item_type != GGUF_STRING)
        return err_set(e, ERR_CORRUPT, "tokenizer.ggml.merges: expected an array of strings");
    if (kv->n_items > (uint64_t)1 << 24)
        return err_set(e, ERR_CORRUPT, "tokenizer.ggml.merges: %llu items, expected at most %u",
                       (unsigned long long)kv->n_items, 1u << 24);
    size_t n = 64, used = 0;
    while (n * 2 < kv->n_items * 3) n *= 2;
    m->slots = arena_try_alloc(&v->arena, n * sizeof *m->slots);
    if (!m->slots)
        return err_set(e, ERR_TOO_LARGE, "vocabulary: no memory for %llu merges", (unsigned long long)kv->n_items);
    m->n_slots = n;
    for (size_t i = 0; i < n; i++) m->slots[i].left = TOKEN_NONE;
    uint32_t last = 0;
    for (; used < kv->n_items; used++) {
        struct str text;
        if (!gguf_item_str(g, &text, kv, used))
            return err_set(e, ERR_CORRUPT, "tokenizer.ggml.merges: expected strings");
        if (!add_merge(m, v, &last, text, (uint32_t)used, e)) return false;
    }
    return true;
}

/* Maps a score to a rank: the higher score gets the lower rank. */
static uint32_t rank_of_score(float score)
{
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    bits = bits & 0x80000000u ? bits : ~(bits | 0x80000000u);
    return bits == NO_RANK ? NO_RANK - 1 : bits;
}

bool merges_from_scores(struct merges *m, struct vocab *v, struct err *e)
{
    m->text_rank = arena_try_alloc(&v->arena, v->n_all * sizeof *m->text_rank);
    if (!m->text_rank) return err_set(e, ERR_TOO_LARGE, "vocabulary: no memory for %u ranks", (unsigned)v->n_all);
    for (uint32_t i = 0; i < v->n_all; i++) m->text_rank[i] = v->scores ? rank_of_score(v->scores[i] + 0.0f) : i;
    return true;
}

/* ---- merging ---- */

void merger_init(struct merger *m, const struct tokenizer *t)
{
    *m = (struct merger){.t = t};
}

void merger_deinit(struct merger *m)
{
    mem_free(m->symbols);
    mem_free(m->heap);
    *m = (struct merger){0};
}

static uint32_t pair_find(const struct merger *m, uint32_t *joined, const char *piece, const struct merge_symbol *l,
                          const struct merge_symbol *r)
{
    const struct merges *g = &m->t->merges;
    if (!g->slots) {
        uint32_t id = vocab_find_raw(&m->t->vocab, piece + l->from, (size_t)l->len + r->len);
        *joined = id;
        return id == TOKEN_NONE ? NO_RANK : g->text_rank[id];
    }
    if (l->id == TOKEN_NONE || r->id == TOKEN_NONE) return NO_RANK;
    size_t mask = g->n_slots - 1;
    for (size_t i = merge_hash(l->id, r->id, m->t->vocab.seed) & mask; g->slots[i].left != TOKEN_NONE;
         i = (i + 1) & mask) {
        if (g->slots[i].left != l->id || g->slots[i].right != r->id) continue;
        *joined = g->slots[i].joined;
        return g->slots[i].rank;
    }
    return NO_RANK;
}

static bool reserve_symbols(struct merger *m, size_t n, struct err *e)
{
    if (n <= m->cap_symbols) return true;
    size_t cap = n < 64 ? 64 : n;
    struct merge_symbol *grown = mem_try_realloc(m->symbols, cap * sizeof *grown);
    if (!grown) return err_set(e, ERR_TOO_LARGE, "no memory to tokenise a piece of %zu bytes", n);
    m->symbols = grown;
    m->cap_symbols = cap;
    return true;
}

/* Bytes for byte-level vocabularies, else characters (bytes where the text is not UTF-8). */
static size_t split_symbols(struct merger *m, const char *piece, size_t n)
{
    const struct vocab *v = &m->t->vocab;
    size_t count = 0;
    for (size_t i = 0; i < n; count++) {
        size_t len = 1;
        uint32_t id;
        if (v->byte_level) {
            id = v->byte_id[(unsigned char)piece[i]];
        } else {
            uint32_t c;
            len = utf8_decode((struct str){piece + i, n - i}, &c);
            if (len == 0) len = 1;
            id = vocab_find_raw(v, piece + i, len);
        }
        m->symbols[count] = (struct merge_symbol){.id = id, .from = (uint32_t)i, .len = (uint32_t)len};
        i += len;
    }
    return count;
}

static void merge_short(struct merger *m, const char *piece)
{
    uint32_t ranks[SHORT_SYMBOLS], joined[SHORT_SYMBOLS];
    struct merge_symbol *s = m->symbols;
    size_t n = m->n_symbols;
    for (size_t i = 0; i + 1 < n; i++) ranks[i] = pair_find(m, &joined[i], piece, &s[i], &s[i + 1]);
    while (n > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < n; i++)
            if (ranks[i] < ranks[best]) best = i;
        if (ranks[best] == NO_RANK) break;
        s[best].id = joined[best];
        s[best].len += s[best + 1].len;
        n--;
        memmove(&s[best + 1], &s[best + 2], (n - best - 1) * sizeof *s);
        if (best + 1 < n) {
            memmove(&ranks[best + 1], &ranks[best + 2], (n - best - 2) * sizeof *ranks);
            memmove(&joined[best + 1], &joined[best + 2], (n - best - 2) * sizeof *joined);
            ranks[best] = pair_find(m, &joined[best], piece, &s[best], &s[best + 1]);
        }
        if (best > 0) ranks[best - 1] = pair_find(m, &joined[best - 1], piece, &s[best - 1], &s[best]);
    }
    m->n_symbols = n;
}

static void sift_down(struct merger *m, size_t i)
{
    struct merge_candidate item = m->heap[i];
    for (size_t child; (child = 2 * i + 1) < m->n_heap; i = child) {
        if (child + 1 < m->n_heap && m->heap[child + 1].key < m->heap[child].key) child++;
        if (item.key <= m->heap[child].key) break;
        m->heap[i] = m->heap[child];
    }
    m->heap[i] = item;
}

static void sift_up(struct merger *m, size_t i)
{
    struct merge_candidate item = m->heap[i];
    for (; i > 0 && item.key < m->heap[(i - 1) / 2].key; i = (i - 1) / 2) m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = item;
}

static bool reserve_heap(struct merger *m, size_t n, struct err *e)
{
    if (n <= m->cap_heap) return true;
    struct merge_candidate *grown = mem_try_realloc(m->heap, n * sizeof *grown);
    if (!grown) return err_set(e, ERR_TOO_LARGE, "no memory to tokenise a piece of %zu symbols", m->n_symbols);
    m->heap = grown;
    m->cap_heap = n;
    return true;
}

/* There is room: each merge takes one candidate out and puts at most two in. */
static bool add_candidate(struct merger *m, const char *piece, uint32_t left, uint32_t right)
{
    if (left == NO_SYMBOL || right == NO_SYMBOL) return false;
    uint32_t joined = TOKEN_NONE, rank = pair_find(m, &joined, piece, &m->symbols[left], &m->symbols[right]);
    if (rank == NO_RANK) return false;
    m->heap[m->n_heap++] = (struct merge_candidate){
        .key = (uint64_t)rank << 32 | left, .len = m->symbols[left].len + m->symbols[right].len, .joined = joined};
    return true;
}

static bool merge_long(struct merger *m, const char *piece, struct err *e)
{
    struct merge_symbol *s = m->symbols;
    uint32_t n = (uint32_t)m->n_symbols;
    if (!reserve_heap(m, 2 * (size_t)n, e)) return false;
    m->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) {
        s[i].prev = i == 0 ? NO_SYMBOL : i - 1;
        s[i].next = i + 1 == n ? NO_SYMBOL : i + 1;
        if (i > 0) (void)add_candidate(m, piece, i - 1, i);
    }
    for (size_t i = m->n_heap / 2; i-- > 0;) sift_down(m, i);
    while (m->n_heap > 0) {
        struct merge_candidate best = m->heap[0];
        m->heap[0] = m->heap[--m->n_heap];
        if (m->n_heap > 0) sift_down(m, 0);
        uint32_t left = (uint32_t)best.key, right = s[left].next;
        /* A symbol's start is fixed and its end only grows: the same length means the same pair. */
        if (s[left].len == 0 || right == NO_SYMBOL || s[left].len + s[right].len != best.len) continue;
        s[left].id = best.joined;
        s[left].len = best.len;
        s[left].next = s[right].next;
        s[right].len = 0;
        if (s[right].next != NO_SYMBOL) s[s[right].next].prev = left;
        if (add_candidate(m, piece, s[left].prev, left)) sift_up(m, m->n_heap - 1);
        if (add_candidate(m, piece, left, s[left].next)) sift_up(m, m->n_heap - 1);
    }
    size_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        if (s[i].len > 0) s[kept++] = s[i];
    m->n_symbols = kept;
    return true;
}

bool merger_run(struct merger *m, const char *piece, size_t n, struct err *e)
{
    assert(n <= MERGE_MAX_BYTES);
    if (!reserve_symbols(m, n, e)) return false;
    m->n_symbols = split_symbols(m, piece, n);
    if (m->n_symbols > SHORT_SYMBOLS) return merge_long(m, piece, e);
    merge_short(m, piece);
    return true;
}
