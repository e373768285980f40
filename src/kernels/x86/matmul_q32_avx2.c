/* matmul_q32_avx2: products of the types with one float scale per 32 weights and at most 5 bits: Q4_0, Q4_1, Q5_0,
 * Q5_1, MXFP4; activations act8.
 *
 * A unit of a panel (32 values of 8 rows; GGUF's size):
 *   scales   f16 [8] (MXFP4: the exponent bytes [8]) | Q4_1, Q5_1: mins f16 [8]
 *   nibbles  4 vectors: low halves = vector j, high halves = vector j + 4 of the block
 *   bits     Q5_0, Q5_1: 1 vector, bit j of its bytes = bit 4 of vector j
 *
 * vpmaddubsw gives int16 pairs, which are added in int16: a RUN of them, then one vpmaddwd. With an offset (q - 8,
 * q - 16, MXFP4 q - 12) the accumulator starts at -offset * sum(a), see matmul_avx2.h: the largest centred sum is
 * 16 * 127 * 16 = 32512. Without one, 15 * 127 * 16 fits too; Q5_1's 31 * 127 * 16 does not, so it has two runs. */
#include "kernels/x86/matmul_avx2.h"
#include "kernels/x86/pack_avx2.h"
#include "kernels/x86/simd_avx2.h"

#define CHUNK_UNITS 24
#define PREFETCH_BYTES 2048

/* One block of two panels, unpacked. */
struct q32_block {
    __m256i w[8][2]; /* u8, offset included */
    __m256 d[2], m[2];
};
_Static_assert(CHUNK_UNITS * sizeof(struct q32_block) <= MATMUL_SCRATCH_BYTES, "scratch");

AVX2_INLINE bool has_min(enum quant_type type)
{
    return type == QUANT_Q4_1 || type == QUANT_Q5_1;
}

AVX2_INLINE int head_bytes(enum quant_type type)
{
    return type == QUANT_MXFP4 ? 8 : has_min(type) ? 32 : 16;
}

AVX2_INLINE int unit_bytes(enum quant_type type)
{
    return head_bytes(type) + 128 + (type == QUANT_Q5_0 || type == QUANT_Q5_1 ? 32 : 0);
}

/* Vectors that are summed in int16. */
AVX2_INLINE int run_length(enum quant_type type)
{
    return type == QUANT_Q5_1 ? 4 : 8;
}

/* Vector j of a block as u8; w: its nibbles. */
AVX2_INLINE __m256i weights(enum quant_type type, const uint8_t *w, int j)
{
    const __m256i codes = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0)); /* MXFP4's values + 12 */
    int i = j & 3;
    __m256i v = load_256(w + 32 * i);
    v = _mm256_and_si256(j < 4 ? v : _mm256_srli_epi16(v, 4), _mm256_set1_epi8(15));
    if (type == QUANT_MXFP4) return _mm256_shuffle_epi8(codes, v);
    if (type == QUANT_Q5_0 || type == QUANT_Q5_1) {
        __m256i bits = load_256(w + 128);
        bits = j < 4 ? _mm256_slli_epi16(bits, 4 - i) : _mm256_srli_epi16(bits, i);
        v = _mm256_or_si256(v, _mm256_and_si256(bits, _mm256_set1_epi8(16)));
    }
    return v;
}

/* 2^(e - 128) of eight exponent bytes; 2^-127 and 2^-128 are subnormal. */
AVX2_INLINE __m256 load_e8m0(const uint8_t *p)
{
    __m256i e = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)), one = _mm256_set1_epi32(1);
    __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, one), 23);
    __m256i subnormal = _mm256_srlv_epi32(_mm256_set1_epi32(0x00400000), _mm256_sub_epi32(one, e));
    return _mm256_castsi256_ps(_mm256_blendv_epi8(subnormal, normal, _mm256_cmpgt_epi32(e, one)));
}

AVX2_INLINE __m256 load_scales(enum quant_type type, const uint8_t *unit)
{
    return type == QUANT_MXFP4 ? load_e8m0(unit) : load_f16(unit);
}

