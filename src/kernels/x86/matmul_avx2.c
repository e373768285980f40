/* matmul_avx2: the driver of all AVX2 matrix products. Up to SMALL_M_MAX tokens go to a type's register kernels, one
 * pass over the weights, in which a panel meets all tiles. More are cut into tiles of TILE_TOKENS: two panels are
 * unpacked to L1, a chunk of k at a time, and every tile uses them; y holds the sums between chunks. The tokens of a
 * last, narrower tile go to the register kernels. All of these do the same float operations in the same order for an
 * output element. Pure, any thread. */
#include "kernels/x86/matmul_avx2.h"

/* All whole tiles times units [u, u + n) of two panels. */
static void run_tiles(const struct matmul_type *type, float *y0, float *y1, size_t y_stride, const uint8_t *panel0,
                      const uint8_t *panel1, const uint8_t *acts, int n_tiles, int units, int u, int n, void *scratch)
{
    size_t unit_acts = (size_t)type->act_bytes * TILE_TOKENS, tile_acts = unit_acts * (size_t)units;
    size_t at = (size_t)u * (size_t)type->unit_bytes;
    type->unpack(scratch, panel0 + at, panel1 + at, n);
    const uint8_t *a = acts + (size_t)u * unit_acts;
    for (int t = 0; t < n_tiles; t++) {
        size_t row = (size_t)t * TILE_TOKENS * y_stride;
        type->tile(y0 + row, y1 + row, y_stride, scratch, a, t + 1 < n_tiles ? tile_acts : 0, n, u == 0);
        a += tile_acts;
    }
}

static void run_small(const struct matmul_type *type, float *y, size_t y_stride, const uint8_t *panels,
                      const uint8_t *acts, int m, int units, int n_panels)
{
    size_t panel_bytes = (size_t)units * (size_t)type->unit_bytes,
           token_bytes = (size_t)units * (size_t)type->act_bytes;
    int width, step = m <= SMALL_MAX ? n_panels : 1; /* panels that stay in L1 for the next tile */
    for (int p = 0; p < n_panels; p += step)
        for (int t = 0; t < m; t += width) {
            act_tile(&width, m, t);
            type->small[width](y + (size_t)t * y_stride + (size_t)p * AVX2_ROWS, y_stride,
                               panels + (size_t)p * panel_bytes, acts + (size_t)t * token_bytes, step, units);
        }
}

void matmul_run_avx2(const struct matmul_type *type, float *y, size_t y_stride, const uint8_t *panels,
                     const uint8_t *acts, int m, int k, int panel_from, int panel_to, void *scratch)
{
    int units = (k + type->unit_k - 1) / type->unit_k, tail = m <= SMALL_M_MAX ? m : m % TILE_TOKENS, whole = m - tail;
    int step = matmul_chunk(units, type->chunk_units);
    size_t panel_bytes = (size_t)units * (size_t)type->unit_bytes;
    /* Chunks outside: the chunk's activations stay in L2 for all panels. */
    for (int u = 0; whole > 0 && u < units; u += step) {
        int n = units - u < step ? units - u : step;
        for (int p = panel_from; p < panel_to; p += 2) {
            int second = p + 1 < panel_to ? p + 1 : p; /* an odd last panel is worked on twice, with one result */
            run_tiles(type, y + (size_t)p * AVX2_ROWS, y + (size_t)second * AVX2_ROWS, y_stride,
                      panels + (size_t)p * panel_bytes, panels + (size_t)second * panel_bytes, acts,
                      whole / TILE_TOKENS, units, u, n, scratch);
        }
    }
    if (tail > 0)
        run_small(type, y + (size_t)whole * y_stride + (size_t)panel_from * AVX2_ROWS, y_stride,
                  panels + (size_t)panel_from * panel_bytes,
                  acts + (size_t)whole * (size_t)units * (size_t)type->act_bytes, tail, units, panel_to - panel_from);
}
