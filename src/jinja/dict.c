/* dict: lists and dicts. A dict keeps the order of insertion; small ones are searched, larger ones have a hash index.
 * Containers of the context stay JSON (`lazy`) until somebody looks inside, one level at a time. */
#include <string.h>

#include "base/hash.h"
#include "jinja/jinja_internal.h"

#define SMALL_DICT 8

/* ---- lists ---- */

bool list_new(struct run *r, struct value *out, enum kind kind, size_t cap)
{
    struct vlist *l = run_zalloc(r, sizeof *l);
    if (!l) return false;
    if (cap && (cap > SIZE_MAX / sizeof *l->items || !(l->items = run_alloc(r, cap * sizeof *l->items)))) {
        if (!r->failed) run_error(r, "list is too long");
        return false;
    }
    l->cap = cap;
    *out = (struct value){.kind = kind, .l = l};
    return true;
}

bool list_push(struct run *r, struct vlist *l, struct value v)
{
    if (l->lazy && !list_force(r, l)) return false;
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 4;
        struct value *items = run_alloc(r, cap * sizeof *items);
        if (!items) return false;
        if (l->n) memcpy(items, l->items, l->n * sizeof *items);
        l->items = items;
        l->cap = cap;
    }
    l->items[l->n++] = v;
    return true;
}

bool list_force(struct run *r, struct vlist *l)
{
    if (!l->lazy) return true;
    json_t *json = l->lazy;
    size_t n = json_array_size(json);
    struct value *items = run_alloc(r, (n ? n : 1) * sizeof *items);
    if (!items) return false;
    for (size_t i = 0; i < n; i++)
        if (!value_from_json(r, &items[i], json_array_get(json, i), l->from_context)) return false;
    l->items = items;
    l->n = l->cap = n;
    l->lazy = NULL;
    return true;
}

bool pair_new(struct run *r, struct value *out, struct value a, struct value b)
{
    if (!list_new(r, out, V_TUPLE, 2)) return false;
    out->l->items[0] = a;
    out->l->items[1] = b;
    out->l->n = 2;
    return true;
}

/* ---- dicts ---- */

bool dict_new(struct run *r, struct value *out)
{
    struct vdict *d = run_zalloc(r, sizeof *d);
    *out = (struct value){.kind = V_DICT, .d = d};
    return d != NULL;
}

static void index_add(struct vdict *d, size_t entry)
{
    size_t i = d->entries[entry].hash & (d->n_index - 1);
    while (d->index[i]) i = (i + 1) & (d->n_index - 1);
    d->index[i] = (uint32_t)(entry + 1);
}

/* Room for one more entry; drops removed ones when the array is full. */
static bool dict_grow(struct run *r, struct vdict *d)
{
    size_t cap = d->n_live * 2 < 4 ? 4 : d->n_live * 2;
    struct ventry *entries = cap < UINT32_MAX / 4 ? run_alloc(r, cap * sizeof *entries) : NULL;
    if (!entries) return r->failed ? false : run_fail(r, "dict is too large");
    size_t n = 0;
    for (size_t i = 0; i < d->n; i++)
        if (d->entries[i].key.kind != V_MISSING) entries[n++] = d->entries[i];
    d->entries = entries;
    d->cap = cap;
    d->n = n;
    d->index = NULL;
    if (cap <= SMALL_DICT) return true;
    for (d->n_index = 16; d->n_index < cap * 2;) d->n_index *= 2;
    if (!(d->index = run_zalloc(r, d->n_index * sizeof *d->index))) return false;
    for (size_t i = 0; i < n; i++) index_add(d, i);
    return true;
}

static bool key_equal(struct run *r, bool *out, struct value a, struct value b)
{
    if (a.kind == V_STR && b.kind == V_STR) return *out = str_eq(vstr_str(a.s), vstr_str(b.s)), true;
    return value_equal(r, out, a, b);
}

