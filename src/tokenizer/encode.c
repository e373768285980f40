/* encode: text -> ids. Special tokens are cut out first (leftmost, then longest), the text between them goes through
 * the algorithm of the vocabulary. For BPE and SPM that is: pieces; a piece that is a token by itself is taken from the
 * vocabulary, one seen before in this call from a small cache, any other is merged. All state belongs to the call. */
#include "base/alloc.h"
#include "tokenizer/tokenizer_internal.h"

#define CACHE_ENTRIES 4096
#define CACHE_PIECE_BYTES 24
#define CACHE_MIN_TEXT 2048 /* shorter texts do not repay clearing the cache */

struct cache_entry {
    char piece[CACHE_PIECE_BYTES];
    uint8_t len; /* 0 = free */
    uint32_t n_ids;
    size_t first; /* where its ids stand in the output */
};

struct encoder {
    const struct tokenizer *t;
    struct token_list *out;
    struct split_run split;
    struct merger merger;
    struct cache_entry *cache;
    char *scratch; /* a rewritten part of the text */
    size_t cap_scratch;
};

/* ---- token lists ---- */

void token_list_init(struct token_list *l, size_t max)
{
    *l = (struct token_list){.max = max};
}

void token_list_deinit(struct token_list *l)
{
    mem_free(l->ids);
    *l = (struct token_list){0};
}

static bool token_list_reserve(struct token_list *l, size_t more, struct err *e)
{
    if (more <= l->cap - l->n) return true;
    if (more > l->max - l->n || l->n > l->max) return err_set(e, ERR_TOO_LARGE, "more than %zu tokens", l->max);
    size_t cap = l->cap < 32 ? 64 : l->cap * 2, bytes;
    if (cap < l->n + more) cap = l->n + more;
    if (cap > l->max) cap = l->max;
    uint32_t *ids = size_mul(&bytes, cap, sizeof *ids) ? mem_try_realloc(l->ids, bytes) : NULL;
    if (!ids) return err_set(e, ERR_TOO_LARGE, "no memory for %zu tokens", cap);
    l->ids = ids;
    l->cap = cap;
    return true;
}

bool token_list_append(struct token_list *l, uint32_t id, struct err *e)
{
    if (l->n == l->cap && !token_list_reserve(l, 1, e)) return false;
    l->ids[l->n++] = id;
    return true;
}

bool append_or_unknown(const struct tokenizer *t, struct token_list *out, uint32_t id, struct err *e)
{
    if (id == TOKEN_NONE) id = t->info.unk;
    return id == TOKEN_NONE || token_list_append(out, id, e);
}

/* ---- pieces ---- */

/* Would merging the token's text give the token? Worked out when first asked; all threads find the same answer. */
static bool is_own_merge(struct encoder *c, bool *own, uint32_t id, struct err *e)
{
    const struct vocab *v = &c->t->vocab;
    *own = c->t->pre->ignore_merges && id < v->n;
    if (*own || id >= v->n) return true;
    uint8_t state = atomic_load_explicit(&v->own_state[id], memory_order_relaxed);
    if (state == OWN_UNKNOWN) {
        if (!merger_run(&c->merger, v->raw[id].ptr, v->raw[id].len, e)) return false;
        state = c->merger.n_symbols == 1 && c->merger.symbols[0].id == id ? OWN_YES : OWN_NO;
        atomic_store_explicit(&v->own_state[id], state, memory_order_relaxed);
    }
    *own = state == OWN_YES;
    return true;
}

/* A symbol that is no token: its bytes, or the unknown token once. */
static bool append_bytes(struct encoder *c, const char *p, size_t n, struct err *e)
{
    const struct vocab *v = &c->t->vocab;
    bool unknown = false;
    for (size_t i = 0; i < n; i++) {
        uint32_t id = v->byte_id[(unsigned char)p[i]];
        if (id == TOKEN_NONE && unknown) continue;
        unknown = id == TOKEN_NONE;
        if (!append_or_unknown(c->t, c->out, id, e)) return false;
    }
    return true;
}

static bool merge_piece(struct encoder *c, const char *p, size_t n, struct err *e)
{
    if (!merger_run(&c->merger, p, n, e)) return false;
    for (size_t i = 0; i < c->merger.n_symbols; i++) {
        const struct merge_symbol *s = &c->merger.symbols[i];
        bool token = s->id < c->t->vocab.n;
        if (token ? !token_list_append(c->out, s->id, e) : !append_bytes(c, p + s->from, s->len, e)) return false;
    }
    return true;
}

static bool append_copy(struct encoder *c, const struct cache_entry *entry, struct err *e)
{
    if (!token_list_reserve(c->out, entry->n_ids, e)) return false;
    memcpy(c->out->ids + c->out->n, c->out->ids + entry->first, entry->n_ids * sizeof *c->out->ids);
    c->out->n += entry->n_ids;
    return true;
}

