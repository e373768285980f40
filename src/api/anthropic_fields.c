/* anthropic_fields: paths, typed fields and errors of the request decoder. */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "api/anthropic_request_internal.h"
#include "base/alloc.h"

static size_t push(struct decoder *d, const char *text)
{
    size_t before = d->path_len;
    size_t room = sizeof d->path - d->path_len;
    int n = snprintf(d->path + d->path_len, room, "%s%s", before ? "." : "", text);
    if (n > 0) d->path_len += (size_t)n < room ? (size_t)n : room - 1;
    return before;
}

size_t path_push(struct decoder *d, const char *key)
{
    return push(d, key);
}

size_t path_push_index(struct decoder *d, size_t index)
{
    char text[24];
    snprintf(text, sizeof text, "%zu", index);
    return push(d, text);
}

void path_pop(struct decoder *d, size_t len)
{
    d->path_len = len;
    d->path[len] = '\0';
}

bool decode_fail(struct decoder *d, const char *fmt, ...)
{
    char text[800];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return anthropic_error_set(d->error, 400, NULL, "%s%s%s", d->path, d->path_len ? ": " : "", text);
}

static const char *kind_name(const json_t *value)
{
    if (!value) return "nothing";
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    case JSON_NULL: break;
    }
    return "null";
}

bool decode_mismatch(struct decoder *d, const char *expected, const json_t *found)
{
    if (!found) return decode_fail(d, "Field required");
    return decode_fail(d, "Input should be %s, found %s", expected, kind_name(found));
}

void *decode_alloc(struct decoder *d, size_t n, size_t size)
{
    size_t bytes;
    void *ptr = size_mul(&bytes, n, size) ? arena_try_alloc(&d->r->arena, bytes ? bytes : 1) : NULL;
    if (ptr) return memset(ptr, 0, bytes);
    anthropic_error_set(d->error, 413, NULL, "the request has too many parts for the memory that one may use");
    return NULL;
}

json_t *field_get(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

struct str json_str(const json_t *string)
{
    return (struct str){json_string_value(string), json_string_length(string)};
}

bool field_str(struct decoder *d, struct str *out, const json_t *object, const char *key, bool is_required)
{
    json_t *value = field_get(object, key);
    if (!value && !is_required) return true;
    size_t at = path_push(d, key);
    if (!json_is_string(value)) return decode_mismatch(d, "a string", json_object_get(object, key));
    *out = json_str(value);
    path_pop(d, at);
    return true;
}

bool field_bool(struct decoder *d, bool *out, const json_t *object, const char *key)
{
    json_t *value = field_get(object, key);
    if (!value) return true;
    size_t at = path_push(d, key);
    if (!json_is_boolean(value)) return decode_mismatch(d, "a boolean", value);
    *out = json_is_true(value);
    path_pop(d, at);
    return true;
}

bool field_number(struct decoder *d, double *out, bool *has, const json_t *object, const char *key, double min,
                  double max)
{
    json_t *value = field_get(object, key);
    if (!value) return true;
    size_t at = path_push(d, key);
    if (!json_is_number(value)) return decode_mismatch(d, "a number", value);
    double number = json_number_value(value);
    if (!(number >= min && number <= max))
        return decode_fail(d, "Input should be between %g and %g, found %g", min, max, number);
    *out = number;
    *has = true;
    path_pop(d, at);
    return true;
}

bool field_integer(struct decoder *d, int64_t *out, bool *has, const json_t *object, const char *key, int64_t min,
                   int64_t max)
{
    json_t *value = field_get(object, key);
    if (!value) return true;
    size_t at = path_push(d, key);
    int64_t number = 0;
    double real = json_is_real(value) ? json_real_value(value) : 0;
    if (json_is_integer(value)) number = json_integer_value(value);
    else if (json_is_real(value) && real == floor(real) && fabs(real) < 9007199254740992.0) number = (int64_t)real;
    else return decode_mismatch(d, "an integer", value);
    if (number < min || number > max)
        return decode_fail(d, "Input should be between %" PRId64 " and %" PRId64 ", found %" PRId64, min, max, number);
    *out = number;
    *has = true;
    path_pop(d, at);
    return true;
}
