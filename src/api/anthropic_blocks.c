/* anthropic_blocks: content to blocks. The table `rules` is the policy: which block may stand where, and whether it is
 * taken, dropped or refused. */
#include <string.h>

#include "api/anthropic_request_internal.h"

static const char billing_prefix[] = "x-anthropic-billing-header:";

/* Text without the lines that begin with the billing prefix: they change with client version and request, and would
 * make every prompt differ near its start. *ok is false when memory is out. */
static struct str without_billing(struct decoder *d, bool *ok, struct str text)
{
    struct str prefix = {billing_prefix, sizeof billing_prefix - 1};
    *ok = true;
    if (str_find(text, prefix, 0) < 0) return text;
    char *copy = decode_alloc(d, text.len + 1, 1);
    *ok = copy != NULL;
    if (!copy) return text;
    size_t n = 0;
    size_t from = 0;
    bool after_cut = false;
    while (from < text.len) {
        ptrdiff_t nl = str_find(text, STR("\n"), from);
        size_t to = nl < 0 ? text.len : (size_t)nl + 1;
        struct str line = str_slice(text, from, to);
        from = to;
        bool is_billing = str_starts(line, prefix);
        bool is_gap = after_cut && str_trim(line).len == 0;
        after_cut = is_billing || is_gap;
        if (after_cut) continue;
        memcpy(copy + n, line.ptr, line.len);
        n += line.len;
    }
    return (struct str){copy, n};
}

static enum read_result read_text(struct decoder *d, struct chat_block *out, const json_t *block)
{
    out->kind = CHAT_TEXT;
    if (!field_str(d, &out->text, block, "text", true)) return READ_FAILED;
    return out->text.len ? READ_TAKEN : READ_DROPPED;
}

static enum read_result read_system_text(struct decoder *d, struct chat_block *out, const json_t *block)
{
    bool ok;
    if (read_text(d, out, block) == READ_FAILED) return READ_FAILED;
    out->text = without_billing(d, &ok, out->text);
    if (!ok) return READ_FAILED;
    return out->text.len ? READ_TAKEN : READ_DROPPED;
}

static enum read_result read_thinking(struct decoder *d, struct chat_block *out, const json_t *block)
{
    out->kind = CHAT_THINKING;
    if (!field_str(d, &out->text, block, "thinking", false)) return READ_FAILED;
    if (!field_str(d, &out->signature, block, "signature", false)) return READ_FAILED;
    return READ_TAKEN;
}

/* Clients send the input as an object; a string that holds one is taken too, and an empty one: nothing was streamed. */
static enum read_result read_tool_use(struct decoder *d, struct chat_block *out, const json_t *block)
{
    out->kind = CHAT_TOOL_USE;
    if (!field_str(d, &out->id, block, "id", true) || !field_str(d, &out->name, block, "name", true))
        return READ_FAILED;
    json_t *input = field_get(block, "input");
    size_t at = path_push(d, "input");
    if (json_is_string(input)) {
        struct str text = str_trim(json_str(input));
        json_t *parsed = text.len ? json_loadb(text.ptr, text.len, JSON_ALLOW_NUL, NULL) : json_object();
        if (!json_is_object(parsed)) {
            json_decref(parsed);
            decode_fail(d, "Input should be an object, found a string that does not hold one");
            return READ_FAILED;
        }
        /* The body owns what the request points to. */
        if (json_object_set_new((json_t *)block, "input", parsed)) {
            decode_fail(d, "out of memory");
            return READ_FAILED;
        }
        input = parsed;
    }
    if (!json_is_object(input)) {
        decode_mismatch(d, "an object", json_object_get(block, "input"));
        return READ_FAILED;
    }
    out->input = input;
    path_pop(d, at);
    return READ_TAKEN;
}

static enum read_result read_tool_result(struct decoder *d, struct chat_block *out, const json_t *block)
{
    struct block_list list = {0};
    out->kind = CHAT_TOOL_RESULT;
    if (!field_str(d, &out->id, block, "tool_use_id", true) || !field_bool(d, &out->is_error, block, "is_error"))
        return READ_FAILED;
    json_t *content = field_get(block, "content");
    size_t at = path_push(d, "content");
    if (content && !decode_list(d, &list, content, IN_RESULT)) return READ_FAILED;
    path_pop(d, at);
    out->blocks = list.items;
    out->n_blocks = list.n;
    return READ_TAKEN;
}

