/* exec: statements, macros and calls. Output goes to a builder: the rendering's own, or that of the innermost macro,
 * set block, call block or filter block. */
#include <string.h>

#include "jinja/jinja_internal.h"

static struct value *slot_at(struct frame *f, struct slot_ref ref)
{
    for (unsigned hops = ref.hops; hops; hops--) f = f->parent;
    return &f->slots[ref.slot];
}

/* A name of the context or a global; looked up once a rendering. V_MISSING when there is none. */
static bool resolve(struct run *r, struct value *out, uint32_t id)
{
    if (!r->is_resolved[id]) {
        struct str name = r->j->names[id];
        char key[256];
        json_t *json = NULL;
        struct value v = {.kind = V_MISSING};
        if (name.len < sizeof key) {
            memcpy(key, name.ptr, name.len);
            key[name.len] = '\0';
            json = json_object_get(r->context, key);
        }
        const struct builtin *fn = json ? NULL : global_find(name);
        if (json && !value_from_json(r, &v, json, true)) return false;
        if (fn) {
            struct vfunc *func = run_alloc(r, sizeof *func);
            if (!func) return false;
            *func = (struct vfunc){fn, VALUE_NONE, NULL};
            v = (struct value){.kind = V_FUNC, .func = func};
        }
        r->resolved[id] = v;
        r->is_resolved[id] = true;
    }
    *out = r->resolved[id];
    return true;
}

bool scope_enter(struct run *r, struct frame *f, const struct scope *s)
{
    for (size_t i = 0; i < s->n_loads; i++) {
        const struct load *l = &s->loads[i];
        struct value *slot = &f->slots[l->slot];
        if (l->kind == LOAD_RESOLVE) {
            if (!resolve(r, slot, l->name_id)) return false;
        } else *slot = l->kind == LOAD_ALIAS ? *slot_at(f, l->source) : (struct value){.kind = V_MISSING};
    }
    return true;
}

static bool unpack(struct run *r, struct frame *f, const struct node *target, struct value v)
{
    struct value list;
    if (v.kind == V_TUPLE || v.kind == V_LIST) {
        if (!list_force(r, v.l)) return false;
        list = v;
    } else if (!iter_collect(r, &list, V_LIST, v)) return false;
    if (list.l->n > target->n) return run_fail(r, "too many values to unpack (expected %zu)", target->n);
    if (list.l->n < target->n)
        return run_fail(r, "not enough values to unpack (expected %zu, got %zu)", target->n, list.l->n);
    for (size_t i = 0; i < target->n; i++)
        if (!assign(r, f, target->kids[i], list.l->items[i])) return false;
    return true;
}

bool assign(struct run *r, struct frame *f, const struct node *target, struct value v)
{
    struct value object, key;
    if (target->kind == N_NAME) return *slot_at(f, target->ref) = v, true;
    if (target->kind == N_TUPLE) return unpack(r, f, target, v);
    if (!eval(r, &object, f, target->a)) return false;
    if (object.kind != V_NAMESPACE) return run_fail(r, "cannot assign attribute on non-namespace object");
    return str_value(r, &key, target->name) && dict_set(r, object.d, key, v);
}

/* ---- calls ---- */

/* Arguments by position or keyword into a[0 .. max). */
static bool bind_args(struct run *r, struct value *a, const struct builtin *fn, const struct args *args)
{
    if (args->n > fn->max) return run_fail(r, "%s takes at most %d argument(s), %zu given", fn->name, fn->max, args->n);
    for (size_t i = 0; i < MAX_PARAMS; i++) a[i] = i < args->n ? args->v[i] : (struct value){.kind = V_MISSING};
    for (size_t k = 0; k < args->n_kw; k++) {
        size_t i = 0;
        while (i < fn->max && !(fn->params[i] && str_eq(str_from(fn->params[i]), args->kw[k].name))) i++;
        if (i == fn->max)
            return run_fail(r, "%s got an unexpected keyword argument '%.*s'", fn->name, STR_ARG(args->kw[k].name));
        if (a[i].kind != V_MISSING)
            return run_fail(r, "%s got multiple values for argument '%s'", fn->name, fn->params[i]);
        a[i] = args->kw[k].value;
    }
    for (size_t i = 0; i < fn->min; i++)
        if (a[i].kind == V_MISSING)
            return run_fail(r, "%s misses required argument %zu%s%s%s", fn->name, i + 1, fn->params[i] ? " ('" : "",
                            fn->params[i] ? fn->params[i] : "", fn->params[i] ? "')" : "");
    return true;
}

bool call_builtin(struct run *r, struct value *out, const struct builtin *fn, struct value self,
                  const struct args *args)
{
    struct value a[MAX_PARAMS];
    if (fn->max == RAW_ARGS) return fn->fn(r, out, self, NULL, args);
    return bind_args(r, a, fn, args) && fn->fn(r, out, self, a, args);
}

