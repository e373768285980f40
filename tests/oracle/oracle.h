/* oracle: data sets made with the reference programs (Python Jinja2, the models' tokenizers, ...), run through our code
 * and compared. Each set is one function in one file; oracle_main.c holds the table of them. */
#ifndef ORACLE_H
#define ORACLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/str.h"

struct oracle_count {
    size_t passed, failed, skipped;
};

/* Runs the set that lies in data_dir. false: the folder cannot be read. */
typedef bool oracle_set(const char *data_dir, struct oracle_count *count);
oracle_set oracle_templates, oracle_prefix, oracle_jinja_cases, oracle_tokenizers, oracle_dialects, oracle_schemas,
    oracle_mcp_tools, oracle_images;

/* Counts one comparison; prints the first few differences: the id, then both texts from where they part. */
void oracle_compare(struct oracle_count *count, const char *id, struct str got, struct str expected);
void oracle_fail(struct oracle_count *count, const char *id, const char *what);

/* Whether the dialect's grammar (free text with calls) allows the whole text; otherwise `what` says where it does not.
 */
struct chat_tool;
struct dialect;
bool oracle_allows(char *what, size_t size, const struct dialect *d, const struct chat_tool *tools, size_t n_tools,
                   bool in_thinking, struct str text);
/* Random walks through the grammars of all dialects with these tools. */
void oracle_walks(struct oracle_count *count, const char *name, const json_t *tools);

/* Calls each(ctx, line) for every line of the files in data_dir whose names begin with prefix and end in .jsonl. */
typedef void oracle_line(void *ctx, json_t *line);
bool oracle_each_line(const char *data_dir, const char *prefix, oracle_line *each, void *ctx);
/* The whole file, for mem_free; NULL when it cannot be read. */
char *oracle_read(size_t *len, const char *path);

#endif
