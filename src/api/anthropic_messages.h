/* anthropic_messages: Anthropic's Messages API as bytes in and bytes out: a body becomes a chat_request, chat events
 * become server-sent events or one message object. No sockets. Liberal in what is accepted: unknown fields, versions
 * and modes never fail; what cannot be honoured is refused by name. */
#ifndef API_ANTHROPIC_MESSAGES_H
#define API_ANTHROPIC_MESSAGES_H

#include "api/anthropic_error.h"
#include "chat/chat.h"

/* What the backend can do. A block or field that needs more is refused with its path, or dropped where that is
 * harmless (thinking of earlier turns); which one is in the tables of anthropic_blocks.c and anthropic_request.c. */
struct anthropic_support {
    bool thinking;      /* thinking blocks of earlier turns reach the model */
    bool tools;         /* tool definitions, tool_use and tool_result blocks */
    bool output_schema; /* output_config.format */
    bool images;        /* image blocks */
    bool pdf;           /* PDF documents: the request then has DOCUMENT blocks that must be read before submit */
};

enum anthropic_call { ANTHROPIC_CREATE, ANTHROPIC_COUNT };

/* Decodes a body. Strings that are not copied are borrowed from the parsed JSON inside the request; body itself is
 * changed in place (see json_text_screen) and may be freed afterwards. */
bool anthropic_request_decode(struct chat_request **out, char *body, size_t body_len, enum anthropic_call call,
                              const struct anthropic_support *support, struct anthropic_error *e);

/* Turns events into one legal answer, whatever their order: blocks that are empty are left out, a block that is open is
 * closed before the next, text outside a block opens one, broken characters become U+FFFD, nothing follows the end. */
struct anthropic_answer {
    struct str id, model, request_id; /* borrowed */
    struct str diagnostics;           /* borrowed JSON; empty = null */
    struct str tool_changes;          /* of a compaction, borrowed JSON; empty = [] */
    bool is_compaction;               /* its text becomes one compaction block; thinking and calls are left out */
    bool is_stream;
    bool has_start, is_done, has_failed;
    bool is_open;    /* the backend's view: a block is open */
    bool is_written; /* the client's view: it has been started on the wire */
    bool has_tool;
    bool omits_thinking; /* set by the owner: thinking blocks have their signature, but no text */
    enum chat_block_kind kind;
    uint32_t n_blocks;
    char tail[4]; /* an unfinished character at the end of the last delta */
    size_t n_tail;
    uint64_t text_hash;                    /* of the open thinking block, for a signature when the backend gives none */
    struct buf input;                      /* JSON of the open tool call, for the answer in one piece */
    struct buf summary, summary_signature; /* of a compaction */
    struct chat_usage usage;
};
void anthropic_answer_init(struct anthropic_answer *a, bool is_stream, struct str id, struct str model,
                           struct str request_id);
void anthropic_answer_deinit(struct anthropic_answer *a);
/* Appends the bytes that the event stands for; for an answer in one piece they are complete at is_done. ERROR sets
 * has_failed and is_done: a stream gets its error event, an answer in one piece is worthless then. */
void anthropic_answer_event(struct anthropic_answer *a, struct buf *out, const struct chat_event *ev);
/* Ends a stream with an error event. */
void anthropic_answer_fail(struct anthropic_answer *a, struct buf *out, const struct anthropic_error *e);
void anthropic_answer_ping(struct buf *out);

/* The reason for a cache miss as the value of `diagnostics`. reason: one of the API's types, such as "tools_changed";
 * has_missed: whether that type tells how many tokens were not read from the cache. */
void anthropic_diagnostics_write(struct buf *out, const char *reason, bool has_missed, uint32_t missed_tokens);

/* {"input_tokens":N}, with the length before the edits if context is not NULL. */
void anthropic_count_write(struct buf *out, uint32_t n_tokens, const struct chat_context *context);
/* {"applied_edits":[...]} */
void anthropic_context_write(struct buf *out, const struct chat_context *context);

/* prefix ("msg_", "req_", "toolu_") and 24 random letters and digits, NUL-terminated. */
#define ANTHROPIC_ID_SIZE 40
void anthropic_id_make(char out[ANTHROPIC_ID_SIZE], const char *prefix);

#endif
