/* Unit tests of the engine over a toy model that checks every page it reads. */
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/rng.h"
#include "toy.h"
#include "unit.h"

static const struct engine_config small = {
    .n_ctx = 1024, .n_parallel = 4, .n_batch = 64, .kv_bytes = 200 * TOY_PAGE_BYTES};

static void quiet(void)
{
    log_set_level(LOG_OFF);
}

static void fill_tokens(uint32_t *tokens, uint32_t n, uint64_t seed)
{
    struct rng r;
    rng_seed(&r, seed);
    for (uint32_t i = 0; i < n; i++) tokens[i] = (uint32_t)(rng_next(&r) % (TOY_VOCAB - 1));
}

static void check_same(const struct result *got, const struct result *want)
{
    ck_assert_msg(got->last.kind == ENGINE_FINISHED, "failed: %s", got->err.msg);
    ck_assert_int_eq(got->last.finish, want->last.finish);
    ck_assert_uint_eq(got->last.n_generated, want->last.n_generated);
    ck_assert_uint_eq(got->len, want->len);
    ck_assert_mem_eq(got->text, want->text, want->len);
    ck_assert_uint_eq(got->n_started, 1);
}

static void sleep_ms(long ms)
{
    struct timespec ts = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&ts, NULL);
}

START_TEST(an_answer_is_what_the_model_says)
{
    struct toy t = {.eog_in = 40};
    struct engine *g = toy_engine(&t, &small);
    for (uint32_t n = 1; n < 400; n += 13) {
        uint32_t tokens[400];
        struct result got, want;
        fill_tokens(tokens, n, n);
        struct engine_request r = toy_request(&got, tokens, n, 50);
        toy_expect(&t, &want, NULL, &r, small.n_ctx);
        toy_run(g, &got, &r);
        check_same(&got, &want);
        ck_assert_uint_eq(got.last.n_prompt, n);
    }
    engine_destroy(g);
}
END_TEST

START_TEST(the_text_that_reaches_a_limit_says_that_it_is_the_last)
{
    struct toy t = {.kind = TOY_SUCCESSOR};
    struct engine *g = toy_engine(&t, &small);
    for (uint32_t most = 1; most < 4; most++) {
        struct result got;
        struct engine_request r = toy_request(&got, (const uint32_t[]){10}, 1, most);
        toy_run(g, &got, &r);
        ck_assert_uint_eq(got.n_texts, most);
        ck_assert(got.is_ending);
    }
    engine_destroy(g);
}
END_TEST

START_TEST(an_engine_that_expects_a_request_sleeps_again_without_one)
{
    struct toy t = {.kind = TOY_SUCCESSOR};
    struct engine *g = toy_engine(&t, &small);
    struct result got;
    struct engine_request r = toy_request(&got, (const uint32_t[]){10}, 1, 2);
    for (int i = 0; i < 3; i++) {
        engine_expect(g);
        if (i == 1) sleep_ms(20);
        toy_run(g, &got, &r);
    }
    engine_expect(g);
    sleep_ms(20);
    struct timespec from, to;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
    sleep_ms(200);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
    ck_assert_double_lt((double)(to.tv_sec - from.tv_sec) + 1e-9 * (double)(to.tv_nsec - from.tv_nsec), 0.1);
    engine_destroy(g);
}
END_TEST

