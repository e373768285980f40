/* stack: loads a model and what stands on it, in order, and takes it down in the opposite order. */
#define _DEFAULT_SOURCE /* realpath */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/memory.h"
#include "cli/cli.h"

#define MAX_TEMPLATE_BYTES ((size_t)8 << 20)

int cli_fail(const struct err *e)
{
    fprintf(stderr, "parley: %s\n", e->msg);
    return 1;
}

char *cli_read(const char *path, size_t *len, size_t max_bytes, struct err *e)
{
    bool is_stdin = !path || strcmp(path, "-") == 0;
    FILE *f = is_stdin ? stdin : fopen(path, "rb");
    if (!f) {
        err_set(e, ERR_IO, "cannot read %s: %s", path, strerror(errno));
        return NULL;
    }
    struct buf b;
    buf_init(&b, max_bytes);
    for (;;) {
        char *to = buf_reserve(&b, b.max_bytes - b.len < 65536 ? b.max_bytes - b.len + 1 : 65536);
        if (!to) {
            err_set(e, ERR_TOO_LARGE, "%s is larger than %zu bytes", is_stdin ? "standard input" : path, max_bytes);
            break;
        }
        size_t n = fread(to, 1, 65536 < max_bytes ? 65536 : max_bytes, f);
        b.len += n;
        to[n] = '\0';
        if (n == 0) break;
    }
    if (!b.failed && ferror(f)) b.failed = !err_set(e, ERR_IO, "cannot read %s", is_stdin ? "standard input" : path);
    if (!is_stdin) fclose(f);
    *len = b.len;
    if (!b.failed) return buf_take(&b);
    buf_deinit(&b);
    return NULL;
}

bool stack_open_file(struct stack *s, const struct options *o, struct err *e)
{
    const char *path = o->model ? o->model : o->file;
    if (!path) return err_set(e, ERR_INVALID, "no model given: use -m FILE.gguf");
    s->gguf = gguf_open(path, e);
    if (!s->gguf) return false;
    const char *slash = strrchr(path, '/');
    struct str id = str_from(slash ? slash + 1 : path);
    if (str_ends(id, STR(".gguf"))) id.len -= 5;
    s->model_id = mem_zalloc(id.len + 1);
    memcpy(s->model_id, id.ptr, id.len);
    return true;
}

/* Progress on a terminal, for models that take longer than a second. */
struct progress {
    double started_s;
    bool shown;
};

static void show_progress(void *ctx, double done)
{
    struct progress *p = ctx;
    if (clock_seconds() - p->started_s < 1 || !isatty(STDERR_FILENO)) return;
    fprintf(stderr, "\rloading %3.0f %%", done * 100);
    p->shown = true;
}

/* Packing needs the weights once; the file's own pages can be dropped by the system at any time. */
static bool fits_memory(const struct gguf *g, struct err *e)
{
    size_t available = memory_available();
    uint64_t needed = gguf_file_bytes(g);
    if (needed <= available) return true;
    return err_set(e, ERR_TOO_LARGE, "the model needs %.1f GB of memory, %.1f GB are available", (double)needed / 1e9,
                   (double)available / 1e9);
}

static bool read_kv_type(enum kv_type *out, const char *flag, const char *text, struct err *e)
{
    return kv_type_parse(out, text) || err_set(e, ERR_INVALID, "--%s: expected f16 or q8_0, found \"%s\"", flag, text);
}

/* The cached image's name in the folder: the model's, and a hash of its path, so that equal names do not meet. */
static void cache_init(struct panel_cache *cache, char *name, size_t size, const struct stack *s,
                       const struct options *o)
{
    const char *path = o->model ? o->model : o->file;
    char *real = realpath(path, NULL);
    const char *key = real ? real : path;
    snprintf(name, size, "%.100s-%08x", s->model_id, (unsigned)hash64(key, strlen(key), 0));
    free(real);
    *cache = (struct panel_cache){.dir = o->repack_cache,
                                  .name = name,
                                  .identity = gguf_identity(s->gguf),
                                  .max_bytes = (uint64_t)o->repack_cache_gib << 30};
}

