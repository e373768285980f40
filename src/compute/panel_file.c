/* panel_file: images of packed weights in a folder, DIR/NAME.LEVEL.panels. A file is
 *     the image, padded to PAD    sums[ceil(bytes / IMAGE_CHUNK)], a hash of each chunk    struct footer
 * and is trusted only where size, identity, layout and every hash are as expected: so a power failure needs no fsync.
 * It is written under another name and renamed when it is complete, so nobody maps a file that still changes. Files are
 * cut short by nobody here; a program that does so while one is mapped ends this one (SIGBUS), as with model files.
 *
 * Threads: loading and starting run on the caller's; the writer has its own and reads the image only. */
#define _GNU_SOURCE /* fallocate, setpriority on a thread, madvise */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "compute/compute_internal.h"

#define PAD 4096
#define SUFFIX ".panels"
#define FORMAT 1
#define PATH_BYTES 4096
#define WRITER_NICE 5
#define PATIENCE_S 10 /* at the end of a program that was shorter than the writing */

struct footer {
    char magic[8];
    uint64_t format, identity, layout, bytes;
    uint64_t sums_hash;
    uint64_t own_hash; /* of everything before */
};
static const char magic[8] = "panels\r\n";

static size_t padded(size_t bytes)
{
    return (bytes + PAD - 1) / PAD * PAD;
}

static size_t n_chunks(size_t bytes)
{
    return (bytes + IMAGE_CHUNK - 1) / IMAGE_CHUNK;
}

static size_t chunk_size(size_t bytes, size_t chunk)
{
    size_t left = bytes - chunk * IMAGE_CHUNK;
    return left < IMAGE_CHUNK ? left : IMAGE_CHUNK;
}

static size_t file_bytes(size_t bytes)
{
    return padded(bytes) + n_chunks(bytes) * sizeof(uint64_t) + sizeof(struct footer);
}

static uint64_t chunk_hash(const uint8_t *data, size_t size, size_t chunk)
{
    return hash64_bulk(data, size, chunk);
}

static uint64_t footer_hash(const struct footer *f)
{
    return hash64(f, offsetof(struct footer, own_hash), 0);
}

static bool path_make(char out[PATH_BYTES], const struct panel_cache *cache, enum cpu_level level, const char *more)
{
    int n = snprintf(out, PATH_BYTES, "%s/%s.%s" SUFFIX "%s", cache->dir, cache->name, cpu_level_name(level), more);
    if (n > 0 && n < PATH_BYTES) return true;
    log_warn("repack cache: the path %.100s... is too long", cache->dir);
    return false;
}

/* ---- loading ---- */

static bool read_all(int fd, void *to, size_t size, size_t at)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pread(fd, (char *)to + done, size - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        done += (size_t)n;
    }
    return true;
}

/* The hashes of the chunks, or NULL with the reason why the file is of no use. */
static uint64_t *sums_read(int fd, const struct panel_cache *cache, uint64_t layout, size_t bytes, const char **why)
{
    struct footer f;
    struct stat st;
    size_t sums_bytes = n_chunks(bytes) * sizeof(uint64_t);
    *why = "it is damaged";
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof f) return NULL;
    if (!read_all(fd, &f, sizeof f, (size_t)st.st_size - sizeof f)) return NULL;
    if (memcmp(f.magic, magic, sizeof magic) != 0 || f.own_hash != footer_hash(&f)) return NULL;
    *why = f.identity != cache->identity ? "it is of another model file" : "it is of another version of parley";
    if (f.format != FORMAT || f.identity != cache->identity || f.layout != layout || f.bytes != bytes) return NULL;
    *why = "it is damaged";
    if ((uint64_t)st.st_size != file_bytes(bytes)) return NULL;
    uint64_t *sums = mem_try_alloc(sums_bytes);
    if (sums && read_all(fd, sums, sums_bytes, padded(bytes)) && hash64_bulk(sums, sums_bytes, 0) == f.sums_hash)
        return sums;
    mem_free(sums);
    return NULL;
}

