/* utf8: strict UTF-8 (RFC 3629): no surrogates, no overlong forms, nothing above U+10FFFF. */
#ifndef BASE_UTF8_H
#define BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

/* Bytes written to out[4]; an invalid code point is written as U+FFFD. */
size_t utf8_encode(char *out, uint32_t codepoint);
/* Reads one code point at s.ptr; returns its length in bytes, or 0 when s is empty, cut off or invalid there. */
size_t utf8_decode(struct str s, uint32_t *codepoint);
bool utf8_valid(struct str s);
/* Length of the longest prefix that does not end inside a character that more bytes could complete. */
size_t utf8_complete_len(struct str s);

#endif
