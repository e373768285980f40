/* grammar_walks: random texts that a grammar's masks lead to, for a validator that we did not write to judge.
 *   grammar_walks [--walks N] [--seed N] [--steps N] [--only ID] [--whole N] MODEL.gguf SCHEMAS.jsonl... > TEXTS.jsonl
 * Each line of the input has "id" and "schema"; each line of the output "id" and "text". Every step compares the mask
 * with the check of some tokens, inside and outside of it, one mask in N (--whole) with the check of all tokens. After
 * some random tokens what closes things is preferred, so that walks end. The exit status is 1 when a mask was empty,
 * differed from the check, or a finished text was refused by grammar_check, or a walk did not end within its steps. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "gguf/gguf.h"
#include "grammar/grammar.h"

#define TRIES 24      /* random members of a mask that are looked at for one that closes */
#define MAX_HINTS 400 /* names and texts of the schema */

struct walks {
    struct tokenizer *t;
    struct grammar_vocab *v;
    uint32_t *bits, n_words;
    char *firsts; // [size] first byte of each token, 0 = none
    uint8_t *lengths;
    uint32_t *bytes; // [n_bytes] tokens of one byte, and those that end
    size_t n_bytes;
    uint32_t byte_token[256]; /* the token of one byte; UINT32_MAX = none */
    char *hints[MAX_HINTS];   /* as JSON writes them, without the first quote */
    size_t n_hints;
    const char *queue; /* what is left of a hint that is being written */
    struct rng rng;
    unsigned n_walks, max_steps, whole; /* whole: every so many masks are compared with the check of all tokens */
    const char *only;
    size_t schemas, refused, walks, steps, dead_ends, differs, unfinished, wrong;
    double *us; // of masks, a sample
    size_t n_us, cap_us;
};

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool in_mask(const struct walks *w, uint32_t id)
{
    return w->bits[id / 32] >> (id % 32) & 1;
}

/* Some member of the mask: the first at or behind a random place. */
static uint32_t some(struct walks *w)
{
    uint32_t at = (uint32_t)(rng_next(&w->rng) % (w->n_words * 32)), word = at / 32;
    uint32_t bits = w->bits[word] & (UINT32_MAX << (at % 32));
    while (!bits) bits = w->bits[word = (word + 1) % w->n_words];
    return word * 32 + (uint32_t)__builtin_ctz(bits);
}

static uint32_t cost(struct walks *w, uint32_t id)
{
    char c = w->firsts[id];
    if (c == 0) return 0;                     /* the end */
    if (c == '"') return w->lengths[id] * 4u; /* ends a text wherever it can */
    bool closes = strchr("}]", c), opens = strchr("{[, \n\t\r\\", c);
    return 1 + (uint32_t)(rng_next(&w->rng) % 8) + w->lengths[id] * 4u + (closes ? 0 : opens ? 200 : 30);
}

/* Names and texts of the schema: a required member would not be met by chance. */
static void collect_hints(struct walks *w, json_t *v)
{
    const char *key;
    size_t i;
    json_t *x;
    if (json_is_string(v) && w->n_hints < MAX_HINTS) {
        char *text = json_dumps(v, JSON_ENCODE_ANY);
        size_t n = 0;
        for (const char *p = text + 1; text && *p; p++) /* anchors of patterns are no part of a text */
            if (!strchr("^$", *p)) text[n++] = *p;
        if (text) text[n] = 0, w->hints[w->n_hints++] = text;
    }
    json_array_foreach(v, i, x) collect_hints(w, x);
    json_object_foreach(v, key, x)
    {
        json_t *name = json_string(key);
        collect_hints(w, name);
        json_decref(name);
        collect_hints(w, x);
    }
}

static uint32_t of_byte(const struct walks *w, char c)
{
    uint32_t token = w->byte_token[(uint8_t)c];
    return token != UINT32_MAX && in_mask(w, token) ? token : UINT32_MAX;
}

/* A hint that can be written here, whole or (in a text) without its quote. */
static const char *find_hint(struct walks *w, struct grammar_matcher *m, bool whole)
{
    size_t from = rng_next(&w->rng) % (w->n_hints ? w->n_hints : 1);
    for (size_t i = 0; i < w->n_hints; i++) {
        const char *hint = w->hints[(from + i) % w->n_hints];
        struct str s = str_from(hint);
        if (!whole) s.len--;
        if (s.len == 0 || !grammar_matcher_feed(m, s)) continue;
        grammar_matcher_rollback(m, 1);
        return hint;
    }
    return NULL;
}

/* In a text that is to end: the rest of a hint, a digit behind a digit, or now and then another beginning of a value.
 */
