/* Stop strings, alone and through the engine, for every cut of the text; and the plan of memory. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/rng.h"
#include "toy.h"
#include "unit.h"

unit_adder add_stop_tests;

/* Feeds `text` cut into pieces by the bits of `cuts`; writes what would be handed out. Returns the match or -1. */
static int filter(char *out, const struct str *texts, uint32_t n, struct str text, uint64_t cuts)
{
    struct stops *s = stops_create(texts, n, NULL);
    struct buf pending;
    uint32_t index, len;
    size_t end, n_out = 0;
    int found = -1;
    buf_init(&pending, 1000);
    for (size_t from = 0, to; from < text.len && found < 0; from = to) {
        for (to = from + 1; to < text.len && !(cuts >> to & 1);) to++;
        size_t before = pending.len, ready;
        buf_append(&pending, str_slice(text, from, to));
        if (stops_feed(s, &end, &index, &len, str_slice(text, from, to))) {
            found = (int)index;
            ready = before + end - len;
        } else {
            ready = pending.len - stops_held(s);
            ck_assert_uint_lt(stops_held(s), stops_longest(s));
        }
        memcpy(out + n_out, pending.ptr, ready);
        n_out += ready;
        memmove(pending.ptr, pending.ptr + ready, pending.len - ready);
        pending.len -= ready;
    }
    if (found < 0) {
        memcpy(out + n_out, pending.ptr, pending.len);
        n_out += pending.len;
    }
    out[n_out] = 0;
    buf_deinit(&pending);
    stops_destroy(s);
    return found;
}

