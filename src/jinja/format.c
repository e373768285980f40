/* format: Python's two ways to format - "%s" % x and "{}".format(x) - and numbers read from text. Widths and
 * precisions are limited; what Python refuses is an error here too. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "jinja/jinja_internal.h"

#define MAX_WIDTH 100000
#define MAX_PRECISION 300

struct spec {
    uint32_t fill;
    char align, sign, type;
    bool alt, zero, has_precision;
    char group;
    int64_t width, precision;
};

/* ---- numbers from text ---- */

static struct str trim_unicode(struct str s)
{
    size_t size;
    while (s.len && uni_is_space(uni_at(s, 0, &size))) s = str_slice(s, size, s.len);
    while (s.len) {
        size_t p = s.len - 1;
        while (p && ((unsigned char)s.ptr[p] & 0xc0) == 0x80) p--;
        if (!uni_is_space(uni_at(s, p, &size))) break;
        s.len = p;
    }
    return s;
}

static int digit_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'z' ? c - 'a' + 10 : 99;
}

bool parse_int(struct run *r, int64_t *out, bool *ok, struct str s, int base)
{
    bool negative = false, digit_before = false;
    int64_t v = 0;
    *ok = false;
    s = trim_unicode(s);
    size_t i = 0;
    if (base != 0 && (base < 2 || base > 36)) return run_fail(r, "int() base must be >= 2 and <= 36, or 0");
    if (i < s.len && (s.ptr[i] == '-' || s.ptr[i] == '+')) negative = s.ptr[i++] == '-';
    if (s.len - i > 2 && s.ptr[i] == '0') {
        char p = (char)(s.ptr[i + 1] | 0x20);
        int named = p == 'x' ? 16 : p == 'o' ? 8 : p == 'b' ? 2 : 0;
        if (named && (base == 0 || base == named)) base = named, i += 2, digit_before = true;
    }
    if (base == 0) base = 10;
    if (i == s.len) return true;
    for (; i < s.len; i++) {
        if (s.ptr[i] == '_' && digit_before && i + 1 < s.len) {
            digit_before = false;
            continue;
        }
        int d = digit_value(s.ptr[i]);
        if (d >= base) return true;
        digit_before = true;
        if (__builtin_mul_overflow(v, base, &v) || __builtin_sub_overflow(v, d, &v))
            return run_fail(r, "integer does not fit into 64 bits (the limit of this engine)");
    }
    if (!digit_before) return true;
    if (!negative && v == INT64_MIN) return run_fail(r, "integer does not fit into 64 bits");
    *out = negative ? v : -v;
    return *ok = true;
}

bool parse_float(double *out, struct str s)
{
    char tmp[400];
    size_t n = 0;
    bool digits = false;
    s = trim_unicode(s);
    if (!s.len || s.len >= sizeof tmp) return false;
    for (size_t i = 0; i < s.len; i++) {
        char ch = s.ptr[i];
        if (ch == '_' && i && i + 1 < s.len && digit_value(s.ptr[i - 1]) < 10 && digit_value(s.ptr[i + 1]) < 10)
            continue;
        if (ch == 'x' || ch == 'X' || ch == '(' || (unsigned char)ch <= ' ') return false;
        digits |= ch >= '0' && ch <= '9';
        tmp[n++] = ch;
    }
    tmp[n] = '\0';
    struct str word = {tmp + (tmp[0] == '-' || tmp[0] == '+'), n - (tmp[0] == '-' || tmp[0] == '+')};
    if (!digits && !str_eq_nocase(word, STR("inf")) && !str_eq_nocase(word, STR("infinity")) &&
        !str_eq_nocase(word, STR("nan")))
        return false;
    char *end;
    *out = strtod(tmp, &end);
    return end == tmp + n;
}

bool float_to_int(struct run *r, int64_t *out, double f)
{
    if (isnan(f)) return run_fail(r, "cannot convert float NaN to integer");
    if (isinf(f)) return run_fail(r, "cannot convert float infinity to integer");
    if (fabs(f) >= 9223372036854775808.0) return run_fail(r, "integer does not fit into 64 bits");
    return *out = (int64_t)f, true;
}

