/* table: one row per way of writing calls and reasoning. The order is that of detection: the first row of which all
 * `detect` words stand in the template is taken, so the more special ones come first. To add a dialect, add a row. */
#include <string.h>

#include "dialect/dialect_internal.h"

#define THINK .think_start = {"<think>"}, .think_end = {"</think>"}
#define TAGS(prefix, fn, par)                                                                       \
    .fn_open = {"<" prefix fn " name="}, .fn_close = {"</" prefix fn ">"},                          \
    .par_open = {"<" prefix par " name="}, .par_head_end = ">", .par_close = {"</" prefix par ">"}, \
    .par_stop = {"\n<" prefix par " name=", "\n</" prefix fn ">\n", "</" prefix fn "></"}
#define FUNCTION_TAGS                                                                                       \
    .fn_open = {"<function=", "<function name="}, .fn_close = {"</function>"},                              \
    .par_open = {"<parameter=", "<parameter name="}, .par_head_end = ">", .par_close = {"</parameter>"},    \
    .par_stop = {"\n<parameter=", "\n</function>\n</", "\n</function></", "</function></tool_call>"}
#define HERMES_CALLS .call_start = {"<tool_call>"}, .call_end = {"</tool_call>"}

const struct dialect dialect_rows[] = {
    {.name = "harmony", .detect = {"<|channel|>", "<|message|>"}, .think_start = {""}, .header = HEADER_HARMONY,
     .control = true, .drop = {"<|constrain|>"}},
    {.name = "glimmer", .detect = {"atem:invoke", "<|message|>"}, .section_start = {"<atem:function_calls>"},
     .section_end = {"</atem:function_calls>"}, TAGS("atem:", "invoke", "parameter"), .header = HEADER_RECIPIENT,
     .control = true},
    {.name = "gemma4", .detect = {"<|tool_call>"}, .think_start = {"<|channel>thought", "<|channel>"},
     .think_end = {"<channel|>"}, .call_start = {"<|tool_call>"}, .call_end = {"<tool_call|>"}, .syntax = CALL_NAMED,
     .name_strip = {"call:"}, .quote = "<|\"|>", .drop = {"<|turn>model", "<turn|>", "<|tool_response>"},
     .think_anywhere = true, .control = true},
    {.name = "functiongemma", .detect = {"<start_function_call>"}, .call_start = {"<start_function_call>"},
     .call_end = {"<end_function_call>"}, .syntax = CALL_NAMED, .name_strip = {"call:"}, .quote = "<escape>",
     .control = true},
    {.name = "deepseek-dsml", .detect = {"｜DSML｜"}, THINK,
     .section_start = {"<｜DSML｜function_calls>", "<｜DSML｜tool_calls>"},
     .section_end = {"</｜DSML｜function_calls>", "</｜DSML｜tool_calls>"}, TAGS("｜DSML｜", "invoke", "parameter"),
     .calls_in_thinking = true},
    {.name = "deepseek", .detect = {"<｜tool▁calls▁begin｜>"}, THINK,
     .section_start = {"<｜tool▁calls▁begin｜>", "<｜tool_calls_begin｜>"}, .section_end = {"<｜tool▁calls▁end｜>"},
     .call_start = {"<｜tool▁call▁begin｜>"}, .call_end = {"<｜tool▁call▁end｜>"}, .syntax = CALL_NAMED,
     .name_split = {"<｜tool▁sep｜>", "\n"}, .kind_first = true, .calls_in_thinking = true, .control = true,
     .drop = {"<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>", "<｜tool▁output▁begin｜>", "<｜tool▁output▁end｜>"}},
    {.name = "deepseek-r1", .detect = {"<｜Assistant｜>"}, THINK, .section_start = {"<｜tool▁calls▁begin｜>"},
     .section_end = {"<｜tool▁calls▁end｜>"}, .call_start = {"<｜tool▁call▁begin｜>"},
     .call_end = {"<｜tool▁call▁end｜>"}, .syntax = CALL_NAMED, .name_split = {"<｜tool▁sep｜>", "\n"},
     .kind_first = true, .calls_in_thinking = true, .control = true},
    {.name = "kimi", .detect = {"<|tool_calls_section_begin|>"}, THINK,
     .section_start = {"<|tool_calls_section_begin|>", "<|tool_call_section_begin|>"},
     .section_end = {"<|tool_calls_section_end|>", "<|tool_call_section_end|>"}, .call_start = {"<|tool_call_begin|>"},
     .call_end = {"<|tool_call_end|>"}, .syntax = CALL_NAMED, .name_split = {"<|tool_call_argument_begin|>"},
     .name_strip = {"functions."}, .id_is_head = true, .calls_in_thinking = true, .control = true},
    {.name = "kimi", .detect = {"<|im_middle|>"}, THINK, .section_start = {"<|tool_calls_section_begin|>"},
     .section_end = {"<|tool_calls_section_end|>"}, .call_start = {"<|tool_call_begin|>"},
     .call_end = {"<|tool_call_end|>"}, .syntax = CALL_NAMED, .name_split = {"<|tool_call_argument_begin|>"},
     .name_strip = {"functions."}, .id_is_head = true, .calls_in_thinking = true, .control = true},
    {.name = "minimax", .detect = {"<minimax:tool_call>"}, THINK, .section_start = {"<minimax:tool_call>"},
     .section_end = {"</minimax:tool_call>"}, TAGS("", "invoke", "parameter"), .calls_in_thinking = true},
    {.name = "seed", .detect = {"seed:tool_call"}, .think_start = {"<seed:think>"}, .think_end = {"</seed:think>"},
     .call_start = {"<seed:tool_call>"}, .call_end = {"</seed:tool_call>"}, FUNCTION_TAGS, .calls_in_thinking = true},
    {.name = "hunyuan", .detect = {"hy_Assistant"}, .think_start = {"<think:opensource>", "<think>"},
     .think_end = {"</think:opensource>", "</think>"}, .section_start = {"<tool_calls:opensource>", "<tool_calls>"},
     .section_end = {"</tool_calls:opensource>", "</tool_calls>"},
     .call_start = {"<tool_call:opensource>", "<tool_call>"}, .call_end = {"</tool_call:opensource>", "</tool_call>"},
     .syntax = CALL_KEYED, .par_open = {"<arg_key:opensource>"}, .par_head_end = "</arg_key:opensource>",
     .val_open = "<arg_value:opensource>", .par_close = {"</arg_value:opensource>"},
     .par_stop = {"<arg_key:opensource>", "</tool_call:opensource>"}, .drop = {"<tool_sep:opensource>"},
     .calls_in_thinking = true},
    {.name = "glm", .detect = {"<arg_key>"}, THINK, HERMES_CALLS, .syntax = CALL_KEYED, .par_open = {"<arg_key>"},
     .par_head_end = "</arg_key>", .val_open = "<arg_value>", .par_close = {"</arg_value>"},
     .par_stop = {"<arg_key>", "</tool_call>"}, .calls_in_thinking = true},
    {.name = "qwen3-coder", .detect = {"<function=", "<parameter="}, THINK, HERMES_CALLS, FUNCTION_TAGS,
     .calls_in_thinking = true},
    {.name = "minicpm5", .detect = {"<function name=", "<param name="}, THINK, TAGS("", "function", "param"),
     .calls_in_thinking = true},
    {.name = "functionary-v3.2", .detect = {">>>all"}, .header = HEADER_NAME_LINE},
    {.name = "functionary-v3.1", .detect = {"<function="}, .fn_open = {"<function="}, .fn_close = {"</function>"},
     .par_head_end = ">"},
    {.name = "lfm2", .detect = {"<|tool_call_start|>"}, THINK, .call_start = {"<|tool_call_start|>"},
     .call_end = {"<|tool_call_end|>"}, .syntax = CALL_PYTHON, .control = true},
    {.name = "lfm2", .detect = {"<|tool_list_start|>"}, THINK, .call_start = {"<|tool_call_start|>"},
     .call_end = {"<|tool_call_end|>"}, .syntax = CALL_PYTHON, .control = true},
    {.name = "lfm2", .detect = {"List of tools: "}, THINK, .call_start = {"<|tool_call_start|>"},
     .call_end = {"<|tool_call_end|>"}, .syntax = CALL_PYTHON, .control = true},
    {.name = "olmo3", .detect = {"<function_calls>"}, THINK, .call_start = {"<function_calls>"},
     .call_end = {"</function_calls>"}, .syntax = CALL_PYTHON},
    {.name = "mistral", .detect = {"[TOOL_CALLS]"}, .think_start = {"[THINK]"}, .think_end = {"[/THINK]"},
     .call_start = {"[TOOL_CALLS]"}, .syntax = CALL_NAMED, .name_split = {"[CALL_ID]", "[ARGS]"},
     .id_mark = "[CALL_ID]", .control = true},
    {.name = "nemotron-v2", .detect = {"<TOOLCALL>"}, THINK, .call_start = {"<TOOLCALL>"}, .call_end = {"</TOOLCALL>"},
     .drop = {"<SPECIAL_12>", "<SPECIAL_11>Assistant"}, .calls_in_thinking = true},
    {.name = "cohere", .detect = {"<|START_ACTION|>"}, .think_start = {"<|START_THINKING|>"},
     .think_end = {"<|END_THINKING|>"}, .call_start = {"<|START_ACTION|>"}, .call_end = {"<|END_ACTION|>"},
     .drop = {"<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>", "<|END_OF_TURN_TOKEN|>",
              "<|START_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>"},
     .think_anywhere = true, .control = true},
    {.name = "command-r", .detect = {"Action:", "<|CHATBOT_TOKEN|>"}, .call_start = {"Action:"}},
    {.name = "gigachat", .detect = {"<|function_call|>"}, .call_start = {"<|function_call|>"},
     .drop = {"<|message_sep|>"}, .control = true},
    {.name = "gigachat", .detect = {"<|message_sep|>"}, .call_start = {"<|function_call|>"},
     .drop = {"<|message_sep|>"}, .control = true},
    {.name = "apertus", .detect = {"<|tools_prefix|>"}, .call_start = {"<|tools_prefix|>"},
     .call_end = {"<|tools_suffix|>"}, .json_key_is_name = true, .control = true},
    {.name = "apriel", .detect = {"<tool_calls>"}, .think_start = {"<think>", "<thinking>"},
     .think_end = {"[BEGIN FINAL RESPONSE]", "</think>", "</thinking>"}, .call_start = {"<tool_calls>"},
     .call_end = {"</tool_calls>"}, .drop = {"[END FINAL RESPONSE]", "<|end|>"}, .calls_in_thinking = true},
    {.name = "firefunction", .detect = {"functools"}, .call_start = {"functools"}},
    {.name = "cogito", .detect = {"<|start_header_id|>", "enable_thinking"}, THINK, HERMES_CALLS, .bare_json = true,
     .calls_in_thinking = true},
    {.name = "llama3", .detect = {"<|start_header_id|>", "\"parameters\""}, .call_start = {"<|python_tag|>"},
     .bare_json = true},
    {.name = "hermes", .detect = {"<tool_call>"}, THINK, HERMES_CALLS, .calls_in_thinking = true,
     .fn_open = {"<function="}, .fn_close = {"</function>"}, .par_open = {"<parameter="}, .par_head_end = ">",
     .par_close = {"</parameter>"}},
    {.name = "llama3", .detect = {"<|start_header_id|>"}, .call_start = {"<|python_tag|>"}, .bare_json = true},
    {.name = "granite", .detect = {"<|start_of_role|>"}, THINK,
     .call_start = {"<tool_call>", "<|tool_call|>"}, .call_end = {"</tool_call>"}},
    /* Reasoning only where the prompt has opened it: <think> in the text is text. */
    {.name = "qwen3-vl", .detect = {"<|vision_start|>", "<tool_call>"}, .think_end = {"</think>"}, HERMES_CALLS,
     .calls_in_thinking = true},
    {.name = "default", .detect = {""}, THINK, HERMES_CALLS, .calls_in_thinking = true},
};
#define N_ROWS (sizeof dialect_rows / sizeof *dialect_rows)

