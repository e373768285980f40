/* Unit tests of base: each test states one behaviour. */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"
#include "base/queue.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "unit.h"

START_TEST(str_find_reports_first_hit_at_or_after_from)
{
    ck_assert_int_eq(str_find(STR("abcabc"), STR("bc"), 0), 1);
    ck_assert_int_eq(str_find(STR("abcabc"), STR("bc"), 2), 4);
    ck_assert_int_eq(str_find(STR("abcabc"), STR("x"), 0), -1);
    ck_assert_int_eq(str_find(STR("abc"), STR(""), 3), 3);
}
END_TEST

START_TEST(str_slice_clamps)
{
    ck_assert(str_eq(str_slice(STR("hello"), 1, 99), STR("ello")));
    ck_assert_uint_eq(str_slice(STR("hello"), 4, 2).len, 0);
}
END_TEST

START_TEST(arena_refuses_what_is_over_its_budget)
{
    struct arena a;
    arena_init(&a, 1000);
    ck_assert_ptr_nonnull(arena_try_alloc(&a, 900));
    ck_assert_ptr_null(arena_try_alloc(&a, 200));
    arena_reset(&a);
    ck_assert_ptr_nonnull(arena_try_alloc(&a, 900));
    arena_deinit(&a);
}
END_TEST

START_TEST(arena_gives_aligned_disjoint_memory)
{
    struct arena a;
    arena_init(&a, 0);
    for (size_t i = 1; i < 3000; i++) {
        char *p = arena_alloc(&a, i);
        ck_assert_uint_eq((uintptr_t)p % 16, 0);
        memset(p, (int)i, i);
    }
    arena_deinit(&a);
}
END_TEST

START_TEST(buf_keeps_its_maximum_and_remembers_the_failure)
{
    struct buf b;
    buf_init(&b, 8);
    ck_assert(buf_append(&b, STR("12345678")));
    ck_assert(!buf_append(&b, STR("9")));
    ck_assert(b.failed);
    ck_assert(str_eq(buf_str(&b), STR("12345678")));
    buf_clear(&b);
    ck_assert(buf_printf(&b, "%d", 42));
    ck_assert(str_eq(buf_str(&b), STR("42")));
    buf_deinit(&b);
}
END_TEST

START_TEST(utf8_round_trips_every_code_point)
{
    for (uint32_t c = 0; c <= 0x10ffff; c++) {
        if (c >= 0xd800 && c < 0xe000) continue;
        char bytes[4];
        uint32_t back = 0;
        size_t n = utf8_encode(bytes, c);
        ck_assert_uint_eq(utf8_decode((struct str){bytes, n}, &back), n);
        ck_assert_uint_eq(back, c);
    }
}
END_TEST

START_TEST(utf8_refuses_invalid_forms)
{
    static const char *const bad[] = {"\x80",     "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
                                      "\xe2\x82", "\xff",     "a\xc3"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) ck_assert_msg(!utf8_valid(str_from(bad[i])), "case %zu", i);
    ck_assert(utf8_valid(STR("\xe2\x82\xac \xf0\x9f\x98\x80")));
}
END_TEST

START_TEST(utf8_complete_len_holds_back_an_open_character)
{
    struct str euro = STR("x\xf0\x9f\x98\x80");
    for (size_t n = 2; n < 5; n++) ck_assert_uint_eq(utf8_complete_len((struct str){euro.ptr, n}), 1);
    ck_assert_uint_eq(utf8_complete_len(euro), 5);
    ck_assert_uint_eq(utf8_complete_len(STR("x\xff")), 2);
    ck_assert_uint_eq(utf8_complete_len(STR("x\xf0\x80")), 3); /* can never be completed */
}
END_TEST

START_TEST(err_prefix_keeps_kind_and_message)
{
    struct err e = {0};
    ck_assert(!err_set(&e, ERR_INVALID, "bad %d", 7));
    err_prefix(&e, "model %s: ", "x");
    ck_assert_int_eq(e.kind, ERR_INVALID);
    ck_assert_str_eq(e.msg, "model x: bad 7");
}
END_TEST

START_TEST(strmap_finds_what_was_added_and_refuses_duplicates)
{
    struct strmap m;
    strmap_init(&m);
    static char keys[5000][12];
    for (uint32_t i = 0; i < 5000; i++) {
        int n = snprintf(keys[i], sizeof keys[i], "k%u", i);
        ck_assert(strmap_add(&m, (struct str){keys[i], (size_t)n}, i));
    }
    ck_assert(!strmap_add(&m, STR("k17"), 1));
    uint32_t v = 0;
    ck_assert(strmap_find(&m, &v, STR("k4999")) && v == 4999);
    ck_assert(!strmap_find(&m, &v, STR("k5000")));
    strmap_deinit(&m);
}
END_TEST

START_TEST(rng_same_seed_same_numbers)
{
    struct rng a, b;
    rng_seed(&a, 5);
    rng_seed(&b, 5);
    for (int i = 0; i < 100; i++) ck_assert_uint_eq(rng_next(&a), rng_next(&b));
    for (int i = 0; i < 1000; i++) {
        double u = rng_unit(&a);
        ck_assert(u >= 0 && u < 1);
    }
}
END_TEST

struct number {
    struct queue_item item;
    int value;
};

static void *push_numbers(void *arg)
{
    static struct number numbers[1000];
    for (int i = 0; i < 1000; i++) {
        numbers[i].value = i;
        queue_push(arg, &numbers[i].item);
    }
    return NULL;
}

