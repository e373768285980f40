/* turns: the neutral conversation as the list of turns that chat templates know, in the shape that this one needs.
 * Depends on nothing but the conversation: a later request renders its earlier turns alike. Private to local/. */
#ifndef LOCAL_TURNS_H
#define LOCAL_TURNS_H

#include <jansson.h>
#include <stdbool.h>

#include "base/buf.h"
#include "chat/chat.h"
#include "dialect/dialect.h"
#include "local/memory.h"
#include "local/shape.h"

#define TURNS_MAX_BYTES ((size_t)256 << 20) /* of one text */
#define TURNS_KEY_BYTES 40

/* Remembered text that stands in the turns as keys which no client can guess: one as the content, one as the reasoning
 * where there is some, and one in the arguments of a call where the template must see one. Empty = not there. */
struct turns_raw {
    char key[TURNS_KEY_BYTES], thinking_key[TURNS_KEY_BYTES], call_key[TURNS_KEY_BYTES], id[TURNS_KEY_BYTES];
    struct str name; /* of that call; id: as the template gets it */
    struct made_text made;
};

struct turns {
    json_t *list;  /* the turns before the answer */
    json_t *tools; /* what the template shall show; NULL = nothing */
    struct turns_raw *raws;
    size_t n_raws;
    size_t n_changed; /* earlier calls of ours that came back with another meaning */
};

/* false: out of memory or budget. memory may be NULL. turns_deinit is due in every case. */
bool turns_init(struct turns *t, const struct chat_request *req, const struct shape *shape, const struct dialect *d,
                struct call_memory *memory);
void turns_deinit(struct turns *t);

/* Whether the last message is the beginning of the answer. */
bool turns_has_prefill(const struct chat_request *req);
/* What the last message gives as the beginning of the answer; where that is an answer of ours that was cut, as it was
 * written, and the answer itself in *made. memory may be NULL. */
void turns_append_prefill(struct buf *out, struct made_text *made, const struct chat_request *req,
                          struct call_memory *memory);
/* The texts of blocks, with an empty line between them. */
void turns_append_texts(struct buf *out, const struct chat_block *blocks, size_t n);
/* Whether the tool is in the list that the model sees from the start. */
bool turns_shows_tool(const struct chat_request *req, const struct chat_tool *tool);

#endif
