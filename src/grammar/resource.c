/* resource: what a $ref names: JSON pointers, anchors, and $id with relative URIs, all within one document. */
#include <string.h>

#include "grammar/schema_internal.h"

#define MAX_SCAN_DEPTH 600

static struct str without_fragment(struct str uri)
{
    ptrdiff_t at = str_find(uri, STR("#"), 0);
    return at < 0 ? uri : str_slice(uri, 0, (size_t)at);
}

static size_t scheme_len(struct str uri)
{
    size_t i = 0;
    while (i < uri.len &&
           ((uri.ptr[i] >= '0' && uri.ptr[i] <= '9') || (uri.ptr[i] | 32) >= 'a' || strchr("+.-", uri.ptr[i]))) {
        if ((uri.ptr[i] | 32) > 'z') return 0;
        i++;
    }
    return i > 0 && i < uri.len && uri.ptr[i] == ':' ? i + 1 : 0;
}

/* End of "scheme://authority". */
static size_t authority_end(struct str uri)
{
    size_t i = scheme_len(uri);
    if (!str_starts(str_slice(uri, i, uri.len), STR("//"))) return i;
    for (i += 2; i < uri.len && uri.ptr[i] != '/' && uri.ptr[i] != '?' && uri.ptr[i] != '#';) i++;
    return i;
}

/* Removes "." and ".." from the path that starts at `from` of b. */
static void remove_dots(struct buf *b, size_t from)
{
    size_t w = from;
    for (size_t i = from; i < b->len;) {
        size_t end = i;
        while (end < b->len && b->ptr[end] != '/') end++;
        struct str part = {b->ptr + i, end - i};
        size_t len = part.len + (end < b->len);
        if (str_eq(part, STR("..")) && w > from) {
            for (w--; w > from && b->ptr[w - 1] != '/';) w--;
        } else if (!str_eq(part, STR(".")) && !str_eq(part, STR(".."))) {
            memmove(b->ptr + w, b->ptr + i, len);
            w += len;
        }
        i += len;
    }
    b->len = w;
}

static struct str resolve(struct grammar *g, struct str base, struct str ref)
{
    struct buf b;
    base = without_fragment(base);
    if (ref.len == 0) return base;
    if (scheme_len(ref)) return ref;
    buf_init(&b, 1 << 16);
    size_t root = authority_end(base), start = root;
    if (str_starts(ref, STR("//"))) buf_append(&b, str_slice(base, 0, scheme_len(base)));
    else if (ref.ptr[0] == '/') buf_append(&b, str_slice(base, 0, root));
    else if (ref.ptr[0] == '?' || ref.ptr[0] == '#') buf_append(&b, base);
    else {
        size_t cut = base.len;
        while (cut > root && base.ptr[cut - 1] != '/') cut--;
        buf_append(&b, str_slice(base, 0, cut));
        start = b.len > root && b.ptr[root] == '/' ? root + 1 : root;
    }
    buf_append(&b, ref);
    if (ref.ptr[0] != '#' && ref.ptr[0] != '?')
        remove_dots(&b, b.len > start && b.ptr[start] == '/' ? start + 1 : start);
    struct str out = grammar_str(g, buf_str(&b));
    buf_deinit(&b);
    return out;
}

static void add_resource(struct loader *l, struct str uri, json_t *json, json_t *root, struct str base)
{
    struct schema *s = &l->g->schema;
    if (!GROW(l->g, s->resources, s->resources_cap, s->n_resources + 1)) return;
    s->resources[s->n_resources++] = (struct resource){uri, json, root, base};
}

static struct str own_id(const json_t *json)
{
    json_t *id = json_object_get(json, "$id");
    if (!id) id = json_object_get(json, "id");
    return json_is_string(id) ? json_text(id) : STR_NONE;
}

static struct str with_anchor(struct grammar *g, struct str base, struct str anchor)
{
    struct buf b;
    buf_init(&b, 1 << 16);
    buf_append(&b, without_fragment(base));
    buf_append_char(&b, '#');
    buf_append(&b, anchor);
    struct str out = grammar_str(g, buf_str(&b));
    buf_deinit(&b);
    return out;
}

/* Keywords under which schemas stand: alone, in a list, or in a map. An $id anywhere else is data. */
static const struct {
    const char *name;
    bool map;
} holders[] = {{"$defs", true},
               {"definitions", true},
               {"properties", true},
               {"patternProperties", true},
               {"dependentSchemas", true},
               {"dependencies", true},
               {"allOf", false},
               {"anyOf", false},
               {"oneOf", false},
               {"not", false},
               {"if", false},
               {"then", false},
               {"else", false},
               {"items", false},
               {"prefixItems", false},
               {"additionalItems", false},
               {"contains", false},
               {"additionalProperties", false},
               {"propertyNames", false},
               {"unevaluatedItems", false},
               {"unevaluatedProperties", false}};

