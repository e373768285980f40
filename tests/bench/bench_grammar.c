/* bench_grammar: compile times, masks and token checks over schemas with instances (maskbench's files), with the
 * vocabulary of a GGUF; every mask is compared with the check of the token that follows. --tools DIR compiles the tool
 * lists of a folder, each as one request. --tokens FILE writes the ids of each instance, for other engines to take the
 * same way; --json FILE writes the figures for tools/bench-grammar. Times of masks and compilation are the thread's
 * processor time, those of checks wall time (asking for processor time takes longer than a check). */
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
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
    struct times compile, mask, check, lists;
    size_t schemas, passed, refused, tokens, valid_refused, invalid_accepted, mask_differs, memory, memory_max, slow;
    FILE *tokens_file;
    json_t *refusals; /* reason -> schemas */
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

static json_t *print_times(const char *name, struct times *t)
{
    double sum = 0;
    if (t->n == 0) return json_null();
    qsort(t->us, t->n, sizeof *t->us, cmp_double);
    for (size_t i = 0; i < t->n; i++) sum += t->us[i];
    double mean = sum / (double)t->n, p50 = t->us[t->n / 2], p90 = t->us[t->n * 90 / 100], p99 = t->us[t->n * 99 / 100],
           p999 = t->us[t->n * 999 / 1000], most = t->us[t->n - 1];
    printf("%-10s n %8zu  mean %9.2f  p50 %9.2f  p90 %9.2f  p99 %9.2f  p99.9 %9.2f  max %9.2f us\n", name, t->n, mean,
           p50, p90, p99, p999, most);
    return json_pack("{sIsfsfsfsfsfsf}", "n", (json_int_t)t->n, "mean", mean, "p50", p50, "p90", p90, "p99", p99,
                     "p999", p999, "max", most);
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

static void write_tokens(struct bench *b, const char *id, const struct token_list *ids)
{
    json_t *list = json_array(), *line = json_pack("{sssO}", "id", id, "tokens", list);
    for (size_t i = 0; i < ids->n; i++) json_array_append_new(list, json_integer(ids->ids[i]));
    json_dumpf(line, b->tokens_file, JSON_COMPACT);
    fputc('\n', b->tokens_file);
    json_decref(list);
    json_decref(line);
}

/* One token: the mask, then the check of the token that follows. */
static bool token(struct bench *b, struct grammar_matcher *m, uint32_t id, const char *schema)
{
    double t0 = cpu_seconds();
    grammar_matcher_mask(m, b->bits);
    double t1 = cpu_seconds(), t2 = clock_seconds();
    bool ok = grammar_matcher_check(m, id);
    double t3 = clock_seconds();
    add_time(&b->mask, t1 - t0);
    add_time(&b->check, t3 - t2);
    b->tokens++;
    b->slow += t1 - t0 > 3e-3;
    if (t1 - t0 > 2e-3) printf("slow mask: %s %.2f ms\n", schema, (t1 - t0) * 1e3);
    b->mask_differs += in_mask(b->bits, id) != ok;
    return ok && grammar_matcher_accept(m, id);
}

/* Whether the verdict is the data's. */
static bool instance(struct bench *b, struct grammar *g, json_t *test, const char *id)
{
    struct err e = {0};
    bool valid = json_is_true(json_object_get(test, "valid"));
    char *text = json_dumps(json_object_get(test, "data"), JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    struct token_list ids;
    token_list_init(&ids, 1 << 24);
    struct grammar_matcher *m = g ? grammar_matcher_create(g, b->v, &e) : NULL;
    bool ok = tokenizer_encode(b->t, &ids, str_from(text), false, NULL, 0, &e);
    if (b->tokens_file) write_tokens(b, id, &ids);
    size_t i = 0;
    ok = ok && m;
    for (; ok && i < ids.n; i++) ok = token(b, m, ids.ids[i], id);
    ok = ok && grammar_matcher_may_end(m);
    if (g && valid && !ok) printf("valid refused: %s at token %zu: %.200s\n", id, i, text);
    if (g && !valid && ok) printf("invalid accepted: %s: %.200s\n", id, text);
    b->valid_refused += g && valid && !ok;
    b->invalid_accepted += g && !valid && ok;
    token_list_deinit(&ids);
    grammar_matcher_destroy(m);
    free(text);
    return ok == valid;
}

/* Refusals by what stands behind the place: "properties.x.pattern: lookahead" counts as "lookahead". */
static void count_refusal(struct bench *b, const char *id, const char *message)
{
    const char *reason = strstr(message, ": ");
    reason = reason ? reason + 2 : message;
    json_int_t n = json_integer_value(json_object_get(b->refusals, reason));
    json_object_set_new(b->refusals, reason, json_integer(n + 1));
    printf("refused: %s: %s\n", id, message);
}

static void schema_line(struct bench *b, json_t *line)
{
    struct grammar_options o;
    struct err e = {0};
    size_t i;
    json_t *x;
    const char *id = json_string_value(json_object_get(line, "id"));
    char *text = json_dumps(json_object_get(line, "schema"), JSON_ENCODE_ANY);
    grammar_options_init(&o);
    double t0 = cpu_seconds();
    struct grammar *g = grammar_from_schema(str_from(text), &o, &e);
    double t1 = cpu_seconds();
    bool all = g != NULL;
    add_time(&b->compile, t1 - t0);
    if (t1 - t0 > 10e-3) printf("slow compile: %s %.1f ms%s\n", id, (t1 - t0) * 1e3, g ? "" : " (refused)");
    b->schemas++;
    b->refused += g == NULL;
    if (!g) count_refusal(b, id, e.msg);
    json_array_foreach(json_object_get(line, "tests"), i, x) all &= instance(b, g, x, id);
    b->passed += all;
    size_t bytes = g ? grammar_memory(g) : 0;
    b->memory += bytes;
    if (bytes > b->memory_max) b->memory_max = bytes;
    grammar_unref(g);
    free(text);
}

/* All tools as one request offers them: free text until a call is begun, then the arguments of the named tool. */
static void compile_list(struct bench *b, json_t *tools, const char *name)
{
    size_t n = json_array_size(tools), i;
    struct grammar_tag *tags = mem_zalloc((n + 1) * sizeof *tags);
    struct buf *begins = mem_zalloc((n + 1) * sizeof *begins);
    char **schemas = mem_zalloc((n + 1) * sizeof *schemas);
    struct str trigger = STR("<tool_call>");
    struct grammar_options o;
    struct err e = {0};
    json_t *x;
    json_array_foreach(tools, i, x)
    {
        buf_init(&begins[i], 4096);
        buf_printf(&begins[i],
                   "<tool_call>\n{\"name\": \"%s\", \"arguments\": ", json_string_value(json_object_get(x, "name")));
        schemas[i] = json_dumps(json_object_get(x, "input_schema"), JSON_ENCODE_ANY);
        tags[i] = (struct grammar_tag){.begin = buf_str(&begins[i]),
                                       .end = STR("}\n</tool_call>"),
                                       .kind = GRAMMAR_TAG_SCHEMA,
                                       .content = str_from(schemas[i])};
    }
    struct grammar_tags t = {.tags = tags, .n_tags = n, .triggers = &trigger, .n_triggers = 1, .text_after = true};
    grammar_options_init(&o);
    o.strict = false;
    double t0 = cpu_seconds();
    struct grammar *g = grammar_from_tags(&t, &o, &e);
    double t1 = cpu_seconds();
    add_time(&b->lists, t1 - t0);
    printf("tool list  %-28s %4zu tools  %8.2f ms  %6zu KiB%s%s\n", name, n, (t1 - t0) * 1e3,
           g ? grammar_memory(g) / 1024 : 0, g ? "" : "  refused: ", g ? "" : e.msg);
    grammar_unref(g);
    for (i = 0; i < n; i++) buf_deinit(&begins[i]), free(schemas[i]);
    mem_free(tags), mem_free(begins), mem_free(schemas);
}

static void compile_lists(struct bench *b, const char *folder)
{
    json_t *all = json_array();
    struct dirent *d;
    DIR *dir = opendir(folder);
    while (dir && (d = readdir(dir))) {
        char path[4096];
        if (!str_ends(str_from(d->d_name), STR(".json"))) continue;
        snprintf(path, sizeof path, "%s/%.250s", folder, d->d_name);
        json_t *file = json_load_file(path, 0, NULL), *tools = json_object_get(file, "tools");
        compile_list(b, tools, d->d_name);
        json_array_extend(all, tools);
        json_decref(file);
    }
    if (dir) closedir(dir);
    if (json_array_size(all)) compile_list(b, all, "all of them");
    json_decref(all);
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

static void report(struct bench *b, const char *path)
{
    json_t *compile = print_times("compile", &b->compile), *mask = print_times("mask", &b->mask),
           *check = print_times("check", &b->check), *lists = print_times("tool lists", &b->lists);
    double mean = (double)b->memory / (double)(b->schemas ? b->schemas : 1) / 1024, most = (double)b->memory_max / 1024;
    printf(
        "%zu schemas, %zu passed, %zu refused, %zu tokens, %zu valid refused, %zu invalid accepted, %zu masks differ "
        "from the check, %zu masks over 3 ms\n",
        b->schemas, b->passed, b->refused, b->tokens, b->valid_refused, b->invalid_accepted, b->mask_differs, b->slow);
    printf("memory of a grammar after use: mean %.0f KiB, most %.0f KiB\n", mean, most);
    json_t *all =
        json_pack("{sosososo sIsIsIsIsIsIsI sfsfsfsO}", "compile", compile, "mask", mask, "check", check, "tool_lists",
                  lists, "vocabulary", (json_int_t)grammar_vocab_size(b->v), "schemas", (json_int_t)b->schemas,
                  "passed", (json_int_t)b->passed, "refused", (json_int_t)b->refused, "tokens", (json_int_t)b->tokens,
                  "valid_refused", (json_int_t)b->valid_refused, "invalid_accepted", (json_int_t)b->invalid_accepted,
                  "vocabulary_mib", (double)grammar_vocab_memory(b->v) / 1048576, "memory_mean_kib", mean,
                  "memory_max_kib", most, "refusals", b->refusals);
    if (path && json_dump_file(all, path, JSON_INDENT(1)) != 0) fprintf(stderr, "%s: cannot be written\n", path);
    json_decref(all);
}

int main(int argc, char **argv)
{
    struct bench b = {.refusals = json_object()};
    struct err e = {0};
    const char *tools = NULL, *json = NULL;
    int i = 1;
    for (; i + 1 < argc && argv[i][0] == '-'; i += 2) {
        if (strcmp(argv[i], "--tools") == 0) tools = argv[i + 1];
        else if (strcmp(argv[i], "--json") == 0) json = argv[i + 1];
        else if (strcmp(argv[i], "--tokens") == 0) b.tokens_file = fopen(argv[i + 1], "w");
    }
    if (argc - i < 2) {
        fprintf(stderr,
                "usage: bench_grammar [--tools DIR] [--tokens FILE] [--json FILE] MODEL.gguf SCHEMAS.jsonl...\n");
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
    if (tools) compile_lists(&b, tools);
    for (i++; i < argc; i++)
        if (!run_file(&b, argv[i])) fprintf(stderr, "%s: cannot be read\n", argv[i]);
    report(&b, json);
    if (b.tokens_file) fclose(b.tokens_file);
    json_decref(b.refusals);
    grammar_vocab_destroy(b.v);
    tokenizer_destroy(b.t);
    gguf_close(gguf);
    mem_free(b.bits);
    mem_free(b.compile.us), mem_free(b.mask.us), mem_free(b.check.us), mem_free(b.lists.us);
    return b.mask_differs || b.invalid_accepted;
}
