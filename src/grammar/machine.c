/* machine: one byte at a time. Values, literals, numbers and the steps between programs and values; strings are in
 * lexeme.c, objects and arrays in container.c. Generated text is held to what can still be completed; a liberal machine
 * (whole-text checks) takes every spelling JSON has and decides at the end of each value. */
#include "grammar/machine_internal.h"

#include "base/alloc.h"
#include "base/hash.h"

#define MAX_TEXT (256u << 20)

/* ---- memory ---- */

void *pool_alloc(struct pool *p, size_t size)
{
    size = (size + 15) & ~(size_t)15;
    if (size > POOL_CHUNK) return NULL;
    if (p->n_chunks && p->used + size <= POOL_CHUNK) {
        void *r = p->chunks[p->at] + p->used;
        p->used += size;
        return r;
    }
    size_t next = p->n_chunks ? p->at + 1 : 0;
    if (next == p->n_chunks) {
        if (p->n_chunks == p->max_chunks) return NULL;
        if (p->n_chunks == p->cap) {
            size_t cap = p->cap ? p->cap * 2 : 4;
            char **more = mem_try_realloc(p->chunks, cap * sizeof *more);
            if (!more) return NULL;
            p->chunks = more;
            p->cap = cap;
        }
        char *chunk = mem_try_alloc(POOL_CHUNK);
        if (!chunk) return NULL;
        p->chunks[p->n_chunks++] = chunk;
    }
    p->at = next;
    p->used = size;
    return p->chunks[next];
}

struct pool_mark pool_mark(const struct pool *p)
{
    return (struct pool_mark){p->at, p->used};
}

void pool_release(struct pool *p, struct pool_mark mark)
{
    p->at = mark.at;
    p->used = mark.used;
}

bool machine_init(struct machine *m, struct grammar *g, bool liberal)
{
    *m = (struct machine){.g = g, .liberal = liberal};
    m->pool.max_chunks = (256u << 20) / POOL_CHUNK;
    m->cap_out = 256;
    m->out = mem_try_alloc(m->cap_out * sizeof *m->out);
    buf_init(&m->text, MAX_TEXT);
    return m->out != NULL;
}

void machine_deinit(struct machine *m)
{
    for (size_t i = 0; i < m->pool.n_chunks; i++) mem_free(m->pool.chunks[i]);
    mem_free(m->pool.chunks);
    mem_free(m->out);
    mem_free(m->seen);
    buf_deinit(&m->text);
}

static bool same_thread(const struct thread *a, const struct thread *b)
{
    if (a->kind != b->kind || a->state != b->state || a->alt != b->alt || a->dfa != b->dfa || a->count != b->count ||
        a->aux != b->aux || a->escape != b->escape || a->hex != b->hex || a->high != b->high)
        return false;
    if (a->frame == b->frame) return true;
    return a->frame && b->frame && a->frame->hash == b->frame->hash;
}

static uint32_t thread_slot(const struct thread *t)
{
    uint64_t h = (uint64_t)t->kind * 0x9e3779b97f4a7c15u + t->state;
    h = (h ^ (uintptr_t)t->alt) * 0xbf58476d1ce4e5b9u + t->count;
    h = (h ^ (uintptr_t)t->dfa ^ t->escape) * 0x94d049bb133111ebu + t->aux + t->hex;
    h = (h ^ (t->frame ? t->frame->hash : 0)) * 0xbf58476d1ce4e5b9u;
    return (uint32_t)(h >> 32) % SEEN_SLOTS;
}

/* False when the same thread is there already. */
static bool seen_add(struct machine *m, const struct thread *t, size_t index)
{
    uint32_t at = thread_slot(t);
    for (; m->seen[at]; at = (at + 1) % SEEN_SLOTS)
        if (same_thread(&m->out[m->seen[at] - 1], t)) return false;
    m->seen[at] = (uint32_t)index + 1;
    return true;
}

/* Whether t is new among out[from, n_out): one by one while they are few, by a table when they are many. */
static bool is_new(struct machine *m, const struct thread *t)
{
    size_t n = m->n_out - m->from;
    if (n < FEW_THREADS) {
        for (size_t i = m->from; i < m->n_out; i++)
            if (same_thread(&m->out[i], t)) return false;
        return true;
    }
    if (!m->seen && !(m->seen = mem_try_alloc(SEEN_SLOTS * sizeof *m->seen))) return m->failed = true, false;
    if (m->seen_from != m->from || m->seen_n != n) {
        memset(m->seen, 0, SEEN_SLOTS * sizeof *m->seen);
        for (size_t i = m->from; i < m->n_out; i++) seen_add(m, &m->out[i], i);
        m->seen_from = m->from;
        m->seen_n = n;
    }
    if (!seen_add(m, t, m->n_out)) return false;
    m->seen_n++;
    return true;
}

