/* Which requests the I/O thread does itself: small ones, of nothing but the client's own text. */
#include <string.h>

#include "api/anthropic_messages.h"
#include "local/quick.h"
#include "unit.h"

unit_adder add_quick_tests;

/* fields: behind "model"; a byte '#' in it stands for n letters. */
static bool is_quick(const char *fields, int n)
{
    static const struct anthropic_support all = {
        .thinking = true, .tools = true, .output_schema = true, .images = true};
    struct anthropic_error e = {0};
    struct chat_request *r = NULL;
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_append(&b, STR("{\"model\":\"m\",\"max_tokens\":9,"));
    for (const char *p = fields; *p; p++) {
        if (*p != '#') buf_append(&b, (struct str){p, 1});
        for (int i = 0; *p == '#' && i < n; i++) buf_append(&b, STR("x"));
    }
    buf_append(&b, STR("}"));
    ck_assert_msg(anthropic_request_decode(&r, b.ptr, b.len, ANTHROPIC_CREATE, &all, &e), "%s", e.message);
    bool quick = quick_request(r);
    chat_request_destroy(r);
    buf_deinit(&b);
    return quick;
}

#define USER(content) "\"messages\":[{\"role\":\"user\",\"content\":" content "}]"

START_TEST(a_short_question_is_quick)
{
    ck_assert(is_quick(USER("\"hello\""), 0));
    ck_assert(is_quick("\"system\":\"be brief\",\"stop_sequences\":[\"end\"],\"stream\":true," USER("\"#\""), 1500));
    ck_assert(is_quick("\"thinking\":{\"type\":\"adaptive\"}," USER("[{\"type\":\"text\",\"text\":\"a\"}]"), 0));
}
END_TEST

START_TEST(all_texts_together_are_bounded)
{
    ck_assert(!is_quick(USER("\"#\""), 3000));
    ck_assert(!is_quick("\"system\":\"#\"," USER("\"#\""), 1500));
    ck_assert(!is_quick("\"stop_sequences\":[\"#\",\"#!\"]," USER("\"#\""), 800));
    struct buf many; /* without a byte too much */
    buf_init(&many, 1 << 16);
    buf_append(&many, STR("\"messages\":["));
    for (int i = 0; i < 100; i++) buf_printf(&many, "%s{\"role\":\"user\",\"content\":\"a\"}", i ? "," : "");
    buf_append(&many, (struct str){"]", 2}); /* with its NUL */
    ck_assert(!is_quick(many.ptr, 0));
    buf_deinit(&many);
}
END_TEST

START_TEST(what_may_cost_more_than_its_bytes_is_not)
{
    ck_assert(
        !is_quick("\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"},"
                  "{\"role\":\"user\",\"content\":\"c\"}]",
                  0)); /* b may have been a long answer */
    ck_assert(!is_quick("\"tools\":[{\"name\":\"t\",\"input_schema\":{\"type\":\"object\"}}]," USER("\"a\""), 0));
    ck_assert(!is_quick(
        "\"output_config\":{\"format\":{\"type\":\"json_schema\",\"schema\":{\"type\":\"object\"}}}," USER("\"a\""),
        0));
    ck_assert(
        !is_quick("\"context_management\":{\"edits\":[{\"type\":\"clear_tool_uses_20250919\"}]}," USER("\"a\""), 0));
}
END_TEST

void add_quick_tests(TCase *tc)
{
    tcase_add_test(tc, a_short_question_is_quick);
    tcase_add_test(tc, all_texts_together_are_bounded);
    tcase_add_test(tc, what_may_cost_more_than_its_bytes_is_not);
}
