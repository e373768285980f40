/* gbnf: llama.cpp's grammar files. Rules that do not contain themselves become one term each (and so one automaton);
 * the others become programs of calls with automata between. Left recursion would never read anything: it is refused.
 */
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "base/utf8.h"
#include "grammar/grammar_internal.h"

#define MAX_NODES (1u << 20)
#define MAX_DEPTH 200
#define MAX_COPIES 2000 /* of a rule part that is no term, for a repetition */

enum part_kind { PART_TERM, PART_RULE, PART_CAT, PART_ALT, PART_REPEAT };
struct part {
    uint8_t kind;
    uint32_t a, b, min, max; /* term; rule; two parts; a part and its bounds */
};
struct rule {
    struct str name;
    uint32_t body; /* part; UINT32_MAX = used, not yet defined */
    uint32_t term, entry;
    uint8_t state; /* of the search for recursion */
    bool recursive, nullable;
    size_t line;
};
struct reader {
    struct grammar *g;
    struct str s;
    size_t at, line;
    unsigned depth;
    struct part *parts;
    size_t n_parts, parts_cap;
    struct rule *rules;
    size_t n_rules, rules_cap;
    struct strmap names;
    struct err *e;
};
#define NO_PART UINT32_MAX

static uint32_t bad(struct reader *r, const char *what)
{
    if (r->e->kind == ERR_NONE) err_set(r->e, ERR_INVALID, "grammar, line %zu: %s", r->line, what);
    return NO_PART;
}

static uint32_t add_part(struct reader *r, struct part p)
{
    if (r->n_parts >= MAX_NODES || !GROW(r->g, r->parts, r->parts_cap, r->n_parts + 1))
        return bad(r, "the grammar is too large");
    r->parts[r->n_parts] = p;
    return (uint32_t)r->n_parts++;
}

/* White space and comments; over line ends only where `lines`. */
static void skip(struct reader *r, bool lines)
{
    for (; r->at < r->s.len; r->at++) {
        char c = r->s.ptr[r->at];
        if (c == '#') {
            while (r->at < r->s.len && r->s.ptr[r->at] != '\n') r->at++;
            r->at--;
        } else if (c == '\n') {
            if (!lines) return;
            r->line++;
        } else if (c != ' ' && c != '\t' && c != '\r') return;
    }
}

static bool is_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static struct str read_name(struct reader *r)
{
    size_t from = r->at;
    while (r->at < r->s.len && is_name(r->s.ptr[r->at])) r->at++;
    return str_slice(r->s, from, r->at);
}

