/* image: what the bytes of a picture say about it, before anybody decodes them. Each format is walked part by part; a
 * part that reaches over the end, or a size that cannot be, is an error. No allocation, time linear in the bytes. */
#include <string.h>

#include "media/media.h"

/* The bytes that are left. */
struct reader {
    const unsigned char *at, *end;
};

static size_t left(const struct reader *r)
{
    return (size_t)(r->end - r->at);
}

static const unsigned char *take(struct reader *r, size_t n)
{
    const unsigned char *p = r->at;
    if (left(r) < n) return NULL;
    r->at += n;
    return p;
}

static uint32_t be16(const unsigned char *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t be32(const unsigned char *p)
{
    return be16(p) << 16 | be16(p + 2);
}

static uint32_t le16(const unsigned char *p)
{
    return (uint32_t)p[1] << 8 | p[0];
}

static uint32_t le24(const unsigned char *p)
{
    return (uint32_t)p[2] << 16 | le16(p);
}

static bool cut(struct err *e, const char *format)
{
    return err_set(e, ERR_INVALID, "the %s file is cut off", format);
}

static bool check_size(uint32_t width, uint32_t height, struct err *e)
{
    if (!width || !height) return err_set(e, ERR_INVALID, "the image has no size (%u x %u)", width, height);
    if (width > IMAGE_MAX_SIDE || height > IMAGE_MAX_SIDE)
        return err_set(e, ERR_TOO_LARGE, "the image is %u x %u pixels, at most %d a side are accepted", width, height,
                       IMAGE_MAX_SIDE);
    return true;
}

static bool set_size(struct image_info *out, uint32_t width, uint32_t height, struct err *e)
{
    out->width = width;
    out->height = height;
    return check_size(width, height, e);
}

/* ---- PNG ---- */

static uint32_t crc32_of(const unsigned char *p, size_t n)
{
    static const uint32_t table[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                       0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                       0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < n; i++) {
        crc = table[(crc ^ p[i]) & 15] ^ crc >> 4;
        crc = table[(crc ^ (uint32_t)p[i] >> 4) & 15] ^ crc >> 4;
    }
    return ~crc;
}

static bool png_header(struct image_info *out, const unsigned char *p, uint32_t len, struct err *e)
{
    static const unsigned char depths[7] = {/* bit n: n is allowed; by colour type */
                                            [0] = 1 | 2 | 4 | 8 | 16,
                                            [2] = 8 | 16,
                                            [3] = 1 | 2 | 4 | 8,
                                            [4] = 8 | 16,
                                            [6] = 8 | 16};
    if (len != 13) return err_set(e, ERR_INVALID, "the PNG file has a broken header");
    unsigned depth = p[8];
    if (p[9] > 6 || !(depths[p[9]] & depth) || (depth & (depth - 1)) || p[10] || p[11] || p[12] > 1)
        return err_set(e, ERR_INVALID, "the PNG file has a broken header");
    return set_size(out, be32(p), be32(p + 4), e);
}

static bool is_chunk(const unsigned char *p, const char *name)
{
    return memcmp(p, name, 4) == 0;
}

static bool read_png(struct image_info *out, struct reader r, struct err *e)
{
    bool has_data = false;
    for (bool is_first = true;; is_first = false) {
        const unsigned char *head = take(&r, 8);
        if (!head) return cut(e, "PNG");
        uint32_t len = be32(head);
        const unsigned char *body = len < 0x7fffffff ? take(&r, len) : NULL;
        const unsigned char *crc = body ? take(&r, 4) : NULL;
        if (!crc) return cut(e, "PNG");
        if (crc32_of(head + 4, (size_t)len + 4) != be32(crc))
            return err_set(e, ERR_INVALID, "the PNG file is damaged (checksum of a chunk)");
        if (is_first != is_chunk(head + 4, "IHDR")) return err_set(e, ERR_INVALID, "the PNG file has a broken header");
        if (is_first && !png_header(out, body, len, e)) return false;
        if (is_chunk(head + 4, "IDAT") && len && !has_data) {
            has_data = true;
            if (len < 2 || (body[0] & 15) != 8 || be16(body) % 31)
                return err_set(e, ERR_INVALID, "the PNG file's pixels are not a zlib stream");
        }
        if (is_chunk(head + 4, "IEND")) return has_data || err_set(e, ERR_INVALID, "the PNG file has no pixels");
    }
}

/* ---- JPEG ---- */

static bool is_frame(unsigned marker)
{
    return marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
}

/* The next marker: 0 at the end of the file. Skips what is not one: fill bytes, and the pixels behind a scan. */
static unsigned next_marker(struct reader *r)
{
    while (left(r) >= 2) {
        const unsigned char *p = memchr(r->at, 0xff, left(r) - 1);
        if (!p) break;
        r->at = p + 1;
        if (*r->at != 0 && *r->at != 0xff) return *r->at++;
    }
    r->at = r->end;
    return 0;
}

static bool read_jpeg(struct image_info *out, struct reader r, struct err *e)
{
    bool has_frame = false, has_scan = false;
    unsigned marker;
    while ((marker = next_marker(&r)) != 0 && marker != 0xd9) {
        if (marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8)) continue; /* these stand alone */
        const unsigned char *p = take(&r, 2);
        uint32_t len = p ? be16(p) : 0;
        p = len >= 2 ? take(&r, len - 2) : NULL;
        if (!p) return has_scan || cut(e, "JPEG");
        if (is_frame(marker)) {
            if (len < 8 || p[5] < 1 || p[5] > 4 || len < 8 + 3u * p[5])
                return err_set(e, ERR_INVALID, "the JPEG file has a broken header");
            if (!set_size(out, be16(p + 3), be16(p + 1), e)) return false;
            has_frame = true;
        } else if (marker == 0xda) {
            if (!has_frame) return err_set(e, ERR_INVALID, "the JPEG file has no header");
            has_scan = left(&r) > 0;
        }
    }
    return has_scan || cut(e, "JPEG");
}

