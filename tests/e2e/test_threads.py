"""Message threads and compaction with the official SDK: the real program and a scripted model, several steps each.

anthropic-api 2.4 (threads), 2.2 and 3.1 (compaction).
"""
import json
import pathlib
import subprocess
import sys
import time

import anthropic
import pytest

from conftest import ROOT, SLOW, Server
from harness import scripted_model

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
SCRIPTS = {
    "": "There is nothing to say about this.",
    "[[call]]": CALL,
    "[[again]]": CALL.replace("Oslo", "Bergen, in the west"),
    "[[done]]": "It is three degrees below zero and it snows.",
    "[[sum]]": "The user asked about Oslo; the answer was snow.",
}
SYSTEM = "You are a weather station. " * 30


@pytest.fixture(scope="module")
def threads_server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("threads")
    scripts, model = folder / "scripts.json", folder / "scripted.gguf"
    scripts.write_text(json.dumps(SCRIPTS))
    subprocess.run([sys.executable, str(ROOT / "tools" / "make-tiny-gguf"), "--script", str(scripts), str(model),
                    "--template", str(pathlib.Path(__file__).parent / "templates" / "tools.jinja")], check=True)
    s = Server(str(model))
    yield s
    assert s.stop() == 0, s.output()[-3000:]


@pytest.fixture
def client(threads_server):
    """The SDK, with every request body that it sent."""
    def keep(request):
        if request.url.path.endswith("/messages"):
            client.sent.append(json.loads(request.content))
    client = anthropic.Anthropic(base_url=threads_server.url, api_key="dummy", max_retries=0, timeout=60 * SLOW,
                                 http_client=anthropic.DefaultHttpxClient(event_hooks={"request": [keep]}))
    client.sent = []
    return client


class Weather:
    """A tool that answers with the given texts, one after the other."""

    def __init__(self, *answers):
        answers = list(answers)
        self.cities = []

        @anthropic.beta_tool
        def get_weather(city: str) -> str:
            """The weather of a city.

            Args:
                city: which one
            """
            self.cities.append(city)
            return answers.pop(0)
        self.tool = get_weather


def text(message):
    return "".join(b.text for b in message.content if b.type == "text")


def kinds(client):
    return [(b.get("thread") or {}).get("type") for b in client.sent]


@pytest.mark.parametrize("stream", [False, True])
def test_tool_runner_sends_only_what_is_new(client, stream):
    weather = Weather("rain [[again]]", "snow [[done]]")
    runner = client.beta.messages.tool_runner(model="m", max_tokens=400, system=SYSTEM, tools=[weather.tool], stream=stream,
                                              messages=[{"role": "user", "content": "Weather? [[call]]"}])
    said = [m.get_final_message() if stream else m for m in runner]
    assert [m.stop_reason for m in said] == ["tool_use", "tool_use", "end_turn"]
    assert weather.cities == ["Oslo", "Bergen, in the west"] and text(said[-1]) == SCRIPTS["[[done]]"]
    assert kinds(client) == ["create", "continue", "continue"]
    assert all(len(b["messages"]) == 1 and "tools" not in b and "system" not in b for b in client.sent[1:])
    for before, after in zip(said, said[1:]):
        whole = before.usage.input_tokens + before.usage.cache_read_input_tokens
        assert after.usage.cache_read_input_tokens >= whole - 1


def test_thread_counts_the_same_tokens_as_the_whole_conversation(client):
    thread = client.beta.messages.thread(model="m", max_tokens=100, system=SYSTEM)
    thread.send({"role": "user", "content": "First question."})
    threaded = thread.send({"role": "user", "content": "Second question."})
    whole = client.messages.count_tokens(model="m", system=SYSTEM, messages=[
        {"role": "user", "content": "First question."}, {"role": "assistant", "content": SCRIPTS[""]},
        {"role": "user", "content": "Second question."}])
    assert threaded.usage.input_tokens + threaded.usage.cache_read_input_tokens == whole.input_tokens
    assert kinds(client) == ["create", "continue"]


