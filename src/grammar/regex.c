/* regex: the regular part of ECMA-262 patterns (with the u flag's reading of characters) to a term over UTF-8.
 * Anchors are resolved while building: a pattern denotes the set of whole texts in which it matches somewhere.
 * Unsupported: lookaround, back references, \b \B. */
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "grammar/grammar_internal.h"

#define MAX_PATTERN 20000
#define MAX_DEPTH 100
#define MAX_RANGES 4096

/* A piece is the terms of an expression by what its edges need: [start][end], where start = the match must begin at the
 * text's start, end = it must end at the text's end. So (^a|b$)c? stays exact without lookaround. */
struct piece {
    uint32_t t[2][2];
};

struct parser {
    struct grammar *g;
    struct str s;
    size_t at;
    unsigned depth;
    bool raw; /* a GBNF or stand-alone use: no difference today but for messages */
    struct err *e;
};

static bool fail(struct parser *p, const char *what)
{
    if (p->e->kind == ERR_NONE) err_set(p->e, ERR_INVALID, "%s at character %zu of the pattern", what, p->at + 1);
    return false;
}

static struct piece piece_of(uint32_t t)
{
    return (struct piece){{{t, TERM_NONE}, {TERM_NONE, TERM_NONE}}};
}

static void merge(struct parser *p, struct piece *out, int start, int end, uint32_t t)
{
    out->t[start][end] = term_alt2(p->g, out->t[start][end], t);
}

/* Before something that must stand at the text's start only the empty text fits; likewise after an end. */
static struct piece join(struct parser *p, const struct piece *x, const struct piece *y)
{
    struct piece r = piece_of(TERM_NONE);
    for (int i = 0; i < 16; i++) {
        int xs = i & 1, xe = i >> 1 & 1, ys = i >> 2 & 1, ye = i >> 3 & 1;
        uint32_t a = x->t[xs][xe], b = y->t[ys][ye];
        if (a == TERM_NONE || b == TERM_NONE) continue;
        if (ys) {
            if (!p->g->terms.items[a].nullable) continue;
            a = TERM_EPS;
        }
        if (xe) {
            if (!p->g->terms.items[b].nullable) continue;
            b = TERM_EPS;
        }
        merge(p, &r, xs | ys, xe | ye, term_cat(p->g, a, b));
    }
    return r;
}

static bool has_edges(const struct piece *x)
{
    return x->t[0][1] != TERM_NONE || x->t[1][0] != TERM_NONE || x->t[1][1] != TERM_NONE;
}

static struct piece repeat(struct parser *p, const struct piece *x, uint32_t min, uint32_t max)
{
    struct piece r = piece_of(term_repeat(p->g, x->t[0][0], min, max));
    if (!has_edges(x)) return r;
    /* An edge can hold in the first (start) or last (end) round, and rounds around it may only be empty: the union over
     * how often the plain part comes between is covered by one edged round at each side. */
    struct piece start = piece_of(TERM_NONE), end = start, both = start;
    start.t[1][0] = x->t[1][0];
    end.t[0][1] = x->t[0][1];
    both.t[1][1] = x->t[1][1];
    for (int k = 0; k < 4; k++) {
        uint32_t edged = (uint32_t)((k & 1) + (k >> 1 & 1));
        if (k == 0 || max < edged) continue;
        uint32_t most = max == REPEAT_MAX ? max : max - edged;
        struct piece mid = piece_of(term_repeat(p->g, x->t[0][0], min > edged ? min - edged : 0, most));
        struct piece row = k & 1 ? join(p, &start, &mid) : mid;
        if (k & 2) row = join(p, &row, &end);
        for (int i = 0; i < 4; i++) merge(p, &r, i & 1, i >> 1, row.t[i & 1][i >> 1]);
    }
    if (max > 0 && (min <= 1 || p->g->terms.items[x->t[1][1]].nullable)) merge(p, &r, 1, 1, both.t[1][1]);
    return r;
}

/* ---- characters ---- */

struct ranges { /* in the grammar's arena */
    struct codepoints *r;
    size_t n, cap;
};

