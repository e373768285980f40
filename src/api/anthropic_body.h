/* anthropic_body: a request body between parsing and decoding, and the text that a message thread holds. A body that
 * continues a thread is only a piece of a conversation: the server looks up what the thread holds, and
 * anthropic_body_continue makes a whole body of both. Bytes only: where threads are kept is the server's business. */
#ifndef API_ANTHROPIC_BODY_H
#define API_ANTHROPIC_BODY_H

#include <jansson.h>

#include "api/anthropic_messages.h"

enum anthropic_thread { ANTHROPIC_THREAD_NONE, ANTHROPIC_THREAD_CREATE, ANTHROPIC_THREAD_CONTINUE };

struct anthropic_body {
    json_t *json;
    size_t n_bytes; /* of text: of the body, and of what a thread added */
    enum anthropic_thread thread;
    struct str previous_id; /* CONTINUE: borrowed from json */
    /* What the answer must know, and no backend: */
    bool is_compaction;          /* the answer is one compaction block */
    struct buf tool_changes;     /* of a compaction, once decoded: JSON, what became of the tools on the way */
    bool wants_diagnostics;      /* `diagnostics` is there */
    struct str diagnose_against; /* its previous_message_id, or empty; borrowed from json */
};

/* Parses and checks the fields above. text is changed in place (see json_text_screen) and may be freed afterwards.
 * false: the error is set and there is nothing to free. */
bool anthropic_body_parse(struct anthropic_body *b, char *text, size_t len, struct anthropic_error *e);
void anthropic_body_deinit(struct anthropic_body *b);

/* Decodes; b gives its JSON to the request (also on failure) and keeps its other fields, whose strings live as long as
 * the request. */
bool anthropic_body_decode(struct chat_request **out, struct anthropic_body *b, enum anthropic_call call,
                           const struct anthropic_support *support, struct anthropic_error *e);

/* What a thread holds, as JSON text: `fixed` the members of the body that cannot change ("system":...,"tools":...),
 * `messages` the elements of the array, with commas between them. */
struct anthropic_history {
    struct buf fixed, messages;
};
void anthropic_history_init(struct anthropic_history *h, size_t max_bytes); /* of each */
void anthropic_history_deinit(struct anthropic_history *h);
/* Takes up what the body adds to a thread: everything of a create, only the messages of a continue. To be called before
 * anthropic_body_continue. false: it is larger than the budget. */
bool anthropic_history_add_body(struct anthropic_history *h, const struct anthropic_body *b);
/* Appends the assistant's turn. message: the whole answer as JSON, as the client got it; without content, nothing. */
bool anthropic_history_add_answer(struct anthropic_history *h, struct str message);
/* Makes the body whole. false: 400, because it repeats or changes what belongs to the thread. */
bool anthropic_body_continue(struct anthropic_body *b, const struct anthropic_history *h, struct anthropic_error *e);

/* Whether a top-level field of a body is one that somebody here has heard of. */
bool anthropic_field_is_known(const char *name);

#endif
