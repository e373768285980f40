/* unicode: \p{...} of patterns as ranges of code points. PCRE2 knows the properties; ECMA-262's names are put into its
 * spelling. All characters are matched once, in one text, so a property costs some milliseconds where a pattern uses
 * it. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "grammar/grammar_internal.h"

#define LISTED 0x40000u /* code points below are looked at one by one; above, planes are alike but for these: */
#define TAGS 0xe0000u
#define TAGS_END 0xe0200u

static const char *const categories[][2] = {{"Letter", "L"},
                                            {"Cased_Letter", "L&"},
                                            {"LC", "L&"},
                                            {"Uppercase_Letter", "Lu"},
                                            {"Lowercase_Letter", "Ll"},
                                            {"Titlecase_Letter", "Lt"},
                                            {"Modifier_Letter", "Lm"},
                                            {"Other_Letter", "Lo"},
                                            {"Mark", "M"},
                                            {"Combining_Mark", "M"},
                                            {"Nonspacing_Mark", "Mn"},
                                            {"Spacing_Mark", "Mc"},
                                            {"Enclosing_Mark", "Me"},
                                            {"Number", "N"},
                                            {"Decimal_Number", "Nd"},
                                            {"digit", "Nd"},
                                            {"Letter_Number", "Nl"},
                                            {"Other_Number", "No"},
                                            {"Punctuation", "P"},
                                            {"punct", "P"},
                                            {"Connector_Punctuation", "Pc"},
                                            {"Dash_Punctuation", "Pd"},
                                            {"Open_Punctuation", "Ps"},
                                            {"Close_Punctuation", "Pe"},
                                            {"Initial_Punctuation", "Pi"},
                                            {"Final_Punctuation", "Pf"},
                                            {"Other_Punctuation", "Po"},
                                            {"Symbol", "S"},
                                            {"Math_Symbol", "Sm"},
                                            {"Currency_Symbol", "Sc"},
                                            {"Modifier_Symbol", "Sk"},
                                            {"Other_Symbol", "So"},
                                            {"Separator", "Z"},
                                            {"Space_Separator", "Zs"},
                                            {"Line_Separator", "Zl"},
                                            {"Paragraph_Separator", "Zp"},
                                            {"Other", "C"},
                                            {"Control", "Cc"},
                                            {"cntrl", "Cc"},
                                            {"Format", "Cf"},
                                            {"Surrogate", "Cs"},
                                            {"Private_Use", "Co"},
                                            {"Unassigned", "Cn"}};

/* PCRE2's spelling of a property, as a pattern that finds runs of it; false when the name cannot be one. */
static bool spelling(char *out, size_t size, struct str name)
{
    static const char *const prefixes[] = {"General_Category=", "gc="};
    bool category = false;
    if (name.len == 0 || name.len > 60) return false;
    for (size_t i = 0; i < name.len; i++)
        if (!strchr("=_", name.ptr[i]) && (name.ptr[i] | 32) < 'a' && (name.ptr[i] < '0' || name.ptr[i] > '9'))
            return false;
    for (size_t i = 0; i < 2; i++)
        if (str_starts(name, str_from(prefixes[i])))
            name = str_slice(name, strlen(prefixes[i]), name.len), category = true;
    for (size_t i = 0; i < sizeof categories / sizeof *categories; i++)
        if (str_eq(name, str_from(categories[i][0]))) name = str_from(categories[i][1]), category = true;
    if (!category && str_eq(name, STR("ASCII"))) snprintf(out, size, "[\\x00-\\x7f]+");
    else snprintf(out, size, "\\p{%.*s}+", STR_ARG(name));
    return true;
}

static bool add(struct codepoints *list, size_t *n, size_t cap, uint32_t lo, uint32_t hi)
{
    if (*n && list[*n - 1].hi + 1 == lo) return list[*n - 1].hi = hi, true;
    if (*n == cap) return false;
    list[(*n)++] = (struct codepoints){lo, hi};
    return true;
}

/* The runs of `code` in text, which holds the characters from `first` on, in order, but for surrogates. */
static bool add_runs(struct codepoints *list, size_t *n, size_t cap, pcre2_code *code, struct str text)
{
    pcre2_match_data *data = pcre2_match_data_create(1, NULL);
    size_t at = 0;
    bool ok = data != NULL;
    while (ok && at < text.len) {
        int rc = pcre2_match(code, (PCRE2_SPTR)text.ptr, text.len, at, PCRE2_NO_UTF_CHECK, data, NULL);
        if (rc < 0) break;
        const PCRE2_SIZE *span = pcre2_get_ovector_pointer(data);
        uint32_t c;
        for (at = span[0]; ok && at < span[1];) {
            at += utf8_decode(str_slice(text, at, text.len), &c);
            ok = add(list, n, cap, c, c);
        }
    }
    pcre2_match_data_free(data);
    return ok;
}

/* Whether one character of a plane whose characters are all alike has it. */
static bool has(pcre2_code *code, uint32_t c)
{
    char text[4];
    struct codepoints one;
    size_t n = 0;
    return add_runs(&one, &n, 1, code, (struct str){text, utf8_encode(text, c)}) && n == 1;
}

static bool all_runs(struct codepoints *list, size_t *n, size_t cap, pcre2_code *code)
{
    struct buf text;
    buf_init(&text, 4 * (LISTED + TAGS_END - TAGS));
    for (uint32_t c = 0; c < LISTED; c++)
        if (c < 0xd800 || c > 0xdfff) buf_append_utf8(&text, c);
    bool ok = !text.failed && add_runs(list, n, cap, code, buf_str(&text));
    buf_clear(&text);
    if (ok && has(code, LISTED)) ok = add(list, n, cap, LISTED, TAGS - 1);
    for (uint32_t c = TAGS; c < TAGS_END; c++) buf_append_utf8(&text, c);
    ok = ok && add_runs(list, n, cap, code, buf_str(&text));
    if (ok && has(code, TAGS_END)) ok = add(list, n, cap, TAGS_END, 0xeffff);
    for (uint32_t plane = 0xf0000; ok && plane <= 0x100000; plane += 0x10000) {
        if (has(code, plane)) ok = add(list, n, cap, plane, plane + 0xfffd);
        if (ok && has(code, plane + 0xfffe)) ok = add(list, n, cap, plane + 0xfffe, plane + 0xffff);
    }
    buf_deinit(&text);
    return ok;
}

size_t unicode_property(struct codepoints *list, size_t cap, struct str name)
{
    char pattern[100];
    int error;
    PCRE2_SIZE offset;
    size_t n = 0;
    if (!spelling(pattern, sizeof pattern, name)) return SIZE_MAX;
    uint32_t options = PCRE2_UTF | PCRE2_UCP;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &error, &offset, NULL);
    if (!code) return SIZE_MAX;
    bool ok = all_runs(list, &n, cap, code);
    pcre2_code_free(code);
    return ok ? n : SIZE_MAX;
}
