/* options: see options.h. The table is the single source of names, help and defaults. */
#include "cli/options.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { KIND_FLAG, KIND_STR, KIND_LIST, KIND_U32, KIND_U64, KIND_F32 };

struct row {
    const char *name, *letter; /* "--name", "-l" */
    enum kind kind;
    int commands;
    size_t offset;
    double min, max;      /* of numbers */
    const char *fallback; /* as text; NULL = zero */
    const char *value, *help;
};

#define AT(field) offsetof(struct options, field)
#define EVERY (MODELS | CMD_GRAMMAR)
#define MODELS (CMD_SERVE | CMD_RUN | CMD_CHAT | CMD_TOKENIZE | CMD_INSPECT | CMD_BENCH)
#define ENGINE (CMD_SERVE | CMD_RUN | CMD_CHAT)
#define SAMPLING (CMD_SERVE | CMD_RUN | CMD_CHAT)

static const struct row rows[] = {
    {"model", "m", KIND_STR, MODELS, AT(model), 0, 0, NULL, "FILE", "GGUF model file (the first part, if it is split)"},
    {"host", NULL, KIND_STR, CMD_SERVE, AT(host), 0, 0, "127.0.0.1", "ADDRESS", "address to listen on"},
    {"port", NULL, KIND_U32, CMD_SERVE, AT(port), 0, 65535, "8080", "N", "port to listen on; 0 = any free one"},
    {"ctx-size", "c", KIND_U32, ENGINE, AT(ctx_size), 0, 1 << 24, "0", "N",
     "most tokens of a conversation; 0 = the model's own, at most 32768"},
    {"parallel", "np", KIND_U32, CMD_SERVE, AT(parallel), 1, 256, "4", "N", "answers computed at the same time"},
    {"batch-size", "b", KIND_U32, ENGINE, AT(batch_size), 1, 8192, "512", "N", "most tokens of one step"},
    {"cache-ram", NULL, KIND_U32, ENGINE, AT(cache_ram_mib), 0, 1 << 24, "0", "MIB",
     "memory for KV pages and the prefix cache; 0 = chosen from the context"},
    {"cache-type-k", "ctk", KIND_STR, ENGINE | CMD_INSPECT | CMD_BENCH, AT(cache_type_k), 0, 0, "f16", "TYPE",
     "how the cache keeps keys: f16, or q8_0 for half the memory"},
    {"cache-type-v", "ctv", KIND_STR, ENGINE | CMD_INSPECT | CMD_BENCH, AT(cache_type_v), 0, 0, "f16", "TYPE",
     "how the cache keeps values: f16 or q8_0"},
    {"threads", "t", KIND_U32, ENGINE | CMD_INSPECT, AT(threads), 0, 256, "0", "N",
     "compute threads; 0 = physical cores available"},
    {"cpu-level", NULL, KIND_STR, ENGINE | CMD_BENCH, AT(cpu_level), 0, 0, NULL, "LEVEL",
     "c, avx2, avx512 or amx; default: the fastest this CPU has"},
    {"repack-cache", NULL, KIND_STR, ENGINE | CMD_BENCH, AT(repack_cache), 0, 0, NULL, "DIR",
     "keep repacked weights in this folder (as large as the model) and map them at the next start"},
    {"repack-cache-size", NULL, KIND_U32, ENGINE | CMD_BENCH, AT(repack_cache_gib), 1, 1 << 20, "32", "GIB",
     "most that the folder holds; weights that were not used for longest go first"},
    {"chat-template-file", NULL, KIND_STR, ENGINE | CMD_INSPECT, AT(chat_template_file), 0, 0, NULL, "FILE",
     "Jinja chat template in place of the model's"},
    {"dialect", NULL, KIND_STR, ENGINE | CMD_INSPECT, AT(dialect), 0, 0, NULL, "NAME",
     "how the model writes tool calls, if the template does not show it: hermes, qwen3-coder, llama3, ..."},
    {"alias", "a", KIND_LIST, CMD_SERVE, AT(alias), 0, 0, NULL, "NAME", "further model name (repeatable)"},
    {"no-catch-all", NULL, KIND_FLAG, CMD_SERVE, AT(no_catch_all), 0, 0, NULL, NULL,
     "answer 404 for unknown model names instead of serving them with this model"},
    {"api-key", NULL, KIND_LIST, CMD_SERVE, AT(api_key), 0, 0, NULL, "KEY", "require this key (repeatable)"},
    {"api-key-file", NULL, KIND_STR, CMD_SERVE, AT(api_key_file), 0, 0, NULL, "FILE",
     "keys, one a line; # starts a comment"},
    {"pdftotext", NULL, KIND_STR, CMD_SERVE, AT(pdftotext), 0, 0, NULL, "PROGRAM",
     "what reads PDF documents; default: pdftotext of poppler-utils"},
    {"cors", NULL, KIND_LIST, CMD_SERVE, AT(cors), 0, 0, NULL, "ORIGIN",
     "let pages of this origin call the API (repeatable)"},
    {"allowed-host", NULL, KIND_LIST, CMD_SERVE, AT(allowed_host), 0, 0, NULL, "NAME",
     "accept this Host name too while only this machine can connect; * = any (repeatable)"},
    {"max-queue", NULL, KIND_U32, CMD_SERVE, AT(max_queue), 1, 100000, "256", "N", "waiting requests before 529"},
    {"key-requests", NULL, KIND_U32, CMD_SERVE, AT(key_requests), 0, 100000, "0", "N",
     "messages of one key at one time before 429; 0 = no limit"},
    {"thread-time", NULL, KIND_U32, CMD_SERVE, AT(thread_s), 0, 86400, "900", "SECONDS",
     "how long a message thread is held after its last use; 0 = no threads"},
    {"thread-ram", NULL, KIND_U32, CMD_SERVE, AT(thread_ram_mib), 1, 1 << 20, "64", "MIB",
     "memory for message threads"},
    {"rejoin-time", NULL, KIND_U32, CMD_SERVE, AT(rejoin_s), 0, 3600, "15", "SECONDS",
     "how long an answer waits, without computing, for a client that lost its connection; 0 = not at all"},
    {"strict", NULL, KIND_FLAG, CMD_SERVE, AT(strict), 0, 0, NULL, NULL,
     "refuse what would be answered without being honoured"},
    {"temp", NULL, KIND_F32, SAMPLING, AT(temperature), 0, 100, "0.8", "X", "temperature; 0 = greedy"},
    {"top-k", NULL, KIND_U32, SAMPLING, AT(top_k), 0, 1 << 20, "40", "N", "sample from the N best; 0 = off"},
    {"top-p", NULL, KIND_F32, SAMPLING, AT(top_p), 0, 1, "0.95", "X", "sample from the best that sum to X; 1 = off"},
    {"min-p", NULL, KIND_F32, SAMPLING, AT(min_p), 0, 1, "0.05", "X", "drop tokens below X times the best; 0 = off"},
    {"repeat-penalty", NULL, KIND_F32, SAMPLING, AT(repeat_penalty), 0.01, 100, "1", "X",
     "over the last 64 tokens; 1 = off"},
    {"seed", "s", KIND_U64, SAMPLING | CMD_GRAMMAR, AT(seed), 0, 1.8446744073709552e19, NULL, "N",
     "random seed; default: a new one each time"},
    {"prompt", "p", KIND_STR, CMD_RUN | CMD_TOKENIZE, AT(prompt), 0, 0, NULL, "TEXT",
     "the text; default: standard input"},
    {"system-prompt", "sys", KIND_STR, CMD_RUN | CMD_CHAT, AT(system), 0, 0, NULL, "TEXT", "system prompt"},
    {"n-predict", "n", KIND_U32, CMD_RUN | CMD_CHAT, AT(n_predict), 0, 1 << 24, "0", "N",
     "most tokens of an answer; 0 = until the model ends"},
    {"schema", NULL, KIND_STR, CMD_RUN | CMD_BENCH, AT(schema), 0, 0, NULL, "FILE",
     "run: the answer is JSON that fits this schema; bench: decoding with it and without"},
    {"n-prompt", "p", KIND_STR, CMD_BENCH, AT(bench_prompt), 0, 0, "512", "N[,N...]", "prompt lengths; 0 = none"},
    {"n-gen", "n", KIND_STR, CMD_BENCH, AT(bench_gen), 0, 0, "128", "N[,N...]", "generation lengths; 0 = none"},
    {"n-depth", "d", KIND_STR, CMD_BENCH, AT(bench_depth), 0, 0, "0", "N[,N...]", "tokens already in the context"},
    {"n-parallel", "np", KIND_STR, CMD_BENCH, AT(bench_parallel), 0, 0, "1", "N[,N...]", "sequences at the same time"},
    {"threads", "t", KIND_STR, CMD_BENCH, AT(bench_threads), 0, 0, "0", "N[,N...]",
     "thread counts; 0 = physical cores"},
    {"kernels", NULL, KIND_STR, CMD_BENCH, AT(kernels), 0, 0, NULL, "TYPES",
     "no model: measure the products of weight types (\"all\", or names separated by commas) beside this machine's "
     "ceilings"},
    {"repetitions", "r", KIND_U32, CMD_BENCH, AT(repetitions), 1, 1000, "5", "N", "runs of each test"},
    {"batch-size", "b", KIND_U32, CMD_BENCH, AT(batch_size), 1, 8192, "512", "N", "most tokens of one step"},
    {"json", NULL, KIND_FLAG, CMD_INSPECT | CMD_BENCH | CMD_TOKENIZE, AT(json), 0, 0, NULL, NULL,
     "machine-readable output"},
    {"bench", NULL, KIND_FLAG, CMD_TOKENIZE, AT(bench), 0, 0, NULL, NULL, "measure tokenising speed on the text"},
    {"ids", NULL, KIND_FLAG, CMD_TOKENIZE, AT(show_ids), 0, 0, NULL, NULL, "ids only, one line"},
    {"no-parse-special", NULL, KIND_FLAG, CMD_TOKENIZE, AT(no_special), 0, 0, NULL, NULL,
     "treat control tokens in the text as text"},
    {"check", NULL, KIND_STR, CMD_GRAMMAR, AT(check), 0, 0, NULL, "TEXT", "say whether TEXT fits"},
    {"sample", NULL, KIND_U32, CMD_GRAMMAR, AT(sample), 0, 100000, "0", "N", "write N random texts that fit"},
    {"explain", NULL, KIND_FLAG, CMD_GRAMMAR, AT(explain), 0, 0, NULL, NULL,
     "widen what cannot be expressed, as for tools, and list it"},
    {"verbose", "v", KIND_FLAG, EVERY, AT(verbose), 0, 0, NULL, NULL, "log more"},
    {"quiet", "q", KIND_FLAG, EVERY, AT(quiet), 0, 0, NULL, NULL, "log errors only"},
    {"help", "h", KIND_FLAG, EVERY, AT(help), 0, 0, NULL, NULL, "this text"},
};
#define N_ROWS (sizeof rows / sizeof *rows)
_Static_assert(N_ROWS <= 64, "options.given has a bit per row");

