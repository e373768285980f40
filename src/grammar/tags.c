/* tags: free text with calls in it, as a program. Free text runs through an automaton of the triggers (Aho-Corasick);
 * where one ends, the tags that begin so are followed as a trie, then a tag's content and its end, and then text or
 * calls again. */
#include <string.h>

#include "base/alloc.h"
#include "grammar/grammar_internal.h"

#define MAX_TAGS 4096
#define MAX_TRIGGER_BYTES 4096
#define MAX_DEPTH 300

struct branch {
    struct str text; /* what is left of the begin */
    uint32_t target;
};

static uint32_t text_op(struct grammar *g, struct str text, uint32_t next)
{
    if (text.len == 0 || next == OP_NOWHERE) return next;
    struct dfa *d = dfa_get(g, term_bytes(g, text));
    return d ? program_add(g, (struct op){.kind = OP_TEXT, .dfa = d, .a = next}) : OP_NOWHERE;
}

static uint32_t split(struct grammar *g, uint32_t a, uint32_t b)
{
    if (a == OP_NOWHERE || b == OP_NOWHERE) return a == OP_NOWHERE ? b : a;
    return program_add(g, (struct op){.kind = OP_SPLIT, .a = a, .b = b});
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
    for (; i < n && list[i].text.len == to; i++) all = split(g, all, list[i].target);
    while (i < n) {
        size_t from = i;
        while (i < n && list[i].text.ptr[to] == list[from].text.ptr[to]) i++;
        all = split(g, all, trie(g, list + from, i - from, to, level + 1));
        if (g->exhausted) return OP_NOWHERE;
    }
    return text_op(g, str_slice(first, depth, to), all);
}

/* The first `end` ends it: texts that hold `end` only once, and that at their end. */
static uint32_t any_text_op(struct grammar *g, struct str end, uint32_t next)
{
    uint32_t any = g->terms.any_text, closed = term_cat(g, any, term_bytes(g, end));
    uint32_t longer = term_cat(g, closed, term_repeat(g, g->terms.any_char, 1, REPEAT_MAX));
    struct dfa *d = dfa_get(g, end.len ? term_without(g, closed, longer) : any);
    return d ? program_add(g, (struct op){.kind = OP_TEXT, .dfa = d, .a = next}) : OP_NOWHERE;
}

static uint32_t content(struct grammar *g, const struct grammar_tag *t, uint32_t next, struct err *e)
{
    bool strict = g->strict;
    const char *where = g->where;
    uint32_t term, entry = OP_NOWHERE;
    struct dfa *d;
    g->strict = t->strict;
    g->where = t->where;
    if (t->kind == GRAMMAR_TAG_ANY_TEXT) entry = any_text_op(g, t->end, next);
    else {
        next = text_op(g, t->end, next);
        if (t->kind == GRAMMAR_TAG_SCHEMA) entry = program_schema(g, t->content, next, e);
        else if (t->kind == GRAMMAR_TAG_GBNF) entry = program_gbnf(g, t->content, next, e);
        else if (regex_parse(g, &term, t->content, e) && (d = dfa_get(g, term)))
            entry = program_add(g, (struct op){.kind = OP_TEXT, .dfa = d, .a = next});
    }
    if (entry == OP_NOWHERE && e->kind != ERR_NONE && t->where && !str_starts(str_from(e->msg), str_from(t->where)))
        err_prefix(e, "%s: ", t->where);
    if (entry == OP_NOWHERE && e->kind == ERR_NONE)
        err_set(e, ERR_TOO_LARGE, "%s: needs too much memory", t->where ? t->where : "a tag");
    g->strict = strict;
    g->where = where;
    return entry;
}

/* ---- free text ---- */

#define ROW 257 /* next state by byte; then the target of a trigger that is complete here */

static void link_failures(uint32_t *table, uint32_t n, const uint32_t *order, uint32_t *fail)
{
    for (unsigned b = 0; b < 256; b++)
        if (table[b] == OP_NOWHERE) table[b] = 0;
    for (uint32_t k = 1; k < n; k++) { /* in order of depth: a state's failure is done before it */
        uint32_t s = order[k];
        for (unsigned b = 0; b < 256; b++) {
            uint32_t *to = &table[(size_t)s * ROW + b], other = table[(size_t)fail[s] * ROW + b];
            if (*to == OP_NOWHERE) *to = other;
            else fail[*to] = other;
        }
        if (table[(size_t)s * ROW + 256] == OP_NOWHERE)
            table[(size_t)s * ROW + 256] = table[(size_t)fail[s] * ROW + 256];
    }
}

