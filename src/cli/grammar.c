/* grammar: the subcommand that compiles a JSON Schema (*.json), a GBNF grammar (*.gbnf) or a regular expression
 * (*.regex), and checks a text against it, writes random texts that fit, or explains what became wider than written. */
#include "grammar/grammar.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"
#include "cli/cli.h"

#define MAX_FILE (64u << 20)
#define MAX_SAMPLE 2000

static struct grammar *compile(const char *path, struct str text, bool strict, struct err *e)
{
    struct grammar_options o;
    grammar_options_init(&o);
    o.strict = strict;
    o.max_bytes = 256u << 20;
    struct str name = str_from(path);
    if (str_ends(name, STR(".gbnf"))) return grammar_from_gbnf(text, &o, e);
    if (str_ends(name, STR(".regex"))) return grammar_from_regex(str_trim(text), &o, e);
    return grammar_from_schema(text, &o, e);
}

/* One random text: bytes as tokens; after a while what closes things is preferred. */
static bool sample(struct grammar *g, struct grammar_vocab *v, struct rng *rng, struct err *e)
{
    static const char closing[] = "}]\"\n;).0eaxAd:,";
    struct grammar_matcher *m = grammar_matcher_create(g, v, e);
    uint32_t bits[GRAMMAR_MASK_WORDS(257)];
    struct buf out;
    size_t soft = 20 + rng_next(rng) % 60;
    buf_init(&out, MAX_SAMPLE + 1);
    if (!m) return false;
    for (size_t i = 0; i < MAX_SAMPLE; i++) {
        size_t n = grammar_matcher_mask(m, bits);
        uint32_t token = 256, k = n ? (uint32_t)(rng_next(rng) % n) : 0;
        if (n == 0 || grammar_matcher_ended(m)) break;
        if (i > soft && (bits[8] & 1)) break;
        bool close = i > soft && rng_next(rng) % 2;
        for (size_t c = 0; close && token == 256 && closing[c]; c++)
            if (bits[(uint8_t)closing[c] / 32] >> ((uint8_t)closing[c] % 32) & 1) token = (uint8_t)closing[c];
        for (uint32_t b = 0; token == 256 && b < 257; b++)
            if ((bits[b / 32] >> (b % 32) & 1) && k-- == 0) token = b;
        if (token == 256 || !grammar_matcher_accept(m, token)) break;
        buf_append_char(&out, (char)token);
    }
    bool complete = grammar_matcher_may_end(m);
    printf("%.*s%s\n", STR_ARG(buf_str(&out)), complete ? "" : " ... (cut)");
    buf_deinit(&out);
    grammar_matcher_destroy(m);
    return true;
}

static bool samples(struct grammar *g, const struct options *o, struct err *e)
{
    char bytes[256];
    struct str texts[257];
    bool ends[257] = {false};
    struct rng rng;
    for (int b = 0; b < 256; b++) bytes[b] = (char)b, texts[b] = (struct str){bytes + b, 1};
    texts[256] = STR_NONE;
    ends[256] = true;
    struct grammar_vocab *v = grammar_vocab_from_texts(texts, ends, 257, e);
    uint64_t seed = o->seed;
    if (!options_given(o, "seed")) rng_secure(&seed, sizeof seed);
    rng_seed(&rng, seed);
    bool ok = v != NULL;
    for (uint32_t i = 0; ok && i < o->sample; i++) ok = sample(g, v, &rng, e);
    grammar_vocab_destroy(v);
    return ok;
}

static void explain(const struct grammar *g)
{
    struct buf notes;
    buf_init(&notes, 1 << 20);
    grammar_explain(g, &notes);
    if (notes.len) fputs(notes.ptr, stdout);
    else puts("everything in it is enforced");
    printf("%zu KiB compiled\n", grammar_memory(g) / 1024);
    buf_deinit(&notes);
}

int cli_grammar(const struct options *o)
{
    struct err e = {0};
    size_t len;
    if (!o->file) return err_set(&e, ERR_INVALID, "a grammar file is needed: *.json, *.gbnf or *.regex"), cli_fail(&e);
    char *text = cli_read(o->file, &len, MAX_FILE, &e);
    struct grammar *g = text ? compile(o->file, (struct str){text, len}, !o->explain, &e) : NULL;
    bool ok = g != NULL;
    if (ok && o->explain) explain(g);
    if (ok && o->check) {
        ok = grammar_check(g, str_from(o->check), &e);
        if (ok) puts("accepted");
    }
    if (ok && o->sample) ok = samples(g, o, &e);
    if (ok && !o->check && !o->explain && !o->sample) puts("it compiles");
    grammar_unref(g);
    mem_free(text);
    return ok ? 0 : cli_fail(&e);
}
