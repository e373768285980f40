/* utf8: see utf8.h. Pure functions, any thread. */
#include "base/utf8.h"

size_t utf8_encode(char *out, uint32_t c)
{
    if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) c = 0xfffd;
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((0xf00u >> n) | c);
    return n;
}

/* Length that the first byte announces; 0 when no character begins with it. */
static size_t lead_len(unsigned char b)
{
    if (b < 0x80) return 1;
    if (b < 0xc2) return 0;
    if (b < 0xe0) return 2;
    if (b < 0xf0) return 3;
    return b < 0xf5 ? 4 : 0;
}

/* Whether `second` may follow `lead`: excludes overlong forms, surrogates and values above U+10FFFF. */
static bool second_ok(unsigned char lead, unsigned char second)
{
    if ((second & 0xc0) != 0x80) return false;
    if (lead == 0xe0) return second >= 0xa0;
    if (lead == 0xed) return second < 0xa0;
    if (lead == 0xf0) return second >= 0x90;
    if (lead == 0xf4) return second < 0x90;
    return true;
}

size_t utf8_decode(struct str s, uint32_t *codepoint)
{
    if (s.len == 0) return 0;
    const unsigned char *p = (const unsigned char *)s.ptr;
    size_t n = lead_len(p[0]);
    if (n == 0 || n > s.len) return 0;
    if (n == 1) {
        *codepoint = p[0];
        return 1;
    }
    if (!second_ok(p[0], p[1])) return 0;
    uint32_t c = p[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    *codepoint = c;
    return n;
}

bool utf8_valid(struct str s)
{
    uint32_t c;
    for (size_t i = 0; i < s.len;) {
        if ((unsigned char)s.ptr[i] < 0x80) {
            i++;
            continue;
        }
        size_t n = utf8_decode((struct str){s.ptr + i, s.len - i}, &c);
        if (n == 0) return false;
        i += n;
    }
    return true;
}

size_t utf8_complete_len(struct str s)
{
    const unsigned char *p = (const unsigned char *)s.ptr;
    for (size_t back = 1; back <= 3 && back <= s.len; back++) {
        unsigned char b = p[s.len - back];
        if ((b & 0xc0) == 0x80) continue;
        size_t n = lead_len(b);
        bool open = n > back && (back == 1 || second_ok(b, p[s.len - back + 1]));
        return open ? s.len - back : s.len;
    }
    return s.len;
}
