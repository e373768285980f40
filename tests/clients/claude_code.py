"""Claude Code as its users run it: an empty home, a base URL and a key. Printing (-p) and in a terminal (tmux)."""
import json
import os
import subprocess
import time

from harness import SLOW

VERSION = "2.1.330"
KEY = "dummy-key-of-twenty-characters"
TOOLS = "Bash,Read,Edit,Write,Agent,ToolSearch,NotebookEdit"


def call(name, **arguments):
    """A tool call as the template of the scripted models writes it."""
    return "<tool_call>\n" + json.dumps({"name": name, "arguments": arguments}) + "\n</tool_call>"


class Home:
    """A user's home with a folder `work`, in which Claude Code is started."""

    def __init__(self, folder, program):
        self.folder, self.program, self.work = folder, program, folder / "work"
        self.work.mkdir(parents=True)

    def environment(self, url):
        return {"PATH": os.environ["PATH"], "HOME": str(self.folder), "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": KEY,
                "DISABLE_AUTOUPDATER": "1", "TERM": "xterm-256color", "LANG": "C.UTF-8"}

    def print_answer(self, url, prompt, timeout, *flags, may_fail=False, settings=None):
        """`claude -p`: the JSON that it prints at its end. may_fail: also where it gave up; settings: further variables."""
        done = subprocess.run([self.program, "-p", prompt, "--output-format", "json", "--allowedTools", TOOLS, *flags],
                              env={**self.environment(url), **(settings or {})}, cwd=self.work, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=timeout * SLOW)
        assert done.returncode == 0 or may_fail, done.stdout + done.stderr
        return json.loads(done.stdout)

    def skip_the_welcome(self):
        """What the first-run dialogs would have written."""
        (self.folder / ".claude.json").write_text(json.dumps({
            "hasCompletedOnboarding": True, "theme": "dark", "customApiKeyResponses": {"approved": [KEY[-20:]], "rejected": []},
            "projects": {str(self.work): {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}}}))


class Terminal:
    """Claude Code in a terminal of its own tmux server."""

    def __init__(self, home, url):
        self.socket = str(home.folder / "tmux")
        words = ["env", "-i", *(f"{k}={v}" for k, v in home.environment(url).items()), home.program, "--allowedTools", TOOLS]
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "160", "-y", "60", "-c", str(home.work), *words)

    def tmux(self, *words):
        done = subprocess.run(["tmux", "-S", self.socket, *words], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def screen(self):
        return self.tmux("capture-pane", "-p")

    def wait_for(self, what, timeout=60):
        """what: words on the screen, or a function that becomes true."""
        until = time.monotonic() + timeout * SLOW
        while time.monotonic() < until:
            if what() if callable(what) else what in self.screen():
                return
            time.sleep(0.05)
        raise AssertionError(f"not seen in {timeout} s: {what}\n{self.screen()}")

    def say(self, text):
        self.tmux("send-keys", "-l", text)
        self.wait_for(text[-40:])
        self.tmux("send-keys", "Enter")

    def close(self):
        self.tmux("kill-server")
