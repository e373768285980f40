/* shape: see shape.h. Each probe is one small conversation and the sentinels that must reach the prompt. */
#include "local/shape.h"

#include <stdarg.h>
#include <string.h>

#define PROBE_MAX_BYTES ((size_t)4 << 20)

#define S_SYSTEM "qzsystem"
#define S_USER "qzuser"
#define S_TEXT "qztext"
#define S_TOOL "qztool"
#define S_ABOUT "qzabout"
#define S_ARG "qzarg"
#define S_ARG2 "qzother"
#define S_RESULT "qzresult"
#define S_RESULT2 "qzsecond"
#define S_LATER "qzlater"
#define S_THOUGHT "qzthought"

struct prober {
    shape_render *render;
    void *ctx;
    const struct shape *shape;
};

void shape_type_contents(json_t *turns)
{
    size_t i;
    json_t *turn;
    json_array_foreach(turns, i, turn)
    {
        json_t *content = json_object_get(turn, "content");
        if (json_is_string(content))
            json_object_set_new(turn, "content", json_pack("[{s:s, s:O}]", "type", "text", "text", content));
    }
}

/* Renders and looks for the sentinels, a list that ends in NULL. Takes messages and tools. */
static bool arrives(const struct prober *p, json_t *messages, json_t *tools, bool in_order,
                    const char *const *sentinels)
{
    ptrdiff_t at = 0;
    struct buf text;
    buf_init(&text, PROBE_MAX_BYTES);
    if (p->shape->typed_content) shape_type_contents(messages);
    bool ok = messages && p->render(p->ctx, &text, messages, tools);
    for (; ok && *sentinels; sentinels++) {
        at = str_find(buf_str(&text), str_from(*sentinels), in_order ? (size_t)at : 0);
        ok = at >= 0;
    }
    buf_deinit(&text);
    json_decref(messages);
    json_decref(tools);
    return ok;
}
#define ARRIVES(p, messages, tools, ...) arrives(p, messages, tools, false, (const char *const[]){__VA_ARGS__, NULL})
#define IN_ORDER(p, messages, ...) arrives(p, messages, NULL, true, (const char *const[]){__VA_ARGS__, NULL})

static json_t *turn(const char *role, const char *content)
{
    return json_pack("{s:s, s:s}", "role", role, "content", content);
}

static json_t *list(size_t n, ...)
{
    va_list ap;
    json_t *out = json_array();
    va_start(ap, n);
    for (size_t i = 0; i < n; i++) json_array_append_new(out, va_arg(ap, json_t *));
    va_end(ap);
    return out;
}

static const char *id_of(const struct prober *p, int which)
{
    static const char *const ids[2][2] = {{"toolu_qz01", "toolu_qz02"}, {"qzcall001", "qzcall002"}};
    return ids[p->shape->short_ids][which];
}

static json_t *call(const struct prober *p, int which)
{
    return json_pack("{s:s, s:s, s:{s:s, s:{s:s}}}", "id", id_of(p, which), "type", "function", "function", "name",
                     S_TOOL, "arguments", "key", which ? S_ARG2 : S_ARG);
}

static json_t *calling(const struct prober *p, const char *content, int from, int to)
{
    json_t *calls = json_array();
    for (int i = from; i <= to; i++) json_array_append_new(calls, call(p, i));
    return json_pack("{s:s, s:s, s:o}", "role", "assistant", "content", content, "tool_calls", calls);
}

static json_t *result(const struct prober *p, int which)
{
    return json_pack("{s:s, s:s, s:s, s:s}", "role", "tool", "content", which ? S_RESULT2 : S_RESULT, "tool_call_id",
                     id_of(p, which), "name", S_TOOL);
}

static json_t *tools(const struct prober *p, bool always)
{
    if (!always && !p->shape->tools) return NULL;
    return json_pack("[{s:s, s:{s:s, s:s, s:{s:s, s:{s:{s:s}}}}}]", "type", "function", "function", "name", S_TOOL,
                     "description", S_ABOUT, "parameters", "type", "object", "properties", "key", "type", "string");
}

static void probe_system(const struct prober *p, struct shape *s)
{
    s->system_as_user = !ARRIVES(p, list(2, turn("system", S_SYSTEM), turn("user", S_USER)), NULL, S_SYSTEM, S_USER);
    if (s->system_as_user) {
        s->mid_system_as_user = true;
        return;
    }
    /* In place: a template that gathers them at the head would change the start of the prompt with every reminder. */
    bool mid = IN_ORDER(p,
                        list(6, turn("system", S_SYSTEM), turn("user", S_USER), turn("assistant", S_TEXT),
                             turn("user", "more"), turn("system", S_LATER), turn("assistant", S_RESULT)),
                        S_SYSTEM, S_USER, S_TEXT, S_LATER, S_RESULT) &&
               IN_ORDER(p, list(3, turn("system", S_SYSTEM), turn("user", S_USER), turn("system", S_LATER)), S_SYSTEM,
                        S_USER, S_LATER);
    s->mid_system_as_user = !mid;
}

static bool one_call_arrives(const struct prober *p)
{
    return ARRIVES(p, list(3, turn("user", S_USER), calling(p, "", 0, 0), result(p, 0)), tools(p, false), S_TOOL,
                   S_ARG);
}

