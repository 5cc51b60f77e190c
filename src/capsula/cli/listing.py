"""`capsula list`: the capsules in the vault that a question is about, in a table or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from capsula.cli.finding import Filters, opened, say_unknown
from capsula.cli.narrate import duration
from capsula.cli.render import DIM, Cell, Column, Sheet, table
from capsula.cli.vault import moment_of
from capsula.core.names import printable
from capsula.vault.flat import Scalar
from capsula.vault.index import Found, Index
from capsula.vault.query import named, values_of
from capsula.vault.record import DAMAGED

# What isn't a fact in the files of a capsule: where it lies.
_PLACES = {"capsule": lambda found: found.name, "path": lambda found: found.path}


@dataclass(frozen=True, slots=True)
class Wanted:
    """`most` 0: all. `columns` are names of facts, none: the usual ones. `order` is a name, too; "": newest first."""

    most: int
    filters: Filters
    columns: tuple[str, ...] = ()
    order: str = ""
    reverse: bool = False

    @property
    def names(self) -> frozenset[str]:
        """Those of facts, beside the ones in conditions."""
        return frozenset({*self.columns, *([self.order] if self.order else [])} - _PLACES.keys())


def list_capsules(directory: str | None, sheet: Sheet, wanted: Wanted, *, as_json: bool) -> int:
    condition = wanted.filters.condition()
    is_newest_first = not wanted.order and not wanted.reverse
    with opened(directory) as index:
        found = index.find(condition, wanted.names, wanted.most if is_newest_first else 0)
        say_unknown(index, wanted.filters.asked() | wanted.names)
        if not is_newest_first:
            found = _in_order(found, wanted.order, is_reverse=wanted.reverse)
        found = found[: wanted.most] if wanted.most else found
        if as_json:
            for each in found:
                print(json.dumps(_as_json(index, each, wanted.columns)))
            return 0
        if not found:
            print(f"There is no such capsule in {printable(index.root)}.", file=sys.stderr)
            return 0
        for line in _chosen(found, wanted.columns, sheet) if wanted.columns else _usual(index, found, sheet):
            print(line)
    return 0


def facts_of(found: Found, name: str) -> tuple[Scalar, ...]:
    """The values that a name means here, each once, as they come."""
    if name in _PLACES:
        return (_PLACES[name](found),)
    values = [value for each in named(found.facts, name)[1] for value in values_of(found.facts[each])]
    return tuple({json.dumps(value): value for value in values}.values())


def _as_json(index: Index, found: Found, columns: tuple[str, ...]) -> dict[str, object]:
    if columns:
        values = {name: facts_of(found, name) for name in columns}
        chosen = {name: each[0] if len(each) == 1 else list(each) or None for name, each in values.items()}
        return {"id": found.id, **chosen}
    said = found.remarks
    ours = {"status": found.status, "tags": said.tags, "note": said.note, "path": found.path}
    return {**index.capsule(found).record, **ours}


def _usual(index: Index, found: Sequence[Found], sheet: Sheet) -> Iterable[str]:
    are_tagged = any(each.remarks.tags for each in found)
    are_noted = any(each.remarks.note for each in found)
    # Where tags and notes leave no room for the command, what can be done without goes.
    room = sheet.width or 1000
    limit = 24 if room >= 140 else 14 if room >= 100 else 8
    has_kind = room >= 140 or not (are_tagged or are_noted)
    has_time = room >= 100 or not (are_tagged or are_noted)
    columns = [
        Column("capsule"),
        Column("started"),
        *([Column("kind")] if has_kind else []),
        Column("status"),
        *([Column("time", right=True)] if has_time else []),
        *([Column("tags", limit=limit)] if are_tagged else []),
        *([Column("note", limit=limit)] if are_noted else []),
        Column("command", rest=True),
    ]
    rows: list[list[Cell | str]] = []
    for each in found:
        record = index.capsule(each).record
        seconds = record.get("seconds")
        time = duration(seconds) if isinstance(seconds, int | float) else ""
        rows.append(
            [
                Cell(printable(each.name)),
                Cell(printable(moment_of(record)), DIM),
                *([printable(str(record.get("kind", "")))] if has_kind else []),
                printable(each.status),
                *([time] if has_time else []),
                *([printable(", ".join(each.remarks.tags))] if are_tagged else []),
                *([printable(each.remarks.note.partition("\n")[0])] if are_noted else []),
                printable(_command(record, each.status)),
            ]
        )
    return table(columns, rows, sheet)


def _command(record: Mapping[str, Any], status: str) -> str:
    """Of one that can't be read, why."""
    troubles = record.get("troubles") if status == DAMAGED else None
    return str(record.get("command") or (troubles[0] if isinstance(troubles, list) and troubles else ""))


def _chosen(found: Sequence[Found], names: tuple[str, ...], sheet: Sheet) -> Iterable[str]:
    rows = [[facts_of(each, name) for name in names] for each in found]
    are_numbers = [
        all(isinstance(value, int | float) for row in rows for value in row[at]) for at in range(len(names))
    ]
    columns = [
        Column(printable(name), right=is_right, limit=max(20, (sheet.width or 80) // len(names)))
        for name, is_right in zip(names, are_numbers, strict=True)
    ]
    return table(columns, [[", ".join(map(_shown, values)) for values in row] for row in rows], sheet)


def _shown(value: Scalar) -> str:
    if isinstance(value, bool) or value is None:
        return "" if value is None else str(value).lower()
    return printable(value) if isinstance(value, str) else repr(value)


def _in_order(found: list[Found], name: str, *, is_reverse: bool) -> list[Found]:
    """Smallest first; numbers before words, and last those that have no such fact, whichever way round."""
    if not name:
        return found[::-1]
    numbers, words, others = [], [], []
    for each in found:
        value = next(iter(facts_of(each, name)), None)
        if isinstance(value, str):
            words.append((value, each))
        elif isinstance(value, int | float) and value == value:
            numbers.append((value, each))
        else:
            others.append(each)
    numbers.sort(key=lambda pair: pair[0], reverse=is_reverse)
    words.sort(key=lambda pair: pair[0], reverse=is_reverse)
    return [each for _, each in numbers] + [each for _, each in words] + others
