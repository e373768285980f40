/* rows_avx512: rows_block.h with vectors of 16. */
typedef float vec __attribute__((vector_size(64)));
typedef int ivec __attribute__((vector_size(64)));
#include "sampler/rows_block.h"

const struct row_ops row_ops_avx512 = {block_max, block_sum};
