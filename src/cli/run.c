/* run: one prompt from the command line or standard input, the answer streamed to standard output. Also the answering
 * loop that chat shares. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/log.h"
#include "cli/cli.h"

#define MAX_PROMPT_BYTES ((size_t)64 << 20)
#define MAX_SCHEMA_BYTES ((size_t)16 << 20)

struct answering {
    struct buf *answer;
    struct chat_usage usage;
    bool ended, failed, wrote_newline;
    struct err err;
};

static void on_event(void *ctx, const struct chat_event *ev)
{
    struct answering *a = ctx;
    switch (ev->kind) {
    case CHAT_EVENT_DELTA:
        fwrite(ev->text.ptr, 1, ev->text.len, stdout);
        fflush(stdout);
        if (ev->text.len) a->wrote_newline = ev->text.ptr[ev->text.len - 1] == '\n';
        if (a->answer) buf_append(a->answer, ev->text);
        break;
    case CHAT_EVENT_FINISH:
        a->usage = ev->usage;
        a->ended = true;
        break;
    case CHAT_EVENT_ERROR:
        a->err = *ev->err;
        a->ended = a->failed = true;
        break;
    default: break;
    }
}

bool cli_answer(struct stack *s, struct chat_request *req, struct buf *answer, struct chat_usage *usage,
                const volatile sig_atomic_t *interrupted, struct err *e)
{
    struct backend *backend = local_backend(s->local);
    struct answering a = {.answer = answer};
    uint64_t handle = backend->submit(backend->self, req, on_event, &a);
    struct pollfd fd = {.fd = backend->poll_fd(backend->self), .events = POLLIN};
    while (!a.ended) {
        if (*interrupted) {
            backend->cancel(backend->self, handle);
            break;
        }
        if (poll(&fd, 1, 100) < 0 && errno != EINTR) break;
        backend->pump(backend->self);
    }
    if (!a.wrote_newline) putchar('\n');
    fflush(stdout);
    *usage = a.usage;
    if (a.failed && e) *e = a.err;
    return !a.failed;
}

bool cli_set_schema(struct chat_request *req, const struct options *o, struct err *e)
{
    json_error_t why;
    size_t len;
    if (!o->schema) return true;
    char *text = cli_read(o->schema, &len, MAX_SCHEMA_BYTES, e);
    if (!text) return false;
    req->json = req->output_schema = json_loadb(text, len, JSON_DECODE_ANY, &why);
    req->output_where = STR("schema");
    mem_free(text);
    return req->json ||
           err_set(e, ERR_INVALID, "--schema %s: no valid JSON: %s (line %d)", o->schema, why.text, why.line);
}

static volatile sig_atomic_t stop_requested;

static void on_interrupt(int sig)
{
    (void)sig;
    stop_requested = 1;
}

static struct chat_request *request_of(const struct options *o, struct str prompt)
{
    struct chat_request *req = chat_request_create(prompt.len + MAX_PROMPT_BYTES);
    req->messages = arena_zalloc(&req->arena, sizeof *req->messages);
    req->messages->blocks = arena_zalloc(&req->arena, sizeof *req->messages->blocks);
    req->messages->blocks->text = arena_try_str(&req->arena, prompt);
    req->messages->n_blocks = req->n_messages = 1;
    if (o->system) {
        req->system = arena_zalloc(&req->arena, sizeof *req->system);
        req->system->text = str_from(o->system);
        req->n_system = 1;
    }
    req->has_max_tokens = o->n_predict > 0;
    req->max_tokens = o->n_predict;
    return req;
}

int cli_run(const struct options *o)
{
    struct err e = {0};
    struct stack s = {0};
    struct chat_usage usage;
    size_t len = o->prompt ? strlen(o->prompt) : 0;
    char *text = NULL;
    if (!o->prompt && !(text = cli_read(o->model ? o->file : NULL, &len, MAX_PROMPT_BYTES, &e))) return cli_fail(&e);
    struct str prompt = str_trim((struct str){o->prompt ? o->prompt : text, len});
    bool ok =
        prompt.len > 0 || err_set(&e, ERR_INVALID, "the prompt is empty: give -p TEXT or write it to standard input");
    ok = ok && stack_open_backend(&s, o, &e);
    if (ok) {
        struct chat_request *req = request_of(o, prompt);
        sigaction(SIGINT, &(struct sigaction){.sa_handler = on_interrupt}, NULL);
        ok = cli_set_schema(req, o, &e);
        if (!ok) chat_request_destroy(req);
        ok = ok && cli_answer(&s, req, NULL, &usage, &stop_requested, &e);
    }
    stack_close(&s);
    mem_free(text);
    if (!ok) return cli_fail(&e);
    return stop_requested ? 130 : 0;
}