def test_what_continues_a_thread_is_counted(client):
    create, count = client.beta.messages.create, client.beta.messages.count_tokens
    first = create(model="m", max_tokens=100, system=SYSTEM, messages=[{"role": "user", "content": "First question."}],
                   extra_body={"thread": {"type": "create"}})
    more = {"model": "m", "messages": [{"role": "user", "content": "Second question."}],
            "extra_body": {"thread": {"type": "continue", "previous_message_id": first.id}}}
    counted = [count(**more).input_tokens for _ in range(2)]  # counting takes nothing away
    second = create(**more, max_tokens=100)
    assert counted == [second.usage.input_tokens + second.usage.cache_read_input_tokens] * 2
    for previous, code in ((first.id, "thread_already_continued"), ("msg_unknown", "thread_not_found")):
        more["extra_body"]["thread"]["previous_message_id"] = previous
        with pytest.raises(anthropic.APIStatusError) as e:
            count(**more)
        assert e.value.body["error"]["details"]["error_code"] == code
    whole = count(model="m", system=SYSTEM, messages=[{"role": "user", "content": "x"}])
    fresh = count(model="m", system=SYSTEM, messages=[{"role": "user", "content": "x"}], extra_body={"thread": {"type": "create"}})
    assert whole.input_tokens == fresh.input_tokens


def test_thread_streams_parses_and_goes_on_after_a_broken_stream(client):
    thread = client.beta.messages.thread(model="m", max_tokens=100, system=SYSTEM)
    with thread.stream({"role": "user", "content": "First."}) as stream:
        assert stream.get_final_text() == SCRIPTS[""]
    with thread.stream({"role": "user", "content": "Second."}) as stream:
        for event in stream:
            if event.type == "text":
                break  # the stream is closed in mid-answer
    assert thread.send({"role": "user", "content": "Third."}).stop_reason == "end_turn"
    assert kinds(client) == ["create", "continue", "create"]
    assert thread.send({"role": "user", "content": "Fourth."}).stop_reason == "end_turn"
    assert kinds(client)[-1] == "continue"


def test_fork_and_lost_thread_are_sent_again(client):
    thread = client.beta.messages.thread(model="m", max_tokens=100)
    thread.send({"role": "user", "content": "First."})
    fork = thread.fork()
    assert text(fork.send({"role": "user", "content": "Other."})) == SCRIPTS[""]
    id = thread.previous_message_id
    thread.send({"role": "user", "content": "Second."})
    bodies = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    for previous, kind, code in [("msg_x", anthropic.NotFoundError, "thread_not_found"),
                                 (id, anthropic.BadRequestError, "thread_already_continued")]:
        with pytest.raises(kind) as e:
            client.beta.messages.create(**bodies, thread={"type": "continue", "previous_message_id": previous})
        assert e.value.error_code == code


def test_typed_errors(client):
    m = client.beta.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}],
                                    system="s", thread={"type": "create"})
    with pytest.raises(anthropic.BadRequestError) as e:
        client.beta.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "x"}], system="t",
                                    thread={"type": "continue", "previous_message_id": m.id})
    assert e.value.error_code == "thread_fingerprint_mismatch" and "system" in e.value.message
    with pytest.raises(anthropic.BadRequestError) as e:
        client.beta.messages.create(model="m", max_tokens=9, messages=[], compaction={"type": "summarize"})
    assert e.value.error_code == "compaction_nothing_to_summarize"


# ---- compaction ----

