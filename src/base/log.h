/* log: lines on standard error, "12:34:56.789 info  text". The sink and level are the one global that may change; set
 * them before threads start. Below server/ and cli/ only library code that has no err to fill may log. */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };

/* Gets a finished line without newline; may be called from several threads at once. */
typedef void log_sink(void *ctx, enum log_level level, const char *line);

void log_set_level(enum log_level level);
void log_set_sink(log_sink *sink, void *ctx); /* NULL = standard error */
void log_write(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)

#endif
