/* ops: operators on values, and access to attributes, items and slices, with Python's rules. Integers are 64 bits; what
 * does not fit goes to bigint.c. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "jinja/jinja_internal.h"

static bool int_pow(struct run *r, struct value *out, int64_t a, int64_t b)
{
    int64_t result = 1;
    const struct value base = value_int(a), exponent = value_int(b);
    if (b < 0) {
        if (a == 0) return run_fail(r, "0.0 cannot be raised to a negative power");
        return *out = value_float(pow((double)a, (double)b)), true;
    }
    for (; b; b >>= 1) {
        if ((b & 1) && __builtin_mul_overflow(result, a, &result)) return big_op(r, out, OP_POW, base, exponent);
        if (b > 1 && __builtin_mul_overflow(a, a, &a)) return big_op(r, out, OP_POW, base, exponent);
    }
    return *out = value_int(result), true;
}

static bool int_op(struct run *r, struct value *out, enum op op, int64_t a, int64_t b)
{
    int64_t v;
    switch (op) {
    case OP_ADD:
        if (__builtin_add_overflow(a, b, &v)) return big_op(r, out, op, value_int(a), value_int(b));
        break;
    case OP_SUB:
        if (__builtin_sub_overflow(a, b, &v)) return big_op(r, out, op, value_int(a), value_int(b));
        break;
    case OP_MUL:
        if (__builtin_mul_overflow(a, b, &v)) return big_op(r, out, op, value_int(a), value_int(b));
        break;
    case OP_DIV:
        if (!b) return run_fail(r, "division by zero");
        return *out = value_float((double)a / (double)b), true;
    case OP_FLOORDIV:
    case OP_MOD:
        if (!b) return run_fail(r, "integer division or modulo by zero");
        if (b == -1) { /* INT64_MIN / -1 traps */
            if (op == OP_FLOORDIV && a == INT64_MIN) return big_op(r, out, op, value_int(a), value_int(b));
            v = op == OP_MOD ? 0 : -a;
            break;
        }
        v = op == OP_MOD ? a % b : a / b;
        if (a % b && ((a < 0) != (b < 0))) v += op == OP_MOD ? b : -1;
        break;
    default: return int_pow(r, out, a, b);
    }
    return *out = value_int(v), true;
}

static double float_mod(double a, double b)
{
    double m = fmod(a, b);
    if (m == 0) return copysign(0, b);
    return (m < 0) != (b < 0) ? m + b : m;
}

static double float_floordiv(double a, double b)
{
    double m = fmod(a, b), q = (a - m) / b;
    if (m != 0 && (m < 0) != (b < 0)) q -= 1;
    if (q == 0) return copysign(0, a / b);
    double whole = floor(q);
    return q - whole > 0.5 ? whole + 1 : whole;
}

static bool float_op(struct run *r, struct value *out, enum op op, double a, double b)
{
    double v;
    switch (op) {
    case OP_ADD: v = a + b; break;
    case OP_SUB: v = a - b; break;
    case OP_MUL: v = a * b; break;
    case OP_DIV:
    case OP_FLOORDIV:
    case OP_MOD:
        if (b == 0) return run_fail(r, op == OP_DIV ? "float division by zero" : "float floor division by zero");
        v = op == OP_DIV ? a / b : op == OP_MOD ? float_mod(a, b) : float_floordiv(a, b);
        break;
    default:
        if (a == 0 && b < 0) return run_fail(r, "0.0 cannot be raised to a negative power");
        if (a < 0 && b != floor(b) && !isinf(b)) return run_fail(r, "power with a complex result");
        v = pow(a, b);
        if (isinf(v) && !isinf(a) && !isinf(b)) return run_fail(r, "result of ** is too large");
    }
    return *out = value_float(v), true;
}

