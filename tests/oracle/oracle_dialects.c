/* oracle_dialects: what models wrote, through the dialect parser, against the message it stands for: once whole, once
 * byte by byte, in pieces of a few sizes, and in two pieces cut at every byte. Cases that describe another server's own
 * interface are counted as skipped. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "dialect/dialect.h"
#include "oracle.h"

#define MAX_TOOLS 64

struct answer {
    struct buf text, thinking, args;
    json_t *calls; /* [{name, id, arguments}] */
    const char *fault;
    bool open;
    enum chat_block_kind kind;
};
struct set {
    struct oracle_count *count;
    char folder[3000];
};

static const char *string_of(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

static void on_open(struct answer *a, const struct chat_event *ev)
{
    if (a->open) a->fault = "a block opens in an open block";
    a->open = true;
    a->kind = ev->block;
    if (ev->block != CHAT_TOOL_USE) return;
    json_t *call = json_object();
    json_object_set_new(call, "name", json_stringn_nocheck(ev->name.ptr, ev->name.len));
    if (ev->id.len) json_object_set_new(call, "id", json_stringn_nocheck(ev->id.ptr, ev->id.len));
    json_array_append_new(a->calls, call);
    buf_clear(&a->args);
}

static void on_close(struct answer *a, struct str id)
{
    if (!a->open) a->fault = "a block closes that is not open";
    a->open = false;
    if (a->kind != CHAT_TOOL_USE) return;
    json_error_t error;
    json_t *args = a->args.len ? json_loadb(a->args.ptr, a->args.len, JSON_ALLOW_NUL, &error) : NULL;
    if (!json_is_object(args)) a->fault = "the pieces of a call's input are no JSON object";
    json_t *call = json_array_get(a->calls, json_array_size(a->calls) - 1);
    if (id.len) json_object_set_new(call, "id", json_stringn_nocheck(id.ptr, id.len));
    json_object_set_new(call, "arguments", args ? args : json_null());
}

static void sink(void *ctx, const struct chat_event *ev)
{
    struct answer *a = ctx;
    if (ev->kind == CHAT_EVENT_BLOCK_OPEN) on_open(a, ev);
    else if (ev->kind == CHAT_EVENT_BLOCK_CLOSE) on_close(a, ev->id);
    else if (!a->open || a->kind != ev->block) a->fault = "a piece of a block that is not open";
    else if (ev->block == CHAT_TEXT) buf_append(&a->text, ev->text);
    else if (ev->block == CHAT_THINKING) buf_append(&a->thinking, ev->text);
    else buf_append(&a->args, ev->text);
}

/* White space at both ends, the spaces of Unicode that such texts hold included. */
static struct str trimmed(struct str s)
{
    static const char *const wide[] = {"\xc2\xa0", "\xe3\x80\x80"};
    for (size_t before = s.len + 1; before != s.len;) {
        before = s.len;
        s = str_trim(s);
        for (size_t i = 0; i < 2; i++) {
            struct str w = str_from(wide[i]);
            if (str_starts(s, w)) s = str_slice(s, w.len, s.len);
            if (str_ends(s, w)) s.len -= w.len;
        }
    }
    return s;
}

/* Equal as JSON values: 1 and 1.0 are the same number. */
static bool same(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b)) return fabs(json_number_value(a) - json_number_value(b)) < 1e-12;
    if (json_typeof(a) != json_typeof(b)) return false;
    if (json_is_array(a)) {
        if (json_array_size(a) != json_array_size(b)) return false;
        for (size_t i = 0; i < json_array_size(a); i++)
            if (!same(json_array_get(a, i), json_array_get(b, i))) return false;
        return true;
    }
    if (!json_is_object(a)) return json_equal(a, b);
    if (json_object_size(a) != json_object_size(b)) return false;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)a, key, value)
    {
        const json_t *other = json_object_get(b, key);
        if (!other || !same(value, other)) return false;
    }
    return true;
}

static const char *calls_differ(const json_t *got, const json_t *expected)
{
    if (json_array_size(got) != json_array_size(expected)) return "number of calls";
    for (size_t i = 0; i < json_array_size(expected); i++) {
        const json_t *g = json_array_get(got, i), *e = json_array_get(expected, i);
        if (strcmp(string_of(g, "name"), string_of(e, "name"))) return "a call's name";
        if (*string_of(e, "id") && strcmp(string_of(g, "id"), string_of(e, "id"))) return "a call's id";
        const json_t *args = json_object_get(e, "arguments");
        if (args && !same(json_object_get(g, "arguments"), args)) return "a call's arguments";
    }
    return NULL;
}

/* A template may have opened the reasoning already, at the end of the prompt. */
static bool tail_thinks(const struct dialect *d, struct str tail)
{
    struct dialect_traits t;
    ptrdiff_t start = -1, end = -1;
    dialect_traits_get(d, &t);
    if (str_ends(str_trim(tail), STR("Here are my reasoning steps:"))) return true;
    if (!t.think_start.len) return false;
    for (ptrdiff_t at = 0; (at = str_find(tail, t.think_start, (size_t)at)) >= 0; at++) start = at;
    for (ptrdiff_t at = 0; (at = str_find(tail, t.think_end, (size_t)at)) >= 0; at++) end = at;
    return start > end;
}

