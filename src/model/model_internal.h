/* model_internal: what the files of this folder share. A model is opened in two passes of its family's load function:
 * the first only checks shapes and types (so that a bad file fails before anything is packed), the second binds them
 * and lists what is to be packed; then all is packed at once. All floats that are not matrix products (norms, biases)
 * live in one arena; packed weights are in model.weights.
 *
 * A family file fills struct layer from the parts kit (parts.c) and runs it with the blocks of step.c; families that
 * need another loop or other blocks bring their own forward function. */
#ifndef MODEL_MODEL_INTERNAL_H
#define MODEL_MODEL_INTERNAL_H

#include "base/arena.h"
#include "model/model.h"

/* ---- hyper-parameters: read and range-checked once ---- */
enum {
    MAX_LAYERS = 1024,
    MAX_HEADS = 4096,
    MAX_HEAD_DIM = 1024,
    MAX_WIDTH = 1 << 20, /* n_embd and the widths of query, key and value rows */
    MAX_FF = 1 << 24,
    MAX_VOCAB = 1 << 24,
    MAX_EXPERTS = 512,
    MAX_BATCH = 1 << 16,
    MAX_ROPE_SETS = 2,
};

struct rope_params {
    double base;
    double freq_scale; /* 1 / scaling factor */
    int n_rot;         /* even, <= dim_k */
    bool longrope;
    bool yarn;
    double attn_factor; /* multiplies cos and sin */
    double beta_fast, beta_slow, log_multiplier;
    int n_ctx_orig;
};

struct hparams {
    int n_layers, n_embd, n_heads, n_kv_heads, dim_k, dim_v, n_ff, n_vocab, n_ctx_train;
    int n_experts, n_experts_used;
    float norm_eps;
    float attn_softcap, final_softcap; /* 0 = none */
    int window;                        /* 0 = none */
    struct rope_params rope;
    double rope_base_local; /* of sliding-window layers */
};

/* n_vocab is taken from the token list or, without one, from token_embd.weight. */
bool hparams_read(struct hparams *h, const struct gguf *g, const char *arch, struct err *e);
/* Which layers are windowed: ARCH.attention.sliding_window_pattern as a list of flags or as a period (every period-th
 * layer is global), `period` when the key is absent. local[n_layers]. */
bool hparams_window_pattern(bool *local, const struct gguf *g, const char *arch, int n_layers, int period,
                            struct err *e);

/* ---- RoPE ---- */
struct rope_set { /* one frequency table */
    int n_rot;
    const double *freq; /* [n_rot / 2] radians per position */
    double magnitude;
};
/* factors[n_rot / 2] divide the frequencies, or NULL. freq (in set) is allocated from a. */
bool rope_set_init(struct rope_set *set, struct arena *a, const struct rope_params *p, const float *factors);
/* cs[n_rot / 2][2] = (cos, sin) of a position. */
void rope_set_fill(const struct rope_set *set, float *cs, int pos);

/* ---- blocks of a layer ---- */
struct attention_block {
    const float *norm;                /* [n_embd] */
    struct weight *qkv;               /* query, key and value rows below each other */
    int q_offset, k_offset, v_offset; /* in a row of its output */
    const float *qkv_bias;            /* [weight_out_len(qkv)] or NULL */
    const float *q_norm, *k_norm;     /* [dim_k] or NULL: per head, before RoPE */
    struct weight *out;
    const float *out_bias;  /* [n_embd] or NULL */
    const float *post_norm; /* [n_embd] or NULL: of the block's result, before the residual add */
    int window;             /* 0 = none */
    int rope;               /* index into model.ropes; -1 = no positions */
};

struct expert {
    struct weight *gate_up, *down;
    int up_offset;
};

struct ffn_block {
    const float *norm; /* [n_embd] */
    struct weight *gate_up;
    int gate_offset, up_offset;
    const float *gate_up_bias; /* [weight_out_len(gate_up)] or NULL */
    struct weight *down;
    const float *down_bias; /* [n_embd] or NULL */
    const float *post_norm; /* [n_embd] or NULL */
    struct weight *router;  /* mixture of experts: [n_experts] logits; NULL = dense */
    struct expert *experts; /* [n_experts] */
};

struct layer {
    struct attention_block attn;
    struct ffn_block ffn;
    size_t kv_offset; /* of this layer in a KV page */
};

struct scratch_row {
    uint32_t token;
    int pos;
    const float *embedding; /* [n_embd] or NULL: in place of the token */
};

/* Step scratch, one mapping planned at open (step.c: scratch_plan). T = max_batch, L = max_logits. Floats unless noted.
 *   hidden  [T][n_embd]              the residual stream
 *   qkv     [T][qkv_len]             attention's inputs            \ the same memory as
 *   attn    [T][n_heads * dim_v]     attention's result            / ffn [T][ffn_len], the FFN's inner activations
 *   proj    [T][proj_len]            result of a block before it is added to hidden
 *   cs      [n_ropes][T][n_rot]      cos and sin of every row's position
 *   rows    struct scratch_row [T];  spans, last_spans: struct kv_span [T];  wanted: int [L], rows that want logits
 * Mixture of experts, beside these:
 *   normed  [T][n_embd]              input of the experts          route  [T][route_len]  router logits, then weights
 *   picked  [T][n_embd]              rows of one expert            members int [T]        which rows they are
 */