START_TEST(the_next_turn_costs_only_its_new_tokens)
{
    struct toy t = {0};
    struct engine *g = toy_engine(&t, &small);
    for (uint32_t n = 1; n < 200; n += 11) {
        uint32_t tokens[400];
        struct result got, want;
        fill_tokens(tokens, n, 1000 + n);
        tokens[0] = n; /* no two conversations begin alike */
        struct engine_request r = toy_request(&got, tokens, n, 37);
        toy_expect(&t, &want, tokens + n, &r, small.n_ctx);
        toy_run(g, &got, &r);
        check_same(&got, &want);
        ck_assert_uint_eq(got.last.n_cached, 0);
        uint32_t computed = atomic_load(&t.n_tokens);
        fill_tokens(tokens + n + 37, 20, 5); /* the client's next message */
        r = toy_request(&got, tokens, n + 37 + 20, 3);
        toy_expect(&t, &want, NULL, &r, small.n_ctx);
        toy_run(g, &got, &r);
        check_same(&got, &want);
        ck_assert_uint_eq(got.last.n_cached, n + 36); /* the last generated token had not been computed */
        ck_assert_uint_eq(atomic_load(&t.n_tokens) - computed, 21 + 2);
    }
    engine_destroy(g);
}
END_TEST

START_TEST(after_an_end_of_generation_token_all_generated_tokens_are_cached)
{
    struct toy t = {.eog_in = 6};
    struct engine *g = toy_engine(&t, &small);
    int n_eog = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        uint32_t tokens[400];
        struct result got, want;
        fill_tokens(tokens, 70, seed);
        struct engine_request r = toy_request(&got, tokens, 70, 100);
        toy_expect(&t, &want, tokens + 70, &r, small.n_ctx);
        toy_run(g, &got, &r);
        check_same(&got, &want);
        if (got.last.finish != FINISH_EOG) continue;
        ck_assert_uint_eq(got.last.eog_token, TOY_EOG);
        n_eog++;
        uint32_t n = 70 + got.last.n_generated;
        tokens[n] = TOY_EOG;
        tokens[n + 1] = 5;
        r = toy_request(&got, tokens, n + 2, 1);
        toy_run(g, &got, &r);
        ck_assert_uint_eq(got.last.n_cached, n);
    }
    ck_assert_int_gt(n_eog, 10);
    engine_destroy(g);
}
END_TEST

START_TEST(prefill_only_warms_the_cache)
{
    struct toy t = {0};
    struct engine *g = toy_engine(&t, &small);
    uint32_t tokens[200];
    struct result got;
    fill_tokens(tokens, 200, 3);
    struct engine_request r = toy_request(&got, tokens, 150, 0);
    toy_run(g, &got, &r);
    ck_assert_int_eq(got.last.finish, FINISH_LENGTH);
    ck_assert_uint_eq(got.last.n_generated, 0);
    r = toy_request(&got, tokens, 200, 1);
    toy_run(g, &got, &r);
    ck_assert_uint_eq(got.last.n_cached, 150);
    engine_destroy(g);
}
END_TEST

START_TEST(salts_share_no_pages)
{
    struct toy t = {0};
    struct engine *g = toy_engine(&t, &small);
    uint32_t tokens[200];
    struct result got;
    fill_tokens(tokens, 200, 3);
    for (uint64_t salt = 1; salt < 4; salt++)
        for (int again = 0; again < 2; again++) {
            struct engine_request r = toy_request(&got, tokens, 200, 5);
            r.salt = salt;
            toy_run(g, &got, &r);
            ck_assert_uint_eq(got.last.n_cached, again ? 199 : 0);
        }
    engine_destroy(g);
}
END_TEST

START_TEST(the_context_ends_an_answer)
{
    struct toy t = {0};
    struct engine_config config = {.n_ctx = 100, .n_parallel = 2, .n_batch = 32, .kv_bytes = 4 * TOY_PAGE_BYTES};
    struct engine *g = toy_engine(&t, &config);
    uint32_t tokens[100];
    struct result got, want;
    struct err e;
    fill_tokens(tokens, 100, 3);
    for (uint32_t n = 60; n < 100; n += 13) {
        struct engine_request r = toy_request(&got, tokens, n, 1000);
        toy_expect(&t, &want, NULL, &r, 100);
        toy_run(g, &got, &r);
        check_same(&got, &want);
        ck_assert_int_eq(got.last.finish, FINISH_CONTEXT);
        ck_assert_uint_eq(got.last.n_generated, 100 - n);
    }
    struct engine_request r = toy_request(&got, tokens, 100, 10);
    ck_assert(!engine_submit(g, &got.id, &r, &e));
    ck_assert_int_eq(e.kind, ERR_TOO_LARGE);
    engine_destroy(g);
}
END_TEST

