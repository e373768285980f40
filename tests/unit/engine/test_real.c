/* The engine over the real forward pass (tiny random models): an answer must be the same, token for token, alone on a
 * fresh engine and in a crowd with shared prefixes, chunked prefills, copied pages and preemption. */
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/rng.h"
#include "engine/engine_internal.h"
#include "toy.h"
#include "unit.h"

#include "../model/tiny.c" /* a program per folder: the other folder's maker of models comes in as text */

unit_adder add_real_tests;

enum { N_REQUESTS = 9, N_PROMPT = 120 };

static bool real_forward(void *ctx, float *logits, uint8_t *kv_base, const struct model_span *spans, uint32_t n_spans,
                         const volatile int *stop, struct err *e)
{
    return model_forward(ctx, logits, kv_base, spans, n_spans, stop, e);
}

static bool never_eog(void *ctx, uint32_t token)
{
    (void)ctx, (void)token;
    return false;
}

static bool token_text(void *ctx, struct detokenizer *d, struct buf *out, uint32_t token, bool show_control)
{
    (void)ctx, (void)d, (void)show_control;
    return buf_append_char(out, (char)('0' + token / 10 % 10)) && buf_append_char(out, (char)('0' + token % 10));
}

static bool no_rest(void *ctx, struct detokenizer *d, struct buf *out)
{
    (void)ctx, (void)d, (void)out;
    return true;
}

static struct engine *real_engine(struct model *m, uint32_t n_parallel, uint32_t n_pages)
{
    struct engine_ops ops = {
        .ctx = m, .forward = real_forward, .is_eog = never_eog, .feed = token_text, .finish = no_rest};
    struct model_info info;
    struct err e = {0};
    model_info_get(m, &info);
    struct engine_config config = {
        .n_ctx = 256, .n_parallel = n_parallel, .n_batch = 64, .kv_bytes = n_pages * info.page_bytes};
    struct engine *g = engine_create_with_ops(&ops, &info, &config, &e);
    ck_assert_msg(g != NULL, "%s", e.msg);
    return g;
}

static void make_requests(struct engine_request *requests, uint32_t (*tokens)[N_PROMPT], struct result *results)
{
    struct rng r;
    rng_seed(&r, 11);
    for (uint32_t i = 0; i < N_REQUESTS; i++) {
        uint32_t n = 1 + (uint32_t)(rng_next(&r) % N_PROMPT);
        for (uint32_t k = 0; k < N_PROMPT; k++) tokens[i][k] = (uint32_t)(rng_next(&r) % 100);
        if (i && i % 2) memcpy(tokens[i], tokens[i - 1], n / 2 * sizeof(uint32_t)); /* parts inside a page */
        result_init(&results[i]);
        requests[i] = toy_request(&results[i], tokens[i], n, 40);
        if (i % 3) requests[i].sampling = (struct sampler_params){.temperature = 1, .top_p = 0.95f, .seed = i};
    }
}

static void check_model(const char *arch)
{
    static uint32_t tokens[N_REQUESTS][N_PROMPT];
    static struct result alone[N_REQUESTS], crowd[N_REQUESTS];
    struct engine_request requests[N_REQUESTS];
    struct tiny t;
    struct err e = {0};
    log_set_level(LOG_OFF);
    tiny_init(&t, arch);
    struct gguf *file = tiny_open(&t);
    struct compute *c = compute_create(1, cpu_level_detect(), &e); /* one: the team has its own tests */
    struct model *m = c ? model_open(file, c, &(struct model_options){.max_batch_tokens = 64}, &e) : NULL;
    ck_assert_msg(m != NULL, "%s", e.msg);
    make_requests(requests, tokens, alone);
    for (int i = 0; i < N_REQUESTS; i++) {
        struct engine *g = real_engine(m, 1, 40);
        toy_run(g, &alone[i], &requests[i]);
        ck_assert_msg(alone[i].last.kind == ENGINE_FINISHED, "%s", alone[i].err.msg);
        engine_destroy(g);
    }
    make_requests(requests, tokens, crowd);
    struct engine *g = real_engine(m, 5, 17);
    for (int i = 0; i < N_REQUESTS; i++) ck_assert(engine_submit(g, &crowd[i].id, &requests[i], &e));
    for (int i = 0; i < N_REQUESTS; i++) {
        result_wait(&crowd[i]);
        ck_assert_uint_eq(crowd[i].len, alone[i].len);
        ck_assert_mem_eq(crowd[i].text, alone[i].text, alone[i].len);
    }
    engine_destroy(g);
    model_close(m);
    compute_destroy(c);
    gguf_close(file);
}

START_TEST(answers_of_real_models_are_the_same_alone_and_in_a_crowd)
{
    static const char *const archs[] = {"llama", "qwen2", "gemma3"};
    check_model(archs[_i]);
}
END_TEST

void add_real_tests(TCase *tc)
{
    tcase_add_loop_test(tc, answers_of_real_models_are_the_same_alone_and_in_a_crowd, 0, 3);
}
