/* sampler: one sequence's parameters, random numbers and token counts, and the chain that turns logits into a token.
 * All buffers are allocated at creation (large ones are untouched until the chain needs them); draws allocate nothing.
 * Logits are copied only when penalties change some of them. */
#include "sampler/sampler.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "sampler/sampler_internal.h"

#define MAX_WINDOW 65536
#define MIN_TEMPERATURE 1e-6f /* below it the best token has all the probability: greedy */

struct token_count {
    uint32_t in_window; /* for repeat_penalty */
    uint32_t generated; /* for presence and frequency */
};

struct sampler {
    struct sampler_params p;
    uint32_t n_vocab;
    struct rng rng;
    float *block_max;             /* [n_blocks] */
    float *block_work;            /* [n_blocks]: sums, or maxima to select from */
    struct candidate *candidates; /* [n_vocab] */
    bool penalised;               /* the following are allocated only then */
    float *changed;               /* [n_vocab]: logits after penalties */
    struct token_count *counts;   /* [n_vocab] */
    uint32_t *seen;               /* [n_vocab]: tokens with a count, each once */
    uint32_t n_seen;
    uint32_t *window; /* [penalty_last_n]: ring */
    uint32_t window_len, window_at;
};

static float between(float x, float low, float high, float if_nan)
{
    if (isnan(x)) return if_nan;
    return x < low ? low : x > high ? high : x;
}

static struct sampler_params sane(const struct sampler_params *params)
{
    struct sampler_params p = *params;
    p.temperature = between(p.temperature, 0, 1e6f, 0);
    p.top_p = between(p.top_p, 0, 1, 1);
    p.min_p = between(p.min_p, 0, 1, 0);
    p.repeat_penalty = p.repeat_penalty > 0 ? between(p.repeat_penalty, 1e-3f, 1e3f, 1) : 1;
    p.presence_penalty = between(p.presence_penalty, -1e6f, 1e6f, 0);
    p.frequency_penalty = between(p.frequency_penalty, -1e6f, 1e6f, 0);
    if (p.top_k < 0) p.top_k = 0;
    if (p.penalty_last_n < 0) p.penalty_last_n = 0;
    if (p.penalty_last_n > MAX_WINDOW) p.penalty_last_n = MAX_WINDOW;
    if (p.penalty_last_n == 0) p.repeat_penalty = 1;
    if (p.repeat_penalty == 1) p.penalty_last_n = 0;
    return p;
}

struct sampler *sampler_create(const struct sampler_params *params, uint32_t n_vocab)
{
    struct sampler *s = mem_zalloc(sizeof *s);
    s->p = sane(params);
    s->n_vocab = n_vocab;
    rng_seed(&s->rng, s->p.seed);
    s->block_max = mem_alloc(row_blocks(n_vocab) * sizeof *s->block_max);
    s->block_work = mem_alloc(row_blocks(n_vocab) * sizeof *s->block_work);
    s->candidates = mem_alloc(n_vocab * sizeof *s->candidates);
    s->penalised = s->p.repeat_penalty != 1 || s->p.presence_penalty != 0 || s->p.frequency_penalty != 0;
    if (s->penalised) {
        s->changed = mem_alloc(n_vocab * sizeof *s->changed);
        s->counts = mem_zalloc(n_vocab * sizeof *s->counts);
        s->seen = mem_alloc(n_vocab * sizeof *s->seen);
        s->window = mem_alloc((size_t)s->p.penalty_last_n * sizeof *s->window);
    }
    return s;
}

void sampler_destroy(struct sampler *s)
{
    if (!s) return;
    mem_free(s->block_max);
    mem_free(s->block_work);
    mem_free(s->candidates);
    mem_free(s->changed);
    mem_free(s->counts);
    mem_free(s->seen);
    mem_free(s->window);
    mem_free(s);
}

/* ---- penalties ---- */

static bool counted(const struct token_count *c)
{
    return c->in_window || c->generated;
}

static void window_push(struct sampler *s, uint32_t token)
{
    if (s->window_len == (uint32_t)s->p.penalty_last_n) s->counts[s->window[s->window_at]].in_window--;
    else s->window_len++;
    s->window[s->window_at] = token;
    s->window_at = (s->window_at + 1) % (uint32_t)s->p.penalty_last_n;
    s->counts[token].in_window++;
}

/* A token that fell out of the window stays in `seen` until here, so that accepting it again must not list it twice. */
static void seen_compact(struct sampler *s)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < s->n_seen; i++)
        if (counted(&s->counts[s->seen[i]])) s->seen[kept++] = s->seen[i];
    s->n_seen = kept;
}

