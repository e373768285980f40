/* schema_internal: the loader of raw schemas and the register of what $ref may name (resource.c). */
#ifndef GRAMMAR_SCHEMA_INTERNAL_H
#define GRAMMAR_SCHEMA_INTERNAL_H

#include "grammar/grammar_internal.h"

#define MAX_OWN 4096 /* atoms of one raw schema */

struct loader {
    struct grammar *g;
    struct raw raw; /* a copy of the one being loaded */
    const struct path *path;
    uint32_t own[MAX_OWN];
    uint32_t n_own;
    bool seen_properties;
};

uint32_t schema_raw(struct loader *l, json_t *json, const struct path *path, const struct raw *from);
/* Finds every $id and $anchor of the document; costs nothing when its text has none. */
void resources_scan(struct loader *l, json_t *root, struct str text);
/* Sets base and resource when raw itself has an $id. */
void resource_enter(struct loader *l, struct raw *raw);
/* Whether a $dynamicRef can mean one place only. */
bool resource_is_static(const struct loader *l, struct str ref);
/* What `ref` means at `from`; `from` becomes the place it was found in. */
bool resource_find(struct loader *l, json_t **out, struct raw *from, struct str ref);

const char *json_type_name(const json_t *v);
struct str json_text(const json_t *v);

#endif
