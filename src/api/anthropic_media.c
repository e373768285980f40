/* anthropic_media: blocks that bring files or other people's texts: images, documents, search results, the state of a
 * browser. What is text already becomes labelled text; an image is checked and carried as bytes; a PDF is carried as a
 * document for whoever can read it (see server/documents.c). */
#include <stdio.h>

#include "api/anthropic_request_internal.h"
#include "base/utf8.h"
#include "media/media.h"

#define TEXT_MAX_BYTES ((size_t)256 << 20)
#define IMAGE_MAX_BASE64 ((size_t)10 << 20)
#define IMAGES_MAX 600
#define DOCUMENTS_MAX 100

enum read_result decode_take_text(struct decoder *d, struct chat_block *out, struct buf *text)
{
    bool failed = text->failed;
    out->kind = CHAT_TEXT;
    out->text = failed ? STR_NONE : arena_try_str(&d->r->arena, buf_str(text));
    buf_deinit(text);
    if (out->text.ptr) return out->text.len ? READ_TAKEN : READ_DROPPED;
    anthropic_error_set(d->error, 413, NULL, "the request is larger than the memory that one may use");
    return READ_FAILED;
}

/* ---- sources ---- */

static bool open_source(struct decoder *d, json_t **source, struct str *type, size_t *at, const json_t *block)
{
    *source = field_get(block, "source");
    *at = path_push(d, "source");
    if (!json_is_object(*source)) return decode_mismatch(d, "an object", json_object_get(block, "source"));
    return field_str(d, type, *source, "type", true);
}

static enum read_result refuse_source(struct decoder *d, struct str type)
{
    path_push(d, "type");
    if (str_eq(type, STR("url")))
        decode_fail(d, "\"url\" sources are not supported: this server fetches nothing, send the data as base64");
    else if (str_eq(type, STR("file")))
        decode_fail(d, "\"file\" sources are not supported: this server holds no files, send the data as base64");
    else decode_fail(d, "unknown source type \"%.*s\"", STR_ARG(str_slice(type, 0, 40)));
    return READ_FAILED;
}

/* The bytes of source.data. */
static bool read_base64(struct decoder *d, struct str *out, const json_t *source)
{
    struct str text = STR("");
    if (!field_str(d, &text, source, "data", true)) return false;
    char *bytes = decode_alloc(d, BASE64_MAX_BYTES(text.len), 1);
    size_t at = path_push(d, "data");
    if (!bytes) return false;
    if (!base64_decode(bytes, &out->len, text)) return decode_fail(d, "Input should be base64");
    out->ptr = bytes;
    path_pop(d, at);
    return true;
}

static bool remember_place(struct decoder *d, struct chat_block *out, size_t path_len)
{
    out->where = arena_try_str(&d->r->arena, (struct str){d->path, path_len});
    if (out->where.ptr) return true;
    anthropic_error_set(d->error, 413, NULL, "the request is larger than the memory that one may use");
    return false;
}

/* ---- images ---- */

/* Too large is the only fault that is gathered: clients scale down every picture that the error names. */
static void add_oversized(struct decoder *d, struct str where)
{
    size_t room = sizeof d->oversized.paths - d->oversized.len;
    if (!d->oversized.len) d->oversized.first = *d->error;
    int n = snprintf(d->oversized.paths + d->oversized.len, room, "%s\"%.*s\"", d->oversized.len ? "," : "",
                     STR_ARG(where));
    if (n > 0 && (size_t)n < room) d->oversized.len += (size_t)n;
    d->oversized.paths[d->oversized.len] = '\0';
}

bool check_image_sizes(struct decoder *d)
{
    if (!d->oversized.len) return true;
    *d->error = d->oversized.first;
    d->error->code = "image_dimensions_too_large";
    snprintf(d->error->details, sizeof d->error->details, ",\"max_side_length_pixels\":%d,\"paths\":[%s]",
             IMAGE_MAX_SIDE, d->oversized.paths);
    return false;
}

