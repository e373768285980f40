/* cache_internal: pages and their indexes, shared by pages.c (who owns which page, order of eviction), tree.c (finding
 * pages by their tokens) and cache.c (sequences).
 *
 * A page is in exactly one state:
 *   free      on the free list
 *   private   referenced by one sequence, not in the tree: reserved, or the open last page of that sequence
 *   shared    in the tree; ref > 0 while running sequences hold it, else on the idle list
 * Invariants: a sequence that holds a page holds its ancestors too; a page in the tree never changes its tokens; a
 * parent outlives its children, so that (parent, tokens) names a page and everything before it exactly. */
#ifndef CACHE_CACHE_INTERNAL_H
#define CACHE_CACHE_INTERNAL_H

#include "cache/cache.h"

#define NO_PAGE UINT32_MAX

struct page {
    uint32_t tokens[CACHE_PAGE_TOKENS];
    uint32_t n_tokens; /* of a shared page; CACHE_PAGE_TOKENS = full, less = the open end of a finished sequence */
    uint32_t ref;
    uint32_t n_children;
    uint32_t parent; /* NO_PAGE: first page of a conversation */
    uint64_t salt;
    bool shared;
    uint32_t next, prev;             /* free list (next only) or idle list */
    uint32_t full_next;              /* chain of the index of full pages */
    uint32_t first_next, first_prev; /* chain of the index by first token */
};

struct cache {
    uint8_t *base; // [n_pages][page_bytes]
    size_t page_bytes, map_bytes;
    uint32_t n_pages, n_free, n_idle;
    struct page *pages;    // [n_pages]
    uint32_t *full_heads;  // [n_heads]: by (parent or salt, all tokens)
    uint32_t *first_heads; // [n_heads]: by (parent or salt, first token), newest first
    uint32_t n_heads;      /* a power of two */
    uint64_t hash_seed;    /* secret: nobody can choose tokens that collide */
    uint32_t free_head;
    uint32_t idle_oldest, idle_newest; /* unreferenced pages; a child is always older than its parent */
    uint32_t n_seqs;
    struct cache_stats stats;
};

/* ---- pages.c ---- */
/* A private page with ref 1, evicting the oldest idle page when none is free; NO_PAGE when all are in use. */
uint32_t page_take(struct cache *c);
void page_free(struct cache *c, uint32_t page); /* a private page, or an idle one that was taken out of the tree */
void page_ref(struct cache *c, uint32_t page);
/* Drops a reference; the last one sends a shared page to the idle list as the newest, and frees a private page. */
void page_unref(struct cache *c, uint32_t page);
void idle_remove(struct cache *c, uint32_t page);

/* ---- tree.c ---- */
/* The full page with exactly these tokens below parent (below the root: of this salt), or NO_PAGE. */
uint32_t tree_find(const struct cache *c, uint32_t parent, uint64_t salt, const uint32_t *tokens);
/* The page below parent that begins with most of tokens[n], 1 <= n <= CACHE_PAGE_TOKENS; *n_equal >= 1 of them. Looks
 * at a bounded number of candidates, newest first. NO_PAGE: none begins with tokens[0]. */
uint32_t tree_find_partial(const struct cache *c, uint32_t *n_equal, uint32_t parent, uint64_t salt,
                           const uint32_t *tokens, uint32_t n);
/* Makes a private page shared; its tokens, n_tokens, parent and salt are set. Drops idle open pages that it repeats. */
void tree_add(struct cache *c, uint32_t page);
void tree_remove(struct cache *c, uint32_t page); /* a page without children */

#endif
