/* cache: compiled grammars between requests. A grammar grows while it is used, so it is lent, not shared: two requests
 * with the same tools at the same time have one each, and both come back. Any thread may call; one lock. */
#include <pthread.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "grammar/grammar_internal.h"

struct entry {
    struct entry *newer, *older;
    struct grammar *g;
    uint64_t hash;
    size_t bytes;
    size_t key_len;
    char key[];
};
struct grammar_cache {
    pthread_mutex_t lock;
    struct entry *newest, *oldest;
    size_t bytes, max_bytes;
};

struct grammar_cache *grammar_cache_create(size_t max_bytes)
{
    struct grammar_cache *c = mem_zalloc(sizeof *c);
    pthread_mutex_init(&c->lock, NULL);
    c->max_bytes = max_bytes;
    return c;
}

static void unlink_entry(struct grammar_cache *c, struct entry *x)
{
    if (x->newer) x->newer->older = x->older;
    else c->newest = x->older;
    if (x->older) x->older->newer = x->newer;
    else c->oldest = x->newer;
    c->bytes -= x->bytes;
}

void grammar_cache_destroy(struct grammar_cache *c)
{
    if (!c) return;
    while (c->oldest) {
        struct entry *x = c->oldest;
        unlink_entry(c, x);
        grammar_unref(x->g);
        mem_free(x);
    }
    pthread_mutex_destroy(&c->lock);
    mem_free(c);
}

struct grammar *grammar_cache_take(struct grammar_cache *c, struct str key)
{
    struct grammar *g = NULL;
    uint64_t hash = hash64(key.ptr, key.len, 41);
    pthread_mutex_lock(&c->lock);
    for (struct entry *x = c->newest; x; x = x->older) {
        if (x->hash != hash || !str_eq((struct str){x->key, x->key_len}, key)) continue;
        g = x->g;
        unlink_entry(c, x);
        mem_free(x);
        break;
    }
    pthread_mutex_unlock(&c->lock);
    return g;
}

void grammar_cache_put(struct grammar_cache *c, struct str key, struct grammar *g)
{
    struct entry *x = g->exhausted ? NULL : mem_try_alloc(sizeof *x + key.len), *gone = NULL;
    if (!x) {
        grammar_unref(g);
        return;
    }
    *x = (struct entry){
        .g = g, .hash = hash64(key.ptr, key.len, 41), .bytes = grammar_memory(g) + key.len, .key_len = key.len};
    if (key.len) memcpy(x->key, key.ptr, key.len);
    pthread_mutex_lock(&c->lock);
    x->older = c->newest;
    if (c->newest) c->newest->newer = x;
    else c->oldest = x;
    c->newest = x;
    c->bytes += x->bytes;
    while (c->bytes > c->max_bytes && c->oldest) {
        struct entry *old = c->oldest;
        unlink_entry(c, old);
        old->older = gone;
        gone = old;
    }
    pthread_mutex_unlock(&c->lock);
    while (gone) {
        struct entry *next = gone->older;
        grammar_unref(gone->g);
        mem_free(gone);
        gone = next;
    }
}

size_t grammar_cache_memory(struct grammar_cache *c)
{
    pthread_mutex_lock(&c->lock);
    size_t n = c->bytes;
    pthread_mutex_unlock(&c->lock);
    return n;
}
