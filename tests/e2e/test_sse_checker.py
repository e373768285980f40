"""The stream checker itself: it accepts good streams, also cut into pieces, and names each offence."""
import json

import pytest
from sse_checker import Checker, SseError, check, check_gaps


def sse(data):
    return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()


def usage(**more):
    return {"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 0, **more}


def start(**more):
    return {"type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
        "stop_sequence": None, "stop_details": None, "container": None, "diagnostics": None, "usage": usage(), **more}}


TEXT = {"type": "text", "text": "", "citations": None}
THINKING = {"type": "thinking", "thinking": "", "signature": ""}
TOOL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}, "caller": {"type": "direct"}}
PING = {"type": "ping"}
STOP = {"type": "message_stop"}


def open_block(index, block):
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index, kind, **fields):
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **fields}}


def close(index):
    return {"type": "content_block_stop", "index": index}


def end(reason="end_turn", sequence=None, **more):
    return {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": sequence},
            "usage": usage(output_tokens=3, **more)}


def error(kind="overloaded_error"):
    return {"type": "error", "error": {"type": kind, "message": "full"}, "request_id": "req_1"}


def text_block(index=0, text="hi"):
    return [open_block(index, TEXT), delta(index, "text_delta", text=text), close(index)]


GOOD = [PING, start(), open_block(0, THINKING), delta(0, "thinking_delta", thinking="hm"), PING,
        delta(0, "signature_delta", signature="s"), close(0), *text_block(1, "é\u2028"), open_block(2, TOOL),
        delta(2, "input_json_delta", partial_json=""), delta(2, "input_json_delta", partial_json='{"a":'),
        delta(2, "input_json_delta", partial_json="1}"), close(2), end("tool_use"), STOP]


def join(events):
    return b"".join(sse(e) for e in events)


def test_good_stream_becomes_the_message():
    m = check(join(GOOD)).message
    assert [b["type"] for b in m["content"]] == ["thinking", "text", "tool_use"]
    assert m["content"][1]["text"] == "é\u2028" and m["content"][2]["input"] == {"a": 1}
    assert m["stop_reason"] == "tool_use" and m["usage"]["output_tokens"] == 3


def test_every_cut_is_legal_until_the_end():
    data = join(GOOD)
    for cut in range(len(data)):
        with pytest.raises(SseError):
            check(data[:cut])
        assert not check(data[:cut], complete=False).done
    one = Checker()
    for byte in data:
        one.feed(bytes([byte]))
    assert one.finish().done


def test_error_event_ends_a_stream_anywhere():
    for cut in range(len(GOOD) - 1):
        assert check(join(GOOD[:cut] + [error()])).error["type"] == "overloaded_error"


@pytest.mark.parametrize("events, offence", [
    ([STOP], "before message_start"),
    ([start(), start()], "second message_start"),
    ([start(content=[1])], "content is not"),
    ([start(usage={"output_tokens": 0})], "usage.input_tokens"),
    ([start(usage=usage(input_tokens=0, cache_read_input_tokens=0))], "0 tokens"),
    ([start(stop_reason="end_turn")], "stop reason at the start"),
    ([start(), open_block(1, TEXT)], "index is 1"),
    ([start(), open_block(0, TEXT), open_block(1, TEXT)], "still open"),
    ([start(), open_block(0, {"type": "text"})], "text block must start"),
    ([start(), open_block(0, {"type": "thinking", "thinking": ""})], "thinking block must start"),
    ([start(), open_block(0, {**TOOL, "input": None})], "tool block must start"),
    ([start(), open_block(0, {"type": "image"})], "unknown block"),
    ([start(), delta(0, "text_delta", text="x")], "no block is open"),
    ([start(), open_block(0, TEXT), delta(1, "text_delta", text="x")], "index is 1"),
    ([start(), open_block(0, TEXT), delta(0, "thinking_delta", thinking="x")], "in a text block"),
    ([start(), open_block(0, TEXT), delta(0, "text_delta")], "without text"),
    ([start(), open_block(0, TEXT), delta(0, "text_delta", text=None)], "not a string"),
    ([start(), open_block(0, TEXT), close(0)], "empty text block"),
    ([start(), *text_block(), close(0)], "no block is open"),
    ([start(), *text_block(), *text_block(0)], "index is 0"),
    ([start(), open_block(0, THINKING), delta(0, "thinking_delta", thinking="x"), close(0)], "one signature_delta"),
    ([start(), open_block(0, THINKING), delta(0, "signature_delta", signature="a"),
      delta(0, "signature_delta", signature="b")], "follows the signature"),
    ([start(), open_block(0, TOOL), delta(0, "input_json_delta", partial_json='{"a"'), close(0)], "not JSON"),
    ([start(), open_block(0, TOOL), delta(0, "input_json_delta", partial_json="[]"), close(0)], "not an object"),
    ([start(), open_block(0, TOOL), close(0), open_block(1, TOOL)], "repeated"),
    ([start(), open_block(0, TEXT), end()], "still open"),
    ([start(), end("finished")], "stop_reason is"),
    ([start(), end("stop_sequence")], "stop_sequence None"),
    ([start(), end("end_turn", "x")], "stop_sequence 'x'"),
    ([start(), end("tool_use")], "without a tool call"),
    ([start(), open_block(0, TOOL), close(0), end("end_turn")], "although a tool"),
    ([start(), end(input_tokens=0, cache_read_input_tokens=0)], "the prompt had 7 tokens"),
    ([start(), end(), end()], "after message_delta"),
    ([start(), end(), *text_block()], "after message_delta"),
    ([start(), STOP], "no message_delta"),
    ([start(), end(), STOP, PING], "follows the end"),
    ([error(), PING], "follows the end"),
    ([error("server_error")], "unknown error type"),
    ([{"type": "message_begin"}], "unknown event"),
])
def test_offences_are_named(events, offence):
    with pytest.raises(SseError, match=offence):
        check(join(events), complete=False)


@pytest.mark.parametrize("data, offence", [
    (b"data: {\"type\":\"ping\"}\n\n", "expected event and data"),
    (b": comment\n\n", "expected event and data"),
    (b"data: [DONE]\n\n", "expected event and data"),
    (b"event: ping\r\ndata: {\"type\":\"ping\"}\r\n\r\n\n\n", "carriage return"),
    (b"event: ping\ndata: {\"type\":\"ping\"}\ndata: x\n\n", "3 lines"),
    (b"event: ping\ndata: {\"type\":\"pong\"}\n\n", "type is 'pong'"),
    (b"event: ping\ndata: {\"type\":\"ping\",\"x\":NaN}\n\n", "not JSON"),
    (b"event: ping\ndata: {\"type\":\"ping\"\n\n", "not JSON"),
    (b"event: ping\ndata: []\n\n", "not an object"),
    (b"event: ping\ndata: {\"type\":\"\xff\"}\n\n", "not UTF-8"),
    (b"\xef\xbb\xbfevent: ping\ndata: {\"type\":\"ping\"}\n\n", "no event line"),
])
def test_framing_offences_are_named(data, offence):
    with pytest.raises(SseError, match=offence):
        check(data, complete=False)


def test_a_stream_must_end():
    for events in ([], [start()], [start(), end()], [start(), *text_block(), end()]):
        with pytest.raises(SseError, match="without message_stop"):
            check(join(events))
    with pytest.raises(SseError, match="behind the last event"):
        check(join(GOOD) + b"event: ping")


def test_silence_is_measured():
    check_gaps([0, 9, 18])
    with pytest.raises(AssertionError, match="11.0 s"):
        check_gaps([0, 9, 20])
