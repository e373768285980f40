/* repr: values as text, the way Python prints them: str() for output, repr() inside containers, floats in the shortest
 * form that reads back the same. Taint of strings is kept. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "jinja/jinja_internal.h"

/* Shortest digits that give f back: up to 15 always suffice to tell decimals apart, so longer ones only when needed.
 * Subnormal numbers have fewer exact digits and start at one. */
static void shortest(char *out, size_t size, double f)
{
    int digits = fabs(f) < 2.3e-308 ? 1 : 15;
    do snprintf(out, size, "%.*e", digits - 1, f);
    while (strtod(out, NULL) != f && ++digits <= 17);
}

bool sb_float(struct sb *b, double f)
{
    char e[40], digits[24];
    if (isnan(f)) return sb_text(b, "nan");
    if (isinf(f)) return sb_text(b, f < 0 ? "-inf" : "inf");
    shortest(e, sizeof e, f);
    char *p = e;
    if (*p == '-' && (sb_char(b, '-', false), true)) p++;
    int exp = (int)strtol(strchr(p, 'e') + 1, NULL, 10), n = 0;
    for (; *p != 'e'; p++)
        if (*p != '.') digits[n++] = *p;
    while (n > 1 && digits[n - 1] == '0') n--;
    if (exp < -4 || exp >= 16) {
        sb_put(b, digits, 1, false);
        if (n > 1) sb_char(b, '.', false), sb_put(b, digits + 1, (size_t)n - 1, false);
        return sb_printf(b, "e%c%02d", exp < 0 ? '-' : '+', abs(exp));
    }
    if (exp < 0) {
        sb_text(b, "0.");
        sb_fill(b, '0', (size_t)(-exp - 1));
        return sb_put(b, digits, (size_t)n, false);
    }
    int whole = exp + 1;
    sb_put(b, digits, (size_t)(n < whole ? n : whole), false);
    if (n < whole) sb_fill(b, '0', (size_t)(whole - n));
    sb_char(b, '.', false);
    return n > whole ? sb_put(b, digits + whole, (size_t)(n - whole), false) : sb_char(b, '0', false);
}

static bool repr_char(struct sb *b, uint32_t c, char quote, bool tainted)
{
    char tmp[16];
    const char *simple = c == '\n' ? "\\n" : c == '\r' ? "\\r" : c == '\t' ? "\\t" : c == '\\' ? "\\\\" : NULL;
    if (simple) return sb_put(b, simple, 2, tainted);
    if (c == (unsigned char)quote) snprintf(tmp, sizeof tmp, "\\%c", quote);
    else if (c < 0x20 || c == 0x7f || (c >= 0x80 && c < 0x100)) snprintf(tmp, sizeof tmp, "\\x%02x", c);
    else if (c < 0x10000) snprintf(tmp, sizeof tmp, "\\u%04x", c);
    else snprintf(tmp, sizeof tmp, "\\U%08x", c);
    return sb_put(b, tmp, strlen(tmp), tainted);
}

static bool repr_str(struct sb *b, struct vstr *s)
{
    bool single = memchr(s->ptr, '\'', s->len) != NULL, dbl = memchr(s->ptr, '"', s->len) != NULL;
    char quote = single && !dbl ? '"' : '\'';
    size_t size, plain = 0;
    if (s->markup && !sb_text(b, "Markup(")) return false;
    if (!charge(b->r, s->len) || !sb_char(b, quote, s->taint != TAINT_NONE)) return false;
    for (size_t i = 0; i < s->len; i += size) {
        uint32_t c = uni_at(vstr_str(s), i, &size);
        if (c != (unsigned char)quote && c != '\\' && (c < 0x80 ? c >= 0x20 && c != 0x7f : uni_is_printable(c)))
            continue;
        if (!sb_range(b, s, plain, i) || !repr_char(b, c, quote, vstr_tainted(s, i, i + size))) return false;
        plain = i + size;
    }
    if (!sb_range(b, s, plain, s->len) || !sb_char(b, quote, s->taint != TAINT_NONE)) return false;
    return !s->markup || sb_char(b, ')', false);
}

static bool repr_list(struct sb *b, struct vlist *l, bool tuple)
{
    if (l->visiting) return sb_text(b, tuple ? "(...)" : "[...]");
    if (!list_force(b->r, l)) return false;
    l->visiting = true;
    sb_char(b, tuple ? '(' : '[', false);
    for (size_t i = 0; i < l->n; i++) {
        if (i) sb_text(b, ", ");
        if (!sb_repr(b, l->items[i])) return l->visiting = false, false;
    }
    l->visiting = false;
    if (tuple && l->n == 1) sb_char(b, ',', false);
    return sb_char(b, tuple ? ')' : ']', false);
}

