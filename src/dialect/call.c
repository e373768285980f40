/* call: one tool call, from the marker to its end. A call is opened for the client as soon as its name is sure and its
 * arguments have begun; until then it can be taken back as text. Afterwards its JSON is closed whatever happens. */
#include <string.h>

#include "dialect/dialect_internal.h"

/* Text that looks like calls and fails late is read twice; after so many of these no call is tried any more. */
#define LATE_FAILURE 4096
#define MAX_LATE_FAILURES 16

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

void dialect_call_reset(struct call *c)
{
    struct buf *parts[] = {&c->name, &c->id, &c->args, &c->scratch, &c->par, &c->other};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) buf_clear(parts[i]);
    c->opened = c->bare = c->in_list = c->need_known = c->native = false;
    c->tool = NULL;
    c->n_args = c->depth = 0;
    c->par_string = c->par_typed = c->newline_cut = c->par_begun = false;
    c->has_args = c->args_done = c->args_text = c->sent = false;
    dialect_value_reset(&c->value, &c->args);
}

void dialect_call_begin(struct dialect_parser *p, size_t marker_len, enum call_state state)
{
    struct call *c = &p->call;
    enum parser_state origin = p->state == IN_THINKING ? IN_THINKING : IN_TEXT;
    dialect_call_reset(c);
    c->origin = origin;
    c->keep = p->pos;
    c->retry = marker_len;
    c->state = state;
    c->need_known = state == CALL_FUNCTION;
    p->pos += marker_len;
    p->state = IN_CALL;
}

void dialect_call_open(struct dialect_parser *p)
{
    struct call *c = &p->call;
    if (c->opened) return;
    if (p->is_open) dialect_parser_close_block(p);
    if (c->origin == IN_THINKING) p->think_cut = true;
    buf_clear(&p->white);
    c->opened = true;
    p->is_open = true;
    p->n_seen++;
    p->open_kind = CHAT_TOOL_USE;
    dialect_parser_event(p, CHAT_EVENT_BLOCK_OPEN, STR_NONE);
}

void dialect_call_flush(struct dialect_parser *p)
{
    struct call *c = &p->call;
    if (!c->opened || !c->args.len) return;
    dialect_parser_event(p, CHAT_EVENT_DELTA, buf_str(&c->args));
    buf_clear(&c->args);
    c->sent = true; /* something was sent */
}

static void call_close(struct dialect_parser *p)
{
    struct call *c = &p->call;
    if (!c->args.len && !c->sent) buf_append(&c->args, STR("{}"));
    dialect_call_flush(p);
    dialect_parser_close_block(p);
}

/* A bare call waits for the end of the answer, as one line of JSON. */
static bool hold(struct dialect_parser *p)
{
    struct call *c = &p->call;
    json_error_t error;
    if (!c->args.len) buf_append(&c->args, STR("{}"));
    json_t *args = json_loadb(c->args.ptr, c->args.len, JSON_ALLOW_NUL, &error);
    bool fits = c->tool && args && dialect_typed_fits(c->tool, args);
    json_decref(args);
    if (!fits) return false;
    buf_append_char(&p->held_calls, '[');
    dialect_typed_string(&p->held_calls, buf_str(&c->name));
    buf_append_char(&p->held_calls, ',');
    buf_append(&p->held_calls, buf_str(&c->args));
    buf_append_char(&p->held_calls, ',');
    dialect_typed_string(&p->held_calls, buf_str(&c->id));
    buf_append(&p->held_calls, STR("]\n"));
    p->state = IN_BARE_TAIL;
    return !p->held_calls.failed;
}

void dialect_call_end(struct dialect_parser *p)
{
    struct call *c = &p->call;
    if (c->bare && !c->opened && !c->native) {
        if (!hold(p)) dialect_call_fail(p);
        return;
    }
    dialect_call_open(p);
    call_close(p);
    p->n_calls++;
    p->state = AFTER_CALL;
    dialect_call_reset(c);
}

