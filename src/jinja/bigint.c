/* bigint: integers that do not fit into 64 bits, as Python's int has them, up to a limit of digits. Sign and magnitude,
 * limbs of nine decimal digits, least significant first, no leading zero limbs. A result that fits into 64 bits is
 * always a plain V_INT again, so that each number has one form. */
#include <math.h>
#include <string.h>

#include "jinja/jinja_internal.h"

#define BASE 1000000000u
#define MAX_LIMBS 478 /* 4,300 digits, where Python refuses to print */

struct big {
    bool negative;
    size_t n;
    uint32_t limb[2 * MAX_LIMBS + 4];
};

static void trim(struct big *b)
{
    while (b->n && !b->limb[b->n - 1]) b->n--;
    if (!b->n) b->negative = false;
}

static void big_from(struct big *out, struct value v)
{
    int64_t i;
    *out = (struct big){0};
    if (v.kind == V_BIG) {
        out->negative = v.big->negative;
        out->n = v.big->n;
        memcpy(out->limb, v.big->limb, out->n * sizeof *out->limb);
        return;
    }
    is_int(v, &i);
    out->negative = i < 0;
    for (uint64_t u = i < 0 ? (uint64_t)0 - (uint64_t)i : (uint64_t)i; u; u /= BASE)
        out->limb[out->n++] = (uint32_t)(u % BASE);
}

static bool big_value(struct run *r, struct value *out, struct big *b)
{
    trim(b);
    if (b->n > MAX_LIMBS) return run_fail(r, "integer has more than 4300 digits");
    if (b->n <= 3) {
        __int128 v = 0;
        for (size_t i = b->n; i-- > 0;) v = v * BASE + b->limb[i];
        if (b->negative) v = -v;
        if (v >= INT64_MIN && v <= INT64_MAX) return *out = value_int((int64_t)v), true;
    }
    struct vbig *v = run_alloc(r, sizeof *v + b->n * sizeof *v->limb);
    if (!v) return false;
    v->negative = b->negative;
    v->n = b->n;
    memcpy(v->limb, b->limb, b->n * sizeof *b->limb);
    *out = (struct value){.kind = V_BIG, .big = v};
    return charge(r, b->n * 64);
}

struct vbig *big_parse(struct arena *a, struct str digits)
{
    size_t n = (digits.len + 8) / 9;
    struct vbig *v = n <= MAX_LIMBS ? arena_try_alloc(a, sizeof *v + n * sizeof *v->limb) : NULL;
    if (!v) return NULL;
    v->negative = false;
    v->n = n;
    for (size_t i = 0; i < n; i++) {
        size_t end = digits.len - 9 * i, from = end > 9 ? end - 9 : 0;
        v->limb[i] = 0;
        for (size_t k = from; k < end; k++) v->limb[i] = v->limb[i] * 10 + (uint32_t)(digits.ptr[k] - '0');
    }
    return v;
}

static int compare_magnitude(const struct big *a, const struct big *b)
{
    if (a->n != b->n) return a->n < b->n ? -1 : 1;
    for (size_t i = a->n; i-- > 0;)
        if (a->limb[i] != b->limb[i]) return a->limb[i] < b->limb[i] ? -1 : 1;
    return 0;
}

static void add_magnitude(struct big *out, const struct big *a, const struct big *b)
{
    uint32_t carry = 0;
    out->n = (a->n > b->n ? a->n : b->n) + 1;
    for (size_t i = 0; i < out->n; i++) {
        uint32_t sum = carry + (i < a->n ? a->limb[i] : 0) + (i < b->n ? b->limb[i] : 0);
        carry = sum >= BASE;
        out->limb[i] = sum - (carry ? BASE : 0);
    }
    trim(out);
}

/* a >= b; out may be a. */
static void sub_magnitude(struct big *out, const struct big *a, const struct big *b)
{
    uint32_t borrow = 0;
    out->n = a->n;
    for (size_t i = 0; i < a->n; i++) {
        uint32_t take = borrow + (i < b->n ? b->limb[i] : 0);
        borrow = a->limb[i] < take;
        out->limb[i] = a->limb[i] + (borrow ? BASE : 0) - take;
    }
    trim(out);
}

static void big_add(struct big *out, const struct big *a, const struct big *b, bool negate_b)
{
    bool b_negative = b->negative != negate_b;
    bool swap = compare_magnitude(a, b) < 0;
    if (a->negative == b_negative) {
        out->negative = b_negative;
        add_magnitude(out, a, b);
        return;
    }
    out->negative = swap ? b_negative : a->negative;
    sub_magnitude(out, swap ? b : a, swap ? a : b);
}

