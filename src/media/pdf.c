/* pdf: the text of PDF files by pdftotext, in a child process. Texts are kept by the file's SHA-256, least recently
 * used first out: an agent's conversation sends the same file with every turn. Any thread; the lock guards the cache
 * only, never a running child. */
#define _GNU_SOURCE
#include <errno.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/utf8.h"
#include "media/media_internal.h"

#define HASH_BYTES SHA256_DIGEST_LENGTH
#define ERRORS_MAX_BYTES 2000
#define MAGIC_WITHIN 1024 /* bytes that may stand before "%PDF-" */

const struct pdf_config PDF_DEFAULTS = {
    .program = "pdftotext",
    .wall_ms = 15000,
    .cpu_s = 12,
    .memory_bytes = (size_t)1 << 30,
    .max_text_bytes = (size_t)8 << 20,
    .max_pages = 600,
    .cache_bytes = (size_t)64 << 20,
};

struct entry {
    struct entry *newer, *older;
    unsigned char hash[HASH_BYTES];
    size_t len;
    char text[];
};

struct pdf_reader {
    struct pdf_config config;
    atomic_bool is_stopped;
    pthread_mutex_t lock;
    struct entry *newest, *oldest;
    size_t used_bytes;
};

struct pdf_reader *pdf_reader_create(const struct pdf_config *config)
{
    struct pdf_reader *p = mem_zalloc(sizeof *p);
    p->config = *config;
    pthread_mutex_init(&p->lock, NULL);
    return p;
}

void pdf_reader_stop(struct pdf_reader *p)
{
    atomic_store(&p->is_stopped, true);
}

/* ---- cache; with the lock held ---- */

static void unlink_entry(struct pdf_reader *p, struct entry *x)
{
    *(x->newer ? &x->newer->older : &p->newest) = x->older;
    *(x->older ? &x->older->newer : &p->oldest) = x->newer;
    p->used_bytes -= sizeof *x + x->len;
}

static void push_entry(struct pdf_reader *p, struct entry *x)
{
    x->newer = NULL;
    x->older = p->newest;
    *(p->newest ? &p->newest->newer : &p->oldest) = x;
    p->newest = x;
    p->used_bytes += sizeof *x + x->len;
}

static struct entry *find_entry(struct pdf_reader *p, const unsigned char *hash)
{
    struct entry *x = p->newest;
    while (x && memcmp(x->hash, hash, HASH_BYTES)) x = x->older;
    if (!x) return NULL;
    unlink_entry(p, x);
    push_entry(p, x);
    return x;
}

static void forget_oldest(struct pdf_reader *p)
{
    struct entry *x = p->oldest;
    unlink_entry(p, x);
    mem_free(x);
}

static void keep(struct pdf_reader *p, const unsigned char *hash, struct str text)
{
    size_t bytes = sizeof(struct entry) + text.len;
    struct entry *x = bytes <= p->config.cache_bytes ? mem_try_zalloc(bytes) : NULL;
    if (!x) return;
    memcpy(x->hash, hash, HASH_BYTES);
    memcpy(x->text, text.ptr, text.len);
    x->len = text.len;
    while (p->oldest && p->used_bytes + bytes > p->config.cache_bytes) forget_oldest(p);
    push_entry(p, x);
}

void pdf_reader_destroy(struct pdf_reader *p)
{
    if (!p) return;
    while (p->oldest) forget_oldest(p);
    pthread_mutex_destroy(&p->lock);
    mem_free(p);
}

/* ---- from the program's output to text ---- */

/* Valid UTF-8 without control characters. */
static void append_clean(struct buf *out, struct str text)
{
    size_t from = 0;
    for (size_t at = 0; at < text.len;) {
        uint32_t cp;
        size_t n = utf8_decode(str_slice(text, at, text.len), &cp);
        bool is_fine = n > 0 && (cp >= 0x20 || cp == '\n' || cp == '\t') && (cp < 0x7f || cp > 0x9f);
        if (!is_fine) {
            buf_append(out, str_slice(text, from, at));
            if (!n) buf_append_utf8(out, 0xfffd);
            from = at + (n ? n : 1);
        }
        at += n ? n : 1;
    }
    buf_append(out, str_slice(text, from, text.len));
}

/* Pages end in a form feed each. */
static bool take_pages(struct buf *out, struct str raw, const struct pdf_config *config, struct err *e)
{
    uint32_t page = 0;
    bool has_text = false;
    for (size_t from = 0; from < raw.len;) {
        ptrdiff_t end = str_find(raw, STR("\f"), from);
        struct str text = str_trim(str_slice(raw, from, end < 0 ? raw.len : (size_t)end));
        from = end < 0 ? raw.len : (size_t)end + 1;
        if (++page > config->max_pages)
            return err_set(e, ERR_TOO_LARGE, "the PDF has more than %u pages", config->max_pages);
        if (!text.len) continue;
        buf_printf(out, "%s[page %u]\n", has_text ? "\n\n" : "", page);
        append_clean(out, text);
        has_text = true;
    }
    return has_text || err_set(e, ERR_INVALID, "the PDF holds no text (are its pages pictures?)");
}

