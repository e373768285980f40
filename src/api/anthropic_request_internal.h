/* The decoder of request bodies: where it is (a path such as messages.3.content.0.text), and typed reading of fields
 * that fails with that path. */
#ifndef API_ANTHROPIC_REQUEST_INTERNAL_H
#define API_ANTHROPIC_REQUEST_INTERNAL_H

#include "api/anthropic_messages.h"

struct decoder {
    struct chat_request *r;
    const struct anthropic_support *support;
    enum anthropic_call call;
    struct anthropic_error *error;
    char path[200];
    size_t path_len;
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

/* anthropic_compaction.c */
struct compaction {
    size_t message, block; /* where it stands */
    struct str text;       /* the summary; empty: there is none */
};
/* The last compaction block of the history that has a summary. */
void compaction_find(struct compaction *out, const json_t *messages);
/* The turn that stands for everything up to that block. */
bool compaction_take(struct decoder *d, struct chat_message *out, const struct compaction *c);
/* Adds the order to summarise, if the body asks for a compaction. */
bool compaction_order(struct decoder *d, const json_t *body);
void compaction_drop_reply_fields(struct chat_request *r);

/* anthropic_blocks.c: messages and system. */
bool decode_messages(struct decoder *d, const json_t *body);
bool decode_system(struct decoder *d, const json_t *body);
/* anthropic_tools.c: tools and tool_choice. */
bool decode_tools(struct decoder *d, const json_t *body);
/* anthropic_builtins.c: fills in the schema and description of a client tool that is known by its type. */
bool decode_builtin(struct decoder *d, struct chat_tool *out, bool *is_known, json_t *tool, struct str type);
/* anthropic_pairs.c: every call has its result in the next user message, and every result its call. */
bool check_pairs(struct decoder *d);

#endif
