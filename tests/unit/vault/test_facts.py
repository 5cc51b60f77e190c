"""Facts: what a capsule's files say, by names that people would write."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capsula.vault.facts import flatten, read_contents, sections
from capsula.vault.record import read_capsule

from .conftest import Make


def test_a_list_of_values_is_one_fact_and_things_are_called_by_their_name() -> None:
    value = {
        "items": ["a", "b"],
        "none": [],
        "files": [{"name": "model.pt", "size": 3}, {"name": "log", "size": 4}],
        "turns": [{"at": 1}, {"at": 2}],
        "deep": {"er": {"x": None}},
    }
    assert flatten("", value) == {
        "items": ("a", "b"),
        "none": (),
        "files.model.pt.size": 3,
        "files.log.size": 4,
        "turns.0.at": 1,
        "turns.1.at": 2,
        "deep.er.x": None,
    }


def test_things_of_one_name_are_told_by_their_place() -> None:
    assert flatten("p", [{"name": "a", "v": 1}, {"name": "a", "v": 2}]) == {
        "p.0.name": "a", "p.0.v": 1, "p.1.name": "a", "p.1.v": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    "value", [list(range(2000)), [[0]] * 10_000, "x" * 1_000_000, {str(n): n for n in range(100_000)}]
)
def test_what_has_no_end_is_cut(value: Any) -> None:
    assert len(json.dumps(flatten("p", {"a": value}))) < 600_000


def test_what_is_nested_without_end_is_read_all_the_same() -> None:
    deep: Any = 1
    for _ in range(50_000):
        deep = {"a": deep}
    assert list(flatten("", deep).values()) == [1]


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), _json))
def test_any_json_has_facts_that_are_json(value: dict[str, Any]) -> None:
    facts = flatten("context.x", value)
    assert all(name.startswith("context.x.") for name in facts)
    assert json.loads(json.dumps(facts)) == {
        name: list(fact) if isinstance(fact, tuple) else fact for name, fact in facts.items()
    }


def test_the_facts_of_a_capsule_come_from_all_its_files(make: Make) -> None:
    capsule = read_capsule(make(3, log="much", metrics={"loss": 0.5}).path)
    assert capsule is not None
    facts = {}
    for prefix, section in sections(capsule, read_contents(capsule)):
        facts.update(flatten(prefix, section))
    assert facts["command"] == "work 3"
    assert facts["metrics.loss"] == 0.5
    assert facts["context.cwd"] == "/work"
    assert facts["context.git.work.sha"] == f"{3:040x}"
    assert facts["post.max_rss_kb"] == 1003
    assert facts["files.stdout.txt.size"] == 4
    assert "post.stdout" not in facts
