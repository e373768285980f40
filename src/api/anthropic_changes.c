/* anthropic_changes: tool_addition and tool_removal. A tool that a message defines is appended to the request's list as
 * a deferred one, so that the list at the start of the prompt stays as it was; a definition under a name that exists
 * takes the older tool's place from there on. MCP references name tools that this server never has. */
#include "api/anthropic_request_internal.h"

enum change_kind { CHANGE_REFERENCE, CHANGE_DEFINITION, CHANGE_MCP };

static bool read_kind(struct decoder *d, enum change_kind *out, const json_t *tool)
{
    struct str type;
    if (!json_is_object(tool)) return decode_mismatch(d, "an object", tool);
    if (!field_str(d, &type, tool, "type", true)) return false;
    if (str_eq(type, STR("tool_reference"))) *out = CHANGE_REFERENCE;
    else if (str_eq(type, STR("tool_definition"))) *out = CHANGE_DEFINITION;
    else if (str_eq(type, STR("mcp_tool_reference")) || str_eq(type, STR("mcp_toolset_reference"))) *out = CHANGE_MCP;
    else {
        path_push(d, "type");
        return decode_fail(d,
                           "Input tag '%.*s' found using 'type' does not match any of the expected tags: "
                           "'tool_reference', 'mcp_tool_reference', 'mcp_toolset_reference', 'tool_definition'",
                           STR_ARG(str_slice(type, 0, 60)));
    }
    return true;
}

/* The newest of that name: it stands for those before it. false: there is none. */
static bool find(const struct chat_request *r, uint32_t *index, struct str name)
{
    for (size_t i = r->n_tools; i-- > 0;)
        if (str_eq(r->tools[i].name, name)) {
            *index = (uint32_t)i;
            return true;
        }
    return false;
}

static enum read_result unresolved(struct decoder *d, const char *why, struct str name)
{
    decode_fail(d, why, STR_ARG(str_slice(name, 0, 80)));
    d->error->code = "tool_reference_unresolved";
    return READ_FAILED;
}

static bool define(struct decoder *d, struct chat_block *out, json_t *tool)
{
    json_t *definition = field_get(tool, "definition");
    size_t at = path_push(d, "definition");
    if (!definition) return decode_mismatch(d, "an object", json_object_get(tool, "definition"));
    if (!decode_tool(d, definition)) return false;
    path_pop(d, at);
    out->tool = (uint32_t)d->r->n_tools - 1;
    out->name = d->r->tools[out->tool].name;
    d->r->tools[out->tool].deferred = true;
    for (uint32_t i = 0; i < out->tool; i++)
        if (str_eq(d->r->tools[i].name, out->name)) d->r->tools[i].withheld = true;
    return true;
}

enum read_result decode_tool_addition(struct decoder *d, struct chat_block *out, const json_t *block)
{
    enum change_kind kind;
    json_t *tool = field_get(block, "tool");
    size_t at = path_push(d, "tool");
    out->kind = CHAT_TOOL_ADDITION;
    if (!read_kind(d, &kind, tool)) return READ_FAILED;
    if (kind == CHANGE_DEFINITION) {
        if (!define(d, out, tool)) return READ_FAILED;
    } else {
        if (!field_str(d, &out->name, tool, kind == CHANGE_MCP ? "server_name" : "name", true)) return READ_FAILED;
        if (kind == CHANGE_MCP)
            return unresolved(d, "MCP server '%.*s' not found: this server connects to no MCP servers", out->name);
        if (!find(d->r, &out->tool, out->name))
            return unresolved(d, "Tool reference '%.*s' not found in available tools", out->name);
    }
    d->r->tools[out->tool].withheld = false;
    path_pop(d, at);
    return READ_TAKEN;
}

enum read_result decode_tool_removal(struct decoder *d, struct chat_block *out, const json_t *block)
{
    enum change_kind kind;
    json_t *tool = field_get(block, "tool");
    size_t at = path_push(d, "tool");
    out->kind = CHAT_TOOL_REMOVAL;
    if (!read_kind(d, &kind, tool)) return READ_FAILED;
    if (kind == CHANGE_MCP) {
        path_pop(d, at);
        return READ_DROPPED;
    }
    if (kind == CHANGE_DEFINITION) {
        path_push(d, "type");
        decode_fail(d, "a tool is removed by a reference, not by a definition");
        return READ_FAILED;
    }
    if (!field_str(d, &out->name, tool, "name", true)) return READ_FAILED;
    path_pop(d, at);
    /* What is not there need not be removed: clients take tools out of the list, too. */
    if (!find(d->r, &out->tool, out->name)) return READ_DROPPED;
    d->r->tools[out->tool].withheld = true;
    return READ_TAKEN;
}

void decode_tools_reset(struct decoder *d)
{
    for (size_t i = 0; i < d->r->n_tools; i++) {
        struct chat_tool *tool = &d->r->tools[i];
        tool->withheld = i >= d->n_declared_tools || tool->deferred;
    }
}
