/* schema: JSON Schema as written -> raw schemas (one for each JSON object that is used as a schema), each a list of
 * atoms (keywords with their operands parsed). Loaded from a work list, so nesting costs no stack. What the automaton
 * cannot express is met here: refused with its place (strict) or noted and left out, whatever the sign it stands under.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "grammar/schema_internal.h"

struct raw_slot {
    const json_t *json;
    uint32_t raw;
};

void schema_path(const struct grammar *g, struct buf *out, const struct path *p)
{
    const struct path *steps[64];
    size_t n = 0;
    if (g->where) buf_append(out, str_from(g->where));
    for (; p && p->step.ptr; p = p->up) {
        if (n == 64) break;
        steps[n++] = p;
    }
    while (n > 0) {
        if (out->len) buf_append_char(out, '.');
        buf_append(out, steps[--n]->step);
    }
}

static void place(const struct grammar *g, struct buf *out, const struct path *p, const char *keyword)
{
    schema_path(g, out, p);
    if (!keyword) return;
    if (out->len) buf_append_char(out, '.');
    buf_append(out, str_from(keyword));
}

void grammar_note(struct grammar *g, const struct path *p, const char *keyword, const char *fmt, ...)
{
    struct buf b;
    va_list ap;
    buf_init(&b, 4000);
    place(g, &b, p, keyword);
    buf_append(&b, STR(": "));
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    buf_append_char(&b, '\n');
    if (str_find(buf_str(&g->notes), buf_str(&b), 0) < 0) buf_append(&g->notes, buf_str(&b));
    g->notes.failed = false;
    buf_deinit(&b);
}

void grammar_refuse(struct grammar *g, const struct path *p, const char *keyword, const char *fmt, ...)
{
    struct buf b;
    va_list ap;
    char text[500];
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (!g->strict) {
        grammar_note(g, p, keyword, "%s; widened", text);
        return;
    }
    if (g->refusal.kind != ERR_NONE) return;
    buf_init(&b, 600);
    place(g, &b, p, keyword);
    err_set(&g->refusal, ERR_INVALID, "%.*s: %s", STR_ARG(buf_str(&b)), text);
    buf_deinit(&b);
}

/* ---- raw schemas ---- */

static bool rehash_raws(struct grammar *g)
{
    struct schema *s = &g->schema;
    size_t n = s->n_slots ? s->n_slots * 2 : 64;
    struct raw_slot *slots = mem_try_zalloc(n * sizeof *slots);
    if (!slots || !grammar_charge(g, (n - s->n_slots) * sizeof *slots)) return mem_free(slots), false;
    for (size_t i = 0; i < s->n_raws; i++) {
        if (!s->raws[i].json) continue;
        size_t at = hash64(&s->raws[i].json, sizeof(void *), 0) & (n - 1);
        while (slots[at].json) at = (at + 1) & (n - 1);
        slots[at] = (struct raw_slot){s->raws[i].json, (uint32_t)i};
    }
    mem_free(s->by_json);
    s->by_json = slots;
    s->n_slots = n;
    return true;
}

static const struct path *new_path(struct grammar *g, const struct path *up, struct str step)
{
    struct path *p = grammar_alloc(g, sizeof *p);
    if (p) *p = (struct path){up, step};
    return p;
}

/* The raw schema for a JSON value, new ones loaded later; `from` gives the resource it stands in. */
uint32_t schema_raw(struct loader *l, json_t *json, const struct path *path, const struct raw *from)
{
    struct grammar *g = l->g;
    struct schema *s = &g->schema;
    if (json_is_true(json)) return RAW_TRUE;
    if (json_is_false(json)) return RAW_FALSE;
    if (!json_is_object(json)) {
        grammar_refuse(g, path, NULL, "a schema is an object or a boolean, found %s", json_type_name(json));
        return RAW_TRUE;
    }
    if (json_object_size(json) == 0) return RAW_TRUE;
    if (s->n_raws * 2 >= s->n_slots && !rehash_raws(g)) return RAW_TRUE;
    size_t at = hash64(&json, sizeof(void *), 0) & (s->n_slots - 1);
    for (; s->by_json[at].json; at = (at + 1) & (s->n_slots - 1))
        if (s->by_json[at].json == json) return s->by_json[at].raw;
    struct raw copy = {.json = json, .path = path, .base = from->base, .resource = from->resource};
    if (!GROW(g, s->raws, s->raws_cap, s->n_raws + 1)) return RAW_TRUE;
    s->by_json[at] = (struct raw_slot){json, (uint32_t)s->n_raws};
    resource_enter(l, &copy);
    s->raws[s->n_raws] = copy;
    return (uint32_t)s->n_raws++;
}

