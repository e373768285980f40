/* guard: web pages must not use a server that runs on their visitor's machine. Two ways in are shut: a page whose own
 * name suddenly resolves to this machine (DNS rebinding: the Host header gives it away), and requests across sites (the
 * Origin header). Programs send no Origin and are not affected; CORS is off unless origins are configured. */
#include "server/server_internal.h"

/* Without the port. */
static struct str host_name(struct str host)
{
    size_t len = host.len;
    if (host.len && host.ptr[0] == '[') {
        ptrdiff_t end = str_find(host, STR("]"), 0);
        return str_slice(host, 0, end < 0 ? 0 : (size_t)end + 1);
    }
    for (size_t i = 0; i < host.len; i++)
        if (host.ptr[i] == ':') {
            len = i;
            break;
        }
    return str_slice(host, 0, len);
}

static bool is_local_name(struct str name)
{
    static const char *const names[] = {"localhost", "[::1]", "host.docker.internal"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (str_eq_nocase(name, str_from(names[i]))) return true;
    struct str tail = str_slice(name, name.len < 10 ? 0 : name.len - 10, name.len);
    if (str_eq_nocase(tail, STR(".localhost"))) return true;
    if (!str_starts(name, STR("127."))) return false;
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] != '.' && (name.ptr[i] < '0' || name.ptr[i] > '9')) return false;
    return true;
}

bool guard_host(const struct server *s, struct str host)
{
    /* Programs may leave it out (HTTP/1.0), browsers cannot. */
    if (!s->loopback_only || !host.len) return true;
    struct str name = host_name(host);
    if (is_local_name(name) || str_eq_nocase(name, s->config->host)) return true;
    for (size_t i = 0; i < s->config->n_allowed_hosts; i++) {
        struct str allowed = s->config->allowed_hosts[i];
        if (str_eq(allowed, STR("*")) || str_eq_nocase(name, allowed)) return true;
    }
    return false;
}

bool guard_cors(const struct server *s, struct str origin)
{
    for (size_t i = 0; origin.len && i < s->config->n_cors_origins; i++) {
        struct str allowed = s->config->cors_origins[i];
        if (str_eq(allowed, STR("*")) || str_eq_nocase(origin, allowed)) return true;
    }
    return false;
}

bool guard_origin(const struct server *s, struct str origin, struct str host)
{
    if (!origin.len || guard_cors(s, origin)) return true;
    /* Desktop programs and editor extensions have schemes of their own, which no web page can take. */
    bool is_web = str_eq_nocase(origin, STR("null"));
    size_t scheme = 0;
    if (str_eq_nocase(str_slice(origin, 0, 7), STR("http://"))) scheme = 7;
    if (str_eq_nocase(str_slice(origin, 0, 8), STR("https://"))) scheme = 8;
    if (!scheme) return !is_web && str_find(origin, STR("://"), 0) > 0;
    return str_eq_nocase(str_slice(origin, scheme, origin.len), host);
}

void guard_preflight(struct call *c)
{
    struct str origin = http_header(c->x, "origin");
    if (!guard_cors(c->server, origin)) {
        call_refuse(c, 403, NULL, "this server takes no requests from web pages of %.*s (see --cors)",
                    STR_ARG(str_slice(origin, 0, 200)));
        return;
    }
    call_reply(c, 204, NULL, STR(""));
}
