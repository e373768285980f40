"""langchain-anthropic and litellm: one tool loop each, and a stream."""
import json
import os
import pathlib
import subprocess

import pytest

from harness import ROOT, SLOW, Server, scripted_model

SCRIPTS = {
    "": "There is nothing to say.",
    "[[plain]]": "Paris is the capital of France.",
    "[[first]]": '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo", "days": 3}}\n</tool_call>',
    "[[third]]": "It snows in Oslo at noon.",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frameworks")
    s = Server(scripted_model(folder, SCRIPTS, "--context", "8192", "--ranked"), env={**os.environ, "XDG_STATE_HOME": str(folder)})
    yield s
    assert s.stop() == 0, s.output()[-3000:]


@pytest.mark.parametrize("name", ["langchain", "litellm"])
def test_a_tool_loop_and_a_stream(server, name):
    done = subprocess.run([str(ROOT / "build/venv-clients/bin/python"), str(pathlib.Path(__file__).parent / "frameworks.py"), name,
                           server.url], capture_output=True, text=True, timeout=180 * SLOW,
                          env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"})
    assert done.returncode == 0, done.stderr[-3000:]
    got = json.loads(done.stdout.strip().splitlines()[-1])
    assert got["ran"] == [["get_weather", {"city": "Oslo", "days": 3}]]
    assert got["text"] == SCRIPTS["[[third]]"] and got["streamed"] == SCRIPTS["[[plain]]"] and got["input"] > 0
