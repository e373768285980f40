/* decimal: exact decimal numbers as JSON writes them: comparison, "multiple of", and whether the beginning of a number
 * can still become one that fits. No floating point, so 0.3 is a multiple of 0.1. */
#include <stdio.h>
#include <string.h>

#include "base/hash.h"
#include "grammar/grammar_internal.h"

bool decimal_parse(struct decimal *out, struct str text)
{
    size_t i = 0;
    int64_t point = 0, exp = 0;
    bool seen_point = false, exp_neg = false;
    out->n = 0;
    out->neg = text.len && text.ptr[0] == '-';
    i = out->neg;
    for (; i < text.len && text.ptr[i] != 'e' && text.ptr[i] != 'E'; i++) {
        char c = text.ptr[i];
        if (c == '.') {
            seen_point = true;
            continue;
        }
        if (c < '0' || c > '9') return false;
        if (out->n == 0 && c == '0') {
            if (seen_point) point--;
            continue;
        }
        if (!seen_point) point++;
        if (out->n < DECIMAL_DIGITS) out->d[out->n++] = (uint8_t)(c - '0');
        else if (c != '0') out->d[DECIMAL_DIGITS - 1] |= 1; /* still not a round number */
    }
    if (i < text.len) {
        i++;
        if (i < text.len && (text.ptr[i] == '+' || text.ptr[i] == '-')) exp_neg = text.ptr[i++] == '-';
        for (; i < text.len; i++)
            if (exp < 1000000000) exp = exp * 10 + (text.ptr[i] - '0');
    }
    while (out->n && out->d[out->n - 1] == 0) out->n--;
    out->exp = point + (exp_neg ? -exp : exp);
    if (out->n == 0) out->neg = false, out->exp = 0;
    return true;
}

bool decimal_is_integer(const struct decimal *x)
{
    return x->n == 0 || x->exp >= x->n;
}

static int cmp_magnitude(const struct decimal *x, const struct decimal_key *y)
{
    if (x->n == 0 || y->n == 0) return (x->n != 0) - (y->n != 0);
    if (x->exp != y->exp) return x->exp < y->exp ? -1 : 1;
    for (unsigned i = 0; i < x->n || i < y->n; i++) {
        int a = i < x->n ? x->d[i] : 0, b = i < y->n ? y->d[i] : 0;
        if (a != b) return a < b ? -1 : 1;
    }
    return 0;
}

int decimal_cmp(const struct decimal *x, const struct decimal_key *y)
{
    if (x->neg != y->neg) return x->neg ? -1 : 1;
    int c = cmp_magnitude(x, y);
    return x->neg ? -c : c;
}

static uint64_t digits_value(const uint8_t *d, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++) v = v * 10 + d[i];
    return v;
}

/* m = A x 10^b and x = D x 10^e without zeros at the end, so e < b can never be a multiple (D would need them). */
bool decimal_multiple(const struct decimal *x, const struct decimal_key *m)
{
    if (x->n == 0) return true;
    if (m->n == 0 || m->n > 19) return false;
    uint64_t a = digits_value(m->d, m->n), rest = 0, factor = 10 % a;
    int64_t k = (x->exp - x->n) - ((int64_t)m->exp - m->n);
    if (k < 0) return false;
    for (unsigned i = 0; i < x->n; i++) rest = (uint64_t)(((unsigned __int128)rest * 10 + x->d[i]) % a);
    for (; k > 0; k >>= 1) {
        if (k & 1) rest = (uint64_t)((unsigned __int128)rest * factor % a);
        factor = (uint64_t)((unsigned __int128)factor * factor % a);
    }
    return rest == 0;
}

void decimal_of_json(struct decimal_key *out, const json_t *number)
{
    char text[64];
    if (json_is_integer(number)) snprintf(text, sizeof text, "%lld", (long long)json_integer_value(number));
    else
        for (int digits = 15; digits <= 17; digits++) { /* the shortest that reads back as the same double */
            snprintf(text, sizeof text, "%.*e", digits - 1, json_real_value(number));
            if (strtod(text, NULL) == json_real_value(number)) break;
        }
    struct decimal x;
    *out = (struct decimal_key){0};
    if (!decimal_parse(&x, str_from(text))) return;
    out->neg = x.neg;
    out->n = (uint8_t)x.n;
    out->exp = (int32_t)x.exp;
    memcpy(out->d, x.d, x.n);
}

void decimal_wide(struct decimal *out, const struct decimal_key *k)
{
    out->neg = k->neg;
    out->n = k->n;
    out->exp = k->exp;
    memcpy(out->d, k->d, k->n);
}

uint64_t decimal_hash(const struct decimal *x)
{
    uint64_t head[2] = {(uint64_t)x->exp, x->neg};
    return hash64(x->d, x->n, hash64(head, sizeof head, 11));
}

bool decimal_scaled(__int128 *out, const struct decimal_key *k, int scale)
{
    int zeros = k->exp - k->n + scale;
    if (k->n == 0) return *out = 0, true;
    if (zeros < 0 || k->exp + scale > 36) return false;
    __int128 v = (__int128)digits_value(k->d, k->n);
    for (; zeros > 0; zeros--) v *= 10;
    *out = v;
    return true;
}

