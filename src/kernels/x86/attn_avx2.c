/* attn_avx2: attention over paged keys and values in f16. Pure, any thread.
 *
 * A page holds K transposed, f16 [dim_k][KV_PAGE_TOKENS], then V, f16 [KV_PAGE_TOKENS][dim_v]: both products then run
 * along vectors without reductions. All query heads of the KV head and all query tokens (together the ROWS) meet a page
 * at once. With more rows than one register tile the page is converted to float first, otherwise on the way; the float
 * operations of a row are the same: one FMA chain over dim_k per score, one over the slots per output.
 *
 * The softmax is online by pages: a row whose maximum grows scales what it has. Slots that no query of the call may see
 * are never multiplied: they may hold anything. */
#include <math.h>

#include "kernels/x86/matmul_avx2.h"
#include "kernels/x86/simd_avx2.h"

#define SLOTS KV_PAGE_TOKENS
#define ROWS_MAX 6 /* of a register tile */
#define F16_MAX 65504.0f

_Static_assert(SLOTS == 32, "a row of scores is four vectors");

struct rows { /* the queries of a call */
    const float *q;
    size_t q_stride;
    int n, group, dim_k;
};

static const float *row_query(const struct rows *rows, int r)
{
    return rows->q + (size_t)(r / rows->group) * rows->q_stride + (size_t)(r % rows->group) * (size_t)rows->dim_k;
}

static size_t kv_page_bytes(int dim_k, int dim_v)
{
    return (size_t)(dim_k + dim_v) * SLOTS * sizeof(uint16_t);
}

static size_t attn_scratch_bytes(int group, int dim_k, int dim_v)
{
    return ((size_t)ATTN_MAX_QUERIES * (size_t)group + (size_t)dim_k + (size_t)dim_v) * SLOTS * sizeof(float);
}

