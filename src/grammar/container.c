/* container: objects and arrays. Members come in any order: a bit for each named one, a list of the other keys; what is
 * required is counted down and checked at the brace, doubles are refused at the key's closing quote, and in generated
 * text already where only used keys could follow. Arrays count items and, for "contains", read each item both ways. */
#include "base/hash.h"
#include "grammar/machine_internal.h"

#define MAX_KEY (1u << 20)

/* ---- frames ---- */

struct frame *copy_frame(struct machine *m, const struct frame *f)
{
    struct frame *c = pool_alloc(&m->pool, sizeof *c);
    if (c) *c = *f;
    else m->failed = true;
    return c;
}

void hash_frame(struct frame *f)
{
    uint64_t w[8] = {f->up ? f->up->hash : 0, f->alt->id, f->left, f->done, f->n};
    if (f->kind == FRAME_ARRAY) {
        const struct array_alt *a = &f->alt->array;
        uint32_t far = a->prefix > a->min ? a->prefix : a->min;
        if (a->max == REPEAT_MAX && f->n > far) w[4] = far + 1; /* from here on all items are alike */
        for (uint32_t i = 0; i < a->n_select; i++) w[5 + i] = f->counts[i];
    } else if (f->alt->object.max == REPEAT_MAX && f->n >= f->alt->object.min) w[4] = f->n > 0;
    uint64_t h = hash64(w, sizeof w, f->kind), sum = 0;
    if (f->kind == FRAME_OBJECT && f->alt->object.n_names)
        h = hash64(f->seen, (f->alt->object.n_names + 63) / 64 * sizeof *f->seen, h);
    for (const struct used *u = f->used; u; u = u->next) sum += u->hash;
    f->hash = h ^ sum;
}

/* ---- objects ---- */

void open_object(struct machine *m, struct alt *a, const struct frame *up)
{
    struct frame *f = pool_alloc(&m->pool, sizeof *f);
    size_t words = (a->object.n_names + 63) / 64;
    uint64_t *seen = pool_alloc(&m->pool, words * sizeof *seen);
    if (!f || !seen) {
        m->failed = true;
        return;
    }
    object_prepare(m->g, &a->object);
    memset(seen, 0, words * sizeof *seen);
    *f = (struct frame){.up = up,
                        .kind = FRAME_OBJECT,
                        .alt = a,
                        .left = a->object.n_required,
                        .seen = seen,
                        .text = up ? up->text : NO_TEXT};
    form_frame(f);
    hash_frame(f);
    if (f->form) form_next(m, f);
    else machine_emit(m, (struct thread){.kind = THREAD_MEMBER, .frame = f});
}

static bool all_exist(const struct frame *f)
{
    return f->done == (1u << f->alt->object.n_exists) - 1;
}

static uint32_t slots_needed(const struct frame *f)
{
    return f->left ? f->left : !all_exist(f); /* one member may be several of them at once */
}

bool object_can_close(const struct frame *f)
{
    return f->left == 0 && f->n >= f->alt->object.min && all_exist(f);
}

bool object_can_add(struct machine *m, const struct frame *f)
{
    const struct object_alt *o = &f->alt->object;
    if (f->n >= o->max || !o->keys) return false;
    uint32_t count = dfa_count(m->g, o->keys, 0);
    return count >= COUNT_MANY || count > f->n;
}

static struct dfa *key_language(const struct frame *f)
{
    const struct object_alt *o = &f->alt->object;
    bool tight = o->max != REPEAT_MAX && o->n_exists == 0 && o->max - f->n <= f->left;
    return tight ? o->required_keys : o->keys;
}

void object_start_key(struct machine *m, const struct frame *f)
{
    struct dfa *d = key_language(f);
    if (!d) return;
    machine_emit(
        m, (struct thread){.kind = THREAD_KEY, .dfa = d, .frame = f, .alt = f->alt, .start = (uint32_t)m->text.len});
}

