"""Anthropic's own tests of the Python SDK, from its source package (downloaded once, never copied into this repository),
against the real program. They are generated from the API's description and check types, strict and loose, sync, async and
over aiohttp. What fails by design stands with its reason in sdk-own-expected.txt: anything else that fails, fails here; so
does an expected failure that passes."""
import fnmatch
import os
import pathlib
import subprocess
import xml.etree.ElementTree as ET

import pytest

from harness import ROOT, SLOW, Server, scripted_model

PYTHON = ROOT / "build/venv-clients/bin/python"
SOURCE = ROOT / "build/sdk-source"
FILES = ["test_messages.py", "beta/test_messages.py", "test_models.py", "beta/test_models.py"]  # of the endpoints there are
EXPECTED = pathlib.Path(__file__).parent / "sdk-own-expected.txt"


def expected_failures():
    lines = [line for line in EXPECTED.read_text().splitlines() if line and not line.startswith("#")]
    return [line.split("  ", 1)[0] for line in lines]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("own")
    model = scripted_model(folder, {"": "There is nothing to say."}, "--context", "8192")
    s = Server(model, env={**os.environ, "XDG_STATE_HOME": str(folder)})
    yield s
    assert s.stop() == 0, s.output()[-3000:]


def test_the_sdk_s_own_tests(server, tmp_path):
    report = tmp_path / "report.xml"
    done = subprocess.run(
        [str(PYTHON), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", "-o", "addopts=-p tests._alias_httpx", "-o",
         "filterwarnings=default", f"--junitxml={report}", *(f"tests/api_resources/{f}" for f in FILES)],
        cwd=SOURCE, env={**os.environ, "TEST_API_BASE_URL": server.url}, capture_output=True, text=True, timeout=400 * SLOW)
    assert report.exists(), done.stdout[-3000:] + done.stderr[-3000:]
    failed, passed = {}, []
    for case in ET.parse(report).iter("testcase"):
        name = case.get("classname").removeprefix("tests.api_resources.") + "." + case.get("name")
        bad = case.find("failure") if case.find("failure") is not None else case.find("error")
        if bad is not None:
            failed[name] = bad.get("message", "")[:300]
        else:
            passed.append(name)
    print(f"{len(passed)} passed, {len(failed)} failed")
    patterns = expected_failures()
    assert len(passed) >= 150, done.stdout[-3000:]
    surprising = {n: why for n, why in failed.items() if not any(fnmatch.fnmatchcase(n, p) for p in patterns)}
    assert not surprising, "\n".join(f"{n}: {why}" for n, why in surprising.items())
    idle = [p for p in patterns if not fnmatch.filter(failed, p)]
    assert not idle, f"expected to fail, but pass: {idle}"
