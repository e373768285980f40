/* pretokenizer: tokenizer.ggml.pre -> how a text is cut into pieces before merging. Data only. The regexes are those of
 * the models' own tokenizers, with three changes that keep their meaning: \s is spelled out as Unicode's White_Space
 * (PCRE2's has U+180E too), class intersections are written as negated classes, and what could backtrack over a
 * long run is possessive or ends in (*SKIP). Digits grouped from the right are a pass of their own. */
#include "tokenizer/tokenizer_internal.h"

#define WS "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"
#define BLANKS_END "[" WS "]+(?![^" WS "])"
#define BLANKS "|[" WS "]*[\\r\\n]+|" BLANKS_END "|[" WS "]+"
#define CONTRACTION "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define WORD "[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"
#define MARKS " ?[^" WS "\\p{L}\\p{N}]+[\\r\\n]*"

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" WS "\\p{L}\\p{N}]+|" BLANKS_END
#define LLAMA3_WITH(digits) CONTRACTION "|" WORD "|" digits "|" MARKS BLANKS
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define CASED(tail) "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" tail "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" tail
#define CASED_REST "| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n/]*" BLANKS
#define PUNCT_WORD "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
#define PUNCT_MAIN PUNCT_WORD "| ?[\\p{P}\\p{S}]+[\\r\\n]*" BLANKS
#define KANA_HAN "[\\x{4e00}-\\x{9fa5}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}]+"
/* The script of that name; \p{Han} in PCRE2 means script extensions since 10.40. */
#define HAN                                                                                                          \
    "\\x{2e80}-\\x{2e99}\\x{2e9b}-\\x{2ef3}\\x{2f00}-\\x{2fd5}\\x{3005}\\x{3007}\\x{3021}-\\x{3029}\\x{3038}-\\x{"   \
    "303b}"                                                                                                          \
    "\\x{3400}-\\x{4dbf}\\x{4e00}-\\x{9fff}\\x{f900}-\\x{fa6d}\\x{fa70}-\\x{fad9}\\x{16fe2}\\x{16fe3}\\x{16ff0}\\x{" \
    "16ff1}"                                                                                                         \
    "\\x{20000}-\\x{2a6df}\\x{2a700}-\\x{2ebe0}\\x{2f800}-\\x{2fa1d}\\x{30000}-\\x{323af}"
/* UPPER and LOWER without Han, which PCRE2 cannot subtract from a class. */
#define UPPER_NO_HAN "[^\\p{Ll}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}" HAN "]"
#define LOWER_NO_HAN "[^\\p{Lu}\\p{Lt}\\p{N}\\p{P}\\p{S}\\p{Z}\\p{C}" HAN "]"
/* Digits that a letter, mark or '_' follows are not grouped; the run is passed over as a whole. */
#define DIGITS_TO_BORDER                                                                                               \
    "\\p{Nd}++[\\p{L}\\p{M}\\p{Nl}\\p{Pc}\\xb2\\xb3\\xb9\\xbc-\\xbe\\x{24b6}-\\x{24e9}\\x{1f130}-\\x{1f149}\\x{1f150}" \
    "-\\x{1f169}\\x{1f170}-"                                                                                           \
    "\\x{1f189}](*SKIP)(*FAIL)|\\p{Nd}++"
#define LATIN_GREEK_CYRILLIC                                                                                           \
    "A-Za-z\\x{b5}\\x{c0}-\\x{d6}\\x{d8}-\\x{f6}\\x{f8}-\\x{1ba}\\x{1bc}-\\x{1bf}\\x{1c4}-\\x{293}\\x{295}-\\x{2af}"   \
    "\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}\\x{38e}-\\x{3a1}"     \
    "\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}"       \
    "\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}"                  \
    "\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}"                  \
    "\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}" \
    "\\x{1fc2}-\\x{1fc4}\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}"                  \
    "\\x{1ff2}-\\x{1ff4}\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}" \
    "\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}\\x{2145}-\\x{2149}\\x{214e}" \
    "\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}" \
    "\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}"                  \
    "\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}"                \
    "\\x{104b0}-\\x{104d3}\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}"        \
    "\\x{1e900}-\\x{1e943}"
