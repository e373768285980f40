/* fake_backend: a backend that plays a script. The script is the last text of the request, one command a line, when it
 * begins with '!'; any other text is echoed. Commands:
 *   start N | open text|thinking|tool | delta TEXT | repeat N TEXT | close | finish REASON | error KIND TEXT
 *   wait MS | silent | note TEXT | describe (a delta that says how large the request is)
 * Runs on the I/O thread of the server under test; the counters may be read from the test's thread. */
#ifndef FAKE_BACKEND_H
#define FAKE_BACKEND_H

#include <stdatomic.h>

#include "chat/chat.h"

struct fake_job;
struct fake_backend {
    struct backend backend;
    int fd;
    struct fake_job *jobs;
    uint64_t last_handle;
    bool is_loading;
    uint64_t last_salt;
    _Atomic unsigned n_submitted, n_cancelled, n_paused, n_resumed, n_deltas, n_salts;
    _Atomic uint64_t salts[8];
};

void fake_backend_init(struct fake_backend *f);
void fake_backend_deinit(struct fake_backend *f);

#endif
