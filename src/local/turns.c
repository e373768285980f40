/* turns: see turns.h. */
#include "local/turns.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/rng.h"

/* What is needed while the list is built. */
struct builder {
    struct turns *out;
    const struct chat_request *req;
    const struct shape *shape;
    const struct dialect *dialect;
    struct call_memory *memory;
    struct strmap call_at, result_at; /* id -> index below */
    const struct chat_block **calls, **results;
    size_t n_calls, n_results;
    bool *is_placed;  /* [n_results] already stands behind its call */
    uint64_t context; /* call_memory_context of the messages so far */
    uint64_t nonce[2];
};

bool turns_has_prefill(const struct chat_request *req)
{
    return req->n_messages > 0 && req->messages[req->n_messages - 1].role == CHAT_ASSISTANT;
}

bool turns_shows_tool(const struct chat_request *req, const struct chat_tool *tool)
{
    return req->tool_choice != CHAT_TOOLS_NONE && !tool->deferred;
}

void turns_append_texts(struct buf *out, const struct chat_block *blocks, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (blocks[i].kind != CHAT_TEXT || blocks[i].text.len == 0) continue;
        if (out->len) buf_append(out, STR("\n\n"));
        buf_append(out, blocks[i].text);
    }
}

static bool ends_in_space(struct str s)
{
    return str_trim(s).len && str_trim(str_slice(s, s.len - 1, s.len)).len == 0;
}

void turns_append_prefill(struct buf *out, struct made_text *made, const struct chat_request *req,
                          struct call_memory *memory)
{
    uint64_t context = 0;
    const struct chat_message *m = &req->messages[req->n_messages - 1];
    for (size_t i = 0; i + 1 < req->n_messages; i++) context = call_memory_context(context, &req->messages[i]);
    turns_append_texts(out, m->blocks, m->n_blocks);
    bool ours = memory && call_memory_find(memory, made, m, req->salt, context) == MADE_SAME;
    if (!ours || made->full.len || made->n_calls) return;
    struct str raw = buf_str(&made->raw);
    bool with_space = ends_in_space(buf_str(out));
    while (!with_space && ends_in_space(raw)) raw.len--;
    buf_clear(out);
    buf_append(out, raw);
}

/* ---- index of calls and results ---- */

static void index_blocks(struct builder *b)
{
    size_t n = 0;
    for (size_t i = 0; i < b->req->n_messages; i++) n += b->req->messages[i].n_blocks;
    strmap_init(&b->call_at);
    strmap_init(&b->result_at);
    b->calls = mem_zalloc((n + 1) * sizeof *b->calls);
    b->results = mem_zalloc((n + 1) * sizeof *b->results);
    b->is_placed = mem_zalloc(n + 1);
    for (size_t i = 0; i < b->req->n_messages; i++)
        for (size_t k = 0; k < b->req->messages[i].n_blocks; k++) {
            const struct chat_block *x = &b->req->messages[i].blocks[k];
            if (x->kind != CHAT_TOOL_USE && x->kind != CHAT_TOOL_RESULT) continue;
            bool is_call = x->kind == CHAT_TOOL_USE;
            struct strmap *map = is_call ? &b->call_at : &b->result_at;
            const struct chat_block **list = is_call ? b->calls : b->results;
            size_t *count = is_call ? &b->n_calls : &b->n_results;
            if (x->id.ptr) strmap_add(map, x->id, (uint32_t)*count);
            list[(*count)++] = x;
        }
}

static void index_free(struct builder *b)
{
    strmap_deinit(&b->call_at);
    strmap_deinit(&b->result_at);
    mem_free(b->calls);
    mem_free(b->results);
    mem_free(b->is_placed);
}

/* ---- turns ---- */

static json_t *str_json(struct str s)
{
    return json_stringn(s.ptr ? s.ptr : "", s.len);
}

static json_t *last_turn(const struct builder *b, const char *role)
{
    json_t *last = json_array_get(b->out->list, json_array_size(b->out->list) - 1);
    return last && strcmp(json_string_value(json_object_get(last, "role")), role) == 0 ? last : NULL;
}