static uint32_t rule_of(struct reader *r, struct str name)
{
    uint32_t id;
    if (strmap_find(&r->names, &id, name)) return id;
    if (!GROW(r->g, r->rules, r->rules_cap, r->n_rules + 1) || !strmap_add(&r->names, name, (uint32_t)r->n_rules))
        return bad(r, "too many rules");
    r->rules[r->n_rules] = (struct rule){.name = name, .body = NO_PART, .entry = OP_NOWHERE, .line = r->line};
    return (uint32_t)r->n_rules++;
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* One character of a literal; escapes \n \t \r \" \\ \] \[ \xHH \uHHHH \UHHHHHHHH. */
static bool read_char(struct reader *r, uint32_t *out)
{
    static const char from[] = "ntr\"\\[]-^/", to[] = "\n\t\r\"\\[]-^/";
    char c = r->s.ptr[r->at];
    if (c != '\\') {
        size_t n = utf8_decode(str_slice(r->s, r->at, r->s.len), out);
        r->at += n;
        return n > 0 || (bad(r, "bytes that are not UTF-8"), false);
    }
    if (++r->at == r->s.len) return bad(r, "a backslash at the end"), false;
    c = r->s.ptr[r->at++];
    size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    const char *known = strchr(from, c);
    if (digits == 0 && (!known || !c))
        return bad(r, "an unknown escape; known are \\n \\t \\r \\\" \\\\ \\[ \\] \\x \\u \\U"), false;
    *out = known && digits == 0 ? (uint8_t)to[known - from] : 0;
    for (size_t i = 0; i < digits; i++, r->at++) {
        int d = r->at < r->s.len ? hex_digit(r->s.ptr[r->at]) : -1;
        if (d < 0) return bad(r, "an unfinished \\x, \\u or \\U escape"), false;
        *out = *out << 4 | (uint32_t)d;
    }
    return true;
}

static uint32_t read_literal(struct reader *r)
{
    struct buf b;
    uint32_t c, part = NO_PART;
    buf_init(&b, 1 << 20);
    r->at++;
    while (r->at < r->s.len && r->s.ptr[r->at] != '"' && r->s.ptr[r->at] != '\n') {
        if (!read_char(r, &c)) goto out;
        buf_append_utf8(&b, c);
    }
    if (r->at == r->s.len || r->s.ptr[r->at] != '"') {
        bad(r, "a literal that is not closed");
        goto out;
    }
    r->at++;
    part = add_part(r, (struct part){.kind = PART_TERM, .a = term_bytes(r->g, buf_str(&b))});
out:
    buf_deinit(&b);
    return part;
}

static bool read_class(struct reader *r, uint32_t *term)
{
    struct codepoints list[512], inverse[514];
    size_t n = 0, k = 0;
    bool negative = ++r->at < r->s.len && r->s.ptr[r->at] == '^';
    uint32_t from = 0;
    r->at += negative;
    while (r->at < r->s.len && r->s.ptr[r->at] != ']') {
        if (n == 512) return bad(r, "a character class with more than 512 ranges"), false;
        if (!read_char(r, &list[n].lo)) return false;
        list[n].hi = list[n].lo;
        if (r->at + 1 < r->s.len && r->s.ptr[r->at] == '-' && r->s.ptr[r->at + 1] != ']') {
            r->at++;
            if (!read_char(r, &list[n].hi)) return false;
        }
        if (list[n].hi < list[n].lo) return bad(r, "a character range in the wrong order"), false;
        n++;
    }
    if (r->at == r->s.len) return bad(r, "a character class that is not closed"), false;
    r->at++;
    if (!negative) return *term = term_chars(r->g, list, n), true;
    for (size_t i = 1; i < n; i++)
        for (size_t j = i; j > 0 && list[j - 1].lo > list[j].lo; j--) {
            struct codepoints c = list[j];
            list[j] = list[j - 1];
            list[j - 1] = c;
        }
    for (size_t i = 0; i < n; i++) {
        if (list[i].lo > from) inverse[k++] = (struct codepoints){from, list[i].lo - 1};
        if (list[i].hi >= from) from = list[i].hi + 1;
    }
    if (from <= 0x10ffff) inverse[k++] = (struct codepoints){from, 0x10ffff};
    return *term = term_chars(r->g, inverse, k), true;
}

static uint32_t read_alternatives(struct reader *r, bool nested);

static uint32_t read_atom(struct reader *r, bool nested)
{
    char c = r->s.ptr[r->at];
    uint32_t term, part;
    if (c == '"') return read_literal(r);
    if (c == '[') return read_class(r, &term) ? add_part(r, (struct part){.kind = PART_TERM, .a = term}) : NO_PART;
    if (c == '.') return r->at++, add_part(r, (struct part){.kind = PART_TERM, .a = r->g->terms.any_char});
    if (is_name(c)) {
        uint32_t rule = rule_of(r, read_name(r));
        return rule == NO_PART ? NO_PART : add_part(r, (struct part){.kind = PART_RULE, .a = rule});
    }
    if (c != '(')
        return bad(r, nested ? "expected a literal, a class, a rule or \")\""
                             : "expected a literal, a class, a rule or a group");
    if (++r->depth > MAX_DEPTH) return bad(r, "groups nested too deeply");
    r->at++;
    part = read_alternatives(r, true);
    if (part == NO_PART) return part;
    if (r->at == r->s.len || r->s.ptr[r->at] != ')') return bad(r, "a group that is not closed");
    r->at++;
    r->depth--;
    return part;
}

static uint32_t read_item(struct reader *r, bool nested)
{
    uint32_t part = read_atom(r, nested);
    while (part != NO_PART && r->at < r->s.len && strchr("*+?{", r->s.ptr[r->at]) && r->s.ptr[r->at]) {
        char c = r->s.ptr[r->at];
        uint32_t min = c == '+', max = c == '?' ? 1 : REPEAT_MAX;
        if (c == '{') {
            if (!regex_bounds(r->s, &r->at, &min, &max) || max < min) return bad(r, "expected {n}, {n,} or {n,m}");
        } else r->at++;
        part = add_part(r, (struct part){.kind = PART_REPEAT, .a = part, .min = min, .max = max});
    }
    return part;
}

/* Whether a rule definition starts here: the sequence before it ends, even without a blank line. */
static bool at_definition(struct reader *r)
{
    size_t at = r->at, line = r->line;
    bool yes = read_name(r).len > 0;
    skip(r, false);
    yes = yes && str_starts(str_slice(r->s, r->at, r->s.len), STR("::="));
    r->at = at;
    r->line = line;
    return yes;
}

static uint32_t read_sequence(struct reader *r, bool nested)
{
    uint32_t all = add_part(r, (struct part){.kind = PART_TERM, .a = TERM_EPS});
    for (;;) {
        /* Outside of groups a rule ends with its line, unless the next line goes on with "|". */
        skip(r, nested);
        if (r->at == r->s.len) return all;
        char c = r->s.ptr[r->at];
        if (c == '|' || c == ')' || c == '\n' || (nested && at_definition(r))) return all;
        uint32_t item = read_item(r, nested);
        if (item == NO_PART || all == NO_PART) return NO_PART;
        all = add_part(r, (struct part){.kind = PART_CAT, .a = all, .b = item});
    }
}

static uint32_t read_alternatives(struct reader *r, bool nested)
{
    uint32_t all = read_sequence(r, nested);
    for (;;) {
        if (all == NO_PART) return all;
        size_t at = r->at, line = r->line;
        skip(r, true);
        if (r->at == r->s.len || r->s.ptr[r->at] != '|') {
            if (!nested) r->at = at, r->line = line;
            return all;
        }
        r->at++;
        skip(r, true);
        uint32_t other = read_sequence(r, nested);
        if (other == NO_PART) return other;
        all = add_part(r, (struct part){.kind = PART_ALT, .a = all, .b = other});
    }
}

static bool read_rules(struct reader *r)
{
    for (;;) {
        skip(r, true);
        if (r->at == r->s.len) return true;
        struct str name = read_name(r);
        if (!name.len) return bad(r, "expected the name of a rule"), false;
        skip(r, false);
        if (!str_starts(str_slice(r->s, r->at, r->s.len), STR("::=")))
            return bad(r, "expected \"::=\" behind the name of a rule"), false;
        r->at += 3;
        uint32_t rule = rule_of(r, name);
        if (rule == NO_PART) return false;
        if (r->rules[rule].body != NO_PART) return bad(r, "a rule that is defined twice"), false;
        skip(r, true);
        uint32_t body = read_alternatives(r, false);
        if (body == NO_PART) return false;
        r->rules[rule].body = body;
        skip(r, false);
        if (r->at < r->s.len && r->s.ptr[r->at] != '\n') return bad(r, "expected the end of the line"), false;
    }
}

/* ---- what is regular, what is nullable ---- */

static bool reaches(struct reader *r, uint32_t part, uint32_t rule, uint8_t *seen, bool left_only, unsigned depth);

static bool part_nullable(const struct reader *r, uint32_t part, unsigned depth)
{
    const struct part *p = &r->parts[part];
    if (depth > 4000) return true;
    switch (p->kind) {
    case PART_TERM: return r->g->terms.items[p->a].nullable;
    case PART_RULE: return r->rules[p->a].nullable;
    case PART_CAT: return part_nullable(r, p->b, depth + 1) && part_nullable(r, p->a, depth + 1);
    case PART_ALT: return part_nullable(r, p->a, depth + 1) || part_nullable(r, p->b, depth + 1);
    default: return p->min == 0 || part_nullable(r, p->a, depth + 1);
    }
}

static bool reaches(struct reader *r, uint32_t part, uint32_t rule, uint8_t *seen, bool left_only, unsigned depth)
{
    const struct part *p = &r->parts[part];
    if (depth > 4000) return true;
    switch (p->kind) {
    case PART_TERM: return false;
    case PART_RULE:
        if (p->a == rule) return true;
        if (seen[p->a]) return false;
        seen[p->a] = 1;
        return reaches(r, r->rules[p->a].body, rule, seen, left_only, depth + 1);
    case PART_CAT:
        if (reaches(r, p->a, rule, seen, left_only, depth + 1)) return true;
        return (!left_only || part_nullable(r, p->a, 0)) && reaches(r, p->b, rule, seen, left_only, depth + 1);
    case PART_ALT:
        return reaches(r, p->a, rule, seen, left_only, depth + 1) || reaches(r, p->b, rule, seen, left_only, depth + 1);
    default: return reaches(r, p->a, rule, seen, left_only, depth + 1);
    }
}

static bool analyse(struct reader *r)
{
    if (r->n_rules > 5000) return bad(r, "more than 5000 rules"), false;
    uint8_t *seen = grammar_alloc(r->g, r->n_rules);
    if (!seen) return false;
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < r->n_rules; i++)
            if (!r->rules[i].nullable && part_nullable(r, r->rules[i].body, 0)) changed = r->rules[i].nullable = true;
    }
    for (size_t i = 0; i < r->n_rules; i++) {
        memset(seen, 0, r->n_rules);
        r->rules[i].recursive = reaches(r, r->rules[i].body, (uint32_t)i, seen, false, 0);
        memset(seen, 0, r->n_rules);
        if (!r->rules[i].recursive || !reaches(r, r->rules[i].body, (uint32_t)i, seen, true, 0)) continue;
        r->line = r->rules[i].line;
        err_set(r->e, ERR_INVALID,
                "grammar, line %zu: the rule %.*s begins with itself (left recursion is not supported)",
                r->rules[i].line, STR_ARG(r->rules[i].name));
        return false;
    }
    return true;
}

