/* vocab: the tokens of a GGUF and the way from a raw text to an id. Texts stay in the file's map where raw and
 * vocabulary text are the same; everything else lies in one arena. Nothing here changes after loading. */
#include "tokenizer/tokenizer_internal.h"

#include "base/rng.h"

#define MAX_TOKENS ((uint64_t)1 << 22)
#define MAX_BYTES ((size_t)4 << 30) /* of one vocabulary's arena */

/* Byte-level vocabularies write byte b as a printable character: the byte itself where it is printable Latin-1, else
 * U+0100 and up in order. Gives the byte of a character, or -1. */
static int byte_of_printable(uint32_t c)
{
    if ((c >= 0x21 && c <= 0x7e) || (c >= 0xa1 && c <= 0xac) || (c >= 0xae && c <= 0xff)) return (int)c;
    if (c >= 0x100 && c <= 0x120) return (int)(c - 0x100);        /* 0x00-0x20 */
    if (c >= 0x121 && c <= 0x142) return (int)(c - 0x121 + 0x7f); /* 0x7f-0xa0 */
    return c == 0x143 ? 0xad : -1;
}

static bool decode_printable(char *out, size_t *n, struct str text)
{
    size_t len = 0;
    for (size_t i = 0; i < text.len;) {
        unsigned char b = (unsigned char)text.ptr[i];
        int byte;
        if (b < 0x80) {
            byte = byte_of_printable(b);
            i++;
        } else {
            if (b < 0xc2 || b > 0xc5 || i + 1 >= text.len || ((unsigned char)text.ptr[i + 1] & 0xc0) != 0x80)
                return false;
            byte = byte_of_printable((uint32_t)(b & 0x1f) << 6 | ((unsigned char)text.ptr[i + 1] & 0x3f));
            i += 2;
        }
        if (byte < 0) return false;
        out[len++] = (char)byte;
    }
    *n = len;
    return true;
}

/* False when the text holds a space too: then no ordinary text gives it, but it still reads as what is written. */
static bool decode_spaces(char *out, size_t *n, struct str text)
{
    size_t len = 0;
    bool pure = true;
    for (size_t i = 0; i < text.len; i++) {
        pure = pure && text.ptr[i] != ' ';
        if (text.len - i >= 3 && memcmp(text.ptr + i, "\xe2\x96\x81", 3) == 0) {
            out[len++] = ' ';
            i += 2;
        } else {
            out[len++] = text.ptr[i];
        }
    }
    *n = len;
    return pure;
}

bool vocab_raw_of_text(const struct vocab *v, char *out, size_t *n, struct str text)
{
    return v->byte_level ? decode_printable(out, n, text) : decode_spaces(out, n, text);
}

struct str vocab_text(const struct vocab *v, uint32_t id)
{
    struct str s = STR_NONE;
    if (id < v->n) (void)gguf_item_str(v->gguf, &s, v->tokens, id);
    return s;
}

static void insert(struct vocab *v, uint32_t id)
{
    struct str raw = v->raw[id];
    uint64_t h = hash_piece(raw.ptr, raw.len, v->seed);
    size_t mask = v->n_slots - 1, i = h & mask;
    while (v->slots[i].id != TOKEN_NONE) i = (i + 1) & mask;
    v->slots[i] = (struct vocab_slot){.tag = (uint32_t)(h >> 32), .id = id};
    if (raw.len > v->max_raw_bytes) v->max_raw_bytes = raw.len;
}

static bool alloc_slots(struct vocab *v, size_t n_keys, struct err *e)
{
    size_t n = 64;
    while (n < n_keys * 2) n *= 2;
    struct vocab_slot *slots = arena_try_alloc(&v->arena, n * sizeof *slots);
    if (!slots) return err_set(e, ERR_TOO_LARGE, "vocabulary: no memory for the table of %zu tokens", n_keys);
    for (size_t i = 0; i < n; i++) slots[i].id = TOKEN_NONE;
    v->slots = slots;
    v->n_slots = n;
    return true;
}

