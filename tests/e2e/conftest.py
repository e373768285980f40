"""End-to-end tests: the real program, the real default model, the official SDK. Nothing is mocked."""
import pathlib
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from harness import PROGRAM, ROOT, SLOW, Server  # noqa: E402, F401  (tests take them from here)


@pytest.fixture(scope="session")
def model_path():
    found = subprocess.run([sys.executable, str(ROOT / "tools" / "fetch-model"), "--quiet", "default"], capture_output=True,
                           text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


@pytest.fixture(scope="session")
def server(model_path):
    s = Server(model_path, "--alias", "claude-local")
    yield s
    code = s.stop()
    assert code == 0, f"exit code {code}\n" + s.output()[-4000:]


@pytest.fixture
def client(server):
    import anthropic
    return anthropic.Anthropic(base_url=server.url, api_key="dummy", max_retries=0, timeout=120 * SLOW)
