/* quick: which requests become tokens faster than another thread wakes up. Private to local/. */
#ifndef LOCAL_QUICK_H
#define LOCAL_QUICK_H

#include <stdbool.h>

#include "chat/chat.h"

/* Whether rendering and tokenising this takes so little, whatever is in it, that the I/O thread may do it itself. */
bool quick_request(const struct chat_request *req);

#endif