START_TEST(wrong_requests_are_refused)
{
    struct toy t = {0};
    struct engine *g = toy_engine(&t, &small);
    uint32_t tokens[3] = {1, TOY_VOCAB, 2};
    struct result got;
    struct err e;
    struct str stops[2] = {STR("ok"), STR("")};
    struct engine_request r = toy_request(&got, tokens, 3, 10);
    ck_assert(!engine_submit(g, &got.id, &r, &e) && e.kind == ERR_INVALID);
    ck_assert_ptr_nonnull(strstr(e.msg, "token 1 is 300"));
    r.n_tokens = 0;
    ck_assert(!engine_submit(g, &got.id, &r, &e) && e.kind == ERR_INVALID);
    r.n_tokens = 1;
    r.stops = stops;
    r.n_stops = 2;
    ck_assert(!engine_submit(g, &got.id, &r, &e) && e.kind == ERR_INVALID);
    stops[1] = STR("\xff");
    ck_assert(!engine_submit(g, &got.id, &r, &e) && e.kind == ERR_INVALID);
    struct engine_stats stats;
    engine_stats_get(g, &stats);
    ck_assert_uint_eq(stats.n_running + stats.n_waiting, 0);
    engine_destroy(g);
}
END_TEST

/* ---- crowds ---- */

enum { N_CROWD = 48 };

struct crowd {
    uint32_t tokens[N_CROWD][300];
    struct engine_request requests[N_CROWD];
    struct result got[N_CROWD], want[N_CROWD];
};

/* Prompts of all lengths, half of them beginning alike; greedy and sampled. */
static struct crowd *crowd_create(const struct toy *t, uint32_t n_ctx)
{
    struct crowd *c = mem_zalloc(sizeof *c);
    struct rng r;
    rng_seed(&r, 42);
    for (uint32_t i = 0; i < N_CROWD; i++) {
        uint32_t n = 1 + (uint32_t)(rng_next(&r) % 299), shared = rng_next(&r) % 2 ? (uint32_t)(rng_next(&r) % n) : 0;
        fill_tokens(c->tokens[i], n, i + 100);
        if (shared) fill_tokens(c->tokens[i], shared, 99);
        result_init(&c->got[i]);
        c->requests[i] = toy_request(&c->got[i], c->tokens[i], n, 1 + (uint32_t)(rng_next(&r) % 120));
        if (i % 3 == 0)
            c->requests[i].sampling = (struct sampler_params){.temperature = 0.9f,
                                                              .top_k = 50,
                                                              .top_p = 0.95f,
                                                              .seed = i,
                                                              .repeat_penalty = 1.1f,
                                                              .penalty_last_n = 64};
        toy_expect(t, &c->want[i], NULL, &c->requests[i], n_ctx);
    }
    return c;
}

static void crowd_submit(struct engine *g, struct crowd *c)
{
    for (uint32_t i = 0; i < N_CROWD; i++) {
        struct err e = {0};
        c->got[i].g = g;
        ck_assert_msg(engine_submit(g, &c->got[i].id, &c->requests[i], &e), "%s", e.msg);
    }
}

static void crowd_in(const struct engine_config *config, bool uses_state)
{
    struct toy t = {.eog_in = 150, .uses_state = uses_state};
    struct crowd *c = crowd_create(&t, config->n_ctx);
    struct engine *g = toy_engine(&t, config);
    crowd_submit(g, c);
    for (uint32_t i = 0; i < N_CROWD; i++) {
        result_wait(&c->got[i]);
        check_same(&c->got[i], &c->want[i]);
    }
    struct engine_stats stats;
    engine_stats_get(g, &stats);
    ck_assert_uint_eq(stats.n_running + stats.n_waiting + stats.n_pages_used, 0);
    ck_assert_uint_eq(stats.n_requests, N_CROWD);
    engine_destroy(g);
    mem_free(c);
}

