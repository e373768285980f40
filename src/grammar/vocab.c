/* vocab: the texts of a vocabulary as flat tries in depth-first order, each node with the place behind its subtree, so
 * that a walk that fails skips it. Texts that are plain string content (whole characters without quote, backslash or
 * control character) have a trie of their own and ready masks by their number of characters: inside a free string those
 * are the answer, and only the other tokens are walked. Immutable after creation. */
#include "grammar/vocab_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"

struct entry {
    struct str text;
    uint32_t id;
};

static int cmp_entry(const void *x, const void *y)
{
    const struct entry *a = x, *b = y;
    int c = str_cmp(a->text, b->text);
    return c ? c : a->id < b->id ? -1 : a->id > b->id;
}

static size_t shared_prefix(struct str a, struct str b)
{
    size_t n = 0;
    while (n < a.len && n < b.len && a.ptr[n] == b.ptr[n]) n++;
    return n;
}

/* From the last node to the first: those below a node come right behind it. */
static void fill_below(struct trie *t)
{
    uint32_t open[TOKEN_BYTES_MAX + 2] = {0};
    for (size_t i = t->n; i-- > 0;) {
        struct trie_node *x = &t->nodes[i];
        x->below = open[x->depth + 1];
        open[x->depth + 1] = 0;
        open[x->depth] |= x->below | 1u << byte_bucket(x->byte);
    }
}

/* list is sorted, so the nodes come out depth first; of equal texts the later ones hang on the first. */
static bool build_trie(struct trie *t, uint32_t *next_same, const struct entry *list, size_t n)
{
    size_t total = 0, stack[TOKEN_BYTES_MAX + 1];
    struct str last = STR_NONE;
    for (size_t i = 0; i < n; i++) {
        total += list[i].text.len - shared_prefix(last, list[i].text);
        last = list[i].text;
    }
    t->nodes = mem_try_alloc((total + 1) * sizeof *t->nodes);
    t->order = mem_try_alloc((n + 1) * sizeof *t->order);
    if (!t->nodes || !t->order) return false;
    last = STR_NONE;
    size_t depth = 0;
    for (size_t i = 0; i < n; i++) {
        struct str s = list[i].text;
        size_t same = shared_prefix(last, s);
        for (; depth > same; depth--) t->nodes[stack[depth]].skip = (uint32_t)t->n;
        for (; depth < s.len; t->n++) {
            t->nodes[t->n] = (struct trie_node){.byte = (uint8_t)s.ptr[depth],
                                                .depth = (uint8_t)(depth + 1),
                                                .first = (uint32_t)t->n_order,
                                                .token = TOKEN_NONE};
            stack[++depth] = t->n;
        }
        struct trie_node *x = &t->nodes[stack[depth]];
        bool again = x->token != TOKEN_NONE;
        next_same[list[i].id] = again ? x->token & ~SAME_TEXT : TOKEN_NONE;
        x->token = list[i].id | (again ? SAME_TEXT : 0);
        t->n_order += !again;
        t->order[t->n_order - 1] = x->token; /* the head of those with this text */
        last = s;
    }
    for (; depth > 0; depth--) t->nodes[stack[depth]].skip = (uint32_t)t->n;
    fill_below(t);
    return true;
}

/* Characters of plain string content, or 0. */
static size_t plain_chars(struct str s)
{
    size_t n = 0;
    uint32_t c;
    for (size_t i = 0; i < s.len; n++) {
        size_t k = utf8_decode(str_slice(s, i, s.len), &c);
        if (k == 0 || c < 0x20 || c == '"' || c == '\\') return 0;
        i += k;
    }
    return n;
}

static bool add_slices(struct grammar_vocab *v, const struct entry *plain, size_t n)
{
    size_t n_long = 0;
    for (size_t i = 0; i < n; i++) n_long += plain_chars(plain[i].text) > PLAIN_SLICES - 2;
    v->slices = mem_try_zalloc(PLAIN_SLICES * v->n_words * sizeof *v->slices);
    v->longs = mem_try_alloc((n_long + 1) * sizeof *v->longs);
    if (!v->slices || !v->longs) return false;
    for (size_t i = 0; i < n; i++) {
        size_t chars = plain_chars(plain[i].text);
        if (chars > v->longest) v->longest = (uint32_t)chars;
        for (size_t k = chars < PLAIN_SLICES ? chars : PLAIN_SLICES - 1; k < PLAIN_SLICES; k++)
            v->slices[k * v->n_words + plain[i].id / 32] |= 1u << (plain[i].id % 32);
        if (chars > PLAIN_SLICES - 2) v->longs[v->n_long++] = (struct long_text){plain[i].id, (uint32_t)chars};
    }
    return true;
}

static bool fill(struct grammar_vocab *v)
{
    struct entry *list = mem_try_alloc((v->n + 1) * 2 * sizeof *list), *plain = list ? list + v->n + 1 : NULL;
    size_t n = 0, n_plain = 0;
    if (!list) return false;
    for (uint32_t i = 0; i < v->n; i++) {
        struct str s = grammar_vocab_text(v, i);
        if (s.len == 0 || s.len > TOKEN_BYTES_MAX) continue;
        if (s.len > v->max_len) v->max_len = (uint32_t)s.len;
        if (plain_chars(s)) plain[n_plain++] = (struct entry){s, i};
        else list[n++] = (struct entry){s, i};
    }
    qsort(list, n, sizeof *list, cmp_entry);
    qsort(plain, n_plain, sizeof *plain, cmp_entry);
    bool ok = build_trie(&v->rest, v->next_same, list, n) && build_trie(&v->plain, v->next_same, plain, n_plain) &&
              add_slices(v, plain, n_plain);
    mem_free(list);
    return ok;
}

