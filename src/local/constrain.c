/* constrain: see constrain.h. */
#include "local/constrain.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

#define CACHE_BYTES ((size_t)128 << 20)
#define KEY_MAX_BYTES ((size_t)64 << 20)
#define NOTES_MAX 50
#define DIGITS 15 /* of numbers in a schema: all that a decimal number keeps through a double */

void constraints_init(struct constraints *c, const struct dialect *d)
{
    *c = (struct constraints){.cache = grammar_cache_create(CACHE_BYTES), .dialect = d};
    dialect_traits_get(d, &c->traits);
    buf_init(&c->think_close, ENGINE_MARKER_MAX);
    buf_printf(&c->think_close, "\n%.*s\n\n", STR_ARG(c->traits.think_end));
}

void constraints_deinit(struct constraints *c)
{
    grammar_cache_destroy(c->cache);
    buf_deinit(&c->think_close);
    c->cache = NULL;
}

void lent_grammar_init(struct lent_grammar *l)
{
    *l = (struct lent_grammar){0};
    buf_init(&l->key, KEY_MAX_BYTES);
}

void lent_grammar_deinit(struct lent_grammar *l, struct constraints *c)
{
    if (l->grammar) grammar_cache_put(c->cache, buf_str(&l->key), l->grammar);
    l->grammar = NULL;
    buf_deinit(&l->key);
}

/* Numbers as they were written, as far as a double keeps them. */
static bool append_json(struct buf *out, const json_t *value)
{
    char *text = json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(DIGITS));
    bool ok = text && buf_append(out, str_from(text));
    mem_free(text);
    return ok;
}

/* A grammar that nothing satisfies is none: strict callers hear of it before anything is sent. */
static bool check(struct lent_grammar *out, struct str where, struct err *e)
{
    if (!out->grammar) return false;
    struct grammar_matcher *m =
        grammar_satisfiable(out->grammar) ? grammar_matcher_create(out->grammar, NULL, e) : NULL;
    if (m) {
        grammar_matcher_destroy(m);
        return true;
    }
    grammar_unref(out->grammar);
    out->grammar = NULL;
    return err_set(e, ERR_INVALID, "%.*s: nothing satisfies this schema", STR_ARG(where));
}

/* ---- output_config.format ---- */

/* The value alone: it is complete with its last byte. */
static bool take_schema(struct lent_grammar *out, struct constraints *c, const struct chat_request *req, struct err *e)
{
    struct grammar_options o;
    struct buf where;
    buf_printf(&out->key, "schema %.*s\n", STR_ARG(req->output_where));
    size_t from = out->key.len;
    if (!append_json(&out->key, req->output_schema))
        return err_set(e, ERR_INVALID, "%.*s: the schema is too large", STR_ARG(req->output_where));
    if ((out->grammar = grammar_cache_take(c->cache, buf_str(&out->key)))) return true;
    grammar_options_init(&o);
    buf_init(&where, 4096);
    if (buf_append(&where, req->output_where)) o.where = where.ptr;
    out->grammar = grammar_from_schema(str_slice(buf_str(&out->key), from, out->key.len), &o, e);
    bool ok = check(out, req->output_where, e);
    if (!ok) e->kind = ERR_INVALID; /* whatever the reason: the schema cannot be honoured */
    buf_deinit(&where);
    return ok;
}

/* ---- tools ---- */

static bool has_strict(const struct chat_request *req)
{
    for (size_t i = 0; i < req->n_tools; i++)
        if (req->tools[i].strict && !req->tools[i].withheld) return true;
    return false;
}

static bool may_call(const struct chat_request *req)
{
    bool any = false;
    for (size_t i = 0; i < req->n_tools && !any; i++) any = !req->tools[i].withheld;
    return any && req->tool_choice != CHAT_TOOLS_NONE;
}

static bool is_forced(const struct chat_request *req)
{
    return req->tool_choice == CHAT_TOOLS_ANY || req->tool_choice == CHAT_TOOLS_ONE;
}

/* Everything that the grammar depends on. */
static bool append_tools_key(struct buf *key, const struct dialect_grammar_options *o)
{
    buf_printf(key, "tools %d %d %d %d %.*s\n%.*s\n", (int)o->choice, o->single, o->in_thinking, o->may_think,
               STR_ARG(o->choice_name), STR_ARG(o->opened));
    if (o->output_schema) {
        buf_printf(key, "schema %s\n", o->output_where);
        append_json(key, o->output_schema);
    }
    for (size_t i = 0; i < o->n_tools; i++) {
        if (o->tools[i].withheld) continue;
        buf_printf(key, "\n%s %zu %.*s ", o->tools[i].strict ? "strict" : "tool", i, STR_ARG(o->tools[i].name));
        append_json(key, o->tools[i].schema);
    }
    return !key->failed;
}

/* What became wider than it was written is told to the client, line by line. */
static void note_widened(const struct grammar *g, struct chat_request *req)
{
    struct buf lines;
    buf_init(&lines, 1 << 16);
    grammar_explain(g, &lines);
    struct str rest = buf_str(&lines);
    for (size_t n = 0; rest.len && n < NOTES_MAX; n++) {
        ptrdiff_t end = str_find(rest, STR("\n"), 0);
        struct str line = str_slice(rest, 0, end < 0 ? rest.len : (size_t)end);
        if (line.len) chat_note(req, "%.*s", STR_ARG(line));
        rest = str_slice(rest, line.len + 1, rest.len);
    }
    buf_deinit(&lines);
}

