/* text: tools, calls and results written in a dialect, for templates that render none of them. Every list of tools
 * gives the same bytes each time, so that the prompt's beginning stays in the cache. */
#include <stdlib.h>

#include "dialect/dialect_internal.h"

static bool json_text(struct buf *out, const json_t *v)
{
    char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
    bool ok = buf_append(out, text ? str_from(text) : STR("{}"));
    free(text);
    return ok;
}

/* The markers that a call is written with where the row's own are no JSON: those of the last resort. */
static const struct dialect *json_row(const struct dialect *d)
{
    return d->call_start[0] && d->syntax == CALL_JSON && (d->writes_json || !d->par_open[0])
               ? d
               : dialect_find(STR("default"));
}

static void raw_value(struct buf *out, const json_t *v)
{
    if (json_is_string(v)) buf_append(out, (struct str){json_string_value(v), json_string_length(v)});
    else json_text(out, v);
}

/* Calls in tags: <function=NAME>, then the parameters; around them the row's call or section markers. */
static bool tagged_call(const struct dialect *d, struct buf *out, struct str name, const json_t *input)
{
    const char *start = d->call_start[0] ? d->call_start[0] : d->section_start[0];
    const char *end = d->call_end[0] ? d->call_end[0] : d->section_end[0];
    bool attribute = str_ends(str_from(d->fn_open[0]), STR("name="));
    struct str quote = attribute ? STR("\"") : STR("");
    const char *key;
    json_t *value;
    if (start) buf_printf(out, "%s\n", start);
    buf_printf(out, "%s%.*s%.*s%.*s>\n", d->fn_open[0], STR_ARG(quote), STR_ARG(name), STR_ARG(quote));
    json_object_foreach((json_t *)(uintptr_t)input, key, value)
    {
        buf_printf(out, "%s%.*s%s%.*s>%s", d->par_open[0], STR_ARG(quote), key, STR_ARG(quote), attribute ? "" : "\n");
        raw_value(out, value);
        buf_printf(out, "%s%s\n", attribute ? "" : "\n", d->par_close[0]);
    }
    buf_printf(out, "%s", d->fn_close[0]);
    if (end) buf_printf(out, "\n%s", end);
    return !out->failed;
}

static bool keyed_call(const struct dialect *d, struct buf *out, struct str name, const json_t *input)
{
    const char *key;
    json_t *value;
    buf_printf(out, "%s%.*s\n", d->call_start[0], STR_ARG(name));
    json_object_foreach((json_t *)(uintptr_t)input, key, value)
    {
        buf_printf(out, "%s%s%s\n%s", d->par_open[0], key, d->par_head_end, d->val_open);
        raw_value(out, value);
        buf_printf(out, "%s\n", d->par_close[0]);
    }
    return buf_append(out, str_from(d->call_end[0]));
}

static bool named_call(const struct dialect *d, struct buf *out, struct str name, const json_t *input)
{
    size_t last = 0;
    while (last + 1 < ROW_WORDS && d->name_split[last + 1]) last++;
    if (d->kind_first) last = 0;
    if (d->section_start[0]) buf_append(out, str_from(d->section_start[0]));
    buf_printf(out, "%s%s%.*s", d->call_start[0], d->name_strip[0] ? d->name_strip[0] : "", STR_ARG(name));
    if (d->id_is_head) buf_append(out, STR(":0"));
    if (d->name_split[last]) buf_append(out, str_from(d->name_split[last]));
    json_text(out, input);
    if (d->call_end[0]) buf_append(out, str_from(d->call_end[0]));
    if (d->section_end[0]) buf_append(out, str_from(d->section_end[0]));
    return !out->failed;
}

static bool python_call(const struct dialect *d, struct buf *out, struct str name, const json_t *input)
{
    const char *key;
    json_t *value;
    const char *lead = "";
    buf_printf(out, "%s[%.*s(", d->call_start[0], STR_ARG(name));
    json_object_foreach((json_t *)(uintptr_t)input, key, value)
    {
        buf_printf(out, "%s%s=", lead, key);
        json_text(out, value);
        lead = ", ";
    }
    return buf_printf(out, ")]%s", d->call_end[0]);
}

