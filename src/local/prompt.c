/* prompt: see prompt.h. The shape of a conversation is chosen once, at load; should the template refuse a conversation
 * all the same, shapes that more templates know are tried. Those depend on the conversation's roles alone, so that a
 * later turn renders its earlier turns with the same bytes. */
#include "local/prompt.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/log.h"
#include "local/replay.h"
#include "local/shape.h"
#include "local/turns.h"

#define MAX_PROMPT_BYTES TURNS_MAX_BYTES
#define N_SHAPES 4

/* ChatML, for models that come without a template. */
static const char chatml[] =
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

struct prompt_maker {
    const struct tokenizer *tokenizer;
    struct jinja *template;
    struct call_memory *memory;
    const struct dialect *dialect;
    struct dialect_traits traits;
    struct tokenizer_info info;
    bool takes_functions;          /* tools as the text "functions" */
    bool thinks, takes_effort;     /* the template knows reasoning, and how much of it */
    struct shape shapes[N_SHAPES]; /* the right one first; behind it what loses less than an error would */
};

static json_t *token_text(const struct prompt_maker *p, uint32_t id)
{
    struct str text = tokenizer_text(p->tokenizer, id);
    return json_stringn(text.ptr ? text.ptr : "", text.len);
}

/* Templates know one of these names each. Earlier reasoning stays where a template can keep it: dropping it would
 * change text that is in the cache. */
static void set_reasoning(json_t *context, bool thinks, const char *effort)
{
    json_object_set_new(context, "enable_thinking", json_boolean(thinks));
    json_object_set_new(context, "thinking", json_boolean(thinks));
    json_object_set_new(context, "preserve_thinking", json_true());
    json_object_set_new(context, "clear_thinking", json_false());
    if (effort) json_object_set_new(context, "reasoning_effort", json_string(effort));
}

/* One family wants its tools as text, and the day. */
static void set_functions(json_t *context, const json_t *tools)
{
    char day[32];
    time_t now = time(NULL);
    struct tm tm;
    char *text = tools ? json_dumps(tools, JSON_INDENT(4)) : NULL;
    gmtime_r(&now, &tm);
    strftime(day, sizeof day, "%Y-%m-%d", &tm);
    json_object_set_new(context, "functions", json_string(text ? text : "[]"));
    json_object_set_new(context, "datetime", json_string(day));
    free(text);
}

/* What every rendering gets. tools may be NULL. */
static json_t *base_context(const struct prompt_maker *p, json_t *messages, json_t *tools)
{
    json_t *context = json_pack("{s:O, s:b, s:o, s:o}", "messages", messages, "add_generation_prompt", 1, "bos_token",
                                token_text(p, p->info.bos), "eos_token", token_text(p, p->info.eos));
    if (context && tools) json_object_set(context, "tools", tools);
    if (context && p->takes_functions) set_functions(context, tools);
    return context;
}

/* ---- creation ---- */

static bool probe_render(void *ctx, struct buf *out, json_t *messages, json_t *tools)
{
    const struct prompt_maker *p = ctx;
    json_t *context = base_context(p, messages, tools);
    struct jinja_limits limits = {.max_output_bytes = out->max_bytes};
    if (context) set_reasoning(context, true, NULL); /* some show earlier reasoning only then */
    bool ok = context && jinja_render(p->template, out, NULL, NULL, context, NULL, &limits, NULL);
    json_decref(context);
    return ok;
}

/* The text's end opens the reasoning. */
static bool text_in_thinking(const struct prompt_maker *p, struct str text)
{
    return p->traits.think_start.len && str_ends(str_trim(text), p->traits.think_start);
}

static void append_think_end(const struct prompt_maker *p, struct buf *out)
{
    buf_append(out, p->traits.think_end);
    buf_append(out, STR("\n\n"));
}

bool prompt_describe(const struct prompt_maker *p, struct buf *out)
{
    buf_printf(out, "dialect %s; put right for the template: ", dialect_name(p->dialect));
    shape_describe(&p->shapes[0], out);
    return !out->failed;
}

