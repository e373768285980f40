/* large_avx512: products for many tokens. A pair of panels is expanded once per chunk of k to u8 slices and float
 * scales in L1 (offset 128 for all types but those with mins) and used for all tokens: one register tile of 32 rows x 6
 * tokens. y holds the sums between chunks. */
#include "kernels/x86/panels_avx512.h"

struct large_scratch {
    __m512i w[CHUNK_BLOCKS][8][2];     /* [block][slice][panel] */
    __m512 scale[CHUNK_BLOCKS * 2][2]; /* [block, or half block][panel] */
    __m512 min[CHUNK_BLOCKS * 2][2];
    float spare[LARGE_GROUP][2 * PANEL_ROWS]; /* rows of y that nobody wants */
};

size_t large_avx512_scratch_bytes(void)
{
    return sizeof(struct large_scratch);
}

/* Blocks [from, from + n) of a panel into column `col` of the scratch. */
INLINE void expand(struct large_scratch *s, const uint8_t *panel, int k, int from, int n, int col,
                   struct panel_form form)
{
    const bool split = panel_is_split(form.scales), min = panel_has_min(form.scales);
    const int unit_blocks = panel_unit_blocks(form.scales), unit_bytes = panel_scale_bytes(form.scales);
    const uint8_t *codes = panel + (size_t)from * (size_t)form.bits * 64;
    const uint8_t *scales = panel + panel_code_bytes(form, k) + (size_t)(from / unit_blocks) * (size_t)unit_bytes;
    for (int b = 0; b < n; scales += unit_bytes) {
        struct unit_scales unit;
        unit_scales_get(&unit, scales, form.scales);
        for (int i = 0; i < unit_blocks; i++, b++, codes += form.bits * 64) {
            struct block_scales bs;
            __m512i w[8];
            slices_get_offset(w, codes, form, min ? 0 : 128);
#pragma GCC unroll 8
            for (int j = 0; j < 8; j++) s->w[b][j][col] = w[j];
            block_scales_get(&bs, &unit, scales, i, form.scales);
            s->scale[split ? 2 * b : b][col] = bs.scale[0];
            if (split) s->scale[2 * b + 1][col] = bs.scale[1];
            if (min) s->min[split ? 2 * b : b][col] = bs.min[0];
            if (min && split) s->min[2 * b + 1][col] = bs.min[1];
        }
    }
}

struct acts_at {
    const int8_t *q;
    const float *scale;
    const int32_t *fix[2]; /* split: of the halves; else [0] of the block */
    const float *sum[2];
};

INLINE __m512i broadcast4(const int8_t *q)
{
    int32_t v;
    __builtin_memcpy(&v, q, sizeof v);
    return _mm512_set1_epi32(v);
}

/* f[t][p] += slices [from, to) of block b times the tokens; `at` is the place of their scales. */
INLINE void slices_mul_add(__m512 f[LARGE_GROUP][2], const struct large_scratch *s, int b, int from, int to, int at,
                           const int8_t *q, const float *scale, const int32_t *fix, const bool min, const int np)
{
    __m512i c[LARGE_GROUP][2];
#pragma GCC unroll 6
    for (int t = 0; t < LARGE_GROUP; t++) c[t][0] = c[t][1] = min ? _mm512_setzero_si512() : _mm512_set1_epi32(fix[t]);
#pragma GCC unroll 8
    for (int j = from; j < to; j++) {
        const __m512i w0 = s->w[b][j][0], w1 = s->w[b][j][1];
#pragma GCC unroll 6
        for (int t = 0; t < LARGE_GROUP; t++) {
            __m512i x = broadcast4(q + t * BLOCK_LEN + 4 * j);
            c[t][0] = _mm512_dpbusd_epi32(c[t][0], w0, x);
            if (np == 2) c[t][1] = _mm512_dpbusd_epi32(c[t][1], w1, x);
        }
    }
#pragma GCC unroll 6
    for (int t = 0; t < LARGE_GROUP; t++) {
        __m512 token = _mm512_set1_ps(scale[t]);
        f[t][0] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(c[t][0]), _mm512_mul_ps(s->scale[at][0], token), f[t][0]);
        if (np == 2)
            f[t][1] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(c[t][1]), _mm512_mul_ps(s->scale[at][1], token), f[t][1]);
    }
}

INLINE void mins_sub(__m512 f[LARGE_GROUP][2], const __m512 min[2], const float *sum, const int np)
{
#pragma GCC unroll 6
    for (int t = 0; t < LARGE_GROUP; t++) {
        __m512 token = _mm512_set1_ps(sum[t]);
        f[t][0] = _mm512_fnmadd_ps(min[0], token, f[t][0]);
        if (np == 2) f[t][1] = _mm512_fnmadd_ps(min[1], token, f[t][1]);
    }
}

