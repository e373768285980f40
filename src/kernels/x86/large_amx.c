/* large_amx: products for 16 tokens and more with tiles (TDPBSSD). A panel is expanded per chunk of k to signed slices
 * in L1: the eight slices of a block are a B tile as they lie, 16 tokens of a block are an A tile. A tile product gives
 * the integers of one block for 16 tokens x 16 rows; they go through a small buffer into float sums that stay in
 * registers, with the same float operations as large_avx512.c. The next blocks' tiles are in flight while one block is
 * summed.
 *
 * Tile configuration is a state of the thread: set at the start of a call, released at its end. */
#include <string.h>

#include "kernels/x86/panels_avx512.h"

struct large_scratch {
    __m512i w[2][CHUNK_BLOCKS][8];     /* [panel][block][slice] */
    __m512 scale[2][CHUNK_BLOCKS * 2]; /* [panel][block, or half block] */
    __m512 min[2][CHUNK_BLOCKS * 2];
    __m512i sums[2][AMX_GROUP];         /* what the tiles gave */
    float spare[AMX_GROUP][PANEL_ROWS]; /* rows of y that nobody wants */
};

/* Layout of LDTILECFG's operand (Intel SDM, "TILECFG"). */
struct tile_config {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

/* gcc 12 tells the optimiser only about the first bytes of the operand: make all of it count. */
INLINE void config_load(const struct tile_config *c)
{
    __asm__ volatile("" : : "r"(c) : "memory");
    _tile_loadconfig(c);
}

/* Tiles 0, 1: sums; 4, 5: activations; 6, 7: weights. */
static void tiles_configure(bool split)
{
    struct tile_config c;
    int k = split ? BLOCK_LEN / 2 : BLOCK_LEN;
    memset(&c, 0, sizeof c);
    c.palette = 1;
    for (int i = 0; i < 8; i++) {
        c.rows[i] = (uint8_t)(i >= 6 ? k / 4 : AMX_GROUP);
        c.row_bytes[i] = (uint16_t)(i == 4 || i == 5 ? k : 64);
    }
    config_load(&c);
}

/* Blocks [from, from + n) of a panel into place `col` of the scratch. */
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
            slices_get_offset(s->w[col][b], codes, form, 0);
            block_scales_get(&bs, &unit, scales, i, form.scales);
            s->scale[col][split ? 2 * b : b] = bs.scale[0];
            if (split) s->scale[col][2 * b + 1] = bs.scale[1];
            if (min) s->min[col][split ? 2 * b : b] = bs.min[0];
            if (min && split) s->min[col][2 * b + 1] = bs.min[1];
        }
    }
}

/* Integers of product number i (a block, or a half block) into sums[c]. The tile numbers must be literals. */
#define TILE_PRODUCT(c, a, b, i)                               \
    do {                                                       \
        _tile_loadd(a, product_acts(q, i, split), BLOCK_LEN);  \
        _tile_loadd(b, w + (size_t)(i) * (split ? 4 : 8), 64); \
        _tile_zero(c);                                         \
        _tile_dpbssd(c, a, b);                                 \
        _tile_stored(c, s->sums[c], 64);                       \
    } while (0)

/* Activations of product i in a group's stream [block][AMX_GROUP][32]. */
INLINE const int8_t *product_acts(const int8_t *q, int i, bool split)
{
    size_t block = (size_t)(split ? i / 2 : i);
    return q + block * AMX_GROUP * BLOCK_LEN + (split && i % 2 ? BLOCK_LEN / 2 : 0);
}

struct acts_at {
    const int8_t *q;
    const float *scale;  /* [block][AMX_GROUP] */
    const float *sum[2]; /* split: of the halves; else [0] of the block */
};

/* f[t] += sums[t] * scale of the weights * scale of the token */
INLINE void sums_add(__m512 f[AMX_GROUP], const __m512i *sums, __m512 scale, const float *token_scale)
{
#pragma GCC unroll 16
    for (int t = 0; t < AMX_GROUP; t++)
        f[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(sums[t]), _mm512_mul_ps(scale, _mm512_set1_ps(token_scale[t])), f[t]);
}

INLINE void mins_sub(__m512 f[AMX_GROUP], __m512 min, const float *token_sum)
{
#pragma GCC unroll 16
    for (int t = 0; t < AMX_GROUP; t++) f[t] = _mm512_fnmadd_ps(min, _mm512_set1_ps(token_sum[t]), f[t]);
}

INLINE void block_add(__m512 f[AMX_GROUP], const struct large_scratch *s, int col, int slot, int i, struct acts_at a,
                      const bool split, const bool min)
{
    size_t block = (size_t)(split ? i / 2 : i) * AMX_GROUP;
    sums_add(f, s->sums[slot], s->scale[col][i], a.scale + block);
    if (!min) return;
    if (!split) {
        mins_sub(f, s->min[col][i], a.sum[0] + block);
    } else if (i % 2) { /* after both halves, as elsewhere */
        mins_sub(f, s->min[col][i - 1], a.sum[0] + block);
        mins_sub(f, s->min[col][i], a.sum[1] + block);
    }
}

