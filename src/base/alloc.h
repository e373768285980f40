/* alloc: the only door to malloc. Two families: plain calls end the program when memory is really exhausted (sizes
 * that we chose); _try_ calls return NULL (every size that comes from a client, a file or the configuration).
 * Also the checked arithmetic for such sizes. */
#ifndef BASE_ALLOC_H
#define BASE_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

void *mem_alloc(size_t size) __attribute__((malloc, returns_nonnull));
void *mem_zalloc(size_t size) __attribute__((malloc, returns_nonnull)); /* zeroed */
void *mem_realloc(void *ptr, size_t size) __attribute__((returns_nonnull));
void *mem_try_alloc(size_t size) __attribute__((malloc));
void *mem_try_zalloc(size_t size) __attribute__((malloc));
void *mem_try_realloc(void *ptr, size_t size); /* NULL leaves ptr as it was */
void mem_free(void *ptr);                      /* NULL is fine */

/* Anonymous zero pages, untouched until used, aligned to 2 MiB and marked for huge pages when size >= 2 MiB.
 * NULL on failure. Give the same size to mem_unmap. */
void *mem_try_map(size_t size);
void mem_unmap(void *ptr, size_t size);

/* *out = a + b or a * b; false on overflow, *out untouched. */
static inline bool size_add(size_t *out, size_t a, size_t b)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}
static inline bool size_mul(size_t *out, size_t a, size_t b)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r)) return false;
    *out = r;
    return true;
}

#endif
