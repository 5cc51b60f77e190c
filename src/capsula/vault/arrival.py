"""Arrival: the capsules of a bundle into a vault, to the side first, and in only when all of it is verified.

When every byte has turned out to be what the manifest and the capsule's own seal say, and is on the disk, each capsule
is renamed into the vault. A killed import may have left some of the capsules of a bundle there, each whole; when
it is done again, they are found to be there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from capsula.core.names import from_text, printable
from capsula.vault import incoming, remarks
from capsula.vault.archive import Reader
from capsula.vault.blobs import Blobs, sealed_mode
from capsula.vault.bundle import BundleError, Entry, Kind, Manifest, Member, Packed
from capsula.vault.durability import flush
from capsula.vault.layout import RECORD, TOLD, VaultError
from capsula.vault.record import read_capsule
from capsula.vault.remarks import Remarks


@dataclass(frozen=True, slots=True)
class Plan:
    """`new` are those that come, `there` those that the vault has already."""

    new: tuple[Packed, ...]
    there: tuple[Packed, ...]


def plan(root: str, manifest: Manifest) -> Plan:
    """BundleError when the vault has another capsule in the place of one of them."""
    try:
        names = os.listdir(root)
    except FileNotFoundError:
        names = []
    # A directory's name ends in the last digits of its capsule's id.
    endings: dict[str, list[str]] = {}
    for name in names:
        endings.setdefault(name[-6:], []).append(name)
    new, there = [], []
    for capsule in manifest.capsules:
        path = _place_of(root, capsule, endings.get(capsule.id[-6:], []))
        if path is None:
            new.append(capsule)
        elif _is_same(path, capsule):
            there.append(capsule)
        else:
            raise BundleError(
                f"the vault has another {printable(os.path.basename(path))} than is in it",
                hint="capsula import -C DIR puts it into the vault of another project",
            )
    return Plan(tuple(new), tuple(there))


def check(reader: Reader, each: Callable[[int], None]) -> None:
    """Read all of it, and put nothing anywhere. BundleError as soon as something isn't as it should be."""
    reader.read(lambda _: None, each)


def take_in(root: str, reader: Reader, found: Plan, each: Callable[[int], None]) -> None:
    """The capsules that are new, and tags and notes of all. BundleError, and then there is none of them; OSError or
    VaultError when the vault can't be written to."""
    _refuse_without_room(root, found)
    with incoming.aside(root) as place:
        stage = _Stage(place, found)
        reader.read(stage.keep, each)
        stage.share(Blobs(root))
        for capsule in found.new:
            _put(place, root, capsule)
    for capsule in (*found.new, *found.there):
        if capsule.remarks != remarks.NONE:
            remarks.change(root, capsule.id, partial(_merged, capsule.remarks))


def _merged(theirs: Remarks, ours: Remarks) -> Remarks:
    return ours.merged(theirs)


def outward(found: Plan) -> list[str]:
    """Links of what is new that lead out of their capsule."""
    return [
        f"{capsule.name}/{entry.name}"
        for capsule in found.new
        for entry in capsule.entries
        if entry.leads_out
    ]


class _Stage:
    """The directory to the side, filled member by member. Of a file that is there in several capsules the first member
    has the bytes, even where its own capsule isn't wanted."""

    def __init__(self, place: str, found: Plan) -> None:
        self._place = place
        self._new = {capsule.name for capsule in found.new}
        self._wanted = {entry.content for capsule in found.new for entry in capsule.entries if entry.sha256}
        self._first: dict[tuple[str, bool], str] = {}
        self._files: list[tuple[str, Entry]] = []
        self._made: set[str] = set()

    def keep(self, member: Member) -> BinaryIO | None:
        path = os.path.join(self._place, from_text(member.path))
        is_new = member.capsule.name in self._new
        entry = member.entry
        if member.kind is Kind.FILE and entry is not None and entry.content in self._wanted:
            return self._open(path, entry, is_new=is_new)
        if not is_new:
            return None
        if entry is None or member.kind is Kind.DIRECTORY:
            os.makedirs(path, mode=0o700)
            return None
        self._make_above(path)
        if member.kind is Kind.LINK:
            os.symlink(from_text(member.target), path)
        else:
            _link_or_copy(self._first[entry.content], path, entry)
            self._files.append((path, entry))
        return None

    def share(self, blobs: Blobs) -> None:
        """With the capsules that are there; and all of it is on the disk."""
        for path, entry in self._files:
            if entry.name not in (RECORD, *TOLD):
                blobs.share(path, entry.sha256)
        flush([path for path, _ in self._files])

    def _make_above(self, path: str) -> None:
        folder = os.path.dirname(path)
        if folder not in self._made:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            self._made.add(folder)

    def _open(self, path: str, entry: Entry, *, is_new: bool) -> BinaryIO:
        self._make_above(path)
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, sealed_mode(entry.mode))
        self._first[entry.content] = path
        if is_new:
            self._files.append((path, entry))
        return open(made, "wb")


def _link_or_copy(source: str, target: str, entry: Entry) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without links, or with no more for this file
        shutil.copyfile(source, target)
        os.chmod(target, sealed_mode(entry.mode))


def _put(place: str, root: str, capsule: Packed) -> None:
    name = from_text(capsule.name)
    target = os.path.join(root, name)
    try:
        os.rename(os.path.join(place, name), target)
    except OSError:
        if not _is_same(target, capsule):  # or another import of it was quicker
            raise


def _place_of(root: str, capsule: Packed, names: list[str]) -> str | None:
    """Where the vault has something with its name, or it under another of these names."""
    own = os.path.join(root, from_text(capsule.name))
    if os.path.lexists(own):
        return own
    for name in names:
        try:
            found = read_capsule(os.path.join(root, name))
        except VaultError:
            continue
        if found is not None and found.id == capsule.id:
            return found.path
    return None


def _is_same(path: str, capsule: Packed) -> bool:
    try:
        with open(os.path.join(path, RECORD), "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == capsule.record.sha256
    except OSError:
        return False


def _refuse_without_room(root: str, found: Plan) -> None:
    wanted = {entry.content: entry.size for capsule in found.new for entry in capsule.entries}
    look = os.statvfs(root)
    room, size = look.f_bavail * look.f_frsize, sum(wanted.values())
    if size > room:
        raise BundleError(
            f"what is in it takes {size} bytes, and where {printable(root)} is there are {room}",
            hint="free some space",
        )
