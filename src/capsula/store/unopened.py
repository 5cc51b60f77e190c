"""Results as they came from a shared store: the many small files of one in one file, until somebody asks for it here.

    unopened/<hash of the action>   in the form of a pack (core.packs): a list of digests, and the contents

Outputs are put in place out of the memory that they came to. To make a file in the store for each of them as well takes
as long as that, and on most machines of a CI nobody asks for them again.

Who finds a result here opens what it has unopened; then all is as if there had been no such file. Where the disk takes
nothing, it is held in memory. What another result has unopened is looked into before anything is fetched.
"""

from __future__ import annotations

import os

from capsula.core.digest import Digest, sha256
from capsula.core.packs import Cutting, head, lists
from capsula.errors import BlobCorrupt, StoreError
from capsula.store import files
from capsula.store.layout import create_temporary, discard, publish, refusal, unopened_path
from capsula.store.reach import scan_unopened

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from io import FileIO

    from capsula.store.disk import DiskStore

# Of so many it is worth it.
FEWEST = 32
# Two results that share files share many of them, as a rule. So many are looked for, and in so many files, the newest.
_SAMPLE = 8
_NEWEST = 64
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def keep(near: DiskStore, action: Digest, contents: Mapping[str, bytes], now: float) -> None:
    """Contents by their hashes, which they are known to have. StoreError when this disk refuses."""
    rows = sorted(contents.items())
    members = [Digest(name, len(content)) for name, content in rows]
    try:
        fd, path = create_temporary(near.root, 0o400, now)
        try:
            try:
                files.write_all(fd, b"".join((head(members), *[content for _, content in rows])))
            finally:
                os.close(fd)
            publish(path, unopened_path(near.root, action.hash))
            near.written += sum(digest.size_bytes for digest in members)
        except BaseException:
            discard(path)
            raise
    except OSError as error:
        raise refusal(error, near.root, "write") from error


def open_one(near: DiskStore, name: str) -> None:
    """Put what the result of this action has unopened where all blobs are. What isn't right is as if it weren't there,
    and the file is set aside then."""
    path = unopened_path(near.root, name)
    written = near.written
    try:
        with _reading(path) as file:
            look = os.fstat(file.fileno())
            is_right, is_kept = _put(near, file, look.st_size)
            # The result may have come anew meanwhile.
            if not is_right:
                near.set_aside(path)
            elif is_kept and os.lstat(path).st_ino == look.st_ino:
                os.unlink(path)
    except OSError:
        return  # there is none, or somebody has just opened it
    finally:
        near.written = written  # it was counted when it came


def open_what_has(near: DiskStore, wanted: Sequence[Digest]) -> bool:
    """Open what has some of these. Whether there was such."""
    found = False
    sample = [digest.hash for digest in wanted[:: max(1, len(wanted) // _SAMPLE)]]
    for file in sorted(scan_unopened(near.root), key=lambda file: -file.mtime)[:_NEWEST]:
        try:
            with _reading(file.path) as opened:
                has_some = lists(opened.read, sample)
        except OSError:
            continue
        if has_some:
            open_one(near, file.name)
            found = True
    return found


def open_all(near: DiskStore) -> None:
    for file in scan_unopened(near.root):
        open_one(near, file.name)


def members(path: str) -> dict[str, int] | None:
    """The sizes of what is in such a file, by the hashes. None if not all of it is right; nothing when it is gone."""
    found = {}
    try:
        with _reading(path) as file:
            for digest, content in _members(file, os.fstat(file.fileno()).st_size):
                if sha256(content).hexdigest() != digest.hash:
                    return None
                found[digest.hash] = digest.size_bytes
    except FileNotFoundError:
        return {}
    except (OSError, BlobCorrupt):
        return None
    return found


def _put(near: DiskStore, file: FileIO, size: int) -> tuple[bool, bool]:
    """Whether all of it was right, and whether all that is right is on the disk now."""
    is_right = is_kept = True
    try:
        for digest, content in _members(file, size):
            if sha256(content).hexdigest() != digest.hash:
                is_right = False
            elif near.missing([digest]):
                try:
                    near.keep(digest.hash, content)
                except StoreError:
                    near.hold(digest.hash, content)
                    is_kept = False
    except BlobCorrupt:
        is_right = False
    except StoreError:
        is_kept = False
    return is_right, is_kept


def _reading(path: str) -> FileIO:
    """Whatever was put in its place, nobody waits for it."""
    return open(path, "rb", buffering=0, opener=lambda path, _: os.open(path, _READ))


def _members(file: FileIO, size: int) -> Iterator[tuple[Digest, bytes]]:
    cutting = Cutting(Digest("", size))
    parts: list[bytes | memoryview] = []
    while piece := file.read(1 << 20):
        for digest, part, is_last in cutting.cut(piece):
            parts.append(part)
            if is_last:
                yield digest, b"".join(parts)
                parts.clear()
    cutting.end()
