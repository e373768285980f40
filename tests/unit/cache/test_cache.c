/* Unit tests of the cache. Every "KV" slot holds a hash of the salt and all tokens up to it, so that a page that was
 * given to the wrong sequence, or overwritten, is seen at once (canary). */
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/rng.h"
#include "cache/cache_internal.h"
#include "unit.h"

#define PAGE_BYTES (CACHE_PAGE_TOKENS * sizeof(uint64_t))
#define MAX_TOKENS 400

struct live {
    struct cache_seq *seq;
    uint64_t salt;
    uint32_t tokens[MAX_TOKENS];
    uint32_t n;
};

static uint64_t slot_value(uint64_t before, uint64_t salt, uint32_t token)
{
    uint64_t key[3] = {before, salt, token};
    return hash64(key, sizeof key, 99);
}

static uint64_t *slot(const struct cache *c, const struct cache_seq *s, uint32_t pos)
{
    uint32_t page = cache_seq_pages(s)[pos / CACHE_PAGE_TOKENS];
    return (uint64_t *)(void *)(cache_base(c) + page * PAGE_BYTES) + pos % CACHE_PAGE_TOKENS;
}

/* Every committed position holds exactly this sequence's history. */
static void check_canaries(const struct cache *c, const struct live *l)
{
    uint64_t want = 0;
    for (uint32_t i = 0; i < cache_seq_length(l->seq); i++) {
        want = slot_value(want, l->salt, l->tokens[i]);
        if (*slot(c, l->seq, i) != want) /* a plain if: Check writes a note to a file for every assertion */
            ck_abort_msg("position %u of %u holds foreign data", i, cache_seq_length(l->seq));
    }
}

static bool compute(struct cache *c, struct live *l, uint32_t upto)
{
    uint32_t from = cache_seq_length(l->seq);
    if (!cache_seq_reserve(l->seq, upto)) return false;
    uint64_t value = from ? *slot(c, l->seq, from - 1) : 0;
    for (uint32_t i = from; i < upto; i++) *slot(c, l->seq, i) = value = slot_value(value, l->salt, l->tokens[i]);
    cache_seq_commit(l->seq, l->tokens + from, upto - from);
    ck_assert_uint_eq(cache_seq_length(l->seq), upto);
    return true;
}

/* The invariants of cache_internal.h, over all pages. */
static void check_invariants(const struct cache *c)
{
    uint32_t n_free = 0, n_idle = 0;
    uint32_t *age = mem_zalloc(c->n_pages * sizeof *age), *children = mem_zalloc(c->n_pages * sizeof *children);
    for (uint32_t p = c->free_head; p != NO_PAGE; p = c->pages[p].next) n_free++;
    for (uint32_t p = c->idle_oldest; p != NO_PAGE; p = c->pages[p].next) age[p] = ++n_idle;
    ck_assert_uint_eq(n_free, c->n_free);
    ck_assert_uint_eq(n_idle, c->n_idle);
    for (uint32_t i = 0; i < c->n_pages; i++) {
        const struct page *p = &c->pages[i];
        if (!p->shared) continue;
        if ((p->ref == 0) != (age[i] != 0)) ck_abort_msg("page %u: ref %u, on the idle list %u", i, p->ref, age[i]);
        if (p->parent == NO_PAGE) continue;
        const struct page *parent = &c->pages[p->parent];
        children[p->parent]++;
        bool ok = parent->shared && parent->n_tokens == CACHE_PAGE_TOKENS && (!p->ref || parent->ref) &&
                  (parent->ref || age[i] < age[p->parent]);
        if (!ok) ck_abort_msg("page %u does not fit its parent %u", i, p->parent);
    }
    for (uint32_t i = 0; i < c->n_pages; i++)
        if (c->pages[i].shared && children[i] != c->pages[i].n_children) ck_abort_msg("page %u: wrong n_children", i);
    mem_free(age);
    mem_free(children);
}

