/* record: see record.h. */
#include "server/record.h"

#include "base/alloc.h"

void record_init(struct record *r, size_t max_bytes)
{
    *r = (struct record){0};
    buf_init(&r->text, max_bytes);
}

void record_deinit(struct record *r)
{
    mem_free(r->blocks);
    mem_free(r->context.edits);
    buf_deinit(&r->text);
    *r = (struct record){0};
}

size_t record_bytes(const struct record *r)
{
    return r->text.cap + r->cap_blocks * sizeof *r->blocks;
}

/* The last block if it is open; a delta without a block opens one, as the encoders do. */
static struct record_block *open_block(struct record *r)
{
    struct record_block *last = r->n_blocks ? &r->blocks[r->n_blocks - 1] : NULL;
    return last && !last->is_closed ? last : NULL;
}

static void close_block(struct record *r, struct str signature)
{
    struct record_block *b = open_block(r);
    if (!b) return;
    b->signature = r->text.len;
    buf_append(&r->text, signature);
    b->end = r->text.len;
    b->is_closed = true;
}

static void add_block(struct record *r, const struct chat_event *ev)
{
    close_block(r, STR_NONE);
    if (record_bytes(r) > r->text.max_bytes) {
        r->text.failed = true;
        return;
    }
    if (r->n_blocks == r->cap_blocks) {
        r->cap_blocks = r->cap_blocks ? 2 * r->cap_blocks : 4;
        r->blocks = mem_realloc(r->blocks, r->cap_blocks * sizeof *r->blocks);
    }
    struct record_block *b = &r->blocks[r->n_blocks++];
    *b = (struct record_block){.kind = ev->block, .id = r->text.len};
    buf_append(&r->text, ev->id);
    b->name = r->text.len;
    buf_append(&r->text, ev->name);
    b->text = r->text.len;
}

/* The request's own goes with the request. */
static void keep_context(struct record *r, const struct chat_context *context)
{
    if (!context) return;
    r->has_context = true;
    r->context = (struct chat_context){.n_edits = context->n_edits, .original_tokens = context->original_tokens};
    r->context.edits = mem_zalloc((context->n_edits + 1) * sizeof *r->context.edits);
    for (size_t i = 0; i < context->n_edits; i++)
        r->context.edits[i] = (struct chat_edit){.kind = context->edits[i].kind,
                                                 .n_cleared = context->edits[i].n_cleared,
                                                 .cleared_tokens = context->edits[i].cleared_tokens};
}

bool record_add(struct record *r, const struct chat_event *ev)
{
    switch (ev->kind) {
    case CHAT_EVENT_START:
        r->has_start = true;
        r->start = ev->usage;
        break;
    case CHAT_EVENT_BLOCK_OPEN: add_block(r, ev); break;
    case CHAT_EVENT_DELTA:
        if (!open_block(r)) add_block(r, &(struct chat_event){.block = CHAT_TEXT});
        buf_append(&r->text, ev->text);
        break;
    case CHAT_EVENT_BLOCK_CLOSE: close_block(r, ev->signature); break;
    case CHAT_EVENT_FINISH:
        close_block(r, STR_NONE);
        r->is_finished = true;
        r->finish = ev->usage;
        r->stop = ev->stop;
        keep_context(r, ev->context);
        r->stop_sequence = r->text.len;
        buf_append(&r->text, ev->stop_sequence);
        break;
    case CHAT_EVENT_ERROR:
    case CHAT_EVENT_PING: break;
    }
    return !r->text.failed;
}

static void play_block(const struct record *r, const struct record_block *b, chat_sink *sink, void *ctx)
{
    struct str all = buf_str(&r->text);
    struct chat_event ev = {.kind = CHAT_EVENT_BLOCK_OPEN, .block = b->kind};
    ev.id = str_slice(all, b->id, b->name);
    ev.name = str_slice(all, b->name, b->text);
    sink(ctx, &ev);
    ev = (struct chat_event){.kind = CHAT_EVENT_DELTA,
                             .text = str_slice(all, b->text, b->is_closed ? b->signature : all.len)};
    if (ev.text.len) sink(ctx, &ev);
    if (!b->is_closed) return;
    ev = (struct chat_event){.kind = CHAT_EVENT_BLOCK_CLOSE, .signature = str_slice(all, b->signature, b->end)};
    sink(ctx, &ev);
}

void record_play(const struct record *r, const struct chat_note *notes, chat_sink *sink, void *ctx)
{
    if (r->has_start) sink(ctx, &(struct chat_event){.kind = CHAT_EVENT_START, .usage = r->start, .notes = notes});
    for (size_t i = 0; i < r->n_blocks; i++) play_block(r, &r->blocks[i], sink, ctx);
    if (!r->is_finished) return;
    sink(ctx, &(struct chat_event){.kind = CHAT_EVENT_FINISH,
                                   .usage = r->finish,
                                   .stop = r->stop,
                                   .context = r->has_context ? &r->context : NULL,
                                   .stop_sequence = str_slice(buf_str(&r->text), r->stop_sequence, r->text.len)});
}
