/* filters_text: filters on strings and numbers. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "jinja/jinja_internal.h"

#define ARGS struct run *r, struct value *out, struct value self, const struct value *a, const struct args *raw
#define UNUSED (void)r, (void)a, (void)raw, (void)self

static bool given(struct value v)
{
    return v.kind != V_MISSING && v.kind != V_NONE;
}

static bool int_arg(struct run *r, int64_t *out, struct value v, int64_t fallback, const char *name)
{
    *out = fallback;
    return v.kind == V_MISSING || is_int(v, out) || run_fail(r, "%s must be an integer, not %s", name, type_name(v));
}

static bool bool_arg(struct run *r, bool *out, struct value v, bool fallback)
{
    *out = fallback;
    return v.kind == V_MISSING || value_truth(r, out, v);
}

static bool case_filter(ARGS, enum case_map map)
{
    struct vstr *s;
    struct sb b;
    UNUSED;
    sb_init(&b, r);
    if (!to_str(r, &s, self) || !sb_case(&b, s, 0, s->len, map) || !sb_value(&b, out)) return false;
    out->s->markup = s->markup;
    return true;
}

static bool filter_upper(ARGS)
{
    return case_filter(r, out, self, a, raw, CASE_UPPER);
}

static bool filter_lower(ARGS)
{
    return case_filter(r, out, self, a, raw, CASE_LOWER);
}

static bool filter_capitalize(ARGS)
{
    return case_filter(r, out, self, a, raw, CASE_CAPITALIZE);
}

/* A word begins behind white space and - ( { [ <, unlike str.title. */
static bool filter_title(ARGS)
{
    struct vstr *s;
    struct sb b;
    size_t size;
    bool start = true;
    UNUSED;
    sb_init(&b, r);
    if (!to_str(r, &s, self)) return false;
    for (size_t i = 0; i < s->len; i += size) {
        uint32_t c = uni_at(vstr_str(s), i, &size);
        bool separator = uni_is_space(c) || (c < 0x80 && c && strchr("-({[<", (int)c));
        if (!sb_case(&b, s, i, i + size, start || separator ? CASE_UPPER : CASE_LOWER)) return false;
        start = separator;
    }
    return sb_value(&b, out);
}

static bool filter_trim(ARGS)
{
    struct vstr *s;
    UNUSED;
    return to_str(r, &s, self) && text_strip(r, out, s, &a[0], 3);
}

static bool filter_string(ARGS)
{
    struct vstr *s;
    UNUSED;
    if (!to_str(r, &s, self)) return false;
    return *out = (struct value){.kind = V_STR, .s = s}, true;
}

static bool filter_safe(ARGS)
{
    struct vstr *s, *copy;
    UNUSED;
    if (!to_str(r, &s, self) || !(copy = run_alloc(r, sizeof *copy))) return false;
    *copy = *s;
    copy->markup = true;
    return *out = (struct value){.kind = V_STR, .s = copy}, true;
}

static bool filter_escape(ARGS)
{
    struct vstr *s;
    UNUSED;
    if (!to_str(r, &s, self)) return false;
    if (s->markup) return *out = (struct value){.kind = V_STR, .s = s}, true;
    return escape_html(r, out, s);
}

static bool filter_forceescape(ARGS)
{
    struct vstr *s;
    UNUSED;
    return to_str(r, &s, self) && escape_html(r, out, s);
}

static bool filter_replace(ARGS)
{
    struct vstr *s, *from, *to;
    int64_t count = -1;
    UNUSED;
    if (given(a[2]) && !int_arg(r, &count, a[2], -1, "count")) return false;
    if (!to_str(r, &s, self) || !to_str(r, &from, a[0]) || !to_str(r, &to, a[1])) return false;
    return text_replace(r, out, s, from, to, count);
}

static bool filter_center(ARGS)
{
    struct vstr *s;
    int64_t width;
    UNUSED;
    return int_arg(r, &width, a[0], 80, "width") && to_str(r, &s, self) && text_center(r, out, s, width, NULL, 0);
}

