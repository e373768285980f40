/* chat: a conversation in the terminal. Ctrl-C stops an answer, not the program; Ctrl-D ends it. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "cli/cli.h"

#define MAX_ANSWER_BYTES ((size_t)64 << 20)

struct turn {
    enum chat_role role;
    char *text;
};
struct conversation {
    struct turn *turns;
    size_t n;
};

static volatile sig_atomic_t stop_requested;

static void on_interrupt(int sig)
{
    (void)sig;
    stop_requested = 1;
}

static void push_turn(struct conversation *c, enum chat_role role, char *text)
{
    c->turns = mem_realloc(c->turns, (c->n + 1) * sizeof *c->turns);
    c->turns[c->n++] = (struct turn){role, text};
}

static void clear(struct conversation *c)
{
    for (size_t i = 0; i < c->n; i++) mem_free(c->turns[i].text);
    mem_free(c->turns);
    *c = (struct conversation){0};
}

static struct chat_request *request_of(const struct conversation *c, const struct options *o)
{
    struct chat_request *req = chat_request_create(0);
    req->messages = arena_zalloc(&req->arena, c->n * sizeof *req->messages);
    for (size_t i = 0; i < c->n; i++) {
        struct chat_message *m = &req->messages[i];
        m->role = c->turns[i].role;
        m->blocks = arena_zalloc(&req->arena, sizeof *m->blocks);
        m->blocks->text = arena_try_str(&req->arena, str_from(c->turns[i].text));
        m->n_blocks = 1;
    }
    req->n_messages = c->n;
    if (o->system) {
        req->system = arena_zalloc(&req->arena, sizeof *req->system);
        req->system->text = str_from(o->system);
        req->n_system = 1;
    }
    req->has_max_tokens = o->n_predict > 0;
    req->max_tokens = o->n_predict;
    return req;
}

static bool answer(struct stack *s, struct conversation *c, const struct options *o, struct err *e)
{
    struct buf text;
    struct chat_usage usage = {0};
    buf_init(&text, MAX_ANSWER_BYTES);
    double from = clock_seconds();
    stop_requested = 0;
    bool ok = cli_answer(s, request_of(c, o), &text, &usage, &stop_requested, e);
    if (ok && usage.output_tokens && !o->quiet && isatty(STDERR_FILENO))
        fprintf(stderr, "[%u tokens in, %u of them cached; %u out; %.1f s]\n", usage.input_tokens, usage.cached_tokens,
                usage.output_tokens, clock_seconds() - from);
    push_turn(c, CHAT_ASSISTANT, buf_take(&text)); /* also what was said before Ctrl-C */
    return ok;
}

/* false: the conversation is over. */
static bool read_line(char **line, size_t *cap)
{
    if (isatty(STDIN_FILENO)) {
        printf("> ");
        fflush(stdout);
    }
    for (;;) {
        stop_requested = 0;
        ssize_t n = getline(line, cap, stdin);
        if (n < 0 && stop_requested) { /* Ctrl-C at the prompt */
            clearerr(stdin);
            printf("\n(Ctrl-D or /exit ends the conversation)\n> ");
            fflush(stdout);
            continue;
        }
        if (n < 0) return false;
        while (n > 0 && ((*line)[n - 1] == '\n' || (*line)[n - 1] == '\r')) (*line)[--n] = '\0';
        return true;
    }
}

static void converse(struct stack *s, const struct options *o)
{
    struct conversation c = {0};
    char *line = NULL;
    size_t cap = 0;
    while (read_line(&line, &cap)) {
        if (strcmp(line, "/exit") == 0 || strcmp(line, "/quit") == 0) break;
        if (strcmp(line, "/clear") == 0) {
            clear(&c);
            continue;
        }
        if (line[strspn(line, " \t")] == '\0') continue;
        struct err e = {0};
        char *copy = mem_zalloc(strlen(line) + 1);
        memcpy(copy, line, strlen(line));
        push_turn(&c, CHAT_USER, copy);
        if (!answer(s, &c, o, &e)) cli_fail(&e);
    }
    free(line); /* getline's */
    clear(&c);
}

int cli_chat(const struct options *o)
{
    struct err e = {0};
    struct stack s = {0};
    bool ok = stack_open_backend(&s, o, &e);
    if (ok) {
        if (isatty(STDIN_FILENO) && !o->quiet)
            printf("%s. Ctrl-C stops an answer, /clear starts anew, /exit or Ctrl-D ends.\n", s.model_id);
        sigaction(SIGINT, &(struct sigaction){.sa_handler = on_interrupt}, NULL); /* no SA_RESTART: getline returns */
        converse(&s, o);
    }
    stack_close(&s);
    return ok ? 0 : cli_fail(&e);
}
