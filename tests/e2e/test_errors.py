"""The error matrix and the endpoints of anthropic-api.md, row by row: sections 1, 2.7, 6.1 to 6.5. Test ids name the row.

Rows that need a fault inside (500, 502, 504, a body that stops arriving) are in tests/unit/server.
"""
import http.client
import json
import threading
import time

import anthropic
import pytest

from conftest import SLOW, Server

USER = {"role": "user", "content": "Say hello."}


def send(server, method, path, body=None, headers=None):
    c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60 * SLOW)
    c.request(method, path, json.dumps(body) if isinstance(body, dict) else body, headers or {})
    r = c.getresponse()
    data = r.read()
    c.close()
    return r, data


def sdk(server, **more):
    return anthropic.Anthropic(base_url=server.url, **{"api_key": "dummy", "max_retries": 0, "timeout": 60 * SLOW, **more})


@pytest.fixture(scope="module")
def strict_server(model_path):
    """Everything that is off by default: keys, known models only, one answer at a time and one that waits."""
    s = Server(model_path, "--api-key", "right", "--no-catch-all", "--alias", "org/name:Q4 x", "-c", "2048", "-np", "1",
               "--max-queue", "1")
    yield s
    assert s.stop() == 0, s.output()[-3000:]


# ---- 1: endpoints ----

@pytest.mark.parametrize("row,method,path,status", [
    ("1 HEAD /api/hello", "HEAD", "/api/hello", 200), ("1 HEAD /", "HEAD", "/", 200), ("1 GET /", "GET", "/", 200),
    ("1 event_logging", "POST", "/api/event_logging/batch", 200),
    ("1 models", "GET", "/v1/models", 200), ("1 models query", "GET", "/v1/models?limit=1000&lifecycle%5B%5D=active", 200),
    ("1 models id", "GET", "/v1/models/claude-local", 200),
    ("1 models id percent-encoded", "GET", "/v1/models/org%2Fname:Q4%20x", 200),
    ("1 v1 twice", "GET", "/v1/v1/models", 200), ("1 v1 three times", "GET", "/v1/v1/v1/models", 200),
    ("1 complete", "POST", "/v1/complete", 404), ("1 skills", "GET", "/v1/skills", 404),
    ("1 agents", "POST", "/v1/agents", 404), ("1 organizations", "GET", "/v1/organizations/x/users", 404),
    ("1 oauth", "POST", "/v1/oauth/token", 404), ("1 v1 twice, unknown", "GET", "/v1/v1/nothing", 404),
    ("1 wrong method", "GET", "/v1/messages", 405), ("1 wrong method", "DELETE", "/v1/models", 405),
    ("1 wrong method", "POST", "/v1/models/x", 405),
], ids=lambda v: v if isinstance(v, str) and v[:2] == "1 " else "")
def test_endpoints(server, row, method, path, status):
    r, data = send(server, method, path, {} if method == "POST" else None)
    assert r.status == status, (row, data)
    assert r.getheader("request-id", "").startswith("req_")
    if method == "HEAD" or path == "/" or "event_logging" in path:
        assert data == b""
    if status >= 400:
        error = json.loads(data)["error"]
        assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
        assert status == 405 or "POST /v1/messages" in error["message"]


@pytest.mark.parametrize("path", ["/v1/messages?beta=true", "/v1/messages/count_tokens?beta=true"])
def test_1_query_is_ignored(server, path):
    r, data = send(server, "POST", path, {"model": "m", "max_tokens": 1, "messages": [USER]})
    assert r.status == 200, data


# ---- 6.1: status, type and the SDK's class ----

def fails(kind, status, type_, call, code=None):
    with pytest.raises(kind) as e:
        call()
    assert type(e.value) is kind or code, type(e.value)
    assert (e.value.status_code, e.value.type, e.value.error_code) == (status, type_, code)
    assert e.value.request_id.startswith("req_") and e.value.body["request_id"] == e.value.request_id
    return e.value


def message(client, **more):
    return lambda: client.messages.create(**{"model": "m", "max_tokens": 4, "messages": [USER], **more})


def test_61_400(server):
    e = fails(anthropic.BadRequestError, 400, "invalid_request_error", message(sdk(server), messages=[]))
    assert "messages" in e.message


def test_61_401(strict_server):
    for key in ("wrong", "right "[:-2]):
        fails(anthropic.AuthenticationError, 401, "authentication_error", message(sdk(strict_server, api_key=key)))


