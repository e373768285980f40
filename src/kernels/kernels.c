/* kernels: which level this CPU and operating system can run, and the ladder of fill functions. Compiled for the
 * baseline CPU: nothing here may need more than SSE2. */
#define _GNU_SOURCE
#include "kernels/kernels.h"

#include <string.h>

#include "kernels/kernels_internal.h"

#if defined(__x86_64__)
#include <cpuid.h>
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#endif

static const char *const level_names[CPU_LEVEL_N] = {"c", "avx2", "avx512", "amx"};

const char *cpu_level_name(enum cpu_level level)
{
    return level < CPU_LEVEL_N ? level_names[level] : "unknown";
}

bool cpu_level_parse(enum cpu_level *level, const char *name)
{
    for (int i = 0; i < CPU_LEVEL_N; i++)
        if (strcmp(name, level_names[i]) == 0) {
            *level = (enum cpu_level)i;
            return true;
        }
    return false;
}

static const char *const kv_names[KV_TYPE_N] = {"f16", "q8_0"};

const char *kv_type_name(enum kv_type type)
{
    return kv_names[type];
}

bool kv_type_parse(enum kv_type *type, const char *name)
{
    for (int i = 0; i < KV_TYPE_N; i++)
        if (strcmp(name, kv_names[i]) == 0) {
            *type = (enum kv_type)i;
            return true;
        }
    return false;
}

#if defined(__x86_64__)
struct cpu_features {
    unsigned leaf1_ecx, leaf7_ebx, leaf7_ecx, leaf7_edx;
    uint64_t xcr0; /* register state that the operating system saves */
};

static void features_get(struct cpu_features *f)
{
    unsigned a, b, c, d;
    memset(f, 0, sizeof *f);
    if (__get_cpuid(1, &a, &b, &c, &d)) f->leaf1_ecx = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        f->leaf7_ebx = b;
        f->leaf7_ecx = c;
        f->leaf7_edx = d;
    }
    if (f->leaf1_ecx & bit_OSXSAVE) {
        __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
        f->xcr0 = (uint64_t)d << 32 | a;
    }
}

static bool has_all(uint64_t value, uint64_t bits)
{
    return (value & bits) == bits;
}

static bool has_avx2(const struct cpu_features *f)
{
    return has_all(f->leaf1_ecx, bit_AVX | bit_FMA | bit_F16C) && has_all(f->leaf7_ebx, bit_AVX2) &&
           has_all(f->xcr0, 6);
}

static bool has_avx512(const struct cpu_features *f)
{
    return has_avx2(f) && has_all(f->leaf7_ebx, bit_AVX512F | bit_AVX512BW | bit_AVX512DQ | bit_AVX512VL) &&
           has_all(f->leaf7_ecx, bit_AVX512VNNI) && has_all(f->xcr0, 0xe6);
}

/* Linux hands tile registers only to processes that ask (arch_prctl, "Using XSTATE features in user space"). */
static bool amx_permitted(void)
{
#if defined(__linux__) && defined(SYS_arch_prctl)
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
#else
    return false;
#endif
}

static bool has_amx(const struct cpu_features *f)
{
    const unsigned amx_tile = 1u << 24, amx_int8 = 1u << 25;
    return has_avx512(f) && has_all(f->leaf7_edx, amx_tile | amx_int8) && has_all(f->xcr0, 0x60000) && amx_permitted();
}

enum cpu_level cpu_level_detect(void)
{
    struct cpu_features f;
    features_get(&f);
    return has_amx(&f) ? CPU_AMX : has_avx512(&f) ? CPU_AVX512 : has_avx2(&f) ? CPU_AVX2 : CPU_C;
}
#else
enum cpu_level cpu_level_detect(void)
{
    return CPU_C;
}
#endif

enum cpu_level cpu_level_default(void)
{
    enum cpu_level best = cpu_level_detect();
    return best > CPU_AVX512 ? CPU_AVX512 : best;
}

/* Every level lays its functions over those of the levels below; NULL = nothing of its own. */
static void (*const fills[CPU_LEVEL_N])(struct kernels *k) = {
    [CPU_C] = kernels_fill_c,
#if defined(__x86_64__)
    [CPU_AVX2] = kernels_fill_avx2,
    [CPU_AVX512] = kernels_fill_avx512,
    [CPU_AMX] = kernels_fill_amx,
#endif
};

void kernels_init(struct kernels *k, enum cpu_level level)
{
    memset(k, 0, sizeof *k);
    for (int i = 0; i <= (int)level; i++)
        if (fills[i]) fills[i](k);
    k->level = level;
}