void machine_emit(struct machine *m, struct thread t)
{
    if (m->n_out - m->from >= MAX_THREADS) return; /* further readings are given up: refuses more, accepts no more */
    if (is_new(m, &t)) machine_push(m, t);
}

void machine_push(struct machine *m, struct thread t)
{
    if (m->n_out == m->cap_out) {
        struct thread *more = mem_try_realloc(m->out, m->cap_out * 2 * sizeof *more);
        if (!more) {
            m->failed = true;
            return;
        }
        m->out = more;
        m->cap_out *= 2;
    }
    m->out[m->n_out++] = t;
}

/* ---- programs ---- */

static const struct frame *call_frame(struct machine *m, uint32_t pc, const struct grammar_form *form,
                                      const struct frame *up)
{
    struct frame *f = pool_alloc(&m->pool, sizeof *f);
    if (!f) {
        m->failed = true;
        return NULL;
    }
    *f = (struct frame){.up = up, .kind = FRAME_CALL, .pc = pc, .inner = form, .text = up ? up->text : NO_TEXT};
    uint64_t w[4] = {pc, up ? up->hash : 0, FRAME_CALL, (uint64_t)(uintptr_t)form};
    f->hash = hash64(w, sizeof w, 5);
    return f;
}

struct place {
    uint32_t pc;
    const struct frame *frame;
};

void machine_go(struct machine *m, uint32_t pc, const struct frame *frame)
{
    struct place todo[256];
    size_t n = 1, done = 0;
    todo[0] = (struct place){pc, frame};
    while (done < n && !m->failed) {
        struct place p = todo[done++], next[2];
        const struct op *op = &m->g->ops[p.pc];
        size_t k = 0;
        switch (op->kind) {
        case OP_END: machine_emit(m, (struct thread){.kind = THREAD_END}); break;
        case OP_SPLIT:
            next[k++] = (struct place){op->a, p.frame};
            next[k++] = (struct place){op->b, p.frame};
            break;
        case OP_JUMP: next[k++] = (struct place){op->a, p.frame}; break;
        case OP_CALL: {
            bool tail = m->g->ops[op->b].kind == OP_RETURN;
            next[k++] = (struct place){op->a, tail ? p.frame : call_frame(m, op->b, NULL, p.frame)};
            break;
        }
        case OP_RETURN:
            if (p.frame) next[k++] = (struct place){p.frame->pc, p.frame->up};
            break;
        case OP_VALUE: {
            const struct frame *f = call_frame(m, op->b, op->form, p.frame);
            if (op->form && !op->form->braces) form_open(m, op->a, f);
            else machine_emit(m, (struct thread){.kind = THREAD_VALUE, .state = op->a, .frame = f});
            break;
        }
        case OP_TEXT:
            machine_emit(m, (struct thread){.kind = THREAD_TEXT, .dfa = op->dfa, .aux = p.pc, .frame = p.frame});
            if (op->dfa->states[0].accepts) next[k++] = (struct place){op->a, p.frame};
            break;
        default: machine_emit(m, (struct thread){.kind = THREAD_FREE, .aux = p.pc, .frame = p.frame});
        }
        for (size_t i = 0; i < k; i++) {
            size_t j = 0;
            while (j < n && (todo[j].pc != next[i].pc ||
                             (todo[j].frame != next[i].frame &&
                              (!todo[j].frame || !next[i].frame || todo[j].frame->hash != next[i].frame->hash))))
                j++;
            if (j == n && n < 256) todo[n++] = next[i];
        }
    }
}

void machine_value_done(struct machine *m, const struct frame *frame, size_t end)
{
    if (!frame) return;
    if (frame->kind == FRAME_CALL) machine_go(m, frame->pc, frame->up);
    else if (frame->kind == FRAME_OBJECT && frame->form) form_value_done(m, frame);
    else if (frame->kind == FRAME_OBJECT || array_accepts(m, &frame, end))
        machine_emit(m, (struct thread){.kind = THREAD_AFTER, .frame = frame});
}

