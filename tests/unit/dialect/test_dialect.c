/* Unit tests of dialect: every case runs whole and cut into pieces of every size, and must give the same blocks. Blocks
 * are compared as one line: t[text] for text, r[...] for reasoning, c[name input] for a call, ! behind an unfinished
 * one. */
#include "unit.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "dialect/dialect.h"
#include "dialect/dialect_internal.h"

struct seen {
    struct buf line, input;
    bool open;
    enum chat_block_kind kind;
    size_t calls_before;
};

static void collect(void *ctx, const struct chat_event *ev)
{
    struct seen *s = ctx;
    if (ev->kind == CHAT_EVENT_BLOCK_OPEN) {
        ck_assert(!s->open);
        s->open = true;
        s->kind = ev->block;
        buf_printf(&s->line, "%c[", "trc"[ev->block]);
        if (ev->block == CHAT_TOOL_USE) buf_printf(&s->line, "%.*s ", STR_ARG(ev->name));
        buf_clear(&s->input);
        return;
    }
    ck_assert(s->open);
    ck_assert_int_eq(s->kind, ev->block);
    if (ev->kind == CHAT_EVENT_DELTA) {
        ck_assert_uint_gt(ev->text.len, 0);
        buf_append(s->kind == CHAT_TOOL_USE ? &s->input : &s->line, ev->text);
        return;
    }
    s->open = false;
    if (s->kind == CHAT_TOOL_USE) {
        json_error_t error;
        json_t *v = json_loadb(s->input.ptr, s->input.len, JSON_ALLOW_NUL, &error);
        ck_assert_msg(json_is_object(v), "no object: %.*s", STR_ARG(buf_str(&s->input)));
        char *text = json_dumps(v, JSON_COMPACT);
        buf_append(&s->line, str_from(text));
        free(text);
        json_decref(v);
    }
    buf_append_char(&s->line, ']');
}

static const char *const schemas[][2] = {
    {"read",
     "{\"properties\":{\"path\":{\"type\":\"string\"},\"limit\":{\"type\":\"integer\"}},\"required\":[\"path\"]}"},
    {"set", "{\"properties\":{\"v\":{},\"on\":{\"type\":\"boolean\"},\"list\":{\"type\":\"array\"},"
            "\"m\":{\"anyOf\":[{\"type\":\"string\"},{\"type\":\"number\"}]}}}"},
    {"now", "{\"type\":\"object\",\"properties\":{}}"},
};
#define N_TOOLS (sizeof schemas / sizeof *schemas)

static void tools_make(struct chat_tool tools[N_TOOLS])
{
    for (size_t i = 0; i < N_TOOLS; i++) {
        json_error_t error;
        tools[i] = (struct chat_tool){.name = str_from(schemas[i][0]), .schema = json_loads(schemas[i][1], 0, &error)};
        ck_assert_ptr_nonnull(tools[i].schema);
    }
}

static void run_cut(struct seen *s, const char *name, struct dialect_options *o, struct str raw, size_t piece, bool cut)
{
    const struct dialect *d = dialect_find(str_from(name));
    ck_assert_msg(d != NULL, "%s", name);
    struct dialect_parser *p = dialect_parser_create(d, o);
    *s = (struct seen){0};
    buf_init(&s->line, (size_t)1 << 24);
    buf_init(&s->input, (size_t)1 << 24);
    buf_append(&s->line, STR(""));
    for (size_t at = 0; at < raw.len; at += piece) dialect_parser_feed(p, str_slice(raw, at, at + piece), collect, s);
    dialect_parser_finish(p, cut, collect, s);
    ck_assert(!s->open);
    s->calls_before = dialect_parser_calls(p);
    dialect_parser_destroy(p);
    buf_deinit(&s->input);
}

