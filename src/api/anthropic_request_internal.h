/* The decoder of request bodies: where it is (a path such as messages.3.content.0.text), and typed reading of fields
 * that fails with that path. */
#ifndef API_ANTHROPIC_REQUEST_INTERNAL_H
#define API_ANTHROPIC_REQUEST_INTERNAL_H

#include "api/anthropic_messages.h"
#include "base/buf.h"

struct decoder {
    struct chat_request *r;
    const struct anthropic_support *support;
    enum anthropic_call call;
    struct anthropic_error *error;
    char path[200];
    size_t path_len;
    bool has_noted_citations;
    struct str turn_effort; /* of the last system message that says one; empty = none does */
    struct {                /* images over the size limit: all are named at once */
        char paths[400];    /* JSON strings, separated by commas */
        size_t len;
        struct anthropic_error first;
    } oversized;
    size_t tools_cap;        /* of r->tools */
    size_t n_declared_tools; /* of these, from the list; the others were defined in messages */
};

/* Each returns the length to give to path_pop. */
size_t path_push(struct decoder *d, const char *key);
size_t path_push_index(struct decoder *d, size_t index);
void path_pop(struct decoder *d, size_t len);

/* 400 with "path: text"; returns false. */
bool decode_fail(struct decoder *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* ... "expected WHAT, found ..." */
bool decode_mismatch(struct decoder *d, const char *expected, const json_t *found);
/* From the request's budget; NULL has set the error. Zeroed. */
void *decode_alloc(struct decoder *d, size_t n, size_t size);

/* Absent and null are the same. Each leaves *out alone when the field is absent. */
json_t *field_get(const json_t *object, const char *key);
bool field_str(struct decoder *d, struct str *out, const json_t *object, const char *key, bool is_required);
bool field_bool(struct decoder *d, bool *out, const json_t *object, const char *key);
bool field_number(struct decoder *d, double *out, bool *has, const json_t *object, const char *key, double min,
                  double max);
/* Takes 3 and 3.0. */
bool field_integer(struct decoder *d, int64_t *out, bool *has, const json_t *object, const char *key, int64_t min,
                   int64_t max);
struct str json_str(const json_t *string);

/* anthropic_turns.c: the list of messages. */
bool decode_messages(struct decoder *d, const json_t *body);

/* anthropic_blocks.c: lists of blocks, and which block may stand where. */
enum place { IN_USER = 1, IN_ASSISTANT = 2, IN_SYSTEM = 4, IN_RESULT = 8, IN_DOCUMENT = 16 };
/* A list that is being filled: at most the number of blocks in the JSON. */
struct block_list {
    struct chat_block *items;
    size_t n;
};
/* A string or an array of blocks. */
bool decode_list(struct decoder *d, struct block_list *out, const json_t *content, enum place place);
/* The blocks of an array from index `from` on. */
bool decode_list_from(struct decoder *d, struct block_list *out, const json_t *array, size_t from, enum place place);
bool decode_system(struct decoder *d, const json_t *body);

/* A reader makes one block of one JSON object. */
enum read_result { READ_TAKEN, READ_DROPPED, READ_FAILED };
typedef enum read_result block_reader(struct decoder *d, struct chat_block *out, const json_t *block);
/* The buf's text becomes the block's, copied into the request. */
enum read_result decode_take_text(struct decoder *d, struct chat_block *out, struct buf *text);

/* anthropic_media.c */
block_reader decode_image, decode_document, decode_search_result, decode_browser_state;
/* anthropic_changes.c: tools that come and go with system messages. */
block_reader decode_tool_addition, decode_tool_removal;
/* Back to the list of the request: what was before is replaced by a summary. */
void decode_tools_reset(struct decoder *d);
/* Fails when an image was too large; after the messages. */
bool check_image_sizes(struct decoder *d);
/* anthropic_history.c */
block_reader decode_foreign_use, decode_foreign_result;
/* anthropic_compaction.c: adds the order to summarise to the messages, if the body asks for that. */
bool compaction_order(struct decoder *d, const json_t *body);
void compaction_drop_reply_fields(struct chat_request *r);
/* The blocks of the history that added and removed tools, as a JSON array. */
void compaction_tool_changes(struct buf *out, const json_t *body);
/* anthropic_tools.c: the list of tools, to be read before the messages; one tool, appended
 * to the request's; and the choice among them, after the messages. */
bool decode_tools(struct decoder *d, const json_t *body);
bool decode_tool(struct decoder *d, json_t *tool);
bool decode_tool_choice(struct decoder *d, const json_t *body);
/* anthropic_builtins.c: fills in the schema and description of a client tool that is known
 * by its type. */
bool decode_builtin(struct decoder *d, struct chat_tool *out, bool *is_known, json_t *tool, struct str type);
/* anthropic_context.c: context_management. */
bool decode_context(struct decoder *d, const json_t *body);
/* anthropic_pairs.c: every call has its result in the next user message, and every result
 * its call. */
bool check_pairs(struct decoder *d);

#endif
