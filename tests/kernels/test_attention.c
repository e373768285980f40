/* Attention of random shapes against double precision, partial results merged here in the order that the contract
 * gives; a query alone must give the bits that it gives in a batch. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "harness.h"

/* Largest error of an output as a share of the largest value: by how exactly keys and values are kept; queries and
 * weights are float or have 13 bits. */
static const double key_error[KV_TYPE_N] = {5e-4, 3e-2}, value_error[KV_TYPE_N] = {5e-4, 5e-3};

struct shape {
    struct kv_form kv;
    int group, pos, n_tokens, window;
    float softcap;
    bool sink; /* the first token takes most of the weight, and its values are small: the others' weights must not get
                  lost */
};
#define SINK_SCORE 9

struct keys {
    float *k, *v; /* [n][dim], as given */
    int n;
};

static void reference(double *out, const struct shape *s, const struct keys *keys, const float *q, float scale,
                      int token)
{
    int last = s->pos + token, from = s->window && last - s->window + 1 > 0 ? last - s->window + 1 : 0;
    double max = -INFINITY, sum = 0;
    double *score = mem_alloc((size_t)(last + 1) * sizeof *score);
    for (int i = from; i <= last; i++) {
        score[i] = 0;
        for (int d = 0; d < s->kv.dim_k; d++) score[i] += (double)q[d] * (double)keys->k[i * s->kv.dim_k + d];
        score[i] *= (double)scale;
        if (s->softcap > 0) score[i] = (double)s->softcap * tanh(score[i] / (double)s->softcap);
        max = fmax(max, score[i]);
    }
    for (int d = 0; d < s->kv.dim_v; d++) out[d] = 0;
    for (int i = from; i <= last; i++) {
        double p = exp(score[i] - max);
        sum += p;
        for (int d = 0; d < s->kv.dim_v; d++) out[d] += p * (double)keys->v[i * s->kv.dim_v + d];
    }
    for (int d = 0; d < s->kv.dim_v; d++) out[d] /= sum;
    mem_free(score);
}

/* out[n_tokens][group][dim_v]: all chunks at once, or one by one and merged. */
static void attend_all(struct test *t, float *out, struct attn_head *h, const float *q, size_t q_stride, int n_tokens,
                       bool apart)
{
    int n = n_tokens * h->group, dim = h->kv.dim_v, n_chunks = (h->pos + n_tokens - 1) / KV_CHUNK_TOKENS + 1;
    float *acc = guarded((size_t)(n * dim) * 4, 4), *max = guarded((size_t)n * 4, 4), *sum = guarded((size_t)n * 4, 4);
    float *more = guarded((size_t)(n * dim) * 4, 4), *more_max = guarded((size_t)n * 4, 4);
    float *more_sum = guarded((size_t)n * 4, 4);
    void *scratch = guarded(t->k.attn_scratch_bytes(n, h->kv.dim_k, h->kv.dim_v), 64);
    t->k.attend(acc, max, sum, h, q, q_stride, n_tokens, 0, apart ? 1 : n_chunks, scratch);
    for (int chunk = 1; apart && chunk < n_chunks; chunk++) {
        t->k.attend(more, more_max, more_sum, h, q, q_stride, n_tokens, chunk, chunk + 1, scratch);
        for (int i = 0; i < n; i++)
            if (more_max[i] == -INFINITY)
                check(t, more_sum[i] == 0 && more[i * dim] == 0, "attend: a query that sees nothing has sum %g",
                      (double)more_sum[i]);
        t->k.attn_merge(acc, max, sum, more, more_max, more_sum, n, dim);
    }
    for (int i = 0; i < n * dim; i++) out[i] = acc[i] / sum[i / dim];
}

