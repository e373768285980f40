/* Fuzz target of jinja: the input is a template, a NUL byte and a JSON context. Small budgets; whatever is rendered
 * must be valid UTF-8 with sorted, disjoint spans inside it. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "jinja/jinja.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data, *nul = size ? memchr(text, 0, size) : NULL;
    size_t n = nul ? (size_t)(nul - text) : size;
    const struct jinja_options options = {true, true};
    const struct jinja_limits limits = {100000, (size_t)1 << 20, (size_t)16 << 20};
    const struct jinja_now now = {.tm = {.tm_year = 125, .tm_mday = 1}};
    struct err e = {0};
    json_error_t error;
    json_t *context = nul ? json_loadb(nul + 1, size - n - 1, 0, &error) : NULL;
    if (!json_is_object(context)) {
        json_decref(context);
        context =
            json_pack("{s:s, s:[i,i,f,b,n,s], s:{s:i}}", "s", "h\xc3\xa9llo <b>", "l", 3, 1, 2.5, 1, "x", "d", "a", 1);
    }
    struct jinja *j = jinja_compile((struct str){text, n}, options, &e);
    struct buf out;
    struct jinja_spans spans;
    buf_init(&out, (size_t)1 << 20);
    if (j && jinja_render(j, &out, &spans, NULL, context, &now, &limits, &e)) {
        if (!utf8_valid(buf_str(&out))) abort();
        for (size_t i = 0; i < spans.n; i++) {
            if (spans.items[i].from >= spans.items[i].to || spans.items[i].to > out.len) abort();
            if (i && spans.items[i].from <= spans.items[i - 1].to) abort();
        }
        mem_free(spans.items);
    } else if (!e.msg[0]) abort();
    buf_deinit(&out);
    jinja_destroy(j);
    json_decref(context);
    return 0;
}