static void find_shapes(struct prompt_maker *p)
{
    struct buf rules;
    shape_probe(&p->shapes[0], probe_render, p);
    for (size_t i = 1; i < N_SHAPES; i++) p->shapes[i] = p->shapes[i - 1], p->shapes[i].mid_system_as_user = true;
    p->shapes[2].system_as_user = p->shapes[3].system_as_user = true;
    p->shapes[3].tools = p->shapes[3].calls = p->shapes[3].results = false;
    buf_init(&rules, 4096);
    prompt_describe(p, &rules);
    log_info("chat template: %.*s", STR_ARG(buf_str(&rules)));
    buf_deinit(&rules);
}

/* The dialect has reasoning; whether this model has shows in its template: it opens it, or takes it out of earlier
 * turns. Where messages have headers, reasoning has no markers of its own. */
static bool knows_reasoning(const struct dialect_traits *traits, struct str source)
{
    bool has_start = traits->think_start.len && str_find(source, traits->think_start, 0) >= 0;
    bool has_end = traits->think_end.len && str_find(source, traits->think_end, 0) >= 0;
    return has_start || has_end || (traits->thinks && !traits->think_end.len);
}

static bool choose_dialect(struct prompt_maker *p, struct str name, struct str template_text, struct err *e)
{
    struct buf names;
    p->dialect = name.len ? dialect_find(name) : dialect_detect(template_text);
    if (p->dialect) return true;
    buf_init(&names, 4096);
    for (size_t i = 0; dialect_at(i); i++) buf_printf(&names, "%s%s", i ? ", " : "", dialect_name(dialect_at(i)));
    err_set(e, ERR_INVALID, "no dialect is named \"%.*s\"; there are %.*s", STR_ARG(name), STR_ARG(buf_str(&names)));
    buf_deinit(&names);
    return false;
}

struct prompt_maker *prompt_maker_create(const struct tokenizer *t, struct str template_text, struct str dialect_name,
                                         struct call_memory *memory, struct err *e)
{
    struct prompt_maker *p = mem_zalloc(sizeof *p);
    p->tokenizer = t;
    p->memory = memory;
    tokenizer_info_get(t, &p->info);
    struct str source = template_text.len ? template_text : p->info.chat_template;
    if (source.len == 0) {
        log_warn(
            "the model has no chat template: using ChatML; give one with --chat-template-file if answers look wrong");
        source = str_from(chatml);
    }
    p->template = jinja_compile(source, (struct jinja_options){.trim_blocks = true, .lstrip_blocks = true}, e);
    if (!p->template) err_prefix(e, "chat template: ");
    if (!p->template || !choose_dialect(p, dialect_name, source, e)) {
        prompt_maker_destroy(p);
        return NULL;
    }
    dialect_traits_get(p->dialect, &p->traits);
    p->thinks = knows_reasoning(&p->traits, source);
    p->takes_functions = str_find(source, STR("+ functions"), 0) >= 0;
    p->takes_effort = str_find(source, STR("reasoning_effort"), 0) >= 0;
    find_shapes(p);
    return p;
}

void prompt_maker_destroy(struct prompt_maker *p)
{
    if (!p) return;
    jinja_destroy(p->template);
    mem_free(p);
}

const struct dialect *prompt_dialect(const struct prompt_maker *p)
{
    return p->dialect;
}

bool prompt_thinks(const struct prompt_maker *p)
{
    return p->thinks;
}

void prompt_init(struct prompt *p)
{
    *p = (struct prompt){0};
    buf_init(&p->text, MAX_PROMPT_BYTES);
    buf_init(&p->ahead, MAX_PROMPT_BYTES);
    buf_init(&p->given, MAX_PROMPT_BYTES);
    buf_init(&p->opened_call, MAX_PROMPT_BYTES);
}

void prompt_deinit(struct prompt *p)
{
    buf_deinit(&p->text);
    buf_deinit(&p->ahead);
    buf_deinit(&p->given);
    buf_deinit(&p->opened_call);
    mem_free(p->tainted.items);
    token_runs_clear(&p->runs);
    token_runs_clear(&p->given_runs);
    *p = (struct prompt){0};
}

void prompt_forget_text(struct prompt *p)
{
    buf_deinit(&p->text);
    mem_free(p->tainted.items);
    p->tainted = (struct jinja_spans){0};
    token_runs_clear(&p->runs);
}

