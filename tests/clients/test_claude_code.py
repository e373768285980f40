"""Claude Code itself runs a command through a model that says when."""
import json
import os
import subprocess
import time

import pytest

from conftest import CLAUDE_VERSION  # noqa: F401  (the version under test)

import importlib.util
import pathlib
import sys

E2E = pathlib.Path(__file__).resolve().parents[1] / "e2e"
spec = importlib.util.spec_from_file_location("e2e_conftest", E2E / "conftest.py")
e2e = importlib.util.module_from_spec(spec)
spec.loader.exec_module(e2e)

SCRIPTS = {
    "": "I have nothing to do.",
    "[[bash]]": '<tool_call>\n{"name": "Bash", "arguments": {"command": "echo parley; echo [[done]]; echo $((6 * 7)) > out.txt", '
                '"description": "Say the word"}}\n</tool_call>',
    "[[done]]": "The command said the word and was well.",
}


@pytest.fixture(scope="module")
def scripted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("claude")
    scripts, model = folder / "scripts.json", folder / "scripted.gguf"
    scripts.write_text(json.dumps(SCRIPTS))
    subprocess.run([sys.executable, str(e2e.ROOT / "tools" / "make-tiny-gguf"), "--script", str(scripts), "--context", "65536",
                    "--template", str(E2E / "templates" / "tools.jinja"), str(model)], check=True)
    s = e2e.Server(str(model), "-c", "65536", "-np", "2", env={**os.environ, "XDG_STATE_HOME": str(folder)})
    yield s
    assert s.stop() == 0, s.output()[-3000:]


def run_claude(program, url, home, prompt, timeout):
    work = home / "work"
    work.mkdir(parents=True)
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "dummy",
           "DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1"}
    started = time.monotonic()
    done = subprocess.run([program, "-p", prompt, "--output-format", "json", "--allowedTools", "Bash"], env=env, cwd=work,
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout * e2e.SLOW)
    return done, time.monotonic() - started


def test_claude_code_runs_a_command(claude, scripted, tmp_path):
    done, seconds = run_claude(claude, scripted.url, tmp_path / "home", "Please say the word. [[bash]]", 120)
    assert done.returncode == 0, done.stdout + done.stderr + scripted.output()[-3000:]
    answer = json.loads(done.stdout)
    assert not answer["is_error"] and answer["result"] == SCRIPTS["[[done]]"], answer
    assert answer["num_turns"] == 2
    assert (tmp_path / "home" / "work" / "out.txt").read_text() == "42\n"
    usage = answer["usage"]
    whole = usage["input_tokens"] + usage["cache_read_input_tokens"]
    print(f"{seconds:.1f} s, usage {usage}")
    assert usage["cache_read_input_tokens"] > 0.45 * whole  # the second of two requests is nearly all reuse
