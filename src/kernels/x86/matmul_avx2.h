/* matmul_avx2: what the AVX2 weight families share: the layout of quantised activations, and how a family's kernels
 * are called by the one driver in matmul_avx2.c.
 *
 * A panel is 8 output rows. Families cut k into UNITS (32 values, 256 for K types, 16 for floats). Vector j (0..7) of a
 * block of 32 holds values 4j .. 4j+3 of row r in its 32-bit lane r.
 *
 * Activations: up to SMALL_M_MAX tokens are the fewest tiles of at most SMALL_MAX, all but the last of one width; more
 * are tiles of TILE_TOKENS and a last, narrower one. A tile is stored unit by unit, the tokens side by side within a
 * unit: act8    unit of 32:   q int8 [w][32] | d f32 [w] | start [w] | dsum f32 [w] act256  unit of 256:  q int8
 * [8][w][32] | start [8][w][2] | sum16 [8][w] | sum32 [4][w] | d f32 [w] act16   unit of 32:   q int16 [w][32] | d f32
 * [w] actf    unit of 16:   x f32 [16][w], zeros beyond k d: scale of q. dsum: d * sum of q. sum16: int16 pair, sums of
 * values 0-15 and 16-31 of a block; sum32: int16 pair, sums of blocks 2i and 2i+1. start: int16 pair of -8 (act8) or
 * -32 (act256, per half block) times the sums of the q whose index mod 4 is below 2, and of the others: what an int16
 * accumulator starts with when unsigned weights carry an offset. Addition wraps and the centred result fits, so the
 * offset costs nothing. */
#ifndef KERNELS_X86_MATMUL_AVX2_H
#define KERNELS_X86_MATMUL_AVX2_H

#include <stdbool.h>

#include "kernels/kernels.h"

#define AVX2_ROWS 8
#define SMALL_MAX 8    /* tokens that the register kernels take */
#define SMALL_M_MAX 24 /* tokens that come in tiles for them */
#define TILE_TOKENS 4  /* tokens of a tile of the kernels that unpack panels first */

enum act_kind { ACT8, ACT256, ACT16, ACTF, ACT_KIND_N };

/* Bytes of one token and one unit. */
#define ACT8_BYTES 44
#define ACT256_BYTES 372
#define ACT16_BYTES 68
#define ACTF_BYTES 64

/* Offsets within a unit of a tile of width w. */
#define ACT8_D(w) (32 * (w))
#define ACT8_START(w) (36 * (w))
#define ACT8_DSUM(w) (40 * (w))
#define ACT256_START(w) (256 * (w))
#define ACT256_SUM16(w) (320 * (w))
#define ACT256_SUM32(w) (352 * (w))
#define ACT256_D(w) (368 * (w))
#define ACT16_D(w) (64 * (w))

/* Unpacks `units` units of two panels (the second may be the first again) into the form that `tile` reads. */
typedef void matmul_unpack_fn(void *unpacked, const uint8_t *panel0, const uint8_t *panel1, int units);
/* TILE_TOKENS tokens times the unpacked panels, onto y0 and y1 (8 floats per token; y1 may be y0); `first`: y holds
 * nothing yet. `ahead`: distance in bytes from acts to the next tile's, to be fetched meanwhile. */
typedef void matmul_tile_fn(float *y0, float *y1, size_t y_stride, const void *unpacked, const uint8_t *acts,
                            size_t ahead, int units, bool first);
/* A fixed number of tokens (one tile) times n_panels panels, weights unpacked in registers. */
typedef void matmul_small_fn(float *y, size_t y_stride, const uint8_t *panels, const uint8_t *acts, int n_panels,
                             int units);

struct matmul_type {
    int unit_k, unit_bytes; /* values and packed bytes (8 rows) of a unit */
    int act_bytes;          /* of one token and one unit */
    int chunk_units;        /* most units unpacked at a time: half of a 32 KiB L1 */
    matmul_unpack_fn *unpack;
    matmul_tile_fn *tile;
    matmul_small_fn *small[SMALL_MAX + 1]; /* by number of tokens; [0] unused */
};

/* Most bytes that an unpack function writes. */
#define MATMUL_SCRATCH_BYTES 24576

void matmul_run_avx2(const struct matmul_type *type, float *y, size_t y_stride, const uint8_t *panels,
                     const uint8_t *acts, int m, int k, int panel_from, int panel_to, void *scratch);

