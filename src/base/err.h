/* err: one error, filled at the point of failure and carried to the edge. Kinds are what callers act on; each API has
 * one table from kind to status. err_set returns false, so that a failure is one statement:
 *     return err_set(e, ERR_INVALID, "messages.%d.role: expected \"user\" or \"assistant\"", i);
 * A NULL err is allowed everywhere (the caller does not care). */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdbool.h>

#define ERR_KINDS(X)                                                                                 \
    X(NONE, none)                                                                                    \
    X(INVALID, invalid)           /* the request or file is wrong; sending it again will not help */ \
    X(TOO_LARGE, too_large)       /* over a limit that the operator set */                           \
    X(NOT_FOUND, not_found)       /* no such model, path, file */                                    \
    X(UNAUTHORISED, unauthorised) /* missing or wrong key */                                         \
    X(BUSY, busy)                 /* try again later */                                              \
    X(CANCELLED, cancelled)       /* the client left or asked for it */                              \
    X(TIMEOUT, timeout)                                                                              \
    X(UPSTREAM, upstream) /* an engine behind us failed */                                           \
    X(CORRUPT, corrupt)   /* data on disk or in a model file is damaged */                           \
    X(IO, io)             /* the operating system refused */                                         \
    X(INTERNAL, internal) /* our fault */

enum err_kind {
#define ERR_ENUM(upper, lower) ERR_##upper,
    ERR_KINDS(ERR_ENUM)
#undef ERR_ENUM
};

struct err {
    enum err_kind kind;
    char msg[1000]; /* UTF-8, cut to fit */
};

bool err_set(struct err *e, enum err_kind kind, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Puts text in front of the message, keeps the kind; returns false. */
bool err_prefix(struct err *e, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *err_kind_name(enum err_kind kind);

#endif
