"""What a capsule says in words, for a search: command, function, items, names of files, errors, troubles, notes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from capsula.vault.facts import Contents
from capsula.vault.layout import PACKAGES
from capsula.vault.record import Capsule

_LONGEST = 20_000
# Every capsule has files of these names: who searches for `run` doesn't mean them.
_OF_EVERY_CAPSULE = {
    "context.json", "pre-run-info.json", "post-run-info.json", "stdout.txt", "stderr.txt", PACKAGES, "pylock.toml",
    "requirements.txt", "metrics.json", "samples.json",
}  # fmt: skip


def sayings(capsule: Capsule, contents: Contents) -> str:
    """Pairs of where and what, as JSON."""
    said = [[where, _whole(text[:_LONGEST])] for where, text in _sayings(capsule, contents) if text]
    return json.dumps(said, ensure_ascii=False)


def _sayings(capsule: Capsule, contents: Contents) -> Iterator[tuple[str, str]]:
    record = capsule.record
    before, after = contents["pre-run-info.json"] or {}, contents["post-run-info.json"] or {}
    yield "name", capsule.name
    yield "command", _text(record.get("command"))
    for item in capsule.items:
        yield "item", _text(item)
    yield "function", _text(before.get("qualified_name") or before.get("function_name"))
    for name in ("kwargs", "arguments"):
        if before.get(name):
            yield "arguments", json.dumps(before[name], ensure_ascii=False)
            break
    error = after.get("exception_info")
    if isinstance(error, dict):
        yield "error", f"{_text(error.get('exc_type'))}: {_text(error.get('exc_value'))}"
        yield "error", _text(error.get("traceback"))
    for name in ("troubles", "notes"):
        for text in _list(record.get(name)):
            yield name.removesuffix("s"), _text(text)
    for row in _list(record.get("files")):
        if isinstance(row, dict) and row.get("name") not in _OF_EVERY_CAPSULE:
            yield "file", _text(row.get("name"))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    if isinstance(value, list):
        return "".join(_text(each) for each in value)
    return value if isinstance(value, str) else "" if value is None else str(value)


def _whole(text: str) -> str:
    """A column can't hold half a character."""
    return text.encode("utf-8", "backslashreplace").decode()