static bool str_add(struct run *r, struct value *out, struct value a, struct value b)
{
    struct sb sb;
    sb_init(&sb, r);
    bool markup = a.s->markup || b.s->markup;
    if (markup && !a.s->markup && !escape_html(r, &a, a.s)) return false;
    if (markup && !b.s->markup && !escape_html(r, &b, b.s)) return false;
    if (!sb_vstr(&sb, a.s) || !sb_vstr(&sb, b.s) || !sb_value(&sb, out)) return false;
    out->s->markup = markup;
    return true;
}

static bool list_add(struct run *r, struct value *out, struct value a, struct value b)
{
    if (!list_force(r, a.l) || !list_force(r, b.l) || !list_new(r, out, a.kind, a.l->n + b.l->n)) return false;
    if (a.l->n) memcpy(out->l->items, a.l->items, a.l->n * sizeof *a.l->items);
    if (b.l->n) memcpy(out->l->items + a.l->n, b.l->items, b.l->n * sizeof *b.l->items);
    out->l->n = a.l->n + b.l->n;
    out->l->from_context = a.l->from_context || b.l->from_context;
    return charge(r, out->l->n * sizeof *out->l->items);
}

static bool repeat(struct run *r, struct value *out, struct value seq, int64_t times)
{
    if (times < 0) times = 0;
    if (seq.kind == V_STR) {
        struct sb b;
        size_t total;
        sb_init(&b, r);
        if (!size_mul(&total, seq.s->len, (size_t)times)) return run_fail(r, "repeated string is too long");
        if (!charge(r, total)) return false;
        for (int64_t i = 0; total && i < times; i++)
            if (!sb_vstr(&b, seq.s)) return false;
        if (!sb_value(&b, out)) return false;
        out->s->markup = seq.s->markup;
        return true;
    }
    size_t total;
    if (!list_force(r, seq.l)) return false;
    if (!size_mul(&total, seq.l->n, (size_t)times) || total > SIZE_MAX / 64)
        return run_fail(r, "repeated list is too long");
    if (!charge(r, total * sizeof *seq.l->items) || !list_new(r, out, seq.kind, total)) return false;
    for (; total && out->l->n < total; out->l->n += seq.l->n)
        memcpy(out->l->items + out->l->n, seq.l->items, seq.l->n * sizeof *seq.l->items);
    out->l->from_context = seq.l->from_context;
    return true;
}

static bool is_seq(struct value v)
{
    return v.kind == V_STR || v.kind == V_LIST || v.kind == V_TUPLE;
}

bool op_binary(struct run *r, struct value *out, enum op op, struct value a, struct value b)
{
    static const char *const names[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};
    int64_t i, k;
    double x, y;
    if (op == OP_MOD && a.kind == V_STR) return format_percent(r, out, a.s, b);
    if (is_int(a, &i) && is_int(b, &k)) return int_op(r, out, op, i, k);
    if ((a.kind == V_BIG && (b.kind == V_BIG || is_int(b, &k))) || (b.kind == V_BIG && is_int(a, &i)))
        return big_op(r, out, op, a, b);
    if (is_number(a, &x) && is_number(b, &y)) return float_op(r, out, op, x, y);
    if (a.kind == V_UNDEFINED) return undefined_fail(r, a);
    if (b.kind == V_UNDEFINED) return undefined_fail(r, b);
    if (op == OP_ADD && a.kind == V_STR && b.kind == V_STR) return str_add(r, out, a, b);
    if (op == OP_ADD && a.kind == b.kind && (a.kind == V_LIST || a.kind == V_TUPLE)) return list_add(r, out, a, b);
    if (op == OP_MUL && is_seq(a) && is_int(b, &k)) return repeat(r, out, a, k);
    if (op == OP_MUL && is_seq(b) && is_int(a, &k)) return repeat(r, out, b, k);
    return run_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", names[op], type_name(a), type_name(b));
}

