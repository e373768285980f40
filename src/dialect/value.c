/* value: the state machine behind value_internal.h. One byte is one step; nesting is counted on a fixed stack. */
#include "dialect/value_internal.h"

#include <stdio.h>
#include <string.h>

#define MAX_WORD 4096

void dialect_value_init(struct value *v, struct buf *out, struct str quote)
{
    memset(v, 0, sizeof *v);
    buf_init(&v->key, (size_t)1 << 20);
    buf_init(&v->word, MAX_WORD);
    v->quote = quote;
    v->out = out;
}

void dialect_value_reset(struct value *v, struct buf *out)
{
    buf_clear(&v->key);
    buf_clear(&v->word);
    v->out = out;
    v->state = VALUE_START;
    v->depth = 0;
    v->in_key = false;
    v->high = 0;
}

void dialect_value_deinit(struct value *v)
{
    buf_deinit(&v->key);
    buf_deinit(&v->word);
}

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

void dialect_value_escape(struct buf *out, char c)
{
    unsigned char u = (unsigned char)c;
    if (c == '"' || c == '\\') {
        buf_append_char(out, '\\');
        buf_append_char(out, c);
    } else if (c == '\n') {
        buf_append(out, STR("\\n"));
    } else if (c == '\t') {
        buf_append(out, STR("\\t"));
    } else if (c == '\r') {
        buf_append(out, STR("\\r"));
    } else if (!u) {
        buf_append(out, STR("\\ufffd")); /* no reader of JSON wants one, least of all in a key */
    } else if (u < 0x20) {
        buf_printf(out, "\\u%04x", u);
    } else {
        buf_append_char(out, c);
    }
}

static struct buf *text_of(struct value *v)
{
    return v->in_key ? &v->key : v->out;
}

/* The comma or the key that stands before a value. */
static void write_lead(struct value *v)
{
    if (!v->depth) return;
    size_t top = v->depth - 1;
    if (v->is_object[top]) buf_append(v->out, buf_str(&v->key));
    else if (v->has_item[top]) buf_append_char(v->out, ',');
    v->has_item[top] = 1;
}

static enum value_result value_over(struct value *v, enum value_result result)
{
    if (v->depth) {
        v->state = VALUE_AFTER;
        return VALUE_MORE;
    }
    v->state = VALUE_END;
    return result;
}

static void begin_string(struct value *v, char delim)
{
    if (v->in_key) {
        buf_clear(&v->key);
        if (v->has_item[v->depth - 1]) buf_append_char(&v->key, ',');
    } else {
        write_lead(v);
    }
    buf_append_char(text_of(v), '"');
    v->delim = delim;
    v->is_raw = false;
    v->n_matched = 0;
    v->high = 0;
    v->state = VALUE_STRING;
}

static enum value_result end_string(struct value *v)
{
    if (v->high) buf_append(text_of(v), STR("\\ufffd"));
    v->high = 0;
    buf_append_char(text_of(v), '"');
    if (!v->in_key) return value_over(v, VALUE_DONE);
    v->in_key = false;
    v->state = VALUE_COLON;
    return VALUE_MORE;
}

static enum value_result open_bracket(struct value *v, bool object)
{
    if (v->depth == VALUE_MAX_DEPTH) return VALUE_ERROR;
    write_lead(v);
    buf_append_char(v->out, object ? '{' : '[');
    v->is_object[v->depth] = object;
    v->has_item[v->depth++] = 0;
    v->state = object ? VALUE_KEY : VALUE_START;
    return VALUE_MORE;
}

