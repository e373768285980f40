/* oracle: runners for the data sets with known answers. */
#ifndef ORACLE_H
#define ORACLE_H

#include <stdbool.h>
#include <stddef.h>

struct oracle_count {
    size_t passed, failed, skipped;
};

bool oracle_tokenizers(const char *data_dir, struct oracle_count *count);

#endif