static void count_up(struct live *l, uint32_t n, uint32_t from)
{
    l->n = n;
    for (uint32_t i = 0; i < n; i++) l->tokens[i] = from + i;
}

static uint32_t begin(struct cache *c, struct live *l)
{
    uint32_t n_reused;
    l->seq = cache_seq_create(c, &n_reused, l->tokens, l->n, l->salt);
    ck_assert_uint_eq(cache_seq_length(l->seq), n_reused);
    check_canaries(c, l);
    return n_reused;
}

static void run_and_end(struct cache *c, struct live *l)
{
    begin(c, l);
    ck_assert(compute(c, l, l->n));
    check_canaries(c, l);
    cache_seq_destroy(l->seq);
}

START_TEST(an_equal_prompt_costs_one_token)
{
    struct cache *c = cache_create(PAGE_BYTES, 40, NULL);
    for (uint32_t n = 1; n <= 100; n++) {
        struct live l = {.salt = n};
        count_up(&l, n, 5);
        ck_assert_uint_eq(begin(c, &l), 0);
        ck_assert(compute(c, &l, n));
        cache_seq_destroy(l.seq);
        ck_assert_uint_eq(begin(c, &l), n - 1);
        cache_seq_destroy(l.seq);
        check_invariants(c);
    }
    cache_destroy(c);
}
END_TEST

START_TEST(a_longer_prompt_costs_only_its_new_tokens)
{
    struct cache *c = cache_create(PAGE_BYTES, 100, NULL);
    struct live l = {0};
    for (uint32_t n = 7; n < MAX_TOKENS; n += 7) {
        count_up(&l, n, 1);
        ck_assert_uint_eq(begin(c, &l), n - 7);
        ck_assert(compute(c, &l, n));
        check_canaries(c, &l);
        cache_seq_destroy(l.seq);
        check_invariants(c);
    }
    struct cache_stats stats;
    cache_stats_get(c, &stats);
    ck_assert_uint_eq(stats.n_used, 0);
    ck_assert_uint_eq(stats.n_cached, (399 + 31) / 32); /* no open page is kept twice */
    cache_destroy(c);
}
END_TEST

START_TEST(a_prompt_that_parts_inside_a_page_reuses_up_to_there)
{
    struct cache *c = cache_create(PAGE_BYTES, 40, NULL);
    struct live a = {0}, b = {0};
    count_up(&a, 100, 1);
    run_and_end(c, &a);
    for (uint32_t part = 1; part < 100; part++) {
        count_up(&b, 120, 1);
        for (uint32_t i = part; i < 120; i++) b.tokens[i] = 10000 * part + i;
        ck_assert_uint_eq(begin(c, &b), part);
        ck_assert(compute(c, &b, 120));
        check_canaries(c, &b);
        cache_seq_destroy(b.seq);
        ck_assert_uint_eq(begin(c, &a), 99); /* the original is untouched */
        cache_seq_destroy(a.seq);
    }
    check_invariants(c);
    cache_destroy(c);
}
END_TEST

START_TEST(salts_share_nothing)
{
    struct cache *c = cache_create(PAGE_BYTES, 40, NULL);
    struct live a = {.salt = 1}, b = {.salt = 2};
    count_up(&a, 90, 1);
    count_up(&b, 90, 1);
    run_and_end(c, &a);
    ck_assert_uint_eq(begin(c, &b), 0);
    ck_assert(compute(c, &b, 90));
    cache_seq_destroy(b.seq);
    ck_assert_uint_eq(begin(c, &a), 89);
    cache_seq_destroy(a.seq);
    cache_destroy(c);
}
END_TEST

