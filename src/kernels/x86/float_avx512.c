/* float_avx512: products with F32, F16 and BF16 weights by float FMA; the weights are widened as they are read. k is
 * summed in chunks of 128, and the chunks' sums are added up: less rounding error than one long sum, and the same order
 * for every m. Activations are copied into groups of tokens: [n_groups][k][group]. */
#include <string.h>

#include "kernels/x86/panels_avx512.h"

#define FLOAT_CHUNK 128
#define FLOAT_GROUP 12 /* 2 panels x 12 tokens fill the registers */

INLINE int group_get(int m)
{
    return m == 1 ? 1 : m <= 8 ? (m + 1) / 2 * 2 : FLOAT_GROUP;
}

static size_t act_bytes(int m, int k)
{
    int group = group_get(m);
    return (size_t)((m + group - 1) / group * group) * (size_t)k * sizeof(float);
}

static void quantize(void *acts, const float *x, size_t x_stride, int m, int k, int from, int to)
{
    size_t group = (size_t)group_get(m), n = (size_t)k, end = ((size_t)m + group - 1) / group * group;
    for (size_t t = (size_t)from; t < (to == m ? end : (size_t)to); t++) {
        float *out = (float *)acts + t / group * group * n + t % group;
        if (t >= (size_t)m)
            for (size_t i = 0; i < n; i++) out[i * group] = 0;
        else if (group == 1) memcpy(out, x + t * x_stride, n * sizeof(float));
        else
            for (size_t i = 0; i < n; i++) out[i * group] = x[t * x_stride + i];
    }
}

static void restore(float *x, const void *acts, int m, int k, int token)
{
    size_t group = (size_t)group_get(m), t = (size_t)token;
    const float *in = (const float *)acts + t / group * group * (size_t)k + t % group;
    for (size_t i = 0; i < (size_t)k; i++) x[i] = in[i * group];
}

INLINE size_t element_bytes(enum quant_type type)
{
    return type == QUANT_F32 ? 4 : 2;
}

INLINE __m512 weights_get(const uint8_t *p, enum quant_type type)
{
    if (type == QUANT_F32) return _mm512_load_ps(p);
    if (type == QUANT_F16) return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)p)), 16));
}

/* rows[t][np * 16] (+)= n values of k of np panels times nt tokens. */
INLINE void tile(float *const *rows, const uint8_t *w, size_t panel_bytes, const float *x, int n, bool first,
                 enum quant_type type, const int np, const int nt)
{
    __m512 f[FLOAT_GROUP][4];
#pragma GCC unroll 12
    for (int t = 0; t < nt; t++)
#pragma GCC unroll 4
        for (int p = 0; p < np; p++) f[t][p] = _mm512_setzero_ps();
    for (int i = 0; i < n; i++, w += PANEL_ROWS * element_bytes(type), x += nt) {
        __m512 v[4];
#pragma GCC unroll 4
        for (int p = 0; p < np; p++) {
            if (nt <= 2) _mm_prefetch((const char *)w + (size_t)p * panel_bytes + 1024, _MM_HINT_T0);
            v[p] = weights_get(w + (size_t)p * panel_bytes, type);
        }
#pragma GCC unroll 12
        for (int t = 0; t < nt; t++)
#pragma GCC unroll 4
            for (int p = 0; p < np; p++) f[t][p] = _mm512_fmadd_ps(v[p], _mm512_set1_ps(x[t]), f[t][p]);
    }
#pragma GCC unroll 12
    for (int t = 0; t < nt; t++)
#pragma GCC unroll 4
        for (int p = 0; p < np; p++) {
            float *y = rows[t] + p * PANEL_ROWS;
            _mm512_storeu_ps(y, first ? f[t][p] : _mm512_add_ps(_mm512_loadu_ps(y), f[t][p]));
        }
}

struct float_scratch {
    float spare[4 * PANEL_ROWS];
};

/* np panels at y and w times all tokens. */
INLINE void panels_mul(float *y, size_t y_stride, const uint8_t *w, size_t panel_bytes, const float *acts, int m, int k,
                       struct float_scratch *s, enum quant_type type, const int np, const int nt)
{
    for (int from = 0; from < k; from += FLOAT_CHUNK) {
        int n = k - from < FLOAT_CHUNK ? k - from : FLOAT_CHUNK;
        const uint8_t *chunk = w + (size_t)from * PANEL_ROWS * element_bytes(type);
        for (int g = 0; g * nt < m; g++) {
            float *rows[FLOAT_GROUP];
            for (int t = 0; t < nt; t++) rows[t] = g * nt + t < m ? y + (size_t)(g * nt + t) * y_stride : s->spare;
            tile(rows, chunk, panel_bytes, acts + ((size_t)g * (size_t)k + (size_t)from) * (size_t)nt, n, from == 0,
                 type, np, nt);
        }
    }
}

INLINE void matmul_group(float *y, size_t y_stride, const uint8_t *panels, const float *acts, int m, int k, int from,
                         int to, void *scratch, enum quant_type type, const int nt)
{
    const int wide = nt == 1 ? 4 : 2; /* enough sums in flight */
    size_t bytes = panel_float_bytes(element_bytes(type), k);
    int p = from;
    for (; p + wide <= to; p += wide)
        panels_mul(y + (size_t)p * PANEL_ROWS, y_stride, panels + (size_t)p * bytes, bytes, acts, m, k, scratch, type,
                   wide, nt);
    for (; p < to; p++)
        panels_mul(y + (size_t)p * PANEL_ROWS, y_stride, panels + (size_t)p * bytes, bytes, acts, m, k, scratch, type,
                   1, nt);
}

INLINE void matmul(float *y, size_t y_stride, const void *panels, const void *acts, int m, int k, int from, int to,
                   void *scratch, enum quant_type type)
{
    switch (group_get(m)) {
    case 1: matmul_group(y, y_stride, panels, acts, m, k, from, to, scratch, type, 1); break;
    case 2: matmul_group(y, y_stride, panels, acts, m, k, from, to, scratch, type, 2); break;
    case 4: matmul_group(y, y_stride, panels, acts, m, k, from, to, scratch, type, 4); break;
    case 6: matmul_group(y, y_stride, panels, acts, m, k, from, to, scratch, type, 6); break;
    case 8: matmul_group(y, y_stride, panels, acts, m, k, from, to, scratch, type, 8); break;
    default: matmul_group(y, y_stride, panels, acts, m, k, from, to, scratch, type, FLOAT_GROUP); break;
    }
}

#define DEFINE_MATMUL(name)                                                                                            \
    static void matmul_##name(float *y, size_t y_stride, const void *panels, const void *acts, int m, int k, int from, \
                              int to, void *scratch)                                                                   \
    {                                                                                                                  \
        matmul(y, y_stride, panels, acts, m, k, from, to, scratch, QUANT_##name);                                      \
    }
PANEL_FLOAT_TYPES(DEFINE_MATMUL)

void kernels_fill_avx512_float(struct kernels *k)
{
    k->act[AVX512_ACT_FLOAT] = (struct act_format){act_bytes, quantize, restore};
#define SET_MATMUL(name)                            \
    k->matmul[QUANT_##name].act = AVX512_ACT_FLOAT; \
    k->matmul[QUANT_##name].matmul = matmul_##name;
    PANEL_FLOAT_TYPES(SET_MATMUL)
}
