/* vocab_writer: small vocabularies as GGUF files, for the tests and the fuzzer of tokenizer. */
#ifndef VOCAB_WRITER_H
#define VOCAB_WRITER_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tokenizer/tokenizer.h"

struct vocab_token {
    const char *text;
    int type; /* enum token_attr; 0 = normal */
    float score;
};

struct vocab_spec {
    const char *model, *pre, *name; /* NULL = absent */
    bool byte_tokens;               /* 256 tokens for the bytes first, written as the model does */
    const struct vocab_token *tokens;
    size_t n_tokens;
    const char *const *merges;
    size_t n_merges;
    int bos, eos, unk;                                  /* 0 = absent, else id + 1 */
    int add_space_prefix, add_bos, remove_extra_spaces; /* 0 = absent, 1 = false, 2 = true */
    struct str charsmap;
};

struct vocab_file {
    struct gguf *gguf;
    struct tokenizer *tokenizer;
};

static inline void vw_raw(struct buf *b, const void *p, size_t n)
{
    (void)buf_append(b, (struct str){p, n});
}
static inline void vw_u32(struct buf *b, uint32_t v)
{
    vw_raw(b, &v, sizeof v);
}
static inline void vw_u64(struct buf *b, uint64_t v)
{
    vw_raw(b, &v, sizeof v);
}
static inline void vw_str(struct buf *b, const char *s)
{
    vw_u64(b, strlen(s));
    vw_raw(b, s, strlen(s));
}
static inline void vw_key(struct buf *b, uint64_t *n, const char *key, enum gguf_type type)
{
    vw_str(b, key);
    vw_u32(b, (uint32_t)type);
    ++*n;
}
static inline void vw_array(struct buf *b, uint64_t *n, const char *key, enum gguf_type item, size_t count)
{
    vw_key(b, n, key, GGUF_ARRAY);
    vw_u32(b, (uint32_t)item);
    vw_u64(b, count);
}
static inline void vw_text(struct buf *b, uint64_t *n, const char *key, const char *value)
{
    if (!value) return;
    vw_key(b, n, key, GGUF_STRING);
    vw_str(b, value);
}
static inline void vw_id(struct buf *b, uint64_t *n, const char *key, int id_plus_one)
{
    if (id_plus_one == 0) return;
    vw_key(b, n, key, GGUF_U32);
    vw_u32(b, (uint32_t)(id_plus_one - 1));
}
static inline void vw_flag(struct buf *b, uint64_t *n, const char *key, int flag)
{
    if (flag == 0) return;
    vw_key(b, n, key, GGUF_BOOL);
    char value = flag == 2;
    vw_raw(b, &value, 1);
}

/* The token text of a byte: printable characters for "gpt2", <0xXX> elsewhere. */
static inline void vw_byte(struct buf *b, const struct vocab_spec *s, unsigned byte)
{
    char text[16] = {0};
    unsigned c = byte, shifted = 0;
    for (unsigned i = 0; i < byte; i++) shifted += i < 0x21 || (i > 0x7e && i < 0xa1) || i == 0xad;
    if (byte < 0x21 || (byte > 0x7e && byte < 0xa1) || byte == 0xad) c = 0x100 + shifted;
    if (strcmp(s->model, "gpt2") != 0) snprintf(text, sizeof text, "<0x%02X>", byte);
    else if (c < 0x80) text[0] = (char)c;
    else snprintf(text, sizeof text, "%c%c", (int)(0xc0 | c >> 6), (int)(0x80 | (c & 0x3f)));
    vw_str(b, text);
}

static inline void vw_vocab(struct buf *b, uint64_t *n, const struct vocab_spec *s)
{
    size_t first = s->byte_tokens ? 256 : 0, all = first + s->n_tokens;
    bool printable = strcmp(s->model, "gpt2") == 0;
    vw_array(b, n, "tokenizer.ggml.tokens", GGUF_STRING, all);
    for (unsigned i = 0; i < first; i++) vw_byte(b, s, i);
    for (size_t i = 0; i < s->n_tokens; i++) vw_str(b, s->tokens[i].text);
    vw_array(b, n, "tokenizer.ggml.token_type", GGUF_I32, all);
    for (unsigned i = 0; i < first; i++) vw_u32(b, printable ? TOKEN_NORMAL : TOKEN_BYTE);
    for (size_t i = 0; i < s->n_tokens; i++) vw_u32(b, s->tokens[i].type ? (uint32_t)s->tokens[i].type : TOKEN_NORMAL);
    vw_array(b, n, "tokenizer.ggml.scores", GGUF_F32, all);
    for (unsigned i = 0; i < first; i++) vw_u32(b, 0);
    for (size_t i = 0; i < s->n_tokens; i++) vw_raw(b, &s->tokens[i].score, sizeof(float));
}

static inline void vocab_write(struct buf *out, const struct vocab_spec *s)
{
    struct buf b;
    uint64_t n = 0;
    buf_init(&b, 1u << 24);
    vw_text(&b, &n, "tokenizer.ggml.model", s->model);
    vw_text(&b, &n, "tokenizer.ggml.pre", s->pre);
    vw_text(&b, &n, "general.name", s->name);
    vw_vocab(&b, &n, s);
    if (s->merges) vw_array(&b, &n, "tokenizer.ggml.merges", GGUF_STRING, s->n_merges);
    for (size_t i = 0; i < s->n_merges; i++) vw_str(&b, s->merges[i]);
    vw_id(&b, &n, "tokenizer.ggml.bos_token_id", s->bos);
    vw_id(&b, &n, "tokenizer.ggml.eos_token_id", s->eos);
    vw_id(&b, &n, "tokenizer.ggml.unknown_token_id", s->unk);
    vw_flag(&b, &n, "tokenizer.ggml.add_space_prefix", s->add_space_prefix);
    vw_flag(&b, &n, "tokenizer.ggml.add_bos_token", s->add_bos);
    vw_flag(&b, &n, "tokenizer.ggml.remove_extra_whitespaces", s->remove_extra_spaces);
    if (s->charsmap.ptr) {
        vw_array(&b, &n, "tokenizer.ggml.precompiled_charsmap", GGUF_U8, s->charsmap.len);
        vw_raw(&b, s->charsmap.ptr, s->charsmap.len);
    }
    vw_raw(out, "GGUF", 4);
    vw_u32(out, 3);
    vw_u64(out, 0);
    vw_u64(out, n);
    (void)buf_append(out, buf_str(&b));
    while (out->len % 32) (void)buf_append_char(out, 0);
    buf_deinit(&b);
}

/* tokenizer is NULL when it was refused; e says why. */
static inline struct vocab_file vocab_open_spec(const struct vocab_spec *s, struct err *e)
{
    struct vocab_file f = {0};
    struct buf bytes;
    char path[] = "/tmp/vocab-XXXXXX";
    int fd = mkstemp(path);
    buf_init(&bytes, 1u << 25);
    vocab_write(&bytes, s);
    if (fd < 0 || write(fd, bytes.ptr, bytes.len) != (ssize_t)bytes.len) abort();
    close(fd);
    f.gguf = gguf_open(path, e);
    unlink(path);
    f.tokenizer = f.gguf ? tokenizer_create(f.gguf, e) : NULL;
    buf_deinit(&bytes);
    return f;
}

static inline void vocab_close(struct vocab_file *f)
{
    tokenizer_destroy(f->tokenizer);
    gguf_close(f->gguf);
}

#define COUNT(a) (sizeof(a) / sizeof *(a))

#endif
