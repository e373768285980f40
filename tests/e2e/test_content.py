"""Documents, images and other blocks through the official SDK.

The scripted model (see test_tools.py) answers with the text of the marker that it saw last: a marker inside a document comes
back as a known answer only if the document's text reached the model.
"""
import base64
import http.client
import json
import os
import pathlib
import threading
import time

import anthropic
import pytest

import sse_checker
from harness import SLOW, TOOLS_TEMPLATE, Server, scripted_model
from test_tools import SCRIPTS, TOOLS, results, text, turn

DONE = SCRIPTS["[[done]]"]
PNG = ("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgZGIGAAAOAAfXb+R4AAAAAElFTkSuQmCC")


def make_pdf(*pages, trailer=b""):
    """The bytes of a PDF with one line of text a page."""
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    objects = ["<</Type/Catalog/Pages 2 0 R>>", f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>",
               "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    for i, page in enumerate(pages):
        stream = f"BT /F 12 Tf 20 200 Td ({page}) Tj ET"
        objects += [f"<</Type/Page/Parent 2 0 R/MediaBox[0 0 600 300]/Resources<</Font<</F 3 0 R>>>>/Contents {5 + 2 * i} 0 R>>",
                    f"<</Length {len(stream)}>>\nstream\n{stream}\nendstream"]
    out, places = b"%PDF-1.4\n", []
    for i, o in enumerate(objects, 1):
        places.append(len(out))
        out += f"{i} 0 obj\n{o}\nendobj\n".encode()
    xref = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode() + b"".join(b"%010d 00000 n \n" % p for p in places)
    return out + b"trailer\n<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, xref)


ENCRYPTED = make_pdf("secret", trailer=b"/Encrypt<</Filter/Standard/V 1/R 2/P -4/O<%s>/U<%s>>>/ID[<00><00>]" % (b"11" * 32, b"22" * 32))


def pdf(data, **more):
    return {"type": "document", "source": {"type": "base64", "media_type": "application/pdf",
                                           "data": base64.b64encode(data).decode()}, **more}


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("content")


@pytest.fixture(scope="module")
def model(folder):
    return scripted_model(folder, SCRIPTS, template=TOOLS_TEMPLATE)


@pytest.fixture(scope="module")
def server(model):
    s = Server(model)
    yield s
    assert s.stop() == 0, s.output()[-3000:]


def client_of(server):
    return anthropic.Anthropic(base_url=server.url, api_key="dummy", max_retries=0, timeout=60 * SLOW)


@pytest.fixture
def client(server):
    return client_of(server)


def ask(client, *messages, **more):
    return client.messages.create(**{"model": "m", "max_tokens": 400, "tools": TOOLS, "messages": list(messages), **more})


def test_a_pdf_is_read(client):
    question = user(pdf(make_pdf("All is well here.", "And this is the end. [[done]]"), title="Notes"))
    m = ask(client, question)
    assert text(m) == DONE
    counted = client.messages.count_tokens(model="m", tools=TOOLS, messages=[question]).input_tokens
    assert counted == m.usage.input_tokens + m.usage.cache_read_input_tokens
    again = ask(client, question)
    assert again.usage.cache_read_input_tokens >= counted - 1  # the text is rendered alike with every turn
    with client.messages.stream(model="m", max_tokens=100, messages=[question]) as stream:
        assert stream.get_final_text() == DONE


def test_a_pdf_in_a_tool_result_is_read(client):
    question = {"role": "user", "content": "[[call]]"}
    m = ask(client, question)
    assert text(ask(client, question, turn(m), results(m, [pdf(make_pdf("[[done]]"))]))) == DONE


def test_a_large_pdf_is_read(client):
    body = make_pdf("[[done]]") + b"%" + os.urandom(200_000).replace(b"\n", b"").replace(b"\r", b"")
    assert text(ask(client, user(pdf(body)))) == DONE


@pytest.mark.parametrize("data, why", [
    (b"%PDF-1.4 and then nothing", "damaged"), (b"plain text", "not a PDF file"), (ENCRYPTED, "encrypted"),
    (make_pdf(""), "holds no text"), (b"", "not a PDF file"), (make_pdf("x" * 50)[:300], None),
], ids=["damaged", "no pdf", "encrypted", "empty", "no bytes", "cut"])
def test_a_pdf_that_cannot_be_read_is_named(client, data, why):
    try:
        m = ask(client, user({"type": "text", "text": "read this"}, pdf(data)))
        assert why is None and m.stop_reason == "end_turn"
    except anthropic.BadRequestError as e:
        assert e.body["error"]["message"].startswith("messages.0.content.1.source: Could not process document: ")
        assert (why or "") in str(e) and "capability_rejected: document_block" in str(e)
        with pytest.raises(anthropic.BadRequestError, match="Could not process document"):
            client.messages.count_tokens(model="m", messages=[user(pdf(data))])


def test_sources_that_are_not_fetched_are_named(client):
    for block in ({"type": "document", "source": {"type": "url", "url": "http://127.0.0.1:1/x.pdf"}},
                  {"type": "image", "source": {"type": "file", "file_id": "file_1"}}):
        with pytest.raises(anthropic.BadRequestError, match="messages.0.content.0"):
            ask(client, user(block))


def test_an_image_is_refused_in_the_words_that_clients_know(client):
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    with pytest.raises(anthropic.BadRequestError, match="capability_rejected: image_block"):
        ask(client, user(image))


def test_search_results_are_text(client):
    result = {"type": "search_result", "source": "https://example.com", "title": "T",
              "content": [{"type": "text", "text": "[[done]]"}], "citations": {"enabled": True}}
    assert text(ask(client, user(result, {"type": "text", "text": "?"}))) == DONE
    m = ask(client, {"role": "user", "content": "[[call]]"})
    assert text(ask(client, {"role": "user", "content": "[[call]]"}, turn(m), results(m, [result]))) == DONE


def test_history_of_other_servers_is_readable(client):
    m = ask(client, {"role": "user", "content": "x"}, {"role": "assistant", "content": [
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [
            {"type": "web_search_result", "title": "[[done]]", "url": "http://u", "encrypted_content": "[[call]]"}]}]},
        {"role": "user", "content": "go on"})
    assert text(m) == DONE


