/* gguf_internal: what the files of this folder share: one mapped file (a part) and the joined whole. */
#ifndef GGUF_GGUF_INTERNAL_H
#define GGUF_GGUF_INTERNAL_H

#include "gguf/gguf.h"

/* Limits that no honest file comes near. Memory used for the directories stays below a few times the file's size. */
#define GGUF_MAX_KVS 65536
#define GGUF_MAX_TENSORS 1048576
#define GGUF_MAX_KEY 65535  /* bytes; the format's own limit */
#define GGUF_MAX_NAME 1024  /* bytes of a tensor's name */
#define GGUF_MAX_PARTS 1024 /* files of a split model */
#define GGUF_MAX_NESTING 4  /* arrays within arrays */
#define GGUF_MIN_ALIGNMENT 8
#define GGUF_MAX_ALIGNMENT (1u << 20)

/* A name and the position of what it names; sorted by name, so that lookups cost log n whatever names a file chooses.
 */
struct name_ref {
    struct str name;
    uint32_t pos;
};

/* One file. Immutable after part_parse. */
struct part {
    const uint8_t *base; // [size]
    size_t size;
    bool mapped; /* base is ours to unmap */
    int64_t modified_ns;
    uint32_t version;
    uint32_t alignment;
    size_t data_start; /* of the tensor data, from base */
    struct gguf_kv *kvs;
    uint32_t **item_ends; // [n_kvs]: of an array of strings, [n_items] ends of the strings, from kv.data; else NULL
    size_t n_kvs;
    struct name_ref *kv_index; // [n_kvs]
    struct gguf_tensor *tensors;
    size_t n_tensors;
};

struct gguf {
    struct part *parts; // [n_parts]; the metadata is that of the first
    size_t n_parts;
    struct gguf_tensor *tensors; // [n_tensors], of all parts in order
    size_t n_tensors;
    struct name_ref *tensor_index; // [n_tensors]
};

/* Reads the directories of p->base[0, p->size). On error the caller still calls part_deinit. */
bool part_parse(struct part *p, struct err *e);
void part_deinit(struct part *p);
const struct gguf_kv *part_find(const struct part *p, struct str key);

/* Sorts refs by name. False when two names are equal: *twice is one of them. */
bool name_refs_sort(struct name_ref *refs, struct str *twice, size_t n);
const struct name_ref *name_refs_find(const struct name_ref *refs, struct str name, size_t n);

/* Any integer or bool value that fits; false for other types. */
bool kv_scalar_i64(int64_t *out, enum gguf_type type, const void *data);

/* A name as an error message shows it: cut to what fits, control characters and broken UTF-8 as '?'. */
struct shown {
    char text[100];
};
struct shown shown_name(struct str name);

/* For tests: the same reader over bytes in memory, which must outlive the result. No split files. */
struct gguf *gguf_open_memory(const void *data, size_t size, struct err *e);

#endif