static bool big_mul(struct run *r, struct big *out, const struct big *a, const struct big *b)
{
    if (a->n + b->n > MAX_LIMBS + 2) return run_fail(r, "integer has more than 4300 digits");
    *out = (struct big){.negative = a->negative != b->negative, .n = a->n + b->n};
    for (size_t i = 0; i < a->n; i++) {
        uint64_t carry = 0;
        for (size_t k = 0; k < b->n || carry; k++) {
            uint64_t v = out->limb[i + k] + carry + (k < b->n ? (uint64_t)a->limb[i] * b->limb[k] : 0);
            out->limb[i + k] = (uint32_t)(v % BASE);
            carry = v / BASE;
        }
    }
    trim(out);
    return charge(r, a->n * b->n * 64);
}

/* Long division of magnitudes; each digit of the quotient by bisection, which needs no estimate to correct. */
static bool divide(struct run *r, struct big *quotient, struct big *rest, const struct big *a, const struct big *b)
{
    *quotient = (struct big){.n = a->n};
    *rest = (struct big){0};
    for (size_t i = a->n; i-- > 0;) {
        memmove(rest->limb + 1, rest->limb, rest->n * sizeof *rest->limb);
        rest->limb[0] = a->limb[i];
        rest->n++;
        trim(rest);
        uint32_t low = 0, high = BASE - 1;
        struct big product;
        while (low < high) {
            uint32_t mid = low + (high - low + 1) / 2;
            struct big digit = {.n = 1, .limb = {mid}};
            if (!big_mul(r, &product, b, &digit)) return false;
            if (compare_magnitude(&product, rest) <= 0) low = mid;
            else high = mid - 1;
        }
        quotient->limb[i] = low;
        struct big digit = {.n = low != 0, .limb = {low}};
        if (!big_mul(r, &product, b, &digit)) return false;
        product.negative = false;
        sub_magnitude(rest, rest, &product);
    }
    trim(quotient);
    return true;
}

/* Towards minus infinity, as Python divides. */
static bool big_floor(struct run *r, struct value *out, enum op op, const struct big *a, const struct big *b)
{
    struct big q, rest, one = {.n = 1, .limb = {1}}, sum;
    if (!b->n) return run_fail(r, "integer division or modulo by zero");
    if (!divide(r, &q, &rest, a, b)) return false;
    bool down = rest.n && a->negative != b->negative;
    q.negative = a->negative != b->negative && q.n;
    rest.negative = a->negative && rest.n;
    if (op == OP_MOD) {
        if (!down) return big_value(r, out, &rest);
        big_add(&sum, &rest, b, false);
        return big_value(r, out, &sum);
    }
    if (!down) return big_value(r, out, &q);
    big_add(&sum, &q, &one, true);
    return big_value(r, out, &sum);
}

static bool big_pow(struct run *r, struct value *out, struct big *a, struct value exponent)
{
    struct big result = {.n = 1, .limb = {1}}, tmp;
    int64_t e;
    if (!is_int(exponent, &e)) return run_fail(r, "exponent is too large");
    for (; e; e >>= 1) {
        if (e & 1) {
            if (!big_mul(r, &tmp, &result, a)) return false;
            result = tmp;
        }
        if (e == 1) break;
        if (!big_mul(r, &tmp, a, a)) return false;
        *a = tmp;
    }
    return big_value(r, out, &result);
}

double big_double(const struct vbig *v)
{
    double f = 0;
    for (size_t i = v->n; i-- > 0;) f = f * BASE + v->limb[i];
    return v->negative ? -f : f;
}

int big_compare(struct value a, struct value b)
{
    struct big x, y;
    big_from(&x, a);
    big_from(&y, b);
    if (x.negative != y.negative) return x.negative ? -1 : 1;
    int c = compare_magnitude(&x, &y);
    return x.negative ? -c : c;
}

bool big_op(struct run *r, struct value *out, enum op op, struct value a, struct value b)
{
    struct big x, y, z;
    double p, q;
    big_from(&x, a);
    big_from(&y, b);
    switch (op) {
    case OP_ADD:
    case OP_SUB: big_add(&z, &x, &y, op == OP_SUB); return big_value(r, out, &z);
    case OP_MUL: return big_mul(r, &z, &x, &y) && big_value(r, out, &z);
    case OP_FLOORDIV:
    case OP_MOD: return big_floor(r, out, op, &x, &y);
    case OP_POW:
        if (!y.negative) return big_pow(r, out, &x, b);
        __attribute__((fallthrough)); /* a negative exponent gives a float */
    default:
        is_number(a, &p);
        is_number(b, &q);
        if (op == OP_DIV && q == 0) return run_fail(r, "division by zero");
        p = op == OP_DIV ? p / q : pow(p, q);
        return isfinite(p) ? (*out = value_float(p), true) : run_fail(r, "int too large to convert to float");
    }
}

bool sb_big(struct sb *b, const struct vbig *v)
{
    if (v->negative && !sb_char(b, '-', false)) return false;
    for (size_t i = v->n; i-- > 0;)
        if (!sb_printf(b, i + 1 == v->n ? "%u" : "%09u", v->limb[i])) return false;
    return true;
}