static bool encode_long_piece(struct encoder *c, const char *p, size_t n, struct err *e)
{
    while (n > 0) { /* bounds memory; nothing that anyone wrote is this long */
        size_t take = n < MERGE_MAX_BYTES ? n : MERGE_MAX_BYTES;
        while (take < n && take > MERGE_MAX_BYTES - 4 && ((unsigned char)p[take] & 0xc0) == 0x80) take--;
        if (!merge_piece(c, p, take, e)) return false;
        p += take;
        n -= take;
    }
    return true;
}

static bool encode_piece(void *data, const char *p, size_t n, struct err *e)
{
    struct encoder *c = data;
    const struct vocab *v = &c->t->vocab;
    if (n == 1 && v->byte_level) return append_or_unknown(c->t, c->out, v->byte_id[(unsigned char)*p], e);
    uint64_t h = hash_piece(p, n, v->seed);
    if (n <= v->max_raw_bytes) {
        uint32_t id = vocab_find_hashed(v, p, n, h);
        bool own = false;
        if (id != TOKEN_NONE && !is_own_merge(c, &own, id, e)) return false;
        if (own) return token_list_append(c->out, id, e);
    }
    if (n > MERGE_MAX_BYTES) return encode_long_piece(c, p, n, e);
    struct cache_entry *entry = c->cache && n <= CACHE_PIECE_BYTES ? &c->cache[(h >> 20) % CACHE_ENTRIES] : NULL;
    if (!entry) return merge_piece(c, p, n, e);
    if (entry->len == n && memcmp(entry->piece, p, n) == 0) return append_copy(c, entry, e);
    size_t first = c->out->n;
    if (!merge_piece(c, p, n, e)) return false;
    entry->len = (uint8_t)n;
    memcpy(entry->piece, p, n);
    entry->first = first;
    entry->n_ids = (uint32_t)(c->out->n - first);
    return true;
}

/* ---- texts between special tokens ---- */

/* The text with `prefix` spaces in front and U+2581 turned into a space; text itself when nothing changes. */
static bool rewrite_spaces(struct encoder *c, struct str *out, struct str text, size_t prefix, struct err *e)
{
    *out = text;
    if (prefix == 0 && str_find(text, STR("\xe2\x96\x81"), 0) < 0) return true;
    if (text.len + prefix > c->cap_scratch) {
        mem_free(c->scratch);
        c->cap_scratch = 0;
        c->scratch = mem_try_alloc(text.len + prefix);
        if (!c->scratch) return err_set(e, ERR_TOO_LARGE, "no memory for a text of %zu bytes", text.len);
        c->cap_scratch = text.len + prefix;
    }
    size_t n = 0;
    while (n < prefix) c->scratch[n++] = ' ';
    for (size_t i = 0; i < text.len;) {
        ptrdiff_t at = str_find(text, STR("\xe2\x96\x81"), i);
        size_t end = at < 0 ? text.len : (size_t)at;
        memcpy(c->scratch + n, text.ptr + i, end - i);
        n += end - i;
        i = end;
        if (at < 0) break;
        c->scratch[n++] = ' ';
        i += 3;
    }
    *out = (struct str){c->scratch, n};
    return true;
}

/* Cuts before spaces where no token crosses the cut. */
static bool encode_words(struct encoder *c, struct str text, struct err *e)
{
    for (size_t from = 0, at; from < text.len; from = at) {
        for (at = from; at < text.len;) {
            const char *space = memchr(text.ptr + at + 1, ' ', text.len - at - 1);
            at = space ? (size_t)(space - text.ptr) : text.len;
            if (at < text.len && text.ptr[at - 1] != ' ' && !c->t->joins_space[(unsigned char)text.ptr[at - 1]]) break;
        }
        if (!encode_piece(c, text.ptr + from, at - from, e)) return false;
    }
    return true;
}

/* Runs of newlines are looked up whole, lines are merged (Gemma 4). */
static bool encode_lines(struct encoder *c, struct str text, struct err *e)
{
    for (size_t from = 0, at; from < text.len; from = at) {
        at = from;
        while (at < text.len && text.ptr[at] == '\n') at++;
        if (at > from) {
            uint32_t id = vocab_find_raw(&c->t->vocab, text.ptr + from, at - from);
            bool found = id < c->t->vocab.n;
            if (found ? !token_list_append(c->out, id, e) : !encode_piece(c, text.ptr + from, at - from, e))
                return false;
            continue;
        }
        const char *newline = memchr(text.ptr + from, '\n', text.len - from);
        at = newline ? (size_t)(newline - text.ptr) : text.len;
        if (!encode_words(c, str_slice(text, from, at), e)) return false;
    }
    return true;
}

