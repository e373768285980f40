/* methods: the methods of list, tuple, dict, range and the helper objects, and the global functions. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "jinja/jinja_internal.h"

#define ARGS struct run *r, struct value *out, struct value self, const struct value *a, const struct args *raw
#define UNUSED (void)r, (void)a, (void)raw, (void)self

/* ---- list and tuple ---- */

static bool list_append(ARGS)
{
    UNUSED;
    *out = VALUE_NONE;
    return list_push(r, self.l, a[0]);
}

static bool list_extend(ARGS)
{
    struct value more;
    UNUSED;
    *out = VALUE_NONE;
    if (!iter_collect(r, &more, V_LIST, a[0])) return false;
    for (size_t i = 0; i < more.l->n; i++)
        if (!list_push(r, self.l, more.l->items[i])) return false;
    return true;
}

static bool list_insert(ARGS)
{
    int64_t at;
    UNUSED;
    *out = VALUE_NONE;
    if (!is_int(a[0], &at)) return run_fail(r, "insert: the index must be an integer");
    if (!list_push(r, self.l, a[1])) return false;
    int64_t n = (int64_t)self.l->n - 1;
    if (at < 0) at += n;
    at = at < 0 ? 0 : at > n ? n : at;
    memmove(&self.l->items[at + 1], &self.l->items[at], (size_t)(n - at) * sizeof *self.l->items);
    self.l->items[at] = a[1];
    return charge(r, (size_t)(n - at) * sizeof *self.l->items);
}

static bool remove_at(struct run *r, struct vlist *l, size_t at)
{
    memmove(&l->items[at], &l->items[at + 1], (l->n - at - 1) * sizeof *l->items);
    l->n--;
    return charge(r, (l->n - at) * sizeof *l->items);
}

static bool list_pop(ARGS)
{
    int64_t at = -1;
    UNUSED;
    if (a[0].kind != V_MISSING && !is_int(a[0], &at)) return run_fail(r, "pop: the index must be an integer");
    if (!list_force(r, self.l)) return false;
    if (at < 0) at += (int64_t)self.l->n;
    if (at < 0 || (uint64_t)at >= self.l->n)
        return run_fail(r, self.l->n ? "pop index out of range" : "pop from empty list");
    *out = self.l->items[at];
    return remove_at(r, self.l, (size_t)at);
}

static bool find_item(struct run *r, size_t *at, struct vlist *l, struct value v, size_t from)
{
    if (!list_force(r, l)) return false;
    for (*at = from; *at < l->n; ++*at) {
        bool same;
        if (!enter(r)) return false;
        leave(r);
        if (!value_equal(r, &same, l->items[*at], v)) return false;
        if (same) return true;
    }
    return true;
}

static bool list_remove(ARGS)
{
    size_t at;
    UNUSED;
    *out = VALUE_NONE;
    if (!find_item(r, &at, self.l, a[0], 0)) return false;
    return at < self.l->n ? remove_at(r, self.l, at) : run_fail(r, "list.remove(x): x not in list");
}

static bool list_index(ARGS)
{
    size_t at;
    int64_t start = 0;
    UNUSED;
    if (a[1].kind != V_MISSING && !is_int(a[1], &start)) return run_fail(r, "index: the start must be an integer");
    if (!list_force(r, self.l)) return false;
    if (start < 0) start = start + (int64_t)self.l->n < 0 ? 0 : start + (int64_t)self.l->n;
    if (!find_item(r, &at, self.l, a[0], (size_t)start)) return false;
    return at < self.l->n ? (*out = value_int((int64_t)at), true) : run_fail(r, "value is not in list");
}

static bool list_count(ARGS)
{
    int64_t n = 0;
    UNUSED;
    for (size_t at = 0;; at++) {
        if (!find_item(r, &at, self.l, a[0], at)) return false;
        if (at >= self.l->n) return *out = value_int(n), true;
        n++;
    }
}

static bool list_reverse(ARGS)
{
    UNUSED;
    *out = VALUE_NONE;
    if (!list_force(r, self.l)) return false;
    for (size_t i = 0, k = self.l->n; i + 1 < k; i++) {
        struct value t = self.l->items[--k];
        self.l->items[k] = self.l->items[i];
        self.l->items[i] = t;
    }
    return charge(r, self.l->n * sizeof *self.l->items);
}

static bool list_clear(ARGS)
{
    UNUSED;
    *out = VALUE_NONE;
    if (!list_force(r, self.l)) return false;
    self.l->n = 0;
    return true;
}

