/* vocab: the texts of a vocabulary, sorted by what a grammar asks for. Texts that are plain string content (whole
 * characters without quote, backslash or control character) have a tree of their own and ready masks by their number of
 * characters; what goes on inside a string, closes one or opens one is ready too, with trees of what follows the quote:
 * so a mask is mostly copied, and only what stands behind a quote or outside of strings is walked. Immutable after
 * creation. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/utf8.h"
#include "grammar/vocab_internal.h"

/* Characters of plain string content, or 0. */
static size_t plain_chars(struct str s)
{
    size_t n = 0;
    uint32_t c;
    for (size_t i = 0; i < s.len; n++) {
        uint8_t b = (uint8_t)s.ptr[i];
        size_t k = b < 0x80 ? 1 : utf8_decode(str_slice(s, i, s.len), &c);
        if (k == 0 || b < 0x20 || b == '"' || b == '\\') return 0;
        i += k;
    }
    return n;
}

/* ---- sorting the texts ---- */

struct sorted {
    struct entries plain, rest, closers, texts_closers, odd, quoted_closers, quoted_odd, core, white, quoted;
    size_t n_long;
};

/* Texts with a quote: what a string goes on with up to it, if that is plain, is closed there. */
static void sort_closer(struct entries *closers, struct entries *odd, struct str text, size_t from, uint32_t id,
                        size_t spaces)
{
    ptrdiff_t quote = str_find(text, STR("\""), from);
    if (quote < 0) return;
    struct str own = str_slice(text, from, (size_t)quote);
    if (own.len == 0 || plain_chars(own))
        entries_add(closers, str_slice(text, (size_t)quote + 1, text.len), id, spaces);
    else if (odd) entries_add(odd, text, id, spaces);
}

static bool begins_literal(struct str s)
{
    static const struct str words[] = {{"true", 4}, {"false", 5}, {"null", 4}};
    if (!strchr("tfn", s.ptr[0]) || !s.ptr[0]) return false;
    for (size_t i = 0; i < 3; i++)
        if (str_starts(s, words[i]) || str_starts(words[i], s)) return true;
    return false;
}

static void sort_core(struct sorted *x, struct str text, uint32_t id)
{
    size_t spaces = 0;
    while (spaces < text.len && is_white((uint8_t)text.ptr[spaces])) spaces++;
    struct str core = str_slice(text, spaces, text.len);
    if (core.len == 0) entries_add(&x->white, text, id, spaces);
    else if (memchr("\"{}[]:,-0123456789", core.ptr[0], 18) || begins_literal(core))
        entries_add(&x->core, core, id, spaces);
    if (core.len == 0 || core.ptr[0] != '"') return;
    sort_closer(&x->quoted_closers, &x->quoted_odd, core, 1, id, spaces);
    if (str_find(core, STR("\""), 1) < 0) entries_add(&x->quoted, text, id, spaces);
}

static void sort_text(struct sorted *x, struct str text, uint32_t id)
{
    size_t chars = plain_chars(text);
    entries_add(chars ? &x->plain : &x->rest, text, id, 0);
    x->n_long += chars > PLAIN_SLICES - 2;
    if (!chars) sort_closer(&x->closers, &x->odd, text, 0, id, 0);
    if (!chars && text.ptr[0] != '"') sort_closer(&x->texts_closers, NULL, text, 0, id, 0);
    sort_core(x, text, id);
}

/* ---- ready masks ---- */

static bool add_slices(struct grammar_vocab *v, const struct entries *plain, size_t n_long)
{
    v->slices = mem_try_zalloc(PLAIN_SLICES * v->n_words * sizeof *v->slices);
    v->longs = mem_try_alloc((n_long + 1) * sizeof *v->longs);
    if (!v->slices || !v->longs) return false;
    for (size_t i = 0; i < plain->n; i++) {
        const struct entry *e = &plain->list[i];
        size_t chars = 0;
        for (size_t k = 0; k < e->len; k++) chars += ((uint8_t)e->text[k] & 0xc0) != 0x80;
        size_t slice = chars < PLAIN_SLICES ? chars : PLAIN_SLICES - 1;
        if (chars > v->longest) v->longest = (uint32_t)chars;
        v->slices[slice * v->n_words + e->id / 32] |= 1u << (e->id % 32);
        if (chars > PLAIN_SLICES - 2) v->longs[v->n_long++] = (struct long_text){e->id, (uint32_t)chars};
    }
    for (size_t i = v->n_words; i < PLAIN_SLICES * v->n_words; i++) v->slices[i] |= v->slices[i - v->n_words];
    return true;
}

