/* Private parts of the template language, shared by the files of this folder and its unit tests.
 * Flow: lexer (tokens) -> parser (nodes) -> scope (variables become slots) -> eval and exec over one `struct run`.
 * All memory of a compiled template lies in its arena, all memory of a rendering in the run's arena; values are plain
 * 16-byte structs that point there and are never freed singly. Every function that can fail returns false with the
 * run's error set; one thread per run, any number of runs per compiled template. */
#ifndef JINJA_JINJA_INTERNAL_H
#define JINJA_JINJA_INTERNAL_H

#include "base/arena.h"
#include "jinja/jinja.h"

#define JINJA_MAX_NESTING 200 /* blocks and brackets in the source */
#define JINJA_MAX_HEIGHT 500  /* of one expression tree */
#define JINJA_MAX_DEPTH 2000  /* of evaluation, macros included */
#define JINJA_MAX_STACK ((size_t)2 << 20)
#define JINJA_MAX_RANGE 100000 /* as in Jinja's sandbox */

/* ---- values ---- */

enum kind {
    V_MISSING, /* a slot that was never set, an argument that was not given */
    V_UNDEFINED,
    V_NONE,
    V_BOOL,
    V_INT,
    V_BIG, /* an integer outside 64 bits */
    V_FLOAT,
    V_STR,
    V_LIST,
    V_TUPLE,
    V_DICT,
    V_RANGE,
    V_VIEW, /* keys(), values(), items() of a dict */
    V_ITER, /* a generator: can be walked once */
    V_NAMESPACE,
    V_FUNC, /* a builtin function or bound method */
    V_MACRO,
    V_LOOP,
    V_CYCLER,
    V_JOINER,
    V_N_KINDS
};

enum taint { TAINT_NONE, TAINT_ALL, TAINT_SOME };

struct vstr {
    const char *ptr;
    size_t len;
    size_t n_chars;                 /* code points; SIZE_MAX = not counted yet */
    const struct jinja_span *spans; /* TAINT_SOME: sorted, disjoint */
    size_t n_spans;
    enum taint taint;
    bool markup; /* made by `safe` or `escape` */
};

struct value {
    enum kind kind;
    union {
        bool b;
        int64_t i;
        double f;
        struct vbig *big;
        struct vstr *s;
        struct vlist *l; /* list and tuple */
        struct vdict *d; /* dict and namespace */
        struct vrange *range;
        struct vview *view;
        struct viter *iter;
        struct vundef *undef;
        struct vfunc *func;
        struct vmacro *macro;
        struct vloop *loop;
        struct vcycler *cycler;
        struct vjoiner *joiner;
    };
};

struct vbig {
    bool negative;
    size_t n;
    uint32_t limb[]; /* [n] of nine decimal digits, least significant first */
};

struct vlist {
    struct value *items;
    size_t n, cap;
    json_t *lazy; /* not expanded yet: the items come from here */
    bool from_context, visiting, group;
};

struct ventry {
    struct value key, value; /* a removed entry has key V_MISSING */
    uint64_t hash;
};
struct vdict {
    struct ventry *entries; /* in order of insertion */
    size_t n, n_live, cap;
    uint32_t *index; /* [n_index] entry number + 1; NULL while the dict is small */
    size_t n_index;
    json_t *lazy;
    bool from_context, visiting;
};

struct vrange {
    int64_t start, stop, step;
    size_t n;
};
enum view_kind { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS };
struct vview {
    struct vdict *d;
    enum view_kind kind;
};
struct vundef {
    struct str hint;     /* the whole message when not empty */
    struct str obj_type; /* empty: a variable */
    struct value name;
};
struct vcycler {
    struct value *items;
    size_t n, pos;
};
struct vjoiner {
    struct value sep;
    bool used;
};

struct run;
struct keyword {
    struct str name;
    struct value value;
};
struct args {
    struct value *v;
    size_t n;
    struct keyword *kw;
    size_t n_kw;
};

