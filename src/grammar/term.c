/* term: regular expressions over bytes as hash-consed terms, closed under union, intersection and complement, with
 * Brzozowski derivatives. Equal terms have equal ids, so a lazy DFA's state is a term. Every term that stands for text
 * denotes valid UTF-8 only; TERM_NOT occurs only inside an intersection with such a term. All memory counts against the
 * grammar's budget; when that is spent a term becomes TERM_NONE (nothing matches) and grammar.exhausted is set. */
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/utf8.h"
#include "grammar/grammar_internal.h"

#define MAX_LIST 4096 /* members of one union or intersection */

static uint64_t term_hash(const struct term *t, const uint32_t *list)
{
    uint64_t h = hash64(list, t->n * sizeof *list, t->kind);
    uint32_t w[4] = {t->a, t->b, t->min, t->max};
    return hash64(w, sizeof w, h);
}

static bool term_same(const struct terms *ts, const struct term *x, const struct term *y, const uint32_t *list)
{
    if (x->kind != y->kind || x->a != y->a || x->b != y->b || x->min != y->min || x->max != y->max || x->n != y->n)
        return false;
    return x->n == 0 || memcmp(ts->lists + x->list, list, x->n * sizeof *list) == 0;
}

static uint32_t times(uint32_t a, uint32_t b)
{
    uint64_t x = (uint64_t)a * b;
    return a == LENGTH_MANY || b == LENGTH_MANY ? (a && b ? LENGTH_MANY : 0)
           : x < LENGTH_MANY                    ? (uint32_t)x
                                                : LENGTH_MANY;
}

static uint32_t plus(uint32_t a, uint32_t b)
{
    return a < LENGTH_MANY - b ? a + b : LENGTH_MANY;
}

/* A set holds first bytes of characters (ASCII too), or others: only the first ones count. */
static uint32_t set_length(const struct byteset *s)
{
    return s->w[0] | s->w[1] | s->w[3] ? 1 : 0;
}

static void strings_length(const struct terms *ts, struct term *t)
{
    const struct str *s = ts->tables[t->a].items;
    t->least = LENGTH_MANY;
    for (uint32_t i = t->min; i < t->max && i < t->min + MAX_LIST; i++) {
        uint32_t n = 0;
        for (size_t k = t->b; k < s[i].len; k++) n += ((uint8_t)s[i].ptr[k] & 0xc0) != 0x80;
        if (n < t->least) t->least = n;
        if (n > t->most) t->most = n;
    }
    if (t->max - t->min > MAX_LIST) t->least = 0, t->most = LENGTH_MANY;
}

/* How long its texts are, from what is known of its parts. */
static void set_lengths(const struct terms *ts, struct term *t, const uint32_t *list)
{
    switch (t->kind) {
    case TERM_KIND_SET: t->effort = t->least = t->most = set_length(&ts->sets[t->a]); break;
    case TERM_KIND_CAT:
        t->least = plus(ts->items[t->a].least, ts->items[t->b].least);
        t->most = plus(ts->items[t->a].most, ts->items[t->b].most);
        t->effort = plus(ts->items[t->a].effort, ts->items[t->b].effort);
        break;
    case TERM_KIND_REP:
        t->least = times(ts->items[t->a].least, t->min);
        t->most = times(ts->items[t->a].most, t->max);
        t->effort = times(ts->items[t->a].effort, t->min);
        break;
    case TERM_KIND_NOT:
        t->most = LENGTH_MANY;
        t->effort = !t->nullable;
        break;
    case TERM_KIND_STRS:
        strings_length(ts, t);
        t->effort = t->least;
        break;
    case TERM_KIND_ALT:
    case TERM_KIND_AND: {
        bool all = t->kind == TERM_KIND_AND;
        t->least = all ? 0 : LENGTH_MANY;
        t->most = all ? LENGTH_MANY : 0;
        t->effort = all ? 0 : LENGTH_MANY;
        for (uint32_t i = 0; i < t->n; i++) {
            const struct term *x = &ts->items[list[i]];
            if (all ? x->least > t->least : x->least < t->least) t->least = x->least;
            if (all ? x->most < t->most : x->most > t->most) t->most = x->most;
            if (all) t->effort = plus(t->effort, x->effort);
            else if (x->effort < t->effort) t->effort = x->effort;
        }
        break;
    }
    default: break;
    }
}

