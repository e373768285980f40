/* routes: the table of paths, and what every request passes before its body is read: the guards against web pages, the
 * key, the path and the method. */
#include <stdio.h>
#include <string.h>

#include "server/server_internal.h"

#define SEGMENTS_MAX 8

static void answer_empty(struct call *c)
{
    call_reply(c, 200, NULL, STR(""));
}

static void answer_health(struct call *c)
{
    size_t n;
    c->server->backend->models(c->server->backend->self, &n);
    if (n) call_reply(c, 200, "application/json", STR("{\"status\":\"ok\"}"));
    else call_reply(c, 503, "application/json", STR("{\"status\":\"loading\"}"));
}

/* GET rows also answer HEAD, which needs no key: it shows nothing but that somebody is there. */
static const struct route routes[] = {
    {"POST", "/v1/messages", ROUTE_KEY, messages_create},
    {"POST", "/v1/messages/count_tokens", ROUTE_KEY, messages_count},
    {"GET", "/v1/models", ROUTE_KEY, models_list},
    {"GET", "/v1/models/{}", ROUTE_KEY, models_retrieve},
    {"GET", "/health", ROUTE_OPEN, answer_health},
    {"GET", "/", ROUTE_OPEN, answer_empty},
    {"GET", "/api/hello", ROUTE_OPEN, answer_empty},
    {"POST", "/api/event_logging/batch", ROUTE_OPEN, answer_empty},
};

/* Whether the decoded segments fit the pattern; *id is what stands for "{}". */
static bool path_fits(struct str *id, const char *pattern, const struct str *segments, size_t n)
{
    struct str rest = str_from(pattern);
    size_t i = 0;
    while (rest.len > 1) {
        ptrdiff_t next = str_find(rest, STR("/"), 1);
        size_t to = next < 0 ? rest.len : (size_t)next;
        struct str want = str_slice(rest, 1, to);
        rest = str_slice(rest, to, rest.len);
        if (i == n) return false;
        if (str_eq(want, STR("{}"))) *id = segments[i];
        else if (!str_eq(want, segments[i])) return false;
        i++;
    }
    return i == n;
}

/* The route, or NULL; *known: the path exists, with another method. */
static const struct route *route_find(struct call *c, bool *known)
{
    struct str segments[SEGMENTS_MAX];
    struct str method = http_method(c->x);
    bool is_head = str_eq(method, STR("HEAD"));
    *known = false;
    int n = http_path_split(segments, &c->path_store, SEGMENTS_MAX, http_path(c->x));
    int first = 0;
    /* Base URLs often end in /v1 although clients add it themselves. */
    while (n - first >= 2 && str_eq(segments[first], STR("v1")) && str_eq(segments[first + 1], STR("v1"))) first++;
    if (n < 0) return NULL;
    for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
        struct str wanted = str_from(routes[i].method);
        if (!path_fits(&c->path_id, routes[i].path, segments + first, (size_t)(n - first))) continue;
        *known = true;
        if (str_eq(method, wanted) || (is_head && str_eq(wanted, STR("GET")))) return &routes[i];
    }
    return NULL;
}

static bool is_identity(struct str encoding)
{
    return !encoding.len || str_eq_nocase(encoding, STR("identity"));
}

void routes_head(void *ctx, struct http_exchange *x)
{
    struct server *s = ctx;
    struct call *c = call_create(s, x);
    struct str host = http_header(x, "host");
    struct str origin = http_header(x, "origin");
    struct str method = http_method(x);
    bool known;
    if (!guard_host(s, host)) {
        call_refuse(c, 403, NULL, "the Host header \"%.*s\" is not a name of this machine (see --allow-host)",
                    STR_ARG(str_slice(host, 0, 200)));
        return;
    }
    if (str_eq(method, STR("OPTIONS")) && origin.len) {
        guard_preflight(c);
        return;
    }
    if (!guard_origin(s, origin, host)) {
        call_refuse(c, 403, NULL, "this server takes no requests from web pages of %.*s (see --cors)",
                    STR_ARG(str_slice(origin, 0, 200)));
        return;
    }
    c->route = route_find(c, &known);
    bool is_open = (c->route && c->route->auth == ROUTE_OPEN) || str_eq(method, STR("HEAD"));
    if (!keys_check(s, c, x) && !is_open) {
        bool has_key = http_header(x, "authorization").len || http_header(x, "x-api-key").len;
        call_refuse(c, 401, NULL, "%s",
                    has_key ? "invalid API key"
                            : "an API key is required: send Authorization: "
                              "Bearer KEY or x-api-key: KEY");
    } else if (!c->route && known) {
        call_refuse(c, 405, NULL, "method %.*s is not allowed for %s", STR_ARG(method), c->path);
    } else if (!c->route) {
        call_refuse(c, 404, NULL,
                    "unknown path %s: this server answers POST /v1/messages, POST "
                    "/v1/messages/count_tokens, GET /v1/models and GET /health",
                    c->path);
    } else if (!is_identity(http_header(x, "content-encoding"))) {
        call_refuse(c, 400, "request_body_encoding_unsupported",
                    "content-encoding: \"%.*s\" is not supported, send the "
                    "body as it is",
                    STR_ARG(str_slice(http_header(x, "content-encoding"), 0, 60)));
    }
}

void routes_request(void *ctx, struct http_exchange *x)
{
    (void)ctx;
    struct call *c = http_get_ctx(x);
    c->route->run(c);
}

void routes_fault(void *ctx, struct http_exchange *x, enum http_fault fault, const char *why)
{
    struct server *s = ctx;
    struct call *c = http_get_ctx(x);
    int status = http_fault_status(fault);
    const char *code = NULL;
    if (!c) c = call_create(s, x);
    if (fault == HTTP_BODY_TIMEOUT) {
        /* Clients repeat a 408 by themselves: the same slow upload three times helps nobody. */
        status = 400;
        code = "request_body_timeout";
    } else if (status == 503) {
        status = 529;
    }
    if (fault == HTTP_BODY_TOO_LARGE)
        call_refuse(c, status, NULL, "request body is too large: the maximum is %zu bytes",
                    s->config->limits.max_body_bytes);
    else call_refuse(c, status, code, "%s%s%s", http_fault_text(fault), why ? ": " : "", why ? why : "");
}
