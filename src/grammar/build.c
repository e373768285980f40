/* build: grammars put together from parts, from the end to the beginning (grammar_put_...). Free text runs through an
 * automaton of its triggers (Aho-Corasick); triggers that count only at the start have a tree of their own in front. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "grammar/grammar_internal.h"

#define MAX_DEPTH 300

struct branch {
    struct str text; /* what is left of it */
    uint32_t target;
};

uint32_t program_split(struct grammar *g, uint32_t a, uint32_t b)
{
    if (a == OP_NOWHERE || b == OP_NOWHERE) return a == OP_NOWHERE ? b : a;
    return program_add(g, (struct op){.kind = OP_SPLIT, .a = a, .b = b});
}

struct grammar *grammar_begin(const struct grammar_options *o, struct err *e)
{
    struct err local;
    return grammar_new(o, e ? e : &local);
}

uint32_t grammar_put_end(struct grammar *g)
{
    return program_add(g, (struct op){.kind = OP_END});
}

uint32_t grammar_put_return(struct grammar *g)
{
    return program_add(g, (struct op){.kind = OP_RETURN});
}

uint32_t grammar_put_call(struct grammar *g, uint32_t rule, uint32_t next)
{
    if (rule == OP_NOWHERE || next == OP_NOWHERE) return OP_NOWHERE;
    return program_add(g, (struct op){.kind = OP_CALL, .a = rule, .b = next});
}

static uint32_t term_op(struct grammar *g, uint32_t term, uint32_t next)
{
    if (next == OP_NOWHERE) return next;
    struct dfa *d = dfa_get(g, term);
    return d ? program_add(g, (struct op){.kind = OP_TEXT, .dfa = d, .a = next}) : OP_NOWHERE;
}

uint32_t grammar_put_text(struct grammar *g, struct str text, uint32_t next)
{
    return text.len ? term_op(g, term_bytes(g, text), next) : next;
}

uint32_t grammar_put_choice(struct grammar *g, const uint32_t *places, size_t n)
{
    uint32_t all = OP_NOWHERE;
    for (size_t i = n; i-- > 0;) all = program_split(g, places[i], all);
    return all;
}

static int cmp_branch(const void *x, const void *y)
{
    return str_cmp(((const struct branch *)x)->text, ((const struct branch *)y)->text);
}

/* A trie over sorted branches that share their first `depth` bytes. */
static uint32_t trie(struct grammar *g, const struct branch *list, size_t n, size_t depth, unsigned level)
{
    struct str first = list[0].text, last = list[n - 1].text;
    size_t to = depth, i = 0;
    uint32_t all = OP_NOWHERE;
    while (to < first.len && to < last.len && first.ptr[to] == last.ptr[to]) to++;
    if (level > MAX_DEPTH) return OP_NOWHERE;
    for (; i < n && list[i].text.len == to; i++) all = program_split(g, all, list[i].target);
    while (i < n) {
        size_t from = i;
        while (i < n && list[i].text.ptr[to] == list[from].text.ptr[to]) i++;
        all = program_split(g, all, trie(g, list + from, i - from, to, level + 1));
        if (g->exhausted) return OP_NOWHERE;
    }
    return grammar_put_text(g, str_slice(first, depth, to), all);
}

uint32_t grammar_put_texts(struct grammar *g, const struct str *texts, const uint32_t *next, size_t n)
{
    struct branch *list = grammar_alloc(g, (n + 1) * sizeof *list);
    if (!list || n == 0) return OP_NOWHERE;
    for (size_t i = 0; i < n; i++) list[i] = (struct branch){texts[i], next[i]};
    qsort(list, n, sizeof *list, cmp_branch);
    return trie(g, list, n, 0, 0);
}

uint32_t grammar_put_regex(struct grammar *g, struct str pattern, uint32_t next, struct err *e)
{
    uint32_t term;
    struct err local = {0};
    return regex_parse(g, &term, pattern, e ? e : &local) ? term_op(g, term, next) : OP_NOWHERE;
}

/* The first `end` ends it: texts that hold `end` only once, and that at their end. */
uint32_t grammar_put_until(struct grammar *g, struct str end, uint32_t next)
{
    uint32_t any = g->terms.any_text, closed = term_cat(g, any, term_bytes(g, end));
    uint32_t longer = term_cat(g, closed, term_repeat(g, g->terms.any_char, 1, REPEAT_MAX));
    return term_op(g, end.len ? term_without(g, closed, longer) : any, next);
}

static struct grammar_form *copy_form(struct grammar *g, const struct grammar_form *form)
{
    struct grammar_form *f = grammar_alloc(g, sizeof *f);
    if (!f) return NULL;
    *f = *form;
    struct str *parts[] = {&f->key_open, &f->key_close, &f->value_close,    &f->between,
                           &f->close,    &f->quote,     &f->key_close_other};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i]->len) *parts[i] = grammar_str(g, *parts[i]);
    for (size_t i = 0; i < FORM_FORBIDDEN; i++)
        if (f->forbidden[i].len) f->forbidden[i] = grammar_str(g, f->forbidden[i]);
    struct grammar_form *words = f->words ? grammar_alloc(g, sizeof *words) : NULL;
    if (words) *words = (struct grammar_form){.words = true, .quotes = f->quotes, .json = true};
    f->inner = f->nested ? f : words;
    return f;
}

uint32_t grammar_put_form(struct grammar *g, struct str schema, const struct grammar_form *form, bool strict,
                          const char *where, uint32_t next, struct err *e)
{
    struct grammar_form *copy = copy_form(g, form);
    uint32_t at = copy ? grammar_put_value(g, schema, strict, where, next, e) : OP_NOWHERE;
    if (at != OP_NOWHERE) g->ops[at].form = copy;
    return at;
}

