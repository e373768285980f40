"""Answers cut at every place: by max_tokens, by the end of the context, by a stop sequence, by a client that leaves, by a server
that is stopped. Every stream is legal, whole and streamed answers are alike, and what was generated before the cut is there."""
import http.client
import json
import os
import signal

import pytest

import sse_checker
from harness import SLOW, Server, scripted_model

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Bergen \\"by the sea\\"", "days": [1, {"x": 2.5}], "ok": true}}\n</tool_call>'
SCRIPTS = {
    "": "Nothing was asked.",
    "[[all]]": "<think>\nFirst I think about it.\n</think>\n\nI look it up, one moment.\n" + CALL + "\n" + CALL.replace("Bergen", "Oslo"),
    "[[text]]": "One two three four five six seven eight nine ten, said the old man by the sea.",
}
TOOLS = [{"name": "get_weather", "description": "The weather.", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return scripted_model(tmp_path_factory.mktemp("cuts"), SCRIPTS, "--ranked")


def serve(model, tmp_path, *flags):
    return Server(model, *flags, env={**os.environ, "XDG_STATE_HOME": str(tmp_path)})


@pytest.fixture
def server(model, tmp_path):
    s = serve(model, tmp_path)
    yield s
    assert s.stop() == 0, s.output()[-3000:]


def open_request(server, prompt, **more):
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60 * SLOW)
    c.request("POST", "/v1/messages", json.dumps({"model": "m", "max_tokens": 1000, "messages": [{"role": "user", "content": prompt}], **more}))
    return c, c.getresponse()


def ask(server, prompt, **more):
    c, r = open_request(server, prompt, **more)
    data = r.read()
    c.close()
    assert r.status == 200, data
    return sse_checker.check(data).message if more.get("stream") else json.loads(data)


def plain(message):
    """The content without ids and signatures."""
    return [{k: v for k, v in b.items() if k not in ("id", "signature", "citations", "caller")} for b in message["content"]]


def is_beginning(part, whole):
    """Whether the blocks of part are the first ones of whole, the last one perhaps unfinished. A cut inside a marker or in the head
    of a call leaves what there is of it as text."""
    kind = part[-1]["type"] if part else ""
    if kind in ("text", "thinking") and "<" in part[-1][kind]:
        text = part[-1][kind][:part[-1][kind].index("<")].rstrip()
        part = part[:-1] + ([{"type": kind, kind: text}] if text else [])
    if not part or part == whole[:len(part)]:
        return True
    if len(part) > len(whole) or part[:-1] != whole[:len(part) - 1]:
        return False
    last, other = part[-1], whole[len(part) - 1]
    return last["type"] == other["type"] and (last["type"] == "tool_use" or other[last["type"]].startswith(last[last["type"]].rstrip()))


def test_max_tokens_at_every_place(server):
    whole = ask(server, "[[all]]", tools=TOOLS, thinking={"type": "enabled", "budget_tokens": 1024}, max_tokens=2000)
    assert [b["type"] for b in whole["content"]] == ["thinking", "text", "tool_use", "tool_use"]
    for n in range(1, whole["usage"]["output_tokens"] + 1):
        a = ask(server, "[[all]]", tools=TOOLS, thinking={"type": "adaptive"}, max_tokens=n)
        b = ask(server, "[[all]]", tools=TOOLS, thinking={"type": "adaptive"}, max_tokens=n, stream=True)
        assert plain(a) == plain(b) and a["stop_reason"] == b["stop_reason"], (n, a, b)
        assert a["usage"]["output_tokens"] == b["usage"]["output_tokens"] <= n
        assert is_beginning(plain(a), plain(whole)), (n, a["content"])
        if n < whole["usage"]["output_tokens"] - 1:
            assert a["stop_reason"] == "max_tokens", (n, a)
        for block in a["content"]:
            if block["type"] == "tool_use":
                assert isinstance(block["input"], dict)


def test_the_end_of_the_context(model, tmp_path):
    s = serve(model, tmp_path, "-c", "512")
    try:
        sizes = []
        for words in range(80, 170, 2):
            c, r = open_request(s, "word " * words + "[[all]]", thinking={"type": "adaptive"}, stream=True)
            data = r.read()
            c.close()
            if r.status == 400:
                assert b"prompt is too long: " in data
                break
            m = sse_checker.check(data).message
            used = sse_checker.Checker.prompt(m["usage"]) + m["usage"]["output_tokens"]
            sizes.append((m["stop_reason"], used))
            assert used <= 512, m["usage"]
        reasons = [reason for reason, _ in sizes]
        assert r.status == 400 and "model_context_window_exceeded" in reasons, sizes
    finally:
        assert s.stop() == 0, s.output()[-3000:]


def test_a_stop_sequence_at_every_place(server):
    whole = SCRIPTS["[[text]]"]
    for i in range(0, 40):
        for stop in (s for s in (whole[i:i + length] for length in (1, 3, 7)) if s.strip()):  # white space alone is refused
            a = ask(server, "[[text]]", stop_sequences=["not in it", stop])
            b = ask(server, "[[text]]", stop_sequences=[stop], stream=True)
            before = whole[:whole.index(stop)]
            for m in (a, b):
                assert m["stop_reason"] == "stop_sequence" and m["stop_sequence"] == stop, (stop, m)
                assert "".join(block["text"] for block in m["content"]) == before, (stop, m["content"])


def test_stop_sequences_do_not_break_calls(server):
    for stop in ("moment", "Bergen", "the sea", "</tool_call>", "get_weather", "think about"):
        a = ask(server, "[[all]]", tools=TOOLS, thinking={"type": "adaptive"}, stop_sequences=[stop])
        b = ask(server, "[[all]]", tools=TOOLS, thinking={"type": "adaptive"}, stop_sequences=[stop], stream=True)
        assert plain(a) == plain(b) and a["stop_reason"] == b["stop_reason"], (stop, a, b)


def test_leaving_behind_every_event(server):
    _, r = open_request(server, "[[all]]", tools=TOOLS, thinking={"type": "adaptive"}, stream=True)
    n_events = r.read().count(b"\n\n")
    for n in range(0, n_events, 2):
        c, r = open_request(server, "[[all]]", tools=TOOLS, thinking={"type": "adaptive"}, stream=True)
        seen = b""
        while seen.count(b"\n\n") < n:
            seen += r.readline()
        c.sock.close()
        sse_checker.check(seen, complete=False)
    assert ask(server, "[[text]]")["stop_reason"] == "end_turn"


def test_a_server_that_is_stopped_ends_its_streams(model, tmp_path):
    for seen in (1, 8, 30):
        s = serve(model, tmp_path)
        c, r = open_request(s, "[[all]]", tools=TOOLS, thinking={"type": "adaptive"}, stream=True)
        data = b"".join(r.readline() for _ in range(seen))
        s.tell_to_stop(signal.SIGTERM)
        data += r.read()
        checker = sse_checker.check(data)
        assert checker.error or checker.message["stop_reason"] == "tool_use"
        c.close()
        assert s.stop() == 0, s.output()[-3000:]
