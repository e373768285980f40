/* What a row's grammar allows, its parser must read: random walks through the grammar, byte by byte and with pieces
 * that are made to mislead, end in texts whose calls have the names and arguments that the tools ask for. And what
 * models of the family write is allowed. */
#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "dialect/dialect.h"
#include "dialect/dialect_internal.h"
#include "grammar/grammar.h"

#define MAX_TOOLS 128
#define MAX_STEPS 4000

/* ---- tools ---- */

static const char *const own_tools[][2] = {
    {"read", "{\"type\":\"object\",\"properties\":{\"path\":{\"type\":\"string\",\"minLength\":1},\"limit\":{\"type\":"
             "\"integer\",\"minimum\":1,\"maximum\":9999}},\"required\":[\"path\"],\"additionalProperties\":false}"},
    {"read_all",
     "{\"type\":\"object\",\"properties\":{\"on\":{\"type\":\"boolean\"},\"mode\":{\"enum\":[\"fast\",\"slow "
     "one\"]},\"list\":{\"type\":\"array\",\"items\":{\"type\":\"number\"},\"maxItems\":3}},\"required\":"
     "[\"mode\",\"on\"],\"additionalProperties\":false}"},
    {"now", "{\"type\":\"object\",\"properties\":{}}"},
    {"set",
     "{\"properties\":{\"m\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"number\"},{\"type\":\"null\"}]},\"deep\":"
     "{\"type\":\"object\",\"properties\":{\"k\":{\"type\":\"string\",\"pattern\":\"^[a-z]{2,5}$\"},\"n\":{\"type\":"
     "[\"integer\",\"null\"]}},\"required\":[\"k\"],\"additionalProperties\":false}},\"required\":[\"deep\"],"
     "\"additionalProperties\":false}"},
};
#define N_OWN (sizeof own_tools / sizeof *own_tools)

struct tools {
    struct chat_tool list[MAX_TOOLS];
    size_t n;
    json_t *files[8];
    size_t n_files;
};

static void tools_own(struct tools *t)
{
    *t = (struct tools){0};
    for (size_t i = 0; i < N_OWN; i++) {
        json_t *schema = json_loads(own_tools[i][1], 0, NULL);
        ck_assert_ptr_nonnull(schema);
        t->list[t->n++] = (struct chat_tool){.name = str_from(own_tools[i][0]), .schema = schema};
    }
}

static void tools_free(struct tools *t)
{
    for (size_t i = 0; i < t->n && !t->n_files; i++) json_decref(t->list[i].schema);
    for (size_t i = 0; i < t->n_files; i++) json_decref(t->files[i]);
}

/* ---- reading an answer ---- */

struct seen {
    struct buf line, input;
    json_t *calls; /* [{name, input}] */
    size_t n_text;
};

static void collect(void *ctx, const struct chat_event *ev)
{
    struct seen *s = ctx;
    if (ev->kind == CHAT_EVENT_BLOCK_OPEN) {
        buf_clear(&s->input);
        if (ev->block == CHAT_TEXT) s->n_text++;
    } else if (ev->kind == CHAT_EVENT_DELTA) {
        buf_append(&s->input, ev->text);
    } else if (ev->kind == CHAT_EVENT_BLOCK_CLOSE && ev->block == CHAT_TOOL_USE) {
        json_t *input = json_loadb(s->input.ptr, s->input.len, JSON_ALLOW_NUL, NULL);
        ck_assert_msg(json_is_object(input), "no object: %.*s", STR_ARG(buf_str(&s->input)));
        json_array_append_new(s->calls, json_pack("{s:s#, s:o}", "name", ev->name.ptr, ev->name.len, "input", input));
    }
}

static void seen_init(struct seen *s)
{
    *s = (struct seen){.calls = json_array()};
    buf_init(&s->input, 1 << 24);
}

static void seen_deinit(struct seen *s)
{
    buf_deinit(&s->input);
    json_decref(s->calls);
}

static void parse(struct seen *s, const struct dialect *d, const struct tools *t, struct str opened, struct str text)
{
    struct dialect_options o = {.tools = t->list, .n_tools = t->n, .keep_thinking = true, .opened_call = opened};
    struct dialect_parser *p = dialect_parser_create(d, &o);
    seen_init(s);
    dialect_parser_feed(p, text, collect, s);
    dialect_parser_finish(p, false, collect, s);
    ck_assert_msg(dialect_parser_calls(p) == json_array_size(s->calls), "%s: a call is not complete: %.*s",
                  dialect_name(d), STR_ARG(text));
    dialect_parser_destroy(p);
}

static const struct chat_tool *tool_of(const struct tools *t, const char *name)
{
    for (size_t i = 0; i < t->n; i++)
        if (str_eq(t->list[i].name, str_from(name))) return &t->list[i];
    return NULL;
}

