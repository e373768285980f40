/* filters_sequence: filters on lists, dicts and other iterables. */
#include <string.h>

#include "jinja/jinja_internal.h"

#define ARGS struct run *r, struct value *out, struct value self, const struct value *a, const struct args *raw
#define UNUSED (void)r, (void)a, (void)raw, (void)self

static bool bool_arg(struct run *r, bool *out, struct value v, bool fallback)
{
    *out = fallback;
    return v.kind == V_MISSING || value_truth(r, out, v);
}

static bool fold(struct run *r, struct value *v)
{
    struct sb b;
    if (v->kind != V_STR) return true;
    sb_init(&b, r);
    return sb_case(&b, v->s, 0, v->s->len, CASE_LOWER) && sb_value(&b, v);
}

static bool filter_length(ARGS)
{
    size_t n;
    UNUSED;
    return value_len(r, &n, self) && (*out = value_int((int64_t)n), true);
}

static bool filter_default(ARGS)
{
    bool also_false, truth = true;
    UNUSED;
    if (!bool_arg(r, &also_false, a[1], false)) return false;
    if (also_false && !value_truth(r, &truth, self)) return false;
    if (self.kind != V_UNDEFINED && truth) return *out = self, true;
    return a[0].kind == V_MISSING ? cstr_value(r, out, "") : (*out = a[0], true);
}

static bool filter_first(ARGS)
{
    struct iter it;
    UNUSED;
    if (!iter_init(r, &it, self)) return false;
    int got = iter_next(r, out, &it);
    return got > 0 || (got == 0 && undefined_hint(r, out, "no first item, sequence was empty"));
}

static bool reversible(struct run *r, struct iter *it, struct value v)
{
    if (v.kind == V_ITER || v.kind == V_LOOP) return false;
    if (v.kind == V_STR) return true;
    if (!iter_init(r, it, v)) return false;
    it->reverse = true;
    return true;
}

static bool filter_last(ARGS)
{
    struct iter it;
    UNUSED;
    if (self.kind == V_STR && self.s->len) return get_item(r, out, self, value_int(-1));
    if (self.kind == V_STR) return undefined_hint(r, out, "no last item, sequence was empty");
    if (!reversible(r, &it, self)) return run_fail(r, "'%s' object is not reversible", type_name(self));
    int got = iter_next(r, out, &it);
    return got > 0 || (got == 0 && undefined_hint(r, out, "no last item, sequence was empty"));
}

static bool filter_random(ARGS)
{
    UNUSED;
    (void)out;
    return run_fail(r, "random is refused: the same conversation must render to the same text");
}

static bool filter_reverse(ARGS)
{
    struct iter it;
    UNUSED;
    if (self.kind == V_STR) {
        const struct value step[3] = {VALUE_NONE, VALUE_NONE, value_int(-1)};
        return get_slice(r, out, self, step);
    }
    if (self.kind != V_ITER && self.kind != V_LOOP)
        return reversible(r, &it, self) && iter_value(r, out, &it, "reversed");
    if (!iter_collect(r, out, V_LIST, self)) return false;
    struct value *items = out->l->items;
    for (size_t i = 0, k = out->l->n; i + 1 < k; i++) {
        struct value t = items[--k];
        items[k] = items[i];
        items[i] = t;
    }
    return true;
}

static bool filter_list(ARGS)
{
    UNUSED;
    return iter_collect(r, out, V_LIST, self);
}

static bool filter_join(ARGS)
{
    struct iter it;
    struct value v;
    struct vstr *sep = NULL;
    struct attr_path path;
    struct sb b;
    int got;
    UNUSED;
    if ((a[0].kind != V_MISSING && !to_str(r, &sep, a[0])) || !attr_path_init(r, &path, a[1])) return false;
    if (!iter_init(r, &it, self)) return false;
    sb_init(&b, r);
    for (bool first = true; (got = iter_next(r, &v, &it)) > 0; first = false) {
        if (!get_path(r, &v, v, &path, NULL)) return false;
        if ((!first && sep && !sb_vstr(&b, sep)) || !sb_str(&b, v)) return false;
    }
    return got == 0 && sb_value(&b, out);
}

