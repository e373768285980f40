/* small_k_avx512: products for one to SMALL_M_MAX tokens with the K types; one panel at a time against a group of up to
 * eight tokens, weights unpacked in registers. Narrow types (Q2_K, Q3_K) stay integers for a whole unit: the sums of a
 * block's halves fit 16 bits, one VPDPWSSD multiplies both by their scales. The others go through floats block by block
 * (Q6_K: half by half). The float operations of an output element are those of large_k_avx512.c, in the same order. */
#include "kernels/x86/panels_avx512.h"

#define UNIT_BLOCKS 8
#define PREFETCH_BYTES 2048

INLINE bool is_whole(enum quant_type type)
{
    return type == QUANT_Q2_K || type == QUANT_Q3_K;
}

/* The low 16 bits of both, a below b. */
INLINE __m512i pair_make(__m512i a, __m512i b)
{
    const __m512i up = _mm512_broadcast_i32x4(_mm_setr_epi8(-1, -1, 0, 1, -1, -1, 4, 5, -1, -1, 8, 9, -1, -1, 12, 13));
    return _mm512_mask_shuffle_epi8(a, 0xccccccccccccccccull, b, up);
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

/* What the sums of both halves of block b start with. */
INLINE void starts_get(__m512i *low, __m512i *high, const uint8_t *a, int b, int t, int n, enum quant_type type)
{
    *low = *high = _mm512_setzero_si512();
    if (type == QUANT_IQ4_XS) *low = broadcast_32(a + ACT256_FIX32(n) + 4 * (b * n + t));
    if (type != QUANT_Q6_K && type != QUANT_Q3_K) return;
    *low = broadcast_32(a + ACT256_FIX16(n) + 4 * (2 * b * n + t));
    *high = broadcast_32(a + ACT256_FIX16(n) + 4 * ((2 * b + 1) * n + t));
    if (type == QUANT_Q3_K) { /* offset 4, not 32 */
        *low = _mm512_srai_epi32(*low, 3);
        *high = _mm512_srai_epi32(*high, 3);
    }
}

struct unit_sums {
    __m512 g[SMALL_GROUP_MAX];
    __m512i whole[SMALL_GROUP_MAX], mins[SMALL_GROUP_MAX];
};

/* One block of a panel times n tokens, under its integer scales. */
INLINE void block_mul_add(struct unit_sums *s, const uint8_t *codes, const uint8_t *scales, int b, const uint8_t *a,
                          enum quant_type type, int n)
{
    const struct panel_form form = panel_form_get(type);
    __m512i w[8], low[SMALL_GROUP_MAX], high[SMALL_GROUP_MAX];
    if (form.table) slices_get_offset(w, codes, form, form.offset);
    else slices_get(w, codes, form.bits);
    const uint8_t *q = a + b * n * BLOCK_LEN;
    const bool split = panel_is_split(form.scales), two_chains = split || n <= 2; /* hides the latency of few tokens */
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) starts_get(&low[t], &high[t], a, b, t, n, type);
    dot_slices(low, w, q, 0, 4, n);
    dot_slices(two_chains ? high : low, w, q, 4, 8, n);
    __m512i factor_0 = k_factor_get(scales, b, 0, form.scales);
    __m512i factor_1 = split ? k_factor_get(scales, b, 1, form.scales) : factor_0;
    if (is_whole(type)) {
        __m512i factors = pair_make(factor_0, factor_1);
#pragma GCC unroll 8
        for (int t = 0; t < n; t++) s->whole[t] = _mm512_dpwssd_epi32(s->whole[t], pair_make(low[t], high[t]), factors);
        return;
    }
    __m512 f0 = _mm512_cvtepi32_ps(factor_0), f1 = _mm512_cvtepi32_ps(factor_1);
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) {
        if (two_chains && !split) low[t] = _mm512_add_epi32(low[t], high[t]);
        s->g[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(low[t]), f0, s->g[t]);
        if (split) s->g[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(high[t]), f1, s->g[t]);
    }
}

/* f[t] += one unit of a panel times n tokens */
INLINE void unit_mul_add(__m512 *f, const uint8_t *codes, const uint8_t *scales, const uint8_t *a, enum quant_type type,
                         int n)
{
    const struct panel_form form = panel_form_get(type);
    struct unit_sums s;
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) {
        s.g[t] = _mm512_setzero_ps();
        s.whole[t] = s.mins[t] = _mm512_setzero_si512();
    }
    for (int b = 0; b < UNIT_BLOCKS; b++, codes += form.bits * 64) {
#pragma GCC unroll 8
        for (int j = 0; j < form.bits; j++) _mm_prefetch((const char *)codes + PREFETCH_BYTES + 64 * j, _MM_HINT_T0);
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
    for (int t = 0; t < n; t++) {
        __m512 sum = is_whole(type) ? _mm512_cvtepi32_ps(s.whole[t]) : s.g[t];
        f[t] = k_unit_add(f[t], sum, s.mins[t], d, dmin, broadcast_f32(a + ACT256_SCALE(n) + 4 * t), has_min);
    }
}

/* One panel times a group of n tokens (n_out of them wanted). */
INLINE void panel_mul(float *y, size_t y_stride, const uint8_t *panel, const uint8_t *a, int k, int n_out,
                      enum quant_type type, int n)
{
    const struct panel_form form = panel_form_get(type);
    const int scale_bytes = panel_scale_bytes(form.scales);
    const uint8_t *codes = panel, *scales = panel + panel_code_bytes(form, k);
    __m512 f[SMALL_GROUP_MAX];
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) f[t] = _mm512_setzero_ps();
    for (int u = k / QUANT_SUPER; u > 0; u--) {
        for (int i = 0; i < scale_bytes; i += 64)
            _mm_prefetch((const char *)scales + PREFETCH_BYTES / 2 + i, _MM_HINT_T0);
        unit_mul_add(f, codes, scales, a, type, n);
        codes += UNIT_BLOCKS * form.bits * 64;
        scales += scale_bytes;
        a += ACT256_BYTES * n;
    }
#pragma GCC unroll 8
    for (int t = 0; t < n; t++)
        if (t < n_out) _mm512_storeu_ps(y + (size_t)t * y_stride, f[t]);
}

INLINE void matmul(float *y, size_t y_stride, const uint8_t *panels, const uint8_t *acts, int m, int k, int from,
                   int to, enum quant_type type)
{
    struct act_layout l = act_layout_get(m, false);
    size_t panel_bytes = panel_bytes_of(panel_form_get(type), k);
    size_t group_bytes = act_group_bytes(&l, k, QUANT_SUPER, ACT256_BYTES);
    for (int p = from; p < to; p++)
        for (int g = 0; g < l.n_groups; g++) {
            const uint8_t *a = acts + (size_t)g * group_bytes, *panel = panels + (size_t)p * panel_bytes;
            float *out = y + (size_t)(g * l.group) * y_stride + (size_t)p * PANEL_ROWS;
            int n_out = m - g * l.group;
            switch (l.group) {
            case 1: panel_mul(out, y_stride, panel, a, k, n_out, type, 1); break;
            case 2: panel_mul(out, y_stride, panel, a, k, n_out, type, 2); break;
            case 4: panel_mul(out, y_stride, panel, a, k, n_out, type, 4); break;
            case 6: panel_mul(out, y_stride, panel, a, k, n_out, type, 6); break;
            default: panel_mul(out, y_stride, panel, a, k, n_out, type, 8); break;
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
PANEL_K_TYPES(DEFINE_MATMUL)
