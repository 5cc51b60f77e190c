"""A bundle: capsules in one tar file. Here is its table of contents, what may be in it, and in which order.

The first member, `capsula-bundle.json`, is the manifest: each capsule with its files, their sizes and digests. After it
come exactly the members that follow from it (`members`), capsules in the order of their ids, files in that of their
names. A file with the same bytes as one before is a hard link to it. So whoever has tar can unpack a bundle, and who
reads one with the manifest in hand knows of every byte what it has to be.

Bundles come from others. Whatever a manifest says is checked here, before anything is read by it: names that lead out
of their capsule, that are there twice or below a file, links that lead elsewhere, permissions that nobody needs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from capsula.core.names import printable
from capsula.errors import CapsulaError, UsageError
from capsula.vault import remarks
from capsula.vault.layout import FORMAT as FORMAT_OF_RECORD
from capsula.vault.layout import RECORD
from capsula.vault.remarks import Remarks

FORMAT = 1
MANIFEST = "capsula-bundle.json"
# Of a manifest, which is held in memory: some 150,000 files.
LARGEST_MANIFEST = 32 << 20
LARGEST_RECORD = 16 << 20
_LONGEST_NAME, _LONGEST_PATH, _DEEPEST = 255, 4000, 200
_ENDED = ("finished", "failed", "interrupted")
_ID = re.compile(r"[0-9a-f]{18}", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MODE = re.compile(r"[0-7]{1,4}", re.ASCII)


class BundleError(CapsulaError):
    """A bundle isn't what it should be, or a capsule can't be in one."""


class Kind(Enum):
    FILE = "file"
    LINK = "link"
    DIRECTORY = "directory"
    COPY = "hard link"


@dataclass(frozen=True, slots=True)
class Entry:
    """One file, link or empty directory of a capsule. `name` and `target` are texts as core.names makes them."""

    name: str
    kind: Kind
    size: int = 0
    sha256: str = ""
    mode: int = 0o644
    target: str = ""

    @property
    def content(self) -> tuple[str, bool]:
        """What is equal for files that can be one."""
        return (self.sha256, bool(self.mode & 0o100))

    @property
    def leads_out(self) -> bool:
        """Whether the link may end somewhere else than in its capsule. Dots are good only in front, where the
        directories that they climb are known to be some; behind a name, which may be a link itself, nobody knows."""
        parts = self.target.split("/")
        climbs = 0
        while climbs < len(parts) and parts[climbs] in ("..", "."):
            climbs += 1
        if self.kind is not Kind.LINK:
            return False
        return (
            self.target.startswith("/")
            or parts[:climbs].count("..") > self.name.count("/")
            or ".." in parts[climbs:]
        )


@dataclass(frozen=True, slots=True)
class Packed:
    """One capsule: the first of its entries is capsule.json."""

    name: str
    id: str
    entries: tuple[Entry, ...]
    remarks: Remarks = remarks.NONE

    @property
    def record(self) -> Entry:
        return self.entries[0]


@dataclass(frozen=True, slots=True)
class Manifest:
    """By ascending id."""

    capsules: tuple[Packed, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """What has to come next in the archive. `path` is the name in it; of a COPY `target` is the path of the file that
    has its bytes. The directory of a capsule itself has no entry."""

    path: str
    kind: Kind
    capsule: Packed
    entry: Entry | None = None
    target: str = ""

    @property
    def size(self) -> int:
        return self.entry.size if self.entry is not None and self.kind is Kind.FILE else 0


def members(manifest: Manifest) -> Iterator[Member]:
    """All that follows the manifest."""
    first: dict[tuple[str, bool], str] = {}
    for capsule in manifest.capsules:
        yield Member(capsule.name, Kind.DIRECTORY, capsule)
        for entry in capsule.entries:
            path = f"{capsule.name}/{entry.name}"
            if entry.kind is Kind.FILE and first.setdefault(entry.content, path) != path:
                yield Member(path, Kind.COPY, capsule, entry, first[entry.content])
            else:
                yield Member(path, entry.kind, capsule, entry, entry.target)


def dump(manifest: Manifest) -> bytes:
    """The same bytes for the same capsules. BundleError for more than a reader would hold in memory."""
    capsules = [
        {
            "name": capsule.name,
            "id": capsule.id,
            **({"tags": list(capsule.remarks.tags)} if capsule.remarks.tags else {}),
            **({"note": capsule.remarks.note} if capsule.remarks.note else {}),
            "files": [_row(entry) for entry in capsule.entries],
        }
        for capsule in manifest.capsules
    ]
    value = {"capsula-bundle": FORMAT, "sha256": _checksum(capsules), "capsules": capsules}
    content = json.dumps(value, indent=1).encode("ascii") + b"\n"
    if len(content) > LARGEST_MANIFEST:
        raise BundleError(
            "these are too many files for one bundle", hint="export some of the capsules at a time"
        )
    return content


def parse(content: bytes) -> Manifest:
    """BundleError for what isn't a manifest, or speaks of what must not be in a bundle."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise BundleError("its manifest can't be read") from None
    if not isinstance(value, dict) or "capsula-bundle" not in value:
        raise BundleError("its manifest isn't one")
    if value["capsula-bundle"] != FORMAT:
        raise BundleError(
            f"it has the format {printable(str(value['capsula-bundle']))}, which this capsula doesn't know",
            hint="a newer capsula reads it",
        )
    rows = _list(value, "capsules")
    if value.get("sha256") != _checksum(rows):
        raise BundleError("its manifest is damaged")
    capsules = tuple(_capsule(row) for row in rows)
    for told, values in (("id", [each.id for each in capsules]), ("name", [each.name for each in capsules])):
        if len(set(values)) < len(values):
            raise BundleError(f"two capsules in it have one {told}")
    return Manifest(tuple(sorted(capsules, key=lambda each: each.id)))


