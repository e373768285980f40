/* tree: two hash indexes over shared pages. Full pages are found by (parent, all tokens) in O(1); all pages, open ones
 * included, by (parent, first token), for continuing inside a page. Hashes only choose the chain: tokens, parent and
 * salt are always compared. */
#include <assert.h>
#include <string.h>

#include "base/hash.h"
#include "cache/cache_internal.h"

/* Conversations that part in one page all stand in one chain: a longer search would cost more than it saves. */
#define MAX_CANDIDATES 64

static uint32_t head_of(const struct cache *c, uint32_t parent, uint64_t salt, const uint32_t *tokens, uint32_t n)
{
    uint64_t place = parent != NO_PAGE ? parent : salt ^ 0x5bd1e995a5a5a5a5u;
    return (uint32_t)(hash64(tokens, n * sizeof *tokens, c->hash_seed + place * 0x9e3779b97f4a7c15u) &
                      (c->n_heads - 1));
}

static bool same_place(const struct page *p, uint32_t parent, uint64_t salt)
{
    return p->parent == parent && (parent != NO_PAGE || p->salt == salt);
}

static uint32_t equal_tokens(const uint32_t *a, const uint32_t *b, uint32_t n)
{
    uint32_t i = 0;
    while (i < n && a[i] == b[i]) i++;
    return i;
}

uint32_t tree_find(const struct cache *c, uint32_t parent, uint64_t salt, const uint32_t *tokens)
{
    uint32_t page = c->full_heads[head_of(c, parent, salt, tokens, CACHE_PAGE_TOKENS)];
    for (; page != NO_PAGE; page = c->pages[page].full_next) {
        const struct page *p = &c->pages[page];
        if (same_place(p, parent, salt) && memcmp(p->tokens, tokens, sizeof p->tokens) == 0) return page;
    }
    return NO_PAGE;
}

uint32_t tree_find_partial(const struct cache *c, uint32_t *n_equal, uint32_t parent, uint64_t salt,
                           const uint32_t *tokens, uint32_t n)
{
    uint32_t best = NO_PAGE, page = c->first_heads[head_of(c, parent, salt, tokens, 1)];
    *n_equal = 0;
    for (int i = 0; page != NO_PAGE && i < MAX_CANDIDATES && *n_equal < n; page = c->pages[page].first_next, i++) {
        const struct page *p = &c->pages[page];
        if (!same_place(p, parent, salt)) continue;
        uint32_t equal = equal_tokens(p->tokens, tokens, n < p->n_tokens ? n : p->n_tokens);
        if (equal > *n_equal) *n_equal = equal, best = page;
    }
    return best;
}

/* An idle open page whose tokens all stand at the start of `page`, or an equal one, is of no more use. */
static void drop_repeated(struct cache *c, uint32_t page)
{
    const struct page *mine = &c->pages[page];
    uint32_t at = c->first_heads[head_of(c, mine->parent, mine->salt, mine->tokens, 1)];
    for (int i = 0; at != NO_PAGE && i < MAX_CANDIDATES; i++) {
        const struct page *p = &c->pages[at];
        uint32_t next = p->first_next;
        bool repeated = at != page && p->ref == 0 && p->n_tokens < CACHE_PAGE_TOKENS && p->n_tokens <= mine->n_tokens &&
                        same_place(p, mine->parent, mine->salt) &&
                        equal_tokens(p->tokens, mine->tokens, p->n_tokens) == p->n_tokens;
        if (repeated) {
            idle_remove(c, at);
            tree_remove(c, at);
            page_free(c, at);
        }
        at = next;
    }
}

void tree_add(struct cache *c, uint32_t page)
{
    struct page *p = &c->pages[page];
    assert(!p->shared && p->n_tokens > 0);
    drop_repeated(c, page);
    if (p->n_tokens == CACHE_PAGE_TOKENS) {
        uint32_t *head = &c->full_heads[head_of(c, p->parent, p->salt, p->tokens, CACHE_PAGE_TOKENS)];
        p->full_next = *head;
        *head = page;
    }
    uint32_t *head = &c->first_heads[head_of(c, p->parent, p->salt, p->tokens, 1)];
    p->first_next = *head;
    p->first_prev = NO_PAGE;
    if (*head != NO_PAGE) c->pages[*head].first_prev = page;
    *head = page;
    if (p->parent != NO_PAGE) c->pages[p->parent].n_children++;
    p->shared = true;
}

void tree_remove(struct cache *c, uint32_t page)
{
    struct page *p = &c->pages[page];
    assert(p->shared && p->n_children == 0);
    if (p->n_tokens == CACHE_PAGE_TOKENS) {
        uint32_t *link = &c->full_heads[head_of(c, p->parent, p->salt, p->tokens, CACHE_PAGE_TOKENS)];
        while (*link != page) link = &c->pages[*link].full_next;
        *link = p->full_next;
    }
    if (p->first_prev != NO_PAGE) c->pages[p->first_prev].first_next = p->first_next;
    else c->first_heads[head_of(c, p->parent, p->salt, p->tokens, 1)] = p->first_next;
    if (p->first_next != NO_PAGE) c->pages[p->first_next].first_prev = p->first_prev;
    if (p->parent != NO_PAGE) c->pages[p->parent].n_children--;
    p->shared = false;
}
