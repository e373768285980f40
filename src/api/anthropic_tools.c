/* anthropic_tools: tool definitions and tool_choice. Entries that the API itself would run have no schema and are
 * refused by name. */
#include <stdio.h>
#include <string.h>

#include "api/anthropic_request_internal.h"

/* Run by the API, not by the client: a prefix of the dated type. */
static const char *const server_tools[] = {
    "web_search_", "web_fetch_",        "code_execution_", "advisor_",
    "mcp_toolset", "tool_search_tool_", "computer_",       "browser_toolset_",
};

static bool is_server_tool(struct str type)
{
    for (size_t i = 0; i < sizeof server_tools / sizeof *server_tools; i++)
        if (str_starts(type, str_from(server_tools[i]))) return true;
    return false;
}

static bool is_tool_name(struct str name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (!letter && c != '_' && c != '-') return false;
    }
    return name.len >= 1 && name.len <= 64;
}

/* The type, once it is clear that the server does not have to run the tool. */
static bool read_type(struct decoder *d, struct str *out, const json_t *tool)
{
    struct str type = STR("custom");
    if (!json_is_object(tool)) return decode_mismatch(d, "an object", tool);
    if (!field_str(d, &type, tool, "type", false)) return false;
    if (is_server_tool(type)) {
        path_push(d, "type");
        return decode_fail(d, "\"%.*s\" is a tool that the server would have to run, which this one does not",
                           STR_ARG(str_slice(type, 0, 60)));
    }
    if (!d->support->tools) {
        struct str name = STR("");
        if (!field_str(d, &name, tool, "name", false)) return false;
        return decode_fail(d, "tools are not supported by this server yet, found the definition of \"%.*s\"",
                           STR_ARG(str_slice(name, 0, 64)));
    }
    *out = type;
    return true;
}

static bool read_schema(struct decoder *d, struct chat_tool *out, json_t *tool, struct str type)
{
    bool is_known;
    if (!decode_builtin(d, out, &is_known, tool, type)) return false;
    if (is_known) return true;
    if (!str_eq(type, STR("custom"))) {
        path_push(d, "type");
        return decode_fail(
            d, "unknown tool type \"%.*s\", expected custom, bash_*, text_editor_* or memory_* of a known date",
            STR_ARG(str_slice(type, 0, 60)));
    }
    out->schema = field_get(tool, "input_schema");
    size_t at = path_push(d, "input_schema");
    if (!json_is_object(out->schema)) return decode_mismatch(d, "an object", json_object_get(tool, "input_schema"));
    path_pop(d, at);
    return true;
}

static bool read_tool(struct decoder *d, struct chat_tool *out, json_t *tool)
{
    struct str type;
    if (!read_type(d, &type, tool) || !field_str(d, &out->name, tool, "name", true) ||
        !field_str(d, &out->description, tool, "description", false) || !field_bool(d, &out->strict, tool, "strict") ||
        !field_bool(d, &out->deferred, tool, "defer_loading"))
        return false;
    if (!is_tool_name(out->name)) {
        path_push(d, "name");
        return decode_fail(d, "a tool name has 1 to 64 of a-z A-Z 0-9 _ -, found \"%.*s\"",
                           STR_ARG(str_slice(out->name, 0, 80)));
    }
    return read_schema(d, out, tool, type);
}

static bool has_tool(const struct chat_request *r, struct str name)
{
    for (size_t i = 0; i < r->n_tools; i++)
        if (str_eq(r->tools[i].name, name)) return true;
    return false;
}

static bool read_choice(struct decoder *d, const json_t *choice)
{
    struct chat_request *r = d->r;
    struct str type;
    if (!json_is_object(choice)) return decode_mismatch(d, "an object", choice);
    if (!field_str(d, &type, choice, "type", true) ||
        !field_bool(d, &r->no_parallel_tools, choice, "disable_parallel_tool_use"))
        return false;
    if (str_eq(type, STR("auto"))) r->tool_choice = CHAT_TOOLS_AUTO;
    else if (str_eq(type, STR("any"))) r->tool_choice = CHAT_TOOLS_ANY;
    else if (str_eq(type, STR("tool"))) r->tool_choice = CHAT_TOOLS_ONE;
    else if (str_eq(type, STR("none"))) r->tool_choice = CHAT_TOOLS_NONE;
    else {
        path_push(d, "type");
        return decode_fail(d, "unknown tool choice \"%.*s\", expected auto, any, tool or none",
                           STR_ARG(str_slice(type, 0, 40)));
    }
    if (r->tool_choice == CHAT_TOOLS_ONE) {
        if (!field_str(d, &r->tool_choice_name, choice, "name", true)) return false;
        if (!has_tool(r, r->tool_choice_name)) {
            path_push(d, "name");
            return decode_fail(d, "no tool is named \"%.*s\"", STR_ARG(str_slice(r->tool_choice_name, 0, 80)));
        }
    }
    if (r->tool_choice == CHAT_TOOLS_ANY && !r->n_tools) return decode_fail(d, "a tool is required but none is given");
    return true;
}

bool decode_tools(struct decoder *d, const json_t *body)
{
    struct chat_request *r = d->r;
    json_t *tools = field_get(body, "tools");
    size_t at = path_push(d, "tools");
    if (tools && !json_is_array(tools)) return decode_mismatch(d, "an array", tools);
    size_t n = json_array_size(tools);
    r->tools = n ? decode_alloc(d, n, sizeof *r->tools) : NULL;
    if (n && !r->tools) return false;
    for (size_t i = 0; i < n; i++) {
        size_t inner = path_push_index(d, i);
        struct chat_tool *tool = &r->tools[r->n_tools];
        if (!read_tool(d, tool, json_array_get(tools, i))) return false;
        if (has_tool(r, tool->name)) {
            decode_fail(d, "two tools are named \"%.*s\"", STR_ARG(tool->name));
            d->error->code = "tool_name_conflict";
            return false;
        }
        r->n_tools++;
        path_pop(d, inner);
    }
    path_pop(d, at);
    json_t *choice = field_get(body, "tool_choice");
    at = path_push(d, "tool_choice");
    if (choice && !read_choice(d, choice)) return false;
    path_pop(d, at);
    return true;
}