def sealed(capsule: Packed, record: bytes) -> None:
    """BundleError unless this capsule.json was sealed with these files, under this id."""
    told = seal_of(capsule.name, record)
    if sorted(told, key=_by_name) != sorted(capsule.entries[1:], key=_by_name):
        raise BundleError(f"{printable(capsule.name)} in it has other files than it was sealed with")
    if json.loads(record).get("id") != capsule.id:
        raise BundleError(f"{printable(capsule.name)} in it has another id than its manifest says")


def seal_of(capsule: str, record: bytes) -> list[Entry]:
    """What a capsule.json says was sealed. BundleError for one that wasn't."""
    try:
        value = json.loads(record)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict) or not isinstance(value.get("files"), list):
        raise BundleError(f"{printable(capsule)} was never sealed")
    if value.get("format") != FORMAT_OF_RECORD:
        raise BundleError(
            f"{printable(capsule)} has a format that this capsula doesn't know",
            hint="a newer capsula reads it",
        )
    if value.get("status") not in _ENDED:
        raise BundleError(f"{printable(capsule)} doesn't say how it ended")
    return [_entry(row, capsule) for row in value["files"]]


def record_entry(record: bytes) -> Entry:
    return Entry(RECORD, Kind.FILE, len(record), hashlib.sha256(record).hexdigest(), 0o600)


def packed(name: str, identity: str, entries: Iterable[Entry], marks: Remarks) -> Packed:
    """BundleError for names that must not be."""
    if not _is_part(name) or name.startswith(".") or name == MANIFEST:
        raise BundleError(f"{printable(name) or 'nothing'} is no name for a capsule")
    if not _ID.fullmatch(identity):
        raise BundleError(f"{printable(name)} has no id")
    ordered = sorted(entries, key=lambda entry: (entry.name != RECORD, entry.name))
    _check_together(name, ordered)
    return Packed(name, identity, tuple(ordered), marks)