/* The data's tail of the prompt was cut back where an earlier turn is shown without the words that open the reasoning:
 * asked to think, a model of this family has been given them. */
static bool cut_back(const struct dialect *d, const json_t *line)
{
    struct dialect_traits t;
    dialect_traits_get(d, &t);
    return t.opening_is_text && json_is_true(json_object_get(line, "tail_shortened")) &&
           json_is_true(json_object_get(json_object_get(line, "options"), "enable_thinking"));
}

static size_t tools_of(struct chat_tool tools[MAX_TOOLS], const json_t *line)
{
    const json_t *list = json_object_get(line, "tools");
    size_t n = json_array_size(list) < MAX_TOOLS ? json_array_size(list) : MAX_TOOLS;
    for (size_t i = 0; i < n; i++) {
        const json_t *tool = json_array_get(list, i);
        tools[i] = (struct chat_tool){.name = str_from(string_of(tool, "name")),
                                      .description = str_from(string_of(tool, "description")),
                                      .schema = json_object_get(tool, "parameters")};
    }
    return n;
}

static const char *answer_differs(const struct answer *a, const json_t *line)
{
    const json_t *expected = json_object_get(line, "expected");
    if (a->fault) return a->fault;
    if (!str_eq(trimmed(buf_str(&a->text)), trimmed(str_from(string_of(expected, "content"))))) return "content";
    if (!str_eq(trimmed(buf_str(&a->thinking)), trimmed(str_from(string_of(expected, "reasoning")))))
        return "reasoning";
    return calls_differ(a->calls, json_object_get(expected, "tool_calls"));
}

/* first: bytes of the first piece, piece: of all others. */
static const char *run_cut(const struct dialect *d, const json_t *line, bool thinks, size_t first, size_t piece,
                           struct buf *shown)
{
    struct chat_tool tools[MAX_TOOLS];
    struct answer a = {.calls = json_array()};
    struct dialect_options o = {
        .tools = tools, .n_tools = tools_of(tools, line), .in_thinking = thinks, .keep_thinking = true};
    struct str raw = str_from(string_of(line, "raw_output")), opening = STR("Here are my reasoning steps:\n");
    o.json_answer = json_object_get(json_object_get(line, "options"), "json_schema") != NULL;
    if (thinks && str_ends(str_from(string_of(line, "prompt_tail")), opening)) o.opened_thinking = opening;
    struct dialect_parser *p = dialect_parser_create(d, &o);
    buf_init(&a.text, (size_t)1 << 24);
    buf_init(&a.thinking, (size_t)1 << 24);
    buf_init(&a.args, (size_t)1 << 24);
    for (size_t at = 0, end = first; at < raw.len; at = end, end += piece)
        dialect_parser_feed(p, str_slice(raw, at, end), sink, &a);
    size_t n_text = a.text.len, n_thinking = a.thinking.len;
    bool partial = json_is_true(json_object_get(line, "partial"));
    dialect_parser_finish(p, partial, sink, &a);
    if (a.open) a.fault = "a block is left open";
    const char *what = answer_differs(&a, line);
    if (what && partial) { /* what may still become a marker need not be known yet */
        a.text.len = n_text;
        a.thinking.len = n_thinking;
        what = answer_differs(&a, line);
    }
    if (what && !shown->len) {
        char *calls = json_dumps(a.calls, JSON_COMPACT);
        buf_printf(shown, "%s differs (pieces of %zu and %zu): text \"%.*s\" thinking \"%.*s\" calls %.300s", what,
                   first, piece, STR_ARG(buf_str(&a.text)), STR_ARG(buf_str(&a.thinking)), calls ? calls : "?");
        free(calls);
    }
    dialect_parser_destroy(p);
    buf_deinit(&a.text);
    buf_deinit(&a.thinking);
    buf_deinit(&a.args);
    json_decref(a.calls);
    return what;
}

static const struct dialect *dialect_of(const struct set *set, const json_t *line)
{
    static const char *const names[][2] = {{"functiongemma", "functiongemma"}, {"olmo3", "olmo3"},
                                           {"olmo3-think", "olmo3"},           {"qwen3-vl", "qwen3-vl"},
                                           {"qwen3-vl-thinking", "qwen3-vl"},  {"cogito", "deepseek"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i][0], string_of(line, "dialect"))) return dialect_find(str_from(names[i][1]));
    char path[4096];
    size_t len;
    snprintf(path, sizeof path, "%s/../chat-templates/templates/%s", set->folder, string_of(line, "template"));
    char *text = oracle_read(&len, path);
    if (!text) return NULL;
    const struct dialect *d = dialect_detect((struct str){text, len});
    mem_free(text);
    return d;
}

static void report(struct oracle_count *count, const char *id, const struct dialect *d, const char *shown)
{
    char name[400];
    snprintf(name, sizeof name, "%s [%s]", id, dialect_name(d));
    oracle_fail(count, name, shown ? shown : "?");
}

