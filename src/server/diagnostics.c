/* diagnostics: why a prompt could not be taken from the cache. For the messages of clients that ask for it, the hashes
 * of what the prompt was made of are kept under the message's id: of the model, the system prompt, the tools, the other
 * settings that reach the prompt, and of each block of the conversation with its length. */
#include <string.h>

#include "base/alloc.h"
#include "base/hash.h"
#include "server/server_internal.h"

#define KEPT_MAX 500
#define KEPT_MAX_BYTES ((size_t)8 << 20)
#define BLOCKS_MAX 4096 /* later blocks of a conversation are not looked at */

struct block_print {
    uint64_t hash;
    uint32_t bytes;
};

struct prompt_print {
    uint64_t model, system, tools, rest;
    size_t head_bytes; /* of system and tools */
    size_t n_blocks;
    struct block_print blocks[];
};

/* ---- hashes ---- */

static uint64_t hash_str(struct str s, uint64_t seed)
{
    return hash64(s.ptr ? s.ptr : "", s.len, hash64(&s.len, sizeof s.len, seed));
}

struct sum {
    uint64_t hash;
    size_t bytes;
};

static int add_piece(const char *bytes, size_t len, void *ctx)
{
    struct sum *sum = ctx;
    sum->hash = hash64(bytes, len, sum->hash);
    sum->bytes += len;
    return 0;
}

static void add_json(struct sum *sum, const json_t *value)
{
    if (value) json_dump_callback(value, add_piece, sum, JSON_COMPACT | JSON_ENCODE_ANY | JSON_SORT_KEYS);
}

static void add_str(struct sum *sum, struct str s)
{
    sum->hash = hash_str(s, sum->hash);
    sum->bytes += s.len;
}

/* Blocks nest two deep at most: a document in a result. */
static void add_block(struct sum *sum, const struct chat_block *b, int depth)
{
    sum->hash = hash64(&b->kind, sizeof b->kind, sum->hash);
    add_str(sum, b->text);
    add_str(sum, b->id);
    add_str(sum, b->name);
    add_str(sum, b->data);
    add_str(sum, b->title);
    add_str(sum, b->context);
    add_json(sum, b->input);
    sum->hash = hash64(&b->is_error, sizeof b->is_error, sum->hash);
    sum->hash = hash64(&b->tool, sizeof b->tool, sum->hash);
    for (size_t i = 0; i < b->n_blocks && depth < 8; i++) add_block(sum, &b->blocks[i], depth + 1);
}

static void add_conversation(struct prompt_print *p, const struct chat_request *r)
{
    for (size_t i = 0; i < r->n_messages; i++)
        for (size_t k = 0; k < r->messages[i].n_blocks && p->n_blocks < BLOCKS_MAX; k++) {
            struct sum sum = {.hash = (uint64_t)r->messages[i].role};
            add_block(&sum, &r->messages[i].blocks[k], 0);
            p->blocks[p->n_blocks++] = (struct block_print){
                .hash = sum.hash, .bytes = sum.bytes < UINT32_MAX ? (uint32_t)sum.bytes : UINT32_MAX};
        }
}

struct prompt_print *prompt_print_create(const struct chat_request *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n_messages; i++) n += r->messages[i].n_blocks;
    if (n > BLOCKS_MAX) n = BLOCKS_MAX;
    struct prompt_print *p = mem_try_zalloc(sizeof *p + n * sizeof *p->blocks);
    if (!p) return NULL;
    struct sum system = {0}, tools = {0}, rest = {0};
    for (size_t i = 0; i < r->n_system; i++) add_block(&system, &r->system[i], 0);
    for (size_t i = 0; i < r->n_tools; i++) {
        add_str(&tools, r->tools[i].name);
        add_str(&tools, r->tools[i].description);
        add_json(&tools, r->tools[i].schema);
    }
    add_str(&rest, r->effort);
    add_str(&rest, r->tool_choice_name);
    rest.hash = hash64(&r->thinking, sizeof r->thinking, rest.hash);
    rest.hash = hash64(&r->tool_choice, sizeof r->tool_choice, rest.hash);
    p->system = system.hash;
    p->tools = tools.hash;
    p->rest = rest.hash;
    p->head_bytes = system.bytes + tools.bytes;
    add_conversation(p, r);
    return p;
}