bool escape_html(struct run *r, struct value *out, struct vstr *s)
{
    struct sb b;
    size_t plain = 0;
    sb_init(&b, r);
    for (size_t i = 0; i < s->len; i++) {
        char ch = s->ptr[i];
        const char *to = ch == '&'    ? "&amp;"
                         : ch == '<'  ? "&lt;"
                         : ch == '>'  ? "&gt;"
                         : ch == '\'' ? "&#39;"
                         : ch == '"'  ? "&#34;"
                                      : NULL;
        if (!to) continue;
        if (!sb_range(&b, s, plain, i) || !sb_put(&b, to, strlen(to), vstr_tainted(s, i, i + 1))) return false;
        plain = i + 1;
    }
    if (!sb_range(&b, s, plain, s->len) || !sb_value(&b, out)) return false;
    out->s->markup = true;
    return true;
}

/* ---- the common part: text or digits in a field ---- */

static bool pad(struct sb *b, uint32_t fill, int64_t n)
{
    for (; n > 0; n--)
        if (!sb_utf8(b, fill, false)) return false;
    return true;
}

static bool put_field(struct sb *b, const struct spec *s, struct vstr *text, char default_align)
{
    int64_t missing = s->width - (int64_t)vstr_chars(text);
    char align = s->align ? s->align : default_align;
    int64_t left = missing <= 0 || align == '<' ? 0 : align == '^' ? missing / 2 : missing;
    return pad(b, s->fill, left) && sb_vstr(b, text) && pad(b, s->fill, missing - left);
}

/* sign, prefix and digits; '=' alignment puts the fill between prefix and digits. */
static bool put_number(struct sb *b, const struct spec *s, bool negative, const char *prefix, const char *digits)
{
    char head[8];
    size_t whole = strspn(digits, s->type == 'x' || s->type == 'X' ? "0123456789abcdefABCDEF" : "0123456789");
    struct sb body;
    struct value v;
    snprintf(head, sizeof head, "%s%s", negative ? "-" : s->sign == '+' ? "+" : s->sign == ' ' ? " " : "", prefix);
    sb_init(&body, b->r);
    bool inside = s->align == '=' || (!s->align && s->zero);
    size_t every = s->type == 'x' || s->type == 'X' || s->type == 'o' || s->type == 'b' ? 4 : 3;
    if (!inside) sb_text(&body, head);
    for (size_t i = 0; digits[i]; i++) {
        if (s->group && i && i < whole && (whole - i) % every == 0) sb_char(&body, s->group, false);
        sb_char(&body, digits[i], false);
    }
    if (!sb_value(&body, &v)) return false;
    if (!inside) return put_field(b, s, v.s, '>');
    int64_t missing = s->width - (int64_t)strlen(head) - (int64_t)vstr_chars(v.s);
    return sb_text(b, head) && pad(b, s->zero && !s->align ? '0' : s->fill, missing) && sb_vstr(b, v.s);
}

static bool put_int(struct sb *b, const struct spec *s, int64_t i)
{
    char digits[80];
    uint64_t v = i < 0 ? (uint64_t)0 - (uint64_t)i : (uint64_t)i;
    const char *prefix = "";
    if (s->type == 'x' || s->type == 'X') {
        snprintf(digits, sizeof digits, s->type == 'x' ? "%llx" : "%llX", (unsigned long long)v);
        prefix = !s->alt ? "" : s->type == 'x' ? "0x" : "0X";
    } else if (s->type == 'o') {
        snprintf(digits, sizeof digits, "%llo", (unsigned long long)v);
        prefix = s->alt ? "0o" : "";
    } else if (s->type == 'b') {
        size_t n = 0, bits = v ? 64 - (size_t)__builtin_clzll(v) : 1;
        while (n < bits) digits[n] = (char)('0' + (v >> (bits - 1 - n) & 1)), n++;
        digits[n] = '\0';
        prefix = s->alt ? "0b" : "";
    } else snprintf(digits, sizeof digits, "%llu", (unsigned long long)v);
    if (s->has_precision && s->precision > (int64_t)strlen(digits)) { /* %.5d */
        size_t n = strlen(digits), zeros = (size_t)(s->precision < 70 ? s->precision : 70) - n;
        if (n > 64) return run_fail(b->r, "precision is too large");
        memmove(digits + zeros, digits, n + 1);
        memset(digits, '0', zeros);
    }
    return put_number(b, s, i < 0, prefix, digits);
}