bool stack_open_model(struct stack *s, const struct options *o, uint32_t threads, bool check_only, struct err *e)
{
    enum cpu_level level = cpu_level_default();
    if (o->cpu_level) {
        enum cpu_level best = cpu_level_detect();
        if (!cpu_level_parse(&level, o->cpu_level))
            return err_set(e, ERR_INVALID, "--cpu-level: expected c, avx2, avx512 or amx, found \"%s\"", o->cpu_level);
        if (level > best)
            return err_set(e, ERR_INVALID, "--cpu-level %s: this CPU has %s at most", o->cpu_level,
                           cpu_level_name(best));
    }
    double from = clock_seconds();
    struct progress progress = {.started_s = from};
    enum kv_type type_k, type_v;
    if (!read_kv_type(&type_k, "cache-type-k", o->cache_type_k, e) ||
        !read_kv_type(&type_v, "cache-type-v", o->cache_type_v, e))
        return false;
    if (!check_only && !fits_memory(s->gguf, e)) return false;
    s->compute = compute_create((int)threads, level, e);
    if (!s->compute) return false;
    struct panel_cache cache;
    char cache_name[128];
    if (o->repack_cache) cache_init(&cache, cache_name, sizeof cache_name, s, o);
    struct model_options options = {.max_batch_tokens = o->batch_size,
                                    .max_logits = o->parallel > 32 ? o->parallel : 32,
                                    .type_k = type_k,
                                    .type_v = type_v,
                                    .check_only = check_only,
                                    .repack_cache = o->repack_cache ? &cache : NULL,
                                    .progress = show_progress,
                                    .progress_ctx = &progress};
    s->model = model_open(s->gguf, s->compute, &options, e);
    if (progress.shown) fprintf(stderr, "\r                \r");
    s->load_s = clock_seconds() - from;
    return s->model != NULL;
}

bool stack_read_template(struct stack *s, const struct options *o, struct str *text, struct err *e)
{
    *text = STR_NONE;
    if (!o->chat_template_file) return true;
    s->template_text = cli_read(o->chat_template_file, &text->len, MAX_TEMPLATE_BYTES, e);
    text->ptr = s->template_text;
    return s->template_text != NULL;
}

/* The file's own generation settings (general.sampling.*), then ours; flags that were given win over both. */
static bool sampling_defaults(struct chat_sampling *out, const struct gguf *g, const struct options *o, struct err *e)
{
    float temperature = o->temperature, top_p = o->top_p, min_p = o->min_p, repeat = o->repeat_penalty;
    uint32_t top_k = o->top_k;
    if ((!options_given(o, "temp") && !gguf_f32_or(g, &temperature, "general.sampling.temp", temperature, e)) ||
        (!options_given(o, "top-p") && !gguf_f32_or(g, &top_p, "general.sampling.top_p", top_p, e)) ||
        (!options_given(o, "min-p") && !gguf_f32_or(g, &min_p, "general.sampling.min_p", min_p, e)) ||
        (!options_given(o, "top-k") && !gguf_u32_or(g, &top_k, "general.sampling.top_k", top_k, e)) ||
        (!options_given(o, "repeat-penalty") && !gguf_f32_or(g, &repeat, "general.sampling.penalty_repeat", repeat, e)))
        return false;
    *out = (struct chat_sampling){.has_temperature = true,
                                  .temperature = (double)temperature,
                                  .has_top_p = true,
                                  .top_p = (double)top_p,
                                  .has_top_k = true,
                                  .top_k = (int)top_k,
                                  .has_min_p = true,
                                  .min_p = (double)min_p,
                                  .has_repeat_penalty = true,
                                  .repeat_penalty = (double)repeat,
                                  .has_seed = options_given(o, "seed"),
                                  .seed = o->seed};
    return true;
}

