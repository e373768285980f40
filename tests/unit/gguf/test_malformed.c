/* Unit tests of gguf: damaged and hostile files are refused, and the error names what is wrong. */
#include "gguf/gguf_internal.h"
#include "gguf_writer.h"
#include "unit.h"

/* Opening the bytes fails with a message that holds `part`. The copy ends where the bytes end (ASan). */
static void refuse(struct buf *b, const char *part)
{
    struct err e = {0};
    void *copy = malloc(b->len ? b->len : 1);
    if (b->len) memcpy(copy, b->ptr, b->len);
    struct gguf *g = gguf_open_memory(copy, b->len, &e);
    ck_assert_msg(g == NULL, "opened, but expected: %s", part);
    ck_assert_int_eq(e.kind, ERR_CORRUPT);
    ck_assert_msg(strstr(e.msg, part) != NULL, "\"%s\" lacks \"%s\"", e.msg, part);
    free(copy);
    buf_clear(b);
}

START_TEST(headers_that_are_no_gguf)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    refuse(&b, "not a GGUF file");
    put(&b, "GGU", 3);
    refuse(&b, "not a GGUF file");
    put(&b, "GGML\3\0\0\0", 8);
    refuse(&b, "not a GGUF file");
    put(&b, "GGUF\3", 5);
    refuse(&b, "header is cut off");
    put_head(&b, 1, 0, 0);
    refuse(&b, "version 1 is not supported (supported: 2 and 3)");
    put_head(&b, 0, 0, 0);
    refuse(&b, "version 0 is not supported");
    put_head(&b, 4, 0, 0);
    refuse(&b, "version 4 is not supported");
    put_head(&b, 3u << 24, 0, 0);
    refuse(&b, "big-endian");
    put_head(&b, 3, 0, 0);
    b.len -= 1;
    refuse(&b, "header is cut off");
    buf_deinit(&b);
}
END_TEST

START_TEST(absurd_counts)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    put_head(&b, 3, 0, UINT64_MAX);
    refuse(&b, "18446744073709551615 metadata keys do not fit");
    put_head(&b, 3, 0, 10);
    put_kv_u32(&b, "one", 1);
    refuse(&b, "10 metadata keys do not fit");
    put_head(&b, 3, UINT64_MAX / 2, 0);
    refuse(&b, "tensors do not fit");
    put_head(&b, 3, 2, 0);
    put_tensor(&b, "a", QUANT_F32, 1, 1, 0);
    refuse(&b, "2 tensors do not fit");
    put_head(&b, 3, 0, 1);
    put_key(&b, "list", GGUF_ARRAY), put_array_head(&b, GGUF_U32, UINT64_MAX / 2);
    refuse(&b, "key \"list\": an array of 9223372036854775807 items of type u32 does not fit");
    put_head(&b, 3, 0, 1);
    put_key(&b, "list", GGUF_ARRAY), put_array_head(&b, GGUF_STRING, 2), put_str(&b, "x");
    refuse(&b, "key \"list\": an array of 2 items of type string does not fit in the 9 bytes left");
    put_head(&b, 3, 0, 1);
    put_key(&b, "list", GGUF_ARRAY), put_array_head(&b, GGUF_ARRAY, 1u << 30);
    refuse(&b, "key \"list\"");
    buf_deinit(&b);
}
END_TEST

