/* parser: one answer through one state machine. Text waits in parser.in only while it may be the beginning of a marker
 * or of a call that is not sure yet; blocks are opened late and closed before another opens. One thread per parser. */
#include <string.h>

#include "base/alloc.h"
#include "dialect/dialect_internal.h"

#define MAX_WHITE 256
#define DEFAULT_BUDGET ((size_t)64 << 20)

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

struct str dialect_parser_rest(const struct dialect_parser *p)
{
    return str_slice(buf_str(&p->in), p->pos, p->in.len);
}

/* ---- output ---- */

void dialect_parser_event(struct dialect_parser *p, enum chat_event_kind kind, struct str text)
{
    struct chat_event ev = {.kind = kind, .block = p->open_kind, .text = text};
    if (p->open_kind == CHAT_TOOL_USE && kind != CHAT_EVENT_DELTA) {
        ev.name = buf_str(&p->call.name);
        ev.id = buf_str(&p->call.id);
    }
    p->sink(p->ctx, &ev);
}

void dialect_parser_close_block(struct dialect_parser *p)
{
    if (p->is_open) dialect_parser_event(p, CHAT_EVENT_BLOCK_CLOSE, STR_NONE);
    p->is_open = false;
    buf_clear(&p->white);
}

/* White space before the first text of a block: only the indentation of its first line stays. */
static void trim_white(struct buf *white)
{
    size_t from = white->len;
    while (from && white->ptr[from - 1] != '\n') from--;
    if (white->len - from > MAX_WHITE) from = white->len - MAX_WHITE;
    if (from) {
        memmove(white->ptr, white->ptr + from, white->len - from);
        white->len -= from;
    }
}

void dialect_parser_emit(struct dialect_parser *p, enum chat_block_kind kind, struct str s)
{
    if (!s.len) return;
    if (p->is_open && p->open_kind != kind) dialect_parser_close_block(p);
    if (kind == CHAT_THINKING) {
        p->think_bytes += s.len;
        if (!p->o.keep_thinking) {
            buf_append(&p->hidden, s);
            return;
        }
    }
    size_t from = 0, to = s.len;
    if (!p->is_open) {
        while (from < s.len && is_space(s.ptr[from])) from++;
        buf_append(&p->white, str_slice(s, 0, from));
        trim_white(&p->white);
        if (from == s.len) return;
        p->is_open = true;
        p->open_kind = kind;
        if (kind == CHAT_TEXT) p->has_text = true;
        dialect_parser_event(p, CHAT_EVENT_BLOCK_OPEN, STR_NONE);
    }
    while (to > from && is_space(s.ptr[to - 1])) to--;
    if (to > from || p->white.len + s.len > MAX_WHITE) {
        if (to == from) to = s.len;
        if (p->white.len) dialect_parser_event(p, CHAT_EVENT_DELTA, buf_str(&p->white));
        buf_clear(&p->white);
        dialect_parser_event(p, CHAT_EVENT_DELTA, str_slice(s, from, to));
    }
    buf_append(&p->white, str_slice(s, to, s.len));
}

/* ---- markers ---- */

void dialect_markers_add(struct markers *m, const char *const *words, enum marker_kind kind)
{
    for (size_t i = 0; i < ROW_WORDS && words[i]; i++) {
        struct str text = str_from(words[i]);
        bool known = !text.len || m->n == MAX_MARKERS;
        for (size_t k = 0; k < m->n && !known; k++) known = str_eq(m->items[k].text, text);
        if (known) continue;
        m->items[m->n++] = (struct marker){text, kind};
        m->first[(unsigned char)text.ptr[0]] = true;
    }
}

/* The longest marker that s begins with; *open: s may become a longer one. */
static const struct marker *marker_at(const struct markers *m, struct str s, bool *open)
{
    const struct marker *best = NULL;
    *open = false;
    for (size_t i = 0; i < m->n; i++) {
        struct str t = m->items[i].text;
        if (str_starts(s, t)) {
            if (!best || best->text.len < t.len) best = &m->items[i];
        } else if (s.len < t.len && str_starts(t, s)) {
            *open = true;
        }
    }
    return best;
}

bool dialect_markers_scan(const struct markers *m, size_t *at, const struct marker **found, struct str s, bool final)
{
    for (size_t i = 0; i < s.len; i++) {
        bool open;
        if (!m->first[(unsigned char)s.ptr[i]]) continue;
        const struct marker *best = marker_at(m, str_slice(s, i, s.len), &open);
        if (open && !final) best = NULL;
        if (!best && (!open || final)) continue;
        *at = i;
        *found = best;
        return best != NULL;
    }
    *at = s.len;
    *found = NULL;
    return false;
}

