/* pack_avx2: GGUF blocks of 8 rows into the panels of the AVX2 level; the contract is matmul_kernel.pack's. The layouts
 * are described where they are used: matmul_q32, matmul_k, matmul_w16 and matmul_float. */
#ifndef KERNELS_X86_PACK_AVX2_H
#define KERNELS_X86_PACK_AVX2_H

typedef void pack_fn(void *panel, const void *const *rows, int k);
pack_fn pack_q4_0_avx2, pack_q4_1_avx2, pack_q5_0_avx2, pack_q5_1_avx2, pack_mxfp4_avx2;
pack_fn pack_q2_k_avx2, pack_q3_k_avx2, pack_q4_k_avx2, pack_q5_k_avx2, pack_q6_k_avx2;
pack_fn pack_q8_0_avx2, pack_iq4_nl_avx2, pack_iq4_xs_avx2;
pack_fn pack_f32_avx2, pack_f16_avx2, pack_bf16_avx2;

#endif