bool op_compare(struct run *r, bool *out, enum op op, struct value a, struct value b)
{
    bool eq;
    double x, y;
    switch (op) {
    case OP_EQ: return value_equal(r, out, a, b);
    case OP_NE: return value_equal(r, out, a, b) && (*out = !*out, true);
    case OP_IN: return value_contains(r, out, a, b);
    case OP_NOT_IN: return value_contains(r, out, a, b) && (*out = !*out, true);
    case OP_LT: return value_less(r, out, a, b, "<");
    case OP_GT: return value_less(r, out, b, a, ">");
    default: break;
    }
    if (is_number(a, &x) && is_number(b, &y) && (isnan(x) || isnan(y))) return *out = false, true;
    if (!value_less(r, out, op == OP_LE ? a : b, op == OP_LE ? b : a, op == OP_LE ? "<=" : ">=")) return false;
    if (*out) return true;
    return value_equal(r, &eq, a, b) && (*out = eq, true);
}

/* ---- attributes and items ---- */

static bool macro_attr(struct run *r, struct value *out, bool *found, const struct vmacro *m, struct str name)
{
    *found = true;
    if (str_eq(name, STR("name"))) {
        *out = VALUE_NONE;
        return !m->def->name.ptr || str_value(r, out, m->def->name);
    }
    if (str_eq(name, STR("caller"))) return *out = value_bool(m->def->uses_caller), true;
    if (str_eq(name, STR("catch_kwargs"))) return *out = value_bool(m->def->uses_kwargs), true;
    if (str_eq(name, STR("catch_varargs"))) return *out = value_bool(m->def->uses_varargs), true;
    if (!str_eq(name, STR("arguments"))) return *found = false, true;
    if (!list_new(r, out, V_TUPLE, m->def->n_params)) return false;
    for (size_t i = 0; i < m->def->n_params; i++) {
        struct value v;
        if (!str_value(r, &v, m->def->params[i]->name) || !list_push(r, out->l, v)) return false;
    }
    return true;
}

/* Attributes that are no methods. */
static bool own_attr(struct run *r, struct value *out, bool *found, struct value obj, struct str name)
{
    *found = false;
    switch (obj.kind) {
    case V_NAMESPACE: return dict_get_str(r, out, found, obj.d, name);
    case V_LOOP: return loop_attr(r, out, found, obj.loop, name);
    case V_MACRO: return macro_attr(r, out, found, obj.macro, name);
    case V_TUPLE:
        if (!obj.l->group) return true;
        *found = str_eq(name, STR("grouper")) || str_eq(name, STR("list"));
        if (*found) *out = obj.l->items[name.ptr[0] == 'l'];
        return true;
    case V_CYCLER:
        *found = str_eq(name, STR("current"));
        if (*found) *out = obj.cycler->items[obj.cycler->pos];
        return true;
    case V_RANGE:
        *found = true;
        if (str_eq(name, STR("start"))) *out = value_int(obj.range->start);
        else if (str_eq(name, STR("stop"))) *out = value_int(obj.range->stop);
        else if (str_eq(name, STR("step"))) *out = value_int(obj.range->step);
        else *found = false;
        return true;
    case V_BOOL:
    case V_INT:
        *found = str_eq(name, STR("real")) || str_eq(name, STR("numerator"));
        if (*found) *out = value_int(obj.kind == V_INT ? obj.i : obj.b);
        return true;
    default: return true;
    }
}

static bool attr_only(struct run *r, struct value *out, bool *found, struct value obj, struct str name)
{
    if (!own_attr(r, out, found, obj, name)) return false;
    if (*found || obj.kind == V_NAMESPACE) return true;
    const struct builtin *fn = method_find(obj, name);
    if (!fn) return true;
    struct vfunc *f = run_alloc(r, sizeof *f);
    if (!f) return false;
    *f = (struct vfunc){fn, obj, type_name(obj)};
    *out = (struct value){.kind = V_FUNC, .func = f};
    *found = true;
    return true;
}

