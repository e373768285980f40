/* listener: addresses, accepting, and the list of connections. */
#include <errno.h>
#include <event2/listener.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "http/http_internal.h"

void http_limits_init(struct http_limits *l)
{
    *l = (struct http_limits){
        .max_line_bytes = 16 << 10,
        .max_head_bytes = 64 << 10,
        .max_headers = 128,
        .max_body_bytes = (size_t)32 << 20,
        .max_bodies_bytes = (size_t)512 << 20,
        .max_output_bytes = (size_t)64 << 20,
        .high_mark_bytes = 64 << 10,
        .drain_bytes = (size_t)64 << 20,
        .max_connections = 1024,
        .head_ms = 30000,
        .body_ms = 600000,
        .body_idle_ms = 60000,
        .idle_ms = 300000,
        .write_ms = 120000,
        .linger_ms = 10000,
    };
}

int http_fault_status(enum http_fault fault)
{
    static const int statuses[] = {200,
#define FAULT_STATUS(name, status, text) status,
                                   HTTP_FAULTS(FAULT_STATUS)
#undef FAULT_STATUS
    };
    return statuses[fault];
}

const char *http_fault_text(enum http_fault fault)
{
    static const char *const texts[] = {"",
#define FAULT_TEXT(name, status, text) text,
                                        HTTP_FAULTS(FAULT_TEXT)
#undef FAULT_TEXT
    };
    return texts[fault];
}

struct http_server *http_server_create(struct http_loop *loop, const struct http_limits *limits,
                                       const struct http_handler *handler)
{
    struct http_server *s = mem_zalloc(sizeof *s);
    s->loop = loop;
    s->limits = *limits;
    s->handler = *handler;
    return s;
}

static void listeners_close(struct http_server *s)
{
    while (s->listeners) {
        struct http_listener *l = s->listeners;
        s->listeners = l->next;
        if (l->listener) evconnlistener_free(l->listener);
        else if (l->fd >= 0) close(l->fd);
        mem_free(l);
    }
}

void http_server_destroy(struct http_server *s)
{
    if (!s) return;
    listeners_close(s);
    while (s->conns) http_conn_cut(s->conns, "the server stops");
    if (s->retry) event_free(s->retry);
    mem_free(s);
}

size_t http_server_connections(const struct http_server *s)
{
    return s->n_conns;
}

uint32_t http_server_sent_ms(const struct http_server *s)
{
    uint64_t now = clock_ns(), least = UINT32_MAX;
    for (const struct http_conn *c = s->conns; c; c = c->next) {
        uint64_t ms = (now - c->progress_ns) / 1000000;
        if (evbuffer_get_length(bufferevent_get_output(c->bev)) && ms < least) least = ms;
    }
    return (uint32_t)least;
}

void http_server_drain(struct http_server *s)
{
    s->draining = true;
    listeners_close(s);
    struct http_conn *next;
    for (struct http_conn *c = s->conns; c; c = next) {
        next = c->next;
        if (http_conn_is_idle(c)) http_conn_drop(c);
    }
}

static void peer_name(char *out, size_t size, const struct sockaddr *addr, socklen_t addr_len)
{
    char host[64] = "?", port[8] = "0";
    if (addr) getnameinfo(addr, addr_len, host, sizeof host, port, sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
    snprintf(out, size, strchr(host, ':') ? "[%.45s]:%s" : "%.45s:%s", host, port);
}

static void on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *addr, int addr_len,
                      void *arg)
{
    struct http_server *s = arg;
    (void)listener;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* A few more than the limit are let in to be told why; beyond that the door is shut without a word. */
    if (s->draining || s->n_conns >= (size_t)s->limits.max_connections + 32) {
        close(fd);
        return;
    }
    char peer[64];
    peer_name(peer, sizeof peer, addr, (socklen_t)addr_len);
    http_conn_create(s, fd, peer);
}

static void set_accepting(struct http_server *s, bool accepting)
{
    for (struct http_listener *l = s->listeners; l; l = l->next) {
        if (accepting) evconnlistener_enable(l->listener);
        else evconnlistener_disable(l->listener);
    }
}

