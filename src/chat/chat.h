/* chat: the neutral form of a conversation, between APIs and backends. A request of any API becomes one chat_request; a
 * backend answers with events. Everything in a request is borrowed from its arena, read-only after submit, and lives
 * until the last event. Includes base only; JSON values that have no neutral form (tool schemas, tool inputs) are kept
 * as jansson values. No protocol names below api/. */
#ifndef CHAT_CHAT_H
#define CHAT_CHAT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

/* Around a summary that stands for what was before it, as a TEXT block. */
#define CHAT_SUMMARY_START "<summary>\n"
#define CHAT_SUMMARY_END "\n</summary>"

enum chat_role { CHAT_USER, CHAT_ASSISTANT, CHAT_SYSTEM };
enum chat_block_kind {
    CHAT_TEXT,
    CHAT_THINKING,
    CHAT_TOOL_USE,
    CHAT_TOOL_RESULT,
    CHAT_TOOL_REFERENCE, /* in a result: here the definition of a deferred tool is shown */
    CHAT_TOOL_ADDITION,  /* in a system message: from here on the tool can be called */
    CHAT_TOOL_REMOVAL,   /* ... no longer */
    CHAT_IMAGE,
    CHAT_DOCUMENT /* a file whose text is not known yet: whoever reads it turns the block into TEXT before submit */
};

struct chat_block {
    enum chat_block_kind kind;
    struct str text;           /* TEXT, THINKING */
    struct str signature;      /* THINKING; TEXT that is a summary */
    struct str id, name;       /* TOOL_USE; TOOL_RESULT: id of the call; TOOL_*: name */
    uint32_t tool;             /* TOOL_ADDITION, TOOL_REMOVAL: index in the request's tools */
    json_t *input;             /* TOOL_USE: object */
    bool is_error;             /* TOOL_RESULT */
    struct chat_block *blocks; /* TOOL_RESULT: content */
    size_t n_blocks;
    struct str media_type, data; /* IMAGE, DOCUMENT: the file's bytes */
    uint32_t width, height;      /* IMAGE: as its header says */
    struct str title, context;   /* DOCUMENT */
    struct str where;            /* IMAGE, DOCUMENT: its place in what the client sent, for errors */
};

struct chat_message {
    enum chat_role role;
    struct chat_block *blocks;
    size_t n_blocks;
    bool without_thinking; /* its reasoning was left out on purpose: it must not come back from anywhere */
};

struct chat_tool {
    struct str name, description;
    json_t *schema; /* object */
    bool strict;
    bool deferred; /* not in the list at the start: shown where a block refers to it */
    bool withheld; /* cannot be called at the end of the conversation: not shown by then, or removed */
};
enum chat_tool_choice { CHAT_TOOLS_AUTO, CHAT_TOOLS_ANY, CHAT_TOOLS_ONE, CHAT_TOOLS_NONE };
enum chat_thinking { CHAT_THINKING_OFF, CHAT_THINKING_ON, CHAT_THINKING_ADAPTIVE };

struct chat_sampling { /* has_ false: the model's own default */
    bool has_temperature, has_top_p, has_top_k, has_min_p, has_seed, has_repeat_penalty, has_presence_penalty,
        has_frequency_penalty;
    double temperature, top_p, min_p, repeat_penalty, presence_penalty, frequency_penalty;
    int top_k;
    uint64_t seed;
};

/* What may be left out of the conversation. The backend applies it before rendering. */
enum chat_edit_kind { CHAT_CLEAR_TOOL_USES, CHAT_CLEAR_THINKING };
struct chat_edit {
    enum chat_edit_kind kind;
    uint32_t keep; /* of the last uses, or of the last turns with thinking; UINT32_MAX = all */
    /* CLEAR_TOOL_USES */
    bool triggered_by_uses;  /* trigger counts uses; else tokens of the prompt */
    uint32_t trigger;        /* more than that */
    uint32_t clear_at_least; /* tokens; with less to gain nothing is cleared */
    bool clears_inputs;      /* of all tools; else of those in inputs */
    struct str *inputs, *excluded;
    size_t n_inputs, n_excluded;
    /* Set by the backend before START. */
    uint32_t n_cleared, cleared_tokens;
};
struct chat_context {
    struct chat_edit *edits;
    size_t n_edits;
    uint32_t original_tokens; /* of the prompt before the edits */
};