static void prepare_markers(struct dialect_parser *p)
{
    static const char *const header_words[] = {"<|end|>",     "<|return|>", "<|call|>", "<|start|>",
                                               "<|channel|>", "<|eom|>",    "<|eot|>",  NULL};
    static const char *const line_words[] = {">>>", NULL}, *const fence[] = {"```json", "```", NULL};
    static const char *const bare[] = {"[{\"name\":", "{\"name\":", "{{\"name\":", "{\"type\": \"function\",", NULL};
    const struct dialect *d = p->d;
    const char *const *header = d->header == HEADER_NAME_LINE ? line_words : header_words;
    dialect_markers_add(&p->text_marks, d->think_start, MARK_THINK_START);
    dialect_markers_add(&p->text_marks, d->think_end, MARK_THINK_END);
    dialect_markers_add(&p->think_marks, d->think_end, MARK_THINK_END);
    dialect_markers_add(&p->think_marks, d->think_start, MARK_THINK_START);
    if (d->header) {
        dialect_markers_add(&p->text_marks, header, MARK_HEADER);
        dialect_markers_add(&p->think_marks, header, MARK_HEADER);
    }
    /* Without tools, too: what looks like a call then comes back as text, but whole. */
    for (int i = 0; i < (d->calls_in_thinking ? 2 : 1); i++) {
        struct markers *m = i ? &p->think_marks : &p->text_marks;
        dialect_markers_add(m, d->section_start, MARK_SECTION);
        dialect_markers_add(m, d->call_start, MARK_CALL);
        dialect_markers_add(m, d->fn_open, MARK_FUNCTION);
    }
    if (p->o.n_tools && !d->header && d->syntax == CALL_JSON && d->call_start[0])
        dialect_markers_add(&p->text_marks, bare, MARK_BARE);
    dialect_markers_add(&p->text_marks, d->drop, MARK_DROP);
    dialect_markers_add(&p->value_ends, d->par_close, MARK_CALL_END);
    dialect_markers_add(&p->value_ends, d->par_stop, MARK_SECTION);
    dialect_markers_add(&p->call_tails, d->call_end, MARK_CALL_END);
    dialect_markers_add(&p->call_tails, d->section_end, MARK_CALL_END);
    dialect_markers_add(&p->call_tails, d->fn_close, MARK_CALL_END);
    dialect_markers_add(&p->call_tails, d->drop, MARK_DROP);
    dialect_markers_add(&p->call_tails, d->section_start, MARK_SECTION);
    dialect_markers_add(&p->call_tails, d->call_start, MARK_CALL);
    dialect_markers_add(&p->call_tails, d->fn_open, MARK_FUNCTION);
    dialect_markers_add(&p->call_tails, d->think_end, MARK_THINK_END);
    if (d->header) dialect_markers_add(&p->call_tails, header, MARK_HEADER);
    dialect_markers_add(&p->call_tails, fence, MARK_DROP);
}

/* ---- states ---- */

static void think_begin(struct dialect_parser *p)
{
    p->thought = true;
    p->state = IN_THINKING;
    p->think_cut = false;
    p->started = false;
}

/* A marker was found in text or reasoning: what stands before it is out already. */
static void on_marker(struct dialect_parser *p, const struct marker *m)
{
    enum chat_block_kind kind = p->state == IN_THINKING ? CHAT_THINKING : CHAT_TEXT;
    bool thinking = kind == CHAT_THINKING, blank = !p->has_text && !p->n_seen;
    bool call = m->kind == MARK_SECTION || m->kind == MARK_CALL || m->kind == MARK_FUNCTION || m->kind == MARK_BARE;
    if (call && p->calls_off) {
        dialect_parser_emit(p, kind, m->text);
        p->pos += m->text.len;
        return;
    }
    switch (m->kind) {
    case MARK_THINK_START:
        p->pos += m->text.len;
        if (p->d->opening_is_text && str_eq(m->text, str_from(p->d->think_start[0])) && !(thinking && p->started) &&
            (thinking || blank)) {
            if (!thinking) think_begin(p);
            p->started = true;
            dialect_parser_emit(p, CHAT_THINKING, m->text);
        } else if (thinking ? p->started : !(blank || !p->is_open || p->d->think_anywhere))
            dialect_parser_emit(p, kind, m->text);
        else if (!thinking) think_begin(p);
        break;
    case MARK_THINK_END:
        p->pos += m->text.len;
        if (thinking) {
            if (p->is_open) dialect_parser_close_block(p);
            buf_clear(&p->white);
            p->state = IN_TEXT;
        } else if ((!blank || p->thought) && !p->think_cut && !p->d->think_anywhere) {
            dialect_parser_emit(p, kind, m->text);
        }
        p->think_cut = false;
        break;
    case MARK_SECTION:
    case MARK_CALL: dialect_call_begin(p, m->text.len, CALL_BEGIN); break;
    case MARK_FUNCTION: dialect_call_begin(p, m->text.len, CALL_FUNCTION); break;
    case MARK_BARE:
        dialect_call_begin(p, 0, CALL_BEGIN);
        p->call.retry = 1;
        p->call.need_known = true;
        p->call.bare = !p->d->bare_json;
        break;
    case MARK_HEADER: p->state = IN_HEADER; break;
    case MARK_CALL_END:
    case MARK_DROP: p->pos += m->text.len; break;
    }
}