/* ---- white space ---- */

bool take_space(struct machine *m, struct thread *t, uint8_t byte)
{
    if (byte != ' ' && byte != '\n' && byte != '\t' && byte != '\r') return false;
    bool outside = t->kind == THREAD_END || (t->kind == THREAD_VALUE && t->frame && t->frame->kind == FRAME_CALL);
    if (!m->liberal && (outside || t->space >= m->g->max_space)) return true;
    if (t->space < UINT16_MAX) t->space++;
    machine_emit(m, *t);
    return true;
}

/* ---- numbers ---- */

enum { NUM_NONE, NUM_MINUS, NUM_ZERO, NUM_INT, NUM_POINT, NUM_FRAC, NUM_E, NUM_SIGN, NUM_EXP };

static unsigned number_next(unsigned at, uint8_t c)
{
    bool digit = c >= '0' && c <= '9', e = c == 'e' || c == 'E';
    switch (at) {
    case NUM_NONE:
        if (c == '-') return NUM_MINUS;
        /* fall through */
    case NUM_MINUS: return c == '0' ? NUM_ZERO : digit ? NUM_INT : NUM_NONE;
    case NUM_INT:
        if (digit) return NUM_INT;
        /* fall through */
    case NUM_ZERO: return c == '.' ? NUM_POINT : e ? NUM_E : NUM_NONE;
    case NUM_POINT: return digit ? NUM_FRAC : NUM_NONE;
    case NUM_FRAC: return digit ? NUM_FRAC : e ? NUM_E : NUM_NONE;
    case NUM_E:
        if (c == '+' || c == '-') return NUM_SIGN;
        /* fall through */
    default: return digit ? NUM_EXP : NUM_NONE;
    }
}

static bool number_final(unsigned at)
{
    return at == NUM_ZERO || at == NUM_INT || at == NUM_FRAC || at == NUM_EXP;
}

bool number_may_end(const struct machine *m, const struct thread *t)
{
    return number_final(t->state) && number_fits(&t->alt->number, str_slice(buf_str(&m->text), t->start, m->text.len));
}

static void step_number(struct machine *m, struct thread t, uint8_t byte)
{
    unsigned next = number_next(t.state, byte);
    struct str whole = str_slice(buf_str(&m->text), t.start, m->text.len);
    if (next != NUM_NONE) {
        t.state = next;
        bool viable = m->liberal || number_viable(&t.alt->number, whole);
        if (viable && unique_viable(m, &t, STR_NONE)) machine_emit(m, t);
        return;
    }
    whole.len--;
    if (!number_final(t.state) || !number_fits(&t.alt->number, whole) || m->nesting > 1) return;
    /* The byte belongs to what follows the number: go there, then take it. */
    struct thread after[16];
    size_t from = m->from, mark = m->n_out, n;
    m->from = mark;
    machine_value_done(m, t.frame, m->text.len - 1);
    n = m->n_out - mark;
    if (n > 16) n = 16;
    memcpy(after, m->out + mark, n * sizeof *after);
    m->n_out = mark;
    m->from = from;
    m->nesting++;
    for (size_t i = 0; i < n; i++) step_thread(m, after[i], byte);
    m->nesting--;
}

/* ---- values ---- */

static const struct literal {
    const char *text;
    size_t len;
} literals[] = {{"true", 4}, {"false", 5}, {"null", 4}, {"True", 4}, {"False", 5}, {"None", 4}};

void start_string(struct machine *m, struct alt *a, const struct frame *frame, uint8_t quote)
{
    struct thread t = {.kind = THREAD_STRING,
                       .alt = a,
                       .dfa = a->string.dfa,
                       .frame = frame,
                       .start = (uint32_t)m->text.len,
                       .aux = frame && frame->inner && frame->inner->quotes ? quote : 0};
    if (unique_viable(m, &t, STR_NONE)) machine_emit(m, t);
}

