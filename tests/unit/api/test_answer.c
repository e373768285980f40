/* The encoder: exact events, repairs, and that no script of events makes an illegal stream. */
#include <string.h>

#include "api/anthropic_messages.h"
#include "base/rng.h"
#include "sse_check.h"
#include "unit.h"

static const struct chat_usage USAGE = {.input_tokens = 10, .cached_tokens = 4, .output_tokens = 3};

static struct chat_event ev(enum chat_event_kind kind)
{
    return (struct chat_event){.kind = kind, .usage = USAGE};
}

static struct chat_event delta(struct str text)
{
    return (struct chat_event){.kind = CHAT_EVENT_DELTA, .text = text};
}

static struct chat_event open_block(enum chat_block_kind kind)
{
    return (struct chat_event){.kind = CHAT_EVENT_BLOCK_OPEN, .block = kind, .id = STR("toolu_a"), .name = STR("get")};
}

static void play(struct buf *out, bool is_stream, const struct chat_event *events, size_t n)
{
    struct anthropic_answer a;
    buf_init(out, 1 << 22);
    anthropic_answer_init(&a, is_stream, STR("msg_1"), STR("m\"1"), STR("req_1"));
    for (size_t i = 0; i < n; i++) anthropic_answer_event(&a, out, &events[i]);
    anthropic_answer_deinit(&a);
}
#define N(a) (sizeof(a) / sizeof *(a))

