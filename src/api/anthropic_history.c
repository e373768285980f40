/* anthropic_history: blocks that other servers left in the conversation, by tools that ran there. What a reader would
 * understand becomes text, what is encrypted is dropped, nothing fails: a session that began elsewhere goes on here.
 * Shapes are not checked: whatever is readable under a known key is taken, so results of later tools work too. */
#include <string.h>

#include "api/anthropic_request_internal.h"
#include "base/alloc.h"

#define TEXT_MAX_BYTES ((size_t)64 << 20)
#define DEPTH_MAX 6

static struct str text_of(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    return json_is_string(value) ? json_str(value) : STR_NONE;
}

static void append_line(struct buf *out, const char *label, struct str text)
{
    text = str_trim(text);
    if (!text.len) return;
    if (out->len) buf_append_char(out, '\n');
    buf_append(out, str_from(label));
    buf_append(out, text);
}

/* "TITLE (URL)" */
static void append_source(struct buf *out, const json_t *object)
{
    struct str title = text_of(object, "title"), url = text_of(object, "url");
    if (!title.len && !url.len) return;
    append_line(out, "- ", title.len ? title : url);
    if (title.len && url.len) {
        buf_append(out, STR(" ("));
        buf_append(out, url);
        buf_append_char(out, ')');
    }
}

static void append_readable(struct buf *out, const json_t *value, int depth);

static void append_members(struct buf *out, const json_t *object, int depth)
{
    static const struct {
        const char *key, *label;
    } texts[] = {
        {"text", ""},           {"stdout", ""},       {"stderr", "stderr: "},        {"error_code", "failed: "},
        {"tool_name", "tool "}, {"file_id", "file "}, {"error_message", "failed: "},
    };
    /* Not "data" in general: of a file it is base64. */
    static const char *const inner[] = {"content", "source", "tool_references", "lines"};
    json_t *code = json_object_get(object, "return_code");
    append_source(out, object);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        append_line(out, texts[i].label, text_of(object, texts[i].key));
    if (str_eq(text_of(object, "type"), STR("text"))) append_line(out, "", text_of(object, "data"));
    for (size_t i = 0; i < sizeof inner / sizeof *inner; i++)
        append_readable(out, json_object_get(object, inner[i]), depth + 1);
    if (json_is_integer(code) && json_integer_value(code) != 0)
        buf_printf(out, "%sexit status %lld", out->len ? "\n" : "", (long long)json_integer_value(code));
}

static void append_readable(struct buf *out, const json_t *value, int depth)
{
    size_t i;
    json_t *item;
    if (depth > DEPTH_MAX) return;
    if (json_is_string(value)) append_line(out, "", json_str(value));
    if (json_is_object(value)) append_members(out, value, depth);
    json_array_foreach(value, i, item)
    {
        append_readable(out, item, depth + 1);
    }
}

enum read_result decode_foreign_result(struct decoder *d, struct chat_block *out, const json_t *block)
{
    struct buf inner, text;
    struct str type = text_of(block, "type");
    buf_init(&inner, TEXT_MAX_BYTES);
    buf_init(&text, TEXT_MAX_BYTES);
    append_readable(&inner, field_get(block, "content"), 0);
    if (inner.len) {
        buf_append(&text, STR("["));
        buf_append(&text, str_slice(type, 0, type.len - (str_ends(type, STR("_tool_result")) ? 12 : 0)));
        buf_append(&text, json_is_true(json_object_get(block, "is_error")) ? STR(" failed]\n") : STR(" result]\n"));
        buf_append(&text, buf_str(&inner));
    }
    text.failed = text.failed || inner.failed;
    buf_deinit(&inner);
    return decode_take_text(d, out, &text);
}

enum read_result decode_foreign_use(struct decoder *d, struct chat_block *out, const json_t *block)
{
    struct buf text;
    struct str server = text_of(block, "server_name");
    char *input = json_dumps(field_get(block, "input"), JSON_COMPACT | JSON_ENCODE_ANY);
    buf_init(&text, TEXT_MAX_BYTES);
    buf_append(&text, STR("[used "));
    buf_append(&text, text_of(block, "name"));
    if (server.len) {
        buf_append(&text, STR(" of "));
        buf_append(&text, server);
    }
    if (input) {
        buf_append(&text, STR(": "));
        buf_append(&text, str_from(input));
    }
    buf_append(&text, STR("]"));
    mem_free(input);
    return decode_take_text(d, out, &text);
}