static void start_alt(struct machine *m, struct alt *a, const struct frame *frame, uint8_t byte)
{
    struct thread t = {.alt = a, .frame = frame, .start = (uint32_t)(m->text.len - 1)};
    uint32_t capital = 0;
    switch (byte) {
    case '\'':
    case '"':
        if (a->type == TYPE_STR) start_string(m, a, frame, byte);
        return;
    case '{':
        if (a->type == TYPE_OBJ) open_object(m, a, frame);
        return;
    case '[':
        if (a->type == TYPE_ARR) open_array(m, a, frame);
        return;
    case 'T':
    case 'F':
    case 'N': byte = (uint8_t)(byte | 0x20); capital = 3; /* fall through */
    case 't':
    case 'f':
    case 'n':
        if (byte == 'n' ? a->type != TYPE_NULL : a->type != TYPE_BOOL || !(a->bools & (byte == 't' ? 2 : 1))) return;
        t.kind = THREAD_LITERAL;
        t.alt = NULL;
        t.state = 1;
        t.aux = capital + (byte == 't' ? 0 : byte == 'f' ? 1 : 2);
        if (unique_viable(m, &t, str_from(literals[t.aux % 3].text))) machine_emit(m, t);
        return;
    default:
        if (a->type != TYPE_INT) return;
        t.kind = THREAD_NUMBER;
        t.state = NUM_NONE;
        step_number(m, t, byte);
    }
}

static void step_value(struct machine *m, struct thread t, uint8_t byte)
{
    const struct grammar_form *form = t.frame ? t.frame->inner : NULL;
    if (take_space(m, &t, byte)) return;
    bool quote = form && form->quote.len && (byte == (uint8_t)form->quote.ptr[0] || byte == (uint8_t)GRAMMAR_CONTROL);
    bool word = form && ((form->words && strchr("TFN", byte)) || (form->quotes && byte == '\''));
    if (!quote && !word && !strchr("\"{[tfn-0123456789", byte)) return;
    if (byte == 0 || !node_expand(m->g, t.state)) return;
    bool tagged = t.frame && t.frame->form && t.frame->form->tagged; /* its strings are raw, not values */
    for (uint32_t i = 0; i < m->g->nodes[t.state].n_alts; i++) {
        struct alt *a = m->g->nodes[t.state].alts[i];
        if ((a->type == TYPE_OBJ || a->type == TYPE_ARR) && byte != '{' && byte != '[') continue;
        if (!m->liberal && !alt_fits(m->g, a)) continue;
        if (a->type == TYPE_STR && (tagged || (form && form_start_string(m, a, t.frame, byte)))) continue;
        start_alt(m, a, t.frame, byte);
    }
}

static void step_literal(struct machine *m, struct thread t, uint8_t byte)
{
    const struct literal *l = &literals[t.aux];
    if ((uint8_t)l->text[t.state] != byte) return;
    if (++t.state == l->len) machine_value_done(m, t.frame, m->text.len);
    else machine_emit(m, t);
}

static void step_text(struct machine *m, struct thread t, uint8_t byte)
{
    int32_t to = m->liberal ? dfa_step(m->g, t.dfa, t.state, byte) : dfa_lead(m->g, t.dfa, t.state, byte);
    if (to < 0) return;
    t.state = (uint32_t)to;
    machine_emit(m, t);
    if (t.dfa->states[to].accepts) machine_go(m, m->g->ops[t.aux].a, t.frame);
}

static void step_free(struct machine *m, struct thread t, uint8_t byte)
{
    const struct op *op = &m->g->ops[t.aux];
    uint32_t to = op->table[(size_t)t.state * 257 + byte];
    uint32_t target = op->table[(size_t)to * 257 + 256];
    t.state = to;
    if (target == OP_NOWHERE) machine_emit(m, t);
    else machine_go(m, target, t.frame);
}

void step_thread(struct machine *m, struct thread t, uint8_t byte)
{
    if (t.frame && form_forbids(m, &t, byte)) return;
    switch (t.kind) {
    case THREAD_VALUE: step_value(m, t, byte); return;
    case THREAD_LITERAL: step_literal(m, t, byte); return;
    case THREAD_NUMBER: step_number(m, t, byte); return;
    case THREAD_STRING:
        switch (lex_string(m, &t, byte, t.alt->string.min, t.alt->string.max)) {
        case LEX_MORE:
            if (unique_viable(m, &t, STR_NONE)) machine_emit(m, t);
            return;
        case LEX_CLOSED: machine_value_done(m, t.frame, m->text.len); return;
        default: return;
        }
    case THREAD_MARK: step_mark(m, t, byte); return;
    case THREAD_RAW: step_raw(m, t, byte); return;
    case THREAD_TEXT: step_text(m, t, byte); return;
    case THREAD_FREE: step_free(m, t, byte); return;
    case THREAD_END:
        if (m->g->json_only) take_space(m, &t, byte);
        return;
    case THREAD_EMPTY: step_array(m, t, byte); return;
    case THREAD_AFTER:
        if (t.frame->kind == FRAME_ARRAY) step_array(m, t, byte);
        else step_object(m, t, byte);
        return;
    default: step_object(m, t, byte);
    }
}

