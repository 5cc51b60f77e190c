"""`capsula export` and `capsula import`: capsules out of a vault into one file, and from there into another vault."""

from __future__ import annotations

import errno
import json
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import BinaryIO

from capsula.cli.narrate import size
from capsula.cli.render import DIM, Cell, Column, Progress, Sheet, counted, table
from capsula.config.project import find_project
from capsula.core.names import from_text, printable
from capsula.errors import CapsulaError, UsageError, in_one_line
from capsula.plugins.recorded_run import open_vault
from capsula.vault import arrival, packing
from capsula.vault import record as records
from capsula.vault.archive import Reader
from capsula.vault.arrival import Plan
from capsula.vault.bundle import Manifest, Packed
from capsula.vault.compression import ending
from capsula.vault.lookup import resolve_all
from capsula.vault.record import DAMAGED, Capsule

STREAM = "-"
_DEFAULT = ".tar.gz"


def export(
    directory: str | None, asked: Sequence[str], output: str | None, *, everything: bool, as_json: bool
) -> int:
    if everything == bool(asked):
        raise UsageError(
            "--all is all of them" if everything else "there is no capsule named",
            hint="capsula export ID… [-o FILE], or capsula export --all",
        )
    if output == STREAM and as_json:
        raise UsageError("--json and the bundle can't both go to stdout", hint="-o FILE names a file")
    root = find_project(directory, os.getcwd()).vault
    chosen, code = (resolve_all(root, asked), 0) if asked else _whole(root)
    packed = packing.pack(chosen)
    manifest = packed.manifest
    target = output or _default_name(manifest)
    how = "gz" if target == STREAM else ending(target)
    progress = Progress("exporting", packing.size_of(manifest), sys.stderr)
    try:
        with _standard_output() if target == STREAM else _written(target) as out:
            packing.write(packed, out, how, progress.add)
    finally:
        progress.end()
    _say_what_leads_out(manifest)
    if as_json:
        told = [_told(root, capsule) for capsule in manifest.capsules]
        print(
            json.dumps({"file": os.path.abspath(target), "size": os.path.getsize(target), "capsules": told})
        )
    elif target != STREAM:
        amount = f"{counted(len(manifest.capsules), 'capsule')} ({size(_content(manifest.capsules))})"
        kept = f" in {size(os.path.getsize(target))}" if os.path.isfile(target) else ""
        print(f"{printable(target)}: {amount}{kept}")
    return code


def take_in(
    directory: str | None, files: Sequence[str], sheet: Sheet, *, dry: bool, any_links: bool, as_json: bool
) -> int:
    """1 when one of several files can't be taken in; the others are all the same."""
    root = find_project(directory, os.getcwd()).vault
    failed = 0
    for name in files:
        shown = "stdin" if name == STREAM else name
        try:
            found = _take_in(root, name, dry=dry, any_links=any_links)
        except (CapsulaError, OSError) as error:
            refused = _named(shown, error)
            if len(files) == 1:
                raise refused from None
            print(f"capsula: {in_one_line(refused)}", file=sys.stderr)
            failed = 1
            continue
        _say(root, shown, found, sheet, dry=dry, as_json=as_json)
    return failed


def _take_in(root: str, name: str, *, dry: bool, any_links: bool) -> Plan:
    with _opened(name) as source:
        reader = Reader(source)
        found = arrival.plan(root, reader.manifest)
        outward = arrival.outward(found)
        if outward and not any_links:
            raise CapsulaError(
                f"{printable(outward[0])} in it is a link that leads out of its capsule",
                hint="if you trust who made it: --any-links",
            )
        progress = Progress("checking" if dry else "importing", packing.size_of(reader.manifest), sys.stderr)
        try:
            if dry:
                arrival.check(reader, progress.add)
            else:
                open_vault(root)
                arrival.take_in(root, reader, found, progress.add)
        finally:
            progress.end()
    return found


def _whole(root: str) -> tuple[list[Capsule], int]:
    """All that can be exported, and 1 if one is damaged: that is said, and of one that was never sealed as well."""
    found = records.capsules(root)
    sealed = [capsule for capsule in found if "files" in capsule.record]
    progress = Progress("checking", sum(map(_sealed_size, sealed)), sys.stderr)
    try:
        whole, refused = packing.whole(sealed, progress.add)
    finally:
        progress.end()
    is_damaged = bool(refused)
    for capsule in found:
        if "files" not in capsule.record:
            why = f": {printable(capsule.record['troubles'][0])}" if capsule.status == DAMAGED else ""
            is_damaged = is_damaged or capsule.status == DAMAGED
            print(f"capsula: left out: {printable(capsule.name)} is {capsule.status}{why}", file=sys.stderr)
    for text in refused:
        print(f"capsula: left out: {text}", file=sys.stderr)
    if not whole:
        raise CapsulaError(f"there is no sealed capsule in {printable(root)} that can be exported")
    return whole, int(is_damaged)


def _sealed_size(capsule: Capsule) -> int:
    files = capsule.record["files"]
    rows = files if isinstance(files, list) else []
    sizes = [row.get("size") for row in rows if isinstance(row, dict)]
    return sum(size for size in sizes if isinstance(size, int))