#define EAST_ASIAN                                                                                                   \
    "[\\x{4e00}-\\x{9fff}\\x{3400}-\\x{4dbf}\\x{f900}-\\x{faff}\\x{3040}-\\x{309f}\\x{30a0}-\\x{30ff}\\x{ff65}-\\x{" \
    "ff9f}"                                                                                                          \
    "\\x{2f00}-\\x{2fdf}\\x{e40}-\\x{e7f}\\x{e80}-\\x{eff}\\x{1780}-\\x{17ff}\\x{1000}-\\x{109f}\\x{aa60}-\\x{aa7f}" \
    "\\x{a9e0}-\\x{a9ff}\\x{ac00}-\\x{d7af}\\x{1100}-\\x{11ff}]+"
#define CJK_HANGUL "[\\x{4e00}-\\x{9fa5}\\x{800}-\\x{4e00}\\x{ac00}-\\x{d7ff}]+"
#define SENTENCE " ?[^(" WS "|.,!?\\x{2026}\\x{3002}\\x{ff0c}\\x{3001}\\x{964}\\x{6d4}\\x{60c})]+"

static const struct split_rule rule_default = {
    .passes = {{"[\\p{P}$+<=>^~|]+", 0}, {GPT2, 0}, {"\\p{N}+", 0}, {"[0-9][0-9][0-9]", 0}}};
static const struct split_rule rule_gpt2 = {.passes = {{GPT2, 0}}, .scan = scan_gpt2};
/* \p{N} first and then gpt-2 within what is left, as one regex: white space looks ahead to digits as to an end. */
static const struct split_rule rule_smollm = {
    .passes = {{"\\p{N}|'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?[^" WS "\\p{L}\\p{N}]+|[" WS "]+(?![^" WS "\\p{N}])", 0}},
    .scan = scan_smollm};
static const struct split_rule rule_llama3 = {.passes = {{LLAMA3_WITH("\\p{N}{1,3}"), 0}}, .scan = scan_llama3};
static const struct split_rule rule_qwen2 = {.passes = {{LLAMA3_WITH("\\p{N}"), 0}}, .scan = scan_qwen2};
static const struct split_rule rule_qwen35 = {
    .passes = {{CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^" WS
                            "\\p{L}\\p{M}\\p{N}]+[\\r\\n]*" BLANKS,
                0}},
    .scan = scan_qwen2};
static const struct split_rule rule_ufakzeka = {.passes = {{WORD "|\\p{N}|" MARKS BLANKS, 0}}};
static const struct split_rule rule_gpt4o = {.passes = {{CASED(CONTRACTION "?") "|\\p{N}{1,3}" CASED_REST, 0}},
                                             .scan = scan_gpt4o};
static const struct split_rule rule_tekken = {.passes = {{CASED("") "|\\p{N}" CASED_REST, 0}}, .scan = scan_tekken};
static const struct split_rule rule_tiny_aya = {
    .passes = {{DIGITS_TO_BORDER, 1}, {CASED(CONTRACTION "?") "|\\p{N}{1,3}" CASED_REST, 0}}};
static const struct split_rule rule_youtu = {
    .passes = {{"[\\x{ac00}-\\x{d7a3}\\x{3131}-\\x{318e}]+|[\\x{2026}\\x{201c}\\x{201d}\\x{2018}\\x{2019}\\x{2014}"
                "\\x{3001}-\\x{303f}\\x{fe30}-\\x{fe4f}\\x{ff01}\\x{ff1a}\\x{ff1b}\\x{ff0c}]+|[\\x{3105}-\\x{312f}]+"
                "|" KANA_HAN,
                0},
               {CASED(CONTRACTION "?") "|\\p{N}" CASED_REST, 0}}};
