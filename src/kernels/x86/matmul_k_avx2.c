/* matmul_k_avx2: products of the K types, 256 weights under one float scale with integer scales of 16 or 32 weights
 * below it: Q2_K, Q3_K, Q4_K, Q5_K, Q6_K; activations act256.
 *
 * A unit of a panel (256 values of 8 rows) is a head and eight blocks of 32:
 *   head     d f16 [8] | Q2_K, Q4_K, Q5_K: dmin f16 [8]
 *            Q4_K, Q5_K: scales u8 [4][8][2] (row, block 2i and 2i+1) | mins u8 [4][8][2]
 *            Q3_K, Q6_K: scales s8 [8][8][2] (block, row, half of the block)
 *            Q2_K: scale + 16 * min u8 [8][8][2] (block, row, half)
 *   nibbles  Q4_K, Q5_K, Q6_K: 4 vectors: low halves = vector j, high halves = vector j + 4 of the block
 *   pairs    Q2_K, Q3_K, Q6_K: 2 vectors: bits 2i of vector h = two bits of vector 4h + i
 *   bits     Q3_K, Q5_K: 1 vector, bit j of its bytes = the high bit of vector j
 *
 * int16 sums over RUNS of 8 vectors (Q4_K) or 4, each closed by a vpmaddwd with its integer scale; float only once in
 * 256. Q3_K (q - 4) and Q6_K (q - 32) start their runs at -offset * sum(a); the largest centred sum is 32 * 127 * 8. */
#include "kernels/x86/matmul_avx2.h"
#include "kernels/x86/pack_avx2.h"
#include "kernels/x86/simd_avx2.h"

#define CHUNK_UNITS 3
#define PREFETCH_BYTES 2048

/* One unit of two panels, unpacked. */
struct k_unit {
    struct {
        __m256i w[8][2];     /* u8 */
        __m256i scale[2][2]; /* [run][panel] int16 */
    } block[8];
    __m256i mins[8][2]; /* int16 pairs, as act256's sum16 (Q2_K) or sum32 */
    __m256 d[2], dmin[2];
};
_Static_assert(CHUNK_UNITS * sizeof(struct k_unit) <= MATMUL_SCRATCH_BYTES, "scratch");

AVX2_INLINE bool has_min(enum quant_type type)
{
    return type == QUANT_Q2_K || type == QUANT_Q4_K || type == QUANT_Q5_K;
}

AVX2_INLINE bool has_nibbles(enum quant_type type)
{
    return type == QUANT_Q4_K || type == QUANT_Q5_K || type == QUANT_Q6_K;
}

AVX2_INLINE bool has_pairs(enum quant_type type)
{
    return type == QUANT_Q2_K || type == QUANT_Q3_K || type == QUANT_Q6_K;
}

AVX2_INLINE bool has_bits(enum quant_type type)
{
    return type == QUANT_Q3_K || type == QUANT_Q5_K;
}

/* Scales of 32 weights, not of 16. */
AVX2_INLINE bool has_wide_scales(enum quant_type type)
{
    return type == QUANT_Q4_K || type == QUANT_Q5_K;
}

AVX2_INLINE int head_bytes(enum quant_type type)
{
    return type == QUANT_Q3_K || type == QUANT_Q6_K ? 144 : 160;
}

AVX2_INLINE int block_bytes(enum quant_type type)
{
    return (has_nibbles(type) ? 128 : 0) + (has_pairs(type) ? 64 : 0) + (has_bits(type) ? 32 : 0);
}

AVX2_INLINE int unit_bytes(enum quant_type type)
{
    return head_bytes(type) + 8 * block_bytes(type);
}

AVX2_INLINE int run_length(enum quant_type type)
{
    return type == QUANT_Q4_K ? 8 : 4;
}

/* Pairs of minimum terms in a unit. */
AVX2_INLINE int n_mins(enum quant_type type)
{
    return !has_min(type) ? 0 : has_wide_scales(type) ? 4 : 8;
}

/* v shifted right by n bits (left by -n) within 16-bit lanes; the caller masks what crosses bytes. */
AVX2_INLINE __m256i shift_right(__m256i v, int n)
{
    return n < 0 ? _mm256_slli_epi16(v, -n) : n > 0 ? _mm256_srli_epi16(v, n) : v;
}