static uint32_t sub(struct loader *l, json_t *json, struct str step)
{
    return schema_raw(l, json, new_path(l->g, l->path, step), &l->raw);
}

static struct str number_step(struct grammar *g, size_t i)
{
    char text[24];
    snprintf(text, sizeof text, "%zu", i);
    return grammar_str(g, str_from(text));
}

static struct atom *add_atom(struct loader *l, enum atom_kind kind, const char *keyword)
{
    struct schema *s = &l->g->schema;
    struct atom *a = grammar_alloc(l->g, sizeof *a);
    if (!a || !GROW(l->g, s->atoms, s->atoms_cap, s->n_atoms + 1) || l->n_own == MAX_OWN)
        return l->g->exhausted = true, NULL;
    *a = (struct atom){.kind = (uint8_t)kind, .keyword = keyword};
    l->own[l->n_own++] = (uint32_t)s->n_atoms;
    s->atoms[s->n_atoms++] = a;
    return a;
}

static void wrong(struct loader *l, const char *keyword, const char *expected, const json_t *found)
{
    grammar_refuse(l->g, l->path, keyword, "expected %s, found %s", expected, json_type_name(found));
}

const char *json_type_name(const json_t *v)
{
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER:
    case JSON_REAL: return "a number";
    case JSON_NULL: return "null";
    default: return "a boolean";
    }
}

struct str json_text(const json_t *v)
{
    return (struct str){json_string_value(v), json_string_length(v)};
}

/* ---- keywords ---- */

static unsigned type_mask(struct str name)
{
    static const struct {
        const char *name;
        unsigned mask;
    } types[] = {{"null", TYPE_NULL},  {"boolean", TYPE_BOOL}, {"integer", TYPE_INT}, {"number", TYPE_INT | TYPE_FRAC},
                 {"string", TYPE_STR}, {"array", TYPE_ARR},    {"object", TYPE_OBJ}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (str_eq(name, str_from(types[i].name))) return types[i].mask;
    return 0;
}

static void load_type(struct loader *l, const char *k, json_t *v)
{
    unsigned mask = 0;
    size_t n = json_is_array(v) ? json_array_size(v) : 1;
    for (size_t i = 0; i < n; i++) {
        json_t *x = json_is_array(v) ? json_array_get(v, i) : v;
        unsigned m = json_is_string(x) ? type_mask(json_text(x)) : 0;
        if (!m) {
            grammar_refuse(l->g, l->path, k,
                           "unknown type%s%s; expected null, boolean, integer, number, string, array or object",
                           json_is_string(x) ? " " : "", json_is_string(x) ? json_string_value(x) : "");
            return;
        }
        mask |= m;
    }
    if (json_is_true(json_object_get(l->raw.json, "nullable"))) mask |= TYPE_NULL;
    struct atom *a = add_atom(l, ATOM_TYPE, k);
    if (a) a->n = mask;
}

static void load_enum(struct loader *l, const char *k, json_t *v)
{
    if (strcmp(k, "enum") == 0 && !json_is_array(v)) {
        wrong(l, k, "an array", v);
        return;
    }
    struct atom *a = add_atom(l, ATOM_ENUM, k);
    if (!a) return;
    a->json = v;
    if (strcmp(k, "const") != 0) return;
    struct schema *s = &l->g->schema;
    json_t *list = json_array();
    if (!list || json_array_append(list, v) != 0 || !GROW(l->g, s->made, s->made_cap, s->n_made + 1)) {
        json_decref(list);
        l->g->exhausted = true;
        return;
    }
    a->json = s->made[s->n_made++] = list;
}

static void load_pattern(struct loader *l, const char *k, json_t *v)
{
    struct err e = {0};
    uint32_t t;
    if (!json_is_string(v)) {
        wrong(l, k, "a string", v);
        return;
    }
    if (!regex_parse(l->g, &t, json_text(v), &e)) {
        grammar_refuse(l->g, l->path, k, "%s", e.msg);
        return;
    }
    struct atom *a = add_atom(l, ATOM_TEXT, k);
    if (a) a->term = t;
}

static void load_format(struct loader *l, const char *k, json_t *v)
{
    uint32_t t;
    if (l->g->ignore_formats || !json_is_string(v)) return;
    struct str name = json_text(v);
    if (str_eq(name, STR("regex")) || str_eq(name, STR("idn-hostname"))) {
        grammar_refuse(l->g, l->path, k, "the format \"%.*s\" is not supported", STR_ARG(name));
        return;
    }
    if (!format_term(l->g, &t, name)) {
        grammar_note(l->g, l->path, k, "unknown format \"%.*s\" is taken as a remark", STR_ARG(name));
        return;
    }
    struct atom *a = add_atom(l, ATOM_TEXT, k);
    if (a) a->term = t;
}

static bool load_count(struct loader *l, uint32_t *out, const char *k, json_t *v)
{
    double x = json_number_value(v);
    if (!json_is_number(v) || x < 0 || x != (double)(uint64_t)x) {
        wrong(l, k, "a whole number from 0", v);
        return false;
    }
    *out = x >= (double)REPEAT_MAX ? REPEAT_MAX : (uint32_t)x;
    return true;
}

static void load_limit(struct loader *l, const char *k, json_t *v)
{
    static const struct {
        const char *name;
        enum atom_kind kind;
    } limits[] = {{"minLength", ATOM_MIN_LENGTH}, {"maxLength", ATOM_MAX_LENGTH},    {"minItems", ATOM_MIN_ITEMS},
                  {"maxItems", ATOM_MAX_ITEMS},   {"minProperties", ATOM_MIN_PROPS}, {"maxProperties", ATOM_MAX_PROPS}};
    uint32_t n;
    if (!load_count(l, &n, k, v)) return;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        if (strcmp(k, limits[i].name) != 0) continue;
        struct atom *a = add_atom(l, limits[i].kind, k);
        if (a) a->n = n;
    }
}

