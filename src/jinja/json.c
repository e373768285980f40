/* json: tojson as Python's json.dumps writes it (order kept, ", " and ": ", no HTML escapes), and from_json.
 * What comes from the context is tainted as a whole; pieces of template-made values by their strings. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "jinja/jinja_internal.h"

struct dump {
    struct sb b;
    bool ascii, sort_keys, pretty, taint_all;
    struct vstr *indent, *item_sep, *key_sep;
    unsigned depth;
};

static bool put_escaped(struct dump *d, uint32_t c, bool tainted)
{
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    const char *hit = c && c < 0x80 ? strchr(from, (int)c) : NULL;
    char tmp[16];
    if (hit) {
        char two[2] = {'\\', to[hit - from]};
        return sb_put(&d->b, two, 2, tainted);
    }
    uint32_t unit[2] = {c, 0};
    if (c >= 0x10000) {
        unit[0] = 0xd800 + ((c - 0x10000) >> 10);
        unit[1] = 0xdc00 + ((c - 0x10000) & 0x3ff);
    }
    for (size_t i = 0; i < 2 && (i == 0 || unit[i]); i++) {
        static const char hex[] = "0123456789abcdef";
        tmp[0] = '\\', tmp[1] = 'u';
        for (size_t k = 0; k < 4; k++) tmp[2 + k] = hex[unit[i] >> (12 - 4 * k) & 15];
        if (!sb_put(&d->b, tmp, 6, tainted)) return false;
    }
    return true;
}

static bool dump_str(struct dump *d, struct vstr *s)
{
    size_t size, plain = 0;
    bool any = d->taint_all || s->taint != TAINT_NONE;
    if (!charge(d->b.r, s->len) || !sb_char(&d->b, '"', any)) return false;
    for (size_t i = 0; i < s->len; i += size) {
        unsigned char ch = (unsigned char)s->ptr[i];
        size = 1;
        if (ch >= 0x20 && ch != '"' && ch != '\\' && ch < 0x80 && (ch != 0x7f || !d->ascii)) continue;
        if (ch >= 0x80 && !d->ascii) continue;
        uint32_t c = uni_at(vstr_str(s), i, &size);
        if (!sb_range(&d->b, s, plain, i) || !put_escaped(d, c, vstr_tainted(s, i, i + size))) return false;
        plain = i + size;
    }
    return sb_range(&d->b, s, plain, s->len) && sb_char(&d->b, '"', any);
}

static bool newline(struct dump *d)
{
    if (!d->pretty) return true;
    if (!sb_char(&d->b, '\n', false)) return false;
    for (unsigned i = 0; i < d->depth; i++)
        if (!sb_vstr(&d->b, d->indent)) return false;
    return true;
}

static bool dump_value(struct dump *d, struct value v);

static bool dump_list(struct dump *d, struct vlist *l)
{
    if (!list_force(d->b.r, l)) return false;
    if (!l->n) return sb_text(&d->b, "[]");
    if (l->visiting) return run_fail(d->b.r, "tojson: circular reference");
    l->visiting = true;
    d->depth++;
    sb_char(&d->b, '[', false);
    for (size_t i = 0; i < l->n; i++)
        if ((i && !sb_vstr(&d->b, d->item_sep)) || !newline(d) || !dump_value(d, l->items[i])) return false;
    d->depth--;
    l->visiting = false;
    return newline(d) && sb_char(&d->b, ']', false);
}

static bool dump_key(struct dump *d, struct value key)
{
    struct sb b;
    struct value s;
    if (key.kind == V_STR) return dump_str(d, key.s);
    if (key.kind > V_STR || key.kind < V_NONE)
        return run_fail(d->b.r, "tojson: keys must be str, int, float, bool or None, not %s", type_name(key));
    sb_init(&b, d->b.r);
    if (key.kind == V_NONE) sb_text(&b, "null");
    else if (key.kind == V_BOOL) sb_text(&b, key.b ? "true" : "false");
    else sb_str(&b, key);
    return sb_value(&b, &s) && dump_str(d, s.s);
}

/* The entries in order, or sorted by key. */
static bool dict_items(struct dump *d, struct value *items, size_t *n, struct vdict *dict)
{
    struct run *r = d->b.r;
    struct value keys;
    if (!list_new(r, items, V_LIST, 2 * dict->n_live) || !list_new(r, &keys, V_LIST, dict->n_live)) return false;
    struct value *pairs = run_alloc(r, dict->n_live * sizeof *pairs);
    if (!pairs) return false;
    *n = 0;
    for (size_t i = 0; i < dict->n; i++) {
        const struct ventry *e = &dict->entries[i];
        if (e->key.kind == V_MISSING) continue;
        keys.l->items[*n] = e->key;
        pairs[(*n)++] = value_int((int64_t)i);
    }
    if (d->sort_keys && !values_sort(r, pairs, keys.l->items, *n, false)) return false;
    for (size_t i = 0; i < *n; i++) {
        items->l->items[2 * i] = dict->entries[pairs[i].i].key;
        items->l->items[2 * i + 1] = dict->entries[pairs[i].i].value;
    }
    return true;
}