bool get_attr(struct run *r, struct value *out, struct value obj, struct str name)
{
    bool found;
    struct value key;
    if (obj.kind == V_UNDEFINED) return undefined_fail(r, obj);
    if (!attr_only(r, out, &found, obj, name)) return false;
    if (!found && obj.kind == V_DICT && !dict_get_str(r, out, &found, obj.d, name)) return false;
    return found || (str_value(r, &key, name) && undefined_attr(r, out, obj, key));
}

static bool hashable(struct run *r, struct value v)
{
    if (v.kind == V_LIST || v.kind == V_DICT) return false;
    if (v.kind != V_TUPLE) return true;
    if (!enter(r)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < v.l->n; i++) ok = hashable(r, v.l->items[i]);
    leave(r);
    return ok;
}

static bool index_item(struct run *r, struct value *out, bool *found, struct value obj, int64_t i)
{
    size_t n, size;
    if (!value_len(r, &n, obj)) return false;
    if (i < 0) i += (int64_t)n;
    *found = i >= 0 && (uint64_t)i < n;
    if (!*found) return true;
    if (obj.kind == V_RANGE) return *out = value_int(obj.range->start + i * obj.range->step), true;
    if (obj.kind != V_STR) return *out = obj.l->items[i], true;
    if (!vstr_ascii(obj.s) && !charge(r, obj.s->len)) return false;
    return char_value(r, out, obj.s, vstr_byte_at(obj.s, (size_t)i), &size);
}

bool get_item(struct run *r, struct value *out, struct value obj, struct value key)
{
    int64_t i;
    bool found = false;
    if (obj.kind == V_UNDEFINED) return undefined_fail(r, obj);
    if (obj.kind == V_DICT) {
        if (hashable(r, key) && !dict_get(r, out, &found, obj.d, key)) return false;
        if (r->failed) return false;
    } else if ((is_seq(obj) || obj.kind == V_RANGE) && is_int(key, &i)) {
        if (!index_item(r, out, &found, obj, i)) return false;
    }
    if (found) return true;
    if (key.kind == V_STR && !attr_only(r, out, &found, obj, vstr_str(key.s))) return false;
    return found || undefined_attr(r, out, obj, key);
}

/* Python's slice.indices: start, step and the number of items. */
static bool slice_bounds(struct run *r, int64_t *start, int64_t *step, size_t *count, const struct value b[3],
                         size_t len)
{
    int64_t n = (int64_t)len, v[3] = {0, 0, 1};
    for (size_t i = 0; i < 3; i++)
        if (b[i].kind != V_NONE && !is_int(b[i], &v[i]))
            return run_fail(r, "slice indices must be integers or None, not %s", type_name(b[i]));
    *step = v[2];
    if (*step == 0) return run_fail(r, "slice step cannot be zero");
    if (*step == INT64_MIN) *step = -INT64_MAX;
    int64_t low = *step < 0 ? -1 : 0, high = *step < 0 ? n - 1 : n;
    for (size_t i = 0; i < 2; i++) {
        if (b[i].kind == V_NONE) v[i] = (i == 0) == (*step > 0) ? low : high;
        else {
            if (v[i] < 0) v[i] += n;
            v[i] = v[i] < low ? low : v[i] > high ? high : v[i];
        }
    }
    *start = v[0];
    *count = 0;
    if (*step > 0 && v[0] < v[1]) *count = (size_t)((v[1] - v[0] - 1) / *step + 1);
    if (*step < 0 && v[0] > v[1]) *count = (size_t)((v[0] - v[1] - 1) / -*step + 1);
    return true;
}