static void add_tainted(struct jinja_spans *spans, size_t from, size_t to)
{
    if (from >= to) return;
    spans->items = mem_realloc(spans->items, (spans->n + 1) * sizeof *spans->items);
    spans->items[spans->n++] = (struct jinja_span){from, to};
}

/* ---- rendering ---- */

/* The names that templates know are not the same everywhere; what one does not know, it raises on. The nearest first.
 */
static const char *effort_of(const struct chat_request *req, size_t attempt)
{
    static const struct {
        const char *asked, *names[3];
    } rows[] = {{"low", {"low"}},
                {"medium", {"medium", "high"}},
                {"high", {"high", "xhigh"}},
                {"xhigh", {"xhigh", "high", "max"}},
                {"max", {"max", "xhigh", "high"}}};
    size_t n = sizeof rows / sizeof *rows;
    for (size_t i = 0; i < n; i++)
        if (str_eq(req->effort, str_from(rows[i].asked))) return attempt < 3 ? rows[i].names[attempt] : NULL;
    return NULL;
}

static bool wants_thinking(const struct chat_request *req)
{
    return req->thinking != CHAT_THINKING_OFF;
}

static void forget_render(struct prompt *out)
{
    buf_clear(&out->text);
    mem_free(out->tainted.items);
    out->tainted = (struct jinja_spans){0};
    token_runs_clear(&out->runs);
}

static bool render_shape(const struct prompt_maker *p, struct prompt *out, bool *raised, const struct chat_request *req,
                         const struct shape *shape, const char *effort, struct err *e)
{
    struct turns turns;
    json_t *context =
        turns_init(&turns, req, shape, p->dialect, p->memory) ? base_context(p, turns.list, turns.tools) : NULL;
    bool ok = context != NULL, again = false;
    *raised = false;
    if (ok) {
        struct jinja_limits limits = {.max_output_bytes = MAX_PROMPT_BYTES, .max_memory_bytes = 4 * MAX_PROMPT_BYTES};
        set_reasoning(context, wants_thinking(req), effort);
        ok = jinja_render(p->template, &out->text, &out->tainted, raised, context, NULL, &limits, e);
        enum replay replay = ok ? replay_put(&out->text, &out->tainted, &out->runs, &turns, &p->traits) : REPLAY_DONE;
        again = replay == REPLAY_FAILED;
        if (replay == REPLAY_FULL)
            ok = err_set(e, ERR_TOO_LARGE, "the prompt is larger than %zu bytes", MAX_PROMPT_BYTES);
    } else {
        err_set(e, ERR_TOO_LARGE, "the conversation is larger than %zu bytes", MAX_PROMPT_BYTES);
    }
    json_decref(context);
    turns_deinit(&turns);
    if (!again) return ok;
    struct shape plain = *shape;
    plain.no_stand_ins = true;
    forget_render(out);
    return render_shape(p, out, raised, req, &plain, effort, e);
}

static bool render_some_shape(const struct prompt_maker *p, struct prompt *out, const struct chat_request *req,
                              struct err *e)
{
    bool raised = true;
    struct err first = {0};
    const char *effort = p->takes_effort ? effort_of(req, 0) : NULL;
    for (size_t i = 0, attempt = 0; i < N_SHAPES && raised;) {
        struct err why = {0};
        forget_render(out);
        out->has_effort = effort != NULL;
        if (render_shape(p, out, &raised, req, &p->shapes[i], effort, &why)) return true;
        if (!first.kind) first = why;
        if (effort) effort = effort_of(req, ++attempt);
        else i++;
    }
    if (e) *e = first;
    return err_prefix(e, "the model's chat template refuses this conversation: ");
}

/* ---- what the answer begins with ---- */

/* The template has opened the reasoning, but there shall be none, or the answer has begun behind it already. */
static void close_thinking(const struct prompt_maker *p, struct prompt *out)
{
    out->may_think = false;
    if (!out->in_thinking) return;
    append_think_end(p, &out->text);
    out->in_thinking = false;
}

