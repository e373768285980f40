"""The command line as a user meets it."""
import json
import os
import pty
import re
import select
import subprocess
import time

import pytest

from conftest import PROGRAM, SLOW


def parley(*args, stdin=None, timeout=120):
    return subprocess.run([PROGRAM, *args], input=stdin, capture_output=True, text=True, timeout=timeout * SLOW)


def test_help_of_everything():
    top = parley("--help")
    assert top.returncode == 0
    for command in re.findall(r"^  (\w+) ", top.stdout, re.M):
        r = parley(command, "--help")
        assert r.returncode == 0 and "usage: parley " + command in r.stdout


@pytest.mark.parametrize("args,hint", [(["serv"], "serve"), (["serve", "--prot", "1"], "--port"),
                                       (["bench", "--n-promt", "1"], "--n-prompt"), (["run", "--tmp", "0"], "--temp")])
def test_unknown_words_name_the_nearest(args, hint):
    r = parley(*args)
    assert r.returncode == 1 and f"did you mean {hint}?" in r.stderr


@pytest.mark.parametrize("args", [["serve", "--port", "70000"], ["serve", "--port", "x"], ["run", "--temp", "-1"],
                                  ["serve", "--port"], ["bench", "-n", "1,,2", "-m", "x"]])
def test_bad_values_say_what_is_expected(args):
    r = parley(*args)
    assert r.returncode == 1 and len(r.stderr.strip().splitlines()) == 1
    assert "expected" in r.stderr or "needs a value" in r.stderr


def test_run_and_bench_under_a_schema(model_path, tmp_path):
    schema, odd = tmp_path / "schema.json", tmp_path / "odd.json"
    schema.write_text('{"type": "array", "items": {"enum": ["red", "green"]}, "minItems": 1, "maxItems": 3}')
    odd.write_text('{"properties": {"a": {"pattern": "(?=x)"}}}')
    r = parley("run", "-m", model_path, "-q", "--schema", str(schema), "-p", "Two colours?")
    assert r.returncode == 0 and set(json.loads(r.stdout)) <= {"red", "green"}
    r = parley("run", "-m", model_path, "-q", "--schema", str(odd), "-p", "Two colours?")
    assert r.returncode == 1 and "schema.properties.a.pattern" in r.stderr
    r = parley("bench", "-m", model_path, "-q", "--schema", str(schema), "-n", "8", "-r", "1", "--json")
    assert r.returncode == 0 and json.loads(r.stdout)[0]["schema_ts"] > 0


def test_run_prompt_and_stdin(model_path):
    flags = ["-m", model_path, "--temp", "0", "-n", "30"]
    a = parley("run", *flags, "-p", "What is the capital of France?")
    b = parley("run", *flags, stdin="What is the capital of France?\n")
    assert a.returncode == b.returncode == 0, a.stderr + b.stderr
    assert len(a.stdout) > 20 and a.stdout == b.stdout


def test_run_without_a_prompt(model_path):
    r = parley("run", "-m", model_path, stdin="  \n")
    assert r.returncode == 1 and "prompt is empty" in r.stderr


def test_tokenize(model_path):
    r = parley("tokenize", "-m", model_path, "-p", "Hello world", "--ids")
    assert r.returncode == 0 and json.loads(r.stdout) == [19556, 905]
    j = json.loads(parley("tokenize", "-m", model_path, "-p", "Hello <|im_end|>é😀", "--json").stdout)
    assert j[0]["piece"] == "Hello"


def test_inspect(model_path):
    r = json.loads(parley("inspect", model_path, "--json").stdout)
    assert r["architecture"] == "llama" and r["layers"] == 30 and r["context_train"] == 8192
    assert r["params"] == 134515008
    assert {t["type"] for t in r["types"]} >= {"F32", "Q4_1"}
    text = parley("inspect", model_path).stdout
    assert "llama" in text and "memory plan" in text


def test_bench_of_kernels_needs_no_model():
    r = parley("bench", "--kernels", "q4_0", "-t", "1", "--json")
    row = json.loads(r.stdout)[0]
    assert r.returncode == 0 and row["type"] == "Q4_0" and row["int8_gmacs"] > 0 and row["memory_gbs"] > 0
    assert row["gmacs"]["512"] > 0 and row["gmacs"]["1"] > 0 and row["decode_gbs"] > 0
    assert row["share"]["512"] > row["share"]["1"] > 0 and row["decode_memory_share"] > 0
    assert parley("bench", "--kernels", "q4_7").returncode == 1


def test_bench_json(model_path):
    r = parley("bench", "-m", model_path, "-p", "32", "-n", "4", "-r", "2", "--json")
    rows = json.loads(r.stdout)
    assert [(x["n_prompt"], x["n_gen"], x["n_depth"]) for x in rows] == [(32, 0, 0), (0, 4, 0)]
    for row in rows:
        assert row["avg_ts"] > 0 and row["stddev_ts"] >= 0 and row["n_threads"] >= 1


def read_until(fd, pattern, timeout=60):
    text, until = "", time.monotonic() + timeout * SLOW
    while time.monotonic() < until:
        if select.select([fd], [], [], 0.2)[0]:
            try:
                text += os.read(fd, 65536).decode(errors="replace")
            except OSError:
                break
        if re.search(pattern, text):
            return text
    raise AssertionError(f"{pattern!r} did not come; got {text!r}")


def test_chat_survives_ctrl_c(model_path):
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(PROGRAM, [PROGRAM, "chat", "-m", model_path, "--temp", "0"])
    try:
        read_until(fd, r"> $")
        os.write(fd, b"Write a very long story about the sea.\n")
        read_until(fd, r"story about the sea\.[\s\S]*\w+ \w+ \w+ \w+")
        os.write(fd, b"\x03")
        read_until(fd, r"> $")
        os.write(fd, b"What is the capital of France?\n")
        read_until(fd, r"Paris[\s\S]*> $")  # both may come in one piece
        os.write(fd, b"/exit\n")
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
    finally:
        os.close(fd)