/* ---- GIF ---- */

static bool skip_table(struct reader *r, unsigned flags)
{
    return !(flags & 0x80) || take(r, (size_t)3 << ((flags & 7) + 1)) != NULL;
}

static bool skip_blocks(struct reader *r)
{
    const unsigned char *len;
    do {
        len = take(r, 1);
        if (!len || !take(r, *len)) return false;
    } while (*len);
    return true;
}

static bool read_gif(struct image_info *out, struct reader r, struct err *e)
{
    bool has_frame = false;
    const unsigned char *screen = take(&r, 13);
    if (!screen) return cut(e, "GIF");
    if (!set_size(out, le16(screen + 6), le16(screen + 8), e)) return false;
    if (!skip_table(&r, screen[10])) return cut(e, "GIF");
    for (;;) {
        const unsigned char *kind = take(&r, 1);
        if (!kind || *kind == ';') return has_frame || cut(e, "GIF");
        if (*kind == '!') {
            if (!take(&r, 1) || !skip_blocks(&r)) return has_frame || cut(e, "GIF");
        } else if (*kind == ',') {
            const unsigned char *frame = take(&r, 9);
            if (!frame) return has_frame || cut(e, "GIF");
            if (!check_size(le16(frame + 4), le16(frame + 6), e)) return false;
            if (!skip_table(&r, frame[8]) || !take(&r, 1) || !skip_blocks(&r)) return has_frame || cut(e, "GIF");
            has_frame = true;
        } else {
            return has_frame || err_set(e, ERR_INVALID, "the GIF file is damaged");
        }
    }
}

/* ---- WebP ---- */