static bool list_copy(ARGS)
{
    UNUSED;
    return iter_collect(r, out, V_LIST, self);
}

static bool list_sort(ARGS)
{
    bool reverse = false;
    struct value keys;
    UNUSED;
    *out = VALUE_NONE;
    if (a[0].kind != V_MISSING && a[0].kind != V_NONE) return run_fail(r, "sort: only key=None is supported");
    if (a[1].kind != V_MISSING && !value_truth(r, &reverse, a[1])) return false;
    if (raw->n) return run_fail(r, "sort() takes no positional arguments");
    return iter_collect(r, &keys, V_LIST, self) && values_sort(r, self.l->items, keys.l->items, self.l->n, reverse);
}

static const struct builtin list_methods[] = {
    {"append", list_append, 1, 1, {0}},
    {"extend", list_extend, 1, 1, {0}},
    {"insert", list_insert, 2, 2, {0}},
    {"pop", list_pop, 0, 1, {0}},
    {"remove", list_remove, 1, 1, {0}},
    {"index", list_index, 1, 2, {0}},
    {"count", list_count, 1, 1, {0}},
    {"reverse", list_reverse, 0, 0, {0}},
    {"clear", list_clear, 0, 0, {0}},
    {"copy", list_copy, 0, 0, {0}},
    {"sort", list_sort, 0, 2, {"key", "reverse"}},
    {NULL, NULL, 0, 0, {0}},
};
static const struct builtin tuple_methods[] = {
    {"index", list_index, 1, 2, {0}},
    {"count", list_count, 1, 1, {0}},
    {NULL, NULL, 0, 0, {0}},
};

/* ---- dict ---- */

static bool view_new(struct run *r, struct value *out, struct vdict *d, enum view_kind kind)
{
    struct vview *v = run_alloc(r, sizeof *v);
    if (!v) return false;
    *v = (struct vview){d, kind};
    *out = (struct value){.kind = V_VIEW, .view = v};
    return true;
}

static bool dict_keys(ARGS)
{
    UNUSED;
    return view_new(r, out, self.d, VIEW_KEYS);
}

static bool dict_values(ARGS)
{
    UNUSED;
    return view_new(r, out, self.d, VIEW_VALUES);
}

static bool dict_items(ARGS)
{
    UNUSED;
    return view_new(r, out, self.d, VIEW_ITEMS);
}

static bool dict_get_method(ARGS)
{
    bool found;
    UNUSED;
    if (!dict_get(r, out, &found, self.d, a[0])) return false;
    if (!found) *out = a[1].kind == V_MISSING ? VALUE_NONE : a[1];
    return true;
}

static bool dict_pop(ARGS)
{
    bool found;
    char tmp[120];
    UNUSED;
    if (!dict_remove(r, self.d, a[0], &found, out)) return false;
    if (found) return true;
    if (a[1].kind == V_MISSING) return run_fail(r, "pop: no key %s", short_repr(r, tmp, sizeof tmp, a[0]));
    return *out = a[1], true;
}

static bool dict_popitem(ARGS)
{
    bool found;
    struct value old;
    UNUSED;
    if (!dict_force(r, self.d)) return false;
    for (size_t i = self.d->n; i-- > 0;) {
        const struct ventry e = self.d->entries[i];
        if (e.key.kind == V_MISSING) continue;
        return pair_new(r, out, e.key, e.value) && dict_remove(r, self.d, e.key, &found, &old);
    }
    return run_fail(r, "popitem(): dictionary is empty");
}

static bool dict_setdefault(ARGS)
{
    bool found;
    UNUSED;
    if (!dict_get(r, out, &found, self.d, a[0])) return false;
    if (found) return true;
    *out = a[1].kind == V_MISSING ? VALUE_NONE : a[1];
    return dict_set(r, self.d, a[0], *out);
}

static bool dict_fill(struct run *r, struct vdict *d, const struct args *raw, const char *what)
{
    if (raw->n > 1) return run_fail(r, "%s expected at most 1 argument, got %zu", what, raw->n);
    if (raw->n && !dict_update(r, d, raw->v[0])) return false;
    for (size_t i = 0; i < raw->n_kw; i++) {
        struct value key;
        if (!str_value(r, &key, raw->kw[i].name) || !dict_set(r, d, key, raw->kw[i].value)) return false;
    }
    return true;
}

