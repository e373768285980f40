/* pages: free list, references and the order of eviction.
 *
 * The idle list is in order of last use. A sequence gives its pages back deepest first, and who uses a page uses its
 * ancestors too, so on the list every child is older than its parent: the oldest page is always a leaf, and eviction
 * needs no search. */
#include <assert.h>

#include "cache/cache_internal.h"

static void idle_append(struct cache *c, uint32_t page)
{
    struct page *p = &c->pages[page];
    p->next = NO_PAGE;
    p->prev = c->idle_newest;
    if (c->idle_newest != NO_PAGE) c->pages[c->idle_newest].next = page;
    else c->idle_oldest = page;
    c->idle_newest = page;
    c->n_idle++;
}

void idle_remove(struct cache *c, uint32_t page)
{
    struct page *p = &c->pages[page];
    if (p->prev != NO_PAGE) c->pages[p->prev].next = p->next;
    else c->idle_oldest = p->next;
    if (p->next != NO_PAGE) c->pages[p->next].prev = p->prev;
    else c->idle_newest = p->prev;
    c->n_idle--;
}

void page_free(struct cache *c, uint32_t page)
{
    struct page *p = &c->pages[page];
    assert(!p->shared && !p->n_children);
    p->ref = 0;
    p->next = c->free_head;
    c->free_head = page;
    c->n_free++;
}

static void evict_oldest(struct cache *c)
{
    uint32_t page = c->idle_oldest;
    assert(c->pages[page].ref == 0 && c->pages[page].n_children == 0);
    idle_remove(c, page);
    tree_remove(c, page);
    page_free(c, page);
    c->stats.evicted_pages++;
}

uint32_t page_take(struct cache *c)
{
    if (c->free_head == NO_PAGE) {
        if (c->idle_oldest == NO_PAGE) return NO_PAGE;
        evict_oldest(c);
    }
    uint32_t page = c->free_head;
    struct page *p = &c->pages[page];
    c->free_head = p->next;
    c->n_free--;
    p->ref = 1;
    p->n_tokens = 0;
    p->n_children = 0;
    p->parent = NO_PAGE;
    return page;
}

void page_ref(struct cache *c, uint32_t page)
{
    if (c->pages[page].ref++ == 0) idle_remove(c, page);
}

void page_unref(struct cache *c, uint32_t page)
{
    struct page *p = &c->pages[page];
    assert(p->ref > 0);
    if (--p->ref > 0) return;
    if (p->shared) idle_append(c, page);
    else page_free(c, page);
}

uint32_t cache_available(const struct cache *c)
{
    return c->n_free + c->n_idle;
}

void cache_clear(struct cache *c)
{
    while (c->idle_oldest != NO_PAGE) evict_oldest(c);
}

void cache_stats_get(const struct cache *c, struct cache_stats *out)
{
    *out = c->stats;
    out->n_pages = c->n_pages;
    out->n_cached = c->n_idle;
    out->n_used = c->n_pages - c->n_free - c->n_idle;
}
