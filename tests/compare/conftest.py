"""Where the built programs are: PARLEY_BUILD, or build/release of this tree."""
import os
import pathlib

import pytest

# The yardstick itself against llama.cpp: `make compare` names the server, `make test` needs none.
collect_ignore = [] if os.environ.get("PARLEY_LLAMA_SERVER") else ["test_reference.py"]

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def build():
    return pathlib.Path(os.environ.get("PARLEY_BUILD", ROOT / "build" / "release")).resolve()
