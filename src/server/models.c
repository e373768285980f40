/* models: which model a name means, and the model list. */
#include <stdlib.h>

#include "api/anthropic_models.h"
#include "server/server_internal.h"

#define LIST_MAX_BYTES ((size_t)4 << 20)

static const struct chat_model *find(const struct chat_model *models, size_t n, struct str name)
{
    for (size_t i = 0; i < n; i++)
        if (str_eq(models[i].id, name)) return &models[i];
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < models[i].n_aliases; k++)
            if (str_eq(models[i].aliases[k], name)) return &models[i];
    return NULL;
}

const struct chat_model *models_resolve(const struct server *s, struct str name)
{
    size_t n;
    const struct chat_model *models = s->backend->models(s->backend->self, &n);
    const struct chat_model *m = find(models, n, name);
    for (size_t i = 0; !m && i < s->config->n_aliases; i++)
        if (str_eq(s->config->aliases[i].name, name)) m = find(models, n, s->config->aliases[i].id);
    if (m || s->config->strict_models || !n) return m;
    m = find(models, n, s->config->default_model);
    return m ? m : &models[0];
}

void models_names(const struct server *s, struct buf *out)
{
    size_t n;
    const struct chat_model *models = s->backend->models(s->backend->self, &n);
    for (size_t i = 0; i < n; i++) {
        buf_printf(out, "%s%.*s", i ? ", " : "", STR_ARG(models[i].id));
        for (size_t k = 0; k < models[i].n_aliases; k++) buf_printf(out, ", %.*s", STR_ARG(models[i].aliases[k]));
    }
}

/* A number that is too large or none at all means no limit: pages are a convenience, never an error. */
static uint32_t read_limit(struct str text)
{
    uint32_t n = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9' || n > 100000) return 0;
        n = n * 10 + (uint32_t)(text.ptr[i] - '0');
    }
    return n;
}

void models_list(struct call *c)
{
    struct str query = http_query(c->x);
    struct buf limit, before, after;
    buf_init(&limit, 64);
    buf_init(&before, 1024);
    buf_init(&after, 1024);
    struct anthropic_page page = {0};
    if (http_query_find(&limit, query, STR("limit"))) page.limit = read_limit(buf_str(&limit));
    if (http_query_find(&before, query, STR("before_id"))) page.before_id = buf_str(&before);
    if (http_query_find(&after, query, STR("after_id"))) page.after_id = buf_str(&after);
    size_t n;
    const struct chat_model *models = c->server->backend->models(c->server->backend->self, &n);
    struct buf body;
    buf_init(&body, LIST_MAX_BYTES);
    anthropic_models_write(&body, models, n, &page);
    call_reply(c, 200, "application/json", buf_str(&body));
    buf_deinit(&body);
    buf_deinit(&limit);
    buf_deinit(&before);
    buf_deinit(&after);
}

void models_retrieve(struct call *c)
{
    const struct chat_model *m = models_resolve(c->server, c->path_id);
    if (!m) {
        struct buf names;
        buf_init(&names, 600);
        models_names(c->server, &names);
        call_refuse(c, 404, NULL, "model: %.*s (known: %.*s)", STR_ARG(str_slice(c->path_id, 0, 200)),
                    STR_ARG(buf_str(&names)));
        buf_deinit(&names);
        return;
    }
    struct buf body;
    buf_init(&body, LIST_MAX_BYTES);
    anthropic_model_write(&body, m, c->path_id);
    call_reply(c, 200, "application/json", buf_str(&body));
    buf_deinit(&body);
}
