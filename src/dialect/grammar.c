/* grammar: a row of the table as what the model may write. Put together from the end to the beginning, so each function
 * takes the place that follows. Where the parser reads liberally (order of keys, fences, missing marks), one spelling
 * is allowed: that in which the family writes. */
#include "grammar/grammar.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "dialect/dialect_internal.h"

#define NOWHERE GRAMMAR_NOWHERE
#define MAX_TRIGGERS 96
#define MAX_ARGUMENTS_FIRST 16
#define SPACE "[ \\t\\r\\n]{0,20}"

struct maker {
    const struct dialect *d;
    const struct dialect_grammar_options *o;
    struct grammar *g;
    struct err *e, refusal; /* refusal: of a strict tool; it wins over what follows from it */
    struct str *names;      /* of the tools that may be called */
    const struct chat_tool **tools;
    size_t n;
    uint32_t *places;             // [n] for the caller of grammar_put_texts
    uint32_t *args;               // [n] rules of the arguments, made when first used like those below
    uint32_t object, object_tail; /* a call as an object; the same from behind "name" */
    struct grammar_form form;     /* of the arguments, where has_form */
    bool has_form;
    struct arena *arena;
    struct grammar_trigger triggers[MAX_TRIGGERS];
    size_t n_triggers;
};

/* ---- small parts ---- */

/* Literal text in which each blank stands for white space of any kind. */
static uint32_t spaced(struct maker *m, const char *text, uint32_t next)
{
    struct buf b;
    if (!text[0]) return next;
    buf_init(&b, 1 << 16);
    buf_append_char(&b, '^');
    for (const char *c = text; *c; c++) {
        bool word = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
                    (unsigned char)*c >= 0x80 || *c == '_' || *c == '"' || *c == ':' || *c == ',' || *c == '<' ||
                    *c == '>';
        if (*c == ' ') buf_append(&b, STR(SPACE));
        else if (word) buf_append_char(&b, *c);
        else buf_printf(&b, "\\%c", *c);
    }
    buf_append_char(&b, '$');
    uint32_t at = grammar_put_regex(m->g, buf_str(&b), next, m->e);
    buf_deinit(&b);
    return at;
}

/* A marker of the row, as text or as the control token of that text. */
static uint32_t marker(struct maker *m, const char *text, uint32_t next)
{
    uint32_t plain = grammar_put_text(m->g, str_from(text), next);
    if (!m->d->control || !text || text[0] == '\0') return plain;
    char control = GRAMMAR_CONTROL;
    uint32_t places[2] = {plain, grammar_put_text(m->g, (struct str){&control, 1}, plain)};
    return grammar_put_choice(m->g, places, 2);
}

static uint32_t either(struct maker *m, uint32_t a, uint32_t b)
{
    return grammar_put_choice(m->g, (uint32_t[]){a, b}, 2);
}

static void trigger(struct maker *m, const char *text, bool at_start, uint32_t target)
{
    if (!text || !text[0] || m->n_triggers == MAX_TRIGGERS || target == NOWHERE) return;
    for (size_t i = 0; i < m->n_triggers; i++)
        if (str_eq(m->triggers[i].text, str_from(text))) return;
    m->triggers[m->n_triggers++] = (struct grammar_trigger){str_from(text), target, at_start};
}

/* ---- arguments ---- */

static struct str join(struct maker *m, const char *a, const char *b, const char *c)
{
    size_t size = strlen(a) + strlen(b) + strlen(c) + 1;
    char *s = arena_try_alloc(m->arena, size);
    if (!s) return STR("?");
    snprintf(s, size, "%s%s%s", a, b, c);
    return str_from(s);
}

static bool has_attributes(const struct dialect *d)
{
    return str_ends(str_from(d->fn_open[0]), STR("name="));
}

