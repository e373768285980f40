/* threads: message threads, each kept under the id of its last message: the text of system, tools and messages. In
 * memory only, for a limited time after its last use and within a byte budget; a client whose thread is gone is told so
 * and sends everything again. An id is continued once: what was continued stays in the list for a while without its
 * text, so that the second attempt gets its own error. A claimed thread is in the hands of one request: its text does
 * not change or vanish until it is committed or released. I/O thread; the text of a claimed one is read by the decoder.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "server/server_internal.h"

#define THREADS_MAX 10000
#define SWEEP_MS 30000

enum thread_state { THREAD_READY, THREAD_CLAIMED, THREAD_CONTINUED };

struct thread {
    struct threads *owner;
    struct thread *prev, *next; /* by last use, newest first */
    char id[ANTHROPIC_ID_SIZE];
    uint64_t key_id;
    struct str model; /* the backend's */
    enum thread_state state;
    struct generation *generation; /* of a claimed one, once there is one */
    struct anthropic_history history;
    size_t bytes;
    uint64_t used_ns;
};

struct threads {
    struct thread *newest, *oldest;
    size_t n, bytes, max_bytes, max_thread_bytes;
    uint64_t ttl_ns;
    struct http_timer *timer;
};

static void unlink_thread(struct thread *t)
{
    *(t->prev ? &t->prev->next : &t->owner->newest) = t->next;
    *(t->next ? &t->next->prev : &t->owner->oldest) = t->prev;
}

static void link_newest(struct thread *t)
{
    struct threads *all = t->owner;
    t->used_ns = clock_ns();
    t->prev = NULL;
    t->next = all->newest;
    *(t->next ? &t->next->prev : &all->oldest) = t;
    all->newest = t;
}

static void touch(struct thread *t)
{
    unlink_thread(t);
    link_newest(t);
}

static void forget_text(struct thread *t)
{
    anthropic_history_deinit(&t->history);
    t->owner->bytes -= t->bytes;
    t->bytes = 0;
}

static void forget(struct thread *t)
{
    unlink_thread(t);
    forget_text(t);
    t->owner->n--;
    mem_free(t);
}

/* From the oldest on: what is too old, and what is too much. */
static void evict(struct threads *all)
{
    uint64_t now = clock_ns();
    for (struct thread *t = all->oldest, *prev; t; t = prev) {
        prev = t->prev;
        bool is_over = all->bytes > all->max_bytes || all->n > THREADS_MAX;
        if (!is_over && now - t->used_ns < all->ttl_ns) return;
        if (t->state != THREAD_CLAIMED) forget(t);
    }
}

static void sweep(void *ctx)
{
    struct threads *all = ctx;
    evict(all);
    if (all->n) http_timer_set(all->timer, SWEEP_MS);
}

struct threads *threads_create(struct http_loop *loop, uint32_t ttl_s, size_t max_bytes, size_t max_thread_bytes)
{
    struct threads *all = mem_zalloc(sizeof *all);
    all->ttl_ns = (uint64_t)ttl_s * 1000000000;
    all->max_bytes = max_bytes;
    all->max_thread_bytes = max_thread_bytes;
    all->timer = http_timer_create(loop, sweep, all);
    return all;
}

void threads_destroy(struct threads *all)
{
    if (!all) return;
    while (all->newest) forget(all->newest);
    http_timer_destroy(all->timer);
    mem_free(all);
}

static struct thread *find(const struct threads *all, struct str id, uint64_t key_id)
{
    struct thread *t = all->newest;
    while (t && !(t->key_id == key_id && str_eq(str_from(t->id), id))) t = t->next;
    return t;
}

static void fail_unknown(struct anthropic_error *e, struct str id)
{
    anthropic_error_set(e, 404, "thread_not_found",
                        "thread.previous_message_id: no thread is held under \"%.*s\": send the whole conversation",
                        STR_ARG(str_slice(id, 0, 80)));
}

static void fail_continued(struct anthropic_error *e, const struct thread *t)
{
    anthropic_error_set(e, 400, "thread_already_continued",
                        "thread.previous_message_id: %s was continued already: use the id of the latest message",
                        t->id);
}

