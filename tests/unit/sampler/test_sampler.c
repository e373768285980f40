/* Unit tests of the sampler: each test states one behaviour. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "sampler/sampler.h"
#include "sampler/sampler_internal.h"
#include "unit.h"

#define N_DRAWS 40000

static void fill(float *x, uint32_t n, uint64_t seed, float spread)
{
    struct rng r;
    rng_seed(&r, seed);
    for (uint32_t i = 0; i < n; i++) {
        double sum = 0;
        for (int k = 0; k < 4; k++) sum += rng_unit(&r);
        x[i] = (float)(sum - 2) * spread;
    }
}

static int by_probability(const void *a, const void *b)
{
    const double *x = a, *y = b; /* [0] probability, [1] token */
    if (x[0] != y[0]) return x[0] < y[0] ? 1 : -1;
    return x[1] < y[1] ? -1 : 1;
}

/* The chain after penalties, in double precision with a full sort. */
static void exact(double *prob, const float *x, uint32_t n, const struct sampler_params *p)
{
    double(*row)[2] = mem_alloc(n * sizeof *row);
    double max = -INFINITY, total = 0;
    for (uint32_t i = 0; i < n; i++)
        if (!isnan(x[i]) && (double)x[i] > max) max = (double)x[i];
    for (uint32_t i = 0; i < n; i++) {
        row[i][0] = isnan(x[i]) ? 0 : exp(((double)x[i] - max) / (double)p->temperature);
        row[i][1] = i;
    }
    qsort(row, n, sizeof *row, by_probability);
    uint32_t kept = p->top_k && (uint32_t)p->top_k < n ? (uint32_t)p->top_k : n;
    for (uint32_t i = 0; i < kept; i++) total += row[i][0];
    double sum = 0;
    for (uint32_t i = 0; p->top_p < 1 && i < kept; i++) {
        sum += row[i][0];
        if (sum >= (double)p->top_p * total) kept = i + 1;
    }
    while (kept > 1 && row[kept - 1][0] < (double)p->min_p * row[0][0]) kept--;
    total = 0;
    for (uint32_t i = 0; i < kept; i++) total += row[i][0];
    for (uint32_t i = 0; i < n; i++) prob[i] = 0;
    for (uint32_t i = 0; i < kept; i++) prob[(uint32_t)row[i][1]] = row[i][0] / total;
    mem_free(row);
}

/* Pearson's test: z of the Wilson-Hilferty approximation; cells under five expected draws are joined. */
static void check_distribution(const float *x, uint32_t n, const struct sampler_params *p)
{
    double *prob = mem_alloc(n * sizeof *prob);
    uint32_t *hits = mem_zalloc(n * sizeof *hits);
    exact(prob, x, n, p);
    struct sampler *s = sampler_create(p, n);
    for (int i = 0; i < N_DRAWS; i++) {
        struct sampler_choice c;
        /* a plain if: Check writes a note to a file for every assertion */
        if (!sampler_draw(s, &c, x, NULL) || !(prob[c.token] > 0)) ck_abort_msg("token %u is impossible", c.token);
        hits[c.token]++;
    }
    double chi2 = 0, rest = 0, rest_hits = 0;
    int cells = 0;
    for (uint32_t i = 0; i < n; i++) {
        double expected = prob[i] * N_DRAWS;
        if (expected < 5) rest += expected, rest_hits += hits[i];
        else chi2 += (hits[i] - expected) * (hits[i] - expected) / expected, cells++;
    }
    if (rest >= 5) chi2 += (rest_hits - rest) * (rest_hits - rest) / rest, cells++;
    double df = cells > 1 ? cells - 1 : 1;
    double z = (cbrt(chi2 / df) - (1 - 2 / (9 * df))) / sqrt(2 / (9 * df));
    ck_assert_msg(cells <= 1 || z < 4, "chi-square %.1f with %.0f degrees of freedom, z %.2f", chi2, df, z);
    sampler_destroy(s);
    mem_free(prob);
    mem_free(hits);
}

