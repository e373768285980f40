/* Unit tests of compute: the number of threads when nobody says one, from files as containers and services have them.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compute/compute_internal.h"
#include "unit.h"

static char root[] = "/tmp/parley-cores-XXXXXX";

static void set_up(void)
{
    ck_assert_ptr_nonnull(mkdtemp(root));
}

static void tear_down(void)
{
    char command[64];
    snprintf(command, sizeof command, "rm -rf %s", root);
    ck_assert_int_eq(system(command), 0);
}

/* A file below the root, with its folders. */
static void put(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s%s", root, name);
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0755);
        *slash = '/';
    }
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    fputs(text, f);
    fclose(f);
}

/* CPUs of this machine that the test may use, with no topology and no quota known. */
static int all(void)
{
    cpu_set_t set;
    ck_assert_int_eq(sched_getaffinity(0, sizeof set, &set), 0);
    return CPU_COUNT(&set);
}

static void expect(int quota)
{
    ck_assert_int_eq(cores_available(root), quota < all() ? quota : all());
}

START_TEST(without_limits_every_cpu_counts)
{
    expect(all());
    put("/proc/self/cgroup", "0::/\n");
    put("/sys/fs/cgroup/cpu.max", "max 100000\n");
    expect(all());
}
END_TEST

START_TEST(a_container_of_version_2_sees_its_quota_at_the_top)
{
    put("/proc/self/cgroup", "0::/\n");
    put("/sys/fs/cgroup/cpu.max", "100000 100000\n");
    expect(1);
}
END_TEST

START_TEST(a_service_of_version_2_has_its_quota_in_its_own_group_or_above)
{
    put("/proc/self/cgroup", "0::/system.slice/parley.service\n");
    put("/sys/fs/cgroup/system.slice/parley.service/cpu.max", "max 100000\n");
    put("/sys/fs/cgroup/system.slice/cpu.max", "50000 100000\n");
    expect(1);
    put("/sys/fs/cgroup/system.slice/cpu.max", "max 100000\n");
    expect(all());
    put("/sys/fs/cgroup/system.slice/parley.service/cpu.max", "30000 100000\n");
    expect(1);
}
END_TEST

START_TEST(part_of_a_cpu_is_rounded_up)
{
    put("/proc/self/cgroup", "0::/a\n");
    put("/sys/fs/cgroup/a/cpu.max", "110000 100000\n");
    expect(2);
}
END_TEST

START_TEST(version_1_is_read_by_its_controller)
{
    put("/proc/self/cgroup", "5:cpuset:/elsewhere\n4:cpu,cpuacct:/docker/x\n0::/\n");
    put("/sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us", "100000\n");
    put("/sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us", "100000\n");
    expect(1);
    put("/sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us", "-1\n");
    expect(all());
}
END_TEST

START_TEST(a_container_of_version_1_sees_its_quota_at_the_top)
{
    put("/proc/self/cgroup", "2:cpuacct:/docker/x\n1:cpu:/docker/x\n"); /* the path is the host's */
    put("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "20000\n");
    put("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
    expect(1);
}
END_TEST

START_TEST(threads_of_one_core_count_once)
{
    if (all() < 2) return;
    put("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0-1\n");
    put("/sys/devices/system/cpu/cpu1/topology/thread_siblings_list", "0-1\n");
    cpu_set_t two;
    CPU_ZERO(&two);
    CPU_SET(0, &two);
    CPU_SET(1, &two);
    if (sched_setaffinity(0, sizeof two, &two) != 0) return; /* the machine gives other CPUs */
    ck_assert_int_eq(cores_available(root), 1);
}
END_TEST

START_TEST(affinity_limits)
{
    cpu_set_t set, one;
    ck_assert_int_eq(sched_getaffinity(0, sizeof set, &set), 0);
    CPU_ZERO(&one);
    for (size_t i = 0; i < CPU_SETSIZE && !CPU_COUNT(&one); i++)
        if (CPU_ISSET(i, &set)) CPU_SET(i, &one);
    ck_assert_int_eq(sched_setaffinity(0, sizeof one, &one), 0);
    ck_assert_int_eq(cores_available(root), 1);
}
END_TEST

START_TEST(lines_that_make_no_sense_are_passed_over)
{
    put("/proc/self/cgroup", "\n:\n::\nx:cpu\n0::\n1:cpu:no-slash\n");
    put("/sys/fs/cgroup/cpu.max", "many few\n");
    expect(all());
}
END_TEST

unit_adder add_cores;
void add_cores(TCase *tc)
{
    tcase_add_checked_fixture(tc, set_up, tear_down);
    tcase_add_test(tc, without_limits_every_cpu_counts);
    tcase_add_test(tc, a_container_of_version_2_sees_its_quota_at_the_top);
    tcase_add_test(tc, a_service_of_version_2_has_its_quota_in_its_own_group_or_above);
    tcase_add_test(tc, part_of_a_cpu_is_rounded_up);
    tcase_add_test(tc, version_1_is_read_by_its_controller);
    tcase_add_test(tc, a_container_of_version_1_sees_its_quota_at_the_top);
    tcase_add_test(tc, threads_of_one_core_count_once);
    tcase_add_test(tc, affinity_limits);
    tcase_add_test(tc, lines_that_make_no_sense_are_passed_over);
}
