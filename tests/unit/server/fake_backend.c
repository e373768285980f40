/* See fake_backend.h. A timerfd says when the next command of some job is due. */
#include "fake_backend.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"

struct fake_job {
    struct fake_job *next;
    uint64_t handle;
    struct chat_request *r;
    chat_sink *sink;
    chat_count_sink *count_sink;
    void *ctx;
    struct str rest; /* of the script */
    uint64_t due_ns;
    unsigned repeats;
    bool is_paused, is_dead;
    uint32_t n_out;
};

static const char echo_script[] = "start 7\nopen text\necho\nclose\nfinish end";

static void arm(struct fake_backend *f)
{
    uint64_t due = UINT64_MAX;
    for (struct fake_job *j = f->jobs; j; j = j->next)
        if (!j->is_paused && j->due_ns < due) due = j->due_ns;
    struct itimerspec spec = {0};
    if (due != UINT64_MAX) {
        if (!due) due = 1;
        spec.it_value.tv_sec = (time_t)(due / 1000000000);
        spec.it_value.tv_nsec = (long)(due % 1000000000);
    }
    timerfd_settime(f->fd, TFD_TIMER_ABSTIME, &spec, NULL);
}

static struct str last_text(const struct chat_request *r)
{
    for (size_t i = r->n_messages; i-- > 0;)
        if (r->messages[i].role == CHAT_USER && r->messages[i].n_blocks)
            return r->messages[i].blocks[r->messages[i].n_blocks - 1].text;
    return STR("");
}

static struct fake_job *job_add(struct fake_backend *f, struct chat_request *r, void *ctx)
{
    struct fake_job *j = mem_zalloc(sizeof *j);
    struct str text = last_text(r);
    *j = (struct fake_job){.next = f->jobs, .handle = ++f->last_handle, .r = r, .ctx = ctx, .due_ns = 1};
    j->rest = str_starts(text, STR("!")) ? str_slice(text, 1, text.len) : str_from(echo_script);
    f->jobs = j;
    unsigned n = atomic_fetch_add(&f->n_salts, 1);
    if (n < 8) atomic_store(&f->salts[n], r->salt);
    arm(f);
    return j;
}

static uint64_t fake_submit(void *self, struct chat_request *r, chat_sink *sink, void *ctx)
{
    struct fake_backend *f = self;
    struct fake_job *j = job_add(f, r, ctx);
    j->sink = sink;
    atomic_fetch_add(&f->n_submitted, 1);
    return j->handle;
}

static void fake_count(void *self, struct chat_request *r, chat_count_sink *sink, void *ctx)
{
    struct fake_job *j = job_add(self, r, ctx);
    j->count_sink = sink;
}

static void job_free(struct fake_backend *f, struct fake_job *j)
{
    for (struct fake_job **p = &f->jobs; *p; p = &(*p)->next) {
        if (*p != j) continue;
        *p = j->next;
        chat_request_destroy(j->r);
        mem_free(j);
        return;
    }
}

static struct fake_job *job_find(struct fake_backend *f, uint64_t handle)
{
    for (struct fake_job *j = f->jobs; j; j = j->next)
        if (j->handle == handle && !j->is_dead) return j;
    return NULL;
}

static void fake_cancel(void *self, uint64_t handle)
{
    struct fake_backend *f = self;
    struct fake_job *j = job_find(f, handle);
    if (!j) return;
    j->is_dead = true;
    j->is_paused = false;
    j->due_ns = 1;
    atomic_fetch_add(&f->n_cancelled, 1);
    arm(f);
}

static void fake_pause(void *self, uint64_t handle, bool paused)
{
    struct fake_backend *f = self;
    struct fake_job *j = job_find(f, handle);
    if (!j) return;
    j->is_paused = paused;
    atomic_fetch_add(paused ? &f->n_paused : &f->n_resumed, 1);
    arm(f);
}

static struct str word_take(struct str *line)
{
    ptrdiff_t space = str_find(*line, STR(" "), 0);
    struct str word = str_slice(*line, 0, space < 0 ? line->len : (size_t)space);
    *line = str_slice(*line, word.len + 1, line->len);
    return word;
}

static unsigned number(struct str s)
{
    unsigned n = 0;
    for (size_t i = 0; i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '9'; i++) n = n * 10 + (unsigned)(s.ptr[i] - '0');
    return n;
}

static enum chat_stop stop_of(struct str s)
{
    if (str_eq(s, STR("max_tokens"))) return CHAT_STOP_MAX_TOKENS;
    if (str_eq(s, STR("sequence"))) return CHAT_STOP_SEQUENCE;
    if (str_eq(s, STR("tool"))) return CHAT_STOP_TOOL_USE;
    if (str_eq(s, STR("context"))) return CHAT_STOP_CONTEXT;
    return CHAT_STOP_END;
}

static enum err_kind kind_of(struct str s)
{
    for (int k = ERR_NONE; k <= ERR_INTERNAL; k++)
        if (str_eq(s, str_from(err_kind_name((enum err_kind)k)))) return (enum err_kind)k;
    return ERR_INTERNAL;
}

static void emit(struct fake_job *j, const struct chat_event *ev)
{
    if (ev->kind == CHAT_EVENT_FINISH || ev->kind == CHAT_EVENT_ERROR) j->is_dead = true;
    j->sink(j->ctx, ev);
}

