/* replay: see replay.h. */
#include "local/replay.h"

#include <string.h>

#include "base/alloc.h"

#define MATCH 32     /* bytes that must be alike before the place where two prompts part */
#define MAX_GLUE 256 /* most that a template writes between a question and its answer */

/* Where the text stood that is copied, and where it went: spans are moved along. */
struct splice {
    struct str text;
    size_t at; /* text before it is done */
    struct buf out;
    struct jinja_spans spans;            /* of out */
    const struct jinja_span *next, *end; /* of the old text */
    const struct dialect_traits *traits;
};

static void add_tainted(struct splice *s, size_t from, size_t to)
{
    if (from >= to) return;
    s->spans.items = mem_realloc(s->spans.items, (s->spans.n + 1) * sizeof *s->spans.items);
    s->spans.items[s->spans.n++] = (struct jinja_span){from, to};
}

static void copy_to(struct splice *s, size_t to)
{
    size_t from = s->at, shift = s->out.len;
    buf_append(&s->out, str_slice(s->text, from, to));
    s->at = to;
    while (s->next < s->end && s->next->from < to) {
        size_t a = s->next->from > from ? s->next->from : from;
        size_t b = s->next->to < to ? s->next->to : to;
        if (a < b) add_tainted(s, a - from + shift, b - from + shift);
        if (s->next->to > to) return;
        s->next++;
    }
}

static void skip_to(struct splice *s, size_t to)
{
    s->at = to;
    while (s->next < s->end && s->next->to <= to) s->next++;
}

/* A client's bytes but for one mark in it, if that is there. */
static void taint_around(struct splice *s, size_t from, size_t to, struct str mark)
{
    ptrdiff_t at = mark.len ? str_find(str_slice(buf_str(&s->out), 0, to), mark, from) : -1;
    add_tainted(s, from, at < 0 ? to : (size_t)at);
    if (at >= 0) add_tainted(s, (size_t)at + mark.len, to);
}

static void put_generated(struct splice *s, struct str raw, bool thought)
{
    size_t from = s->out.len;
    struct str start = s->traits->think_start;
    buf_append(&s->out, raw);
    if (s->traits->calls_are_control || s->out.failed) return;
    if (thought && str_starts(raw, start)) from += start.len;
    taint_around(s, from, s->out.len, thought ? s->traits->think_end : STR_NONE);
}

static bool any_tainted(const struct splice *s, size_t from, size_t to)
{
    for (const struct jinja_span *x = s->next; x < s->end && x->from < to; x++)
        if (x->to > from) return true;
    return false;
}

/* Whether what was read of the text up to `at`, replaced answers included, ends with `probe`. */
static bool ends_before(const struct splice *s, size_t at, struct str probe)
{
    for (size_t k = 1; k <= probe.len; k++) {
        size_t back = at - s->at; /* bytes of the text behind the last replaced answer */
        if (k > back && k - back > s->out.len) return false;
        char c = k <= back ? s->text.ptr[at - k] : s->out.ptr[s->out.len - (k - back)];
        if (c != probe.ptr[probe.len - k]) return false;
    }
    return true;
}

/* Where the rendered text before `key` parts from the prompt that was answered: *from in the text, *rest of that prompt
 * behind it. Only what the template wrote may differ. */
static bool find_parting(const struct splice *s, size_t *from, struct str *rest, const struct made_text *made,
                         size_t key)
{
    struct str ahead = buf_str(&made->ahead);
    size_t low = key > MAX_GLUE ? key - MAX_GLUE : 0;
    if (low < s->at) low = s->at;
    for (size_t left = 0; left <= made->ahead_free && left <= MAX_GLUE && left < ahead.len; left++) {
        size_t to = ahead.len - left, n = to < MATCH ? to : MATCH;
        struct str probe = str_slice(ahead, to - n, to);
        for (size_t at = key + 1; at-- > low;) {
            if (!ends_before(s, at, probe)) continue;
            *from = at;
            *rest = str_slice(ahead, to, ahead.len);
            return !any_tainted(s, at, key);
        }
    }
    return false;
}

static void put_answer(struct splice *s, const struct turns_raw *r)
{
    struct str key = str_from(r->key), thinking_key = str_from(r->thinking_key), rest;
    ptrdiff_t found = str_find(s->text, key, s->at);
    if (found < 0) return;
    size_t content = (size_t)found, from;
    ptrdiff_t shown = thinking_key.len ? str_find(str_slice(s->text, 0, content), thinking_key, s->at) : -1;
    bool thought = r->made.full.len > 0;
    size_t first = shown >= 0 ? (size_t)shown : content;
    if ((!thought || shown >= 0) && find_parting(s, &from, &rest, &r->made, first)) {
        copy_to(s, from);
        buf_append(&s->out, rest);
        put_generated(s, buf_str(thought ? &r->made.full : &r->made.raw), thought);
        skip_to(s, content + key.len);
        return;
    }
    if (shown >= 0) {
        copy_to(s, (size_t)shown);
        put_generated(s, buf_str(&r->made.thinking), false);
        skip_to(s, (size_t)shown + thinking_key.len);
    }
    copy_to(s, content);
    put_generated(s, buf_str(&r->made.raw), false);
    skip_to(s, content + key.len);
}

bool replay_put(struct buf *text, struct jinja_spans *tainted, const struct turns *turns,
                const struct dialect_traits *traits)
{
    if (turns->n_raws == 0) return true;
    struct splice s = {
        .text = buf_str(text), .traits = traits, .next = tainted->items, .end = tainted->items + tainted->n};
    buf_init(&s.out, text->max_bytes);
    for (size_t i = 0; i < turns->n_raws; i++) put_answer(&s, &turns->raws[i]);
    copy_to(&s, s.text.len);
    buf_deinit(text);
    mem_free(tainted->items);
    *text = s.out;
    *tainted = s.spans;
    return !s.out.failed;
}
