/* gguf: the only reader of model files (GGUF v2 and v3, little endian). The file is mapped read-only and stays mapped
 * until gguf_close; strings, arrays and tensor data are borrowed from the map. Every count, offset, size, type and
 * string length is checked before use; errors (ERR_CORRUPT, ERR_IO, ERR_NOT_FOUND) name the key or tensor, what was
 * found and what is allowed. Split files ("-00001-of-0000N.gguf") are found from any of their parts and joined.
 * Immutable after gguf_open: any thread. Format: ggml/docs/gguf.md. Out of scope: a file that another process cuts
 * short while it is mapped ends the program (SIGBUS); model files are replaced by renaming, never in place. */
#ifndef GGUF_GGUF_H
#define GGUF_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/str.h"
#include "quant/quant.h"

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64,
};

struct gguf;

struct gguf_kv {
    struct str key;
    enum gguf_type type;
    enum gguf_type item_type; /* of an array */
    uint64_t n_items;         /* of an array */
    const void *data;         /* first byte of the value (of an array: of its first item), unaligned */
};

#define GGUF_MAX_DIMS 4
struct gguf_tensor {
    struct str name;
    enum quant_type type;
    uint32_t n_dims;
    uint64_t dims[GGUF_MAX_DIMS]; /* dims[0] = length of a row (fastest); unused ones are 1 */
    const void *data;             /* aligned as the file says (32 bytes by default) */
    size_t size_bytes;
};

struct gguf *gguf_open(const char *path, struct err *e); /* NULL on error */
void gguf_close(struct gguf *g);
/* The map is the operating system's cache. Tells it, for a range within one tensor's data, that all of it is read now,
 * or that it will not be needed again soon (then it no longer counts as this process's memory); any thread.
 * gguf_loaded: from now on only single rows are read. */
void gguf_fetch_pages(const struct gguf *g, const void *data, size_t size);
void gguf_release_pages(const struct gguf *g, const void *data, size_t size);
void gguf_loaded(const struct gguf *g);
/* A value that is another one when the file is: a hash of the directories, sizes and modification times of all parts.
 */
uint64_t gguf_identity(const struct gguf *g);

size_t gguf_kv_count(const struct gguf *g);
const struct gguf_kv *gguf_kv_at(const struct gguf *g, size_t i);
const struct gguf_kv *gguf_find(const struct gguf *g, const char *key); /* NULL = absent */

/* Typed reads. Integers of any width and sign are accepted for u32/i64 when the value fits; f32 accepts f64.
 * `_get_` returns false and fills e when the key is absent or of another type; `_or` gives the fallback when it is
 * absent (a wrong type is still an error). */
bool gguf_get_u32(const struct gguf *g, uint32_t *out, const char *key, struct err *e);
bool gguf_get_f32(const struct gguf *g, float *out, const char *key, struct err *e);
bool gguf_get_bool(const struct gguf *g, bool *out, const char *key, struct err *e);
bool gguf_get_str(const struct gguf *g, struct str *out, const char *key, struct err *e);
bool gguf_u32_or(const struct gguf *g, uint32_t *out, const char *key, uint32_t fallback, struct err *e);
bool gguf_f32_or(const struct gguf *g, float *out, const char *key, float fallback, struct err *e);
bool gguf_bool_or(const struct gguf *g, bool *out, const char *key, bool fallback, struct err *e);
struct str gguf_str_or(const struct gguf *g, const char *key, struct str fallback);

/* Items of an array key: kv must be GGUF_ARRAY of the given kind and i < n_items (checked: false otherwise). Strings
 * are found in O(1): the reader keeps an index of string arrays. */
bool gguf_item_str(const struct gguf *g, struct str *out, const struct gguf_kv *kv, uint64_t i);
bool gguf_item_i64(const struct gguf_kv *kv, int64_t *out, uint64_t i); /* any integer or bool type */
bool gguf_item_f32(const struct gguf_kv *kv, float *out, uint64_t i);   /* F32 or F64 */

size_t gguf_tensor_count(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i);
const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name); /* NULL = absent */
uint64_t gguf_file_bytes(const struct gguf *g);                                     /* of all parts */
uint32_t gguf_version(const struct gguf *g);
const char *gguf_type_name(enum gguf_type type); /* "u32", "string", ... */
size_t gguf_part_count(const struct gguf *g);

#endif
