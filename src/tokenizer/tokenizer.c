/* tokenizer: reads the vocabulary of a GGUF and answers questions about its tokens. Created on one thread, immutable
 * afterwards. Encoding is in encode.c, decoding in detokenizer.c. */
#include "tokenizer/tokenizer_internal.h"

#include "base/alloc.h"

static bool read_kind(struct tokenizer *t, const struct gguf *g, struct err *e)
{
    static const struct {
        const char *model, *name;
        enum vocab_kind kind;
    } kinds[] = {{"gpt2", "BPE", VOCAB_BPE},
                 {"llama", "SPM", VOCAB_SPM},
                 {"bert", "WPM", VOCAB_WPM},
                 {"t5", "UGM", VOCAB_UGM},
                 {"gemma4", "GEMMA4", VOCAB_GEMMA4}};
    struct str model;
    if (!gguf_get_str(g, &model, "tokenizer.ggml.model", e)) return false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (!str_eq(str_from(kinds[i].model), model)) continue;
        t->kind = kinds[i].kind;
        t->info.kind = kinds[i].name;
        return true;
    }
    return err_set(e, ERR_INVALID, "tokenizer.ggml.model: \"%.*s\", expected gpt2, llama, bert, t5 or gemma4",
                   STR_ARG(model));
}

static void read_pre(struct tokenizer *t, const struct gguf *g)
{
    struct str name = gguf_str_or(g, "tokenizer.ggml.pre", STR("default"));
    t->info.pre = name;
    t->info.pre_known = true;
    if (t->kind == VOCAB_GEMMA4) {
        t->info.pre = STR("gemma4");
        t->pre = pretokenizer_find(t->info.pre);
    } else if (t->kind == VOCAB_BPE) {
        t->pre = pretokenizer_find(name);
        t->info.pre_known = t->pre && t->pre != pretokenizer_default();
    }
    if (!t->pre) t->pre = pretokenizer_default();
    t->spaces = t->kind == VOCAB_BPE || t->kind == VOCAB_GEMMA4 ? t->pre->spaces : true;
}

/* *id keeps its value when the key is absent or names no token. */
static void read_id(const struct vocab *v, const struct gguf *g, uint32_t *id, const char *key)
{
    uint32_t read;
    if (gguf_get_u32(g, &read, key, NULL) && read < v->n) *id = read;
    if (*id != TOKEN_NONE && *id >= v->n) *id = TOKEN_NONE;
}

static bool read_info(struct tokenizer *t, const struct gguf *g, struct err *e)
{
    struct tokenizer_info *i = &t->info;
    bool spm = t->kind == VOCAB_SPM, wpm = t->kind == VOCAB_WPM, ugm = t->kind == VOCAB_UGM;
    i->bos = spm ? 1 : wpm ? 101 : TOKEN_NONE;
    i->eos = spm ? 2 : ugm ? 1 : TOKEN_NONE;
    i->unk = spm ? 0 : wpm ? 100 : ugm ? 2 : TOKEN_NONE;
    i->pad = wpm || ugm ? 0 : TOKEN_NONE;
    i->eot = TOKEN_NONE;
    if (wpm) read_id(&t->vocab, g, &i->bos, "tokenizer.ggml.cls_token_id");
    read_id(&t->vocab, g, &i->bos, "tokenizer.ggml.bos_token_id");
    read_id(&t->vocab, g, &i->eos, "tokenizer.ggml.eos_token_id");
    if (wpm) { /* the key is spelled like that */
        i->eos = i->eos == TOKEN_NONE ? 102 : i->eos;
        read_id(&t->vocab, g, &i->eos, "tokenizer.ggml.seperator_token_id");
    }
    read_id(&t->vocab, g, &i->eot, "tokenizer.ggml.eot_token_id");
    read_id(&t->vocab, g, &i->unk, "tokenizer.ggml.unknown_token_id");
    read_id(&t->vocab, g, &i->pad, "tokenizer.ggml.padding_token_id");
    if (!gguf_bool_or(g, &i->add_bos, "tokenizer.ggml.add_bos_token", spm || wpm || t->pre->add_bos, e) ||
        !gguf_bool_or(g, &i->add_eos, "tokenizer.ggml.add_eos_token", wpm || ugm, e) ||
        !gguf_bool_or(g, &t->add_space_prefix, "tokenizer.ggml.add_space_prefix", spm, e) ||
        !gguf_bool_or(g, &t->remove_extra_spaces, "tokenizer.ggml.remove_extra_whitespaces", false, e) ||
        !gguf_bool_or(g, &t->lowercase, "tokenizer.ggml.normalizer.lowercase", true, e) ||
        !gguf_bool_or(g, &t->strip_accents, "tokenizer.ggml.normalizer.strip_accents", t->lowercase, e))
        return false;
    if (t->kind == VOCAB_GEMMA4 || str_eq(i->pre, STR("gemma4")))
        i->add_bos = true; /* files say otherwise by mistake */
    if (!spm && !ugm) t->add_space_prefix = false;
    if (i->bos == TOKEN_NONE) i->add_bos = false;
    if (i->eos == TOKEN_NONE) i->add_eos = false;
    i->chat_template = gguf_str_or(g, "tokenizer.chat_template", STR_NONE);
    return true;
}

static bool contains_nocase(struct str s, struct str needle)
{
    for (size_t i = 0; i + needle.len <= s.len; i++)
        if (str_eq_nocase(str_slice(s, i, i + needle.len), needle)) return true;
    return false;
}

