/* loop: the for statement and its `loop` variable. Items are pulled one at a time (the `if` of a loop is tested only
 * when its turn comes), with one item of look-ahead for loop.last and loop.nextitem. */
#include <string.h>

#include "jinja/jinja_internal.h"

struct vloop {
    const struct node *node;
    struct frame *frame;  /* where the body runs */
    struct frame *parent; /* of a recursive loop: its defining frame */
    struct value source;
    struct iter it;
    int64_t index0, depth0;
    int64_t length;                               /* -1: not known yet */
    bool collected;                               /* `it` walks a copy of the items that passed the test */
    struct value current, before, after, changed; /* V_MISSING where there is none */
};

/* The next item that passes the loop's test. */
static int pull(struct run *r, struct value *out, struct vloop *l)
{
    const struct node *n = l->node;
    int got;
    while ((got = iter_next(r, out, &l->it)) > 0) {
        struct value test;
        bool yes;
        if (!n->c || l->collected) return 1;
        if (!scope_enter(r, l->frame, &n->scope3) || !assign(r, l->frame, n->kids[2], *out)) return -1;
        if (!eval(r, &test, l->frame, n->c) || !value_truth(r, &yes, test)) return -1;
        if (yes) return 1;
    }
    return got;
}

int loop_next(struct run *r, struct value *out, struct vloop *l)
{
    int got = 1;
    if (l->after.kind != V_MISSING) {
        *out = l->after;
        l->after = (struct value){.kind = V_MISSING};
    } else got = pull(r, out, l);
    if (got <= 0) return got;
    l->index0++;
    l->before = l->current;
    l->current = *out;
    return 1;
}

static int look_ahead(struct run *r, struct vloop *l)
{
    if (l->after.kind != V_MISSING) return 1;
    int got = pull(r, &l->after, l);
    if (got <= 0) l->after = (struct value){.kind = V_MISSING};
    return got;
}

bool loop_length(struct run *r, int64_t *out, struct vloop *l)
{
    size_t n;
    bool sized = !l->node->c && l->source.kind != V_ITER;
    if (l->length >= 0) return *out = l->length, true;
    if (sized) {
        if (!value_len(r, &n, l->source)) return false;
        return *out = l->length = (int64_t)n, true;
    }
    /* A generator: the rest is collected, and walked from the copy. */
    struct value rest, item;
    int got;
    if (!list_new(r, &rest, V_LIST, 0)) return false;
    while ((got = pull(r, &item, l)) > 0)
        if (!list_push(r, rest.l, item)) return false;
    if (got < 0) return false;
    l->length = (int64_t)rest.l->n + l->index0 + 1 + (l->after.kind != V_MISSING);
    *out = l->length;
    l->it = (struct iter){.kind = IT_LIST, .l = rest.l};
    l->collected = true;
    return true;
}

/* ---- the attributes of `loop` ---- */

static bool loop_cycle(struct run *r, struct value *out, struct value self, const struct value *a,
                       const struct args *raw)
{
    (void)a;
    if (!raw->n) return run_fail(r, "no items for cycling given");
    *out = raw->v[(size_t)(self.loop->index0 < 0 ? 0 : self.loop->index0) % raw->n];
    return true;
}

static bool loop_changed(struct run *r, struct value *out, struct value self, const struct value *a,
                         const struct args *raw)
{
    struct value now;
    bool same = false;
    (void)a;
    if (!list_new(r, &now, V_TUPLE, raw->n)) return false;
    for (size_t i = 0; i < raw->n; i++) now.l->items[now.l->n++] = raw->v[i];
    if (self.loop->changed.kind != V_MISSING && !value_equal(r, &same, self.loop->changed, now)) return false;
    if (!same) self.loop->changed = now;
    return *out = value_bool(!same), true;
}

static bool bound(struct run *r, struct value *out, struct vloop *l, const struct builtin *fn)
{
    struct vfunc *f = run_alloc(r, sizeof *f);
    if (!f) return false;
    *f = (struct vfunc){fn, {.kind = V_LOOP, .loop = l}, "LoopContext"};
    *out = (struct value){.kind = V_FUNC, .func = f};
    return true;
}