/* Vector j of the block at w, as u8. */
AVX2_INLINE __m256i weights(enum quant_type type, const uint8_t *w, int j)
{
    int i = j & 3, low_bits = has_nibbles(type) ? 4 : 2;
    __m256i v = _mm256_setzero_si256();
    if (has_nibbles(type)) {
        v = _mm256_and_si256(shift_right(load_256(w + 32 * i), j < 4 ? 0 : 4), _mm256_set1_epi8(15));
        w += 128;
    }
    if (has_pairs(type)) { /* to bits 4-5 above nibbles, else to bits 0-1 */
        int at = has_nibbles(type) ? 4 : 0;
        __m256i pairs = shift_right(load_256(w + 32 * (j / 4)), 2 * i - at);
        v = _mm256_or_si256(v, _mm256_and_si256(pairs, _mm256_set1_epi8((char)(3 << at))));
        w += 64;
    }
    if (has_bits(type)) {
        __m256i bits = shift_right(load_256(w), j - low_bits);
        v = _mm256_or_si256(v, _mm256_and_si256(bits, _mm256_set1_epi8((char)(1 << low_bits))));
    }
    return v;
}

/* The low or high int16 of every 32-bit lane, in both halves of the lane. */
AVX2_INLINE __m256i twice(__m256i pairs, int high)
{
    const __m128i low_bytes = _mm_setr_epi8(0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13);
    __m128i order = high ? _mm_add_epi8(low_bytes, _mm_set1_epi8(2)) : low_bytes;
    return _mm256_shuffle_epi8(pairs, _mm256_broadcastsi128_si256(order));
}

/* Integer scale of run `run` of block b, twice in every lane. */
AVX2_INLINE __m256i load_scale(enum quant_type type, const uint8_t *unit, int b, int run)
{
    if (has_wide_scales(type)) return twice(_mm256_cvtepu8_epi16(load_128(unit + 32 + 16 * (b / 2))), b & 1);
    if (type == QUANT_Q2_K)
        return twice(_mm256_and_si256(_mm256_cvtepu8_epi16(load_128(unit + 32 + 16 * b)), _mm256_set1_epi16(15)), run);
    return twice(_mm256_cvtepi8_epi16(load_128(unit + 16 + 16 * b)), run);
}

/* Pair i of the minimum terms. */
AVX2_INLINE __m256i load_mins(enum quant_type type, const uint8_t *unit, int i)
{
    if (has_wide_scales(type)) return _mm256_cvtepu8_epi16(load_128(unit + 96 + 16 * i));
    return _mm256_srli_epi16(_mm256_cvtepu8_epi16(load_128(unit + 32 + 16 * i)), 4);
}

/* Pair i of token t's sums, to be multiplied with load_mins. */
AVX2_INLINE __m256i act_sums(enum quant_type type, const uint8_t *acts, int i, int t, int width)
{
    int at = has_wide_scales(type) ? ACT256_SUM32(width) : ACT256_SUM16(width);
    return broadcast_32(acts + at + 4 * (i * width + t));
}

/* One step of a run: start = the token's start values of this block, -32 * sums of its halves. */
AVX2_INLINE __m256i run_step(enum quant_type type, __m256i c, __m256i w, __m256i a, const uint8_t *start, int j)
{
    if (j % run_length(type) != 0) return mad_u8s8(c, w, a);
    if (has_min(type)) return _mm256_maddubs_epi16(w, a);
    __m256i s = broadcast_32(start + j);
    return mad_u8s8(type == QUANT_Q3_K ? _mm256_srai_epi16(s, 3) : s, w, a);
}

AVX2_INLINE bool run_ends(enum quant_type type, int j)
{
    return j % run_length(type) == run_length(type) - 1;
}

/* Adds a unit of token t to 8 outputs: sum = its products under integer scales. Every path goes through here: same
 * operations, same order. */
AVX2_INLINE __m256 add_unit(enum quant_type type, __m256 f, __m256 sum, __m256i min_sum, __m256 d, __m256 dmin,
                            const uint8_t *acts, int t, int width)
{
    f = _mm256_fmadd_ps(sum, d, f);
    if (!has_min(type)) return f;
    __m256 scale = broadcast_f32(acts + ACT256_SUM_SCALE(width) + 4 * t);
    return _mm256_fnmadd_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(min_sum), scale), dmin, f);
}

/* Adds a block's integers, under their integer scales, with the token's scale of that block. */
AVX2_INLINE __m256 add_block(__m256 sum, __m256i block, const uint8_t *d)
{
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(block), broadcast_f32(d), sum);
}

