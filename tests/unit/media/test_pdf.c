/* The text of PDF files: what pdftotext gives, and every way in which a file or the program can go wrong. The program
 * is replaced by small shell scripts where it shall misbehave. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "media/media.h"
#include "unit.h"

/* A PDF with a text a page; NULL ends the list. */
static void make_pdf(struct buf *out, const char *const *pages)
{
    size_t n = 0, at[64];
    buf_init(out, 1 << 20);
    while (pages[n]) n++;
    ck_assert_uint_lt(3 + 2 * n, 64);
    buf_append(out, STR("%PDF-1.4\n"));
    at[1] = out->len;
    buf_append(out, STR("1 0 obj\n<</Type/Catalog/Pages 2 0 R>>\nendobj\n"));
    at[2] = out->len;
    buf_append(out, STR("2 0 obj\n<</Type/Pages/Kids["));
    for (size_t i = 0; i < n; i++) buf_printf(out, "%zu 0 R ", 4 + 2 * i);
    buf_printf(out, "]/Count %zu>>\nendobj\n", n);
    at[3] = out->len;
    buf_append(out, STR("3 0 obj\n<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>\nendobj\n"));
    for (size_t i = 0; i < n; i++) {
        at[4 + 2 * i] = out->len;
        buf_printf(out,
                   "%zu 0 obj\n<</Type/Page/Parent 2 0 R/MediaBox[0 0 300 300]/Resources<</Font<</F 3 0 R>>>>"
                   "/Contents %zu 0 R>>\nendobj\n",
                   4 + 2 * i, 5 + 2 * i);
        at[5 + 2 * i] = out->len;
        buf_printf(out, "%zu 0 obj\n<</Length %zu>>\nstream\nBT /F 12 Tf 20 200 Td (%s) Tj ET\nendstream\nendobj\n",
                   5 + 2 * i, strlen(pages[i]) + 31, pages[i]);
    }
    size_t xref = out->len, n_objects = 4 + 2 * n;
    buf_printf(out, "xref\n0 %zu\n0000000000 65535 f \n", n_objects);
    for (size_t i = 1; i < n_objects; i++) buf_printf(out, "%010zu 00000 n \n", at[i]);
    buf_printf(out, "trailer\n<</Size %zu/Root 1 0 R>>\nstartxref\n%zu\n%%%%EOF\n", n_objects, xref);
}

struct fixture {
    struct pdf_config config;
    struct pdf_reader *reader;
    struct buf text;
    struct err e;
    char script[64];
};

static void begin(struct fixture *f)
{
    *f = (struct fixture){.config = PDF_DEFAULTS};
    buf_init(&f->text, 1 << 20);
}

/* Lets a shell script stand for pdftotext. */
static void stand_in(struct fixture *f, const char *script)
{
    snprintf(f->script, sizeof f->script, "/tmp/parley-test-XXXXXX");
    int fd = mkstemp(f->script);
    ck_assert_int_ge(fd, 0);
    ck_assert(write(fd, script, strlen(script)) == (ssize_t)strlen(script));
    ck_assert_int_eq(fchmod(fd, 0700), 0);
    close(fd);
    f->config.program = f->script;
}

static bool read_pdf(struct fixture *f, struct str pdf, const atomic_bool *cancel)
{
    if (!f->reader) f->reader = pdf_reader_create(&f->config);
    buf_clear(&f->text);
    return pdf_read(f->reader, &f->text, pdf, cancel, &f->e);
}

static void end(struct fixture *f)
{
    if (f->script[0]) unlink(f->script);
    pdf_reader_destroy(f->reader);
    buf_deinit(&f->text);
}

START_TEST(pages_are_read_and_numbered)
{
    struct fixture f;
    struct buf pdf;
    begin(&f);
    make_pdf(&pdf, (const char *const[]){"Hello page", "", "Third page", NULL});
    ck_assert_msg(read_pdf(&f, buf_str(&pdf), NULL), "%s", f.e.msg);
    ck_assert_str_eq(f.text.ptr, "[page 1]\nHello page\n\n[page 3]\nThird page");
    buf_deinit(&pdf);
    end(&f);
}
END_TEST