static bool dump_dict(struct dump *d, struct vdict *dict)
{
    struct value items;
    size_t n;
    if (!dict_force(d->b.r, dict)) return false;
    if (!dict->n_live) return sb_text(&d->b, "{}");
    if (dict->visiting) return run_fail(d->b.r, "tojson: circular reference");
    if (!dict_items(d, &items, &n, dict)) return false;
    dict->visiting = true;
    d->depth++;
    sb_char(&d->b, '{', false);
    for (size_t i = 0; i < n; i++) {
        if ((i && !sb_vstr(&d->b, d->item_sep)) || !newline(d) || !dump_key(d, items.l->items[2 * i]) ||
            !sb_vstr(&d->b, d->key_sep) || !dump_value(d, items.l->items[2 * i + 1]))
            return false;
    }
    d->depth--;
    dict->visiting = false;
    return newline(d) && sb_char(&d->b, '}', false);
}

static bool dump_kind(struct dump *d, struct value v)
{
    switch (v.kind) {
    case V_NONE: return sb_text(&d->b, "null");
    case V_BOOL: return sb_text(&d->b, v.b ? "true" : "false");
    case V_INT:
    case V_BIG: return sb_str(&d->b, v);
    case V_FLOAT:
        if (isnan(v.f)) return sb_text(&d->b, "NaN");
        if (isinf(v.f)) return sb_text(&d->b, v.f < 0 ? "-Infinity" : "Infinity");
        return sb_float(&d->b, v.f);
    case V_STR: return dump_str(d, v.s);
    case V_LIST:
    case V_TUPLE: return dump_list(d, v.l);
    case V_DICT: return dump_dict(d, v.d);
    default: return run_fail(d->b.r, "tojson: object of type %s is not JSON serializable", type_name(v));
    }
}

static bool dump_value(struct dump *d, struct value v)
{
    struct run *r = d->b.r;
    bool outer = d->taint_all;
    size_t from = d->b.len, spans = d->b.n_spans; /* strings do not touch spans before them: a separator lies between */
    bool whole =
        (v.kind == V_DICT && v.d->from_context) || ((v.kind == V_LIST || v.kind == V_TUPLE) && v.l->from_context);
    if (!enter(r)) return false;
    d->taint_all = outer || whole;
    bool ok = dump_kind(d, v);
    d->taint_all = outer;
    leave(r);
    if (!ok || d->b.failed) return false;
    if (!whole || outer) return true;
    /* The outermost container of the context: one span over all of it. */
    d->b.n_spans = spans;
    return sb_taint(&d->b, from);
}

/* options: ensure_ascii, indent, separators, sort_keys; each may be V_MISSING. */
static bool dump_options(struct run *r, struct dump *d, const struct value *o)
{
    struct value v, pair;
    int64_t n;
    if (o[0].kind != V_MISSING && !value_truth(r, &d->ascii, o[0])) return false;
    if (o[3].kind != V_MISSING && !value_truth(r, &d->sort_keys, o[3])) return false;
    d->pretty = o[1].kind != V_MISSING && o[1].kind != V_NONE;
    if (d->pretty && o[1].kind == V_STR) d->indent = o[1].s;
    else if (d->pretty) {
        struct sb b;
        if (!is_int(o[1], &n)) return run_fail(r, "tojson: indent must be an integer or a string");
        sb_init(&b, r);
        if (n > 1000) return run_fail(r, "tojson: indent over 1000");
        if (!sb_fill(&b, ' ', n > 0 ? (size_t)n : 0) || !sb_value(&b, &v)) return false;
        d->indent = v.s;
    }
    d->item_sep = vstr_new(r, d->pretty ? "," : ", ", d->pretty ? 1 : 2, TAINT_NONE);
    d->key_sep = vstr_new(r, ": ", 2, TAINT_NONE);
    if (!d->item_sep || !d->key_sep) return false;
    if (o[2].kind == V_MISSING || o[2].kind == V_NONE) return true;
    if (!iter_collect(r, &pair, V_LIST, o[2])) return false;
    if (pair.l->n != 2 || pair.l->items[0].kind != V_STR || pair.l->items[1].kind != V_STR)
        return run_fail(r, "tojson: separators must be two strings");
    d->item_sep = pair.l->items[0].s;
    d->key_sep = pair.l->items[1].s;
    return true;
}

bool json_dump(struct run *r, struct value *out, struct value v, const struct value *options)
{
    struct dump d = {0};
    sb_init(&d.b, r);
    return dump_options(r, &d, options) && dump_value(&d, v) && sb_value(&d.b, out);
}

bool json_parse(struct run *r, struct value *out, struct vstr *s)
{
    json_error_t error;
    if (r->n_parsed == r->cap_parsed) {
        size_t cap = r->cap_parsed ? r->cap_parsed * 2 : 4;
        json_t **grown = mem_try_realloc(r->parsed, cap * sizeof(json_t *));
        if (!grown) return run_fail(r, "from_json: out of memory");
        r->parsed = grown;
        r->cap_parsed = cap;
    }
    /* jansson's tree needs about 60 bytes a value: it counts against the memory budget. */
    if (!charge(r, s->len * 16) || !run_alloc(r, s->len > (SIZE_MAX >> 7) ? SIZE_MAX : s->len * 16)) return false;
    json_t *json = json_loadb(s->ptr, s->len, JSON_DECODE_ANY, &error);
    if (!json) return run_fail(r, "from_json: %s (line %d column %d)", error.text, error.line, error.column);
    r->parsed[r->n_parsed++] = json;
    return value_from_json(r, out, json, s->taint != TAINT_NONE);
}