AVX2_INLINE void unpack(enum quant_type type, void *unpacked, const uint8_t *panel0, const uint8_t *panel1, int units)
{
    for (int half = 0; half < 2; half++) {
        const uint8_t *unit = half ? panel1 : panel0;
        struct k_unit *out = unpacked;
        for (int u = 0; u < units; u++, out++, unit += unit_bytes(type)) {
            UNROLL
            for (int b = 0; b < 8; b++) {
                const uint8_t *w = unit + head_bytes(type) + b * block_bytes(type);
                UNROLL
                for (int j = 0; j < 8; j++) out->block[b].w[j][half] = weights(type, w, j);
                for (int run = 0; run < 8 / run_length(type); run++)
                    out->block[b].scale[run][half] = load_scale(type, unit, b, run);
            }
            UNROLL
            for (int i = 0; i < n_mins(type); i++) out->mins[i][half] = load_mins(type, unit, i);
            out->d[half] = load_f16(unit);
            if (has_min(type)) out->dmin[half] = load_f16(unit + 16);
        }
    }
}

/* Adds one unpacked block times TILE_TOKENS tokens to the sums. */
AVX2_INLINE void tile_block(enum quant_type type, __m256 sum[TILE_TOKENS][2], const struct k_unit *unit, int b,
                            const uint8_t *acts)
{
    enum { T = TILE_TOKENS };
    const uint8_t *q = acts + 32 * T * b, *start = acts + ACT256_START(T) + 8 * T * b;
    __m256i c[T][2], block[T][2];
    UNROLL
    for (int j = 0; j < 8; j++) {
        __m256i w0 = unit->block[b].w[j][0], w1 = unit->block[b].w[j][1];
        UNROLL
        for (int t = 0; t < T; t++) {
            __m256i a = broadcast_32(q + 32 * t + 4 * j);
            c[t][0] = run_step(type, c[t][0], w0, a, start + 8 * t, j);
            c[t][1] = run_step(type, c[t][1], w1, a, start + 8 * t, j);
        }
        if (!run_ends(type, j)) continue;
        int run = j / run_length(type);
        UNROLL
        for (int t = 0; t < T; t++) UNROLL
        for (int half = 0; half < 2; half++) {
            __m256i v = _mm256_madd_epi16(c[t][half], unit->block[b].scale[run][half]);
            block[t][half] = run == 0 ? v : _mm256_add_epi32(block[t][half], v);
        }
    }
    UNROLL
    for (int t = 0; t < T; t++) {
        const uint8_t *d = acts + ACT256_D(T) + 4 * (b * T + t);
        sum[t][0] = add_block(sum[t][0], block[t][0], d);
        sum[t][1] = add_block(sum[t][1], block[t][1], d);
    }
}

AVX2_INLINE void tile(enum quant_type type, float *y0, float *y1, size_t y_stride, const void *unpacked,
                      const uint8_t *acts, size_t ahead, int units, bool first)
{
    enum { T = TILE_TOKENS };
    const struct k_unit *unit = unpacked;
    for (int u = 0; u < units; u++, unit++, acts += T * ACT256_BYTES) {
        __m256 sum[T][2];
        UNROLL
        for (int t = 0; t < T; t++) sum[t][0] = sum[t][1] = _mm256_setzero_ps();
        for (int b = 0; b < 8; b++) {
            const char *next = (const char *)(acts + ahead) + b * T * (ACT256_BYTES / 8);
            UNROLL
            for (int i = 0; i < T * ACT256_BYTES / 8; i += 64) _mm_prefetch(next + i, _MM_HINT_T0);
            tile_block(type, sum, unit, b, acts);
        }
        UNROLL
        for (int t = 0; t < T; t++) {
            __m256 f[2];
            UNROLL
            for (int half = 0; half < 2; half++) {
                __m256i min_sum = _mm256_setzero_si256();
                UNROLL
                for (int i = 0; i < n_mins(type); i++)
                    min_sum = mad_s16(min_sum, unit->mins[i][half], act_sums(type, acts, i, t, T));
                const float *y = (half ? y1 : y0) + (size_t)t * y_stride;
                f[half] = first && u == 0 ? _mm256_setzero_ps() : _mm256_loadu_ps(y);
                f[half] = add_unit(type, f[half], sum[t][half], min_sum, unit->d[half], unit->dmin[half], acts, t, T);
            }
            _mm256_storeu_ps(y0 + (size_t)t * y_stride, f[0]); /* after both loads: y1 may be y0 */
            _mm256_storeu_ps(y1 + (size_t)t * y_stride, f[1]);
        }
    }
}

