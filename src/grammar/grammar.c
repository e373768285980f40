/* grammar: making and freeing grammars, their memory, and checks of whole texts. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "grammar/machine_internal.h"

bool grammar_charge(struct grammar *g, size_t bytes)
{
    g->heap_bytes += bytes;
    if (g->heap_bytes + g->arena.used_bytes <= g->max_bytes) return true;
    g->exhausted = true;
    return false;
}

void grammar_discharge(struct grammar *g, size_t bytes)
{
    g->heap_bytes -= bytes;
}

void *grammar_alloc(struct grammar *g, size_t size)
{
    void *p = size <= g->max_bytes && grammar_charge(g, 0) ? arena_try_alloc(&g->arena, size ? size : 1) : NULL;
    if (p) return memset(p, 0, size);
    g->exhausted = true;
    return NULL;
}

struct str grammar_str(struct grammar *g, struct str s)
{
    char *p = grammar_alloc(g, s.len + 1);
    if (!p) return STR_NONE;
    if (s.len) memcpy(p, s.ptr, s.len);
    return (struct str){p, s.len};
}

bool grammar_try_grow(struct grammar *g, void **ptr, size_t *cap, size_t n, size_t item)
{
    size_t want = *cap < 8 ? 8 : *cap + *cap / 2, size;
    if (want < n) want = n;
    if (!size_mul(&size, want, item) || g->exhausted || !grammar_charge(g, size - *cap * item)) return false;
    void *more = mem_try_realloc(*ptr, size);
    if (!more) {
        grammar_discharge(g, size - *cap * item);
        g->exhausted = true;
        return false;
    }
    *ptr = more;
    *cap = want;
    return true;
}

void grammar_options_init(struct grammar_options *o)
{
    *o = (struct grammar_options){.strict = true, .max_space = 20, .max_bytes = 64u << 20};
}

struct grammar *grammar_new(const struct grammar_options *o, struct err *e)
{
    struct grammar *g = mem_try_zalloc(sizeof *g);
    if (!g) return err_set(e, ERR_TOO_LARGE, "no memory for a grammar"), NULL;
    atomic_init(&g->refs, 1);
    g->max_bytes = o->max_bytes;
    g->strict = o->strict;
    g->ignore_formats = o->ignore_formats;
    g->max_space = o->max_space;
    arena_init(&g->arena, o->max_bytes);
    buf_init(&g->notes, 1 << 16);
    bool ok = terms_init(g);
    if (ok && o->where)
        ok = (g->where = grammar_str(g, str_from(o->where)).ptr) != NULL; /* it may outlive the caller */
    if (ok) return g;
    grammar_unref(g);
    err_set(e, ERR_TOO_LARGE, "a budget of %zu bytes is too small for any grammar", o->max_bytes);
    return NULL;
}

struct grammar *grammar_ref(struct grammar *g)
{
    atomic_fetch_add(&g->refs, 1);
    return g;
}

void grammar_unref(struct grammar *g)
{
    if (!g || atomic_fetch_sub(&g->refs, 1) != 1) return;
    memo_deinit(g);
    walk_destroy(g->walk);
    dfas_deinit(g);
    schema_deinit(g);
    mem_free(g->terms.items);
    mem_free(g->terms.slots);
    mem_free(g->terms.lists);
    mem_free(g->terms.sets);
    mem_free(g->terms.tables);
    mem_free(g->nodes);
    mem_free(g->node_slots);
    mem_free(g->ops);
    buf_deinit(&g->notes);
    arena_deinit(&g->arena);
    mem_free(g);
}

uint32_t program_add(struct grammar *g, struct op op)
{
    if (!GROW(g, g->ops, g->ops_cap, g->n_ops + 1)) return OP_NOWHERE;
    g->ops[g->n_ops] = op;
    return (uint32_t)g->n_ops++;
}

/* Takes every reachable node apart, so that what cannot be expressed is known now; a bound keeps this cheap, the rest
 * is found when it is reached (and widened or refused there). */
#define EXPLORE_NODES 3000
static void explore(struct grammar *g, uint32_t root)
{
    node_fits(g, root);
    for (size_t i = 0; i < g->n_nodes && i < EXPLORE_NODES && !g->exhausted && g->refusal.kind == ERR_NONE; i++) {
        node_expand(g, (uint32_t)i);
        for (uint32_t k = 0; k < g->nodes[i].n_alts; k++) {
            struct alt *a = g->nodes[i].alts[k];
            if (a->type == TYPE_OBJ) object_prepare(g, &a->object);
            for (uint32_t j = 0; a->type == TYPE_ARR && j <= a->array.prefix; j++) array_child(g, &a->array, j, 0);
        }
    }
}

