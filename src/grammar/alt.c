/* alt: builds the typed alternatives of a node from facts: a string is one automaton and a length, a number a range
 * with steps, an array its items by position, an object its members by name and pattern. Children are nodes, made when
 * asked for. Also decides whether an alternative has any finite value (least fixed point over the children). */
#include <string.h>

#include "base/alloc.h"
#include "grammar/grammar_internal.h"

#define MAX_FITS_DEPTH 300
#define MAX_PREFIX 5000

static bool enum_strings(struct grammar *g, uint32_t *term, const struct atom *a)
{
    size_t n = json_array_size(a->json), k = 0;
    struct str *list = mem_try_alloc((n + 1) * sizeof *list);
    if (!list) return false;
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(a->json, i);
        if (json_is_string(v)) list[k++] = (struct str){json_string_value(v), json_string_length(v)};
    }
    *term = term_strings(g, list, k);
    mem_free(list);
    return true;
}

static void raise(uint32_t *min, uint32_t v)
{
    if (v > *min) *min = v;
}
static void lower(uint32_t *max, uint32_t v)
{
    if (v < *max) *max = v;
}
/* The bounds of "at least n" (or "at most n"), negated or not. */
static void bound(uint32_t *min, uint32_t *max, bool is_min, bool neg, uint32_t n, bool *never)
{
    if (is_min && !neg) raise(min, n);
    else if (!is_min && !neg) lower(max, n);
    else if (is_min && n == 0) *never = true;
    else if (is_min) lower(max, n - 1);
    else if (n == REPEAT_MAX) *never = true;
    else raise(min, n + 1);
}

static void build_string(struct grammar *g, struct string_alt *s, const struct fact *facts, size_t n, bool *never)
{
    uint32_t any = g->terms.any_text, term = any, t;
    s->max = REPEAT_MAX;
    for (size_t i = 0; i < n; i++) {
        const struct atom *a = g->schema.atoms[facts[i].atom];
        bool neg = facts[i].neg;
        if (a->kind == ATOM_MIN_LENGTH || a->kind == ATOM_MAX_LENGTH)
            bound(&s->min, &s->max, a->kind == ATOM_MIN_LENGTH, neg, a->n, never);
        else if (a->kind == ATOM_TEXT) term = neg ? term_without(g, term, a->term) : term_and2(g, term, a->term);
        else if (a->kind == ATOM_ENUM && enum_strings(g, &t, a))
            term = neg ? term_without(g, term, t) : term_and2(g, term, t);
    }
    if (s->min > s->max) *never = true;
    if (term != any && (s->min > 0 || s->max < REPEAT_MAX)) {
        term = term_and2(g, term, term_repeat(g, g->terms.any_char, s->min, s->max));
        s->min = 0;
        s->max = REPEAT_MAX;
    }
    s->dfa = *never ? NULL : dfa_get(g, term);
    if (!s->dfa) *never = true;
}

/* ---- numbers ---- */

static int cmp_keys(const struct decimal_key *x, const struct decimal_key *y)
{
    struct decimal wide;
    decimal_wide(&wide, x);
    return decimal_cmp(&wide, y);
}

static void narrow_low(struct number_alt *n, const struct decimal_key *k, bool open)
{
    int c = n->has_lo ? cmp_keys(k, &n->lo) : 1;
    if (c > 0) n->lo = *k, n->lo_open = open;
    else if (c == 0) n->lo_open |= open;
    n->has_lo = true;
}

static void narrow_high(struct number_alt *n, const struct decimal_key *k, bool open)
{
    int c = n->has_hi ? cmp_keys(k, &n->hi) : -1;
    if (c < 0) n->hi = *k, n->hi_open = open;
    else if (c == 0) n->hi_open |= open;
    n->has_hi = true;
}

static void enum_numbers(struct decimal_key *out, uint32_t *n, const struct atom *a)
{
    size_t i;
    json_t *v;
    json_array_foreach(a->json, i, v) if (json_is_number(v)) decimal_of_json(&out[(*n)++], v);
}

