"""Claude Code in a terminal: a session with its title request, /context and /compact, and talk after it."""
import json
import os

import pytest

import proxy
from claude_code import Home, Terminal, call
from harness import Server, scripted_model

SCRIPTS = {
    "": "I have nothing to do.",
    "[[go]]": "I look.\n" + call("Bash", command="cat marker", description="Look"),
    "[[seen]]": "All is seen and well.",
    "[[sum]]": "<analysis>\nIt was short.\n</analysis>\n\n<summary>\nThe user asked for one command, it ran.\n</summary>",
    "[[bye]]": "Good bye, that was all.",
    "naming a coding session": 'A short session"}',  # the title request; its beginning is forced by the schema
}


@pytest.fixture(scope="module")
def session(claude, tmp_path_factory):
    home = Home(tmp_path_factory.mktemp("terminal") / "home", claude)
    home.skip_the_welcome()
    (home.work / "marker").write_text("[[seen]]\n")
    model = scripted_model(home.folder, SCRIPTS, "--context", "65536", "--ranked")
    server = Server(model, "-c", "65536", env={**os.environ, "XDG_STATE_HOME": str(home.folder)})
    between = proxy.Proxy(server.url)
    terminal = Terminal(home, between.url)
    try:
        terminal.wait_for("❯")
        terminal.say("Please go. [[go]]")
        terminal.wait_for(SCRIPTS["[[seen]]"])
        terminal.say("/context")
        terminal.wait_for("Free space")
        context = terminal.screen()
        terminal.say("/compact [[sum]]")
        terminal.wait_for("Compacted")
        terminal.say("And now? [[bye]]")
        terminal.wait_for(SCRIPTS["[[bye]]"])
        terminal.wait_for(lambda: all(e.complete for e in between.exchanges))
        yield between.exchanges, context, terminal.screen()
    finally:
        terminal.close()
        between.stop()
        assert server.stop() == 0, server.output()[-3000:]


def messages(session):
    return [e for e in session[0] if e.is_message]


def test_all_requests_are_answered(session):
    for e in session[0]:
        assert e.status == 200, (e.path, e.answer[:300])
    assert "API Error" not in session[2]


def test_the_session_gets_its_title(session):
    title = next(e for e in messages(session) if e.body.get("output_config", {}).get("format"))
    assert "A short session" in json.loads(title.message["content"][-1]["text"])["title"]


def test_context_is_counted_by_many_requests_at_once(session):
    counts = [e for e in session[0] if e.path.startswith("/v1/messages/count_tokens")]
    assert len(counts) >= 20
    assert all(json.loads(e.answer)["input_tokens"] > 0 for e in counts)
    assert "Messages:" in session[1] and "System tools:" in session[1]


def test_compacting_reuses_the_whole_conversation(session):
    compact = next(e for e in messages(session) if "[[sum]]" in str(e.body["messages"][-1]) and e.body.get("tools"))
    before = [e for e in messages(session) if e.body.get("tools") and e.times[0] < compact.times[0]][-1]
    whole = before.prompt_tokens + before.message["usage"]["output_tokens"]
    print(f"{compact.cached_tokens} of {whole} tokens reused")
    assert compact.cached_tokens >= 0.99 * whole
    assert compact.message["stop_reason"] == "end_turn"


def test_after_compaction_tools_and_system_are_reused(session):
    last = messages(session)[-1]
    assert "it ran" in str(last.body["messages"]) and last.cached_tokens > 0.5 * last.prompt_tokens


def test_following_turns_reuse(session):
    pairs = proxy.following_turns(session[0])
    assert pairs
    for earlier, later in pairs:
        whole = earlier.prompt_tokens + earlier.message["usage"]["output_tokens"]
        assert later.cached_tokens >= 0.99 * whole, later.body["messages"][-1]
