/* buf: see buf.h. Grows by half, never past its maximum. */
#include "base/buf.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"

void buf_init(struct buf *b, size_t max_bytes)
{
    *b = (struct buf){.max_bytes = max_bytes};
}

void buf_deinit(struct buf *b)
{
    mem_free(b->ptr);
    *b = (struct buf){.max_bytes = b->max_bytes};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->failed = false;
    if (b->ptr) b->ptr[0] = '\0';
}

char *buf_reserve(struct buf *b, size_t n)
{
    if (b->failed || b->len > b->max_bytes || n > b->max_bytes - b->len) {
        b->failed = true;
        return NULL;
    }
    size_t need = b->len + n + 1;
    if (need > b->cap) {
        size_t cap = b->cap + b->cap / 2;
        if (cap < need) cap = need;
        if (cap < 64) cap = 64;
        char *ptr = mem_try_realloc(b->ptr, cap);
        if (!ptr) {
            b->failed = true;
            return NULL;
        }
        b->ptr = ptr;
        b->cap = cap;
    }
    return b->ptr + b->len;
}

bool buf_append(struct buf *b, struct str s)
{
    char *to = buf_reserve(b, s.len);
    if (!to) return false;
    if (s.len) memcpy(to, s.ptr, s.len);
    b->len += s.len;
    b->ptr[b->len] = '\0';
    return true;
}

bool buf_append_char(struct buf *b, char c)
{
    return buf_append(b, (struct str){&c, 1});
}

bool buf_append_utf8(struct buf *b, uint32_t codepoint)
{
    char bytes[4];
    return buf_append(b, (struct str){bytes, utf8_encode(bytes, codepoint)});
}

bool buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
    va_list again;
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    char *to = n < 0 ? NULL : buf_reserve(b, (size_t)n);
    if (to) {
        vsnprintf(to, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    return to != NULL;
}

bool buf_printf(struct buf *b, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    bool ok = buf_vprintf(b, fmt, ap);
    va_end(ap);
    return ok;
}

struct str buf_str(const struct buf *b)
{
    return (struct str){b->ptr ? b->ptr : "", b->len};
}

char *buf_take(struct buf *b)
{
    char *ptr = b->ptr ? b->ptr : mem_zalloc(1);
    *b = (struct buf){.max_bytes = b->max_bytes};
    return ptr;
}
