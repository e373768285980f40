/* base64: see media.h. */
#include "media/media.h"

static int digit(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    if (c == '+') return 62;
    return c == '/' ? 63 : -1;
}

static bool is_space(char c)
{
    return c == '\n' || c == '\r' || c == ' ' || c == '\t';
}

bool base64_decode(char *out, size_t *n, struct str text)
{
    uint32_t bits = 0;
    size_t n_digits = 0, n_pads = 0;
    *n = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (is_space(c)) continue;
        if (c == '=') {
            n_pads++;
            continue;
        }
        int d = digit(c);
        if (d < 0 || n_pads) return false;
        bits = bits << 6 | (uint32_t)d;
        n_digits++;
        /* Every digit but the first of four completes a byte. */
        if (n_digits % 4 != 1) out[(*n)++] = (char)(bits >> (6 - 2 * ((n_digits - 1) % 4)) & 0xff);
    }
    return n_digits % 4 != 1 && (n_pads == 0 || (n_pads <= 2 && (n_digits + n_pads) % 4 == 0));
}
