"""The tar file around a bundle: members one after the other, written the same each time, read by nothing but the
manifest.

Python's tarfile makes and takes apart the headers, but what is done by them is decided here: its readers believe an
archive (they would read an extended header of any size into memory, or make what a header asks for), and a bundle is
to be believed in nothing.
"""

from __future__ import annotations

import hashlib
import stat
import tarfile
from collections.abc import Callable, Iterator
from typing import BinaryIO

from capsula.core.names import printable
from capsula.vault.bundle import (
    LARGEST_MANIFEST,
    MANIFEST,
    BundleError,
    Kind,
    Manifest,
    Member,
    Packed,
    dump,
    members,
    parse,
    sealed,
)
from capsula.vault.compression import Sink, damage_told, uncompressed
from capsula.vault.layout import RECORD

_BLOCK = tarfile.BLOCKSIZE
_PIECE = 1 << 20
_RECORD = tarfile.RECORDSIZE
_LARGEST_HEADER = 64 << 10
_TYPES = {
    tarfile.REGTYPE: Kind.FILE, tarfile.AREGTYPE: Kind.FILE, tarfile.LNKTYPE: Kind.COPY,
    tarfile.SYMTYPE: Kind.LINK, tarfile.DIRTYPE: Kind.DIRECTORY,
}  # fmt: skip
_ODD = {
    tarfile.CHRTYPE: "a device", tarfile.BLKTYPE: "a device", tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}  # fmt: skip

Keep = Callable[[Member], Sink | None]


# ------------------------------------------------------------------------------------------------ writing


class Writer:
    """Members in the order of the manifest, which is there first."""

    def __init__(self, out: Sink, manifest: Manifest) -> None:
        self._out = out
        self._written = 0
        content = dump(manifest)
        told = tarfile.TarInfo(MANIFEST)
        told.size, told.mode = len(content), 0o600
        told.mtime = max((_time_of(capsule) for capsule in manifest.capsules), default=0)
        self._put(_bytes_of(told))
        self._put(content)
        self._pad(len(content))

    def add(self, member: Member, pieces: Iterator[bytes]) -> None:
        """`pieces` are as many bytes as the member has."""
        self._put(_bytes_of(_header(member)))
        for piece in pieces:
            self._put(piece)
        self._pad(member.size)

    def end(self) -> None:
        self._put(bytes(2 * _BLOCK))
        self._put(bytes(-self._written % _RECORD))

    def _put(self, content: bytes) -> None:
        self._out.write(content)
        self._written += len(content)

    def _pad(self, size: int) -> None:
        self._put(bytes(-size % _BLOCK))


def _header(member: Member) -> tarfile.TarInfo:
    told = tarfile.TarInfo(member.path)
    told.mtime = _time_of(member.capsule)
    told.size = member.size
    told.linkname = member.target
    is_executable = member.entry is not None and member.entry.mode & 0o100
    if member.kind is Kind.DIRECTORY:
        told.type, told.mode = tarfile.DIRTYPE, 0o700
    elif member.kind is Kind.LINK:
        told.type, told.mode = tarfile.SYMTYPE, 0o777
    else:
        told.type = tarfile.REGTYPE if member.kind is Kind.FILE else tarfile.LNKTYPE
        told.mode = 0o500 if is_executable else 0o400
    return told


def _time_of(capsule: Packed) -> int:
    """Its id begins with it. The times of files are not the same in every vault."""
    return int(capsule.id[:12], 16) // 1000


def _bytes_of(told: tarfile.TarInfo) -> bytes:
    return told.tobuf(tarfile.PAX_FORMAT, "utf-8", "strict")


# ------------------------------------------------------------------------------------------------ reading