static bool is_seen(const struct frame *f, int64_t name)
{
    return f->seen[name / 64] >> (name % 64) & 1;
}

static bool is_used(const struct frame *f, struct str key)
{
    int64_t name = object_name(&f->alt->object, key);
    if (name >= 0) return is_seen(f, name);
    for (const struct used *u = f->used; u; u = u->next)
        if (str_eq(u->text, key)) return true;
    return false;
}

bool text_continues(struct machine *m, const struct thread *t, struct str key, struct str prefix)
{
    int32_t state = (int32_t)t->state;
    if (!str_starts(key, prefix)) return false;
    for (size_t i = prefix.len; i < key.len && state >= 0; i++)
        state = dfa_step(m->g, t->dfa, (uint32_t)state, (uint8_t)key.ptr[i]);
    return state >= 0 && t->dfa->states[state].accepts;
}

/* Whether a key that is not used yet can still come of what was written: finite languages are counted. */
bool object_key_viable(struct machine *m, const struct thread *t)
{
    const struct frame *f = t->frame;
    const struct object_alt *o = &f->alt->object;
    if (m->liberal || f->n == 0 || t->escape) return true;
    uint32_t count = dfa_count(m->g, t->dfa, t->state), taken = 0;
    if (count >= COUNT_MANY) return true;
    struct str prefix = str_slice(buf_str(&m->text), t->start, m->text.len);
    struct buf decoded;
    buf_init(&decoded, MAX_KEY);
    if (!f->form && prefix.len && memchr(prefix.ptr, '\\', prefix.len)) {
        if (!decode_string(&decoded, prefix)) return buf_deinit(&decoded), true;
        prefix = buf_str(&decoded);
    }
    for (uint32_t i = 0; i < o->n_names; i++) taken += is_seen(f, i) && text_continues(m, t, o->names[i], prefix);
    for (const struct used *u = f->used; u; u = u->next) taken += text_continues(m, t, u->text, prefix);
    buf_deinit(&decoded);
    return count > taken;
}

static uint64_t hash_state(struct machine *m, struct dfa *d, struct str text, uint64_t h)
{
    int32_t state = d ? 0 : DFA_DEAD;
    for (size_t i = 0; i < text.len && state >= 0; i++)
        state = dfa_step(m->g, d, (uint32_t)state, (uint8_t)text.ptr[i]);
    return hash64(&state, sizeof state, h);
}

/* A key is one of the named ones, a used one, or one of the rest, which only patterns tell apart. */
static bool begins_known(const struct frame *f, struct str key)
{
    const struct object_alt *o = &f->alt->object;
    uint32_t lo = 0, hi = o->n_names; /* the first name that is not before the key */
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (str_cmp(o->names[mid], key) < 0) lo = mid + 1;
        else hi = mid;
    }
    if (lo < o->n_names && str_starts(o->names[lo], key)) return true;
    for (const struct used *u = f->used; u; u = u->next)
        if (str_starts(u->text, key)) return true;
    return false;
}

bool key_is_textual(struct machine *m, const struct thread *t, uint64_t *hash)
{
    const struct object_alt *o = &t->frame->alt->object;
    struct str key = str_slice(buf_str(&m->text), t->start, m->text.len);
    struct buf decoded;
    if (t->escape) return true;
    buf_init(&decoded, MAX_KEY);
    bool plain = t->frame->form || key.len == 0 || !memchr(key.ptr, '\\', key.len), textual = true;
    if (plain || decode_string(&decoded, key)) {
        if (!plain) key = buf_str(&decoded);
        textual = begins_known(t->frame, key);
        for (uint32_t i = 0; i < o->n_props; i++)
            for (uint32_t k = 0; k < o->props[i]->n_patterns; k++)
                *hash = hash_state(m, o->props[i]->pattern_dfas[k], key, *hash);
        for (uint32_t i = 0; i < o->n_exists; i++) *hash = hash_state(m, o->exists[i].keys, key, *hash);
    }
    buf_deinit(&decoded);
    return textual;
}

