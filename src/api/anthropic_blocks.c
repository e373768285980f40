/* anthropic_blocks: system prompt and messages to blocks. The table `rules` is the policy: which block may stand where,
 * and whether it is taken, dropped or refused. Messages of one role that follow each other become one. */
#include <string.h>

#include "api/anthropic_request_internal.h"

enum place { IN_USER = 1, IN_ASSISTANT = 2, IN_SYSTEM = 4, IN_RESULT = 8, IN_DOCUMENT = 16 };
enum read_result { READ_TAKEN, READ_DROPPED, READ_FAILED };

/* A list that is being filled: at most the number of blocks in the JSON. */
struct block_list {
    struct chat_block *items;
    size_t n;
};

typedef enum read_result block_reader(struct decoder *d, struct chat_block *out, const json_t *block);

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

/* Clients send the input as an object; a string that holds one is taken too. */
static enum read_result read_tool_use(struct decoder *d, struct chat_block *out, const json_t *block)
{
    out->kind = CHAT_TOOL_USE;
    if (!field_str(d, &out->id, block, "id", true) || !field_str(d, &out->name, block, "name", true))
        return READ_FAILED;
    json_t *input = field_get(block, "input");
    size_t at = path_push(d, "input");
    if (json_is_string(input)) {
        json_t *parsed = json_loadb(json_string_value(input), json_string_length(input), JSON_ALLOW_NUL, NULL);
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

static bool read_list(struct decoder *d, struct block_list *out, const json_t *content, enum place place);

static enum read_result read_tool_result(struct decoder *d, struct chat_block *out, const json_t *block)
{
    struct block_list list = {0};
    out->kind = CHAT_TOOL_RESULT;
    if (!field_str(d, &out->id, block, "tool_use_id", true) || !field_bool(d, &out->is_error, block, "is_error"))
        return READ_FAILED;
    json_t *content = field_get(block, "content");
    size_t at = path_push(d, "content");
    if (content && !read_list(d, &list, content, IN_RESULT)) return READ_FAILED;
    path_pop(d, at);
    out->blocks = list.items;
    out->n_blocks = list.n;
    return READ_TAKEN;
}

static enum read_result read_tool_reference(struct decoder *d, struct chat_block *out, const json_t *block)
{
    out->kind = CHAT_TOOL_REFERENCE;
    return field_str(d, &out->name, block, "tool_name", true) ? READ_TAKEN : READ_FAILED;
}

/* ---- documents and search results: labelled text ---- */

static void append_attribute(struct buf *out, const char *name, struct str value)
{
    if (value.len) buf_printf(out, " %s=\"%.*s\"", name, STR_ARG(value));
}

static void append_blocks(struct buf *out, const struct block_list *list)
{
    for (size_t i = 0; i < list->n; i++) {
        if (i) buf_append_char(out, '\n');
        buf_append(out, list->items[i].text);
    }
}

/* The buf's text becomes the block's, copied into the request. */
static enum read_result take_text(struct decoder *d, struct chat_block *out, struct buf *text)
{
    bool failed = text->failed;
    out->kind = CHAT_TEXT;
    out->text = failed ? STR_NONE : arena_try_str(&d->r->arena, buf_str(text));
    buf_deinit(text);
    if (out->text.ptr) return out->text.len ? READ_TAKEN : READ_DROPPED;
    anthropic_error_set(d->error, 413, NULL, "the request is larger than the memory that one may use");
    return READ_FAILED;
}

static enum read_result refuse_document(struct decoder *d, size_t path_len)
{
    path_pop(d, path_len);
    path_push(d, "type");
    decode_fail(d, "\"document\" blocks are supported with plain text only: the model has no document input "
                   "(capability_rejected: document_block)");
    return READ_FAILED;
}

#define DOCUMENT_MAX_BYTES ((size_t)256 << 20)

static enum read_result read_document(struct decoder *d, struct chat_block *out, const json_t *block)
{
    struct str type = STR_NONE, data = STR_NONE, title = STR_NONE, context = STR_NONE;
    struct block_list list = {0};
    struct buf text;
    json_t *source = field_get(block, "source");
    if (!field_str(d, &title, block, "title", false) || !field_str(d, &context, block, "context", false))
        return READ_FAILED;
    size_t at = path_push(d, "source");
    if (!json_is_object(source)) {
        decode_mismatch(d, "an object", json_object_get(block, "source"));
        return READ_FAILED;
    }
    if (!field_str(d, &type, source, "type", true)) return READ_FAILED;
    if (str_eq(type, STR("text"))) {
        if (!field_str(d, &data, source, "data", true)) return READ_FAILED;
    } else if (str_eq(type, STR("content"))) {
        json_t *content = field_get(source, "content");
        path_push(d, "content");
        if (content && !read_list(d, &list, content, IN_DOCUMENT)) return READ_FAILED;
    } else {
        return refuse_document(d, at);
    }
    path_pop(d, at);
    buf_init(&text, DOCUMENT_MAX_BYTES);
    buf_append(&text, STR("<document"));
    append_attribute(&text, "title", title);
    append_attribute(&text, "context", context);
    buf_append(&text, STR(">\n"));
    buf_append(&text, data);
    append_blocks(&text, &list);
    buf_append(&text, STR("\n</document>"));
    return take_text(d, out, &text);
}

static enum read_result read_search_result(struct decoder *d, struct chat_block *out, const json_t *block)
{
    struct str source = STR_NONE, title = STR_NONE;
    struct block_list list = {0};
    struct buf text;
    json_t *content = field_get(block, "content");
    if (!field_str(d, &source, block, "source", false) || !field_str(d, &title, block, "title", false))
        return READ_FAILED;
    size_t at = path_push(d, "content");
    if (content && !read_list(d, &list, content, IN_DOCUMENT)) return READ_FAILED;
    path_pop(d, at);
    buf_init(&text, DOCUMENT_MAX_BYTES);
    buf_append(&text, STR("<search_result"));
    append_attribute(&text, "source", source);
    append_attribute(&text, "title", title);
    buf_append(&text, STR(">\n"));
    append_blocks(&text, &list);
    buf_append(&text, STR("\n</search_result>"));
    return take_text(d, out, &text);
}

enum need { NEED_NOTHING, NEED_THINKING, NEED_TOOLS };
enum otherwise { TAKE, DROP, REFUSE };

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
    {"tool_use", IN_ASSISTANT, NEED_TOOLS, REFUSE, read_tool_use, "this server does not run tool calls yet"},
    {"tool_result", IN_USER, NEED_TOOLS, REFUSE, read_tool_result, "this server does not run tool calls yet"},
    {"tool_reference", IN_RESULT, NEED_TOOLS, REFUSE, read_tool_reference, "this server does not run tool calls yet"},
    {"image", IN_USER | IN_RESULT | IN_DOCUMENT, NEED_NOTHING, REFUSE, NULL,
     "the model has no image input (capability_rejected: image_block)"},
    {"document", IN_USER | IN_ASSISTANT | IN_RESULT, NEED_NOTHING, TAKE, read_document, NULL},
    {"search_result", IN_USER | IN_RESULT, NEED_NOTHING, TAKE, read_search_result, NULL},
    {"container_upload", IN_USER, NEED_NOTHING, REFUSE, NULL, "this server has no containers"},
    {"tool_addition", IN_SYSTEM, NEED_NOTHING, REFUSE, NULL, "tools cannot change within a conversation"},
    {"tool_removal", IN_SYSTEM, NEED_NOTHING, REFUSE, NULL, "tools cannot change within a conversation"},
    {"compaction", IN_ASSISTANT, NEED_NOTHING, DROP, NULL, NULL}, /* one that failed; others: see compaction_find */
    /* Left by servers that run tools themselves; history is never a reason to fail. */
    {"server_tool_use", IN_ASSISTANT, NEED_NOTHING, DROP, NULL, NULL},
    {"web_search_tool_result", IN_ASSISTANT | IN_USER, NEED_NOTHING, DROP, NULL, NULL},
    {"web_fetch_tool_result", IN_ASSISTANT | IN_USER, NEED_NOTHING, DROP, NULL, NULL},
    {"code_execution_tool_result", IN_ASSISTANT | IN_USER, NEED_NOTHING, DROP, NULL, NULL},
    {"bash_code_execution_tool_result", IN_ASSISTANT | IN_USER, NEED_NOTHING, DROP, NULL, NULL},
    {"text_editor_code_execution_tool_result", IN_ASSISTANT | IN_USER, NEED_NOTHING, DROP, NULL, NULL},
    {"tool_search_tool_result", IN_ASSISTANT | IN_USER, NEED_NOTHING, DROP, NULL, NULL},
    {"mcp_tool_use", IN_ASSISTANT, NEED_NOTHING, DROP, NULL, NULL},
    {"mcp_tool_result", IN_ASSISTANT | IN_USER, NEED_NOTHING, DROP, NULL, NULL},
    {"mcp_tool_listing", IN_ASSISTANT | IN_USER, NEED_NOTHING, DROP, NULL, NULL},
    {"advisor_tool_result", IN_ASSISTANT | IN_USER, NEED_NOTHING, DROP, NULL, NULL},
    {"fallback", IN_ASSISTANT, NEED_NOTHING, DROP, NULL, NULL},
};

static bool can_take(const struct decoder *d, const struct block_rule *rule)
{
    if (!rule->read) return false;
    if (rule->need == NEED_THINKING) return d->support->thinking;
    if (rule->need == NEED_TOOLS) return d->support->tools;
    return true;
}

/* The rule for the type at this place; *known: whether the type exists at all. */
static const struct block_rule *rule_find(bool *known, struct str type, enum place place)
{
    *known = false;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        if (!str_eq(type, str_from(rules[i].type))) continue;
        *known = true;
        if (rules[i].places & (unsigned)place) return &rules[i];
    }
    return NULL;
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
    else
        decode_fail(d,
                    "unknown block type \"%.*s\", expected one of text, image, document, search_result, thinking, "
                    "redacted_thinking, tool_use, tool_result",
                    STR_ARG(str_slice(type, 0, 60)));
    if (known && str_eq(type, STR("compaction"))) d->error->code = "compaction_block_misplaced";
    return READ_FAILED;
}