def test_a_compaction_comes_first(client):
    m = client.beta.messages.create(model="m", max_tokens=100, messages=[
        {"role": "assistant", "content": [{"type": "compaction", "content": "It was about this: [[done]]"}]},
        {"role": "user", "content": "Go on."}])
    assert m.content[0].text == DONE


def test_tools_come_and_go_in_the_tool_runner(client):
    said = []

    @anthropic.beta_tool
    def get_weather(city: str, days: int = 1) -> str:
        """The weather of a city."""
        said.append(f"weather in {city}")
        return {1: "[[two]]", 3: "[[call]]"}.get(len(said), "snow [[done]]")

    @anthropic.beta_tool
    def get_time(zone: str) -> str:
        """The time in a zone."""
        said.append(f"time in {zone}")
        return "noon"

    runner = client.beta.messages.tool_runner(model="m", max_tokens=400, tools=[get_weather], messages=[
        {"role": "user", "content": "A long question about the weather. " * 30 + "[[call]]"}])
    answers = []
    for m in runner:
        answers.append(m)
        if len(answers) == 1:
            runner.add_tools(get_time)
        if len(answers) == 3:
            runner.remove_tools("get_time")
    assert [m.stop_reason for m in answers] == ["tool_use", "tool_use", "tool_use", "end_turn"]
    assert said == ["weather in Oslo", "time in Europe/Paris", "weather in Rome", "weather in Oslo"]
    assert answers[-1].content[0].text == DONE
    for before, after in zip(answers, answers[1:]):  # a change of the tools costs nothing of what was there before
        assert after.usage.cache_read_input_tokens >= before.usage.input_tokens + before.usage.cache_read_input_tokens - 1


def test_a_reference_to_no_tool_is_named(client):
    m = ask(client, {"role": "user", "content": "[[call]]"})
    with pytest.raises(anthropic.BadRequestError, match="Tool reference 'fly' not found") as e:
        ask(client, {"role": "user", "content": "[[call]]"}, turn(m), results(m, [{"type": "tool_reference", "tool_name": "fly"}]))
    assert e.value.body["error"]["details"]["error_code"] == "tool_reference_unresolved"


def test_without_pdftotext_the_package_is_named(model):
    s = Server(model, "--pdftotext", "/nonexistent/pdftotext")
    try:
        with pytest.raises(anthropic.BadRequestError, match="poppler-utils.*capability_rejected: document_block"):
            ask(client_of(s), user(pdf(make_pdf("x"))))
    finally:
        assert s.stop() == 0, s.output()[-3000:]


def test_slow_pdfs_stop_nobody_and_die_with_their_client(model, folder):
    script = folder / "slow"
    # It cannot write files under the limits, so the process is known by its arguments.
    script.write_text("#!/bin/sh\nexec sleep 77.123\n")
    script.chmod(0o755)

    def sleepers():
        found = []
        for p in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if (p / "cmdline").read_bytes() == b"sleep\x0077.123\x00":
                    found.append(int(p.name))
            except OSError:
                pass
        return found

    s = Server(model, "--pdftotext", str(script))
    try:
        slow = [client_of(s).with_options(timeout=8 * SLOW) for _ in range(3)]
        threads = [threading.Thread(target=lambda c=c: pytest.raises(
            anthropic.APITimeoutError, ask, c, user(pdf(make_pdf("x"))))) for c in slow]
        for t in threads:
            t.start()
        until = time.monotonic() + 7 * SLOW
        while len(sleepers()) < 2:
            assert time.monotonic() < until, "no document is read"
            time.sleep(0.05)
        assert text(ask(client_of(s), user({"type": "text", "text": "[[done]]"}))) == DONE
        assert any(t.is_alive() for t in threads), "it waited for the documents"
        for t in threads:
            t.join()
        end = time.monotonic() + 10 * SLOW
        while sleepers() and time.monotonic() < end:
            time.sleep(0.05)
        assert not sleepers()
    finally:
        assert s.stop() == 0, s.output()[-3000:]


