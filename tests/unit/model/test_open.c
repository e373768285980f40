/* Unit tests of model: opening. Every damaged file gives an error that names the key or tensor; RoPE tables. */
#include <math.h>
#include <string.h>

#include "model/model_internal.h"
#include "tiny.h"
#include "unit.h"

static struct compute *compute_small(void)
{
    struct err e = {0};
    struct compute *c = compute_create(1, cpu_level_detect(), &e);
    ck_assert_msg(c != NULL, "%s", e.msg);
    return c;
}

/* Both a checked and a packed open must refuse the file. */
static void refuse(const struct tiny *t, const char *text)
{
    struct gguf *g = tiny_open(t);
    struct compute *c = compute_small();
    for (int check = 0; check < 2; check++) {
        struct err e = {0};
        struct model_options o = {.check_only = check != 0};
        struct model *m = model_open(g, c, &o, &e);
        ck_assert_msg(m == NULL, "opened, but should say \"%s\"", text);
        ck_assert_int_eq(e.kind, ERR_INVALID);
        ck_assert_msg(strstr(e.msg, text) != NULL, "\"%s\" does not say \"%s\"", e.msg, text);
    }
    compute_destroy(c);
    gguf_close(g);
}

struct key_case {
    const char *arch;
    struct tiny_key key;
    const char *text;
};

static const struct key_case key_cases[] = {
    {"llama", {"block_count", TINY_NONE, 0, 0, 0}, "llama.block_count is missing"},
    {"llama", {"block_count", TINY_U32, 0, 0, 0}, "llama.block_count: found 0, allowed is 1 to"},
    {"llama", {"block_count", TINY_U32, 4000000000u, 0, 0}, "llama.block_count: found 4000000000"},
    {"llama", {"block_count", TINY_U32, 3, 0, 0}, "tensor blk.2.attn_norm.weight is missing"},
    {"llama", {"block_count", TINY_U32, 1, 0, 0}, "blk.1."},
    {"llama", {"block_count", TINY_STR, 0, 0, "two"}, "llama.block_count"},
    {"llama", {"context_length", TINY_U32, 0, 0, 0}, "llama.context_length: found 0"},
    {"llama", {"embedding_length", TINY_U32, 0, 0, 0}, "llama.embedding_length: found 0"},
    {"llama", {"embedding_length", TINY_U32, 0xffffffffu, 0, 0}, "llama.embedding_length: found 4294967295"},
    {"llama", {"embedding_length", TINY_U32, 72, 0, 0}, "needed is [72, "},
    {"llama", {"feed_forward_length", TINY_U32, 0, 0, 0}, "llama.feed_forward_length: found 0"},
    {"llama", {"feed_forward_length", TINY_U32, 100, 0, 0}, "ffn_gate.weight: found shape [64, 96, 1, 1]"},
    {"llama", {"feed_forward_length", TINY_FLAGS, 2, 0, 0}, "ffn_gate.weight: found shape"},
    {"llama", {"attention.head_count", TINY_U32, 0, 0, 0}, "llama.attention.head_count: found 0"},
    {"llama", {"attention.head_count", TINY_U32, 3, 0, 0}, "a multiple of head_count_kv (2)"},
    {"llama", {"attention.head_count_kv", TINY_U32, 0, 0, 0}, "llama.attention.head_count_kv: found 0"},
    {"llama", {"attention.head_count_kv", TINY_FLAGS, 3, 0, 0}, "item 2 differs from item 0"},
    {"llama", {"attention.key_length", TINY_U32, 12, 0, 0}, "llama.attention.key_length: found 12"},
    {"llama", {"attention.key_length", TINY_U32, 1u << 31, 0, 0}, "llama.attention.key_length: found 2147483648"},
    {"llama", {"attention.value_length", TINY_U32, 0, 0, 0}, "llama.attention.value_length: found 0"},
    {"llama", {"attention.layer_norm_rms_epsilon", TINY_NONE, 0, 0, 0}, "llama.attention.layer_norm_rms_epsilon"},
    {"llama", {"attention.layer_norm_rms_epsilon", TINY_F32, 0, -1, 0}, "rms_epsilon: found -1"},
    {"llama", {"attention.layer_norm_rms_epsilon", TINY_F32, 0, NAN, 0}, "rms_epsilon: found nan"},
    {"llama", {"rope.dimension_count", TINY_U32, 7, 0, 0}, "llama.rope.dimension_count: found 7, an even number"},
    {"llama", {"rope.dimension_count", TINY_U32, 18, 0, 0}, "llama.rope.dimension_count: found 18"},
    {"llama", {"rope.freq_base", TINY_F32, 0, 0, 0}, "llama.rope.freq_base: found 0"},
    {"llama", {"rope.freq_base", TINY_F32, 0, INFINITY, 0}, "llama.rope.freq_base: found inf"},
    {"llama", {"rope.scaling.factor", TINY_F32, 0, -2, 0}, "llama.rope.scaling.factor: found -2"},
    {"llama", {"rope.scaling.type", TINY_STR, 0, 0, "spiral"}, "llama.rope.scaling.type: found \"spiral\""},
    {"llama", {"rope.scaling.type", TINY_STR, 0, 0, "longrope"}, "tensor rope_factors_long.weight is missing"},
    {"llama", {"rope.scaling.type", TINY_U32, 1, 0, 0}, "llama.rope.scaling.type"},
    {"llama", {"expert_count", TINY_U32, 8, 0, 0}, "llama.expert_used_count: found 0"},
    {"llama", {"expert_used_count", TINY_U32, 2, 0, 0}, "llama.expert_used_count: found 2"},
    {"qwen2", {"expert_count", TINY_U32, 8, 0, 0}, "qwen2.expert_used_count"},
    {"gemma3", {"attention.sliding_window_pattern", TINY_FLAGS, 6, 0, 0}, "found a list of 6 items"},
    {"gemma3", {"final_logit_softcapping", TINY_F32, 0, -1, 0}, "gemma3.final_logit_softcapping: found -1"},
};

