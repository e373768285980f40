/* oracle_prefix: "chat-templates" once more: the prompt of each turn begins with the prompt of the turn before and what
 * the model wrote behind it. Conversations as agents have them run through every template: the model's answer is
 * written in its dialect, a token a byte as no tokenizer would cut it, read by the parser, sent back as a client would
 * (with another spelling of inputs, trimmed texts), and the next prompt is compared byte for byte and token for token.
 * Where a template itself forbids it, a line of known-differences says why. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/anthropic_messages.h"
#include "base/alloc.h"
#include "base/log.h"
#include "gguf/gguf.h"
#include "local/answer.h"
#include "local/prompt.h"
#include "oracle.h"

struct step {                            /* what the model answers, and what comes then */
    const char *thinking, *text, *calls; /* text: up to a '|' it is a prefill of the client's; calls: [{name, input}] */
    const char *then;                    /* content of the next user turn; $0 $1: ids of the calls */
    const char *system;                  /* a system turn behind it, or NULL */
};
struct conversation {
    const char *name, *first; /* a name that begins with "apart": every block comes as a message of its own */
    const char *extra;        /* further members of the request */
    struct step steps[4];
};

#define TOOLS                                                                                                      \
    "\"system\":\"Be brief.\",\"tools\":[{\"name\":\"read\",\"description\":\"Reads\",\"input_schema\":{\"type\":" \
    "\"object\",\"properties\":{\"path\":{\"type\":\"string\"},\"limit\":{\"type\":\"number\"}},\"required\":["    \
    "\"path\""                                                                                                     \
    "]}}]"
#define THINK TOOLS ",\"thinking\":{\"type\":\"enabled\",\"budget_tokens\":1024}"
#define READ(path) "[{\"name\":\"read\",\"input\":{\"path\":\"" path "\",\"limit\":1e2}}]"
#define BOTH                                                                         \
    "[{\"name\":\"read\",\"input\":{\"path\":\"a\"}},{\"name\":\"read\",\"input\":{" \
    "\"limit\":2,\"path\":\"b \\\"q\\\" \\u00e9\"}}]"
#define RESULT(id, text) "{\"type\":\"tool_result\",\"tool_use_id\":\"" id "\",\"content\":\"" text "\"}"