static bool dict_update_method(ARGS)
{
    UNUSED;
    *out = VALUE_NONE;
    return dict_force(r, self.d) && dict_fill(r, self.d, raw, "update");
}

static bool dict_clear_method(ARGS)
{
    UNUSED;
    *out = VALUE_NONE;
    dict_clear(self.d);
    return true;
}

static bool dict_copy(ARGS)
{
    UNUSED;
    return dict_new(r, out) && dict_update(r, out->d, self);
}

static const struct builtin dict_methods[] = {
    {"get", dict_get_method, 1, 2, {0}},
    {"items", dict_items, 0, 0, {0}},
    {"keys", dict_keys, 0, 0, {0}},
    {"values", dict_values, 0, 0, {0}},
    {"pop", dict_pop, 1, 2, {0}},
    {"popitem", dict_popitem, 0, 0, {0}},
    {"setdefault", dict_setdefault, 1, 2, {0}},
    {"update", dict_update_method, 0, RAW_ARGS, {0}},
    {"clear", dict_clear_method, 0, 0, {0}},
    {"copy", dict_copy, 0, 0, {0}},
    {NULL, NULL, 0, 0, {0}},
};

/* ---- the helper objects ---- */

static bool cycler_next(ARGS)
{
    UNUSED;
    struct vcycler *c = self.cycler;
    *out = c->items[c->pos];
    c->pos = (c->pos + 1) % c->n;
    return true;
}

static bool cycler_reset(ARGS)
{
    UNUSED;
    self.cycler->pos = 0;
    return *out = VALUE_NONE, true;
}

static const struct builtin cycler_methods[] = {
    {"next", cycler_next, 0, 0, {0}},
    {"reset", cycler_reset, 0, 0, {0}},
    {NULL, NULL, 0, 0, {0}},
};

static bool float_is_integer(ARGS)
{
    UNUSED;
    return *out = value_bool(self.f < 9e18 && self.f > -9e18 && (double)(int64_t)self.f == self.f), true;
}

static const struct builtin float_methods[] = {
    {"is_integer", float_is_integer, 0, 0, {0}},
    {NULL, NULL, 0, 0, {0}},
};

static const struct builtin *find_in(const struct builtin *table, struct str name)
{
    for (; table && table->name; table++)
        if (table->name[0] == name.ptr[0] && str_eq(str_from(table->name), name)) return table;
    return NULL;
}

const struct builtin *method_find(struct value obj, struct str name)
{
    if (!name.len) return NULL;
    switch (obj.kind) {
    case V_STR: return find_in(methods_str, name);
    case V_LIST: return find_in(list_methods, name);
    case V_TUPLE: return find_in(tuple_methods, name);
    case V_DICT: return find_in(dict_methods, name);
    case V_CYCLER: return find_in(cycler_methods, name);
    case V_FLOAT: return find_in(float_methods, name);
    default: return NULL;
    }
}

/* ---- globals ---- */

static bool global_range(ARGS)
{
    int64_t v[3] = {0, 0, 1};
    UNUSED;
    if (raw->n < 1 || raw->n > 3 || raw->n_kw) return run_fail(r, "range expected 1 to 3 arguments, got %zu", raw->n);
    for (size_t i = 0; i < raw->n; i++)
        if (!is_int(raw->v[i], &v[raw->n == 1 ? 1 : i]))
            return run_fail(r, "'%s' object cannot be interpreted as an integer", type_name(raw->v[i]));
    if (v[2] == 0) return run_fail(r, "range() arg 3 must not be zero");
    struct vrange *x = run_alloc(r, sizeof *x);
    if (!x) return false;
    *x = (struct vrange){v[0], v[1], v[2], 0};
    /* Unsigned: the distance of two 64-bit numbers may not fit a signed one. */
    uint64_t distance = v[2] > 0 ? (uint64_t)v[1] - (uint64_t)v[0] : (uint64_t)v[0] - (uint64_t)v[1];
    uint64_t step = v[2] > 0 ? (uint64_t)v[2] : (uint64_t)0 - (uint64_t)v[2];
    if (v[2] > 0 ? v[0] < v[1] : v[0] > v[1]) x->n = (size_t)((distance - 1) / step) + 1;
    if (x->n > JINJA_MAX_RANGE) return run_fail(r, "range too big: more than %d items", JINJA_MAX_RANGE);
    *out = (struct value){.kind = V_RANGE, .range = x};
    return true;
}

