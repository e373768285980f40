/* kernels_avx2: lays the AVX2 level (AVX2, FMA, F16C) over the table. Pure. */
#include "kernels/kernels_internal.h"
#include "kernels/x86/matmul_avx2.h"
#include "kernels/x86/simd_avx2.h"

/* vpmaddubsw and vpaddw, what most products are made of; eight chains of the additions. */
static uint64_t probe_int8(int rounds)
{
    __m256i c[8], w = _mm256_set1_epi8(3), x = _mm256_set1_epi8(5);
    UNROLL
    for (int i = 0; i < 8; i++) c[i] = _mm256_set1_epi16((short)i);
    for (int r = 0; r < rounds; r++) {
        UNROLL
        for (int i = 0; i < 8; i++) {
            KEEP(x); /* else the product is computed once */
            c[i] = mad_u8s8(c[i], w, x);
        }
    }
    return (uint64_t)rounds * 8 * 32;
}

/* Twelve chains: FMA latency times two units, and slack. */
static uint64_t probe_f32(int rounds)
{
    __m256 c[12], w = _mm256_set1_ps(0.5f), x = _mm256_set1_ps(1.0f);
    UNROLL
    for (int i = 0; i < 12; i++) c[i] = _mm256_set1_ps((float)i);
    for (int r = 0; r < rounds; r++) {
        UNROLL
        for (int i = 0; i < 12; i++) {
            c[i] = _mm256_fmadd_ps(c[i], w, x);
            KEEP(c[i]);
        }
    }
    return (uint64_t)rounds * 12 * 8;
}

void kernels_fill_avx2(struct kernels *k)
{
    k->panel_rows = AVX2_ROWS;
    k->matmul_scratch_bytes = MATMUL_SCRATCH_BYTES;
    k->probe_int8 = probe_int8;
    k->probe_f32 = probe_f32;
    acts_init_avx2(k);
    matmul_q32_init_avx2(k);
    matmul_k_init_avx2(k);
    matmul_w16_init_avx2(k);
    matmul_float_init_avx2(k);
    attn_init_avx2(k);
    elem_init_avx2(k);
}
