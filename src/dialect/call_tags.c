/* call_tags: calls whose arguments stand in tags. Values of string type are escaped and passed on as they come; others
 * wait for their end tag. A value whose end tag is missing ends at the marks that the row names (par_stop). */
#include "dialect/dialect_internal.h"

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The longest of words that s begins with: 1 and its length; -1: s may still become one; 0: none. */
static int words_match(const char *const *words, size_t *len, struct str s, bool final)
{
    bool open = false;
    *len = 0;
    for (size_t i = 0; i < ROW_WORDS && words[i]; i++) {
        struct str w = str_from(words[i]);
        if (str_starts(s, w) && w.len > *len) *len = w.len;
        if (s.len < w.len && str_starts(w, s)) open = true;
    }
    if (open && !final) return -1;
    return *len > 0;
}

/* The name in what stands between an opening tag's literal and its end: NAME, "NAME", 'NAME' attr="..." */
static struct str tag_name(struct str head)
{
    head = str_trim(head);
    if (head.len && head.ptr[head.len - 1] == '/') head = str_trim(str_slice(head, 0, head.len - 1));
    if (head.len && (head.ptr[0] == '"' || head.ptr[0] == '\'')) {
        ptrdiff_t end = str_find(head, str_slice(head, 0, 1), 1);
        return str_slice(head, 1, end > 0 ? (size_t)end : head.len);
    }
    if (head.len && (head.ptr[head.len - 1] == '"' || head.ptr[head.len - 1] == '\'')) head.len--;
    return head;
}

static bool function_step(struct dialect_parser *p, bool final)
{
    struct call *c = &p->call;
    struct str s = dialect_parser_rest(p);
    size_t end = 0;
    while (end < s.len && s.ptr[end] != '>' && s.ptr[end] != '<' && s.ptr[end] != '\n') end++;
    if (end == s.len && end < MAX_HEAD && !final) return false;
    bool ok = end < s.len && end < MAX_HEAD && s.ptr[end] != '<';
    if (!ok || !dialect_call_name_set(p, tag_name(str_slice(s, 0, end)))) {
        dialect_call_fail(p);
        return true;
    }
    p->pos += end + 1;
    c->state = CALL_TAGS;
    if (end && s.ptr[end - 1] == '/') dialect_call_end(p);
    return true;
}

static void tags_over(struct dialect_parser *p)
{
    struct call *c = &p->call;
    if (c->n_args) buf_append_char(&c->args, '}');
    dialect_call_end(p);
}

static bool tags_step(struct dialect_parser *p, bool final)
{
    struct call *c = &p->call;
    const struct dialect *d = p->d;
    const char *const *ends[] = {d->fn_close, d->call_end, d->section_end, d->fn_open, d->call_start};
    size_t len;
    while (p->pos < p->in.len && is_space(p->in.ptr[p->pos])) p->pos++;
    struct str s = dialect_parser_rest(p);
    if (!s.len) return false;
    int open = words_match(d->par_open, &len, s, final);
    if (open > 0) {
        p->pos += len;
        c->state = CALL_PAR_HEAD;
        return true;
    }
    bool maybe = open < 0;
    int dropped = words_match(d->drop, &len, s, final);
    if (dropped > 0) {
        p->pos += len;
        return true;
    }
    if (dropped < 0) maybe = true;
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        int end = words_match(ends[i], &len, s, final);
        if (end < 0) maybe = true;
        if (end <= 0) continue;
        if (i == 0) p->pos += len; /* the rest is the business of the state behind a call */
        tags_over(p);
        return true;
    }
    if (maybe) return false;
    if (s.ptr[0] == '{' && !c->n_args) dialect_call_args_begin(p);
    else if (c->n_args) tags_over(p);
    else dialect_call_fail(p);
    return true;
}

static void read_attributes(struct call *c, struct str head, struct str name)
{
    unsigned types = dialect_typed_of(c->tool, name);
    c->par_string = !types || types == TYPE_STRING;
    if (str_find(head, STR("string=\"true\""), 0) >= 0) c->par_string = true;
    if (str_find(head, STR("string=\"false\""), 0) >= 0) c->par_string = false;
    c->par_typed = !c->par_string;
}

static bool par_head_step(struct dialect_parser *p, bool final)
{
    struct call *c = &p->call;
    struct str s = dialect_parser_rest(p), end_mark = str_from(p->d->par_head_end);
    ptrdiff_t end = str_find(str_slice(s, 0, MAX_HEAD), end_mark, 0);
    if (end < 0 && s.len < MAX_HEAD && !final) return false;
    if (end < 0) {
        dialect_call_fail(p);
        return true;
    }
    struct str head = str_slice(s, 0, (size_t)end);
    struct str name = end_mark.len > 1 ? str_trim(head) : tag_name(head);
    read_attributes(c, head, name);
    buf_append_char(&c->args, c->n_args++ ? ',' : '{');
    dialect_typed_string(&c->args, name);
    buf_append_char(&c->args, ':');
    buf_clear(&c->scratch);
    buf_append(&c->scratch, name);
    buf_clear(&c->par);
    if (c->par_string) buf_append_char(&c->args, '"');
    c->par_begun = true;
    p->pos += (size_t)end + end_mark.len;
    c->state = CALL_PAR_START;
    dialect_call_open(p);
    dialect_call_flush(p);
    return true;
}

