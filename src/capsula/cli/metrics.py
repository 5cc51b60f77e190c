"""The metrics of a capsule, as `capsula show` tells of them: the last value, the range, and a small course."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from capsula.cli.render import BOLD, CYAN, DIM, Cell, Column, Sheet, counted, cut, table
from capsula.core.names import printable
from capsula.engine import columns
from capsula.engine.live import ENDED, FOLDER
from capsula.vault.layout import VaultError
from capsula.vault.record import Capsule

MOST = 40
COLUMNS = 24
_LEVELS, _PLAIN_LEVELS = "▁▂▃▄▅▆▇█", "_.-=*#"
_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def section(capsule: Capsule, sheet: Sheet) -> Iterator[str]:
    """Nothing for a capsule without any. Of a run that lives still, or was killed, what it has said so far."""
    found = read(capsule)
    if not found:
        return
    yield "\n" + sheet.paint("Metrics", BOLD)
    rows = [_row(name, metric, sheet) for name, metric in list(found.items())[:MOST]]
    titles = [Column("name", limit=30), Column("last", right=True), Column("least", right=True)]
    titles += [Column("most", right=True), Column("", right=True), Column()]
    yield from table(titles, rows, sheet)
    if len(found) > MOST:
        yield sheet.paint(f"  and {len(found) - MOST} more: --file metrics.json", DIM)


def read(capsule: Capsule) -> Mapping[str, Mapping[str, Sequence[Any]]]:
    """name -> step, value, time. VaultError when the file is damaged."""
    told = capsule.json(columns.METRICS)
    if told:
        wrong = [name for name, metric in told.items() if not _is_metric(metric)]
        if wrong:
            raise VaultError(f"can't read {printable(capsule.path)}/{columns.METRICS}: it holds no columns")
        return told
    for folder in (FOLDER, ENDED):
        try:
            said = columns.read(os.path.join(capsule.path, folder))
        except OSError:
            continue
        return {
            name: {"step": metric.step.values, "value": metric.value.values, "time": metric.time.values}
            for name, metric in said.metrics.items()
        }
    return {}


def course(values: Sequence[float], sheet: Sheet, width: int = COLUMNS) -> str:
    """The values in a line of `width` characters at most: each is the mean of its share of them."""
    finite = [value for value in values if math.isfinite(value)]
    if len(finite) < 2:
        return ""
    count = min(width, len(finite))
    edges = [at * len(finite) // count for at in range(count + 1)]
    means = [
        math.fsum(value / (end - start) for value in finite[start:end]) for start, end in pairwise(edges)
    ]
    levels = _LEVELS if sheet.unicode else _PLAIN_LEVELS
    least, most = min(means), max(means)
    span = most / 2 - least / 2  # halves: the span of two finite numbers may be none
    if span == 0:
        return levels[0] * count
    top = len(levels) - 1
    return "".join(levels[min(top, round((mean / 2 - least / 2) / span * top))] for mean in means)


def _row(name: str, metric: Mapping[str, Sequence[Any]], sheet: Sheet) -> list[Cell | str]:
    values = metric["value"]
    numbers = [number for value in values if (number := _number(value)) is not None]
    ordered = [number for number in numbers if not math.isnan(number)]
    steps = [step for step in metric["step"] if isinstance(step, int | float)]
    return [
        Cell(printable(name)),
        _told(values[-1], sheet),
        _told(min(ordered), sheet) if len(ordered) > 1 else "",
        _told(max(ordered), sheet) if len(ordered) > 1 else "",
        Cell(_count(len(values), steps), DIM),
        Cell(course(numbers, sheet), CYAN),
    ]


def _count(count: int, steps: Sequence[float]) -> str:
    if count < 2:
        return f"step {_short(steps[0])}" if steps else ""
    if not steps:
        return counted(count, "value")
    return f"{counted(count, 'value')}, step {_short(min(steps))} to {_short(max(steps))}"


def _told(value: Any, sheet: Sheet) -> str:
    number = _number(value)
    if number is not None:
        return _short(number)
    if isinstance(value, dict):
        value = value.get("repr") or value.get("type") or "{…}"
    return cut(printable(str(value)), 20, sheet)


def _short(number: float) -> str:
    if isinstance(number, int) or (number.is_integer() and abs(number) < 1e15):
        return str(int(number))
    return f"{number:.6g}"


def _number(value: Any) -> float | None:
    if isinstance(value, str):
        return _WORDS.get(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) or isinstance(value, float) else None
    except OverflowError:  # a whole number that no float holds
        return None


def _is_metric(metric: Any) -> bool:
    if not isinstance(metric, dict):
        return False
    found = [metric.get(name) for name in ("step", "value", "time")]
    return all(isinstance(each, list) for each in found) and len({len(each or ()) for each in found}) == 1