def test_61_403(server):
    e = fails(anthropic.PermissionDeniedError, 403, "permission_error",
              message(sdk(server, default_headers={"origin": "http://evil.example"})))
    assert "--cors" in e.message


def test_61_404(strict_server):
    client = sdk(strict_server, api_key="right")
    e = fails(anthropic.NotFoundError, 404, "not_found_error", message(client, model="gpt-7"))
    assert "gpt-7" in e.message and "org/name:Q4 x" in e.message
    fails(anthropic.NotFoundError, 404, "not_found_error", lambda: client.models.retrieve("gpt-7"))
    assert client.models.retrieve("org/name:Q4 x").id == "org/name:Q4 x"


def test_61_413(server):
    fails(anthropic.ContentTooLargeError, 413, "request_too_large", message(sdk(server), system="x" * (33 << 20)))


def hold(server, n, tokens=6000):
    """n requests that keep the server busy; returns what ends them."""
    connections = []
    for i in range(n):
        c = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60 * SLOW)
        c.request("POST", "/v1/messages", json.dumps({
            "model": "org/name:Q4 x", "max_tokens": tokens, "stream": True, "temperature": 3.0, "top_k": 0, "top_p": 1,
            "min_p": 0, "messages": [{"role": "user", "content": f"Tell an endless story {i}."}]}), {"x-api-key": "right"})
        r = c.getresponse()
        r.readline()
        connections.append((c, r))

    def end():
        for c, r in connections:
            r.close()
            c.close()
    return end


def test_61_529_and_63_retry_after(strict_server):
    end = hold(strict_server, 2)
    try:
        e = fails(anthropic.OverloadedError, 529, "overloaded_error",
                  message(sdk(strict_server, api_key="right"), model="org/name:Q4 x"))
        assert e.response.headers["retry-after"] == "2" and e.response.headers["x-should-retry"] == "true"
    finally:
        end()
    assert message(sdk(strict_server, api_key="right", max_retries=5), model="org/name:Q4 x")().stop_reason


def test_61_529_is_retried_by_the_sdk(strict_server):
    end = hold(strict_server, 2)
    threading.Timer(1.0, end).start()
    m = message(sdk(strict_server, api_key="right", max_retries=5), model="org/name:Q4 x")()
    assert m.stop_reason in ("end_turn", "max_tokens")


def test_61_429(model_path):
    s = Server(model_path, "--key-requests", "1")
    try:
        end = hold(s, 1)
        e = fails(anthropic.RateLimitError, 429, "rate_limit_error", message(sdk(s)))
        assert e.response.headers["retry-after"] == "2"
        end()
        assert message(sdk(s, max_retries=3))().stop_reason
    finally:
        assert s.stop() == 0


@pytest.mark.parametrize("row,more,code", [
    ("tool_name_conflict", {"tools": [{"name": "a", "input_schema": {"type": "object"}}] * 2}, "tool_name_conflict"),
    ("compaction_nothing_to_summarize", {"messages": [], "extra_body": {"compaction": {"type": "summarize"}}},
     "compaction_nothing_to_summarize"),
    ("thread_not_found", {"extra_body": {"thread": {"type": "continue", "previous_message_id": "msg_x"}}},
     "thread_not_found"),
    ("thread_unsupported_request", {"extra_body": {"thread": {"type": "later"}}}, "thread_unsupported_request"),
])
def test_61_error_codes(server, row, more, code):
    with pytest.raises(anthropic.APIStatusError) as e:
        message(sdk(server), **more)()
    assert e.value.error_code == code, e.value


def test_61_encoding_unsupported(server):
    r, data = send(server, "POST", "/v1/messages", b"x", {"content-encoding": "gzip"})
    assert r.status == 400
    assert json.loads(data)["error"]["details"]["error_code"] == "request_body_encoding_unsupported"


# ---- 6.2, 6.3 ----

def test_62_permanent_errors_are_not_retried(server):
    seen = []
    client = sdk(server, max_retries=2, http_client=anthropic.DefaultHttpxClient(
        event_hooks={"response": [lambda r: seen.append(r.status_code)]}))
    with pytest.raises(anthropic.BadRequestError):
        message(client, messages=[{"role": "user", "content": "word " * 60000}])()
    assert seen == [400]