START_TEST(malformed_hyper_parameters_are_named)
{
    const struct key_case *c = &key_cases[_i];
    struct tiny t;
    tiny_init(&t, c->arch);
    tiny_key_set(&t, c->key);
    refuse(&t, c->text);
}
END_TEST

START_TEST(unknown_architectures_are_listed_with_the_known)
{
    struct tiny t;
    tiny_init(&t, "llama");
    t.arch = "perceptron";
    refuse(&t, "found \"perceptron\", known are llama, qwen2, gemma3");
}
END_TEST

START_TEST(bad_tensors_are_named)
{
    struct tiny t;
    tiny_init(&t, "llama");
    t.skip_tensor = "blk.1.ffn_up.weight";
    refuse(&t, "tensor blk.1.ffn_up.weight is missing; [64, 96, 1] is needed");
    tiny_init(&t, "llama");
    t.wrong_tensor = "blk.0.attn_k.weight";
    refuse(&t, "tensor blk.0.attn_k.weight: found shape [64, 33, 1, 1], needed is [64, 32, 1, 1]");
    tiny_init(&t, "qwen2");
    t.wrong_tensor = "blk.1.attn_v.bias";
    refuse(&t, "tensor blk.1.attn_v.bias: found shape [32, 2, 1, 1]");
    tiny_init(&t, "llama");
    t.extra_tensor = "blk.0.attn_rot.weight";
    refuse(&t, "tensor blk.0.attn_rot.weight is none that architecture llama uses");
    tiny_init(&t, "llama");
    t.i32_tensor = "blk.0.ffn_down.weight";
    refuse(&t, "tensor blk.0.ffn_down.weight: no matrix product for type");
    tiny_init(&t, "llama");
    t.i32_tensor = "token_embd.weight";
    refuse(&t, "tensor token_embd.weight");
    tiny_init(&t, "llama");
    t.i32_tensor = "output_norm.weight";
    refuse(&t, "tensor output_norm.weight");
}
END_TEST

START_TEST(the_vocabulary_must_fit_the_embedding)
{
    struct tiny t;
    tiny_init(&t, "llama");
    t.token_list = true;
    t.n_tokens = 101;
    refuse(&t, "tensor token_embd.weight: found shape [64, 100, 1, 1], needed is [64, 101, 1, 1]");
    t.n_tokens = 0;
    refuse(&t, "tokenizer.ggml.tokens: found 0 tokens");
}
END_TEST

START_TEST(checking_needs_no_compute_and_packs_nothing)
{
    struct tiny t;
    tiny_init(&t, "qwen2");
    struct gguf *g = tiny_open(&t);
    struct err e = {0};
    struct model_options o = {.check_only = true};
    struct model *m = model_open(g, NULL, &o, &e);
    ck_assert_msg(m != NULL, "%s", e.msg);
    struct model_info info;
    model_info_get(m, &info);
    ck_assert(str_eq(info.arch, STR("qwen2")));
    ck_assert_uint_eq(info.n_layers, 2);
    ck_assert_uint_eq(info.n_vocab, 100);
    ck_assert_uint_eq(info.n_ff, 96);
    ck_assert_uint_eq(info.weight_bytes, 0);
    ck_assert_uint_gt(info.n_params, 64 * 100);
    struct model_span s = {.n_tokens = 1};
    ck_assert(!model_forward(m, NULL, NULL, &s, 1, NULL, &e));
    model_close(m);
    gguf_close(g);
}
END_TEST