static const struct conversation conversations[] = {
    {"text",
     "Hello",
     "\"system\":\"Be brief.\"",
     {{0, "Hi there.", 0, "\"And now?\"", 0}, {0, "Two\n\nlines.", 0, "\"Bye\"", 0}}},
    {"call",
     "Read a",
     TOOLS,
     {{0, 0, READ("a"), "[" RESULT("$0", "one") "]", 0}, {0, "It is one.", 0, "\"Thanks\"", 0}}},
    {"text+call",
     "Read a",
     TOOLS,
     {{0, "I will look.", READ("a"), "[" RESULT("$0", "one") "]", 0},
      {0, "And b.", READ("b"), "[" RESULT("$0", "two") "]", 0}}},
    {"parallel",
     "Read both",
     TOOLS,
     {{0, 0, BOTH, "[" RESULT("$0", "one") "," RESULT("$1", "two") "]", 0}, {0, "Done.", 0, "\"Thanks\"", 0}}},
    {"error",
     "Read a",
     TOOLS,
     {{0, 0, READ("a"),
       "[{\"type\":\"tool_result\",\"tool_use_id\":\"$0\",\"is_error\":true,\"content\":[{\"type\":\"text\",\"text\":"
       "\"no\"},"
       "{\"type\":\"text\",\"text\":\"such file\"}]}]",
       0},
      {0, 0, READ("b"), "[" RESULT("$0", "two") "]", 0}}},
    {"result+text",
     "Read a",
     TOOLS,
     {{0, 0, READ("a"), "[" RESULT("$0", "one") ",{\"type\":\"text\",\"text\":\"Go on.\"}]", 0},
      {0, "Yes.", 0, "\"Thanks\"", 0}}},
    {"system turn",
     "Read a",
     TOOLS,
     {{0, 0, READ("a"), "[" RESULT("$0", "one") "]", "Mind the time."},
      {0, "Yes.", 0, "\"Thanks\"", "Mind it again."},
      {0, "I do.", 0, "\"Good\"", 0}}},
    {"thinking+call",
     "Read a",
     THINK,
     {{"Let me see.", 0, READ("a"), "[" RESULT("$0", "one") "]", 0},
      {"Then b.", 0, READ("b"), "[" RESULT("$0", "two") "]", 0}}},
    {"thinking+text+call",
     "Read a",
     THINK,
     {{"Let me see.", "I look.", READ("a"), "[" RESULT("$0", "one") "]", 0}, {"Fine.", "Ready.", 0, "\"Thanks\"", 0}}},
    {"thinking+text", "Hello", THINK, {{"A greeting.", "Hi.", 0, "\"And now?\"", 0}}},
    {"prefill",
     "Hello",
     "\"system\":\"Be brief.\"",
     {{0, "The answer |is 42.", 0, "\"And now?\"", 0}, {0, "It| is no.", 0, "\"Bye\"", 0}}},
    {"prefill+call",
     "Read a",
     TOOLS,
     {{0, "I will| look.", READ("a"), "[" RESULT("$0", "one") "]", 0}, {0, "Done.", 0, "\"Thanks\"", 0}}},
    {"apart",
     "Read both",
     TOOLS,
     {{0, "I look.", BOTH, "[" RESULT("$0", "one") "," RESULT("$1", "two") ",{\"type\":\"text\",\"text\":\"Go on.\"}]",
       0},
      {0, "Done.", 0, "[{\"type\":\"text\",\"text\":\"Thanks\"},{\"type\":\"text\",\"text\":\"Bye\"}]", 0}}},
    {"apart, prefill",
     "Hello",
     "\"system\":\"Be brief.\"",
     {{0, "The answer| is\n\n42.", 0, "\"And now?\"", 0}, {0, "No.", 0, "\"Bye\"", 0}}},
};

struct run {
    struct oracle_count *count;
    const struct tokenizer *tokenizer;
    uint32_t byte_ids[256];
    bool has_run;
    char folder[3000];
};

/* ---- what the model writes ---- */

static void write_calls(struct buf *out, const struct dialect *d, const char *text)
{
    json_t *calls = json_loads(text, 0, NULL), *call;
    size_t i;
    json_array_foreach(calls, i, call)
    {
        struct chat_block b = {.kind = CHAT_TOOL_USE,
                               .name = str_from(json_string_value(json_object_get(call, "name"))),
                               .input = json_object_get(call, "input")};
        if (i) buf_append_char(out, '\n');
        dialect_call_text(d, out, &b);
    }
    json_decref(calls);
}

/* The part of the text that the client wrote, and the model's. */
static struct str prefill_of(const struct step *s)
{
    struct str text = s->text ? str_from(s->text) : STR_NONE;
    ptrdiff_t at = str_find(text, STR("|"), 0);
    return at < 0 ? STR_NONE : str_slice(text, 0, (size_t)at);
}

static struct str said(const struct step *s)
{
    struct str text = s->text ? str_from(s->text) : STR_NONE, prefill = prefill_of(s);
    return prefill.len ? str_slice(text, prefill.len + 1, text.len) : text;
}

static void write_harmony(struct buf *out, const struct step *s)
{
    const char *next = "<|end|><|start|>assistant";
    if (s->thinking) buf_printf(out, "<|channel|>analysis<|message|>%s%s", s->thinking, next);
    struct str text = said(s);
    if (text.len && s->calls) buf_printf(out, "<|channel|>commentary<|message|>%.*s%s", STR_ARG(text), next);
    else if (text.len) buf_printf(out, "<|channel|>final<|message|>%.*s", STR_ARG(text));
    json_t *calls = s->calls ? json_loads(s->calls, 0, NULL) : NULL;
    const json_t *call = json_array_get(calls, 0);
    char *input = call ? json_dumps(json_object_get(call, "input"), JSON_COMPACT) : NULL;
    if (call)
        buf_printf(out, "<|channel|>commentary to=functions.%s <|constrain|>json<|message|>%s",
                   json_string_value(json_object_get(call, "name")), input);
    free(input);
    json_decref(calls);
}