static void tagged_form(struct maker *m)
{
    const struct dialect *d = m->d;
    struct grammar_form *f = &m->form;
    const char *quote = has_attributes(d) ? "\"" : "", *line = d->newlines ? "\n" : "";
    size_t n = 0;
    f->tagged = f->words = true;
    f->keeps_newline = d->newlines;
    f->key_open = join(m, FORM_SPACE, d->par_open[0], quote);
    f->key_close = join(m, quote, d->typed_tags ? " string=\"true\"" : "", join(m, d->par_head_end, line, "").ptr);
    if (d->syntax == CALL_KEYED) f->key_close = join(m, d->par_head_end, FORM_SPACE, d->val_open);
    if (d->typed_tags) f->key_close_other = join(m, quote, " string=\"false\"", d->par_head_end);
    f->value_close = join(m, line, d->par_close[0], "");
    for (size_t i = 0; i < ROW_WORDS && d->par_close[i] && n < FORM_FORBIDDEN; i++)
        f->forbidden[n++] = str_from(d->par_close[i]);
    for (size_t i = 0; i < ROW_WORDS && d->par_stop[i] && n < FORM_FORBIDDEN; i++)
        f->forbidden[n++] = str_from(d->par_stop[i]);
}

/* How arguments are written that are no JSON object. */
static void find_form(struct maker *m)
{
    const struct dialect *d = m->d;
    struct grammar_form *f = &m->form;
    f->control = d->control;
    m->has_form = true;
    if ((d->par_open[0] && !d->writes_json) || d->syntax == CALL_KEYED) {
        tagged_form(m);
    } else if (d->syntax == CALL_PYTHON) {
        f->key_close = STR("=");
        f->between = STR(", ");
        f->words = f->quotes = true;
    } else if (d->quote) {
        f->words = true;
        f->key_close = STR(":");
        f->between = STR(",");
        f->close = STR("}");
        f->quote = f->forbidden[0] = str_from(d->quote);
        f->braces = f->nested = true;
    } else {
        m->has_form = false;
    }
}

/* A required name that this form has no way to write, or NULL. */
static const char *unwritable(const struct maker *m, const json_t *schema)
{
    size_t i;
    json_t *item;
    json_array_foreach(json_object_get(schema, "required"), i, item)
    {
        const char *name = json_string_value(item);
        if (!m->has_form || !name) continue;
        bool ok = m->form.tagged
                      ? *name && *name != ' ' && !strpbrk(name, "<>\"'/\n\r\t")
                      : *name && !(*name >= '0' && *name <= '9') && !strpbrk(name, " ,:=(){}[]<>\"'\n\r\t;/\\`");
        if (!ok) return name;
    }
    return NULL;
}

/* A tool's schema as one of an object, whatever it says. */
static char *object_schema(const json_t *schema)
{
    json_t *copy = json_is_object(schema) ? json_copy((json_t *)(uintptr_t)schema) : json_object();
    json_object_set_new(copy, "type", json_string("object"));
    char *text = json_dumps(copy, JSON_COMPACT | JSON_REAL_PRECISION(15)); /* 0.1 stays 0.1 */
    json_decref(copy);
    return text;
}

static uint32_t put_arguments(struct maker *m, const json_t *schema, bool strict, const char *where, uint32_t next)
{
    char *text = object_schema(schema);
    uint32_t at = NOWHERE;
    if (text && m->has_form) at = grammar_put_form(m->g, str_from(text), &m->form, strict, where, next, m->e);
    else if (text) at = grammar_put_value(m->g, str_from(text), strict, where, next, m->e);
    free(text);
    return at;
}

