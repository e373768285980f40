/* quick: see quick.h. Pure. */
#include "local/quick.h"

#include <stddef.h>

#define QUICK_BYTES ((size_t)2 << 10) /* of all texts; docs/performance.md has what they take */
#define QUICK_MESSAGES 16

/* Subtracts what the blocks hold; false: that is too much, or not only text. */
static bool take_blocks(size_t *left, const struct chat_block *blocks, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (blocks[i].kind != CHAT_TEXT || blocks[i].signature.len || blocks[i].text.len > *left) return false;
        *left -= blocks[i].text.len;
    }
    return n <= QUICK_MESSAGES;
}

/* Tools, schemas and edits cost what no number of bytes bounds well: a compiled grammar, a second rendering. An earlier
 * answer may stand for a much longer one that is remembered. */
bool quick_request(const struct chat_request *req)
{
    size_t left = QUICK_BYTES;
    if (req->n_tools || req->output_schema || req->context || req->n_images || req->n_documents) return false;
    if (req->n_messages > QUICK_MESSAGES || req->n_stops > QUICK_MESSAGES) return false;
    for (size_t i = 0; i < req->n_stops; i++) {
        if (req->stops[i].len > left) return false;
        left -= req->stops[i].len;
    }
    if (!take_blocks(&left, req->system, req->n_system)) return false;
    for (size_t i = 0; i < req->n_messages; i++) {
        const struct chat_message *m = &req->messages[i];
        if (m->role == CHAT_ASSISTANT || !take_blocks(&left, m->blocks, m->n_blocks)) return false;
    }
    return true;
}
