/* rows: passes over logits. Lanes are independent and sums have one fixed order: the result is the same for every
 * compiler and instruction set. The inner loops are chosen by what the CPU has. */
typedef float vec __attribute__((vector_size(16)));
typedef int ivec __attribute__((vector_size(16)));
#include "sampler/rows_block.h"

const struct row_ops row_ops_baseline = {block_max, block_sum};

static const struct row_ops *ops_get(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
        return &row_ops_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &row_ops_avx2;
#endif
    return &row_ops_baseline;
}

float fast_exp(float x)
{
    return vec_exp(vec_all(x))[0];
}

static uint64_t block_mask(const uint64_t *mask, uint32_t block, uint32_t count)
{
    uint64_t inside = count == ROW_BLOCK ? ~UINT64_C(0) : (UINT64_C(1) << count) - 1;
    return mask ? mask[block] & inside : inside;
}

static uint32_t block_count(uint32_t n, uint32_t block)
{
    uint32_t left = n - block * ROW_BLOCK;
    return left < ROW_BLOCK ? left : ROW_BLOCK;
}

float row_maxima(float *block_max, const float *x, const uint64_t *mask, uint32_t n)
{
    const struct row_ops *ops = ops_get();
    float best = -INFINITY;
    for (uint32_t b = 0; b < row_blocks(n); b++) {
        uint64_t allowed = block_mask(mask, b, block_count(n, b));
        const float *row = x + (size_t)b * ROW_BLOCK;
        float m = -INFINITY;
        if (allowed == ~UINT64_C(0)) m = ops->max(row);
        else
            for (; allowed; allowed &= allowed - 1) {
                float v = row[__builtin_ctzll(allowed)];
                if (v > m) m = v;
            }
        block_max[b] = m;
        if (m > best) best = m;
    }
    return best;
}

static float masked_sum(const struct row_ops *ops, const float *x, uint64_t allowed, float max, float scale)
{
    float w[ROW_BLOCK];
    if (allowed == ~UINT64_C(0)) return ops->sum(x, max, scale);
    for (uint32_t i = 0; i < ROW_BLOCK; i++) w[i] = allowed >> i & 1 ? x[i] : -INFINITY;
    return ops->sum(w, max, scale);
}

double row_sums(float *sums, const float *x, const float *block_max, const uint64_t *mask, uint32_t n, float max,
                float scale)
{
    const struct row_ops *ops = ops_get();
    double total = 0;
    for (uint32_t b = 0; b < row_blocks(n); b++) {
        uint64_t allowed = block_mask(mask, b, block_count(n, b));
        bool any = allowed && (!block_max || block_max[b] > -INFINITY);
        float sum = any ? masked_sum(ops, x + (size_t)b * ROW_BLOCK, allowed, max, scale) : 0;
        if (sums) sums[b] = sum;
        total += (double)sum;
    }
    return total;
}

uint32_t row_first(const float *x, const float *block_max, const uint64_t *mask, uint32_t n, float max)
{
    for (uint32_t b = 0; b < row_blocks(n); b++) {
        if (!(block_max[b] >= max)) continue;
        uint64_t allowed = block_mask(mask, b, block_count(n, b));
        for (; allowed; allowed &= allowed - 1) {
            uint32_t token = b * ROW_BLOCK + (uint32_t)__builtin_ctzll(allowed);
            if (x[token] >= max) return token;
        }
    }
    return 0;
}

uint32_t row_collect(struct candidate *out, const float *x, const float *block_max, const uint64_t *mask, uint32_t n,
                     float at_least)
{
    uint32_t n_out = 0;
    for (uint32_t b = 0; b < row_blocks(n); b++) {
        if (!(block_max[b] >= at_least)) continue;
        uint64_t allowed = block_mask(mask, b, block_count(n, b));
        for (uint32_t i = 0, count = block_count(n, b); i < count; i++) { /* no branches: they could not be predicted */
            uint32_t token = b * ROW_BLOCK + i;
            bool taken = (x[token] >= at_least) & (x[token] > -INFINITY) & (allowed >> i & 1);
            out[n_out] = (struct candidate){x[token], token};
            n_out += taken;
        }
    }
    return n_out;
}
