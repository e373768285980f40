/* anthropic_error: see anthropic_error.h. Permanent failures never get a status that clients repeat by themselves (408,
 * 409, 429, 5xx), unless the answer also says x-should-retry: false. */
#include "api/anthropic_error.h"

#include <stdarg.h>
#include <stdio.h>

#include "api/json_text.h"
#include "base/utf8.h"

static const struct {
    int status;
    const char *type;
    int retry_after_s;
} statuses[] = {
    {400, "invalid_request_error", 0},
    {401, "authentication_error", 0},
    {403, "permission_error", 0},
    {404, "not_found_error", 0},
    {405, "invalid_request_error", 0},
    {408, "invalid_request_error", 0}, /* headers did not come: no client of ours got that far */
    {413, "request_too_large", 0},
    {414, "invalid_request_error", 0},
    {417, "invalid_request_error", 0},
    {429, "rate_limit_error", 2},
    {431, "invalid_request_error", 0},
    {500, "api_error", 0},
    {502, "api_error", 2},
    {504, "timeout_error", 0},
    {505, "invalid_request_error", 0},
    {529, "overloaded_error", 2},
};

static const struct {
    enum err_kind kind;
    int status;
    bool is_permanent;
    bool is_secret; /* the text may name paths or addresses */
} kinds[] = {
    {ERR_INVALID, 400, false, false},
    {ERR_TOO_LARGE, 400, false, false}, /* a prompt too long is a 400; 413 is for the bytes of a body */
    {ERR_NOT_FOUND, 404, false, false},
    {ERR_UNAUTHORISED, 401, false, false},
    {ERR_BUSY, 529, false, false},
    {ERR_CANCELLED, 529, false, false},
    {ERR_TIMEOUT, 504, false, false},
    {ERR_UPSTREAM, 502, false, false},
    {ERR_CORRUPT, 500, true, true},
    {ERR_IO, 500, false, true},
    {ERR_INTERNAL, 500, false, true},
};

static void set_status(struct anthropic_error *e, int status)
{
    *e = (struct anthropic_error){.status = status, .type = status < 500 ? "invalid_request_error" : "api_error"};
    for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++) {
        if (statuses[i].status != status) continue;
        e->type = statuses[i].type;
        e->retry_after_s = statuses[i].retry_after_s;
    }
}

bool anthropic_error_set(struct anthropic_error *e, int status, const char *code, const char *fmt, ...)
{
    set_status(e, status);
    e->code = code;
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(e->message, sizeof e->message, fmt, ap);
    va_end(ap);
    if (n < 0) e->message[0] = '\0';
    size_t len = str_from(e->message).len;
    if ((size_t)n > len) e->message[utf8_complete_len((struct str){e->message, len})] = '\0';
    return false;
}

void anthropic_error_from(struct anthropic_error *e, const struct err *err)
{
    size_t i = 0;
    size_t n = sizeof kinds / sizeof *kinds;
    while (i < n && kinds[i].kind != err->kind) i++;
    if (i == n || kinds[i].is_secret) {
        anthropic_error_set(e, i == n ? 500 : kinds[i].status, NULL,
                            "Internal server error: the server's log has the details under this request id");
    } else {
        anthropic_error_set(e, kinds[i].status, NULL, "%s", err->msg);
    }
    if (i < n) e->should_not_retry = kinds[i].is_permanent;
}

void anthropic_error_write(struct buf *out, const struct anthropic_error *e, struct str request_id)
{
    buf_printf(out, "{\"type\":\"error\",\"error\":{\"type\":\"%s\",\"message\":", e->type);
    json_text_string(out, str_from(e->message));
    if (e->code) buf_printf(out, ",\"details\":{\"error_code\":\"%s\"%s}", e->code, e->details);
    buf_append(out, STR("},\"request_id\":"));
    json_text_string(out, request_id);
    buf_append_char(out, '}');
}
