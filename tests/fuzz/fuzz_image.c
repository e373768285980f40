/* Fuzzes the reader of picture headers, and base64: any bytes are refused with a text, or have a size within the limit.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "media/media.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool ok)
{
    if (!ok) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct image_info info;
    struct err e = {0};
    struct str bytes = {(const char *)data, size};
    char *out = mem_alloc(BASE64_MAX_BYTES(size));
    size_t n = 0;
    if (base64_decode(out, &n, bytes)) require(n <= size);
    require(n <= BASE64_MAX_BYTES(size));
    mem_free(out);
    if (image_info_read(&info, bytes, &e))
        require(info.width && info.height && info.width <= IMAGE_MAX_SIDE && info.height <= IMAGE_MAX_SIDE &&
                image_media_type(info.format));
    else require((e.kind == ERR_INVALID || e.kind == ERR_TOO_LARGE) && e.msg[0]);
    return 0;
}