void sampler_accept(struct sampler *s, uint32_t token, bool generated)
{
    if (!s->penalised || token >= s->n_vocab) return;
    bool known = counted(&s->counts[token]);
    uint32_t leaving = UINT32_MAX;
    if (s->p.penalty_last_n && s->window_len == (uint32_t)s->p.penalty_last_n) leaving = s->window[s->window_at];
    if (s->p.penalty_last_n) window_push(s, token);
    if (generated && s->counts[token].generated < UINT32_MAX) s->counts[token].generated++;
    if (!known && counted(&s->counts[token])) s->seen[s->n_seen++] = token;
    if (leaving != UINT32_MAX && !counted(&s->counts[leaving])) seen_compact(s);
}

static const float *penalise(struct sampler *s, const float *logits)
{
    if (!s->penalised || !s->n_seen) return logits;
    memcpy(s->changed, logits, s->n_vocab * sizeof *logits);
    for (uint32_t i = 0; i < s->n_seen; i++) {
        const struct token_count *c = &s->counts[s->seen[i]];
        float *x = &s->changed[s->seen[i]];
        if (c->in_window) *x = *x > 0 ? *x / s->p.repeat_penalty : *x * s->p.repeat_penalty;
        if (c->generated) *x -= s->p.presence_penalty + s->p.frequency_penalty * (float)c->generated;
    }
    return s->changed;
}

/* ---- the draw ---- */

struct draw { /* one draw's view of the row */
    const float *x;
    const uint64_t *mask;
    float max, scale; /* weights are exp((x - max) * scale) */
    double total;     /* of all weights; 0 = was not needed */
};

static uint32_t block_len(const struct sampler *s, uint32_t block)
{
    uint32_t left = s->n_vocab - block * ROW_BLOCK;
    return left < ROW_BLOCK ? left : ROW_BLOCK;
}

/* Logits from which on weights are at least w; a little lower, so that rounding never loses a token. */
static float weight_floor(const struct draw *d, float w)
{
    return w > 0 ? d->max + (logf(w) - 1e-3f) / d->scale - fabsf(d->max) * 1e-6f : -INFINITY;
}

static void weigh_blocks(struct sampler *s, struct draw *d)
{
    d->total = row_sums(s->block_work, d->x, s->block_max, d->mask, s->n_vocab, d->max, d->scale);
}

/* No limit on the number of tokens: walks the blocks' sums, then one block; nothing is collected. */
static uint32_t draw_from_all(struct sampler *s, struct draw *d)
{
    weigh_blocks(s, d);
    double left = d->total * rng_unit(&s->rng);
    uint32_t last = row_first(d->x, s->block_max, d->mask, s->n_vocab, d->max);
    for (uint32_t b = 0; b < row_blocks(s->n_vocab); b++) {
        if (left >= (double)s->block_work[b]) {
            left -= (double)s->block_work[b];
            continue;
        }
        for (uint32_t i = 0; i < block_len(s, b); i++) {
            uint32_t token = b * ROW_BLOCK + i;
            if (d->mask && !(d->mask[b] >> i & 1)) continue;
            float w = fast_exp((d->x[token] - d->max) * d->scale);
            if (!(w > 0)) continue;
            last = token;
            if (left < (double)w) return token;
            left -= (double)w;
        }
        return last; /* rounding: the block's sum was a little larger than its parts */
    }
    return last;
}

static uint32_t collect_top_k(struct sampler *s, const struct draw *d, uint32_t k)
{
    /* At least k tokens are not below the k-th largest block maximum, usually few more. */
    uint32_t n_blocks = row_blocks(s->n_vocab);
    float floor = -INFINITY;
    if (k <= n_blocks) {
        memcpy(s->block_work, s->block_max, n_blocks * sizeof *s->block_work);
        floor = values_kth(s->block_work, n_blocks, k);
    }
    uint32_t n = row_collect(s->candidates, d->x, s->block_max, d->mask, s->n_vocab, floor);
    return candidates_best(s->candidates, n, k, INFINITY);
}

static double candidates_weigh(struct sampler *s, const struct draw *d, uint32_t n)
{
    double total = 0;
    for (uint32_t i = 0; i < n; i++) {
        s->candidates[i].x = fast_exp((s->candidates[i].x - d->max) * d->scale);
        total += (double)s->candidates[i].x;
    }
    return total;
}

/* All tokens that are heavy enough to be needed for top-p, as weights. All tokens lighter than `lightest` together
 * weigh at most (1 - top_p) of the total, so that none of them is; most often far fewer will do, so try those first. */
static uint32_t collect_top_p(struct sampler *s, const struct draw *d)
{
    float lightest = (float)((1 - (double)s->p.top_p) * d->total / (double)s->n_vocab);
    float w = 1.0f / 256;
    for (;; w /= 16) {
        if (w < lightest) w = lightest < 1 ? lightest : 1;
        uint32_t n = row_collect(s->candidates, d->x, s->block_max, d->mask, s->n_vocab, weight_floor(d, w));
        double mass = candidates_weigh(s, d, n);
        if (w <= lightest || w == 1 || mass >= (double)s->p.top_p * d->total * (1 + 1e-6)) return n;
    }
}

