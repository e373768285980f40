/* trie: byte strings by prefix, as one hash table of edges (node, byte) -> node. Small for any shape of the strings and
 * a step costs one probe. Keys come from model files: nodes are bounded, the table is at most half full. */
#include "base/alloc.h"
#include "tokenizer/tokenizer_internal.h"

#define TRIE_MAX_NODES ((size_t)1 << 24) /* a key is 24 bits of node and 8 of byte */

void trie_init(struct trie *t)
{
    *t = (struct trie){.n_nodes = TRIE_ROOT + 1}; /* node 0 is "none" */
}

void trie_deinit(struct trie *t)
{
    mem_free(t->slots);
    mem_free(t->values);
    *t = (struct trie){0};
}

static size_t slot_of(const struct trie *t, uint32_t key)
{
    size_t mask = t->n_slots - 1;
    size_t i = (size_t)(((uint64_t)key * 0x9e3779b97f4a7c15u) >> 32) & mask;
    while (t->slots[i].key != 0 && t->slots[i].key != key) i = (i + 1) & mask;
    return i;
}

static bool grow_slots(struct trie *t)
{
    struct trie old = *t;
    t->n_slots = old.n_slots ? old.n_slots * 2 : 256;
    t->slots = mem_try_zalloc(t->n_slots * sizeof *t->slots);
    if (!t->slots) {
        t->slots = old.slots;
        t->n_slots = old.n_slots;
        return false;
    }
    for (size_t i = 0; i < old.n_slots; i++)
        if (old.slots[i].key != 0) t->slots[slot_of(t, old.slots[i].key)] = old.slots[i];
    mem_free(old.slots);
    return true;
}

static bool grow_values(struct trie *t)
{
    size_t cap = t->cap_nodes ? t->cap_nodes * 2 : 256;
    uint32_t *values = mem_try_realloc(t->values, cap * sizeof *values);
    if (!values) return false;
    for (size_t i = t->cap_nodes; i < cap; i++) values[i] = TOKEN_NONE;
    t->values = values;
    t->cap_nodes = cap;
    return true;
}

uint32_t trie_step(const struct trie *t, uint32_t node, unsigned char byte)
{
    if (node == TRIE_ROOT) return t->root[byte];
    if (t->n_slots == 0) return 0;
    return t->slots[slot_of(t, node << 8 | byte)].child;
}

static uint32_t step_or_add(struct trie *t, uint32_t node, unsigned char byte)
{
    uint32_t child = trie_step(t, node, byte);
    if (child) return child;
    if (t->n_nodes >= TRIE_MAX_NODES) return 0;
    if (t->n_nodes >= t->cap_nodes && !grow_values(t)) return 0;
    if ((t->n_used + 1) * 2 > t->n_slots && !grow_slots(t)) return 0;
    child = (uint32_t)t->n_nodes++;
    if (node == TRIE_ROOT) {
        t->root[byte] = child;
    } else {
        t->slots[slot_of(t, node << 8 | byte)] = (struct trie_slot){.key = node << 8 | byte, .child = child};
        t->n_used++;
    }
    return child;
}

bool trie_add(struct trie *t, struct str key, uint32_t value)
{
    uint32_t node = TRIE_ROOT;
    for (size_t i = 0; i < key.len; i++) {
        node = step_or_add(t, node, (unsigned char)key.ptr[i]);
        if (node == 0) return false;
    }
    if (key.len > 0 && t->values[node] == TOKEN_NONE) t->values[node] = value;
    return true;
}

size_t trie_longest(const struct trie *t, uint32_t *value, struct str s)
{
    size_t best = 0;
    uint32_t node = TRIE_ROOT;
    for (size_t i = 0; i < s.len; i++) {
        node = trie_step(t, node, (unsigned char)s.ptr[i]);
        if (node == 0) break;
        if (t->values[node] == TOKEN_NONE) continue;
        best = i + 1;
        *value = t->values[node];
    }
    return best;
}