/* A filter, test, method or global. Arguments are bound by position or name to a[0 .. max); V_MISSING where not given.
 * max = RAW_ARGS: nothing is bound, only `raw` is set. For methods and filters `self` is the object. */
#define RAW_ARGS 255
#define MAX_PARAMS 5
typedef bool builtin_fn(struct run *r, struct value *out, struct value self, const struct value *a,
                        const struct args *raw);
struct builtin {
    const char *name;
    builtin_fn *fn;
    unsigned char min, max;
    const char *params[MAX_PARAMS];
};

struct vfunc {
    const struct builtin *fn;
    struct value self;
    const char *type_name; /* for messages and printing */
};

/* ---- the tree ---- */

enum node_kind {
    /* expressions */
    N_CONST,
    N_NAME,
    N_TUPLE,
    N_LIST,
    N_DICT, /* kids: key, value, key, value ... */
    N_GETATTR,
    N_GETITEM,
    N_SLICE, /* kids: start, stop, step, each may be NULL */
    N_CALL,
    N_FILTER, /* a = NULL: the body of a block */
    N_TEST,
    N_NOT,
    N_NEG,
    N_POS,
    N_AND,     /* kids */
    N_OR,      /* kids */
    N_CHAIN,   /* kids with ops[i] between kid i and i + 1: + - * / // % ** */
    N_CONCAT,  /* kids */
    N_COMPARE, /* kids with ops */
    N_COND,    /* a if b else c */
    N_NSREF,
    /* statements */
    N_DATA,
    N_PRINT,
    N_IF,  /* kids: test, body, test, body ...; c = else */
    N_FOR, /* a target, b iterable, c test; kids[0] body, kids[1] else */
    N_SET,
    N_SET_BLOCK, /* a target, b filter chain or NULL, c body */
    N_MACRO,
    N_CALL_BLOCK, /* a the call, c body */
    N_FILTER_BLOCK,
    N_WITH, /* kids: target, value ...; c body */
    N_SCOPE,
    N_BODY, /* kids in order */
    N_BREAK,
    N_CONTINUE,
    N_NO_LOADER, /* include, import, extends */
    N_AUTOESCAPE
};

enum op {
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOORDIV,
    OP_MOD,
    OP_POW,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN
};

struct slot_ref {
    uint16_t hops; /* function frames to go up */
    uint16_t slot;
};

enum load_kind { LOAD_PARAM, LOAD_RESOLVE, LOAD_ALIAS, LOAD_UNDEFINED };
struct load {
    enum load_kind kind;
    uint16_t slot;
    uint32_t name_id;       /* LOAD_RESOLVE: index into jinja.names */
    struct slot_ref source; /* LOAD_ALIAS */
};
/* What entering a scope does with the slots that belong to it. */
struct scope {
    struct load *loads;
    size_t n_loads;
};

struct call_args {
    struct node **args;
    size_t n_args;
    struct str *kw_names;
    struct node **kw_values;
    size_t n_kw;
    struct node *dyn_args, *dyn_kwargs;
};

struct node {
    enum node_kind kind;
    uint32_t line;
    uint16_t height;
    bool flag;  /* N_FOR: recursive; N_NAME: assigned; N_FILTER and N_TEST: name not known */
    bool flag2; /* N_FOR: body uses `loop` */
    struct node *a, *b, *c;
    struct node **kids;
    unsigned char *ops;
    size_t n;
    struct str name; /* N_NAME, N_GETATTR, N_FILTER ...; N_DATA: the text */
    struct value value;
    struct call_args *call;
    const struct builtin *fn;
    struct slot_ref ref, ref2;
    struct scope scope, scope2, scope3; /* body, else, test of N_FOR; body of the others */
    struct macro_def *macro;
};

struct macro_def {
    struct str name; /* ptr NULL: the body of a call block */
    struct node **params;
    struct node **defaults; /* [n_params], NULL where there is none */
    size_t n_params;
    bool uses_caller, uses_varargs, uses_kwargs, explicit_caller;
    struct slot_ref caller, varargs, kwargs;
    size_t n_slots;
    struct node *body;
    struct scope scope;
};