struct thread *threads_claim(struct threads *all, struct str id, uint64_t key_id, struct anthropic_error *e)
{
    evict(all);
    struct thread *t = find(all, id, key_id);
    /* Nobody listens to that answer any more: the client goes on from where it was. */
    if (t && t->state == THREAD_CLAIMED && t->generation && !t->generation->call) generation_drop(t->generation);
    if (!t) {
        fail_unknown(e, id);
    } else if (t->state == THREAD_CLAIMED) {
        anthropic_error_set(e, 400, "thread_continue_in_flight",
                            "thread.previous_message_id: another request is continuing %s", t->id);
    } else if (t->state == THREAD_CONTINUED) {
        fail_continued(e, t);
    } else {
        t->state = THREAD_CLAIMED;
        touch(t);
        return t;
    }
    return NULL;
}

struct anthropic_history *threads_copy(struct threads *all, struct str id, uint64_t key_id, struct anthropic_error *e)
{
    evict(all);
    const struct thread *t = find(all, id, key_id);
    if (!t || t->state == THREAD_CONTINUED) {
        if (t) fail_continued(e, t);
        else fail_unknown(e, id);
        return NULL;
    }
    struct anthropic_history *copy = mem_alloc(sizeof *copy);
    anthropic_history_init(copy, all->max_thread_bytes);
    if (buf_append(&copy->fixed, buf_str(&t->history.fixed)) &&
        buf_append(&copy->messages, buf_str(&t->history.messages)))
        return copy;
    threads_free_copy(copy);
    anthropic_error_set(e, 529, NULL, "out of memory");
    return NULL;
}

void threads_free_copy(struct anthropic_history *copy)
{
    if (!copy) return;
    anthropic_history_deinit(copy);
    mem_free(copy);
}

const struct anthropic_history *thread_history(const struct thread *t)
{
    return &t->history;
}

size_t thread_bytes(const struct thread *t)
{
    return t ? t->bytes : 0;
}

void thread_set_generation(struct thread *t, struct generation *g)
{
    t->generation = g;
}

struct str thread_model(const struct thread *t)
{
    return t->model;
}

void threads_release(struct thread *t)
{
    if (!t) return;
    t->generation = NULL;
    t->state = THREAD_READY;
    touch(t);
}

/* Moves the text of the thread that goes on. */
static bool take_text(struct anthropic_history *out, struct thread *from, struct anthropic_history *added)
{
    bool ok = true;
    if (from) {
        *out = from->history;
        from->owner->bytes -= from->bytes;
        from->bytes = 0;
        anthropic_history_init(&from->history, 0);
        from->generation = NULL;
        from->state = THREAD_CONTINUED;
        touch(from);
        if (out->messages.len && added->messages.len) ok = buf_append_char(&out->messages, ',');
        ok = ok && buf_append(&out->messages, buf_str(&added->messages));
    } else {
        *out = *added;
        anthropic_history_init(added, 0);
    }
    return ok && !added->messages.failed && !added->fixed.failed;
}

void threads_commit(struct threads *all, struct thread *from, struct str id, uint64_t key_id, struct str model,
                    struct anthropic_history *added, struct str answer)
{
    struct anthropic_history text;
    bool ok = take_text(&text, from, added) && anthropic_history_add_answer(&text, answer);
    size_t bytes = text.fixed.cap + text.messages.cap;
    if (!ok || bytes > all->max_thread_bytes || bytes > all->max_bytes || id.len >= ANTHROPIC_ID_SIZE) {
        anthropic_history_deinit(&text);
        return;
    }
    struct thread *t = mem_zalloc(sizeof *t);
    t->owner = all;
    memcpy(t->id, id.ptr, id.len);
    t->key_id = key_id;
    t->model = model;
    t->history = text;
    t->bytes = bytes;
    all->bytes += bytes;
    all->n++;
    link_newest(t);
    evict(all);
    if (all->timer) http_timer_set(all->timer, SWEEP_MS);
}