/* The part as a term; false when a recursive rule is inside. */
static bool part_term(struct reader *r, uint32_t part, uint32_t *out, unsigned depth)
{
    const struct part p = r->parts[part];
    uint32_t a, b;
    if (depth > 3000) return false;
    switch (p.kind) {
    case PART_TERM: return *out = p.a, true;
    case PART_RULE: {
        if (r->rules[p.a].recursive || r->rules[p.a].state >= 2) return false;
        if (r->rules[p.a].state == 0) {
            bool ok = part_term(r, r->rules[p.a].body, &a, depth + 1);
            r->rules[p.a].state = ok ? 1 : 2;
            r->rules[p.a].term = ok ? a : TERM_NONE;
            if (!ok) return false;
        }
        return *out = r->rules[p.a].term, true;
    }
    case PART_CAT:
        if (!part_term(r, p.a, &a, depth + 1) || !part_term(r, p.b, &b, depth + 1)) return false;
        return *out = term_cat(r->g, a, b), true;
    case PART_ALT:
        if (!part_term(r, p.a, &a, depth + 1) || !part_term(r, p.b, &b, depth + 1)) return false;
        return *out = term_alt2(r->g, a, b), true;
    default:
        if (!part_term(r, p.a, &a, depth + 1)) return false;
        return *out = term_repeat(r->g, a, p.min, p.max), true;
    }
}

