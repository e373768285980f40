/* constraint: what an answer may be: reasoning first, which nothing constrains but its budget, then the answer, which
 * keeps to a grammar. The sampler draws first and the matcher looks at the token; only where it refuses is a mask made
 * and drawn again. Both sides see the same token once: taking it is checking it. Engine's thread. */
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"
#include "engine/engine_internal.h"

#define SPACE_MAX 16 /* bytes of white space around a marker */
#define RECENT 256   /* tokens whose ends are remembered: at least as many as a marker has bytes */
#define DRAWS_MAX 32 /* tokens that are tried one by one where a mask is costly */
#define WORK_MORE 8  /* times the work of a mask: what was found by then has to do */
/* Draws from a mask: the grammar knows nothing of budgets, nor how much white space is enough. */
#define MASKED_DRAWS_MAX 256
_Static_assert(ENGINE_MARKER_MAX < RECENT, "a marker has at most a token a byte");

enum phase {
    PHASE_OPENING,   /* reasoning or the answer may begin; `tail` holds what may still become the start marker */
    PHASE_REASONING, /* `tail` holds the last bytes: the end marker may have begun */
    PHASE_GAP,       /* behind the end marker: white space, or the answer */
    PHASE_ANSWER
};

struct constraint {
    enum phase phase;
    struct grammar_matcher *matcher; /* NULL = the answer is free */
    struct buf start, end, close, also[ENGINE_ALSO_MAX], tail;
    size_t longest; /* of end and also */
    bool has_budget, close_now, is_closing;
    bool is_help; /* the grammar promises nothing: it may be given up */
    uint32_t budget;
    uint32_t n_space;      /* OPENING, GAP: bytes of white space so far */
    bool is_marker;        /* OPENING: the text can no longer be an answer, only the marker */
    uint32_t n_fed;        /* OPENING: steps of the matcher, to be taken back when it was reasoning after all */
    uint32_t n_tokens;     /* of the reasoning, those of a marker that began included */
    uint32_t n_counted;    /* of the reasoning, once it has ended or its end is forced */
    uint64_t n_bytes;      /* of the reasoning */
    uint64_t ends[RECENT]; /* [token % RECENT]: bytes up to its end */
    struct sections sections;
};

/* ---- life ---- */

static bool copy_marker(struct buf *out, struct str text, const char *what, struct err *e)
{
    buf_init(out, ENGINE_MARKER_MAX);
    return buf_append(out, text) ||
           err_set(e, ERR_INVALID, "the %s of the reasoning has more than %d bytes", what, ENGINE_MARKER_MAX);
}

static bool copy_reasoning(struct constraint *c, const struct engine_reasoning *r, struct err *e)
{
    buf_init(&c->tail, (size_t)1 << 20);
    bool ok = copy_marker(&c->start, r->start, "start", e) && copy_marker(&c->end, r->end, "end", e) &&
              copy_marker(&c->close, r->close, "forced end", e);
    ok = ok && sections_init(&c->sections, r, e);
    c->longest = r->end.len;
    for (size_t i = 0; ok && i < ENGINE_ALSO_MAX; i++) {
        ok = copy_marker(&c->also[i], r->also[i], "other end", e);
        if (r->also[i].len > c->longest) c->longest = r->also[i].len;
    }
    if (!ok) return false;
    if (r->end.len && r->has_budget && str_find(r->close, r->end, 0) < 0)
        return err_set(e, ERR_INVALID, "the forced end of the reasoning does not hold its end marker");
    c->has_budget = r->has_budget;
    c->budget = r->budget;
    if (!r->end.len || r->recurs) c->phase = PHASE_ANSWER;
    else if (r->is_open) c->phase = PHASE_REASONING;
    else c->phase = r->start.len ? PHASE_OPENING : PHASE_ANSWER;
    return true;
}

