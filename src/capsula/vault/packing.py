"""Packing: sealed capsules of a vault into a bundle, each byte compared with what was sealed on its way."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from itertools import pairwise
from typing import BinaryIO

from capsula.core.names import from_text, printable, to_text
from capsula.errors import CapsulaError
from capsula.vault import bundle, remarks
from capsula.vault.archive import Writer
from capsula.vault.bundle import BundleError, Kind, Manifest, Member, Packed
from capsula.vault.compression import compressed
from capsula.vault.layout import RECORD
from capsula.vault.record import Capsule

_PIECE = 1 << 20


@dataclass(frozen=True, slots=True)
class Packing:
    """What is to be packed, and where each capsule lies, by its name."""

    manifest: Manifest
    paths: Mapping[str, str]


def pack(capsules: Iterable[Capsule]) -> Packing:
    """Each capsule once. BundleError for one that isn't sealed (it may be running) or can't be in a bundle."""
    found = {
        path: _packed(path, capsule) for capsule in capsules for path in [os.path.realpath(capsule.path)]
    }
    ordered = sorted(found.values(), key=lambda each: each.id)
    for one, other in pairwise(ordered):
        if one.id == other.id:
            raise BundleError(f"{printable(one.name)} and {printable(other.name)} are the same capsule")
    paths = {capsule.name: path for path, capsule in found.items()}
    if len(paths) < len(found):
        raise BundleError("two of these capsules have the same name", hint="export them one by one")
    return Packing(Manifest(tuple(ordered)), paths)


def whole(capsules: Iterable[Capsule], each: Callable[[int], None]) -> tuple[list[Capsule], list[str]]:
    """Those of these sealed capsules that can be in one bundle and are as they were sealed, by their ids; and of the
    others why not. `each` counts the bytes that were read."""
    found: list[Capsule] = []
    refused: list[str] = []
    ids: set[str] = set()
    # The bytes that several have are packed from the first of them, so they are read from that one.
    contents: set[tuple[str, bool]] = set()
    for capsule in sorted(capsules, key=lambda each: each.id):
        try:
            if capsule.id in ids:
                raise BundleError(f"{printable(capsule.name)} has the id of another capsule")
            contents |= _compare(pack([capsule]), contents, each)
        except (CapsulaError, OSError) as error:
            refused.append(
                error.what if isinstance(error, CapsulaError) else f"{printable(capsule.name)}: {error}"
            )
        else:
            ids.add(capsule.id)
            found.append(capsule)
    return found, refused


def _compare(
    packing: Packing, known: Set[tuple[str, bool]], each: Callable[[int], None]
) -> set[tuple[str, bool]]:
    """All contents that it has. BundleError unless those that aren't known are as they were sealed."""
    found = set()
    for member in bundle.members(packing.manifest):
        if member.kind is Kind.FILE and member.entry is not None:
            found.add(member.entry.content)
            if member.entry.content not in known:
                for _ in _read(_place(packing, member), member, each):
                    pass
    return found


def write(packing: Packing, out: BinaryIO, how: str, each: Callable[[int], None]) -> None:
    """The bundle, compressed as asked, into `out`. `each` counts the bytes that were read. BundleError for a file that
    isn't as it was sealed: then what was written is good for nothing."""
    sink = compressed(out, how)
    writer = Writer(sink, packing.manifest)
    for member in bundle.members(packing.manifest):
        pieces: Iterator[bytes] = iter(())
        if member.kind is Kind.FILE and member.entry is not None:
            pieces = _read(_place(packing, member), member, each)
        writer.add(member, pieces)
    writer.end()
    sink.close()


def size_of(manifest: Manifest) -> int:
    """Of the files' content, as far as it is packed."""
    return sum(member.size for member in bundle.members(manifest))


def _packed(path: str, capsule: Capsule) -> Packed:
    name = to_text(os.path.basename(path))
    if "files" not in capsule.record:
        raise BundleError(
            f"{printable(name)} isn't sealed: it is {capsule.status or 'damaged'}",
            hint="it can be exported when it has ended" if capsule.status == "running" else "",
        )
    with open(os.path.join(path, RECORD), "rb") as file:
        if os.fstat(file.fileno()).st_size > bundle.LARGEST_RECORD:
            raise BundleError(f"{printable(name)} has too many files for a bundle")
        record = file.read()
    entries = [bundle.record_entry(record), *bundle.seal_of(name, record)]
    return bundle.packed(name, capsule.id, entries, remarks.read(os.path.dirname(path), capsule.id))


def _place(packing: Packing, member: Member) -> str:
    name = member.entry.name if member.entry is not None else ""
    return os.path.join(packing.paths[member.capsule.name], from_text(name))


def _read(path: str, member: Member, each: Callable[[int], None]) -> Iterator[bytes]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        raise _not_as_sealed(member, error.strerror or str(error)) from None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _not_as_sealed(member, "is no file any more")
        digest, rest = hashlib.sha256(), member.size
        while piece := file.read(min(_PIECE, rest + 1)):
            digest.update(piece)
            rest -= len(piece)
            if rest < 0:
                break
            each(len(piece))
            yield piece
        if rest or member.entry is None or digest.hexdigest() != member.entry.sha256:
            raise _not_as_sealed(member, "other bytes than were sealed")


def _not_as_sealed(member: Member, what: str) -> BundleError:
    return BundleError(
        f"{printable(member.path)}: {what}",
        hint=f"capsula show {member.capsule.id[-6:]} --verify tells all of it",
    )
