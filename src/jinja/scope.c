/* scope: turns variable names into slots, with Jinja's static rules. A name that a scope reads or writes gets a slot
 * of that scope; entering the scope fills it from the outer slot (alias), from the context (resolve) or with nothing.
 * Macros, call blocks and recursive loops are functions with frames of their own, which see the outer frames. First
 * all names of a scope are analysed, then its statements are bound. Runs once per compile; sets jinja.mentions too. */
#include <string.h>

#include "base/alloc.h"
#include "jinja/jinja_internal.h"

#define MAX_SYMBOLS 2000

struct function {
    unsigned depth;
    size_t n_slots;
};

struct symbol {
    struct str name;
    uint16_t slot;
    bool stored;
    enum load_kind load;
    struct slot_ref alias;
};

/* Slots by name; shared by the copies of one scope that the branches of `if` make. */
struct slot_name {
    struct slot_name *next;
    struct str name;
    uint16_t slot;
};

struct symbols {
    struct symbols *parent;
    struct function *fn;
    struct slot_name **slots;
    struct symbol *items;
    size_t n, cap;
};

static void *grown(struct compiler *c, void *old, size_t n, size_t cap, size_t size)
{
    void *p = compile_alloc(c, cap * size);
    if (p && n) memcpy(p, old, n * size);
    return p;
}

static struct symbols *symbols_new(struct compiler *c, struct symbols *parent, struct function *fn)
{
    struct symbols *s = compile_alloc(c, sizeof *s);
    if (!s || !(s->slots = compile_alloc(c, sizeof *s->slots))) return NULL;
    s->parent = parent;
    s->fn = fn;
    return s;
}

static struct symbol *own_symbol(struct symbols *s, struct str name)
{
    for (size_t i = 0; i < s->n; i++)
        if (str_eq(s->items[i].name, name)) return &s->items[i];
    return NULL;
}

static bool find_ref(struct symbols *s, struct str name, struct slot_ref *ref)
{
    unsigned depth = s->fn->depth;
    for (; s; s = s->parent) {
        const struct symbol *y = own_symbol(s, name);
        if (!y) continue;
        *ref = (struct slot_ref){(uint16_t)(depth - s->fn->depth), y->slot};
        return true;
    }
    return false;
}

static bool slot_of(struct compiler *c, struct symbols *s, struct str name, uint16_t *slot)
{
    for (struct slot_name *x = *s->slots; x; x = x->next)
        if (str_eq(x->name, name)) return *slot = x->slot, true;
    struct slot_name *x = compile_alloc(c, sizeof *x);
    if (!x) return false;
    if (s->fn->n_slots >= UINT16_MAX) return compile_fail(c, 0, "more than %d variables", UINT16_MAX);
    *x = (struct slot_name){*s->slots, name, (uint16_t)s->fn->n_slots++};
    *s->slots = x;
    *slot = x->slot;
    return true;
}

static struct symbol *define(struct compiler *c, struct symbols *s, struct str name, enum load_kind load)
{
    struct symbol *y = own_symbol(s, name);
    if (!y) {
        if (s->n >= MAX_SYMBOLS) return compile_fail(c, 0, "more than %d variables in one scope", MAX_SYMBOLS), NULL;
        if (s->n == s->cap) {
            size_t cap = s->cap ? s->cap * 2 : 8;
            struct symbol *items = grown(c, s->items, s->n, cap, sizeof *items);
            if (!items) return NULL;
            s->items = items;
            s->cap = cap;
        }
        y = &s->items[s->n];
        *y = (struct symbol){.name = name};
        if (!slot_of(c, s, name, &y->slot)) return NULL;
        s->n++;
    }
    y->load = load;
    return y;
}

static bool sym_store(struct compiler *c, struct symbols *s, struct str name)
{
    struct symbol *y = own_symbol(s, name);
    if (!y) {
        struct slot_ref outer;
        bool alias = s->parent && find_ref(s->parent, name, &outer);
        if (alias) outer.hops = (uint16_t)(outer.hops + s->fn->depth - s->parent->fn->depth);
        if (!(y = define(c, s, name, alias ? LOAD_ALIAS : LOAD_UNDEFINED))) return false;
        if (alias) y->alias = outer;
    }
    y->stored = true;
    return true;
}

static bool sym_param(struct compiler *c, struct symbols *s, struct str name)
{
    struct symbol *y = define(c, s, name, LOAD_PARAM);
    if (y) y->stored = true;
    return y != NULL;
}