static uint32_t arguments_rule(struct maker *m, size_t i)
{
    char where[64];
    const struct chat_tool *tool = m->tools[i];
    const char *bad = unwritable(m, tool->schema);
    uint32_t back = grammar_put_return(m->g), at;
    snprintf(where, sizeof where, "tools.%zu.input_schema", (size_t)(tool - m->o->tools));
    if (bad && tool->strict) {
        err_set(&m->refusal, ERR_INVALID, "%s.required: \"%s\" cannot be written in this model's calls", where, bad);
        return NOWHERE;
    }
    if (bad) grammar_put_note(m->g, "%s.required: \"%s\" cannot be written in this model's calls", where, bad);
    at = put_arguments(m, bad ? NULL : tool->schema, tool->strict, where, back);
    if (at == NOWHERE || grammar_put_fits(m->g, at)) return at;
    if (tool->strict) {
        err_set(&m->refusal, ERR_INVALID, "%s: no input satisfies the schema", where);
        return NOWHERE;
    }
    grammar_put_note(m->g, "%s: no input satisfies the schema: any object is allowed", where);
    return put_arguments(m, NULL, false, where, back);
}

static uint32_t arguments(struct maker *m, size_t i, uint32_t next)
{
    if (m->args[i] == NOWHERE) m->args[i] = arguments_rule(m, i);
    return grammar_put_call(m->g, m->args[i], next);
}

/* NAME separator ARGUMENTS, for every tool that may be called. head: between name and arguments, as `spaced`. */
static uint32_t named(struct maker *m, const char *prefix, const char *head, uint32_t next)
{
    for (size_t i = 0; i < m->n; i++) m->places[i] = spaced(m, head, arguments(m, i, next));
    return spaced(m, prefix, grammar_put_texts(m->g, m->names, m->places, m->n));
}

/* ---- a call as an object ---- */

/* {"id": "..."} at either end. */
static uint32_t id_member(struct maker *m, const char *key, const char *before, const char *after, uint32_t next)
{
    char text[64];
    next = grammar_put_regex(m->g, STR("^[A-Za-z0-9_.:-]{1,64}$"), spaced(m, after, next), m->e);
    snprintf(text, sizeof text, "%s\"%s\" : \"", before, key);
    return spaced(m, text, next);
}

/* The rule from behind the key of the name on: : "NAME", "arguments": {...}} */
static uint32_t object_tail(struct maker *m)
{
    const struct dialect *d = m->d;
    if (m->object_tail != NOWHERE) return m->object_tail;
    char head[80];
    uint32_t back = grammar_put_return(m->g), last = spaced(m, " }", back);
    if (d->json_key_is_name) return m->object_tail = named(m, "", "\" : ", last);
    if (d->id_last) last = either(m, last, id_member(m, d->id_last, " , ", "\" }", back));
    snprintf(head, sizeof head, "\" , \"%s\" : ", d->args_key ? d->args_key : "arguments");
    m->object_tail = named(m, " : \"", head, last);
    return m->object_tail;
}

static const char *name_key(const struct maker *m)
{
    return m->d->name_key ? m->d->name_key : "name";
}

/* What may stand between { and the key of the name. */
static uint32_t object_lead(struct maker *m, uint32_t tail)
{
    char key[80];
    snprintf(key, sizeof key, "\"%s\"", name_key(m));
    uint32_t at = spaced(m, key, tail);
    if (m->d->id_first) at = either(m, at, id_member(m, m->d->id_first, "", "\" , ", at));
    return either(m, at, spaced(m, "\"type\" : \"function\" , ", at));
}

/* "arguments" before "name", as some write it: every tool's arguments are followed until the name decides. */
static uint32_t arguments_first(struct maker *m)
{
    uint32_t all = NOWHERE, end = spaced(m, "\" }", grammar_put_return(m->g));
    for (size_t i = 0; i < m->n; i++) {
        uint32_t at = grammar_put_text(m->g, m->names[i], end);
        all = either(m, all, arguments(m, i, spaced(m, " , \"name\" : \"", at)));
    }
    return spaced(m, "\"arguments\" : ", all);
}

/* The rule of a whole object. */
static uint32_t object(struct maker *m)
{
    if (m->object != NOWHERE) return m->object;
    uint32_t tail = object_tail(m);
    if (m->d->json_key_is_name) return m->object = spaced(m, "{ \"", tail);
    uint32_t lead = object_lead(m, tail);
    if (m->d->args_may_lead && m->n <= MAX_ARGUMENTS_FIRST) lead = either(m, lead, arguments_first(m));
    return m->object = spaced(m, "{ ", lead);
}

