/* header: answers that are several messages with headers of their own (harmony: channel and recipient; recipient only;
 * a line with the recipient's name). A header names where the text behind it goes: reasoning, the reader, or a tool. */
#include "dialect/dialect_internal.h"

#define MAX_HEADER 512

static struct str word_behind(struct str s, struct str mark)
{
    struct str word = STR_NONE;
    for (ptrdiff_t at = str_find(s, mark, 0); at >= 0; at = str_find(s, mark, (size_t)at + 1)) {
        size_t from = (size_t)at + mark.len, to = from;
        while (to < s.len && s.ptr[to] != ' ' && s.ptr[to] != '<' && s.ptr[to] != '\n') to++;
        word = str_slice(s, from, to);
    }
    return word;
}

static void body_begin(struct dialect_parser *p, enum parser_state state)
{
    enum chat_block_kind kind = state == IN_THINKING ? CHAT_THINKING : CHAT_TEXT;
    if (p->is_open && p->open_kind == kind) parser_emit(p, kind, STR("\n\n"));
    p->state = state;
    p->started = true;
}

/* The text behind the header is the arguments of a call. False: no tool of that name is known. */
static bool call_body(struct dialect_parser *p, struct str name, size_t header_len)
{
    struct call *c = &p->call;
    if (!p->o.n_tools) return false;
    call_begin(p, header_len, CALL_HEAD);
    c->need_known = !str_starts(name, STR("functions."));
    if (call_name_set(p, name)) {
        c->origin = IN_TEXT;
        c->keep = p->pos; /* a header is no text, even if what follows is no call */
        c->retry = 0;
        call_args_begin(p);
        return true;
    }
    p->pos -= header_len;
    p->state = IN_HEADER;
    return false;
}

static bool name_line_step(struct dialect_parser *p, bool final)
{
    struct str s = parser_rest(p);
    if (str_starts(s, STR(">>>"))) {
        p->pos += 3;
        return true;
    }
    ptrdiff_t line = str_find(str_slice(s, 0, MAX_HEAD), STR("\n"), 0);
    if (line < 0 && s.len < MAX_HEAD && !final) return false;
    struct str name = str_slice(s, 0, line < 0 ? 0 : (size_t)line);
    if (line >= 0 && str_eq(str_trim(name), STR("all"))) p->pos += name.len + 1;
    else if (name.len && call_body(p, name, name.len + 1)) return true;
    p->state = IN_TEXT;
    return s.len > 0;
}

/* Anything but a header stands here: the model left it out. */
static bool is_plain(struct str s, bool final)
{
    static const char *const starts[] = {"<|", "to=", "assistant"};
    s = str_trim(s);
    if (!s.len) return false;
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++) {
        struct str w = str_from(starts[i]);
        if (str_starts(s, w) || (!final && str_starts(w, s))) return false;
    }
    return true;
}

bool header_step(struct dialect_parser *p, bool final)
{
    if (p->d->header == HEADER_NAME_LINE) return name_line_step(p, final);
    struct str s = parser_rest(p), message = STR("<|message|>");
    if (!s.len) return false;
    ptrdiff_t end = str_find(str_slice(s, 0, MAX_HEADER), message, 0);
    if (is_plain(s, final) || (end < 0 && s.len >= MAX_HEADER)) {
        p->state = IN_TEXT;
        return true;
    }
    if (end < 0) {
        if (final) p->pos = p->in.len; /* half a header says nothing */
        return false;
    }
    struct str header = str_slice(s, 0, (size_t)end);
    size_t len = (size_t)end + message.len;
    struct str to = word_behind(header, STR("to=")), channel = word_behind(header, STR("<|channel|>"));
    bool reader = !to.len || str_eq(to, STR("user")) || str_eq(to, STR("assistant")) || str_eq(to, STR("all"));
    bool thinks = str_eq(to, STR("self")) || (reader && str_eq(channel, STR("analysis")));
    if (p->d->header == HEADER_HARMONY && !reader && call_body(p, to, len)) return true;
    p->pos += len;
    body_begin(p, thinks ? IN_THINKING : IN_TEXT);
    return true;
}
