/* walk: random walks through the grammar of a dialect's row, by single bytes and by pieces that are made to mislead.
 * What was walked must be read by the row's parser as calls of the tools, with arguments valid by their schemas. For
 * the unit tests and the oracle. */
#ifndef WALK_H
#define WALK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "dialect/dialect.h"
#include "dialect/dialect_internal.h"
#include "grammar/grammar.h"

#define WALK_MAX_STEPS 4000

struct walk {
    const struct dialect *d;
    struct dialect_grammar_options o;
    size_t ended;     /* walks that came to an end */
    char fault[1500]; /* what went wrong first; empty = nothing */
};

#define WALK_FAULT(w, ...) ((void)((w)->fault[0] || snprintf((w)->fault, sizeof(w)->fault, __VA_ARGS__)))

/* ---- reading an answer ---- */

struct walk_seen {
    struct buf input;
    json_t *calls; /* [{name, input}] */
    size_t n_text;
};

static inline void walk_collect(void *ctx, const struct chat_event *ev)
{
    struct walk_seen *s = ctx;
    if (ev->kind == CHAT_EVENT_BLOCK_OPEN) {
        buf_clear(&s->input);
        if (ev->block == CHAT_TEXT) s->n_text++;
    } else if (ev->kind == CHAT_EVENT_DELTA) {
        buf_append(&s->input, ev->text);
    } else if (ev->kind == CHAT_EVENT_BLOCK_CLOSE && ev->block == CHAT_TOOL_USE) {
        json_t *input = json_loadb(s->input.ptr, s->input.len, JSON_ALLOW_NUL, NULL), *call = json_object();
        json_object_set_new(call, "name", json_stringn_nocheck(ev->name.ptr, ev->name.len));
        json_object_set_new(call, "input", input ? input : json_null());
        json_array_append_new(s->calls, call);
    }
}

static inline const struct chat_tool *walk_tool(const struct walk *w, const char *name)
{
    for (size_t i = 0; i < w->o.n_tools; i++)
        if (name && str_eq(w->o.tools[i].name, str_from(name))) return &w->o.tools[i];
    return NULL;
}

static inline void walk_check_call(struct walk *w, const json_t *call, struct str text)
{
    const char *name = json_string_value(json_object_get(call, "name"));
    const struct chat_tool *tool = walk_tool(w, name);
    struct grammar_options o;
    struct err e = {0};
    if (!tool) {
        WALK_FAULT(w, "no tool \"%s\" in %.*s", name ? name : "?", STR_ARG(text));
        return;
    }
    grammar_options_init(&o);
    o.strict = false;
    char *schema = json_dumps(tool->schema, 0), *input = json_dumps(json_object_get(call, "input"), JSON_ENCODE_ANY);
    struct grammar *g = grammar_from_schema(str_from(schema), &o, &e);
    if (!g || !json_is_object(json_object_get(call, "input")) || !grammar_check(g, str_from(input), &e))
        WALK_FAULT(w, "arguments of %s are not valid (%s): %.400s\nin %.*s", name, e.msg, input, STR_ARG(text));
    grammar_unref(g);
    free(schema);
    free(input);
}

/* Reads the whole text: calls and nothing else. */
static inline void walk_check(struct walk *w, struct str text)
{
    struct dialect_options o = {
        .tools = w->o.tools, .n_tools = w->o.n_tools, .keep_thinking = true, .opened_call = w->o.opened};
    struct dialect_parser *p = dialect_parser_create(w->d, &o);
    struct walk_seen s = {.calls = json_array()};
    size_t i;
    json_t *call;
    buf_init(&s.input, 1 << 24);
    dialect_parser_feed(p, text, walk_collect, &s);
    dialect_parser_finish(p, false, walk_collect, &s);
    size_t n = json_array_size(s.calls);
    if (dialect_parser_calls(p) != n) WALK_FAULT(w, "a call is not complete: %.*s", STR_ARG(text));
    if (!n || (w->o.single && n > 1) || s.n_text)
        WALK_FAULT(w, "%zu calls, %zu texts: %.*s", n, s.n_text, STR_ARG(text));
    json_array_foreach(s.calls, i, call) walk_check_call(w, call, text);
    dialect_parser_destroy(p);
    buf_deinit(&s.input);
    json_decref(s.calls);
}

/* ---- tokens ---- */

static const char *const walk_pieces[] = {"</tool_call>", "\"}",     "</parameter>", "<|tool_call>", "\n</parameter>\n",
                                          "<|\"|>",       "')",      "</arg_value>", "\xc3\xa4",     "\xf0\x9f\x98\x80",
                                          "```",          "\\\"",    "</function>",  "{\"name\"",    "[ARGS]",
                                          "<|message|>",  "<|end|>", "<parameter=",  "</",           "\\u00e4",
                                          "<escape>"};