static const struct split_rule rule_kimi = {
    .passes = {{"[" HAN "]+|[^\\r\\n\\p{L}\\p{N}]?" UPPER_NO_HAN "*" LOWER_NO_HAN "+" CONTRACTION
                "?|[^\\r\\n\\p{L}\\p{N}]?" UPPER_NO_HAN "+" LOWER_NO_HAN "*" CONTRACTION "?|\\p{N}{1,3}|" MARKS BLANKS,
                0}}};
static const struct split_rule rule_deepseek3 = {.passes = {{"\\p{N}{1,3}", 0}, {KANA_HAN, 0}, {PUNCT_MAIN, 0}}};
static const struct split_rule rule_spark = {
    .passes = {{"\\p{N}{1,3}", 0},
               {KANA_HAN, 0},
               {PUNCT_WORD "| ?[\\p{P}\\p{S}]+|[\\r\\n]|" BLANKS_END "|[" WS "]+", 0},
               {"\\p{N}", 0}}};
static const struct split_rule rule_deepseek_llm = {
    .passes = {{"[\\r\\n]", 0},
               {"[" WS "]?[" LATIN_GREEK_CYRILLIC "]+", 0},
               {"[" WS "]?[!-/:-~\\x{ff01}-\\x{ff0f}\\x{ff1a}-\\x{ff5e}\\x{2018}-\\x{201f}\\x{3000}-\\x{3002}]+", 0},
               {"[" WS "]++(?:\\z|(*SKIP)(*FAIL))", 0},
               {CJK_HANGUL, 0},
               {"\\p{N}+", 0}}};
static const struct split_rule rule_deepseek_coder = {
    .passes = {{"[\\r\\n]", 0}, {"[" WS "]?\\p{L}+", 0}, {"[" WS "]?\\p{P}+", 0}, {CJK_HANGUL, 0}, {"\\p{N}", 0}}};
static const struct split_rule rule_falcon = {.passes = {{"[\\p{P}$+<=>^~|`]+", 0}, {GPT2, 0}, {"[0-9][0-9][0-9]", 0}}};
/* White space is cut once more, into powers of two. In one regex with the rest every cut would look for a newline as
 * far as the white space goes. */
static const struct split_rule rule_jais2 = {
    .passes = {{LLAMA3_WITH("\\p{N}{1,3}"), 0},
               {"\\A[" WS "]*+[^" WS "](?s:.*+)|\\A[" WS "]*[\\r\\n]+\\z|[" WS "]{512}|[" WS "]{256}|[" WS "]{128}|[" WS
                "]{64}|[" WS "]{32}|[" WS "]{16}|[" WS "]{8}|[" WS "]{4}|[" WS "]{1,2}",
                0}}};
static const struct split_rule rule_poro = {.passes = {{SENTENCE, 0}}};
static const struct split_rule rule_viking = {.passes = {{SENTENCE, 0}, {"\\p{N}", 0}}};
static const struct split_rule rule_chameleon = {.passes = {{"<sentinel:[0-9]+>", 0},
                                                            {"IMGIMG[A-I]{1,4}Z", 0},
                                                            {"[\\t\\n]|    |  ", 0},
                                                            {"\\p{N}", 0},
                                                            {"[\\p{P}!-/:-@\\[-`{-~]", 0},
                                                            {GPT2, 0}}};
static const struct split_rule rule_superbpe = {.passes = {{"\\p{N}+", 1}}};
static const struct split_rule rule_bailing = {
    .passes = {{"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^" WS "\\p{L}\\p{N}]++[\\r\\n]*|[" WS
                "]*[\\r\\n]|" BLANKS_END "|[" WS "]+",
                0}}};
static const struct split_rule rule_seed = {
    .passes = {{CONTRACTION "|" WORD "|\\p{N}| ?[^" WS "\\p{L}\\p{N}\\r\\n]+" BLANKS, 0}}};
