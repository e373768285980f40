/* replay: see replay.h. */
#include "local/replay.h"

#include <string.h>

#include "base/alloc.h"

#define MATCH 32      /* bytes that must be alike before the place where two prompts part */
#define MAX_ENDING 24 /* bytes of an answer's end by which its stand-in's end is known */
#define MAX_GLUE 256  /* most that a template writes between a question and its answer */

/* Where the text stood that is copied, and where it went: spans are moved along. */
struct splice {
    struct str text;
    size_t at; /* text before it is done */
    struct buf out;
    struct jinja_spans spans;            /* of out */
    struct token_runs runs;              /* likewise */
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

/* The answer as the model wrote it, with its tokens. */
static void put_whole(struct splice *s, const struct made_text *made)
{
    bool thought = made->full.len > 0;
    size_t from = s->out.len;
    put_generated(s, thought ? buf_str(&made->full) : buf_str(&made->raw), thought);
    if (s->traits->calls_are_control) add_tainted(s, from, from + made->given);
    token_runs_append(&s->runs, &made->runs, from);
}

/* Bytes of a client, but for the name and the id of the call that stands there for the answer. */
static bool any_tainted(const struct splice *s, size_t from, size_t to, const struct turns_raw *r)
{
    for (const struct jinja_span *x = s->next; x < s->end && x->from < to; x++) {
        if (x->to <= from || x->to > to) continue; /* before, or what holds the key itself */
        struct str span = str_slice(s->text, x->from, x->to);
        bool own = r->call_key[0] && (str_eq(span, r->name) || str_eq(span, str_from(r->id)));
        if (!own) return true;
    }
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
static bool find_parting(const struct splice *s, size_t *from, struct str *rest, const struct turns_raw *r, size_t key)
{
    const struct made_text *made = &r->made;
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
            return !any_tainted(s, at, key, r);
        }
    }
    return false;
}

/* Where the stand-in for a call ends: it ends as what was generated ends. */
static bool find_end(size_t *end, struct str text, size_t from, struct str raw)
{
    raw = str_trim(raw);
    struct str near = str_slice(text, 0, from + MAX_GLUE);
    for (size_t n = raw.len < MAX_ENDING ? raw.len : MAX_ENDING; n > 0; n--) {
        struct str ending = str_slice(raw, raw.len - n, raw.len);
        ptrdiff_t at = str_find(near, ending, from);
        if (at < 0) continue;
        *end = (size_t)at + n;
        return true;
    }
    return false;
}

static ptrdiff_t find_key(const struct splice *s, const char *key)
{
    return key[0] ? str_find(s->text, str_from(key), s->at) : -1;
}

static bool put_answer(struct splice *s, const struct turns_raw *r)
{
    ptrdiff_t content = find_key(s, r->key), shown = find_key(s, r->thinking_key), call = find_key(s, r->call_key);
    ptrdiff_t last = call >= 0 ? call : content;
    struct str rest, raw = buf_str(&r->made.raw);
    bool thought = r->made.full.len > 0;
    size_t from, end = last < 0 ? 0 : (size_t)last + strlen(call >= 0 ? r->call_key : r->key);
    if (last < 0) return r->call_key[0] == '\0';      /* the template shows neither: nothing to put */
    if (content > last || shown > last) return false; /* a key would be left behind */
    if (call >= 0 && !find_end(&end, s->text, end, raw)) return false;
    size_t first = (size_t)(shown >= 0 ? shown : content >= 0 && content < last ? content : last);
    bool parts = find_parting(s, &from, &rest, r, first);
    if (parts && (!thought || shown >= 0)) {
        copy_to(s, from);
        buf_append(&s->out, rest);
        put_whole(s, &r->made);
        skip_to(s, end);
        return true;
    }
    if (call >= 0) return false;
    if (shown >= 0) {
        copy_to(s, (size_t)shown);
        put_generated(s, buf_str(&r->made.thinking), false);
        skip_to(s, (size_t)shown + strlen(r->thinking_key));
    }
    copy_to(s, (size_t)content);
    if (thought) put_generated(s, raw, false);
    else put_whole(s, &r->made);
    skip_to(s, end);
    return true;
}

enum replay replay_put(struct buf *text, struct jinja_spans *tainted, struct token_runs *runs,
                       const struct turns *turns, const struct dialect_traits *traits)
{
    if (turns->n_raws == 0) return REPLAY_DONE;
    struct splice s = {
        .text = buf_str(text), .traits = traits, .next = tainted->items, .end = tainted->items + tainted->n};
    bool ok = true;
    buf_init(&s.out, text->max_bytes);
    for (size_t i = 0; ok && i < turns->n_raws; i++) ok = put_answer(&s, &turns->raws[i]);
    copy_to(&s, s.text.len);
    if (!ok) {
        buf_deinit(&s.out);
        mem_free(s.spans.items);
        token_runs_clear(&s.runs);
        return REPLAY_FAILED;
    }
    buf_deinit(text);
    mem_free(tainted->items);
    *text = s.out;
    *tainted = s.spans;
    *runs = s.runs;
    return s.out.failed ? REPLAY_FULL : REPLAY_DONE;
}
