/* dialect: how a model family writes tool calls and reasoning. One table of rows (markers, name and argument syntax,
 * leniencies) and one streaming state machine over it; formats that no row can express are small plug-ins behind the
 * same interface. Chosen from the chat template's text. What does not parse is given back as text: nothing is ever
 * dropped. Rows are immutable; a parser belongs to one answer and one thread. O(1) amortised per byte, whatever the
 * number of tools. */
#ifndef DIALECT_DIALECT_H
#define DIALECT_DIALECT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "chat/chat.h"

struct dialect;

/* The row whose distinctive substrings stand in the template; never NULL (the last resort writes calls as Hermes does:
 * <tool_call>{"name": ..., "arguments": ...}</tool_call>). */
const struct dialect *dialect_detect(struct str template_text);
const struct dialect *dialect_find(struct str name); /* by name, for --dialect; NULL = unknown */
const char *dialect_name(const struct dialect *d);
const struct dialect *dialect_at(size_t i); /* NULL behind the last row */

struct dialect_traits {
    bool thinks;                       /* the family has reasoning markers */
    struct str think_start, think_end; /* e.g. "<think>", "</think>"; empty when it has none */
    bool calls_are_control;            /* markers are control tokens: the engine must show them (show_control) */
    struct str call_start;             /* what a forced call begins with, up to the name; empty = not expressible */
};
void dialect_traits_get(const struct dialect *d, struct dialect_traits *out);

/* The tool list and the call format as stable text for a system prompt, for templates that do not render tools. */
bool dialect_tools_text(const struct dialect *d, struct buf *out, const struct chat_tool *tools, size_t n);
/* A call and a result as this dialect's text, for templates that drop them from the history. */
bool dialect_call_text(const struct dialect *d, struct buf *out, const struct chat_block *call);
bool dialect_result_text(const struct dialect *d, struct buf *out, const struct chat_block *result,
                         struct str tool_name);

struct dialect_options {
    const struct chat_tool *tools; /* of the request; borrowed for the parser's life */
    size_t n_tools;                /* 0: no call is looked for, everything is text or thinking */
    bool in_thinking;              /* the prompt has opened the reasoning already */
    bool plain_text;               /* the answer behind the reasoning is text, whatever it looks like */
    bool keep_thinking;            /* false: reasoning is parsed but not reported (thinking is off for the client) */
    struct str opened_call; /* text of a call that the prompt has forced already (dialect_traits.call_start ...) */
    size_t max_bytes;       /* budget of everything held; 0 = 64 MiB */
};
struct dialect_parser;
struct dialect_parser *dialect_parser_create(const struct dialect *d, const struct dialect_options *o);
void dialect_parser_destroy(struct dialect_parser *p);

/* Feeds generated text, cut anywhere; where it is cut changes nothing but the size of the pieces. The sink gets
 * BLOCK_OPEN, DELTA and BLOCK_CLOSE events (TEXT, THINKING, TOOL_USE with name). Ids are given by the caller of the API
 * side: ev.id is the id that the model wrote, or empty; an id written behind the arguments is known only at
 * BLOCK_CLOSE. TOOL_USE deltas are pieces of one JSON object, sent while the arguments come in; their concatenation is
 * always valid JSON. Text is held back while it may be a marker, while it is a call whose name is not known yet, and
 * while the whole answer may still be a call without markers. White space around blocks is dropped; a first line keeps
 * its indentation. */
void dialect_parser_feed(struct dialect_parser *p, struct str text, chat_sink *sink, void *ctx);
/* The answer ended. cut: by a limit, not by the model. A call that is open then is closed as valid JSON; it is counted
 * by dialect_parser_calls only when nothing but end marks and brackets was missing and the model ended the answer
 * itself. */
void dialect_parser_finish(struct dialect_parser *p, bool cut, chat_sink *sink, void *ctx);
size_t dialect_parser_calls(const struct dialect_parser *p);       /* complete tool calls so far */
size_t dialect_parser_think_bytes(const struct dialect_parser *p); /* bytes of reasoning so far */

#endif
