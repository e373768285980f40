/* tokenize: shows how a model's tokenizer cuts a text, or measures how fast it does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "cli/cli.h"

#define MAX_TEXT_BYTES ((size_t)1 << 30)
#define BENCH_SECONDS 2.0

static void print_quoted(struct str s, bool json)
{
    putchar('"');
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c == '"' || c == '\\') printf("\\%c", c);
        else if (c == '\n') fputs("\\n", stdout);
        else if (c < 0x20) printf(json ? "\\u%04x" : "\\x%02x", c);
        else putchar(c);
    }
    putchar('"');
}

static void print_tokens(const struct tokenizer *t, const struct token_list *ids, const struct options *o)
{
    struct buf piece;
    buf_init(&piece, 1 << 20);
    if (o->json || o->show_ids) putchar('[');
    for (size_t i = 0; i < ids->n; i++) {
        buf_clear(&piece);
        tokenizer_piece(t, &piece, ids->ids[i], true);
        if (o->show_ids) printf("%s%u", i ? ", " : "", ids->ids[i]);
        else if (o->json) {
            printf("%s{\"id\": %u, \"piece\": ", i ? ",\n " : "", ids->ids[i]);
            struct str text = buf_str(&piece);
            if (utf8_valid(text)) print_quoted(text, true);
            else { /* a part of a character: its bytes, as llama-server shows them */ putchar('[');
                for (size_t k = 0; k < text.len; k++) printf("%s%d", k ? ", " : "", (unsigned char)text.ptr[k]);
                putchar(']');
            }
            putchar('}');
        } else {
            printf("%8u  ", ids->ids[i]);
            print_quoted(buf_str(&piece), false);
            putchar('\n');
        }
    }
    if (o->json || o->show_ids) puts("]");
    else printf("%zu tokens\n", ids->n);
    buf_deinit(&piece);
}

static bool bench(const struct tokenizer *t, struct str text, bool parse_control, struct err *e)
{
    double from = clock_seconds(), spent, best = 1e30;
    int runs = 0;
    size_t n_tokens = 0;
    do {
        struct token_list ids;
        token_list_init(&ids, SIZE_MAX / sizeof(uint32_t));
        double start = clock_seconds();
        bool ok = tokenizer_encode(t, &ids, text, parse_control, NULL, 0, e);
        double took = clock_seconds() - start;
        n_tokens = ids.n;
        token_list_deinit(&ids);
        if (!ok) return false;
        if (took < best) best = took;
        runs++;
        spent = clock_seconds() - from;
    } while (spent < BENCH_SECONDS || runs < 3);
    double mean = spent / runs;
    printf("%zu bytes, %zu tokens, %d runs on one core: %.1f MB/s mean, %.1f MB/s best, %.2f M tokens/s\n", text.len,
           n_tokens, runs, (double)text.len / mean / 1e6, (double)text.len / best / 1e6, (double)n_tokens / mean / 1e6);
    return true;
}

int cli_tokenize(const struct options *o)
{
    struct err e = {0};
    struct stack s = {0};
    struct token_list ids;
    char *text = NULL;
    size_t len = o->prompt ? strlen(o->prompt) : 0;
    token_list_init(&ids, SIZE_MAX / sizeof(uint32_t));
    bool ok = (o->model || err_set(&e, ERR_INVALID, "no model given: use -m FILE.gguf")) &&
              stack_open_file(&s, o, &e) && (s.tokenizer = tokenizer_create(s.gguf, &e)) &&
              (o->prompt || (text = cli_read(o->file, &len, MAX_TEXT_BYTES, &e)));
    struct str input = {o->prompt ? o->prompt : text, len};
    if (ok && o->bench) ok = bench(s.tokenizer, input, !o->no_special, &e);
    else if (ok) {
        ok = tokenizer_encode(s.tokenizer, &ids, input, !o->no_special, NULL, 0, &e);
        if (ok) print_tokens(s.tokenizer, &ids, o);
    }
    token_list_deinit(&ids);
    mem_free(text);
    stack_close(&s);
    return ok ? 0 : cli_fail(&e);
}