#define WALK_PIECES (sizeof walk_pieces / sizeof *walk_pieces)
#define WALK_BYTES 256
#define WALK_OWN 6 /* pieces of the row: what ends something */
#define WALK_TOKENS (WALK_BYTES + WALK_PIECES + WALK_OWN + 1)

struct walk_tokens {
    char bytes[WALK_BYTES], line[80];
    struct str texts[WALK_TOKENS];
    struct grammar_vocab *vocab;
};

static inline bool walk_tokens_make(struct walk_tokens *t, const struct dialect *d)
{
    bool ends[WALK_TOKENS] = {0};
    size_t n = 0;
    struct err e;
    for (; n < WALK_BYTES; n++) {
        t->bytes[n] = (char)n;
        t->texts[n] = (struct str){&t->bytes[n], 1};
    }
    for (size_t i = 0; i < WALK_PIECES; i++) t->texts[n++] = str_from(walk_pieces[i]);
    snprintf(t->line, sizeof t->line, "\n%s", d->par_close[0] ? d->par_close[0] : "");
    const char *own[WALK_OWN] = {d->par_close[0], t->line,           d->fn_close[0],
                                 d->call_end[0],  d->section_end[0], d->quote ? d->quote : "\""};
    for (size_t i = 0; i < WALK_OWN; i++) t->texts[n++] = str_from(own[i]);
    t->texts[n] = STR_NONE; /* the end of generation */
    ends[n++] = true;
    return (t->vocab = grammar_vocab_from_texts(t->texts, ends, n, &e)) != NULL;
}

/* A random token of the mask; late in a walk one that closes something, if there is such. */
static inline size_t walk_pick(const uint32_t *bits, struct rng *r, size_t step)
{
    static const char closers[] = "\"}])'>/<,|";
    const size_t end = WALK_TOKENS - 1, first_own = WALK_BYTES + WALK_PIECES;
    size_t list[WALK_TOKENS], m = 0, close[WALK_TOKENS], k = 0, own[WALK_OWN], o = 0, spare = end;
    for (size_t i = 0; i <= end; i++) {
        if (!(bits[i / 32] >> (i % 32) & 1)) continue;
        if (i == end) {
            if (step > 40 || rng_next(r) % 2) return i;
            continue;
        }
        bool blank = i == ' ' || i == '\n' || i == '\t' || i == '\r';
        spare = i;
        if (blank && rng_next(r) % 16) continue;
        list[m++] = i;
        if ((i && i < WALK_BYTES && strchr(closers, (int)i)) || i >= first_own) close[k++] = i;
        if (i >= first_own) own[o++] = i;
    }
    if (m == 0) return spare;
    if (o && step > 60 && rng_next(r) % 3) return own[rng_next(r) % o];
    if (k && (step > 60 || rng_next(r) % 4 == 0)) return close[rng_next(r) % k];
    return list[rng_next(r) % m];
}

static inline void walk_once(struct walk *w, struct grammar *g, const struct walk_tokens *t, struct rng *r)
{
    uint32_t bits[GRAMMAR_MASK_WORDS(WALK_TOKENS)];
    struct err e = {0};
    struct buf text;
    size_t step = 0, token = 0;
    struct grammar_matcher *m = grammar_matcher_create(g, t->vocab, &e);
    if (!m) {
        WALK_FAULT(w, "%s", e.msg);
        return;
    }
    buf_init(&text, 1 << 20);
    buf_append(&text, STR(""));
    for (; step < WALK_MAX_STEPS && !w->fault[0]; step++) {
        size_t n = grammar_matcher_mask(m, bits);
        if (n) token = walk_pick(bits, r, step);
        if (!n) WALK_FAULT(w, "a dead end behind %.*s", STR_ARG(buf_str(&text)));
        else if (!grammar_matcher_accept(m, (uint32_t)token))
            WALK_FAULT(w, "the mask has %zu, which is refused behind %.*s", token, STR_ARG(buf_str(&text)));
        if (!n || token == WALK_TOKENS - 1) break;
        if (token != (unsigned char)GRAMMAR_CONTROL) buf_append(&text, t->texts[token]);
    }
    grammar_matcher_destroy(m);
    if (step < WALK_MAX_STEPS && !w->fault[0]) {
        w->ended++;
        walk_check(w, buf_str(&text));
    }
    buf_deinit(&text);
}

/* n walks through what w->o allows; w->fault says what went wrong. */
static inline void walk_run(struct walk *w, size_t n, uint64_t seed)
{
    struct walk_tokens *t = calloc(1, sizeof *t);
    struct err e = {0};
    struct rng r;
    struct grammar *g = dialect_grammar(w->d, &w->o, &e);
    if (!g) WALK_FAULT(w, "%s", e.msg);
    rng_seed(&r, seed);
    if (g && t && walk_tokens_make(t, w->d))
        for (size_t i = 0; i < n && !w->fault[0]; i++) walk_once(w, g, t, &r);
    if (t) grammar_vocab_destroy(t->vocab);
    grammar_unref(g);
    free(t);
}

#endif
