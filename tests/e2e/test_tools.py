"""Tools and thinking through the official SDK: a real program, a model that answers with known texts.

The scripted model (tools/scripted.py) answers with the text of the marker that it saw last, so every step of a tool loop is
known beforehand; what is tested is everything around it: rendering, parsing, ids, stop reasons, reuse of the prompt.
"""
import json
import os

import anthropic
import pytest

from harness import SLOW, TOOLS_TEMPLATE, Server, scripted_model

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}\n</tool_call>'
OTHER = '<tool_call>\n{"name": "get_time", "arguments": {"zone": "Europe/Paris"}}\n</tool_call>'
SCRIPTS = {
    "": "There is nothing to say about this.",
    "[[call]]": CALL,
    "[[two]]": OTHER + "\n" + CALL.replace("Oslo", "Rome"),
    "[[talk]]": "Let me look that up.\n" + CALL.replace("Oslo", "Bergen"),
    "[[think]]": "<think>\nThe user wants the weather, so I look.\n</think>\n\n" + CALL.replace("Oslo", "Paris"),
    "[[odd]]": '<tool_call>\n{"name":"get_weather","arguments":{"days":1e1,"city":"K\\u00f8ge"}}\n</tool_call>',
    "[[bad]]": '<tool_call>\nthis is no JSON, {"name" it is not\n</tool_call>',
    "[[rest]]": '{"zone": "UTC"}}\n</tool_call>',
    "[[done]]": "It is three degrees below zero and it snows.",
}
TOOLS = [
    {"name": "get_weather", "description": "The weather of a city in the next days.", "input_schema": {
        "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}},
    {"name": "get_time", "description": "The time in a zone.", "input_schema": {
        "type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]},
     "cache_control": {"type": "ephemeral"}},
]
RESULT = "-3 degrees, snow [[done]]"


def serve(folder, template, monkey_home):
    return Server(scripted_model(folder, SCRIPTS, template=template), env={**os.environ, "XDG_STATE_HOME": str(monkey_home)})


@pytest.fixture(scope="module", params=["template with tools", "template without tools"])
def tool_server(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripted")
    s = serve(folder, TOOLS_TEMPLATE if request.param == "template with tools" else None, folder / "state")
    s.shows_tools = request.param == "template with tools"
    s.folder = folder
    yield s
    assert s.stop() == 0, s.output()[-3000:]


@pytest.fixture
def ask(tool_server):
    client = anthropic.Anthropic(base_url=tool_server.url, api_key="dummy", max_retries=0, timeout=60 * SLOW)

    def create(messages, **more):
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return client.messages.create(**{"model": "m", "max_tokens": 400, "tools": TOOLS, "messages": messages, **more})
    create.client = client
    return create


def calls(message):
    return [b for b in message.content if b.type == "tool_use"]


def text(message):
    return "".join(b.text for b in message.content if b.type == "text")


def turn(message):
    """The answer as clients send it back."""
    return {"role": "assistant", "content": [b.model_dump() for b in message.content]}


def results(message, content=RESULT, **more):
    return {"role": "user", "content": [{"type": "tool_result", "tool_use_id": b.id, "content": content, **more}
                                        for b in calls(message)]}


def test_a_call(ask):
    m = ask("What is the weather in Oslo? [[call]]")
    assert m.stop_reason == "tool_use" and m.stop_sequence is None
    assert [b.type for b in m.content] == ["tool_use"]
    call = m.content[0]
    assert (call.name, call.input) == ("get_weather", {"city": "Oslo", "days": 3})
    assert call.id.startswith("toolu_") and len(call.id) == 30


def test_ids_are_unique(ask):
    ids = {calls(ask("[[call]]"))[0].id for _ in range(4)}
    assert len(ids) == 4


def test_parallel_calls_keep_their_order(ask):
    m = ask("Time in Paris and weather in Rome? [[two]]")
    assert m.stop_reason == "tool_use"
    assert [(c.name, c.input) for c in calls(m)] == [
        ("get_time", {"zone": "Europe/Paris"}), ("get_weather", {"city": "Rome", "days": 3})]
    assert len({c.id for c in calls(m)}) == 2


def test_parallel_calls_can_be_switched_off(ask):
    m = ask("[[two]]", tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    assert m.stop_reason == "tool_use" and [c.name for c in calls(m)] == ["get_time"]


def test_text_before_a_call(ask):
    m = ask("And Bergen? [[talk]]")
    assert m.stop_reason == "tool_use"
    assert text(m).strip() == "Let me look that up." and calls(m)[0].input["city"] == "Bergen"


def test_the_result_reaches_the_model(ask):
    question = [{"role": "user", "content": "Weather in Oslo? [[call]]"}]
    m = ask(question)
    for content in (RESULT, [{"type": "text", "text": "snow"}, {"type": "text", "text": RESULT}]):
        after = ask(question + [turn(m), results(m, content)])
        assert after.stop_reason == "end_turn" and text(after) == SCRIPTS["[[done]]"]


def test_results_of_parallel_calls(ask):
    question = [{"role": "user", "content": "[[two]]"}]
    m = ask(question)
    back = results(m)
    back["content"].append({"type": "text", "text": "Go on."})
    assert text(ask(question + [turn(m), back])) == SCRIPTS["[[done]]"]


def test_errors_and_empty_results_are_taken(ask):
    question = [{"role": "user", "content": "[[call]]"}]
    m = ask(question)
    failed = ask(question + [turn(m), results(m, "no such city [[done]]", is_error=True)])
    assert text(failed) == SCRIPTS["[[done]]"]
    plain = ask.client.messages.count_tokens(model="m", tools=TOOLS, messages=question + [turn(m), results(m, "x y z")])
    marked = ask.client.messages.count_tokens(model="m", tools=TOOLS, messages=question + [
        turn(m), results(m, "x y z", is_error=True)])
    assert marked.input_tokens > plain.input_tokens
    nothing = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": calls(m)[0].id}]}
    assert ask(question + [turn(m), nothing]).stop_reason == "tool_use"


def test_the_whole_prompt_is_reused_in_a_tool_loop(ask):
    messages = [{"role": "user", "content": "A long question about the weather. " * 40 + "[[odd]]"}]
    for content in ("nothing yet [[call]]", "still nothing [[talk]]", RESULT):
        m = ask(messages)
        before = m.usage.input_tokens + m.usage.cache_read_input_tokens
        messages += [turn(m), results(m, content)]
        # What the SDK sends back has been through json.loads and model_dump: 1e1 is 10.0 now, keys are escaped otherwise.
        after = ask(messages, max_tokens=1).usage
        assert after.cache_read_input_tokens >= before - 1, (before, after)


def test_a_changed_call_is_rendered_as_it_was_sent(ask):
    question = [{"role": "user", "content": "[[call]]"}]
    m = ask(question)
    count = ask.client.messages.count_tokens
    same = count(model="m", tools=TOOLS, messages=question + [turn(m), results(m)]).input_tokens
    changed = turn(m)
    changed["content"][0]["input"] = {"city": "Oslo and all the villages around it, as far as one can see", "days": 3}
    assert count(model="m", tools=TOOLS, messages=question + [changed, results(m)]).input_tokens > same


def test_thinking_then_a_call(ask, tool_server):
    m = ask("Weather in Paris? [[think]]", thinking={"type": "enabled", "budget_tokens": 1024})
    assert [b.type for b in m.content] == ["thinking", "tool_use"]
    assert m.content[0].thinking.strip() == "The user wants the weather, so I look."
    assert len(m.content[0].signature) == 44 and m.stop_reason == "tool_use"
    key = tool_server.folder / "state" / "parley" / "key"
    assert key.stat().st_size == 32 and key.stat().st_mode & 0o777 == 0o600
    question = [{"role": "user", "content": "Weather in Paris? [[think]]"}]
    after = ask(question + [turn(m), results(m)], thinking={"type": "adaptive"})
    assert text(after) == SCRIPTS["[[done]]"]


def test_thinking_is_counted(ask):
    m = ask("[[think]]", thinking={"type": "adaptive"})
    raw = m.usage.model_dump()["output_tokens_details"]["thinking_tokens"]
    assert 0 < raw < m.usage.output_tokens


def test_thinking_that_is_off_is_not_shown(ask):
    m = ask("[[think]]", thinking={"type": "disabled"})
    assert [b.type for b in m.content] == ["tool_use"]


def test_a_malformed_call_is_text(ask):
    m = ask("[[bad]]")
    assert m.stop_reason == "end_turn" and "this is no JSON" in text(m)


def test_input_is_streamed_as_json(ask):
    with ask.client.messages.stream(model="m", max_tokens=400, tools=TOOLS,
                                    messages=[{"role": "user", "content": "[[talk]]"}]) as stream:
        events = list(stream)
        final = stream.get_final_message()
    pieces = [e.delta.partial_json for e in events if e.type == "content_block_delta" and e.delta.type == "input_json_delta"]
    assert len([p for p in pieces if p]) > 1
    assert json.loads("".join(pieces)) == {"city": "Bergen", "days": 3} == calls(final)[0].input
    assert final.stop_reason == "tool_use"


def test_tool_runner(ask):
    @anthropic.beta_tool
    def get_weather(city: str, days: int = 1) -> str:
        """The weather of a city.

        Args:
            city: which one
            days: how many
        """
        return f"{city}, {days} days: {RESULT}"

    runner = ask.client.beta.messages.tool_runner(model="m", max_tokens=400, tools=[get_weather],
                                                  messages=[{"role": "user", "content": "[[call]]"}])
    said = list(runner)
    assert [m.stop_reason for m in said] == ["tool_use", "end_turn"]
    assert said[-1].content[0].text == SCRIPTS["[[done]]"]


def test_tools_can_be_hidden(ask):
    m = ask("[[call]]", tool_choice={"type": "none"})
    assert not calls(m) and m.stop_reason == "end_turn"
    count = ask.client.messages.count_tokens
    message = [{"role": "user", "content": "x"}]
    hidden = count(model="m", tools=TOOLS, messages=message, tool_choice={"type": "none"}).input_tokens
    assert hidden == count(model="m", messages=message).input_tokens < count(
        model="m", tools=TOOLS, messages=message).input_tokens


def test_deferred_tools_are_shown_where_they_are_referred_to(ask):
    count = ask.client.messages.count_tokens
    message = [{"role": "user", "content": "[[call]]"}]
    later = {"name": "fly", "description": "Fly to a place far away from here.", "defer_loading": True,
             "input_schema": {"type": "object", "properties": {"to": {"type": "string"}}}}
    assert count(model="m", tools=TOOLS, messages=message).input_tokens == count(
        model="m", tools=[TOOLS[0], later, TOOLS[1]], messages=message).input_tokens
    m = ask(message)
    reference = [{"type": "tool_reference", "tool_name": "fly"}]
    shown = count(model="m", tools=[*TOOLS, later], messages=message + [turn(m), results(m, reference)]).input_tokens
    assert shown > count(model="m", tools=TOOLS, messages=message + [turn(m), results(m, "fly")]).input_tokens + 20


def test_client_tools_of_the_api_have_schemas(ask):
    m = ask("[[call]]", tools=[*TOOLS, {"type": "bash_20250124", "name": "bash"},
                               {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool", "max_characters": 9},
                               {"type": "memory_20250818", "name": "memory"}])
    assert m.stop_reason == "tool_use"


@pytest.mark.parametrize("tool", ["web_search_20250305", "code_execution_20250825"])
def test_tools_of_the_server_are_refused_by_name(ask, tool):
    with pytest.raises(anthropic.BadRequestError, match=tool):
        ask("x", tools=[{"type": tool, "name": "web_search"}])


def test_missing_and_unknown_results_are_refused_in_the_api_s_words(ask):
    m = ask("[[call]]")
    with pytest.raises(anthropic.BadRequestError, match="`tool_use` ids were found without `tool_result` blocks immediately "
                                                        f"after: {calls(m)[0].id}"):
        ask([{"role": "user", "content": "[[call]]"}, turn(m), {"role": "user", "content": "Never mind."}])
    with pytest.raises(anthropic.BadRequestError, match="unexpected `tool_use_id` found in `tool_result` blocks: toolu_x"):
        ask([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_x", "content": "y"}]}])


def test_a_system_turn_behind_a_call_and_its_result(ask):
    question = [{"role": "user", "content": "[[call]]"}, {"role": "system", "content": "Be brief."}]
    m = ask(question)
    after = ask(question + [turn(m), results(m), {"role": "system", "content": "2000 tokens left"}])
    assert text(after) == SCRIPTS["[[done]]"]


def test_history_of_other_servers_never_fails(ask):
    m = ask([{"role": "user", "content": "x"}, {"role": "assistant", "content": [
        {"type": "thinking", "thinking": "hm", "signature": "EqQB+foreign"}, {"type": "redacted_thinking", "data": "zz"},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
        {"type": "text", "text": "Found it."}]}, {"role": "user", "content": "[[done]]"}])
    assert text(m) == SCRIPTS["[[done]]"]


def test_documents_of_text_are_read_and_others_named(ask):
    document = {"type": "document", "title": "Notes", "source": {
        "type": "text", "media_type": "text/plain", "data": "All is well. [[done]]"}}
    assert text(ask([{"role": "user", "content": [document]}])) == SCRIPTS["[[done]]"]
    question = [{"role": "user", "content": "[[call]]"}]
    m = ask(question)
    assert text(ask(question + [turn(m), results(m, [document])])) == SCRIPTS["[[done]]"]
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    with pytest.raises(anthropic.BadRequestError, match=r"messages\.2\.content\.0\.content\.0\.type.*image"):
        ask(question + [turn(m), results(m, [image])])


@pytest.mark.parametrize("choice, tools", [
    ({"type": "tool", "name": "get_time", "disable_parallel_tool_use": True}, TOOLS),
    ({"type": "any", "disable_parallel_tool_use": True}, TOOLS[1:])])
def test_a_forced_call_is_begun_for_the_model(ask, choice, tools):
    m = ask("[[rest]]", tool_choice=choice, tools=tools)  # the script is what comes behind the name: the arguments
    assert m.stop_reason == "tool_use" and [(c.name, c.input) for c in m.content] == [("get_time", {"zone": "UTC"})]
    back = ask([{"role": "user", "content": "[[rest]]"}, turn(m), results(m)], tools=tools)
    assert text(back) == SCRIPTS["[[done]]"]
