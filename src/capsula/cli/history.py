"""`capsula history`: what ran, what it cost or saved, and why; and the journal in numbers for `capsula cache stats`."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from capsula.cli.narrate import duration
from capsula.cli.render import CYAN, DIM, GREEN, RED, YELLOW, Cell, Column, Sheet, counted, table
from capsula.cli.target import Target
from capsula.config.values import nearest
from capsula.core.names import printable
from capsula.engine import HIT, MISS, PLACEBO, UNCACHED
from capsula.observe import journal

OUTCOMES = (HIT, MISS, PLACEBO, UNCACHED)
STYLES = {HIT: GREEN, MISS: YELLOW, PLACEBO: CYAN, UNCACHED: RED}
BEGIN = "capsule -i 'src/**' -o dist -- make"

MINUTE, HOUR, DAY, WEEK = 60, 3600, 86400, 7 * 86400
# The width of a column of the plot, and what it is called.
STEPS = (
    (MINUTE, "minute"),
    (5 * MINUTE, "5 minutes"),
    (15 * MINUTE, "15 minutes"),
    (HOUR, "hour"),
    (3 * HOUR, "3 hours"),
    (6 * HOUR, "6 hours"),
    (DAY, "day"),
    (WEEK, "week"),
)
MOST_COLUMNS = 30


@dataclass(frozen=True, slots=True)
class Invocation:
    """One line of the journal. `seconds` is what a hit saved and anything else took; `row` is the line as it is."""

    time: float
    capsule_id: str
    outcome: str
    why: str
    seconds: float
    bytes: int
    exit_code: int
    not_stored: str
    verdict: str
    row: Mapping[str, object]

    @property
    def saved(self) -> float:
        return self.seconds if self.outcome == HIT else 0.0

    @property
    def ran(self) -> float:
        return 0.0 if self.outcome == HIT else self.seconds

    @property
    def reason(self) -> str:
        parts = []
        if self.verdict:
            same = self.verdict == "same"
            parts.append(
                "outputs as in the cached result" if same else "outputs differ from the cached result"
            )
        if self.why:
            parts.append(self.why)
        if self.not_stored and self.not_stored != self.why:
            parts.append(f"not kept: {self.not_stored}")
        return "; ".join(parts)


@dataclass(slots=True)
class Tally:
    """Invocations in numbers."""

    hits: int = 0
    misses: int = 0
    placebos: int = 0
    uncached: int = 0
    seconds_run: float = 0.0
    seconds_saved: float = 0.0
    bytes_restored: int = 0

    @property
    def runs(self) -> int:
        return self.hits + self.misses + self.placebos + self.uncached

    @property
    def hit_rate(self) -> float | None:
        """Of those that looked for a result to use; None if none did."""
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else None

    def add(self, found: Invocation) -> None:
        self.hits += found.outcome == HIT
        self.misses += found.outcome == MISS
        self.placebos += found.outcome == PLACEBO
        self.uncached += found.outcome == UNCACHED
        self.seconds_run += found.ran
        self.seconds_saved += found.saved
        if found.outcome == HIT:
            self.bytes_restored += found.bytes


def invocations(root: str) -> Iterator[Invocation]:
    """What the journal of a store holds, in the order of writing; lines that say something else are left out."""
    for row in journal.read(root):
        found = read_row(row)
        if found is not None:
            yield found


def read_row(row: Mapping[str, object]) -> Invocation | None:
    moment, outcome = _number(row.get("time")), row.get("outcome")
    if moment is None or not isinstance(outcome, str) or outcome not in OUTCOMES:
        return None
    return Invocation(
        time=moment,
        capsule_id=_text(row.get("id")),
        outcome=outcome,
        why=_text(row.get("why")),
        seconds=_number(row.get("seconds")) or 0.0,
        bytes=int(_number(row.get("bytes")) or 0),
        exit_code=int(_number(row.get("exit_code")) or 0),
        not_stored=_text(row.get("not_stored")),
        verdict=_text(row.get("verdict")),
        row=row,
    )


def tally(found: Iterable[Invocation]) -> Tally:
    total = Tally()
    for one in found:
        total.add(one)
    return total


def by_capsule(found: Iterable[Invocation]) -> list[tuple[str, Tally]]:
    """The ids, those that saved most time first."""
    tallies: dict[str, Tally] = {}
    for one in found:
        tallies.setdefault(one.capsule_id, Tally()).add(one)
    return sorted(tallies.items(), key=lambda item: (-item[1].seconds_saved, -item[1].runs, item[0]))


@dataclass(frozen=True, slots=True)
class Course:
    """The hit rate over time: one share for each `step`, None where nothing ran; `first` and `last` are local times."""

    step: str
    shares: tuple[float | None, ...]
    first: str
    last: str


def local_offset(moment: float) -> int:
    return time.localtime(moment).tm_gmtoff


def over_time(
    found: Sequence[Invocation], now: float, offset: Callable[[float], int] = local_offset
) -> Course | None:
    """In the finest steps that fit into a small plot, else the last weeks; None if that is less than two columns."""
    # A clock that was wrong for a while, and ahead, must not leave the rest of the plot empty.
    told = [(one.time + offset(one.time), one) for one in found if 0 < one.time <= now + DAY]
    told = [(moment, one) for moment, one in told if one.outcome in (HIT, MISS)]
    if not told:
        return None
    first, last = min(moment for moment, _ in told), max(moment for moment, _ in told)
    fitting = [row for row in STEPS if last // row[0] - first // row[0] < MOST_COLUMNS]
    step, name = (fitting or STEPS[-1:])[0]
    end = int(last // step)
    start = max(int(first // step), end - MOST_COLUMNS + 1)
    columns = [Tally() for _ in range(start, end + 1)]
    for moment, one in told:
        if moment // step >= start:
            columns[int(moment // step) - start].add(one)
    if len(columns) < 2:
        return None
    same_day = start * step // DAY == end * step // DAY
    return Course(
        name,
        tuple(column.hit_rate for column in columns),
        _label(start * step, step, same_day=same_day),
        _label(end * step, step, same_day=same_day),
    )


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which invocations to show: the last `most` (0: all) of those of these ids and outcomes since then."""

    most: int
    ids: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    since: float | None = None

    def __contains__(self, one: Invocation) -> bool:
        return (
            (not self.ids or one.capsule_id in self.ids)
            and (not self.outcomes or one.outcome in self.outcomes)
            and (self.since is None or one.time >= self.since)
        )


