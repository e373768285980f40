/* Fuzzes the HTTP parser: any bytes are a head or refused; where input is cut does not matter; what is parsed lies in
 * the input. The first two bytes say where to cut. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "http/parser_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok) abort();
}

static void require_inside(struct str s, struct str in)
{
    if (s.len && strcmp("/", s.len == 1 ? (char[]){s.ptr[0], 0} : ""))
        require(s.ptr >= in.ptr && s.ptr + s.len <= in.ptr + in.len);
}

static void check_uri(struct str path, struct str query)
{
    struct str segments[8];
    struct buf store, out;
    buf_init(&store, 1 << 20);
    buf_init(&out, 1 << 20);
    int n = http_path_split(segments, &store, 8, path);
    for (int i = 0; i < n; i++) require(!memchr(segments[i].ptr, 0, segments[i].len) && segments[i].len <= path.len);
    http_query_find(&out, query, STR("limit"));
    require(out.len <= query.len);
    buf_deinit(&store);
    buf_deinit(&out);
}

static void check_head(struct str in, size_t cut)
{
    static struct http_head head;
    struct http_limits limits;
    const char *why;
    size_t from = 0;
    size_t again = 0;
    http_limits_init(&limits);
    ptrdiff_t n = http_head_scan(&from, in);
    ptrdiff_t m = http_head_scan(&again, str_slice(in, 0, cut));
    if (m == 0) m = http_head_scan(&again, in);
    require(n == m && n <= (ptrdiff_t)in.len);
    if (n <= 0) return;
    struct str text = str_slice(in, 0, (size_t)n);
    if (http_head_parse(&head, &why, text, &limits)) return;
    require(head.method.len && head.path.len && head.n_fields <= limits.max_headers);
    require(!(head.chunked && head.has_length));
    require_inside(head.method, text);
    require_inside(head.path, text);
    require_inside(head.query, text);
    for (size_t i = 0; i < head.n_fields; i++) {
        require(head.fields[i].name.len > 0);
        require_inside(head.fields[i].name, text);
        require_inside(head.fields[i].value, text);
        require(!head.fields[i].value.len || !memchr(head.fields[i].value.ptr, '\n', head.fields[i].value.len));
    }
    check_uri(head.path, head.query);
}

/* Appends the decoded body to out; the last answer. */
static enum http_chunk dechunk(struct buf *out, size_t *end, struct str in, size_t cut)
{
    struct http_chunked c = {0};
    size_t at = 0;
    for (;;) {
        size_t used;
        struct str piece;
        size_t to = at < cut ? cut : in.len;
        enum http_chunk got = http_chunked_next(&c, &used, &piece, str_slice(in, at, to));
        at += used;
        *end = at;
        if (piece.len) buf_append(out, piece);
        if (got == HTTP_CHUNK_END || got == HTTP_CHUNK_BAD || (got == HTTP_CHUNK_MORE && at == in.len)) return got;
    }
}

static void check_chunks(struct str in, size_t cut)
{
    struct buf a, b;
    size_t end_a, end_b;
    buf_init(&a, 1 << 20);
    buf_init(&b, 1 << 20);
    require(dechunk(&a, &end_a, in, 0) == dechunk(&b, &end_b, in, cut));
    require(end_a == end_b && str_eq(buf_str(&a), buf_str(&b)));
    buf_deinit(&a);
    buf_deinit(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3) return 0;
    struct str in = {(const char *)data + 2, size - 2};
    size_t cut = (size_t)(data[0] << 8 | data[1]) % (in.len + 1);
    check_head(in, cut);
    check_chunks(in, cut);
    check_uri(in, in);
    return 0;
}
