/* Unit tests of gguf: what honest files give. */
#include <stdio.h>

#include "gguf/gguf_internal.h"
#include "gguf_writer.h"
#include "unit.h"

/* Opens a copy of the bytes that ends where they end, so that ASan sees every read past them. */
static struct gguf *open_bytes(const struct buf *b, void **copy)
{
    struct err e = {0};
    *copy = malloc(b->len + 1);
    memcpy(*copy, b->ptr, b->len);
    struct gguf *g = gguf_open_memory(*copy, b->len, &e);
    ck_assert_msg(g != NULL, "%s", e.msg);
    return g;
}

static void put_scalars(struct buf *b)
{
    put_head(b, 3, 0, 14);
    put_key(b, "u8", GGUF_U8), put(b, &(uint8_t){200}, 1);
    put_key(b, "i8", GGUF_I8), put(b, &(int8_t){-3}, 1);
    put_key(b, "u16", GGUF_U16), put(b, &(uint16_t){60000}, 2);
    put_key(b, "i16", GGUF_I16), put(b, &(int16_t){1000}, 2);
    put_kv_u32(b, "u32", 4000000000u);
    put_key(b, "i32", GGUF_I32), put(b, &(int32_t){77}, 4);
    put_key(b, "u64", GGUF_U64), put_u64(b, 5000000000u);
    put_key(b, "i64", GGUF_I64), put_u64(b, 12);
    put_key(b, "f32", GGUF_F32), put(b, &(float){1.5f}, 4);
    put_key(b, "f64", GGUF_F64), put(b, &(double){2.5}, 8);
    put_key(b, "yes", GGUF_BOOL), put(b, &(uint8_t){1}, 1);
    put_kv_str(b, "text", "hello");
    put_key(b, "huge", GGUF_U64), put_u64(b, UINT64_MAX);
    put_kv_str(b, "empty", "");
}

START_TEST(scalars_of_every_type_are_read)
{
    struct buf b;
    void *copy;
    buf_init(&b, 1 << 20);
    put_scalars(&b);
    struct gguf *g = open_bytes(&b, &copy);
    const struct {
        const char *key;
        uint32_t value;
    } integers[] = {{"u8", 200}, {"u16", 60000}, {"i16", 1000}, {"u32", 4000000000u}, {"i32", 77}, {"i64", 12}};
    for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
        uint32_t v = 0;
        ck_assert(gguf_get_u32(g, &v, integers[i].key, NULL));
        ck_assert_uint_eq(v, integers[i].value);
    }
    float f;
    ck_assert(gguf_get_f32(g, &f, "f32", NULL) && f == 1.5f);
    ck_assert(gguf_get_f32(g, &f, "f64", NULL) && f == 2.5f);
    bool yes = false;
    ck_assert(gguf_get_bool(g, &yes, "yes", NULL) && yes);
    struct str s;
    ck_assert(gguf_get_str(g, &s, "text", NULL) && str_eq(s, STR("hello")));
    ck_assert(gguf_get_str(g, &s, "empty", NULL) && s.len == 0);
    ck_assert_uint_eq(gguf_kv_count(g), 14);
    ck_assert(str_eq(gguf_kv_at(g, 11)->key, STR("text")));
    ck_assert_ptr_null(gguf_kv_at(g, 14));
    gguf_close(g);
    free(copy);
    buf_deinit(&b);
}
END_TEST