static bool filter_format(ARGS)
{
    struct vstr *s;
    struct value arg;
    UNUSED;
    if (raw->n && raw->n_kw) return run_fail(r, "format: positional and keyword arguments at the same time");
    if (!to_str(r, &s, self)) return false;
    if (raw->n_kw) {
        struct value key;
        if (!dict_new(r, &arg)) return false;
        for (size_t i = 0; i < raw->n_kw; i++)
            if (!str_value(r, &key, raw->kw[i].name) || !dict_set(r, arg.d, key, raw->kw[i].value)) return false;
        return format_percent(r, out, s, arg);
    }
    if (!list_new(r, &arg, V_TUPLE, raw->n)) return false;
    for (size_t i = 0; i < raw->n; i++) arg.l->items[arg.l->n++] = raw->v[i];
    return format_percent(r, out, s, arg);
}

static bool filter_indent(ARGS)
{
    struct value lines;
    struct sb b, ind;
    struct value indention;
    int64_t width = 4;
    bool first, blank;
    UNUSED;
    if (!bool_arg(r, &first, a[1], false) || !bool_arg(r, &blank, a[2], false)) return false;
    sb_init(&ind, r);
    sb_init(&b, r);
    if (a[0].kind == V_STR ? !sb_vstr(&ind, a[0].s)
                           : !int_arg(r, &width, a[0], 4, "width") || !charge(r, width > 0 ? (size_t)width : 0) ||
                                 !sb_fill(&ind, ' ', width > 0 ? (size_t)width : 0))
        return false;
    if (!sb_value(&ind, &indention)) return false;
    if (self.kind == V_UNDEFINED) return undefined_fail(r, self);
    if (self.kind != V_STR) return run_fail(r, "indent needs a string, not %s", type_name(self));
    if (!text_splitlines(r, &lines, self.s, false)) return false;
    /* The filter appends a newline first: a final line end starts one more, empty line. */
    struct value whole;
    struct sb ended;
    sb_init(&ended, r);
    if (!sb_vstr(&ended, self.s) || !sb_char(&ended, '\n', false) || !sb_value(&ended, &whole) ||
        !text_splitlines(r, &lines, whole.s, false))
        return false;
    for (size_t i = 0; i < lines.l->n; i++) {
        struct vstr *line = lines.l->items[i].s;
        if (i && !sb_char(&b, '\n', false)) return false;
        if ((i ? blank || line->len : first) && !sb_vstr(&b, indention.s)) return false;
        if (!sb_vstr(&b, line)) return false;
    }
    return sb_value(&b, out);
}

static bool filter_truncate(ARGS)
{
    int64_t length, leeway, end_len;
    bool kill;
    struct vstr *end;
    struct value cut, dots;
    struct sb b;
    UNUSED;
    if (!int_arg(r, &length, a[0], 255, "length") || !bool_arg(r, &kill, a[1], false)) return false;
    if (a[2].kind == V_MISSING ? !cstr_value(r, &dots, "...") : (dots = a[2], false)) return false;
    if (!to_str(r, &end, dots) || !int_arg(r, &leeway, given(a[3]) ? a[3] : value_int(5), 5, "leeway")) return false;
    if (self.kind == V_UNDEFINED) return *out = self, true;
    if (self.kind != V_STR) return run_fail(r, "truncate needs a string, not %s", type_name(self));
    end_len = (int64_t)vstr_chars(end);
    if (length < end_len) return run_fail(r, "truncate: expected length >= %lld", (long long)end_len);
    if (leeway < 0) return run_fail(r, "truncate: expected leeway >= 0");
    int64_t n = (int64_t)vstr_chars(self.s);
    if (n <= length || n - length <= leeway) return *out = self, true;
    size_t to = vstr_byte_at(self.s, (size_t)(length - end_len));
    if (!kill) {
        ptrdiff_t space = bytes_rfind(r, (struct str){self.s->ptr, to}, STR(" "));
        if (space == -2) return false;
        if (space >= 0) to = (size_t)space;
    }
    sb_init(&b, r);
    return vstr_sub(r, &cut, self.s, 0, to) && sb_vstr(&b, cut.s) && sb_vstr(&b, end) && sb_value(&b, out);
}

static bool is_word(uint32_t c)
{
    return c == '_' || uni_is_alpha(c) || uni_is_numeric(c);
}

static bool filter_wordcount(ARGS)
{
    struct vstr *s;
    size_t size;
    int64_t n = 0;
    bool in = false;
    UNUSED;
    if (!to_str(r, &s, self) || !charge(r, s->len * 4)) return false;
    for (size_t i = 0; i < s->len; i += size) {
        bool word = is_word(uni_at(vstr_str(s), i, &size));
        n += word && !in;
        in = word;
    }
    return *out = value_int(n), true;
}