static void keep_common(struct number_alt *n, const struct decimal_key *list, uint32_t n_list)
{
    uint32_t w = 0;
    for (uint32_t i = 0; i < n->n_allowed; i++)
        for (uint32_t k = 0; k < n_list; k++)
            if (cmp_keys(&n->allowed[i], &list[k]) == 0) {
                n->allowed[w++] = n->allowed[i];
                break;
            }
    n->n_allowed = w;
}

static void number_enum(struct grammar *g, struct number_alt *n, const struct atom *a, bool neg)
{
    struct decimal_key *list = grammar_alloc(g, (json_array_size(a->json) + n->n_excluded + 1) * sizeof *list);
    uint32_t k = 0;
    if (!list) return;
    if (neg) {
        if (n->n_excluded) memcpy(list, n->excluded, n->n_excluded * sizeof *list);
        k = n->n_excluded;
    }
    enum_numbers(list, &k, a);
    if (neg) n->excluded = list, n->n_excluded = k;
    else if (n->allowed) keep_common(n, list, k);
    else n->allowed = list, n->n_allowed = k;
}

static void raise_scale(int *scale, const struct decimal_key *k)
{
    if (k->n > k->exp && k->n - k->exp > *scale) *scale = k->n - k->exp;
}

/* What is to be left out, on the grid; false when it does not lie on it. */
static bool grid_exclusions(struct grammar *g, struct number_alt *n, int scale)
{
    uint32_t k = n->n_not_multiples;
    n->not_steps = grammar_alloc(g, (k + 1) * sizeof *n->not_steps);
    n->not_values = grammar_alloc(g, (n->n_excluded + 1) * sizeof *n->not_values);
    if (!n->not_steps || !n->not_values) return false;
    for (uint32_t i = 0; i < k; i++)
        if (!decimal_scaled(&n->not_steps[i], &n->not_multiples[i], scale) || n->not_steps[i] == 0) return false;
    n->n_not_steps = k;
    if (n->fraction_only) n->not_steps[n->n_not_steps++] = n->unit;
    for (uint32_t i = 0; i < n->n_excluded; i++) {
        if (!decimal_scaled(&n->not_values[i], &n->excluded[i], scale)) return false;
        if (n->excluded[i].neg) n->not_values[i] = -n->not_values[i];
    }
    return true;
}

/* The grid on which generated numbers lie; false when the bounds are too wild for it (then only the end is checked). */
static bool number_grid(struct grammar *g, struct number_alt *n)
{
    int scale = 0;
    if (n->has_lo) raise_scale(&scale, &n->lo);
    if (n->has_hi) raise_scale(&scale, &n->hi);
    for (uint32_t i = 0; i < n->n_multiples; i++) raise_scale(&scale, &n->multiples[i]);
    for (uint32_t i = 0; i < n->n_not_multiples; i++) raise_scale(&scale, &n->not_multiples[i]);
    for (uint32_t i = 0; i < n->n_excluded; i++) raise_scale(&scale, &n->excluded[i]);
    if (!n->integer && n->n_multiples == 0) scale = scale < 13 ? 15 : scale + 2;
    if (scale > 18) return false;
    __int128 unit = 1, limit = (__int128)1000000000000000000;
    for (int i = 0; i < scale; i++) unit *= 10;
    n->scale = n->integer ? 0 : scale;
    n->low = -limit * unit;
    n->high = limit * unit;
    n->step = n->integer ? unit : 1;
    n->unit = unit;
    if (n->has_lo && (!decimal_scaled(&n->low, &n->lo, scale) || n->low > limit * unit)) return false;
    if (n->has_hi && (!decimal_scaled(&n->high, &n->hi, scale) || n->high > limit * unit)) return false;
    if (n->has_lo && n->lo.neg) n->low = -n->low;
    if (n->has_hi && n->hi.neg) n->high = -n->high;
    if (n->low < -limit * unit || n->high < -limit * unit) return false;
    n->low += n->has_lo && n->lo_open;
    n->high -= n->has_hi && n->hi_open;
    for (uint32_t i = 0; i < n->n_multiples; i++) { /* the least common multiple of all steps */
        __int128 m, a = n->step, b;
        if (!decimal_scaled(&m, &n->multiples[i], scale) || m == 0 || m > limit) return false;
        for (b = m; b;) {
            __int128 r = a % b;
            a = b;
            b = r;
        }
        n->step = n->step / a * m;
        if (n->step > limit * unit) return false;
    }
    return grid_exclusions(g, n, scale);
}

