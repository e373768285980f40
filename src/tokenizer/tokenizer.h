/* tokenizer: text <-> token ids, for every vocabulary kind of GGUF (BPE, SPM, WPM, UGM, gemma4). Immutable after
 * tokenizer_create: any thread may use it at the same time. Algorithms and pre-tokenizer table: models-and-formats.md
 * section 4 (regexes are data, run by PCRE2). No quadratic case: time is O(n log n) in the length of the text. */
#ifndef TOKENIZER_TOKENIZER_H
#define TOKENIZER_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "gguf/gguf.h"

struct tokenizer;

enum token_attr { /* tokenizer.ggml.token_type */
                  TOKEN_NORMAL = 1,
                  TOKEN_UNKNOWN,
                  TOKEN_CONTROL,
                  TOKEN_USER_DEFINED,
                  TOKEN_UNUSED,
                  TOKEN_BYTE,
};
#define TOKEN_NONE UINT32_MAX

/* The vocabulary in g; g must outlive the tokenizer (token texts are borrowed). NULL on error. */
struct tokenizer *tokenizer_create(const struct gguf *g, struct err *e);
void tokenizer_destroy(struct tokenizer *t);

/* A growable list of ids; owned by the caller. */
struct token_list {
    uint32_t *ids;
    size_t n, cap;
    size_t max; /* most ids; appending more fails with ERR_TOO_LARGE */
};
void token_list_init(struct token_list *l, size_t max);
void token_list_deinit(struct token_list *l);
bool token_list_append(struct token_list *l, uint32_t id, struct err *e);

/* Which parts of the text were written by the template and which by a client. Control tokens match only in bytes of
 * the template; user-defined tokens match everywhere. Ordinary merges cross the borders. */
struct text_span {
    size_t from, to; /* bytes [from, to) that came from a client; sorted, disjoint */
};

/* Appends the ids of `text` to out. With `parse_control` false, no control token is recognised at all (tainted is then
 * ignored); with true, control tokens are recognised outside of `tainted`. Ordinary merges never give a control token.
 * Special tokens are found leftmost, then longest. No BOS/EOS is added here. Bytes that are not UTF-8 are tokenised
 * byte-wise where the vocabulary allows, else as the unknown token. Texts over 2 GiB are ERR_TOO_LARGE. */
bool tokenizer_encode(const struct tokenizer *t, struct token_list *out, struct str text, bool parse_control,
                      const struct text_span *tainted, size_t n_tainted, struct err *e);

/* The same for a text that goes on behind other tokens: nothing is put in front of it. */
bool tokenizer_encode_rest(const struct tokenizer *t, struct token_list *out, struct str text, bool parse_control,
                           const struct text_span *tainted, size_t n_tainted, struct err *e);

/* BOS etc. as the file asks for: adds them to a freshly encoded prompt unless they stand there already (a template
 * may have written BOS itself: never two). */
bool tokenizer_add_special(const struct tokenizer *t, struct token_list *ids, struct err *e);

/* Bytes of one token as it continues a text (SPM: with its leading space; byte tokens as that byte). Control tokens
 * give the empty string unless `show_control`. Appends to out; false only when out is full or id is not a token. */
bool tokenizer_piece(const struct tokenizer *t, struct buf *out, uint32_t id, bool show_control);

/* Streaming decoder: holds back incomplete UTF-8 characters, drops SPM's first space, replaces bytes that can never
 * become a character by U+FFFD. Zero-initialise; `started` is set by the first token that gives text. Set it to true
 * beforehand to continue a text (then a first space stays). */
struct detokenizer {
    char held[8];
    uint8_t n_held;
    bool started;
};
/* Appends the text that became complete through `id` to out. */
bool detokenizer_feed(struct detokenizer *d, const struct tokenizer *t, struct buf *out, uint32_t id,
                      bool show_control);
/* End of the stream: what is still held is replaced by one U+FFFD. */
bool detokenizer_finish(struct detokenizer *d, struct buf *out);
/* Whole list at once, for tests and `parley tokenize`. */
bool tokenizer_decode(const struct tokenizer *t, struct buf *out, const uint32_t *ids, size_t n, bool show_control);

uint32_t tokenizer_size(const struct tokenizer *t);
/* The token's text as it stands in the vocabulary (not decoded); STR_NONE for an id out of range. */
struct str tokenizer_text(const struct tokenizer *t, uint32_t id);
enum token_attr tokenizer_attr(const struct tokenizer *t, uint32_t id);
/* The id whose vocabulary text is exactly `text`, or TOKEN_NONE. */
uint32_t tokenizer_find(const struct tokenizer *t, struct str text);
bool tokenizer_is_eog(const struct tokenizer *t, uint32_t id); /* ends a generation (models-and-formats.md 4.3) */

struct tokenizer_info {
    const char *kind;                 /* "BPE", "SPM", "WPM", "UGM", "GEMMA4" */
    struct str pre;                   /* tokenizer.ggml.pre, or "default" */
    bool pre_known;                   /* false: the default splitter is used, quality suffers */
    uint32_t bos, eos, eot, unk, pad; /* TOKEN_NONE when absent */
    bool add_bos, add_eos;
    struct str chat_template; /* STR_NONE when absent */
};
void tokenizer_info_get(const struct tokenizer *t, struct tokenizer_info *info);

#endif
