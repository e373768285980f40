/* matmul_w16_avx2: products of the types whose weights need 8 bits: Q8_0, IQ4_NL, IQ4_XS (the codebook reaches -127).
 * Their int16 pairs would saturate in vpmaddubsw, so weights are widened and vpmaddwd is used; activations are then
 * int16 too (act16), 13 bits at no cost.
 *
 * A unit of a panel:
 *   Q8_0    32 values:  d f16 [8] | 8 vectors of int8
 *   IQ4_NL  32 values:  d f16 [8] | 4 vectors of codes: low nibbles = vector j, high = vector j + 4
 *   IQ4_XS  256 values: d f16 [8] | scales s8 [8][8] (block, row) | 8 blocks of 4 vectors of codes
 * The four bytes of a lane are in the order of values 0 2 1 3: widening takes the even and the odd bytes. */
#include "kernels/x86/matmul_avx2.h"
#include "kernels/x86/pack_avx2.h"
#include "kernels/x86/simd_avx2.h"

#define CHUNK_BLOCKS 16
#define PREFETCH_BYTES 2048

/* One block of 32 of two panels, unpacked. */
struct w16_block {
    __m256i w[16][2]; /* int16, values 2i and 2i + 1 of the block in lane r */
    __m256 d[2];
};
_Static_assert(CHUNK_BLOCKS * sizeof(struct w16_block) <= MATMUL_SCRATCH_BYTES, "scratch");

AVX2_INLINE int unit_blocks(enum quant_type type)
{
    return type == QUANT_IQ4_XS ? 8 : 1;
}

AVX2_INLINE int head_bytes(enum quant_type type)
{
    return type == QUANT_IQ4_XS ? 80 : 16;
}

AVX2_INLINE int block_bytes(enum quant_type type)
{
    return type == QUANT_Q8_0 ? 256 : 128;
}

AVX2_INLINE int unit_bytes(enum quant_type type)
{
    return head_bytes(type) + unit_blocks(type) * block_bytes(type);
}

/* Vector j of the block at w, as int8. */
AVX2_INLINE __m256i weights(enum quant_type type, const uint8_t *w, int j)
{
    const __m256i codebook = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113));
    if (type == QUANT_Q8_0) return load_256(w + 32 * j);
    __m256i v = load_256(w + 32 * (j & 3));
    v = _mm256_and_si256(j < 4 ? v : _mm256_srli_epi16(v, 4), _mm256_set1_epi8(15));
    return _mm256_shuffle_epi8(codebook, v);
}

/* int8 to int16: values 0 and 1 of every lane, or 2 and 3. */
AVX2_INLINE __m256i widen(__m256i v, int upper)
{
    return _mm256_srai_epi16(upper ? v : _mm256_slli_epi16(v, 8), 8);
}

/* Scale of block b of a unit. */
AVX2_INLINE __m256 load_scale(enum quant_type type, const uint8_t *unit, int b)
{
    __m256 d = load_f16(unit);
    if (type != QUANT_IQ4_XS) return d;
    __m256i s = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(unit + 16 + 8 * b)));
    return _mm256_mul_ps(d, _mm256_cvtepi32_ps(s));
}

/* Adds a block's integer sum to 8 outputs. Every path goes through here: same operations, same order. */
AVX2_INLINE __m256 add_block(__m256 f, __m256i sum, __m256 d, __m256 act_d)
{
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(d, act_d), f);
}

AVX2_INLINE __m256i sum_step(__m256i c, __m256i w, const uint8_t *a, int j)
{
    return j == 0 ? _mm256_madd_epi16(w, broadcast_32(a)) : mad_s16(c, w, broadcast_32(a + 4 * j));
}

AVX2_INLINE void unpack(enum quant_type type, void *unpacked, const uint8_t *panel0, const uint8_t *panel1, int units)
{
    for (int half = 0; half < 2; half++) {
        const uint8_t *unit = half ? panel1 : panel0;
        struct w16_block *out = unpacked;
        for (int u = 0; u < units; u++, unit += unit_bytes(type)) {
            for (int b = 0; b < unit_blocks(type); b++, out++) {
                const uint8_t *w = unit + head_bytes(type) + b * block_bytes(type);
                UNROLL
                for (int j = 0; j < 8; j++) {
                    __m256i v = weights(type, w, j);
                    out->w[2 * j][half] = widen(v, 0);
                    out->w[2 * j + 1][half] = widen(v, 1);
                }
                out->d[half] = load_scale(type, unit, b);
            }
        }
    }
}