START_TEST(answers_are_the_same_alone_and_in_a_crowd)
{
    crowd_in(&(struct engine_config){.n_ctx = 600, .n_parallel = 8, .n_batch = 128, .kv_bytes = 400 * TOY_PAGE_BYTES},
             false);
}
END_TEST

START_TEST(answers_survive_preemption)
{
    for (uint32_t pages = 14; pages < 40; pages += 5)
        crowd_in(
            &(struct engine_config){.n_ctx = 430, .n_parallel = 6, .n_batch = 48, .kv_bytes = pages * TOY_PAGE_BYTES},
            false);
}
END_TEST

START_TEST(recurrent_state_sees_every_token_once)
{
    crowd_in(&(struct engine_config){.n_ctx = 430, .n_parallel = 6, .n_batch = 48, .kv_bytes = 20 * TOY_PAGE_BYTES},
             true);
}
END_TEST

START_TEST(random_cancels_and_pauses_leave_the_others_alone)
{
    struct toy t = {.eog_in = 150};
    struct engine_config config = {.n_ctx = 430, .n_parallel = 5, .n_batch = 48, .kv_bytes = 25 * TOY_PAGE_BYTES};
    struct crowd *c = crowd_create(&t, config.n_ctx);
    struct engine *g = toy_engine(&t, &config);
    struct rng r;
    rng_seed(&r, 7 + (uint64_t)_i);
    atomic_store(&t.step_us, 50);
    bool cancelled[N_CROWD] = {false};
    for (uint32_t i = 0; i < N_CROWD; i += 7) cancelled[i] = true, c->got[i].cancel_after = 1 + i % 3;
    crowd_submit(g, c);
    for (int op = 0; op < 300; op++) {
        uint32_t i = (uint32_t)(rng_next(&r) % N_CROWD);
        if (op % 10 == 0) cancelled[i] = true, engine_cancel(g, c->got[i].id);
        else engine_pause(g, c->got[i].id, op % 3 != 0);
        if (op % 4 == 0) sleep_ms(1);
    }
    for (uint32_t i = 0; i < N_CROWD; i++) engine_pause(g, c->got[i].id, false);
    for (uint32_t i = 0; i < N_CROWD; i++) {
        result_wait(&c->got[i]);
        if (c->got[i].last.kind == ENGINE_FAILED) {
            ck_assert(cancelled[i] && c->got[i].err.kind == ERR_CANCELLED);
            ck_assert_uint_le(c->got[i].len, c->want[i].len);
            ck_assert_mem_eq(c->got[i].text, c->want[i].text, c->got[i].len);
        } else check_same(&c->got[i], &c->want[i]);
    }
    struct engine_stats stats;
    engine_stats_get(g, &stats);
    ck_assert_uint_eq(stats.n_running + stats.n_waiting + stats.n_pages_used, 0);
    engine_destroy(g);
    mem_free(c);
}
END_TEST

START_TEST(destroy_ends_running_and_waiting_requests)
{
    struct toy t = {0};
    struct crowd *c = crowd_create(&t, small.n_ctx);
    struct engine *g = toy_engine(&t, &small);
    if (_i) atomic_store(&t.hold, true); /* a step that would never end by itself */
    for (uint32_t i = 0; i < N_CROWD; i++) c->requests[i].max_tokens = 100000;
    crowd_submit(g, c);
    if (_i) result_wait_started(&c->got[0]);
    else result_wait_texts(&c->got[0], 3);
    engine_destroy(g);
    for (uint32_t i = 0; i < N_CROWD; i++) {
        ck_assert(c->got[i].ended);
        if (c->got[i].last.kind == ENGINE_FAILED) ck_assert_int_eq(c->got[i].err.kind, ERR_CANCELLED);
    }
    mem_free(c);
}
END_TEST