static void check_with(struct dialect_options *o, const char *name, const char *raw, const char *expected, size_t calls,
                       bool cut)
{
    struct chat_tool tools[N_TOOLS];
    struct str text = str_from(raw);
    tools_make(tools);
    o->tools = tools;
    o->n_tools = N_TOOLS;
    o->keep_thinking = true;
    for (size_t piece = text.len ? text.len : 1; piece > 0; piece--) {
        struct seen s;
        run_cut(&s, name, o, text, piece, cut);
        ck_assert_msg(str_eq(buf_str(&s.line), str_from(expected)),
                      "%s, pieces of %zu of %s:\n  got      %.*s\n  expected %s", name, piece, raw,
                      STR_ARG(buf_str(&s.line)), expected);
        ck_assert_uint_eq(s.calls_before, calls);
        buf_deinit(&s.line);
    }
    for (size_t i = 0; i < N_TOOLS; i++) json_decref(tools[i].schema);
}

static void check(const char *name, const char *raw, const char *expected, size_t calls)
{
    check_with(&(struct dialect_options){0}, name, raw, expected, calls, false);
}

static void check_thinking(const char *name, const char *raw, const char *expected, size_t calls)
{
    check_with(&(struct dialect_options){.in_thinking = true}, name, raw, expected, calls, false);
}

#define HERMES(args) "<tool_call>\n{\"name\": \"read\", \"arguments\": " args "}\n</tool_call>"

START_TEST(plain_text)
{
    check("default", "Hello\n\nworld <b> & a < b", "t[Hello\n\nworld <b> & a < b]", 0);
    check("default", "  \n  indented", "t[  indented]", 0);
    check("default", "", "", 0);
    check("default", "<think>\nwhy\n</think>\n\nBecause.", "r[why]t[Because.]", 0);
    check_thinking("default", "why\n</think>\nBecause.", "r[why]t[Because.]", 0);
    check_thinking("default", "<think>why</think></think>B", "r[why]t[</think>B]", 0);
    check("default", "</think>\n\nBecause.", "t[Because.]", 0);
    check("default", "It says <think> and </think> here.", "t[It says <think> and </think> here.]", 0);
    check("default", "<think>never closed", "r[never closed]", 0);
    check("default", "cut <tool_ca", "t[cut <tool_ca]", 0);
}
END_TEST

START_TEST(json_calls)
{
    check("hermes", HERMES("{\"path\": \"a.c\"}"), "c[read {\"path\":\"a.c\"}]", 1);
    check("hermes", "Look.\n" HERMES("{\"path\": \"a\"}") "\n" HERMES("{}"),
          "t[Look.]c[read {\"path\":\"a\"}]c[read {}]", 2);
    check("hermes", "<tool_call>{\"arguments\": {\"path\": \"a\"}, \"name\": \"read\"}</tool_call> bye",
          "c[read {\"path\":\"a\"}]t[bye]", 1);
    check("hermes", "<tool_call>\n{'name': 'read', 'arguments': {'path': 'it\"s', 'limit': None,}}\n</tool_call>",
          "c[read {\"path\":\"it\\\"s\",\"limit\":null}]", 1);
    check("hermes",
          "<tool_call>{\"type\": \"function\", \"function\": {\"name\": \"now\", \"arguments\": \"{}\"}}</tool_call>",
          "c[now {}]", 1);
    check("hermes", "<tool_call>{\"name\": \"read\", \"arguments\": \"{\\\"path\\\": \\\"a\\\"}\"}</tool_call>",
          "c[read {\"path\":\"a\"}]", 1);
    check("hermes", "<tool_call>```json\n{\"name\": \"now\"}\n```</tool_call>", "c[now {}]", 1);
    check("hermes", "<tool_call>[{\"name\": \"now\", \"arguments\": {}}, {\"name\": \"now\"}]</tool_call>",
          "c[now {}]c[now {}]", 2);
    check("hermes", "<tool_call>{\"name\": \"read\", \"path\": \"a\"}</tool_call>", "c[read {\"path\":\"a\"}]", 1);
}
END_TEST