START_TEST(stream_has_exactly_these_events)
{
    struct chat_event events[] = {ev(CHAT_EVENT_START), open_block(CHAT_TEXT), delta(STR("a\n\"\x01")),
                                  ev(CHAT_EVENT_BLOCK_CLOSE), ev(CHAT_EVENT_FINISH)};
    struct buf out;
    play(&out, true, events, N(events));
#define USAGE_TEXT(out_tokens)                                                                                   \
    "{\"input_tokens\":6,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":4,\"cache_creation\":{"   \
    "\"ephemeral_5m_input_tokens\":0,\"ephemeral_1h_input_tokens\":0},\"output_tokens\":" out_tokens             \
    ",\"output_tokens_details\":{\"thinking_tokens\":0},\"server_tool_use\":null,\"service_tier\":\"standard\"," \
    "\"inference_geo\":null,\"speed\":\"standard\"}"
    ck_assert_str_eq(
        out.ptr,
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\","
        "\"role\":\"assistant\",\"model\":\"m\\\"1\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,"
        "\"stop_details\":null,\"container\":null,\"diagnostics\":null,\"usage\":" USAGE_TEXT(
            "3") "}}\n\n"
                 "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{"
                 "\"type\":\"text\",\"text\":\"\",\"citations\":null}}\n\n"
                 "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{"
                 "\"type\":\"text_delta\",\"text\":\"a\\n\\\"\\u0001\"}}\n\n"
                 "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"
                 "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\","
                 "\"stop_sequence\":null,\"stop_details\":null,\"container\":null},\"usage\":" USAGE_TEXT(
                     "3") "}\n\n"
                          "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    buf_deinit(&out);
}
END_TEST

START_TEST(message_in_one_piece_has_all_required_keys)
{
    struct chat_event close_thinking = {.kind = CHAT_EVENT_BLOCK_CLOSE, .signature = STR("s")};
    struct chat_event events[] = {ev(CHAT_EVENT_START), open_block(CHAT_THINKING), delta(STR("hm")),
                                  close_thinking,       open_block(CHAT_TEXT),     delta(STR("a")),
                                  delta(STR("b")),      open_block(CHAT_TOOL_USE), delta(STR("{\"x\":")),
                                  delta(STR("1e2}")),   ev(CHAT_EVENT_FINISH)};
    struct buf out;
    play(&out, false, events, N(events));
    json_t *m = json_loads(out.ptr, JSON_REJECT_DUPLICATES, NULL);
    static const char *const keys[] = {"id",        "type",        "role",          "model",
                                       "content",   "stop_reason", "stop_sequence", "stop_details",
                                       "container", "diagnostics", "usage"};
    for (size_t i = 0; i < N(keys); i++) ck_assert_msg(json_object_get(m, keys[i]) != NULL, "%s", keys[i]);
    ck_assert_str_eq(json_string_value(json_object_get(m, "stop_reason")), "tool_use");
    ck_assert(strstr(out.ptr, "[{\"type\":\"thinking\",\"thinking\":\"hm\",\"signature\":\"s\"},"
                              "{\"type\":\"text\",\"text\":\"ab\",\"citations\":null},"
                              "{\"type\":\"tool_use\",\"id\":\"toolu_a\",\"name\":\"get\",\"input\":{\"x\":1e2},"
                              "\"caller\":{\"type\":\"direct\"}}]"));
    json_decref(m);
    buf_deinit(&out);
}
END_TEST

START_TEST(broken_tool_input_is_kept_as_text)
{
    struct chat_event events[] = {open_block(CHAT_TOOL_USE), delta(STR("{\"x\":")), ev(CHAT_EVENT_FINISH)};
    struct buf out;
    play(&out, false, events, N(events));
    ck_assert(strstr(out.ptr, "\"input\":{\"raw\":\"{\\\"x\\\":\"}"));
    buf_deinit(&out);
}
END_TEST

START_TEST(empty_blocks_are_left_out)
{
    struct chat_event events[] = {ev(CHAT_EVENT_START),       open_block(CHAT_TEXT),     delta(STR("")),
                                  ev(CHAT_EVENT_BLOCK_CLOSE), open_block(CHAT_THINKING), ev(CHAT_EVENT_BLOCK_CLOSE),
                                  ev(CHAT_EVENT_FINISH)};
    struct buf out;
    play(&out, true, events, N(events));
    ck_assert_ptr_null(strstr(out.ptr, "content_block"));
    buf_deinit(&out);
    play(&out, false, events, N(events));
    ck_assert(strstr(out.ptr, "\"content\":[]"));
    buf_deinit(&out);
}
END_TEST

START_TEST(omitted_thinking_leaves_its_signature)
{
    struct chat_event close_thinking = {.kind = CHAT_EVENT_BLOCK_CLOSE, .signature = STR("sealed")};
    struct chat_event events[] = {
        ev(CHAT_EVENT_START), open_block(CHAT_THINKING), delta(STR("se")),   delta(STR("cret")),
        close_thinking,       open_block(CHAT_TEXT),     delta(STR("said")), ev(CHAT_EVENT_FINISH)};
    for (int is_stream = 0; is_stream < 2; is_stream++) {
        struct anthropic_answer a;
        struct buf out;
        buf_init(&out, 1 << 20);
        anthropic_answer_init(&a, is_stream, STR("msg_1"), STR("m"), STR("req_1"));
        a.omits_thinking = true;
        for (size_t i = 0; i < N(events); i++) {
            size_t before = out.len;
            anthropic_answer_event(&a, &out, &events[i]);
            if (is_stream && i == 3) ck_assert_uint_eq(out.len, before); /* silence: pings are the server's */
        }
        ck_assert_ptr_null(strstr(out.ptr, "cret"));
        ck_assert_ptr_null(strstr(out.ptr, "thinking_delta"));
        ck_assert_ptr_nonnull(strstr(out.ptr, is_stream ? "\"signature\":\"sealed\"}}"
                                                        : "{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":"
                                                          "\"sealed\"},{\"type\":\"text\",\"text\":\"said\""));
        anthropic_answer_deinit(&a);
        buf_deinit(&out);
    }
}
END_TEST

START_TEST(characters_cut_by_deltas_are_joined)
{
    /* "aé€😀" and a broken byte, cut at every pair of places. */
    static const char text[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xff\xe2\x82z";
    size_t len = sizeof text - 1;
    for (size_t i = 0; i <= len; i++) {
        for (size_t k = i; k <= len; k++) {
            struct chat_event events[] = {delta(str_slice(STR(text), 0, i)), delta(str_slice(STR(text), i, k)),
                                          delta(str_slice(STR(text), k, len)), ev(CHAT_EVENT_FINISH)};
            struct sse_result r;
            struct err e;
            struct buf out;
            play(&out, true, events, N(events));
            ck_assert_msg(sse_check(&r, buf_str(&out), &e), "%s", e.msg);
            ck_assert(
                str_starts(buf_str(&r.text), STR("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xef\xbf\xbd\xef\xbf\xbd")));
            ck_assert(str_ends(buf_str(&r.text), STR("\xef\xbf\xbdz")));
            sse_result_deinit(&r);
            buf_deinit(&out);
        }
    }
}
END_TEST

START_TEST(stop_reasons_follow_the_blocks)
{
    static const struct {
        enum chat_stop stop;
        bool tool;
        const char *reason;
    } cases[] = {
        {CHAT_STOP_END, false, "end_turn"},         {CHAT_STOP_END, true, "tool_use"},
        {CHAT_STOP_TOOL_USE, false, "end_turn"},    {CHAT_STOP_TOOL_USE, true, "tool_use"},
        {CHAT_STOP_MAX_TOKENS, true, "max_tokens"}, {CHAT_STOP_SEQUENCE, false, "stop_sequence"},
        {CHAT_STOP_SEQUENCE, true, "tool_use"},     {CHAT_STOP_CONTEXT, false, "model_context_window_exceeded"},
    };
    for (size_t i = 0; i < N(cases); i++) {
        struct chat_event events[] = {open_block(cases[i].tool ? CHAT_TOOL_USE : CHAT_TEXT), ev(CHAT_EVENT_FINISH)};
        events[1].stop = cases[i].stop;
        events[1].stop_sequence = STR("S");
        struct buf out;
        char want[100];
        bool is_stop = !strcmp(cases[i].reason, "stop_sequence");
        snprintf(want, sizeof want, "\"stop_reason\":\"%s\",\"stop_sequence\":%s", cases[i].reason,
                 is_stop ? "\"S\"" : "null");
        play(&out, true, events, N(events));
        ck_assert_msg(strstr(out.ptr, want) != NULL, "%s in %s", want, out.ptr);
        buf_deinit(&out);
    }
}
END_TEST

START_TEST(usage_of_the_start_is_not_overwritten_by_zeros)
{
    struct chat_event events[] = {ev(CHAT_EVENT_START), ev(CHAT_EVENT_FINISH)};
    events[1].usage = (struct chat_usage){.output_tokens = 9};
    struct sse_result r;
    struct err e;
    struct buf out;
    play(&out, true, events, N(events));
    ck_assert(sse_check(&r, buf_str(&out), &e));
    ck_assert_int_eq(json_integer_value(json_object_get(r.last_usage, "input_tokens")), 6);
    ck_assert_int_eq(json_integer_value(json_object_get(r.last_usage, "cache_read_input_tokens")), 4);
    ck_assert_int_eq(json_integer_value(json_object_get(r.last_usage, "output_tokens")), 9);
    sse_result_deinit(&r);
    buf_deinit(&out);
}
END_TEST

static struct chat_event random_event(struct rng *rng, const struct err *err)
{
    static const char *const texts[] = {"", "a", "\xc3", "\xa9", "\xf0\x9f", "line\n\n", "\xed\xa0\x80", "{}", "\"\\"};
    struct chat_event e = ev((enum chat_event_kind)(rng_next(rng) % 7));
    e.block = (enum chat_block_kind)(rng_next(rng) % 6);
    e.text = str_from(texts[rng_next(rng) % N(texts)]);
    e.id = str_from(texts[rng_next(rng) % N(texts)]);
    e.name = e.id;
    e.signature = rng_next(rng) % 2 ? STR("sig") : STR("");
    e.stop = (enum chat_stop)(rng_next(rng) % 5);
    e.stop_sequence = e.text;
    e.err = err;
    /* Ends are rarer than in a fair draw, so that scripts get long. */
    bool is_end = e.kind == CHAT_EVENT_FINISH || e.kind == CHAT_EVENT_ERROR;
    if (is_end && rng_next(rng) % 4) e.kind = CHAT_EVENT_DELTA;
    return e;
}

START_TEST(no_script_of_events_makes_an_illegal_answer)
{
    struct rng rng;
    struct err err;
    rng_seed(&rng, (uint64_t)_i);
    err_set(&err, ERR_BUSY, "full \xff");
    for (int round = 0; round < 400; round++) {
        struct chat_event events[24];
        size_t n = rng_next(&rng) % N(events);
        bool ends = false;
        for (size_t i = 0; i < n; i++) {
            events[i] = random_event(&rng, &err);
            ends = ends || events[i].kind == CHAT_EVENT_FINISH || events[i].kind == CHAT_EVENT_ERROR;
        }
        for (size_t cut = 0; cut <= n; cut++) {
            struct sse_result r;
            struct err e;
            struct buf out;
            play(&out, true, events, cut);
            ck_assert_msg(sse_check(&r, buf_str(&out), &e), "seed %d round %d: %s\n%s", _i, round, e.msg, out.ptr);
            if (cut == n) ck_assert_int_eq(ends, r.has_stop || r.has_error);
            sse_result_deinit(&r);
            buf_deinit(&out);
        }
        struct buf whole;
        struct anthropic_answer a;
        buf_init(&whole, 1 << 20);
        anthropic_answer_init(&a, false, STR("i"), STR("m"), STR("r"));
        for (size_t i = 0; i < n; i++) anthropic_answer_event(&a, &whole, &events[i]);
        if (a.is_done && !a.has_failed) {
            json_t *m = json_loadb(whole.ptr, whole.len, JSON_REJECT_DUPLICATES, NULL);
            ck_assert_msg(m != NULL, "%s", whole.ptr);
            json_decref(m);
        }
        anthropic_answer_deinit(&a);
        buf_deinit(&whole);
    }
}
END_TEST

START_TEST(every_kind_of_error_has_its_row)
{
    static const struct {
        enum err_kind kind;
        int status;
        const char *type;
    } cases[] = {
        {ERR_INVALID, 400, "invalid_request_error"},
        {ERR_TOO_LARGE, 400, "invalid_request_error"},
        {ERR_NOT_FOUND, 404, "not_found_error"},
        {ERR_UNAUTHORISED, 401, "authentication_error"},
        {ERR_BUSY, 529, "overloaded_error"},
        {ERR_CANCELLED, 529, "overloaded_error"},
        {ERR_TIMEOUT, 504, "timeout_error"},
        {ERR_UPSTREAM, 502, "api_error"},
        {ERR_CORRUPT, 500, "api_error"},
        {ERR_IO, 500, "api_error"},
        {ERR_INTERNAL, 500, "api_error"},
        {ERR_NONE, 500, "api_error"},
    };
    for (size_t i = 0; i < N(cases); i++) {
        struct err err;
        struct anthropic_error e;
        struct buf out;
        buf_init(&out, 4096);
        err_set(&err, cases[i].kind, "text \"%d\"", 1);
        anthropic_error_from(&e, &err);
        ck_assert_int_eq(e.status, cases[i].status);
        anthropic_error_write(&out, &e, STR("req_1"));
        json_t *m = json_loadb(out.ptr, out.len, 0, NULL);
        json_t *inner = json_object_get(m, "error");
        ck_assert_str_eq(json_string_value(json_object_get(m, "type")), "error");
        ck_assert_str_eq(json_string_value(json_object_get(m, "request_id")), "req_1");
        ck_assert_str_eq(json_string_value(json_object_get(inner, "type")), cases[i].type);
        bool is_told = !strcmp(json_string_value(json_object_get(inner, "message")), "text \"1\"");
        bool is_secret = cases[i].kind == ERR_CORRUPT || cases[i].kind == ERR_IO || cases[i].kind == ERR_INTERNAL ||
                         cases[i].kind == ERR_NONE;
        ck_assert_int_eq(is_told, !is_secret);
        json_decref(m);
        buf_deinit(&out);
    }
}
END_TEST

START_TEST(ids_are_unique_and_plain)
{
    char a[ANTHROPIC_ID_SIZE], b[ANTHROPIC_ID_SIZE];
    anthropic_id_make(a, "msg_");
    anthropic_id_make(b, "msg_");
    ck_assert_str_ne(a, b);
    ck_assert_uint_eq(strlen(a), 28);
    ck_assert_uint_eq(strspn(a + 4, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"), 24);
}
END_TEST

void add_answer(TCase *tc), add_stops(TCase *tc);
void add_answer(TCase *tc)
{
    tcase_add_test(tc, stream_has_exactly_these_events);
    tcase_add_test(tc, message_in_one_piece_has_all_required_keys);
    tcase_add_test(tc, broken_tool_input_is_kept_as_text);
    tcase_add_test(tc, empty_blocks_are_left_out);
    tcase_add_test(tc, omitted_thinking_leaves_its_signature);
    tcase_add_test(tc, characters_cut_by_deltas_are_joined);
    tcase_add_test(tc, stop_reasons_follow_the_blocks);
    tcase_add_test(tc, usage_of_the_start_is_not_overwritten_by_zeros);
    tcase_add_loop_test(tc, no_script_of_events_makes_an_illegal_answer, 0, 8);
    tcase_add_test(tc, every_kind_of_error_has_its_row);
    tcase_add_test(tc, ids_are_unique_and_plain);
    add_stops(tc);
}
