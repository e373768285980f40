"""The official TypeScript SDK, both generations, against the real program and a model that answers with known texts.
typescript/scenarios.mjs is what a user would write; here stands what must come of it."""
import json
import os
import pathlib
import subprocess

import pytest

import proxy
from harness import ROOT, SLOW, Server, scripted_model

HERE = pathlib.Path(__file__).parent / "typescript"
MODULES = ROOT / "build" / "typescript"
LONG = "It was a long night, and nobody could say when the rain had begun. " + " ".join(
    f"Then, at {n} past, somebody knocked {n + 3} times." for n in range(60))
SCRIPTS = {
    "": "There is nothing to say.",
    "[[plain]]": "Paris is the capital of France.",
    "[[again]]": "And Rome is that of Italy.",
    "[[think]]": "<think>\nA short thought.\n</think>\n\nHere is the answer.",
    "[[long]]": LONG,
    "[[first]]": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}\n</tool_call>',
    "[[second]]": '<tool_call>\n{"name": "get_time", "arguments": {"zone": "UTC"}}\n</tool_call>',
    "[[third]]": "It snows in Oslo at noon.",
    "[[sum]]": "Summary: the weather of Oslo was asked for, it snows; next comes the time. [[second]]",
}
RAN = [["get_weather", {"city": "Oslo", "days": 3}], ["get_time", {"zone": "UTC"}]]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("typescript")
    s = Server(scripted_model(folder, SCRIPTS, "--context", "8192", "--ranked", "--ffn", "131072"), env={**os.environ, "XDG_STATE_HOME": str(folder)})
    yield s
    assert s.stop() == 0, s.output()[-3000:]


@pytest.fixture(scope="module", params=["sdk", "sdk-old"])
def all_facts(request, server):
    """{scenario: (facts, exchanges)} of one generation of the SDK."""
    (MODULES / "scenarios.mjs").write_text((HERE / "scenarios.mjs").read_text())
    between = proxy.Proxy(server.url)
    done = subprocess.run(["node", str(MODULES / "scenarios.mjs"), request.param, between.url], capture_output=True, text=True,
                          timeout=180 * SLOW)
    between.stop()
    assert done.returncode == 0, done.stderr[-3000:]
    said = [json.loads(line) for line in done.stdout.splitlines()]
    return {s["name"]: (s["facts"], [e for e in between.exchanges if e.headers.get("x-scenario") == s["name"]]) for s in said}


@pytest.fixture
def run(all_facts, request):
    def scenario(name):
        facts, scenario.exchanges = all_facts[name]
        assert facts is None or "error" not in facts, facts["error"] + str([(e.status, e.answer[:300]) for e in scenario.exchanges])
        for e in scenario.exchanges:
            if e.complete and e.is_message and e.body.get("stream") and e.status == 200:
                assert e.message  # a legal stream
        return facts
    scenario.is_new = request.node.callspec.params["all_facts"] == "sdk"
    return scenario


def test_create(run):
    got = run("create")
    assert got["text"] == SCRIPTS["[[plain]]"] and got["stop"] == "end_turn" and got["model"] == "claude-opus-5-5"
    assert got["input"] > 0 and got["id"].startswith("req_")
    assert ("authorization" in run.exchanges[0].headers) == run.is_new


def test_stream(run):
    got = run("stream")
    assert got["text"] == got["pieces"] == SCRIPTS["[[plain]]"] and got["stop"] == "end_turn"
    assert got["events"][0] == "message_start" and got["events"][-2:] == ["message_delta", "message_stop"]
    assert got["events"].count("content_block_delta") > 1


def test_thinking(run):
    got = run("thinking")
    assert got == {"kinds": ["thinking", "text"], "text": "Here is the answer.", "signed": True}


def test_parse(run):
    got = run("parse")
    assert got["stop"] == "end_turn" and {k: type(v) for k, v in got["parsed"].items()} == {"wet": bool, "cold": bool}


@pytest.mark.parametrize("name", ["runner", "runnerStreams"])
def test_tool_runner_over_several_steps(run, name):
    got = run(name)
    assert got == {"stops": ["tool_use", "tool_use", "end_turn"], "ran": RAN, "text": SCRIPTS["[[third]]"]}
    bodies = [e.body for e in run.exchanges]
    if run.is_new:  # threads: only what is new is sent
        assert [b["thread"]["type"] for b in bodies] == ["create", "continue", "continue"]
        assert [len(b["messages"]) for b in bodies] == [1, 1, 1] and "tools" not in bodies[1]
    else:
        assert [len(b["messages"]) for b in bodies] == [1, 3, 5]


def test_thread(run):
    got = run("thread")
    if got is None:  # 0.137 has no threads
        return
    assert got["texts"] == [SCRIPTS["[[plain]]"], SCRIPTS["[[again]]"], SCRIPTS["[[again]]"]] and got["previous"]
    first, second, third = got["prompts"]
    assert first < second < third


def test_compact_before_next_turn(run):
    got = run("compact")
    if got is None:  # 0.137 compacts by itself, not through the API
        return
    assert got["stops"] == ["tool_use", "compaction", "tool_use", "end_turn"], got
    assert got["text"] == SCRIPTS["[[third]]"] and got["ran"] == RAN


def test_add_tools(run):
    got = run("addTools")
    if got is None:  # 0.137 has no addTools()
        return
    assert got == {"stops": ["tool_use", "tool_use", "end_turn"], "ran": RAN, "text": SCRIPTS["[[third]]"]}


def test_count_tokens(run):
    assert len(set(run("countTokens")["counts"])) == 1


def test_models(run):
    got = run("models")
    assert got["ids"] and got["one"] == got["ids"][0] and got["type"] == "model" and got["odd"] == "org/name:Q4 x"


def test_errors(run):
    got = run("errors")
    assert got["bad"] == [400, "invalid_request_error", True, "BadRequestError"], got
    assert got["missing"] == [404, "NotFoundError"]


def test_leaving_in_the_middle(run, server):
    assert run("abort") == {"aborted": "APIUserAbortError"}
    assert server.wait_for_line("client left", 10)