static bool filter_items(ARGS)
{
    struct iter it;
    UNUSED;
    if (self.kind == V_UNDEFINED) return iter_init(r, &it, self) && iter_value(r, out, &it, "generator");
    if (self.kind != V_DICT) return run_fail(r, "can only get item pairs from a mapping, not %s", type_name(self));
    if (!iter_init(r, &it, self)) return false;
    it.view = VIEW_ITEMS;
    return iter_value(r, out, &it, "generator");
}

static bool filter_attr(ARGS)
{
    UNUSED;
    if (a[0].kind != V_STR) return run_fail(r, "attr: the name must be a string");
    if (self.kind == V_DICT && !method_find(self, vstr_str(a[0].s))) return undefined_attr(r, out, self, a[0]);
    return get_attr(r, out, self, vstr_str(a[0].s));
}

/* ---- order ---- */

/* Each key is a list, as in Jinja: equal items that have no order (None, None) are then no error. */
static bool sort_keys(struct run *r, struct value *keys, struct value list, struct value attribute, bool fold_case)
{
    struct attr_path paths[8];
    size_t n = 0;
    if (attribute.kind == V_STR) { /* "a,b": several attributes */
        struct vstr *s = attribute.s;
        for (size_t from = 0; from <= s->len;) {
            ptrdiff_t comma = bytes_find(r, vstr_str(s), STR(","), from);
            size_t to = comma < 0 ? s->len : (size_t)comma;
            struct value part;
            if (n == 8) return run_fail(r, "sort by more than 8 attributes");
            if (!vstr_sub(r, &part, s, from, to) || !attr_path_init(r, &paths[n++], part)) return false;
            from = to + 1;
        }
    } else if (!attr_path_init(r, &paths[n++], attribute)) return false;
    if (!list_new(r, keys, V_LIST, list.l->n)) return false;
    for (size_t i = 0; i < list.l->n; i++) {
        struct value key, one;
        if (!list_new(r, &key, V_LIST, n)) return false;
        for (size_t k = 0; k < n; k++) {
            if (!get_path(r, &one, list.l->items[i], &paths[k], NULL) || (fold_case && !fold(r, &one))) return false;
            if (!list_push(r, key.l, one)) return false;
        }
        if (!list_push(r, keys->l, key)) return false;
    }
    return true;
}

static bool filter_sort(ARGS)
{
    bool reverse, sensitive;
    struct value keys;
    UNUSED;
    if (!bool_arg(r, &reverse, a[0], false) || !bool_arg(r, &sensitive, a[1], false)) return false;
    return iter_collect(r, out, V_LIST, self) && sort_keys(r, &keys, *out, a[2], !sensitive) &&
           values_sort(r, out->l->items, keys.l->items, out->l->n, reverse);
}

static bool filter_dictsort(ARGS)
{
    bool reverse, sensitive, by_value = false;
    struct value keys;
    struct vview view = {.kind = VIEW_ITEMS};
    UNUSED;
    if (!bool_arg(r, &sensitive, a[0], false) || !bool_arg(r, &reverse, a[2], false)) return false;
    if (a[1].kind != V_MISSING) {
        by_value = a[1].kind == V_STR && str_eq(vstr_str(a[1].s), STR("value"));
        if (!by_value && !(a[1].kind == V_STR && str_eq(vstr_str(a[1].s), STR("key"))))
            return run_fail(r, "you can only sort by either \"key\" or \"value\"");
    }
    if (self.kind == V_UNDEFINED) return undefined_fail(r, self);
    if (self.kind != V_DICT) return run_fail(r, "dictsort needs a mapping, not %s", type_name(self));
    view.d = self.d;
    return iter_collect(r, out, V_LIST, (struct value){.kind = V_VIEW, .view = &view}) &&
           sort_keys(r, &keys, *out, value_int(by_value), !sensitive) &&
           values_sort(r, out->l->items, keys.l->items, out->l->n, reverse);
}