def test_63_headers(server):
    r, _ = send(server, "POST", "/v1/messages", {"model": "m", "max_tokens": 1, "messages": [USER]})
    names = {name.lower() for name, _ in r.getheaders()}
    assert "request-id" in names
    assert not [n for n in names if n.startswith("anthropic-")] and "retry-after" not in names


# ---- 6.4: wordings that clients match ----

def test_64_prompt_too_long(server):
    e = fails(anthropic.BadRequestError, 400, "invalid_request_error",
              message(sdk(server), messages=[{"role": "user", "content": "word " * 60000}]))
    words = e.body["error"]["message"].split("prompt is too long: ")[1].split()
    assert words[1:3] == ["tokens", ">"] and words[4] == "maximum" and int(words[0]) > int(words[3]) > 1000


def test_64_unpaired_tool_use(server):
    call = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "a", "input": {}}]}
    e = fails(anthropic.BadRequestError, 400, "invalid_request_error", message(sdk(server), messages=[USER, call, USER]))
    assert "`tool_use` ids were found without `tool_result` blocks immediately after: toolu_1" in e.message


@pytest.mark.parametrize("row,body,headers", [
    ("unknown beta", {}, {"anthropic-beta": "no-such-2031-01-01,another"}),
    ("unknown field", {"no_such_field": {"a": [1]}}, {}),
    ("context_management", {"context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}}, {}),
    ("output_config", {"output_config": {"effort": "xhigh", "task_budget": {"type": "tokens", "total": 9}}}, {}),
    ("system role", {"messages": [USER, {"role": "system", "content": "Be brief."}]}, {}),
    ("thinking adaptive", {"thinking": {"type": "adaptive", "display": "updates"}}, {}),
    ("thinking between_tools", {"thinking": {"type": "between_tools"}}, {}),
    ("bad signature", {"messages": [USER, {"role": "assistant", "content": [
        {"type": "thinking", "thinking": "hm", "signature": "foreign"}, {"type": "text", "text": "a"}]}, USER]}, {}),
    ("prefill", {"messages": [USER, {"role": "assistant", "content": "Hel"}]}, {}),
    ("prefill with white space", {"messages": [USER, {"role": "assistant", "content": "Hello "}]}, {}),
    ("cache_control", {"system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]}, {}),
])
def test_64_what_others_refuse_is_accepted(server, row, body, headers):
    r, data = send(server, "POST", "/v1/messages", {"model": "m", "max_tokens": 2, "messages": [USER], **body}, headers)
    assert r.status == 200, (row, data)


# ---- 6.5: max_tokens against the context ----

def test_65_max_tokens_is_clamped(strict_server):
    client = sdk(strict_server, api_key="right")
    with client.messages.stream(model="org/name:Q4 x", max_tokens=128000, messages=[
            {"role": "user", "content": "word " * 1800 + "Go on."}], extra_body={
                "temperature": 3.0, "top_k": 0, "top_p": 1, "min_p": 0}) as stream:
        m = stream.get_final_message()
    assert m.stop_reason in ("model_context_window_exceeded", "end_turn")
    used = m.usage.input_tokens + m.usage.cache_read_input_tokens + m.usage.output_tokens
    assert used <= 2048 and (m.stop_reason == "end_turn" or used >= 2046)


# ---- 2.7: the order of messages ----

CALL = {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "a", "input": {}}]}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "r"}
TEXT = {"type": "text", "text": "t"}


@pytest.mark.parametrize("row,messages,words", [
    ("result in a later turn", [USER, CALL, USER, {"role": "assistant", "content": "x"}, {"role": "user", "content": [RESULT]}],
     "without `tool_result` blocks immediately after"),
    ("unknown id", [USER, {"role": "user", "content": [RESULT]}], "unexpected `tool_use_id` found in `tool_result` blocks"),
    ("two results for an id", [USER, CALL, {"role": "user", "content": [RESULT, RESULT]}], "must have a single result"),
])
def test_27_refused(server, row, messages, words):
    e = fails(anthropic.BadRequestError, 400, "invalid_request_error", message(sdk(server), messages=messages))
    assert words in e.message, row


@pytest.mark.parametrize("row,messages", [
    ("result after text", [USER, CALL, {"role": "user", "content": [TEXT, RESULT]}]),
    ("system between call and result", [USER, CALL, {"role": "system", "content": "s"}, {"role": "user", "content": [RESULT]}]),
    ("first message is the assistant's", [{"role": "assistant", "content": "Hello."}, USER]),
    ("empty text block", [{"role": "user", "content": [{"type": "text", "text": ""}, TEXT]}]),
    ("empty last assistant turn", [USER, {"role": "assistant", "content": ""}]),
    ("system first", [{"role": "system", "content": "s"}, USER]),
    ("system last", [USER, {"role": "assistant", "content": "a"}, USER, {"role": "system", "content": [TEXT]}]),
    ("system after the assistant", [USER, {"role": "assistant", "content": "a"}, {"role": "system", "content": "s"}, USER]),
    ("users in a row", [USER, USER, USER]),
    ("thinking changed", [USER, {"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": ""},
                                                                 {"type": "redacted_thinking", "data": "y"}, TEXT]}, USER]),
    ("six breakpoints", [{"role": "user", "content": [{**TEXT, "cache_control": {"type": "ephemeral"}}] * 6}]),
])
def test_27_tolerated(server, row, messages):
    r, data = send(server, "POST", "/v1/messages", {"model": "m", "max_tokens": 2, "messages": messages})
    assert r.status == 200, (row, data)


