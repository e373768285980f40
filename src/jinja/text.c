/* text: string operations that filters and methods share. They cut and join, so that taint follows the bytes. */
#include <string.h>

#include "jinja/jinja_internal.h"

static bool in_set(const struct vstr *set, uint32_t c)
{
    size_t size;
    for (size_t i = 0; i < set->len; i += size)
        if (uni_at(vstr_str(set), i, &size) == c) return true;
    return false;
}

bool text_strip(struct run *r, struct value *out, struct vstr *s, const struct value *chars, int sides)
{
    const struct vstr *set = NULL;
    struct str text = vstr_str(s);
    size_t from = 0, to = s->len, size;
    if (chars->kind != V_MISSING && chars->kind != V_NONE) {
        if (chars->kind != V_STR) return run_fail(r, "strip arg must be None or str, not %s", type_name(*chars));
        set = chars->s;
    }
    while ((sides & 1) && from < to) {
        uint32_t c = uni_at(text, from, &size);
        if (set ? !in_set(set, c) : !uni_is_space(c)) break;
        from += size;
    }
    while ((sides & 2) && to > from) {
        size_t p = to - 1;
        while (p > from && ((unsigned char)s->ptr[p] & 0xc0) == 0x80) p--;
        uint32_t c = uni_at(text, p, &size);
        if (set ? !in_set(set, c) : !uni_is_space(c)) break;
        to = p;
    }
    size_t cut = from + (s->len - to);
    return charge(r, set && cut < SIZE_MAX / (set->len + 1) ? cut * set->len : cut) && vstr_sub(r, out, s, from, to);
}

bool text_replace(struct run *r, struct value *out, struct vstr *s, struct vstr *from, struct vstr *to, int64_t max)
{
    struct sb b;
    size_t at = 0, size;
    sb_init(&b, r);
    for (int64_t n = 0; max < 0 || n < max; n++) {
        ptrdiff_t hit = bytes_find(r, vstr_str(s), vstr_str(from), at);
        if (hit == -2) return false;
        if (hit < 0) break;
        if (!n && hit == 0 && from->len == s->len && !from->len && !to->len) break;
        if (!sb_range(&b, s, at, (size_t)hit) || !sb_vstr(&b, to) || !charge(r, 64)) return false;
        at = (size_t)hit + from->len;
        if (from->len) continue;
        if (at >= s->len) {
            at = s->len;
            break;
        }
        uni_at(vstr_str(s), at, &size); /* an empty needle stands before every character and at the end */
        if (!sb_range(&b, s, at, at + size)) return false;
        at += size;
    }
    if (at == 0 && b.len == 0) return *out = (struct value){.kind = V_STR, .s = s}, true;
    if (!sb_range(&b, s, at, s->len) || !sb_value(&b, out)) return false;
    out->s->markup = s->markup;
    return true;
}

bool text_center(struct run *r, struct value *out, struct vstr *s, int64_t width, struct vstr *fill, int align)
{
    int64_t missing = width - (int64_t)vstr_chars(s);
    struct sb b;
    if (missing <= 0) return *out = (struct value){.kind = V_STR, .s = s}, true;
    if (fill && vstr_chars(fill) != 1) return run_fail(r, "the fill character must be exactly one character long");
    int64_t left = align < 0 ? 0 : align > 0 ? missing : missing / 2 + (missing & width & 1);
    sb_init(&b, r);
    if (!charge(r, (size_t)missing)) return false;
    for (int64_t i = 0; i < missing; i++) {
        if (i == left && !sb_vstr(&b, s)) return false;
        if (!(fill ? sb_vstr(&b, fill) : sb_char(&b, ' ', false))) return false;
    }
    if (left == missing && !sb_vstr(&b, s)) return false;
    if (!sb_value(&b, out)) return false;
    out->s->markup = s->markup;
    return true;
}

/* Length of the line end at `at`, 0 when there is none. */
static size_t line_end(const struct vstr *s, size_t at)
{
    size_t size;
    if (s->ptr[at] == '\r') return at + 1 < s->len && s->ptr[at + 1] == '\n' ? 2 : 1;
    uint32_t c = uni_at(vstr_str(s), at, &size);
    bool ends = (c >= 0x0a && c <= 0x0c) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
    return ends ? size : 0;
}

bool text_splitlines(struct run *r, struct value *out, struct vstr *s, bool keep)
{
    size_t from = 0, at = 0;
    struct value line;
    if (!list_new(r, out, V_LIST, 0)) return false;
    while (at < s->len) {
        size_t end = line_end(s, at);
        if (!end) {
            at++;
            while (at < s->len && ((unsigned char)s->ptr[at] & 0xc0) == 0x80) at++;
            continue;
        }
        if (!vstr_sub(r, &line, s, from, keep ? at + end : at) || !list_push(r, out->l, line)) return false;
        from = at = at + end;
    }
    return from >= s->len || (vstr_sub(r, &line, s, from, s->len) && list_push(r, out->l, line));
}

static bool has_case(struct vstr *s, int what)
{
    bool cased = false;
    size_t size;
    for (size_t i = 0; i < s->len; i += size) {
        uint32_t c = uni_at(vstr_str(s), i, &size);
        bool upper = uni_is_upper(c), lower = uni_is_lower(c), title = uni_is_title(c);
        if (what == TEXT_UPPER ? lower || title : upper || title) return false;
        cased |= upper || lower;
    }
    return cased;
}

static bool is_titled(struct vstr *s)
{
    bool any = false, in_word = false;
    size_t size;
    for (size_t i = 0; i < s->len; i += size) {
        uint32_t c = uni_at(vstr_str(s), i, &size);
        bool upper = uni_is_upper(c) || uni_is_title(c), lower = uni_is_lower(c);
        if ((upper && in_word) || (lower && !in_word)) return false;
        in_word = upper || lower;
        any |= in_word;
    }
    return any;
}

static bool char_is(uint32_t c, int what, bool first)
{
    switch (what) {
    case TEXT_ALPHA: return uni_is_alpha(c);
    case TEXT_DECIMAL: return uni_is_decimal(c);
    case TEXT_DIGIT: return uni_is_digit(c);
    case TEXT_NUMERIC: return uni_is_numeric(c);
    case TEXT_ALNUM: return uni_is_alpha(c) || uni_is_decimal(c) || uni_is_digit(c) || uni_is_numeric(c);
    case TEXT_SPACE: return uni_is_space(c);
    case TEXT_PRINTABLE: return uni_is_printable(c);
    case TEXT_ASCII: return c < 0x80;
    default: return c == '_' || uni_is_alpha(c) || (!first && uni_is_decimal(c));
    }
}

bool text_is(struct vstr *s, int what)
{
    size_t size;
    if (what == TEXT_UPPER || what == TEXT_LOWER) return has_case(s, what);
    if (what == TEXT_TITLE) return is_titled(s);
    for (size_t i = 0; i < s->len; i += size)
        if (!char_is(uni_at(vstr_str(s), i, &size), what, i == 0)) return false;
    return s->len || what == TEXT_ASCII || what == TEXT_PRINTABLE;
}
