/* parser: request heads. See parser_internal.h. Line ends are CR LF only, header lines are never folded, and a request
 * whose length could be read in two ways is refused. */
#include "http/parser_internal.h"

#include <string.h>

static bool is_token_char(unsigned char c)
{
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')) return true;
    return c && strchr("!#$%&'*+-.^_`|~", c);
}

static bool is_token(struct str s)
{
    for (size_t i = 0; i < s.len; i++)
        if (!is_token_char((unsigned char)s.ptr[i])) return false;
    return s.len > 0;
}

ptrdiff_t http_head_scan(size_t *from, struct str in)
{
    size_t i = *from;
    for (; i < in.len; i++) {
        unsigned char c = (unsigned char)in.ptr[i];
        bool after_cr = i > 0 && in.ptr[i - 1] == '\r';
        if (after_cr != (c == '\n')) return -1;
        if (c == 0x7f || (c < ' ' && c != '\r' && c != '\n' && c != '\t')) return -1;
        if (c == '\n' && i >= 3 && in.ptr[i - 2] == '\n') {
            *from = i + 1;
            return (ptrdiff_t)i + 1;
        }
    }
    *from = i;
    return 0;
}

/* The next line without its CR LF; *in moves behind it. */
static struct str line_take(struct str *in)
{
    ptrdiff_t end = str_find(*in, STR("\r\n"), 0);
    size_t len = end < 0 ? in->len : (size_t)end;
    struct str line = str_slice(*in, 0, len);
    *in = str_slice(*in, len + 2, in->len);
    return line;
}

static enum http_fault malformed(const char **why, const char *text)
{
    *why = text;
    return HTTP_MALFORMED;
}

/* origin-form, absolute-form or "*"; the authority of the absolute form does not matter to an origin server. */
static bool parse_target(struct http_head *out, struct str target)
{
    for (size_t i = 0; i < target.len; i++)
        if ((unsigned char)target.ptr[i] <= ' ' || (unsigned char)target.ptr[i] >= 0x7f) return false;
    struct str scheme = str_slice(target, 0, 8);
    size_t skip = 0;
    if (scheme.len >= 7 && str_eq_nocase(str_slice(scheme, 0, 7), STR("http://"))) skip = 7;
    else if (str_eq_nocase(scheme, STR("https://"))) skip = 8;
    if (skip) {
        target = str_slice(target, skip, target.len);
        size_t i = 0;
        while (i < target.len && target.ptr[i] != '/' && target.ptr[i] != '?') i++;
        if (i == 0) return false;
        target = str_slice(target, i, target.len);
    } else if (!str_starts(target, STR("/")) && !(str_eq(target, STR("*")) && str_eq(out->method, STR("OPTIONS")))) {
        return false;
    }
    ptrdiff_t hash = str_find(target, STR("#"), 0);
    if (hash >= 0) return false;
    ptrdiff_t mark = str_find(target, STR("?"), 0);
    out->path = mark < 0 ? target : str_slice(target, 0, (size_t)mark);
    out->query = mark < 0 ? STR("") : str_slice(target, (size_t)mark + 1, target.len);
    if (!out->path.len) out->path = STR("/");
    return true;
}

static enum http_fault parse_request_line(struct http_head *out, const char **why, struct str line)
{
    ptrdiff_t a = str_find(line, STR(" "), 0);
    ptrdiff_t b = a < 0 ? -1 : str_find(line, STR(" "), (size_t)a + 1);
    if (b < 0) return malformed(why, "the request line is not METHOD TARGET VERSION");
    out->method = str_slice(line, 0, (size_t)a);
    struct str version = str_slice(line, (size_t)b + 1, line.len);
    if (!is_token(out->method) || out->method.len > 32) return malformed(why, "the method is not a token");
    if (version.len != 8 || !str_starts(version, STR("HTTP/"))) return malformed(why, "the HTTP version is malformed");
    if (!str_starts(version, STR("HTTP/1."))) return HTTP_VERSION;
    if (version.ptr[7] != '0' && version.ptr[7] != '1') return HTTP_VERSION;
    out->minor = version.ptr[7] - '0';
    if (!parse_target(out, str_slice(line, (size_t)a + 1, (size_t)b)))
        return malformed(why, "the request target is malformed");
    return HTTP_FAULT_NONE;
}

static bool parse_length(uint64_t *out, struct str value)
{
    if (value.len == 0 || value.len > 18) return false;
    uint64_t n = 0;
    for (size_t i = 0; i < value.len; i++) {
        if (value.ptr[i] < '0' || value.ptr[i] > '9') return false;
        n = n * 10 + (uint64_t)(value.ptr[i] - '0');
    }
    *out = n;
    return true;
}

