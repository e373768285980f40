/* small_avx512: products for one to SMALL_M_MAX tokens. Weights are unpacked in registers, one panel at a time against
 * a group of up to eight tokens; bound by memory for one token, by unpacking and dot products from four on. The float
 * operations of an output element are those of large_avx512.c, in the same order. */
#include "kernels/x86/panels_avx512.h"

#define PREFETCH_BYTES 2048

struct acts_at { /* a group's activations at some block */
    const int8_t *q;
    const float *scale;
    const int32_t *fix[3];
    const float *sum[3];
};

INLINE __m512i broadcast4(const int8_t *q)
{
    int32_t v;
    __builtin_memcpy(&v, q, sizeof v);
    return _mm512_set1_epi32(v);
}

INLINE int log2_of(int power_of_two)
{
    return __builtin_ctz((unsigned)power_of_two);
}

/* sums[t] += slices [from, to) times the tokens' activations */
INLINE void dot_slices(__m512i *sums, const __m512i w[8], const int8_t *q, int from, int to, int n)
{
#pragma GCC unroll 8
    for (int j = from; j < to; j++)
#pragma GCC unroll 8
        for (int t = 0; t < n; t++) sums[t] = _mm512_dpbusd_epi32(sums[t], w[j], broadcast4(q + t * BLOCK_LEN + 4 * j));
}

INLINE __m512i start_sum(const int32_t *fix, int offset)
{
    return offset ? _mm512_srai_epi32(_mm512_set1_epi32(*fix), (unsigned)(7 - log2_of(offset)))
                  : _mm512_setzero_si512();
}

/* f[t] += one block of a panel times n tokens */
INLINE void block_mul_add(__m512 *f, const uint8_t *codes, const struct block_scales *s, struct acts_at a,
                          struct panel_form form, int n)
{
    __m512i w[8], sums[2][SMALL_GROUP_MAX];
    bool split = panel_is_split(form.scales), min = panel_has_min(form.scales);
    slices_get_offset(w, codes, form, form.offset);
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) {
        sums[0][t] = start_sum(a.fix[split ? 1 : 0] + t, form.offset);
        sums[1][t] = split ? start_sum(a.fix[2] + t, form.offset) : _mm512_setzero_si512();
    }
    if (split || n <= 2) { /* two chains hide the latency where there are few tokens */
        dot_slices(sums[0], w, a.q, 0, 4, n);
        dot_slices(sums[1], w, a.q, 4, 8, n);
    } else {
        dot_slices(sums[0], w, a.q, 0, 8, n);
    }
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) {
        __m512 scale = _mm512_set1_ps(a.scale[t]);
        if (!split && n <= 2) sums[0][t] = _mm512_add_epi32(sums[0][t], sums[1][t]);
        f[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[0][t]), _mm512_mul_ps(s->scale[0], scale), f[t]);
        if (split) f[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[1][t]), _mm512_mul_ps(s->scale[1], scale), f[t]);
        if (min) f[t] = _mm512_fnmadd_ps(s->min[0], _mm512_set1_ps(a.sum[split ? 1 : 0][t]), f[t]);
        if (min && split) f[t] = _mm512_fnmadd_ps(s->min[1], _mm512_set1_ps(a.sum[2][t]), f[t]);
    }
}

INLINE void acts_advance(struct acts_at *a, int n)
{
    a->q += n * BLOCK_LEN;
    a->scale += n;
    for (int i = 0; i < 3; i++) {
        a->fix[i] += n;
        a->sum[i] += n;
    }
}

/* One panel times a group of n tokens (n_out of them wanted). */
INLINE void panel_mul(float *y, size_t y_stride, const uint8_t *panel, struct acts_at a, int k, int n_out,
                      struct panel_form form, int n)
{
    __m512 f[SMALL_GROUP_MAX];
    const int unit_blocks = panel_unit_blocks(form.scales), block_bytes = form.bits * 64;
    const uint8_t *codes = panel, *scales = panel + panel_code_bytes(form, k);
#pragma GCC unroll 8
    for (int t = 0; t < n; t++) f[t] = _mm512_setzero_ps();
    for (int u = k / BLOCK_LEN / unit_blocks; u > 0; u--, scales += panel_scale_bytes(form.scales)) {
        struct unit_scales unit;
        unit_scales_get(&unit, scales, form.scales);
        _mm_prefetch((const char *)scales + PREFETCH_BYTES, _MM_HINT_T0);
        for (int i = 0; i < unit_blocks; i++, codes += block_bytes) {
            struct block_scales s;
            block_scales_get(&s, &unit, scales, i, form.scales);
#pragma GCC unroll 8
            for (int j = 0; j < form.bits; j++)
                _mm_prefetch((const char *)codes + PREFETCH_BYTES + 64 * j, _MM_HINT_T0);
            block_mul_add(f, codes, &s, a, form, n);
            acts_advance(&a, n);
        }
    }
#pragma GCC unroll 8
    for (int t = 0; t < n; t++)
        if (t < n_out) _mm512_storeu_ps(y + (size_t)t * y_stride, f[t]);
}

INLINE void matmul(float *y, size_t y_stride, const uint8_t *panels, const void *acts, int m, int k, int from, int to,
                   enum quant_type type)
{
    struct panel_form form = panel_form_get(type);
    struct act_layout l = act_layout_get(m, k, false);
    size_t panel_bytes = panel_bytes_of(form, k), group_n = (size_t)l.n_blocks * (size_t)l.group;
    for (int p = from; p < to; p++)
        for (int g = 0; g < l.n_groups; g++) {
            size_t at = (size_t)g * group_n;
            struct acts_at a = {act_codes(acts) + at * BLOCK_LEN, act_floats(acts, &l, ACT_SCALE) + at, {0}, {0}};
            for (int i = 0; i < 3; i++) {
                a.fix[i] = act_ints(acts, &l, (enum act_array)(ACT_FIX + i)) + at;
                a.sum[i] = act_floats(acts, &l, (enum act_array)(ACT_SUM + i)) + at;
            }
            float *out = y + (size_t)(g * l.group) * y_stride + (size_t)p * PANEL_ROWS;
            const uint8_t *panel = panels + (size_t)p * panel_bytes;
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
PANEL_TYPES(DEFINE_MATMUL)
