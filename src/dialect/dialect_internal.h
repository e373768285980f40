/* dialect_internal: a row of the table, and the parser that every row drives. Text that is not yet understood waits in
 * parser.in from parser.pos on; while a call is tried its first byte is kept (call.keep), so that a call that does not
 * parse is taken back and read again as text behind its marker. */
#ifndef DIALECT_DIALECT_INTERNAL_H
#define DIALECT_DIALECT_INTERNAL_H

#include "dialect/dialect.h"
#include "dialect/value_internal.h"

#define ROW_WORDS 8
#define MAX_MARKERS 40
#define MAX_HEAD 320 /* bytes before a call's arguments: name, id, separators */

enum call_syntax { /* how a call reads that is neither a JSON object nor in tags */
                   CALL_JSON,
                   CALL_NAMED, /* name and separators, then an object */
                   CALL_KEYED, /* name, then pairs of key and value tags */
                   CALL_PYTHON /* name(key=value, ...) */
};
enum call_list { LIST_NEVER, LIST_ALLOWED, LIST_ALWAYS }; /* several calls as one JSON array between the markers */
enum header_syntax { HEADER_NONE, HEADER_HARMONY, HEADER_RECIPIENT, HEADER_NAME_LINE };

struct dialect {
    const char *name;
    const char *detect[ROW_WORDS]; /* all of them stand in the template */
    const char *also[ROW_WORDS];   /* or one of these */
    const char *forced;            /* what a call begins with, up to its name; NULL = the prompt cannot force one */
    const char *think_start[ROW_WORDS]; /* the first is what the model is expected to write */
    const char *think_end[ROW_WORDS];
    const char *section_start[ROW_WORDS], *section_end[ROW_WORDS]; /* around all calls of an answer */
    const char *call_start[ROW_WORDS], *call_end[ROW_WORDS];
    const char *fn_open[ROW_WORDS]; /* "<function=": up to '>' stands the name */
    const char *fn_close[ROW_WORDS];
    const char *par_open[ROW_WORDS]; /* "<parameter=", "<arg_key>" */
    const char *par_head_end;        /* what ends the key: ">", "</arg_key>" */
    const char *val_open;            /* between key and value, may be missing in the text; NULL = nothing */
    const char *par_close[ROW_WORDS];
    const char *par_stop[ROW_WORDS];   /* also end a value whose end tag is missing; not taken */
    const char *name_split[ROW_WORDS]; /* CALL_NAMED: between type, name, id and arguments */
    const char *name_strip[ROW_WORDS]; /* prefixes of the name */
    const char *id_mark;               /* the part behind this one of name_split is the id */
    const char *quote;                 /* raw quote of values */
    const char *drop[ROW_WORDS];       /* control text without meaning for the reader */
    /* JSON objects as the model is expected to write them (it is read liberally); NULL: "name", "arguments", no id */
    const char *name_key, *args_key, *id_first, *id_last;
    const char *analysis[3]; /* HEADER_*: a message of reasoning: its header, its end, the end and a new message */
    size_t analysis_fork;    /* bytes of the header that others share */
    enum call_list list;
    enum call_syntax syntax;
    enum header_syntax header;
    bool kind_first;        /* CALL_NAMED: "function" stands before the name */
    bool id_is_head;        /* CALL_NAMED: the whole head is the id, NAME:INDEX */
    bool bare_json;         /* a call is a JSON object without markers */
    bool think_anywhere;    /* reasoning may begin in the middle of text */
    bool calls_in_thinking; /* a call marker ends the reasoning */
    bool control;           /* the markers are control tokens */
    bool json_key_is_name;  /* {"NAME": {arguments}} */
    bool writes_json;       /* calls are written as JSON; its tags are only read */
    bool args_may_lead;     /* "arguments" may stand before "name" */
    bool newlines;          /* tagged values stand on lines of their own */
    bool opening_is_text;   /* what opens the reasoning is read as part of it */
    bool typed_tags;        /* tags say string="true" or string="false" */
};
extern const struct dialect dialect_rows[];

enum marker_kind {
    MARK_THINK_START,
    MARK_THINK_END,
    MARK_SECTION,
    MARK_CALL,
    MARK_FUNCTION,
    MARK_CALL_END, /* of calls and sections, where none is open */
    MARK_DROP,
    MARK_BARE,  /* a call as an object, without a marker of its own */
    MARK_HEADER /* a message of its own begins or ends */
};
struct marker {
    struct str text;
    enum marker_kind kind;
};
struct markers {
    struct marker items[MAX_MARKERS];
    size_t n;
    bool first[256];
};
/* The first marker in s. False: none; *at is then what is surely plain text (a marker may begin behind it). */
bool dialect_markers_scan(const struct markers *m, size_t *at, const struct marker **found, struct str s, bool final);
void dialect_markers_add(struct markers *m, const char *const *words, enum marker_kind kind);

