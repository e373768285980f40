/* runs: see runs.h. */
#include "local/runs.h"

#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"

void token_runs_clear(struct token_runs *r)
{
    mem_free(r->items);
    mem_free(r->ids);
    *r = (struct token_runs){0};
}

void token_runs_add(struct token_runs *r, size_t from, size_t to, const uint32_t *ids, size_t n)
{
    if (!n) return;
    if (r->n == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 4;
        r->items = mem_realloc(r->items, r->cap * sizeof *r->items);
    }
    if (n > r->cap_ids - r->n_ids) {
        r->cap_ids = r->n_ids + n > 2 * r->cap_ids ? r->n_ids + n : 2 * r->cap_ids;
        r->ids = mem_realloc(r->ids, r->cap_ids * sizeof *r->ids);
    }
    r->items[r->n++] = (struct token_run){from, to, r->n_ids, n};
    memcpy(r->ids + r->n_ids, ids, n * sizeof *ids);
    r->n_ids += n;
}

void token_runs_append(struct token_runs *r, const struct token_runs *more, size_t at)
{
    for (size_t i = 0; i < more->n; i++) {
        const struct token_run *x = &more->items[i];
        token_runs_add(r, at + x->from, at + x->to, more->ids + x->first, x->n);
    }
}

size_t token_runs_fit(const struct tokenizer *t, const uint32_t *ids, size_t n, struct str text, bool show_control,
                      size_t *bytes)
{
    struct detokenizer d = {.started = true};
    struct buf out;                    /* what is still held of a character counts as soon as it is whole */
    size_t n_fit = 0, i = 0, seen = 0; /* seen: bytes of text that are known to fit, so that each is compared once */
    *bytes = 0;
    buf_init(&out, text.len + 64);
    for (; i < n; i++) {
        if (!detokenizer_feed(&d, t, &out, ids[i], show_control)) break;
        if (!str_starts(str_slice(text, seen, text.len), str_slice(buf_str(&out), seen, out.len))) break;
        seen = out.len;
        if (d.n_held) continue;
        n_fit = i + 1;
        *bytes = out.len;
    }
    bool is_half = i == n && d.n_held > 0; /* the answer ended within a character */
    if (is_half && detokenizer_finish(&d, &out) && str_eq(text, buf_str(&out))) {
        n_fit = n;
        *bytes = out.len;
    }
    buf_deinit(&out);
    return n_fit;
}

/* The text between two runs, with the spans in it. */
static bool encode_between(const struct tokenizer *t, struct token_list *out, struct str text, size_t from, size_t to,
                           const struct text_span *tainted, size_t n_tainted, struct err *e)
{
    if (from >= to) return true;
    struct text_span *inside = mem_alloc((n_tainted + 1) * sizeof *inside);
    size_t n = 0;
    for (size_t i = 0; i < n_tainted && tainted[i].from < to; i++) {
        if (tainted[i].to <= from) continue;
        inside[n++] = (struct text_span){tainted[i].from > from ? tainted[i].from - from : 0,
                                         (tainted[i].to < to ? tainted[i].to : to) - from};
    }
    struct str part = str_slice(text, from, to);
    bool ok = from == 0 ? tokenizer_encode(t, out, part, true, inside, n, e)
                        : tokenizer_encode_rest(t, out, part, true, inside, n, e);
    mem_free(inside);
    return ok;
}

bool token_runs_encode(const struct token_runs *r, const struct tokenizer *t, struct token_list *out, struct str text,
                       const struct text_span *tainted, size_t n_tainted, struct err *e)
{
    size_t at = 0;
    for (size_t i = 0; i < r->n; i++) {
        const struct token_run *x = &r->items[i];
        if (!encode_between(t, out, text, at, x->from, tainted, n_tainted, e)) return false;
        while (n_tainted && tainted->to <= x->to) tainted++, n_tainted--;
        for (size_t k = 0; k < x->n; k++)
            if (!token_list_append(out, r->ids[x->first + k], e)) return false;
        at = x->to;
    }
    return encode_between(t, out, text, at, text.len, tainted, n_tainted, e);
}