/* The candidates that top-k and top-p leave, as weights. */
static uint32_t collect_limited(struct sampler *s, struct draw *d)
{
    uint32_t n;
    double total;
    if (s->p.top_k) {
        n = collect_top_k(s, d, (uint32_t)s->p.top_k);
        total = candidates_weigh(s, d, n);
    } else {
        weigh_blocks(s, d);
        total = d->total;
        n = collect_top_p(s, d);
    }
    if (s->p.top_p < 1) n = candidates_best(s->candidates, n, n, (double)s->p.top_p * total);
    return n;
}

static uint32_t draw_from_candidates(struct sampler *s, uint32_t n)
{
    double total = 0;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < n; i++)
        if (s->candidates[i].x >= s->p.min_p && s->candidates[i].x > 0) {
            total += (double)s->candidates[i].x;
            s->candidates[kept++] = s->candidates[i];
        }
    double left = total * rng_unit(&s->rng);
    uint32_t i = 0;
    for (; i + 1 < kept && left >= (double)s->candidates[i].x; i++) left -= (double)s->candidates[i].x;
    return s->candidates[i].token;
}

static uint32_t draw_token(struct sampler *s, struct draw *d)
{
    bool greedy = s->p.temperature < MIN_TEMPERATURE || s->p.top_k == 1 || isinf(d->max);
    if (greedy) return row_first(d->x, s->block_max, d->mask, s->n_vocab, d->max);
    bool limited = (s->p.top_k && (uint32_t)s->p.top_k < s->n_vocab) || s->p.top_p < 1;
    if (limited) return draw_from_candidates(s, collect_limited(s, d));
    if (!(s->p.min_p > 0)) return draw_from_all(s, d);
    uint32_t n = row_collect(s->candidates, d->x, s->block_max, d->mask, s->n_vocab, weight_floor(d, s->p.min_p));
    candidates_weigh(s, d, n);
    return draw_from_candidates(s, n);
}

static float logprob_of(float x, float max, double sum)
{
    if (isinf(max)) return x == max ? 0.0f : -INFINITY; /* +infinity takes all the probability */
    return isnan(x) ? -INFINITY : (float)((double)x - (double)max - log(sum));
}

bool sampler_draw(struct sampler *s, struct sampler_choice *out, const float *logits, const uint64_t *mask)
{
    struct draw d = {.x = penalise(s, logits), .mask = mask, .scale = 1 / fmaxf(s->p.temperature, MIN_TEMPERATURE)};
    d.max = row_maxima(s->block_max, d.x, mask, s->n_vocab);
    if (d.max == -INFINITY) return false;
    out->token = draw_token(s, &d);
    out->logprob = NAN;
    if (!s->p.logprobs) return true;
    bool plain = d.x == logits && !mask;
    float max = plain ? d.max : row_maxima(s->block_max, logits, NULL, s->n_vocab);
    double sum = 1;
    if (plain && d.total > 0 && d.scale == 1) sum = d.total; /* the draw has just computed the same */
    else if (!isinf(max)) sum = row_sums(NULL, logits, NULL, NULL, s->n_vocab, max, 1);
    out->logprob = logprob_of(logits[out->token], max, sum);
    return true;
}

/* ---- the best tokens ---- */

static bool worse(const struct sampler_choice *a, const struct sampler_choice *b)
{
    return a->logprob < b->logprob || (!(a->logprob > b->logprob) && a->token > b->token);
}

/* heap[0] is the worst of the heap. */
static void sift_down(struct sampler_choice *heap, int n, int at)
{
    for (int child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && worse(&heap[child + 1], &heap[child])) child++;
        if (!worse(&heap[child], &heap[at])) return;
        struct sampler_choice t = heap[at];
        heap[at] = heap[child];
        heap[child] = t;
    }
}

void sampler_top(struct sampler_choice *out, int n, const float *logits, uint32_t n_vocab)
{
    if (n <= 0) return;
    for (int i = 0; i < n; i++) out[i] = (struct sampler_choice){UINT32_MAX, -INFINITY};
    float max = -INFINITY;
    for (uint32_t i = 0; i < n_vocab; i++) {
        if (logits[i] > max) max = logits[i];
        if (!(logits[i] > -INFINITY && logits[i] >= out[0].logprob)) continue;
        struct sampler_choice c = {i, logits[i]};
        if (!worse(&out[0], &c)) continue;
        out[0] = c;
        sift_down(out, n, 0);
    }
    for (int left = n - 1; left > 0; left--) { /* heap sort: the worst goes to the end */
        struct sampler_choice t = out[0];
        out[0] = out[left];
        out[left] = t;
        sift_down(out, left, 0);
    }
    double sum = max > -INFINITY && !isinf(max) ? row_sums(NULL, logits, NULL, NULL, n_vocab, max, 1) : 1;
    for (int i = 0; i < n; i++)
        if (out[i].token != UINT32_MAX) out[i].logprob = logprob_of(out[i].logprob, max, sum);
}