/* May the answer be nothing but a call as JSON, in a fence or bare? 1 yes (*skip: to the object), 0 no, -1 unknown. */
static int bare_start(const struct dialect_parser *p, size_t *skip, bool final)
{
    struct str s = dialect_parser_rest(p);
    const struct marker *m;
    size_t i = 0, at;
    if (!p->o.n_tools || p->calls_off || p->has_text || p->bare_done || p->n_seen) return 0;
    while (i < s.len && is_space(s.ptr[i])) i++;
    if (i == s.len) return final ? 0 : -1;
    if (dialect_markers_scan(&p->text_marks, &at, &m, str_slice(s, i, s.len), final) && !at && m->kind != MARK_BARE)
        return 0;
    if (!at && !m && !final) return -1;
    *skip = i;
    if (s.ptr[i] == '{' || s.ptr[i] == '[') return 1;
    struct str rest = str_slice(s, i, s.len);
    if (!str_starts(rest, STR("```"))) return !final && str_starts(STR("```"), rest) ? -1 : 0;
    ptrdiff_t line = str_find(rest, STR("\n"), 0);
    if (line < 0) return rest.len < 20 && !final ? -1 : 0;
    size_t to = i + (size_t)line;
    while (to < s.len && is_space(s.ptr[to])) to++;
    if (to == s.len) return final ? 0 : -1;
    *skip = to;
    return line < 20 && (s.ptr[to] == '{' || s.ptr[to] == '[');
}

/* An answer that is to be one JSON value, in a code fence: its first line is skipped; -1: not known yet. */
static int json_fence(struct dialect_parser *p, bool final)
{
    struct str s = dialect_parser_rest(p);
    size_t i = 0;
    while (i < s.len && is_space(s.ptr[i])) i++;
    struct str rest = str_slice(s, i, s.len);
    if (rest.len < 3 && !final && str_starts(STR("```"), rest)) return -1;
    if (!str_starts(rest, STR("```"))) return 0;
    ptrdiff_t line = str_find(rest, STR("\n"), 0);
    if (line < 0 && rest.len < 20 && !final) return -1;
    if (line < 0 || line >= 20) return 0;
    p->pos += i + (size_t)line + 1;
    p->in_fence = true;
    return 1;
}

/* What may be the closing fence at the end of s: it waits, and goes when the answer ends. */
static size_t fence_tail(struct str s)
{
    size_t at = s.len, ticks = 0;
    while (at && is_space(s.ptr[at - 1])) at--;
    while (at && s.ptr[at - 1] == '`' && ticks < 3) at--, ticks++;
    while (ticks && at && is_space(s.ptr[at - 1])) at--;
    return at;
}

/* Plain text has begun, unless a marker may stand before its first letter. */
static bool at_marker(const struct dialect_parser *p, struct str s, bool final)
{
    const struct marker *m;
    size_t at;
    if (p->is_open && p->open_kind == CHAT_TEXT) return false;
    while (s.len && is_space(*s.ptr)) s = str_slice(s, 1, s.len);
    if (s.len) dialect_markers_scan(&p->text_marks, &at, &m, s, final);
    return !s.len || at == 0;
}

