/* gguf: maps files, joins the parts of split models, and answers questions about keys and tensors. What a file says is
 * checked once, by gguf_part.c; from then on everything here is immutable. A file that another process cuts short while
 * it is mapped ends the program with SIGBUS: replace model files by renaming, never in place. */
#define _DEFAULT_SOURCE /* madvise */
#include "gguf/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "gguf/gguf_internal.h"

/* ---- files ---- */

static bool map_fd(struct part *p, int fd, struct err *e)
{
    struct stat st;
    if (fstat(fd, &st) != 0) return err_set(e, ERR_IO, "%s", strerror(errno));
    if (!S_ISREG(st.st_mode)) return err_set(e, ERR_IO, "not a regular file");
    if (st.st_size == 0) return err_set(e, ERR_CORRUPT, "the file is empty");
    if ((uint64_t)st.st_size > SIZE_MAX / 2) return err_set(e, ERR_CORRUPT, "the file is too large to map");
    void *base = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (base == MAP_FAILED) return err_set(e, ERR_IO, "mmap: %s", strerror(errno));
    *p = (struct part){.base = base,
                       .size = (size_t)st.st_size,
                       .mapped = true,
                       .modified_ns = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec};
    return true;
}

/* Reads a range in and maps it at once (Linux 5.14; fewer page faults). Not in every system's headers. */
#define ADVICE_POPULATE_READ 22

static void part_close(struct part *p)
{
    part_deinit(p);
    if (p->mapped) munmap((void *)(uintptr_t)p->base, p->size);
    *p = (struct part){0};
}

/* madvise works on pages: the tensor data without the page that it shares with the directories. */
static void advise_data(const struct part *p, int advice)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), from = (p->data_start + page - 1) / page * page;
    if (p->mapped && from < p->size) (void)madvise((void *)(uintptr_t)(p->base + from), p->size - from, advice);
}

static bool part_open(struct part *p, const char *path, struct err *e)
{
    *p = (struct part){0};
    /* O_NONBLOCK: a FIFO in place of the file must not hold us up. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        enum err_kind kind = errno == ENOENT || errno == ENOTDIR ? ERR_NOT_FOUND : ERR_IO;
        return err_set(e, kind, "%s: %s", path, strerror(errno));
    }
    bool ok = map_fd(p, fd, e) && part_parse(p, e);
    close(fd);
    if (!ok) {
        part_close(p);
        return err_prefix(e, "%s: ", path);
    }
    advise_data(p, MADV_SEQUENTIAL); /* loading reads every tensor once, front to back */
    return true;
}

/* ---- split files ---- */

/* split.count etc.: absent gives the fallback. */
static bool split_value(const struct part *p, int64_t *out, struct str key, int64_t fallback, struct err *e)
{
    const struct gguf_kv *kv = part_find(p, key);
    *out = fallback;
    if (!kv || kv_scalar_i64(out, kv->type, kv->data)) return true;
    return err_set(e, ERR_CORRUPT, "key \"%.*s\": expected an integer, found %s", STR_ARG(key),
                   gguf_type_name(kv->type));
}

#define SUFFIX_LEN (sizeof "-00001-of-00001.gguf" - 1)

static void split_suffix(char out[SUFFIX_LEN + 1], size_t no, size_t count)
{
    /* Both are at most GGUF_MAX_PARTS; the remainders tell the compiler that five digits are enough. */
    snprintf(out, SUFFIX_LEN + 1, "-%05u-of-%05u.gguf", (unsigned)(no + 1) % 100000, (unsigned)count % 100000);
}

/* The path without "-00001-of-0000N.gguf", which must say what the keys say. */
static bool split_prefix(struct str *out, const char *path, size_t no, size_t count, struct err *e)
{
    char suffix[SUFFIX_LEN + 1];
    split_suffix(suffix, no, count);
    struct str whole = str_from(path);
    if (!str_ends(whole, str_from(suffix)))
        return err_set(
            e, ERR_CORRUPT,
            "%s: the file is part %zu of %zu of a split model, so its name must end in \"%s\"; keep the names "
            "of the parts as they were published",
            path, no + 1, count, suffix);
    *out = str_slice(whole, 0, whole.len - SUFFIX_LEN);
    return true;
}

static bool check_part(const struct part *p, size_t no, size_t count, struct err *e)
{
    int64_t its_no, its_count;
    if (!split_value(p, &its_no, STR("split.no"), -1, e) || !split_value(p, &its_count, STR("split.count"), -1, e))
        return false;
    if (its_no != (int64_t)no)
        return err_set(e, ERR_CORRUPT, "key \"split.no\": expected %zu, found %" PRId64, no, its_no);
    if (its_count != (int64_t)count)
        return err_set(e, ERR_CORRUPT, "key \"split.count\": expected %zu, found %" PRId64, count, its_count);
    return true;
}

