/* memory: see memory.h. Reads /proc and /sys; any thread. */
#include "base/memory.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static bool read_number(uint64_t *out, const char *path, const char *scan)
{
    char line[256];
    bool found = false;
    FILE *f = fopen(path, "re");
    if (!f) return false;
    while (!found && fgets(line, sizeof line, f)) found = sscanf(line, scan, out) == 1; /* "max" is no number */
    fclose(f);
    return found;
}

/* The group and every group above it limit the process (control groups, version 2). */
static uint64_t cgroup_left(void)
{
    char group[2048] = "", path[4096];
    uint64_t left = UINT64_MAX;
    FILE *f = fopen("/proc/self/cgroup", "re");
    if (!f) return left;
    while (fgets(group, sizeof group, f) && strncmp(group, "0::/", 4) != 0) group[0] = 0;
    fclose(f);
    group[strcspn(group, "\n")] = 0;
    char *dir = group[0] ? group + 3 : group;
    for (;;) {
        uint64_t limit, used;
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", strcmp(dir, "/") ? dir : "");
        bool limited = read_number(&limit, path, "%" SCNu64);
        snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.current", strcmp(dir, "/") ? dir : "");
        if (limited && read_number(&used, path, "%" SCNu64)) {
            uint64_t here = limit > used ? limit - used : 0;
            if (here < left) left = here;
        }
        char *slash = strrchr(dir, '/');
        if (!slash || !dir[0]) return left;
        *slash = 0;
    }
}

size_t memory_available(void)
{
    uint64_t kib, bytes;
    if (read_number(&kib, "/proc/meminfo", "MemAvailable: %" SCNu64 " kB")) {
        bytes = kib * 1024;
    } else {
        long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
        bytes = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size / 2 : UINT32_MAX;
    }
    uint64_t group = cgroup_left();
    return (size_t)(group < bytes ? group : bytes);
}
