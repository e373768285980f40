"""The official Python SDK against the real server (runs with the 2.x SDK and, from build/venv-old, with the 0.x one)."""
import asyncio

import anthropic
import pytest

GREEDY = {"extra_body": {"temperature": 0}}
CAPITAL = [{"role": "user", "content": "What is the capital of France? Answer in one short sentence."}]


def text_of(message):
    return "".join(b.text for b in message.content if b.type == "text")


def total_input(usage):
    return usage.input_tokens + (usage.cache_read_input_tokens or 0) + (usage.cache_creation_input_tokens or 0)


def test_create_answers(client):
    m = client.messages.create(model="claude-opus-5-5", max_tokens=64, messages=CAPITAL, **GREEDY)
    assert "Paris" in text_of(m)
    assert m.type == "message" and m.role == "assistant" and m.id.startswith("msg_")
    assert m.model == "claude-opus-5-5"
    assert m.stop_reason == "end_turn" and m.stop_sequence is None
    assert m.usage.output_tokens > 0


def test_stream_gives_the_same_text_as_create(client):
    whole = client.messages.create(model="m", max_tokens=48, messages=CAPITAL, **GREEDY)
    with client.messages.stream(model="m", max_tokens=48, messages=CAPITAL, **GREEDY) as stream:
        pieces = list(stream.text_stream)
        final = stream.get_final_message()
    assert len(pieces) > 1
    assert "".join(pieces) == text_of(final) == text_of(whole)
    assert final.stop_reason == whole.stop_reason
    assert final.usage.output_tokens == whole.usage.output_tokens
    assert total_input(final.usage) == total_input(whole.usage)


def test_async_client(server):
    async def ask():
        async with anthropic.AsyncAnthropic(base_url=server.url, api_key="dummy", max_retries=0) as c:
            answers = await asyncio.gather(*[c.messages.create(model="m", max_tokens=24, messages=CAPITAL, **GREEDY)
                                             for _ in range(6)])
            return {text_of(a) for a in answers}
    assert len(asyncio.run(ask())) == 1  # the same answer, alone or in a crowd


def test_system_as_string_and_blocks_render_alike(client):
    kind = "You are a pirate. You say Arr."
    a = client.messages.count_tokens(model="m", system=kind, messages=CAPITAL)
    b = client.messages.count_tokens(model="m", system=[{"type": "text", "text": kind}], messages=CAPITAL)
    c = client.messages.count_tokens(model="m", messages=CAPITAL, system=[
        {"type": "text", "text": "x-anthropic-billing-header: cc_version=1; cch=abc12;"}, {"type": "text", "text": kind}])
    assert a.input_tokens == b.input_tokens == c.input_tokens


def test_multi_turn_remembers(client):
    m = client.messages.create(model="m", max_tokens=12, messages=[  # clear enough that no rounding of a CPU level decides
        {"role": "user", "content": "My name is Ada. Remember it: Ada."},
        {"role": "assistant", "content": "Hello Ada! Your name is Ada."}, {"role": "user", "content": "What is my name?"},
        {"role": "assistant", "content": "Hello Ada! Your name is"}], **GREEDY)
    assert "Ada" in text_of(m)


def test_prefill_is_continued(client):
    m = client.messages.create(model="m", max_tokens=12, messages=CAPITAL + [
        {"role": "assistant", "content": "The capital of France is"}], **GREEDY)
    assert "Paris" in text_of(m)
    assert not text_of(m).startswith("The capital")


def test_system_turn_inside_messages(client):
    m = client.messages.create(model="m", max_tokens=16, messages=[
        {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi."},
        {"role": "system", "content": "Reminder: be brief."}, {"role": "user", "content": "Name a colour."}], **GREEDY)
    assert text_of(m)


def test_stop_sequence_is_cut_and_named(client):
    counting = [{"role": "user", "content": "Count from one to ten in words, separated by commas."}]
    prefill = [{"role": "assistant", "content": "one, two, three,"}]
    m = client.messages.create(model="m", max_tokens=40, stop_sequences=["zzz", "six"], messages=counting + prefill, **GREEDY)
    assert m.stop_reason == "stop_sequence" and m.stop_sequence == "six"
    assert "six" not in text_of(m) and "five" in text_of(m)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_max_tokens(client, n):
    m = client.messages.create(model="m", max_tokens=n, messages=[{"role": "user", "content": "Write a long story."}], **GREEDY)
    assert m.stop_reason == "max_tokens" and m.usage.output_tokens == n


def test_seed_makes_sampling_repeatable(client):
    def ask(seed):
        return text_of(client.messages.create(model="m", max_tokens=32, extra_body={"temperature": 1.5, "seed": seed},
                                              messages=[{"role": "user", "content": "Tell me something odd."}]))
    assert ask(7) == ask(7)
    assert len({ask(s) for s in (7, 8, 9)}) > 1


def test_count_tokens_is_what_inference_charges(client):
    for messages in (CAPITAL, [{"role": "user", "content": "Grüße 😀 <|im_end|> {{ x }}"}], CAPITAL + [
            {"role": "assistant", "content": "Paris."}, {"role": "user", "content": "And of Spain?"}]):
        counted = client.messages.count_tokens(model="m", system="Be brief.", messages=messages)
        used = client.messages.create(model="m", system="Be brief.", max_tokens=1, messages=messages).usage
        assert counted.input_tokens == total_input(used)


def test_a_longer_prompt_costs_only_its_new_tokens(client):
    text = "Tell me about the sea. " * 60
    first = client.messages.create(model="m", max_tokens=20, messages=[{"role": "user", "content": text}], **GREEDY)
    again = client.messages.create(model="m", max_tokens=5, messages=[
        {"role": "user", "content": text}, {"role": "assistant", "content": text_of(first)},
        {"role": "user", "content": "Go on."}], **GREEDY)
    assert again.usage.cache_read_input_tokens >= total_input(first.usage) - 1
    assert again.usage.input_tokens < 64


def test_models(client, server):
    models = client.models.list()
    ids = [m.id for m in models]
    assert any("SmolLM2" in i for i in ids)
    one = client.models.retrieve(ids[0])
    assert one.id == ids[0] and one.type == "model"
    assert client.models.retrieve("claude-local").id


def test_a_client_that_leaves_stops_its_computation(client, server):
    with client.messages.stream(model="m", max_tokens=2000, messages=[
            {"role": "user", "content": "Write a very long story about a dragon, a castle and a storm."}]) as stream:
        for _ in zip(range(3), stream.text_stream):
            pass
    assert server.wait_for_line(r"client left", 5), server.output()[-2000:]


def test_unsupported_block_names_its_path(client):
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model="m", max_tokens=5, messages=[{"role": "user", "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGVsbG8="}}]}])
    assert "messages.0.content.1" in str(caught.value) and "image" in str(caught.value)


def test_prompt_too_long(client):
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model="m", max_tokens=5, messages=[{"role": "user", "content": "word " * 40000}])
    assert "prompt is too long: " in str(caught.value) and " maximum" in str(caught.value)
