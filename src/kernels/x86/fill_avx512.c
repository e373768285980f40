/* fill_avx512: the table of level avx512. */
#include "kernels/x86/panels_avx512.h"

#define DEFINE_MATMUL(name)                                                                                            \
    static void matmul_##name(float *y, size_t y_stride, const void *panels, const void *acts, int m, int k, int from, \
                              int to, void *scratch)                                                                   \
    {                                                                                                                  \
        matmul_fn *run = m <= SMALL_M_MAX ? small_avx512_##name : large_avx512_##name;                                 \
        run(y, y_stride, panels, acts, m, k, from, to, scratch);                                                       \
    }
PANEL_TYPES(DEFINE_MATMUL)

/* Eight chains of dot products on registers. */
static uint64_t probe_int8(int rounds)
{
    __m512i c[12], w = _mm512_set1_epi8(3), x = _mm512_set1_epi8(5);
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++) c[i] = _mm512_set1_epi32(i);
    for (int r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++) {
            c[i] = _mm512_dpbusd_epi32(c[i], w, x);
            __asm__ volatile("" : "+v"(c[i]));
        }
    }
    return (uint64_t)rounds * 12 * 64;
}

static uint64_t probe_f32(int rounds)
{
    __m512 c[12], w = _mm512_set1_ps(0.5f), x = _mm512_set1_ps(1.0f);
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++) c[i] = _mm512_set1_ps((float)i);
    for (int r = 0; r < rounds; r++) {
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++) {
            c[i] = _mm512_fmadd_ps(c[i], w, x);
            __asm__ volatile("" : "+v"(c[i]));
        }
    }
    return (uint64_t)rounds * 12 * 16;
}

void kernels_fill_avx512(struct kernels *k)
{
    kernels_fill_panels(k);
    kernels_fill_avx512_acts(k);
#define SET_MATMUL(name, format)          \
    k->matmul[QUANT_##name].act = format; \
    k->matmul[QUANT_##name].matmul = matmul_##name;
#define SET_BLOCK_TYPE(name) SET_MATMUL(name, AVX512_ACT32)
#define SET_K_TYPE(name) SET_MATMUL(name, AVX512_ACTK)
    PANEL_BLOCK_TYPES(SET_BLOCK_TYPE)
    PANEL_K_TYPES(SET_K_TYPE)
    size_t block = large_avx512_scratch_bytes(), super = large_k_avx512_scratch_bytes();
    k->matmul_scratch_bytes = block > super ? block : super;
    k->probe_int8 = probe_int8;
    k->probe_f32 = probe_f32;
    kernels_fill_avx512_float(k);
    kernels_fill_avx512_attention(k);
    kernels_fill_avx512_elementwise(k);
}
