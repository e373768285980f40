/* media: bytes that clients send beside text. Base64, what a picture's file says about itself, and the text of a PDF,
 * which a program outside of this process reads under limits. Every byte is hostile; nothing here knows requests. */
#ifndef MEDIA_MEDIA_H
#define MEDIA_MEDIA_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

/* Bytes that text of that length decodes to, at most. */
#define BASE64_MAX_BYTES(len) ((len) / 4 * 3 + 3)
/* Standard alphabet; white space is skipped, padding may be missing. *n: bytes written to out. */
bool base64_decode(char *out, size_t *n, struct str text);

enum image_format { IMAGE_PNG, IMAGE_JPEG, IMAGE_GIF, IMAGE_WEBP };
struct image_info {
    enum image_format format;
    uint32_t width, height; /* as stored; GIF and WebP: of the canvas */
};
#define IMAGE_MAX_SIDE 8000

/* Walks the file's structure without decoding pixels: format by its first bytes, size, and whether it is whole (a JPEG
 * may lack its end). ERR_TOO_LARGE: a side is longer than IMAGE_MAX_SIDE. */
bool image_info_read(struct image_info *out, struct str bytes, struct err *e);
const char *image_media_type(enum image_format format);

struct pdf_config {
    const char *program; /* pdftotext; a name is looked up in /usr/local/bin, /usr/bin and /bin */
    uint32_t wall_ms, cpu_s;
    size_t memory_bytes; /* address space of the program */
    size_t max_text_bytes;
    uint32_t max_pages;
    size_t cache_bytes; /* of texts that are kept: conversations send their documents again with every turn */
};
extern const struct pdf_config PDF_DEFAULTS;

/* Thread-safe. config's strings must outlive it. */
struct pdf_reader;
struct pdf_reader *pdf_reader_create(const struct pdf_config *config);
void pdf_reader_destroy(struct pdf_reader *p);
/* Every read that runs or begins ends with ERR_CANCELLED. */
void pdf_reader_stop(struct pdf_reader *p);
/* Appends the text, each page behind "[page N]". Blocks until the program ends, cancel (may be NULL) becomes true or a
 * limit is hit. ERR_NOT_FOUND: the program is not installed; ERR_INVALID: broken, encrypted or without text;
 * ERR_TOO_LARGE: a limit. */
bool pdf_read(struct pdf_reader *p, struct buf *out, struct str pdf, const atomic_bool *cancel, struct err *e);

#endif
