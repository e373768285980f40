/* Unit tests of quant: sizes, the half-width floats over their whole range, and the table of formats. Values of blocks
 * are compared with the Python package in tests/compare/test_quant.py. */
#include <math.h>
#include <string.h>

#include "quant/blocks.h"
#include "quant/quant.h"
#include "unit.h"

static const enum quant_type weights[] = {
    QUANT_F32,  QUANT_F16,  QUANT_BF16, QUANT_Q4_0, QUANT_Q4_1, QUANT_Q5_0,   QUANT_Q5_1,   QUANT_Q8_0,
    QUANT_Q2_K, QUANT_Q3_K, QUANT_Q4_K, QUANT_Q5_K, QUANT_Q6_K, QUANT_IQ4_NL, QUANT_IQ4_XS, QUANT_MXFP4,
};
#define N_WEIGHTS (sizeof weights / sizeof *weights)

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

START_TEST(every_weight_type_has_a_format)
{
    for (size_t i = 0; i < N_WEIGHTS; i++) {
        const struct quant_format *f = quant_format_get((uint32_t)weights[i]);
        ck_assert_ptr_nonnull(f);
        ck_assert_ptr_nonnull(f->name);
        ck_assert(f->unpack != NULL);
        ck_assert_uint_gt(f->block_len, 0);
        ck_assert_uint_gt(f->block_bytes, 0);
    }
}
END_TEST

START_TEST(unknown_ids_have_no_format)
{
    const uint32_t unknown[] = {4, 5, 9, 15, 16, 31, 38, 40, 41, 1000, UINT32_MAX};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) ck_assert_ptr_null(quant_format_get(unknown[i]));
}
END_TEST

START_TEST(row_bytes_refuses_partial_blocks_and_overflow)
{
    size_t bytes = 0;
    ck_assert(quant_row_bytes(&bytes, QUANT_Q4_K, 512));
    ck_assert_uint_eq(bytes, 288);
    ck_assert(quant_row_bytes(&bytes, QUANT_F32, 0));
    ck_assert_uint_eq(bytes, 0);
    ck_assert(!quant_row_bytes(&bytes, QUANT_Q4_K, 511));
    ck_assert(!quant_row_bytes(&bytes, QUANT_Q8_0, SIZE_MAX / 32 * 32));
    ck_assert(!quant_row_bytes(&bytes, QUANT_F32, SIZE_MAX / 2));
    ck_assert(!quant_row_bytes(&bytes, (enum quant_type)5, 32));
}
END_TEST

START_TEST(f16_round_trips_every_value)
{
    for (uint32_t h = 0; h < 65536; h++) {
        float f = quant_f16_to_f32((uint16_t)h);
        uint16_t back = quant_f32_to_f16(f);
        if (isnan(f)) {
            ck_assert_uint_eq(back & 0x7c00, 0x7c00);
            ck_assert_uint_ne(back & 0x3ff, 0);
        } else {
            ck_assert_uint_eq(back, h);
        }
    }
}
END_TEST

START_TEST(f16_rounds_to_nearest_even)
{
    /* Halfway between two neighbours the even one wins; a hair above, the upper one. */
    for (uint32_t h = 0; h < 0x7bff; h++) {
        double low = (double)quant_f16_to_f32((uint16_t)h), high = (double)quant_f16_to_f32((uint16_t)(h + 1));
        float middle = (float)((low + high) / 2);
        ck_assert_uint_eq(quant_f32_to_f16(middle), h % 2 ? h + 1 : h);
        ck_assert_uint_eq(quant_f32_to_f16(nextafterf(middle, INFINITY)), h + 1);
        ck_assert_uint_eq(quant_f32_to_f16(nextafterf(middle, 0)), h);
        ck_assert_uint_eq(quant_f32_to_f16(-middle), 0x8000 | (h % 2 ? h + 1 : h));
    }
    ck_assert_uint_eq(quant_f32_to_f16(65519.0f), 0x7bff);
    ck_assert_uint_eq(quant_f32_to_f16(65520.0f), 0x7c00);
    ck_assert_uint_eq(quant_f32_to_f16(1e30f), 0x7c00);
    ck_assert_uint_eq(quant_f32_to_f16(-1e-30f), 0x8000);
}
END_TEST