static bool add_key(struct grammar *g, struct decimal_key **list, uint32_t *n, const struct decimal_key *k)
{
    struct decimal_key *more = grammar_alloc(g, (*n + 1) * sizeof *more);
    if (!more) return false;
    if (*n) memcpy(more, *list, *n * sizeof *more);
    more[(*n)++] = *k;
    *list = more;
    return true;
}

static void build_number(struct grammar *g, struct number_alt *n, unsigned type, const struct fact *facts,
                         size_t n_facts, bool *never)
{
    n->integer = type == TYPE_INT;
    n->fraction_only = type == TYPE_FRAC;
    for (size_t i = 0; i < n_facts; i++) {
        const struct atom *a = g->schema.atoms[facts[i].atom];
        bool neg = facts[i].neg;
        if (a->kind == ATOM_ENUM) number_enum(g, n, a, neg);
        else if (a->kind == ATOM_MULTIPLE && neg) add_key(g, &n->not_multiples, &n->n_not_multiples, &a->number);
        else if (a->kind == ATOM_MULTIPLE) add_key(g, &n->multiples, &n->n_multiples, &a->number);
        else if ((a->kind == ATOM_MIN) != neg) narrow_low(n, &a->number, neg ? !a->n : a->n);
        else narrow_high(n, &a->number, neg ? !a->n : a->n);
    }
    struct decimal x;
    uint32_t w = 0;
    for (uint32_t i = 0; i < n->n_allowed; i++) {
        decimal_wide(&x, &n->allowed[i]);
        if (number_value_fits(n, &x)) n->allowed[w++] = n->allowed[i];
    }
    n->n_allowed = w;
    if (n->allowed) {
        *never = w == 0;
        return;
    }
    n->steered = n->has_lo || n->has_hi || n->n_multiples || n->n_not_multiples || n->n_excluded || n->fraction_only;
    if (n->steered) n->exact = number_grid(g, n);
    __int128 all = (__int128)1 << 120;
    if (n->exact && !number_between(n, false, 0, all) && !number_between(n, true, 0, all)) *never = true;
    for (uint32_t i = 0; n->exact && i < n->n_not_steps; i++) /* a multiple of 4 that is no multiple of 2 */
        if (n->step % n->not_steps[i] == 0) *never = true;
}

/* ---- arrays ---- */

static void build_array(struct grammar *g, struct array_alt *a, const struct fact *facts, size_t n, bool *never)
{
    a->max = REPEAT_MAX;
    a->items = grammar_alloc(g, n * sizeof(struct atom *));
    a->extra_at = grammar_alloc(g, n * sizeof *a->extra_at);
    a->extra_literal = grammar_alloc(g, n * sizeof *a->extra_literal);
    if (!a->items || !a->extra_at || !a->extra_literal) return;
    for (size_t i = 0; i < n; i++) {
        const struct fact *f = &facts[i];
        const struct atom *at = f->kind == FACT_ATOM ? g->schema.atoms[f->atom] : NULL;
        if (f->kind == FACT_ITEM) {
            a->extra_at[a->n_extra] = f->from;
            a->extra_literal[a->n_extra++] = f->literal;
            raise(&a->min, f->from + 1);
            raise(&a->prefix, f->from + 1);
        } else if (f->kind == FACT_SELECT) {
            if (a->n_select == MAX_SELECT) {
                grammar_refuse(g, NULL, "contains", "more than %d contains on one array", MAX_SELECT);
                continue;
            }
            if (f->min > f->max) *never = true;
            a->select[a->n_select++] = (struct select){f->literal, f->from, f->min, f->max};
            raise(&a->prefix, f->from);
        } else if (at->kind == ATOM_UNIQUE) a->unique = true;
        else if (at->kind == ATOM_ITEMS) {
            a->items[a->n_items++] = at;
            raise(&a->prefix, at->n_list);
        } else bound(&a->min, &a->max, at->kind == ATOM_MIN_ITEMS, f->neg, at->n, never);
    }
    if (a->min > a->max) *never = true;
    if (a->prefix > MAX_PREFIX)
        grammar_refuse(g, NULL, "prefixItems", "more than %d items by position", MAX_PREFIX), a->prefix = MAX_PREFIX;
    size_t n_child = ((size_t)a->prefix + 1) << a->n_select;
    a->child = grammar_alloc(g, n_child * sizeof *a->child);
    for (size_t i = 0; a->child && i < n_child; i++) a->child[i] = CHILD_UNSET;
}

