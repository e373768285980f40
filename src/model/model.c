/* model: opening and closing, the table of families, and the checks before a step. */
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "model/model_internal.h"

enum { DEFAULT_BATCH = 512, DEFAULT_LOGITS = 32 };

static const struct family *const families[] = {&family_llama, &family_qwen2, &family_gemma3};
enum { N_FAMILIES = sizeof families / sizeof *families };
static const char *const arch_names[] = {"llama", "qwen2", "gemma3", NULL};
_Static_assert(sizeof arch_names / sizeof *arch_names == N_FAMILIES + 1, "a name for each family");

const char *const *model_architectures(void)
{
    return arch_names;
}

static const struct family *family_find(const struct gguf *g, struct err *e)
{
    struct str arch;
    if (!gguf_get_str(g, &arch, "general.architecture", e)) {
        if (e) e->kind = ERR_INVALID;
        return NULL;
    }
    char known[400];
    size_t n = 0;
    for (size_t i = 0; i < N_FAMILIES; i++) {
        if (str_eq(arch, str_from(families[i]->arch))) return families[i];
        n += (size_t)snprintf(known + n, sizeof known - n, "%s%s", i ? ", " : "", families[i]->arch);
    }
    err_set(e, ERR_INVALID, "general.architecture: found \"%.*s\", known are %s", STR_ARG(str_slice(arch, 0, 100)),
            known);
    return NULL;
}

/* Where each layer lies in a KV page. */
static bool plan_pages(struct model *m, struct err *e)
{
    const struct hparams *h = &m->hp;
    size_t layer_bytes;
    if (!m->k) return true;
    m->head_bytes = m->k->kv_page_bytes(&m->kv);
    if (!size_mul(&layer_bytes, m->head_bytes, (size_t)h->n_kv_heads) ||
        !size_mul(&m->page_bytes, layer_bytes, (size_t)h->n_layers)) {
        return err_set(e, ERR_TOO_LARGE, "a KV page of %d layers with %d heads of %d is too large", h->n_layers,
                       h->n_kv_heads, h->dim_k);
    }
    for (int i = 0; i < h->n_layers; i++) m->layers[i].kv_offset = layer_bytes * (size_t)i;
    return true;
}

