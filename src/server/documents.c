/* documents: before a request goes to the backend, the files in it become text. Runs on the decoder's threads. */
#include "base/clock.h"
#include "server/server_internal.h"

#define TOTAL_MS 15000 /* after that none is begun: the client hears nothing meanwhile */
#define TEXT_MAX_BYTES ((size_t)64 << 20)

struct reading {
    struct decode_job *job;
    struct pdf_reader *pdfs;
    uint64_t deadline_ns;
};

static bool fail(const struct reading *g, const struct chat_block *block, const struct err *err)
{
    struct anthropic_error *e = &g->job->error;
    if (err->kind == ERR_IO || err->kind == ERR_CANCELLED) {
        anthropic_error_from(e, err);
        return false;
    }
    /* Clients that know the token go on without the document instead of failing with every turn. */
    return anthropic_error_set(e, 400, NULL,
                               "%.*s.source: Could not process document: %s "
                               "(capability_rejected: document_block)",
                               STR_ARG(block->where), err->msg);
}

static bool read_document(const struct reading *g, struct chat_block *block)
{
    struct err err = {0};
    struct buf text, whole;
    buf_init(&text, TEXT_MAX_BYTES);
    buf_init(&whole, TEXT_MAX_BYTES);
    bool ok = clock_ns() < g->deadline_ns ||
              err_set(&err, ERR_TOO_LARGE, "reading the documents before it took more than %d s", TOTAL_MS / 1000);
    ok = ok && pdf_read(g->pdfs, &text, block->data, &g->job->is_cancelled, &err);
    if (ok) {
        bool fits = chat_document_append(&whole, block->title, block->context, buf_str(&text));
        block->text = fits ? arena_try_str(&g->job->r->arena, buf_str(&whole)) : STR_NONE;
        block->kind = CHAT_TEXT;
        ok = block->text.ptr || err_set(&err, ERR_TOO_LARGE, "there is more text than a request may have");
    }
    buf_deinit(&whole);
    buf_deinit(&text);
    return ok || fail(g, block, &err);
}

static bool read_blocks(const struct reading *g, struct chat_block *blocks, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct chat_block *x = &blocks[i];
        if (x->kind == CHAT_DOCUMENT && !read_document(g, x)) return false;
        for (size_t k = 0; k < x->n_blocks; k++)
            if (x->blocks[k].kind == CHAT_DOCUMENT && !read_document(g, &x->blocks[k])) return false;
    }
    return true;
}

void documents_read(struct decode_job *job, struct pdf_reader *pdfs)
{
    struct chat_request *r = job->r;
    struct reading g = {job, pdfs, clock_ns() + (uint64_t)TOTAL_MS * 1000000};
    bool ok = true;
    for (size_t i = 0; ok && i < r->n_messages; i++)
        ok = read_blocks(&g, r->messages[i].blocks, r->messages[i].n_blocks);
    r->n_documents = 0;
    if (ok) return;
    chat_request_destroy(r);
    job->r = NULL;
}
