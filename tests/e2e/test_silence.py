"""A stream is never silent for longer than 10 s, however long the prefill takes: the real program, slowed by its own
flags. PARLEY_LONG=1 makes it a prefill of a minute. anthropic-api 5.4.
"""
import http.client
import json
import os
import time

from conftest import SLOW, Server

PREFILL_S = 65 if os.environ.get("PARLEY_LONG") else 22


def arrivals(server, text, stream=True):
    """Seconds since the request at which bytes came, with the bytes."""
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60 * SLOW)
    started = time.monotonic()
    c.request("POST", "/v1/messages", json.dumps({"model": "m", "max_tokens": 1, "stream": stream,
                                                  "messages": [{"role": "user", "content": text}]}))
    r = c.getresponse()
    came = [(time.monotonic() - started, b"")]
    while piece := r.read1(65536):
        came.append((time.monotonic() - started, piece))
    assert r.status == 200, came
    return came


def test_long_prefill(model_path):
    s = Server(model_path, "-c", "32768", "--cpu-level", "c", "-t", "1")
    try:
        probe = arrivals(s, "Speed? " + "word " * 300)[-1][0]
        words = int(200 * PREFILL_S / probe)  # attention makes longer ones slower
        for attempt in range(4):  # a machine that was busy during the probe is faster than it seemed
            words = min(30000, words)
            came = arrivals(s, f"{attempt}: now the long one. " + "word " * words)
            if came[-1][0] >= PREFILL_S * 0.9:
                break
            words = int(words * PREFILL_S * 1.1 / came[-1][0])
        times = [0.0] + [t for t, _ in came]
        gaps = [b - a for a, b in zip(times, times[1:])]
        text = b"".join(piece for _, piece in came)
        assert text.count(b"event: ping") >= 2, (times, words)
        assert max(gaps) <= 10 * SLOW, gaps
        assert b"event: message_stop" in text
        # message_start, with the true size of the prompt, does not wait for the prefill.
        start = next(t for t, piece in came if b"message_start" in piece)
        assert start < times[-1] / 4, times
    finally:
        assert s.stop() == 0
