/* child: a program that reads hostile bytes, under limits that the kernel keeps even if we do not: processor time,
 * address space, no files written. A shell sets them (it runs before the program, so there is no moment without them),
 * and posix_spawn starts it without copying this process. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "media/media_internal.h"

#define ARGS_MAX 32
#define TICK_MS 50
#define READ_BYTES ((size_t)64 << 10)

static const char limiter[] = "ulimit -v \"$1\" && ulimit -t \"$2\" && ulimit -f 0 && ulimit -c 0 && ulimit -n 32 || "
                              "exit 126; shift 2; exec \"$@\"";

struct pipes {
    int out[2], errors[2];
};

static void close_fd(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}

static bool spawn(pid_t *pid, const struct pipes *pipes, const char *const *argv, int input_fd,
                  const struct child_limits *limits)
{
    static const char *const environment[] = {"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C.UTF-8",
                                              "HOME=/nonexistent", NULL};
    char memory[24], cpu[24];
    const char *args[ARGS_MAX] = {"sh", "-c", limiter, "sh", memory, cpu};
    size_t n = 6;
    posix_spawn_file_actions_t files;
    posix_spawnattr_t how;
    sigset_t none;
    snprintf(memory, sizeof memory, "%zu", limits->memory_bytes >> 10);
    snprintf(cpu, sizeof cpu, "%" PRIu32, limits->cpu_s);
    for (; *argv && n + 1 < ARGS_MAX; argv++) args[n++] = *argv;
    if (posix_spawn_file_actions_init(&files)) return false;
    if (posix_spawnattr_init(&how)) {
        posix_spawn_file_actions_destroy(&files);
        return false;
    }
    sigemptyset(&none);
    bool ok = !posix_spawn_file_actions_adddup2(&files, input_fd, 0) &&
              !posix_spawn_file_actions_adddup2(&files, pipes->out[1], 1) &&
              !posix_spawn_file_actions_adddup2(&files, pipes->errors[1], 2) &&
              !posix_spawn_file_actions_addclosefrom_np(&files, 3) &&
              !posix_spawnattr_setflags(&how, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK) &&
              !posix_spawnattr_setpgroup(&how, 0) && !posix_spawnattr_setsigmask(&how, &none) &&
              !posix_spawn(pid, "/bin/sh", &files, &how, (char *const *)args, (char *const *)environment);
    posix_spawnattr_destroy(&how);
    posix_spawn_file_actions_destroy(&files);
    return ok;
}

/* Reads what is there. Closes *fd at its end. false: out is full. */
static bool drain(int *fd, struct buf *out)
{
    static const size_t step = READ_BYTES;
    char bytes[4096];
    size_t total = 0;
    while (total < step) {
        ssize_t n = read(*fd, bytes, sizeof bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return true;
        if (n <= 0) {
            close_fd(fd);
            return true;
        }
        total += (size_t)n;
        if (!buf_append(out, (struct str){bytes, (size_t)n})) return false;
    }
    return true;
}

struct watch {
    uint64_t deadline_ns;
    bool (*is_cancelled)(void *ctx);
    void *ctx;
};

/* true: the child must end now, *why says it. */
static bool is_over(const struct watch *w, enum child_end *why)
{
    if (w->is_cancelled && w->is_cancelled(w->ctx)) *why = CHILD_CANCELLED;
    else if (clock_ns() > w->deadline_ns) *why = CHILD_TIMEOUT;
    else return false;
    return true;
}

/* Until both pipes are closed. true: it must be killed for the reason in *why. */
static bool collect(enum child_end *why, struct pipes *pipes, struct buf *out, struct buf *errors,
                    const struct watch *w)
{
    while (pipes->out[0] >= 0 || pipes->errors[0] >= 0) {
        struct pollfd fds[] = {{pipes->out[0], POLLIN, 0}, {pipes->errors[0], POLLIN, 0}};
        if (is_over(w, why)) return true;
        if (poll(fds, 2, TICK_MS) <= 0) continue;
        if (fds[0].revents && !drain(&pipes->out[0], out)) {
            *why = CHILD_OUTPUT_FULL;
            return true;
        }
        if (fds[1].revents) drain(&pipes->errors[0], errors);
    }
    return false;
}

static void reap(struct child_result *result, pid_t pid, bool is_killed, const struct watch *w)
{
    int status = 0;
    pid_t got;
    while ((got = waitpid(pid, &status, is_killed ? 0 : WNOHANG)) == 0 || (got < 0 && errno == EINTR)) {
        if (got == 0) {
            is_killed = is_over(w, &result->end);
            if (is_killed) kill(-pid, SIGKILL);
            else poll(NULL, 0, 2);
        }
    }
    if (is_killed) return;
    result->end = got == pid && WIFEXITED(status) ? CHILD_EXITED : CHILD_KILLED;
    result->status = result->end == CHILD_EXITED ? WEXITSTATUS(status) : WTERMSIG(status);
}

static bool open_pipes(struct pipes *pipes)
{
    *pipes = (struct pipes){{-1, -1}, {-1, -1}};
    return !pipe2(pipes->out, O_CLOEXEC) && !pipe2(pipes->errors, O_CLOEXEC) &&
           fcntl(pipes->out[0], F_SETFL, O_NONBLOCK) != -1 && fcntl(pipes->errors[0], F_SETFL, O_NONBLOCK) != -1;
}

bool child_run(struct child_result *result, struct buf *out, struct buf *errors, const char *const *argv, int input_fd,
               const struct child_limits *limits, bool (*is_cancelled)(void *ctx), void *ctx, struct err *e)
{
    struct pipes pipes;
    pid_t pid = -1;
    struct watch w = {clock_ns() + (uint64_t)limits->wall_ms * 1000000, is_cancelled, ctx};
    bool ok = open_pipes(&pipes) && spawn(&pid, &pipes, argv, input_fd, limits);
    *result = (struct child_result){CHILD_EXITED, -1};
    close_fd(&pipes.out[1]);
    close_fd(&pipes.errors[1]);
    if (ok) {
        bool must_die = collect(&result->end, &pipes, out, errors, &w);
        if (must_die) kill(-pid, SIGKILL);
        reap(result, pid, must_die, &w);
    }
    close_fd(&pipes.out[0]);
    close_fd(&pipes.errors[0]);
    return ok || err_set(e, ERR_IO, "cannot start %s", argv[0]);
}
