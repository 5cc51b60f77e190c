"""What a command used over time, in columns that never get long: the longer the run, the wider apart the rows.

Counts (`cpu`, `read`, `written`) are those from the start up to the row; sizes (`rss`, `processes`, `threads`) the
largest since the row before. So what is between two rows is right, however many of the samples became one row.
"""

from __future__ import annotations

from dataclasses import dataclass

# A week is some hundred kilobytes with that.
MOST_ROWS = 2000


@dataclass(frozen=True, slots=True)
class Row:
    seconds: float
    cpu: float
    rss: int
    processes: int
    threads: int
    read: int
    written: int

    def then(self, later: Row) -> Row:
        """Both as one."""
        return Row(
            later.seconds,
            later.cpu,
            max(self.rss, later.rss),
            max(self.processes, later.processes),
            max(self.threads, later.threads),
            later.read,
            later.written,
        )


class Series:
    def __init__(self, most: int = MOST_ROWS) -> None:
        self._most = most
        self._rows: list[Row] = []
        self._apart = 0.0

    def add(self, row: Row) -> None:
        """Rows come in the order of their times."""
        _append(self._rows, row, self._apart)
        if len(self._rows) > self._most:
            self._apart = max(2 * self._apart, 2 * row.seconds / self._most)
            rows: list[Row] = []
            for each in self._rows:
                _append(rows, each, self._apart)
            self._rows = rows

    @property
    def rows(self) -> tuple[Row, ...]:
        return tuple(self._rows)

    def columns(self) -> dict[str, list[float] | list[int]]:
        rows = self._rows
        return {
            "seconds": [round(row.seconds, 3) for row in rows],
            "cpu": [round(row.cpu, 2) for row in rows],
            "rss": [row.rss for row in rows],
            "processes": [row.processes for row in rows],
            "threads": [row.threads for row in rows],
            "read": [row.read for row in rows],
            "written": [row.written for row in rows],
        }


def _append(rows: list[Row], row: Row, apart: float) -> None:
    """The last row stays open until it is as far from the one before as rows have to be."""
    if len(rows) >= 2 and rows[-1].seconds - rows[-2].seconds < apart:
        rows[-1] = rows[-1].then(row)
    else:
        rows.append(row)
