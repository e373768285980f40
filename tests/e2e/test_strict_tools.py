"""Calls that decoding enforces: tool_choice, strict tools, one call at most, calls or JSON; against a real small model that
would rather do anything else, and against a scripted one that is made to."""
import json

import anthropic
import pytest

WEATHER = {"name": "get_weather", "description": "The weather of a city.", "input_schema": {
    "type": "object", "properties": {"city": {"enum": ["Oslo", "Rome", "Lima"]}, "days": {"type": "integer", "minimum": 1,
                                                                                         "maximum": 7}},
    "required": ["city", "days"], "additionalProperties": False}}
LIGHT = {"name": "set_light", "description": "Switches a lamp.", "input_schema": {
    "type": "object", "properties": {"on": {"type": "boolean"}, "colour": {"type": "string", "enum": ["red", "green"]}},
    "required": ["on"], "additionalProperties": False}}
TOOLS = [WEATHER, LIGHT]


def check_call(call):
    if call.name == "get_weather":
        assert set(call.input) == {"city", "days"} and call.input["city"] in ("Oslo", "Rome", "Lima")
        assert 1 <= call.input["days"] <= 7 and isinstance(call.input["days"], int)
    else:
        assert call.name == "set_light" and isinstance(call.input["on"], bool)
        assert call.input.get("colour", "red") in ("red", "green") and set(call.input) <= {"on", "colour"}


@pytest.fixture
def ask(client):
    def create(text="Tell me a story about the sea.", **more):
        seed = more.pop("seed", 5)
        return client.messages.create(**{"model": "m", "max_tokens": 300, "tools": TOOLS, "messages": [
            {"role": "user", "content": text}], "extra_body": {"temperature": 1.0, "seed": seed}, **more})
    create.client = client
    return create


def calls(message):
    return [b for b in message.content if b.type == "tool_use"]


@pytest.mark.parametrize("seed", range(4))
def test_any_is_a_valid_call(ask, seed):
    m = ask(tool_choice={"type": "any", "disable_parallel_tool_use": True}, seed=seed)
    assert m.stop_reason == "tool_use" and [b.type for b in m.content] == ["tool_use"]
    check_call(m.content[0])


@pytest.mark.parametrize("name", ["get_weather", "set_light"])
def test_a_named_tool_is_called(ask, name):
    m = ask(tool_choice={"type": "tool", "name": name, "disable_parallel_tool_use": True})
    assert m.stop_reason == "tool_use" and [b.name for b in calls(m)] == [name]
    check_call(m.content[0])


def test_several_calls_are_each_valid(ask):
    m = ask(tool_choice={"type": "any"}, max_tokens=200)
    assert calls(m) and (m.stop_reason == "max_tokens" or all(b.type == "tool_use" for b in m.content))
    for call in calls(m)[:-1] if m.stop_reason == "max_tokens" else calls(m):
        check_call(call)


def test_none_is_never_a_call(ask):
    m = ask("Use get_weather for Oslo.", tool_choice={"type": "none"}, max_tokens=60)
    assert not calls(m)


def test_a_strict_tool_left_to_the_model(ask):
    for seed in range(3):
        m = ask("Call get_weather for Rome, 3 days.", tools=[{**t, "strict": True} for t in TOOLS], max_tokens=120, seed=seed)
        for call in calls(m)[:-1] if m.stop_reason == "max_tokens" else calls(m):
            check_call(call)


LOOKAHEAD = {"type": "object", "properties": {"code": {"type": "string", "pattern": "^(?=.*x)[a-z]+$"}}, "required": ["code"]}


def test_a_strict_tool_that_cannot_be_enforced_is_refused_by_name(ask):
    odd = {"name": "odd", "input_schema": LOOKAHEAD, "strict": True}
    for choice in ("auto", "any"):
        with pytest.raises(anthropic.BadRequestError) as caught:
            ask(tools=[WEATHER, odd], tool_choice={"type": choice})
        assert "tools.1.input_schema.properties.code.pattern" in str(caught.value)


def test_a_tool_that_is_not_strict_is_widened(ask):
    m = ask(tools=[{"name": "odd", "input_schema": LOOKAHEAD}], max_tokens=80,
            tool_choice={"type": "tool", "name": "odd", "disable_parallel_tool_use": True})
    assert [b.name for b in calls(m)] == ["odd"]
    if m.stop_reason == "tool_use":
        assert isinstance(m.content[0].input["code"], str)


@pytest.mark.parametrize("schema", [{}, {"type": "object"}, {"type": "string"}, {"$ref": "#/nowhere"},
                                    {"type": "object", "properties": {"a": {"not": {}}}, "required": ["a"]},
                                    {"type": "object", "properties": {"a": {"$ref": "https://example.com/x.json"}}}])
def test_no_tool_list_fails_a_request(ask, schema):
    for choice in ({"type": "auto"}, {"type": "any"}):
        m = ask(tools=[WEATHER, {"name": "strange", "input_schema": schema}], tool_choice=choice, max_tokens=30)
        assert m.stop_reason in ("tool_use", "max_tokens", "end_turn")


def test_json_or_a_call(ask):
    form = {"type": "json_schema", "schema": {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
                                              "additionalProperties": False}}
    for seed in range(3):
        m = ask(output_config={"format": form}, seed=seed)
        kinds = {b.type for b in m.content}
        assert kinds in ({"text"}, {"tool_use"}) or m.stop_reason == "max_tokens"  # the call that was cut is text
        if kinds == {"text"}:
            assert set(json.loads(m.content[0].text)) == {"ok"} and len(m.content) == 1
        elif m.stop_reason == "tool_use":
            for call in calls(m):
                check_call(call)


def test_the_stream_of_a_forced_call_is_valid(ask):
    with ask.client.messages.stream(model="m", max_tokens=200, tools=TOOLS, messages=[{"role": "user", "content": "Hi"}],
                                    tool_choice={"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}) as s:
        final = s.get_final_message()
    check_call(calls(final)[0])
