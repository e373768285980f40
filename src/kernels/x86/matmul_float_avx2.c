/* matmul_float_avx2: products of F32, F16 and BF16 weights with float activations (actf). A panel is [k][8 rows] of the
 * type, k padded with zeros to a multiple of 16; weights become float on the way (exact).
 *
 * A unit is 16 values of k: four FMA chains of four, summed, and the sum added to the total. Short chains keep the
 * rounding error below one FLT_EPSILON of sum |w x|, and additions have pipes of their own on Zen. Few tokens need
 * several panels at a time to fill the FMA units. */
#include "kernels/x86/matmul_avx2.h"
#include "kernels/x86/pack_avx2.h"
#include "kernels/x86/simd_avx2.h"

#define UNIT_K 16
#define CHAIN 4
#define CHUNK_UNITS 12
#define PREFETCH_BYTES 1024

struct float_unit { /* of two panels, unpacked */
    __m256 w[UNIT_K][2];
};
_Static_assert(CHUNK_UNITS * sizeof(struct float_unit) <= MATMUL_SCRATCH_BYTES, "scratch");

AVX2_INLINE int element_bytes(enum quant_type type)
{
    return type == QUANT_F32 ? 4 : 2;
}

AVX2_INLINE int unit_bytes(enum quant_type type)
{
    return UNIT_K * AVX2_ROWS * element_bytes(type);
}

/* Value i of a unit. */
AVX2_INLINE __m256 weights(enum quant_type type, const uint8_t *unit, int i)
{
    const uint8_t *p = unit + i * AVX2_ROWS * element_bytes(type);
    if (type == QUANT_F32) return _mm256_loadu_ps((const float *)(const void *)p);
    return type == QUANT_F16 ? load_f16(p) : load_bf16(p);
}

/* Value i of a unit onto its chain. */
AVX2_INLINE __m256 chain_step(__m256 chain, __m256 w, __m256 x, int i)
{
    return i % CHAIN == 0 ? _mm256_mul_ps(w, x) : _mm256_fmadd_ps(w, x, chain);
}

/* The unit's sum after value i, where a chain may end. */
AVX2_INLINE __m256 unit_step(__m256 sum, __m256 chain, int i)
{
    if (i % CHAIN != CHAIN - 1) return sum;
    return i < CHAIN ? chain : _mm256_add_ps(sum, chain);
}

AVX2_INLINE void unpack(enum quant_type type, void *unpacked, const uint8_t *panel0, const uint8_t *panel1, int units)
{
    struct float_unit *out = unpacked;
    for (int u = 0; u < units; u++, panel0 += unit_bytes(type), panel1 += unit_bytes(type)) {
        UNROLL
        for (int i = 0; i < UNIT_K; i++) {
            out[u].w[i][0] = weights(type, panel0, i);
            out[u].w[i][1] = weights(type, panel1, i);
        }
    }
}

AVX2_INLINE void tile(enum quant_type type, float *y0, float *y1, size_t y_stride, const void *unpacked,
                      const uint8_t *acts, size_t ahead, int units, bool first)
{
    enum { T = TILE_TOKENS };
    (void)type;
    (void)ahead; /* the tokens' values are one stream, which the hardware fetches */
    __m256 total[T][2];
    UNROLL
    for (int t = 0; t < T; t++) {
        total[t][0] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(y0 + (size_t)t * y_stride);
        total[t][1] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(y1 + (size_t)t * y_stride);
    }
    const struct float_unit *unit = unpacked;
    for (int u = 0; u < units; u++, unit++, acts += T * ACTF_BYTES) {
        __m256 f[T][2], sum[T][2];
        UNROLL
        for (int i = 0; i < UNIT_K; i++) {
            __m256 w0 = unit->w[i][0], w1 = unit->w[i][1];
            UNROLL
            for (int t = 0; t < T; t++) {
                __m256 x = broadcast_f32(acts + 4 * (i * T + t));
                f[t][0] = chain_step(f[t][0], w0, x, i);
                f[t][1] = chain_step(f[t][1], w1, x, i);
                sum[t][0] = unit_step(sum[t][0], f[t][0], i);
                sum[t][1] = unit_step(sum[t][1], f[t][1], i);
            }
        }
        UNROLL
        for (int t = 0; t < T; t++) {
            total[t][0] = _mm256_add_ps(total[t][0], sum[t][0]);
            total[t][1] = _mm256_add_ps(total[t][1], sum[t][1]);
        }
    }
    UNROLL
    for (int t = 0; t < T; t++) {
        _mm256_storeu_ps(y0 + (size_t)t * y_stride, total[t][0]);
        _mm256_storeu_ps(y1 + (size_t)t * y_stride, total[t][1]);
    }
}

