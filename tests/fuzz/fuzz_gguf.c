/* Fuzzes the GGUF reader: any bytes are opened or refused; what is opened can be read everywhere, and holds what
 * gguf.h promises (data inside the input, aligned offsets, sizes that fit the type). */
#include <stdlib.h>
#include <string.h>

#include "gguf/gguf_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint8_t sink;

static void touch(const void *data, size_t size)
{
    const uint8_t *p = data;
    if (size) sink = (uint8_t)(p[0] ^ p[size - 1]);
}

static void read_key(const struct gguf *g, const struct gguf_kv *kv)
{
    struct str s;
    uint32_t u;
    int64_t i;
    float f;
    bool b;
    char key[256];
    touch(kv->key.ptr, kv->key.len);
    for (uint64_t n = 0; kv->type == GGUF_ARRAY && n < kv->n_items && n < 100000; n++) {
        if (gguf_item_str(g, &s, kv, n)) touch(s.ptr, s.len);
        (void)gguf_item_i64(kv, &i, n);
        (void)gguf_item_f32(kv, &f, n);
    }
    if (kv->key.len >= sizeof key || memchr(kv->key.ptr, 0, kv->key.len)) return;
    memcpy(key, kv->key.ptr, kv->key.len);
    key[kv->key.len] = 0;
    if (gguf_find(g, key) != kv) abort();
    struct err e;
    if (gguf_get_str(g, &s, key, &e)) touch(s.ptr, s.len);
    (void)gguf_get_u32(g, &u, key, &e);
    (void)gguf_get_f32(g, &f, key, &e);
    (void)gguf_get_bool(g, &b, key, &e);
}

static void read_tensor(const struct gguf_tensor *t, const uint8_t *data, size_t size)
{
    const struct quant_format *f = quant_format_get((uint32_t)t->type);
    const uint8_t *from = t->data;
    uint64_t n = t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
    if (!f || from < data || t->size_bytes > size || from + t->size_bytes > data + size) abort();
    if (n == 0 || n / f->block_len * f->block_bytes != t->size_bytes) abort();
    touch(t->data, t->size_bytes);
    if (n > 4096 || !f->unpack) return;
    float values[4096];
    f->unpack(values, t->data, (size_t)n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = {0};
    struct gguf *g = gguf_open_memory(data, size, &e);
    if (!g) {
        if (e.kind == ERR_NONE || !e.msg[0]) abort();
        return 0;
    }
    for (size_t i = 0; i < gguf_kv_count(g); i++) read_key(g, gguf_kv_at(g, i));
    for (size_t i = 0; i < gguf_tensor_count(g); i++) read_tensor(gguf_tensor_at(g, i), data, size);
    gguf_close(g);
    return 0;
}