/* The object after this key; NULL without memory. */
static const struct frame *with_key(struct machine *m, const struct frame *f, int64_t name, struct str key,
                                    uint32_t select)
{
    struct frame *c = copy_frame(m, f);
    if (!c) return NULL;
    c->n++;
    c->done |= select;
    if (name >= 0) {
        size_t words = (f->alt->object.n_names + 63) / 64;
        uint64_t *seen = pool_alloc(&m->pool, words * sizeof *seen);
        if (!seen) return m->failed = true, NULL;
        memcpy(seen, f->seen, words * sizeof *seen);
        seen[name / 64] |= (uint64_t)1 << (name % 64);
        c->seen = seen;
        if (f->alt->object.flags[name] & NAME_REQUIRED) c->left--;
    } else {
        struct used *u = pool_alloc(&m->pool, sizeof *u);
        char *text = pool_alloc(&m->pool, key.len + 1);
        if (!u || !text) return m->failed = true, NULL;
        if (key.len) memcpy(text, key.ptr, key.len);
        *u = (struct used){f->used, {text, key.len}, hash64(text, key.len, 7)};
        c->used = u;
    }
    hash_frame(c);
    return c;
}

static void member(struct machine *m, const struct thread *t, int64_t name, struct str key, uint32_t select)
{
    const struct frame *f = t->frame;
    struct object_alt *o = &f->alt->object;
    uint32_t node = object_child(m->g, o, name, key, select);
    if (node == NODE_NONE || !node_fits(m->g, node)) return;
    const struct frame *next = with_key(m, f, name, key, select);
    if (!next || (o->max != REPEAT_MAX && slots_needed(next) > o->max - next->n)) return;
    struct thread after = *t;
    after.frame = next;
    if (f->form) after.count = node;
    else after.state = node;
    machine_emit(m, after);
}

/* A member can be the one that an `exists` asks for; for up to MAX_TAKEN of them every choice is followed. */
#define MAX_TAKEN 4
static void members(struct machine *m, const struct thread *t, int64_t name, struct str key)
{
    const struct frame *f = t->frame;
    const struct object_alt *o = &f->alt->object;
    uint32_t free = 0, list[MAX_EXISTS], n = 0;
    for (uint32_t i = 0; i < o->n_exists; i++) {
        if ((f->done >> i & 1) || !dfa_match(m->g, o->exists[i].keys, key)) continue;
        if (o->exists[i].literal == RAW_TRUE << 1 || o->exists[i].literal == (RAW_FALSE << 1 | 1)) free |= 1u << i;
        else if (n < MAX_TAKEN) list[n++] = i;
    }
    for (uint32_t set = 0; set < 1u << n; set++) {
        uint32_t select = free;
        for (uint32_t i = 0; i < n; i++) select |= (set >> i & 1) << list[i];
        member(m, t, name, key, select);
    }
}

void object_end_key(struct machine *m, struct thread t, struct str key)
{
    const struct frame *f = t.frame;
    if (f->n < f->alt->object.max && !is_used(f, key)) members(m, &t, object_name(&f->alt->object, key), key);
}

static void end_key(struct machine *m, const struct thread *t)
{
    struct str key = str_slice(buf_str(&m->text), t->start, m->text.len - 1);
    struct thread after = {.kind = THREAD_COLON, .frame = t->frame};
    struct buf decoded;
    buf_init(&decoded, POOL_CHUNK);
    bool plain = key.len == 0 || !memchr(key.ptr, '\\', key.len);
    if (plain || decode_string(&decoded, key)) object_end_key(m, after, plain ? key : buf_str(&decoded));
    buf_deinit(&decoded);
}

