/* Unit tests of model: the forward pass. The logits of a token must not depend on how its sequence was cut into steps,
 * on what else was in the step, or on the number of threads. */
#include <string.h>

#include "base/alloc.h"
#include "model/model_internal.h"
#include "tiny.h"
#include "unit.h"

enum { MAX_TOKENS = 600, BATCH = 640 };

struct fixture {
    struct tiny t;
    enum kv_type kv_type; /* of keys and values */
    struct gguf *g;
    struct compute *c;
    struct model *m;
    struct tiny_kv kv;
    uint32_t tokens[2][MAX_TOKENS];
    size_t n_vocab;
};

static void fixture_open(struct fixture *f, int n_threads, enum cpu_level level)
{
    struct err e = {0};
    f->g = tiny_open(&f->t);
    f->c = compute_create(n_threads, level, &e);
    ck_assert_msg(f->c != NULL, "%s", e.msg);
    struct model_options o = {
        .max_batch_tokens = BATCH, .max_logits = BATCH, .type_k = f->kv_type, .type_v = f->kv_type};
    f->m = model_open(f->g, f->c, &o, &e);
    ck_assert_msg(f->m != NULL, "%s", e.msg);
    tiny_kv_init(&f->kv, f->m);
    f->n_vocab = (size_t)f->t.vocab;
    for (int s = 0; s < 2; s++) {
        for (int i = 0; i < MAX_TOKENS; i++) f->tokens[s][i] = (uint32_t)((i * (31 + s) + i / 7 + s) % f->t.vocab);
    }
}

static void fixture_close(struct fixture *f)
{
    tiny_kv_deinit(&f->kv);
    model_close(f->m);
    compute_destroy(f->c);
    gguf_close(f->g);
}

static struct model_span span_of(const struct fixture *f, int seq, int from, int n, int n_logits)
{
    return (struct model_span){.tokens = f->tokens[seq] + from,
                               .n_tokens = (uint32_t)n,
                               .pos = (uint32_t)from,
                               .pages = f->kv.pages[seq],
                               .n_logits = (uint32_t)n_logits};
}

static void forward(struct fixture *f, float *logits, const struct model_span *spans, uint32_t n)
{
    struct err e = {0};
    bool ok = model_forward(f->m, logits, f->kv.base, spans, n, NULL, &e);
    ck_assert_msg(ok, "%s", e.msg);
}

static float *logits_alloc(const struct fixture *f, int n)
{
    size_t bytes = (size_t)n * f->n_vocab * sizeof(float);
    float *p = mem_alloc(bytes);
    memset(p, 0xff, bytes);
    return p;
}

/* All logits of sequence 0 in steps of `chunk`; first_alone puts one token in front. The pages start as garbage. */
static float *run_chunks(struct fixture *f, int n, int chunk, bool first_alone)
{
    memset(f->kv.base, 0x3f, f->kv.bytes);
    float *out = logits_alloc(f, n);
    for (int at = 0; at < n;) {
        int len = at == 0 && first_alone ? 1 : n - at < chunk ? n - at : chunk;
        struct model_span s = span_of(f, 0, at, len, len);
        forward(f, out + (size_t)at * f->n_vocab, &s, 1);
        at += len;
    }
    return out;
}

static void same_rows(const struct fixture *f, const float *got, const float *want, int n, const char *how)
{
    for (int i = 0; i < n; i++) {
        const size_t at = (size_t)i * f->n_vocab;
        ck_assert_msg(memcmp(got + at, want + at, f->n_vocab * sizeof *got) == 0, "%s: row %d differs", how, i);
        for (size_t v = 0; v < f->n_vocab; v++)
            ck_assert_msg(got[at + v] - got[at + v] == 0, "%s: row %d not finite", how, i);
    }
}

static void check_chunks(struct fixture *f, const float *want, int n, int chunk, bool first_alone, const char *how)
{
    float *got = run_chunks(f, n, chunk, first_alone);
    same_rows(f, got, want, n, how);
    mem_free(got);
}

