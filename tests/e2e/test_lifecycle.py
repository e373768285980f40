"""Start, stop, memory, keys and the errors that a user meets before the first answer."""
import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest

from conftest import PROGRAM, ROOT, SLOW, Server


def post(port, body, headers=None, path="/v1/messages"):
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=60 * SLOW)
    c.request("POST", path, body if isinstance(body, (bytes, str)) else json.dumps(body),
              {"content-type": "application/json", **(headers or {})})
    return c, c.getresponse()


def ask(max_tokens=8, stream=False, text="Say hello."):
    return {"model": "m", "max_tokens": max_tokens, "stream": stream, "messages": [{"role": "user", "content": text}]}


@pytest.mark.skipif(SLOW != 1, reason="sanitizer builds use more memory")
def test_memory_after_start(model_path):
    s = Server(model_path, "-c", "8192")
    try:
        assert s.rss_mb() <= 160, f"{s.rss_mb():.0f} MB"
    finally:
        assert s.stop() == 0


def test_interrupt_while_idle_exits_0(model_path):
    assert Server(model_path).stop(signal.SIGINT) == 0
    assert Server(model_path).stop(signal.SIGTERM) == 0


def test_interrupt_lets_a_short_answer_finish(model_path):
    s = Server(model_path)
    c, r = post(s.port, ask(max_tokens=60 if SLOW == 1 else 4, stream=True, text="Count to twenty."))
    first = r.readline()
    s.tell_to_stop()
    rest = r.read().decode()
    assert first and "event: message_stop" in rest
    assert s.stop() == 0


def test_interrupt_ends_a_long_answer_with_a_legal_error(model_path):
    s = Server(model_path)
    long = ask(max_tokens=100000, stream=True, text="Write an endless story.")
    long["stop_sequences"] = []
    connections = []
    for _ in range(4):
        c, r = post(s.port, dict(long, temperature=3.0, top_k=0, top_p=1, min_p=0))
        r.readline()
        connections.append((c, r))
    started = time.monotonic()
    s.tell_to_stop()
    for c, r in connections:
        text = r.read().decode(errors="replace")
        assert "event: message_stop" in text or "event: error" in text
    assert s.stop() == 0
    assert time.monotonic() - started < 17 * SLOW  # 5 s for answers, 10 s at most for clients that read slowly


