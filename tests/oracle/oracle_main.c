/* oracle_main: runs every data set whose folder exists below the directory given. Exit code 1 when anything differs,
 * but for the differences that a second file lists line by line, each under its reason: they are counted as failed all
 * the same. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "oracle.h"

#define MAX_SHOWN 2000

static const struct {
    const char *folder;
    oracle_set *run;
} sets[] = {
    {"chat-templates", oracle_templates}, {"chat-templates", oracle_prefix},  {"jinja-cases", oracle_jinja_cases},
    {"tokenizers", oracle_tokenizers},    {"tool-dialects", oracle_dialects}, {"json-schemas", oracle_schemas},
    {"mcp-tools", oracle_mcp_tools},      {"images", oracle_images},
};

static char *known; /* lines "ID: WHAT", or "ID" for any difference of a case, between newlines; or NULL */
static size_t n_known;

static bool is_known(const char *id, const char *what)
{
    char exact[4096], any[1024];
    int n = snprintf(exact, sizeof exact, "\n%s: %s\n", id, what), m = snprintf(any, sizeof any, "\n%s\n", id);
    if (!known) return false;
    return (n > 0 && (size_t)n < sizeof exact && strstr(known, exact)) ||
           (m > 0 && (size_t)m < sizeof any && strstr(known, any));
}

void oracle_fail(struct oracle_count *count, const char *id, const char *what)
{
    n_known += is_known(id, what);
    if (count->failed++ < MAX_SHOWN) printf("  %s: %s\n", id, what);
}

static void show(const char *name, struct str text, size_t from)
{
    size_t start = from > 40 ? from - 40 : 0;
    printf("    %s: ", name);
    for (size_t i = start; i < text.len && i < from + 80; i++) {
        char c = text.ptr[i];
        if (c == '\n') fputs("\\n", stdout);
        else putchar(c);
    }
    putchar('\n');
}

void oracle_compare(struct oracle_count *count, const char *id, struct str got, struct str expected)
{
    if (str_eq(got, expected)) {
        count->passed++;
        return;
    }
    size_t at = 0;
    while (at < got.len && at < expected.len && got.ptr[at] == expected.ptr[at]) at++;
    if (count->failed++ >= MAX_SHOWN) return;
    printf("  %s: differs at byte %zu\n", id, at);
    show("got     ", got, at);
    show("expected", expected, at);
}

char *oracle_read(size_t *len, const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    struct buf b;
    buf_init(&b, (size_t)1 << 30);
    char *room;
    while ((room = buf_reserve(&b, 65536))) {
        size_t n = fread(room, 1, 65536, f);
        b.len += n;
        if (n == 0) break;
    }
    fclose(f);
    *len = b.len;
    return buf_take(&b);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool each_line_of(const char *path, oracle_line *each, void *ctx)
{
    size_t len;
    char *text = oracle_read(&len, path);
    if (!text) return false;
    for (size_t at = 0; at < len;) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t to = end ? (size_t)(end - text) : len;
        json_error_t error;
        json_t *line = to > at ? json_loadb(text + at, to - at, JSON_ALLOW_NUL, &error) : NULL;
        if (line) each(ctx, line);
        else if (to > at) printf("  %s: a line is left out: %s\n", path, error.text);
        json_decref(line);
        at = to + 1;
    }
    mem_free(text);
    return true;
}

bool oracle_each_line(const char *data_dir, const char *prefix, oracle_line *each, void *ctx)
{
    char path[4096], *names[256];
    size_t n = 0;
    DIR *dir = opendir(data_dir);
    if (!dir) return false;
    for (struct dirent *d; n < 256 && (d = readdir(dir));) {
        struct str name = str_from(d->d_name);
        if (str_starts(name, str_from(prefix)) && str_ends(name, STR(".jsonl"))) {
            names[n] = mem_alloc(name.len + 1);
            memcpy(names[n++], d->d_name, name.len + 1);
        }
    }
    closedir(dir);
    qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", data_dir, names[i]);
        if (!each_line_of(path, each, ctx)) printf("  %s: cannot be read\n", path);
        mem_free(names[i]);
    }
    return true;
}

int main(int argc, char **argv)
{
    if (argc != 2 && argc != 3) {
        fprintf(stderr, "usage: oracle DIR [KNOWN-DIFFERENCES] (DIR has chat-templates/, jinja-cases/ ... inside)\n");
        return 2;
    }
    bool failed = false;
    size_t n_run = 0, n_failed = 0, len;
    if (argc == 3 && !(known = oracle_read(&len, argv[2]))) {
        fprintf(stderr, "oracle: cannot read %s\n", argv[2]);
        return 2;
    }
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        char path[4096];
        struct stat st;
        struct oracle_count count = {0};
        snprintf(path, sizeof path, "%s/%s", argv[1], sets[i].folder);
        if (stat(path, &st) != 0) continue;
        n_run++;
        if (!sets[i].run(path, &count)) failed = true;
        n_failed += count.failed;
        printf("%s: %zu passed, %zu failed", sets[i].folder, count.passed, count.failed);
        if (count.skipped) printf(", %zu skipped", count.skipped);
        putchar('\n');
        fflush(stdout);
    }
    if (!n_run) fprintf(stderr, "oracle: %s holds no data set that is known here\n", argv[1]);
    if (n_known) printf("%zu of %zu failures are known: %s says why\n", n_known, n_failed, argv[2]);
    mem_free(known);
    return failed || !n_run || n_failed > n_known;
}
