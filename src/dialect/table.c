/* table: one row per way of writing calls and reasoning. The order is that of detection: the first row of which all
 * `detect` words stand in the template is taken, so the more special ones come first. To add a dialect, add a row. */
#include <string.h>

#include "dialect/dialect_internal.h"

#define THINK .think_start = {"<think>"}, .think_end = {"</think>"}
#define TAGS(prefix, fn, par)                                                                                     \
    .fn_open = {"<" prefix fn " name="}, .fn_close = {"</" prefix fn ">"}, .par_open = {"<" prefix par " name="}, \
    .par_head_end = ">", .par_close = {"</" prefix par ">"},                                                      \
    .par_stop = {"\n<" prefix par " name=", "\n</" prefix fn ">\n", "</" prefix fn "></"}
#define FUNCTION_TAGS                                                                                    \
    .fn_open = {"<function=", "<function name="}, .fn_close = {"</function>"},                           \
    .par_open = {"<parameter=", "<parameter name="}, .par_head_end = ">", .par_close = {"</parameter>"}, \
    .par_stop = {"\n<parameter=", "\n</function>\n</", "\n</function></", "</function></tool_call>"}
#define HERMES_FORCED "<tool_call>\n{\"name\": \""
#define HERMES_CALLS .call_start = {"<tool_call>"}, .call_end = {"</tool_call>"}

