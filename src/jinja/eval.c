/* eval: expressions. One recursive function over the tree, whose depth and steps are counted in the run. */
#include <string.h>

#include "jinja/jinja_internal.h"

static bool eval_name(struct run *r, struct value *out, struct frame *f, const struct node *n)
{
    for (unsigned hops = n->ref.hops; hops; hops--) f = f->parent;
    *out = f->slots[n->ref.slot];
    return out->kind != V_MISSING || undefined_var(r, out, n->name);
}

static bool eval_sequence(struct run *r, struct value *out, struct frame *f, const struct node *n)
{
    if (!list_new(r, out, n->kind == N_LIST ? V_LIST : V_TUPLE, n->n)) return false;
    struct vlist *l = out->l;
    for (size_t i = 0; i < n->n; i++) {
        struct value v;
        if (!eval(r, &v, f, n->kids[i]) || !list_push(r, l, v)) return false;
    }
    return true;
}

static bool eval_dict(struct run *r, struct value *out, struct frame *f, const struct node *n)
{
    if (!dict_new(r, out)) return false;
    struct vdict *d = out->d;
    for (size_t i = 0; i + 1 < n->n; i += 2) {
        struct value key, v;
        if (!eval(r, &key, f, n->kids[i]) || !eval(r, &v, f, n->kids[i + 1]) || !dict_set(r, d, key, v)) return false;
    }
    return true;
}

static bool eval_item(struct run *r, struct value *out, struct frame *f, const struct node *n)
{
    struct value obj, key, bounds[3];
    if (!eval(r, &obj, f, n->a)) return false;
    if (n->b->kind != N_SLICE) return eval(r, &key, f, n->b) && get_item(r, out, obj, key);
    for (size_t i = 0; i < 3; i++) {
        bounds[i] = VALUE_NONE;
        if (n->b->kids[i] && !eval(r, &bounds[i], f, n->b->kids[i])) return false;
    }
    return get_slice(r, out, obj, bounds);
}

/* A sum of strings is built once, not once a piece. */
static bool eval_chain(struct run *r, struct value *out, struct frame *f, const struct node *n)
{
    struct value acc, v;
    struct sb b;
    bool building = false;
    if (!eval(r, &acc, f, n->kids[0])) return false;
    for (size_t i = 1; i < n->n; i++) {
        if (!eval(r, &v, f, n->kids[i])) return false;
        bool plain = n->ops[i - 1] == OP_ADD && acc.kind == V_STR && v.kind == V_STR && !acc.s->markup && !v.s->markup;
        if (plain) {
            if (!building) {
                sb_init(&b, r);
                if (!sb_vstr(&b, acc.s)) return false;
            }
            building = true;
            if (!sb_vstr(&b, v.s)) return false;
            continue;
        }
        if (building && !sb_value(&b, &acc)) return false;
        building = false;
        r->line = n->line;
        if (!op_binary(r, &acc, (enum op)n->ops[i - 1], acc, v)) return false;
    }
    *out = acc;
    return !building || sb_value(&b, out);
}

static bool eval_concat(struct run *r, struct value *out, struct frame *f, const struct node *n)
{
    struct sb b;
    sb_init(&b, r);
    for (size_t i = 0; i < n->n; i++) {
        struct value v;
        if (!eval(r, &v, f, n->kids[i]) || !sb_str(&b, v)) return false;
    }
    return sb_value(&b, out);
}

static bool eval_compare(struct run *r, struct value *out, struct frame *f, const struct node *n)
{
    struct value a, b;
    bool yes = true;
    if (!eval(r, &a, f, n->kids[0])) return false;
    for (size_t i = 1; i < n->n && yes; i++, a = b) {
        if (!eval(r, &b, f, n->kids[i])) return false;
        r->line = n->line;
        if (!op_compare(r, &yes, (enum op)n->ops[i - 1], a, b)) return false;
    }
    return *out = value_bool(yes), true;
}

static bool eval_logic(struct run *r, struct value *out, struct frame *f, const struct node *n)
{
    for (size_t i = 0; i < n->n; i++) {
        bool yes;
        if (!eval(r, out, f, n->kids[i])) return false;
        if (i + 1 == n->n) break;
        if (!value_truth(r, &yes, *out)) return false;
        if (yes == (n->kind == N_OR)) break;
    }
    return true;
}

static bool eval_sign(struct run *r, struct value *out, struct frame *f, const struct node *n)
{
    struct value v;
    int64_t i;
    if (!eval(r, &v, f, n->a)) return false;
    if (v.kind == V_UNDEFINED) return undefined_fail(r, v);
    if (v.kind == V_BIG) return n->kind == N_NEG ? op_binary(r, out, OP_SUB, value_int(0), v) : (*out = v, true);
    if (v.kind == V_FLOAT) return *out = value_float(n->kind == N_NEG ? -v.f : v.f), true;
    if (!is_int(v, &i))
        return run_fail(r, "bad operand type for unary %c: '%s'", n->kind == N_NEG ? '-' : '+', type_name(v));
    if (n->kind == N_NEG) return op_binary(r, out, OP_SUB, value_int(0), value_int(i));
    return *out = value_int(i), true;
}

static bool eval_cond(struct run *r, struct value *out, struct frame *f, const struct node *n)
{
    struct value test;
    bool yes;
    if (!eval(r, &test, f, n->b) || !value_truth(r, &yes, test)) return false;
    if (yes) return eval(r, out, f, n->a);
    if (n->c) return eval(r, out, f, n->c);
    return undefined_hint(r, out, "the inline if-expression evaluated to false and no else section was defined");
}

