"""Content blocks: section 3."""
import base64
import struct
import zlib

from checks_requests import CLOCK, WEATHER, history, user
from runner import check


def png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    rows = (b"\0" + b"\xff\0\0" * width) * height
    data = (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return base64.b64encode(data).decode()


def pdf(words):
    """A PDF of one page with one line of text."""
    stream = f"BT /F1 24 Tf 72 700 Td ({words}) Tj ET".encode()
    objects = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
               b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Contents 4 0 R/Resources<</Font<</F1 5 0 R>>>>>>",
               b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream),
               b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"]
    out, offsets = b"%PDF-1.4\n", []
    for n, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj%s\nendobj\n" % (n, body)
    xref = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + b"".join(b"%010d 00000 n \n" % o for o in offsets)
    out += b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, xref)
    return base64.b64encode(out).decode()


@check("3.1/text")
def text_blocks(s):
    one = s.count([user([{"type": "text", "text": "One."}])])
    assert s.count([user([{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}])]) > one
    r = s.refused(messages=[user([{"type": "text", "text": 5}])])
    assert "messages.0.content.0" in r.json["error"]["message"], str(r)


@check("3.1/image", "9/22")
def an_image_is_seen_or_refused_clearly(s):
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": png(32, 32)}}
    r = s.post(s.body([user([image, {"type": "text", "text": "What is this?"}])], max_tokens=5))
    if r.status == 200:
        return "seen"
    assert r.status == 400 and "image" in r.json["error"]["message"], str(r)
    past = history(s)
    past[-1]["content"][0]["content"] = [image]
    r = s.post(s.body(past, tools=[WEATHER, CLOCK], max_tokens=5))
    assert r.status == 400 and "image" in r.json["error"]["message"], str(r)
    return "refused: " + r.json["error"]["message"][:100]


@check("3.1/document", "9/22")
def documents_of_text_are_read(s):
    bare = s.count([user([{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "All is well. " * 9}}])])
    assert bare > s.count([user("x")]) + 15
    titled = s.count([user([{"type": "document", "title": "A long title of a letter", "context": "It was found in a bottle.", "citations": {
        "enabled": True}, "source": {"type": "text", "media_type": "text/plain", "data": "All is well. " * 9}}])])
    assert titled > bare + 6, "title and context are not in the prompt"
    content = {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": "All is well. " * 9}]}}
    assert s.count([user([content])]) > s.count([user("x")]) + 15
    past = history(s)
    past[-1]["content"][0]["content"] = [content]
    s.create(past, tools=[WEATHER, CLOCK], max_tokens=2)


@check("3.1/document", "9/22")
def a_pdf_is_read_or_refused_clearly(s):
    document = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": pdf("The secret word is parley.")}}
    r = s.post(s.body([user([document])], max_tokens=2))
    if r.status == 400:
        assert "document" in r.json["error"]["message"] or "PDF" in r.json["error"]["message"], str(r)
        return "refused: " + r.json["error"]["message"][:100]
    assert r.status == 200 and s.count([user([document])]) >= s.count([user("The secret word is parley.")]), str(r)
    broken = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "AAAA"}}
    s.refused(messages=[user([broken])])
    return "read"


@check("3.1/search_result", "9/22")
def search_results_are_read(s):
    result = {"type": "search_result", "source": "https://example.com/a", "title": "About the sea", "citations": {"enabled": True},
              "content": [{"type": "text", "text": "The sea is wide and blue. " * 5}]}
    assert s.count([user([result, {"type": "text", "text": "x"}])]) > s.count([user("x")]) + 20
    past = history(s)
    past[-1]["content"][0]["content"] = [result]
    s.create(past, tools=[WEATHER, CLOCK], max_tokens=2)


@check("3.1/thinking", "9/11")
def any_signature_is_accepted(s):
    for signature in ("", "EqQBforeign", "x" * 2000):
        s.create([user("Hi."), {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": signature}, {"type": "redacted_thinking", "data": "zz"},
            {"type": "text", "text": "Hello."}]}, user("Bye.")], max_tokens=2)


