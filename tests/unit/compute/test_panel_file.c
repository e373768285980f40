/* Unit tests of compute: images of packed weights that outlive the program. Nothing but a whole, matching file may be
 * used, and nothing that goes wrong with it may keep weights from being packed. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/log.h"
#include "compute/compute.h"
#include "unit.h"

enum { N_IN = 256, ROWS = 9000, MANY = 1 << 30 }; /* two chunks and a half */
static char folder[] = "/tmp/parley-panels-XXXXXX";
static char cache_dir[64], path[128], partial[140];
static struct compute *c;
static uint8_t *rows;
static float x[N_IN], expected[ROWS + 64];

static void set_up(void)
{
    struct err e;
    size_t bytes;
    log_set_level(LOG_OFF);
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(cache_dir, sizeof cache_dir, "%s/cache", folder);
    snprintf(path, sizeof path, "%s/model.c.panels", cache_dir);
    snprintf(partial, sizeof partial, "%s.partial", path);
    c = compute_create(2, CPU_C, &e);
    ck_assert_ptr_nonnull(c);
    ck_assert(quant_row_bytes(&bytes, QUANT_Q8_0, N_IN));
    rows = mem_alloc(bytes * ROWS);
    for (size_t i = 0; i < bytes * ROWS; i++) rows[i] = (uint8_t)(0x20 + i % 11 + i / 997 % 13);
    for (int i = 0; i < N_IN; i++) x[i] = (float)(i % 17 - 8) * 0.25f;
}

static void tear_down(void)
{
    DIR *dir = opendir(cache_dir);
    for (struct dirent *d; dir && (d = readdir(dir)) != NULL;) {
        char name[400];
        snprintf(name, sizeof name, "%s/%s", cache_dir, d->d_name);
        unlink(name);
    }
    if (dir) closedir(dir);
    unlink(cache_dir);
    rmdir(cache_dir);
    rmdir(folder);
    compute_destroy(c);
    mem_free(rows);
}

static struct panel_cache cache_of(uint64_t identity)
{
    return (struct panel_cache){.dir = cache_dir, .name = "model", .identity = identity, .max_bytes = MANY};
}

/* Packs, checks a product, and waits for what is written. True: the image came from the cache. */
static bool start(const struct panel_cache *cache, int n_rows)
{
    struct err e;
    struct weight_part part = {QUANT_Q8_0, rows, n_rows};
    struct weight_set *set = weight_set_create();
    struct weight *w = weight_set_add(set, c, &part, 1, N_IN, &e);
    struct weight_set_options o = {.cache = cache};
    ck_assert_ptr_nonnull(w);
    ck_assert_msg(weight_set_pack(set, c, &o, &e), "%s", e.msg);
    static float y[ROWS + 64];
    compute_matmul(c, y, (size_t)weight_out_len(w), w, x, N_IN, 1);
    if (!cache) memcpy(expected, y, sizeof y);
    ck_assert_mem_eq(y, expected, (size_t)n_rows * sizeof *y);
    bool cached = weight_set_cached(set);
    weight_set_destroy(set);
    return cached;
}

static void change_byte(off_t at, int whence)
{
    int fd = open(path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    char byte;
    off_t where = lseek(fd, at, whence);
    ck_assert_int_eq(pread(fd, &byte, 1, where), 1);
    byte = (char)(byte ^ 1);
    ck_assert_int_eq(pwrite(fd, &byte, 1, where), 1);
    close(fd);
}

static long file_size(const char *name)
{
    struct stat st;
    return stat(name, &st) == 0 ? (long)st.st_size : -1;
}

START_TEST(the_second_start_takes_what_the_first_packed)
{
    struct panel_cache cache = cache_of(1);
    ck_assert(!start(NULL, ROWS));
    ck_assert(!start(&cache, ROWS));
    ck_assert(start(&cache, ROWS));
    ck_assert(start(&cache, ROWS));
    ck_assert_int_eq(file_size(partial), -1);
}
END_TEST

START_TEST(an_image_of_something_else_is_made_anew)
{
    struct panel_cache cache = cache_of(1), other = cache_of(2);
    start(NULL, ROWS);
    start(&cache, ROWS);
    ck_assert_msg(!start(&other, ROWS), "the model file has changed");
    ck_assert(start(&other, ROWS));
    ck_assert_msg(!start(&other, ROWS - 16), "the weights lie elsewhere");
    ck_assert(start(&other, ROWS - 16));
}
END_TEST

START_TEST(a_damaged_byte_anywhere_is_noticed_and_the_image_made_anew)
{
    static const struct {
        off_t at;
        int whence;
    } places[] = {{0, SEEK_SET}, {1234567, SEEK_SET}, {-1, SEEK_END}, {-30, SEEK_END}, {-64, SEEK_END}};
    struct panel_cache cache = cache_of(1);
    start(NULL, ROWS);
    start(&cache, ROWS);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        change_byte(places[i].at, places[i].whence);
        ck_assert_msg(!start(&cache, ROWS), "place %zu", i);
        ck_assert(start(&cache, ROWS));
    }
}
END_TEST

