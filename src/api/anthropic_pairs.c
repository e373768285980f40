/* anthropic_pairs: calls and results belong together. The wordings are the API's: clients know them and repair their
 * history. Turns of the system in between do not count. */
#include "api/anthropic_request_internal.h"
#include "base/buf.h"
#include "base/hash.h"

/* The user message that answers message i, or NULL: system turns are passed over. */
static const struct chat_message *answering(const struct chat_request *r, size_t i)
{
    for (i++; i < r->n_messages; i++)
        if (r->messages[i].role != CHAT_SYSTEM) return r->messages[i].role == CHAT_USER ? &r->messages[i] : NULL;
    return NULL;
}

/* The assistant message before message i, or NULL. */
static const struct chat_message *asking(const struct chat_request *r, size_t i)
{
    while (i-- > 0)
        if (r->messages[i].role != CHAT_SYSTEM) return r->messages[i].role == CHAT_ASSISTANT ? &r->messages[i] : NULL;
    return NULL;
}

/* The ids of the message's calls or results. false: *twice names one that occurs twice. */
static bool ids_of(struct strmap *out, struct str *twice, const struct chat_message *m, enum chat_block_kind kind)
{
    strmap_init(out);
    for (size_t i = 0; m && i < m->n_blocks; i++) {
        const struct chat_block *x = &m->blocks[i];
        if (x->kind != kind || !x->id.ptr || strmap_add(out, x->id, 0)) continue;
        *twice = x->id;
        return false;
    }
    return true;
}

/* Blocks of the message whose id is not in the map, as a list for the error; false when there are none. */
static bool list_missing(struct buf *out, const struct strmap *ids, const struct chat_message *m,
                         enum chat_block_kind kind)
{
    for (size_t i = 0; i < m->n_blocks; i++) {
        uint32_t value;
        const struct chat_block *x = &m->blocks[i];
        if (x->kind != kind || (x->id.ptr && strmap_find(ids, &value, x->id))) continue;
        buf_printf(out, "%s%.*s", out->len ? ", " : "", STR_ARG(str_slice(x->id, 0, 80)));
    }
    return out->len > 0;
}

static bool check_calls(struct decoder *d, size_t i)
{
    struct strmap results;
    struct buf missing;
    struct str twice = STR_NONE;
    buf_init(&missing, 500);
    bool ok = ids_of(&results, &twice, answering(d->r, i), CHAT_TOOL_RESULT);
    if (!ok)
        decode_fail(d, "each tool_use must have a single result. Found multiple `tool_result` blocks with id: %.*s",
                    STR_ARG(str_slice(twice, 0, 80)));
    else if (list_missing(&missing, &results, &d->r->messages[i], CHAT_TOOL_USE))
        ok = decode_fail(
            d,
            "`tool_use` ids were found without `tool_result` blocks immediately after: %.*s. Each `tool_use` "
            "block must have a corresponding `tool_result` block in the next message.",
            STR_ARG(buf_str(&missing)));
    strmap_deinit(&results);
    buf_deinit(&missing);
    return ok;
}

static bool check_results(struct decoder *d, size_t i)
{
    struct strmap calls;
    struct buf missing;
    struct str twice = STR_NONE;
    buf_init(&missing, 500);
    bool ok = ids_of(&calls, &twice, asking(d->r, i), CHAT_TOOL_USE);
    if (!ok) decode_fail(d, "`tool_use` ids must be unique, found twice: %.*s", STR_ARG(str_slice(twice, 0, 80)));
    else if (list_missing(&missing, &calls, &d->r->messages[i], CHAT_TOOL_RESULT))
        ok = decode_fail(
            d,
            "unexpected `tool_use_id` found in `tool_result` blocks: %.*s. Each `tool_result` block must have "
            "a corresponding `tool_use` block in the previous message.",
            STR_ARG(buf_str(&missing)));
    strmap_deinit(&calls);
    buf_deinit(&missing);
    return ok;
}

static bool has_kind(const struct chat_message *m, enum chat_block_kind kind)
{
    for (size_t i = 0; i < m->n_blocks; i++)
        if (m->blocks[i].kind == kind) return true;
    return false;
}

bool check_pairs(struct decoder *d)
{
    size_t at = path_push(d, "messages");
    for (size_t i = 0; i < d->r->n_messages; i++) {
        const struct chat_message *m = &d->r->messages[i];
        size_t inner = path_push_index(d, i);
        if (m->role == CHAT_ASSISTANT && has_kind(m, CHAT_TOOL_USE) && !check_calls(d, i)) return false;
        if (m->role == CHAT_USER && has_kind(m, CHAT_TOOL_RESULT) && !check_results(d, i)) return false;
        path_pop(d, inner);
    }
    path_pop(d, at);
    return true;
}