/* Opens all parts but number `have`, which is at parts[have] already. */
static bool open_other_parts(struct gguf *g, struct str prefix, size_t have, struct err *e)
{
    for (size_t i = 0; i < g->n_parts; i++) {
        if (i == have) continue;
        char suffix[SUFFIX_LEN + 1];
        split_suffix(suffix, i, g->n_parts);
        char *path = mem_alloc(prefix.len + SUFFIX_LEN + 1);
        memcpy(path, prefix.ptr, prefix.len);
        memcpy(path + prefix.len, suffix, SUFFIX_LEN + 1);
        bool ok = part_open(&g->parts[i], path, e);
        if (ok && !check_part(&g->parts[i], i, g->n_parts, e)) ok = err_prefix(e, "%s: ", path);
        mem_free(path);
        if (!ok) return false;
    }
    return true;
}

/* Takes `first` over and finds the parts that it belongs with. */
static bool open_parts(struct gguf *g, struct part *first, const char *path, struct err *e)
{
    int64_t count, no = 0;
    bool ok = split_value(first, &count, STR("split.count"), 1, e);
    if (ok && count > 1) ok = split_value(first, &no, STR("split.no"), -1, e);
    if (!ok) return err_prefix(e, "%s: ", path ? path : "memory");
    if (count < 2) { /* writers that never split give 0 or 1 */
        count = 1;
        no = 0;
    }
    if (count > GGUF_MAX_PARTS || no < 0 || no >= count)
        return err_set(e, ERR_CORRUPT,
                       "%s: part %" PRId64 " of %" PRId64 " (split.no, split.count); expected 0 to %d parts",
                       path ? path : "memory", no, count, GGUF_MAX_PARTS);
    struct str prefix = STR_NONE;
    if (count > 1 && !path) return err_set(e, ERR_INVALID, "split files cannot be read from memory");
    if (count > 1 && !split_prefix(&prefix, path, (size_t)no, (size_t)count, e)) return false;
    g->n_parts = (size_t)count;
    g->parts = mem_zalloc(g->n_parts * sizeof *g->parts);
    g->parts[no] = *first;
    *first = (struct part){0};
    return count == 1 || open_other_parts(g, prefix, (size_t)no, e);
}

static bool join_tensors(struct gguf *g, struct err *e)
{
    int64_t expected;
    for (size_t i = 0; i < g->n_parts; i++) g->n_tensors += g->parts[i].n_tensors;
    if (g->n_tensors > GGUF_MAX_TENSORS)
        return err_set(e, ERR_CORRUPT, "%zu tensors in all parts; expected at most %d", g->n_tensors, GGUF_MAX_TENSORS);
    if (!split_value(&g->parts[0], &expected, STR("split.tensors.count"), (int64_t)g->n_tensors, e)) return false;
    if (g->n_parts > 1 && expected != (int64_t)g->n_tensors)
        return err_set(e, ERR_CORRUPT, "key \"split.tensors.count\": %" PRId64 ", but the parts hold %zu tensors",
                       expected, g->n_tensors);
    g->tensors = mem_try_alloc(g->n_tensors * sizeof *g->tensors + 1);
    g->tensor_index = mem_try_alloc(g->n_tensors * sizeof *g->tensor_index + 1);
    if (!g->tensors || !g->tensor_index) return err_set(e, ERR_INTERNAL, "no memory for %zu tensors", g->n_tensors);
    size_t at = 0;
    for (size_t i = 0; i < g->n_parts; i++) {
        for (size_t k = 0; k < g->parts[i].n_tensors; k++, at++) {
            g->tensors[at] = g->parts[i].tensors[k];
            g->tensor_index[at] = (struct name_ref){g->tensors[at].name, (uint32_t)at};
        }
    }
    struct str twice;
    if (!name_refs_sort(g->tensor_index, &twice, g->n_tensors))
        return err_set(e, ERR_CORRUPT, "tensor \"%s\" is there twice", shown_name(twice).text);
    return true;
}

/* Takes `first` over, also on error. */
static struct gguf *join(struct part *first, const char *path, struct err *e)
{
    struct gguf *g = mem_zalloc(sizeof *g);
    bool ok = open_parts(g, first, path, e);
    if (ok && !join_tensors(g, e)) ok = err_prefix(e, "%s: ", path ? path : "memory");
    if (ok) return g;
    part_close(first);
    gguf_close(g);
    return NULL;
}

struct gguf *gguf_open(const char *path, struct err *e)
{
    struct part first;
    return part_open(&first, path, e) ? join(&first, path, e) : NULL;
}

struct gguf *gguf_open_memory(const void *data, size_t size, struct err *e)
{
    struct part first = {.base = data, .size = size};
    if (part_parse(&first, e)) return join(&first, NULL, e);
    part_close(&first);
    return NULL;
}

