/* gguf_part: reads the directories of one file: header, metadata, tensor list. All input is hostile: nothing is read
 * before the cursor has checked that it lies in the file, nothing is allocated that the file's size does not justify,
 * and every error names the key or tensor that it is about. */
#include "gguf/gguf_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"

struct cursor {
    const uint8_t *base;
    size_t pos, size; /* pos <= size */
};

static const struct {
    const char *name;
    uint8_t bytes; /* 0 = no fixed size */
} types[] = {
    [GGUF_U8] = {"u8", 1},       [GGUF_I8] = {"i8", 1},   [GGUF_U16] = {"u16", 2}, [GGUF_I16] = {"i16", 2},
    [GGUF_U32] = {"u32", 4},     [GGUF_I32] = {"i32", 4}, [GGUF_F32] = {"f32", 4}, [GGUF_BOOL] = {"bool", 1},
    [GGUF_U64] = {"u64", 8},     [GGUF_I64] = {"i64", 8}, [GGUF_F64] = {"f64", 8}, [GGUF_STRING] = {"string", 0},
    [GGUF_ARRAY] = {"array", 0},
};
#define N_TYPES (sizeof types / sizeof *types)

const char *gguf_type_name(enum gguf_type type)
{
    return (size_t)type < N_TYPES ? types[type].name : "unknown";
}

struct shown shown_name(struct str name)
{
    struct shown out = {{0}};
    size_t used = 0, at = 0;
    while (at < name.len && used + 8 < sizeof out.text) {
        uint32_t codepoint;
        size_t n = utf8_decode(str_slice(name, at, name.len), &codepoint);
        if (n == 0 || codepoint < 0x20 || codepoint == 0x7f) {
            out.text[used++] = '?';
            n = 1;
        } else {
            memcpy(out.text + used, name.ptr + at, n);
            used += n;
        }
        at += n;
    }
    if (at < name.len) memcpy(out.text + used, "...", 3);
    return out;
}

static int by_name(const void *a, const void *b)
{
    return str_cmp(((const struct name_ref *)a)->name, ((const struct name_ref *)b)->name);
}

bool name_refs_sort(struct name_ref *refs, struct str *twice, size_t n)
{
    if (n) qsort(refs, n, sizeof *refs, by_name);
    for (size_t i = 1; i < n; i++) {
        if (str_eq(refs[i - 1].name, refs[i].name)) {
            *twice = refs[i].name;
            return false;
        }
    }
    return true;
}

const struct name_ref *name_refs_find(const struct name_ref *refs, struct str name, size_t n)
{
    struct name_ref wanted = {.name = name};
    return n ? bsearch(&wanted, refs, n, sizeof *refs, by_name) : NULL;
}

/* The next n bytes, or NULL when the file ends before. */
static const uint8_t *take(struct cursor *c, uint64_t n)
{
    if (n > c->size - c->pos) return NULL;
    const uint8_t *p = c->base + c->pos;
    c->pos += (size_t)n;
    return p;
}

static bool take_u32(struct cursor *c, uint32_t *out)
{
    const uint8_t *p = take(c, sizeof *out);
    if (p) memcpy(out, p, sizeof *out);
    return p;
}

static bool take_u64(struct cursor *c, uint64_t *out)
{
    const uint8_t *p = take(c, sizeof *out);
    if (p) memcpy(out, p, sizeof *out);
    return p;
}

static bool take_str(struct cursor *c, struct str *out)
{
    uint64_t len;
    if (!take_u64(c, &len)) return false;
    const uint8_t *p = take(c, len);
    if (p) *out = (struct str){(const char *)p, (size_t)len};
    return p;
}

static size_t left(const struct cursor *c)
{
    return c->size - c->pos;
}

/* ---- metadata ---- */

static bool cut_value(struct err *e, struct str key, const struct cursor *c, const char *what)
{
    return err_set(e, ERR_CORRUPT, "key \"%s\": %s reaches past the end of the file (%zu bytes)", shown_name(key).text,
                   what, c->size);
}