/* Whether any value fits a schema that must hold: else an answer would run into a dead end. */
static bool satisfiable(struct str where, const json_t *schema, struct err *e)
{
    struct grammar_options o;
    struct buf text, path;
    grammar_options_init(&o);
    buf_init(&text, KEY_MAX_BYTES);
    buf_init(&path, 4096);
    if (buf_append(&path, where)) o.where = path.ptr;
    bool ok = append_json(&text, schema) || err_set(e, ERR_INVALID, "%.*s: the schema is too large", STR_ARG(where));
    struct grammar *g = ok ? grammar_from_schema(buf_str(&text), &o, e) : NULL;
    ok =
        g && (grammar_satisfiable(g) || err_set(e, ERR_INVALID, "%.*s: nothing satisfies this schema", STR_ARG(where)));
    grammar_unref(g);
    buf_deinit(&text);
    buf_deinit(&path);
    return ok;
}

static bool all_satisfiable(const struct dialect_grammar_options *o, struct err *e)
{
    char where[64];
    bool ok = !o->output_schema || satisfiable(str_from(o->output_where), o->output_schema, e);
    for (size_t i = 0; ok && i < o->n_tools; i++) {
        if (!o->tools[i].strict || o->tools[i].withheld) continue;
        snprintf(where, sizeof where, "tools.%zu.input_schema", i);
        ok = satisfiable(str_from(where), o->tools[i].schema, e);
    }
    return ok;
}

/* A tool list fails a request only where it asks to be strict; otherwise decoding is free then, and the client is told.
 */
static bool take_tools(struct lent_grammar *out, struct constraints *c, struct chat_request *req,
                       const struct prompt *prompt, struct err *e)
{
    struct buf where;
    buf_init(&where, 4096);
    buf_append(&where, req->output_where);
    bool by_header = !c->traits.think_end.len; /* reasoning is part of the grammar there */
    struct dialect_grammar_options o = {.tools = req->tools,
                                        .n_tools = req->n_tools,
                                        .choice = req->tool_choice,
                                        .choice_name = req->tool_choice_name,
                                        .single = req->no_parallel_tools,
                                        .in_thinking = by_header && prompt->in_thinking,
                                        .may_think = by_header && prompt->may_think,
                                        .opened = buf_str(&prompt->opened_call),
                                        .output_schema = is_forced(req) ? NULL : req->output_schema,
                                        .output_where = where.len ? where.ptr : ""};
    bool strict = has_strict(req) || o.output_schema, ok = append_tools_key(&out->key, &o);
    if (!ok) err_set(e, ERR_INVALID, "tools: the schemas are larger than %zu bytes", KEY_MAX_BYTES);
    if (ok) out->grammar = grammar_cache_take(c->cache, buf_str(&out->key));
    if (ok && !out->grammar) {
        ok = all_satisfiable(&o, e);
        if (ok) out->grammar = dialect_grammar(c->dialect, &o, e);
        ok = ok && check(out, STR("tools"), e);
    }
    out->is_help = !strict;
    if (ok) note_widened(out->grammar, req);
    else if (strict) e->kind = ERR_INVALID;
    else chat_note(req, "tools: calls are not constrained: %s", e->msg);
    buf_deinit(&where);
    return ok || !strict;
}

/* With the choice left to the model and no strict tool, decoding is free: the parser takes what models write, and a
 * grammar could only forbid some of it. */
bool constrain_take(struct lent_grammar *out, struct constraints *c, struct chat_request *req,
                    const struct prompt *prompt, struct err *e)
{
    bool constrains_calls = may_call(req) && (is_forced(req) || has_strict(req) || req->output_schema);
    bool by_header = req->output_schema && !c->traits.think_end.len && c->traits.thinks;
    if (constrains_calls || by_header) return take_tools(out, c, req, prompt, e);
    return !req->output_schema || take_schema(out, c, req, e);
}

/* ---- reasoning ---- */

/* Where the template cannot say how much to think, it is a number of tokens. */
static uint32_t effort_budget(struct str effort)
{
    if (str_eq(effort, STR("low"))) return 1024;
    if (str_eq(effort, STR("medium"))) return 4096;
    if (str_eq(effort, STR("high"))) return 16384;
    return 0;
}

void constrain_reasoning(struct engine_reasoning *out, const struct constraints *c, const struct chat_request *req,
                         const struct prompt *prompt)
{
    const struct dialect_traits *traits = &c->traits;
    *out = (struct engine_reasoning){0};
    if (!prompt->in_thinking && !prompt->may_think) return;
    uint32_t budget = req->thinking_budget;
    if (!budget && !prompt->has_effort) budget = effort_budget(req->effort);
    if (traits->section_start.len)
        *out = (struct engine_reasoning){.start = traits->section_start,
                                         .end = traits->section_end,
                                         .close = traits->section_close,
                                         .has_budget = budget > 0,
                                         .budget = budget,
                                         .recurs = true,
                                         .fork = traits->section_fork};
    if (!traits->think_end.len) return;
    *out = (struct engine_reasoning){.end = traits->think_end,
                                     .start = traits->think_start,
                                     .close = buf_str(&c->think_close),
                                     .is_open = prompt->in_thinking,
                                     .has_budget = budget > 0,
                                     .budget = budget};
    for (size_t i = 0; may_call(req) && i < ENGINE_ALSO_MAX && i < DIALECT_MARKS_MAX; i++)
        out->also[i] = traits->calls_in_thinking[i];
}
