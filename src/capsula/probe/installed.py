"""Whether the files of installed distributions are those that were installed: what each RECORD says of size and hash.

To read all files of an environment takes seconds, and a run isn't to be delayed. So sizes are compared every time, and
contents are read for as long as there is time, a bit more with each run; what has been read and was right is remembered
by everything that the file system says of it (size, times, inode), and not read again while that is the same. What
hasn't been read yet is said to be so. Nothing is said to match that wasn't read.

A file that changed a moment ago may change again within the same tick of the clock: of such a one nothing is
remembered. What is remembered can be deleted at any time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capsula.core.names import printable

if TYPE_CHECKING:
    from capsula.core.found import Value
    from capsula.probe.distributions import Distribution

_FORMAT = 1
_FRESH_NS = 2_000_000_000
_CHUNK = 1 << 20
# Of one distribution, so many are named.
_NAMED = 20
_Stat = tuple[int, int, int, int]


class _OutOfTime(Exception):
    """The rest is for another run."""


@dataclass(slots=True)
class Check:
    """Names of distributions: those all of whose files are right, those with files that aren't, those that there was
    no time to read (their sizes are right as far as they were looked at), and those without a RECORD."""

    matching: list[str] = field(default_factory=list)
    differing: dict[str, list[str]] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    without_record: list[str] = field(default_factory=list)

    def told(self) -> dict[str, Value]:
        return {
            "matching": len(self.matching),
            "unread": [*self.unread],
            "without_record": [*self.without_record],
        }


# (name in the RECORD, `algorithm=hash`, size or ""): there are tens of thousands, so they are plain.
_Row = tuple[str, str, str]


@dataclass(slots=True)
class Checker:
    """`memory` is the file in which is kept what was right, "" for none; `seconds` how long it may take."""

    memory: str
    seconds: float
    _known: dict[str, list[Any]] = field(default_factory=dict)
    _until: float = 0.0
    _newest: int = 0

    def check(self, distributions: Iterable[Distribution]) -> Check:
        began = time.monotonic()
        # From before the first look: a file that is changed after it has a time that the look doesn't have.
        self._newest = time.time_ns() - _FRESH_NS
        self._known = _recalled(self.memory)
        before = json.dumps(self._known)
        result = Check()
        later: list[tuple[Distribution, list[_Row], list[_Stat]]] = []
        for each in distributions:
            if time.monotonic() > began + 2 * self.seconds:
                result.unread.append(each.name)
                continue
            record = _recorded(each.place)
            if record is None:
                result.without_record.append(each.name)
                continue
            look, rows = record
            stats, wrong = _looked_at(rows, str(each.place.parent))
            # What a RECORD says counts as well: first in line, as if it were a file of its own.
            stats.insert(0, look)
            if wrong:
                result.differing[each.name] = _named(wrong)
            elif self._is_known(each, stats, len(rows)):
                result.matching.append(each.name)
            else:
                later.append((each, rows, stats))
        self._until = time.monotonic() + self.seconds
        # The small ones first: one that takes longer than there is time would keep all others from being read.
        for each, rows, stats in sorted(later, key=lambda one: sum(look[0] for look in one[2])):
            self._read(each, rows, stats, result)
        if self.memory and json.dumps(self._known) != before:
            _remember(self.memory, self._known)
        return result

    def _is_known(self, each: Distribution, stats: list[_Stat], count: int) -> bool:
        known = self._known.get(str(each.place))
        return known is not None and known[0] == count and known[1] == _digest(stats, count)

    def _read(self, each: Distribution, rows: list[_Row], stats: list[_Stat], result: Check) -> None:
        """From where an earlier run came to, if nothing before that has changed."""
        key = str(each.place)
        known = self._known.pop(key, None)
        start = known[0] if known and known[0] < len(rows) and known[1] == _digest(stats, known[0]) else 0
        wrong: list[str] = []
        at, base = start, str(each.place.parent)
        try:
            for at in range(start, len(rows)):
                if not self._is_right(rows[at], base):
                    wrong.append(f"{printable(rows[at][0])}: other content")
        except _OutOfTime:
            result.unread.append(each.name)
        else:
            at = len(rows)
            if not wrong:
                result.matching.append(each.name)
        if wrong:
            result.differing[each.name] = _named(wrong)
            if each.name in result.unread:
                result.unread.remove(each.name)
            return
        fresh = [max(look[1], look[2]) > self._newest for look in stats[: at + 1]]
        at = fresh.index(True) - 1 if True in fresh else at
        if at > 0:
            self._known[key] = [at, _digest(stats, at)]

    def _is_right(self, row: _Row, base: str) -> bool:
        method, _, expected = row[1].partition("=")
        if time.monotonic() > self._until:
            raise _OutOfTime
        try:
            state = hashlib.new(method)
        except ValueError:  # an algorithm that we don't know proves nothing
            raise _OutOfTime from None
        try:
            with open(os.path.join(base, row[0]), "rb", buffering=0) as file:
                while chunk := file.read(_CHUNK):
                    state.update(chunk)
                    if time.monotonic() > self._until:
                        raise _OutOfTime
        except OSError:
            return False
        return base64.urlsafe_b64encode(state.digest()).rstrip(b"=").decode() == expected.rstrip("=")


def _recorded(place: Path) -> tuple[_Stat, list[_Row]] | None:
    """The look of its RECORD, and the files with a hash in it; None without one. (RECORD itself and compiled files have
    none.)"""
    try:
        with open(place / "RECORD", encoding="utf-8", errors="surrogateescape", newline="") as file:
            look = _stat(os.fstat(file.fileno()))
            text = file.read()
    except OSError:
        return None
    if '"' in text:
        import csv  # only for names with a comma or a quote in them

        lines = list(csv.reader(text.splitlines()))
    else:
        lines = [line.rsplit(",", 2) for line in text.splitlines()]
    return look, [(line[0], line[1], line[2]) for line in lines if len(line) == 3 and "=" in line[1]]


def _looked_at(rows: list[_Row], base: str) -> tuple[list[_Stat], list[str]]:
    stats: list[_Stat] = []
    wrong: list[str] = []
    for name, _, size in rows:
        try:
            look = os.stat(os.path.join(base, name) if name[:1] == "/" else f"{base}/{name}")
        except (OSError, ValueError) as error:
            wrong.append(f"{printable(name)}: {getattr(error, 'strerror', None) or error}")
            continue
        if size and str(look.st_size) != size:
            wrong.append(f"{printable(name)}: {look.st_size} bytes, not {size}")
        stats.append(_stat(look))
    return stats, wrong


def _stat(look: os.stat_result) -> _Stat:
    return look.st_size, look.st_mtime_ns, look.st_ctime_ns, look.st_ino


def _named(wrong: list[str]) -> list[str]:
    rest = len(wrong) - _NAMED
    return [*wrong[:_NAMED], f"and {rest} more"] if rest > 0 else wrong


def _digest(stats: list[_Stat], count: int) -> str:
    """Of the RECORD and so many of its files."""
    return hashlib.sha256(repr(stats[: count + 1]).encode()).hexdigest()


def _recalled(path: str) -> dict[str, list[Any]]:
    """A file that is damaged is no memory. One whose digests are damaged fits nothing."""
    try:
        told = json.loads(Path(path).read_bytes()) if path else {}
        known = told["known"] if told.get("format") == _FORMAT else {}
        return {
            str(key): [int(count), str(digest)] for key, (count, digest) in known.items() if int(count) >= 0
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _remember(path: str, known: dict[str, list[Any]]) -> None:
    """Whole or not at all; that it can't be is no failure."""
    aside = f"{path}.{os.getpid()}-{threading.get_ident()}"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(aside, "w", encoding="utf-8") as file:
            json.dump({"format": _FORMAT, "known": known}, file)
        os.replace(aside, path)
    except (OSError, ValueError):
        return
