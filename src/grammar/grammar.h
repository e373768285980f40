/* grammar: what a model may write. JSON Schema, GBNF, a plain regular expression or a set of tagged calls in free text
 * become one automaton over bytes; a matcher follows one text through it, token by token, and can be rolled back.
 *
 * Threads: a grammar grows while it is used (lazy automata, memo), so a grammar and all its matchers belong to one
 * thread at a time. It may be compiled in one thread and handed to another; different grammars are independent. There
 * is no global state. A vocabulary is immutable after creation and may be shared by all threads, and so may a cache. */
#ifndef GRAMMAR_GRAMMAR_H
#define GRAMMAR_GRAMMAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "tokenizer/tokenizer.h"

struct grammar;
struct grammar_vocab;
struct grammar_matcher;
struct grammar_cache;

/* ---- compiling ---- */

struct grammar_options {
    /* true: what cannot be expressed is an error that names its place and keyword. false: it is widened to the
     * surrounding type and listed by grammar_explain; compiling then fails only when the text is no schema at all (no
     * JSON). */
    bool strict;
    bool ignore_formats; /* "format" is a remark only */
    uint32_t max_space;  /* longest run of white space between JSON tokens that is generated; 0 = none */
    size_t max_bytes;    /* budget for everything that belongs to the grammar, lazy parts included */
    const char *where;   /* put before pointers in messages: "tools.3.input_schema"; NULL = nothing */
};
void grammar_options_init(struct grammar_options *o); /* strict, 20 bytes of space, 64 MiB */

/* NULL on error: ERR_INVALID with pointer and keyword, or ERR_TOO_LARGE. The result has one reference. */
struct grammar *grammar_from_schema(struct str json, const struct grammar_options *o, struct err *e);
struct grammar *grammar_from_gbnf(struct str text, const struct grammar_options *o, struct err *e); /* rule "root" */
/* Whole texts that match; without ^ or $ the text may go on there. Raw bytes, no JSON around them. */
struct grammar *grammar_from_regex(struct str pattern, const struct grammar_options *o, struct err *e);

/* Free text with calls in it: after `begin` of a tag its content follows, then `end`. */
struct grammar_tag {
    struct str begin, end;
    enum { GRAMMAR_TAG_SCHEMA, GRAMMAR_TAG_GBNF, GRAMMAR_TAG_REGEX, GRAMMAR_TAG_ANY_TEXT } kind;
    struct str content; /* of that kind; GRAMMAR_TAG_ANY_TEXT takes everything up to the first `end` */
    bool strict;        /* as in the options, for this tag alone */
    const char *where;  /* as in the options */
};
struct grammar_tags {
    const struct grammar_tag *tags;
    size_t n_tags;
    const struct str *triggers; /* free text ends where one of these stands; each tag's begin starts with one */
    size_t n_triggers;
    bool forced;        /* the text starts with a call (no free text before it) */
    bool single;        /* at most one call, and then the end */
    bool text_after;    /* free text may follow a call */
    struct str between; /* between calls that follow each other directly, may be empty */
};
struct grammar *grammar_from_tags(const struct grammar_tags *t, const struct grammar_options *o, struct err *e);

/* ---- a grammar put together from its end to its beginning ----
 * Each part names what follows it (`next`), so the end comes first. GRAMMAR_NOWHERE goes in and out of every call: an
 * error anywhere is told by grammar_built. A link is a place that is named before it is known: loops. A rule ends in
 * grammar_put_return and is used by grammar_put_call. Control tokens have the text GRAMMAR_CONTROL + their own: no
 * string and no pattern matches that byte, so they come out only where it is put. */
