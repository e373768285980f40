/* large_avx512: products for many tokens with the types that have a scale for every 32. A pair of panels is expanded
 * once per chunk of k to u8 slices and float scales in L1 (offset 128 for all types but those with mins) and used for
 * all tokens: one register tile of 32 rows x 6 tokens. y holds the sums between chunks. */
#include "kernels/x86/panels_avx512.h"

struct large_scratch {
    __m512i w[CHUNK_BLOCKS][8][2]; /* [block][slice][panel] */
    __m512 scale[CHUNK_BLOCKS][2]; /* [block][panel] */
    __m512 min[CHUNK_BLOCKS][2];
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
    const bool min = panel_has_min(form.scales);
    const int unit_bytes = panel_scale_bytes(form.scales);
    const uint8_t *codes = panel + (size_t)from * (size_t)form.bits * 64;
    const uint8_t *scales = panel + panel_code_bytes(form, k) + (size_t)from * (size_t)unit_bytes;
    for (int b = 0; b < n; b++, codes += form.bits * 64, scales += unit_bytes) {
        __m512i w[8];
        slices_get_offset(w, codes, form, min ? 0 : 128);
#pragma GCC unroll 8
        for (int j = 0; j < 8; j++) s->w[b][j][col] = w[j];
        s->scale[b][col] = block_scale_get(scales, form.scales);
        if (min) s->min[b][col] = load_f16(scales + 32);
    }
}

/* f[t][p] += block b times the tokens */
INLINE void block_mul_add(__m512 f[LARGE_GROUP][2], const struct large_scratch *s, int b, const uint8_t *a,
                          const bool min, const int np)
{
    __m512i c[LARGE_GROUP][2];
#pragma GCC unroll 6
    for (int t = 0; t < LARGE_GROUP; t++)
        c[t][0] = c[t][1] = min ? sums_start() : broadcast_32(a + ACT32_FIX(LARGE_GROUP) + 4 * t);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
        const __m512i w0 = s->w[b][j][0], w1 = s->w[b][j][1];
#pragma GCC unroll 6
        for (int t = 0; t < LARGE_GROUP; t++) {
            __m512i x = broadcast_32(a + t * BLOCK_LEN + 4 * j);
            c[t][0] = _mm512_dpbusd_epi32(c[t][0], w0, x);
            if (np == 2) c[t][1] = _mm512_dpbusd_epi32(c[t][1], w1, x);
        }
    }
#pragma GCC unroll 6
    for (int t = 0; t < LARGE_GROUP; t++)
#pragma GCC unroll 2
        for (int p = 0; p < np; p++) {
            const uint8_t *scale = a + ACT32_SCALE(LARGE_GROUP) + 4 * t,
                          *unbias = a + ACT32_UNBIAS(LARGE_GROUP) + 4 * t;
            f[t][p] = _mm512_fmadd_ps(sums_scale(c[t][p], scale, unbias), s->scale[b][p], f[t][p]);
        }
#pragma GCC unroll 6
    for (int t = 0; min && t < LARGE_GROUP; t++) {
        __m512 sum = broadcast_f32(a + ACT32_DSUM(LARGE_GROUP) + 4 * t);
#pragma GCC unroll 2
        for (int p = 0; p < np; p++) f[t][p] = _mm512_fnmadd_ps(s->min[b][p], sum, f[t][p]);
    }
}

/* n blocks: rows[t][np * 16] = (first ? 0 : rows[t]) + weights times tokens. */
INLINE void tile(float *const rows[LARGE_GROUP], const struct large_scratch *s, const uint8_t *a, size_t ahead, int n,
                 bool first, const bool min, const int np)
{
    __m512 f[LARGE_GROUP][2];
#pragma GCC unroll 6
    for (int t = 0; t < LARGE_GROUP; t++) {
        f[t][0] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(rows[t]);
        f[t][1] = first || np == 1 ? _mm512_setzero_ps() : _mm512_loadu_ps(rows[t] + PANEL_ROWS);
    }
    for (int b = 0; b < n; b++, a += LARGE_GROUP * ACT32_BYTES) {
#pragma GCC unroll 8
        for (int i = 0; i < LARGE_GROUP * ACT32_BYTES; i += 64) _mm_prefetch((const char *)a + ahead + i, _MM_HINT_T0);
        block_mul_add(f, s, b, a, min, np);
    }
#pragma GCC unroll 6
    for (int t = 0; t < LARGE_GROUP; t++) {
        _mm512_storeu_ps(rows[t], f[t][0]);
        if (np == 2) _mm512_storeu_ps(rows[t] + PANEL_ROWS, f[t][1]);
    }
}