static bool repr_dict(struct sb *b, struct vdict *d)
{
    bool first = true;
    if (d->visiting) return sb_text(b, "{...}");
    if (!dict_force(b->r, d)) return false;
    d->visiting = true;
    sb_char(b, '{', false);
    for (size_t i = 0; i < d->n; i++) {
        const struct ventry *e = &d->entries[i];
        if (e->key.kind == V_MISSING) continue;
        if (!first) sb_text(b, ", ");
        first = false;
        if (!sb_repr(b, e->key) || !sb_text(b, ": ") || !sb_repr(b, e->value)) return d->visiting = false, false;
    }
    d->visiting = false;
    return sb_char(b, '}', false);
}

static bool repr_view(struct sb *b, const struct vview *v)
{
    struct value copy;
    if (!sb_printf(b, "%s(", type_name((struct value){.kind = V_VIEW, .view = (struct vview *)(uintptr_t)v})))
        return false;
    if (!iter_collect(b->r, &copy, V_LIST, (struct value){.kind = V_VIEW, .view = (struct vview *)(uintptr_t)v}))
        return false;
    return repr_list(b, copy.l, false) && sb_char(b, ')', false);
}

static bool repr_range(struct sb *b, const struct vrange *x)
{
    if (x->step == 1) return sb_printf(b, "range(%lld, %lld)", (long long)x->start, (long long)x->stop);
    return sb_printf(b, "range(%lld, %lld, %lld)", (long long)x->start, (long long)x->stop, (long long)x->step);
}

static bool repr_kind(struct sb *b, struct value v)
{
    switch (v.kind) {
    case V_UNDEFINED: return sb_text(b, "Undefined");
    case V_NONE: return sb_text(b, "None");
    case V_BOOL: return sb_text(b, v.b ? "True" : "False");
    case V_INT: return sb_printf(b, "%lld", (long long)v.i);
    case V_BIG: return sb_big(b, v.big);
    case V_FLOAT: return sb_float(b, v.f);
    case V_STR: return repr_str(b, v.s);
    case V_LIST:
    case V_TUPLE: return repr_list(b, v.l, v.kind == V_TUPLE);
    case V_DICT: return repr_dict(b, v.d);
    case V_RANGE: return repr_range(b, v.range);
    case V_VIEW: return repr_view(b, v.view);
    case V_NAMESPACE: return sb_text(b, "<Namespace ") && repr_dict(b, v.d) && sb_char(b, '>', false);
    case V_MACRO:
        if (!v.macro->def->name.ptr) return sb_text(b, "<Macro anonymous>");
        return sb_text(b, "<Macro '") && sb_put(b, v.macro->def->name.ptr, v.macro->def->name.len, false) &&
               sb_text(b, "'>");
    case V_LOOP: return sb_loop(b, v.loop);
    case V_FUNC:
        if (!v.func->type_name) return sb_printf(b, "<function %s>", v.func->fn->name);
        return sb_printf(b, "<built-in method %s of %s object>", v.func->fn->name, v.func->type_name);
    case V_ITER: return sb_printf(b, "<%s object>", v.iter->name);
    default: return sb_printf(b, "<%s object>", type_name(v));
    }
}

bool sb_repr(struct sb *b, struct value v)
{
    if (!enter(b->r)) return false;
    bool ok = repr_kind(b, v);
    leave(b->r);
    return ok;
}

bool sb_str(struct sb *b, struct value v)
{
    if (v.kind == V_STR) return sb_vstr(b, v.s);
    if (v.kind == V_UNDEFINED) return !b->failed;
    return sb_repr(b, v);
}

bool to_str(struct run *r, struct vstr **out, struct value v)
{
    struct sb b;
    struct value s;
    if (v.kind == V_STR) return *out = v.s, true;
    sb_init(&b, r);
    if (!sb_str(&b, v) || !sb_value(&b, &s)) return false;
    *out = s.s;
    return true;
}

const char *short_repr(struct run *r, char *tmp, size_t tmp_size, struct value v)
{
    struct sb b;
    sb_init(&b, r);
    if (v.kind == V_STR && v.s->len > 100) {
        struct value cut;
        if (vstr_sub(r, &cut, v.s, 0, utf8_complete_len((struct str){v.s->ptr, 100}))) v = cut;
    }
    bool cheap = v.kind < V_LIST;
    bool ok = cheap && sb_repr(&b, v);
    snprintf(tmp, tmp_size, "%.*s", ok ? (int)(b.len < tmp_size ? b.len : tmp_size - 1) : (int)strlen(type_name(v)),
             ok ? b.ptr : type_name(v));
    return tmp;
}