static void write_name_lines(struct buf *out, const struct step *s)
{
    json_t *calls = s->calls ? json_loads(s->calls, 0, NULL) : NULL, *call;
    size_t i;
    struct str text = said(s);
    if (text.len) buf_printf(out, "all\n%.*s", STR_ARG(text));
    json_array_foreach(calls, i, call)
    {
        char *input = json_dumps(json_object_get(call, "input"), JSON_COMPACT);
        buf_printf(out, "%s%s\n%s", i || s->text ? "\n>>>" : "", json_string_value(json_object_get(call, "name")),
                   input);
        free(input);
    }
    json_decref(calls);
}

static void write_answer(struct buf *out, const struct dialect *d, const struct prompt *p, const struct step *s)
{
    if (!strcmp(dialect_name(d), "harmony")) {
        write_harmony(out, s);
        return;
    }
    if (!strcmp(dialect_name(d), "functionary-v3.2")) {
        write_name_lines(out, s);
        return;
    }
    struct dialect_traits t;
    dialect_traits_get(d, &t);
    bool thinks = s->thinking && t.think_end.len && (p->in_thinking || p->may_think);
    if (thinks && !p->in_thinking) buf_printf(out, "%.*s\n", STR_ARG(t.think_start));
    if (thinks) buf_printf(out, "%s\n%.*s\n\n", s->thinking, STR_ARG(t.think_end));
    else if (p->in_thinking) buf_printf(out, "%.*s\n\n", STR_ARG(t.think_end));
    buf_append(out, said(s));
    if (s->text && s->calls) buf_append(out, STR("\n\n"));
    if (s->calls) write_calls(out, d, s->calls);
}

/* ---- what the client makes of it ---- */

struct client {
    json_t *blocks;
    struct buf text;
};

static void collect(void *ctx, const struct chat_event *ev)
{
    struct client *c = ctx;
    if (ev->kind == CHAT_EVENT_BLOCK_OPEN) {
        buf_clear(&c->text);
        json_t *b = json_object();
        if (ev->block == CHAT_TOOL_USE) {
            json_object_set_new(b, "id", json_stringn(ev->id.ptr, ev->id.len));
            json_object_set_new(b, "name", json_stringn(ev->name.ptr, ev->name.len));
        }
        json_array_append_new(c->blocks, b);
    } else if (ev->kind == CHAT_EVENT_DELTA) {
        buf_append(&c->text, ev->text);
    } else if (ev->kind == CHAT_EVENT_BLOCK_CLOSE) {
        json_t *b = json_array_get(c->blocks, json_array_size(c->blocks) - 1);
        struct str text = str_trim(buf_str(&c->text));
        const char *kind = ev->block == CHAT_TEXT ? "text" : ev->block == CHAT_THINKING ? "thinking" : "tool_use";
        json_object_set_new(b, "type", json_string(kind));
        if (ev->block == CHAT_TOOL_USE)
            json_object_set_new(b, "input", json_loadb(text.ptr, text.len, JSON_DECODE_INT_AS_REAL, NULL));
        else json_object_set_new(b, kind, json_stringn(text.ptr, text.len));
        if (ev->block == CHAT_TEXT) json_object_set_new(b, "citations", json_null());
        if (ev->block == CHAT_THINKING)
            json_object_set_new(b, "signature", json_stringn(ev->signature.ptr, ev->signature.len));
    }
}

