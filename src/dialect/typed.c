/* typed: what a tool's schema says about the raw text of a tagged argument. A string type keeps the text, any other
 * type is tried as JSON (Python's spelling too) and falls back to a string: the client's validation answers the model
 * then. */
#include <stdlib.h>
#include <string.h>

#include "dialect/dialect_internal.h"
#include "grammar/grammar.h"

#define MAX_UNIONS 64

static unsigned type_bit(const char *name)
{
    static const struct {
        const char *name;
        unsigned bit;
    } names[] = {{"string", TYPE_STRING}, {"number", TYPE_NUMBER}, {"integer", TYPE_NUMBER}, {"boolean", TYPE_BOOLEAN},
                 {"null", TYPE_NULL},     {"array", TYPE_ARRAY},   {"object", TYPE_OBJECT}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i].name, name)) return names[i].bit;
    return 0;
}

static unsigned bit_of_value(const json_t *v)
{
    if (json_is_string(v)) return TYPE_STRING;
    if (json_is_number(v)) return TYPE_NUMBER;
    if (json_is_boolean(v)) return TYPE_BOOLEAN;
    if (json_is_null(v)) return TYPE_NULL;
    return json_is_array(v) ? TYPE_ARRAY : TYPE_OBJECT;
}

/* "#/$defs/NAME" and "#/definitions/NAME" of the tool's own schema. */
static const json_t *follow(const json_t *root, const json_t *schema)
{
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    for (int hops = 0; ref && hops < 8; hops++) {
        const char *name = strrchr(ref, '/');
        if (!name || ref[0] != '#') return schema;
        const json_t *defs = json_object_get(root, strstr(ref, "$defs") ? "$defs" : "definitions");
        const json_t *target = json_object_get(defs, name + 1);
        if (!target) return schema;
        schema = target;
        ref = json_string_value(json_object_get(schema, "$ref"));
    }
    return schema;
}

static unsigned own_types(const json_t *schema)
{
    unsigned bits = 0;
    size_t i;
    const json_t *type = json_object_get(schema, "type"), *list = json_object_get(schema, "enum"), *item;
    if (json_is_string(type)) bits = type_bit(json_string_value(type));
    json_array_foreach(type, i, item) if (json_is_string(item)) bits |= type_bit(json_string_value(item));
    if (!bits) json_array_foreach(list, i, item) bits |= bit_of_value(item);
    item = json_object_get(schema, "const");
    if (!bits && item) bits = bit_of_value(item);
    if (!bits && json_object_get(schema, "properties")) bits = TYPE_OBJECT;
    if (!bits && json_object_get(schema, "items")) bits = TYPE_ARRAY;
    return bits;
}

/* Types of a schema and of the members of its unions, two levels deep. */
static unsigned schema_types(const json_t *root, const json_t *schema)
{
    static const char *const unions[] = {"anyOf", "oneOf", "allOf"};
    const json_t *queue[MAX_UNIONS];
    size_t n = 0;
    unsigned bits = 0;
    queue[n++] = follow(root, schema);
    for (size_t at = 0; at < n; at++) {
        bits |= own_types(queue[at]);
        for (size_t u = 0; u < sizeof unions / sizeof *unions; u++) {
            size_t i;
            json_t *item;
            json_array_foreach(json_object_get(queue[at], unions[u]), i, item)
            {
                if (n < MAX_UNIONS) queue[n++] = follow(root, item);
            }
        }
    }
    return bits;
}

unsigned dialect_typed_of(const struct chat_tool *tool, struct str parameter)
{
    if (!tool) return 0;
    const json_t *properties = json_object_get(tool->schema, "properties");
    const json_t *schema = json_object_getn(properties, parameter.ptr, parameter.len);
    return schema ? schema_types(tool->schema, schema) : 0;
}

void dialect_typed_string(struct buf *out, struct str raw)
{
    buf_append_char(out, '"');
    for (size_t i = 0; i < raw.len; i++) dialect_value_escape(out, raw.ptr[i]);
    buf_append_char(out, '"');
}

static unsigned bit_of_text(char c)
{
    switch (c) {
    case '{': return TYPE_OBJECT;
    case '[': return TYPE_ARRAY;
    case 't':
    case 'f': return TYPE_BOOLEAN;
    case 'n': return TYPE_NULL;
    case '"': return TYPE_STRING;
    default: return TYPE_NUMBER;
    }
}

/* The text as one value of any type. */
static bool parse_value(struct buf *out, struct str text)
{
    struct value v;
    enum value_result result = VALUE_MORE;
    size_t i = 0;
    dialect_value_init(&v, out, STR_NONE);
    for (; i < text.len && result == VALUE_MORE; i++) result = dialect_value_feed(&v, text.ptr[i]);
    bool word = (v.state == VALUE_WORD || v.state == VALUE_CLOSING) && !v.depth && i == text.len;
    bool ok = i == text.len && (result == VALUE_DONE || (result == VALUE_MORE && word && dialect_value_close(&v)));
    dialect_value_deinit(&v);
    return ok && !out->failed;
}

bool dialect_typed_write(struct buf *out, struct str raw, unsigned types)
{
    struct buf b;
    struct str text = str_trim(raw);
    if (!types || types == TYPE_STRING) {
        dialect_typed_string(out, raw);
        return !out->failed;
    }
    buf_init(&b, out->max_bytes);
    bool ok = text.len && parse_value(&b, text) && b.len;
    unsigned bit = ok ? bit_of_text(b.ptr[0]) : 0;
    /* A quoted text for a string of several types is that text; null is what models write for "none" in any type but
     * a string's; for the rest a value of a wrong type is kept, unless a string is allowed. */
    if (ok && (types & TYPE_STRING) && !(types & bit)) ok = false;
    if (ok && bit == TYPE_STRING && (types & TYPE_STRING)) ok = false;
    if (ok) buf_append(out, buf_str(&b));
    else dialect_typed_string(out, raw);
    buf_deinit(&b);
    return !out->failed;
}

/* By the whole schema, as far as it can be enforced. */
static bool is_valid(const struct chat_tool *tool, const json_t *arguments)
{
    struct grammar_options o;
    struct err e;
    grammar_options_init(&o);
    o.strict = false;
    char *schema = json_dumps(tool->schema, JSON_COMPACT), *text = json_dumps(arguments, JSON_COMPACT);
    struct grammar *g = schema && text ? grammar_from_schema(str_from(schema), &o, &e) : NULL;
    bool ok = !g || grammar_check(g, str_from(text), &e);
    grammar_unref(g);
    free(schema);
    free(text);
    return ok;
}

bool dialect_typed_fits(const struct chat_tool *tool, const json_t *arguments)
{
    if (!json_is_object(arguments)) return false;
    const json_t *properties = json_object_get(tool->schema, "properties"), *item;
    size_t i;
    json_array_foreach(json_object_get(tool->schema, "required"), i, item)
    {
        if (json_is_string(item) && !json_object_get(arguments, json_string_value(item))) return false;
    }
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)arguments, key, value)
    {
        const json_t *schema = json_object_get(properties, key);
        unsigned types = schema ? schema_types(tool->schema, schema) : 0;
        if (types && !(types & bit_of_value(value))) return false;
    }
    return is_valid(tool, arguments);
}
