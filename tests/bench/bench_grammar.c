/* bench_grammar: compile times, masks and token checks over schemas with instances (maskbench's files), with the
 * vocabulary of a GGUF. Every mask is compared with the check of the token that follows. --walks N writes N random
 * walks through the masks of each schema as JSON lines, for a validator to judge; --json writes the figures for
 * tools/bench-grammar. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "gguf/gguf.h"
#include "grammar/grammar.h"

struct times {
    double *us;
    size_t n, cap;
};
struct bench {
    struct tokenizer *t;
    struct grammar_vocab *v;
    uint32_t *bits;
    struct times compile, mask, check;
    size_t schemas, refused, tokens, valid_refused, invalid_accepted, mask_differs, dead_ends, walks, memory,
        memory_max;
    unsigned n_walks;
    FILE *walk_file;
    char *firsts; // [size] first byte of each token, 0 = none
    uint8_t *lengths;
    struct rng rng;
};

static void add_time(struct times *t, double seconds)
{
    if (t->n == t->cap) {
        t->cap = t->cap ? t->cap * 2 : 1024;
        t->us = mem_realloc(t->us, t->cap * sizeof *t->us);
    }
    t->us[t->n++] = seconds * 1e6;
}

static int cmp_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void print_times(const char *name, struct times *t)
{
    double sum = 0;
    if (t->n == 0) return;
    qsort(t->us, t->n, sizeof *t->us, cmp_double);
    for (size_t i = 0; i < t->n; i++) sum += t->us[i];
    printf("%-10s n %8zu  mean %9.2f  p50 %9.2f  p90 %9.2f  p99 %9.2f  p99.9 %9.2f  max %9.2f us\n", name, t->n,
           sum / (double)t->n, t->us[t->n / 2], t->us[t->n * 90 / 100], t->us[t->n * 99 / 100],
           t->us[t->n * 999 / 1000], t->us[t->n - 1]);
}

/* Seconds of this thread on a processor: on a busy machine the wall clock would count others' turns as ours. */
static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool in_mask(const uint32_t *bits, uint32_t id)
{
    return bits[id / 32] >> (id % 32) & 1;
}

