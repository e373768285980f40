/* oracle_images: pictures with their sizes, and such as must be refused. Where the set allows a choice, both count. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "media/media.h"
#include "oracle.h"

struct set {
    const char *folder;
    struct oracle_count *count;
};

static bool has_choice(const char *expect)
{
    return expect && (strstr(expect, " or ") || strstr(expect, "decoded"));
}

static void check(void *ctx, json_t *line)
{
    struct set *set = ctx;
    char path[4096];
    size_t len;
    const char *file = json_string_value(json_object_get(line, "file"));
    snprintf(path, sizeof path, "%s/%s", set->folder, file ? file : "");
    char *bytes = oracle_read(&len, path);
    struct image_info info;
    struct err e = {0};
    bool is_valid = json_is_true(json_object_get(line, "valid"));
    bool ok = bytes && image_info_read(&info, (struct str){bytes, len}, &e);
    uint32_t width = (uint32_t)json_integer_value(json_object_get(line, "width"));
    uint32_t height = (uint32_t)json_integer_value(json_object_get(line, "height"));
    /* The figures are of the upright picture. */
    bool same =
        ok && ((info.width == width && info.height == height) || (info.width == height && info.height == width));
    if (!bytes) oracle_fail(set->count, file ? file : "?", "cannot be read");
    else if (is_valid && !ok) oracle_fail(set->count, file, e.msg);
    else if (is_valid && !same) oracle_fail(set->count, file, "another size");
    else if (!is_valid && ok && !has_choice(json_string_value(json_object_get(line, "expect"))))
        oracle_fail(set->count, file, "accepted");
    else set->count->passed++;
    mem_free(bytes);
}

bool oracle_images(const char *data_dir, struct oracle_count *count)
{
    struct set set = {data_dir, count};
    return oracle_each_line(data_dir, "images", check, &set);
}
