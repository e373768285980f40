/* call_object: a call that is a JSON object (name, arguments, id in any order, perhaps inside {"function": ...}), and
 * one that is written as a Python call. Arguments are passed on while they come in once the name is known. */
#include "dialect/dialect_internal.h"

#define MAX_WRAPS 4

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static bool one_of(struct str s, const char *const *words)
{
    for (; *words; words++)
        if (str_eq(s, str_from(*words))) return true;
    return false;
}

/* Text of a JSON string that value wrote, into out. */
static bool string_text(struct buf *out, const struct buf *json)
{
    json_error_t error;
    json_t *v = json->len ? json_loadb(json->ptr, json->len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error) : NULL;
    buf_clear(out);
    bool ok = json_is_string(v) && buf_append(out, (struct str){json_string_value(v), json_string_length(v)});
    if (json_is_integer(v)) ok = buf_append(out, buf_str(json));
    json_decref(v);
    return ok;
}

void dialect_call_object_begin(struct dialect_parser *p)
{
    struct call *c = &p->call;
    c->state = CALL_OBJECT;
    c->object = OBJ_KEY;
    p->pos++;
}

static enum object_key key_of(const struct dialect_parser *p, struct str key)
{
    static const char *const names[] = {"name", "tool_name", "function_name", "tool", NULL};
    static const char *const args[] = {"arguments", "parameters", "args",   "params",
                                       "input",     "tool_input", "kwargs", NULL};
    static const char *const ids[] = {"id", "tool_call_id", "call_id", NULL}, *const meta[] = {"type", "index", NULL};
    if (one_of(key, names)) return KEY_NAME;
    if (one_of(key, args)) return KEY_ARGS;
    if (one_of(key, ids)) return KEY_ID;
    if (one_of(key, meta)) return KEY_META;
    if (str_eq(key, STR("function"))) return KEY_FUNCTION;
    (void)p;
    return KEY_OTHER;
}

/* {"NAME": {...}}: the key of an object in which no name was found yet may be the tool itself. */
static bool key_is_name(struct dialect_parser *p, struct str key)
{
    struct call *c = &p->call;
    if (!p->d->json_key_is_name || c->name.len || c->depth) return false;
    return dialect_call_name_set(p, key);
}

static bool key_over(struct dialect_parser *p)
{
    struct call *c = &p->call;
    if (!string_text(&c->par, &c->scratch)) return false;
    c->key = key_of(p, buf_str(&c->par));
    if (c->key == KEY_OTHER && key_is_name(p, buf_str(&c->par))) c->key = KEY_ARGS;
    if (c->key == KEY_OTHER && c->bare && !c->name.len) return false; /* some other JSON: not a call */
    if (c->key == KEY_OTHER) {
        buf_append_char(&c->other, c->other.len ? ',' : '{');
        buf_append(&c->other, buf_str(&c->scratch));
        buf_append_char(&c->other, ':');
    }
    c->object = OBJ_COLON;
    return true;
}

/* Arguments as a JSON text inside a string, as other APIs carry them. */
static bool args_from_text(struct call *c)
{
    json_error_t error;
    if (!string_text(&c->par, &c->scratch)) return true; /* null, a number: no arguments */
    struct str text = str_trim(buf_str(&c->par));
    if (!text.len) return true;
    json_t *v = json_loadb(text.ptr, text.len, JSON_ALLOW_NUL, &error);
    char *dump = json_is_object(v) ? json_dumps(v, JSON_COMPACT) : NULL;
    bool ok = dump && buf_append(&c->args, str_from(dump));
    free(dump);
    json_decref(v);
    return ok;
}

static bool member_over(struct dialect_parser *p)
{
    struct call *c = &p->call;
    c->object = OBJ_AFTER;
    switch (c->key) {
    case KEY_NAME:
    case KEY_FUNCTION: return string_text(&c->par, &c->scratch) && dialect_call_name_set(p, buf_str(&c->par));
    case KEY_ID: string_text(&c->id, &c->scratch); return true;
    case KEY_ARGS: c->args_done = true; return !c->args_text || args_from_text(c);
    case KEY_OTHER: return buf_append(&c->other, buf_str(&c->scratch));
    case KEY_META: break;
    }
    return true;
}

static bool object_over(struct dialect_parser *p)
{
    struct call *c = &p->call;
    if (!c->name.len) return false;
    if (!c->has_args && c->other.len) {
        buf_append(&c->args, buf_str(&c->other));
        buf_append_char(&c->args, '}');
    }
    dialect_call_end(p);
    return true;
}