/* What a template renders for a call must be allowed by the grammar that steers the model. */
static void check_allowed(struct set *set, const struct dialect *d, const json_t *line, bool thinks)
{
    struct chat_tool tools[MAX_TOOLS];
    char what[600], id[300];
    const json_t *expected = json_object_get(line, "expected");
    bool calls = json_array_size(json_object_get(expected, "tool_calls")) > 0;
    if (!calls || strcmp(string_of(line, "origin"), "rendered") ||
        json_is_true(json_object_get(line, "python_literals")))
        return;
    snprintf(id, sizeof id, "grammar of %s [%s]", string_of(line, "id"), dialect_name(d));
    if (oracle_allows(what, sizeof what, d, tools, tools_of(tools, line), thinks,
                      str_from(string_of(line, "raw_output"))))
        set->count->passed++;
    else oracle_fail(set->count, id, what);
}

static void run_case(void *ctx, json_t *line)
{
    struct set *set = ctx;
    struct buf shown;
    const json_t *options = json_object_get(line, "options");
    struct str raw = str_from(string_of(line, "raw_output")), tail = str_from(string_of(line, "prompt_tail"));
    const struct dialect *d = dialect_of(set, line);
    if (!d) {
        oracle_fail(set->count, string_of(line, "id"), "no template and no known dialect");
        return;
    }
    struct dialect_traits t;
    dialect_traits_get(d, &t);
    bool thinks = tail_thinks(d, tail) || !strcmp(string_of(line, "starts_in"), "thinking") || cut_back(d, line);
    bool marked =
        thinks || (t.think_end.len && str_find(raw, t.think_end, 0) >= 0) || str_find(raw, STR("<|channel"), 0) >= 0;
    bool none = !strcmp(string_of(options, "reasoning_format"), "none") && marked;
    if (json_object_get(line, "continues") || none) { /* another server's own interface */
        set->count->skipped++;
        return;
    }
    buf_init(&shown, (size_t)1 << 20);
    const size_t pieces[] = {raw.len ? raw.len : 1, 1, 2, 3, 5, 7, 16};
    bool ok = true;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        if (run_cut(d, line, thinks, pieces[i], pieces[i], &shown)) ok = false;
    for (size_t cut = 1; ok && cut < raw.len; cut++)
        if (run_cut(d, line, thinks, cut, raw.len, &shown)) ok = false;
    check_allowed(set, d, line, thinks);
    if (ok) {
        set->count->passed++;
    } else {
        report(set->count, string_of(line, "id"), d, shown.ptr);
    }
    buf_deinit(&shown);
}

/* How the raw text of one parameter becomes a value: as a call in the XML form with one parameter. */
static void run_value(void *ctx, json_t *line)
{
    struct set *set = ctx;
    struct buf raw, shown;
    buf_init(&raw, (size_t)1 << 20);
    buf_init(&shown, (size_t)1 << 20);
    buf_append(&raw, STR("<tool_call>\n<function=f>\n<parameter=x>"));
    buf_append(&raw, str_from(string_of(line, "raw")));
    buf_append(&raw, STR("</parameter>\n</function>\n</tool_call>"));
    json_t *schema = json_object_size(line) && json_array_size(json_object_get(line, "types"))
                         ? json_pack("{s:O}", "type", json_object_get(line, "types"))
                         : json_object();
    json_t *test =
        json_pack("{s:[{s:s,s:{s:{s:o}}}],s:s,s:{s:s,s:s,s:[{s:s,s:{s:O}}]}}", "tools", "name", "f", "parameters",
                  "properties", "x", schema, "raw_output", raw.ptr, "expected", "content", "", "reasoning", "",
                  "tool_calls", "name", "f", "arguments", "x", json_object_get(line, "value"));
    bool ok = test != NULL;
    for (size_t piece = 1; ok && piece < 400; piece *= 3)
        if (run_cut(dialect_find(STR("qwen3-coder")), test, false, piece, piece, &shown)) ok = false;
    if (ok) set->count->passed++;
    else report(set->count, string_of(line, "id"), dialect_find(STR("qwen3-coder")), shown.ptr);
    json_decref(test);
    buf_deinit(&raw);
    buf_deinit(&shown);
}

bool oracle_dialects(const char *data_dir, struct oracle_count *count)
{
    static const char *const files[] = {"llama.cpp", "ollama", "rendered"};
    struct set set = {.count = count};
    bool read = true;
    snprintf(set.folder, sizeof set.folder, "%s", data_dir);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct oracle_count before = *count;
        read = oracle_each_line(data_dir, files[i], run_case, &set) && read;
        printf("  %s: %zu passed, %zu failed, %zu skipped\n", files[i], count->passed - before.passed,
               count->failed - before.failed, count->skipped - before.skipped);
    }
    char values[4096];
    snprintf(values, sizeof values, "%s/values", data_dir);
    oracle_each_line(values, "qwen3-coder", run_value, &set);
    return read;
}