static bool add_range(struct parser *p, struct ranges *rs, uint32_t lo, uint32_t hi)
{
    if (rs->n == MAX_RANGES) return fail(p, "a character class with too many ranges");
    if (rs->n == rs->cap) {
        size_t cap = rs->cap ? rs->cap * 2 : 8;
        struct codepoints *more = grammar_alloc(p->g, cap * sizeof *more);
        if (!more) return fail(p, "no memory for a character class");
        if (rs->n) memcpy(more, rs->r, rs->n * sizeof *more);
        rs->r = more;
        rs->cap = cap;
    }
    rs->r[rs->n++] = (struct codepoints){lo, hi};
    return true;
}

static void sort_ranges(struct ranges *rs)
{
    for (size_t i = 1; i < rs->n; i++)
        for (size_t j = i; j > 0 && rs->r[j - 1].lo > rs->r[j].lo; j--) {
            struct codepoints c = rs->r[j];
            rs->r[j] = rs->r[j - 1];
            rs->r[j - 1] = c;
        }
}

static bool invert(struct parser *p, struct ranges *out, struct ranges *in)
{
    uint32_t from = 0;
    sort_ranges(in);
    for (size_t i = 0; i < in->n; i++) {
        if (in->r[i].lo > from && !add_range(p, out, from, in->r[i].lo - 1)) return false;
        if (in->r[i].hi + 1 > from) from = in->r[i].hi + 1;
    }
    return from > 0x10ffff || add_range(p, out, from, 0x10ffff);
}

/* \d \w \s and their opposites; false when c is none of them. */
static bool class_escape(struct parser *p, struct ranges *out, char c)
{
    static const struct codepoints digit[] = {{'0', '9'}}, word[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}},
                                   space[] = {{9, 13},          {32, 32},         {0xa0, 0xa0},     {0x1680, 0x1680},
                                              {0x2000, 0x200a}, {0x2028, 0x2029}, {0x202f, 0x202f}, {0x205f, 0x205f},
                                              {0x3000, 0x3000}, {0xfeff, 0xfeff}};
    struct ranges in = {.n = 0};
    char low = (char)(c | 0x20);
    const struct codepoints *from = low == 'd' ? digit : low == 'w' ? word : low == 's' ? space : NULL;
    size_t n = low == 'd' ? 1 : low == 'w' ? 4 : 10;
    if (!from) return false;
    for (size_t i = 0; i < n; i++)
        if (!add_range(p, c == low ? out : &in, from[i].lo, from[i].hi)) return false;
    return c == low || invert(p, out, &in);
}

/* Behind \p or \P: {name}. */
static bool property_escape(struct parser *p, struct ranges *out, bool negative)
{
    struct ranges in = {.n = 0};
    size_t from = p->at + 1, end = from;
    if (p->at == p->s.len || p->s.ptr[p->at] != '{') return fail(p, "\\p without a name in braces");
    while (end < p->s.len && p->s.ptr[end] != '}') end++;
    struct codepoints *list = end < p->s.len ? mem_try_alloc(MAX_RANGES * sizeof *list) : NULL;
    if (!list) return fail(p, "a \\p{...} that is not closed");
    size_t n = unicode_property(list, MAX_RANGES, str_slice(p->s, from, end));
    bool ok = n != SIZE_MAX || fail(p, "an unknown Unicode property");
    for (size_t i = 0; ok && i < n; i++) ok = add_range(p, negative ? &in : out, list[i].lo, list[i].hi);
    mem_free(list);
    p->at = end + 1;
    return ok && (!negative || invert(p, out, &in));
}

static bool hex_digits(struct parser *p, uint32_t *out, size_t n)
{
    uint32_t v = 0;
    if (p->s.len - p->at < n) return fail(p, "an unfinished \\u or \\x escape");
    for (size_t i = 0; i < n; i++) {
        char c = p->s.ptr[p->at + i];
        uint32_t d = c >= '0' && c <= '9'                 ? (uint32_t)(c - '0')
                     : (c | 32) >= 'a' && (c | 32) <= 'f' ? (uint32_t)((c | 32) - 'a' + 10)
                                                          : 16;
        if (d == 16) return fail(p, "an unfinished \\u or \\x escape");
        v = v * 16 + d;
    }
    p->at += n;
    *out = v;
    return true;
}

