/* parser: statements. Tokens -> one N_BODY tree. Errors carry the line and name the block that is still open. */
#include <stdio.h>
#include <string.h>

#include "jinja/jinja_internal.h"

struct tag {
    const char *name;
    struct node *(*parse)(struct compiler *c);
};

static struct node *parse_body(struct compiler *c, const char *const *ends);

/* "%}" and the statements up to one of `ends` (a NULL-terminated list); the end's name token is current then. */
static struct node *parse_block(struct compiler *c, const char *const *ends, uint32_t line)
{
    skip_kind(c, T_COLON);
    if (!expect(c, T_BLOCK_END)) return NULL;
    struct node *body = parse_body(c, ends);
    if (!body || peek(c)->kind != T_EOF) return body;
    compile_fail(c, line, "unexpected end of template: this block needs {%% %s %%}", ends[0]);
    return NULL;
}

static struct node *parse_block_to(struct compiler *c, const char *end, uint32_t line)
{
    const char *const ends[] = {end, NULL};
    struct node *body = parse_block(c, ends, line);
    if (body) next_token(c);
    return body;
}

static bool can_assign(struct compiler *c, struct node *target)
{
    if (target->kind == N_NAME) {
        target->flag = true;
        return true;
    }
    if (target->kind != N_TUPLE) return compile_fail(c, target->line, "cannot assign to this expression");
    for (size_t i = 0; i < target->n; i++)
        if (!can_assign(c, target->kids[i])) return false; /* depth is bounded by the parser's nesting */
    return true;
}

static struct node *parse_target(struct compiler *c, const char *end_name)
{
    struct node *target = parse_tuple(c, true, true, end_name, false);
    return target && can_assign(c, target) ? target : NULL;
}

static struct node *parse_set(struct compiler *c)
{
    uint32_t line = next_token(c)->line;
    struct node *target;
    if (look(c)->kind == T_DOT) {
        const struct token *name = expect(c, T_NAME);
        if (!name) return NULL;
        next_token(c);
        const struct token *attr = expect(c, T_NAME);
        struct node *object = attr ? node_new(c, N_NAME, name->line) : NULL;
        if (!object || !(target = node_new(c, N_NSREF, name->line))) return NULL;
        object->name = name->text;
        target->a = object;
        target->name = attr->text;
    } else if (!(target = parse_target(c, NULL))) return NULL;
    bool block = !skip_kind(c, T_ASSIGN);
    struct node *n = node_new(c, block ? N_SET_BLOCK : N_SET, line);
    if (!n) return NULL;
    n->a = target;
    if (!block) return (n->b = parse_tuple(c, false, true, NULL, false)) ? n : NULL;
    n->b = parse_filter_chain(c, NULL, false);
    if (c->failed) return NULL;
    return (n->c = parse_block_to(c, "endset", line)) ? n : NULL;
}

static struct node *parse_for(struct compiler *c)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    uint32_t line = next_token(c)->line;
    struct node *n = node_new(c, N_FOR, line);
    if (!n || !(n->a = parse_target(c, "in"))) return NULL;
    if (!skip_name(c, "in")) {
        char tmp[80];
        compile_fail(c, peek(c)->line, "expected 'in', got %s", token_name(peek(c), tmp, sizeof tmp));
        return NULL;
    }
    if (!(n->b = parse_tuple(c, false, false, "recursive", false))) return NULL;
    if (skip_name(c, "if") && !(n->c = parse_expression(c, true))) return NULL;
    n->flag = skip_name(c, "recursive");
    c->loops++;
    struct node *body = parse_block(c, ends, line);
    c->loops--;
    if (!body || !node_add(c, n, body)) return NULL;
    bool has_else = str_eq(next_token(c)->text, STR("else"));
    struct node *other = has_else ? parse_block_to(c, "endfor", line) : NULL;
    if (has_else && !other) return NULL;
    return node_add(c, n, other) ? n : NULL;
}

static struct node *parse_if(struct compiler *c)
{
    static const char *const ends[] = {"endif", "elif", "else", NULL};
    uint32_t line = peek(c)->line;
    struct node *n = node_new(c, N_IF, line);
    if (!n) return NULL;
    for (;;) {
        next_token(c);
        struct node *test = parse_tuple(c, false, false, NULL, false);
        struct node *body = test ? parse_block(c, ends, line) : NULL;
        if (!body || !node_add(c, n, test) || !node_add(c, n, body)) return NULL;
        if (at_name(c, "elif")) continue;
        if (str_eq(next_token(c)->text, STR("else")) && !(n->c = parse_block_to(c, "endif", line))) return NULL;
        return n;
    }
}