/* 8 floats as f16; what does not fit becomes the largest number, so that pages never hold infinities or NaN. */
AVX2_INLINE __m128i to_f16(const float *x)
{
    __m256 v = _mm256_min_ps(_mm256_loadu_ps(x), _mm256_set1_ps(F16_MAX));
    v = _mm256_max_ps(v, _mm256_set1_ps(-F16_MAX));
    return _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static void kv_store(void *page, const float *k, const float *v, int slot, int dim_k, int dim_v)
{
    uint16_t *keys = page; // [dim_k][SLOTS]
    for (int d = 0; d < dim_k; d += 8) {
        uint16_t h[8];
        _mm_storeu_si128((__m128i *)(void *)h, to_f16(k + d));
        for (int i = 0; i < 8; i++) keys[(d + i) * SLOTS + slot] = h[i];
    }
    uint16_t *value = keys + (size_t)dim_k * SLOTS + (size_t)slot * (size_t)dim_v; // [dim_v]
    for (int d = 0; d < dim_v; d += 8) _mm_storeu_si128((__m128i *)(void *)(value + d), to_f16(v + d));
}

static void to_float(float *dst, const uint16_t *src, size_t n)
{
    for (size_t i = 0; i < n; i += 8) _mm256_storeu_ps(dst + i, load_f16(src + i));
}

/* Element i of an f16 or float array. */
AVX2_INLINE __m256 load_element(bool is_f16, const void *p, int i)
{
    return is_f16 ? load_f16((const uint16_t *)p + i) : _mm256_loadu_ps((const float *)p + i);
}

/* s[n][SLOTS] = q . keys for n rows from row r on, `width` vectors of slots at a time (n and width constant). */
AVX2_INLINE void score_tile(bool is_f16, int n, int width, float *s, const struct rows *rows, int r, const void *keys)
{
    const float *q[ROWS_MAX];
    UNROLL
    for (int i = 0; i < n; i++) q[i] = row_query(rows, r + i);
    for (int slot = 0; slot < SLOTS; slot += 8 * width) {
        __m256 sum[ROWS_MAX][4];
        UNROLL
        for (int i = 0; i < n; i++) {
            UNROLL
            for (int v = 0; v < width; v++) sum[i][v] = _mm256_setzero_ps();
        }
        for (int d = 0; d < rows->dim_k; d++) {
            __m256 key[4];
            UNROLL
            for (int v = 0; v < width; v++) key[v] = load_element(is_f16, keys, d * SLOTS + slot + 8 * v);
            UNROLL
            for (int i = 0; i < n; i++) {
                __m256 x = broadcast_f32(q[i] + d);
                UNROLL
                for (int v = 0; v < width; v++) sum[i][v] = _mm256_fmadd_ps(x, key[v], sum[i][v]);
            }
        }
        UNROLL
        for (int i = 0; i < n; i++) {
            UNROLL
            for (int v = 0; v < width; v++) _mm256_storeu_ps(s + i * SLOTS + slot + 8 * v, sum[i][v]);
        }
    }
}

/* acc[n][dim_v] += p[n][SLOTS] * values, over n_slots slots and 8 * width elements from d on (n and width constant). */
AVX2_INLINE void value_tile(bool is_f16, int n, int width, float *acc, const float *p, const void *values, int dim_v,
                            int d, int n_slots)
{
    __m256 sum[ROWS_MAX][4];
    UNROLL
    for (int i = 0; i < n; i++) {
        UNROLL
        for (int v = 0; v < width; v++) sum[i][v] = _mm256_loadu_ps(acc + (size_t)i * (size_t)dim_v + d + 8 * v);
    }
    for (int slot = 0; slot < n_slots; slot++) {
        __m256 value[4];
        UNROLL
        for (int v = 0; v < width; v++) value[v] = load_element(is_f16, values, slot * dim_v + d + 8 * v);
        UNROLL
        for (int i = 0; i < n; i++) {
            __m256 x = broadcast_f32(p + i * SLOTS + slot);
            UNROLL
            for (int v = 0; v < width; v++) sum[i][v] = _mm256_fmadd_ps(x, value[v], sum[i][v]);
        }
    }
    UNROLL
    for (int i = 0; i < n; i++) {
        UNROLL
        for (int v = 0; v < width; v++) _mm256_storeu_ps(acc + (size_t)i * (size_t)dim_v + d + 8 * v, sum[i][v]);
    }
}

AVX2_INLINE void value_rows(bool is_f16, int n, float *acc, const float *p, const void *values, int dim_v, int n_slots)
{
    const int width = n <= 3 ? 4 : 2;
    int d = 0;
    for (; d + 8 * width <= dim_v; d += 8 * width) value_tile(is_f16, n, width, acc, p, values, dim_v, d, n_slots);
    for (; d < dim_v; d += 8) value_tile(is_f16, n, 1, acc, p, values, dim_v, d, n_slots);
}

AVX2_INLINE void score_n(bool is_f16, int n, float *s, const struct rows *rows, int r, const void *keys)
{
    switch (n) {
    case 1: score_tile(is_f16, 1, 4, s, rows, r, keys); break;
    case 2: score_tile(is_f16, 2, 4, s, rows, r, keys); break;
    case 3: score_tile(is_f16, 3, 4, s, rows, r, keys); break;
    case 4: score_tile(is_f16, 4, 2, s, rows, r, keys); break;
    case 5: score_tile(is_f16, 5, 2, s, rows, r, keys); break;
    default: score_tile(is_f16, 6, 2, s, rows, r, keys); break;
    }
}

AVX2_INLINE void value_n(bool is_f16, int n, float *acc, const float *p, const void *values, int dim_v, int n_slots)
{
    switch (n) {
    case 1: value_rows(is_f16, 1, acc, p, values, dim_v, n_slots); break;
    case 2: value_rows(is_f16, 2, acc, p, values, dim_v, n_slots); break;
    case 3: value_rows(is_f16, 3, acc, p, values, dim_v, n_slots); break;
    case 4: value_rows(is_f16, 4, acc, p, values, dim_v, n_slots); break;
    case 5: value_rows(is_f16, 5, acc, p, values, dim_v, n_slots); break;
    default: value_rows(is_f16, 6, acc, p, values, dim_v, n_slots); break;
    }
}

/* Scores of all rows; `converted` [dim_k][SLOTS] is scratch. */
static void page_scores(float *s, float *converted, const struct rows *rows, const uint16_t *keys)
{
    if (rows->n <= ROWS_MAX) {
        score_n(true, rows->n, s, rows, 0, keys);
        return;
    }
    to_float(converted, keys, (size_t)rows->dim_k * SLOTS);
    for (int r = 0; r < rows->n; r += ROWS_MAX) {
        int n = rows->n - r < ROWS_MAX ? rows->n - r : ROWS_MAX;
        score_n(false, n, s + (size_t)r * SLOTS, rows, r, converted);
    }
}

/* acc of all rows; `converted` [SLOTS][dim_v] is scratch. */
static void page_values(float *acc, float *converted, const float *p, const struct rows *rows, const uint16_t *values,
                        int dim_v, int n_slots)
{
    if (rows->n <= ROWS_MAX) {
        value_n(true, rows->n, acc, p, values, dim_v, n_slots);
        return;
    }
    to_float(converted, values, (size_t)n_slots * (size_t)dim_v);
    for (int r = 0; r < rows->n; r += ROWS_MAX) {
        int n = rows->n - r < ROWS_MAX ? rows->n - r : ROWS_MAX;
        value_n(false, n, acc + (size_t)r * (size_t)dim_v, p + (size_t)r * SLOTS, converted, dim_v, n_slots);
    }
}

/* One row of dot products s[SLOTS] to weights, in place: slots [from, to) are seen. Updates the row's maximum and sum
 * and scales its acc[dim_v] when the maximum grows. */
static void softmax_row(float *s, float *acc, float *max, float *sum, const struct attn_head *h, int from, int to)
{
    const __m256 minus_inf = _mm256_set1_ps(-INFINITY);
    __m256i seen = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    __m256 v[4], top = minus_inf;
    if (from < 0) from = 0;
    if (to > SLOTS) to = SLOTS;
    if (from >= to) {
        UNROLL
        for (int i = 0; i < 4; i++) _mm256_storeu_ps(s + 8 * i, _mm256_setzero_ps());
        return;
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        __m256i in = _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(from), seen),
                                         _mm256_cmpgt_epi32(_mm256_set1_epi32(to), seen));
        v[i] = _mm256_mul_ps(_mm256_loadu_ps(s + 8 * i), _mm256_set1_ps(h->scale));
        if (h->softcap > 0.0f) {
            __m256 cap = _mm256_set1_ps(h->softcap);
            v[i] = _mm256_mul_ps(cap, tanh_f32(_mm256_div_ps(v[i], cap)));
        }
        v[i] = _mm256_blendv_ps(minus_inf, v[i], _mm256_castsi256_ps(in));
        top = _mm256_max_ps(top, v[i]);
        seen = _mm256_add_epi32(seen, _mm256_set1_epi32(8));
    }
    float new_max = max_lanes(top);
    if (new_max > *max) {
        __m256 factor = exp_f32(_mm256_set1_ps(*max - new_max));
        if (*sum > 0.0f) {
            for (int d = 0; d < h->dim_v; d += 8)
                _mm256_storeu_ps(acc + d, _mm256_mul_ps(_mm256_loadu_ps(acc + d), factor));
        }
        *sum *= _mm256_cvtss_f32(factor);
        *max = new_max;
    }
    __m256 base = _mm256_set1_ps(*max);
    UNROLL
    for (int i = 0; i < 4; i++) {
        v[i] = exp_f32(_mm256_sub_ps(v[i], base));
        _mm256_storeu_ps(s + 8 * i, v[i]);
    }
    *sum += sum_lanes(_mm256_add_ps(_mm256_add_ps(v[0], v[1]), _mm256_add_ps(v[2], v[3])));
}

