/* attention_c: attention over paged KV in plain C. A page is K[32][dim_k] then V[32][dim_v], f16. Queries are handled
 * one by one: scores of the chunk into scratch, softmax, then the weighted sum of V. */
#include "kernels/attn_merge.h"
#include "kernels/kernels_internal.h"

static size_t kv_page_bytes(int dim_k, int dim_v)
{
    return (size_t)KV_PAGE_TOKENS * (size_t)(dim_k + dim_v) * sizeof(uint16_t);
}

static void kv_store(void *page, const float *k, const float *v, int slot, int dim_k, int dim_v)
{
    uint16_t *to = (uint16_t *)page + slot * dim_k;
    for (int i = 0; i < dim_k; i++) to[i] = quant_f32_to_f16(k[i]);
    to = (uint16_t *)page + KV_PAGE_TOKENS * dim_k + slot * dim_v;
    for (int i = 0; i < dim_v; i++) to[i] = quant_f32_to_f16(v[i]);
}

static size_t attn_scratch_bytes(int group, int dim_k, int dim_v)
{
    (void)group;
    (void)dim_k;
    return (KV_CHUNK_TOKENS + (size_t)dim_v) * sizeof(float);
}

static const uint16_t *page_at(const struct attn_head *h, int token)
{
    return (const uint16_t *)(h->pages + (size_t)h->table[token / KV_PAGE_TOKENS] * h->page_stride);
}

/* One query over keys [from, to). */
static void attend_one(float *acc, float *max, float *sum, const struct attn_head *h, const float *q, int from, int to,
                       float *scores)
{
    *max = -INFINITY;
    *sum = 0;
    memset(acc, 0, (size_t)h->dim_v * sizeof *acc);
    for (int i = from; i < to; i++) {
        const uint16_t *k = page_at(h, i) + i % KV_PAGE_TOKENS * h->dim_k;
        float s = 0;
        for (int d = 0; d < h->dim_k; d++) s += q[d] * quant_f16_to_f32(k[d]);
        s *= h->scale;
        if (h->softcap > 0) s = h->softcap * tanhf(s / h->softcap);
        scores[i - from] = s;
        if (s > *max) *max = s;
    }
    for (int i = from; i < to; i++) {
        const uint16_t *v = page_at(h, i) + KV_PAGE_TOKENS * h->dim_k + i % KV_PAGE_TOKENS * h->dim_v;
        float p = expf(scores[i - from] - *max);
        *sum += p;
        for (int d = 0; d < h->dim_v; d++) acc[d] += p * quant_f16_to_f32(v[d]);
    }
}

static inline float exp_one(float x)
{
    return expf(x);
}

static inline void merge_row(float *acc, const float *more, float a, float b, int n)
{
    for (int d = 0; d < n; d++) acc[d] = acc[d] * a + more[d] * b;
}

/* One query over the keys of a chunk. */
static void attend_chunk(float *acc, float *max, float *sum, const struct attn_head *h, const float *q, int last,
                         int chunk, float *scores)
{
    int from = chunk * KV_CHUNK_TOKENS, to = from + KV_CHUNK_TOKENS;
    if (h->window && last - h->window + 1 > from) from = last - h->window + 1;
    if (last + 1 < to) to = last + 1;
    attend_one(acc, max, sum, h, q, from, to, scores);
}

static void attend(float *acc, float *max, float *sum, const struct attn_head *h, const float *q, size_t q_stride,
                   int n_tokens, int chunk_from, int chunk_to, void *scratch)
{
    float *scores = scratch, *more = scores + KV_CHUNK_TOKENS, more_max, more_sum;
    for (int i = 0; i < n_tokens * h->group; i++) {
        const float *query = q + (size_t)(i / h->group) * q_stride + i % h->group * h->dim_k;
        int last = h->pos + i / h->group;
        attend_chunk(acc + i * h->dim_v, &max[i], &sum[i], h, query, last, chunk_from, scores);
        for (int chunk = chunk_from + 1; chunk < chunk_to; chunk++) {
            attend_chunk(more, &more_max, &more_sum, h, query, last, chunk, scores);
            attn_merge(acc + i * h->dim_v, &max[i], &sum[i], more, &more_max, &more_sum, 1, h->dim_v);
        }
    }
}

void kernels_fill_c_attention(struct kernels *k)
{
    k->kv_page_bytes = kv_page_bytes;
    k->kv_store = kv_store;
    k->attn_scratch_bytes = attn_scratch_bytes;
    k->attend = attend;
    k->attn_merge = attn_merge;
}
