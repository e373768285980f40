/* compute on top of a level: fused parts of different types, norm before the product, attention over spans; the number
 * of threads must not change a bit. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "compute/compute_internal.h"
#include "harness.h"

/* A compute with the table under test, which may be one that this CPU has not (test_amx.c). */
static struct compute *create(const struct test *t, int n_threads, struct err *e)
{
    enum cpu_level highest = cpu_level_detect();
    struct compute *c = compute_create(n_threads, t->k.level < highest ? t->k.level : highest, e);
    if (!c) return NULL;
    c->kernels = t->k;
    for (int i = 0; i < c->n_threads; i++) scratch_get(&c->workers[i].kernel, t->k.matmul_scratch_bytes);
    return c;
}

static void count_items(void *ctx, int from, int to, int worker)
{
    (void)worker;
    unsigned char *seen = ctx;
    for (int i = from; i < to; i++) seen[i]++;
}

static void test_team(struct test *t, struct compute *c)
{
    static unsigned char seen[1000];
    bool ok = true;
    for (int round = 0; round < 3000; round++) {
        int n = rand_int(&t->rng, 1, round % 100 ? 20 : 1000), grain = rand_int(&t->rng, 1, 5);
        memset(seen, 0, sizeof seen);
        compute_for(c, count_items, seen, n, grain);
        for (int i = 0; i < 1000; i++) ok &= seen[i] == (i < n);
    }
    check(t, ok, "team of %d: items lost or run twice", compute_threads(c));
}

/* Items that workers hold for too long: the caller does them, the worker's late result is dropped. */
struct redo {
    struct compute *c;
    unsigned char *seen;
    int lazy; /* one item in so many sleeps, when a worker has it */
};

static void redo_run(void *ctx, int from, int to, int worker)
{
    const struct redo *r = ctx;
    if (worker && r->lazy && from % r->lazy == 0) nanosleep(&(struct timespec){.tv_nsec = 300000}, NULL);
    if (worker == 0) count_items(r->seen, from, to, worker);
}

static void redo_commit(void *ctx, int from, int to, int worker)
{
    count_items(((struct redo *)ctx)->seen, from, to, worker);
}

static void test_redo(struct test *t, struct compute *c)
{
    static unsigned char seen[2][200];
    bool ok = true;
    for (int round = 0; round < 300; round++) {
        unsigned char *now = seen[round % 2];
        int n = rand_int(&t->rng, 2, 200), grain = rand_int(&t->rng, 1, 3);
        memset(now, 0, sizeof seen[0]);
        struct redo r = {c, now, round % 3 ? rand_int(&t->rng, 5, 50) : 0};
        team_run_redoable(c->team, redo_run, redo_commit, &r, sizeof r, n, grain, round % 2);
        for (int i = 0; i < 200; i++) ok &= now[i] == (i < n);
        if (round % 7 == 0) team_settle(c->team);
    }
    team_settle(c->team);
    for (int i = 0; i < 200; i++) ok &= seen[0][i] <= 1 && seen[1][i] <= 1;
    check(t, ok, "redoable work of %d: items lost, or written twice", compute_threads(c));
}

/* What needs a worker to be there is tried again for so long: other programs may have all cores. */
static bool still_time(uint64_t start)
{
    return clock_ns() - start < UINT64_C(20000000000);
}

static void nap_run(void *ctx, int from, int to, int worker)
{
    (void)ctx, (void)from, (void)to;
    nanosleep(&(struct timespec){.tv_nsec = worker ? 1000000 : 10000}, NULL);
}

/* A worker that lost its core is noticed, also where nobody else may do its items. */
static void test_lost_core(struct test *t, struct compute *c)
{
    for (uint64_t start = clock_ns(); !team_is_busy(c->team) && still_time(start);)
        team_run(c->team, nap_run, NULL, 20, 1);
    check(t, team_is_busy(c->team), "a sleeping worker's lost core was not noticed");
}

