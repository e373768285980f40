/* value: what Python's rules say about values - truth, equality, order, hash, length, membership - and the undefined
 * values with the messages they give when used. Comparison of nested values is limited in depth. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "jinja/jinja_internal.h"

const char *type_name(struct value v)
{
    static const char *const names[V_N_KINDS] = {
        [V_MISSING] = "missing",
        [V_UNDEFINED] = "Undefined",
        [V_NONE] = "NoneType",
        [V_BOOL] = "bool",
        [V_INT] = "int",
        [V_BIG] = "int",
        [V_FLOAT] = "float",
        [V_STR] = "str",
        [V_LIST] = "list",
        [V_TUPLE] = "tuple",
        [V_DICT] = "dict",
        [V_RANGE] = "range",
        [V_VIEW] = "dict view",
        [V_ITER] = "generator",
        [V_NAMESPACE] = "Namespace",
        [V_FUNC] = "method",
        [V_MACRO] = "Macro",
        [V_LOOP] = "LoopContext",
        [V_CYCLER] = "Cycler",
        [V_JOINER] = "Joiner",
    };
    static const char *const views[] = {"dict_keys", "dict_values", "dict_items"};
    if (v.kind == V_VIEW) return views[v.view->kind];
    return names[v.kind];
}

bool is_int(struct value v, int64_t *i)
{
    if (v.kind == V_INT) *i = v.i;
    else if (v.kind == V_BOOL) *i = v.b;
    else return false;
    return true;
}

bool is_number(struct value v, double *f)
{
    int64_t i;
    if (v.kind == V_FLOAT) *f = v.f;
    else if (is_int(v, &i)) *f = (double)i;
    else return false;
    return true;
}

/* ---- undefined ---- */

static bool undefined_new(struct run *r, struct value *out, struct vundef u)
{
    struct vundef *p = run_alloc(r, sizeof *p);
    if (!p) return false;
    *p = u;
    *out = (struct value){.kind = V_UNDEFINED, .undef = p};
    return true;
}

bool undefined_hint(struct run *r, struct value *out, const char *hint)
{
    struct str copy = arena_try_str(&r->arena, str_from(hint));
    return copy.ptr ? undefined_new(r, out, (struct vundef){.hint = copy}) : run_fail(r, "out of memory");
}

bool undefined_var(struct run *r, struct value *out, struct str name)
{
    struct value v;
    return str_value(r, &v, name) && undefined_new(r, out, (struct vundef){.name = v});
}

bool undefined_attr(struct run *r, struct value *out, struct value obj, struct value name)
{
    return undefined_new(r, out, (struct vundef){.obj_type = str_from(type_name(obj)), .name = name});
}

bool undefined_fail(struct run *r, struct value v)
{
    const struct vundef *u = v.undef;
    char name[200];
    if (u->hint.len) return run_fail(r, "%.*s", STR_ARG(u->hint));
    short_repr(r, name, sizeof name, u->name);
    if (!u->obj_type.len) return run_fail(r, "%s is undefined", name);
    bool attr = u->name.kind == V_STR;
    return run_fail(r, "'%.*s object' has no %s %s", STR_ARG(u->obj_type), attr ? "attribute" : "element", name);
}

/* ---- truth and length ---- */

bool value_len(struct run *r, size_t *out, struct value v)
{
    int64_t n;
    switch (v.kind) {
    case V_UNDEFINED: return *out = 0, true;
    case V_STR: return *out = vstr_chars(v.s), true;
    case V_LIST:
    case V_TUPLE: return list_force(r, v.l) && (*out = v.l->n, true);
    case V_DICT: return dict_force(r, v.d) && (*out = v.d->n_live, true);
    case V_VIEW: return dict_force(r, v.view->d) && (*out = v.view->d->n_live, true);
    case V_RANGE: return *out = v.range->n, true;
    case V_LOOP: return loop_length(r, &n, v.loop) && (*out = (size_t)n, true);
    default: return run_fail(r, "object of type '%s' has no len()", type_name(v));
    }
}

bool value_truth(struct run *r, bool *out, struct value v)
{
    size_t n;
    switch (v.kind) {
    case V_MISSING:
    case V_UNDEFINED:
    case V_NONE: return *out = false, true;
    case V_BOOL: return *out = v.b, true;
    case V_INT: return *out = v.i != 0, true;
    case V_FLOAT: return *out = v.f != 0, true;
    case V_STR: return *out = v.s->len != 0, true;
    case V_LIST:
    case V_TUPLE:
    case V_DICT:
    case V_VIEW:
    case V_LOOP:
    case V_RANGE: return value_len(r, &n, v) && (*out = n != 0, true);
    default: return *out = true, true;
    }
}

