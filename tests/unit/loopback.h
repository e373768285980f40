/* loopback: a blocking client for tests of servers on 127.0.0.1. Every wait has an end, so that a test fails and never
 * hangs. */
#ifndef LOOPBACK_H
#define LOOPBACK_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "unit.h"

#define LOOPBACK_WAIT_MS 60000 /* reached by failing tests only, however busy the machine is */

static inline int loopback_connect(uint16_t port)
{
    struct sockaddr_in addr = {.sin_family = AF_INET, .sin_port = htons(port)};
    addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr, sizeof addr), 0);
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
}

static inline void loopback_send(int fd, struct str s)
{
    while (s.len) {
        ssize_t n = send(fd, s.ptr, s.len, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        ck_assert_msg(n > 0, "send: %s", strerror(errno));
        s = str_slice(s, (size_t)n, s.len);
    }
}

/* Appends what arrives; false at the end of input, on a reset or after timeout_ms. */
static inline bool loopback_more(int fd, struct buf *out, int timeout_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char bytes[16384];
    if (poll(&p, 1, timeout_ms) <= 0) return false;
    ssize_t n = recv(fd, bytes, sizeof bytes, 0);
    return n > 0 && buf_append(out, (struct str){bytes, (size_t)n});
}

static inline void loopback_read_until(int fd, struct buf *out, const char *needle)
{
    uint64_t end = clock_ns() + LOOPBACK_WAIT_MS * 1000000ull;
    struct str want = str_from(needle);
    size_t from = 0;
    while (str_find(buf_str(out), want, from) < 0) {
        from = out->len > want.len ? out->len - want.len : 0;
        if (loopback_more(fd, out, 500)) continue;
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ck_assert_msg(poll(&p, 1, 0) == 0, "the connection ended before %s: %s", needle, out->ptr ? out->ptr : "");
        ck_assert_msg(clock_ns() < end, "waited in vain for %s in: %s", needle, out->ptr ? out->ptr : "");
    }
}

/* Until the server closes; false when it does not. */
static inline bool loopback_read_end(int fd, struct buf *out)
{
    uint64_t end = clock_ns() + LOOPBACK_WAIT_MS * 1000000ull;
    while (clock_ns() < end) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        char bytes[16384];
        if (poll(&p, 1, 200) <= 0) continue;
        ssize_t n = recv(fd, bytes, sizeof bytes, 0);
        if (n <= 0) return true;
        buf_append(out, (struct str){bytes, (size_t)n});
    }
    return false;
}

static inline bool loopback_has(const struct buf *b, const char *needle)
{
    return str_find(buf_str(b), str_from(needle), 0) >= 0;
}

static inline size_t loopback_count(const struct buf *b, const char *needle)
{
    /* Not by str_find: ThreadSanitizer looks at all the rest for each call of memmem, and replies have megabytes. */
    size_t n = 0, at = 0;
    struct str s = str_from(needle);
    while (at + s.len <= b->len) {
        bool is_here = b->ptr[at] == s.ptr[0] && memcmp(b->ptr + at, s.ptr, s.len) == 0;
        n += is_here;
        at += is_here ? s.len : 1;
    }
    return n;
}

static inline void loopback_sleep(unsigned ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&t, NULL);
}

#endif