/* Behind the last or only object of a list. */
static uint32_t list_rest(struct maker *m, uint32_t next)
{
    uint32_t close = spaced(m, " ]", next);
    if (m->o->single) return close;
    uint32_t link = grammar_put_link(m->g);
    uint32_t rest = either(m, close, spaced(m, " , ", grammar_put_call(m->g, object(m), link)));
    grammar_set_link(m->g, link, rest);
    return rest;
}

static uint32_t objects(struct maker *m, uint32_t next, uint32_t after_list)
{
    uint32_t one = NOWHERE, list = NOWHERE;
    if (m->d->list != LIST_ALWAYS) one = grammar_put_call(m->g, object(m), next);
    if (m->d->list != LIST_NEVER) list = spaced(m, "[ ", grammar_put_call(m->g, object(m), list_rest(m, after_list)));
    return either(m, one, list);
}

/* ---- between the marks of one call ---- */

static uint32_t one_end(struct maker *m, uint32_t next)
{
    const struct dialect *d = m->d;
    if (!d->call_end[0]) return next;
    return spaced(m, " ", marker(m, d->call_end[0], next));
}

/* NAME separators {arguments}; the last separator stands before the arguments. */
static uint32_t named_call(struct maker *m, uint32_t next)
{
    const struct dialect *d = m->d;
    uint32_t all = NOWHERE, fenced = NOWHERE;
    const char *strip = d->name_strip[0];
    size_t last = 0;
    while (last + 1 < ROW_WORDS && d->name_split[last + 1]) last++;
    if (d->kind_first) { /* function<sep>NAME, newline, fence */
        fenced = spaced(m, " ", grammar_put_text(m->g, STR("\n```"), next));
        for (size_t i = 0; i < m->n; i++)
            m->places[i] = grammar_put_text(m->g, STR("\n```json\n"), arguments(m, i, fenced));
        fenced = grammar_put_texts(m->g, m->names, m->places, m->n);
        fenced = grammar_put_text(m->g, STR("function"), marker(m, d->name_split[0], fenced));
        last = 0;
    }
    for (size_t i = 0; i < m->n; i++) {
        uint32_t args = spaced(m, " ", arguments(m, i, next)), at = marker(m, d->name_split[last], args);
        if (d->id_is_head) at = grammar_put_regex(m->g, STR("^:[0-9]{1,4}$"), at, m->e);
        if (d->id_mark)
            at = either(m, at, marker(m, d->id_mark, grammar_put_regex(m->g, STR("^[A-Za-z0-9]{9}$"), at, m->e)));
        m->places[i] = at;
    }
    all = grammar_put_texts(m->g, m->names, m->places, m->n);
    if (strip) all = grammar_put_text(m->g, str_from(strip), all);
    return either(m, all, fenced);
}

/* <function=NAME>, arguments of any form, </function>; from behind its opening literal on. */
static uint32_t function_call(struct maker *m, uint32_t next)
{
    bool attributes = has_attributes(m->d);
    uint32_t close = spaced(m, " ", marker(m, m->d->fn_close[0], next));
    return named(m, attributes ? "\"" : "", attributes ? "\">" : m->has_form ? ">" : "> ", close);
}

/* NAME, then pairs of tags. */
static uint32_t keyed_call(struct maker *m, uint32_t next)
{
    const char *separator = m->d->drop[0]; /* stands behind the name where the family has one */
    for (size_t i = 0; i < m->n; i++) {
        uint32_t at = arguments(m, i, next);
        m->places[i] = separator ? marker(m, separator, at) : at;
    }
    return grammar_put_texts(m->g, m->names, m->places, m->n);
}

