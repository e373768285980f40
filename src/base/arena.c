/* arena: a list of chunks, each filled from the bottom; chunk sizes double up to 1 MiB. */
#include "base/arena.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

struct arena_chunk {
    struct arena_chunk *next;
    size_t size, used;
    _Alignas(16) char data[];
};

#define CHUNK_MIN ((size_t)4096)
#define CHUNK_MAX ((size_t)1 << 20)

void arena_init(struct arena *a, size_t max_bytes)
{
    *a = (struct arena){.max_bytes = max_bytes};
}

void arena_reset(struct arena *a)
{
    while (a->head) {
        struct arena_chunk *c = a->head;
        a->head = c->next;
        mem_free(c);
    }
    a->used_bytes = 0;
}

void arena_deinit(struct arena *a)
{
    arena_reset(a);
}

static struct arena_chunk *chunk_add(struct arena *a, size_t need)
{
    size_t size = a->head ? a->head->size * 2 : CHUNK_MIN;
    if (size > CHUNK_MAX) size = CHUNK_MAX;
    if (size < need) size = need;
    if (size > SIZE_MAX - sizeof(struct arena_chunk)) return NULL;
    struct arena_chunk *c = mem_try_alloc(sizeof *c + size);
    if (!c) return NULL;
    *c = (struct arena_chunk){.next = a->head, .size = size};
    a->head = c;
    return c;
}

void *arena_try_alloc(struct arena *a, size_t size)
{
    if (size > SIZE_MAX - 15) return NULL;
    size_t need = (size + 15) & ~(size_t)15;
    if (a->max_bytes && (need > a->max_bytes || a->used_bytes > a->max_bytes - need)) return NULL;
    struct arena_chunk *c = a->head;
    if ((!c || c->size - c->used < need) && !(c = chunk_add(a, need))) return NULL;
    void *ptr = c->data + c->used;
    c->used += need;
    a->used_bytes += need;
    return ptr;
}

void *arena_alloc(struct arena *a, size_t size)
{
    void *ptr = arena_try_alloc(a, size);
    if (!ptr) {
        fprintf(stderr, "parley: arena exhausted (%zu bytes wanted)\n", size);
        abort();
    }
    return ptr;
}

void *arena_zalloc(struct arena *a, size_t size)
{
    return memset(arena_alloc(a, size), 0, size);
}

struct str arena_try_str(struct arena *a, struct str s)
{
    char *copy = s.len == SIZE_MAX ? NULL : arena_try_alloc(a, s.len + 1);
    if (!copy) return STR_NONE;
    if (s.len) memcpy(copy, s.ptr, s.len);
    copy[s.len] = '\0';
    return (struct str){copy, s.len};
}
