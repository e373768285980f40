"""`make test-clients LONG=1`: Claude Code waits through a prefill of 400 s. Without news it gives up after 300 s and sends the request
again, and again: such a server would never answer it."""
import http.client
import json
import os
import time

import pytest

import proxy
from claude_code import Home
from harness import Server, scripted_model

TARGET_S, GIVES_UP_S = 400, 300
PROMPT_TOKENS = 32500  # of Claude Code's first request, in the vocabulary of scripted models
SCRIPTS = {"": "That took a while, but here I am."}
SLOWEST = ("--cpu-level", "c", "-t", "1")


def serve(folder, ffn, *flags):
    """The scripted model with a feed-forward part of this width: zeros, which take their time all the same."""
    folder.mkdir()
    model = scripted_model(folder, SCRIPTS, "--context", "65536", "--ranked", "--ffn", str(ffn))
    return Server(model, "-c", "65536", *SLOWEST, *flags, env={**os.environ, "XDG_STATE_HOME": str(folder)})


def seconds_of(server, words):
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    started = time.monotonic()
    c.request("POST", "/v1/messages", json.dumps({"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": words}]}))
    usage = json.loads(c.getresponse().read())["usage"]
    return time.monotonic() - started, usage["input_tokens"]


@pytest.mark.skipif(not os.environ.get("PARLEY_LONG"), reason="takes 8 minutes: make test-clients LONG=1")
def test_claude_code_waits_through_a_long_prefill(claude, tmp_path):
    width = 4096
    probe = serve(tmp_path / "probe", width)
    seconds, tokens = seconds_of(probe, "The quick brown fox. " * 250)
    assert probe.stop() == 0
    width = int(width * TARGET_S / (seconds / tokens * PROMPT_TOKENS)) // 256 * 256
    print(f"{tokens} tokens in {seconds:.1f} s: a width of {width} makes {PROMPT_TOKENS} tokens last {TARGET_S} s")
    server = serve(tmp_path / "slow", max(width, 256))
    between = proxy.Proxy(server.url)
    try:
        home = Home(tmp_path / "home", claude)
        answer = home.print_answer(between.url, "Please say something.", 4 * TARGET_S)
    finally:
        between.stop()
        code = server.stop()
    assert answer["result"] == SCRIPTS[""] and code == 0
    messages = [e for e in between.exchanges if e.is_message]
    assert len(messages) == 1, [(e.status, len(e.raw), e.times[-1] - e.times[0]) for e in messages]
    lasted = messages[0].times[-1] - messages[0].times[0]
    print(f"the answer took {lasted:.0f} s, the longest silence {messages[0].longest_silence():.1f} s, {len(messages[0].times)} pieces")
    assert lasted > GIVES_UP_S * 1.1, "the machine is faster than it was measured to be: nothing is proved"
    assert messages[0].longest_silence() < 10.5
