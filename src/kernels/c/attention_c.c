/* attention_c: attention over paged KV in plain C. A page is K[32][dim_k], then V[32][dim_v]: f16, or 8-bit codes (keys
 * rotated); then f32 k_scale[32], v_scale[32] of 8-bit rows. Queries are handled one by one: scores of the chunk into
 * scratch, softmax, then the weighted sum of V. */
#include "kernels/attn_common.h"
#include "kernels/kernels_internal.h"

static size_t row_bytes(int dim, enum kv_type type)
{
    return (size_t)dim * (type == KV_Q8_0 ? sizeof(int8_t) : sizeof(uint16_t));
}

static size_t v_offset(const struct kv_form *kv)
{
    return KV_PAGE_TOKENS * row_bytes(kv->dim_k, kv->type_k);
}

static size_t scale_offset(const struct kv_form *kv)
{
    return v_offset(kv) + KV_PAGE_TOKENS * row_bytes(kv->dim_v, kv->type_v);
}

static size_t kv_page_bytes(const struct kv_form *kv)
{
    return (scale_offset(kv) + 2 * KV_PAGE_TOKENS * sizeof(float) + 63) & ~(size_t)63;
}

static float abs_max(float max, const float *x, int n)
{
    for (int i = 0; i < n; i++) max = fmaxf(max, fabsf(x[i]));
    return fminf(max, 1e30f);
}

/* max: the largest magnitude of the row that x is part of. */
static void codes_store(int8_t *codes, const float *x, int n, float max)
{
    float inverse = max > 1e-30f ? 127 / max : 0;
    for (int i = 0; i < n; i++) {
        float code = x[i] * inverse; /* infinities and NaN must not reach the conversion */
        codes[i] = (int8_t)lrintf(code >= -127 ? code <= 127 ? code : 127 : -127);
    }
}

/* Both return the row's scale. */
static float key_store(uint8_t *row, const float *k, int n, enum kv_type type)
{
    float block[ATTN_ROTATED], max = 0;
    if (type == KV_F16) {
        for (int i = 0; i < n; i++) ((uint16_t *)(void *)row)[i] = quant_f32_to_f16(k[i]);
        return 1;
    }
    for (int d = 0, len; d < n; d += len) {
        len = attn_rotated_block(block, k + d, n - d);
        max = abs_max(max, block, len);
    }
    for (int d = 0, len; d < n; d += len) {
        len = attn_rotated_block(block, k + d, n - d);
        codes_store((int8_t *)row + d, block, len, max);
    }
    return max / 127;
}

static float value_store(uint8_t *row, const float *v, int n, enum kv_type type)
{
    if (type == KV_F16) {
        for (int i = 0; i < n; i++) ((uint16_t *)(void *)row)[i] = quant_f32_to_f16(v[i]);
        return 1;
    }
    float max = abs_max(0, v, n);
    codes_store((int8_t *)row, v, n, max);
    return max / 127;
}

static void kv_store(void *page, const struct kv_form *kv, const float *k, const float *v, int slot)
{
    uint8_t *keys = (uint8_t *)page + (size_t)slot * row_bytes(kv->dim_k, kv->type_k);
    uint8_t *values = (uint8_t *)page + v_offset(kv) + (size_t)slot * row_bytes(kv->dim_v, kv->type_v);
    float *scales = (float *)(void *)((uint8_t *)page + scale_offset(kv)) + slot;
    scales[0] = key_store(keys, k, kv->dim_k, kv->type_k);
    scales[KV_PAGE_TOKENS] = value_store(values, v, kv->dim_v, kv->type_v);
}

static size_t attn_scratch_bytes(int n_queries, int dim_k, int dim_v)
{
    (void)n_queries;
    return (KV_CHUNK_TOKENS + (size_t)dim_v + (size_t)dim_k) * sizeof(float);
}

static const uint8_t *page_at(const struct attn_head *h, int token)
{
    return h->pages + (size_t)h->table[token / KV_PAGE_TOKENS] * h->page_stride;
}

static float element(const uint8_t *row, int i, enum kv_type type)
{
    return type == KV_Q8_0 ? (float)((const int8_t *)row)[i]
                           : quant_f16_to_f32(((const uint16_t *)(const void *)row)[i]);
}

/* One query over keys [from, to). */
static void attend_one(float *acc, float *max, float *sum, const struct attn_head *h, const float *q, int from, int to,
                       float *scores)
{
    const struct kv_form *kv = &h->kv;
    *max = -INFINITY;
    *sum = 0;
    memset(acc, 0, (size_t)kv->dim_v * sizeof *acc);
    for (int i = from; i < to; i++) {
        const uint8_t *page = page_at(h, i);
        const int slot = i % KV_PAGE_TOKENS;
        const uint8_t *k = page + (size_t)slot * row_bytes(kv->dim_k, kv->type_k);
        float s = 0;
        for (int d = 0; d < kv->dim_k; d++) s += q[d] * element(k, d, kv->type_k);
        s *= ((const float *)(const void *)(page + scale_offset(kv)))[slot] * h->scale;
        if (h->softcap > 0) s = h->softcap * tanhf(s / h->softcap);
        scores[i - from] = s;
        if (s > *max) *max = s;
    }
    for (int i = from; i < to; i++) {
        const uint8_t *page = page_at(h, i);
        const int slot = i % KV_PAGE_TOKENS;
        const uint8_t *v = page + v_offset(kv) + (size_t)slot * row_bytes(kv->dim_v, kv->type_v);
        float p = expf(scores[i - from] - *max);
        *sum += p;
        p *= ((const float *)(const void *)(page + scale_offset(kv)))[KV_PAGE_TOKENS + slot];
        for (int d = 0; d < kv->dim_v; d++) acc[d] += p * element(v, d, kv->type_v);
    }
}

static inline void merge_factors(float *a, float *b, const float *max, const float *more_max, int n)
{
    for (int i = 0; i < n && i < MERGE_ROWS; i++) {
        float both = max[i] > more_max[i] ? max[i] : more_max[i];
        a[i] = expf(max[i] - both), b[i] = expf(more_max[i] - both);
    }
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
    const int dim_k = h->kv.dim_k, dim_v = h->kv.dim_v;
    float *scores = scratch, *more = scores + KV_CHUNK_TOKENS, *rotated = more + dim_v, more_max, more_sum;
    for (int i = 0; i < n_tokens * h->group; i++) {
        const float *query = q + (size_t)(i / h->group) * q_stride + i % h->group * dim_k;
        int last = h->pos + i / h->group;
        if (h->kv.type_k == KV_Q8_0) {
            for (int d = 0, len; d < dim_k; d += len) {
                len = attn_rotated_block(rotated + d, query + d, dim_k - d);
                for (int j = d; j < d + len; j++) rotated[j] /= (float)attn_rotation(len);
            }
            query = rotated;
        }
        attend_chunk(acc + i * dim_v, &max[i], &sum[i], h, query, last, chunk_from, scores);
        for (int chunk = chunk_from + 1; chunk < chunk_to; chunk++) {
            attend_chunk(more, &more_max, &more_sum, h, query, last, chunk, scores);
            attn_merge(acc + i * dim_v, &max[i], &sum[i], more, &more_max, &more_sum, 1, dim_v);
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