static bool lengthen(json_t *turn, struct str text)
{
    json_t *content = json_object_get(turn, "content");
    struct buf joined;
    buf_init(&joined, TURNS_MAX_BYTES);
    buf_append(&joined, (struct str){json_string_value(content), json_string_length(content)});
    if (joined.len) buf_append(&joined, STR("\n\n"));
    bool ok =
        buf_append(&joined, text) && json_object_set_new(turn, "content", json_stringn(joined.ptr, joined.len)) == 0;
    buf_deinit(&joined);
    return ok;
}

static bool append_turn(struct builder *b, const char *role, struct str text)
{
    json_t *turn = json_pack("{s:s, s:o}", "role", role, "content", str_json(text));
    return turn && json_array_append_new(b->out->list, turn) == 0;
}

/* Adds a turn, or lengthens the last one when it has the same role: many templates demand alternating roles. */
static bool add_turn(struct builder *b, const char *role, struct str text)
{
    json_t *last = last_turn(b, role);
    return last ? lengthen(last, text) : append_turn(b, role, text);
}

static bool add_user(struct builder *b, struct str text)
{
    json_t *result = b->shape->user_in_result ? last_turn(b, "tool") : NULL;
    return result ? lengthen(result, text) : add_turn(b, "user", text);
}

static bool add_system(struct builder *b, struct str text, bool as_user)
{
    if (text.len == 0) return true;
    if (!as_user) return add_turn(b, "system", text);
    struct buf wrapped;
    buf_init(&wrapped, TURNS_MAX_BYTES);
    buf_append(&wrapped, STR("<system-reminder>\n"));
    buf_append(&wrapped, text);
    bool ok = buf_append(&wrapped, STR("\n</system-reminder>")) && add_user(b, buf_str(&wrapped));
    buf_deinit(&wrapped);
    return ok;
}

/* ---- tools ---- */

static json_t *function_of(const struct chat_tool *tool)
{
    return json_pack("{s:o, s:o, s:O}", "name", str_json(tool->name), "description", str_json(tool->description),
                     "parameters", tool->schema);
}

static bool list_tools(struct builder *b)
{
    const struct chat_request *req = b->req;
    for (size_t i = 0; i < req->n_tools; i++) {
        if (!turns_shows_tool(req, &req->tools[i])) continue;
        if (!b->out->tools) b->out->tools = json_array();
        json_t *tool = json_pack("{s:s, s:o}", "type", "function", "function", function_of(&req->tools[i]));
        if (!tool || json_array_append_new(b->out->tools, tool)) return false;
    }
    return true;
}

/* For templates without a tool list. */
static bool append_tools_text(struct builder *b, struct buf *out)
{
    const struct chat_request *req = b->req;
    struct chat_tool *shown = mem_alloc((req->n_tools + 1) * sizeof *shown);
    size_t n = 0;
    for (size_t i = 0; i < req->n_tools; i++)
        if (turns_shows_tool(req, &req->tools[i])) shown[n++] = req->tools[i];
    if (n && out->len) buf_append(out, STR("\n\n"));
    bool ok = n == 0 || dialect_tools_text(b->dialect, out, shown, n);
    mem_free(shown);
    return ok;
}

/* One line of a <functions> block, as the tool that loads deferred tools promises it. */
static void append_function(struct buf *out, const struct chat_tool *tool)
{
    json_t *function = json_pack("{s:o, s:o, s:O}", "description", str_json(tool->description), "name",
                                 str_json(tool->name), "parameters", tool->schema);
    char *text = function ? json_dumps(function, 0) : NULL;
    buf_append(out, STR("<function>"));
    if (text) buf_append(out, str_from(text));
    else out->failed = true;
    buf_append(out, STR("</function>\n"));
    mem_free(text);
    json_decref(function);
}