/* Where what outlives the program is kept: $XDG_STATE_HOME/parley, or ~/.local/state/parley. Empty without a home. */
static void state_path(struct buf *out, const char *name)
{
    const char *state = getenv("XDG_STATE_HOME");
    const char *home = getenv("HOME");
    if (state && *state == '/') buf_printf(out, "%s/parley/%s", state, name);
    else if (home && *home == '/') buf_printf(out, "%s/.local/state/parley/%s", home, name);
}

static bool open_local(struct stack *s, const struct options *o, struct err *e)
{
    struct buf key_path;
    struct local_config config = {.model_id = str_from(s->model_id)};
    struct str aliases[OPTIONS_LIST_MAX];
    struct model_info info;
    struct stat st;
    model_info_get(s->model, &info);
    for (int i = 0; i < o->alias.n; i++) aliases[i] = str_from(o->alias.items[i]);
    config.aliases = aliases;
    config.n_aliases = (size_t)o->alias.n;
    config.n_params = info.n_params;
    config.size_bytes = gguf_file_bytes(s->gguf);
    if (stat(o->model ? o->model : o->file, &st) == 0) config.model_created = st.st_mtime;
    if (!sampling_defaults(&config.sampling, s->gguf, o, e) || !stack_read_template(s, o, &config.chat_template, e))
        return false;
    config.dialect = str_from(o->dialect);
    buf_init(&key_path, 4096);
    state_path(&key_path, "key");
    config.key_path = buf_str(&key_path);
    s->local = local_create(s->engine, s->tokenizer, &config, e);
    buf_deinit(&key_path);
    return s->local != NULL;
}

/* The tokenizer's tables take as long as a tenth of the weights, so they are made beside them. */
struct tokenizer_job {
    const struct gguf *gguf;
    struct tokenizer *tokenizer;
    struct err e;
};

static void *tokenizer_main(void *arg)
{
    struct tokenizer_job *job = arg;
    job->tokenizer = tokenizer_create(job->gguf, &job->e);
    return NULL;
}

static bool open_model_and_tokenizer(struct stack *s, const struct options *o, struct err *e)
{
    pthread_t thread;
    struct tokenizer_job job = {.gguf = s->gguf};
    bool beside = pthread_create(&thread, NULL, tokenizer_main, &job) == 0;
    bool ok = stack_open_model(s, o, o->threads, false, e);
    if (beside) pthread_join(thread, NULL);
    else (void)tokenizer_main(&job);
    s->tokenizer = job.tokenizer;
    if (!s->tokenizer && ok) *e = job.e;
    return ok && s->tokenizer;
}

bool stack_open_engine(struct stack *s, const struct options *o, struct err *e)
{
    if (!stack_open_file(s, o, e) || !open_model_and_tokenizer(s, o, e)) return false;
    struct engine_config config = {.n_ctx = o->ctx_size,
                                   .n_parallel = o->parallel ? o->parallel : 1,
                                   .n_batch = o->batch_size,
                                   .max_queue = o->max_queue,
                                   .kv_bytes = (size_t)o->cache_ram_mib << 20};
    s->engine = engine_create(s->model, s->compute, s->tokenizer, &config, e);
    return s->engine != NULL;
}

bool stack_open_backend(struct stack *s, const struct options *o, struct err *e)
{
    double from = clock_seconds();
    if (!stack_open_engine(s, o, e) || !open_local(s, o, e)) return false;
    s->load_s = clock_seconds() - from;
    return true;
}

void stack_close(struct stack *s)
{
    local_destroy(s->local);
    if (s->engine) engine_destroy(s->engine);
    if (s->model) model_close(s->model);
    if (s->compute) compute_destroy(s->compute);
    if (s->tokenizer) tokenizer_destroy(s->tokenizer);
    if (s->gguf) gguf_close(s->gguf);
    mem_free(s->template_text);
    mem_free(s->model_id);
    *s = (struct stack){0};
}
