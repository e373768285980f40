/* oracle_jinja: whole chat templates and single language cases against the texts of Python's Jinja2. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "jinja/jinja.h"
#include "oracle.h"

struct state {
    const char *data_dir;
    struct oracle_count *count;
    char template_name[512]; /* of the template that is compiled now */
    struct jinja *template;
};

static struct jinja_now now_of(json_t *line)
{
    struct jinja_now now = {0};
    const char *text = json_string_value(json_object_get(line, "now"));
    struct tm *tm = &now.tm;
    if (text && sscanf(text, "%d-%d-%dT%d:%d:%d", &tm->tm_year, &tm->tm_mon, &tm->tm_mday, &tm->tm_hour, &tm->tm_min,
                       &tm->tm_sec) >= 3) {
        tm->tm_year -= 1900;
        tm->tm_mon--;
        struct tm copy = *tm;
        copy.tm_isdst = -1;
        mktime(&copy); /* the day of the week and of the year */
        tm->tm_wday = copy.tm_wday;
        tm->tm_yday = copy.tm_yday;
    }
    return now;
}

static void check(struct oracle_count *count, json_t *line, const struct jinja *j, json_t *context, struct err *e)
{
    const char *id = json_string_value(json_object_get(line, "id"));
    json_t *expected = json_object_get(line, "expected"), *error = json_object_get(line, "expected_error");
    const char *kind = json_string_value(json_object_get(error, "kind"));
    struct jinja_now now = now_of(line);
    struct buf out;
    bool raised = false;
    buf_init(&out, (size_t)1 << 30);
    bool ok = j && jinja_render(j, &out, NULL, &raised, context, &now, NULL, e);
    if (expected && ok) {
        struct str want = {json_string_value(expected), json_string_length(expected)};
        oracle_compare(count, id, buf_str(&out), want);
    } else if (expected) {
        if (json_is_true(json_object_get(line, "lenient"))) count->passed++;
        else oracle_fail(count, id, e->msg);
    } else if (kind && strcmp(kind, "raise_exception") == 0) {
        const char *message = json_string_value(json_object_get(error, "message"));
        if (ok || !raised) oracle_fail(count, id, ok ? "must raise an exception" : e->msg);
        else oracle_compare(count, id, str_from(e->msg), str_slice(str_from(message), 0, sizeof e->msg - 1));
    } else if (ok && kind && strcmp(kind, "syntax") == 0) oracle_fail(count, id, "rendered, but it is a syntax error");
    else count->passed++; /* Python failed here: refusing or rendering are both right */
    buf_deinit(&out);
}

static void template_case(void *ctx, json_t *line)
{
    struct state *s = ctx;
    const char *name = json_string_value(json_object_get(line, "template"));
    struct err e = {0};
    if (!s->template || strcmp(s->template_name, name) != 0) {
        char path[4096];
        size_t len;
        jinja_destroy(s->template);
        snprintf(s->template_name, sizeof s->template_name, "%s", name);
        snprintf(path, sizeof path, "%s/templates/%s", s->data_dir, name);
        char *text = oracle_read(&len, path);
        if (!text) err_set(&e, ERR_IO, "no template %s", path);
        const struct jinja_options options = {true, true};
        s->template = text ? jinja_compile((struct str){text, len}, options, &e) : NULL;
        mem_free(text);
    }
    check(s->count, line, s->template, json_object_get(line, "input"), &e);
}

bool oracle_templates(const char *data_dir, struct oracle_count *count)
{
    struct state s = {.data_dir = data_dir, .count = count};
    bool ok = oracle_each_line(data_dir, "cases", template_case, &s);
    jinja_destroy(s.template);
    return ok;
}

static void language_case(void *ctx, json_t *line)
{
    struct state *s = ctx;
    json_t *source = json_object_get(line, "template"), *options = json_object_get(line, "options");
    struct jinja_options o = {json_is_true(json_object_get(options, "trim_blocks")),
                              json_is_true(json_object_get(options, "lstrip_blocks"))};
    struct err e = {0};
    struct jinja *j = jinja_compile((struct str){json_string_value(source), json_string_length(source)}, o, &e);
    check(s->count, line, j, json_object_get(line, "context"), &e);
    jinja_destroy(j);
}

bool oracle_jinja_cases(const char *data_dir, struct oracle_count *count)
{
    struct state s = {.data_dir = data_dir, .count = count};
    return oracle_each_line(data_dir, "", language_case, &s);
}