static bool global_dict(ARGS)
{
    UNUSED;
    return dict_new(r, out) && dict_fill(r, out->d, raw, "dict");
}

static bool global_namespace(ARGS)
{
    UNUSED;
    if (!dict_new(r, out) || !dict_fill(r, out->d, raw, "namespace")) return false;
    out->kind = V_NAMESPACE;
    return true;
}

static bool global_cycler(ARGS)
{
    UNUSED;
    if (!raw->n) return run_fail(r, "cycler: at least one item has to be provided");
    struct vcycler *c = run_alloc(r, sizeof *c);
    if (!c || !(c->items = run_alloc(r, raw->n * sizeof *c->items))) return false;
    memcpy(c->items, raw->v, raw->n * sizeof *c->items);
    c->n = raw->n;
    c->pos = 0;
    *out = (struct value){.kind = V_CYCLER, .cycler = c};
    return true;
}

static bool global_joiner(ARGS)
{
    UNUSED;
    struct vjoiner *j = run_alloc(r, sizeof *j);
    if (!j) return false;
    *j = (struct vjoiner){.sep = a[0]};
    if (a[0].kind == V_MISSING && !cstr_value(r, &j->sep, ", ")) return false;
    *out = (struct value){.kind = V_JOINER, .joiner = j};
    return true;
}

static bool global_raise(ARGS)
{
    struct vstr *s;
    UNUSED;
    (void)out;
    if (!to_str(r, &s, a[0])) return false;
    if (!r->failed) {
        r->failed = r->raised = true;
        err_set(r->e, ERR_INVALID, "%.*s", (int)(s->len < 999 ? s->len : 999), s->ptr);
    }
    return false;
}

/* One directive of strftime; flags and widths of the C library are allowed up to three digits. */
static bool put_directive(struct sb *b, const struct tm *tm, struct str d)
{
    char fmt[12], text[1200];
    size_t digits = 0;
    if (d.len + 2 > sizeof fmt) return run_fail(b->r, "strftime_now: directive is too long");
    for (size_t i = 0; i < d.len; i++) digits += d.ptr[i] >= '0' && d.ptr[i] <= '9';
    if (digits > 3) return run_fail(b->r, "strftime_now: width is too large");
    char last = d.ptr[d.len - 1];
    if (last == 'f') return sb_text(b, "000000");
    if (last == 'z' || last == 'Z') return true;    /* a time without a zone */
    snprintf(fmt, sizeof fmt, " %.*s", STR_ARG(d)); /* the blank tells an empty result from a failure */
    size_t n = strftime(text, sizeof text, fmt, tm);
    return n ? sb_put(b, text + 1, n - 1, false) : run_fail(b->r, "strftime_now: cannot format '%.*s'", STR_ARG(d));
}

static bool global_strftime(ARGS)
{
    struct tm tm;
    struct sb b;
    UNUSED;
    if (a[0].kind != V_STR) return run_fail(r, "strftime_now needs a format string, not %s", type_name(a[0]));
    if (r->now) tm = r->now->tm;
    else {
        time_t t = time(NULL);
        if (!localtime_r(&t, &tm)) return run_fail(r, "strftime_now: no local time");
    }
    struct vstr *s = a[0].s;
    sb_init(&b, r);
    for (size_t i = 0; i < s->len;) {
        size_t from = i++;
        if (s->ptr[from] != '%') {
            if (!sb_range(&b, s, from, i)) return false;
            continue;
        }
        while (i < s->len && s->ptr[i] && strchr("_-0^#+123456789EO:", s->ptr[i])) i++;
        if (i >= s->len) return sb_range(&b, s, from, s->len) && sb_value(&b, out);
        i++;
        if (!put_directive(&b, &tm, (struct str){s->ptr + from, i - from})) return false;
    }
    return sb_value(&b, out);
}

const struct builtin *global_find(struct str name)
{
    static const struct builtin globals[] = {
        {"range", global_range, 0, RAW_ARGS, {0}},         {"dict", global_dict, 0, RAW_ARGS, {0}},
        {"namespace", global_namespace, 0, RAW_ARGS, {0}}, {"cycler", global_cycler, 0, RAW_ARGS, {0}},
        {"joiner", global_joiner, 0, 1, {"sep"}},          {"raise_exception", global_raise, 1, 1, {"message"}},
        {"strftime_now", global_strftime, 1, 1, {"fmt"}},  {NULL, NULL, 0, 0, {0}},
    };
    return name.len ? find_in(globals, name) : NULL;
}
