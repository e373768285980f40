/* matcher: one text on its way through a grammar, by tokens. The states after the last GRAMMAR_STEPS steps are kept, so
 * a rollback is forgetting. Masks are in mask.c, forced text is in forced.c. */
#include "grammar/matcher_internal.h"

#include "base/alloc.h"

/* Copies the state on top of the machine's stack into the ring. */
static bool remember(struct grammar_matcher *x, size_t from, size_t to)
{
    struct step *s = &x->steps[x->at];
    if (to - from > s->cap) {
        struct thread *more = mem_try_realloc(s->threads, (to - from) * sizeof *more);
        if (!more) return false;
        s->threads = more;
        s->cap = to - from;
    }
    if (to > from) memcpy(s->threads, x->m.out + from, (to - from) * sizeof *s->threads);
    s->n = to - from;
    s->text = x->m.text.len;
    s->mark = pool_mark(&x->m.pool);
    return true;
}

void matcher_load(struct grammar_matcher *x)
{
    const struct step *s = &x->steps[x->at];
    x->m.text.len = s->text;
    pool_release(&x->m.pool, s->mark);
    if (s->n) memcpy(x->m.out, s->threads, s->n * sizeof *s->threads); /* the stack is never smaller than a state */
    x->m.n_out = s->n;
    x->m.failed = false;
}

bool matcher_run(struct grammar_matcher *x, struct str bytes)
{
    struct machine *m = &x->m;
    size_t from = 0, to = m->n_out;
    for (size_t i = 0; i < bytes.len; i++) {
        if (!buf_append_char(&m->text, bytes.ptr[i])) return false;
        if (!machine_step(m, from, to, (uint8_t)bytes.ptr[i])) return false;
        size_t n = m->n_out - to;
        memmove(m->out, m->out + to, n * sizeof *m->out);
        from = 0;
        to = m->n_out = n;
    }
    return true;
}

struct grammar_matcher *grammar_matcher_create(struct grammar *g, const struct grammar_vocab *v, struct err *e)
{
    struct grammar_matcher *x = mem_try_zalloc(sizeof *x);
    if (!x || !machine_init(&x->m, g, false)) {
        mem_free(x);
        err_set(e, ERR_TOO_LARGE, "no memory for a matcher");
        return NULL;
    }
    x->g = grammar_ref(g);
    x->v = v;
    machine_start(&x->m);
    bool any = x->m.n_out > 0;
    if (any && matcher_run(x, g->opened) && remember(x, 0, x->m.n_out)) return x;
    grammar_matcher_destroy(x);
    err_set(e, ERR_INVALID, any ? "the text before the answer does not fit" : "nothing satisfies the grammar");
    return NULL;
}

void grammar_matcher_destroy(struct grammar_matcher *x)
{
    if (!x) return;
    for (size_t i = 0; i <= GRAMMAR_STEPS; i++) mem_free(x->steps[i].threads);
    machine_deinit(&x->m);
    grammar_unref(x->g);
    mem_free(x);
}

/* Frames form chains; the copy repeats each thread's chain (shared parents are copied again, equal hashes keep them
 * equal). */
static const struct frame *clone_frame(struct pool *p, const struct frame *f)
{
    const struct frame *first = NULL;
    struct frame *below = NULL;
    for (; f; f = f->up) {
        struct frame *c = pool_alloc(p, sizeof *c);
        if (!c) return NULL;
        *c = *f;
        if (below) below->up = c;
        else first = c;
        below = c;
        if (f->kind == FRAME_OBJECT) {
            size_t bytes = (f->alt->object.n_names + 63) / 64 * sizeof *f->seen;
            uint64_t *seen = pool_alloc(p, bytes);
            if (!seen) return NULL;
            memcpy(seen, f->seen, bytes);
            c->seen = seen;
        }
        struct used **at = (struct used **)(uintptr_t)&c->used;
        for (const struct used *u = f->used; u; u = u->next) {
            struct used *v = pool_alloc(p, sizeof *v);
            char *text = pool_alloc(p, u->text.len + 1);
            if (!v || !text) return NULL;
            if (u->text.len) memcpy(text, u->text.ptr, u->text.len);
            *v = (struct used){NULL, {u->text.ptr ? text : NULL, u->text.len}, u->hash};
            *at = v;
            at = (struct used **)(uintptr_t)&v->next;
        }
    }
    return first;
}

struct grammar_matcher *grammar_matcher_clone(const struct grammar_matcher *x)
{
    const struct step *s = &x->steps[x->at];
    struct grammar_matcher *y = mem_try_zalloc(sizeof *y);
    if (!y || !machine_init(&y->m, x->g, false)) return mem_free(y), NULL;
    y->g = grammar_ref(x->g);
    y->v = x->v;
    y->ended = x->ended;
    bool ok = s->text == 0 || buf_append(&y->m.text, str_slice((struct str){x->m.text.ptr, s->text}, 0, s->text));
    for (size_t i = 0; ok && i < s->n; i++) {
        struct thread t = s->threads[i];
        if (t.frame) ok = (t.frame = clone_frame(&y->m.pool, t.frame)) != NULL;
        if (ok) y->m.out[y->m.n_out++] = t;
    }
    if (ok && remember(y, 0, y->m.n_out)) return y;
    grammar_matcher_destroy(y);
    return NULL;
}

static bool advance(struct grammar_matcher *x, struct str bytes)
{
    if (x->ended) return false;
    matcher_load(x);
    if (!matcher_run(x, bytes)) return matcher_load(x), false;
    size_t before = x->at;
    x->at = (x->at + 1) % (GRAMMAR_STEPS + 1);
    if (!remember(x, 0, x->m.n_out)) {
        x->at = before;
        return false;
    }
    if (x->n_back < GRAMMAR_STEPS) x->n_back++;
    return true;
}

bool grammar_matcher_feed(struct grammar_matcher *x, struct str bytes)
{
    return advance(x, bytes);
}

static bool is_end(const struct grammar_vocab *v, uint32_t token)
{
    return token < v->n && v->is_end[token];
}

bool grammar_matcher_may_end(struct grammar_matcher *x)
{
    if (x->ended) return true;
    matcher_load(x);
    return machine_may_end(&x->m, x->m.out, x->m.n_out);
}

bool grammar_matcher_check(struct grammar_matcher *x, uint32_t token)
{
    if (!x->v || x->ended) return false;
    if (is_end(x->v, token)) return grammar_matcher_may_end(x);
    struct str text = grammar_vocab_text(x->v, token);
    if (text.len == 0 || text.len > TOKEN_BYTES_MAX) return false;
    matcher_load(x);
    return matcher_run(x, text);
}

bool grammar_matcher_accept(struct grammar_matcher *x, uint32_t token)
{
    if (!x->v || x->ended) return false;
    if (is_end(x->v, token)) {
        if (!grammar_matcher_may_end(x) || !advance(x, STR_NONE)) return false;
        return x->ended = true;
    }
    struct str text = grammar_vocab_text(x->v, token);
    return text.len > 0 && text.len <= TOKEN_BYTES_MAX && advance(x, text);
}

bool grammar_matcher_rollback(struct grammar_matcher *x, size_t n)
{
    if (n > x->n_back) return false;
    if (n > 0) x->ended = false;
    x->n_back -= n;
    x->at = (x->at + GRAMMAR_STEPS + 1 - n) % (GRAMMAR_STEPS + 1);
    return true;
}
