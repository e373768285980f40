/* anthropic_request: the body of POST /v1/messages and count_tokens to a chat_request: parsing, the fields beside
 * messages, and the table of fields that are refused. Fields that are not named here are accepted and ignored. */
#include <stdio.h>
#include <string.h>

#include "api/anthropic_body.h"
#include "api/anthropic_request_internal.h"

#define MAX_TOKENS_DEFAULT 4096
#define STOPS_MAX 128
#define CHANGES_MAX_BYTES ((size_t)16 << 20)
#define STOP_MAX_BYTES 4096

static bool is_non_empty(const json_t *value)
{
    return !json_is_array(value) || json_array_size(value) > 0;
}

/* A bare container id is harmless, skills are not. */
static bool has_skills(const json_t *value)
{
    return json_is_object(value) && json_array_size(json_object_get(value, "skills")) > 0;
}

static const struct field_rule {
    const char *name;
    bool (*is_refused)(const json_t *value);
    const char *code;
    const char *why;
} refused_fields[] = {
    {"mcp_servers", is_non_empty, NULL, "this server does not connect to MCP servers: run their tools in the client"},
    {"container", has_skills, NULL, "this server has no containers and no skills"},
};

static bool check_refused(struct decoder *d, const json_t *body)
{
    for (size_t i = 0; i < sizeof refused_fields / sizeof *refused_fields; i++) {
        const struct field_rule *rule = &refused_fields[i];
        json_t *value = field_get(body, rule->name);
        if (!value || !rule->is_refused(value)) continue;
        path_push(d, rule->name);
        decode_fail(d, "%s", rule->why);
        d->error->code = rule->code;
        return false;
    }
    return true;
}

static bool decode_stops(struct decoder *d, const json_t *body)
{
    json_t *list = field_get(body, "stop_sequences");
    if (!list) return true;
    size_t at = path_push(d, "stop_sequences");
    if (!json_is_array(list)) return decode_mismatch(d, "an array of strings", list);
    size_t n = json_array_size(list);
    if (n > STOPS_MAX) return decode_fail(d, "at most %d stop sequences are accepted, found %zu", STOPS_MAX, n);
    d->r->stops = decode_alloc(d, n, sizeof *d->r->stops);
    if (!d->r->stops) return false;
    for (size_t i = 0; i < n; i++) {
        size_t inner = path_push_index(d, i);
        const json_t *stop = json_array_get(list, i);
        if (!json_is_string(stop)) return decode_mismatch(d, "a string", stop);
        struct str text = json_str(stop);
        if (!str_trim(text).len) return decode_fail(d, "each stop sequence must contain more than white space");
        if (text.len > STOP_MAX_BYTES)
            return decode_fail(d, "a stop sequence has at most %d bytes, found %zu", STOP_MAX_BYTES, text.len);
        d->r->stops[d->r->n_stops++] = text;
        path_pop(d, inner);
    }
    path_pop(d, at);
    return true;
}

static bool decode_sampling(struct decoder *d, const json_t *body)
{
    struct chat_sampling *s = &d->r->sampling;
    int64_t top_k = 0;
    int64_t seed = 0;
    bool ok = field_number(d, &s->temperature, &s->has_temperature, body, "temperature", 0, 10) &&
              field_number(d, &s->top_p, &s->has_top_p, body, "top_p", 0, 1) &&
              field_integer(d, &top_k, &s->has_top_k, body, "top_k", 0, INT32_MAX) &&
              field_number(d, &s->min_p, &s->has_min_p, body, "min_p", 0, 1) &&
              field_integer(d, &seed, &s->has_seed, body, "seed", 0, INT64_MAX) &&
              field_number(d, &s->repeat_penalty, &s->has_repeat_penalty, body, "repeat_penalty", 0.01, 100) &&
              field_number(d, &s->presence_penalty, &s->has_presence_penalty, body, "presence_penalty", -10, 10) &&
              field_number(d, &s->frequency_penalty, &s->has_frequency_penalty, body, "frequency_penalty", -10, 10);
    s->top_k = (int)top_k;
    s->seed = (uint64_t)seed;
    return ok;
}

