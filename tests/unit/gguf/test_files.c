/* Unit tests of gguf: real files, parts of split models, and things that are no files. */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gguf/gguf_internal.h"
#include "gguf_writer.h"
#include "unit.h"

static char folder[] = "/tmp/parley-gguf-XXXXXX";
static char paths[8][128];
static size_t n_paths;

/* A new path in the test's own folder. */
static const char *in_folder(const char *name)
{
    if (n_paths == 0) ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(paths[n_paths], sizeof paths[0], "%s/%s", folder, name);
    return paths[n_paths++];
}

static void remove_all(void)
{
    for (size_t i = 0; i < n_paths; i++) unlink(paths[i]);
    rmdir(folder);
}

static const char *write_file(const char *name, const struct buf *b)
{
    const char *path = in_folder(name);
    FILE *f = fopen(path, "wb");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(b->ptr, 1, b->len, f), b->len);
    fclose(f);
    return path;
}

struct part_spec {
    uint32_t no, count, tensors; /* split.* */
    const char *tensor;
};

static const char *write_part(const char *name, const struct part_spec *s)
{
    struct buf b;
    buf_init(&b, 1 << 16);
    put_head(&b, 3, 1, 4);
    put_key(&b, "split.no", GGUF_U16), put(&b, &s->no, 2);
    put_key(&b, "split.count", GGUF_U16), put(&b, &s->count, 2);
    put_key(&b, "split.tensors.count", GGUF_I32), put_u32(&b, s->tensors);
    put_kv_u32(&b, "which", s->no);
    put_tensor(&b, s->tensor, QUANT_F32, 1, 1, 0);
    put_padding(&b, 32);
    put(&b, &(float){(float)s->no}, 4);
    const char *path = write_file(name, &b);
    buf_deinit(&b);
    return path;
}

START_TEST(a_file_is_mapped_and_its_pages_can_be_released)
{
    struct buf b;
    buf_init(&b, 1 << 20);
    put_head(&b, 3, 1, 1);
    put_kv_str(&b, "general.name", "tiny");
    put_tensor(&b, "t", QUANT_F32, 8192, 1, 0);
    put_padding(&b, 32);
    for (int i = 0; i < 8192; i++) put(&b, &(float){(float)i}, 4);
    struct err e;
    struct gguf *g = gguf_open(write_file("one.gguf", &b), &e);
    ck_assert_msg(g != NULL, "%s", e.msg);
    const struct gguf_tensor *t = gguf_tensor_find(g, "t");
    ck_assert_uint_eq((uintptr_t)t->data % 32, 0);
    gguf_fetch_pages(g, t->data, t->size_bytes);
    gguf_release_pages(g, t->data, t->size_bytes);
    gguf_loaded(g);
    ck_assert(((const float *)t->data)[8191] == 8191);
    gguf_close(g);
    buf_deinit(&b);
    remove_all();
}
END_TEST

START_TEST(parts_are_joined_from_any_of_them)
{
    const char *part[3];
    part[0] = write_part("m-00001-of-00003.gguf", &(struct part_spec){0, 3, 3, "a"});
    part[1] = write_part("m-00002-of-00003.gguf", &(struct part_spec){1, 3, 3, "b"});
    part[2] = write_part("m-00003-of-00003.gguf", &(struct part_spec){2, 3, 3, "c"});
    for (int i = 0; i < 3; i++) {
        struct err e;
        struct gguf *g = gguf_open(part[i], &e);
        ck_assert_msg(g != NULL, "%s", e.msg);
        uint32_t which;
        ck_assert(gguf_get_u32(g, &which, "which", &e) && which == 0);
        ck_assert_uint_eq(gguf_part_count(g), 3);
        ck_assert_uint_eq(gguf_tensor_count(g), 3);
        ck_assert(str_eq(gguf_tensor_at(g, 1)->name, STR("b")));
        ck_assert(*(const float *)gguf_tensor_find(g, "c")->data == 2);
        gguf_close(g);
    }
    remove_all();
}
END_TEST

