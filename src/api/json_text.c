/* json_text: see json_text.h. One pass, no allocation. */
#include "api/json_text.h"

#include <string.h>

#include "base/utf8.h"

void json_text_escape(struct buf *out, struct str s)
{
    size_t from = 0;
    size_t i = 0;
    while (i < s.len) {
        unsigned char c = (unsigned char)s.ptr[i];
        uint32_t cp;
        size_t n = 1;
        if (c >= 0x80) n = utf8_decode(str_slice(s, i, s.len), &cp);
        if (n && c >= ' ' && c != '"' && c != '\\') {
            i += n;
            continue;
        }
        buf_append(out, str_slice(s, from, i));
        if (!n) buf_append(out, STR("\xef\xbf\xbd"));
        else if (c == '"') buf_append(out, STR("\\\""));
        else if (c == '\\') buf_append(out, STR("\\\\"));
        else if (c == '\n') buf_append(out, STR("\\n"));
        else if (c == '\t') buf_append(out, STR("\\t"));
        else if (c == '\r') buf_append(out, STR("\\r"));
        else buf_printf(out, "\\u%04x", (unsigned)c);
        from = ++i;
    }
    buf_append(out, str_slice(s, from, s.len));
}

void json_text_string(struct buf *out, struct str s)
{
    buf_append_char(out, '"');
    json_text_escape(out, s);
    buf_append_char(out, '"');
}

/* The code unit of "\uXXXX" at text[i], or -1. */
static int32_t escaped_unit(const char *text, size_t len, size_t i)
{
    if (len - i < 6 || text[i] != '\\' || text[i + 1] != 'u') return -1;
    int32_t unit = 0;
    for (size_t k = i + 2; k < i + 6; k++) {
        char c = text[k];
        int digit = -1;
        if (c >= '0' && c <= '9') digit = c - '0';
        else if (c >= 'a' && c <= 'f') digit = c - 'a' + 10;
        else if (c >= 'A' && c <= 'F') digit = c - 'A' + 10;
        if (digit < 0) return -1;
        unit = unit << 4 | digit;
    }
    return unit;
}

/* text[i] is a backslash inside a string; returns how far to go on. */
static size_t pass_escape(char *text, size_t len, size_t i)
{
    int32_t unit = escaped_unit(text, len, i);
    if (unit < 0xd800 || unit > 0xdfff) return 2;
    int32_t next = unit <= 0xdbff && i + 6 < len ? escaped_unit(text, len, i + 6) : -1;
    if (next >= 0xdc00 && next <= 0xdfff) return 12;
    memcpy(text + i, "\\ufffd", 6);
    return 6;
}

bool json_text_screen(char *text, size_t len, struct err *e)
{
    if (!utf8_valid((struct str){text, len})) return err_set(e, ERR_INVALID, "the request body is not valid UTF-8");
    size_t depth = 0;
    size_t n_values = 1;
    bool in_string = false;
    for (size_t i = 0; i < len; i++) {
        char c = text[i];
        if (in_string) {
            if (c == '"') in_string = false;
            else if (c == '\\') i += pass_escape(text, len, i) - 1;
            continue;
        }
        if (c == '"') in_string = true;
        else if (c == ',' || c == ':') n_values++;
        else if (c == ']' || c == '}') depth -= depth > 0;
        else if (c != '[' && c != '{') continue;
        else if (n_values++, ++depth > JSON_TEXT_MAX_DEPTH)
            return err_set(e, ERR_INVALID, "the request body is nested too deeply: at most %d levels are accepted",
                           JSON_TEXT_MAX_DEPTH);
        if (n_values > JSON_TEXT_MAX_VALUES)
            return err_set(e, ERR_TOO_LARGE, "the request body has too many values: at most %d are accepted",
                           JSON_TEXT_MAX_VALUES);
    }
    return true;
}