@check("3.1/tool_use", "9/5")
def inputs_may_be_empty_or_a_string(s):
    for given in ({}, '{"city": "Oslo"}'):
        s.create([user("x"), {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": given}]},
                  user([{"type": "tool_result", "tool_use_id": "toolu_1", "content": "Snow."}])], tools=[WEATHER], max_tokens=2)


@check("3.1/tool_result", "9/5")
def results_of_all_shapes(s):
    past = history(s)
    result = past[-1]["content"][0]
    sizes = {}
    for name, content in (("none", None), ("empty", ""), ("text", "Snow falls."), ("blocks", [{"type": "text", "text": "Snow falls."}])):
        result.pop("content", None)
        if content is not None:
            result["content"] = content
        sizes[name] = s.count(past, tools=[WEATHER, CLOCK])
    assert sizes["text"] == sizes["blocks"] > sizes["none"] == sizes["empty"], sizes
    plain = s.count(past, tools=[WEATHER, CLOCK])
    result["is_error"] = True
    assert s.count(past, tools=[WEATHER, CLOCK]) != plain, "is_error is not seen by the model"
    result["content"] = [{"type": "browser_state", "url": "https://example.com", "title": "x"}]
    s.create(past, tools=[WEATHER, CLOCK], max_tokens=2)


@check("3.1/foreign", "9/20")
def histories_of_other_servers_never_fail(s):
    blocks = [
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [
            {"type": "web_search_result", "title": "T", "url": "https://example.com", "encrypted_content": "zz", "page_age": None}]},
        {"type": "server_tool_use", "id": "srvtoolu_2", "name": "bash_code_execution", "input": {"command": "ls"}},
        {"type": "bash_code_execution_tool_result", "tool_use_id": "srvtoolu_2", "content": {
            "type": "bash_code_execution_result", "stdout": "a", "stderr": "", "return_code": 0, "content": []}},
        {"type": "web_fetch_tool_result", "tool_use_id": "srvtoolu_3", "content": {"type": "web_fetch_tool_result_error", "error_code": "x"}},
        {"type": "code_execution_tool_result", "tool_use_id": "srvtoolu_4", "content": {"type": "code_execution_result", "stdout": "1",
                                                                                        "stderr": "", "return_code": 0, "content": []}},
        {"type": "text_editor_code_execution_tool_result", "tool_use_id": "srvtoolu_5", "content": {}},
        {"type": "tool_search_tool_result", "tool_use_id": "srvtoolu_6", "content": {"tool_references": []}},
        {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "x", "server_name": "s", "input": {}},
        {"type": "mcp_tool_result", "tool_use_id": "mcptoolu_1", "is_error": False, "content": [{"type": "text", "text": "y"}]},
        {"type": "text", "text": "Found it."}]
    s.create([user("Search."), {"role": "assistant", "content": blocks}, user("Thank you.")], max_tokens=2)


@check("3.1/refused", "9/13")
def unknown_blocks_are_refused_with_their_place(s):
    for kind in ("banana", "container_upload"):
        r = s.refused(messages=[user("x"), {"role": "assistant", "content": "y"}, user([{"type": "text", "text": "z"}, {"type": kind, "file_id": "f"}])])
        assert "messages.2.content.1" in r.json["error"]["message"], str(r)


@check("3.1/compaction")
def a_compaction_block_may_come_first(s):
    m = [{"role": "assistant", "content": [{"type": "compaction", "content": "Ada asked for the weather of Oslo. " * 4}]}, user("Go on.")]
    assert s.count(m) > s.count([user("Go on.")]) + 12, "the summary is not in the prompt"
    s.create(m, max_tokens=2)
    whole = s.count([user("Old words that are gone. " * 30), *m])
    assert whole < s.count([user("Old words that are gone. " * 30), user("Go on.")]) + 60, "what was before the summary is still there"


@check("3.4/limits", "9/24")
def names_of_tools_have_64_characters(s):
    s.create(max_tokens=2, tools=[{**WEATHER, "name": "a" * 64}])
    s.refused(tools=[{**WEATHER, "name": "a" * 65}])
    s.refused(tools=[{**WEATHER, "name": "no spaces"}])