static bool min_max(ARGS, bool max)
{
    struct iter it;
    struct value v, key, best = {.kind = V_MISSING};
    struct attr_path path;
    bool sensitive, better = true;
    int got;
    UNUSED;
    if (!bool_arg(r, &sensitive, a[0], false) || !attr_path_init(r, &path, a[1]) || !iter_init(r, &it, self))
        return false;
    while ((got = iter_next(r, &v, &it)) > 0) {
        if (!get_path(r, &key, v, &path, NULL) || (!sensitive && !fold(r, &key))) return false;
        if (best.kind != V_MISSING && !value_less(r, &better, max ? best : key, max ? key : best, max ? ">" : "<"))
            return false;
        if (better) *out = v, best = key;
    }
    if (got < 0) return false;
    return best.kind != V_MISSING || undefined_hint(r, out, "no aggregated item, sequence was empty");
}

static bool filter_min(ARGS)
{
    return min_max(r, out, self, a, raw, false);
}

static bool filter_max(ARGS)
{
    return min_max(r, out, self, a, raw, true);
}

static bool filter_sum(ARGS)
{
    struct iter it;
    struct value v;
    struct attr_path path;
    int got;
    UNUSED;
    *out = a[1].kind == V_MISSING ? value_int(0) : a[1];
    if (out->kind == V_STR) return run_fail(r, "sum() can't sum strings: use join");
    if (!attr_path_init(r, &path, a[0]) || !iter_init(r, &it, self)) return false;
    while ((got = iter_next(r, &v, &it)) > 0)
        if (!get_path(r, &v, v, &path, NULL) || !op_binary(r, out, OP_ADD, *out, v)) return false;
    return got == 0;
}

/* ---- groups ---- */

static bool filter_groupby(ARGS)
{
    bool sensitive;
    struct value list, keys, raw_key;
    struct attr_path path;
    const struct value *fallback = a[1].kind == V_MISSING ? NULL : &a[1];
    UNUSED;
    if (!bool_arg(r, &sensitive, a[2], false) || !attr_path_init(r, &path, a[0])) return false;
    if (!iter_collect(r, &list, V_LIST, self) || !list_new(r, &keys, V_LIST, list.l->n)) return false;
    for (size_t i = 0; i < list.l->n; i++) {
        struct value key;
        if (!get_path(r, &key, list.l->items[i], &path, fallback) || (!sensitive && !fold(r, &key)) ||
            !list_push(r, keys.l, key))
            return false;
    }
    if (!values_sort(r, list.l->items, keys.l->items, list.l->n, false) || !list_new(r, out, V_LIST, 0)) return false;
    for (size_t i = 0; i < list.l->n;) {
        struct value group, pair;
        size_t first = i;
        bool same = true;
        if (!list_new(r, &group, V_LIST, 0)) return false;
        while (i < list.l->n) {
            if (i > first && !value_equal(r, &same, keys.l->items[first], keys.l->items[i])) return false;
            if (!same) break;
            if (!list_push(r, group.l, list.l->items[i++])) return false;
        }
        if (!get_path(r, &raw_key, list.l->items[first], &path, fallback) || !pair_new(r, &pair, raw_key, group))
            return false;
        pair.l->group = true;
        if (!list_push(r, out->l, pair)) return false;
    }
    return true;
}

static bool as_generator(struct run *r, struct value *out, struct value list)
{
    struct iter it;
    return iter_init(r, &it, list) && iter_value(r, out, &it, "generator");
}