START_TEST(typed_reads_refuse_other_types_and_name_the_key)
{
    struct buf b;
    void *copy;
    struct err e;
    uint32_t u;
    float f;
    bool yes;
    struct str s;
    buf_init(&b, 1 << 20);
    put_scalars(&b);
    struct gguf *g = open_bytes(&b, &copy);
    ck_assert(!gguf_get_u32(g, &u, "i8", &e));
    ck_assert_str_eq(e.msg, "key \"i8\": -3 is not between 0 and 4294967295");
    ck_assert(!gguf_get_u32(g, &u, "u64", &e));
    ck_assert(!gguf_get_u32(g, &u, "huge", &e));
    ck_assert(!gguf_get_u32(g, &u, "yes", &e));
    ck_assert(!gguf_get_u32(g, &u, "text", &e));
    ck_assert_str_eq(e.msg, "key \"text\": expected an integer from 0 to 4294967295, found string");
    ck_assert_int_eq(e.kind, ERR_CORRUPT);
    ck_assert(!gguf_get_f32(g, &f, "u32", &e));
    ck_assert(!gguf_get_bool(g, &yes, "u8", &e));
    ck_assert(!gguf_get_str(g, &s, "u8", &e));
    ck_assert(!gguf_get_str(g, &s, "nothing", &e));
    ck_assert_int_eq(e.kind, ERR_NOT_FOUND);
    ck_assert_str_eq(e.msg, "key \"nothing\" is missing in the model file");
    ck_assert(gguf_u32_or(g, &u, "nothing", 9, &e) && u == 9);
    ck_assert(!gguf_u32_or(g, &u, "text", 9, &e));
    ck_assert(gguf_f32_or(g, &f, "nothing", 0.5f, &e) && f == 0.5f);
    ck_assert(!gguf_f32_or(g, &f, "text", 0.5f, &e));
    ck_assert(gguf_bool_or(g, &yes, "nothing", true, &e) && yes);
    ck_assert(!gguf_bool_or(g, &yes, "text", true, &e));
    ck_assert(str_eq(gguf_str_or(g, "nothing", STR("x")), STR("x")));
    ck_assert(str_eq(gguf_str_or(g, "text", STR("x")), STR("hello")));
    gguf_close(g);
    free(copy);
    buf_deinit(&b);
}
END_TEST

START_TEST(arrays_give_their_items_and_no_others)
{
    struct buf b;
    void *copy;
    buf_init(&b, 1 << 20);
    put_head(&b, 2, 0, 5);
    put_key(&b, "names", GGUF_ARRAY), put_array_head(&b, GGUF_STRING, 3);
    put_str(&b, "one"), put_str(&b, ""), put_str(&b, "three");
    put_key(&b, "kinds", GGUF_ARRAY), put_array_head(&b, GGUF_I32, 2);
    put(&b, (int32_t[]){-5, 6}, 8);
    put_key(&b, "scores", GGUF_ARRAY), put_array_head(&b, GGUF_F64, 2);
    put(&b, (double[]){0.25, -4}, 16);
    put_key(&b, "none", GGUF_ARRAY), put_array_head(&b, GGUF_STRING, 0);
    put_key(&b, "flags", GGUF_ARRAY), put_array_head(&b, GGUF_BOOL, 2);
    put(&b, "\0\1", 2);
    struct gguf *g = open_bytes(&b, &copy);
    const struct gguf_kv *names = gguf_find(g, "names");
    struct str s;
    int64_t i;
    float f;
    ck_assert_uint_eq(names->n_items, 3);
    ck_assert(gguf_item_str(g, &s, names, 2) && str_eq(s, STR("three")));
    ck_assert(gguf_item_str(g, &s, names, 0) && str_eq(s, STR("one")));
    ck_assert(gguf_item_str(g, &s, names, 1) && s.len == 0);
    ck_assert(!gguf_item_str(g, &s, names, 3));
    ck_assert(!gguf_item_i64(names, &i, 0));
    ck_assert(!gguf_item_str(g, &s, gguf_find(g, "kinds"), 0));
    ck_assert(!gguf_item_str(g, &s, gguf_find(g, "none"), 0));
    ck_assert(gguf_item_i64(gguf_find(g, "kinds"), &i, 0) && i == -5);
    ck_assert(gguf_item_i64(gguf_find(g, "kinds"), &i, 1) && i == 6);
    ck_assert(!gguf_item_i64(gguf_find(g, "kinds"), &i, 2));
    ck_assert(!gguf_item_f32(gguf_find(g, "kinds"), &f, 0));
    ck_assert(gguf_item_f32(gguf_find(g, "scores"), &f, 1) && f == -4);
    ck_assert(!gguf_item_f32(gguf_find(g, "scores"), &f, UINT64_MAX));
    ck_assert(gguf_item_i64(gguf_find(g, "flags"), &i, 1) && i == 1);
    ck_assert_uint_eq(gguf_version(g), 2);
    gguf_close(g);
    free(copy);
    buf_deinit(&b);
}
END_TEST

