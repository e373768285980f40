/* gguf_writer: builds GGUF bytes in a buf, honest or not: every count and length is what the test says. */
#ifndef GGUF_WRITER_H
#define GGUF_WRITER_H

#include <string.h>

#include "base/buf.h"
#include "gguf/gguf.h"

static inline void put(struct buf *b, const void *data, size_t size)
{
    buf_append(b, (struct str){data, size});
}
static inline void put_u32(struct buf *b, uint32_t v)
{
    put(b, &v, sizeof v);
}
static inline void put_u64(struct buf *b, uint64_t v)
{
    put(b, &v, sizeof v);
}
static inline void put_str(struct buf *b, const char *s)
{
    put_u64(b, strlen(s));
    put(b, s, strlen(s));
}
static inline void put_head(struct buf *b, uint32_t version, uint64_t n_tensors, uint64_t n_kvs)
{
    put(b, "GGUF", 4);
    put_u32(b, version);
    put_u64(b, n_tensors);
    put_u64(b, n_kvs);
}
static inline void put_key(struct buf *b, const char *key, enum gguf_type type)
{
    put_str(b, key);
    put_u32(b, (uint32_t)type);
}
static inline void put_kv_u32(struct buf *b, const char *key, uint32_t v)
{
    put_key(b, key, GGUF_U32);
    put_u32(b, v);
}
static inline void put_kv_str(struct buf *b, const char *key, const char *v)
{
    put_key(b, key, GGUF_STRING);
    put_str(b, v);
}
static inline void put_array_head(struct buf *b, enum gguf_type item_type, uint64_t n)
{
    put_u32(b, (uint32_t)item_type);
    put_u64(b, n);
}
static inline void put_tensor(struct buf *b, const char *name, enum quant_type type, uint64_t n0, uint64_t n1,
                              uint64_t offset)
{
    put_str(b, name);
    put_u32(b, 2);
    put_u64(b, n0);
    put_u64(b, n1);
    put_u32(b, (uint32_t)type);
    put_u64(b, offset);
}
static inline void put_padding(struct buf *b, size_t alignment)
{
    while (b->len % alignment) buf_append_char(b, 0);
}
static inline void put_zeros(struct buf *b, size_t n)
{
    while (n--) buf_append_char(b, 0);
}

#endif
