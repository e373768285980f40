/* alloc: wrappers around malloc and mmap; see alloc.h for the two families. Any thread. */
#define _GNU_SOURCE
#include "base/alloc.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define HUGE_BYTES ((size_t)2 << 20)

static void *checked(void *ptr, size_t size)
{
    if (!ptr && size) {
        fprintf(stderr, "parley: out of memory (%zu bytes)\n", size);
        abort();
    }
    return ptr;
}

void *mem_alloc(size_t size)
{
    return checked(malloc(size ? size : 1), size ? size : 1);
}

void *mem_zalloc(size_t size)
{
    return checked(calloc(1, size ? size : 1), size ? size : 1);
}

void *mem_realloc(void *ptr, size_t size)
{
    return checked(realloc(ptr, size ? size : 1), size ? size : 1);
}

void *mem_try_alloc(size_t size)
{
    return malloc(size ? size : 1);
}

void *mem_try_zalloc(size_t size)
{
    return calloc(1, size ? size : 1);
}

void *mem_try_realloc(void *ptr, size_t size)
{
    return realloc(ptr, size ? size : 1);
}

void mem_free(void *ptr)
{
    free(ptr);
}

/* Maps 2 MiB more than asked, keeps the aligned middle and gives the rest back, so that munmap needs no bookkeeping. */
void *mem_try_map(size_t size)
{
    size_t span;
    if (!size_add(&span, size, HUGE_BYTES)) return NULL;
    char *raw = mmap(NULL, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED) return NULL;
    char *ptr = (char *)(((uintptr_t)raw + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1));
    size_t head = (size_t)(ptr - raw), used = (size + 4095) & ~(size_t)4095;
    if (head) munmap(raw, head);
    if (span - head > used) munmap(ptr + used, span - head - used);
    if (size >= HUGE_BYTES) madvise(ptr, used, MADV_HUGEPAGE);
    return ptr;
}

void mem_unmap(void *ptr, size_t size)
{
    if (ptr) munmap(ptr, (size + 4095) & ~(size_t)4095);
}