START_TEST(queue_hands_over_in_order_between_threads)
{
    struct queue q;
    pthread_t t;
    int next = 0;
    ck_assert(queue_init(&q, NULL));
    pthread_create(&t, NULL, push_numbers, &q);
    while (next < 1000)
        for (struct queue_item *i = queue_wait(&q, -1); i; i = i->next)
            ck_assert_int_eq(((struct number *)i)->value, next++);
    pthread_join(t, NULL);
    queue_deinit(&q);
}
END_TEST

static bool is_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) == 1;
}

START_TEST(queue_fd_is_readable_while_items_wait)
{
    struct queue q;
    struct queue_item a, b, c;
    ck_assert(queue_init(&q, NULL));
    queue_push(&q, &a); /* before anybody watches */
    int fd = queue_fd(&q);
    ck_assert(is_readable(fd));
    ck_assert_ptr_eq(queue_take_all(&q), &a);
    ck_assert(!is_readable(fd));
    ck_assert_ptr_null(queue_take_all(&q));
    queue_push(&q, &b);
    queue_push(&q, &c);
    ck_assert(is_readable(fd));
    ck_assert_ptr_eq(queue_wait(&q, -1), &b);
    ck_assert(!is_readable(fd));
    queue_close(&q);
    ck_assert(is_readable(fd));
    queue_deinit(&q);
}
END_TEST

START_TEST(queue_wait_times_out_and_closed_queue_refuses)
{
    struct queue q;
    struct number n = {0};
    ck_assert(queue_init(&q, NULL));
    ck_assert_ptr_null(queue_wait(&q, 10));
    queue_close(&q);
    ck_assert(!queue_push(&q, &n.item));
    ck_assert_ptr_null(queue_wait(&q, -1));
    queue_deinit(&q);
}
END_TEST

START_TEST(queue_quiet_items_come_with_the_next_push)
{
    struct queue q;
    struct queue_item a, b;
    ck_assert(queue_init(&q, NULL));
    int fd = queue_fd(&q);
    ck_assert(queue_push_quietly(&q, &a));
    ck_assert(!is_readable(fd));
    ck_assert(queue_push(&q, &b));
    ck_assert(is_readable(fd));
    ck_assert_ptr_eq(queue_take_all(&q), &a);
    ck_assert_ptr_eq(a.next, &b);
    queue_close(&q);
    ck_assert(!queue_push_quietly(&q, &a));
    queue_deinit(&q);
}
END_TEST

struct one_shot { /* a queue for one item, freed by who gets it */
    struct queue q;
    struct queue_item item;
};

static void *push_one(void *arg)
{
    struct one_shot *s = arg;
    queue_expect(&s->q);
    queue_push(&s->q, &s->item);
    return NULL;
}

START_TEST(queue_may_be_freed_by_who_got_the_last_item)
{
    for (int i = 0; i < 200; i++) {
        pthread_t t;
        struct one_shot *s = calloc(1, sizeof *s);
        ck_assert(queue_init(&s->q, NULL));
        struct pollfd p = {.fd = i % 2 ? queue_fd(&s->q) : -1, .events = POLLIN};
        pthread_create(&t, NULL, push_one, s);
        if (i % 2)
            while (!queue_take_all(&s->q)) ck_assert_int_ge(poll(&p, 1, 1000), 0);
        else ck_assert_ptr_eq(queue_wait(&s->q, -1), &s->item);
        queue_deinit(&s->q);
        free(s); /* nobody may look at it any more */
        pthread_join(t, NULL);
    }
}
END_TEST

static void *expect_only(void *arg)
{
    struct timespec ts = {0, 10000000};
    nanosleep(&ts, NULL);
    queue_expect(arg);
    return NULL;
}

START_TEST(queue_wait_ends_in_time_though_an_item_was_expected)
{
    struct queue q;
    pthread_t t;
    struct number n = {0};
    ck_assert(queue_init(&q, NULL));
    queue_expect(&q); /* nobody sleeps: nothing happens */
    ck_assert_ptr_null(queue_wait(&q, 10));
    pthread_create(&t, NULL, expect_only, &q);
    ck_assert_ptr_null(queue_wait(&q, 50));
    pthread_join(t, NULL);
    queue_push(&q, &n.item);
    ck_assert_ptr_eq(queue_wait(&q, -1), &n.item);
    queue_deinit(&q);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_test(tc, str_find_reports_first_hit_at_or_after_from);
    tcase_add_test(tc, str_slice_clamps);
    tcase_add_test(tc, arena_refuses_what_is_over_its_budget);
    tcase_add_test(tc, arena_gives_aligned_disjoint_memory);
    tcase_add_test(tc, buf_keeps_its_maximum_and_remembers_the_failure);
    tcase_add_test(tc, utf8_round_trips_every_code_point);
    tcase_add_test(tc, utf8_refuses_invalid_forms);
    tcase_add_test(tc, utf8_complete_len_holds_back_an_open_character);
    tcase_add_test(tc, err_prefix_keeps_kind_and_message);
    tcase_add_test(tc, strmap_finds_what_was_added_and_refuses_duplicates);
    tcase_add_test(tc, rng_same_seed_same_numbers);
    tcase_add_test(tc, queue_hands_over_in_order_between_threads);
    tcase_add_test(tc, queue_fd_is_readable_while_items_wait);
    tcase_add_test(tc, queue_wait_times_out_and_closed_queue_refuses);
    tcase_add_test(tc, queue_quiet_items_come_with_the_next_push);
    tcase_add_test(tc, queue_may_be_freed_by_who_got_the_last_item);
    tcase_add_test(tc, queue_wait_ends_in_time_though_an_item_was_expected);
}

UNIT_MAIN("base", add)
