"""What the Python SDK builds on top of requests: parse, tool runners over several steps, threads, compaction, tools that are
added on the way, the memory tool. A model that answers with known texts; a recording proxy shows what went over the wire."""
import asyncio
import os
from typing import Literal

import anthropic
import pydantic
import pytest

import proxy
from harness import SLOW, Server, scripted_model


def call(text):
    return f"<tool_call>\n{text}\n</tool_call>"


SCRIPTS = {  # ranked: a later marker wins over an earlier one
    "": "There is nothing to say about this.",
    "[[plain]]": "Paris is the capital of France.",
    "[[again]]": "And Rome is that of Italy.",
    "[[view]]": call('{"name": "memory", "arguments": {"command": "view", "path": "/memories"}}'),
    "[[viewed]]": "The memory is empty.",
    "[[first]]": call('{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}'),
    "[[fails]]": call('{"name": "get_weather", "arguments": {"city": "Atlantis"}}'),
    "[[sunk]]": "That city is under the sea.",
    "[[second]]": call('{"name": "get_time", "arguments": {"zone": "UTC"}}'),
    "[[third]]": "It snows in Oslo at noon.",
    "[[sum]]": "Summary: the weather of Oslo was asked for, it snows; next comes the time. [[second]]",
}


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("helpers")
    s = Server(scripted_model(folder, SCRIPTS, "--context", "8192", "--ranked"), env={**os.environ, "XDG_STATE_HOME": str(folder)})
    yield s
    assert s.stop() == 0, s.output()[-3000:]


@pytest.fixture
def wire(scripted):
    between = proxy.Proxy(scripted.url)
    yield between
    between.stop()
    for e in between.exchanges:
        if e.complete and e.is_message and e.body.get("stream") and e.status == 200:
            assert e.message  # a legal stream


@pytest.fixture
def sdk(wire):
    return anthropic.Anthropic(base_url=wire.url, api_key="dummy", max_retries=0, timeout=60 * SLOW)


@anthropic.beta_tool
def get_weather(city: str, days: int = 1) -> str:
    """The weather of a city.

    Args:
        city: which one
        days: how many
    """
    if city == "Atlantis":
        raise ValueError("no such city [[sunk]]")
    return f"{city}, {days} days: snow [[second]]"


@anthropic.beta_tool
def get_time(zone: str) -> str:
    """The time in a zone.

    Args:
        zone: its name
    """
    return f"Noon in {zone} [[third]]"


BASE = {"model": "claude-opus-5-5", "max_tokens": 400}
STEPS = ["tool_use", "tool_use", "end_turn"]


def ask(content):
    return [{"role": "user", "content": content}]


def text(message):
    return "".join(b.text for b in message.content if b.type == "text")


def bodies(wire):
    return [e.body for e in wire.exchanges]


class Weather(pydantic.BaseModel):  # every way through it has an end: the model's own words have none
    city: Literal["Oslo", "Rome"]
    cold: bool


def test_parse(sdk):
    m = sdk.messages.parse(**BASE, messages=ask("[[plain]]"), output_format=Weather)
    assert isinstance(m.parsed_output, Weather) and m.stop_reason == "end_turn"


def test_stream_with_an_output_format(sdk):
    with sdk.messages.stream(**BASE, messages=ask("[[plain]]"), output_format=Weather) as stream:
        assert isinstance(stream.get_final_message().parsed_output, Weather)


def test_a_runner_sends_only_what_is_new(sdk, wire):
    said = list(sdk.beta.messages.tool_runner(**BASE, system="Be brief.", tools=[get_weather, get_time], messages=ask("[[first]]")))
    assert [m.stop_reason for m in said] == STEPS and text(said[-1]) == SCRIPTS["[[third]]"]
    assert [b["thread"]["type"] for b in bodies(wire)] == ["create", "continue", "continue"]
    for body in bodies(wire)[1:]:
        assert len(body["messages"]) == 1 and "tools" not in body and "system" not in body
    first, last = wire.exchanges[0], wire.exchanges[-1]
    assert last.prompt_tokens > first.prompt_tokens and last.cached_tokens >= first.prompt_tokens - 1


def test_a_runner_that_streams(sdk):
    runner = sdk.beta.messages.tool_runner(**BASE, stream=True, tools=[get_weather, get_time], messages=ask("[[first]]"))
    said = [stream.get_final_message() for stream in runner]
    assert [m.stop_reason for m in said] == STEPS and text(said[-1]) == SCRIPTS["[[third]]"]


def test_a_runner_without_threads_sends_everything(sdk, wire):
    runner = sdk.beta.messages.tool_runner(**BASE, thread=False, tools=[get_weather, get_time], messages=ask("[[first]]"))
    assert [m.stop_reason for m in runner] == STEPS
    assert [len(b["messages"]) for b in bodies(wire)] == [1, 3, 5]


def test_an_async_runner(wire):
    @anthropic.beta_async_tool
    async def get_weather(city: str, days: int = 1) -> str:
        """The weather of a city."""
        return "snow [[third]]"

    async def run():
        async with anthropic.AsyncAnthropic(base_url=wire.url, api_key="dummy", max_retries=0) as c:
            runner = c.beta.messages.tool_runner(**BASE, tools=[get_weather], messages=ask("[[first]]"))
            return [m.stop_reason async for m in runner]
    assert asyncio.run(run()) == ["tool_use", "end_turn"]


