/* lexer: template text -> tokens, with Jinja's white space rules (trim_blocks, lstrip_blocks, - and +).
 * Works on the normalised source (only \n ends a line) and fills the compiler's token array; runs once per compile. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "jinja/jinja_internal.h"

struct lexer {
    struct compiler *c;
    const char *s;
    size_t n, pos;
    uint32_t line;
    bool line_starting;
    char balance[JINJA_MAX_NESTING]; /* closing brackets that are due */
    size_t n_balance;
};

static bool push(struct lexer *x, enum token_kind kind, const char *ptr, size_t len)
{
    struct compiler *c = x->c;
    if (c->n_tokens == c->cap_tokens) {
        size_t cap = c->cap_tokens ? c->cap_tokens * 2 : 256;
        struct token *grown = compile_alloc(c, cap * sizeof *grown);
        if (!grown) return false;
        if (c->n_tokens) memcpy(grown, c->tokens, c->n_tokens * sizeof *grown);
        c->tokens = grown;
        c->cap_tokens = cap;
    }
    c->tokens[c->n_tokens++] = (struct token){.kind = kind, .line = x->line, .text = {ptr, len}};
    return true;
}

static void advance(struct lexer *x, size_t to)
{
    for (size_t i = x->pos; i < to; i++) x->line += x->s[i] == '\n';
    x->line_starting = to > x->pos && x->s[to - 1] == '\n';
    x->pos = to;
}

static bool at(const struct lexer *x, size_t pos, const char *text)
{
    size_t n = strlen(text);
    return pos + n <= x->n && memcmp(x->s + pos, text, n) == 0;
}

/* Position behind the white space at pos. */
static size_t skip_space(const struct lexer *x, size_t pos)
{
    while (pos < x->n) {
        size_t size;
        if (!uni_is_space(uni_at((struct str){x->s, x->n}, pos, &size))) break;
        pos += size;
    }
    return pos;
}

static size_t strip_right(const struct lexer *x, size_t from, size_t to)
{
    while (to > from) {
        size_t p = to - 1, size;
        while (p > from && ((unsigned char)x->s[p] & 0xc0) == 0x80) p--;
        if (!uni_is_space(uni_at((struct str){x->s, x->n}, p, &size))) break;
        to = p;
    }
    return to;
}

/* The text before a tag: what of it stays, given the tag's sign. */
static size_t text_end(const struct lexer *x, size_t from, size_t to, char sign, bool is_variable)
{
    if (sign == '-') return strip_right(x, from, to);
    if (sign == '+' || is_variable || !x->c->j->options.lstrip_blocks) return to;
    size_t line = to;
    while (line > from && x->s[line - 1] != '\n') line--;
    if (line == from && !x->line_starting) return to;
    return strip_right(x, line, to) == line ? line : to;
}

/* The end of a block tag at pos: its length with what is trimmed behind it, 0 when there is none. close: "%}" or "#}"
 */
static size_t block_end(const struct lexer *x, size_t pos, const char *close)
{
    if (pos < x->n && x->s[pos] == '+' && at(x, pos + 1, close)) return 3;
    if (pos < x->n && x->s[pos] == '-' && at(x, pos + 1, close)) return skip_space(x, pos + 3) - pos;
    if (!at(x, pos, close)) return 0;
    return x->c->j->options.trim_blocks && pos + 2 < x->n && x->s[pos + 2] == '\n' ? 3 : 2;
}

/* `raw` behind "{%": position behind the tag, or 0. */
static size_t raw_begin(const struct lexer *x, size_t pos)
{
    pos = skip_space(x, pos);
    if (!at(x, pos, "raw")) return 0;
    pos = skip_space(x, pos + 3);
    if (at(x, pos, "-%}")) return skip_space(x, pos + 3);
    return at(x, pos, "%}") ? pos + 2 : 0;
}

static bool lex_comment(struct lexer *x)
{
    for (size_t p = x->pos; p < x->n; p++) {
        size_t len = block_end(x, p, "#}");
        if (!len) continue;
        advance(x, p + len);
        return true;
    }
    return compile_fail(x->c, x->line, "missing end of comment tag \"#}\"");
}