/* Sequence 0 cut in three, each step shared with tokens of sequence 1; of most rows no logits are wanted. */
static void check_with_neighbour(struct fixture *f, const float *want, int n)
{
    memset(f->kv.base, 0x3f, f->kv.bytes);
    float *out = logits_alloc(f, n);
    const int cuts[] = {0, n / 3, n / 2, n};
    for (int i = 0; i < 3; i++) {
        int len = cuts[i + 1] - cuts[i];
        struct model_span s[2] = {span_of(f, 1, i * 5, 5, i), span_of(f, 0, cuts[i], len, 2)};
        if (i % 2) {
            struct model_span swap = s[0];
            s[0] = s[1];
            s[1] = swap;
        }
        forward(f, out, s, 2);
        const float *mine = i % 2 ? out : out + (size_t)i * f->n_vocab;
        same_rows(f, mine, want + (size_t)(cuts[i + 1] - 2) * f->n_vocab, 2, "with a neighbour");
    }
    mem_free(out);
}

/* A prefill without any logits, then one token with them. */
static void check_silent_prefill(struct fixture *f, const float *want, int n)
{
    memset(f->kv.base, 0x3f, f->kv.bytes);
    float *out = logits_alloc(f, 1);
    struct model_span s = span_of(f, 0, 0, n - 1, 0);
    forward(f, NULL, &s, 1);
    s = span_of(f, 0, n - 1, 1, 1);
    forward(f, out, &s, 1);
    same_rows(f, out, want + (size_t)(n - 1) * f->n_vocab, 1, "after a silent prefill");
    mem_free(out);
}

static void check_all_cuts(const struct tiny *t, int n)
{
    for (int level = CPU_C; level <= (int)cpu_level_detect(); level++) {
        struct fixture f = {.t = *t};
        fixture_open(&f, 1, (enum cpu_level)level);
        float *want = run_chunks(&f, n, n, false);
        check_chunks(&f, want, n, n, true, "one and the rest");
        check_chunks(&f, want, n, 7, false, "chunks of 7");
        check_chunks(&f, want, n, 1, false, "token by token");
        check_with_neighbour(&f, want, n);
        check_silent_prefill(&f, want, n);
        fixture_close(&f);
        fixture_open(&f, 2, (enum cpu_level)level);
        check_chunks(&f, want, n, n, false, "two threads");
        check_chunks(&f, want, n, 13, true, "two threads, chunks of 13");
        fixture_close(&f);
        mem_free(want);
    }
}

START_TEST(llama_gives_the_same_logits_however_it_is_cut)
{
    struct tiny t;
    tiny_init(&t, "llama");
    t.mixed_types = true; /* products with a panel border inside, and an odd vocabulary */
    t.rope_freqs = true;
    t.vocab = 99;
    check_all_cuts(&t, 70);
}
END_TEST

START_TEST(qwen2_gives_the_same_logits_however_it_is_cut)
{
    struct tiny t;
    tiny_init(&t, "qwen2");
    t.untied = true;
    check_all_cuts(&t, 70);
}
END_TEST

START_TEST(gemma3_gives_the_same_logits_however_it_is_cut)
{
    struct tiny t;
    tiny_init(&t, "gemma3");
    t.mixed_types = true;
    tiny_key_set(&t, (struct tiny_key){.name = "final_logit_softcapping", .kind = TINY_F32, .f = 5});
    check_all_cuts(&t, 70);
}
END_TEST

START_TEST(experts_give_the_same_logits_however_they_are_cut)
{
    struct tiny t;
    tiny_init(&t, "llama");
    t.experts = 5;
    tiny_key_set(&t, (struct tiny_key){.name = "expert_count", .kind = TINY_U32, .u = 5});
    tiny_key_set(&t, (struct tiny_key){.name = "expert_used_count", .kind = TINY_U32, .u = 2});
    check_all_cuts(&t, 50);
}
END_TEST

START_TEST(long_sequences_cross_attention_chunks_unchanged)
{
    struct tiny t;
    tiny_init(&t, "llama");
    check_all_cuts(&t, KV_CHUNK_TOKENS + 40);
}
END_TEST

