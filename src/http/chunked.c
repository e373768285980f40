/* chunked: the decoder of chunked bodies (RFC 9112 section 7.1), one byte of grammar at a time, data in slices.
 * Extensions and trailers are skipped and bounded. */
#include "http/parser_internal.h"

#define LINE_MAX_BYTES 1024
#define EXTRA_MAX_BYTES (64 * 1024)

enum { SIZE, EXTENSION, SIZE_LF, DATA, DATA_CR, DATA_LF, TRAILER_START, TRAILER, TRAILER_LF, END_LF, ENDED };

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

static bool step_size(struct http_chunked *c, char byte)
{
    int digit = hex_value(byte);
    if (digit >= 0) {
        if (c->left >> 56) return false;
        c->left = c->left << 4 | (uint64_t)digit;
        c->has_digit = true;
        return true;
    }
    if (!c->has_digit) return false;
    if (byte == '\r') c->state = SIZE_LF;
    else if (byte == ';' || byte == ' ' || byte == '\t') c->state = EXTENSION;
    else return false;
    return true;
}

/* One byte outside chunk data; false = bad. */
static bool step(struct http_chunked *c, char byte)
{
    if (byte != '\r' && byte != '\n' && (((unsigned char)byte < ' ' && byte != '\t') || byte == 0x7f)) return false;
    if (++c->line_bytes > LINE_MAX_BYTES) return false;
    switch (c->state) {
    case SIZE: return step_size(c, byte);
    case EXTENSION:
        if (byte == '\n' || ++c->extra_bytes > EXTRA_MAX_BYTES) return false;
        if (byte == '\r') c->state = SIZE_LF;
        return true;
    case SIZE_LF: c->state = c->left ? DATA : TRAILER_START; break;
    case DATA_CR: c->state = DATA_LF; return byte == '\r';
    case DATA_LF:
        c->state = SIZE;
        c->has_digit = false;
        break;
    case TRAILER_START: c->state = byte == '\r' ? END_LF : TRAILER; return byte != '\n';
    case TRAILER:
        if (byte == '\n' || ++c->extra_bytes > EXTRA_MAX_BYTES) return false;
        if (byte == '\r') c->state = TRAILER_LF;
        return true;
    case TRAILER_LF: c->state = TRAILER_START; break;
    case END_LF: c->state = ENDED; break;
    default: return false;
    }
    c->line_bytes = 0;
    return byte == '\n';
}

enum http_chunk http_chunked_next(struct http_chunked *c, size_t *used, struct str *data, struct str in)
{
    *used = 0;
    *data = STR_NONE;
    while (*used < in.len && c->state != ENDED) {
        if (c->state == DATA) {
            size_t n = in.len - *used;
            if (n > c->left) n = (size_t)c->left;
            *data = str_slice(in, *used, *used + n);
            *used += n;
            c->left -= n;
            if (!c->left) c->state = DATA_CR;
            return HTTP_CHUNK_DATA;
        }
        if (!step(c, in.ptr[*used])) return HTTP_CHUNK_BAD;
        ++*used;
    }
    return c->state == ENDED ? HTTP_CHUNK_END : HTTP_CHUNK_MORE;
}