START_TEST(damaged_keys)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    put_head(&b, 3, 0, 1);
    put_u64(&b, UINT64_MAX), put_zeros(&b, 32);
    refuse(&b, "the name of key 0 of 1 is cut off");
    put_head(&b, 3, 0, 1);
    put_kv_u32(&b, "", 1), put_zeros(&b, 8);
    refuse(&b, "key 0 of 1 (\"\"): a name of 0 bytes");
    put_head(&b, 3, 0, 1);
    put_kv_u32(&b, "bad\xff\nkey", 1);
    refuse(&b, "(\"bad??key\")");
    put_head(&b, 3, 0, 1);
    put_key(&b, "odd", (enum gguf_type)13), put_zeros(&b, 8);
    refuse(&b, "key \"odd\": unknown value type 13 (known: 0 to 12)");
    put_head(&b, 3, 0, 1);
    put_key(&b, "odd", GGUF_ARRAY), put_array_head(&b, (enum gguf_type)99, 0);
    refuse(&b, "key \"odd\": unknown array item type 99");
    put_head(&b, 3, 0, 2);
    put_kv_u32(&b, "same", 1), put_kv_str(&b, "same", "longer value");
    refuse(&b, "key \"same\" is there twice");
    put_head(&b, 3, 0, 1);
    put_key(&b, "text", GGUF_STRING), put_u64(&b, 1u << 20), put_zeros(&b, 100);
    refuse(&b, "key \"text\": the value reaches past the end");
    put_head(&b, 3, 0, 1);
    put_key(&b, "long", GGUF_U64), put_u32(&b, 0);
    refuse(&b, "key \"long\": the value reaches past the end");
    put_head(&b, 3, 0, 1);
    put_key(&b, "list", GGUF_ARRAY), put_array_head(&b, GGUF_STRING, 2), put_str(&b, "x"), put_u64(&b, 5);
    refuse(&b, "key \"list\": string 1 of 2 reaches past the end");
    buf_deinit(&b);
}
END_TEST

START_TEST(arrays_nested_too_deeply)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    put_head(&b, 3, 0, 1);
    put_key(&b, "deep", GGUF_ARRAY);
    for (int i = 0; i < 1000; i++) put_array_head(&b, GGUF_ARRAY, 1);
    put_array_head(&b, GGUF_U8, 0);
    refuse(&b, "key \"deep\": arrays nested deeper than 4");
    buf_deinit(&b);
}
END_TEST

START_TEST(names_over_their_limits)
{
    struct buf b;
    char name[70000];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    buf_init(&b, 1 << 20);
    put_head(&b, 3, 0, 1);
    put_kv_u32(&b, name, 1);
    refuse(&b, "a name of 69999 bytes; expected 1 to 65535");
    name[GGUF_MAX_NAME + 1] = 0;
    put_head(&b, 3, 1, 0);
    put_tensor(&b, name, QUANT_F32, 1, 1, 0);
    refuse(&b, "a name of 1025 bytes; expected 1 to 1024");
    buf_deinit(&b);
}
END_TEST

START_TEST(alignments_that_make_no_sense)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    const uint32_t bad[] = {0, 1, 4, 24, 33, 1u << 21, UINT32_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_head(&b, 3, 0, 1);
        put_kv_u32(&b, "general.alignment", bad[i]);
        refuse(&b, "key \"general.alignment\"");
    }
    put_head(&b, 3, 0, 1);
    put_kv_str(&b, "general.alignment", "32");
    refuse(&b, "key \"general.alignment\": expected an integer, found string");
    buf_deinit(&b);
}
END_TEST

/* A file with one F32 tensor entry and 64 bytes of data. */
static void put_one(struct buf *b, uint32_t n_dims, const uint64_t *dims, uint32_t type, uint64_t offset)
{
    put_head(b, 3, 1, 0);
    put_str(b, "t.weight");
    put_u32(b, n_dims);
    for (uint32_t i = 0; i < n_dims && i < 8; i++) put_u64(b, dims[i]);
    put_u32(b, type);
    put_u64(b, offset);
    put_padding(b, 32);
    put_zeros(b, 64);
}