static bool slice_str(struct run *r, struct value *out, struct vstr *s, int64_t start, int64_t step, size_t count)
{
    if (!vstr_ascii(s) && !charge(r, s->len)) return false;
    if (step == 1 || count <= 1) {
        size_t from = count ? vstr_byte_at(s, (size_t)start) : 0;
        return vstr_sub(r, out, s, from, count ? vstr_byte_at(s, (size_t)start + count) : 0);
    }
    struct sb b;
    size_t n = vstr_chars(s), at = 0, size;
    sb_init(&b, r);
    size_t *offsets = vstr_ascii(s) ? NULL : run_alloc(r, n * sizeof *offsets);
    if (!vstr_ascii(s)) {
        if (!offsets) return false;
        for (size_t i = 0; i < n; i++, at += size) uni_at(vstr_str(s), offsets[i] = at, &size);
    }
    if (!charge(r, count * 8)) return false;
    for (size_t i = 0; i < count; i++, start += step) {
        at = offsets ? offsets[start] : (size_t)start;
        uni_at(vstr_str(s), at, &size);
        if (!sb_range(&b, s, at, at + size)) return false;
    }
    if (!sb_value(&b, out)) return false;
    out->s->markup = s->markup;
    return true;
}

bool get_slice(struct run *r, struct value *out, struct value obj, const struct value bounds[3])
{
    int64_t start, step;
    size_t n, count;
    if (obj.kind == V_UNDEFINED) return undefined_fail(r, obj);
    if (!is_seq(obj) && obj.kind != V_RANGE) return run_fail(r, "'%s' object cannot be sliced", type_name(obj));
    if (!value_len(r, &n, obj) || !slice_bounds(r, &start, &step, &count, bounds, n)) return false;
    if (obj.kind == V_STR) return slice_str(r, out, obj.s, start, step, count);
    if (obj.kind == V_RANGE) {
        struct vrange *x = run_alloc(r, sizeof *x);
        if (!x) return false;
        *x = (struct vrange){.start = obj.range->start + start * obj.range->step, .n = count};
        x->step = count > 1 ? step * obj.range->step : obj.range->step;
        x->stop = x->start + (int64_t)count * x->step;
        *out = (struct value){.kind = V_RANGE, .range = x};
        return true;
    }
    if (!list_new(r, out, obj.kind, count)) return false;
    for (size_t i = 0; i < count; i++, start += step) out->l->items[i] = obj.l->items[start];
    out->l->n = count;
    out->l->from_context = obj.l->from_context;
    return charge(r, count * sizeof *out->l->items);
}

/* ---- dotted paths, for the filters that take an attribute ---- */

bool attr_path_init(struct run *r, struct attr_path *path, struct value attribute)
{
    path->n = 0;
    if (attribute.kind == V_NONE || attribute.kind == V_MISSING) return true;
    if (attribute.kind != V_STR) {
        path->parts[path->n++] = attribute;
        return true;
    }
    struct vstr *s = attribute.s;
    for (size_t from = 0; from <= s->len;) {
        ptrdiff_t dot = bytes_find(r, vstr_str(s), STR("."), from);
        size_t to = dot < 0 ? s->len : (size_t)dot;
        if (path->n == sizeof path->parts / sizeof *path->parts) return run_fail(r, "attribute path is too long");
        struct value part;
        if (!vstr_sub(r, &part, s, from, to)) return false;
        bool digits = to > from, ok;
        for (size_t i = from; i < to; i++) digits &= s->ptr[i] >= '0' && s->ptr[i] <= '9';
        if (digits) {
            part = value_int(0);
            if (!parse_int(r, &part.i, &ok, (struct str){s->ptr + from, to - from}, 10)) return false;
        }
        path->parts[path->n++] = part;
        from = to + 1;
    }
    return true;
}

bool get_path(struct run *r, struct value *out, struct value obj, const struct attr_path *path,
              const struct value *fallback)
{
    *out = obj;
    for (size_t i = 0; i < path->n; i++) {
        if (!get_item(r, out, *out, path->parts[i])) return false;
        if (out->kind == V_UNDEFINED && fallback && fallback->kind != V_NONE) *out = *fallback;
    }
    return true;
}
