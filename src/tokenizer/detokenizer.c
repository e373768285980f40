/* detokenizer: ids -> text, at once or as a stream. A stream never hands out half a character: bytes that may still
 * become one are held (at most three), bytes that never can become U+FFFD. */
#include "tokenizer/tokenizer_internal.h"

static const struct str replacement = {"\xef\xbf\xbd", 3};

static struct str piece_of(const struct tokenizer *t, uint32_t id, bool show_control)
{
    const struct vocab *v = &t->vocab;
    bool special = v->attr[id] == TOKEN_CONTROL || v->attr[id] == TOKEN_UNKNOWN;
    return special && !show_control && !(v->flags[id] & FLAG_PRINTABLE) ? STR("") : v->raw[id];
}

bool tokenizer_piece(const struct tokenizer *t, struct buf *out, uint32_t id, bool show_control)
{
    return id < t->vocab.n && buf_append(out, piece_of(t, id, show_control));
}

/* Passes on what is complete of held bytes and `more`; keeps the rest. */
static bool pass_on(struct detokenizer *d, struct buf *out, struct str more)
{
    for (size_t i = 0; i < more.len;) {
        if (d->n_held == 0) { /* the usual case: whole characters */
            size_t n = utf8_complete_len(str_slice(more, i, more.len)), good = 0, len;
            uint32_t c;
            while (good < n && (len = utf8_decode(str_slice(more, i + good, i + n), &c)) > 0) good += len;
            if (!buf_append(out, str_slice(more, i, i + good))) return false;
            i += good;
            if (i == more.len) break;
        }
        d->held[d->n_held++] = more.ptr[i++];
        struct str held = {d->held, d->n_held};
        uint32_t c;
        if (utf8_decode(held, &c) > 0) {
            if (!buf_append(out, held)) return false;
            d->n_held = 0;
        } else if (utf8_complete_len(held) > 0) { /* not the start of one character any more */
            if (!buf_append(out, replacement)) return false;
            if (d->n_held > 1) i--; /* the last byte may start a character of its own */
            d->n_held = 0;
        }
    }
    return true;
}

bool detokenizer_feed(struct detokenizer *d, const struct tokenizer *t, struct buf *out, uint32_t id, bool show_control)
{
    if (id >= t->vocab.n) return false;
    struct str s = piece_of(t, id, show_control);
    if (s.len == 0) return true;
    bool special = t->vocab.attr[id] == TOKEN_CONTROL || t->vocab.attr[id] == TOKEN_UNKNOWN;
    bool prefixed = t->add_space_prefix || t->kind == VOCAB_WPM;
    if (!d->started && !special && prefixed && s.ptr[0] == ' ') s = str_slice(s, 1, s.len);
    d->started = true;
    return pass_on(d, out, s);
}

bool detokenizer_finish(struct detokenizer *d, struct buf *out)
{
    bool held = d->n_held > 0;
    d->n_held = 0;
    return !held || buf_append(out, replacement);
}

bool tokenizer_decode(const struct tokenizer *t, struct buf *out, const uint32_t *ids, size_t n, bool show_control)
{
    struct detokenizer d = {0};
    for (size_t i = 0; i < n; i++)
        if (!detokenizer_feed(&d, t, out, ids[i], show_control)) return false;
    return detokenizer_finish(&d, out);
}
