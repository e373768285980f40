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

/* Merges are read in batches: what one look-up touches is spread over many megabytes, so the memory of a whole batch is
 * asked for before any of it is used. */
#define BATCH 16
#define MAX_MERGE_BYTES 1024 /* longer than any piece worth it */
enum part { LEFT, RIGHT, JOINED, PARTS };

struct pending {
    char raw[MAX_MERGE_BYTES];
    struct str parts[PARTS];
    uint64_t hash[PARTS];
    uint32_t ids[PARTS];
    uint32_t rank;
};

/* False when the text is no pair, or one that no text can give. */
static bool read_pair(const struct vocab *v, struct pending *p, struct str text, uint32_t rank)
{
    size_t n_left, n_right, cut = 1;
    while (cut < text.len && text.ptr[cut] != ' ') cut++;
    if (cut + 1 >= text.len || text.len > MAX_MERGE_BYTES) return false;
    if (!vocab_raw_of_text(v, p->raw, &n_left, str_slice(text, 0, cut))) return false;
    if (!vocab_raw_of_text(v, p->raw + n_left, &n_right, str_slice(text, cut + 1, text.len))) return false;
    p->parts[LEFT] = (struct str){p->raw, n_left};
    p->parts[RIGHT] = (struct str){p->raw + n_left, n_right};
    p->parts[JOINED] = (struct str){p->raw, n_left + n_right};
    p->rank = rank;
    for (int i = 0; i < PARTS; i++) {
        p->hash[i] = hash_piece(p->parts[i].ptr, p->parts[i].len, v->seed);
        __builtin_prefetch(&v->slots[p->hash[i] & (v->n_slots - 1)]);
    }
    return true;
}

static void prefetch_texts(const struct vocab *v, const struct pending *p, bool bytes)
{
    for (int i = 0; i < PARTS; i++) {
        const struct vocab_slot *s = &v->slots[p->hash[i] & (v->n_slots - 1)];
        if (s->id == TOKEN_NONE) continue;
        __builtin_prefetch(bytes ? (const void *)v->raw[s->id].ptr : (const void *)&v->raw[s->id]);
    }
}

static bool find_ids(const struct merges *m, struct vocab *v, struct pending *p, struct err *e)
{
    for (int i = 0; i < PARTS; i++) {
        p->ids[i] = vocab_find_hashed(v, p->parts[i].ptr, p->parts[i].len, p->hash[i]);
        if (p->ids[i] == TOKEN_NONE && !vocab_add_virtual(v, &p->ids[i], p->parts[i], e)) return false;
    }
    __builtin_prefetch(&m->slots[merge_hash(p->ids[LEFT], p->ids[RIGHT], v->seed) & (m->n_slots - 1)]);
    return true;
}

static void add_merge(struct merges *m, const struct vocab *v, const struct pending *p)
{
    uint32_t left = p->ids[LEFT], right = p->ids[RIGHT];
    size_t mask = m->n_slots - 1, i = merge_hash(left, right, v->seed) & mask;
    for (; m->slots[i].left != TOKEN_NONE; i = (i + 1) & mask)
        if (m->slots[i].left == left && m->slots[i].right == right) return; /* the first one counts */
    m->slots[i] = (struct merge_slot){.left = left, .right = right, .rank = p->rank, .joined = p->ids[JOINED]};
}

static bool add_batch(struct merges *m, struct vocab *v, struct pending *batch, size_t n, struct err *e)
{
    for (size_t i = 0; i < n; i++) prefetch_texts(v, &batch[i], false);
    for (size_t i = 0; i < n; i++) prefetch_texts(v, &batch[i], true);
    for (size_t i = 0; i < n; i++)
        if (!find_ids(m, v, &batch[i], e)) return false;
    for (size_t i = 0; i < n; i++) add_merge(m, v, &batch[i]);
    return true;
}

static bool alloc_merges(struct merges *m, struct vocab *v, uint64_t n_merges, struct err *e)
{
    size_t n = 64;
    if (n_merges > (uint64_t)1 << 24)
        return err_set(e, ERR_CORRUPT, "tokenizer.ggml.merges: %llu items, expected at most %u",
                       (unsigned long long)n_merges, 1u << 24);
    while (n * 2 < n_merges * 3) n *= 2;
    m->slots = arena_try_alloc(&v->arena, n * sizeof *m->slots);
    if (!m->slots)
        return err_set(e, ERR_TOO_LARGE, "vocabulary: no memory for %llu merges", (unsigned long long)n_merges);
    m->n_slots = n;
    for (size_t i = 0; i < n; i++) m->slots[i].left = TOKEN_NONE;
    return true;
}

bool merges_load(struct merges *m, struct vocab *v, const struct gguf *g, struct err *e)
{
    const struct gguf_kv *kv = gguf_find(g, "tokenizer.ggml.merges");
    if (!kv || kv->type != GGUF_ARRAY || kv->item_type != GGUF_STRING)
        return err_set(e, ERR_CORRUPT, "tokenizer.ggml.merges: expected an array of strings");
    if (!alloc_merges(m, v, kv->n_items, e)) return false;
    struct pending *batch = mem_alloc(BATCH * sizeof *batch);
    bool ok = true;
    size_t n = 0;
    for (uint64_t i = 0; ok && i < kv->n_items; i++) {
        struct str text;
        ok = gguf_item_str(g, &text, kv, i) || err_set(e, ERR_CORRUPT, "tokenizer.ggml.merges: expected strings");
        n += ok && read_pair(v, &batch[n], text, (uint32_t)i);
        if (ok && n == BATCH) {
            ok = add_batch(m, v, batch, n, e);
            n = 0;
        }
    }
    ok = ok && add_batch(m, v, batch, n, e);
    mem_free(batch);
    return ok;
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
