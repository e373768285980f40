"""What the masks of a grammar lead to, judged by python-jsonschema: random walks through the masks end in valid JSON.

`make grammar-walks WALKS=10000` runs the full number over the sample; a test run does a few of each.
"""
import datetime
import decimal
import json
import os
import re
import subprocess

import jsonschema
import pytest
from conftest import ROOT

SAMPLE = ROOT / "tests/data/json-schemas/maskbench/sample.jsonl"
SCHEMAS = {d["id"]: d["schema"] for d in map(lambda line: json.loads(line, parse_float=decimal.Decimal), SAMPLE.open(encoding="utf-8"))}
WALKS = int(os.environ.get("PARLEY_WALKS", "20"))
decimal.getcontext().prec = 2000


def pattern(validator, expression, instance, schema):
    """ECMA-262: \\d and \\w are ASCII, $ is the very end, a dot is no line end of any kind."""
    expression = re.sub(r"(?<!\\)\$", r"\\Z", expression)
    if validator.is_type(instance, "string") and not re.search(expression, instance, re.ASCII):
        yield jsonschema.ValidationError(f"{instance!r} does not match {expression!r}")


def is_integer(checker, x):
    return not isinstance(x, bool) and (isinstance(x, int) or (isinstance(x, decimal.Decimal) and x == x.to_integral_value()))


def is_number(checker, x):
    return not isinstance(x, bool) and isinstance(x, (int, decimal.Decimal))


BASE = jsonschema.Draft202012Validator
Validator = jsonschema.validators.extend(BASE, {"pattern": pattern}, type_checker=BASE.TYPE_CHECKER.redefine_many(
    {"integer": is_integer, "number": is_number}))


FORMATS = jsonschema.FormatChecker(["uuid", "ipv4"])


@FORMATS.checks("date", raises=ValueError)
def is_date(x):
    """RFC 3339 has a year 0 (a leap year), Python has none."""
    return not isinstance(x, str) or bool(datetime.date.fromisoformat("2000" + x[4:] if x.startswith("0000") else x))


def members(pairs):
    found = dict(pairs)
    assert len(found) == len(pairs), "a member twice"
    return found


@pytest.fixture(scope="module")
def model():
    named = os.environ.get("PARLEY_WALKS_MODEL")
    return named or subprocess.run([ROOT / "tools/fetch-model", "default"], check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("schema", sorted(SCHEMAS))
def test_walks_through_masks_end_in_valid_json(build, model, schema):
    """The tool itself compares each mask with the check of single tokens, and every end with the check of whole texts."""
    command = [build / "tests/grammar_walks", "--walks", str(WALKS), "--only", schema, model, SAMPLE]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60 + WALKS)
    assert run.returncode == 0, run.stderr[-3000:]
    validator = Validator(SCHEMAS[schema], format_checker=FORMATS)
    texts = [json.loads(line)["text"] for line in run.stdout.splitlines()]
    assert len(texts) == WALKS
    for text in texts:
        value = json.loads(text, parse_float=decimal.Decimal, object_pairs_hook=members)
        validator.validate(value)


def test_the_library_works_on_its_own(build):
    """docs/grammar.md's example: its model likes any order, the grammar makes it a person of age."""
    out = subprocess.run([build / "tests/grammar_example"], check=True, capture_output=True, text=True).stdout
    person = json.loads(out)
    assert person.keys() == {"name", "age"} and person["age"] >= 18
