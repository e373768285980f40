/* parse_expr: the expression grammar, and the token helpers that the statement parser shares. Recursive descent with a
 * limit on nesting; chains of operators of one level become one node with many children, so that long sums and
 * concatenations are flat. */
#include <stdio.h>
#include <string.h>

#include "jinja/jinja_internal.h"

void *compile_alloc(struct compiler *c, size_t size)
{
    void *p = arena_try_alloc(&c->j->arena, size ? size : 1);
    if (!p) {
        compile_fail(c, 0, "the template needs too much memory");
        return NULL;
    }
    return memset(p, 0, size ? size : 1);
}

struct node *node_new(struct compiler *c, enum node_kind kind, uint32_t line)
{
    struct node *n = compile_alloc(c, sizeof *n);
    if (!n) return NULL;
    n->kind = kind;
    n->line = line;
    return n;
}

static void raise_height(struct node *n, const struct node *kid)
{
    if (kid && kid->height >= n->height) n->height = (uint16_t)(kid->height + 1);
}

struct node *node_done(struct compiler *c, struct node *n)
{
    raise_height(n, n->a);
    raise_height(n, n->b);
    raise_height(n, n->c);
    for (size_t i = 0; i < n->n; i++) raise_height(n, n->kids[i]);
    if (n->call) {
        for (size_t i = 0; i < n->call->n_args; i++) raise_height(n, n->call->args[i]);
        for (size_t i = 0; i < n->call->n_kw; i++) raise_height(n, n->call->kw_values[i]);
        raise_height(n, n->call->dyn_args);
        raise_height(n, n->call->dyn_kwargs);
    }
    if (n->height <= JINJA_MAX_HEIGHT) return n;
    compile_fail(c, n->line, "expression is nested more than %d deep", JINJA_MAX_HEIGHT);
    return NULL;
}

/* Appends to an arena array of pointers that doubles at powers of two. */
static bool grow_array(struct compiler *c, void **array, size_t n, size_t item_size)
{
    if (n && (n & (n - 1))) return true;
    void *grown = compile_alloc(c, (n ? n * 2 : 1) * item_size);
    if (!grown) return false;
    if (n) memcpy(grown, *array, n * item_size);
    *array = grown;
    return true;
}

bool node_add(struct compiler *c, struct node *n, struct node *kid)
{
    void *kids = n->kids;
    if (!grow_array(c, &kids, n->n, sizeof kid)) return false;
    n->kids = kids;
    n->kids[n->n++] = kid;
    return true;
}

/* The operator in front of the kid that is added next. */
static bool add_op(struct compiler *c, struct node *n, enum op op)
{
    void *ops = n->ops;
    if (!grow_array(c, &ops, n->n - 1, 1)) return false;
    n->ops = ops;
    n->ops[n->n - 1] = (unsigned char)op;
    return true;
}

const struct token *peek(const struct compiler *c)
{
    return &c->tokens[c->pos];
}

const struct token *look(const struct compiler *c)
{
    return &c->tokens[c->pos + (c->pos + 1 < c->n_tokens)];
}

const struct token *next_token(struct compiler *c)
{
    const struct token *t = peek(c);
    if (c->pos + 1 < c->n_tokens) c->pos++;
    return t;
}

static bool is_name(const struct token *t, const char *name)
{
    return t->kind == T_NAME && str_eq(t->text, str_from(name));
}

bool at_name(const struct compiler *c, const char *name)
{
    return is_name(peek(c), name);
}

bool skip_name(struct compiler *c, const char *name)
{
    if (!at_name(c, name)) return false;
    next_token(c);
    return true;
}

bool skip_kind(struct compiler *c, enum token_kind kind)
{
    if (peek(c)->kind != kind) return false;
    next_token(c);
    return true;
}

const char *token_name(const struct token *t, char *tmp, size_t tmp_size)
{
    switch (t->kind) {
    case T_EOF: return "end of template";
    case T_DATA: return "template text";
    case T_VAR_BEGIN: return "begin of print statement";
    case T_VAR_END: return "end of print statement";
    case T_BLOCK_BEGIN: return "begin of statement block";
    case T_BLOCK_END: return "end of statement block";
    case T_STRING: return "string";
    default: snprintf(tmp, tmp_size, "'%.*s'", STR_ARG(str_slice(t->text, 0, 60))); return tmp;
    }
}