static bool value_begin(struct dialect_parser *p, char ch)
{
    struct call *c = &p->call;
    bool wraps = (c->key == KEY_FUNCTION || c->key == KEY_NAME) && ch == '{';
    if (wraps) {
        if (++c->depth > MAX_WRAPS) return false;
        c->object = OBJ_KEY;
        return true;
    }
    buf_clear(&c->scratch);
    bool args = c->key == KEY_ARGS && !c->has_args;
    if (c->key == KEY_ARGS && c->has_args) c->key = KEY_META;
    if (args) {
        c->has_args = true;
        c->args_text = ch != '{';
    }
    dialect_value_reset(&c->value, args && ch == '{' ? &c->args : &c->scratch);
    c->object = OBJ_VALUE_BYTES;
    return dialect_value_feed(&c->value, ch) != VALUE_ERROR;
}

enum { BYTE_TAKEN, BYTE_AGAIN, BYTE_OVER, BYTE_BAD };

static int value_byte(struct dialect_parser *p, char ch, bool key)
{
    struct call *c = &p->call;
    enum value_result r = dialect_value_feed(&c->value, ch);
    if (r == VALUE_ERROR || c->value.out->failed) return BYTE_BAD;
    if (r == VALUE_MORE) return BYTE_TAKEN;
    if (!(key ? key_over(p) : member_over(p))) return BYTE_BAD;
    return r == VALUE_DONE ? BYTE_TAKEN : BYTE_AGAIN;
}

static int after_byte(struct dialect_parser *p, char ch)
{
    struct call *c = &p->call;
    if (is_space(ch)) return BYTE_TAKEN;
    if (ch == ',') {
        c->object = OBJ_KEY;
        return BYTE_TAKEN;
    }
    if (ch != '}') return c->args_done && c->name.len ? BYTE_OVER : BYTE_BAD; /* the closing bracket is missing */
    if (!c->depth) return BYTE_OVER;
    c->depth--;
    return BYTE_TAKEN;
}

static int object_byte(struct dialect_parser *p, char ch)
{
    struct call *c = &p->call;
    switch (c->object) {
    case OBJ_KEY:
        if (is_space(ch) || ch == ',') return BYTE_TAKEN;
        if (ch == '}') return after_byte(p, ch);
        /* {{"name": ...}}: templates show the form with the doubled braces of a format string, and models copy them. */
        if (ch == '{' && !c->depth && !c->name.len && !c->has_args && !c->other.len) {
            c->depth++;
            return BYTE_TAKEN;
        }
        if (ch != '"' && ch != '\'') return BYTE_BAD;
        buf_clear(&c->scratch);
        dialect_value_reset(&c->value, &c->scratch);
        c->object = OBJ_KEY_TEXT;
        return value_byte(p, ch, true);
    case OBJ_KEY_TEXT: return value_byte(p, ch, true);
    case OBJ_COLON:
        if (ch == ':') c->object = OBJ_VALUE;
        return is_space(ch) || ch == ':' ? BYTE_TAKEN : BYTE_BAD;
    case OBJ_VALUE:
        if (is_space(ch)) return BYTE_TAKEN;
        return value_begin(p, ch) ? BYTE_TAKEN : BYTE_BAD;
    case OBJ_VALUE_BYTES: return value_byte(p, ch, false);
    case OBJ_AFTER: return after_byte(p, ch);
    }
    return BYTE_BAD;
}

static void open_if_sure(struct dialect_parser *p)
{
    struct call *c = &p->call;
    if (!c->opened && c->name.len && c->has_args && !c->args_text && c->args.len > 1 && (!c->bare || c->native))
        dialect_call_open(p);
}

bool dialect_call_object_step(struct dialect_parser *p)
{
    struct call *c = &p->call;
    struct str s = dialect_parser_rest(p);
    if (!s.len) return false;
    for (size_t i = 0; i < s.len; i++) {
        int r;
        do r = object_byte(p, s.ptr[i]);
        while (r == BYTE_AGAIN);
        if (r == BYTE_TAKEN) {
            open_if_sure(p);
            continue;
        }
        p->pos += i + (r == BYTE_OVER && s.ptr[i] == '}');
        if (r == BYTE_OVER && object_over(p)) return true;
        if (c->opened && !c->args_done) dialect_value_close(&c->value);
        dialect_call_fail(p);
        return true;
    }
    p->pos += s.len;
    dialect_call_flush(p);
    return false;
}