uint32_t array_child(struct grammar *g, struct array_alt *a, uint32_t index, uint32_t select)
{
    uint32_t list[64 + MAX_SELECT], n = 0, at = index < a->prefix ? index : a->prefix;
    uint32_t *memo = &a->child[((size_t)at << a->n_select) + select];
    if (*memo != CHILD_UNSET) return *memo;
    for (uint32_t i = 0; i < a->n_items && n < 48; i++)
        list[n++] = (at < a->items[i]->n_list ? a->items[i]->list[at] : a->items[i]->raw) << 1;
    for (uint32_t i = 0; i < a->n_extra && n < 64; i++)
        if (a->extra_at[i] == index) list[n++] = a->extra_literal[i];
    if (n >= 48) grammar_refuse(g, NULL, "items", "too many conditions on one array");
    for (uint32_t i = 0; i < a->n_select; i++) {
        const struct select *s = &a->select[i];
        bool taken = select >> i & 1;
        if (taken && index < s->from) return *memo = NODE_NONE;
        if (taken) list[n++] = s->literal;
        else if (s->max < REPEAT_MAX && index >= s->from) list[n++] = s->literal ^ 1;
    }
    return *memo = node_get(g, list, n);
}

/* ---- objects ---- */

static int cmp_name(const void *x, const void *y)
{
    return str_cmp(*(const struct str *)x, *(const struct str *)y);
}

int64_t object_name(const struct object_alt *o, struct str key)
{
    uint32_t lo = 0, hi = o->n_names;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        int c = str_cmp(o->names[mid], key);
        if (c == 0) return mid;
        if (c < 0) lo = mid + 1;
        else hi = mid;
    }
    return -1;
}

static bool collect_names(struct grammar *g, struct object_alt *o, const struct fact *facts, size_t n)
{
    size_t total = 0, k = 0, w = 0;
    for (size_t i = 0; i < n; i++)
        total += facts[i].kind != FACT_ATOM ? 1 : facts[i].neg ? 0 : g->schema.atoms[facts[i].atom]->n_names;
    o->names = grammar_alloc(g, total * sizeof *o->names);
    o->props = grammar_alloc(g, n * sizeof(struct atom *));
    o->exists = grammar_alloc(g, n * sizeof *o->exists);
    if (!o->names || !o->props || !o->exists) return false;
    for (size_t i = 0; i < n; i++) {
        const struct atom *a = facts[i].kind == FACT_ATOM ? g->schema.atoms[facts[i].atom] : NULL;
        if (a && !facts[i].neg && a->n_names) {
            memcpy(o->names + k, a->names, a->n_names * sizeof *o->names);
            k += a->n_names;
        } else if (!a && facts[i].name.ptr) o->names[k++] = facts[i].name;
    }
    if (k) qsort(o->names, k, sizeof *o->names, cmp_name);
    for (size_t i = 0; i < k; i++)
        if (w == 0 || !str_eq(o->names[w - 1], o->names[i])) o->names[w++] = o->names[i];
    o->n_names = (uint32_t)w;
    o->flags = grammar_alloc(g, w);
    o->child = grammar_alloc(g, w * sizeof *o->child);
    if (!o->flags || !o->child) return false;
    for (size_t i = 0; i < w; i++) o->child[i] = CHILD_UNSET;
    return true;
}