const struct token *expect(struct compiler *c, enum token_kind kind)
{
    static const char *const names[] = {"end of template",
                                        "text",
                                        "'{{'",
                                        "'}}' (end of print statement)",
                                        "'{%'",
                                        "'%}' (end of statement block)",
                                        "a name",
                                        "a string",
                                        "an integer",
                                        "a float",
                                        "'+'",
                                        "'-'",
                                        "'/'",
                                        "'//'",
                                        "'*'",
                                        "'%'",
                                        "'**'",
                                        "'~'",
                                        "'['",
                                        "']'",
                                        "'('",
                                        "')'",
                                        "'{'",
                                        "'}'",
                                        "'=='",
                                        "'!='",
                                        "'>'",
                                        "'>='",
                                        "'<'",
                                        "'<='",
                                        "'='",
                                        "'.'",
                                        "':'",
                                        "'|'",
                                        "','",
                                        "';'"};
    char tmp[80];
    if (peek(c)->kind == kind) return next_token(c);
    compile_fail(c, peek(c)->line, "expected %s, got %s", names[kind], token_name(peek(c), tmp, sizeof tmp));
    return NULL;
}

bool nest(struct compiler *c)
{
    if (++c->depth <= JINJA_MAX_NESTING) return true;
    return compile_fail(c, peek(c)->line, "nested more than %d deep", JINJA_MAX_NESTING);
}

void unnest(struct compiler *c)
{
    c->depth--;
}

static struct node *fail_here(struct compiler *c, const char *what)
{
    char tmp[80];
    compile_fail(c, peek(c)->line, "%s, got %s", what, token_name(peek(c), tmp, sizeof tmp));
    return NULL;
}

static struct node *parse_list(struct compiler *c)
{
    struct node *n = node_new(c, N_LIST, next_token(c)->line);
    if (!n) return NULL;
    while (peek(c)->kind != T_RBRACKET) {
        if (n->n && !expect(c, T_COMMA)) return NULL;
        if (peek(c)->kind == T_RBRACKET) break;
        struct node *item = parse_expression(c, true);
        if (!item || !node_add(c, n, item)) return NULL;
    }
    next_token(c);
    return node_done(c, n);
}

static struct node *parse_dict(struct compiler *c)
{
    struct node *n = node_new(c, N_DICT, next_token(c)->line);
    if (!n) return NULL;
    while (peek(c)->kind != T_RBRACE) {
        if (n->n && !expect(c, T_COMMA)) return NULL;
        if (peek(c)->kind == T_RBRACE) break;
        struct node *key = parse_expression(c, true);
        if (!key || !node_add(c, n, key) || !expect(c, T_COLON)) return NULL;
        struct node *value = parse_expression(c, true);
        if (!value || !node_add(c, n, value)) return NULL;
    }
    next_token(c);
    return node_done(c, n);
}

/* Adjacent string literals are one string. */
static struct node *parse_string(struct compiler *c)
{
    const struct token *first = peek(c);
    size_t total = 0, end = c->pos;
    while (c->tokens[end].kind == T_STRING) total += c->tokens[end++].text.len;
    struct node *n = node_new(c, N_CONST, first->line);
    struct vstr *s = compile_alloc(c, sizeof *s);
    if (!n || !s) return NULL;
    char *joined = NULL;
    if (end - c->pos > 1 && !(joined = compile_alloc(c, total))) return NULL;
    s->ptr = joined ? joined : first->text.ptr;
    for (size_t at = 0; c->pos < end; at += next_token(c)->text.len)
        if (joined && peek(c)->text.len) memcpy(joined + at, peek(c)->text.ptr, peek(c)->text.len);
    s->len = total;
    s->n_chars = chars_between(s, 0, total);
    n->value = (struct value){.kind = V_STR, .s = s};
    return n;
}

