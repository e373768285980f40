/* large_k_avx512: products for many tokens with the K types: per block (or half block) one FMA converts and applies the
 * activation's scale, a second one the integer scale; d and dmin come once per unit. For the narrow types the integer
 * scale goes into the bytes when a panel is expanded (Q2_K: scale * q <= 45; Q3_K: scale * (q - 4) + 127 is 3 .. 255),
 * so their blocks have no halves. A pair of panels is expanded chunk by chunk to L1 and used for all tokens, a tile of
 * 32 rows x 6 tokens. y holds the sums between chunks. Same float operations as small_k_avx512.c, in the same order. */
#include "kernels/x86/panels_avx512.h"

#define UNIT_BLOCKS 8
#define CHUNK_UNITS 3

struct large_unit {
    __m512i w[UNIT_BLOCKS][8][2];      /* [block][slice][panel] u8 */
    __m512 factor[UNIT_BLOCKS * 2][2]; /* [block or half block][panel]: integer scales */
    __m512i mins[UNIT_BLOCKS][2];      /* s16 pairs */
    __m512 d[2], dmin[2];
};
struct large_scratch {
    struct large_unit units[CHUNK_UNITS];
    float spare[LARGE_GROUP][2 * PANEL_ROWS]; /* rows of y that nobody wants */
};

size_t large_k_avx512_scratch_bytes(void)
{
    return sizeof(struct large_scratch);
}

/* Low and high bytes of 16-bit lanes times factors of 16-bit lanes; products of one byte each. */
INLINE __m512i mul_bytes(__m512i w, __m512i factor)
{
    const __m512i low = _mm512_set1_epi16(255);
    __m512i even = _mm512_and_si512(_mm512_mullo_epi16(_mm512_and_si512(w, low), factor), low);
    __m512i odd = _mm512_slli_epi16(_mm512_mullo_epi16(_mm512_srli_epi16(w, 8), factor), 8);
    return _mm512_or_si512(even, odd);
}

/* scale * (q - offset) of one half block (four slices), as bytes that are 127 (Q3_K) or 0 (Q2_K) too large. */
INLINE void half_scale(__m512i *w, __m512i factor, enum quant_type type)
{
    factor = _mm512_or_si512(_mm512_and_si512(factor, _mm512_set1_epi32(0xffff)), _mm512_slli_epi32(factor, 16));
    __m512i start = _mm512_setzero_si512();
    if (type == QUANT_Q3_K) /* 127 - 4 * scale, once per byte; modulo 256 all of it adds up */
        start = mul_bytes(_mm512_set1_epi8(1), _mm512_sub_epi16(_mm512_set1_epi16(127), _mm512_slli_epi16(factor, 2)));
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) w[j] = _mm512_add_epi8(mul_bytes(w[j], factor), start);
}

/* A unit of a panel into column `col`. */
INLINE void expand(struct large_unit *u, const uint8_t *codes, const uint8_t *scales, int col, enum quant_type type)
{
    const struct panel_form form = panel_form_get(type);
    const bool split = panel_is_split(form.scales);
    for (int b = 0; b < UNIT_BLOCKS; b++, codes += form.bits * 64) {
        __m512i w[8];
        k_slices_get(w, codes, form);
        if (k_is_whole(type)) {
            half_scale(w, k_factor_get(scales, b, 0, form.scales), type);
            half_scale(w + 4, k_factor_get(scales, b, 1, form.scales), type);
        } else {
            u->factor[split ? 2 * b : b][col] = _mm512_cvtepi32_ps(k_factor_get(scales, b, 0, form.scales));
            if (split) u->factor[2 * b + 1][col] = _mm512_cvtepi32_ps(k_factor_get(scales, b, 1, form.scales));
        }
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) u->w[b][j][col] = w[j];
    }
    for (int i = 0; i < k_mins_n(form.scales); i++) u->mins[i][col] = k_mins_get(scales, i, form.scales);
    u->d[col] = load_f16(scales);
    if (panel_has_min(form.scales)) u->dmin[col] = load_f16(scales + 32);
}

