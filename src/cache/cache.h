/* cache: KV pages and the prefix tree over all conversations. A page holds CACHE_PAGE_TOKENS tokens of all layers; full
 * pages are shared between sequences (reference counts) and found again by their exact tokens and everything before
 * them; the open last page of a finished sequence is kept too and copied when another sequence continues from inside
 * it. Pages nobody uses stay until room is needed, least recently used leaf first. One byte budget, mapped at creation,
 * touched only when used. One thread (the engine's). */
#ifndef CACHE_CACHE_H
#define CACHE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define CACHE_PAGE_TOKENS 32 /* = KV_PAGE_TOKENS; engine/ asserts it */

struct cache;
struct cache *cache_create(size_t page_bytes, uint32_t n_pages, struct err *e);
void cache_destroy(struct cache *c);        /* all sequences must be gone */
uint8_t *cache_base(const struct cache *c); /* page p is at base + p * page_bytes */

struct cache_stats {
    uint32_t n_pages;
    uint32_t n_used;   /* referenced by a running sequence */
    uint32_t n_cached; /* kept for later, could be evicted */
    uint64_t hits_tokens, misses_tokens, evicted_pages;
};
void cache_stats_get(const struct cache *c, struct cache_stats *out);

/* The block table of one running sequence. */
struct cache_seq;
/* A sequence for a prompt: takes the longest known prefix of tokens[n] whose salt is equal (requests with different
 * salts never share pages). *n_reused <= n - 1: the last token is always computed anew, so that it gives logits. */
struct cache_seq *cache_seq_create(struct cache *c, uint32_t *n_reused, const uint32_t *tokens, uint32_t n,
                                   uint64_t salt);
/* Makes room for positions < n_tokens; evicts unused pages when needed. false: no room (nothing changed). O(pages
 * added), no allocation: nor in commit. */
bool cache_seq_reserve(struct cache_seq *s, uint32_t n_tokens);
/* KV of these tokens, which follow those known so far, has been computed into the reserved pages. Full pages are shared
 * from here on: the page numbers may change (to those of an equal page), so read the table anew. */
void cache_seq_commit(struct cache_seq *s, const uint32_t *tokens, uint32_t n);
/* Forgets everything from position n_tokens on (rejected drafts, stop strings). Returns the new length: n_tokens, or
 * the page border before it when the page is shared and there is no room for a copy of it. */
uint32_t cache_seq_truncate(struct cache_seq *s, uint32_t n_tokens);
uint32_t cache_seq_length(const struct cache_seq *s);       /* committed tokens */
const uint32_t *cache_seq_pages(const struct cache_seq *s); /* borrowed until the next call on s */
/* Ends the sequence; what was committed stays cached. */
void cache_seq_destroy(struct cache_seq *s);
/* Pages that a reserve could get: free and evictable ones. */
uint32_t cache_available(const struct cache *c);
/* Drops everything that no running sequence uses. */
void cache_clear(struct cache *c);

#endif