static const struct split_rule rule_afmoe = {.passes = {{"\\p{N}+", 1}, {EAST_ASIAN, 0}, {PUNCT_MAIN, 0}}};
static const struct split_rule rule_laguna = {.passes = {{"[^\\n]+|\\n+", 0}, {LLAMA3_WITH("\\p{N}"), 0}}};
/* A letter starts a phrase; then letters, marks and single spaces before letters. */
static const struct split_rule rule_exaone_moe = {
    .passes = {{CONTRACTION "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}(?>[\\p{L}\\p{M}]+| \\p{L})*+|\\p{N}| ?[^" WS
                            "\\p{L}\\p{N}]+[\\r\\n/]?|[" WS "]*[\\r\\n]|" BLANKS_END "|[" WS "]+",
                0}}};
static const struct split_rule rule_minicpm5 = {.passes = {{"\\p{N}{1,3}", 0}, {LLAMA3_WITH("\\p{N}+"), 0}}};
static const struct split_rule rule_lines = {.passes = {{"[^\\n]+|\\n+", 0}}};

#define WHOLE .ignore_merges = true
#define BOS .add_bos = true

static const struct pretokenizer table[] = {
    {.name = "default", .rule = &rule_default},
    {.name = "a.x-4.0", .rule = &rule_gpt2},
    {.name = "afmoe", .rule = &rule_afmoe},
    {.name = "bailingmoe", .rule = &rule_bailing},
    {.name = "bailingmoe2", .rule = &rule_bailing},
    {.name = "bloom", .rule = &rule_poro},
    {.name = "chameleon", .rule = &rule_chameleon, BOS},
    {.name = "chatglm-bpe", .rule = &rule_llama3},
    {.name = "codeshell", .rule = &rule_smollm},
    {.name = "cohere2moe", .rule = &rule_tiny_aya},
    {.name = "command-r", .rule = &rule_smollm},
    {.name = "dbrx", .rule = &rule_llama3},
    {.name = "deepseek-coder", .rule = &rule_deepseek_coder},
    {.name = "deepseek-llm", .rule = &rule_deepseek_llm},
    {.name = "deepseek-r1-qwen", .rule = &rule_qwen2},
    {.name = "deepseek-v3", .rule = &rule_deepseek3},
    {.name = "exaone", .rule = &rule_smollm},
    {.name = "exaone-moe", .rule = &rule_exaone_moe},
    {.name = "exaone4", .rule = &rule_gpt2},
    {.name = "f2llmv2", .rule = &rule_qwen2},
    {.name = "falcon", .rule = &rule_falcon},
    {.name = "falcon-h1", .rule = &rule_llama3, WHOLE, BOS},
    {.name = "falcon3", .rule = &rule_llama3, WHOLE, BOS},
    {.name = "gemma4", .rule = &rule_lines, BOS, .spaces = true},
    {.name = "gigachat", .rule = &rule_gpt2},
    {.name = "glm4", .rule = &rule_llama3, WHOLE},
    {.name = "glm5", .rule = &rule_llama3, WHOLE},
    {.name = "gpt-2", .rule = &rule_gpt2},
    {.name = "gpt-4o", .rule = &rule_gpt4o, WHOLE},
    {.name = "gpt3-finnish", .rule = &rule_poro},
    {.name = "granite-docling", .rule = &rule_gpt2},
    {.name = "granite-embed-multi-311m", .rule = &rule_lines, .spaces = true},
    {.name = "granite-embed-multi-97m", .rule = &rule_gpt4o, WHOLE},
    {.name = "grok-2", .rule = &rule_qwen2},
    {.name = "hunyuan", .rule = &rule_qwen2},
    {.name = "hunyuan-dense", .rule = &rule_deepseek3},
    {.name = "hy_v4", .rule = &rule_deepseek3},
    {.name = "jais", .rule = &rule_gpt2},
    {.name = "jais-2", .rule = &rule_jais2},
    {.name = "jina-de", .rule = &rule_gpt2},
    {.name = "jina-es", .rule = &rule_gpt2},
    {.name = "jina-v1-en", .rule = &rule_gpt2},
    {.name = "jina-v2-code", .rule = &rule_gpt2},
    {.name = "jina-v2-de", .rule = &rule_gpt2},
    {.name = "jina-v2-es", .rule = &rule_gpt2},
    {.name = "jina-v5-nano", .rule = &rule_llama3, WHOLE, BOS},
    {.name = "joyai-llm", .rule = &rule_deepseek3},
    {.name = "kanana2", .rule = &rule_gpt4o},
    {.name = "kimi-k2", .rule = &rule_kimi, WHOLE},
    {.name = "kormo", .rule = &rule_qwen2},
    {.name = "laguna", .rule = &rule_laguna},
    {.name = "lfm2", .rule = &rule_llama3, WHOLE, BOS},
    {.name = "llada-moe", .rule = &rule_bailing},
    {.name = "llama-bpe", .rule = &rule_llama3, WHOLE, BOS},
    {.name = "llama-v3", .rule = &rule_llama3, WHOLE, BOS},
    {.name = "llama3", .rule = &rule_llama3, WHOLE, BOS},
    {.name = "llama4", .rule = &rule_gpt4o},
    {.name = "megrez", .rule = &rule_qwen2},
    {.name = "mellum", .rule = &rule_gpt2},
    {.name = "mellum2", .rule = &rule_smollm},
    {.name = "midm-2.0", .rule = &rule_llama3, WHOLE, BOS},
    {.name = "minerva-7b", .rule = &rule_smollm},
    {.name = "minicpm5", .rule = &rule_minicpm5, WHOLE},
    {.name = "minimax-m2", .rule = &rule_gpt4o},
    {.name = "modern-bert", .rule = &rule_gpt2},
    {.name = "mpt", .rule = &rule_gpt2},
    {.name = "olmo", .rule = &rule_gpt2},
    {.name = "phi-2", .rule = &rule_gpt2},
    {.name = "pixtral", .rule = &rule_llama3, WHOLE, BOS},
    {.name = "poro-chat", .rule = &rule_poro},
    {.name = "qwen2", .rule = &rule_qwen2},
    {.name = "qwen35", .rule = &rule_qwen35},
    {.name = "refact", .rule = &rule_smollm},
    {.name = "roberta-bpe", .rule = &rule_gpt2},
    {.name = "sarvam-moe", .rule = &rule_lines, .spaces = true},
    {.name = "seed-coder", .rule = &rule_seed},
    {.name = "smaug-bpe", .rule = &rule_llama3},
    {.name = "smollm", .rule = &rule_smollm},
    {.name = "solar-open", .rule = &rule_qwen2},
    {.name = "spark2_5", .rule = &rule_spark},
    {.name = "stablelm2", .rule = &rule_qwen2},
    {.name = "starcoder", .rule = &rule_smollm},
    {.name = "superbpe", .rule = &rule_superbpe},
    {.name = "talkie", .rule = &rule_gpt4o},
    {.name = "tekken", .rule = &rule_tekken, WHOLE, BOS},
    {.name = "tiny_aya", .rule = &rule_tiny_aya},
    {.name = "trillion", .rule = &rule_gpt2},
    {.name = "ufakzeka", .rule = &rule_ufakzeka},
    {.name = "viking", .rule = &rule_viking},
    {.name = "youtu", .rule = &rule_youtu, WHOLE},
};

const struct pretokenizer *pretokenizer_at(size_t i)
{
    return i < sizeof table / sizeof *table ? &table[i] : NULL;
}

const struct pretokenizer *pretokenizer_default(void)
{
    return &table[0];
}

const struct pretokenizer *pretokenizer_find(struct str name)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (str_eq(str_from(table[i].name), name)) return &table[i];
    return NULL;
}
