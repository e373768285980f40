/* anthropic_turns: the list of messages. Messages of one role that follow each other become one; a compaction takes
 * the place of all that was before it. */
#include <string.h>

#include "api/anthropic_request_internal.h"

#define MESSAGES_MAX 100000

/* Messages in the making. Room: one for each of the client's, and two for what a compaction leaves. */
struct message_list {
    struct chat_message *items;
    bool *passing; // [n] a system message whose text is gone with the next message of the user
    size_t n;
};

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

static void add(struct message_list *list, enum chat_role role, const struct block_list *blocks)
{
    list->passing[list->n] = false;
    if (blocks->n)
        list->items[list->n++] = (struct chat_message){.role = role, .blocks = blocks->items, .n_blocks = blocks->n};
}

/* ---- compaction ---- */

/* The text of the last compaction among the blocks, and its index; those without text failed and mean nothing. */
static struct str find_compaction(size_t *at, const json_t *content)
{
    struct str found = STR_NONE;
    size_t i;
    json_t *block;
    json_array_foreach(content, i, block)
    {
        const char *type = json_string_value(json_object_get(block, "type"));
        json_t *text = json_object_get(block, "content");
        if (!type || strcmp(type, "compaction") || !json_string_length(text)) continue;
        found = json_str(text);
        *at = i;
    }
    return found;
}

/* tool_changes: the blocks that lead from the list of tools to what was there at the end of the summed-up part. */
static bool add_tool_changes(struct decoder *d, struct message_list *list, const json_t *compaction)
{
    struct block_list blocks = {0};
    json_t *changes = field_get(compaction, "tool_changes");
    if (!json_array_size(changes)) return true;
    size_t at = path_push(d, "tool_changes");
    if (!decode_list(d, &blocks, changes, IN_SYSTEM)) return false;
    path_pop(d, at);
    add(list, CHAT_SYSTEM, &blocks);
    return true;
}

/* The summary speaks to the model as the user does: templates want a conversation to begin with the user. */
static bool start_from_compaction(struct decoder *d, struct message_list *list, struct str summary, const json_t *block)
{
    struct buf text;
    struct block_list blocks = {decode_alloc(d, 1, sizeof *blocks.items), 1};
    if (!blocks.items) return false;
    buf_init(&text, (size_t)256 << 20);
    buf_append(&text, STR(CHAT_SUMMARY_START));
    buf_append(&text, summary);
    buf_append(&text, STR(CHAT_SUMMARY_END));
    if (decode_take_text(d, blocks.items, &text) != READ_TAKEN) return false;
    if (json_is_string(field_get(block, "encrypted_content")))
        blocks.items[0].signature = json_str(field_get(block, "encrypted_content"));
    decode_tools_reset(d);
    list->n = 0;
    add(list, CHAT_USER, &blocks);
    return true;
}

/* ---- */

/* What a system message says beside its text: until when that stands, and how much effort the turns behind it take. */
static bool read_system_fields(struct decoder *d, bool *passing, const json_t *message)
{
    struct str clear_at = STR("never");
    json_t *config = field_get(message, "output_config");
    if (!field_str(d, &clear_at, message, "clear_at", false)) return false;
    *passing = str_eq(clear_at, STR("next_user_message"));
    if (!*passing && !str_eq(clear_at, STR("never")))
        chat_note(d->r, "%s.clear_at: \"%.*s\" is not known: the text stays", d->path,
                  STR_ARG(str_slice(clear_at, 0, 60)));
    size_t at = path_push(d, "output_config");
    if (config && !json_is_object(config)) return decode_mismatch(d, "an object", config);
    if (config && !field_str(d, &d->turn_effort, config, "effort", false)) return false;
    path_pop(d, at);
    return true;
}

/* Takes the text out of system messages that were for one turn only; tools that came or went with them stay so. */
static void drop_passed(struct message_list *list)
{
    size_t n = 0, last_user = list->n;
    while (last_user && list->items[last_user - 1].role != CHAT_USER) last_user--;
    for (size_t i = 0; i < list->n; i++) {
        struct chat_message *m = &list->items[i];
        size_t kept = list->passing[i] && i < last_user ? 0 : m->n_blocks;
        for (size_t k = 0; kept < m->n_blocks && k < m->n_blocks; k++)
            if (m->blocks[k].kind != CHAT_TEXT) m->blocks[kept++] = m->blocks[k];
        m->n_blocks = kept;
        if (kept) list->items[n++] = *m;
    }
    list->n = n;
}

