/* log: see log.h. Control characters in a message (they may come from a client) are replaced, so that nobody forges
 * log lines or drives a terminal. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

static enum log_level threshold = LOG_INFO;
static log_sink *sink;
static void *sink_ctx;

void log_set_level(enum log_level level)
{
    threshold = level;
}

void log_set_sink(log_sink *to, void *ctx)
{
    sink = to;
    sink_ctx = ctx;
}

void log_write(enum log_level level, const char *fmt, ...)
{
    static const char *const names[] = {"debug", "info ", "warn ", "error"};
    if (level < threshold || level >= LOG_OFF) return;
    char line[2048];
    struct timespec now;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &tm);
    int head = snprintf(line, sizeof line, "%02d:%02d:%02d.%03ld %s ", tm.tm_hour, tm.tm_min, tm.tm_sec,
                        now.tv_nsec / 1000000, names[level]);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line + head, sizeof line - (size_t)head, fmt, ap);
    va_end(ap);
    for (char *c = line; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = ' ';
    if (sink) sink(sink_ctx, level, line);
    else fprintf(stderr, "%s\n", line);
}