struct check_job {
    int fd; /* -1: the image is the file's map */
    uint8_t *image;
    size_t bytes;
    const uint64_t *sums;
    _Atomic bool failed;
};

static void check_chunks(void *ctx, int from, int to, int worker)
{
    (void)worker;
    struct check_job *job = ctx;
    for (int i = from; i < to && !atomic_load(&job->failed); i++) {
        size_t chunk = (size_t)i, at = chunk * IMAGE_CHUNK, size = chunk_size(job->bytes, chunk);
        bool ok = job->fd < 0 || read_all(job->fd, job->image + at, size, at);
        if (!ok || chunk_hash(job->image + at, size, chunk) != job->sums[i]) atomic_store(&job->failed, true);
    }
}

static bool check_image(struct compute *c, int fd, uint8_t *image, const uint64_t *sums, size_t bytes)
{
    struct check_job job = {.fd = fd, .image = image, .bytes = bytes, .sums = sums};
    compute_for(c, check_chunks, &job, (int)n_chunks(bytes), 1);
    return !atomic_load(&job.failed);
}

/* The file's map at an address where its huge pages can be used as they are. */
static uint8_t *map_file(int fd, size_t bytes)
{
    uint8_t *place = mem_try_map(bytes); /* aligned; the file goes over it */
    if (!place) return NULL;
    if (mmap(place, padded(bytes), PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED) {
        mem_unmap(place, bytes);
        return NULL;
    }
    (void)madvise(place, padded(bytes), MADV_HUGEPAGE); /* pages that are still on the disk come in as huge ones */
    return place;
}

/* Whether most of a map lies in huge pages, which the file system and the kernel decide. */
static bool map_is_huge(const uint8_t *map, size_t bytes)
{
    char line[512];
    bool ours = false;
    uint64_t kib = 0;
    FILE *f = fopen("/proc/self/smaps", "re");
    if (!f) return false;
    while (fgets(line, sizeof line, f)) {
        uint64_t from, to;
        if (sscanf(line, "%" SCNx64 "-%" SCNx64 " ", &from, &to) == 2) {
            if (ours) break;
            ours = from == (uint64_t)(uintptr_t)map;
        } else if (ours) {
            (void)sscanf(line, "FilePmdMapped: %" SCNu64 " kB", &kib);
        }
    }
    fclose(f);
    return kib * 1024 >= bytes / 2;
}

/* Small pages cost decoding more than a copy costs the start: an image that does not lie in huge pages is copied. */
static uint8_t *image_get(struct compute *c, int fd, const uint64_t *sums, size_t bytes)
{
    uint8_t *image = map_file(fd, bytes);
    if (image) {
        bool ok = check_image(c, -1, image, sums, bytes);
        if (ok && (bytes < IMAGE_CHUNK || map_is_huge(image, bytes))) return image;
        mem_unmap(image, bytes);
        if (!ok) return NULL;
    }
    image = mem_try_map(bytes);
    if (image && check_image(c, fd, image, sums, bytes)) return image;
    mem_unmap(image, bytes);
    return NULL;
}

uint8_t *panel_file_load(struct compute *c, const struct panel_cache *cache, uint64_t layout, size_t bytes)
{
    char path[PATH_BYTES];
    const char *why = NULL;
    uint8_t *image = NULL;
    if (!path_make(path, cache, c->kernels.level, "")) return NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        if (errno != ENOENT && errno != ENOTDIR) log_warn("repack cache: cannot read %s: %s", path, strerror(errno));
        return NULL;
    }
    uint64_t *sums = sums_read(fd, cache, layout, bytes, &why);
    if (sums) {
        image = image_get(c, fd, sums, bytes);
        why = "it is damaged";
    }
    if (image) (void)futimens(fd, NULL); /* what was used last is dropped last */
    else log_warn("repack cache: %s is not used and made anew: %s", path, why);
    mem_free(sums);
    close(fd);
    return image;
}

