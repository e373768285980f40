/* forced: what must come next whatever the model does, as text and as tokens, and whether anything can follow. */
#include "grammar/matcher_internal.h"

static bool continues(const struct machine *m)
{
    for (size_t i = 0; i < m->n_out; i++)
        if (m->out[i].kind != THREAD_END) return true;
    return false;
}

bool grammar_matcher_ended(struct grammar_matcher *x)
{
    if (x->ended) return true;
    matcher_load(x);
    if (!machine_may_end(&x->m, x->m.out, x->m.n_out)) return false;
    if (!continues(&x->m)) return true;
    for (unsigned b = 0; b < 256; b++) {
        matcher_load(x);
        if (matcher_run(x, (struct str){&(char){(char)b}, 1})) return false;
    }
    return true;
}

/* The only byte that can follow the state on the stack, or -1. The text may also end there: then nothing is forced. */
static int only_byte(struct grammar_matcher *x)
{
    struct machine *m = &x->m;
    size_t n = m->n_out, text = m->text.len;
    struct pool_mark mark = pool_mark(&m->pool);
    int only = -1;
    if (machine_may_end(m, m->out, n)) return -1;
    for (unsigned b = 0; b < 256; b++) {
        m->n_out = n;
        m->text.len = text;
        pool_release(&m->pool, mark);
        if (!buf_append_char(&m->text, (char)b)) break;
        bool ok = machine_step(m, 0, n, (uint8_t)b);
        if (ok && only >= 0) {
            only = -1;
            break;
        }
        if (ok) only = (int)b;
    }
    m->n_out = n;
    m->text.len = text;
    pool_release(&m->pool, mark);
    return only;
}

bool grammar_matcher_forced(struct grammar_matcher *x, struct buf *out, size_t max)
{
    if (x->ended) return true;
    matcher_load(x);
    for (size_t i = 0; i < max; i++) {
        int b = only_byte(x);
        if (b < 0) break;
        char c = (char)b;
        if (!buf_append_char(out, c)) return false;
        if (!matcher_run(x, (struct str){&c, 1})) break;
    }
    return true;
}

#define FORCED_MAX 4096

bool grammar_matcher_forced_tokens(struct grammar_matcher *x, struct token_list *out, const struct tokenizer *t,
                                   struct err *e)
{
    struct buf text;
    struct token_list list;
    if (!x->v) return err_set(e, ERR_INVALID, "a matcher without a vocabulary has no tokens");
    buf_init(&text, FORCED_MAX + 1);
    token_list_init(&list, FORCED_MAX + 1);
    bool ok = grammar_matcher_forced(x, &text, FORCED_MAX);
    ok = ok && (text.len == 0 || tokenizer_encode(t, &list, buf_str(&text), false, NULL, 0, e));
    /* A token is kept only if what was written behind it is long enough that no token can reach over its end. */
    size_t kept = 0, bytes = 0;
    for (size_t i = 0; ok && i + 1 < list.n; i++) {
        struct str piece = grammar_vocab_text(x->v, list.ids[i]);
        if (bytes + piece.len > text.len || memcmp(text.ptr + bytes, piece.ptr, piece.len) != 0) break;
        bytes += piece.len;
        kept = i + 1;
    }
    for (size_t i = 0; ok && i < kept; i++) ok = token_list_append(out, list.ids[i], e);
    token_list_deinit(&list);
    buf_deinit(&text);
    return ok;
}

bool grammar_matcher_constrains(const struct grammar_matcher *x)
{
    const struct step *s = &x->steps[x->at];
    for (size_t i = 0; i < s->n; i++)
        if (s->threads[i].kind != THREAD_FREE) return true;
    return false;
}
