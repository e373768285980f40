/* main: finds the subcommand, parses its flags, sets the log level and hands over to cli/. */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"

static const struct {
    const char *name, *summary, *usage;
    enum command command;
    int (*run)(const struct options *o);
} commands[] = {
    {"serve", "serve a model over Anthropic's Messages API", "-m FILE [flags]", CMD_SERVE, cli_serve},
    {"run", "answer one prompt on standard output", "-m FILE [-p TEXT] [flags]", CMD_RUN, cli_run},
    {"chat", "talk to a model in the terminal", "-m FILE [flags]", CMD_CHAT, cli_chat},
    {"tokenize", "show how a text is cut into tokens", "-m FILE [-p TEXT | FILE] [flags]", CMD_TOKENIZE, cli_tokenize},
    {"inspect", "show what a model file holds and needs", "FILE [--json]", CMD_INSPECT, cli_inspect},
    {"bench", "measure prefill and decode speed", "-m FILE [flags]", CMD_BENCH, cli_bench},
    {"grammar", "check texts against a schema, GBNF or regular expression",
     "FILE.json|FILE.gbnf|FILE.regex [--check TEXT | --sample N | --explain]", CMD_GRAMMAR, cli_grammar},
};
#define N_COMMANDS (sizeof commands / sizeof *commands)

static int print_help(FILE *to)
{
    fprintf(to, "parley " PARLEY_VERSION
                ": local language models over Anthropic's Messages API\n\nusage: parley COMMAND [flags]\n\n");
    for (size_t i = 0; i < N_COMMANDS; i++) fprintf(to, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fprintf(to, "\nparley COMMAND --help lists the flags of a command.\n");
    return to == stdout ? 0 : 1;
}

static int unknown_command(const char *word)
{
    const char *names[N_COMMANDS + 1] = {NULL};
    for (size_t i = 0; i < N_COMMANDS; i++) names[i] = commands[i].name;
    const char *near = options_nearest(word, names);
    fprintf(stderr, "parley: unknown command %s%s%s%s; parley --help lists the commands\n", word,
            near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    return 1;
}

int main(int argc, char **argv)
{
    signal(SIGPIPE, SIG_IGN);
    if (argc < 2) return print_help(stderr);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0)
        return print_help(stdout);
    if (strcmp(argv[1], "--version") == 0) {
        puts("parley " PARLEY_VERSION);
        return 0;
    }
    size_t i = 0;
    while (i < N_COMMANDS && strcmp(commands[i].name, argv[1]) != 0) i++;
    if (i == N_COMMANDS) return unknown_command(argv[1]);
    struct options o;
    struct err e = {0};
    if (!options_parse(&o, commands[i].command, argc - 2, argv + 2, &e)) return cli_fail(&e);
    if (o.help) {
        options_print_help(commands[i].command, commands[i].name, commands[i].summary, commands[i].usage);
        return 0;
    }
    log_set_level(o.quiet ? LOG_ERROR : o.verbose ? LOG_DEBUG : commands[i].command == CMD_SERVE ? LOG_INFO : LOG_WARN);
    return commands[i].run(&o);
}
