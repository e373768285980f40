/* small_avx512: what small_avx512.c and small_k_avx512.c share: products for one to SMALL_M_MAX tokens. One panel at
 * a time meets a group of up to eight tokens; weights are unpacked in registers. Bound by memory for one token, by
 * unpacking and dot products from four on. The file that includes this defines panel_mul. */
#ifndef KERNELS_SMALL_AVX512_H
#define KERNELS_SMALL_AVX512_H

#include "kernels/x86/panels_avx512.h"

/* One panel times a group of n tokens (n is a constant), of which n_out are wanted. Fetches the bytes at `next` for
 * later, as many as a panel has. */
INLINE void panel_mul(float *y, size_t y_stride, const uint8_t *panel, const uint8_t *next, const uint8_t *a, int k,
                      int n_out, enum quant_type type, int n);

/* sums[t] += slices [from, to) times the tokens' activations */
INLINE void dot_slices(__m512i *sums, const __m512i w[8], const uint8_t *q, int from, int to, int n)
{
#pragma GCC unroll 8
    for (int j = from; j < to; j++)
#pragma GCC unroll 8
        for (int t = 0; t < n; t++)
            sums[t] = _mm512_dpbusd_epi32(sums[t], w[j], broadcast_32(q + t * BLOCK_LEN + 4 * j));
}

INLINE void prefetch(const uint8_t *p, int bytes)
{
#pragma GCC unroll 64
    for (int i = 0; i < bytes; i += 64) _mm_prefetch((const char *)p + i, _MM_HINT_T1);
}

INLINE void rows_store(float *y, size_t y_stride, const __m512 *f, int n_out, int n)
{
#pragma GCC unroll 8
    for (int t = 0; t < n; t++)
        if (t < n_out) _mm512_storeu_ps(y + (size_t)t * y_stride, f[t]);
}

/* A panel is read from two ends (codes, scales), so what lies a little ahead of either is not all of it: while a panel
 * is used, the whole next one comes into L2, in the order of memory. */

/* Panels [from, to) times all tokens, whose activations come in units of unit_len values, unit_bytes a token. */
INLINE void small_matmul(float *y, size_t y_stride, const uint8_t *panels, const uint8_t *acts, int m, int k, int from,
                         int to, enum quant_type type, int unit_len, int unit_bytes)
{
    struct act_layout l = act_layout_get(m, false);
    size_t panel_bytes = panel_bytes_of(panel_form_get(type), k);
    size_t group_bytes = act_group_bytes(&l, k, unit_len, unit_bytes);
    for (int p = from; p < to; p++)
        for (int g = 0; g < l.n_groups; g++) {
            const uint8_t *a = acts + (size_t)g * group_bytes, *panel = panels + (size_t)p * panel_bytes;
            const uint8_t *next = g == 0 ? panel + panel_bytes : panel;
            float *out = y + (size_t)(g * l.group) * y_stride + (size_t)p * PANEL_ROWS;
            int n_out = m - g * l.group;
            switch (l.group) {
            case 1: panel_mul(out, y_stride, panel, next, a, k, n_out, type, 1); break;
            case 2: panel_mul(out, y_stride, panel, next, a, k, n_out, type, 2); break;
            case 4: panel_mul(out, y_stride, panel, next, a, k, n_out, type, 4); break;
            case 6: panel_mul(out, y_stride, panel, next, a, k, n_out, type, 6); break;
            default: panel_mul(out, y_stride, panel, next, a, k, n_out, type, 8); break;
            }
        }
}

#define DEFINE_SMALL_MATMUL(name, unit_len, unit_bytes)                                                               \
    void small_avx512_##name(float *y, size_t y_stride, const void *panels, const void *acts, int m, int k, int from, \
                             int to, void *scratch)                                                                   \
    {                                                                                                                 \
        (void)scratch;                                                                                                \
        small_matmul(y, y_stride, panels, acts, m, k, from, to, QUANT_##name, unit_len, unit_bytes);                  \
    }

#endif