/* NAME(key=value, ...), several of them in a list or one a line. */
static uint32_t python_calls(struct maker *m, uint32_t next)
{
    bool list = m->d->list == LIST_ALWAYS;
    uint32_t more = m->o->single ? NOWHERE : grammar_put_link(m->g);
    uint32_t last = list ? spaced(m, " ]", next) : next;
    uint32_t after = either(m, last, spaced(m, list ? " , " : " ", more));
    uint32_t one = named(m, "", "(", spaced(m, ")", after));
    if (more != NOWHERE) grammar_set_link(m->g, more, one);
    return list ? spaced(m, "[ ", one) : one;
}

/* Behind the marker of a call, up to and with its end mark. */
static uint32_t call_body(struct maker *m, uint32_t next)
{
    const struct dialect *d = m->d;
    uint32_t end = one_end(m, next), all = NOWHERE;
    if (m->form.tagged && d->syntax == CALL_JSON)
        return spaced(m, " ", marker(m, d->fn_open[0], function_call(m, end)));
    if (d->syntax == CALL_KEYED) return spaced(m, " ", keyed_call(m, end));
    if (d->syntax == CALL_PYTHON) return spaced(m, " ", python_calls(m, end));
    if (d->syntax == CALL_JSON || d->list != LIST_NEVER) all = spaced(m, " ", objects(m, end, end));
    if (d->syntax == CALL_NAMED) all = either(m, all, named_call(m, end));
    return all;
}

/* ---- calls with their marks ---- */

/* One marked call and what follows it; its markers become triggers of free text. */
static uint32_t marked_call(struct maker *m, uint32_t next, bool triggers)
{
    const struct dialect *d = m->d;
    uint32_t all = NOWHERE, body;
    if (d->call_start[0]) {
        body = call_body(m, next);
        for (size_t i = 0; i < ROW_WORDS && d->call_start[i]; i++) {
            all = either(m, all, marker(m, d->call_start[i], body));
            if (triggers) trigger(m, d->call_start[i], false, body);
        }
    }
    if (d->fn_open[0] && !d->writes_json) {
        uint32_t close = d->call_end[0] && d->par_open[0] ? spaced(m, " ", marker(m, d->call_end[0], next)) : NOWHERE;
        body = function_call(m, either(m, next, close));
        all = either(m, all, marker(m, d->fn_open[0], body));
        if (triggers) trigger(m, d->fn_open[0], false, body);
    }
    return all;
}

/* {"name", in the spellings that begin an answer that is a call; in any other it is free text. */
static void bare_triggers(struct maker *m, uint32_t next, uint32_t after)
{
#define BARE(space)                                       \
    {"{" space "\"name\"", 0}, {"{" space "\"type\"", 1}, \
    {                                                     \
        "[{" space "\"name\"", 2                          \
    }
    static const struct {
        const char *text;
        int form;
    } forms[] = {BARE(""), BARE(" "), BARE("\n"), BARE("\n  "), BARE("\n    "), BARE("\n\t")};
    uint32_t places[3] = {grammar_put_call(m->g, object_tail(m), next), NOWHERE, NOWHERE};
    places[1] = spaced(m, " : \"function\" , \"name\"", places[0]);
    if (m->d->list != LIST_NEVER) places[2] = grammar_put_call(m->g, object_tail(m), list_rest(m, after));
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) trigger(m, forms[i].text, true, places[forms[i].form]);
}

/* Calls with everything around them; `after` follows the last. With triggers, free text finds them, too. */
static uint32_t calls(struct maker *m, uint32_t after, bool triggers)
{
    const struct dialect *d = m->d;
    bool section = d->section_start[0] != NULL;
    uint32_t more = m->o->single ? NOWHERE : grammar_put_link(m->g), next = after, all;
    if (section) {
        uint32_t ends = NOWHERE;
        for (size_t i = 0; i < ROW_WORDS && d->section_end[i]; i++)
            ends = either(m, ends, marker(m, d->section_end[i], after));
        next = spaced(m, " ", ends);
    }
    if (more != NOWHERE) next = either(m, next, more);
    all = marked_call(m, next, triggers);
    if (d->bare_json && !section) {
        all = either(m, all, objects(m, next, after));
        if (triggers) bare_triggers(m, next, after);
    }
    if (all == NOWHERE) return all;
    if (more != NOWHERE) grammar_set_link(m->g, more, spaced(m, " ", all));
    if (!section) return all;
    uint32_t inside = spaced(m, " ", all);
    all = NOWHERE;
    for (size_t i = 0; i < ROW_WORDS && d->section_start[i]; i++) {
        all = either(m, all, marker(m, d->section_start[i], inside));
        if (triggers) trigger(m, d->section_start[i], false, inside);
    }
    return all;
}