const struct dialect dialect_rows[] = {
    {.name = "harmony",
     .forced = " to=functions.",
     .detect = {"<|channel|>", "<|message|>"},
     .think_start = {""},
     .analysis = {"<|channel|>analysis<|message|>", "<|end|>", "<|end|><|start|>assistant"},
     .analysis_fork = sizeof "<|channel|>" - 1,
     .header = HEADER_HARMONY,
     .control = true,
     .drop = {"<|constrain|>"}},
    {.name = "glimmer",
     .forced = " to=",
     .detect = {"atem:invoke", "<|message|>"},
     .section_start = {"<atem:function_calls>"},
     .section_end = {"</atem:function_calls>"},
     TAGS("atem:", "invoke", "parameter"),
     .analysis = {" to=self<|message|>", "<|eom|>", "<|eom|><|start|>assistant"},
     .analysis_fork = sizeof " to=" - 1,
     .header = HEADER_RECIPIENT,
     .control = true},
    {.name = "gemma4",
     .forced = "<|tool_call>call:",
     .detect = {"<|tool_call>"},
     .think_start = {"<|channel>thought", "<|channel>"},
     .think_end = {"<channel|>"},
     .call_start = {"<|tool_call>"},
     .call_end = {"<tool_call|>"},
     .syntax = CALL_NAMED,
     .name_strip = {"call:"},
     .quote = "<|\"|>",
     .drop = {"<|turn>model", "<turn|>", "<|tool_response>"},
     .think_anywhere = true,
     .control = true},
    {.name = "functiongemma",
     .forced = "<start_function_call>call:",
     .detect = {"<start_function_call>"},
     .call_start = {"<start_function_call>"},
     .call_end = {"<end_function_call>"},
     .syntax = CALL_NAMED,
     .name_strip = {"call:"},
     .quote = "<escape>",
     .control = true},
    {.name = "deepseek-dsml",
     .detect = {"｜DSML｜"},
     THINK,
     .section_start = {"<｜DSML｜function_calls>", "<｜DSML｜tool_calls>"},
     .section_end = {"</｜DSML｜function_calls>", "</｜DSML｜tool_calls>"},
     TAGS("｜DSML｜", "invoke", "parameter"),
     .calls_in_thinking = true,
     .typed_tags = true},
    {.name = "deepseek",
     .forced = "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>",
     .detect = {"<｜tool▁calls▁begin｜>"},
     .also = {"<｜Assistant｜>"},
     THINK,
     .section_start = {"<｜tool▁calls▁begin｜>", "<｜tool_calls_begin｜>"},
     .section_end = {"<｜tool▁calls▁end｜>"},
     .call_start = {"<｜tool▁call▁begin｜>"},
     .call_end = {"<｜tool▁call▁end｜>"},
     .syntax = CALL_NAMED,
     .name_split = {"<｜tool▁sep｜>", "\n"},
     .kind_first = true,
     .calls_in_thinking = true,
     .control = true,
     .drop = {"<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>", "<｜tool▁output▁begin｜>",
              "<｜tool▁output▁end｜>"}},
    {.name = "kimi",
     .forced = "<|tool_calls_section_begin|><|tool_call_begin|>functions.",
     .detect = {"<|tool_calls_section_begin|>"},
     .also = {"<|im_middle|>"},
     THINK,
     .section_start = {"<|tool_calls_section_begin|>", "<|tool_call_section_begin|>"},
     .section_end = {"<|tool_calls_section_end|>", "<|tool_call_section_end|>"},
     .call_start = {"<|tool_call_begin|>"},
     .call_end = {"<|tool_call_end|>"},
     .syntax = CALL_NAMED,
     .name_split = {"<|tool_call_argument_begin|>"},
     .name_strip = {"functions."},
     .id_is_head = true,
     .calls_in_thinking = true,
     .control = true},
    {.name = "minimax",
     .forced = "<minimax:tool_call>\n<invoke name=\"",
     .detect = {"<minimax:tool_call>"},
     THINK,
     .section_start = {"<minimax:tool_call>"},
     .section_end = {"</minimax:tool_call>"},
     TAGS("", "invoke", "parameter"),
     .calls_in_thinking = true},
    {.name = "seed",
     .forced = "<seed:tool_call>\n<function=",
     .detect = {"seed:tool_call"},
     .think_start = {"<seed:think>"},
     .think_end = {"</seed:think>"},
     .call_start = {"<seed:tool_call>"},
     .call_end = {"</seed:tool_call>"},
     FUNCTION_TAGS,
     .calls_in_thinking = true},
    {.name = "hunyuan",
     .forced = "<tool_calls:opensource>\n<tool_call:opensource>",
     .detect = {"hy_Assistant"},
     .think_start = {"<think:opensource>", "<think>"},
     .think_end = {"</think:opensource>", "</think>"},
     .section_start = {"<tool_calls:opensource>", "<tool_calls>"},
     .section_end = {"</tool_calls:opensource>", "</tool_calls>"},
     .call_start = {"<tool_call:opensource>", "<tool_call>"},
     .call_end = {"</tool_call:opensource>", "</tool_call>"},
     .syntax = CALL_KEYED,
     .par_open = {"<arg_key:opensource>"},
     .par_head_end = "</arg_key:opensource>",
     .val_open = "<arg_value:opensource>",
     .par_close = {"</arg_value:opensource>"},
     .par_stop = {"<arg_key:opensource>", "</tool_call:opensource>"},
     .drop = {"<tool_sep:opensource>"},
     .calls_in_thinking = true},
    {.name = "glm",
     .forced = "<tool_call>",
     .detect = {"<arg_key>"},
     THINK,
     HERMES_CALLS,
     .syntax = CALL_KEYED,
     .par_open = {"<arg_key>"},
     .par_head_end = "</arg_key>",
     .val_open = "<arg_value>",
     .par_close = {"</arg_value>"},
     .par_stop = {"<arg_key>", "</tool_call>"},
     .calls_in_thinking = true},
    {.name = "qwen3-coder",
     .forced = "<tool_call>\n<function=",
     .detect = {"<function=", "<parameter="},
     THINK,
     HERMES_CALLS,
     FUNCTION_TAGS,
     .calls_in_thinking = true,
     .newlines = true},
    {.name = "minicpm5",
     .forced = "<function name=\"",
     .detect = {"<function name=", "<param name="},
     THINK,
     TAGS("", "function", "param"),
     .calls_in_thinking = true},
    {.name = "functionary-v3.2", .detect = {">>>all"}, .header = HEADER_NAME_LINE},
    {.name = "functionary-v3.1",
     .forced = "<function=",
     .detect = {"<function="},
     .fn_open = {"<function="},
     .fn_close = {"</function>"},
     .par_head_end = ">"},
    {.name = "lfm2",
     .forced = "<|tool_call_start|>[",
     .detect = {"<|tool_call_start|>"},
     .also = {"<|tool_list_start|>", "List of tools: "},
     THINK,
     .call_start = {"<|tool_call_start|>"},
     .call_end = {"<|tool_call_end|>"},
     .syntax = CALL_PYTHON,
     .control = true,
     .list = LIST_ALWAYS},
    {.name = "olmo3",
     .forced = "<function_calls>",
     .detect = {"<function_calls>"},
     THINK,
     .call_start = {"<function_calls>"},
     .call_end = {"</function_calls>"},
     .syntax = CALL_PYTHON},
    {.name = "mistral",
     .forced = "[TOOL_CALLS]",
     .detect = {"[TOOL_CALLS]"},
     .think_start = {"[THINK]"},
     .think_end = {"[/THINK]"},
     .call_start = {"[TOOL_CALLS]"},
     .syntax = CALL_NAMED,
     .name_split = {"[CALL_ID]", "[ARGS]"},
     .id_mark = "[CALL_ID]",
     .control = true,
     .list = LIST_ALLOWED,
     .id_last = "id",
     .id_first = "id"},
    {.name = "nemotron-v2",
     .forced = "<TOOLCALL>[{\"name\": \"",
     .detect = {"<TOOLCALL>"},
     THINK,
     .call_start = {"<TOOLCALL>"},
     .call_end = {"</TOOLCALL>"},
     .drop = {"<SPECIAL_12>", "<SPECIAL_11>Assistant"},
     .calls_in_thinking = true,
     .list = LIST_ALWAYS},
    {.name = "cohere",
     .detect = {"<|START_ACTION|>"},
     .think_start = {"<|START_THINKING|>"},
     .think_end = {"<|END_THINKING|>"},
     .call_start = {"<|START_ACTION|>"},
     .call_end = {"<|END_ACTION|>"},
     .drop = {"<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>", "<|END_OF_TURN_TOKEN|>",
              "<|START_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>"},
     .think_anywhere = true,
     .control = true,
     .name_key = "tool_name",
     .args_key = "parameters",
     .id_first = "tool_call_id",
     .list = LIST_ALWAYS},
    {.name = "command-r",
     .detect = {"Action:", "<|CHATBOT_TOKEN|>"},
     .call_start = {"Action:"},
     .drop = {"<|CHATBOT_TOKEN|>", "<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"},
     .name_key = "tool_name",
     .args_key = "parameters",
     .list = LIST_ALWAYS},
    {.name = "gigachat",
     .forced = "<|function_call|>{\"name\": \"",
     .detect = {"<|function_call|>"},
     .also = {"<|message_sep|>"},
     .call_start = {"<|function_call|>"},
     .drop = {"<|message_sep|>"},
     .control = true},
    {.name = "apertus",
     .forced = "<|tools_prefix|>[{\"",
     .detect = {"<|tools_prefix|>"},
     .call_start = {"<|tools_prefix|>"},
     .call_end = {"<|tools_suffix|>"},
     .json_key_is_name = true,
     .control = true,
     .list = LIST_ALWAYS},
    {.name = "apriel",
     .forced = "<tool_calls>[{\"name\": \"",
     .detect = {"<tool_calls>"},
     .opening_is_text = true,
     .think_start = {"Here are my reasoning steps:", "<think>", "<thinking>"},
     .think_end = {"[BEGIN FINAL RESPONSE]", "</think>", "</thinking>"},
     .call_start = {"<tool_calls>"},
     .call_end = {"</tool_calls>"},
     .drop = {"[END FINAL RESPONSE]", "<|end|>"},
     .calls_in_thinking = true,
     .id_last = "id",
     .list = LIST_ALWAYS},
    {.name = "firefunction",
     .forced = " functools[{\"name\": \"",
     .detect = {"functools"},
     .call_start = {"functools"},
     .id_last = "id",
     .list = LIST_ALWAYS},
    {.name = "cogito",
     .forced = "[{\"name\": \"",
     .detect = {"<|start_header_id|>", "enable_thinking"},
     THINK,
     HERMES_CALLS,
     .bare_json = true,
     .calls_in_thinking = true,
     .list = LIST_ALLOWED,
     .id_last = "id"},
    {.name = "hermes",
     .forced = HERMES_FORCED,
     .detect = {"<tool_call>"},
     THINK,
     HERMES_CALLS,
     .calls_in_thinking = true,
     .writes_json = true,
     .fn_open = {"<function="},
     .fn_close = {"</function>"},
     .par_open = {"<parameter="},
     .par_head_end = ">",
     .par_close = {"</parameter>"},
     .args_may_lead = true},
    {.name = "llama3",
     .forced = "{\"name\": \"",
     .detect = {"<|start_header_id|>"},
     .call_start = {"<|python_tag|>"},
     .fn_open = {"<function="},
     .fn_close = {"</function>"},
     .par_head_end = ">",
     .bare_json = true,
     .args_key = "parameters"},
    {.name = "granite",
     .forced = HERMES_FORCED,
     .detect = {"<|start_of_role|>"},
     THINK,
     .call_start = {"<tool_call>", "<|tool_call|>"},
     .call_end = {"</tool_call>"},
     .list = LIST_ALLOWED},
    /* By name only. Reasoning only where the prompt has opened it: <think> in the text is text. */
    {.name = "qwen3-vl",
     .detect = {"<tool_call>", "<|vision_start|>"},
     .think_end = {"</think>"},
     HERMES_CALLS,
     .forced = HERMES_FORCED,
     .calls_in_thinking = true},
    {.name = "default", .forced = HERMES_FORCED, .detect = {""}, THINK, HERMES_CALLS, .calls_in_thinking = true},
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
        for (size_t k = 0; k < ROW_WORDS && dialect_rows[i].also[k] && !all; k++)
            all = str_find(template_text, str_from(dialect_rows[i].also[k]), 0) >= 0;
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
    out->opening_is_text = d->opening_is_text;
    out->call_start = str_from(d->forced);
    out->section_start = str_from(d->analysis[0]);
    out->section_end = str_from(d->analysis[1]);
    out->section_close = str_from(d->analysis[2]);
    out->section_fork = d->analysis_fork;
    if (!d->calls_in_thinking) return;
    out->calls_in_thinking[0] = str_from(d->section_start[0]);
    out->calls_in_thinking[1] = str_from(d->call_start[0]);
    out->calls_in_thinking[2] = str_from(d->fn_open[0]);
}