static void load_bound(struct loader *l, const char *k, json_t *v)
{
    bool exclusive = k[0] == 'e', is_max = strstr(k, "aximum") != NULL;
    if (json_is_boolean(v) && exclusive) return; /* draft 4: seen beside minimum and maximum */
    if (!json_is_number(v)) {
        wrong(l, k, "a number", v);
        return;
    }
    const json_t *draft4 = json_object_get(l->raw.json, is_max ? "exclusiveMaximum" : "exclusiveMinimum");
    struct atom *a = add_atom(l, is_max ? ATOM_MAX : ATOM_MIN, k);
    if (!a) return;
    a->n = exclusive || json_is_true(draft4);
    decimal_of_json(&a->number, v);
}

static void load_multiple(struct loader *l, const char *k, json_t *v)
{
    if (!json_is_number(v) || !(json_number_value(v) > 0)) {
        wrong(l, k, "a number above 0", v);
        return;
    }
    struct atom *a = add_atom(l, ATOM_MULTIPLE, k);
    if (a) decimal_of_json(&a->number, v);
}

static void load_list(struct loader *l, const char *k, json_t *v)
{
    enum atom_kind kind = k[1] == 'l' ? ATOM_ALL : k[1] == 'n' && k[0] == 'a' ? ATOM_ANY : ATOM_ONE;
    if (!json_is_array(v) || json_array_size(v) == 0) {
        wrong(l, k, "an array of schemas", v);
        return;
    }
    struct atom *a = add_atom(l, kind, k);
    size_t n = json_array_size(v);
    if (!a || !(a->list = grammar_alloc(l->g, n * sizeof *a->list))) return;
    a->n_list = (uint32_t)n;
    const struct path *up = l->path;
    l->path = new_path(l->g, up, str_from(k));
    for (size_t i = 0; i < n; i++) a->list[i] = sub(l, json_array_get(v, i), number_step(l->g, i));
    l->path = up;
}

static void load_sub(struct loader *l, const char *k, json_t *v)
{
    enum atom_kind kind = strcmp(k, "not") == 0                     ? ATOM_NOT
                          : strcmp(k, "propertyNames") == 0         ? ATOM_NAMES
                          : strcmp(k, "unevaluatedProperties") == 0 ? ATOM_UNEVALUATED_PROPS
                                                                    : ATOM_UNEVALUATED_ITEMS;
    struct atom *a = add_atom(l, kind, k);
    if (a) a->raw = sub(l, v, str_from(k));
    if (kind >= ATOM_UNEVALUATED_PROPS) l->raw.unevaluated = true;
}

