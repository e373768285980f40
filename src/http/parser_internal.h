/* parser: bytes to request head and chunked body. Pure functions, no I/O, no allocation; results are slices of the
 * input. Strict where leniency lets two parsers disagree about where a request ends (RFC 9112 sections 2, 5, 6, 11). */
#ifndef HTTP_PARSER_INTERNAL_H
#define HTTP_PARSER_INTERNAL_H

#include "http/http.h"

#define HTTP_HEADERS_MAX 256 /* capacity of http_head; http_limits.max_headers is clamped to it */

struct http_head {
    struct str method, path, query;
    int minor; /* HTTP/1.minor */
    struct http_field fields[HTTP_HEADERS_MAX];
    size_t n_fields;
    bool has_length, chunked, expects_continue, keep_alive;
    uint64_t length;
};

/* Looks for the end of a head. *from: where to go on (start with 0). Returns the length of the head with its empty
 * line, 0 when more bytes are needed, -1 when the bytes cannot become a head. */
ptrdiff_t http_head_scan(size_t *from, struct str in);
/* Parses a complete head. HTTP_FAULT_NONE, or what is wrong, with *why a constant text. */
enum http_fault http_head_parse(struct http_head *out, const char **why, struct str in,
                                const struct http_limits *limits);

enum http_chunk { HTTP_CHUNK_MORE, HTTP_CHUNK_DATA, HTTP_CHUNK_END, HTTP_CHUNK_BAD };
struct http_chunked {
    int state;
    uint64_t left;      /* of the chunk */
    size_t line_bytes;  /* of the size line or trailer line */
    size_t extra_bytes; /* extensions and trailers so far */
    bool has_digit;
};
/* Takes *used bytes of `in`. DATA: *data is a slice of in; call again with the rest. MORE: all bytes were taken. */
enum http_chunk http_chunked_next(struct http_chunked *c, size_t *used, struct str *data, struct str in);

#endif
