/* wpm: BERT's word pieces. The text is cleaned (control characters dropped, accents and case removed as the file says),
 * cut at white space, around punctuation and around each Chinese character; each word is then covered from the left by
 * the longest token that fits. A word that cannot be covered, or is longer than 100 characters, is the unknown token.
 * In GGUF a token that starts a word has U+2581 in front, the others have nothing. */
#include "tokenizer/tokenizer_internal.h"

#define MAX_WORD_CHARS 100
#define WORD_START "\xe2\x96\x81"

struct word {
    char text[3 + MAX_WORD_CHARS * 4 + 12];
    size_t len, n_chars;
};

static bool is_chinese(uint32_t c)
{
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) || (c >= 0x20000 && c <= 0x2a6df) ||
           (c >= 0x2a700 && c <= 0x2b73f) || (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b920 && c <= 0x2ceaf) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

static bool is_punctuation(uint32_t c)
{
    if (c < 0x80) return (c >= 33 && c <= 47) || (c >= 58 && c <= 64) || (c >= 91 && c <= 96) || (c >= 123 && c <= 126);
    return unicode_is_punctuation(c);
}

static bool end_word(const struct tokenizer *t, struct token_list *out, struct word *w, struct err *e)
{
    size_t first = out->n, at = 0;
    bool known = w->n_chars <= MAX_WORD_CHARS;
    if (w->n_chars == 0) return true;
    while (known && at < w->len) {
        uint32_t id;
        size_t n = trie_longest(&t->pieces, &id, (struct str){w->text + at, w->len - at});
        known = n > 0;
        if (known && !token_list_append(out, id, e)) return false;
        at += n;
    }
    w->len = 3;
    w->n_chars = 0;
    if (known) return true;
    out->n = first;
    return append_or_unknown(t, out, TOKEN_NONE, e);
}

static void add_char(struct word *w, uint32_t c)
{
    if (w->n_chars++ < MAX_WORD_CHARS) w->len += utf8_encode(w->text + w->len, c);
}

static bool add_clean_char(const struct tokenizer *t, struct token_list *out, struct word *w, uint32_t c, struct err *e)
{
    uint32_t parts[3] = {c};
    size_t n = t->strip_accents ? unicode_base(parts, c) : 1;
    for (size_t i = 0; i < n; i++) {
        uint32_t part = t->lowercase ? unicode_lower(parts[i]) : parts[i];
        bool alone = is_punctuation(part) || is_chinese(part);
        if (alone && !end_word(t, out, w, e)) return false;
        add_char(w, part);
        if (alone && !end_word(t, out, w, e)) return false;
    }
    return true;
}

bool wpm_encode(const struct tokenizer *t, struct token_list *out, struct str text, struct err *e)
{
    struct word w = {.text = WORD_START, .len = 3};
    for (size_t i = 0; i < text.len;) {
        uint32_t c;
        size_t n = utf8_decode(str_slice(text, i, text.len), &c);
        i += n ? n : 1;
        if (n == 0 || c == 0xfffd) continue;
        bool line = c == '\t' || c == '\n' || c == '\r'; /* the other control characters vanish, white space or not */
        if (!line && unicode_is_control(c)) continue;
        if (unicode_is_space(c) ? !end_word(t, out, &w, e) : !add_clean_char(t, out, &w, c, e)) return false;
    }
    return end_word(t, out, &w, e);
}