START_TEST(bf16_rounds_to_nearest_even_and_keeps_nan)
{
    ck_assert_uint_eq(quant_f32_to_bf16(1.0f), 0x3f80);
    ck_assert_uint_eq(quant_f32_to_bf16(1.00390625f), 0x3f80);   /* tie, down to even */
    ck_assert_uint_eq(quant_f32_to_bf16(1.01171875f), 0x3f82);   /* tie, up to even */
    ck_assert_uint_eq(quant_f32_to_bf16(3.4028235e38f), 0x7f80); /* over the largest: infinity */
    ck_assert(isnan(quant_bf16_to_f32(quant_f32_to_bf16(NAN))));
    for (uint32_t h = 0; h < 65536; h++) {
        float f = quant_bf16_to_f32((uint16_t)h);
        if (!isnan(f)) ck_assert_uint_eq(quant_f32_to_bf16(f), h);
    }
}
END_TEST

START_TEST(e8m0_halves_are_powers_of_two)
{
    for (int e = 0; e < 255; e++) ck_assert(quant_e8m0_half_to_f32((uint8_t)e) == (float)ldexp(1.0, e - 128));
}
END_TEST

START_TEST(unpack_reads_exactly_its_blocks_at_odd_addresses)
{
    for (size_t i = 0; i < N_WEIGHTS; i++) {
        const struct quant_format *f = quant_format_get((uint32_t)weights[i]);
        size_t n = (size_t)f->block_len * 3, bytes = (size_t)f->block_bytes * 3;
        uint8_t *exact = malloc(bytes + 1); /* ASan guards its end */
        for (size_t k = 0; k <= bytes; k++) exact[k] = (uint8_t)(k * 7 + 3);
        float *odd = malloc((n + 1) * sizeof *odd), *even = malloc(n * sizeof *even);
        odd[n] = 42;
        f->unpack(odd, exact + 1, n);
        memmove(exact, exact + 1, bytes);
        f->unpack(even, exact, n);
        for (size_t k = 0; k < n; k++) ck_assert_uint_eq(bits_of(odd[k]), bits_of(even[k]));
        ck_assert(odd[n] == 42);
        free(exact);
        free(odd);
        free(even);
    }
}
END_TEST

START_TEST(scales_of_six_bits_are_found)
{
    /* Scale g = g + 40 and min g = 63 - g, packed by hand in the K formats' order. */
    uint8_t packed[12] = {0};
    for (int g = 0; g < 8; g++) {
        int scale = g + 40, min = 63 - g;
        if (g < 4) {
            packed[g] |= (uint8_t)scale;
            packed[g + 4] |= (uint8_t)min;
        } else {
            packed[g + 4] |= (uint8_t)((scale & 15) | (min & 15) << 4);
            packed[g - 4] |= (uint8_t)(scale >> 4 << 6);
            packed[g] |= (uint8_t)(min >> 4 << 6);
        }
    }
    for (int g = 0; g < 8; g++) {
        uint8_t scale, min;
        quant_scale_min(&scale, &min, packed, g);
        ck_assert_int_eq(scale, g + 40);
        ck_assert_int_eq(min, 63 - g);
    }
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_test(tc, every_weight_type_has_a_format);
    tcase_add_test(tc, unknown_ids_have_no_format);
    tcase_add_test(tc, row_bytes_refuses_partial_blocks_and_overflow);
    tcase_add_test(tc, f16_round_trips_every_value);
    tcase_add_test(tc, f16_rounds_to_nearest_even);
    tcase_add_test(tc, bf16_rounds_to_nearest_even_and_keeps_nan);
    tcase_add_test(tc, e8m0_halves_are_powers_of_two);
    tcase_add_test(tc, unpack_reads_exactly_its_blocks_at_odd_addresses);
    tcase_add_test(tc, scales_of_six_bits_are_found);
}

UNIT_MAIN("quant", add)
