/* oracle_schemas: JSON schemas with valid and invalid instances. "maskbench": one schema a line; compiled strictly,
 * every verdict must be the data's. "JSON-Schema-Test-Suite": groups of files; a schema that is refused is skipped and
 * counted by keyword, formats hold only in the files about formats. "mcp-tools": tools that real servers list, with
 * calls. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "grammar/grammar.h"
#include "oracle.h"

struct tally {
    struct oracle_count *count;
    size_t schemas, passed, refused, wrong_accepted, wrong_refused;
    size_t groups_refused;
};

/* The shortest spelling that reads back as the same numbers. */
static char *dump(json_t *data)
{
    char *text = json_dumps(data, JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
    json_t *again = text ? json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL) : NULL;
    bool same = again && json_equal(again, data);
    json_decref(again);
    if (same) return text;
    free(text);
    return json_dumps(data, JSON_ENCODE_ANY);
}

static bool verdict(struct tally *t, struct grammar *g, json_t *data, bool valid, const char *id)
{
    struct err e = {0};
    char *text = dump(data), what[1200];
    bool got = text && grammar_check(g, str_from(text), &e);
    if (got != valid) {
        snprintf(what, sizeof what, "%s: %.150s (%.200s)", valid ? "valid, refused" : "invalid, accepted",
                 text ? text : "", got ? "" : e.msg);
        oracle_fail(t->count, id, what);
        if (valid) t->wrong_refused++;
        else t->wrong_accepted++;
    } else t->count->passed++;
    free(text);
    return got == valid;
}

static struct grammar *compile(json_t *schema, bool ignore_formats, struct err *e)
{
    struct grammar_options o;
    grammar_options_init(&o);
    o.ignore_formats = ignore_formats;
    char *text = json_dumps(schema, JSON_ENCODE_ANY);
    struct grammar *g = text ? grammar_from_schema(str_from(text), &o, e) : NULL;
    free(text);
    return g;
}

static void maskbench_line(void *ctx, json_t *line)
{
    struct tally *t = ctx;
    struct err e = {0};
    const char *id = json_string_value(json_object_get(line, "id"));
    struct grammar *g = compile(json_object_get(line, "schema"), false, &e);
    size_t i;
    json_t *x;
    bool all = g != NULL;
    t->schemas++;
    if (!g) {
        t->refused++;
        t->count->skipped++;
        printf("  refused: %s: %s\n", id ? id : "?", e.msg);
        return;
    }
    json_array_foreach(json_object_get(line, "tests"), i, x) all &=
        verdict(t, g, json_object_get(x, "data"), json_is_true(json_object_get(x, "valid")), id);
    t->passed += all;
    grammar_unref(g);
}

static void suite_group(struct tally *t, json_t *group, const char *file, bool formats)
{
    struct err e = {0};
    char id[400];
    size_t i;
    json_t *x;
    struct grammar *g = compile(json_object_get(group, "schema"), !formats, &e);
    snprintf(id, sizeof id, "%s: %s", file, json_string_value(json_object_get(group, "description")));
    t->schemas++;
    if (!g) {
        t->refused++;
        t->count->skipped += json_array_size(json_object_get(group, "tests"));
        printf("  refused: %s: %s\n", id, e.msg);
        return;
    }
    json_array_foreach(json_object_get(group, "tests"), i, x)
        verdict(t, g, json_object_get(x, "data"), json_is_true(json_object_get(x, "valid")), id);
    grammar_unref(g);
}

