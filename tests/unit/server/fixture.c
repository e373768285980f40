/* See fixture.h. */
#include "fixture.h"

#include <stdlib.h>

#include "api/json_text.h"

static void log_keep(void *ctx, enum log_level level, const char *line)
{
    struct fixture *f = ctx;
    (void)level;
    pthread_mutex_lock(&f->lock);
    buf_printf(&f->log, "%s\n", line);
    pthread_mutex_unlock(&f->lock);
}

static void on_ready(void *ctx, const char *url, uint16_t port)
{
    struct fixture *f = ctx;
    (void)url;
    pthread_mutex_lock(&f->lock);
    f->port = port;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

static void *serve(void *arg)
{
    struct fixture *f = arg;
    bool ok = server_run(&f->config, &f->fake.backend, &f->err);
    pthread_mutex_lock(&f->lock);
    f->ok = ok;
    f->is_over = true;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
    return NULL;
}

void fixture_init(struct fixture *f)
{
    memset(f, 0, sizeof *f);
    fake_backend_init(&f->fake);
    server_config_init(&f->config);
    f->config.port = 0;
    f->config.drain_ms = 300;
    f->config.rejoin_ms = 0; /* tests that are not about it see a cancellation at once */
    f->config.ready = on_ready;
    f->config.ready_ctx = f;
    buf_init(&f->log, 1 << 20);
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    log_set_sink(log_keep, f);
}

void fixture_start(struct fixture *f)
{
    ck_assert_int_eq(pthread_create(&f->thread, NULL, serve, f), 0);
    pthread_mutex_lock(&f->lock);
    while (!f->port && !f->is_over) pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

void fixture_wait(struct fixture *f)
{
    pthread_join(f->thread, NULL);
    ck_assert_msg(f->ok, "server_run: %s", f->err.msg);
    log_set_sink(NULL, NULL);
    fake_backend_deinit(&f->fake);
    buf_deinit(&f->log);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->changed);
}

void fixture_stop(struct fixture *f)
{
    kill(getpid(), SIGTERM);
    fixture_wait(f);
}

struct str fixture_post(struct buf *out, const char *path, const char *headers, const char *body)
{
    buf_clear(out);
    buf_printf(out, "POST %s HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n%s", path, headers,
               strlen(body), body);
    return buf_str(out);
}

struct str fixture_message(struct buf *out, bool stream, const char *script)
{
    struct buf body;
    buf_init(&body, 1 << 20);
    buf_printf(&body,
               "{\"model\":\"claude-x\",\"max_tokens\":10,\"stream\":%s,\"messages\":[{\"role\":\"user\","
               "\"content\":",
               stream ? "true" : "false");
    json_text_string(&body, str_from(script));
    buf_append(&body, STR("}]}"));
    fixture_post(out, "/v1/messages", "", body.ptr);
    buf_deinit(&body);
    return buf_str(out);
}

void fixture_roundtrip(struct fixture *f, struct buf *reply, struct str request)
{
    int fd = loopback_connect(f->port);
    struct buf with_close;
    buf_init(&with_close, (size_t)64 << 20);
    ptrdiff_t nl = str_find(request, STR("\r\n"), 0);
    buf_append(&with_close, str_slice(request, 0, (size_t)nl));
    buf_append(&with_close, STR("\r\nConnection: close"));
    buf_append(&with_close, str_slice(request, (size_t)nl, request.len));
    loopback_send(fd, buf_str(&with_close));
    buf_clear(reply);
    ck_assert(loopback_read_end(fd, reply));
    buf_deinit(&with_close);
    close(fd);
}

int fixture_status(const struct buf *reply)
{
    ck_assert_msg(str_starts(buf_str(reply), STR("HTTP/1.1 ")), "no reply: %s", reply->ptr ? reply->ptr : "(nothing)");
    return (int)strtol(reply->ptr + 9, NULL, 10);
}

void fixture_until(_Atomic unsigned *counter, unsigned n)
{
    for (int i = 0; i < 6000 && atomic_load(counter) < n; i++) loopback_sleep(10);
    ck_assert_uint_ge(atomic_load(counter), n);
}