static bool put_float(struct sb *b, const struct spec *s, double f)
{
    char digits[700], fmt[12];
    int64_t precision = s->has_precision ? s->precision : 6;
    bool percent = s->type == '%', shortest = !s->type && !s->has_precision;
    if (precision > MAX_PRECISION) return run_fail(b->r, "precision %lld is too large", (long long)precision);
    if (percent) f *= 100;
    if (shortest) {
        struct sb text;
        struct value v;
        sb_init(&text, b->r);
        if (!sb_float(&text, fabs(f)) || !sb_char(&text, '\0', false) || !sb_value(&text, &v)) return false;
        return put_number(b, s, signbit(f) && !isnan(f), "", v.s->ptr);
    }
    char type = percent ? 'f' : s->type == 'n' ? 'g' : s->type ? s->type : 'g';
    snprintf(fmt, sizeof fmt, "%%%s.*%c", s->alt ? "#" : "", type);
    int n = snprintf(digits, sizeof digits - 2, fmt, (int)precision, fabs(f));
    if (n < 0 || (size_t)n >= sizeof digits - 2) return run_fail(b->r, "number is too long to print");
    if (percent) strncat(digits, "%", 2);
    if (!s->type && !strpbrk(digits, ".en")) strncat(digits, ".0", 3);
    return put_number(b, s, signbit(f) && !isnan(f), "", digits);
}

/* ---- "%..." ---- */

struct percent {
    struct sb b;
    struct vstr *fmt;
    size_t i;
    struct value arg;
    size_t next;
    bool used_dict;
};

static bool percent_next(struct percent *p, struct value *out)
{
    if (p->arg.kind == V_TUPLE) {
        if (p->next >= p->arg.l->n) return run_fail(p->b.r, "not enough arguments for format string");
        return *out = p->arg.l->items[p->next++], true;
    }
    if (p->next++) return run_fail(p->b.r, "not enough arguments for format string");
    return *out = p->arg, true;
}

static bool percent_count(struct percent *p, int64_t *out)
{
    struct value v;
    *out = 0;
    if (p->i < p->fmt->len && p->fmt->ptr[p->i] == '*') {
        p->i++;
        if (!percent_next(p, &v)) return false;
        if (!is_int(v, out)) return run_fail(p->b.r, "* wants int");
    } else {
        while (p->i < p->fmt->len && p->fmt->ptr[p->i] >= '0' && p->fmt->ptr[p->i] <= '9' && *out <= MAX_WIDTH)
            *out = *out * 10 + (p->fmt->ptr[p->i++] - '0');
    }
    if (*out > MAX_WIDTH || *out < -MAX_WIDTH) return run_fail(p->b.r, "width in a format is over %d", MAX_WIDTH);
    return true;
}

static bool percent_number(struct percent *p, struct spec *s, struct value v)
{
    int64_t i;
    double f;
    bool integer = strchr("diuxXo", s->type) != NULL;
    if (v.kind == V_UNDEFINED) return undefined_fail(p->b.r, v);
    if (!is_number(v, &f)) return run_fail(p->b.r, "%%%c format: a number is required, not %s", s->type, type_name(v));
    if (!integer) return put_float(&p->b, s, f);
    if (!is_int(v, &i)) {
        if (strchr("xXo", s->type)) return run_fail(p->b.r, "%%%c format: an integer is required, not float", s->type);
        if (!float_to_int(p->b.r, &i, f)) return false;
    }
    return put_int(&p->b, s, i);
}

static bool percent_text(struct percent *p, struct spec *s, struct value v)
{
    struct sb b;
    struct value text;
    int64_t i;
    sb_init(&b, p->b.r);
    if (s->type == 'c') {
        if (is_int(v, &i)) {
            if (i < 0 || i > 0x10ffff) return run_fail(p->b.r, "%%c arg not in range(0x110000)");
            if (!sb_utf8(&b, (uint32_t)i, false)) return false;
        } else if (v.kind != V_STR || vstr_chars(v.s) != 1 || !sb_vstr(&b, v.s))
            return run_fail(p->b.r, "%%c requires int or char");
    } else if (s->type == 's' ? !sb_str(&b, v) : !sb_repr(&b, v)) return false;
    if (!sb_value(&b, &text)) return false;
    if (s->has_precision && !vstr_sub(p->b.r, &text, text.s, 0, vstr_byte_at(text.s, (size_t)s->precision)))
        return false;
    if (p->fmt->markup && !(v.kind == V_STR && v.s->markup) && !escape_html(p->b.r, &text, text.s)) return false;
    return put_field(&p->b, s, text.s, '>');
}