/* ---- scheduling ---- */

START_TEST(the_queue_has_a_bound)
{
    struct toy t = {0};
    struct engine_config config = small;
    config.n_parallel = 2;
    config.max_queue = 3;
    atomic_store(&t.hold, true);
    struct engine *g = toy_engine(&t, &config);
    uint32_t tokens[1] = {1};
    struct result got[6];
    struct err e;
    for (int i = 0; i < 6; i++) {
        result_init(&got[i]);
        struct engine_request r = toy_request(&got[i], tokens, 1, 5);
        bool taken = engine_submit(g, &got[i].id, &r, &e);
        ck_assert_int_eq(taken, i < 5);
    }
    ck_assert_int_eq(e.kind, ERR_BUSY);
    atomic_store(&t.hold, false);
    for (int i = 0; i < 5; i++) result_wait(&got[i]);
    struct engine_request r = toy_request(&got[5], tokens, 1, 5);
    toy_run(g, &got[5], &r);
    ck_assert_int_eq(got[5].last.kind, ENGINE_FINISHED);
    engine_destroy(g);
}
END_TEST

START_TEST(paused_requests_leave_the_queue_to_others)
{
    struct toy t = {0};
    struct engine_config config = small;
    config.n_parallel = config.max_queue = 1;
    atomic_store(&t.step_us, 1000);
    struct engine *g = toy_engine(&t, &config);
    uint32_t tokens[1] = {1};
    struct result got[3];
    bool taken = false;
    for (int i = 0; i < 2; i++) {
        result_init(&got[i]);
        struct engine_request r = toy_request(&got[i], tokens, 1, 100);
        ck_assert(engine_submit(g, &got[i].id, &r, NULL));
        engine_pause(g, got[i].id, true);
    }
    result_init(&got[2]);
    struct engine_request r = toy_request(&got[2], tokens, 1, 5);
    for (int i = 0; i < 1000 && !taken; i++, sleep_ms(1)) taken = engine_submit(g, &got[2].id, &r, NULL);
    ck_assert(taken);
    result_wait(&got[2]);
    for (int i = 0; i < 2; i++) engine_pause(g, got[i].id, false);
    for (int i = 0; i < 2; i++) result_wait(&got[i]);
    struct engine_stats stats;
    engine_stats_get(g, &stats);
    ck_assert_uint_eq(stats.n_running + stats.n_waiting, 0);
    engine_destroy(g);
}
END_TEST

START_TEST(a_cancel_stops_a_step_that_runs_for_nobody_else)
{
    struct toy t = {0};
    struct engine *g = toy_engine(&t, &small);
    uint32_t tokens[900];
    struct result got, want;
    fill_tokens(tokens, 900, 3);
    struct engine_request r = toy_request(&got, tokens, 900, 20);
    toy_expect(&t, &want, NULL, &r, small.n_ctx);
    result_init(&got);
    atomic_store(&t.step_us, 2000);
    ck_assert(engine_submit(g, &got.id, &r, NULL));
    while (atomic_load(&t.n_steps) < 4) sleep_ms(1);
    atomic_store(&t.hold, true);
    sleep_ms(5);
    engine_cancel(g, got.id);
    result_wait(&got); /* would hang if the step went on */
    ck_assert_int_eq(got.err.kind, ERR_CANCELLED);
    ck_assert_uint_ge(atomic_load(&t.n_stopped), 1);
    atomic_store(&t.hold, false);
    atomic_store(&t.step_us, 0);
    toy_run(g, &got, &r);
    check_same(&got, &want);
    ck_assert_uint_ge(got.last.n_cached, 3 * 64); /* what was computed before the cancellation is not computed again */
    engine_destroy(g);
}
END_TEST