/* ---- messages with headers ---- */

/* Harmony: to=functions.NAME before or behind the channel, then the content's type, then the arguments. */
static uint32_t harmony_call(struct maker *m)
{
    uint32_t end = grammar_put_end(m->g), before, behind;
    end = either(m, end, marker(m, "<|call|>", end));
    for (size_t i = 0; i < m->n; i++) {
        uint32_t body = marker(m, "<|message|>", arguments(m, i, end));
        uint32_t typed = grammar_put_text(m->g, STR("json"), body);
        typed = either(m, typed, marker(m, "<|constrain|>", typed));
        typed = either(m, body, grammar_put_text(m->g, STR(" "), typed));
        m->places[i] = either(m, typed, marker(m, "<|channel|>", grammar_put_text(m->g, STR("commentary"), typed)));
    }
    before = grammar_put_texts(m->g, m->names, m->places, m->n);
    before = grammar_put_text(m->g, STR(" to=functions."), before);
    behind = marker(m, "<|channel|>", grammar_put_text(m->g, STR("commentary"), before));
    return either(m, before, behind);
}

static uint32_t harmony_text(struct maker *m, const char *channel, uint32_t body)
{
    uint32_t at = grammar_put_text(m->g, str_from(channel), marker(m, "<|message|>", body));
    return marker(m, "<|channel|>", at);
}

static uint32_t harmony(struct maker *m, uint32_t value)
{
    static const char *const next_words[] = {"<|end|>", NULL};
    bool forced = m->o->choice == CHAT_TOOLS_ANY || m->o->choice == CHAT_TOOLS_ONE;
    uint32_t head = grammar_put_link(m->g), all = m->n ? harmony_call(m) : NOWHERE, text;
    uint32_t start = marker(m, "<|start|>", grammar_put_text(m->g, STR("assistant"), head));
    struct grammar_trigger over[] = {{str_from(next_words[0]), start, false}};
    text = grammar_put_free(m->g, over, 1, false);
    if (m->o->may_think || m->o->in_thinking) all = either(m, all, harmony_text(m, "analysis", text));
    if (!forced) {
        uint32_t final = value != NOWHERE ? value : grammar_put_free(m->g, NULL, 0, true);
        all = either(m, all, harmony_text(m, "final", final));
        if (m->n && value == NOWHERE) all = either(m, all, harmony_text(m, "commentary", text));
    }
    grammar_set_link(m->g, head, all);
    return m->o->in_thinking ? text : head;
}

/* to=NAME and the call in tags; to=self: reasoning; to=user: text. One message each. */
static uint32_t recipients(struct maker *m, uint32_t value)
{
    const struct dialect *d = m->d;
    bool forced = m->o->choice == CHAT_TOOLS_ANY || m->o->choice == CHAT_TOOLS_ONE;
    uint32_t head = grammar_put_link(m->g), end = grammar_put_end(m->g), all = NOWHERE;
    uint32_t start = marker(m, "<|start|>", grammar_put_text(m->g, STR("assistant"), head));
    uint32_t after = m->o->single ? end : either(m, end, marker(m, "<|eom|>", start));
    after = spaced(m, " ", marker(m, d->section_end[0], after));
    for (size_t i = 0; i < m->n; i++) {
        struct str open = join(m, d->fn_open[0], "\"", "");
        uint32_t call = arguments(m, i, spaced(m, " ", marker(m, d->fn_close[0], after)));
        call = grammar_put_text(m->g, m->names[i], grammar_put_text(m->g, STR("\">"), call));
        call = spaced(m, " ", marker(m, open.ptr, call));
        m->places[i] = marker(m, "<|message|>", marker(m, d->section_start[0], call));
    }
    if (m->n) all = grammar_put_texts(m->g, m->names, m->places, m->n);
    struct grammar_trigger over[] = {{STR("<|eom|>"), start, false}};
    uint32_t think = grammar_put_free(m->g, over, 1, false);
    uint32_t text = value != NOWHERE ? value : grammar_put_free(m->g, over, 1, true);
    if (m->o->may_think || m->o->in_thinking)
        all = either(m, all, grammar_put_text(m->g, STR("self"), marker(m, "<|message|>", think)));
    if (!forced) all = either(m, all, grammar_put_text(m->g, STR("user"), marker(m, "<|message|>", text)));
    grammar_set_link(m->g, head, grammar_put_text(m->g, STR(" to="), all));
    return m->o->in_thinking ? think : head;
}

