"""Looking at the context: each probe in a thread of its own, so that one that hangs doesn't hang the run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from capsula.errors import CapsulaError

if TYPE_CHECKING:
    from capsula.core.found import Found
    from capsula.ports import Probe


@dataclass(frozen=True, slots=True)
class Asked:
    """A probe, and how it is looked through: `limit` in seconds (0: none); `required`, when the user wants no run
    without it."""

    probe: Probe
    limit: float = 60.0
    required: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """What came of one probe: `found`, or None and why."""

    asked: Asked
    found: Found | None
    failure: str
    seconds: float

    @property
    def name(self) -> str:
        return self.asked.probe.name


def look(probes: Iterable[Asked]) -> list[Look]:
    """One after the other: what one runs (a command of the user's) may be what the next one looks at."""
    return [_look(asked) for asked in probes]


def _look(asked: Asked) -> Look:
    results: list[Found] = []
    failures: list[str] = []

    def read() -> None:
        try:
            results.append(asked.probe.read())
        except BaseException as error:  # whatever a plugin raises, SystemExit too, ends with it
            failures.append(told(error))

    began = time.monotonic()
    # A daemon: one that never comes back doesn't keep the program from ending either.
    thread = threading.Thread(target=read, name=f"capsula {asked.probe.name}", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # no thread is to be had: then without a limit
        read()
    else:
        thread.join(asked.limit or None)
    seconds = time.monotonic() - began
    if results:
        return Look(asked, results[0], "", seconds)
    late = f"it took more than {asked.limit:g} s, so it wasn't waited for"
    return Look(asked, None, failures[0] if failures else late, seconds)


def told(error: BaseException) -> str:
    """An error for people; of our own, only what they say."""
    if isinstance(error, CapsulaError):
        return error.what
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return f"{type(error).__name__}: {error}"