bool constraint_create(struct constraint **out, struct engine *g, const struct engine_request *r, struct err *e)
{
    *out = NULL;
    if (!r->grammar && !r->reasoning.end.len) return true;
    struct constraint *c = mem_try_zalloc(sizeof *c);
    if (!c) return err_set(e, ERR_BUSY, "no memory for a constraint");
    bool ok = copy_reasoning(c, &r->reasoning, e);
    c->is_help = r->grammar_is_help;
    if (ok && r->grammar) ok = (c->matcher = grammar_matcher_create(r->grammar, g->vocab, e)) != NULL;
    if (ok) *out = c;
    else constraint_destroy(c);
    return ok;
}

void constraint_destroy(struct constraint *c)
{
    if (!c) return;
    grammar_matcher_destroy(c->matcher);
    buf_deinit(&c->start);
    buf_deinit(&c->end);
    buf_deinit(&c->close);
    for (size_t i = 0; i < ENGINE_ALSO_MAX; i++) buf_deinit(&c->also[i]);
    buf_deinit(&c->tail);
    sections_deinit(&c->sections);
    mem_free(c);
}

/* ---- one token ---- */

static struct str piece_of(struct engine *g, uint32_t token)
{
    buf_clear(&g->piece);
    g->ops.piece(g->ops.ctx, &g->piece, token);
    return buf_str(&g->piece);
}

static struct str without_space(struct str s)
{
    while (s.len && (*s.ptr == ' ' || *s.ptr == '\n' || *s.ptr == '\t' || *s.ptr == '\r')) s = str_slice(s, 1, s.len);
    return s;
}

/* Free text takes every token; those without a text (unused ids) are no step of the matcher. */
static bool take_by_grammar(struct engine *g, struct constraint *c, uint32_t token)
{
    if (!c->matcher || grammar_matcher_accept(c->matcher, token)) return true;
    return !grammar_matcher_constrains(c->matcher) && piece_of(g, token).len == 0;
}

static bool take_answer(struct engine *g, struct constraint *c, uint32_t token)
{
    if (!c->sections.is_on) return take_by_grammar(g, c, token);
    if (!sections_allow(&c->sections, piece_of(g, token)) || !take_by_grammar(g, c, token)) return false;
    sections_take(&c->sections, piece_of(g, token));
    return true;
}

/* The answer's first token: white space before it does not count. */
static bool take_first(struct constraint *c, uint32_t token, struct str piece, struct str text)
{
    return text.len == piece.len ? grammar_matcher_accept(c->matcher, token) : grammar_matcher_feed(c->matcher, text);
}

static bool take_space(struct constraint *c, size_t len)
{
    if (len == 0 || c->n_space + len > SPACE_MAX) return false;
    c->n_space += (uint32_t)len;
    return true;
}

static bool take_gap(struct engine *g, struct constraint *c, uint32_t token)
{
    struct str piece = piece_of(g, token), text = without_space(piece);
    if (!text.len) return take_space(c, piece.len);
    if (!take_first(c, token, piece, text)) return false;
    c->phase = PHASE_ANSWER;
    return true;
}

static void begin_answer(struct constraint *c, bool has_begun)
{
    c->phase = c->matcher && !has_begun ? PHASE_GAP : PHASE_ANSWER;
    c->n_space = 0;
    buf_clear(&c->tail);
}

/* Tokens that end behind byte `at` of the reasoning belong to the marker. */
static uint32_t tokens_before(const struct constraint *c, uint64_t at)
{
    uint32_t n = c->n_tokens;
    while (n && c->n_tokens - n < RECENT && c->ends[(n - 1) % RECENT] > at) n--;
    return n;
}

/* The first marker in the tail, or -1; *len = its length when the answer begins behind it, 0 when it begins with it. */
static ptrdiff_t find_end(const struct constraint *c, size_t *len)
{
    struct str tail = buf_str(&c->tail);
    ptrdiff_t best = str_find(tail, buf_str(&c->end), 0);
    *len = c->end.len;
    for (size_t i = 0; i < ENGINE_ALSO_MAX; i++) {
        ptrdiff_t at = c->also[i].len ? str_find(tail, buf_str(&c->also[i]), 0) : -1;
        if (at < 0 || (best >= 0 && at >= best)) continue;
        best = at;
        *len = 0;
    }
    return best;
}

