/* lexeme: JSON strings byte by byte: escapes are undone on the way, the automaton sees the decoded text, characters are
 * counted. Also decoding a finished string, and hashing a finished value for uniqueItems. */
#include "base/hash.h"
#include "base/utf8.h"
#include "grammar/machine_internal.h"

static const char escapes_from[] = "\"\\/bfnrt", escapes_to[] = "\"\\/\b\f\n\r\t";

bool lex_plain(struct machine *m, struct thread *t, uint8_t byte, uint32_t max)
{
    int32_t to = m->liberal ? dfa_step(m->g, t->dfa, t->state, byte) : dfa_lead(m->g, t->dfa, t->state, byte);
    if (to < 0) return false;
    t->state = (uint32_t)to;
    return (byte & 0xc0) == 0x80 || ++t->count <= max;
}

static bool feed_char(struct machine *m, struct thread *t, uint32_t c, uint32_t max)
{
    char bytes[4];
    size_t n = utf8_encode(bytes, c);
    for (size_t i = 0; i < n; i++)
        if (!lex_plain(m, t, (uint8_t)bytes[i], max)) return false;
    return true;
}

static bool would_feed(struct machine *m, const struct thread *t, uint8_t byte)
{
    return dfa_lead(m->g, t->dfa, t->state, byte) >= 0;
}

/* \u in generated text: freely where any text may follow; elsewhere for the control characters that have no other form.
 */
static bool hex_viable(struct machine *m, const struct thread *t, unsigned digits)
{
    if (m->liberal || t->dfa->states[t->state].any) return true;
    for (unsigned c = 0; c < 32; c++)
        if (c >> (4 * (4 - digits)) == t->hex && would_feed(m, t, (uint8_t)c)) return true;
    return false;
}

static bool escape_viable(struct machine *m, const struct thread *t)
{
    if (m->liberal || t->dfa->states[t->state].any) return true;
    for (size_t i = 0; escapes_to[i]; i++)
        if (would_feed(m, t, (uint8_t)escapes_to[i])) return true;
    for (unsigned c = 0; c < 32; c++)
        if (would_feed(m, t, (uint8_t)c)) return true;
    return false;
}

/* Halves of pairs: what the first two digits already decide. */
static bool half_viable(const struct thread *t, unsigned digits)
{
    if (t->high) return digits == 1 ? t->hex == 0xd : digits != 2 || (t->hex >= 0xdc && t->hex <= 0xdf);
    return digits != 2 || t->hex < 0xdc || t->hex > 0xdf;
}

static enum lexed lex_hex(struct machine *m, struct thread *t, uint8_t byte, uint32_t max)
{
    int d = byte >= '0' && byte <= '9'                 ? byte - '0'
            : (byte | 32) >= 'a' && (byte | 32) <= 'f' ? (byte | 32) - 'a' + 10
                                                       : -1;
    if (d < 0) return LEX_DEAD;
    unsigned digits = t->escape++ - 1u;
    t->hex = (uint16_t)(t->hex << 4 | d);
    if (!half_viable(t, digits) || !hex_viable(m, t, digits)) return LEX_DEAD;
    if (digits < 4) return LEX_MORE;
    uint32_t c = t->hex;
    t->escape = 0;
    t->hex = 0;
    if (c >= 0xd800 && c < 0xdc00) {
        t->high = (uint16_t)c;
        t->escape = 6;
        return LEX_MORE;
    }
    if (t->high) c = 0x10000 + (((uint32_t)t->high - 0xd800) << 10) + (c - 0xdc00);
    t->high = 0;
    return feed_char(m, t, c, max) ? LEX_MORE : LEX_DEAD;
}

static enum lexed lex_escape(struct machine *m, struct thread *t, uint8_t byte, uint32_t max)
{
    if (t->escape == 6) return t->escape = 7, byte == '\\' ? LEX_MORE : LEX_DEAD;
    if (t->escape == 7) return t->escape = 2, byte == 'u' ? LEX_MORE : LEX_DEAD;
    if (t->escape > 1) return lex_hex(m, t, byte, max);
    if (byte == 'u') {
        t->escape = 2;
        return hex_viable(m, t, 0) ? LEX_MORE : LEX_DEAD;
    }
    const char *at = byte ? strchr(escapes_from, byte) : NULL;
    if (byte == '\'' && t->kind == THREAD_STRING && t->aux) {
        t->escape = 0;
        return lex_plain(m, t, byte, max) ? LEX_MORE : LEX_DEAD;
    }
    if (!at) return LEX_DEAD;
    t->escape = 0;
    return lex_plain(m, t, (uint8_t)escapes_to[at - escapes_from], max) ? LEX_MORE : LEX_DEAD;
}

