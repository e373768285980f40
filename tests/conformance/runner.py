"""Runs checks against a server and keeps the verdicts. A check is a function with the rows that it stands for."""
import contextlib
import http.client
import json
import pathlib
import sys
import time
import traceback
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

import sse_checker  # noqa: E402

from rows import ROWS  # noqa: E402

CHECKS = []  # (function, rows)


class NotShown(Exception):
    """The model did not do what the check needs (it called no tool, say): nothing is proved either way."""


def check(*rows):
    for row in rows:
        assert row in ROWS, row

    def add(function):
        CHECKS.append((function, rows))
        return function
    return add


class Response:
    def __init__(self, status, headers, data, times):
        self.status, self.headers, self.data, self.times = status, headers, data, times

    @property
    def json(self):
        return json.loads(self.data)

    @property
    def code(self):
        return (self.json["error"].get("details") or {}).get("error_code")

    def __str__(self):
        return f"{self.status} {self.data[:400].decode(errors='replace')}"


class Server:
    """The server under test, seen from outside."""

    def __init__(self, url, key, model, timeout):
        self.url, self.key, self.model, self.timeout = url.rstrip("/"), key, model, timeout
        self.parts = urllib.parse.urlsplit(self.url)

    @property
    def sdk(self):
        import anthropic
        return anthropic.Anthropic(base_url=self.url, api_key=self.key, max_retries=0, timeout=self.timeout)

    def connect(self):
        kind = http.client.HTTPSConnection if self.parts.scheme == "https" else http.client.HTTPConnection
        return kind(self.parts.hostname, self.parts.port, timeout=self.timeout)

    def request(self, method, path, body=None, headers=None, connection=None):
        c = connection or self.connect()
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        started = time.monotonic()
        c.request(method, self.parts.path + path, data, {"content-type": "application/json", "x-api-key": self.key, **(headers or {})})
        r = c.getresponse()
        times, pieces = [started, time.monotonic()], []
        while piece := r.read1(65536):
            pieces.append(piece)
            times.append(time.monotonic())
        r.read()  # ends the response, so that the connection can be used again
        if not connection:
            c.close()
        return Response(r.status, {k.lower(): v for k, v in r.getheaders()}, b"".join(pieces), times)

    def post(self, body, path="/v1/messages", headers=None):
        return self.request("POST", path, body, headers)

    def body(self, messages="Say hello.", **more):
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return {"model": self.model, "max_tokens": 200, "messages": messages, **more}

    def create(self, messages="Say hello.", **more):
        """The message as an object; anything but 200 fails the check."""
        r = self.post(self.body(messages, **more))
        assert r.status == 200, str(r)
        return r.json

    def stream(self, messages="Say hello.", **more):
        """The checked stream (sse_checker.Checker) and the response."""
        r = self.post(self.body(messages, stream=True, **more))
        assert r.status == 200, str(r)
        return sse_checker.check(r.data), r

    def count(self, messages="Say hello.", **more):
        body = self.body(messages, **more)
        del body["max_tokens"]
        r = self.post(body, "/v1/messages/count_tokens")
        assert r.status == 200, str(r)
        return r.json["input_tokens"]

    def refused(self, status=400, path="/v1/messages", **body):
        """The request must be refused with this status, in the normal error shape."""
        r = self.post({**self.body(), **body}, path)
        assert r.status == status, str(r)
        error_shape(r)
        return r


def error_shape(r):
    body = r.json
    assert body["type"] == "error" and isinstance(body["error"]["type"], str) and body["error"]["message"], str(r)
    assert r.headers.get("request-id"), "no request-id header"
    return body["error"]


def text(message):
    return "".join(b["text"] for b in message["content"] if b["type"] == "text")


def calls(message):
    return [b for b in message["content"] if b["type"] == "tool_use"]


def total(usage):
    return sse_checker.Checker.prompt(usage)


def turn(message):
    return {"role": "assistant", "content": message["content"]}


def run_check(function, server):
    """(verdict, note)"""
    try:
        note = function(server)
        return "pass", note or ""
    except NotShown as why:
        return "not shown", str(why)
    except (AssertionError, KeyError, TypeError, ValueError, OSError, http.client.HTTPException) as why:
        place = traceback.extract_tb(why.__traceback__)[-1]
        return "FAIL", f"{function.__name__}: {type(why).__name__}: {str(why)[:300] or place.line}"
    except Exception as why:  # noqa: BLE001 - an SDK raises classes of its own
        return "FAIL", f"{function.__name__}: {type(why).__name__}: {str(why)[:300]}"


def run(server, only=None, say=lambda line: None):
    """{row: (verdict, [notes])} of all rows, or of those that begin with `only`."""
    found = {}
    for function, rows in CHECKS:
        mine = [r for r in rows if not only or r.startswith(only)]
        if not mine:
            continue
        started = time.monotonic()
        verdict, note = run_check(function, server)
        say(f"{verdict:9} {function.__name__} ({', '.join(rows)}) {time.monotonic() - started:.1f} s {note}")
        for row in mine:
            found.setdefault(row, []).append((verdict, note))
    order = ["FAIL", "not shown", "pass"]
    return {row: (next(v for v in order if v in [x for x, _ in found[row]]), [n for _, n in found[row] if n])
            for row in ROWS if row in found}


def table(results):
    width = max(len(r) for r in results)
    lines = [f"{'row':{width}}  verdict    what"]
    for row, (verdict, notes) in results.items():
        lines.append(f"{row:{width}}  {verdict:9}  {ROWS[row]}" + "".join(f"\n{'':{width}}             {n}" for n in notes))
    return "\n".join(lines)


def coverage():
    """docs/conformance.md: which check stands for which row."""
    by_row = {row: [] for row in ROWS}
    for function, rows in CHECKS:
        for row in rows:
            by_row[row].append(f"`{function.__name__}`")
    lines = ["| row | what | checks |", "|---|---|---|"]
    lines += [f"| {row} | {ROWS[row]} | {', '.join(names)} |" for row, names in by_row.items()]
    return "\n".join(lines), [row for row, names in by_row.items() if not names]


@contextlib.contextmanager
def left_in_mid_stream(server, body):
    """A connection whose answer has begun; it is cut when the block ends."""
    c = server.connect()
    c.request("POST", server.parts.path + "/v1/messages", json.dumps(body), {"content-type": "application/json", "x-api-key": server.key})
    r = c.getresponse()
    yield r
    c.sock.close()