static const struct sampler_params chains[] = {
    {.temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = 1},
    {.temperature = 0.7f, .top_p = 1, .repeat_penalty = 1, .seed = 2},
    {.temperature = 1.5f, .top_p = 1, .repeat_penalty = 1, .seed = 3},
    {.temperature = 1, .top_p = 1, .top_k = 5, .repeat_penalty = 1, .seed = 4},
    {.temperature = 0.8f, .top_p = 0.9f, .repeat_penalty = 1, .seed = 5},
    {.temperature = 1, .top_p = 0.8f, .top_k = 40, .repeat_penalty = 1, .seed = 6},
    {.temperature = 1, .top_p = 1, .min_p = 0.05f, .repeat_penalty = 1, .seed = 7},
    {.temperature = 0.6f, .top_p = 0.95f, .top_k = 20, .min_p = 0.02f, .repeat_penalty = 1, .seed = 8},
};

START_TEST(draws_follow_the_exact_distribution)
{
    static const uint32_t sizes[] = {2, 17, 64, 65, 500, 3000};
    static const float spreads[] = {0.1f, 2, 8};
    float x[3000];
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t k = 0; k < sizeof spreads / sizeof *spreads; k++) {
            fill(x, sizes[i], 77 * i + k, spreads[k]);
            check_distribution(x, sizes[i], &chains[_i]);
        }
}
END_TEST

START_TEST(nan_and_minus_infinity_are_never_drawn)
{
    float x[200];
    fill(x, 200, 5, 2);
    for (int i = 0; i < 200; i += 3) x[i] = NAN;
    for (int i = 1; i < 200; i += 3) x[i] = -INFINITY;
    check_distribution(x, 200, &chains[_i]);
}
END_TEST

START_TEST(equal_logits_keep_exactly_k_with_lowest_ids)
{
    float x[1000] = {0};
    struct sampler_params p = SAMPLER_DEFAULTS;
    p.top_k = 7;
    check_distribution(x, 1000, &p);
    p.top_k = 0;
    p.top_p = 0.25f;
    check_distribution(x, 1000, &p);
}
END_TEST

START_TEST(masked_tokens_are_never_drawn)
{
    enum { N = 1000 };
    float x[N], without[N];
    uint64_t mask[(N + 63) / 64] = {0};
    fill(x, N, 9, 3);
    x[500] = 50; /* forbidden, and far above the rest */
    for (int i = 0; i < N; i++) {
        bool allowed = i % 7 == 3 && i != 500 && (i < 320 || i >= 640);
        if (allowed) mask[i / 64] |= UINT64_C(1) << (i % 64);
        without[i] = allowed ? x[i] : -INFINITY;
    }
    struct sampler_params p = chains[_i];
    p.logprobs = true;
    struct sampler *a = sampler_create(&p, N), *b = sampler_create(&p, N);
    for (int i = 0; i < 2000; i++) {
        struct sampler_choice ca, cb;
        ck_assert(sampler_draw(a, &ca, x, mask));
        ck_assert(sampler_draw(b, &cb, without, NULL));
        ck_assert_uint_eq(ca.token, cb.token);
        ck_assert(mask[ca.token / 64] >> (ca.token % 64) & 1);
        ck_assert(ca.logprob < -20); /* under the softmax that knows no mask */
    }
    memset(mask, 0, sizeof mask);
    struct sampler_choice c;
    ck_assert(!sampler_draw(a, &c, x, mask));
    sampler_destroy(a);
    sampler_destroy(b);
}
END_TEST

START_TEST(same_seed_gives_same_tokens_and_another_seed_others)
{
    float x[5000];
    struct sampler_params p = chains[_i];
    p.logprobs = true;
    struct sampler *a = sampler_create(&p, 5000), *b = sampler_create(&p, 5000);
    p.seed += 1000;
    struct sampler *other = sampler_create(&p, 5000);
    int different = 0;
    for (int i = 0; i < 300; i++) {
        struct sampler_choice ca, cb, co;
        fill(x, 5000, (uint64_t)i, 3);
        ck_assert(sampler_draw(a, &ca, x, NULL) && sampler_draw(b, &cb, x, NULL) && sampler_draw(other, &co, x, NULL));
        ck_assert_uint_eq(ca.token, cb.token);
        ck_assert(ca.logprob == cb.logprob);
        different += ca.token != co.token;
    }
    ck_assert_int_gt(different, 20);
    sampler_destroy(a);
    sampler_destroy(b);
    sampler_destroy(other);
}
END_TEST

static uint32_t draw_once(const struct sampler_params *p, const float *x, uint32_t n)
{
    struct sampler *s = sampler_create(p, n);
    struct sampler_choice c;
    ck_assert(sampler_draw(s, &c, x, NULL));
    sampler_destroy(s);
    return c.token;
}

