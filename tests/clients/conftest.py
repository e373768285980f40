"""Real clients, as their makers ship them, against a real server. `make test-clients` fetches them once (the folder of
$PARLEY_CLIENTS, default ~/.cache/parley/clients)."""
import os
import pathlib
import subprocess
import sys

import pytest

E2E = pathlib.Path(__file__).resolve().parents[1] / "e2e"
sys.path[:0] = [str(E2E), str(pathlib.Path(__file__).parent)]

from claude_code import VERSION  # noqa: E402
from harness import ROOT  # noqa: E402


@pytest.fixture(scope="session")
def claude():
    folder = os.environ.get("PARLEY_CLIENTS") or os.path.expanduser("~/.cache/parley/clients")
    path = pathlib.Path(folder) / f"claude-code-{VERSION}" / "claude"
    if not path.exists():
        found = subprocess.run([str(ROOT / "tools" / "fetch-client"), folder, VERSION], capture_output=True, text=True)
        assert found.returncode == 0, found.stdout + found.stderr
    return str(path)
