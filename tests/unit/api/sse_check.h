/* sse_check: whether bytes are a legal stream of the Messages API: framing, order of events, indexes, types of deltas,
 * usage. Strict in what real clients are strict in. */
#ifndef SSE_CHECK_H
#define SSE_CHECK_H

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"

struct sse_result {
    bool has_start, has_delta, has_stop, has_error;
    int n_blocks, n_pings, n_tools;
    int n_bad_inputs; /* of closed calls: the deltas make no JSON object */
    char stop_reason[64];
    struct buf text, thinking; /* of all blocks */
    json_t *last_usage;
};
/* false with the first offence in e. An unfinished stream is legal here; callers look at has_stop and has_error. */
bool sse_check(struct sse_result *out, struct str bytes, struct err *e);
void sse_result_deinit(struct sse_result *r);

#endif
