"""How large the store gets: against the bytes of the distinct outputs that were put into it."""

import hashlib
import shutil
from pathlib import Path

from hits import TROUBLE, install, warm, why_not
from measure import talk
from report import Part, mebibytes, ratio, say
from tools import CAPSULE, Options, Place
from workload import CheckFailed

EDITS = 20


def size_on_disk(folder: Path) -> int:
    """Bytes of the blocks that are taken, folders included: small files cost more than their length."""
    return sum(path.lstat().st_blocks * 512 for path in (folder, *folder.rglob("*")))


def length(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def run(options: Options) -> Part:
    part = Part("store", "Size of the store (MiB)", ("what", "length", "on disk"))
    part.notes.append(
        f"The reference work run once and then {EDITS} times more, each time with one input edited, which"
        f" changes one of the 200 outputs: {EDITS + 1} results of 200 files."
    )
    place = Place(options.scratch, options.scratch / "store")
    try:
        install(CAPSULE, options.scratch)
        say(f"  {EDITS + 1} results")
        distinct = fill(place)
    except TROUBLE as error:
        part.notes.append(f"not measured: {why_not(error)}")
        return part
    store = place.base / "cache" / "capsula"
    part.rows.append(("distinct outputs", mebibytes(distinct), "-"))
    part.rows.append(("store", mebibytes(length(store)), mebibytes(size_on_disk(store))))
    part.rows.append(
        ("store by outputs", ratio(length(store) / distinct), ratio(size_on_disk(store) / distinct))
    )
    for folder in sorted(path for path in store.iterdir() if path.is_dir() and length(path)):
        row = (
            f"of it {folder.name}/",
            f"{length(folder) / 2**20:.2f}",
            f"{size_on_disk(folder) / 2**20:.2f}",
        )
        part.rows.append(row)
    part.numbers = {"distinct": distinct, "length": length(store), "on_disk": size_on_disk(store)}
    shutil.rmtree(place.base, ignore_errors=True)
    return part


def fill(place: Place) -> int:
    """Makes the results; the sum of the sizes of the distinct outputs."""
    contestant = warm(CAPSULE, place)
    work = contestant.work
    sizes = {hashlib.sha256(content).digest(): len(content) for content in contestant.expected.values()}
    for edition in range(1, EDITS + 1):
        work.edit_input(edition, edition)
        before = work.times_run()
        talk(contestant.command.argv, contestant.command.cwd, contestant.command.env)
        if work.times_run() != before + 1:
            raise CheckFailed("an edited input was not a miss")
        expected = work.expected()
        work.check_outputs(expected)
        sizes.update({hashlib.sha256(content).digest(): len(content) for content in expected.values()})
    return sum(sizes.values())