static struct node *parse_name(struct compiler *c)
{
    const struct token *t = next_token(c);
    if (is_name(t, "true") || is_name(t, "True") || is_name(t, "false") || is_name(t, "False")) {
        struct node *n = node_new(c, N_CONST, t->line);
        if (n) n->value = value_bool(t->text.ptr[0] == 't' || t->text.ptr[0] == 'T');
        return n;
    }
    bool none = is_name(t, "none") || is_name(t, "None");
    struct node *n = node_new(c, none ? N_CONST : N_NAME, t->line);
    if (!n) return NULL;
    n->name = t->text;
    if (none) n->value = VALUE_NONE;
    return n;
}

struct node *parse_primary(struct compiler *c)
{
    const struct token *t = peek(c);
    struct node *n;
    switch (t->kind) {
    case T_NAME: return parse_name(c);
    case T_STRING: return parse_string(c);
    case T_INT:
    case T_FLOAT:
        next_token(c);
        n = node_new(c, N_CONST, t->line);
        if (n) n->value = t->kind == T_INT ? value_int(t->i) : value_float(t->f);
        if (n && t->big) n->value = (struct value){.kind = V_BIG, .big = t->big};
        return n;
    case T_LPAREN:
        next_token(c);
        n = parse_tuple(c, false, true, NULL, true);
        return n && expect(c, T_RPAREN) ? n : NULL;
    case T_LBRACKET: return parse_list(c);
    case T_LBRACE: return parse_dict(c);
    default: return fail_here(c, "expected an expression");
    }
}

static bool tuple_ends(const struct compiler *c, const char *end_name)
{
    enum token_kind k = peek(c)->kind;
    return k == T_VAR_END || k == T_BLOCK_END || k == T_RPAREN || (end_name && at_name(c, end_name));
}

struct node *parse_tuple(struct compiler *c, bool simplified, bool with_cond, const char *end_name, bool parens)
{
    struct node *tuple = node_new(c, N_TUPLE, peek(c)->line);
    bool is_tuple = false;
    if (!tuple || !nest(c)) return NULL;
    for (;;) {
        if (tuple->n && !expect(c, T_COMMA)) return NULL;
        if (tuple_ends(c, end_name)) break;
        struct node *item = simplified ? parse_primary(c) : parse_expression(c, with_cond);
        if (!item || !node_add(c, tuple, item)) return NULL;
        if (peek(c)->kind != T_COMMA) break;
        is_tuple = true;
    }
    unnest(c);
    if (!is_tuple && tuple->n) return tuple->kids[0];
    if (!is_tuple && !parens) return fail_here(c, "expected an expression");
    return node_done(c, tuple);
}

static bool call_keyword(struct compiler *c, struct call_args *call, size_t *n_kw)
{
    struct str name = next_token(c)->text;
    next_token(c);
    struct node *value = parse_expression(c, true);
    void *names = call->kw_names, *values = call->kw_values;
    if (!value || !grow_array(c, &names, *n_kw, sizeof name) || !grow_array(c, &values, *n_kw, sizeof value))
        return false;
    call->kw_names = names;
    call->kw_values = values;
    for (size_t i = 0; i < *n_kw; i++)
        if (str_eq(call->kw_names[i], name))
            return compile_fail(c, value->line, "keyword argument repeated: %.*s", STR_ARG(name));
    call->kw_names[*n_kw] = name;
    call->kw_values[(*n_kw)++] = value;
    return true;
}

static bool call_argument(struct compiler *c, struct call_args *call)
{
    enum token_kind k = peek(c)->kind;
    if (k == T_MUL || k == T_POW) {
        if (call->dyn_kwargs || (k == T_MUL && call->dyn_args)) goto invalid;
        next_token(c);
        struct node *value = parse_expression(c, true);
        *(k == T_MUL ? &call->dyn_args : &call->dyn_kwargs) = value;
        return value != NULL;
    }
    if (k == T_NAME && look(c)->kind == T_ASSIGN) {
        if (call->dyn_kwargs) goto invalid;
        return call_keyword(c, call, &call->n_kw);
    }
    if (call->dyn_args || call->dyn_kwargs || call->n_kw) goto invalid;
    struct node *arg = parse_expression(c, true);
    void *args = call->args;
    if (!arg || !grow_array(c, &args, call->n_args, sizeof arg)) return false;
    call->args = args;
    call->args[call->n_args++] = arg;
    return true;
invalid:
    return compile_fail(c, peek(c)->line, "invalid order of arguments in a call");
}