static void load_if(struct loader *l, const char *k, json_t *v)
{
    json_t *then = json_object_get(l->raw.json, "then"), *other = json_object_get(l->raw.json, "else");
    struct atom *a = add_atom(l, ATOM_IF, k);
    if (!a || !(a->list = grammar_alloc(l->g, 3 * sizeof *a->list))) return;
    a->n_list = 3;
    a->list[0] = sub(l, v, str_from(k));
    a->list[1] = then ? sub(l, then, STR("then")) : RAW_TRUE;
    a->list[2] = other ? sub(l, other, STR("else")) : RAW_TRUE;
}

static void load_contains(struct loader *l, const char *k, json_t *v)
{
    json_t *min = json_object_get(l->raw.json, "minContains"), *max = json_object_get(l->raw.json, "maxContains");
    struct atom *a = add_atom(l, ATOM_CONTAINS, k);
    if (!a) return;
    a->raw = sub(l, v, str_from(k));
    a->n = 1;
    a->m = REPEAT_MAX;
    if (min) load_count(l, &a->n, "minContains", min);
    if (max) load_count(l, &a->m, "maxContains", max);
}

static void load_unique(struct loader *l, const char *k, json_t *v)
{
    if (json_is_true(v)) add_atom(l, ATOM_UNIQUE, k);
    else if (!json_is_false(v)) wrong(l, k, "a boolean", v);
}

/* prefixItems, items, and the older items array with additionalItems. */
static void load_items(struct loader *l, const char *k, json_t *v)
{
    json_t *prefix = json_object_get(l->raw.json, "prefixItems"), *items = json_object_get(l->raw.json, "items"),
           *rest = items;
    const char *prefix_name = "prefixItems", *rest_name = "items";
    if (strcmp(k, "items") == 0 && prefix) return; /* taken together at prefixItems */
    if (!prefix && json_is_array(items)) {
        prefix = items;
        prefix_name = "items";
        rest_name = "additionalItems";
        rest = json_object_get(l->raw.json, rest_name);
    }
    if (prefix && !json_is_array(prefix)) {
        wrong(l, prefix_name, "an array of schemas", v);
        return;
    }
    struct atom *a = add_atom(l, ATOM_ITEMS, k);
    size_t n = prefix ? json_array_size(prefix) : 0;
    if (!a || (n && !(a->list = grammar_alloc(l->g, n * sizeof *a->list)))) return;
    a->n_list = (uint32_t)n;
    a->n = rest != NULL;
    const struct path *up = l->path;
    l->path = new_path(l->g, up, str_from(prefix_name));
    for (size_t i = 0; i < n; i++) a->list[i] = sub(l, json_array_get(prefix, i), number_step(l->g, i));
    l->path = up;
    a->raw = rest ? sub(l, rest, str_from(rest_name)) : RAW_TRUE;
}

struct named {
    struct str name;
    uint32_t raw;
};
static int cmp_named(const void *x, const void *y)
{
    return str_cmp(((const struct named *)x)->name, ((const struct named *)y)->name);
}

static bool set_properties(struct loader *l, struct atom *a, json_t *v)
{
    size_t n = json_object_size(v), i = 0;
    struct named *list = mem_try_alloc((n + 1) * sizeof *list);
    a->names = grammar_alloc(l->g, n * sizeof *a->names);
    a->list = grammar_alloc(l->g, n * sizeof *a->list);
    if (!list || !a->names || !a->list) return mem_free(list), false;
    const struct path *up = l->path;
    l->path = new_path(l->g, up, STR("properties"));
    for (void *it = json_object_iter(v); it; it = json_object_iter_next(v, it), i++) {
        list[i].name = (struct str){json_object_iter_key(it), json_object_iter_key_len(it)};
        list[i].raw = sub(l, json_object_iter_value(it), list[i].name);
    }
    l->path = up;
    if (n) qsort(list, n, sizeof *list, cmp_named);
    for (i = 0; i < n; i++) a->names[i] = list[i].name, a->list[i] = list[i].raw;
    a->n_names = a->n_list = (uint32_t)n;
    mem_free(list);
    return true;
}