/* A string or an array of blocks, of which the first `from` are passed over. */
static bool read_list_from(struct decoder *d, struct block_list *out, const json_t *content, enum place place,
                           size_t from)
{
    size_t n = json_is_array(content) ? json_array_size(content) : 1;
    out->n = 0;
    out->items = decode_alloc(d, n, sizeof *out->items);
    if (!out->items) return false;
    if (json_is_string(content)) {
        bool ok = true;
        struct str text = json_str(content);
        if (place == IN_SYSTEM) text = without_billing(d, &ok, text);
        if (text.len) out->items[out->n++] = (struct chat_block){.kind = CHAT_TEXT, .text = text};
        return ok;
    }
    if (!json_is_array(content)) return decode_mismatch(d, "a string or an array of blocks", content);
    for (size_t i = from; i < n; i++) {
        size_t at = path_push_index(d, i);
        struct chat_block *block = &out->items[out->n];
        *block = (struct chat_block){0};
        enum read_result got = read_block(d, block, json_array_get(content, i), place);
        if (got == READ_FAILED) return false;
        out->n += got == READ_TAKEN;
        path_pop(d, at);
    }
    return true;
}

static bool read_list(struct decoder *d, struct block_list *out, const json_t *content, enum place place)
{
    return read_list_from(d, out, content, place, 0);
}

