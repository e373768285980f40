/* cli: the subcommands of the program. Each takes parsed options and gives the exit code; errors are one line on
 * standard error. Private pieces that several subcommands share (loading a model with everything around it) are here
 * too. */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <signal.h>
#include <stdbool.h>

#include "base/err.h"
#include "chat/chat.h"
#include "cli/options.h"
#include "compute/compute.h"
#include "engine/engine.h"
#include "gguf/gguf.h"
#include "local/local.h"
#include "model/model.h"
#include "tokenizer/tokenizer.h"

int cli_serve(const struct options *o);
int cli_run(const struct options *o);
int cli_chat(const struct options *o);
int cli_tokenize(const struct options *o);
int cli_inspect(const struct options *o);
int cli_bench(const struct options *o);
/* bench --kernels, with one number of threads; the level as --cpu-level says. */
bool cli_bench_kernels(const struct options *o, int n_threads, bool first, struct err *e);
int cli_grammar(const struct options *o);

/* The part of bench that compares decoding with and without --schema. */
bool cli_bench_schema(const struct options *o, uint32_t n_tokens, uint32_t threads, struct err *e);
/* Prints "parley: message" and gives exit code 1. */
int cli_fail(const struct err *e);
/* Whole file or standard input ("-" or NULL); for mem_free. NULL on error; at most max_bytes. */
char *cli_read(const char *path, size_t *len, size_t max_bytes, struct err *e);

/* ---- a loaded model ---- */
struct stack { /* members are NULL until loaded; each needs those above it */
    struct gguf *gguf;
    struct compute *compute;
    struct model *model;
    struct tokenizer *tokenizer;
    struct engine *engine;
    struct local *local;
    char *template_text, *model_id;
    double load_s;
};
bool stack_open_file(struct stack *s, const struct options *o, struct err *e); /* gguf only */
/* The text of --chat-template-file, or empty. Lives as long as the stack. */
bool stack_read_template(struct stack *s, const struct options *o, struct str *text, struct err *e);
bool stack_open_model(struct stack *s, const struct options *o, uint32_t threads, bool check_only, struct err *e);
bool stack_open_engine(struct stack *s, const struct options *o, struct err *e);  /* up to the engine */
bool stack_open_backend(struct stack *s, const struct options *o, struct err *e); /* everything */
void stack_close(struct stack *s);

/* ---- one answer, for run and chat ---- */
/* Reads the schema of --schema into the request, which owns it then; true without the flag. */
bool cli_set_schema(struct chat_request *req, const struct options *o, struct err *e);
/* Submits req (ownership moves) and writes the answer's text to standard output as it comes; when *interrupted becomes
 * nonzero the answer is cancelled. answer (may be NULL) collects the text. Fills usage. */
bool cli_answer(struct stack *s, struct chat_request *req, struct buf *answer, struct chat_usage *usage,
                const volatile sig_atomic_t *interrupted, struct err *e);

#endif
