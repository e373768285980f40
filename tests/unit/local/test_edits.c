/* What is left out of long conversations. A token is a byte here, so that the figures can be seen. */
#include <string.h>

#include "api/anthropic_messages.h"
#include "base/alloc.h"
#include "local/edits.h"
#include "unit.h"

static uint32_t count_bytes(void *ctx, struct str text)
{
    (void)ctx;
    return (uint32_t)text.len;
}

/* A question, and n rounds of thinking, a call of t0, t1, ... and its result of 100 bytes. */
static struct chat_request *conversation(int n)
{
    static const struct anthropic_support all = {.thinking = true, .tools = true};
    struct anthropic_error e = {0};
    struct chat_request *r = NULL;
    struct buf b;
    buf_init(&b, 1 << 20);
    buf_append(&b, STR("{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"ask\"}"));
    for (int i = 0; i < n; i++)
        buf_printf(&b,
                   ",{\"role\":\"assistant\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"hm\",\"signature\":"
                   "\"\"},{\"type\":"
                   "\"tool_use\",\"id\":\"i%d\",\"name\":\"t%d\",\"input\":{\"a\":1}}]},{\"role\":\"user\",\"content\":"
                   "[{\"type\":"
                   "\"tool_result\",\"tool_use_id\":\"i%d\",\"content\":\"%0100d\"}]}",
                   i, i, i, 0);
    buf_append(&b, STR("]}"));
    ck_assert_msg(anthropic_request_decode(&r, b.ptr, b.len, ANTHROPIC_CREATE, &all, &e), "%s", e.message);
    buf_deinit(&b);
    return r;
}

/* Which results are whole, as a string of '1' and '0'. */
static const char *whole(const struct chat_request *r)
{
    static char out[100];
    size_t n = 0;
    for (size_t i = 2; i < r->n_messages; i += 2)
        out[n++] = r->messages[i].blocks[0].blocks[0].text.len == 100 ? '1' : '0';
    out[n] = '\0';
    return out;
}

static const char *after(struct chat_edit edit, int n, uint32_t n_tokens)
{
    struct chat_request *r = conversation(n);
    bool changed = edits_apply(r, &edit, n_tokens, count_bytes, NULL);
    const char *out = whole(r);
    size_t n_cleared = 0;
    for (const char *c = out; *c; c++) n_cleared += *c == '0';
    ck_assert_uint_eq(edit.n_cleared, n_cleared);
    ck_assert(changed == (n_cleared > 0));
    chat_request_destroy(r);
    return out;
}

START_TEST(nothing_happens_below_the_trigger)
{
    ck_assert_str_eq(after((struct chat_edit){.trigger = 1000, .keep = 1}, 3, 1000), "111");
    ck_assert_str_eq(after((struct chat_edit){.trigger = 3, .triggered_by_uses = true, .keep = 1}, 3, 9999), "111");
}
END_TEST

START_TEST(all_but_the_last_uses_are_cleared)
{
    ck_assert_str_eq(after((struct chat_edit){.trigger = 10, .keep = 1}, 3, 400), "001");
    ck_assert_str_eq(after((struct chat_edit){.trigger = 10, .keep = 0}, 2, 300), "00");
    ck_assert_str_eq(after((struct chat_edit){.trigger = 10, .keep = 9}, 3, 400), "111");
    ck_assert_str_eq(after((struct chat_edit){.trigger = 2, .triggered_by_uses = true, .keep = 1}, 3, 400), "001");
}
END_TEST

START_TEST(the_cleared_part_grows_in_steps)
{
    /* Each round is 100 bytes and some more: four fit, the fifth clears all but one, and then three more fit. */
    static const char *const want[] = {"1", "11", "111", "1111", "00001", "000011", "0000111", "00000001"};
    for (int n = 1; n <= 8; n++) {
        const char *got = after((struct chat_edit){.trigger = 550, .keep = 1}, n, (uint32_t)(n * 120));
        ck_assert_msg(!strcmp(got, want[n - 1]), "%d: %s", n, got);
    }
}
END_TEST

START_TEST(the_exact_length_decides_where_the_sum_does_not)
{
    ck_assert_str_eq(after((struct chat_edit){.trigger = 5000, .keep = 1}, 3, 6000), "001");
}
END_TEST

START_TEST(excluded_tools_and_small_gains_are_left_alone)
{
    struct str names[] = {STR("t1"), STR("t9")};
    ck_assert_str_eq(after((struct chat_edit){.trigger = 10, .keep = 1, .excluded = names, .n_excluded = 2}, 4, 500),
                     "0101");
    ck_assert_str_eq(after((struct chat_edit){.trigger = 10, .keep = 1, .clear_at_least = 150}, 2, 300), "11");
    ck_assert_str_eq(after((struct chat_edit){.trigger = 10, .keep = 1, .clear_at_least = 150}, 3, 400), "001");
}
END_TEST

START_TEST(inputs_are_cleared_when_asked_for)
{
    struct str names[] = {STR("t1")};
    struct chat_edit edits[] = {{.trigger = 10, .keep = 1},
                                {.trigger = 10, .keep = 1, .clears_inputs = true},
                                {.trigger = 10, .keep = 1, .inputs = names, .n_inputs = 1}};
    static const size_t want[3][3] = {{1, 1, 1}, {0, 0, 1}, {1, 0, 1}};
    for (size_t i = 0; i < 3; i++) {
        struct chat_request *r = conversation(3);
        ck_assert(edits_apply(r, &edits[i], 400, count_bytes, NULL));
        for (size_t k = 0; k < 3; k++)
            ck_assert_uint_eq(json_object_size(r->messages[1 + 2 * k].blocks[1].input), want[i][k]);
        chat_request_destroy(r);
    }
}
END_TEST

START_TEST(thinking_of_earlier_turns_is_cleared)
{
    static const struct {
        uint32_t keep;
        unsigned left; /* bit i: turn i still thinks */
    } cases[] = {{UINT32_MAX, 7}, {3, 7}, {1, 4}, {2, 6}, {0, 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct chat_request *r = conversation(3);
        struct chat_edit edit = {.kind = CHAT_CLEAR_THINKING, .keep = cases[i].keep};
        ck_assert(edits_apply(r, &edit, 0, count_bytes, NULL) == (cases[i].left != 7));
        for (unsigned k = 0; k < 3; k++) {
            const struct chat_message *m = &r->messages[1 + 2 * k];
            ck_assert((m->blocks[0].kind == CHAT_THINKING) == (cases[i].left >> k & 1));
            ck_assert(m->without_thinking == !(cases[i].left >> k & 1));
        }
        chat_request_destroy(r);
    }
}
END_TEST

void add_edits(TCase *tc);
void add_edits(TCase *tc)
{
    tcase_add_test(tc, nothing_happens_below_the_trigger);
    tcase_add_test(tc, all_but_the_last_uses_are_cleared);
    tcase_add_test(tc, the_cleared_part_grows_in_steps);
    tcase_add_test(tc, the_exact_length_decides_where_the_sum_does_not);
    tcase_add_test(tc, excluded_tools_and_small_gains_are_left_alone);
    tcase_add_test(tc, inputs_are_cleared_when_asked_for);
    tcase_add_test(tc, thinking_of_earlier_turns_is_cleared);
}
