"""Routes, headers, transport and errors: sections 1 and 6."""
import json
import socket
import ssl
import urllib.parse

from runner import check, error_shape


def raw(s, data, timeout=30):
    """Sends bytes as they are; what comes until the server closes or says nothing more."""
    answer = b""
    port = s.parts.port or (443 if s.parts.scheme == "https" else 80)
    with socket.create_connection((s.parts.hostname, port), timeout=timeout) as plain:
        c = ssl.create_default_context().wrap_socket(plain, server_hostname=s.parts.hostname) if s.parts.scheme == "https" else plain
        try:
            c.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        try:
            while piece := c.recv(65536):
                answer += piece
        except (TimeoutError, ConnectionResetError):
            pass
    return answer


def head(s, method, path, *lines):
    return "\r\n".join([f"{method} {s.parts.path}{path} HTTP/1.1", f"host: {s.parts.hostname}", f"x-api-key: {s.key}",
                        "content-type: application/json", "connection: close", *lines, "", ""]).encode()


@check("1/models", "9/23")
def models_are_listed_for_both_kinds_of_clients(s):
    body = s.request("GET", "/v1/models?limit=1000").json
    assert body["data"] and body["has_more"] is False and "first_id" in body and "last_id" in body, body
    item = body["data"][0]
    for key in ("id", "type", "display_name", "created_at", "lifecycle"):
        assert key in item, f"no {key}"
    assert item["type"] == "model"
    if body.get("object") != "list" or item.get("object") != "model":
        return "without the keys that OpenAI's clients read"
    one = s.request("GET", "/v1/models/" + urllib.parse.quote(item["id"], safe=""))
    assert one.status == 200 and one.json["id"] == item["id"], str(one)
    assert [m.id for m in s.sdk.models.list()] == [m["id"] for m in body["data"]]


@check("1/hello", "9/26")
def greetings_are_answered(s):
    for method, path in (("HEAD", "/api/hello"), ("HEAD", "/"), ("GET", "/")):
        r = s.request(method, path)
        assert r.status == 200, f"{method} {path}: {r}"


@check("1/telemetry")
def telemetry_is_swallowed(s):
    assert s.request("POST", "/api/event_logging/batch", {}).status == 200


@check("1/hosted", "6.1/404", "9/13")
def hosted_products_are_not_found(s):
    for path in ("/v1/skills", "/v1/agents", "/v1/sessions", "/v1/organizations/x", "/v1/memory_stores", "/v1/no_such_thing"):
        r = s.request("GET", path)
        assert r.status == 404 and error_shape(r)["type"] == "not_found_error", f"{path}: {r}"


@check("1/v1v1", "9/26")
def a_doubled_v1_works_or_is_named(s):
    r = s.post(s.body(max_tokens=1), "/v1/v1/messages")
    assert r.status == 200 or (r.status == 404 and "/v1/v1" in r.json["error"]["message"]), str(r)


@check("1/method")
def a_wrong_method_is_a_405(s):
    r = s.request("GET", "/v1/messages")
    assert r.status == 405, str(r)
    error_shape(r)


@check("1/key", "9/4")
def a_key_may_come_in_two_ways(s):
    for headers in ({"authorization": f"Bearer {s.key}", "x-api-key": ""}, {"x-api-key": s.key},
                    {"authorization": f"Bearer {s.key}", "x-api-key": s.key}):
        r = s.post(s.body(max_tokens=1), headers=headers)
        assert r.status == 200, f"{headers}: {r}"