#define K 512
#define M 40
static const struct {
    enum quant_type type;
    int rows;
} part_shapes[] = {{QUANT_Q4_K, 40}, {QUANT_Q4_K, 24}, {QUANT_Q6_K, 33}, {QUANT_F16, 7}, {QUANT_Q8_0, 100}};
#define N_PARTS 5

static void *rows_make(struct test *t, enum quant_type type, int rows)
{
    size_t bytes;
    quant_row_bytes(&bytes, type, K);
    uint8_t *data = mem_alloc(bytes * (size_t)rows);
    for (int r = 0; r < rows; r++) rand_row(&t->rng, data + bytes * (size_t)r, type, K, ROW_RANDOM);
    return data;
}

static void check_part(struct test *t, const struct weight_part *part, const float *y, size_t stride, const float *x)
{
    float w[K];
    size_t bytes;
    double worst = 0;
    quant_row_bytes(&bytes, part->type, K);
    for (int r = 0; r < part->n_rows; r++) {
        quant_format_get((uint32_t)part->type)->unpack(w, (const uint8_t *)part->data + bytes * (size_t)r, K);
        for (int i = 0; i < M; i++) {
            double ref = 0, size = 0;
            for (int k = 0; k < K; k++) {
                ref += (double)w[k] * (double)x[i * K + k];
                size += fabs((double)w[k] * (double)x[i * K + k]);
            }
            worst = fmax(worst, fabs((double)y[(size_t)i * stride + (size_t)r] - ref) / (size + 1e-9));
        }
    }
    check(t, worst < 0.01, "compute_norm_matmul_many, part of type %d: relative error %g", (int)part->type, worst);
}

static void test_products(struct test *t, struct compute *one, struct compute *many)
{
    struct weight_part parts[N_PARTS];
    for (int i = 0; i < N_PARTS; i++)
        parts[i] = (struct weight_part){part_shapes[i].type, rows_make(t, part_shapes[i].type, part_shapes[i].rows),
                                        part_shapes[i].rows};
    struct err e;
    struct weight *a = weight_create(many, parts, N_PARTS, K, &e), *b = weight_create(many, parts + 2, 1, K, &e);
    struct weight *bad = weight_create(many, parts, N_PARTS, K - 32, &e);
    check(t, !bad && e.kind == ERR_INVALID, "weight_create took rows of %d values", K - 32);
    check(t, weight_part_offset(a, 1) == 40 && weight_part_offset(a, 2) == 64, "parts of one type are not consecutive");
    size_t stride = (size_t)weight_out_len(a), stride_b = (size_t)weight_out_len(b);
    float *x = mem_alloc(M * K * 4), *norm = mem_alloc(K * 4), *normed = mem_alloc(M * K * 4);
    float *y[2], *z[2];
    rand_floats(&t->rng, x, M * K);
    rand_floats(&t->rng, norm, K);
    for (int i = 0; i < M; i++) t->k.rmsnorm(normed + i * K, x + i * K, norm, K, 1e-6f);
    for (int i = 0; i < 2; i++) {
        y[i] = mem_zalloc(M * stride * 4);
        z[i] = mem_zalloc(M * stride_b * 4);
        struct matmul_target targets[2] = {{y[i], stride, a}, {z[i], stride_b, b}};
        compute_norm_matmul_many(i ? one : many, targets, 2, x, K, norm, 1e-6f, M);
    }
    check(t, !memcmp(y[0], y[1], M * stride * 4) && !memcmp(z[0], z[1], M * stride_b * 4), "threads change a product");
    for (int i = 0; i < N_PARTS; i++) check_part(t, &parts[i], y[0] + weight_part_offset(a, i), stride, normed);
    check_part(t, &parts[2], z[0], stride_b, normed);
    compute_matmul(one, y[1], stride, a, normed, K, 1);
    check(t, !memcmp(y[0], y[1], stride * 4), "norm and product apart differ from the fused call");
    for (int i = 0; i < 2; i++) mem_free(y[i]), mem_free(z[i]);
    mem_free(x), mem_free(norm), mem_free(normed);
    weight_destroy(a), weight_destroy(b);
    for (int i = 0; i < N_PARTS; i++) mem_free((void *)parts[i].data);
}

