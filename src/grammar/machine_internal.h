/* machine_internal: states over bytes. A state is a set of threads, one for each way the text so far can be read; all
 * share the text. Frames (open objects, arrays, calls) never change once made, so copying a state is copying its
 * threads, and undoing is forgetting them. Frames and other things that live as long as a state come from a pool with
 * marks. */
#ifndef GRAMMAR_MACHINE_INTERNAL_H
#define GRAMMAR_MACHINE_INTERNAL_H

#include <string.h>

#include "grammar/grammar_internal.h"

enum thread_kind {
    THREAD_VALUE,    // before a value: state = node
    THREAD_LITERAL,  // state = place, aux = 0 true, 1 false, 2 null
    THREAD_NUMBER,   // state = place in the syntax, start = its first byte in the text
    THREAD_STRING,   // state of dfa, count = characters, aux = the quote where it is one of Python
    THREAD_KEY,      // the same; start = its first byte in the text
    THREAD_COLON,    // state = node of the value
    THREAD_MEMBER,   // behind "{"
    THREAD_NEXT_KEY, // behind "," in an object
    THREAD_AFTER,    // behind a member or item
    THREAD_EMPTY,    // behind "[": only "]"
    THREAD_MARK,     // in a mark of a form: aux = which (enum mark), state = place in it
    THREAD_RAW,      // in a raw string: state of dfa, count = characters, start = its first byte
    THREAD_TEXT,     // state of dfa, aux = op
    THREAD_FREE,     // state of the trigger automaton, aux = op
    THREAD_END,
};

struct thread {
    uint8_t kind,
        escape; /* escape: 0 none, 1 behind a backslash, 2..5 hex digits of \u, 6 7 the second half of a pair */
    uint16_t hex, high;
    uint16_t space; /* white space just read */
    uint32_t state, count, aux, start;
    struct alt *alt;
    struct dfa *dfa;
    const struct frame *frame;
};

struct used { /* keys of open objects outside the named ones, values of unique arrays */
    const struct used *next;
    struct str text;
    uint64_t hash;
};

enum frame_kind { FRAME_CALL, FRAME_OBJECT, FRAME_ARRAY };
struct frame {
    const struct frame *up;
    uint64_t hash;
    uint8_t kind;
    uint32_t pc;      /* call: where to go on */
    uint32_t n, left; /* members or items so far; required members still missing */
    uint32_t start;   /* array: where the current item began in the text */
    uint32_t text;    /* where the outermost open item of a unique array began; NO_TEXT */
    uint32_t done;    /* object: bits of exists */
    uint32_t counts[MAX_SELECT];
    struct alt *alt;
    /* How it is written itself, how values in it are, and whose forbidden words end those; NULL: JSON, none */
    const struct grammar_form *form, *inner, *guard;
    const uint64_t *seen; // [(n_names + 63) / 64]
    const struct used *used;
};

#define NO_TEXT UINT32_MAX
#define POOL_CHUNK 65536
struct pool {
    char **chunks;
    size_t n_chunks, cap, at, used, max_chunks; /* chunk and place in it */
};
struct pool_mark {
    size_t at, used;
};

#define MAX_THREADS 4096
#define FEW_THREADS 24   /* up to here doubles are looked for one by one */
#define SEEN_SLOTS 16384 /* power of two */
struct machine {
    struct grammar *g;
    struct pool pool;
    struct buf text;    /* all that was read, and during a walk the bytes on the way */
    struct thread *out; /* the stack of states; the newest is [from, n_out) */
    size_t from, n_out, cap_out;
    uint32_t
        *seen; // [SEEN_SLOTS] index of out + 1, when there are more than a few; valid for seen_from, with seen_n in it
    size_t seen_from, seen_n;
    unsigned nesting; /* of steps that end a number */
    bool liberal, failed;
};

bool machine_init(struct machine *m, struct grammar *g, bool liberal);
void machine_deinit(struct machine *m);
void *pool_alloc(struct pool *p, size_t size);
struct pool_mark pool_mark(const struct pool *p);
void pool_release(struct pool *p, struct pool_mark mark);

