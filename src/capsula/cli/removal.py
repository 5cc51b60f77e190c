"""`capsula rm` and `capsula gc`: capsules that nobody needs any more."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from capsula.cli.cache import confirm
from capsula.cli.finding import find_capsules, opened, reading
from capsula.cli.narrate import size
from capsula.cli.render import DIM, Cell, Column, Sheet, counted, table
from capsula.core.names import printable
from capsula.errors import UsageError
from capsula.vault import removal
from capsula.vault.index import Index
from capsula.vault.layout import VaultError
from capsula.vault.record import Capsule
from capsula.vault.removal import Doomed, Rules


def remove(directory: str | None, asked: Sequence[str], *, sure: bool, force: bool) -> int:
    # All are found before the first is removed: the one before the latest is another one afterwards.
    capsules = list({each.path: each for each in find_capsules(directory, asked)}.values())
    for capsule in capsules:
        if capsule.status == "running" and not force:
            raise UsageError(
                f"{printable(capsule.name)} is running",
                hint="--force removes it all the same, with what it records",
            )
    if not sure and not confirm(f"Remove {_named(capsules)} for good?"):
        print("Nothing was removed.")
        return 1
    freed = sum(_remove(capsule) for capsule in capsules)
    for root in dict.fromkeys(os.path.dirname(capsule.path) for capsule in capsules):
        freed += removal.sweep(root, time.time())[1]
    print(f"Removed {counted(len(capsules), 'capsule')}: {size(freed)} freed.")
    return 0


def collect(directory: str | None, rules: Rules, sheet: Sheet, *, dry_run: bool) -> int:
    """1 when something couldn't be removed."""
    with opened(directory) as index:
        found = index.find()
        doomed = removal.choose(found, rules, time.time())
        if dry_run:
            _tell(index, doomed, sheet)
            return 0
        freed, failed = _remove_all(index, doomed)
        left, more = removal.sweep(index.root, time.time())
    freed += more
    gone = [
        counted(count, noun)
        for count, noun in ((len(doomed) - failed, "capsule"), (left, "leftover"))
        if count
    ]
    if gone or freed or failed:
        print(f"Removed {' and '.join(gone) or 'nothing'}: {size(freed)} freed.")
    else:
        print("Nothing to remove.")
    marked = sum(each.remarks.tags != () or each.remarks.note != "" for each in found)
    marked_text = f", {marked} of them with tags or notes" if marked else ""
    print(f"Kept {counted(len(found) - len(doomed) + failed, 'capsule')}{marked_text}.")
    return 1 if failed else 0


def _remove(capsule: Capsule) -> int:
    return removal.remove(os.path.dirname(capsule.path), capsule.path, capsule.id)


def _remove_all(index: Index, doomed: Sequence[Doomed]) -> tuple[int, int]:
    """How many bytes that freed, and how many couldn't be removed."""
    freed = failed = 0
    with reading("removing") as progress:
        for at, each in enumerate(doomed):
            try:
                freed += removal.remove(index.root, each.found.path, each.found.id)
            except VaultError as error:
                print(f"capsula: {error.what}", file=sys.stderr)
                failed += 1
            progress(at + 1, len(doomed))
    return freed, failed


def _tell(index: Index, doomed: Sequence[Doomed], sheet: Sheet) -> None:
    left = removal.leftovers(index.root, time.time())
    total = 0
    rows: list[list[Cell | str]] = []
    for path, why in [
        *((each.found.path, each.why) for each in doomed),
        *((path, "a leftover") for path in left),
    ]:
        try:
            takes = removal.size_of(path)
        except OSError:
            continue
        total += takes
        rows.append([Cell(printable(os.path.basename(path))), size(takes), Cell(why, DIM)])
    for line in table([Column(), Column(right=True), Column()], rows, sheet):
        print(line)
    print(
        f"Would remove {counted(len(rows), 'thing')}: {size(total)} freed." if rows else "Nothing to remove."
    )


def _named(capsules: Sequence[Capsule]) -> str:
    if len(capsules) == 1:
        return printable(capsules[0].name)
    names = ", ".join(printable(each.name) for each in capsules[:3])
    return f"{counted(len(capsules), 'capsule')} ({names}{', …' if len(capsules) > 3 else ''})"