void dialect_call_fail(struct dialect_parser *p)
{
    struct call *c = &p->call;
    p->state = c->origin;
    p->bare_done = true;
    if (c->opened) {
        bool args = c->state == CALL_ARGS || (c->state == CALL_OBJECT && c->has_args && !c->args_text && !c->args_done);
        if (args && c->value.depth) dialect_value_close(&c->value);
        dialect_call_tags_close(p, false);
        call_close(p);
        p->state = IN_TEXT;
    } else {
        if (p->pos - c->keep > LATE_FAILURE && ++p->n_late_failures > MAX_LATE_FAILURES) p->calls_off = true;
        enum chat_block_kind kind = c->origin == IN_THINKING ? CHAT_THINKING : CHAT_TEXT;
        p->pos = c->keep;
        dialect_parser_emit(p, kind, str_slice(buf_str(&p->in), p->pos, p->pos + c->retry));
        p->pos += c->retry;
        p->started = true;
        buf_clear(&p->held_calls);
    }
    dialect_call_reset(c);
}

void dialect_call_release(struct dialect_parser *p)
{
    struct call *c = &p->call;
    struct str lines = buf_str(&p->held_calls);
    for (size_t at = 0; at < lines.len;) {
        size_t to = (size_t)str_find(lines, STR("\n"), at);
        json_error_t error;
        json_t *line = json_loadb(lines.ptr + at, to - at, JSON_ALLOW_NUL, &error);
        const json_t *name = json_array_get(line, 0), *id = json_array_get(line, 2);
        char *args = json_dumps(json_array_get(line, 1), JSON_COMPACT);
        dialect_call_reset(c);
        c->origin = IN_TEXT;
        buf_append(&c->name, (struct str){json_string_value(name), json_string_length(name)});
        buf_append(&c->id, (struct str){json_string_value(id), json_string_length(id)});
        if (args) buf_append(&c->args, str_from(args));
        dialect_call_end(p);
        free(args);
        json_decref(line);
        at = to + 1;
    }
    buf_clear(&p->held_calls);
}

void dialect_call_finish(struct dialect_parser *p, bool cut)
{
    struct call *c = &p->call;
    if (p->state == IN_BARE_TAIL) {
        if (c->retry) dialect_call_fail(p); /* an object in the midst of text, and no mark behind it */
        else dialect_call_release(p);
        return;
    }
    bool args = c->state == CALL_ARGS || (c->state == CALL_OBJECT && c->has_args && !c->args_text);
    if (!cut && c->state == CALL_OBJECT && c->name.len && c->args_done) { /* only the outer bracket is missing */
        dialect_call_end(p);
    } else if (c->opened) {
        bool tags = c->state >= CALL_TAGS && c->state <= CALL_PAR_VALUE;
        bool whole = tags || c->state == CALL_PY_AFTER || c->state == CALL_PY_KEY || c->args_done;
        if (args && !c->args_done && c->value.depth) whole = dialect_value_close(&c->value);
        if (!args) dialect_call_tags_close(p, true);
        if (whole && !cut) {
            dialect_call_end(p);
        } else {
            call_close(p);
            p->state = IN_TEXT;
            p->pos = p->in.len;
            dialect_call_reset(c);
        }
    } else if (!cut && c->state == CALL_TAGS && c->name.len) {
        dialect_call_end(p);
    } else if (cut && c->name.len && !c->bare) { /* what was meant is known: a call that is not whole */
        dialect_call_open(p);
        dialect_call_finish(p, true);
    } else {
        dialect_call_fail(p);
    }
}

/* One that can be called, if there is one of that name. */
static const struct chat_tool *tool_find(const struct dialect_parser *p, struct str name)
{
    const struct chat_tool *found = NULL;
    for (size_t i = 0; i < p->o.n_tools && (!found || found->withheld); i++)
        if (str_eq(p->o.tools[i].name, name)) found = &p->o.tools[i];
    return found;
}