static void attend(float *acc, float *max, float *sum, const struct attn_head *h, const float *q, size_t q_stride,
                   int n_tokens, int chunk, void *scratch)
{
    struct rows rows = {q, q_stride, n_tokens * h->group, h->group, h->dim_k};
    float *scores = scratch; // [rows][SLOTS]
    float *converted = scores + (size_t)ATTN_MAX_QUERIES * (size_t)h->group * SLOTS;
    for (int r = 0; r < rows.n; r++) {
        max[r] = -INFINITY;
        sum[r] = 0.0f;
    }
    memset(acc, 0, (size_t)rows.n * (size_t)h->dim_v * sizeof *acc);

    int from = chunk * KV_CHUNK_TOKENS, to = h->pos + n_tokens; /* keys that any query sees */
    if (to > from + KV_CHUNK_TOKENS) to = from + KV_CHUNK_TOKENS;
    if (h->window > 0 && from < h->pos - h->window + 1) from = (h->pos - h->window + 1) / SLOTS * SLOTS;
    for (int key = from; key < to; key += SLOTS) {
        const uint16_t *keys = (const void *)(h->pages + (size_t)h->table[key / SLOTS] * h->page_stride);
        page_scores(scores, converted, &rows, keys);
        for (int r = 0; r < rows.n; r++) {
            int end = h->pos + r / h->group + 1 - key; /* slots below it are seen */
            int begin = h->window > 0 ? end - h->window : 0;
            softmax_row(scores + (size_t)r * SLOTS, acc + (size_t)r * (size_t)h->dim_v, max + r, sum + r, h, begin,
                        end);
        }
        int n_slots = to - key < SLOTS ? to - key : SLOTS;
        page_values(acc, converted, scores, &rows, keys + (size_t)h->dim_k * SLOTS, h->dim_v, n_slots);
    }
}

void attn_init_avx2(struct kernels *k)
{
    k->kv_page_bytes = kv_page_bytes;
    k->kv_store = kv_store;
    k->attend = attend;
    k->attn_scratch_bytes = attn_scratch_bytes;
}