/* ---- writing ---- */

struct panel_writer {
    pthread_t thread;
    _Atomic bool stop;
    int fd; /* of the file under its other name, locked */
    char path[PATH_BYTES], partial[PATH_BYTES];
    const uint8_t *image;
    size_t bytes;
    struct footer footer;
};

static bool write_all(int fd, const void *from, size_t size, size_t at)
{
    for (size_t done = 0; done < size;) {
        ssize_t n = pwrite(fd, (const char *)from + done, size - done, (off_t)(at + done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        done += (size_t)n;
    }
    return true;
}

/* In whole chunks: file systems keep a page of the cache as large as it was written. */
static bool write_image(struct panel_writer *w)
{
    size_t n = n_chunks(w->bytes), sums_bytes = n * sizeof(uint64_t);
    uint64_t *sums = mem_alloc(sums_bytes);
    bool ok = true;
    for (size_t i = 0; ok && i < n; i++) {
        size_t size = chunk_size(w->bytes, i);
        const uint8_t *data = w->image + i * IMAGE_CHUNK;
        if (atomic_load(&w->stop)) errno = ECANCELED;
        ok = !atomic_load(&w->stop) && write_all(w->fd, data, size, i * IMAGE_CHUNK);
        sums[i] = chunk_hash(data, size, i);
    }
    w->footer.sums_hash = hash64_bulk(sums, sums_bytes, 0);
    w->footer.own_hash = footer_hash(&w->footer);
    ok = ok && write_all(w->fd, sums, sums_bytes, padded(w->bytes)) &&
         write_all(w->fd, &w->footer, sizeof w->footer, padded(w->bytes) + sums_bytes);
    mem_free(sums);
    return ok;
}

static void *writer_main(void *arg)
{
    struct panel_writer *w = arg;
    double from = clock_seconds();
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), WRITER_NICE); /* of this thread only, on Linux */
    bool ok = write_image(w) && rename(w->partial, w->path) == 0;
    if (ok) {
        log_info("repack cache: %s written in %.1f s (%.0f MB)", w->path, clock_seconds() - from,
                 (double)w->bytes / 1e6);
    } else {
        if (!atomic_load(&w->stop)) log_warn("repack cache: cannot write %s: %s", w->partial, strerror(errno));
        unlink(w->partial);
    }
    close(w->fd); /* gives up the lock, so after everything else */
    return NULL;
}

/* Opens the file under its other name and locks it. -1: another process writes it (no message), or an error. */
static int open_partial(const char *path)
{
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
    if (fd < 0) {
        log_warn("repack cache: cannot write %s: %s", path, strerror(errno));
        return -1;
    }
    /* Between open and lock the other process may have finished: then this is the file in use. */
    struct stat ours, there;
    if (flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &ours) == 0 && stat(path, &there) == 0 &&
        ours.st_ino == there.st_ino && ours.st_dev == there.st_dev)
        return fd;
    close(fd);
    return -1;
}

/* Names of images end in SUFFIX; what is not ours to delete does not. */
static bool is_image(const char *name)
{
    size_t n = strlen(name), suffix = sizeof SUFFIX - 1;
    return n > suffix && strcmp(name + n - suffix, SUFFIX) == 0;
}

struct entry {
    char path[PATH_BYTES];
    struct timespec used;
};

static bool older(const struct timespec *a, const struct timespec *b)
{
    return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

/* Bytes of the images in dir but `keep`, and the one that was not used for longest. */
static uint64_t look_through(DIR *dir, const char *dir_path, const char *keep, struct entry *oldest)
{
    uint64_t total = 0;
    oldest->path[0] = '\0';
    rewinddir(dir);
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        char path[PATH_BYTES];
        struct stat st;
        int n = snprintf(path, sizeof path, "%s/%s", dir_path, d->d_name);
        if (!is_image(d->d_name) || n >= PATH_BYTES || strcmp(path, keep) == 0) continue;
        if (lstat(path, &st) != 0 || !S_ISREG(st.st_mode)) continue;
        total += (uint64_t)st.st_size;
        if (oldest->path[0] && !older(&st.st_mtim, &oldest->used)) continue;
        memcpy(oldest->path, path, (size_t)n + 1);
        oldest->used = st.st_mtim;
    }
    return total;
}

