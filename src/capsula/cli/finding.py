"""What the verbs that find capsules have in common: the index brought up to date, the filters, and names that nothing
has."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from capsula.cli.render import Progress
from capsula.config.project import find_project
from capsula.config.values import duration as read_duration
from capsula.config.values import nearest
from capsula.core.names import printable
from capsula.errors import UsageError
from capsula.vault.index import OURS, Index
from capsula.vault.lookup import resolve_all
from capsula.vault.query import Both, Condition, Test, named, parse
from capsula.vault.record import Capsule

STATUSES = ("finished", "failed", "interrupted", "running", "crashed", "damaged")


@dataclass(frozen=True, slots=True)
class Filters:
    """Of the names in each of `items`, `statuses` and `tags` one has to be it, if there are any; of `conditions` all
    have to hold; `since` and `until` are times as `moment` reads them."""

    conditions: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    since: str | None = None
    until: str | None = None

    def condition(self) -> Condition | None:
        asked = [parse(text) for text in self.conditions]
        terms = [each.term for each in asked]
        for name, values in (("items", self.items), ("status", self.statuses), ("tags", self.tags)):
            terms += [Test(name, "=", values)] if values else []
        terms += [Test("started", ">=", (self.since,))] if self.since else []
        terms += [Test("started", "<", (self.until,))] if self.until else []
        names = frozenset(term.name for term in terms if isinstance(term, Test))
        return Condition(Both(tuple(terms)), names.union(*(each.names for each in asked))) if terms else None

    def asked(self) -> frozenset[str]:
        """The names that the user wrote."""
        return frozenset().union(*(parse(text).names for text in self.conditions))


def filters_of(options: argparse.Namespace) -> Filters:
    return Filters(
        tuple(options.where),
        tuple(options.item),
        tuple(options.status),
        tuple(options.tag),
        options.since,
        options.until,
    )


def moment(text: str) -> str:
    """A time as ISO 8601 from a date, a date with a time, or how long ago. UsageError."""
    try:
        if not text.isdigit() or len(text) == len("20260131"):
            return datetime.fromisoformat(text).astimezone().isoformat()
    except (ValueError, OverflowError, OSError):
        pass
    try:
        return _iso(time.time() - read_duration(text))
    except (UsageError, OverflowError, OSError):
        raise UsageError(
            f"expected a time like 2h, 7d, 2026-01-31 or 2026-01-31T12:00, not {printable(text)!r}"
        ) from None


@contextmanager
def opened(directory: str | None) -> Iterator[Index]:
    """The index of the project's vault, up to date."""
    with Index(vault_of(directory)) as index:
        with reading("indexing") as progress:
            index.refresh(progress)
        yield index


def vault_of(directory: str | None) -> str:
    return find_project(directory, os.getcwd()).vault


def find_capsule(directory: str | None, asked: str) -> Capsule:
    return find_capsules(directory, [asked])[0]


def find_capsules(directory: str | None, asked: Sequence[str]) -> list[Capsule]:
    with reading("indexing") as progress:
        return resolve_all(vault_of(directory), asked, progress)


@contextmanager
def reading(doing: str) -> Iterator[Callable[[int, int], None]]:
    """Told how many of how many are done, it shows that on a terminal when it takes over a second."""
    progress = Progress(doing, 1, sys.stderr)
    try:
        yield progress.show
    finally:
        progress.end()


def say_unknown(index: Index, asked: Iterable[str]) -> None:
    """One line on stderr for each name that no capsule has a fact of, with the nearest that one has."""
    known: frozenset[str] = frozenset()
    for name in sorted(asked):
        known = known or index.names()
        if known == frozenset(OURS):
            return  # an empty vault has no facts at all
        if named(known, name)[1]:
            continue
        length = name.count(".") + 1
        endings = {".".join(each.split(".")[-length:]): each for each in sorted(known)}
        meant = nearest(name, endings)
        hint = f"; did you mean {printable(meant)}?" if meant else ""
        print(f"capsula: no capsule has {printable(name)}{hint}", file=sys.stderr)


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(max(seconds, 0)).astimezone().isoformat()