bool dialect_call_name_set(struct dialect_parser *p, struct str name)
{
    static const char *const prefixes[] = {"functions.", "function.", "tools.", "call:"};
    struct call *c = &p->call;
    name = str_trim(name);
    c->tool = tool_find(p, name);
    for (size_t i = 0; !c->tool && i < sizeof prefixes / sizeof *prefixes; i++) {
        struct str prefix = str_from(prefixes[i]);
        if (!str_starts(name, prefix)) continue;
        name = str_slice(name, prefix.len, name.len);
        c->tool = tool_find(p, name);
    }
    if (!c->tool) {
        if (c->need_known || !p->o.n_tools || !name.len || name.len > 128) return false;
        for (size_t i = 0; i < name.len; i++) {
            char ch = name.ptr[i];
            bool plain = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
                         ch == '_' || ch == '-' || ch == '.' || ch == ':' || ch == '/';
            if (!plain) return false;
        }
    }
    buf_clear(&c->name);
    return buf_append(&c->name, name);
}

void dialect_call_args_begin(struct dialect_parser *p)
{
    p->call.state = CALL_ARGS;
    dialect_value_reset(&p->call.value, &p->call.args);
}

static bool args_step(struct dialect_parser *p)
{
    struct call *c = &p->call;
    struct str s = dialect_parser_rest(p);
    if (!s.len) return false;
    for (size_t i = 0; i < s.len; i++) {
        bool object = c->value.state != VALUE_START || c->value.depth || s.ptr[i] == '{' || is_space(s.ptr[i]);
        enum value_result r = object ? dialect_value_feed(&c->value, s.ptr[i]) : VALUE_ERROR;
        if (r == VALUE_ERROR || c->args.failed) {
            p->pos += i;
            if (c->opened) dialect_value_close(&c->value);
            dialect_call_fail(p);
            return true;
        }
        if (c->args.len > 1)
            dialect_call_open(p); /* at a byte of the text, not at the end of a piece: cuts change nothing */
        if (r == VALUE_MORE) continue;
        p->pos += i + (r == VALUE_DONE);
        dialect_call_end(p);
        return true;
    }
    p->pos += s.len;
    dialect_call_flush(p);
    return false;
}

/* ---- what stands behind the marker ---- */

/* A code fence inside the markers: skipped with its language word. */
static int skip_fence(struct dialect_parser *p, struct str s, bool final)
{
    if (s.ptr[0] != '`') return 0;
    ptrdiff_t line = str_find(s, STR("\n"), 0);
    if (line < 0 && s.len < 20 && !final) return -1;
    if (line < 0 || line >= 20 || !str_starts(s, STR("```"))) {
        dialect_call_fail(p);
        return 1;
    }
    p->pos += (size_t)line + 1;
    return 1;
}

static bool bracket(struct dialect_parser *p, struct str s)
{
    struct call *c = &p->call;
    if (s.ptr[0] == '{') {
        dialect_call_object_begin(p);
        return true;
    }
    if (c->in_list && s.ptr[0] != ']' && p->d->syntax == CALL_PYTHON) {
        c->state = CALL_PY_NAME;
        return true;
    }
    if (s.ptr[0] != '[' || c->in_list) return false;
    c->in_list = true;
    p->pos++;
    return true;
}

static bool begin_step(struct dialect_parser *p, bool final)
{
    struct call *c = &p->call;
    const struct marker *m;
    size_t at;
    while (p->pos < p->in.len && is_space(p->in.ptr[p->pos])) p->pos++;
    struct str s = dialect_parser_rest(p);
    if (!s.len) return false;
    if (!c->bare && dialect_markers_scan(&p->text_marks, &at, &m, s, final) && !at && m->kind != MARK_BARE) {
        if (m->kind == MARK_FUNCTION) {
            c->state = CALL_FUNCTION;
            c->need_known = false;
        } else if (m->kind != MARK_CALL && m->kind != MARK_SECTION) {
            dialect_call_fail(p);
            return true;
        }
        p->pos += m->text.len;
        return true;
    }
    if (!c->bare && !at && !m && !final) return false;
    int fence = skip_fence(p, s, final);
    if (fence) return fence > 0;
    if (bracket(p, s)) return true;
    if (c->bare || c->in_list || p->d->syntax == CALL_JSON) dialect_call_fail(p);
    else c->state = p->d->syntax == CALL_PYTHON ? CALL_PY_NAME : CALL_HEAD;
    return true;
}