/* Workers that lose their core within a kernel: each worker sleeps before its part, for longer than the caller needs
 * for all parts. */
static struct {
    pthread_t caller;
    _Atomic int n_asleep;
    _Atomic long nap_ns;
    struct kernels kernels; /* the real ones */
} late;

static void late_nap(void)
{
    if (pthread_equal(pthread_self(), late.caller)) return;
    late.n_asleep++;
    long ns = late.nap_ns;
    nanosleep(&(struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000}, NULL);
    late.n_asleep--;
}

/* What one thread did since `start` took the caller so long. */
static void late_nap_set(uint64_t start)
{
    late.nap_ns = 20000000 + 2 * (long)(clock_ns() - start);
}

static void late_matmul(float *y, size_t y_stride, const void *panels, const void *acts, int m, int k, int from, int to,
                        void *scratch)
{
    late_nap();
    late.kernels.matmul[QUANT_Q8_0].matmul(y, y_stride, panels, acts, m, k, from, to, scratch);
}

static void late_attend(float *acc, float *max, float *sum, const struct attn_head *h, const float *q, size_t q_stride,
                        int n_tokens, int from, int to, void *scratch)
{
    late_nap();
    late.kernels.attend(acc, max, sum, h, q, q_stride, n_tokens, from, to, scratch);
}

static void late_begin(struct compute *c)
{
    late.caller = pthread_self();
    late.kernels = c->kernels;
    c->kernels.matmul[QUANT_Q8_0].matmul = late_matmul;
    c->kernels.attend = late_attend;
    compute_step_begin(c);
}

static void late_end(struct compute *c)
{
    compute_step_end(c);
    c->kernels = late.kernels;
}

/* A product of many tokens goes on without a worker that lost its core, and what that worker computes at last, from
 * inputs that are others by then, reaches no result: neither its own nor that of a later product in the same place. */
static void test_late_product(struct test *t, struct compute *one, struct compute *many)
{
    enum { ROWS = 600, AFTER = 3 };
    struct err e;
    struct weight_part part = {QUANT_Q8_0, rows_make(t, QUANT_Q8_0, ROWS), ROWS};
    struct weight *w = weight_create(many, &part, 1, K, &e);
    size_t stride = (size_t)weight_out_len(w), bytes = M * stride * sizeof(float);
    float *x = mem_alloc(M * K * sizeof *x), *y = mem_zalloc(bytes), *expected = mem_zalloc(bytes),
          *other = mem_zalloc(bytes);
    bool same = true;
    int gone_on = 0;
    late_begin(many);
    for (uint64_t start = clock_ns(); gone_on < AFTER && still_time(start);) {
        rand_floats(&t->rng, x, M * K);
        uint64_t begin = clock_ns();
        compute_matmul(one, expected, stride, w, x, K, M);
        late_nap_set(begin);
        compute_matmul(many, y, stride, w, x, K, M);
        gone_on += late.n_asleep > 0;
        same &= !memcmp(y, expected, bytes);
    }
    for (int i = 0; i < M * K; i++) x[i] = -x[i];
    compute_matmul(many, other, stride, w, x, K, M);
    late_end(many);
    same &= !memcmp(y, expected, bytes);
    check(t, gone_on == AFTER, "products of many tokens wait for a worker that lost its core");
    check(t, same, "a late worker changed a product of many tokens");
    mem_free(x), mem_free(y), mem_free(expected), mem_free(other);
    weight_destroy(w);
    mem_free((void *)part.data);
}

/* Weights of a set are packed together, in chunks that cut through them, by all workers: each must be what it is alone,
 * also when the compute that packed it is gone. */