/* End of the chunk at `at`: white space, or a word up to (and with) a hyphen between letters. */
static size_t wrap_chunk(const struct vstr *s, size_t at, size_t end, bool hyphens, bool *blank)
{
    size_t size, letters = 0, i = at;
    *blank = uni_is_space(uni_at(vstr_str(s), at, &size));
    for (; i < end; i += size) {
        uint32_t c = uni_at(vstr_str(s), i, &size);
        if (uni_is_space(c) != *blank) break;
        if (*blank || !hyphens) continue;
        size_t next_size;
        if (c == '-' && letters >= 2 && i + 1 < end && uni_is_alpha(uni_at(vstr_str(s), i + 1, &next_size)))
            return i + 1;
        letters = uni_is_alpha(c) ? letters + 1 : 0;
    }
    return i;
}

struct wrap {
    struct sb *b;
    struct vstr *s, *newline;
    int64_t width, used;
    bool long_words, hyphens, any;
};

static bool wrap_line(struct wrap *w, size_t at, size_t end)
{
    size_t pending = at; /* white space that is printed only when a word follows on the same line */
    bool first_line = true;
    w->used = 0;
    while (at < end) {
        bool blank;
        size_t to = wrap_chunk(w->s, at, end, w->hyphens, &blank);
        int64_t n = (int64_t)chars_between(w->s, at, to), gap = (int64_t)chars_between(w->s, pending, at);
        if (blank) {
            if (w->used == 0 && !first_line) pending = to;
            at = to;
            if (w->used == 0 && first_line) continue;
            continue;
        }
        bool cut = w->long_words && n > w->width && w->used + gap < w->width; /* fills the line up */
        if (!cut && w->used + gap + n > w->width && (w->used > 0 || (gap > 0 && !first_line))) {
            if (!sb_vstr(w->b, w->newline)) return false;
            w->used = 0;
            first_line = false;
            pending = at;
            gap = 0;
        }
        if (w->long_words && n > w->width - w->used - gap) {
            int64_t room = w->width - w->used - gap > 0 ? w->width - w->used - gap : 1;
            for (n = 0, to = at; n < room && to < end; n++) {
                size_t size;
                uni_at(vstr_str(w->s), to, &size);
                to += size;
            }
        }
        if (!sb_range(w->b, w->s, pending, to)) return false;
        w->used += gap + n;
        pending = at = to;
    }
    return true;
}

static bool filter_wordwrap(ARGS)
{
    struct sb b;
    struct value lines, newline;
    struct wrap w = {.b = &b};
    UNUSED;
    if (!int_arg(r, &w.width, a[0], 79, "width") || !bool_arg(r, &w.long_words, a[1], true) ||
        !bool_arg(r, &w.hyphens, a[3], true))
        return false;
    if (w.width <= 0) return run_fail(r, "wordwrap: width must be greater than 0");
    if (given(a[2]) ? (newline = a[2], false) : !cstr_value(r, &newline, "\n")) return false;
    if (self.kind != V_STR) return run_fail(r, "wordwrap needs a string, not %s", type_name(self));
    if (!to_str(r, &w.newline, newline) || !text_splitlines(r, &lines, self.s, false)) return false;
    sb_init(&b, r);
    for (size_t i = 0; i < lines.l->n; i++) {
        w.s = lines.l->items[i].s;
        if ((i && !sb_vstr(&b, w.newline)) || !charge(r, w.s->len * 8) || !wrap_line(&w, 0, w.s->len)) return false;
    }
    return sb_value(&b, out);
}

/* Drops [from, to) of every `open` ... `close` pair. */
static bool drop_between(struct run *r, struct value *s, const char *open, const char *close)
{
    struct sb b;
    size_t at = 0;
    sb_init(&b, r);
    for (;;) {
        ptrdiff_t from = bytes_find(r, vstr_str(s->s), str_from(open), at);
        ptrdiff_t to = from < 0 ? from : bytes_find(r, vstr_str(s->s), str_from(close), (size_t)from);
        if (from == -2 || to == -2) return false;
        if (to < 0) break;
        if (!sb_range(&b, s->s, at, (size_t)from)) return false;
        at = (size_t)to + strlen(close);
    }
    return sb_range(&b, s->s, at, s->s->len) && sb_value(&b, s);
}