/* n tokens times `width` panels (both constant); y: that of the first. */
AVX2_INLINE void small_panels(enum quant_type type, int n, int width, float *y, size_t y_stride, const uint8_t *panels,
                              const uint8_t *acts, int units)
{
    enum { MOST = 8 };
    size_t panel_bytes = (size_t)units * (size_t)unit_bytes(type);
    __m256 total[MOST];
    UNROLL
    for (int i = 0; i < n * width; i++) total[i] = _mm256_setzero_ps();
    for (int u = 0; u < units; u++, panels += unit_bytes(type), acts += n * ACTF_BYTES) {
        UNROLL
        for (int p = 0; p < width; p++) {
            const uint8_t *unit = panels + (size_t)p * panel_bytes;
            __m256 f[MOST], sum[MOST];
            UNROLL
            for (int i = 0; i < unit_bytes(type); i += 64)
                _mm_prefetch((const char *)unit + PREFETCH_BYTES + i, _MM_HINT_T0);
            UNROLL
            for (int i = 0; i < UNIT_K; i++) {
                __m256 w = weights(type, unit, i);
                UNROLL
                for (int t = 0; t < n; t++) {
                    f[t] = chain_step(f[t], w, broadcast_f32(acts + 4 * (i * n + t)), i);
                    sum[t] = unit_step(sum[t], f[t], i);
                }
            }
            UNROLL
            for (int t = 0; t < n; t++) total[p * n + t] = _mm256_add_ps(total[p * n + t], sum[t]);
        }
    }
    UNROLL
    for (int p = 0; p < width; p++) {
        UNROLL
        for (int t = 0; t < n; t++) _mm256_storeu_ps(y + (size_t)t * y_stride + AVX2_ROWS * p, total[p * n + t]);
    }
}

AVX2_INLINE void small(enum quant_type type, int n, float *y, size_t y_stride, const uint8_t *panels,
                       const uint8_t *acts, int n_panels, int units)
{
    size_t panel_bytes = (size_t)units * (size_t)unit_bytes(type);
    const int width = n == 1 ? 8 : n == 2 ? 4 : n <= 4 ? 2 : 1;
    int p = 0;
    for (; p + width <= n_panels; p += width)
        small_panels(type, n, width, y + AVX2_ROWS * p, y_stride, panels + (size_t)p * panel_bytes, acts, units);
    for (; p < n_panels; p++)
        small_panels(type, n, 1, y + AVX2_ROWS * p, y_stride, panels + (size_t)p * panel_bytes, acts, units);
}

MATMUL_TYPE(f32, QUANT_F32, UNIT_K, 512, ACTF_BYTES, CHUNK_UNITS)
MATMUL_TYPE(f16, QUANT_F16, UNIT_K, 256, ACTF_BYTES, CHUNK_UNITS)
MATMUL_TYPE(bf16, QUANT_BF16, UNIT_K, 256, ACTF_BYTES, CHUNK_UNITS)

void matmul_float_init_avx2(struct kernels *k)
{
    k->matmul[QUANT_F32] = MATMUL_ROW(f32, ACTF, 1);
    k->matmul[QUANT_F16] = MATMUL_ROW(f16, ACTF, 1);
    k->matmul[QUANT_BF16] = MATMUL_ROW(bf16, ACTF, 1);
}