static void refuse(struct fixture *f, struct str pdf, enum err_kind kind, const char *why)
{
    ck_assert(!read_pdf(f, pdf, NULL));
    ck_assert_msg(f->e.kind == kind && strstr(f->e.msg, why), "%s: %s", err_kind_name(f->e.kind), f->e.msg);
    end(f);
}

START_TEST(files_that_are_no_readable_pdf_are_named)
{
    struct fixture f;
    struct buf pdf;
    begin(&f);
    refuse(&f, STR("plain text"), ERR_INVALID, "not a PDF");
    begin(&f);
    refuse(&f, STR(""), ERR_INVALID, "not a PDF");
    begin(&f);
    refuse(&f, STR("%PDF-1.4\nrubbish"), ERR_INVALID, "damaged");
    begin(&f);
    make_pdf(&pdf, (const char *const[]){"", NULL});
    refuse(&f, buf_str(&pdf), ERR_INVALID, "holds no text");
    buf_deinit(&pdf);
    begin(&f);
    f.config.max_pages = 2;
    make_pdf(&pdf, (const char *const[]){"a", "b", "c", NULL});
    refuse(&f, buf_str(&pdf), ERR_TOO_LARGE, "more than 2 pages");
    buf_deinit(&pdf);
}
END_TEST

START_TEST(cut_files_end_in_text_or_an_error)
{
    struct buf pdf;
    make_pdf(&pdf, (const char *const[]){"Hello", NULL});
    for (size_t len = 0; len < pdf.len; len += 97) {
        struct fixture f;
        begin(&f);
        bool ok = read_pdf(&f, str_slice(buf_str(&pdf), 0, len), NULL);
        ck_assert_msg(ok ? f.text.len > 0 : f.e.kind == ERR_INVALID, "%zu: %s", len, f.e.msg);
        end(&f);
    }
    buf_deinit(&pdf);
}
END_TEST

#define SOME_PDF STR("%PDF-1.4\n")

