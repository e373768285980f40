/* cores: how many threads are worth starting. Affinity (which a cpuset narrows, too) says where the process may run,
 * the quota of control groups how much of that it gets. Reads files only; any thread. */
#define _GNU_SOURCE
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compute/compute_internal.h"

#define PATH_BYTES 4096

static bool read_line(char *line, int size, const char *path)
{
    FILE *f = fopen(path, "re");
    if (!f) return false;
    bool ok = fgets(line, size, f) != NULL;
    fclose(f);
    return ok;
}

static long read_long(const char *path)
{
    char line[64];
    return read_line(line, sizeof line, path) ? strtol(line, NULL, 10) : -1;
}

/* ---- quota ---- */

/* CPUs that a quota allows, rounded up; 0 = no quota. */
static int cpus_of(long quota, long period)
{
    if (quota <= 0 || period <= 0) return 0;
    long cpus = quota / period + (quota % period != 0);
    return cpus < INT_MAX ? (int)cpus : 0;
}

static int quota_v2(const char *dir)
{
    char path[PATH_BYTES + 64], line[64], *rest;
    snprintf(path, sizeof path, "%s/cpu.max", dir);
    if (!read_line(line, sizeof line, path)) return 0;
    long quota = strtol(line, &rest, 10); /* "max 100000" gives 0 */
    return cpus_of(quota, strtol(rest, NULL, 10));
}

static int quota_v1(const char *dir)
{
    char path[PATH_BYTES + 64];
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", dir);
    long quota = read_long(path);
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", dir);
    return cpus_of(quota, read_long(path));
}

/* The least of a group and all groups above it. A group that is not there (another name space) counts nothing: inside a
 * container the mount's top is the own group. */
static int quota_upward(const char *mount, const char *group, int (*quota)(const char *dir))
{
    char dir[PATH_BYTES];
    int least = 0, n = snprintf(dir, sizeof dir, "%s%s", mount, group);
    size_t top = strlen(mount);
    if (n < 0 || n >= PATH_BYTES) dir[top] = '\0';
    for (;;) {
        int cpus = quota(dir);
        if (cpus && (!least || cpus < least)) least = cpus;
        char *slash = strrchr(dir, '/');
        if (!slash || (size_t)(slash - dir) < top || strlen(dir) <= top) return least;
        *slash = '\0';
    }
}

/* Whether `controllers` ("cpu,cpuacct") names cpu. */
static bool has_cpu(const char *controllers)
{
    for (const char *p = controllers; *p; p += strcspn(p, ","), p += *p == ',')
        if (strcspn(p, ",") == 3 && memcmp(p, "cpu", 3) == 0) return true;
    return false;
}

/* Lines of /proc/self/cgroup: "ID:CONTROLLERS:GROUP"; the unified hierarchy has no controllers. The folder of a
 * controller that shares a hierarchy has a link of its own name. 0 = no quota. */
static int quota_cpus(const char *root)
{
    char path[PATH_BYTES], line[PATH_BYTES];
    int least = 0;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) continue;
        *group++ = '\0';
        controllers++;
        bool unified = !*controllers;
        if (!unified && !has_cpu(controllers)) continue;
        int n = snprintf(path, sizeof path, "%s/sys/fs/cgroup%s", root, unified ? "" : "/cpu");
        if (n < 0 || n >= PATH_BYTES) continue;
        int cpus = quota_upward(path, group, unified ? quota_v2 : quota_v1);
        if (cpus && (!least || cpus < least)) least = cpus;
    }
    if (f) fclose(f);
    return least;
}

/* ---- cores ---- */

int cores_available(const char *root)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = 0;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &set)) continue;
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%s/sys/devices/system/cpu/cpu%zu/topology/thread_siblings_list", root, cpu);
        long first = read_long(path); /* "0,4" or "0-1": a core counts once, by its first thread that we may use */
        bool counted = first >= 0 && (size_t)first < cpu && CPU_ISSET((size_t)first, &set);
        if (!counted) n++;
    }
    int quota = quota_cpus(root);
    if (quota && quota < n) n = quota;
    return n < 1 ? 1 : n;
}
