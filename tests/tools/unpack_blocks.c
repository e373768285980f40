/* unpack_blocks TYPE-ID: raw blocks on standard input, their values as little-endian floats on standard output. The way
 * into src/quant for tests/compare/test_quant.py. */
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "quant/quant.h"

static bool read_all(struct buf *b)
{
    for (;;) {
        char *room = buf_reserve(b, 65536);
        if (!room) return false;
        size_t n = fread(room, 1, 65536, stdin);
        b->len += n;
        if (n == 0) return !ferror(stdin);
    }
}

int main(int argc, char **argv)
{
    const struct quant_format *f = argc == 2 ? quant_format_get((uint32_t)strtoul(argv[1], NULL, 10)) : NULL;
    if (!f || !f->unpack) {
        fprintf(stderr, "usage: unpack_blocks TYPE-ID, one that can be unpacked\n");
        return 2;
    }
    struct buf in;
    buf_init(&in, (size_t)1 << 30);
    if (!read_all(&in) || in.len % f->block_bytes) {
        fprintf(stderr, "unpack_blocks: %zu bytes are no whole number of %s blocks\n", in.len, f->name);
        return 1;
    }
    size_t n = in.len / f->block_bytes * f->block_len;
    float *out = mem_alloc(n * sizeof *out + 1); // [n]
    f->unpack(out, in.ptr, n);
    size_t written = fwrite(out, sizeof *out, n, stdout);
    mem_free(out);
    buf_deinit(&in);
    return written == n ? 0 : 1;
}
