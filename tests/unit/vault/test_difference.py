"""What differs between two recorded runs, from values."""

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from capsula.vault.difference import Difference, Run, Section, compare

PATCH = b"""diff --git a/train.py b/train.py
--- a/train.py
+++ b/train.py
@@ -1 +1,2 @@
-one
+two
+three
"""

FACTS: dict[str, Any] = {
    "record": {
        "kind": "monitor",
        "status": "finished",
        "id": "1",
        "started": "then",
        "seconds": 1.0,
        "peak_memory": 100_000_000,
        "metrics": {"loss": 0.5, "bad": float("nan")},
        "files": [{"name": "kept.txt", "sha256": "aa"}, {"name": "stdout.txt", "sha256": "bb"}],
    },
    "context": {
        "root_directory": "/p",
        "cwd": "/p/sub",
        "timestamp": "then",
        "platform": {"machine": "x86_64"},
        "host": {"memory_bytes": 1},
        "cpu": {"brand_raw": "A", "hz_actual": [1, 0]},
        "environment_variables": {"LANG": "C"},
        "environment": {"others": {"FOO": "1", "PWD": "/p", "KEY": {"masked": "12"}}},
        "git": {"p": {"sha": "abc", "branch": "main", "snapshot": {"patch": "p.diff"}}},
        "files": {"data.csv": {"hash_algorithm": "sha256", "file_hash": "11"}},
        "python": {
            "version": "3.11",
            "executable": "/a/python",
            "numeric": {},
            "distributions": [{"name": "x"}],
        },
        "commands": {"gcc": {"output": "12"}},
        "from a plugin": {"depth": {"s": [1, 2]}},
    },
    "before": {
        "root_directory": "/p",
        "cwd": "/p/sub",
        "args": ["python", "train.py", "--lr", "0.1"],
        "inputs": {"in.txt": {"file_hash": "22"}},
    },
    "after": {
        "exit_code": 0,
        "files": {"out.txt": {"file_hash": "33"}},
        "return_value": None,
        "exception_info": None,
    },
    "packages": {"numpy": "1.26", "rich": "13"},
}


def run(facts: dict[str, Any], logs: dict[str, bytes] | None = None, patch: bytes = PATCH) -> Run:
    def lines(name: str) -> Iterator[bytes]:
        yield from (logs or {"stdout": b"one\ntwo\n"}).get(name, b"").splitlines(keepends=True)

    return Run(**copy.deepcopy(facts), lines=lines, content=lambda name: patch if name == "p.diff" else b"")


def changed(*path: str, to: Any) -> dict[str, Any]:
    facts = copy.deepcopy(FACTS)
    place = facts
    for key in path[:-1]:
        place = place[key]
    if to is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return facts


def only(sections: tuple[Section, ...]) -> tuple[str, list[Difference]]:
    assert len(sections) == 1, sections
    return sections[0].name, list(sections[0].differences)


def test_a_run_does_not_differ_from_itself() -> None:
    assert compare(run(FACTS), run(FACTS)) == ()


@pytest.mark.parametrize(
    ("path", "to"),
    [
        (("record", "id"), "2"),
        (("record", "started"), "now"),
        (("record", "seconds"), 1.2),
        (("context", "timestamp"), "now"),
        (("context", "cpu", "hz_actual"), [2, 0]),
        (("context", "environment", "others", "PWD"), "/elsewhere"),
        (("context", "environment", "others", "KEY"), {"masked": "99"}),
        (("record", "peak_memory"), 101_000_000),
    ],
)
def test_what_differs_between_any_two_runs_is_left_out(path: tuple[str, ...], to: Any) -> None:
    assert compare(run(FACTS), run(changed(*path, to=to))) == ()