@pytest.mark.parametrize("stream", [False, True])
def test_compact_before_next_turn(client, stream):
    weather = Weather("rain [[again]]", "snow [[done]]")
    runner = client.beta.messages.tool_runner(model="m", max_tokens=400, system=SYSTEM, tools=[weather.tool], stream=stream,
                                              messages=[{"role": "user", "content": "Weather? [[call]]"}])
    said = []
    for m in runner:
        said.append(m.get_final_message() if stream else m)
        if len(said) == 1:
            runner.compact_before_next_turn({"type": "summarize", "instructions": "Summarise. [[sum]]"})
    assert [m.stop_reason for m in said] == ["tool_use", "compaction", "end_turn"]
    block, = said[1].content
    assert block.type == "compaction" and block.content == SCRIPTS["[[sum]]"]
    # The summary replaced the history: the scripted model sees no marker any more.
    assert text(said[2]) == SCRIPTS[""]
    assert client.sent[1]["compaction"]["type"] == "summarize" and len(client.sent[1]["messages"]) == 3
    assert [b["type"] for b in client.sent[2]["messages"][0]["content"]] == ["compaction"]
    # Summarising reuses the prompt so far.
    whole = said[0].usage.input_tokens + said[0].usage.cache_read_input_tokens
    assert said[1].usage.cache_read_input_tokens >= whole - 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_summary_is_signed_and_known_again(tmp_path, stream):
    s = Server(scripted_model(tmp_path, SCRIPTS), "-v")
    try:
        create = anthropic.Anthropic(base_url=s.url, api_key="dummy", max_retries=0, timeout=60 * SLOW).beta.messages.create
        order = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "Weather?"}],
                 "compaction": {"type": "summarize", "instructions": "Summarise. [[sum]]"}}
        if stream:
            block = next(e.delta for e in create(**order, stream=True) if e.type == "content_block_delta")
        else:
            block, = create(**order).content
        assert block.content == SCRIPTS["[[sum]]"] and len(block.encrypted_content) > 20
        for signature, content, says in ((block.encrypted_content, block.content, "from here"),
                                         (block.encrypted_content, block.content + "!", "foreign or changed"),
                                         ("elsewhere", block.content, "foreign or changed")):
            seen = len(s.output())
            create(model="m", max_tokens=20, messages=[
                {"role": "assistant", "content": [{"type": "compaction", "content": content, "encrypted_content": signature}]},
                {"role": "user", "content": "Go on."}])
            until = time.monotonic() + 5 * SLOW  # the log is read by a thread
            while f"the summary of the earlier conversation is {says}" not in s.output()[seen:] and time.monotonic() < until:
                time.sleep(0.02)
            assert f"the summary of the earlier conversation is {says}" in s.output()[seen:]
    finally:
        assert s.stop() == 0, s.output()[-3000:]


def test_compaction_keeps_tools_that_were_added(client):
    @anthropic.beta_tool
    def get_time(zone: str) -> str:
        """The time.

        Args:
            zone: where
        """
        return zone

    weather = Weather("rain [[again]]", "snow [[done]]")
    runner = client.beta.messages.tool_runner(model="m", max_tokens=400, tools=[weather.tool],
                                              messages=[{"role": "user", "content": "Weather? [[call]]"}])
    said = []
    for m in runner:
        said.append(m)
        if len(said) == 1:
            runner.add_tools(get_time)
        if len(said) == 2:
            runner.compact_before_next_turn({"type": "summarize", "instructions": "Summarise. [[sum]]"})
    assert [m.stop_reason for m in said] == ["tool_use", "tool_use", "compaction", "end_turn"]
    change, = said[2].content[0].tool_changes
    assert (change.type, change.tool.type, change.tool.definition.name) == ("tool_addition", "tool_definition", "get_time")
    # What is sent back shows the tool to the model again.
    sent = client.sent[-1]
    plain = dict(sent["messages"][0], content=[{**sent["messages"][0]["content"][0], "tool_changes": []}])
    count = client.beta.messages.count_tokens
    with_tool = count(model="m", tools=sent["tools"], messages=sent["messages"]).input_tokens
    assert with_tool > count(model="m", tools=sent["tools"], messages=[plain, *sent["messages"][1:]]).input_tokens + 10


def test_compaction_after_the_last_turn(client):
    runner = client.beta.messages.tool_runner(model="m", max_tokens=400, tools=[Weather().tool],
                                              messages=[{"role": "user", "content": "Nothing."}])
    said = []
    for m in runner:
        said.append(m)
        if len(said) == 1:
            runner.compact_before_next_turn({"type": "summarize", "instructions": "Now. [[sum]]"})
    assert [m.stop_reason for m in said] == ["end_turn", "compaction"]


def test_a_summary_that_is_no_text_is_a_failed_compaction(client):
    m = client.beta.messages.create(model="m", max_tokens=200, tools=[Weather().tool.to_dict()],
                                    messages=[{"role": "user", "content": "x"}],
                                    compaction={"type": "summarize", "instructions": "[[call]]"})
    assert m.stop_reason == "compaction" and m.content[0].content is None
    again = client.beta.messages.create(model="m", max_tokens=50, messages=[
        {"role": "user", "content": "What? [[done]]"}, {"role": "assistant", "content": m.content},
        {"role": "user", "content": "Well?"}])
    assert text(again) == SCRIPTS["[[done]]"]  # what was before it still counts


def test_compaction_edit_is_accepted(client):
    m = client.beta.messages.create(model="m", max_tokens=50, messages=[{"role": "user", "content": "x"}],
                                    context_management={"edits": [{"type": "compact_20260112"}]})
    assert m.stop_reason == "end_turn"
