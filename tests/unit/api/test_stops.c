/* Every stop at every place: answers of random blocks, cut behind any event, ended by each stop reason, by an error or
 * not at all (the client left). What went out is legal, holds everything that was generated, and names the right
 * reason. */
#include <string.h>

#include "api/anthropic_messages.h"
#include "base/rng.h"
#include "sse_check.h"
#include "unit.h"

#define MAX_EVENTS 64

struct script {
    struct chat_event events[MAX_EVENTS];
    size_t n;
    struct buf text, thinking; /* of the deltas so far */
    int n_tools;
};

static const struct chat_usage USAGE = {
    .input_tokens = 9, .cached_tokens = 5, .output_tokens = 7, .thinking_tokens = 1};

static void add(struct script *s, struct chat_event e)
{
    ck_assert_uint_lt(s->n, MAX_EVENTS);
    e.usage = USAGE;
    s->events[s->n++] = e;
}

static void add_block(struct script *s, struct rng *rng)
{
    static const char *const words[] = {"a",          "line\n\nline", "\"quoted\\\"", "\xf0\x9f\x98\x80",
                                        "data: {}\n", "<tool_call>"};
    static const char *const inputs[][3] = {
        {"{\"x\":", "[1,2", "]}"}, {"{", "\"p\":{\"q\":\"\\u00e9", "\"}}"}, {"", "{}", ""}};
    static const char *const ids[] = {"toolu_a", "toolu_b", "toolu_c", "toolu_d", "toolu_e", "toolu_f"};
    enum chat_block_kind kind = (enum chat_block_kind)(rng_next(rng) % 3);
    add(s, (struct chat_event){
               .kind = CHAT_EVENT_BLOCK_OPEN, .block = kind, .id = str_from(ids[s->n_tools % 6]), .name = STR("get")});
    size_t input = rng_next(rng) % 3;
    for (size_t i = 0; i < 3; i++) {
        const char *piece = kind == CHAT_TOOL_USE ? inputs[input][i] : words[rng_next(rng) % 6];
        add(s, (struct chat_event){.kind = CHAT_EVENT_DELTA, .block = kind, .text = str_from(piece)});
        if (rng_next(rng) % 4 == 0) add(s, (struct chat_event){.kind = CHAT_EVENT_PING});
    }
    s->n_tools += kind == CHAT_TOOL_USE;
    add(s, (struct chat_event){.kind = CHAT_EVENT_BLOCK_CLOSE, .block = kind, .signature = STR("sig")});
}

static void random_script(struct script *s, struct rng *rng)
{
    memset(s, 0, sizeof *s);
    add(s, (struct chat_event){.kind = CHAT_EVENT_START});
    for (size_t blocks = rng_next(rng) % 6; blocks; blocks--) add_block(s, rng);
}

/* What must have arrived of the first n events. A call that is cut has its JSON closed by the backend, so a cut inside
 * one is moved to its end. */
static size_t expect(struct script *s, size_t n)
{
    buf_init(&s->text, 1 << 16);
    buf_init(&s->thinking, 1 << 16);
    s->n_tools = 0;
    enum chat_block_kind open = CHAT_TEXT;
    bool is_open = false;
    size_t i = 0;
    for (; i < n || (is_open && open == CHAT_TOOL_USE); i++) {
        const struct chat_event *e = &s->events[i];
        if (e->kind == CHAT_EVENT_BLOCK_OPEN) {
            open = e->block;
            s->n_tools += open == CHAT_TOOL_USE;
        }
        is_open = e->kind == CHAT_EVENT_BLOCK_OPEN || (is_open && e->kind != CHAT_EVENT_BLOCK_CLOSE);
        if (e->kind == CHAT_EVENT_DELTA && open == CHAT_TEXT) buf_append(&s->text, e->text);
        if (e->kind == CHAT_EVENT_DELTA && open == CHAT_THINKING) buf_append(&s->thinking, e->text);
    }
    return i;
}

enum ending { BY_STOP, BY_ERROR, BY_LEAVING };

static void play(struct buf *out, bool is_stream, const struct script *s, size_t n, enum ending ending,
                 enum chat_stop stop)
{
    struct anthropic_answer a;
    struct err err;
    err_set(&err, ERR_CANCELLED, "the server is stopping");
    buf_init(out, 1 << 20);
    anthropic_answer_init(&a, is_stream, STR("msg_1"), STR("m"), STR("req_1"));
    for (size_t i = 0; i < n; i++) anthropic_answer_event(&a, out, &s->events[i]);
    struct chat_event last = {.kind = ending == BY_STOP ? CHAT_EVENT_FINISH : CHAT_EVENT_ERROR,
                              .stop = stop,
                              .stop_sequence = STR("S"),
                              .usage = USAGE,
                              .err = &err};
    if (ending != BY_LEAVING) anthropic_answer_event(&a, out, &last);
    anthropic_answer_deinit(&a);
}