/* Whether the blocks' tool is to be shown here: one of the list at the start can only come back. */
static bool is_new(const struct builder *b, const struct chat_block *x)
{
    return x->kind == CHAT_TOOL_ADDITION && b->req->tools[x->tool].deferred;
}

/* A run of new tools. Where the prompt does not begin with any, how to call them has not been said yet. */
static void append_new(const struct builder *b, struct buf *out, const struct chat_block *blocks, size_t n)
{
    const struct chat_request *req = b->req;
    bool is_told = false;
    for (size_t i = 0; i < req->n_tools && !is_told; i++) is_told = turns_shows_tool(req, &req->tools[i]);
    if (!is_told) {
        struct chat_tool *tools = mem_alloc(n * sizeof *tools);
        for (size_t i = 0; i < n; i++) tools[i] = req->tools[blocks[i].tool];
        if (!dialect_tools_text(b->dialect, out, tools, n)) out->failed = true;
        mem_free(tools);
        return;
    }
    buf_append(out, STR("From here on these functions can be called:\n<functions>\n"));
    for (size_t i = 0; i < n; i++) append_function(out, &req->tools[blocks[i].tool]);
    buf_append(out, STR("</functions>"));
}

/* What changes from here on. */
static void append_changes(const struct builder *b, struct buf *out, const struct chat_block *blocks, size_t n)
{
    for (size_t i = 0, end; i < n; i = end) {
        const struct chat_block *x = &blocks[i];
        end = i + 1;
        if (x->kind != CHAT_TOOL_ADDITION && x->kind != CHAT_TOOL_REMOVAL) continue;
        if (out->len) buf_append(out, STR("\n\n"));
        if (is_new(b, x)) {
            while (end < n && is_new(b, &blocks[end])) end++;
            append_new(b, out, x, end - i);
        } else {
            buf_printf(out, "From here on the function %.*s can %s.", STR_ARG(b->req->tools[x->tool].name),
                       x->kind == CHAT_TOOL_ADDITION ? "be called again" : "no longer be called");
        }
    }
}

/* ---- results ---- */

static void append_result_text(const struct builder *b, struct buf *out, const struct chat_block *result)
{
    bool in_functions = false;
    size_t from = out->len;
    for (size_t i = 0; i < result->n_blocks; i++) {
        const struct chat_block *x = &result->blocks[i];
        bool is_reference = x->kind == CHAT_TOOL_REFERENCE;
        if (in_functions && !is_reference) buf_append(out, STR("</functions>"));
        if (is_reference != in_functions || !is_reference)
            if (out->len > from) buf_append(out, STR("\n"));
        if (is_reference && !in_functions) buf_append(out, STR("<functions>\n"));
        in_functions = is_reference;
        const struct chat_tool *tool = is_reference ? chat_tool_find(b->req, x->name) : NULL;
        if (tool) append_function(out, tool);
        else if (x->kind == CHAT_TEXT) buf_append(out, x->text);
    }
    if (in_functions) buf_append(out, STR("</functions>"));
}

/* An error must be visible to the model; texts that say so themselves are left alone. */
static bool says_error(struct str text)
{
    return str_eq_nocase(str_slice(text, 0, 5), STR("error")) || str_starts(text, STR("<tool_use_error>"));
}

static struct str id_for_template(const struct builder *b, char space[10], struct str id)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    if (!b->shape->short_ids) return id;
    uint64_t h = hash64(id.ptr, id.len, 0);
    for (int i = 0; i < 9; i++, h /= 62) space[i] = digits[h % 62];
    space[9] = '\0';
    return (struct str){space, 9};
}

static struct str name_of_call(const struct builder *b, struct str id)
{
    uint32_t at;
    return id.ptr && strmap_find(&b->call_at, &at, id) ? b->calls[at]->name : STR("tool");
}

