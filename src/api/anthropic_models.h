/* anthropic_models: GET /v1/models and /v1/models/{id}. The objects have the keys of Anthropic's and of OpenAI's API at
 * once: clients of either ignore the rest. */
#ifndef API_ANTHROPIC_MODELS_H
#define API_ANTHROPIC_MODELS_H

#include "base/buf.h"
#include "chat/chat.h"

/* One model under the id that was asked for. */
void anthropic_model_write(struct buf *out, const struct chat_model *model, struct str id);

struct anthropic_page {
    uint32_t limit;                 /* 0 = all */
    struct str before_id, after_id; /* empty = none; unknown ids are no error and select nothing away */
};
/* Each model once under its id, then once under each alias. */
void anthropic_models_write(struct buf *out, const struct chat_model *models, size_t n_models,
                            const struct anthropic_page *page);

#endif