# ---- 2.1, 4.3: max_tokens 0 and usage ----

def test_21_max_tokens_0_fills_the_cache(server):
    text = "A prompt that nobody sent before. " * 30
    client = sdk(server)
    m = message(client, max_tokens=0, messages=[{"role": "user", "content": text}])()
    assert (m.content, m.stop_reason, m.usage.output_tokens) == ([], "max_tokens", 0)
    whole = m.usage.input_tokens + m.usage.cache_read_input_tokens
    after = message(client, max_tokens=1, messages=[{"role": "user", "content": text}])().usage
    assert after.cache_read_input_tokens >= whole - 1 and after.input_tokens + after.cache_read_input_tokens == whole


@pytest.mark.parametrize("stream", [False, True])
def test_43_usage_adds_up(server, stream):
    body = {"model": "m", "max_tokens": 3, "stream": stream, "service_tier": "auto", "speed": "fast", "messages": [
        {"role": "user", "content": "The same question twice, so that the second one is in the cache. " * 5}]}
    _, counted = send(server, "POST", "/v1/messages/count_tokens", body)
    for again in range(2):
        _, data = send(server, "POST", "/v1/messages", body)
        if stream:
            usages = [json.loads(line[6:]) for line in data.decode().split("\n") if line.startswith("data: ") and "usage" in line]
            usages = [u["message"]["usage"] if "message" in u else u["usage"] for u in usages]
            assert len(usages) == 2
        else:
            usages = [json.loads(data)["usage"]]
        for u in usages:
            assert u["input_tokens"] > 0 and u["cache_creation_input_tokens"] == 0
            assert u["input_tokens"] + u["cache_read_input_tokens"] == json.loads(counted)["input_tokens"]
            assert (u["service_tier"], u["speed"], u["inference_geo"]) == ("standard", "standard", None)
            assert u["cache_creation"] == {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0}
        assert usages[-1]["output_tokens"] == 3 or usages[-1]["output_tokens"] < 3
        assert not again or usages[-1]["cache_read_input_tokens"] > 50


# ---- 2.3: counting never waits ----

def test_23_forty_counts_at_once_during_a_long_prefill(model_path):
    s = Server(model_path, "-np", "1", "-c", "16384", "--cpu-level", "c", "-t", "1")
    try:
        long = {"model": "m", "max_tokens": 1, "stream": True, "messages": [{"role": "user", "content": "word " * 12000}]}
        connections = []
        for i in range(3):  # one is computed, two wait; each is tokenised first
            c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=60 * SLOW)
            c.request("POST", "/v1/messages", json.dumps({**long, "system": f"Number {i}."}))
            connections.append(c)
        time.sleep(0.3)
        took, failed = [], []

        def count(i):
            started = time.monotonic()
            r, data = send(s, "POST", "/v1/messages/count_tokens", {"model": "m", "messages": [
                {"role": "user", "content": "foo"}], "tools": [{"name": f"tool_{i}", "description": "words " * 200,
                                                               "input_schema": {"type": "object"}}]})
            took.append(time.monotonic() - started)
            if r.status != 200 or json.loads(data)["input_tokens"] < 200:
                failed.append(data)
        threads = [threading.Thread(target=count, args=(i,)) for i in range(40)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not failed and len(took) == 40 and max(took) < 10 * SLOW, (failed[:1], sorted(took)[-3:])
        for c in connections:
            c.sock.close()
    finally:
        assert s.stop() == 0