static bool list_spaced(struct spaced *out, const struct entries *from)
{
    size_t most = 0;
    out->tokens = mem_try_alloc((from->n + 1) * sizeof *out->tokens);
    out->spaces = mem_try_alloc(from->n + 1);
    if (from->failed || !out->tokens || !out->spaces) return false;
    for (size_t i = 0; i < from->n; i++)
        if (from->list[i].spaces > most) most = from->list[i].spaces;
    for (size_t k = 0; k <= most; k++)
        for (size_t i = 0; i < from->n; i++) {
            if (from->list[i].spaces != k) continue;
            out->spaces[out->n] = (uint8_t)k;
            out->tokens[out->n++] = from->list[i].id;
        }
    return true;
}

/* Frees what is left of x, too. */
static bool build(struct grammar_vocab *v, struct sorted *x)
{
    struct {
        struct tree *tree;
        struct entries *entries;
    } trees[] = {{&v->plain, &x->plain},
                 {&v->rest, &x->rest},
                 {&v->core, &x->core},
                 {&v->closers, &x->closers},
                 {&v->texts_closers, &x->texts_closers},
                 {&v->odd, &x->odd},
                 {&v->quoted_closers, &x->quoted_closers},
                 {&v->quoted_odd, &x->quoted_odd}};
    bool ok = !x->plain.failed && add_slices(v, &x->plain, x->n_long) && list_spaced(&v->white, &x->white) &&
              list_spaced(&v->quoted_list, &x->quoted);
    for (size_t i = 0; i < sizeof trees / sizeof *trees; i++) {
        ok = tree_build(trees[i].tree, trees[i].entries) && ok;
        v->memory += tree_memory(trees[i].tree);
    }
    mem_free(x->white.list);
    mem_free(x->quoted.list);
    return ok;
}

static bool fill(struct grammar_vocab *v)
{
    struct sorted x = {0};
    for (uint32_t i = 0; i < v->n; i++) {
        struct str s = grammar_vocab_text(v, i);
        if (s.len == 0 || s.len > TOKEN_BYTES_MAX) continue;
        if (s.len > v->max_len) v->max_len = (uint32_t)s.len;
        sort_text(&x, s, i);
    }
    return build(v, &x) && vocab_learn(v);
}

/* ---- life ---- */

static struct grammar_vocab *vocab_new(size_t n, size_t bytes)
{
    struct grammar_vocab *v = mem_try_zalloc(sizeof *v);
    if (!v) return NULL;
    v->n = (uint32_t)n;
    v->n_words = GRAMMAR_MASK_WORDS(n);
    v->offsets = mem_try_zalloc((n + 1) * sizeof *v->offsets);
    v->bytes = mem_try_alloc(bytes + 1);
    v->is_end = mem_try_zalloc(n + 1);
    v->ends = mem_try_alloc((n + 1) * sizeof *v->ends);
    v->inside.bits = mem_try_zalloc(v->n_words * 4 + 4);
    v->quoted.bits = mem_try_zalloc(v->n_words * 4 + 4);
    v->blank.bits = mem_try_zalloc(v->n_words * 4 + 4);
    v->memory = n * 5 + bytes + v->n_words * 4 * (PLAIN_SLICES + 3);
    if (v->offsets && v->bytes && v->is_end && v->ends && v->inside.bits && v->quoted.bits && v->blank.bits) return v;
    grammar_vocab_destroy(v);
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
        v->is_end[i] = ends && ends[i];
        if (v->is_end[i]) v->ends[v->n_ends++] = (uint32_t)i;
    }
    uint64_t id[2] = {hash64(v->bytes, total, n), hash64(v->offsets, (n + 1) * sizeof *v->offsets, 1)};
    v->id = hash64(id, sizeof id, hash64(v->is_end, n, 2));
    if (fill(v)) return v;
    grammar_vocab_destroy(v);
    err_set(e, ERR_TOO_LARGE, "no memory for the tree of the vocabulary");
    return NULL;
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
    struct tree *trees[] = {&v->plain,         &v->rest, &v->core,           &v->closers,
                            &v->texts_closers, &v->odd,  &v->quoted_closers, &v->quoted_odd};
    for (size_t i = 0; i < sizeof trees / sizeof *trees; i++) tree_deinit(trees[i]);
    mem_free(v->white.tokens);
    mem_free(v->white.spaces);
    mem_free(v->quoted_list.tokens);
    mem_free(v->quoted_list.spaces);
    mem_free(v->inside.bits);
    mem_free(v->quoted.bits);
    mem_free(v->blank.bits);
    mem_free(v->longs);
    mem_free(v->slices);
    mem_free(v->offsets);
    mem_free(v->bytes);
    mem_free(v->ends);
    mem_free(v->is_end);
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