/* An answer that was cut goes on: as far as the client left it alone its tokens are those that the model wrote. */
static void keep_runs(const struct prompt_maker *p, struct prompt *out, const struct made_text *made)
{
    struct str given = buf_str(&out->given);
    if (made->full.len || !str_starts(buf_str(&made->raw), given)) return;
    for (size_t i = 0; i < made->runs.n; i++) {
        const struct token_run *x = &made->runs.items[i];
        size_t bytes, n;
        if (x->from >= given.len) break;
        n = token_runs_fit(p->tokenizer, made->runs.ids + x->first, x->n, str_slice(given, x->from, given.len),
                           p->traits.calls_are_control, &bytes);
        token_runs_add(&out->given_runs, x->from, x->from + bytes, made->runs.ids + x->first, n);
        if (n < x->n) break;
    }
}

static bool append_prefill(const struct prompt_maker *p, struct prompt *out, const struct chat_request *req)
{
    struct made_text made;
    made_text_init(&made, MAX_PROMPT_BYTES);
    turns_append_prefill(&out->given, &made, req, p->memory);
    if (out->given.len) close_thinking(p, out);
    size_t from = out->text.len;
    bool ok = !out->given.failed && buf_append(&out->text, buf_str(&out->given));
    add_tainted(&out->tainted, from, out->text.len);
    keep_runs(p, out, &made);
    made_text_deinit(&made);
    token_runs_append(&out->runs, &out->given_runs, from);
    return ok;
}

/* The name of the one tool that can be called; empty when there are more. */
static struct str only_tool(const struct chat_request *req)
{
    struct str name = STR_NONE;
    for (size_t i = 0; i < req->n_tools; i++) {
        if (req->tools[i].withheld) continue;
        if (name.len) return STR_NONE;
        name = req->tools[i].name;
    }
    return name;
}

/* A call that the client demands is begun for the model, with the name if there is but one; where the model is to think
 * before, the grammar alone makes sure of it. */
static bool append_forced(const struct prompt_maker *p, struct prompt *out, const struct chat_request *req)
{
    struct str name = req->tool_choice == CHAT_TOOLS_ONE ? req->tool_choice_name : STR_NONE;
    bool is_forced = req->tool_choice == CHAT_TOOLS_ONE || req->tool_choice == CHAT_TOOLS_ANY;
    if (!is_forced || req->n_tools == 0 || p->traits.call_start.len == 0) return true;
    if (out->in_thinking || out->may_think) return true;
    if (req->tool_choice == CHAT_TOOLS_ANY) name = only_tool(req);
    close_thinking(p, out);
    return dialect_opening_text(p->dialect, &out->opened_call, name) &&
           buf_append(&out->text, buf_str(&out->opened_call));
}

/* ---- public to local/ ---- */

/* The end of the text, and how much of that the template wrote. */
static void find_ahead(struct prompt *out)
{
    size_t to = out->text.len - out->opened_call.len - out->given.len, from = to > REPLAY_AHEAD ? to - REPLAY_AHEAD : 0,
           free = to;
    for (size_t i = 0; i < out->tainted.n; i++)
        if (out->tainted.items[i].from < to)
            free = to - (out->tainted.items[i].to < to ? out->tainted.items[i].to : to);
    buf_append(&out->ahead, str_slice(buf_str(&out->text), from, to));
    out->ahead_free = free < out->ahead.len ? free : out->ahead.len;
}

bool prompt_render(const struct prompt_maker *p, struct prompt *out, const struct chat_request *req, struct err *e)
{
    if (!render_some_shape(p, out, req, e)) return false;
    out->in_thinking = text_in_thinking(p, buf_str(&out->text));
    out->may_think = p->thinks && !out->in_thinking;
    if (!wants_thinking(req)) close_thinking(p, out);
    if ((turns_has_prefill(req) && !append_prefill(p, out, req)) || !append_forced(p, out, req) || out->text.failed)
        return err_set(e, ERR_TOO_LARGE, "the prompt is larger than %zu bytes", MAX_PROMPT_BYTES);
    find_ahead(out);
    return true;
}

bool prompt_tokens(const struct prompt_maker *p, struct token_list *ids, struct prompt *out,
                   const struct chat_request *req, struct err *e)
{
    _Static_assert(sizeof(struct jinja_span) == sizeof(struct text_span), "spans are handed on as they are");
    return prompt_render(p, out, req, e) &&
           token_runs_encode(&out->runs, p->tokenizer, ids, buf_str(&out->text),
                             (const struct text_span *)(void *)out->tainted.items, out->tainted.n, e) &&
           tokenizer_add_special(p->tokenizer, ids, e);
}
