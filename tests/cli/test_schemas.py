"""The schemas of a capsule's files: shipped, sound, and of one mind with docs/format.md.

That every file that is written validates is seen to by the fixture `ws`, after each test.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]
SCHEMAS = sorted((ROOT / "src/capsula/schemas").glob("*.schema.json"))
DOCUMENTED = (ROOT / "docs/format.md").read_text()


def names_in(schema):
    """All property names and words of enums, at any depth."""
    if isinstance(schema, list):
        return set().union(*map(names_in, schema)) if schema else set()
    if not isinstance(schema, dict):
        return set()
    found = set(schema.get("properties", ())) | {str(word) for word in schema.get("enum", ())}
    return found.union(*map(names_in, schema.values()))


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_a_schema_is_one(path):
    Draft202012Validator.check_schema(json.loads(path.read_text()))


def test_the_installed_package_has_them():
    listed = (
        "from importlib.resources import files; folder = files('capsula') / 'schemas'; "
        "print(*sorted(path.name for path in folder.iterdir()))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", listed], capture_output=True, text=True)
    assert done.stdout.split() == [path.name for path in SCHEMAS], done


@pytest.mark.parametrize("path", SCHEMAS, ids=lambda path: path.name)
def test_every_field_is_documented_and_every_documented_field_is_one(path):
    name = path.name.replace(".schema", "")
    row = next(line for line in DOCUMENTED.splitlines() if line.startswith(f"| [`{name}`]"))
    schema = json.loads(path.read_text())
    told = set(re.findall(r"`([^`]+)`", row.split("|", 2)[2]))
    assert told <= names_in(schema)
    assert set(schema["properties"]) <= told


def test_a_strange_field_is_refused():
    """The check that all tests go by can fail."""
    schema = json.loads((ROOT / "src/capsula/schemas/post-run-info.schema.json").read_text())
    record = {
        "root_directory": "/", "timestamp": "2023-07-12T22:21:04.011644+09:00", "run_time": "PT2.223863S",
        "files": {}, "notes": [], "troubles": [], "return_value": 3.14, "exception_info": None,
    }  # fmt: skip
    check = Draft202012Validator(schema)
    assert check.is_valid(record)
    for wrong in (
        {"strange": 1},
        {"run_time": "2 s"},
        {"timestamp": "2023-07-12 22:21:04"},
        {"exit_code": 0},
    ):
        assert not check.is_valid({**record, **wrong}), wrong