#define GRAMMAR_NOWHERE UINT32_MAX
#define GRAMMAR_CONTROL '\xff'
struct grammar_trigger {
    struct str text;
    uint32_t target;
    bool at_start; /* only where nothing but white space stands before it */
};
struct grammar *grammar_begin(const struct grammar_options *o, struct err *e);
uint32_t grammar_put_end(struct grammar *g);
uint32_t grammar_put_return(struct grammar *g);
uint32_t grammar_put_call(struct grammar *g, uint32_t rule, uint32_t next);
uint32_t grammar_put_text(struct grammar *g, struct str text, uint32_t next);
uint32_t grammar_put_choice(struct grammar *g, const uint32_t *places, size_t n); /* those that are NOWHERE drop out */
/* One of the texts, each with a place of its own; they may be prefixes of each other. */
uint32_t grammar_put_texts(struct grammar *g, const struct str *texts, const uint32_t *next, size_t n);
uint32_t grammar_put_regex(struct grammar *g, struct str pattern, uint32_t next, struct err *e);
/* Any text up to and with the first `end`; an empty one: up to the end of all. */
uint32_t grammar_put_until(struct grammar *g, struct str end, uint32_t next);
/* One JSON value; strict and where as in the options, for this value alone. */
uint32_t grammar_put_value(struct grammar *g, struct str schema, bool strict, const char *where, uint32_t next,
                           struct err *e);
/* How an object's members are written where that is no JSON: in tags, as keyword arguments, with bare keys. In the
 * marks FORM_SPACE stands for white space that may be left out. */
#define FORM_SPACE "\1"
#define FORM_FORBIDDEN 8
struct grammar_form {
    struct str key_open, key_close, value_close, between, close; /* around the parts of a member; may be empty */
    struct str key_close_other; /* in the place of key_close before values that are no strings; empty = the same */
    struct str quote;           /* around raw strings; empty: JSON's strings */
    struct str forbidden[FORM_FORBIDDEN]; /* what would end a value for its reader, wherever it stands in it */
    bool tagged;                          /* strings are raw up to value_close, other values JSON */
    bool braces;                          /* { and } around the object; without, it begins with its first member */
    bool nested;                          /* objects inside are written so, too; else as JSON */
    bool words;                           /* True, False and None besides JSON's */
    bool quotes;                          /* strings in single quotes, too */
    bool keeps_newline;                   /* raw strings may begin with a line end */
    bool control;                         /* the marks may be control tokens */
    /* Filled by grammar_put_form: how values inside are written (NULL = JSON); JSON but for the words. */
    const struct grammar_form *inner;
    bool json;
};
uint32_t grammar_put_form(struct grammar *g, struct str schema, const struct grammar_form *form, bool strict,
                          const char *where, uint32_t next, struct err *e);
