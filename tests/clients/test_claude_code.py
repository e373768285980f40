"""Claude Code through all the tools that its sessions live on. The real engine answers; a scripted model says which tool
comes next: every step's result holds the marker of the next step, so the tour goes on only if each result arrives."""
import json
import os
import struct
import zlib

import pytest

import proxy
from claude_code import Home, call
from harness import Server, scripted_model

END = "The tour is over, all was seen."


def png():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = (b"\0" + b"\xff\0\0" * 8) * 8
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def notebook(source):
    cell = {"cell_type": "code", "id": "first", "metadata": {}, "execution_count": None, "outputs": [], "source": source}
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def scripts(work):
    """{marker: answer}; ranked: a later marker wins over an earlier one."""
    return {
        "": "I have nothing to do.",
        "[[begin]]": "I begin.\n" + call("Bash", command="echo parley; cat m-read; echo $((6 * 7)) > out.txt", description="Say it"),
        "[[sub]]": call("Bash", command="cat m-sub", description="Look"),
        "[[sub-end]]": "The helper has looked around.",
        "[[read]]": call("Read", file_path=f"{work}/notes.txt"),
        "[[edit]]": call("Edit", file_path=f"{work}/notes.txt", old_string="two", new_string="2") + "\n" + call("Bash", command="cat m-write"),
        "[[write]]": call("Write", file_path=f"{work}/new.txt", content="hello\n") + "\n" + call("Bash", command="cat m-fail"),
        "[[fail]]": call("Bash", command="cat m-image; exit 3"),
        "[[image]]": call("Read", file_path=f"{work}/pixel.png") + "\n" + call("Bash", command="cat m-agent"),
        "[[agent]]": call("Agent", description="Look around", prompt="Please look around. [[sub]]",
                          subagent_type="general-purpose") + "\n" + call("Bash", command="sleep 1; cat m-search"),
        "[[search]]": call("ToolSearch", query="select:NotebookEdit,WebFetch", max_results=5) + "\n" + call(
            "Read", file_path=f"{work}/nb.ipynb"),
        "[[loaded]]": call("NotebookEdit", notebook_path=f"{work}/nb.ipynb", cell_id="first", new_source="print(7)")
        + "\n" + call("Bash", command="cat m-end"),
        "[[end]]": END,
    }


def furnish(work):
    for name in ("read", "write", "fail", "image", "agent", "search", "end"):
        (work / f"m-{name}").write_text(f"[[{name}]]\n")
    (work / "m-sub").write_text("[[sub-end]]\n")
    (work / "notes.txt").write_text("one\ntwo\n[[edit]]\n")
    (work / "pixel.png").write_bytes(png())
    (work / "nb.ipynb").write_text(notebook("# [[loaded]]"))


class Tour:
    def __init__(self, home, answer, exchanges, log):
        self.home, self.answer, self.exchanges, self.log = home, answer, exchanges, log
        self.messages = [e for e in exchanges if e.is_message]

    def results(self):
        """All results that the client sent, by tool name (of the main conversation and the helper's)."""
        names, out, seen = {}, {}, set()
        for block in (b for e in self.messages for m in e.body["messages"] if isinstance(m["content"], list) for b in m["content"]):
            if block["type"] == "tool_use":
                names[block["id"]] = block["name"]
            if block["type"] == "tool_result" and (block["tool_use_id"], str(block["content"])) not in seen:
                seen.add((block["tool_use_id"], str(block["content"])))
                out.setdefault(names[block["tool_use_id"]], []).append(block)
        return out


@pytest.fixture(scope="module")
def tour(claude, tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("tour") / "home", claude)
    furnish(home.work)
    model = scripted_model(home.folder, scripts(home.work), "--context", "65536", "--ranked")
    server = Server(model, "-c", "65536", env={**os.environ, "XDG_STATE_HOME": str(home.folder)})
    between = proxy.Proxy(server.url)
    answer = home.print_answer(between.url, "Please take the tour. [[begin]]", 120)
    yield Tour(home, answer, between.exchanges, server.output())
    between.stop()
    assert server.stop() == 0, server.output()[-3000:]


