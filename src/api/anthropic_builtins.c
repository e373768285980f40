/* anthropic_builtins: client tools whose schema the API knows and the client does not send. */
#include "api/anthropic_request_internal.h"

#define PATH_FIELD "\"path\":{\"type\":\"string\",\"description\":\"Absolute path of a file or folder.\"}"
#define EDIT_FIELDS                                                                                                    \
    "\"file_text\":{\"type\":\"string\",\"description\":\"For create: the whole content of the file.\"},"              \
    "\"old_str\":{\"type\":\"string\",\"description\":\"For str_replace: the text to replace; it must occur once.\"}," \
    "\"new_str\":{\"type\":\"string\",\"description\":\"For str_replace: the text to put in its place.\"},"            \
    "\"insert_line\":{\"type\":\"integer\",\"description\":\"For insert: the line after which the text goes; 0 is "    \
    "the "                                                                                                             \
    "start.\"},"                                                                                                       \
    "\"insert_text\":{\"type\":\"string\",\"description\":\"For insert: the text.\"},"                                 \
    "\"view_range\":{\"type\":\"array\",\"items\":{\"type\":\"integer\"},\"description\":\"For view: first and last "  \
    "line, "                                                                                                           \
    "from 1; -1 as the last is the end.\"}"

static const char bash_schema[] =
    "{\"type\":\"object\",\"properties\":{\"command\":{\"type\":\"string\",\"description\":\"The command line to "
    "run.\"},"
    "\"restart\":{\"type\":\"boolean\",\"description\":\"True: start the shell anew instead of running something.\"}}}";
static const char editor_schema[] = "{\"type\":\"object\",\"properties\":{\"command\":{\"type\":\"string\",\"enum\":["
                                    "\"view\",\"create\",\"str_replace\","
                                    "\"insert\"]}," PATH_FIELD "," EDIT_FIELDS "},\"required\":[\"command\",\"path\"]}";
static const char old_editor_schema[] =
    "{\"type\":\"object\",\"properties\":{\"command\":{\"type\":\"string\",\"enum\":[\"view\",\"create\",\"str_"
    "replace\","
    "\"insert\",\"undo_edit\"]}," PATH_FIELD "," EDIT_FIELDS "},\"required\":[\"command\",\"path\"]}";
static const char memory_schema[] =
    "{\"type\":\"object\",\"properties\":{\"command\":{\"type\":\"string\",\"enum\":[\"view\",\"create\",\"str_"
    "replace\","
    "\"insert\",\"delete\",\"rename\"]}," PATH_FIELD "," EDIT_FIELDS
    ",\"old_path\":{\"type\":\"string\",\"description\":\"For rename.\"},"
    "\"new_path\":{\"type\":\"string\",\"description\":\"For rename.\"}},\"required\":[\"command\"]}";

static const char bash_about[] = "Run a command in a bash shell that stays open between calls.";
static const char editor_about[] = "View, create and edit text files.";
static const char memory_about[] =
    "Keep notes in files under /memories that outlast this conversation: view them first, and write down what will be "
    "needed later.";

static const struct builtin {
    const char *type, *about, *schema;
} builtins[] = {
    {"bash_20241022", bash_about, bash_schema},
    {"bash_20250124", bash_about, bash_schema},
    {"text_editor_20241022", editor_about, old_editor_schema},
    {"text_editor_20250124", editor_about, old_editor_schema},
    {"text_editor_20250429", editor_about, editor_schema},
    {"text_editor_20250728", editor_about, editor_schema},
    {"memory_20250818", memory_about, memory_schema},
};

bool decode_builtin(struct decoder *d, struct chat_tool *out, bool *is_known, json_t *tool, struct str type)
{
    const struct builtin *b = NULL;
    for (size_t i = 0; i < sizeof builtins / sizeof *builtins && !b; i++)
        if (str_eq(type, str_from(builtins[i].type))) b = &builtins[i];
    *is_known = b != NULL;
    if (!b) return true;
    json_t *schema = json_loads(b->schema, 0, NULL);
    /* The body owns what the request points to. */
    if (!schema || json_object_set_new(tool, "input_schema", schema)) return decode_fail(d, "out of memory");
    out->schema = schema;
    out->description = str_from(b->about);
    return true;
}