static bool take_reasoning(struct engine *g, struct constraint *c, uint32_t token)
{
    struct str piece = piece_of(g, token);
    size_t before = c->tail.len, keep = c->longest - 1, len;
    if (!buf_append(&c->tail, piece)) return false;
    ptrdiff_t at = find_end(c, &len);
    if (at >= 0) {
        struct str answer = without_space(str_slice(buf_str(&c->tail), (size_t)at + len, c->tail.len));
        bool is_token = answer.len == piece.len && (size_t)at + len == before; /* may be a control token */
        bool fits = !answer.len || !c->matcher ||
                    (is_token ? grammar_matcher_accept(c->matcher, token) : grammar_matcher_feed(c->matcher, answer));
        if (!fits) {
            c->tail.len = before;
            return false;
        }
        if (!c->is_closing) c->n_counted = tokens_before(c, c->n_bytes - before + (uint64_t)at);
        begin_answer(c, answer.len > 0);
        return true;
    }
    c->n_bytes += piece.len;
    c->ends[c->n_tokens++ % RECENT] = c->n_bytes;
    if (c->tail.len > keep) {
        memmove(c->tail.ptr, c->tail.ptr + c->tail.len - keep, keep);
        c->tail.len = keep;
    }
    return true;
}

/* What stands behind the start marker is reasoning already. */
static void begin_reasoning(struct constraint *c)
{
    size_t len = c->tail.len - c->start.len;
    if (c->matcher) grammar_matcher_rollback(c->matcher, c->n_fed);
    memmove(c->tail.ptr, c->tail.ptr + c->start.len, len);
    c->tail.len = len;
    c->n_bytes = len;
    c->is_marker = false;
    c->phase = PHASE_REASONING;
}

/* The answer and the start marker may begin alike: the matcher goes along until it is clear which one it is. */
static bool take_opening(struct engine *g, struct constraint *c, uint32_t token)
{
    struct str piece = piece_of(g, token), text = c->tail.len ? piece : without_space(piece);
    size_t before = c->tail.len;
    if (!text.len) return take_space(c, piece.len) || !c->matcher;
    if (!buf_append(&c->tail, text)) return false;
    if (str_starts(buf_str(&c->tail), buf_str(&c->start))) {
        begin_reasoning(c);
        return true;
    }
    bool is_prefix = str_starts(buf_str(&c->start), buf_str(&c->tail));
    bool fits = !c->matcher || (!c->is_marker && take_first(c, token, piece, text));
    if (!fits && !is_prefix) {
        c->tail.len = before;
        return false;
    }
    if (fits) c->n_fed++;
    else c->is_marker = true;
    if (!is_prefix) begin_answer(c, true);
    return true;
}

bool constraint_take(struct engine *g, struct constraint *c, uint32_t token)
{
    switch (c->phase) {
    case PHASE_OPENING: return take_opening(g, c, token);
    case PHASE_REASONING: return take_reasoning(g, c, token);
    case PHASE_GAP: return take_gap(g, c, token);
    case PHASE_ANSWER: break;
    }
    return take_answer(g, c, token);
}

/* Whether the answer may end here. Reasoning without an answer is one only where an answer may be empty. */
static bool may_end(struct constraint *c)
{
    return !c->matcher || (!c->is_marker && grammar_matcher_may_end(c->matcher));
}

/* ---- the draw ---- */