bool decode_system(struct decoder *d, const json_t *body)
{
    json_t *system = field_get(body, "system");
    struct block_list list = {0};
    if (!system) return true;
    size_t at = path_push(d, "system");
    if (!read_list(d, &list, system, IN_SYSTEM)) return false;
    path_pop(d, at);
    d->r->system = list.items;
    d->r->n_system = list.n;
    return true;
}

static bool read_role(struct decoder *d, enum chat_role *out, const json_t *message)
{
    struct str role;
    if (!field_str(d, &role, message, "role", true)) return false;
    if (str_eq(role, STR("user"))) *out = CHAT_USER;
    else if (str_eq(role, STR("assistant"))) *out = CHAT_ASSISTANT;
    else if (str_eq(role, STR("system"))) *out = CHAT_SYSTEM;
    else {
        path_push(d, "role");
        return decode_fail(d, "unknown role \"%.*s\", expected user, assistant or system",
                           STR_ARG(str_slice(role, 0, 40)));
    }
    return true;
}

static bool read_message(struct decoder *d, struct chat_message *out, const json_t *message, size_t from)
{
    static const enum place places[] = {
        [CHAT_USER] = IN_USER, [CHAT_ASSISTANT] = IN_ASSISTANT, [CHAT_SYSTEM] = IN_SYSTEM};
    struct block_list list = {0};
    if (!json_is_object(message)) return decode_mismatch(d, "an object", message);
    if (!read_role(d, &out->role, message)) return false;
    json_t *content = field_get(message, "content");
    size_t at = path_push(d, "content");
    if (!content) return decode_mismatch(d, "a string or an array of blocks", json_object_get(message, "content"));
    if (!read_list_from(d, &list, content, places[out->role], from)) return false;
    path_pop(d, at);
    out->blocks = list.items;
    out->n_blocks = list.n;
    return true;
}

