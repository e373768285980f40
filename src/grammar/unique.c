/* unique: arrays whose items all differ. Each item's value is hashed when it ends; texts are kept, so that while an
 * item is written it is held to values that are not used yet, where only few are left. */
#include "base/alloc.h"
#include "grammar/machine_internal.h"

#define FEW_VALUES 64 /* of a number, to be looked at one by one */

static bool is_used(const struct frame *f, uint64_t hash)
{
    for (const struct used *u = f->used; u; u = u->next)
        if (u->hash == hash) return true;
    return false;
}

/* The decoded text of a string that is an item, in the pool; STR_NONE for other values. */
static struct str item_text(struct machine *m, struct str json)
{
    struct buf decoded;
    struct str s = STR_NONE;
    json = str_trim(json);
    if (json.len < 2 || json.ptr[0] != '"' || json.len > POOL_CHUNK / 2) return s;
    buf_init(&decoded, POOL_CHUNK);
    if (decode_string(&decoded, str_slice(json, 1, json.len - 1))) {
        char *text = pool_alloc(&m->pool, decoded.len + 1);
        if (text && decoded.len) memcpy(text, decoded.ptr, decoded.len);
        if (text) s = (struct str){text, decoded.len};
    }
    buf_deinit(&decoded);
    return s;
}

bool array_accepts(struct machine *m, const struct frame **frame, size_t end)
{
    const struct frame *f = *frame;
    bool ok;
    if (!f->alt->array.unique) return true;
    struct str json = str_slice(buf_str(&m->text), f->start, end);
    uint64_t h = json_value_hash(json, &ok);
    if (is_used(f, h)) return false;
    struct used *u = pool_alloc(&m->pool, sizeof *u);
    struct frame *c = copy_frame(m, f);
    if (!u || !c) return m->failed = true, false;
    *u = (struct used){f->used, m->liberal ? STR_NONE : item_text(m, json), h};
    c->used = u;
    hash_frame(c);
    *frame = c;
    return ok;
}

/* ---- what is left ---- */

static uint32_t alt_values(struct grammar *g, const struct alt *a)
{
    switch (a->type) {
    case TYPE_NULL: return 1;
    case TYPE_BOOL: return a->bools == 3 ? 2 : 1;
    case TYPE_INT: return number_count(&a->number, COUNT_MANY);
    case TYPE_STR:
        if (a->string.max == 0) return 1;
        return a->string.min > 0 || a->string.max < REPEAT_MAX ? COUNT_MANY : dfa_count(g, a->string.dfa, 0);
    default: return COUNT_MANY;
    }
}

uint32_t node_values(struct grammar *g, uint32_t node)
{
    uint32_t n = 0;
    if (!node_expand(g, node)) return COUNT_MANY;
    for (uint32_t i = 0; i < g->nodes[node].n_alts && n < COUNT_MANY; i++)
        if (alt_fits(g, g->nodes[node].alts[i])) n += alt_values(g, g->nodes[node].alts[i]);
    return n < COUNT_MANY ? n : COUNT_MANY;
}

bool unique_room(struct machine *m, const struct frame *f, uint32_t node)
{
    const struct array_alt *a = &f->alt->array;
    if (m->liberal || !a->unique || a->prefix > 0) return true;
    uint32_t values = node_values(m->g, node);
    return values >= COUNT_MANY || values > f->n;
}

static bool string_left(struct machine *m, const struct thread *t)
{
    uint32_t count = dfa_count(m->g, t->dfa, t->state), taken = 0;
    if (count >= COUNT_MANY || t->escape || t->alt->string.max < REPEAT_MAX) return true;
    struct str prefix = str_slice(buf_str(&m->text), t->start, m->text.len);
    struct buf decoded;
    buf_init(&decoded, POOL_CHUNK);
    if (prefix.len && memchr(prefix.ptr, '\\', prefix.len) && decode_string(&decoded, prefix))
        prefix = buf_str(&decoded);
    for (const struct used *u = t->frame->used; u; u = u->next)
        taken += u->text.ptr && text_continues(m, t, u->text, prefix);
    buf_deinit(&decoded);
    return count > taken;
}

static bool number_left(struct machine *m, const struct thread *t)
{
    const struct number_alt *n = &t->alt->number;
    struct str prefix = str_slice(buf_str(&m->text), t->start, m->text.len);
    uint32_t count = number_count(n, FEW_VALUES);
    if (count >= FEW_VALUES) return true;
    for (uint32_t i = 0; i < count; i++) {
        char text[160];
        bool ok;
        struct str s = {text, number_spell(n, i, text, sizeof text)};
        if (str_starts(s, prefix) && !is_used(t->frame, json_value_hash(s, &ok))) return true;
    }
    return false;
}

bool unique_viable(struct machine *m, const struct thread *t, struct str literal)
{
    const struct frame *f = t->frame;
    bool ok;
    if (m->liberal || !f || f->kind != FRAME_ARRAY || !f->alt->array.unique || !f->used) return true;
    if (t->kind == THREAD_STRING) return string_left(m, t);
    if (t->kind == THREAD_NUMBER) return number_left(m, t);
    return !is_used(f, json_value_hash(literal, &ok));
}