/* ---- name and separators before an object ---- */

/* Cuts s at every separator; parts[0] is what stands before the first. */
static size_t split_head(const struct dialect *d, struct str parts[4], bool is_id[4], struct str s)
{
    size_t n = 0, from = 0;
    bool id = false;
    for (size_t i = 0; i <= s.len && n < 4; i++) {
        struct str sep = STR_NONE;
        for (size_t k = 0; k < ROW_WORDS && d->name_split[k] && !sep.len; k++)
            if (str_starts(str_slice(s, i, s.len), str_from(d->name_split[k]))) sep = str_from(d->name_split[k]);
        if (!sep.len && i < s.len) continue;
        is_id[n] = id;
        parts[n++] = str_trim(str_slice(s, from, i));
        if (!sep.len) break;
        id = d->id_mark && str_eq(sep, str_from(d->id_mark));
        i += sep.len - 1;
        from = i + 1;
    }
    return n;
}

/* NAME:INDEX as in functions.read:0 */
static struct str without_index(struct str name)
{
    size_t end = name.len;
    while (end && name.ptr[end - 1] >= '0' && name.ptr[end - 1] <= '9') end--;
    return end && end < name.len && name.ptr[end - 1] == ':' ? str_slice(name, 0, end - 1) : name;
}

static bool named_head(struct dialect_parser *p, struct str head)
{
    const struct dialect *d = p->d;
    struct str parts[4], name = STR_NONE, id = STR_NONE;
    bool is_id[4];
    ptrdiff_t fence = str_find(head, STR("```"), 0);
    if (fence >= 0) head = str_slice(head, 0, (size_t)fence);
    size_t n = split_head(d, parts, is_id, str_trim(head)), at = 0;
    if (d->kind_first && n > 1 && str_eq(parts[0], STR("function"))) at = 1;
    name = parts[at];
    for (size_t i = at + 1; i < n; i++)
        if (is_id[i]) id = parts[i];
    if (d->id_is_head) {
        id = name;
        name = without_index(name);
    }
    for (size_t i = 0; i < ROW_WORDS && d->name_strip[i]; i++) {
        struct str prefix = str_from(d->name_strip[i]);
        if (str_starts(name, prefix)) name = str_slice(name, prefix.len, name.len);
    }
    if (!dialect_call_name_set(p, name)) return false;
    buf_clear(&p->call.id);
    return buf_append(&p->call.id, id);
}

static bool head_step(struct dialect_parser *p, bool final)
{
    struct call *c = &p->call;
    struct str s = dialect_parser_rest(p);
    bool keyed = p->d->syntax == CALL_KEYED;
    size_t end = 0;
    while (end < s.len && !(keyed ? s.ptr[end] == '\n' || s.ptr[end] == '<' : s.ptr[end] == '{')) end++;
    if (end == s.len && end < MAX_HEAD && !final) return false;
    bool ok = end < s.len && end < MAX_HEAD;
    if (ok) ok = keyed ? dialect_call_name_set(p, str_slice(s, 0, end)) : named_head(p, str_slice(s, 0, end));
    if (!ok) {
        dialect_call_fail(p);
        return true;
    }
    p->pos += end;
    if (keyed) c->state = CALL_TAGS;
    else dialect_call_args_begin(p);
    return true;
}

bool dialect_call_step(struct dialect_parser *p, bool final)
{
    switch (p->call.state) {
    case CALL_BEGIN: return begin_step(p, final);
    case CALL_HEAD: return head_step(p, final);
    case CALL_ARGS: return args_step(p);
    case CALL_OBJECT: return dialect_call_object_step(p);
    case CALL_PY_NAME:
    case CALL_PY_KEY:
    case CALL_PY_VALUE:
    case CALL_PY_AFTER: return dialect_call_python_step(p, final);
    case CALL_FUNCTION:
    case CALL_TAGS:
    case CALL_PAR_HEAD:
    case CALL_PAR_START:
    case CALL_PAR_VALUE: return dialect_call_tags_step(p, final);
    }
    return false;
}
