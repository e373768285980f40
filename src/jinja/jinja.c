/* jinja: compiling and rendering; see jinja.h. The budgets of a rendering are enforced here: steps, depth, memory. */
#include "jinja/jinja.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "jinja/jinja_internal.h"

#define MAX_SOURCE ((size_t)4 << 20)
#define MAX_COMPILED ((size_t)256 << 20)

/* The text of a line, trimmed and cut for a message. */
static struct str line_text(struct str source, uint32_t line)
{
    size_t from = 0;
    for (uint32_t i = 1; i < line; i++) {
        const char *nl = memchr(source.ptr + from, '\n', source.len - from);
        if (!nl) break;
        from = (size_t)(nl - source.ptr) + 1;
    }
    const char *nl = source.len > from ? memchr(source.ptr + from, '\n', source.len - from) : NULL;
    struct str text = str_trim(str_slice(source, from, nl ? (size_t)(nl - source.ptr) : source.len));
    text = str_slice(text, 0, 160);
    text.len = utf8_complete_len(text);
    return text;
}

static bool fail_at(struct err *e, struct str source, uint32_t line, const char *fmt, va_list ap)
{
    char reason[600];
    vsnprintf(reason, sizeof reason, fmt, ap);
    reason[utf8_complete_len(str_from(reason))] = '\0';
    if (!line) return err_set(e, ERR_INVALID, "template: %s", reason);
    struct str text = line_text(source, line);
    return err_set(e, ERR_INVALID, "template line %u: %s; the line is `%.*s`", line, reason, STR_ARG(text));
}

bool compile_fail(struct compiler *c, uint32_t line, const char *fmt, ...)
{
    va_list ap;
    if (c->failed) return false;
    c->failed = true;
    va_start(ap, fmt);
    fail_at(c->e, c->j->source, line, fmt, ap);
    va_end(ap);
    return false;
}

void run_error(struct run *r, const char *fmt, ...)
{
    va_list ap;
    if (r->failed) return;
    r->failed = true;
    va_start(ap, fmt);
    fail_at(r->e, r->j->source, r->line, fmt, ap);
    va_end(ap);
}

bool enter(struct run *r)
{
    if (r->failed) return false;
    if (r->steps_left == 0)
        return run_fail(r, "more than %llu steps: the template does not come to an end",
                        (unsigned long long)r->max_steps);
    r->steps_left--;
    const char *here = __builtin_frame_address(0);
    size_t used = here < r->stack_base ? (size_t)(r->stack_base - here) : (size_t)(here - r->stack_base);
    if (r->depth >= JINJA_MAX_DEPTH || used > JINJA_MAX_STACK) return run_fail(r, "recursion is too deep");
    r->depth++;
    return true;
}

void leave(struct run *r)
{
    r->depth--;
}

bool charge(struct run *r, size_t bytes)
{
    uint64_t steps = bytes >> 6;
    if (steps <= r->steps_left) {
        r->steps_left -= steps;
        return !r->failed;
    }
    r->steps_left = 0;
    return run_fail(r, "more than %llu steps: the template does too much work", (unsigned long long)r->max_steps);
}

void *run_alloc(struct run *r, size_t size)
{
    void *p = r->failed ? NULL : arena_try_alloc(&r->arena, size ? size : 1);
    if (!p) run_error(r, "rendering needs more than its memory budget of %zu bytes", r->arena.max_bytes);
    return p;
}

void *run_zalloc(struct run *r, size_t size)
{
    void *p = run_alloc(r, size);
    return p ? memset(p, 0, size ? size : 1) : NULL;
}

/* ---- compiling ---- */

/* A copy with \n as the only line end and without one final newline. */
static bool normalise(struct jinja *j, struct str source)
{
    char *out = arena_try_alloc(&j->arena, source.len + 1);
    size_t n = 0;
    if (!out) return false;
    for (size_t i = 0; i < source.len; i++) {
        char ch = source.ptr[i];
        if (ch == '\r') {
            ch = '\n';
            if (i + 1 < source.len && source.ptr[i + 1] == '\n') i++;
        }
        out[n++] = ch;
    }
    if (n && out[n - 1] == '\n') n--;
    out[n] = '\0';
    j->source = (struct str){out, n};
    return true;
}

