/* value: one value in the spelling of a model (JSON, Python literals, single quotes, bare keys, raw-quoted strings as
 * Gemma writes them) read byte by byte and written as strict JSON while it comes in. What was written can be closed to
 * valid JSON at any moment: commas and keys are written only together with the value that follows them. */
#ifndef DIALECT_VALUE_INTERNAL_H
#define DIALECT_VALUE_INTERNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/str.h"

#define VALUE_MAX_DEPTH 128

enum value_result {
    VALUE_MORE,
    VALUE_DONE,        /* the byte was the value's last */
    VALUE_DONE_BEFORE, /* the value ended before the byte, which was not taken */
    VALUE_ERROR        /* the byte was not taken; value_close makes what was written valid */
};
enum value_state {
    VALUE_START,
    VALUE_QUOTE_OPEN,
    VALUE_STRING,
    VALUE_CLOSING, /* behind what may be the closing quote */
    VALUE_ESCAPE,
    VALUE_HEX,
    VALUE_WORD,
    VALUE_KEY,
    VALUE_BARE_KEY,
    VALUE_COLON,
    VALUE_AFTER,
    VALUE_END
};

struct value {
    struct buf *out;
    struct str quote; /* a raw quote besides " and ', e.g. <|"|>; empty = none. With it bare words are strings */
    struct buf key;   /* comma, key and colon that wait for their value */
    struct buf word;  /* a bare word; white space behind a quote */
    enum value_state state;
    size_t depth;
    uint8_t is_object[VALUE_MAX_DEPTH], has_item[VALUE_MAX_DEPTH];
    bool in_key;
    bool python; /* a string over several lines was written without escapes: behind a line end backslashes are text */
    bool is_raw; /* such a line end was read */
    char delim;  /* " or '; 0 = the raw quote */
    size_t n_matched;                    /* of the raw quote */
    unsigned hex, n_hex, hex_left, high; /* \u escapes; high: a surrogate that waits for its second half */
};

void dialect_value_init(struct value *v, struct buf *out, struct str quote);
void dialect_value_reset(struct value *v, struct buf *out);
void dialect_value_deinit(struct value *v);
enum value_result dialect_value_feed(struct value *v, char c);
/* Ends the value where it stands. True: it was whole but for closing brackets; false: something was cut off. */
bool dialect_value_close(struct value *v);
void dialect_value_escape(struct buf *out, char c); /* one byte of a string's text as JSON */

#endif