START_TEST(nested_arrays_are_skipped)
{
    struct buf b;
    void *copy;
    buf_init(&b, 1 << 20);
    put_head(&b, 3, 0, 2);
    put_key(&b, "nested", GGUF_ARRAY), put_array_head(&b, GGUF_ARRAY, 3);
    put_array_head(&b, GGUF_U8, 2), put(&b, "ab", 2);
    put_array_head(&b, GGUF_STRING, 1), put_str(&b, "x");
    put_array_head(&b, GGUF_ARRAY, 1), put_array_head(&b, GGUF_U16, 0);
    put_kv_u32(&b, "after", 7);
    struct gguf *g = open_bytes(&b, &copy);
    uint32_t v;
    ck_assert(gguf_get_u32(g, &v, "after", NULL) && v == 7);
    ck_assert_int_eq(gguf_find(g, "nested")->item_type, GGUF_ARRAY);
    gguf_close(g);
    free(copy);
    buf_deinit(&b);
}
END_TEST

START_TEST(tensors_are_found_with_shape_and_data)
{
    struct buf b;
    void *copy;
    buf_init(&b, 1 << 20);
    put_head(&b, 3, 2, 1);
    put_kv_u32(&b, "general.alignment", 64);
    put_tensor(&b, "a.weight", QUANT_Q8_0, 64, 3, 0); /* 204 bytes */
    put_tensor(&b, "b.weight", QUANT_F32, 2, 1, 256);
    put_padding(&b, 64);
    size_t data = b.len;
    put_zeros(&b, 256);
    put(&b, (float[]){3, 4}, 8);
    struct gguf *g = open_bytes(&b, &copy);
    const struct gguf_tensor *t = gguf_tensor_find(g, "a.weight");
    ck_assert_ptr_nonnull(t);
    ck_assert_uint_eq(t->size_bytes, 204);
    ck_assert_uint_eq(t->dims[0], 64);
    ck_assert_uint_eq(t->dims[1], 3);
    ck_assert_uint_eq(t->dims[2], 1);
    ck_assert_ptr_eq(t->data, (char *)copy + data);
    float values[2];
    memcpy(values, gguf_tensor_find(g, "b.weight")->data, sizeof values);
    ck_assert(values[0] == 3 && values[1] == 4);
    ck_assert_ptr_null(gguf_tensor_find(g, "c.weight"));
    ck_assert_uint_eq(gguf_tensor_count(g), 2);
    ck_assert_ptr_null(gguf_tensor_at(g, 2));
    ck_assert_uint_eq(gguf_file_bytes(g), b.len);
    gguf_close(g);
    free(copy);
    buf_deinit(&b);
}
END_TEST

START_TEST(a_large_vocabulary_is_indexed_quickly)
{
    enum { N = 262144 };
    struct buf b;
    void *copy;
    buf_init(&b, 64 << 20);
    put_head(&b, 3, 0, 1);
    put_key(&b, "tokens", GGUF_ARRAY), put_array_head(&b, GGUF_STRING, N);
    for (int i = 0; i < N; i++) {
        char text[16];
        snprintf(text, sizeof text, "tok%d", i);
        put_str(&b, text);
    }
    struct gguf *g = open_bytes(&b, &copy);
    const struct gguf_kv *kv = gguf_find(g, "tokens");
    struct str s;
    ck_assert(gguf_item_str(g, &s, kv, N - 1) && str_eq(s, STR("tok262143")));
    ck_assert(gguf_item_str(g, &s, kv, 100000) && str_eq(s, STR("tok100000")));
    gguf_close(g);
    free(copy);
    buf_deinit(&b);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_test(tc, scalars_of_every_type_are_read);
    tcase_add_test(tc, typed_reads_refuse_other_types_and_name_the_key);
    tcase_add_test(tc, arrays_give_their_items_and_no_others);
    tcase_add_test(tc, nested_arrays_are_skipped);
    tcase_add_test(tc, tensors_are_found_with_shape_and_data);
    tcase_add_test(tc, a_large_vocabulary_is_indexed_quickly);
}

unit_adder add_malformed, add_files;
UNIT_MAIN("gguf", add, add_malformed, add_files)
