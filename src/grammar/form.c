/* form: objects that are not written as JSON (tags, keyword arguments, bare keys, raw strings). A mark is followed as a
 * thread of its own; where a raw string could end, one thread follows the closing mark and another goes on as content,
 * until a forbidden word stands there: its reader would end the value at it. */
#include "base/hash.h"
#include "grammar/machine_internal.h"

enum mark {
    MARK_BETWEEN,
    MARK_KEY_OPEN,
    MARK_KEY_CLOSE,
    MARK_KEY_OTHER,
    MARK_VALUE_CLOSE,
    MARK_CLOSE,
    MARK_QUOTE_OPEN,
    MARK_QUOTE_CLOSE
};

void form_frame(struct frame *f)
{
    const struct frame *up = f->up;
    const struct grammar_form *own = up ? up->inner : NULL;
    f->form = own && !own->json ? own : NULL;
    f->inner = own && !own->json ? own->inner : own;
    f->guard = f->form && f->form->tagged ? f->form : up ? up->guard : NULL;
}

/* The form of a raw string's own frame. */
static const struct grammar_form *raw_form(const struct thread *t)
{
    return t->frame->form && t->frame->form->tagged ? t->frame->form : t->frame->inner;
}

static struct str mark_text(const struct thread *t)
{
    const struct grammar_form *f = t->frame->form;
    switch ((enum mark)t->aux) {
    case MARK_BETWEEN: return f->between;
    case MARK_KEY_OPEN: return f->key_open;
    case MARK_KEY_CLOSE: return f->key_close;
    case MARK_KEY_OTHER: return f->key_close_other;
    case MARK_VALUE_CLOSE: return f->value_close;
    case MARK_CLOSE: return f->close;
    case MARK_QUOTE_OPEN:
    case MARK_QUOTE_CLOSE: return raw_form(t)->quote;
    }
    return STR_NONE;
}

static void mark(struct machine *m, const struct frame *f, enum mark which)
{
    machine_emit(m, (struct thread){.kind = THREAD_MARK, .aux = which, .frame = f});
}

static void begin_key(struct machine *m, const struct frame *f)
{
    if (f->form->key_open.len) mark(m, f, MARK_KEY_OPEN);
    else object_start_key(m, f);
}

void form_next(struct machine *m, const struct frame *f)
{
    if (object_can_add(m, f)) {
        if (f->n && f->form->between.len) mark(m, f, MARK_BETWEEN);
        else begin_key(m, f);
    }
    if (!object_can_close(f)) return;
    if (f->form->close.len) mark(m, f, MARK_CLOSE);
    else machine_value_done(m, f->up, m->text.len);
}

void form_open(struct machine *m, uint32_t node, const struct frame *up)
{
    if (!up || !node_expand(m->g, node)) return;
    for (uint32_t i = 0; i < m->g->nodes[node].n_alts; i++) {
        struct alt *a = m->g->nodes[node].alts[i];
        if (a->type == TYPE_OBJ && (m->liberal || alt_fits(m->g, a))) open_object(m, a, up);
    }
}

void form_value_done(struct machine *m, const struct frame *f)
{
    if (f->form->value_close.len) mark(m, f, MARK_VALUE_CLOSE);
    else form_next(m, f);
}

/* ---- keys ---- */

/* Where the mark says whether a string follows: whether one can. */
static bool leads_on(struct machine *m, const struct thread *t)
{
    if (!t->frame->form->key_close_other.len) return true;
    if (!node_expand(m->g, t->count)) return false;
    for (uint32_t i = 0; i < m->g->nodes[t->count].n_alts; i++) {
        struct alt *a = m->g->nodes[t->count].alts[i];
        if ((a->type == TYPE_STR) == (t->aux == MARK_KEY_CLOSE) && (m->liberal || alt_fits(m->g, a))) return true;
    }
    return false;
}