struct scratch {
    void *map;
    size_t map_bytes;
    float *hidden, *qkv, *attn, *ffn, *proj, *cs, *normed, *route, *picked;
    size_t qkv_len, ffn_len, proj_len, route_len;
    struct scratch_row *rows;
    struct kv_span *spans, *last_spans;
    int *wanted, *members;
};

struct step;
struct loader;
struct family {
    const char *arch;
    bool experts;                                    /* may have them */
    bool (*load)(struct model *m, struct loader *l); /* called twice: check, then pack */
    bool (*forward)(struct model *m, struct step *s, struct err *e);
};
extern const struct family family_llama, family_qwen2, family_gemma3;

struct model {
    const struct gguf *g;
    struct compute *c;
    const struct kernels *k;
    const struct family *family;
    struct hparams hp;
    struct arena arena;         /* layers, norms, biases, tables */
    struct weight_set *weights; /* every packed product; NULL while checking */
    uint64_t n_params;
    const struct model_options *options; /* the caller's, while the model is opened */
    bool check_only;
    int max_batch, max_logits;
    struct kv_form kv; /* of the pages */
    size_t page_bytes, head_bytes;

    const struct gguf_tensor *token_embd; /* rows are read from the mapped file */
    size_t embd_row_bytes;
    float embd_scale;  /* of token rows; 1 = none */
    float query_scale; /* of q.k */
    bool neox, gelu;
    struct rope_set ropes[MAX_ROPE_SETS];
    int n_ropes;
    struct layer *layers;     /* [n_layers] */
    const float *output_norm; /* [n_embd] */
    struct weight *output;
    const float *output_bias; /* [n_vocab] or NULL */
    struct scratch scratch;
};

/* ---- parts kit: binding tensors ---- */
struct loader { /* fails once: after the first error every part is a no-op that gives NULL */
    struct model *m;
    bool pack; /* second pass: weights join the model's set */
    bool failed;
    int layer;      /* >= 0: names are "blk.LAYER." + name */
    size_t n_bound; /* distinct tensors that the architecture uses */
    const struct gguf_tensor **bound;
    size_t max_bound;
    struct err *e;
};
enum part_need { PART_OPTIONAL, PART_REQUIRED };

/* The tensor of that name with exactly these dimensions (unused ones 1), or NULL: absent (an error when required). */
const struct gguf_tensor *part_tensor(struct loader *l, const char *name, enum part_need need, int n_in, int n_out,
                                      int n_more);
/* A vector as floats, NULL while checking. */
const float *part_floats(struct loader *l, const char *name, enum part_need need, int n);
/* Tensors (all with rows of n_in) below each other as one weight of the set; NULL while checking. */
struct weight *part_weight(struct loader *l, const struct gguf_tensor *const *tensors, int n_tensors, int n_in);
/* One matrix by name: part_tensor and part_weight. */
struct weight *part_matrix(struct loader *l, const char *name, int n_in, int n_out);
/* Block i of a 3-D tensor (experts) and other runs of rows. */
struct weight *part_rows(struct loader *l, const struct gguf_tensor *const *tensors, int n_tensors, int n_in,
                         uint64_t row_from, int n_rows);
/* The whole of attention and FFN as llama-like files name them: fused or split q/k/v, optional biases. */
void part_attention(struct loader *l, struct attention_block *a);
void part_ffn(struct loader *l, struct ffn_block *f);
void part_moe(struct loader *l, struct ffn_block *f);
/* token_embd, output_norm, output (tied to token_embd when absent). */
void part_ends(struct loader *l);
/* model.ropes[index] from p; factors as for rope_set_init. */
void rope_set_load(struct loader *l, int index, const struct rope_params *p, const float *factors);
/* After the first pass: every tensor of the file must have been used. */
bool loader_all_bound(struct loader *l);
bool loader_fail(struct loader *l, enum err_kind kind, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* ---- a step ---- */
struct step {
    float *logits; /* [n_wanted][n_vocab], the caller's */
    uint8_t *kv_base;
    int n_rows; /* rows in work: all tokens; in the last layer, after attention, only those that want logits */
    int n_spans, n_last_spans, n_wanted;
    const volatile int *stop;
};

/* Scratch for max_batch and max_logits; after the weights are packed. */
bool scratch_plan(struct model *m, struct err *e);
/* The forward pass of models whose layers are one attention block and one FFN block. */
bool dense_forward(struct model *m, struct step *s, struct err *e);
/* hidden += FFN(norm(hidden)) with routed experts: softmax over all, the best n_experts_used renormalised. */
void moe_run(struct model *m, struct step *s, const struct ffn_block *f);
/* fn over rows, shared between threads when n_rows * row_floats is worth a fork. */
void step_for_rows(const struct model *m, compute_fn *fn, void *ctx, int n_rows, size_t row_floats);

#endif
