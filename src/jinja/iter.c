/* iter: walking over values. Generators (map, select, unique ...) are lazy as in Python: they pull from their source
 * when asked, and can be walked once. Also the stable sort that the filters share. */
#include <string.h>

#include "jinja/jinja_internal.h"

bool iter_init(struct run *r, struct iter *it, struct value v)
{
    *it = (struct iter){.kind = IT_LIST};
    switch (v.kind) {
    case V_LIST:
    case V_TUPLE: return it->l = v.l, list_force(r, v.l);
    case V_DICT:
    case V_VIEW:
        it->kind = IT_DICT;
        it->d = v.kind == V_DICT ? v.d : v.view->d;
        it->view = v.kind == V_DICT ? VIEW_KEYS : v.view->kind;
        if (!dict_force(r, it->d)) return false;
        it->n = it->d->n_live;
        return true;
    case V_STR: return it->kind = IT_STR, it->s = v.s, true;
    case V_RANGE: return it->kind = IT_RANGE, it->range = v.range, true;
    case V_ITER: return it->kind = IT_SHARED, it->shared = v.iter, true;
    case V_LOOP: return it->kind = IT_LOOP, it->loop = v.loop, true;
    case V_UNDEFINED: return it->kind = IT_EMPTY, true;
    default: return run_fail(r, "'%s' object is not iterable", type_name(v));
    }
}

static int dict_next(struct run *r, struct value *out, struct iter *it)
{
    if (it->d->n_live != it->n) {
        run_error(r, "dictionary changed size during iteration");
        return -1;
    }
    while (it->i < it->d->n) {
        size_t at = it->reverse ? it->d->n - 1 - it->i : it->i;
        const struct ventry *e = &it->d->entries[at];
        it->i++;
        if (e->key.kind == V_MISSING) continue;
        if (it->view == VIEW_ITEMS) return pair_new(r, out, e->key, e->value) ? 1 : -1;
        *out = it->view == VIEW_KEYS ? e->key : e->value;
        return 1;
    }
    return 0;
}

static int str_next(struct run *r, struct value *out, struct iter *it)
{
    size_t size;
    if (it->i >= it->s->len) return 0;
    if (!char_value(r, out, it->s, it->i, &size)) return -1;
    it->i += size;
    return 1;
}

static bool call_with(struct run *r, struct value *out, const struct gen *g, struct value item)
{
    return call_builtin(r, out, g->fn, item, &g->args);
}

static int select_next(struct run *r, struct value *out, struct iter *it)
{
    struct gen *g = it->gen;
    int got;
    while ((got = iter_next(r, out, &g->source)) > 0) {
        struct value v = *out;
        bool yes;
        if (g->by_attr && !get_path(r, &v, *out, &g->path, NULL)) return -1;
        if (g->fn && !call_with(r, &v, g, v)) return -1;
        if (!value_truth(r, &yes, v)) return -1;
        if (yes != it->negate) return 1;
    }
    return got;
}

static int map_next(struct run *r, struct value *out, struct iter *it)
{
    struct gen *g = it->gen;
    struct value item;
    int got = iter_next(r, &item, &g->source);
    if (got <= 0) return got;
    if (g->fn) return call_with(r, out, g, item) ? 1 : -1;
    return get_path(r, out, item, &g->path, g->fallback.kind == V_MISSING ? NULL : &g->fallback) ? 1 : -1;
}

static bool fold_key(struct run *r, struct value *key)
{
    struct sb b;
    if (key->kind != V_STR) return true;
    sb_init(&b, r);
    return sb_case(&b, key->s, 0, key->s->len, CASE_LOWER) && sb_value(&b, key);
}

static int unique_next(struct run *r, struct value *out, struct iter *it)
{
    struct gen *g = it->gen;
    int got;
    while ((got = iter_next(r, out, &g->source)) > 0) {
        struct value key, old;
        bool found;
        if (!get_path(r, &key, *out, &g->path, NULL) || (g->fold_case && !fold_key(r, &key))) return -1;
        if (!dict_get(r, &old, &found, g->seen, key)) return -1;
        if (found) continue;
        return dict_set(r, g->seen, key, VALUE_NONE) ? 1 : -1;
    }
    return got;
}

