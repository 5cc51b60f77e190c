"""`capsula cache stats`, `gc` and `verify` of the stores that machines share."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from capsula.cli.narrate import size
from capsula.cli.render import BOLD, DIM, Cell, Column, Progress, Sheet, counted, table
from capsula.cli.target import Target, target_settings
from capsula.core.names import printable
from capsula.core.secrets import mask
from capsula.errors import UsageError
from capsula.plugins.remotes import open_remote, urls
from capsula.store.audit import Audit, audit
from capsula.store.census import Tell
from capsula.store.disk import DiskStore
from capsula.store.layout import BLOBS, ENTRIES
from capsula.store.room import Cleared, Wanted, make_room
from capsula.store.sealed import Sealed

if TYPE_CHECKING:
    from capsula.ports import Holdings, Remote

NOT_POSSIBLE = 2
SHOWN = 20
CLEANS_ITSELF = "tells of single results only, and removes by itself what it has no room for"


@dataclass(frozen=True, slots=True)
class Kind:
    """What a store holds of one kind; times in seconds since 1970, 0 where there is none."""

    count: int = 0
    bytes: int = 0
    oldest: float = 0.0
    newest: float = 0.0


def show_stats(given: Sequence[str], sheet: Sheet, *, as_json: bool) -> int:
    told = []
    for url, remote in _opened(given):
        holdings = remote.holdings()
        kinds = None if holdings is None else _usages(holdings)
        told.append(_as_json(url, kinds))
        if not as_json:
            print(sheet.paint("Store", BOLD) + f"  {printable(mask(url))}")
            for line in _told(kinds, sheet):
                print(line)
    if as_json:
        print(json.dumps({"stores": told}, indent=2))
    return 0


def collect(given: Sequence[str], wanted: Wanted) -> int:
    swept = 0
    for url, remote in _opened(given, writes=True):
        holdings = remote.holdings()
        name = printable(mask(url))
        if holdings is None:
            print(f"{name} {CLEANS_ITSELF}: there is nothing to do here.")
            continue
        watched = _Watched()
        try:
            cleared = make_room(remote, holdings, wanted, watched.tell)
        finally:
            watched.end()
        swept += 1
        for line in _room_lines(name, cleared):
            print(line)
    return 0 if swept else NOT_POSSIBLE


def verify(target: Target, given: Sequence[str], sheet: Sheet, *, share: float, repair: bool) -> int:
    near = DiskStore(target.root, now=time.time)
    is_well = True
    for url, remote in _opened(given, writes=repair):
        watched = _Watched()
        try:
            found = audit(remote, near, share=share, repair=repair, tell=watched.tell)
        finally:
            watched.end()
        is_well = is_well and not found.wrong and not found.bad
        for line in _audit_lines(printable(mask(url)), found, sheet, repair=repair):
            print(line)
    return 0 if is_well else 1


# ------------------------------------------------------------------------------------------------ inside


class _Watched:
    """Progress on a terminal."""

    def __init__(self) -> None:
        self._progress = Progress("", 0, sys.stderr)
        self.tell: Tell = self._progress.tell
        self.end = self._progress.end


def _opened(given: Sequence[str], *, writes: bool = False) -> Iterator[tuple[str, Remote]]:
    """The stores at these addresses, or if there are none, the configured ones. One that can't be used is told as such:
    a command that cleans up or verifies hasn't done it then."""
    settings = target_settings(given)
    asked = list(dict.fromkeys(given)) or urls(settings)
    if not asked:
        raise UsageError(
            "no remote store is configured", hint="backend or remote in ~/.capsules.toml, or an address here"
        )
    if writes and "w" not in settings.remote_mode:
        raise UsageError(
            f"remote stores aren't written to here (remote_mode = {settings.remote_mode})",
            hint="CAPSULE_ARGS='--remote_mode rw' says that it is meant this once",
        )
    for url in asked:
        remote = open_remote(url, settings)
        try:
            yield url, Sealed(remote)
        finally:
            remote.close()


