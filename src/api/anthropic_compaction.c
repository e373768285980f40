/* anthropic_compaction: a request for a compaction becomes the whole conversation with the order to summarise it as the
 * last thing the user says, so that the prompt so far is reused. (What a summary in the history stands for is in
 * anthropic_turns.c.) */
#include <stdlib.h>
#include <string.h>

#include "api/anthropic_request_internal.h"
#include "base/buf.h"

static const char default_order[] =
    "Summarise this conversation, so that the work can go on from your summary alone: what was said before will not be "
    "seen again. Write down what the user wants and every rule they set; what has been found out and decided, with "
    "exact names, paths, commands, numbers and error texts; what has been done and with which result; what is left to "
    "do, and the very next step. Do not call a tool and do not go on with the work itself: answer with the summary "
    "only.";

static bool fail_with(struct decoder *d, const char *code, const char *why)
{
    decode_fail(d, "%s", why);
    d->error->code = code;
    return false;
}

static bool has_open_call(const struct chat_message *m)
{
    for (size_t i = 0; m->role == CHAT_ASSISTANT && i < m->n_blocks; i++)
        if (m->blocks[i].kind == CHAT_TOOL_USE) return true;
    return false;
}

/* The user's message that the order is added to: the last one, or a new one behind an assistant's. */
static struct chat_message *last_user_message(struct decoder *d)
{
    struct chat_request *r = d->r;
    if (r->messages[r->n_messages - 1].role == CHAT_USER) return &r->messages[r->n_messages - 1];
    struct chat_message *more = decode_alloc(d, r->n_messages + 1, sizeof *more);
    if (!more) return NULL;
    memcpy(more, r->messages, r->n_messages * sizeof *more);
    more[r->n_messages] = (struct chat_message){.role = CHAT_USER};
    r->messages = more;
    return &r->messages[r->n_messages++];
}

bool compaction_order(struct decoder *d, const json_t *body)
{
    struct chat_request *r = d->r;
    struct str order = STR_NONE;
    size_t said = 0;
    json_t *compaction = field_get(body, "compaction");
    for (size_t i = 0; i < r->n_messages; i++) said += r->messages[i].role != CHAT_SYSTEM;
    if (!said)
        return fail_with(d, "compaction_nothing_to_summarize", "messages: there is nothing to summarise in them");
    size_t last = r->n_messages - 1;
    while (r->messages[last].role == CHAT_SYSTEM) last--;
    if (has_open_call(&r->messages[last]))
        return fail_with(d, "compaction_incomplete_turn",
                         "messages: the last turn of the assistant has tool calls without results");
    size_t at = path_push(d, "compaction");
    if (!field_str(d, &order, compaction, "instructions", false)) return false;
    path_pop(d, at);
    struct chat_message *m = last_user_message(d);
    struct chat_block *blocks = m ? decode_alloc(d, m->n_blocks + 1, sizeof *blocks) : NULL;
    if (!blocks) return false;
    if (m->n_blocks) memcpy(blocks, m->blocks, m->n_blocks * sizeof *blocks);
    blocks[m->n_blocks] =
        (struct chat_block){.kind = CHAT_TEXT, .text = str_trim(order).len ? order : str_from(default_order)};
    m->blocks = blocks;
    m->n_blocks++;
    r->is_summary = true;
    return true;
}

/* What only shapes a reply has no meaning for a summary. */
void compaction_drop_reply_fields(struct chat_request *r)
{
    if (r->n_stops) chat_note(r, "stop_sequences: ignored in a compaction request");
    if (r->output_schema) chat_note(r, "output_config.format: ignored in a compaction request");
    if (r->tool_choice == CHAT_TOOLS_ANY || r->tool_choice == CHAT_TOOLS_ONE) {
        chat_note(r, "tool_choice: ignored in a compaction request");
        r->tool_choice = CHAT_TOOLS_AUTO;
    }
    r->n_stops = 0;
    r->output_schema = NULL;
}

static void add_changes(json_t *out, const json_t *blocks)
{
    size_t i;
    json_t *block;
    json_array_foreach(blocks, i, block)
    {
        const char *type = json_string_value(json_object_get(block, "type"));
        if (!type || (strcmp(type, "tool_addition") != 0 && strcmp(type, "tool_removal") != 0)) continue;
        json_array_append_new(out, json_pack("{s:s, s:O}", "type", type, "tool", json_object_get(block, "tool")));
    }
}

/* A summary starts anew, with the changes that it stands for. */
static void start_anew(json_t *out, const json_t *blocks)
{
    size_t i;
    json_t *block;
    json_array_foreach(blocks, i, block)
    {
        const char *type = json_string_value(json_object_get(block, "type"));
        if (!type || strcmp(type, "compaction") != 0 || !json_string_length(json_object_get(block, "content")))
            continue;
        json_array_clear(out);
        add_changes(out, json_object_get(block, "tool_changes"));
    }
}

void compaction_tool_changes(struct buf *out, const json_t *body)
{
    size_t i;
    json_t *message;
    json_t *changes = json_array();
    json_array_foreach(json_object_get(body, "messages"), i, message)
    {
        const char *role = json_string_value(json_object_get(message, "role"));
        const json_t *content = json_object_get(message, "content");
        if (role && !strcmp(role, "assistant")) start_anew(changes, content);
        else if (role && !strcmp(role, "system")) add_changes(changes, content);
    }
    char *text = changes ? json_dumps(changes, JSON_COMPACT) : NULL;
    if (text) buf_append(out, str_from(text));
    free(text);
    json_decref(changes);
}
