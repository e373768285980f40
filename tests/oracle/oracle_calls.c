/* oracle_calls: the grammars of dialects against what templates render and against the parser. */
#include <stdio.h>
#include <string.h>

#include "oracle.h"
#include "walk.h"

#define MAX_TOOLS 64
#define WALKS 3

bool oracle_allows(char *what, size_t size, const struct dialect *d, const struct chat_tool *tools, size_t n_tools,
                   bool in_thinking, struct str text)
{
    struct dialect_grammar_options o = {
        .tools = tools, .n_tools = n_tools, .in_thinking = in_thinking, .may_think = true};
    struct err e = {0};
    struct grammar *g = dialect_grammar(d, &o, &e);
    struct grammar_matcher *m = g ? grammar_matcher_create(g, NULL, &e) : NULL;
    size_t i = 0;
    while (m && i < text.len && grammar_matcher_feed(m, str_slice(text, i, i + 1))) i++;
    bool ok = m && i == text.len && grammar_matcher_may_end(m);
    if (!m) snprintf(what, size, "%s", e.msg);
    else if (i < text.len)
        snprintf(what, size, "refused at byte %zu: %.*s", i, STR_ARG(str_slice(text, i > 60 ? i - 60 : 0, i + 1)));
    else if (!ok) snprintf(what, size, "may not end behind %.*s", STR_ARG(str_slice(text, i > 60 ? i - 60 : 0, i)));
    grammar_matcher_destroy(m);
    grammar_unref(g);
    return ok;
}

void oracle_walks(struct oracle_count *count, const char *name, const json_t *list)
{
    struct chat_tool tools[MAX_TOOLS];
    size_t n = json_array_size(list) < MAX_TOOLS ? json_array_size(list) : MAX_TOOLS;
    for (size_t i = 0; i < n; i++) {
        const json_t *tool = json_array_get(list, i);
        tools[i] = (struct chat_tool){.name = str_from(json_string_value(json_object_get(tool, "name"))),
                                      .schema = json_object_get(tool, "input_schema")};
    }
    for (size_t i = 0; dialect_at(i); i++) {
        char id[200];
        struct walk w = {.d = dialect_at(i), .o = {.tools = tools, .n_tools = n, .choice = CHAT_TOOLS_ANY}};
        walk_run(&w, WALKS, i);
        snprintf(id, sizeof id, "walks through %s [%s]", name, dialect_name(w.d));
        if (w.fault[0]) oracle_fail(count, id, w.fault);
        else count->passed++;
    }
}