void gguf_close(struct gguf *g)
{
    if (!g) return;
    for (size_t i = 0; i < g->n_parts; i++) part_close(&g->parts[i]);
    mem_free(g->parts);
    mem_free(g->tensors);
    mem_free(g->tensor_index);
    mem_free(g);
}

/* Whole pages of a range of tensor data; `outward`: also those that it has a part of. */
static void advise_range(const struct gguf *g, const void *data, size_t size, int advice, bool outward)
{
    if (!g->parts[0].mapped) return;
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = (uintptr_t)data, to = from + size;
    from = (outward ? from : from + page - 1) / page * page;
    to = (outward ? to + page - 1 : to) / page * page;
    if (from < to) (void)madvise((void *)from, to - from, advice); /* advice only: errors change nothing */
}

void gguf_fetch_pages(const struct gguf *g, const void *data, size_t size)
{
    advise_range(g, data, size, ADVICE_POPULATE_READ, true);
}

void gguf_release_pages(const struct gguf *g, const void *data, size_t size)
{
    advise_range(g, data, size, MADV_DONTNEED, false);
}

void gguf_loaded(const struct gguf *g)
{
    for (size_t i = 0; i < g->n_parts; i++) advise_data(&g->parts[i], MADV_NORMAL);
}

uint64_t gguf_identity(const struct gguf *g)
{
    uint64_t h = 0;
    for (size_t i = 0; i < g->n_parts; i++) {
        const struct part *p = &g->parts[i];
        uint64_t what[] = {(uint64_t)p->size, (uint64_t)p->modified_ns, hash64_bulk(p->base, p->data_start, 0)};
        h = hash64(what, sizeof what, h);
    }
    return h;
}

/* ---- keys ---- */

size_t gguf_kv_count(const struct gguf *g)
{
    return g->parts[0].n_kvs;
}

const struct gguf_kv *gguf_kv_at(const struct gguf *g, size_t i)
{
    return i < g->parts[0].n_kvs ? &g->parts[0].kvs[i] : NULL;
}

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key)
{
    return part_find(&g->parts[0], str_from(key));
}

#define READ_AS(type, data)             \
    (__extension__({                    \
        type v_;                        \
        memcpy(&v_, (data), sizeof v_); \
        v_;                             \
    }))

bool kv_scalar_i64(int64_t *out, enum gguf_type type, const void *data)
{
    uint64_t wide;
    switch (type) {
    case GGUF_U8: *out = READ_AS(uint8_t, data); return true;
    case GGUF_I8: *out = READ_AS(int8_t, data); return true;
    case GGUF_U16: *out = READ_AS(uint16_t, data); return true;
    case GGUF_I16: *out = READ_AS(int16_t, data); return true;
    case GGUF_U32: *out = READ_AS(uint32_t, data); return true;
    case GGUF_I32: *out = READ_AS(int32_t, data); return true;
    case GGUF_BOOL: *out = READ_AS(uint8_t, data) != 0; return true;
    case GGUF_I64: *out = READ_AS(int64_t, data); return true;
    case GGUF_U64:
        wide = READ_AS(uint64_t, data);
        if (wide > INT64_MAX) return false;
        *out = (int64_t)wide;
        return true;
    default: return false;
    }
}

static bool scalar_f32(float *out, enum gguf_type type, const void *data)
{
    if (type == GGUF_F32) {
        *out = READ_AS(float, data);
        return true;
    }
    if (type != GGUF_F64) return false;
    *out = (float)READ_AS(double, data);
    return true;
}

static struct str string_at(const void *data)
{
    return (struct str){(const char *)data + sizeof(uint64_t), (size_t)READ_AS(uint64_t, data)};
}

static bool wrong_type(struct err *e, const struct gguf_kv *kv, const char *expected)
{
    return err_set(e, ERR_CORRUPT, "key \"%s\": expected %s, found %s%s%s", shown_name(kv->key).text, expected,
                   gguf_type_name(kv->type), kv->type == GGUF_ARRAY ? " of " : "",
                   kv->type == GGUF_ARRAY ? gguf_type_name(kv->item_type) : "");
}

static const struct gguf_kv *find_required(const struct gguf *g, const char *key, struct err *e)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    if (!kv) err_set(e, ERR_NOT_FOUND, "key \"%s\" is missing in the model file", key);
    return kv;
}

static bool read_u32(uint32_t *out, const struct gguf_kv *kv, struct err *e)
{
    int64_t value;
    if (kv->type == GGUF_BOOL || !kv_scalar_i64(&value, kv->type, kv->data))
        return wrong_type(e, kv, "an integer from 0 to 4294967295");
    if (value < 0 || value > UINT32_MAX)
        return err_set(e, ERR_CORRUPT, "key \"%s\": %" PRId64 " is not between 0 and 4294967295",
                       shown_name(kv->key).text, value);
    *out = (uint32_t)value;
    return true;
}