static struct call_args *parse_call_args(struct compiler *c)
{
    struct call_args *call = compile_alloc(c, sizeof *call);
    if (!call || !expect(c, T_LPAREN)) return NULL;
    for (bool first = true; peek(c)->kind != T_RPAREN; first = false) {
        if (!first && !expect(c, T_COMMA)) return NULL;
        if (!first && peek(c)->kind == T_RPAREN) break;
        if (!call_argument(c, call)) return NULL;
    }
    next_token(c);
    return call;
}

static struct node *parse_call(struct compiler *c, struct node *callee)
{
    struct node *n = node_new(c, N_CALL, peek(c)->line);
    if (!n) return NULL;
    n->a = callee;
    n->call = parse_call_args(c);
    return n->call ? node_done(c, n) : NULL;
}

/* One index: an expression or start:stop:step. */
static struct node *parse_subscribed(struct compiler *c)
{
    struct node *part[3] = {NULL, NULL, NULL};
    uint32_t line = peek(c)->line;
    if (peek(c)->kind != T_COLON) {
        part[0] = parse_expression(c, true);
        if (!part[0] || peek(c)->kind != T_COLON) return part[0];
    }
    next_token(c);
    for (size_t i = 1; i < 3; i++) {
        enum token_kind k = peek(c)->kind;
        if (i == 2) {
            if (k != T_COLON) break;
            next_token(c);
            k = peek(c)->kind;
        }
        if (k == T_COLON || k == T_RBRACKET || k == T_COMMA) continue;
        if (!(part[i] = parse_expression(c, true))) return NULL;
    }
    struct node *n = node_new(c, N_SLICE, line);
    if (!n) return NULL;
    for (size_t i = 0; i < 3; i++)
        if (!node_add(c, n, part[i])) return NULL;
    return node_done(c, n);
}

static struct node *parse_subscript(struct compiler *c, struct node *object)
{
    const struct token *t = next_token(c);
    if (t->kind == T_DOT) {
        const struct token *attr = next_token(c);
        if (attr->kind != T_NAME && attr->kind != T_INT) {
            c->pos -= attr->kind != T_EOF;
            return fail_here(c, "expected a name or number after '.'");
        }
        struct node *n = node_new(c, attr->kind == T_NAME ? N_GETATTR : N_GETITEM, t->line);
        if (!n) return NULL;
        n->a = object;
        n->name = attr->text;
        if (attr->kind == T_INT) {
            if (!(n->b = node_new(c, N_CONST, t->line))) return NULL;
            n->b->value = value_int(attr->i);
        }
        return node_done(c, n);
    }
    struct node *n = node_new(c, N_GETITEM, t->line), *tuple = node_new(c, N_TUPLE, t->line);
    if (!n || !tuple) return NULL;
    while (peek(c)->kind != T_RBRACKET) {
        if (tuple->n && !expect(c, T_COMMA)) return NULL;
        struct node *index = parse_subscribed(c);
        if (!index || !node_add(c, tuple, index)) return NULL;
    }
    next_token(c);
    n->a = object;
    n->b = tuple->n == 1 ? tuple->kids[0] : node_done(c, tuple);
    return n->b ? node_done(c, n) : NULL;
}

static struct node *parse_postfix(struct compiler *c, struct node *n)
{
    for (; n; n = peek(c)->kind == T_LPAREN ? parse_call(c, n) : parse_subscript(c, n)) {
        enum token_kind k = peek(c)->kind;
        if (k != T_DOT && k != T_LBRACKET && k != T_LPAREN) break;
    }
    return n;
}