static void require_name(struct object_alt *o, struct str name)
{
    uint8_t *flag = &o->flags[object_name(o, name)];
    if (!(*flag & NAME_REQUIRED)) o->n_required++;
    *flag |= NAME_REQUIRED;
}

static void take_object_atom(struct grammar *g, struct object_alt *o, const struct fact *f, bool *never)
{
    const struct atom *a = g->schema.atoms[f->atom];
    uint32_t term, node;
    switch (a->kind) {
    case ATOM_PROPS: o->props[o->n_props++] = a; return;
    case ATOM_REQUIRED:
        for (uint32_t i = 0; i < a->n_names; i++) require_name(o, a->names[i]);
        return;
    case ATOM_NAMES:
        node = node_get(g, &(uint32_t){a->raw << 1}, 1);
        if (node == NODE_NONE) term = TERM_NONE;
        else if (!string_term(g, &term, node)) return; /* its own names: nothing new */
        o->name_term = term_and2(g, o->name_term, term);
        return;
    default: bound(&o->min, &o->max, a->kind == ATOM_MIN_PROPS, f->neg, a->n, never);
    }
}

static void build_object(struct grammar *g, struct object_alt *o, const struct fact *facts, size_t n, bool *never)
{
    o->max = REPEAT_MAX;
    o->name_term = g->terms.any_text;
    if (!collect_names(g, o, facts, n)) return;
    o->extra = grammar_alloc(g, n * sizeof *o->extra);
    if (!o->extra) return;
    for (size_t i = 0; i < n && !*never; i++) {
        const struct fact *f = &facts[i];
        if (f->kind == FACT_ATOM) take_object_atom(g, o, f, never);
        else if (f->kind == FACT_REQUIRED) require_name(o, f->name);
        else if (f->kind == FACT_ABSENT) o->flags[object_name(o, f->name)] |= NAME_ABSENT;
        else if (f->kind == FACT_PROP)
            o->extra[o->n_extra++] = (struct extra){(uint32_t)object_name(o, f->name), f->literal};
        else {
            struct exists x = {.keys = dfa_get(g, f->term), .literal = f->literal};
            if (!x.keys || o->n_exists == MAX_EXISTS) *never = true;
            else o->exists[o->n_exists++] = x;
        }
    }
    for (uint32_t i = 0; i < o->n_names; i++)
        if ((o->flags[i] & (NAME_REQUIRED | NAME_ABSENT)) == (NAME_REQUIRED | NAME_ABSENT)) *never = true;
    raise(&o->min, o->n_required);
    if (o->n_required > o->max || o->min > o->max) *never = true;
}

/* Which patterns of all atoms match, as bits in order. */
static uint64_t matched_patterns(struct grammar *g, const struct object_alt *o, struct str key)
{
    uint64_t bits = 0;
    unsigned k = 0;
    for (uint32_t i = 0; i < o->n_props; i++)
        for (uint32_t j = 0; j < o->props[i]->n_patterns; j++, k++)
            if (k < 64 && dfa_match(g, o->props[i]->pattern_dfas[j], key)) bits |= (uint64_t)1 << k;
    if (k > 64) grammar_refuse(g, NULL, "patternProperties", "more than 64 patterns on one object");
    return bits;
}

static uint32_t name_at(const struct atom *a, struct str key)
{
    const struct str *hit = a->n_names ? bsearch(&key, a->names, a->n_names, sizeof key, cmp_name) : NULL;
    return hit ? (uint32_t)(hit - a->names) : UINT32_MAX;
}