static void instance(struct bench *b, struct grammar *g, json_t *test, const char *id)
{
    struct err e = {0};
    bool valid = json_is_true(json_object_get(test, "valid"));
    char *text = json_dumps(json_object_get(test, "data"), JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    struct token_list ids;
    struct grammar_matcher *m = grammar_matcher_create(g, b->v, &e);
    token_list_init(&ids, 1 << 24);
    bool ok = m && tokenizer_encode(b->t, &ids, str_from(text), false, NULL, 0, &e);
    for (size_t i = 0; ok && i < ids.n; i++) {
        double t0 = cpu_seconds();
        grammar_matcher_mask(m, b->bits);
        double t1 = cpu_seconds(), t2 = clock_seconds();
        ok = grammar_matcher_check(m, ids.ids[i]);
        double t3 = clock_seconds();
        add_time(&b->mask, t1 - t0);
        add_time(&b->check, t3 - t2);
        b->tokens++;
        if (in_mask(b->bits, ids.ids[i]) != ok) {
            b->mask_differs++;
            printf("mask and check differ: %s at token %zu of %.200s\n", id, i, text);
        }
        ok = ok && grammar_matcher_accept(m, ids.ids[i]);
        if (!ok && valid) printf("valid refused: %s at token %zu: %.200s\n", id, i, text);
        if (t1 - t0 > 3e-3) printf("slow mask: %s %.2f ms at token %zu of %.150s\n", id, (t1 - t0) * 1e3, i, text);
    }
    ok = ok && grammar_matcher_may_end(m);
    b->valid_refused += valid && !ok;
    b->invalid_accepted += !valid && ok;
    token_list_deinit(&ids);
    grammar_matcher_destroy(m);
    free(text);
}

/* A random allowed token; while closing, short ones that begin with what ends strings, arrays and objects. */
static uint32_t pick(struct bench *b, size_t n, bool closing)
{
    size_t size = grammar_vocab_size(b->v);
    uint32_t best = 0, least = UINT32_MAX;
    uint64_t k = rng_next(&b->rng) % n;
    for (uint32_t i = 0; i < size; i++) {
        if (!in_mask(b->bits, i)) continue;
        if (!closing && k-- == 0) return i;
        if (!closing) continue;
        if (b->firsts[i] == 0) return i; /* the end */
        bool closes = strchr("}]\"", b->firsts[i]), opens = strchr("{[, \n\t\r", b->firsts[i]);
        uint32_t cost = (uint32_t)(rng_next(&b->rng) % 8) + b->lengths[i] * 4 + (closes ? 0 : opens ? 200 : 30);
        if (cost < least) best = i, least = cost;
    }
    return best;
}

static void read_pieces(struct bench *b)
{
    size_t size = grammar_vocab_size(b->v);
    struct buf piece;
    buf_init(&piece, 4096);
    b->firsts = mem_zalloc(size);
    b->lengths = mem_zalloc(size);
    for (uint32_t i = 0; i < size; i++) {
        buf_clear(&piece);
        if (!tokenizer_piece(b->t, &piece, i, false) || piece.len == 0) continue;
        b->firsts[i] = piece.ptr[0];
        b->lengths[i] = piece.len > 50 ? 50 : (uint8_t)piece.len;
    }
    buf_deinit(&piece);
}

static void walk(struct bench *b, struct grammar *g, const char *id, json_t *schema)
{
    struct err e = {0};
    struct grammar_matcher *m = grammar_matcher_create(g, b->v, &e);
    struct buf text;
    buf_init(&text, 1 << 20);
    size_t limit = 5 + rng_next(&b->rng) % 40, i = 0;
    bool done = false;
    for (; m && i < 1000; i++) {
        size_t n = grammar_matcher_mask(m, b->bits);
        if (n == 0) {
            b->dead_ends++;
            printf("dead end: %s after %.*s\n", id, STR_ARG(str_slice(buf_str(&text), 0, 300)));
            break;
        }
        uint32_t token = pick(b, n, i > limit);
        if (!grammar_matcher_accept(m, token)) {
            b->mask_differs++;
            printf("in the mask, not accepted: %s token %u after %.*s\n", id, token,
                   STR_ARG(str_slice(buf_str(&text), 0, 300)));
            break;
        }
        if (tokenizer_is_eog(b->t, token)) {
            done = true;
            break;
        }
        tokenizer_piece(b->t, &text, token, false);
    }
    b->walks++;
    if (!done && i == 1000) printf("not finished: %s: %.*s\n", id, STR_ARG(str_slice(buf_str(&text), 0, 200)));
    if (done && !grammar_check(g, buf_str(&text), &e))
        printf("walk refused by the check: %s: %.300s: %s\n", id, text.ptr ? text.ptr : "", e.msg);
    if (done && b->walk_file) {
        json_t *line = json_pack("{sssssO}", "id", id, "text", text.ptr ? text.ptr : "", "schema", schema);
        if (line) json_dumpf(line, b->walk_file, JSON_COMPACT), fputc('\n', b->walk_file);
        json_decref(line);
    }
    buf_deinit(&text);
    grammar_matcher_destroy(m);
}

static void schema_line(struct bench *b, json_t *line)
{
    struct grammar_options o;
    struct err e = {0};
    size_t i;
    json_t *x, *schema = json_object_get(line, "schema");
    const char *id = json_string_value(json_object_get(line, "id"));
    char *text = json_dumps(schema, JSON_ENCODE_ANY);
    grammar_options_init(&o);
    double t0 = cpu_seconds();
    struct grammar *g = grammar_from_schema(str_from(text), &o, &e);
    double t1 = cpu_seconds();
    add_time(&b->compile, t1 - t0);
    if (t1 - t0 > 10e-3) printf("slow compile: %s %.1f ms%s\n", id, (t1 - t0) * 1e3, g ? "" : " (refused)");
    b->schemas++;
    b->refused += g == NULL;
    if (g) {
        json_array_foreach(json_object_get(line, "tests"), i, x) instance(b, g, x, id);
        if (grammar_satisfiable(g))
            for (unsigned k = 0; k < b->n_walks; k++) walk(b, g, id, schema);
        size_t bytes = grammar_memory(g);
        b->memory += bytes;
        if (bytes > b->memory_max) b->memory_max = bytes;
    }
    grammar_unref(g);
    free(text);
}

static bool run_file(struct bench *b, const char *path)
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t cap = 0, n = 0;
    int c;
    if (!f) return false;
    do {
        c = fgetc(f);
        if (c != '\n' && c != EOF) {
            if (n + 1 >= cap) line = mem_realloc(line, cap = cap ? cap * 2 : 65536);
            line[n++] = (char)c;
            continue;
        }
        json_t *j = n ? json_loadb(line, n, JSON_ALLOW_NUL, NULL) : NULL;
        if (j) schema_line(b, j);
        json_decref(j);
        n = 0;
    } while (c != EOF);
    mem_free(line);
    fclose(f);
    return true;
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    struct err e = {0};
    int i = 1;
    rng_seed(&b.rng, 1);
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        if (strcmp(argv[i], "--walks") == 0) b.n_walks = (unsigned)strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--out") == 0) b.walk_file = fopen(argv[i + 1], "w");
        else if (strcmp(argv[i], "--seed") == 0) rng_seed(&b.rng, strtoull(argv[i + 1], NULL, 10));
    }
    if (argc - i < 2) {
        fprintf(stderr, "usage: bench_grammar [--walks N] [--out FILE] [--seed N] MODEL.gguf SCHEMAS.jsonl...\n");
        return 2;
    }
    struct gguf *gguf = gguf_open(argv[i], &e);
    b.t = gguf ? tokenizer_create(gguf, &e) : NULL;
    double t0 = clock_seconds();
    b.v = b.t ? grammar_vocab_create(b.t, &e) : NULL;
    if (!b.v) return fprintf(stderr, "%s: %s\n", argv[i], e.msg), 1;
    printf("vocabulary: %zu tokens, trie built in %.0f ms, %.1f MiB\n", grammar_vocab_size(b.v),
           (clock_seconds() - t0) * 1e3, (double)grammar_vocab_memory(b.v) / 1048576);
    b.bits = mem_zalloc(GRAMMAR_MASK_WORDS(grammar_vocab_size(b.v)) * sizeof *b.bits);
    read_pieces(&b);
    for (i++; i < argc; i++)
        if (!run_file(&b, argv[i])) fprintf(stderr, "%s: cannot be read\n", argv[i]);
    print_times("compile", &b.compile);
    print_times("mask", &b.mask);
    print_times("check", &b.check);
    printf("%zu schemas, %zu refused, %zu tokens, %zu valid refused, %zu invalid accepted, %zu masks differ from the "
           "check\n",
           b.schemas, b.refused, b.tokens, b.valid_refused, b.invalid_accepted, b.mask_differs);
    if (b.walks) printf("%zu random walks, %zu dead ends\n", b.walks, b.dead_ends);
    printf("memory of a grammar after use: mean %.0f KiB, most %.0f KiB\n",
           (double)b.memory / (double)(b.schemas ? b.schemas : 1) / 1024, (double)b.memory_max / 1024);
    if (b.walk_file) fclose(b.walk_file);
    grammar_vocab_destroy(b.v);
    tokenizer_destroy(b.t);
    gguf_close(gguf);
    mem_free(b.bits);
    mem_free(b.firsts);
    mem_free(b.lengths);
    mem_free(b.compile.us), mem_free(b.mask.us), mem_free(b.check.us);
    return b.mask_differs || b.invalid_accepted || b.dead_ends;
}
