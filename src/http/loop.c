/* loop: libevent's base behind four small things: watches, signals, timers, run and stop. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>

#include "base/alloc.h"
#include "base/log.h"
#include "http/http_internal.h"

struct http_watch {
    struct event *event;
    http_loop_callback *cb;
    http_signal_callback *signal_cb;
    void *ctx;
};

struct http_timer {
    struct event *event;
    http_loop_callback *cb;
    void *ctx;
};

static void on_libevent_log(int severity, const char *text)
{
    log_write(severity >= EVENT_LOG_ERR    ? LOG_ERROR
              : severity == EVENT_LOG_WARN ? LOG_WARN
                                           : LOG_DEBUG,
              "libevent: %s", text);
}

struct http_loop *http_loop_create(struct err *e)
{
    event_set_log_callback(on_libevent_log);
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &ignore, NULL);
    struct event_config *config = event_config_new();
    struct event_base *base = config ? event_base_new_with_config(config) : NULL;
    if (config) event_config_free(config);
    if (!base) {
        err_set(e, ERR_IO, "cannot create an event loop: %s", strerror(errno));
        return NULL;
    }
    struct http_loop *loop = mem_zalloc(sizeof *loop);
    loop->base = base;
    return loop;
}

void http_loop_destroy(struct http_loop *loop)
{
    if (!loop) return;
    event_base_free(loop->base);
    mem_free(loop);
}

void http_loop_run(struct http_loop *loop)
{
    event_base_loop(loop->base, EVLOOP_NO_EXIT_ON_EMPTY);
}

void http_loop_stop(struct http_loop *loop)
{
    event_base_loopbreak(loop->base);
}

static void watch_fired(evutil_socket_t fd, short what, void *arg)
{
    struct http_watch *w = arg;
    (void)what;
    if (w->signal_cb) w->signal_cb(w->ctx, (int)fd);
    else w->cb(w->ctx);
}

static struct http_watch *watch_create(struct http_loop *loop, int fd, short what, struct http_watch init)
{
    struct http_watch *w = mem_zalloc(sizeof *w);
    *w = init;
    w->event = event_new(loop->base, fd, what, watch_fired, w);
    if (!w->event || event_add(w->event, NULL)) {
        http_watch_destroy(w);
        return NULL;
    }
    return w;
}

struct http_watch *http_watch_create(struct http_loop *loop, int fd, http_loop_callback *cb, void *ctx)
{
    return watch_create(loop, fd, EV_READ | EV_PERSIST, (struct http_watch){.cb = cb, .ctx = ctx});
}

struct http_watch *http_watch_create_signal(struct http_loop *loop, int signum, http_signal_callback *cb, void *ctx)
{
    return watch_create(loop, signum, EV_SIGNAL | EV_PERSIST, (struct http_watch){.signal_cb = cb, .ctx = ctx});
}

void http_watch_destroy(struct http_watch *w)
{
    if (!w) return;
    if (w->event) event_free(w->event);
    mem_free(w);
}

static void timer_fired(evutil_socket_t fd, short what, void *arg)
{
    struct http_timer *t = arg;
    (void)fd;
    (void)what;
    t->cb(t->ctx);
}

struct http_timer *http_timer_create(struct http_loop *loop, http_loop_callback *cb, void *ctx)
{
    struct http_timer *t = mem_zalloc(sizeof *t);
    *t = (struct http_timer){.cb = cb, .ctx = ctx, .event = NULL};
    t->event = evtimer_new(loop->base, timer_fired, t);
    if (!t->event) {
        mem_free(t);
        return NULL;
    }
    return t;
}

void http_timer_destroy(struct http_timer *t)
{
    if (!t) return;
    event_free(t->event);
    mem_free(t);
}

void http_timer_set(struct http_timer *t, uint32_t delay_ms)
{
    struct timeval tv = {.tv_sec = delay_ms / 1000, .tv_usec = (delay_ms % 1000) * 1000};
    evtimer_add(t->event, &tv);
}

void http_timer_clear(struct http_timer *t)
{
    evtimer_del(t->event);
}