static uint32_t child_node(struct grammar *g, struct object_alt *o, int64_t name, struct str key, uint64_t matched,
                           uint32_t select)
{
    size_t n = 0, cap = 0;
    uint32_t *list = NULL, node = NODE_NONE;
    unsigned k = 0;
    if (name >= 0 && (o->flags[name] & NAME_ABSENT)) return NODE_NONE;
    for (uint32_t i = 0; i < o->n_props; i++) {
        const struct atom *a = o->props[i];
        uint32_t at = name >= 0 ? name_at(a, key) : UINT32_MAX;
        bool known = at != UINT32_MAX;
        if (!GROW(g, list, cap, n + a->n_patterns + o->n_extra + 3)) goto out;
        if (known) list[n++] = a->list[at] << 1;
        for (uint32_t j = 0; j < a->n_patterns; j++, k++)
            if (matched >> (k & 63) & 1) list[n++] = a->pattern_raws[j] << 1, known = true;
        if (!known) list[n++] = a->raw << 1;
    }
    if (!GROW(g, list, cap, n + o->n_extra + o->n_exists)) goto out;
    for (uint32_t i = 0; i < o->n_extra; i++)
        if (o->extra[i].name == name) list[n++] = o->extra[i].literal;
    for (uint32_t i = 0; i < o->n_exists; i++)
        if (select >> i & 1) list[n++] = o->exists[i].literal;
    node = node_get(g, list, n);
out:
    grammar_discharge(g, cap * sizeof *list);
    mem_free(list);
    return node;
}

uint32_t object_child(struct grammar *g, struct object_alt *o, int64_t name, struct str key, uint32_t select)
{
    if (name >= 0 && select == 0 && o->child[name] != CHILD_UNSET) return o->child[name];
    uint64_t matched = matched_patterns(g, o, key);
    if (name >= 0) {
        uint32_t node = child_node(g, o, name, key, matched, select);
        if (select == 0) o->child[name] = node;
        return node;
    }
    for (size_t i = 0; i < o->n_memo; i++)
        if (o->memo[i].matched == matched && o->memo[i].select == select) return o->memo[i].node;
    uint32_t node = child_node(g, o, name, key, matched, select);
    struct child_memo *more = grammar_alloc(g, (o->n_memo + 1) * sizeof *more);
    if (!more) return node;
    if (o->n_memo) memcpy(more, o->memo, o->n_memo * sizeof *more);
    more[o->n_memo++] = (struct child_memo){matched, select, node};
    o->memo = more;
    return node;
}

/* Keys outside of all names, by which patterns they match: added to *keys where a member may stand. False: wherever. */
static bool other_keys(struct grammar *g, struct object_alt *o, uint32_t *keys, uint32_t names)
{
    uint32_t patterns[MAX_REGIONS], n = 0, fit = 0;
    bool fits[1 << MAX_REGIONS];
    for (uint32_t i = 0; i < o->n_props; i++)
        for (uint32_t j = 0; j < o->props[i]->n_patterns; j++)
            if (n < MAX_REGIONS) patterns[n++] = o->props[i]->patterns[j];
            else grammar_refuse(g, NULL, "patternProperties", "more than %d patterns on one object", MAX_REGIONS);
    for (uint32_t set = 0; set < 1u << n; set++) {
        uint32_t node = child_node(g, o, -1, STR_NONE, set, 0);
        fits[set] = node != NODE_NONE && node_fits(g, node);
        fit += fits[set];
    }
    if (fit == 1u << n) return false;
    uint32_t others = term_without(g, o->name_term, names), yes = TERM_NONE;
    for (uint32_t set = 0; set < 1u << n; set++) {
        uint32_t region = others;
        if (!fits[set]) continue;
        for (uint32_t i = 0; i < n; i++)
            region = set >> i & 1 ? term_and2(g, region, patterns[i]) : term_without(g, region, patterns[i]);
        yes = term_alt2(g, yes, region);
    }
    *keys = term_alt2(g, *keys, yes);
    return true;
}

static bool all_others_fit(struct grammar *g, struct object_alt *o)
{
    for (uint32_t i = 0; i < o->n_props; i++)
        if (o->props[i]->n_patterns) return false;
    uint32_t node = child_node(g, o, -1, STR_NONE, 0, 0);
    return node != NODE_NONE && node_fits(g, node);
}

