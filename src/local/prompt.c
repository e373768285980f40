/* prompt: see prompt.h. Conversations are tried in the shape the client gave them; only when the template refuses that,
 * in shapes that more templates know (struct shape). Which shape a template needs for a conversation depends on the
 * conversation's roles alone, so that a later turn renders its earlier turns with the same bytes. */
#include "local/prompt.h"

#include <jansson.h>
#include <string.h>

#include "base/alloc.h"
#include "base/log.h"

#define MAX_PROMPT_BYTES ((size_t)256 << 20)

/* ChatML, for models that come without a template. */
static const char chatml[] =
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

struct prompt_maker {
    const struct tokenizer *tokenizer;
    struct jinja *template;
    struct tokenizer_info info;
};

/* How a conversation is put to the template. Later shapes lose less than an error would. */
struct shape {
    bool mid_system_as_user; /* a system turn after the first becomes user text in a <system-reminder> */
    bool system_as_user;     /* the first system turn too */
};
static const struct shape shapes[] = {{false, false}, {true, false}, {true, true}};

struct prompt_maker *prompt_maker_create(const struct tokenizer *t, struct str template_text, struct err *e)
{
    struct prompt_maker *p = mem_zalloc(sizeof *p);
    p->tokenizer = t;
    tokenizer_info_get(t, &p->info);
    struct str source = template_text.len ? template_text : p->info.chat_template;
    if (source.len == 0) {
        log_warn(
            "the model has no chat template: using ChatML; give one with --chat-template-file if answers look wrong");
        source = str_from(chatml);
    }
    p->template = jinja_compile(source, (struct jinja_options){.trim_blocks = true, .lstrip_blocks = true}, e);
    if (!p->template) {
        err_prefix(e, "chat template: ");
        mem_free(p);
        return NULL;
    }
    return p;
}

void prompt_maker_destroy(struct prompt_maker *p)
{
    if (!p) return;
    jinja_destroy(p->template);
    mem_free(p);
}

/* ---- the conversation as JSON for the template ---- */

static void append_texts(struct buf *out, const struct chat_block *blocks, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (blocks[i].kind != CHAT_TEXT || blocks[i].text.len == 0) continue;
        if (out->len) buf_append(out, STR("\n\n"));
        buf_append(out, blocks[i].text);
    }
}

/* Adds a turn, or lengthens the last one when it has the same role: many templates demand alternating roles. */
static bool add_turn(json_t *turns, const char *role, struct str text)
{
    json_t *last = json_array_get(turns, json_array_size(turns) - 1);
    if (last && strcmp(json_string_value(json_object_get(last, "role")), role) == 0) {
        json_t *content = json_object_get(last, "content");
        struct buf joined;
        buf_init(&joined, MAX_PROMPT_BYTES);
        buf_append(&joined, (struct str){json_string_value(content), json_string_length(content)});
        buf_append(&joined, STR("\n\n"));
        bool ok = buf_append(&joined, text) &&
                  json_object_set_new(last, "content", json_stringn(joined.ptr, joined.len)) == 0;
        buf_deinit(&joined);
        return ok;
    }
    json_t *turn = json_pack("{s:s, s:o}", "role", role, "content", json_stringn(text.ptr ? text.ptr : "", text.len));
    return turn && json_array_append_new(turns, turn) == 0;
}

static bool add_system(json_t *turns, struct str text, bool as_user)
{
    if (text.len == 0) return true;
    if (!as_user) return add_turn(turns, "system", text);
    struct buf wrapped;
    buf_init(&wrapped, MAX_PROMPT_BYTES);
    buf_append(&wrapped, STR("<system-reminder>\n"));
    buf_append(&wrapped, text);
    bool ok = buf_append(&wrapped, STR("\n</system-reminder>")) && add_turn(turns, "user", buf_str(&wrapped));
    buf_deinit(&wrapped);
    return ok;
}

static bool ends_in_prefill(const struct chat_request *req)
{
    return req->n_messages > 0 && req->messages[req->n_messages - 1].role == CHAT_ASSISTANT;
}

static bool add_message(json_t *turns, const struct chat_message *message, const struct shape *shape)
{
    static const char *const roles[] = {[CHAT_USER] = "user", [CHAT_ASSISTANT] = "assistant"};
    struct buf text;
    buf_init(&text, MAX_PROMPT_BYTES);
    append_texts(&text, message->blocks, message->n_blocks);
    bool first = json_array_size(turns) == 0;
    bool ok = !text.failed;
    if (ok && message->role == CHAT_SYSTEM)
        ok = add_system(turns, buf_str(&text), first ? shape->system_as_user : shape->mid_system_as_user);
    else if (ok) ok = add_turn(turns, roles[message->role], buf_str(&text));
    buf_deinit(&text);
    return ok;
}