static size_t distance(const char *a, const char *b)
{
    enum { MAX = 40 };
    size_t n = strlen(a), m = strlen(b), row[MAX + 1];
    if (n > MAX || m > MAX) return MAX;
    for (size_t j = 0; j <= m; j++) row[j] = j;
    for (size_t i = 1; i <= n; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= m; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best) best = row[j] + 1;
            if (row[j - 1] + 1 < best) best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[m];
}

const char *options_nearest(const char *word, const char *const *words)
{
    const char *best = NULL;
    size_t least = strlen(word) / 2 + 1;
    for (; *words; words++) {
        size_t d = distance(word, *words);
        if (d < least) least = d, best = *words;
    }
    return best;
}

static bool unknown_flag(const char *flag, enum command command, struct err *e)
{
    const char *names[N_ROWS + 1];
    size_t n = 0;
    for (size_t i = 0; i < N_ROWS; i++)
        if (rows[i].commands & (int)command) names[n++] = rows[i].name;
    names[n] = NULL;
    const char *near = options_nearest(flag + strspn(flag, "-"), names);
    if (near) return err_set(e, ERR_INVALID, "unknown flag %s; did you mean --%s?", flag, near);
    return err_set(e, ERR_INVALID, "unknown flag %s; --help lists the flags", flag);
}