enum read_result decode_image(struct decoder *d, struct chat_block *out, const json_t *block)
{
    json_t *source;
    struct str type;
    struct image_info info;
    struct err err;
    size_t at;
    out->kind = CHAT_IMAGE;
    if (!open_source(d, &source, &type, &at, block) || !remember_place(d, out, at)) return READ_FAILED;
    if (!str_eq(type, STR("base64"))) return refuse_source(d, type);
    size_t len = json_string_length(field_get(source, "data"));
    if (len > IMAGE_MAX_BASE64) {
        decode_fail(d, "image exceeds 10 MB maximum: %zu bytes > %zu bytes", len, IMAGE_MAX_BASE64);
        return READ_FAILED;
    }
    if (!read_base64(d, &out->data, source)) return READ_FAILED;
    path_push(d, "data");
    if (!image_info_read(&info, out->data, &err)) {
        decode_fail(d, "Could not process image: %s", err.msg);
        if (err.kind != ERR_TOO_LARGE) return READ_FAILED;
        add_oversized(d, out->where);
        path_pop(d, at);
        return READ_DROPPED;
    }
    path_pop(d, at);
    if (++d->r->n_images > IMAGES_MAX) {
        decode_fail(d, "at most %d images are accepted in a request", IMAGES_MAX);
        return READ_FAILED;
    }
    out->media_type = str_from(image_media_type(info.format));
    out->width = info.width;
    out->height = info.height;
    return READ_TAKEN;
}

/* ---- documents ---- */

static void note_citations(struct decoder *d, const json_t *block)
{
    if (d->has_noted_citations || !json_is_true(json_object_get(field_get(block, "citations"), "enabled"))) return;
    d->has_noted_citations = true;
    chat_note(d->r, "%s.citations: the answer has no citations", d->path);
}

static enum read_result finish_document(struct decoder *d, struct chat_block *out, struct str text)
{
    struct buf whole;
    buf_init(&whole, TEXT_MAX_BYTES);
    chat_document_append(&whole, out->title, out->context, text);
    return decode_take_text(d, out, &whole);
}

static enum read_result read_file(struct decoder *d, struct chat_block *out, const json_t *source, size_t at)
{
    struct str media_type = STR("application/pdf");
    if (!field_str(d, &media_type, source, "media_type", false) || !read_base64(d, &out->data, source))
        return READ_FAILED;
    if (str_starts(media_type, STR("text/"))) {
        path_push(d, "data");
        if (!utf8_valid(out->data)) return decode_fail(d, "Input should be UTF-8 text in base64"), READ_FAILED;
        path_pop(d, at);
        return finish_document(d, out, out->data);
    }
    if (!str_eq(media_type, STR("application/pdf"))) {
        path_push(d, "media_type");
        decode_fail(d, "Input should be application/pdf or text/plain, found \"%.*s\"",
                    STR_ARG(str_slice(media_type, 0, 60)));
        return READ_FAILED;
    }
    path_pop(d, at);
    if (!d->support->pdf) {
        path_push(d, "type");
        decode_fail(d, "\"document\" blocks are supported with plain text only: this server cannot read PDF files "
                       "(capability_rejected: document_block)");
        return READ_FAILED;
    }
    if (++d->r->n_documents > DOCUMENTS_MAX) {
        decode_fail(d, "at most %d PDF documents are accepted in a request", DOCUMENTS_MAX);
        return READ_FAILED;
    }
    out->kind = CHAT_DOCUMENT;
    out->media_type = STR("application/pdf");
    return READ_TAKEN;
}

/* The text blocks of content, with a line between them. */
static bool read_texts(struct decoder *d, struct buf *out, const json_t *object, const char *key)
{
    struct block_list list = {0};
    json_t *content = field_get(object, key);
    size_t at = path_push(d, key);
    if (content && !decode_list(d, &list, content, IN_DOCUMENT)) return false;
    path_pop(d, at);
    for (size_t i = 0; i < list.n; i++) {
        if (list.items[i].kind != CHAT_TEXT) continue;
        if (out->len) buf_append_char(out, '\n');
        buf_append(out, list.items[i].text);
    }
    return true;
}

