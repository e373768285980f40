/* unicode: character classes and case mapping as Python's str has them, from generated tables (tools/make-case-tables).
 * Pure functions; full case mapping with the special cases of one to many (sharp s, ligatures) and final sigma. */
#include "base/utf8.h"
#include "jinja/jinja_internal.h"
#include "jinja/unicode_tables.h"

#define COUNT(a) (sizeof(a) / sizeof *(a))

static bool in_runs(const struct uni_run *runs, size_t n, uint32_t c)
{
    size_t lo = 0, hi = n;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c > runs[mid].last) lo = mid + 1;
        else hi = mid;
    }
    return lo < n && c >= runs[lo].first && (c - runs[lo].first) % runs[lo].step == 0;
}

#define CLASS(name, table)                      \
    bool name(uint32_t c)                       \
    {                                           \
        return in_runs(table, COUNT(table), c); \
    }
CLASS(uni_is_alpha, uni_alpha)
CLASS(uni_is_decimal, uni_decimal)
CLASS(uni_is_digit, uni_digit)
CLASS(uni_is_numeric, uni_numeric)
CLASS(uni_is_printable, uni_printable)
CLASS(uni_is_upper, uni_upper_class)
CLASS(uni_is_lower, uni_lower_class)
CLASS(uni_is_title, uni_title_class)
CLASS(uni_is_ignorable, uni_ignorable)

bool uni_is_space(uint32_t c)
{
    if (c < 0x80) return (c >= 9 && c <= 13) || (c >= 0x1c && c <= 0x20);
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

static size_t map_case(uint32_t out[3], uint32_t c, const struct uni_case *runs, size_t n,
                       const struct uni_special *specials, size_t n_specials)
{
    size_t lo = 0, hi = n;
    out[0] = c;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        if (c > runs[mid].last) lo = mid + 1;
        else hi = mid;
    }
    if (lo < n && c >= runs[lo].first && (c - runs[lo].first) % runs[lo].step == 0) {
        out[0] = (uint32_t)((int32_t)c + runs[lo].delta);
        return 1;
    }
    for (size_t i = 0; c >= 0x80 && i < n_specials; i++) {
        if (specials[i].from != c) continue;
        size_t len = 0;
        while (len < 3 && specials[i].to[len]) out[len] = specials[i].to[len], len++;
        return len;
    }
    return 1;
}

size_t uni_upper(uint32_t out[3], uint32_t c)
{
    return map_case(out, c, uni_to_upper, COUNT(uni_to_upper), uni_special_upper, COUNT(uni_special_upper));
}

size_t uni_lower(uint32_t out[3], uint32_t c)
{
    return map_case(out, c, uni_to_lower, COUNT(uni_to_lower), uni_special_lower, COUNT(uni_special_lower));
}

size_t uni_title(uint32_t out[3], uint32_t c)
{
    return map_case(out, c, uni_to_title, COUNT(uni_to_title), uni_special_title, COUNT(uni_special_title));
}

uint32_t uni_at(struct str s, size_t at, size_t *size)
{
    uint32_t c = 0xfffd;
    if ((unsigned char)s.ptr[at] < 0x80) return *size = 1, (unsigned char)s.ptr[at];
    size_t n = utf8_decode((struct str){s.ptr + at, s.len - at}, &c);
    *size = n ? n : 1;
    return n ? c : 0xfffd;
}

static bool is_cased(uint32_t c)
{
    return uni_is_upper(c) || uni_is_lower(c) || uni_is_title(c);
}

/* Whether the sigma at `at` ends a word: a cased letter before it, none behind it, ignorable characters skipped. */
static bool is_final_sigma(struct str s, size_t at)
{
    size_t p = at, size;
    for (;;) {
        if (p == 0) return false;
        do p--;
        while (p > 0 && ((unsigned char)s.ptr[p] & 0xc0) == 0x80);
        uint32_t c = uni_at(s, p, &size);
        if (uni_is_ignorable(c)) continue;
        if (!is_cased(c)) return false;
        break;
    }
    for (p = at + 2; p < s.len; p += size) {
        uint32_t c = uni_at(s, p, &size);
        if (!uni_is_ignorable(c)) return !is_cased(c);
    }
    return true;
}

static bool put_char(struct sb *b, struct str s, size_t at, uint32_t c, enum case_map map, bool tainted)
{
    uint32_t out[3];
    size_t n;
    if (map == CASE_SWAP) map = uni_is_upper(c) ? CASE_LOWER : uni_is_lower(c) ? CASE_UPPER : CASE_SWAP;
    if (map == CASE_SWAP) return sb_utf8(b, c, tainted);
    if (map == CASE_LOWER && c == 0x3a3) return sb_utf8(b, is_final_sigma(s, at) ? 0x3c2 : 0x3c3, tainted);
    if (map == CASE_UPPER) n = uni_upper(out, c);
    else if (map == CASE_TITLE) n = uni_title(out, c);
    else n = uni_lower(out, c);
    for (size_t i = 0; i < n; i++)
        if (!sb_utf8(b, out[i], tainted)) return false;
    return true;
}

bool sb_case(struct sb *b, struct vstr *s, size_t from, size_t to, enum case_map map)
{
    struct str text = {s->ptr, to};
    bool in_word = false;
    size_t size;
    if (!charge(b->r, (to - from) * 8)) return false;
    for (size_t p = from; p < to; p += size) {
        uint32_t c = uni_at(text, p, &size);
        bool tainted = vstr_tainted(s, p, p + size);
        enum case_map how = map;
        if (map == CASE_CAPITALIZE) how = p == from ? CASE_TITLE : CASE_LOWER;
        if (map == CASE_TITLE) how = in_word ? CASE_LOWER : CASE_TITLE;
        if (map == CASE_FOLD) { /* lower case of upper case, so that one to many foldings meet */
            uint32_t up[3];
            size_t n = c < 0x80 || (c >= 0x13a0 && c < 0x13fe) ? 0 : uni_upper(up, c);
            if (n > 1) {
                for (size_t i = 0; i < n; i++)
                    if (!put_char(b, text, p, up[i], up[i] == 0x3a3 ? CASE_FOLD : CASE_LOWER, tainted)) return false;
                continue;
            }
            if (c == 0x3c2) c = 0x3c3;
        }
        if (!put_char(b, text, p, c, how, tainted)) return false;
        if (map == CASE_TITLE) in_word = is_cased(c);
    }
    return true;
}