static bool unescape_html(struct run *r, struct value *s)
{
    static const struct {
        const char *name, *text;
    } entities[] = {{"&amp;", "&"},
                    {"&lt;", "<"},
                    {"&gt;", ">"},
                    {"&quot;", "\""},
                    {"&#39;", "'"},
                    {"&#34;", "\""},
                    {"&apos;", "'"},
                    {"&nbsp;", "\xc2\xa0"},
                    {"&raquo;", "\xc2\xbb"},
                    {"&laquo;", "\xc2\xab"},
                    {"&copy;", "\xc2\xa9"},
                    {"&mdash;", "\xe2\x80\x94"},
                    {"&ndash;", "\xe2\x80\x93"},
                    {"&hellip;", "\xe2\x80\xa6"},
                    {"&euro;", "\xe2\x82\xac"}};
    struct sb b;
    struct vstr *v = s->s;
    size_t plain = 0;
    sb_init(&b, r);
    for (size_t i = 0; i < v->len; i++) {
        if (v->ptr[i] != '&') continue;
        for (size_t k = 0; k < sizeof entities / sizeof *entities; k++) {
            size_t n = strlen(entities[k].name);
            if (!str_starts((struct str){v->ptr + i, v->len - i}, str_from(entities[k].name))) continue;
            if (!sb_range(&b, v, plain, i) ||
                !sb_put(&b, entities[k].text, strlen(entities[k].text), vstr_tainted(v, i, i + n)))
                return false;
            plain = i + n;
            i += n - 1;
            break;
        }
    }
    return sb_range(&b, v, plain, v->len) && sb_value(&b, s);
}

static bool filter_striptags(ARGS)
{
    struct vstr *s;
    struct value v;
    struct sb b;
    size_t size, from = 0;
    bool in = false, any = false;
    UNUSED;
    if (!to_str(r, &s, self)) return false;
    v = (struct value){.kind = V_STR, .s = s};
    if (!drop_between(r, &v, "<!--", "-->") || !drop_between(r, &v, "<", ">")) return false;
    sb_init(&b, r);
    for (size_t i = 0; i <= v.s->len; i += size) { /* runs of white space become one blank */
        bool space = i == v.s->len || uni_is_space(uni_at(vstr_str(v.s), i, &size));
        if (!space && !in) from = i;
        if (space && in) {
            if (any && !sb_char(&b, ' ', false)) return false;
            any = true;
            if (!sb_range(&b, v.s, from, i)) return false;
        }
        in = !space;
        if (i == v.s->len) break;
    }
    return sb_value(&b, &v) && unescape_html(r, &v) && (*out = v, true);
}

static bool quote_url(struct sb *b, struct vstr *s, bool query)
{
    for (size_t i = 0; i < s->len; i++) {
        unsigned char c = (unsigned char)s->ptr[i];
        bool tainted = vstr_tainted(s, i, i + 1);
        bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                     (c && strchr("_.-~", c)) || (c == '/' && !query);
        char tmp[4];
        if (query && c == ' ') plain = true, c = '+';
        snprintf(tmp, sizeof tmp, plain ? "%c" : "%%%02X", c);
        if (!sb_put(b, tmp, strlen(tmp), tainted)) return false;
    }
    return true;
}

static bool filter_urlencode(ARGS)
{
    struct sb b;
    struct vstr *s;
    struct value list, pair;
    UNUSED;
    sb_init(&b, r);
    if (self.kind == V_STR || self.kind < V_STR) {
        if (self.kind == V_UNDEFINED) return cstr_value(r, out, "");
        return to_str(r, &s, self) && quote_url(&b, s, false) && sb_value(&b, out);
    }
    struct vview view = {.kind = VIEW_ITEMS};
    if (self.kind == V_DICT) {
        view.d = self.d;
        self = (struct value){.kind = V_VIEW, .view = &view};
    }
    if (!iter_collect(r, &list, V_LIST, self)) return false;
    for (size_t i = 0; i < list.l->n; i++) {
        if (!iter_collect(r, &pair, V_LIST, list.l->items[i])) return false;
        if (pair.l->n != 2) return run_fail(r, "urlencode needs pairs");
        if (i && !sb_char(&b, '&', false)) return false;
        for (size_t k = 0; k < 2; k++)
            if ((k && !sb_char(&b, '=', false)) || !to_str(r, &s, pair.l->items[k]) || !quote_url(&b, s, true))
                return false;
    }
    return sb_value(&b, out);
}