static struct node *parse_with(struct compiler *c)
{
    struct node *n = node_new(c, N_WITH, next_token(c)->line);
    if (!n) return NULL;
    while (peek(c)->kind != T_BLOCK_END) {
        if (n->n && !expect(c, T_COMMA)) return NULL;
        struct node *target = parse_primary(c);
        if (!target || !can_assign(c, target) || !expect(c, T_ASSIGN)) return NULL;
        struct node *value = parse_expression(c, true);
        if (!value || !node_add(c, n, target) || !node_add(c, n, value)) return NULL;
    }
    return (n->c = parse_block_to(c, "endwith", n->line)) ? n : NULL;
}

static bool parse_signature(struct compiler *c, struct macro_def *m)
{
    struct node *params = node_new(c, N_BODY, 0), *defaults = node_new(c, N_BODY, 0);
    if (!params || !defaults || !expect(c, T_LPAREN)) return false;
    for (bool any_default = false; peek(c)->kind != T_RPAREN;) {
        if (params->n && !expect(c, T_COMMA)) return false;
        const struct token *t = expect(c, T_NAME);
        struct node *name = t ? node_new(c, N_NAME, t->line) : NULL, *value = NULL;
        if (!name) return false;
        name->name = t->text;
        name->flag = true;
        for (size_t i = 0; i < params->n; i++)
            if (str_eq(params->kids[i]->name, t->text))
                return compile_fail(c, t->line, "duplicate argument '%.*s'", STR_ARG(t->text));
        if (skip_kind(c, T_ASSIGN)) {
            any_default = true;
            if (!(value = parse_expression(c, true))) return false;
        } else if (any_default)
            return compile_fail(c, t->line, "argument without a default follows one with a default");
        if (!node_add(c, params, name) || !node_add(c, defaults, value)) return false;
    }
    next_token(c);
    m->params = params->kids;
    m->defaults = defaults->kids;
    m->n_params = params->n;
    return true;
}

static struct node *parse_function_body(struct compiler *c, struct node *n, const char *end)
{
    unsigned loops = c->loops;
    c->loops = 0;
    n->macro->body = parse_block_to(c, end, n->line);
    c->loops = loops;
    return n->macro->body ? n : NULL;
}

static struct node *parse_macro(struct compiler *c)
{
    struct node *n = node_new(c, N_MACRO, next_token(c)->line);
    const struct token *name = n ? expect(c, T_NAME) : NULL;
    if (!name || !(n->macro = compile_alloc(c, sizeof *n->macro))) return NULL;
    n->name = n->macro->name = name->text;
    if (!parse_signature(c, n->macro)) return NULL;
    return parse_function_body(c, n, "endmacro");
}

static struct node *parse_call_block(struct compiler *c)
{
    struct node *n = node_new(c, N_CALL_BLOCK, next_token(c)->line);
    if (!n || !(n->macro = compile_alloc(c, sizeof *n->macro))) return NULL;
    if (peek(c)->kind == T_LPAREN && !parse_signature(c, n->macro)) return NULL;
    if (!(n->a = parse_expression(c, true))) return NULL;
    if (n->a->kind != N_CALL) {
        compile_fail(c, n->line, "a call block needs a call: {%% call name(...) %%}");
        return NULL;
    }
    return parse_function_body(c, n, "endcall");
}

static struct node *parse_filter_block(struct compiler *c)
{
    struct node *n = node_new(c, N_FILTER_BLOCK, next_token(c)->line);
    if (!n || !(n->b = parse_filter_chain(c, NULL, true))) return NULL;
    return (n->c = parse_block_to(c, "endfilter", n->line)) ? n : NULL;
}

static struct node *parse_generation(struct compiler *c)
{
    uint32_t line = next_token(c)->line;
    return parse_block_to(c, "endgeneration", line);
}