static void on_retry(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    set_accepting(arg, true);
}

/* Out of descriptors, usually: the waiting connection stays readable, so trying again at once would spin. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
    struct http_server *s = arg;
    (void)listener;
    struct timeval pause = {.tv_sec = 0, .tv_usec = 200000};
    set_accepting(s, false);
    if (!s->retry) s->retry = evtimer_new(s->loop->base, on_retry, s);
    if (s->retry) evtimer_add(s->retry, &pause);
}

static uint16_t bound_port(int fd)
{
    struct sockaddr_storage addr = {0};
    socklen_t len = sizeof addr;
    if (getsockname(fd, (struct sockaddr *)&addr, &len)) return 0;
    if (addr.ss_family == AF_INET6) return ntohs(((struct sockaddr_in6 *)&addr)->sin6_port);
    return ntohs(((struct sockaddr_in *)&addr)->sin_port);
}

static bool is_loopback(const struct sockaddr *addr)
{
    if (addr->sa_family == AF_INET) return ntohl(((const struct sockaddr_in *)addr)->sin_addr.s_addr) >> 24 == 127;
    return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)addr)->sin6_addr);
}

static int bind_address(const struct addrinfo *ai, uint16_t port, bool v6_only)
{
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    int on = 1;
    int only = v6_only;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (ai->ai_family == AF_INET6) {
        ((struct sockaddr_in6 *)ai->ai_addr)->sin6_port = htons(port);
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
    } else {
        ((struct sockaddr_in *)ai->ai_addr)->sin_port = htons(port);
    }
    if (!bind(fd, ai->ai_addr, ai->ai_addrlen) && !listen(fd, 511)) return fd;
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static bool listener_add(struct http_server *s, int fd)
{
    struct http_listener *l = mem_zalloc(sizeof *l);
    l->fd = fd;
    l->next = s->listeners;
    s->listeners = l;
    l->listener = evconnlistener_new(s->loop->base, on_accept, s, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);
    if (l->listener) evconnlistener_set_error_cb(l->listener, on_accept_error);
    return l->listener != NULL;
}

static bool bind_failed(const char *host, uint16_t port, struct err *e)
{
    if (errno == EADDRINUSE)
        return err_set(e, ERR_IO, "port %u on %s is in use by another program: stop it or choose another port", port,
                       host);
    if (errno == EACCES)
        return err_set(e, ERR_IO, "port %u on %s needs privileges: choose a port from 1024 up", port, host);
    return err_set(e, ERR_IO, "cannot listen on %s port %u: %s", host, port, strerror(errno));
}

bool http_server_listen(struct http_server *s, uint16_t *port, bool *loopback_only, const char *host, struct err *e)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list = NULL;
    char bare[256];
    size_t len = strlen(host);
    bool bracketed = len > 2 && host[0] == '[' && host[len - 1] == ']';
    snprintf(bare, sizeof bare, "%.*s", (int)(bracketed ? len - 2 : len), host + (bracketed ? 1 : 0));
    int rc = getaddrinfo(bare, NULL, &hints, &list);
    if (rc) return err_set(e, ERR_IO, "cannot find the address of host \"%s\": %s", host, gai_strerror(rc));
    bool several = list && list->ai_next;
    size_t n_bound = 0;
    *loopback_only = true;
    for (struct addrinfo *ai = list; ai; ai = ai->ai_next) {
        if (ai->ai_family != AF_INET && ai->ai_family != AF_INET6) continue;
        int fd = bind_address(ai, *port, several);
        /* "localhost" often has an IPv6 address on machines without IPv6. */
        if (fd < 0 && several && (errno == EADDRNOTAVAIL || errno == EAFNOSUPPORT)) continue;
        if (fd < 0 || !listener_add(s, fd)) {
            freeaddrinfo(list);
            return bind_failed(host, *port, e);
        }
        n_bound++;
        *port = bound_port(fd);
        *loopback_only = *loopback_only && is_loopback(ai->ai_addr);
    }
    freeaddrinfo(list);
    if (!n_bound) return err_set(e, ERR_IO, "host \"%s\" has no address on this machine", host);
    return true;
}
