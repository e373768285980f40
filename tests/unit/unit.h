/* unit: the frame of every unit test program. A test file defines `static void add_tests(TCase *tc)`-like functions;
 * one file of the folder calls UNIT_MAIN(name, ...) with them. Check forks for each test. */
#ifndef UNIT_H
#define UNIT_H

#include <check.h>
#include <stdlib.h>

typedef void unit_adder(TCase *tc);

static inline int unit_main(const char *name, unit_adder **adders, size_t n_adders, double timeout_s)
{
    Suite *suite = suite_create(name);
    for (size_t i = 0; i < n_adders; i++) {
        TCase *tc = tcase_create(name);
        tcase_set_timeout(tc, timeout_s);
        adders[i](tc);
        suite_add_tcase(suite, tc);
    }
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#define UNIT_MAIN(name, ...)                                                 \
    int main(void)                                                           \
    {                                                                        \
        unit_adder *adders[] = {__VA_ARGS__};                                \
        return unit_main(name, adders, sizeof adders / sizeof *adders, 180); \
    }

#endif
