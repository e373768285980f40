/* anthropic_tools: tool definitions and tool_choice. Entries that the API itself would run have no schema and are
 * refused by name. */
#include <stdio.h>
#include <string.h>

#include "api/anthropic_request_internal.h"
#include "base/alloc.h"
#include "base/hash.h"

/* A prefix of the dated type, and why it is refused. */
static const struct foreign_tool {
    const char *type, *why;
} foreign_tools[] = {
    {"web_search_", "is a tool that the server would have to run, which this one does not"},
    {"web_fetch_", "is a tool that the server would have to run, which this one does not"},
    {"code_execution_", "is a tool that the server would have to run, which this one does not"},
    {"advisor_", "is a tool that the server would have to run, which this one does not"},
    {"mcp_toolset",
     "is a tool that the server would have to run, which this one does not: it connects to no MCP servers"},
    {"computer_", "is not supported: this server knows no schema for it"},
    {"browser_toolset_", "is not supported: this server knows no schema for it"},
};

static const struct foreign_tool *foreign_find(struct str type)
{
    for (size_t i = 0; i < sizeof foreign_tools / sizeof *foreign_tools; i++)
        if (str_starts(type, str_from(foreign_tools[i].type))) return &foreign_tools[i];
    return NULL;
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

/* The type, once it is clear that it can be a tool of the client. */
static bool read_type(struct decoder *d, struct str *out, const json_t *tool)
{
    struct str type = STR("custom");
    if (!json_is_object(tool)) return decode_mismatch(d, "an object", tool);
    if (!field_str(d, &type, tool, "type", false)) return false;
    const struct foreign_tool *foreign = foreign_find(type);
    if (foreign) {
        path_push(d, "type");
        return decode_fail(d, "\"%.*s\" %s", STR_ARG(str_slice(type, 0, 60)), foreign->why);
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

/* Examples of inputs belong to the description: no template knows them. */
static bool add_examples(struct decoder *d, struct chat_tool *out, const json_t *tool)
{
    size_t i;
    json_t *example;
    struct buf text;
    json_t *examples = field_get(tool, "input_examples");
    if (!json_array_size(examples)) return true;
    buf_init(&text, (size_t)64 << 20);
    buf_append(&text, out->description);
    buf_append(&text, out->description.len ? STR("\n\nExamples of inputs:") : STR("Examples of inputs:"));
    json_array_foreach(examples, i, example)
    {
        char *json = json_dumps(example, JSON_ENCODE_ANY);
        buf_append_char(&text, '\n');
        if (json) buf_append(&text, str_from(json));
        mem_free(json);
    }
    out->description = text.failed ? STR_NONE : arena_try_str(&d->r->arena, buf_str(&text));
    buf_deinit(&text);
    return out->description.ptr ||
           anthropic_error_set(d->error, 413, NULL, "the tools are larger than a request may be");
}

/* Tools are called by the model alone, never by code that a server runs. */
static void note_callers(struct decoder *d, const json_t *tool)
{
    size_t i;
    json_t *caller, *callers = field_get(tool, "allowed_callers");
    bool is_direct = !json_array_size(callers);
    json_array_foreach(callers, i, caller) is_direct |= str_eq(json_str(caller), STR("direct"));
    if (!is_direct) chat_note(d->r, "%s.allowed_callers: the model calls the tool directly", d->path);
}

static bool read_tool(struct decoder *d, struct chat_tool *out, json_t *tool)
{
    struct str type;
    if (!read_type(d, &type, tool) || !field_str(d, &out->name, tool, "name", true) ||
        !field_str(d, &out->description, tool, "description", false) || !field_bool(d, &out->strict, tool, "strict") ||
        !field_bool(d, &out->deferred, tool, "defer_loading"))
        return false;
    out->withheld = out->deferred;
    if (!is_tool_name(out->name)) {
        path_push(d, "name");
        return decode_fail(d, "a tool name has 1 to 64 of a-z A-Z 0-9 _ -, found \"%.*s\"",
                           STR_ARG(str_slice(out->name, 0, 80)));
    }
    note_callers(d, tool);
    return read_schema(d, out, tool, type) && add_examples(d, out, tool);
}

/* Room for one more tool. */
static bool grow(struct decoder *d)
{
    struct chat_request *r = d->r;
    if (r->n_tools < d->tools_cap) return true;
    size_t cap = 2 * d->tools_cap + 8;
    struct chat_tool *tools = decode_alloc(d, cap, sizeof *tools);
    if (!tools) return false;
    if (r->n_tools) memcpy(tools, r->tools, r->n_tools * sizeof *tools);
    r->tools = tools;
    d->tools_cap = cap;
    return true;
}

bool decode_tool(struct decoder *d, json_t *tool)
{
    if (!grow(d)) return false;
    d->r->tools[d->r->n_tools] = (struct chat_tool){0};
    if (!read_tool(d, &d->r->tools[d->r->n_tools], tool)) return false;
    d->r->n_tools++;
    return true;
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
        const struct chat_tool *tool = chat_tool_find(r, r->tool_choice_name);
        if (!tool || (tool->withheld && !tool->deferred)) {
            path_push(d, "name");
            return decode_fail(d, "no tool is named \"%.*s\"", STR_ARG(str_slice(r->tool_choice_name, 0, 80)));
        }
        r->tools[tool - r->tools].withheld = false; /* who demands it has seen it */
    }
    size_t n_callable = 0;
    for (size_t i = 0; i < r->n_tools; i++) n_callable += !r->tools[i].withheld;
    if (r->tool_choice == CHAT_TOOLS_ANY && !n_callable) return decode_fail(d, "a tool is required but none is given");
    return true;
}

/* Tools that the server would look for on demand are all shown at once: the search is the server's. */
static bool is_search(const json_t *tool)
{
    json_t *type = json_object_get(tool, "type");
    return json_is_string(type) && str_starts(json_str(type), STR("tool_search_tool_"));
}

bool decode_tools(struct decoder *d, const json_t *body)
{
    struct chat_request *r = d->r;
    struct strmap names;
    json_t *tools = field_get(body, "tools");
    bool shows_all = false, ok = true;
    size_t at = path_push(d, "tools");
    if (tools && !json_is_array(tools)) return decode_mismatch(d, "an array", tools);
    strmap_init(&names);
    for (size_t i = 0; ok && i < json_array_size(tools); i++) {
        json_t *entry = json_array_get(tools, i);
        size_t inner = path_push_index(d, i);
        if (is_search(entry)) {
            shows_all = true;
        } else {
            ok = decode_tool(d, entry);
            if (ok && !strmap_add(&names, r->tools[r->n_tools - 1].name, 0)) {
                ok = decode_fail(d, "two tools are named \"%.*s\"", STR_ARG(r->tools[r->n_tools - 1].name));
                d->error->code = "tool_name_conflict";
            }
        }
        if (ok) path_pop(d, inner);
    }
    strmap_deinit(&names);
    if (!ok) return false;
    for (size_t i = 0; shows_all && i < r->n_tools; i++) r->tools[i].deferred = r->tools[i].withheld = false;
    d->n_declared_tools = r->n_tools;
    path_pop(d, at);
    return true;
}

bool decode_tool_choice(struct decoder *d, const json_t *body)
{
    json_t *choice = field_get(body, "tool_choice");
    size_t at = path_push(d, "tool_choice");
    if (choice && !read_choice(d, choice)) return false;
    path_pop(d, at);
    return true;
}
