"""`capsula cache`: how much is in the store and what it was good for; make room, check it, empty it, and its trash."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict

from capsula.cli import fleet
from capsula.cli.history import BEGIN, Invocation, Tally, by_capsule, invocations, over_time, tally
from capsula.cli.narrate import duration, size
from capsula.cli.render import (
    BOLD,
    DIM,
    Cell,
    Column,
    Progress,
    Sheet,
    counted,
    meter,
    percent,
    plot,
    table,
)
from capsula.cli.target import Target
from capsula.core.names import printable
from capsula.errors import CapsulaError, UsageError
from capsula.store import trash, upkeep
from capsula.store.layout import GRACE, refusal
from capsula.store.size import take_lock
from capsula.store.sweep import Swept, sweep, sweep_locked

TOP = 8


def show_stats(target: Target, sheet: Sheet, *, as_json: bool) -> int:
    there = target.exists()
    stats = upkeep.stats(target.root)
    found = list(invocations(target.root)) if there else []
    if as_json:
        print(json.dumps(_as_json(target, stats, found), indent=2))
        return 0
    for line in _store_lines(target, stats, sheet):
        print(line)
    print()
    if not found:
        print(f"Nothing has run yet with this store. To begin:\n\n  {BEGIN}")
        return 0
    for line in (*_run_lines(found, sheet), "", *_capsule_lines(found, sheet)):
        print(line)
    course = over_time(found, time.time())
    if course is not None:
        print("\n" + sheet.paint(f"Hit rate by {course.step}", BOLD))
        for line in plot(course.shares, course.first, course.last, sheet):
            print(line)
    return 0


def collect(target: Target, *, max_size: int | None) -> int:
    """`gc`: the sweep that otherwise runs by itself, here and now."""
    limit = target.limit if max_size is None else max_size
    if not target.exists():
        print(f"There is no store at {target.shown} yet, and nothing to sweep.")
        return 0
    swept = _sweep(target, limit)
    if swept.entries_deleted or swept.blobs_deleted:
        gone = f"{counted(swept.entries_deleted, 'result')} and {counted(swept.blobs_deleted, 'blob')}"
        print(f"Removed {gone}: {size(swept.bytes_deleted)} freed.")
        if swept.damaged:
            print(f"Of these results, {swept.damaged} could not be used: something in them was missing.")
        if swept.too_large:
            print(
                f"Of these results, {swept.too_large} could not be kept: each alone is larger than the limit."
            )
    else:
        print("Nothing to remove.")
    print(f"Kept {counted(swept.entries, 'result')} and {counted(swept.blobs, 'blob')}: {size(swept.bytes)}.")
    if 0 < limit < swept.bytes:
        print(f"That is above the limit of {size(limit)}: blobs of the last hour go with a later sweep.")
    return 0


def verify(target: Target, sheet: Sheet) -> int:
    if not target.exists():
        print(f"There is no store at {target.shown} yet, and nothing to verify.")
        return 0
    progress = Progress("verifying", upkeep.stats(target.root).blobs.bytes, sys.stderr)
    _say_if_busy(target)
    try:
        found = upkeep.verify(target.root, progress=progress.add)
    finally:
        progress.end()
    checked = f"{counted(found.blobs, 'blob')} ({size(found.bytes)}) and {counted(found.entries, 'result')}"
    if found.sound:
        print(f"Checked {checked}: all as they were stored.")
        return 0
    aside, removed = ("set aside", "removed") if found.healed else ("left there", "left there")
    rows = [
        *[(name, f"blob: other bytes than were stored; {aside}") for name in found.bad_blobs],
        *[(name, f"result: not as it was stored; {aside}") for name in found.bad_entries],
        *[(name, f"result: something in it is gone; {removed}") for name in found.incomplete],
    ]
    for name, what in rows:
        shown = name[:12] if sheet.is_terminal else name
        print(f"  {shown}  {what}")
    print(f"\n{len(rows)} bad, and nobody will be given them; {checked} are right.")
    if found.healed:
        print("The next run of each capsule concerned makes its result again and stores it.")
    else:
        print("The store can't be written to, so nothing was changed: verify it again as somebody who may.")
    return 1


def clear(target: Target, *, everything: bool, sure: bool) -> int:
    if not target.exists():
        print(f"There is no store at {target.shown} yet, and nothing to clear.")
        return 0
    before = upkeep.stats(target.root)
    what = f"{counted(before.entries.count, 'result')} and {counted(before.blobs.count, 'blob')}"
    question = f"Remove {what} ({size(before.bytes)})"
    if everything:
        yours = (
            f"the {counted(before.trash.count, 'item')} of yours in the trash" if before.trash.count else ""
        )
        question += f", {yours} and the journal" if yours else " and the journal"
    if not sure and not confirm(f"{question} from {target.shown}?"):
        print("Nothing was removed.")
        return 1
    _say_if_busy(target)
    if everything:
        # The journal goes; what it counted stays.
        fleet.as_json(target)
    cleared = upkeep.clear(target.root, empty_trash=everything, journal=everything)
    gone = f"{counted(cleared.entries, 'result')} and {counted(cleared.blobs, 'blob')}"
    print(f"Removed {gone}: {size(cleared.bytes)} freed.")
    if everything:
        print("The trash and the journal are empty too.")
    elif before.trash.count:
        print(
            f"The trash ({counted(before.trash.count, 'item')}) and the journal are kept; --all removes them."
        )
    return 0


# ---------------------------------------------------------------------------------------------------- trash


def list_trash(target: Target, sheet: Sheet, *, as_json: bool) -> int:
    items = trash.items(target.root) if target.exists() else []
    if as_json:
        for item in items:
            print(json.dumps({name: getattr(item, name) for name in trash.Item.__slots__}))
        return 0
    if not items:
        print("The trash is empty.", file=sys.stderr)
        return 0
    columns = [
        Column("id"),
        Column("moved"),
        Column("size", right=True),
        Column("capsule", limit=max(12, (sheet.width or 80) // 6)),
        Column("was at"),
    ]
    rows = [
        [
            Cell(item.id),
            Cell(time.strftime("%Y-%m-%d %H:%M", time.localtime(item.when)), DIM),
            Cell(size(item.size)),
            Cell(printable(item.capsule)),
            Cell(printable(item.path) + ("/" if item.kind == "directory" else "")),
        ]
        for item in items
    ]
    for line in table(columns, rows, sheet):
        print(line)
    if sheet.is_terminal:
        print(sheet.paint("\n  to have one back: capsula cache trash restore ID", DIM))
    return 0


def restore_trash(target: Target, *, asked: str, to: str | None) -> int:
    """The beginning of an id will do if no other begins so."""
    items = trash.items(target.root) if target.exists() else []
    found = [item for item in items if item.id == asked] or [
        item for item in items if asked and item.id.startswith(asked)
    ]
    if len(found) > 1:
        raise UsageError(
            f"{counted(len(found), 'id')} in the trash begin with {printable(asked)}", hint="write more of it"
        )
    if to is not None and os.path.isdir(to):
        name = os.path.basename(found[0].path) if found else ""
        to = os.path.join(to, name)
    # An id that isn't there is refused by the trash itself.
    back = trash.restore(target.root, found[0].id if found else asked, to)
    print(f"Put back {printable(back)}.")
    return 0


def empty_trash(target: Target, *, sure: bool) -> int:
    items = trash.items(target.root) if target.exists() else []
    if items and not sure:
        holds = f"{counted(len(items), 'item')} of yours ({size(sum(item.size for item in items))})"
        if not confirm(f"Delete {holds} for good?"):
            print("Nothing was removed.")
            return 1
    count, freed = trash.empty(target.root, now=time.time()) if target.exists() else (0, 0)
    print(f"Deleted {counted(count, 'item')}: {size(freed)} freed." if count else "The trash is empty.")
    return 0


# ---------------------------------------------------------------------------------------------------- inside


def _store_lines(target: Target, stats: upkeep.Stats, sheet: Sheet) -> Iterator[str]:
    yield sheet.paint("Store", BOLD) + f"  {target.shown}" + ("" if target.exists() else " (not there yet)")
    limit = "without a limit"
    if target.limit:
        share = stats.bytes / target.limit
        limit = f"of {size(target.limit)}  {meter(share, sheet)} {percent(share)}"
    counts = (
        ("results", stats.entries, ""),
        ("blobs", stats.blobs, ""),
        ("records", stats.records, "what makes hits quick and misses explained"),
        ("temporary", stats.temporary, "being written"),
        ("quarantine", stats.quarantine, "damaged, set aside"),
        ("trash", stats.trash, "files of yours: capsula cache trash"),
    )
    rows: list[tuple[Cell | str, ...]] = [
        (name, str(usage.count), size(usage.bytes), Cell(note, DIM)) for name, usage, note in counts
    ]
    rows.insert(2, ("together", "", size(stats.bytes), limit))
    yield from table([Column(), Column(right=True), Column(right=True), Column()], rows, sheet)


def _run_lines(found: list[Invocation], sheet: Sheet) -> Iterator[str]:
    total = tally(found)
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(min(one.time for one in found)))
    yield sheet.paint("Runs", BOLD) + f"  since {since}"
    kinds = [f"{counted(total.hits, 'hit')}, {total.misses} {'miss' if total.misses == 1 else 'misses'}"]
    kinds += [counted(total.placebos, "placebo")] if total.placebos else []
    kinds += [f"{total.uncached} uncached"]
    rate = total.hit_rate
    rows = [
        ("runs", str(total.runs), ", ".join(kinds)),
        ("hit rate", _rate(rate), meter(rate, sheet) if rate is not None else ""),
        ("time saved", duration(total.seconds_saved), ""),
        ("time run", duration(total.seconds_run), ""),
        ("restored", size(total.bytes_restored), ""),
    ]
    yield from table([Column(), Column(right=True), Column()], rows, sheet)


def _capsule_lines(found: list[Invocation], sheet: Sheet) -> Iterator[str]:
    capsules = by_capsule(found)
    more = f", the first {TOP} of {len(capsules)}" if len(capsules) > TOP else ""
    yield sheet.paint("Capsules by time saved", BOLD) + more
    columns = [
        Column("capsule", limit=max(12, (sheet.width or 80) // 2)),
        Column("runs", right=True),
        Column("hit rate", right=True),
        Column("saved", right=True),
    ]
    rows = [
        (printable(name), str(one.runs), _rate(one.hit_rate), duration(one.seconds_saved))
        for name, one in capsules[:TOP]
    ]
    yield from table(columns, rows, sheet)


def _rate(share: float | None) -> str:
    return "-" if share is None else percent(share)


def _as_json(target: Target, stats: upkeep.Stats, found: list[Invocation]) -> dict[str, object]:
    return {
        "store": target.root,
        "limit": target.limit,
        "bytes": stats.bytes,
        **asdict(stats),
        "journal": {
            "since": min((one.time for one in found), default=None),
            **_tally_as_json(tally(found)),
            "capsules": [{"id": name, **_tally_as_json(one)} for name, one in by_capsule(found)],
        },
        "totals": fleet.as_json(target),
    }


def _tally_as_json(total: Tally) -> dict[str, object]:
    return {
        "runs": total.runs,
        "hits": total.hits,
        "misses": total.misses,
        "placebos": total.placebos,
        "uncached": total.uncached,
        "hit_rate": total.hit_rate,
        "seconds_run": round(total.seconds_run, 3),
        "seconds_saved": round(total.seconds_saved, 3),
        "bytes_restored": total.bytes_restored,
    }


def _sweep(target: Target, limit: int) -> Swept:
    swept = sweep(target.root, limit)
    if swept is not None:
        return swept
    _say_busy()
    try:
        lock = take_lock(target.root, wait=True)
        assert lock is not None
        try:
            return sweep_locked(target.root, limit, time.time(), GRACE)
        finally:
            os.close(lock)
    except OSError as error:
        raise refusal(error, target.root, "write") from error


def _say_if_busy(target: Target) -> None:
    """What comes next waits for a sweep that is at work; people shall know for what."""
    try:
        lock = take_lock(target.root)
    except OSError:
        return  # what comes next says what it can't do
    if lock is None:
        _say_busy()
    else:
        os.close(lock)


def _say_busy() -> None:
    print("waiting for another sweep of this store to end", file=sys.stderr, flush=True)


def confirm(question: str) -> bool:
    """Asks on a terminal; raises UsageError where nobody can answer."""
    if not (sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "this removes things, and there is nobody to ask", hint="--yes says that it is meant"
        )
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    try:
        return input().strip().lower() in ("y", "yes")
    except EOFError as error:
        raise CapsulaError("there was no answer, so nothing was removed") from error
