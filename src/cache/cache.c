/* cache: creation, and sequences as block tables over pages. A sequence's full pages are all in the tree, each the
 * child of the one before; only its open last page and reserved ones are private. */
#include "cache/cache.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "cache/cache_internal.h"

struct cache_seq {
    struct cache *c;
    uint64_t salt;
    uint32_t n_tokens; /* committed */
    uint32_t n_pages;  /* in the table: committed and reserved */
    uint32_t pages[];  // [c->n_pages]
};

static uint32_t pages_for(uint32_t n_tokens)
{
    return n_tokens / CACHE_PAGE_TOKENS + (n_tokens % CACHE_PAGE_TOKENS != 0);
}

/* ---- the cache ---- */

static bool allocate(struct cache *c, struct err *e)
{
    size_t pages_bytes, heads_bytes;
    if (!size_mul(&c->map_bytes, c->page_bytes, c->n_pages) || !size_mul(&pages_bytes, c->n_pages, sizeof *c->pages) ||
        !size_mul(&heads_bytes, c->n_heads, sizeof *c->full_heads))
        return err_set(e, ERR_TOO_LARGE, "KV cache: %u pages of %zu bytes are more than can be addressed", c->n_pages,
                       c->page_bytes);
    c->base = mem_try_map(c->map_bytes);
    if (!c->base) return err_set(e, ERR_IO, "KV cache: %zu bytes could not be mapped", c->map_bytes);
    c->pages = mem_try_zalloc(pages_bytes);
    c->full_heads = mem_try_alloc(heads_bytes);
    c->first_heads = mem_try_alloc(heads_bytes);
    if (!c->pages || !c->full_heads || !c->first_heads)
        return err_set(e, ERR_IO, "KV cache: no memory for the index of %u pages", c->n_pages);
    memset(c->full_heads, 0xff, heads_bytes);
    memset(c->first_heads, 0xff, heads_bytes);
    return true;
}

struct cache *cache_create(size_t page_bytes, uint32_t n_pages, struct err *e)
{
    if (!page_bytes || !n_pages || n_pages > 1u << 30) {
        err_set(e, ERR_INVALID, "KV cache: %u pages of %zu bytes; 1 to %u pages of at least a byte are possible",
                n_pages, page_bytes, 1u << 30);
        return NULL;
    }
    struct cache *c = mem_zalloc(sizeof *c);
    *c = (struct cache){.page_bytes = page_bytes, .n_pages = n_pages, .n_heads = 16};
    while (c->n_heads < n_pages) c->n_heads *= 2;
    c->free_head = c->idle_oldest = c->idle_newest = NO_PAGE;
    rng_secure(&c->hash_seed, sizeof c->hash_seed);
    if (!allocate(c, e)) {
        cache_destroy(c);
        return NULL;
    }
    for (uint32_t i = n_pages; i-- > 0;) page_free(c, i); /* low pages first: memory is touched in order */
    return c;
}

void cache_destroy(struct cache *c)
{
    if (!c) return;
    assert(c->n_seqs == 0);
    mem_unmap(c->base, c->map_bytes);
    mem_free(c->pages);
    mem_free(c->full_heads);
    mem_free(c->first_heads);
    mem_free(c);
}

uint8_t *cache_base(const struct cache *c)
{
    return c->base;
}

/* ---- sequences ---- */

static uint32_t last_full_page(const struct cache_seq *s)
{
    uint32_t n_full = s->n_tokens / CACHE_PAGE_TOKENS;
    return n_full ? s->pages[n_full - 1] : NO_PAGE;
}

/* A private copy of the first n tokens of `page`, or NO_PAGE. */
static uint32_t copy_page(struct cache *c, uint32_t page, uint32_t n)
{
    page_ref(c, page); /* so that making room does not evict it */
    uint32_t copy = page_take(c);
    if (copy != NO_PAGE) {
        memcpy(c->base + copy * c->page_bytes, c->base + page * c->page_bytes, c->page_bytes);
        memcpy(c->pages[copy].tokens, c->pages[page].tokens, n * sizeof(uint32_t));
    }
    page_unref(c, page);
    return copy;
}

static void take_prefix(struct cache_seq *s, const uint32_t *tokens, uint32_t n)
{
    struct cache *c = s->c;
    while (n - s->n_tokens >= CACHE_PAGE_TOKENS) {
        uint32_t page = tree_find(c, last_full_page(s), s->salt, tokens + s->n_tokens);
        if (page == NO_PAGE) break;
        page_ref(c, page);
        s->pages[s->n_pages++] = page;
        s->n_tokens += CACHE_PAGE_TOKENS;
    }
    uint32_t left = n - s->n_tokens, n_equal;
    if (!left) return;
    if (left > CACHE_PAGE_TOKENS) left = CACHE_PAGE_TOKENS;
    uint32_t page = tree_find_partial(c, &n_equal, last_full_page(s), s->salt, tokens + s->n_tokens, left);
    if (page == NO_PAGE) return;
    uint32_t copy = copy_page(c, page, n_equal);
    if (copy == NO_PAGE) return;
    s->pages[s->n_pages++] = copy;
    s->n_tokens += n_equal;
}

