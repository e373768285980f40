/* endings: which tokens end a generation. Files rarely say it, so tokens are known by their text, as other engines do;
 * what is found becomes a control token whatever its type in the file, so that no client text gives it. */
#include "tokenizer/tokenizer_internal.h"

enum ending { ENDS, ENDS_TURN, FIM_PAD, FIM_REPO, FIM_FILE, SHOWN, HINT };

struct named {
    const char *text;
    enum ending ending;
};

/* Of a FIM kind the first one present counts; ENDS_TURN ones are also candidates for the end-of-turn id, in order. */
static const struct named named[] = {
    {"<|eot_id|>", ENDS_TURN},
    {"<|im_end|>", ENDS_TURN},
    {"<|end|>", ENDS_TURN},
    {"<end_of_turn>", ENDS_TURN},
    {"<turn|>", ENDS},
    {"<|endoftext|>", ENDS_TURN},
    {"<|end_of_text|>", ENDS_TURN},
    {"<EOT>", ENDS_TURN},
    {"_<EOT>", ENDS_TURN},
    {"[EOT]", ENDS_TURN},
    {"<\xef\xbd\x9c"
     "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>",
     ENDS_TURN},
    {"<end_of_utterance>", ENDS_TURN},
    {"<|return|>", ENDS},
    {"<|call|>", ENDS},
    {"<|calls|>", ENDS},
    {"<|flush|>", ENDS},
    {"</s>", ENDS},
    {"<|eom_id|>", ENDS},
    {"[EOS]", ENDS},
    {"<eos>", ENDS},
    {"<|tool_response>", ENDS},
    {"[e~[", ENDS},
    {"<|fim_pad|>", FIM_PAD},
    {"<fim-pad>", FIM_PAD},
    {"<fim_pad>", FIM_PAD},
    {"<PAD>", FIM_PAD},
    {"[PAD]", FIM_PAD},
    {"<|fim_repo|>", FIM_REPO},
    {"<|repo_name|>", FIM_REPO},
    {"<fim-repo>", FIM_REPO},
    {"<REPO>", FIM_REPO},
    {"<reponame>", FIM_REPO},
    {"<|file_sep|>", FIM_FILE},
    {"<|channel|>", SHOWN},
    {"<|message|>", SHOWN},
    {"<|start|>", SHOWN},
    {"<|constrain|>", SHOWN},
    {"<s>", HINT},
};
#define N_NAMED (sizeof named / sizeof *named)

static void find_named(uint32_t ids[N_NAMED], const struct vocab *v)
{
    size_t lengths[N_NAMED];
    for (size_t k = 0; k < N_NAMED; k++) {
        ids[k] = TOKEN_NONE;
        lengths[k] = strlen(named[k].text);
    }
    for (uint32_t i = 0; i < v->n; i++) {
        struct str text = vocab_text(v, i);
        if (text.len < 3 || (text.ptr[0] != '<' && text.ptr[0] != '[' && text.ptr[0] != '_')) continue;
        for (size_t k = 0; k < N_NAMED; k++)
            if (lengths[k] == text.len && memcmp(named[k].text, text.ptr, text.len) == 0) ids[k] = i;
    }
}

static uint32_t id_of(const uint32_t ids[N_NAMED], const char *text)
{
    for (size_t k = 0; k < N_NAMED; k++)
        if (strcmp(named[k].text, text) == 0) return ids[k];
    return TOKEN_NONE;
}

static void mark(struct vocab *v, uint32_t id)
{
    v->flags[id] |= FLAG_EOG;
    v->attr[id] = TOKEN_CONTROL;
}

static void mark_fim(struct vocab *v, const uint32_t ids[N_NAMED], const struct gguf *g, enum ending kind,
                     const char *key)
{
    uint32_t id;
    if (gguf_get_u32(g, &id, key, NULL) && id < v->n) {
        v->flags[id] |= FLAG_EOG;
        return;
    }
    for (size_t k = 0; k < N_NAMED; k++) {
        if (named[k].ending != kind || ids[k] == TOKEN_NONE) continue;
        mark(v, ids[k]);
        return;
    }
}

void endings_mark(struct vocab *v, struct tokenizer_info *info, const struct gguf *g)
{
    uint32_t ids[N_NAMED], eom;
    find_named(ids, v);
    uint32_t html_end = id_of(ids, "</s>"), html = id_of(ids, "<s>"), end = id_of(ids, "<|end|>");
    /* A tag of HTML and no end: Gemma. Elsewhere <s> is the control token that starts a text. */
    bool tag = html_end != TOKEN_NONE &&
               (id_of(ids, "<|tool_response>") != TOKEN_NONE ||
                (v->attr[html_end] != TOKEN_CONTROL && html != TOKEN_NONE && v->attr[html] == v->attr[html_end]));
    bool call = id_of(ids, "<|call|>") != TOKEN_NONE || id_of(ids, "<|calls|>") != TOKEN_NONE;
    /* Harmony ends a message, not a turn, with <|end|>. */
    bool message_end =
        end != TOKEN_NONE && call && (id_of(ids, "<|return|>") != TOKEN_NONE || id_of(ids, "<|flush|>") != TOKEN_NONE);
    for (size_t k = 0; k < N_NAMED; k++) {
        uint32_t id = ids[k];
        if (id == TOKEN_NONE || (id == html_end && tag)) continue;
        bool ends = named[k].ending == ENDS || named[k].ending == ENDS_TURN;
        if (ends && !(id == end && message_end)) mark(v, id);
        if (named[k].ending == SHOWN || (id == end && message_end)) {
            v->attr[id] = TOKEN_CONTROL;
            v->flags[id] |= FLAG_PRINTABLE;
        }
        if (named[k].ending == ENDS_TURN && info->eot == TOKEN_NONE && !(id == end && message_end)) info->eot = id;
    }
    if (tag && v->attr[html_end] == TOKEN_CONTROL) v->attr[html_end] = TOKEN_NORMAL;
    mark_fim(v, ids, g, FIM_PAD, "tokenizer.ggml.fim_pad_token_id");
    mark_fim(v, ids, g, FIM_REPO, "tokenizer.ggml.fim_rep_token_id");
    mark_fim(v, ids, g, FIM_FILE, "tokenizer.ggml.fim_sep_token_id");
    if (gguf_get_u32(g, &eom, "tokenizer.ggml.eom_token_id", NULL) && eom < v->n) v->flags[eom] |= FLAG_EOG;
    if (info->eos != TOKEN_NONE) v->flags[info->eos] |= FLAG_EOG;
    if (info->eot != TOKEN_NONE) v->flags[info->eot] |= FLAG_EOG;
}
