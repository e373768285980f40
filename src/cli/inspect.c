/* inspect: what a model file is and what serving it will take. Reads everything that serving would read, packs nothing.
 */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "cli/cli.h"

struct type_sum {
    const char *name;
    uint64_t n_tensors, n_params, n_bytes;
};

static size_t sum_types(struct type_sum *sums, const struct gguf *g)
{
    size_t n = 0;
    for (size_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        const char *name = quant_format_get(t->type)->name;
        size_t at = 0;
        while (at < n && strcmp(sums[at].name, name) != 0) at++;
        if (at == n) sums[n++] = (struct type_sum){.name = name};
        sums[at].n_tensors++;
        sums[at].n_params += t->dims[0] * t->dims[1] * t->dims[2] * t->dims[3];
        sums[at].n_bytes += t->size_bytes;
    }
    return n;
}

static json_t *str_json(struct str s)
{
    json_t *text = json_stringn(s.ptr ? s.ptr : "", s.len);
    return text ? text : json_string("(not UTF-8)");
}

static json_t *token_json(const struct tokenizer *t, uint32_t id)
{
    if (id == TOKEN_NONE) return json_null();
    return json_pack("{s:I, s:o}", "id", (json_int_t)id, "text", str_json(tokenizer_text(t, id)));
}

static json_t *tokenizer_json(const struct tokenizer *t)
{
    struct tokenizer_info info;
    tokenizer_info_get(t, &info);
    json_t *eog = json_array();
    for (uint32_t id = 0; id < tokenizer_size(t); id++)
        if (tokenizer_is_eog(t, id)) json_array_append_new(eog, token_json(t, id));
    return json_pack("{s:s, s:o, s:b, s:I, s:o, s:o, s:b, s:b, s:o}", "kind", info.kind, "pre", str_json(info.pre),
                     "pre_known", info.pre_known, "n_tokens", (json_int_t)tokenizer_size(t), "bos",
                     token_json(t, info.bos), "eos", token_json(t, info.eos), "add_bos", info.add_bos, "add_eos",
                     info.add_eos, "end_of_generation", eog);
}

static json_t *memory_json(const struct model_info *m, uint32_t n_ctx)
{
    uint64_t pages = (n_ctx + KV_PAGE_TOKENS - 1) / KV_PAGE_TOKENS;
    return json_pack("{s:I, s:I, s:I, s:I, s:I}", "weights_bytes", (json_int_t)m->weight_bytes, "kv_bytes_per_token",
                     (json_int_t)(m->page_bytes / KV_PAGE_TOKENS), "context", (json_int_t)n_ctx, "kv_bytes_at_context",
                     (json_int_t)(pages * m->page_bytes), "scratch_bytes", (json_int_t)m->scratch_bytes);
}

static json_t *types_json(const struct gguf *g)
{
    struct type_sum sums[QUANT_N];
    json_t *list = json_array();
    for (size_t i = 0, n = sum_types(sums, g); i < n; i++)
        json_array_append_new(list, json_pack("{s:s, s:I, s:I, s:I}", "type", sums[i].name, "tensors",
                                              (json_int_t)sums[i].n_tensors, "params", (json_int_t)sums[i].n_params,
                                              "bytes", (json_int_t)sums[i].n_bytes));
    return list;
}

/* The dialect of the template and what is put right for it; what is wrong with it where it does not compile. */
static json_t *dialect_json(struct stack *s, const struct options *o)
{
    struct str template;
    struct buf text;
    struct err e = {0};
    buf_init(&text, 1 << 16);
    bool ok = stack_read_template(s, o, &template, &e) &&
              local_describe(&text, s->tokenizer, template, str_from(o->dialect), &e);
    json_t *v = str_json(ok ? buf_str(&text) : str_from(e.msg));
    buf_deinit(&text);
    return v;
}

static json_t *report(struct stack *s, const struct options *o)
{
    struct model_info m;
    struct tokenizer_info t;
    model_info_get(s->model, &m);
    tokenizer_info_get(s->tokenizer, &t);
    uint32_t n_ctx = m.n_ctx_train < 32768 ? m.n_ctx_train : 32768;
    return json_pack(
        "{s:s, s:I, s:I, s:I, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "file",
        o->model ? o->model : o->file, "file_bytes", (json_int_t)gguf_file_bytes(s->gguf), "parts",
        (json_int_t)gguf_part_count(s->gguf), "gguf_version", (json_int_t)gguf_version(s->gguf), "architecture",
        str_json(m.arch), "name", str_json(m.name), "params", (json_int_t)m.n_params, "layers", (json_int_t)m.n_layers,
        "embedding", (json_int_t)m.n_embd, "feed_forward", (json_int_t)m.n_ff, "heads", (json_int_t)m.n_heads,
        "kv_heads", (json_int_t)m.n_kv_heads, "vocabulary", (json_int_t)m.n_vocab, "context_train",
        (json_int_t)m.n_ctx_train, "sliding_window", (json_int_t)m.sliding_window, "types", types_json(s->gguf),
        "tokenizer", tokenizer_json(s->tokenizer), "memory", memory_json(&m, n_ctx), "dialect", dialect_json(s, o),
        "chat_template", t.chat_template.len ? str_json(t.chat_template) : json_null());
}