START_TEST(greedy_and_its_equivalents_take_the_first_maximum)
{
    float x[300];
    fill(x, 300, 3, 2);
    x[70] = x[130] = x[299] = 9;
    struct sampler_params p = SAMPLER_DEFAULTS;
    for (uint64_t seed = 0; seed < 50; seed++) {
        p = SAMPLER_DEFAULTS;
        p.seed = seed;
        p.temperature = 0;
        ck_assert_uint_eq(draw_once(&p, x, 300), 70);
        p.temperature = -3;
        ck_assert_uint_eq(draw_once(&p, x, 300), 70);
        p.temperature = 1e-30f;
        ck_assert_uint_eq(draw_once(&p, x, 300), 70);
        p.temperature = 1;
        p.top_k = 1;
        ck_assert_uint_eq(draw_once(&p, x, 300), 70);
        p.top_k = 0;
        p.top_p = 0;
        ck_assert_uint_eq(draw_once(&p, x, 300), 70);
    }
    p = SAMPLER_DEFAULTS;
    p.min_p = 1;
    uint32_t token = draw_once(&p, x, 300);
    ck_assert(token == 70 || token == 130 || token == 299);
    x[200] = INFINITY;
    ck_assert_uint_eq(draw_once(&p, x, 300), 200);
}
END_TEST

START_TEST(nothing_to_draw_from_is_reported)
{
    float x[130];
    for (int i = 0; i < 130; i++) x[i] = i % 2 ? -INFINITY : NAN;
    struct sampler *s = sampler_create(&chains[_i], 130);
    struct sampler_choice c;
    ck_assert(!sampler_draw(s, &c, x, NULL));
    sampler_destroy(s);
}
END_TEST

START_TEST(a_vocabulary_of_one_token_works)
{
    float x = -3;
    struct sampler_params p = chains[_i];
    p.logprobs = true;
    struct sampler *s = sampler_create(&p, 1);
    struct sampler_choice c;
    ck_assert(sampler_draw(s, &c, &x, NULL));
    ck_assert_uint_eq(c.token, 0);
    ck_assert_double_eq_tol((double)c.logprob, 0, 1e-6);
    sampler_destroy(s);
}
END_TEST

START_TEST(wild_parameters_are_brought_into_range)
{
    float x[100];
    fill(x, 100, 3, 2);
    struct sampler_params p = {.temperature = NAN,
                               .top_p = NAN,
                               .min_p = NAN,
                               .repeat_penalty = NAN,
                               .presence_penalty = NAN,
                               .frequency_penalty = INFINITY,
                               .penalty_last_n = INT32_MAX,
                               .top_k = INT32_MIN};
    struct sampler *s = sampler_create(&p, 100);
    struct sampler_choice c;
    for (int i = 0; i < 300; i++) {
        ck_assert(sampler_draw(s, &c, x, NULL));
        sampler_accept(s, c.token, true);
        sampler_accept(s, 4000000000u, true); /* not a token: ignored */
    }
    sampler_destroy(s);
}
END_TEST

START_TEST(repeat_penalty_sees_its_window_only)
{
    float x[4] = {3, 2.9f, -1, -5};
    struct sampler_params p = SAMPLER_DEFAULTS;
    p.temperature = 0;
    p.repeat_penalty = 1.5f;
    p.penalty_last_n = 2;
    struct sampler *s = sampler_create(&p, 4);
    struct sampler_choice c;
    sampler_accept(s, 0, false);
    ck_assert(sampler_draw(s, &c, x, NULL));
    ck_assert_uint_eq(c.token, 1);
    sampler_accept(s, 1, true); /* both penalised equally: 2 > 1.93 */
    ck_assert(sampler_draw(s, &c, x, NULL));
    ck_assert_uint_eq(c.token, 0);
    sampler_accept(s, 3, true); /* token 0 left the window */
    sampler_accept(s, 3, true);
    ck_assert(sampler_draw(s, &c, x, NULL));
    ck_assert_uint_eq(c.token, 0);
    float negative[4] = {-1, -1.2f, -9, -9};
    sampler_accept(s, 0, true);
    ck_assert(sampler_draw(s, &c, negative, NULL)); /* -1.5 < -1.2 */
    ck_assert_uint_eq(c.token, 1);
    sampler_destroy(s);
}
END_TEST