/* The next user turn, with the ids of the calls in the places of $0 and $1. */
static json_t *next_turn(const json_t *blocks, const char *then)
{
    struct buf b;
    size_t i, n = 0;
    json_t *block;
    buf_init(&b, 1 << 20);
    const char *ids[2] = {"none", "none"};
    json_array_foreach(blocks, i, block)
    {
        const char *id = json_string_value(json_object_get(block, "id"));
        if (id && n < 2) ids[n++] = id;
    }
    for (const char *c = then; *c; c++) {
        if (c[0] == '$' && (c[1] == '0' || c[1] == '1')) buf_append(&b, str_from(ids[*++c - '0']));
        else buf_append_char(&b, *c);
    }
    json_t *content = json_loadb(b.ptr, b.len, JSON_DECODE_ANY, NULL);
    buf_deinit(&b);
    return json_pack("{s:s, s:o}", "role", "user", "content", content ? content : json_null());
}

/* ---- one conversation ---- */

static struct chat_request *request(const char *extra, const json_t *messages, struct anthropic_error *e)
{
    static const struct anthropic_support all = {.thinking = true, .tools = true};
    struct chat_request *r = NULL;
    struct buf b;
    char *list = json_dumps(messages, JSON_COMPACT | JSON_SORT_KEYS);
    buf_init(&b, 1 << 22);
    buf_printf(&b, "{\"model\":\"m\",\"max_tokens\":2048,%s,\"messages\":%s}", extra, list);
    free(list);
    bool ok = anthropic_request_decode(&r, b.ptr, b.len, ANTHROPIC_CREATE, &all, e);
    buf_deinit(&b);
    return ok ? r : NULL;
}

/* The model answers `raw` behind the prompt; its blocks, as a client keeps them. */
static json_t *answer(const struct run *run, const struct prompt_maker *maker, struct call_memory *memory,
                      const struct chat_request *req, const struct prompt *p, struct str raw, const uint32_t *ids)
{
    static const unsigned char key[32];
    struct client c = {.blocks = json_array()};
    buf_init(&c.text, 1 << 22);
    struct answer_config config = {.dialect = prompt_dialect(maker),
                                   .req = req,
                                   .memory = memory,
                                   .key = key,
                                   .tokenizer = run->tokenizer,
                                   .given = buf_str(&p->given),
                                   .given_runs = &p->given_runs,
                                   .opened_call = buf_str(&p->opened_call),
                                   .in_thinking = p->in_thinking,
                                   .ahead = buf_str(&p->ahead),
                                   .ahead_free = p->ahead_free,
                                   .sink = collect,
                                   .ctx = &c};
    struct answer *a = answer_create(&config);
    for (size_t i = 0; i < raw.len; i += 5) {
        struct str piece = str_slice(raw, i, i + 5);
        answer_feed(a, piece, ids + i, piece.len);
    }
    answer_finish(a, false);
    answer_destroy(a);
    buf_deinit(&c.text);
    return c.blocks;
}

/* A token for every byte. */
static bool append_bytes(const struct run *run, struct token_list *out, struct str text)
{
    for (size_t i = 0; i < text.len; i++)
        if (!token_list_append(out, run->byte_ids[(unsigned char)text.ptr[i]], NULL)) return false;
    return true;
}

static json_t *message(const char *role, json_t *content)
{
    return json_pack("{s:s, s:o}", "role", role, "content", content);
}

static json_t *prefill_message(const struct step *s)
{
    struct str text = prefill_of(s);
    return message("assistant", json_stringn(text.ptr, text.len));
}

static bool is_apart(const struct conversation *c)
{
    return str_starts(str_from(c->name), STR("apart"));
}

/* The client puts its own part before what came. */
static void join_prefill(const struct step *s, json_t *blocks)
{
    struct str prefill = prefill_of(s), text = said(s);
    json_t *first = json_array_get(blocks, 0);
    const char *came = json_string_value(json_object_get(first, "text"));
    bool is_cut = text.len && *text.ptr == ' '; /* the client trims what came, this one knows it */
    json_object_set_new(first, "text", json_sprintf("%.*s%s%s", STR_ARG(prefill), is_cut ? " " : "", came ? came : ""));
}