START_TEST(a_paused_request_makes_room_and_goes_on_as_if_nothing_happened)
{
    struct toy t = {0};
    struct engine_config config = small;
    config.n_parallel = 1;
    struct engine *g = toy_engine(&t, &config);
    uint32_t a_tokens[50], b_tokens[60];
    struct result a, b, want_a, want_b;
    fill_tokens(a_tokens, 50, 1);
    fill_tokens(b_tokens, 60, 2);
    struct engine_request ra = toy_request(&a, a_tokens, 50, 300), rb = toy_request(&b, b_tokens, 60, 40);
    toy_expect(&t, &want_a, NULL, &ra, small.n_ctx);
    toy_expect(&t, &want_b, NULL, &rb, small.n_ctx);
    result_init(&a);
    atomic_store(&t.step_us, 500);
    ck_assert(engine_submit(g, &a.id, &ra, NULL));
    result_wait_texts(&a, 10);
    engine_pause(g, a.id, true);
    toy_run(g, &b, &rb); /* the only place is a's */
    check_same(&b, &want_b);
    ck_assert(!a.ended);
    uint32_t steps = atomic_load(&t.n_steps);
    sleep_ms(30);
    ck_assert_uint_eq(atomic_load(&t.n_steps), steps); /* nothing runs for a paused request */
    atomic_store(&t.step_us, 0);
    engine_pause(g, a.id, false);
    result_wait(&a);
    check_same(&a, &want_a);
    engine_destroy(g);
}
END_TEST

START_TEST(a_failed_step_fails_its_sequences_and_the_engine_goes_on)
{
    struct toy t = {0};
    struct engine *g = toy_engine(&t, &small);
    uint32_t tokens[100];
    struct result got, want;
    fill_tokens(tokens, 100, 9);
    struct engine_request r = toy_request(&got, tokens, 100, 200);
    toy_expect(&t, &want, NULL, &r, small.n_ctx);
    result_init(&got);
    atomic_store(&t.step_us, 300);
    ck_assert(engine_submit(g, &got.id, &r, NULL));
    result_wait_texts(&got, 5);
    atomic_store(&t.fail, true);
    result_wait(&got);
    ck_assert_int_eq(got.last.kind, ENGINE_FAILED);
    ck_assert_str_eq(got.err.msg, "the toy broke");
    atomic_store(&t.step_us, 0);
    toy_run(g, &got, &r);
    check_same(&got, &want);
    ck_assert_uint_ge(got.last.n_cached, 99);
    engine_destroy(g);
}
END_TEST

START_TEST(a_long_prompt_neither_stalls_decoding_nor_short_prompts)
{
    struct toy t = {0};
    struct engine_config config = {.n_ctx = 4000, .n_parallel = 4, .n_batch = 512, .kv_bytes = 600 * TOY_PAGE_BYTES};
    struct engine *g = toy_engine(&t, &config);
    uint32_t *tokens = mem_alloc(3900 * sizeof *tokens);
    struct result decoding, big, brief;
    fill_tokens(tokens, 3900, 9);
    struct engine_request rd = toy_request(&decoding, tokens, 10, 3000), rl = toy_request(&big, tokens + 1, 3800, 5),
                          rs = toy_request(&brief, tokens + 2, 100, 5);
    result_init(&decoding);
    result_init(&big);
    result_init(&brief);
    atomic_store(&t.step_us, 2000);
    ck_assert(engine_submit(g, &decoding.id, &rd, NULL));
    result_wait_texts(&decoding, 3);
    ck_assert(engine_submit(g, &big.id, &rl, NULL));
    result_wait_started(&big);
    ck_assert(engine_submit(g, &brief.id, &rs, NULL));
    result_wait(&brief);
    ck_assert(!big.ended);
    ck_assert_uint_eq(big.n_texts, 0);
    ck_assert_uint_le(atomic_load(&t.n_mixed_max), 256 + 4);
    uint32_t steps = atomic_load(&t.n_steps), before = decoding.n_texts;
    result_wait_texts(&decoding, before + 5);
    ck_assert_uint_le(atomic_load(&t.n_steps) - steps, 8); /* a token in each step */
    engine_cancel(g, decoding.id);
    engine_cancel(g, big.id);
    engine_destroy(g);
    mem_free(tokens);
}
END_TEST