static bool rehash_terms(struct grammar *g)
{
    struct terms *ts = &g->terms;
    size_t n = ts->n_slots ? ts->n_slots * 2 : 256;
    uint32_t *slots = mem_try_zalloc(n * sizeof *slots);
    if (!slots || !grammar_charge(g, (n - ts->n_slots) * sizeof *slots)) return mem_free(slots), false;
    for (uint32_t i = 0; i < ts->n; i++) {
        size_t at = ts->items[i].hash & (n - 1);
        while (slots[at]) at = (at + 1) & (n - 1);
        slots[at] = i + 1;
    }
    mem_free(ts->slots);
    ts->slots = slots;
    ts->n_slots = n;
    return true;
}

/* The id of the term t whose members are list[0 .. t.n); list must not point into ts->lists. */
static uint32_t intern(struct grammar *g, struct term t, const uint32_t *list)
{
    struct terms *ts = &g->terms;
    if (ts->n * 2 >= ts->n_slots && !rehash_terms(g)) return TERM_NONE;
    t.hash = term_hash(&t, list);
    size_t at = t.hash & (ts->n_slots - 1);
    for (; ts->slots[at]; at = (at + 1) & (ts->n_slots - 1)) {
        const struct term *x = &ts->items[ts->slots[at] - 1];
        if (x->hash == t.hash && term_same(ts, x, &t, list)) return ts->slots[at] - 1;
    }
    if (!GROW(g, ts->items, ts->cap, ts->n + 1) || !GROW(g, ts->lists, ts->lists_cap, ts->n_lists + t.n))
        return TERM_NONE;
    t.list = (uint32_t)ts->n_lists;
    if (t.n) memcpy(ts->lists + ts->n_lists, list, t.n * sizeof *list);
    ts->n_lists += t.n;
    set_lengths(ts, &t, list);
    ts->items[ts->n] = t;
    ts->slots[at] = ts->n + 1;
    return ts->n++;
}

bool terms_init(struct grammar *g)
{
    struct term none = {.kind = TERM_KIND_NONE}, eps = {.kind = TERM_KIND_EPS, .nullable = true};
    if (intern(g, none, NULL) != TERM_NONE || g->terms.n != 1 || intern(g, eps, NULL) != TERM_EPS) return false;
    static const struct codepoints every[] = {{0, 0xd7ff}, {0xe000, 0x10ffff}};
    g->terms.any_char = term_chars(g, every, 2);
    g->terms.any_text = term_repeat(g, g->terms.any_char, 0, REPEAT_MAX);
    return !g->exhausted;
}

uint32_t term_set(struct grammar *g, const struct byteset *s)
{
    struct terms *ts = &g->terms;
    uint32_t i = 0;
    uint64_t any = s->w[0] | s->w[1] | s->w[2] | s->w[3];
    if (!any) return TERM_NONE;
    while (i < ts->n_sets && memcmp(&ts->sets[i], s, sizeof *s) != 0) i++;
    if (i == ts->n_sets) {
        if (!GROW(g, ts->sets, ts->sets_cap, ts->n_sets + 1)) return TERM_NONE;
        ts->sets[ts->n_sets++] = *s;
    }
    return intern(g, (struct term){.kind = TERM_KIND_SET, .a = i}, NULL);
}

uint32_t term_cat(struct grammar *g, uint32_t a, uint32_t b)
{
    if (a == TERM_NONE || b == TERM_NONE) return TERM_NONE;
    if (a == TERM_EPS) return b;
    if (b == TERM_EPS) return a;
    const struct term *ta = &g->terms.items[a], *tb = &g->terms.items[b];
    if (ta->kind == TERM_KIND_CAT) {
        uint32_t first = ta->a; /* the table moves while the rest is made */
        return term_cat(g, first, term_cat(g, ta->b, b));
    }
    struct term t = {.kind = TERM_KIND_CAT,
                     .a = a,
                     .b = b,
                     .nullable = ta->nullable && tb->nullable,
                     .logical = ta->logical || tb->logical};
    return intern(g, t, NULL);
}

static int cmp_u32(const void *x, const void *y)
{
    uint32_t a = *(const uint32_t *)x, b = *(const uint32_t *)y;
    return a < b ? -1 : a > b;
}

/* Flattens members of the same kind into out; returns the number, or SIZE_MAX when there are too many. */
static size_t flatten(const struct grammar *g, uint32_t *out, enum term_kind kind, const uint32_t *list, size_t n)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        const struct term *t = &g->terms.items[list[i]];
        const uint32_t *from = t->kind == kind ? g->terms.lists + t->list : &list[i];
        size_t m = t->kind == kind ? t->n : 1;
        if (k + m > MAX_LIST) return SIZE_MAX;
        memcpy(out + k, from, m * sizeof *out);
        k += m;
    }
    /* Derivatives of a handful of members are the common case: sort those in place. */
    if (k > 16) qsort(out, k, sizeof *out, cmp_u32);
    else
        for (size_t i = 1; i < k; i++)
            for (size_t j = i; j > 0 && out[j - 1] > out[j]; j--) {
                uint32_t x = out[j];
                out[j] = out[j - 1];
                out[j - 1] = x;
            }
    size_t w = 0;
    for (size_t i = 0; i < k; i++)
        if (w == 0 || out[w - 1] != out[i]) out[w++] = out[i];
    return w;
}

