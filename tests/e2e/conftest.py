"""End-to-end tests: the real program, the real default model, the official SDK. Nothing is mocked.

The program under test is $PARLEY (default build/release/parley); sanitizer builds are tested by pointing it elsewhere.
"""
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("PARLEY", str(ROOT / "build" / "release" / "parley"))
SLOW = float(os.environ.get("PARLEY_SLOW", "1"))  # sanitizer builds: how many times longer everything may take

sys.path.insert(0, str(pathlib.Path(__file__).parent))


@pytest.fixture(scope="session")
def model_path():
    found = subprocess.run([sys.executable, str(ROOT / "tools" / "fetch-model"), "--quiet", "default"], capture_output=True,
                           text=True)
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


class Server:
    """A running `parley serve` on a free port, with everything it printed."""

    def __init__(self, model, *flags, env=None):
        self.started = time.monotonic()
        self.process = subprocess.Popen([PROGRAM, "serve", "-m", model, "--port", "0", *flags], stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, errors="replace", env=env)
        self.lines = []
        self.ready = threading.Event()
        self.url = None
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        if not self.ready.wait(60 * SLOW) or not self.url:
            self.process.kill()
            raise RuntimeError("not ready:\n" + self.output())
        self.ready_s = time.monotonic() - self.started
        self.port = int(self.url.rsplit(":", 1)[1])

    def read(self):
        for line in self.process.stdout:
            self.lines.append(line)
            found = re.search(r"http://[^\s/]+:\d+", line)
            if found and not self.url:
                self.url = found.group()
                self.ready.set()
        self.ready.set()

    def output(self):
        return "".join(self.lines)

    def rss_mb(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as f:
            return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1)) / 1024

    def wait_for_line(self, pattern, timeout=10):
        until = time.monotonic() + timeout * SLOW
        while time.monotonic() < until:
            if re.search(pattern, self.output()):
                return True
            time.sleep(0.02)
        return False

    def stop(self, sig=signal.SIGINT, timeout=20):
        if self.process.poll() is None:
            self.process.send_signal(sig)
        code = self.process.wait(timeout * SLOW)
        self.reader.join(5)
        return code


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
