/* jinja: the template language that chat templates are written in, as Hugging Face transformers sets Python's Jinja2 up
 * (trim_blocks, lstrip_blocks, loopcontrols, {% generation %} transparent, no autoescape; tojson = json.dumps with
 * ensure_ascii False). Templates and values are hostile: compile and render never crash, hang or exhaust the stack;
 * steps, output, memory and nesting have budgets. A compiled template is immutable: any thread may render it.
 * Values are jansson's (json_t); numbers keep the difference between integer and real. Rendering recurses: the calling
 * thread needs 3 MiB of stack. Departures from Python: `random` and `autoescape true` are refused, there is no lipsum,
 * and integers end at 4,300 digits. */
#ifndef JINJA_JINJA_H
#define JINJA_JINJA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

struct jinja;

struct jinja_options {
    bool trim_blocks, lstrip_blocks; /* both true for chat templates */
};

/* Source text -> compiled template (it keeps its own copy). ERR_INVALID quotes line number, the line and the reason. */
struct jinja *jinja_compile(struct str source, struct jinja_options options, struct err *e);
void jinja_destroy(struct jinja *j);

struct jinja_limits {        /* zero = the default */
    uint64_t max_steps;      /* evaluated nodes; default 20 million */
    size_t max_output_bytes; /* default 64 MiB */
    size_t max_memory_bytes; /* all values alive or dead of one rendering; default 512 MiB */
};

/* A run of output bytes that was copied from string values of the context (so: written by a client), not by the
 * template. Feeds tokenizer_encode's tainted spans. */
struct jinja_span {
    size_t from, to;
};
struct jinja_spans {
    struct jinja_span *items; /* positions in the buffer that was appended to; sorted, disjoint, merged where they
                                 touch; for mem_free */
    size_t n;
};

/* What strftime_now shows, and where. */
struct jinja_now {
    struct tm tm; /* broken-down local time */
};

/* Renders with the variables of `context` (a JSON object, borrowed). Appends to out. `spans` may be NULL. `now` may be
 * NULL (the current local time). raise_exception() in the template gives ERR_INVALID with exactly the template's
 * message and *raised true (raised may be NULL); other failures give ERR_INVALID quoting line and reason. */
bool jinja_render(const struct jinja *j, struct buf *out, struct jinja_spans *spans, bool *raised, json_t *context,
                  const struct jinja_now *now, const struct jinja_limits *limits, struct err *e);

/* Whether the template's text reads a variable or attribute of that name anywhere (a cheap capability probe). */
bool jinja_mentions(const struct jinja *j, const char *name);

#endif
