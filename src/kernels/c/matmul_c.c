/* matmul_c: products with panels in plain C, any CPU. Activations are blocks of 32 int8 with a scale and the sums of
 * their halves. A block of the panel is expanded to int16 once and used for all tokens; every token adds the blocks'
 * products to y in k order, so that results do not depend on m. */
#include <math.h>
#include <string.h>

#include "kernels/kernels_internal.h"

struct act_block {
    float scale;
    int32_t sums[2]; /* of k 0-15 and 16-31 */
    int8_t q[BLOCK_LEN];
};

static size_t act_bytes(int m, int k)
{
    return (size_t)m * (size_t)(k / BLOCK_LEN) * sizeof(struct act_block);
}

static void quantize_block(struct act_block *b, const float *x)
{
    float max = 0;
    for (int i = 0; i < BLOCK_LEN; i++) max = fabsf(x[i]) > max ? fabsf(x[i]) : max;
    float inverse = max > 1e-30f ? 127.0f / max : 0;
    b->scale = max > 1e-30f ? max / 127.0f : 0;
    b->sums[0] = b->sums[1] = 0;
    for (int i = 0; i < BLOCK_LEN; i++) {
        float v = x[i] * inverse;
        v = v < -127.0f ? -127.0f : v > 127.0f ? 127.0f : v == v ? v : 0; /* a NaN must not reach the conversion */
        int q = (int)lrintf(v);
        b->q[i] = (int8_t)q;
        b->sums[i / 16] += q;
    }
}

static void quantize(void *acts, const float *x, size_t x_stride, int m, int k, int from, int to)
{
    (void)m;
    int n_blocks = k / BLOCK_LEN;
    for (int t = from; t < to; t++) {
        struct act_block *b = (struct act_block *)acts + (size_t)t * (size_t)n_blocks;
        for (int i = 0; i < n_blocks; i++) quantize_block(&b[i], x + (size_t)t * x_stride + (size_t)i * BLOCK_LEN);
    }
}

static void restore(float *x, const void *acts, int m, int k, int token)
{
    (void)m;
    const struct act_block *b = (const struct act_block *)acts + (size_t)token * (size_t)(k / BLOCK_LEN);
    for (int i = 0; i < k; i++) x[i] = (float)b[i / BLOCK_LEN].q[i % BLOCK_LEN] * b[i / BLOCK_LEN].scale;
}

/* ---- one block of a panel, expanded ---- */
struct block_values {
    int16_t w[BLOCK_LEN][PANEL_ROWS]; /* q - offset, or the table's value */
    float scale[2][PANEL_ROWS], min[2][PANEL_ROWS];
};

static uint8_t code_get(const uint8_t *block, int bits, int k, int r)
{
    int j = k / 4, byte = r * 4 + k % 4;
    if (bits == 8) return block[j * 64 + byte];
    if (bits == 2 || bits == 3) {
        int q = block[j / 4 * 64 + byte] >> j % 4 * 2 & 3;
        if (bits == 3) q |= (block[128 + byte] >> j & 1) << 2;
        return (uint8_t)q;
    }
    int q = block[j % 4 * 64 + byte] >> j / 4 * 4 & 15;
    if (bits == 5) q |= (block[256 + byte] >> j & 1) << 4;
    if (bits == 6) q |= (block[256 + j / 4 * 64 + byte] >> j % 4 * 2 & 3) << 4;
    return (uint8_t)q;
}

static inline void expand_codes(struct block_values *v, const uint8_t *block, struct panel_form form)
{
    for (int k = 0; k < BLOCK_LEN; k++)
        for (int r = 0; r < PANEL_ROWS; r++) {
            int q = code_get(block, form.bits, k, r);
            v->w[k][r] = (int16_t)(form.table ? form.table[q] : q - form.offset);
        }
}

static float f16_at(const uint8_t *p, int r)
{
    uint16_t h;
    memcpy(&h, p + r * 2, sizeof h);
    return quant_f16_to_f32(h);
}

