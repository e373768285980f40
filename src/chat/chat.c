/* chat: life of a request. See chat.h for who owns what. */
#include "chat/chat.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/alloc.h"

#define NOTE_MAX_BYTES 500

struct chat_request *chat_request_create(size_t max_bytes)
{
    struct chat_request *r = mem_try_zalloc(sizeof *r);
    if (r) arena_init(&r->arena, max_bytes);
    return r;
}

void chat_request_destroy(struct chat_request *r)
{
    if (!r) return;
    json_decref(r->json);
    arena_deinit(&r->arena);
    mem_free(r);
}

const struct chat_tool *chat_tool_find(const struct chat_request *r, struct str name)
{
    const struct chat_tool *found = NULL;
    for (size_t i = 0; i < r->n_tools; i++) {
        if (!str_eq(r->tools[i].name, name)) continue;
        found = &r->tools[i];
        if (!found->withheld) break;
    }
    return found;
}

void chat_note(struct chat_request *r, const char *fmt, ...)
{
    char text[NOTE_MAX_BYTES];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    struct chat_note *note = arena_try_alloc(&r->arena, sizeof *note);
    if (!note) return;
    *note = (struct chat_note){.next = r->notes, .text = arena_try_str(&r->arena, str_from(text))};
    if (note->text.ptr) r->notes = note;
}

bool chat_document_append(struct buf *out, struct str title, struct str context, struct str text)
{
    buf_append(out, STR("<document"));
    if (title.len) buf_printf(out, " title=\"%.*s\"", STR_ARG(title));
    buf_append(out, STR(">\n"));
    if (context.len) buf_printf(out, "<context>%.*s</context>\n", STR_ARG(context));
    buf_append(out, text);
    return buf_append(out, STR("\n</document>"));
}