/* What the client sends in the next request. */
static void extend(json_t *messages, const struct conversation *c, const struct step *s, json_t *blocks)
{
    json_t *next = next_turn(blocks, s->then), *content = json_object_get(next, "content"), *block;
    size_t i;
    if (is_apart(c)) {
        if (prefill_of(s).len) json_array_append_new(messages, prefill_message(s));
        json_array_foreach(blocks, i, block)
            json_array_append_new(messages, message("assistant", json_pack("[O]", block)));
        if (json_is_string(content)) json_array_append(messages, next);
        json_array_foreach(content, i, block) json_array_append_new(messages, message("user", json_pack("[O]", block)));
    } else {
        if (prefill_of(s).len) join_prefill(s, blocks);
        json_array_append_new(messages, message("assistant", json_incref(blocks)));
        json_array_append(messages, next);
    }
    if (s->system) json_array_append_new(messages, message("system", json_string(s->system)));
    json_decref(next);
    json_decref(blocks);
}

/* How the prompt leaves the one before and its answer, in `what`; false: it begins with it. */
static bool leaves(char *what, size_t size, size_t turn, struct str before, struct str text,
                   const struct token_list *ids_before, const struct token_list *ids)
{
    size_t same = 0;
    while (same < text.len && same < before.len && text.ptr[same] == before.ptr[same]) same++;
    if (same < before.len) {
        size_t from = same > 30 ? same - 30 : 0;
        snprintf(what, size,
                 "turn %zu leaves the last one at byte %zu of %zu (%zu before its answer): was \"%.*s\", is \"%.*s\"",
                 turn, same, before.len, before.len - same, STR_ARG(str_slice(before, from, same + 40)),
                 STR_ARG(str_slice(text, from, same + 40)));
        for (char *x = what; *x; x++)
            if (*x == '\n') *x = '~';
        return true;
    }
    for (same = 0; same < ids_before->n && same < ids->n && ids->ids[same] == ids_before->ids[same]; same++) continue;
    if (same == ids_before->n) return false;
    snprintf(what, size, "turn %zu has other tokens from %zu of %zu on", turn, same, ids_before->n);
    return true;
}

static bool converse(const struct run *run, const struct prompt_maker *maker, struct call_memory *memory,
                     const struct conversation *c, char *what, size_t size)
{
    json_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", c->first);
    struct buf before;
    struct token_list ids_before, ids;
    bool ok = true;
    if (is_apart(c)) json_array_append_new(messages, json_pack("{s:s, s:s}", "role", "user", "content", "Please."));
    buf_init(&before, 1 << 24);
    token_list_init(&ids_before, 1 << 24);
    token_list_init(&ids, 1 << 24);
    for (size_t i = 0; ok && i < 5; i++) {
        struct anthropic_error ae = {0};
        struct err e = {0};
        struct prompt p;
        const struct step *s = i < 4 ? &c->steps[i] : NULL;
        json_t *sent = json_copy(messages);
        if (s && s->then && prefill_of(s).len) json_array_append_new(sent, prefill_message(s));
        prompt_init(&p);
        ids.n = 0;
        struct chat_request *r = request(c->extra, sent, &ae);
        ok = r && prompt_tokens(maker, &ids, &p, r, &e);
        json_decref(sent);
        if (!ok) snprintf(what, size, "turn %zu is refused: %s", i + 1, r ? e.msg : ae.message);
        ok = ok && !leaves(what, size, i + 1, buf_str(&before), buf_str(&p.text), &ids_before, &ids);
        bool more = ok && s && s->then;
        if (more) {
            buf_clear(&before);
            buf_append(&before, buf_str(&p.text));
            size_t from = before.len, n = ids.n;
            write_answer(&before, prompt_dialect(maker), &p, s);
            struct str raw = str_slice(buf_str(&before), from, before.len);
            ok = append_bytes(run, &ids, raw);
            extend(messages, c, s, answer(run, maker, memory, r, &p, raw, ids.ids + n));
            struct token_list other = ids_before;
            ids_before = ids;
            ids = other;
        }
        chat_request_destroy(r);
        prompt_deinit(&p);
        if (!more) break;
    }
    token_list_deinit(&ids_before);
    token_list_deinit(&ids);
    buf_deinit(&before);
    json_decref(messages);
    return ok;
}