const struct dialect *dialect_at(size_t i)
{
    return i < N_ROWS ? &dialect_rows[i] : NULL;
}

const char *dialect_name(const struct dialect *d)
{
    return d->name;
}

const struct dialect *dialect_find(struct str name)
{
    for (size_t i = 0; i < N_ROWS; i++)
        if (str_eq_nocase(str_from(dialect_rows[i].name), name)) return &dialect_rows[i];
    return NULL;
}

const struct dialect *dialect_detect(struct str template_text)
{
    for (size_t i = 0; i < N_ROWS; i++) {
        bool all = true;
        for (size_t k = 0; k < ROW_WORDS && dialect_rows[i].detect[k] && all; k++)
            all = str_find(template_text, str_from(dialect_rows[i].detect[k]), 0) >= 0;
        if (all) return &dialect_rows[i];
    }
    return &dialect_rows[N_ROWS - 1];
}

void dialect_traits_get(const struct dialect *d, struct dialect_traits *out)
{
    memset(out, 0, sizeof *out);
    out->thinks = d->think_end[0] || d->header == HEADER_HARMONY || d->header == HEADER_RECIPIENT;
    out->think_start = str_from(d->think_start[0]);
    out->think_end = str_from(d->think_end[0]);
    out->calls_are_control = d->control;
    if (d->header || d->bare_json) return;
    const char *start = d->section_start[0] ? d->section_start[0] : d->call_start[0];
    if (!d->section_start[0] || !d->call_start[0]) out->call_start = str_from(start);
    if (!start && d->fn_open[0]) out->call_start = str_from(d->fn_open[0]);
}
