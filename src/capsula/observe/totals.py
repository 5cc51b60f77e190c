"""Counters that only grow, made of the journal: what a fleet's monitoring reads.

The journal forgets: above a size its older half goes, and `capsula cache clear --all` removes it. A counter that
falls is taken for one that began anew, and everything in it is counted twice. So what has been counted is kept, with
how far each file of the journal was read; a file is known by its first line, which holds a time, since names and
inodes are used again. Lines that come and go between two looks are never counted, so that the counters are then too
small, but never fall.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256

from capsula.observe.journal import FILES

FOLDER = "totals"
FORMAT = 1
# So many series at most of one name; what comes after them is counted together, so that nothing grows without bound.
MOST = 500
OTHERS = "(others)"
_KEPT_FILES = 6
_LONGEST_LINE = 1 << 20

Labels = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Counter:
    """`labels` are the names of its labels; `unit` is "", "seconds" or "bytes"."""

    name: str
    about: str
    labels: Labels = ()
    unit: str = ""


COUNTERS = (
    Counter(
        "runs", "Invocations of capsule and placebo, and recorded runs with a cache.", ("capsule", "outcome")
    ),
    Counter(
        "hits", "Hits, by whether the result was on this machine or came from a remote store.", ("tier",)
    ),
    Counter("misses", "Misses, by the kind of what had changed.", ("reason",)),
    Counter("uncached", "Runs that something kept from looking or from keeping.", ("reason",)),
    Counter("placebos", "Placebos, by what the comparison found.", ("verdict",)),
    Counter("not_stored", "Runs whose result was not kept."),
    Counter("saved", "How long the runs took whose results were hits.", ("capsule",), "seconds"),
    Counter("run", "How long the commands took that ran.", ("capsule",), "seconds"),
    Counter("restored", "Outputs that hits wrote.", unit="bytes"),
    Counter("stored", "Outputs of results that were kept.", unit="bytes"),
    Counter(
        "remote_errors",
        "Runs that could not look up, fetch or send, also because the remote was left alone after it had failed.",
        ("remote", "operation"),
    ),
)


@dataclass(slots=True)
class Totals:
    """`counts` are by the name of the counter and the values of its labels; `since` and `last` are the times of the
    first and the last run that is counted, in seconds since 1970, 0: none was. `read` is how far each file was read."""

    counts: dict[str, dict[Labels, float]] = field(
        default_factory=lambda: {counter.name: {} for counter in COUNTERS}
    )
    since: float = 0.0
    last: float = 0.0
    read: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, labels: Labels, amount: float) -> None:
        counts = self.counts[name]
        if labels not in counts and len(counts) >= MOST:
            labels = (OTHERS,) * len(labels)
        counts[labels] = counts.get(labels, 0) + max(amount, 0)

    def see(self, row: Mapping[str, object]) -> None:
        """Count a line of the journal."""
        if "trouble" in row:
            self.add("remote_errors", (_text(row, "remote"), _text(row, "trouble")), 1)
            return
        outcome, capsule = _text(row, "outcome"), _text(row, "id")
        moment, seconds, size = (_number(row, name) for name in ("time", "seconds", "bytes"))
        if outcome not in ("hit", "miss", "placebo", "uncached"):
            return
        self.since = min(self.since or moment, moment)
        self.last = max(self.last, moment)
        self.add("runs", (capsule, outcome), 1)
        self.add("saved" if outcome == "hit" else "run", (capsule,), seconds)
        if outcome == "hit":
            self.add("hits", ("remote" if _text(row, "remote") else "local",), 1)
            self.add("restored", (), size)
            return
        self.add("stored", (), size if row.get("stored") is True else 0)
        self.add("not_stored", (), 1 if row.get("not_stored") else 0)
        if outcome == "placebo":
            self.add("placebos", (_text(row, "verdict") or "none",), 1)
        else:
            name = "misses" if outcome == "miss" else "uncached"
            self.add(name, (_text(row, "reason") or "unknown",), 1)

    def to_json(self) -> dict[str, object]:
        counts = {
            name: [[list(labels), value] for labels, value in rows.items()]
            for name, rows in self.counts.items()
        }
        return {"format": FORMAT, "since": self.since, "last": self.last, "read": self.read, "counts": counts}


def count(root: str, *, save: bool = True) -> Totals:
    """Those of the store at `root`, up to now. OSError when what is counted can't be kept; without `save`, it isn't."""
    if not save:
        totals = _load(root)
        _see_all(totals, root)
        return totals
    with _locked(root):
        totals = _load(root)
        _see_all(totals, root)
        _write(root, totals)
    return totals


def _see_all(totals: Totals, root: str) -> None:
    read: dict[str, int] = {}
    for name in FILES:
        try:
            file = open(f"{root}/journal/{name}", "rb")
        except OSError:
            continue
        with file:
            first = file.readline(_LONGEST_LINE)
            if not first.endswith(b"\n"):
                continue
            known = sha256(first).hexdigest()[:32]
            start = totals.read.get(known, 0)
            file.seek(start if start <= os.fstat(file.fileno()).st_size else 0)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # it is being written; the next look finds it whole
                start += len(line)
                _see_line(totals, line)
            read[known] = start
    # One that was renamed while we looked comes back.
    kept = [(known, start) for known, start in totals.read.items() if known not in read]
    totals.read = dict([*kept, *read.items()][-_KEPT_FILES:])


def _see_line(totals: Totals, line: bytes) -> None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return
    if isinstance(row, dict):
        totals.see(row)


def _load(root: str) -> Totals:
    """What was counted up to the last time; nothing, if it can't be read."""
    totals = Totals()
    try:
        with open(f"{root}/{FOLDER}/totals.json", "rb") as file:
            said = json.load(file)
        if said["format"] != FORMAT:
            return Totals()
        for counter in COUNTERS:
            for labels, value in said["counts"].get(counter.name, ()):
                if len(labels) == len(counter.labels):
                    totals.counts[counter.name][tuple(map(str, labels))] = value + 0
        totals.since, totals.last = float(said["since"]), float(said["last"])
        totals.read = {str(known): int(start) for known, start in said["read"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Totals()
    return totals


def _write(root: str, totals: Totals) -> None:
    path = f"{root}/{FOLDER}/totals.json"
    aside = f"{path}.{os.getpid()}"
    try:
        with open(aside, "w", encoding="utf-8") as file:
            json.dump(totals.to_json(), file)
        os.replace(aside, path)
    except BaseException:
        if os.path.lexists(aside):
            os.unlink(aside)
        raise


@contextmanager
def _locked(root: str) -> Iterator[None]:
    """Two who count at once would count the same lines twice."""
    os.makedirs(f"{root}/{FOLDER}", mode=0o700, exist_ok=True)
    fd = os.open(f"{root}/{FOLDER}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _text(row: Mapping[str, object], name: str) -> str:
    value = row.get(name)
    return value if isinstance(value, str) else ""


def _number(row: Mapping[str, object], name: str) -> float:
    value = row.get(name)
    is_one = isinstance(value, (int, float)) and not isinstance(value, bool) and -1e15 < value < 1e15
    return float(value) if is_one and isinstance(value, (int, float)) and math.isfinite(value) else 0.0
