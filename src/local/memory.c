/* memory: see memory.h. Entries are in a list by use, newest first, and in two tables: by the hash of their id or text,
 * and by that and their context. A model may write the same few words in each of hundreds of turns, so the first alone
 * would be searched for long. */
#include "local/memory.h"

#include <pthread.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/rng.h"

#define BUCKETS 4096
#define MAX_DEPTH 200

enum table { ANYWHERE, IN_CONTEXT, N_TABLES };

struct entry {
    struct entry *newer, *older, *next_in_bucket[N_TABLES];
    size_t bytes;
    uint64_t keys[N_TABLES];
    struct made_answer answer; /* points into the same block of memory */
    struct made_call calls[];
};

struct call_memory {
    pthread_mutex_t lock;
    uint64_t seed;
    size_t max_bytes, used_bytes;
    struct entry *newest, *oldest;
    struct entry *buckets[N_TABLES][BUCKETS];
};

struct call_memory *call_memory_create(size_t max_bytes)
{
    struct call_memory *m = mem_zalloc(sizeof *m);
    pthread_mutex_init(&m->lock, NULL);
    rng_secure(&m->seed, sizeof m->seed);
    m->max_bytes = max_bytes;
    return m;
}

void call_memory_destroy(struct call_memory *m)
{
    if (!m) return;
    for (struct entry *x = m->newest, *older; x; x = older) {
        older = x->older;
        mem_free(x);
    }
    pthread_mutex_destroy(&m->lock);
    mem_free(m);
}

static struct entry **bucket_of(struct call_memory *m, enum table table, uint64_t key)
{
    return &m->buckets[table][key % BUCKETS];
}

static uint64_t key_in(uint64_t key, uint64_t context)
{
    const uint64_t both[] = {key, context};
    return hash64(both, sizeof both, 0);
}

/* White space does not count: clients trim it, and cut text into blocks. */
static uint64_t add_text(uint64_t key, struct str text)
{
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        if (c != ' ' && c != '\t' && c != '\n' && c != '\r') key = key * 0x9e3779b97f4a7c15u + (unsigned char)c + 1;
    }
    return key;
}

static void list_remove(struct call_memory *m, struct entry *x)
{
    *(x->newer ? &x->newer->older : &m->newest) = x->older;
    *(x->older ? &x->older->newer : &m->oldest) = x->newer;
}

static void list_push(struct call_memory *m, struct entry *x)
{
    x->newer = NULL;
    x->older = m->newest;
    *(m->newest ? &m->newest->newer : &m->oldest) = x;
    m->newest = x;
}

static void forget(struct call_memory *m, struct entry *x)
{
    for (enum table t = 0; t < N_TABLES; t++) {
        struct entry **at = bucket_of(m, t, x->keys[t]);
        while (*at != x) at = &(*at)->next_in_bucket[t];
        *at = x->next_in_bucket[t];
    }
    list_remove(m, x);
    m->used_bytes -= x->bytes;
    mem_free(x);
}

static struct str copy(char **at, struct str s)
{
    struct str out = {*at, s.len};
    if (s.len) memcpy(*at, s.ptr, s.len);
    *at += s.len;
    return out;
}

static struct entry *entry_create(const struct made_answer *a, size_t max_bytes)
{
    size_t bytes = sizeof(struct entry) + a->n_calls * sizeof(struct made_call) + a->runs.n * sizeof(struct token_run) +
                   a->runs.n_ids * sizeof(uint32_t) + a->raw.len + a->full.len + a->ahead.len + a->text.len +
                   a->thinking.len;
    for (size_t i = 0; i < a->n_calls; i++) bytes += a->calls[i].id.len + a->calls[i].name.len + a->calls[i].input.len;
    struct entry *x = bytes <= max_bytes ? mem_try_zalloc(bytes) : NULL;
    if (!x) return NULL;
    struct token_run *runs = (struct token_run *)(void *)(x->calls + a->n_calls);
    uint32_t *ids = (uint32_t *)(void *)(runs + a->runs.n);
    char *at = (char *)(ids + a->runs.n_ids);
    if (a->runs.n) memcpy(runs, a->runs.items, a->runs.n * sizeof *runs);
    if (a->runs.n_ids) memcpy(ids, a->runs.ids, a->runs.n_ids * sizeof *ids);
    x->bytes = bytes;
    x->answer = (struct made_answer){.raw = copy(&at, a->raw),
                                     .full = copy(&at, a->full),
                                     .ahead = copy(&at, a->ahead),
                                     .ahead_free = a->ahead_free,
                                     .given = a->given,
                                     .runs = {.items = runs, .n = a->runs.n, .ids = ids, .n_ids = a->runs.n_ids},
                                     .salt = a->salt,
                                     .context = a->context,
                                     .text = copy(&at, a->text),
                                     .thinking = copy(&at, a->thinking),
                                     .calls = x->calls,
                                     .n_calls = a->n_calls};
    for (size_t i = 0; i < a->n_calls; i++)
        x->calls[i] = (struct made_call){.id = copy(&at, a->calls[i].id),
                                         .name = copy(&at, a->calls[i].name),
                                         .input = copy(&at, a->calls[i].input)};
    return x;
}