static void test_weight_set(struct test *t, struct compute *c)
{
    enum { N = 40, ROWS = 1500 };
    struct err e;
    struct compute *maker = create(t, 3, &e);
    struct weight_set *set = weight_set_create();
    struct weight *w[N];
    struct weight_part part = {QUANT_Q8_0, rows_make(t, QUANT_Q8_0, ROWS), ROWS};
    float x[K];
    rand_floats(&t->rng, x, K);
    for (int i = 0; i < N; i++) {
        struct weight_part own = {part.type, part.data, ROWS - i * 7};
        w[i] = weight_set_add(set, maker, &own, 1, K, &e);
    }
    struct weight_part bad = {part.type, part.data, 0};
    check(t, !weight_set_add(set, maker, &bad, 1, K, &e), "a weight without rows was taken");
    check(t, weight_set_pack(set, maker, NULL, &e), "weight_set_pack failed");
    struct weight *alone = weight_create(maker, &part, 1, K, &e);
    compute_destroy(maker);
    size_t len = (size_t)weight_out_len(alone);
    float *whole = mem_zalloc(len * 4), *y = mem_zalloc(len * 4);
    compute_matmul(c, whole, len, alone, x, K, 1);
    bool same = true;
    for (int i = 0; i < N; i++) {
        compute_matmul(c, y, len, w[i], x, K, 1);
        same &= !memcmp(whole, y, (size_t)(ROWS - i * 7) * 4);
    }
    check(t, same, "a weight of a set differs from the same weight alone");
    weight_destroy(alone);
    weight_set_destroy(set);
    mem_free(whole), mem_free(y);
    mem_free((void *)part.data);
}

#define HEADS 6
#define KV_HEADS 2
#define DIM 64
#define SPANS 3

/* All spans at once on many threads, and token by token on one thread: the same bits. */
static void test_spans(struct test *t, struct compute *one, struct compute *many, int window, const float *sinks,
                       enum kv_type type)
{
    static const int pos[SPANS] = {0, 700, 1500}, n_tokens[SPANS] = {70, 1, 5};
    struct attn_params p = {HEADS, KV_HEADS, window, {DIM, DIM, type, type}, 0.125f, 0, sinks};
    size_t head_bytes = t->k.kv_page_bytes(&p.kv), page_bytes = head_bytes * KV_HEADS;
    struct kv_span spans[SPANS];
    uint32_t tables[SPANS][64], page = 0;
    int rows = 0;
    for (int i = 0; i < SPANS; i++) {
        for (int j = 0; j * KV_PAGE_TOKENS < pos[i] + n_tokens[i]; j++) tables[i][j] = page++;
        spans[i] = (struct kv_span){rows, n_tokens[i], pos[i], tables[i]};
        rows += n_tokens[i];
    }
    struct kv_view view = {mem_try_map(page_bytes * page), page_bytes, head_bytes};
    float *kv = mem_alloc((size_t)2000 * KV_HEADS * DIM * 4), *q = mem_alloc((size_t)rows * HEADS * DIM * 4);
    float *a = mem_zalloc((size_t)rows * HEADS * DIM * 4), *b = mem_zalloc((size_t)rows * HEADS * DIM * 4);
    rand_floats(&t->rng, kv, (size_t)2000 * KV_HEADS * DIM);
    rand_floats(&t->rng, q, (size_t)rows * HEADS * DIM);
    for (int i = 0; i < SPANS; i++) {
        struct kv_span all = {0, pos[i] + n_tokens[i], 0, tables[i]};
        compute_kv_store(many, &view, &p, kv, KV_HEADS * DIM, kv + DIM, KV_HEADS * DIM - DIM, &all, 1);
    }
    compute_attention(many, a, HEADS * DIM, &view, &p, q, HEADS * DIM, spans, SPANS);
    for (int i = 0; i < SPANS; i++)
        for (int j = 0; j < n_tokens[i]; j++) {
            struct kv_span s = {spans[i].first + j, 1, pos[i] + j, tables[i]};
            compute_attention(one, b, HEADS * DIM, &view, &p, q, HEADS * DIM, &s, 1);
            compute_attention(many, b, HEADS * DIM, &view, &p, q, HEADS * DIM, &s, 1);
        }
    check(t, !memcmp(a, b, (size_t)rows * HEADS * DIM * 4), "window %d: attention depends on the batch", window);
    double sum = 0;
    for (int i = 0; i < rows * HEADS * DIM; i++) sum += fabs((double)a[i]);
    check(t, sum > 1 && sum < 1e6, "attention of spans: sum %g", sum);
    mem_unmap(view.base, page_bytes * page);
    mem_free(kv), mem_free(q), mem_free(a), mem_free(b);
}