def test_a_tool_that_raises_tells_the_model(sdk, wire):
    said = list(sdk.beta.messages.tool_runner(**BASE, tools=[get_weather], messages=ask("[[fails]]")))
    assert text(said[-1]) == SCRIPTS["[[sunk]]"]
    assert bodies(wire)[-1]["messages"][-1]["content"][0]["is_error"]


def test_a_thread_remembers(sdk, wire):
    thread = sdk.beta.messages.thread(**BASE, system="Be brief.")
    said = [thread.send(*ask("Hello. [[plain]]")), thread.send(*ask("And now? [[again]]")), thread.send(*ask("Once more."))]
    assert [text(m) for m in said] == [SCRIPTS["[[plain]]"], SCRIPTS["[[again]]"], SCRIPTS["[[again]]"]]  # the last knows the second
    assert [b["thread"]["type"] for b in bodies(wire)] == ["create", "continue", "continue"]
    prompts = [e.prompt_tokens for e in wire.exchanges]
    assert prompts == sorted(set(prompts))
    with thread.stream(*ask("Streamed.")) as stream:
        assert text(stream.get_final_message()) == SCRIPTS["[[again]]"]


def test_threads_that_cannot_go_on_say_why(sdk):
    """The SDKs look at the code to decide whether to send everything anew."""
    def go_on(previous):
        return sdk.beta.messages.create(**BASE, messages=ask("y"), thread={"type": "continue", "previous_message_id": previous})

    m = sdk.beta.messages.create(**BASE, messages=ask("Who?"), thread={"type": "create"})
    with pytest.raises(anthropic.NotFoundError) as lost:
        go_on("msg_gone")
    assert lost.value.body["error"]["details"]["error_code"] == "thread_not_found"
    go_on(m.id)
    with pytest.raises(anthropic.BadRequestError) as twice:
        go_on(m.id)
    assert twice.value.body["error"]["details"]["error_code"] == "thread_already_continued"


def test_compaction_before_the_next_turn(sdk, wire):
    runner = sdk.beta.messages.tool_runner(**BASE, tools=[get_weather, get_time], messages=ask("[[first]]"))
    stops = []
    for m in runner:
        stops.append(m.stop_reason)
        if len(stops) == 1:
            runner.compact_before_next_turn({"type": "summarize", "instructions": "Be short. [[sum]]"})
        if m.stop_reason == "compaction":
            assert [b.type for b in m.content] == ["compaction"] and "it snows" in m.content[0].content
    assert stops == ["tool_use", "compaction", "tool_use", "end_turn"] and text(m) == SCRIPTS["[[third]]"]
    after = bodies(wire)[2]["messages"]
    assert after[0]["role"] == "assistant" and after[0]["content"][0]["type"] == "compaction"


def test_a_tool_added_on_the_way(sdk, wire):
    runner = sdk.beta.messages.tool_runner(**BASE, tools=[get_weather], messages=ask("[[first]]"))
    stops = []
    for m in runner:
        stops.append(m.stop_reason)
        if len(stops) == 1:
            runner.add_tools(get_time)
    assert stops == STEPS and text(m) == SCRIPTS["[[third]]"]
    assert bodies(wire)[1]["messages"][-1]["content"][0]["type"] == "tool_addition"
    assert wire.exchanges[1].cached_tokens >= wire.exchanges[0].prompt_tokens - 1


def test_a_tool_removed_on_the_way(sdk, wire):
    runner = sdk.beta.messages.tool_runner(**BASE, tools=[get_weather, get_time], messages=ask("[[first]]"))
    for n, m in enumerate(runner):
        if n == 0:
            runner.remove_tools(get_time)
        if n == 2:  # the script calls the tool for ever
            break
    assert bodies(wire)[1]["messages"][-1]["content"][0]["type"] == "tool_removal"
    assert wire.exchanges[1].status == 200 and wire.exchanges[1].cached_tokens >= wire.exchanges[0].prompt_tokens - 1


def test_the_memory_tool(sdk):
    class Memory(anthropic.lib.tools.BetaAbstractMemoryTool):
        def view(self, command):
            return f"nothing in {command.path} [[viewed]]"

        create = str_replace = insert = delete = rename = clear_all_memory = view

    said = list(sdk.beta.messages.tool_runner(**BASE, tools=[Memory()], messages=ask("[[view]]")))
    assert [m.stop_reason for m in said] == ["tool_use", "end_turn"] and text(said[-1]) == SCRIPTS["[[viewed]]"]


def test_counting_in_beta_is_what_is_charged(sdk):
    n = sdk.beta.messages.count_tokens(model="m", messages=ask("How many?"), tools=[get_weather.to_dict()]).input_tokens
    usage = sdk.beta.messages.create(**BASE, messages=ask("How many?"), tools=[get_weather.to_dict()]).usage
    assert n == usage.input_tokens + usage.cache_read_input_tokens