/* A dotted name; only single names exist, but the grammar allows dots. */
static bool dotted_name(struct compiler *c, struct str *name)
{
    const struct token *t = expect(c, T_NAME);
    if (!t) return false;
    *name = t->text;
    while (skip_kind(c, T_DOT)) {
        t = expect(c, T_NAME);
        if (!t) return false;
        name->len = (size_t)(t->text.ptr + t->text.len - name->ptr);
    }
    return true;
}

struct node *parse_filter_chain(struct compiler *c, struct node *value, bool inline_start)
{
    struct node *n = value;
    while (peek(c)->kind == T_PIPE || inline_start) {
        if (!inline_start) next_token(c);
        inline_start = false;
        struct node *f = node_new(c, N_FILTER, peek(c)->line);
        if (!f || !dotted_name(c, &f->name)) return NULL;
        f->a = n;
        f->fn = filter_find(f->name);
        f->flag = !f->fn;
        if (peek(c)->kind == T_LPAREN && !(f->call = parse_call_args(c))) return NULL;
        if (!(n = node_done(c, f))) return NULL;
    }
    return n;
}

static struct node *parse_test(struct compiler *c, struct node *value)
{
    next_token(c);
    bool negated = skip_name(c, "not");
    struct node *n = node_new(c, N_TEST, peek(c)->line);
    if (!n || !dotted_name(c, &n->name)) return NULL;
    n->a = value;
    n->fn = test_find(n->name);
    n->flag = !n->fn;
    enum token_kind k = peek(c)->kind;
    if (k == T_LPAREN) {
        if (!(n->call = parse_call_args(c))) return NULL;
    } else if ((k == T_NAME && !at_name(c, "else") && !at_name(c, "or") && !at_name(c, "and")) || k == T_STRING ||
               k == T_INT || k == T_FLOAT || k == T_LBRACKET || k == T_LBRACE) {
        if (at_name(c, "is")) return fail_here(c, "tests cannot be chained with 'is'");
        struct node *arg = parse_primary(c);
        arg = arg ? parse_postfix(c, arg) : NULL;
        n->call = arg ? compile_alloc(c, sizeof *n->call) : NULL;
        if (!n->call || !(n->call->args = compile_alloc(c, sizeof arg))) return NULL;
        n->call->args[n->call->n_args++] = arg;
    }
    if (!node_done(c, n) || !negated) return c->failed ? NULL : n;
    struct node *not = node_new(c, N_NOT, n->line);
    if (!not ) return NULL;
    not ->a = n;
    return node_done(c, not );
}

static struct node *parse_filter_expr(struct compiler *c, struct node *n)
{
    while (n) {
        if (peek(c)->kind == T_PIPE) n = parse_filter_chain(c, n, false);
        else if (at_name(c, "is")) n = parse_test(c, n);
        else if (peek(c)->kind == T_LPAREN) n = parse_call(c, n);
        else break;
    }
    return n;
}

static struct node *parse_unary(struct compiler *c, bool with_filter)
{
    const struct token *t = peek(c);
    struct node *n;
    if (t->kind == T_SUB || t->kind == T_ADD) {
        if (!nest(c)) return NULL;
        next_token(c);
        n = node_new(c, t->kind == T_SUB ? N_NEG : N_POS, t->line);
        if (!n || !(n->a = parse_unary(c, false)) || !node_done(c, n)) return NULL;
        unnest(c);
    } else n = parse_primary(c);
    if (n) n = parse_postfix(c, n);
    return n && with_filter ? parse_filter_expr(c, n) : n;
}

/* The levels of binary operators, from tightest: ** | * / // % | ~ | + - */
enum level { LEVEL_POW, LEVEL_MUL, LEVEL_CONCAT, LEVEL_ADD };

static bool level_op(enum level level, enum token_kind k, enum op *op)
{
    static const struct {
        enum token_kind token;
        enum level level;
        enum op op;
    } table[] = {{T_POW, LEVEL_POW, OP_POW},           {T_MUL, LEVEL_MUL, OP_MUL}, {T_DIV, LEVEL_MUL, OP_DIV},
                 {T_FLOORDIV, LEVEL_MUL, OP_FLOORDIV}, {T_MOD, LEVEL_MUL, OP_MOD}, {T_TILDE, LEVEL_CONCAT, OP_ADD},
                 {T_ADD, LEVEL_ADD, OP_ADD},           {T_SUB, LEVEL_ADD, OP_SUB}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (table[i].token != k || table[i].level != level) continue;
        *op = table[i].op;
        return true;
    }
    return false;
}