static bool spread_args(struct run *r, struct args *args, struct frame *f, const struct node *dyn)
{
    struct value v, list;
    if (!eval(r, &v, f, dyn) || !iter_collect(r, &list, V_LIST, v)) return false;
    struct value *all = run_alloc(r, (args->n + list.l->n + 1) * sizeof *all);
    if (!all) return false;
    if (args->n) memcpy(all, args->v, args->n * sizeof *all);
    if (list.l->n) memcpy(all + args->n, list.l->items, list.l->n * sizeof *all);
    args->v = all;
    args->n += list.l->n;
    return true;
}

static bool spread_kwargs(struct run *r, struct args *args, struct frame *f, const struct node *dyn)
{
    struct value v;
    if (!eval(r, &v, f, dyn)) return false;
    if (v.kind != V_DICT) return run_fail(r, "argument after ** must be a mapping, not %s", type_name(v));
    if (!dict_force(r, v.d)) return false;
    struct keyword *kw = run_alloc(r, (args->n_kw + v.d->n + 1) * sizeof *kw);
    if (!kw) return false;
    if (args->n_kw) memcpy(kw, args->kw, args->n_kw * sizeof *kw);
    for (size_t i = 0; i < v.d->n; i++) {
        const struct ventry *e = &v.d->entries[i];
        if (e->key.kind == V_MISSING) continue;
        if (e->key.kind != V_STR) return run_fail(r, "keywords must be strings");
        kw[args->n_kw++] = (struct keyword){vstr_str(e->key.s), e->value};
    }
    args->kw = kw;
    return true;
}

bool eval_args(struct run *r, struct args *args, struct frame *f, const struct call_args *call)
{
    *args = (struct args){0};
    if (!call) return true;
    if (call->n_args && !(args->v = run_alloc(r, call->n_args * sizeof *args->v))) return false;
    /* One more keyword than written: a call block adds `caller`. */
    if (!(args->kw = run_alloc(r, (call->n_kw + 1) * sizeof *args->kw))) return false;
    for (; args->n < call->n_args; args->n++)
        if (!eval(r, &args->v[args->n], f, call->args[args->n])) return false;
    for (; args->n_kw < call->n_kw; args->n_kw++) {
        args->kw[args->n_kw].name = call->kw_names[args->n_kw];
        if (!eval(r, &args->kw[args->n_kw].value, f, call->kw_values[args->n_kw])) return false;
    }
    if (call->dyn_args && !spread_args(r, args, f, call->dyn_args)) return false;
    return !call->dyn_kwargs || spread_kwargs(r, args, f, call->dyn_kwargs);
}

static bool eval_call(struct run *r, struct value *out, struct frame *f, const struct node *n)
{
    struct value callee, obj;
    struct args args;
    const struct node *a = n->a;
    if (a->kind == N_GETATTR) { /* a method call needs no bound method */
        if (!eval(r, &obj, f, a->a)) return false;
        const struct builtin *fn = obj.kind == V_NAMESPACE || obj.kind == V_LOOP ? NULL : method_find(obj, a->name);
        if (fn) {
            if (!eval_args(r, &args, f, n->call)) return false;
            r->line = n->line;
            return call_builtin(r, out, fn, obj, &args);
        }
        if (!get_attr(r, &callee, obj, a->name)) return false;
    } else if (!eval(r, &callee, f, a)) return false;
    if (!eval_args(r, &args, f, n->call)) return false;
    r->line = n->line;
    return call_value(r, out, callee, &args);
}

static bool eval_builtin(struct run *r, struct value *out, struct frame *f, const struct node *n)
{
    struct value self;
    struct args args;
    if (!eval(r, &self, f, n->a) || !eval_args(r, &args, f, n->call)) return false;
    r->line = n->line;
    if (!n->fn) return run_fail(r, "no %s named '%.*s'", n->kind == N_FILTER ? "filter" : "test", STR_ARG(n->name));
    return call_builtin(r, out, n->fn, self, &args);
}

static bool eval_kind(struct run *r, struct value *out, struct frame *f, const struct node *n)
{
    struct value v;
    bool yes;
    switch (n->kind) {
    case N_CONST: return *out = n->value, true;
    case N_NAME: return eval_name(r, out, f, n);
    case N_TUPLE:
    case N_LIST: return eval_sequence(r, out, f, n);
    case N_DICT: return eval_dict(r, out, f, n);
    case N_GETATTR: return eval(r, &v, f, n->a) && get_attr(r, out, v, n->name);
    case N_GETITEM: return eval_item(r, out, f, n);
    case N_CALL: return eval_call(r, out, f, n);
    case N_FILTER:
    case N_TEST: return eval_builtin(r, out, f, n);
    case N_NOT: return eval(r, &v, f, n->a) && value_truth(r, &yes, v) && (*out = value_bool(!yes), true);
    case N_NEG:
    case N_POS: return eval_sign(r, out, f, n);
    case N_AND:
    case N_OR: return eval_logic(r, out, f, n);
    case N_CHAIN: return eval_chain(r, out, f, n);
    case N_CONCAT: return eval_concat(r, out, f, n);
    case N_COMPARE: return eval_compare(r, out, f, n);
    case N_COND: return eval_cond(r, out, f, n);
    case N_SLICE: return run_fail(r, "a slice is only allowed alone inside [ ]");
    default: return run_fail(r, "internal: not an expression");
    }
}

bool eval(struct run *r, struct value *out, struct frame *f, const struct node *n)
{
    if (n->kind == N_CONST) return *out = n->value, true;
    if (!enter(r)) return false;
    r->line = n->line;
    bool ok = eval_kind(r, out, f, n);
    leave(r);
    return ok;
}