uint32_t grammar_put_value(struct grammar *g, struct str schema, bool is_strict, const char *where, uint32_t next,
                           struct err *e)
{
    if (next == OP_NOWHERE) return next;
    bool strict = g->strict;
    const char *before = g->where;
    struct err local = {0};
    if (!e) e = &local;
    g->strict = is_strict;
    if (where) where = grammar_str(g, str_from(where)).ptr; /* lasts as long as what is found out later */
    g->where = where;
    uint32_t entry = program_schema(g, schema, next, e);
    if (entry == OP_NOWHERE && e->kind != ERR_NONE && where && !str_starts(str_from(e->msg), str_from(where)))
        err_prefix(e, "%s: ", where);
    g->strict = strict;
    g->where = before;
    return entry;
}

bool grammar_put_fits(struct grammar *g, uint32_t place)
{
    return place != OP_NOWHERE && g->ops[place].kind == OP_VALUE && node_fits(g, g->ops[place].a);
}

uint32_t grammar_put_link(struct grammar *g)
{
    return program_add(g, (struct op){.kind = OP_JUMP, .a = OP_NOWHERE});
}

void grammar_set_link(struct grammar *g, uint32_t link, uint32_t place)
{
    if (link != OP_NOWHERE) g->ops[link].a = place;
}

bool grammar_set_opened(struct grammar *g, struct str text)
{
    g->opened = grammar_str(g, text);
    return g->opened.ptr != NULL;
}

void grammar_put_note(struct grammar *g, const char *fmt, ...)
{
    char line[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    buf_append(&g->notes, str_from(line));
    buf_append_char(&g->notes, '\n');
}

struct grammar *grammar_built(struct grammar *g, uint32_t entry, struct err *e)
{
    struct err local = {0};
    if (!e) e = &local;
    for (size_t i = 0; i < g->n_ops; i++) /* a link that leads nowhere: what it stood for could not be put */
        if (g->ops[i].kind == OP_JUMP && g->ops[i].a == OP_NOWHERE) entry = OP_NOWHERE;
    if (entry == OP_NOWHERE && !g->exhausted && g->refusal.kind == ERR_NONE) {
        if (e->kind == ERR_NONE) err_set(e, ERR_INVALID, "the grammar's parts do not lead to an end");
        grammar_unref(g);
        return NULL;
    }
    g->entry = entry;
    return grammar_give(g, e);
}

/* ---- free text ---- */

#define ROW 257 /* next state by byte; then the target of a trigger that is complete here */

struct words { /* the automaton while it is made */
    uint32_t *table, *fail, *order, n;
};

static void add_word(struct words *w, uint32_t root, const struct grammar_trigger *t)
{
    uint32_t s = root;
    for (size_t k = 0; k < t->text.len; k++) {
        uint32_t *to = &w->table[(size_t)s * ROW + (uint8_t)t->text.ptr[k]];
        if (*to == OP_NOWHERE) *to = w->n++;
        s = *to;
    }
    w->table[(size_t)s * ROW + 256] = t->target;
}

/* Fills the edges of the tree under root that lead elsewhere than down: to where the longest end of what was read
 * stands in the tree under `base`. Breadth first: a state's own fallback is done before it. */
static void link_failures(struct words *w, uint32_t root, uint32_t base)
{
    uint32_t done = 0, total = 1;
    w->order[0] = root;
    w->fail[root] = base;
    while (done < total) {
        uint32_t s = w->order[done++];
        for (unsigned b = 0; b < 256; b++) {
            uint32_t *to = &w->table[(size_t)s * ROW + b];
            uint32_t other = s == base ? base : w->table[(size_t)w->fail[s] * ROW + b];
            if (*to == OP_NOWHERE) {
                *to = other;
            } else if (*to != s) {
                w->fail[*to] = other;
                w->order[total++] = *to;
            }
        }
        uint32_t *end = &w->table[(size_t)s * ROW + 256];
        if (*end == OP_NOWHERE && s != base) *end = w->table[(size_t)w->fail[s] * ROW + 256];
    }
}

static bool fill_free(struct grammar *g, struct op *op, const struct grammar_trigger *list, size_t n)
{
    size_t total = 2;
    bool anchored = false;
    for (size_t i = 0; i < n; i++) {
        total += list[i].text.len;
        anchored |= list[i].at_start;
    }
    struct words w = {.table = grammar_alloc(g, total * ROW * sizeof *w.table),
                      .fail = grammar_alloc(g, total * sizeof *w.fail),
                      .order = grammar_alloc(g, total * sizeof *w.order),
                      .n = anchored ? 2 : 1};
    if (!w.table || !w.fail || !w.order) return false;
    for (size_t i = 0; i < total * ROW; i++) w.table[i] = OP_NOWHERE;
    uint32_t base = anchored ? 1 : 0;
    for (size_t i = 0; i < n; i++)
        if (list[i].text.len) add_word(&w, list[i].at_start ? 0 : base, &list[i]);
    link_failures(&w, base, base);
    if (anchored) {
        for (const char *space = " \t\r\n"; *space; space++)
            if (w.table[(uint8_t)*space] == OP_NOWHERE) w.table[(uint8_t)*space] = 0;
        link_failures(&w, 0, base);
    }
    op->table = w.table;
    return true;
}

uint32_t grammar_put_free(struct grammar *g, const struct grammar_trigger *list, size_t n, bool may_end)
{
    struct op op = {.kind = OP_FREE, .may_end = may_end};
    return fill_free(g, &op, list, n) ? program_add(g, op) : OP_NOWHERE;
}