START_TEST(tied_output_is_the_embedding)
{
    /* The writer draws output.weight behind the embedding, so an untied file has other weights: compare by hand. */
    struct fixture f = {0};
    tiny_init(&f.t, "llama");
    fixture_open(&f, 1, CPU_C);
    ck_assert_ptr_null(gguf_tensor_find(f.g, "output.weight"));
    ck_assert_int_ge(weight_out_len(f.m->output), f.t.vocab);
    fixture_close(&f);
}
END_TEST

START_TEST(embeddings_in_place_of_tokens_give_the_same)
{
    const char *const archs[] = {"llama", "gemma3"};
    for (int a = 0; a < 2; a++) {
        struct fixture f = {0};
        tiny_init(&f.t, archs[a]);
        fixture_open(&f, 1, cpu_level_detect());
        float *want = run_chunks(&f, 20, 20, false), *got = logits_alloc(&f, 20);
        const struct gguf_tensor *t = gguf_tensor_find(f.g, "token_embd.weight");
        float *rows = mem_alloc((size_t)20 * 64 * sizeof *rows);
        for (int i = 0; i < 20; i++) {
            float *row = rows + (size_t)i * 64;
            memcpy(row, (const float *)t->data + f.tokens[0][i] * 64, 64 * sizeof *row);
            for (int k = 0; a == 1 && k < 64; k++) row[k] *= 8; /* sqrt(64): media rows come scaled */
        }
        struct model_span s = span_of(&f, 0, 0, 20, 20);
        s.tokens = NULL;
        s.embeddings = rows;
        forward(&f, got, &s, 1);
        same_rows(&f, got, want, 20, archs[a]);
        mem_free(rows);
        mem_free(want);
        mem_free(got);
        fixture_close(&f);
    }
}
END_TEST

START_TEST(fused_qkv_is_read)
{
    struct fixture f = {0};
    tiny_init(&f.t, "llama");
    f.t.fused_qkv = true;
    f.t.biases = true;
    fixture_open(&f, 1, cpu_level_detect());
    ck_assert_int_eq(f.m->layers[0].attn.v_offset, 64 + 32);
    ck_assert_ptr_nonnull(f.m->layers[1].attn.qkv_bias);
    mem_free(run_chunks(&f, 20, 20, false));
    fixture_close(&f);
}
END_TEST

/* All levels: half the memory, nearly the same logits, and the same bits however the sequence is cut. */
START_TEST(an_eight_bit_cache_gives_nearly_the_same_logits)
{
    enum { N = 70 };
    for (int level = CPU_C; level <= (int)cpu_level_detect(); level++) {
        struct fixture full = {0}, f = {.kv_type = KV_Q8_0};
        struct model_info info, full_info;
        double error = 0, size = 0;
        tiny_init(&full.t, "llama");
        f.t = full.t;
        fixture_open(&full, 1, (enum cpu_level)level);
        fixture_open(&f, 2, (enum cpu_level)level);
        model_info_get(f.m, &info);
        model_info_get(full.m, &full_info);
        ck_assert_uint_lt(info.page_bytes, full_info.page_bytes * 7 / 10);
        float *want = run_chunks(&full, N, N, false), *got = run_chunks(&f, N, N, false);
        for (size_t i = 0; i < N * f.n_vocab; i++) {
            error += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
            size += (double)want[i] * (double)want[i];
        }
        ck_assert_double_gt(error, 0);
        ck_assert_double_lt(error, size * 4e-4);
        check_chunks(&f, got, N, 7, false, "8 bits, chunks of 7");
        check_chunks(&f, got, N, 1, false, "8 bits, token by token");
        fixture_close(&full);
        fixture_close(&f);
        mem_free(want);
        mem_free(got);
    }
}
END_TEST

START_TEST(gemma3_windows_five_of_six_layers)
{
    struct fixture f = {0};
    tiny_init(&f.t, "gemma3");
    fixture_open(&f, 1, cpu_level_detect());
    for (int i = 0; i < 7; i++) {
        ck_assert_int_eq(f.m->layers[i].attn.window, i == 5 ? 0 : 16);
        ck_assert_int_eq(f.m->layers[i].attn.rope, i == 5 ? 0 : 1);
    }
    struct model_info info;
    model_info_get(f.m, &info);
    ck_assert_uint_eq(info.sliding_window, 16);
    ck_assert_uint_gt(info.scratch_bytes, 0);
    ck_assert_uint_gt(info.weight_bytes, 0);
    fixture_close(&f);
}
END_TEST

