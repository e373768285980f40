/* Bodies, and decoding them. */
#ifndef UNIT_API_DECODE_H
#define UNIT_API_DECODE_H

#include "api/anthropic_messages.h"

#define USER(content) "{\"role\":\"user\",\"content\":" content "}"
#define ASSISTANT(content) "{\"role\":\"assistant\",\"content\":" content "}"
#define SYSTEM(content) "{\"role\":\"system\",\"content\":" content "}"
#define BODY(messages, more) "{\"model\":\"m\",\"messages\":[" messages "]" more "}"
#define TEXT(text) "{\"type\":\"text\",\"text\":\"" text "\"}"

/* With everything supported. decode_ok ends the test when the body is refused, decode_refused when it is not, or when
 * the message does not begin as told; code may be NULL. */
struct chat_request *decode_ok(const char *json);
void decode_refused(const char *json, const char *message, const char *code);
/* Texts of message i, joined by '|'; other kinds as "<kind>". Valid until the next call. */
const char *texts_of(const struct chat_request *r, size_t i);
const char *block_texts(const struct chat_block *blocks, size_t n);

#endif