def _default_name(manifest: Manifest) -> str:
    name = from_text(manifest.capsules[0].name) if len(manifest.capsules) == 1 else "capsules"
    if os.path.lexists(name + _DEFAULT):
        raise UsageError(
            f"there is a {printable(name + _DEFAULT)} already", hint="-o FILE names a file, or writes it anew"
        )
    return name + _DEFAULT


def _say_what_leads_out(manifest: Manifest) -> None:
    links = arrival.outward(Plan(manifest.capsules, ()))
    if links:
        more = f" and {len(links) - 1} more" if len(links) > 1 else ""
        print(
            f"capsula: {printable(links[0])}{more} leads out of its capsule: whoever imports it has to ask for"
            " that with --any-links",
            file=sys.stderr,
        )


def _say(root: str, name: str, found: Plan, sheet: Sheet, *, dry: bool, as_json: bool) -> None:
    if as_json:
        told = {
            "file": name,
            "dry_run": dry,
            "new": [_told(root, capsule) for capsule in found.new],
            "there": [_told(root, capsule) for capsule in found.there],
        }
        print(json.dumps(told))
        return
    there = f", {len(found.there)} there already" if found.there else ""
    would = "would be " if dry else ""
    print(f"{printable(name)}: {counted(len(found.new), 'capsule')} {would}imported{there}")
    ways = {capsule.id: "new" for capsule in found.new} | {
        capsule.id: "there already" for capsule in found.there
    }
    rows: list[list[Cell | str]] = [
        [
            Cell(printable(capsule.name)),
            Cell(_moment(capsule), DIM),
            ways[capsule.id],
            counted(len(capsule.entries), "file"),
            size(_content([capsule])),
            printable(", ".join(capsule.remarks.tags)),
        ]
        for capsule in sorted((*found.new, *found.there), key=lambda each: each.id)
    ]
    columns = [Column(), Column(), Column(), Column(right=True), Column(right=True), Column(rest=True)]
    for line in table(columns, rows, sheet):
        print(line.rstrip())


def _told(root: str, capsule: Packed) -> dict[str, object]:
    return {
        "id": capsule.id,
        "name": capsule.name,
        "path": os.path.join(root, from_text(capsule.name)),
        "files": len(capsule.entries),
        "bytes": _content([capsule]),
        "tags": list(capsule.remarks.tags),
        "note": capsule.remarks.note,
    }


def _content(capsules: Sequence[Packed]) -> int:
    return sum(entry.size for capsule in capsules for entry in capsule.entries)


def _moment(capsule: Packed) -> str:
    """The id begins with it."""
    try:
        when = datetime.fromtimestamp(int(capsule.id[:12], 16) / 1000, UTC)
        return when.astimezone().isoformat(sep=" ", timespec="seconds")[:19]
    except (ValueError, OverflowError, OSError):
        return ""


def _named(name: str, error: CapsulaError | OSError) -> CapsulaError:
    if isinstance(error, CapsulaError):
        return CapsulaError(f"{printable(name)}: {error.what}", hint=error.hint)
    return CapsulaError(f"{printable(str(error.filename or name))}: {error.strerror or error}")


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    if name == STREAM:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError(
                "there is no bundle on stdin", hint="ssh host capsula export ID -o - | capsula import -"
            )
        yield sys.stdin.buffer
        return
    with open(name, "rb") as file:
        yield file


@contextmanager
def _standard_output() -> Iterator[BinaryIO]:
    if sys.stdout.isatty():
        raise UsageError("a bundle is nothing for a terminal", hint="-o FILE, or -o - with a pipe behind it")
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()


@contextmanager
def _written(path: str) -> Iterator[BinaryIO]:
    """A file that is there under its name when all of it is on the disk, and else isn't. What is no file (a pipe, a
    device) is written to as it stands."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    if stat.S_ISDIR(mode):
        raise UsageError(f"{printable(path)} is a directory", hint="-o names a file")
    if not stat.S_ISREG(mode):
        with open(path, "wb") as file:
            yield file
        return
    path = os.path.realpath(path)
    aside = os.path.join(os.path.dirname(path), f".{os.urandom(6).hex()}.new")
    made, is_named = _made(os.path.dirname(path), aside)
    try:
        with open(made, "wb") as file:
            yield file
            file.flush()
            os.fsync(made)
            if not is_named:
                _name(made, aside)
                is_named = True
        os.replace(aside, path)
    except BaseException:
        if is_named:
            os.unlink(aside)
        raise


def _made(folder: str, aside: str) -> tuple[int, bool]:
    """A new file, and whether it has a name. Where it can, it has none until it is whole: then there is nothing left
    of it when we are killed."""
    flags = os.O_WRONLY | os.O_CLOEXEC
    if hasattr(os, "O_TMPFILE") and os.path.isdir("/proc/self/fd"):
        try:
            return os.open(folder, flags | os.O_TMPFILE, 0o666), False
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
                raise
    return os.open(aside, flags | os.O_CREAT | os.O_EXCL, 0o666), True


def _name(made: int, path: str) -> None:
    # With a directory given, the link in it is followed; by its full name it would be linked itself.
    folder = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(str(made), path, src_dir_fd=folder)
    finally:
        os.close(folder)