/* Scales of block i of the unit. */
static inline void expand_scales(struct block_values *v, const uint8_t *unit, int i, enum panel_scales scales)
{
    for (int r = 0; r < PANEL_ROWS; r++) {
        float d = scales == SCALES_E8M0 ? quant_e8m0_half_to_f32(unit[r]) : f16_at(unit, r);
        float m = panel_has_min(scales) ? f16_at(unit + 32, r) : 0;
        for (int h = 0; h < 2; h++) {
            float scale = d, min = m;
            if (scales == SCALES_K32) scale = d * (float)(int8_t)unit[32 + i * 16 + r];
            if (scales == SCALES_K16) scale = d * (float)(int8_t)unit[32 + (2 * i + h) * 16 + r];
            if (scales == SCALES_K32_MIN) {
                scale = d * (float)unit[64 + i * 32 + r];
                min = m * (float)unit[64 + i * 32 + 16 + r];
            }
            if (scales == SCALES_K16_MIN) {
                scale = d * (float)(unit[64 + (2 * i + h) * 16 + r] & 15);
                min = m * (float)(unit[64 + (2 * i + h) * 16 + r] >> 4);
            }
            v->scale[h][r] = scale;
            v->min[h][r] = min;
        }
    }
}

/* sums[r] = sum of w[k][r] * q[k] over half a block. */
static void dot_half(int32_t *sums, const int16_t (*w)[PANEL_ROWS], const int8_t *q)
{
    for (int r = 0; r < PANEL_ROWS; r++) sums[r] = 0;
    for (int k = 0; k < BLOCK_LEN / 2; k++)
        for (int r = 0; r < PANEL_ROWS; r++) sums[r] += (int32_t)w[k][r] * q[k];
}

static inline void block_mul_add(float *y, const struct block_values *v, const struct act_block *a,
                                 enum panel_scales scales)
{
    int32_t sums[2][PANEL_ROWS];
    dot_half(sums[0], v->w, a->q);
    dot_half(sums[1], v->w + BLOCK_LEN / 2, a->q + BLOCK_LEN / 2);
    float s[2] = {a->scale * (float)a->sums[0], a->scale * (float)a->sums[1]};
    for (int r = 0; r < PANEL_ROWS; r++) {
        if (panel_is_split(scales)) {
            y[r] += (float)sums[0][r] * (v->scale[0][r] * a->scale);
            y[r] += (float)sums[1][r] * (v->scale[1][r] * a->scale);
        } else {
            y[r] += (float)(sums[0][r] + sums[1][r]) * (v->scale[0][r] * a->scale);
        }
        if (panel_has_min(scales)) y[r] -= v->min[0][r] * s[0] + v->min[1][r] * s[1];
    }
}

static inline void matmul(float *y, size_t y_stride, const uint8_t *panel, const struct act_block *acts, int m, int k,
                          enum quant_type type)
{
    struct panel_form form = panel_form_get(type);
    int n_blocks = k / BLOCK_LEN, unit_blocks = panel_unit_blocks(form.scales);
    const uint8_t *scales = panel + panel_code_bytes(form, k);
    for (int t = 0; t < m; t++) memset(y + (size_t)t * y_stride, 0, PANEL_ROWS * sizeof *y);
    for (int b = 0; b < n_blocks; b++) {
        struct block_values v;
        expand_codes(&v, panel + (size_t)b * (size_t)form.bits * 64, form);
        expand_scales(&v, scales + (b / unit_blocks) * panel_scale_bytes(form.scales), b % unit_blocks, form.scales);
        for (int t = 0; t < m; t++)
            block_mul_add(y + (size_t)t * y_stride, &v, &acts[(size_t)t * (size_t)n_blocks + (size_t)b], form.scales);
    }
}

/* ---- float weights: activations are copied as they are ---- */

static size_t act_float_bytes(int m, int k)
{
    return (size_t)m * (size_t)k * sizeof(float);
}

static void copy_floats(void *acts, const float *x, size_t x_stride, int m, int k, int from, int to)
{
    (void)m;
    for (int t = from; t < to; t++)
        memcpy((float *)acts + (size_t)t * (size_t)k, x + (size_t)t * x_stride, (size_t)k * sizeof(float));
}

static void restore_floats(float *x, const void *acts, int m, int k, int token)
{
    (void)m;
    memcpy(x, (const float *)acts + (size_t)token * (size_t)k, (size_t)k * sizeof(float));
}

static inline float element_get(const uint8_t *p, size_t i, enum quant_type type)
{
    float f;
    uint16_t h;
    if (type == QUANT_F32) {
        memcpy(&f, p + i * 4, 4);
        return f;
    }
    memcpy(&h, p + i * 2, 2);
    return type == QUANT_F16 ? quant_f16_to_f32(h) : quant_bf16_to_f32(h);
}

#define FLOAT_CHUNK 64

