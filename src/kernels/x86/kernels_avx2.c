/* kernels_avx2: lays the AVX2 level (AVX2, FMA, F16C) over the table. Pure. */
#include "kernels/kernels_internal.h"
#include "kernels/x86/matmul_avx2.h"

void kernels_fill_avx2(struct kernels *k)
{
    k->panel_rows = AVX2_ROWS;
    k->matmul_scratch_bytes = MATMUL_SCRATCH_BYTES;
    acts_init_avx2(k);
    matmul_q32_init_avx2(k);
    matmul_k_init_avx2(k);
    matmul_w16_init_avx2(k);
    matmul_float_init_avx2(k);
    attn_init_avx2(k);
    elem_init_avx2(k);
}