static bool filter_xmlattr(ARGS)
{
    struct sb b;
    bool space, any = false;
    UNUSED;
    sb_init(&b, r);
    if (!bool_arg(r, &space, a[0], true)) return false;
    if (self.kind != V_DICT) return run_fail(r, "xmlattr needs a mapping, not %s", type_name(self));
    if (!dict_force(r, self.d)) return false;
    for (size_t i = 0; i < self.d->n; i++) {
        const struct ventry *e = &self.d->entries[i];
        struct value key, v;
        struct vstr *text;
        if (e->key.kind == V_MISSING || e->value.kind == V_NONE || e->value.kind == V_UNDEFINED) continue;
        if (e->key.kind != V_STR) return run_fail(r, "xmlattr: expected string keys");
        for (size_t k = 0; k < e->key.s->len; k++)
            if (strchr(" \t\n\r\f\v/>=", e->key.s->ptr[k]))
                return run_fail(r, "xmlattr: invalid character in attribute name");
        if (!to_str(r, &text, e->value) || !escape_html(r, &key, e->key.s)) return false;
        if (text->markup) v = (struct value){.kind = V_STR, .s = text};
        else if (!escape_html(r, &v, text)) return false;
        if ((any || space) && !sb_char(&b, ' ', false)) return false;
        any = true;
        if (!sb_vstr(&b, key.s) || !sb_text(&b, "=\"") || !sb_vstr(&b, v.s) || !sb_char(&b, '"', false)) return false;
    }
    return sb_value(&b, out);
}

/* ---- numbers ---- */

static bool filter_abs(ARGS)
{
    int64_t i;
    UNUSED;
    if (self.kind == V_FLOAT) return *out = value_float(fabs(self.f)), true;
    if (self.kind == V_UNDEFINED) return undefined_fail(r, self);
    if (self.kind == V_BIG)
        return self.big->negative ? op_binary(r, out, OP_SUB, value_int(0), self) : (*out = self, true);
    if (!is_int(self, &i)) return run_fail(r, "bad operand type for abs(): '%s'", type_name(self));
    return i < 0 ? op_binary(r, out, OP_SUB, value_int(0), value_int(i)) : (*out = value_int(i), true);
}

static bool filter_int(ARGS)
{
    int64_t base, i;
    bool ok;
    double f;
    UNUSED;
    if (!int_arg(r, &base, a[1], 10, "base")) return false;
    *out = a[0].kind == V_MISSING ? value_int(0) : a[0];
    if (self.kind == V_UNDEFINED) return undefined_fail(r, self);
    if (is_int(self, &i)) return *out = value_int(i), true;
    if (self.kind == V_BIG) return *out = self, true;
    if (self.kind == V_STR) {
        if (!parse_int(r, &i, &ok, vstr_str(self.s), (int)base)) return false;
        if (ok) return *out = value_int(i), true;
        if (!parse_float(&f, vstr_str(self.s)) || isnan(f)) return true;
    } else if (self.kind == V_FLOAT) f = self.f;
    else return true;
    if (isnan(f)) return true;
    return float_to_int(r, &i, f) && (*out = value_int(i), true);
}

static bool filter_float(ARGS)
{
    double f;
    UNUSED;
    *out = a[0].kind == V_MISSING ? value_float(0) : a[0];
    if (self.kind == V_UNDEFINED) return undefined_fail(r, self);
    if (is_number(self, &f) || (self.kind == V_STR && parse_float(&f, vstr_str(self.s)))) *out = value_float(f);
    return true;
}