static void scan(struct loader *l, json_t *json, json_t *root, struct str base, unsigned depth)
{
    static const char *const anchors[] = {"$anchor", "$dynamicAnchor"};
    if (depth > MAX_SCAN_DEPTH) return;
    if (json_is_array(json)) {
        size_t i;
        json_t *x;
        json_array_foreach(json, i, x) scan(l, x, root, base, depth + 1);
        return;
    }
    if (!json_is_object(json)) return;
    struct str id = own_id(json);
    if (id.len && id.ptr[0] == '#')
        add_resource(l, with_anchor(l->g, base, str_slice(id, 1, id.len)), json, root, base);
    else if (id.len) {
        base = without_fragment(resolve(l->g, base, id));
        root = json;
        add_resource(l, base, json, root, base);
    }
    for (int k = 0; k < 2; k++) {
        json_t *a = json_object_get(json, anchors[k]);
        if (json_is_string(a)) add_resource(l, with_anchor(l->g, base, json_text(a)), json, root, base);
    }
    for (size_t k = 0; k < sizeof holders / sizeof *holders; k++) {
        json_t *inner = json_object_get(json, holders[k].name);
        if (!holders[k].map || !json_is_object(inner)) {
            if (inner) scan(l, inner, root, base, depth + 1);
            continue;
        }
        for (void *it = json_object_iter(inner); it; it = json_object_iter_next(inner, it))
            scan(l, json_object_iter_value(it), root, base, depth + 1);
    }
}

void resources_scan(struct loader *l, json_t *root, struct str text)
{
    if (str_find(text, STR("id\""), 0) < 0 && str_find(text, STR("nchor\""), 0) < 0) return;
    scan(l, root, root, STR_NONE, 0);
}

void resource_enter(struct loader *l, struct raw *raw)
{
    struct str id = own_id(raw->json);
    const struct schema *s = &l->g->schema;
    if (id.len == 0 || id.ptr[0] == '#') return;
    for (size_t i = 0; i < s->n_resources; i++)
        if (s->resources[i].json == raw->json && s->resources[i].root == raw->json) {
            raw->base = s->resources[i].base;
            raw->resource = raw->json;
        }
}

static int hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* One pointer step: ~0 ~1 and %XX undone. */
static bool unescape(struct buf *out, struct str step)
{
    buf_clear(out);
    for (size_t i = 0; i < step.len; i++) {
        char c = step.ptr[i];
        if (c == '%' && i + 2 < step.len && hex(step.ptr[i + 1]) >= 0 && hex(step.ptr[i + 2]) >= 0) {
            c = (char)(hex(step.ptr[i + 1]) * 16 + hex(step.ptr[i + 2]));
            i += 2;
        }
        if (c == '~' && i + 1 < step.len && (step.ptr[i + 1] == '0' || step.ptr[i + 1] == '1'))
            c = step.ptr[++i] == '0' ? '~' : '/';
        buf_append_char(out, c);
    }
    return !out->failed;
}

static json_t *follow(json_t *json, struct str pointer, struct loader *l, struct raw *from)
{
    struct buf step;
    buf_init(&step, 1 << 16);
    for (size_t i = 0; json && i < pointer.len;) {
        size_t end = i + 1;
        while (end < pointer.len && pointer.ptr[end] != '/') end++;
        if (pointer.ptr[i] != '/' || !unescape(&step, str_slice(pointer, i + 1, end))) json = NULL;
        else if (json_is_object(json)) json = json_object_getn(json, step.ptr ? step.ptr : "", step.len);
        else if (json_is_array(json) && step.len && step.len < 8 && step.ptr[0] >= '0' && step.ptr[0] <= '9')
            json = json_array_get(json, (size_t)strtoul(step.ptr, NULL, 10));
        else json = NULL;
        if (json && json_is_object(json) && end < pointer.len) {
            struct raw inner = {.json = json, .base = from->base, .resource = from->resource};
            resource_enter(l, &inner);
            from->base = inner.base;
            from->resource = inner.resource;
        }
        i = end;
    }
    buf_deinit(&step);
    return json;
}

bool resource_find(struct loader *l, json_t **out, struct raw *from, struct str ref)
{
    struct schema *s = &l->g->schema;
    ptrdiff_t hash = str_find(ref, STR("#"), 0);
    struct str fragment = hash < 0 ? STR_NONE : str_slice(ref, (size_t)hash + 1, ref.len);
    struct str uri = resolve(l->g, from->base, without_fragment(ref));
    json_t *root = hash == 0 || str_eq(uri, without_fragment(from->base)) ? from->resource : NULL;
    for (size_t i = 0; !root && i < s->n_resources; i++)
        if (str_eq(s->resources[i].uri, uri)) {
            root = s->resources[i].root;
            from->base = s->resources[i].base;
            from->resource = root;
        }
    if (!root) return false;
    if (fragment.len == 0 || fragment.ptr[0] == '/') return (*out = follow(root, fragment, l, from)) != NULL;
    struct str anchor = with_anchor(l->g, from->base, fragment);
    for (size_t i = 0; i < s->n_resources; i++)
        if (str_eq(s->resources[i].uri, anchor)) {
            *out = s->resources[i].json;
            from->base = s->resources[i].base;
            from->resource = s->resources[i].root;
            return true;
        }
    return false;
}

/* With several anchors of one name it depends on the way taken to this place which of them is meant. */
bool resource_is_static(const struct loader *l, struct str ref)
{
    const struct schema *s = &l->g->schema;
    ptrdiff_t hash = str_find(ref, STR("#"), 0);
    struct str anchor = hash < 0 ? STR_NONE : str_slice(ref, (size_t)hash + 1, ref.len);
    size_t n = 0;
    for (size_t i = 0; anchor.len && i < s->n_resources; i++) {
        json_t *a = json_object_get(s->resources[i].json, "$dynamicAnchor");
        n += json_is_string(a) && str_eq(json_text(a), anchor) && str_ends(s->resources[i].uri, anchor);
    }
    return n <= 1;
}