class Reader:
    """A bundle that is being read. BundleError as soon as a byte isn't what the manifest says."""

    def __init__(self, source: BinaryIO) -> None:
        with damage_told():
            self._source = uncompressed(source)
            self._place = "its manifest"
            first = self._first()
            if first.size > LARGEST_MANIFEST:
                raise BundleError("its manifest is too large")
            content = b"".join(self._pieces(first.size))
        self.manifest: Manifest = parse(content)

    def _first(self) -> tarfile.TarInfo:
        block = self._source.read(_BLOCK)
        while 0 < len(block) < _BLOCK and (more := self._source.read(_BLOCK - len(block))):
            block += more
        if block[: len(MANIFEST) + 1] != MANIFEST.encode() + b"\0":
            raise BundleError("it is no bundle of capsules", hint="capsula export makes one")
        if len(block) < _BLOCK:
            raise EOFError
        found = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
        if _TYPES.get(found.type) is not Kind.FILE:
            raise BundleError("it is no bundle of capsules", hint="capsula export makes one")
        return found

    def read(self, keep: Keep, each: Callable[[int], None]) -> None:
        """All members, verified, and each capsule.json held against the manifest. `keep` is asked of each member, and
        says where to write the content of a FILE (None: nowhere). `each` counts bytes."""
        expected = list(members(self.manifest))
        known = {member.path for member in expected}
        seen: set[str] = set()
        with damage_told():
            for member in expected:
                self._place = printable(member.path)
                found = self._header()
                if found is None:
                    raise BundleError(f"it ends before {printable(member.path)}")
                _compare(found, member, known, seen)
                seen.add(member.path)
                self._member(member, keep(member), each)
            self._place = "its end"
            after = self._header()
            if after is not None:
                _refuse(after, known, seen)
            self._end()

    def _member(self, member: Member, out: Sink | None, each: Callable[[int], None]) -> None:
        is_record = member.entry is not None and member.entry.name == RECORD
        try:
            record = self._content(member, out, each, is_record)
        finally:
            if out is not None:
                out.close()
        if is_record:
            # Of one that is a link to another, there is nothing: they can't both be what they say.
            sealed(member.capsule, record)

    def _content(self, member: Member, out: Sink | None, each: Callable[[int], None], held: bool) -> bytes:
        if member.kind is not Kind.FILE:
            return b""
        digest, kept = hashlib.sha256(), b""
        for piece in self._pieces(member.size):
            digest.update(piece)
            if out is not None:
                out.write(piece)
            if held:
                kept += piece
            each(len(piece))
        if member.entry is None or digest.hexdigest() != member.entry.sha256:
            raise BundleError(f"{printable(member.path)} in it has other bytes than its manifest says")
        return kept

    def _header(self) -> tarfile.TarInfo | None:
        """None at the end. An extended header is read with the one that it belongs to."""
        more: dict[str, str] = {}
        while True:
            block = self._exactly(_BLOCK)
            if not any(block):
                return None
            found = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            if found.type != tarfile.XHDTYPE:
                break
            if more or found.size > _LARGEST_HEADER:
                raise BundleError(f"the header of {self._place} is too large")
            more = _extended(b"".join(self._pieces(found.size)))
        found.name = more.get("path", found.name)
        found.linkname = more.get("linkpath", found.linkname)
        if "size" in more:
            if not more["size"].isdecimal() or len(more["size"]) > 19:
                raise BundleError(f"{printable(found.name)} in it has no size")
            found.size = int(more["size"])
        return found

    def _pieces(self, size: int) -> Iterator[bytes]:
        rest = size
        while rest:
            piece = self._source.read(min(rest, _PIECE))
            if not piece:
                raise EOFError
            rest -= len(piece)
            yield piece
        if any(self._exactly(-size % _BLOCK)):
            raise BundleError(f"{self._place} in it is damaged")

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            more = self._source.read(size - len(found))
            if not more:
                raise EOFError
            found += more
        return found

    def _end(self) -> None:
        """Nothing but zeros, and not many; with the last of them the compression has compared its own checksum."""
        size = 0
        while piece := self._source.read(_RECORD):
            size += len(piece)
            if size > _PIECE or any(piece):
                raise BundleError("something follows after its end")


def _extended(content: bytes) -> dict[str, str]:
    """Lines of `length key=value`; the length counts all of the line."""
    found = {}
    while content:
        length, space, _ = content.partition(b" ")
        if not space or not length.isdigit() or len(length) > 6 or not 3 < int(length) <= len(content):
            raise BundleError("it has a damaged header")
        line, content = content[len(length) + 1 : int(length) - 1], content[int(length) :]
        name, _, value = line.partition(b"=")
        found[name.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
    return found


def _compare(found: tarfile.TarInfo, member: Member, known: set[str], seen: set[str]) -> None:
    if found.name.rstrip("/") != member.path:
        _refuse(found, known, seen)
    _refuse_odd(found)
    shown = printable(member.path)
    if _TYPES[found.type] is not member.kind:
        raise BundleError(
            f"{shown} in it is a {_TYPES[found.type].value}, and should be a {member.kind.value}"
        )
    if found.size != member.size:
        raise BundleError(f"{shown} in it has {found.size} bytes, its manifest says {member.size}")
    if member.kind in (Kind.LINK, Kind.COPY) and found.linkname != member.target:
        raise BundleError(f"{shown} in it leads to {printable(found.linkname)}, its manifest says otherwise")


def _refuse(found: tarfile.TarInfo, known: set[str], seen: set[str]) -> None:
    name = found.name.rstrip("/")
    shown = printable(found.name)
    if found.name.startswith("/") or ".." in name.split("/"):
        raise BundleError(f"{shown} in it leads out of it")
    if any(0xDC80 <= ord(character) <= 0xDCFF for character in found.name):
        raise BundleError(f"{shown} in it is no UTF-8")
    _refuse_odd(found)
    if name in seen or name == MANIFEST:
        raise BundleError(f"{shown} is in it twice")
    if name in known:
        raise BundleError(f"{shown} in it isn't in its place")
    raise BundleError(f"{shown} is in it, but not in its manifest")


def _refuse_odd(found: tarfile.TarInfo) -> None:
    shown = printable(found.name)
    if found.type not in _TYPES:
        raise BundleError(f"{shown} in it is {_ODD.get(found.type, 'nothing that belongs into a bundle')}")
    if found.mode & (stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX):
        raise BundleError(f"{shown} in it has the mode {found.mode:o}, which none has in a capsule")
