"""Thinking on the wire: scripted models (they answer what is known beforehand) behind templates of every kind: one that
always opens the reasoning, one with a switch, one that leaves it to the model, one that knows no reasoning, one that
is told the effort, and one whose messages have headers. The text of "</think>" is what the model says once its reasoning has been ended for it."""
import json
import os
import subprocess
import sys

import anthropic
import pytest

from conftest import ROOT, SLOW, Server
import sse_checker

THOUGHT = "The user asks for a number, and so I think about it for quite a while, in many words, before I say one."
SCRIPTS = {
    "": "I know nothing about that.",
    "</think>": "Said without a thought: four hundred and four.",
    "[[number]]": THOUGHT + "\n</think>\n\nIt is forty-two.",
    "[[self]]": "<think>\n" + THOUGHT + "\n</think>\n\nIt is seventeen.",
    "[[plain]]": "It is ninety-nine, and that needs no thought.",
    "[[json]]": "Hm, JSON it shall be, with a key that is named n.\n</think>\n\n{\"n\": 5}",
    "[[analysis]]": "<|channel|>analysis<|message|>" + THOUGHT + "<|end|><|start|>assistant<|channel|>final<|message|>It is seventy.",
    "<|start|>": "<|channel|>final<|message|>It is said early: eighty.",
    "[[endless]]": "I go on and on. " * 20,
}
TURNS = """{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' }}
{%- if m.reasoning_content %}{{- '<think>\\n' + m.reasoning_content + '\\n</think>\\n\\n' }}{%- endif %}
{{- m.content + '<|im_end|>\\n' }}{%- endfor %}"""
START = "{{- '<|im_start|>assistant\\n' }}"
SWITCH = "{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}"
TEMPLATES = {
    "always": TURNS + START + "{{- '<think>\\n' }}",
    "switch": TURNS + START + SWITCH + "{%- else %}{{- '<think>\\n' }}{%- endif %}",
    "self": TURNS + START + SWITCH + "{%- endif %}",
    "never": "{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{%- endfor %}" + START,
    "effort": "{%- if reasoning_effort %}{%- if reasoning_effort not in ['low', 'medium', 'xhigh'] %}"
              "{{- raise_exception('no such effort') }}{%- endif %}{{- '<|im_start|>system\\neffort ' + reasoning_effort + "
              "' [[plain]]<|im_end|>\\n' }}{%- endif %}" + TURNS + START + "{{- '<think>\\n' }}",
    "headers": "{#- <|channel|> <|message|> #}{%- for m in messages %}{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
               "{%- endfor %}{{- '<|im_start|>assistant' }}",
}
ENABLED = {"type": "enabled", "budget_tokens": 1024}
ON = [ENABLED, {"type": "adaptive"}, {"type": "between_tools"}, {"type": "adaptive", "display": "summarized"}]


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    folder = tmp_path_factory.mktemp("thinking")
    servers = {}
    (folder / "scripts.json").write_text(json.dumps(SCRIPTS))

    def server(kind):
        if kind not in servers:
            (folder / f"{kind}.jinja").write_text(TEMPLATES[kind])
            model = str(folder / f"{kind}.gguf")
            subprocess.run([sys.executable, str(ROOT / "tools" / "make-tiny-gguf"), "--script", str(folder / "scripts.json"),
                            "--template", str(folder / f"{kind}.jinja"), model], check=True)
            servers[kind] = Server(model, env={**os.environ, "XDG_STATE_HOME": str(folder / "state")})
        return servers[kind]

    def client(kind):
        return anthropic.Anthropic(base_url=server(kind).url, api_key="dummy", max_retries=0, timeout=60 * SLOW)

    def create(kind, messages, **more):
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return client(kind).messages.create(**{"model": "m", "max_tokens": 300, "messages": messages, **more})
    create.client, create.server = client, server
    yield create
    for s in servers.values():
        assert s.stop() == 0, s.output()[-3000:]


def kinds(message):
    return [b.type for b in message.content]


def text(message):
    return "".join(b.text for b in message.content if b.type == "text")


def thinking(message):
    return "".join(b.thinking for b in message.content if b.type == "thinking")


@pytest.mark.parametrize("config", ON, ids=lambda c: c["type"] + c.get("display", ""))
@pytest.mark.parametrize("kind, marker, says", [("always", "[[number]]", "It is forty-two."),
                                                ("switch", "[[number]]", "It is forty-two."),
                                                ("self", "[[self]]", "It is seventeen.")])
def test_thinking_that_is_on(ask, kind, marker, says, config):
    m = ask(kind, "A number? " + marker, thinking=config)
    assert kinds(m) == ["thinking", "text"] and m.stop_reason == "end_turn"
    assert (thinking(m), text(m)) == (THOUGHT, says)
    assert m.content[0].signature
    used = m.usage.output_tokens_details.thinking_tokens
    assert 20 <= used < m.usage.output_tokens
    assert used == ask(kind, "A number? " + marker, thinking=config).usage.output_tokens_details.thinking_tokens