static bool add_result(struct builder *b, const struct chat_block *result)
{
    char space[10];
    struct buf text, plain;
    buf_init(&text, TURNS_MAX_BYTES);
    buf_init(&plain, TURNS_MAX_BYTES);
    append_result_text(b, &plain, result);
    if (result->is_error && !says_error(str_trim(buf_str(&plain)))) buf_append(&text, STR("Error: "));
    buf_append(&text, buf_str(&plain));
    struct str name = name_of_call(b, result->id);
    bool ok = !text.failed && !plain.failed;
    if (ok && b->shape->results) {
        json_t *turn =
            json_pack("{s:s, s:o, s:o, s:o}", "role", "tool", "content", str_json(buf_str(&text)), "tool_call_id",
                      str_json(id_for_template(b, space, result->id)), "name", str_json(name));
        ok = turn && json_array_append_new(b->out->list, turn) == 0;
    } else if (ok) {
        struct chat_block inner = {.kind = CHAT_TEXT, .text = buf_str(&text)};
        struct chat_block flat = {.kind = CHAT_TOOL_RESULT, .id = result->id, .blocks = &inner, .n_blocks = 1};
        buf_clear(&plain);
        ok = dialect_result_text(b->dialect, &plain, &flat, name) && add_turn(b, "user", buf_str(&plain));
    }
    buf_deinit(&plain);
    buf_deinit(&text);
    return ok;
}

static bool add_user_message(struct builder *b, const struct chat_message *message)
{
    bool ok = true;
    struct buf text;
    for (size_t i = 0; ok && i < message->n_blocks; i++) {
        uint32_t at;
        const struct chat_block *x = &message->blocks[i];
        if (x->kind != CHAT_TOOL_RESULT) continue;
        if (x->id.ptr && strmap_find(&b->result_at, &at, x->id) && b->results[at] == x && b->is_placed[at]) continue;
        ok = add_result(b, x);
    }
    buf_init(&text, TURNS_MAX_BYTES);
    turns_append_texts(&text, message->blocks, message->n_blocks);
    ok = ok && !text.failed && (text.len == 0 || add_user(b, buf_str(&text)));
    buf_deinit(&text);
    return ok;
}

/* ---- what the model said ---- */

static json_t *call_json(const struct builder *b, const struct chat_block *call)
{
    char space[10];
    return json_pack("{s:o, s:s, s:{s:o, s:O}}", "id", str_json(id_for_template(b, space, call->id)), "type",
                     "function", "function", "name", str_json(call->name), "arguments", call->input);
}

static bool append_assistant(struct builder *b, struct str text, struct str thinking, json_t *calls)
{
    json_t *turn = json_pack("{s:s, s:o}", "role", "assistant", "content", str_json(text));
    bool ok = turn != NULL;
    if (ok && thinking.len && b->shape->thinking_key)
        ok = json_object_set_new(turn, b->shape->thinking_key, str_json(thinking)) == 0;
    if (ok && calls) ok = json_object_set(turn, "tool_calls", calls) == 0;
    json_decref(calls);
    if (ok) return json_array_append_new(b->out->list, turn) == 0;
    json_decref(turn);
    return false;
}

/* Each call with its result behind it. */
static bool add_calls_apart(struct builder *b, struct str text, struct str thinking, const struct chat_message *m)
{
    bool ok = true;
    for (size_t i = 0; ok && i < m->n_blocks; i++) {
        uint32_t at;
        if (m->blocks[i].kind != CHAT_TOOL_USE) continue;
        ok = append_assistant(b, text, thinking, json_pack("[o]", call_json(b, &m->blocks[i])));
        text = thinking = STR_NONE;
        if (!ok || !strmap_find(&b->result_at, &at, m->blocks[i].id) || b->is_placed[at]) continue;
        b->is_placed[at] = true;
        ok = add_result(b, b->results[at]);
    }
    return ok;
}

static bool add_calls_together(struct builder *b, struct str text, struct str thinking, const struct chat_message *m)
{
    json_t *calls = json_array();
    for (size_t i = 0; i < m->n_blocks; i++)
        if (m->blocks[i].kind == CHAT_TOOL_USE) json_array_append_new(calls, call_json(b, &m->blocks[i]));
    return append_assistant(b, text, thinking, calls);
}