START_TEST(a_file_that_is_cut_short_or_grows_is_made_anew)
{
    struct panel_cache cache = cache_of(1);
    start(NULL, ROWS);
    start(&cache, ROWS);
    long size = file_size(path);
    const long sizes[] = {0, 7, 64, size / 2, size - 1, size + 1, size + 4096};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        ck_assert_int_eq(truncate(path, sizes[i]), 0);
        ck_assert_msg(!start(&cache, ROWS), "%ld bytes of %ld", sizes[i], size);
        ck_assert(start(&cache, ROWS));
        ck_assert_int_eq(file_size(path), size);
    }
}
END_TEST

START_TEST(a_folder_that_cannot_be_written_costs_only_the_cache)
{
    struct panel_cache cache = cache_of(1);
    start(NULL, ROWS);
    fclose(fopen(cache_dir, "w")); /* a file is there instead */
    ck_assert(!start(&cache, ROWS));
    ck_assert(!start(&cache, ROWS));
}
END_TEST

START_TEST(a_full_disk_costs_only_the_cache)
{
    struct panel_cache cache = cache_of(1);
    struct rlimit limit = {1 << 20, 1 << 20};
    start(NULL, ROWS);
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert(!start(&cache, ROWS));
    ck_assert_int_eq(file_size(path), -1);
    ck_assert_int_eq(file_size(partial), -1);
}
END_TEST

START_TEST(an_image_above_the_limit_is_not_kept)
{
    struct panel_cache cache = cache_of(1);
    cache.max_bytes = 1 << 20;
    start(NULL, ROWS);
    ck_assert(!start(&cache, ROWS));
    ck_assert_int_eq(file_size(path), -1);
}
END_TEST

START_TEST(the_images_not_used_for_longest_make_room)
{
    struct panel_cache cache = cache_of(1);
    char names[3][160];
    start(NULL, ROWS);
    start(&cache, ROWS);
    long size = file_size(path);
    unlink(path);
    for (int i = 0; i < 3; i++) {
        snprintf(names[i], sizeof names[i], "%s/other-%d%s", cache_dir, i, i == 2 ? ".txt" : ".c.panels");
        fclose(fopen(names[i], "w"));
        ck_assert_int_eq(truncate(names[i], size), 0);
        struct timespec used[2] = {{.tv_sec = 1000 - i}, {.tv_sec = 1000 - i}};
        ck_assert_int_eq(utimensat(AT_FDCWD, names[i], used, 0), 0);
    }
    cache.max_bytes = (uint64_t)size * 2;
    start(&cache, ROWS);
    ck_assert_int_eq(file_size(path), size);
    ck_assert_int_eq(file_size(names[0]), size);
    ck_assert_msg(file_size(names[1]) == -1, "the older image is still there");
    ck_assert_msg(file_size(names[2]) == size, "a file that is no image was removed");
}
END_TEST

START_TEST(two_programs_that_start_together_do_not_disturb_each_other)
{
    struct panel_cache cache = cache_of(1);
    start(NULL, ROWS);
    ck_assert_int_eq(mkdir(cache_dir, 0755), 0);
    int fd = open(partial, O_RDWR | O_CREAT, 0644); /* as the other one, which is writing */
    ck_assert_int_eq(flock(fd, LOCK_EX), 0);
    ck_assert_int_eq(write(fd, "half", 4), 4);
    ck_assert(!start(&cache, ROWS));
    ck_assert_int_eq(file_size(path), -1);
    ck_assert_int_eq(file_size(partial), 4);
    close(fd); /* it was killed: what it left is written over */
    ck_assert(!start(&cache, ROWS));
    ck_assert(start(&cache, ROWS));
}
END_TEST

static void add_panel_files(TCase *tc)
{
    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, the_second_start_takes_what_the_first_packed);
    tcase_add_test(tc, an_image_of_something_else_is_made_anew);
    tcase_add_test(tc, a_damaged_byte_anywhere_is_noticed_and_the_image_made_anew);
    tcase_add_test(tc, a_file_that_is_cut_short_or_grows_is_made_anew);
    tcase_add_test(tc, a_folder_that_cannot_be_written_costs_only_the_cache);
    tcase_add_test(tc, a_full_disk_costs_only_the_cache);
    tcase_add_test(tc, an_image_above_the_limit_is_not_kept);
    tcase_add_test(tc, the_images_not_used_for_longest_make_room);
    tcase_add_test(tc, two_programs_that_start_together_do_not_disturb_each_other);
}

unit_adder add_cores;
UNIT_MAIN("compute", add_panel_files, add_cores)