START_TEST(json_calls_that_are_broken)
{
    check("hermes", "I write <tool_call> here.", "t[I write <tool_call> here.]", 0);
    check("hermes", "<tool_call>{\"nam\": 1}", "t[<tool_call>{\"nam\": 1}]", 0);
    check("hermes", "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}", "c[read {\"path\":\"a\"}]",
          1);
    check("hermes", "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"", "c[read {\"path\":\"a\"}]", 1);
    check("hermes", "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}\n</tool_call>ok",
          "c[read {\"path\":\"a\"}]t[ok]", 1);
    check("hermes", "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}}\n</tool_call>",
          "c[read {\"path\":\"a\"}]", 1);
    check("hermes", "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"say \"hi\" to\"}}\n</tool_call>",
          "c[read {\"path\":\"say \\\"hi\\\" to\"}]", 1);
    check("hermes", "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\nb\\d\"}}\n</tool_call>",
          "c[read {\"path\":\"a\\nb\\\\d\"}]", 1);
    check_with(&(struct dialect_options){0}, "hermes",
               "<tool_call>\n{\"name\": \"read\", \"arguments\": {\"path\": \"a", "c[read {\"path\":\"a\"}]", 0, true);
}
END_TEST

START_TEST(bare_json)
{
    const char *bare = "{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}";
    char text[400];
    for (size_t i = 0; dialect_at(i); i++) {
        if (dialect_at(i)->header == HEADER_NAME_LINE) continue;
        check(dialect_name(dialect_at(i)), bare, "c[read {\"path\":\"a\"}]", 1);
        snprintf(text, sizeof text, "```json\n%s\n```", bare);
        check(dialect_name(dialect_at(i)), text, "c[read {\"path\":\"a\"}]", 1);
    }
    check("hermes", "{{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}}", "c[read {\"path\":\"a\"}]", 1);
    check("hermes", "```json\n{{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}}\n```",
          "c[read {\"path\":\"a\"}]", 1);
    check("hermes", "Sure:\n{{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}}\n</tool_call>",
          "t[Sure:]c[read {\"path\":\"a\"}]", 1);
    check("hermes", "<tool_call>\n{{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}}\n</tool_call>",
          "c[read {\"path\":\"a\"}]", 1);
    check("hermes", "<tool_call>\n{{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}\n</tool_call>",
          "c[read {\"path\":\"a\"}]", 1);
    check("hermes", "{{\"colour\": 3}}", "t[{{\"colour\": 3}}]", 0);
    check("mistral", "{\"name\": \"read\", \"arguments\": {\"path\": 1}}",
          "t[{\"name\": \"read\", \"arguments\": {\"path\": 1}}]", 0);
    check("mistral", "{\"name\": \"read\", \"arguments\": {}}", "t[{\"name\": \"read\", \"arguments\": {}}]", 0);
    check("mistral", "{\"name\": \"Bob\", \"age\": 3}", "t[{\"name\": \"Bob\", \"age\": 3}]", 0);
    check("mistral", "[1, 2]", "t[[1, 2]]", 0);
    check("mistral", "```c\nint x;\n```", "t[```c\nint x;\n```]", 0);
    snprintf(text, sizeof text, "%s and more", bare);
    snprintf(text + 200, sizeof text - 200, "t[%s and more]", bare);
    check("mistral", text, text + 200, 0);
    check("hermes", "Sure.\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\"}}\n</tool_call>",
          "t[Sure.]c[read {\"path\":\"a\"}]", 1);
    check("llama3", "{\"name\": \"now\", \"parameters\": {}}; {\"name\": \"now\", \"parameters\": {}}",
          "c[now {}]c[now {}]", 2);
}
END_TEST

START_TEST(tagged_calls)
{
#define FN(body) "<tool_call>\n<function=read>\n" body "</function>\n</tool_call>"
    check("qwen3-coder", FN("<parameter=path>\na.c\n\n</parameter>\n<parameter=limit>\n40\n</parameter>\n"),
          "c[read {\"path\":\"a.c\\n\",\"limit\":40}]", 1);
    check("qwen3-coder", "Go <function=read><parameter=path>x</parameter></function>.",
          "t[Go]c[read {\"path\":\"x\"}]t[.]", 1);
    check("qwen3-coder", "Write <function=foo> or <function=read in text",
          "t[Write <function=foo> or <function=read in text]", 0);
    check("qwen3-coder", FN("<parameter=path>\n\"q\" \\ </b>\n</parameter>\n"),
          "c[read {\"path\":\"\\\"q\\\" \\\\ </b>\"}]", 1);
    check("qwen3-coder", FN("<parameter=path>\na\n<parameter=limit>\nmany\n</parameter>\n"),
          "c[read {\"path\":\"a\",\"limit\":\"many\"}]", 1);
    check("qwen3-coder", FN("<parameter=path>\na\n"), "c[read {\"path\":\"a\"}]", 1);
    check("qwen3-coder", "<tool_call>\n<function=read>\n<parameter=path>\na\n</function>", "c[read {\"path\":\"a\"}]",
          1);
    check("qwen3-coder", "<tool_call>\n<function=read>\n<parameter=path>\na\n", "c[read {\"path\":\"a\"}]", 1);
    check("qwen3-coder",
          "<tool_call>\n<function=\"read\">\n<parameter=\"path\">\na\n</parameter></function></tool_call>",
          "c[read {\"path\":\"a\"}]", 1);
    check("qwen3-coder", HERMES("{\"path\": \"a\"}"), "c[read {\"path\":\"a\"}]", 1);
    check("qwen3-coder",
          "<tool_call>\n<function=set>\n<parameter=on>\nTrue\n</parameter>\n<parameter=list>\n['a', {'b': None}]\n"
          "</parameter>\n<parameter=m>\n007\n</parameter>\n<parameter=v>\n5\n</parameter>\n</function>\n</tool_call>",
          "c[set {\"on\":true,\"list\":[\"a\",{\"b\":null}],\"m\":7,\"v\":\"5\"}]", 1);
    check("glm", "<tool_call>read\n<arg_key>path</arg_key>\n<arg_value>a</arg_value>\n</tool_call>",
          "c[read {\"path\":\"a\"}]", 1);
    check("glm", "<tool_call>now</tool_call>", "c[now {}]", 1);
    check("deepseek-dsml",
          "<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"set\">\n<｜DSML｜parameter name=\"v\" string=\"false\">5"
          "</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
          "c[set {\"v\":5}]", 1);
    check("minicpm5", "<function name=\"read\"><param name=\"path\">a</param></function>", "c[read {\"path\":\"a\"}]",
          1);
    check_with(&(struct dialect_options){0}, "qwen3-coder", "<tool_call>\n<function=read>\n<parameter=path>\nabc",
               "c[read {\"path\":\"abc\"}]", 0, true);
#undef FN
}
END_TEST

START_TEST(calls_and_thinking)
{
    check_thinking("qwen3-coder", "I go.\n<tool_call>\n<function=now>\n</function>\n</tool_call>\n</think>\nDone.",
                   "r[I go.]c[now {}]t[Done.]", 1);
    check_thinking("hermes", "I may <tool_call> later.</think>Done.", "r[I may <tool_call> later.]t[Done.]", 0);
    check_thinking("lfm2", "Maybe <|tool_call_start|>[now()]<|tool_call_end|>.</think>Done.",
                   "r[Maybe <|tool_call_start|>[now()]<|tool_call_end|>.]t[Done.]", 0);
    check("kimi",
          "<think>a<|tool_calls_section_begin|><|tool_call_begin|>functions.now:0<|tool_call_argument_begin|>{}"
          "<|tool_call_end|><|tool_calls_section_end|>",
          "r[a]c[now {}]", 1);
    check("glm", "<think>a</think>b\n<tool_call>now</tool_call>\n<think>c</think>d", "r[a]t[b]c[now {}]r[c]t[d]", 1);
}
END_TEST

START_TEST(other_shapes)
{
    check("mistral", "[TOOL_CALLS]read[CALL_ID]abcdefgh0[ARGS]{\"path\": \"a\"}[TOOL_CALLS]now[ARGS]{}",
          "c[read {\"path\":\"a\"}]c[now {}]", 2);
    check("mistral", "[TOOL_CALLS] [{\"name\": \"now\", \"arguments\": {}}]", "c[now {}]", 1);
    check("mistral", "a [TOOL_CALLS", "t[a [TOOL_CALLS]", 0);
    check("lfm2", "<|tool_call_start|>[read(path='a, b', limit=2), now()]<|tool_call_end|>ok",
          "c[read {\"path\":\"a, b\",\"limit\":2}]c[now {}]t[ok]", 2);
    check("olmo3", "<function_calls>now()\nread(path=\"x\")</function_calls>", "c[now {}]c[read {\"path\":\"x\"}]", 2);
    check("gemma4",
          "<|channel>thought\nhm<channel|><|tool_call>call:set{list:[<|\"|>a\"b<|\"|>,2],v:{x:null}}<tool_call|>",
          "r[hm]c[set {\"list\":[\"a\\\"b\",2],\"v\":{\"x\":null}}]", 1);
    check("deepseek",
          "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜><"
          "｜tool▁calls▁end｜>",
          "c[now {}]", 1);
    check("cohere",
          "<|START_ACTION|>[{\"tool_call_id\": \"0\", \"tool_name\": \"now\", \"parameters\": {}}]<|END_ACTION|>",
          "c[now {}]", 1);
    check("apertus", "<|tools_prefix|>[{\"read\": {\"path\": \"a\"}}]<|tools_suffix|>", "c[read {\"path\":\"a\"}]", 1);
    check("functionary-v3.2", "all\nHi.\n>>>now\n{}", "t[Hi.]c[now {}]", 1);
    check("llama3", "Ok. <function=read>{\"path\": \"a\"}</function>", "t[Ok.]c[read {\"path\":\"a\"}]", 1);
    check("functionary-v3.1", "<function=read>{\"path\": \"a\"}</function>", "c[read {\"path\":\"a\"}]", 1);
}
END_TEST

START_TEST(headers)
{
    check("harmony", "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hi.",
          "r[hm]t[Hi.]", 0);
    check("harmony",
          "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>commentary to=functions.read "
          "<|constrain|>json<|message|>{\"path\": \"a\"}<|call|>",
          "t[I look.]c[read {\"path\":\"a\"}]", 1);
    check("harmony", " to=functions.now<|channel|>commentary json<|message|>{}", "c[now {}]", 1);
    check("harmony", "Just text", "t[Just text]", 0);
    check_with(&(struct dialect_options){0}, "harmony", " to=functions.read<|message|>", "c[read {}]", 0, true);
    check("harmony", " to=python<|message|>print(1)", "t[print(1)]", 0);
    check("glimmer",
          " to=self<|message|>hm<|eom|><|start|>assistant to=read<|message|><atem:function_calls>\n<atem:invoke "
          "name=\"read\">\n<atem:parameter name=\"path\">a</atem:parameter>\n</atem:invoke>\n</atem:function_calls>",
          "r[hm]c[read {\"path\":\"a\"}]", 1);
}
END_TEST

START_TEST(forced_and_hidden)
{
    struct dialect_options o = {.opened_call = STR("<tool_call>\n{\"name\": \"read\", \"arguments\": ")};
    check_with(&o, "hermes", "{\"path\": \"a\"}}\n</tool_call>", "c[read {\"path\":\"a\"}]", 1, false);
    struct dialect_options hidden = {.in_thinking = true};
    struct seen s;
    run_cut(&s, "default", &hidden, STR("secret</think>open"), 3, false);
    ck_assert_str_eq(s.line.ptr, "t[open]");
    buf_deinit(&s.line);
    run_cut(&s, "hermes", &(struct dialect_options){0}, STR(HERMES("{}")), 4, false);
    ck_assert_str_eq(s.line.ptr, "t[" HERMES("{}") "]");
    buf_deinit(&s.line);
    struct dialect_options small = {.max_bytes = 64};
    run_cut(&s, "default", &small, STR("a text that is longer than the budget of sixty-four bytes, given in one piece"),
            200, false);
    ck_assert_str_eq(s.line.ptr, "t[a text that is longer than the budget of sixty-four bytes, given in one piece]");
    buf_deinit(&s.line);
}
END_TEST

/* What the dialects write is what they read; tools give the same text each time. */
START_TEST(texts_round_trip)
{
    struct chat_tool tools[N_TOOLS];
    json_error_t error;
    struct chat_block call = {.kind = CHAT_TOOL_USE,
                              .name = STR("read"),
                              .input = json_loads("{\"path\":\"a \\\"b\\\"\",\"limit\":3}", 0, &error)};
    tools_make(tools);
    for (size_t i = 0; dialect_at(i); i++) {
        const struct dialect *d = dialect_at(i);
        struct buf text, list;
        if (d->header || d->json_key_is_name) continue;
        buf_init(&text, 1 << 20);
        buf_init(&list, 1 << 20);
        ck_assert(dialect_call_text(d, &text, &call));
        check(d->name, text.ptr, "c[read {\"path\":\"a \\\"b\\\"\",\"limit\":3}]", 1);
        ck_assert(dialect_tools_text(d, &list, tools, N_TOOLS));
        ck_assert(strstr(list.ptr, "\"name\": \"read\"") != NULL);
        buf_deinit(&text);
        buf_deinit(&list);
    }
    json_decref(call.input);
    for (size_t i = 0; i < N_TOOLS; i++) json_decref(tools[i].schema);
}
END_TEST

START_TEST(detection)
{
    ck_assert_str_eq(dialect_name(dialect_detect(STR("x"))), "default");
    ck_assert_str_eq(dialect_name(dialect_detect(STR("<tool_call>{...}"))), "hermes");
    ck_assert_str_eq(dialect_name(dialect_detect(STR("<tool_call><function=a><parameter=b>"))), "qwen3-coder");
    ck_assert_ptr_null(dialect_find(STR("nonesuch")));
    ck_assert_ptr_nonnull(dialect_find(STR("GLM")));
    struct dialect_traits t;
    dialect_traits_get(dialect_find(STR("qwen3-coder")), &t);
    ck_assert(t.thinks && str_eq(t.call_start, STR("<tool_call>\n<function=")));
}
END_TEST

static uint32_t below(struct rng *r, uint32_t n)
{
    return (uint32_t)(rng_next(r) >> 33) % n;
}

/* Pieces of markup in random order: blocks stay well-formed, and any cutting gives the same. */
START_TEST(random_markup)
{
    struct rng rng;
    rng_seed(&rng, 11);
    struct chat_tool tools[N_TOOLS];
    tools_make(tools);
    for (int round = 0; round < 3000; round++) {
        size_t n_rows = 0;
        while (dialect_at(n_rows)) n_rows++;
        const struct dialect *d = dialect_at(below(&rng, (uint32_t)n_rows));
        const char *const *sets[] = {d->think_start, d->think_end, d->section_start, d->section_end,
                                     d->call_start,  d->call_end,  d->fn_open,       d->fn_close,
                                     d->par_open,    d->par_close, d->name_split,    d->drop};
        static const char *const bits[] = {"read",
                                           "now",
                                           "{\"path\": \"a\"}",
                                           "{\"name\": \"read\", \"arguments\": {\"path\": \"b\"}}",
                                           "\n",
                                           ">",
                                           "\"",
                                           "'",
                                           "{",
                                           "}",
                                           "[",
                                           "]",
                                           "(",
                                           ")",
                                           "path=",
                                           ",",
                                           ":",
                                           " text ",
                                           "<",
                                           "\\",
                                           "\\ud800",
                                           "```json\n",
                                           "<|message|>",
                                           "<|channel|>analysis",
                                           " to=functions.now",
                                           "path",
                                           "</arg_key>",
                                           "<arg_value>",
                                           "<|\"|>",
                                           "call:read",
                                           "1e",
                                           "-",
                                           "tru"};
        struct buf raw;
        buf_init(&raw, 1 << 16);
        buf_append(&raw, STR(""));
        for (uint32_t i = below(&rng, 14); i > 0; i--) {
            uint32_t k = below(&rng, 24);
            const char *bit = k < 12 && sets[k][0] ? sets[k][0] : bits[below(&rng, sizeof bits / sizeof *bits)];
            buf_append(&raw, str_from(bit));
        }
        struct dialect_options o = {
            .tools = tools, .n_tools = N_TOOLS, .keep_thinking = true, .in_thinking = below(&rng, 4) == 0};
        struct seen whole, cut;
        bool limit = below(&rng, 2);
        run_cut(&whole, d->name, &o, buf_str(&raw), raw.len ? raw.len : 1, limit);
        for (size_t piece = 1; piece < 8; piece += 2) {
            run_cut(&cut, d->name, &o, buf_str(&raw), piece, limit);
            ck_assert_msg(str_eq(buf_str(&whole.line), buf_str(&cut.line)),
                          "%s%s, pieces of %zu of %s:\n  whole %s\n  cut   %s", d->name,
                          o.in_thinking ? " (thinking)" : "", piece, raw.ptr, whole.line.ptr, cut.line.ptr);
            buf_deinit(&cut.line);
        }
        buf_deinit(&whole.line);
        buf_deinit(&raw);
    }
    for (size_t i = 0; i < N_TOOLS; i++) json_decref(tools[i].schema);
}
END_TEST

START_TEST(plain_text_has_no_markers)
{
    static const char json[] = "{\"a\": \"<think>x</think> <tool_call>{}</tool_call><|end|>[TOOL_CALLS]\"}";
    char raw[200], want[200];
    snprintf(want, sizeof want, "t[%s]", json);
    for (size_t i = 0; dialect_at(i); i++) {
        struct dialect_options o = {.plain_text = true};
        if (strcmp(dialect_name(dialect_at(i)), "harmony") == 0) continue; /* text has a header there */
        check_with(&o, dialect_name(dialect_at(i)), json, want, 0, false);
    }
    struct dialect_options o = {.plain_text = true};
    snprintf(raw, sizeof raw, "<think>\nhm\n</think>\n\n%s", json);
    snprintf(want, sizeof want, "r[hm]t[%s]", json);
    check_with(&o, "hermes", raw, want, 0, false);
}
END_TEST

static void check_without_tools(const char *name, const char *raw, const char *expected)
{
    struct str text = str_from(raw);
    for (size_t piece = text.len; piece > 0; piece--) {
        struct seen s;
        struct dialect_options o = {.keep_thinking = true};
        run_cut(&s, name, &o, text, piece, false);
        ck_assert_msg(str_eq(buf_str(&s.line), str_from(expected)), "%s, pieces of %zu: %s", name, piece, s.line.ptr);
        buf_deinit(&s.line);
    }
}

START_TEST(fences_around_json)
{
    struct dialect_options o = {.json_answer = true};
    check_with(&o, "default", "```json\n{\"a\": \"```\"}\n```", "t[{\"a\": \"```\"}]", 0, false);
    check_with(&o, "default", "```\n[1]\n```\n\n", "t[[1]]", 0, false);
    check_with(&o, "default", "```json\n{\"a\": 1}", "t[{\"a\": 1}]", 0, false);
    check_with(&o, "default", "<think>why</think>```json\n{}\n```", "r[why]t[{}]", 0, false);
    check_with(&o, "default", "{\"a\": 1}", "t[{\"a\": 1}]", 0, false);
    check("default", "```json\n{\"a\": 1}\n```", "t[```json\n{\"a\": 1}\n```]", 0);
    check("default", "```json\n{\"name\": \"now\"}\n```\n```json\n{\"name\": \"now\"}\n```", "c[now {}]c[now {}]", 2);
    check("default", "```json\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\", \"limit\": 1.5}}\n```",
          "t[```json\n{\"name\": \"read\", \"arguments\": {\"path\": \"a\", \"limit\": 1.5}}\n```]", 0);
}
END_TEST

START_TEST(strings_over_several_lines)
{
    check("lfm2", "<|tool_call_start|>[read(path='a\\n\\'b')]<|tool_call_end|>", "c[read {\"path\":\"a\\n'b\"}]", 1);
    check("lfm2", "<|tool_call_start|>[read(path='#x\nprintf(\"\\n\")\n')]<|tool_call_end|>",
          "c[read {\"path\":\"#x\\nprintf(\\\"\\\\n\\\")\\n\"}]", 1);
}
END_TEST

START_TEST(values_that_end_like_a_call)
{
    check("minimax",
          "<minimax:tool_call><invoke name=\"read\"><parameter name=\"path\">x</invoke></parameter></invoke>"
          "</minimax:tool_call>",
          "c[read {\"path\":\"x</invoke>\"}]", 1);
    check("minimax", "<minimax:tool_call><invoke name=\"read\"><parameter name=\"path\">x</invoke></minimax:tool_call>",
          "c[read {\"path\":\"x\"}]", 1);
}
END_TEST

START_TEST(reasoning_at_its_edges)
{
    struct dialect_options opened = {.in_thinking = true, .opened_thinking = STR("Here are my reasoning steps:\n")};
    check_with(&opened, "apriel", "one\n[BEGIN FINAL RESPONSE]\nHi.", "r[Here are my reasoning steps:\none]t[Hi.]", 0,
               false);
    check("apriel", "Here are my reasoning steps:\none\n[BEGIN FINAL RESPONSE]\nHi.",
          "r[Here are my reasoning steps:\none]t[Hi.]", 0);
    check_thinking("default", "why</thi", "r[why]", 0); /* half an end mark */
    check_without_tools("default", "see <tool_call>{\"name\": \"now\"}</tool_call>",
                        "t[see <tool_call>{\"name\": \"now\"}</tool_call>]");
}
END_TEST

START_TEST(hidden_reasoning_that_is_all)
{
    struct dialect_options o = {.in_thinking = true};
    struct seen s;
    run_cut(&s, "default", &o, STR("It is four."), 3, false);
    ck_assert_str_eq(s.line.ptr, "t[It is four.]");
    buf_deinit(&s.line);
    run_cut(&s, "default", &o, STR("Two and two</think>Four."), 3, false);
    ck_assert_str_eq(s.line.ptr, "t[Four.]");
    buf_deinit(&s.line);
    run_cut(&s, "default", &o, STR("Two and"), 3, true); /* cut by a limit: it was reasoning */
    ck_assert_uint_eq(s.line.len, 0);
    buf_deinit(&s.line);
}
END_TEST

static void add_all(TCase *tc)
{
    tcase_add_test(tc, fences_around_json);
    tcase_add_test(tc, strings_over_several_lines);
    tcase_add_test(tc, values_that_end_like_a_call);
    tcase_add_test(tc, reasoning_at_its_edges);
    tcase_add_test(tc, hidden_reasoning_that_is_all);
    tcase_add_test(tc, plain_text_has_no_markers);
    tcase_add_test(tc, plain_text);
    tcase_add_test(tc, json_calls);
    tcase_add_test(tc, json_calls_that_are_broken);
    tcase_add_test(tc, bare_json);
    tcase_add_test(tc, tagged_calls);
    tcase_add_test(tc, calls_and_thinking);
    tcase_add_test(tc, other_shapes);
    tcase_add_test(tc, headers);
    tcase_add_test(tc, forced_and_hidden);
    tcase_add_test(tc, texts_round_trip);
    tcase_add_test(tc, detection);
    tcase_add_test(tc, random_markup);
}

unit_adder add_grammar_tests;

UNIT_MAIN("dialect", add_all, add_grammar_tests)