/* Pushes the first state. */
void machine_start(struct machine *m);
/* Pushes the state that follows threads [from, to) of the stack on `byte`, which is already appended to the text. False
 * (and nothing pushed) when nothing follows. */
bool machine_step(struct machine *m, size_t from, size_t to, uint8_t byte);
/* Whether the text may end in this state. */
bool machine_may_end(struct machine *m, const struct thread *t, size_t n);
/* Equal hashes mean equal futures within the next `longest` bytes. `walking`: places in the text count too, so that one
 * state's threads can stand for another's. *textual: the text itself is part of it (it is not likely to be met again).
 */
uint64_t machine_hash(struct machine *m, const struct thread *t, size_t n, uint32_t longest, bool walking,
                      bool *textual);
/* Whether the key's text so far decides about what may follow; if not, *hash stands for what it does to patterns. */
bool key_is_textual(struct machine *m, const struct thread *t, uint64_t *hash);

/* between the parts */
void machine_emit(struct machine *m, struct thread t); /* unless it is there already */
void machine_push(struct machine *m, struct thread t);
bool number_may_end(const struct machine *m, const struct thread *t);
void machine_go(struct machine *m, uint32_t pc, const struct frame *frame); /* everything reachable without a byte */
void machine_value_done(struct machine *m, const struct frame *frame, size_t end);
void step_object(struct machine *m, struct thread t, uint8_t byte);
void step_array(struct machine *m, struct thread t, uint8_t byte);
void open_object(struct machine *m, struct alt *a, const struct frame *up);
void open_array(struct machine *m, struct alt *a, const struct frame *up);
bool array_accepts(struct machine *m, const struct frame **frame, size_t end); /* uniqueItems */
bool unique_room(struct machine *m, const struct frame *f, uint32_t node);     /* a value of node is not used yet */
/* Whether what is written can still become such a value; literal: true, false or null. */
bool unique_viable(struct machine *m, const struct thread *t, struct str literal);
struct frame *copy_frame(struct machine *m, const struct frame *f);
void hash_frame(struct frame *f);
bool text_continues(struct machine *m, const struct thread *t, struct str text, struct str prefix);
void step_thread(struct machine *m, struct thread t, uint8_t byte);
bool object_can_add(struct machine *m, const struct frame *f);
bool object_can_close(const struct frame *f);
bool object_key_viable(struct machine *m, const struct thread *t);
void object_start_key(struct machine *m, const struct frame *f);
/* The members that a whole key can begin, as threads like t with the member's frame and (in count) its node. */
void object_end_key(struct machine *m, struct thread t, struct str key);
void form_frame(struct frame *f); /* fills form, inner and guard from the frame above */
void form_open(struct machine *m, uint32_t node, const struct frame *up); /* objects without braces */
void form_next(struct machine *m, const struct frame *f);                 /* before a member or the end */
void form_value_done(struct machine *m, const struct frame *f);
bool form_start_string(struct machine *m, struct alt *a, const struct frame *frame, uint8_t byte);
void step_mark(struct machine *m, struct thread t, uint8_t byte);
void step_raw(struct machine *m, struct thread t, uint8_t byte);
void step_bare_key(struct machine *m, struct thread t, uint8_t byte);
bool form_forbids(const struct machine *m, const struct thread *t, uint8_t byte);
uint64_t form_hash(const struct machine *m, const struct thread *t);
bool lex_plain(struct machine *m, struct thread *t, uint8_t byte, uint32_t max);
void start_string(struct machine *m, struct alt *a, const struct frame *frame, uint8_t quote);
bool take_space(struct machine *m, struct thread *t, uint8_t byte); /* it was white space, and t went on or died */
enum lexed { LEX_DEAD, LEX_MORE, LEX_CLOSED };
enum lexed lex_string(struct machine *m, struct thread *t, uint8_t byte, uint32_t min, uint32_t max);
bool decode_string(struct buf *out, struct str raw); /* between the quotes, already checked */
uint64_t json_value_hash(struct str json, bool *ok); /* equal for equal JSON values */

#endif