static bool lex_raw(struct lexer *x)
{
    for (size_t p = x->pos; p + 1 < x->n; p++) {
        if (x->s[p] != '{' || x->s[p + 1] != '%') continue;
        size_t q = p + 2;
        char sign = q < x->n && (x->s[q] == '-' || x->s[q] == '+') ? x->s[q++] : 0;
        q = skip_space(x, q);
        if (!at(x, q, "endraw")) continue;
        q = skip_space(x, q + 6);
        size_t len = block_end(x, q, "%}");
        if (!len) continue;
        size_t end = text_end(x, x->pos, p, sign, false);
        if (end > x->pos && !push(x, T_DATA, x->s + x->pos, end - x->pos)) return false;
        advance(x, q + len);
        return true;
    }
    return compile_fail(x->c, x->line, "missing end of raw directive {%% endraw %%}");
}

static size_t hex_value(struct str s, uint32_t *out)
{
    uint32_t v = 0;
    for (size_t i = 0; i < s.len; i++) {
        char ch = s.ptr[i];
        uint32_t d = ch >= '0' && ch <= '9'   ? (uint32_t)(ch - '0')
                     : ch >= 'a' && ch <= 'f' ? (uint32_t)(ch - 'a' + 10)
                     : ch >= 'A' && ch <= 'F' ? (uint32_t)(ch - 'A' + 10)
                                              : 16;
        if (d == 16) return 0;
        v = v << 4 | d;
    }
    *out = v;
    return s.len;
}

/* One escape at s[i] (behind the backslash); writes to out, returns the bytes read, 0 when malformed. */
static size_t unescape_one(char *out, size_t *len, struct str s, size_t i)
{
    static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
    char ch = s.ptr[i];
    const char *hit = ch ? strchr(from, ch) : NULL;
    uint32_t v = 0;
    if (hit) {
        out[(*len)++] = to[hit - from];
        return 1;
    }
    if (ch == '\n') return 1;
    if (ch >= '0' && ch <= '7') {
        size_t n = 0;
        while (n < 3 && i + n < s.len && s.ptr[i + n] >= '0' && s.ptr[i + n] <= '7')
            v = v * 8 + (uint32_t)(s.ptr[i + n++] - '0');
        *len += utf8_encode(out + *len, v);
        return n;
    }
    size_t digits = ch == 'x' ? 2 : ch == 'u' ? 4 : ch == 'U' ? 8 : 0;
    if (!digits) { /* not an escape: the backslash stays */
        out[(*len)++] = '\\';
        return ch == 'N' ? 0 : SIZE_MAX;
    }
    if (i + 1 + digits > s.len || !hex_value((struct str){s.ptr + i + 1, digits}, &v) || v > 0x10ffff) return 0;
    *len += utf8_encode(out + *len, v);
    return 1 + digits;
}

static bool lex_string(struct lexer *x)
{
    char quote = x->s[x->pos];
    size_t p = x->pos + 1;
    bool escaped = false;
    while (p < x->n && x->s[p] != quote) {
        if (x->s[p] == '\\') escaped = true, p++;
        p++;
    }
    if (p >= x->n) return compile_fail(x->c, x->line, "unexpected character %c: the string is not closed", quote);
    struct str raw = {x->s + x->pos + 1, p - x->pos - 1};
    if (escaped) {
        char *out = compile_alloc(x->c, raw.len * 2 + 4);
        size_t len = 0;
        if (!out) return false;
        for (size_t i = 0; i < raw.len;) {
            if (raw.ptr[i] != '\\') {
                out[len++] = raw.ptr[i++];
                continue;
            }
            size_t used = i + 1 < raw.len ? unescape_one(out, &len, raw, i + 1) : 0;
            if (!used) return compile_fail(x->c, x->line, "malformed escape in a string: \\%c", raw.ptr[i + 1]);
            i += used == SIZE_MAX ? 1 : used + 1;
        }
        raw = (struct str){out, len};
    }
    if (!push(x, T_STRING, raw.ptr, raw.len)) return false;
    advance(x, p + 1);
    return true;
}

static size_t digits_end(const struct lexer *x, size_t p)
{
    while (p < x->n && ((x->s[p] >= '0' && x->s[p] <= '9') ||
                        (x->s[p] == '_' && p + 1 < x->n && x->s[p + 1] >= '0' && x->s[p + 1] <= '9')))
        p++;
    return p;
}