START_TEST(presence_and_frequency_count_generated_tokens_only)
{
    float x[3] = {5, 4, 2.5f};
    struct sampler_params p = SAMPLER_DEFAULTS;
    p.temperature = 0;
    p.presence_penalty = 0.5f;
    p.frequency_penalty = 0.4f;
    struct sampler *s = sampler_create(&p, 3);
    struct sampler_choice c;
    for (int i = 0; i < 50; i++) sampler_accept(s, 0, false);
    float counts[3] = {0};
    for (int i = 0; i < 200; i++) {
        uint32_t best = 0;
        float best_x = -INFINITY;
        for (uint32_t t = 0; t < 3; t++) {
            float v = x[t] - (counts[t] > 0 ? 0.5f + 0.4f * counts[t] : 0);
            if (v > best_x) best = t, best_x = v;
        }
        ck_assert(sampler_draw(s, &c, x, NULL));
        ck_assert_uint_eq(c.token, best);
        sampler_accept(s, c.token, true);
        counts[c.token]++;
    }
    sampler_destroy(s);
}
END_TEST

START_TEST(logprob_is_of_the_unchanged_softmax)
{
    float x[777];
    fill(x, 777, 8, 4);
    struct sampler_params p = {.temperature = 0.5f,
                               .top_p = 0.9f,
                               .repeat_penalty = 1.3f,
                               .penalty_last_n = 64,
                               .presence_penalty = 1,
                               .logprobs = true};
    struct sampler *s = sampler_create(&p, 777);
    double max = -INFINITY, sum = 0;
    for (int i = 0; i < 777; i++) max = fmax(max, (double)x[i]);
    for (int i = 0; i < 777; i++) sum += exp((double)x[i] - max);
    for (int i = 0; i < 100; i++) {
        struct sampler_choice c;
        ck_assert(sampler_draw(s, &c, x, NULL));
        ck_assert_double_eq_tol((double)c.logprob, (double)x[c.token] - max - log(sum), 1e-5);
        sampler_accept(s, c.token, true);
    }
    sampler_destroy(s);
}
END_TEST

START_TEST(top_gives_the_best_in_order)
{
    float x[2000];
    fill(x, 2000, 8, 4);
    x[5] = NAN;
    x[1999] = x[3] = 30;
    struct sampler_choice top[20];
    sampler_top(top, 20, x, 2000);
    ck_assert_uint_eq(top[0].token, 3);
    ck_assert_uint_eq(top[1].token, 1999);
    for (int i = 1; i < 20; i++) {
        ck_assert(top[i].logprob <= top[i - 1].logprob);
        int above = 0;
        for (uint32_t t = 0; t < 2000; t++) above += x[t] > x[top[i].token];
        ck_assert_int_le(above, i);
    }
    ck_assert_double_eq_tol((double)top[0].logprob, -0.693147, 1e-3);
    float few[3] = {1, NAN, -INFINITY};
    sampler_top(top, 4, few, 3);
    ck_assert_uint_eq(top[0].token, 0);
    ck_assert_double_eq_tol((double)top[0].logprob, 0, 1e-6);
    for (int i = 1; i < 4; i++) ck_assert_uint_eq(top[i].token, UINT32_MAX);
}
END_TEST

START_TEST(fast_exp_is_close_to_exp)
{
    for (double v = 0; v > -87; v -= 0.0013) {
        float got = fast_exp((float)v);
        double want = exp((double)(float)v);
        if (!(fabs((double)got - want) <= 4e-7 * want)) ck_abort_msg("exp(%g) = %g, not %g", v, (double)got, want);
    }
    ck_assert(fast_exp(-100) == 0);
    ck_assert(fast_exp(NAN) == 0);
    ck_assert(fast_exp(-INFINITY) == 0);
}
END_TEST

