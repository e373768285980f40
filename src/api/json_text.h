/* json_text: JSON as bytes. Writing strings that are always valid, and screening text from outside before a parser
 * spends memory on it. */
#ifndef API_JSON_TEXT_H
#define API_JSON_TEXT_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

/* Appends s quoted and escaped; bytes that are not UTF-8 become U+FFFD. */
void json_text_string(struct buf *out, struct str s);
/* The same without quotes. */
void json_text_escape(struct buf *out, struct str s);

#define JSON_TEXT_MAX_DEPTH 256
#define JSON_TEXT_MAX_VALUES 2000000

/* Checks UTF-8, nesting and the number of values, so that parsing is bounded in stack and memory. Escaped halves of
 * surrogate pairs (clients cut strings in the middle of a character) are replaced by \ufffd in place. */
bool json_text_screen(char *text, size_t len, struct err *e);

#endif