/* What the accumulators of block b (of half h, for Q6_K) start with. */
INLINE __m512i start_get(const uint8_t *a, int b, int h, int t, enum quant_type type)
{
    if (type == QUANT_Q6_K) return broadcast_32(a + ACTK_FIX16(LARGE_GROUP) + 4 * ((2 * b + h) * LARGE_GROUP + t));
    if (type == QUANT_IQ4_XS || type == QUANT_Q3_K)
        return broadcast_32(a + ACTK_FIX32(LARGE_GROUP) + 4 * (b * LARGE_GROUP + t));
    return sums_start();
}

/* c[t][p] += slices [from, to) of block b times the tokens */
INLINE void dot(__m512i c[LARGE_GROUP][2], const struct large_unit *u, int b, int from, int to, const uint8_t *a,
                const int np)
{
    const uint8_t *q = a + b * LARGE_GROUP * BLOCK_LEN;
#pragma GCC unroll 8
    for (int j = from; j < to; j++) {
        const __m512i w0 = u->w[b][j][0], w1 = u->w[b][j][1];
#pragma GCC unroll 6
        for (int t = 0; t < LARGE_GROUP; t++) {
            __m512i x = broadcast_32(q + t * BLOCK_LEN + 4 * j);
            c[t][0] = _mm512_dpbusd_epi32(c[t][0], w0, x);
            if (np == 2) c[t][1] = _mm512_dpbusd_epi32(c[t][1], w1, x);
        }
    }
}

/* g[t][p] = the unit's products under the activations' scales and the integer scales */
INLINE void unit_dot(__m512 g[LARGE_GROUP][2], const struct large_unit *u, const uint8_t *a, size_t ahead,
                     enum quant_type type, const int np)
{
    const int halves = type == QUANT_Q6_K ? 2 : 1;
#pragma GCC unroll 6
    for (int t = 0; t < LARGE_GROUP; t++) g[t][0] = g[t][1] = _mm512_setzero_ps();
    for (int b = 0; b < UNIT_BLOCKS; b++) {
        const char *next = (const char *)a + ahead + b * (LARGE_GROUP * ACTK_BYTES / UNIT_BLOCKS);
#pragma GCC unroll 8
        for (int i = 0; i < LARGE_GROUP * ACTK_BYTES / UNIT_BLOCKS; i += 64) _mm_prefetch(next + i, _MM_HINT_T0);
#pragma GCC unroll 2
        for (int h = 0; h < halves; h++) {
            __m512i c[LARGE_GROUP][2];
#pragma GCC unroll 6
            for (int t = 0; t < LARGE_GROUP; t++) c[t][0] = c[t][1] = start_get(a, b, h, t, type);
            dot(c, u, b, h * 4, h * 4 + 8 / halves, a, np);
            const __m512 *factor = u->factor[b * halves + h];
#pragma GCC unroll 6
            for (int t = 0; t < LARGE_GROUP; t++)
#pragma GCC unroll 2
                for (int p = 0; p < np; p++)
                    g[t][p] = k_block_add(g[t][p], c[t][p], factor[p], a, b, t, LARGE_GROUP, type);
        }
    }
}

/* sums[t][p] = the unit's integer mins times the tokens' sums */
INLINE void mins_dot(__m512i sums[LARGE_GROUP][2], const struct large_unit *u, const uint8_t *a,
                     enum panel_scales scales, const int np)
{
#pragma GCC unroll 6
    for (int t = 0; t < LARGE_GROUP; t++) sums[t][0] = sums[t][1] = _mm512_setzero_si512();
#pragma GCC unroll 8
    for (int j = 0; j < k_mins_n(scales); j++)
#pragma GCC unroll 6
        for (int t = 0; t < LARGE_GROUP; t++) {
            __m512i token = k_sums_get(a, j, t, LARGE_GROUP, scales);
#pragma GCC unroll 2
            for (int p = 0; p < np; p++) sums[t][p] = _mm512_dpwssd_epi32(sums[t][p], u->mins[j][p], token);
        }
}