START_TEST(stops_are_found_at_every_cut)
{
    static const struct {
        const char *text, *stops[4], *want;
        int index;
    } cases[] = {
        {"hello STOP world", {"STOP"}, "hello ", 0},
        {"aaab", {"aab"}, "a", 0},
        {"abababac!", {"ababac"}, "ab", 0},
        {"xabcdy", {"abcd", "bc"}, "xa", 1},
        {"xabcdy", {"bcd", "abcd"}, "x", 1},
        {"no match aab", {"aabb", "matchx"}, "no match aab", -1},
        {"\nHuman", {"\n\nHuman:"}, "\nHuman", -1},
        {"\n\n\nHuman: hi", {"\n\nHuman:"}, "\n", 0},
        {"z", {"z"}, "", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct str stops[4];
        uint32_t n = 0;
        for (; n < 4 && cases[i].stops[n]; n++) stops[n] = str_from(cases[i].stops[n]);
        struct str text = str_from(cases[i].text);
        for (uint64_t cuts = 0; cuts<UINT64_C(1) << text.len; cuts += text.len> 12 ? 37 : 2) {
            char out[100];
            int index = filter(out, stops, n, text, cuts);
            if (index != cases[i].index || strcmp(out, cases[i].want) != 0)
                ck_abort_msg("case %zu, cuts %llx: \"%s\" and %d", i, (unsigned long long)cuts, out, index);
        }
    }
}
END_TEST

START_TEST(stops_agree_with_a_naive_search)
{
    struct rng r;
    rng_seed(&r, 6);
    for (int round = 0; round < 20000; round++) {
        char text[25], stop_text[3][6], out[30], want[30];
        struct str stops[3];
        uint32_t n = 1 + (uint32_t)(rng_next(&r) % 3);
        for (int i = 0; i < 24; i++) text[i] = (char)('a' + rng_next(&r) % 2);
        text[24] = 0;
        for (uint32_t i = 0; i < n; i++) {
            size_t len = 1 + rng_next(&r) % 5;
            for (size_t k = 0; k < len; k++) stop_text[i][k] = (char)('a' + rng_next(&r) % 2);
            stops[i] = (struct str){stop_text[i], len};
        }
        size_t to = 24, best = 0;
        for (size_t end = 1; end <= 24 && !best; end++)
            for (uint32_t i = 0; i < n; i++)
                if (str_ends((struct str){text, end}, stops[i]) && stops[i].len > best)
                    best = stops[i].len, to = end - best;
        memcpy(want, text, to);
        want[to] = 0;
        int index = filter(out, stops, n, (struct str){text, 24}, rng_next(&r));
        if ((index >= 0) != (best > 0) || strcmp(out, want) != 0)
            ck_abort_msg("text %s: \"%s\" instead of \"%s\"", text, out, want);
    }
}
END_TEST

START_TEST(bad_stop_strings_are_refused)
{
    struct err e;
    struct str many[STOPS_MAX + 1];
    static char big[STOPS_MAX_BYTES];
    memset(big, 'x', sizeof big);
    for (int i = 0; i <= STOPS_MAX; i++) many[i] = STR("x");
    ck_assert_ptr_null(stops_create(many, STOPS_MAX + 1, &e));
    ck_assert_int_eq(e.kind, ERR_TOO_LARGE);
    many[0] = (struct str){big, sizeof big};
    ck_assert_ptr_null(stops_create(many, 2, &e));
    ck_assert_int_eq(e.kind, ERR_TOO_LARGE);
}
END_TEST

/* The model says token 1, 2, 3 ...: the text "The end. STOP never seen" in pieces. */
START_TEST(the_engine_hides_stop_strings_at_every_cut)
{
    static const char text[] = "The end. STOP never seen";
    static char pieces[4][40];
    const char *texts[TOY_VOCAB];
    struct toy t = {.kind = TOY_SUCCESSOR, .texts = texts};
    struct engine_config config = {.n_ctx = 100, .n_parallel = 2, .n_batch = 32, .kv_bytes = 20 * TOY_PAGE_BYTES};
    struct str stops[] = {STR("never seen, not even once"), STR("STOP"), STR("OP ne")};
    log_set_level(LOG_OFF);
    struct engine *g = toy_engine(&t, &config);
    for (uint32_t i = 0; i < TOY_VOCAB; i++) texts[i] = "";
    for (size_t a = 0; a < sizeof text - 1; a++)
        for (size_t b = a; b < sizeof text - 1; b++) {
            snprintf(pieces[0], 40, "%.*s", (int)a, text);
            snprintf(pieces[1], 40, "%.*s", (int)(b - a), text + a);
            snprintf(pieces[2], 40, "%s", text + b);
            for (int i = 0; i < 3; i++) texts[11 + i] = pieces[i];
            struct result got;
            uint32_t prompt[] = {10};
            struct engine_request r = toy_request(&got, prompt, 1, 10);
            r.stops = stops;
            r.n_stops = 3;
            toy_run(g, &got, &r);
            ck_assert_int_eq(got.last.finish, FINISH_STOP_STRING);
            ck_assert_int_eq(got.last.stop_index, 1);
            ck_assert_uint_eq(got.len, 9);
            ck_assert_mem_eq(got.text, "The end. ", 9);
        }
    texts[11] = "S", texts[12] = "TO", texts[13] = "!"; /* held back, then let go; and held at the end */
    texts[14] = "ST";
    uint32_t prompt[] = {10};
    struct result got;
    struct engine_request r = toy_request(&got, prompt, 1, 4);
    r.stops = stops;
    r.n_stops = 3;
    toy_run(g, &got, &r);
    ck_assert_int_eq(got.last.finish, FINISH_LENGTH);
    ck_assert_uint_eq(got.len, 6);
    ck_assert_mem_eq(got.text, "STO!ST", 6);
    ck_assert_uint_eq(got.n_texts, 2);
    engine_destroy(g);
}
END_TEST

START_TEST(the_plan_fits_the_budget)
{
    struct model_info info = {.n_vocab = 10, .n_ctx_train = 131072, .page_bytes = 1 << 20};
    struct engine_config config = {0};
    struct engine_plan p;
    struct err e;
    log_set_level(LOG_OFF);
    ck_assert(engine_plan_make(&p, &info, &config, (size_t)1 << 40, &e));
    ck_assert_uint_eq(p.n_ctx, 32768);
    ck_assert_uint_eq(p.n_pages, 4 * 1025);
    ck_assert(engine_plan_make(&p, &info, &config, (size_t)1 << 30, &e)); /* half: 512 pages */
    ck_assert_uint_eq(p.n_pages, 512);
    ck_assert_uint_eq(p.n_ctx, 512 * 32);
    config.n_ctx = 32768;
    ck_assert(!engine_plan_make(&p, &info, &config, (size_t)1 << 30, &e));
    ck_assert_int_eq(e.kind, ERR_TOO_LARGE);
    ck_assert_msg(strstr(e.msg, "1024 MiB") && strstr(e.msg, "512 MiB") && strstr(e.msg, "16384"), "%s", e.msg);
    config.kv_bytes = (size_t)3 << 30;
    ck_assert(engine_plan_make(&p, &info, &config, 0, &e));
    ck_assert_uint_eq(p.n_pages, 3072);
    config = (struct engine_config){.kv_bytes = 4 << 20};
    ck_assert(!engine_plan_make(&p, &info, &config, 0, &e));
    info.n_ctx_train = 2048;
    config = (struct engine_config){.n_parallel = 600};
    ck_assert(!engine_plan_make(&p, &info, &config, (size_t)1 << 40, &e));
    ck_assert_int_eq(e.kind, ERR_INVALID);
    config = (struct engine_config){0};
    ck_assert(engine_plan_make(&p, &info, &config, (size_t)1 << 40, &e));
    ck_assert_uint_eq(p.n_ctx, 2048);
    ck_assert_uint_gt(memory_available(), 1 << 20);
}
END_TEST

void add_stop_tests(TCase *tc)
{
    tcase_add_test(tc, stops_are_found_at_every_cut);
    tcase_add_test(tc, stops_agree_with_a_naive_search);
    tcase_add_test(tc, bad_stop_strings_are_refused);
    tcase_add_test(tc, the_engine_hides_stop_strings_at_every_cut);
    tcase_add_test(tc, the_plan_fits_the_budget);
}