/* In the opening the next token of the start marker may come, too. */
static bool allow_marker(struct engine *g, struct constraint *c, struct err *e)
{
    if (c->phase != PHASE_OPENING) return true;
    struct str rest = str_slice(buf_str(&c->start), c->tail.len, c->start.len);
    g->forced.n = 0;
    if (!g->ops.encode(g->ops.ctx, &g->forced, rest, e)) return false;
    if (g->forced.n && g->forced.ids[0] < g->n_vocab)
        g->mask[g->forced.ids[0] / 64] |= UINT64_C(1) << g->forced.ids[0] % 64;
    return true;
}

/* The model may have more rows of logits than there are tokens, or fewer. */
static void mask_trim(struct engine *g)
{
    if (g->n_vocab % 64) g->mask[g->n_vocab / 64] &= (UINT64_C(1) << g->n_vocab % 64) - 1;
}

enum mask_result { MASK_MADE, MASK_EMPTY, MASK_COSTLY };

/* g->mask = the tokens that may come next, within `work` (grammar_matcher_mask_within); MASK_COSTLY: some of them. */
static enum mask_result make_mask(struct engine *g, struct constraint *c, size_t work)
{
    size_t n = ((size_t)g->n_vocab + 63) / 64, n_bits = GRAMMAR_MASK_WORDS(grammar_vocab_size(g->vocab)), n_set;
    enum mask_result made = MASK_MADE;
    if (c->is_marker) {
        memset(g->mask, 0, n * sizeof *g->mask);
    } else {
        if (!grammar_matcher_mask_within(c->matcher, g->bits, &n_set, work)) made = MASK_COSTLY;
        if (!n_set && made == MASK_MADE && c->phase != PHASE_OPENING) return MASK_EMPTY;
        for (size_t i = 0; i < n; i++) {
            uint64_t low = 2 * i < n_bits ? g->bits[2 * i] : 0, high = 2 * i + 1 < n_bits ? g->bits[2 * i + 1] : 0;
            g->mask[i] = low | high << 32;
        }
    }
    mask_trim(g);
    return made;
}

static bool take_drawn(struct engine *g, struct constraint *c, uint32_t token)
{
    return g->ops.is_eog(g->ops.ctx, token) ? may_end(c) : constraint_take(g, c, token);
}

/* The grammar cannot go on. It is given up where nothing was promised: in free text, or when it is only a help. */
static bool give_up(struct constraint *c, struct err *e)
{
    if (!c->is_help && (c->phase != PHASE_ANSWER || grammar_matcher_constrains(c->matcher)))
        return err_set(e, ERR_TOO_LARGE,
                       "the grammar cannot go on from here: out of its budget of memory, or a dead end");
    log_warn("a grammar was given up in mid-answer: out of its budget of memory, or a dead end");
    grammar_matcher_destroy(c->matcher);
    c->matcher = NULL;
    if (c->phase != PHASE_REASONING) c->phase = PHASE_ANSWER;
    return true;
}

/* Tokens of g->mask as the model wants them, without those that were refused, which gives the same distribution. */
static bool draw_one_by_one(struct engine *g, struct constraint *c, struct sampler_choice *out, struct sampler *sampler,
                            const float *logits, int most)
{
    for (int i = 0; i < most; i++) {
        if (!sampler_draw(sampler, out, logits, g->mask)) return false;
        if (take_drawn(g, c, out->token)) return true;
        g->mask[out->token / 64] &= ~(UINT64_C(1) << out->token % 64);
    }
    return false;
}

/* All tokens but the one that was refused. */
static bool draw_another(struct engine *g, struct constraint *c, struct sampler_choice *out, struct sampler *sampler,
                         const float *logits)
{
    memset(g->mask, 0xff, ((size_t)g->n_vocab + 63) / 64 * sizeof *g->mask);
    mask_trim(g);
    g->mask[out->token / 64] &= ~(UINT64_C(1) << out->token % 64);
    return draw_one_by_one(g, c, out, sampler, logits, DRAWS_MAX);
}

/* The mask takes too long: any other token; then those that a longer bound finds, which is not
 * the whole mask. False: there is no way around it. */
