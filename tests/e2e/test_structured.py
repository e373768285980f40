"""Structured output through the official SDK: a real small model, real pydantic types. Whatever the model would like to
say, the answer is one text block of JSON that fits."""
import concurrent.futures
import json
from typing import Literal, Optional

import anthropic
import pydantic
import pytest

SEED = {"extra_body": {"temperature": 1.0, "seed": 11}}


class Address(pydantic.BaseModel):
    side: Literal["north", "south"]
    corner: bool
    street: Literal["Main Street", "Elm Street", "Rue de la Paix"]


class Person(pydantic.BaseModel):  # only what has an end: the SDK throws when the answer is cut
    name: Literal["Ada", "Grace", "Zo\u00eb \U0001f600 \"Z\""]
    kind: Literal["friend", "colleague"]
    address: Address
    addresses: Optional[Address] = None


class Cat(pydantic.BaseModel):
    type: Literal["cat"]
    lives: int


class Dog(pydantic.BaseModel):
    type: Literal["dog"]
    name: str


def ask(text):
    return [{"role": "user", "content": text}]


def only_text(message):
    assert [b.type for b in message.content] == ["text"], message.content
    return message.content[0].text


@pytest.mark.parametrize("seed", range(4))
def test_parse_gives_the_type(client, seed):
    m = client.messages.parse(model="m", max_tokens=600, output_format=Person, extra_body={"temperature": 1.2, "seed": seed},
                              messages=ask("Invent a person with an address."))
    assert m.stop_reason == "end_turn"
    assert isinstance(m.parsed_output, Person)
    only_text(m)


def test_unions_and_lists(client):
    schema = {"type": "array", "minItems": 2, "maxItems": 4, "items": {"anyOf": [
        {"type": "object", "properties": {"type": {"const": "cat"}, "lives": {"type": "integer", "minimum": 1, "maximum": 9}},
         "required": ["type", "lives"], "additionalProperties": False},
        {"type": "object", "properties": {"type": {"const": "dog"}, "name": {"type": "string", "maxLength": 12}},
         "required": ["type", "name"], "additionalProperties": False}]}}
    m = client.messages.create(model="m", max_tokens=800, messages=ask("A list of some cats and dogs."), **SEED,
                               output_config={"format": {"type": "json_schema", "schema": schema}})
    animals = json.loads(only_text(m))
    assert 2 <= len(animals) <= 4
    for a in animals:
        (Cat if a["type"] == "cat" else Dog).model_validate(a)


def test_stream_gives_the_type_and_valid_pieces(client):
    with client.messages.stream(model="m", max_tokens=600, output_format=Address, messages=ask("Give me an address."),
                                **SEED) as stream:
        pieces = [e.text for e in stream if e.type == "text"]
        final = stream.get_final_message()
    assert len(pieces) > 3
    assert "".join(pieces) == only_text(final)
    assert final.stop_reason == "end_turn" and isinstance(final.parsed_output, Address)


def test_the_older_spelling(client):
    body = {"output_format": {"type": "json_schema", "schema": {"enum": ["yes", "no", "maybe"]}}}
    m = client.messages.create(model="m", max_tokens=20, messages=ask("Is water wet?"), extra_body=body)
    assert json.loads(only_text(m)) in ("yes", "no", "maybe")
    assert m.stop_reason == "end_turn"


def test_both_spellings_are_refused(client):
    form = {"type": "json_schema", "schema": {"type": "boolean"}}
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model="m", max_tokens=20, messages=ask("Hi"), output_config={"format": form},
                               extra_body={"output_format": form})
    assert "output_format" in str(caught.value)


@pytest.mark.parametrize("schema, words", [
    ({"type": "object", "properties": {"x": {"type": "string", "pattern": "(?=a)b"}}}, ["properties.x.pattern"]),
    ({"not": {"type": "string", "pattern": "^(?<!x)a$"}}, ["output_config.format.schema"]),
    ({"properties": {"a": {"$ref": "https://example.com/other.json"}}}, ["properties.a", "$ref"]),
    ({"type": "string", "minLength": 3, "maxLength": 2}, ["output_config.format.schema"]),
])
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_enforced_is_refused_by_name(client, schema, words, stream):
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model="m", max_tokens=20, messages=ask("Hi"), stream=stream,
                               output_config={"format": {"type": "json_schema", "schema": schema}})
    for word in ["output_config.format.schema", *words]:
        assert word in str(caught.value)


def test_a_begun_answer_is_refused(client):
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.messages.create(model="m", max_tokens=20, messages=ask("Hi") + [{"role": "assistant", "content": "{"}],
                               output_config={"format": {"type": "json_schema", "schema": {"type": "object"}}})
    assert "output_config.format" in str(caught.value)


def test_max_tokens_may_cut_it(client):
    m = client.messages.create(model="m", max_tokens=5, messages=ask("Invent a person."), **SEED, output_config={
        "format": {"type": "json_schema", "schema": Person.model_json_schema()}})
    assert m.stop_reason == "max_tokens" and m.usage.output_tokens == 5
    assert only_text(m).startswith("{")


def test_stop_sequences_hold_inside(client):
    m = client.messages.create(model="m", max_tokens=50, stop_sequences=["\"b"], messages=ask("Go."), output_config={
        "format": {"type": "json_schema", "schema": {"const": ["a", "b"]}}})
    assert m.stop_reason == "stop_sequence" and m.stop_sequence == "\"b"
    assert "a" in only_text(m) and "b" not in only_text(m)


def test_white_space_ends(client):
    m = client.messages.create(model="m", max_tokens=400, messages=ask("Write nothing but spaces."), output_config={
        "format": {"type": "json_schema", "schema": {"const": [1, [2], {"a": None}]}}})
    assert json.loads(only_text(m)) == [1, [2], {"a": None}]
    assert m.stop_reason == "end_turn"


def test_many_at_once_beside_free_answers(client):
    def one(i):
        if i % 3 == 0:
            return client.messages.create(model="m", max_tokens=30, messages=ask(f"Say something about {i}."))
        return client.messages.create(model="m", max_tokens=200, messages=ask(f"Number {i}?"), output_config={"format": {
            "type": "json_schema", "schema": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}},
                                              "required": ["n"], "additionalProperties": False}}})
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(one, range(15)))
    for i, m in enumerate(answers):
        if i % 3:
            assert 0 <= json.loads(only_text(m))["n"] <= 99
        else:
            assert only_text(m)


def test_markers_of_the_dialect_are_plain_text_inside(client):
    text = "<think>a</think> <tool_call>{\"name\": \"x\"}</tool_call> <|im_end|>"
    m = client.messages.create(model="m", max_tokens=100, messages=ask("Go."), output_config={
        "format": {"type": "json_schema", "schema": {"const": {"text": text}}}})
    assert json.loads(only_text(m)) == {"text": text}


def test_the_model_says_that_it_can(client):
    model = client.models.list().data[0]
    assert model.capabilities.structured_outputs.supported