enum parser_state { IN_TEXT, IN_THINKING, IN_CALL, AFTER_CALL, IN_HEADER, IN_BARE_TAIL };
enum call_state {
    CALL_BEGIN,     /* behind the marker */
    CALL_HEAD,      /* name up to the arguments */
    CALL_FUNCTION,  /* behind fn_open */
    CALL_TAGS,      /* between tagged arguments */
    CALL_PAR_HEAD,  /* behind par_open */
    CALL_PAR_START, /* before the value */
    CALL_PAR_VALUE,
    CALL_ARGS,   /* an object of arguments */
    CALL_OBJECT, /* a whole call as an object; sub-states in object */
    CALL_PY_NAME,
    CALL_PY_KEY,
    CALL_PY_VALUE,
    CALL_PY_AFTER
};
enum object_state { OBJ_KEY, OBJ_KEY_TEXT, OBJ_COLON, OBJ_VALUE, OBJ_VALUE_BYTES, OBJ_AFTER };
enum object_key { KEY_NAME, KEY_ARGS, KEY_ID, KEY_FUNCTION, KEY_META, KEY_OTHER };

struct call {
    enum call_state state;
    size_t keep;  /* in parser.in: the first byte of the call, until it is opened */
    size_t retry; /* bytes of it that become text when it does not parse */
    enum parser_state origin;
    bool opened, bare, in_list, need_known, native;
    struct buf name, id, args, scratch; /* args: JSON not sent yet; scratch: a key, a raw value, a part of an object */
    struct value value;
    const struct chat_tool *tool;
    /* tagged and Python arguments */
    size_t n_args;
    bool par_string, par_typed, newline_cut, par_begun;
    struct buf par;
    /* CALL_OBJECT */
    enum object_state object;
    enum object_key key;
    size_t depth; /* of wrapping objects */
    bool has_args, args_done, args_text, sent;
    struct buf other; /* members that are no part of a call: {"name": ..., "city": ...} */
};

struct dialect_parser {
    const struct dialect *d;
    struct dialect_options o;
    chat_sink *sink;
    void *ctx;
    struct buf in;
    size_t pos;
    enum parser_state state;
    struct markers text_marks, think_marks, value_ends, call_tails;
    struct call call;
    struct buf white;      /* white space that waits for the text behind it */
    struct buf hidden;     /* reasoning that is not reported, in case that nothing follows it */
    struct buf held_calls; /* bare calls that were read whole, as JSON lines, until the answer's end */
    enum chat_block_kind open_kind;
    bool is_open, has_text, in_fence, thought, bare_done, think_cut, started, in_header_body, over_budget, calls_off;
    size_t n_calls, n_seen, think_bytes, n_late_failures;
};

/* Output */
void dialect_parser_emit(struct dialect_parser *p, enum chat_block_kind kind, struct str s);
void dialect_parser_close_block(struct dialect_parser *p);
void dialect_parser_event(struct dialect_parser *p, enum chat_event_kind kind, struct str text);
struct str dialect_parser_rest(const struct dialect_parser *p);

/* Calls. A step returns false when it needs more text. */
void dialect_call_begin(struct dialect_parser *p, size_t marker_len, enum call_state state);
bool dialect_call_step(struct dialect_parser *p, bool final);
void dialect_call_open(struct dialect_parser *p);
void dialect_call_flush(struct dialect_parser *p);
void dialect_call_end(struct dialect_parser *p);
void dialect_call_fail(struct dialect_parser *p);
void dialect_call_release(struct dialect_parser *p); /* the calls that were held are calls */
void dialect_call_finish(struct dialect_parser *p, bool cut);
void dialect_call_reset(struct call *c);
bool dialect_call_name_set(struct dialect_parser *p, struct str name); /* looks the tool up; false: not acceptable */
bool dialect_call_object_step(struct dialect_parser *p);
bool dialect_call_python_step(struct dialect_parser *p, bool final);
bool dialect_call_tags_step(struct dialect_parser *p, bool final);
void dialect_call_object_begin(struct dialect_parser *p);
void dialect_call_args_begin(struct dialect_parser *p);
void dialect_call_tags_close(struct dialect_parser *p, bool final);

/* Headers of messages inside an answer (harmony and its kin). */
bool dialect_header_step(struct dialect_parser *p, bool final);

/* typed: tagged values and schemas. */
enum { TYPE_STRING = 1, TYPE_NUMBER = 2, TYPE_BOOLEAN = 4, TYPE_NULL = 8, TYPE_ARRAY = 16, TYPE_OBJECT = 32 };
unsigned dialect_typed_of(const struct chat_tool *tool, struct str parameter); /* bits; 0 = unknown */
bool dialect_typed_write(struct buf *out, struct str raw, unsigned types);
bool dialect_typed_fits(const struct chat_tool *tool, const json_t *arguments);
void dialect_typed_string(struct buf *out, struct str raw);

#endif
