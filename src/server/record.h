/* record: an answer as far as it was generated, to be played again: to a client that asks once more, or into the turn
 * that a thread keeps. Deltas of a block are joined, so it costs little more than the text. I/O thread. */
#ifndef SERVER_RECORD_H
#define SERVER_RECORD_H

#include "base/buf.h"
#include "chat/chat.h"

struct record_block {
    enum chat_block_kind kind;
    size_t id, name, text, signature, end; /* where each begins in record.text */
    bool is_closed;
};

struct record {
    bool has_start, is_finished;
    struct chat_usage start, finish;
    enum chat_stop stop;
    size_t stop_sequence; /* in text, to its end */
    bool has_context;
    struct chat_context context; /* FINISH's, without what only a backend needs */
    struct record_block *blocks;
    size_t n_blocks, cap_blocks;
    struct buf text;
};

void record_init(struct record *r, size_t max_bytes);
void record_deinit(struct record *r);
/* false: it is larger than its budget and worth nothing. PING and ERROR are passed over. */
bool record_add(struct record *r, const struct chat_event *ev);
size_t record_bytes(const struct record *r);
/* Gives the events to the sink; notes go with START. */
void record_play(const struct record *r, const struct chat_note *notes, chat_sink *sink, void *ctx);

#endif
