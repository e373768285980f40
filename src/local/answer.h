/* answer: the model's text on its way to the client: parsed by the dialect, calls get their ids, thinking its
 * signature, and what was written is remembered for the next turn. One answer, I/O thread. Private to local/. */
#ifndef LOCAL_ANSWER_H
#define LOCAL_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "chat/chat.h"
#include "dialect/dialect.h"
#include "local/memory.h"
#include "tokenizer/tokenizer.h"

struct answer;
struct answer_config { /* everything is borrowed for the answer's life but for what is copied */
    const struct dialect *dialect;
    const struct tokenizer *tokenizer;
    const struct chat_request *req;
    struct call_memory *memory;
    const unsigned char *key;            /* of signatures */
    struct str given, opened_call;       /* of struct prompt; copied */
    const struct token_runs *given_runs; /* likewise; may be NULL */
    bool in_thinking;
    struct str ahead; /* of struct prompt; copied */
    size_t ahead_free;
    chat_sink *sink; /* gets block events */
    void *ctx;
};
struct answer *answer_create(const struct answer_config *config);
void answer_destroy(struct answer *a);

/* More text and the next tokens of the answer; a token's text may come later, or never. true: the answer is complete,
 * although the model would go on (one call was asked for and is there). */
bool answer_feed(struct answer *a, struct str text, const uint32_t *tokens, size_t n_tokens);
/* cut: ended by a limit. Closes what is open, and remembers what the client has got. */
void answer_finish(struct answer *a, bool cut);
size_t answer_calls(const struct answer *a); /* complete ones */
uint32_t answer_thinking_tokens(const struct answer *a);

#endif