bool vocab_add_virtual(struct vocab *v, uint32_t *id, struct str raw, struct err *e)
{
    if (v->n_all == v->cap_all) {
        uint32_t cap = v->cap_all * 2;
        struct str *grown = arena_try_alloc(&v->arena, cap * sizeof *grown);
        if (!grown) return err_set(e, ERR_TOO_LARGE, "vocabulary: no memory for %u results of merges", (unsigned)cap);
        memcpy(grown, v->raw, v->n_all * sizeof *grown);
        v->raw = grown;
        v->cap_all = cap;
        if (!alloc_slots(v, cap, e)) return false;
        for (uint32_t i = 0; i < v->n_all; i++)
            if (i >= v->n || v->own_state[i] != OWN_NO) insert(v, i);
    }
    struct str copy = arena_try_str(&v->arena, raw);
    if (!copy.ptr) return err_set(e, ERR_TOO_LARGE, "vocabulary: no memory for the results of merges");
    *id = v->n_all++;
    v->raw[*id] = copy;
    insert(v, *id);
    return true;
}

uint32_t vocab_find_text(const struct vocab *v, struct str text)
{
    uint32_t id;
    char raw[256], *p = raw;
    size_t n;
    if (text.len == 0) return TOKEN_NONE;
    if (strmap_find(&v->verbatim, &id, text)) return id;
    if (text.len > sizeof raw) { /* rare: longer than nearly all tokens, so look through them */
        for (id = 0; id < v->n; id++)
            if (str_eq(vocab_text(v, id), text)) return id;
        return TOKEN_NONE;
    }
    if (!vocab_raw_of_text(v, p, &n, text)) return TOKEN_NONE;
    id = vocab_find_raw(v, p, n);
    return id < v->n && str_eq(vocab_text(v, id), text) ? id : TOKEN_NONE;
}

