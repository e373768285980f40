/* constrain: see constrain.h. */
#include "local/constrain.h"

#include <jansson.h>
#include <string.h>

#include "base/alloc.h"

#define CACHE_BYTES ((size_t)128 << 20)
#define KEY_MAX_BYTES ((size_t)64 << 20)
#define DIGITS 15 /* of numbers in a schema: all that a decimal number keeps through a double */

void constraints_init(struct constraints *c, const struct dialect *d)
{
    *c = (struct constraints){.cache = grammar_cache_create(CACHE_BYTES)};
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
    l->grammar = NULL;
    buf_init(&l->key, KEY_MAX_BYTES);
}

void lent_grammar_deinit(struct lent_grammar *l, struct constraints *c)
{
    if (l->grammar) grammar_cache_put(c->cache, buf_str(&l->key), l->grammar);
    l->grammar = NULL;
    buf_deinit(&l->key);
}

/* ---- output_config.format ---- */

static bool compile_schema(struct lent_grammar *out, struct str where, struct str schema, struct err *e)
{
    struct grammar_options o;
    struct buf path; /* for as long as the grammar lives: it may refuse later on, too */
    grammar_options_init(&o);
    buf_init(&path, 4096);
    buf_append(&path, where);
    o.where = path.len ? path.ptr : NULL;
    out->grammar = grammar_from_schema(schema, &o, e);
    bool ok = out->grammar != NULL;
    if (ok && !grammar_satisfiable(out->grammar)) {
        ok = err_set(e, ERR_INVALID, "%.*s: no value satisfies this schema", STR_ARG(where));
        grammar_unref(out->grammar);
        out->grammar = NULL;
    }
    if (!ok) e->kind = ERR_INVALID; /* whatever the reason: the schema cannot be honoured */
    buf_deinit(&path);
    return ok;
}

static bool take_schema(struct lent_grammar *out, struct constraints *c, const struct chat_request *req, struct err *e)
{
    char *text = json_dumps(req->output_schema, JSON_COMPACT | JSON_REAL_PRECISION(DIGITS));
    struct str schema = str_from(text);
    buf_printf(&out->key, "schema %.*s\n", STR_ARG(req->output_where));
    bool ok = text && buf_append(&out->key, schema);
    if (!ok) err_set(e, ERR_INVALID, "%.*s: the schema is too large", STR_ARG(req->output_where));
    if (ok) out->grammar = grammar_cache_take(c->cache, buf_str(&out->key));
    if (ok && !out->grammar) ok = compile_schema(out, req->output_where, schema, e);
    mem_free(text);
    return ok;
}

bool constrain_take(struct lent_grammar *out, struct constraints *c, struct chat_request *req, struct err *e)
{
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
    if (!traits->think_end.len || (!prompt->in_thinking && !prompt->may_think)) return;
    uint32_t budget = req->thinking_budget;
    if (!budget && !prompt->has_effort) budget = effort_budget(req->effort);
    *out = (struct engine_reasoning){.end = traits->think_end,
                                     .start = traits->think_start,
                                     .close = buf_str(&c->think_close),
                                     .is_open = prompt->in_thinking,
                                     .has_budget = budget > 0,
                                     .budget = budget};
}
