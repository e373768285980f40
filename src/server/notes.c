/* notes: what is answered without being honoured, for the response header and the log; and fields of bodies that
 * nobody here has heard of, which are logged once each. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "server/server_internal.h"

#define UNKNOWN_MAX 64 /* names that are remembered; later ones are not logged */
#define NAME_MAX_BYTES 64
#define LOOK_MAX 200 /* fields of one body that are looked at */

/* One character of a header value: what is not printable ASCII would break the header or its reader. */
static char header_char(char c)
{
    return c >= ' ' && c <= '~' ? c : '?';
}

static size_t add_text(char *out, size_t at, size_t end, struct str text)
{
    for (size_t i = 0; i < text.len && at < end; i++) out[at++] = header_char(text.ptr[i]);
    return at;
}

/* The list is newest first; the reader wants the order of the request. */
static const struct chat_note *nth_from_end(const struct chat_note *notes, size_t n)
{
    while (n--) notes = notes->next;
    return notes;
}

void notes_format(char out[NOTES_SIZE], const struct chat_note *notes)
{
    size_t n = 0;
    size_t at = 0;
    const size_t room = NOTES_SIZE - 32; /* for what is left out */
    for (const struct chat_note *x = notes; x; x = x->next) n++;
    size_t left = n;
    while (left && at < room) {
        if (at) at = add_text(out, at, room, STR("; "));
        at = add_text(out, at, room, nth_from_end(notes, --left)->text);
    }
    out[at] = '\0';
    if (left) snprintf(out + at, NOTES_SIZE - at, " ... and %zu more", left);
}

/* ---- fields ---- */

struct unknown_fields {
    size_t n;
    char names[UNKNOWN_MAX][NAME_MAX_BYTES];
};

static bool is_logged(const struct unknown_fields *u, const char *name)
{
    for (size_t i = 0; i < u->n; i++)
        if (!strcmp(u->names[i], name)) return true;
    return u->n == UNKNOWN_MAX;
}

void notes_unknown_fields(struct server *s, const json_t *body)
{
    const char *key;
    json_t *value;
    size_t n = 0;
    json_object_foreach((json_t *)body, key, value)
    {
        if (n++ == LOOK_MAX) return;
        if (anthropic_field_is_known(key)) continue;
        if (!s->unknown) s->unknown = mem_zalloc(sizeof *s->unknown);
        char name[NAME_MAX_BYTES];
        size_t at = add_text(name, 0, sizeof name - 1, str_from(key));
        name[at] = '\0';
        if (is_logged(s->unknown, name)) continue;
        memcpy(s->unknown->names[s->unknown->n++], name, sizeof name);
        log_info("a request has the field \"%s\", which is not known here and ignored", name);
    }
}

void notes_free(struct server *s)
{
    mem_free(s->unknown);
    s->unknown = NULL;
}