void prompt_print_set_model(struct prompt_print *p, struct str id)
{
    p->model = hash_str(id, 0);
}

void prompt_print_destroy(struct prompt_print *p)
{
    mem_free(p);
}

/* ---- what is kept ---- */

struct kept {
    struct kept *next; /* newest first */
    char id[ANTHROPIC_ID_SIZE];
    uint64_t key_id;
    uint32_t n_tokens;
    struct prompt_print *print;
};

struct diagnostics {
    struct kept *newest;
};

struct diagnostics *diagnostics_create(void)
{
    return mem_zalloc(sizeof(struct diagnostics));
}

static void free_from(struct kept **at)
{
    for (struct kept *k = *at, *next; k; k = next) {
        next = k->next;
        mem_free(k->print);
        mem_free(k);
    }
    *at = NULL;
}

void diagnostics_destroy(struct diagnostics *d)
{
    if (!d) return;
    free_from(&d->newest);
    mem_free(d);
}

static size_t kept_bytes(const struct kept *k)
{
    return sizeof *k + sizeof *k->print + k->print->n_blocks * sizeof *k->print->blocks;
}

void diagnostics_keep(struct diagnostics *d, struct str id, uint64_t key_id, struct prompt_print *print,
                      uint32_t n_tokens)
{
    struct kept *k = mem_zalloc(sizeof *k);
    *k = (struct kept){.next = d->newest, .key_id = key_id, .n_tokens = n_tokens, .print = print};
    memcpy(k->id, id.ptr, id.len < sizeof k->id ? id.len : sizeof k->id - 1);
    d->newest = k;
    size_t n = 0;
    size_t bytes = 0;
    for (struct kept **at = &d->newest; *at; at = &(*at)->next) {
        bytes += kept_bytes(*at);
        if (++n <= KEPT_MAX && bytes <= KEPT_MAX_BYTES) continue;
        free_from(at);
        return;
    }
}

/* Tokens of the earlier prompt behind the part that is the same, by their share of its bytes. */
static uint32_t missed_tokens(const struct kept *before, size_t same_bytes)
{
    double all = (double)before->print->head_bytes;
    for (size_t i = 0; i < before->print->n_blocks; i++) all += before->print->blocks[i].bytes;
    double share = all > 0 ? (double)same_bytes / all : 0;
    return before->n_tokens - (uint32_t)((double)before->n_tokens * (share < 1 ? share : 1));
}

/* Whether the conversation before is a beginning of this one; *same_bytes: of what both begin with. */
static bool is_beginning(size_t *same_bytes, const struct prompt_print *before, const struct prompt_print *now)
{
    *same_bytes = before->head_bytes;
    for (size_t i = 0; i < before->n_blocks; i++) {
        if (i >= now->n_blocks || before->blocks[i].hash != now->blocks[i].hash) return false;
        *same_bytes += before->blocks[i].bytes;
    }
    return true;
}

void diagnostics_explain(const struct diagnostics *d, struct buf *out, struct str id, uint64_t key_id,
                         const struct prompt_print *print)
{
    const struct kept *k = d->newest;
    size_t same;
    if (!id.len) return; /* the first turn of a client that will ask later */
    while (k && !(k->key_id == key_id && str_eq(str_from(k->id), id))) k = k->next;
    if (!k) anthropic_diagnostics_write(out, "previous_message_not_found", false, 0);
    else if (k->print->model != print->model) anthropic_diagnostics_write(out, "model_changed", true, k->n_tokens);
    else if (k->print->system != print->system) anthropic_diagnostics_write(out, "system_changed", true, k->n_tokens);
    else if (k->print->tools != print->tools) anthropic_diagnostics_write(out, "tools_changed", true, k->n_tokens);
    else if (k->print->rest != print->rest) anthropic_diagnostics_write(out, "unavailable", false, 0);
    else if (!is_beginning(&same, k->print, print))
        anthropic_diagnostics_write(out, "messages_changed", true, missed_tokens(k, same));
}
