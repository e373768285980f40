/* methods_str: the methods of Python's str. */
#include <string.h>

#include "jinja/jinja_internal.h"

#define ARGS struct run *r, struct value *out, struct value self, const struct value *a, const struct args *raw
#define UNUSED (void)r, (void)a, (void)raw, (void)self

static bool given(struct value v)
{
    return v.kind != V_MISSING && v.kind != V_NONE;
}

static bool str_arg(struct run *r, struct vstr **out, struct value v)
{
    *out = NULL;
    if (v.kind == V_UNDEFINED) return undefined_fail(r, v);
    if (v.kind != V_STR) return run_fail(r, "a string is expected as argument, not %s", type_name(v));
    return *out = v.s, true;
}

static bool count_arg(struct run *r, int64_t *out, struct value v, int64_t fallback)
{
    *out = fallback;
    return v.kind == V_MISSING || is_int(v, out) ||
           run_fail(r, "an integer is expected as argument, not %s", type_name(v));
}

static bool mapped(struct run *r, struct value *out, struct vstr *s, enum case_map map)
{
    struct sb b;
    sb_init(&b, r);
    if (!sb_case(&b, s, 0, s->len, map) || !sb_value(&b, out)) return false;
    out->s->markup = s->markup;
    return true;
}

#define CASE_METHOD(name, map)              \
    static bool name(ARGS)                  \
    {                                       \
        UNUSED;                             \
        return mapped(r, out, self.s, map); \
    }
CASE_METHOD(str_upper, CASE_UPPER)
CASE_METHOD(str_lower, CASE_LOWER)
CASE_METHOD(str_title, CASE_TITLE)
CASE_METHOD(str_capitalize, CASE_CAPITALIZE)
CASE_METHOD(str_swapcase, CASE_SWAP)
CASE_METHOD(str_casefold, CASE_FOLD)

#define IS_METHOD(name, what)                                                                  \
    static bool name(ARGS)                                                                     \
    {                                                                                          \
        UNUSED;                                                                                \
        return charge(r, self.s->len * 8) && (*out = value_bool(text_is(self.s, what)), true); \
    }
IS_METHOD(str_isalpha, TEXT_ALPHA)
IS_METHOD(str_isdigit, TEXT_DIGIT)
IS_METHOD(str_isdecimal, TEXT_DECIMAL)
IS_METHOD(str_isnumeric, TEXT_NUMERIC)
IS_METHOD(str_isalnum, TEXT_ALNUM)
IS_METHOD(str_isspace, TEXT_SPACE)
IS_METHOD(str_isupper, TEXT_UPPER)
IS_METHOD(str_islower, TEXT_LOWER)
IS_METHOD(str_istitle, TEXT_TITLE)
IS_METHOD(str_isprintable, TEXT_PRINTABLE)
IS_METHOD(str_isascii, TEXT_ASCII)

static bool str_isidentifier(ARGS)
{
    UNUSED;
    return *out = value_bool(self.s->len && text_is(self.s, TEXT_IDENTIFIER)), true;
}

static bool str_strip(ARGS)
{
    UNUSED;
    return text_strip(r, out, self.s, &a[0], 3);
}

static bool str_lstrip(ARGS)
{
    UNUSED;
    return text_strip(r, out, self.s, &a[0], 1);
}

static bool str_rstrip(ARGS)
{
    UNUSED;
    return text_strip(r, out, self.s, &a[0], 2);
}

static bool str_replace(ARGS)
{
    struct vstr *from, *to;
    int64_t count;
    struct value escaped;
    UNUSED;
    if (!str_arg(r, &from, a[0]) || !str_arg(r, &to, a[1]) || !count_arg(r, &count, a[2], -1)) return false;
    if (self.s->markup && !to->markup) {
        if (!escape_html(r, &escaped, to)) return false;
        to = escaped.s;
    }
    return text_replace(r, out, self.s, from, to, count);
}