static uint32_t guided(struct walks *w, struct grammar_matcher *m, struct str text)
{
    static const char opens[] = "{[,:", starts[] = "\"{[tfn-0123456789";
    uint32_t token;
    if (w->queue && *w->queue && (token = of_byte(w, *w->queue)) != UINT32_MAX) return w->queue++, token;
    w->queue = NULL;
    char last = text.len ? text.ptr[text.len - 1] : 0;
    if (last == '"' || rng_next(&w->rng) % 16 == 0) {
        w->queue = find_hint(w, m, last == '"');
        if (w->queue && (token = of_byte(w, *w->queue)) != UINT32_MAX) return w->queue++, token;
    }
    if (last >= '0' && last <= '9' && rng_next(&w->rng) % 4) return of_byte(w, (char)('0' + rng_next(&w->rng) % 10));
    if (rng_next(&w->rng) % 8 == 0) return of_byte(w, (char)(' ' + rng_next(&w->rng) % 95));
    while (text.len > 0 && strchr(" \n\r\t", text.ptr[text.len - 1])) text.len--;
    if (text.len == 0 || !strchr(opens, text.ptr[text.len - 1]) || rng_next(&w->rng) % 4) return UINT32_MAX;
    return of_byte(w, starts[rng_next(&w->rng) % (sizeof starts - 1)]);
}

static uint32_t closing(struct walks *w, struct grammar_matcher *m, struct str text)
{
    uint32_t best = guided(w, m, text), least;
    if (best != UINT32_MAX) return best;
    best = some(w);
    least = cost(w, best);
    for (size_t i = 0; i < w->n_bytes + TRIES; i++) {
        uint32_t id = i < w->n_bytes ? w->bytes[i] : some(w), c;
        if (in_mask(w, id) && (c = cost(w, id)) < least) best = id, least = c;
    }
    return best;
}

static bool read_pieces(struct walks *w)
{
    size_t size = grammar_vocab_size(w->v);
    struct buf piece;
    buf_init(&piece, 4096);
    w->n_words = (uint32_t)GRAMMAR_MASK_WORDS(size);
    w->bits = mem_zalloc((w->n_words + 1) * sizeof *w->bits);
    w->firsts = mem_zalloc(size);
    w->lengths = mem_zalloc(size);
    w->bytes = mem_zalloc(size * sizeof *w->bytes);
    memset(w->byte_token, 0xff, sizeof w->byte_token);
    for (uint32_t i = 0; i < size; i++) {
        buf_clear(&piece);
        bool some_text = tokenizer_piece(w->t, &piece, i, false) && piece.len > 0;
        if (some_text) w->firsts[i] = piece.ptr[0];
        w->lengths[i] = piece.len > 50 ? 50 : (uint8_t)piece.len;
        if (piece.len == 1 && some_text) w->byte_token[(uint8_t)piece.ptr[0]] = i;
        if (piece.len == 1 || tokenizer_is_eog(w->t, i)) w->bytes[w->n_bytes++] = i;
        if (tokenizer_is_eog(w->t, i)) w->firsts[i] = 0;
    }
    buf_deinit(&piece);
    return true;
}

static void add_time(struct walks *w, double seconds)
{
    if (w->n_us == w->cap_us) {
        w->cap_us = w->cap_us ? w->cap_us * 2 : 4096;
        w->us = mem_realloc(w->us, w->cap_us * sizeof *w->us);
    }
    w->us[w->n_us++] = seconds * 1e6;
}

/* One line, whatever the text holds. */
static void show(struct str text)
{
    for (size_t i = text.len > 300 ? text.len - 300 : 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c >= 0x20 && c != 0x7f) putc(c, stderr);
        else fprintf(stderr, "\\x%02x", c);
    }
}

static void complain(struct walks *w, const char *what, const char *id, struct str text, uint32_t token)
{
    struct buf piece;
    buf_init(&piece, 4096);
    tokenizer_piece(w->t, &piece, token, false);
    fprintf(stderr, "%s: %s: \"", what, id);
    show(buf_str(&piece));
    fprintf(stderr, "\" after ");
    show(text);
    putc('\n', stderr);
    buf_deinit(&piece);
}

/* The mask here; false when it is empty or not the set that the check accepts. */
static bool look(struct walks *w, struct grammar_matcher *m, const char *id, struct str text)
{
    double t0 = cpu_seconds();
    size_t n = grammar_matcher_mask(m, w->bits), size = grammar_vocab_size(w->v);
    double t1 = cpu_seconds();
    add_time(w, t1 - t0);
    if (t1 - t0 > 3e-3) {
        char what[64];
        snprintf(what, sizeof what, "slow mask %.2f ms", (t1 - t0) * 1e3);
        complain(w, what, id, text, 0);
    }
    w->steps++;
    if (n == 0) return w->dead_ends++, complain(w, "dead end", id, text, 0), false;
    bool all = w->whole && rng_next(&w->rng) % w->whole == 0;
    for (size_t i = 0; i < (all ? size : 6); i++) {
        uint32_t token = all ? (uint32_t)i : i < 2 ? some(w) : (uint32_t)(rng_next(&w->rng) % size);
        if (grammar_matcher_check(m, token) == in_mask(w, token)) continue;
        w->differs++;
        complain(w, in_mask(w, token) ? "in the mask, refused by the check" : "accepted by the check, not in the mask",
                 id, text, token);
        return false;
    }
    return true;
}

