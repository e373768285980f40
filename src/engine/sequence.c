/* sequence: one request from its checked copy to its last event: tokens, sampler, text on its way out. Everything that
 * generation needs is allocated by sequence_prepare; steps allocate nothing but for a token longer than any before. */
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "engine/engine_internal.h"

#define TEXT_RESERVE 4096u          /* bytes of text that one token usually does not exceed */
#define TEXT_MAX ((size_t)16 << 20) /* more in one token is an error */

static bool check_request(const struct engine *g, const struct engine_request *r, struct err *e)
{
    if (!r->sink) return err_set(e, ERR_INVALID, "a request needs a sink for its events");
    if (!r->n_tokens) return err_set(e, ERR_INVALID, "the prompt is empty; at least one token is needed");
    if (r->n_tokens >= g->plan.n_ctx)
        return err_set(e, ERR_TOO_LARGE, "the prompt has %u tokens; the context of %u leaves room for at most %u",
                       r->n_tokens, g->plan.n_ctx, g->plan.n_ctx - 1);
    for (uint32_t i = 0; i < r->n_tokens; i++)
        if (r->tokens[i] >= g->n_vocab)
            return err_set(e, ERR_INVALID, "prompt token %u is %u; the vocabulary has %u tokens", i, r->tokens[i],
                           g->n_vocab);
    return true;
}

struct sequence *sequence_create(struct engine *g, const struct engine_request *r, struct err *e)
{
    if (!check_request(g, r, e)) return NULL;
    struct stops *stops = NULL;
    struct constraint *constraint = NULL;
    if (r->n_stops && !(stops = stops_create(r->stops, r->n_stops, e))) return NULL;
    if (!constraint_create(&constraint, g, r, e)) {
        stops_destroy(stops);
        return NULL;
    }
    struct sequence *s = mem_try_zalloc(sizeof *s);
    uint32_t *tokens = mem_try_alloc(r->n_tokens * sizeof *tokens);
    if (!s || !tokens) {
        mem_free(s);
        mem_free(tokens);
        stops_destroy(stops);
        constraint_destroy(constraint);
        err_set(e, ERR_BUSY, "no memory for a prompt of %u tokens", r->n_tokens);
        return NULL;
    }
    memcpy(tokens, r->tokens, r->n_tokens * sizeof *tokens);
    s->submit = (struct command){.kind = COMMAND_SUBMIT, .seq = s};
    s->tokens = tokens;
    s->cap = s->n_tokens = s->n_prompt = r->n_tokens;
    s->stops = stops;
    s->constraint = constraint;
    s->salt = r->salt;
    s->sink = r->sink;
    s->ctx = r->ctx;
    s->sampling = r->sampling;
    s->show_control = r->show_control;
    s->max_tokens = r->max_tokens;
    s->detok.started = true; /* the answer continues the prompt: its first space is part of it */
    s->submitted_s = clock_seconds();
    buf_init(&s->text, TEXT_MAX);
    return s;
}

void sequence_destroy(struct sequence *s)
{
    if (!s) return;
    stops_destroy(s->stops);
    constraint_destroy(s->constraint);
    sampler_destroy(s->sampler);
    buf_deinit(&s->text);
    mem_free(s->state);
    mem_free(s->tokens);
    mem_free(s);
}

bool sequence_prepare(struct engine *g, struct sequence *s, struct err *e)
{
    uint32_t room = g->plan.n_ctx - s->n_prompt;
    s->cap = s->n_prompt + (s->max_tokens < room ? s->max_tokens : room);
    uint32_t *tokens = mem_try_realloc(s->tokens, s->cap * sizeof *tokens);
    if (tokens) s->tokens = tokens;
    if (g->state_bytes) s->state = mem_try_alloc(g->state_bytes);
    if (!tokens || (g->state_bytes && !s->state) || !buf_reserve(&s->text, TEXT_RESERVE + stops_longest(s->stops)))
        return err_set(e, ERR_BUSY, "no memory for a sequence of %u tokens", s->cap);
    s->sampler = sampler_create(&s->sampling, g->n_vocab);
    for (uint32_t i = 0; i < s->n_prompt; i++) sampler_accept(s->sampler, s->tokens[i], false);
    return true;
}

void sequence_send(struct sequence *s, struct engine_event *ev)
{
    ev->n_prompt = s->n_prompt;
    ev->n_cached = s->n_cached;
    ev->n_generated = s->n_generated;
    ev->tokens = s->tokens + s->n_prompt;
    ev->n_reasoning = s->n_reasoning;
    s->sink(s->ctx, ev);
}

static void send_text(struct sequence *s, size_t len, bool is_last)
{
    if (!len) return;
    sequence_send(s, &(struct engine_event){.kind = ENGINE_TEXT, .text = {s->text.ptr, len}, .is_last = is_last});
    memmove(s->text.ptr, s->text.ptr + len, s->text.len - len);
    s->text.len -= len;
}