/* The same for attention of many tokens. */
static void test_late_attention(struct test *t, struct compute *one, struct compute *many)
{
    enum { TOKENS = 300, AFTER = 3 };
    struct attn_params p = {HEADS, KV_HEADS, 0, {DIM, DIM, KV_F16, KV_F16}, 0.125f, 0, NULL};
    size_t head_bytes = t->k.kv_page_bytes(&p.kv), page_bytes = head_bytes * KV_HEADS, n = (size_t)TOKENS * HEADS * DIM;
    uint32_t table[TOKENS / KV_PAGE_TOKENS + 1];
    const uint32_t n_pages = sizeof table / sizeof *table;
    for (uint32_t i = 0; i < n_pages; i++) table[i] = i;
    struct kv_span span = {0, TOKENS, 0, table};
    struct kv_view view = {mem_try_map(page_bytes * n_pages), page_bytes, head_bytes};
    float *q = mem_alloc(n * sizeof *q), *out = mem_zalloc(n * sizeof *q), *expected = mem_zalloc(n * sizeof *q);
    rand_floats(&t->rng, q, n);
    compute_kv_store(one, &view, &p, q, KV_HEADS * DIM, q + DIM, KV_HEADS * DIM, &span, 1);
    bool same = true;
    int gone_on = 0;
    late_begin(many);
    for (uint64_t start = clock_ns(); gone_on < AFTER && still_time(start);) {
        rand_floats(&t->rng, q, n);
        uint64_t begin = clock_ns();
        compute_attention(one, expected, HEADS * DIM, &view, &p, q, HEADS * DIM, &span, 1);
        late_nap_set(begin);
        compute_attention(many, out, HEADS * DIM, &view, &p, q, HEADS * DIM, &span, 1);
        gone_on += late.n_asleep > 0;
        same &= !memcmp(out, expected, n * sizeof *out);
    }
    rand_floats(&t->rng, q, n);
    late_end(many);
    same &= !memcmp(out, expected, n * sizeof *out);
    check(t, gone_on == AFTER, "attention of many tokens waits for a worker that lost its core");
    check(t, same, "a late worker changed attention of many tokens");
    mem_unmap(view.base, page_bytes * n_pages);
    mem_free(q), mem_free(out), mem_free(expected);
}

void test_compute(struct test *t)
{
    struct err e;
    struct compute *one = create(t, 1, &e), *many = create(t, 3, &e);
    if (!one || !many) {
        check(t, false, "compute_create: %s", e.msg);
        return;
    }
    static const float sinks[HEADS] = {0.5f, 1, -1, 2, 0, 3};
    test_team(t, many);
    test_redo(t, many);
    test_lost_core(t, many);
    test_products(t, one, many);
    test_late_product(t, one, many);
    test_late_attention(t, one, many);
    test_weight_set(t, many);
    for (int type = 0; type < KV_TYPE_N; type++) {
        test_spans(t, one, many, 0, NULL, (enum kv_type)type);
        test_spans(t, one, many, 100, sinks, (enum kv_type)type);
    }
    compute_destroy(one);
    compute_destroy(many);
}
