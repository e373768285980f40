"""Where the built programs are: PARLEY_BUILD, or build/release of this tree."""
import os
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def build():
    return pathlib.Path(os.environ.get("PARLEY_BUILD", ROOT / "build" / "release")).resolve()
