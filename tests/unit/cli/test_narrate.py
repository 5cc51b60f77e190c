"""What is said about a run: nothing on a quiet success, one line when something was lost, all of it with -v."""

import os
from types import SimpleNamespace
from typing import Any

import pytest

from capsula import engine
from capsula.cli import narrate as module
from capsula.cli.narrate import buried_line, duration, narrate, size
from capsula.core.capsule import Origin
from capsula.core.compare import Difference
from capsula.core.digest import digest_of
from capsula.core.node import DIRECTORY, FILE, LINK, Node
from capsula.errors import CapsulaError

KEY = digest_of(b"key")
A = digest_of(b"a")


def said(
    settings: "dict[str, Any] | None" = None, policy: "dict[str, Any] | None" = None, **changes: Any
) -> list[str]:
    """The lines about a report with these changes."""
    asked = {
        "verbose": False,
        "explain": False,
        "dry_run": False,
        "honeycomb_dataset": None,
        "honeycomb_token": None,
    }
    report = engine.Report()
    report.outcome, report.key, report.why = engine.MISS, KEY, "a.c was edited"
    for name, value in changes.items():
        setattr(report, name, value)
    session: Any = SimpleNamespace(
        settings=SimpleNamespace(**{**asked, **(settings or {})}),
        policy=SimpleNamespace(**{"placebo": False, "sampled": False, **(policy or {})}),
    )
    reading, writing = os.pipe()
    saved = os.dup(2)
    os.dup2(writing, 2)
    try:
        narrate(session, "capsule", report)
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(writing)
    with open(reading, "rb") as file:
        text = file.read().decode()
    assert text == "" or text.endswith("\n")
    lines = text.splitlines()
    assert all(line.startswith("capsule: ") for line in lines)
    return [line.removeprefix("capsule: ") for line in lines]


HIT = {"outcome": engine.HIT, "why": "nothing that it depends on has changed", "seconds": 12.0, "written": 0}
RAN = {"started": True, "stored": True, "seconds": 2.0}
WORDY = [{"verbose": True}, {"explain": True}]


def test_a_quiet_success_says_nothing() -> None:
    assert said(**RAN) == []
    assert said(**HIT) == []
    assert said(**HIT, origin=Origin(run="r")) == []
    assert said(**{**RAN, "stored": False}, not_stored="the command failed (exit code 1)", exit_code=1) == []
    assert said(**{**RAN, "stored": False}, not_stored="the command could not be started") == []


def test_what_was_not_cached_is_one_line_with_its_reason() -> None:
    problem = CapsulaError("no input matches 'x'", hint="correct it")
    assert said(outcome=engine.UNCACHED, problem=problem) == ["not cached: no input matches 'x' (correct it)"]
    assert said(outcome=engine.UNCACHED, problem=CapsulaError("broken")) == ["not cached: broken"]
    assert said(**RAN, not_stored="the declared output 'dist' was not made") == [
        "the result is not cached: the declared output 'dist' was not made"
    ]


def test_the_job_that_made_a_hit_is_named() -> None:
    assert said(**HIT, origin=Origin(job="night\x1b[31mly")) == ["hit, made by job night\\x1b[31mly"]


@pytest.mark.parametrize("settings", WORDY)
def test_a_hit_in_many_words(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.time, "localtime", module.time.gmtime)
    origin = Origin(run="r1", host="box", job="j", started_ns=1_700_000_000_000_000_000, verdict="same")
    lines = said(settings, **{**HIT, "written": 3, "removed": 1, "bytes": 2048}, origin=origin)
    assert lines == [
        f"hit {KEY.hash[:12]}: nothing that it depends on has changed, saves 12.0 s",
        "restored 3 outputs (2.0 KiB), removed 1",
        "made by run r1 on box at 2023-11-14 22:13:20, job j, a placebo found the same",
    ]


@pytest.mark.parametrize("settings", WORDY)
def test_a_miss_in_many_words(settings: dict[str, Any]) -> None:
    differences = tuple([Difference("file", f"{number}", "was edited") for number in range(22)])
    lines = said(settings, **RAN, differences=differences)
    assert lines[0] == "  0 was edited"
    assert lines[20] == "  and 2 more"
    assert lines[-1] == f"ran for 2.0 s, kept as {KEY.hash[:12]}"
    assert said(settings, started=True, not_stored="the command failed (exit code 1)")[-2:] == [
        "ran for 0 ms, not kept",
        "the result is not cached: the command failed (exit code 1)",
    ]


def test_a_dry_run_says_hit_or_miss() -> None:
    dry = {"dry_run": True}
    # The reason names the first three.
    assert said(dry, differences=(Difference("tag", "v1", "was added"),)) == ["would miss: a.c was edited"]
    four = tuple([Difference("tag", f"v{number}", "was added") for number in range(4)])
    assert said(dry, differences=four) == ["would miss: a.c was edited", *[f"  {tag}" for tag in four]]
    assert said(dry, **HIT)[0].startswith(f"would hit {KEY.hash[:12]}")


def test_a_placebo_says_what_it_found() -> None:
    found = {"outcome": engine.PLACEBO, "verdict": "differs", "nodes": {"out": Node(FILE)}}
    assert said(**found) == ["deterministic: the outputs are those of the cached result"]
    rows = tuple([f"row {number}" for number in range(23)])
    lines = said(**found, mismatch=rows, log_mismatch=("stdout differs from byte 1 on",))
    assert lines[0] == "not deterministic: 23 difference(s) from the cached result"
    assert lines[1:3] == ["  row 0", "  row 1"]
    assert lines[-2:] == ["  and 3 more", "  (log) stdout differs from byte 1 on"]
    assert said(policy={"placebo": True}, **RAN) == ["nothing cached to compare with; the result is kept"]
    assert said(policy={"sampled": True}, **RAN) == []


def test_verbose_names_the_hash_of_every_input_and_output() -> None:
    inputs = SimpleNamespace(hashes=lambda: [("a\n", A.hash), ("l", "-> a")], notes=["a word"])
    nodes = {
        "dist": Node(DIRECTORY, mode=0o755),
        "dist/o": Node(FILE, mode=0o644, digest=A),
        "dist/\udcff": Node(LINK, target="o\n"),
    }
    lines = said({"verbose": True}, **RAN, inputs=inputs, inputs_hash="h" * 64, nodes=nodes)
    assert lines[:6] == [
        f"input  {A.hash}  a\\n",
        "input  -> a  l",
        "note: a word",
        "inputs hash " + "h" * 64,
        f"output {A.hash}  dist/o",
        "output -> o\\n  dist/\\xff",
    ]


def test_what_went_to_the_trash_is_always_said() -> None:
    assert said(**HIT, buried=("/w/a",)) == [buried_line(["/w/a"])]
    assert buried_line(["/w/a", "/w/b\n", "/w/c", "/w/d", "/w/e"]) == (
        "moved to the trash, as no run of this capsule made it: /w/a, /w/b\\n, /w/c and 2 more (capsula cache trash)"
    )


def test_a_closed_standard_error_is_no_trouble(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*args: object) -> None:
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(module.posix, "write", closed)
    assert said(**HIT, origin=Origin(job="j")) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (1, "1.0 s"),
        (0.9996, "1.0 s"),
        (59.4, "59.4 s"),
        (59.96, "1 min 0 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (7380, "2 h 3 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 40, "3.0 TiB"),
    ],
)
def test_sizes(count: int, text: str) -> None:
    assert size(count) == text
