/* scan: the common splitters by hand for ASCII text, several times as fast as their regex. The regex in pretokenizer.c
 * is the truth: whenever a byte above 0x7f could change the result, a scanner answers 0 and the regex decides (tests
 * compare both on random text). One generic scanner; every rule is a constant, so that the compiler makes one function
 * of each. */
#include "tokenizer/tokenizer_internal.h"

enum byte_class { OTHER, LETTER, DIGIT, BLANK, NEWLINE, HIGH };
enum contraction { CONTRACTION_LOWER, CONTRACTION_ANY, CONTRACTION_AFTER_WORD, CONTRACTION_NONE };

struct scan_rule {
    enum contraction contraction;
    bool word_takes_any; /* one character of any kind before a word; else only a space */
    bool cases;          /* a word is upper case letters, then lower case ones */
    bool slash;          /* '/' among the newlines after punctuation */
    bool newlines;       /* newlines stick to punctuation, and white space is cut after its last newline */
    bool digit_ends;     /* a digit ends what a blank looks ahead to */
    size_t max_digits;   /* 0: as many as there are, with a space before them */
};

static const uint8_t classes[256] = {
    ['\t'] = BLANK,   ['\v'] = BLANK,         ['\f'] = BLANK,         [' '] = BLANK,          ['\n'] = NEWLINE,
    ['\r'] = NEWLINE, ['0'] = DIGIT,          ['1'] = DIGIT,          ['2'] = DIGIT,          ['3'] = DIGIT,
    ['4'] = DIGIT,    ['5'] = DIGIT,          ['6'] = DIGIT,          ['7'] = DIGIT,          ['8'] = DIGIT,
    ['9'] = DIGIT,    ['A' ... 'Z'] = LETTER, ['a' ... 'z'] = LETTER, [0x80 ... 0xff] = HIGH,
};

static inline enum byte_class class_at(const unsigned char *p, size_t n, size_t i)
{
    return i < n ? (enum byte_class)classes[p[i]] : OTHER; /* past the end: ends every run, never HIGH */
}

#define UNSURE ((size_t)-1)

/* Bytes of 's 't 're 've 'm 'll 'd at p (an apostrophe), 0 = none. */
static inline size_t contraction_len(const unsigned char *p, size_t n, bool any_case)
{
    if (n < 2) return 0;
    if (any_case && p[1] >= 0x80) return UNSURE; /* U+017F is an s */
    int c = any_case ? p[1] | 0x20 : p[1];
    if (c == 's' || c == 't' || c == 'm' || c == 'd') return 2;
    if (n < 3) return 0;
    int c2 = any_case ? p[2] | 0x20 : p[2];
    return ((c == 'r' || c == 'v') && c2 == 'e') || (c == 'l' && c2 == 'l') ? 3 : 0;
}

static inline size_t scan_word(struct scan_rule r, const unsigned char *p, size_t n, size_t i)
{
    if (r.cases) {
        while (i < n && p[i] >= 'A' && p[i] <= 'Z') i++;
        while (i < n && p[i] >= 'a' && p[i] <= 'z') i++;
        if (class_at(p, n, i) == HIGH) return 0;
        if (r.contraction != CONTRACTION_AFTER_WORD || i >= n || p[i] != '\'') return i;
        size_t len = contraction_len(p + i, n - i, true);
        return len == UNSURE ? 0 : i + len;
    }
    while (class_at(p, n, i) == LETTER) i++;
    return class_at(p, n, i) == HIGH ? 0 : i;
}

static inline size_t scan_blanks(struct scan_rule r, const unsigned char *p, size_t n)
{
    size_t i = 0, after_newline = 0;
    for (;; i++) {
        enum byte_class c = class_at(p, n, i);
        if (i >= n || (c != BLANK && c != NEWLINE)) break;
        if (c == NEWLINE) after_newline = i + 1;
    }
    if (class_at(p, n, i) == HIGH) return 0;
    if (r.newlines && after_newline) return after_newline;
    if (i == n || (r.digit_ends && class_at(p, n, i) == DIGIT)) return i;
    return i > 1 ? i - 1 : 1;
}

static inline size_t scan_digits(struct scan_rule r, const unsigned char *p, size_t n, size_t i)
{
    while (class_at(p, n, i) == DIGIT) {
        i++;
        if (r.max_digits && i == r.max_digits) return i;
    }
    return class_at(p, n, i) == HIGH ? 0 : i;
}

static inline size_t scan_other(struct scan_rule r, const unsigned char *p, size_t n, size_t i)
{
    while (i < n && classes[p[i]] == OTHER) i++;
    if (class_at(p, n, i) == HIGH) return 0;
    while (r.newlines && i < n && (classes[p[i]] == NEWLINE || (r.slash && p[i] == '/'))) i++;
    return i;
}

static inline __attribute__((always_inline)) size_t scan_any(struct scan_rule r, const unsigned char *p, size_t n)
{
    enum byte_class c = (enum byte_class)classes[p[0]];
    if (c == HIGH) return 0;
    if (p[0] == '\'' && (r.contraction == CONTRACTION_LOWER || r.contraction == CONTRACTION_ANY)) {
        size_t len = contraction_len(p, n, r.contraction == CONTRACTION_ANY);
        if (len) return len == UNSURE ? 0 : len;
    }
    if (c == LETTER) return scan_word(r, p, n, 0);
    if (c == DIGIT) return scan_digits(r, p, n, 0);
    enum byte_class next = n > 1 ? (enum byte_class)classes[p[1]] : OTHER;
    if (c != NEWLINE && (r.word_takes_any || p[0] == ' ')) {
        if (next == HIGH) return 0;
        if (next == LETTER) return scan_word(r, p, n, 1);
    }
    if (p[0] == ' ' && next == DIGIT && r.max_digits == 0) return scan_digits(r, p, n, 1);
    if (c == OTHER) return scan_other(r, p, n, 0);
    if (p[0] == ' ' && n > 1 && next == OTHER) return scan_other(r, p, n, 1);
    return scan_blanks(r, p, n);
}

size_t scan_gpt2(const unsigned char *p, size_t n)
{
    return scan_any((struct scan_rule){.contraction = CONTRACTION_LOWER}, p, n);
}

size_t scan_smollm(const unsigned char *p, size_t n)
{
    return scan_any((struct scan_rule){.contraction = CONTRACTION_LOWER, .max_digits = 1, .digit_ends = true}, p, n);
}

size_t scan_llama3(const unsigned char *p, size_t n)
{
    return scan_any(
        (struct scan_rule){.contraction = CONTRACTION_ANY, .word_takes_any = true, .newlines = true, .max_digits = 3},
        p, n);
}

size_t scan_qwen2(const unsigned char *p, size_t n)
{
    return scan_any(
        (struct scan_rule){.contraction = CONTRACTION_ANY, .word_takes_any = true, .newlines = true, .max_digits = 1},
        p, n);
}

size_t scan_gpt4o(const unsigned char *p, size_t n)
{
    return scan_any((struct scan_rule){.contraction = CONTRACTION_AFTER_WORD,
                                       .word_takes_any = true,
                                       .newlines = true,
                                       .max_digits = 3,
                                       .cases = true,
                                       .slash = true},
                    p, n);
}

size_t scan_tekken(const unsigned char *p, size_t n)
{
    return scan_any((struct scan_rule){.contraction = CONTRACTION_NONE,
                                       .word_takes_any = true,
                                       .newlines = true,
                                       .max_digits = 1,
                                       .cases = true,
                                       .slash = true},
                    p, n);
}