/* Walks n strings; ends[i] becomes the end of string i, counted from the first one's length field. */
static bool skip_strings(struct cursor *c, uint32_t *ends, uint64_t n, struct str key, struct err *e)
{
    size_t start = c->pos;
    for (uint64_t i = 0; i < n; i++) {
        struct str s;
        if (!take_str(c, &s))
            return err_set(e, ERR_CORRUPT,
                           "key \"%s\": string %" PRIu64 " of %" PRIu64 " reaches past the end of the file",
                           shown_name(key).text, i, n);
        if (!ends) continue;
        if (c->pos - start > UINT32_MAX)
            return err_set(e, ERR_CORRUPT, "key \"%s\": an array of strings of over 4 GiB", shown_name(key).text);
        ends[i] = (uint32_t)(c->pos - start);
    }
    return true;
}

struct array_head {
    enum gguf_type item_type;
    uint64_t n_items;
};

/* Type and count of an array; the count is checked against the bytes that are left. */
static bool take_array_head(struct cursor *c, struct array_head *h, struct str key, struct err *e)
{
    uint32_t type;
    if (!take_u32(c, &type) || !take_u64(c, &h->n_items)) return cut_value(e, key, c, "the array's header");
    if (type >= N_TYPES)
        return err_set(e, ERR_CORRUPT, "key \"%s\": unknown array item type %" PRIu32 " (known: 0 to %zu)",
                       shown_name(key).text, type, N_TYPES - 1);
    h->item_type = (enum gguf_type)type;
    size_t least = type == GGUF_STRING ? 8 : type == GGUF_ARRAY ? 12 : types[type].bytes;
    if (h->n_items > left(c) / least)
        return err_set(e, ERR_CORRUPT,
                       "key \"%s\": an array of %" PRIu64 " items of type %s does not fit in the %zu bytes left",
                       shown_name(key).text, h->n_items, types[type].name, left(c));
    return true;
}

/* Skips the items of an array of arrays; `open` counts the arrays yet to be read at each depth. */
static bool skip_nested(struct cursor *c, uint64_t n_arrays, struct str key, struct err *e)
{
    uint64_t open[GGUF_MAX_NESTING] = {n_arrays};
    int depth = 0;
    while (depth >= 0) {
        if (open[depth] == 0) {
            depth--;
            continue;
        }
        open[depth]--;
        struct array_head h;
        if (!take_array_head(c, &h, key, e)) return false;
        if (h.item_type == GGUF_ARRAY) {
            if (depth + 2 >= GGUF_MAX_NESTING)
                return err_set(e, ERR_CORRUPT, "key \"%s\": arrays nested deeper than %d", shown_name(key).text,
                               GGUF_MAX_NESTING);
            open[++depth] = h.n_items;
        } else if (h.item_type == GGUF_STRING) {
            if (!skip_strings(c, NULL, h.n_items, key, e)) return false;
        } else if (!take(c, h.n_items * types[h.item_type].bytes)) {
            return cut_value(e, key, c, "a nested array");
        }
    }
    return true;
}

static bool read_array(struct cursor *c, struct gguf_kv *kv, uint32_t **ends, struct err *e)
{
    struct array_head h;
    if (!take_array_head(c, &h, kv->key, e)) return false;
    kv->item_type = h.item_type;
    kv->n_items = h.n_items;
    kv->data = c->base + c->pos;
    if (h.item_type == GGUF_ARRAY) return skip_nested(c, h.n_items, kv->key, e);
    if (h.item_type != GGUF_STRING) {
        if (take(c, h.n_items * types[h.item_type].bytes)) return true;
        return cut_value(e, kv->key, c, "the array");
    }
    size_t bytes;
    if (!size_mul(&bytes, (size_t)h.n_items, sizeof **ends) || !(*ends = mem_try_alloc(bytes ? bytes : 1)))
        return err_set(e, ERR_INTERNAL, "key \"%s\": no memory to index %" PRIu64 " strings", shown_name(kv->key).text,
                       h.n_items);
    return skip_strings(c, *ends, h.n_items, kv->key, e);
}