static bool filter_batch(ARGS)
{
    struct value list, all, part = {.kind = V_MISSING};
    int64_t n;
    UNUSED;
    if (!is_int(a[0], &n)) return run_fail(r, "batch: the line count must be an integer");
    if (!iter_collect(r, &list, V_LIST, self) || !list_new(r, &all, V_LIST, 0)) return false;
    for (size_t i = 0; i < list.l->n; i++) {
        if (part.kind == V_MISSING || (n >= 0 && part.l->n == (size_t)n)) {
            if (part.kind != V_MISSING && !list_push(r, all.l, part)) return false;
            if (!list_new(r, &part, V_LIST, 0)) return false;
        }
        if (!list_push(r, part.l, list.l->items[i])) return false;
    }
    if (part.kind != V_MISSING) {
        bool fill = a[1].kind != V_MISSING && a[1].kind != V_NONE;
        while (fill && (int64_t)part.l->n < n)
            if (!list_push(r, part.l, a[1]) || !charge(r, 64)) return false;
        if (!list_push(r, all.l, part)) return false;
    }
    return as_generator(r, out, all);
}

static bool filter_slice(ARGS)
{
    struct value list, all, part;
    int64_t n, offset = 0;
    UNUSED;
    if (!is_int(a[0], &n)) return run_fail(r, "slice: the number of slices must be an integer");
    if (n == 0) return run_fail(r, "integer division or modulo by zero");
    if (!iter_collect(r, &list, V_LIST, self) || !list_new(r, &all, V_LIST, 0)) return false;
    int64_t len = (int64_t)list.l->n, per = n > 0 ? len / n : 0, extra = n > 0 ? len % n : 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t start = offset + i * per;
        offset += i < extra;
        int64_t end = offset + (i + 1) * per;
        if (!list_new(r, &part, V_LIST, 0) || !charge(r, 64)) return false;
        for (int64_t k = start; k < end; k++)
            if (!list_push(r, part.l, list.l->items[k])) return false;
        if (a[1].kind != V_MISSING && a[1].kind != V_NONE && i >= extra && !list_push(r, part.l, a[1])) return false;
        if (!list_push(r, all.l, part)) return false;
    }
    return as_generator(r, out, all);
}

/* ---- generators ---- */

static bool gen_new(struct run *r, struct iter *it, enum iter_kind kind, struct value source)
{
    struct gen *g = run_zalloc(r, sizeof *g);
    if (!g || !iter_init(r, &g->source, source)) return false;
    g->fallback = (struct value){.kind = V_MISSING};
    *it = (struct iter){.kind = kind, .gen = g};
    return true;
}

static bool filter_unique(ARGS)
{
    struct iter it;
    struct value seen;
    bool sensitive;
    UNUSED;
    if (!bool_arg(r, &sensitive, a[0], false) || !gen_new(r, &it, IT_UNIQUE, self) || !dict_new(r, &seen)) return false;
    it.gen->fold_case = !sensitive;
    it.gen->seen = seen.d;
    return attr_path_init(r, &it.gen->path, a[1]) && iter_value(r, out, &it, "generator");
}

/* Arguments behind the first `skip` positional ones, as a copy. */
static struct args rest(const struct args *raw, size_t skip)
{
    struct args args = *raw;
    if (skip > args.n) skip = args.n;
    if (skip) args.v += skip;
    args.n -= skip;
    return args;
}

static bool empty_generator(struct run *r, struct value *out)
{
    const struct iter it = {.kind = IT_EMPTY};
    return iter_value(r, out, &it, "generator");
}

static bool filter_map(ARGS)
{
    struct iter it;
    bool truth;
    UNUSED;
    if (!value_truth(r, &truth, self)) return false;
    if (!truth) return empty_generator(r, out);
    if (!gen_new(r, &it, IT_MAP, self)) return false;
    struct gen *g = it.gen;
    if (raw->n == 0) {
        bool found = false;
        for (size_t i = 0; i < raw->n_kw; i++) {
            struct str name = raw->kw[i].name;
            if (str_eq(name, STR("attribute"))) {
                found = true;
                if (!attr_path_init(r, &g->path, raw->kw[i].value)) return false;
            } else if (str_eq(name, STR("default"))) g->fallback = raw->kw[i].value;
            else return run_fail(r, "map: unexpected keyword argument '%.*s'", STR_ARG(name));
        }
        if (!found) return run_fail(r, "map requires a filter argument");
        return iter_value(r, out, &it, "generator");
    }
    struct value name = raw->v[0];
    g->fn = name.kind == V_STR ? filter_find(vstr_str(name.s)) : NULL;
    if (!g->fn) {
        char tmp[120];
        return run_fail(r, "map: no filter named %s", short_repr(r, tmp, sizeof tmp, name));
    }
    g->args = rest(raw, 1);
    return iter_value(r, out, &it, "generator");
}