/* Byte sets of a union become one. */
static size_t join_sets(struct grammar *g, uint32_t *list, size_t n)
{
    struct byteset all = {{0}};
    size_t w = 0, n_sets = 0;
    for (size_t i = 0; i < n; i++) {
        const struct term *t = &g->terms.items[list[i]];
        if (t->kind == TERM_KIND_SET) {
            for (int k = 0; k < 4; k++) all.w[k] |= g->terms.sets[t->a].w[k];
            n_sets++;
        }
    }
    if (n_sets < 2) return n;
    for (size_t i = 0; i < n; i++)
        if (g->terms.items[list[i]].kind != TERM_KIND_SET) list[w++] = list[i];
    list[w++] = term_set(g, &all);
    for (size_t j = w - 1; j > 0 && list[j - 1] > list[j]; j--) {
        uint32_t x = list[j];
        list[j] = list[j - 1];
        list[j - 1] = x;
    }
    return w;
}

uint32_t term_alt(struct grammar *g, const uint32_t *list, size_t n)
{
    uint32_t out[MAX_LIST];
    size_t k = flatten(g, out, TERM_KIND_ALT, list, n);
    if (k == SIZE_MAX) return g->exhausted = true, TERM_NONE;
    size_t w = 0;
    for (size_t i = 0; i < k; i++) {
        /* Everything beside "any text" at the same place is contained in it. */
        if (out[i] == g->terms.any_text && g->terms.any_text) return out[i];
        if (out[i] != TERM_NONE) out[w++] = out[i];
    }
    w = join_sets(g, out, w);
    if (w == 0) return TERM_NONE;
    if (w == 1) return out[0];
    struct term t = {.kind = TERM_KIND_ALT, .n = (uint32_t)w};
    for (size_t i = 0; i < w; i++) {
        t.nullable |= g->terms.items[out[i]].nullable;
        t.logical |= g->terms.items[out[i]].logical;
    }
    return intern(g, t, out);
}

uint32_t term_alt2(struct grammar *g, uint32_t a, uint32_t b)
{
    if (a == TERM_NONE || a == b) return b;
    if (b == TERM_NONE) return a;
    return term_alt(g, (uint32_t[]){a, b}, 2);
}

uint32_t term_and(struct grammar *g, const uint32_t *list, size_t n)
{
    uint32_t out[MAX_LIST];
    size_t k = flatten(g, out, TERM_KIND_AND, list, n), w = 0;
    if (k == SIZE_MAX) return g->exhausted = true, TERM_NONE;
    bool has_text = false, nullable = true;
    for (size_t i = 0; i < k; i++) {
        const struct term *t = &g->terms.items[out[i]];
        if (out[i] == TERM_NONE) return TERM_NONE;
        if (t->kind == TERM_KIND_NOT && t->a == TERM_NONE) continue;
        if (t->kind == TERM_KIND_NOT && t->a == g->terms.any_text) return TERM_NONE;
        for (size_t j = 0; t->kind == TERM_KIND_NOT && j < k; j++)
            if (out[j] == t->a) return TERM_NONE;
        has_text |= t->kind != TERM_KIND_NOT && out[i] != g->terms.any_text;
        nullable = nullable && t->nullable;
        out[w++] = out[i];
    }
    if (has_text) { /* the others are within valid UTF-8 already */
        size_t v = 0;
        for (size_t i = 0; i < w; i++)
            if (out[i] != g->terms.any_text) out[v++] = out[i];
        w = v;
    }
    if (w == 0) return g->terms.any_text;
    if (w == 1) return out[0];
    uint32_t least = 0, most = LENGTH_MANY;
    for (size_t i = 0; i < w; i++) {
        const struct term *x = &g->terms.items[out[i]];
        if (x->least > least) least = x->least;
        if (x->most < most) most = x->most;
    }
    if (least > most) return TERM_NONE;
    struct term t = {.kind = TERM_KIND_AND, .n = (uint32_t)w, .nullable = nullable, .logical = true};
    return intern(g, t, out);
}

uint32_t term_and2(struct grammar *g, uint32_t a, uint32_t b)
{
    if (a == b) return a;
    return term_and(g, (uint32_t[]){a, b}, 2);
}