static void note_progress(void *ctx, double done)
{
    double *last = ctx;
    ck_assert(done > *last && done <= 1.0);
    *last = done;
}

START_TEST(progress_rises_to_one)
{
    struct tiny t;
    tiny_init(&t, "llama");
    struct gguf *g = tiny_open(&t);
    struct compute *c = compute_small();
    struct err e = {0};
    double last = 0;
    struct model_options o = {.progress = note_progress, .progress_ctx = &last};
    struct model *m = model_open(g, c, &o, &e);
    ck_assert_msg(m != NULL, "%s", e.msg);
    ck_assert_double_eq(last, 1.0);
    model_close(m);
    compute_destroy(c);
    gguf_close(g);
}
END_TEST

/* ---- RoPE ---- */

static void fill(float *cs, const struct rope_params *p, const float *factors, int pos)
{
    struct arena a;
    struct rope_set set;
    arena_init(&a, 0);
    ck_assert(rope_set_init(&set, &a, p, factors));
    rope_set_fill(&set, cs, pos);
    arena_deinit(&a);
}

static const struct rope_params plain = {
    .base = 10000, .freq_scale = 1, .n_rot = 16, .attn_factor = 1, .beta_fast = 32, .beta_slow = 1, .n_ctx_orig = 4096};

START_TEST(rope_angles_are_position_times_frequency)
{
    float cs[16], factors[8] = {1, 2, 1, 1, 1, 1, 1, 1};
    fill(cs, &plain, NULL, 100000);
    for (int i = 0; i < 8; i++) {
        double angle = 100000 * pow(10000, -i / 8.0);
        ck_assert_double_eq_tol((double)cs[2 * i], cos(angle), 1e-7);
        ck_assert_double_eq_tol((double)cs[2 * i + 1], sin(angle), 1e-7);
    }
    fill(cs, &plain, factors, 10);
    ck_assert_double_eq_tol((double)cs[2], cos(5 * pow(10000, -1 / 8.0)), 1e-7);
    struct rope_params linear = plain;
    linear.freq_scale = 0.25;
    fill(cs, &linear, NULL, 8);
    ck_assert_double_eq_tol((double)cs[0], cos(2.0), 1e-7);
}
END_TEST

START_TEST(yarn_keeps_fast_pairs_and_scales_slow_ones)
{
    struct rope_params yarn = plain;
    yarn.yarn = true;
    yarn.freq_scale = 0.25;
    float cs[16];
    const double magnitude = 1 + 0.1 * log(4);
    fill(cs, &yarn, NULL, 3);
    ck_assert_double_eq_tol((double)cs[0], cos(3.0) * magnitude, 1e-6);
    ck_assert_double_eq_tol((double)cs[14], cos(3 * pow(10000, -7 / 8.0) / 4) * magnitude, 1e-6);
    yarn.log_multiplier = 1; /* cancels the magnitude */
    fill(cs, &yarn, NULL, 3);
    ck_assert_double_eq_tol((double)cs[0], cos(3.0), 1e-6);
    yarn.log_multiplier = 0;
    yarn.attn_factor = 0.5;
    fill(cs, &yarn, NULL, 3);
    ck_assert_double_eq_tol((double)cs[0], cos(3.0) * magnitude / 2, 1e-6);
}
END_TEST

void add_forward(TCase *tc);

static void add_open(TCase *tc)
{
    tcase_add_loop_test(tc, malformed_hyper_parameters_are_named, 0, sizeof key_cases / sizeof *key_cases);
    tcase_add_test(tc, unknown_architectures_are_listed_with_the_known);
    tcase_add_test(tc, bad_tensors_are_named);
    tcase_add_test(tc, the_vocabulary_must_fit_the_embedding);
    tcase_add_test(tc, checking_needs_no_compute_and_packs_nothing);
    tcase_add_test(tc, progress_rises_to_one);
    tcase_add_test(tc, rope_angles_are_position_times_frequency);
    tcase_add_test(tc, yarn_keeps_fast_pairs_and_scales_slow_ones);
}

UNIT_MAIN("model", add_open, add_forward)