/* Plays one command. */
static void job_step(struct fake_backend *f, struct fake_job *j)
{
    ptrdiff_t nl = str_find(j->rest, STR("\n"), 0);
    size_t end = nl < 0 ? j->rest.len : (size_t)nl;
    struct str line = str_slice(j->rest, 0, end);
    struct str next = str_slice(j->rest, end + 1, j->rest.len);
    struct str word = word_take(&line);
    struct chat_event ev = {.kind = CHAT_EVENT_PING};
    struct err err;
    char described[100];
    if (str_eq(word, STR("repeat"))) {
        unsigned n = number(word_take(&line));
        if (j->repeats++ < n) next = j->rest;
        else j->repeats = 0;
        ev = (struct chat_event){.kind = CHAT_EVENT_DELTA, .text = line};
    } else if (str_eq(word, STR("start"))) {
        ev = (struct chat_event){.kind = CHAT_EVENT_START, .usage = {.input_tokens = number(line)}};
        ev.notes = j->r->notes;
    } else if (str_eq(word, STR("open"))) {
        ev = (struct chat_event){.kind = CHAT_EVENT_BLOCK_OPEN, .name = STR("get"), .id = STR("toolu_1")};
        ev.block = str_eq(line, STR("thinking")) ? CHAT_THINKING
                   : str_eq(line, STR("tool"))   ? CHAT_TOOL_USE
                                                 : CHAT_TEXT;
    } else if (str_eq(word, STR("delta"))) {
        ev = (struct chat_event){.kind = CHAT_EVENT_DELTA, .text = line};
    } else if (str_eq(word, STR("echo"))) {
        ev = (struct chat_event){.kind = CHAT_EVENT_DELTA, .text = last_text(j->r)};
    } else if (str_eq(word, STR("describe"))) {
        snprintf(described, sizeof described, "%zu messages, %zu tools, %zu system", j->r->n_messages, j->r->n_tools,
                 j->r->n_system);
        ev = (struct chat_event){.kind = CHAT_EVENT_DELTA, .text = str_from(described)};
    } else if (str_eq(word, STR("note"))) {
        chat_note(j->r, "%.*s", STR_ARG(line));
        j->rest = next;
        return;
    } else if (str_eq(word, STR("close"))) {
        ev = (struct chat_event){.kind = CHAT_EVENT_BLOCK_CLOSE, .signature = STR("sig")};
    } else if (str_eq(word, STR("finish"))) {
        ev = (struct chat_event){.kind = CHAT_EVENT_FINISH, .stop = stop_of(line), .stop_sequence = STR("STOP")};
        ev.usage = (struct chat_usage){.input_tokens = 7, .cached_tokens = 3, .output_tokens = j->n_out};
    } else if (str_eq(word, STR("error"))) {
        enum err_kind kind = kind_of(word_take(&line));
        err_set(&err, kind, "%.*s", STR_ARG(line));
        ev = (struct chat_event){.kind = CHAT_EVENT_ERROR, .err = &err};
    } else if (str_eq(word, STR("wait"))) {
        j->due_ns = clock_ns() + (uint64_t)number(line) * 1000000;
        j->rest = next;
        return;
    } else {
        j->due_ns = UINT64_MAX;
        return;
    }
    j->rest = next;
    if (ev.kind == CHAT_EVENT_DELTA) {
        j->n_out++;
        atomic_fetch_add(&f->n_deltas, 1);
    }
    emit(j, &ev);
}

static void fake_pump(void *self)
{
    struct fake_backend *f = self;
    uint64_t ticks;
    if (read(f->fd, &ticks, sizeof ticks) < 0) ticks = 0;
    struct fake_job *next;
    for (struct fake_job *j = f->jobs; j; j = next) {
        next = j->next;
        if (!j->is_dead && !j->is_paused && j->due_ns <= clock_ns()) {
            if (j->count_sink) {
                j->count_sink(j->ctx, 42, NULL, NULL);
                j->is_dead = true;
            } else {
                job_step(f, j);
            }
        }
        if (j->is_dead) job_free(f, j);
    }
    arm(f);
}

static const struct chat_model *fake_models(void *self, size_t *n)
{
    static struct str aliases[] = {STR("claude-local-fake")};
    static struct chat_model models[] = {
        {.id = STR("org/fake:Q4 x"), .display_name = STR("Fake"), .aliases = aliases, .n_aliases = 1, .n_ctx = 4096},
        {.id = STR("second"), .display_name = STR("Second"), .n_ctx = 2048},
    };
    models[0].id = STR("org/fake:Q4 x");
    *n = ((struct fake_backend *)self)->is_loading ? 0 : 2;
    return models;
}

static int fake_poll_fd(void *self)
{
    return ((struct fake_backend *)self)->fd;
}

void fake_backend_init(struct fake_backend *f)
{
    memset(f, 0, sizeof *f);
    f->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    f->backend = (struct backend){.self = f,
                                  .submit = fake_submit,
                                  .cancel = fake_cancel,
                                  .pause = fake_pause,
                                  .count = fake_count,
                                  .models = fake_models,
                                  .poll_fd = fake_poll_fd,
                                  .pump = fake_pump};
}

void fake_backend_deinit(struct fake_backend *f)
{
    while (f->jobs) job_free(f, f->jobs);
    close(f->fd);
}