static bool set_patterns(struct loader *l, struct atom *a, json_t *v)
{
    size_t n = json_object_size(v);
    a->patterns = grammar_alloc(l->g, n * sizeof *a->patterns);
    a->pattern_raws = grammar_alloc(l->g, n * sizeof *a->pattern_raws);
    a->pattern_dfas = grammar_alloc(l->g, n * sizeof(struct dfa *));
    if (!a->patterns || !a->pattern_raws || !a->pattern_dfas) return false;
    const struct path *up = l->path;
    l->path = new_path(l->g, up, STR("patternProperties"));
    for (void *it = json_object_iter(v); it; it = json_object_iter_next(v, it)) {
        struct err e = {0};
        struct str key = {json_object_iter_key(it), json_object_iter_key_len(it)};
        uint32_t k = a->n_patterns;
        if (!regex_parse(l->g, &a->patterns[k], key, &e)) {
            grammar_refuse(l->g, l->path, key.ptr, "%s", e.msg);
            a->m = 1; /* what the pattern would have matched is not known: nothing is "additional" */
            continue;
        }
        a->pattern_raws[k] = sub(l, json_object_iter_value(it), key);
        a->pattern_dfas[k] = dfa_get(l->g, a->patterns[k]);
        a->n_patterns++;
    }
    l->path = up;
    return true;
}

/* properties, patternProperties and additionalProperties speak of each other: one atom, made at the first of them. */
static void load_properties(struct loader *l, const char *k, json_t *v)
{
    json_t *props = json_object_get(l->raw.json, "properties"),
           *patterns = json_object_get(l->raw.json, "patternProperties");
    json_t *more = json_object_get(l->raw.json, "additionalProperties");
    (void)v;
    if (l->seen_properties) return;
    l->seen_properties = true;
    if (props && !json_is_object(props)) wrong(l, "properties", "an object", props), props = NULL;
    if (patterns && !json_is_object(patterns)) wrong(l, "patternProperties", "an object", patterns), patterns = NULL;
    struct atom *a = add_atom(l, ATOM_PROPS, k);
    if (!a) return;
    if (props && !set_properties(l, a, props)) return;
    if (patterns && !set_patterns(l, a, patterns)) return;
    a->n = more != NULL;
    a->raw = more && !a->m ? sub(l, more, STR("additionalProperties")) : RAW_TRUE;
}

static bool set_names(struct loader *l, struct atom *a, json_t *v, struct str first)
{
    size_t n = json_array_size(v), k = 0;
    a->names = grammar_alloc(l->g, (n + 1) * sizeof *a->names);
    if (!a->names) return false;
    if (first.ptr) a->names[k++] = first;
    for (size_t i = 0; i < n; i++) {
        json_t *x = json_array_get(v, i);
        if (json_is_string(x)) a->names[k++] = json_text(x);
        else wrong(l, a->keyword, "an array of strings", x);
    }
    a->n_names = (uint32_t)k;
    return true;
}

static void load_required(struct loader *l, const char *k, json_t *v)
{
    if (json_is_boolean(v)) { /* draft 3 wrote it at the property */
        grammar_note(l->g, l->path, k, "a boolean \"required\" (draft 3) is ignored");
        return;
    }
    if (!json_is_array(v)) {
        wrong(l, k, "an array of strings", v);
        return;
    }
    struct atom *a = add_atom(l, ATOM_REQUIRED, k);
    if (a) set_names(l, a, v, STR_NONE);
}

/* dependentRequired, dependentSchemas, and the older dependencies that is either. */
static void load_dependent(struct loader *l, const char *k, json_t *v)
{
    if (!json_is_object(v)) {
        wrong(l, k, "an object", v);
        return;
    }
    const struct path *up = l->path;
    l->path = new_path(l->g, up, str_from(k));
    for (void *it = json_object_iter(v); it; it = json_object_iter_next(v, it)) {
        struct str name = {json_object_iter_key(it), json_object_iter_key_len(it)};
        json_t *x = json_object_iter_value(it);
        bool names = json_is_array(x);
        struct atom *a = add_atom(l, names ? ATOM_DEP_NAMES : ATOM_DEPENDENT, k);
        if (!a) break;
        if (names) {
            if (!set_names(l, a, x, name)) break;
        } else {
            a->raw = sub(l, x, name);
            if (!(a->names = grammar_alloc(l->g, sizeof *a->names))) break;
            a->names[0] = name;
            a->n_names = 1;
        }
    }
    l->path = up;
}

