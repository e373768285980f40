"""Answers and streams: sections 4 and 5."""
import json
import threading
import time

from checks_requests import ASK_CALL, CLOCK, FORCED, WEATHER, user
from runner import NotShown, calls, check, left_in_mid_stream, text, total

import sse_checker

STORY = "Write a long story."


@check("4.1/keys", "9/14")
def a_message_has_all_keys(s):
    r = s.post(s.body())
    assert r.status == 200 and r.headers["content-type"].startswith("application/json"), r.headers
    for key in sse_checker.MESSAGE_KEYS:
        assert key in r.json, f"no {key}"
    assert r.json["id"].startswith("msg_") and r.json["type"] == "message" and r.json["role"] == "assistant"


@check("4.2/end_turn", "3.2/text")
def an_answer_ends_of_itself(s):
    m = s.create(max_tokens=1000)
    if m["stop_reason"] == "max_tokens":
        raise NotShown("the model did not come to an end")
    assert m["stop_reason"] == "end_turn" and m["stop_sequence"] is None, m
    assert m["content"] and all(b["type"] != "text" or (b["text"] and b["citations"] is None) for b in m["content"]), m


@check("4.2/tool_use", "5/json", "5/order", "9/5")
def a_call_streams_as_json(s):
    checker, r = s.stream(ASK_CALL, tools=[WEATHER, CLOCK], tool_choice=FORCED)
    call = calls(checker.message)[0]
    assert checker.message["stop_reason"] == "tool_use" and "city" in call["input"], checker.message
    pieces = [json.loads(line[6:])["delta"]["partial_json"] for line in r.data.decode().splitlines()
              if line.startswith("data: ") and '"input_json_delta"' in line]
    assert isinstance(json.loads("".join(pieces) or "{}"), dict)


@check("4.2/max_tokens")
def a_call_cut_by_max_tokens_stays_legal(s):
    for n in (1, 2, 3, 5, 8, 13):
        checker, _ = s.stream(ASK_CALL, tools=[WEATHER, CLOCK], tool_choice=FORCED, max_tokens=n)
        assert checker.message["stop_reason"] in ("max_tokens", "tool_use"), checker.message
        m = s.create(ASK_CALL, tools=[WEATHER, CLOCK], tool_choice=FORCED, max_tokens=n)
        assert all(isinstance(b["input"], dict) for b in calls(m)), m


@check("4.2/context", "6.5/clamp", "9/10")
def a_full_context_ends_the_answer(s):
    m = s.create(max_tokens=1_000_000)
    assert m["stop_reason"] in ("end_turn", "max_tokens", "model_context_window_exceeded", "stop_sequence"), m


@check("4.3/usage", "4.3/cache", "9/6", "9/9")
def usage_adds_up_and_reuse_is_reported(s):
    prompt = "Tell me about the mountains. " * 50
    first = s.create(prompt, max_tokens=2)["usage"]
    for key in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
        assert isinstance(first[key], int) and first[key] >= 0, first
    again = s.create(prompt, max_tokens=2)["usage"]
    assert total(first) == total(again)
    assert again["cache_read_input_tokens"] > 0.9 * total(again), again


@check("5/frames", "5/order", "9/2")
def streams_are_legal_in_all_cases(s):
    for more in ({}, {"max_tokens": 1}, {"stop_sequences": ["e"]}, {"system": "Be brief."}, {"tools": [WEATHER]},
                 {"thinking": {"type": "adaptive"}, "max_tokens": 2000}):
        checker, r = s.stream(**more)
        assert b"[DONE]" not in r.data and checker.names[-1] == "message_stop"


@check("5/headers", "6.3/request_id", "9/13")
def streams_have_their_headers(s):
    _, r = s.stream()
    assert r.headers["content-type"].startswith("text/event-stream") and "no-cache" in r.headers.get("cache-control", ""), r.headers
    assert r.headers.get("request-id") and not r.headers.get("content-encoding")


@check("5/usage", "9/9")
def the_start_knows_the_input(s):
    _, r = s.stream("How many tokens are these?")
    start = json.loads(r.data.split(b"data: ", 1)[1].split(b"\n", 1)[0])
    assert total(start["message"]["usage"]) == s.count("How many tokens are these?"), start["message"]["usage"]


@check("5/early", "9/8")
def the_start_comes_before_the_prompt_is_computed(s):
    _, r = s.stream("The quick brown fox jumps over the lazy dog. " * 150 + str(time.time()), max_tokens=2)
    first, last = r.times[1] - r.times[0], r.times[-1] - r.times[0]
    sse_checker.check_gaps(r.times)
    assert first < 0.5 or first < 0.5 * last, f"headers after {first:.2f} s of {last:.2f} s"
    return f"first byte after {first * 1000:.0f} ms, last after {last * 1000:.0f} ms"


@check("5/same", "9/14")
def streamed_and_whole_answers_are_alike(s):
    whole = s.create(temperature=0, max_tokens=40)
    checker, _ = s.stream(temperature=0, max_tokens=40)
    assert text(whole) == text(checker.message), (text(whole), text(checker.message))
    assert whole["stop_reason"] == checker.message["stop_reason"]
    assert total(whole["usage"]) == total(checker.message["usage"])


@check("5/order", "9/2")
def the_sdk_accumulates_a_stream(s):
    with s.sdk.messages.stream(model=s.model, max_tokens=50, messages=[user("Say hello.")]) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert "".join(pieces) == "".join(b.text for b in final.content if b.type == "text") and final.stop_reason


@check("5.5/leave", "9/18")
def a_client_that_leaves_does_not_hold_up_the_next(s):
    for _ in range(6):
        with left_in_mid_stream(s, s.body(STORY, max_tokens=100000, stream=True)) as r:
            r.readline()
    started = time.monotonic()
    s.create(max_tokens=2)
    seconds = time.monotonic() - started
    assert seconds < 20, f"the next answer took {seconds:.1f} s"


@check("1.1/connections", "9/18")
def many_requests_at_once_are_answered(s):
    bad = []

    def one(i):
        r = s.post(s.body(f"Say the number {i}.", max_tokens=3))
        if not (r.status == 200 or (r.status in (429, 529) and r.headers.get("retry-after"))):
            bad.append(str(r))
    threads = [threading.Thread(target=one, args=(i,)) for i in range(20)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not bad, bad[0]