static void test_shape(struct test *t, const struct shape *s)
{
    struct keys keys = {.n = s->pos + s->n_tokens};
    int n_pages = (keys.n + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS,
        q_stride = s->group * s->kv.dim_k + rand_int(&t->rng, 0, 5);
    size_t page_bytes = t->k.kv_page_bytes(&s->kv);
    check(t, page_bytes % 64 == 0, "page of %zu bytes", page_bytes);
    keys.k = mem_alloc((size_t)(keys.n * s->kv.dim_k) * 4);
    keys.v = mem_alloc((size_t)(keys.n * s->kv.dim_v) * 4);
    rand_floats(&t->rng, keys.k, (size_t)(keys.n * s->kv.dim_k));
    rand_floats(&t->rng, keys.v, (size_t)(keys.n * s->kv.dim_v));
    for (int d = 0; s->sink && d < s->kv.dim_k; d++) keys.k[d] = 2;
    for (int d = 0; s->sink && d < s->kv.dim_v; d++) keys.v[d] /= 64;
    uint8_t *pages = guarded(page_bytes * (size_t)n_pages, 64); /* filled with a canary: unused slots are garbage */
    uint32_t *table = guarded((size_t)n_pages * 4, 4);
    for (int i = 0; i < n_pages; i++) table[i] = (uint32_t)i;
    for (int i = n_pages - 1; i > 0; i--) {
        int j = rand_int(&t->rng, 0, i);
        uint32_t swap = table[i];
        table[i] = table[j];
        table[j] = swap;
    }
    memset(pages, 0xff, page_bytes * (size_t)n_pages); /* NaN in slots that hold nothing */
    for (int i = 0; i < keys.n; i++)
        t->k.kv_store(pages + table[i / KV_PAGE_TOKENS] * page_bytes, &s->kv, keys.k + i * s->kv.dim_k,
                      keys.v + i * s->kv.dim_v, i % KV_PAGE_TOKENS);
    float *q = guarded((size_t)((s->n_tokens - 1) * q_stride + s->group * s->kv.dim_k) * 4, 4);
    rand_floats(&t->rng, q, (size_t)((s->n_tokens - 1) * q_stride + s->group * s->kv.dim_k));
    for (int i = 0; s->sink && i < (s->n_tokens - 1) * q_stride + s->group * s->kv.dim_k; i++)
        q[i] = q[i] * 0.3f + SINK_SCORE / (3 * sqrtf((float)s->kv.dim_k)); /* times 2 times the scale: SINK_SCORE */
    float scale = 1.5f / sqrtf((float)s->kv.dim_k);
    struct attn_head h = {.pages = pages,
                          .table = table,
                          .page_stride = page_bytes,
                          .kv = s->kv,
                          .group = s->group,
                          .pos = s->pos,
                          .window = s->window,
                          .scale = scale,
                          .softcap = s->softcap};
    int n = s->n_tokens * s->group;
    float *out = mem_alloc((size_t)(n * s->kv.dim_v) * 4), *alone = mem_alloc((size_t)(s->group * s->kv.dim_v) * 4);
    double *ref = mem_alloc((size_t)s->kv.dim_v * sizeof *ref), worst = 0, largest = 1e-30;
    attend_all(t, out, &h, q, (size_t)q_stride, s->n_tokens, true);
    bool same = true;
    for (int i = 0; i < s->n_tokens; i++) {
        for (int g = 0; g < s->group; g++) {
            reference(ref, s, &keys, q + i * q_stride + g * s->kv.dim_k, scale, i);
            for (int d = 0; d < s->kv.dim_v; d++) {
                double error = fabs((double)out[(i * s->group + g) * s->kv.dim_v + d] - ref[d]);
                if (!(error <= worst)) worst = error;
            }
        }
        struct attn_head one = h;
        one.pos = s->pos + i;
        if (i % 5 == 0) {
            attend_all(t, alone, &one, q + i * q_stride, 0, 1, i % 2 == 0);
            same &= !memcmp(alone, out + i * s->group * s->kv.dim_v, (size_t)(s->group * s->kv.dim_v) * 4);
        }
    }
    for (int i = 0; !s->sink && i < keys.n * s->kv.dim_v; i++) largest = fmax(largest, fabs((double)keys.v[i]));
    for (int i = 0; s->sink && i < n * s->kv.dim_v; i++) largest = fmax(largest, fabs((double)out[i]));
    worst /= largest;

    /* Beside a sink the outputs are small against the values that their errors come from. */
    check(t, worst < key_error[s->kv.type_k] + value_error[s->kv.type_v] * (s->sink ? 4 : 1),
          "attend %s/%s dim %d/%d group %d pos %d tokens %d window %d cap %g: error %g", kv_type_name(s->kv.type_k),
          kv_type_name(s->kv.type_v), s->kv.dim_k, s->kv.dim_v, s->group, s->pos, s->n_tokens, s->window,
          (double)s->softcap, worst);
    check(t, same, "attend dim %d/%d group %d pos %d: a query alone differs", s->kv.dim_k, s->kv.dim_v, s->group,
          s->pos);
    check(t, guarded_canaries_ok(), "attend: canary");
    mem_free(out);
    mem_free(alone);
    mem_free(ref);
    mem_free(keys.k);
    mem_free(keys.v);
    guarded_reset();
}

void test_attention(struct test *t)
{
    static const int dims[] = {64, 128, 8, 24, 80, 96, 256};
    static const int groups[] = {1, 3, 7, 4, 2, 9, 16};
    static const int positions[] = {0, 0, 1, 31, 37, 500, 511, 512, 1030};
    /* Windows that end a chunk for some queries of a tile only. */
    for (int i = 0; i < 12; i++) {
        struct shape s = {.kv = {.dim_k = 64, .dim_v = 64}, .group = i % 3 + 1, .n_tokens = 40};
        s.window = 100 + i, s.pos = KV_CHUNK_TOKENS + s.window - 20 + i;
        test_shape(t, &s);
    }
    for (int i = 0; i < 60; i++) {
        struct shape s = {.kv = {.dim_k = dims[rand_int(&t->rng, 0, i < 20 ? 1 : 6)],
                                 .type_k = i / 2 % 2 ? KV_Q8_0 : KV_F16,
                                 .type_v = i / 4 % 2 ? KV_Q8_0 : KV_F16},
                          .group = groups[rand_int(&t->rng, 0, 6)],
                          .pos = positions[rand_int(&t->rng, 0, 8)],
                          .n_tokens = rand_int(&t->rng, 1, ATTN_MAX_QUERIES)};
        s.kv.dim_v = i % 4 ? s.kv.dim_k : dims[rand_int(&t->rng, 0, 6)];
        if (i % 3 == 0) s.window = rand_int(&t->rng, 1, 600);
        if (i % 5 == 0) s.softcap = 5;
        s.sink = i % 7 == 6 && !s.window && !s.softcap;
        test_shape(t, &s);
    }
}
