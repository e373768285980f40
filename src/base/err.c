/* err: see err.h. Messages are cut at a character border, so that they always stay UTF-8. */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

static void cut(struct err *e)
{
    size_t len = strlen(e->msg);
    if (len == sizeof e->msg - 1) e->msg[utf8_complete_len((struct str){e->msg, len})] = '\0';
}

bool err_set(struct err *e, enum err_kind kind, const char *fmt, ...)
{
    if (!e) return false;
    va_list ap;
    va_start(ap, fmt);
    e->kind = kind;
    vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    cut(e);
    return false;
}

bool err_prefix(struct err *e, const char *fmt, ...)
{
    if (!e) return false;
    char old[sizeof e->msg];
    memcpy(old, e->msg, sizeof old);
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e->msg, sizeof e->msg, fmt, ap);
    va_end(ap);
    if (n >= 0 && (size_t)n < sizeof e->msg) snprintf(e->msg + n, sizeof e->msg - (size_t)n, "%s", old);
    cut(e);
    return false;
}

const char *err_kind_name(enum err_kind kind)
{
    static const char *const names[] = {
#define ERR_NAME(upper, lower) #lower,
        ERR_KINDS(ERR_NAME)
#undef ERR_NAME
    };
    return (unsigned)kind < sizeof names / sizeof *names ? names[kind] : "unknown";
}
