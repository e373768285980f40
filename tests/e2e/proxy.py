"""A recording proxy between a client and the server: passes every byte on as it comes and keeps what was said."""
import http.client
import http.server
import json
import threading
import time

import sse_checker

HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "te", "trailer", "upgrade", "proxy-connection"}


class Exchange:
    """One request with its answer. `message` is the whole answer of a finished /v1/messages request, streamed or not."""

    def __init__(self, method, path, headers, body):
        self.method, self.path, self.headers, self.raw = method, path, headers, body
        self.status, self.complete = None, False
        self.pieces, self.times = [], [time.monotonic()]  # times[0]: when the request came
        try:
            self.body = json.loads(body) if body else None
        except ValueError:
            self.body = None

    @property
    def is_message(self):
        return self.method == "POST" and self.path.split("?")[0] == "/v1/messages"

    @property
    def answer(self):
        return b"".join(self.pieces)

    @property
    def message(self):
        if not self.complete or self.status != 200 or not self.is_message:
            return None
        return sse_checker.check(self.answer).message if self.body.get("stream") else json.loads(self.answer)

    @property
    def prompt_tokens(self):
        return sse_checker.Checker.prompt(self.message["usage"])

    @property
    def cached_tokens(self):
        return self.message["usage"]["cache_read_input_tokens"]

    def longest_silence(self):
        return max((b - a for a, b in zip(self.times, self.times[1:])), default=0)


class Proxy:
    def __init__(self, url):
        self.exchanges = []
        self.target = url.split("//")[1]
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def pass_on(self):
                proxy.pass_on(self)

            do_GET = do_POST = do_HEAD = do_DELETE = do_OPTIONS = pass_on

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def pass_on(self, client):
        body = client.rfile.read(int(client.headers.get("content-length") or 0))
        exchange = Exchange(client.command, client.path, {k.lower(): v for k, v in client.headers.items()}, body)
        self.exchanges.append(exchange)
        upstream = http.client.HTTPConnection(self.target, timeout=3600)
        try:
            upstream.request(client.command, client.path, body or None,
                             {k: v for k, v in client.headers.items() if k.lower() not in HOP})
            answer = upstream.getresponse()
            exchange.status = answer.status
            self.pass_back(client, answer, exchange)
        except OSError:
            client.close_connection = True  # the client left: upstream.close() tells the server
        finally:
            upstream.close()

    @staticmethod
    def pass_back(client, answer, exchange):
        client.send_response_only(answer.status)
        for k, v in answer.getheaders():
            if k.lower() not in HOP:
                client.send_header(k, v)
        client.send_header("transfer-encoding", "chunked")
        client.end_headers()
        if client.command == "HEAD":
            exchange.complete = True
            return
        while data := answer.read1(65536):
            exchange.pieces.append(data)
            exchange.times.append(time.monotonic())
            client.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        client.wfile.write(b"0\r\n\r\n")
        exchange.complete = True


def plain(messages):
    """Messages without what may differ between turns and means nothing: cache marks, a text as string or block."""
    out = []
    for m in messages:
        content = m["content"] if isinstance(m["content"], list) else [{"type": "text", "text": m["content"]}]
        out.append({"role": m["role"], "content": [{k: v for k, v in b.items() if k != "cache_control"} for b in content]})
    return out


def following_turns(exchanges):
    """Pairs (earlier, later) of answered requests where the later one goes on from the earlier one's prompt."""
    pairs, answered = [], []
    for later in (e for e in exchanges if e.is_message and e.message):
        mine = plain(later.body["messages"])
        best = None
        for earlier, theirs in answered:
            if len(theirs) < len(mine) and mine[:len(theirs)] == theirs and earlier.body.get("system") == later.body.get("system"):
                best = earlier
        if best:
            pairs.append((best, later))
        answered.append((later, mine))
    return pairs