static bool unicode_escape(struct parser *p, uint32_t *out)
{
    if (p->at < p->s.len && p->s.ptr[p->at] == '{') {
        size_t n = 0;
        p->at++;
        while (p->at + n < p->s.len && p->s.ptr[p->at + n] != '}') n++;
        if (n == 0 || n > 6 || p->at + n >= p->s.len || !hex_digits(p, out, n)) return fail(p, "a bad \\u{...} escape");
        p->at++;
        return *out <= 0x10ffff || fail(p, "a \\u{...} escape above 10FFFF");
    }
    if (!hex_digits(p, out, 4)) return false;
    uint32_t low;
    size_t back = p->at;
    if (*out >= 0xd800 && *out < 0xdc00 && p->s.len - p->at >= 6 && memcmp(p->s.ptr + p->at, "\\u", 2) == 0) {
        p->at += 2;
        if (!hex_digits(p, &low, 4)) return false;
        if (low >= 0xdc00 && low < 0xe000) *out = 0x10000 + ((*out - 0xd800) << 10) + (low - 0xdc00);
        else p->at = back;
    }
    return true;
}

/* After a backslash: one character. Sets *is_class instead when ranges were added to rs. */
static bool escape(struct parser *p, uint32_t *out, struct ranges *rs, bool *is_class, bool in_class)
{
    if (p->at == p->s.len) return fail(p, "a backslash at the end");
    char c = p->s.ptr[p->at];
    static const char from[] = "tnvfr0", to[] = "\t\n\v\f\r\0";
    *is_class = false;
    if (strchr("dDwWsS", c)) {
        p->at++;
        *is_class = true;
        return class_escape(p, rs, c);
    }
    if ((c == 'b' || c == 'B') && !in_class) return fail(p, "\\b (word borders are not supported)");
    if ((c >= '1' && c <= '9') || c == 'k') return fail(p, "a back reference (not supported)");
    if (c == 'p' || c == 'P') {
        p->at++;
        *is_class = true;
        return property_escape(p, rs, c == 'P');
    }
    if (c == 'u' || c == 'x') {
        p->at++;
        return c == 'u' ? unicode_escape(p, out) : hex_digits(p, out, 2);
    }
    if (c == 'c' && p->at + 1 < p->s.len && ((p->s.ptr[p->at + 1] | 32) >= 'a' && (p->s.ptr[p->at + 1] | 32) <= 'z')) {
        *out = (uint32_t)p->s.ptr[p->at + 1] & 31;
        p->at += 2;
        return true;
    }
    if (c == 'b') return p->at++, *out = 8, true;
    const char *known = strchr(from, c);
    if (c && known) return p->at++, *out = (uint8_t)to[known - from], true;
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return fail(p, "an unknown escape");
    size_t n = utf8_decode(str_slice(p->s, p->at, p->s.len), out);
    p->at += n;
    return n > 0 || fail(p, "bytes that are not UTF-8");
}

static bool class_member(struct parser *p, uint32_t *c, struct ranges *rs, bool *is_class)
{
    *is_class = false;
    if (p->s.ptr[p->at] == '\\') {
        p->at++;
        return escape(p, c, rs, is_class, true);
    }
    size_t n = utf8_decode(str_slice(p->s, p->at, p->s.len), c);
    p->at += n;
    return n > 0 || fail(p, "bytes that are not UTF-8");
}