/* The size in a chunk with pixels. *is_pixels is false for other chunks. */
static bool webp_pixels(bool *is_pixels, uint32_t size[2], const unsigned char *name, const unsigned char *p,
                        uint32_t len, struct err *e)
{
    *is_pixels = true;
    if (is_chunk(name, "VP8 ") && len >= 10 && p[3] == 0x9d && p[4] == 0x01 && p[5] == 0x2a) {
        size[0] = le16(p + 6) & 0x3fff;
        size[1] = le16(p + 8) & 0x3fff;
    } else if (is_chunk(name, "VP8L") && len >= 5 && p[0] == 0x2f) {
        size[0] = (le16(p + 1) & 0x3fff) + 1;
        size[1] = (le24(p + 2) >> 6 & 0x3fff) + 1;
    } else {
        *is_pixels = false;
        if (is_chunk(name, "VP8 ") || is_chunk(name, "VP8L"))
            return err_set(e, ERR_INVALID, "the WebP file has a broken header");
        return true;
    }
    return check_size(size[0], size[1], e);
}

static bool read_webp(struct image_info *out, struct reader r, struct err *e)
{
    bool has_pixels = false, has_canvas = false;
    const unsigned char *riff = take(&r, 12);
    uint32_t total = le16(riff + 4) | le16(riff + 6) << 16;
    if (total < 4 || total - 4 > left(&r)) return cut(e, "WebP");
    r.end = r.at + (total - 4);
    while (left(&r) >= 8) {
        uint32_t size[2] = {0};
        bool is_pixels;
        const unsigned char *head = take(&r, 8);
        uint32_t len = le16(head + 4) | le16(head + 6) << 16;
        const unsigned char *p = take(&r, len);
        if (!p) return cut(e, "WebP");
        if (len & 1) take(&r, 1);
        if (!webp_pixels(&is_pixels, size, head, p, len, e)) return false;
        if (is_chunk(head, "VP8X")) {
            if (len < 10) return err_set(e, ERR_INVALID, "the WebP file has a broken header");
            has_canvas = true;
            if (!set_size(out, le24(p + 4) + 1, le24(p + 7) + 1, e)) return false;
        } else if (is_pixels && !has_canvas && !has_pixels && !set_size(out, size[0], size[1], e)) {
            return false;
        }
        has_pixels = has_pixels || is_pixels || (has_canvas && is_chunk(head, "ANMF") && len > 16);
    }
    return has_pixels || cut(e, "WebP");
}

/* ---- */

static const struct format {
    enum image_format format;
    const char *media_type;
    bool (*read)(struct image_info *out, struct reader r, struct err *e);
    size_t n_skip; /* magic bytes that read does not want to see again */
} formats[] = {
    [IMAGE_PNG] = {IMAGE_PNG, "image/png", read_png, 8},
    [IMAGE_JPEG] = {IMAGE_JPEG, "image/jpeg", read_jpeg, 2},
    [IMAGE_GIF] = {IMAGE_GIF, "image/gif", read_gif, 0},
    [IMAGE_WEBP] = {IMAGE_WEBP, "image/webp", read_webp, 0},
};

const char *image_media_type(enum image_format format)
{
    return formats[format].media_type;
}

static const struct format *format_of(struct str s)
{
    if (str_starts(s, STR("\x89PNG\r\n\x1a\n"))) return &formats[IMAGE_PNG];
    if (str_starts(s, STR("\xff\xd8\xff"))) return &formats[IMAGE_JPEG];
    if (str_starts(s, STR("GIF87a")) || str_starts(s, STR("GIF89a"))) return &formats[IMAGE_GIF];
    if (str_starts(s, STR("RIFF")) && str_eq(str_slice(s, 8, 12), STR("WEBP"))) return &formats[IMAGE_WEBP];
    return NULL;
}

bool image_info_read(struct image_info *out, struct str bytes, struct err *e)
{
    const struct format *f = format_of(bytes);
    *out = (struct image_info){0};
    if (!bytes.len) return err_set(e, ERR_INVALID, "the image is empty");
    if (!f) return err_set(e, ERR_INVALID, "the data is not a PNG, JPEG, GIF or WebP image");
    out->format = f->format;
    const unsigned char *start = (const unsigned char *)bytes.ptr;
    return f->read(out, (struct reader){start + f->n_skip, start + bytes.len}, e);
}
