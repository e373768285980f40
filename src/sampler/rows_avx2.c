/* rows_avx2: rows_block.h with vectors of 8. */
typedef float vec __attribute__((vector_size(32)));
typedef int ivec __attribute__((vector_size(32)));
#include "sampler/rows_block.h"

const struct row_ops row_ops_avx2 = {block_max, block_sum};