bool regex_class(struct grammar *g, uint32_t *out, struct str s, size_t *at, struct err *e)
{
    struct parser p = {.g = g, .s = s, .at = *at, .e = e};
    struct ranges rs = {.n = 0}, other = {.n = 0};
    bool negative = p.at < s.len && s.ptr[p.at] == '^', is_class, second;
    uint32_t lo, hi;
    p.at += negative;
    while (p.at < s.len && s.ptr[p.at] != ']') {
        if (!class_member(&p, &lo, &rs, &is_class)) return false;
        if (is_class) continue;
        hi = lo;
        if (p.at + 1 < s.len && s.ptr[p.at] == '-' && s.ptr[p.at + 1] != ']') {
            p.at++;
            if (!class_member(&p, &hi, &rs, &second)) return false;
            if (second) { /* [a-\d]: the hyphen stands for itself */
                if (!add_range(&p, &rs, '-', '-')) return false;
                hi = lo;
            }
            if (hi < lo) return fail(&p, "a character range in the wrong order");
        }
        if (!add_range(&p, &rs, lo, hi)) return false;
    }
    if (p.at == s.len) return fail(&p, "a character class that is not closed");
    *at = p.at + 1;
    if (negative && !invert(&p, &other, &rs)) return false;
    *out = term_chars(g, negative ? other.r : rs.r, negative ? other.n : rs.n);
    return true;
}

/* ---- structure ---- */

static bool alternatives(struct parser *p, struct piece *out);

static bool group(struct parser *p, struct piece *out)
{
    if (++p->depth > MAX_DEPTH) return fail(p, "groups nested too deeply");
    struct str rest = str_slice(p->s, p->at, p->s.len);
    if (str_starts(rest, STR("?:"))) p->at += 2;
    else if (str_starts(rest, STR("?=")) || str_starts(rest, STR("?!"))) return fail(p, "lookahead (not supported)");
    else if (str_starts(rest, STR("?<=")) || str_starts(rest, STR("?<!"))) return fail(p, "lookbehind (not supported)");
    else if (str_starts(rest, STR("?<"))) {
        ptrdiff_t end = str_find(rest, STR(">"), 0);
        if (end < 0) return fail(p, "a group name that is not closed");
        p->at += (size_t)end + 1;
    } else if (str_starts(rest, STR("?"))) return fail(p, "an unknown kind of group");
    if (!alternatives(p, out)) return false;
    if (p->at == p->s.len) return fail(p, "a group that is not closed");
    p->at++;
    p->depth--;
    return true;
}

static bool atom(struct parser *p, struct piece *out)
{
    static const struct codepoints dot[] = {{0, 9}, {11, 12}, {14, 0x2027}, {0x202a, 0x10ffff}};
    char c = p->s.ptr[p->at];
    struct ranges rs = {.n = 0};
    uint32_t cp, t;
    bool is_class;
    *out = piece_of(TERM_NONE);
    switch (c) {
    case '(': p->at++; return group(p, out);
    case '^': p->at++; return out->t[1][0] = TERM_EPS, true;
    case '$': p->at++; return out->t[0][1] = TERM_EPS, true;
    case '.': p->at++; return *out = piece_of(term_chars(p->g, dot, 4)), true;
    case '*':
    case '+':
    case '?': return fail(p, "a repetition of nothing");
    case '[':
        p->at++;
        if (!regex_class(p->g, &t, p->s, &p->at, p->e)) return false;
        return *out = piece_of(t), true;
    case '\\':
        p->at++;
        if (!escape(p, &cp, &rs, &is_class, false)) return false;
        if (!is_class && !add_range(p, &rs, cp, cp)) return false;
        return *out = piece_of(term_chars(p->g, rs.r, rs.n)), true;
    default: break;
    }
    size_t n = utf8_decode(str_slice(p->s, p->at, p->s.len), &cp);
    if (n == 0) return fail(p, "bytes that are not UTF-8");
    p->at += n;
    *out = piece_of(term_bytes(p->g, str_slice(p->s, p->at - n, p->at)));
    return true;
}

static bool number(struct parser *p, uint32_t *out)
{
    size_t from = p->at;
    uint64_t v = 0;
    for (; p->at < p->s.len && p->s.ptr[p->at] >= '0' && p->s.ptr[p->at] <= '9'; p->at++)
        if (v < REPEAT_MAX) v = v * 10 + (uint64_t)(p->s.ptr[p->at] - '0');
    *out = v >= REPEAT_MAX ? REPEAT_MAX - 1 : (uint32_t)v;
    return p->at > from;
}