/* Looks for stop strings in what was appended after `before`; sends what is certain. True: one was found. is_last: the
 * sequence ends with this even if there is none. */
static bool release_text(struct sequence *s, struct engine_event *finish, size_t before, bool is_last)
{
    size_t end = 0;
    uint32_t index = 0, len = 0;
    if (stops_feed(s->stops, &end, &index, &len, str_slice(buf_str(&s->text), before, s->text.len))) {
        send_text(s, before + end - len, true); /* the match began at most as far back as was held */
        s->text.len = 0;
        finish->finish = FINISH_STOP_STRING;
        finish->stop_index = (int)index;
        return true;
    }
    send_text(s, s->text.len - stops_held(s->stops), is_last);
    return false;
}

void sequence_flush(struct engine *g, struct sequence *s, struct engine_event *finish)
{
    size_t before = s->text.len;
    g->ops.finish(g->ops.ctx, &s->detok, &s->text);
    if (!release_text(s, finish, before, true)) send_text(s, s->text.len, true);
}

static bool draw(struct engine *g, struct sequence *s, struct sampler_choice *choice, bool *must_close,
                 const float *logits, struct err *e)
{
    *must_close = false;
    if (s->constraint) return constraint_draw(g, s->constraint, choice, must_close, s->sampler, logits, e);
    return sampler_draw(s->sampler, choice, logits, NULL) ||
           err_set(e, ERR_INTERNAL, "the model gave no usable logits for token %u", s->n_tokens);
}

/* The token becomes part of the answer; its text goes out. */
static enum token_outcome append_token(struct engine *g, struct sequence *s, struct engine_event *finish,
                                       uint32_t token, struct err *e)
{
    sampler_accept(s->sampler, token, true);
    s->tokens[s->n_tokens++] = token;
    s->n_generated++;
    s->n_new++;
    if (s->constraint) s->n_reasoning = constraint_n_reasoning(s->constraint);
    size_t before = s->text.len;
    if (!g->ops.feed(g->ops.ctx, &s->detok, &s->text, token, s->show_control)) {
        err_set(e, ERR_INTERNAL, "token %u has no text, or more than %zu bytes of it", token, TEXT_MAX);
        return TOKEN_FAILS;
    }
    bool is_complete = s->constraint && constraint_ended(s->constraint);
    bool is_last = is_complete || s->n_tokens >= s->cap;
    if (release_text(s, finish, before, is_last)) return TOKEN_ENDS;
    if (!is_last) return TOKEN_GOES_ON;
    finish->finish = is_complete ? FINISH_EOG : s->n_generated >= s->max_tokens ? FINISH_LENGTH : FINISH_CONTEXT;
    finish->eog_token = TOKEN_NONE;
    sequence_flush(g, s, finish);
    return TOKEN_ENDS;
}

/* What needs no model: it is computed together with the next token. */
static enum token_outcome append_forced(struct engine *g, struct sequence *s, struct engine_event *finish,
                                        struct err *e)
{
    struct token_list *list = &g->forced;
    list->n = 0;
    if (!constraint_forced(g, s->constraint, list, e)) return TOKEN_FAILS;
    for (size_t i = 0; i < list->n; i++) {
        if (!constraint_take(g, s->constraint, list->ids[i])) break;
        enum token_outcome outcome = append_token(g, s, finish, list->ids[i], e);
        if (outcome != TOKEN_GOES_ON) return outcome;
    }
    if (s->n_new) return TOKEN_GOES_ON;
    err_set(e, ERR_INTERNAL, "the end of the reasoning has no tokens");
    return TOKEN_FAILS;
}

static enum token_outcome draw_token(struct engine *g, struct sequence *s, struct engine_event *finish,
                                     const float *logits, struct err *e)
{
    struct sampler_choice choice;
    bool must_close;
    if (!draw(g, s, &choice, &must_close, logits, e)) return TOKEN_FAILS;
    if (must_close) return TOKEN_GOES_ON;
    if (!g->ops.is_eog(g->ops.ctx, choice.token)) return append_token(g, s, finish, choice.token, e);
    finish->finish = FINISH_EOG;
    finish->eog_token = choice.token;
    sequence_flush(g, s, finish);
    return TOKEN_ENDS;
}

enum token_outcome sequence_step(struct engine *g, struct sequence *s, struct engine_event *finish, const float *logits,
                                 struct err *e)
{
    enum token_outcome outcome = TOKEN_GOES_ON;
    *finish = (struct engine_event){.kind = ENGINE_FINISHED};
    s->n_new = 0;
    if (!s->n_generated) s->first_token_s = clock_seconds();
    if (!s->constraint || !constraint_must_close(s->constraint)) outcome = draw_token(g, s, finish, logits, e);
    if (outcome != TOKEN_GOES_ON || !s->constraint) return outcome;
    return append_forced(g, s, finish, e);
}
