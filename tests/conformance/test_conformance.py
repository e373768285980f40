"""The conformance suite against Parley: a scripted model, so that every row is shown; and that no row is without a check."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]

from harness import ROOT, SLOW, Server, scripted_model  # noqa: E402

SUITE = HERE / "parley-conformance"
CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
SCRIPTS = {  # the markers are sentences of the suite's prompts
    "": "Hello! It is nice to meet you here.",
    "Use the tool.": CALL,
    "Think first:": "<think>\nTwo and two are four.\n</think>\n\nThe sum is 4.",
    "Write a long story.": "Once there was a sea. " + " ".join(f"On day {n} it rained {n * 7} drops." for n in range(40)),
    "Snow.": "It snows in Oslo.",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("conformance")
    s = Server(scripted_model(folder, SCRIPTS, "--context", "16384", "--ranked"), env={**os.environ, "XDG_STATE_HOME": str(folder)})
    yield s
    assert s.stop() == 0, s.output()[-3000:]


def run(*words):
    return subprocess.run([sys.executable, str(SUITE), *words], capture_output=True, text=True, timeout=300 * SLOW)


def test_parley_conforms(server, tmp_path):
    done = run(server.url, "-v", "--json", str(tmp_path / "verdicts.json"))
    print(done.stdout)
    verdicts = json.loads((tmp_path / "verdicts.json").read_text())
    bad = {row: v["notes"] for row, v in verdicts.items() if v["verdict"] != "pass"}
    assert not bad, json.dumps(bad, indent=1)
    assert done.returncode == 0


def test_every_row_has_a_check():
    done = run("--coverage")
    assert done.returncode == 0, [line for line in done.stdout.splitlines() if line.endswith("|  |")]
    text = (ROOT / "docs" / "conformance.md").read_text()
    assert done.stdout.strip() in text, "docs/conformance.md is old: tests/conformance/parley-conformance --coverage makes its table"


def test_a_server_that_lies_is_found_out(tmp_path):
    """A server that answers everything with the same legal message must fail many rows."""
    import http.server
    import threading
    message = json.dumps({"id": "msg_1", "type": "message", "role": "assistant", "model": "x", "content": [], "stop_reason": "end_turn",
                          "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 0}}).encode()

    class Liar(http.server.BaseHTTPRequestHandler):
        def answer(self):
            self.rfile.read(int(self.headers.get("content-length") or 0))
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.end_headers()
            self.wfile.write(message)
        do_GET = do_POST = do_HEAD = answer

        def log_message(self, *args):
            pass
    liar = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    threading.Thread(target=liar.serve_forever, daemon=True).start()
    done = run(f"http://127.0.0.1:{liar.server_address[1]}", "--json", str(tmp_path / "v.json"), "--timeout", "5", "--only", "2.")
    liar.shutdown()
    assert done.returncode == 1
    assert sum(v["verdict"] == "FAIL" for v in json.loads((tmp_path / "v.json").read_text()).values()) >= 15


def test_no_server_is_no_verdict():
    assert run("http://127.0.0.1:1").returncode == 2
