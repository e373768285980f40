"""Clients that leave free the engine, and clients that ask again get the answer that they had begun (anthropic-api 5.5)."""
import http.client
import json
import time

import pytest

from conftest import SLOW, Server

WILD = {"temperature": 3.0, "top_k": 0, "top_p": 1, "min_p": 0}  # an answer that has no end


@pytest.fixture
def alone(model_path):
    """One answer at a time."""
    s = Server(model_path, "-np", "1", "--rejoin-time", "30")
    yield s
    assert s.stop() == 0, s.output()[-3000:]


def ask(server, text, tokens=60, stream=True, **headers):
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60 * SLOW)
    c.request("POST", "/v1/messages", json.dumps({"model": "m", "max_tokens": tokens, "stream": stream, **WILD,
                                                  "messages": [{"role": "user", "content": text}]}), headers)
    return c


def leave(c):
    c.sock.shutdown(2)
    c.close()


def ticks(server):
    with open(f"/proc/{server.process.pid}/stat", encoding="ascii") as f:
        return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))


def test_leaving_stops_the_computing_and_frees_the_place(alone):
    c = ask(alone, "An endless story.", 5000)
    c.getresponse().readline()
    leave(c)
    assert alone.wait_for_line("the client left")
    time.sleep(1.0)
    before = ticks(alone)
    time.sleep(1.0)
    assert ticks(alone) - before <= 5, "it still computes"
    started = time.monotonic()
    r = ask(alone, "Hello.", 4, stream=False).getresponse()
    assert r.status == 200 and r.read() and time.monotonic() - started < 5 * SLOW
    assert "takes over" not in alone.output()


# Long enough that it is not finished when its client leaves, on the fastest machine with the slowest client.
LONG = 2000 if SLOW == 1 else 150


def test_a_retry_gets_the_answer_from_its_beginning(alone):
    c = ask(alone, "Tell me a story.", LONG)
    r = c.getresponse()
    seen = b""
    while seen.count(b"text_delta") < 5:
        seen += r.read1(4096)
    leave(c)
    assert alone.wait_for_line("the client left")
    r = ask(alone, "Tell me a story.", LONG, **{"x-stainless-retry-count": "1"}).getresponse()
    whole = r.read().decode()

    def texts(data):
        events = [json.loads(line[6:]) for line in data.split("\n") if line.startswith("data: ")]
        return "".join(e["delta"]["text"] for e in events if e.get("delta", {}).get("type") == "text_delta")
    first = texts(seen.decode(errors="ignore").rsplit("\n\n", 1)[0])
    assert first and texts(whole).startswith(first) and len(texts(whole)) > len(first)
    assert "event: message_stop" in whole and alone.wait_for_line("takes over")


def test_an_answer_in_one_piece_is_not_begun_again(alone):
    c = ask(alone, "Tell me another story.", LONG, stream=False)
    time.sleep(0.3)
    leave(c)
    assert alone.wait_for_line("the client left")
    r = ask(alone, "Tell me another story.", LONG, stream=False).getresponse()
    assert r.status == 200 and json.loads(r.read())["stop_reason"] in ("max_tokens", "end_turn")
    assert alone.wait_for_line("takes over")


def test_asking_the_same_twice_gives_two_answers(alone):
    answers = [ask(alone, "Say something.", 30, stream=False).getresponse().read() for _ in range(2)]
    a, b = (json.loads(x) for x in answers)
    assert a["id"] != b["id"] and a["content"] != b["content"]
