/* clock: monotonic time for durations and deadlines. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_ns(void);    /* monotonic */
double clock_seconds(void); /* monotonic */

#endif