static bool encode_fragment(struct encoder *c, struct str text, bool after_special, struct err *e)
{
    const struct tokenizer *t = c->t;
    if (text.len == 0) return true;
    if (t->kind == VOCAB_WPM) return wpm_encode(t, c->out, text, e);
    if (t->kind == VOCAB_UGM) return ugm_encode(t, c->out, text, e);
    if (!t->spaces) return split_text(&c->split, text, encode_piece, c, e);
    if (!rewrite_spaces(c, &text, text, t->add_space_prefix && after_special, e)) return false;
    return t->kind == VOCAB_SPM ? encode_words(c, text, e) : encode_lines(c, text, e);
}

/* ---- special tokens ---- */

struct special_search {
    const struct tokenizer *t;
    struct str text;
    bool parse_control;
    const struct text_span *tainted;
    size_t n_tainted; /* spans that end at or before the search position are dropped */
};

static bool is_allowed(const struct special_search *s, uint32_t id, size_t from, size_t to)
{
    if (s->t->vocab.attr[id] == TOKEN_USER_DEFINED) return true;
    return s->parse_control && (s->n_tainted == 0 || s->tainted->from >= to || s->tainted->to <= from);
}

/* Finds the first special token at or after *at; false when there is none. */
static bool find_special(struct special_search *s, size_t *at, size_t *len, uint32_t *id)
{
    const struct trie *trie = &s->t->special;
    for (size_t i = *at; i < s->text.len; i++) {
        uint32_t node = trie->root[(unsigned char)s->text.ptr[i]];
        if (node == 0) continue;
        while (s->n_tainted > 0 && s->tainted->to <= i) {
            s->tainted++;
            s->n_tainted--;
        }
        *len = 0;
        for (size_t end = i + 1; node != 0; end++) {
            uint32_t found = trie->values[node];
            if (found != TOKEN_NONE && is_allowed(s, found, i, end)) {
                *len = end - i;
                *id = found;
            }
            if (end == s->text.len) break;
            node = trie_step(trie, node, (unsigned char)s->text.ptr[end]);
        }
        if (*len == 0) continue;
        *at = i;
        return true;
    }
    return false;
}

static bool is_ascii_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* after_special: what stands before the text is a special token; the start of a prompt counts as such. */
static bool encode_all(struct encoder *c, struct special_search *s, bool after_special, struct err *e)
{
    for (size_t at = 0; at < s->text.len;) {
        size_t found = at, len = 0;
        uint32_t id = TOKEN_NONE;
        bool special = find_special(s, &found, &len, &id);
        size_t end = special ? found : s->text.len;
        if (end > at) {
            if (!encode_fragment(c, str_slice(s->text, at, end), after_special, e)) return false;
            after_special = false;
        }
        at = end + len;
        if (!special) break;
        if (!token_list_append(c->out, id, e)) return false;
        after_special = true;
        if (c->t->vocab.flags[id] & FLAG_RSTRIP)
            while (at < s->text.len && is_ascii_space(s->text.ptr[at])) at++;
    }
    return true;
}

static bool encode(const struct tokenizer *t, struct token_list *out, struct special_search s, bool after_special,
                   struct err *e)
{
    struct str text = s.text;
    if (text.len > UINT32_MAX / 2)
        return err_set(e, ERR_TOO_LARGE, "text of %zu bytes, expected at most 2 GiB", text.len);
    struct encoder c = {.t = t, .out = out};
    split_run_init(&c.split, &t->splitter);
    merger_init(&c.merger, t);
    if (text.len >= CACHE_MIN_TEXT) c.cache = mem_try_zalloc(CACHE_ENTRIES * sizeof *c.cache); /* NULL: works without */
    bool ok = encode_all(&c, &s, after_special, e);
    mem_free(c.cache);
    mem_free(c.scratch);
    merger_deinit(&c.merger);
    split_run_deinit(&c.split);
    return ok;
}

bool tokenizer_encode(const struct tokenizer *t, struct token_list *out, struct str text, bool parse_control,
                      const struct text_span *tainted, size_t n_tainted, struct err *e)
{
    return encode(t, out, (struct special_search){t, text, parse_control, tainted, n_tainted}, true, e);
}

bool tokenizer_encode_rest(const struct tokenizer *t, struct token_list *out, struct str text, bool parse_control,
                           const struct text_span *tainted, size_t n_tainted, struct err *e)
{
    return encode(t, out, (struct special_search){t, text, parse_control, tainted, n_tainted}, false, e);
}

bool tokenizer_add_special(const struct tokenizer *t, struct token_list *ids, struct err *e)
{
    const struct tokenizer_info *i = &t->info;
    if (i->add_bos && (ids->n == 0 || ids->ids[0] != i->bos)) {
        if (!token_list_reserve(ids, 1, e)) return false;
        memmove(ids->ids + 1, ids->ids, ids->n * sizeof *ids->ids);
        ids->ids[0] = i->bos;
        ids->n++;
    }
    if (i->add_eos && (ids->n == 0 || ids->ids[ids->n - 1] != i->eos)) return token_list_append(ids, i->eos, e);
    return true;
}