/* ---- name(key=value, ...) ---- */

static bool python_name(struct dialect_parser *p, bool final)
{
    struct call *c = &p->call;
    while (p->pos < p->in.len &&
           (is_space(p->in.ptr[p->pos]) || p->in.ptr[p->pos] == ',' || p->in.ptr[p->pos] == ';')) {
        p->pos++;
        if (!c->retry) c->keep = p->pos;
    }
    struct str s = dialect_parser_rest(p);
    size_t end = 0;
    if (!s.len) return false;
    while (end < s.len && s.ptr[end] != '(' && s.ptr[end] != ']' && s.ptr[end] != '<') end++;
    if (end == s.len && end < MAX_HEAD && !final) return false;
    if (end < s.len && s.ptr[end] == '(' && dialect_call_name_set(p, str_slice(s, 0, end))) {
        p->pos += end + 1;
        c->state = CALL_PY_KEY;
        buf_append_char(&c->args, '{');
    } else if (!c->retry && end < s.len && !str_trim(str_slice(s, 0, end)).len) {
        p->state = AFTER_CALL; /* the list is over */
        dialect_call_reset(c);
    } else {
        dialect_call_fail(p);
    }
    return true;
}

static void python_end(struct dialect_parser *p)
{
    struct call *c = &p->call;
    bool list = c->in_list;
    buf_append_char(&c->args, '}');
    dialect_call_end(p);
    if (p->state != AFTER_CALL) return;
    dialect_call_begin(p, 0, CALL_PY_NAME); /* another may follow in the same markers */
    c->in_list = list;
}

static bool python_key(struct dialect_parser *p, bool final)
{
    struct call *c = &p->call;
    while (p->pos < p->in.len && (is_space(p->in.ptr[p->pos]) || p->in.ptr[p->pos] == ',')) p->pos++;
    struct str s = dialect_parser_rest(p);
    size_t end = 0;
    if (!s.len) return false;
    if (s.ptr[0] == ')') {
        p->pos++;
        python_end(p);
        return true;
    }
    while (end < s.len && s.ptr[end] != '=' && s.ptr[end] != ')' && s.ptr[end] != ',') end++;
    if (end == s.len && end < MAX_HEAD && !final) return false;
    struct str key = str_trim(str_slice(s, 0, end));
    if (end == s.len || s.ptr[end] != '=' || !key.len) {
        dialect_call_fail(p);
        return true;
    }
    if (c->n_args++) buf_append_char(&c->args, ',');
    dialect_typed_string(&c->args, key);
    buf_append_char(&c->args, ':');
    dialect_value_reset(&c->value, &c->args);
    p->pos += end + 1;
    c->state = CALL_PY_VALUE;
    c->par_begun = true;
    return true;
}

static bool python_value(struct dialect_parser *p)
{
    struct call *c = &p->call;
    struct str s = dialect_parser_rest(p);
    if (!s.len) return false;
    for (size_t i = 0; i < s.len; i++) {
        enum value_result r = dialect_value_feed(&c->value, s.ptr[i]);
        if (r != VALUE_ERROR && c->value.state != VALUE_START) dialect_call_open(p);
        if (r == VALUE_MORE) continue;
        p->pos += i + (r == VALUE_DONE);
        if (r == VALUE_ERROR || c->args.failed) {
            dialect_call_fail(p);
        } else {
            c->par_begun = false;
            c->state = CALL_PY_AFTER;
        }
        return true;
    }
    p->pos += s.len;
    dialect_call_flush(p);
    return false;
}

static bool python_after(struct dialect_parser *p)
{
    struct call *c = &p->call;
    while (p->pos < p->in.len && is_space(p->in.ptr[p->pos])) p->pos++;
    struct str s = dialect_parser_rest(p);
    if (!s.len) return false;
    if (s.ptr[0] == ',' || s.ptr[0] == ')') c->state = CALL_PY_KEY;
    else dialect_call_fail(p);
    return true;
}

bool dialect_call_python_step(struct dialect_parser *p, bool final)
{
    switch (p->call.state) {
    case CALL_PY_NAME: return python_name(p, final);
    case CALL_PY_KEY: return python_key(p, final);
    case CALL_PY_VALUE: return python_value(p);
    default: return python_after(p);
    }
}