void step_bare_key(struct machine *m, struct thread t, uint8_t byte)
{
    const struct grammar_form *f = t.frame->form;
    bool key_ends = byte == (uint8_t)f->key_close.ptr[0], first = t.start + 1 == m->text.len;
    if (key_ends && !first && t.dfa->states[t.state].accepts) {
        struct str key = str_slice(buf_str(&m->text), t.start, m->text.len - 1);
        struct thread after = {.kind = THREAD_MARK, .aux = MARK_KEY_CLOSE, .frame = t.frame};
        size_t mark = m->n_out;
        object_end_key(m, after, key);
        after.aux = MARK_KEY_OTHER;
        if (f->key_close_other.len) object_end_key(m, after, key);
        size_t n = m->n_out - mark;
        struct thread list[16];
        if (n > 16) n = 16;
        memcpy(list, m->out + mark, n * sizeof *list);
        m->n_out = mark;
        for (size_t i = 0; i < n; i++)
            if (leads_on(m, &list[i])) step_mark(m, list[i], byte);
        return;
    }
    bool word = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || byte == '_' || byte == '$' ||
                byte >= 0x80 || (!first && ((byte >= '0' && byte <= '9') || byte == '-' || byte == '.'));
    bool plain = f->tagged ? byte >= 0x20 && !strchr("<>\"'/", byte) && (byte != ' ' || !first) : word;
    if (key_ends || !plain || !lex_plain(m, &t, byte, REPEAT_MAX)) return;
    t.count = 0;
    if (object_key_viable(m, &t)) machine_emit(m, t);
}

/* ---- values ---- */

/* Behind a key: strings are raw here, everything else is JSON. */
static void begin_tagged(struct machine *m, const struct thread *t)
{
    const struct grammar_form *f = t->frame->form;
    bool split = f->key_close_other.len > 0, strings = !split || t->aux == MARK_KEY_CLOSE;
    bool others = false;
    if (!node_expand(m->g, t->count)) return;
    for (uint32_t i = 0; i < m->g->nodes[t->count].n_alts; i++) {
        struct alt *a = m->g->nodes[t->count].alts[i];
        if (a->type != TYPE_STR) others = true;
        else if (strings && (m->liberal || alt_fits(m->g, a)))
            machine_emit(m, (struct thread){.kind = THREAD_RAW,
                                            .dfa = a->string.dfa,
                                            .alt = a,
                                            .frame = t->frame,
                                            .aux = MARK_VALUE_CLOSE,
                                            .start = (uint32_t)m->text.len});
    }
    if (others && (!split || !strings))
        machine_emit(m, (struct thread){.kind = THREAD_VALUE, .state = t->count, .frame = t->frame});
}

bool form_start_string(struct machine *m, struct alt *a, const struct frame *frame, uint8_t byte)
{
    const struct grammar_form *f = frame->inner;
    if (!f->quote.len) return false;
    struct thread t = {.kind = THREAD_MARK, .aux = MARK_QUOTE_OPEN, .alt = a, .frame = frame};
    if (byte == (uint8_t)f->quote.ptr[0] || f->control) step_mark(m, t, byte);
    return true;
}

static void mark_done(struct machine *m, const struct thread *t)
{
    const struct frame *f = t->frame;
    switch ((enum mark)t->aux) {
    case MARK_BETWEEN: begin_key(m, f); break;
    case MARK_KEY_OPEN: object_start_key(m, f); break;
    case MARK_KEY_CLOSE:
    case MARK_KEY_OTHER:
        if (f->form->tagged) begin_tagged(m, t);
        else machine_emit(m, (struct thread){.kind = THREAD_VALUE, .state = t->count, .frame = f});
        break;
    case MARK_VALUE_CLOSE: form_next(m, f); break;
    case MARK_CLOSE: machine_value_done(m, f->up, m->text.len); break;
    case MARK_QUOTE_OPEN:
        machine_emit(m, (struct thread){.kind = THREAD_RAW,
                                        .dfa = t->alt->string.dfa,
                                        .alt = t->alt,
                                        .frame = f,
                                        .aux = MARK_QUOTE_CLOSE,
                                        .start = (uint32_t)m->text.len});
        break;
    case MARK_QUOTE_CLOSE: machine_value_done(m, f, m->text.len); break;
    }
}

