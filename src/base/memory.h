/* memory: how much of it this process may still take. */
#ifndef BASE_MEMORY_H
#define BASE_MEMORY_H

#include <stddef.h>

/* Bytes available without swapping: the machine's, or what the limits of the process's control groups leave (a
 * container's limit is not in /proc/meminfo). An estimate of this moment. */
size_t memory_available(void);

#endif