/* >>>NAME and a newline, then the arguments; >>>all, then text. The prompt ends in the first >>>. */
static uint32_t name_lines(struct maker *m, uint32_t value)
{
    bool forced = m->o->choice == CHAT_TOOLS_ANY || m->o->choice == CHAT_TOOLS_ONE;
    uint32_t more = grammar_put_link(m->g), end = grammar_put_end(m->g), call = NOWHERE, head;
    uint32_t after = m->o->single ? end : either(m, end, spaced(m, " ", grammar_put_text(m->g, STR(">>>"), more)));
    for (size_t i = 0; i < m->n; i++)
        m->places[i] = grammar_put_text(m->g, STR("\n"), spaced(m, " ", arguments(m, i, after)));
    if (m->n) call = grammar_put_texts(m->g, m->names, m->places, m->n);
    struct grammar_trigger calls[] = {{STR("\n>>>"), call, false}};
    uint32_t text = value != NOWHERE ? value : grammar_put_free(m->g, calls, call == NOWHERE ? 0 : 1, true);
    grammar_set_link(m->g, more, call == NOWHERE ? end : call);
    head = forced ? call : either(m, call, grammar_put_text(m->g, STR("all\n"), text));
    return either(m, head, grammar_put_text(m->g, STR(">>>"), head));
}

/* ---- the whole answer ---- */

/* Reasoning up to its end mark, then `after`; where the family calls from inside of it, up to a call. */
static uint32_t thinking(struct maker *m, uint32_t after, bool may_end)
{
    struct grammar_trigger list[MAX_TRIGGERS + ROW_WORDS];
    size_t n = 0;
    for (size_t i = 0; i < ROW_WORDS && m->d->think_end[i]; i++)
        list[n++] = (struct grammar_trigger){str_from(m->d->think_end[i]), after, false};
    for (size_t i = 0; i < m->n_triggers && m->d->calls_in_thinking; i++)
        if (!m->triggers[i].at_start) list[n++] = m->triggers[i];
    return grammar_put_free(m->g, list, n, may_end);
}

static uint32_t with_thinking(struct maker *m, uint32_t answer, bool may_end)
{
    const struct dialect *d = m->d;
    bool thinks = d->think_end[0] != NULL;
    if (!thinks || (!m->o->in_thinking && !m->o->may_think)) return answer;
    uint32_t think = thinking(m, answer, may_end), start = NOWHERE;
    if (m->o->in_thinking) return think;
    for (size_t i = 0; i < ROW_WORDS && d->think_start[i] && d->think_start[i][0]; i++)
        start = either(m, start, marker(m, d->think_start[i], think));
    return either(m, answer, spaced(m, " ", start));
}