@check("1/version", "1/beta", "1/headers", "9/3")
def versions_betas_and_headers_never_fail(s):
    for headers in ({"anthropic-version": "2023-06-01"}, {"anthropic-version": "2026-10-21"}, {"anthropic-version": "2099-01-01"},
                    {"anthropic-beta": "no-such-beta-2030-01-01,other"}, {"x-stainless-timeout": "NOT_GIVEN", "x-stainless-retry-count": "1"},
                    {"x-claude-code-session-id": "a", "anthropic-user-profile-id": "b", "x-app": "cli"},
                    {"content-type": "application/json; charset=utf-8"}, {"accept": "text/event-stream"},
                    {"anthropic-dangerous-direct-browser-access": "true"}):
        r = s.post(s.body(max_tokens=1), headers=headers)
        assert r.status == 200 and r.headers["content-type"].startswith("application/json"), f"{headers}: {r}"
    r = s.post(s.body(max_tokens=1, stream=True), headers={"accept": "application/json"})
    assert r.headers["content-type"].startswith("text/event-stream"), "accept decided about streaming"


@check("1/encoding")
def unknown_encodings_have_a_code(s):
    r = s.post(s.body(), headers={"content-encoding": "x-no-such"})
    assert r.status == 400 and r.code == "request_body_encoding_unsupported", str(r)


@check("1/transport")
def chunks_and_expectations(s):
    body = json.dumps(s.body(max_tokens=1)).encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[i:i + 9]), body[i:i + 9]) for i in range(0, len(body), 9)) + b"0\r\n\r\n"
    assert b" 200 " in raw(s, head(s, "POST", "/v1/messages", "transfer-encoding: chunked") + chunks).split(b"\r\n")[0]
    answer = raw(s, head(s, "POST", "/v1/messages", "expect: 100-continue", f"content-length: {len(body)}") + body)
    assert b" 200 " in answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").split(b"\r\n")[0], answer[:200]


@check("1/transport", "1.1/connections")
def connections_are_kept(s):
    c = s.connect()
    c.connect()
    port = c.sock.getsockname()
    for body in (s.body(max_tokens=1), s.body(max_tokens=1, stream=True), s.body(max_tokens=1)):
        assert s.request("POST", "/v1/messages", body, connection=c).status == 200
        assert c.sock and c.sock.getsockname() == port, "the server closed the connection"
    c.close()


@check("1.1/early", "3.4/limits", "6.1/413", "9/24")
def large_bodies_are_refused_before_they_are_read(s):
    answer = raw(s, head(s, "POST", "/v1/messages", f"content-length: {33 << 20}") + b"x" * 100000)
    assert b" 413 " in answer.split(b"\r\n")[0] and b"request_too_large" in answer, answer[:200]


@check("6.1/shape", "6.1/400", "6.2/permanent", "6.3/request_id", "9/13")
def bad_requests_name_the_field(s):
    for change, word in (({"messages": None}, "messages"), ({"max_tokens": "x"}, "max_tokens"), ({"temperature": "hot"}, "temperature"),
                         ({"stop_sequences": [1]}, "stop_sequences"), ({"system": 7}, "system"), ({"tools": [5]}, "tools"),
                         ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0")):
        r = s.refused(**change)
        assert r.json["error"]["type"] == "invalid_request_error" and word in r.json["error"]["message"], str(r)
        assert r.json["request_id"] == r.headers["request-id"], str(r)
    for broken in (b"{", b"", b"[]", b'"x"', b"\xff"):
        r = s.request("POST", "/v1/messages", broken)
        assert r.status == 400 and error_shape(r), str(r)


@check("6.3/request_id")
def every_response_has_an_id(s):
    ids = [s.request("GET", "/v1/models").headers.get("request-id"), s.post(s.body(max_tokens=1)).headers.get("request-id"),
           s.request("GET", "/v1/nothing").headers.get("request-id"), s.request("HEAD", "/").headers.get("request-id")]
    assert all(ids) and len(set(ids)) == len(ids), ids


@check("6.4/too_long", "6.2/permanent", "9/10")
def a_prompt_that_is_too_long_is_told_so(s):
    r = s.post(s.body("word " * 3_000_000, max_tokens=1))
    if r.status == 413:
        return "the body is refused first"
    assert r.status == 400 and "prompt is too long: " in r.json["error"]["message"] and " maximum" in r.json["error"]["message"], str(r)