/* Opening fails with this kind and a message that holds `text`. */
static void refuse_file(const char *path, enum err_kind kind, const char *text)
{
    struct err e = {0};
    ck_assert_ptr_null(gguf_open(path, &e));
    ck_assert_msg(strstr(e.msg, text) != NULL, "\"%s\" lacks \"%s\"", e.msg, text);
    ck_assert_int_eq(e.kind, kind);
}

START_TEST(a_missing_part_is_named)
{
    const char *path = write_part("m-00001-of-00002.gguf", &(struct part_spec){0, 2, 2, "a"});
    refuse_file(path, ERR_NOT_FOUND, "m-00002-of-00002.gguf: No such file");
    remove_all();
}
END_TEST

START_TEST(a_part_under_another_name_is_refused)
{
    refuse_file(write_part("model.gguf", &(struct part_spec){0, 2, 2, "a"}), ERR_CORRUPT, "-00001-of-00002.gguf");
    remove_all();
}
END_TEST

START_TEST(parts_that_do_not_belong_together_are_refused)
{
    const char *first = write_part("m-00001-of-00002.gguf", &(struct part_spec){0, 2, 2, "a"});
    write_part("m-00002-of-00002.gguf", &(struct part_spec){0, 2, 2, "b"});
    refuse_file(first, ERR_CORRUPT, "m-00002-of-00002.gguf: key \"split.no\": expected 1, found 0");
    write_part("m-00002-of-00002.gguf", &(struct part_spec){1, 3, 2, "b"});
    refuse_file(first, ERR_CORRUPT, "key \"split.count\": expected 2, found 3");
    write_part("m-00002-of-00002.gguf", &(struct part_spec){1, 2, 2, "a"});
    refuse_file(first, ERR_CORRUPT, "tensor \"a\" is there twice");
    write_part("m-00001-of-00002.gguf", &(struct part_spec){0, 2, 5, "a"});
    write_part("m-00002-of-00002.gguf", &(struct part_spec){1, 2, 5, "b"});
    refuse_file(first, ERR_CORRUPT, "split.tensors.count\": 5, but the parts hold 2 tensors");
    remove_all();
}
END_TEST

START_TEST(split_numbers_out_of_range_are_refused)
{
    refuse_file(write_part("a.gguf", &(struct part_spec){5, 3, 1, "a"}), ERR_CORRUPT, "part 5 of 3");
    refuse_file(write_part("b.gguf", &(struct part_spec){0, 60000, 1, "a"}), ERR_CORRUPT, "part 0 of 60000");
    remove_all();
}
END_TEST

START_TEST(what_is_no_regular_file_is_refused_at_once)
{
    refuse_file("/nonexistent/model.gguf", ERR_NOT_FOUND, "/nonexistent/model.gguf: No such file");
    refuse_file("/tmp", ERR_IO, "/tmp: not a regular file");
    refuse_file("/dev/null", ERR_IO, "not a regular file");
    const char *fifo = in_folder("fifo");
    ck_assert_int_eq(mkfifo(fifo, 0600), 0);
    refuse_file(fifo, ERR_IO, "not a regular file");
    struct buf b;
    buf_init(&b, 16);
    buf_append(&b, STR(""));
    refuse_file(write_file("empty", &b), ERR_CORRUPT, "the file is empty");
    buf_deinit(&b);
    remove_all();
}
END_TEST

unit_adder add_files;
void add_files(TCase *tc)
{
    tcase_add_test(tc, a_file_is_mapped_and_its_pages_can_be_released);
    tcase_add_test(tc, parts_are_joined_from_any_of_them);
    tcase_add_test(tc, a_missing_part_is_named);
    tcase_add_test(tc, a_part_under_another_name_is_refused);
    tcase_add_test(tc, parts_that_do_not_belong_together_are_refused);
    tcase_add_test(tc, split_numbers_out_of_range_are_refused);
    tcase_add_test(tc, what_is_no_regular_file_is_refused_at_once);
}