def test_a_stream_is_not_silent_while_a_pdf_is_read(model, folder):
    """Pings come before the answer; a file that cannot be read after all ends the stream with the error that it would have been."""
    script = folder / "thoughtful"
    script.write_text("#!/bin/sh\nsleep 10\ncat >/dev/null\necho 'It says so. [[done]]'\n")
    script.chmod(0o755)
    broken = folder / "broken"
    broken.write_text("#!/bin/sh\nsleep 10\nexit 1\n")
    broken.chmod(0o755)
    answers = {}

    def read(program):
        s = Server(model, "--pdftotext", str(program))
        try:
            body = {"model": "m", "max_tokens": 200, "stream": True, "messages": [user(pdf(make_pdf("x")))]}
            c = http.client.HTTPConnection("127.0.0.1", s.port, timeout=60 * SLOW)
            begun = time.monotonic()
            c.request("POST", "/v1/messages", json.dumps(body))
            r = c.getresponse()
            times, answer = [time.monotonic() - begun], b""
            while piece := r.read1(65536):
                answer += piece
                times.append(time.monotonic() - begun)
            answers[program] = r.status, max(b - a for a, b in zip([0.0] + times, times)), answer
        finally:
            assert s.stop() == 0, s.output()[-3000:]

    threads = [threading.Thread(target=read, args=(program,)) for program in (script, broken)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for status, silence, answer in answers.values():
        assert status == 200 and silence < 10 * SLOW
        assert answer.startswith(b"event: ping")
    assert sse_checker.check(answers[script][2]).message["content"][0]["text"] == DONE
    assert b"event: error" in answers[broken][2] and b"invalid_request_error" in answers[broken][2]
    assert b"Could not process document" in answers[broken][2] and b"message_start" not in answers[broken][2]


def test_old_tool_results_are_left_out_and_told(client):
    messages = [{"role": "user", "content": "[[call]]"}]
    edits = {"edits": [{"type": "clear_tool_uses_20250919", "trigger": {"type": "tool_uses", "value": 3},
                        "keep": {"type": "tool_uses", "value": 1}}]}
    create = client.beta.messages.create
    cleared = []
    for i in range(6):
        m = create(model="m", max_tokens=200, tools=TOOLS, messages=messages, context_management=edits)
        cleared.append(sum(e.cleared_tool_uses for e in m.context_management.applied_edits))
        counted = client.beta.messages.count_tokens(model="m", tools=TOOLS, messages=messages, context_management=edits)
        assert counted.input_tokens == m.usage.input_tokens + m.usage.cache_read_input_tokens
        original = counted.context_management.original_input_tokens
        gone = sum(e.cleared_input_tokens for e in m.context_management.applied_edits)
        assert original - gone == counted.input_tokens and (gone > 0) == (cleared[-1] > 0)
        messages += [turn(m), results(m, "a long result " * 20 + "[[call]]")]
    # Uses that are there: 1, 2, 3, then the fourth leaves one; the place moves in steps.
    assert cleared == [0, 0, 0, 0, 3, 3]
    with client.beta.messages.stream(model="m", max_tokens=200, tools=TOOLS, messages=messages, context_management=edits) as stream:
        final = stream.get_final_message()
    assert final.context_management.applied_edits[0].cleared_tool_uses == 3
    plain = client.messages.create(model="m", max_tokens=200, tools=TOOLS, messages=messages)
    assert "context_management" not in plain.model_dump()


def test_keeping_all_thinking_changes_nothing(client):
    thinking = {"thinking": {"type": "adaptive"}, "messages": [{"role": "user", "content": "[[think]]"}], "model": "m", "tools": TOOLS}
    m = client.beta.messages.create(max_tokens=300, context_management={"edits": [
        {"type": "clear_thinking_20251015", "keep": "all"}]}, **thinking)
    assert m.context_management.applied_edits == []


def test_a_system_turn_is_alike_as_list_and_as_string(client):
    words = "The working directory is /tmp and these skills exist: none. " * 20 + "[[call]]"
    billing = "x-anthropic-billing-header: cc_version=2.1.330; cc_entrypoint=cli; cch=%s;"
    first = [{"role": "user", "content": [{"type": "text", "text": "hello"}, {"type": "text", "text": "there"}]}]
    listed = first + [{"role": "system", "content": [{"type": "text", "text": words, "cache_control": {"type": "ephemeral"}}]}]
    plain = first + [{"role": "system", "content": words}]
    before = client.messages.create(model="m", max_tokens=200, tools=TOOLS, messages=listed, system=[
        {"type": "text", "text": billing % "aaaaa"}, {"type": "text", "text": "You are an agent."}])
    after = client.messages.create(model="m", max_tokens=200, tools=TOOLS, system=[
        {"type": "text", "text": billing % "bbbbb"}, {"type": "text", "text": "You are an agent."}],
        messages=plain + [turn(before), results(before)])
    assert text(after) == DONE
    assert after.usage.cache_read_input_tokens >= before.usage.input_tokens + before.usage.cache_read_input_tokens - 1