bool number_value_fits(const struct number_alt *n, const struct decimal *x)
{
    bool whole = decimal_is_integer(x), listed = !n->allowed;
    if ((n->integer && !whole) || (n->fraction_only && whole)) return false;
    int c;
    if (n->has_lo && ((c = decimal_cmp(x, &n->lo)) < 0 || (c == 0 && n->lo_open))) return false;
    if (n->has_hi && ((c = decimal_cmp(x, &n->hi)) > 0 || (c == 0 && n->hi_open))) return false;
    for (uint32_t i = 0; i < n->n_allowed && !listed; i++) listed = decimal_cmp(x, &n->allowed[i]) == 0;
    for (uint32_t i = 0; i < n->n_multiples; i++)
        if (!decimal_multiple(x, &n->multiples[i])) return false;
    for (uint32_t i = 0; i < n->n_not_multiples; i++)
        if (decimal_multiple(x, &n->not_multiples[i])) return false;
    for (uint32_t i = 0; i < n->n_excluded; i++)
        if (decimal_cmp(x, &n->excluded[i]) == 0) return false;
    return listed;
}

bool number_fits(const struct number_alt *n, struct str text)
{
    struct decimal x;
    return decimal_parse(&x, text) && number_value_fits(n, &x);
}

static bool is_excluded(const struct number_alt *n, __int128 value)
{
    for (uint32_t i = 0; i < n->n_not_steps; i++)
        if (value % n->not_steps[i] == 0) return true;
    for (uint32_t i = 0; i < n->n_excluded; i++)
        if (value == n->not_values[i]) return true;
    return false;
}

#define MAX_LOOKED_AT 200

bool number_between(const struct number_alt *n, bool neg, __int128 a, __int128 b)
{
    __int128 low = neg ? -n->high : n->low, high = neg ? -n->low : n->high;
    if (a < low) a = low;
    if (b > high) b = high;
    if (a < 0) a = 0;
    if (a > b) return false;
    __int128 x = (a + n->step - 1) / n->step * n->step;
    for (int i = 0; i < MAX_LOOKED_AT; i++, x += n->step) {
        if (x > b) return false;
        if (!is_excluded(n, neg ? -x : x)) return true;
    }
    return true;
}

#define MAX_WHOLE 18 /* digits before the point of a generated number */

/* A generated number is plain decimal when anything steers it; the free ones may have a short exponent. */
static bool free_viable(const struct number_alt *n, struct str s)
{
    size_t whole = 0, fraction = 0, exponent = 0;
    int part = 0;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '.') part = 1;
        else if ((c | 32) == 'e') part = 2;
        else if (c >= '0' && c <= '9') part == 0 ? whole++ : part == 1 ? fraction++ : exponent++;
    }
    if (n->integer && part > 0) return false;
    return whole <= MAX_WHOLE && fraction <= 17 && exponent <= 2;
}

/* The usual spelling of k: plain, or with an exponent when that would be long. */
static size_t spell(const struct decimal_key *k, char *text, size_t size)
{
    size_t n = 0;
    bool plain = k->exp <= 20 && k->exp > -6;
    int point = plain ? k->exp : 1;
    if (k->neg) text[n++] = '-';
    if (point <= 0) text[n++] = '0';
    for (int i = 0; i < point; i++) text[n++] = i < k->n ? (char)('0' + k->d[i]) : '0';
    if (k->n > point && k->n > 0) {
        text[n++] = '.';
        for (int i = point; i < k->n; i++) text[n++] = i >= 0 ? (char)('0' + k->d[i]) : '0';
    }
    if (!plain) n += (size_t)snprintf(text + n, size - n, "e%d", k->exp - 1);
    return n;
}

static bool begins(const struct decimal_key *k, struct str s)
{
    char text[128];
    return str_starts((struct str){text, spell(k, text, sizeof text)}, s);
}

static __int128 first_multiple(const struct number_alt *n)
{
    return n->low >= 0 ? (n->low + n->step - 1) / n->step * n->step : -(-n->low / n->step) * n->step;
}

uint32_t number_count(const struct number_alt *n, uint32_t limit)
{
    uint32_t k = 0;
    if (n->allowed) return n->n_allowed < limit ? n->n_allowed : limit;
    if (!n->exact || n->scale > 0 || (n->high - n->low) / n->step >= limit) return limit;
    for (__int128 x = first_multiple(n); x <= n->high; x += n->step) k += !is_excluded(n, x);
    return k;
}

size_t number_spell(const struct number_alt *n, uint32_t i, char *text, size_t size)
{
    if (n->allowed) return spell(&n->allowed[i], text, size);
    __int128 x = first_multiple(n);
    while (is_excluded(n, x) || i-- > 0) x += n->step;
    return (size_t)snprintf(text, size, "%lld", (long long)(x / n->unit));
}

bool number_viable(const struct number_alt *n, struct str s)
{
    if (n->allowed) {
        for (uint32_t i = 0; i < n->n_allowed; i++)
            if (begins(&n->allowed[i], s)) return true;
        return false;
    }
    if (!n->exact) return free_viable(n, s);
    size_t i = s.len && s.ptr[0] == '-', whole = 0;
    bool neg = i > 0, point = false;
    int fraction = 0;
    __int128 v = 0, unit = n->unit;
    for (; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '.') {
            point = true;
            continue;
        }
        if (c < '0' || c > '9') return false; /* no exponents */
        if (point ? ++fraction > n->scale : ++whole > MAX_WHOLE) return false;
        v = v * 10 + (c - '0');
        if (point) unit /= 10;
    }
    if (point && n->scale == 0) return false;
    if (whole == 0) return number_between(n, neg, 0, (__int128)1 << 120);
    if (point || v == 0) return number_between(n, neg, v * unit, v * unit + unit - 1);
    for (; whole <= MAX_WHOLE; whole++) {
        if (number_between(n, neg, v * unit, v * unit + unit - 1)) return true;
        unit *= 10; /* one more digit before the point */
    }
    return false;
}