/* Whether some value fits that was put with grammar_put_value or grammar_put_form. */
bool grammar_put_fits(struct grammar *g, uint32_t place);
/* Free text up to the first trigger; may_end: the whole text may end in it. A trigger without target ends nothing. */
uint32_t grammar_put_free(struct grammar *g, const struct grammar_trigger *list, size_t n, bool may_end);
uint32_t grammar_put_link(struct grammar *g);
void grammar_set_link(struct grammar *g, uint32_t link, uint32_t place);
/* Every matcher starts behind this text (what a prompt has opened already). */
bool grammar_set_opened(struct grammar *g, struct str text);
/* One more line of grammar_explain. */
void grammar_put_note(struct grammar *g, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Takes g: gives it back ready, or NULL and the reason (the one in e, if there is one already). */
struct grammar *grammar_built(struct grammar *g, uint32_t entry, struct err *e);

struct grammar *grammar_ref(struct grammar *g);
void grammar_unref(struct grammar *g); /* NULL is fine */

/* One line for each thing that is wider than asked for or ignored: "properties.x.pattern: lookahead ...". */
bool grammar_explain(const struct grammar *g, struct buf *out);
size_t grammar_memory(const struct grammar *g); /* bytes that count against max_bytes now */
/* Whether some text is accepted at all: strict callers refuse a schema that nothing satisfies. */
bool grammar_satisfiable(struct grammar *g);

/* The whole text at once, with all the freedom JSON gives (white space, escapes, any form of a number). On refusal says
 * where. */
bool grammar_check(struct grammar *g, struct str text, struct err *e);

/* ---- a cache shared by requests (and threads): compiled grammars by the bytes they came from ---- */

struct grammar_cache *grammar_cache_create(size_t max_bytes);
void grammar_cache_destroy(struct grammar_cache *c);
/* A grammar nobody uses at the moment is taken out and belongs to the caller (one reference), or NULL. A grammar is
 * never with two callers at the same time, because it grows while it is used. */
struct grammar *grammar_cache_take(struct grammar_cache *c, struct str key);
/* Gives a grammar (back) under its key; takes over the reference. What was used longest ago goes when it is full. */
void grammar_cache_put(struct grammar_cache *c, struct str key, struct grammar *g);
size_t grammar_cache_memory(struct grammar_cache *c);

/* ---- tokens ---- */

/* The trie of all texts of t. Control tokens have GRAMMAR_CONTROL before their text and come out only where a grammar
 * was put together with that byte; tokens that end a generation come where the grammar accepts. t must outlive it. */
struct grammar_vocab *grammar_vocab_create(const struct tokenizer *t, struct err *e);
/* The same over a list of texts; an empty text = a control token. ends[i] (may be NULL) marks the ids that end a text.
 * The texts are copied. */
struct grammar_vocab *grammar_vocab_from_texts(const struct str *texts, const bool *ends, size_t n, struct err *e);
void grammar_vocab_destroy(struct grammar_vocab *v);
size_t grammar_vocab_size(const struct grammar_vocab *v);
size_t grammar_vocab_memory(const struct grammar_vocab *v);
#define GRAMMAR_MASK_WORDS(n_tokens) (((n_tokens) + 31) / 32)

/* v may be NULL when only bytes are fed. Holds a reference to g; v must outlive it. */
struct grammar_matcher *grammar_matcher_create(struct grammar *g, const struct grammar_vocab *v, struct err *e);
/* The same position again (a second branch of a search); steps can be undone only down to here. NULL without memory. */
struct grammar_matcher *grammar_matcher_clone(const struct grammar_matcher *m);
void grammar_matcher_destroy(struct grammar_matcher *m);

/* Whether the token (the bytes) may come next; nothing changes. */
bool grammar_matcher_check(struct grammar_matcher *m, uint32_t token);
/* Goes on if it may; false leaves the position as it was. Every success is one step. */
bool grammar_matcher_accept(struct grammar_matcher *m, uint32_t token);
bool grammar_matcher_feed(struct grammar_matcher *m, struct str bytes);
/* Takes back the last n steps; false if fewer are remembered (the last GRAMMAR_STEPS are). O(1) a step. */
#define GRAMMAR_STEPS 256
bool grammar_matcher_rollback(struct grammar_matcher *m, size_t n);
/* bits[GRAMMAR_MASK_WORDS(size)]: bit set = the token may come next. Returns the number of set bits; 0 only when the
 * grammar ran out of its budget. */
size_t grammar_matcher_mask(struct grammar_matcher *m, uint32_t *bits);
/* The same with a bound on its work, in steps of single readings (20 to 100 ns each). False: given up, bits are some of
 * the mask's (and perhaps a few that the check refuses); then sample without it and check tokens one by one in the
 * order of their probability, which gives the same distribution. GRAMMAR_MASK_WORK keeps a mask near 3 ms. */
#define GRAMMAR_MASK_WORK 50000
bool grammar_matcher_mask_within(struct grammar_matcher *m, uint32_t *bits, size_t *n_set, size_t work);
bool grammar_matcher_may_end(struct grammar_matcher *m); /* what was written is complete */
bool grammar_matcher_ended(struct grammar_matcher *m);   /* ... and nothing can follow */
/* Text that must come next whatever the model does (possibly nothing), at most `max` bytes; nothing changes. */
bool grammar_matcher_forced(struct grammar_matcher *m, struct buf *out, size_t max);
/* The forced text as tokens, without the last one(s) a longer token could replace: those go back to the model. */
bool grammar_matcher_forced_tokens(struct grammar_matcher *m, struct token_list *out, const struct tokenizer *t,
                                   struct err *e);
/* False inside free text that nothing constrains (no trigger seen): the engine may skip all checks. */
bool grammar_matcher_constrains(const struct grammar_matcher *m);

#endif