START_TEST(the_program_works_under_limits)
{
    static const struct {
        const char *script;
        enum err_kind kind;
        const char *why;
    } cases[] = {
        {"#!/bin/sh\nexit 1\n", ERR_INVALID, "damaged"},
        {"#!/bin/sh\nkill -SEGV $$\n", ERR_INVALID, "damaged"},
        {"#!/bin/sh\nexit 3\n", ERR_INVALID, "does not allow that its text is copied"},
        {"#!/bin/sh\necho 'Command Line Error: Incorrect password' >&2; exit 1\n", ERR_INVALID, "encrypted"},
        {"#!/bin/sh\nwhile :; do :; done\n", ERR_TOO_LARGE, "1 s of processor time"},
        {"#!/bin/sh\nsleep 100 & sleep 100\n", ERR_TOO_LARGE, "took more than 3 s"},
        {"#!/bin/sh\nexec >&- 2>&-; sleep 100\n", ERR_TOO_LARGE, "took more than 3 s"},
        {"#!/bin/sh\nwhile :; do echo aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa; done\n", ERR_TOO_LARGE,
         "more than 10000 bytes"},
        {"#!/bin/sh\necho x > /tmp/parley-test-must-not-be; test -s /tmp/parley-test-must-not-be || exit 1\n",
         ERR_INVALID, "damaged"},
        {"#!/bin/sh\nfor i in 3 4 5 6 7 8 9; do [ -e /proc/$$/fd/$i ] && exit 1; done; echo fine\n", ERR_NONE, "fine"},
        {"#!/bin/sh\nulimit -v; env | grep -v -e ^PWD -e ^_ -e ^SHLVL -e ^OLDPWD | sort\n", ERR_NONE,
         "102400\nHOME=/nonexistent\nLC_ALL=C.UTF-8\nPATH=/usr/local/bin:/usr/bin:/bin"},
        {"#!/bin/sh\nprintf 'a\\001b\\377c\\t\\f\\fd'\n", ERR_NONE,
         "[page 1]\nab\xef\xbf\xbd"
         "c\n\n[page 3]\nd"},
        {"#!/bin/sh\nhead -c 9 /dev/stdin\n", ERR_NONE, "[page 1]\n%PDF-1.4"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f;
        begin(&f);
        f.config.cpu_s = 1;
        f.config.wall_ms = strstr(cases[i].why, "took more than 3 s") ? 3000 : 30000; /* a busy machine is no failure */
        f.config.memory_bytes = (size_t)100 << 20;
        f.config.max_text_bytes = 10000;
        stand_in(&f, cases[i].script);
        bool ok = read_pdf(&f, SOME_PDF, NULL);
        ck_assert_msg(ok == (cases[i].kind == ERR_NONE), "%zu: %s", i, ok ? f.text.ptr : f.e.msg);
        if (ok) ck_assert_msg(strstr(f.text.ptr, cases[i].why) != NULL, "%zu: %s", i, f.text.ptr);
        else ck_assert_msg(f.e.kind == cases[i].kind && strstr(f.e.msg, cases[i].why), "%zu: %s", i, f.e.msg);
        end(&f);
    }
    unlink("/tmp/parley-test-must-not-be");
}
END_TEST

START_TEST(a_missing_program_is_named_with_its_package)
{
    struct fixture f;
    begin(&f);
    f.config.program = "no-such-program-here";
    refuse(&f, SOME_PDF, ERR_NOT_FOUND, "package poppler-utils");
}
END_TEST

static void *set_later(void *arg)
{
    nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    atomic_store((atomic_bool *)arg, true);
    return NULL;
}

START_TEST(a_client_that_leaves_ends_the_program)
{
    struct fixture f;
    atomic_bool cancel = false;
    pthread_t thread;
    begin(&f);
    stand_in(&f, "#!/bin/sh\nsleep 100\n");
    pthread_create(&thread, NULL, set_later, &cancel);
    uint64_t start = clock_ns();
    ck_assert(!read_pdf(&f, SOME_PDF, &cancel));
    ck_assert_int_eq(f.e.kind, ERR_CANCELLED);
    ck_assert_uint_lt(clock_ns() - start, 5000000000);
    pthread_join(thread, NULL);
    pdf_reader_stop(f.reader);
    ck_assert(!read_pdf(&f, SOME_PDF, NULL));
    ck_assert_int_eq(f.e.kind, ERR_CANCELLED);
    end(&f);
}
END_TEST

START_TEST(a_text_is_kept_for_the_next_turn)
{
    struct fixture f;
    char script[200];
    begin(&f);
    f.config.cache_bytes = 10000;
    snprintf(script, sizeof script, "#!/bin/sh\ndate +%%N\n");
    stand_in(&f, script);
    ck_assert_msg(read_pdf(&f, STR("%PDF-1"), NULL), "%s", f.e.msg);
    char *first = buf_take(&f.text);
    ck_assert(read_pdf(&f, STR("%PDF-1"), NULL));
    ck_assert_str_eq(f.text.ptr, first);
    ck_assert(read_pdf(&f, STR("%PDF-2"), NULL));
    ck_assert_str_ne(f.text.ptr, first);
    free(first);
    end(&f);
}
END_TEST

void add_pdf(TCase *tc);
void add_pdf(TCase *tc)
{
    tcase_add_test(tc, pages_are_read_and_numbered);
    tcase_add_test(tc, files_that_are_no_readable_pdf_are_named);
    tcase_add_test(tc, cut_files_end_in_text_or_an_error);
    tcase_add_test(tc, the_program_works_under_limits);
    tcase_add_test(tc, a_missing_program_is_named_with_its_package);
    tcase_add_test(tc, a_client_that_leaves_ends_the_program);
    tcase_add_test(tc, a_text_is_kept_for_the_next_turn);
}
