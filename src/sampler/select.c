/* select: partial ordering by partitioning (Hoare's FIND). Pivots come from a fixed pseudo-random sequence: the same
 * input gives the same order, and no shape of input is slow by itself. Candidates have a total order, so that a
 * partition always shrinks. */
#include "sampler/sampler_internal.h"

static uint32_t pivot_next(uint32_t *state, uint32_t n)
{
    *state = *state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)*state * n >> 32);
}

static bool better(struct candidate a, struct candidate b)
{
    return a.x > b.x || (!(a.x < b.x) && a.token < b.token);
}

static void swap_candidates(struct candidate *a, struct candidate *b)
{
    struct candidate t = *a;
    *a = *b;
    *b = t;
}

/* Candidates better than the pivot come first; returns its final place. *mass = sum of x of those and the pivot. */
static uint32_t partition(struct candidate *c, double *mass, uint32_t n, uint32_t pivot)
{
    struct candidate p = c[pivot];
    swap_candidates(&c[pivot], &c[n - 1]);
    uint32_t place = 0;
    double sum = (double)p.x;
    for (uint32_t i = 0; i + 1 < n; i++)
        if (better(c[i], p)) {
            sum += (double)c[i].x;
            swap_candidates(&c[i], &c[place++]);
        }
    swap_candidates(&c[place], &c[n - 1]);
    *mass = sum;
    return place;
}

uint32_t candidates_best(struct candidate *c, uint32_t n, uint32_t k, double mass)
{
    uint32_t from = 0, to = n, state = 12345; /* the border lies in [from, to]; everything before from is in */
    double inside = 0;
    while (from < to && from < k) {
        double sum;
        uint32_t place = from + partition(c + from, &sum, to - from, pivot_next(&state, to - from));
        if (place + 1 > k || inside + sum >= mass) {
            if (place == from) return from + 1; /* this one reaches the mass */
            to = place;
            /* if those before the pivot reach neither limit, the pivot is the one that does */
            double before = inside + sum - (double)c[place].x;
            if (before < mass && place < k) return place + 1;
        } else {
            inside += sum;
            from = place + 1;
        }
    }
    return from < k ? from : k;
}

float values_kth(float *x, uint32_t n, uint32_t k)
{
    uint32_t from = 0, to = n, state = 54321;
    for (;;) {
        float p = x[from + pivot_next(&state, to - from)];
        uint32_t above = from, i = from, below = to; /* [from, above) > p, [above, i) == p, [below, to) < p */
        while (i < below) {
            float v = x[i];
            if (v > p) x[i++] = x[above], x[above++] = v;
            else if (v < p) x[i] = x[--below], x[below] = v;
            else i++;
        }
        if (k - 1 < above) to = above;
        else if (k - 1 >= below) from = below;
        else return p;
    }
}