/* Finds "--name", "--name=value" or "-l"; *value is what stands behind the "=". */
static const struct row *find_row(const char *word, enum command command, const char **value)
{
    size_t len = strcspn(word, "=");
    *value = word[len] ? word + len + 1 : NULL;
    for (size_t i = 0; i < N_ROWS; i++) {
        const struct row *r = &rows[i];
        if (!(r->commands & (int)command)) continue;
        if (len > 2 && word[0] == '-' && word[1] == '-' && strlen(r->name) == len - 2 &&
            memcmp(word + 2, r->name, len - 2) == 0)
            return r;
        if (r->letter && word[0] == '-' && strlen(r->letter) == len - 1 && memcmp(word + 1, r->letter, len - 1) == 0)
            return r;
    }
    return NULL;
}

static bool set_number(void *field, const struct row *r, const char *text, struct err *e)
{
    char *end = NULL;
    errno = 0;
    double x = strtod(text, &end);
    bool whole = r->kind == KIND_F32 || floor(x) == x;
    if (end == text || *end || errno || isnan(x) || !whole || x < r->min || x > r->max)
        return err_set(e, ERR_INVALID, "--%s: expected a %snumber from %.10g to %.10g, found \"%s\"", r->name,
                       r->kind == KIND_F32 ? "" : "whole ", r->min, r->max, text);
    if (r->kind == KIND_F32) *(float *)field = (float)x;
    else if (r->kind == KIND_U32) *(uint32_t *)field = (uint32_t)x;
    else *(uint64_t *)field = strtoull(text, NULL, 10);
    return true;
}

