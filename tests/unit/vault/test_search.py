"""Searching: what stands anywhere in a capsule is found, with its line."""

from pathlib import Path

import pytest

from capsula.vault import remarks, search
from capsula.vault.index import Index
from capsula.vault.search import Hit, Needle, hits_in, in_log
from capsula.vault.vault import Vault

from .conftest import WHEN, Make


def hits(vault: Vault, text: str) -> list[Hit]:
    with Index(vault.root) as index:
        index.refresh()
        (found,) = index.find()
        return hits_in(found, index.texts()[found.key], Needle(text), 3)


@pytest.mark.parametrize("text", ["ÜBER", "über", "Über der"])
def test_whatever_the_case(vault: Vault, make: Make, text: str) -> None:
    make(0, command="work", log="one\nweit über der See\n")
    assert hits(vault, text) == [Hit("stdout.txt", 2, "weit über der See")]


def test_all_that_a_capsule_says_is_searched(vault: Vault, make: Make) -> None:
    draft = make(
        0, command="find-me a", items=["find-me-item"], troubles=["can't find-me"], notes=["find-me note"]
    )
    remarks.change(
        vault.root, draft.id, lambda old: remarks.Remarks(("find-me-tag",), "first\nfind-me in a note")
    )
    assert hits(vault, "find-me") == [
        Hit("tag", None, "find-me-tag"),
        Hit("note", 2, "find-me in a note"),
        Hit("command", None, "find-me a"),
        Hit("item", None, "find-me-item"),
        Hit("trouble", None, "can't find-me"),
        Hit("note", None, "find-me note"),
    ]
    assert hits(vault, "context.json") == []
    assert hits(vault, "nowhere") == []


def test_errors_and_arguments_of_a_function_are_searched(vault: Vault) -> None:
    draft = vault.begin("run", WHEN, "function")
    draft.write_json("pre-run-info.json", {"qualified_name": "simulate", "kwargs": {"speed": "warp nine"}})
    draft.write_json(
        "post-run-info.json",
        {
            "exception_info": {
                "exc_type": "ValueError",
                "exc_value": "too fast",
                "traceback": "a\n  warp core\n",
            }
        },
    )
    draft.seal("failed", {})
    assert hits(vault, "SIMULATE") == [Hit("function", None, "simulate")]
    assert hits(vault, "too fast") == [Hit("error", None, "ValueError: too fast")]
    assert [(hit.where, hit.line) for hit in hits(vault, "warp")] == [("arguments", None), ("error", 2)]


def test_names_of_files_are_searched(vault: Vault, make: Make) -> None:
    draft = vault.begin("run", WHEN, "monitor")
    draft.write("figures/Plot.png", b"x")
    draft.seal("finished", {})
    assert hits(vault, "plot") == [Hit("file", None, "figures/Plot.png")]


@pytest.mark.parametrize("text", ['say "hi"', "back\\slash", "tab\there", "ß", "\U0001f600"])
def test_what_json_writes_otherwise_is_found(vault: Vault, make: Make, text: str) -> None:
    make(0, command=f"echo {text} there")
    assert [hit.where for hit in hits(vault, text)] == ["command"]


def test_lines_are_counted_over_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "_PIECE", 50)
    log = tmp_path / "log"
    log.write_bytes(
        b"".join(b"line %d is here\n" % number for number in range(1, 500)) + b"x" * 200 + b" end\nlast"
    )
    assert in_log(str(log), "log", Needle("LINE 123 "), 3) == [Hit("log", 123, "line 123 is here")]
    assert [hit.line for hit in in_log(str(log), "log", Needle("line"), 3)] == [1, 2, 3]
    assert in_log(str(log), "log", Needle("last"), 3) == [Hit("log", 501, "last")]


def test_of_a_very_long_line_what_is_around_is_shown(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"a" * 100_000 + b" needle " + b"b" * 100_000 + b"\xff\n")
    (hit,) = in_log(str(log), "log", Needle("Needle"), 3)
    assert len(hit.text) == 500
    assert " needle " in hit.text


def test_a_log_that_can_t_be_read_has_nothing(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe")
    for name in ("nowhere", "pipe", "."):
        assert in_log(str(tmp_path / name), "log", Needle("x"), 3) == []