static bool select_by(ARGS, bool by_attr, bool negate)
{
    struct iter it;
    bool truth;
    size_t at = by_attr;
    UNUSED;
    if (!value_truth(r, &truth, self)) return false;
    if (!truth) return empty_generator(r, out);
    if (!gen_new(r, &it, IT_SELECT, self)) return false;
    it.negate = negate;
    it.gen->by_attr = by_attr;
    if (by_attr) {
        if (!raw->n) return run_fail(r, "missing parameter for attribute name");
        if (!attr_path_init(r, &it.gen->path, raw->v[0])) return false;
    }
    if (raw->n > at) {
        struct value name = raw->v[at];
        it.gen->fn = name.kind == V_STR ? test_find(vstr_str(name.s)) : NULL;
        if (!it.gen->fn) {
            char tmp[120];
            return run_fail(r, "no test named %s", short_repr(r, tmp, sizeof tmp, name));
        }
        it.gen->args = rest(raw, at + 1);
    }
    return iter_value(r, out, &it, "generator");
}

static bool filter_select(ARGS)
{
    return select_by(r, out, self, a, raw, false, false);
}

static bool filter_reject(ARGS)
{
    return select_by(r, out, self, a, raw, false, true);
}

static bool filter_selectattr(ARGS)
{
    return select_by(r, out, self, a, raw, true, false);
}

static bool filter_rejectattr(ARGS)
{
    return select_by(r, out, self, a, raw, true, true);
}

/* ---- pprint ---- */

/* Dicts sorted by key, at any depth; other values as they are. */
static bool sorted_copy(struct run *r, struct value *out, struct value v)
{
    struct value keys;
    *out = v;
    if (v.kind != V_DICT && v.kind != V_LIST && v.kind != V_TUPLE) return true;
    if (!enter(r)) return false;
    bool ok;
    if (v.kind == V_DICT) {
        struct vview view = {v.d, VIEW_KEYS};
        ok = iter_collect(r, &keys, V_LIST, (struct value){.kind = V_VIEW, .view = &view}) && dict_new(r, out);
        struct value order = keys;
        ok = ok && iter_collect(r, &order, V_LIST, keys) &&
             values_sort(r, keys.l->items, order.l->items, keys.l->n, false);
        for (size_t i = 0; ok && i < keys.l->n; i++) {
            struct value item;
            bool found;
            ok = dict_get(r, &item, &found, v.d, keys.l->items[i]) && sorted_copy(r, &item, item) &&
                 dict_set(r, out->d, keys.l->items[i], item);
        }
    } else {
        ok = list_force(r, v.l) && list_new(r, out, v.kind, v.l->n);
        for (size_t i = 0; ok && i < v.l->n; i++) {
            struct value item;
            ok = sorted_copy(r, &item, v.l->items[i]) && list_push(r, out->l, item);
        }
    }
    leave(r);
    return ok;
}

