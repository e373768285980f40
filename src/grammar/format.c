/* format: the texts of JSON Schema's named formats as terms. Each row is one ECMA-262 pattern, some with a largest
 * length or a second pattern that must not match. Sources: RFC 3339 (dates; leap seconds in whole and half-hour
 * offsets), RFC 5321 and 1123 (mail, host names), RFC 4291 (IPv6), RFC 3986 and 3987 (URI, IRI), RFC 6570 (templates),
 * RFC 6901 (pointers). */
#include <assert.h>
#include <string.h>

#include "base/buf.h"
#include "grammar/grammar_internal.h"

#define DATE                                                                                                          \
    "(?:\\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|" \
    "2[0-"                                                                                                            \
    "8]))|(?:\\d\\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
#define OFFSET "(?:[Zz]|[+-](?:[01]\\d|2[0-3]):[0-5]\\d)"
#define PLAIN_TIME "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d+)?" OFFSET
#define CLOCK "(?:\\d+H(?:\\d+M(?:\\d+S)?)?|\\d+M(?:\\d+S)?|\\d+S)"
#define LABEL "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define HOST LABEL "(?:\\." LABEL ")*"
#define BYTE10 "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)"
#define IPV4 BYTE10 "(?:\\." BYTE10 "){3}"
#define H16 "[0-9A-Fa-f]{1,4}"
#define LS32 "(?:" H16 ":" H16 "|" IPV4 ")"
#define IPV6                                                                                                         \
    "(?:(?:" H16 ":){6}" LS32 "|::(?:" H16 ":){5}" LS32 "|(?:" H16 ")?::(?:" H16 ":){4}" LS32 "|(?:(?:" H16          \
    ":){0,1}" H16 ")?::(?:" H16 ":){3}" LS32 "|(?:(?:" H16 ":){0,2}" H16 ")?::(?:" H16 ":){2}" LS32 "|(?:(?:" H16    \
    ":){0,3}" H16 ")?::" H16 ":" LS32 "|(?:(?:" H16 ":){0,4}" H16 ")?::" LS32 "|(?:(?:" H16 ":){0,5}" H16 ")?::" H16 \
    "|(?:(?:" H16 ":){0,6}" H16 ")?::)"
#define PCT "%[0-9A-Fa-f]{2}"
#define IPFUTURE "[vV][0-9A-Fa-f]+\\.[A-Za-z0-9._~!$&'()*+,;=:-]+"
#define UCS                                                                                                            \
    "\\u{A0}-\\u{D7FF}\\u{F900}-\\u{FDCF}\\u{FDF0}-\\u{FFEF}\\u{10000}-\\u{1FFFD}\\u{20000}-\\u{2FFFD}\\u{30000}-\\u{" \
    "EFFFD}"
#define ATEXT "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]"
#define UATEXT "[A-Za-z0-9!#$%&'*+/=?^_`{|}~\\u{80}-\\u{10FFFF}-]"
/* URI and IRI share their shape; X = further unreserved characters, P = further characters of a query. */
#define REG(X) "[A-Za-z0-9._~!$&'()*+,;=" X "-]|" PCT
#define PCHAR(X) "(?:[A-Za-z0-9._~!$&'()*+,;=:@" X "-]|" PCT ")"
#define AUTHORITY(X) \
    "(?:(?:[A-Za-z0-9._~!$&'()*+,;=:" X "-]|" PCT ")*@)?(?:\\[(?:" IPV6 "|" IPFUTURE ")\\]|(?:" REG(X) ")*)(?::\\d*)?"
#define TAIL(X, P) "(?:\\?(?:" PCHAR(X P) "|[/?])*)?(?:#(?:" PCHAR(X) "|[/?])*)?"
#define HIER(X)                                                                                                        \
    "(?://" AUTHORITY(X) "(?:/" PCHAR(X) "*)*|/(?:" PCHAR(X) "+(?:/" PCHAR(X) "*)*)?|" PCHAR(X) "+(?:/" PCHAR(X) "*)*" \
                                                                                                                 "|)"
#define URI(X, P) "[A-Za-z][A-Za-z0-9+.-]*:" HIER(X) TAIL(X, P)
#define NOCOLON(X) "(?:[A-Za-z0-9._~!$&'()*+,;=@" X "-]|" PCT ")"
#define RELATIVE(X, P)                                                                                           \
    "(?://" AUTHORITY(X) "(?:/" PCHAR(X) "*)*|/(?:" PCHAR(X) "+(?:/" PCHAR(X) "*)*)?|" NOCOLON(X) "+(?:/" PCHAR( \
        X) "*)*|)" TAIL(X, P)
#define PRIVATE "\\u{E000}-\\u{F8FF}\\u{F0000}-\\u{FFFFD}\\u{100000}-\\u{10FFFD}"
#define VARNAME "(?:[A-Za-z0-9_]|" PCT ")(?:\\.?(?:[A-Za-z0-9_]|" PCT "))*"
#define VARSPEC VARNAME "(?:\\*|:[1-9]\\d{0,3})?"