START_TEST(sequences_that_compute_the_same_page_share_it_afterwards)
{
    struct cache *c = cache_create(PAGE_BYTES, 40, NULL);
    struct live l[5] = {0};
    struct cache_stats stats;
    for (int i = 0; i < 5; i++) {
        count_up(&l[i], 100, 1);
        begin(c, &l[i]);
    }
    for (uint32_t upto = 10; upto <= 100; upto += 10)
        for (int i = 0; i < 5; i++) {
            ck_assert(compute(c, &l[i], upto));
            for (int k = 0; k < 5; k++) check_canaries(c, &l[k]);
        }
    cache_stats_get(c, &stats);
    ck_assert_uint_eq(stats.n_used, 3 + 5); /* three full pages shared, five open ones */
    for (int i = 0; i < 5; i++) cache_seq_destroy(l[i].seq);
    cache_stats_get(c, &stats);
    ck_assert_uint_eq(stats.n_cached, 4);
    check_invariants(c);
    cache_destroy(c);
}
END_TEST

START_TEST(a_reserve_without_room_changes_nothing)
{
    struct cache *c = cache_create(PAGE_BYTES, 4, NULL);
    struct live a = {0}, b = {.salt = 3};
    count_up(&a, 90, 1);
    count_up(&b, 64, 1);
    begin(c, &a);
    ck_assert(compute(c, &a, 90));
    begin(c, &b);
    ck_assert(!cache_seq_reserve(b.seq, 33));
    ck_assert_uint_eq(cache_available(c), 1);
    ck_assert(cache_seq_reserve(b.seq, 32));
    ck_assert(!cache_seq_reserve(a.seq, 97));
    ck_assert(!cache_seq_reserve(a.seq, UINT32_MAX));
    cache_seq_destroy(a.seq);
    ck_assert(compute(c, &b, 64));
    check_canaries(c, &b);
    cache_seq_destroy(b.seq);
    check_invariants(c);
    cache_destroy(c);
}
END_TEST

START_TEST(eviction_takes_the_least_recently_used_leaf)
{
    struct cache *c = cache_create(PAGE_BYTES, 9, NULL);
    struct live a = {.salt = 1}, b = {.salt = 2}, d = {.salt = 3}, f = {.salt = 4};
    count_up(&a, 96, 1);
    count_up(&b, 96, 1);
    count_up(&d, 96, 1);
    count_up(&f, 32, 1);
    run_and_end(c, &a);
    run_and_end(c, &b);
    run_and_end(c, &d);
    ck_assert_uint_eq(begin(c, &a), 95); /* all pages are cached: the copy takes the place of b's deepest */
    cache_seq_destroy(a.seq);
    cache_clear(c);
    ck_assert_uint_eq(cache_available(c), 9);
    run_and_end(c, &a);
    run_and_end(c, &b);
    run_and_end(c, &f);
    run_and_end(c, &a); /* a was used again: b is the oldest now */
    d.n = 32 * 4;
    count_up(&d, 32 * 4, 1);
    run_and_end(c, &d); /* takes two free pages and b's two deepest */
    ck_assert_uint_ge(begin(c, &a), 64);
    cache_seq_destroy(a.seq);
    ck_assert_uint_le(begin(c, &b), 32);
    cache_seq_destroy(b.seq);
    check_invariants(c);
    cache_destroy(c);
}
END_TEST

START_TEST(truncated_tokens_are_gone_and_others_keep_their_pages)
{
    for (uint32_t to = 0; to <= 100; to++) {
        struct cache *c = cache_create(PAGE_BYTES, 12, NULL);
        struct live a = {0}, b = {0};
        count_up(&a, 100, 1);
        count_up(&b, 100, 1);
        begin(c, &a);
        ck_assert(compute(c, &a, 100));
        begin(c, &b);
        ck_assert(compute(c, &b, 100));
        ck_assert_uint_eq(cache_seq_truncate(b.seq, to), to);
        for (uint32_t i = to; i < 100; i++) b.tokens[i] = 777 + i;
        check_canaries(c, &b);
        ck_assert(compute(c, &b, 100));
        check_canaries(c, &a);
        check_canaries(c, &b);
        ck_assert_uint_eq(cache_seq_truncate(a.seq, to / 2), to / 2);
        check_canaries(c, &a);
        check_canaries(c, &b);
        cache_seq_destroy(a.seq);
        check_invariants(c);
        cache_seq_destroy(b.seq);
        cache_destroy(c);
    }
}
END_TEST