static bool read_f32(float *out, const struct gguf_kv *kv, struct err *e)
{
    return scalar_f32(out, kv->type, kv->data) || wrong_type(e, kv, "f32");
}

static bool read_bool(bool *out, const struct gguf_kv *kv, struct err *e)
{
    if (kv->type != GGUF_BOOL) return wrong_type(e, kv, "bool");
    *out = READ_AS(uint8_t, kv->data) != 0;
    return true;
}

bool gguf_get_u32(const struct gguf *g, uint32_t *out, const char *key, struct err *e)
{
    const struct gguf_kv *kv = find_required(g, key, e);
    return kv && read_u32(out, kv, e);
}

bool gguf_get_f32(const struct gguf *g, float *out, const char *key, struct err *e)
{
    const struct gguf_kv *kv = find_required(g, key, e);
    return kv && read_f32(out, kv, e);
}

bool gguf_get_bool(const struct gguf *g, bool *out, const char *key, struct err *e)
{
    const struct gguf_kv *kv = find_required(g, key, e);
    return kv && read_bool(out, kv, e);
}

bool gguf_get_str(const struct gguf *g, struct str *out, const char *key, struct err *e)
{
    const struct gguf_kv *kv = find_required(g, key, e);
    if (!kv) return false;
    if (kv->type != GGUF_STRING) return wrong_type(e, kv, "string");
    *out = string_at(kv->data);
    return true;
}

bool gguf_u32_or(const struct gguf *g, uint32_t *out, const char *key, uint32_t fallback, struct err *e)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    *out = fallback;
    return !kv || read_u32(out, kv, e);
}

bool gguf_f32_or(const struct gguf *g, float *out, const char *key, float fallback, struct err *e)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    *out = fallback;
    return !kv || read_f32(out, kv, e);
}

bool gguf_bool_or(const struct gguf *g, bool *out, const char *key, bool fallback, struct err *e)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    *out = fallback;
    return !kv || read_bool(out, kv, e);
}

struct str gguf_str_or(const struct gguf *g, const char *key, struct str fallback)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    return kv && kv->type == GGUF_STRING ? string_at(kv->data) : fallback;
}

/* ---- items of arrays ---- */

bool gguf_item_str(const struct gguf *g, struct str *out, const struct gguf_kv *kv, uint64_t i)
{
    if (kv->type != GGUF_ARRAY || kv->item_type != GGUF_STRING || i >= kv->n_items) return false;
    const uint32_t *ends = g->parts[0].item_ends[kv - g->parts[0].kvs];
    *out = string_at((const char *)kv->data + (i ? ends[i - 1] : 0));
    return true;
}

static const void *item_at(const struct gguf_kv *kv, uint64_t i, size_t item_bytes)
{
    return (const char *)kv->data + i * item_bytes;
}

bool gguf_item_i64(const struct gguf_kv *kv, int64_t *out, uint64_t i)
{
    if (kv->type != GGUF_ARRAY || i >= kv->n_items) return false;
    size_t bytes;
    switch (kv->item_type) {
    case GGUF_U8:
    case GGUF_I8:
    case GGUF_BOOL: bytes = 1; break;
    case GGUF_U16:
    case GGUF_I16: bytes = 2; break;
    case GGUF_U32:
    case GGUF_I32: bytes = 4; break;
    case GGUF_U64:
    case GGUF_I64: bytes = 8; break;
    default: return false;
    }
    return kv_scalar_i64(out, kv->item_type, item_at(kv, i, bytes));
}

bool gguf_item_f32(const struct gguf_kv *kv, float *out, uint64_t i)
{
    if (kv->type != GGUF_ARRAY || i >= kv->n_items) return false;
    if (kv->item_type != GGUF_F32 && kv->item_type != GGUF_F64) return false;
    return scalar_f32(out, kv->item_type, item_at(kv, i, kv->item_type == GGUF_F32 ? 4 : 8));
}

/* ---- tensors ---- */

size_t gguf_tensor_count(const struct gguf *g)
{
    return g->n_tensors;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, size_t i)
{
    return i < g->n_tensors ? &g->tensors[i] : NULL;
}

const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name)
{
    const struct name_ref *r = name_refs_find(g->tensor_index, str_from(name), g->n_tensors);
    return r ? &g->tensors[r->pos] : NULL;
}

uint64_t gguf_file_bytes(const struct gguf *g)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < g->n_parts; i++) sum += g->parts[i].size;
    return sum;
}

uint32_t gguf_version(const struct gguf *g)
{
    return g->parts[0].version;
}

size_t gguf_part_count(const struct gguf *g)
{
    return g->n_parts;
}