def test_it_ends_well(tour):
    assert not tour.answer["is_error"] and tour.answer["result"] == END, tour.answer
    assert tour.answer["num_turns"] >= 16
    assert {e.status for e in tour.exchanges if e.is_message} == {200, 400}, [(e.path, e.status) for e in tour.exchanges]
    assert all(e.status == 200 for e in tour.exchanges if not e.is_message)
    print(f"{tour.answer['duration_ms']} ms, {len(tour.messages)} requests")


def test_files_are_read_written_and_edited(tour):
    work = tour.home.work
    assert (work / "out.txt").read_text() == "42\n"
    assert (work / "new.txt").read_text() == "hello\n"
    assert (work / "notes.txt").read_text() == "one\n2\n[[edit]]\n"


def test_parallel_calls_are_answered_in_one_turn(tour):
    both = [e for e in tour.messages if e.message and [b.get("name") for b in e.message["content"]] == ["Edit", "Bash"]]
    assert len(both) == 1
    ids = [b["id"] for b in both[0].message["content"]]
    later = next(e for e in tour.messages if e.times[0] > both[0].times[-1])
    assert [b["tool_use_id"] for b in later.body["messages"][-1]["content"] if b["type"] == "tool_result"] == ids or \
        any([b["tool_use_id"] for b in m["content"] if b["type"] == "tool_result"] == ids
            for m in later.body["messages"] if isinstance(m["content"], list))


def test_a_failing_tool_comes_back_as_an_error(tour):
    failed = [b for b in tour.results()["Bash"] if b.get("is_error")]
    assert len(failed) == 1 and "Exit code 3" in str(failed[0]["content"])


def test_an_image_is_refused_and_the_session_goes_on(tour):
    refused = [e for e in tour.messages if e.status == 400]
    assert len(refused) == 1
    error = json.loads(refused[0].answer)["error"]
    assert error["type"] == "invalid_request_error" and "image" in error["message"]
    read = [b for b in tour.results()["Read"] if isinstance(b["content"], list)]
    mine = [b["content"][0] for b in read if b["tool_use_id"] == read[0]["tool_use_id"]]
    assert mine[0]["type"] == "image" and "Image removed" in mine[1]["text"], mine
    assert all(b["type"] == "text" for b in mine[1:]), mine


def test_a_helper_has_its_own_conversation(tour):
    agents = {e.headers.get("x-claude-code-agent-id") for e in tour.messages}
    assert len(agents) == 2, agents
    helper = [e for e in tour.messages if "[[sub]]" in str(e.body["messages"][0])]
    assert [e.message["stop_reason"] for e in helper] == ["tool_use", "end_turn"]
    assert "The helper has looked around." in str(tour.messages[-1].body["messages"])


def test_a_deferred_tool_is_loaded_and_called(tour):
    references = [b["tool_name"] for r in tour.results()["ToolSearch"] for b in r["content"]]
    assert references == ["NotebookEdit", "WebFetch"]
    first, last = tour.messages[0], tour.messages[-1]
    assert "NotebookEdit" not in [t["name"] for t in first.body["tools"]]
    assert next(t for t in last.body["tools"] if t["name"] == "NotebookEdit")["defer_loading"]
    assert json.loads((tour.home.work / "nb.ipynb").read_text())["cells"][0]["source"] in ("print(7)", ["print(7)"])


def test_every_turn_reuses_the_turn_before(tour):
    pairs = proxy.following_turns(tour.exchanges)
    assert len(pairs) >= 10
    for earlier, later in pairs:
        whole = earlier.prompt_tokens + earlier.message["usage"]["output_tokens"]
        print(f"{later.cached_tokens} of {whole} tokens reused: {later.cached_tokens / whole:.4f}")
        assert later.cached_tokens >= 0.99 * whole, (earlier.message["content"], later.body["messages"][-2:])


def test_it_is_never_left_in_silence(tour):
    assert max(e.longest_silence() for e in tour.messages) < 10.5