static bool decode_max_tokens(struct decoder *d, const json_t *body)
{
    int64_t n = MAX_TOKENS_DEFAULT;
    if (d->call == ANTHROPIC_CREATE && !field_integer(d, &n, &d->r->has_max_tokens, body, "max_tokens", 0, INT32_MAX))
        return false;
    d->r->max_tokens = (uint32_t)n;
    return true;
}

/* A request for no tokens only fills the cache; what would shape its answer is refused, as the API does. */
static bool check_warming(struct decoder *d, const json_t *body)
{
    const struct chat_request *r = d->r;
    bool is_forced = r->tool_choice == CHAT_TOOLS_ANY || r->tool_choice == CHAT_TOOLS_ONE;
    const char *with = r->stream                         ? "stream"
                       : r->thinking == CHAT_THINKING_ON ? "thinking.type \"enabled\""
                       : r->output_schema                ? "output_config.format"
                       : is_forced                       ? "a forced tool_choice"
                       : field_get(body, "compaction")   ? "compaction"
                                                         : NULL;
    if (!r->has_max_tokens || r->max_tokens || !with) return true;
    return decode_fail(d, "max_tokens: 0 only fills the cache and cannot be combined with %s", with);
}

static bool decode_thinking(struct decoder *d, const json_t *body)
{
    json_t *thinking = field_get(body, "thinking");
    if (!thinking) return true;
    size_t at = path_push(d, "thinking");
    if (!json_is_object(thinking)) return decode_mismatch(d, "an object", thinking);
    struct str type = STR(""), display = STR("");
    int64_t budget = 0;
    bool has_budget = false;
    if (!field_str(d, &type, thinking, "type", true) || !field_str(d, &display, thinking, "display", false) ||
        !field_integer(d, &budget, &has_budget, thinking, "budget_tokens", 0, INT32_MAX))
        return false;
    /* Modes are an open list: what is not off lets the model decide. */
    if (str_eq(type, STR("disabled"))) d->r->thinking = CHAT_THINKING_OFF;
    else if (str_eq(type, STR("enabled"))) d->r->thinking = CHAT_THINKING_ON;
    else d->r->thinking = CHAT_THINKING_ADAPTIVE;
    d->r->thinking_omitted = str_eq(display, STR("omitted"));
    d->r->thinking_budget = d->r->thinking == CHAT_THINKING_OFF ? 0 : (uint32_t)budget;
    path_pop(d, at);
    return true;
}

/* {"type":"json_schema","schema":{...}}; {"type":"text"} and absence mean free text. */
static bool decode_format(struct decoder *d, const json_t *parent, const char *key)
{
    json_t *format = field_get(parent, key);
    if (!format) return true;
    size_t at = path_push(d, key);
    struct str type = STR("");
    if (!json_is_object(format)) return decode_mismatch(d, "an object", format);
    if (!field_str(d, &type, format, "type", true)) return false;
    path_pop(d, at);
    if (str_eq(type, STR("text"))) return true;
    path_push(d, key);
    if (!d->support->output_schema)
        return decode_fail(d, "structured output is not supported by this server yet "
                              "(capability_rejected: structured_outputs_unsupported)");
    if (!str_eq(type, STR("json_schema"))) return decode_fail(d, "unknown format, expected json_schema");
    json_t *schema = field_get(format, "schema");
    path_push(d, "schema");
    if (!json_is_object(schema)) return decode_mismatch(d, "an object", json_object_get(format, "schema"));
    d->r->output_schema = schema;
    d->r->output_where = arena_try_str(&d->r->arena, (struct str){d->path, d->path_len});
    path_pop(d, at);
    if (!d->r->output_where.ptr) return decode_fail(d, "out of memory");
    if (d->r->n_messages && d->r->messages[d->r->n_messages - 1].role == CHAT_ASSISTANT) {
        path_push(d, key);
        return decode_fail(d,
                           "structured output cannot continue an answer that is begun already: the last message must "
                           "not be the assistant's");
    }
    return true;
}