static void count_params(struct model *m)
{
    for (size_t i = 0; i < gguf_tensor_count(m->g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(m->g, i);
        uint64_t n = 1;
        for (int d = 0; d < GGUF_MAX_DIMS; d++) n *= t->dims[d];
        m->n_params += n;
    }
}

static void rows_fetch(void *ctx, const void *data, size_t size)
{
    const struct model *m = ctx;
    gguf_fetch_pages(m->g, data, size);
}

static void rows_release(void *ctx, const void *data, size_t size)
{
    const struct model *m = ctx;
    gguf_release_pages(m->g, data, size);
}

static void show_progress(void *ctx, double done)
{
    const struct model *m = ctx;
    if (m->options->progress) m->options->progress(m->options->progress_ctx, done);
}

/* One pass to check, one to bind; then everything is packed. */
static bool load(struct model *m, struct err *e)
{
    struct loader l = {.m = m, .e = e, .layer = -1};
    bool ok = m->family->load(m, &l) && loader_all_bound(&l);
    mem_free(l.bound);
    if (!ok || m->check_only) return ok;
    struct loader bind = {.m = m, .e = e, .layer = -1, .pack = true};
    m->weights = weight_set_create();
    if (!m->family->load(m, &bind)) return false;
    struct weight_set_options how = {.fetch = rows_fetch,
                                     .release = rows_release,
                                     .progress = show_progress,
                                     .ctx = m,
                                     .cache = m->options->repack_cache};
    if (!weight_set_pack(m->weights, m->c, &how, e)) return false;
    gguf_loaded(m->g);
    return scratch_plan(m, e);
}

static bool read_options(struct model *m, const struct model_options *o, struct err *e)
{
    uint32_t batch = o && o->max_batch_tokens ? o->max_batch_tokens : DEFAULT_BATCH;
    uint32_t logits = o && o->max_logits ? o->max_logits : DEFAULT_LOGITS;
    if (batch > MAX_BATCH) {
        return err_set(e, ERR_INVALID, "max_batch_tokens: found %u, allowed is 1 to %d", batch, MAX_BATCH);
    }
    m->max_batch = (int)batch;
    m->max_logits = (int)(logits < batch ? logits : batch);
    m->check_only = o && o->check_only;
    if (!m->c && !m->check_only) return err_set(e, ERR_INTERNAL, "a model that runs needs a compute");
    return true;
}

static bool open_model(struct model *m, const struct model_options *o, struct err *e)
{
    const struct hparams *h = &m->hp;
    if (!read_options(m, o, e) || !(m->family = family_find(m->g, e)) ||
        !hparams_read(&m->hp, m->g, m->family->arch, e)) {
        return false;
    }
    if (h->n_experts && !m->family->experts) {
        return err_set(e, ERR_INVALID, "%s.expert_count: found %d, experts are not supported for this architecture",
                       m->family->arch, h->n_experts);
    }
    m->layers = arena_try_alloc(&m->arena, sizeof *m->layers * (size_t)h->n_layers);
    if (!m->layers) return err_set(e, ERR_TOO_LARGE, "no memory for %d layers", h->n_layers);
    memset(m->layers, 0, sizeof *m->layers * (size_t)h->n_layers);
    m->embd_scale = 1;
    m->query_scale = 1.0f / sqrtf((float)h->dim_k);
    m->kv = (struct kv_form){h->dim_k, h->dim_v, o ? o->type_k : KV_F16, o ? o->type_v : KV_F16};
    count_params(m);
    return plan_pages(m, e) && load(m, e);
}

struct model *model_open(const struct gguf *g, struct compute *c, const struct model_options *options, struct err *e)
{
    const struct model_options none = {0};
    struct model *m = mem_zalloc(sizeof *m);
    m->options = options ? options : &none;
    m->g = g;
    m->c = c;
    m->k = c ? compute_kernels(c) : NULL;
    arena_init(&m->arena, 0);
    if (!open_model(m, m->options, e)) {
        model_close(m);
        return NULL;
    }
    m->options = NULL;
    return m;
}

void model_close(struct model *m)
{
    if (!m) return;
    weight_set_destroy(m->weights);
    if (m->scratch.map) mem_unmap(m->scratch.map, m->scratch.map_bytes);
    arena_deinit(&m->arena);
    mem_free(m);
}

void model_info_get(const struct model *m, struct model_info *info)
{
    const struct hparams *h = &m->hp;
    *info = (struct model_info){
        .arch = gguf_str_or(m->g, "general.architecture", STR_NONE),
        .name = gguf_str_or(m->g, "general.name", STR_NONE),
        .n_layers = (uint32_t)h->n_layers,
        .n_embd = (uint32_t)h->n_embd,
        .n_heads = (uint32_t)h->n_heads,
        .n_kv_heads = (uint32_t)h->n_kv_heads,
        .n_ff = (uint32_t)h->n_ff,
        .n_vocab = (uint32_t)h->n_vocab,
        .n_ctx_train = (uint32_t)h->n_ctx_train,
        .n_params = m->n_params,
        .weight_bytes = m->weights ? weight_set_bytes(m->weights) : 0,
        .weights_cached = m->weights && weight_set_cached(m->weights),
        .page_bytes = m->page_bytes,
        .scratch_bytes = m->scratch.map_bytes,
    };
    for (int i = 0; i < h->n_layers; i++) {
        if (m->layers[i].attn.window) info->sliding_window = (uint32_t)m->layers[i].attn.window;
    }
}

/* ---- a step's input ---- */

static bool check_span(const struct model *m, const struct model_span *s, uint32_t index, struct err *e)
{
    if (s->n_tokens == 0 || !(s->tokens || s->embeddings) || !s->pages) {
        return err_set(e, ERR_INVALID, "spans[%u]: it has no tokens or no pages", index);
    }
    if (s->n_logits > s->n_tokens) {
        return err_set(e, ERR_INVALID, "spans[%u].n_logits: found %u, allowed is up to n_tokens (%u)", index,
                       s->n_logits, s->n_tokens);
    }
    if (s->pos > (uint32_t)INT_MAX - s->n_tokens) {
        return err_set(e, ERR_INVALID, "spans[%u].pos: found %u with %u tokens, positions must be below %d", index,
                       s->pos, s->n_tokens, INT_MAX);
    }
    for (uint32_t i = 0; !s->embeddings && i < s->n_tokens; i++) {
        if (s->tokens[i] < (uint32_t)m->hp.n_vocab) continue;
        return err_set(e, ERR_INVALID, "spans[%u].tokens[%u]: found token %u, the vocabulary has %d", index, i,
                       s->tokens[i], m->hp.n_vocab);
    }
    return true;
}

static bool check_spans(const struct model *m, const struct model_span *spans, uint32_t n_spans, struct err *e)
{
    uint64_t n_tokens = 0, n_logits = 0;
    for (uint32_t i = 0; i < n_spans; i++) {
        n_tokens += spans[i].n_tokens;
        n_logits += spans[i].n_logits;
        if (n_tokens > (uint64_t)m->max_batch || n_logits > (uint64_t)m->max_logits) {
            return err_set(e, ERR_INVALID, "a step of %llu or more tokens and %llu logit rows: allowed are %d and %d",
                           (unsigned long long)n_tokens, (unsigned long long)n_logits, m->max_batch, m->max_logits);
        }
        if (!check_span(m, &spans[i], i, e)) return false;
    }
    return true;
}

static void lay_out_rows(const struct model *m, struct step *s, const struct model_span *spans, uint32_t n_spans)
{
    const struct scratch *x = &m->scratch;
    for (uint32_t i = 0; i < n_spans; i++) {
        const struct model_span *span = &spans[i];
        const int n = (int)span->n_tokens, n_logits = (int)span->n_logits, first = s->n_rows, pos = (int)span->pos;
        x->spans[s->n_spans++] = (struct kv_span){first, n, pos, span->pages};
        if (n_logits) {
            int skip = n - n_logits;
            x->last_spans[s->n_last_spans++] = (struct kv_span){first + skip, n_logits, pos + skip, span->pages};
        }
        for (int t = 0; t < n; t++) {
            x->rows[s->n_rows++] = (struct scratch_row){
                .token = span->embeddings ? 0 : span->tokens[t],
                .pos = pos + t,
                .embedding = span->embeddings ? span->embeddings + (size_t)t * (size_t)m->hp.n_embd : NULL,
            };
            if (t >= n - n_logits) x->wanted[s->n_wanted++] = first + t;
        }
    }
}

bool model_forward(struct model *m, float *logits, uint8_t *kv_base, const struct model_span *spans, uint32_t n_spans,
                   const volatile int *stop, struct err *e)
{
    if (m->check_only) return err_set(e, ERR_INTERNAL, "the model was opened to be checked only");
    if (!check_spans(m, spans, n_spans, e)) return false;
    struct step s = {.logits = logits, .kv_base = kv_base, .stop = stop};
    lay_out_rows(m, &s, spans, n_spans);
    if (s.n_rows == 0) return true;
    compute_step_begin(m->c);
    bool ok = m->family->forward(m, &s, e);
    compute_step_end(m->c);
    return ok;
}
