"""Text for people: tables, bars, small plots and progress, as wide and as colourful as the place they go to allows."""

from __future__ import annotations

import os
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"
NARROWEST = 40
_EIGHTHS = " ▁▂▃▄▅▆▇█"
_ALL_WE_DRAW = _EIGHTHS + "░│┤└─…"


@dataclass(frozen=True, slots=True)
class Sheet:
    """Where text goes. `width` in columns, None: as wide as it gets; a pipe is plain and nothing is cut for it."""

    width: int | None = None
    colour: bool = False
    unicode: bool = True

    @property
    def is_terminal(self) -> bool:
        return self.width is not None

    def paint(self, text: str, style: str) -> str:
        return f"\033[{style}m{text}\033[0m" if self.colour and style and text else text


@dataclass(frozen=True, slots=True)
class Column:
    """`limit`: what is longer is cut on a terminal. `rest`: gets what the others leave of the width."""

    title: str = ""
    right: bool = False
    limit: int | None = None
    rest: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    style: str = ""


def sheet_for(stream: TextIO, environ: Mapping[str, str]) -> Sheet:
    return Sheet(
        width=_width(stream, environ) if stream.isatty() else None,
        colour=stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb",
        unicode=_can_show(stream, _ALL_WE_DRAW),
    )


def table(columns: Sequence[Column], rows: Sequence[Sequence[Cell | str]], sheet: Sheet) -> Iterator[str]:
    """The lines, each indented by two; without a title line if no column has one."""
    cells = [[_shown(cell, sheet) for cell in row] for row in rows]
    widths = _widths(columns, cells, sheet)
    if any(column.title for column in columns):
        yield _line(columns, [Cell(column.title, DIM) for column in columns], widths, sheet)
    for row in cells:
        yield _line(columns, row, widths, sheet)


def meter(share: float, sheet: Sheet, length: int = 20) -> str:
    """A bar that is filled to this share; only all looks full."""
    full, empty = ("█", "░") if sheet.unicode else ("#", ".")
    filled = length if share >= 1 else min(round(share * length), length - 1)
    return full * filled + sheet.paint(empty * (length - filled), DIM)


def plot(shares: Sequence[float | None], first: str, last: str, sheet: Sheet) -> Iterator[str]:
    """Columns from 0 to 100 %, four lines high; None leaves its place empty, 0 % doesn't. `first` and `last`
    go below."""
    gap = 1 if len(shares) * 2 + 10 <= (sheet.width or 80) else 0
    side, tick, corner, floor = ("│", "┤", "└", "─") if sheet.unicode else ("|", "|", "+", "-")
    levels = [0 if share is None else max(1, round(share * 32)) for share in shares]
    for row, label in ((3, "100 %"), (2, ""), (1, "50 %"), (0, "")):
        bars = (" " * gap).join(_block(level - row * 8, sheet) for level in levels)
        axis = f"  {label:>5} {tick if label else side}"
        yield sheet.paint(axis, DIM) + (" " + sheet.paint(bars.rstrip(), GREEN)).rstrip()
    length = len(levels) * (1 + gap) - gap
    yield sheet.paint(f"  {'0 %':>5} {corner}{floor * (length + 2)}", DIM)
    between = length - columns_of(first) - columns_of(last)
    below = first + " " * between + last if between > 0 else f"{first} - {last}"
    yield sheet.paint(" " * 10 + (below if first != last else first), DIM)


class Progress:
    """One line on stderr for work that takes over a second, and only on a terminal. A total of 0 isn't known."""

    def __init__(
        self, doing: str, total: int, stream: TextIO, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._doing = doing
        self._total = total
        self._stream = stream if stream.isatty() else None
        self._clock = clock
        self._next = clock() + 1.0
        self._done = 0
        self._shown = False

    def show(self, done: int, total: int) -> None:
        """For who doesn't know beforehand how much there is to do."""
        self._total = total
        self.add(done - self._done)

    def tell(self, doing: str, done: int, total: int) -> None:
        """For work of several parts."""
        self._doing = doing
        self.show(done, total)

    def add(self, count: int) -> None:
        self._done += count
        if self._stream is None or self._clock() < self._next:
            return
        self._next = self._clock() + 0.1
        self._shown = True
        told = percent(min(self._done / self._total, 1.0)) if self._total else str(self._done)
        self._stream.write(f"\r{self._doing}: {told}\033[K")
        self._stream.flush()

    def end(self) -> None:
        if self._stream is not None and self._shown:
            self._stream.write("\r\033[K")
            self._stream.flush()


def percent(share: float) -> str:
    """100 % and 0 % are said only of what is exactly that."""
    if 0 < share < 0.01:
        return "<1 %"
    return ">99 %" if 0.99 < share < 1 else f"{round(share * 100)} %"


def counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def columns_of(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def cut(text: str, width: int, sheet: Sheet) -> str:
    """The text, or as much of it as fits with the sign that something is left out."""
    if columns_of(text) <= width:
        return text
    sign = "…" if sheet.unicode else "..."
    room = width - len(sign)
    kept: list[str] = []
    for character in text:
        room -= _columns(character)
        if room < 0:
            break
        kept.append(character)
    return "".join(kept).rstrip() + sign


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _block(level: int, sheet: Sheet) -> str:
    """One character of a bar that reaches `level` eighths into its line."""
    if sheet.unicode:
        return _EIGHTHS[min(max(level, 0), 8)]
    return " " if level <= 0 else "#" if level > 3 else "_"


def _shown(cell: Cell | str, sheet: Sheet) -> Cell:
    """What the encoding can't hold is escaped here, before its width counts."""
    cell = cell if isinstance(cell, Cell) else Cell(cell)
    return cell if sheet.unicode else Cell(cell.text.encode("ascii", "backslashreplace").decode(), cell.style)


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], sheet: Sheet) -> list[int]:
    widths = []
    for place, column in enumerate(columns):
        width = max([columns_of(column.title), *(columns_of(row[place].text) for row in rows)])
        if sheet.is_terminal and column.limit is not None:
            width = min(width, column.limit)
        widths.append(width)
    if sheet.width is not None:
        for place, column in enumerate(columns):
            if column.rest:
                taken = sum(widths) - widths[place] + 2 * len(columns)
                widths[place] = min(widths[place], max(sheet.width - taken, 8))
    return widths


def _line(columns: Sequence[Column], row: Sequence[Cell], widths: Sequence[int], sheet: Sheet) -> str:
    parts = []
    for column, cell, width in zip(columns, row, widths, strict=True):
        # A cell may hold colours of its own (a meter); then it is the last of its line and never cut.
        text = cell.text if "\033" in cell.text else cut(cell.text, width, sheet)
        blank = " " * (width - columns_of(text))
        shown = sheet.paint(text, cell.style)
        parts.append(blank + shown if column.right else shown + blank)
    return ("  " + "  ".join(parts)).rstrip()


def _width(stream: TextIO, environ: Mapping[str, str]) -> int:
    asked = environ.get("COLUMNS", "")
    if asked.isascii() and asked.isdigit() and int(asked[:6]) > 0:
        return max(int(asked[:6]), NARROWEST)
    try:
        width = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        width = 0
    return max(width, NARROWEST) if width else 80


def _can_show(stream: TextIO, text: str) -> bool:
    try:
        text.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