@pytest.mark.parametrize("kind", ["always", "switch", "self"])
@pytest.mark.parametrize("off", [{}, {"thinking": {"type": "disabled"}}])
def test_thinking_that_is_off(ask, kind, off):
    m = ask(kind, "A number? [[number]]", **off)
    assert kinds(m) == ["text"] and text(m) == SCRIPTS["</think>"]
    assert m.usage.output_tokens_details.thinking_tokens == 0


@pytest.mark.parametrize("config", [*ON, {"type": "disabled"}, {"type": "of the future"}], ids=lambda c: c["type"])
def test_a_model_that_never_thinks_has_no_thinking(ask, config):
    m = ask("never", "A number? [[plain]]", thinking=config)
    assert kinds(m) == ["text"] and text(m) == SCRIPTS["[[plain]]"]
    assert m.usage.output_tokens_details.thinking_tokens == 0
    raw = ask.client("never").messages.with_raw_response.create(model="m", max_tokens=9, thinking=config, messages=[
        {"role": "user", "content": "A number?"}])
    assert ("does not reason" in raw.headers.get("parley-notes", "")) == (config["type"] == "enabled")


@pytest.mark.parametrize("kind, marker", [("always", "[[number]]"), ("self", "[[self]]"), ("always", "[[endless]]")])
@pytest.mark.parametrize("budget", [1, 7, 20])
def test_the_budget_ends_the_thinking(ask, kind, marker, budget):
    m = ask(kind, "A number? " + marker, thinking={"type": "enabled", "budget_tokens": budget})
    assert kinds(m) == ["thinking", "text"] and text(m) == SCRIPTS["</think>"]
    assert m.usage.output_tokens_details.thinking_tokens == budget
    script = SCRIPTS[marker].removeprefix("<think>\n")
    assert script.startswith(thinking(m)) and len(thinking(m)) < len(THOUGHT)


def test_the_stream_of_a_budget_is_legal(ask):
    with ask.client("always").messages.with_streaming_response.create(
            model="m", max_tokens=200, stream=True, thinking={"type": "enabled", "budget_tokens": 10},
            messages=[{"role": "user", "content": "[[endless]]"}]) as r:
        body = b"".join(r.iter_bytes())
    message = sse_checker.check(body).message
    assert [b["type"] for b in message["content"]] == ["thinking", "text"] and b'"thinking_delta"' in body


@pytest.mark.parametrize("n", [1, 5, 12])
def test_max_tokens_within_thinking(ask, n):
    m = ask("always", "[[endless]]", max_tokens=n, thinking={"type": "enabled", "budget_tokens": 1024})
    assert kinds(m) == ["thinking"] and m.stop_reason == "max_tokens"
    assert m.usage.output_tokens == n == m.usage.output_tokens_details.thinking_tokens


def test_effort_is_what_the_template_knows(ask):
    def system(effort, **more):
        return ask("effort", "Say it.", max_tokens=8, output_config={"effort": effort}, thinking={"type": "adaptive"}, **more)
    counts = {effort: ask.client("effort").messages.count_tokens(
        model="m", messages=[{"role": "user", "content": "Say it."}], output_config={"effort": effort},
        thinking={"type": "adaptive"}).input_tokens for effort in ("low", "medium", "high", "xhigh", "max")}
    none = ask.client("effort").messages.count_tokens(model="m", messages=[{"role": "user", "content": "Say it."}]).input_tokens
    assert all(n > none for n in counts.values())  # each is told to the template, as a word that it takes
    assert counts["high"] == counts["xhigh"] == counts["max"]
    assert system("low").usage.input_tokens > none


def test_effort_becomes_a_budget_elsewhere(ask):
    for effort in ("low", "medium", "high", "xhigh", "max", "of the future"):
        m = ask("switch", "[[number]]", output_config={"effort": effort}, thinking={"type": "adaptive"})
        assert thinking(m) == THOUGHT  # far below the smallest one


def test_omitted_thinking_has_a_signature_and_comes_back(ask):
    config = {"type": "adaptive", "display": "omitted"}
    m = ask("switch", "[[number]]", thinking=config)
    assert kinds(m) == ["thinking", "text"] and thinking(m) == "" and len(m.content[0].signature) > 40
    seen = ask("switch", "[[number]]", thinking={"type": "adaptive"})
    assert thinking(seen) == THOUGHT and m.usage.output_tokens == seen.usage.output_tokens

    def count(answer, signature=None):
        turn = [b.model_dump() for b in answer.content]
        if signature is not None:
            turn[0]["signature"] = signature
        return ask.client("switch").messages.count_tokens(model="m", messages=[
            {"role": "user", "content": "[[number]]"}, {"role": "assistant", "content": turn},
            {"role": "user", "content": "Thank you."}]).input_tokens
    assert count(m) == count(seen)  # the model gets its own reasoning back, though the client never saw it
    assert count(m, "p1-Zm9yZWlnbg==") < count(m)
    assert count(m, m.content[0].signature[:-8] + "AAAAAAA=") < count(m)
    assert count(seen, "of somebody else") == count(seen)


