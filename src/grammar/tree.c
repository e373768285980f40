/* tree: texts of tokens as a tree in flat arrays, level by level. A walk looks at the bytes of a node's children, which
 * lie side by side, and touches only those it goes to. Immutable after it was built. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "grammar/vocab_internal.h"

void entries_add(struct entries *e, struct str text, uint32_t id, size_t spaces)
{
    if (e->n == e->cap && !e->failed) {
        size_t cap = e->cap ? e->cap * 2 : 1024;
        struct entry *more = mem_try_realloc(e->list, cap * sizeof *more);
        if (!more) e->failed = true;
        else e->list = more, e->cap = cap;
    }
    if (e->failed) return;
    uint64_t key = 0;
    for (size_t i = 0; i < 8 && i < text.len; i++) key |= (uint64_t)(uint8_t)text.ptr[i] << (56 - 8 * i);
    e->list[e->n++] = (struct entry){key, text.ptr, id, (uint8_t)text.len, (uint8_t)spaces};
}

static int cmp_entry(const void *x, const void *y)
{
    const struct entry *a = x, *b = y;
    if (a->key != b->key) return a->key < b->key ? -1 : 1;
    int c = str_cmp((struct str){a->text, a->len}, (struct str){b->text, b->len});
    return c ? c : a->spaces != b->spaces ? a->spaces - b->spaces : a->id < b->id ? -1 : a->id > b->id;
}

struct ranked {
    uint64_t key;
    uint32_t at;
};

/* list[i].key by their first bytes, eleven bits a round. Returns the one of the two arrays where they are then. */
static struct ranked *rank(struct ranked *from, struct ranked *to, size_t n)
{
    enum { BITS = 11, ROUNDS = 6, SIZE = 1 << BITS };
    size_t at[ROUNDS][SIZE] = {{0}};
    for (size_t i = 0; i < n; i++)
        for (int r = 0; r < ROUNDS; r++) at[r][from[i].key >> (BITS * r) & (SIZE - 1)]++;
    for (int r = 0; r < ROUNDS; r++) {
        size_t sum = 0;
        for (size_t k = 0; k < SIZE; k++) {
            size_t here = at[r][k];
            at[r][k] = sum;
            sum += here;
        }
        for (size_t i = 0; i < n; i++) to[at[r][from[i].key >> (BITS * r) & (SIZE - 1)]++] = from[i];
        struct ranked *x = from;
        from = to;
        to = x;
    }
    return from;
}

/* By the first bytes; then what has the same ones, by comparing. */
static bool sort_entries(struct entries *e)
{
    size_t n = e->n;
    struct ranked *ranks = mem_try_alloc(2 * (n + 1) * sizeof *ranks), *sorted;
    struct entry *list = mem_try_alloc((n + 1) * sizeof *list);
    bool ok = ranks && list;
    for (size_t i = 0; ok && i < n; i++) ranks[i] = (struct ranked){e->list[i].key, (uint32_t)i};
    if (ok) sorted = rank(ranks, ranks + n + 1, n);
    for (size_t i = 0; ok && i < n; i++) list[i] = e->list[sorted[i].at];
    mem_free(ranks);
    if (!ok) return mem_free(list), false;
    mem_free(e->list);
    e->list = list;
    for (size_t i = 0, end; i < n; i = end) {
        for (end = i + 1; end < n && list[end].key == list[i].key;) end++;
        if (end > i + 1) qsort(list + i, end - i, sizeof *list, cmp_entry);
    }
    return true;
}

static uint8_t byte_at(const struct entry *e, size_t i)
{
    if (i < 8) return (uint8_t)(e->key >> (56 - 8 * i));
    return (uint8_t)e->text[i];
}

/* shared[i] = bytes that text i has in common with the one before. Returns the number of nodes. */
static size_t count_nodes(uint8_t *shared, const struct entry *list, size_t n)
{
    size_t total = 1;
    for (size_t i = 0; i < n; i++) {
        size_t k = 0, most = i == 0 ? 0 : list[i].len < list[i - 1].len ? list[i].len : list[i - 1].len;
        if (i && list[i].key != list[i - 1].key) {
            k = (size_t)__builtin_clzll(list[i].key ^ list[i - 1].key) / 8;
            if (k > most) k = most;
        } else
            while (k < most && list[i].text[k] == list[i - 1].text[k]) k++;
        shared[i] = (uint8_t)k;
        total += list[i].len - k;
    }
    return total;
}

static void fill_nodes(struct tree *t, const struct entry *list, const uint8_t *shared, size_t n)
{
    t->nodes[0] = (struct tree_node){.last = (uint32_t)n};
    t->bytes[0] = 0;
    t->n = 1;
    for (size_t depth = 0, from = 0, to = 1; from < to; depth++) {
        for (; from < to; from++) {
            struct tree_node *x = &t->nodes[from];
            uint32_t k = x->first;
            while (k < x->last && list[k].len == depth) k++;
            x->own = k;
            x->kids = (uint32_t)t->n;
            while (k < x->last) {
                uint32_t first = k++;
                while (k < x->last && shared[k] > depth) k++;
                t->bytes[t->n] = byte_at(&list[first], depth);
                t->nodes[t->n++] = (struct tree_node){.first = first, .last = k};
            }
        }
        to = t->n;
    }
    t->nodes[t->n].kids = (uint32_t)t->n;
    for (size_t i = t->n; i-- > 0;)
        for (uint32_t k = t->nodes[i].kids; k < t->nodes[i + 1].kids; k++)
            t->nodes[i].below |= t->nodes[k].below | UINT64_C(1) << byte_bucket(t->bytes[k]);
}

bool tree_build(struct tree *t, struct entries *e)
{
    size_t n = e->n, total;
    uint8_t *shared = mem_try_alloc(n + 1);
    bool ok = !e->failed && shared && sort_entries(e);
    if (ok) {
        total = count_nodes(shared, e->list, n);
        t->nodes = mem_try_alloc((total + 1) * sizeof *t->nodes);
        t->bytes = mem_try_alloc(total + 1);
        t->order = mem_try_alloc((n + 1) * sizeof *t->order);
        for (size_t i = 0; i < n; i++)
            if (e->list[i].spaces > t->max_spaces) t->max_spaces = e->list[i].spaces;
        if (t->max_spaces) t->spaces = mem_try_alloc(n);
        ok = t->nodes && t->bytes && t->order && (t->spaces || !t->max_spaces);
    }
    if (ok) {
        fill_nodes(t, e->list, shared, n);
        for (size_t i = 0; i < n; i++) {
            t->order[i] = e->list[i].id;
            if (t->spaces) t->spaces[i] = e->list[i].spaces;
        }
        t->n_order = n;
    }
    mem_free(shared);
    mem_free(e->list);
    *e = (struct entries){0};
    return ok;
}

void tree_deinit(struct tree *t)
{
    mem_free(t->nodes);
    mem_free(t->bytes);
    mem_free(t->order);
    mem_free(t->spaces);
}

size_t tree_memory(const struct tree *t)
{
    return t->n * (sizeof *t->nodes + 1) + t->n_order * (sizeof *t->order + (t->spaces != NULL));
}

uint32_t tree_child(const struct tree *t, uint32_t node, uint8_t byte)
{
    uint32_t from = t->nodes[node].kids, n = t->nodes[node + 1].kids - from;
    const uint8_t *at = n ? memchr(t->bytes + from, byte, n) : NULL;
    return at ? from + (uint32_t)(at - (t->bytes + from)) : TREE_NONE;
}
