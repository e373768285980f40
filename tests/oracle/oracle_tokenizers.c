/* Data set "tokenizers": ids of texts as the models' own tokenizers give them. cases/ and vectors/ need the vocabulary
 * of that name in gguf/, cases-npm/ those that tools/npm-vocab puts into the cache folder. Every text whose vocabulary
 * can give all bytes must also come back from its ids. */
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "gguf/gguf.h"
#include "oracle.h"
#include "tokenizer/tokenizer.h"

#define MAX_SHOWN 5 /* failures printed of one set */
#define SEPARATOR "\n__ggml_vocab_test__\n"

struct subject {
    struct gguf *gguf;
    struct tokenizer *tokenizer;
    char name[512];
    bool round_trip;
    size_t n_shown;
    struct oracle_count *count;
};

/* Sets without a vocabulary in gguf/ -> name in the cache folder. */
static const char *cached_name(const char *set)
{
    static const char *const names[][2] = {{"qwen2", "qwen3"}, {"llama-bpe", "llama3_1"}, {"gemma-4", "gemma3"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i][0], set) == 0) return names[i][1];
    return set;
}

static bool open_vocabulary(struct subject *s, const char *path)
{
    FILE *f = fopen(path, "rb");
    struct err e = {0};
    if (!f) return false;
    fclose(f);
    s->gguf = gguf_open(path, &e);
    s->tokenizer = s->gguf ? tokenizer_create(s->gguf, &e) : NULL;
    if (s->tokenizer) return true;
    printf("tokenizers: %s: %s\n", path, e.msg);
    s->count->failed++;
    return false;
}

static bool open_subject(struct subject *s, struct oracle_count *count, const char *data_dir, const char *kind,
                         const char *set)
{
    char path[4096];
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    *s = (struct subject){.count = count};
    snprintf(s->name, sizeof s->name, "%s/%s", kind, set);
    snprintf(path, sizeof path, "%s/gguf/ggml-vocab-%s.gguf", data_dir, set);
    bool found = strcmp(kind, "cases-npm") != 0 && open_vocabulary(s, path);
    snprintf(path, sizeof path, "%s%s/parley/vocab/%s.gguf",
             cache && *cache ? cache
             : home          ? home
                             : "",
             cache && *cache ? "" : "/.cache", cached_name(set));
    if (!found && !open_vocabulary(s, path)) {
        printf("tokenizers: %s skipped: no vocabulary (tools/npm-vocab fetches those that can be had)\n", s->name);
        gguf_close(s->gguf);
        return false;
    }
    struct tokenizer_info info;
    tokenizer_info_get(s->tokenizer, &info);
    s->round_trip = strcmp(info.kind, "WPM") != 0;
    return true;
}

static void close_subject(struct subject *s)
{
    tokenizer_destroy(s->tokenizer);
    gguf_close(s->gguf);
}

static void show(struct subject *s, const char *what, struct str text, const struct token_list *got,
                 const uint32_t *want, size_t n_want)
{
    s->count->failed++;
    if (s->n_shown++ >= MAX_SHOWN) return;
    printf("tokenizers: %s: %s of \"%.*s\"\n  expected", s->name, what, STR_ARG(text));
    for (size_t i = 0; i < n_want; i++) printf(" %u", (unsigned)want[i]);
    printf("\n  got     ");
    for (size_t i = 0; i < got->n; i++) printf(" %u", (unsigned)got->ids[i]);
    printf("\n");
}

static void check(struct subject *s, struct str text, const uint32_t *want, size_t n_want)
{
    struct token_list got;
    struct buf back;
    struct err e = {0};
    token_list_init(&got, 1u << 20);
    buf_init(&back, 1u << 24);
    bool ok = tokenizer_encode(s->tokenizer, &got, text, false, NULL, 0, &e);
    if (!ok || got.n != n_want || (n_want > 0 && memcmp(got.ids, want, n_want * sizeof *want) != 0)) {
        show(s, ok ? "ids" : e.msg, text, &got, want, n_want);
    } else if (s->round_trip &&
               (!tokenizer_decode(s->tokenizer, &back, got.ids, got.n, true) || !str_eq(buf_str(&back), text))) {
        show(s, "round trip", text, &got, want, n_want);
    } else {
        s->count->passed++;
    }
    token_list_deinit(&got);
    buf_deinit(&back);
}