static bool percent_field(struct percent *p)
{
    struct spec s = {.fill = ' '};
    struct value v = {.kind = V_MISSING};
    struct run *r = p->b.r;
    if (p->i < p->fmt->len && p->fmt->ptr[p->i] == '(') {
        ptrdiff_t close = bytes_find(r, vstr_str(p->fmt), STR(")"), p->i);
        bool found;
        if (close < 0) return run_fail(r, "incomplete format key");
        if (p->arg.kind != V_DICT) return run_fail(r, "format requires a mapping");
        struct str key = {p->fmt->ptr + p->i + 1, (size_t)close - p->i - 1};
        if (!dict_get_str(r, &v, &found, p->arg.d, key)) return false;
        if (!found) return run_fail(r, "format: key '%.*s' is missing", STR_ARG(key));
        p->used_dict = true;
        p->i = (size_t)close + 1;
    }
    for (; p->i < p->fmt->len && strchr("-+ #0", p->fmt->ptr[p->i]) && p->fmt->ptr[p->i]; p->i++) {
        char ch = p->fmt->ptr[p->i];
        if (ch == '-') s.align = '<';
        else if (ch == '#') s.alt = true;
        else if (ch == '0') s.zero = true;
        else if (s.sign != '+') s.sign = ch;
    }
    if (!percent_count(p, &s.width)) return false;
    if (s.width < 0) s.align = '<', s.width = -s.width;
    if (p->i < p->fmt->len && p->fmt->ptr[p->i] == '.') {
        p->i++;
        s.has_precision = true;
        if (!percent_count(p, &s.precision)) return false;
        if (s.precision < 0) s.precision = 0;
    }
    while (p->i < p->fmt->len && strchr("hlL", p->fmt->ptr[p->i]) && p->fmt->ptr[p->i]) p->i++;
    if (p->i >= p->fmt->len) return run_fail(r, "incomplete format");
    s.type = p->fmt->ptr[p->i++];
    if (s.type == '%') return sb_char(&p->b, '%', false);
    if (!s.type || !strchr("diuxXoeEfFgGcsra", s.type))
        return run_fail(r, "unsupported format character at index %zu of '%%' formatting", p->i - 1);
    if (v.kind == V_MISSING && !percent_next(p, &v)) return false;
    return strchr("csra", s.type) ? percent_text(p, &s, v) : percent_number(p, &s, v);
}

bool format_percent(struct run *r, struct value *out, struct vstr *fmt, struct value arg)
{
    struct percent p = {.fmt = fmt, .arg = arg};
    sb_init(&p.b, r);
    while (p.i < fmt->len) {
        ptrdiff_t at = bytes_find(r, vstr_str(fmt), STR("%"), p.i);
        size_t end = at < 0 ? fmt->len : (size_t)at;
        if (at == -2 || !sb_range(&p.b, fmt, p.i, end)) return false;
        p.i = end + 1;
        if (at >= 0 && !percent_field(&p)) return false;
    }
    bool all = arg.kind == V_TUPLE ? p.next >= arg.l->n
                                   : p.next > 0 || p.used_dict || arg.kind == V_DICT || arg.kind == V_LIST;
    if (!all) return run_fail(r, "not all arguments converted during string formatting");
    if (!sb_value(&p.b, out)) return false;
    out->s->markup = fmt->markup;
    return true;
}

/* ---- "{...}" ---- */

struct braces {
    struct run *r;
    struct vstr *fmt;
    const struct args *args;
    size_t next;
    bool automatic, manual;
};

static bool spec_number(struct run *r, int64_t *out, struct str s, size_t *i)
{
    for (*out = 0; *i < s.len && s.ptr[*i] >= '0' && s.ptr[*i] <= '9'; ++*i)
        if ((*out = *out * 10 + (s.ptr[*i] - '0')) > MAX_WIDTH)
            return run_fail(r, "width in a format is over %d", MAX_WIDTH);
    return true;
}