enum lexed lex_string(struct machine *m, struct thread *t, uint8_t byte, uint32_t min, uint32_t max)
{
    if (t->escape) return lex_escape(m, t, byte, max);
    uint8_t quote = t->kind == THREAD_STRING && t->aux ? (uint8_t)t->aux : '"'; /* Python's */
    if (byte == quote) return t->dfa->states[t->state].accepts && t->count >= min ? LEX_CLOSED : LEX_DEAD;
    if (byte == '\\') {
        t->escape = 1;
        return t->count < max && escape_viable(m, t) ? LEX_MORE : LEX_DEAD;
    }
    if (byte < 0x20) return LEX_DEAD;
    return lex_plain(m, t, byte, max) ? LEX_MORE : LEX_DEAD;
}

static uint32_t hex4(const char *s)
{
    uint32_t v = 0;
    for (int i = 0; i < 4; i++) {
        char c = s[i];
        v = v << 4 | (uint32_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
    }
    return v;
}

bool decode_string(struct buf *out, struct str raw)
{
    buf_clear(out);
    for (size_t i = 0; i < raw.len; i++) {
        char c = raw.ptr[i];
        if (c != '\\') {
            buf_append_char(out, c);
            continue;
        }
        if (++i >= raw.len) break;
        if (raw.ptr[i] != 'u') {
            const char *at = strchr(escapes_from, raw.ptr[i]);
            if (at && raw.ptr[i]) buf_append_char(out, escapes_to[at - escapes_from]);
            continue;
        }
        if (i + 4 >= raw.len) break;
        uint32_t cp = hex4(raw.ptr + i + 1);
        i += 4;
        if (cp >= 0xd800 && cp < 0xdc00 && i + 6 < raw.len) {
            cp = 0x10000 + ((cp - 0xd800) << 10) + (hex4(raw.ptr + i + 3) - 0xdc00);
            i += 6;
        }
        buf_append_utf8(out, cp);
    }
    return !out->failed;
}

/* ---- equality of values ---- */

static uint64_t hash_json(const json_t *v, unsigned depth)
{
    uint64_t h = 0, kind = json_is_object(v)   ? 1
                           : json_is_array(v)  ? 2
                           : json_is_string(v) ? 3
                                               : 5 + (uint64_t)json_typeof(v);
    size_t i;
    const char *key;
    json_t *x;
    if (depth > 200) return 0;
    switch (json_typeof(v)) {
    case JSON_OBJECT: /* members in any order: a sum */
        json_object_foreach((json_t *)(uintptr_t)v, key, x)
        {
            uint64_t w[2] = {hash64(key, strlen(key), 17), hash_json(x, depth + 1)};
            h += hash64(w, sizeof w, 19);
        }
        break;
    case JSON_ARRAY:
        json_array_foreach(v, i, x)
        {
            uint64_t w[2] = {h, hash_json(x, depth + 1)};
            h = hash64(w, sizeof w, 23);
        }
        break;
    case JSON_STRING: h = hash64(json_string_value(v), json_string_length(v), 29); break;
    case JSON_INTEGER:
    case JSON_REAL: {
        struct decimal_key k;
        struct decimal d;
        decimal_of_json(&k, v);
        decimal_wide(&d, &k);
        h = decimal_hash(&d);
        kind = 4;
        break;
    }
    default: break;
    }
    return hash64(&h, sizeof h, kind);
}

uint64_t json_value_hash(struct str json, bool *ok)
{
    size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL;
    json_t *v = json_loadb(json.ptr, json.len, flags, NULL);
    if (!v) v = json_loadb(json.ptr, json.len, flags | JSON_DECODE_INT_AS_REAL, NULL);
    *ok = v != NULL;
    uint64_t h = v ? hash_json(v, 0) : 0;
    json_decref(v);
    return h;
}
