/* server: start, signals, draining, stop. */
#include "server/server.h"

#include <signal.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/server_internal.h"

#define DRAIN_TICK_MS 20
#define DRAIN_FLUSH_MS 2000 /* for the last bytes, after the answers were ended */

void server_config_init(struct server_config *config)
{
    *config = (struct server_config){
        .host = STR("127.0.0.1"),
        .port = 8080,
        .ping_ms = 8000,
        .patience_ms = 240000,
        .drain_ms = 5000,
        .max_answer_bytes = (size_t)64 << 20,
    };
    http_limits_init(&config->limits);
}

static void on_backend(void *ctx)
{
    struct server *s = ctx;
    s->backend->pump(s->backend->self);
}

static void drain_tick(void *ctx)
{
    struct server *s = ctx;
    uint64_t ms = (clock_ns() - s->drain_since_ns) / 1000000;
    if (ms >= s->config->drain_ms && !s->drain_failed_all) {
        s->drain_failed_all = true;
        struct call *next;
        for (struct call *c = s->calls; c; c = next) {
            next = c->next;
            messages_shutdown(c);
        }
    }
    if (!http_server_connections(s->http) || ms >= (uint64_t)s->config->drain_ms + DRAIN_FLUSH_MS)
        http_loop_stop(s->loop);
    else http_timer_set(s->drain_timer, DRAIN_TICK_MS);
}

static void on_signal(void *ctx, int signum)
{
    struct server *s = ctx;
    if (s->drain_since_ns) {
        log_info("second signal: stopping at once");
        http_loop_stop(s->loop);
        return;
    }
    size_t n_calls = 0;
    for (struct call *c = s->calls; c; c = c->next) n_calls++;
    log_info("%s: no new connections, %zu requests may finish", signum == SIGINT ? "SIGINT" : "SIGTERM", n_calls);
    s->drain_since_ns = clock_ns();
    http_server_drain(s->http);
    drain_tick(s);
}

static bool start_listening(struct server *s, struct err *e)
{
    const struct server_config *config = s->config;
    char host[256], url[300];
    snprintf(host, sizeof host, "%.*s", STR_ARG(config->host));
    uint16_t port = config->port;
    if (!http_server_listen(s->http, &port, &s->loopback_only, host, e)) return false;
    bool bare_v6 = str_find(config->host, STR(":"), 0) >= 0 && host[0] != '[';
    snprintf(url, sizeof url, bare_v6 ? "http://[%s]:%u" : "http://%s:%u", host, port);
    if (!s->loopback_only && !s->n_keys)
        log_warn("anybody who can reach %s may use this server: set an API key", url);
    log_info("listening on %s", url);
    if (config->ready) config->ready(config->ready_ctx, url, port);
    return true;
}

static bool serve(struct server *s, struct err *e)
{
    const struct backend *b = s->backend;
    bool ok = false;
    struct http_watch *events = http_watch_create(s->loop, b->poll_fd(b->self), on_backend, s);
    struct http_watch *interrupt = http_watch_create_signal(s->loop, SIGINT, on_signal, s);
    struct http_watch *terminate = http_watch_create_signal(s->loop, SIGTERM, on_signal, s);
    s->drain_timer = http_timer_create(s->loop, drain_tick, s);
    if (!events || !interrupt || !terminate || !s->drain_timer) {
        err_set(e, ERR_IO, "cannot watch events");
    } else if (start_listening(s, e)) {
        http_loop_run(s->loop);
        ok = true;
    }
    /* Open calls end here, while the backend still answers. */
    http_server_destroy(s->http);
    for (struct call *c = s->calls, *next; c; c = next) {
        next = c->next;
        call_finish(c, "the server stopped");
    }
    http_timer_destroy(s->drain_timer);
    http_watch_destroy(events);
    http_watch_destroy(interrupt);
    http_watch_destroy(terminate);
    return ok;
}

bool server_run(const struct server_config *config, const struct backend *backend, struct err *e)
{
    struct server s = {.config = config, .backend = backend};
    const struct http_handler handler = {
        .ctx = &s, .head = routes_head, .request = routes_request, .fault = routes_fault};
    bool ok = keys_load(&s, e) && (s.loop = http_loop_create(e)) != NULL;
    if (ok) {
        s.http = http_server_create(s.loop, &config->limits, &handler);
        ok = serve(&s, e);
    }
    http_loop_destroy(s.loop);
    keys_free(&s);
    return ok;
}