START_TEST(window_pattern_may_be_a_list)
{
    struct fixture f = {0};
    tiny_init(&f.t, "gemma3");
    tiny_key_set(&f.t, (struct tiny_key){.name = "attention.sliding_window_pattern", .kind = TINY_FLAGS, .u = 7});
    fixture_open(&f, 1, cpu_level_detect());
    for (int i = 0; i < 7; i++) ck_assert_int_eq(f.m->layers[i].attn.window, i % 3 == 2 ? 0 : 16);
    fixture_close(&f);
}
END_TEST

START_TEST(a_stopped_step_is_cancelled)
{
    struct fixture f = {0};
    tiny_init(&f.t, "llama");
    fixture_open(&f, 1, cpu_level_detect());
    struct model_span s = span_of(&f, 0, 0, 4, 1);
    float *out = logits_alloc(&f, 1);
    const volatile int stop = 1;
    struct err e = {0};
    ck_assert(!model_forward(f.m, out, f.kv.base, &s, 1, &stop, &e));
    ck_assert_int_eq(e.kind, ERR_CANCELLED);
    const volatile int go = 0;
    ck_assert(model_forward(f.m, out, f.kv.base, &s, 1, &go, &e));
    mem_free(out);
    fixture_close(&f);
}
END_TEST

static void refuse(struct fixture *f, struct model_span s, const char *text)
{
    struct err e = {0};
    ck_assert(!model_forward(f->m, NULL, f->kv.base, &s, 1, NULL, &e));
    ck_assert_int_eq(e.kind, ERR_INVALID);
    ck_assert_msg(strstr(e.msg, text) != NULL, "\"%s\" does not name \"%s\"", e.msg, text);
}

START_TEST(bad_spans_are_refused)
{
    struct fixture f = {0};
    tiny_init(&f.t, "llama");
    fixture_open(&f, 1, cpu_level_detect());
    f.tokens[0][3] = 100;
    refuse(&f, span_of(&f, 0, 0, 4, 1), "spans[0].tokens[3]: found token 100, the vocabulary has 100");
    refuse(&f, span_of(&f, 0, 0, 0, 0), "no tokens");
    refuse(&f, span_of(&f, 0, 0, 3, 4), "n_logits: found 4");
    refuse(&f, span_of(&f, 0, 0, BATCH + 1, 1), "allowed are 640 and 640");
    struct model_span s = span_of(&f, 0, 0, 3, 1);
    s.pos = UINT32_MAX - 1;
    refuse(&f, s, "pos: found 4294967294");
    struct err e = {0};
    ck_assert(model_forward(f.m, NULL, f.kv.base, NULL, 0, NULL, &e));
    fixture_close(&f);
}
END_TEST

void add_forward(TCase *tc);
void add_forward(TCase *tc)
{
    tcase_add_test(tc, llama_gives_the_same_logits_however_it_is_cut);
    tcase_add_test(tc, qwen2_gives_the_same_logits_however_it_is_cut);
    tcase_add_test(tc, gemma3_gives_the_same_logits_however_it_is_cut);
    tcase_add_test(tc, experts_give_the_same_logits_however_they_are_cut);
    tcase_add_test(tc, long_sequences_cross_attention_chunks_unchanged);
    tcase_add_test(tc, tied_output_is_the_embedding);
    tcase_add_test(tc, embeddings_in_place_of_tokens_give_the_same);
    tcase_add_test(tc, fused_qkv_is_read);
    tcase_add_test(tc, an_eight_bit_cache_gives_nearly_the_same_logits);
    tcase_add_test(tc, gemma3_windows_five_of_six_layers);
    tcase_add_test(tc, window_pattern_may_be_a_list);
    tcase_add_test(tc, a_stopped_step_is_cancelled);
    tcase_add_test(tc, bad_spans_are_refused);
}