struct jinja *jinja_compile(struct str source, struct jinja_options options, struct err *e)
{
    if (source.len > MAX_SOURCE) {
        err_set(e, ERR_TOO_LARGE, "template has %zu bytes, at most %zu are allowed", source.len, MAX_SOURCE);
        return NULL;
    }
    if (!utf8_valid(source)) {
        err_set(e, ERR_INVALID, "template is not valid UTF-8");
        return NULL;
    }
    struct jinja *j = mem_zalloc(sizeof *j);
    struct compiler c = {.j = j, .e = e};
    j->options = options;
    arena_init(&j->arena, MAX_COMPILED);
    if (!normalise(j, source)) err_set(e, ERR_TOO_LARGE, "no memory for the template");
    else if (lexer_run(&c) && parser_run(&c) && scope_run(&c)) return j;
    jinja_destroy(j);
    return NULL;
}

void jinja_destroy(struct jinja *j)
{
    if (!j) return;
    arena_deinit(&j->arena);
    mem_free(j);
}

bool jinja_mentions(const struct jinja *j, const char *name)
{
    for (size_t i = 0; i < j->n_mentions; i++)
        if (str_eq(j->mentions[i], str_from(name))) return true;
    return false;
}

/* ---- rendering ---- */

static bool run_template(struct run *r, struct sb *out)
{
    const struct jinja *j = r->j;
    struct frame *f = run_alloc(r, sizeof *f);
    if (!f) return false;
    f->parent = NULL;
    r->resolved = run_zalloc(r, j->n_names * sizeof *r->resolved);
    r->is_resolved = run_zalloc(r, j->n_names * sizeof *r->is_resolved);
    f->slots = run_zalloc(r, j->n_slots * sizeof *f->slots);
    return r->resolved && r->is_resolved && f->slots && scope_enter(r, f, &j->scope) && exec_body(r, out, f, j->body) &&
           !out->failed;
}

/* Hands the text and its spans (moved to where the text stands in `out`) to the caller. */
static bool deliver(struct buf *out, struct jinja_spans *spans, const struct sb *text, struct err *e)
{
    size_t base = out->len;
    if (spans && text->n_spans) {
        spans->items = mem_try_alloc(text->n_spans * sizeof *spans->items);
        if (!spans->items) return err_set(e, ERR_TOO_LARGE, "no memory for the spans of the rendered text");
        for (size_t i = 0; i < text->n_spans; i++)
            spans->items[i] = (struct jinja_span){base + text->spans[i].from, base + text->spans[i].to};
        spans->n = text->n_spans;
    }
    if (!text->len || buf_append(out, (struct str){text->ptr, text->len})) return true;
    if (spans) {
        mem_free(spans->items);
        *spans = (struct jinja_spans){0};
    }
    return err_set(e, ERR_TOO_LARGE, "rendered text of %zu bytes does not fit its buffer", text->len);
}

bool jinja_render(const struct jinja *j, struct buf *out, struct jinja_spans *spans, bool *raised, json_t *context,
                  const struct jinja_now *now, const struct jinja_limits *limits, struct err *e)
{
    struct jinja_limits l = limits ? *limits : (struct jinja_limits){0};
    struct run r = {.j = j, .e = e, .context = context, .now = now, .line = 1};
    struct sb text;
    if (spans) *spans = (struct jinja_spans){0};
    if (raised) *raised = false;
    r.max_steps = r.steps_left = l.max_steps ? l.max_steps : 20000000;
    r.stack_base = __builtin_frame_address(0);
    arena_init(&r.arena, l.max_memory_bytes ? l.max_memory_bytes : (size_t)512 << 20);
    sb_init(&text, &r);
    text.max_bytes = l.max_output_bytes ? l.max_output_bytes : (size_t)64 << 20;
    bool ok = run_template(&r, &text) && deliver(out, spans, &text, e);
    if (raised) *raised = r.raised;
    for (size_t i = 0; i < r.n_parsed; i++) json_decref(r.parsed[i]);
    mem_free(r.parsed);
    arena_deinit(&r.arena);
    return ok;
}
