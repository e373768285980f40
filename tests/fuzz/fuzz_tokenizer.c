/* Fuzzes encoding and decoding against tiny vocabularies of every kind. Input: one byte for the vocabulary and flags,
 * two for a span of client text, the rest is the text. Checked: ids are in range, byte-level and SPM texts come back
 * (as far as they are UTF-8), streams only give whole characters, control tokens never come out of client text. */
#include "../unit/tokenizer/vocab_writer.h"
#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static const struct vocab_token byte_tokens[] = {{"he", 0, 0},
                                                 {"ll", 0, 0},
                                                 {"hell", 0, 0},
                                                 {"aa", 0, 0},
                                                 {"aaaa", 0, 0},
                                                 {"\xc4\xa0w", 0, 0},
                                                 {"<s>", TOKEN_CONTROL, 0},
                                                 {"<tag>", TOKEN_USER_DEFINED, 0},
                                                 {"<s>x", TOKEN_CONTROL, 0},
                                                 {"\xc4\xa0\xc4\xa0", 0, 0}};
static const char *const merges[] = {"h e", "l l", "he ll", "a a", "aa aa", "\xc4\xa0 w", "\xc4\xa0 \xc4\xa0",
                                     "q z", "qz q"};
static const struct vocab_token spm_tokens[] = {{"<unk>", TOKEN_UNKNOWN, 0},
                                                {"<s>", TOKEN_CONTROL, 0},
                                                {"\xe2\x96\x81", 0, -9},
                                                {"a", 0, -8},
                                                {"\xe2\x96\x81"
                                                 "a",
                                                 0, -3},
                                                {"aa", 0, -2},
                                                {"aaaa", 0, -1},
                                                {"<tag>", TOKEN_USER_DEFINED, 0},
                                                {"\xe2\x96\x81\xe2\x96\x81", 0, -4},
                                                {"\xc3\xa9", 0, -5},
                                                {"s>", 0, -2},
                                                {"\n\n", 0, -2}};
static const char *const raw_merges[] = {"\xe2\x96\x81 a", "a a", "aa aa", "\xe2\x96\x81 \xe2\x96\x81", "s >"};

#define BYTE_LEVEL(splitter)                                                                                          \
    {                                                                                                                 \
        .model = "gpt2", .pre = splitter, .byte_tokens = true, .tokens = byte_tokens, .n_tokens = COUNT(byte_tokens), \
        .merges = merges, .n_merges = COUNT(merges)                                                                   \
    }

static const struct vocab_spec specs[] = {
    BYTE_LEVEL("gpt-2"),
    BYTE_LEVEL("smollm"),
    BYTE_LEVEL("llama-bpe"),
    BYTE_LEVEL("qwen2"),
    BYTE_LEVEL("qwen35"),
    BYTE_LEVEL("gpt-4o"),
    BYTE_LEVEL("tekken"),
    BYTE_LEVEL("deepseek-v3"),
    BYTE_LEVEL("deepseek-llm"),
    BYTE_LEVEL("kimi-k2"),
    BYTE_LEVEL("tiny_aya"),
    BYTE_LEVEL("exaone-moe"),
    BYTE_LEVEL("jais-2"),
    BYTE_LEVEL("superbpe"),
    BYTE_LEVEL("default"),
    {.model = "llama", .byte_tokens = true, .tokens = spm_tokens, .n_tokens = COUNT(spm_tokens), .unk = 257},
    {.model = "llama", .byte_tokens = true, .tokens = spm_tokens, .n_tokens = COUNT(spm_tokens), .add_space_prefix = 1},
    {.model = "gemma4",
     .byte_tokens = true,
     .tokens = spm_tokens,
     .n_tokens = COUNT(spm_tokens),
     .merges = raw_merges,
     .n_merges = COUNT(raw_merges)},
    {.model = "llama", .tokens = spm_tokens, .n_tokens = COUNT(spm_tokens), .unk = 1},
    {.model = "bert", .tokens = spm_tokens, .n_tokens = COUNT(spm_tokens), .unk = 1},
    {.model = "t5", .tokens = spm_tokens, .n_tokens = COUNT(spm_tokens), .unk = 1, .add_space_prefix = 2},
};
#define N_SPECS COUNT(specs)
#define LOSSLESS 18 /* the first ones give all bytes */
static struct vocab_file files[N_SPECS];

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    for (size_t i = 0; i < N_SPECS; i++) {
        struct err e = {0};
        files[i] = vocab_open_spec(&specs[i], &e);
        if (!files[i].tokenizer) abort();
    }
    return 0;
}

static void check_decoding(const struct tokenizer *t, const struct token_list *ids, struct str text, bool lossless)
{
    struct buf whole, stream;
    struct detokenizer d = {0};
    buf_init(&whole, 1u << 24);
    buf_init(&stream, 1u << 24);
    if (!tokenizer_decode(t, &whole, ids->ids, ids->n, true)) abort();
    for (size_t i = 0; i < ids->n; i++) {
        if (ids->ids[i] >= tokenizer_size(t) || !detokenizer_feed(&d, t, &stream, ids->ids[i], true)) abort();
        if (!utf8_valid(buf_str(&stream))) abort();
    }
    if (!detokenizer_finish(&d, &stream) || !str_eq(buf_str(&stream), buf_str(&whole))) abort();
    bool plain = utf8_valid(text) && str_find(text, STR("\xe2\x96\x81"), 0) < 0 && str_find(text, STR("<"), 0) < 0;
    if (lossless && plain && !str_eq(buf_str(&whole), text)) abort();
    buf_deinit(&whole);
    buf_deinit(&stream);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct token_list ids;
    struct err e;
    if (size < 3) return 0;
    size_t which = (data[0] & 0x7f) % N_SPECS;
    bool control = data[0] & 0x80;
    const struct tokenizer *t = files[which].tokenizer;
    struct str text = {(const char *)data + 3, size - 3};
    struct text_span span = {data[1], (size_t)data[1] + data[2]};
    token_list_init(&ids, 1u << 20);
    if (!tokenizer_encode(t, &ids, text, control, &span, 1, &e)) abort();
    check_decoding(t, &ids, text, which < LOSSLESS);
    span = (struct text_span){0, text.len};
    ids.n = 0;
    if (!tokenizer_encode(t, &ids, text, true, &span, 1, &e)) abort();
    for (size_t i = 0; i < ids.n; i++)
        if (tokenizer_attr(t, ids.ids[i]) == TOKEN_CONTROL) abort();
    token_list_deinit(&ids);
    return 0;
}