static inline void matmul_float(float *y, size_t y_stride, const uint8_t *panel, const float *acts, int m, int k,
                                enum quant_type type)
{
    for (int t = 0; t < m; t++) memset(y + (size_t)t * y_stride, 0, PANEL_ROWS * sizeof *y);
    for (int from = 0; from < k; from += FLOAT_CHUNK) {
        float w[FLOAT_CHUNK][PANEL_ROWS];
        int n = k - from < FLOAT_CHUNK ? k - from : FLOAT_CHUNK;
        for (int i = 0; i < n * PANEL_ROWS; i++)
            w[i / PANEL_ROWS][i % PANEL_ROWS] = element_get(panel, (size_t)from * PANEL_ROWS + (size_t)i, type);
        for (int t = 0; t < m; t++) {
            const float *x = acts + (size_t)t * (size_t)k + from;
            float *out = y + (size_t)t * y_stride;
            for (int i = 0; i < n; i++)
                for (int r = 0; r < PANEL_ROWS; r++) out[r] += w[i][r] * x[i];
        }
    }
}

#define DEFINE_MATMUL(name)                                                                                            \
    static void matmul_##name(float *y, size_t y_stride, const void *panels, const void *acts, int m, int k, int from, \
                              int to, void *scratch)                                                                   \
    {                                                                                                                  \
        (void)scratch;                                                                                                 \
        size_t bytes = panel_bytes_of(panel_form_get(QUANT_##name), k);                                                \
        for (int p = from; p < to; p++)                                                                                \
            matmul(y + (size_t)p * PANEL_ROWS, y_stride, (const uint8_t *)panels + (size_t)p * bytes, acts, m, k,      \
                   QUANT_##name);                                                                                      \
    }
PANEL_TYPES(DEFINE_MATMUL)

#define DEFINE_MATMUL_FLOAT(name)                                                                                      \
    static void matmul_##name(float *y, size_t y_stride, const void *panels, const void *acts, int m, int k, int from, \
                              int to, void *scratch)                                                                   \
    {                                                                                                                  \
        (void)scratch;                                                                                                 \
        size_t bytes = panel_float_bytes(QUANT_##name == QUANT_F32 ? 4 : 2, k);                                        \
        for (int p = from; p < to; p++)                                                                                \
            matmul_float(y + (size_t)p * PANEL_ROWS, y_stride, (const uint8_t *)panels + (size_t)p * bytes, acts, m,   \
                         k, QUANT_##name);                                                                             \
    }
PANEL_FLOAT_TYPES(DEFINE_MATMUL_FLOAT)

static uint64_t probe_int8(int rounds)
{
    int32_t sums[PANEL_ROWS];
    int16_t w[BLOCK_LEN / 2][PANEL_ROWS];
    int8_t q[BLOCK_LEN / 2];
    volatile int32_t sink = 0;
    for (int i = 0; i < BLOCK_LEN / 2 * PANEL_ROWS; i++) w[i / PANEL_ROWS][i % PANEL_ROWS] = (int16_t)(i % 255 - 127);
    for (int i = 0; i < BLOCK_LEN / 2; i++) q[i] = (int8_t)i;
    for (int i = 0; i < rounds; i++) {
        q[i % (BLOCK_LEN / 2)] = (int8_t)i;
        dot_half(sums, (const int16_t(*)[PANEL_ROWS])w, q);
        sink += sums[i % PANEL_ROWS];
    }
    return (uint64_t)rounds * (BLOCK_LEN / 2) * PANEL_ROWS;
}

static uint64_t probe_f32(int rounds)
{
    float y[32];
    for (int i = 0; i < 32; i++) y[i] = (float)i;
    for (int i = 0; i < rounds; i++)
        for (int j = 0; j < 32; j++) y[j] = y[j] * 0.5f + 1.0f;
    volatile float sink = y[rounds & 31];
    (void)sink;
    return (uint64_t)rounds * 32;
}

void kernels_fill_c(struct kernels *k)
{
    kernels_fill_panels(k);
    k->act[0] = (struct act_format){act_bytes, quantize, restore};
    k->act[1] = (struct act_format){act_float_bytes, copy_floats, restore_floats};
    k->matmul_scratch_bytes = 64;
#define SET_MATMUL(name)             \
    k->matmul[QUANT_##name].act = 0; \
    k->matmul[QUANT_##name].matmul = matmul_##name;
    PANEL_TYPES(SET_MATMUL)
#define SET_MATMUL_FLOAT(name)       \
    k->matmul[QUANT_##name].act = 1; \
    k->matmul[QUANT_##name].matmul = matmul_##name;
    PANEL_FLOAT_TYPES(SET_MATMUL_FLOAT)
    k->probe_int8 = probe_int8;
    k->probe_f32 = probe_f32;
    kernels_fill_c_attention(k);
    kernels_fill_c_elementwise(k);
}