/* n blocks: rows[t][np * 16] = (first ? 0 : rows[t]) + weights times tokens. */
INLINE void tile(float *const rows[LARGE_GROUP], const struct large_scratch *s, struct acts_at a, int n, bool first,
                 const bool split, const bool min, const int np)
{
    __m512 f[LARGE_GROUP][2];
#pragma GCC unroll 6
    for (int t = 0; t < LARGE_GROUP; t++) {
        f[t][0] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(rows[t]);
        f[t][1] = first || np == 1 ? _mm512_setzero_ps() : _mm512_loadu_ps(rows[t] + PANEL_ROWS);
    }
    for (int b = 0; b < n; b++) {
        if (split) {
            slices_mul_add(f, s, b, 0, 4, 2 * b, a.q, a.scale, a.fix[0], min, np);
            slices_mul_add(f, s, b, 4, 8, 2 * b + 1, a.q, a.scale, a.fix[1], min, np);
        } else {
            slices_mul_add(f, s, b, 0, 8, b, a.q, a.scale, a.fix[0], min, np);
        }
        if (min) mins_sub(f, s->min[split ? 2 * b : b], a.sum[0], np);
        if (min && split) mins_sub(f, s->min[2 * b + 1], a.sum[1], np);
        a.q += LARGE_GROUP * BLOCK_LEN;
        a.scale += LARGE_GROUP;
        a.fix[0] += LARGE_GROUP, a.fix[1] += LARGE_GROUP;
        a.sum[0] += LARGE_GROUP, a.sum[1] += LARGE_GROUP;
    }
#pragma GCC unroll 6
    for (int t = 0; t < LARGE_GROUP; t++) {
        _mm512_storeu_ps(rows[t], f[t][0]);
        if (np == 2) _mm512_storeu_ps(rows[t] + PANEL_ROWS, f[t][1]);
    }
}

typedef void tile_fn(float *const rows[LARGE_GROUP], const struct large_scratch *s, struct acts_at a, int n,
                     bool first);
#define DEFINE_TILE(name, split, min, np)                                                                     \
    static __attribute__((noinline)) void name(float *const rows[LARGE_GROUP], const struct large_scratch *s, \
                                               struct acts_at a, int n, bool first)                           \
    {                                                                                                         \
        tile(rows, s, a, n, first, split, min, np);                                                           \
    }
DEFINE_TILE(tile_1, false, false, 1)
DEFINE_TILE(tile_2, false, false, 2)
DEFINE_TILE(tile_min_1, false, true, 1)
DEFINE_TILE(tile_min_2, false, true, 2)
DEFINE_TILE(tile_split_1, true, false, 1)
DEFINE_TILE(tile_split_2, true, false, 2)
DEFINE_TILE(tile_split_min_1, true, true, 1)
DEFINE_TILE(tile_split_min_2, true, true, 2)
static tile_fn *const tiles[2][2][2] = {/* [split][min][panels - 1] */
                                        {{tile_1, tile_2}, {tile_min_1, tile_min_2}},
                                        {{tile_split_1, tile_split_2}, {tile_split_min_1, tile_split_min_2}}};

/* All tokens times the expanded blocks [from, from + n) of np panels. */
static void chunk_mul(float *y, size_t y_stride, struct large_scratch *s, const void *acts, int m,
                      const struct act_layout *l, int from, int n, bool split, bool min, int np)
{
    tile_fn *run = tiles[split][min][np - 1];
    for (int g = 0; g < l->n_groups; g++) {
        size_t at = act_index(l, g * LARGE_GROUP, from);
        struct acts_at a = {.q = act_codes(acts) + at * BLOCK_LEN, .scale = act_floats(acts, l, ACT_SCALE) + at};
        for (int h = 0; h < 2; h++) {
            a.fix[h] = act_ints(acts, l, split ? (enum act_array)(ACT_FIX_0 + h) : ACT_FIX) + at;
            a.sum[h] = act_floats(acts, l, split ? (enum act_array)(ACT_SUM_0 + h) : ACT_SUM) + at;
        }
        float *rows[LARGE_GROUP];
        for (int t = 0; t < LARGE_GROUP; t++)
            rows[t] = g * LARGE_GROUP + t < m ? y + (size_t)(g * LARGE_GROUP + t) * y_stride : s->spare[t];
        run(rows, s, a, n, from == 0);
    }
}

INLINE void matmul(float *y, size_t y_stride, const uint8_t *panels, const void *acts, int m, int k, int p_from,
                   int p_to, struct large_scratch *s, enum quant_type type)
{
    struct panel_form form = panel_form_get(type);
    struct act_layout l = act_layout_get(m, k, false);
    size_t panel_bytes = panel_bytes_of(form, k);
    int unit = panel_unit_blocks(form.scales), n_chunks = (l.n_blocks + CHUNK_BLOCKS - 1) / CHUNK_BLOCKS;
    int step =
        (l.n_blocks + n_chunks - 1) / n_chunks; /* balanced: a short last chunk would not pay for its expansion */
    step = (step + unit - 1) / unit * unit;
    for (int p = p_from; p < p_to; p += 2) {
        int np = p_to - p < 2 ? 1 : 2;
        for (int b = 0; b < l.n_blocks; b += step) {
            int n = l.n_blocks - b < step ? l.n_blocks - b : step;
            for (int i = 0; i < np; i++) expand(s, panels + (size_t)(p + i) * panel_bytes, k, b, n, i, form);
            chunk_mul(y + (size_t)p * PANEL_ROWS, y_stride, s, acts, m, &l, b, n, panel_is_split(form.scales),
                      panel_has_min(form.scales), np);
        }
    }
}

#define DEFINE_MATMUL(name)                                                                                           \
    void large_avx512_##name(float *y, size_t y_stride, const void *panels, const void *acts, int m, int k, int from, \
                             int to, void *scratch)                                                                   \
    {                                                                                                                 \
        matmul(y, y_stride, panels, acts, m, k, from, to, scratch, QUANT_##name);                                     \
    }
PANEL_TYPES(DEFINE_MATMUL)
