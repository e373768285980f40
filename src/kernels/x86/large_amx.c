/* large_amx: products for 16 tokens and more with tiles (TDPBSSD), for the types with a scale for every 32 (the K types
 * are avx512's). A panel is expanded per chunk of k to signed slices
 * in L1: the eight slices of a block are a B tile as they lie, 16 tokens of a block are an A tile. A tile product gives
 * the integers of one block for 16 tokens x 16 rows; they go through a small buffer into float sums that stay in
 * registers, with the same float operations as large_avx512.c. The next blocks' tiles are in flight while one block is
 * summed.
 *
 * Tile configuration is a state of the thread: set at the start of a call, released at its end. */
#include <string.h>

#include "kernels/x86/panels_avx512.h"

struct large_scratch {
    __m512i w[2][CHUNK_BLOCKS][8]; /* [panel][block][slice] */
    __m512 scale[2][CHUNK_BLOCKS]; /* [panel][block] */
    __m512 min[2][CHUNK_BLOCKS];
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
static void tiles_configure(void)
{
    struct tile_config c;
    memset(&c, 0, sizeof c);
    c.palette = 1;
    for (int i = 0; i < 8; i++) {
        c.rows[i] = (uint8_t)(i >= 6 ? BLOCK_LEN / 4 : AMX_GROUP);
        c.row_bytes[i] = (uint16_t)(i == 4 || i == 5 ? BLOCK_LEN : 64);
    }
    config_load(&c);
}

/* Blocks [from, from + n) of a panel into place `col` of the scratch. */
INLINE void expand(struct large_scratch *s, const uint8_t *panel, int k, int from, int n, int col,
                   struct panel_form form)
{
    const int scale_bytes = panel_scale_bytes(form.scales);
    const uint8_t *codes = panel + (size_t)from * (size_t)form.bits * 64;
    const uint8_t *scales = panel + panel_code_bytes(form, k) + (size_t)from * (size_t)scale_bytes;
    for (int b = 0; b < n; b++, scales += scale_bytes, codes += form.bits * 64) {
        slices_get_offset(s->w[col][b], codes, form, 0);
        s->scale[col][b] = block_scale_get(scales, form.scales);
        if (panel_has_min(form.scales)) s->min[col][b] = load_f16(scales + 32);
    }
}

/* Integers of block i into sums[c]. The tile numbers must be literals. */
#define TILE_PRODUCT(c, a, b, i)                                               \
    do {                                                                       \
        _tile_loadd(a, acts + (size_t)(i)*ACT32_BYTES * AMX_GROUP, BLOCK_LEN); \
        _tile_loadd(b, w + (size_t)(i)*8, 64);                                 \
        _tile_zero(c);                                                         \
        _tile_dpbssd(c, a, b);                                                 \
        _tile_stored(c, s->sums[c], 64);                                       \
    } while (0)

/* f[t] += the integers of block i, scaled; its mins. */
INLINE void block_add(__m512 f[AMX_GROUP], const struct large_scratch *s, int col, int slot, int i, const uint8_t *acts,
                      const bool min)
{
    const uint8_t *a = acts + (size_t)i * ACT32_BYTES * AMX_GROUP;
#pragma GCC unroll 16
    for (int t = 0; t < AMX_GROUP; t++)
        f[t] = _mm512_fmadd_ps(
            _mm512_mul_ps(_mm512_cvtepi32_ps(s->sums[slot][t]), broadcast_f32(a + ACT32_SCALE(AMX_GROUP) + 4 * t)),
            s->scale[col][i], f[t]);
#pragma GCC unroll 16
    for (int t = 0; min && t < AMX_GROUP; t++)
        f[t] = _mm512_fnmadd_ps(s->min[col][i], broadcast_f32(a + ACT32_DSUM(AMX_GROUP) + 4 * t), f[t]);
}

/* n blocks of panel `col` times a group: rows[t][16] = (first ? 0 : rows[t]) + product. */
INLINE void tile(float *const rows[AMX_GROUP], struct large_scratch *s, int col, const uint8_t *acts, int n, bool first,
                 const bool min)
{
    const __m512i *w = s->w[col][0];
    __m512 f[AMX_GROUP];
#pragma GCC unroll 16
    for (int t = 0; t < AMX_GROUP; t++) f[t] = first ? _mm512_setzero_ps() : _mm512_loadu_ps(rows[t]);
    TILE_PRODUCT(0, 4, 6, 0);
    if (n > 1) TILE_PRODUCT(1, 5, 7, 1);
    for (int i = 0; i < n; i += 2) {
        block_add(f, s, col, 0, i, acts, min);
        if (i + 2 < n) TILE_PRODUCT(0, 4, 6, i + 2);
        if (i + 1 < n) block_add(f, s, col, 1, i + 1, acts, min);
        if (i + 3 < n) TILE_PRODUCT(1, 5, 7, i + 3);
    }
#pragma GCC unroll 16
    for (int t = 0; t < AMX_GROUP; t++) _mm512_storeu_ps(rows[t], f[t]);
}

typedef void tile_fn(float *const rows[AMX_GROUP], struct large_scratch *s, int col, const uint8_t *acts, int n,
                     bool first);
#define DEFINE_TILE(name, min)                                                                                 \
    static __attribute__((noinline)) void name(float *const rows[AMX_GROUP], struct large_scratch *s, int col, \
                                               const uint8_t *acts, int n, bool first)                         \
    {                                                                                                          \
        tile(rows, s, col, acts, n, first, min);                                                               \
    }
DEFINE_TILE(tile_plain, false)
DEFINE_TILE(tile_min, true)

static void chunk_mul(float *y, size_t y_stride, struct large_scratch *s, const uint8_t *acts, int m, int k, int from,
                      int n, bool min, int np)
{
    struct act_layout l = act_layout_get(m, true);
    const uint8_t *a = acts + (size_t)from * ACT32_BYTES * AMX_GROUP;
    for (int g = 0; g < l.n_groups; g++, a += act_group_bytes(&l, k, BLOCK_LEN, ACT32_BYTES)) {
        for (int p = 0; p < np; p++) {
            float *rows[AMX_GROUP];
            for (int t = 0; t < AMX_GROUP; t++)
                rows[t] =
                    g * AMX_GROUP + t < m ? y + (size_t)(g * AMX_GROUP + t) * y_stride + p * PANEL_ROWS : s->spare[t];
            (min ? tile_min : tile_plain)(rows, s, p, a, n, from == 0);
        }
    }
}

INLINE void matmul(float *y, size_t y_stride, const uint8_t *panels, const void *acts, int m, int k, int p_from,
                   int p_to, struct large_scratch *s, enum quant_type type)
{
    struct panel_form form = panel_form_get(type);
    size_t panel_bytes = panel_bytes_of(form, k);
    int n_blocks = k / BLOCK_LEN, n_chunks = (n_blocks + CHUNK_BLOCKS - 1) / CHUNK_BLOCKS;
    int step = (n_blocks + n_chunks - 1) / n_chunks;
    tiles_configure();
    for (int p = p_from; p < p_to; p += 2) {
        int np = p_to - p < 2 ? 1 : 2;
        for (int b = 0; b < n_blocks; b += step) {
            int n = n_blocks - b < step ? n_blocks - b : step;
            for (int i = 0; i < np; i++) expand(s, panels + (size_t)(p + i) * panel_bytes, k, b, n, i, form);
            chunk_mul(y + (size_t)p * PANEL_ROWS, y_stride, s, acts, m, k, b, n, panel_has_min(form.scales), np);
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
PANEL_BLOCK_TYPES(DEFINE_MATMUL)

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
    k->act[AVX512_ACT32] =
        (struct act_format){acts_avx512_bytes_amx, acts_avx512_quantize_amx, acts_avx512_restore_amx};
    if (k->matmul_scratch_bytes < sizeof(struct large_scratch)) k->matmul_scratch_bytes = sizeof(struct large_scratch);
    k->probe_int8 = probe_int8;
#define SET_MATMUL(name) k->matmul[QUANT_##name].matmul = matmul_##name;
    PANEL_BLOCK_TYPES(SET_MATMUL)
}