static bool sym_load(struct compiler *c, struct symbols *s, struct str name)
{
    struct slot_ref ref;
    return find_ref(s, name, &ref) || define(c, s, name, LOAD_RESOLVE);
}

static bool sym_copy(struct compiler *c, struct symbols *to, const struct symbols *from)
{
    *to = *from;
    to->cap = from->n;
    return !from->n || (to->items = grown(c, from->items, from->n, from->n, sizeof *from->items));
}

/* Joins the three branches of an `if`; what only some of them store keeps its outer or context value. */
static bool sym_join(struct compiler *c, struct symbols *s, struct symbols branch[3])
{
    size_t n_before = s->n;
    bool *was_stored = compile_alloc(c, n_before + 1);
    if (!was_stored) return false;
    for (size_t i = 0; i < n_before; i++) was_stored[i] = s->items[i].stored;
    for (size_t b = 0; b < 3; b++) {
        for (size_t i = 0; i < branch[b].n; i++) {
            const struct symbol *y = &branch[b].items[i];
            struct symbol *mine = define(c, s, y->name, y->load);
            if (!mine) return false;
            mine->alias = y->alias;
            mine->stored |= y->stored;
        }
    }
    for (size_t i = 0; i < s->n; i++) {
        struct symbol *y = &s->items[i];
        if (!y->stored || (i < n_before && was_stored[i])) continue;
        size_t count = 0;
        for (size_t b = 0; b < 3; b++) {
            const struct symbol *in = own_symbol(&branch[b], y->name);
            count += in && in->stored;
        }
        if (count == 3) continue;
        struct slot_ref outer;
        y->load = LOAD_RESOLVE;
        if (!s->parent || !find_ref(s->parent, y->name, &outer)) continue;
        outer.hops = (uint16_t)(outer.hops + s->fn->depth - s->parent->fn->depth);
        y->load = LOAD_ALIAS;
        y->alias = outer;
    }
    return true;
}

/* ---- analysis: the names that belong to one scope; depth is bounded by the parser ---- */

static bool visit(struct compiler *c, struct symbols *s, struct node *n);

static bool visit_call(struct compiler *c, struct symbols *s, struct call_args *call)
{
    if (!call) return true;
    for (size_t i = 0; i < call->n_args; i++)
        if (!visit(c, s, call->args[i])) return false;
    for (size_t i = 0; i < call->n_kw; i++)
        if (!visit(c, s, call->kw_values[i])) return false;
    return visit(c, s, call->dyn_args) && visit(c, s, call->dyn_kwargs);
}

/* One `elif`: an `if` of its own inside the second branch. */
static bool visit_elif(struct compiler *c, struct symbols *s, struct node *test, struct node *body)
{
    struct symbols branch[3];
    if (!visit(c, s, test)) return false;
    for (size_t b = 0; b < 3; b++)
        if (!sym_copy(c, &branch[b], s)) return false;
    return visit(c, &branch[0], body) && sym_join(c, s, branch);
}

static bool visit_if(struct compiler *c, struct symbols *s, struct node *n)
{
    struct symbols branch[3];
    if (!visit(c, s, n->kids[0])) return false;
    for (size_t b = 0; b < 3; b++)
        if (!sym_copy(c, &branch[b], s)) return false;
    if (!visit(c, &branch[0], n->kids[1])) return false;
    for (size_t i = 2; i < n->n; i += 2)
        if (!visit_elif(c, &branch[1], n->kids[i], n->kids[i + 1])) return false;
    return visit(c, &branch[2], n->c) && sym_join(c, s, branch);
}

static bool visit_kids(struct compiler *c, struct symbols *s, struct node *n)
{
    for (size_t i = 0; i < n->n; i++)
        if (!visit(c, s, n->kids[i])) return false;
    return true;
}