struct chat_request {
    struct arena arena; /* owns everything below */
    json_t *json;       /* the parsed body: strings are borrowed from it */
    struct str model;   /* id of one of backend.models: the server resolves what the client wrote before submit */
    struct chat_block *system; /* TEXT blocks */
    size_t n_system;
    struct chat_message *messages;
    size_t n_messages;
    struct chat_tool *tools; /* names are unique among those that can be called */
    size_t n_tools;
    enum chat_tool_choice tool_choice;
    struct str tool_choice_name;
    bool no_parallel_tools;
    enum chat_thinking thinking;
    uint32_t thinking_budget; /* 0 = none given */
    bool thinking_omitted;    /* the client wants signatures, not the text */
    struct str effort;
    json_t *output_schema;   /* NULL = free text */
    struct str output_where; /* of the schema, for messages: "output_config.format.schema" */
    struct str *stops;
    size_t n_stops;
    struct chat_sampling sampling;
    uint32_t max_tokens;
    bool has_max_tokens;
    bool is_summary; /* the answer's text comes back as the history: it is signed like thinking */
    bool stream;
    struct str user_id, session_id, agent_id; /* affinity hints, may be empty */
    uint64_t salt;                            /* cache salt of the caller's key */
    uint32_t n_images, n_documents;           /* IMAGE and DOCUMENT blocks, at any depth */
    struct chat_context *context;             /* NULL: the client asked for no edits */
    struct chat_note *notes;                  /* what is answered without being honoured; newest first */
};
struct chat_request *chat_request_create(size_t max_bytes); /* arena budget */
void chat_request_destroy(struct chat_request *r);

/* The tool of that name that can be called, else the last that cannot, else NULL. */
const struct chat_tool *chat_tool_find(const struct chat_request *r, struct str name);

/* A document as it stands in prompts. title and context may be empty. */
bool chat_document_append(struct buf *out, struct str title, struct str context, struct str text);

struct chat_note {
    struct chat_note *next;
    struct str text; /* "tools.0.input_schema.properties.x.pattern: lookahead is not enforced" */
};
/* Remembers something that cannot be honoured although the request is answered; the client learns it with
 * CHAT_EVENT_START. By whoever owns the request, before START is sent. Never fails: without room it is dropped. */
void chat_note(struct chat_request *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

struct chat_usage {
    uint32_t input_tokens;  /* whole prompt */
    uint32_t cached_tokens; /* of these, taken from the cache */
    uint32_t output_tokens, thinking_tokens;
};
enum chat_stop { CHAT_STOP_END, CHAT_STOP_MAX_TOKENS, CHAT_STOP_SEQUENCE, CHAT_STOP_TOOL_USE, CHAT_STOP_CONTEXT };

enum chat_event_kind {
    CHAT_EVENT_START,       /* usage: input known; cached_tokens may still be 0 */
    CHAT_EVENT_BLOCK_OPEN,  /* block kind, id, name */
    CHAT_EVENT_DELTA,       /* text of the open block (TOOL_USE: a piece of the input's JSON) */
    CHAT_EVENT_BLOCK_CLOSE, /* signature for THINKING, and for TEXT of a summary: of all its text so far */
    CHAT_EVENT_FINISH,      /* stop, stop_sequence, usage; last event */
    CHAT_EVENT_ERROR,       /* err; last event */
    CHAT_EVENT_PING,
};
struct chat_event {
    enum chat_event_kind kind;
    enum chat_block_kind block;
    struct str id, name, text, signature, stop_sequence; /* borrowed for the call */
    enum chat_stop stop;
    struct chat_usage usage;            /* START, FINISH */
    const struct chat_note *notes;      /* START */
    const struct chat_context *context; /* FINISH; or NULL */
    const struct err *err;
};
/* One block is open at a time; START comes first, FINISH or ERROR last and once. The deltas of a TOOL_USE block are
 * together one JSON object. Called on the I/O thread; may call cancel and pause of its own handle. */
typedef void chat_sink(void *ctx, const struct chat_event *ev);
/* The answer of a count: n_tokens and the request's context, or err. Called once, on the I/O thread. */
typedef void chat_count_sink(void *ctx, uint32_t n_tokens, const struct chat_context *context, const struct err *err);

struct chat_model { /* one model that a backend serves */
    struct str id, display_name;
    struct str *aliases;
    size_t n_aliases;
    int64_t created; /* Unix time */
    uint32_t n_ctx, max_output;
    uint64_t n_params, size_bytes;
    bool thinking, tools, images, structured;
};

/* A source of answers. All functions are called on the I/O thread and never block; events come on the I/O thread from
 * the event loop (backend->poll_fd becomes readable, then the loop calls pump), never from inside submit. */
struct backend {
    void *self;
    /* Takes ownership of req in every case. Returns a handle > 0; all failures come as CHAT_EVENT_ERROR. */
    uint64_t (*submit)(void *self, struct chat_request *req, chat_sink *sink, void *ctx);
    void (*cancel)(void *self, uint64_t handle); /* no event comes after this returns */
    void (*pause)(void *self, uint64_t handle, bool paused);
    void (*count)(void *self, struct chat_request *req, chat_count_sink *sink, void *ctx); /* takes ownership of req */
    const struct chat_model *(*models)(void *self, size_t *n);
    int (*poll_fd)(void *self);
    void (*pump)(void *self); /* delivers waiting events */
};

#endif