@pytest.mark.parametrize(
    ("path", "to", "section", "expected"),
    [
        (("record", "status"), "failed", "outcome", Difference("status", "finished", "failed")),
        (("after", "exit_code"), 3, "outcome", Difference("exit_code", 0, 3)),
        (
            ("after", "exception_info"),
            {"exc_type": "ValueError", "exc_value": "no"},
            "outcome",
            Difference("exception", None, "ValueError: no"),
        ),
        (
            ("before", "args"),
            ["python", "train.py", "--lr", "0.2"],
            "command",
            Difference("--lr [3]", "0.1", "0.2"),
        ),
        (
            ("before", "args"),
            ["python"],
            "command",
            Difference("command", "python train.py --lr 0.1", "python"),
        ),
        (("before", "cwd"), "/p", "command", Difference("directory", "sub", ".")),
        (("context", "git", "p", "sha"), "def", "code", Difference("p sha", "abc", "def")),
        (("context", "git", "p"), ..., "code", Difference("p", "abc", None)),
        (
            ("context", "files", "data.csv", "file_hash"),
            "12",
            "inputs",
            Difference("data.csv", "11", "12", "edited"),
        ),
        (
            ("before", "inputs", "in.txt"),
            ...,
            "inputs",
            Difference("in.txt", "22", None, "in the first only"),
        ),
        (("record", "files"), [], "inputs", Difference("kept.txt", "aa", None, "in the first only")),
        (("packages", "numpy"), "2.0", "packages", Difference("numpy", "1.26", "2.0")),
        (("packages", "rich"), ..., "packages", Difference("rich", "13", None)),
        (("context", "python", "version"), "3.12", "python", Difference("version", "3.11", "3.12")),
        (
            ("context", "python", "executable"),
            "/b",
            "python",
            Difference("executable", "/a/python", "/b"),
        ),
        (("context", "environment_variables", "LANG"), "de", "variables", Difference("LANG", "C", "de")),
        (("context", "environment", "others", "FOO"), ..., "variables", Difference("FOO", "1", None)),
        (
            ("context", "environment", "others", "KEY"),
            "plain",
            "variables",
            Difference("KEY", "(hidden)", "plain"),
        ),
        (("context", "commands", "gcc", "output"), "13", "tools", Difference("gcc.output", "12", "13")),
        (
            ("context", "platform", "machine"),
            "arm",
            "machine",
            Difference("platform.machine", "x86_64", "arm"),
        ),
        (
            ("context", "from a plugin", "depth", "s"),
            [1, 3],
            "context",
            Difference("from a plugin.depth.s.1", 2, 3),
        ),
        (("after", "return_value"), [1], "result", Difference("return value.0", None, 1)),
        (("record", "metrics", "loss"), 0.6, "metrics", Difference("loss", 0.5, 0.6, "+20.0%")),
        (
            ("after", "files", "out.txt", "file_hash"),
            "34",
            "outputs",
            Difference("out.txt", "33", "34", "edited"),
        ),
        (("record", "seconds"), 3.0, "cost", Difference("seconds", 1.0, 3.0, "+200.0%")),
    ],
)
def test_each_difference_is_told_in_its_section(
    path: tuple[str, ...], to: Any, section: str, expected: Difference
) -> None:
    name, differences = only(compare(run(FACTS), run(changed(*path, to=to))))
    assert (name, expected) == (section, differences[0] if expected not in differences else expected)


def test_the_cause_comes_before_what_came_of_it() -> None:
    facts = changed("after", "files", to={})
    facts["packages"] = {}
    facts["after"]["exit_code"] = 1
    assert [section.name for section in compare(run(FACTS), run(facts))] == ["outcome", "packages", "outputs"]


def test_uncommitted_changes_are_told_by_file() -> None:
    other = PATCH.replace(b"three", b"four") + PATCH.replace(b"train.py", b"new.py")
    name, found = only(compare(run(FACTS), run(FACTS, patch=other)))
    assert name == "code"
    assert [(each.name, each.how) for each in found] == [
        ("p new.py", "changed in the second only (+2 -1)"),
        ("p train.py", "changed in both, otherwise (+2 -1 / +2 -1)"),
    ]


def test_the_first_line_of_a_log_that_differs_is_told() -> None:
    name, found = only(compare(run(FACTS), run(FACTS, {"stdout": b"one\nthree\n", "stderr": b"x\xff"})))
    assert name == "logs"
    assert found == [
        Difference("stdout, line 2", "two", "three"),
        Difference("stderr, line 1", None, "x\\xff"),
    ]


def test_arguments_of_a_function_are_told_by_name() -> None:
    facts = changed("before", "arguments", to={"n": 1, "opts": {"deep": [1]}})
    other = copy.deepcopy(facts)
    other["before"]["arguments"]["opts"]["deep"] = [2]
    other["before"]["source_sha256"], facts["before"]["source_sha256"] = "aa", "bb"
    command, code = compare(run(facts), run(other))
    assert command.differences == (Difference("opts.deep.0", 1, 2),)
    assert code.differences == (Difference("source of the function", "bb", "aa", "edited"),)