static void check_calls(const struct seen *s, const struct dialect *d, const struct tools *t, struct str text)
{
    size_t i;
    json_t *call;
    json_array_foreach(s->calls, i, call)
    {
        const char *name = json_string_value(json_object_get(call, "name"));
        const struct chat_tool *tool = tool_of(t, name);
        ck_assert_msg(tool != NULL, "%s: no tool %s in %.*s", dialect_name(d), name, STR_ARG(text));
        struct grammar_options o;
        struct err e = {0};
        grammar_options_init(&o);
        o.strict = false;
        char *schema = json_dumps(tool->schema, 0), *input = json_dumps(json_object_get(call, "input"), 0);
        struct grammar *g = grammar_from_schema(str_from(schema), &o, &e);
        ck_assert_msg(g != NULL, "%s", e.msg);
        ck_assert_msg(grammar_check(g, str_from(input), &e), "%s: %s\n of %s are not valid: %s\n in %.*s",
                      dialect_name(d), input, name, e.msg, STR_ARG(text));
        grammar_unref(g);
        free(schema);
        free(input);
    }
}

/* ---- walks ---- */

static const char *const pieces[] = {"</tool_call>", "\"}",     "</parameter>", "<|tool_call>", "\n</parameter>\n",
                                     "<|\"|>",       "')",      "</arg_value>", "\xc3\xa4",     "\xf0\x9f\x98\x80",
                                     "```",          "\\\"",    "</function>",  "{\"name\"",    "[ARGS]",
                                     "<|message|>",  "<|end|>", "<parameter=",  "</",           "\\u00e4",
                                     "<escape>"};
#define N_PIECES (sizeof pieces / sizeof *pieces)
#define N_BYTES 256
#define N_OWN_PIECES 6 /* of the row: what ends something */
#define N_TOKENS (N_BYTES + N_PIECES + N_OWN_PIECES + 1)

struct tokens {
    char bytes[N_BYTES];
    struct str texts[N_TOKENS];
};

static struct grammar_vocab *vocab_make(struct tokens *t, const struct dialect *d)
{
    static char lines[2][64];
    bool ends[N_TOKENS] = {0};
    size_t n = 0;
    for (; n < N_BYTES; n++) {
        t->bytes[n] = (char)n;
        t->texts[n] = (struct str){&t->bytes[n], 1};
    }
    for (size_t i = 0; i < N_PIECES; i++) t->texts[n++] = str_from(pieces[i]);
    snprintf(lines[0], sizeof lines[0], "\n%s", d->par_close[0] ? d->par_close[0] : "");
    snprintf(lines[1], sizeof lines[1], "%s", d->quote ? d->quote : "\"");
    const char *own[N_OWN_PIECES] = {d->par_close[0], lines[0],          d->fn_close[0],
                                     d->call_end[0],  d->section_end[0], lines[1]};
    for (size_t i = 0; i < N_OWN_PIECES; i++) t->texts[n++] = str_from(own[i]);
    t->texts[n] = STR_NONE; /* the end of generation */
    ends[n++] = true;
    struct err e;
    struct grammar_vocab *v = grammar_vocab_from_texts(t->texts, ends, n, &e);
    ck_assert_ptr_nonnull(v);
    return v;
}

static bool bit(const uint32_t *bits, size_t i)
{
    return bits[i / 32] >> (i % 32) & 1;
}

/* A random token of the mask; late in a walk one that closes something, if there is such. */
static size_t pick(const uint32_t *bits, size_t n, struct rng *r, size_t step)
{
    static const char closers[] = "\"}])'>/<,|";
    size_t list[N_TOKENS], m = 0, close[N_TOKENS], k = 0, own[N_TOKENS], o = 0, spare = n - 1;
    for (size_t i = 0; i < n; i++) {
        if (!bit(bits, i)) continue;
        if (i == n - 1) {
            if (step > 40 || rng_next(r) % 2) return i;
            continue;
        }
        bool blank = i == ' ' || i == '\n' || i == '\t' || i == '\r';
        if (blank && rng_next(r) % 16) {
            spare = i;
            continue;
        }
        list[m++] = i;
        if ((i < N_BYTES && i && strchr(closers, (int)i)) || i >= N_BYTES + N_PIECES) close[k++] = i;
        if (i >= N_BYTES + N_PIECES) own[o++] = i;
    }
    if (m == 0) return spare;
    if (o && step > 60 && rng_next(r) % 3) return own[rng_next(r) % o];
    if (k && (step > 60 || rng_next(r) % 4 == 0)) return close[rng_next(r) % k];
    return list[rng_next(r) % m];
}