static struct node *parse_level(struct compiler *c, enum level level)
{
    uint32_t line = peek(c)->line;
    struct node *first = level == LEVEL_POW ? parse_unary(c, true) : parse_level(c, level - 1), *chain = NULL;
    enum op op;
    while (first && level_op(level, peek(c)->kind, &op)) {
        next_token(c);
        if (!chain) {
            chain = node_new(c, level == LEVEL_CONCAT ? N_CONCAT : N_CHAIN, line);
            if (!chain || !node_add(c, chain, first)) return NULL;
        }
        struct node *kid = level == LEVEL_POW ? parse_unary(c, true) : parse_level(c, level - 1);
        if (!kid || !add_op(c, chain, op) || !node_add(c, chain, kid)) return NULL;
    }
    return chain ? node_done(c, chain) : first;
}

static bool compare_op(struct compiler *c, enum op *op)
{
    static const struct {
        enum token_kind token;
        enum op op;
    } table[] = {{T_EQ, OP_EQ}, {T_NE, OP_NE}, {T_LT, OP_LT}, {T_LE, OP_LE}, {T_GT, OP_GT}, {T_GE, OP_GE}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].token == peek(c)->kind) return *op = table[i].op, next_token(c), true;
    if (skip_name(c, "in")) return *op = OP_IN, true;
    if (!at_name(c, "not") || !is_name(look(c), "in")) return false;
    next_token(c), next_token(c);
    *op = OP_NOT_IN;
    return true;
}

static struct node *parse_compare(struct compiler *c)
{
    uint32_t line = peek(c)->line;
    struct node *first = parse_level(c, LEVEL_ADD), *n = NULL;
    enum op op;
    while (first && compare_op(c, &op)) {
        if (!n) {
            n = node_new(c, N_COMPARE, line);
            if (!n || !node_add(c, n, first)) return NULL;
        }
        struct node *kid = parse_level(c, LEVEL_ADD);
        if (!kid || !add_op(c, n, op) || !node_add(c, n, kid)) return NULL;
    }
    return n ? node_done(c, n) : first;
}

static struct node *parse_not(struct compiler *c)
{
    const struct token *t = peek(c);
    if (!at_name(c, "not")) return parse_compare(c);
    if (!nest(c)) return NULL;
    next_token(c);
    struct node *n = node_new(c, N_NOT, t->line);
    if (!n || !(n->a = parse_not(c))) return NULL;
    unnest(c);
    return node_done(c, n);
}

static struct node *parse_logic(struct compiler *c, bool is_or)
{
    uint32_t line = peek(c)->line;
    struct node *first = is_or ? parse_logic(c, false) : parse_not(c), *n = NULL;
    while (first && skip_name(c, is_or ? "or" : "and")) {
        if (!n) {
            n = node_new(c, is_or ? N_OR : N_AND, line);
            if (!n || !node_add(c, n, first)) return NULL;
        }
        struct node *kid = is_or ? parse_logic(c, false) : parse_not(c);
        if (!kid || !node_add(c, n, kid)) return NULL;
    }
    return n ? node_done(c, n) : first;
}

struct node *parse_expression(struct compiler *c, bool with_cond)
{
    if (!nest(c)) return NULL;
    uint32_t line = peek(c)->line;
    struct node *n = parse_logic(c, true);
    while (n && with_cond && skip_name(c, "if")) {
        struct node *cond = node_new(c, N_COND, line);
        if (!cond) return NULL;
        cond->a = n;
        if (!(cond->b = parse_logic(c, true))) return NULL;
        if (skip_name(c, "else") && !(cond->c = parse_expression(c, true))) return NULL;
        n = node_done(c, cond);
    }
    unnest(c);
    return n;
}
