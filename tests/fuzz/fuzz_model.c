/* Fuzzes opening a model: any GGUF bytes are refused with a message or open; what opens runs a step whose tokens are
 * read, with whatever its weights and hyper-parameters say. */
#include <stdlib.h>

#include "base/alloc.h"
#include "gguf/gguf_internal.h"
#include "model/model.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct compute *compute; /* one for the whole run */

static void run(struct model *m)
{
    struct model_info info;
    model_info_get(m, &info);
    if (info.page_bytes > (size_t)64 << 20) return;
    uint8_t *kv = mem_try_map(info.page_bytes);
    float *logits = mem_try_alloc(2 * (size_t)info.n_vocab * sizeof *logits); // [2][n_vocab]
    const uint32_t tokens[3] = {0, info.n_vocab - 1, info.n_vocab / 2}, pages[1] = {0};
    struct model_span span = {.tokens = tokens, .n_tokens = 3, .pages = pages, .n_logits = 2};
    struct err e = {0};
    if (kv && logits && !model_forward(m, logits, kv, &span, 1, NULL, &e)) abort();
    mem_free(logits);
    if (kv) mem_unmap(kv, info.page_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct err e = {0};
    struct gguf *g = gguf_open_memory(data, size, &e);
    if (!g) return 0;
    if (!compute) compute = compute_create(1, CPU_C, NULL);
    struct model_options o = {.max_batch_tokens = 4, .max_logits = 2, .check_only = true};
    struct model *checked = model_open(g, NULL, &o, &e);
    o.check_only = false;
    struct model *m = model_open(g, compute, &o, &e);
    if (m && !checked) abort();
    if (!m && (e.kind == ERR_NONE || !e.msg[0])) abort();
    if (m) run(m);
    model_close(m);
    model_close(checked);
    gguf_close(g);
    return 0;
}
