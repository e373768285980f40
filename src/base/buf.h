/* buf: a growable byte string with a maximum given at the start. Appending past the maximum (or without memory) appends
 * nothing, returns false and sets `failed`, which stays set until buf_clear: a chain of appends is checked once. */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"

struct buf {
    char *ptr; /* NUL-terminated once anything was appended */
    size_t len, cap, max_bytes;
    bool failed;
};

void buf_init(struct buf *b, size_t max_bytes);
void buf_deinit(struct buf *b);
void buf_clear(struct buf *b); /* length 0, memory kept */
bool buf_append(struct buf *b, struct str s);
bool buf_append_char(struct buf *b, char c);
bool buf_append_utf8(struct buf *b, uint32_t codepoint);
bool buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool buf_vprintf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* Room for n more bytes at ptr + len, or NULL; the caller writes them and adds to len (then calls nothing else first).
 */
char *buf_reserve(struct buf *b, size_t n);
struct str buf_str(const struct buf *b); /* borrowed until the next change */
char *buf_take(struct buf *b);           /* NUL-terminated, for mem_free; the buf is empty then */

#endif