/* Moves a keyword out of the list; V_MISSING when it is not there. */
static struct value take_kw(struct args *args, struct str name)
{
    for (size_t i = 0; i < args->n_kw; i++) {
        if (!str_eq(args->kw[i].name, name)) continue;
        struct value v = args->kw[i].value;
        memmove(&args->kw[i], &args->kw[i + 1], (args->n_kw - i - 1) * sizeof *args->kw);
        args->n_kw--;
        return v;
    }
    return (struct value){.kind = V_MISSING};
}

static bool macro_rest(struct run *r, struct frame *f, const struct macro_def *m, struct args *args)
{
    if (m->uses_caller && !m->explicit_caller) {
        struct value caller = take_kw(args, STR("caller"));
        if ((caller.kind == V_MISSING || caller.kind == V_NONE) && !undefined_hint(r, &caller, "No caller defined"))
            return false;
        *slot_at(f, m->caller) = caller;
    }
    if (m->uses_kwargs) {
        struct value d, key;
        if (!dict_new(r, &d)) return false;
        for (size_t i = 0; i < args->n_kw; i++)
            if (!str_value(r, &key, args->kw[i].name) || !dict_set(r, d.d, key, args->kw[i].value)) return false;
        *slot_at(f, m->kwargs) = d;
    } else if (args->n_kw)
        return run_fail(r, "macro '%.*s' takes no keyword argument '%.*s'", STR_ARG(m->name),
                        STR_ARG(args->kw[0].name));
    size_t extra = args->n > m->n_params ? args->n - m->n_params : 0;
    if (m->uses_varargs) {
        struct value t;
        if (!list_new(r, &t, V_TUPLE, extra)) return false;
        for (size_t i = 0; i < extra; i++) t.l->items[t.l->n++] = args->v[m->n_params + i];
        *slot_at(f, m->varargs) = t;
    } else if (extra)
        return run_fail(r, "macro '%.*s' takes not more than %zu argument(s)", STR_ARG(m->name), m->n_params);
    return true;
}

static bool macro_params(struct run *r, struct frame *f, const struct macro_def *m, struct args *args)
{
    for (size_t i = 0; i < m->n_params; i++) {
        struct value v = i < args->n ? args->v[i] : take_kw(args, m->params[i]->name);
        *slot_at(f, m->params[i]->ref) = v;
    }
    if (!macro_rest(r, f, m, args) || !scope_enter(r, f, &m->scope)) return false;
    for (size_t i = 0; i < m->n_params; i++) {
        struct value *slot = slot_at(f, m->params[i]->ref);
        if (slot->kind != V_MISSING) continue;
        struct value v;
        if (m->defaults[i] ? !eval(r, &v, f, m->defaults[i]) : !undefined_var(r, &v, m->params[i]->name)) return false;
        *slot = v;
    }
    return true;
}

bool call_macro(struct run *r, struct value *out, const struct vmacro *m, const struct args *args)
{
    struct args mine = *args; /* keywords are taken out of a copy */
    struct frame f = {.parent = m->frame};
    struct sb b;
    if (!enter(r)) return false;
    sb_init(&b, r);
    f.slots = run_zalloc(r, (m->def->n_slots + 1) * sizeof *f.slots);
    mine.kw = args->n_kw ? run_alloc(r, args->n_kw * sizeof *mine.kw) : NULL;
    bool ok = f.slots && (!args->n_kw || mine.kw);
    if (ok && args->n_kw) memcpy(mine.kw, args->kw, args->n_kw * sizeof *mine.kw);
    /* The frame lives on: a macro defined inside may be kept. */
    struct frame *heap = ok ? run_alloc(r, sizeof *heap) : NULL;
    if (heap) *heap = f;
    ok = heap && macro_params(r, heap, m->def, &mine) && exec_body(r, &b, heap, m->def->body) && sb_value(&b, out);
    leave(r);
    return ok;
}

bool call_value(struct run *r, struct value *out, struct value fn, const struct args *args)
{
    switch (fn.kind) {
    case V_UNDEFINED: return undefined_fail(r, fn);
    case V_FUNC: return call_builtin(r, out, fn.func->fn, fn.func->self, args);
    case V_MACRO: return call_macro(r, out, fn.macro, args);
    case V_LOOP: return loop_call(r, out, fn.loop, args);
    case V_JOINER:
        if (fn.joiner->used) return *out = fn.joiner->sep, true;
        fn.joiner->used = true;
        return cstr_value(r, out, "");
    default: return run_fail(r, "'%s' object is not callable", type_name(fn));
    }
}

static bool macro_value(struct run *r, struct value *out, struct frame *f, const struct macro_def *def)
{
    struct vmacro *m = run_alloc(r, sizeof *m);
    if (!m) return false;
    *m = (struct vmacro){def, f};
    *out = (struct value){.kind = V_MACRO, .macro = m};
    return true;
}

/* ---- statements ---- */