static bool decode_output(struct decoder *d, const json_t *body)
{
    json_t *config = field_get(body, "output_config");
    if (field_get(body, "output_format") && field_get(config, "format"))
        return decode_fail(d, "output_format: give either output_format or output_config.format, not both");
    if (!decode_format(d, body, "output_format")) return false;
    size_t at = path_push(d, "output_config");
    if (config && !json_is_object(config)) return decode_mismatch(d, "an object", config);
    if (config && (!field_str(d, &d->r->effort, config, "effort", false) || !decode_format(d, config, "format")))
        return false;
    if (field_get(config, "task_budget")) chat_note(d->r, "output_config.task_budget: the model is not told");
    path_pop(d, at);
    if (d->turn_effort.len) d->r->effort = d->turn_effort;
    return true;
}

/* Hints only: whatever their form, they never fail. The user id of coding agents is JSON in a string. */
static bool decode_metadata(struct decoder *d, const json_t *body)
{
    json_t *user = json_object_get(field_get(body, "metadata"), "user_id");
    if (!json_is_string(user)) return true;
    d->r->user_id = json_str(user);
    if (!str_starts(d->r->user_id, STR("{")) || d->r->user_id.len > 4096) return true;
    json_t *parsed = json_loadb(d->r->user_id.ptr, d->r->user_id.len, 0, NULL);
    json_t *session = json_object_get(parsed, "session_id");
    if (json_is_string(session)) d->r->session_id = arena_try_str(&d->r->arena, json_str(session));
    json_decref(parsed);
    return true;
}

/* What is asked for at the top and answered without. */
static void note_unhonoured(struct decoder *d, const json_t *body)
{
    json_t *speed = field_get(body, "speed"), *binding = field_get(field_get(body, "thinking"), "block_binding");
    json_t *mismatch = field_get(binding, "prefix_mismatch_behavior");
    if (json_is_string(speed) && str_eq(json_str(speed), STR("fast")))
        chat_note(d->r, "speed: every answer comes as fast as this machine can");
    if (field_get(body, "container")) chat_note(d->r, "container: there is none");
    if (json_is_string(mismatch) && str_eq(json_str(mismatch), STR("error")))
        chat_note(d->r, "thinking.block_binding: foreign reasoning is taken, not refused");
}

static bool decode_body(struct decoder *d, const json_t *body)
{
    if (!field_str(d, &d->r->model, body, "model", true)) return false;
    if (!d->r->model.len || d->r->model.len > 256)
        return decode_fail(d, "model: Input should have 1 to 256 bytes, found %zu", d->r->model.len);
    note_unhonoured(d, body);
    return check_refused(d, body) && decode_system(d, body) && decode_tools(d, body) && decode_messages(d, body) &&
           decode_tool_choice(d, body) && decode_max_tokens(d, body) && decode_stops(d, body) &&
           decode_sampling(d, body) && decode_thinking(d, body) && decode_output(d, body) && decode_metadata(d, body) &&
           decode_context(d, body) && field_bool(d, &d->r->stream, body, "stream") && check_warming(d, body);
}

bool anthropic_body_decode(struct chat_request **out, struct anthropic_body *b, enum anthropic_call call,
                           const struct anthropic_support *support, struct anthropic_error *e)
{
    /* The nested blocks of the JSON become at most a struct each, and merging copies them once. */
    struct chat_request *r = chat_request_create(((size_t)16 << 20) + 16 * b->n_bytes);
    struct decoder d = {.r = r, .support = support, .call = call, .error = e};
    if (!r) {
        anthropic_body_deinit(b);
        return anthropic_error_set(e, 529, NULL, "out of memory");
    }
    r->json = b->json;
    b->json = NULL;
    if (decode_body(&d, r->json)) {
        if (b->is_compaction) {
            compaction_drop_reply_fields(r);
            buf_init(&b->tool_changes, CHANGES_MAX_BYTES);
            compaction_tool_changes(&b->tool_changes, r->json);
        }
        *out = r;
        return true;
    }
    chat_request_destroy(r);
    return false;
}

bool anthropic_request_decode(struct chat_request **out, char *body, size_t body_len, enum anthropic_call call,
                              const struct anthropic_support *support, struct anthropic_error *e)
{
    struct anthropic_body b;
    bool ok = anthropic_body_parse(&b, body, body_len, e) && anthropic_body_decode(out, &b, call, support, e);
    anthropic_body_deinit(&b);
    return ok;
}