START_TEST(truncation_without_room_for_a_copy_goes_to_the_page_border)
{
    struct cache *c = cache_create(PAGE_BYTES, 2, NULL);
    struct live a = {0}, b = {0};
    count_up(&a, 64, 1);
    count_up(&b, 65, 1);
    begin(c, &a);
    ck_assert(compute(c, &a, 64));
    ck_assert_uint_eq(begin(c, &b), 64);
    ck_assert_uint_eq(cache_seq_truncate(a.seq, 50), 32);
    check_canaries(c, &a);
    check_canaries(c, &b);
    cache_seq_destroy(a.seq);
    cache_seq_destroy(b.seq);
    check_invariants(c);
    cache_destroy(c);
}
END_TEST

START_TEST(impossible_sizes_are_refused)
{
    struct err e;
    ck_assert_ptr_null(cache_create(0, 10, &e));
    ck_assert_ptr_null(cache_create(10, 0, &e));
    ck_assert_ptr_null(cache_create(SIZE_MAX / 2, 1000, &e));
    ck_assert_int_eq(e.kind, ERR_TOO_LARGE);
}
END_TEST

/* ---- random operations against a naive model ---- */

struct history { /* what was committed by sequences that ended */
    uint64_t salt;
    uint32_t n;
    uint32_t tokens[MAX_TOKENS];
};

static uint32_t common(const uint32_t *a, uint32_t n_a, const uint32_t *b, uint32_t n_b)
{
    uint32_t i = 0;
    while (i < n_a && i < n_b && a[i] == b[i]) i++;
    return i;
}

/* A prompt as conversations make them: a piece of an earlier one, then new tokens from a small alphabet. */
static void new_prompt(struct live *l, struct rng *r, const struct history *h, uint32_t n_h)
{
    l->salt = rng_next(r) % 2;
    uint32_t keep = 0;
    if (n_h && rng_next(r) % 4) {
        const struct history *from = &h[rng_next(r) % n_h];
        keep = rng_next(r) % 2 ? from->n : (uint32_t)(rng_next(r) % (from->n + 1));
        memcpy(l->tokens, from->tokens, keep * sizeof *l->tokens);
    }
    l->n = keep + (uint32_t)(rng_next(r) % 40);
    if (l->n > MAX_TOKENS - 100) l->n = MAX_TOKENS - 100;
    if (!l->n) l->n = 1;
    for (uint32_t i = keep; i < MAX_TOKENS; i++) l->tokens[i] = (uint32_t)(rng_next(r) % 3);
}

static uint32_t best_reuse(const struct live *l, const struct history *h, uint32_t n_h, const struct live *live,
                           int n_live)
{
    uint32_t best = 0;
    for (uint32_t i = 0; i < n_h; i++) {
        uint32_t n = h[i].salt == l->salt ? common(l->tokens, l->n - 1, h[i].tokens, h[i].n) : 0;
        if (n > best) best = n;
    }
    for (int i = 0; i < n_live; i++) {
        if (!live[i].seq || live[i].salt != l->salt) continue;
        uint32_t full = cache_seq_length(live[i].seq) / CACHE_PAGE_TOKENS * CACHE_PAGE_TOKENS;
        uint32_t n = common(l->tokens, l->n - 1, live[i].tokens, full);
        if (n > best) best = n;
    }
    return best;
}

enum { N_LIVE = 6, N_HISTORY = 40 };

/* With room for everything, reuse is exactly the longest known prefix; without, it is at most that. Never foreign data.
 */
