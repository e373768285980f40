/* hash: see hash.h. hash64 multiplies 64x64->128 bits and folds, eight bytes a step (the idea of wyhash, Wang Yi). */
#include "base/hash.h"

#include <string.h>

#include "base/alloc.h"

static uint64_t fold(uint64_t a, uint64_t b)
{
    __uint128_t p = (__uint128_t)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

uint64_t hash64(const void *data, size_t size, uint64_t seed)
{
    const char *p = data;
    uint64_t h = seed ^ 0x9e3779b97f4a7c15u, w;
    size_t left = size;
    for (; left >= 8; left -= 8, p += 8) {
        memcpy(&w, p, 8);
        h = fold(h ^ w, 0xa0761d6478bd642fu);
    }
    w = 0;
    if (left) memcpy(&w, p, left);
    return fold(h ^ w ^ (uint64_t)size << 56, 0xe7037ed1a0b428dbu);
}

/* Four lanes, so that multiplications overlap; two words a multiplication. */
uint64_t hash64_bulk(const void *data, size_t size, uint64_t seed)
{
    enum { LANES = 4 };
    static const uint64_t keys[LANES] = {0xa0761d6478bd642fu, 0xe7037ed1a0b428dbu, 0x8ebc6af09c88c6e3u,
                                         0x589965cc75374cc3u};
    const char *p = data;
    uint64_t lanes[LANES], words[2 * LANES];
    size_t left = size;
    for (int i = 0; i < LANES; i++) lanes[i] = seed ^ keys[i];
    for (; left >= sizeof words; left -= sizeof words, p += sizeof words) {
        memcpy(words, p, sizeof words);
        for (int i = 0; i < LANES; i++) lanes[i] = fold(lanes[i] ^ words[2 * i], words[2 * i + 1] ^ keys[i]) + lanes[i];
    }
    return hash64(p, left, hash64(lanes, sizeof lanes, size));
}

void strmap_init(struct strmap *m)
{
    *m = (struct strmap){0};
}

void strmap_deinit(struct strmap *m)
{
    mem_free(m->slots);
    *m = (struct strmap){0};
}

static struct strmap_slot *slot_of(const struct strmap *m, struct str key)
{
    size_t i = hash64(key.ptr, key.len, 0) & (m->n_slots - 1);
    while (m->slots[i].key.ptr && !str_eq(m->slots[i].key, key)) i = (i + 1) & (m->n_slots - 1);
    return &m->slots[i];
}

static bool grow(struct strmap *m)
{
    struct strmap bigger = {.n_slots = m->n_slots ? m->n_slots * 2 : 16, .n_used = m->n_used};
    size_t bytes;
    if (!size_mul(&bytes, bigger.n_slots, sizeof *bigger.slots)) return false;
    bigger.slots = mem_try_zalloc(bytes);
    if (!bigger.slots) return false;
    for (size_t i = 0; i < m->n_slots; i++)
        if (m->slots[i].key.ptr) *slot_of(&bigger, m->slots[i].key) = m->slots[i];
    mem_free(m->slots);
    *m = bigger;
    return true;
}

bool strmap_add(struct strmap *m, struct str key, uint32_t value)
{
    if (m->n_used * 2 >= m->n_slots && !grow(m)) return false;
    struct strmap_slot *slot = slot_of(m, key);
    if (slot->key.ptr) return false;
    *slot = (struct strmap_slot){key, value};
    m->n_used++;
    return true;
}

bool strmap_find(const struct strmap *m, uint32_t *value, struct str key)
{
    if (!m->n_slots || !key.ptr) return false;
    const struct strmap_slot *slot = slot_of(m, key);
    if (!slot->key.ptr) return false;
    *value = slot->value;
    return true;
}
