/* anthropic_context: context_management: what may be left out of a long conversation, decoded here, applied by the
 * backend (who counts tokens), and reported in the answer. Edits that are not known are noted and passed over. */
#include "api/anthropic_request_internal.h"

#define TRIGGER_DEFAULT 100000
#define KEEP_TOOLS_DEFAULT 3
#define KEEP_THINKING_DEFAULT 1
#define EDITS_MAX 16

static const char *const names[] = {
    [CHAT_CLEAR_TOOL_USES] = "clear_tool_uses_20250919",
    [CHAT_CLEAR_THINKING] = "clear_thinking_20251015",
};

/* {"type":TYPE,"value":N}. *type stays as it is when the field is absent. */
static bool read_amount(struct decoder *d, struct str *type, uint32_t *value, const json_t *edit, const char *key)
{
    json_t *amount = field_get(edit, key);
    int64_t n = *value;
    bool has;
    if (!amount) return true;
    size_t at = path_push(d, key);
    if (!json_is_object(amount)) return decode_mismatch(d, "an object", amount);
    if (!field_str(d, type, amount, "type", true) || !field_integer(d, &n, &has, amount, "value", 0, UINT32_MAX))
        return false;
    *value = (uint32_t)n;
    path_pop(d, at);
    return true;
}

static bool read_names(struct decoder *d, struct str **out, size_t *n, const json_t *edit, const char *key)
{
    json_t *list = field_get(edit, key);
    if (!list) return true;
    size_t at = path_push(d, key);
    if (!json_is_array(list)) return decode_mismatch(d, "an array of strings", list);
    *out = decode_alloc(d, json_array_size(list), sizeof **out);
    if (!*out) return false;
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_t *name = json_array_get(list, i);
        size_t inner = path_push_index(d, i);
        if (!json_is_string(name)) return decode_mismatch(d, "a string", name);
        (*out)[(*n)++] = json_str(name);
        path_pop(d, inner);
    }
    path_pop(d, at);
    return true;
}

static bool read_clear_tools(struct decoder *d, struct chat_edit *out, const json_t *edit)
{
    struct str trigger = STR("input_tokens"), keep = STR("tool_uses"), least = STR("input_tokens");
    json_t *inputs = field_get(edit, "clear_tool_inputs");
    *out = (struct chat_edit){.kind = CHAT_CLEAR_TOOL_USES, .trigger = TRIGGER_DEFAULT, .keep = KEEP_TOOLS_DEFAULT};
    if (!read_amount(d, &trigger, &out->trigger, edit, "trigger") || !read_amount(d, &keep, &out->keep, edit, "keep") ||
        !read_amount(d, &least, &out->clear_at_least, edit, "clear_at_least") ||
        !read_names(d, &out->excluded, &out->n_excluded, edit, "exclude_tools"))
        return false;
    out->triggered_by_uses = str_eq(trigger, STR("tool_uses"));
    if (!json_is_array(inputs)) return field_bool(d, &out->clears_inputs, edit, "clear_tool_inputs");
    return read_names(d, &out->inputs, &out->n_inputs, edit, "clear_tool_inputs");
}

static bool read_clear_thinking(struct decoder *d, struct chat_edit *out, const json_t *edit)
{
    struct str keep = STR("thinking_turns");
    *out = (struct chat_edit){.kind = CHAT_CLEAR_THINKING, .keep = KEEP_THINKING_DEFAULT};
    if (json_is_string(field_get(edit, "keep"))) keep = json_str(field_get(edit, "keep"));
    else if (!read_amount(d, &keep, &out->keep, edit, "keep")) return false;
    if (str_eq(keep, STR("all"))) out->keep = UINT32_MAX;
    return true;
}

static bool read_edit(struct decoder *d, struct chat_context *context, const json_t *edit)
{
    struct str type;
    struct chat_edit *out = &context->edits[context->n_edits];
    if (!json_is_object(edit)) return decode_mismatch(d, "an object", edit);
    if (!field_str(d, &type, edit, "type", true)) return false;
    bool tools = str_eq(type, str_from(names[CHAT_CLEAR_TOOL_USES]));
    if (!tools && !str_eq(type, str_from(names[CHAT_CLEAR_THINKING]))) {
        chat_note(d->r, "%s: \"%.*s\" is not applied", d->path, STR_ARG(str_slice(type, 0, 60)));
        return true;
    }
    context->n_edits++;
    return tools ? read_clear_tools(d, out, edit) : read_clear_thinking(d, out, edit);
}

bool decode_context(struct decoder *d, const json_t *body)
{
    json_t *management = field_get(body, "context_management");
    if (!management) return true;
    size_t at = path_push(d, "context_management");
    if (!json_is_object(management)) return decode_mismatch(d, "an object", management);
    json_t *edits = field_get(management, "edits");
    struct chat_context *context = decode_alloc(d, 1, sizeof *context);
    if (!context) return false;
    size_t inner = path_push(d, "edits");
    if (edits && !json_is_array(edits)) return decode_mismatch(d, "an array", edits);
    if (json_array_size(edits) > EDITS_MAX) return decode_fail(d, "at most %d edits are accepted", EDITS_MAX);
    context->edits = decode_alloc(d, json_array_size(edits), sizeof *context->edits);
    if (!context->edits) return false;
    for (size_t i = 0; i < json_array_size(edits); i++) {
        size_t place = path_push_index(d, i);
        if (!read_edit(d, context, json_array_get(edits, i))) return false;
        path_pop(d, place);
    }
    path_pop(d, inner);
    path_pop(d, at);
    d->r->context = context;
    return true;
}

void anthropic_context_write(struct buf *out, const struct chat_context *context)
{
    bool has_one = false;
    buf_append(out, STR("{\"applied_edits\":["));
    for (size_t i = 0; i < context->n_edits; i++) {
        const struct chat_edit *x = &context->edits[i];
        if (!x->n_cleared) continue;
        buf_printf(out, "%s{\"type\":\"%s\",\"%s\":%u,\"cleared_input_tokens\":%u}", has_one ? "," : "", names[x->kind],
                   x->kind == CHAT_CLEAR_THINKING ? "cleared_thinking_turns" : "cleared_tool_uses", x->n_cleared,
                   x->cleared_tokens);
        has_one = true;
    }
    buf_append(out, STR("]}"));
}
