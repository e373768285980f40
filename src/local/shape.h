/* shape: how a conversation must be put to a chat template so that it neither raises nor loses something. Found once at
 * load by rendering small conversations and looking whether sentinels arrive; that holds for templates nobody has seen.
 * Private to local/. */
#ifndef LOCAL_SHAPE_H
#define LOCAL_SHAPE_H

#include <stdbool.h>

#include "base/buf.h"
#include "jinja/jinja.h"

struct shape {
    bool system_as_user;      /* the first system turn becomes user text in a <system-reminder> */
    bool mid_system_as_user;  /* later ones too */
    bool tools;               /* the template shows the tool list; else it goes into the system text */
    bool calls, results;      /* it shows calls and results; else they are written into the turns' text */
    bool one_call;            /* only one call a turn arrives */
    bool text_apart;          /* text beside a call is lost: it gets a turn of its own */
    bool short_ids;           /* ids must be nine letters or digits */
    bool user_in_result;      /* user text may not follow a result: it is appended to it */
    bool typed_content;       /* contents are lists of {"type": "text", "text": ...}; a plain string is lost */
    bool text_behind;         /* the template shows text beside a call behind it, or not at all */
    bool no_stand_ins;        /* not found, but chosen: calls of ours are shown as they were sent */
    bool raw;                 /* generated text may stand as content, calls included */
    const char *thinking_key; /* what the template reads reasoning from; NULL = it does not show any */
};

/* Renders messages (borrowed) with tools (may be NULL) and what every rendering gets. */
typedef bool shape_render(void *ctx, struct buf *out, json_t *messages, json_t *tools);
void shape_probe(struct shape *out, shape_render *render, void *ctx);

/* Every content of the turns that is a string becomes a list of one text part. */
void shape_type_contents(json_t *turns);

/* For the log: the rules that are in force, as "a, b, c". */
void shape_describe(const struct shape *s, struct buf *out);

#endif
