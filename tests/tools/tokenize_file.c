/* tokenize_file: ids of a file with the vocabulary of a GGUF, for tools/compare-tokenizers and for measuring.
 *   tokenize_file [--control] MODEL FILE        one id a line
 *   tokenize_file --time N MODEL FILE           time of loading and of N encodings, round trip checked */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "tokenizer/tokenizer.h"

static bool read_file(struct buf *out, const char *path)
{
    FILE *f = fopen(path, "rb");
    char chunk[65536];
    size_t n;
    if (!f) return false;
    while ((n = fread(chunk, 1, sizeof chunk, f)) > 0) (void)buf_append(out, (struct str){chunk, n});
    fclose(f);
    return !out->failed;
}

static void report(const struct tokenizer *t, struct str text, const struct token_list *ids, uint64_t load_ns,
                   uint64_t best_ns)
{
    struct buf back;
    buf_init(&back, SIZE_MAX / 2);
    bool same = tokenizer_decode(t, &back, ids->ids, ids->n, true) && str_eq(buf_str(&back), text);
    printf("load %.1f ms, %zu bytes, %zu tokens, best %.2f ms = %.1f MB/s, round trip %s\n", (double)load_ns / 1e6,
           text.len, ids->n, (double)best_ns / 1e6, (double)text.len * 1e3 / (double)best_ns,
           same ? "same" : "differs");
    buf_deinit(&back);
}

static int run(const char *model, const char *path, bool control, int repeat)
{
    struct err e = {0};
    struct buf text;
    struct token_list ids;
    uint64_t start, best_ns = UINT64_MAX;
    buf_init(&text, (size_t)1 << 30);
    token_list_init(&ids, SIZE_MAX / 8);
    struct gguf *g = gguf_open(model, &e);
    start = clock_ns();
    struct tokenizer *t = g ? tokenizer_create(g, &e) : NULL;
    uint64_t load_ns = clock_ns() - start;
    bool ok = t && (read_file(&text, path) || err_set(&e, ERR_IO, "cannot read %s", path));
    for (int i = 0; ok && i < (repeat ? repeat : 1); i++) {
        ids.n = 0;
        start = clock_ns();
        ok = tokenizer_encode(t, &ids, buf_str(&text), control, NULL, 0, &e);
        uint64_t ns = clock_ns() - start;
        best_ns = ns < best_ns ? ns : best_ns;
    }
    if (!ok) fprintf(stderr, "tokenize_file: %s\n", e.msg);
    if (ok && repeat) report(t, buf_str(&text), &ids, load_ns, best_ns);
    for (size_t i = 0; ok && !repeat && i < ids.n; i++) printf("%u\n", (unsigned)ids.ids[i]);
    token_list_deinit(&ids);
    buf_deinit(&text);
    tokenizer_destroy(t);
    gguf_close(g);
    return ok ? 0 : 1;
}

int main(int argc, char **argv)
{
    bool control = argc == 4 && strcmp(argv[1], "--control") == 0;
    bool timed = argc == 5 && strcmp(argv[1], "--time") == 0;
    if (argc != 3 && !control && !timed) {
        fprintf(stderr, "usage: tokenize_file [--control | --time N] MODEL FILE\n");
        return 2;
    }
    return run(argv[argc - 2], argv[argc - 1], control, timed ? (int)strtol(argv[2], NULL, 10) : 0);
}