static bool json_call(const struct dialect *d, struct buf *out, struct str name, const json_t *input)
{
    bool bare = d->bare_json;
    const struct dialect *row = json_row(d);
    if (!bare) buf_printf(out, "%s\n", row->call_start[0]);
    buf_append(out, STR("{\"name\": "));
    dialect_typed_string(out, name);
    buf_append(out, bare ? STR(", \"parameters\": ") : STR(", \"arguments\": "));
    json_text(out, input);
    buf_append_char(out, '}');
    if (!bare && row->call_end[0]) buf_printf(out, "\n%s", row->call_end[0]);
    return !out->failed;
}

/* <function=NAME>{arguments}</function> */
static bool function_call(const struct dialect *d, struct buf *out, struct str name, const json_t *input)
{
    buf_printf(out, "%s%.*s>", d->fn_open[0], STR_ARG(name));
    json_text(out, input);
    return buf_append(out, str_from(d->fn_close[0]));
}

static bool write_call(const struct dialect *d, struct buf *out, struct str name, const json_t *input)
{
    json_t *none = json_object();
    if (!json_is_object(input)) input = none;
    bool ok;
    if (d->writes_json) ok = json_call(d, out, name, input);
    else if (d->fn_open[0] && !d->par_open[0] && !d->bare_json) ok = function_call(d, out, name, input);
    else if (d->par_open[0] && d->fn_open[0] && d->syntax == CALL_JSON) ok = tagged_call(d, out, name, input);
    else if (d->syntax == CALL_KEYED) ok = keyed_call(d, out, name, input);
    else if (d->syntax == CALL_NAMED) ok = named_call(d, out, name, input);
    else if (d->syntax == CALL_PYTHON) ok = python_call(d, out, name, input);
    else ok = json_call(d, out, name, input);
    json_decref(none);
    return ok;
}

bool dialect_opening_text(const struct dialect *d, struct buf *out, struct str name)
{
    const char *args = d->args_key ? d->args_key : "arguments";
    if (!d->forced) return false;
    buf_append(out, str_from(d->forced));
    buf_append(out, name);
    if (name.len && str_ends(str_from(d->forced), STR("{\"name\": \""))) buf_printf(out, "\", \"%s\": ", args);
    else if (name.len && d->json_key_is_name) buf_append(out, STR("\": "));
    return !out->failed;
}

bool dialect_tools_text(const struct dialect *d, struct buf *out, const struct chat_tool *tools, size_t n)
{
    if (!n) return true;
    buf_append(out, STR("# Tools\n\nYou may call one or more of these functions:\n<tools>\n"));
    for (size_t i = 0; i < n; i++) {
        buf_append(out, STR("{\"type\": \"function\", \"function\": {\"name\": "));
        dialect_typed_string(out, tools[i].name);
        buf_append(out, STR(", \"description\": "));
        dialect_typed_string(out, tools[i].description);
        buf_append(out, STR(", \"parameters\": "));
        json_text(out, tools[i].schema);
        buf_append(out, STR("}}\n"));
    }
    buf_append(out,
               STR("</tools>\n\nTo call a function, write exactly this, with the function's name and its arguments "
                   "in the place of the example's:\n"));
    json_t *example = json_pack("{s:s}", "argument", "value");
    write_call(d, out, STR("function_name"), example);
    json_decref(example);
    buf_append(out, STR("\n\nThe results come back in the next message. Call a function only when it is needed; "
                        "otherwise answer in plain text."));
    return !out->failed;
}

bool dialect_call_text(const struct dialect *d, struct buf *out, const struct chat_block *call)
{
    return write_call(d, out, call->name, call->input);
}

bool dialect_result_text(const struct dialect *d, struct buf *out, const struct chat_block *result,
                         struct str tool_name)
{
    bool named = d->header || d->bare_json;
    buf_append(out, STR("<tool_response>\n"));
    if (named || result->is_error) buf_printf(out, "%.*s%s:\n", STR_ARG(tool_name), result->is_error ? " failed" : "");
    buf_append(out, result->text);
    for (size_t i = 0; i < result->n_blocks; i++)
        if (result->blocks[i].kind == CHAT_TEXT) buf_append(out, result->blocks[i].text);
    buf_append(out, STR("\n</tool_response>"));
    return !out->failed;
}
