/* matmul_float_avx2: products of F32, F16 and BF16 weights with float activations (actf). A panel is [k][8 rows] of the
 * type, GGUF's size; weights become float on the way (exact).
 *
 * k is summed in chunks of at most CHUNK values, each from zero, and the chunks' sums are added in order: that keeps
 * rounding errors low and is the same in all paths. Few tokens need several panels at a time to fill the FMA units. */
#include "kernels/x86/matmul_avx2.h"
#include "kernels/x86/pack_avx2.h"
#include "kernels/x86/simd_avx2.h"

#define CHUNK 128
#define PREFETCH_BYTES 1024

struct float_unit { /* one k of two panels, unpacked */
    __m256 w[2];
};
_Static_assert(CHUNK * sizeof(struct float_unit) <= MATMUL_SCRATCH_BYTES, "scratch");

AVX2_INLINE int unit_bytes(enum quant_type type)
{
    return AVX2_ROWS * (type == QUANT_F32 ? 4 : 2);
}

AVX2_INLINE __m256 weights(enum quant_type type, const uint8_t *unit)
{
    if (type == QUANT_F32) return _mm256_loadu_ps((const float *)(const void *)unit);
    return type == QUANT_F16 ? load_f16(unit) : load_bf16(unit);
}

AVX2_INLINE void unpack(enum quant_type type, void *unpacked, const uint8_t *panel0, const uint8_t *panel1, int units)
{
    struct float_unit *out = unpacked;
    for (int u = 0; u < units; u++) {
        out[u].w[0] = weights(type, panel0 + u * unit_bytes(type));
        out[u].w[1] = weights(type, panel1 + u * unit_bytes(type));
    }
}

AVX2_INLINE void tile(enum quant_type type, float *y0, float *y1, size_t y_stride, const void *unpacked,
                      const uint8_t *acts, size_t ahead, int units, bool first)
{
    enum { T = TILE_TOKENS };
    (void)type;
    (void)ahead; /* the tokens' values are one stream, which the hardware fetches */
    __m256 f[T][2];
    UNROLL
    for (int t = 0; t < T; t++) f[t][0] = f[t][1] = _mm256_setzero_ps();
    const struct float_unit *w = unpacked;
    for (int u = 0; u < units; u++, w++, acts += 4 * T) {
        UNROLL
        for (int t = 0; t < T; t++) {
            __m256 a = broadcast_f32(acts + 4 * t);
            f[t][0] = _mm256_fmadd_ps(w->w[0], a, f[t][0]);
            f[t][1] = _mm256_fmadd_ps(w->w[1], a, f[t][1]);
        }
    }
    UNROLL
    for (int t = 0; t < T; t++) { /* both sums before the stores: y1 may be y0 */
        float *at0 = y0 + (size_t)t * y_stride, *at1 = y1 + (size_t)t * y_stride;
        __m256 s0 = _mm256_add_ps(first ? _mm256_setzero_ps() : _mm256_loadu_ps(at0), f[t][0]);
        __m256 s1 = _mm256_add_ps(first ? _mm256_setzero_ps() : _mm256_loadu_ps(at1), f[t][1]);
        _mm256_storeu_ps(at0, s0);
        _mm256_storeu_ps(at1, s1);
    }
}

/* n tokens times `width` panels (both constant); y: that of the first. */
AVX2_INLINE void small_panels(enum quant_type type, int n, int width, float *y, size_t y_stride, const uint8_t *panels,
                              const uint8_t *acts, int units)
{
    enum { MOST = 8 };
    size_t panel_bytes = (size_t)units * (size_t)unit_bytes(type);
    int step = matmul_chunk(units, CHUNK);
    __m256 total[MOST];
    UNROLL
    for (int i = 0; i < n * width; i++) total[i] = _mm256_setzero_ps();
    for (int u = 0; u < units; u += step) {
        int end = units - u < step ? units : u + step;
        __m256 f[MOST];
        UNROLL
        for (int i = 0; i < n * width; i++) f[i] = _mm256_setzero_ps();
        for (int v = u; v < end; v++) {
            const uint8_t *w = panels + v * unit_bytes(type);
            UNROLL
            for (int p = 0; p < width; p++) {
                const uint8_t *unit = w + (size_t)p * panel_bytes;
                _mm_prefetch((const char *)unit + PREFETCH_BYTES, _MM_HINT_T0);
                __m256 weight = weights(type, unit);
                UNROLL
                for (int t = 0; t < n; t++) {
                    __m256 a = broadcast_f32(acts + 4 * (v * n + t));
                    f[p * n + t] = _mm256_fmadd_ps(weight, a, f[p * n + t]);
                }
            }
        }
        UNROLL
        for (int i = 0; i < n * width; i++) total[i] = _mm256_add_ps(total[i], f[i]);
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

MATMUL_TYPE(f32, QUANT_F32, 1, 32, ACTF_BYTES, CHUNK)
MATMUL_TYPE(f16, QUANT_F16, 1, 16, ACTF_BYTES, CHUNK)
MATMUL_TYPE(bf16, QUANT_BF16, 1, 16, ACTF_BYTES, CHUNK)

void matmul_float_init_avx2(struct kernels *k)
{
    k->matmul[QUANT_F32] = MATMUL_ROW(f32, ACTF, 1);
    k->matmul[QUANT_F16] = MATMUL_ROW(f16, ACTF, 1);
    k->matmul[QUANT_BF16] = MATMUL_ROW(bf16, ACTF, 1);
}
