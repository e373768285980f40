/* Requests with documents: they are read on other threads, die with their client and with the server, and delay nobody.
 * A shell script stands for pdftotext. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "fixture.h"

struct reading {
    struct fixture f;
    struct buf request, reply;
    char script[64];
};

static void begin(struct reading *d, const char *script)
{
    fixture_init(&d->f);
    buf_init(&d->request, 1 << 20);
    buf_init(&d->reply, 1 << 20);
    snprintf(d->script, sizeof d->script, "/tmp/parley-test-XXXXXX");
    int fd = mkstemp(d->script);
    ck_assert(fd >= 0 && write(fd, script, strlen(script)) == (ssize_t)strlen(script) && !fchmod(fd, 0700));
    close(fd);
    d->f.config.pdf.program = d->script;
    fixture_start(&d->f);
}

static void finish(struct reading *d)
{
    fixture_stop(&d->f);
    unlink(d->script);
    buf_deinit(&d->request);
    buf_deinit(&d->reply);
}

/* A request with a PDF as its last text, which the fake backend echoes. "JVBERi0x" is "%PDF-1". */
static struct str post(struct reading *d, const char *path, const char *data)
{
    struct buf body;
    buf_init(&body, 1 << 20);
    buf_printf(&body,
               "{\"model\":\"m\",\"max_tokens\":10,\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
               "\"document\",\"source\":"
               "{\"type\":\"base64\",\"media_type\":\"application/pdf\",\"data\":\"%s\"}}]}]}",
               data);
    fixture_post(&d->request, path, "", body.ptr);
    buf_deinit(&body);
    return buf_str(&d->request);
}

START_TEST(the_text_reaches_the_backend)
{
    struct reading d;
    begin(&d, "#!/bin/sh\necho words of the file\n");
    fixture_roundtrip(&d.f, &d.reply, post(&d, "/v1/messages", "JVBERi0x"));
    ck_assert_int_eq(fixture_status(&d.reply), 200);
    ck_assert(loopback_has(&d.reply, "<document>\\n[page 1]\\nwords of the file\\n</document>"));
    fixture_roundtrip(&d.f, &d.reply, post(&d, "/v1/messages/count_tokens", "JVBERi0y"));
    ck_assert(loopback_has(&d.reply, "{\"input_tokens\":42}"));
    finish(&d);
}
END_TEST

START_TEST(a_document_that_cannot_be_read_is_a_400)
{
    struct reading d;
    begin(&d, "#!/bin/sh\nexit 1\n");
    fixture_roundtrip(&d.f, &d.reply, post(&d, "/v1/messages", "JVBERi0x"));
    ck_assert_int_eq(fixture_status(&d.reply), 400);
    ck_assert(loopback_has(&d.reply, "messages.0.content.0.source: Could not process document: the PDF is damaged"));
    ck_assert_uint_eq(atomic_load(&d.f.fake.n_submitted), 0);
    finish(&d);
}
END_TEST

START_TEST(others_do_not_wait_for_a_document)
{
    struct reading d;
    int fds[3];
    begin(&d, "#!/bin/sh\nsleep 50\n");
    for (int i = 0; i < 3; i++) {
        char data[9];
        snprintf(data, sizeof data, "JVBERi0%d", i);
        fds[i] = loopback_connect(d.f.port);
        loopback_send(fds[i], post(&d, "/v1/messages", data));
    }
    loopback_sleep(100);
    uint64_t start = clock_ns();
    fixture_roundtrip(&d.f, &d.reply, fixture_message(&d.request, false, "hi"));
    ck_assert_int_eq(fixture_status(&d.reply), 200);
    ck_assert_uint_lt(clock_ns() - start, 5000000000);
    /* One client leaves; the server stops with the others still waiting. */
    close(fds[0]);
    loopback_sleep(200);
    start = clock_ns();
    finish(&d);
    ck_assert_uint_lt(clock_ns() - start, 10000000000);
    close(fds[1]);
    close(fds[2]);
}
END_TEST

void add_documents(TCase *tc);
void add_documents(TCase *tc)
{
    tcase_add_test(tc, the_text_reaches_the_backend);
    tcase_add_test(tc, a_document_that_cannot_be_read_is_a_400);
    tcase_add_test(tc, others_do_not_wait_for_a_document);
}