def test_port_in_use(model_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        r = subprocess.run([PROGRAM, "serve", "-m", model_path, "--port", str(port), "-q"], capture_output=True, text=True,
                           timeout=60 * SLOW)
    assert r.returncode == 1
    assert str(port) in r.stderr and len(r.stderr.strip().splitlines()) == 1, r.stderr


@pytest.mark.parametrize("content,word", [(None, "No such file"), (b"", "GGUF"), (b"GGUF" + b"\xff" * 100, ""),
                                          (b"hello world, this is no model", "GGUF")])
def test_unreadable_model(tmp_path, content, word):
    path = tmp_path / "x.gguf"
    if content is not None:
        path.write_bytes(content)
    r = subprocess.run([PROGRAM, "serve", "-m", str(path), "-q"], capture_output=True, text=True, timeout=60 * SLOW)
    assert r.returncode == 1
    assert word in r.stderr and len(r.stderr.strip().splitlines()) == 1, r.stderr


def test_keys(model_path, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("# comment\nfile-key\n\n")
    s = Server(model_path, "--api-key", "one", "--api-key", "two", "--api-key-file", str(keys))
    try:
        for headers, status in [({}, 401), ({"x-api-key": "wrong"}, 401), ({"x-api-key": "one"}, 200),
                                ({"authorization": "Bearer two"}, 200), ({"authorization": "Bearer on"}, 401),
                                ({"x-api-key": "file-key"}, 200),
                                ({"x-api-key": "wrong", "authorization": "Bearer two"}, 200)]:
            c, r = post(s.port, ask(1), headers)
            body = json.loads(r.read())
            assert r.status == status, (headers, body)
            if status == 401:
                assert body["error"]["type"] == "authentication_error"
    finally:
        assert s.stop() == 0


def test_parallel_load_with_leaving_clients(model_path):
    s = Server(model_path, "-c", "2048", "--parallel", "4")
    failures = []
    n_clients, n_tokens = (36, 30) if SLOW < 20 else (8, 5)  # ThreadSanitizer: the same mixture, fewer of it

    def one(i):
        try:
            c, r = post(s.port, ask(max_tokens=n_tokens, stream=i % 2 == 0, text=f"Tell me about the number {i}. " * (1 + i % 5)))
            if i % 3 == 0:
                r.read(20)
                c.sock.close()  # leaves in mid-answer
                return
            body = r.read().decode()
            if r.status != 200 or ("message_stop" not in body if i % 2 == 0 else '"end_turn"' not in body and
                                   '"max_tokens"' not in body):
                failures.append((i, r.status, body[-300:]))
        except Exception as why:  # noqa: BLE001 - any failure of a client is the finding
            failures.append((i, repr(why)))

    threads = [threading.Thread(target=one, args=(i,)) for i in range(n_clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(120 * SLOW)
    assert not failures, failures[:3]
    c, r = post(s.port, ask(4))
    assert r.status == 200
    r.read()
    assert s.stop() == 0, s.output()[-3000:]


def test_second_start_is_quick(model_path):
    times = []
    for _ in range(3):
        s = Server(model_path)
        times.append(s.ready_s)
        assert s.stop() == 0
    assert min(times) < 2 * SLOW, times


def answer_text(server):
    c, r = post(server.port, dict(ask(12), temperature=0))
    assert r.status == 200
    return json.loads(r.read())["content"]


def test_repack_cache(model_path, tmp_path):
    """The second start maps what the first packed and answers the same; a damaged file is noticed and made anew."""
    folder = tmp_path / "cache"
    texts = []
    for start in ("first", "second", "damaged", "mended"):
        if start == "damaged":
            image = next(folder.glob("*.panels"))
            with open(image, "r+b") as f:
                f.seek(image.stat().st_size // 2)
                byte = f.read(1)
                f.seek(-1, os.SEEK_CUR)
                f.write(bytes([byte[0] ^ 1]))
        s = Server(model_path, "--repack-cache", str(folder))
        texts.append(answer_text(s))
        if start in ("first", "damaged"):
            assert s.wait_for_line("panels written", 60), s.output()
        assert s.stop() == 0
        assert ("from the repack cache" in s.output()) == (start in ("second", "mended")), s.output()
        assert ("it is damaged" in s.output()) == (start == "damaged"), s.output()
    assert len(set(map(str, texts))) == 1, texts
    assert len(list(folder.iterdir())) == 1


def test_cache_types(model_path):
    """An 8-bit cache takes about half the memory and answers; other types are refused with the ones that there are."""
    def kv_bytes(*flags):
        r = subprocess.run([PROGRAM, "inspect", "-m", model_path, "--json", *flags], capture_output=True, text=True, timeout=60 * SLOW)
        return json.loads(r.stdout)["memory"]["kv_bytes_per_token"]

    full, values, both = kv_bytes(), kv_bytes("-ctv", "q8_0"), kv_bytes("-ctk", "q8_0", "--cache-type-v", "q8_0")
    assert 0.7 < values / full < 0.8 and 0.5 <= both / full < 0.55, (full, values, both)
    s = Server(model_path, "-ctk", "q8_0", "-ctv", "q8_0")
    assert answer_text(s)
    assert s.stop() == 0
    r = subprocess.run([PROGRAM, "serve", "-m", model_path, "-ctk", "q4_0", "-q"], capture_output=True, text=True, timeout=60 * SLOW)
    assert r.returncode == 1
    assert "--cache-type-k: expected f16 or q8_0" in r.stderr and len(r.stderr.strip().splitlines()) == 1, r.stderr


def test_repack_cache_that_cannot_be_written(model_path, tmp_path):
    (tmp_path / "file").write_text("")
    s = Server(model_path, "--repack-cache", str(tmp_path / "file"))
    assert answer_text(s)
    assert s.stop() == 0
    assert len([line for line in s.lines if "repack cache" in line]) == 1, s.output()


def test_quiet_server_has_an_idle_cpu(model_path):
    s = Server(model_path)
    try:
        time.sleep(0.5)
        before = os.times()
        ticks = open(f"/proc/{s.process.pid}/stat", encoding="ascii").read().split()[13:15]
        time.sleep(1.0)
        later = open(f"/proc/{s.process.pid}/stat", encoding="ascii").read().split()[13:15]
        assert sum(map(int, later)) - sum(map(int, ticks)) <= 2 * SLOW, (before, ticks, later)
    finally:
        assert s.stop() == 0


def test_model_larger_than_memory(tmp_path):
    path = tmp_path / "large.gguf"
    path.write_bytes((ROOT / "tests/data/tokenizers/gguf/ggml-vocab-tiny.gguf").read_bytes())
    os.truncate(path, 500 << 30)  # a hole: nothing is written
    r = subprocess.run([PROGRAM, "serve", "-m", str(path), "-q"], capture_output=True, text=True, timeout=60 * SLOW)
    assert r.returncode == 1
    assert "the model needs 536.9 GB of memory" in r.stderr and len(r.stderr.strip().splitlines()) == 1, r.stderr