static bool add_calls_as_text(struct builder *b, struct buf *text, struct str thinking, const struct chat_message *m)
{
    for (size_t i = 0; i < m->n_blocks; i++) {
        if (m->blocks[i].kind != CHAT_TOOL_USE) continue;
        if (text->len) buf_append(text, STR("\n"));
        if (!dialect_call_text(b->dialect, text, &m->blocks[i])) return false;
    }
    return !text->failed && append_assistant(b, buf_str(text), thinking, NULL);
}

static bool has_thinking(const struct chat_message *m)
{
    for (size_t i = 0; i < m->n_blocks; i++)
        if (m->blocks[i].kind == CHAT_THINKING && m->blocks[i].text.len) return true;
    return false;
}

static void make_key(const struct builder *b, char key[TURNS_KEY_BYTES], char kind)
{
    snprintf(key, TURNS_KEY_BYTES, "Q%016llx%016llx%c%05zu", (unsigned long long)b->nonce[0],
             (unsigned long long)b->nonce[1], kind, b->out->n_raws % 100000);
}

static bool has_text(const struct chat_message *m)
{
    for (size_t i = 0; i < m->n_blocks; i++)
        if (m->blocks[i].kind == CHAT_TEXT && m->blocks[i].text.len) return true;
    return false;
}

/* One call in the place of all: some templates show results and reasoning only where there is one. */
static json_t *stand_in(const struct builder *b, struct turns_raw *raw, const struct chat_message *m)
{
    char space[10];
    size_t i = 0;
    while (m->blocks[i].kind != CHAT_TOOL_USE) i++;
    make_key(b, raw->call_key, 'N');
    raw->name = m->blocks[i].name;
    struct str id = id_for_template(b, space, m->blocks[i].id);
    snprintf(raw->id, sizeof raw->id, "%.*s", STR_ARG(id));
    return json_pack("[{s:o, s:s, s:{s:o, s:{s:i}}}]", "id", str_json(id), "type", "function", "function", "name",
                     str_json(raw->name), "arguments", raw->call_key, 0);
}

/* The generated text itself, when the message is what the model wrote. *is_raw tells whether it was. */
static bool add_remembered(struct builder *b, bool *is_raw, const struct chat_message *m, size_t n_calls)
{
    struct turns *t = b->out;
    struct turns_raw raw = {0};
    *is_raw = false;
    if (!b->memory || (n_calls && !b->shape->raw && !b->shape->calls)) return true;
    made_text_init(&raw.made, TURNS_MAX_BYTES);
    enum made_match match = call_memory_find(b->memory, &raw.made, m, b->req->salt, b->context);
    if (match != MADE_SAME) {
        made_text_deinit(&raw.made);
        if (match == MADE_CHANGED && t->n_changed++ == 0)
            log_info("a call came back from the client with another input than was generated: it is shown as sent");
        return true;
    }
    *is_raw = true;
    bool thinks = has_thinking(m) && !m->without_thinking && raw.made.thinking.len;
    bool as_call = n_calls && b->shape->calls && (!b->shape->raw || thinks) && !b->shape->no_stand_ins &&
                   !(b->shape->text_behind && has_text(m));
    if (n_calls && !as_call && !b->shape->raw) {
        made_text_deinit(&raw.made);
        *is_raw = false;
        return true;
    }
    if (thinks) make_key(b, raw.thinking_key, 'T');
    if (!as_call || has_text(m)) make_key(b, raw.key, 'Z');
    json_t *calls = as_call ? stand_in(b, &raw, m) : NULL;
    t->raws = mem_realloc(t->raws, (t->n_raws + 1) * sizeof *t->raws);
    t->raws[t->n_raws++] = raw;
    return append_assistant(b, str_from(raw.key), str_from(raw.thinking_key), calls);
}