struct jinja {
    struct arena arena;
    struct str source; /* newlines normalised */
    struct jinja_options options;
    struct node *body;
    struct scope scope;
    size_t n_slots;
    struct str *names; /* what is looked up in the context */
    size_t n_names;
    struct str *mentions;
    size_t n_mentions, cap_mentions;
};

/* ---- lexer ---- */

enum token_kind {
    T_EOF,
    T_DATA,
    T_VAR_BEGIN,
    T_VAR_END,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_NAME,
    T_STRING,
    T_INT,
    T_FLOAT,
    T_ADD,
    T_SUB,
    T_DIV,
    T_FLOORDIV,
    T_MUL,
    T_MOD,
    T_POW,
    T_TILDE,
    T_LBRACKET,
    T_RBRACKET,
    T_LPAREN,
    T_RPAREN,
    T_LBRACE,
    T_RBRACE,
    T_EQ,
    T_NE,
    T_GT,
    T_GE,
    T_LT,
    T_LE,
    T_ASSIGN,
    T_DOT,
    T_COLON,
    T_PIPE,
    T_COMMA,
    T_SEMICOLON
};
struct token {
    enum token_kind kind;
    uint32_t line;
    struct str text; /* strings: unescaped */
    int64_t i;
    double f;
    struct vbig *big; /* T_INT outside 64 bits, else NULL */
};
struct compiler {
    struct jinja *j;
    struct token *tokens;
    size_t n_tokens, cap_tokens, pos;
    unsigned depth;
    unsigned loops; /* open `for` bodies of this function: where break is allowed */
    struct err *e;
    bool failed;
};

