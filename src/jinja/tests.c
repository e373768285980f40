/* tests: what can stand behind `is`. */
#include <string.h>

#include "jinja/jinja_internal.h"

#define ARGS struct run *r, struct value *out, struct value self, const struct value *a, const struct args *raw
#define UNUSED (void)r, (void)a, (void)raw, (void)self

#define TEST(name, condition)                      \
    static bool name(ARGS)                         \
    {                                              \
        UNUSED;                                    \
        return *out = value_bool(condition), true; \
    }
TEST(is_defined, self.kind != V_UNDEFINED)
TEST(is_undefined, self.kind == V_UNDEFINED)
TEST(is_none, self.kind == V_NONE)
TEST(is_boolean, self.kind == V_BOOL)
TEST(is_true, self.kind == V_BOOL && self.b)
TEST(is_false, self.kind == V_BOOL && !self.b)
TEST(is_integer, self.kind == V_INT || self.kind == V_BIG)
TEST(is_float, self.kind == V_FLOAT)
TEST(is_numeric, self.kind == V_INT || self.kind == V_BIG || self.kind == V_FLOAT || self.kind == V_BOOL)
TEST(is_string, self.kind == V_STR)
TEST(is_mapping, self.kind == V_DICT)
TEST(is_escaped, self.kind == V_STR && self.s->markup)
TEST(is_callable, self.kind == V_FUNC || self.kind == V_MACRO || self.kind == V_JOINER || self.kind == V_LOOP ||
                      self.kind == V_UNDEFINED)
TEST(is_sequence, self.kind == V_STR || self.kind == V_LIST || self.kind == V_TUPLE || self.kind == V_DICT ||
                      self.kind == V_RANGE || self.kind == V_UNDEFINED)
TEST(is_iterable, (self.kind >= V_STR && self.kind <= V_ITER) || self.kind == V_UNDEFINED || self.kind == V_LOOP)

static bool modulo(struct run *r, bool *zero, struct value v, struct value by)
{
    struct value rest, is_zero;
    if (!op_binary(r, &rest, OP_MOD, v, by)) return false;
    is_zero = value_int(0);
    return value_equal(r, zero, rest, is_zero);
}

static bool is_odd(ARGS)
{
    struct value rest;
    bool one;
    UNUSED;
    if (!op_binary(r, &rest, OP_MOD, self, value_int(2)) || !value_equal(r, &one, rest, value_int(1))) return false;
    return *out = value_bool(one), true;
}

static bool is_even(ARGS)
{
    bool zero;
    UNUSED;
    return modulo(r, &zero, self, value_int(2)) && (*out = value_bool(zero), true);
}

static bool is_divisible(ARGS)
{
    bool zero;
    UNUSED;
    return modulo(r, &zero, self, a[0]) && (*out = value_bool(zero), true);
}

static bool has_case(ARGS, int what)
{
    struct vstr *s;
    UNUSED;
    return to_str(r, &s, self) && charge(r, s->len * 8) && (*out = value_bool(text_is(s, what)), true);
}

static bool is_lower(ARGS)
{
    return has_case(r, out, self, a, raw, TEXT_LOWER);
}

static bool is_upper(ARGS)
{
    return has_case(r, out, self, a, raw, TEXT_UPPER);
}

static bool is_filter(ARGS)
{
    UNUSED;
    return *out = value_bool(self.kind == V_STR && filter_find(vstr_str(self.s))), true;
}

static bool is_test(ARGS)
{
    UNUSED;
    return *out = value_bool(self.kind == V_STR && test_find(vstr_str(self.s))), true;
}

static bool is_same(ARGS)
{
    bool same = self.kind == a[0].kind;
    UNUSED;
    if (same && self.kind == V_BOOL) same = self.b == a[0].b;
    else if (same && self.kind == V_INT) same = self.i == a[0].i;
    else if (same && self.kind == V_FLOAT) same = memcmp(&self.f, &a[0].f, sizeof self.f) == 0;
    else if (same && (self.kind == V_STR || self.kind == V_BIG))
        return value_equal(r, &same, self, a[0]) && (*out = value_bool(same), true);
    else if (same && self.kind > V_STR) same = self.l == a[0].l;
    return *out = value_bool(same), true;
}

#define COMPARE(name, op)                                                             \
    static bool name(ARGS)                                                            \
    {                                                                                 \
        bool yes;                                                                     \
        UNUSED;                                                                       \
        return op_compare(r, &yes, op, self, a[0]) && (*out = value_bool(yes), true); \
    }
COMPARE(is_eq, OP_EQ)
COMPARE(is_ne, OP_NE)
COMPARE(is_lt, OP_LT)
COMPARE(is_le, OP_LE)
COMPARE(is_gt, OP_GT)
COMPARE(is_ge, OP_GE)
COMPARE(is_in, OP_IN)

static const struct builtin tests[] = {
    {"defined", is_defined, 0, 0, {0}},
    {"undefined", is_undefined, 0, 0, {0}},
    {"none", is_none, 0, 0, {0}},
    {"string", is_string, 0, 0, {0}},
    {"mapping", is_mapping, 0, 0, {0}},
    {"iterable", is_iterable, 0, 0, {0}},
    {"sequence", is_sequence, 0, 0, {0}},
    {"true", is_true, 0, 0, {0}},
    {"false", is_false, 0, 0, {0}},
    {"boolean", is_boolean, 0, 0, {0}},
    {"integer", is_integer, 0, 0, {0}},
    {"float", is_float, 0, 0, {0}},
    {"number", is_numeric, 0, 0, {0}},
    {"odd", is_odd, 0, 0, {0}},
    {"even", is_even, 0, 0, {0}},
    {"divisibleby", is_divisible, 1, 1, {"num"}},
    {"lower", is_lower, 0, 0, {0}},
    {"upper", is_upper, 0, 0, {0}},
    {"filter", is_filter, 0, 0, {0}},
    {"test", is_test, 0, 0, {0}},
    {"callable", is_callable, 0, 0, {0}},
    {"sameas", is_same, 1, 1, {"other"}},
    {"escaped", is_escaped, 0, 0, {0}},
    {"in", is_in, 1, 1, {"seq"}},
    {"eq", is_eq, 1, 1, {0}},
    {"==", is_eq, 1, 1, {0}},
    {"equalto", is_eq, 1, 1, {0}},
    {"ne", is_ne, 1, 1, {0}},
    {"!=", is_ne, 1, 1, {0}},
    {"lt", is_lt, 1, 1, {0}},
    {"<", is_lt, 1, 1, {0}},
    {"lessthan", is_lt, 1, 1, {0}},
    {"le", is_le, 1, 1, {0}},
    {"<=", is_le, 1, 1, {0}},
    {"gt", is_gt, 1, 1, {0}},
    {">", is_gt, 1, 1, {0}},
    {"greaterthan", is_gt, 1, 1, {0}},
    {"ge", is_ge, 1, 1, {0}},
    {">=", is_ge, 1, 1, {0}},
};

const struct builtin *test_find(struct str name)
{
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (str_eq(str_from(tests[i].name), name)) return &tests[i];
    return NULL;
}