/* The languages of keys. Settled on first use, because deciding which members can have a value visits the children. */
void object_prepare(struct grammar *g, struct object_alt *o)
{
    struct str *open = NULL, *shut = NULL;
    size_t n_open = 0, n_shut = 0, n_req = 0;
    if (o->prepared) return;
    o->prepared = true;
    struct str *required = mem_try_alloc((o->n_names + 1) * sizeof *required);
    open = mem_try_alloc((o->n_names + 1) * sizeof *open);
    shut = mem_try_alloc((o->n_names + 1) * sizeof *shut);
    if (!open || !shut || !required) goto out;
    struct dfa *allowed = o->name_term == g->terms.any_text ? NULL : dfa_get(g, o->name_term);
    for (uint32_t i = 0; i < o->n_names; i++) {
        uint32_t child = object_child(g, o, i, o->names[i], 0);
        bool fits = child != NODE_NONE && node_fits(g, child);
        if (fits && o->name_term != g->terms.any_text) fits = allowed && dfa_match(g, allowed, o->names[i]);
        if (fits) open[n_open++] = o->names[i];
        else shut[n_shut++] = o->names[i];
        if (o->flags[i] & NAME_REQUIRED) required[n_req++] = o->names[i];
    }
    uint32_t keys = TERM_NONE;
    bool all = all_others_fit(g, o);
    if (!all) keys = term_strings(g, open, n_open);
    if (all || !other_keys(g, o, &keys, term_strings(g, o->names, o->n_names)))
        keys = term_without(g, o->name_term, term_strings(g, shut, n_shut));
    o->keys = dfa_get(g, keys);
    if (n_req) o->required_keys = dfa_get(g, term_strings(g, required, n_req));
out:
    mem_free(open);
    mem_free(shut);
    mem_free(required);
}

/* ---- the door ---- */

static void build_scalar(struct grammar *g, struct alt *a, const struct fact *facts, size_t n, bool *never)
{
    a->bools = a->type == TYPE_BOOL ? 3 : 0;
    for (size_t i = 0; i < n; i++) {
        const struct atom *at = g->schema.atoms[facts[i].atom];
        uint8_t bools = 0;
        bool null = false;
        if (at->kind != ATOM_ENUM) continue;
        for (size_t k = 0; k < json_array_size(at->json); k++) {
            const json_t *v = json_array_get(at->json, k);
            if (json_is_boolean(v)) bools |= json_is_true(v) ? 2 : 1;
            null |= json_is_null(v);
        }
        if (a->type == TYPE_NULL) *never |= null == facts[i].neg;
        else a->bools &= facts[i].neg ? (uint8_t)~bools : bools;
    }
    if (a->type == TYPE_BOOL && !a->bools) *never = true;
}

struct alt *alt_build(struct grammar *g, unsigned type, const struct fact *facts, size_t n, bool *never)
{
    struct alt *a = grammar_alloc(g, sizeof *a);
    if (!a) return NULL;
    a->type = (uint8_t)(type & (TYPE_INT | TYPE_FRAC) ? TYPE_INT : type);
    a->id = g->n_alts++;
    switch (a->type) {
    case TYPE_STR: build_string(g, &a->string, facts, n, never); break;
    case TYPE_INT: build_number(g, &a->number, type, facts, n, never); break;
    case TYPE_ARR: build_array(g, &a->array, facts, n, never); break;
    case TYPE_OBJ: build_object(g, &a->object, facts, n, never); break;
    default: build_scalar(g, a, facts, n, never);
    }
    return g->exhausted ? NULL : a;
}

/* ---- whether anything fits ---- */

static bool child_fits(struct grammar *g, uint32_t node)
{
    return node != NODE_NONE && node_fits(g, node);
}