/* Whether a comma-separated list has the token. */
static bool list_has(struct str list, struct str token)
{
    size_t from = 0;
    while (from <= list.len) {
        ptrdiff_t comma = str_find(list, STR(","), from);
        size_t to = comma < 0 ? list.len : (size_t)comma;
        if (str_eq_nocase(str_trim(str_slice(list, from, to)), token)) return true;
        from = to + 1;
    }
    return false;
}

struct framing {
    unsigned n_lengths, n_encodings, n_hosts;
    bool closes, keeps, bad_expect;
};

/* Fields that decide how the connection goes on. */
static enum http_fault note_field(struct http_head *out, struct framing *f, const char **why, struct http_field field)
{
    if (str_eq_nocase(field.name, STR("content-length"))) {
        if (f->n_lengths++) return malformed(why, "more than one Content-Length header");
        if (!parse_length(&out->length, field.value)) return malformed(why, "Content-Length is not a number");
        out->has_length = true;
    } else if (str_eq_nocase(field.name, STR("transfer-encoding"))) {
        if (f->n_encodings++) return malformed(why, "more than one Transfer-Encoding header");
        if (!str_eq_nocase(field.value, STR("chunked")))
            return malformed(why, "the only Transfer-Encoding that is understood is chunked");
        out->chunked = true;
    } else if (str_eq_nocase(field.name, STR("host"))) {
        f->n_hosts++;
    } else if (str_eq_nocase(field.name, STR("connection"))) {
        f->closes = f->closes || list_has(field.value, STR("close"));
        f->keeps = f->keeps || list_has(field.value, STR("keep-alive"));
    } else if (str_eq_nocase(field.name, STR("expect"))) {
        if (str_eq_nocase(field.value, STR("100-continue"))) out->expects_continue = out->minor == 1;
        else f->bad_expect = true;
    }
    return HTTP_FAULT_NONE;
}

static enum http_fault parse_field(struct http_field *out, const char **why, struct str line)
{
    if (line.len && (line.ptr[0] == ' ' || line.ptr[0] == '\t')) return malformed(why, "a header line is folded");
    ptrdiff_t colon = str_find(line, STR(":"), 0);
    if (colon < 0) return malformed(why, "a header line has no colon");
    out->name = str_slice(line, 0, (size_t)colon);
    out->value = str_trim(str_slice(line, (size_t)colon + 1, line.len));
    if (!is_token(out->name)) return malformed(why, "a header name is not a token");
    for (size_t i = 0; i < out->value.len; i++) {
        unsigned char c = (unsigned char)out->value.ptr[i];
        if ((c < ' ' && c != '\t') || c == 0x7f) return malformed(why, "a header value has a control character");
    }
    return HTTP_FAULT_NONE;
}

static enum http_fault check_framing(struct http_head *out, const struct framing *f, const char **why)
{
    if (out->chunked && out->has_length) return malformed(why, "both Content-Length and Transfer-Encoding");
    if (out->chunked && out->minor == 0) return malformed(why, "Transfer-Encoding in an HTTP/1.0 request");
    if (f->n_hosts > 1) return malformed(why, "more than one Host header");
    if (out->minor == 1 && f->n_hosts == 0) return malformed(why, "the Host header is missing");
    out->keep_alive = !f->closes && (out->minor == 1 || f->keeps);
    return f->bad_expect ? HTTP_EXPECTATION : HTTP_FAULT_NONE;
}

enum http_fault http_head_parse(struct http_head *out, const char **why, struct str in,
                                const struct http_limits *limits)
{
    out->method = out->path = out->query = STR("");
    out->minor = 1;
    out->n_fields = 0;
    out->length = 0;
    out->has_length = out->chunked = out->expects_continue = out->keep_alive = false;
    *why = NULL;
    size_t max_fields = limits->max_headers < HTTP_HEADERS_MAX ? limits->max_headers : HTTP_HEADERS_MAX;
    struct str line = line_take(&in);
    if (line.len > limits->max_line_bytes) return HTTP_TARGET_TOO_LONG;
    enum http_fault fault = parse_request_line(out, why, line);
    struct framing framing = {0};
    while (!fault && in.len) {
        line = line_take(&in);
        if (!line.len) break;
        if (out->n_fields == max_fields) return HTTP_HEAD_TOO_LARGE;
        struct http_field *field = &out->fields[out->n_fields];
        fault = parse_field(field, why, line);
        if (fault) break;
        out->n_fields++;
        fault = note_field(out, &framing, why, *field);
    }
    return fault ? fault : check_framing(out, &framing, why);
}
