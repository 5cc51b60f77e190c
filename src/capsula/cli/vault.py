"""`capsula show`: one capsule of the vault."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from typing import Any

from capsula.cli import metrics
from capsula.cli.finding import find_capsule
from capsula.cli.narrate import duration, size
from capsula.cli.render import BOLD, DIM, Cell, Column, Sheet, counted, table
from capsula.core.names import printable
from capsula.errors import CapsulaError, UsageError
from capsula.vault import record as records
from capsula.vault import remarks
from capsula.vault.layout import VaultError
from capsula.vault.record import Capsule
from capsula.vault.remarks import Remarks

SHOWN_LINES = 10


def show(directory: str | None, asked: str, sheet: Sheet, *, as_json: bool) -> int:
    capsule = find_capsule(directory, asked)
    if as_json:
        parts = {
            name: _part(capsule, f"{name}.json") for name in ("context", "pre-run-info", "post-run-info")
        }
        said = _remarks(capsule)
        whole = {"path": capsule.path, **capsule.record, "status": capsule.status}
        print(json.dumps({**whole, "tags": said.tags, "note": said.note, **parts}, indent=2))
        return 0
    for line in _page(capsule, sheet):
        print(line)
    return 0


def show_file(directory: str | None, asked: str, name: str) -> int:
    capsule = find_capsule(directory, asked)
    path = os.path.normpath(os.path.join(capsule.path, name))
    if not path.startswith(capsule.path + os.sep) or not os.path.isfile(path):
        names = ", ".join(sorted(os.listdir(capsule.path)))
        raise UsageError(f"{capsule.name} has no file {printable(name)}", hint=f"it has {printable(names)}")
    sys.stdout.flush()
    with open(path, "rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
    return 0


def verify(directory: str | None, asked: str) -> int:
    """0 when every file is as it was sealed, else 1."""
    capsule = find_capsule(directory, asked)
    if "files" not in capsule.record:
        raise CapsulaError(f"{capsule.name} was never sealed: it is {capsule.status}")
    wrong = records.verify(capsule)
    for text in wrong:
        print(f"  {text}")
    if not wrong:
        print(f"{capsule.name}: {counted(len(capsule.record['files']), 'file')}, all as they were sealed.")
    return 1 if wrong else 0


def moment_of(record: Any) -> str:
    return str(record.get("started", "")).replace("T", " ")[:19]


def _page(capsule: Capsule, sheet: Sheet) -> Iterator[str]:
    record, context = capsule.record, _part(capsule, "context.json")
    said = _remarks(capsule)
    after = _part(capsule, "post-run-info.json")
    yield sheet.paint(printable(capsule.name), BOLD)
    facts: list[tuple[str, object]] = [
        ("command", record.get("command")),
        ("items", ", ".join(capsule.items)),
        ("tags", ", ".join(said.tags)),
        ("status", _status(capsule, record)),
        ("cache", _cache(record)),
        ("started", moment_of(record)),
        ("time", duration(record["seconds"]) if "seconds" in record else None),
        ("CPU", duration(record["cpu_seconds"]) if "cpu_seconds" in record else None),
        ("memory", f"{size(record['peak_memory'])} at most" if record.get("peak_memory") else None),
        ("parent", record.get("parent")),
        ("directory", context.get("cwd")),
        *_surroundings(context),
    ]
    rows = [[Cell(name, DIM), Cell(printable(str(value)))] for name, value in facts if value]
    yield from table([Column(), Column()], rows, sheet)
    if said.note:
        yield "\n" + sheet.paint("Note", BOLD)
        yield from (f"  {printable(line)}" for line in said.note.split("\n"))
    yield from metrics.section(capsule, sheet)
    if record.get("files"):
        yield "\n" + sheet.paint("Files", BOLD)
        files = [[Cell(printable(row["name"])), Cell(_size(row))] for row in record["files"]]
        yield from table([Column(), Column(right=True)], files, sheet)
    for title in ("troubles", "notes"):
        if record.get(title):
            yield "\n" + sheet.paint(title.capitalize(), BOLD)
            yield from (f"  {printable(str(text))}" for text in record[title])
    for name in ("stdout", "stderr"):
        lines = str(after.get(name) or "").rstrip("\n").split("\n")
        if lines != [""]:
            yield "\n" + sheet.paint(name, BOLD)
            yield from (f"  {printable(line)}" for line in lines[-SHOWN_LINES:])
    yield sheet.paint(f"\n  all of it: {printable(capsule.path)}", DIM)


def _part(capsule: Capsule, name: str) -> dict[str, Any]:
    """{} for one that can't be read, which is said: all else is shown."""
    try:
        return capsule.json(name)
    except VaultError as error:
        print(f"capsula: {error.what}", file=sys.stderr)
        return {}


def _remarks(capsule: Capsule) -> Remarks:
    try:
        return remarks.of(os.path.dirname(capsule.path), capsule.id, capsule.record)
    except VaultError as error:
        print(f"capsula: {error.what}", file=sys.stderr)
        return remarks.own(capsule.record)


def _size(row: Any) -> str:
    return f"-> {printable(row['link'])}" if "link" in row else str(row.get("size", "directory"))


def _cache(record: Any) -> str:
    """Of a cached action: which run made its result, or why it ran."""
    made_by = record.get("made_by")
    if not made_by:
        return (
            f"{record['outcome']}: {record['why']}" if record.get("why") else str(record.get("outcome") or "")
        )
    capsule = f", capsule {made_by['capsule']}" if made_by["capsule"] else ""
    when = str(made_by["started"]).replace("T", " ")[:19]
    return f"{record['outcome']}: made by run {made_by['run']} on {made_by['host']} at {when}{capsule}"


def _status(capsule: Capsule, record: Any) -> str:
    code = record.get("exit_code")
    return capsule.status + (f", exit code {code}" if code is not None else "")


def _surroundings(context: Any) -> Iterator[tuple[str, object]]:
    yield "host", context.get("platform", {}).get("node")
    yield "system", context.get("platform", {}).get("platform")
    python = context.get("python", {})
    if python:
        count = counted(len(python.get("distributions", ())), "package")
        yield "python", f"{python.get('version', '').split(' ')[0]} with {count}"
    for name, git in context.get("git", {}).items():
        clean = "clean" if git.get("clean") else "with changes"
        sha = str(git["sha"])[:12] if git.get("sha") else "no commit yet"
        yield f"git {printable(name)}", f"{sha} on {git.get('branch') or 'no branch'}, {clean}"