void machine_start(struct machine *m)
{
    m->from = m->n_out;
    machine_go(m, m->g->entry, NULL);
}

bool machine_step(struct machine *m, size_t from, size_t to, uint8_t byte)
{
    size_t mark = m->n_out;
    m->from = mark;
    m->seen_from = SIZE_MAX;
    for (size_t i = from; i < to; i++) step_thread(m, m->out[i], byte);
    if (m->failed) m->n_out = mark;
    return m->n_out > mark;
}

bool machine_may_end(struct machine *m, const struct thread *t, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct thread x = t[i];
        if (x.kind == THREAD_END) return true;
        if (x.kind == THREAD_FREE && m->g->ops[x.aux].may_end) return true;
        if (x.kind != THREAD_NUMBER || !x.frame || x.frame->kind != FRAME_CALL || !number_final(x.state)) continue;
        if (!number_fits(&x.alt->number, str_slice(buf_str(&m->text), x.start, m->text.len))) continue;
        size_t from = m->from, mark = m->n_out, at = (size_t)(t - m->out);
        bool inside = t >= m->out && t < m->out + m->cap_out, end = false;
        m->from = mark;
        machine_value_done(m, x.frame, m->text.len);
        for (size_t k = mark; k < m->n_out; k++) end |= m->out[k].kind == THREAD_END;
        m->n_out = mark;
        m->from = from;
        if (inside) t = m->out + at;
        if (end) return true;
    }
    return false;
}

static uint32_t clamp_count(const struct thread *t, uint32_t longest)
{
    const struct string_alt *s = &t->alt->string;
    if (t->kind != THREAD_STRING && t->kind != THREAD_RAW) return 0;
    if (s->min > t->count && s->min - t->count > longest) return UINT32_MAX;
    if (t->count >= s->min && (s->max == REPEAT_MAX || s->max - t->count > longest)) return UINT32_MAX - 1;
    return t->count;
}

/* Text from here on decides about what may follow; NO_TEXT: only what the thread itself says. */
static uint32_t text_from(struct machine *m, const struct thread *t, uint64_t *hash)
{
    uint32_t from = t->frame ? t->frame->text : NO_TEXT;
    bool own = t->kind == THREAD_NUMBER || (t->kind == THREAD_KEY && key_is_textual(m, t, hash));
    return own && t->start < from ? t->start : from;
}

uint64_t machine_hash(struct machine *m, const struct thread *t, size_t n, uint32_t longest, bool walking,
                      bool *textual)
{
    uint64_t h = n;
    *textual = false;
    for (size_t i = 0; i < n; i++) {
        const struct thread *x = &t[i];
        uint64_t w[7] = {(uint64_t)x->kind | (uint64_t)x->escape << 8 | (uint64_t)x->hex << 16 |
                             (uint64_t)x->high << 32,
                         x->state | (uint64_t)x->aux << 32,
                         x->space + longest >= m->g->max_space ? x->space : 0,
                         x->frame ? x->frame->hash : 0,
                         x->dfa ? x->dfa->id + 1 : 0,
                         x->alt ? x->alt->id + 1 : 0,
                         0};
        bool counted = x->kind == THREAD_STRING || x->kind == THREAD_RAW;
        bool placed = x->kind == THREAD_KEY || x->kind == THREAD_NUMBER || x->kind == THREAD_RAW;
        if (counted) w[6] = clamp_count(x, longest);
        if (x->kind == THREAD_MARK) w[6] = (uint64_t)x->count << 32 | x->space; /* the node behind a key */
        if (placed && x->start == m->text.len) w[2] |= 1u << 16;                /* nothing of it is written */
        if (walking && placed) w[2] |= (uint64_t)x->start << 32;
        if (x->frame && (x->frame->guard || x->kind == THREAD_RAW)) h ^= form_hash(m, x);
        h = hash64(w, sizeof w, h);
        uint32_t from = text_from(m, x, &h);
        if (from == NO_TEXT) continue;
        struct str s = str_slice(buf_str(&m->text), from, m->text.len);
        h = hash64(s.ptr, s.len, h);
        *textual = true;
    }
    return h;
}