static int next_of_kind(struct run *r, struct value *out, struct iter *it)
{
    switch (it->kind) {
    case IT_LIST:
        if (it->i >= it->l->n) return 0;
        *out = it->l->items[it->reverse ? it->l->n - 1 - it->i : it->i];
        it->i++;
        return 1;
    case IT_DICT: return dict_next(r, out, it);
    case IT_STR: return str_next(r, out, it);
    case IT_RANGE:
        if (it->i >= it->range->n) return 0;
        *out =
            value_int(it->range->start + (int64_t)(it->reverse ? it->range->n - 1 - it->i : it->i) * it->range->step);
        it->i++;
        return 1;
    case IT_SHARED: return iter_next(r, out, &it->shared->it);
    case IT_MAP: return map_next(r, out, it);
    case IT_SELECT: return select_next(r, out, it);
    case IT_UNIQUE: return unique_next(r, out, it);
    case IT_LOOP: return loop_next(r, out, it->loop);
    default: return 0;
    }
}

int iter_next(struct run *r, struct value *out, struct iter *it)
{
    if (!enter(r)) return -1;
    int got = next_of_kind(r, out, it);
    leave(r);
    return got;
}

bool iter_collect(struct run *r, struct value *out, enum kind kind, struct value v)
{
    struct iter it;
    struct value item;
    int got;
    if (!iter_init(r, &it, v)) return false;
    size_t cap = v.kind == V_LIST || v.kind == V_TUPLE ? v.l->n : v.kind == V_RANGE ? v.range->n : 0;
    if (!list_new(r, out, kind, cap)) return false;
    while ((got = iter_next(r, &item, &it)) > 0)
        if (!list_push(r, out->l, item)) return false;
    return got == 0;
}

bool iter_value(struct run *r, struct value *out, const struct iter *it, const char *name)
{
    struct viter *v = run_alloc(r, sizeof *v);
    if (!v) return false;
    *v = (struct viter){*it, name};
    *out = (struct value){.kind = V_ITER, .iter = v};
    return true;
}

/* Merges the sorted runs [lo, mid) and [mid, hi) of `order`; takes from the right only what is strictly smaller (or,
 * reversed, larger), which keeps equal items in place. */
static bool merge(struct run *r, size_t *order, size_t *tmp, const struct value *keys, size_t lo, size_t mid, size_t hi,
                  bool reverse)
{
    size_t a = lo, b = mid, n = 0;
    while (a < mid && b < hi) {
        bool right;
        if (!enter(r)) return false;
        leave(r);
        struct value x = keys[order[b]], y = keys[order[a]];
        if (!(reverse ? value_less(r, &right, y, x, "<") : value_less(r, &right, x, y, "<"))) return false;
        tmp[n++] = right ? order[b++] : order[a++];
    }
    while (a < mid) tmp[n++] = order[a++];
    while (b < hi) tmp[n++] = order[b++];
    memcpy(order + lo, tmp, n * sizeof *tmp);
    return true;
}

bool values_sort(struct run *r, struct value *items, struct value *keys, size_t n, bool reverse)
{
    if (n < 2) return true;
    size_t *order = run_alloc(r, n * sizeof *order), *tmp = run_alloc(r, n * sizeof *tmp);
    struct value *copy = run_alloc(r, 2 * n * sizeof *copy);
    if (!order || !tmp || !copy) return false;
    for (size_t i = 0; i < n; i++) order[i] = i;
    for (size_t width = 1; width < n; width *= 2)
        for (size_t lo = 0; lo + width < n; lo += 2 * width)
            if (!merge(r, order, tmp, keys, lo, lo + width, lo + 2 * width < n ? lo + 2 * width : n, reverse))
                return false;
    memcpy(copy, items, n * sizeof *copy);
    memcpy(copy + n, keys, n * sizeof *copy);
    for (size_t i = 0; i < n; i++) {
        items[i] = copy[order[i]];
        keys[i] = copy[n + order[i]];
    }
    return true;
}