/* start and end in characters, as slice bounds -> bytes. false in *inside when start is behind the end. */
static bool bounds(struct run *r, size_t *from, size_t *to, bool *inside, struct vstr *s, const struct value *a)
{
    int64_t n = (int64_t)vstr_chars(s), v[2] = {0, n};
    for (size_t i = 0; i < 2; i++) {
        if (!given(a[i])) continue;
        if (!is_int(a[i], &v[i])) return run_fail(r, "slice indices must be integers or None");
        if (v[i] < 0) v[i] = v[i] + n < 0 ? 0 : v[i] + n;
    }
    *inside = v[0] <= n && v[0] <= (v[1] < n ? v[1] : n);
    *from = vstr_byte_at(s, (size_t)v[0]);
    *to = vstr_byte_at(s, (size_t)(v[1] < n ? v[1] : n));
    return vstr_ascii(s) || charge(r, s->len);
}

static bool affix(ARGS, bool end)
{
    size_t from, to;
    bool inside, hit = false;
    struct value one[1], *options = one;
    size_t n = 1;
    UNUSED;
    if (!bounds(r, &from, &to, &inside, self.s, a + 1)) return false;
    one[0] = a[0];
    if (a[0].kind == V_TUPLE) options = a[0].l->items, n = a[0].l->n;
    for (size_t i = 0; i < n && !hit; i++) {
        struct vstr *x;
        if (!str_arg(r, &x, options[i])) return false;
        struct str text = str_slice(vstr_str(self.s), from, to);
        hit = inside && (end ? str_ends(text, vstr_str(x)) : str_starts(text, vstr_str(x)));
    }
    return *out = value_bool(hit), true;
}

static bool str_startswith(ARGS)
{
    return affix(r, out, self, a, raw, false);
}

static bool str_endswith(ARGS)
{
    return affix(r, out, self, a, raw, true);
}

static bool find_in(ARGS, bool last, bool must)
{
    size_t from, to;
    bool inside;
    struct vstr *x;
    UNUSED;
    if (!str_arg(r, &x, a[0]) || !bounds(r, &from, &to, &inside, self.s, a + 1)) return false;
    ptrdiff_t at = -1;
    if (inside) {
        struct str text = {self.s->ptr + from, to - from};
        at = last ? bytes_rfind(r, text, vstr_str(x)) : bytes_find(r, text, vstr_str(x), 0);
    }
    if (at == -2) return false;
    if (at < 0 && must) return run_fail(r, "substring not found");
    return *out = value_int(at < 0 ? -1 : (int64_t)chars_between(self.s, 0, from + (size_t)at)), true;
}

static bool str_find_method(ARGS)
{
    return find_in(r, out, self, a, raw, false, false);
}

static bool str_rfind(ARGS)
{
    return find_in(r, out, self, a, raw, true, false);
}

static bool str_index(ARGS)
{
    return find_in(r, out, self, a, raw, false, true);
}

static bool str_rindex(ARGS)
{
    return find_in(r, out, self, a, raw, true, true);
}

static bool str_count(ARGS)
{
    size_t from, to;
    bool inside;
    struct vstr *x;
    int64_t n = 0;
    UNUSED;
    if (!str_arg(r, &x, a[0]) || !bounds(r, &from, &to, &inside, self.s, a + 1)) return false;
    if (!inside) return *out = value_int(0), true;
    if (!x->len) return *out = value_int((int64_t)chars_between(self.s, from, to) + 1), true;
    ptrdiff_t at;
    while ((at = bytes_find(r, (struct str){self.s->ptr, to}, vstr_str(x), from)) >= 0) {
        n++;
        from = (size_t)at + x->len;
        if (!charge(r, 64)) return false;
    }
    return at != -2 && (*out = value_int(n), true);
}

static bool push_range(struct run *r, struct value *list, struct vstr *s, size_t from, size_t to)
{
    struct value part;
    return vstr_sub(r, &part, s, from, to) && list_push(r, list->l, part);
}

