/* stops: finds stop strings in text that arrives in pieces. One Knuth-Morris-Pratt automaton a string: its state is the
 * length of its longest prefix that ends the text so far, which is also how much must be held back. */
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "engine/engine_internal.h"

struct stop {
    const char *text; // [len]
    uint32_t *border; // [len]: border[i] = longest proper prefix of text[0..i] that is its suffix
    uint32_t len, matched;
};

struct stops {
    uint32_t n, longest;
    struct stop items[];
};

static bool check(size_t *total, const struct str *texts, uint32_t n, struct err *e)
{
    *total = 0;
    if (n > STOPS_MAX) return err_set(e, ERR_TOO_LARGE, "%u stop strings; at most %d are allowed", n, STOPS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        if (!texts[i].len) return err_set(e, ERR_INVALID, "stop string %u is empty", i);
        if (!utf8_valid(texts[i])) return err_set(e, ERR_INVALID, "stop string %u is not valid UTF-8", i);
        if (!size_add(total, *total, texts[i].len) || *total > STOPS_MAX_BYTES)
            return err_set(e, ERR_TOO_LARGE, "the stop strings are longer than %d bytes together", STOPS_MAX_BYTES);
    }
    return true;
}

static void fill_borders(struct stop *s)
{
    s->border[0] = 0;
    for (uint32_t i = 1, k = 0; i < s->len; i++) {
        while (k && s->text[i] != s->text[k]) k = s->border[k - 1];
        if (s->text[i] == s->text[k]) k++;
        s->border[i] = k;
    }
}

struct stops *stops_create(const struct str *texts, uint32_t n, struct err *e)
{
    size_t total;
    if (!check(&total, texts, n, e)) return NULL;
    struct stops *s = mem_alloc(sizeof *s + n * sizeof s->items[0] + total * (sizeof(uint32_t) + 1));
    *s = (struct stops){.n = n};
    uint32_t *borders = (uint32_t *)(void *)&s->items[n];
    char *bytes = (char *)(borders + total);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t len = (uint32_t)texts[i].len;
        memcpy(bytes, texts[i].ptr, len);
        s->items[i] = (struct stop){.text = bytes, .border = borders, .len = len};
        fill_borders(&s->items[i]);
        if (len > s->longest) s->longest = len;
        bytes += len;
        borders += len;
    }
    return s;
}

void stops_destroy(struct stops *s)
{
    mem_free(s);
}

uint32_t stops_longest(const struct stops *s)
{
    return s ? s->longest : 0;
}

static bool advance(struct stop *s, char c)
{
    while (s->matched && s->text[s->matched] != c) s->matched = s->border[s->matched - 1];
    if (s->text[s->matched] == c) s->matched++;
    return s->matched == s->len;
}

bool stops_feed(struct stops *s, size_t *end, uint32_t *index, uint32_t *len, struct str text)
{
    bool found = false;
    if (!s) return false;
    for (size_t at = 0; at < text.len; at++) {
        for (uint32_t i = 0; i < s->n; i++) {
            if (!advance(&s->items[i], text.ptr[at])) continue;
            if (!found || s->items[i].len > *len) *index = i, *len = s->items[i].len;
            found = true;
        }
        if (found) {
            *end = at + 1;
            return true;
        }
    }
    return false;
}

uint32_t stops_held(const struct stops *s)
{
    uint32_t held = 0;
    for (uint32_t i = 0; s && i < s->n; i++)
        if (s->items[i].matched > held) held = s->items[i].matched;
    return held;
}