/* ---- equality ---- */

static bool lists_equal(struct run *r, bool *out, struct vlist *a, struct vlist *b)
{
    *out = a == b;
    if (a == b) return true;
    if (!list_force(r, a) || !list_force(r, b)) return false;
    if (a->n != b->n) return true;
    for (size_t i = 0; i < a->n; i++) {
        if (!value_equal(r, out, a->items[i], b->items[i])) return false;
        if (!*out) return true;
    }
    return *out = true, true;
}

static bool dicts_equal(struct run *r, bool *out, struct vdict *a, struct vdict *b)
{
    *out = a == b;
    if (a == b) return true;
    if (!dict_force(r, a) || !dict_force(r, b)) return false;
    if (a->n_live != b->n_live) return true;
    for (size_t i = 0; i < a->n; i++) {
        struct value other;
        bool found;
        if (a->entries[i].key.kind == V_MISSING) continue;
        if (!dict_get(r, &other, &found, b, a->entries[i].key)) return false;
        if (!found) return true;
        if (!value_equal(r, out, a->entries[i].value, other)) return false;
        if (!*out) return true;
    }
    return *out = true, true;
}

static bool same_kind_equal(struct run *r, bool *out, struct value a, struct value b)
{
    switch (a.kind) {
    case V_UNDEFINED:
    case V_NONE: return *out = true, true;
    case V_BIG: return *out = big_compare(a, b) == 0, true;
    case V_STR:
        *out = a.s == b.s || str_eq(vstr_str(a.s), vstr_str(b.s));
        return charge(r, a.s->len == b.s->len ? a.s->len : 0);
    case V_LIST:
    case V_TUPLE: return lists_equal(r, out, a.l, b.l);
    case V_DICT: return dicts_equal(r, out, a.d, b.d);
    case V_RANGE:
        *out =
            a.range->n == b.range->n &&
            (!a.range->n || (a.range->start == b.range->start && (a.range->n == 1 || a.range->step == b.range->step)));
        return true;
    default: return *out = a.l == b.l, true; /* identity */
    }
}

bool value_equal(struct run *r, bool *out, struct value a, struct value b)
{
    double x, y;
    int64_t i, k;
    *out = false;
    if (is_int(a, &i) && is_int(b, &k)) return *out = i == k, true;
    if ((a.kind == V_BIG && is_int(b, &k)) || (b.kind == V_BIG && is_int(a, &k))) return true;
    if (a.kind == V_BIG && b.kind == V_BIG) return *out = big_compare(a, b) == 0, true;
    if (is_number(a, &x) && is_number(b, &y)) {
        *out = x == y;
        if (*out && fabs(x) >= 9007199254740992.0 && a.kind != b.kind && a.kind != V_BIG &&
            b.kind != V_BIG) { /* an int that a double cannot hold */
            int64_t whole = is_int(a, &i) || is_int(b, &i) ? i : 0;
            *out = fabs(x) < 9223372036854775808.0 && (int64_t)(a.kind == V_FLOAT ? x : y) == whole;
        }
        return true;
    }
    if (a.kind != b.kind) return true;
    if (a.kind < V_STR) return same_kind_equal(r, out, a, b);
    if (!enter(r)) return false;
    bool ok = same_kind_equal(r, out, a, b);
    leave(r);
    return ok;
}

/* ---- order ---- */

static bool lists_less(struct run *r, bool *out, struct vlist *a, struct vlist *b, const char *op)
{
    bool same;
    if (!list_force(r, a) || !list_force(r, b)) return false;
    for (size_t i = 0; i < a->n && i < b->n; i++) {
        if (!value_equal(r, &same, a->items[i], b->items[i])) return false;
        if (!same) return value_less(r, out, a->items[i], b->items[i], op);
    }
    return *out = a->n < b->n, true;
}

bool value_less(struct run *r, bool *out, struct value a, struct value b, const char *op)
{
    double x, y;
    int64_t i, k;
    if (a.kind == V_UNDEFINED) return undefined_fail(r, a);
    if (b.kind == V_UNDEFINED) return undefined_fail(r, b);
    if (is_int(a, &i) && is_int(b, &k)) return *out = i < k, true;
    if ((a.kind == V_BIG && (b.kind == V_BIG || is_int(b, &k))) || (b.kind == V_BIG && is_int(a, &k)))
        return *out = big_compare(a, b) < 0, true;
    if (is_number(a, &x) && is_number(b, &y)) return *out = x < y, true;
    if (a.kind == V_STR && b.kind == V_STR) {
        *out = str_cmp(vstr_str(a.s), vstr_str(b.s)) < 0; /* the order of UTF-8 bytes is that of code points */
        return charge(r, a.s->len < b.s->len ? a.s->len : b.s->len);
    }
    if (a.kind == b.kind && (a.kind == V_LIST || a.kind == V_TUPLE)) {
        if (!enter(r)) return false;
        bool ok = lists_less(r, out, a.l, b.l, op);
        leave(r);
        return ok;
    }
    return run_fail(r, "'%s' not supported between instances of '%s' and '%s'", op, type_name(a), type_name(b));
}

