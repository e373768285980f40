/* Base64, and what a picture's file says about itself. */
#include <string.h>

#include "media/media.h"
#include "unit.h"

static const char png[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\b\2\0\0\0\x90wS\xde\0\0\0\fIDATx\x9c"
                          "c`db\6\0\0\x0e\0\7\xd7o\xe4x\0\0\0\0IEND\xae\x42`\x82";
static const char gif[] = "GIF89a\2\0\3\0\0\0\0!\xf9\4\0\0\0\0\0,\0\0\0\0\2\0\3\0\0\2\2\x4c\1\0;";
static const char jpeg[] = "\xff\xd8\xff\xe0\0\4\0\0\xff\xc0\0\x11\b\0\3\0\2\3\1\x11\0\2\x11\1\3\x11\1"
                           "\xff\xda\0\b\1\1\0\0\x3f\0\x12\xff\0\x56\xff\xd9";
static const char webp_lossless[] = "RIFF\x12\0\0\0WEBPVP8L\5\0\0\0\x2f\1\x80\0\0\0";
static const char webp_lossy[] = "RIFF\x16\0\0\0WEBPVP8 \n\0\0\0\x10\0\0\x9d\1\x2a\2\0\3\0";
static const char webp_animated[] = "RIFF\x30\0\0\0WEBPVP8X\n\0\0\0\2\0\0\0\1\0\0\2\0\0ANMF\x11\0\0\0"
                                    "\0\0\0\0\0\0\1\0\0\2\0\0\0\0\0\0\0\0";
#define BYTES(array) ((struct str){array, sizeof(array) - 1})

static const struct {
    struct str bytes;
    enum image_format format;
    const char *media_type;
    uint32_t width, height;
} good[] = {
    {BYTES(png), IMAGE_PNG, "image/png", 1, 1},          {BYTES(gif), IMAGE_GIF, "image/gif", 2, 3},
    {BYTES(jpeg), IMAGE_JPEG, "image/jpeg", 2, 3},       {BYTES(webp_lossless), IMAGE_WEBP, "image/webp", 2, 3},
    {BYTES(webp_lossy), IMAGE_WEBP, "image/webp", 2, 3}, {BYTES(webp_animated), IMAGE_WEBP, "image/webp", 2, 3},
};
#define N_GOOD (sizeof good / sizeof *good)

START_TEST(base64_is_decoded)
{
    static const struct {
        const char *text, *bytes; /* NULL: refused */
    } cases[] = {
        {"", ""},         {"QQ==", "A"},         {"QUI=", "AB"},           {"QUJD", "ABC"}, {"QUJDRA==", "ABCD"},
        {"QQ", "A"},      {"QU\r\nJD\n", "ABC"}, {"+/+/", "\xfb\xff\xbf"}, {"Q", NULL},     {"QQ=", NULL},
        {"QQ===", NULL},  {"QUJD=", NULL},       {"QQ==QQ==", NULL},       {"Q*Q=", NULL},  {"QUJDQ", NULL},
        {"data:x", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char out[40];
        size_t n = 0;
        struct str text = str_from(cases[i].text);
        ck_assert_uint_le(BASE64_MAX_BYTES(text.len), sizeof out);
        bool ok = base64_decode(out, &n, text);
        ck_assert_msg(ok == (cases[i].bytes != NULL), "%s", cases[i].text);
        if (ok) ck_assert_msg(str_eq((struct str){out, n}, str_from(cases[i].bytes)), "%s", cases[i].text);
        ck_assert_uint_le(n, BASE64_MAX_BYTES(text.len));
    }
}
END_TEST

START_TEST(formats_are_known_by_their_bytes)
{
    for (size_t i = 0; i < N_GOOD; i++) {
        struct image_info info;
        struct err e = {0};
        ck_assert_msg(image_info_read(&info, good[i].bytes, &e), "%zu: %s", i, e.msg);
        ck_assert_int_eq(info.format, good[i].format);
        ck_assert_str_eq(image_media_type(info.format), good[i].media_type);
        ck_assert_uint_eq(info.width, good[i].width);
        ck_assert_uint_eq(info.height, good[i].height);
    }
}
END_TEST

START_TEST(a_file_that_is_cut_is_refused)
{
    for (size_t i = 0; i < N_GOOD; i++)
        for (size_t len = 0; len < good[i].bytes.len; len++) {
            struct image_info info;
            struct err e = {0};
            /* A heap copy, so that the sanitizers see a step over the end. */
            char *bytes = malloc(len ? len : 1);
            memcpy(bytes, good[i].bytes.ptr, len);
            bool ok = image_info_read(&info, (struct str){bytes, len}, &e);
            free(bytes);
            /* The last bytes of these two only say that nothing follows. */
            bool may = (good[i].format == IMAGE_JPEG && len + 6 > good[i].bytes.len) ||
                       (good[i].format == IMAGE_GIF && len + 1 == good[i].bytes.len);
            ck_assert_msg(ok == may, "%zu: %zu bytes: %s", i, len, e.msg);
        }
}
END_TEST

/* The bytes with some of them replaced must be refused for that reason. */
static void refuse(struct str bytes, size_t at, const char *patch, size_t n, enum err_kind kind, const char *why)
{
    struct image_info info;
    struct err e = {0};
    char copy[200];
    ck_assert_uint_le(bytes.len, sizeof copy);
    memcpy(copy, bytes.ptr, bytes.len);
    memcpy(copy + at, patch, n);
    ck_assert_msg(!image_info_read(&info, (struct str){copy, bytes.len}, &e), "accepted: %s", why);
    ck_assert_int_eq(e.kind, kind);
    ck_assert_msg(strstr(e.msg, why) != NULL, "%s instead of %s", e.msg, why);
}
#define REFUSE(array, at, patch, kind, why) refuse(BYTES(array), at, patch, sizeof(patch) - 1, kind, why)

START_TEST(damage_and_bombs_are_refused)
{
    REFUSE(png, 16, "\1", ERR_INVALID, "checksum");
    REFUSE(png, 45, "y", ERR_INVALID, "checksum");
    REFUSE(png, 0, "xPNG", ERR_INVALID, "not a PNG, JPEG, GIF or WebP");
    REFUSE(gif, 6, "\xff\xff\xff\xff", ERR_TOO_LARGE, "65535 x 65535");
    REFUSE(gif, 6, "\0\0", ERR_INVALID, "no size");
    REFUSE(gif, 26, "\xff\xff", ERR_TOO_LARGE, "at most 8000");
    REFUSE(gif, 21, "?", ERR_INVALID, "damaged");
    REFUSE(jpeg, 13, "\xff\xff", ERR_TOO_LARGE, "2 x 65535");
    REFUSE(jpeg, 13, "\0\0", ERR_INVALID, "no size");
    REFUSE(jpeg, 17, "\5", ERR_INVALID, "broken header");
    REFUSE(jpeg, 9, "\xda", ERR_INVALID, "no header");
    REFUSE(webp_lossless, 21, "\xff\xff", ERR_TOO_LARGE, "at most 8000");
    REFUSE(webp_lossless, 20, "\0", ERR_INVALID, "broken header");
    REFUSE(webp_lossy, 26, "\xff\xff", ERR_TOO_LARGE, "16383");
    REFUSE(webp_lossy, 23, "\0", ERR_INVALID, "broken header");
    REFUSE(webp_lossy, 16, "\xff\xff\xff\xff", ERR_INVALID, "cut off");
    REFUSE(webp_animated, 24, "\xff\xff\xff", ERR_TOO_LARGE, "at most 8000");
    REFUSE(webp_animated, 30, "XXXX", ERR_INVALID, "cut off");
    REFUSE(webp_animated, 12, "XXXX", ERR_INVALID, "cut off"); /* frames without a canvas */
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, base64_is_decoded);
    tcase_add_test(tc, formats_are_known_by_their_bytes);
    tcase_add_test(tc, a_file_that_is_cut_is_refused);
    tcase_add_test(tc, damage_and_bombs_are_refused);
}

void add_pdf(TCase *tc);
UNIT_MAIN("media", add_tests, add_pdf)