static void load_ref(struct loader *l, const char *k, json_t *v)
{
    json_t *target = NULL;
    struct raw from = l->raw;
    if (!json_is_string(v)) {
        wrong(l, k, "a string", v);
        return;
    }
    if (!resource_find(l, &target, &from, json_text(v))) {
        grammar_refuse(l->g, l->path, k,
                       "\"%s\" names nothing in this schema; references to other documents are not supported",
                       json_string_value(v));
        return;
    }
    if (k[1] == 'd' && !resource_is_static(l, json_text(v))) {
        grammar_refuse(l->g, l->path, k, "\"%s\" depends on the dynamic scope, which is not supported",
                       json_string_value(v));
        return;
    }
    struct atom *a = add_atom(l, ATOM_REF, k);
    const struct path *root = new_path(l->g, NULL, json_text(v));
    if (a) a->raw = schema_raw(l, target, root, &from);
}

static void load_unsupported(struct loader *l, const char *k, json_t *v)
{
    (void)v;
    grammar_refuse(l->g, l->path, k, "this keyword is not supported");
}

static void load_nothing(struct loader *l, const char *k, json_t *v)
{
    (void)l, (void)k, (void)v;
}

static const struct keyword {
    const char *name;
    void (*load)(struct loader *l, const char *k, json_t *v);
} keywords[] = {
    {"type", load_type},
    {"enum", load_enum},
    {"const", load_enum},
    {"pattern", load_pattern},
    {"format", load_format},
    {"minLength", load_limit},
    {"maxLength", load_limit},
    {"minItems", load_limit},
    {"maxItems", load_limit},
    {"minProperties", load_limit},
    {"maxProperties", load_limit},
    {"minimum", load_bound},
    {"maximum", load_bound},
    {"exclusiveMinimum", load_bound},
    {"exclusiveMaximum", load_bound},
    {"multipleOf", load_multiple},
    {"allOf", load_list},
    {"anyOf", load_list},
    {"oneOf", load_list},
    {"not", load_sub},
    {"if", load_if},
    {"propertyNames", load_sub},
    {"unevaluatedProperties", load_sub},
    {"unevaluatedItems", load_sub},
    {"contains", load_contains},
    {"uniqueItems", load_unique},
    {"prefixItems", load_items},
    {"items", load_items},
    {"properties", load_properties},
    {"patternProperties", load_properties},
    {"additionalProperties", load_properties},
    {"required", load_required},
    {"dependentRequired", load_dependent},
    {"dependentSchemas", load_dependent},
    {"dependencies", load_dependent},
    {"$ref", load_ref},
    {"$dynamicRef", load_ref},
    {"$recursiveRef", load_ref},
    {"extends", load_unsupported},
    {"disallow", load_unsupported},
    {"divisibleBy", load_unsupported},
    /* read elsewhere, or remarks */
    {"then", load_nothing},
    {"else", load_nothing},
    {"minContains", load_nothing},
    {"maxContains", load_nothing},
    {"additionalItems", load_nothing},
    {"$defs", load_nothing},
    {"definitions", load_nothing},
    {"$schema", load_nothing},
    {"$id", load_nothing},
    {"id", load_nothing},
    {"$anchor", load_nothing},
    {"$dynamicAnchor", load_nothing},
    {"$recursiveAnchor", load_nothing},
    {"$vocabulary", load_nothing},
    {"$comment", load_nothing},
    {"title", load_nothing},
    {"description", load_nothing},
    {"default", load_nothing},
    {"examples", load_nothing},
    {"example", load_nothing},
    {"deprecated", load_nothing},
    {"readOnly", load_nothing},
    {"writeOnly", load_nothing},
    {"nullable", load_nothing},
    {"contentEncoding", load_nothing},
    {"contentMediaType", load_nothing},
    {"contentSchema", load_nothing},
};

static void load_raw(struct loader *l, uint32_t id)
{
    struct schema *s = &l->g->schema;
    l->raw = s->raws[id];
    l->path = l->raw.path;
    l->n_own = 0;
    l->seen_properties = false;
    for (void *it = json_object_iter(l->raw.json); it && !l->g->exhausted;
         it = json_object_iter_next(l->raw.json, it)) {
        const char *key = json_object_iter_key(it);
        size_t k = 0, n = sizeof keywords / sizeof *keywords;
        while (k < n && strcmp(keywords[k].name, key) != 0) k++;
        if (k < n) keywords[k].load(l, keywords[k].name, json_object_iter_value(it));
        else if (strncmp(key, "x-", 2) != 0)
            grammar_note(l->g, l->path, NULL, "the unknown keyword \"%.60s\" is ignored", key);
    }
    l->raw.atoms = grammar_alloc(l->g, l->n_own * sizeof *l->raw.atoms);
    if (!l->raw.atoms) return;
    if (l->n_own) memcpy(l->raw.atoms, l->own, l->n_own * sizeof *l->own);
    l->raw.n_atoms = l->n_own;
    l->raw.loaded = true;
    s->raws[id] = l->raw;
}

