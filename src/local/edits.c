/* edits: see edits.h. */
#include "local/edits.h"

#include "base/alloc.h"
#include "base/hash.h"

#define CLEARED STR("[Old tool result, left out to save room]")
#define MESSAGE_OVERHEAD 6 /* tokens that a template puts around a message, about */
#define IMAGE_TOKENS 1000

struct use { /* one call with its result */
    struct chat_block *call, *result;
    uint32_t n_tokens; /* that clearing it saves */
    bool is_excluded, is_cleared;
};

struct walk {
    struct chat_request *r;
    struct chat_edit *edit;
    edits_counter *count;
    void *ctx;
    struct use *uses;
    size_t n_uses, n_open; /* n_open: calls that were seen while walking */
    uint64_t n_tokens;     /* of the prompt up to here, without what is cleared */
    uint32_t n_left;       /* uses that are not cleared */
};

/* ---- thinking ---- */

static bool has_thinking(const struct chat_message *m)
{
    for (size_t i = 0; i < m->n_blocks; i++)
        if (m->blocks[i].kind == CHAT_THINKING) return true;
    return false;
}

static void drop_thinking(struct chat_message *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n_blocks; i++)
        if (m->blocks[i].kind != CHAT_THINKING) m->blocks[n++] = m->blocks[i];
    m->n_blocks = n;
    m->without_thinking = true;
}

static bool clear_thinking(struct chat_request *r, struct chat_edit *edit)
{
    uint32_t n_kept = 0;
    for (size_t i = r->n_messages; i-- > 0;) {
        struct chat_message *m = &r->messages[i];
        if (m->role != CHAT_ASSISTANT || !has_thinking(m)) continue;
        if (n_kept < edit->keep) n_kept++;
        else {
            drop_thinking(m);
            edit->n_cleared++;
        }
    }
    return edit->n_cleared > 0;
}

/* ---- tool uses ---- */

static bool is_named(const struct str *names, size_t n, struct str name)
{
    for (size_t i = 0; i < n; i++)
        if (str_eq(names[i], name)) return true;
    return false;
}

static uint32_t count_blocks(const struct walk *w, const struct chat_block *blocks, size_t n)
{
    uint32_t total = 0;
    for (size_t i = 0; i < n; i++) {
        if (blocks[i].kind == CHAT_TEXT || blocks[i].kind == CHAT_THINKING) total += w->count(w->ctx, blocks[i].text);
        if (blocks[i].kind == CHAT_IMAGE) total += IMAGE_TOKENS;
    }
    return total;
}

static uint32_t count_json(const struct walk *w, json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
    uint32_t n = text ? w->count(w->ctx, str_from(text)) : 0;
    mem_free(text);
    return n;
}

static bool clears_input(const struct chat_edit *edit, struct str name)
{
    return edit->clears_inputs || is_named(edit->inputs, edit->n_inputs, name);
}

static void find_uses(struct walk *w)
{
    struct strmap at;
    size_t n = 0;
    for (size_t i = 0; i < w->r->n_messages; i++) n += w->r->messages[i].n_blocks;
    w->uses = mem_zalloc((n + 1) * sizeof *w->uses);
    strmap_init(&at);
    for (size_t i = 0; i < w->r->n_messages; i++)
        for (size_t k = 0; k < w->r->messages[i].n_blocks; k++) {
            uint32_t use;
            struct chat_block *x = &w->r->messages[i].blocks[k];
            if (x->kind == CHAT_TOOL_USE && x->id.ptr && strmap_add(&at, x->id, (uint32_t)w->n_uses)) {
                w->uses[w->n_uses++] =
                    (struct use){.call = x, .is_excluded = is_named(w->edit->excluded, w->edit->n_excluded, x->name)};
            } else if (x->kind == CHAT_TOOL_RESULT && x->id.ptr && strmap_find(&at, &use, x->id)) {
                w->uses[use].result = x;
            }
        }
    strmap_deinit(&at);
    for (size_t i = 0; i < w->n_uses; i++) {
        struct use *u = &w->uses[i];
        if (u->result) u->n_tokens = count_blocks(w, u->result->blocks, u->result->n_blocks);
        if (clears_input(w->edit, u->call->name)) u->n_tokens += count_json(w, u->call->input);
    }
}