/* Adds one block times n tokens to the sums, and the minimum terms that lie with it. */
AVX2_INLINE void small_block(enum quant_type type, int n, __m256 *sum, __m256i *min_sum, const uint8_t *unit, int b,
                             const uint8_t *acts)
{
    const uint8_t *w = unit + head_bytes(type) + b * block_bytes(type);
    const uint8_t *q = acts + 32 * n * b, *start = acts + ACT256_START(n) + 8 * n * b;
    UNROLL
    for (int i = 0; i < block_bytes(type); i += 64) _mm_prefetch((const char *)w + PREFETCH_BYTES + i, _MM_HINT_T0);
    __m256i c[SMALL_MAX], block[SMALL_MAX];
    UNROLL
    for (int j = 0; j < 8; j++) {
        __m256i v = weights(type, w, j);
        UNROLL
        for (int t = 0; t < n; t++) c[t] = run_step(type, c[t], v, broadcast_32(q + 32 * t + 4 * j), start + 8 * t, j);
        if (!run_ends(type, j)) continue;
        int run = j / run_length(type);
        __m256i scale = load_scale(type, unit, b, run);
        UNROLL
        for (int t = 0; t < n; t++) {
            __m256i scaled = _mm256_madd_epi16(c[t], scale);
            block[t] = run == 0 ? scaled : _mm256_add_epi32(block[t], scaled);
        }
    }
    UNROLL
    for (int t = 0; t < n; t++) sum[t] = add_block(sum[t], block[t], acts + ACT256_D(n) + 4 * (b * n + t));
    if (has_min(type) && (!has_wide_scales(type) || b % 2 == 1)) {
        int i = has_wide_scales(type) ? b / 2 : b;
        __m256i mins = load_mins(type, unit, i);
        UNROLL
        for (int t = 0; t < n; t++) min_sum[t] = mad_s16(min_sum[t], mins, act_sums(type, acts, i, t, n));
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
        for (int u = 0; u < units; u++, a += ACT256_BYTES * n, unit += unit_bytes(type)) {
            __m256 sum[SMALL_MAX];
            __m256i min_sum[SMALL_MAX];
            UNROLL
            for (int t = 0; t < n; t++) {
                sum[t] = _mm256_setzero_ps();
                min_sum[t] = _mm256_setzero_si256();
            }
            for (int b = 0; b < 8; b += 2) { /* by two: odd and even blocks differ in their constants */
                small_block(type, n, sum, min_sum, unit, b, a);
                small_block(type, n, sum, min_sum, unit, b + 1, a);
            }
            __m256 d = load_f16(unit), dmin = load_f16(unit + 16);
            UNROLL
            for (int t = 0; t < n; t++) f[t] = add_unit(type, f[t], sum[t], min_sum[t], d, dmin, a, t, n);
        }
        UNROLL
        for (int t = 0; t < n; t++) _mm256_storeu_ps(y + (size_t)t * y_stride, f[t]);
    }
}

MATMUL_TYPE(q2_k, QUANT_Q2_K, 256, 672, ACT256_BYTES, CHUNK_UNITS)
MATMUL_TYPE(q3_k, QUANT_Q3_K, 256, 912, ACT256_BYTES, CHUNK_UNITS)
MATMUL_TYPE(q4_k, QUANT_Q4_K, 256, 1184, ACT256_BYTES, CHUNK_UNITS)
MATMUL_TYPE(q5_k, QUANT_Q5_K, 256, 1440, ACT256_BYTES, CHUNK_UNITS)
MATMUL_TYPE(q6_k, QUANT_Q6_K, 256, 1680, ACT256_BYTES, CHUNK_UNITS)

void matmul_k_init_avx2(struct kernels *k)
{
    k->matmul[QUANT_Q2_K] = MATMUL_ROW(q2_k, ACT256, 256);
    k->matmul[QUANT_Q3_K] = MATMUL_ROW(q3_k, ACT256, 256);
    k->matmul[QUANT_Q4_K] = MATMUL_ROW(q4_k, ACT256, 256);
    k->matmul[QUANT_Q5_K] = MATMUL_ROW(q5_k, ACT256, 256);
    k->matmul[QUANT_Q6_K] = MATMUL_ROW(q6_k, ACT256, 256);
}
