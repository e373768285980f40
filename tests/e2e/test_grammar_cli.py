"""parley grammar: schema, GBNF and regular expression; --check, --sample, --explain."""
import json
import re
import subprocess

import pytest
from conftest import PROGRAM, SLOW

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}, "tag": {"type": "string", "pattern": "^(?!x)[a-z]+$"}},
          "required": ["n"], "additionalProperties": False}
FILES = {
    "tool.json": json.dumps({**SCHEMA, "properties": {"n": SCHEMA["properties"]["n"]}}),
    "ahead.json": json.dumps(SCHEMA),
    "list.gbnf": 'root ::= "[" item ("," item)* "]"\nitem ::= [0-9]+ | root\n',
    "code.regex": "^[A-Z]{2}\\d{3}$\n",
}


def grammar(folder, name, *options):
    path = folder / name
    path.write_text(FILES[name], encoding="utf-8")
    return subprocess.run([PROGRAM, "grammar", path, *options], capture_output=True, text=True, timeout=60 * SLOW)


@pytest.mark.parametrize("name, fits, fails", [("tool.json", '{"n": 3}', '{"n": 0}'), ("list.gbnf", "[1,[22]]", "[1,"), ("code.regex", "AB123", "AB12")])
def test_check_says_whether_a_text_fits(tmp_path, name, fits, fails):
    good, bad = grammar(tmp_path, name, "--check", fits), grammar(tmp_path, name, "--check", fails)
    assert good.returncode == 0 and "accepted" in good.stdout
    assert bad.returncode != 0 and re.search("refused at byte|not complete", bad.stderr)


def test_samples_fit(tmp_path):
    run = grammar(tmp_path, "code.regex", "--sample", "5", "--seed", "3")
    assert len(run.stdout.split()) == 5
    assert all(re.fullmatch("[A-Z]{2}[0-9]{3}", line) for line in run.stdout.split())


def test_what_cannot_be_expressed_is_an_error_or_explained(tmp_path):
    strict = grammar(tmp_path, "ahead.json")
    assert strict.returncode != 0 and "properties.tag.pattern: lookahead" in strict.stderr
    wide = grammar(tmp_path, "ahead.json", "--explain")
    assert wide.returncode == 0 and re.search(r"properties\.tag\.pattern: lookahead .*; widened", wide.stdout)


def test_help_names_the_kinds_of_files(tmp_path):
    text = subprocess.run([PROGRAM, "grammar", "--help"], capture_output=True, text=True, timeout=60 * SLOW).stdout
    assert all(word in text for word in ("FILE.json", "FILE.gbnf", "FILE.regex", "--check", "--sample", "--explain"))