static bool filter_round(ARGS)
{
    int64_t precision, i;
    double f;
    char tmp[700];
    struct str method = STR("common");
    UNUSED;
    if (!int_arg(r, &precision, a[0], 0, "precision")) return false;
    if (a[1].kind != V_MISSING) method = a[1].kind == V_STR ? vstr_str(a[1].s) : STR("?");
    if (self.kind == V_UNDEFINED) return undefined_fail(r, self);
    if (!is_number(self, &f)) return run_fail(r, "round needs a number, not %s", type_name(self));
    if (precision > 300 || precision < -300) return run_fail(r, "round: precision is too large");
    double scale = pow(10, (double)precision);
    if (str_eq(method, STR("ceil"))) return *out = value_float(ceil(f * scale) / scale), true;
    if (str_eq(method, STR("floor"))) return *out = value_float(floor(f * scale) / scale), true;
    if (!str_eq(method, STR("common"))) return run_fail(r, "method must be common, ceil or floor");
    if (is_int(self, &i) && precision >= 0) return *out = value_int(i), true;
    if (precision < 0) {
        f = nearbyint(f * scale) / scale;
        if (is_int(self, &i)) return float_to_int(r, &i, f) && (*out = value_int(i), true);
        return *out = value_float(f), true;
    }
    if (isnan(f) || isinf(f)) return *out = value_float(f), true;
    snprintf(tmp, sizeof tmp, "%.*f", (int)precision, f);
    return *out = value_float(strtod(tmp, NULL)), true;
}

static bool filter_filesize(ARGS)
{
    static const char *const names[2][8] = {{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"},
                                            {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}};
    bool binary;
    double f;
    struct sb b;
    UNUSED;
    if (!bool_arg(r, &binary, a[0], false)) return false;
    if (!is_number(self, &f) && !(self.kind == V_STR && parse_float(&f, vstr_str(self.s))))
        return run_fail(r, "filesizeformat needs a number, not %s", type_name(self));
    double base = binary ? 1024 : 1000, unit = base;
    sb_init(&b, r);
    if (f == 1) return cstr_value(r, out, "1 Byte");
    if (f < base) return sb_printf(&b, "%.0f Bytes", trunc(f)) && sb_value(&b, out);
    for (size_t i = 0; i < 8; i++) {
        unit *= base;
        if (f < unit || i == 7) return sb_printf(&b, "%.1f %s", base * f / unit, names[binary][i]) && sb_value(&b, out);
    }
    return false;
}

static bool filter_tojson(ARGS)
{
    UNUSED;
    const struct value options[4] = {a[0], a[1], a[2], a[3]};
    return json_dump(r, out, self, options);
}

static bool filter_from_json(ARGS)
{
    UNUSED;
    if (self.kind != V_STR) return run_fail(r, "from_json needs a string, not %s", type_name(self));
    return json_parse(r, out, self.s);
}

const struct builtin filters_text[] = {
    {"upper", filter_upper, 0, 0, {0}},
    {"lower", filter_lower, 0, 0, {0}},
    {"capitalize", filter_capitalize, 0, 0, {0}},
    {"title", filter_title, 0, 0, {0}},
    {"trim", filter_trim, 0, 1, {"chars"}},
    {"string", filter_string, 0, 0, {0}},
    {"safe", filter_safe, 0, 0, {0}},
    {"e", filter_escape, 0, 0, {0}},
    {"escape", filter_escape, 0, 0, {0}},
    {"forceescape", filter_forceescape, 0, 0, {0}},
    {"replace", filter_replace, 2, 3, {"old", "new", "count"}},
    {"center", filter_center, 0, 1, {"width"}},
    {"format", filter_format, 0, RAW_ARGS, {0}},
    {"indent", filter_indent, 0, 3, {"width", "first", "blank"}},
    {"truncate", filter_truncate, 0, 4, {"length", "killwords", "end", "leeway"}},
    {"wordcount", filter_wordcount, 0, 0, {0}},
    {"wordwrap", filter_wordwrap, 0, 4, {"width", "break_long_words", "wrapstring", "break_on_hyphens"}},
    {"striptags", filter_striptags, 0, 0, {0}},
    {"urlencode", filter_urlencode, 0, 0, {0}},
    {"xmlattr", filter_xmlattr, 0, 1, {"autospace"}},
    {"abs", filter_abs, 0, 0, {0}},
    {"int", filter_int, 0, 2, {"default", "base"}},
    {"float", filter_float, 0, 1, {"default"}},
    {"round", filter_round, 0, 2, {"precision", "method"}},
    {"filesizeformat", filter_filesize, 0, 1, {"binary"}},
    {"tojson", filter_tojson, 0, 4, {"ensure_ascii", "indent", "separators", "sort_keys"}},
    {"from_json", filter_from_json, 0, 0, {0}},
    {NULL, NULL, 0, 0, {0}},
};