AVX2_INLINE void tile(enum quant_type type, float *y0, float *y1, size_t y_stride, const void *unpacked,
                      const uint8_t *acts, size_t ahead, int units, bool first)
{
    enum { T = TILE_TOKENS };
    __m256 f[T][2];
    UNROLL
    for (int t = 0; t < T; t++) {
        f[t][0] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(y0 + (size_t)t * y_stride);
        f[t][1] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(y1 + (size_t)t * y_stride);
    }
    const struct w16_block *block = unpacked;
    for (int b = 0; b < units * unit_blocks(type); b++, block++, acts += T * ACT16_BYTES) {
        __m256i c[T][2];
        UNROLL
        for (int i = 0; i < T * ACT16_BYTES; i += 64) _mm_prefetch((const char *)(acts + ahead) + i, _MM_HINT_T0);
        UNROLL
        for (int j = 0; j < 16; j++) {
            __m256i w0 = block->w[j][0], w1 = block->w[j][1];
            UNROLL
            for (int t = 0; t < T; t++) {
                c[t][0] = sum_step(c[t][0], w0, acts + 64 * t, j);
                c[t][1] = sum_step(c[t][1], w1, acts + 64 * t, j);
            }
        }
        UNROLL
        for (int t = 0; t < T; t++) {
            __m256 act_d = broadcast_f32(acts + ACT16_D(T) + 4 * t);
            f[t][0] = add_block(f[t][0], c[t][0], block->d[0], act_d);
            f[t][1] = add_block(f[t][1], c[t][1], block->d[1], act_d);
        }
    }
    UNROLL
    for (int t = 0; t < T; t++) {
        _mm256_storeu_ps(y0 + (size_t)t * y_stride, f[t][0]);
        _mm256_storeu_ps(y1 + (size_t)t * y_stride, f[t][1]);
    }
}

AVX2_INLINE void small(enum quant_type type, int n, float *y, size_t y_stride, const uint8_t *unit, const uint8_t *acts,
                       int n_panels, int units)
{
    for (int p = 0; p < n_panels; p++, y += AVX2_ROWS) {
        __m256 f[SMALL_MAX];
        UNROLL
        for (int t = 0; t < n; t++) f[t] = _mm256_setzero_ps();
        const uint8_t *a = acts;
        for (int u = 0; u < units; u++, unit += unit_bytes(type)) {
            for (int b = 0; b < unit_blocks(type); b++, a += ACT16_BYTES * n) {
                const uint8_t *w = unit + head_bytes(type) + b * block_bytes(type);
                __m256i c[SMALL_MAX];
                UNROLL
                for (int i = 0; i < block_bytes(type); i += 64)
                    _mm_prefetch((const char *)w + PREFETCH_BYTES + i, _MM_HINT_T0);
                UNROLL
                for (int j = 0; j < 8; j++) {
                    __m256i v = weights(type, w, j), low = widen(v, 0), high = widen(v, 1);
                    UNROLL
                    for (int t = 0; t < n; t++)
                        c[t] = sum_step(sum_step(c[t], low, a + 64 * t, 2 * j), high, a + 64 * t, 2 * j + 1);
                }
                __m256 d = load_scale(type, unit, b);
                UNROLL
                for (int t = 0; t < n; t++) f[t] = add_block(f[t], c[t], d, broadcast_f32(a + ACT16_D(n) + 4 * t));
            }
        }
        UNROLL
        for (int t = 0; t < n; t++) _mm256_storeu_ps(y + (size_t)t * y_stride, f[t]);
    }
}

MATMUL_TYPE(q8_0, QUANT_Q8_0, 32, 272, ACT16_BYTES, CHUNK_BLOCKS)
MATMUL_TYPE(iq4_nl, QUANT_IQ4_NL, 32, 144, ACT16_BYTES, CHUNK_BLOCKS)
MATMUL_TYPE(iq4_xs, QUANT_IQ4_XS, 256, 1104, 8 * ACT16_BYTES, CHUNK_BLOCKS / 8)

void matmul_w16_init_avx2(struct kernels *k)
{
    k->matmul[QUANT_Q8_0] = MATMUL_ROW(q8_0, ACT16, 32);
    k->matmul[QUANT_IQ4_NL] = MATMUL_ROW(iq4_nl, ACT16, 32);
    k->matmul[QUANT_IQ4_XS] = MATMUL_ROW(iq4_xs, ACT16, 256);
}
