/* strings: string values and the builder that makes them. A string knows which of its bytes were copied from the
 * context (its taint); the builder keeps that through every concatenation and cut. Memory is the run's arena. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "jinja/jinja_internal.h"

struct vstr *vstr_new(struct run *r, const char *ptr, size_t len, enum taint taint)
{
    struct vstr *s = run_alloc(r, sizeof *s);
    if (s) *s = (struct vstr){.ptr = ptr, .len = len, .n_chars = SIZE_MAX, .taint = len ? taint : TAINT_NONE};
    return s;
}

bool str_value(struct run *r, struct value *out, struct str s)
{
    struct vstr *v = vstr_new(r, s.ptr ? s.ptr : "", s.len, TAINT_NONE);
    *out = (struct value){.kind = V_STR, .s = v};
    return v != NULL;
}

bool cstr_value(struct run *r, struct value *out, const char *s)
{
    return str_value(r, out, str_from(s));
}

struct str vstr_str(const struct vstr *s)
{
    return (struct str){s->ptr, s->len};
}

size_t chars_between(const struct vstr *s, size_t from, size_t to)
{
    size_t n = 0;
    for (size_t i = from; i < to; i++) n += ((unsigned char)s->ptr[i] & 0xc0) != 0x80;
    return n;
}

size_t vstr_chars(struct vstr *s)
{
    if (s->n_chars == SIZE_MAX) s->n_chars = chars_between(s, 0, s->len);
    return s->n_chars;
}

bool vstr_ascii(struct vstr *s)
{
    return vstr_chars(s) == s->len;
}

size_t vstr_byte_at(struct vstr *s, size_t char_index)
{
    if (char_index >= vstr_chars(s)) return s->len;
    if (vstr_ascii(s)) return char_index;
    size_t i = 0;
    for (size_t seen = 0;; i++) {
        if (((unsigned char)s->ptr[i] & 0xc0) == 0x80) continue;
        if (seen++ == char_index) return i;
    }
}

/* First span that ends behind `from`. */
static size_t span_at(const struct vstr *s, size_t from)
{
    size_t lo = 0, hi = s->n_spans;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (s->spans[mid].to <= from) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

bool vstr_tainted(const struct vstr *s, size_t from, size_t to)
{
    if (s->taint != TAINT_SOME) return s->taint == TAINT_ALL && from < to;
    size_t i = span_at(s, from);
    return i < s->n_spans && s->spans[i].from < to;
}

bool vstr_sub(struct run *r, struct value *out, struct vstr *s, size_t from, size_t to)
{
    if (from == 0 && to == s->len) {
        *out = (struct value){.kind = V_STR, .s = s};
        return true;
    }
    if (from > to) to = from;
    struct vstr *sub = vstr_new(r, s->ptr + from, to - from, s->taint);
    if (!sub) return false;
    sub->markup = s->markup;
    if (s->n_chars == s->len) sub->n_chars = sub->len;
    *out = (struct value){.kind = V_STR, .s = sub};
    if (sub->taint != TAINT_SOME) return true;
    size_t first = span_at(s, from), end = first;
    while (end < s->n_spans && s->spans[end].from < to) end++;
    sub->taint = end > first ? TAINT_SOME : TAINT_NONE;
    if (end == first) return true;
    struct jinja_span *spans = run_alloc(r, (end - first) * sizeof *spans);
    if (!spans) return false;
    for (size_t i = first; i < end; i++) {
        struct jinja_span x = s->spans[i];
        spans[i - first] = (struct jinja_span){x.from > from ? x.from - from : 0, (x.to < to ? x.to : to) - from};
    }
    sub->spans = spans;
    sub->n_spans = end - first;
    if (sub->n_spans == 1 && spans[0].from == 0 && spans[0].to == sub->len) sub->taint = TAINT_ALL;
    return true;
}

bool char_value(struct run *r, struct value *out, struct vstr *s, size_t at, size_t *size)
{
    unsigned char c = (unsigned char)s->ptr[at];
    uni_at(vstr_str(s), at, size);
    if (c >= 0x80 || s->markup || vstr_tainted(s, at, at + 1)) return vstr_sub(r, out, s, at, at + *size);
    if (!r->chars[c] && !(r->chars[c] = vstr_new(r, s->ptr + at, 1, TAINT_NONE))) return false;
    *out = (struct value){.kind = V_STR, .s = r->chars[c]};
    return true;
}

/* Table of prefixes for long needles (Knuth, Morris, Pratt), so that no text makes the search quadratic. */
static ptrdiff_t find_long(struct run *r, struct str hay, struct str needle, size_t from)
{
    uint32_t *fail = needle.len < UINT32_MAX ? run_alloc(r, needle.len * sizeof *fail) : NULL;
    if (!fail) return -2;
    fail[0] = 0;
    for (size_t i = 1, k = 0; i < needle.len; i++) {
        while (k && needle.ptr[i] != needle.ptr[k]) k = fail[k - 1];
        k += needle.ptr[i] == needle.ptr[k];
        fail[i] = (uint32_t)k;
    }
    for (size_t i = from, k = 0; i < hay.len; i++) {
        while (k && hay.ptr[i] != needle.ptr[k]) k = fail[k - 1];
        k += hay.ptr[i] == needle.ptr[k];
        if (k == needle.len) return (ptrdiff_t)(i + 1 - needle.len);
    }
    return -1;
}

ptrdiff_t bytes_find(struct run *r, struct str hay, struct str needle, size_t from)
{
    if (from > hay.len || hay.len - from < needle.len) return -1;
    if (!needle.len) return (ptrdiff_t)from;
    if (needle.len > 32) {
        size_t chunk = from + 4 * needle.len + 256; /* try nearby first: repeated finds do not pay for the tail */
        ptrdiff_t at = chunk < hay.len ? find_long(r, (struct str){hay.ptr, chunk}, needle, from) : -1;
        if (at == -1) at = find_long(r, hay, needle, from);
        if (at != -2 && !charge(r, at < 0 ? hay.len - from : (size_t)at - from)) return -2;
        return at;
    }
    const char *p = hay.ptr + from, *end = hay.ptr + hay.len - needle.len + 1;
    while (p < end && (p = memchr(p, needle.ptr[0], (size_t)(end - p))) && memcmp(p, needle.ptr, needle.len) != 0) p++;
    bool hit = p && p < end;
    if (!charge(r, hit ? (size_t)(p - hay.ptr) - from : hay.len - from)) return -2;
    return hit ? p - hay.ptr : -1;
}

ptrdiff_t bytes_rfind(struct run *r, struct str hay, struct str needle)
{
    ptrdiff_t best = -1, at = 0;
    if (needle.len <= 32) {
        for (size_t p = hay.len >= needle.len ? hay.len - needle.len + 1 : 0; p-- > 0;) {
            if (memcmp(hay.ptr + p, needle.ptr, needle.len) != 0) continue;
            return charge(r, hay.len - p) ? (ptrdiff_t)p : -2;
        }
        return charge(r, hay.len) ? -1 : -2;
    }
    while ((at = bytes_find(r, hay, needle, (size_t)at)) >= 0) best = at++;
    return at == -2 ? -2 : best;
}

/* ---- building ---- */

void sb_init(struct sb *b, struct run *r)
{
    *b = (struct sb){.r = r};
}

static bool sb_room(struct sb *b, size_t n)
{
    if (b->failed) return false;
    if (b->cap - b->len >= n) return true;
    size_t need;
    b->failed = true;
    if (!size_add(&need, b->len, n) || need > SIZE_MAX / 4) return run_fail(b->r, "string is too long");
    if (b->max_bytes && need > b->max_bytes)
        return run_fail(b->r, "output is over its budget of %zu bytes", b->max_bytes);
    size_t cap = b->cap ? b->cap * 2 : 64;
    if (cap < need) cap = need;
    char *ptr = run_alloc(b->r, cap);
    if (!ptr) return false;
    if (b->len) memcpy(ptr, b->ptr, b->len);
    b->ptr = ptr;
    b->cap = cap;
    b->failed = false;
    return true;
}

static bool sb_span(struct sb *b, size_t from, size_t to)
{
    if (b->n_spans && b->spans[b->n_spans - 1].to == from) {
        b->spans[b->n_spans - 1].to = to;
        return true;
    }
    if (b->n_spans == b->cap_spans) {
        size_t cap = b->cap_spans ? b->cap_spans * 2 : 4;
        struct jinja_span *spans = run_alloc(b->r, cap * sizeof *spans);
        if (!spans) return b->failed = true, false;
        if (b->n_spans) memcpy(spans, b->spans, b->n_spans * sizeof *spans);
        b->spans = spans;
        b->cap_spans = cap;
    }
    b->spans[b->n_spans++] = (struct jinja_span){from, to};
    return true;
}

bool sb_taint(struct sb *b, size_t from)
{
    return from == b->len || sb_span(b, from, b->len);
}

bool sb_put(struct sb *b, const char *ptr, size_t len, bool tainted)
{
    if (!len) return !b->failed;
    if (!sb_room(b, len)) return false;
    memcpy(b->ptr + b->len, ptr, len);
    b->len += len;
    return !tainted || sb_span(b, b->len - len, b->len);
}

bool sb_text(struct sb *b, const char *text)
{
    return sb_put(b, text, strlen(text), false);
}

bool sb_char(struct sb *b, char c, bool tainted)
{
    return sb_put(b, &c, 1, tainted);
}

bool sb_utf8(struct sb *b, uint32_t c, bool tainted)
{
    char tmp[4];
    return sb_put(b, tmp, utf8_encode(tmp, c), tainted);
}

bool sb_fill(struct sb *b, char c, size_t n)
{
    if (!sb_room(b, n)) return false;
    if (n) memset(b->ptr + b->len, c, n);
    b->len += n;
    return true;
}

bool sb_range(struct sb *b, struct vstr *s, size_t from, size_t to)
{
    if (from >= to) return !b->failed;
    if (s->taint != TAINT_SOME) return sb_put(b, s->ptr + from, to - from, s->taint == TAINT_ALL);
    size_t base = b->len;
    if (!sb_put(b, s->ptr + from, to - from, false)) return false;
    for (size_t i = span_at(s, from); i < s->n_spans && s->spans[i].from < to; i++) {
        struct jinja_span x = s->spans[i];
        if (!sb_span(b, base + (x.from > from ? x.from - from : 0), base + (x.to < to ? x.to : to) - from))
            return false;
    }
    return true;
}

bool sb_vstr(struct sb *b, struct vstr *s)
{
    return sb_range(b, s, 0, s->len);
}

bool sb_printf(struct sb *b, const char *fmt, ...)
{
    char tmp[512];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(tmp, sizeof tmp, fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof tmp) return b->failed = true, run_fail(b->r, "number is too long to print");
    return sb_put(b, tmp, (size_t)n, false);
}

bool sb_value(struct sb *b, struct value *out)
{
    if (b->failed) return false;
    struct vstr *s = vstr_new(b->r, b->len ? b->ptr : "", b->len, TAINT_NONE);
    if (!s) return false;
    if (b->n_spans) {
        bool all = b->n_spans == 1 && b->spans[0].from == 0 && b->spans[0].to == b->len;
        s->taint = all ? TAINT_ALL : TAINT_SOME;
        s->spans = b->spans;
        s->n_spans = b->n_spans;
    }
    *out = (struct value){.kind = V_STR, .s = s};
    return true;
}