static bool read_kv(struct cursor *c, struct gguf_kv *kv, uint32_t **ends, size_t i, size_t n, struct err *e)
{
    uint32_t type;
    if (!take_str(c, &kv->key)) return err_set(e, ERR_CORRUPT, "the name of key %zu of %zu is cut off", i, n);
    if (kv->key.len == 0 || kv->key.len > GGUF_MAX_KEY || !utf8_valid(kv->key))
        return err_set(e, ERR_CORRUPT, "key %zu of %zu (\"%s\"): a name of %zu bytes; expected 1 to %d bytes of UTF-8",
                       i, n, shown_name(kv->key).text, kv->key.len, GGUF_MAX_KEY);
    if (!take_u32(c, &type)) return cut_value(e, kv->key, c, "the value's type");
    if (type >= N_TYPES)
        return err_set(e, ERR_CORRUPT, "key \"%s\": unknown value type %" PRIu32 " (known: 0 to %zu)",
                       shown_name(kv->key).text, type, N_TYPES - 1);
    kv->type = (enum gguf_type)type;
    if (kv->type == GGUF_ARRAY) return read_array(c, kv, ends, e);
    kv->data = c->base + c->pos;
    struct str ignored;
    if (kv->type == GGUF_STRING ? !take_str(c, &ignored) : !take(c, types[type].bytes))
        return cut_value(e, kv->key, c, "the value");
    return true;
}

static bool read_kvs(struct part *p, struct cursor *c, uint64_t n, struct err *e)
{
    const size_t least = 8 + 1 + 4 + 1;
    if (n > GGUF_MAX_KVS || n > left(c) / least)
        return err_set(e, ERR_CORRUPT, "%" PRIu64 " metadata keys do not fit in the file (%zu bytes; at most %d keys)",
                       n, c->size, GGUF_MAX_KVS);
    p->kvs = mem_try_zalloc((size_t)n * sizeof *p->kvs + 1);
    p->item_ends = mem_try_zalloc((size_t)n * sizeof *p->item_ends + 1);
    p->kv_index = mem_try_zalloc((size_t)n * sizeof *p->kv_index + 1);
    if (!p->kvs || !p->item_ends || !p->kv_index)
        return err_set(e, ERR_INTERNAL, "no memory for %" PRIu64 " metadata keys", n);
    p->n_kvs = (size_t)n;
    for (size_t i = 0; i < p->n_kvs; i++) {
        if (!read_kv(c, &p->kvs[i], &p->item_ends[i], i, p->n_kvs, e)) return false;
        p->kv_index[i] = (struct name_ref){p->kvs[i].key, (uint32_t)i};
    }
    struct str twice;
    if (!name_refs_sort(p->kv_index, &twice, p->n_kvs))
        return err_set(e, ERR_CORRUPT, "key \"%s\" is there twice", shown_name(twice).text);
    return true;
}

const struct gguf_kv *part_find(const struct part *p, struct str key)
{
    const struct name_ref *r = name_refs_find(p->kv_index, key, p->n_kvs);
    return r ? &p->kvs[r->pos] : NULL;
}

static bool read_alignment(struct part *p, struct err *e)
{
    const struct gguf_kv *kv = part_find(p, STR("general.alignment"));
    int64_t value = 32;
    if (kv && !kv_scalar_i64(&value, kv->type, kv->data))
        return err_set(e, ERR_CORRUPT, "key \"general.alignment\": expected an integer, found %s",
                       gguf_type_name(kv->type));
    if (value < GGUF_MIN_ALIGNMENT || value > GGUF_MAX_ALIGNMENT || (value & (value - 1)))
        return err_set(e, ERR_CORRUPT, "key \"general.alignment\": %" PRId64 " is no power of two from %d to %u", value,
                       GGUF_MIN_ALIGNMENT, GGUF_MAX_ALIGNMENT);
    p->alignment = (uint32_t)value;
    return true;
}

/* ---- tensors ---- */

static bool unknown_type(struct err *e, struct str name, uint32_t id)
{
    char known[300] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < QUANT_N; i++) {
        const struct quant_format *f = quant_format_get(i);
        size_t len = f ? strlen(f->name) : 0;
        if (!f || used + len + 2 >= sizeof known) continue;
        if (used) known[used++] = ' ';
        memcpy(known + used, f->name, len + 1);
        used += len;
    }
    return err_set(e, ERR_CORRUPT, "tensor \"%s\": type %" PRIu32 " is not supported (supported: %s)",
                   shown_name(name).text, id, known);
}