typedef void tile_fn(float *const rows[LARGE_GROUP], const struct large_scratch *s, const uint8_t *a, size_t ahead,
                     int n, bool first);
#define DEFINE_TILE(name, min, np)                                                                            \
    static __attribute__((noinline)) void name(float *const rows[LARGE_GROUP], const struct large_scratch *s, \
                                               const uint8_t *a, size_t ahead, int n, bool first)             \
    {                                                                                                         \
        tile(rows, s, a, ahead, n, first, min, np);                                                           \
    }
DEFINE_TILE(tile_1, false, 1)
DEFINE_TILE(tile_2, false, 2)
DEFINE_TILE(tile_min_1, true, 1)
DEFINE_TILE(tile_min_2, true, 2)
static tile_fn *const tiles[2][2] = {{tile_1, tile_2}, {tile_min_1, tile_min_2}}; /* [min][panels - 1] */

/* All tokens times the expanded blocks [from, from + n) of np panels. */
static void chunk_mul(float *y, size_t y_stride, struct large_scratch *s, const uint8_t *acts, int m, int k, int from,
                      int n, bool min, int np)
{
    struct act_layout l = act_layout_get(m, false);
    const size_t group_bytes = act_group_bytes(&l, k, BLOCK_LEN, ACT32_BYTES);
    const uint8_t *a = acts + (size_t)from * ACT32_BYTES * LARGE_GROUP;
    for (int g = 0; g < l.n_groups; g++, a += group_bytes) {
        float *rows[LARGE_GROUP];
        for (int t = 0; t < LARGE_GROUP; t++)
            rows[t] = g * LARGE_GROUP + t < m ? y + (size_t)(g * LARGE_GROUP + t) * y_stride : s->spare[t];
        tiles[min][np - 1](rows, s, a, g + 1 < l.n_groups ? group_bytes : 0, n, from == 0);
    }
}

INLINE void matmul(float *y, size_t y_stride, const uint8_t *panels, const void *acts, int m, int k, int p_from,
                   int p_to, struct large_scratch *s, enum quant_type type)
{
    struct panel_form form = panel_form_get(type);
    size_t panel_bytes = panel_bytes_of(form, k);
    int n_blocks = k / BLOCK_LEN, n_chunks = (n_blocks + CHUNK_BLOCKS - 1) / CHUNK_BLOCKS;
    int step = (n_blocks + n_chunks - 1) / n_chunks; /* balanced: a short last chunk would not pay for its expansion */
    for (int b = 0; b < n_blocks; b += step) {       /* outside: the chunk's activations stay in L2 for all panels */
        int n = n_blocks - b < step ? n_blocks - b : step;
        for (int p = p_from; p < p_to; p += 2) {
            int np = p_to - p < 2 ? 1 : 2;
            for (int i = 0; i < np; i++) expand(s, panels + (size_t)(p + i) * panel_bytes, k, b, n, i, form);
            chunk_mul(y + (size_t)p * PANEL_ROWS, y_stride, s, acts, m, k, b, n, panel_has_min(form.scales), np);
        }
    }
}

#define DEFINE_MATMUL(name)                                                                                           \
    void large_avx512_##name(float *y, size_t y_stride, const void *panels, const void *acts, int m, int k, int from, \
                             int to, void *scratch)                                                                   \
    {                                                                                                                 \
        matmul(y, y_stride, panels, acts, m, k, from, to, scratch, QUANT_##name);                                     \
    }
PANEL_BLOCK_TYPES(DEFINE_MATMUL)