static bool load_all(struct loader *l)
{
    struct schema *s = &l->g->schema;
    for (; s->n_loaded < s->n_raws && !l->g->exhausted; s->n_loaded++)
        if (!s->raws[s->n_loaded].loaded) load_raw(l, (uint32_t)s->n_loaded);
    return !l->g->exhausted;
}

/* The schema of exactly this value (an object or array of an enum): the usual keywords say it all. */
bool schema_value(struct grammar *g, uint32_t *raw, json_t *value)
{
    struct loader l = {.g = g};
    struct schema *s = &g->schema;
    json_t *made = json_object(), *parts = json_is_object(value) ? json_object() : json_array(), *names = json_array();
    const char *key;
    json_t *x;
    size_t i;
    if (json_is_object(value)) {
        json_object_foreach(value, key, x)
        {
            json_object_setn_new(parts, key, strlen(key), json_pack("{sO}", "const", x));
            json_array_append_new(names, json_string(key));
        }
        json_object_set_new(made, "properties", parts);
        json_object_set_new(made, "required", names);
        json_object_set_new(made, "additionalProperties", json_false());
        json_object_set_new(made, "type", json_string("object"));
    } else {
        json_array_foreach(value, i, x) json_array_append_new(parts, json_pack("{sO}", "const", x));
        json_object_set_new(made, "minItems", json_integer((json_int_t)json_array_size(value)));
        json_object_set_new(made, "maxItems", json_integer((json_int_t)json_array_size(value)));
        json_object_set_new(made, "prefixItems", parts);
        json_object_set_new(made, "type", json_string("array"));
        json_decref(names);
    }
    if (!GROW(g, s->made, s->made_cap, s->n_made + 1)) return json_decref(made), false;
    s->made[s->n_made++] = made;
    struct raw from = {.resource = made};
    *raw = schema_raw(&l, made, NULL, &from);
    return load_all(&l);
}

bool schema_load(struct grammar *g, uint32_t *raw, struct str json, struct err *e)
{
    struct loader l = {.g = g};
    struct schema *s = &g->schema;
    json_error_t je;
    size_t flags = JSON_DECODE_ANY | JSON_ALLOW_NUL;
    json_t *root = json_loadb(json.ptr ? json.ptr : "", json.len, flags, &je);
    if (!root) root = json_loadb(json.ptr ? json.ptr : "", json.len, flags | JSON_DECODE_INT_AS_REAL, &je);
    if (!root)
        return err_set(e, ERR_INVALID, "%s%snot valid JSON: %s (line %d, column %d)", g->where ? g->where : "",
                       g->where ? ": " : "", je.text, je.line, je.column);
    if (!GROW(g, s->made, s->made_cap, s->n_made + 1)) json_decref(root);
    else s->made[s->n_made++] = root;
    if (g->exhausted || !grammar_charge(g, json.len * 4))
        return err_set(e, ERR_TOO_LARGE, "a schema of %zu bytes", json.len);
    if (!GROW(g, s->raws, s->raws_cap, 16)) return err_set(e, ERR_TOO_LARGE, "the schema exceeds its memory budget");
    if (s->n_raws == 0) {
        s->n_raws = 2; /* RAW_TRUE, RAW_FALSE */
        memset(s->raws, 0, 2 * sizeof *s->raws);
        s->raws[0].loaded = s->raws[1].loaded = true;
    }
    struct raw from = {.resource = root};
    s->n_resources = 0; /* another document of the same grammar has its own */
    resources_scan(&l, root, json);
    *raw = schema_raw(&l, root, NULL, &from);
    if (!load_all(&l)) return err_set(e, ERR_TOO_LARGE, "the schema needs more than %zu bytes", g->max_bytes);
    return true;
}

void schema_deinit(struct grammar *g)
{
    struct schema *s = &g->schema;
    for (size_t i = 0; i < s->n_made; i++) json_decref(s->made[i]);
    mem_free(s->made);
    mem_free(s->raws);
    mem_free(s->atoms);
    mem_free(s->resources);
    mem_free(s->by_json);
}