/* Adds a message to the prompt that the walk has seen. */
static void pass(struct walk *w, const struct chat_message *m)
{
    w->n_tokens += MESSAGE_OVERHEAD + count_blocks(w, m->blocks, m->n_blocks);
    for (size_t i = 0; i < m->n_blocks; i++) {
        const struct chat_block *x = &m->blocks[i];
        if (x->kind == CHAT_TOOL_RESULT) w->n_tokens += count_blocks(w, x->blocks, x->n_blocks);
        if (x->kind != CHAT_TOOL_USE) continue;
        w->n_tokens += count_json(w, x->input);
        w->n_open++;
        w->n_left++;
    }
}

/* What a request that ends here clears. */
static void clear_here(struct walk *w)
{
    uint64_t gain = 0;
    size_t end = w->n_open > w->edit->keep ? w->n_open - w->edit->keep : 0;
    if (end > w->n_uses) end = w->n_uses;
    for (size_t i = 0; i < end; i++)
        if (!w->uses[i].is_excluded && !w->uses[i].is_cleared && w->uses[i].result) gain += w->uses[i].n_tokens;
    if (gain < w->edit->clear_at_least) return;
    for (size_t i = 0; i < end; i++) {
        struct use *u = &w->uses[i];
        if (u->is_excluded || u->is_cleared || !u->result) continue;
        u->is_cleared = true;
        w->n_left--;
        w->edit->n_cleared++;
    }
    w->n_tokens -= gain < w->n_tokens ? gain : w->n_tokens;
}

static bool is_triggered(const struct walk *w)
{
    return w->edit->triggered_by_uses ? w->n_left > w->edit->trigger : w->n_tokens > w->edit->trigger;
}

static void walk(struct walk *w)
{
    const struct chat_request *r = w->r;
    w->n_tokens = count_blocks(w, r->system, r->n_system);
    for (size_t i = 0; i < r->n_tools; i++)
        if (!r->tools[i].deferred)
            w->n_tokens += w->count(w->ctx, r->tools[i].description) + count_json(w, r->tools[i].schema);
    for (size_t i = 0; i < r->n_messages; i++) {
        pass(w, &r->messages[i]);
        bool asks = r->messages[i].role != CHAT_ASSISTANT &&
                    (i + 1 == r->n_messages || r->messages[i + 1].role == CHAT_ASSISTANT);
        if (asks && is_triggered(w)) clear_here(w);
    }
}

static void empty_use(const struct chat_edit *edit, struct chat_request *r, const struct use *u)
{
    struct chat_block *text = arena_try_alloc(&r->arena, sizeof *text);
    if (!text) return;
    *text = (struct chat_block){.kind = CHAT_TEXT, .text = CLEARED};
    u->result->blocks = text;
    u->result->n_blocks = 1;
    /* The object belongs to the request's JSON. */
    if (clears_input(edit, u->call->name)) json_object_clear(u->call->input);
}

static bool clear_tool_uses(struct walk *w, uint32_t n_tokens)
{
    if (!w->edit->triggered_by_uses && n_tokens <= w->edit->trigger) return false;
    find_uses(w);
    walk(w);
    /* The exact length is over the limit although the sum of the parts was not. */
    if (!w->edit->n_cleared && !w->edit->triggered_by_uses) clear_here(w);
    for (size_t i = 0; i < w->n_uses; i++)
        if (w->uses[i].is_cleared) empty_use(w->edit, w->r, &w->uses[i]);
    mem_free(w->uses);
    return w->edit->n_cleared > 0;
}

bool edits_apply(struct chat_request *r, struct chat_edit *edit, uint32_t n_tokens, edits_counter *count, void *ctx)
{
    struct walk w = {.r = r, .edit = edit, .count = count, .ctx = ctx};
    edit->n_cleared = 0;
    return edit->kind == CHAT_CLEAR_THINKING ? clear_thinking(r, edit) : clear_tool_uses(&w, n_tokens);
}