struct grammar *grammar_give(struct grammar *g, struct err *e)
{
    if (g->exhausted)
        err_set(e, ERR_TOO_LARGE, "%s%sneeds more than the budget of %zu bytes", g->where ? g->where : "",
                g->where ? ": " : "the grammar ", g->max_bytes);
    else if (g->refusal.kind != ERR_NONE) *e = g->refusal;
    else return g;
    grammar_unref(g);
    return NULL;
}

/* One value of the schema, then `next`; OP_NOWHERE on error. */
uint32_t program_schema(struct grammar *g, struct str json, uint32_t next, struct err *e)
{
    uint32_t raw;
    if (!schema_load(g, &raw, json, e)) return OP_NOWHERE;
    uint32_t node = node_get(g, &(uint32_t){raw << 1}, 1);
    if (node == NODE_NONE) { /* false: nothing at all */
        node = node_get(g, NULL, 0);
        if (node == NODE_NONE) return err_set(e, ERR_TOO_LARGE, "the schema needs too much memory"), OP_NOWHERE;
        g->nodes[node].state = 2;
        g->nodes[node].fits = FITS_NO;
    }
    explore(g, node);
    return program_add(g, (struct op){.kind = OP_VALUE, .a = node, .b = next});
}

struct grammar *grammar_from_schema(struct str json, const struct grammar_options *o, struct err *e)
{
    struct err local;
    if (!e) e = &local;
    struct grammar *g = grammar_new(o, e);
    if (!g) return NULL;
    g->json_only = true;
    uint32_t end = program_add(g, (struct op){.kind = OP_END});
    g->entry = program_schema(g, json, end, e);
    if (g->entry == OP_NOWHERE) return grammar_unref(g), NULL;
    return grammar_give(g, e);
}

struct grammar *grammar_from_regex(struct str pattern, const struct grammar_options *o, struct err *e)
{
    struct err local;
    if (!e) e = &local;
    struct grammar *g = grammar_new(o, e);
    uint32_t term;
    if (!g) return NULL;
    uint32_t end = program_add(g, (struct op){.kind = OP_END});
    struct dfa *d = regex_parse(g, &term, pattern, e) ? dfa_get(g, term) : NULL;
    if (!d && e->kind == ERR_NONE) err_set(e, ERR_INVALID, "the pattern matches nothing");
    if (!d) return grammar_unref(g), NULL;
    g->entry = program_add(g, (struct op){.kind = OP_TEXT, .dfa = d, .a = end});
    return grammar_give(g, e);
}

bool grammar_explain(const struct grammar *g, struct buf *out)
{
    return buf_append(out, buf_str(&g->notes));
}

size_t grammar_memory(const struct grammar *g)
{
    return g->heap_bytes + g->arena.used_bytes + sizeof *g;
}

bool grammar_satisfiable(struct grammar *g)
{
    const struct op *op = &g->ops[g->entry];
    return op->kind != OP_VALUE || node_fits(g, op->a);
}

bool grammar_check(struct grammar *g, struct str text, struct err *e)
{
    struct machine m;
    size_t from = 0, i = 0;
    if (!machine_init(&m, g, true)) return err_set(e, ERR_TOO_LARGE, "no memory for a check");
    machine_start(&m);
    bool ok = m.n_out > 0;
    for (; ok && i < text.len; i++) {
        size_t to = m.n_out;
        ok = buf_append_char(&m.text, text.ptr[i]) && machine_step(&m, from, to, (uint8_t)text.ptr[i]);
        if (!ok) break;
        memmove(m.out, m.out + to, (m.n_out - to) * sizeof *m.out);
        m.n_out -= to;
    }
    if (!ok) {
        struct str near = str_slice(text, i > 20 ? i - 20 : 0, i + 1);
        err_set(e, g->exhausted || m.failed ? ERR_TOO_LARGE : ERR_INVALID, "refused at byte %zu: \"%.*s\"", i,
                STR_ARG(near));
    } else if (!(ok = machine_may_end(&m, m.out, m.n_out))) err_set(e, ERR_INVALID, "the text is not complete");
    machine_deinit(&m);
    return ok;
}