enum read_result decode_document(struct decoder *d, struct chat_block *out, const json_t *block)
{
    json_t *source;
    struct str type, data = STR("");
    size_t at;
    out->kind = CHAT_TEXT;
    if (!field_str(d, &out->title, block, "title", false) || !field_str(d, &out->context, block, "context", false))
        return READ_FAILED;
    note_citations(d, block);
    if (!open_source(d, &source, &type, &at, block) || !remember_place(d, out, at)) return READ_FAILED;
    if (str_eq(type, STR("base64"))) return read_file(d, out, source, at);
    if (str_eq(type, STR("text"))) {
        if (!field_str(d, &data, source, "data", true)) return READ_FAILED;
        path_pop(d, at);
        return finish_document(d, out, data);
    }
    if (!str_eq(type, STR("content"))) return refuse_source(d, type);
    struct buf text;
    buf_init(&text, TEXT_MAX_BYTES);
    enum read_result got = READ_FAILED;
    if (read_texts(d, &text, source, "content")) {
        path_pop(d, at);
        got = finish_document(d, out, buf_str(&text));
    }
    buf_deinit(&text);
    return got;
}

/* ---- other labelled text ---- */

static void append_attribute(struct buf *out, const char *name, struct str value)
{
    if (!value.len) return;
    buf_printf(out, " %s=\"", name);
    buf_append(out, value);
    buf_append_char(out, '"');
}

enum read_result decode_search_result(struct decoder *d, struct chat_block *out, const json_t *block)
{
    struct str source = STR_NONE, title = STR_NONE;
    struct buf text, content;
    if (!field_str(d, &source, block, "source", false) || !field_str(d, &title, block, "title", false))
        return READ_FAILED;
    note_citations(d, block);
    buf_init(&content, TEXT_MAX_BYTES);
    bool ok = read_texts(d, &content, block, "content");
    buf_init(&text, TEXT_MAX_BYTES);
    buf_append(&text, STR("<search_result"));
    append_attribute(&text, "source", source);
    append_attribute(&text, "title", title);
    buf_append(&text, STR(">\n"));
    buf_append(&text, buf_str(&content));
    buf_append(&text, STR("\n</search_result>"));
    buf_deinit(&content);
    if (ok) return decode_take_text(d, out, &text);
    buf_deinit(&text);
    return READ_FAILED;
}

static struct str text_of(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    return json_is_string(value) ? json_str(value) : STR_NONE;
}

/* One line a tab, then one a change. Shapes that are not known are passed over. */
enum read_result decode_browser_state(struct decoder *d, struct chat_block *out, const json_t *block)
{
    size_t i;
    json_t *item;
    struct buf text;
    buf_init(&text, TEXT_MAX_BYTES);
    buf_append(&text, STR("<browser_state>\n"));
    json_array_foreach(field_get(block, "tabs"), i, item)
    {
        buf_append(&text, json_is_true(json_object_get(item, "active")) ? STR("active tab") : STR("tab"));
        append_attribute(&text, "id", text_of(item, "tab_id"));
        append_attribute(&text, "title", text_of(item, "title"));
        append_attribute(&text, "url", text_of(item, "url"));
        buf_append_char(&text, '\n');
    }
    json_array_foreach(field_get(block, "state_changes"), i, item)
    {
        const char *key;
        json_t *value;
        buf_append(&text, text_of(item, "type"));
        json_object_foreach(item, key, value)
        {
            if (json_is_string(value) && !str_eq(str_from(key), STR("type")))
                append_attribute(&text, key, json_str(value));
        }
        buf_append_char(&text, '\n');
    }
    buf_append(&text, STR("</browser_state>"));
    return decode_take_text(d, out, &text);
}