static const char *expected_reason(enum chat_stop stop, bool has_tool)
{
    if (stop == CHAT_STOP_MAX_TOKENS) return "max_tokens";
    if (stop == CHAT_STOP_CONTEXT) return "model_context_window_exceeded";
    if (has_tool) return "tool_use";
    return stop == CHAT_STOP_SEQUENCE ? "stop_sequence" : "end_turn";
}

static void check_stream(const struct script *s, size_t n, enum ending ending, enum chat_stop stop)
{
    struct sse_result r;
    struct err e;
    struct buf out;
    play(&out, true, s, n, ending, stop);
    ck_assert_msg(sse_check(&r, buf_str(&out), &e), "%s\n%s", e.msg, out.ptr);
    ck_assert_msg(str_eq(buf_str(&r.text), buf_str(&s->text)), "%s", out.ptr);
    ck_assert_msg(str_eq(buf_str(&r.thinking), buf_str(&s->thinking)), "%s", out.ptr);
    ck_assert_msg(r.n_bad_inputs == 0, "an input is no JSON object: %s", out.ptr);
    ck_assert_int_eq(r.n_tools, s->n_tools);
    ck_assert_int_eq(r.has_error, ending == BY_ERROR);
    ck_assert_int_eq(r.has_stop, ending == BY_STOP);
    if (ending == BY_STOP) ck_assert_str_eq(r.stop_reason, expected_reason(stop, s->n_tools > 0));
    sse_result_deinit(&r);
    buf_deinit(&out);
}

/* The same answer in one piece: the same blocks, as one JSON value. */
static void check_message(const struct script *s, size_t n, enum chat_stop stop)
{
    struct buf out, text;
    buf_init(&text, 1 << 16);
    play(&out, false, s, n, BY_STOP, stop);
    json_t *m = json_loadb(out.ptr, out.len, JSON_REJECT_DUPLICATES, NULL);
    ck_assert_msg(m != NULL, "%s", out.ptr);
    size_t i;
    json_t *block;
    int n_tools = 0;
    json_array_foreach(json_object_get(m, "content"), i, block)
    {
        const char *part = json_string_value(json_object_get(block, "text"));
        if (part) buf_append(&text, str_from(part));
        if (json_object_get(block, "input")) n_tools += json_is_object(json_object_get(block, "input"));
    }
    ck_assert_msg(str_eq(buf_str(&text), buf_str(&s->text)), "%s", out.ptr);
    ck_assert_int_eq(n_tools, s->n_tools);
    ck_assert_str_eq(json_string_value(json_object_get(m, "stop_reason")), expected_reason(stop, s->n_tools > 0));
    json_decref(m);
    buf_deinit(&text);
    buf_deinit(&out);
}

START_TEST(every_stop_strikes_at_every_place)
{
    struct rng rng;
    rng_seed(&rng, (uint64_t)_i);
    for (int round = 0; round < 20; round++) {
        struct script s;
        random_script(&s, &rng);
        for (size_t cut = 0; cut <= s.n; cut++) {
            size_t n = expect(&s, cut);
            for (int stop = CHAT_STOP_END; stop <= CHAT_STOP_CONTEXT; stop++) {
                if (stop == CHAT_STOP_TOOL_USE && !s.n_tools) continue;
                check_stream(&s, n, BY_STOP, (enum chat_stop)stop);
                check_message(&s, n, (enum chat_stop)stop);
            }
            check_stream(&s, n, BY_ERROR, CHAT_STOP_END);
            buf_deinit(&s.text);
            buf_deinit(&s.thinking);
        }
    }
}
END_TEST

/* A client that leaves or a connection that breaks sees the stream up to any event: no error, nothing twice, no block
 * closed that was not. */
START_TEST(what_a_leaving_client_got_is_legal)
{
    struct rng rng;
    rng_seed(&rng, (uint64_t)_i + 100);
    for (int round = 0; round < 20; round++) {
        struct script s;
        random_script(&s, &rng);
        for (size_t cut = 0; cut <= s.n; cut++) {
            struct sse_result r;
            struct err e;
            struct buf out;
            play(&out, true, &s, cut, BY_LEAVING, CHAT_STOP_END);
            ck_assert_msg(sse_check(&r, buf_str(&out), &e), "%s\n%s", e.msg, out.ptr);
            ck_assert(!r.has_stop && !r.has_error && !r.has_delta);
            sse_result_deinit(&r);
            buf_deinit(&out);
        }
    }
}
END_TEST

void add_stops(TCase *tc);
void add_stops(TCase *tc)
{
    tcase_add_loop_test(tc, every_stop_strikes_at_every_place, 0, 8);
    tcase_add_loop_test(tc, what_a_leaving_client_got_is_legal, 0, 4);
}
