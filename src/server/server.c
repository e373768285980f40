/* server: start, signals, draining, stop. */
#include "server/server.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/server_internal.h"

#define DRAIN_TICK_MS 20
/* After the answers were ended: how long the last bytes may stand still on their way to slow clients, and how long all
 * of them together may take. */
#define DRAIN_FLUSH_MS 2000
#define DRAIN_FLUSH_MOST_MS 10000

void server_config_init(struct server_config *config)
{
    *config = (struct server_config){
        .host = STR("127.0.0.1"),
        .port = 8080,
        .ping_ms = 8000,
        .patience_ms = 50000,
        .drain_ms = 5000,
        .rejoin_ms = 15000,
        .thread_s = 900,
        .max_threads_bytes = (size_t)64 << 20,
        .max_answer_bytes = (size_t)64 << 20,
        .max_requests_bytes = (size_t)128 << 20,
    };
    config->pdf = PDF_DEFAULTS;
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
            delivery_shutdown(c);
        }
    }
    bool may_flush =
        ms < (uint64_t)s->config->drain_ms + DRAIN_FLUSH_MS ||
        (http_server_sent_ms(s->http) < DRAIN_FLUSH_MS && ms < (uint64_t)s->config->drain_ms + DRAIN_FLUSH_MOST_MS);
    if (http_server_connections(s->http) && may_flush) http_timer_set(s->drain_timer, DRAIN_TICK_MS);
    else http_loop_stop(s->loop);
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
    generation_drop_idle(s);
    http_server_drain(s->http);
    drain_tick(s);
}

/* Each connection is a descriptor; the usual soft limit is lower than our own. */
static void raise_descriptor_limit(uint32_t max_connections)
{
    struct rlimit limit;
    rlim_t wanted = (rlim_t)max_connections + 256;
    if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= wanted) return;
    limit.rlim_cur = limit.rlim_max == RLIM_INFINITY || wanted < limit.rlim_max ? wanted : limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit))
        log_warn("cannot raise the limit of open files to %lu", (unsigned long)wanted);
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
    if (!s->loopback_only && !s->n_keys) log_warn("anybody who can reach %s may use this server: set an API key", url);
    snprintf(s->url, sizeof s->url, "%s", url);
    s->port = port;
    return true;
}

/* Watches what must be watched; listening comes first, so that a server that cannot start leaves the signals alone. */
static bool start(struct server *s, struct err *e)
{
    const struct server_config *config = s->config;
    raise_descriptor_limit(config->limits.max_connections);
    if (!start_listening(s, e) || !(s->decoder = decoder_create(s->loop, &config->pdf, e))) return false;
    s->diagnostics = diagnostics_create();
    if (config->thread_s)
        s->threads =
            threads_create(s->loop, config->thread_s, config->max_threads_bytes, config->limits.max_body_bytes);
    s->events = http_watch_create(s->loop, s->backend->poll_fd(s->backend->self), on_backend, s);
    s->interrupt = http_watch_create_signal(s->loop, SIGINT, on_signal, s);
    s->terminate = http_watch_create_signal(s->loop, SIGTERM, on_signal, s);
    s->drain_timer = http_timer_create(s->loop, drain_tick, s);
    if (!s->events || !s->interrupt || !s->terminate || !s->drain_timer)
        return err_set(e, ERR_IO, "cannot watch events and signals");
    log_info("listening on %s", s->url); /* not earlier: who reads this may send a signal at once */
    if (config->ready) config->ready(config->ready_ctx, s->url, s->port);
    return true;
}

static bool serve(struct server *s, struct err *e)
{
    bool ok = start(s, e);
    if (ok) http_loop_run(s->loop);
    /* Open calls and generations end here, while the backend still answers. */
    s->is_closing = true;
    http_server_destroy(s->http);
    generation_drop_idle(s);
    decoder_destroy(s->decoder);
    for (struct call *c = s->calls, *next; c; c = next) {
        next = c->next;
        call_close(c, "the server stopped");
    }
    threads_destroy(s->threads);
    diagnostics_destroy(s->diagnostics);
    notes_free(s);
    http_timer_destroy(s->drain_timer);
    http_watch_destroy(s->events);
    http_watch_destroy(s->interrupt);
    http_watch_destroy(s->terminate);
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