void call_memory_add(struct call_memory *m, const struct made_answer *a)
{
    struct entry *x = a->n_calls || str_trim(a->text).len ? entry_create(a, m->max_bytes) : NULL;
    if (!x) return;
    uint64_t seed = m->seed ^ a->salt;
    x->keys[ANYWHERE] = a->n_calls ? hash64(x->calls[0].id.ptr, x->calls[0].id.len, seed) : add_text(seed, a->text);
    x->keys[IN_CONTEXT] = key_in(x->keys[ANYWHERE], a->context);
    pthread_mutex_lock(&m->lock);
    while (m->oldest && m->used_bytes + x->bytes > m->max_bytes) forget(m, m->oldest);
    for (enum table t = 0; t < N_TABLES; t++) {
        struct entry **bucket = bucket_of(m, t, x->keys[t]);
        x->next_in_bucket[t] = *bucket;
        *bucket = x;
    }
    list_push(m, x);
    m->used_bytes += x->bytes;
    pthread_mutex_unlock(&m->lock);
}

/* ---- the same meaning ---- */

static bool same(const json_t *a, const json_t *b, int depth);

static bool same_members(const json_t *a, const json_t *b, int depth)
{
    const char *key;
    size_t len;
    json_t *value;
    if (json_object_size(a) != json_object_size(b)) return false;
    json_object_keylen_foreach((json_t *)a, key, len, value)
    {
        const json_t *other = json_object_getn(b, key, len);
        if (!other || !same(value, other, depth)) return false;
    }
    return true;
}

static bool same(const json_t *a, const json_t *b, int depth)
{
    if (depth > MAX_DEPTH) return false;
    if (json_is_integer(a) && json_is_integer(b)) return json_integer_value(a) == json_integer_value(b);
    if (json_is_number(a) && json_is_number(b)) {
        double x = json_number_value(a), y = json_number_value(b);
        return !(x < y) && !(x > y);
    }
    if (json_typeof(a) != json_typeof(b)) return false;
    if (json_is_object(a)) return same_members(a, b, depth + 1);
    if (!json_is_array(a)) return json_equal(a, b);
    if (json_array_size(a) != json_array_size(b)) return false;
    for (size_t i = 0; i < json_array_size(a); i++)
        if (!same(json_array_get(a, i), json_array_get(b, i), depth + 1)) return false;
    return true;
}

bool json_same(const json_t *a, const json_t *b)
{
    return a && b && same(a, b, 0);
}

static bool same_call(const struct made_call *made, const struct chat_block *sent)
{
    if (!str_eq(made->id, sent->id) || !str_eq(made->name, sent->name)) return false;
    json_t *input = json_loadb(made->input.ptr ? made->input.ptr : "", made->input.len, JSON_ALLOW_NUL, NULL);
    bool ok = json_same(input, sent->input);
    json_decref(input);
    return ok;
}

/* Texts are compared without the white space at their ends and between blocks: clients trim. */
static bool same_text(struct str made, const struct chat_message *sent)
{
    made = str_trim(made);
    for (size_t i = 0; i < sent->n_blocks; i++) {
        if (sent->blocks[i].kind != CHAT_TEXT) continue;
        struct str text = str_trim(sent->blocks[i].text);
        if (!str_starts(made, text)) return false;
        made = str_trim(str_slice(made, text.len, made.len));
    }
    return made.len == 0;
}

