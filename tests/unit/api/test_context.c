/* context_management: what is read, and what is told. */
#include <string.h>

#include "decode.h"
#include "unit.h"

#define EDITS(edits) BODY(USER("\"x\""), ",\"context_management\":{\"edits\":[" edits "]}")

START_TEST(edits_are_read)
{
    struct chat_request *r = decode_ok(
        EDITS("{\"type\":\"clear_thinking_20251015\",\"keep\":{\"type\":\"thinking_turns\",\"value\":2}},{\"type\":"
              "\"clear_tool_uses_20250919\","
              "\"trigger\":{\"type\":\"tool_uses\",\"value\":5},\"keep\":{\"type\":\"tool_uses\",\"value\":1},\"clear_"
              "at_least\":{\"type\":"
              "\"input_tokens\",\"value\":50},\"exclude_tools\":[\"a\",\"b\"],\"clear_tool_inputs\":[\"c\"]}"));
    const struct chat_context *c = r->context;
    ck_assert_uint_eq(c->n_edits, 2);
    ck_assert(c->edits[0].kind == CHAT_CLEAR_THINKING && c->edits[0].keep == 2);
    const struct chat_edit *x = &c->edits[1];
    ck_assert(x->kind == CHAT_CLEAR_TOOL_USES && x->triggered_by_uses && x->trigger == 5 && x->keep == 1);
    ck_assert(x->clear_at_least == 50 && x->n_excluded == 2 && str_eq(x->excluded[1], STR("b")));
    ck_assert(!x->clears_inputs && x->n_inputs == 1 && str_eq(x->inputs[0], STR("c")));
    chat_request_destroy(r);
}
END_TEST

START_TEST(what_is_not_said_is_the_api_s_default)
{
    struct chat_request *r =
        decode_ok(EDITS("{\"type\":\"clear_tool_uses_20250919\",\"clear_at_least\":null,\"clear_tool_inputs\":true},"
                        "{\"type\":\"clear_thinking_20251015\"}"));
    const struct chat_edit *x = r->context->edits;
    ck_assert(!x->triggered_by_uses && x->trigger == 100000 && x->keep == 3 && x->clear_at_least == 0 &&
              x->clears_inputs);
    ck_assert(x[1].keep == 1);
    chat_request_destroy(r);
}
END_TEST

START_TEST(keeping_all_is_all)
{
    static const char *const bodies[] = {
        EDITS("{\"type\":\"clear_thinking_20251015\",\"keep\":\"all\"}"),
        EDITS("{\"type\":\"clear_thinking_20251015\",\"keep\":{\"type\":\"all\"}}"),
    };
    for (size_t i = 0; i < 2; i++) {
        struct chat_request *r = decode_ok(bodies[i]);
        ck_assert_uint_eq(r->context->edits[0].keep, UINT32_MAX);
        chat_request_destroy(r);
    }
}
END_TEST

START_TEST(unknown_edits_are_noted_and_broken_ones_refused)
{
    struct chat_request *r = decode_ok(EDITS("{\"type\":\"forget_everything_20300101\"}"));
    ck_assert(r->context->n_edits == 0 && r->notes);
    chat_request_destroy(r);
    r = decode_ok(BODY(USER("\"x\""), ",\"context_management\":{}"));
    ck_assert(r->context && !r->context->n_edits);
    chat_request_destroy(r);
    r = decode_ok(BODY(USER("\"x\""), ",\"context_management\":null"));
    ck_assert(!r->context);
    chat_request_destroy(r);
    decode_refused(EDITS("7"), "context_management.edits.0: Input should be an object", NULL);
    decode_refused(
        EDITS("{\"type\":\"clear_tool_uses_20250919\",\"trigger\":{\"type\":\"input_tokens\",\"value\":-1}}"),
        "context_management.edits.0.trigger.value: Input should be between", NULL);
    decode_refused(EDITS("{\"type\":\"clear_tool_uses_20250919\",\"exclude_tools\":[1]}"),
                   "context_management.edits.0.exclude_tools.0: Input should be a string", NULL);
}
END_TEST

START_TEST(applied_edits_are_told)
{
    struct chat_edit edits[] = {{.kind = CHAT_CLEAR_THINKING, .n_cleared = 2, .cleared_tokens = 30},
                                {.kind = CHAT_CLEAR_TOOL_USES},
                                {.kind = CHAT_CLEAR_TOOL_USES, .n_cleared = 4, .cleared_tokens = 500}};
    struct chat_context context = {.edits = edits, .n_edits = 3, .original_tokens = 900};
    struct anthropic_answer a;
    struct buf out;
    buf_init(&out, 1 << 16);
    anthropic_count_write(&out, 370, &context);
    ck_assert_str_eq(out.ptr, "{\"input_tokens\":370,\"context_management\":{\"original_input_tokens\":900}}");
    for (int stream = 0; stream < 2; stream++) {
        buf_clear(&out);
        anthropic_answer_init(&a, stream, STR("msg_1"), STR("m"), STR("req_1"));
        anthropic_answer_event(&a, &out, &(struct chat_event){.kind = CHAT_EVENT_START});
        anthropic_answer_event(&a, &out, &(struct chat_event){.kind = CHAT_EVENT_FINISH, .context = &context});
        ck_assert_msg(
            strstr(out.ptr,
                   "\"context_management\":{\"applied_edits\":[{\"type\":\"clear_thinking_20251015\","
                   "\"cleared_thinking_turns\":2,\"cleared_input_tokens\":30},{\"type\":\"clear_tool_uses_20250919\","
                   "\"cleared_tool_uses\":4,\"cleared_input_tokens\":500}]}}") != NULL,
            "%s", out.ptr);
        anthropic_answer_deinit(&a);
    }
    buf_deinit(&out);
}
END_TEST

void add_context(TCase *tc);
void add_context(TCase *tc)
{
    tcase_add_test(tc, edits_are_read);
    tcase_add_test(tc, what_is_not_said_is_the_api_s_default);
    tcase_add_test(tc, keeping_all_is_all);
    tcase_add_test(tc, unknown_edits_are_noted_and_broken_ones_refused);
    tcase_add_test(tc, applied_edits_are_told);
}