/* n blocks of panel `col` times a group: rows[t][16] = (first ? 0 : rows[t]) + product. */
INLINE void tile(float *const rows[AMX_GROUP], struct large_scratch *s, int col, struct acts_at a, int n, bool first,
                 const bool split, const bool min)
{
    const int8_t *q = a.q;
    const __m512i *w = s->w[col][0];
    const int last = (split ? 2 * n : n) - 1;
    __m512 f[AMX_GROUP];
#pragma GCC unroll 16
    for (int t = 0; t < AMX_GROUP; t++) f[t] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(rows[t]);
    TILE_PRODUCT(0, 4, 6, 0);
    if (last >= 1) TILE_PRODUCT(1, 5, 7, 1);
    for (int i = 0; i <= last; i += 2) {
        block_add(f, s, col, 0, i, a, split, min);
        if (i + 2 <= last) TILE_PRODUCT(0, 4, 6, i + 2);
        if (i + 1 <= last) block_add(f, s, col, 1, i + 1, a, split, min);
        if (i + 3 <= last) TILE_PRODUCT(1, 5, 7, i + 3);
    }
#pragma GCC unroll 16
    for (int t = 0; t < AMX_GROUP; t++) _mm512_storeu_ps(rows[t], f[t]);
}

typedef void tile_fn(float *const rows[AMX_GROUP], struct large_scratch *s, int col, struct acts_at a, int n,
                     bool first);
#define DEFINE_TILE(name, split, min)                                                                          \
    static __attribute__((noinline)) void name(float *const rows[AMX_GROUP], struct large_scratch *s, int col, \
                                               struct acts_at a, int n, bool first)                            \
    {                                                                                                          \
        tile(rows, s, col, a, n, first, split, min);                                                           \
    }
DEFINE_TILE(tile_plain, false, false)
DEFINE_TILE(tile_min, false, true)
DEFINE_TILE(tile_split, true, false)
DEFINE_TILE(tile_split_min, true, true)
static tile_fn *const tiles[2][2] = {{tile_plain, tile_min}, {tile_split, tile_split_min}}; /* [split][min] */

static void chunk_mul(float *y, size_t y_stride, struct large_scratch *s, const void *acts, int m,
                      const struct act_layout *l, int from, int n, bool split, bool min, int np)
{
    for (int g = 0; g < l->n_groups; g++) {
        size_t at = act_index(l, g * AMX_GROUP, from);
        struct acts_at a = {.q = act_codes(acts) + at * BLOCK_LEN, .scale = act_floats(acts, l, ACT_SCALE) + at};
        for (int h = 0; h < 2; h++)
            a.sum[h] = act_floats(acts, l, split ? (enum act_array)(ACT_SUM_0 + h) : ACT_SUM) + at;
        for (int p = 0; p < np; p++) {
            float *rows[AMX_GROUP];
            for (int t = 0; t < AMX_GROUP; t++)
                rows[t] =
                    g * AMX_GROUP + t < m ? y + (size_t)(g * AMX_GROUP + t) * y_stride + p * PANEL_ROWS : s->spare[t];
            tiles[split][min](rows, s, p, a, n, from == 0);
        }
    }
}

INLINE void matmul(float *y, size_t y_stride, const uint8_t *panels, const void *acts, int m, int k, int p_from,
                   int p_to, struct large_scratch *s, enum quant_type type)
{
    struct panel_form form = panel_form_get(type);
    struct act_layout l = act_layout_get(m, k, true);
    size_t panel_bytes = panel_bytes_of(form, k);
    int unit = panel_unit_blocks(form.scales), n_chunks = (l.n_blocks + CHUNK_BLOCKS - 1) / CHUNK_BLOCKS;
    int step = (l.n_blocks + n_chunks - 1) / n_chunks;
    step = (step + unit - 1) / unit * unit;
    tiles_configure(panel_is_split(form.scales));
    for (int p = p_from; p < p_to; p += 2) {
        int np = p_to - p < 2 ? 1 : 2;
        for (int b = 0; b < l.n_blocks; b += step) {
            int n = l.n_blocks - b < step ? l.n_blocks - b : step;
            for (int i = 0; i < np; i++) expand(s, panels + (size_t)(p + i) * panel_bytes, k, b, n, i, form);
            chunk_mul(y + (size_t)p * PANEL_ROWS, y_stride, s, acts, m, &l, b, n, panel_is_split(form.scales),
                      panel_has_min(form.scales), np);
        }
    }
    _tile_release();
}

#define DEFINE_MATMUL(name)                                                                                            \
    static void matmul_##name(float *y, size_t y_stride, const void *panels, const void *acts, int m, int k, int from, \
                              int to, void *scratch)                                                                   \
    {                                                                                                                  \
        if (m < AMX_M_MIN) small_avx512_##name(y, y_stride, panels, acts, m, k, from, to, scratch);                    \
        else matmul(y, y_stride, panels, acts, m, k, from, to, scratch, QUANT_##name);                                 \
    }
PANEL_TYPES(DEFINE_MATMUL)

static uint64_t probe_int8(int rounds)
{
    static const int8_t zeros[1024] __attribute__((aligned(64)));
    struct tile_config c = {.palette = 1};
    for (int i = 0; i < 8; i++) {
        c.rows[i] = 16;
        c.row_bytes[i] = 64;
    }
    config_load(&c);
    _tile_loadd(4, zeros, 64);
    _tile_loadd(5, zeros, 64);
    for (int r = 0; r < rounds; r++) {
        _tile_dpbssd(0, 4, 5);
        _tile_dpbssd(1, 4, 5);
        _tile_dpbssd(2, 4, 5);
        _tile_dpbssd(3, 4, 5);
    }
    _tile_release();
    return (uint64_t)rounds * 4 * 16 * 16 * 64;
}

void kernels_fill_amx(struct kernels *k)
{
    k->act[0] = (struct act_format){acts_avx512_bytes_amx, acts_avx512_quantize_amx, acts_avx512_restore_amx};
    k->matmul_scratch_bytes = sizeof(struct large_scratch);
    k->probe_int8 = probe_int8;
#define SET_MATMUL(name) k->matmul[QUANT_##name].matmul = matmul_##name;
    PANEL_TYPES(SET_MATMUL)
}
