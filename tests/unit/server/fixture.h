/* fixture: a server with a fake backend on a thread, stopped by a signal at the end of the test. */
#ifndef FIXTURE_H
#define FIXTURE_H

#include <pthread.h>
#include <signal.h>

#include "base/log.h"
#include "fake_backend.h"
#include "loopback.h"
#include "server/server.h"

struct fixture {
    struct fake_backend fake;
    struct server_config config;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint16_t port;
    bool is_over, ok;
    struct err err;
    struct buf log;
};

void fixture_init(struct fixture *f); /* a config to change before start */
void fixture_start(struct fixture *f);
void fixture_stop(struct fixture *f); /* SIGTERM, waits, asserts success */
void fixture_wait(struct fixture *f); /* for a server that was already told to stop */
/* Text of a request; to be sent on a connection. fmt is the body. */
struct str fixture_post(struct buf *out, const char *path, const char *headers, const char *body);
/* A message request whose text is the script. */
struct str fixture_message(struct buf *out, bool stream, const char *script);
/* One request on a fresh connection with `connection: close`; the whole reply. */
void fixture_roundtrip(struct fixture *f, struct buf *reply, struct str request);
int fixture_status(const struct buf *reply);
/* Waits until *counter is at least n. */
void fixture_until(_Atomic unsigned *counter, unsigned n);

#endif