/* [[fill]align][sign][#][0][width][,][.precision][type] */
static bool spec_parse(struct run *r, struct spec *s, struct str t)
{
    size_t i = 0, size = 0;
    *s = (struct spec){.fill = ' '};
    if (t.len) {
        uint32_t fill = uni_at(t, 0, &size);
        if (size < t.len && strchr("<>=^", t.ptr[size]) && t.ptr[size]) {
            s->fill = fill;
            s->align = t.ptr[size];
            i = size + 1;
        } else if (strchr("<>=^", t.ptr[0]) && t.ptr[0]) s->align = t.ptr[i++];
    }
    if (i < t.len && (t.ptr[i] == '+' || t.ptr[i] == '-' || t.ptr[i] == ' ')) s->sign = t.ptr[i++];
    if (i < t.len && t.ptr[i] == 'z') i++;
    if (i < t.len && t.ptr[i] == '#') s->alt = true, i++;
    if (i < t.len && t.ptr[i] == '0') s->zero = true, i++;
    if (!spec_number(r, &s->width, t, &i)) return false;
    if (i < t.len && (t.ptr[i] == ',' || t.ptr[i] == '_')) s->group = t.ptr[i++];
    if (i < t.len && t.ptr[i] == '.') {
        i++;
        s->has_precision = true;
        if (i >= t.len || t.ptr[i] < '0' || t.ptr[i] > '9') return run_fail(r, "format specifier missing precision");
        if (!spec_number(r, &s->precision, t, &i)) return false;
    }
    if (i < t.len) s->type = t.ptr[i++];
    return i == t.len || run_fail(r, "invalid format specifier '%.*s'", STR_ARG(t));
}

static bool put_spec(struct sb *b, struct value v, struct str spec)
{
    struct run *r = b->r;
    struct spec s;
    struct vstr *text;
    struct value cut;
    int64_t i;
    if (!spec.len) return sb_str(b, v);
    if (!spec_parse(r, &s, spec)) return false;
    if (v.kind == V_FLOAT || (is_int(v, &i) && s.type && strchr("eEfFgG%", s.type))) {
        double f = 0;
        is_number(v, &f);
        if (s.type && !strchr("eEfFgGn%", s.type))
            return run_fail(r, "unknown format code '%c' for object of type 'float'", s.type);
        return put_float(b, &s, f);
    }
    if (is_int(v, &i) && s.type == 'c') return pad(b, (uint32_t)(i & 0x1fffff), 1);
    if (is_int(v, &i) && (v.kind == V_INT || s.type)) {
        if (s.has_precision) return run_fail(r, "precision not allowed in integer format specifier");
        if (s.type && !strchr("dxXobn", s.type))
            return run_fail(r, "unknown format code '%c' for object of type 'int'", s.type);
        return put_int(b, &s, i);
    }
    if (v.kind != V_STR && v.kind != V_BOOL)
        return run_fail(r, "unsupported format string passed to %s.__format__", type_name(v));
    if (s.type && s.type != 's') return run_fail(r, "unknown format code '%c' for object of type 'str'", s.type);
    if (!to_str(r, &text, v)) return false;
    if (s.has_precision) {
        if (!vstr_sub(r, &cut, text, 0, vstr_byte_at(text, (size_t)s.precision))) return false;
        text = cut.s;
    }
    if (s.align == '=') return run_fail(r, "'=' alignment not allowed in string format specifier");
    if (s.zero && !s.align) s.fill = '0';
    return put_field(b, &s, text, '<');
}

/* The first part of a field name: empty, a number or a keyword. */
static bool field_first(struct braces *p, struct value *out, struct str name)
{
    int64_t index = -1;
    bool ok = false;
    struct run *r = p->r;
    if (name.len && name.ptr[0] >= '0' && name.ptr[0] <= '9' && !parse_int(r, &index, &ok, name, 10)) return false;
    if (!name.len || ok) {
        *(ok ? &p->manual : &p->automatic) = true;
        if (p->manual && p->automatic)
            return run_fail(r, "cannot switch between automatic field numbering and manual field specification");
        size_t i = ok ? (size_t)index : p->next++;
        if (i >= p->args->n) return run_fail(r, "replacement index %zu out of range for positional args tuple", i);
        return *out = p->args->v[i], true;
    }
    for (size_t i = 0; i < p->args->n_kw; i++)
        if (str_eq(p->args->kw[i].name, name)) return *out = p->args->kw[i].value, true;
    return run_fail(r, "format: key '%.*s' is missing", STR_ARG(name));
}