static bool draw_without_mask(struct engine *g, struct constraint *c, struct sampler_choice *out,
                              struct sampler *sampler, const float *logits)
{
    if (draw_another(g, c, out, sampler, logits)) return true;
    return make_mask(g, c, WORK_MORE * g->mask_work) != MASK_EMPTY &&
           draw_one_by_one(g, c, out, sampler, logits, DRAWS_MAX);
}

bool constraint_draw(struct engine *g, struct constraint *c, struct sampler_choice *out, bool *must_close,
                     struct sampler *sampler, const float *logits, struct err *e)
{
    *must_close = false;
    if (!sampler_draw(sampler, out, logits, NULL)) return err_set(e, ERR_INTERNAL, "the model gave no usable logits");
    if (take_drawn(g, c, out->token)) return true;
    if (c->phase == PHASE_REASONING) return c->close_now = *must_close = true;
    if (!c->matcher) /* a section that may not begin */
        return draw_another(g, c, out, sampler, logits) ||
               err_set(e, ERR_INTERNAL, "no token may follow the reasoning");
    struct sampler_choice drawn = *out; /* what the model says if the grammar has to go */
    enum mask_result made = make_mask(g, c, g->mask_work);
    if (made == MASK_COSTLY) {
        if (draw_without_mask(g, c, out, sampler, logits)) return true;
        made = make_mask(g, c, SIZE_MAX);
    }
    if (made == MASK_MADE) {
        if (!allow_marker(g, c, e)) return false;
        if (draw_one_by_one(g, c, out, sampler, logits, MASKED_DRAWS_MAX)) return true;
    }
    *out = drawn;
    return give_up(c, e);
}

/* ---- what needs no model ---- */

bool constraint_must_close(const struct constraint *c)
{
    if (sections_must_close(&c->sections)) return true;
    return c->phase == PHASE_REASONING && (c->close_now || (c->has_budget && c->n_tokens >= c->budget));
}

/* Bytes at the end of the reasoning that are the beginning of its end marker. */
static size_t begun_marker(const struct constraint *c)
{
    struct str tail = buf_str(&c->tail), end = buf_str(&c->end);
    size_t n = tail.len < end.len ? tail.len : end.len - 1;
    while (n && !str_ends(tail, str_slice(end, 0, n))) n--;
    return n;
}

static bool forced_end(struct engine *g, struct constraint *c, struct token_list *out, struct err *e)
{
    struct str text = buf_str(&c->close);
    size_t begun = begun_marker(c);
    ptrdiff_t at = str_find(text, buf_str(&c->end), 0);
    if (at < 0) text = buf_str(&c->end), at = 0;
    c->is_closing = true;
    c->n_counted = tokens_before(c, c->n_bytes - begun);
    if (begun) text = str_slice(text, (size_t)at + begun, text.len);
    else if (c->tail.len == 0 || c->tail.ptr[c->tail.len - 1] == '\n')
        text = str_starts(text, STR("\n")) ? str_slice(text, 1, text.len) : text;
    return g->ops.encode(g->ops.ctx, out, text, e);
}

bool constraint_forced(struct engine *g, struct constraint *c, struct token_list *out, struct err *e)
{
    if (sections_must_close(&c->sections)) return g->ops.encode(g->ops.ctx, out, sections_closing(&c->sections), e);
    if (constraint_must_close(c)) return forced_end(g, c, out, e);
    if (c->phase != PHASE_ANSWER || !c->matcher || !grammar_matcher_constrains(c->matcher)) return true;
    return g->ops.forced(g->ops.ctx, out, c->matcher, e);
}

bool constraint_ended(struct constraint *c)
{
    return c->phase == PHASE_ANSWER && c->matcher && grammar_matcher_ended(c->matcher);
}

uint32_t constraint_n_reasoning(const struct constraint *c)
{
    if (c->sections.is_on) return c->sections.n_tokens;
    return c->phase == PHASE_REASONING && !c->is_closing ? c->n_tokens : c->n_counted;
}