static struct node *parse_named_block(struct compiler *c)
{
    struct node *n = node_new(c, N_SCOPE, next_token(c)->line);
    const struct token *name = n ? expect(c, T_NAME) : NULL;
    if (!name) return NULL;
    skip_name(c, "scoped");
    skip_name(c, "required");
    if (!(n->c = parse_block_to(c, "endblock", n->line))) return NULL;
    if (peek(c)->kind == T_NAME && str_eq(peek(c)->text, name->text)) next_token(c);
    return n;
}

static struct node *parse_autoescape(struct compiler *c)
{
    struct node *n = node_new(c, N_AUTOESCAPE, next_token(c)->line);
    if (!n || !(n->a = parse_expression(c, true))) return NULL;
    return (n->c = parse_block_to(c, "endautoescape", n->line)) ? n : NULL;
}

static struct node *parse_print(struct compiler *c)
{
    struct node *body = node_new(c, N_BODY, next_token(c)->line);
    while (body && peek(c)->kind != T_BLOCK_END) {
        if (body->n && !expect(c, T_COMMA)) return NULL;
        struct node *print = node_new(c, N_PRINT, peek(c)->line);
        if (!print || !(print->a = parse_expression(c, true)) || !node_add(c, body, print)) return NULL;
    }
    return body;
}

static struct node *parse_jump(struct compiler *c)
{
    const struct token *t = next_token(c);
    if (!c->loops) {
        compile_fail(c, t->line, "'%.*s' outside of a loop", STR_ARG(t->text));
        return NULL;
    }
    return node_new(c, str_eq(t->text, STR("break")) ? N_BREAK : N_CONTINUE, t->line);
}

/* include, import, from, extends: there is no loader; it is an error when it is reached. */
static struct node *parse_no_loader(struct compiler *c)
{
    const struct token *t = next_token(c);
    struct node *n = node_new(c, N_NO_LOADER, t->line);
    if (!n || !parse_expression(c, true)) return NULL;
    n->name = t->text;
    while (peek(c)->kind == T_NAME || peek(c)->kind == T_COMMA) next_token(c);
    return n;
}

static struct node *parse_statement(struct compiler *c)
{
    static const struct tag tags[] = {
        {"for", parse_for},           {"if", parse_if},
        {"set", parse_set},           {"macro", parse_macro},
        {"call", parse_call_block},   {"filter", parse_filter_block},
        {"with", parse_with},         {"generation", parse_generation},
        {"break", parse_jump},        {"continue", parse_jump},
        {"block", parse_named_block}, {"autoescape", parse_autoescape},
        {"print", parse_print},       {"include", parse_no_loader},
        {"import", parse_no_loader},  {"from", parse_no_loader},
        {"extends", parse_no_loader},
    };
    char tmp[80];
    if (peek(c)->kind != T_NAME) {
        compile_fail(c, peek(c)->line, "tag name expected, got %s", token_name(peek(c), tmp, sizeof tmp));
        return NULL;
    }
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        if (!at_name(c, tags[i].name)) continue;
        struct node *n = nest(c) ? tags[i].parse(c) : NULL;
        unnest(c);
        return n;
    }
    compile_fail(c, peek(c)->line, "unknown or misplaced tag %s", token_name(peek(c), tmp, sizeof tmp));
    return NULL;
}

static bool at_end(const struct compiler *c, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (at_name(c, *ends)) return true;
    return false;
}

static struct node *parse_text(struct compiler *c)
{
    const struct token *t = next_token(c);
    struct node *n = node_new(c, t->kind == T_DATA ? N_DATA : N_PRINT, t->line);
    if (!n) return NULL;
    if (t->kind == T_DATA) {
        n->name = t->text;
        return n;
    }
    n->a = parse_tuple(c, false, true, NULL, false);
    return n->a && expect(c, T_VAR_END) ? n : NULL;
}

static struct node *parse_body(struct compiler *c, const char *const *ends)
{
    struct node *body = node_new(c, N_BODY, peek(c)->line);
    while (body && peek(c)->kind != T_EOF) {
        struct node *n;
        if (peek(c)->kind == T_BLOCK_BEGIN) {
            next_token(c);
            if (at_end(c, ends)) return body;
            n = parse_statement(c);
            if (n && !expect(c, T_BLOCK_END)) return NULL;
        } else n = parse_text(c);
        if (!n || !node_add(c, body, n)) return NULL;
    }
    return body;
}

bool parser_run(struct compiler *c)
{
    return (c->j->body = parse_body(c, NULL)) != NULL;
}