static bool text_step(struct dialect_parser *p, bool final)
{
    enum chat_block_kind kind = p->state == IN_THINKING ? CHAT_THINKING : CHAT_TEXT;
    const struct marker *m;
    size_t at, skip = 0;
    struct str s = dialect_parser_rest(p);
    if (!s.len) return false;
    if (kind == CHAT_TEXT && p->o.json_answer && !p->has_text && !p->in_fence) {
        int fence = json_fence(p, final);
        if (fence) return fence > 0;
    }
    if (kind == CHAT_TEXT && p->in_fence) {
        s.len = fence_tail(s);
        if (final && str_eq(str_trim(str_slice(dialect_parser_rest(p), s.len, p->in.len)), STR("```")))
            p->in.len = p->pos + s.len;
        if (!s.len) return false;
        final = true;
    }
    if (kind == CHAT_TEXT) {
        int bare = bare_start(p, &skip, final);
        if (bare < 0 && s.len < MAX_HEAD) return false;
        if (bare > 0) {
            dialect_call_begin(p, 0, CALL_BEGIN);
            p->pos += skip;
            p->call.bare = p->call.need_known = true;
            p->call.native = p->d->bare_json;
            return true;
        }
    }
    if (kind == CHAT_TEXT && p->o.plain_text && !at_marker(p, s, final)) {
        dialect_parser_emit(p, kind, s);
        p->pos += s.len;
        return false;
    }
    bool found = dialect_markers_scan(kind == CHAT_TEXT ? &p->text_marks : &p->think_marks, &at, &m, s, final);
    for (size_t i = 0; i < at && !p->started; i++) p->started = !is_space(s.ptr[i]);
    dialect_parser_emit(p, kind, str_slice(s, 0, at));
    p->pos += at;
    if (found) on_marker(p, m);
    return found;
}

/* Behind a call: its end markers, separators of a list, the next call; anything else is text again. */
static bool after_step(struct dialect_parser *p, bool final)
{
    struct str s = dialect_parser_rest(p);
    const struct marker *m;
    size_t at;
    if (!s.len) return false;
    char c = s.ptr[0];
    if (is_space(c) || c == ',' || c == ';' || c == ']' || c == '}') {
        p->pos++;
        return true;
    }
    if (dialect_markers_scan(&p->call_tails, &at, &m, s, final) && !at) {
        if (m->kind == MARK_THINK_END) p->pos += m->text.len;
        else on_marker(p, m);
        return true;
    }
    if (!at && !m && !final) return false;
    p->state = IN_TEXT;
    if (c != '{') return true;
    dialect_call_begin(p, 0, CALL_BEGIN);
    p->call.need_known = true;
    return true;
}

/* Behind a call that is held until the answer ends: only more of the kind may follow. */
static bool bare_tail_step(struct dialect_parser *p, bool final)
{
    struct str s = dialect_parser_rest(p);
    const struct marker *m;
    size_t at;
    if (!s.len) return false;
    char c = s.ptr[0];
    if (is_space(c) || c == ',' || c == ';' || c == ']') {
        p->pos++;
        return true;
    }
    if (c == '{') {
        size_t keep = p->call.keep, retry = p->call.retry;
        p->state = IN_CALL;
        dialect_call_reset(&p->call);
        p->call.keep = keep;
        p->call.retry = retry;
        p->call.bare = p->call.need_known = true;
        p->call.origin = IN_TEXT;
        p->call.state = CALL_BEGIN;
        return true;
    }
    if (dialect_markers_scan(&p->call_tails, &at, &m, s, final) && !at &&
        (m->kind == MARK_CALL_END || m->kind == MARK_DROP)) {
        p->pos += m->text.len;
        if (m->kind == MARK_CALL_END) dialect_call_release(p); /* sure now, wherever it stands */
        return true;
    }
    if (!at && !m && !final) return false;
    buf_clear(&p->held_calls);
    dialect_call_fail(p);
    return true;
}

static bool step(struct dialect_parser *p, bool final)
{
    switch (p->state) {
    case IN_TEXT:
    case IN_THINKING: return text_step(p, final);
    case IN_CALL: return dialect_call_step(p, final);
    case AFTER_CALL: return after_step(p, final);
    case IN_HEADER: return dialect_header_step(p, final);
    case IN_BARE_TAIL: return bare_tail_step(p, final);
    }
    return false;
}

static void run(struct dialect_parser *p, bool final)
{
    while (step(p, final)) continue;
    size_t keep = p->pos;
    if ((p->state == IN_CALL && !p->call.opened) || p->state == IN_BARE_TAIL) keep = p->call.keep;
    if (keep < 4096 && keep < p->in.len) return; /* moved down now and then, so that each byte moves O(1) times */
    if (!keep || keep < p->in.len / 2) return;
    memmove(p->in.ptr, p->in.ptr + keep, p->in.len - keep);
    p->in.len -= keep;
    p->pos -= keep;
    p->call.keep -= p->call.keep < keep ? p->call.keep : keep;
}