static bool dict_find(struct run *r, struct ventry **out, struct vdict *d, struct value key, uint64_t hash)
{
    bool same;
    *out = NULL;
    if (!d->index) {
        for (size_t i = 0; i < d->n; i++) {
            struct ventry *e = &d->entries[i];
            if (e->hash != hash || e->key.kind == V_MISSING) continue;
            if (!key_equal(r, &same, e->key, key)) return false;
            if (same) return *out = e, true;
        }
        return true;
    }
    for (size_t i = hash & (d->n_index - 1); d->index[i]; i = (i + 1) & (d->n_index - 1)) {
        struct ventry *e = &d->entries[d->index[i] - 1];
        if (!charge(r, 64)) return false; /* keys that a client chose to collide cost steps */
        if (e->hash != hash || e->key.kind == V_MISSING) continue;
        if (!key_equal(r, &same, e->key, key)) return false;
        if (same) return *out = e, true;
    }
    return true;
}

static bool dict_append(struct run *r, struct vdict *d, struct value key, struct value v, uint64_t hash)
{
    if (d->n == d->cap && !dict_grow(r, d)) return false;
    d->entries[d->n++] = (struct ventry){key, v, hash};
    d->n_live++;
    if (d->index) index_add(d, d->n - 1);
    return true;
}

bool dict_force(struct run *r, struct vdict *d)
{
    if (!d->lazy) return true;
    json_t *json = d->lazy, *item;
    const char *key;
    size_t len;
    d->lazy = NULL;
    json_object_keylen_foreach(json, key, len, item)
    {
        struct value k, v;
        struct vstr *s = vstr_new(r, key, len, d->from_context ? TAINT_ALL : TAINT_NONE);
        if (!s) return false;
        k = (struct value){.kind = V_STR, .s = s};
        if (!value_from_json(r, &v, item, d->from_context)) return false;
        if (!dict_append(r, d, k, v, hash64(key, len, 0))) return false; /* JSON keys are unique */
    }
    return true;
}

bool dict_get(struct run *r, struct value *out, bool *found, struct vdict *d, struct value key)
{
    uint64_t hash;
    struct ventry *e;
    if (!dict_force(r, d) || !value_hash(r, &hash, key) || !dict_find(r, &e, d, key, hash)) return false;
    *found = e != NULL;
    if (e) *out = e->value;
    return true;
}

bool dict_get_str(struct run *r, struct value *out, bool *found, struct vdict *d, struct str key)
{
    struct vstr s = {.ptr = key.ptr, .len = key.len, .n_chars = SIZE_MAX};
    return dict_get(r, out, found, d, (struct value){.kind = V_STR, .s = &s});
}

bool dict_set(struct run *r, struct vdict *d, struct value key, struct value v)
{
    uint64_t hash;
    struct ventry *e;
    if (!dict_force(r, d) || !value_hash(r, &hash, key) || !dict_find(r, &e, d, key, hash)) return false;
    if (!e) return dict_append(r, d, key, v, hash);
    e->value = v;
    return true;
}

bool dict_remove(struct run *r, struct vdict *d, struct value key, bool *found, struct value *old)
{
    uint64_t hash;
    struct ventry *e;
    if (!dict_force(r, d) || !value_hash(r, &hash, key) || !dict_find(r, &e, d, key, hash)) return false;
    *found = e != NULL;
    if (!e) return true;
    *old = e->value;
    e->key = (struct value){.kind = V_MISSING};
    d->n_live--;
    return true;
}

void dict_clear(struct vdict *d)
{
    *d = (struct vdict){.from_context = d->from_context, .visiting = d->visiting};
}

bool dict_update(struct run *r, struct vdict *d, struct value from)
{
    struct iter it;
    struct value pair;
    int got;
    if (from.kind == V_DICT) {
        if (!dict_force(r, from.d)) return false;
        for (size_t i = 0, n = from.d->n; i < n && i < from.d->n; i++) {
            const struct ventry *e = &from.d->entries[i];
            if (e->key.kind != V_MISSING && !dict_set(r, d, e->key, e->value)) return false;
        }
        return true;
    }
    if (!iter_init(r, &it, from)) return false;
    while ((got = iter_next(r, &pair, &it)) > 0) {
        struct value two;
        if (!iter_collect(r, &two, V_TUPLE, pair)) return false;
        if (two.l->n != 2) return run_fail(r, "dictionary update element has length %zu; 2 is required", two.l->n);
        if (!dict_set(r, d, two.l->items[0], two.l->items[1])) return false;
    }
    return got == 0;
}
