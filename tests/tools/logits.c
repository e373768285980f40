/* logits MODEL.gguf IDS [--cpu-level L] [--cache-type-k T] [--cache-type-v T] [--threads N] [--batch N]: runs the
 * tokens of file IDS (little-endian u32) as one sequence in steps of N tokens and writes the float32 logits of every
 * position to standard output. For tests/compare. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "model/model.h"

struct options {
    const char *model, *ids;
    enum cpu_level level;
    enum kv_type type_k, type_v;
    int threads, batch;
    bool quiet; /* no logits: only what it took, on standard error */
};

static bool parse(struct options *o, int argc, char **argv)
{
    *o = (struct options){.level = cpu_level_detect(), .batch = 32};
    for (int i = 1; i < argc; i++) {
        bool more = i + 1 < argc;
        if (strcmp(argv[i], "--cpu-level") == 0 && more) {
            if (!cpu_level_parse(&o->level, argv[++i])) return false;
        } else if (strcmp(argv[i], "--cache-type-k") == 0 && more) {
            if (!kv_type_parse(&o->type_k, argv[++i])) return false;
        } else if (strcmp(argv[i], "--cache-type-v") == 0 && more) {
            if (!kv_type_parse(&o->type_v, argv[++i])) return false;
        } else if (strcmp(argv[i], "--threads") == 0 && more) {
            o->threads = (int)strtol(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--batch") == 0 && more) {
            o->batch = (int)strtol(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--quiet") == 0) {
            o->quiet = true;
        } else if (!o->model) {
            o->model = argv[i];
        } else if (!o->ids) {
            o->ids = argv[i];
        } else {
            return false;
        }
    }
    return o->ids && o->batch > 0 && o->threads >= 0 && o->level <= cpu_level_detect();
}

/* The file's tokens, for mem_free; NULL when it cannot be read. */
static uint32_t *read_ids(size_t *n, const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    size_t max = 1 << 20;
    uint32_t *ids = mem_alloc(max * sizeof *ids);
    *n = fread(ids, sizeof *ids, max, f);
    fclose(f);
    return ids;
}

static bool run(struct model *m, const struct options *o, const uint32_t *ids, size_t n_ids, struct err *e)
{
    struct model_info info;
    model_info_get(m, &info);
    size_t n_pages = n_ids / KV_PAGE_TOKENS + 1;
    uint8_t *kv = mem_try_map(n_pages * info.page_bytes);
    uint32_t *pages = mem_alloc(n_pages * sizeof *pages);
    float *logits = mem_alloc((size_t)o->batch * info.n_vocab * sizeof *logits); // [batch][n_vocab]
    for (size_t i = 0; i < n_pages; i++) pages[i] = (uint32_t)i;
    bool ok = kv != NULL;
    double start = clock_seconds();
    for (size_t at = 0; ok && at < n_ids;) {
        size_t n = n_ids - at < (size_t)o->batch ? n_ids - at : (size_t)o->batch;
        struct model_span span = {.tokens = ids + at,
                                  .n_tokens = (uint32_t)n,
                                  .pos = (uint32_t)at,
                                  .pages = pages,
                                  .n_logits = o->quiet ? 1 : (uint32_t)n};
        ok = model_forward(m, logits, kv, &span, 1, NULL, e);
        if (ok && !o->quiet) ok = fwrite(logits, sizeof *logits * info.n_vocab, n, stdout) == n;
        at += n;
    }
    double s = clock_seconds() - start;
    if (ok && o->quiet) fprintf(stderr, "%zu tokens in %.3f s: %.1f tok/s\n", n_ids, s, (double)n_ids / s);
    mem_free(logits);
    mem_free(pages);
    if (kv) mem_unmap(kv, n_pages * info.page_bytes);
    return ok;
}

int main(int argc, char **argv)
{
    struct options o;
    if (!parse(&o, argc, argv)) {
        fprintf(stderr, "usage: logits MODEL.gguf IDS [--cpu-level L] [--cache-type-k T] [--cache-type-v T] [--threads "
                        "N] [--batch N] [--quiet]\n");
        return 2;
    }
    struct err e = {0};
    struct compute *c = NULL;
    struct model *m = NULL;
    size_t n_ids = 0;
    uint32_t *ids = read_ids(&n_ids, o.ids);
    double start = clock_seconds();
    struct gguf *g = gguf_open(o.model, &e);
    if (g) c = compute_create(o.threads, o.level, &e);
    struct model_options options = {
        .max_batch_tokens = (uint32_t)o.batch, .max_logits = (uint32_t)o.batch, .type_k = o.type_k, .type_v = o.type_v};
    if (c) m = model_open(g, c, &options, &e);
    if (m && o.quiet) fprintf(stderr, "open: %.3f s\n", clock_seconds() - start);
    bool ok = m && ids && run(m, &o, ids, n_ids, &e);
    if (!ok) fprintf(stderr, "logits: %s\n", ids ? e.msg : "cannot read the token ids");
    model_close(m);
    if (c) compute_destroy(c);
    if (g) gguf_close(g);
    mem_free(ids);
    return ok ? 0 : 1;
}