static uint32_t term_negate(struct grammar *g, uint32_t a)
{
    if (g->terms.items[a].kind == TERM_KIND_NOT) return g->terms.items[a].a;
    struct term t = {.kind = TERM_KIND_NOT, .a = a, .nullable = !g->terms.items[a].nullable, .logical = true};
    return intern(g, t, NULL);
}

uint32_t term_without(struct grammar *g, uint32_t a, uint32_t b)
{
    if (b == TERM_NONE) return a;
    return term_and2(g, a, term_negate(g, b));
}

uint32_t term_repeat(struct grammar *g, uint32_t a, uint32_t min, uint32_t max)
{
    if (max == 0 || a == TERM_EPS) return TERM_EPS;
    if (a == TERM_NONE) return min == 0 ? TERM_EPS : TERM_NONE;
    const struct term *ta = &g->terms.items[a];
    if (ta->nullable) min = 0;
    if (min == 1 && max == 1) return a;
    if (ta->kind == TERM_KIND_REP && ta->min == 0 && ta->max == REPEAT_MAX) return a;
    struct term t = {
        .kind = TERM_KIND_REP, .a = a, .min = min, .max = max, .nullable = min == 0, .logical = ta->logical};
    return intern(g, t, NULL);
}

uint32_t term_bytes(struct grammar *g, struct str s)
{
    uint32_t t = TERM_EPS;
    for (size_t i = s.len; i > 0; i--) {
        uint8_t b = (uint8_t)s.ptr[i - 1];
        struct byteset set = {{0}};
        byteset_add(&set, b);
        if (g->terms.bytes[b] == TERM_NONE) g->terms.bytes[b] = term_set(g, &set);
        t = term_cat(g, g->terms.bytes[b], t);
    }
    return t;
}

static int cmp_str(const void *x, const void *y)
{
    return str_cmp(*(const struct str *)x, *(const struct str *)y);
}

static uint32_t term_range(struct grammar *g, uint32_t table, uint32_t lo, uint32_t hi, uint32_t depth)
{
    if (lo >= hi) return TERM_NONE;
    const struct str *s = g->terms.tables[table].items;
    if (hi == lo + 1 && s[lo].len == depth) return TERM_EPS;
    struct term t = {
        .kind = TERM_KIND_STRS, .a = table, .b = depth, .min = lo, .max = hi, .nullable = s[lo].len == depth};
    return intern(g, t, NULL);
}

uint32_t term_strings(struct grammar *g, const struct str *list, size_t n)
{
    struct terms *ts = &g->terms;
    if (n == 0) return TERM_NONE;
    struct str *items = grammar_alloc(g, n * sizeof *items);
    if (!items || !GROW(g, ts->tables, ts->tables_cap, ts->n_tables + 1)) return TERM_NONE;
    memcpy(items, list, n * sizeof *items);
    qsort(items, n, sizeof *items, cmp_str);
    size_t w = 0;
    for (size_t i = 0; i < n; i++)
        if (w == 0 || !str_eq(items[w - 1], items[i])) items[w++] = items[i];
    for (size_t i = 0; i < ts->n_tables; i++) { /* the same set again gives the same term */
        if (ts->tables[i].n != w) continue;
        size_t k = 0;
        while (k < w && str_eq(ts->tables[i].items[k], items[k])) k++;
        if (k == w) return term_range(g, (uint32_t)i, 0, (uint32_t)w, 0);
    }
    ts->tables[ts->n_tables] = (struct string_table){items, w};
    return term_range(g, (uint32_t)ts->n_tables++, 0, (uint32_t)w, 0);
}

/* Strings lo..hi share the first `depth` bytes and are sorted: those that go on with `byte` are a run. */
static uint32_t derive_strings(struct grammar *g, const struct term *t, uint8_t byte)
{
    const struct str *s = g->terms.tables[t->a].items;
    uint32_t from = t->min, to = t->max, depth = t->b;
    if (s[from].len == depth) from++;
    uint32_t lo = from, hi = to;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if ((uint8_t)s[mid].ptr[depth] < byte) lo = mid + 1;
        else hi = mid;
    }
    uint32_t first = lo;
    hi = to;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if ((uint8_t)s[mid].ptr[depth] <= byte) lo = mid + 1;
        else hi = mid;
    }
    return term_range(g, t->a, first, lo, depth + 1);
}