/* Fills a free-text op whose triggers lead to targets[i]. */
static bool fill_free(struct grammar *g, uint32_t op, const struct str *triggers, const uint32_t *targets, size_t n)
{
    uint32_t n_states = 1, done = 1, total = 1;
    for (size_t i = 0; i < n; i++) total += (uint32_t)triggers[i].len;
    uint32_t *table = grammar_alloc(g, (size_t)total * ROW * sizeof *table),
             *fail = grammar_alloc(g, total * sizeof *fail), *order = grammar_alloc(g, total * sizeof *order);
    if (!table || !fail || !order) return false;
    for (size_t i = 0; i < (size_t)total * ROW; i++) table[i] = OP_NOWHERE;
    for (size_t i = 0; i < n; i++) {
        uint32_t s = 0;
        for (size_t k = 0; k < triggers[i].len; k++) {
            uint32_t *to = &table[(size_t)s * ROW + (uint8_t)triggers[i].ptr[k]];
            if (*to == OP_NOWHERE) *to = n_states++;
            s = *to;
        }
        table[(size_t)s * ROW + 256] = targets[i];
    }
    for (uint32_t k = 0; k < done; k++) /* breadth first */
        for (unsigned b = 0; b < 256; b++) {
            uint32_t to = table[(size_t)order[k] * ROW + b];
            if (to != OP_NOWHERE) order[done++] = to;
        }
    link_failures(table, n_states, order, fail);
    g->ops[op].table = table;
    return true;
}

static bool valid(const struct grammar_tags *t, struct err *e)
{
    size_t bytes = 0;
    if (t->n_tags == 0 || t->n_tags > MAX_TAGS)
        return err_set(e, ERR_INVALID, "%zu tags; 1 to %d are supported", t->n_tags, MAX_TAGS);
    for (size_t i = 0; i < t->n_triggers; i++) {
        bytes += t->triggers[i].len;
        if (t->triggers[i].len == 0) return err_set(e, ERR_INVALID, "a trigger is empty");
    }
    if (bytes > MAX_TRIGGER_BYTES)
        return err_set(e, ERR_INVALID, "triggers of %zu bytes; at most %d are supported", bytes, MAX_TRIGGER_BYTES);
    if (!t->forced && t->n_triggers == 0) return err_set(e, ERR_INVALID, "free text without a trigger");
    for (size_t i = 0; i < t->n_tags; i++) {
        size_t k = 0;
        if (t->tags[i].begin.len == 0) return err_set(e, ERR_INVALID, "tag %zu has an empty begin", i);
        while (k < t->n_triggers && !str_starts(t->tags[i].begin, t->triggers[k])) k++;
        if (t->n_triggers && k == t->n_triggers)
            return err_set(e, ERR_INVALID, "tag %zu begins with none of the triggers", i);
    }
    return true;
}

/* The tags that begin with `trigger`, behind it. */
static uint32_t dispatch(struct grammar *g, struct branch *list, const struct grammar_tags *t, const uint32_t *targets,
                         struct str trigger)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n_tags; i++)
        if (str_starts(t->tags[i].begin, trigger))
            list[n++] = (struct branch){str_slice(t->tags[i].begin, trigger.len, t->tags[i].begin.len), targets[i]};
    if (n == 0) return OP_NOWHERE;
    qsort(list, n, sizeof *list, cmp_branch);
    return trie(g, list, n, 0, 0);
}

static bool assemble(struct grammar *g, const struct grammar_tags *t, struct err *e)
{
    struct branch *list = grammar_alloc(g, t->n_tags * sizeof *list);
    uint32_t *targets = grammar_alloc(g, t->n_tags * sizeof *targets),
             *starts = grammar_alloc(g, (t->n_triggers + 1) * sizeof *starts);
    if (!list || !targets || !starts) return false;
    bool again = !t->single;
    uint32_t end = program_add(g, (struct op){.kind = OP_END});
    uint32_t more = program_add(g, (struct op){.kind = OP_JUMP, .a = end}); /* calls again: known only later */
    uint32_t text = program_add(g, (struct op){.kind = OP_FREE, .may_end = true});
    uint32_t plain = program_add(g, (struct op){.kind = OP_FREE, .may_end = true}); /* text without calls */
    if (plain == OP_NOWHERE) return false;
    uint32_t after = again ? split(g, end, more) : end;
    if (t->text_after) after = split(g, after, again && t->n_triggers ? text : plain);
    for (size_t i = 0; i < t->n_tags; i++)
        if ((targets[i] = content(g, &t->tags[i], after, e)) == OP_NOWHERE) return false;
    uint32_t all = dispatch(g, list, t, targets, STR_NONE);
    uint32_t next = again ? text_op(g, t->between, all) : end;
    if (all == OP_NOWHERE || next == OP_NOWHERE) return false;
    g->ops[more].a = next;
    for (size_t i = 0; i < t->n_triggers; i++) starts[i] = dispatch(g, list, t, targets, t->triggers[i]);
    if (!fill_free(g, text, t->triggers, starts, t->n_triggers) || !fill_free(g, plain, NULL, NULL, 0)) return false;
    g->entry = t->forced ? all : text;
    return !g->exhausted;
}

struct grammar *grammar_from_tags(const struct grammar_tags *t, const struct grammar_options *o, struct err *e)
{
    struct err local;
    if (!e) e = &local;
    e->kind = ERR_NONE;
    if (!valid(t, e)) return NULL;
    struct grammar *g = grammar_new(o, e);
    if (!g) return NULL;
    if (!assemble(g, t, e)) {
        if (e->kind == ERR_NONE)
            err_set(e, ERR_TOO_LARGE, "the tags need more than the budget of %zu bytes", o->max_bytes);
        grammar_unref(g);
        return NULL;
    }
    return grammar_give(g, e);
}