def show_history(target: Target, sheet: Sheet, wanted: Wanted, *, as_json: bool) -> int:
    known = list(invocations(target.root)) if target.exists() else []
    chosen = [one for one in known if one in wanted]
    shown = chosen[-wanted.most :] if wanted.most else chosen
    if as_json:
        for one in shown:
            print(json.dumps(one.row))
        return 0
    if not shown:
        _say_nothing(target, known, wanted)
        return 0
    failed = any(one.exit_code for one in shown)
    now = time.time()
    rows = [_cells(one, now, sheet, with_exit=failed) for one in shown]
    for line in table(_columns(sheet, with_exit=failed), rows, sheet):
        print(line)
    if sheet.is_terminal and len(shown) < len(chosen):
        print(sheet.paint(f"\n  the last {len(shown)} of {len(chosen)}; all of them with -n 0", DIM))
    return 0


def _say_nothing(target: Target, known: Sequence[Invocation], wanted: Wanted) -> None:
    """On stderr, so that a pipe gets rows or nothing."""
    if not known:
        print(f"Nothing has run yet with the store {target.shown}. To begin:\n\n  {BEGIN}", file=sys.stderr)
        return
    text = f"None of the {counted(len(known), 'run')} in the journal is like that."
    ids = {one.capsule_id for one in known}
    for asked in wanted.ids:
        meant = nearest(asked, ids) if asked not in ids else ""
        if meant:
            text += f"\n\nhint: there is a capsule {printable(meant)}"
    print(text, file=sys.stderr)


def _columns(sheet: Sheet, *, with_exit: bool) -> list[Column]:
    columns = [
        Column("when"),
        Column("capsule", limit=max(12, (sheet.width or 80) // 5)),
        Column("outcome"),
        Column("saved/ran", right=True),
    ]
    if with_exit:
        columns.append(Column("exit", right=True))
    return [*columns, Column("why", rest=True)]


def _cells(one: Invocation, now: float, sheet: Sheet, *, with_exit: bool) -> list[Cell]:
    when = _when(one.time, now) if sheet.is_terminal else _stamp(one.time)
    hit = one.outcome == HIT
    cells = [
        Cell(when, DIM),
        Cell(printable(one.capsule_id)),
        Cell(one.outcome, RED if one.verdict == "differs" else STYLES[one.outcome]),
        Cell(duration(one.seconds), STYLES[HIT] if hit else ""),
    ]
    if with_exit:
        cells.append(Cell(str(one.exit_code) if one.exit_code else "", RED))
    return [*cells, Cell(printable(one.reason), DIM if hit else "")]


def _stamp(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def _when(moment: float, now: float) -> str:
    """As short as can be: the time of today, the day of this year, or the date."""
    then, today = time.localtime(moment), time.localtime(now)
    if (then.tm_year, then.tm_yday) == (today.tm_year, today.tm_yday):
        return time.strftime("%H:%M:%S", then)
    return time.strftime("%b %d %H:%M" if then.tm_year == today.tm_year else "%Y-%m-%d", then)


def _label(moment: float, step: int, *, same_day: bool) -> str:
    """`moment` is in local seconds already."""
    told = "%b %d" if step >= DAY else "%H:%M" if same_day else "%b %d %H:%M"
    return time.strftime(told, time.gmtime(moment))


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    # A year beyond what the C library can tell is no time, and no count of anything either.
    if isinstance(value, (int, float)) and -1e15 < value < 1e15 and math.isfinite(value):
        return float(value)
    return None