static void check_line(struct subject *s, const char *line)
{
    json_t *root = json_loads(line, JSON_ALLOW_NUL, NULL), *ids = json_object_get(root, "ids");
    json_t *text = json_object_get(root, "text");
    size_t n = json_array_size(ids);
    uint32_t *want = mem_alloc((n + 1) * sizeof *want);
    for (size_t i = 0; i < n; i++) want[i] = (uint32_t)json_integer_value(json_array_get(ids, i));
    if (text && ids) check(s, (struct str){json_string_value(text), json_string_length(text)}, want, n);
    else s->count->failed++;
    mem_free(want);
    json_decref(root);
}

static void run_cases(struct subject *s, const char *path)
{
    FILE *f = fopen(path, "r");
    char *line = NULL;
    size_t cap = 0;
    while (f && getline(&line, &cap, f) > 0) check_line(s, line);
    free(line);
    if (f) fclose(f);
}

static char *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    char *text = mem_alloc((size_t)1 << 20);
    *n = f ? fread(text, 1, ((size_t)1 << 20) - 1, f) : 0;
    text[*n] = 0;
    if (f) fclose(f);
    return text;
}

/* Texts in PATH.inp between separators, ids in PATH.out, one text a line. */
static void run_vectors(struct subject *s, const char *path)
{
    char name[4200];
    size_t n_texts, n_ids;
    snprintf(name, sizeof name, "%s.inp", path);
    char *texts = read_file(name, &n_texts);
    snprintf(name, sizeof name, "%s.out", path);
    char *ids = read_file(name, &n_ids), *line = ids;
    struct str rest = {texts, n_texts};
    while (rest.len > 0 && *line) {
        uint32_t want[4096];
        size_t n = 0;
        ptrdiff_t end = str_find(rest, STR(SEPARATOR), 0);
        char *next = strchr(line, '\n');
        for (char *p = line, *after; n < 4096; p = after) {
            unsigned long id = strtoul(p, &after, 10);
            if (after == p || (next && after > next)) break;
            want[n++] = (uint32_t)id;
        }
        check(s, end < 0 ? rest : str_slice(rest, 0, (size_t)end), want, n);
        if (end < 0 || !next) break;
        rest = str_slice(rest, (size_t)end + sizeof SEPARATOR - 1, rest.len);
        line = next + 1;
    }
    mem_free(texts);
    mem_free(ids);
}

static void run_folder(struct oracle_count *count, const char *data_dir, const char *kind)
{
    char path[4096], set[256];
    struct dirent **entries;
    bool vectors = strcmp(kind, "vectors") == 0;
    snprintf(path, sizeof path, "%s/%s", data_dir, kind);
    int n = scandir(path, &entries, NULL, alphasort);
    for (int i = 0; i < n; i++) {
        struct str file = str_from(entries[i]->d_name);
        struct str prefix = vectors ? STR("ggml-vocab-") : STR(""), suffix = vectors ? STR(".gguf.inp") : STR(".jsonl");
        struct subject s;
        if (str_starts(file, prefix) && str_ends(file, suffix) && file.len > prefix.len + suffix.len) {
            snprintf(set, sizeof set, "%.*s", STR_ARG(str_slice(file, prefix.len, file.len - suffix.len)));
            if (open_subject(&s, count, data_dir, kind, set)) {
                size_t keep = vectors ? file.len - 4 : file.len; /* without ".inp" */
                snprintf(path, sizeof path, "%s/%s/%.*s", data_dir, kind, (int)keep, file.ptr);
                vectors ? run_vectors(&s, path) : run_cases(&s, path);
                close_subject(&s);
            } else {
                count->skipped++;
            }
        }
        free(entries[i]);
    }
    if (n >= 0) free(entries);
}

bool oracle_tokenizers(const char *data_dir, struct oracle_count *count)
{
    size_t before = count->passed + count->failed;
    run_folder(count, data_dir, "cases");
    run_folder(count, data_dir, "vectors");
    run_folder(count, data_dir, "cases-npm");
    return count->passed + count->failed > before;
}