def _usages(holdings: Holdings) -> dict[str, Kind]:
    watched = _Watched()
    try:
        return {kind: _usage(holdings, kind, watched.tell) for kind in (ENTRIES, BLOBS)}
    finally:
        watched.end()


def _as_json(url: str, kinds: dict[str, Kind] | None) -> dict[str, object]:
    if kinds is None:
        return {"store": mask(url), "listed": False}
    entries, blobs = kinds[ENTRIES], kinds[BLOBS]
    return {"store": mask(url), "listed": True, "entries": asdict(entries), "blobs": asdict(blobs)}


def _usage(holdings: Holdings, kind: str, tell: Tell) -> Kind:
    count, total, oldest, newest = 0, 0, 0.0, 0.0
    for page in holdings.pages(kind):
        count += len(page)
        total += sum(row[1] for row in page)
        times = [row[2] for row in page]
        oldest = min([*times, *([oldest] if oldest else [])])
        newest = max(newest, *times)
        tell(f"listing {kind}", count, 0)
    return Kind(count, total, oldest, newest)


def _told(kinds: dict[str, Kind] | None, sheet: Sheet) -> Iterator[str]:
    if kinds is None:
        yield f"  It {CLEANS_ITSELF}; how much it holds, only the server knows."
        return
    rows: list[tuple[Cell | str, ...]] = []
    for title, kind in (("results", kinds[ENTRIES]), ("blobs", kinds[BLOBS])):
        span = f"{_day(kind.oldest)} to {_day(kind.newest)}" if kind.count else ""
        rows.append((title, str(kind.count), size(kind.bytes), Cell(span, DIM)))
    together = kinds[ENTRIES].bytes + kinds[BLOBS].bytes
    rows.append(("together", "", size(together), Cell("as it is stored there", DIM)))
    yield from table([Column(), Column(right=True), Column(right=True), Column()], rows, sheet)


def _room_lines(name: str, cleared: Cleared) -> Iterator[str]:
    if cleared.removed_entries or cleared.removed_blobs:
        gone = f"{counted(cleared.removed_entries, 'result')} and {counted(cleared.removed_blobs, 'blob')}"
        yield f"{name}: removed {gone}, {size(cleared.removed_bytes)} of blobs."
        if cleared.damaged:
            yield f"Of these results, {cleared.damaged} could not be used."
    else:
        yield f"{name}: nothing to remove."
    kept = f"{counted(cleared.entries, 'result')} and {counted(cleared.blobs, 'blob')}"
    yield f"Kept {kept}: {size(cleared.bytes)}."
    if cleared.young:
        yield f"Of these blobs, {cleared.young} belong to no result: a day after they came, a later sweep takes them."


def _audit_lines(name: str, found: Audit, sheet: Sheet, *, repair: bool) -> Iterator[str]:
    rows = [
        *[(key, "result: not as it was stored") for key in found.damaged],
        *[(key, "result: something in it is gone") for key in found.incomplete],
        *[(key, "blob: other bytes than were stored") for key in found.bad],
    ]
    for key, what in rows[:SHOWN]:
        yield f"  {key[:12] if sheet.is_terminal else key}  {what}"
    if len(rows) > SHOWN:
        yield f"  and {len(rows) - SHOWN} more"
    checked = f"{counted(found.entries, 'result')} with {counted(found.blobs, 'blob')}"
    if found.reread:
        checked += f", {found.reread} of them read again"
    where = "" if found.lists else " (of the results on this machine; it doesn't list its own)"
    yield f"{name}: {checked}{where}" + (": all as they were stored." if not rows else " looked at.")
    if found.unnamed:
        yield f"{counted(found.unnamed, 'blob')} of no result: capsula cache gc removes them when they are a day old."
    if rows:
        yield f"{len(rows)} bad. Nobody is given them: whoever finds one makes the result again."
    if rows and repair:
        sent = f"sent {counted(found.sent, 'blob')} from this machine"
        yield f"Repaired: {sent}, removed {counted(found.removed, 'result')} that the next run will make again."
    elif rows:
        yield "--repair sends what is here, and removes what can't be used."


def _day(moment: float) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(moment))