static bool par_start_step(struct dialect_parser *p, bool final)
{
    struct call *c = &p->call;
    struct str s = dialect_parser_rest(p);
    size_t at = 0;
    if (p->d->val_open) {
        const char *const words[] = {p->d->val_open, NULL};
        size_t len;
        while (at < s.len && is_space(s.ptr[at])) at++;
        int match = words_match(words, &len, str_slice(s, at, s.len), final);
        if (match < 0 || (at == s.len && !final)) return false;
        if (match > 0) p->pos += at + len;
        s = dialect_parser_rest(p);
    }
    if (!s.len || (s.ptr[0] == '\r' && s.len < 2)) {
        if (final) c->state = CALL_PAR_VALUE;
        return final;
    }
    size_t newline = str_starts(s, STR("\n")) ? 1 : str_starts(s, STR("\r\n")) ? 2 : 0;
    c->newline_cut = newline > 0;
    p->pos += newline;
    c->state = CALL_PAR_VALUE;
    return true;
}

static void par_text(struct call *c, struct str s)
{
    if (c->par_typed) {
        buf_append(&c->par, s);
        return;
    }
    for (size_t i = 0; i < s.len; i++) dialect_value_escape(&c->args, s.ptr[i]);
}

static void par_over(struct call *c)
{
    if (!c->par_begun) return;
    c->par_begun = false;
    if (c->par_string) {
        buf_append_char(&c->args, '"');
        return;
    }
    unsigned types = dialect_typed_of(c->tool, buf_str(&c->scratch));
    if (!types || types == TYPE_STRING) types = ~0u & ~(unsigned)TYPE_STRING; /* the text itself says: not a string */
    dialect_typed_write(&c->args, buf_str(&c->par), types);
}

/* The value ends with the answer: what is left of end tags behind it is none of it. */
static size_t without_ends(const struct dialect_parser *p, struct str s)
{
    const struct dialect *d = p->d;
    const char *const ends[] = {d->call_end[0], d->section_end[0], d->fn_close[0]};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        struct str cut = str_trim(s), end = str_from(ends[i]);
        if (end.len && str_ends(cut, end)) s.len = (size_t)(cut.ptr - s.ptr) + cut.len - end.len;
    }
    if (p->call.newline_cut && str_ends(s, STR("\n"))) s.len--;
    return s.len;
}

/* A stop that ends in "</" is none where that begins the value's own end tag: 1; -1: not known yet. The value then ends
 * behind the text that looked like a stop. */
static int stop_is_text(const struct dialect_parser *p, size_t *text, struct str s, size_t at, struct str stop,
                        bool final)
{
    struct str close = str_from(p->d->par_close[0]), rest = str_slice(s, at + stop.len - 2, s.len);
    if (!str_ends(stop, STR("</"))) return 0;
    *text = at + stop.len - 2;
    if (str_starts(rest, close)) return 1;
    return !final && str_starts(close, rest) ? -1 : 0;
}

static bool par_value_step(struct dialect_parser *p, bool final)
{
    struct call *c = &p->call;
    const struct marker *m;
    size_t at, behind;
    struct str s = dialect_parser_rest(p);
    bool found = dialect_markers_scan(&p->value_ends, &at, &m, s, final);
    int is_text = found ? stop_is_text(p, &behind, s, at, m->text, final) : 0;
    bool closed = found && (m->kind == MARK_CALL_END || is_text > 0);
    size_t len = found ? m->text.len : 0;
    if (is_text > 0) {
        at = behind;
        len = str_from(p->d->par_close[0]).len;
    }
    if (is_text < 0) found = false;
    size_t text = at;
    if (c->newline_cut && text && s.ptr[text - 1] == '\n') text--; /* belongs to the end tag, if that follows */
    if (c->newline_cut && found && text < at && text && s.ptr[text - 1] == '\r') text--;
    if (!found && final) text = without_ends(p, s);
    par_text(c, str_slice(s, 0, text));
    if (!found) {
        p->pos += text;
        dialect_call_flush(p);
        return false;
    }
    p->pos += at + (closed ? len : 0);
    par_over(c);
    c->state = CALL_TAGS;
    return true;
}

/* The answer ends, or the call broke off, inside tags or a Python call: what was sent becomes a whole object. */
void dialect_call_tags_close(struct dialect_parser *p, bool final)
{
    struct call *c = &p->call;
    bool tags = c->state >= CALL_FUNCTION && c->state <= CALL_PAR_VALUE;
    bool python = c->state >= CALL_PY_NAME;
    (void) final;
    if (python && c->par_begun) dialect_value_close(&c->value);
    if (tags) par_over(c);
    if ((tags && c->n_args) || (python && c->state != CALL_PY_NAME)) buf_append_char(&c->args, '}');
}

bool dialect_call_tags_step(struct dialect_parser *p, bool final)
{
    switch (p->call.state) {
    case CALL_FUNCTION: return function_step(p, final);
    case CALL_TAGS: return tags_step(p, final);
    case CALL_PAR_HEAD: return par_head_step(p, final);
    case CALL_PAR_START: return par_start_step(p, final);
    default: return par_value_step(p, final);
    }
}