/* Reasoning that comes back is ours, or the answer is somebody else's; it need not come back. */
static bool same_thinking(struct str made, const struct chat_message *sent)
{
    made = str_trim(made);
    bool any = false;
    for (size_t i = 0; i < sent->n_blocks; i++) {
        struct str text = str_trim(sent->blocks[i].text);
        if (sent->blocks[i].kind != CHAT_THINKING || !text.len) continue;
        if (!str_starts(made, text)) return false;
        made = str_trim(str_slice(made, text.len, made.len));
        any = true;
    }
    return !any || made.len == 0;
}

static bool same_answer(const struct made_answer *made, const struct chat_message *sent)
{
    size_t n = 0;
    for (size_t i = 0; i < sent->n_blocks; i++) {
        if (sent->blocks[i].kind != CHAT_TOOL_USE) continue;
        if (n == made->n_calls || !same_call(&made->calls[n++], &sent->blocks[i])) return false;
    }
    return n == made->n_calls && same_text(made->text, sent) && same_thinking(made->thinking, sent);
}

static bool key_of(uint64_t seed, uint64_t *key, struct str *id, const struct chat_message *message)
{
    bool any = false;
    *key = seed;
    *id = STR_NONE;
    for (size_t i = 0; i < message->n_blocks; i++) {
        const struct chat_block *x = &message->blocks[i];
        if (x->kind == CHAT_TOOL_USE) {
            *id = x->id;
            *key = hash64(id->ptr, id->len, seed);
            return id->len > 0;
        }
        if (x->kind != CHAT_TEXT) continue;
        *key = add_text(*key, x->text);
        any |= x->text.len > 0;
    }
    return any;
}

void made_text_init(struct made_text *t, size_t max_bytes)
{
    *t = (struct made_text){0};
    struct buf *bufs[] = {&t->raw, &t->full, &t->thinking, &t->ahead};
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++) buf_init(bufs[i], max_bytes);
}

void made_text_deinit(struct made_text *t)
{
    struct buf *bufs[] = {&t->raw, &t->full, &t->thinking, &t->ahead};
    for (size_t i = 0; i < sizeof bufs / sizeof *bufs; i++) buf_deinit(bufs[i]);
    token_runs_clear(&t->runs);
}

static bool take(struct made_text *out, const struct made_answer *a)
{
    out->ahead_free = a->ahead_free;
    out->given = a->given;
    out->n_calls = a->n_calls;
    token_runs_append(&out->runs, &a->runs, 0);
    return buf_append(&out->raw, a->raw) && buf_append(&out->full, a->full) &&
           buf_append(&out->thinking, a->thinking) && buf_append(&out->ahead, a->ahead);
}

/* The newest that means the same; *changed: ours, but with another meaning. */
static struct entry *find_in(struct call_memory *m, enum table table, uint64_t key, struct str id,
                             const struct chat_message *message, bool *changed)
{
    for (struct entry *x = *bucket_of(m, table, key); x; x = x->next_in_bucket[table]) {
        if (x->keys[table] != key || (id.len > 0) != (x->answer.n_calls > 0) || (id.len && !str_eq(x->calls[0].id, id)))
            continue;
        if (same_answer(&x->answer, message)) return x;
        *changed |= id.len > 0;
    }
    return NULL;
}

enum made_match call_memory_find(struct call_memory *m, struct made_text *out, const struct chat_message *message,
                                 uint64_t salt, uint64_t context)
{
    uint64_t key;
    struct str id;
    bool changed = false, taken = false;
    if (!key_of(m->seed ^ salt, &key, &id, message)) return MADE_UNKNOWN;
    pthread_mutex_lock(&m->lock);
    struct entry *x = find_in(m, IN_CONTEXT, key_in(key, context), id, message, &changed);
    if (!x) x = find_in(m, ANYWHERE, key, id, message, &changed);
    if (x) {
        taken = take(out, &x->answer);
        list_remove(m, x);
        list_push(m, x);
    }
    pthread_mutex_unlock(&m->lock);
    return taken ? MADE_SAME : changed && !x ? MADE_CHANGED : MADE_UNKNOWN;
}

uint64_t call_memory_context(uint64_t context, const struct chat_message *message)
{
    if (message->role != CHAT_USER) return context;
    for (size_t i = 0; i < message->n_blocks; i++) {
        const struct chat_block *x = &message->blocks[i];
        context = hash64(x->text.ptr, x->text.len, context + 1);
        if (x->kind == CHAT_TOOL_RESULT) context = hash64(x->id.ptr, x->id.len, context + 2);
    }
    return context;
}
