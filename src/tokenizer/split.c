/* split: runs a rule of regexes over a text with PCRE2. Passes nest: what a pass matches, and what lies between, is cut
 * again by the next pass, which sees nothing outside of it. The regexes are written so that every run is linear; match,
 * heap and stack limits bound what is left. Compiled code is shared by threads; struct split_run belongs to one call.
 */
#include "base/alloc.h"
#include "tokenizer/tokenizer_internal.h"

#define MATCH_LIMIT 50000000u
#define HEAP_LIMIT_KIB 65536u
#define STACK_MAX_BYTES ((size_t)8 << 20)

bool splitter_init(struct splitter *s, const struct split_rule *rule, struct err *e)
{
    *s = (struct splitter){.rule = rule};
    for (size_t i = 0; i < SPLIT_MAX_PASSES && rule->passes[i].regex; i++) {
        const char *regex = rule->passes[i].regex;
        int code;
        PCRE2_SIZE at;
        s->codes[i] = pcre2_compile((PCRE2_SPTR)regex, PCRE2_ZERO_TERMINATED,
                                    PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK, &code, &at, NULL);
        if (!s->codes[i])
            return err_set(e, ERR_INTERNAL, "pre-tokenizer regex, at %zu: PCRE2 error %d", (size_t)at, code);
        s->jit[i] = pcre2_jit_compile(s->codes[i], PCRE2_JIT_COMPLETE) == 0;
        s->n_passes++;
    }
    return true;
}

void splitter_deinit(struct splitter *s)
{
    for (size_t i = 0; i < s->n_passes; i++) pcre2_code_free(s->codes[i]);
    *s = (struct splitter){0};
}

void split_run_init(struct split_run *r, const struct splitter *s)
{
    *r = (struct split_run){.splitter = s};
}

void split_run_deinit(struct split_run *r)
{
    pcre2_match_data_free(r->match);
    pcre2_match_context_free(r->context);
    pcre2_jit_stack_free(r->stack);
    *r = (struct split_run){0};
}

static bool make_match_data(struct split_run *r, struct err *e)
{
    r->match = pcre2_match_data_create(1, NULL);
    r->context = pcre2_match_context_create(NULL);
    r->stack = pcre2_jit_stack_create((size_t)64 << 10, STACK_MAX_BYTES, NULL);
    if (!r->match || !r->context || !r->stack) return err_set(e, ERR_INTERNAL, "no memory for a regex match");
    (void)pcre2_set_match_limit(r->context, MATCH_LIMIT);
    (void)pcre2_set_heap_limit(r->context, HEAP_LIMIT_KIB);
    pcre2_jit_stack_assign(r->context, NULL, r->stack);
    return true;
}

/* The first match at or after `at`; *from == text.len when there is none. */
static bool match_next(struct split_run *r, size_t *from, size_t *to, size_t pass, struct str text, size_t at,
                       struct err *e)
{
    const struct splitter *s = r->splitter;
    if (!r->match && !make_match_data(r, e)) return false;
    PCRE2_SPTR p = (PCRE2_SPTR)text.ptr;
    int rc = s->jit[pass] ? pcre2_jit_match(s->codes[pass], p, text.len, at, 0, r->match, r->context)
                          : pcre2_match(s->codes[pass], p, text.len, at, PCRE2_NO_UTF_CHECK, r->match, r->context);
    *from = *to = text.len;
    if (rc == PCRE2_ERROR_NOMATCH) return true;
    if (rc < 0) return err_set(e, ERR_TOO_LARGE, "splitting %zu bytes of text: PCRE2 error %d", text.len, rc);
    const PCRE2_SIZE *at_out = pcre2_get_ovector_pointer(r->match);
    *from = at_out[0];
    *to = at_out[1];
    if (*to <= *from) return err_set(e, ERR_INTERNAL, "a pre-tokenizer regex matched nothing at byte %zu", at);
    return true;
}