/* Defines `type_NAME`, and the functions of its row of the table, from a family's always-inline unpack(ID, ...),
 * tile(ID, ...) and small(ID, number of tokens, ...): ID and the number become constants in each copy. */
#define MATMUL_TYPE(NAME, ID, UNIT_K, UNIT_BYTES, ACT_BYTES, CHUNK_UNITS)                                       \
    static void unpack_##NAME(void *unpacked, const uint8_t *panel0, const uint8_t *panel1, int units)          \
    {                                                                                                           \
        unpack(ID, unpacked, panel0, panel1, units);                                                            \
    }                                                                                                           \
    static void tile_##NAME(float *y0, float *y1, size_t y_stride, const void *unpacked, const uint8_t *acts,   \
                            size_t ahead, int units, bool first)                                                \
    {                                                                                                           \
        tile(ID, y0, y1, y_stride, unpacked, acts, ahead, units, first);                                        \
    }                                                                                                           \
    MATMUL_SMALL(NAME, ID, 1)                                                                                   \
    MATMUL_SMALL(NAME, ID, 2)                                                                                   \
    MATMUL_SMALL(NAME, ID, 3)                                                                                   \
    MATMUL_SMALL(NAME, ID, 4)                                                                                   \
    MATMUL_SMALL(NAME, ID, 5)                                                                                   \
    MATMUL_SMALL(NAME, ID, 6)                                                                                   \
    MATMUL_SMALL(NAME, ID, 7)                                                                                   \
    MATMUL_SMALL(NAME, ID, 8)                                                                                   \
    static const struct matmul_type type_##NAME = {UNIT_K,                                                      \
                                                   UNIT_BYTES,                                                  \
                                                   ACT_BYTES,                                                   \
                                                   CHUNK_UNITS,                                                 \
                                                   unpack_##NAME,                                               \
                                                   tile_##NAME,                                                 \
                                                   {NULL, small_##NAME##_1, small_##NAME##_2, small_##NAME##_3, \
                                                    small_##NAME##_4, small_##NAME##_5, small_##NAME##_6,       \
                                                    small_##NAME##_7, small_##NAME##_8}};                       \
    static size_t panel_bytes_##NAME(int k)                                                                     \
    {                                                                                                           \
        return (size_t)((k + UNIT_K - 1) / UNIT_K) * UNIT_BYTES;                                                \
    }                                                                                                           \
    static void matmul_##NAME(float *y, size_t y_stride, const void *panels, const void *acts, int m, int k,    \
                              int panel_from, int panel_to, void *scratch)                                      \
    {                                                                                                           \
        matmul_run_avx2(&type_##NAME, y, y_stride, panels, acts, m, k, panel_from, panel_to, scratch);          \
    }
#define MATMUL_SMALL(NAME, ID, N)                                                                         \
    static void small_##NAME##_##N(float *y, size_t y_stride, const uint8_t *panels, const uint8_t *acts, \
                                   int n_panels, int units)                                               \
    {                                                                                                     \
        small(ID, N, y, y_stride, panels, acts, n_panels, units);                                         \
    }
#define MATMUL_ROW(NAME, ACT, K_MULTIPLE)                                      \
    (struct matmul_kernel)                                                     \
    {                                                                          \
        ACT, K_MULTIPLE, panel_bytes_##NAME, pack_##NAME##_avx2, matmul_##NAME \
    }

/* Units of a chunk: all chunks have one size, since a short last one costs up to 14 %. */
static inline int matmul_chunk(int units, int most)
{
    int n_chunks = (units + most - 1) / most;
    return (units + n_chunks - 1) / n_chunks;
}

/* Where token t of m lies: the tile's first token and its width. */
static inline int act_tile(int *width, int m, int t)
{
    int n_small = (m + SMALL_MAX - 1) / SMALL_MAX, most = m <= SMALL_M_MAX ? (m + n_small - 1) / n_small : TILE_TOKENS;
    int first = t / most * most;
    *width = m - first < most ? m - first : most;
    return first;
}

void acts_init_avx2(struct kernels *k);
void matmul_q32_init_avx2(struct kernels *k);
void matmul_k_init_avx2(struct kernels *k);
void matmul_w16_init_avx2(struct kernels *k);
void matmul_float_init_avx2(struct kernels *k);
void attn_init_avx2(struct kernels *k);
void elem_init_avx2(struct kernels *k);

#endif