START_TEST(an_engine_without_work_sleeps)
{
    struct toy t = {0};
    struct engine *g = toy_engine(&t, &small);
    uint32_t token = 1;
    struct result got;
    struct engine_request r = toy_request(&got, &token, 1, 1000);
    result_init(&got);
    ck_assert(engine_submit(g, &got.id, &r, NULL));
    engine_pause(g, got.id, true); /* a paused request is no work */
    sleep_ms(50);
    clock_t before = clock();
    sleep_ms(300);
    ck_assert_int_lt((long)(clock() - before), CLOCKS_PER_SEC / 50);
    engine_destroy(g);
}
END_TEST

START_TEST(seeds_decide)
{
    struct toy t = {0};
    struct engine *g = toy_engine(&t, &small);
    uint32_t tokens[40];
    struct result a, b, other;
    fill_tokens(tokens, 40, 9);
    struct engine_request r = toy_request(&a, tokens, 40, 60);
    r.sampling = SAMPLER_DEFAULTS;
    r.sampling.seed = 5;
    toy_run(g, &a, &r);
    r.ctx = &b;
    toy_run(g, &b, &r);
    check_same(&b, &a);
    r.ctx = &other;
    r.sampling.seed = 6;
    toy_run(g, &other, &r);
    ck_assert(other.len != a.len || memcmp(other.text, a.text, a.len) != 0);
    engine_destroy(g);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, quiet, NULL);
    tcase_add_test(tc, an_answer_is_what_the_model_says);
    tcase_add_test(tc, the_text_that_reaches_a_limit_says_that_it_is_the_last);
    tcase_add_test(tc, an_engine_that_expects_a_request_sleeps_again_without_one);
    tcase_add_test(tc, the_next_turn_costs_only_its_new_tokens);
    tcase_add_test(tc, after_an_end_of_generation_token_all_generated_tokens_are_cached);
    tcase_add_test(tc, prefill_only_warms_the_cache);
    tcase_add_test(tc, salts_share_no_pages);
    tcase_add_test(tc, the_context_ends_an_answer);
    tcase_add_test(tc, wrong_requests_are_refused);
    tcase_add_test(tc, answers_are_the_same_alone_and_in_a_crowd);
    tcase_add_test(tc, answers_survive_preemption);
    tcase_add_test(tc, recurrent_state_sees_every_token_once);
    tcase_add_loop_test(tc, random_cancels_and_pauses_leave_the_others_alone, 0, 8);
    tcase_add_loop_test(tc, destroy_ends_running_and_waiting_requests, 0, 2);
    tcase_add_test(tc, the_queue_has_a_bound);
    tcase_add_test(tc, paused_requests_leave_the_queue_to_others);
    tcase_add_test(tc, a_cancel_stops_a_step_that_runs_for_nobody_else);
    tcase_add_test(tc, a_paused_request_makes_room_and_goes_on_as_if_nothing_happened);
    tcase_add_test(tc, a_failed_step_fails_its_sequences_and_the_engine_goes_on);
    tcase_add_test(tc, a_long_prompt_neither_stalls_decoding_nor_short_prompts);
    tcase_add_test(tc, an_engine_without_work_sleeps);
    tcase_add_test(tc, seeds_decide);
}

extern unit_adder add_stop_tests, add_real_tests, add_constraint_tests, add_sections_tests;

UNIT_MAIN("engine", add_tests, add_stop_tests, add_real_tests, add_constraint_tests, add_sections_tests)