static bool split_pass(struct split_run *r, size_t pass, struct str text, piece_sink *sink, void *data, struct err *e);

static size_t char_len(char c)
{
    unsigned char b = (unsigned char)c;
    return b < 0xc0 ? 1 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : 4;
}

/* Groups of three characters counted from the right: 1234567 -> 1 234 567. */
static bool split_groups(struct split_run *r, size_t pass, struct str text, piece_sink *sink, void *data, struct err *e)
{
    size_t n_chars = 0, from = 0, left;
    for (size_t i = 0; i < text.len; i++) n_chars += ((unsigned char)text.ptr[i] & 0xc0) != 0x80;
    for (left = n_chars; left > 0;) {
        size_t take = left % 3 ? left % 3 : 3, to = from;
        for (size_t i = 0; i < take; i++) to += char_len(text.ptr[to]);
        if (!split_pass(r, pass, str_slice(text, from, to), sink, data, e)) return false;
        from = to;
        left -= take;
    }
    return true;
}

/* Recursion ends at SPLIT_MAX_PASSES. */
static bool split_pass(struct split_run *r, size_t pass, struct str text, piece_sink *sink, void *data, struct err *e)
{
    const struct splitter *s = r->splitter;
    if (pass == s->n_passes) return sink(data, text.ptr, text.len, e);
    for (size_t at = 0; at < text.len;) {
        size_t from, to;
        if (!match_next(r, &from, &to, pass, text, at, e)) return false;
        if (from > at && !split_pass(r, pass + 1, str_slice(text, at, from), sink, data, e)) return false;
        if (from == text.len) break;
        struct str found = str_slice(text, from, to);
        if (s->rule->passes[pass].group3 ? !split_groups(r, pass + 1, found, sink, data, e)
                                         : !split_pass(r, pass + 1, found, sink, data, e))
            return false;
        at = to;
    }
    return true;
}

static bool split_scanned(struct split_run *r, struct str text, piece_sink *sink, void *data, struct err *e)
{
    split_scan *scan = r->splitter->rule->scan;
    for (size_t at = 0; at < text.len;) {
        size_t from = at, to, n = scan((const unsigned char *)text.ptr + at, text.len - at);
        if (n > 0) {
            if (!sink(data, text.ptr + at, n, e)) return false;
            at += n;
            continue;
        }
        if (!match_next(r, &from, &to, 0, text, at, e)) return false;
        if (from > at && !sink(data, text.ptr + at, from - at, e)) return false;
        if (to > from && !sink(data, text.ptr + from, to - from, e)) return false;
        at = to;
    }
    return true;
}

/* Bytes at the start of s that are UTF-8. */
static size_t valid_prefix(struct str s)
{
    size_t i = 0, n;
    uint32_t c;
    while (i < s.len) {
        while (s.len - i >= 8 && (load_u64(s.ptr + i) & 0x8080808080808080u) == 0) i += 8;
        if (i < s.len && (unsigned char)s.ptr[i] < 0x80) {
            i++;
            continue;
        }
        if (i >= s.len || (n = utf8_decode(str_slice(s, i, s.len), &c)) == 0) break;
        i += n;
    }
    return i;
}

bool split_text(struct split_run *r, struct str text, piece_sink *sink, void *data, struct err *e)
{
    bool scanned = r->splitter->rule->scan && !r->no_scan;
    while (text.len > 0) {
        size_t n = valid_prefix(text);
        struct str valid = str_slice(text, 0, n);
        if (scanned ? !split_scanned(r, valid, sink, data, e) : !split_pass(r, 0, valid, sink, data, e)) return false;
        size_t bad = n;
        uint32_t c;
        while (bad < text.len && (unsigned char)text.ptr[bad] >= 0x80 &&
               utf8_decode(str_slice(text, bad, text.len), &c) == 0)
            bad++;
        if (bad > n && !sink(data, text.ptr + n, bad - n, e)) return false;
        text = str_slice(text, bad, text.len);
    }
    return true;
}