static bool set_value(struct options *o, const struct row *r, const char *text, struct err *e)
{
    void *field = (char *)o + r->offset;
    switch (r->kind) {
    case KIND_FLAG: *(bool *)field = true; return true;
    case KIND_STR: *(const char **)field = text; return true;
    case KIND_LIST: {
        struct options_list *list = field;
        if (list->n == OPTIONS_LIST_MAX)
            return err_set(e, ERR_INVALID, "--%s: given more than %d times", r->name, list->n);
        list->items[list->n++] = text;
        return true;
    }
    default: return set_number(field, r, text, e);
    }
}

static bool set_defaults(struct options *o, enum command command, struct err *e)
{
    *o = (struct options){0};
    for (size_t i = 0; i < N_ROWS; i++)
        if ((rows[i].commands & (int)command) && rows[i].fallback && !set_value(o, &rows[i], rows[i].fallback, e))
            return false;
    return true;
}

bool options_parse(struct options *o, enum command command, int argc, char **argv, struct err *e)
{
    if (!set_defaults(o, command, e)) return false;
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i], *value;
        if (word[0] != '-' || word[1] == '\0') {
            if (o->file) return err_set(e, ERR_INVALID, "unexpected word \"%s\"", word);
            o->file = word;
            continue;
        }
        const struct row *r = find_row(word, command, &value);
        if (!r) return unknown_flag(word, command, e);
        if (r->kind == KIND_FLAG && value) return err_set(e, ERR_INVALID, "--%s takes no value", r->name);
        if (r->kind != KIND_FLAG && !value) {
            if (i + 1 == argc) return err_set(e, ERR_INVALID, "--%s needs a value: %s", r->name, r->value);
            value = argv[++i];
        }
        if (!set_value(o, r, value, e)) return false;
        o->given |= (uint64_t)1 << (r - rows);
    }
    return true;
}

bool options_given(const struct options *o, const char *name)
{
    for (size_t i = 0; i < N_ROWS; i++)
        if ((o->given >> i & 1) && strcmp(rows[i].name, name) == 0) return true;
    return false;
}

void options_print_help(enum command command, const char *name, const char *summary, const char *usage)
{
    printf("parley %s: %s\n\nusage: parley %s %s\n\n", name, summary, name, usage);
    for (size_t i = 0; i < N_ROWS; i++) {
        const struct row *r = &rows[i];
        if (!(r->commands & (int)command)) continue;
        char left[80];
        snprintf(left, sizeof left, "%s%s%s--%s%s%s", r->letter ? "-" : "", r->letter ? r->letter : "",
                 r->letter ? ", " : "    ", r->name, r->value ? " " : "", r->value ? r->value : "");
        bool show = r->fallback && strcmp(r->fallback, "0") != 0;
        printf("  %-32s %s%s%s%s\n", left, r->help, show ? " (default " : "", show ? r->fallback : "", show ? ")" : "");
    }
}