static void random_operations(uint64_t seed, uint32_t n_pages, int n_operations, bool exact, bool truncates)
{
    struct cache *c = cache_create(PAGE_BYTES, n_pages, NULL);
    struct live *live = mem_zalloc(N_LIVE * sizeof *live);
    struct history *h = mem_zalloc(N_HISTORY * sizeof *h);
    uint32_t n_h = 0;
    struct rng r;
    rng_seed(&r, seed);
    for (int op = 0; op < n_operations; op++) {
        struct live *l = &live[rng_next(&r) % N_LIVE];
        uint64_t what = rng_next(&r) % 10;
        if (!l->seq) {
            new_prompt(l, &r, h, n_h);
            uint32_t best = best_reuse(l, h, n_h, live, N_LIVE), got = begin(c, l);
            if (exact) ck_assert_msg(got == best, "reused %u of %u tokens; %u were known", got, l->n, best);
            else if (!truncates && n_h < N_HISTORY) ck_assert_uint_le(got, best);
        } else if (what < 6) {
            uint32_t upto = cache_seq_length(l->seq) + (uint32_t)(rng_next(&r) % 50);
            if (upto > MAX_TOKENS) upto = MAX_TOKENS;
            if (!compute(c, l, upto)) ck_assert(!exact);
        } else if (what < 8 && truncates) {
            uint32_t to = (uint32_t)(rng_next(&r) % (cache_seq_length(l->seq) + 1)),
                     got = cache_seq_truncate(l->seq, to);
            ck_assert(got == to || got == to / CACHE_PAGE_TOKENS * CACHE_PAGE_TOKENS);
            for (uint32_t i = got; i < MAX_TOKENS; i++) l->tokens[i] = (uint32_t)(rng_next(&r) % 3);
        } else if (!exact || n_h < N_HISTORY) {
            struct history *slot_h = &h[n_h < N_HISTORY ? n_h++ : rng_next(&r) % N_HISTORY];
            slot_h->salt = l->salt;
            slot_h->n = cache_seq_length(l->seq);
            memcpy(slot_h->tokens, l->tokens, sizeof l->tokens);
            cache_seq_destroy(l->seq);
            l->seq = NULL;
        } else {
            break;
        }
        for (int i = 0; i < N_LIVE; i++)
            if (live[i].seq) check_canaries(c, &live[i]);
        check_invariants(c);
    }
    for (int i = 0; i < N_LIVE; i++) cache_seq_destroy(live[i].seq);
    ck_assert_uint_eq(cache_available(c), n_pages);
    cache_clear(c);
    ck_assert_uint_eq(c->n_free, n_pages);
    for (uint32_t i = 0; i < c->n_heads; i++) ck_assert(c->full_heads[i] == NO_PAGE && c->first_heads[i] == NO_PAGE);
    cache_destroy(c);
    mem_free(live);
    mem_free(h);
}

START_TEST(reuse_equals_the_longest_known_prefix)
{
    for (uint64_t seed = 0; seed < 40; seed++) random_operations(seed, 700, 1200, true, false);
}
END_TEST

START_TEST(no_sequence_sees_foreign_pages_under_pressure)
{
    for (uint64_t seed = 0; seed < 60; seed++) random_operations(1000 + seed, 8 + (uint32_t)seed, 1500, false, true);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, an_equal_prompt_costs_one_token);
    tcase_add_test(tc, a_longer_prompt_costs_only_its_new_tokens);
    tcase_add_test(tc, a_prompt_that_parts_inside_a_page_reuses_up_to_there);
    tcase_add_test(tc, salts_share_nothing);
    tcase_add_test(tc, sequences_that_compute_the_same_page_share_it_afterwards);
    tcase_add_test(tc, a_reserve_without_room_changes_nothing);
    tcase_add_test(tc, eviction_takes_the_least_recently_used_leaf);
    tcase_add_test(tc, truncated_tokens_are_gone_and_others_keep_their_pages);
    tcase_add_test(tc, truncation_without_room_for_a_copy_goes_to_the_page_border);
    tcase_add_test(tc, impossible_sizes_are_refused);
    tcase_add_test(tc, reuse_equals_the_longest_known_prefix);
    tcase_add_test(tc, no_sequence_sees_foreign_pages_under_pressure);
}

UNIT_MAIN("cache", add_tests)