def _capsule(row: object) -> Packed:
    if not isinstance(row, dict):
        raise BundleError("its manifest names something that is no capsule")
    name, identity = _text(row, "name"), _text(row, "id")
    note = row.get("note", "")
    if not isinstance(note, str) or not _is_text(note):
        raise BundleError(f"the note of {printable(name)} in it can't be read")
    try:
        tags = [remarks.tag(str(tag)) for tag in _list(row, "tags")] if "tags" in row else []
    except UsageError as refused:
        raise BundleError(refused.what) from None
    found = packed(
        name,
        identity,
        [_entry(each, name) for each in _list(row, "files")],
        Remarks(note=note).with_tags(tags),
    )
    if found.record.name != RECORD or found.record.kind is not Kind.FILE:
        raise BundleError(f"{printable(name)} in it has no {RECORD}")
    if found.record.size > LARGEST_RECORD:
        raise BundleError(f"{printable(name)}/{RECORD} is too large for one")
    return found


def _entry(row: object, capsule: str) -> Entry:
    if not isinstance(row, dict):
        raise BundleError(f"{printable(capsule)} in it names something that is no file")
    name = _text(row, "name")
    shown = printable(f"{capsule}/{name}")
    parts = name.split("/")
    if name.startswith("/") or ".." in parts:
        raise BundleError(f"{shown} leads out of its capsule")
    is_long = len(name.encode("utf-8", "replace")) > _LONGEST_PATH or len(parts) > _DEEPEST
    if is_long or not all(_is_part(part) for part in parts):
        raise BundleError(f"{shown} is no name for a file")
    if row.get("directory") is True:
        return Entry(name, Kind.DIRECTORY)
    if "link" in row:
        target = _text(row, "link")
        if not _is_text(target) or not 0 < len(target) <= _LONGEST_PATH or "\0" in target:
            raise BundleError(f"{shown} leads to what can't be")
        return Entry(name, Kind.LINK, target=target)
    size, digest, mode = row.get("size"), row.get("sha256"), row.get("mode")
    if type(size) is not int or not 0 <= size < 1 << 63:
        raise BundleError(f"{shown} has no size")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise BundleError(f"{shown} has no digest")
    if not isinstance(mode, str) or not _MODE.fullmatch(mode) or int(mode, 8) > 0o777:
        raise BundleError(f"{shown} has the mode {printable(str(mode))}, which none has in a capsule")
    return Entry(name, Kind.FILE, size, digest, int(mode, 8))


def _check_together(capsule: str, entries: Iterable[Entry]) -> None:
    ends: set[str] = set()
    for entry in entries:
        if entry.name in ends:
            raise BundleError(f"{printable(f'{capsule}/{entry.name}')} is there twice")
        ends.add(entry.name)
    for entry in entries:
        above = entry.name
        while "/" in above:
            above = above.rpartition("/")[0]
            if above in ends:
                raise BundleError(
                    f"{printable(f'{capsule}/{entry.name}')} lies below what is no directory with files"
                )


def _row(entry: Entry) -> dict[str, Any]:
    if entry.kind is Kind.LINK:
        return {"name": entry.name, "link": entry.target}
    if entry.kind is Kind.DIRECTORY:
        return {"name": entry.name, "directory": True}
    return {"name": entry.name, "size": entry.size, "sha256": entry.sha256, "mode": f"{entry.mode:o}"}


def _checksum(rows: object) -> str:
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode("ascii")).hexdigest()


def _by_name(entry: Entry) -> str:
    return entry.name


def _is_part(name: str) -> bool:
    return (
        _is_text(name)
        and 0 < len(name.encode()) <= _LONGEST_NAME
        and name not in (".", "..")
        and "/" not in name
        and "\0" not in name
    )


def _is_text(text: str) -> bool:
    """JSON can hold halves of characters, which no file's name can be made of."""
    return not any(0xD800 <= ord(character) <= 0xDFFF for character in text)


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise BundleError(f"its manifest has a {name} that is no text")
    return value


def _list(row: Mapping[str, Any], name: str) -> list[Any]:
    value = row.get(name)
    if not isinstance(value, list):
        raise BundleError(f"its manifest has no list of {name}")
    return value
