/* What a row's grammar allows, its parser must read: random walks through the grammar end in texts whose calls have the
 * names and arguments that the tools ask for. */
#include "unit.h"

#include "walk.h"

#define MAX_TOOLS 16

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
    for (size_t i = 0; i < t->n; i++) json_decref(t->list[i].schema);
}

static void walk_row(const struct dialect *d, const struct tools *t, struct dialect_grammar_options o, size_t n,
                     uint64_t seed)
{
    struct walk w = {.d = d, .o = o};
    w.o.tools = t->list;
    w.o.n_tools = t->n;
    walk_run(&w, n, seed);
    ck_assert_msg(!w.fault[0], "%s: %s", dialect_name(d), w.fault);
    ck_assert_msg(w.ended * 2 > n, "%s: %zu of %zu walks ended", dialect_name(d), w.ended, n);
}

START_TEST(walks_end_in_calls)
{
    struct tools t;
    const struct dialect *d = dialect_at((size_t)_i);
    tools_own(&t);
    walk_row(d, &t, (struct dialect_grammar_options){.choice = CHAT_TOOLS_ANY, .single = true}, 60, 7);
    walk_row(d, &t, (struct dialect_grammar_options){.choice = CHAT_TOOLS_ANY}, 60, 11);
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
            walk_row(d, &t,
                     (struct dialect_grammar_options){.choice = is_one ? CHAT_TOOLS_ONE : CHAT_TOOLS_ANY,
                                                      .choice_name = name,
                                                      .single = i % 2,
                                                      .opened = buf_str(&opened)},
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

/* A tool that no input satisfies must not lead the model into a place where nothing may follow. */
START_TEST(tools_that_nothing_satisfies)
{
    json_t *never =
        json_loads("{\"type\":\"object\",\"properties\":{\"a\":{\"not\":{}}},\"required\":[\"a\"]}", 0, NULL);
    struct chat_tool tool = {.name = STR("odd"), .schema = never};
    struct walk w = {.d = dialect_find(STR("hermes")), .o = {.tools = &tool, .n_tools = 1, .choice = CHAT_TOOLS_ANY}};
    struct err e = {0};
    struct buf notes;
    struct grammar *g = dialect_grammar(w.d, &w.o, &e);
    ck_assert_msg(g != NULL, "%s", e.msg);
    buf_init(&notes, 4096);
    grammar_explain(g, &notes);
    ck_assert(str_find(buf_str(&notes), STR("tools.0.input_schema: no input"), 0) >= 0);
    buf_deinit(&notes);
    grammar_unref(g);
    tool.strict = true;
    ck_assert_ptr_null(dialect_grammar(w.d, &w.o, &e));
    ck_assert_msg(strstr(e.msg, "tools.0.input_schema") != NULL, "%s", e.msg);
    json_decref(never);
}
END_TEST

START_TEST(messages_name_the_place)
{
    json_t *schema = json_loads("{\"properties\":{\"x\":{\"type\":\"string\",\"pattern\":\"(?=a)b\"}}}", 0, NULL);
    struct chat_tool tools[2] = {{.name = STR("plain"), .schema = json_object()},
                                 {.name = STR("odd"), .schema = schema}};
    struct dialect_grammar_options o = {.tools = tools, .n_tools = 2};
    struct err e = {0};
    struct buf notes;
    for (size_t i = 0; dialect_at(i); i++) {
        tools[1].strict = false;
        struct grammar *g = dialect_grammar(dialect_at(i), &o, &e);
        ck_assert_msg(g != NULL, "%s: %s", dialect_name(dialect_at(i)), e.msg);
        buf_init(&notes, 1 << 16);
        grammar_explain(g, &notes);
        ck_assert_msg(str_find(buf_str(&notes), STR("tools.1.input_schema.properties.x.pattern"), 0) >= 0, "%s: %.*s",
                      dialect_name(dialect_at(i)), STR_ARG(buf_str(&notes)));
        buf_deinit(&notes);
        grammar_unref(g);
        tools[1].strict = true;
        ck_assert_ptr_null(dialect_grammar(dialect_at(i), &o, &e));
        ck_assert_int_eq(e.kind, ERR_INVALID);
        ck_assert_msg(strstr(e.msg, "tools.1.input_schema.properties.x.pattern") != NULL, "%s", e.msg);
    }
    json_decref(tools[0].schema);
    json_decref(schema);
}
END_TEST

void add_grammar_tests(TCase *tc);
void add_grammar_tests(TCase *tc)
{
    tcase_add_test(tc, tools_that_nothing_satisfies);
    tcase_add_test(tc, messages_name_the_place);
    tcase_add_loop_test(tc, walks_end_in_calls, 0, (int)n_rows());
    tcase_add_loop_test(tc, walks_go_on_from_an_opened_call, 0, (int)n_rows());
}
