"""`make test-clients LONG=1`: Claude Code waits through a prefill of 400 s. Without news it gives up after 300 s and sends the request
again, and again: such a server would never answer it. (With news it waits for about 600 s.)"""
import os
import threading
import time

import pytest

import proxy
from brake import Brake, busiest_thread
from claude_code import Home
from harness import Server, scripted_model

TARGET_S, GIVES_UP_S = 400, 300
SCRIPTS = {"": "That took a while, but here I am."}
WIDTH = 512  # of a feed-forward part of zeros: with the attention over 30,000 tokens seconds on any machine, minutes on none


class Heartbeat:
    """The longest time for which this process itself did not run: a machine that stands still silences everybody."""

    def __init__(self):
        self.longest, self.over = 0, threading.Event()
        self.thread = threading.Thread(target=self.beat)
        self.thread.start()

    def beat(self):
        before = time.monotonic()
        while not self.over.wait(0.1):
            now = time.monotonic()
            self.longest, before = max(self.longest, now - before), now

    def stop(self):
        self.over.set()
        self.thread.join()


def hold_back(server, between, seconds, brakes):
    """Once the first answer has begun, the thread that computes is braked."""
    until = time.monotonic() + 120
    while time.monotonic() < until and not any(e.is_message and e.pieces for e in between.exchanges):
        time.sleep(0.05)
    thread = busiest_thread(server.process.pid)
    assert thread != server.process.pid, "the thread of the connections must stay free"
    brakes.append(Brake(thread, seconds))


@pytest.mark.skipif(not os.environ.get("PARLEY_LONG"), reason="takes 8 minutes: make test-clients LONG=1")
def test_claude_code_waits_through_a_long_prefill(claude, tmp_path):
    model = scripted_model(tmp_path, SCRIPTS, "--context", "65536", "--ranked", "--ffn", str(WIDTH))
    server = Server(model, "-c", "65536", "-t", "1", env={**os.environ, "XDG_STATE_HOME": str(tmp_path)})
    between, brakes = proxy.Proxy(server.url), []
    holder = threading.Thread(target=hold_back, args=(server, between, TARGET_S, brakes))
    holder.start()
    heart = Heartbeat()
    try:
        home = Home(tmp_path / "home", claude)
        answer = home.print_answer(between.url, "Please say something.", 2 * TARGET_S)
    finally:
        holder.join()
        for brake in brakes:
            brake.release()
        heart.stop()
        for e in between.exchanges:
            print(e.method, e.path, e.status, len(e.raw), f"{e.times[-1] - e.times[0]:.0f} s, {len(e.times)} pieces")
        between.stop()
        code = server.stop()
    assert [b.error for b in brakes] == [None]
    assert answer["result"] == SCRIPTS[""] and code == 0
    messages = [e for e in between.exchanges if e.is_message]
    assert len(messages) == 1, [(e.status, len(e.raw), e.times[-1] - e.times[0]) for e in messages]
    lasted = messages[0].times[-1] - messages[0].times[0]
    print(f"the answer took {lasted:.0f} s, the longest silence {messages[0].longest_silence():.1f} s, {len(messages[0].times)} pieces, "
          f"{messages[0].prompt_tokens} tokens, {brakes[0].rounds} times held; the machine stood still for {heart.longest:.1f} s")
    assert lasted > GIVES_UP_S * 1.1, "the prefill ended although it was held back: nothing is proved"
    assert messages[0].longest_silence() < 10.5 + (heart.longest if heart.longest > 1 else 0)