static bool split_space(struct run *r, struct value *out, struct vstr *s, int64_t max)
{
    struct str text = vstr_str(s);
    size_t at = 0, size;
    for (int64_t n = 0;; n++) {
        while (at < s->len && uni_is_space(uni_at(text, at, &size))) at += size;
        if (at >= s->len) return true;
        size_t from = at;
        if (max >= 0 && n >= max) return push_range(r, out, s, from, s->len);
        while (at < s->len && !uni_is_space(uni_at(text, at, &size))) at += size;
        if (!push_range(r, out, s, from, at)) return false;
    }
}

static bool rsplit_space(struct run *r, struct value *out, struct vstr *s, int64_t max)
{
    const struct value none = VALUE_NONE;
    struct value rest = {.kind = V_STR, .s = s};
    for (int64_t n = 0;; n++) {
        if (!text_strip(r, &rest, rest.s, &none, 2)) return false;
        if (!rest.s->len) return true;
        if (n >= max) return list_push(r, out->l, rest);
        size_t at = rest.s->len, size;
        for (size_t p = at; p > 0; at = p) {
            do p--;
            while (p > 0 && ((unsigned char)rest.s->ptr[p] & 0xc0) == 0x80);
            if (uni_is_space(uni_at(vstr_str(rest.s), p, &size))) break;
        }
        if (!push_range(r, out, rest.s, at, rest.s->len) || !vstr_sub(r, &rest, rest.s, 0, at)) return false;
    }
}

static bool split_at(struct run *r, struct value *out, struct vstr *s, struct vstr *sep, int64_t max, bool right)
{
    size_t from = 0, to = s->len;
    if (!sep->len) return run_fail(r, "empty separator");
    for (int64_t n = 0; max < 0 || n < max; n++) {
        ptrdiff_t at = right ? bytes_rfind(r, (struct str){s->ptr, to}, vstr_str(sep))
                             : bytes_find(r, vstr_str(s), vstr_str(sep), from);
        if (at == -2 || !charge(r, 64)) return false;
        if (at < 0) break;
        if (!push_range(r, out, s, right ? (size_t)at + sep->len : from, right ? to : (size_t)at)) return false;
        if (right) to = (size_t)at;
        else from = (size_t)at + sep->len;
    }
    return push_range(r, out, s, from, to);
}

static void reverse_list(struct vlist *l)
{
    for (size_t i = 0, k = l->n; i + 1 < k; i++) {
        struct value t = l->items[--k];
        l->items[k] = l->items[i];
        l->items[i] = t;
    }
}

static bool split(ARGS, bool right)
{
    int64_t max;
    struct vstr *sep;
    UNUSED;
    if (!count_arg(r, &max, a[1], -1) || !list_new(r, out, V_LIST, 0)) return false;
    if (!given(a[0])) {
        if (!charge(r, self.s->len)) return false;
        if (!right || max < 0) return split_space(r, out, self.s, max);
        if (!rsplit_space(r, out, self.s, max)) return false;
    } else {
        if (!str_arg(r, &sep, a[0])) return false;
        if (!right || max < 0) return split_at(r, out, self.s, sep, max, false);
        if (!split_at(r, out, self.s, sep, max, true)) return false;
    }
    reverse_list(out->l);
    return true;
}

static bool str_split(ARGS)
{
    return split(r, out, self, a, raw, false);
}

static bool str_rsplit(ARGS)
{
    return split(r, out, self, a, raw, true);
}

static bool str_splitlines(ARGS)
{
    bool keep = false;
    UNUSED;
    if (a[0].kind != V_MISSING && !value_truth(r, &keep, a[0])) return false;
    return charge(r, self.s->len * 4) && text_splitlines(r, out, self.s, keep);
}