/* ---- programs, built from the end so that every part knows what follows ---- */

static uint32_t emit(struct reader *r, uint32_t part, uint32_t next, unsigned depth);

static uint32_t emit_repeat(struct reader *r, const struct part *p, uint32_t next, unsigned depth)
{
    struct grammar *g = r->g;
    uint32_t copies = p->max == REPEAT_MAX ? p->min : p->max;
    if (copies > MAX_COPIES) return bad(r, "more than 2000 repetitions of a part with recursion in it");
    if (p->max == REPEAT_MAX) {
        uint32_t loop = program_add(g, (struct op){.kind = OP_SPLIT, .b = next});
        uint32_t body = loop == OP_NOWHERE ? OP_NOWHERE : emit(r, p->a, loop, depth + 1);
        if (body == OP_NOWHERE) return OP_NOWHERE;
        g->ops[loop].a = body;
        next = loop;
    }
    uint32_t end = next;
    for (uint32_t i = copies; i > 0 && next != OP_NOWHERE; i--) {
        uint32_t body = emit(r, p->a, next, depth + 1);
        bool optional = i > p->min;
        next =
            optional && body != OP_NOWHERE ? program_add(g, (struct op){.kind = OP_SPLIT, .a = body, .b = end}) : body;
    }
    return next;
}