static bool visit(struct compiler *c, struct symbols *s, struct node *n)
{
    if (!n) return true;
    switch (n->kind) {
    case N_NAME: return n->flag ? sym_store(c, s, n->name) : sym_load(c, s, n->name);
    case N_IF: return visit_if(c, s, n);
    case N_FOR:
    case N_CALL_BLOCK: return visit(c, s, n->kind == N_FOR ? n->b : n->a);
    case N_MACRO: return sym_store(c, s, n->name);
    case N_FILTER_BLOCK: return visit(c, s, n->b);
    case N_SET: return visit(c, s, n->b) && visit(c, s, n->a);
    case N_SET_BLOCK: return visit(c, s, n->a);
    case N_WITH:
        for (size_t i = 1; i < n->n; i += 2)
            if (!visit(c, s, n->kids[i])) return false;
        return true;
    case N_SCOPE: return true;
    case N_AUTOESCAPE: return visit(c, s, n->a);
    default:
        return visit_kids(c, s, n) && visit(c, s, n->a) && visit(c, s, n->b) && visit(c, s, n->c) &&
               visit_call(c, s, n->call);
    }
}

static bool visit_params(struct compiler *c, struct symbols *s, struct node *target)
{
    if (target->kind == N_NAME) return sym_param(c, s, target->name);
    for (size_t i = 0; i < target->n; i++)
        if (!visit_params(c, s, target->kids[i])) return false;
    return true;
}

/* ---- whether a body reads a name anywhere inside ---- */

static bool reads(const struct node *n, const char *name)
{
    if (!n) return false;
    if (n->kind == N_NAME && !n->flag && str_eq(n->name, str_from(name))) return true;
    if (reads(n->a, name) || reads(n->b, name) || reads(n->c, name)) return true;
    for (size_t i = 0; i < n->n; i++)
        if (reads(n->kids[i], name)) return true;
    if (n->macro) {
        for (size_t i = 0; i < n->macro->n_params; i++)
            if (reads(n->macro->defaults[i], name)) return true;
        if (reads(n->macro->body, name)) return true;
    }
    if (!n->call) return false;
    for (size_t i = 0; i < n->call->n_args; i++)
        if (reads(n->call->args[i], name)) return true;
    for (size_t i = 0; i < n->call->n_kw; i++)
        if (reads(n->call->kw_values[i], name)) return true;
    return reads(n->call->dyn_args, name) || reads(n->call->dyn_kwargs, name);
}

static bool stores(const struct node *n, const char *name)
{
    if (!n) return false;
    if (n->kind == N_NAME) return n->flag && str_eq(n->name, str_from(name));
    for (size_t i = 0; i < n->n; i++)
        if (stores(n->kids[i], name)) return true;
    return stores(n->a, name) || stores(n->b, name) || stores(n->c, name);
}

/* ---- binding ---- */

static bool name_id(struct compiler *c, struct str name, uint32_t *id)
{
    struct jinja *j = c->j;
    for (size_t i = 0; i < j->n_names; i++)
        if (str_eq(j->names[i], name)) return *id = (uint32_t)i, true;
    if (!(j->n_names & (j->n_names - 1))) {
        struct str *names = grown(c, j->names, j->n_names, j->n_names ? j->n_names * 2 : 1, sizeof *names);
        if (!names) return false;
        j->names = names;
    }
    *id = (uint32_t)j->n_names;
    j->names[j->n_names++] = name;
    return true;
}

static bool scope_finish(struct compiler *c, struct scope *out, const struct symbols *s)
{
    if (!(out->loads = compile_alloc(c, s->n * sizeof *out->loads))) return false;
    for (size_t i = 0; i < s->n; i++) {
        const struct symbol *y = &s->items[i];
        if (y->load == LOAD_PARAM) continue;
        struct load *l = &out->loads[out->n_loads++];
        *l = (struct load){.kind = y->load, .slot = y->slot, .source = y->alias};
        if (y->load == LOAD_RESOLVE && !name_id(c, y->name, &l->name_id)) return false;
    }
    return true;
}

static bool mention(struct compiler *c, struct str name)
{
    struct jinja *j = c->j;
    for (size_t i = 0; i < j->n_mentions; i++)
        if (str_eq(j->mentions[i], name)) return true;
    if (j->n_mentions == j->cap_mentions) {
        j->cap_mentions = j->cap_mentions ? j->cap_mentions * 2 : 32;
        struct str *m = grown(c, j->mentions, j->n_mentions, j->cap_mentions, sizeof *m);
        if (!m) return false;
        j->mentions = m;
    }
    j->mentions[j->n_mentions++] = name;
    return true;
}