static uint32_t free_answer(struct maker *m)
{
    uint32_t text = grammar_put_link(m->g), end = grammar_put_end(m->g), think;
    calls(m, m->o->single ? end : either(m, end, text), true);
    if (m->o->in_thinking || m->o->may_think) {
        think = thinking(m, text, true);
        for (size_t i = 0; i < ROW_WORDS && m->d->think_start[i]; i++)
            trigger(m, m->d->think_start[i], !m->d->think_anywhere, think);
    }
    grammar_set_link(m->g, text, grammar_put_free(m->g, m->triggers, m->n_triggers, true));
    return m->o->in_thinking && m->d->think_end[0] ? think : text;
}

static uint32_t answer(struct maker *m)
{
    const struct dialect_grammar_options *o = m->o;
    uint32_t end = grammar_put_end(m->g), value = NOWHERE, call = NOWHERE;
    bool forced = o->choice == CHAT_TOOLS_ANY || o->choice == CHAT_TOOLS_ONE;
    if (o->output_schema && !forced) {
        char *text = json_dumps(o->output_schema, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
        if (!text) return NOWHERE;
        value = grammar_put_value(m->g, str_from(text), true, o->output_where, spaced(m, " ", end), m->e);
        value = spaced(m, " ", value);
        free(text);
        if (value == NOWHERE) return value;
    }
    if (m->d->header == HEADER_HARMONY) return harmony(m, value);
    if (m->d->header == HEADER_RECIPIENT) return recipients(m, value);
    if (m->d->header == HEADER_NAME_LINE) return name_lines(m, value);
    if (!forced && value == NOWHERE) return free_answer(m);
    if (m->n) call = calls(m, end, true);
    return with_thinking(m, either(m, value, call == NOWHERE ? call : spaced(m, " ", call)), false);
}

static bool pick_tools(struct maker *m, struct arena *a)
{
    const struct dialect_grammar_options *o = m->o;
    size_t room = o->n_tools + 1;
    m->names = arena_try_alloc(a, room * sizeof *m->names);
    m->tools = arena_try_alloc(a, room * sizeof *m->tools);
    m->places = arena_try_alloc(a, room * sizeof *m->places);
    m->args = arena_try_alloc(a, room * sizeof *m->args);
    if (!m->names || !m->tools || !m->places || !m->args) return err_set(m->e, ERR_TOO_LARGE, "too many tools");
    for (size_t i = 0; i < o->n_tools && o->choice != CHAT_TOOLS_NONE; i++) {
        if (o->tools[i].withheld) continue;
        if (o->choice == CHAT_TOOLS_ONE && !str_eq(o->tools[i].name, o->choice_name)) continue;
        m->names[m->n] = o->tools[i].name;
        m->args[m->n] = NOWHERE;
        m->tools[m->n++] = &o->tools[i];
    }
    if (o->choice == CHAT_TOOLS_ONE && m->n == 0)
        return err_set(m->e, ERR_INVALID, "tool_choice.name: no tool is named \"%.*s\"", STR_ARG(o->choice_name));
    if (m->n == 0 && !o->output_schema) return err_set(m->e, ERR_INVALID, "nothing constrains the answer");
    return true;
}

struct grammar *dialect_grammar(const struct dialect *d, const struct dialect_grammar_options *o, struct err *e)
{
    struct err local = {0};
    struct grammar_options go;
    struct arena arena;
    struct maker m = {.d = d, .o = o, .e = e ? e : &local, .object = NOWHERE, .object_tail = NOWHERE};
    struct grammar *g = NULL;
    grammar_options_init(&go);
    if (o->max_bytes) go.max_bytes = o->max_bytes;
    arena_init(&arena, (size_t)16 << 20);
    m.e->kind = ERR_NONE;
    m.arena = &arena;
    find_form(&m);
    if (pick_tools(&m, &arena) && (m.g = grammar_begin(&go, m.e))) {
        uint32_t at = answer(&m);
        if (o->opened.len && !grammar_set_opened(m.g, o->opened)) at = NOWHERE;
        g = grammar_built(m.g, at, m.e);
        if (m.refusal.kind != ERR_NONE) {
            grammar_unref(g);
            g = NULL;
            *m.e = m.refusal;
        }
    }
    arena_deinit(&arena);
    return g;
}