/* The tensor's size from its dimensions; all products are checked. */
static bool size_tensor(struct gguf_tensor *t, struct err *e)
{
    struct shown shown = shown_name(t->name);
    const char *name = shown.text;
    const struct quant_format *f = quant_format_get((uint32_t)t->type);
    uint64_t n_values = 1;
    for (uint32_t d = 0; d < t->n_dims; d++) {
        if (t->dims[d] == 0) return err_set(e, ERR_CORRUPT, "tensor \"%s\": dimension %" PRIu32 " is 0", name, d);
        if (__builtin_mul_overflow(n_values, t->dims[d], &n_values) || n_values > INT64_MAX)
            return err_set(e, ERR_CORRUPT,
                           "tensor \"%s\": the number of values overflows at dimension %" PRIu32 " (%" PRIu64 ")", name,
                           d, t->dims[d]);
    }
    if (t->dims[0] % f->block_len)
        return err_set(e, ERR_CORRUPT,
                       "tensor \"%s\": rows of %" PRIu64 " values are no multiple of the %" PRIu32 " of a %s block",
                       name, t->dims[0], f->block_len, f->name);
    if (!quant_row_bytes(&t->size_bytes, t->type, (size_t)n_values))
        return err_set(e, ERR_CORRUPT, "tensor \"%s\": the size in bytes of %" PRIu64 " values overflows", name,
                       n_values);
    return true;
}

/* One entry of the list; offset counts from the start of the tensor data. */
static bool read_tensor(struct cursor *c, struct gguf_tensor *t, uint64_t *offset, size_t i, size_t n, struct err *e)
{
    uint32_t id;
    if (!take_str(c, &t->name)) return err_set(e, ERR_CORRUPT, "the name of tensor %zu of %zu is cut off", i, n);
    if (t->name.len == 0 || t->name.len > GGUF_MAX_NAME || !utf8_valid(t->name))
        return err_set(e, ERR_CORRUPT,
                       "tensor %zu of %zu (\"%s\"): a name of %zu bytes; expected 1 to %d bytes of UTF-8", i, n,
                       shown_name(t->name).text, t->name.len, GGUF_MAX_NAME);
    if (!take_u32(c, &t->n_dims))
        return err_set(e, ERR_CORRUPT, "tensor \"%s\": its entry is cut off", shown_name(t->name).text);
    if (t->n_dims < 1 || t->n_dims > GGUF_MAX_DIMS)
        return err_set(e, ERR_CORRUPT, "tensor \"%s\": %" PRIu32 " dimensions; expected 1 to %d",
                       shown_name(t->name).text, t->n_dims, GGUF_MAX_DIMS);
    for (uint32_t d = 0; d < GGUF_MAX_DIMS; d++) {
        t->dims[d] = 1;
        if (d < t->n_dims && !take_u64(c, &t->dims[d]))
            return err_set(e, ERR_CORRUPT, "tensor \"%s\": its entry is cut off", shown_name(t->name).text);
    }
    if (!take_u32(c, &id) || !take_u64(c, offset))
        return err_set(e, ERR_CORRUPT, "tensor \"%s\": its entry is cut off", shown_name(t->name).text);
    if (!quant_format_get(id)) return unknown_type(e, t->name, id);
    t->type = (enum quant_type)id;
    return size_tensor(t, e);
}

static int by_place(const void *a, const void *b)
{
    const struct gguf_tensor *x = *(const struct gguf_tensor *const *)a, *y = *(const struct gguf_tensor *const *)b;
    return (x->data > y->data) - (x->data < y->data);
}