struct walk {
    const struct dialect *d;
    const struct tools *tools;
    struct dialect_grammar_options o;
};

static bool walk_once(struct walk *w, struct grammar *g, struct grammar_vocab *v, struct tokens *tokens, struct rng *r)
{
    struct err e = {0};
    struct buf text;
    uint32_t bits[GRAMMAR_MASK_WORDS(N_TOKENS)];
    size_t n = grammar_vocab_size(v), step = 0;
    struct grammar_matcher *m = grammar_matcher_create(g, v, &e);
    ck_assert_msg(m != NULL, "%s: %s", dialect_name(w->d), e.msg);
    buf_init(&text, 1 << 20);
    buf_append(&text, STR(""));
    for (; step < MAX_STEPS; step++) {
        ck_assert_msg(grammar_matcher_mask(m, bits) > 0, "%s: a dead end behind %.*s", dialect_name(w->d),
                      STR_ARG(buf_str(&text)));
        size_t token = pick(bits, n, r, step);
        ck_assert(grammar_matcher_accept(m, (uint32_t)token));
        if (token == n - 1) break;
        if (token != (unsigned char)GRAMMAR_CONTROL) buf_append(&text, tokens->texts[token]);
    }
    if (step == MAX_STEPS && getenv("SHOW_WALKS"))
        fprintf(stderr, "%s [%.*s]: %.300s\n", dialect_name(w->d), STR_ARG(w->o.opened), text.ptr);
    grammar_matcher_destroy(m);
    bool ended = step < MAX_STEPS;
    if (ended) {
        struct seen s;
        parse(&s, w->d, w->tools, w->o.opened, buf_str(&text));
        ck_assert_msg(json_array_size(s.calls) > 0 && (!w->o.single || json_array_size(s.calls) == 1) && !s.n_text,
                      "%s: %zu calls and %zu texts in %.*s", dialect_name(w->d), json_array_size(s.calls), s.n_text,
                      STR_ARG(buf_str(&text)));
        check_calls(&s, w->d, w->tools, buf_str(&text));
        seen_deinit(&s);
    }
    buf_deinit(&text);
    return ended;
}

static void walk_row(struct walk w, size_t n_walks, uint64_t seed)
{
    static struct tokens tokens;
    struct err e = {0};
    struct rng r;
    size_t ended = 0;
    const struct dialect *d = w.d;
    w.o.tools = w.tools->list;
    w.o.n_tools = w.tools->n;
    struct grammar *g = dialect_grammar(d, &w.o, &e);
    ck_assert_msg(g != NULL, "%s: %s", dialect_name(d), e.msg);
    struct grammar_vocab *v = vocab_make(&tokens, d);
    rng_seed(&r, seed);
    for (size_t i = 0; i < n_walks; i++) ended += walk_once(&w, g, v, &tokens, &r);
    ck_assert_msg(ended * 2 > n_walks, "%s: %zu of %zu walks ended", dialect_name(d), ended, n_walks);
    grammar_vocab_destroy(v);
    grammar_unref(g);
}

START_TEST(walks_end_in_calls)
{
    struct tools t;
    const struct dialect *d = dialect_at((size_t)_i);
    tools_own(&t);
    walk_row((struct walk){d, &t, {.choice = CHAT_TOOLS_ANY, .single = true}}, 60, 7);
    walk_row((struct walk){d, &t, {.choice = CHAT_TOOLS_ANY}}, 60, 11);
    tools_free(&t);
}
END_TEST

START_TEST(walks_go_on_from_an_opened_call)
{
    struct tools t;
    const struct dialect *d = dialect_at((size_t)_i);
    tools_own(&t);
    for (size_t i = 0; i <= t.n; i++) {
        struct buf opened;
        buf_init(&opened, 1 << 16);
        bool is_one = i < t.n;
        struct str name = is_one ? t.list[i].name : STR_NONE;
        if (dialect_opening_text(d, &opened, name))
            walk_row((struct walk){d,
                                   &t,
                                   {.choice = is_one ? CHAT_TOOLS_ONE : CHAT_TOOLS_ANY,
                                    .choice_name = name,
                                    .single = i % 2,
                                    .opened = buf_str(&opened)}},
                     20, i);
        buf_deinit(&opened);
    }
    tools_free(&t);
}
END_TEST

static size_t n_rows(void)
{
    size_t n = 0;
    while (dialect_at(n)) n++;
    return n;
}

void add_grammar_tests(TCase *tc);
void add_grammar_tests(TCase *tc)
{
    tcase_add_loop_test(tc, walks_end_in_calls, 0, (int)n_rows());
    tcase_add_loop_test(tc, walks_go_on_from_an_opened_call, 0, (int)n_rows());
}