/* Phi-3's special tokens swallow the white space behind them; the format has no place for that. */
static void patch_rstrip(struct tokenizer *t, const struct gguf *g)
{
    struct str name = gguf_str_or(g, "general.name", STR(""));
    if (!contains_nocase(name, STR("phi-3")) && !contains_nocase(name, STR("phi3"))) return;
    for (uint32_t id = 0; id < t->vocab.n; id++) {
        struct str text = vocab_text(&t->vocab, id);
        bool special = t->vocab.attr[id] >= TOKEN_UNKNOWN && t->vocab.attr[id] <= TOKEN_USER_DEFINED;
        if (!special || str_eq(text, STR("<unk>")) || str_eq(text, STR("<s>")) || str_eq(text, STR("<|endoftext|>")))
            continue;
        t->vocab.flags[id] |= FLAG_RSTRIP;
    }
}

static bool add_special_tokens(struct tokenizer *t, struct err *e)
{
    struct vocab *v = &t->vocab;
    bool words = t->kind == VOCAB_UGM || t->kind == VOCAB_WPM;
    for (uint32_t id = 0; id < v->n; id++) {
        bool special = v->attr[id] >= TOKEN_UNKNOWN && v->attr[id] <= TOKEN_USER_DEFINED;
        bool text = v->attr[id] == TOKEN_NORMAL || v->attr[id] == TOKEN_USER_DEFINED || v->attr[id] == TOKEN_UNUSED;
        if (special && !trie_add(&t->special, vocab_text(v, id), id))
            return err_set(e, ERR_TOO_LARGE, "vocabulary: no memory for special tokens");
        if (words && text && !trie_add(&t->pieces, vocab_text(v, id), id))
            return err_set(e, ERR_TOO_LARGE, "vocabulary: no memory for %u tokens", (unsigned)v->n);
    }
    return true;
}

/* Words may be merged one by one when no token, and no step towards one, holds the byte before the cut and the space.
 */
static void find_space_joins(struct tokenizer *t)
{
    for (uint32_t id = 0; id < t->vocab.n_all; id++) {
        struct str raw = t->vocab.raw[id];
        if (id < t->vocab.n && (t->vocab.own_state[id] == OWN_NO || raw.len < 2)) continue;
        const char *p = raw.ptr + 1, *end = raw.ptr + raw.len;
        while (p < end && (p = memchr(p, ' ', (size_t)(end - p))) != NULL) {
            if (p[-1] != ' ') t->joins_space[(unsigned char)p[-1]] = true;
            p++;
        }
    }
}

static bool load(struct tokenizer *t, const struct gguf *g, struct err *e)
{
    trie_init(&t->special);
    trie_init(&t->pieces);
    if (!read_kind(t, g, e)) return false;
    read_pre(t, g);
    bool bpe = t->kind == VOCAB_BPE || t->kind == VOCAB_GEMMA4;
    if (!vocab_open(&t->vocab, g, t->kind, bpe && !t->spaces, e) || !read_info(t, g, e)) return false;
    endings_mark(&t->vocab, &t->info, g);
    patch_rstrip(t, g);
    if (!vocab_index(&t->vocab, t->kind, e) || !add_special_tokens(t, e)) return false;
    if (t->kind == VOCAB_UGM) return ugm_load(t, g, e);
    if (t->kind == VOCAB_WPM) return true;
    bool by_id = t->kind == VOCAB_BPE && str_eq(t->info.pre, STR("kimi-k2")) && !gguf_find(g, "tokenizer.ggml.merges");
    if (bpe && !by_id) {
        if (!merges_load(&t->merges, &t->vocab, g, e)) return false;
    } else if (!merges_from_scores(&t->merges, &t->vocab, e)) {
        return false;
    }
    if (t->spaces) {
        find_space_joins(t);
        return true;
    }
    return splitter_init(&t->splitter, t->pre->rule, e);
}

struct tokenizer *tokenizer_create(const struct gguf *g, struct err *e)
{
    struct tokenizer *t = mem_zalloc(sizeof *t);
    if (load(t, g, e)) return t;
    err_prefix(e, "tokenizer: ");
    tokenizer_destroy(t);
    return NULL;
}

void tokenizer_destroy(struct tokenizer *t)
{
    if (!t) return;
    splitter_deinit(&t->splitter);
    trie_deinit(&t->special);
    trie_deinit(&t->pieces);
    vocab_deinit(&t->vocab);
    mem_free(t);
}

uint32_t tokenizer_size(const struct tokenizer *t)
{
    return t->vocab.n;
}

struct str tokenizer_text(const struct tokenizer *t, uint32_t id)
{
    return vocab_text(&t->vocab, id);
}

enum token_attr tokenizer_attr(const struct tokenizer *t, uint32_t id)
{
    return id < t->vocab.n ? (enum token_attr)t->vocab.attr[id] : TOKEN_UNUSED;
}

uint32_t tokenizer_find(const struct tokenizer *t, struct str text)
{
    return vocab_find_text(&t->vocab, text);
}

bool tokenizer_is_eog(const struct tokenizer *t, uint32_t id)
{
    return id < t->vocab.n && (t->vocab.flags[id] & FLAG_EOG);
}

void tokenizer_info_get(const struct tokenizer *t, struct tokenizer_info *info)
{
    *info = t->info;
}