static bool explain(const struct pdf_config *config, const struct child_result *r, struct str errors, struct err *e)
{
    switch (r->end) {
    case CHILD_CANCELLED: return err_set(e, ERR_CANCELLED, "cancelled");
    case CHILD_TIMEOUT: return err_set(e, ERR_TOO_LARGE, "reading the PDF took more than %u s", config->wall_ms / 1000);
    case CHILD_OUTPUT_FULL:
        return err_set(e, ERR_TOO_LARGE, "the PDF holds more than %zu bytes of text", config->max_text_bytes);
    case CHILD_KILLED:
        if (r->status == SIGKILL || r->status == SIGXCPU)
            return err_set(e, ERR_TOO_LARGE, "reading the PDF took more than %u s of processor time", config->cpu_s);
        break;
    case CHILD_EXITED: break;
    }
    if (r->end == CHILD_EXITED && (r->status == 127 || r->status == 126))
        return err_set(e, ERR_NOT_FOUND,
                       "PDF documents need the program pdftotext (package poppler-utils), which is "
                       "not installed on this server");
    if (r->end == CHILD_EXITED && r->status == 3)
        return err_set(e, ERR_INVALID, "the PDF does not allow that its text is copied");
    if (str_find(errors, STR("assword"), 0) >= 0) return err_set(e, ERR_INVALID, "the PDF is encrypted");
    if (str_find(errors, STR("emory"), 0) >= 0 || str_find(errors, STR("bad_alloc"), 0) >= 0)
        return err_set(e, ERR_TOO_LARGE, "reading the PDF took more than %zu MiB of memory",
                       config->memory_bytes >> 20);
    return err_set(e, ERR_INVALID, "the PDF is damaged");
}

static bool write_all(int fd, struct str bytes)
{
    while (bytes.len) {
        ssize_t n = write(fd, bytes.ptr, bytes.len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        bytes = str_slice(bytes, (size_t)n, bytes.len);
    }
    return true;
}

struct stopper {
    struct pdf_reader *reader;
    const atomic_bool *cancel;
};

static bool is_cancelled(void *ctx)
{
    const struct stopper *s = ctx;
    return atomic_load(&s->reader->is_stopped) || (s->cancel && atomic_load(s->cancel));
}

static bool extract(struct pdf_reader *p, struct buf *out, struct str pdf, const atomic_bool *cancel, struct err *e)
{
    const struct pdf_config *c = &p->config;
    /* The program needs a file that it can seek in. */
    char last[16];
    const char *const argv[] = {c->program, "-enc", "UTF-8", "-eol", "unix", "-l", last, "/dev/stdin", "-", NULL};
    struct child_limits limits = {c->wall_ms, c->cpu_s, c->memory_bytes};
    struct child_result result;
    struct stopper stopper = {p, cancel};
    struct buf raw, errors;
    snprintf(last, sizeof last, "%u", c->max_pages + 1);
    int fd = memfd_create("pdf", MFD_CLOEXEC);
    if (fd < 0) return err_set(e, ERR_IO, "cannot make a file in memory");
    buf_init(&raw, c->max_text_bytes);
    buf_init(&errors, ERRORS_MAX_BYTES);
    bool ok = write_all(fd, pdf) || err_set(e, ERR_IO, "cannot write a file in memory");
    ok = ok && child_run(&result, &raw, &errors, argv, fd, &limits, is_cancelled, &stopper, e);
    close(fd);
    if (ok && (result.end != CHILD_EXITED || result.status)) ok = explain(c, &result, buf_str(&errors), e);
    ok = ok && take_pages(out, buf_str(&raw), c, e);
    buf_deinit(&raw);
    buf_deinit(&errors);
    return ok;
}

bool pdf_read(struct pdf_reader *p, struct buf *out, struct str pdf, const atomic_bool *cancel, struct err *e)
{
    unsigned char hash[HASH_BYTES];
    struct buf text;
    ptrdiff_t magic = str_find(str_slice(pdf, 0, MAGIC_WITHIN), STR("%PDF-"), 0);
    if (magic < 0) return err_set(e, ERR_INVALID, "the data is not a PDF file");
    SHA256((const unsigned char *)pdf.ptr, pdf.len, hash);
    pthread_mutex_lock(&p->lock);
    const struct entry *known = find_entry(p, hash);
    bool ok = known && buf_append(out, (struct str){known->text, known->len});
    pthread_mutex_unlock(&p->lock);
    if (known) return ok || err_set(e, ERR_TOO_LARGE, "the PDF holds more text than the request may have");
    buf_init(&text, 2 * p->config.max_text_bytes);
    ok = extract(p, &text, pdf, cancel, e);
    if (ok) ok = buf_append(out, buf_str(&text)) || err_set(e, ERR_TOO_LARGE, "the PDF holds more text than fits");
    if (ok) {
        pthread_mutex_lock(&p->lock);
        if (!find_entry(p, hash)) keep(p, hash, buf_str(&text));
        pthread_mutex_unlock(&p->lock);
    }
    buf_deinit(&text);
    return ok;
}