/* Room for a file of `size` bytes: below the limit of the folder, and at most half of what the disk has left. */
static bool make_room(const struct panel_cache *cache, const char *path, uint64_t size)
{
    struct statvfs fs;
    struct entry oldest;
    if (size > cache->max_bytes) {
        log_warn("repack cache: an image of %.2f GB is not kept, the limit is %.2f GB (--repack-cache-size)",
                 (double)size / 1e9, (double)cache->max_bytes / 1e9);
        return false;
    }
    DIR *dir = opendir(cache->dir);
    if (!dir) {
        log_warn("repack cache: cannot read %s: %s", cache->dir, strerror(errno));
        return false;
    }
    while (look_through(dir, cache->dir, path, &oldest) > cache->max_bytes - size) {
        if (!oldest.path[0] || unlink(oldest.path) != 0) break;
        log_info("repack cache: %s removed, it was not used for longest", oldest.path);
    }
    closedir(dir);
    if (statvfs(cache->dir, &fs) != 0 || (uint64_t)fs.f_bavail * fs.f_frsize / 2 >= size) return true;
    log_warn("repack cache: an image of %.2f GB is not kept, the disk of %s has %.2f GB left", (double)size / 1e9,
             cache->dir, (double)fs.f_bavail * (double)fs.f_frsize / 1e9);
    return false;
}

/* Cuts off what a killed process has left, and takes the space now, so that a full disk is known before the writing. */
static bool reserve_space(int fd, const char *path, size_t size)
{
    if (ftruncate(fd, 0) == 0 && (fallocate(fd, 0, 0, (off_t)size) == 0 || errno == EOPNOTSUPP || errno == ENOSYS))
        return true;
    log_warn("repack cache: cannot write %s: %s", path, strerror(errno));
    return false;
}

struct panel_writer *panel_writer_start(const struct compute *c, const struct panel_cache *cache, uint64_t layout,
                                        const uint8_t *image, size_t bytes)
{
    struct panel_writer *w = mem_zalloc(sizeof *w);
    w->fd = -1;
    w->image = image;
    w->bytes = bytes;
    w->footer = (struct footer){.format = FORMAT, .identity = cache->identity, .layout = layout, .bytes = bytes};
    memcpy(w->footer.magic, magic, sizeof magic);
    if (mkdir(cache->dir, 0755) != 0 && errno != EEXIST) {
        log_warn("repack cache: cannot make %s: %s", cache->dir, strerror(errno));
        goto out_free;
    }
    if (!path_make(w->path, cache, c->kernels.level, "") || !path_make(w->partial, cache, c->kernels.level, ".partial"))
        goto out_free;
    if (!make_room(cache, w->path, file_bytes(bytes)) || (w->fd = open_partial(w->partial)) < 0) goto out_free;
    if (!reserve_space(w->fd, w->partial, file_bytes(bytes))) goto out_unlink;
    if (pthread_create(&w->thread, NULL, writer_main, w) == 0) return w;
    log_warn("repack cache: no thread to write %s", w->path);

out_unlink:
    unlink(w->partial);
    close(w->fd);
out_free:
    mem_free(w);
    return NULL;
}

void panel_writer_finish(struct panel_writer *w)
{
    if (!w) return;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_S;
    if (pthread_timedjoin_np(w->thread, NULL, &until) != 0) {
        atomic_store(&w->stop, true);
        pthread_join(w->thread, NULL);
    }
    mem_free(w);
}