static bool read_message(struct decoder *d, struct message_list *list, const json_t *message)
{
    static const enum place places[] = {
        [CHAT_USER] = IN_USER, [CHAT_ASSISTANT] = IN_ASSISTANT, [CHAT_SYSTEM] = IN_SYSTEM};
    struct block_list blocks = {0};
    enum chat_role role = CHAT_USER;
    size_t compaction_at = 0;
    if (!json_is_object(message)) return decode_mismatch(d, "an object", message);
    if (!read_role(d, &role, message)) return false;
    bool passing = false;
    if (role == CHAT_SYSTEM && !read_system_fields(d, &passing, message)) return false;
    json_t *content = field_get(message, "content");
    size_t at = path_push(d, "content");
    if (!content) return decode_mismatch(d, "a string or an array of blocks", json_object_get(message, "content"));
    struct str summary = role == CHAT_ASSISTANT ? find_compaction(&compaction_at, content) : STR_NONE;
    if (summary.len) {
        if (!start_from_compaction(d, list, summary, json_array_get(content, compaction_at)) ||
            !add_tool_changes(d, list, json_array_get(content, compaction_at)) ||
            !decode_list_from(d, &blocks, content, compaction_at + 1, IN_ASSISTANT))
            return false;
    } else if (!decode_list(d, &blocks, content, places[role])) {
        return false;
    }
    path_pop(d, at);
    size_t before = list->n;
    add(list, role, &blocks);
    if (list->n > before) list->passing[before] = passing;
    return true;
}

/* Joins runs of one role in place. */
static bool merge(struct decoder *d, struct message_list *list)
{
    struct chat_message *messages = list->items;
    size_t n = 0;
    for (size_t i = 0; i < list->n;) {
        size_t end = i;
        size_t n_blocks = 0;
        for (; end < list->n && messages[end].role == messages[i].role; end++) n_blocks += messages[end].n_blocks;
        struct chat_message joined = messages[i];
        if (end - i > 1) {
            joined.blocks = decode_alloc(d, n_blocks, sizeof *joined.blocks);
            if (!joined.blocks) return false;
            joined.n_blocks = 0;
            for (size_t k = i; k < end; k++) {
                memcpy(joined.blocks + joined.n_blocks, messages[k].blocks,
                       messages[k].n_blocks * sizeof *joined.blocks);
                joined.n_blocks += messages[k].n_blocks;
            }
        }
        messages[n++] = joined;
        i = end;
    }
    list->n = n;
    return true;
}

bool decode_messages(struct decoder *d, const json_t *body)
{
    json_t *array = json_object_get(body, "messages");
    size_t at = path_push(d, "messages");
    if (!json_is_array(array)) return decode_mismatch(d, "an array", array);
    size_t n = json_array_size(array);
    if (n > MESSAGES_MAX) return decode_fail(d, "at most %d messages are accepted, found %zu", MESSAGES_MAX, n);
    struct message_list list = {decode_alloc(d, n + 3, sizeof *list.items), decode_alloc(d, n + 3, sizeof(bool)), 0};
    if (!list.items || !list.passing) return false;
    for (size_t i = 0; i < n; i++) {
        size_t inner = path_push_index(d, i);
        if (!read_message(d, &list, json_array_get(array, i))) return false;
        path_pop(d, inner);
    }
    if (!check_image_sizes(d)) return false;
    bool is_compaction = d->call == ANTHROPIC_CREATE && field_get(body, "compaction");
    if (!list.n && !is_compaction) return decode_fail(d, "at least one message with content is required");
    drop_passed(&list);
    if (!merge(d, &list)) return false;
    path_pop(d, at);
    d->r->messages = list.items;
    d->r->n_messages = list.n;
    return (!is_compaction || compaction_order(d, body)) && check_pairs(d);
}