static bool exec_call_block(struct run *r, struct sb *out, struct frame *f, const struct node *n)
{
    struct value callee, caller, text;
    struct args args;
    if (!eval(r, &callee, f, n->a->a) || !eval_args(r, &args, f, n->a->call)) return false;
    if (!macro_value(r, &caller, f, n->macro)) return false;
    struct keyword *kw = run_alloc(r, (args.n_kw + 1) * sizeof *kw);
    if (!kw) return false;
    if (args.n_kw) memcpy(kw, args.kw, args.n_kw * sizeof *kw);
    kw[args.n_kw++] = (struct keyword){STR("caller"), caller};
    args.kw = kw;
    r->line = n->line;
    return call_value(r, &text, callee, &args) && sb_str(out, text);
}

/* A chain of filters over the text of a block: the innermost filter node has no operand. */
static bool filter_text(struct run *r, struct value *text, struct frame *f, const struct node *chain)
{
    struct args args;
    struct value in = *text;
    if (chain->a && !filter_text(r, &in, f, chain->a)) return false; /* depth: the height of the tree */
    if (!eval_args(r, &args, f, chain->call)) return false;
    r->line = chain->line;
    if (!chain->fn) return run_fail(r, "no filter named '%.*s'", STR_ARG(chain->name));
    return call_builtin(r, text, chain->fn, in, &args);
}

static bool exec_captured(struct run *r, struct sb *out, struct frame *f, const struct node *n)
{
    struct sb b;
    struct value text;
    sb_init(&b, r);
    if (!scope_enter(r, f, &n->scope) || !exec_body(r, &b, f, n->c)) return false;
    if (r->flow != FLOW_NEXT) return true; /* break or continue: the text is dropped */
    if (!sb_value(&b, &text) || (n->b && !filter_text(r, &text, f, n->b))) return false;
    return n->kind == N_SET_BLOCK ? assign(r, f, n->a, text) : sb_str(out, text);
}

static bool exec_with(struct run *r, struct sb *out, struct frame *f, const struct node *n)
{
    struct value *values = run_alloc(r, (n->n / 2 + 1) * sizeof *values);
    if (!values) return false;
    for (size_t i = 0; i < n->n; i += 2)
        if (!eval(r, &values[i / 2], f, n->kids[i + 1])) return false;
    if (!scope_enter(r, f, &n->scope)) return false;
    for (size_t i = 0; i < n->n; i += 2)
        if (!assign(r, f, n->kids[i], values[i / 2])) return false;
    return exec_body(r, out, f, n->c);
}

static bool exec_if(struct run *r, struct sb *out, struct frame *f, const struct node *n)
{
    for (size_t i = 0; i + 1 < n->n; i += 2) {
        struct value test;
        bool yes;
        if (!eval(r, &test, f, n->kids[i]) || !value_truth(r, &yes, test)) return false;
        if (yes) return exec_body(r, out, f, n->kids[i + 1]);
    }
    return !n->c || exec_body(r, out, f, n->c);
}

static bool exec_autoescape(struct run *r, struct sb *out, struct frame *f, const struct node *n)
{
    struct value v;
    bool on;
    if (!eval(r, &v, f, n->a) || !value_truth(r, &on, v)) return false;
    if (on) return run_fail(r, "autoescape cannot be switched on: chat templates are rendered without it");
    return scope_enter(r, f, &n->scope) && exec_body(r, out, f, n->c);
}

static bool exec(struct run *r, struct sb *out, struct frame *f, const struct node *n)
{
    struct value v;
    r->line = n->line;
    switch (n->kind) {
    case N_DATA: return sb_put(out, n->name.ptr, n->name.len, false);
    case N_PRINT: return eval(r, &v, f, n->a) && sb_str(out, v);
    case N_BODY: return exec_body(r, out, f, n);
    case N_IF: return exec_if(r, out, f, n);
    case N_FOR: return exec_for(r, out, f, n);
    case N_SET: return eval(r, &v, f, n->b) && assign(r, f, n->a, v);
    case N_SET_BLOCK:
    case N_FILTER_BLOCK: return exec_captured(r, out, f, n);
    case N_MACRO: return macro_value(r, &v, f, n->macro) && (*slot_at(f, n->ref) = v, true);
    case N_CALL_BLOCK: return exec_call_block(r, out, f, n);
    case N_WITH: return exec_with(r, out, f, n);
    case N_SCOPE: return scope_enter(r, f, &n->scope) && exec_body(r, out, f, n->c);
    case N_BREAK: return r->flow = FLOW_BREAK, true;
    case N_CONTINUE: return r->flow = FLOW_CONTINUE, true;
    case N_NO_LOADER:
        return run_fail(r, "'%.*s' needs other templates, and a chat template has none", STR_ARG(n->name));
    case N_AUTOESCAPE: return exec_autoescape(r, out, f, n);
    default: return run_fail(r, "internal: not a statement");
    }
}

bool exec_body(struct run *r, struct sb *out, struct frame *f, const struct node *body)
{
    if (!enter(r)) return false;
    bool ok = true;
    for (size_t i = 0; ok && i < body->n && r->flow == FLOW_NEXT; i++) ok = exec(r, out, f, body->kids[i]);
    leave(r);
    return ok;
}