static void run_template(struct run *run, const char *name)
{
    char path[4096], what[1200], id[400];
    size_t len;
    struct err e = {0};
    snprintf(path, sizeof path, "%s/templates/%s", run->folder, name);
    char *text = oracle_read(&len, path);
    for (size_t i = 0; text && i < sizeof conversations / sizeof *conversations; i++) {
        struct call_memory *memory = call_memory_create(1 << 24);
        struct prompt_maker *maker = prompt_maker_create(run->tokenizer, (struct str){text, len}, STR_NONE, memory, &e);
        snprintf(id, sizeof id, "prefix of %s, %s [%s]", name, conversations[i].name,
                 maker ? dialect_name(prompt_dialect(maker)) : "?");
        if (!maker) snprintf(what, sizeof what, "%s", e.msg);
        if (maker && converse(run, maker, memory, &conversations[i], what, sizeof what)) run->count->passed++;
        else oracle_fail(run->count, id, what);
        prompt_maker_destroy(maker);
        call_memory_destroy(memory);
    }
    mem_free(text);
}

static void find_bytes(struct run *run)
{
    struct buf piece;
    buf_init(&piece, 1 << 16);
    for (uint32_t id = 0; id < tokenizer_size(run->tokenizer); id++) {
        buf_clear(&piece);
        if (tokenizer_piece(run->tokenizer, &piece, id, false) && piece.len == 1)
            run->byte_ids[(unsigned char)piece.ptr[0]] = id;
    }
    buf_deinit(&piece);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* One with byte-level BPE, one with SentencePiece's spaces in front: both have a token for every byte. */
static const char *const vocabularies[] = {"ggml-vocab-gpt-2.gguf", "ggml-vocab-llama-spm.gguf",
                                           "ggml-vocab-tiny.gguf"};

static void run_vocabulary(struct run *run, const char *vocabulary, char **names, size_t n)
{
    struct err e = {0};
    char path[4096];
    snprintf(path, sizeof path, "%s/../tokenizers/gguf/%s", run->folder, vocabulary);
    struct gguf *g = gguf_open(path, &e);
    struct tokenizer *t = g ? tokenizer_create(g, &e) : NULL;
    run->tokenizer = t;
    if (t) find_bytes(run);
    for (size_t i = 0; t && i < n; i++) run_template(run, names[i]);
    run->has_run |= t != NULL;
    tokenizer_destroy(t);
    gguf_close(g);
}

bool oracle_prefix(const char *data_dir, struct oracle_count *count)
{
    struct run run = {.count = count};
    char folder[4096], *names[512];
    size_t n = 0;
    snprintf(run.folder, sizeof run.folder, "%s", data_dir);
    snprintf(folder, sizeof folder, "%s/templates", data_dir);
    DIR *dir = opendir(folder);
    log_set_level(LOG_ERROR);
    for (struct dirent *d; dir && n < 512 && (d = readdir(dir));)
        if (str_ends(str_from(d->d_name), STR(".jinja")))
            names[n++] = strcpy(mem_alloc(strlen(d->d_name) + 1), d->d_name);
    if (dir) closedir(dir);
    qsort(names, n, sizeof *names, by_name);
    for (size_t i = 0; i < sizeof vocabularies / sizeof *vocabularies; i++)
        run_vocabulary(&run, vocabularies[i], names, n);
    for (size_t i = 0; i < n; i++) mem_free(names[i]);
    return n > 0 && run.has_run;
}