struct cache_seq *cache_seq_create(struct cache *c, uint32_t *n_reused, const uint32_t *tokens, uint32_t n,
                                   uint64_t salt)
{
    struct cache_seq *s = mem_alloc(sizeof *s + (size_t)c->n_pages * sizeof s->pages[0]);
    s->c = c;
    s->salt = salt;
    s->n_tokens = s->n_pages = 0;
    c->n_seqs++;
    if (n > 1) take_prefix(s, tokens, n - 1);
    *n_reused = s->n_tokens;
    c->stats.hits_tokens += s->n_tokens;
    c->stats.misses_tokens += n - s->n_tokens;
    return s;
}

bool cache_seq_reserve(struct cache_seq *s, uint32_t n_tokens)
{
    uint32_t needed = pages_for(n_tokens);
    if (needed <= s->n_pages) return true;
    if (needed - s->n_pages > cache_available(s->c)) return false;
    while (s->n_pages < needed) s->pages[s->n_pages++] = page_take(s->c);
    return true;
}

/* The page at `index` of the table has become full: it joins the tree, or gives way to an equal page. */
static void publish(struct cache_seq *s, uint32_t index)
{
    struct cache *c = s->c;
    uint32_t page = s->pages[index], parent = index ? s->pages[index - 1] : NO_PAGE;
    struct page *p = &c->pages[page];
    uint32_t equal = tree_find(c, parent, s->salt, p->tokens);
    if (equal != NO_PAGE) {
        page_ref(c, equal);
        page_unref(c, page);
        s->pages[index] = equal;
        return;
    }
    p->n_tokens = CACHE_PAGE_TOKENS;
    p->parent = parent;
    p->salt = s->salt;
    tree_add(c, page);
}

void cache_seq_commit(struct cache_seq *s, const uint32_t *tokens, uint32_t n)
{
    assert(n <= s->n_pages * CACHE_PAGE_TOKENS - s->n_tokens);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t index = s->n_tokens / CACHE_PAGE_TOKENS, at = s->n_tokens % CACHE_PAGE_TOKENS;
        s->c->pages[s->pages[index]].tokens[at] = tokens[i];
        s->n_tokens++;
        if (at + 1 == CACHE_PAGE_TOKENS) publish(s, index);
    }
}

/* The page at `index`, of which n tokens stay, becomes private: by leaving the tree when nobody else needs it there. */
static bool make_private(struct cache_seq *s, uint32_t index, uint32_t n)
{
    struct cache *c = s->c;
    uint32_t page = s->pages[index];
    struct page *p = &c->pages[page];
    if (!p->shared) return true;
    if (p->ref == 1 && p->n_children == 0) {
        tree_remove(c, page);
        return true;
    }
    uint32_t copy = copy_page(c, page, n);
    if (copy == NO_PAGE) return false;
    page_unref(c, page);
    s->pages[index] = copy;
    return true;
}

uint32_t cache_seq_truncate(struct cache_seq *s, uint32_t n_tokens)
{
    if (n_tokens >= s->n_tokens) return s->n_tokens;
    uint32_t keep = pages_for(n_tokens), open = n_tokens % CACHE_PAGE_TOKENS;
    while (s->n_pages > keep) page_unref(s->c, s->pages[--s->n_pages]); /* deepest first */
    s->n_tokens = n_tokens;
    if (open && !make_private(s, keep - 1, open)) {
        page_unref(s->c, s->pages[--s->n_pages]);
        s->n_tokens -= open;
    }
    return s->n_tokens;
}

uint32_t cache_seq_length(const struct cache_seq *s)
{
    return s->n_tokens;
}

const uint32_t *cache_seq_pages(const struct cache_seq *s)
{
    return s->pages;
}

/* The open page stays for whoever continues this conversation, unless a page that begins the same is there already. */
static void publish_open(struct cache_seq *s)
{
    struct cache *c = s->c;
    uint32_t n = s->n_tokens % CACHE_PAGE_TOKENS, n_equal;
    if (!n) return;
    struct page *p = &c->pages[s->pages[s->n_tokens / CACHE_PAGE_TOKENS]];
    uint32_t parent = last_full_page(s);
    uint32_t there = tree_find_partial(c, &n_equal, parent, s->salt, p->tokens, n);
    if (there != NO_PAGE && n_equal == n) {
        page_ref(c, there); /* used now: not the next to be evicted */
        page_unref(c, there);
        return;
    }
    p->n_tokens = n;
    p->parent = parent;
    p->salt = s->salt;
    tree_add(c, s->pages[s->n_tokens / CACHE_PAGE_TOKENS]);
}

void cache_seq_destroy(struct cache_seq *s)
{
    if (!s) return;
    publish_open(s);
    while (s->n_pages) page_unref(s->c, s->pages[--s->n_pages]);
    s->c->n_seqs--;
    mem_free(s);
}
