/* str: a borrowed run of bytes. Never assumed to end in NUL; the owner is whoever handed it out. */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>

struct str {
    const char *ptr;
    size_t len;
};

#define STR(literal) ((struct str){(literal), sizeof(literal) - 1})
#define STR_NONE ((struct str){NULL, 0})
/* printf("%.*s", STR_ARG(s)); lengths over INT_MAX are cut. */
#define STR_ARG(s) ((s).len > 0x7fffffff ? 0x7fffffff : (int)(s).len), ((s).ptr ? (s).ptr : "")

struct str str_from(const char *cstr); /* NULL gives the empty string */
bool str_eq(struct str a, struct str b);
bool str_eq_nocase(struct str a, struct str b); /* ASCII letters only */
int str_cmp(struct str a, struct str b);        /* by bytes, like memcmp, then by length */
bool str_starts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
/* Position of the first `needle` at or after `from`, or -1. An empty needle is found at `from`. */
ptrdiff_t str_find(struct str s, struct str needle, size_t from);
/* s[from, to), both clamped to the string. */
struct str str_slice(struct str s, size_t from, size_t to);
struct str str_trim(struct str s); /* without ASCII white space at both ends */

#endif