static enum value_result close_bracket(struct value *v, char c)
{
    if (!v->depth || v->is_object[v->depth - 1] != (c == '}')) return VALUE_ERROR;
    v->depth--;
    buf_append_char(v->out, c);
    return value_over(v, VALUE_DONE);
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* A number as JSON spells it: no plus, no leading zeros, a digit on both sides of the point. */
static bool write_number(struct buf *out, struct str w)
{
    struct buf b;
    size_t i = 0, digits = 0;
    buf_init(&b, MAX_WORD + 8);
    if (i < w.len && (w.ptr[i] == '-' || w.ptr[i] == '+')) {
        if (w.ptr[i] == '-') buf_append_char(&b, '-');
        i++;
    }
    size_t lead = b.len;
    while (i < w.len && w.ptr[i] == '0') i++, digits++;
    for (; i < w.len && is_digit(w.ptr[i]); i++, digits++) buf_append_char(&b, w.ptr[i]);
    if (b.len == lead) buf_append_char(&b, '0');
    if (i < w.len && w.ptr[i] == '.') {
        size_t n = 0;
        buf_append_char(&b, '.');
        for (i++; i < w.len && is_digit(w.ptr[i]); i++, n++) buf_append_char(&b, w.ptr[i]);
        if (!n) buf_append_char(&b, '0');
        digits += n;
    }
    bool ok = digits > 0;
    if (ok && i < w.len && (w.ptr[i] == 'e' || w.ptr[i] == 'E')) {
        size_t n = 0;
        buf_append_char(&b, 'e');
        i++;
        if (i < w.len && (w.ptr[i] == '-' || w.ptr[i] == '+')) buf_append_char(&b, w.ptr[i++]);
        for (; i < w.len && is_digit(w.ptr[i]); i++, n++) buf_append_char(&b, w.ptr[i]);
        ok = n > 0;
    }
    ok = ok && i == w.len;
    if (ok) buf_append(out, buf_str(&b));
    buf_deinit(&b);
    return ok;
}

static bool literal_of(struct str *out, struct str w)
{
    if (str_eq_nocase(w, STR("true"))) *out = STR("true");
    else if (str_eq_nocase(w, STR("false"))) *out = STR("false");
    else if (str_eq_nocase(w, STR("null")) || str_eq(w, STR("None")) || str_eq(w, STR("undefined")) ||
             str_eq(w, STR("NaN")))
        *out = STR("null");
    else return false;
    return true;
}

/* The bare word becomes a literal, a number or (where the dialect writes such) a string. */
static bool end_word(struct value *v)
{
    struct buf text;
    struct str w = str_trim(buf_str(&v->word)), literal;
    bool ok = true;
    buf_init(&text, 8 * MAX_WORD);
    if (literal_of(&literal, w)) {
        buf_append(&text, literal);
    } else if (!write_number(&text, w)) {
        ok = v->quote.len > 0 && w.len > 0;
        buf_append_char(&text, '"');
        for (size_t i = 0; i < w.len; i++) dialect_value_escape(&text, w.ptr[i]);
        buf_append_char(&text, '"');
    }
    if (ok) {
        write_lead(v);
        buf_append(v->out, buf_str(&text));
    }
    buf_deinit(&text);
    buf_clear(&v->word);
    return ok;
}

static enum value_result start_value(struct value *v, char c)
{
    if (is_space(c)) return VALUE_MORE;
    if (c == '{' || c == '[') return open_bracket(v, c == '{');
    if (c == ']') return close_bracket(v, c);
    if (c == '"' || c == '\'') {
        begin_string(v, c);
        return VALUE_MORE;
    }
    if (v->quote.len && c == v->quote.ptr[0]) {
        v->n_matched = 1;
        v->state = VALUE_QUOTE_OPEN;
        return VALUE_MORE;
    }
    bool word = is_digit(c) || c == '-' || c == '+' || c == '.' || strchr("tTfFnNuU", c) || v->quote.len;
    if (!c || !word || strchr(",:}()<>`", c)) return VALUE_ERROR;
    buf_clear(&v->word);
    buf_append_char(&v->word, c);
    v->state = VALUE_WORD;
    return VALUE_MORE;
}

static enum value_result word_byte(struct value *v, char c)
{
    bool end = c == ',' || c == '}' || c == ']' || c == ')' || c == '<' || c == ';' || c == '`' || c == '\0' ||
               (v->quote.len ? c == '\n' : is_space(c));
    if (!end) return buf_append_char(&v->word, c) ? VALUE_MORE : VALUE_ERROR;
    if (!end_word(v)) {
        v->state = VALUE_START;
        return VALUE_ERROR;
    }
    if (value_over(v, VALUE_DONE_BEFORE) == VALUE_DONE_BEFORE) return VALUE_DONE_BEFORE;
    return dialect_value_feed(v, c);
}

static void write_unit(struct buf *out, unsigned unit)
{
    buf_printf(out, "\\u%04x", unit);
}

/* A \u escape is complete. Halves of surrogate pairs that stand alone become U+FFFD. */
static void end_hex(struct value *v)
{
    struct buf *out = text_of(v);
    bool low = v->hex >= 0xdc00 && v->hex < 0xe000;
    if (v->high && low) {
        write_unit(out, v->high);
        write_unit(out, v->hex);
        v->high = 0;
    } else {
        if (v->high) buf_append(out, STR("\\ufffd"));
        v->high = v->hex >= 0xd800 && v->hex < 0xdc00 ? v->hex : 0;
        if (low || (!v->hex && v->in_key)) buf_append(out, STR("\\ufffd"));
        else if (!v->high) write_unit(out, v->hex);
    }
    v->state = VALUE_STRING;
}

static void escape_byte(struct value *v, char c)
{
    struct buf *out = text_of(v);
    v->state = VALUE_STRING;
    if (c == 'u' || c == 'x') {
        v->hex = 0;
        v->hex_left = c == 'u' ? 4 : 2;
        v->state = VALUE_HEX;
        return;
    }
    if (v->high) buf_append(out, STR("\\ufffd"));
    v->high = 0;
    if (c && strchr("\"\\/bfnrt", c)) {
        buf_append_char(out, '\\');
        buf_append_char(out, c);
    } else {
        if (c != '\'') buf_append(out, STR("\\\\")); /* not an escape: a regex, a path */
        dialect_value_escape(out, c);
    }
}

static enum value_result hex_byte(struct value *v, char c)
{
    unsigned digit = is_digit(c)              ? (unsigned)(c - '0')
                     : (c >= 'a' && c <= 'f') ? (unsigned)(c - 'a') + 10
                     : (c >= 'A' && c <= 'F') ? (unsigned)(c - 'A') + 10
                                              : 16;
    if (digit == 16) return VALUE_ERROR;
    v->hex = v->hex * 16 + digit;
    if (--v->hex_left == 0) end_hex(v);
    return VALUE_MORE;
}

/* Text between raw quotes: taken as it is. The quote's first byte stands nowhere else in it. */
static enum value_result raw_byte(struct value *v, char c)
{
    if (c == v->quote.ptr[v->n_matched]) {
        if (++v->n_matched == v->quote.len) return end_string(v);
        return VALUE_MORE;
    }
    for (size_t i = 0; i < v->n_matched; i++) dialect_value_escape(text_of(v), v->quote.ptr[i]);
    v->n_matched = 0;
    if (c == v->quote.ptr[0]) v->n_matched = 1;
    else dialect_value_escape(text_of(v), c);
    return VALUE_MORE;
}

/* Models forget to escape quotes: one closes the string only where something follows that may stand behind a string. */
static enum value_result closing_byte(struct value *v, char c)
{
    bool top = !v->depth, object = v->depth && v->is_object[v->depth - 1];
    if (is_space(c) && v->word.len < 64) {
        buf_append_char(&v->word, c);
        return VALUE_MORE;
    }
    bool ends = v->in_key ? c == ':' : c == ',' || (object ? c == '}' : c == ']') || (top && c && strchr(")}:;", c));
    if (!ends) {
        dialect_value_escape(text_of(v), v->delim);
        for (size_t i = 0; i < v->word.len; i++) dialect_value_escape(text_of(v), v->word.ptr[i]);
        v->state = VALUE_STRING;
        return dialect_value_feed(v, c);
    }
    enum value_result r = end_string(v);
    return r == VALUE_MORE ? dialect_value_feed(v, c) : VALUE_DONE_BEFORE;
}

static enum value_result string_byte(struct value *v, char c)
{
    if (!v->delim) return raw_byte(v, c);
    if (c == '\n' && v->python && !v->in_key) v->is_raw = true;
    if (c == '\\' && !v->is_raw) {
        v->state = VALUE_ESCAPE;
        return VALUE_MORE;
    }
    if (c == v->delim) {
        buf_clear(&v->word);
        v->state = VALUE_CLOSING;
        return VALUE_MORE;
    }
    if (v->high) buf_append(text_of(v), STR("\\ufffd"));
    v->high = 0;
    dialect_value_escape(text_of(v), c);
    return VALUE_MORE;
}

static enum value_result key_byte(struct value *v, char c)
{
    if (is_space(c)) return VALUE_MORE;
    if (c == '}') return close_bracket(v, c);
    if (c == ',' && v->has_item[v->depth - 1]) return VALUE_MORE;
    bool quoted = c == '"' || c == '\'';
    bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '$' || (unsigned char)c >= 0x80;
    if (v->quote.len && c == v->quote.ptr[0]) {
        v->in_key = true;
        v->n_matched = 1;
        v->state = VALUE_QUOTE_OPEN;
        return VALUE_MORE;
    }
    if (!quoted && !letter) return VALUE_ERROR;
    v->in_key = true;
    begin_string(v, c);
    if (quoted) return VALUE_MORE;
    dialect_value_escape(&v->key, c);
    v->state = VALUE_BARE_KEY;
    return VALUE_MORE;
}

static enum value_result bare_key_byte(struct value *v, char c)
{
    if (c == ':' || is_space(c)) {
        end_string(v);
        return dialect_value_feed(v, c);
    }
    if (c && strchr(",{}[]\"'()<>", c)) return VALUE_ERROR;
    dialect_value_escape(&v->key, c);
    return v->key.failed ? VALUE_ERROR : VALUE_MORE;
}

static enum value_result after_byte(struct value *v, char c)
{
    if (is_space(c)) return VALUE_MORE;
    if (c == '}' || c == ']') return close_bracket(v, c);
    if (c != ',') return VALUE_ERROR;
    v->state = v->is_object[v->depth - 1] ? VALUE_KEY : VALUE_START;
    return VALUE_MORE;
}

static enum value_result quote_open_byte(struct value *v, char c)
{
    if (c != v->quote.ptr[v->n_matched]) return VALUE_ERROR;
    if (++v->n_matched == v->quote.len) begin_string(v, 0);
    return VALUE_MORE;
}

enum value_result dialect_value_feed(struct value *v, char c)
{
    switch (v->state) {
    case VALUE_START: return start_value(v, c);
    case VALUE_QUOTE_OPEN: return quote_open_byte(v, c);
    case VALUE_STRING: return string_byte(v, c);
    case VALUE_CLOSING: return closing_byte(v, c);
    case VALUE_ESCAPE: escape_byte(v, c); return VALUE_MORE;
    case VALUE_HEX: return hex_byte(v, c);
    case VALUE_WORD: return word_byte(v, c);
    case VALUE_KEY: return key_byte(v, c);
    case VALUE_BARE_KEY: return bare_key_byte(v, c);
    case VALUE_COLON:
        if (is_space(c)) return VALUE_MORE;
        if (c != ':') return VALUE_ERROR;
        if (!buf_append_char(&v->key, ':')) return VALUE_ERROR;
        v->state = VALUE_START;
        return VALUE_MORE;
    case VALUE_AFTER: return after_byte(v, c);
    case VALUE_END: break;
    }
    return VALUE_DONE_BEFORE;
}

bool dialect_value_close(struct value *v)
{
    bool whole = v->state == VALUE_AFTER || v->state == VALUE_END || v->state == VALUE_KEY;
    bool word = v->state == VALUE_WORD;
    bool text = v->state == VALUE_STRING || v->state == VALUE_ESCAPE || v->state == VALUE_HEX;
    if (v->state == VALUE_CLOSING && !v->in_key) {
        end_string(v);
        whole = true;
    }
    if (v->state == VALUE_WORD) whole = end_word(v);
    else if (text && !v->in_key) buf_append(v->out, v->high ? STR("\\ufffd\"") : STR("\""));
    else if (!v->depth && !whole) buf_append(v->out, STR("null"));
    if (word && !whole && !v->depth) buf_append(v->out, STR("null"));
    while (v->depth) {
        v->depth--;
        buf_append_char(v->out, v->is_object[v->depth] ? '}' : ']');
    }
    v->in_key = false;
    v->state = VALUE_END;
    return whole;
}