/* Joins runs of one role in place; a message without blocks joins nothing and vanishes. */
static bool merge(struct decoder *d, struct chat_message *messages, size_t *n_messages)
{
    size_t n = 0;
    for (size_t i = 0; i < *n_messages;) {
        size_t end = i;
        size_t n_blocks = 0;
        for (; end < *n_messages && messages[end].role == messages[i].role; end++) n_blocks += messages[end].n_blocks;
        struct chat_message joined = messages[i];
        if (end - i > 1) {
            joined.blocks = decode_alloc(d, n_blocks, sizeof *joined.blocks);
            if (!joined.blocks) return false;
            joined.n_blocks = 0;
            for (size_t k = i; k < end; k++) {
                if (messages[k].n_blocks)
                    memcpy(joined.blocks + joined.n_blocks, messages[k].blocks,
                           messages[k].n_blocks * sizeof *joined.blocks);
                joined.n_blocks += messages[k].n_blocks;
            }
        }
        messages[n++] = joined;
        i = end;
    }
    *n_messages = n;
    return true;
}

#define MESSAGES_MAX 100000

bool decode_messages(struct decoder *d, const json_t *body)
{
    json_t *list = json_object_get(body, "messages");
    size_t at = path_push(d, "messages");
    if (!json_is_array(list)) return decode_mismatch(d, "an array", list);
    size_t n_list = json_array_size(list);
    if (n_list > MESSAGES_MAX)
        return decode_fail(d, "at most %d messages are accepted, found %zu", MESSAGES_MAX, n_list);
    struct chat_message *messages = decode_alloc(d, n_list + 1, sizeof *messages);
    if (!messages) return false;
    size_t n = 0;
    struct compaction summary;
    compaction_find(&summary, list);
    if (summary.text.len && !compaction_take(d, &messages[n++], &summary)) return false;
    for (size_t i = summary.message; i < n_list; i++) {
        size_t inner = path_push_index(d, i);
        size_t from = summary.text.len && i == summary.message ? summary.block + 1 : 0;
        if (!read_message(d, &messages[n], json_array_get(list, i), from)) return false;
        path_pop(d, inner);
        n += messages[n].n_blocks > 0;
    }
    bool is_compaction = d->call == ANTHROPIC_CREATE && field_get(body, "compaction");
    if (!n && !is_compaction) return decode_fail(d, "at least one message with content is required");
    if (!merge(d, messages, &n)) return false;
    path_pop(d, at);
    d->r->messages = messages;
    d->r->n_messages = n;
    return compaction_order(d, body) && check_pairs(d);
}
