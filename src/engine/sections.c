/* sections: reasoning that is a part of the answer and may come again and again: where every message has a header, one
 * of them says that it is reasoning. What they may be is the grammar's business, if there is one; here their tokens are
 * counted and, once the budget is used up, ended and not begun again. Engine's thread. */
#include "engine/engine_internal.h"

#include <string.h>

bool sections_init(struct sections *s, const struct engine_reasoning *r, struct err *e)
{
    *s = (struct sections){.is_on = r->recurs, .has_budget = r->has_budget, .budget = r->budget, .fork = r->fork};
    buf_init(&s->start, ENGINE_MARKER_MAX);
    buf_init(&s->end, ENGINE_MARKER_MAX);
    buf_init(&s->close, ENGINE_MARKER_MAX);
    buf_init(&s->tail, (size_t)1 << 20);
    if (!r->recurs) return true;
    if (!r->start.len || !r->end.len || r->fork >= r->start.len || !str_starts(r->close, r->end))
        return err_set(e, ERR_INVALID, "sections of reasoning need a start, an end, and a close that begins with it");
    s->is_inside = r->is_open;
    return (buf_append(&s->start, r->start) && buf_append(&s->end, r->end) && buf_append(&s->close, r->close)) ||
           err_set(e, ERR_INVALID, "a marker of the reasoning has more than %d bytes", ENGINE_MARKER_MAX);
}

void sections_deinit(struct sections *s)
{
    buf_deinit(&s->start);
    buf_deinit(&s->end);
    buf_deinit(&s->close);
    buf_deinit(&s->tail);
}

/* Bytes at the end of s that are the beginning of the marker. */
static size_t begun(struct str s, struct str marker)
{
    size_t n = s.len < marker.len ? s.len : marker.len;
    while (n && !str_ends(s, str_slice(marker, 0, n))) n--;
    return n;
}

static bool is_used_up(const struct sections *s)
{
    return s->has_budget && s->n_tokens >= s->budget;
}

bool sections_allow(struct sections *s, struct str piece)
{
    if (s->is_inside || !is_used_up(s)) return true;
    size_t before = s->tail.len;
    bool ok = buf_append(&s->tail, piece) && begun(buf_str(&s->tail), buf_str(&s->start)) <= s->fork;
    s->tail.len = before;
    return ok;
}

void sections_take(struct sections *s, struct str piece)
{
    struct str mark = s->is_inside ? buf_str(&s->end) : buf_str(&s->start);
    if (!buf_append(&s->tail, piece)) buf_clear(&s->tail);
    ptrdiff_t at = str_find(buf_str(&s->tail), mark, 0);
    size_t keep = mark.len - 1, drop = s->tail.len > keep ? s->tail.len - keep : 0;
    if (at >= 0) {
        s->is_inside = !s->is_inside;
        drop = (size_t)at + mark.len;
    } else if (s->is_inside && begun(buf_str(&s->tail), mark) == 0) {
        s->n_tokens +=
            1 + s->n_begun; /* tokens of an end mark that has begun are none of the reasoning's, if it is one */
        s->n_begun = 0;
    } else if (s->is_inside) {
        s->n_begun++;
    }
    if (at >= 0) s->n_begun = 0;
    if (drop) memmove(s->tail.ptr, s->tail.ptr + drop, s->tail.len - drop);
    s->tail.len -= drop;
}

bool sections_must_close(const struct sections *s)
{
    return s->is_inside && is_used_up(s);
}

struct str sections_closing(const struct sections *s)
{
    struct str close = buf_str(&s->close);
    return str_slice(close, begun(buf_str(&s->tail), buf_str(&s->end)), close.len);
}