/* -offset * sum(a) of a token, as int16 pairs; `start` holds -8 times the sums. */
AVX2_INLINE __m256i start_sum(enum quant_type type, const uint8_t *start)
{
    __m256i s = broadcast_32(start);
    if (type == QUANT_Q5_0) return _mm256_add_epi16(s, s);
    if (type == QUANT_MXFP4) return _mm256_add_epi16(s, _mm256_srai_epi16(s, 1));
    return s;
}

/* Adds a block's integer sum to 8 outputs. Every path goes through here: same operations, same order. */
AVX2_INLINE __m256 add_block(enum quant_type type, __m256 f, __m256i sum, __m256 d, __m256 m, __m256 act_d,
                             const uint8_t *dsum)
{
    f = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(d, act_d), f);
    return has_min(type) ? _mm256_fmadd_ps(m, broadcast_f32(dsum), f) : f;
}

/* int16 sum of a run; its first vector starts it, at the offset where the type has one. */
AVX2_INLINE __m256i run_step(enum quant_type type, __m256i c, __m256i w, __m256i a, const uint8_t *start, int j)
{
    if (j % run_length(type) != 0) return mad_u8s8(c, w, a);
    return has_min(type) ? _mm256_maddubs_epi16(w, a) : mad_u8s8(start_sum(type, start), w, a);
}

/* Closes a run after vector j: the int32 sum so far. */
AVX2_INLINE __m256i run_end(enum quant_type type, __m256i sum, __m256i c, int j)
{
    __m256i s = _mm256_madd_epi16(c, _mm256_set1_epi16(1));
    return j >= run_length(type) ? _mm256_add_epi32(sum, s) : s;
}

AVX2_INLINE void unpack(enum quant_type type, void *unpacked, const uint8_t *panel0, const uint8_t *panel1, int units)
{
    struct q32_block *out = unpacked;
    for (int half = 0; half < 2; half++) {
        const uint8_t *unit = half ? panel1 : panel0;
        for (int u = 0; u < units; u++, unit += unit_bytes(type)) {
            UNROLL
            for (int j = 0; j < 8; j++) out[u].w[j][half] = weights(type, unit + head_bytes(type), j);
            out[u].d[half] = load_scales(type, unit);
            if (has_min(type)) out[u].m[half] = load_f16(unit + 16);
        }
    }
}

AVX2_INLINE void tile(enum quant_type type, float *y0, float *y1, size_t y_stride, const void *unpacked,
                      const uint8_t *acts, size_t ahead, int units, bool first)
{
    enum { T = TILE_TOKENS };
    __m256 f[T][2];
    UNROLL
    for (int t = 0; t < T; t++) {
        f[t][0] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(y0 + (size_t)t * y_stride);
        f[t][1] = first ? _mm256_setzero_ps() : _mm256_loadu_ps(y1 + (size_t)t * y_stride);
    }
    const struct q32_block *b = unpacked;
    for (int u = 0; u < units; u++, b++, acts += T * ACT8_BYTES) {
        __m256i c[T][2], sum[T][2];
        UNROLL
        for (int i = 0; i < T * ACT8_BYTES; i += 64) _mm_prefetch((const char *)(acts + ahead) + i, _MM_HINT_T0);
        UNROLL
        for (int j = 0; j < 8; j++) {
            __m256i w0 = b->w[j][0], w1 = b->w[j][1];
            UNROLL
            for (int t = 0; t < T; t++) {
                const uint8_t *start = acts + ACT8_START(T) + 4 * t;
                __m256i a = broadcast_32(acts + 32 * t + 4 * j);
                c[t][0] = run_step(type, c[t][0], w0, a, start, j);
                c[t][1] = run_step(type, c[t][1], w1, a, start, j);
                if (j % run_length(type) == run_length(type) - 1) {
                    sum[t][0] = run_end(type, sum[t][0], c[t][0], j);
                    sum[t][1] = run_end(type, sum[t][1], c[t][1], j);
                }
            }
        }
        UNROLL
        for (int t = 0; t < T; t++) {
            __m256 act_d = broadcast_f32(acts + ACT8_D(T) + 4 * t);
            const uint8_t *dsum = acts + ACT8_DSUM(T) + 4 * t;
            f[t][0] = add_block(type, f[t][0], sum[t][0], b->d[0], b->m[0], act_d, dsum);
            f[t][1] = add_block(type, f[t][1], sum[t][1], b->d[1], b->m[1], act_d, dsum);
        }
    }
    UNROLL
    for (int t = 0; t < T; t++) {
        _mm256_storeu_ps(y0 + (size_t)t * y_stride, f[t][0]);
        _mm256_storeu_ps(y1 + (size_t)t * y_stride, f[t][1]);
    }
}