/* One value at column `indent`; containers that do not fit 80 columns get one line an item. */
static bool pretty(struct sb *b, struct value v, size_t indent, size_t allowance)
{
    struct run *r = b->r;
    struct sb flat;
    struct value text;
    sb_init(&flat, r);
    if (!enter(r) || !sb_repr(&flat, v) || !sb_value(&flat, &text)) return false;
    leave(r);
    bool fits = vstr_chars(text.s) + indent + allowance <= 80;
    size_t n = v.kind == V_DICT ? v.d->n : v.kind == V_LIST || v.kind == V_TUPLE ? v.l->n : 0;
    if (fits || !n) return sb_vstr(b, text.s);
    if (!enter(r) || !sb_char(b, v.kind == V_DICT ? '{' : v.kind == V_LIST ? '[' : '(', false)) return false;
    for (size_t i = 0; i < n; i++) {
        size_t column = indent + 1, last = i + 1 == n ? allowance + 1 : 1;
        if (i && (!sb_text(b, ",\n") || !sb_fill(b, ' ', indent + 1))) return false;
        if (v.kind == V_DICT) {
            size_t from = b->len;
            if (!sb_repr(b, v.d->entries[i].key) || !sb_text(b, ": ")) return false;
            struct vstr key = {.ptr = b->ptr, .len = b->len};
            column += chars_between(&key, from, b->len);
        }
        if (!pretty(b, v.kind == V_DICT ? v.d->entries[i].value : v.l->items[i], column, last)) return false;
    }
    leave(r);
    if (v.kind == V_TUPLE && n == 1 && !sb_char(b, ',', false)) return false;
    return sb_char(b, v.kind == V_DICT ? '}' : v.kind == V_LIST ? ']' : ')', false);
}

static bool filter_pprint(ARGS)
{
    struct value v;
    struct sb b;
    UNUSED;
    sb_init(&b, r);
    return sorted_copy(r, &v, self) && pretty(&b, v, 0, 0) && sb_value(&b, out);
}

const struct builtin filters_sequence[] = {
    {"length", filter_length, 0, 0, {0}},
    {"count", filter_length, 0, 0, {0}},
    {"default", filter_default, 0, 2, {"default_value", "boolean"}},
    {"d", filter_default, 0, 2, {"default_value", "boolean"}},
    {"first", filter_first, 0, 0, {0}},
    {"last", filter_last, 0, 0, {0}},
    {"random", filter_random, 0, 0, {0}},
    {"reverse", filter_reverse, 0, 0, {0}},
    {"list", filter_list, 0, 0, {0}},
    {"join", filter_join, 0, 2, {"d", "attribute"}},
    {"items", filter_items, 0, 0, {0}},
    {"attr", filter_attr, 1, 1, {"name"}},
    {"sort", filter_sort, 0, 3, {"reverse", "case_sensitive", "attribute"}},
    {"dictsort", filter_dictsort, 0, 3, {"case_sensitive", "by", "reverse"}},
    {"min", filter_min, 0, 2, {"case_sensitive", "attribute"}},
    {"max", filter_max, 0, 2, {"case_sensitive", "attribute"}},
    {"sum", filter_sum, 0, 2, {"attribute", "start"}},
    {"groupby", filter_groupby, 1, 3, {"attribute", "default", "case_sensitive"}},
    {"batch", filter_batch, 1, 2, {"linecount", "fill_with"}},
    {"slice", filter_slice, 1, 2, {"slices", "fill_with"}},
    {"unique", filter_unique, 0, 2, {"case_sensitive", "attribute"}},
    {"map", filter_map, 0, RAW_ARGS, {0}},
    {"select", filter_select, 0, RAW_ARGS, {0}},
    {"reject", filter_reject, 0, RAW_ARGS, {0}},
    {"selectattr", filter_selectattr, 0, RAW_ARGS, {0}},
    {"rejectattr", filter_rejectattr, 0, RAW_ARGS, {0}},
    {"pprint", filter_pprint, 0, 0, {0}},
    {NULL, NULL, 0, 0, {0}},
};

const struct builtin *filter_find(struct str name)
{
    const struct builtin *const tables[] = {filters_sequence, filters_text};
    for (size_t t = 0; t < 2; t++)
        for (const struct builtin *f = tables[t]; f->name; f++)
            if (str_eq(str_from(f->name), name)) return f;
    return NULL;
}