static bool is_space(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\n' || byte == '\r';
}

void step_mark(struct machine *m, struct thread t, uint8_t byte)
{
    struct str s = mark_text(&t);
    bool quote = t.aux == MARK_QUOTE_OPEN || t.aux == MARK_QUOTE_CLOSE;
    const struct grammar_form *f = quote ? raw_form(&t) : t.frame->form;
    if (byte == (uint8_t)GRAMMAR_CONTROL) {
        if (f->control && !t.escape) t.escape = 1, machine_emit(m, t);
        return;
    }
    if (s.ptr[t.state] == FORM_SPACE[0]) {
        if (is_space(byte) && s.ptr[t.state + 1] != (char)byte) {
            if (t.space++ < m->g->max_space) machine_emit(m, t);
            return;
        }
        t.state++;
        t.space = 0;
    }
    if ((uint8_t)s.ptr[t.state] != byte) return;
    t.escape = 0;
    if (++t.state < s.len) machine_emit(m, t);
    else mark_done(m, &t);
}

void step_raw(struct machine *m, struct thread t, uint8_t byte)
{
    const struct grammar_form *f = raw_form(&t);
    struct thread end = {.kind = THREAD_MARK, .aux = t.aux, .frame = t.frame, .alt = t.alt};
    bool first = t.start + 1 == m->text.len, line_end = byte == '\n' || byte == '\r';
    bool after_cr = f->keeps_newline && !first && m->text.ptr[m->text.len - 2] == '\r'; /* would go with the line end */
    if (t.dfa->states[t.state].accepts && t.count >= t.alt->string.min && !after_cr) step_mark(m, end, byte);
    if (first && line_end && f->tagged && !f->keeps_newline) return;
    if (lex_plain(m, &t, byte, t.alt->string.max)) machine_emit(m, t);
}

/* ---- forbidden words ---- */

static const struct grammar_form *guard_of(const struct thread *t)
{
    if (t->kind == THREAD_RAW) return raw_form(t);
    if (t->kind == THREAD_MARK || t->kind == THREAD_TEXT || t->kind == THREAD_FREE || t->kind == THREAD_END)
        return NULL;
    return t->frame->form && t->frame->form->tagged && t->kind == THREAD_KEY ? NULL : t->frame->guard;
}

bool form_forbids(const struct machine *m, const struct thread *t, uint8_t byte)
{
    if (!t->frame->guard && t->kind != THREAD_RAW) return false;
    const struct grammar_form *f = guard_of(t);
    if (!f) return false;
    struct str text = buf_str(&m->text);
    for (size_t i = 0; i < FORM_FORBIDDEN && f->forbidden[i].len; i++) {
        struct str w = f->forbidden[i];
        if ((uint8_t)w.ptr[w.len - 1] == byte && str_ends(text, w)) return true;
    }
    return false;
}

/* How much of a forbidden word, and what else of the text before, decides what may follow. */
uint64_t form_hash(const struct machine *m, const struct thread *t)
{
    const struct grammar_form *f = guard_of(t);
    struct str text = buf_str(&m->text);
    uint64_t w[3] = {0, 0, 0};
    for (size_t i = 0; f && i < FORM_FORBIDDEN && f->forbidden[i].len; i++) {
        struct str word = f->forbidden[i];
        for (size_t k = word.len < text.len ? word.len - 1 : text.len; k > w[0]; k--)
            if (str_ends(text, str_slice(word, 0, k))) w[0] = k;
    }
    if (w[0]) w[2] = hash64(text.ptr + text.len - w[0], w[0], 93);
    if (t->kind == THREAD_RAW) w[1] = t->start == text.len ? 1 : text.ptr[text.len - 1] == '\r' ? 2 : 0;
    return hash64(w, sizeof w, 91);
}