/* Names of attributes that the expression reads: x.name, x['name'], x.get('name'), 'name' in x, |map('name') ... */
static bool mention_node(struct compiler *c, const struct node *n)
{
    if (n->kind == N_NAME || n->kind == N_GETATTR) return mention(c, n->name);
    const struct node *s = n->kind == N_GETITEM ? n->b : n->kind == N_COMPARE ? n->kids[0] : NULL;
    if (s && s->kind == N_CONST && s->value.kind == V_STR && !mention(c, vstr_str(s->value.s))) return false;
    if (!n->call) return true;
    for (size_t i = 0; i < n->call->n_args; i++) {
        s = n->call->args[i];
        if (s->kind == N_CONST && s->value.kind == V_STR && !mention(c, vstr_str(s->value.s))) return false;
    }
    for (size_t i = 0; i < n->call->n_kw; i++) {
        s = n->call->kw_values[i];
        if (s->kind == N_CONST && s->value.kind == V_STR && !mention(c, vstr_str(s->value.s))) return false;
    }
    return true;
}

static bool bind(struct compiler *c, struct symbols *s, struct node *n, bool soft);

static bool bind_call(struct compiler *c, struct symbols *s, struct call_args *call, bool soft)
{
    if (!call) return true;
    for (size_t i = 0; i < call->n_args; i++)
        if (!bind(c, s, call->args[i], soft)) return false;
    for (size_t i = 0; i < call->n_kw; i++)
        if (!bind(c, s, call->kw_values[i], soft)) return false;
    return bind(c, s, call->dyn_args, soft) && bind(c, s, call->dyn_kwargs, soft);
}

/* A special argument of a macro gets a parameter slot when its body reads the name. */
static bool special(struct compiler *c, struct symbols *s, bool *uses, struct slot_ref *ref, struct macro_def *m,
                    const char *name)
{
    *uses = reads(m->body, name);
    if (!*uses) return true;
    for (size_t i = 0; i < m->n_params; i++)
        if (str_eq(m->params[i]->name, str_from(name))) return find_ref(s, str_from(name), ref);
    return sym_param(c, s, str_from(name)) && find_ref(s, str_from(name), ref);
}

static bool bind_macro(struct compiler *c, struct symbols *outer, struct node *n)
{
    struct macro_def *m = n->macro;
    struct function *fn = compile_alloc(c, sizeof *fn);
    struct symbols *s = fn ? symbols_new(c, outer, fn) : NULL;
    if (!s) return false;
    fn->depth = outer->fn->depth + 1;
    for (size_t i = 0; i < m->n_params; i++) {
        if (!sym_param(c, s, m->params[i]->name)) return false;
        m->explicit_caller |= str_eq(m->params[i]->name, STR("caller"));
    }
    for (size_t i = 0; i < m->n_params; i++)
        if (!visit(c, s, m->defaults[i])) return false;
    if (!visit(c, s, m->body)) return false;
    if (!special(c, s, &m->uses_caller, &m->caller, m, "caller") ||
        !special(c, s, &m->uses_varargs, &m->varargs, m, "varargs") ||
        !special(c, s, &m->uses_kwargs, &m->kwargs, m, "kwargs"))
        return false;
    for (size_t i = 0; i < m->n_params; i++)
        if (!bind(c, s, m->params[i], false) || !bind(c, s, m->defaults[i], false)) return false;
    if (!bind(c, s, m->body, false) || !scope_finish(c, &m->scope, s)) return false;
    m->n_slots = fn->n_slots;
    return true;
}

static struct node *copy_target(struct compiler *c, const struct node *n)
{
    struct node *copy = compile_alloc(c, sizeof *copy);
    if (!copy) return NULL;
    *copy = *n;
    if (n->n && !(copy->kids = compile_alloc(c, n->n * sizeof *copy->kids))) return NULL;
    for (size_t i = 0; i < n->n; i++)
        if (!(copy->kids[i] = copy_target(c, n->kids[i]))) return NULL;
    return copy;
}

