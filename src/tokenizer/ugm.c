/* ugm: SentencePiece's unigram model. The text is normalised with the file's character map (a double array compressed
 * by XOR, "precompiled_charsmap"), spaces become U+2581, then Viterbi finds the tokens with the best sum of scores. The
 * map comes from a file: every index into it is checked. */
#include <float.h>

#include "base/alloc.h"
#include "tokenizer/tokenizer_internal.h"

#define UNKNOWN_PENALTY 10.0f
#define MAX_TEXT ((size_t)1 << 20) /* longer texts are cut at a space: 16 bytes of memory for each byte of text */
static const struct str space_mark = {"\xe2\x96\x81", 3};

static bool load_charsmap(struct ugm_charsmap *map, const struct gguf *g, struct err *e)
{
    const struct gguf_kv *kv = gguf_find(g, "tokenizer.ggml.precompiled_charsmap");
    if (!kv) return true;
    if (kv->type != GGUF_ARRAY || (kv->item_type != GGUF_I8 && kv->item_type != GGUF_U8))
        return err_set(e, ERR_CORRUPT, "tokenizer.ggml.precompiled_charsmap: expected an array of bytes");
    const char *p = kv->data;
    uint64_t size = kv->n_items, n_array = size >= 4 ? load_u32(p) : 0;
    if (size < 4 || n_array > size - 4)
        return err_set(e, ERR_CORRUPT, "tokenizer.ggml.precompiled_charsmap: an array of %llu bytes in %llu",
                       (unsigned long long)n_array, (unsigned long long)size);
    map->array = (struct str){p + 4, (size_t)n_array};
    map->texts = (struct str){p + 4 + n_array, (size_t)(size - 4 - n_array)};
    return true;
}

bool ugm_load(struct tokenizer *t, const struct gguf *g, struct err *e)
{
    float lowest = FLT_MAX;
    for (uint32_t id = 0; id < t->vocab.n; id++)
        if (t->vocab.attr[id] == TOKEN_NORMAL && t->vocab.scores[id] < lowest) lowest = t->vocab.scores[id];
    t->unknown_score = (lowest == FLT_MAX ? 0.0f : lowest) - UNKNOWN_PENALTY;
    return load_charsmap(&t->charsmap, g, e);
}

/* A unit holds: bits 0-7 and 31 the label, bit 8 "a text ends here", bit 9 the scale and bits 10-30 the base. */
static bool unit_at(const struct ugm_charsmap *map, uint32_t *unit, uint32_t i)
{
    if (i >= map->array.len / 4) return false;
    *unit = (uint32_t)load_u32(map->array.ptr + (size_t)i * 4);
    return true;
}

static uint32_t unit_base(uint32_t unit)
{
    return (unit >> 10) << ((unit & 1u << 9) >> 6);
}

/* The longest start of text that the map replaces: its length (0 = none) and the replacement. */
static size_t find_replacement(const struct ugm_charsmap *map, struct str *out, struct str text)
{
    size_t best = 0;
    uint32_t unit, node;
    if (!unit_at(map, &unit, 0)) return 0;
    node = unit_base(unit);
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        node ^= c;
        if (c == 0 || !unit_at(map, &unit, node) || (unit & (1u << 31 | 0xff)) != c) break;
        bool leaf = unit >> 8 & 1;
        node ^= unit_base(unit);
        if (!leaf) continue;
        if (!unit_at(map, &unit, node)) break;
        uint32_t from = unit & 0x7fffffff;
        const char *p = from < map->texts.len ? map->texts.ptr + from : NULL;
        const char *end = p ? memchr(p, 0, map->texts.len - from) : NULL;
        if (!end) break;
        *out = (struct str){p, (size_t)(end - p)};
        best = i + 1;
    }
    return best;
}

struct normaliser {
    const struct tokenizer *t;
    struct buf out;
    bool prefixed, in_word;
};

static void add_normalised(struct normaliser *n, struct str s)
{
    const struct tokenizer *t = n->t;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] != ' ') {
            bool start = (t->add_space_prefix && !n->prefixed) || t->remove_extra_spaces;
            if (!n->in_word && start) {
                (void)buf_append(&n->out, space_mark);
                n->prefixed = true;
            }
            n->in_word = true;
            (void)buf_append_char(&n->out, s.ptr[i]);
        } else {
            n->in_word = false;
            if (!t->remove_extra_spaces) (void)buf_append(&n->out, space_mark);
        }
    }
}

