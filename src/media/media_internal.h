/* A child process under limits. */
#ifndef MEDIA_INTERNAL_H
#define MEDIA_INTERNAL_H

#include "media/media.h"

enum child_end {
    CHILD_EXITED,
    CHILD_KILLED,  /* by a signal: a limit of the kernel, or a crash */
    CHILD_TIMEOUT, /* the rest: killed by us */
    CHILD_CANCELLED,
    CHILD_OUTPUT_FULL,
};
struct child_result {
    enum child_end end;
    int status; /* EXITED: exit status, 127 = no such program; KILLED: the signal */
};
struct child_limits {
    uint32_t wall_ms, cpu_s;
    size_t memory_bytes;
};

/* Runs argv (NULL-terminated) with input_fd as its standard input, in a process group of its own, without the server's
 * files and environment, unable to write files. Its output goes to out and errors; a full out ends it, a full errors
 * does not. Nothing of it is left when this returns. false: it could not be started. */
bool child_run(struct child_result *result, struct buf *out, struct buf *errors, const char *const *argv, int input_fd,
               const struct child_limits *limits, bool (*is_cancelled)(void *ctx), void *ctx, struct err *e);

#endif
