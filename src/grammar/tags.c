/* tags: free text with calls in it, as a program: where a trigger ends, the tags that begin so are followed as a trie,
 * then a tag's content and its end, and then text or calls again. */
#include <string.h>

#include "base/alloc.h"
#include "grammar/grammar_internal.h"

#define MAX_TAGS 4096
#define MAX_TRIGGER_BYTES 4096

static uint32_t content(struct grammar *g, const struct grammar_tag *t, uint32_t next, struct err *e)
{
    bool strict = g->strict;
    const char *where = g->where;
    uint32_t term, entry = OP_NOWHERE;
    struct dfa *d;
    g->strict = t->strict;
    g->where = t->where;
    if (t->kind == GRAMMAR_TAG_ANY_TEXT) entry = grammar_put_until(g, t->end, next);
    else {
        next = grammar_put_text(g, t->end, next);
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
static uint32_t dispatch(struct grammar *g, struct str *texts, uint32_t *next, const struct grammar_tags *t,
                         const uint32_t *targets, struct str trigger)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n_tags; i++) {
        struct str begin = t->tags[i].begin;
        if (!str_starts(begin, trigger)) continue;
        texts[n] = str_slice(begin, trigger.len, begin.len);
        next[n++] = targets[i];
    }
    return grammar_put_texts(g, texts, next, n);
}

static bool assemble(struct grammar *g, const struct grammar_tags *t, struct err *e)
{
    struct str *texts = grammar_alloc(g, t->n_tags * sizeof *texts);
    uint32_t *next = grammar_alloc(g, t->n_tags * sizeof *next),
             *targets = grammar_alloc(g, t->n_tags * sizeof *targets);
    struct grammar_trigger *triggers = grammar_alloc(g, (t->n_triggers + 1) * sizeof *triggers);
    if (!texts || !next || !targets || !triggers) return false;
    bool again = !t->single;
    uint32_t end = grammar_put_end(g), more = grammar_put_link(g), text = grammar_put_link(g); /* known only later */
    uint32_t plain = grammar_put_free(g, NULL, 0, true);                                       /* text without calls */
    uint32_t after = again ? program_split(g, end, more) : end;
    if (t->text_after) after = program_split(g, after, again && t->n_triggers ? text : plain);
    for (size_t i = 0; i < t->n_tags; i++)
        if ((targets[i] = content(g, &t->tags[i], after, e)) == OP_NOWHERE) return false;
    uint32_t all = dispatch(g, texts, next, t, targets, STR_NONE);
    grammar_set_link(g, more, again ? grammar_put_text(g, t->between, all) : end);
    for (size_t i = 0; i < t->n_triggers; i++)
        triggers[i] =
            (struct grammar_trigger){t->triggers[i], dispatch(g, texts, next, t, targets, t->triggers[i]), false};
    grammar_set_link(g, text, grammar_put_free(g, triggers, t->n_triggers, true));
    g->entry = t->forced ? all : text;
    return !g->exhausted && all != OP_NOWHERE && g->ops[text].a != OP_NOWHERE && g->ops[more].a != OP_NOWHERE;
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