static bool partition(ARGS, bool right)
{
    struct vstr *sep;
    UNUSED;
    if (!str_arg(r, &sep, a[0]) || !list_new(r, out, V_TUPLE, 3)) return false;
    if (!sep->len) return run_fail(r, "empty separator");
    ptrdiff_t at =
        right ? bytes_rfind(r, vstr_str(self.s), vstr_str(sep)) : bytes_find(r, vstr_str(self.s), vstr_str(sep), 0);
    if (at == -2) return false;
    size_t n = self.s->len, from = at >= 0 ? (size_t)at : right ? 0 : n, to = at >= 0 ? from + sep->len : from;
    return push_range(r, out, self.s, 0, from) && push_range(r, out, self.s, from, to) &&
           push_range(r, out, self.s, to, n);
}

static bool str_partition(ARGS)
{
    return partition(r, out, self, a, raw, false);
}

static bool str_rpartition(ARGS)
{
    return partition(r, out, self, a, raw, true);
}

static bool str_join(ARGS)
{
    struct iter it;
    struct value v;
    struct sb b;
    int got;
    UNUSED;
    if (!iter_init(r, &it, a[0])) return false;
    sb_init(&b, r);
    for (size_t i = 0; (got = iter_next(r, &v, &it)) > 0; i++) {
        if (v.kind != V_STR) return run_fail(r, "sequence item %zu: expected str instance, %s found", i, type_name(v));
        if (self.s->markup && !v.s->markup && !escape_html(r, &v, v.s)) return false;
        if ((i && !sb_vstr(&b, self.s)) || !sb_vstr(&b, v.s)) return false;
    }
    if (got < 0 || !sb_value(&b, out)) return false;
    out->s->markup = self.s->markup;
    return true;
}

static bool justify(ARGS, int align)
{
    int64_t width;
    struct vstr *fill = NULL;
    UNUSED;
    if (!is_int(a[0], &width)) return run_fail(r, "width must be an integer");
    if (a[1].kind != V_MISSING && !str_arg(r, &fill, a[1])) return false;
    return text_center(r, out, self.s, width, fill, align);
}

static bool str_center(ARGS)
{
    return justify(r, out, self, a, raw, 0);
}

static bool str_ljust(ARGS)
{
    return justify(r, out, self, a, raw, -1);
}

static bool str_rjust(ARGS)
{
    return justify(r, out, self, a, raw, 1);
}

static bool str_zfill(ARGS)
{
    int64_t width;
    struct sb b;
    UNUSED;
    if (!is_int(a[0], &width)) return run_fail(r, "width must be an integer");
    int64_t missing = width - (int64_t)vstr_chars(self.s);
    bool sign = self.s->len && (self.s->ptr[0] == '-' || self.s->ptr[0] == '+');
    sb_init(&b, r);
    return charge(r, missing > 0 ? (size_t)missing : 0) && sb_range(&b, self.s, 0, sign) &&
           sb_fill(&b, '0', missing > 0 ? (size_t)missing : 0) && sb_range(&b, self.s, sign, self.s->len) &&
           sb_value(&b, out);
}

static bool str_removeprefix(ARGS)
{
    struct vstr *x;
    UNUSED;
    if (!str_arg(r, &x, a[0])) return false;
    return vstr_sub(r, out, self.s, str_starts(vstr_str(self.s), vstr_str(x)) ? x->len : 0, self.s->len);
}

static bool str_removesuffix(ARGS)
{
    struct vstr *x;
    UNUSED;
    if (!str_arg(r, &x, a[0])) return false;
    return vstr_sub(r, out, self.s, 0, self.s->len - (str_ends(vstr_str(self.s), vstr_str(x)) ? x->len : 0));
}

static bool str_expandtabs(ARGS)
{
    int64_t size, column = 0;
    struct sb b;
    UNUSED;
    if (!count_arg(r, &size, a[0], 8)) return false;
    sb_init(&b, r);
    for (size_t i = 0; i < self.s->len; i++) {
        char c = self.s->ptr[i];
        if (c == '\t') {
            int64_t n = size > 0 ? size - column % size : 0;
            if (!charge(r, (size_t)n) || !sb_fill(&b, ' ', (size_t)n)) return false;
            column += n;
            continue;
        }
        if (!sb_range(&b, self.s, i, i + 1)) return false;
        column = c == '\n' || c == '\r' ? 0 : column + (((unsigned char)c & 0xc0) != 0x80);
    }
    return sb_value(&b, out);
}