static bool object_fits(struct grammar *g, struct object_alt *o)
{
    struct dfa *allowed = o->name_term == g->terms.any_text ? NULL : dfa_get(g, o->name_term);
    for (uint32_t i = 0; i < o->n_names; i++) {
        if (!(o->flags[i] & NAME_REQUIRED)) continue;
        if (o->name_term != g->terms.any_text && (!allowed || !dfa_match(g, allowed, o->names[i]))) return false;
        if (!child_fits(g, object_child(g, o, i, o->names[i], 0))) return false;
    }
    for (uint32_t i = 0; i < o->n_exists; i++) {
        bool some = false;
        for (uint32_t k = 0; k < o->n_names && !some; k++)
            some = dfa_match(g, o->exists[i].keys, o->names[k]) &&
                   child_fits(g, object_child(g, o, k, o->names[k], 1u << i));
        if (!some) some = child_fits(g, child_node(g, o, -1, STR_NONE, 0, 1u << i));
        for (unsigned k = 0; k < 64 && !some; k++)
            some = child_fits(g, child_node(g, o, -1, STR_NONE, (uint64_t)1 << k, 1u << i));
        if (!some) return false;
    }
    if (o->min <= o->n_required || all_others_fit(g, o)) return true;
    object_prepare(g, o);
    return o->keys && (o->min >= COUNT_MANY || dfa_count(g, o->keys, 0) >= o->min);
}

/* The first position at which no item can stand. */
static uint32_t array_end(struct grammar *g, struct array_alt *a, uint32_t limit)
{
    for (uint32_t i = 0; i <= a->prefix && i < limit; i++) {
        bool some = false;
        for (uint32_t set = 0; set < 1u << a->n_select && !some; set++) some = child_fits(g, array_child(g, a, i, set));
        if (!some) return i;
    }
    return limit;
}

static bool array_fits(struct grammar *g, struct array_alt *a)
{
    uint32_t need = a->min, end;
    for (uint32_t k = 0; k < a->n_select; k++) {
        const struct select *s = &a->select[k];
        if (s->min == 0) continue;
        bool some = false;
        for (uint32_t i = s->from; i <= a->prefix && !some; i++)
            for (uint32_t set = 0; set < 1u << a->n_select && !some; set++)
                some = (set >> k & 1) && child_fits(g, array_child(g, a, i, set));
        if (!some) return false;
        raise(&need, s->from + s->min);
    }
    if (need == 0) return true;
    end = array_end(g, a, need > a->prefix + 1 ? a->prefix + 1 : need);
    if (end <= a->prefix && end < need) return false;
    if (a->unique && a->prefix == 0 && need <= COUNT_MANY && node_values(g, array_child(g, a, 0, 0)) < need)
        return false;
    return need <= a->max;
}

static bool evaluate(struct grammar *g, struct alt *a)
{
    return a->type == TYPE_OBJ ? object_fits(g, &a->object) : a->type == TYPE_ARR ? array_fits(g, &a->array) : true;
}

bool alt_fits(struct grammar *g, struct alt *a)
{
    if (a->fits == FITS_UNKNOWN) a->fits = evaluate(g, a) ? FITS_YES : FITS_NO;
    return a->fits == FITS_YES;
}

bool node_fits(struct grammar *g, uint32_t node)
{
    if (node == NODE_NONE || g->exhausted) return false;
    if (!node_expand(g, node)) return true; /* asked while it is taken apart: the answer may not be "no" */
    if (g->nodes[node].fits == FITS_YES) return true;
    if (g->nodes[node].fits == FITS_NO) return false;
    if (g->nodes[node].fits == FITS_BUSY) return g->busy_hits++, false;
    if (g->fits_depth > MAX_FITS_DEPTH) return true;
    uint32_t hits = g->busy_hits;
    bool yes = false;
    g->fits_depth++;
    g->nodes[node].fits = FITS_BUSY;
    for (uint32_t i = 0; i < g->nodes[node].n_alts && !yes; i++) yes = evaluate(g, g->nodes[node].alts[i]);
    g->fits_depth--;
    /* "No" that rests on a node above being undecided is no answer yet, unless nothing is above. */
    bool final = yes || g->busy_hits == hits || g->fits_depth == 0;
    g->nodes[node].fits = yes ? FITS_YES : final ? FITS_NO : FITS_UNKNOWN;
    return yes;
}