START_TEST(selection_finds_the_smallest_best_prefix)
{
    struct rng r;
    rng_seed(&r, 4);
    for (int round = 0; round < 3000; round++) {
        uint32_t n = 1 + (uint32_t)(rng_next(&r) % 60), k = 1 + (uint32_t)(rng_next(&r) % 70);
        struct candidate c[60];
        double row[60][2], sum = 0, mass = rng_unit(&r) * n * 4;
        for (uint32_t i = 0; i < n; i++) {
            c[i] = (struct candidate){(float)(rng_next(&r) % 8), i};
            row[i][0] = (double)c[i].x, row[i][1] = i;
        }
        qsort(row, n, sizeof *row, by_probability);
        uint32_t want = 0;
        while (want < n && want < k && (want == 0 || sum < mass)) sum += row[want++][0];
        uint32_t got = candidates_best(c, n, k, mass);
        ck_assert_uint_eq(got, want);
        for (uint32_t i = 0; i < got; i++) {
            bool found = false;
            for (uint32_t m = 0; m < want; m++) found |= (uint32_t)row[m][1] == c[i].token;
            if (!found) ck_abort_msg("token %u is not among the best %u", c[i].token, want);
        }
    }
}
END_TEST

/* Not a check of speed (machines differ): prints what a draw costs, so that a regression is seen. */
START_TEST(cost_of_a_draw)
{
    enum { N = 262144 };
    float *x = mem_alloc(N * sizeof *x);
    fill(x, N, 1, 3);
    for (int i = 0; i < 50; i++) x[i * 5000 + 13] += 10;
    for (size_t k = 0; k < sizeof chains / sizeof *chains; k++) {
        struct sampler *s = sampler_create(&chains[k], N);
        struct sampler_choice c;
        double best = 1e9;
        for (int i = 0; i < 15; i++) {
            double from = clock_seconds();
            ck_assert(sampler_draw(s, &c, x, NULL));
            double took = clock_seconds() - from;
            if (took < best) best = took;
        }
        printf("draw from %d logits: temperature %.1f top_k %d top_p %.2f min_p %.2f: %.0f us\n", N,
               (double)chains[k].temperature, chains[k].top_k, (double)chains[k].top_p, (double)chains[k].min_p,
               best * 1e6);
        sampler_destroy(s);
    }
    mem_free(x);
}
END_TEST

START_TEST(instruction_sets_give_the_same_bits)
{
    const struct row_ops *ops[3] = {&row_ops_baseline};
    int n = 1;
    if (__builtin_cpu_supports("avx2")) ops[n++] = &row_ops_avx2;
    if (__builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) ops[n++] = &row_ops_avx512;
    float x[ROW_BLOCK];
    for (uint64_t round = 0; round < 1000; round++) {
        fill(x, ROW_BLOCK, round, 8);
        if (round % 3 == 0) x[round % ROW_BLOCK] = NAN, x[(round + 7) % ROW_BLOCK] = -INFINITY;
        float max = ops[0]->max(x), sum = ops[0]->sum(x, max, 0.7f);
        for (int i = 1; i < n; i++) {
            ck_assert(ops[i]->max(x) == max);
            ck_assert(ops[i]->sum(x, max, 0.7f) == sum);
        }
    }
}
END_TEST

static void add_tests(TCase *tc)
{
    int n = sizeof chains / sizeof *chains;
    tcase_add_loop_test(tc, draws_follow_the_exact_distribution, 0, n);
    tcase_add_loop_test(tc, nan_and_minus_infinity_are_never_drawn, 0, n);
    tcase_add_test(tc, equal_logits_keep_exactly_k_with_lowest_ids);
    tcase_add_loop_test(tc, masked_tokens_are_never_drawn, 0, n);
    tcase_add_loop_test(tc, same_seed_gives_same_tokens_and_another_seed_others, 0, n);
    tcase_add_test(tc, greedy_and_its_equivalents_take_the_first_maximum);
    tcase_add_loop_test(tc, nothing_to_draw_from_is_reported, 0, n);
    tcase_add_loop_test(tc, a_vocabulary_of_one_token_works, 0, n);
    tcase_add_test(tc, wild_parameters_are_brought_into_range);
    tcase_add_test(tc, repeat_penalty_sees_its_window_only);
    tcase_add_test(tc, presence_and_frequency_count_generated_tokens_only);
    tcase_add_test(tc, logprob_is_of_the_unchanged_softmax);
    tcase_add_test(tc, top_gives_the_best_in_order);
    tcase_add_test(tc, fast_exp_is_close_to_exp);
    tcase_add_test(tc, selection_finds_the_smallest_best_prefix);
    tcase_add_test(tc, instruction_sets_give_the_same_bits);
    tcase_add_test(tc, cost_of_a_draw);
}

UNIT_MAIN("sampler", add_tests)
