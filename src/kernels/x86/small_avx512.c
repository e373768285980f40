/* small_avx512: products for one to SMALL_M_MAX tokens with the types that have a scale for every 32. Weights are
 * unpacked in registers, one panel at a time against a group of up to eight tokens; bound by memory for one token, by
 * unpacking and dot products from four on. The float operations of an output element are those of large_avx512.c, in
 * the same order. */
#include "kernels/x86/panels_avx512.h"

#define PREFETCH_BYTES 2048

INLINE int log2_of(int power_of_two)
{
    return __builtin_ctz((unsigned)power_of_two);
}

/* sums[t] += slices [from, to) times the tokens' activations */
INLINE void dot_slices(__m512i *sums, const __m512i w[8], const uint8_t *q, int from, int to, int n)
{
#pragma GCC unroll 8
    for (int j = from; j < to; j++)
#pragma GCC unroll 8
        for (int t = 0; t < n; t++)
            sums[t] = _mm512_dpbusd_epi32(sums[t], w[j], broadcast_32(q + t * BLOCK_LEN + 4 * j));
}

/* f[t] += one block of a panel times n tokens */
INLINE void block_mul_add(__m512 *f, const uint8_t *codes, const uint8_t *scales, const uint8_t *a,
                          struct panel_form form, int n)
{
    __m512i w[8], sums[2][SMALL_GROUP_MAX];
    slices_get_offset(w, codes, form, form.offset);
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) {
        sums[0][t] = sums[1][t] = _mm512_setzero_si512();
        if (form.offset)
            sums[0][t] =
                _mm512_srai_epi32(broadcast_32(a + ACT32_FIX(n) + 4 * t), (unsigned)(7 - log2_of(form.offset)));
    }
    if (n <= 2) { /* two chains hide the latency where there are few tokens */
        dot_slices(sums[0], w, a, 0, 4, n);
        dot_slices(sums[1], w, a, 4, 8, n);
    } else {
        dot_slices(sums[0], w, a, 0, 8, n);
    }
    __m512 scale = block_scale_get(scales, form.scales);
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) {
        if (n <= 2) sums[0][t] = _mm512_add_epi32(sums[0][t], sums[1][t]);
        f[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[0][t]),
                               _mm512_mul_ps(scale, broadcast_f32(a + ACT32_SCALE(n) + 4 * t)), f[t]);
    }
    if (!panel_has_min(form.scales)) return;
    __m512 min = load_f16(scales + 32);
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) f[t] = _mm512_fnmadd_ps(min, broadcast_f32(a + ACT32_DSUM(n) + 4 * t), f[t]);
}

/* One panel times a group of n tokens (n_out of them wanted). */
INLINE void panel_mul(float *y, size_t y_stride, const uint8_t *panel, const uint8_t *a, int k, int n_out,
                      struct panel_form form, int n)
{
    __m512 f[SMALL_GROUP_MAX];
    const uint8_t *codes = panel, *scales = panel + panel_code_bytes(form, k);
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) f[t] = _mm512_setzero_ps();
    for (int b = k / BLOCK_LEN; b > 0; b--) {
        _mm_prefetch((const char *)scales + PREFETCH_BYTES, _MM_HINT_T0);
#pragma GCC unroll 8
        for (int j = 0; j < form.bits; j++) _mm_prefetch((const char *)codes + PREFETCH_BYTES + 64 * j, _MM_HINT_T0);
        block_mul_add(f, codes, scales, a, form, n);
        codes += form.bits * 64;
        scales += panel_scale_bytes(form.scales);
        a += ACT32_BYTES * n;
    }
#pragma GCC unroll 8
    for (int t = 0; t < n; t++)
        if (t < n_out) _mm512_storeu_ps(y + (size_t)t * y_stride, f[t]);
}

INLINE void matmul(float *y, size_t y_stride, const uint8_t *panels, const uint8_t *acts, int m, int k, int from,
                   int to, enum quant_type type)
{
    struct panel_form form = panel_form_get(type);
    struct act_layout l = act_layout_get(m, false);
    size_t panel_bytes = panel_bytes_of(form, k), group_bytes = act_group_bytes(&l, k, BLOCK_LEN, ACT32_BYTES);
    for (int p = from; p < to; p++)
        for (int g = 0; g < l.n_groups; g++) {
            const uint8_t *a = acts + (size_t)g * group_bytes, *panel = panels + (size_t)p * panel_bytes;
            float *out = y + (size_t)(g * l.group) * y_stride + (size_t)p * PANEL_ROWS;
            int n_out = m - g * l.group;
            switch (l.group) {
            case 1: panel_mul(out, y_stride, panel, a, k, n_out, form, 1); break;
            case 2: panel_mul(out, y_stride, panel, a, k, n_out, form, 2); break;
            case 4: panel_mul(out, y_stride, panel, a, k, n_out, form, 4); break;
            case 6: panel_mul(out, y_stride, panel, a, k, n_out, form, 6); break;
            default: panel_mul(out, y_stride, panel, a, k, n_out, form, 8); break;
            }
        }
}

#define DEFINE_MATMUL(name)                                                                                           \
    void small_avx512_##name(float *y, size_t y_stride, const void *panels, const void *acts, int m, int k, int from, \
                             int to, void *scratch)                                                                   \
    {                                                                                                                 \
        (void)scratch;                                                                                                \
        matmul(y, y_stride, panels, acts, m, k, from, to, QUANT_##name);                                              \
    }
PANEL_BLOCK_TYPES(DEFINE_MATMUL)