/* The turns before the answer; a prefilled answer is not among them. NULL: out of memory. */
static json_t *turns_of(const struct chat_request *req, const struct shape *shape)
{
    json_t *turns = json_array();
    struct buf system;
    buf_init(&system, MAX_PROMPT_BYTES);
    append_texts(&system, req->system, req->n_system);
    bool ok = turns && !system.failed && add_system(turns, buf_str(&system), shape->system_as_user);
    buf_deinit(&system);
    size_t n = req->n_messages - (ends_in_prefill(req) ? 1 : 0);
    for (size_t i = 0; ok && i < n; i++) ok = add_message(turns, &req->messages[i], shape);
    if (ok) return turns;
    json_decref(turns);
    return NULL;
}

static json_t *token_text(const struct prompt_maker *p, uint32_t id)
{
    struct str text = tokenizer_text(p->tokenizer, id);
    return json_stringn(text.ptr ? text.ptr : "", text.len);
}

static bool render_shape(const struct prompt_maker *p, struct buf *out, struct jinja_spans *tainted, bool *raised,
                         const struct chat_request *req, const struct shape *shape, struct err *e)
{
    json_t *turns = turns_of(req, shape);
    json_t *context = turns
                          ? json_pack("{s:o, s:b, s:o, s:o}", "messages", turns, "add_generation_prompt", 1,
                                      "bos_token", token_text(p, p->info.bos), "eos_token", token_text(p, p->info.eos))
                          : NULL;
    if (!context) return err_set(e, ERR_TOO_LARGE, "the conversation is larger than %zu bytes", MAX_PROMPT_BYTES);
    struct jinja_limits limits = {.max_output_bytes = MAX_PROMPT_BYTES, .max_memory_bytes = 4 * MAX_PROMPT_BYTES};
    bool ok = jinja_render(p->template, out, tainted, raised, context, NULL, &limits, e);
    json_decref(context);
    return ok;
}

/* ---- the prefilled answer ---- */

static bool append_tainted(struct buf *out, struct jinja_spans *tainted, struct str text)
{
    size_t from = out->len;
    if (!buf_append(out, text)) return false;
    if (!tainted || text.len == 0) return true;
    tainted->items = mem_realloc(tainted->items, (tainted->n + 1) * sizeof *tainted->items);
    tainted->items[tainted->n++] = (struct jinja_span){from, out->len};
    return true;
}

static bool append_prefill(struct buf *out, struct jinja_spans *tainted, const struct chat_request *req)
{
    const struct chat_message *last = &req->messages[req->n_messages - 1];
    struct buf text;
    buf_init(&text, MAX_PROMPT_BYTES);
    append_texts(&text, last->blocks, last->n_blocks);
    bool ok = !text.failed && append_tainted(out, tainted, buf_str(&text));
    buf_deinit(&text);
    return ok;
}

/* ---- public to local/ ---- */

bool prompt_render(const struct prompt_maker *p, struct buf *out, struct jinja_spans *tainted,
                   const struct chat_request *req, struct err *e)
{
    bool ok = false, raised = true;
    size_t start = out->len;
    struct err first = {0};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes && !ok && raised; i++) {
        struct err why = {0};
        out->len = start;
        ok = render_shape(p, out, tainted, &raised, req, &shapes[i], &why);
        if (!ok && i == 0) first = why;
    }
    if (!ok) {
        if (e) *e = first;
        return err_prefix(e, "the model's chat template refuses this conversation: ");
    }
    if (ends_in_prefill(req) && !append_prefill(out, tainted, req))
        return err_set(e, ERR_TOO_LARGE, "the prompt is larger than %zu bytes", MAX_PROMPT_BYTES);
    return true;
}

bool prompt_tokens(const struct prompt_maker *p, struct token_list *out, const struct chat_request *req, struct err *e)
{
    struct buf text;
    struct jinja_spans tainted = {0};
    buf_init(&text, MAX_PROMPT_BYTES);
    bool ok = prompt_render(p, &text, &tainted, req, e);
    if (ok) {
        _Static_assert(sizeof(struct jinja_span) == sizeof(struct text_span), "spans are handed on as they are");
        ok = tokenizer_encode(p->tokenizer, out, buf_str(&text), true, (const struct text_span *)(void *)tainted.items,
                              tainted.n, e) &&
             tokenizer_add_special(p->tokenizer, out, e);
    }
    mem_free(tainted.items);
    buf_deinit(&text);
    return ok;
}