/* n units: rows[t][np * 16] = (first ? 0 : rows[t]) + weights times tokens. */
INLINE void tile(float *const rows[LARGE_GROUP], const struct large_scratch *s, const uint8_t *a, size_t ahead, int n,
                 bool first, enum quant_type type, const int np)
{
    const enum panel_scales scales = panel_form_get(type).scales;
    for (int t = 0; t < LARGE_GROUP; t++)
        for (int p = 0; p < np; p++) _mm_prefetch((const char *)(rows[t] + p * PANEL_ROWS), _MM_HINT_T0);
    for (int i = 0; i < n; i++, a += LARGE_GROUP * ACTK_BYTES) {
        const struct large_unit *u = &s->units[i];
        __m512 g[LARGE_GROUP][2], f[LARGE_GROUP][2];
        __m512i mins[LARGE_GROUP][2];
        unit_dot(g, u, a, ahead, type, np);
        mins_dot(mins, u, a, scales, np);
        /* All loads before all stores: rows that lie a multiple of 4 KiB apart look like one address to the processor,
         * so a load would wait for the store before it. */
#pragma GCC unroll 6
        for (int t = 0; t < LARGE_GROUP; t++)
#pragma GCC unroll 2
            for (int p = 0; p < np; p++) {
                f[t][p] = first && i == 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(rows[t] + p * PANEL_ROWS);
                f[t][p] = k_unit_add(f[t][p], g[t][p], mins[t][p], u->d[p], u->dmin[p], a, t, LARGE_GROUP,
                                     panel_has_min(scales));
            }
#pragma GCC unroll 6
        for (int t = 0; t < LARGE_GROUP; t++)
#pragma GCC unroll 2
            for (int p = 0; p < np; p++) _mm512_storeu_ps(rows[t] + p * PANEL_ROWS, f[t][p]);
    }
}

/* All tokens times the expanded units [from, from + n) of np panels. */
INLINE void chunk_mul(float *y, size_t y_stride, struct large_scratch *s, const uint8_t *acts, int m, int k, int from,
                      int n, enum quant_type type, const int np)
{
    struct act_layout l = act_layout_get(m, false);
    const size_t group_bytes = act_group_bytes(&l, k, QUANT_SUPER, ACTK_BYTES);
    const uint8_t *a = acts + (size_t)from * ACTK_BYTES * LARGE_GROUP;
    for (int g = 0; g < l.n_groups; g++, a += group_bytes) {
        float *rows[LARGE_GROUP];
        for (int t = 0; t < LARGE_GROUP; t++)
            rows[t] = g * LARGE_GROUP + t < m ? y + (size_t)(g * LARGE_GROUP + t) * y_stride : s->spare[t];
        tile(rows, s, a, g + 1 < l.n_groups ? group_bytes : 0, n, from == 0, type, np);
    }
}

INLINE void matmul(float *y, size_t y_stride, const uint8_t *panels, const void *acts, int m, int k, int p_from,
                   int p_to, struct large_scratch *s, enum quant_type type)
{
    const struct panel_form form = panel_form_get(type);
    const size_t panel_bytes = panel_bytes_of(form, k), scales_at = panel_code_bytes(form, k);
    const int n_units = k / QUANT_SUPER, n_chunks = (n_units + CHUNK_UNITS - 1) / CHUNK_UNITS;
    const int step = (n_units + n_chunks - 1) / n_chunks;
    for (int u = 0; u < n_units; u += step) { /* outside: the chunk's activations stay in L2 for all panels */
        int n = n_units - u < step ? n_units - u : step;
        for (int p = p_from; p < p_to; p += 2) {
            int np = p_to - p < 2 ? 1 : 2;
            for (int i = 0; i < np * n; i++) {
                const uint8_t *panel = panels + (size_t)(p + i / n) * panel_bytes;
                size_t unit = (size_t)(u + i % n);
                expand(&s->units[i % n], panel + unit * UNIT_BLOCKS * (size_t)form.bits * 64,
                       panel + scales_at + unit * (size_t)panel_scale_bytes(form.scales), i / n, type);
            }
            if (np == 2) chunk_mul(y + (size_t)p * PANEL_ROWS, y_stride, s, acts, m, k, u, n, type, 2);
            else chunk_mul(y + (size_t)p * PANEL_ROWS, y_stride, s, acts, m, k, u, n, type, 1);
        }
    }
}

#define DEFINE_MATMUL(name)                                                                                           \
    void large_avx512_##name(float *y, size_t y_stride, const void *panels, const void *acts, int m, int k, int from, \
                             int to, void *scratch)                                                                   \
    {                                                                                                                 \
        matmul(y, y_stride, panels, acts, m, k, from, to, scratch, QUANT_##name);                                     \
    }
PANEL_K_TYPES(DEFINE_MATMUL)