static bool add_calling(struct builder *b, struct buf *text, struct str thinking, const struct chat_message *m,
                        size_t n_calls)
{
    bool is_raw;
    if (!add_remembered(b, &is_raw, m, n_calls)) return false;
    if (is_raw) return true;
    if (!b->shape->calls) return add_calls_as_text(b, text, thinking, m);
    struct str content = buf_str(text);
    if (b->shape->text_apart && text->len) {
        if (!append_turn(b, "assistant", content)) return false;
        content = STR_NONE;
    }
    return b->shape->one_call && n_calls > 1 ? add_calls_apart(b, content, thinking, m)
                                             : add_calls_together(b, content, thinking, m);
}

static bool add_assistant_message(struct builder *b, const struct chat_message *m)
{
    size_t n_calls = 0;
    struct buf text, thinking;
    buf_init(&text, TURNS_MAX_BYTES);
    buf_init(&thinking, TURNS_MAX_BYTES);
    turns_append_texts(&text, m->blocks, m->n_blocks);
    for (size_t i = 0; i < m->n_blocks; i++) {
        n_calls += m->blocks[i].kind == CHAT_TOOL_USE;
        if (m->blocks[i].kind == CHAT_THINKING) buf_append(&thinking, m->blocks[i].text);
    }
    bool ok = !text.failed && !thinking.failed, is_raw = false;
    if (ok && !n_calls && text.len && !last_turn(b, "assistant")) ok = add_remembered(b, &is_raw, m, n_calls);
    if (ok && n_calls) ok = add_calling(b, &text, buf_str(&thinking), m, n_calls);
    else if (ok && !is_raw && thinking.len) ok = append_assistant(b, buf_str(&text), buf_str(&thinking), NULL);
    else if (ok && !is_raw) ok = add_turn(b, "assistant", buf_str(&text));
    buf_deinit(&thinking);
    buf_deinit(&text);
    return ok;
}

static bool add_system_message(struct builder *b, const struct chat_message *m)
{
    struct buf text;
    buf_init(&text, TURNS_MAX_BYTES);
    turns_append_texts(&text, m->blocks, m->n_blocks);
    if (b->req->tool_choice != CHAT_TOOLS_NONE) append_changes(b, &text, m->blocks, m->n_blocks);
    bool first = json_array_size(b->out->list) == 0;
    bool ok =
        !text.failed && add_system(b, buf_str(&text), first ? b->shape->system_as_user : b->shape->mid_system_as_user);
    buf_deinit(&text);
    return ok;
}

static bool add_head(struct builder *b)
{
    struct buf system;
    buf_init(&system, TURNS_MAX_BYTES);
    turns_append_texts(&system, b->req->system, b->req->n_system);
    bool ok = b->shape->tools ? list_tools(b) : append_tools_text(b, &system);
    ok = ok && !system.failed && add_system(b, buf_str(&system), b->shape->system_as_user);
    buf_deinit(&system);
    return ok;
}

bool turns_init(struct turns *t, const struct chat_request *req, const struct shape *shape, const struct dialect *d,
                struct call_memory *memory)
{
    struct builder b = {.out = t, .req = req, .shape = shape, .dialect = d, .memory = memory};
    *t = (struct turns){.list = json_array()};
    rng_secure(b.nonce, sizeof b.nonce);
    index_blocks(&b);
    bool ok = t->list && add_head(&b);
    size_t n = req->n_messages - (turns_has_prefill(req) ? 1 : 0);
    for (size_t i = 0; ok && i < n; i++) {
        const struct chat_message *m = &req->messages[i];
        if (m->role == CHAT_SYSTEM) ok = add_system_message(&b, m);
        else if (m->role == CHAT_USER) ok = add_user_message(&b, m);
        else ok = add_assistant_message(&b, m);
        b.context = call_memory_context(b.context, m);
    }
    index_free(&b);
    if (ok && shape->typed_content) shape_type_contents(t->list);
    return ok;
}

void turns_deinit(struct turns *t)
{
    json_decref(t->list);
    json_decref(t->tools);
    for (size_t i = 0; i < t->n_raws; i++) made_text_deinit(&t->raws[i].made);
    mem_free(t->raws);
    *t = (struct turns){0};
}
