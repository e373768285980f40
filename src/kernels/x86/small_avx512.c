/* small_avx512: products for few tokens with the types that have a scale for every 32. The float operations of an
 * output element are those of large_avx512.c, in the same order. */
#include "kernels/x86/small_avx512.h"

INLINE int log2_of(int power_of_two)
{
    return __builtin_ctz((unsigned)power_of_two);
}

/* Where the sums of a token start: the fix is for an offset of 128. */
INLINE __m512i start_get(const uint8_t *fix, int offset)
{
    const int shift = offset ? 7 - log2_of(offset) : 0;
    if (!offset) return sums_start();
    if (!shift) return broadcast_32(fix);
    int32_t v;
    memcpy(&v, fix, sizeof v);
    return _mm512_set1_epi32((v >> shift) + (SUM_BIAS - (SUM_BIAS >> shift)));
}

/* f[t] += one block of a panel times n tokens */
INLINE void block_mul_add(__m512 *f, const uint8_t *codes, const uint8_t *scales, const uint8_t *a,
                          struct panel_form form, int n)
{
    __m512i w[8], sums[2][SMALL_GROUP_MAX];
    slices_get_offset(w, codes, form, form.offset);
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) {
        sums[0][t] = start_get(a + ACT32_FIX(n) + 4 * t, form.offset);
        sums[1][t] = _mm512_setzero_si512();
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
        __m512 v = sums_scale(sums[0][t], a + ACT32_SCALE(n) + 4 * t, a + ACT32_UNBIAS(n) + 4 * t);
        f[t] = _mm512_fmadd_ps(v, scale, f[t]);
    }
    if (!panel_has_min(form.scales)) return;
    __m512 min = load_f16(scales + 32);
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) f[t] = _mm512_fnmadd_ps(min, broadcast_f32(a + ACT32_DSUM(n) + 4 * t), f[t]);
}

INLINE void panel_mul(float *y, size_t y_stride, const uint8_t *panel, const uint8_t *next, const uint8_t *a, int k,
                      int n_out, enum quant_type type, int n)
{
    const struct panel_form form = panel_form_get(type);
    const int code_bytes = form.bits * 64, scale_bytes = panel_scale_bytes(form.scales);
    __m512 f[SMALL_GROUP_MAX];
    const uint8_t *codes = panel, *scales = panel + panel_code_bytes(form, k);
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) f[t] = _mm512_setzero_ps();
    for (int b = k / BLOCK_LEN; b > 0; b--) {
        prefetch(next, code_bytes + scale_bytes);
        block_mul_add(f, codes, scales, a, form, n);
        next += code_bytes + scale_bytes;
        codes += code_bytes;
        scales += scale_bytes;
        a += ACT32_BYTES * n;
    }
    rows_store(y, y_stride, f, n_out, n);
}

#define DEFINE_MATMUL(name) DEFINE_SMALL_MATMUL(name, BLOCK_LEN, ACT32_BYTES)
PANEL_BLOCK_TYPES(DEFINE_MATMUL)