static bool field_value(struct braces *p, struct value *out, struct str name)
{
    size_t i = 0;
    while (i < name.len && name.ptr[i] != '.' && name.ptr[i] != '[') i++;
    if (!field_first(p, out, str_slice(name, 0, i))) return false;
    while (i < name.len) {
        size_t from = i + 1, to = from;
        bool item = name.ptr[i] == '[', ok = false, copied;
        while (to < name.len && (item ? name.ptr[to] != ']' : name.ptr[to] != '.' && name.ptr[to] != '[')) to++;
        struct str part = str_slice(name, from, to);
        if (!part.len || (item && to == name.len)) return run_fail(p->r, "empty attribute in format string");
        struct value key;
        if (!str_value(p->r, &key, part)) return false;
        int64_t index;
        if (item && !parse_int(p->r, &index, &ok, part, 10)) return false;
        if (ok && part.ptr[0] != '-') key = value_int(index);
        copied = item ? get_item(p->r, out, *out, key) : get_attr(p->r, out, *out, part);
        if (!copied) return false;
        i = item ? to + 1 : to;
    }
    return true;
}

static bool braces_run(struct braces *p, struct sb *b, struct str s, unsigned depth);

static bool braces_field(struct braces *p, struct sb *b, struct str field, unsigned depth)
{
    struct value v, spec_text;
    size_t i = 0;
    bool bracket = false;
    for (; i < field.len && (bracket || (field.ptr[i] != '!' && field.ptr[i] != ':')); i++)
        bracket = field.ptr[i] == '[' || (bracket && field.ptr[i] != ']');
    if (!field_value(p, &v, str_slice(field, 0, i))) return false;
    if (i < field.len && field.ptr[i] == '!') {
        char how = i + 1 < field.len ? field.ptr[i + 1] : 0;
        if (how != 'r' && how != 's' && how != 'a') return run_fail(p->r, "unknown conversion specifier in format");
        struct sb text;
        sb_init(&text, p->r);
        if (!(how == 's' ? sb_str(&text, v) : sb_repr(&text, v)) || !sb_value(&text, &v)) return false;
        i += 2;
        if (i < field.len && field.ptr[i] != ':') return run_fail(p->r, "expected ':' after conversion specifier");
    }
    struct sb spec;
    sb_init(&spec, p->r);
    if (i < field.len && !braces_run(p, &spec, str_slice(field, i + 1, field.len), depth + 1)) return false;
    if (!sb_value(&spec, &spec_text)) return false;
    if (p->fmt->markup && v.kind == V_STR && !v.s->markup && !escape_html(p->r, &v, v.s)) return false;
    return put_spec(b, v, vstr_str(spec_text.s));
}

static bool braces_run(struct braces *p, struct sb *b, struct str s, unsigned depth)
{
    if (depth > 2) return run_fail(p->r, "max format recursion exceeded");
    for (size_t i = 0; i < s.len; i++) {
        char ch = s.ptr[i];
        if ((ch == '{' || ch == '}') && i + 1 < s.len && s.ptr[i + 1] == ch && depth == 0) {
            if (!sb_char(b, ch, false)) return false;
            i++;
            continue;
        }
        if (ch == '}') return run_fail(p->r, "single '}' encountered in format string");
        if (ch != '{') {
            size_t end = i;
            while (end < s.len && s.ptr[end] != '{' && s.ptr[end] != '}') end++;
            size_t base = (size_t)(s.ptr - p->fmt->ptr);
            if (!sb_range(b, p->fmt, base + i, base + end)) return false;
            i = end - 1;
            continue;
        }
        size_t end = i + 1;
        for (size_t open = 1; end < s.len; end++) {
            open += s.ptr[end] == '{';
            if (s.ptr[end] == '}' && --open == 0) break;
        }
        if (end >= s.len) return run_fail(p->r, "expected '}' before end of string");
        if (!braces_field(p, b, str_slice(s, i + 1, end), depth)) return false;
        i = end;
    }
    return true;
}

bool format_braces(struct run *r, struct value *out, struct vstr *fmt, const struct args *args)
{
    struct braces p = {.r = r, .fmt = fmt, .args = args};
    struct sb b;
    sb_init(&b, r);
    if (!braces_run(&p, &b, vstr_str(fmt), 0) || !sb_value(&b, out)) return false;
    out->s->markup = fmt->markup;
    return true;
}