static bool check_overlaps(const struct part *p, struct err *e)
{
    const struct gguf_tensor **order = mem_try_alloc(p->n_tensors * sizeof *order + 1);
    if (!order) return err_set(e, ERR_INTERNAL, "no memory to order %zu tensors", p->n_tensors);
    for (size_t i = 0; i < p->n_tensors; i++) order[i] = &p->tensors[i];
    if (p->n_tensors) qsort(order, p->n_tensors, sizeof *order, by_place);
    bool ok = true;
    for (size_t i = 1; ok && i < p->n_tensors; i++) {
        const struct gguf_tensor *before = order[i - 1], *t = order[i];
        if ((const uint8_t *)before->data + before->size_bytes > (const uint8_t *)t->data)
            ok = err_set(e, ERR_CORRUPT, "tensors \"%s\" and \"%s\" overlap", shown_name(before->name).text,
                         shown_name(t->name).text);
    }
    mem_free(order);
    return ok;
}

static bool place_tensor(const struct part *p, struct gguf_tensor *t, uint64_t offset, struct err *e)
{
    size_t room = p->size - p->data_start;
    if (offset % p->alignment)
        return err_set(e, ERR_CORRUPT, "tensor \"%s\": offset %" PRIu64 " is no multiple of the alignment %" PRIu32,
                       shown_name(t->name).text, offset, p->alignment);
    if (offset > room || t->size_bytes > room - offset)
        return err_set(e, ERR_CORRUPT,
                       "tensor \"%s\": %zu bytes at offset %" PRIu64
                       " reach past the end of the tensor data (%zu bytes); "
                       "is the file complete?",
                       shown_name(t->name).text, t->size_bytes, offset, room);
    t->data = p->base + p->data_start + offset;
    return true;
}

static bool read_tensors(struct part *p, struct cursor *c, uint64_t n, struct err *e)
{
    const size_t least = 8 + 1 + 4 + 8 + 4 + 8;
    if (n > GGUF_MAX_TENSORS || n > left(c) / least)
        return err_set(e, ERR_CORRUPT, "%" PRIu64 " tensors do not fit in the file (%zu bytes; at most %d tensors)", n,
                       c->size, GGUF_MAX_TENSORS);
    p->tensors = mem_try_zalloc((size_t)n * sizeof *p->tensors + 1);
    uint64_t *offsets = mem_try_zalloc((size_t)n * sizeof *offsets + 1); // [n]
    bool ok = p->tensors && offsets;
    if (!ok) err_set(e, ERR_INTERNAL, "no memory for %" PRIu64 " tensors", n);
    for (size_t i = 0; ok && i < n; i++) ok = read_tensor(c, &p->tensors[i], &offsets[i], i, (size_t)n, e);
    if (ok) {
        p->n_tensors = (size_t)n;
        size_t padding = (p->alignment - c->pos % p->alignment) % p->alignment;
        p->data_start = padding > left(c) ? c->size : c->pos + padding;
    }
    for (size_t i = 0; ok && i < n; i++) ok = place_tensor(p, &p->tensors[i], offsets[i], e);
    mem_free(offsets);
    return ok && check_overlaps(p, e);
}

bool part_parse(struct part *p, struct err *e)
{
    struct cursor c = {p->base, 0, p->size};
    uint64_t n_tensors, n_kvs;
    const uint8_t *magic = take(&c, 4);
    if (!magic || memcmp(magic, "GGUF", 4) != 0)
        return err_set(e, ERR_CORRUPT, "not a GGUF file: it does not start with \"GGUF\"");
    if (!take_u32(&c, &p->version)) return err_set(e, ERR_CORRUPT, "the header is cut off");
    if ((p->version & 0xffff) == 0 && p->version)
        return err_set(e, ERR_CORRUPT, "a big-endian GGUF file; only little-endian ones are supported");
    if (p->version < 2 || p->version > 3)
        return err_set(e, ERR_CORRUPT, "GGUF version %" PRIu32 " is not supported (supported: 2 and 3)", p->version);
    if (!take_u64(&c, &n_tensors) || !take_u64(&c, &n_kvs)) return err_set(e, ERR_CORRUPT, "the header is cut off");
    return read_kvs(p, &c, n_kvs, e) && read_alignment(p, e) && read_tensors(p, &c, n_tensors, e);
}

void part_deinit(struct part *p)
{
    for (size_t i = 0; i < p->n_kvs; i++) mem_free(p->item_ends[i]);
    mem_free(p->item_ends);
    mem_free(p->kvs);
    mem_free(p->kv_index);
    mem_free(p->tensors);
}
