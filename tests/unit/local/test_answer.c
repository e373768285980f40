/* Unit tests of answers: where the client's answer ends although the model goes on, and what is remembered of it. */
#include <string.h>

#include "local/answer.h"
#include "unit.h"

unit_adder add_answer_tests;

#define CALL(x) "<tool_call>\n{\"name\": \"act\", \"arguments\": {\"n\": " x "}}\n</tool_call>"

struct seen {
    struct buf out; /* the events, one after another */
    char ids[8][48];
    size_t n_ids, n_deltas;
};

static void note(void *ctx, const struct chat_event *ev)
{
    struct seen *s = ctx;
    if (ev->kind == CHAT_EVENT_BLOCK_OPEN) {
        buf_printf(&s->out, "<%.*s>", STR_ARG(ev->name));
        if (ev->block == CHAT_TOOL_USE) snprintf(s->ids[s->n_ids++], 48, "%.*s", STR_ARG(ev->id));
    }
    if (ev->kind == CHAT_EVENT_DELTA) buf_append(&s->out, ev->text), s->n_deltas++;
    if (ev->kind == CHAT_EVENT_BLOCK_CLOSE) buf_append(&s->out, STR(";"));
}

struct setting {
    enum chat_tool_choice choice;
    bool single, cut;
    const char *raw; /* what must be remembered; NULL = nothing */
};

static struct chat_request *make_request(const struct setting *how)
{
    struct chat_request *r = chat_request_create(1 << 20);
    r->json = json_pack("{s:{s:s}}", "tool", "type", "object");
    r->tools = arena_zalloc(&r->arena, sizeof *r->tools);
    r->tools[0] = (struct chat_tool){.name = STR("act"), .schema = json_object_get(r->json, "tool")};
    r->n_tools = 1;
    r->tool_choice = how->choice;
    r->no_parallel_tools = how->single;
    return r;
}

/* Feeds text in pieces of every size; the events must be the same ones. */
static void check(const char *text, const char *want, struct setting how)
{
    for (size_t step = 1; step <= strlen(text); step++) {
        struct chat_request *r = make_request(&how);
        struct call_memory *m = call_memory_create(1 << 20);
        struct seen s = {0};
        buf_init(&s.out, 1 << 20);
        struct answer_config config = {.dialect = dialect_find(STR("hermes")),
                                       .req = r,
                                       .memory = m,
                                       .key = (const unsigned char[32]){0},
                                       .sink = note,
                                       .ctx = &s};
        struct answer *a = answer_create(&config);
        for (size_t i = 0; i < strlen(text); i += step)
            if (answer_feed(a, str_slice(str_from(text), i, i + step), NULL, 0)) break;
        answer_finish(a, how.cut);
        answer_destroy(a);
        ck_assert_msg(str_eq(buf_str(&s.out), str_from(want)), "%zu: %.*s", step, STR_ARG(buf_str(&s.out)));
        struct made_text made;
        struct chat_block blocks[8];
        for (size_t i = 0; i < s.n_ids; i++)
            blocks[i] = (struct chat_block){.kind = CHAT_TOOL_USE,
                                            .id = str_from(s.ids[i]),
                                            .name = STR("act"),
                                            .input = json_pack("{s:i}", "n", (int)i + 1)};
        made_text_init(&made, 1 << 20);
        struct chat_message sent = {.role = CHAT_ASSISTANT, .blocks = blocks, .n_blocks = s.n_ids};
        enum made_match match = call_memory_find(m, &made, &sent, 0, 0);
        ck_assert_int_eq(match == MADE_SAME, how.raw != NULL);
        if (how.raw)
            ck_assert_msg(str_eq(buf_str(&made.raw), str_from(how.raw)), "%zu: %.*s", step,
                          STR_ARG(buf_str(&made.raw)));
        for (size_t i = 0; i < s.n_ids; i++) json_decref(blocks[i].input);
        made_text_deinit(&made);
        buf_deinit(&s.out);
        call_memory_destroy(m);
        chat_request_destroy(r);
    }
}

START_TEST(one_call_is_all_where_one_was_asked_for)
{
    struct setting one = {CHAT_TOOLS_AUTO, true, false, CALL("1") "\n"};
    check(CALL("1") "\n" CALL("2"), "<act>{\"n\":1};", one);
    one.raw = CALL("1") " ";
    check(CALL("1") " And so on.", "<act>{\"n\":1};", one);
    one.raw = CALL("1");
    check(CALL("1"), "<act>{\"n\":1};", one);
}
END_TEST

START_TEST(a_forced_call_that_repeats_itself_ends_the_answer)
{
    struct setting any = {CHAT_TOOLS_ANY, false, false, CALL("1") "\n"};
    check(CALL("1") "\n" CALL("1") "\n" CALL("1"), "<act>{\"n\":1};", any);
    any.raw = CALL("1") "\n" CALL("2") "\n";
    check(CALL("1") "\n" CALL("2") "\n" CALL("1"), "<act>{\"n\":1};<act>{\"n\":2};", any);
    any.raw = CALL("1") "\n" CALL("2");
    check(CALL("1") "\n" CALL("2"), "<act>{\"n\":1};<act>{\"n\":2};", any);
}
END_TEST

START_TEST(calls_of_its_own_choice_may_be_repeated)
{
    check(CALL("1") "\n" CALL("1"), "<act>{\"n\":1};<act>{\"n\":1};",
          (struct setting){CHAT_TOOLS_AUTO, false, false, NULL});
}
END_TEST

START_TEST(cut_answers_are_remembered_unless_a_call_was_cut)
{
    check(CALL("1") "\n", "<act>{\"n\":1};", (struct setting){CHAT_TOOLS_AUTO, false, true, CALL("1") "\n"});
    check("<tool_call>\n{\"name\": \"act\", \"arguments\": {\"n\": 1", "<act>{\"n\":1};",
          (struct setting){CHAT_TOOLS_AUTO, false, true, NULL});
}
END_TEST

START_TEST(pieces_of_text_go_out_whole)
{
    struct setting how = {CHAT_TOOLS_AUTO, false, false, NULL};
    struct chat_request *r = make_request(&how);
    struct seen s = {0};
    buf_init(&s.out, 1 << 20);
    struct answer_config config = {
        .dialect = dialect_find(STR("hermes")), .req = r, .key = (const unsigned char[32]){0}, .sink = note, .ctx = &s};
    struct answer *a = answer_create(&config);
    answer_feed(a, STR("Gr\xc3\xbc\xc3\x9f Gott, "), NULL, 0);
    answer_feed(a, STR("alle miteinander."), NULL, 0);
    answer_finish(a, false);
    ck_assert_uint_eq(s.n_deltas, 2);
    answer_destroy(a);
    buf_deinit(&s.out);
    chat_request_destroy(r);
}
END_TEST

void add_answer_tests(TCase *tc)
{
    tcase_add_test(tc, one_call_is_all_where_one_was_asked_for);
    tcase_add_test(tc, a_forced_call_that_repeats_itself_ends_the_answer);
    tcase_add_test(tc, calls_of_its_own_choice_may_be_repeated);
    tcase_add_test(tc, cut_answers_are_remembered_unless_a_call_was_cut);
    tcase_add_test(tc, pieces_of_text_go_out_whole);
}