static bool str_format(ARGS)
{
    UNUSED;
    return format_braces(r, out, self.s, raw);
}

static bool str_format_map(ARGS)
{
    struct args args = {0};
    UNUSED;
    if (a[0].kind != V_DICT || !dict_force(r, a[0].d)) return run_fail(r, "format_map() needs a mapping");
    if (!(args.kw = run_alloc(r, a[0].d->n * sizeof *args.kw))) return false;
    for (size_t i = 0; i < a[0].d->n; i++) {
        const struct ventry *e = &a[0].d->entries[i];
        if (e->key.kind == V_STR) args.kw[args.n_kw++] = (struct keyword){vstr_str(e->key.s), e->value};
    }
    return format_braces(r, out, self.s, &args);
}

const struct builtin methods_str[] = {
    {"upper", str_upper, 0, 0, {0}},
    {"lower", str_lower, 0, 0, {0}},
    {"title", str_title, 0, 0, {0}},
    {"capitalize", str_capitalize, 0, 0, {0}},
    {"swapcase", str_swapcase, 0, 0, {0}},
    {"casefold", str_casefold, 0, 0, {0}},
    {"isalpha", str_isalpha, 0, 0, {0}},
    {"isdigit", str_isdigit, 0, 0, {0}},
    {"isdecimal", str_isdecimal, 0, 0, {0}},
    {"isnumeric", str_isnumeric, 0, 0, {0}},
    {"isalnum", str_isalnum, 0, 0, {0}},
    {"isspace", str_isspace, 0, 0, {0}},
    {"isupper", str_isupper, 0, 0, {0}},
    {"islower", str_islower, 0, 0, {0}},
    {"istitle", str_istitle, 0, 0, {0}},
    {"isprintable", str_isprintable, 0, 0, {0}},
    {"isascii", str_isascii, 0, 0, {0}},
    {"isidentifier", str_isidentifier, 0, 0, {0}},
    {"strip", str_strip, 0, 1, {0}},
    {"lstrip", str_lstrip, 0, 1, {0}},
    {"rstrip", str_rstrip, 0, 1, {0}},
    {"replace", str_replace, 2, 3, {0}},
    {"startswith", str_startswith, 1, 3, {0}},
    {"endswith", str_endswith, 1, 3, {0}},
    {"find", str_find_method, 1, 3, {0}},
    {"rfind", str_rfind, 1, 3, {0}},
    {"index", str_index, 1, 3, {0}},
    {"rindex", str_rindex, 1, 3, {0}},
    {"count", str_count, 1, 3, {0}},
    {"split", str_split, 0, 2, {"sep", "maxsplit"}},
    {"rsplit", str_rsplit, 0, 2, {"sep", "maxsplit"}},
    {"splitlines", str_splitlines, 0, 1, {"keepends"}},
    {"partition", str_partition, 1, 1, {0}},
    {"rpartition", str_rpartition, 1, 1, {0}},
    {"join", str_join, 1, 1, {0}},
    {"center", str_center, 1, 2, {0}},
    {"ljust", str_ljust, 1, 2, {0}},
    {"rjust", str_rjust, 1, 2, {0}},
    {"zfill", str_zfill, 1, 1, {0}},
    {"removeprefix", str_removeprefix, 1, 1, {0}},
    {"removesuffix", str_removesuffix, 1, 1, {0}},
    {"expandtabs", str_expandtabs, 0, 1, {"tabsize"}},
    {"format", str_format, 0, RAW_ARGS, {0}},
    {"format_map", str_format_map, 1, 1, {0}},
    {NULL, NULL, 0, 0, {0}},
};