static void suite_folder(struct tally *t, const char *root, const char *sub, bool formats)
{
    char path[4096];
    struct dirent *d;
    snprintf(path, sizeof path, "%s/%s", root, sub);
    DIR *dir = opendir(path);
    while (dir && (d = readdir(dir))) {
        size_t len, i;
        json_t *x;
        if (!str_ends(str_from(d->d_name), STR(".json"))) continue;
        snprintf(path, sizeof path, "%s/%s/%.250s", root, sub, d->d_name);
        char *text = oracle_read(&len, path);
        json_t *groups = text ? json_loadb(text, len, JSON_ALLOW_NUL, NULL) : NULL;
        if (text && !groups) groups = json_loadb(text, len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
        if (!groups) t->count->skipped++, printf("  %s: cannot be read\n", path);
        json_array_foreach(groups, i, x) suite_group(t, x, d->d_name, formats);
        json_decref(groups);
        mem_free(text);
    }
    if (dir) closedir(dir);
}

static void report(const char *name, const struct tally *t)
{
    printf("  %s: %zu schemas, %zu refused, %zu invalid accepted, %zu valid refused\n", name, t->schemas, t->refused,
           t->wrong_accepted, t->wrong_refused);
}

bool oracle_schemas(const char *data_dir, struct oracle_count *count)
{
    char path[4096];
    struct tally bench = {.count = count}, suite = bench;
    snprintf(path, sizeof path, "%s/maskbench", data_dir);
    bool any = oracle_each_line(path, "", maskbench_line, &bench);
    if (any) report("maskbench", &bench);
    snprintf(path, sizeof path, "%s/JSON-Schema-Test-Suite/tests/draft2020-12", data_dir);
    suite_folder(&suite, path, ".", false);
    suite_folder(&suite, path, "optional", false);
    suite_folder(&suite, path, "optional/format", true);
    if (suite.schemas) report("JSON-Schema-Test-Suite", &suite);
    return any || suite.schemas > 0;
}

/* ---- tool lists ---- */

struct tools {
    struct tally tally;
    struct strmap names; /* "package/tool" -> index */
    struct grammar *grammars[512];
    char *keys[512];
    uint32_t n;
};

static void compile_tool(struct tools *t, const char *package, json_t *tool) /* of the file PACKAGE.json */
{
    struct err e = {0};
    char key[400];
    snprintf(key, sizeof key, "%.*s/%s", (int)strcspn(package, "."), package,
             json_string_value(json_object_get(tool, "name")));
    t->tally.schemas++;
    struct grammar *g = t->n < 512 ? compile(json_object_get(tool, "input_schema"), false, &e) : NULL;
    if (!g) {
        t->tally.refused++;
        oracle_fail(t->tally.count, key, e.msg);
        return;
    }
    t->keys[t->n] = mem_alloc(strlen(key) + 1);
    memcpy(t->keys[t->n], key, strlen(key) + 1);
    strmap_add(&t->names, str_from(t->keys[t->n]), t->n);
    t->grammars[t->n++] = g;
}

static void call_line(void *ctx, json_t *line)
{
    struct tools *t = ctx;
    char key[400];
    uint32_t at;
    snprintf(key, sizeof key, "%s/%s", json_string_value(json_object_get(line, "package")),
             json_string_value(json_object_get(line, "tool")));
    if (!strmap_find(&t->names, &at, str_from(key))) {
        t->tally.count->skipped++;
        return;
    }
    verdict(&t->tally, t->grammars[at], json_object_get(line, "arguments"),
            json_is_true(json_object_get(line, "valid")), key);
}

bool oracle_mcp_tools(const char *data_dir, struct oracle_count *count)
{
    struct tools *t = mem_zalloc(sizeof *t);
    struct dirent *d;
    DIR *dir = opendir(data_dir);
    t->tally.count = count;
    strmap_init(&t->names);
    while (dir && (d = readdir(dir))) {
        char path[4096];
        size_t len, i;
        json_t *tool;
        if (!str_ends(str_from(d->d_name), STR(".json"))) continue;
        snprintf(path, sizeof path, "%s/%.250s", data_dir, d->d_name);
        char *text = oracle_read(&len, path);
        json_t *list = text ? json_loadb(text, len, 0, NULL) : NULL;
        json_array_foreach(json_object_get(list, "tools"), i, tool) compile_tool(t, d->d_name, tool);
        oracle_walks(count, d->d_name, json_object_get(list, "tools"));
        json_decref(list);
        mem_free(text);
    }
    if (dir) closedir(dir);
    bool ok = dir && oracle_each_line(data_dir, "", call_line, t);
    if (ok) report("mcp-tools", &t->tally);
    for (uint32_t i = 0; i < t->n; i++) grammar_unref(t->grammars[i]), mem_free(t->keys[i]);
    strmap_deinit(&t->names);
    mem_free(t);
    return ok;
}