static uint32_t derive_list(struct grammar *g, uint32_t id, uint8_t byte)
{
    struct term t = g->terms.items[id];
    uint32_t small[64];
    uint32_t *list = t.n <= 64 ? small : mem_try_alloc(t.n * sizeof *list);
    if (!list) return g->exhausted = true, TERM_NONE;
    for (uint32_t i = 0; i < t.n; i++) list[i] = term_derive(g, g->terms.lists[t.list + i], byte);
    uint32_t r = t.kind == TERM_KIND_ALT ? term_alt(g, list, t.n) : term_and(g, list, t.n);
    if (list != small) mem_free(list);
    return r;
}

uint32_t term_derive(struct grammar *g, uint32_t id, uint8_t byte)
{
    if (g->exhausted) return TERM_NONE;
    struct term t = g->terms.items[id]; /* a copy: the table may move */
    switch (t.kind) {
    case TERM_KIND_NONE:
    case TERM_KIND_EPS: return TERM_NONE;
    case TERM_KIND_SET: return byteset_has(&g->terms.sets[t.a], byte) ? TERM_EPS : TERM_NONE;
    case TERM_KIND_CAT: {
        uint32_t left = term_cat(g, term_derive(g, t.a, byte), t.b);
        return g->terms.items[t.a].nullable ? term_alt2(g, left, term_derive(g, t.b, byte)) : left;
    }
    case TERM_KIND_REP: {
        uint32_t d = term_derive(g, t.a, byte);
        if (d == TERM_NONE) return TERM_NONE;
        uint32_t max = t.max == REPEAT_MAX ? REPEAT_MAX : t.max - 1;
        return term_cat(g, d, term_repeat(g, t.a, t.min ? t.min - 1 : 0, max));
    }
    case TERM_KIND_NOT: return term_negate(g, term_derive(g, t.a, byte));
    case TERM_KIND_STRS: return derive_strings(g, &t, byte);
    default: return derive_list(g, id, byte);
    }
}

/* ---- characters to bytes ---- */

static uint32_t byte_range(struct grammar *g, unsigned lo, unsigned hi)
{
    struct byteset s = {{0}};
    for (unsigned b = lo; b <= hi; b++) byteset_add(&s, (uint8_t)b);
    return term_set(g, &s);
}

/* All sequences between the encodings lo[0..n) and hi[0..n), by splitting where the first bytes differ. */
static uint32_t byte_span(struct grammar *g, const uint8_t *lo, const uint8_t *hi, size_t n)
{
    if (n == 0) return TERM_EPS;
    if (lo[0] == hi[0]) return term_cat(g, byte_range(g, lo[0], lo[0]), byte_span(g, lo + 1, hi + 1, n - 1));
    static const uint8_t least[3] = {0x80, 0x80, 0x80}, most[3] = {0xbf, 0xbf, 0xbf};
    unsigned from = lo[0], to = hi[0];
    uint32_t parts[3] = {TERM_NONE, TERM_NONE, TERM_NONE};
    if (memcmp(lo + 1, least, n - 1) != 0) {
        parts[0] = term_cat(g, byte_range(g, from, from), byte_span(g, lo + 1, most, n - 1));
        from++;
    }
    if (memcmp(hi + 1, most, n - 1) != 0) {
        parts[1] = term_cat(g, byte_range(g, to, to), byte_span(g, least, hi + 1, n - 1));
        to--;
    }
    if (from <= to) parts[2] = term_cat(g, byte_range(g, from, to), byte_span(g, least, most, n - 1));
    return term_alt(g, parts, 3);
}

uint32_t term_chars(struct grammar *g, const struct codepoints *list, size_t n)
{
    static const uint32_t limits[] = {0x7f, 0x7ff, 0xd7ff, 0xffff, 0x10ffff};
    uint32_t parts[256];
    size_t n_parts = 1;
    parts[0] = TERM_NONE; /* what was joined before: one union for many spans, not one for each */
    for (size_t i = 0; i < n; i++) {
        uint32_t lo = list[i].lo, hi = list[i].hi > 0x10ffff ? 0x10ffff : list[i].hi;
        for (size_t k = 0; k < 5 && lo <= hi; k++) {
            if (lo > limits[k]) continue;
            if (lo >= 0xd800 && lo < 0xe000) lo = 0xe000;
            uint32_t end = hi < limits[k] ? hi : limits[k];
            if (k == 2 && end > 0xd7ff) end = 0xd7ff;
            if (lo > end) continue;
            uint8_t a[4], b[4];
            size_t len = utf8_encode((char *)a, lo);
            utf8_encode((char *)b, end);
            parts[n_parts++] = byte_span(g, a, b, len);
            lo = end + 1;
            if (n_parts < 256) continue;
            parts[0] = term_alt(g, parts, n_parts);
            n_parts = 1;
        }
    }
    return term_alt(g, parts, n_parts);
}