static enum read_result read_tool_reference(struct decoder *d, struct chat_block *out, const json_t *block)
{
    out->kind = CHAT_TOOL_REFERENCE;
    if (!field_str(d, &out->name, block, "tool_name", true)) return READ_FAILED;
    for (size_t i = d->r->n_tools; i-- > 0;) { /* the newest of that name stands for the others */
        if (!str_eq(d->r->tools[i].name, out->name)) continue;
        d->r->tools[i].withheld = false;
        return READ_TAKEN;
    }
    path_push(d, "tool_name");
    decode_fail(d, "Tool reference '%.*s' not found in available tools", STR_ARG(str_slice(out->name, 0, 80)));
    d->error->code = "tool_reference_unresolved";
    return READ_FAILED;
}

enum need { NEED_NOTHING, NEED_THINKING, NEED_TOOLS, NEED_IMAGES };
enum otherwise { TAKE, DROP, REFUSE };

static const char no_tools[] = "this server does not run tool calls yet";

/* The policy. `otherwise`: what happens without the ability that the block needs, or always when there is no reader. */
static const struct block_rule {
    const char *type;
    unsigned places;
    enum need need;
    enum otherwise otherwise;
    block_reader *read;
    const char *why; /* of REFUSE */
} rules[] = {
    {"text", IN_USER | IN_ASSISTANT | IN_RESULT | IN_DOCUMENT, NEED_NOTHING, TAKE, read_text, NULL},
    {"text", IN_SYSTEM, NEED_NOTHING, TAKE, read_system_text, NULL},
    {"thinking", IN_ASSISTANT, NEED_THINKING, DROP, read_thinking, NULL},
    {"redacted_thinking", IN_ASSISTANT, NEED_NOTHING, DROP, NULL, NULL},
    {"tool_use", IN_ASSISTANT, NEED_TOOLS, REFUSE, read_tool_use, no_tools},
    {"tool_result", IN_USER, NEED_TOOLS, REFUSE, read_tool_result, no_tools},
    {"tool_reference", IN_RESULT, NEED_TOOLS, REFUSE, read_tool_reference, no_tools},
    {"image", IN_USER | IN_RESULT | IN_DOCUMENT, NEED_IMAGES, REFUSE, decode_image,
     "the model has no image input (capability_rejected: image_block)"},
    {"document", IN_USER | IN_ASSISTANT | IN_RESULT, NEED_NOTHING, TAKE, decode_document, NULL},
    {"search_result", IN_USER | IN_RESULT, NEED_NOTHING, TAKE, decode_search_result, NULL},
    {"browser_state", IN_RESULT, NEED_NOTHING, TAKE, decode_browser_state, NULL},
    {"container_upload", IN_USER, NEED_NOTHING, REFUSE, NULL, "this server has no containers"},
    {"tool_addition", IN_SYSTEM, NEED_TOOLS, REFUSE, decode_tool_addition, no_tools},
    {"tool_removal", IN_SYSTEM, NEED_TOOLS, REFUSE, decode_tool_removal, no_tools},
    /* Those with a summary are taken out of the list before (see anthropic_turns.c). */
    {"compaction", IN_ASSISTANT, NEED_NOTHING, DROP, NULL, NULL},
    /* Left by servers that run tools themselves; history is never a reason to fail. */
    {"server_tool_use", IN_ASSISTANT, NEED_NOTHING, TAKE, decode_foreign_use, NULL},
    {"web_search_tool_result", IN_ASSISTANT | IN_USER, NEED_NOTHING, TAKE, decode_foreign_result, NULL},
    {"web_fetch_tool_result", IN_ASSISTANT | IN_USER, NEED_NOTHING, TAKE, decode_foreign_result, NULL},
    {"code_execution_tool_result", IN_ASSISTANT | IN_USER, NEED_NOTHING, TAKE, decode_foreign_result, NULL},
    {"bash_code_execution_tool_result", IN_ASSISTANT | IN_USER, NEED_NOTHING, TAKE, decode_foreign_result, NULL},
    {"text_editor_code_execution_tool_result", IN_ASSISTANT | IN_USER, NEED_NOTHING, TAKE, decode_foreign_result, NULL},
    {"tool_search_tool_result", IN_ASSISTANT | IN_USER, NEED_NOTHING, TAKE, decode_foreign_result, NULL},
    {"mcp_tool_use", IN_ASSISTANT, NEED_NOTHING, TAKE, decode_foreign_use, NULL},
    {"mcp_tool_result", IN_ASSISTANT | IN_USER, NEED_NOTHING, TAKE, decode_foreign_result, NULL},
    {"mcp_tool_listing", IN_ASSISTANT | IN_USER, NEED_NOTHING, DROP, NULL, NULL},
    {"advisor_tool_result", IN_ASSISTANT | IN_USER, NEED_NOTHING, TAKE, decode_foreign_result, NULL},
    {"fallback", IN_ASSISTANT, NEED_NOTHING, DROP, NULL, NULL},
};
#define N_RULES (sizeof rules / sizeof *rules)