static long long number(const json_t *r, const char *key)
{
    return json_integer_value(json_object_get(r, key));
}

static void print_token(const char *label, const json_t *token)
{
    if (json_is_object(token))
        printf("  %-18s %lld %s\n", label, number(token, "id"), json_string_value(json_object_get(token, "text")));
}

static void print_text(const json_t *r)
{
    const json_t *memory = json_object_get(r, "memory"), *tok = json_object_get(r, "tokenizer"), *item;
    size_t i;
    printf("%s\n", json_string_value(json_object_get(r, "file")));
    printf("  %-18s %s, \"%s\"\n", "architecture", json_string_value(json_object_get(r, "architecture")),
           json_string_value(json_object_get(r, "name")));
    printf("  %-18s %.1f M in %lld layers; embedding %lld, feed-forward %lld, heads %lld (KV %lld)\n", "parameters",
           (double)number(r, "params") / 1e6, number(r, "layers"), number(r, "embedding"), number(r, "feed_forward"),
           number(r, "heads"), number(r, "kv_heads"));
    printf("  %-18s %lld tokens%s\n", "context", number(r, "context_train"),
           number(r, "sliding_window") ? ", sliding window in some layers" : "");
    printf("  %-18s %.1f MB, GGUF v%lld, %lld part(s)\n", "file", (double)number(r, "file_bytes") / 1e6,
           number(r, "gguf_version"), number(r, "parts"));
    json_array_foreach(json_object_get(r, "types"), i, item)
        printf("  %-18s %-7s %4lld tensors, %8.1f M parameters, %8.1f MB\n", i ? "" : "types",
               json_string_value(json_object_get(item, "type")), number(item, "tensors"),
               (double)number(item, "params") / 1e6, (double)number(item, "bytes") / 1e6);
    printf("  %-18s %s, pre \"%s\"%s, %lld tokens\n", "tokenizer", json_string_value(json_object_get(tok, "kind")),
           json_string_value(json_object_get(tok, "pre")),
           json_is_true(json_object_get(tok, "pre_known")) ? ""
                                                           : " (UNKNOWN: the default splitter is used, answers suffer)",
           number(tok, "n_tokens"));
    print_token("bos", json_object_get(tok, "bos"));
    print_token("eos", json_object_get(tok, "eos"));
    json_array_foreach(json_object_get(tok, "end_of_generation"), i, item)
        print_token(i ? "" : "end of generation", item);
    printf("  %-18s weights %.1f MB + KV %.1f KB a token (%.1f MB at %lld) + scratch %.1f MB\n", "memory plan",
           (double)number(memory, "weights_bytes") / 1e6, (double)number(memory, "kv_bytes_per_token") / 1e3,
           (double)number(memory, "kv_bytes_at_context") / 1e6, number(memory, "context"),
           (double)number(memory, "scratch_bytes") / 1e6);
    printf("  %-18s %s\n", "calls", json_string_value(json_object_get(r, "dialect")));
    const char *template = json_string_value(json_object_get(r, "chat_template"));
    if (template) printf("  %-18s %zu bytes:\n%s\n", "chat template", strlen(template), template);
    else printf("  %-18s none: ChatML will be used\n", "chat template");
}

int cli_inspect(const struct options *o)
{
    struct err e = {0};
    struct stack s = {0};
    bool ok = stack_open_file(&s, o, &e) && (s.tokenizer = tokenizer_create(s.gguf, &e)) &&
              stack_open_model(&s, o, o->threads, true, &e);
    json_t *r = ok ? report(&s, o) : NULL;
    if (ok && !r) ok = err_set(&e, ERR_INTERNAL, "the report could not be made");
    if (ok && o->json) {
        json_dumpf(r, stdout, JSON_INDENT(2));
        putchar('\n');
    } else if (ok) {
        print_text(r);
    }
    json_decref(r);
    stack_close(&s);
    return ok ? 0 : cli_fail(&e);
}