START_TEST(damaged_tensors)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    put_one(&b, 0, NULL, 0, 0);
    refuse(&b, "tensor \"t.weight\": 0 dimensions; expected 1 to 4");
    put_one(&b, 5, (uint64_t[]){1, 1, 1, 1, 1}, 0, 0);
    refuse(&b, "tensor \"t.weight\": 5 dimensions");
    put_one(&b, UINT32_MAX, (uint64_t[]){1, 1, 1, 1, 1, 1, 1, 1}, 0, 0);
    refuse(&b, "4294967295 dimensions");
    put_one(&b, 2, (uint64_t[]){4, 0}, 0, 0);
    refuse(&b, "tensor \"t.weight\": dimension 1 is 0");
    put_one(&b, 2, (uint64_t[]){1ull << 32, 1ull << 32}, 0, 0);
    refuse(&b, "tensor \"t.weight\": the number of values overflows at dimension 1");
    put_one(&b, 1, (uint64_t[]){INT64_MAX}, 0, 0);
    refuse(&b, "tensor \"t.weight\": the size in bytes");
    put_one(&b, 1, (uint64_t[]){33}, QUANT_Q8_0, 0);
    refuse(&b, "tensor \"t.weight\": rows of 33 values are no multiple of the 32 of a Q8_0 block");
    put_one(&b, 1, (uint64_t[]){32}, 16, 0);
    refuse(&b, "tensor \"t.weight\": type 16 is not supported (supported: F32 F16 Q4_0");
    put_one(&b, 1, (uint64_t[]){32}, UINT32_MAX, 0);
    refuse(&b, "tensor \"t.weight\": type 4294967295 is not supported");
    put_one(&b, 1, (uint64_t[]){4}, 0, 16);
    refuse(&b, "tensor \"t.weight\": offset 16 is no multiple of the alignment 32");
    put_one(&b, 1, (uint64_t[]){17}, 0, 0);
    refuse(&b, "tensor \"t.weight\": 68 bytes at offset 0 reach past the end of the tensor data (64 bytes)");
    put_one(&b, 1, (uint64_t[]){4}, 0, 96);
    refuse(&b, "tensor \"t.weight\": 16 bytes at offset 96 reach past");
    put_one(&b, 1, (uint64_t[]){4}, 0, UINT64_MAX - 31);
    refuse(&b, "tensor \"t.weight\": 16 bytes at offset 18446744073709551584 reach past");
    buf_deinit(&b);
}
END_TEST

START_TEST(tensors_that_share_a_name_or_bytes)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    put_head(&b, 3, 2, 0);
    put_tensor(&b, "x", QUANT_F32, 8, 1, 0), put_tensor(&b, "x", QUANT_F32, 8, 1, 32);
    put_padding(&b, 32), put_zeros(&b, 64);
    refuse(&b, "tensor \"x\" is there twice");
    put_head(&b, 3, 2, 0);
    put_tensor(&b, "y", QUANT_F32, 8, 1, 32), put_tensor(&b, "x", QUANT_F32, 9, 1, 0);
    put_padding(&b, 32), put_zeros(&b, 64);
    refuse(&b, "tensors \"x\" and \"y\" overlap");
    buf_deinit(&b);
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    put_head(&b, 3, 1, 3);
    put_kv_u32(&b, "general.alignment", 32);
    put_key(&b, "names", GGUF_ARRAY), put_array_head(&b, GGUF_STRING, 2), put_str(&b, "ab"), put_str(&b, "c");
    put_key(&b, "nested", GGUF_ARRAY), put_array_head(&b, GGUF_ARRAY, 1), put_array_head(&b, GGUF_U8, 3),
        put(&b, "abc", 3);
    put_tensor(&b, "t", QUANT_F32, 4, 1, 0);
    put_padding(&b, 32), put_zeros(&b, 16);
    for (size_t n = 0; n < b.len; n++) {
        char *copy = malloc(n + 1);
        memcpy(copy, b.ptr, n);
        struct err e = {0};
        ck_assert_msg(gguf_open_memory(copy, n, &e) == NULL, "%zu of %zu bytes", n, b.len);
        ck_assert_int_eq(e.kind, ERR_CORRUPT);
        free(copy);
    }
    struct gguf *g = gguf_open_memory(b.ptr, b.len, NULL);
    ck_assert_ptr_nonnull(g);
    gguf_close(g);
    buf_deinit(&b);
}
END_TEST

unit_adder add_malformed;
void add_malformed(TCase *tc)
{
    tcase_add_test(tc, headers_that_are_no_gguf);
    tcase_add_test(tc, absurd_counts);
    tcase_add_test(tc, damaged_keys);
    tcase_add_test(tc, arrays_nested_too_deeply);
    tcase_add_test(tc, names_over_their_limits);
    tcase_add_test(tc, alignments_that_make_no_sense);
    tcase_add_test(tc, damaged_tensors);
    tcase_add_test(tc, tensors_that_share_a_name_or_bytes);
    tcase_add_test(tc, every_truncation_is_refused);
}
