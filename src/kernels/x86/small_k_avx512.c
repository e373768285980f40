/* small_k_avx512: products for few tokens with the K types. The sums of a narrow type's half blocks (Q2_K, Q3_K) fit 16
 * bits: one VPDPWSSD multiplies both by their scales. The others go through floats block by block (Q6_K: half by half).
 * The float operations of an output element are those of large_k_avx512.c, in the same order. */
#include "kernels/x86/small_avx512.h"

#define UNIT_BLOCKS 8

/* The low 16 bits of both, a below b. */
INLINE __m512i pair_make(__m512i a, __m512i b)
{
    const __m512i up = _mm512_broadcast_i32x4(_mm_setr_epi8(-1, -1, 0, 1, -1, -1, 4, 5, -1, -1, 8, 9, -1, -1, 12, 13));
    return _mm512_mask_shuffle_epi8(a, 0xccccccccccccccccull, b, up);
}

/* What the sums of both halves of block b start with. */
INLINE void starts_get(__m512i *low, __m512i *high, const uint8_t *a, int b, int t, int n, enum quant_type type)
{
    *low = *high = _mm512_setzero_si512(); /* Q2_K's halves are joined before they are biased */
    if (type == QUANT_Q4_K || type == QUANT_Q5_K) *low = sums_start();
    if (type == QUANT_IQ4_XS) *low = broadcast_32(a + ACTK_FIX32(n) + 4 * (b * n + t));
    if (type != QUANT_Q6_K && type != QUANT_Q3_K) return;
    *low = broadcast_32(a + ACTK_FIX16(n) + 4 * (2 * b * n + t));
    *high = broadcast_32(a + ACTK_FIX16(n) + 4 * ((2 * b + 1) * n + t));
    if (type == QUANT_Q3_K) { /* offset 4, not 32; what the bias leaves is above the low 16 bits */
        *low = _mm512_srai_epi32(*low, 3);
        *high = _mm512_srai_epi32(*high, 3);
    }
}

struct unit_sums {
    __m512 g[SMALL_GROUP_MAX];
    __m512i mins[SMALL_GROUP_MAX];
};

/* One block of a panel times n tokens, under its integer scales. */
INLINE void block_mul_add(struct unit_sums *s, const uint8_t *codes, const uint8_t *scales, int b, const uint8_t *a,
                          enum quant_type type, int n)
{
    const struct panel_form form = panel_form_get(type);
    __m512i w[8], low[SMALL_GROUP_MAX], high[SMALL_GROUP_MAX];
    k_slices_get(w, codes, form);
    const uint8_t *q = a + b * n * BLOCK_LEN;
    const bool split = panel_is_split(form.scales), two_chains = split || n <= 2; /* hides the latency of few tokens */
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) starts_get(&low[t], &high[t], a, b, t, n, type);
    dot_slices(low, w, q, 0, 4, n);
    dot_slices(two_chains ? high : low, w, q, 4, 8, n);
    __m512i factor_0 = k_factor_get(scales, b, 0, form.scales);
    __m512i factor_1 = split ? k_factor_get(scales, b, 1, form.scales) : factor_0;
    __m512i factors = pair_make(factor_0, factor_1);
    __m512 f0 = _mm512_cvtepi32_ps(factor_0), f1 = _mm512_cvtepi32_ps(factor_1);
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) {
        if (k_is_whole(type)) low[t] = _mm512_dpwssd_epi32(sums_start(), pair_make(low[t], high[t]), factors);
        else if (two_chains && !split) low[t] = _mm512_add_epi32(low[t], high[t]);
        s->g[t] = k_block_add(s->g[t], low[t], f0, a, b, t, n, type);
        if (split && !k_is_whole(type)) s->g[t] = k_block_add(s->g[t], high[t], f1, a, b, t, n, type);
    }
}

/* f[t] += one unit of a panel times n tokens */
INLINE void unit_mul_add(__m512 *f, const uint8_t *codes, const uint8_t *scales, const uint8_t *next, const uint8_t *a,
                         enum quant_type type, int n)
{
    const struct panel_form form = panel_form_get(type);
    const int block_bytes = form.bits * 64 + panel_scale_bytes(form.scales) / UNIT_BLOCKS;
    struct unit_sums s;
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) {
        s.g[t] = _mm512_setzero_ps();
        s.mins[t] = _mm512_setzero_si512();
    }
    for (int b = 0; b < UNIT_BLOCKS; b++, codes += form.bits * 64) {
        prefetch(next + b * block_bytes, block_bytes);
        block_mul_add(&s, codes, scales, b, a, type, n);
    }
#pragma GCC unroll 8
    for (int i = 0; i < k_mins_n(form.scales); i++) {
        __m512i mins = k_mins_get(scales, i, form.scales);
#pragma GCC unroll 8
        for (int t = 0; t < n; t++)
            s.mins[t] = _mm512_dpwssd_epi32(s.mins[t], mins, k_sums_get(a, i, t, n, form.scales));
    }
    const bool has_min = panel_has_min(form.scales);
    __m512 d = load_f16(scales), dmin = has_min ? load_f16(scales + 32) : d;
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) f[t] = k_unit_add(f[t], s.g[t], s.mins[t], d, dmin, a, t, n, has_min);
}

INLINE void panel_mul(float *y, size_t y_stride, const uint8_t *panel, const uint8_t *next, const uint8_t *a, int k,
                      int n_out, enum quant_type type, int n)
{
    const struct panel_form form = panel_form_get(type);
    const int scale_bytes = panel_scale_bytes(form.scales);
    const uint8_t *codes = panel, *scales = panel + panel_code_bytes(form, k);
    __m512 f[SMALL_GROUP_MAX];
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) f[t] = _mm512_setzero_ps();
    for (int u = k / QUANT_SUPER; u > 0; u--) {
        unit_mul_add(f, codes, scales, next, a, type, n);
        next += UNIT_BLOCKS * form.bits * 64 + scale_bytes;
        codes += UNIT_BLOCKS * form.bits * 64;
        scales += scale_bytes;
        a += ACTK_BYTES * n;
    }
    rows_store(y, y_stride, f, n_out, n);
}

#define DEFINE_MATMUL(name) DEFINE_SMALL_MATMUL(name, QUANT_SUPER, ACTK_BYTES)
PANEL_K_TYPES(DEFINE_MATMUL)