static bool bind_for(struct compiler *c, struct symbols *outer, struct node *n, bool soft)
{
    struct function *fn = outer->fn;
    n->flag2 = n->flag || reads(n->kids[0], "loop");
    if (stores(n->a, "loop") || stores(n->kids[0], "loop"))
        return compile_fail(c, n->line, "cannot assign to the special variable 'loop'");
    if (!bind(c, outer, n->b, soft)) return false;
    if (n->flag) { /* recursive: its body is a function */
        if (!(fn = compile_alloc(c, sizeof *fn)) || !(n->macro = compile_alloc(c, sizeof *n->macro))) return false;
        fn->depth = outer->fn->depth + 1;
    }
    struct symbols *body = symbols_new(c, outer, fn), *other = symbols_new(c, outer, fn);
    struct symbols *test = symbols_new(c, outer, fn);
    if (!body || !other || !test) return false;
    if (n->flag2 && !sym_param(c, body, STR("loop"))) return false;
    if (!visit_params(c, body, n->a) || !visit(c, body, n->kids[0]) || !visit(c, other, n->kids[1])) return false;
    if (n->c) {
        if (!visit_params(c, test, n->a) || !visit(c, test, n->c)) return false;
        struct node *target = copy_target(c, n->a); /* the test has its own slots for the names */
        if (!target || !bind(c, test, target, soft) || !bind(c, test, n->c, soft) || !node_add(c, n, target))
            return false;
    }
    if (!bind(c, body, n->a, soft) || !bind(c, body, n->kids[0], soft) || !bind(c, other, n->kids[1], soft))
        return false;
    if (n->flag2) find_ref(body, STR("loop"), &n->ref);
    if (!scope_finish(c, &n->scope, body) || !scope_finish(c, &n->scope2, other) || !scope_finish(c, &n->scope3, test))
        return false;
    if (n->flag) n->macro->n_slots = fn->n_slots;
    return true;
}

/* A scope inside the same function: with, set block, filter block, block. */
static bool bind_inner(struct compiler *c, struct symbols *outer, struct node *n, bool soft)
{
    struct symbols *s = symbols_new(c, outer, outer->fn);
    if (!s) return false;
    if (n->kind == N_WITH) {
        for (size_t i = 0; i < n->n; i += 2)
            if (!bind(c, outer, n->kids[i + 1], soft) || !visit_params(c, s, n->kids[i])) return false;
        for (size_t i = 0; i < n->n; i += 2)
            if (!bind(c, s, n->kids[i], false)) return false;
    }
    if (n->kind == N_SET_BLOCK && !bind(c, outer, n->a, soft)) return false;
    /* The filters of a set block are part of the inner scope, those of a filter block of the outer one. */
    if (n->kind == N_SET_BLOCK && !visit(c, s, n->b)) return false;
    if (!visit(c, s, n->c) || !bind(c, s, n->c, false)) return false;
    if (n->b && !bind(c, n->kind == N_SET_BLOCK ? s : outer, n->b, soft)) return false;
    return scope_finish(c, &n->scope, s);
}

static bool bind(struct compiler *c, struct symbols *s, struct node *n, bool soft)
{
    if (!n) return true;
    if (!mention_node(c, n)) return false;
    switch (n->kind) {
    case N_NAME:
        if (find_ref(s, n->name, &n->ref)) return true;
        return compile_fail(c, n->line, "internal: variable '%.*s' has no slot", STR_ARG(n->name));
    case N_FOR: return bind_for(c, s, n, soft);
    case N_MACRO:
        return find_ref(s, n->name, &n->ref) ? bind_macro(c, s, n) : compile_fail(c, n->line, "internal: no slot");
    case N_CALL_BLOCK: return bind(c, s, n->a, soft) && bind_macro(c, s, n);
    case N_WITH:
    case N_SET_BLOCK:
    case N_FILTER_BLOCK:
    case N_SCOPE: return bind_inner(c, s, n, soft);
    case N_AUTOESCAPE: return bind(c, s, n->a, soft) && bind_inner(c, s, n, soft);
    default: break;
    }
    if (n->kind == N_IF || n->kind == N_COND) soft = true;
    if ((n->kind == N_FILTER || n->kind == N_TEST) && n->flag && !soft)
        return compile_fail(c, n->line, "no %s named '%.*s'", n->kind == N_FILTER ? "filter" : "test",
                            STR_ARG(n->name));
    for (size_t i = 0; i < n->n; i++)
        if (!bind(c, s, n->kids[i], soft)) return false;
    return bind(c, s, n->a, soft) && bind(c, s, n->b, soft) && bind(c, s, n->c, soft) && bind_call(c, s, n->call, soft);
}

bool scope_run(struct compiler *c)
{
    struct function fn = {0};
    struct symbols *s = symbols_new(c, NULL, &fn);
    if (!s || !visit(c, s, c->j->body) || !bind(c, s, c->j->body, false)) return false;
    c->j->n_slots = fn.n_slots;
    return scope_finish(c, &c->j->scope, s);
}
