"""The wire, byte by byte, against the real program: streams, headers, and everything that a client can get wrong."""
import http.client
import json
import socket
import time

import pytest

import sse_checker
from conftest import SLOW

MESSAGES = [{"role": "user", "content": "Say hello."}]
BODY = {"model": "claude-opus-5-5", "max_tokens": 16, "messages": MESSAGES}


def request(server, method, path, body=None, headers=None):
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60 * SLOW)
    if isinstance(body, dict):
        body = json.dumps(body)
    c.request(method, path, body, {"content-type": "application/json", **(headers or {})})
    r = c.getresponse()
    data = r.read()
    c.close()
    return r, data


def post(server, body, path="/v1/messages", **headers):
    return request(server, "POST", path, body, headers)


def raw(server, data, timeout=20):
    """Sends bytes as they are and reads until the server closes or `timeout` passes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=timeout * SLOW) as s:
        try:
            s.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = b""
        try:
            while chunk := s.recv(65536):
                answer += chunk
        except (TimeoutError, ConnectionResetError):
            pass
        return answer


def alive(server):
    r, data = post(server, dict(BODY, max_tokens=1))
    assert r.status == 200, data


def check_error(r, data, status, kind, *words):
    body = json.loads(data)
    assert r.status == status, (r.status, body)
    assert body["type"] == "error" and body["error"]["type"] == kind, body
    assert r.getheader("request-id", "").startswith("req_") and body["request_id"] == r.getheader("request-id")
    assert r.getheader("content-type") == "application/json"
    for w in words:
        assert w in body["error"]["message"], body
    return body


# ---- answers ----

@pytest.mark.parametrize("extra", [{}, {"stop_sequences": ["o"]}, {"max_tokens": 1}, {"system": "Be brief."},
                                   {"messages": MESSAGES + [{"role": "assistant", "content": "Hello"}]}])
def test_stream_is_legal(server, extra):
    r, data = post(server, dict(BODY, stream=True, **extra))
    assert r.status == 200
    assert r.getheader("content-type").startswith("text/event-stream")
    assert r.getheader("cache-control") == "no-cache"
    assert r.getheader("request-id", "").startswith("req_")
    checker = sse_checker.check(data)
    assert checker.message["usage"]["input_tokens"] > 0


def test_message_start_has_true_input_tokens_at_once(server):
    _, counted = post(server, {"model": "m", "messages": MESSAGES}, "/v1/messages/count_tokens")
    r, data = post(server, dict(BODY, stream=True))
    start = json.loads(data.split(b"data: ", 1)[1].split(b"\n", 1)[0])
    usage = start["message"]["usage"]
    assert usage["input_tokens"] + (usage["cache_read_input_tokens"] or 0) == json.loads(counted)["input_tokens"]


def test_message_has_every_required_key(server):
    r, data = post(server, BODY)
    m = json.loads(data)
    assert r.status == 200 and r.getheader("content-type") == "application/json"
    for key in sse_checker.MESSAGE_KEYS:
        assert key in m, key
    assert m["content"][0]["type"] == "text" and m["content"][0]["citations"] is None
    for key in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
        assert isinstance(m["usage"][key], int)


@pytest.mark.parametrize("headers", [{"anthropic-version": "2023-06-01"}, {"anthropic-version": "2026-10-21"},
                                     {"anthropic-version": "2099-01-01"}, {"anthropic-beta": "no-such-beta-2030-01-01,x"},
                                     {"accept": "application/json"}, {"content-type": "text/plain"}])
def test_versions_and_betas_never_fail(server, headers):
    r, data = post(server, dict(BODY, max_tokens=1, unknown_field={"a": 1}, service_tier="auto"), "/v1/messages?beta=true",
                   **headers)
    assert r.status == 200, data


def test_base_url_with_v1_works_too(server):
    r, data = post(server, dict(BODY, max_tokens=1), "/v1/v1/messages")
    assert r.status == 200, data


@pytest.mark.parametrize("method,path,status", [("HEAD", "/", 200), ("HEAD", "/api/hello", 200), ("GET", "/health", 200),
                                                ("GET", "/v1/models", 200), ("POST", "/api/event_logging/batch", 200)])
def test_other_routes(server, method, path, status):
    r, data = request(server, method, path, b"{}" if method == "POST" else None)
    assert r.status == status, data
    if method == "HEAD":
        assert data == b""


def test_cors_is_off(server):
    r, _ = request(server, "OPTIONS", "/v1/messages", None, {"origin": "http://evil.example", "access-control-request-method": "POST"})
    assert r.getheader("access-control-allow-origin") is None


# ---- errors ----

CASES = [
    ("{", 400, "JSON"),
    ('{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a\xff"}]}'.encode("latin-1"), 400, ""),
    ('{"model":"m","max_tokens":5}', 400, "messages"),
    ('{"max_tokens":5,"messages":[{"role":"user","content":"x"}]}', 400, "model"),
    ('{"model":"m","max_tokens":5,"messages":[]}', 400, "messages"),
    ('{"model":"m","max_tokens":"many","messages":[{"role":"user","content":"x"}]}', 400, "max_tokens"),
    ('{"model":"m","max_tokens":-1,"messages":[{"role":"user","content":"x"}]}', 400, "max_tokens"),
    ('{"model":"m","max_tokens":5,"messages":[{"role":"robot","content":"x"}]}', 400, "messages.0.role"),
    ('{"model":"m","max_tokens":5,"messages":[{"role":"user","content":[{"type":"text","text":5}]}]}', 400, "messages.0.content.0.text"),
    ('{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y"},'
     '{"role":"user","content":"x"},{"role":"user","content":[{"type":"banana"}]}]}', 400, "messages.3.content.0"),
    ('{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"x"}],"stop_sequences":[5]}', 400, "stop_sequences.0"),
    ('{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"x"}],"temperature":"hot"}', 400, "temperature"),
    ('{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"x"}],"system":7}', 400, "system"),
    ("[" * 10000 + "]" * 10000, 400, ""),
    ('{"model":"m","max_tokens":5,"messages":' + '{"a":' * 10000 + "1" + "}" * 10000 + "}", 400, ""),
    ("[]", 400, ""), ("null", 400, ""), ("", 400, ""), ('"text"', 400, ""),
    ('{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"x"}],"thread":{"type":"continue"}}', 400, "thread.previous_message_id"),
    ('{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"x"}],"mcp_servers":[{"type":"url"}]}', 400, "mcp_servers"),
]


@pytest.mark.parametrize("body,status,word", CASES, ids=range(len(CASES)))
def test_bad_requests_name_the_field(server, body, status, word):
    r, data = post(server, body)
    check_error(r, data, status, "invalid_request_error", word)
    alive(server)


def test_unknown_path_and_method(server):
    check_error(*request(server, "GET", "/v1/nothing"), 404, "not_found_error")
    check_error(*request(server, "GET", "/v1/messages"), 405, "invalid_request_error")


def test_body_over_the_limit_is_413_before_it_is_sent(server):
    size = 33 << 20
    answer = raw(server, b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % size + b"x" * 100000)
    assert b" 413 " in answer.split(b"\r\n")[0] and b"request_too_large" in answer
    r, data = post(server, b'{"model":"m","messages":[{"role":"user","content":"' + b"x" * size + b'"}]}')
    check_error(r, data, 413, "request_too_large")
    alive(server)


@pytest.mark.parametrize("data", [
    b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x00\x01\x02\x03\r\n\r\n", b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5000 + b"\r\n", b"GET / HTTP/1.1\r\nx: " + b"y" * 200000 + b"\r\n\r\n",
    b"POST /v1/messages HTTP/1.1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /v1/messages HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    b"POST /v1/messages HTTP/1.1\r\ncontent-length: -5\r\n\r\n",
    b"POST /v1/messages HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v1/messages HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\n",
], ids=range(11))
def test_broken_http_is_refused_clearly(server, data):
    answer = raw(server, data)
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505")), answer[:200]
    assert b"request-id: req_" in answer and b'"type":"error"' in answer.replace(b'": "', b'":"')
    alive(server)


def test_chunked_body_and_expect_continue(server):
    body = json.dumps(dict(BODY, max_tokens=1)).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 7]), body[i:i + 7]) for i in range(0, len(body), 7)) + b"0\r\n\r\n"
    head = b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n"
    assert b" 200 OK" in raw(server, head + b"\r\n" + chunks, 60)
    answer = raw(server, head + b"expect: 100-continue\r\n\r\n" + chunks, 60)
    assert answer.startswith(b"HTTP/1.1 100 ") and b" 200 OK" in answer


def test_keep_alive_has_no_request_cap(server):
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60 * SLOW)
    c.connect()
    first = c.sock.getsockname()
    for _ in range(250):
        c.request("GET", "/v1/models")
        c.getresponse().read()
        assert c.sock is not None and c.sock.getsockname() == first
    c.close()


def test_a_sender_that_trickles_is_cut_off_and_others_go_on(server):
    slow = socket.create_connection(("127.0.0.1", server.port))
    slow.sendall(b"POST /v1/messages HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n{")
    for _ in range(3):
        slow.sendall(b" ")
        alive(server)
        time.sleep(0.1)
    slow.close()


def test_text_of_a_client_never_becomes_a_control_token(server):
    def count(text):
        return json.loads(post(server, {"model": "m", "messages": [{"role": "user", "content": text}]},
                               "/v1/messages/count_tokens")[1])["input_tokens"]
    assert count("<|im_end|>") >= count("a") + 3  # several ordinary tokens instead of one control token


def test_500_requests_leak_no_memory(server):
    for _ in range(100):
        post(server, {"model": "m", "messages": MESSAGES}, "/v1/messages/count_tokens")
    before = server.rss_mb()
    for i in range(500):
        if i % 5 == 0:
            post(server, "{" * (i + 1))
        else:
            post(server, {"model": "m", "messages": [{"role": "user", "content": "word " * 500}]}, "/v1/messages/count_tokens")
    assert server.rss_mb() < before + 8 * SLOW, (before, server.rss_mb())
