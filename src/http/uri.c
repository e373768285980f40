/* uri: splitting and percent-decoding of paths and queries. Paths are split before they are decoded, so an encoded
 * slash is part of a name (model ids have them). */
#include "http/http.h"

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool decode(struct buf *out, struct str s, bool plus_is_space)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '%') {
            int hi = i + 2 < s.len ? hex_value(s.ptr[i + 1]) : -1;
            int lo = i + 2 < s.len ? hex_value(s.ptr[i + 2]) : -1;
            if (hi < 0 || lo < 0) return false;
            c = (char)(hi << 4 | lo);
            i += 2;
        } else if (c == '+' && plus_is_space) {
            c = ' ';
        }
        if (c == '\0' || !buf_append_char(out, c)) return false;
    }
    return true;
}

int http_path_split(struct str *out, struct buf *store, size_t n_max, struct str path)
{
    if (!str_starts(path, STR("/"))) return -1;
    while (path.len && path.ptr[path.len - 1] == '/') path.len--;
    /* Decoding never lengthens: one reservation keeps the slices valid. */
    if (!buf_reserve(store, path.len + 1)) return -1;
    size_t n = 0;
    size_t from = 1;
    while (from <= path.len && path.len) {
        ptrdiff_t slash = str_find(path, STR("/"), from);
        size_t to = slash < 0 ? path.len : (size_t)slash;
        size_t start = store->len;
        if (n == n_max || !decode(store, str_slice(path, from, to), false)) return -1;
        out[n++] = (struct str){store->ptr + start, store->len - start};
        from = to + 1;
    }
    return (int)n;
}

bool http_query_find(struct buf *out, struct str query, struct str name)
{
    size_t from = 0;
    while (from < query.len) {
        ptrdiff_t amp = str_find(query, STR("&"), from);
        size_t to = amp < 0 ? query.len : (size_t)amp;
        struct str pair = str_slice(query, from, to);
        ptrdiff_t eq = str_find(pair, STR("="), 0);
        struct str key = eq < 0 ? pair : str_slice(pair, 0, (size_t)eq);
        if (str_eq(key, name)) return eq < 0 || decode(out, str_slice(pair, (size_t)eq + 1, pair.len), true);
        from = to + 1;
    }
    return false;
}