static bool is_digit_at(const struct lexer *x, size_t p)
{
    return p < x->n && x->s[p] >= '0' && x->s[p] <= '9';
}

/* End of a number that has a fraction or an exponent; 0 when it is an integer. */
static size_t float_end(const struct lexer *x)
{
    if (x->pos > 0 && x->s[x->pos - 1] == '.') return 0;
    size_t p = digits_end(x, x->pos), end = 0;
    if (p < x->n && x->s[p] == '.' && is_digit_at(x, p + 1)) end = p = digits_end(x, p + 1);
    if (p < x->n && (x->s[p] == 'e' || x->s[p] == 'E')) {
        size_t q = p + 1;
        if (q < x->n && (x->s[q] == '+' || x->s[q] == '-')) q++;
        if (is_digit_at(x, q)) end = digits_end(x, q);
    }
    return end;
}

static bool is_base_digit(char c, int base)
{
    if (base == 16) return strchr("0123456789abcdefABCDEF", c) && c;
    return c >= '0' && c < '0' + base;
}

static size_t integer_end(const struct lexer *x, int *base)
{
    static const struct {
        char letter;
        int base;
    } prefixes[] = {{'b', 2}, {'o', 8}, {'x', 16}};
    *base = 10;
    if (x->s[x->pos] != '0') return digits_end(x, x->pos);
    for (size_t i = 0; i < 3; i++) {
        if (x->pos + 1 >= x->n || (x->s[x->pos + 1] | 0x20) != prefixes[i].letter) continue;
        size_t p = x->pos + 2;
        for (;;) {
            size_t q = p < x->n && x->s[p] == '_' ? p + 1 : p;
            if (q >= x->n || !is_base_digit(x->s[q], prefixes[i].base)) break;
            p = q + 1;
        }
        if (p == x->pos + 2) break;
        *base = prefixes[i].base;
        return p;
    }
    size_t p = x->pos + 1;
    while (p < x->n && (x->s[p] == '0' || (x->s[p] == '_' && p + 1 < x->n && x->s[p + 1] == '0'))) p++;
    return p;
}

static bool lex_number(struct lexer *x)
{
    char text[340];
    int base = 10;
    size_t end = float_end(x), len = 0;
    bool is_float = end != 0;
    if (!is_float) end = integer_end(x, &base);
    for (size_t i = x->pos + (base != 10 ? 2 : 0); i < end; i++) {
        if (x->s[i] == '_') continue;
        if (len + 1 >= sizeof text) return compile_fail(x->c, x->line, "number with more than 338 digits");
        text[len++] = x->s[i];
    }
    text[len] = '\0';
    if (!push(x, is_float ? T_FLOAT : T_INT, x->s + x->pos, end - x->pos)) return false;
    struct token *t = &x->c->tokens[x->c->n_tokens - 1];
    errno = 0;
    if (is_float) t->f = strtod(text, NULL);
    else {
        t->i = strtoll(text, NULL, base);
        if (errno == ERANGE && (base != 10 || !(t->big = big_parse(&x->c->j->arena, (struct str){text, strlen(text)}))))
            return compile_fail(x->c, x->line, "integer %s is too large", text);
    }
    advance(x, end);
    return true;
}

static bool is_word(uint32_t c)
{
    return c == '_' || uni_is_alpha(c) || uni_is_numeric(c);
}