static uint32_t emit(struct reader *r, uint32_t part, uint32_t next, unsigned depth)
{
    struct grammar *g = r->g;
    const struct part p = r->parts[part];
    uint32_t term, a, b;
    if (next == OP_NOWHERE || depth > 3000) return next == OP_NOWHERE ? next : bad(r, "parts nested too deeply");
    if (part_term(r, part, &term, 0)) {
        if (term == TERM_EPS) return next;
        struct dfa *d = dfa_get(g, term);
        if (!d) return bad(r, g->exhausted ? "the grammar needs too much memory" : "a part that matches nothing");
        return program_add(g, (struct op){.kind = OP_TEXT, .dfa = d, .a = next});
    }
    switch (p.kind) {
    case PART_CAT: b = emit(r, p.b, next, depth + 1); return emit(r, p.a, b, depth + 1);
    case PART_ALT:
        a = emit(r, p.a, next, depth + 1);
        b = emit(r, p.b, next, depth + 1);
        return a == OP_NOWHERE || b == OP_NOWHERE ? OP_NOWHERE
                                                  : program_add(g, (struct op){.kind = OP_SPLIT, .a = a, .b = b});
    case PART_REPEAT: return emit_repeat(r, &p, next, depth);
    default: /* the callee's entry is filled in once all rules have one */
        return program_add(g, (struct op){.kind = OP_CALL, .a = OP_NOWHERE - 1 - p.a, .b = next});
    }
}

/* The program of the whole text: root with `next` behind it. Where root is used inside, it has a program that returns.
 */
static bool emit_rules(struct reader *r, uint32_t *entry, uint32_t root, uint32_t next)
{
    struct grammar *g = r->g;
    size_t first = g->n_ops;
    uint32_t ret = program_add(g, (struct op){.kind = OP_RETURN});
    *entry = emit(r, r->rules[root].body, next, 0);
    if (*entry == OP_NOWHERE) return false;
    for (size_t i = first; i < g->n_ops; i++) { /* ops appear as bodies of called rules are made */
        if (g->ops[i].kind != OP_CALL || g->ops[i].a < OP_NOWHERE - 1 - r->n_rules) continue;
        uint32_t rule = OP_NOWHERE - 1 - g->ops[i].a;
        if (r->rules[rule].state != 3) {
            r->rules[rule].state = 3;
            r->rules[rule].entry = emit(r, r->rules[rule].body, ret, 0);
            if (r->rules[rule].entry == OP_NOWHERE) return false;
        }
        g->ops[i].a = r->rules[rule].entry;
    }
    return true;
}

uint32_t program_gbnf(struct grammar *g, struct str text, uint32_t next, struct err *e)
{
    struct reader r = {.g = g, .s = text, .line = 1, .e = e};
    uint32_t root, entry = OP_NOWHERE;
    e->kind = ERR_NONE;
    strmap_init(&r.names);
    if (!read_rules(&r)) goto out;
    for (size_t i = 0; i < r.n_rules; i++)
        if (r.rules[i].body == NO_PART) {
            err_set(e, ERR_INVALID, "grammar, line %zu: the rule %.*s is not defined", r.rules[i].line,
                    STR_ARG(r.rules[i].name));
            goto out;
        }
    if (!strmap_find(&r.names, &root, STR("root"))) {
        err_set(e, ERR_INVALID, "grammar: no rule is called root");
        goto out;
    }
    if (!analyse(&r) || !emit_rules(&r, &entry, root, next)) entry = OP_NOWHERE;
out:
    if (entry == OP_NOWHERE && e->kind == ERR_NONE)
        err_set(e, ERR_TOO_LARGE, "the grammar needs more than its memory budget");
    grammar_discharge(g, r.parts_cap * sizeof *r.parts + r.rules_cap * sizeof *r.rules);
    mem_free(r.parts);
    mem_free(r.rules);
    strmap_deinit(&r.names);
    return entry;
}

struct grammar *grammar_from_gbnf(struct str text, const struct grammar_options *o, struct err *e)
{
    struct err local;
    if (!e) e = &local;
    struct grammar *g = grammar_new(o, e);
    if (!g) return NULL;
    uint32_t end = program_add(g, (struct op){.kind = OP_END});
    g->entry = program_gbnf(g, text, end, e);
    if (g->entry == OP_NOWHERE) return grammar_unref(g), NULL;
    return grammar_give(g, e);
}