bool lexer_run(struct compiler *c);
bool compile_fail(struct compiler *c, uint32_t line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void *compile_alloc(struct compiler *c, size_t size); /* zeroed; NULL with the error set */
const char *token_name(const struct token *t, char *tmp, size_t tmp_size);
bool parser_run(struct compiler *c);

/* parse_expr.c, used by parser.c */
struct node *node_new(struct compiler *c, enum node_kind kind, uint32_t line);
struct node *node_done(struct compiler *c, struct node *n);          /* sets the height; NULL when too high */
bool node_add(struct compiler *c, struct node *n, struct node *kid); /* kid may be NULL */
const struct token *peek(const struct compiler *c);
const struct token *look(const struct compiler *c); /* the one after */
const struct token *next_token(struct compiler *c);
bool at_name(const struct compiler *c, const char *name);
bool skip_name(struct compiler *c, const char *name);
bool skip_kind(struct compiler *c, enum token_kind kind);
const struct token *expect(struct compiler *c, enum token_kind kind); /* NULL with the error set */
bool nest(struct compiler *c);
void unnest(struct compiler *c);
struct node *parse_expression(struct compiler *c, bool with_cond);
/* end_name: a name that ends the tuple, or NULL */
struct node *parse_tuple(struct compiler *c, bool simplified, bool with_cond, const char *end_name, bool parens);
struct node *parse_primary(struct compiler *c);
/* `name(args) | name ...` without the leading bar when `inline_start` */
struct node *parse_filter_chain(struct compiler *c, struct node *value, bool inline_start);

bool scope_run(struct compiler *c);

/* ---- a rendering ---- */

struct sb { /* a string being built, with its taint */
    struct run *r;
    char *ptr;
    size_t len, cap, max_bytes;
    struct jinja_span *spans;
    size_t n_spans, cap_spans;
    bool failed;
};

struct frame {
    struct value *slots;
    struct frame *parent;
};

enum flow { FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };

struct run {
    const struct jinja *j;
    struct arena arena;
    uint64_t steps_left;
    uint64_t max_steps;
    size_t max_output_bytes;
    unsigned depth;
    const char *stack_base;
    uint32_t line;
    bool failed, raised;
    enum flow flow;
    struct err *e;
    json_t *context;
    struct value *resolved; /* [j->n_names]; V_MISSING = not looked up yet */
    bool *is_resolved;
    const struct jinja_now *now;
    json_t **parsed; /* by from_json; released at the end */
    size_t n_parsed, cap_parsed;
    struct vstr *chars[128]; /* one-character strings, made when first needed */
};

struct vmacro {
    const struct macro_def *def;
    struct frame *frame; /* where it was defined */
};

void run_error(struct run *r, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* the first one stays */
#define run_fail(...) (run_error(__VA_ARGS__), false) /* the compiler sees that it is false */
bool enter(struct run *r);                            /* one level deeper: false when too deep or out of steps */
void leave(struct run *r);
bool charge(struct run *r, size_t bytes); /* for work that is linear in bytes */
void *run_alloc(struct run *r, size_t size);
void *run_zalloc(struct run *r, size_t size);

/* ---- strings (strings.c) ---- */

struct vstr *vstr_new(struct run *r, const char *ptr, size_t len, enum taint taint);     /* borrows ptr */
bool str_value(struct run *r, struct value *out, struct str s);                          /* borrows, not tainted */
bool cstr_value(struct run *r, struct value *out, const char *s);                        /* borrows, not tainted */
bool vstr_sub(struct run *r, struct value *out, struct vstr *s, size_t from, size_t to); /* bytes */
size_t vstr_chars(struct vstr *s);
bool vstr_ascii(struct vstr *s);
size_t vstr_byte_at(struct vstr *s, size_t char_index); /* byte offset of a character; len when past the end */
size_t chars_between(const struct vstr *s, size_t from, size_t to);
bool vstr_tainted(const struct vstr *s, size_t from, size_t to); /* any byte of the range */
struct str vstr_str(const struct vstr *s);
ptrdiff_t bytes_find(struct run *r, struct str hay, struct str needle, size_t from); /* -1 none, -2 failed */
ptrdiff_t bytes_rfind(struct run *r, struct str hay, struct str needle);
bool char_value(struct run *r, struct value *out, struct vstr *s, size_t at, size_t *size);

void sb_init(struct sb *b, struct run *r);
bool sb_put(struct sb *b, const char *ptr, size_t len, bool tainted);
bool sb_text(struct sb *b, const char *text);
bool sb_char(struct sb *b, char c, bool tainted);
bool sb_utf8(struct sb *b, uint32_t c, bool tainted);
bool sb_taint(struct sb *b, size_t from); /* [from, len) is tainted; no span reaches behind `from` yet */
bool sb_fill(struct sb *b, char c, size_t n);
bool sb_vstr(struct sb *b, struct vstr *s);
bool sb_range(struct sb *b, struct vstr *s, size_t from, size_t to);
bool sb_printf(struct sb *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
bool sb_value(struct sb *b, struct value *out);

/* ---- unicode.c ---- */

bool uni_is_alpha(uint32_t c);
bool uni_is_decimal(uint32_t c);
bool uni_is_digit(uint32_t c);
bool uni_is_numeric(uint32_t c);
bool uni_is_space(uint32_t c);
bool uni_is_printable(uint32_t c);
bool uni_is_upper(uint32_t c);
bool uni_is_lower(uint32_t c);
bool uni_is_title(uint32_t c);
bool uni_is_ignorable(uint32_t c);
/* Up to three code points; returns how many. */
size_t uni_upper(uint32_t out[3], uint32_t c);
size_t uni_lower(uint32_t out[3], uint32_t c);
size_t uni_title(uint32_t out[3], uint32_t c);
uint32_t uni_at(struct str s, size_t at, size_t *size); /* U+FFFD, size 1 where invalid */
enum case_map { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_CAPITALIZE, CASE_SWAP, CASE_FOLD };
bool sb_case(struct sb *b, struct vstr *s, size_t from, size_t to, enum case_map map);

/* ---- values (value.c, dict.c, iter.c) ---- */

#define VALUE_NONE ((struct value){.kind = V_NONE})
static inline struct value value_bool(bool b)
{
    return (struct value){.kind = V_BOOL, .b = b};
}
static inline struct value value_int(int64_t i)
{
    return (struct value){.kind = V_INT, .i = i};
}
static inline struct value value_float(double f)
{
    return (struct value){.kind = V_FLOAT, .f = f};
}
const char *type_name(struct value v);
bool is_int(struct value v, int64_t *i); /* int or bool */
bool is_number(struct value v, double *f);
bool value_truth(struct run *r, bool *out, struct value v);
bool value_equal(struct run *r, bool *out, struct value a, struct value b);
bool value_less(struct run *r, bool *out, struct value a, struct value b, const char *op); /* a < b */
bool value_hash(struct run *r, uint64_t *out, struct value v);
bool value_contains(struct run *r, bool *out, struct value item, struct value box);
bool value_len(struct run *r, size_t *out, struct value v);
bool undefined_fail(struct run *r, struct value v); /* the error of using it; always false */
bool undefined_hint(struct run *r, struct value *out, const char *hint);
bool undefined_var(struct run *r, struct value *out, struct str name);
bool undefined_attr(struct run *r, struct value *out, struct value obj, struct value name);
bool value_from_json(struct run *r, struct value *out, json_t *json, bool from_context);

bool list_new(struct run *r, struct value *out, enum kind kind, size_t cap);
bool list_force(struct run *r, struct vlist *l);
bool list_push(struct run *r, struct vlist *l, struct value v);
bool pair_new(struct run *r, struct value *out, struct value a, struct value b);

bool dict_new(struct run *r, struct value *out);
bool dict_force(struct run *r, struct vdict *d);
bool dict_set(struct run *r, struct vdict *d, struct value key, struct value v);
bool dict_get(struct run *r, struct value *out, bool *found, struct vdict *d, struct value key);
bool dict_get_str(struct run *r, struct value *out, bool *found, struct vdict *d, struct str key);
bool dict_remove(struct run *r, struct vdict *d, struct value key, bool *found, struct value *old);
void dict_clear(struct vdict *d);
bool dict_update(struct run *r, struct vdict *d, struct value from); /* a dict or an iterable of pairs */

enum iter_kind { IT_LIST, IT_DICT, IT_STR, IT_RANGE, IT_SHARED, IT_MAP, IT_SELECT, IT_UNIQUE, IT_LOOP, IT_EMPTY };
struct iter {
    enum iter_kind kind;
    size_t i, n; /* position; IT_DICT: live entries at the start */
    enum view_kind view;
    bool reverse, negate;
    union {
        struct vlist *l;
        struct vdict *d;
        struct vstr *s;
        struct vrange *range;
        struct viter *shared;
        struct vloop *loop;
    };
    struct gen *gen;
};
struct attr_path {
    struct value parts[16];
    size_t n;
};
struct gen { /* what IT_MAP, IT_SELECT, IT_UNIQUE need */
    struct iter source;
    bool by_attr, fold_case, done;
    struct attr_path path;
    struct value fallback; /* V_MISSING = none */
    const struct builtin *fn;
    struct args args;
    struct vdict *seen;
};
struct viter {
    struct iter it;
    const char *name;
};
bool iter_init(struct run *r, struct iter *it, struct value v);
int iter_next(struct run *r, struct value *out, struct iter *it);                    /* 1, 0 at the end, -1 failed */
bool iter_collect(struct run *r, struct value *out, enum kind kind, struct value v); /* a new list or tuple */
bool iter_value(struct run *r, struct value *out, const struct iter *it, const char *name);
bool values_sort(struct run *r, struct value *items, struct value *keys, size_t n, bool reverse);

/* ---- printing (repr.c) ---- */

bool sb_str(struct sb *b, struct value v);  /* str(v) */
bool sb_repr(struct sb *b, struct value v); /* repr(v) */
bool sb_float(struct sb *b, double f);
bool to_str(struct run *r, struct vstr **out, struct value v);
/* The first bytes of repr(v), for messages. */
const char *short_repr(struct run *r, char *tmp, size_t tmp_size, struct value v);

/* ---- integers outside 64 bits (bigint.c); operands are V_INT, V_BOOL or V_BIG ---- */

bool big_op(struct run *r, struct value *out, enum op op, struct value a, struct value b);
int big_compare(struct value a, struct value b);
double big_double(const struct vbig *v);
struct vbig *big_parse(struct arena *a, struct str digits); /* NULL: too many digits or no memory */
bool sb_big(struct sb *b, const struct vbig *v);

/* ---- operators, attributes ---- */

bool op_binary(struct run *r, struct value *out, enum op op, struct value a, struct value b);
bool op_compare(struct run *r, bool *out, enum op op, struct value a, struct value b);
bool get_attr(struct run *r, struct value *out, struct value obj, struct str name);
bool get_item(struct run *r, struct value *out, struct value obj, struct value key);
bool get_slice(struct run *r, struct value *out, struct value obj, const struct value bounds[3]);
bool get_path(struct run *r, struct value *out, struct value obj, const struct attr_path *path,
              const struct value *fallback);
bool attr_path_init(struct run *r, struct attr_path *path, struct value attribute);

/* ---- evaluation ---- */

bool eval(struct run *r, struct value *out, struct frame *f, const struct node *n);
bool eval_args(struct run *r, struct args *args, struct frame *f, const struct call_args *call);
bool exec_body(struct run *r, struct sb *out, struct frame *f, const struct node *body);
bool scope_enter(struct run *r, struct frame *f, const struct scope *s);
bool assign(struct run *r, struct frame *f, const struct node *target, struct value v);
bool call_value(struct run *r, struct value *out, struct value fn, const struct args *args);
bool call_builtin(struct run *r, struct value *out, const struct builtin *fn, struct value self,
                  const struct args *args);
bool call_macro(struct run *r, struct value *out, const struct vmacro *m, const struct args *args);
bool exec_for(struct run *r, struct sb *out, struct frame *f, const struct node *n);
bool loop_call(struct run *r, struct value *out, struct vloop *loop, const struct args *args);
bool loop_attr(struct run *r, struct value *out, bool *found, struct vloop *loop, struct str name);
int loop_next(struct run *r, struct value *out, struct vloop *loop);
bool loop_length(struct run *r, int64_t *out, struct vloop *loop);
bool sb_loop(struct sb *b, struct vloop *loop);

const struct builtin *filter_find(struct str name);
const struct builtin *test_find(struct str name);
const struct builtin *method_find(struct value obj, struct str name);
const struct builtin *global_find(struct str name);
extern const struct builtin filters_text[], filters_sequence[], methods_str[];

/* ---- formats ---- */

bool format_percent(struct run *r, struct value *out, struct vstr *fmt, struct value arg);
bool format_braces(struct run *r, struct value *out, struct vstr *fmt, const struct args *args);
bool parse_int(struct run *r, int64_t *out, bool *ok, struct str s, int base);
bool parse_float(double *out, struct str s);
bool float_to_int(struct run *r, int64_t *out, double f);
bool escape_html(struct run *r, struct value *out, struct vstr *s);
bool json_dump(struct run *r, struct value *out, struct value v, const struct value *options); /* [4]: see json.c */
bool json_parse(struct run *r, struct value *out, struct vstr *s);

/* Shared by filters and methods of strings. */
bool text_strip(struct run *r, struct value *out, struct vstr *s, const struct value *chars, int sides); /* 1 l, 2 r */
bool text_replace(struct run *r, struct value *out, struct vstr *s, struct vstr *from, struct vstr *to, int64_t max);
bool text_center(struct run *r, struct value *out, struct vstr *s, int64_t width, struct vstr *fill, int align);
bool text_splitlines(struct run *r, struct value *out, struct vstr *s, bool keep);
bool text_is(struct vstr *s, int what);
enum {
    TEXT_ALPHA,
    TEXT_DECIMAL,
    TEXT_DIGIT,
    TEXT_NUMERIC,
    TEXT_ALNUM,
    TEXT_SPACE,
    TEXT_UPPER,
    TEXT_LOWER,
    TEXT_TITLE,
    TEXT_PRINTABLE,
    TEXT_ASCII,
    TEXT_IDENTIFIER
};

#endif
