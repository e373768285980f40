"""Checks the bytes of a Messages stream against the rules that real clients rely on (framing, order, indexes, types,
usage, stop reasons). Use check() on a finished stream, Checker.feed() while it arrives.

Strict on purpose: what some client forgives and another does not is an error here.
"""
import json

STOP_REASONS = {"end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded", "pause_turn",
                "refusal"}
ERROR_TYPES = {"invalid_request_error", "authentication_error", "billing_error", "permission_error", "not_found_error",
               "request_too_large", "rate_limit_error", "api_error", "timeout_error", "overloaded_error",
               "conflict_error"}
MESSAGE_KEYS = ("id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "stop_details", "container",
                "diagnostics", "usage")
DELTAS = {"text": {"text_delta": "text", "citations_delta": "citation"},
          "thinking": {"thinking_delta": "thinking", "signature_delta": "signature"},
          "tool_use": {"input_json_delta": "partial_json"}}


class SseError(AssertionError):
    """The stream breaks a rule; the text says which one and at which event."""


class Checker:
    def __init__(self):
        self.rest = b""
        self.names = []           # of all events, in order
        self.message = None       # what an SDK would have put together
        self.error = None         # of an error event
        self.open = None          # the block that is open
        self.done = False         # message_stop or error came
        self.has_delta = False
        self.json = ""            # of the open tool call
        self.signatures = 0

    def fail(self, text):
        raise SseError(f"event {len(self.names)} ({self.names[-1] if self.names else 'none'}): {text}")

    def need(self, ok, text):
        if not ok:
            self.fail(text)

    def feed(self, data):
        """Takes bytes as they come, cut anywhere."""
        self.rest += data
        while b"\n\n" in self.rest:
            event, self.rest = self.rest.split(b"\n\n", 1)
            self.frame(event)

    def finish(self):
        """The stream ended: everything must be complete."""
        self.need(not self.rest, f"bytes behind the last event: {self.rest[:80]!r}")
        self.need(self.done, "the stream ended without message_stop or error")
        return self

    def frame(self, event):
        try:
            text = event.decode("utf-8")
        except UnicodeDecodeError as e:
            self.fail(f"not UTF-8: {e}")
        self.need("\r" not in text, "a carriage return in the framing")
        lines = text.split("\n")
        self.need(len(lines) == 2, f"an event has {len(lines)} lines, expected event and data: {text[:80]!r}")
        self.need(lines[0].startswith("event: "), f"no event line: {lines[0][:80]!r}")
        self.need(lines[1].startswith("data: "), f"no data line: {lines[1][:80]!r}")
        name = lines[0][len("event: "):]
        self.names.append(name)
        try:
            data = json.loads(lines[1][len("data: "):], parse_constant=lambda c: self.fail(f"{c} is not JSON"))
            lines[1].encode("utf-8")
        except ValueError as e:
            self.fail(f"data is not JSON: {e}")
        self.need(isinstance(data, dict), "data is not an object")
        self.need(data.get("type") == name, f"type is {data.get('type')!r}")
        self.event(name, data)

    def event(self, name, data):
        self.need(not self.done, "something follows the end")
        handler = getattr(self, "on_" + name, None)
        self.need(handler is not None, "unknown event name")
        if name not in ("ping", "error", "message_start"):
            self.need(self.message is not None, "comes before message_start")
        if name not in ("ping", "error", "message_stop"):
            self.need(not self.has_delta, "comes after message_delta")
        handler(data)

    def on_ping(self, data):
        pass

    def on_error(self, data):
        error = data.get("error")
        self.need(isinstance(error, dict), "no error object")
        self.need(error.get("type") in ERROR_TYPES, f"unknown error type {error.get('type')!r}")
        self.need(isinstance(error.get("message"), str) and error["message"], "no message")
        self.need(isinstance(data.get("request_id"), str), "no request_id")
        self.error = error
        self.done = True

    def on_message_start(self, data):
        self.need(self.message is None, "a second message_start")
        message = data.get("message")
        self.need(isinstance(message, dict), "no message")
        for key in MESSAGE_KEYS:
            self.need(key in message, f"message has no {key}")
        self.need(message["content"] == [], "content is not []")
        self.need(message["type"] == "message" and message["role"] == "assistant", "wrong type or role")
        self.need(message["id"].startswith("msg_"), f"id is {message['id']!r}")
        self.need(message["stop_reason"] is None and message["stop_sequence"] is None, "a stop reason at the start")
        self.usage(message["usage"], ("input_tokens", "output_tokens"))
        self.need(self.prompt(message["usage"]) > 0, "the prompt has 0 tokens in message_start")
        self.message = message

    def on_content_block_start(self, data):
        self.need(self.open is None, "a block is still open")
        self.index(data, len(self.message["content"]))
        block = data.get("content_block")
        self.need(isinstance(block, dict) and block.get("type") in DELTAS, f"unknown block {block!r}")
        if block["type"] == "text":
            self.need(block.get("text") == "", "a text block must start with text \"\"")
            self.need("citations" in block, "a text block has no citations key")
        elif block["type"] == "thinking":
            self.need(block.get("thinking") == "" and block.get("signature") == "",
                      "a thinking block must start with thinking \"\" and signature \"\"")
        else:
            ids = {b["id"] for b in self.message["content"] if b["type"] == "tool_use"}
            self.need(isinstance(block.get("id"), str) and block["id"] not in ids, "tool id is missing or repeated")
            self.need(isinstance(block.get("name"), str) and block["name"], "no tool name")
            self.need(block.get("input") == {}, "a tool block must start with input {}")
            self.need("caller" in block, "a tool block has no caller key")
        self.open, self.json, self.signatures = dict(block), "", 0
        self.message["content"].append(self.open)

    def on_content_block_delta(self, data):
        self.need(self.open is not None, "no block is open")
        self.index(data, len(self.message["content"]) - 1)
        delta = data.get("delta")
        self.need(isinstance(delta, dict), "no delta")
        key = DELTAS[self.open["type"]].get(delta.get("type"))
        self.need(key is not None, f"a {delta.get('type')} in a {self.open['type']} block")
        self.need(key in delta, f"a {delta['type']} without {key}")
        self.need(self.signatures == 0, "a delta follows the signature")
        if key == "citation":
            return
        self.need(isinstance(delta[key], str), f"{key} is not a string")
        if key == "partial_json":
            self.json += delta[key]
        else:
            self.open[key] += delta[key]
            self.signatures += key == "signature"

    def on_content_block_stop(self, data):
        self.need(self.open is not None, "no block is open")
        self.index(data, len(self.message["content"]) - 1)
        if self.open["type"] == "text":
            self.need(self.open["text"], "an empty text block")
        elif self.open["type"] == "thinking":
            self.need(self.signatures == 1 and self.open["signature"], "a thinking block needs one signature_delta")
        elif self.json:
            try:
                self.open["input"] = json.loads(self.json)
            except ValueError as e:
                self.fail(f"the input of a tool call is not JSON: {e}: {self.json[:200]!r}")
            self.need(isinstance(self.open["input"], dict), "the input of a tool call is not an object")
        self.open = None

    def on_message_delta(self, data):
        self.need(self.open is None, "a block is still open")
        delta = data.get("delta")
        self.need(isinstance(delta, dict), "no delta")
        reason = delta.get("stop_reason")
        self.need(reason in STOP_REASONS, f"stop_reason is {reason!r}")
        self.need("stop_sequence" in delta, "no stop_sequence key")
        self.need((reason == "stop_sequence") == isinstance(delta["stop_sequence"], str),
                  f"stop_sequence {delta['stop_sequence']!r} with reason {reason}")
        has_tool = any(b["type"] == "tool_use" for b in self.message["content"])
        self.need(not (reason == "tool_use" and not has_tool), "stop_reason tool_use without a tool call")
        self.need(not (reason in ("end_turn", "stop_sequence") and has_tool), f"{reason} although a tool is called")
        usage = data.get("usage")
        self.usage(usage, ("output_tokens",))
        start = self.message["usage"]
        self.need(usage["output_tokens"] >= start["output_tokens"], "output_tokens went down")
        if usage.get("input_tokens") is not None:
            self.need(self.prompt(usage) == self.prompt(start),
                      f"the prompt had {self.prompt(start)} tokens, now it has {self.prompt(usage)}")
        self.message["usage"] = {**start, **{k: v for k, v in usage.items() if v is not None}}
        self.message["stop_reason"] = reason
        self.message["stop_sequence"] = delta["stop_sequence"]
        self.has_delta = True

    def on_message_stop(self, data):
        self.need(self.has_delta, "no message_delta before it")
        self.done = True

    def index(self, data, expected):
        self.need(data.get("index") == expected and not isinstance(data["index"], bool),
                  f"index is {data.get('index')!r}, expected {expected}")

    def usage(self, usage, required):
        self.need(isinstance(usage, dict), "no usage")
        for key in required:
            self.need(isinstance(usage.get(key), int) and usage[key] >= 0, f"usage.{key} is {usage.get(key)!r}")

    @staticmethod
    def prompt(usage):
        return sum(usage.get(k) or 0 for k in ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"))


def check(data, complete=True):
    """Checks a stream; returns the Checker, whose message is what an SDK would have. complete=False allows a cut."""
    checker = Checker()
    checker.feed(data)
    return checker.finish() if complete else checker


def check_gaps(times, limit_s=10.5):
    """times: when pieces arrived, the first one being the sending of the request."""
    for before, after in zip(times, times[1:]):
        assert after - before <= limit_s, f"{after - before:.1f} s of silence"