static void probe_calls(const struct prober *p, struct shape *s)
{
    s->calls = one_call_arrives(p);
    if (!s->calls) {
        s->short_ids = true;
        s->calls = one_call_arrives(p);
        s->short_ids = s->calls;
    }
    if (!s->calls) return;
    s->results =
        ARRIVES(p, list(3, turn("user", S_USER), calling(p, "", 0, 0), result(p, 0)), tools(p, false), S_RESULT);
    if (ARRIVES(p, list(4, turn("user", S_USER), calling(p, "", 0, 1), result(p, 0), result(p, 1)), tools(p, false),
                S_ARG, S_ARG2, S_RESULT, S_RESULT2))
        return;
    s->one_call = ARRIVES(
        p, list(5, turn("user", S_USER), calling(p, "", 0, 0), result(p, 0), calling(p, "", 1, 1), result(p, 1)),
        tools(p, false), S_ARG, S_ARG2, S_RESULT, S_RESULT2);
}

static void probe_neighbours(const struct prober *p, struct shape *s)
{
    if (s->calls && !ARRIVES(p, list(3, turn("user", S_USER), calling(p, S_TEXT, 0, 0), result(p, 0)), tools(p, false),
                             S_TEXT, S_ARG))
        s->text_apart =
            ARRIVES(p, list(4, turn("user", S_USER), turn("assistant", S_TEXT), calling(p, "", 0, 0), result(p, 0)),
                    tools(p, false), S_TEXT, S_ARG);
    s->text_behind =
        s->calls && !IN_ORDER(p, list(3, turn("user", S_USER), calling(p, S_TEXT, 0, 0), result(p, 0)), S_TEXT, S_ARG);
    s->user_in_result =
        s->results &&
        !ARRIVES(p, list(4, turn("user", S_USER), calling(p, "", 0, 0), result(p, 0), turn("user", S_LATER)),
                 tools(p, false), S_RESULT, S_LATER);
    if (s->calls && !s->system_as_user)
        s->system_as_user = !ARRIVES(p,
                                     list(4, turn("system", S_SYSTEM), turn("user", S_USER), calling(p, "", 0, 0),
                                          s->results ? result(p, 0) : turn("user", S_RESULT)),
                                     tools(p, false), S_SYSTEM, S_USER);
    s->mid_system_as_user = s->mid_system_as_user || s->system_as_user;
    s->raw = ARRIVES(p,
                     list(5, turn("user", S_USER), turn("assistant", S_TEXT),
                          s->results ? result(p, 0) : turn("user", S_RESULT), turn("assistant", S_RESULT2),
                          turn("user", S_LATER)),
                     tools(p, false), S_TEXT, S_RESULT, S_RESULT2, S_LATER);
}

/* Reasoning counts within a tool loop, which is where models need it and where templates keep it. */
static void probe_thinking(const struct prober *p, struct shape *s)
{
    static const char *const keys[] = {"reasoning_content", "thinking", "reasoning"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys && !s->thinking_key; i++) {
        json_t *thinker = s->calls ? calling(p, "", 0, 0) : turn("assistant", S_TEXT);
        json_object_set_new(thinker, keys[i], json_string(S_THOUGHT));
        if (ARRIVES(p, list(3, turn("user", S_USER), thinker, s->results ? result(p, 0) : turn("user", S_LATER)),
                    tools(p, false), S_THOUGHT))
            s->thinking_key = keys[i];
    }
}

static void probe_content(const struct prober *p, struct shape *s)
{
    for (int typed = 0; typed < 2; typed++) {
        s->typed_content = typed > 0;
        if (ARRIVES(p, list(3, turn("user", S_USER), turn("assistant", S_TEXT), turn("user", S_LATER)), NULL, S_USER,
                    S_TEXT, S_LATER))
            return;
    }
    s->typed_content = false;
}

void shape_probe(struct shape *out, shape_render *render, void *ctx)
{
    struct prober p = {render, ctx, out};
    *out = (struct shape){0};
    probe_content(&p, out);
    probe_system(&p, out);
    out->tools = ARRIVES(&p, list(1, turn("user", S_USER)), tools(&p, true), S_TOOL, S_ABOUT, "key");
    probe_calls(&p, out);
    probe_neighbours(&p, out);
    probe_thinking(&p, out);
}

void shape_describe(const struct shape *s, struct buf *out)
{
    const struct {
        bool holds;
        const char *what;
    } rules[] = {
        {s->system_as_user, "system text as user text"},
        {s->mid_system_as_user && !s->system_as_user, "later system turns as user text"},
        {!s->tools, "tools in the system text"},
        {!s->calls, "calls as text"},
        {!s->results, "results as text"},
        {s->one_call, "parallel calls apart"},
        {s->text_apart, "text before calls apart"},
        {s->short_ids, "short call ids"},
        {s->user_in_result, "user text behind a result joins it"},
        {s->typed_content, "contents as lists of parts"},
        {!s->thinking_key, "earlier reasoning is not shown"},
    };
    size_t from = out->len;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].holds) buf_printf(out, "%s%s", out->len > from ? ", " : "", rules[i].what);
    if (out->len == from) buf_append(out, STR("nothing"));
}