bool regex_bounds(struct str s, size_t *at, uint32_t *min, uint32_t *max)
{
    struct parser p = {.s = s, .at = *at + 1};
    bool has_min = number(&p, min), comma = p.at < s.len && s.ptr[p.at] == ',';
    if (!has_min) *min = 0;
    *max = comma ? REPEAT_MAX : *min;
    if (comma) {
        p.at++;
        bool has_max = number(&p, max);
        if (!has_max) *max = REPEAT_MAX;
        if (!has_min && !has_max) return false;
    } else if (!has_min) return false;
    if (p.at >= s.len || s.ptr[p.at] != '}') return false;
    *at = p.at + 1;
    return true;
}

static bool item(struct parser *p, struct piece *out)
{
    if (!atom(p, out)) return false;
    while (p->at < p->s.len) {
        char c = p->s.ptr[p->at];
        uint32_t min = c == '+', max = c == '?' ? 1 : REPEAT_MAX;
        if (c == '{') {
            if (!regex_bounds(p->s, &p->at, &min, &max)) return true; /* a brace that stands for itself */
            if (max < min) return fail(p, "a repetition whose bounds are in the wrong order");
        } else if (c == '*' || c == '+' || c == '?') p->at++;
        else return true;
        *out = repeat(p, out, min, max);
        if (p->at < p->s.len && p->s.ptr[p->at] == '?') p->at++; /* lazy: the same texts */
    }
    return true;
}

static bool sequence(struct parser *p, struct piece *out)
{
    /* Built from the right end in blocks, because a chain of joins on the left would copy it each time. */
    struct piece parts[64];
    size_t n = 0;
    *out = piece_of(TERM_EPS);
    bool first = true;
    for (;;) {
        bool more = p->at < p->s.len && p->s.ptr[p->at] != '|' && p->s.ptr[p->at] != ')';
        if (more) {
            if (!item(p, &parts[n++])) return false;
        }
        if (n == 64 || (!more && n > 0)) {
            struct piece block = parts[n - 1];
            while (--n > 0) block = join(p, &parts[n - 1], &block);
            *out = first ? block : join(p, out, &block);
            first = false;
        }
        if (!more) return true;
    }
}

static bool alternatives(struct parser *p, struct piece *out)
{
    uint32_t list[4][64];
    size_t n = 0;
    *out = piece_of(TERM_NONE);
    for (;;) {
        struct piece x;
        if (!sequence(p, &x)) return false;
        for (int i = 0; i < 4; i++) list[i][n] = x.t[i & 1][i >> 1];
        n++;
        bool more = p->at < p->s.len && p->s.ptr[p->at] == '|';
        if (n == 63 || !more) {
            for (int i = 0; i < 4; i++) {
                list[i][n] = out->t[i & 1][i >> 1];
                out->t[i & 1][i >> 1] = term_alt(p->g, list[i], n + 1);
            }
            n = 0;
        }
        if (!more) return true;
        p->at++;
    }
}

bool regex_parse(struct grammar *g, uint32_t *out, struct str pattern, struct err *e)
{
    struct err local = {0};
    struct parser p = {.g = g, .s = pattern, .e = e ? e : &local};
    struct piece x;
    if (pattern.len > MAX_PATTERN)
        return err_set(p.e, ERR_INVALID, "a pattern of %zu bytes; at most %d are supported", pattern.len, MAX_PATTERN);
    p.e->kind = ERR_NONE;
    if (!alternatives(&p, &x)) return false;
    if (p.at < pattern.len) return fail(&p, "a closing parenthesis too many");
    uint32_t any = g->terms.any_text, all = TERM_NONE;
    for (int start = 0; start < 2; start++)
        for (int end = 0; end < 2; end++) {
            uint32_t t = x.t[start][end];
            if (t == TERM_NONE) continue;
            if (!end) t = term_cat(g, t, any);
            if (!start) t = term_cat(g, any, t);
            all = term_alt2(g, all, t);
        }
    *out = all;
    return !g->exhausted || err_set(p.e, ERR_TOO_LARGE, "a pattern that needs more than the grammar's memory budget");
}
