/* options: one table of command-line flags for all subcommands, one struct that holds their values. Flags are named as
 * llama-server's where it has the same thing. Strings are borrowed from argv. */
#ifndef CLI_OPTIONS_H
#define CLI_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum command {
    CMD_SERVE = 1,
    CMD_RUN = 2,
    CMD_CHAT = 4,
    CMD_TOKENIZE = 8,
    CMD_INSPECT = 16,
    CMD_BENCH = 32,
    CMD_GRAMMAR = 64
};

#define OPTIONS_LIST_MAX 16
struct options_list {
    const char *items[OPTIONS_LIST_MAX];
    int n;
};

struct options {
    /* the model and the engine */
    const char *model, *cpu_level, *cache_type_k, *cache_type_v, *chat_template_file, *dialect, *repack_cache;
    struct options_list alias;
    uint32_t ctx_size, parallel, threads, batch_size, cache_ram_mib, repack_cache_gib;
    /* the server */
    const char *host, *api_key_file, *pdftotext;
    uint32_t port, max_queue, key_requests, thread_s, thread_ram_mib, rejoin_s;
    struct options_list api_key, cors, allowed_host;
    bool no_catch_all, strict;
    /* generation */
    const char *prompt, *system, *file, *schema;
    uint32_t n_predict, top_k;
    float temperature, top_p, min_p, repeat_penalty;
    uint64_t seed;
    /* bench: comma-separated lists */
    const char *bench_prompt, *bench_gen, *bench_depth, *bench_parallel, *bench_threads;
    const char *kernels;
    uint32_t repetitions;
    /* grammar */
    const char *check;
    uint32_t sample;
    bool explain;
    /* everything else */
    bool json, bench, no_special, show_ids, verbose, quiet, help;
    uint64_t given; /* bit per row of the table: the flag was on the command line */
};

/* Reads argv[0 .. argc): the words after the subcommand. Words that are no flags go to `file`, then fail. */
bool options_parse(struct options *o, enum command command, int argc, char **argv, struct err *e);
/* Whether the flag with this long name ("temp") was given. */
bool options_given(const struct options *o, const char *name);
void options_print_help(enum command command, const char *name, const char *summary, const char *usage);
/* The word of `words` (NULL-terminated) nearest to `word` by edit distance, or NULL when none is near. */
const char *options_nearest(const char *word, const char *const *words);

#endif