static bool lex_operator(struct lexer *x)
{
    static const struct {
        const char *text;
        enum token_kind kind;
    } ops[] = {{"//", T_FLOORDIV}, {"**", T_POW},   {"==", T_EQ},      {"!=", T_NE},      {">=", T_GE},
               {"<=", T_LE},       {"+", T_ADD},    {"-", T_SUB},      {"/", T_DIV},      {"*", T_MUL},
               {"%", T_MOD},       {"~", T_TILDE},  {"[", T_LBRACKET}, {"]", T_RBRACKET}, {"(", T_LPAREN},
               {")", T_RPAREN},    {"{", T_LBRACE}, {"}", T_RBRACE},   {">", T_GT},       {"<", T_LT},
               {"=", T_ASSIGN},    {".", T_DOT},    {":", T_COLON},    {"|", T_PIPE},     {",", T_COMMA},
               {";", T_SEMICOLON}};
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        if (!at(x, x->pos, ops[i].text)) continue;
        char ch = ops[i].text[0];
        const char *open = ops[i].text[1] ? NULL : strchr("([{", ch);
        if (open) {
            if (x->n_balance == sizeof x->balance)
                return compile_fail(x->c, x->line, "brackets are nested more than %d deep", JINJA_MAX_NESTING);
            x->balance[x->n_balance++] = ")]}"[open - "([{"];
        } else if (strchr(")]}", ch)) {
            if (!x->n_balance) return compile_fail(x->c, x->line, "unexpected '%c'", ch);
            char due = x->balance[--x->n_balance];
            if (due != ch) return compile_fail(x->c, x->line, "unexpected '%c', expected '%c'", ch, due);
        }
        if (!push(x, ops[i].kind, x->s + x->pos, strlen(ops[i].text))) return false;
        advance(x, x->pos + strlen(ops[i].text));
        return true;
    }
    size_t size;
    uni_at((struct str){x->s, x->n}, x->pos, &size);
    return compile_fail(x->c, x->line, "unexpected character %.*s", (int)size, x->s + x->pos);
}

/* The inside of {{ }} or {% %} up to and with its end. */
static bool lex_tag(struct lexer *x, bool is_variable)
{
    for (;;) {
        x->pos = (advance(x, skip_space(x, x->pos)), x->pos);
        if (x->pos >= x->n) return true; /* the parser reports what is missing */
        if (!x->n_balance) {
            size_t len = 0;
            if (!is_variable) len = block_end(x, x->pos, "%}");
            else if (at(x, x->pos, "-}}")) len = skip_space(x, x->pos + 3) - x->pos;
            else if (at(x, x->pos, "}}")) len = 2;
            if (len) {
                if (!push(x, is_variable ? T_VAR_END : T_BLOCK_END, x->s + x->pos, 2)) return false;
                advance(x, x->pos + len);
                return true;
            }
        }
        char ch = x->s[x->pos];
        size_t size, p = x->pos;
        bool ok;
        if (ch >= '0' && ch <= '9') ok = lex_number(x);
        else if (ch == '\'' || ch == '"') ok = lex_string(x);
        else if (is_word(uni_at((struct str){x->s, x->n}, p, &size))) {
            while (p < x->n && is_word(uni_at((struct str){x->s, x->n}, p, &size))) p += size;
            ok = push(x, T_NAME, x->s + x->pos, p - x->pos);
            advance(x, p);
        } else ok = lex_operator(x);
        if (!ok) return false;
    }
}

/* Text up to the next tag, and the tag. */
static bool lex_root(struct lexer *x)
{
    size_t p = x->pos;
    while (p + 1 < x->n && !(x->s[p] == '{' && (x->s[p + 1] == '{' || x->s[p + 1] == '%' || x->s[p + 1] == '#'))) p++;
    if (p + 1 >= x->n) {
        if (!push(x, T_DATA, x->s + x->pos, x->n - x->pos)) return false;
        advance(x, x->n);
        return true;
    }
    char type = x->s[p + 1];
    size_t inside = p + 2;
    char sign = inside < x->n && (x->s[inside] == '-' || x->s[inside] == '+') ? x->s[inside++] : 0;
    size_t end = text_end(x, x->pos, p, sign, type == '{');
    if (end > x->pos && !push(x, T_DATA, x->s + x->pos, end - x->pos)) return false;
    advance(x, inside);
    if (type == '#') return lex_comment(x);
    size_t raw = type == '%' ? raw_begin(x, inside) : 0;
    if (raw) {
        advance(x, raw);
        return lex_raw(x);
    }
    if (!push(x, type == '{' ? T_VAR_BEGIN : T_BLOCK_BEGIN, x->s + p, 2)) return false;
    return lex_tag(x, type == '{');
}

bool lexer_run(struct compiler *c)
{
    struct lexer x = {.c = c, .s = c->j->source.ptr, .n = c->j->source.len, .line = 1, .line_starting = true};
    while (x.pos < x.n)
        if (!lex_root(&x)) return false;
    return push(&x, T_EOF, x.s + x.n, 0);
}