static void walk(struct walks *w, struct grammar *g, const char *id)
{
    struct err e = {0};
    struct grammar_matcher *m = grammar_matcher_create(g, w->v, &e);
    struct buf text;
    buf_init(&text, 1 << 20);
    size_t limit = 5 + rng_next(&w->rng) % 40;
    bool done = false, ok = m != NULL;
    w->queue = NULL;
    for (size_t i = 0; ok && !done && i < w->max_steps; i++) {
        if (!(ok = look(w, m, id, buf_str(&text)))) break;
        uint32_t token = i > limit ? closing(w, m, buf_str(&text)) : some(w);
        if (!(ok = grammar_matcher_accept(m, token)))
            w->differs++, complain(w, "not accepted", id, buf_str(&text), token);
        done = ok && tokenizer_is_eog(w->t, token);
        if (ok && !done) tokenizer_piece(w->t, &text, token, false);
    }
    w->walks++;
    if (ok && !done) w->unfinished++, complain(w, "not finished", id, buf_str(&text), 0);
    if (done && !grammar_check(g, buf_str(&text), &e)) w->wrong++, complain(w, e.msg, id, buf_str(&text), 0);
    if (done) {
        json_t *line = json_pack("{ss}", "id", id);
        if (json_object_set_new(line, "text", json_stringn(text.ptr ? text.ptr : "", text.len)) != 0)
            json_decref(line), line = NULL;
        if (line) json_dumpf(line, stdout, JSON_COMPACT), putchar('\n');
        else w->wrong++, complain(w, "not UTF-8", id, buf_str(&text), 0);
        json_decref(line);
    }
    buf_deinit(&text);
    grammar_matcher_destroy(m);
}

static void schema_line(struct walks *w, json_t *line)
{
    struct grammar_options o;
    struct err e = {0};
    const char *id = json_string_value(json_object_get(line, "id"));
    if (w->only && strcmp(w->only, id ? id : "") != 0) return;
    char *text = json_dumps(json_object_get(line, "schema"), JSON_ENCODE_ANY);
    grammar_options_init(&o);
    struct grammar *g = grammar_from_schema(str_from(text), &o, &e);
    collect_hints(w, json_object_get(line, "schema"));
    w->schemas++;
    w->refused += g == NULL;
    if (g && grammar_satisfiable(g))
        for (unsigned k = 0; k < w->n_walks; k++) walk(w, g, id);
    while (w->n_hints > 0) free(w->hints[--w->n_hints]);
    grammar_unref(g);
    free(text);
}

static bool run_file(struct walks *w, const char *path)
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    if (!f) return false;
    while ((n = getline(&line, &cap, f)) > 0) {
        json_t *j = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, NULL);
        if (j) schema_line(w, j);
        json_decref(j);
    }
    free(line);
    fclose(f);
    return true;
}

static int cmp_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static void report(struct walks *w)
{
    qsort(w->us, w->n_us, sizeof *w->us, cmp_double);
    fprintf(stderr,
            "%zu schemas, %zu refused, %zu walks, %zu steps: %zu dead ends, %zu masks differ, %zu not finished, %zu "
            "wrong\n",
            w->schemas, w->refused, w->walks, w->steps, w->dead_ends, w->differs, w->unfinished, w->wrong);
    if (w->n_us)
        fprintf(stderr, "masks (processor time): p50 %.2f  p99 %.2f  p99.9 %.2f  max %.2f us\n", w->us[w->n_us / 2],
                w->us[w->n_us * 99 / 100], w->us[w->n_us * 999 / 1000], w->us[w->n_us - 1]);
}

int main(int argc, char **argv)
{
    struct walks w = {.n_walks = 10, .max_steps = 5000};
    struct err e = {0};
    int i = 1;
    rng_seed(&w.rng, 1);
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        if (strcmp(argv[i], "--walks") == 0) w.n_walks = (unsigned)strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0) rng_seed(&w.rng, strtoull(argv[i + 1], NULL, 10));
        else if (strcmp(argv[i], "--steps") == 0) w.max_steps = (unsigned)strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--whole") == 0) w.whole = (unsigned)strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--only") == 0) w.only = argv[i + 1];
    }
    if (argc - i < 2)
        return fprintf(stderr, "usage: grammar_walks [--walks N] [--seed N] MODEL.gguf SCHEMAS.jsonl...\n"), 2;
    struct gguf *gguf = gguf_open(argv[i], &e);
    w.t = gguf ? tokenizer_create(gguf, &e) : NULL;
    w.v = w.t ? grammar_vocab_create(w.t, &e) : NULL;
    if (!w.v || !read_pieces(&w)) return fprintf(stderr, "%s: %s\n", argv[i], e.msg), 1;
    bool ok = true;
    for (i++; i < argc; i++)
        if (!run_file(&w, argv[i])) ok = false, fprintf(stderr, "%s: cannot be read\n", argv[i]);
    report(&w);
    grammar_vocab_destroy(w.v);
    tokenizer_destroy(w.t);
    gguf_close(gguf);
    mem_free(w.bits), mem_free(w.firsts), mem_free(w.lengths), mem_free(w.bytes), mem_free(w.us);
    return !ok || w.dead_ends || w.differs || w.unfinished || w.wrong;
}