bool loop_attr(struct run *r, struct value *out, bool *found, struct vloop *l, struct str name)
{
    static const struct builtin cycle = {"cycle", loop_cycle, 0, RAW_ARGS, {0}};
    static const struct builtin changed = {"changed", loop_changed, 0, RAW_ARGS, {0}};
    int64_t n;
    int got;
    *found = true;
    if (str_eq(name, STR("index"))) return *out = value_int(l->index0 + 1), true;
    if (str_eq(name, STR("index0"))) return *out = value_int(l->index0), true;
    if (str_eq(name, STR("first"))) return *out = value_bool(l->index0 == 0), true;
    if (str_eq(name, STR("depth"))) return *out = value_int(l->depth0 + 1), true;
    if (str_eq(name, STR("depth0"))) return *out = value_int(l->depth0), true;
    if (str_eq(name, STR("cycle"))) return bound(r, out, l, &cycle);
    if (str_eq(name, STR("changed"))) return bound(r, out, l, &changed);
    if (str_eq(name, STR("length"))) return loop_length(r, &n, l) && (*out = value_int(n), true);
    if (str_eq(name, STR("revindex"))) return loop_length(r, &n, l) && (*out = value_int(n - l->index0), true);
    if (str_eq(name, STR("revindex0"))) return loop_length(r, &n, l) && (*out = value_int(n - l->index0 - 1), true);
    if (str_eq(name, STR("last"))) return (got = look_ahead(r, l)) >= 0 && (*out = value_bool(!got), true);
    if (str_eq(name, STR("nextitem"))) {
        if ((got = look_ahead(r, l)) < 0) return false;
        return got ? (*out = l->after, true) : undefined_hint(r, out, "there is no next item");
    }
    if (str_eq(name, STR("previtem"))) {
        if (l->index0 == 0 || l->before.kind == V_MISSING) return undefined_hint(r, out, "there is no previous item");
        return *out = l->before, true;
    }
    return *found = false, true;
}

bool sb_loop(struct sb *b, struct vloop *l)
{
    int64_t n;
    return loop_length(b->r, &n, l) && sb_printf(b, "<LoopContext %lld/%lld>", (long long)l->index0 + 1, (long long)n);
}

/* ---- running ---- */

static bool run_body(struct run *r, struct sb *out, struct vloop *l, bool *any)
{
    const struct node *n = l->node;
    struct frame *f = l->frame;
    struct value item;
    int got;
    while ((got = loop_next(r, &item, l)) > 0) {
        *any = true;
        if (!scope_enter(r, f, &n->scope)) return false;
        if (n->flag2) f->slots[n->ref.slot] = (struct value){.kind = V_LOOP, .loop = l};
        if (!assign(r, f, n->a, item) || !exec_body(r, out, f, n->kids[0])) return false;
        enum flow flow = r->flow;
        r->flow = FLOW_NEXT;
        if (flow == FLOW_BREAK) break;
    }
    return got >= 0;
}

static bool run_loop(struct run *r, struct sb *out, struct frame *parent, const struct node *n, struct value source,
                     int64_t depth0)
{
    struct vloop local, *l = n->flag2 ? run_alloc(r, sizeof *l) : &local;
    bool any = false;
    if (!l) return false;
    *l = (struct vloop){
        .node = n, .frame = parent, .parent = parent, .source = source, .index0 = -1, .depth0 = depth0, .length = -1};
    if (n->flag) {
        l->frame = run_alloc(r, sizeof *l->frame);
        if (!l->frame) return false;
        *l->frame = (struct frame){run_zalloc(r, (n->macro->n_slots + 1) * sizeof(struct value)), parent};
        if (!l->frame->slots) return false;
    }
    r->line = n->line;
    if (!iter_init(r, &l->it, source) || !run_body(r, out, l, &any)) return false;
    if (any || !n->kids[1]) return true;
    return scope_enter(r, l->frame, &n->scope2) && exec_body(r, out, l->frame, n->kids[1]);
}

bool exec_for(struct run *r, struct sb *out, struct frame *f, const struct node *n)
{
    struct value source;
    return eval(r, &source, f, n->b) && run_loop(r, out, f, n, source, 0);
}

bool loop_call(struct run *r, struct value *out, struct vloop *l, const struct args *args)
{
    struct sb b;
    if (!l->node->flag) return run_fail(r, "the loop must have the 'recursive' marker to be called recursively");
    if (args->n != 1 || args->n_kw) return run_fail(r, "loop() takes exactly one argument");
    if (!enter(r)) return false;
    sb_init(&b, r);
    bool ok = run_loop(r, &b, l->parent, l->node, args->v[0], l->depth0 + 1) && sb_value(&b, out);
    leave(r);
    return ok;
}