void step_object(struct machine *m, struct thread t, uint8_t byte)
{
    if (t.kind == THREAD_KEY && t.frame->form) {
        step_bare_key(m, t, byte);
        return;
    }
    if (t.kind == THREAD_KEY) {
        enum lexed l = lex_string(m, &t, byte, 0, REPEAT_MAX);
        t.count = 0;
        if (l == LEX_CLOSED) end_key(m, &t);
        else if (l == LEX_MORE && object_key_viable(m, &t)) machine_emit(m, t);
        return;
    }
    if (take_space(m, &t, byte)) return;
    if (byte == '"' && (t.kind == THREAD_NEXT_KEY || (t.kind == THREAD_MEMBER && object_can_add(m, t.frame))))
        object_start_key(m, t.frame);
    else if (byte == '}' && t.kind != THREAD_NEXT_KEY && t.kind != THREAD_COLON && object_can_close(t.frame))
        machine_value_done(m, t.frame->up, m->text.len);
    else if (byte == ',' && t.kind == THREAD_AFTER && object_can_add(m, t.frame))
        machine_emit(m, (struct thread){.kind = THREAD_NEXT_KEY, .frame = t.frame});
    else if (byte == ':' && t.kind == THREAD_COLON)
        machine_emit(m, (struct thread){.kind = THREAD_VALUE, .state = t.state, .frame = t.frame});
}

/* ---- arrays ---- */

static bool items_left(const struct frame *f, uint32_t needed)
{
    return f->alt->array.max == REPEAT_MAX || f->alt->array.max - f->n >= needed;
}

/* Threads for one more item behind f, one for each way to count it. */
static void next_item(struct machine *m, const struct frame *f)
{
    struct array_alt *a = &f->alt->array;
    if (f->n >= a->max) return;
    for (uint32_t set = 0; set < 1u << a->n_select; set++) {
        uint32_t node = array_child(m->g, a, f->n, set), needed = 0;
        bool fits = true;
        if (node == NODE_NONE || !node_fits(m->g, node) || !unique_room(m, f, node)) continue;
        struct frame *c = copy_frame(m, f);
        if (!c) return;
        c->n++;
        c->start = (uint32_t)m->text.len;
        c->text = f->up && f->up->text != NO_TEXT ? f->up->text : a->unique ? c->start : NO_TEXT;
        for (uint32_t i = 0; i < a->n_select; i++) {
            c->counts[i] += set >> i & 1;
            uint32_t low = a->select[i].min;
            if (c->counts[i] > a->select[i].max) fits = false;
            if (a->select[i].max == REPEAT_MAX && c->counts[i] > low) c->counts[i] = low; /* more makes no difference */
            if (low > c->counts[i] && low - c->counts[i] > needed) needed = low - c->counts[i];
        }
        hash_frame(c);
        if (fits && items_left(c, needed))
            machine_emit(m, (struct thread){.kind = THREAD_VALUE, .state = node, .frame = c});
    }
}

void open_array(struct machine *m, struct alt *a, const struct frame *up)
{
    struct frame *f = pool_alloc(&m->pool, sizeof *f);
    if (!f) {
        m->failed = true;
        return;
    }
    *f = (struct frame){.up = up, .kind = FRAME_ARRAY, .alt = a, .text = up ? up->text : NO_TEXT};
    form_frame(f);
    hash_frame(f);
    machine_emit(m, (struct thread){.kind = THREAD_EMPTY, .frame = f});
    next_item(m, f);
}

void step_array(struct machine *m, struct thread t, uint8_t byte)
{
    const struct array_alt *a = &t.frame->alt->array;
    if (take_space(m, &t, byte)) return;
    if (byte == ',' && t.kind == THREAD_AFTER) next_item(m, t.frame);
    if (byte != ']' || t.frame->n < a->min) return;
    for (uint32_t i = 0; i < a->n_select; i++)
        if (t.frame->counts[i] < a->select[i].min) return;
    machine_value_done(m, t.frame->up, m->text.len);
}
