"""What every test with a real program stands on: the program, a running server, models that answer with known texts.

The program under test is $PARLEY (default build/release/parley); sanitizer builds are tested by pointing it elsewhere.
"""
import json
import os
import pathlib
import re
import signal
import subprocess
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("PARLEY", str(ROOT / "build" / "release" / "parley"))
SLOW = float(os.environ.get("PARLEY_SLOW", "1"))  # sanitizer builds: how many times longer everything may take
PYTHON = str(ROOT / "build/venv/bin/python")  # has what the tools need; sys.executable may be an older SDK's
TOOLS_TEMPLATE = pathlib.Path(__file__).parent / "templates" / "tools.jinja"


class Server:
    """A running `parley serve` on a free port, with everything it printed."""

    def __init__(self, model, *flags, env=None):
        self.started = time.monotonic()
        self.process = subprocess.Popen([PROGRAM, "serve", "-m", model, "--port", "0", *flags], stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, errors="replace", env=env)
        self.lines, self.told = [], False
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

    def tell_to_stop(self, sig=signal.SIGINT):
        """Once: a second signal may end a server that is already closing down before it can say 0."""
        if not self.told and self.process.poll() is None:
            self.told = True
            self.process.send_signal(sig)

    def stop(self, sig=signal.SIGINT, timeout=20):
        self.tell_to_stop(sig)
        code = self.process.wait(timeout * SLOW)
        self.reader.join(5)
        return code


def scripted_model(folder, scripts, *flags, template=TOOLS_TEMPLATE):
    """The path of a model that answers with the text of the marker seen last; flags as of tools/make-tiny-gguf.
    template None: ChatML without tools."""
    listing, model = pathlib.Path(folder) / "scripts.json", pathlib.Path(folder) / "scripted.gguf"
    listing.write_text(json.dumps(scripts), encoding="utf-8")
    command = [PYTHON, str(ROOT / "tools" / "make-tiny-gguf"), "--script", str(listing), *flags]
    subprocess.run(command + (["--template", str(template)] if template else []) + [str(model)], check=True)
    return str(model)