/* ---- hash and membership ---- */

static bool hash_tuple(struct run *r, uint64_t *out, struct vlist *l)
{
    uint64_t h = 7 + l->n, one;
    if (!enter(r)) return false;
    for (size_t i = 0; i < l->n; i++) {
        if (!value_hash(r, &one, l->items[i])) return leave(r), false;
        h = hash64(&one, sizeof one, h);
    }
    leave(r);
    return *out = h, true;
}

bool value_hash(struct run *r, uint64_t *out, struct value v)
{
    int64_t i;
    if (is_int(v, &i)) return *out = hash64(&i, sizeof i, 1), true;
    switch (v.kind) {
    case V_FLOAT:
        i = 0;
        if (v.f == floor(v.f) && fabs(v.f) < 9.2e18) i = (int64_t)v.f;
        *out = i || v.f == 0 ? hash64(&i, sizeof i, 1) : hash64(&v.f, sizeof v.f, 2);
        return true;
    case V_BIG: return *out = hash64(v.big->limb, v.big->n * sizeof *v.big->limb, 4), true;
    case V_STR: return *out = hash64(v.s->ptr, v.s->len, 0), charge(r, v.s->len);
    case V_NONE:
    case V_UNDEFINED: return *out = v.kind, true;
    case V_TUPLE: return hash_tuple(r, out, v.l);
    case V_LIST:
    case V_DICT: return run_fail(r, "unhashable type: '%s'", type_name(v));
    default: return *out = hash64(&v.l, sizeof v.l, 3), true;
    }
}

static bool contains_item(struct run *r, bool *out, struct value item, struct value box)
{
    struct iter it;
    struct value v;
    int got;
    if (!iter_init(r, &it, box)) return false;
    while ((got = iter_next(r, &v, &it)) > 0) {
        if (!value_equal(r, out, item, v)) return false;
        if (*out) return true;
    }
    return *out = false, got == 0;
}

bool value_contains(struct run *r, bool *out, struct value item, struct value box)
{
    struct value ignored;
    switch (box.kind) {
    case V_STR: {
        if (item.kind != V_STR)
            return run_fail(r, "'in <string>' requires string as left operand, not %s", type_name(item));
        ptrdiff_t at = bytes_find(r, vstr_str(box.s), vstr_str(item.s), 0);
        return *out = at >= 0, at != -2;
    }
    case V_DICT: return dict_get(r, &ignored, out, box.d, item);
    case V_VIEW:
        if (box.view->kind == VIEW_KEYS) return dict_get(r, &ignored, out, box.view->d, item);
        return contains_item(r, out, item, box);
    case V_UNDEFINED: return *out = false, true;
    case V_LIST:
    case V_TUPLE:
    case V_RANGE:
    case V_ITER:
    case V_LOOP: return contains_item(r, out, item, box);
    default: return run_fail(r, "argument of type '%s' is not iterable", type_name(box));
    }
}

/* ---- from the context ---- */

bool value_from_json(struct run *r, struct value *out, json_t *json, bool from_context)
{
    switch (json_typeof(json)) {
    case JSON_NULL: return *out = VALUE_NONE, true;
    case JSON_TRUE:
    case JSON_FALSE: return *out = value_bool(json_is_true(json)), true;
    case JSON_INTEGER: return *out = value_int(json_integer_value(json)), true;
    case JSON_REAL: return *out = value_float(json_real_value(json)), true;
    case JSON_STRING: {
        struct vstr *s =
            vstr_new(r, json_string_value(json), json_string_length(json), from_context ? TAINT_ALL : TAINT_NONE);
        *out = (struct value){.kind = V_STR, .s = s};
        return s != NULL;
    }
    case JSON_ARRAY: {
        struct vlist *l = run_zalloc(r, sizeof *l);
        if (!l) return false;
        l->lazy = json;
        l->from_context = from_context;
        *out = (struct value){.kind = V_LIST, .l = l};
        return true;
    }
    default: {
        struct vdict *d = run_zalloc(r, sizeof *d);
        if (!d) return false;
        d->lazy = json;
        d->from_context = from_context;
        *out = (struct value){.kind = V_DICT, .d = d};
        return true;
    }
    }
}
