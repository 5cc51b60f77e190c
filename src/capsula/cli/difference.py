"""`capsula diff`: what differs between two recorded runs."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from typing import Any

from capsula.cli.finding import find_capsules
from capsula.cli.narrate import duration
from capsula.cli.render import BOLD, DIM, GREEN, RED, Cell, Column, Sheet, table
from capsula.core.names import printable
from capsula.vault.difference import Difference, Run, Section, compare
from capsula.vault.record import Capsule

DIFFERENT = 1
# A unified diff of more lines takes its time, and nobody reads it.
_LONGEST_LOG = 5_000
_CUT = 300


def diff(
    directory: str | None,
    asked: tuple[str, str],
    sheet: Sheet,
    *,
    only: Sequence[str] = (),
    as_json: bool = False,
    logs: bool = False,
    exit_code: bool = False,
) -> int:
    """0, or with `exit_code` 1 when something differs."""
    old, new = find_capsules(directory, asked)
    runs = run_of(old), run_of(new)
    sections = [section for section in compare(*runs) if not only or section.name in only]
    if as_json:
        print(json.dumps(_as_json(old, new, sections), indent=2))
    else:
        for line in _page((old, new), sections, sheet):
            print(line)
        for line in _logs(*runs, sheet) if logs else ():
            print(line)
    return DIFFERENT if sections and exit_code else 0


def run_of(capsule: Capsule) -> Run:
    """VaultError when one of its files can't be read."""
    after = capsule.json("post-run-info.json")
    context = capsule.json("context.json")

    def lines(name: str) -> Iterator[bytes]:
        try:
            with open(os.path.join(capsule.path, f"{name}.txt"), "rb") as file:
                yield from file
        except FileNotFoundError:
            yield from str(after.get(name) or "").encode("utf-8", "surrogateescape").splitlines(keepends=True)

    def content(name: str) -> bytes:
        try:
            with open(os.path.join(capsule.path, os.path.basename(name)), "rb") as file:
                return file.read()
        except FileNotFoundError:
            return b""

    return Run(
        record={**capsule.record, "status": capsule.status},
        context=context,
        before=capsule.json("pre-run-info.json"),
        after=after,
        lines=lines,
        content=content,
        packages=_packages(context),
    )


def _packages(context: Mapping[str, Any]) -> dict[str, str]:
    """name → version, with where it is from when that isn't an index."""
    found = {}
    for row in context.get("python", {}).get("distributions", ()):
        origin = row.get("origin") or {}
        place = str(origin.get("commit") or origin.get("url") or "") if origin.get("kind") != "index" else ""
        found[str(row.get("name"))] = " ".join(part for part in (str(row.get("version")), place) if part)
    return found


def _as_json(old: Capsule, new: Capsule, sections: list[Section]) -> dict[str, Any]:
    return {
        "old": {"id": old.id, "name": old.name, "path": old.path},
        "new": {"id": new.id, "name": new.name, "path": new.path},
        "same": not sections,
        "sections": [asdict(section) for section in sections],
    }


def _page(capsules: tuple[Capsule, Capsule], sections: list[Section], sheet: Sheet) -> Iterator[str]:
    rows = [
        [Cell(side, style), *_head(each)]
        for side, style, each in zip("-+", (RED, GREEN), capsules, strict=True)
    ]
    yield from table([Column(), Column(), Column(), Column(right=True), Column(rest=True)], rows, sheet)
    if not sections:
        yield "\nNothing that is recorded differs but when and where they ran."
        return
    arrow = "→" if sheet.unicode else "->"
    for section in sections:
        yield "\n" + sheet.paint(section.title, BOLD)
        lines = [_row(each, arrow) for each in section.differences]
        half = ((sheet.width or 0) - 30) // 2 if sheet.is_terminal else None
        limit = max(half, 16) if half is not None else None
        columns = [Column(limit=44), Column(limit=limit), Column(), Column(limit=limit), Column(rest=True)]
        yield from table(columns, lines, sheet)


def _head(capsule: Capsule) -> list[Cell]:
    record = capsule.record
    seconds = record.get("seconds")
    return [
        Cell(printable(capsule.name), BOLD),
        Cell(str(record.get("started", "")).replace("T", " ")[:19], DIM),
        Cell(duration(seconds) if isinstance(seconds, int | float) else ""),
        Cell(printable(str(record.get("command") or record.get("kind", "")))),
    ]


def _row(found: Difference, arrow: str) -> list[Cell]:
    is_told = bool(found.how) and not found.how.endswith("%")
    if is_told:
        return [Cell(printable(found.name)), Cell(found.how), Cell(""), Cell(""), Cell("")]
    return [
        Cell(printable(found.name)),
        Cell(_shown(found.old), RED),
        Cell(arrow, DIM),
        Cell(_shown(found.new), GREEN),
        Cell(found.how, DIM),
    ]


def _shown(value: Any) -> str:
    if value is None:
        return "(none)"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = printable(value if isinstance(value, str) else json.dumps(value))
    return text if len(text) <= _CUT else f"{text[:_CUT]}…"


def _logs(old: Run, new: Run, sheet: Sheet) -> Iterator[str]:
    styles = {"+": GREEN, "-": RED, "@": DIM}
    for name in ("stdout", "stderr"):
        texts = [
            [
                line.rstrip(b"\n").decode("utf-8", "backslashreplace")
                for line in islice(run.lines(name), _LONGEST_LOG)
            ]
            for run in (old, new)
        ]
        for line in difflib.unified_diff(texts[0], texts[1], f"- {name}", f"+ {name}", lineterm=""):
            yield sheet.paint(printable(line), styles.get(line[:1], ""))
        if any(len(text) == _LONGEST_LOG for text in texts):
            print(f"capsula: {name}: the first {_LONGEST_LOG} lines were compared", file=sys.stderr)
