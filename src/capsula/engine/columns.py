"""What a run has said of itself, read back: its metrics as columns, and the files, tags and notes that it named.

A million records of one metric are ordinary: lines are read in pieces, and a column of numbers is an array.
"""

from __future__ import annotations

import json
import math
import os
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from capsula.engine.live import SUFFIX, WORDS

METRICS = "metrics.json"
_PIECE = 1 << 20
_ROWS = 8192
_FLOATS = {word: float(text) for text, word in WORDS.items()}

Row = tuple[str, Any, Any, float]


class Column:
    """Values in the order of time: whole numbers or decimals in an array, anything else in a list."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values: array[Any] | list[Any] = []

    def extend(self, values: list[Any]) -> None:
        kinds = set(map(type, values))
        if kinds == {float}:
            self._extend("d", values)
        elif kinds == {int} and max(values) < 2**63 and min(values) >= -(2**63):
            self._extend("q", values)
        elif kinds:
            self._extend("", values)

    def _extend(self, code: str, values: list[Any]) -> None:
        if isinstance(self.values, array):
            if self.values.typecode != code:
                self.values = self.values.tolist()
        elif not self.values and code:
            self.values = array(code)
        self.values.extend(values)

    def pick(self, order: list[int]) -> None:
        picked = (self.values[at] for at in order)
        self.values = array(self.values.typecode, picked) if isinstance(self.values, array) else [*picked]

    def pieces(self) -> Iterator[str]:
        """The column as JSON."""
        yield "["
        for start in range(0, len(self.values), _ROWS):
            piece = self.values[start : start + _ROWS]
            told = piece.tolist() if isinstance(piece, array) else piece
            text = json.dumps([_word(value) for value in told], separators=(",", ":"))
            yield ("," if start else "") + text[1:-1]
        yield "]"


class Metric:
    """The records of one name."""

    __slots__ = ("step", "time", "value")

    def __init__(self) -> None:
        self.step, self.value, self.time = Column(), Column(), Column()

    def extend(self, rows: list[Row]) -> None:
        _, values, steps, times = zip(*rows, strict=True)
        self.value.extend([_FLOATS.get(v, v) if type(v) is str else v for v in values])
        self.step.extend(list(steps))
        self.time.extend(list(times))

    def sort(self) -> None:
        """By time; what was said at the same time stays in its order."""
        times = self.time.values
        order = sorted(range(len(times)), key=times.__getitem__)
        if any(at != place for place, at in enumerate(order)):
            for column in (self.step, self.value, self.time):
                column.pick(order)

    def last(self) -> Any:
        return _word(self.value.values[-1])

    def extent(self) -> dict[str, Any]:
        """How many records, and between which values the numbers are; without min and max where there are none."""
        found: dict[str, Any] = {"count": len(self.value.values)}
        numbers = [v for v in self.value.values if type(v) in (int, float) and not math.isnan(v)]
        if numbers:
            found |= {"min": _word(min(numbers)), "max": _word(max(numbers))}
        return found


@dataclass(slots=True)
class Said:
    """`metrics` in the order in which their names came up first; `outputs` and `inputs` by full path, the last word on
    each; `unread` counts lines that nobody can read."""

    metrics: dict[str, Metric] = field(default_factory=dict)
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unread: int = 0

    def add_fact(self, fact: dict[str, Any]) -> None:
        for kind, rows in (("output", self.outputs), ("input", self.inputs)):
            if isinstance(path := fact.get(kind), str):
                rows[path] = fact
        if isinstance(tag := fact.get("tag"), str) and tag and tag not in self.tags:
            self.tags.append(tag)
        if isinstance(note := fact.get("note"), str):
            self.notes.append(note)


def read(folder: str) -> Said:
    """What the files in there hold, of whichever process, by time; OSError when they can't be read."""
    said = Said()
    names = sorted(name for name in os.listdir(folder) if name.endswith(SUFFIX))
    for name in names:  # one after the other: there may be more than a process may have open
        rows = _rows(os.path.join(folder, name), said)
        while batch := list(islice(rows, _ROWS)):
            by_name: dict[str, list[Row]] = {}
            for row in batch:
                by_name.setdefault(row[0], []).append(row)
            for title, some in by_name.items():
                said.metrics.setdefault(title, Metric()).extend(some)
    if len(names) > 1:
        for metric in said.metrics.values():
            metric.sort()
        said.metrics = dict(sorted(said.metrics.items(), key=lambda item: item[1].time.values[0]))
    return said


def write_metrics(path: str, metrics: dict[str, Metric]) -> None:
    """metrics.json: {name: {"step": […], "value": […], "time": […]}}."""
    with open(os.path.join(path, METRICS), "x", encoding="ascii") as file:
        file.write("{")
        for number, (name, metric) in enumerate(metrics.items()):
            file.write((",\n" if number else "\n") + json.dumps(name) + ": {")
            for title, column in (("step", metric.step), ("value", metric.value), ("time", metric.time)):
                file.write(("" if title == "step" else ",") + f'\n  "{title}": ')
                file.writelines(column.pieces())
            file.write("\n}")
        file.write("\n}\n")


def _rows(path: str, said: Said) -> Iterator[Row]:
    with open(path, "rb") as file:
        while lines := file.readlines(_PIECE):
            for parsed in _parsed(lines, said):
                if isinstance(parsed, list) and _is_row(parsed):
                    yield tuple(parsed)
                elif isinstance(parsed, dict):
                    said.add_fact(parsed)
                else:
                    said.unread += 1


def _parsed(lines: list[bytes], said: Said) -> Iterable[Any]:
    """All at once, which is three times as fast; one by one where one of them is damaged."""
    whole = [line for line in lines if line != b"\n"]
    if all(line.endswith((b"]\n", b"}\n")) for line in whole):
        try:
            found: list[Any] = json.loads(b"[" + b",".join(whole) + b"]")
        except (ValueError, RecursionError):
            pass
        else:
            if len(found) == len(whole):
                return found
    return _one_by_one(whole, said)


def _one_by_one(lines: list[bytes], said: Said) -> Iterator[Any]:
    for line in lines:
        try:
            yield json.loads(line)
        except (ValueError, RecursionError):
            said.unread += 1


def _is_row(row: list[Any]) -> bool:
    return len(row) == 4 and isinstance(row[0], str) and isinstance(row[3], float)


def _word(value: Any) -> Any:
    if type(value) is float and not math.isfinite(value):
        return WORDS[repr(value)]
    return value
