/* chat: life of a request. See chat.h for who owns what. */
#include "chat/chat.h"

#include "base/alloc.h"

struct chat_request *chat_request_create(size_t max_bytes)
{
    struct chat_request *r = mem_try_zalloc(sizeof *r);
    if (r) arena_init(&r->arena, max_bytes);
    return r;
}

void chat_request_destroy(struct chat_request *r)
{
    if (!r) return;
    json_decref(r->json);
    arena_deinit(&r->arena);
    mem_free(r);
}