static const struct row {
    const char *name, *pattern;
    uint32_t max_length;
    const char *never;
} rows[] = {
    {"date", "^" DATE "$", 0, NULL},
    {"duration", "^P(?:\\d+W|(?:\\d+Y(?:\\d+M(?:\\d+D)?)?|\\d+M(?:\\d+D)?|\\d+D)(?:T" CLOCK ")?|T" CLOCK ")$", 0, NULL},
    {"email",
     "^(?:" ATEXT "+(?:\\." ATEXT "+)*|\"(?:[ !#-\\[\\]-~]|\\\\[ -~])*\")@(?:" HOST "|\\[(?:" IPV4 "|IPv6:" IPV6
     ")\\])$",
     320, NULL},
    {"idn-email",
     "^(?:" UATEXT "+(?:\\." UATEXT "+)*|\"(?:[ !#-\\[\\]-~\\u{80}-\\u{10FFFF}]|\\\\[ "
     "-~])*\")@[A-Za-z0-9\\u{80}-\\u{10FFFF}](?:[A-Za-z0-9.\\u{80}-\\u{10FFFF}-]*[A-Za-z0-9\\u{80}-\\u{10FFFF}])?$",
     320, "@.*\\.\\."},
    {"hostname", "^" HOST "$", 253, "(?:^|\\.)..--"},
    {"ipv4", "^" IPV4 "$", 0, NULL},
    {"ipv6", "^" IPV6 "$", 0, NULL},
    {"uuid", "^[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}$", 0, NULL},
    {"uri", "^" URI("", "") "$", 0, NULL},
    {"uri-reference", "^(?:" URI("", "") "|" RELATIVE("", "") ")$", 0, NULL},
    {"iri", "^" URI(UCS, PRIVATE) "$", 0, NULL},
    {"iri-reference", "^(?:" URI(UCS, PRIVATE) "|" RELATIVE(UCS, PRIVATE) ")$", 0, NULL},
    {"uri-template",
     "^(?:[!#$&-;=?-\\[\\]_a-z~\\u{A0}-\\u{D7FF}\\u{E000}-\\u{FDCF}\\u{FDF0}-\\u{FFEF}\\u{10000}-\\u{EFFFD}]|" PCT
     "|\\{[+#./;?&=,!@|]?" VARSPEC "(?:," VARSPEC ")*\\})*$",
     0, NULL},
    {"json-pointer", "^(?:/(?:[^/~]|~[01])*)*$", 0, NULL},
    {"relative-json-pointer", "^(?:0|[1-9][0-9]*)(?:#|(?:/(?:[^/~]|~[01])*)*)$", 0, NULL},
};

/* 23:59:60 in UTC, seen from whole and half hours east and west. */
static bool leap_seconds(struct buf *b)
{
    static const char fraction[] = "(?:\\.\\d+)?";
    buf_printf(b, "23:59:60%s(?:[Zz]|[+-]00:00)", fraction);
    for (int h = 0; h < 24; h++) {
        buf_printf(b, "|%02d:59:60%s\\+%02d:00|%02d:59:60%s-%02d:00", (23 + h) % 24, fraction, h, 23 - h, fraction, h);
        buf_printf(b, "|%02d:29:60%s\\+%02d:30|%02d:29:60%s-%02d:30", h, fraction, h, 23 - h, fraction, h);
    }
    return !b->failed;
}

static bool time_term(struct grammar *g, uint32_t *out, const char *before)
{
    struct buf b;
    buf_init(&b, 1 << 16);
    buf_printf(&b, "^%s(?:" PLAIN_TIME "|", before);
    leap_seconds(&b);
    bool ok = buf_append(&b, STR(")$")) && regex_parse(g, out, buf_str(&b), NULL);
    buf_deinit(&b);
    return ok;
}

static bool build(struct grammar *g, uint32_t *out, const struct row *r)
{
    uint32_t t;
    if (!regex_parse(g, out, str_from(r->pattern), NULL)) return false;
    if (r->max_length) *out = term_and2(g, *out, term_repeat(g, g->terms.any_char, 0, r->max_length));
    if (r->never && regex_parse(g, &t, str_from(r->never), NULL)) *out = term_without(g, *out, t);
    return true;
}

bool format_term(struct grammar *g, uint32_t *out, struct str name)
{
    enum { N_ROWS = sizeof rows / sizeof *rows, TIME = N_ROWS, DATE_TIME };
    static_assert(DATE_TIME < MAX_FORMATS, "room for every format");
    size_t i = 0;
    while (i < N_ROWS && !str_eq(name, str_from(rows[i].name))) i++;
    if (str_eq(name, STR("time"))) i = TIME;
    if (str_eq(name, STR("date-time"))) i = DATE_TIME;
    if (i == N_ROWS && !str_eq(name, STR("time"))) return false;
    if (g->formats[i] != TERM_NONE) return *out = g->formats[i], true;
    bool ok = i < N_ROWS ? build(g, out, &rows[i]) : time_term(g, out, i == TIME ? "" : DATE "[Tt]");
    if (ok) g->formats[i] = *out;
    return ok;
}