static void normalise(struct normaliser *n, struct str text)
{
    for (size_t i = 0; i < text.len;) {
        struct str rest = str_slice(text, i, text.len), put = {rest.ptr, 0};
        uint32_t id, c;
        /* User-defined tokens stay as they are. */
        size_t used = trie_longest(&n->t->special, &id, rest);
        if (used > 0 && n->t->vocab.attr[id] == TOKEN_USER_DEFINED) {
            put.len = used;
        } else if ((used = find_replacement(&n->t->charsmap, &put, rest)) == 0) {
            used = utf8_decode(rest, &c);
            put = used ? str_slice(rest, 0, used) : STR("\xef\xbf\xbd");
            used = used ? used : 1;
        }
        add_normalised(n, put);
        i += used;
    }
}

struct best_path {
    double score;
    uint32_t id, from; /* the token that ends here, and where it starts */
};

static void offer(struct best_path *p, double score, uint32_t id, size_t from)
{
    if (score > p->score) *p = (struct best_path){.score = score, .id = id, .from = (uint32_t)from};
}

static void find_paths(const struct tokenizer *t, struct best_path *best, struct str text)
{
    for (size_t i = 0; i < text.len;) {
        uint32_t c, node = TRIE_ROOT;
        size_t n = utf8_decode(str_slice(text, i, text.len), &c);
        bool whole = false;
        n = n ? n : 1;
        for (size_t end = i; end < text.len; end++) {
            node = trie_step(&t->pieces, node, (unsigned char)text.ptr[end]);
            if (node == 0) break;
            uint32_t id = t->pieces.values[node];
            if (id == TOKEN_NONE) continue;
            whole = whole || end + 1 - i == n;
            double score = t->vocab.attr[id] == TOKEN_USER_DEFINED ? 0.0 : (double)t->vocab.scores[id];
            offer(&best[end + 1], best[i].score + score, id, i);
        }
        if (!whole) offer(&best[i + n], best[i].score + (double)t->unknown_score, TOKEN_NONE, i);
        i += n;
    }
}

static bool append_path(const struct tokenizer *t, struct token_list *out, const struct best_path *best, size_t n,
                        struct err *e)
{
    size_t first = out->n;
    bool after_unknown = false;
    for (size_t i = n; i > 0; i = best[i].from) {
        bool unknown = best[i].id == TOKEN_NONE || best[i].id == t->info.unk;
        if (!(unknown && after_unknown) && !append_or_unknown(t, out, best[i].id, e)) return false;
        after_unknown = unknown;
    }
    for (size_t a = first, b = out->n; a + 1 < b; a++) {
        uint32_t id = out->ids[a];
        out->ids[a] = out->ids[--b];
        out->ids[b] = id;
    }
    return true;
}

static bool encode_normalised(const struct tokenizer *t, struct token_list *out, struct str text, struct err *e)
{
    if (text.len == 0) return true;
    struct best_path *best = mem_try_alloc((text.len + 1) * sizeof *best);
    if (!best) return err_set(e, ERR_TOO_LARGE, "no memory for a text of %zu bytes", text.len);
    for (size_t i = 0; i <= text.len; i++) best[i] = (struct best_path){.score = -DBL_MAX, .id = TOKEN_NONE};
    best[0].score = 0.0;
    find_paths(t, best, text);
    bool ok = append_path(t, out, best, text.len, e);
    mem_free(best);
    return ok;
}

bool ugm_encode(const struct tokenizer *t, struct token_list *out, struct str text, struct err *e)
{
    struct normaliser n = {.t = t};
    buf_init(&n.out, SIZE_MAX / 2);
    normalise(&n, text);
    bool ok = !n.out.failed || err_set(e, ERR_TOO_LARGE, "no memory for a text of %zu bytes", text.len);
    struct str all = buf_str(&n.out);
    while (ok && all.len > 0) {
        size_t take = all.len;
        for (size_t i = MAX_TEXT; i < all.len && take == all.len; i++)
            if (str_starts(str_slice(all, i, all.len), space_mark)) take = i;
        ok = encode_normalised(t, out, str_slice(all, 0, take), e);
        all = str_slice(all, take, all.len);
    }
    buf_deinit(&n.out);
    return ok;
}