static bool can_take(const struct decoder *d, const struct block_rule *rule)
{
    if (!rule->read) return false;
    if (rule->need == NEED_THINKING) return d->support->thinking;
    if (rule->need == NEED_TOOLS) return d->support->tools;
    if (rule->need == NEED_IMAGES) return d->support->images;
    return true;
}

/* The rule for the type at this place; *known: whether the type exists at all. */
static const struct block_rule *rule_find(bool *known, struct str type, enum place place)
{
    static const struct block_rule later_results = {"", IN_ASSISTANT, NEED_NOTHING, TAKE, decode_foreign_result, NULL};
    *known = false;
    for (size_t i = 0; i < N_RULES; i++) {
        if (!str_eq(type, str_from(rules[i].type))) continue;
        *known = true;
        if (rules[i].places & (unsigned)place) return &rules[i];
    }
    return !*known && place == IN_ASSISTANT && str_ends(type, STR("_tool_result")) ? &later_results : NULL;
}

static enum read_result fail_unknown(struct decoder *d, struct str type, enum place place)
{
    struct buf tags;
    buf_init(&tags, 4096);
    for (size_t i = 0; i < N_RULES; i++)
        if (rules[i].places & (unsigned)place) buf_printf(&tags, "%s'%s'", tags.len ? ", " : "", rules[i].type);
    decode_fail(d, "Input tag '%.*s' found using 'type' does not match any of the expected tags: %.*s",
                STR_ARG(str_slice(type, 0, 60)), STR_ARG(buf_str(&tags)));
    buf_deinit(&tags);
    return READ_FAILED;
}

static enum read_result read_block(struct decoder *d, struct chat_block *out, const json_t *block, enum place place)
{
    static const char *const names[] = {[IN_USER] = "a user message",
                                        [IN_ASSISTANT] = "an assistant message",
                                        [IN_SYSTEM] = "system text",
                                        [IN_RESULT] = "a tool result",
                                        [IN_DOCUMENT] = "a document"};
    struct str type;
    bool known;
    if (!json_is_object(block)) {
        decode_mismatch(d, "an object", block);
        return READ_FAILED;
    }
    if (!field_str(d, &type, block, "type", true)) return READ_FAILED;
    const struct block_rule *rule = rule_find(&known, type, place);
    if (rule && can_take(d, rule)) return rule->read(d, out, block);
    if (rule && rule->otherwise == DROP) return READ_DROPPED;
    path_push(d, "type");
    if (rule) decode_fail(d, "\"%s\" blocks are not supported: %s", rule->type, rule->why);
    else if (known) decode_fail(d, "a \"%.*s\" block cannot stand in %s", STR_ARG(type), names[place]);
    else return fail_unknown(d, type, place);
    if (known && str_eq(type, STR("compaction"))) d->error->code = "compaction_block_misplaced";
    return READ_FAILED;
}

bool decode_list_from(struct decoder *d, struct block_list *out, const json_t *array, size_t from, enum place place)
{
    size_t n = json_array_size(array);
    out->n = 0;
    out->items = decode_alloc(d, n, sizeof *out->items);
    if (!out->items) return false;
    for (size_t i = from; i < n; i++) {
        size_t at = path_push_index(d, i);
        struct chat_block *block = &out->items[out->n];
        *block = (struct chat_block){0};
        enum read_result got = read_block(d, block, json_array_get(array, i), place);
        if (got == READ_FAILED) return false;
        out->n += got == READ_TAKEN;
        path_pop(d, at);
    }
    return true;
}

bool decode_list(struct decoder *d, struct block_list *out, const json_t *content, enum place place)
{
    bool ok = true;
    if (json_is_array(content)) return decode_list_from(d, out, content, 0, place);
    if (!json_is_string(content)) return decode_mismatch(d, "a string or an array of blocks", content);
    out->n = 0;
    out->items = decode_alloc(d, 1, sizeof *out->items);
    struct str text = json_str(content);
    if (place == IN_SYSTEM) text = without_billing(d, &ok, text);
    if (!out->items || !ok) return false;
    if (text.len) out->items[out->n++] = (struct chat_block){.kind = CHAT_TEXT, .text = text};
    return true;
}

bool decode_system(struct decoder *d, const json_t *body)
{
    json_t *system = field_get(body, "system");
    struct block_list list = {0};
    if (!system) return true;
    size_t at = path_push(d, "system");
    if (!decode_list(d, &list, system, IN_SYSTEM)) return false;
    path_pop(d, at);
    d->r->system = list.items;
    d->r->n_system = list.n;
    return true;
}