static struct grammar_vocab *vocab_new(size_t n, size_t bytes)
{
    struct grammar_vocab *v = mem_try_zalloc(sizeof *v);
    if (!v) return NULL;
    v->n = (uint32_t)n;
    v->n_words = GRAMMAR_MASK_WORDS(n);
    v->offsets = mem_try_zalloc((n + 1) * sizeof *v->offsets);
    v->bytes = mem_try_alloc(bytes + 1);
    v->ends = mem_try_zalloc(v->n_words * sizeof *v->ends + 4);
    v->next_same = mem_try_alloc(n * sizeof *v->next_same + 4);
    v->memory = (n + 1) * 8 + bytes + v->n_words * 4 * (PLAIN_SLICES + 1);
    if (v->offsets && v->bytes && v->ends && v->next_same) return v;
    grammar_vocab_destroy(v);
    return NULL;
}

static struct grammar_vocab *vocab_finish(struct grammar_vocab *v, struct err *e)
{
    if (fill(v)) {
        v->memory += (v->plain.n + v->rest.n) * sizeof(struct trie_node) +
                     (v->plain.n_order + v->rest.n_order) * sizeof(uint32_t);
        return v;
    }
    grammar_vocab_destroy(v);
    err_set(e, ERR_TOO_LARGE, "no memory for the trie of the vocabulary");
    return NULL;
}

struct grammar_vocab *grammar_vocab_from_texts(const struct str *texts, const bool *ends, size_t n, struct err *e)
{
    size_t total = 0;
    if (n == 0 || n > 1u << 24)
        return err_set(e, ERR_INVALID, "a vocabulary of %zu tokens; 1 to 16777216 are supported", n), NULL;
    for (size_t i = 0; i < n; i++) total += texts[i].len;
    struct grammar_vocab *v = total < UINT32_MAX ? vocab_new(n, total) : NULL;
    if (!v) return err_set(e, ERR_TOO_LARGE, "no memory for the vocabulary"), NULL;
    for (size_t i = 0, at = 0; i < n; i++) {
        if (texts[i].len) memcpy(v->bytes + at, texts[i].ptr, texts[i].len);
        at += texts[i].len;
        v->offsets[i + 1] = (uint32_t)at;
        if (ends && ends[i]) v->ends[i / 32] |= 1u << (i % 32);
    }
    return vocab_finish(v, e);
}

struct grammar_vocab *grammar_vocab_create(const struct tokenizer *t, struct err *e)
{
    size_t n = tokenizer_size(t);
    struct str *texts = mem_try_zalloc(n * sizeof *texts);
    bool *ends = mem_try_zalloc(n);
    size_t *at = mem_try_zalloc((n + 1) * sizeof *at);
    struct grammar_vocab *v = NULL;
    struct buf all;
    buf_init(&all, UINT32_MAX);
    bool ok = texts && ends && at;
    for (uint32_t i = 0; ok && i < n; i++) {
        at[i] = all.len;
        ends[i] = tokenizer_is_eog(t, i);
        enum token_attr attr = tokenizer_attr(t, i);
        if (ends[i] || attr == TOKEN_UNKNOWN || attr == TOKEN_UNUSED) {
            at[i + 1] = all.len;
            continue;
        }
        if (attr == TOKEN_CONTROL) buf_append_char(&all, GRAMMAR_CONTROL);
        ok = tokenizer_piece(t, &all, i, true);
        if (attr != TOKEN_CONTROL && all.len > at[i] && all.ptr[at[i]] == GRAMMAR_CONTROL) all.len = at[i];
        at[i + 1] = all.len;
    }
    for (size_t i = 0; ok && i < n; i++) texts[i] = (struct str){all.ptr + at[i], at[i + 1] - at[i]};
    if (ok) v = grammar_vocab_from_texts(texts, ends, n, e);
    else err_set(e, ERR_TOO_LARGE, "no memory for the vocabulary");
    buf_deinit(&all);
    mem_free(texts);
    mem_free(ends);
    mem_free(at);
    return v;
}

void grammar_vocab_destroy(struct grammar_vocab *v)
{
    if (!v) return;
    mem_free(v->rest.nodes);
    mem_free(v->rest.order);
    mem_free(v->plain.nodes);
    mem_free(v->plain.order);
    mem_free(v->longs);
    mem_free(v->slices);
    mem_free(v->offsets);
    mem_free(v->bytes);
    mem_free(v->ends);
    mem_free(v->next_same);
    mem_free(v);
}

struct str grammar_vocab_text(const struct grammar_vocab *v, uint32_t id)
{
    if (id >= v->n) return STR_NONE;
    return (struct str){v->bytes + v->offsets[id], v->offsets[id + 1] - v->offsets[id]};
}

size_t grammar_vocab_size(const struct grammar_vocab *v)
{
    return v->n;
}

size_t grammar_vocab_memory(const struct grammar_vocab *v)
{
    return v->memory;
}