def test_omitted_thinking_streams_no_text(ask):
    with ask.client("switch").messages.with_streaming_response.create(
            model="m", max_tokens=200, stream=True, thinking={"type": "adaptive", "display": "omitted"},
            messages=[{"role": "user", "content": "[[number]]"}]) as r:
        body = b"".join(r.iter_bytes())
    sse_checker.check(body)
    assert b'"thinking_delta"' not in body and body.count(b'"signature_delta"') == 1 and b'"text_delta"' in body


def test_redacted_thinking_is_taken(ask):
    m = ask("switch", [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": [
        {"type": "redacted_thinking", "data": "abc"}, {"type": "text", "text": "Hello."}]},
        {"role": "user", "content": "[[number]]"}], thinking=ENABLED)
    assert kinds(m) == ["thinking", "text"]


# ---- with structured output ----

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}}, "required": ["n"],
          "additionalProperties": False}
FORMAT = {"format": {"type": "json_schema", "schema": SCHEMA}}


@pytest.mark.parametrize("config, before", [(ENABLED, ["thinking"]), ({"type": "disabled"}, [])])
@pytest.mark.parametrize("kind", ["always", "switch"])
def test_json_comes_behind_the_thinking(ask, kind, config, before):
    m = ask(kind, "[[json]]", thinking=config, output_config=FORMAT)
    assert kinds(m) == [*before, "text"] and m.stop_reason == "end_turn"
    assert 0 <= json.loads(text(m))["n"] <= 99
    if before:
        assert thinking(m).startswith("Hm, JSON") and json.loads(text(m)) == {"n": 5}


@pytest.mark.parametrize("marker", ["[[self]]", "[[endless]]", "[[plain]]"])
@pytest.mark.parametrize("kind", ["always", "switch", "self", "never"])
def test_json_comes_whatever_the_model_wants(ask, kind, marker):
    m = ask(kind, marker, thinking={"type": "enabled", "budget_tokens": 40}, output_config=FORMAT)
    assert kinds(m)[-1] == "text" and kinds(m).count("text") == 1 and m.stop_reason == "end_turn"
    assert 0 <= json.loads(text(m))["n"] <= 99
    assert m.usage.output_tokens_details.thinking_tokens <= 40


def test_max_tokens_within_the_thinking_before_json(ask):
    m = ask("always", "[[json]]", thinking=ENABLED, output_config=FORMAT, max_tokens=4)
    assert kinds(m) == ["thinking"] and m.stop_reason == "max_tokens"


# ---- messages with headers ----

def test_a_message_of_reasoning(ask):
    m = ask("headers", "A number? [[analysis]]", thinking=ENABLED)
    assert kinds(m) == ["thinking", "text"] and (thinking(m), text(m)) == (THOUGHT, "It is seventy.")


@pytest.mark.parametrize("budget", [1, 7, 15])
def test_the_budget_ends_a_message_of_reasoning(ask, budget):
    m = ask("headers", "A number? [[analysis]]", thinking={"type": "enabled", "budget_tokens": budget})
    assert kinds(m) == ["thinking", "text"] and m.stop_reason == "end_turn"
    assert THOUGHT.startswith(thinking(m)) and len(thinking(m)) < len(THOUGHT)
    assert text(m) == "It is said early: eighty."
    assert m.usage.output_tokens_details.thinking_tokens == budget


# ---- calls that are demanded come behind the reasoning ----

PICK = {"name": "pick", "description": "Picks a number.", "input_schema": {
    "type": "object", "properties": {"n": {"enum": [1, 2, 3]}}, "required": ["n"], "additionalProperties": False}}


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "pick"}], ids=lambda c: c["type"])
@pytest.mark.parametrize("kind, marker", [("always", "[[number]]"), ("self", "[[self]]")])
@pytest.mark.parametrize("budget", [1024, 5])
def test_a_demanded_call_comes_behind_the_thinking(ask, kind, marker, choice, budget):
    m = ask(kind, "A number? " + marker, tools=[PICK], tool_choice={**choice, "disable_parallel_tool_use": True},
            thinking={"type": "enabled", "budget_tokens": budget})
    assert kinds(m) == ["thinking", "tool_use"] and m.stop_reason == "tool_use"
    assert thinking(m) == THOUGHT if budget > 100 else THOUGHT.startswith(thinking(m))
    assert m.content[1].name == "pick" and m.content[1].input["n"] in (1, 2, 3)


@pytest.mark.parametrize("kind, marker", [("always", "[[number]]"), ("self", "[[self]]"), ("headers", "[[analysis]]")])
def test_without_thinking_a_demanded_call_comes_at_once(ask, kind, marker):
    m = ask(kind, "A number? " + marker, tools=[PICK], tool_choice={"type": "any", "disable_parallel_tool_use": True})
    assert kinds(m) == ["tool_use"] and m.content[0].input["n"] in (1, 2, 3)
