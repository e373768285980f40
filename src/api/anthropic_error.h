/* anthropic_error: the one table of errors of Anthropic's API: status, type, retry advice, body. */
#ifndef API_ANTHROPIC_ERROR_H
#define API_ANTHROPIC_ERROR_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

struct anthropic_error {
    int status;
    const char *type;
    const char *code;      /* details.error_code, or NULL */
    char details[500];     /* further members of details, as JSON: ,"key":value... */
    int retry_after_s;     /* 0 = no header */
    bool should_not_retry; /* sends x-should-retry: false with a status that clients would repeat */
    char message[1000];
};

/* Fills e from a status of the table; code may be NULL. Returns false, so that a failure is one statement. */
bool anthropic_error_set(struct anthropic_error *e, int status, const char *code, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* What a backend reports. Texts of internal faults stay in the log: the client gets one constant sentence. */
void anthropic_error_from(struct anthropic_error *e, const struct err *err);
/* {"type":"error",...}, as a body and as the data of `event: error`. */
void anthropic_error_write(struct buf *out, const struct anthropic_error *e, struct str request_id);

#endif