/* `n` (a constant) tokens times n_panels panels. */
AVX2_INLINE void small(enum quant_type type, int n, float *y, size_t y_stride, const uint8_t *unit, const uint8_t *acts,
                       int n_panels, int units)
{
    for (int p = 0; p < n_panels; p++, y += AVX2_ROWS) {
        __m256 f[SMALL_MAX];
        UNROLL
        for (int t = 0; t < n; t++) f[t] = _mm256_setzero_ps();
        const uint8_t *a = acts;
        for (int u = 0; u < units; u++, a += ACT8_BYTES * n, unit += unit_bytes(type)) {
            __m256i c[SMALL_MAX], sum[SMALL_MAX];
            _mm_prefetch((const char *)unit + PREFETCH_BYTES, _MM_HINT_T0);
            _mm_prefetch((const char *)unit + PREFETCH_BYTES + 64, _MM_HINT_T0);
            UNROLL
            for (int j = 0; j < 8; j++) {
                __m256i w = weights(type, unit + head_bytes(type), j);
                UNROLL
                for (int t = 0; t < n; t++) {
                    c[t] = run_step(type, c[t], w, broadcast_32(a + 32 * t + 4 * j), a + ACT8_START(n) + 4 * t, j);
                    if (j % run_length(type) == run_length(type) - 1) sum[t] = run_end(type, sum[t], c[t], j);
                }
            }
            __m256 d = load_scales(type, unit), m = has_min(type) ? load_f16(unit + 16) : d;
            UNROLL
            for (int t = 0; t < n; t++) {
                __m256 act_d = broadcast_f32(a + ACT8_D(n) + 4 * t);
                f[t] = add_block(type, f[t], sum[t], d, m, act_d, a + ACT8_DSUM(n) + 4 * t);
            }
        }
        UNROLL
        for (int t = 0; t < n; t++) _mm256_storeu_ps(y + (size_t)t * y_stride, f[t]);
    }
}

MATMUL_TYPE(q4_0, QUANT_Q4_0, 32, 144, ACT8_BYTES, CHUNK_UNITS)
MATMUL_TYPE(q4_1, QUANT_Q4_1, 32, 160, ACT8_BYTES, CHUNK_UNITS)
MATMUL_TYPE(q5_0, QUANT_Q5_0, 32, 176, ACT8_BYTES, CHUNK_UNITS)
MATMUL_TYPE(q5_1, QUANT_Q5_1, 32, 192, ACT8_BYTES, CHUNK_UNITS)
MATMUL_TYPE(mxfp4, QUANT_MXFP4, 32, 136, ACT8_BYTES, CHUNK_UNITS)

void matmul_q32_init_avx2(struct kernels *k)
{
    k->matmul[QUANT_Q4_0] = MATMUL_ROW(q4_0, ACT8, 32);
    k->matmul[QUANT_Q4_1] = MATMUL_ROW(q4_1, ACT8, 32);
    k->matmul[QUANT_Q5_0] = MATMUL_ROW(q5_0, ACT8, 32);
    k->matmul[QUANT_Q5_1] = MATMUL_ROW(q5_1, ACT8, 32);
    k->matmul[QUANT_MXFP4] = MATMUL_ROW(mxfp4, ACT8, 32);
}