struct dialect_parser *dialect_parser_create(const struct dialect *d, const struct dialect_options *o)
{
    struct dialect_parser *p = mem_zalloc(sizeof *p);
    size_t budget = o->max_bytes ? o->max_bytes : DEFAULT_BUDGET;
    struct call *c = &p->call;
    size_t part = budget; /* a byte read is at most six written: p->in is full before any of these */
    if (!size_mul(&part, budget, 8) || !size_add(&part, part, (size_t)1 << 16)) part = budget;
    p->d = d;
    p->o = *o;
    if (o->plain_text) p->o.n_tools = 0;
    buf_init(&p->in, budget);
    buf_init(&p->white, (size_t)1 << 16);
    buf_init(&p->held_calls, budget);
    buf_init(&p->hidden, budget);
    struct buf *parts[] = {&c->name, &c->id, &c->args, &c->scratch, &c->par, &c->other};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) buf_init(parts[i], part);
    dialect_value_init(&c->value, &c->args, str_from(d->quote));
    c->value.python = d->syntax == CALL_PYTHON;
    prepare_markers(p);
    p->thought = o->in_thinking;
    buf_append(&p->in, o->opened_thinking);
    p->state = o->in_thinking ? IN_THINKING : d->header ? IN_HEADER : IN_TEXT;
    if (o->opened_call.len) {
        p->state = d->header ? IN_HEADER : IN_TEXT;
        buf_append(&p->in, o->opened_call);
    }
    return p;
}

void dialect_parser_destroy(struct dialect_parser *p)
{
    if (!p) return;
    struct call *c = &p->call;
    struct buf *parts[] = {&p->in, &p->white, &p->held_calls, &p->hidden, &c->name,
                           &c->id, &c->args,  &c->scratch,    &c->par,    &c->other};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) buf_deinit(parts[i]);
    dialect_value_deinit(&c->value);
    mem_free(p);
}

/* More is held than the budget allows: what is open ends, what waits is given back, and the rest is text. */
static void spill(struct dialect_parser *p)
{
    if (p->state == IN_CALL || p->state == IN_BARE_TAIL) dialect_call_fail(p);
    dialect_parser_emit(p, CHAT_TEXT, dialect_parser_rest(p));
    buf_clear(&p->in);
    p->pos = 0;
    p->over_budget = true;
}

void dialect_parser_feed(struct dialect_parser *p, struct str text, chat_sink *sink, void *ctx)
{
    p->sink = sink;
    p->ctx = ctx;
    if (!p->over_budget && !buf_append(&p->in, text)) spill(p);
    if (p->over_budget) dialect_parser_emit(p, CHAT_TEXT, text);
    else run(p, false);
}

/* The answer was cut within the mark that ends its reasoning: that half is no thought. */
static bool is_half_end(const struct dialect_parser *p)
{
    struct str rest = dialect_parser_rest(p);
    for (size_t i = 0; i < ROW_WORDS && p->d->think_end[i]; i++)
        if (rest.len > 2 && str_starts(str_from(p->d->think_end[i]), rest)) return true;
    return false;
}

/* An answer that never left its hidden reasoning: it is all there is. */
static void give_hidden(struct dialect_parser *p)
{
    p->state = IN_TEXT;
    dialect_parser_emit(p, CHAT_TEXT, buf_str(&p->hidden));
}

void dialect_parser_finish(struct dialect_parser *p, bool cut, chat_sink *sink, void *ctx)
{
    p->sink = sink;
    p->ctx = ctx;
    if (p->state == IN_THINKING && is_half_end(p)) p->in.len = p->pos;
    for (;;) {
        run(p, true);
        if (p->state != IN_CALL && p->state != IN_BARE_TAIL) break;
        dialect_call_finish(p, cut);
    }
    enum chat_block_kind kind = p->state == IN_THINKING ? CHAT_THINKING : CHAT_TEXT;
    dialect_parser_emit(p, kind, dialect_parser_rest(p));
    if (kind == CHAT_THINKING && !cut && !p->has_text && !p->n_seen) give_hidden(p);
    buf_clear(&p->in);
    p->pos = 0;
    bool is_cut_text = cut && p->is_open && p->open_kind == CHAT_TEXT && p->white.len;
    if (is_cut_text) dialect_parser_event(p, CHAT_EVENT_DELTA, buf_str(&p->white));
    dialect_parser_close_block(p);
}

size_t dialect_parser_calls(const struct dialect_parser *p)
{
    return p->n_calls;
}

enum dialect_place dialect_parser_place(const struct dialect_parser *p)
{
    if (p->state != AFTER_CALL) return PLACE_ELSEWHERE;
    return p->pos == p->in.len ? PLACE_BEHIND_CALL : PLACE_UNSURE;
}

size_t dialect_parser_think_bytes(const struct dialect_parser *p)
{
    return p->think_bytes;
}
