"""A prompt that extends an earlier one costs only its new tokens, also where the sampler cut the words as no tokenizer would:
random text and enforced text of a real model, over several turns, read from `usage`."""
import json

import pytest

TOOL = {"name": "note", "description": "Takes a note.", "input_schema": {
    "type": "object", "properties": {"title": {"type": "string", "maxLength": 30}, "tags": {
        "type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 3}},
    "required": ["title", "tags"], "additionalProperties": False}}
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer"}},
          "required": ["name", "age"], "additionalProperties": False}


def whole(usage):
    return usage.input_tokens + usage.cache_read_input_tokens


class Conversation:
    def __init__(self, client, **settings):
        self.client, self.messages, self.before = client, [], None
        self.temperature, self.settings = settings.pop("temperature", 3.0), settings

    def turn(self, content, seed, *, lost=1, prefill=None, **more):
        """lost: tokens at the end of the last answer that may be computed again (the last one never was)."""
        if content:
            self.messages.append({"role": "user", "content": content})
        messages = self.messages + ([{"role": "assistant", "content": prefill}] if prefill else [])
        body = {**self.settings, **more, "model": "m", "messages": messages}
        sampling = {"temperature": self.temperature, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": seed}
        counted = self.client.messages.count_tokens(**{k: v for k, v in body.items() if k not in ("max_tokens", "stop_sequences")})
        m = self.client.messages.create(**body, extra_body=sampling)
        assert counted.input_tokens == whole(m.usage)
        if self.before:
            assert m.usage.cache_read_input_tokens >= whole(self.before) + self.before.output_tokens - lost, (self.before, m.usage)
        self.before = m.usage
        return m

    def keep(self, m, change=lambda text: text, prefix=""):
        content = [b.model_dump() for b in m.content]
        for b in content:
            if b["type"] == "text":
                b["text"] = change(prefix + b["text"])
        self.messages.append({"role": "assistant", "content": content})


@pytest.mark.parametrize("change", [lambda text: text, str.strip], ids=["as it came", "trimmed"])
def test_random_text(client, change):
    c = Conversation(client, max_tokens=30, system="Be brief.")
    for seed in range(4):
        m = c.turn(f"Go on with part {seed}.", seed)
        assert m.usage.output_tokens > 10  # else there is nothing to see here
        c.keep(m, change)


def test_an_answer_that_was_cut_goes_on(client):
    c = Conversation(client, max_tokens=25)
    text = ""
    for seed in range(4):
        m = c.turn(None if seed else "Tell a story.", seed, prefill=text or None)
        text += "".join(b.text for b in m.content)
    c.messages.append({"role": "assistant", "content": text})
    c.turn("And then?", 9)


def test_stop_sequences(client):
    c = Conversation(client, max_tokens=200, stop_sequences=["e", "a"])
    seen = 0
    for seed in range(6):
        m = c.turn(f"Go on with part {seed}.", seed, lost=2)
        seen += m.stop_reason == "stop_sequence" and m.usage.output_tokens > 1
        if not m.content:
            break
        c.keep(m)
    assert seen > 1


def test_forced_calls(client):
    c = Conversation(client, max_tokens=400, temperature=1.5, tools=[TOOL], tool_choice={"type": "tool", "name": "note",
                                                                        "disable_parallel_tool_use": True})
    content = "Take a note."
    for seed in range(4):
        m = c.turn(content, seed)
        assert m.stop_reason == "tool_use"
        m.content[-1].input = json.loads(json.dumps(m.content[-1].input, sort_keys=True))
        c.keep(m)
        content = [{"type": "tool_result", "tool_use_id": m.content[-1].id, "content": "Noted."}]


def test_structured_answers(client):
    c = Conversation(client, max_tokens=200, output_config={"format": {"type": "json_schema", "schema": SCHEMA}})
    for seed in range(3):
        m = c.turn("Invent another person.", seed)
        assert m.stop_reason == "end_turn"
        c.keep(m)


def test_what_the_client_changed_is_shown_as_it_sent_it(client):
    c = Conversation(client, max_tokens=40)
    m = c.turn("Say something.", 3)
    prompt = whole(m.usage)
    c.keep(m, lambda text: text + " (edited)")
    c.before = None
    after = c.turn("Go on.", 4)
    assert after.usage.cache_read_input_tokens >= prompt - 1
