"""Which of its texts a scripted model (tools/make-tiny-gguf --script) gives."""
import subprocess

import pytest

from harness import PROGRAM, SLOW, scripted_model

SCRIPTS = {"": "Nothing was asked.", "[[one]]": "This is the first text.", "[[two]]": "And here is a second one."}
FAR = "word " * 300


def answer(model, prompt):
    done = subprocess.run([PROGRAM, "run", "-m", model, "-q", "-p", prompt], capture_output=True, text=True, timeout=60 * SLOW)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return lambda *flags: scripted_model(tmp_path_factory.mktemp("scripted"), SCRIPTS, "--context", "8192", *flags)


def test_the_marker_seen_last_decides(model):
    path = model()
    assert answer(path, "Hello") == SCRIPTS[""]
    assert answer(path, f"[[one]] {FAR} [[two]]") == SCRIPTS["[[two]]"]
    assert answer(path, f"[[two]] {FAR} [[one]]") == SCRIPTS["[[one]]"]


def test_ranked_the_marker_last_in_the_file_decides(model):
    path = model("--ranked")
    assert answer(path, "Hello") == SCRIPTS[""]
    assert answer(path, f"[[one]] {FAR}") == SCRIPTS["[[one]]"]
    assert answer(path, f"[[one]] {FAR} [[two]]") == SCRIPTS["[[two]]"]
    assert answer(path, f"[[two]] {FAR} [[one]]") == SCRIPTS["[[two]]"]


def test_a_slow_layer_changes_no_answer(model):
    path = model("--ranked", "--ffn", "512")
    assert answer(path, "Hello") == SCRIPTS[""] and answer(path, f"[[two]] {FAR}") == SCRIPTS["[[two]]"]