/* "<0x0A>" -> 10, else -1. */
static int byte_token_value(struct str text)
{
    int value = 0;
    if (text.len != 6 || memcmp(text.ptr, "<0x", 3) != 0 || text.ptr[5] != '>') return -1;
    for (int i = 3; i < 5; i++) {
        char c = text.ptr[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                           : -1;
        if (digit < 0) return -1;
        value = value * 16 + digit;
    }
    return value;
}

static bool read_attrs(struct vocab *v, enum vocab_kind kind, struct err *e)
{
    const struct gguf_kv *types = gguf_find(v->gguf, "tokenizer.ggml.token_type");
    const struct gguf_kv *scores = gguf_find(v->gguf, "tokenizer.ggml.scores");
    if (types && (types->type != GGUF_ARRAY || types->n_items < v->n))
        return err_set(e, ERR_CORRUPT, "tokenizer.ggml.token_type: expected an array of %u integers", (unsigned)v->n);
    if (scores && (scores->type != GGUF_ARRAY || scores->n_items < v->n))
        return err_set(e, ERR_CORRUPT, "tokenizer.ggml.scores: expected an array of %u numbers", (unsigned)v->n);
    bool scored = kind == VOCAB_SPM || kind == VOCAB_UGM;
    v->scores = scored ? arena_try_alloc(&v->arena, v->n * sizeof *v->scores) : NULL;
    if (scored && !v->scores) return err_set(e, ERR_TOO_LARGE, "vocabulary: no memory for %u scores", (unsigned)v->n);
    for (uint32_t i = 0; i < v->n; i++) {
        int64_t type = TOKEN_NORMAL;
        if (types && !gguf_item_i64(types, &type, i))
            return err_set(e, ERR_CORRUPT, "tokenizer.ggml.token_type: expected integers");
        v->attr[i] = type >= TOKEN_NORMAL && type <= TOKEN_BYTE ? (uint8_t)type : TOKEN_NORMAL;
        if (!scored) continue;
        v->scores[i] = 0.0f;
        if (!scores || gguf_item_f32(scores, &v->scores[i], i)) continue;
        int64_t whole;
        if (!gguf_item_i64(scores, &whole, i))
            return err_set(e, ERR_CORRUPT, "tokenizer.ggml.scores: expected numbers");
        v->scores[i] = (float)whole;
    }
    return true;
}

/* Sets raw[id] and says whether ordinary text may become this token. */
static bool set_raw(struct vocab *v, uint32_t id, struct str text, char **blob, enum vocab_kind kind)
{
    size_t n;
    int byte = v->byte_level || kind == VOCAB_WPM ? -1 : byte_token_value(text);
    v->raw[id] = text;
    if (byte >= 0 && v->attr[id] != TOKEN_CONTROL) {
        **blob = (char)byte;
        v->raw[id] = (struct str){*blob, 1};
        *blob += 1;
        v->attr[id] = TOKEN_BYTE;
        v->byte_id[byte] = id;
        return false;
    }
    if (v->attr[id] == TOKEN_CONTROL || v->attr[id] == TOKEN_UNKNOWN || v->attr[id] == TOKEN_BYTE || text.len == 0)
        return false;
    bool user = v->attr[id] == TOKEN_USER_DEFINED;
    if (user && v->byte_level) return true; /* written as it stands */
    bool ordinary = vocab_raw_of_text(v, *blob, &n, text);
    if (!ordinary && v->byte_level) return false;
    if (n != text.len) v->raw[id] = (struct str){*blob, n};
    *blob += n != text.len ? n : 0;
    return ordinary || user;
}

static bool add_tokens(struct vocab *v, enum vocab_kind kind, struct err *e)
{
    size_t bytes = 0;
    struct str text;
    for (uint32_t i = 0; i < v->n; i++) {
        if (!gguf_item_str(v->gguf, &text, v->tokens, i))
            return err_set(e, ERR_CORRUPT, "tokenizer.ggml.tokens: expected strings");
        bytes += text.len;
    }
    char *blob = arena_try_alloc(&v->arena, bytes + v->n + 1);
    if (!blob) return err_set(e, ERR_TOO_LARGE, "vocabulary: no memory for %zu bytes of texts", bytes);
    for (uint32_t i = 0; i < v->n; i++) {
        text = vocab_text(v, i);
        if (!text.ptr) text.ptr = blob;
        bool ordinary = set_raw(v, i, text, &blob, kind);
        if (v->attr[i] != TOKEN_NORMAL && text.len > 0) (void)strmap_add(&v->verbatim, text, i);
        /* Two texts with the same raw form: the one that text gives comes first. */
        uint32_t other = ordinary ? vocab_find_raw(v, v->raw[i].ptr, v->raw[i].len) : TOKEN_NONE;
        atomic_init(&v->own_state[i], ordinary && other == TOKEN_NONE ? OWN_UNKNOWN : OWN_NO);
        if (ordinary && other == TOKEN_NONE) insert(v, i);
    }
    return true;
}

bool vocab_open(struct vocab *v, const struct gguf *g, enum vocab_kind kind, bool byte_level, struct err *e)
{
    *v = (struct vocab){.gguf = g, .byte_level = byte_level};
    arena_init(&v->arena, MAX_BYTES);
    strmap_init(&v->verbatim);
    v->tokens = gguf_find(g, "tokenizer.ggml.tokens");
    if (!v->tokens || v->tokens->type != GGUF_ARRAY || v->tokens->item_type != GGUF_STRING)
        return err_set(e, ERR_CORRUPT, "tokenizer.ggml.tokens: expected an array of strings");
    if (v->tokens->n_items == 0 || v->tokens->n_items > MAX_TOKENS)
        return err_set(e, ERR_CORRUPT, "tokenizer.ggml.tokens: %llu items, expected 1 to %llu",
                       (unsigned long long)v->tokens->n_items, (unsigned long long)MAX_TOKENS);
    v->n = v->n_all = (uint32_t)v->tokens->n_items;
    v->cap_all = v->n + 256;
    rng_secure(&v->seed, sizeof v->seed);
    for (size_t i = 0; i < 256; i++) v->byte_id[i] = TOKEN_NONE;
    v->raw = arena_try_alloc(&v->arena, v->cap_all * sizeof *v->raw);
    v->attr = arena_try_alloc(&v->arena, v->n);
    v->flags = arena_try_alloc(&v->arena, v->n);
    v->own_state = arena_try_alloc(&v->arena, v->n);
    if (!v->raw || !v->attr || !v->flags || !v->own_state)
        return err_set(e, ERR_TOO_LARGE, "vocabulary: no memory for %u tokens", (unsigned)v->n);
    memset(v->flags, 0, v->n);
    return read_attrs(v, kind, e);
}

bool vocab_index(struct vocab *v, enum vocab_kind kind, struct err *e)
{
    if (!alloc_slots(v, v->cap_all, e) || !add_tokens(v, kind, e)) return false;
    for (size_t i = 0; v->byte_level && i < 256; i++) {
        char byte = (char)i;
        v->byte_id[i] = vocab_find_raw(v, &byte, 1);
    }
    return true;
}

void vocab_deinit(struct vocab *v)
{
    strmap_deinit(&v->verbatim);
    arena_deinit(&v->arena);
}
